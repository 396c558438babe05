// drizzle-orm/neon-serverless and Prisma's PrismaNeon over a WebSocket: what HTTP cannot give them, transactions above all.

import { neonConfig, Pool } from '@neondatabase/serverless';
import { PrismaNeon } from '@prisma/adapter-neon';
import { eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/neon-serverless';
import { integer, pgTable, serial, text } from 'drizzle-orm/pg-core';
import WebSocket from 'ws';
import { check, DATABASE_URL, finished, GATEWAY_URL, rejection } from './checks.mjs';

neonConfig.webSocketConstructor = WebSocket;
neonConfig.wsProxy = () => `${new URL(GATEWAY_URL).host}/v2`;
neonConfig.useSecureWebSocket = false;

// ── drizzle ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const pool = new Pool({ connectionString: DATABASE_URL, max: 5 });
const accounts = pgTable('accounts', { id: serial().primaryKey(), owner: text().notNull(), cents: integer().notNull() });
const db = drizzle(pool, { schema: { accounts } });
await db.execute(sql`create table accounts (id serial primary key, owner text not null, cents int not null)`);
const cents = async (executor = db) =>
  Object.fromEntries((await executor.select().from(accounts).orderBy(accounts.owner)).map((row) => [row.owner, row.cents]));

await check('drizzle: insert returning', [{ id: 1, owner: 'ada', cents: 100 }, { id: 2, owner: 'eve', cents: 100 }], () =>
  db.insert(accounts).values([{ owner: 'ada', cents: 100 }, { owner: 'eve', cents: 100 }]).returning());
await check('drizzle: a transaction commits, and reads its own writes', { inside: { ada: 90, eve: 110 }, after: { ada: 90, eve: 110 } }, async () => {
  const inside = await db.transaction(async (tx) => {
    await tx.update(accounts).set({ cents: sql`${accounts.cents} - 10` }).where(eq(accounts.owner, 'ada'));
    await tx.update(accounts).set({ cents: sql`${accounts.cents} + 10` }).where(eq(accounts.owner, 'eve'));
    return cents(tx);
  });
  return { inside, after: await cents() };
});
await check('drizzle: an exception rolls back', { message: 'no', after: { ada: 90, eve: 110 } }, async () => {
  const error = await rejection(db.transaction(async (tx) => {
    await tx.update(accounts).set({ cents: 0 });
    throw new Error('no');
  }));
  return { message: error.message, after: await cents() };
});
await check('drizzle: tx.rollback()', { ada: 90, eve: 110 }, async () => {
  await rejection(db.transaction(async (tx) => {
    await tx.delete(accounts);
    tx.rollback();
  }));
  return cents();
});
await check('drizzle: a nested transaction is a savepoint', { ada: 91, eve: 110 }, () => db.transaction(async (tx) => {
  await tx.update(accounts).set({ cents: 91 }).where(eq(accounts.owner, 'ada'));
  await rejection(tx.transaction(async (inner) => {
    await inner.update(accounts).set({ cents: 0 });
    inner.rollback();
  }));
  return cents(tx);
}));
await check('drizzle: isolation level and access mode', ['serializable', 'on'], () => db.transaction(async (tx) => [
  (await tx.execute(sql`show transaction_isolation`)).rows[0].transaction_isolation,
  (await tx.execute(sql`show transaction_read_only`)).rows[0].transaction_read_only,
], { isolationLevel: 'serializable', accessMode: 'read only' }));
await check('drizzle: prepared statement, many times at once', 40, async () => {
  const prepared = db.select().from(accounts).where(eq(accounts.owner, sql.placeholder('owner'))).prepare('by_owner');
  const rows = await Promise.all(Array.from({ length: 40 }, (_, at) => prepared.execute({ owner: at % 2 ? 'ada' : 'eve' })));
  return rows.filter(([row], at) => row.owner === (at % 2 ? 'ada' : 'eve')).length;
});
await pool.end();

// ── Prisma ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const adapter = await new PrismaNeon({ connectionString: DATABASE_URL, max: 5 }).connect();
const bare = (text, ...args) => ({ sql: text, args, argTypes: args.map(() => ({ scalarType: 'unknown', arity: 'scalar' })) });
const total = async (executor = adapter) => (await executor.queryRaw(bare('select sum(cents)::int from accounts'))).rows[0][0];

await check('prisma: a transaction commits', 203, async () => {
  const tx = await adapter.startTransaction();
  await tx.executeRaw(bare('update accounts set cents = cents + 1'));
  await tx.executeRaw(bare('commit'));
  await tx.commit();
  return total();
});
await check('prisma: a transaction rolls back', [0, 203], async () => {
  const tx = await adapter.startTransaction('SERIALIZABLE');
  await tx.executeRaw(bare('update accounts set cents = $1', 0));
  const inside = await total(tx);
  await tx.executeRaw(bare('rollback'));
  await tx.rollback();
  return [inside, await total()];
});
await check('prisma: twenty transactions at once over five sockets', 243, async () => {
  await Promise.all(Array.from({ length: 20 }, async () => {
    const tx = await adapter.startTransaction();
    await tx.executeRaw(bare('update accounts set cents = cents + 1'));
    await tx.executeRaw(bare('commit'));
    await tx.commit();
  }));
  return total();
});
await check('prisma: an error has what its mapping needs', '23505', async () => {
  const error = await rejection(adapter.executeRaw(bare(`insert into accounts (id, owner, cents) values (1, 'x', 1)`)));
  return error.cause?.originalCode ?? error.code;
});
await adapter.dispose();

finished();
