// The people, hospitals and records that the vectors speak of. Everything is fixed.

import { ascii } from '../encoding.mjs';
import { g2, power } from '../groups.mjs';
import { KeyGen } from '../keys.mjs';
import { NameGen, subkey } from '../pseudonyms.mjs';
import { episode_key } from '../index.mjs';
import { episode_secret } from '../grants.mjs';
import { derive_key_pair, ed25519_public } from '../sealing.mjs';
import { fixed, fixed_scalar } from './vector.mjs';

export const consortium = fixed('consortium');
export const other_consortium = fixed('another consortium');

export const ed25519_pair = (label) => {
  const secret = fixed(label);
  return { secret, key: ed25519_public(secret) };
};
export const hpke_pair = (label) => derive_key_pair(fixed(label));

const patient_of = (name) => {
  const seed = fixed(`${name}'s root seed`);
  return { seed, ...KeyGen(consortium, seed, 1) };
};
export const patient = patient_of('patient');
export const other_patient = patient_of('another patient');

const hospital_of = (institution) => {
  const y = fixed_scalar(`hospital ${institution}'s y`);
  const next_y = fixed_scalar(`hospital ${institution}'s next y`);
  return { institution, writer_epoch: 3, y, R: power(g2, y), next_y, next_R: power(g2, next_y) };
};
export const hospital = hospital_of(7);
export const other_hospital = hospital_of(12);

/** A doctor; also has an access key, as every doctor named in a grant. */
const doctor_of = (name, id) => ({
  id,
  author: ed25519_pair(`${name}'s Ed25519 key`),
  access: ed25519_pair(`${name}'s access key`),
  hpke: hpke_pair(`${name}'s HPKE key`),
  s_D: fixed(`${name}'s sealing secret`),
});
export const doctor = doctor_of('doctor', 4001);
export const other_doctor = doctor_of('another doctor', 4002);
export const stranger = doctor_of('a doctor who is not named', 4003);

export const UID = ascii('MR-2021-000123');
export const SK_D = subkey(consortium, patient.SK_aes, hospital.institution, doctor.id);

const episode_of = (n) => {
  const PID = NameGen(consortium, SK_D, UID, n);
  return {
    n,
    PID,
    E: episode_key(consortium, patient.O, PID),
    secret: episode_secret(consortium, patient.o, PID),
  };
};
export const episode = episode_of(1);
export const other_episode = episode_of(2);
