// Section 1.3 of spec/scheme.md: BLS12-381, points, scalars, GT.

import { bls12_381 } from '@noble/curves/bls12-381.js';
import { big_endian, concat, exactly, refuse, require, to_integer } from './encoding.mjs';

const { Fp, Fp2, Fp12 } = bls12_381.fields;
const Point1 = bls12_381.G1.Point;
const Point2 = bls12_381.G2.Point;

/** The order of G1, G2 and GT, and of the scalars. */
export const p = bls12_381.fields.Fr.ORDER;
/** The characteristic of the base field. */
export const q = bls12_381.fields.Fp.ORDER;
export const g1 = Point1.BASE;
export const g2 = Point2.BASE;

export const mod_p = (x) => ((x % p) + p) % p;

/** 1/x mod p, by Fermat. */
export function inverse(x) {
  let result = 1n;
  let base = mod_p(x);
  for (let exponent = p - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % p;
    base = (base * base) % p;
  }
  return result;
}

/** P^s. A result that is the identity is refused. */
export function power(P, s) {
  const scalar = mod_p(s);
  require(scalar !== 0n && !P.is0(), 'identity', 'a combination gives the identity');
  return P.multiply(scalar);
}

/** The product of points of one group. A result that is the identity is refused. */
export function product(points) {
  const whole = points.reduce((left, right) => left.add(right));
  require(!whole.is0(), 'identity', 'a combination gives the identity');
  return whole;
}

/** P^p by double and add, which asks nothing of the library's own subgroup test. */
function has_order_p(P) {
  let result = null;
  for (const bit of p.toString(2)) {
    if (result !== null) result = result.double();
    if (bit === '1') result = result === null ? P : result.add(P);
  }
  return result.is0();
}

const larger = (y) => y > (q - 1n) / 2n;

/** What differs between the curve over Fq, y^2 = x^3 + 4, and the one over Fq2, y^2 = x^3 + 4(1 + u). */
const CURVE1 = {
  name: 'a point of G1', length: 48, Point: Point1, F: Fp, b: 4n, half: (q - 1n) / 2n,
  coordinate: ([c]) => c,
  sign: (y) => larger(y),
};
const CURVE2 = {
  name: 'a point of G2', length: 96, Point: Point2, F: Fp2, b: { c0: 4n, c1: 4n }, half: (q * q - 1n) / 2n,
  coordinate: ([c1, c0]) => ({ c0, c1 }),
  sign: (y) => (y.c1 === 0n ? larger(y.c0) : larger(y.c1)),
};

function decode_point({ name, length, Point, F, b, half, coordinate, sign }, bytes) {
  exactly(bytes, length, name);
  const [compressed, infinity, sign_flag] = [0x80, 0x40, 0x20].map((flag) => (bytes[0] & flag) !== 0);
  require(compressed, 'non-canonical', `${name} is not compressed`);
  const rest = bytes.slice();
  rest[0] &= 0x1f;
  if (infinity) {
    require(!sign_flag && rest.every((byte) => byte === 0), 'non-canonical', `${name} spells the identity otherwise`);
    refuse('identity', `${name} is the identity`);
  }
  const c = [];
  for (let at = 0; at < length; at += 48) {
    c.push(to_integer(rest.slice(at, at + 48)));
    require(c.at(-1) < q, 'non-canonical', `${name} has a coordinate >= q`);
  }
  const x = coordinate(c);
  const square = F.add(F.mul(F.mul(x, x), x), b);
  require(F.eql(F.pow(square, half), F.ONE), 'off-curve', `${name} has no point with this x`);
  const root = F.sqrt(square);
  const point = Point.fromAffine({ x, y: sign(root) === sign_flag ? root : F.neg(root) });
  require(has_order_p(point), 'not-in-subgroup', `${name} lies outside the subgroup`);
  return point;
}

/** A point of G1 from 48 bytes. */
export const decode_G1 = (bytes) => decode_point(CURVE1, bytes);
/** A point of G2 from 96 bytes. */
export const decode_G2 = (bytes) => decode_point(CURVE2, bytes);

function encode_point(P) {
  require(!P.is0(), 'identity', 'the identity is never written');
  return P.toBytes(true);
}

export const enc_G1 = encode_point;
export const enc_G2 = encode_point;

/** A scalar from 32 bytes; 0 and values >= p are refused. */
export function decode_scalar(bytes) {
  const scalar = to_integer(exactly(bytes, 32, 'a scalar'));
  require(scalar !== 0n, 'invalid', 'a scalar is 0');
  require(scalar < p, 'non-canonical', 'a scalar is >= p');
  return scalar;
}

export function enc_scalar(scalar) {
  require(scalar !== 0n, 'invalid', 'a scalar is 0');
  return big_endian(scalar, 32);
}

/** e: G1 x G2 -> GT. */
export const e = (P, Q) => bls12_381.pairing(P, Q);

/** E6. The twelve coefficients, 48 bytes big-endian each. */
export function enc_GT(x) {
  return concat(
    ...[x.c0, x.c1].flatMap((six) =>
      [six.c0, six.c1, six.c2].flatMap((two) => [two.c0, two.c1].map((coefficient) => big_endian(coefficient, 48))),
    ),
  );
}

/** E6. An element of GT other than 1 from 576 bytes. */
export function decode_GT(bytes) {
  exactly(bytes, 576, 'an element of GT');
  const c = [];
  for (let at = 0; at < 576; at += 48) {
    c.push(to_integer(bytes.slice(at, at + 48)));
    require(c.at(-1) < q, 'non-canonical', 'a coefficient is >= q');
  }
  const two = (i) => ({ c0: c[i], c1: c[i + 1] });
  const six = (i) => ({ c0: two(i), c1: two(i + 2), c2: two(i + 4) });
  const x = Fp12.create({ c0: six(0), c1: six(6) });
  require(!Fp12.eql(x, Fp12.ONE), 'identity', 'an element of GT is 1');
  require(Fp12.eql(Fp12.pow(x, p), Fp12.ONE), 'not-in-subgroup', 'an element lies outside GT');
  return x;
}

export const GT_product = (elements) => elements.reduce((left, right) => Fp12.mul(left, right), Fp12.ONE);
export const GT_power = (x, s) => Fp12.pow(x, mod_p(s));
export const GT_inverse = (x) => Fp12.inv(x);
export const GT_equal = (x, y) => Fp12.eql(x, y);
export const GT_is_one = (x) => Fp12.eql(x, Fp12.ONE);
