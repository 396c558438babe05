// drizzle-orm/neon-http: the query builder, relational queries, batches and errors.

import { neon, neonConfig } from '@neondatabase/serverless';
import { and, asc, count, desc, eq, gt, ilike, inArray, placeholder, relations, sql, sum } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/neon-http';
import {
  bigint, boolean, date, doublePrecision, integer, interval, jsonb, numeric, pgEnum, pgTable, point, serial, text, timestamp,
  uuid, varchar,
} from 'drizzle-orm/pg-core';
import { check, DATABASE_URL, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;

const mood = pgEnum('mood', ['sad', 'ok', 'happy']);
const authors = pgTable('authors', {
  id: serial().primaryKey(),
  name: varchar({ length: 80 }).notNull().unique(),
  born: date(),
});
const books = pgTable('books', {
  id: serial().primaryKey(),
  authorId: integer('author_id').notNull().references(() => authors.id),
  title: text().notNull(),
  price: numeric({ precision: 8, scale: 2 }),
  sold: bigint({ mode: 'bigint' }),
  weight: doublePrecision(),
  inPrint: boolean('in_print').notNull().default(true),
  tags: text().array(),
  grid: integer().array().array(),
  extra: jsonb(),
  mood: mood(),
  isbn: uuid(),
  at: timestamp({ withTimezone: true }),
  local: timestamp(),
  lent: interval(),
  place: point({ mode: 'xy' }),
});
const authorsRelations = relations(authors, ({ many }) => ({ books: many(books) }));
const booksRelations = relations(books, ({ one }) => ({ author: one(authors, { fields: [books.authorId], references: [authors.id] }) }));

const statements = [];
const db = drizzle(neon(DATABASE_URL), {
  schema: { authors, books, authorsRelations, booksRelations },
  logger: { logQuery: (query) => statements.push(query) },
});

await db.execute(sql`create type mood as enum ('sad', 'ok', 'happy')`);
await db.execute(sql`create table authors (id serial primary key, name varchar(80) not null unique, born date)`);
await db.execute(sql`create table books (
  id serial primary key, author_id int not null references authors, title text not null, price numeric(8,2), sold int8,
  weight float8, in_print bool not null default true, tags text[], grid int[][], extra jsonb, mood mood, isbn uuid,
  at timestamptz, local timestamp, lent interval, place point)`);

await check('insert returning', [{ id: 1, name: 'Le Guin', born: '1929-10-21' }, { id: 2, name: 'Lem', born: null }], () =>
  db.insert(authors).values([{ name: 'Le Guin', born: '1929-10-21' }, { name: 'Lem' }]).returning());

const whole = {
  authorId: 1, title: 'The "Dispossessed"', price: '12.50', sold: 9007199254740993n, weight: 0.1, inPrint: false,
  tags: ['a,b', 'c"d', 'e\\f', 'NULL', ''], grid: [[1, 2], [3, 4]], extra: { z: [1, null, "it's"], a: { é: true } }, mood: 'happy',
  isbn: 'd9428888-122b-11e1-b85c-61cd3cbb3210', at: new Date('2024-02-29T10:34:56.789Z'), local: new Date('2024-02-29T01:02:03.004Z'),
  lent: '1 day 02:00:00', place: { x: 1.5, y: -2 },
};
await check('every column type there and back', { id: 1, ...whole }, async () => {
  await db.insert(books).values(whole);
  return (await db.select().from(books))[0];
});
await check('nulls in every column', { tags: null, extra: null, at: null, sold: null, inPrint: true }, async () => {
  const [row] = await db.insert(books).values({ authorId: 2, title: 'Solaris' }).returning();
  return pick(row, 'tags', 'extra', 'at', 'sold', 'inPrint');
});
await check('insert without returning gives the count', { command: 'INSERT', rowCount: 2 }, async () =>
  pick(await db.insert(books).values([{ authorId: 2, title: 'Fiasco', price: '3' }, { authorId: 2, title: 'Eden', price: '4' }]),
    'command', 'rowCount'));
await check('on conflict do update', [{ id: 2, name: 'Lem', born: '1921-09-12' }], () =>
  db.insert(authors).values({ name: 'Lem', born: '1921-09-12' })
    .onConflictDoUpdate({ target: authors.name, set: { born: '1921-09-12' } }).returning());
await check('on conflict do nothing', [], () => db.insert(authors).values({ name: 'Lem' }).onConflictDoNothing().returning());
await check('where and order', ['Eden', 'Fiasco'], async () =>
  (await db.select({ title: books.title }).from(books).where(and(eq(books.authorId, 2), gt(books.price, '1'))).orderBy(asc(books.title)))
    .map((row) => row.title));
await check('in and ilike', [{ n: 1 }], () =>
  db.select({ n: count() }).from(books).where(and(inArray(books.title, ['Eden', 'Solaris', 'x']), ilike(books.title, 'e%'))));
await check('limit and offset', [{ id: 3 }], () => db.select({ id: books.id }).from(books).orderBy(asc(books.id)).limit(1).offset(2));
await check('inner join gives both tables', { author: 'Lem', title: 'Solaris' }, async () => {
  const [row] = await db.select().from(books).innerJoin(authors, eq(books.authorId, authors.id)).where(eq(books.title, 'Solaris'));
  return { author: row.authors.name, title: row.books.title };
});
await check('left join gives null for the missing', [{ name: 'Nobody', book: null }], async () => {
  await db.insert(authors).values({ name: 'Nobody' });
  return db.select({ name: authors.name, book: books.title }).from(authors).leftJoin(books, eq(books.authorId, authors.id))
    .where(eq(authors.name, 'Nobody'));
});
await check('group by with sum', [{ id: 1, total: '12.50' }, { id: 2, total: '7.00' }], () =>
  db.select({ id: books.authorId, total: sum(books.price) }).from(books).groupBy(books.authorId).orderBy(books.authorId));
await check('a subquery', [{ title: 'The "Dispossessed"' }], () => {
  const dear = db.select({ title: books.title, price: books.price }).from(books).where(gt(books.price, '10')).as('dear');
  return db.select({ title: dear.title }).from(dear);
});
await check('a common table expression', [{ n: 2 }], () => {
  const cheap = db.$with('cheap').as(db.select().from(books).where(sql`${books.price} < 10`));
  return db.with(cheap).select({ n: count() }).from(cheap);
});
await check('update returning', [{ title: 'Eden', price: '4.50' }], () =>
  db.update(books).set({ price: sql`${books.price} + 0.5` }).where(eq(books.title, 'Eden')).returning({ title: books.title, price: books.price }));
await check('update without returning', 3, async () => (await db.update(books).set({ mood: 'ok' }).where(eq(books.authorId, 2))).rowCount);
await check('an array emptied', [[]], async () => {
  await db.update(books).set({ tags: [] }).where(eq(books.id, 2));
  return (await db.select({ tags: books.tags }).from(books).where(eq(books.id, 2))).map((row) => row.tags);
});
await check('delete returning', [{ title: 'Fiasco' }], () =>
  db.delete(books).where(eq(books.title, 'Fiasco')).returning({ title: books.title }));
await check('$count', 3, () => db.$count(books));

await check('relational: many', [{ name: 'Lem', books: [{ title: 'Eden' }, { title: 'Solaris' }] }], () =>
  db.query.authors.findMany({
    columns: { name: true }, where: eq(authors.name, 'Lem'),
    with: { books: { columns: { title: true }, orderBy: asc(books.title) } },
  }));
await check('relational: one', { title: 'Solaris', author: { name: 'Lem' } }, () =>
  db.query.books.findFirst({ columns: { title: true }, with: { author: { columns: { name: true } } }, where: eq(books.title, 'Solaris') }));
await check('relational: nothing', undefined, () => db.query.books.findFirst({ where: eq(books.id, -1) }));

await check('a prepared statement, twice', ['Lem', 'Le Guin'], async () => {
  const byId = db.select({ name: authors.name }).from(authors).where(eq(authors.id, placeholder('id'))).prepare('by_id');
  return [(await byId.execute({ id: 2 }))[0].name, (await byId.execute({ id: 1 }))[0].name];
});
await check('execute gives objects', { rows: [{ a: 1, b: 'x' }], rowCount: 1 }, async () =>
  pick(await db.execute(sql`select ${1}::int as a, ${'x'} as b`), 'rows', 'rowCount'));
await check('execute keeps timestamps as text', [{ d: '2024-02-29', t: '2024-02-29 01:02:03' }], async () =>
  (await db.execute(sql`select date '2024-02-29' as d, timestamp '2024-02-29 01:02:03' as t`)).rows);

await check('batch: in order, typed', [[{ id: 4, name: 'Calvino', born: null }], { rowCount: 1 }, [{ n: 4 }], 'Calvino'], async () => {
  const [inserted, updated, counted, found] = await db.batch([
    db.insert(authors).values({ name: 'Calvino' }).returning(),
    db.update(authors).set({ born: '1923-10-15' }).where(eq(authors.name, 'Calvino')),
    db.select({ n: count() }).from(authors),
    db.query.authors.findFirst({ orderBy: desc(authors.id) }),
  ]);
  return [inserted.map((row) => ({ ...row, id: 4 })), pick(updated, 'rowCount'), counted, found.name];
});
await check('batch: an error undoes all', { code: '23505', n: 0 }, async () => {
  const error = await rejection(db.batch([
    db.insert(authors).values({ name: 'Twice' }), db.insert(authors).values({ name: 'Twice' }),
  ]));
  return { code: (error.cause ?? error).code, n: await db.$count(authors, eq(authors.name, 'Twice')) };
});
await check('an interactive transaction is refused by the driver', true, async () =>
  /No transactions support/.test((await rejection(db.transaction(async () => {}))).message));
await check('an error carries Postgres\'s fields', {
  code: '23503', table: 'books', constraint: 'books_author_id_fkey', detail: 'Key (author_id)=(99) is not present in table "authors".',
}, async () => {
  const error = await rejection(db.insert(books).values({ authorId: 99, title: 'x' }));
  return pick(error.cause ?? error, 'code', 'table', 'constraint', 'detail');
});
await check('an enum refuses other words', '22P02', async () => {
  const error = await rejection(db.insert(books).values({ authorId: 1, title: 'x', mood: 'angry' }));
  return (error.cause ?? error).code;
});
await check('twenty at once', Array.from({ length: 20 }, (_, i) => i), async () =>
  (await Promise.all(Array.from({ length: 20 }, (_, i) => db.execute(sql`select ${i}::int as i`)))).map((result) => result.rows[0].i));
await check('dozens of statements were sent', true, async () => statements.length >= 48);

finished();
