// Section 9 of spec/scheme.md: grants and the access log.

import { concat, equal, exactly, hex, Reader, require, u32, u64, u8, variable, xor } from './encoding.mjs';
import { decode_G1, decode_G2, decode_GT, enc_G1, enc_G2, enc_GT, mod_p } from './groups.mjs';
import { Expand, Extract, Hs, PRF, SHA } from './hashes.mjs';
import { aes_open, aes_seal, BLS, hpke_open, hpke_public, hpke_seal, sign_C, verify_BLS, verify_C } from './sealing.mjs';
import { class_label_key } from './containers.mjs';
import { check_share, RKGen } from './re_encryption.mjs';
import { verify_appointment } from './agents.mjs';

const ZERO_NONCE = new Uint8Array(12);

/** E28. gid = SHA-256(in(GID, revocation key)). */
export const gid_of = (consortium, revocation_key) => SHA(consortium, 'GID', exactly(revocation_key, 32, 'a key'));

/** E32. e = o + Hs_PID(PID), the secret of the episode key E. */
export const episode_secret = (consortium, o, PID) => mod_p(o + Hs(consortium, 'PID', PID));

// E29, the layout

/** E29. All bytes before "signer". D of a class: [elements of GT]. */
export const grant_text = (grant) =>
  concat(
    u8(1), grant.consortium, enc_G2(grant.E), grant.revocation_key, variable(grant.request),
    u8(grant.doctors.length), ...grant.doctors.flatMap((doctor) => [doctor.access_key, doctor.hpke_key]),
    u64(grant.not_before), u64(grant.expiry), u64(grant.validator_epoch),
    u8(grant.nodes.length), ...grant.nodes.flatMap((node) => [node.consensus_key, node.hpke_key]),
    u8(grant.t), u8(grant.D.length), ...grant.D.flat().map(enc_GT),
    variable(grant.body), ...grant.node_parts.map(variable), ...grant.doctor_parts.map(variable),
  );

/** A count of doctors, nodes or classes, of which a grant has at least one. */
function counted(count) {
  require(count >= 1, 'invalid', 'a grant without doctors, nodes or classes');
  return count;
}

function distinct(keys, why) {
  require(new Set(keys.map(hex)).size === keys.length, 'repeated', why);
}

/** E29. */
export function decode_grant(bytes) {
  const reader = new Reader(bytes);
  require(reader.u8('the version') === 1, 'invalid', 'another version');
  const grant = {
    consortium: reader.take(32, 'the consortium'),
    E: decode_G2(reader.take(96, 'E')),
    revocation_key: reader.take(32, 'the revocation key'),
    request: reader.variable(16384, 'the request'),
  };
  const list = (count, read) => Array.from({ length: count }, read);
  grant.doctors = list(counted(reader.count(1, 32, 'the number of doctors')), () => ({
    access_key: reader.take(32, 'an access key'),
    hpke_key: reader.take(32, 'an HPKE key'),
  }));
  distinct(grant.doctors.map((doctor) => doctor.access_key), 'an access key stands twice');
  grant.not_before = reader.u64('not-before');
  grant.expiry = reader.u64('expiry');
  grant.validator_epoch = reader.u64('the validator epoch');
  grant.nodes = list(counted(reader.u8('the number of nodes')), () => ({
    consensus_key: reader.take(32, 'a consensus key'),
    hpke_key: reader.take(32, 'an HPKE key'),
  }));
  distinct(grant.nodes.map((node) => node.consensus_key), 'a consensus key stands twice');
  grant.t = reader.u8('t');
  require(grant.t >= 1 && grant.t <= grant.nodes.length, 'invalid', 't is not between 1 and the number of nodes');
  const classes = counted(reader.count(1, 32, 'the number of classes'));
  grant.D = list(classes, () => list(grant.t, () => decode_GT(reader.take(576, 'a commitment'))));
  grant.body = reader.variable(196608, 'the body');
  grant.node_parts = list(grant.nodes.length, () => reader.variable(8192, 'a node\'s part'));
  grant.doctor_parts = list(grant.doctors.length, () => reader.variable(8192, 'a doctor\'s part'));
  grant.text = bytes.slice(0, reader.at);
  grant.signer = reader.u8('the signer');
  require(grant.signer <= 1, 'invalid', 'the signer is neither patient nor agent');
  if (grant.signer === 1) grant.appointment = reader.variable(1024, 'the appointment');
  grant.signature = reader.take(grant.signer === 0 ? 48 : 64, 'the signature');
  reader.end();
  return grant;
}

/**
 * (14) with E28 to E31: all fields of a grant before its signature.
 * input: {E, PID, a, revocation_key, request, not_before, expiry, validator_epoch, t, seed, G, body_key,
 * classes: [{class, A: t - 1 points}], trapdoors, entries, and doctors and nodes, which name each
 * recipient's keys and the ephemeral key material that its part is sealed with}.
 */
export function make_grant(consortium, input) {
  const gid = gid_of(consortium, input.revocation_key);
  const keys = input.classes.map((one, j) => RKGen(consortium, {
    gid, seed: input.seed, j, PID: input.PID, section_class: one.class, a: input.a, n: input.nodes.length, A: one.A,
  }));
  const doctor_part = encode_doctor_part({
    seed: input.seed, G: input.G, E: input.E,
    Lc: input.classes.map((one) => class_label_key(consortium, input.PID, one.class)),
  });
  return {
    consortium, gid, E: input.E, revocation_key: input.revocation_key, request: input.request, doctors: input.doctors,
    not_before: input.not_before, expiry: input.expiry, validator_epoch: input.validator_epoch, nodes: input.nodes,
    t: input.t, D: keys.map((key) => key.D),
    body: seal_body(consortium, gid, input.body_key, encode_body(input)),
    node_parts: input.nodes.map((node, index) => hpke_seal(
      consortium, 'grant-to-node', gid, node.hpke_key, node.ephemeral_ikm,
      encode_node_part(input.body_key, keys.map((key) => key.shares[index])),
    )),
    doctor_parts: input.doctors.map((doctor) => hpke_seal(
      consortium, 'grant-to-doctor', gid, doctor.hpke_key, doctor.ephemeral_ikm, doctor_part,
    )),
  };
}

// E32, signatures

/** E32. BLS_GRANT(e; E, text). */
export const sign_by_patient = (consortium, secret, E, text) =>
  concat(text, u8(0), enc_G1(BLS(consortium, 'GRANT', secret, enc_G2(E), text)));

/** E32. C = agent, parts (E, text). */
export const sign_by_agent = (consortium, agent_secret, appointment, E, text) =>
  concat(text, u8(1), variable(appointment), sign_C(consortium, 'agent', agent_secret, enc_G2(E), text));

/** E32. */
export function verify_grant(consortium, bytes) {
  const grant = decode_grant(bytes);
  require(equal(grant.consortium, consortium), 'foreign-grant', 'the grant is of another consortium');
  if (grant.signer === 0) {
    verify_BLS(consortium, 'GRANT', grant.E, grant.signature, enc_G2(grant.E), grant.text);
  } else {
    const appointment = verify_appointment(consortium, grant.appointment);
    require(appointment.E.equals(grant.E), 'foreign-grant', 'the appointment is of another episode');
    verify_C(consortium, 'agent', appointment.agent, grant.signature, enc_G2(grant.E), grant.text);
  }
  return { ...grant, gid: gid_of(consortium, grant.revocation_key) };
}

// E30, the body

/** The cipher key and the commitment that precedes the ciphertext. */
function body_keys(consortium, gid, body_key) {
  const prk = Extract('willis/v1/seed', exactly(body_key, 32, 'a body key'));
  return { key: Expand(consortium, prk, 'GRANT-BODY', gid), commitment: Expand(consortium, prk, 'GRANT-COMMIT', gid) };
}

/** E30. body: {G, trapdoors: [{institution, writer_epoch, T}], entries: [{institution, writer_epoch, tag, LK}]}. */
export const encode_body = (body) =>
  concat(
    body.G,
    u32(body.trapdoors.length),
    ...body.trapdoors.flatMap((one) => [u32(one.institution), u32(one.writer_epoch), enc_G1(one.T)]),
    u32(body.entries.length),
    ...body.entries.flatMap((one) => [u32(one.institution), u32(one.writer_epoch), one.tag, one.LK]),
  );

/** E30. The commitment stands before the ciphertext. */
export function seal_body(consortium, gid, body_key, bytes) {
  const { key, commitment } = body_keys(consortium, gid, body_key);
  return concat(commitment, aes_seal(key, ZERO_NONCE, gid, bytes));
}

/** E30. The commitment stands before the ciphertext. */
export function open_body(consortium, gid, body_key, sealed) {
  const { key, commitment } = body_keys(consortium, gid, body_key);
  require(equal(sealed.slice(0, 32), commitment), 'cannot-open', 'the body key is not the committed one');
  const reader = new Reader(aes_open(key, ZERO_NONCE, gid, sealed.slice(32), 'cannot-open'));
  const body = { G: reader.take(32, 'G'), trapdoors: [], entries: [] };
  const trapdoors = reader.count(4, 256, 'the number of trapdoors');
  for (let k = 0; k < trapdoors; k++) {
    body.trapdoors.push({
      institution: reader.u32('an institution'),
      writer_epoch: reader.u32('a writer epoch'),
      T: decode_G1(reader.take(48, 'a trapdoor')),
    });
  }
  const entries = reader.count(4, 4096, 'the number of named entries');
  for (let k = 0; k < entries; k++) {
    body.entries.push({
      institution: reader.u32('an institution'),
      writer_epoch: reader.u32('a writer epoch'),
      tag: reader.take(16, 'a tag'),
      LK: reader.take(16, 'LK'),
    });
  }
  reader.end();
  return body;
}

// E31, the sealed parts

/** E31. shares: this node's share of each class. */
export const encode_node_part = (body_key, shares) => concat(body_key, ...shares.map(enc_G1));

/** E31. Lc: one 32-byte label key per class. */
export const encode_doctor_part = ({ seed, G, E, Lc }) => concat(seed, G, enc_G2(E), u8(Lc.length), ...Lc);

/** E31. Node m opens its part of a grant whose signature stands, and checks every share (E23). */
export function open_node_part(consortium, grant_bytes, m, hpke_secret) {
  const grant = verify_grant(consortium, grant_bytes);
  const node = grant.nodes[m - 1];
  require(
    node !== undefined && equal(node.hpke_key, hpke_public(hpke_secret)), 'not-a-recipient', 'this node is not named',
  );
  const part = hpke_open(consortium, 'grant-to-node', grant.gid, hpke_secret, grant.node_parts[m - 1]);
  const reader = new Reader(part);
  const body_key = reader.take(32, 'the body key');
  const shares = grant.D.map(() => decode_G1(reader.take(48, 'a share')));
  reader.end();
  shares.forEach((share, j) => check_share(grant.D[j], m, share));
  return { gid: grant.gid, body_key, shares, body: open_body(consortium, grant.gid, body_key, grant.body) };
}

/** E31. The doctor at `place` (from 0) opens its part of a grant whose signature stands. */
export function open_doctor_part(consortium, grant_bytes, place, hpke_secret) {
  const grant = verify_grant(consortium, grant_bytes);
  const doctor = grant.doctors[place];
  require(
    doctor !== undefined && equal(doctor.hpke_key, hpke_public(hpke_secret)),
    'not-a-recipient', 'this doctor is not named',
  );
  const part = hpke_open(consortium, 'grant-to-doctor', grant.gid, hpke_secret, grant.doctor_parts[place]);
  const reader = new Reader(part);
  const opened = { seed: reader.take(32, 'the seed'), G: reader.take(32, 'G'), E: decode_G2(reader.take(96, 'E')) };
  const count = reader.count(1, 32, 'the number of classes');
  opened.Lc = Array.from({ length: count }, () => reader.take(32, 'Lc'));
  reader.end();
  require(opened.E.equals(grant.E), 'foreign-grant', 'the part names another episode');
  require(count === grant.D.length, 'invalid', 'the part counts other classes than the grant');
  return { gid: grant.gid, ...opened };
}

// E33, the access log

/** E33. Masks a transaction id, and unmasks it again. */
export const mask_transaction = (consortium, G, access_key, i, v, transaction) =>
  xor(PRF(consortium, exactly(G, 32, 'G'), 'LOG-PAD', access_key, i, exactly(v, 16, 'v')), transaction);

/** E33. An entry that unmasks to none of the record transactions names no record. */
export function read_log_entry(consortium, G, { access_key, i, v, masked }, transactions) {
  const transaction = mask_transaction(consortium, G, access_key, i, v, exactly(masked, 32, 'a masked id'));
  require(transactions.some((one) => equal(one, transaction)), 'no-hit', 'the entry names no known record');
  return transaction;
}
