// node generate.mjs OUTDIR: prints every vector file.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const ALGORITHMS = [
  'encoding', 'hashes', 'groups', 'keys', 'pseudonyms', 'signatures', 'sealing', 'containers', 'index', 'query',
  're_encryption', 'grants', 'agents', 'access_log',
];

/** Every file, generated in memory. */
export const generate = async () =>
  Promise.all(ALGORITHMS.map(async (algorithm) => (await import(`./cases/${algorithm}.mjs`)).file));

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const directory = process.argv[2];
  if (directory === undefined) {
    console.error('usage: node generate.mjs OUTDIR');
    process.exit(2);
  }
  mkdirSync(directory, { recursive: true });
  const files = await generate();
  for (const file of files) writeFileSync(join(directory, `${file.algorithm}.json`), file.text());
  const count = (kind) => files.reduce((sum, file) => sum + file[kind].length, 0);
  console.log(`${files.length} files, ${count('positive')} positive and ${count('negative')} negative vectors`);
}
