// One line of JSON for each check, `{name, ok, got, want}`, and `{finished: n}` last, so that pytest can tell a
// script that ended early from one that passed. What is compared may hold Dates, Buffers, NaN and bigints;
// `got` and `want` are printed as Node inspects them. Nothing here knows of SQL.

import { inspect, isDeepStrictEqual } from 'node:util';

let count = 0;

function shown(value) {
  return inspect(value, { depth: 8, breakLength: Infinity, maxStringLength: 2000, sorted: true });
}

function report(name, ok, got, want) {
  count += 1;
  console.log(JSON.stringify({ name, ok, got: shown(got), want: shown(want) }));
}

/** Compare what `work` resolves to with `want`, strictly and deeply; an exception is a failed check, not the end. */
export async function check(name, want, work) {
  let got;
  try {
    got = await work();
  } catch (error) {
    report(name, false, error, want);
    return;
  }
  report(name, isDeepStrictEqual(got, want), got, want);
}

/** What `promise` was rejected with; resolving is an error here. */
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`should have failed, but gave ${shown(value)}`);
}

/** The chosen members of an object. */
export function pick(object, ...names) {
  return Object.fromEntries(names.map((name) => [name, object[name]]));
}

/** Ask again until `work` resolves to `want` or the time is over; gives the last answer. */
export async function eventually(want, work, milliseconds = 10_000) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const got = await work();
    if (isDeepStrictEqual(got, want) || Date.now() > deadline) return got;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Say that the script came to its end. */
export function finished() {
  console.log(JSON.stringify({ finished: count }));
}

/** Where the gateway is and the connection string to send it. */
export const { GATEWAY_URL, DATABASE_URL } = process.env;
if (!GATEWAY_URL || !DATABASE_URL) throw new Error('GATEWAY_URL and DATABASE_URL must be set');
