// What every file of cases uses: fixed randomness, the conversion between vectors and values, and
// the recording of a vector by running it.

import { big_endian, concat, ascii, exactly, hex, Refused, to_integer, unhex } from '../encoding.mjs';
import { decode_G1, decode_G2, decode_GT, decode_scalar, enc_GT, enc_scalar, g1, g2, p, power } from '../groups.mjs';
import { sha256 } from '../hashes.mjs';

/** Bytes that look random and are the same in every run. */
export function fixed(label, length = 32) {
  const blocks = [];
  for (let k = 0; 32 * k < length; k++) blocks.push(sha256(ascii(`willis vectors: ${label}: ${k}`)));
  return concat(...blocks).slice(0, length);
}

export const fixed_scalar = (label) => (to_integer(fixed(label, 48)) % (p - 1n)) + 1n;
export const fixed_G1 = (label) => power(g1, fixed_scalar(label));
export const fixed_G2 = (label) => power(g2, fixed_scalar(label));

/** Values to JSON: bytes, points, elements of GT and scalars are hex. */
export const of_point = (P) => hex(P.toBytes(true));
export const of_GT = (x) => hex(enc_GT(x));
export const of_scalar = (s) => hex(enc_scalar(s));
/** A scalar that may break the rules, for faulty vectors. */
export const of_integer = (s) => hex(big_endian(s, 32));

/** JSON to values, with every check that decoding asks for. */
export const to_bytes = (field) => (typeof field === 'string' ? unhex(field) : repeated(field));
export const to_G1 = (field) => decode_G1(unhex(field));
export const to_G2 = (field) => decode_G2(unhex(field));
export const to_GT = (field) => decode_GT(unhex(field));
export const to_scalar = (field) => decode_scalar(unhex(field));
/** A 128-bit weight. */
export const to_weight = (field) => to_integer(exactly(unhex(field), 16, 'a weight'));

/** {"repeat": "ab", "count": 3} stands for ababab. */
function repeated({ repeat, count }) {
  const unit = unhex(repeat);
  const bytes = new Uint8Array(unit.length * count);
  for (let k = 0; k < count; k++) bytes.set(unit, k * unit.length);
  return bytes;
}

/** Bytes with some of them changed. */
export function changed(bytes, at, ...values) {
  const copy = bytes.slice();
  copy.set(values.flat(), at < 0 ? copy.length + at : at);
  return copy;
}

/** Bytes with one bit turned over. */
export const flipped = (bytes, at) => {
  const place = at < 0 ? bytes.length + at : at;
  return changed(bytes, place, bytes[place] ^ 1);
};

/** How `faulty` is put together from `whole`, the field's bytes in the vector `of`; see VectorFile.resolved. */
export function pieces_of(of, whole, faulty) {
  if (whole.length !== faulty.length) {
    let prefix = 0;
    while (prefix < Math.min(whole.length, faulty.length) && whole[prefix] === faulty[prefix]) prefix += 1;
    let suffix = 0;
    while (
      suffix < Math.min(whole.length, faulty.length) - prefix && whole.at(-1 - suffix) === faulty.at(-1 - suffix)
    ) suffix += 1;
    const pieces = [
      [0, prefix], hex(faulty.slice(prefix, faulty.length - suffix)), [whole.length - suffix, whole.length],
    ];
    return { of, pieces: pieces.filter((one) => (typeof one === 'string' ? one !== '' : one[0] < one[1])) };
  }
  const pieces = [];
  for (let from = 0; from < whole.length; ) {
    const same = whole[from] === faulty[from];
    let to = from;
    // A short run of equal bytes inside a change belongs to the change.
    while (to < whole.length && (same ? whole[to] === faulty[to] : !equal_run(whole, faulty, to))) to += 1;
    pieces.push(same ? [from, to] : hex(faulty.slice(from, to)));
    from = to;
  }
  return { of, pieces };
}

const equal_run = (a, b, from) => {
  for (let k = from; k < from + 8; k++) if (k >= a.length || a[k] !== b[k]) return false;
  return true;
};

/**
 * A file of vectors. `calls` maps a call's name to a function from input to output; it throws Refused
 * where the input must be refused.
 */
export class VectorFile {
  constructor(algorithm, equations, calls) {
    this.algorithm = algorithm;
    this.equations = equations;
    this.calls = calls;
    this.positive = [];
    this.negative = [];
  }

  /** Records an input with what comes out of it, and returns what came out. */
  accepts(name, call, input) {
    this.forbid_second(name);
    const output = this.run({ call, input });
    this.positive.push({ name, call, input, output });
    return output;
  }

  /** Records an input that must be refused with the error class `expect`. */
  refuses(name, call, input, expect) {
    this.forbid_second(name);
    const vector = { name, call, input, expect };
    const found = this.refusal(vector);
    if (found !== expect) throw new Error(`${this.algorithm}: ${name}: declared ${expect}, found ${found}`);
    this.negative.push(vector);
  }

  run({ call, input }) {
    if (this.calls[call] === undefined) throw new Error(`${this.algorithm}: no call ${call}`);
    return this.calls[call](this.resolved(input));
  }

  /** The error class with which a vector is refused, or "accepted". */
  refusal(vector) {
    try {
      this.run(vector);
    } catch (refusal) {
      if (refusal instanceof Refused) return refusal.kind;
      throw refusal;
    }
    return 'accepted';
  }

  /**
   * A field {"of": name, "pieces": [[from, to], "hex", ...]} is put together from the field of the same
   * name in the input, or else the output, of the positive vector `name`.
   */
  resolved(input) {
    return Object.fromEntries(Object.entries(input).map(([field, value]) => {
      if (value === null || value.of === undefined) return [field, value];
      const source = this.positive.find((vector) => vector.name === value.of);
      const whole = source.input[field] ?? source.output[field];
      return [field, value.pieces.map((one) => (typeof one === 'string' ? one : whole.slice(2 * one[0], 2 * one[1]))).join('')];
    }));
  }

  forbid_second(name) {
    if ([...this.positive, ...this.negative].some((vector) => vector.name === name)) {
      throw new Error(`${this.algorithm}: the name "${name}" stands twice`);
    }
  }

  /** The file's text: keys sorted, two spaces, one line feed at the end. */
  text() {
    const { algorithm, equations, positive, negative } = this;
    return `${JSON.stringify(sorted({ algorithm, equations, positive, negative }), null, 2)}\n`;
  }
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}
