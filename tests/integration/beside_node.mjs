// The calls that the README and CONFIG of @neondatabase/serverless show, one result a line. The same calls in Python are
// in test_client_beside_node.py, which runs this and compares.

import { neon, neonConfig, types } from '@neondatabase/serverless';

neonConfig.fetchEndpoint = `${process.env.GATEWAY_URL}/sql`;
const url = process.env.DATABASE_URL;
const sql = neon(url);
const postId = 2;

/** Values as both languages can say them. */
function plain(value) {
  if (value === null || value === undefined) return null;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return String(value);
}

async function show(name, call) {
  console.log(JSON.stringify({ name, value: plain(await call()) }));
}

const full = ({ rows, fields, rowCount, command }) => ({ rows, fields, rowCount, command });

async function failure(call) {
  try {
    await call();
  } catch (error) {
    const { message, code, severity, detail, hint, position, internalPosition, internalQuery, where } = error;
    const { schema, table, column, dataType, constraint, file, line, routine, name } = error;
    return {
      message, code, severity, detail, hint, position, internalPosition, internalQuery, where,
      schema, table, column, dataType, constraint, file, line, routine, name,
    };
  }
  throw new Error('it did not fail');
}

await show('a template', async () => (await sql`SELECT * FROM posts WHERE id = ${postId}`)[0]);
await show('no such row', async () => (await sql`SELECT * FROM posts WHERE id = ${99}`)[0]);
await show('a composed query', () => {
  const whereClause = sql`WHERE id = ${postId}`;
  return sql`SELECT * FROM posts ${whereClause}`;
});
await show('query with placeholders', () => sql.query('SELECT * FROM posts WHERE id = $1', [postId]));
await show('unsafe', () => sql`SELECT * FROM ${sql.unsafe('posts')} WHERE id = ${postId}`);
await show('arrayMode of the client', () => neon(url, { arrayMode: true })`SELECT * FROM posts ORDER BY id`);
await show('arrayMode of the call', () => sql.query('SELECT * FROM posts WHERE id = $1', [postId], { arrayMode: true }));
await show('fullResults of the client', async () =>
  full(await neon(url, { fullResults: true })`SELECT * FROM posts WHERE id = ${postId}`));
await show('fullResults of the call', async () =>
  full(await sql.query('SELECT * FROM posts WHERE id = $1', [postId], { fullResults: true })));
await show('fullResults with arrayMode', async () =>
  full(await sql.query('SELECT 1 AS a, 2 AS a', [], { fullResults: true, arrayMode: true })));
await show('equal names', () => sql`SELECT 1 AS a, 2 AS a`);
await show('types of the caller', () => sql.query('SELECT score, title FROM posts ORDER BY id', [], {
  types: { getTypeParser: (oid, format) => (oid === 1700 ? parseFloat : types.getTypeParser(oid, format)) },
}));
await show('an insert', async () =>
  full(await sql.query('INSERT INTO posts (title, tags, meta) VALUES ($1, $2, $3) RETURNING id, title, tags, meta',
    ["it's \"new\"", ['a', null, 'b,c'], { a: [1, 'x'] }], { fullResults: true })));
await show('an update', async () =>
  full(await sql.query('UPDATE posts SET views = views + 1', [], { fullResults: true })));
await show('a definition', async () => full(await sql.query('CREATE TABLE more (id int)', [], { fullResults: true })));
await show('bytes in a template', () => sql`SELECT ${Buffer.from([0, 255])} AS blob`);
await show('parameters of several kinds', () =>
  sql.query('SELECT $1::text AS t, $2::int AS i, $3::float8 AS f, $4::bool AS b, $5::int AS n, $6::int[] AS l',
    ['ä', 7, 1.5, true, null, [1, 2]]));
await show('a transaction', () => sql.transaction(
  [sql`SELECT * FROM posts ORDER BY posted_at DESC LIMIT ${1}`, sql`SELECT * FROM tags`],
  { isolationLevel: 'RepeatableRead', readOnly: true },
));
await show('a transaction as a function', () => sql.transaction(
  (txn) => [txn`SELECT * FROM authors`, txn`SELECT * FROM tags`]));
await show('a transaction with arrayMode', () => sql.transaction([sql`SELECT * FROM tags`], { arrayMode: true }));
await show('an empty transaction', () => sql.transaction([]));
await show('options of a transaction', () => sql.transaction(
  [sql`SHOW transaction_isolation`, sql`SHOW transaction_read_only`, sql`SHOW transaction_deferrable`],
  { isolationLevel: 'Serializable', readOnly: true, deferrable: true },
));
await show('a syntax error', () => failure(() => sql`SELCT 1`));
await show('an unknown column', () => failure(() => sql`SELECT titel FROM posts`));
await show('a key that exists', () => failure(() => sql`INSERT INTO tags (id, name) VALUES (${1}, ${'x'})`));
await show('a missing value', () => failure(() => sql`INSERT INTO tags (id, name) VALUES (${7}, ${null})`));
await show('too few parameters', () => failure(() => sql.query('SELECT $1::int', [])));
await show('an error in a transaction', () => failure(() => sql.transaction(
  [sql`INSERT INTO tags (id, name) VALUES (50, 'gone')`, sql`SELECT 1 / ${0}::int`])));
await show('after it nothing is left', () => sql`SELECT * FROM tags WHERE id = 50`);
await show('a write in a read-only transaction', () => failure(() => sql.transaction(
  [sql`INSERT INTO tags (id, name) VALUES (51, 'no')`], { readOnly: true })));
