// Values printed by others, which the reference must reproduce before its own are worth anything.

import { bls12_381 } from '@noble/curves/bls12-381.js';
import { gcm } from '@noble/ciphers/aes.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { ascii, hex, unhex } from './encoding.mjs';
import { e, enc_GT, g1, g2 } from './groups.mjs';
import { Extract, sha256 } from './hashes.mjs';
import { padme } from './containers.mjs';
import { derive_key_pair, hpke_public, kem_shared_secret, key_schedule } from './sealing.mjs';

/** [{name, found, expected}], hex or text. */
export function known_answers() {
  return [
    {
      name: 'E6, SHA-256(enc_GT(e(g1, g2)))',
      found: hex(sha256(enc_GT(e(g1, g2)))),
      expected: '06fa588b89fdfb034dbc1c163ecb3dfac228f552b643c7294cc5f2c4dc170b84',
    },
    {
      name: 'RFC 9380, J.9.1, the empty message, x',
      found: bls12_381.G1.hashToCurve(new Uint8Array(0), { DST: 'QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_' })
        .toAffine().x.toString(16).padStart(96, '0'),
      expected: '052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1',
    },
    {
      // RFC 5869, A.1 has a salt that is no text; its A.3 has an empty one.
      name: 'RFC 5869, A.3, PRK',
      found: hex(Extract('', new Uint8Array(22).fill(0x0b))),
      expected: '19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04',
    },
    ...hpke(),
    // padme: E = 3, S = 2 for 9; E = 16, S = 5 for 65,537.
    { name: 'padme of 9', found: String(padme(9)), expected: '10' },
    { name: 'padme of 65537', found: String(padme(65537)), expected: '67584' },
  ];
}

/** RFC 9180, A.1.1 (AES-128-GCM), and the AES-256-GCM vector of BoringSSL's list for the same suite. */
function hpke() {
  const info = unhex('4f6465206f6e2061204772656369616e2055726e');
  const aad = ascii('Count-0');
  const plaintext = ascii('Beauty is truth, truth beauty');
  const pair = derive_key_pair(unhex('6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037'));
  const sealed = (ephemeral, recipient, aead, length) => {
    const dh = x25519.getSharedSecret(unhex(ephemeral), unhex(recipient));
    const shared = kem_shared_secret(dh, hpke_public(unhex(ephemeral)), unhex(recipient));
    const { key, base_nonce } = key_schedule(shared, info, aead, length);
    return { shared: hex(shared), ciphertext: hex(gcm(key, base_nonce, aad).encrypt(plaintext)) };
  };
  const short = sealed('52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736', hex(pair.key), 1, 16);
  const long = sealed(
    '28e212563a8b6f068af7ff17400ff1baf23612b7a738bbaf5dfb321b2b5b431a',
    'ac66bae9ffa270cf4a89ed9f274e30c0456babae2572aaaf002ff0d8884ab018', 2, 32,
  );
  return [
    {
      name: 'RFC 9180, A.1.1, skRm',
      found: hex(pair.secret),
      expected: '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
    },
    {
      name: 'RFC 9180, A.1.1, shared_secret',
      found: short.shared,
      expected: 'fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc',
    },
    {
      name: 'RFC 9180, A.1.1, the first ciphertext',
      found: short.ciphertext,
      expected: 'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a',
    },
    {
      name: 'HPKE with AES-256-GCM, the first ciphertext',
      found: long.ciphertext,
      expected: '23ded2d5d90ea89d975dac4792b297240f194952d7421aacbff0474100052b6bb8aa58d18ef6c42b6960e2e28f',
    },
  ];
}
