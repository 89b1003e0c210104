// Section 6 of spec/scheme.md: containers.

import {
  ascii, compare, concat, equal, exactly, Reader, require, to_integer, u32, u64, u8,
} from './encoding.mjs';
import { decode_G1, decode_G2, e, enc_G1, enc_G2, g2, GT_equal, power } from './groups.mjs';
import { Expand, H1, Hs, HT, PRF, sha256 } from './hashes.mjs';
import { aes_open, aes_seal } from './sealing.mjs';

export const CHUNK = 65536;
const MAX_SECTIONS = 32;
const MAX_PLAINTEXT = 1n << 40n;

/** E16. padme(L), L >= 2. */
export function padme(length) {
  const L = BigInt(length);
  if (L < 2n) throw new RangeError('padme needs at least 2');
  const E = floor_log2(L);
  const S = floor_log2(E) + 1n;
  const step = 1n << (E - S);
  return ((L + step - 1n) / step) * step;
}

const floor_log2 = (x) => BigInt(x.toString(2).length - 1);

/** chunks = ceil(P / 65536) */
const chunks_of = (P) => (P + BigInt(CHUNK) - 1n) / BigInt(CHUNK);

/** Lc = PRF(PID, LC, class) */
export const class_label_key = (consortium, PID, section_class) =>
  PRF(consortium, exactly(PID, 32, 'a PID'), 'LC', section_class);

/** label = PRF(Lc, LABEL, U) */
export const label_of = (consortium, Lc, U) => PRF(consortium, Lc, 'LABEL', enc_G2(U));

/** Qc = H1_COND(PID, class) */
export const condition = (consortium, PID, section_class) => H1(consortium, 'COND', PID, section_class);

/** E15. HC. */
export function encode_HC(HC) {
  return concat(
    ascii('WEMD'), u8(1), u8(1), HC.consortium, HC.author, u32(HC.institution), HC.nonce, enc_G2(HC.U),
    u8(HC.sections.length),
    ...HC.sections.flatMap((section) => [section.label, u64(section.P), u32(section.chunks)]),
  );
}

/** E16. Header = HC || kc of each section || V. */
export const encode_header = (header) =>
  concat(encode_HC(header), ...header.sections.map((section) => section.kc), enc_G1(header.V));

/** E16. hdr. */
export const hdr_of = (header_bytes) => sha256(header_bytes);

/** Reads a header and leaves the reader behind it. */
function read_header(reader) {
  const begin = reader.at;
  require(equal(reader.take(4, 'the magic'), ascii('WEMD')), 'invalid', 'this is no container');
  require(reader.u8('the version') === 1, 'invalid', 'another version');
  require(reader.u8('the suite') === 1, 'invalid', 'another suite');
  const header = {
    consortium: reader.take(32, 'the consortium'),
    author: reader.take(32, 'the author key'),
    institution: reader.u32('the institution'),
    nonce: reader.take(32, 'the nonce'),
    U: decode_G2(reader.take(96, 'U')),
    sections: [],
  };
  const count = reader.count(1, MAX_SECTIONS, 'the number of sections');
  require(count >= 1, 'invalid', 'a container has at least one section');
  for (let index = 0; index < count; index++) {
    const section = { label: reader.take(32, 'a label'), P: reader.u64('P'), chunks: reader.u32('chunks') };
    if (index > 0) {
      require(compare(header.sections[index - 1].label, section.label) < 0, 'invalid', 'labels do not strictly ascend');
    }
    require(section.P >= 8n, 'invalid', 'P is below 8');
    require(section.P <= padme(8n + MAX_PLAINTEXT), 'too-large', 'P is above padme(8 + 2^40)');
    require(padme(section.P) === section.P, 'invalid', 'P is no fixed point of padme');
    require(BigInt(section.chunks) === chunks_of(section.P), 'invalid', 'the chunk count is not ceil(P / 65536)');
    header.sections.push(section);
  }
  header.HC = reader.bytes.slice(begin, reader.at);
  for (const section of header.sections) section.kc = reader.take(32, 'a key commitment');
  header.V = decode_G1(reader.take(48, 'V'));
  header.bytes = reader.bytes.slice(begin, reader.at);
  return header;
}

/** E15, E16. A header and nothing behind it. */
export function decode_header(bytes) {
  const reader = new Reader(bytes);
  const header = read_header(reader);
  reader.end();
  return header;
}

/** V stands if e(V, g2) = e(H1_U(HC), U). */
export function verify_encapsulation(consortium, header) {
  own_header(consortium, header);
  require(
    GT_equal(e(header.V, g2), e(H1(consortium, 'U', header.HC), header.U)),
    'foreign-encapsulation', 'V does not stand under U',
  );
}

/** key and kc of the section at `index`, from K. */
export function section_keys(consortium, K, HC, index, label) {
  const prk = HT(K);
  return {
    key: Expand(consortium, prk, 'DATA', sha256(HC), index, label),
    kc: Expand(consortium, prk, 'COMMIT', sha256(HC), index, label),
  };
}

/** E17. 7 zero bytes || chunk number || 1 for the last chunk, else 0. */
const chunk_nonce = (number, last) => concat(new Uint8Array(7), u32(number), u8(last ? 1 : 0));

/** E17. M = length || plaintext || zeros up to P bytes. */
export const padded = (plaintext) =>
  concat(u64(plaintext.length), plaintext, new Uint8Array(Number(padme(8 + plaintext.length)) - 8 - plaintext.length));

/** E17. M in sealed chunks; `nonce_of` is replaced only to make faulty vectors. */
export function seal_payload(key, HC, M, nonce_of = chunk_nonce) {
  const sealed = [];
  const count = Number(chunks_of(BigInt(M.length)));
  for (let number = 0; number < count; number++) {
    const chunk = M.slice(number * CHUNK, (number + 1) * CHUNK);
    sealed.push(aes_seal(key, nonce_of(number, number === count - 1), sha256(HC), chunk));
  }
  return concat(...sealed);
}

const payload_length = (section) => Number(section.P) + 16 * section.chunks;

/** E17. */
function open_payload(key, HC, section, payload) {
  const opened = [];
  let at = 0;
  for (let number = 0; number < section.chunks; number++) {
    const last = number === section.chunks - 1;
    const length = (last ? Number(section.P) - number * CHUNK : CHUNK) + 16;
    require(payload.length - at >= length, 'cut-short', 'the payload ends before its last chunk does');
    opened.push(aes_open(key, chunk_nonce(number, last), sha256(HC), payload.slice(at, at + length), 'altered'));
    at += length;
  }
  const M = concat(...opened);
  const length = to_integer(M.slice(0, 8));
  require(padme(8n + length) === section.P, 'bad-padding', 'the length is padded to another P');
  const end = 8 + Number(length);
  require(M.slice(end).every((byte) => byte === 0), 'bad-padding', 'the padding is not zero');
  return M.slice(8, end);
}

/** (9) The author's r. */
export const author_r = (consortium, s_D, nonce, author, A) =>
  Hs(consortium, 'R', exactly(s_D, 32, 'a sealing secret'), nonce, author, enc_G2(A));

/**
 * (9) MDEnc. sections: [{class, plaintext}]. `fault` is replaced only to make faulty vectors: it may
 * change a section's padded M, its chunk nonces or its kc before they are used.
 */
export function MDEnc(consortium, { s_D, author, institution, A, PID, nonce, sections }, fault = {}) {
  require(sections.length >= 1, 'invalid', 'a container has at least one section');
  require(sections.length <= MAX_SECTIONS, 'too-large', 'a container has at most 32 sections');
  require(new Set(sections.map((s) => s.class)).size === sections.length, 'repeated', 'a class stands twice');
  exactly(nonce, 32, 'a nonce');
  const r = author_r(consortium, s_D, nonce, author, A);
  const U = power(g2, r);
  const header = { consortium, author, institution, nonce, U };
  header.sections = sections
    .map((section) => {
      const M = fault.M === undefined ? padded(section.plaintext) : fault.M(section);
      const label = label_of(consortium, class_label_key(consortium, PID, section.class), U);
      return { class: section.class, M, label, P: BigInt(M.length), chunks: Number(chunks_of(BigInt(M.length))) };
    })
    .sort((one, two) => compare(one.label, two.label));
  const HC = encode_HC(header);
  const payloads = header.sections.map((section, index) => {
    const Qc = condition(consortium, PID, section.class);
    const K = e(power(Qc, r), A);
    const { key, kc } = section_keys(consortium, K, HC, index, section.label);
    section.kc = kc;
    return seal_payload(key, HC, section.M, fault.nonce);
  });
  header.V = power(H1(consortium, 'U', HC), r);
  const bytes = encode_header(header);
  const container = concat(bytes, ...payloads);
  return { header: bytes, hdr: hdr_of(bytes), container, digest: sha256(container), r, U };
}

/** E15, for every reader. */
function own_header(consortium, header) {
  require(equal(header.consortium, consortium), 'foreign-encapsulation', 'the header is of another consortium');
}

/** Takes a container of this consortium apart: its header and the payloads in the order of HC. */
export function decode_container(consortium, bytes) {
  const reader = new Reader(bytes);
  const header = read_header(reader);
  own_header(consortium, header);
  const payloads = header.sections.map((section) => {
    const left = bytes.length - reader.at;
    return reader.take(Math.min(left, payload_length(section)));
  });
  reader.end();
  return { header, payloads };
}

/** The place of a label in HC. */
export function find_label(header, label) {
  const index = header.sections.findIndex((section) => equal(section.label, label));
  require(index >= 0, 'no-hit', 'no section has this label');
  return index;
}

/** Opens one section with K: kc first, then the chunks. */
export function open_section(consortium, container, label, K) {
  const { header, payloads } = decode_container(consortium, container);
  const index = find_label(header, label);
  const section = header.sections[index];
  const { key, kc } = section_keys(consortium, K, header.HC, index, label);
  require(equal(kc, section.kc), 'wrong-key', 'the key commitment is another key\'s');
  return open_payload(key, header.HC, section, payloads[index]);
}

/** The owner's side: K = e(Qc^a, U). */
export function open_by_owner(consortium, container, PID, section_class, a) {
  const { header } = decode_container(consortium, container);
  const label = label_of(consortium, class_label_key(consortium, PID, section_class), header.U);
  const K = e(power(condition(consortium, PID, section_class), a), header.U);
  return open_section(consortium, container, label, K);
}

/** The author's side: r from s_D and the nonce; U = g2^r is checked. */
export function open_by_author(consortium, container, PID, section_class, A, s_D) {
  const { header } = decode_container(consortium, container);
  const r = author_r(consortium, s_D, header.nonce, header.author, A);
  require(power(g2, r).equals(header.U), 'wrong-key', 'the record was sealed with another secret');
  const label = label_of(consortium, class_label_key(consortium, PID, section_class), header.U);
  const K = e(power(condition(consortium, PID, section_class), r), A);
  return open_section(consortium, container, label, K);
}
