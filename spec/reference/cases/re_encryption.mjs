import { ascii, concat, hex, unhex } from '../encoding.mjs';
import { decode_G1, e, enc_G1, enc_GT, g2, GT_inverse, GT_power, GT_product, power, product } from '../groups.mjs';
import { H1, Hs } from '../hashes.mjs';
import {
  class_label_key, condition, decode_container, decode_header, encode_HC, encode_header, label_of, MDEnc, open_section,
} from '../containers.mjs';
import {
  check_share, combine, Dec, mask, prove_share, ReEnc, RKGen, share_parts, verify_share_proof,
} from '../re_encryption.mjs';
import { message_C, sign_C, verify_C, ed25519_public } from '../sealing.mjs';
import {
  consortium as cx, doctor, ed25519_pair, episode, hospital, other_consortium, other_episode, patient,
} from './world.mjs';
import { G1_identity, G1_off_curve, G1_outside, GT_one, GT_outside } from './groups.mjs';
import {
  changed, fixed, fixed_G1, fixed_scalar, of_GT, of_point, of_scalar, to_G1, to_G2, to_GT, to_scalar, VectorFile,
} from './vector.mjs';

/** What E24 signs and E27 proves, in JSON, to values. */
const to_statement = ({ gid, transaction, hdr, j, m, U, C_m, W_m }) => ({
  gid: unhex(gid), transaction: unhex(transaction), hdr: unhex(hdr), j, m, U: to_G2(U), W_m: to_GT(W_m),
  ...(C_m === undefined ? {} : { C_m: to_GT(C_m) }),
});
const to_combined = (parts) => parts.map(({ m, W_m }) => ({ m, W_m: to_GT(W_m) }));

export const file = new VectorFile('re_encryption', ['(14)', '(15)', '(16)', 'E23', 'E24', 'E25', 'E26', 'E27'], {
  RKGen: ({ consortium, gid, seed, j, PID, class: section_class, a, n, A }) => {
    const made = RKGen(unhex(consortium), {
      gid: unhex(gid), seed: unhex(seed), j, PID: unhex(PID), section_class, a: to_scalar(a), n, A: A.map(to_G1),
    });
    return {
      S_j: of_point(made.S_j), RK_j: of_point(made.RK_j), shares: made.shares.map(of_point), D: made.D.map(of_GT),
    };
  },
  check_share: ({ D, m, share }) => ({ C_m: of_GT(check_share(D.map(to_GT), m, to_G1(share))) }),
  ReEnc: ({ consortium, header, share }) => {
    const made = ReEnc(unhex(consortium), unhex(header), to_G1(share));
    return { W_m: of_GT(made.W_m), U: of_point(made.U), hdr: hex(made.hdr) };
  },
  sign_share: ({ consortium, secret, ...statement }) => {
    const parts = share_parts(to_statement(statement));
    return {
      key: hex(ed25519_public(unhex(secret))), message: hex(message_C(unhex(consortium), 'share', ...parts)),
      signature: hex(sign_C(unhex(consortium), 'share', unhex(secret), ...parts)),
    };
  },
  verify_share_signature: ({ consortium, key, signature, ...statement }) => {
    verify_C(unhex(consortium), 'share', unhex(key), unhex(signature), ...share_parts(to_statement(statement)));
    return { stands: true };
  },
  combine: ({ t, parts }) => ({ W: of_GT(combine(t, to_combined(parts))) }),
  Dec: ({ consortium, gid, seed, j, W, U }) => ({
    K: of_GT(Dec(to_GT(W), mask(unhex(consortium), unhex(gid), unhex(seed), j), to_G2(U))),
  }),
  open_granted: ({ consortium, container, Lc, gid, seed, j, t, parts }) => {
    const { U } = decode_container(unhex(consortium), unhex(container)).header;
    const S_j = mask(unhex(consortium), unhex(gid), unhex(seed), j);
    const K = Dec(combine(t, to_combined(parts)), S_j, U);
    const label = label_of(unhex(consortium), unhex(Lc), U);
    return { plaintext: hex(open_section(unhex(consortium), unhex(container), label, K)) };
  },
  prove_share: ({ consortium, share, P0, ...statement }) => ({
    proof: hex(prove_share(unhex(consortium), to_statement(statement), to_G1(share), to_G1(P0))),
  }),
  verify_share_proof: ({ consortium, proof, ...statement }) => {
    verify_share_proof(unhex(consortium), to_statement(statement), unhex(proof));
    return { stands: true };
  },
});

const consortium = hex(cx);
const HISTORY = 2;
const LABORATORY = 4;
const NOTES = 8;
const n = 4;

// Two records of one episode, and a grant of laboratory (j = 0) and history (j = 1)

const record_of = (name) =>
  MDEnc(cx, {
    s_D: doctor.s_D, author: doctor.author.key, institution: hospital.institution, A: patient.A, PID: episode.PID,
    nonce: fixed(`${name}: nonce`),
    sections: [
      { class: HISTORY, plaintext: ascii('Hypertension since 2009.') },
      { class: LABORATORY, plaintext: ascii('INR 1.0; glucose 8.4 mmol/L.') },
      { class: NOTES, plaintext: ascii('Not granted.') },
    ],
  });
const record = record_of('re-encrypted');
const other_record = record_of('re-encrypted, another');
const header = decode_header(record.header);
const gid = fixed('gid');
const seed = fixed('grant seed');
const key_input = (j, section_class, rest = {}) => ({
  consortium, gid: hex(gid), seed: hex(seed), j, PID: hex(episode.PID), class: section_class, a: of_scalar(patient.a), n,
  A: [of_point(fixed_G1(`A_1 of class ${j}`))], ...rest,
});
const keys = [
  file.accepts('a key for laboratory, two of four', 'RKGen', key_input(0, LABORATORY)),
  file.accepts('a key for history, two of four', 'RKGen', key_input(1, HISTORY)),
];
const three = file.accepts('a key for laboratory, three of four', 'RKGen', key_input(0, LABORATORY, {
  A: [of_point(fixed_G1('A_1 of three')), of_point(fixed_G1('A_2 of three'))],
}));
const alone = file.accepts('a key for laboratory, one of four', 'RKGen', key_input(0, LABORATORY, { A: [] }));
const foreign = RKGen(cx, {
  gid, seed, j: 0, PID: other_episode.PID, section_class: LABORATORY, a: patient.a, n, A: [fixed_G1('A_1 of class 0')],
});
file.refuses('a key with a point A_1 outside the subgroup', 'RKGen', key_input(0, LABORATORY, { A: [hex(G1_outside)] }), 'not-in-subgroup');
file.refuses('a key with A_1 that is the identity', 'RKGen', key_input(0, LABORATORY, { A: [hex(G1_identity)] }), 'identity');
file.refuses('a key with a seed of 31 bytes', 'RKGen', key_input(0, LABORATORY, { seed: hex(seed).slice(2) }), 'truncated');

// E23

const share = { D: keys[0].D, m: 2, share: keys[0].shares[1] };
const C_2 = file.accepts('the share of node 2', 'check_share', share).C_m;
file.accepts('the share of node 4 of three', 'check_share', { D: three.D, m: 4, share: three.shares[3] });
file.accepts('a share of one of four is the key', 'check_share', { D: alone.D, m: 3, share: alone.RK_j });
const share_fault = (name, fault, expect = 'bad-share') => file.refuses(`a share ${name}`, 'check_share', { ...share, ...fault }, expect);
share_fault('of another node', { share: keys[0].shares[2] });
share_fault('checked as another node\'s', { m: 3 });
share_fault('of another class', { share: keys[1].shares[1] });
share_fault('altered', { share: of_point(product([to_G1(share.share), fixed_G1('alteration')])) });
share_fault('negated', { share: of_point(to_G1(share.share).negate()) });
share_fault('of another episode\'s key', { share: of_point(foreign.shares[1]) });
share_fault('that is the key itself', { share: keys[0].RK_j });
share_fault('under commitments in the wrong order', { D: keys[0].D.slice().reverse() });
share_fault('under another class\'s commitments', { D: keys[1].D });
share_fault('under commitments without their last', { D: keys[0].D.slice(0, 1) });
share_fault('under commitments of which one is outside GT', { D: [keys[0].D[0], hex(GT_outside)] }, 'not-in-subgroup');
share_fault('under commitments of which one is 1', { D: [keys[0].D[0], hex(GT_one)] }, 'identity');
share_fault('of node 0', { m: 0 }, 'invalid');
share_fault('that is the identity', { share: hex(G1_identity) }, 'identity');
share_fault('off the curve', { share: hex(G1_off_curve) }, 'off-curve');
share_fault('outside the subgroup', { share: hex(G1_outside) }, 'not-in-subgroup');
share_fault('of the wrong group', { share: of_point(header.U) }, 'trailing');
share_fault('cut short', { share: share.share.slice(0, -2) }, 'truncated');

// (15), E24

const asked = { consortium, header: hex(record.header), share: share.share };
const re_encrypted = file.accepts('node 2 re-encrypts', 'ReEnc', asked);
const refused_header = (name, changes, expect = 'foreign-encapsulation') =>
  file.refuses(`re-encryption of a header ${name}`, 'ReEnc', {
    ...asked, header: hex(encode_header({ ...header, ...changes })),
  }, expect);
const z = fixed_scalar('decoy z');
const s = fixed_scalar('decoy s');
const U_s = product([header.U, power(g2, s)]);
const H_of = (changes) => H1(cx, 'U', encode_HC({ ...header, ...changes }));
refused_header('with U^z and V carried over', { U: power(header.U, z) });
refused_header('with U^z and V^z', { U: power(header.U, z), V: power(header.V, z) });
refused_header('with U * g2^s and V carried over', { U: U_s });
refused_header('with U * g2^s and V * H1_U(HC)^s', { U: U_s, V: product([header.V, power(H_of({}), s)]) });
refused_header('with a stranger\'s own labels over a patient\'s U', {
  sections: [{ ...header.sections[0], label: fixed('a stranger\'s label') }],
});
refused_header('with another record\'s U', { U: other_record.U });
refused_header('of another consortium', { consortium: other_consortium });
file.refuses('re-encryption of a header cut short', 'ReEnc', { ...asked, header: hex(record.header.slice(0, -1)) }, 'truncated');
file.refuses('re-encryption of a whole container', 'ReEnc', { ...asked, header: hex(record.container) }, 'trailing');
file.refuses('re-encryption with a share that is the identity', 'ReEnc', { ...asked, share: hex(G1_identity) }, 'identity');

const node = ed25519_pair('node 2');
const other_node = ed25519_pair('node 3');
const transaction = hex(fixed('a record\'s transaction'));
const statement = {
  consortium, gid: hex(gid), transaction, hdr: re_encrypted.hdr, j: 0, m: 2, U: re_encrypted.U, W_m: re_encrypted.W_m,
};
const signed = file.accepts('node 2 signs', 'sign_share', { ...statement, secret: hex(node.secret) });
const signature = { ...statement, key: signed.key, signature: signed.signature };
file.accepts('node 2\'s signature stands', 'verify_share_signature', signature);
const W_of = (record_U, point) => of_GT(e(to_G1(point), record_U));
const W_elsewhere = W_of(other_record.U, share.share);
const changes = [
  ['for another grant', { gid: hex(fixed('another gid')) }],
  ['for another transaction', { transaction: hex(fixed('another transaction')) }],
  ['for another header', { hdr: hex(other_record.hdr) }],
  ['for another class', { j: 1 }],
  ['for another node', { m: 3 }],
  ['for another record\'s U', { U: of_point(other_record.U) }],
  ['over another record\'s W_m', { W_m: W_elsewhere }],
  ['in another consortium', { consortium: hex(other_consortium) }],
];
for (const [name, fault] of changes) {
  file.refuses(`a share's signature ${name}`, 'verify_share_signature', { ...signature, ...fault }, 'bad-signature');
}
file.refuses('a share\'s signature by another node', 'verify_share_signature', { ...signature, key: hex(other_node.key) }, 'bad-signature');
file.refuses('a share\'s signature given as a reply', 'verify_share_signature', {
  ...signature, signature: hex(sign_C(cx, 'reply', node.secret, ...share_parts(to_statement(statement)))),
}, 'bad-signature');

// E25, E26

const parts_of = (key, nodes, U = header.U) => nodes.map((m) => ({ m, W_m: W_of(U, key.shares[m - 1]) }));
const parts = parts_of(keys[0], [2, 4]);
const { W } = file.accepts('nodes 2 and 4 combined', 'combine', { t: 2, parts });
file.accepts('nodes 3 and 1 combined give the same', 'combine', { t: 2, parts: parts_of(keys[0], [3, 1]) });
file.accepts('nodes 1, 2 and 4 of three combined', 'combine', { t: 3, parts: parts_of(three, [1, 2, 4]) });
const dec = { consortium, gid: hex(gid), seed: hex(seed), j: 0, W, U: of_point(header.U) };
const { K } = file.accepts('K from W', 'Dec', dec);
if (K !== of_GT(e(power(condition(cx, episode.PID, LABORATORY), patient.a), header.U))) throw new Error('Dec is not correct');

file.refuses('combining one part of two', 'combine', { t: 2, parts: parts.slice(0, 1) }, 'too-few');
file.refuses('combining no part', 'combine', { t: 2, parts: [] }, 'too-few');
file.refuses('combining two parts of three', 'combine', { t: 3, parts: parts_of(three, [1, 2]) }, 'too-few');
file.refuses('combining a node twice', 'combine', { t: 2, parts: [parts[0], parts[0]] }, 'repeated');
file.refuses('combining a node twice under different values', 'combine', { t: 2, parts: [parts[0], { ...parts[1], m: 2 }] }, 'repeated');
file.refuses('combining a node twice where three are needed', 'combine', { t: 3, parts: [parts[0], parts[0]] }, 'repeated');
file.refuses('combining two nodes, of which one stands again behind them', 'combine', { t: 2, parts: [...parts, parts[0]] }, 'repeated');
file.refuses('combining a part of node 0', 'combine', { t: 2, parts: [{ ...parts[0], m: 0 }, parts[1]] }, 'invalid');
file.refuses('combining a part that is 1', 'combine', { t: 2, parts: [{ ...parts[0], W_m: hex(GT_one) }, parts[1]] }, 'identity');
file.refuses('combining a part outside GT', 'combine', { t: 2, parts: [{ ...parts[0], W_m: hex(GT_outside) }, parts[1]] }, 'not-in-subgroup');
file.refuses('K from W = e(S_j, U)', 'Dec', { ...dec, W: of_GT(e(to_G1(keys[0].S_j), header.U)) }, 'identity');
file.refuses('K from W that is 1', 'Dec', { ...dec, W: hex(GT_one) }, 'identity');
file.refuses('K from a seed of 33 bytes', 'Dec', { ...dec, seed: `${hex(seed)}00` }, 'trailing');

const Lc_of = (section_class, of = episode) => hex(class_label_key(cx, of.PID, section_class));
const granted = {
  consortium, container: hex(record.container), Lc: Lc_of(LABORATORY), gid: hex(gid), seed: hex(seed), j: 0, t: 2, parts,
};
file.accepts('a granted section opens', 'open_granted', granted);
file.accepts('the second granted section opens', 'open_granted', {
  ...granted, Lc: Lc_of(HISTORY), j: 1, parts: parts_of(keys[1], [1, 3]),
});
file.accepts('a granted section opens with three of four', 'open_granted', { ...granted, t: 3, parts: parts_of(three, [4, 3, 1]) });
const mixed = RKGen(cx, {
  gid, seed, j: 0, PID: episode.PID, section_class: LABORATORY, a: patient.a, n, A: [fixed_G1('A_1 of another dealing')],
});
const granted_fault = (name, fault, expect = 'wrong-key') =>
  file.refuses(`a granted section: ${name}`, 'open_granted', { ...granted, ...fault }, expect);
granted_fault('another node\'s share', { parts: [{ ...parts[0], W_m: W_of(header.U, keys[0].shares[2]) }, parts[1]] });
granted_fault('another class\'s share', { parts: [parts_of(keys[1], [2])[0], parts[1]] });
granted_fault('shares of another class throughout', { parts: parts_of(keys[1], [2, 4]) });
granted_fault('shares of another episode\'s key', { parts: parts_of({ shares: foreign.shares.map(of_point) }, [2, 4]) });
granted_fault('shares of two dealings', { parts: [parts[0], parts_of({ shares: mixed.shares.map(of_point) }, [4])[0]] });
granted_fault('W_m of another record', { parts: [{ ...parts[0], W_m: W_elsewhere }, parts[1]] });
granted_fault('both W_m of another record', { parts: parts_of(keys[0], [2, 4], other_record.U) });
granted_fault('a lying node squares its W_m', {
  parts: [{ ...parts[0], W_m: of_GT(GT_product([to_GT(parts[0].W_m), to_GT(parts[0].W_m)])) }, parts[1]],
});
granted_fault('the nodes\' numbers exchanged', { parts: [{ ...parts[0], m: 4 }, { ...parts[1], m: 2 }] });
granted_fault('two parts of a three-of-four key', { parts: parts_of(three, [1, 2]) });
granted_fault('one part taken for the whole', { t: 1, parts: parts.slice(0, 1) });
granted_fault('the seed replayed under another gid', { gid: hex(fixed('another gid')) });
granted_fault('another seed', { seed: hex(fixed('another seed')) });
granted_fault('another place of the class', { j: 1 });
granted_fault('another record\'s container', { container: hex(other_record.container) });
granted_fault('the label of a section that is not granted', { Lc: Lc_of(NOTES) });
granted_fault('the label key of another episode', { Lc: Lc_of(LABORATORY, other_episode) }, 'no-hit');
granted_fault('the label key of a class that the record lacks', { Lc: Lc_of(5) }, 'no-hit');
granted_fault('another consortium', { consortium: hex(other_consortium) }, 'foreign-encapsulation');
granted_fault('too few parts', { parts: parts.slice(0, 1) }, 'too-few');
granted_fault('a node twice', { parts: [parts[1], parts[1]] }, 'repeated');

// E27

const proved = { ...statement, C_m: C_2 };
const P0 = fixed_G1('P0');
const { proof } = file.accepts('node 2 proves its W_m', 'prove_share', { ...proved, share: share.share, P0: of_point(P0) });
const shown = { ...proved, proof };
file.accepts('the proof of node 2 stands', 'verify_share_proof', shown);
const proof_fault = (name, fault, expect = 'lying-node') => file.refuses(`a proof ${name}`, 'verify_share_proof', { ...shown, ...fault }, expect);
for (const [name, fault] of changes) proof_fault(name, fault);
const bytes = unhex(proof);
const [a1, a2, z_bytes] = [bytes.slice(0, 576), bytes.slice(576, 1152), bytes.slice(1152)];
const other_GT = enc_GT(e(fixed_G1('another a'), g2));
const with_proof = (...pieces) => ({ proof: hex(concat(...pieces)) });
proof_fault('with a1 altered', with_proof(other_GT, a2, z_bytes));
proof_fault('with a2 altered', with_proof(a1, other_GT, z_bytes));
proof_fault('with a1 and a2 exchanged', with_proof(a2, a1, z_bytes));
proof_fault('with z altered', with_proof(a1, a2, enc_G1(product([decode_G1(z_bytes), fixed_G1('alteration')]))));
proof_fault('with z negated', with_proof(a1, a2, changed(z_bytes, 0, z_bytes[0] ^ 0x20)));
proof_fault('against another node\'s commitment', { C_m: of_GT(check_share(keys[0].D.map(to_GT), 3, to_G1(keys[0].shares[2]))) });
proof_fault('of another node\'s W_m', { W_m: W_of(header.U, keys[0].shares[2]) });
proof_fault('of W_m squared', { W_m: of_GT(GT_product([to_GT(statement.W_m), to_GT(statement.W_m)])) });
const lie = { ...proved, W_m: W_of(header.U, keys[0].shares[2]) };
proof_fault('made with another share than the one committed to', {
  W_m: lie.W_m, proof: hex(prove_share(cx, to_statement(lie), to_G1(keys[0].shares[2]), P0)),
});
proof_fault('simulated for a challenge that was guessed', { ...lie, proof: hex(simulated(to_statement(lie))) });
proof_fault('for another header\'s U and W_m, made for its own', {
  U: of_point(other_record.U), W_m: W_elsewhere,
  proof: hex(prove_share(cx, to_statement(proved), to_G1(share.share), P0)),
});
proof_fault('with a1 = 1', with_proof(GT_one, a2, z_bytes), 'identity');
proof_fault('with a1 outside GT', with_proof(GT_outside, a2, z_bytes), 'not-in-subgroup');
proof_fault('with a2 outside GT', with_proof(a1, GT_outside, z_bytes), 'not-in-subgroup');
proof_fault('with z that is the identity', with_proof(a1, a2, G1_identity), 'identity');
proof_fault('with z outside the subgroup', with_proof(a1, a2, G1_outside), 'not-in-subgroup');
proof_fault('with z off the curve', with_proof(a1, a2, G1_off_curve), 'off-curve');
proof_fault('of 1,199 bytes', { proof: proof.slice(0, -2) }, 'truncated');
proof_fault('of 1,201 bytes', { proof: `${proof}00` }, 'trailing');

/** a1 and a2 that would stand if the challenge were h; it is another one. */
function simulated({ U, C_m, W_m }) {
  const h = Hs(cx, 'SHARE', fixed('a guess'));
  const point = fixed_G1('simulated z');
  const left = (Q, x) => enc_GT(GT_product([e(point, Q), GT_inverse(GT_power(x, h))]));
  return concat(left(g2, C_m), left(U, W_m), enc_G1(point));
}
