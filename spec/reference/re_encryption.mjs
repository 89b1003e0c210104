// Section 8 of spec/scheme.md: re-encryption.

import { concat, exactly, require } from './encoding.mjs';
import {
  decode_G1, decode_GT, e, enc_G1, enc_G2, enc_GT, g2, GT_equal, GT_inverse, GT_is_one, GT_power, GT_product, inverse,
  mod_p, power, product,
} from './groups.mjs';
import { H1, Hs } from './hashes.mjs';
import { condition, decode_header, hdr_of, verify_encapsulation } from './containers.mjs';

/** (14) S_j = H1_MASK(gid, seed, j). */
export const mask = (consortium, gid, seed, j) => H1(consortium, 'MASK', gid, exactly(seed, 32, 'a seed'), j);

/** (14) RK_j = H1_COND(PID, class)^a * S_j. */
export const re_encryption_key = (consortium, PID, section_class, a, S_j) =>
  product([power(condition(consortium, PID, section_class), a), S_j]);

/** (14) share_m = RK_j * A_1^m * A_2^(m^2) * ... * A_(t-1)^(m^(t-1)). */
export const share_of = (RK_j, A, m) =>
  product([RK_j, ...A.map((A_i, i) => power(A_i, BigInt(m) ** BigInt(i + 1)))]);

/** (14) D_0 = e(RK_j, g2), D_i = e(A_i, g2). */
export const commitments = (RK_j, A) => [RK_j, ...A].map((point) => e(point, g2));

/** (14) RKGen for one class; A: t - 1 points of G1. */
export function RKGen(consortium, { gid, seed, j, PID, section_class, a, n, A }) {
  const S_j = mask(consortium, gid, seed, j);
  const RK_j = re_encryption_key(consortium, PID, section_class, a, S_j);
  const shares = Array.from({ length: n }, (_, index) => share_of(RK_j, A, index + 1));
  return { S_j, RK_j, shares, D: commitments(RK_j, A) };
}

/** E23. C_m = prod D_i^(m^i). */
export function node_commitment(D, m) {
  require(m >= 1, 'invalid', 'nodes count from 1');
  const C = GT_product(D.map((D_i, i) => GT_power(D_i, BigInt(m) ** BigInt(i))));
  require(!GT_is_one(C), 'identity', 'a combination gives 1');
  return C;
}

/** E23. */
export function check_share(D, m, share) {
  const C_m = node_commitment(D, m);
  require(GT_equal(e(share, g2), C_m), 'bad-share', 'the share is not the one committed to');
  return C_m;
}

/** (15) ReEnc, E24: W_m = e(share_m, U), U from a header whose V stands. */
export function ReEnc(consortium, header_bytes, share) {
  const header = decode_header(header_bytes);
  verify_encapsulation(consortium, header);
  return { W_m: e(share, header.U), U: header.U, hdr: hdr_of(header_bytes) };
}

/** E24. The parts that a node signs with C = share. */
export const share_parts = ({ gid, transaction, hdr, j, m, U, W_m }) =>
  [gid, transaction, hdr, j, m, enc_G2(U), enc_GT(W_m)];

/** E25. lambda_m = prod over k != m of k / (k - m) mod p. */
export const lambda = (m, nodes) =>
  nodes
    .filter((k) => k !== m)
    .reduce((value, k) => mod_p(value * BigInt(k) * inverse(mod_p(BigInt(k - m)))), 1n);

/** E25. W = prod W_m^lambda_m over t distinct nodes. parts: [{m, W_m}]; only the first t are used. */
export function combine(t, parts) {
  const nodes = parts.map((part) => part.m);
  require(nodes.every((m) => m >= 1), 'invalid', 'nodes count from 1');
  require(new Set(nodes).size === nodes.length, 'repeated', 'a node stands twice');
  require(parts.length >= t, 'too-few', `${parts.length} parts, ${t} are needed`);
  const used = parts.slice(0, t);
  const places = nodes.slice(0, t);
  const W = GT_product(used.map((part) => GT_power(part.W_m, lambda(part.m, places))));
  require(!GT_is_one(W), 'identity', 'a combination gives 1');
  return W;
}

/** (16) Dec, E26. K = W / e(S_j, U). */
export function Dec(W, S_j, U) {
  const K = GT_product([W, GT_inverse(e(S_j, U))]);
  require(!GT_is_one(K), 'identity', 'a combination gives 1');
  return K;
}

const challenge = (consortium, { gid, transaction, hdr, j, m, U, C_m, W_m }, a1, a2) =>
  Hs(
    consortium, 'SHARE', gid, transaction, hdr, j, m, enc_G2(U), enc_GT(C_m), enc_GT(W_m), enc_GT(a1), enc_GT(a2),
  );

/** E27. statement: {gid, transaction, hdr, j, m, U, C_m, W_m}; P0 random in G1; 1,200 bytes. */
export function prove_share(consortium, statement, share, P0) {
  const a1 = e(P0, g2);
  const a2 = e(P0, statement.U);
  const h = challenge(consortium, statement, a1, a2);
  return concat(enc_GT(a1), enc_GT(a2), enc_G1(product([P0, power(share, h)])));
}

/** E27. It stands if e(z, g2) = a1 C_m^h and e(z, U) = a2 W_m^h. */
export function verify_share_proof(consortium, statement, proof) {
  exactly(proof, 1200, 'a proof of a share');
  const a1 = decode_GT(proof.slice(0, 576));
  const a2 = decode_GT(proof.slice(576, 1152));
  const z = decode_G1(proof.slice(1152));
  const h = challenge(consortium, statement, a1, a2);
  const stands =
    GT_equal(e(z, g2), GT_product([a1, GT_power(statement.C_m, h)])) &&
    GT_equal(e(z, statement.U), GT_product([a2, GT_power(statement.W_m, h)]));
  require(stands, 'lying-node', 'W_m does not come from the share');
}
