import { ascii, concat, hex, unhex } from '../encoding.mjs';
import { enc_G1, enc_G2, mod_p, power, product } from '../groups.mjs';
import { H1 } from '../hashes.mjs';
import { appoint, appointment_id, appointment_text, open_by_agent, verify_appointment } from '../agents.mjs';
import { class_label_key, condition, label_of, MDEnc } from '../containers.mjs';
import { BLS } from '../sealing.mjs';
import {
  consortium as cx, doctor, ed25519_pair, episode, hospital, other_consortium, other_episode, other_patient, patient,
} from './world.mjs';
import { G1_identity, G1_off_curve, G1_outside, G2_identity, G2_outside } from './groups.mjs';
import {
  changed, fixed, fixed_G1, of_integer, of_point, of_scalar, pieces_of, to_G1, to_G2, to_scalar, VectorFile,
} from './vector.mjs';

export const agent = ed25519_pair('family agent');
export const other_agent = ed25519_pair('another agent');
export const withdrawal = ed25519_pair('withdrawal key');
export const scope = {
  E: episode.E, agent: agent.key, id: appointment_id(cx, withdrawal.key), end: 1767830400000, classes: [2, 4],
};

export const file = new VectorFile('agents', ['E34', '10'], {
  appointment_id: ({ consortium, withdrawal_key }) => ({
    id: hex(appointment_id(unhex(consortium), unhex(withdrawal_key))),
  }),
  appoint: ({ consortium, e, E, agent, id, end, classes }) => ({
    appointment: hex(appoint(unhex(consortium), to_scalar(e), {
      E: to_G2(E), agent: unhex(agent), id: unhex(id), end, classes,
    })),
  }),
  verify_appointment: ({ consortium, appointment }) => {
    const { E, agent, id, end, classes } = verify_appointment(unhex(consortium), unhex(appointment));
    return { E: of_point(E), agent: hex(agent), id: hex(id), end: Number(end), classes };
  },
  open_by_agent: ({ consortium, container, Lc, condition_a, U }) => ({
    plaintext: hex(open_by_agent(
      unhex(consortium), unhex(container), label_of(unhex(consortium), unhex(Lc), to_G2(U)), to_G1(condition_a),
    )),
  }),
});

const consortium = hex(cx);
file.accepts('an appointment id', 'appointment_id', { consortium, withdrawal_key: hex(withdrawal.key) });
const NAME = 'an appointment for history and laboratory';
const made = file.accepts(NAME, 'appoint', {
  consortium, e: of_scalar(episode.secret), E: of_point(episode.E), agent: hex(agent.key), id: hex(scope.id), end: scope.end,
  classes: scope.classes,
});
const whole = unhex(made.appointment);
file.accepts('the appointment stands', 'verify_appointment', { consortium, appointment: made.appointment });

const fault = (name, bytes, expect, rest = {}) =>
  file.refuses(`an appointment ${name}`, 'verify_appointment', {
    consortium, appointment: pieces_of(NAME, whole, bytes), ...rest,
  }, expect);
const text_of = (changes) => appointment_text({ ...scope, consortium: cx, ...changes });
const signature = whole.slice(-48);
const resigned = (changes, T, secret, ...x) => concat(text_of(changes), enc_G1(BLS(cx, T, secret, ...x)));

fault('moved to another episode', concat(text_of({ E: other_episode.E }), signature), 'bad-signature');
const difference = mod_p(other_episode.secret - episode.secret);
const shift = (H) => concat(text_of({ E: other_episode.E }), enc_G1(product([to_G1(hex(signature)), power(H, difference)])));
fault('moved to another episode, the signature shifted by H(old)^difference',
  shift(H1(cx, 'DELEGATION', enc_G2(episode.E), text_of({}))), 'bad-signature');
fault('moved to another episode, the signature shifted by H(new)^difference',
  shift(H1(cx, 'DELEGATION', enc_G2(other_episode.E), text_of({ E: other_episode.E }))), 'bad-signature');
fault('signed without E as the first part', resigned({}, 'DELEGATION', episode.secret, text_of({})), 'bad-signature');
fault('signed as a grant', resigned({}, 'GRANT', episode.secret, enc_G2(episode.E), text_of({})), 'bad-signature');
fault('signed by the episode key of another patient', resigned({}, 'DELEGATION', other_patient.o, enc_G2(episode.E), text_of({})), 'bad-signature');
fault('signed with o alone', resigned({}, 'DELEGATION', patient.o, enc_G2(episode.E), text_of({})), 'bad-signature');
fault('of another agent', concat(text_of({ agent: other_agent.key }), signature), 'bad-signature');
fault('with another id', concat(text_of({ id: fixed('another id') }), signature), 'bad-signature');
fault('whose end is put off', concat(text_of({ end: scope.end + 1 }), signature), 'bad-signature');
fault('with a class added', concat(text_of({ classes: [2, 4, 8] }), signature), 'bad-signature');
fault('with a class replaced', concat(text_of({ classes: [2, 8] }), signature), 'bad-signature');
fault('with another consortium\'s name', concat(text_of({ consortium: other_consortium }), signature), 'foreign-grant');
fault('read in another consortium', whole, 'foreign-grant', { consortium: hex(other_consortium) });
fault('with the signature negated', changed(whole, whole.length - 48, whole.at(-48) ^ 0x20), 'bad-signature');
fault('with a signature that is the identity', concat(text_of({}), G1_identity), 'identity');
fault('with a signature outside the subgroup', concat(text_of({}), G1_outside), 'not-in-subgroup');
fault('with a signature off the curve', concat(text_of({}), G1_off_curve), 'off-curve');
fault('whose E is the identity', concat(G2_identity, whole.slice(96)), 'identity');
fault('whose E is outside the subgroup', concat(G2_outside, whole.slice(96)), 'not-in-subgroup');
fault('of 33 classes', concat(text_of({ classes: Array.from({ length: 33 }, (_, k) => k) }), signature), 'too-large');
for (const [name, classes, expect] of [
  ['for nothing', [], 'invalid'], ['whose classes descend', [4, 2], 'invalid'], ['with a class twice', [2, 2, 4], 'repeated'],
]) {
  fault(name, resigned({ classes }, 'DELEGATION', episode.secret, enc_G2(episode.E), text_of({ classes })), expect);
}
fault('cut short in the classes', whole.slice(0, 96 + 32 * 3 + 8 + 2), 'truncated');
fault('cut short in the signature', whole.slice(0, -1), 'truncated');
fault('with a byte behind it', concat(whole, Uint8Array.of(0)), 'trailing');
file.refuses('appointing with the secret 0', 'appoint', {
  consortium, e: of_integer(0n), E: of_point(episode.E), agent: hex(agent.key), id: hex(scope.id), end: scope.end, classes: [2],
}, 'invalid');
for (const [name, classes, expect] of [['for nothing', [], 'invalid'], ['for classes that descend', [4, 2], 'invalid']]) {
  file.refuses(`appointing ${name}`, 'appoint', {
    consortium, e: of_scalar(episode.secret), E: of_point(episode.E), agent: hex(agent.key), id: hex(scope.id), end: scope.end,
    classes,
  }, expect);
}

// The agent opens

const LABORATORY = 4;
const NOTES = 8;
const { container, U } = MDEnc(cx, {
  s_D: doctor.s_D, author: doctor.author.key, institution: hospital.institution, A: patient.A, PID: episode.PID,
  nonce: fixed('an agent\'s nonce'),
  sections: [{ class: LABORATORY, plaintext: ascii('INR 1.0') }, { class: NOTES, plaintext: ascii('out of scope') }],
});
const condition_a = (section_class, of = episode) => of_point(power(condition(cx, of.PID, section_class), patient.a));
const Lc = (section_class) => hex(class_label_key(cx, episode.PID, section_class));
const opening = {
  consortium, container: hex(container), U: of_point(U), Lc: Lc(LABORATORY), condition_a: condition_a(LABORATORY),
};
file.accepts('the agent opens a section in scope', 'open_by_agent', opening);
const opening_fault = (name, changes, expect) => file.refuses(`the agent: ${name}`, 'open_by_agent', { ...opening, ...changes }, expect);
opening_fault('a section out of scope, opened with what is in scope', { Lc: Lc(NOTES) }, 'wrong-key');
opening_fault('the condition of another class', { condition_a: condition_a(NOTES) }, 'wrong-key');
opening_fault('the condition of another episode', { condition_a: condition_a(LABORATORY, other_episode) }, 'wrong-key');
opening_fault('any other point', { condition_a: of_point(fixed_G1('any')) }, 'wrong-key');
opening_fault('the identity', { condition_a: hex(G1_identity) }, 'identity');
opening_fault('the label key of a class that the record lacks', { Lc: Lc(5) }, 'no-hit');
