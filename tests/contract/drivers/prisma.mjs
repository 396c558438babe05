// @prisma/adapter-neon over HTTP: first the adapter as Prisma's engine calls it, then the whole client on top of it.

import { neonConfig } from '@neondatabase/serverless';
import { PrismaNeonHttp } from '@prisma/adapter-neon';
import { PrismaClient } from '../prisma/client.mjs';
import { check, DATABASE_URL, finished, GATEWAY_URL, pick, rejection } from './checks.mjs';

neonConfig.fetchEndpoint = `${GATEWAY_URL}/sql`;

// ── the adapter ──────────────────────────────────────────────────────────────────────────────────────────────────────

const adapter = await new PrismaNeonHttp(DATABASE_URL, {}).connect();
const bare = (sql) => ({ sql, args: [], argTypes: [] });

await check('adapter: column names, types and rows', {
  columnNames: ['i', 'b', 'n', 't', 'j', 'd', 'l', 'x'], columnTypes: [0, 1, 4, 7, 11, 8, 64, 5], rows: 1,
}, async () => {
  const { columnNames, columnTypes, rows } = await adapter.queryRaw(bare(
    `select 1 as i, 2::int8 as b, 1.5::numeric as n, 'x' as t, '{}'::jsonb as j, '2020-01-01'::date as d, '{1}'::int[] as l, true as x`));
  return { columnNames, columnTypes, rows: rows.length };
});
await check('adapter: column types although there is no row', { columnNames: ['a', 'b'], columnTypes: [0, 10], rows: [] }, () =>
  adapter.queryRaw(bare(`select 1 as a, now() as b where false`)));
const texts = [
  ["'2024-02-29 01:02:03.004'::timestamp", '2024-02-29T01:02:03.004+00:00'],
  ["'2024-02-29 01:02:03.004+00'::timestamptz", '2024-02-29T01:02:03.004+00:00'],
  ["'12:34:56.5'::time", '12:34:56.5'],
  ["'2024-02-29'::date", '2024-02-29'],
  ['1.10::numeric', '1.10'],
  ['9223372036854775807::int8', '9223372036854775807'],
  [`'{"b": 1, "a": [null]}'::json`, '{"b": 1, "a": [null]}'],
  ["'12.34'::money", '12.34'],
  ["'{1.10,2.20}'::numeric[]", ['1.10', '2.20']],
  [`array['a,b', null, '"', '']`, ['a,b', null, '"', '']],
  ["B'101'::varbit", '101'],
  ["'d9428888-122b-11e1-b85c-61cd3cbb3210'::uuid", 'd9428888-122b-11e1-b85c-61cd3cbb3210'],
];
for (const [expression, want] of texts) {
  await check(`adapter: ${expression}`, [[want]], async () => (await adapter.queryRaw(bare(`select ${expression}`))).rows);
}
await check('adapter: arguments', [[3, 'x', '2024-02-29T01:02:03.004+00:00', true]], async () => (await adapter.queryRaw({
  sql: 'select $1::int, $2::text, $3::timestamptz, $4::bytea = $5',
  args: [3, 'x', new Date('2024-02-29T01:02:03.004Z'), new Uint8Array([222]), Buffer.from([222])],
  argTypes: Array(5).fill({ scalarType: 'unknown', arity: 'scalar' }),
})).rows);
await check('adapter: executeRaw counts', 3, async () => {
  await adapter.executeRaw(bare('create table counted (i int)'));
  return adapter.executeRaw(bare('insert into counted values (1), (2), (3)'));
});
await check('adapter: a statement without a count counts zero', 0, () => adapter.executeRaw(bare('drop table counted')));
await check('adapter: an error has what its mapping needs', { code: '42P01', severity: 'ERROR', message: 'relation "nowhere" does not exist' },
  async () => pick(await rejection(adapter.queryRaw(bare('select * from nowhere'))), 'code', 'severity', 'message'));
await check('adapter: a wrong password', { code: '28P01', severity: 'FATAL', named: true }, async () => {
  const wrong = new URL(DATABASE_URL);
  wrong.password = 'not-it';
  const stranger = await new PrismaNeonHttp(wrong.href, {}).connect();
  const error = await rejection(stranger.queryRaw(bare('select 1')));
  return { ...pick(error, 'code', 'severity'), named: error.message.split(' ').pop() === `"${wrong.username}"` };
});
await check('adapter: transactions are refused by the adapter', true, async () =>
  /not supported in HTTP mode/.test((await rejection(adapter.startTransaction())).message));

// ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────────

for (const statement of [
  `create type "Mood" as enum ('SAD', 'OK', 'HAPPY')`,
  'create table author (id serial primary key, email varchar(80) not null unique, born date)',
  `create table book (id serial primary key, title text not null, price numeric(8,2), sold int8, weight float8,
     in_print bool not null default true, tags text[], pages int[], extra jsonb, cover bytea, mood "Mood", isbn uuid,
     at timestamptz(3), local timestamp(3), author_id int not null references author on delete cascade, unique (author_id, title))`,
]) await adapter.executeRaw(bare(statement));

let statements = 0;
const prisma = new PrismaClient({ adapter: new PrismaNeonHttp(DATABASE_URL, {}), log: [{ emit: 'event', level: 'query' }], errorFormat: 'minimal' });
prisma.$on('query', () => { statements += 1; });

await check('create', { id: 1, email: 'ursula@example.org', born: new Date('1929-10-21T00:00:00Z') }, () =>
  prisma.author.create({ data: { email: 'ursula@example.org', born: new Date('1929-10-21') } }));
await check('createMany', { count: 2 }, () =>
  prisma.author.createMany({ data: [{ email: 'stanislaw@example.org' }, { email: 'italo@example.org' }] }));
await check('createMany skips duplicates', { count: 1 }, () =>
  prisma.author.createMany({ data: [{ email: 'italo@example.org' }, { email: 'octavia@example.org' }], skipDuplicates: true }));

const whole = {
  title: 'The "Dispossessed"', sold: 9007199254740993n, weight: 0.1, inPrint: false, tags: ['a,b', 'c"d', 'e\\f', 'NULL', ''],
  pages: [1, 2, 387], extra: { a: { é: true }, z: [1, null, "it's"] }, mood: 'HAPPY', isbn: 'd9428888-122b-11e1-b85c-61cd3cbb3210',
  at: new Date('2024-02-29T10:34:56.789Z'), local: new Date('2024-02-29T01:02:03.004Z'), authorId: 1,
};
await check('every column type there and back', { ...whole, price: '12.5', cover: [0, 255, 16] }, async () => {
  await prisma.book.create({ data: { ...whole, price: '12.50', cover: new Uint8Array([0, 255, 16]) } });
  const { id, price, cover, ...rest } = await prisma.book.findFirstOrThrow({ where: { title: { contains: 'Dispossessed' } } });
  return { ...rest, price: price.toString(), cover: [...cover] };
});
await check('nulls and empty lists', { price: null, sold: null, extra: null, cover: null, mood: null, at: null, tags: [], inPrint: true }, async () =>
  pick(await prisma.book.create({ data: { title: 'Solaris', authorId: 2 } }), 'price', 'sold', 'extra', 'cover', 'mood', 'at', 'tags', 'inPrint'));
await check('createManyAndReturn', [{ title: 'Eden' }, { title: 'Fiasco' }], () => prisma.book.createManyAndReturn({
  data: [{ title: 'Eden', authorId: 2, price: 4 }, { title: 'Fiasco', authorId: 2, price: 3 }], select: { title: true },
}));
await check('findUnique', { id: 2, email: 'stanislaw@example.org', born: null }, () =>
  prisma.author.findUnique({ where: { email: 'stanislaw@example.org' } }));
await check('findUnique of nothing', null, () => prisma.author.findUnique({ where: { id: -1 } }));
await check('findMany: filter, order, page', ['Solaris', 'Fiasco'], async () =>
  (await prisma.book.findMany({ where: { authorId: 2, title: { not: 'x' } }, orderBy: { title: 'desc' }, take: 2 })).map((book) => book.title));
await check('findMany: in, or, insensitive', ['Eden', 'Solaris'], async () => (await prisma.book.findMany({
  where: { OR: [{ title: { in: ['Eden'] } }, { title: { startsWith: 'sol', mode: 'insensitive' } }] }, orderBy: { title: 'asc' },
})).map((book) => book.title));
await check('findMany: decimals and big integers compare', ['The "Dispossessed"'], async () =>
  (await prisma.book.findMany({ where: { price: { gt: '4.01' }, sold: { gte: 9007199254740993n } } })).map((book) => book.title));
await check('findMany: dates compare', 1, () => prisma.book.count({ where: { at: { gte: new Date('2024-02-29T10:34:56.789Z') } } }));
await check('findMany: lists and json', [1, 1], async () => [
  await prisma.book.count({ where: { tags: { has: 'c"d' } } }),
  await prisma.book.count({ where: { extra: { path: ['a', 'é'], equals: true } } }),
]);
await check('findMany: an enum', 1, () => prisma.book.count({ where: { mood: 'HAPPY' } }));
await check('include: many', ['Eden', 'Fiasco', 'Solaris'], async () =>
  (await prisma.author.findUnique({ where: { id: 2 }, include: { books: { orderBy: { title: 'asc' } } } })).books.map((book) => book.title));
await check('include: one', 'stanislaw@example.org', async () =>
  (await prisma.book.findFirst({ where: { title: 'Eden' }, include: { author: true } })).author.email);
await check('select with a relation\'s count', [1, 3, 0, 0], async () =>
  (await prisma.author.findMany({ orderBy: { id: 'asc' }, select: { _count: { select: { books: true } } } })).map((author) => author._count.books));
await check('where on a relation', ['stanislaw@example.org'], async () =>
  (await prisma.author.findMany({ where: { books: { some: { title: 'Eden' } } } })).map((author) => author.email));
await check('update', { title: 'Eden', price: '4.5' }, async () => {
  const book = await prisma.book.update({ where: { authorId_title: { authorId: 2, title: 'Eden' } }, data: { price: { increment: 0.5 } } });
  return { title: book.title, price: book.price.toString() };
});
await check('updateMany', { count: 3 }, () => prisma.book.updateMany({ where: { authorId: 2 }, data: { mood: 'OK' } }));
await check('updateManyAndReturn', ['OK', 'OK', 'OK'], async () =>
  (await prisma.book.updateManyAndReturn({ where: { authorId: 2 }, data: { inPrint: false } })).map((book) => book.mood));
await check('upsert on a unique column', { id: 1, born: new Date('1929-10-22T00:00:00Z') }, async () => pick(await prisma.author.upsert({
  where: { email: 'ursula@example.org' }, update: { born: new Date('1929-10-22') }, create: { email: 'ursula@example.org' },
}), 'id', 'born'));
await check('aggregate', { _count: 4, sum: '20', max: 9007199254740993n, avg: 0.1 }, async () => {
  const all = await prisma.book.aggregate({ _count: true, _sum: { price: true }, _max: { sold: true }, _avg: { weight: true } });
  return { _count: all._count, sum: all._sum.price.toString(), max: all._max.sold, avg: all._avg.weight };
});
await check('groupBy', [{ authorId: 1, n: 1 }, { authorId: 2, n: 3 }], async () =>
  (await prisma.book.groupBy({ by: ['authorId'], _count: true, orderBy: { authorId: 'asc' } })).map((group) => ({ authorId: group.authorId, n: group._count })));
await check('delete', 'Fiasco', async () => (await prisma.book.delete({ where: { authorId_title: { authorId: 2, title: 'Fiasco' } } })).title);
await check('deleteMany', { count: 0 }, () => prisma.book.deleteMany({ where: { title: 'nothing' } }));
await check('$queryRaw', [{ a: 3, b: 'x', n: null }], () => prisma.$queryRaw`select ${1}::int + 2 as a, ${'x'} as b, ${null}::int as n`);
await check('$executeRaw', 2, () => prisma.$executeRaw`update book set weight = ${1.5}::float8 where author_id = ${2}`);
await check('$queryRawUnsafe', [{ v: 9007199254740993n }], () => prisma.$queryRawUnsafe('select $1::int8 as v', 9007199254740993n));

await check('a unique violation, as the HTTP adapter passes it on', true, async () =>
  /duplicate key value violates unique constraint/.test((await rejection(prisma.author.create({ data: { email: 'ursula@example.org' } }))).message));
await check('a foreign key violation, as the HTTP adapter passes it on', true, async () =>
  /violates foreign key constraint/.test((await rejection(prisma.book.create({ data: { title: 'x', authorId: 99 } }))).message));
await check('a record that is not there is Prisma\'s P2025', 'P2025', async () =>
  (await rejection(prisma.author.findUniqueOrThrow({ where: { id: -1 } }))).code);
await check('an interactive transaction is refused by the adapter', true, async () =>
  /not supported in HTTP mode/.test((await rejection(prisma.$transaction(async (tx) => tx.author.count()))).message));
await check('ten at once', Array.from({ length: 10 }, (_, i) => i), async () =>
  (await Promise.all(Array.from({ length: 10 }, (_, i) => prisma.$queryRaw`select ${i}::int as i`))).map(([row]) => row.i));
await check('dozens of statements were sent', true, async () => statements >= 36);
await prisma.$disconnect();

finished();
