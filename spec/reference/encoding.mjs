// Section 1.1 of spec/scheme.md: byte strings.

/** A refusal. `kind` is one of the fixed error classes of spec/vectors/README.md. */
export class Refused extends Error {
  constructor(kind, why) {
    super(`${kind}: ${why}`);
    this.kind = kind;
  }
}

export function refuse(kind, why) {
  throw new Refused(kind, why);
}

export function require(condition, kind, why) {
  if (!condition) refuse(kind, why);
}

export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

export function unhex(text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new TypeError(`not lower-case hex: ${text.slice(0, 40)}`);
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

export const ascii = (text) => new TextEncoder().encode(text);

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function compare(a, b) {
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

export const equal = (a, b) => compare(a, b) === 0;

export function xor(a, b) {
  if (a.length !== b.length) throw new RangeError('xor of unequal lengths');
  return a.map((byte, i) => byte ^ b[i]);
}

/** `value` as `width` bytes, big-endian. */
export function big_endian(value, width) {
  let rest = BigInt(value);
  if (rest < 0n || rest >= 1n << BigInt(8 * width)) throw new RangeError(`${value} does not fit ${width} bytes`);
  const bytes = new Uint8Array(width);
  for (let i = width - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 255n);
    rest >>= 8n;
  }
  return bytes;
}

/** OS2IP: the bytes as a big-endian integer. */
export const to_integer = (bytes) => bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);

export const u8 = (value) => big_endian(value, 1);
export const u32 = (value) => big_endian(value, 4);
export const u64 = (value) => big_endian(value, 8);

/** A part of `enc`: bytes stay, text is its ASCII bytes, an integer its u64 big-endian bytes. */
function part_bytes(part) {
  if (part instanceof Uint8Array) return part;
  if (typeof part === 'string') return ascii(part);
  if (typeof part === 'number' || typeof part === 'bigint') return u64(part);
  throw new TypeError('a part of enc is bytes, text or an integer');
}

/** E1. For each part its length as u32 big-endian, then its bytes. */
export function enc(...parts) {
  return concat(...parts.map(part_bytes).flatMap((bytes) => [u32(bytes.length), bytes]));
}

/** The layouts' var(x) = u32 big-endian length, then x. */
export const variable = (bytes) => concat(u32(bytes.length), bytes);

/** Reads a fixed layout from bytes that nobody vouches for. */
export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count, what = 'field') {
    require(this.bytes.length - this.at >= count, 'truncated', `${what} is cut short`);
    const part = this.bytes.slice(this.at, this.at + count);
    this.at += count;
    return part;
  }

  integer(width, what) {
    return to_integer(this.take(width, what));
  }

  u8(what) {
    return Number(this.integer(1, what));
  }

  u32(what) {
    return Number(this.integer(4, what));
  }

  u64(what) {
    return this.integer(8, what);
  }

  /** The limit is checked before the length is believed. */
  variable(limit, what) {
    const length = this.u32(what);
    require(length <= limit, 'too-large', `${what} has ${length} bytes, at most ${limit} are allowed`);
    return this.take(length, what);
  }

  /** A count of at most `limit`, read with `width` bytes. */
  count(width, limit, what) {
    const count = Number(this.integer(width, what));
    require(count <= limit, 'too-large', `${what} is ${count}, at most ${limit} are allowed`);
    return count;
  }

  end() {
    require(this.at === this.bytes.length, 'trailing', 'bytes follow the end');
  }
}

/** Bytes of exactly `length`. */
export function exactly(bytes, length, what) {
  require(bytes.length >= length, 'truncated', `${what} is cut short`);
  require(bytes.length <= length, 'trailing', `bytes follow ${what}`);
  return bytes;
}
