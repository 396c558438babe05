// Takes from `prisma generate`'s TypeScript what a client needs at run time, and writes it to model.json beside this file.
// Run it only after a change to schema.prisma or to Prisma's version; README.md tells how.

import { readFileSync, writeFileSync } from 'node:fs';

const source = readFileSync(new URL('generated/internal/class.ts', import.meta.url), 'utf8');

/** The JavaScript literal that follows `start`, up to the end of its line or, for an object, its closing brace. */
function literal(start, pattern) {
  const found = source.slice(source.indexOf(start) + start.length).match(pattern);
  if (!found || !source.includes(start)) throw new Error(`class.ts has no ${start}`);
  return JSON.parse(found[0]);
}

const base = literal('GetPrismaClientConfig = ', /^\{[^]*?\n\}/);
const model = {
  ...base,
  runtimeDataModel: JSON.parse(literal('config.runtimeDataModel = JSON.parse(', /^".*"(?=\)\n)/)),
  parameterizationSchema: {
    strings: JSON.parse(literal('strings: JSON.parse(', /^".*"(?=\),\n)/)),
    graph: literal('graph: ', /^".*"/),
  },
};
writeFileSync(new URL('model.json', import.meta.url), `${JSON.stringify(model, null, 1)}\n`);
