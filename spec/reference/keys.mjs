// Section 4 of spec/scheme.md: keys and proofs of possession.

import { concat, exactly, require } from './encoding.mjs';
import { decode_scalar, enc_G2, enc_scalar, g2, mod_p, power, product } from './groups.mjs';
import { Expand, Extract, Hs, PRF } from './hashes.mjs';
import { BLS, derive_key_pair, verify_BLS } from './sealing.mjs';

/** (6)(7) KeyGen, from a 32-byte root seed and a key version v. */
export function KeyGen(consortium, seed, v) {
  exactly(seed, 32, 'a root seed');
  const a = Hs(consortium, 'KEY-a', seed, v);
  const x = Hs(consortium, 'KEY-x', seed, v);
  const o = Hs(consortium, 'KEY-o', seed, v);
  const prk = Extract('willis/v1/seed', seed);
  return {
    a, A: power(g2, a),
    x, X: power(g2, x),
    o, O: power(g2, o),
    SK_aes: Expand(consortium, prk, 'SK-AES', v),
    inbox: derive_key_pair(Expand(consortium, prk, 'INBOX', v)),
    directory: Expand(consortium, prk, 'DIRECTORY', v),
    accounts: Expand(consortium, prk, 'ACCOUNTS', v),
  };
}

/** E35. The Ed25519 seed of the account key at the service of this name. */
export const account_seed = (consortium, accounts, name) => PRF(consortium, accounts, 'SERVICE-KEY', name);

/** E13. which is "A", "X" or "O"; secret and key are the pair of that name. */
export const prove_possession = (consortium, which, secret, subject, key) =>
  enc_signature(BLS(consortium, `POP-${which}`, secret, subject, enc_G2(key)));

/** E13. */
export function verify_possession(consortium, which, key, subject, proof) {
  as_bad_proof(() => verify_BLS(consortium, `POP-${which}`, key, proof, subject, enc_G2(key)));
}

/** E13. The hand-over; O itself is the first part (section 3.2). */
export const sign_handover = (consortium, o, text) =>
  enc_signature(BLS(consortium, 'HANDOVER', o, enc_G2(power(g2, o)), text));

/** E13. */
export function verify_handover(consortium, O, text, signature) {
  verify_BLS(consortium, 'HANDOVER', O, signature, enc_G2(O), text);
}

/** E14. Proof of y under R = g2^y, 64 bytes c || z; k is random. */
export function prove_writer_epoch(consortium, institution, writer_epoch, y, k) {
  const R = power(g2, y);
  const c = Hs(consortium, 'POP-R', institution, writer_epoch, enc_G2(R), enc_G2(power(g2, k)));
  return concat(enc_scalar(c), enc_scalar(mod_p(k + c * y)));
}

/** E14. It stands if c = Hs_POP-R(institution, writer epoch, R, g2^z R^-c). */
export function verify_writer_epoch(consortium, institution, writer_epoch, R, proof) {
  exactly(proof, 64, 'a proof of y');
  const c = decode_scalar(proof.slice(0, 32));
  const z = decode_scalar(proof.slice(32));
  const commitment = product([power(g2, z), power(R, -c)]);
  const expected = Hs(consortium, 'POP-R', institution, writer_epoch, enc_G2(R), enc_G2(commitment));
  require(c === expected, 'bad-proof', 'the proof of y does not stand');
}

const enc_signature = (point) => point.toBytes(true);

function as_bad_proof(check) {
  try {
    check();
  } catch (refusal) {
    if (refusal.kind === 'bad-signature') refusal.kind = 'bad-proof';
    throw refusal;
  }
}
