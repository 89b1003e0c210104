import { ascii, concat, hex, unhex } from '../encoding.mjs';
import { enc_G2, g2, mod_p, p, power, product } from '../groups.mjs';
import { H1, Hs } from '../hashes.mjs';
import { ed25519_public, serialize_private } from '../sealing.mjs';
import {
  account_seed, KeyGen, prove_possession, prove_writer_epoch, sign_handover, verify_handover, verify_possession, verify_writer_epoch,
} from '../keys.mjs';
import { consortium as cx, hospital, other_consortium, other_hospital, other_patient, patient } from './world.mjs';
import { G1_identity, G1_off_curve, G1_outside, G2_identity, G2_outside } from './groups.mjs';
import {
  changed, fixed, fixed_scalar, flipped, of_integer, of_point, of_scalar, to_bytes, to_G2, to_scalar, VectorFile,
} from './vector.mjs';

export const file = new VectorFile('keys', ['(6)', '(7)', 'E10', 'E13', 'E14', 'E35'], {
  KeyGen: ({ consortium, seed, version }) => {
    const keys = KeyGen(unhex(consortium), unhex(seed), version);
    return {
      a: of_scalar(keys.a), A: of_point(keys.A),
      x: of_scalar(keys.x), X: of_point(keys.X),
      o: of_scalar(keys.o), O: of_point(keys.O),
      SK_aes: hex(keys.SK_aes),
      inbox_secret: hex(serialize_private(keys.inbox.secret)), inbox_key: hex(keys.inbox.key),
      directory: hex(keys.directory),
      account: hex(ed25519_public(account_seed(unhex(consortium), keys.accounts, ascii('query')))),
    };
  },
  prove_possession: ({ consortium, which, secret, subject }) => {
    const key = power(g2, to_scalar(secret));
    return { key: of_point(key), proof: hex(prove_possession(unhex(consortium), which, to_scalar(secret), subject, key)) };
  },
  verify_possession: ({ consortium, which, key, subject, proof }) => {
    verify_possession(unhex(consortium), which, to_G2(key), subject, unhex(proof));
    return { stands: true };
  },
  sign_handover: ({ consortium, o, text }) => ({ signature: hex(sign_handover(unhex(consortium), to_scalar(o), to_bytes(text))) }),
  verify_handover: ({ consortium, O, text, signature }) => {
    verify_handover(unhex(consortium), to_G2(O), to_bytes(text), unhex(signature));
    return { stands: true };
  },
  prove_writer_epoch: ({ consortium, institution, writer_epoch, y, k }) => ({
    R: of_point(power(g2, to_scalar(y))),
    proof: hex(prove_writer_epoch(unhex(consortium), institution, writer_epoch, to_scalar(y), to_scalar(k))),
  }),
  verify_writer_epoch: ({ consortium, institution, writer_epoch, R, proof }) => {
    verify_writer_epoch(unhex(consortium), institution, writer_epoch, to_G2(R), unhex(proof));
    return { stands: true };
  },
});

const consortium = hex(cx);
const seed = hex(patient.seed);

file.accepts('a patient\'s keys', 'KeyGen', { consortium, seed, version: 1 });
file.accepts('the next version of the same keys', 'KeyGen', { consortium, seed, version: 2 });
file.refuses('a root seed of 31 bytes', 'KeyGen', { consortium, seed: seed.slice(2), version: 1 }, 'truncated');
file.refuses('a root seed of 33 bytes', 'KeyGen', { consortium, seed: `${seed}00`, version: 1 }, 'trailing');

// E13

const subject = 15001;
const secrets = { A: patient.a, X: patient.x, O: patient.o };
const proofs = {};
for (const which of ['A', 'X', 'O']) {
  const made = file.accepts(
    `a proof of possession of ${which}`, 'prove_possession', { consortium, which, secret: of_scalar(secrets[which]), subject },
  );
  proofs[which] = { consortium, which, key: made.key, subject, proof: made.proof };
  file.accepts(`the proof of possession of ${which} stands`, 'verify_possession', proofs[which]);
}
const A = proofs.A;
const doubled = power(patient.A, 2n);
const double_proof = product([
  power(H1(cx, 'POP-A', subject, enc_G2(patient.A)), patient.a), power(H1(cx, 'POP-A', subject, enc_G2(patient.A)), patient.a),
]);
for (const [name, fault, expect] of [
  ['of another enrolment', { subject: subject + 1 }, 'bad-proof'],
  ['of A given for X', { which: 'X' }, 'bad-proof'],
  ['of A given for O', { which: 'O' }, 'bad-proof'],
  ['of another key', { key: of_point(other_patient.A) }, 'bad-proof'],
  ['in another consortium', { consortium: hex(other_consortium) }, 'bad-proof'],
  ['converted to the key A^2', { key: of_point(doubled), proof: of_point(double_proof) }, 'bad-proof'],
  ['negated', { proof: hex(flipped_sign(unhex(A.proof))) }, 'bad-proof'],
  ['that is the identity', { proof: hex(G1_identity) }, 'identity'],
  ['outside the subgroup', { proof: hex(G1_outside) }, 'not-in-subgroup'],
  ['off the curve', { proof: hex(G1_off_curve) }, 'off-curve'],
  ['cut short', { proof: A.proof.slice(0, -2) }, 'truncated'],
  ['of the identity as key', { key: hex(G2_identity) }, 'identity'],
  ['of a key outside the subgroup', { key: hex(G2_outside) }, 'not-in-subgroup'],
  ['of wrong group: a point of G1 as key', { key: A.proof }, 'truncated'],
  ['of wrong group: a point of G2 as proof', { proof: A.key }, 'trailing'],
]) {
  file.refuses(`a proof of possession ${name}`, 'verify_possession', { ...A, ...fault }, expect);
}

function flipped_sign(bytes) {
  return changed(bytes, 0, bytes[0] ^ 0x20);
}

// E13, the hand-over

const text = hex(ascii('the keys of version 2'));
const handed = file.accepts('a hand-over', 'sign_handover', { consortium, o: of_scalar(patient.o), text });
const handover = { consortium, O: of_point(patient.O), text, signature: handed.signature };
file.accepts('the hand-over stands', 'verify_handover', handover);
const o_shifted = mod_p(patient.o + 5n);
const converted = product([
  power(H1(cx, 'HANDOVER', enc_G2(patient.O), unhex(text)), patient.o),
  power(H1(cx, 'HANDOVER', enc_G2(patient.O), unhex(text)), 5n),
]);
file.refuses('a hand-over of another text', 'verify_handover', { ...handover, text: hex(ascii('the keys of version 3')) }, 'bad-signature');
file.refuses('a hand-over by another patient', 'verify_handover', { ...handover, O: of_point(other_patient.O) }, 'bad-signature');
file.refuses('a hand-over in another consortium', 'verify_handover', { ...handover, consortium: hex(other_consortium) }, 'bad-signature');
file.refuses(
  'a hand-over converted to the related key O * g2^5', 'verify_handover',
  { ...handover, O: of_point(power(g2, o_shifted)), signature: of_point(converted) }, 'bad-signature',
);

// E14

const { institution, writer_epoch } = hospital;
const made = file.accepts('a proof of y', 'prove_writer_epoch', {
  consortium, institution, writer_epoch, y: of_scalar(hospital.y), k: of_scalar(fixed_scalar('k of a proof of y')),
});
const epoch = { consortium, institution, writer_epoch, R: made.R, proof: made.proof };
file.accepts('the proof of y stands', 'verify_writer_epoch', epoch);
const proof = unhex(made.proof);
const [c, z] = [proof.slice(0, 32), proof.slice(32)];
const zero_c = concat(unhex(of_integer(0n)), z);

/** A proof for R of which only the difference to another key is known: R' = R * g2^7 with R's proof and z + 7c. */
const shifted_R = product([hospital.R, power(g2, 7n)]);
const shifted_z = mod_p(BigInt(`0x${hex(z)}`) + 7n * BigInt(`0x${hex(c)}`));

for (const [name, fault, expect] of [
  ['of another institution', { institution: institution + 1 }, 'bad-proof'],
  ['of the wrong writer epoch', { writer_epoch: writer_epoch + 1 }, 'bad-proof'],
  ['of another R', { R: of_point(other_hospital.R) }, 'bad-proof'],
  ['in another consortium', { consortium: hex(other_consortium) }, 'bad-proof'],
  ['with c altered', { proof: hex(flipped(proof, 31)) }, 'bad-proof'],
  ['with z altered', { proof: hex(flipped(proof, 63)) }, 'bad-proof'],
  ['with c and z exchanged', { proof: hex(concat(z, c)) }, 'bad-proof'],
  ['converted to R * g2^7', { R: of_point(shifted_R), proof: hex(concat(c, unhex(of_scalar(shifted_z)))) }, 'bad-proof'],
  ['with c = 0', { proof: hex(zero_c) }, 'invalid'],
  ['with z = 0', { proof: hex(concat(c, unhex(of_integer(0n)))) }, 'invalid'],
  ['with z = p', { proof: hex(concat(c, unhex(of_integer(p)))) }, 'non-canonical'],
  ['with c >= p', { proof: hex(concat(new Uint8Array(32).fill(0xff), z)) }, 'non-canonical'],
  ['of 63 bytes', { proof: hex(proof.slice(0, 63)) }, 'truncated'],
  ['of 65 bytes', { proof: `${made.proof}00` }, 'trailing'],
  ['of the identity as R', { R: hex(G2_identity) }, 'identity'],
  ['whose commitment is the identity', { proof: hex(identity_commitment()) }, 'identity'],
]) {
  file.refuses(`a proof of y ${name}`, 'verify_writer_epoch', { ...epoch, ...fault }, expect);
}

/** c and z = c y, so that g2^z R^-c is the identity. */
function identity_commitment() {
  const any = Hs(cx, 'POP-R', fixed('any'));
  return concat(unhex(of_scalar(any)), unhex(of_scalar(mod_p(any * hospital.y))));
}
