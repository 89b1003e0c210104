// Section 1.2 of spec/scheme.md: hashes. Every function takes the consortium first.

import { bls12_381 } from '@noble/curves/bls12-381.js';
import { expand_message_xmd } from '@noble/curves/abstract/hash-to-curve.js';
import { extract as hkdf_extract, expand as hkdf_expand } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 as noble_sha256 } from '@noble/hashes/sha2.js';
import { ascii, enc, require, to_integer } from './encoding.mjs';
import { enc_GT, p } from './groups.mjs';

export const sha256 = (bytes) => noble_sha256(bytes);

/** The full tag of a name in the table of section 1.2. */
export const tag = (name) => `WILLIS-V1-${name}`;

/** in(T, x1, ..., xn) = enc(T, consortium, x1, ..., xn). */
export const in_ = (consortium, T, ...x) => enc(tag(T), consortium, ...x);

/** E2. hash_to_curve of RFC 9380 into G1. */
export function H1(consortium, T, ...x) {
  return bls12_381.G1.hashToCurve(in_(consortium, T, ...x), {
    DST: `${tag(T)}_BLS12381G1_XMD:SHA-256_SSWU_RO_`,
  });
}

/** E3. A scalar; 0 is refused. */
export function Hs(consortium, T, ...x) {
  const uniform = expand_message_xmd(in_(consortium, T, ...x), ascii(`${tag(T)}_XMD:SHA-256`), 48, noble_sha256);
  const scalar = to_integer(uniform) % p;
  require(scalar !== 0n, 'invalid', 'the hash is the scalar 0');
  return scalar;
}

/** E4. HMAC-SHA256(key, in(T, x...)), 32 bytes. */
export const PRF = (consortium, key, T, ...x) => hmac(noble_sha256, key, in_(consortium, T, ...x));

/** E5. HKDF-Extract; the salt is text. */
export const Extract = (salt, secret) => hkdf_extract(noble_sha256, secret, ascii(salt));

/** E5. HKDF-Expand(prk, in(T, x...), 32 bytes). */
export const Expand = (consortium, prk, T, ...x) => hkdf_expand(noble_sha256, prk, in_(consortium, T, ...x), 32);

/** E5. HT(k) for k in GT. */
export const HT = (k) => Extract('willis/v1/HT', enc_GT(k));

/** The tags GID, WITHDRAWAL-ID and INBOX-COMMITMENT: SHA-256 of in(T, x...). */
export const SHA = (consortium, T, ...x) => sha256(in_(consortium, T, ...x));
