import { ascii, big_endian, concat, hex, u32, u8, unhex, variable } from '../encoding.mjs';
import { decode_G1, e, enc_G1, enc_G2, g2, mod_p, power, product, q } from '../groups.mjs';
import { H1 } from '../hashes.mjs';
import { appoint } from '../agents.mjs';
import { class_label_key } from '../containers.mjs';
import {
  decode_grant, encode_body, encode_doctor_part, encode_node_part, episode_secret, gid_of, grant_text, make_grant, open_body,
  open_doctor_part, open_node_part, seal_body, sign_by_agent, sign_by_patient, verify_grant,
} from '../grants.mjs';
import { keyword_point, TokenGen } from '../index.mjs';
import { BLS, hpke_seal, sign_C } from '../sealing.mjs';
import {
  consortium as cx, doctor, ed25519_pair, episode, hospital, hpke_pair, other_consortium, other_doctor, other_episode,
  other_hospital, other_patient, patient, stranger,
} from './world.mjs';
import { agent, other_agent, scope } from './agents.mjs';
import { G1_identity, G1_off_curve, G1_outside, G2_identity, G2_off_curve, G2_outside, GT_one, GT_outside } from './groups.mjs';
import {
  changed, fixed, fixed_G1, flipped, of_GT, of_point, of_scalar, pieces_of, to_G1, to_G2, to_scalar, VectorFile,
} from './vector.mjs';

// From JSON to values, and back

const to_making = (input) => ({
  E: to_G2(input.E), PID: unhex(input.PID), a: to_scalar(input.a), revocation_key: unhex(input.revocation_key),
  request: unhex(input.request), not_before: input.not_before, expiry: input.expiry,
  validator_epoch: input.validator_epoch, t: input.t, seed: unhex(input.seed), G: unhex(input.G),
  body_key: unhex(input.body_key),
  classes: input.classes.map((one) => ({ class: one.class, A: one.A.map(to_G1) })),
  trapdoors: input.trapdoors.map((one) => ({ ...one, T: to_G1(one.T) })),
  entries: input.entries.map((one) => ({ ...one, tag: unhex(one.tag), LK: unhex(one.LK) })),
  doctors: input.doctors.map((one) => ({
    access_key: unhex(one.access_key), hpke_key: unhex(one.hpke_key), ephemeral_ikm: unhex(one.ephemeral_ikm),
  })),
  nodes: input.nodes.map((one) => ({
    consensus_key: unhex(one.consensus_key), hpke_key: unhex(one.hpke_key), ephemeral_ikm: unhex(one.ephemeral_ikm),
  })),
});

const of_body = (body) => ({
  G: hex(body.G),
  trapdoors: body.trapdoors.map((one) => ({ ...one, T: of_point(one.T) })),
  entries: body.entries.map((one) => ({ ...one, tag: hex(one.tag), LK: hex(one.LK) })),
});

const of_grant = (grant) => ({
  consortium: hex(grant.consortium), E: of_point(grant.E), revocation_key: hex(grant.revocation_key),
  request: hex(grant.request),
  doctors: grant.doctors.map((one) => ({ access_key: hex(one.access_key), hpke_key: hex(one.hpke_key) })),
  not_before: Number(grant.not_before), expiry: Number(grant.expiry), validator_epoch: Number(grant.validator_epoch),
  nodes: grant.nodes.map((one) => ({ consensus_key: hex(one.consensus_key), hpke_key: hex(one.hpke_key) })),
  t: grant.t, D: grant.D.map((one) => one.map(of_GT)), body: hex(grant.body),
  node_parts: grant.node_parts.map(hex), doctor_parts: grant.doctor_parts.map(hex), signer: grant.signer,
});

export const file = new VectorFile('grants', ['E28', 'E29', 'E30', 'E31', 'E32', '(14)'], {
  gid: ({ consortium, revocation_key }) => ({ gid: hex(gid_of(unhex(consortium), unhex(revocation_key))) }),
  episode_secret: ({ consortium, o, PID }) => ({ e: of_scalar(episode_secret(unhex(consortium), to_scalar(o), unhex(PID))) }),
  make_grant: ({ consortium, e: secret, ...input }) => {
    const fields = make_grant(unhex(consortium), to_making(input));
    return { gid: hex(fields.gid), grant: hex(sign_by_patient(unhex(consortium), to_scalar(secret), fields.E, grant_text(fields))) };
  },
  sign_by_agent: ({ consortium, secret, appointment, E, text }) => ({
    grant: hex(sign_by_agent(unhex(consortium), unhex(secret), unhex(appointment), to_G2(E), unhex(text))),
  }),
  decode_grant: ({ grant }) => of_grant(decode_grant(unhex(grant))),
  verify_grant: ({ consortium, grant }) => {
    const { gid, E } = verify_grant(unhex(consortium), unhex(grant));
    return { gid: hex(gid), E: of_point(E) };
  },
  open_node_part: ({ consortium, grant, m, hpke_secret }) => {
    const { gid, body_key, shares, body } = open_node_part(unhex(consortium), unhex(grant), m, unhex(hpke_secret));
    return { gid: hex(gid), body_key: hex(body_key), shares: shares.map(of_point), body: of_body(body) };
  },
  open_doctor_part: ({ consortium, grant, place, hpke_secret }) => {
    const { gid, seed, G, E, Lc } = open_doctor_part(unhex(consortium), unhex(grant), place, unhex(hpke_secret));
    return { gid: hex(gid), seed: hex(seed), G: hex(G), E: of_point(E), Lc: Lc.map(hex) };
  },
  open_body: ({ consortium, gid, body_key, body }) =>
    of_body(open_body(unhex(consortium), unhex(gid), unhex(body_key), unhex(body))),
});

const consortium = hex(cx);

// A grant of laboratory and history to two doctors, two of four nodes

const node_of = (m) => ({ consensus: ed25519_pair(`node ${m}: consensus key`), hpke: hpke_pair(`node ${m}: HPKE key`) });
const nodes = [1, 2, 3, 4].map(node_of);
const doctors = [doctor, other_doctor];
const revocation = ed25519_pair('revocation key');
const { gid } = file.accepts('a gid', 'gid', { consortium, revocation_key: hex(revocation.key) });
file.accepts('the secret of an episode key', 'episode_secret', { consortium, o: of_scalar(patient.o), PID: hex(episode.PID) });
const trapdoor = (inst, word) =>
  TokenGen(keyword_point(cx, episode.PID, inst.institution, inst.writer_epoch, ascii(word)), patient.x);

const making = {
  E: of_point(episode.E), PID: hex(episode.PID), a: of_scalar(patient.a), revocation_key: hex(revocation.key),
  request: hex(ascii('a signed request')), not_before: 1767225600000, expiry: 1767232800000, validator_epoch: 5, t: 2,
  seed: hex(fixed('the grant\'s seed')), G: hex(fixed('the grant\'s G')), body_key: hex(fixed('the body key')),
  classes: [
    { class: 4, A: [of_point(fixed_G1('grant A_1 of class 0'))] },
    { class: 2, A: [of_point(fixed_G1('grant A_1 of class 1'))] },
  ],
  trapdoors: [hospital, other_hospital].map((one) => ({
    institution: one.institution, writer_epoch: one.writer_epoch, T: of_point(trapdoor(one, '')),
  })),
  entries: [{
    institution: hospital.institution, writer_epoch: hospital.writer_epoch, tag: hex(fixed('a named tag', 16)),
    LK: hex(fixed('a named LK', 16)),
  }],
  doctors: doctors.map((one, k) => ({
    access_key: hex(one.access.key), hpke_key: hex(one.hpke.key), ephemeral_ikm: hex(fixed(`grant, doctor ${k}`)),
  })),
  nodes: nodes.map((one, k) => ({
    consensus_key: hex(one.consensus.key), hpke_key: hex(one.hpke.key), ephemeral_ikm: hex(fixed(`grant, node ${k}`)),
  })),
};
const NAME = 'a patient\'s grant';
const secret = episode.secret;
const made = file.accepts(NAME, 'make_grant', { consortium, e: of_scalar(secret), ...making });
const whole = unhex(made.grant);
const fields = make_grant(cx, to_making(making));
const text = grant_text(fields);
const from_name = { of: NAME, pieces: [[0, whole.length]] };
file.accepts('its fields', 'decode_grant', { grant: from_name });
file.accepts('its signature stands', 'verify_grant', { consortium, grant: from_name });
for (const m of [1, 4]) {
  file.accepts(`node ${m} opens its part`, 'open_node_part', {
    consortium, grant: from_name, m, hpke_secret: hex(nodes[m - 1].hpke.secret),
  });
}
for (const place of [0, 1]) {
  file.accepts(`the doctor at place ${place} opens its part`, 'open_doctor_part', {
    consortium, grant: from_name, place, hpke_secret: hex(doctors[place].hpke.secret),
  });
}

const given = (bytes) => pieces_of(NAME, whole, bytes);
const signed = (changes) => sign_by_patient(cx, secret, episode.E, grant_text({ ...fields, ...changes }));

// Grants that must not be decoded. Those that the patient could sign are signed.

const decode_fault = (name, bytes, expect) => file.refuses(`a grant ${name}`, 'decode_grant', { grant: given(bytes) }, expect);
const E_AT = 33;
const REQUEST_AT = E_AT + 96 + 32;
const DOCTORS_AT = REQUEST_AT + 4 + fields.request.length;
const NODES_AT = DOCTORS_AT + 1 + 64 * 2 + 24;
const T_AT = NODES_AT + 1 + 64 * 4;
const D_AT = T_AT + 2;
const BODY_AT = D_AT + 576 * 4;
const NODE_PARTS_AT = BODY_AT + 4 + fields.body.length;
const DOCTOR_PARTS_AT = NODE_PARTS_AT + 4 * (4 + fields.node_parts[0].length);
const SIGNER_AT = text.length;
decode_fault('of no bytes', new Uint8Array(0), 'truncated');
decode_fault('of version 2', changed(whole, 0, 2), 'invalid');
decode_fault('whose E is the identity', changed(whole, E_AT, ...G2_identity), 'identity');
decode_fault('whose E is off the curve', changed(whole, E_AT, ...G2_off_curve), 'off-curve');
decode_fault('whose E is outside the subgroup', changed(whole, E_AT, ...G2_outside), 'not-in-subgroup');
decode_fault('whose request is said to have 16,385 bytes', changed(whole, REQUEST_AT, ...u32(16385)), 'too-large');
decode_fault('of 33 doctors', changed(whole, DOCTORS_AT, 33), 'too-large');
decode_fault('without a doctor', signed({ doctors: [], doctor_parts: [] }), 'invalid');
decode_fault('with an access key twice', signed({
  doctors: [fields.doctors[0], { ...fields.doctors[1], access_key: fields.doctors[0].access_key }],
}), 'repeated');
decode_fault('without a node', signed({ nodes: [], node_parts: [] }), 'invalid');
decode_fault('with a consensus key twice', signed({
  nodes: [...fields.nodes.slice(0, 3), { ...fields.nodes[3], consensus_key: fields.nodes[0].consensus_key }],
}), 'repeated');
decode_fault('without a class', signed({ D: [] }), 'invalid');
decode_fault('with t = 0', changed(whole, T_AT, 0), 'invalid');
decode_fault('with t above the number of nodes', changed(whole, T_AT, 5), 'invalid');
decode_fault('of 33 classes', changed(whole, T_AT + 1, 33), 'too-large');
decode_fault('with a commitment of 1', changed(whole, D_AT, ...GT_one), 'identity');
decode_fault('with a commitment outside GT', changed(whole, D_AT + 576, ...GT_outside), 'not-in-subgroup');
decode_fault('with a commitment whose coefficient is q', changed(whole, D_AT, ...big_endian(q, 48)), 'non-canonical');
decode_fault('whose body is said to have 196,609 bytes', changed(whole, BODY_AT, ...u32(196609)), 'too-large');
decode_fault('whose node part is said to have 8,193 bytes', changed(whole, NODE_PARTS_AT, ...u32(8193)), 'too-large');
decode_fault('whose doctor\'s part is said to have 8,193 bytes', changed(whole, DOCTOR_PARTS_AT, ...u32(8193)), 'too-large');
decode_fault('whose body is said to have 2^32 - 1 bytes', changed(whole, BODY_AT, ...u32(0xffffffff)), 'too-large');
decode_fault('signed by signer 2', changed(whole, SIGNER_AT, 2), 'invalid');
decode_fault('without a signer', whole.slice(0, SIGNER_AT), 'truncated');
decode_fault('cut short in the commitments', whole.slice(0, D_AT + 700), 'truncated');
decode_fault('cut short in the signature', whole.slice(0, -1), 'truncated');
decode_fault('with a byte behind it', concat(whole, u8(0)), 'trailing');
decode_fault('whose appointment is said to have 1,025 bytes', concat(text, u8(1), u32(1025), new Uint8Array(1025 + 64)), 'too-large');

// Grants whose signature does not stand

const verify_fault = (name, bytes, expect = 'bad-signature', rest = {}) =>
  file.refuses(`a signed grant ${name}`, 'verify_grant', { consortium, grant: given(bytes), ...rest }, expect);
const signature = whole.slice(-48);
const unsigned = (changes, other_signature = signature) =>
  concat(grant_text({ ...fields, ...changes }), u8(0), other_signature);
const E2 = other_episode.E;
verify_fault('whose E is replaced', unsigned({ E: E2 }));
verify_fault('whose revocation key is replaced', unsigned({ revocation_key: agent.key }));
verify_fault('whose request is replaced', unsigned({ request: ascii('another request!') }));
verify_fault('to another doctor', unsigned({ doctors: [{ access_key: stranger.access.key, hpke_key: stranger.hpke.key }, fields.doctors[1]] }));
verify_fault('whose expiry is put off', unsigned({ expiry: making.expiry + 1 }));
verify_fault('whose beginning is put forward', unsigned({ not_before: making.not_before - 1 }));
verify_fault('for another validator epoch', unsigned({ validator_epoch: 6 }));
verify_fault('to another node', unsigned({ nodes: [{ consensus_key: agent.key, hpke_key: stranger.hpke.key }, ...fields.nodes.slice(1)] }));
verify_fault('whose commitments are exchanged', unsigned({ D: [fields.D[1], fields.D[0]] }));
verify_fault('whose body is altered', unsigned({ body: flipped(fields.body, 40) }));
verify_fault('whose node parts are exchanged', unsigned({ node_parts: [1, 0, 2, 3].map((k) => fields.node_parts[k]) }));
verify_fault('whose doctors\' parts are exchanged', unsigned({ doctor_parts: [1, 0].map((k) => fields.doctor_parts[k]) }));
const difference = mod_p(other_episode.secret - secret);
const shifted = (H) => enc_G1(product([decode_G1(signature), power(H, difference)]));
const text2 = grant_text({ ...fields, E: E2 });
verify_fault('converted to episode 2: the signature shifted by H(E, text)^difference',
  unsigned({ E: E2 }, shifted(H1(cx, 'GRANT', enc_G2(episode.E), text))));
verify_fault('converted to episode 2: the signature shifted by H(E2, text2)^difference',
  unsigned({ E: E2 }, shifted(H1(cx, 'GRANT', enc_G2(E2), text2))));
const by = (T, by_secret, ...x) => concat(text, u8(0), enc_G1(BLS(cx, T, by_secret, ...x)));
verify_fault('signed without E as the first part', by('GRANT', secret, text));
verify_fault('signed as an appointment', by('DELEGATION', secret, enc_G2(episode.E), text));
verify_fault('signed as a hand-over', by('HANDOVER', secret, enc_G2(episode.E), text));
verify_fault('signed with o alone', by('GRANT', patient.o, enc_G2(episode.E), text));
verify_fault('signed by another patient', by('GRANT', other_patient.o, enc_G2(episode.E), text));
verify_fault('signed with the secret of another episode', by('GRANT', other_episode.secret, enc_G2(episode.E), text));
verify_fault('signed in another consortium', concat(text, u8(0), enc_G1(BLS(other_consortium, 'GRANT', secret, enc_G2(episode.E), text))));
verify_fault('with the signature negated', changed(whole, whole.length - 48, whole.at(-48) ^ 0x20));
verify_fault('with a signature that is the identity', unsigned({}, G1_identity), 'identity');
verify_fault('with a signature outside the subgroup', unsigned({}, G1_outside), 'not-in-subgroup');
verify_fault('with a signature off the curve', unsigned({}, G1_off_curve), 'off-curve');
verify_fault('that names another consortium', signed({ consortium: other_consortium }), 'foreign-grant');
verify_fault('read in another consortium', whole, 'foreign-grant', { consortium: hex(other_consortium) });

// An agent's grant

const appointment = appoint(cx, secret, scope);
const AGENT = 'an agent\'s grant';
const agent_text = grant_text({ ...fields, request: ascii('asked of the agent') });
const agents = file.accepts(AGENT, 'sign_by_agent', {
  consortium, secret: hex(agent.secret), appointment: hex(appointment), E: of_point(episode.E), text: hex(agent_text),
});
const agents_whole = unhex(agents.grant);
file.accepts('the agent\'s signature stands', 'verify_grant', { consortium, grant: { of: AGENT, pieces: [[0, agents_whole.length]] } });
const agent_fault = (name, bytes, expect = 'bad-signature') =>
  file.refuses(`an agent's grant ${name}`, 'verify_grant', { consortium, grant: pieces_of(AGENT, agents_whole, bytes) }, expect);
const by_agent = (changes = {}) =>
  sign_by_agent(cx, changes.secret ?? agent.secret, changes.appointment ?? appointment, changes.E ?? episode.E, changes.text ?? agent_text);
const with_tail = (one, ed25519_signature) => concat(agent_text, u8(1), variable(one), ed25519_signature);
agent_fault('signed by another key', by_agent({ secret: other_agent.secret }));
agent_fault('signed under another context', with_tail(appointment, sign_C(cx, 'request', agent.secret, enc_G2(episode.E), agent_text)));
agent_fault('signed without E as a part', with_tail(appointment, sign_C(cx, 'agent', agent.secret, agent_text)));
agent_fault('signed over another text', with_tail(appointment, sign_C(cx, 'agent', agent.secret, enc_G2(episode.E), text)));
agent_fault('whose appointment names another agent', by_agent({
  secret: other_agent.secret, appointment: concat(appointment.slice(0, 128), other_agent.key, appointment.slice(160)),
}));
agent_fault('whose appointment is moved to its episode', (() => {
  const E2_text = grant_text({ ...fields, E: E2 });
  return sign_by_agent(cx, agent.secret, concat(enc_G2(E2), appointment.slice(96)), E2, E2_text);
})());
agent_fault('for another episode than its appointment', (() => {
  const E2_text = grant_text({ ...fields, E: E2 });
  return sign_by_agent(cx, agent.secret, appointment, E2, E2_text);
})(), 'foreign-grant');
agent_fault('whose appointment is of another consortium', by_agent({ appointment: appoint(other_consortium, secret, scope) }), 'foreign-grant');
agent_fault('whose appointment is signed with another episode\'s secret', by_agent({ appointment: appoint(cx, other_episode.secret, scope) }));
agent_fault('whose appointment has one class more', by_agent({
  appointment: concat(appointment.slice(0, 200), u8(3), appointment.slice(201, 203), u8(8), appointment.slice(203)),
}));
agent_fault('whose appointment ends later', by_agent({ appointment: flipped(appointment, 199) }));
agent_fault('whose appointment is cut short', by_agent({ appointment: appointment.slice(0, -1) }), 'truncated');
agent_fault('whose appointment has a byte behind it', by_agent({ appointment: concat(appointment, u8(0)) }), 'trailing');
agent_fault('given as the patient\'s', concat(agent_text, u8(0), agents_whole.slice(-48)), 'off-curve');


// A node's part

const node_part = (bytes, rest = {}) => ({ consortium, grant: given(bytes), m: 2, hpke_secret: hex(nodes[1].hpke.secret), ...rest });
const node_fault = (name, input, expect) => file.refuses(`a node's part: ${name}`, 'open_node_part', input, expect);
const sealed_to = (index, plaintext, purpose = 'grant-to-node', subject = fields.gid) =>
  hpke_seal(cx, purpose, subject, nodes[index].hpke.key, fixed('grant, node 1'), plaintext);
const with_part = (part) => signed({ node_parts: fields.node_parts.map((one, k) => (k === 1 ? part : one)) });
const shares = file.positive.find((vector) => vector.name === 'node 1 opens its part').output.shares.map(unhex);
const own_shares = decode_own_shares();
const body_key = unhex(making.body_key);

function decode_own_shares() {
  const { shares: own } = open_node_part(cx, whole, 2, nodes[1].hpke.secret);
  return own;
}

node_fault('opened by another node', node_part(whole, { hpke_secret: hex(nodes[2].hpke.secret) }), 'not-a-recipient');
node_fault('opened as another node\'s', node_part(whole, { m: 3 }), 'not-a-recipient');
node_fault('of node 0', node_part(whole, { m: 0 }), 'not-a-recipient');
node_fault('of node 5 of four', node_part(whole, { m: 5 }), 'not-a-recipient');
node_fault('opened by a stranger', node_part(whole, { hpke_secret: hex(stranger.hpke.secret) }), 'not-a-recipient');
node_fault('the grant\'s signature does not stand', node_part(unsigned({ expiry: making.expiry + 1 })), 'bad-signature');
node_fault('another node\'s part in its place', node_part(signed({ node_parts: [0, 2, 1, 3].map((k) => fields.node_parts[k]) })), 'cannot-open');
node_fault('altered', node_part(with_part(flipped(fields.node_parts[1], 60))), 'cannot-open');
node_fault('sealed for another gid', node_part(with_part(sealed_to(1, encode_node_part(body_key, own_shares), 'grant-to-node', fixed('another gid')))), 'cannot-open');
node_fault('sealed as a doctor\'s', node_part(with_part(sealed_to(1, encode_node_part(body_key, own_shares), 'grant-to-doctor'))), 'cannot-open');
node_fault('of 47 bytes', node_part(with_part(fields.node_parts[1].slice(0, 47))), 'truncated');
node_fault('the shares of node 1', node_part(with_part(sealed_to(1, concat(body_key, ...shares)))), 'bad-share');
node_fault('the shares of two classes exchanged', node_part(with_part(sealed_to(1, encode_node_part(body_key, own_shares.slice().reverse())))), 'bad-share');
node_fault('one share altered', node_part(with_part(sealed_to(1, encode_node_part(body_key, [own_shares[0], product([own_shares[1], fixed_G1('alteration')])])))), 'bad-share');
node_fault('commitments of another dealing', node_part(signed({ D: [fields.D[0], [fields.D[1][0], e(fixed_G1('another A_1'), g2)]] })), 'bad-share');
node_fault('a share that is the identity', node_part(with_part(sealed_to(1, concat(body_key, enc_G1(own_shares[0]), G1_identity)))), 'identity');
node_fault('a share outside the subgroup', node_part(with_part(sealed_to(1, concat(body_key, enc_G1(own_shares[0]), G1_outside)))), 'not-in-subgroup');
node_fault('a share missing', node_part(with_part(sealed_to(1, encode_node_part(body_key, own_shares.slice(0, 1))))), 'truncated');
node_fault('a share too many', node_part(with_part(sealed_to(1, encode_node_part(body_key, [...own_shares, own_shares[0]])))), 'trailing');
node_fault('another body key', node_part(with_part(sealed_to(1, encode_node_part(fixed('another body key'), own_shares)))), 'cannot-open');
node_fault('a body of another grant', node_part(signed({ body: seal_body(cx, fixed('another gid'), body_key, encode_body(to_making(making))) })), 'cannot-open');
node_fault('a body of a second key under the commitment to the first', node_part(signed({
  body: concat(fields.body.slice(0, 32), seal_body(cx, fields.gid, fixed('a second body key'), encode_body(to_making(making))).slice(32)),
  node_parts: fields.node_parts.map((one, k) => (k === 1 ? sealed_to(1, encode_node_part(fixed('a second body key'), own_shares)) : one)),
})), 'cannot-open');

// A doctor's part

const doctor_part = (bytes, rest = {}) => ({ consortium, grant: given(bytes), place: 0, hpke_secret: hex(doctor.hpke.secret), ...rest });
const doctor_fault = (name, input, expect) => file.refuses(`a doctor's part: ${name}`, 'open_doctor_part', input, expect);
const Lc = [4, 2].map((one) => class_label_key(cx, episode.PID, one));
const told = { seed: unhex(making.seed), G: unhex(making.G), E: episode.E, Lc };
const doctor_sealed = (plaintext, purpose = 'grant-to-doctor', subject = fields.gid) =>
  signed({ doctor_parts: [hpke_seal(cx, purpose, subject, doctor.hpke.key, fixed('grant, doctor 0'), plaintext), fields.doctor_parts[1]] });
doctor_fault('opened by another doctor', doctor_part(whole, { hpke_secret: hex(other_doctor.hpke.secret) }), 'not-a-recipient');
doctor_fault('opened as another doctor\'s', doctor_part(whole, { place: 1 }), 'not-a-recipient');
doctor_fault('at a place that the grant has not', doctor_part(whole, { place: 2 }), 'not-a-recipient');
doctor_fault('opened by a stranger', doctor_part(whole, { hpke_secret: hex(stranger.hpke.secret) }), 'not-a-recipient');
doctor_fault('the grant\'s signature does not stand', doctor_part(unsigned({ expiry: making.expiry + 1 })), 'bad-signature');
doctor_fault('another doctor\'s part in its place', doctor_part(signed({ doctor_parts: fields.doctor_parts.slice().reverse() })), 'cannot-open');
doctor_fault('altered', doctor_part(signed({ doctor_parts: [flipped(fields.doctor_parts[0], -1), fields.doctor_parts[1]] })), 'cannot-open');
doctor_fault('sealed for another gid', doctor_part(doctor_sealed(encode_doctor_part(told), 'grant-to-doctor', fixed('another gid'))), 'cannot-open');
doctor_fault('sealed as a node\'s', doctor_part(doctor_sealed(encode_doctor_part(told), 'grant-to-node')), 'cannot-open');
doctor_fault('carried over to a grant with another revocation key', doctor_part(signed({ revocation_key: agent.key })), 'cannot-open');
doctor_fault('that names another episode', doctor_part(doctor_sealed(encode_doctor_part({ ...told, E: E2 }))), 'foreign-grant');
doctor_fault('with a class less than the grant', doctor_part(doctor_sealed(encode_doctor_part({ ...told, Lc: Lc.slice(1) }))), 'invalid');
doctor_fault('of 33 classes', doctor_part(doctor_sealed(encode_doctor_part({ ...told, Lc: Array.from({ length: 33 }, () => Lc[0]) }))), 'too-large');
doctor_fault('cut short', doctor_part(doctor_sealed(encode_doctor_part(told).slice(0, -1))), 'truncated');
doctor_fault('with a byte behind it', doctor_part(doctor_sealed(concat(encode_doctor_part(told), u8(0)))), 'trailing');
doctor_fault('whose E is the identity', doctor_part(doctor_sealed(changed(encode_doctor_part(told), 64, ...G2_identity))), 'identity');

// The body alone

const body_bytes = encode_body(to_making(making));
const body = { consortium, gid, body_key: making.body_key, body: hex(fields.body) };
file.accepts('the body opens', 'open_body', body);
const nothing_named = encode_body({ G: unhex(making.G), trapdoors: [], entries: [] });
file.accepts('a body without trapdoors and entries', 'open_body', { ...body, body: hex(seal_body(cx, fields.gid, body_key, nothing_named)) });
const body_fault = (name, fault, expect) => file.refuses(`a body ${name}`, 'open_body', { ...body, ...fault }, expect);
const sealed_body = (bytes) => ({ body: hex(seal_body(cx, fields.gid, body_key, bytes)) });
body_fault('under another body key', { body_key: hex(fixed('another body key')) }, 'cannot-open');
body_fault('of another grant', { gid: hex(fixed('another gid')) }, 'cannot-open');
body_fault('in another consortium', { consortium: hex(other_consortium) }, 'cannot-open');
body_fault('whose commitment is altered', { body: hex(flipped(fields.body, 0)) }, 'cannot-open');
const second_key = fixed('a second body key');
body_fault('of a second body key under the commitment to the first', {
  body_key: hex(second_key), body: hex(concat(fields.body.slice(0, 32), seal_body(cx, fields.gid, second_key, body_bytes).slice(32))),
}, 'cannot-open');
body_fault('of the first body key under the commitment to a second', {
  body: hex(concat(seal_body(cx, fields.gid, second_key, body_bytes).slice(0, 32), fields.body.slice(32))),
}, 'cannot-open');
body_fault('without its commitment', { body: hex(fields.body.slice(32)) }, 'cannot-open');
body_fault('whose ciphertext is altered', { body: hex(flipped(fields.body, 32)) }, 'cannot-open');
body_fault('whose tag is altered', { body: hex(flipped(fields.body, -1)) }, 'cannot-open');
body_fault('with a byte behind its tag', { body: hex(concat(fields.body, u8(0))) }, 'cannot-open');
body_fault('of 47 bytes', { body: hex(fields.body.slice(0, 47)) }, 'cannot-open');
body_fault('of no bytes', { body: '' }, 'cannot-open');
body_fault('of 257 trapdoors', sealed_body(changed(body_bytes, 32, ...u32(257))), 'too-large');
const entries_at = 32 + 4 + 56 * 2;
body_fault('of 4,097 named entries', sealed_body(changed(body_bytes, entries_at, ...u32(4097))), 'too-large');
body_fault('with a trapdoor that is the identity', sealed_body(changed(body_bytes, 44, ...G1_identity)), 'identity');
body_fault('with a trapdoor outside the subgroup', sealed_body(changed(body_bytes, 44, ...G1_outside)), 'not-in-subgroup');
body_fault('cut short', sealed_body(body_bytes.slice(0, -1)), 'truncated');
body_fault('with a byte behind it', sealed_body(concat(body_bytes, u8(0))), 'trailing');
