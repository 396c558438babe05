// node-postgres itself through the TCP door, whose pool is smaller than the number of clients: what it can do beyond
// what its WebSocket twin shows.

import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import { check, DATABASE_URL, eventually, finished, pick, rejection } from './checks.mjs';

const { Client, Pool } = pg;

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

await check('simple and extended queries', [1, 3, ['a', null]], () => withClient(async (client) => [
  (await client.query('select 1 as v')).rows[0].v,
  await one(client, '$1::int + $2::int', 1, 2),
  await one(client, '$1::text[]', ['a', null]),
]));
await check('named statements of the same name, each with its own text', [['a1', 'a2'], ['b1', 'b2']], () =>
  Promise.all(['a', 'b'].map((mine) => withClient(async (client) => {
    const ask = async (n) => (await client.query({ name: 'same', text: `select '${mine}' || $1 as v`, values: [n] })).rows[0].v;
    return [await ask('1'), await ask('2')];
  }))));
await check('a hundred clients use a named statement again and again', 100 * 10, async () => {
  const pool = new Pool({ connectionString: DATABASE_URL, max: 100 });
  const clients = await Promise.all(Array.from({ length: 100 }, () => pool.connect()));
  const answers = await Promise.all(clients.map(async (client, number) => {
    let right = 0;
    for (let n = 0; n < 10; n += 1) {
      const { rows } = await client.query({ name: 'mul', text: 'select $1::int * $2::int as v', values: [number, n] });
      right += rows[0].v === number * n ? 1 : 0;
    }
    return right;
  }));
  clients.forEach((client) => client.release());
  await pool.end();
  return answers.reduce((sum, right) => sum + right, 0);
});
await check('a named statement holds through a transaction and after an error', ['22012', 2, 3], () => withClient(async (client) => {
  const ask = (n) => client.query({ name: 'div', text: 'select 6 / $1::int as v', values: [n] });
  await client.query('begin');
  const { code } = await rejection(ask(0));
  await client.query('rollback');
  return [code, (await ask(3)).rows[0].v, (await ask(2)).rows[0].v];
}));
await check('pg-cursor reads in portions, and many cursors at once', Array(20).fill([2, 2, 1, 0]), () =>
  Promise.all(Array.from({ length: 20 }, () => withClient(async (client) => {
    const cursor = client.query(new Cursor('select n from generate_series(1, 5) as n where n > $1', [0]));
    const portions = [];
    for (let at = 0; at < 4; at += 1) portions.push((await cursor.read(2)).length);
    await cursor.close();
    return portions;
  }))));
await check('pg-cursor closed early lets the next query through', 1, () => withClient(async (client) => {
  const cursor = client.query(new Cursor('select n from generate_series(1, 100000) as n'));
  await cursor.read(1);
  await cursor.close();
  return one(client, '1');
}));
await check('pg-copy-streams in and out: a hundred thousand rows', [100_000, 100_000, 'row 100000'], () => withClient(async (client) => {
  await client.query('create table copied (n int, s text)');
  async function* lines() {
    for (let n = 1; n <= 100_000; n += 1) yield `${n}\trow ${n}\n`;
  }
  const into = client.query(copyFrom('copy copied from stdin'));
  await pipeline(Readable.from(lines()), into);
  let lineCount = 0;
  let rest = '';
  for await (const chunk of client.query(copyTo('copy copied to stdout'))) {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop();
    lineCount += parts.length;
  }
  return [into.rowCount, lineCount, await one(client, '(select s from copied where n = 100000)')];
}));
await check('COPY that fails tells why, and the client goes on', ['22P02', 1], () => withClient(async (client) => {
  const error = await rejection(pipeline(Readable.from(['not a number\tx\n']), client.query(copyFrom('copy copied from stdin'))));
  return [error.code, await one(client, '1')];
}));
await check('COPY that the program gives up leaves nothing', 0, () => withClient(async (client) => {
  await client.query('create table given_up (n int)');
  const into = client.query(copyFrom('copy given_up from stdin'));
  into.write('1\n');
  await rejection(new Promise((resolve, reject) => {
    into.on('error', reject);
    into.destroy(new Error('no more'));
  }));
  return Number(await one(client, '(select count(*) from given_up)'));
}));
await check('LISTEN hears each notification once and in order', Array.from({ length: 50 }, (_, n) => `${n}`), () =>
  withClient((listener) => withClient(async (speaker) => {
    const heard = [];
    listener.on('notification', ({ payload }) => heard.push(payload));
    await listener.query('listen talk');
    for (let n = 0; n < 50; n += 1) await speaker.query('select pg_notify($1, $2)', ['talk', `${n}`]);
    await eventually(50, async () => heard.length);
    return heard;
  })));
await check('after UNLISTEN nothing is heard', [], () => withClient((listener) => withClient(async (speaker) => {
  const heard = [];
  listener.on('notification', ({ payload }) => heard.push(payload));
  await listener.query('listen quiet');
  await listener.query('unlisten quiet');
  await speaker.query(`notify quiet, 'x'`);
  await listener.query('select 1');
  return heard;
})));
await check('SET and a temporary table last, for each client its own', Array.from({ length: 3 }, (_, n) => [`${n}`, n]), () =>
  Promise.all(Array.from({ length: 3 }, (_, n) => withClient(async (client) => {
    await client.query(`set my.number = '${n}'`);
    await client.query(`create temp table mine as select ${n} as n`);
    await client.query('select pg_sleep(0.01)');
    return [await one(client, `current_setting('my.number')`), (await client.query('select n from mine')).rows[0].n];
  }))));
await check('start-up parameters hold', ['drivers', '1234ms'], () => withClient(async (client) => [
  await one(client, `current_setting('application_name')`),
  await one(client, `current_setting('statement_timeout')`),
], { application_name: 'drivers', statement_timeout: 1234 }));
await check('query_timeout and a cancelled backend leave a usable pool', [true, 1], async () => {
  const pool = new Pool({ connectionString: DATABASE_URL, max: 2, statement_timeout: 50 });
  const error = await rejection(pool.query('select pg_sleep(5)'));
  const answer = [error.code === '57014', (await pool.query('select 1 as v')).rows[0].v];
  await pool.end();
  return answer;
});
await check('an error has its fields', { code: '23505', constraint: 'node_u_pkey', table: 'node_u' }, () => withClient(async (client) => {
  await client.query('create table node_u (id int primary key)');
  await client.query('insert into node_u values (1)');
  return pick(await rejection(client.query('insert into node_u values ($1)', [1])), 'code', 'constraint', 'table');
}));

finished();
