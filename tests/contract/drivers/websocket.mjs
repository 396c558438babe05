// @neondatabase/serverless over a WebSocket: Pool and Client in every way that the driver can connect.

import { Client, neonConfig, Pool } from '@neondatabase/serverless';
import Cursor from 'pg-cursor';
import WebSocket from 'ws';
import { check, DATABASE_URL, eventually, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

neonConfig.webSocketConstructor = WebSocket;
neonConfig.wsProxy = () => `${new URL(GATEWAY_URL).host}/v2`;
neonConfig.useSecureWebSocket = GATEWAY_URL.startsWith('https:');

/** A client that is connected while `work` runs. */
async function withClient(work, config = {}) {
  const client = new Client({ connectionString: DATABASE_URL, ...config });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const one = async (client, expression, ...params) => (await client.query(`select ${expression} as v`, params)).rows[0].v;

// ── every way to connect ─────────────────────────────────────────────────────────────────────────────────────────────

for (const pipelineConnect of ['password', false]) {
  for (const coalesceWrites of [true, false]) {
    neonConfig.pipelineConnect = pipelineConnect;
    neonConfig.coalesceWrites = coalesceWrites;
    const way = `pipelineConnect ${pipelineConnect}, coalesceWrites ${coalesceWrites}`;
    const look = (name, want, work) => check(`${way}: ${name}`, want, work);

    await look('simple and extended queries', [1, 3, [{ n: 7, t: 'naïve ☃' }]], () => withClient(async (client) => [
      (await client.query('select 1 as one')).rows[0].one,
      await one(client, '$1::int + $2::int', 1, 2),
      (await client.query({ text: 'select $1::int as n, $2 as t', values: [7, 'naïve ☃'] })).rows,
    ]));
    await look('many queries without waiting', Array.from({ length: 50 }, (_, n) => n), () => withClient((client) =>
      Promise.all(Array.from({ length: 50 }, (_, n) => one(client, '$1::int', n)))));
    await look('connect and end at once', true, () => withClient(() => true));
    await look('named statement, twice and after others', [2, 3, 4], () => withClient(async (client) => {
      const ask = (n) => client.query({ name: 'plus', text: 'select $1::int + 1 as v', values: [n] });
      return [(await ask(1)).rows[0].v, (await ask(2)).rows[0].v, (await Promise.all([ask(3), one(client, '1')]))[0].rows[0].v];
    }));
    await look('an error, and the connection goes on', ['22012', '42P01', 1], () => withClient(async (client) => [
      (await rejection(client.query('select 1/0'))).code,
      (await rejection(client.query('select * from nowhere where a = $1', [1]))).code,
      await one(client, '1'),
    ]));
    await look('wrong password', { code: '28P01', severity: 'FATAL' }, async () => {
      const wrong = new URL(DATABASE_URL);
      wrong.password = 'not-it';
      const client = new Client(wrong.href);
      client.on('error', () => {});
      const error = await rejection((async () => {
        await client.connect();
        await client.query('select 1');
      })());
      return pick(error, 'code', 'severity');
    });
    await look('interactive transaction: rollback and commit', [[], [1]], () => withClient(async (client) => {
      await client.query('create table if not exists ws_t (n int)');
      await client.query('truncate ws_t');
      const rows = async () => (await client.query('select n from ws_t order by n')).rows.map((row) => row.n);
      await client.query('begin');
      await client.query('insert into ws_t values ($1)', [1]);
      await client.query('rollback');
      const before = await rows();
      await client.query('begin');
      await client.query('insert into ws_t values ($1)', [1]);
      await client.query('commit');
      return [before, await rows()];
    }));
    await look('a megabyte each way', [1_000_000, 1_000_000], () => withClient(async (client) => [
      await one(client, 'length($1)', 'x'.repeat(1_000_000)),
      (await one(client, `repeat('x', 1000000)`)).length,
    ]));
  }
}
neonConfig.pipelineConnect = 'password';
neonConfig.coalesceWrites = true;

// ── what node-postgres can do ────────────────────────────────────────────────────────────────────────────────────────

await check('parameters of the URL hold', ['mine', '1234ms', 'pg_catalog'], () => {
  const url = new URL(DATABASE_URL);
  url.searchParams.set('application_name', 'mine');
  url.searchParams.set('statement_timeout', '1234');
  url.searchParams.set('options', '-c search_path=pg_catalog endpoint=ep-some-thing');
  return withClient(async (client) => [
    await one(client, `current_setting('application_name')`),
    await one(client, `current_setting('statement_timeout')`),
    await one(client, `current_setting('search_path')`),
  ], { connectionString: url.href });
});
await check('several statements in one query', [[1], [2, 3]], () => withClient(async (client) =>
  (await client.query('select 1 as n; select generate_series(2, 3) as n')).map(({ rows }) => rows.map((row) => row.n))));
await check('rows as arrays, fields and counts', { rows: [[1, 'x']], names: ['a', 'b'], types: [23, 25], command: 'SELECT', rowCount: 1 },
  () => withClient(async (client) => {
    const { rows, fields, command, rowCount } = await client.query({ text: `select 1 as a, 'x'::text as b`, rowMode: 'array' });
    return { rows, names: fields.map((field) => field.name), types: fields.map((field) => field.dataTypeID), command, rowCount };
  }));
await check('pg-cursor reads in portions', [[1, 2], [3, 4], [5], []], () => withClient(async (client) => {
  const cursor = client.query(new Cursor('select n from generate_series(1, 5) as n where n > $1', [0]));
  const portions = [];
  for (let at = 0; at < 4; at += 1) portions.push((await cursor.read(2)).map((row) => row.n));
  await cursor.close();
  return portions;
}));
await check('notices arrive', ['hello'], () => withClient(async (client) => {
  const heard = [];
  client.on('notice', (notice) => heard.push(notice.message));
  await client.query(`do $$ begin raise notice 'hello'; end $$`);
  return heard;
}));
await check('LISTEN hears what others say', [['talk', 'hello'], ['talk', 'again']], () => withClient((listener) => withClient(async (speaker) => {
  const heard = [];
  listener.on('notification', (notification) => heard.push([notification.channel, notification.payload]));
  await listener.query('listen talk');
  await speaker.query(`notify talk, 'hello'`);
  await speaker.query(`select pg_notify('talk', $1)`, ['again']);
  return eventually([['talk', 'hello'], ['talk', 'again']], async () => [...heard]);
})));
await check('SET and a temporary table last', ['blue', 5], () => withClient(async (client) => {
  await client.query(`set my.colour = 'blue'`);
  await client.query('create temp table mine as select 5 as five');
  return [await one(client, `current_setting('my.colour')`), (await client.query('select five from mine')).rows[0].five];
}));
await check('an error has its fields', { code: '23505', constraint: 'ws_u_pkey', table: 'ws_u', detail: 'Key (id)=(1) already exists.' },
  () => withClient(async (client) => {
    await client.query('create table if not exists ws_u (id int primary key)');
    await client.query('truncate ws_u');
    await client.query('insert into ws_u values (1)');
    return pick(await rejection(client.query('insert into ws_u values (1)')), 'code', 'constraint', 'table', 'detail');
  }));
await check('cancel with the key that was told', '57014', () => withClient(async (client) => {
  const sleeping = rejection(client.query('select pg_sleep(20)'));
  await withClient((other) => eventually(1, async () => Number(await one(other,
    `(select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(20)')`))));
  const socket = new WebSocket(`${GATEWAY_URL.replace('http', 'ws')}/v2`);
  await new Promise((resolve) => socket.on('open', resolve));
  const request = Buffer.alloc(16);
  [16, 80877102, client.processID, client.secretKey].forEach((number, at) => request.writeInt32BE(number, at * 4));
  socket.send(request);
  return (await sleeping).code;
}));

// ── the pool ─────────────────────────────────────────────────────────────────────────────────────────────────────────

await check('Pool: fifty queries over five sockets', 1225, async () => {
  const pool = new Pool({ connectionString: DATABASE_URL, max: 5 });
  const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => pool.query('select $1::int as n', [n])));
  await pool.end();
  return answers.reduce((sum, answer) => sum + answer.rows[0].n, 0);
});
await check('Pool: a hundred transactions of forty clients', 100, async () => {
  const pool = new Pool({ connectionString: DATABASE_URL, max: 40 });
  await pool.query('create table if not exists ws_counter (n int)');
  await pool.query('truncate ws_counter');
  await pool.query('insert into ws_counter values (0)');
  await Promise.all(Array.from({ length: 100 }, async () => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query('update ws_counter set n = n + 1');
      await client.query('commit');
    } finally {
      client.release();
    }
  }));
  const { rows } = await pool.query('select n from ws_counter');
  await pool.end();
  return rows[0].n;
});
await check('Pool: its queries go over HTTP if the driver is told so', [{ n: 1 }], async () => {
  neonConfig.poolQueryViaFetch = true;
  neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;
  const pool = new Pool({ connectionString: DATABASE_URL });
  const { rows } = await pool.query('select 1 as n');
  await pool.end();
  neonConfig.poolQueryViaFetch = false;
  return rows;
});

finished();
