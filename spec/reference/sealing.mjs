// Section 3 of spec/scheme.md: Ed25519 (E7 to E9), BLS in G1 (E10), HPKE (E11, E12), and the
// AES-256-GCM that sections 6 to 9 use.

import { gcm } from '@noble/ciphers/aes.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { extract as hkdf_extract, expand as hkdf_expand } from '@noble/hashes/hkdf.js';
import { sha256 as noble_sha256 } from '@noble/hashes/sha2.js';
import { ascii, big_endian, compare, concat, enc, exactly, refuse, require } from './encoding.mjs';
import { decode_G1, decode_G2, e, g2, GT_equal, power } from './groups.mjs';
import { H1, SHA, sha256, tag } from './hashes.mjs';

// 3.1 Ed25519

/** E7. The bytes that sign_C signs. */
export const message_C = (consortium, C, ...x) => enc(`${tag('ED25519-')}${C}`, consortium, ...x);

export const ed25519_public = (secret) => ed25519.getPublicKey(secret);

/** E7. */
export const sign_C = (consortium, C, secret, ...x) => ed25519.sign(message_C(consortium, C, ...x), secret);

/** Verification follows ZIP-215, and a key of small order verifies nothing. */
export function verify_message(message, key, signature) {
  exactly(key, 32, 'an Ed25519 key');
  exactly(signature, 64, 'an Ed25519 signature');
  let stands = false;
  try {
    stands = !ed25519.Point.fromBytes(key, true).isSmallOrder()
      && ed25519.verify(signature, message, key, { zip215: true });
  } catch {
    stands = false;
  }
  require(stands, 'bad-signature', 'the Ed25519 signature does not stand');
}

/** E7. */
export function verify_C(consortium, C, key, signature, ...x) {
  verify_message(message_C(consortium, C, ...x), key, signature);
}

/** E8. The bytes that the author of a record signs; the entries are one part. */
export function record_message(consortium, record) {
  exactly(record.digest, 32, 'the digest');
  exactly(record.hdr, 32, 'hdr');
  decode_G2(record.O_rec);
  exactly(record.sealed_locator, 80, 'the sealed locator');
  decode_G2(record.R);
  exactly(record.author, 32, 'the author key');
  for (const entry of record.entries) {
    exactly(entry.tag, 16, 'a tag');
    exactly(entry.pad, 16, 'a pad');
  }
  for (let k = 1; k < record.entries.length; k++) {
    const order = compare(record.entries[k - 1].tag, record.entries[k].tag);
    require(order !== 0, 'repeated', 'a tag stands twice');
    require(order < 0, 'invalid', 'tags do not ascend');
  }
  const entries = concat(...record.entries.flatMap((entry) => [entry.tag, entry.pad]));
  return message_C(
    consortium, 'record', record.digest, record.hdr, record.O_rec, record.sealed_locator, entries, record.R,
    record.author, record.institution, record.time,
  );
}

/** (10) SignGen. */
export const sign_record = (consortium, record, secret) => ed25519.sign(record_message(consortium, record), secret);

/** E9. */
export const transaction_id = (consortium, record) => sha256(record_message(consortium, record));

/** (10), the other side: the record is signed by the author that it names. */
export function verify_record(consortium, record, signature) {
  verify_message(record_message(consortium, record), record.author, signature);
}

// 3.2 BLS in G1

/** E10. BLS_T(s; x...) = H1_T(x...)^s. */
export const BLS = (consortium, T, s, ...x) => power(H1(consortium, T, ...x), s);

/** E10. It stands if e(signature, g2) = e(H1_T(x...), P). */
export function verify_BLS(consortium, T, P, signature, ...x) {
  const S = decode_G1(signature);
  require(GT_equal(e(S, g2), e(H1(consortium, T, ...x), P)), 'bad-signature', `the ${T} signature does not stand`);
}

// 3.3 HPKE, RFC 9180

const KEM_SUITE = concat(ascii('KEM'), big_endian(0x0020, 2));
const hpke_suite = (aead_id) =>
  concat(ascii('HPKE'), big_endian(0x0020, 2), big_endian(0x0001, 2), big_endian(aead_id, 2));
const NOTHING = new Uint8Array(0);

/** RFC 9180, section 4: LabeledExtract. */
const labeled_extract = (suite, salt, label, ikm) =>
  hkdf_extract(noble_sha256, concat(ascii('HPKE-v1'), suite, ascii(label), ikm), salt);

/** RFC 9180, section 4: LabeledExpand. */
const labeled_expand = (suite, prk, label, info, length) =>
  hkdf_expand(noble_sha256, prk, concat(big_endian(length, 2), ascii('HPKE-v1'), suite, ascii(label), info), length);

/** RFC 9180, section 7.1.3: DeriveKeyPair of DHKEM(X25519, HKDF-SHA256). */
export function derive_key_pair(ikm) {
  const prk = labeled_extract(KEM_SUITE, NOTHING, 'dkp_prk', ikm);
  const secret = labeled_expand(KEM_SUITE, prk, 'sk', NOTHING, 32);
  return { secret, key: hpke_public(secret) };
}

/** RFC 9180, section 7.1.2: SerializePrivateKey, which clamps; X25519 clamps anyway. */
export function serialize_private(secret) {
  const bytes = secret.slice();
  bytes[0] &= 248;
  bytes[31] = (bytes[31] & 127) | 64;
  return bytes;
}

export const hpke_public = (secret) => x25519.getPublicKey(secret);

/** RFC 9180, section 4.1: ExtractAndExpand over the Diffie-Hellman value. */
export function kem_shared_secret(dh, encapsulated, recipient) {
  const prk = labeled_extract(KEM_SUITE, NOTHING, 'eae_prk', dh);
  return labeled_expand(KEM_SUITE, prk, 'shared_secret', concat(encapsulated, recipient), 32);
}

/** RFC 9180, section 5.1: KeySchedule in base mode. */
export function key_schedule(shared_secret, info, aead_id, key_length) {
  const suite = hpke_suite(aead_id);
  const context = concat(
    Uint8Array.of(0),
    labeled_extract(suite, NOTHING, 'psk_id_hash', NOTHING),
    labeled_extract(suite, NOTHING, 'info_hash', info),
  );
  const secret = labeled_extract(suite, shared_secret, 'secret', NOTHING);
  return {
    key: labeled_expand(suite, secret, 'key', context, key_length),
    base_nonce: labeled_expand(suite, secret, 'base_nonce', context, 12),
  };
}

/** X25519; an all-zero result is refused, as RFC 9180, section 7.1.4 asks. */
function diffie_hellman(secret, key, kind) {
  try {
    return x25519.getSharedSecret(secret, key);
  } catch {
    return refuse(kind, 'the key is of small order');
  }
}

const AES_256_GCM = 0x0002;

/** E11. purpose is text; subject is bytes. */
export const hpke_info = (consortium, purpose, subject, recipient) =>
  enc(tag('HPKE'), purpose, consortium, subject, recipient);

/** E11. Sealing with given key material of the ephemeral pair (ikmE), which a real sender draws at random. */
export function hpke_seal(consortium, purpose, subject, recipient, ephemeral_ikm, plaintext) {
  exactly(recipient, 32, 'an HPKE key');
  const { secret, key: encapsulated } = derive_key_pair(exactly(ephemeral_ikm, 32, 'key material'));
  const dh = diffie_hellman(secret, recipient, 'invalid');
  const { key, base_nonce } = key_schedule(
    kem_shared_secret(dh, encapsulated, recipient), hpke_info(consortium, purpose, subject, recipient), AES_256_GCM, 32,
  );
  return concat(encapsulated, aes_seal(key, base_nonce, NOTHING, plaintext));
}

/** E11. */
export function hpke_open(consortium, purpose, subject, secret, sealed) {
  require(sealed.length >= 48, 'truncated', 'a sealed message has at least 48 bytes');
  const recipient = hpke_public(secret);
  const encapsulated = sealed.slice(0, 32);
  const dh = diffie_hellman(secret, encapsulated, 'cannot-open');
  const { key, base_nonce } = key_schedule(
    kem_shared_secret(dh, encapsulated, recipient), hpke_info(consortium, purpose, subject, recipient), AES_256_GCM, 32,
  );
  return aes_open(key, base_nonce, NOTHING, sealed.slice(32), 'cannot-open');
}

/** E12. */
export function inbox_commitment(consortium, handle, salt) {
  exactly(handle, 16, 'a handle');
  exactly(salt, 16, 'a salt');
  return SHA(consortium, 'INBOX-COMMITMENT', handle, salt);
}

// AES-256-GCM with a 16-byte tag at the end

export const aes_seal = (key, nonce, aad, plaintext) => gcm(key, nonce, aad).encrypt(plaintext);

export function aes_open(key, nonce, aad, sealed, kind) {
  require(sealed.length >= 16, kind, 'no room for a tag');
  try {
    return gcm(key, nonce, aad).decrypt(sealed);
  } catch {
    return refuse(kind, 'AES-256-GCM does not open');
  }
}
