// kysely-neon: the query builder, its counts of affected rows, introspection, and what its dialect refuses.

import { neon, neonConfig } from '@neondatabase/serverless';
import { Kysely, sql } from 'kysely';
import { jsonArrayFrom, jsonObjectFrom } from 'kysely/helpers/postgres';
import { NeonDialect } from 'kysely-neon';
import { check, DATABASE_URL, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;

const statements = [];
const db = new Kysely({
  dialect: new NeonDialect({ neon: neon(DATABASE_URL) }),
  log: (event) => statements.push(event.query.sql),
});

await db.schema.createTable('person')
  .addColumn('id', 'serial', (column) => column.primaryKey())
  .addColumn('name', 'varchar(60)', (column) => column.notNull().unique())
  .addColumn('age', 'integer', (column) => column.check(sql`age >= 0`))
  .addColumn('balance', 'numeric(12, 2)', (column) => column.notNull().defaultTo(0))
  .addColumn('tags', sql`text[]`)
  .addColumn('extra', 'jsonb')
  .addColumn('made', 'timestamptz', (column) => column.notNull().defaultTo(sql`timestamptz '2020-01-01 00:00:00Z'`))
  .execute();
await db.schema.createTable('pet')
  .addColumn('id', 'bigserial', (column) => column.primaryKey())
  .addColumn('owner', 'integer', (column) => column.notNull().references('person.id').onDelete('cascade'))
  .addColumn('name', 'text', (column) => column.notNull())
  .execute();
await db.schema.createIndex('pet_owner').on('pet').column('owner').execute();

await check('insert returning', { id: 1, name: 'Ada', balance: '0.00', made: new Date('2020-01-01T00:00:00Z') }, async () =>
  pick(await db.insertInto('person').values({ name: 'Ada', age: 36 }).returningAll().executeTakeFirstOrThrow(), 'id', 'name', 'balance', 'made'));
await check('insert counts', 2n, async () =>
  (await db.insertInto('person').values([{ name: 'Bob', age: 20 }, { name: 'Eve', age: null }]).executeTakeFirst()).numInsertedOrUpdatedRows);
await check('insert of arrays and json', { tags: ['a,b', 'c"d', '\\', 'NULL', ''], extra: { z: [1, null], é: "it's" } }, async () => {
  await db.insertInto('person').values({
    name: 'Zoë', tags: ['a,b', 'c"d', '\\', 'NULL', ''], extra: JSON.stringify({ z: [1, null], é: "it's" }),
  }).execute();
  return db.selectFrom('person').select(['tags', 'extra']).where('name', '=', 'Zoë').executeTakeFirst();
});
await check('update counts', 2n, async () =>
  (await db.updateTable('person').set({ balance: 5 }).where('age', 'is not', null).executeTakeFirst()).numUpdatedRows);
await check('update of nothing counts zero', 0n, async () =>
  (await db.updateTable('person').set({ age: 1 }).where('id', '=', -1).executeTakeFirst()).numUpdatedRows);
await check('update returning an expression', [{ name: 'Bob', age: 21 }], () =>
  db.updateTable('person').set((eb) => ({ age: eb('age', '+', 1) })).where('name', '=', 'Bob').returning(['name', 'age']).execute());
await check('on conflict', [{ id: 1, age: 37 }], () =>
  db.insertInto('person').values({ name: 'Ada', age: 37 })
    .onConflict((conflict) => conflict.column('name').doUpdateSet((eb) => ({ age: eb.ref('excluded.age') }))).returning(['id', 'age']).execute());
await check('select where, order, limit', [{ name: 'Ada' }, { name: 'Bob' }], () =>
  db.selectFrom('person').select('name').where('age', '>', 18).orderBy('age', 'desc').limit(2).execute());
await check('where in', ['Ada', 'Eve'], async () =>
  (await db.selectFrom('person').select('name').where('name', 'in', ['Ada', 'Eve', 'x']).orderBy('name').execute()).map((row) => row.name));
await check('null', [{ name: 'Eve', age: null }], () => db.selectFrom('person').select(['name', 'age']).where('name', '=', 'Eve').execute());
await check('nothing', undefined, () => db.selectFrom('person').selectAll().where('id', '=', -1).executeTakeFirst());
await check('count is text, as int8 is', { n: '4' }, () =>
  db.selectFrom('person').select((eb) => eb.fn.countAll().as('n')).executeTakeFirst());
await check('aggregates and having', [{ owner: 1, pets: '2' }], async () => {
  await db.insertInto('pet').values([{ owner: 1, name: 'Rex' }, { owner: 1, name: 'Tom' }, { owner: 2, name: 'Kit' }]).execute();
  return db.selectFrom('pet').select(['owner', (eb) => eb.fn.count('id').as('pets')]).groupBy('owner')
    .having((eb) => eb.fn.count('id'), '>', 1).execute();
});
await check('joins', [{ name: 'Ada', pet: 'Rex' }, { name: 'Ada', pet: 'Tom' }, { name: 'Bob', pet: 'Kit' }], () =>
  db.selectFrom('person').innerJoin('pet', 'pet.owner', 'person.id').select(['person.name', 'pet.name as pet']).orderBy('pet.id').execute());
await check('a left join', [{ name: 'Eve', pet: null }], () =>
  db.selectFrom('person').leftJoin('pet', 'pet.owner', 'person.id').select(['person.name', 'pet.name as pet']).where('person.name', '=', 'Eve').execute());
await check('json aggregation', [{ name: 'Ada', pets: [{ name: 'Rex' }, { name: 'Tom' }] }, { name: 'Bob', pets: [{ name: 'Kit' }] }], () =>
  db.selectFrom('person').select(['person.name', (eb) => jsonArrayFrom(
    eb.selectFrom('pet').select('pet.name').whereRef('pet.owner', '=', 'person.id').orderBy('pet.id')).as('pets')])
    .where('person.name', 'in', ['Ada', 'Bob']).orderBy('person.id').execute());
await check('a json object', [{ name: 'Kit', owner: { name: 'Bob', age: 21 } }], () =>
  db.selectFrom('pet').select(['pet.name', (eb) => jsonObjectFrom(
    eb.selectFrom('person').select(['person.name', 'person.age']).whereRef('person.id', '=', 'pet.owner')).as('owner')])
    .where('pet.name', '=', 'Kit').execute());
await check('with', [{ name: 'Bob' }], () =>
  db.with('adult', (db) => db.selectFrom('person').selectAll().where((eb) => eb.between('age', 18, 30))).selectFrom('adult').select('name').execute());
await check('with recursive', [{ i: 1 }, { i: 2 }, { i: 3 }], () =>
  db.withRecursive('t(i)', (eb) => eb.selectNoFrom(sql`1`.as('i')).unionAll(eb.selectFrom('t').select(sql`i + 1`.as('i')).where('i', '<', 3)))
    .selectFrom('t').select('i').execute());
await check('union', [{ name: 'Ada' }, { name: 'Kit' }], () =>
  db.selectFrom('person').select('name').where('id', '=', 1).union(db.selectFrom('pet').select('name').where('name', '=', 'Kit')).orderBy('name').execute());
await check('raw sql with parameters', [{ a: 3, b: 'x', c: null }], async () =>
  (await sql`select ${1}::int + ${2}::int as a, ${'x'}::text as b, ${null}::int as c`.execute(db)).rows);
await check('raw sql, values of many types', [{ t: true, n: '1.10', b: Buffer.from([222]), j: { a: 1 }, l: [1, null] }], async () =>
  (await sql`select true as t, 1.10 as n, '\\xde'::bytea as b, '{"a":1}'::jsonb as j, '{1,NULL}'::int[] as l`.execute(db)).rows);
await check('raw sql with a name', [{ n: '4' }], async () => (await sql`select count(*) as n from ${sql.table('person')}`.execute(db)).rows);
await check('delete counts', 1n, async () => (await db.deleteFrom('pet').where('name', '=', 'Kit').executeTakeFirst()).numDeletedRows);
await check('delete returning', [{ name: 'Eve' }], () => db.deleteFrom('person').where('name', '=', 'Eve').returning('name').execute());
await check('merge counts', 1n, async () =>
  (await db.mergeInto('person').using('pet', 'pet.owner', 'person.id').whenMatchedAnd('pet.name', '=', 'Tom')
    .thenUpdateSet({ balance: 9 }).executeTakeFirst()).numChangedRows);
await check('alter and read at once', [{ name: 'Ada', nick: 'none' }], async () => {
  await db.schema.alterTable('person').addColumn('nick', 'text', (column) => column.defaultTo('none')).execute();
  return db.selectFrom('person').select(['name', 'nick']).where('id', '=', 1).execute();
});
await check('select all after the table has changed', 8, async () =>
  Object.keys(await db.selectFrom('person').selectAll().where('id', '=', 1).executeTakeFirst()).length);
await check('introspection', ['person', 'pet'], async () =>
  (await db.introspection.getTables()).map((table) => table.name).sort());
await check('introspection: columns', ['id', 'owner', 'name'], async () =>
  (await db.introspection.getTables()).find((table) => table.name === 'pet').columns.map((column) => column.name));

await check('error: unique', { code: '23505', constraint: 'person_name_key', table: 'person' }, async () =>
  pick(await rejection(db.insertInto('person').values({ name: 'Ada' }).execute()), 'code', 'constraint', 'table'));
await check('error: check', { code: '23514', constraint: 'person_age_check' }, async () =>
  pick(await rejection(db.insertInto('person').values({ name: 'x', age: -1 }).execute()), 'code', 'constraint'));
await check('error: no such column', { code: '42703', position: '8' }, async () =>
  pick(await rejection(db.selectFrom('person').select('nonsense').execute()), 'code', 'position'));
await check('error: no such table', '42P01', async () => (await rejection(db.selectFrom('nowhere').selectAll().execute())).code);
await check('interactive transactions are refused by the dialect', true, async () =>
  /transactions/.test((await rejection(db.transaction().execute(async () => {}))).message));
await check('ten at once', Array.from({ length: 10 }, (_, i) => i), async () =>
  (await Promise.all(Array.from({ length: 10 }, (_, i) => sql`select ${i}::int as i`.execute(db)))).map((result) => result.rows[0].i));
await check('dozens of statements were sent', true, async () => statements.length >= 48);
await db.destroy();

finished();
