// The Prisma client of schema.prisma, made from model.json as the generated code makes it: Prisma's published runtime and
// its query compiler, which is WebAssembly. `prisma generate` itself is not run in tests, since its package downloads an
// engine when it is installed.

import { readFileSync } from 'node:fs';
import { getPrismaClient } from '@prisma/client/runtime/client';

const config = JSON.parse(readFileSync(new URL('model.json', import.meta.url), 'utf8'));
config.compilerWasm = {
  getRuntime: () => import('@prisma/client/runtime/query_compiler_fast_bg.postgresql.mjs'),
  getQueryCompilerWasmModule: async () => {
    const { wasm } = await import('@prisma/client/runtime/query_compiler_fast_bg.postgresql.wasm-base64.mjs');
    return new WebAssembly.Module(Buffer.from(wasm, 'base64'));
  },
  importName: './query_compiler_fast_bg.js',
};

export const PrismaClient = getPrismaClient(config);
