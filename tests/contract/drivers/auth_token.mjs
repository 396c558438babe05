// @neondatabase/serverless without a password: a token or an API key as `authToken`, and row-level security behind it.
// ANN, BOB and LATE are tokens, of which the last has expired; KEY is an API key.

import { neon, neonConfig, NeonDbError } from '@neondatabase/serverless';
import { check, DATABASE_URL, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

const { ANN, BOB, LATE, KEY, ROLE } = process.env;
const asked = [];
neonConfig.fetchEndpoint = (host, port, { jwtAuth }) => {
  asked.push(jwtAuth);
  return `${GATEWAY_URL}/sql`;
};
const url = new URL(DATABASE_URL);
url.username = ROLE;
url.password = '';
const own = 'select owner, body from notes order by id';
const anns = [{ owner: 'ann', body: 'ann 1' }, { owner: 'ann', body: 'ann 2' }];
const bobs = [{ owner: 'bob', body: 'bob 1' }, { owner: 'bob', body: 'bob 2' }];

// ── a token ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const ann = neon(url.href, { authToken: ANN });
await check('a text', anns, () => ann.query(own));
await check('the driver asked for the address of tokens', [true], async () => asked);
await check('a template', [{ user: 'ann' }], () => ann`select auth.user_id() as user where ${1} = 1`);
await check('a function', bobs, () => neon(url.href, { authToken: () => BOB }).query(own));
await check('a promise', bobs, () => neon(url.href, { authToken: async () => BOB }).query(own));
await check('one call\'s own', bobs, () => ann.query(own, [], { authToken: BOB }));
await check('and the next call\'s is what it was', anns, () => ann.query(own));

await check('a function is asked for every call', [anns, bobs, anns], async () => {
  const turns = [ANN, BOB, ANN];
  const sql = neon(url.href, { authToken: () => turns.shift() });
  return [await sql.query(own), await sql.query(own), await sql.query(own)];
});

await check('a transaction', [[{ user: 'bob' }], bobs], () => {
  const sql = neon(url.href, { authToken: BOB });
  return sql.transaction([sql`select auth.user_id() as user`, sql.query(own)]);
});
// The driver takes a transaction's token from neon() alone, whatever its own options say.
await check('a transaction has no token of its own', [anns], () =>
  ann.transaction((sql) => [sql.query(own)], { authToken: BOB }));
await check('all claims', { sub: 'ann', role: 'member' }, async () => {
  const [{ session }] = await ann`select auth.session() as session`;
  return pick(session, 'sub', 'role');
});
await check('a column\'s default is who writes', [{ owner: 'ann' }], async () => {
  const rows = await ann`insert into notes (body) values ('mine') returning owner`;
  await ann`delete from notes where body = 'mine'`;
  return rows;
});
await check('many at once', true, async () => {
  const sql = { ann, bob: neon(url.href, { authToken: BOB }) };
  const names = Array.from({ length: 60 }, (_, number) => (number % 2 ? 'ann' : 'bob'));
  const found = await Promise.all(names.map((name) => sql[name].query(own)));
  return found.every((rows, number) => rows.length === 2 && rows.every((row) => row.owner === names[number]));
});

// ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────

async function refusal(connectionString, authToken) {
  const error = await rejection(neon(connectionString, { authToken }).query('select 1'));
  return { isNeonDbError: error instanceof NeonDbError, ...pick(error, 'code', 'message') };
}

const elsewhere = new URL(url.href);
elsewhere.username = 'postgres';
for (const [name, connectionString, token, message] of [
  ['expired', url.href, LATE, 'JWT token has expired (exp=1)'],
  ['no token', url.href, 'nothing', 'Provided authentication token is not a valid JWT encoding'],
  ['another role', elsewhere.href, ANN, 'jwk not found'],
  ['wrong key', url.href, `${KEY.slice(0, -1)}~`, 'Provided authentication token is not a valid JWT encoding'],
]) {
  const want = { isNeonDbError: true, code: '28000', message };
  await check(`refused: ${name}`, want, () => refusal(connectionString, token));
}
await check('refused: another user\'s row', '42501', async () => {
  return (await rejection(ann`insert into notes (owner, body) values ('bob', 'x')`)).code;
});
await check('refused: neither token nor password',
  'missing authentication credentials: required authorization bearer token in JWT format',
  async () => (await rejection(neon(url.href).query('select 1'))).message);

// ── an API key ───────────────────────────────────────────────────────────────────────────────────────────────────────

await check('an API key', [{ user: ROLE }], () => neon(url.href, { authToken: KEY })`select current_user::text as user`);
await check('an API key in the password\'s place', [{ user: ROLE }], () => {
  const withKey = new URL(url.href);
  withKey.password = KEY;
  return neon(withKey.href)`select current_user::text as user`;
});
await check('a token in the password\'s place', anns, () => {
  const withToken = new URL(url.href);
  withToken.password = ANN;
  return neon(withToken.href).query(own);
});

finished();
