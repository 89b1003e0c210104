import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { compare, concat, hex, unhex } from '../encoding.mjs';
import { owner_key } from '../index.mjs';
import {
  ed25519_public, message_C, record_message, sign_C, sign_record, transaction_id, verify_C, verify_record,
} from '../sealing.mjs';
import {
  consortium as cx, doctor, episode, hospital, other_consortium, other_doctor, other_episode, other_hospital,
} from './world.mjs';
import { to_parts } from './encoding.mjs';
import { G2_identity, G2_outside } from './groups.mjs';
import { fixed, fixed_scalar, flipped, of_point, VectorFile } from './vector.mjs';

/** A record's fields in JSON, to bytes; record_message checks them. */
const to_record = (fields) => ({
  digest: unhex(fields.digest),
  hdr: unhex(fields.hdr),
  O_rec: unhex(fields.O_rec),
  sealed_locator: unhex(fields.sealed_locator),
  entries: fields.entries.map(({ tag, pad }) => ({ tag: unhex(tag), pad: unhex(pad) })),
  R: unhex(fields.R),
  author: unhex(fields.author),
  institution: fields.institution,
  time: fields.time,
});

export const file = new VectorFile('signatures', ['E7', 'E8', 'E9', '(10)'], {
  sign: ({ consortium, context, parts, secret }) => {
    const x = to_parts(parts);
    return {
      message: hex(message_C(unhex(consortium), context, ...x)),
      key: hex(ed25519_public(unhex(secret))),
      signature: hex(sign_C(unhex(consortium), context, unhex(secret), ...x)),
    };
  },
  verify: ({ consortium, context, parts, key, signature }) => {
    verify_C(unhex(consortium), context, unhex(key), unhex(signature), ...to_parts(parts));
    return { stands: true };
  },
  sign_record: ({ consortium, record, secret }) => ({
    message: hex(record_message(unhex(consortium), to_record(record))),
    transaction: hex(transaction_id(unhex(consortium), to_record(record))),
    signature: hex(sign_record(unhex(consortium), to_record(record), unhex(secret))),
  }),
  verify_record: ({ consortium, record, signature }) => {
    verify_record(unhex(consortium), to_record(record), unhex(signature));
    return { transaction: hex(transaction_id(unhex(consortium), to_record(record))) };
  },
});

const consortium = hex(cx);

// E7

const parts = [{ bytes: hex(fixed('signed part')) }, { integer: '77' }];
const secret = hex(doctor.author.secret);
const made = file.accepts('a request', 'sign', { consortium, context: 'request', parts, secret });
const signed = { consortium, context: 'request', parts, key: made.key, signature: made.signature };
file.accepts('the request\'s signature stands', 'verify', signed);

// ZIP-215. The identity and the points of small order are written out from their definition.
const { Point } = ed25519;
const L = Point.Fn.ORDER;
const identity = concat(Uint8Array.of(1), new Uint8Array(31));
const little_endian = (value) => Uint8Array.from({ length: 32 }, (_, k) => Number((value >> BigInt(8 * k)) & 255n));
const field_prime = (1n << 255n) - 19n;
const identity_otherwise = little_endian(field_prime + 1n);
const zero_S = (R) => hex(concat(R, new Uint8Array(32)));
// R the identity and S = 0 satisfy the equation for every text if 8 A = 0.
for (const [name, key, R] of [
  ['the identity', identity, identity],
  ['the identity written as y = p + 1', identity_otherwise, identity_otherwise],
  ['of order 2', little_endian(field_prime - 1n), identity],
  ['of order 4 written as y = p', little_endian(field_prime), identity],
]) {
  file.refuses(`a signature that stands for every text, under a key that is ${name}`, 'verify', {
    ...signed, key: hex(key), signature: zero_S(R),
  }, 'bad-signature');
}
const mixed = mixed_order_signature();
file.accepts('ZIP-215: a key with a part of small order, which only the cofactored equation accepts', 'verify', {
  ...signed, ...mixed,
});

/** A = g^s * T with T of order 2; R = g^k; S = k + h s. Without the cofactor it holds only for even h. */
function mixed_order_signature() {
  const T = Point.fromBytes(little_endian(field_prime - 1n), true);
  const message = message_C(cx, 'request', ...to_parts(parts));
  const s = BigInt(`0x${hex(fixed('mixed s'))}`) % L;
  const A = Point.BASE.multiply(s).add(T).toBytes();
  for (let k = 1n; ; k += 1n) {
    const R = Point.BASE.multiply(k).toBytes();
    const digest = sha512(concat(R, A, message));
    const h = BigInt(`0x${hex(digest.slice().reverse())}`) % L;
    if (h % 2n === 1n) return { key: hex(A), signature: hex(concat(R, little_endian((k + h * s) % L))) };
  }
}

const signature = unhex(made.signature);
const S = BigInt(`0x${hex(signature.slice(32).reverse())}`);
for (const [name, fault, expect] of [
  ['under another context', { context: 'access' }, 'bad-signature'],
  ['in another consortium', { consortium: hex(other_consortium) }, 'bad-signature'],
  ['over an altered part', { parts: [parts[0], { integer: '78' }] }, 'bad-signature'],
  ['over the parts joined into one', { parts: [{ bytes: `${parts[0].bytes}000000000000004d` }] }, 'bad-signature'],
  ['by another key', { key: hex(other_doctor.author.key) }, 'bad-signature'],
  ['with R altered', { signature: hex(flipped(signature, 0)) }, 'bad-signature'],
  ['with S altered', { signature: hex(flipped(signature, 32)) }, 'bad-signature'],
  ['with S + L instead of S', { signature: hex(concat(signature.slice(0, 32), little_endian(S + L))) }, 'bad-signature'],
  ['with a key that is no point', { key: hex(no_point()) }, 'bad-signature'],
  ['of 63 bytes', { signature: made.signature.slice(0, -2) }, 'truncated'],
  ['of 65 bytes', { signature: `${made.signature}00` }, 'trailing'],
  ['with a key of 31 bytes', { key: made.key.slice(0, -2) }, 'truncated'],
]) {
  file.refuses(`a signature ${name}`, 'verify', { ...signed, ...fault }, expect);
}

function no_point() {
  for (let y = 2n; ; y += 1n) {
    try {
      Point.fromBytes(little_endian(y), true);
    } catch {
      return little_endian(y);
    }
  }
}

// E8, E9

const O_rec = owner_key(episode.E, fixed_scalar('a record\'s delta'));
const entries = Array.from({ length: 8 }, (_, k) => ({ tag: fixed(`tag ${k}`, 16), pad: fixed(`pad ${k}`, 16) }))
  .sort((one, two) => compare(one.tag, two.tag))
  .map(({ tag, pad }) => ({ tag: hex(tag), pad: hex(pad) }));
const record = {
  digest: hex(fixed('a digest')),
  hdr: hex(fixed('a hdr')),
  O_rec: of_point(O_rec),
  sealed_locator: hex(fixed('a sealed locator', 80)),
  entries,
  R: of_point(hospital.R),
  author: hex(doctor.author.key),
  institution: hospital.institution,
  time: 1767225600000,
};
const stated = file.accepts('a record of eight entries', 'sign_record', { consortium, record, secret });
file.accepts('the record\'s signature stands', 'verify_record', { consortium, record, signature: stated.signature });

const record_fault = (name, fault, expect, rest = {}) =>
  file.refuses(
    `a record ${name}`, 'verify_record',
    { consortium, record: { ...record, ...fault }, signature: stated.signature, ...rest }, expect,
  );
const other_context = hex(sign_C(
  cx, 'transaction', doctor.author.secret, ...record_parts(),
));
record_fault('signed under another context', {}, 'bad-signature', { signature: other_context });
record_fault('in another consortium', {}, 'bad-signature', { consortium: hex(other_consortium) });
record_fault('with another container', { digest: hex(fixed('another digest')) }, 'bad-signature');
record_fault('with another header', { hdr: hex(fixed('another hdr')) }, 'bad-signature');
record_fault(
  'hung on another episode', { O_rec: of_point(owner_key(other_episode.E, fixed_scalar('a record\'s delta'))) },
  'bad-signature',
);
record_fault('with another locator', { sealed_locator: hex(fixed('another locator', 80)) }, 'bad-signature');
record_fault('with another pad', { entries: [{ ...entries[0], pad: hex(fixed('another pad', 16)) }, ...entries.slice(1)] }, 'bad-signature');
record_fault('with an entry less', { entries: entries.slice(1) }, 'bad-signature');
record_fault('with another hospital\'s index', { R: of_point(other_hospital.R) }, 'bad-signature');
record_fault('with another author', { author: hex(other_doctor.author.key) }, 'bad-signature');
record_fault('of another institution', { institution: other_hospital.institution }, 'bad-signature');
record_fault('at another time', { time: record.time + 1 }, 'bad-signature');
record_fault('whose tags descend', { entries: entries.slice().reverse() }, 'invalid');
record_fault('with a tag twice', { entries: [entries[0], entries[0], ...entries.slice(2)] }, 'repeated');
record_fault('with a locator of 79 bytes', { sealed_locator: record.sealed_locator.slice(2) }, 'truncated');
record_fault('whose O_rec is the identity', { O_rec: hex(G2_identity) }, 'identity');
record_fault('whose O_rec is outside the subgroup', { O_rec: hex(G2_outside) }, 'not-in-subgroup');

function record_parts() {
  const { digest, hdr, sealed_locator, author, institution, time } = to_record(record);
  const joined = concat(...entries.flatMap(({ tag, pad }) => [unhex(tag), unhex(pad)]));
  return [digest, hdr, unhex(record.O_rec), sealed_locator, joined, unhex(record.R), author, institution, time];
}
