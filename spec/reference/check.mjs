// node check.mjs [DIRECTORY]: regenerates every vector in memory, names the first difference to the
// files of DIRECTORY (../vectors unless told) and exits non-zero; then runs every vector of those
// files: each positive one must give its output, each negative one must be refused as it declares.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ALGORITHMS, generate } from './generate.mjs';
import { known_answers } from './known_answers.mjs';
import { VectorFile } from './cases/vector.mjs';

const CLASSES = [
  'truncated', 'trailing', 'too-large', 'invalid', 'identity', 'not-in-subgroup', 'off-curve', 'non-canonical',
  'bad-signature', 'bad-proof', 'wrong-key', 'altered', 'cut-short', 'bad-padding', 'not-this-locator', 'cannot-open',
  'bad-share', 'lying-node', 'foreign-grant', 'foreign-encapsulation', 'too-few', 'repeated', 'not-a-recipient',
  'lying-server', 'no-hit',
];
const MIN_NEGATIVE = 110;
const MAX_FILE = 600 * 1000;
const MAX_ALL = 1500 * 1000;

const directory = process.argv[2] ?? fileURLToPath(new URL('../vectors', import.meta.url));

function fail(message) {
  console.error(message);
  process.exit(1);
}

for (const { name, found, expected } of known_answers()) {
  if (found !== expected) fail(`known answer, ${name}: found ${found}, expected ${expected}`);
}

const listed = readdirSync(directory).filter((name) => name.endsWith('.json')).sort();
const expected_names = ALGORITHMS.map((algorithm) => `${algorithm}.json`).sort();
if (listed.join() !== expected_names.join()) fail(`the files are ${listed.join(', ')}; expected ${expected_names.join(', ')}`);

const generated = await generate();
const texts = new Map(listed.map((name) => [name, readFileSync(join(directory, name), 'utf8')]));

for (const file of generated) {
  const name = `${file.algorithm}.json`;
  const stored = texts.get(name);
  if (stored !== file.text()) fail(`${name}: ${first_difference(JSON.parse(stored), JSON.parse(file.text()))}`);
}

/** The place of the first difference, in words. */
function first_difference(stored, made) {
  for (const kind of ['positive', 'negative']) {
    for (let k = 0; k < Math.max(stored[kind].length, made[kind].length); k++) {
      const [one, other] = [stored[kind][k], made[kind][k]];
      if (one === undefined) return `the ${kind} vector "${other.name}" is missing`;
      if (other === undefined) return `the ${kind} vector "${one.name}" is no longer made`;
      if (JSON.stringify(one) !== JSON.stringify(other)) {
        const field = ['name', 'call', 'input', 'output', 'expect'].find((key) => JSON.stringify(one[key]) !== JSON.stringify(other[key]));
        return `the ${kind} vector "${one.name}" differs in "${field}"`;
      }
    }
  }
  return 'the formatting, the algorithm or the equations differ';
}

const totals = { positive: 0, negative: 0, bytes: 0 };
for (const file of generated) {
  const name = `${file.algorithm}.json`;
  const text = texts.get(name);
  const stored = Object.assign(new VectorFile(file.algorithm, file.equations, file.calls), JSON.parse(text));
  for (const vector of stored.positive) {
    const output = stored.run(vector);
    if (!same(output, vector.output)) fail(`${name}: "${vector.name}" gives another output`);
  }
  for (const vector of stored.negative) {
    if (!CLASSES.includes(vector.expect)) fail(`${name}: "${vector.name}" expects the unknown class ${vector.expect}`);
    const found = stored.refusal(vector);
    if (found !== vector.expect) fail(`${name}: "${vector.name}" is ${found}, declared ${vector.expect}`);
  }
  totals.positive += stored.positive.length;
  totals.negative += stored.negative.length;
  totals.bytes += text.length;
  if (text.length > MAX_FILE) fail(`${name} has ${text.length} bytes, at most ${MAX_FILE} are allowed`);
}

function same(one, other) {
  if (one === null || typeof one !== 'object') return one === other;
  if (other === null || typeof other !== 'object') return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => same(one[key], other[key]));
}

if (totals.bytes > MAX_ALL) fail(`the files have ${totals.bytes} bytes, at most ${MAX_ALL} are allowed`);
if (totals.negative < MIN_NEGATIVE) fail(`${totals.negative} negative vectors, at least ${MIN_NEGATIVE} are asked`);
if (totals.negative <= totals.positive) fail('there must be more negative vectors than positive ones');
console.log(`${listed.length} files: ${totals.positive} positive and ${totals.negative} negative vectors hold`);
