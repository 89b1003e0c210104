// Section 5 of spec/scheme.md: pseudonyms.

import { exactly, require } from './encoding.mjs';
import { PRF } from './hashes.mjs';

/** (8) The doctor's subkey, which is all of SK_aes that a doctor gets. */
export const subkey = (consortium, SK_aes, institution, doctor) =>
  PRF(consortium, exactly(SK_aes, 32, 'SK_aes'), 'SKD', institution, doctor);

/** (8) NameGen. UID is 1 to 64 bytes, n the episode's number. */
export function NameGen(consortium, SK_D, UID, n) {
  require(UID.length >= 1, 'invalid', 'a UID has at least one byte');
  require(UID.length <= 64, 'too-large', 'a UID has at most 64 bytes');
  return PRF(consortium, exactly(SK_D, 32, 'SK_D'), 'PIDN', UID, n);
}
