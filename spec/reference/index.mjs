// Section 7 of spec/scheme.md: the index, trapdoors and the query.

import { concat, enc, equal, exactly, Refused, require, xor } from './encoding.mjs';
import { decode_scalar, e, enc_G2, enc_scalar, g2, GT_equal, inverse, power, product } from './groups.mjs';
import { Expand, Extract, H1, Hs, HT, PRF } from './hashes.mjs';
import { aes_open, aes_seal } from './sealing.mjs';

const ZERO_NONCE = new Uint8Array(12);
/** E22. So many missing entries in a row end a search. */
export const GAP = 8;

/** (11) Hw = H1_KW(PID, institution, writer epoch, w); w has 0 to 256 bytes. */
export function keyword_point(consortium, PID, institution, writer_epoch, w) {
  require(w.length <= 256, 'too-large', 'a keyword has at most 256 bytes');
  return H1(consortium, 'KW', exactly(PID, 32, 'a PID'), institution, writer_epoch, w);
}

/** (11) client -> server. */
export const blind = (Hw, b) => power(Hw, b);

/** (11) server -> client. */
export const raise = (blinded, y) => power(blinded, y);

/** (11) The client removes b and checks all of one answer at once. items: [{Hw, b, raised, weight}]. */
export function unblind(R, items) {
  const raised = items.map((item) => power(item.raised, inverse(item.b)));
  const left = product(raised.map((point, k) => power(point, items[k].weight)));
  const right = product(items.map((item) => power(item.Hw, item.weight)));
  require(GT_equal(e(left, g2), e(right, R)), 'lying-server', 'the server raised to another exponent');
  return raised;
}

/** (11) K_w = HT(e(Hw^y, X)). */
export const keyword_key = (Hw_y, X) => HT(e(Hw_y, X));

/** (11) tag = PRF(K_w, TAG, i)[..16]. */
export const tag_of = (consortium, K_w, i) => PRF(consortium, K_w, 'TAG', i).slice(0, 16);

/** (11) pad = PRF(K_w, PAD, i, O_rec)[..16] XOR LK; the same call gives LK back from a pad (E22). */
export const mask_LK = (consortium, K_w, i, O_rec, LK) =>
  xor(PRF(consortium, K_w, 'PAD', i, enc_G2(O_rec)).slice(0, 16), exactly(LK, 16, 'LK or a pad'));

/** E18. What the writer epoch's allocator is asked with. */
export const allocation_id = (consortium, K_w) => PRF(consortium, K_w, 'ALLOC');

/** E19. E = O * g2^Hs_PID(PID). */
export const episode_key = (consortium, O, PID) => product([O, power(g2, Hs(consortium, 'PID', PID))]);

/** E19. O_rec = E * g2^delta. */
export const owner_key = (E, delta) => product([E, power(g2, delta)]);

const locator_key = (consortium, LK, R, hdr) =>
  Expand(consortium, Extract('willis/v1/LK', LK), 'LOCATOR', enc_G2(R), hdr);

const locator_aad = (record) =>
  enc(record.digest, record.hdr, enc_G2(record.O_rec), record.author, record.institution);

/** E19. record: {digest, hdr, O_rec, author, institution, R}; 80 bytes. */
export function seal_locator(consortium, LK, record, address, delta) {
  exactly(address, 32, 'an address');
  return seal_locator_bytes(consortium, LK, record, concat(address, enc_scalar(delta)));
}

/** The same over any 64 bytes; used only to make faulty vectors. */
export const seal_locator_bytes = (consortium, LK, record, bytes) =>
  aes_seal(locator_key(consortium, LK, record.R, record.hdr), ZERO_NONCE, locator_aad(record), bytes);

/** E19, E22. */
export function open_locator(consortium, LK, record, sealed) {
  exactly(sealed, 80, 'a sealed locator');
  const key = locator_key(consortium, exactly(LK, 16, 'LK'), record.R, record.hdr);
  const opened = aes_open(key, ZERO_NONCE, locator_aad(record), sealed, 'not-this-locator');
  return { address: opened.slice(0, 32), delta: decode_scalar(opened.slice(32)) };
}

/** (12) TokenGen, E20. T = Hw^x. */
export const TokenGen = (Hw, x) => power(Hw, x);

/** (13) Query, E21. K_w = HT(e(T, R)). */
export const query_key = (T, R) => HT(e(T, R));

/**
 * (13) E22. table: [{R, tag, pad, O_rec, digest, hdr, author, institution, sealed_locator}]. An entry
 * whose locator does not open is no hit, but it is not missing either: it ends no search.
 */
export function Query(consortium, T, R, table) {
  const K_w = query_key(T, R);
  const hits = [];
  let missing = 0;
  for (let i = 0; missing < GAP; i++) {
    const tag = tag_of(consortium, K_w, i);
    const found = table.filter((row) => row.R.equals(R) && equal(row.tag, tag));
    if (found.length === 0) {
      missing += 1;
      continue;
    }
    missing = 0;
    for (const row of found) {
      const LK = mask_LK(consortium, K_w, i, row.O_rec, row.pad);
      try {
        hits.push({ i, tag, LK, hdr: row.hdr, ...open_locator(consortium, LK, row, row.sealed_locator) });
      } catch (refusal) {
        if (!(refusal instanceof Refused)) throw refusal;
      }
    }
  }
  require(hits.length > 0, 'no-hit', 'the trapdoor finds nothing');
  return hits;
}

/** E22. O_rec / g2^delta = E of the grant. */
export function check_episode(O_rec, delta, E) {
  require(owner_key(E, delta).equals(O_rec), 'foreign-grant', 'the record is of another episode');
}
