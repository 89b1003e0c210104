import { bls12_381 } from '@noble/curves/bls12-381.js';
import { big_endian, concat, hex, to_integer, unhex } from '../encoding.mjs';
import {
  e, enc_GT, g1, g2, GT_inverse, GT_product, p, power, product, q,
} from '../groups.mjs';
import { sha256 } from '../hashes.mjs';
import {
  changed, fixed, fixed_G1, fixed_G2, fixed_scalar, of_GT, of_integer, of_point, of_scalar, to_G1, to_G2, to_GT,
  to_scalar, VectorFile,
} from './vector.mjs';

export const file = new VectorFile('groups', ['1.3', 'E6'], {
  decode_G1: ({ bytes }) => ({ bytes: of_point(to_G1(bytes)) }),
  decode_G2: ({ bytes }) => ({ bytes: of_point(to_G2(bytes)) }),
  decode_scalar: ({ bytes }) => ({ bytes: of_scalar(to_scalar(bytes)) }),
  decode_GT: ({ bytes }) => ({ bytes: of_GT(to_GT(bytes)) }),
  power_G1: ({ P, s }) => ({ point: of_point(power(to_G1(P), to_scalar(s))) }),
  power_G2: ({ P, s }) => ({ point: of_point(power(to_G2(P), to_scalar(s))) }),
  product_G1: ({ points }) => ({ point: of_point(product(points.map(to_G1))) }),
  product_G2: ({ points }) => ({ point: of_point(product(points.map(to_G2))) }),
  pairing: ({ P, Q }) => {
    const bytes = enc_GT(e(to_G1(P), to_G2(Q)));
    return { GT: hex(bytes), sha256: hex(sha256(bytes)) };
  },
});

// Faulty encodings, found by search or by arithmetic, never copied from anywhere.

const P = fixed_G1('groups P');
const Q = fixed_G2('groups Q');
const P_bytes = P.toBytes(true);
const Q_bytes = Q.toBytes(true);

const { Fp, Fp2 } = bls12_381.fields;

/** The compressed bytes of the first x from `start` on that has (or has not) a point. */
export function G1_with_x(start, on_curve) {
  for (let x = start; ; x += 1n) {
    const square = Fp.add(Fp.pow(x, 3n), 4n);
    if ((Fp.pow(square, (q - 1n) / 2n) === 1n) === on_curve) return changed_flag(big_endian(x, 48));
  }
}

export function G2_with_x(start, on_curve) {
  for (let x = start; ; x += 1n) {
    const c = { c0: x, c1: 0n };
    const square = Fp2.add(Fp2.mul(Fp2.mul(c, c), c), { c0: 4n, c1: 4n });
    const is_square = Fp2.eql(Fp2.pow(square, (q * q - 1n) / 2n), Fp2.ONE);
    if (is_square === on_curve) return changed_flag(concat(big_endian(0n, 48), big_endian(x, 48)));
  }
}

function changed_flag(bytes) {
  return changed(bytes, 0, bytes[0] | 0x80);
}

export const G1_off_curve = G1_with_x(5n, false);
export const G1_outside = G1_with_x(100n, true);
export const G2_off_curve = G2_with_x(5n, false);
export const G2_outside = G2_with_x(100n, true);
export const G1_identity = concat(Uint8Array.of(0xc0), new Uint8Array(47));
export const G2_identity = concat(Uint8Array.of(0xc0), new Uint8Array(95));
export const GT_one = concat(big_endian(1n, 48), new Uint8Array(528));
/** A Miller loop's value before the final exponentiation: in Fp12, outside GT. */
export const GT_outside = enc_GT(bls12_381.pairing(g1, g2, false));
/**
 * The same value to the power (q^6 - 1)(q^2 + 1): in the cyclotomic subgroup of order q^4 - q^2 + 1, of
 * which GT is a small part. A decoder that tests the cheap half of membership only takes it.
 */
export const GT_cyclotomic = enc_GT(easy_part(bls12_381.pairing(g1, g2, false)));

function easy_part(x) {
  const { Fp12 } = bls12_381.fields;
  const y = Fp12.mul(Fp12.conjugate(x), Fp12.inv(x));
  return Fp12.mul(Fp12.frobeniusMap(y, 2), y);
}

file.accepts('the generator of G1', 'decode_G1', { bytes: of_point(g1) });
file.accepts('a point of G1', 'decode_G1', { bytes: of_point(P) });
file.accepts('the generator of G2', 'decode_G2', { bytes: of_point(g2) });
file.accepts('a point of G2', 'decode_G2', { bytes: of_point(Q) });
file.accepts('the scalar 1', 'decode_scalar', { bytes: of_scalar(1n) });
file.accepts('the scalar p - 1', 'decode_scalar', { bytes: of_scalar(p - 1n) });
file.accepts('a power in G1', 'power_G1', { P: of_point(P), s: of_scalar(fixed_scalar('groups s')) });
file.accepts('a power in G2', 'power_G2', { P: of_point(Q), s: of_scalar(fixed_scalar('groups s')) });
file.accepts('a product in G1', 'product_G1', { points: [of_point(P), of_point(g1)] });
file.accepts('a product in G2', 'product_G2', { points: [of_point(Q), of_point(g2)] });
file.accepts('the pairing of the generators', 'pairing', { P: of_point(g1), Q: of_point(g2) });
file.accepts('the pairing of two points', 'pairing', { P: of_point(P), Q: of_point(Q) });
file.accepts('an element of GT', 'decode_GT', { bytes: of_GT(e(P, Q)) });
file.accepts('the inverse of an element of GT', 'decode_GT', { bytes: of_GT(GT_inverse(e(P, Q))) });

const point_faults = (call, bytes, faults) => {
  for (const [name, faulty, expect] of faults) file.refuses(`${call}: ${name}`, call, { bytes: hex(faulty) }, expect);
};

point_faults('decode_G1', P_bytes, [
  ['no bytes', new Uint8Array(0), 'truncated'],
  ['one byte too few', P_bytes.slice(0, 47), 'truncated'],
  ['one byte too many', concat(P_bytes, Uint8Array.of(0)), 'trailing'],
  ['wrong group: a point of G2', Q_bytes, 'trailing'],
  ['the uncompressed form of the generator', g1.toBytes(false), 'trailing'],
  ['the compression flag is missing', changed(P_bytes, 0, P_bytes[0] & 0x7f), 'non-canonical'],
  ['the identity', G1_identity, 'identity'],
  ['the identity with the sign flag', changed(G1_identity, 0, 0xe0), 'non-canonical'],
  ['the identity flag over a coordinate', changed(P_bytes, 0, P_bytes[0] | 0x40), 'non-canonical'],
  ['the identity flag with one bit behind it', changed(G1_identity, 47, 1), 'non-canonical'],
  ['x = q', changed_flag(big_endian(q, 48)), 'non-canonical'],
  ['x + q instead of x', changed_flag(big_endian(smallest_G1_x() + q, 48)), 'non-canonical'],
  ['off the curve', G1_off_curve, 'off-curve'],
  ['on the curve, outside the subgroup', G1_outside, 'not-in-subgroup'],
  ['the point (0, 2), of order 3', changed_flag(big_endian(0n, 48)), 'not-in-subgroup'],
]);

/** A small x of a point of the curve. */
function smallest_G1_x() {
  const bytes = G1_with_x(1n, true);
  return to_integer(changed(bytes, 0, bytes[0] & 0x1f));
}

point_faults('decode_G2', Q_bytes, [
  ['one byte too few', Q_bytes.slice(0, 95), 'truncated'],
  ['one byte too many', concat(Q_bytes, Uint8Array.of(0)), 'trailing'],
  ['wrong group: a point of G1', P_bytes, 'truncated'],
  ['the uncompressed form of the generator', g2.toBytes(false), 'trailing'],
  ['the compression flag is missing', changed(Q_bytes, 0, Q_bytes[0] & 0x7f), 'non-canonical'],
  ['the identity', G2_identity, 'identity'],
  ['the identity with the sign flag', changed(G2_identity, 0, 0xe0), 'non-canonical'],
  ['x has c1 = q', changed_flag(concat(big_endian(q, 48), Q_bytes.slice(48))), 'non-canonical'],
  ['x has c0 = q', concat(Q_bytes.slice(0, 48), big_endian(q, 48)), 'non-canonical'],
  ['off the curve', G2_off_curve, 'off-curve'],
  ['on the curve, outside the subgroup', G2_outside, 'not-in-subgroup'],
]);

point_faults('decode_scalar', null, [
  ['zero', new Uint8Array(32), 'invalid'],
  ['p', unhex(of_integer(p)), 'non-canonical'],
  ['p + 1', unhex(of_integer(p + 1n)), 'non-canonical'],
  ['2^256 - 1', new Uint8Array(32).fill(0xff), 'non-canonical'],
  ['one byte too few', fixed('scalar', 31), 'truncated'],
  ['one byte too many', concat(unhex(of_scalar(5n)), Uint8Array.of(0)), 'trailing'],
]);

const T_bytes = enc_GT(e(P, Q));
const coefficient = (k) => to_integer(T_bytes.slice(48 * k, 48 * k + 48));
point_faults('decode_GT', T_bytes, [
  ['1', GT_one, 'identity'],
  ['0', new Uint8Array(576), 'not-in-subgroup'],
  ['2, an element of the base field', concat(big_endian(2n, 48), new Uint8Array(528)), 'not-in-subgroup'],
  ['-1, of order 2', concat(big_endian(q - 1n, 48), new Uint8Array(528)), 'not-in-subgroup'],
  ['outside the subgroup: a Miller loop without final exponentiation', GT_outside, 'not-in-subgroup'],
  ['outside the subgroup: of the cyclotomic subgroup, not of order p', GT_cyclotomic, 'not-in-subgroup'],
  ['outside the subgroup: an element of GT times -1', enc_GT(minus(e(P, Q))), 'not-in-subgroup'],
  ['the first coefficient plus q', changed(T_bytes, 0, [...big_endian(coefficient(0) + q, 48)]), 'non-canonical'],
  ['the last coefficient plus q', changed(T_bytes, 528, [...big_endian(coefficient(11) + q, 48)]), 'non-canonical'],
  ['coefficients in the order c1, c0', concat(T_bytes.slice(288), T_bytes.slice(0, 288)), 'not-in-subgroup'],
  ['one byte too few', T_bytes.slice(0, 575), 'truncated'],
  ['one byte too many', concat(T_bytes, Uint8Array.of(0)), 'trailing'],
]);

function minus(x) {
  const one = bls12_381.fields.Fp12.ONE;
  return GT_product([x, bls12_381.fields.Fp12.neg(one)]);
}

file.refuses(
  'a product in G1 that is the identity', 'product_G1',
  { points: [of_point(P), of_point(P.negate())] }, 'identity',
);
file.refuses(
  'a product in G2 that is the identity', 'product_G2',
  { points: [of_point(Q), of_point(Q.negate())] }, 'identity',
);
file.refuses('a power with the scalar 0', 'power_G1', { P: of_point(P), s: of_integer(0n) }, 'invalid');
file.refuses(
  'a pairing whose points are exchanged', 'pairing', { P: of_point(Q), Q: of_point(P) }, 'trailing',
);
