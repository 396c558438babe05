// @neondatabase/serverless over HTTP: values both ways, options, transactions, errors, abort.

import { neon, neonConfig, NeonDbError, Pool, types } from '@neondatabase/serverless';
import { check, DATABASE_URL, eventually, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;
const sql = neon(DATABASE_URL);
const url = new URL(DATABASE_URL);

/** One value as the driver parses it. */
async function value(expression, ...params) {
  const rows = await sql.query(`select ${expression} as v`, params);
  return rows[0].v;
}

// ── values out ───────────────────────────────────────────────────────────────────────────────────────────────────────

const out = [
  ['true', true],
  ['false', false],
  ['null::int', null],
  ['32767::int2', 32767],
  ["'-2147483648'::int4", -2147483648],
  ['9223372036854775807::int8', '9223372036854775807'],
  ['1.5::float4', 1.5],
  ['0.1::float8 + 0.2::float8', 0.30000000000000004],
  ["'NaN'::float8", NaN],
  ["'-Infinity'::float8", -Infinity],
  ['12345678901234567890.123456789::numeric', '12345678901234567890.123456789'],
  ["'NaN'::numeric", 'NaN'],
  ["'12.34'::money", '$12.34'],
  ["'naïve ☃ 🐘'", 'naïve ☃ 🐘'],
  ["''", ''],
  [`E'line\\nbreak\\ttab "quote" \\\\'`, 'line\nbreak\ttab "quote" \\'],
  ["'ab'::char(4)", 'ab  '],
  ["'\\x00ff10'::bytea", Buffer.from([0, 255, 16])],
  ["'d9428888-122b-11e1-b85c-61cd3cbb3210'::uuid", 'd9428888-122b-11e1-b85c-61cd3cbb3210'],
  ["'2024-02-29'::date", new Date(2024, 1, 29)],
  ["'2024-02-29 12:34:56.789'::timestamp", new Date(2024, 1, 29, 12, 34, 56, 789)],
  ["'2024-02-29 12:34:56.789+02'::timestamptz", new Date('2024-02-29T10:34:56.789Z')],
  ["'infinity'::timestamptz", Infinity],
  ["'12:34:56.5'::time", '12:34:56.5'],
  [`'{"b": [1, null], "a": "é"}'::json`, { b: [1, null], a: 'é' }],
  [`'{"b": [1, null], "a": "é"}'::jsonb`, { a: 'é', b: [1, null] }],
  ["'null'::jsonb", null],
  ["'{1,NULL,3}'::int4[]", [1, null, 3]],
  ["'{}'::int4[]", []],
  ["'{{1,2},{3,4}}'::int4[]", [[1, 2], [3, 4]]],
  ["'{9007199254740993}'::int8[]", ['9007199254740993']],
  ["'{t,f,NULL}'::bool[]", [true, false, null]],
  [`array['a,b', 'c"d', 'e\\f', null, 'NULL', '']::text[]`, ['a,b', 'c"d', 'e\\f', null, 'NULL', '']],
  ["'{1.10,2.20}'::numeric[]", [1.1, 2.2]],
  ["array['\\xdead','\\x00']::bytea[]", [Buffer.from([0xde, 0xad]), Buffer.from([0])]],
  ["'(1.5,-2)'::point", { x: 1.5, y: -2 }],
  ["'<(1,2),3>'::circle", { x: 1, y: 2, radius: 3 }],
  ["'[1,5)'::int4range", '[1,5)'],
  ["'{[1,2),[3,4)}'::int4multirange", '{[1,2),[3,4)}'],
  ["row(1, 'a b', null)", '(1,"a b",)'],
  ["'192.168.0.1/24'::inet", '192.168.0.1/24'],
  ["'integer'::regtype", 'integer'],
  ["B'1010'", '1010'],
  ["'a:1 b:2'::tsvector", "'a':1 'b':2"],
  ['pg_sleep(0)', ''],
];
for (const [expression, want] of out) await check(`out: ${expression}`, want, () => value(expression));

await check('out: interval', { days: 2, hours: 3, milliseconds: 500, minutes: 4, seconds: 5, years: 1 }, async () => ({
  ...(await value("'1 year 2 days 3:04:05.5'::interval")),
}));

// ── values in ────────────────────────────────────────────────────────────────────────────────────────────────────────

const back = [
  ['a number', '$1::int', 42, 42],
  ['a fraction', '$1::float8', 0.1, 0.1],
  ['a bigint', '$1::int8', 9223372036854775807n, '9223372036854775807'],
  ['a boolean', '$1::bool', true, true],
  ['null', '$1::text', null, null],
  ['undefined', '$1::text', undefined, null],
  ['text with everything', '$1::text', `'"\\\n\t$1; -- /* ☃ 🐘`, `'"\\\n\t$1; -- /* ☃ 🐘`],
  ['an object as jsonb', '$1::jsonb', { z: [1, { y: null }], a: "it's" }, { a: "it's", z: [1, { y: null }] }],
  ['a Date', '$1::timestamptz', new Date('2001-02-03T04:05:06.007Z'), new Date('2001-02-03T04:05:06.007Z')],
  ['an array of numbers', '$1::int[]', [1, null, 3], [1, null, 3]],
  ['an array of text', '$1::text[]', ['a,b', '"', '\\', null, 'NULL', '', 'é'], ['a,b', '"', '\\', null, 'NULL', '', 'é']],
  ['an array of arrays', '$1::text[]', [['a', 'b'], ['c', null]], [['a', 'b'], ['c', null]]],
  ['an empty array', '$1::int[]', [], []],
  ['a Buffer', '$1::bytea', Buffer.from([0, 1, 254, 255]), Buffer.from([0, 1, 254, 255])],
  ['a Uint8Array', '$1::bytea', new Uint8Array([7, 8]), Buffer.from([7, 8])],
  ['a parameter without a type', '$1', 42, '42'],
  ['arithmetic on a parameter', '$1 * 2', 21, 42],
];
for (const [what, expression, given, want] of back) {
  await check(`in: ${what}`, want, () => value(expression, given));
}

await check('in: a long text comes back whole', 300_000, async () => (await value('$1::text', 'é'.repeat(300_000))).length);
await check('in: a hundred parameters', 5050, () =>
  value(Array.from({ length: 100 }, (_, i) => `$${i + 1}::int`).join('+'), ...Array.from({ length: 100 }, (_, i) => i + 1)));

// ── the tagged template and its options ──────────────────────────────────────────────────────────────────────────────

const n = 7;
await check('template: parameters', [{ a: 7, b: 'x' }], () => sql`select ${n}::int as a, ${'x'} as b`);
await check('template: a Buffer is cast', [{ v: Buffer.from('hi') }], () => sql`select ${Buffer.from('hi')} as v`);
const where = sql`where i > ${3}`;
await check('template: fragments', [{ i: 4 }, { i: 5 }], () => sql`select i from generate_series(1, 5) i ${where} order by i`);
await check('template: unsafe text', [{ one: 1 }], () => sql`select 1 as ${sql.unsafe('one')}`);
await check('object rows: the last of two equal names wins', [{ a: 2 }], () => sql`select 1 as a, 2 as a`);
await check('array rows: both of two equal names', [[1, 2]], () => sql.query('select 1 as a, 2 as a', [], { arrayMode: true }));
await check('no rows', [], () => sql`select 1 where false`);
await check('no columns', [{}, {}], () => sql`select from generate_series(1, 2)`);
await check('an empty statement', [], () => sql.query(''));
await check('only a comment', [], () => sql.query('-- nothing'));
await check('a trailing semicolon', [{ a: 1 }], () => sql.query('select 1 as a;'));

await check('options given to neon()', { fields: ['a'], rows: [[1]] }, async () => {
  const result = await neon(DATABASE_URL, { arrayMode: true, fullResults: true })`select 1 as a`;
  return { fields: result.fields.map((field) => field.name), rows: result.rows };
});
await check('a connection given in parts', [{ r: decodeURIComponent(url.username) }], () =>
  neon({
    user: decodeURIComponent(url.username),
    password: async () => decodeURIComponent(url.password),
    host: url.hostname,
    database: url.pathname.slice(1),
  })`select current_user as r`);

// ── fullResults ──────────────────────────────────────────────────────────────────────────────────────────────────────

await sql`create table fruit (id serial primary key, name varchar(40) not null unique, price numeric(8,2) check (price > 0))`;
const [{ oid: fruit }] = await sql`select 'fruit'::regclass::oid as oid`;

await check('full: members and nothing else', ['_parsers', '_types', 'command', 'fields', 'rowAsArray', 'rowCount', 'rows', 'viaNeonFetch'],
  async () => Object.keys(await sql.query('select 1 as a', [], { fullResults: true })).sort());
await check('full: fields of a table are complete', [
  { name: 'id', dataTypeID: 23, tableID: fruit, columnID: 1, dataTypeSize: 4, dataTypeModifier: -1, format: 'text' },
  { name: 'name', dataTypeID: 1043, tableID: fruit, columnID: 2, dataTypeSize: -1, dataTypeModifier: 44, format: 'text' },
  { name: 'cost', dataTypeID: 1700, tableID: fruit, columnID: 3, dataTypeSize: -1, dataTypeModifier: 524294, format: 'text' },
  { name: 'dear', dataTypeID: 16, tableID: 0, columnID: 0, dataTypeSize: 1, dataTypeModifier: -1, format: 'text' },
], async () => (await sql.query('select id, name, price as cost, price > 5 as dear from fruit', [], { fullResults: true })).fields);

const tags = [
  ["insert into fruit (name, price) values ('fig', 1), ('kiwi', 2), ('lime', 3)", 'INSERT', 3],
  ["update fruit set price = price + 1 where name <> 'fig'", 'UPDATE', 2],
  ["merge into fruit f using (values ('fig')) v(name) on f.name = v.name when matched then update set price = 9", 'MERGE', 1],
  ['select * from fruit', 'SELECT', 3],
  ["delete from fruit where name = 'lime'", 'DELETE', 1],
  ['create table fruit_copy as select * from fruit', 'SELECT', 2],
  ['create view cheap as select * from fruit', 'CREATE', null],
  ['drop view cheap', 'DROP', null],
  ['set search_path = public', 'SET', null],
  ['show search_path', 'SHOW', null],
  ['do $$ begin perform 1; end $$', 'DO', null],
  ['explain select 1', 'EXPLAIN', null],
  ['values (1), (2)', 'SELECT', 2],
  ['', '', null],
];
for (const [text, command, rowCount] of tags) {
  await check(`full: tag of ${text || 'nothing'}`, { command, rowCount }, async () =>
    pick(await sql.query(text, [], { fullResults: true }), 'command', 'rowCount'));
}
await check('insert returning', [{ id: 4, name: 'plum' }], () =>
  sql`insert into fruit (name, price) values (${'plum'}, ${4.5}) returning id, name`);

await check('parsers of the caller', ['<2020-01-01>'], async () => {
  const custom = { getTypeParser: (oid, format) => (oid === types.builtins.DATE ? (text) => `<${text}>` : types.getTypeParser(oid, format)) };
  return (await sql.query("select '2020-01-01'::date as d", [], { types: custom })).map((row) => row.d);
});

// ── transactions ─────────────────────────────────────────────────────────────────────────────────────────────────────

await check('transaction: results in order', [[{ a: 1 }], [{ b: 'x' }], []], () =>
  sql.transaction([sql`select ${1}::int as a`, sql`select ${'x'} as b`, sql`select 1 where false`]));
await check('transaction: as a function', [[{ a: 1 }], [{ b: 2 }]], () =>
  sql.transaction((tx) => [tx`select 1 as a`, tx.query('select $1::int as b', [2])]));
await check('transaction: one id for all', true, async () => {
  const [[a], [b]] = await sql.transaction([sql`select pg_current_xact_id()::text as x`, sql`select pg_current_xact_id()::text as x`]);
  return a.x === b.x;
});
await check('transaction: of nothing', [], () => sql.transaction([]));
await check('transaction: array mode and full results', { rows: [[1]], command: 'SELECT', rowCount: 1 }, async () => {
  const [result] = await sql.transaction([sql`select 1 as a`], { arrayMode: true, fullResults: true });
  return pick(result, 'rows', 'command', 'rowCount');
});
await check('transaction: an error undoes all', { code: '23505', rows: [{ n: '0' }] }, async () => {
  const error = await rejection(sql.transaction([
    sql`insert into fruit (name) values ('pear')`,
    sql`insert into fruit (name) values ('pear')`,
  ]));
  return { code: error.code, rows: await sql`select count(*) as n from fruit where name = 'pear'` };
});
for (const [isolationLevel, want] of [
  ['ReadUncommitted', 'read uncommitted'], ['ReadCommitted', 'read committed'],
  ['RepeatableRead', 'repeatable read'], ['Serializable', 'serializable'],
]) {
  await check(`transaction: ${isolationLevel}`, [[{ transaction_isolation: want }]], () =>
    sql.transaction([sql`show transaction_isolation`], { isolationLevel }));
}
await check('transaction: read only', '25006', async () =>
  (await rejection(sql.transaction([sql`insert into fruit (name) values ('nut')`], { readOnly: true }))).code);
await check('transaction: serializable, read only, deferrable', ['serializable', 'on', 'on'], async () => {
  const options = { isolationLevel: 'Serializable', readOnly: true, deferrable: true };
  const rows = await sql.transaction(
    [sql`show transaction_isolation`, sql`show transaction_read_only`, sql`show transaction_deferrable`], options);
  return rows.map(([row]) => Object.values(row)[0]);
});
await check('transaction: false options leave the defaults', ['off', 'off'], async () => {
  const rows = await sql.transaction([sql`show transaction_read_only`, sql`show transaction_deferrable`],
    { readOnly: false, deferrable: false });
  return rows.map(([row]) => Object.values(row)[0]);
});
await check('transaction: a deferred constraint fails at commit', '23503', async () => {
  await sql`create table parent (id int primary key)`;
  await sql`create table child (p int references parent deferrable initially deferred)`;
  return (await rejection(sql.transaction([sql`insert into child values (1)`, sql`select 1`]))).code;
});
await check('transaction: savepoints', [{ name: 'kept' }], async () => {
  await sql.transaction([
    sql`savepoint a`, sql`insert into fruit (name) values ('lost')`, sql`rollback to savepoint a`,
    sql`insert into fruit (name) values ('kept')`,
  ]);
  return sql`select name from fruit where name in ('lost', 'kept')`;
});

// ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

await check('error: a syntax error keeps its position', {
  name: 'NeonDbError', message: 'syntax error at or near "selct"', code: '42601', severity: 'ERROR', position: '1',
  file: 'scan.l', routine: 'scanner_yyerror',
}, async () => pick(await rejection(sql`selct 1`), 'name', 'message', 'code', 'severity', 'position', 'file', 'routine'));
await check('error: is a NeonDbError', true, async () => (await rejection(sql`select 1/0`)) instanceof NeonDbError);
await check('error: a unique violation', {
  code: '23505', schema: 'public', table: 'fruit', constraint: 'fruit_name_key', detail: 'Key (name)=(fig) already exists.',
}, async () => pick(await rejection(sql`insert into fruit (name) values ('fig')`), 'code', 'schema', 'table', 'constraint', 'detail'));
await check('error: a null in a column', { code: '23502', table: 'fruit', column: 'name' }, async () =>
  pick(await rejection(sql`insert into fruit (price) values (1)`), 'code', 'table', 'column'));
await check('error: a check', { code: '23514', constraint: 'fruit_price_check' }, async () =>
  pick(await rejection(sql`insert into fruit (name, price) values ('x', -1)`), 'code', 'constraint'));
await check('error: all that RAISE can say', {
  message: 'über', code: 'AB123', severity: 'ERROR', detail: 'de', hint: 'hi', schema: 's', table: 't', column: 'c',
  dataType: 'd', constraint: 'k', where: 'PL/pgSQL function inline_code_block line 1 at RAISE', line: true,
}, async () => {
  const error = await rejection(sql.query(
    `do $$ begin raise 'über' using errcode = 'AB123', detail = 'de', hint = 'hi', schema = 's', table = 't', column = 'c', ` +
    `datatype = 'd', constraint = 'k'; end $$`));
  return {
    ...pick(error, 'message', 'code', 'severity', 'detail', 'hint', 'schema', 'table', 'column', 'dataType', 'constraint', 'where'),
    line: /^\d+$/.test(error.line),
  };
});
await check('error: inside a function, the inner query and position', { internalPosition: '8', internalQuery: 'select nonsense' },
  async () => pick(await rejection(sql.query(`do $$ begin execute 'select nonsense'; end $$`)), 'internalPosition', 'internalQuery'));
await check('error: a parameter too few', 'bind message supplies 0 parameters', async () =>
  /bind message supplies \d+ parameters/.exec((await rejection(sql.query('select $1::int'))).message)?.[0]);
await check('error: a parameter too many', '08P01', async () => (await rejection(sql.query('select 1', [1]))).code);
await check('error: a parameter of the wrong kind', '22P02', async () => (await rejection(sql`select ${'x'}::int`)).code);
await check('error: two statements', '42601', async () => (await rejection(sql.query('select 1; select 2'))).code);
await check('error: a wrong password', { name: 'NeonDbError', code: '28P01', severity: 'FATAL' }, async () => {
  const wrong = new URL(DATABASE_URL);
  wrong.password = 'not-it';
  const error = await rejection(neon(wrong.href)`select 1`);
  if (!/password authentication failed for user/.test(error.message)) return error;
  return pick(error, 'name', 'code', 'severity');
});
await check('error: an unknown database', '3D000', async () => {
  const wrong = new URL(DATABASE_URL);
  wrong.pathname = '/there-is-no-such-database';
  return (await rejection(neon(wrong.href)`select 1`)).code;
});
await check('error: a gateway that is not there', { name: 'NeonDbError', connecting: true, caused: true }, async () => {
  neonConfig.fetchEndpoint = 'http://127.0.0.1:1/sql';
  try {
    const error = await rejection(sql`select 1`);
    return { name: error.name, connecting: /^Error connecting to database/.test(error.message), caused: error.sourceError !== undefined };
  } finally {
    neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;
  }
});
await check('after an error the next statement works', [{ a: 1 }], () => sql`select 1 as a`);

// ── abort ────────────────────────────────────────────────────────────────────────────────────────────────────────────

const running = () => sql`select count(*)::int as n from pg_stat_activity where query like '%aborted by the test%'
  and pid <> pg_backend_pid() and state = 'active'`;

await check('abort: the statement ends and its insert is not there', { name: 'NeonDbError', was: [{ n: 1 }], is: [{ n: 0 }], rows: [] }, async () => {
  const controller = new AbortController();
  const statement = sql.query(
    "insert into fruit (name) select 'aborted by the test' from pg_sleep(30)", [], { fetchOptions: { signal: controller.signal } });
  const failed = rejection(statement);
  const was = await eventually([{ n: 1 }], running);
  controller.abort();
  const { name } = await failed;
  const is = await eventually([{ n: 0 }], running);
  return { name, was, is, rows: await sql`select name from fruit where name = 'aborted by the test'` };
});
await check('abort: a transaction leaves nothing', { is: [{ n: 0 }], rows: [] }, async () => {
  const controller = new AbortController();
  const failed = rejection(sql.transaction([
    sql`insert into fruit (name) values ('half')`, sql.query("select 'aborted by the test', pg_sleep(30)"),
  ], { fetchOptions: { signal: controller.signal } }));
  await eventually([{ n: 1 }], running);
  controller.abort();
  await failed;
  const is = await eventually([{ n: 0 }], running);
  return { is, rows: await sql`select name from fruit where name = 'half'` };
});
await check('abort: a signal that never fires harms nothing', [{ a: 1 }], () =>
  sql.query('select 1 as a', [], { fetchOptions: { signal: new AbortController().signal } }));

// ── many, large, and Pool.query over HTTP ────────────────────────────────────────────────────────────────────────────

await check('forty at once, each its own answer', Array.from({ length: 40 }, (_, i) => i), async () =>
  (await Promise.all(Array.from({ length: 40 }, (_, i) => sql`select ${i}::int as i, pg_sleep(0.01)`))).map(([row]) => row.i));
await check('ten thousand rows', [10_000, 'row 10000'], async () => {
  const rows = await sql`select 'row ' || i as t from generate_series(1, 10000) i`;
  return [rows.length, rows.at(-1).t];
});
await check('more than the limit is a 507', true, async () => {
  const error = await rejection(sql`select repeat('x', 1000) from generate_series(1, 20000)`);
  return error.message.startsWith('Server error (HTTP status 507)');
});
await check('Pool.query over HTTP, its port and parameters lost', { rows: [{ a: 5 }], rowCount: 1 }, async () => {
  neonConfig.poolQueryViaFetch = true;
  const pool = new Pool({ connectionString: DATABASE_URL });
  const result = await pool.query('select $1::int as a', [5]);
  neonConfig.poolQueryViaFetch = false;
  return pick(result, 'rows', 'rowCount');
});

finished();
