import { ascii, hex, unhex } from '../encoding.mjs';
import { NameGen, subkey } from '../pseudonyms.mjs';
import { consortium as cx, doctor, hospital, other_doctor, patient, UID as uid } from './world.mjs';
import { VectorFile } from './vector.mjs';

export const file = new VectorFile('pseudonyms', ['(8)'], {
  subkey: ({ consortium, SK_aes, institution, doctor }) => ({
    SK_D: hex(subkey(unhex(consortium), unhex(SK_aes), institution, doctor)),
  }),
  NameGen: ({ consortium, SK_D, UID, n }) => ({ PID: hex(NameGen(unhex(consortium), unhex(SK_D), unhex(UID), n)) }),
});

const consortium = hex(cx);
const SK_aes = hex(patient.SK_aes);
const { institution } = hospital;
const UID = hex(uid);

const { SK_D } = file.accepts('a doctor\'s subkey', 'subkey', { consortium, SK_aes, institution, doctor: doctor.id });
file.accepts('another doctor\'s subkey', 'subkey', { consortium, SK_aes, institution, doctor: other_doctor.id });
file.accepts('the first episode', 'NameGen', { consortium, SK_D, UID, n: 1 });
file.accepts('the second episode', 'NameGen', { consortium, SK_D, UID, n: 2 });
file.accepts('a UID of 64 bytes', 'NameGen', { consortium, SK_D, UID: hex(ascii('u'.repeat(64))), n: 1 });

file.refuses('an empty UID', 'NameGen', { consortium, SK_D, UID: '', n: 1 }, 'invalid');
file.refuses('a UID of 65 bytes', 'NameGen', { consortium, SK_D, UID: hex(ascii('u'.repeat(65))), n: 1 }, 'too-large');
file.refuses('a subkey of 31 bytes', 'NameGen', { consortium, SK_D: SK_D.slice(2), UID, n: 1 }, 'truncated');
file.refuses(
  'SK_aes of 33 bytes', 'subkey', { consortium, SK_aes: `${SK_aes}00`, institution, doctor: doctor.id }, 'trailing',
);
file.refuses('a subkey of 33 bytes', 'NameGen', { consortium, SK_D: `${SK_D}00`, UID, n: 1 }, 'trailing');
file.refuses('no subkey', 'NameGen', { consortium, SK_D: '', UID, n: 1 }, 'truncated');
file.refuses(
  'SK_aes of 31 bytes', 'subkey', { consortium, SK_aes: SK_aes.slice(2), institution, doctor: doctor.id }, 'truncated',
);
