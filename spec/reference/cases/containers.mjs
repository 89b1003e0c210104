import { ascii, compare, concat, hex, u32, u64, u8, unhex } from '../encoding.mjs';
import { e, g2, power, product } from '../groups.mjs';
import { H1 } from '../hashes.mjs';
import {
  CHUNK, class_label_key, condition, decode_header, encode_HC, encode_header, hdr_of, label_of, MDEnc, open_by_author,
  open_by_owner, open_section, padded, padme, section_keys, verify_encapsulation,
} from '../containers.mjs';
import {
  consortium as cx, doctor, episode, hospital, other_consortium, other_doctor, other_episode, other_patient, patient,
} from './world.mjs';
import { G1_identity, G1_outside, G2_identity, G2_off_curve, G2_outside, GT_one, GT_outside } from './groups.mjs';
import {
  changed, fixed, fixed_G1, fixed_scalar, flipped, of_GT, of_point, of_scalar, to_bytes, to_G2, to_GT, to_scalar,
  VectorFile,
} from './vector.mjs';

const to_sections = (sections) => sections.map((one) => ({ class: one.class, plaintext: to_bytes(one.plaintext) }));

const sealing_input = (input) => ({
  s_D: unhex(input.s_D),
  author: unhex(input.author),
  institution: input.institution,
  A: to_G2(input.A),
  PID: unhex(input.PID),
  nonce: unhex(input.nonce),
  sections: to_sections(input.sections),
});

export const file = new VectorFile('containers', ['(9)', 'E15', 'E16', 'E17'], {
  padme: ({ length }) => ({ padded: String(padme(BigInt(length))) }),
  MDEnc: (input) => {
    const made = MDEnc(unhex(input.consortium), sealing_input(input));
    const output = {
      r: of_scalar(made.r), U: of_point(made.U), header: hex(made.header), hdr: hex(made.hdr), digest: hex(made.digest),
    };
    return made.container.length > 4096 ? output : { ...output, container: hex(made.container) };
  },
  decode_header: ({ header }) => {
    const decoded = decode_header(unhex(header));
    return {
      consortium: hex(decoded.consortium), author: hex(decoded.author), institution: decoded.institution,
      nonce: hex(decoded.nonce), U: of_point(decoded.U),
      sections: decoded.sections.map(({ label, P, chunks, kc }) => ({ label: hex(label), P: Number(P), chunks, kc: hex(kc) })),
      V: of_point(decoded.V), hdr: hex(hdr_of(unhex(header))),
    };
  },
  verify_header: ({ consortium, header }) => {
    verify_encapsulation(unhex(consortium), decode_header(unhex(header)));
    return { hdr: hex(hdr_of(unhex(header))) };
  },
  label: ({ consortium, PID, class: section_class, U }) => {
    const Lc = class_label_key(unhex(consortium), unhex(PID), section_class);
    return { Lc: hex(Lc), label: hex(label_of(unhex(consortium), Lc, to_G2(U))) };
  },
  section_keys: ({ consortium, K, HC, place, label }) => {
    const { key, kc } = section_keys(unhex(consortium), to_GT(K), unhex(HC), place, unhex(label));
    return { key: hex(key), kc: hex(kc) };
  },
  open_by_owner: ({ consortium, container, PID, class: section_class, a }) =>
    opened(open_by_owner(unhex(consortium), unhex(container), unhex(PID), section_class, to_scalar(a))),
  open_by_author: ({ consortium, container, PID, class: section_class, A, s_D }) =>
    opened(open_by_author(unhex(consortium), unhex(container), unhex(PID), section_class, to_G2(A), unhex(s_D))),
  open_section: ({ consortium, container, label, K }) =>
    opened(open_section(unhex(consortium), unhex(container), unhex(label), to_GT(K))),
});

const repetitive = (bytes) => bytes.length > 256 && bytes.every((byte) => byte === bytes[0]);
const opened = (plaintext) => ({
  plaintext: repetitive(plaintext) ? { repeat: hex(plaintext.slice(0, 1)), count: plaintext.length } : hex(plaintext),
});

const consortium = hex(cx);
const PID = hex(episode.PID);
const a = of_scalar(patient.a);

for (const length of ['2', '3', '8', '9', '43', '65536', '65537', '70008', '1048577', String(8n + (1n << 40n))]) {
  file.accepts(`padme of ${length}`, 'padme', { length });
}

// A record of three sections. Two of them have the same P, so that they can be exchanged.

const base = {
  consortium, s_D: hex(doctor.s_D), author: hex(doctor.author.key), institution: hospital.institution,
  A: of_point(patient.A), PID, nonce: hex(fixed('a container\'s nonce')),
};
const LABORATORY = 4;
const HISTORY = 2;
const DISCHARGE = 9;
const first = {
  ...base,
  sections: [
    { class: HISTORY, plaintext: hex(ascii('Hypertension since 2009; smoker; no AF. ')) },
    { class: LABORATORY, plaintext: hex(ascii('INR 1.0, glucose 8.4 mmol/L, LDL 4.2 mmo')) },
    { class: DISCHARGE, plaintext: '' },
  ],
};
const made = file.accepts('a record of three sections', 'MDEnc', first);
const bytes = unhex(made.container);
const header_bytes = unhex(made.header);
const header = decode_header(header_bytes);

const second = { ...base, nonce: hex(fixed('an amendment\'s nonce')), sections: first.sections };
const amendment = file.accepts('an amendment: the same sections, another nonce', 'MDEnc', second);

const two_chunks = { ...base, nonce: hex(fixed('a long one\'s nonce')), sections: [{ class: 5, plaintext: { repeat: 'ab', count: 65530 } }] };
file.accepts('a section of two chunks', 'MDEnc', two_chunks);
file.accepts('a section whose two chunks are both full', 'MDEnc', {
  ...base, nonce: hex(fixed('a full one\'s nonce')), sections: [{ class: 5, plaintext: { repeat: 'cd', count: 131064 } }],
});

const place_of = (section_class) => {
  const label = label_of(cx, class_label_key(cx, episode.PID, section_class), header.U);
  return header.sections.findIndex((section) => compare(section.label, label) === 0);
};
const label = (section_class) => hex(header.sections[place_of(section_class)].label);
const K_of = (section_class, of = episode, U = header.U) => e(power(condition(cx, of.PID, section_class), patient.a), U);

file.accepts('the header of that record', 'decode_header', { header: made.header });
file.accepts('V of that record stands', 'verify_header', { consortium, header: made.header });
file.accepts('a label', 'label', { consortium, PID, class: HISTORY, U: made.U });
file.accepts('a section\'s keys', 'section_keys', {
  consortium, K: of_GT(K_of(HISTORY)), HC: hex(header.HC), place: place_of(HISTORY), label: label(HISTORY),
});
const owner = { consortium, container: made.container, PID, class: LABORATORY, a };
file.accepts('the owner opens a section', 'open_by_owner', owner);
file.accepts('the owner opens an empty section', 'open_by_owner', { ...owner, class: DISCHARGE });
const author = { consortium, container: made.container, PID, class: LABORATORY, A: base.A, s_D: base.s_D };
file.accepts('the author opens a section', 'open_by_author', author);
const with_K = { consortium, container: made.container, label: label(HISTORY), K: of_GT(K_of(HISTORY)) };
file.accepts('a section opens with its K', 'open_section', with_K);

// Headers that must not be decoded

const counted_at = 4 + 2 + 32 + 32 + 4 + 32 + 96;
const label_at = counted_at + 1;
const header_fault = (name, faulty, expect) =>
  file.refuses(`a header ${name}`, 'decode_header', { header: hex(faulty) }, expect);

header_fault('of no bytes', new Uint8Array(0), 'truncated');
header_fault('cut short in the nonce', header_bytes.slice(0, 80), 'truncated');
header_fault('cut short in U', header_bytes.slice(0, 150), 'truncated');
header_fault('cut short in a label', header_bytes.slice(0, label_at + 40), 'truncated');
header_fault('cut short in kc', header_bytes.slice(0, -60), 'truncated');
header_fault('cut short in V', header_bytes.slice(0, -1), 'truncated');
header_fault('with a byte behind it', concat(header_bytes, u8(0)), 'trailing');
header_fault('with another magic', changed(header_bytes, 0, ...ascii('WEME')), 'invalid');
header_fault('of version 2', changed(header_bytes, 4, 2), 'invalid');
header_fault('of version 0', changed(header_bytes, 4, 0), 'invalid');
header_fault('of suite 2', changed(header_bytes, 5, 2), 'invalid');
header_fault('whose U is the identity', changed(header_bytes, 106, ...G2_identity), 'identity');
header_fault('whose U is off the curve', changed(header_bytes, 106, ...G2_off_curve), 'off-curve');
header_fault('whose U is outside the subgroup', changed(header_bytes, 106, ...G2_outside), 'not-in-subgroup');
header_fault('whose U is not compressed', changed(header_bytes, 106, header_bytes[106] & 0x7f), 'non-canonical');
header_fault('whose V is the identity', changed(header_bytes, header_bytes.length - 48, ...G1_identity), 'identity');
header_fault('whose V is outside the subgroup', changed(header_bytes, header_bytes.length - 48, ...G1_outside), 'not-in-subgroup');
header_fault('that counts 0 sections', concat(header_bytes.slice(0, counted_at), u8(0), header_bytes.slice(-48)), 'invalid');
header_fault('that counts 33 sections', header_with(many_sections(33)), 'too-large');
header_fault('whose labels descend', header_with(header.sections.slice().reverse()), 'invalid');
header_fault('with a label twice', header_with([header.sections[0], header.sections[0]]), 'invalid');
const one_section = (P, chunks) => header_with([{ ...header.sections[0], P, chunks }]);
header_fault('with P = 7', one_section(7n, 1), 'invalid');
header_fault('with P = 0', one_section(0n, 0), 'invalid');
header_fault('with P = 51, no fixed point of padme', one_section(51n, 1), 'invalid');
header_fault('with P = 65537, no fixed point of padme', one_section(65537n, 2), 'invalid');
const above = padme(padme(8n + (1n << 40n)) + 1n);
header_fault('with P above padme(8 + 2^40)', one_section(above, Number((above + 65535n) / 65536n)), 'too-large');
header_fault('with P = 2^64 - 1', one_section((1n << 64n) - 1n, 0xffffffff), 'too-large');
header_fault('with no chunk', one_section(48n, 0), 'invalid');
header_fault('with a chunk too many', one_section(48n, 2), 'invalid');
header_fault('with a chunk too few', one_section(67584n, 1), 'invalid');

file.accepts('a header of 32 sections', 'decode_header', { header: hex(header_with(many_sections(32))) });

function many_sections(count) {
  return Array.from({ length: count }, (_, k) => ({ label: changed(fixed('label'), 0, k), P: 8n, chunks: 1, kc: fixed('kc') }));
}

function header_with(sections, changes = {}) {
  return encode_header({ ...header, ...changes, sections });
}

// Headers whose V does not stand

const encapsulation = (name, faulty, expect = 'foreign-encapsulation', rest = {}) =>
  file.refuses(`an encapsulation ${name}`, 'verify_header', { consortium, header: hex(faulty), ...rest }, expect);
const replaced = (changes) => header_with(changes.sections ?? header.sections, changes);
const z = fixed_scalar('z of a decoy');
const s = fixed_scalar('s of a decoy');
const decoy_power = { U: power(header.U, z) };
const decoy_product = { U: product([header.U, power(g2, s)]) };
const H_of = (changes) => H1(cx, 'U', encode_HC({ ...header, ...changes }));

encapsulation('whose V is another point', replaced({ V: fixed_G1('another V') }));
encapsulation('whose V is negated', replaced({ V: header.V.negate() }));
encapsulation('with the V of an amendment', replaced({ V: decode_header(unhex(amendment.header)).V }));
encapsulation('whose U is reused under another author\'s header', replaced({ author: other_doctor.author.key }));
encapsulation('whose U is reused under another institution', replaced({ institution: 12 }));
encapsulation('whose U is reused under another nonce', replaced({ nonce: fixed('another nonce') }));
encapsulation('whose U is reused under another label', replaced({
  sections: [{ ...header.sections[0], label: changed(header.sections[0].label, 31, header.sections[0].label[31] ^ 1) }, ...header.sections.slice(1)],
}));
encapsulation('whose U is reused with a section less', replaced({ sections: header.sections.slice(1) }));
encapsulation('of U^z with V carried over', replaced(decoy_power));
encapsulation('of U^z with V^z', replaced({ ...decoy_power, V: power(header.V, z) }));
encapsulation('of U * g2^s with V carried over', replaced(decoy_product));
encapsulation('of U * g2^s with V * H1_U(HC)^s of the old HC', replaced({
  ...decoy_product, V: product([header.V, power(H_of({}), s)]),
}));
encapsulation('of U * g2^s with V * H1_U(HC)^s of the new HC', replaced({
  ...decoy_product, V: product([header.V, power(H_of(decoy_product), s)]),
}));
encapsulation('of another record\'s U', replaced({ U: decode_header(unhex(amendment.header)).U }));
encapsulation('that names another consortium', replaced({ consortium: other_consortium }));
encapsulation('read in another consortium', header_bytes, 'foreign-encapsulation', { consortium: hex(other_consortium) });
const abroad = MDEnc(other_consortium, sealing_input(first));
encapsulation('made in another consortium', abroad.header);

// Containers that must not be opened

const payloads_at = header_bytes.length;
const lengths = header.sections.map((section) => Number(section.P) + 16 * section.chunks);
const payload_at = (place) => payloads_at + lengths.slice(0, place).reduce((sum, length) => sum + length, 0);
const payload = (place) => bytes.slice(payload_at(place), payload_at(place) + lengths[place]);
const places = [place_of(HISTORY), place_of(LABORATORY)].sort((x, y) => x - y);
const exchange = (list, x, y) => list.map((one, k) => (k === x ? list[y] : k === y ? list[x] : one));
const payloads = lengths.map((_, place) => payload(place));
const kc_at = (place) => counted_at + 1 + 44 * header.sections.length + 32 * place;
const laboratory = place_of(LABORATORY);

const owner_fault = (name, fault, expect) => file.refuses(`the owner: ${name}`, 'open_by_owner', { ...owner, ...fault }, expect);
owner_fault('the wrong PID', { PID: hex(other_episode.PID) }, 'no-hit');
owner_fault('the wrong class', { class: 5 }, 'no-hit');
owner_fault('another consortium', { consortium: hex(other_consortium) }, 'foreign-encapsulation');
owner_fault('another patient\'s a', { a: of_scalar(other_patient.a) }, 'wrong-key');
owner_fault('kc altered', { container: hex(flipped(bytes, kc_at(laboratory))) }, 'wrong-key');
owner_fault('kc of two sections exchanged', {
  container: hex(concat(
    bytes.slice(0, kc_at(0)), ...exchange(header.sections.map((section) => section.kc), ...places),
    bytes.slice(kc_at(header.sections.length)),
  )),
}, 'wrong-key');
owner_fault('HC altered (the institution)', { container: hex(flipped(bytes, 4 + 2 + 32 + 32 + 3)) }, 'wrong-key');
owner_fault('HC altered (the author key)', { container: hex(flipped(bytes, 4 + 2 + 32)) }, 'wrong-key');
owner_fault('the payloads of two sections exchanged', {
  container: hex(concat(header_bytes, ...exchange(payloads, ...places))),
}, 'altered');
owner_fault('an amendment\'s payloads under this header', {
  container: hex(concat(header_bytes, unhex(amendment.container).slice(payloads_at))),
}, 'altered');
owner_fault('the ciphertext altered', { container: hex(flipped(bytes, payload_at(laboratory))) }, 'altered');
owner_fault('a chunk\'s tag altered', { container: hex(flipped(bytes, payload_at(laboratory) + lengths[laboratory] - 1)) }, 'altered');
const last_in_order = header.sections.length - 1;
const class_of_last = [HISTORY, LABORATORY, DISCHARGE].find((one) => place_of(one) === last_in_order);
owner_fault('the last payload is a byte short', { container: hex(bytes.slice(0, -1)), class: class_of_last }, 'cut-short');
owner_fault('the payloads are missing', { container: made.header }, 'cut-short');
owner_fault('a byte follows the last payload', { container: `${made.container}00` }, 'trailing');
owner_fault('the header is cut short', { container: hex(bytes.slice(0, 100)) }, 'truncated');

const faulty_container = (fault) => hex(MDEnc(cx, { ...sealing_input({ ...base, nonce: hex(fixed('a faulty one\'s nonce')), sections: [first.sections[1]] }) }, fault).container);
const nonce = (number, last) => concat(new Uint8Array(7), u32(number), u8(last));
owner_fault('the last chunk sealed without the last flag', { container: faulty_container({ nonce: (number) => nonce(number, 0) }) }, 'altered');
owner_fault('the last chunk sealed with the last flag 2', { container: faulty_container({ nonce: (number) => nonce(number, 2) }) }, 'altered');
owner_fault('the only chunk sealed as number 1', { container: faulty_container({ nonce: () => nonce(1, 1) }) }, 'altered');
const short = { plaintext: ascii('only 33 bytes, so P has some zeros') };
const M = padded(short.plaintext);
owner_fault('the last byte of the padding is not zero', { container: faulty_container({ M: () => changed(M, -1, 1) }) }, 'bad-padding');
owner_fault('the first byte of the padding is not zero', {
  container: faulty_container({ M: () => changed(M, 8 + short.plaintext.length, 0x80) }),
}, 'bad-padding');
owner_fault('the length is one more than P holds', {
  container: faulty_container({ M: () => concat(u64(M.length - 7), M.slice(8)) }),
}, 'bad-padding');
owner_fault('the length is 2^64 - 1', {
  container: faulty_container({ M: () => concat(u64((1n << 64n) - 1n), M.slice(8)) }),
}, 'bad-padding');

owner_fault('the length is one that would be padded to a shorter P', {
  container: faulty_container({ M: () => concat(u64(20), M.slice(8, 28), new Uint8Array(M.length - 28)) }),
}, 'bad-padding');

// Two chunks; the other containers are put together from this one's bytes.

const long = MDEnc(cx, sealing_input(two_chunks)).container;
const h = counted_at + 1 + 44 + 32 + 48;
const whole_name = 'the owner opens two chunks';
const long_owner = { consortium, container: hex(long), PID, class: 5, a };
file.accepts(whole_name, 'open_by_owner', long_owner);
const pieces = (...list) => ({ of: whole_name, pieces: list });
const full = CHUNK + 16;
const long_fault = (name, list, expect) => file.refuses(`two chunks: ${name}`, 'open_by_owner', { ...long_owner, container: pieces(...list) }, expect);
long_fault('exchanged', [[0, h], [h + full, long.length], [h, h + full]], 'altered');
long_fault('the second is missing', [[0, h + full]], 'cut-short');
long_fault('the first is missing', [[0, h], [h + full, long.length]], 'cut-short');
long_fault('the second is the beginning of the first', [[0, h + full], [h, long.length - full]], 'altered');
long_fault('cut in the first', [[0, h + 1000]], 'cut-short');
long_fault('the second twice', [[0, long.length], [h + full, long.length]], 'trailing');

// The author, and one who has K

const author_fault = (name, fault, expect) => file.refuses(`the author: ${name}`, 'open_by_author', { ...author, ...fault }, expect);
author_fault('another doctor\'s sealing secret', { s_D: hex(other_doctor.s_D) }, 'wrong-key');
author_fault('another patient\'s A', { A: of_point(other_patient.A) }, 'wrong-key');
author_fault('the author key in the header replaced', { container: hex(changed(bytes, 38, ...other_doctor.author.key)) }, 'wrong-key');
author_fault('the nonce in the header replaced', { container: hex(flipped(bytes, 74)) }, 'wrong-key');
author_fault('U in the header replaced', { container: hex(changed(bytes, 106, ...unhex(amendment.U))) }, 'wrong-key');
author_fault('the wrong PID', { PID: hex(other_episode.PID) }, 'no-hit');
author_fault('A is the identity', { A: hex(G2_identity) }, 'identity');

const K_fault = (name, fault, expect) => file.refuses(`K: ${name}`, 'open_section', { ...with_K, ...fault }, expect);
K_fault('of another class', { K: of_GT(K_of(LABORATORY)) }, 'wrong-key');
K_fault('of another episode', { K: of_GT(K_of(HISTORY, other_episode)) }, 'wrong-key');
K_fault('of the earlier record, for an amendment', {
  container: amendment.container,
  label: hex(label_of(cx, class_label_key(cx, episode.PID, HISTORY), decode_header(unhex(amendment.header)).U)),
}, 'wrong-key');
K_fault('with another section\'s label', { label: label(LABORATORY) }, 'wrong-key');
K_fault('with a label of no section', { label: hex(fixed('no label')) }, 'no-hit');
K_fault('of 1', { K: hex(GT_one) }, 'identity');
K_fault('outside GT', { K: hex(GT_outside) }, 'not-in-subgroup');
K_fault('in another consortium', { consortium: hex(other_consortium) }, 'foreign-encapsulation');

file.refuses('a class twice', 'MDEnc', { ...base, sections: [first.sections[0], first.sections[0]] }, 'repeated');
file.refuses('no section', 'MDEnc', { ...base, sections: [] }, 'invalid');
file.refuses('sealing to A that is the identity', 'MDEnc', { ...first, A: hex(G2_identity) }, 'identity');
file.refuses('sealing to A outside the subgroup', 'MDEnc', { ...first, A: hex(G2_outside) }, 'not-in-subgroup');
