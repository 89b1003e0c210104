import { ascii, hex, unhex } from '../encoding.mjs';
import { power } from '../groups.mjs';
import {
  check_episode, keyword_key, keyword_point, mask_LK, owner_key, Query, query_key, seal_locator, tag_of, TokenGen,
} from '../index.mjs';
import {
  consortium as cx, doctor, episode, hospital, other_consortium, other_episode, other_hospital, other_patient, patient,
} from './world.mjs';
import { G1_identity, G1_off_curve, G1_outside, G2_outside } from './groups.mjs';
import { to_located } from './index.mjs';
import { fixed, fixed_scalar, of_integer, of_point, of_scalar, to_G1, to_G2, to_scalar, VectorFile } from './vector.mjs';

/** {"records": [...], "entries": [{"record": place, "tag", "pad"}]}, the way a node's index sees the chain. */
const to_table = ({ records, entries }) =>
  entries.map(({ record, tag, pad }) => ({
    ...to_located(records[record]), sealed_locator: unhex(records[record].sealed_locator), tag: unhex(tag), pad: unhex(pad),
  }));

export const file = new VectorFile('query', ['(12)', '(13)', 'E20', 'E21', 'E22'], {
  trapdoor: ({ consortium, PID, institution, writer_epoch, keyword, x }) => ({
    T: of_point(TokenGen(
      keyword_point(unhex(consortium), unhex(PID), institution, writer_epoch, unhex(keyword)), to_scalar(x),
    )),
  }),
  query_key: ({ T, R }) => ({ K_w: hex(query_key(to_G1(T), to_G2(R))) }),
  query: ({ consortium, T, R, table }) => ({
    hits: Query(unhex(consortium), to_G1(T), to_G2(R), to_table(table)).map(({ i, tag, LK, hdr, address, delta }) => ({
      i, tag: hex(tag), LK: hex(LK), hdr: hex(hdr), address: hex(address), delta: of_scalar(delta),
    })),
  }),
  check_episode: ({ O_rec, delta, E }) => {
    check_episode(to_G2(O_rec), to_scalar(delta), to_G2(E));
    return { stands: true };
  },
});

const consortium = hex(cx);
const { institution, writer_epoch } = hospital;
const PID = hex(episode.PID);
const R = of_point(hospital.R);
const x = of_scalar(patient.x);
const word = (text) => hex(ascii(text));

const asked = { consortium, PID, institution, writer_epoch, keyword: word('Observation'), x };
const { T } = file.accepts('a trapdoor', 'trapdoor', asked);
file.accepts('a trapdoor for any record of the episode', 'trapdoor', { ...asked, keyword: '' });
file.refuses('a trapdoor for a keyword of 257 bytes', 'trapdoor', { ...asked, keyword: word('k'.repeat(257)) }, 'too-large');
file.refuses('a trapdoor with x = 0', 'trapdoor', { ...asked, x: of_integer(0n) }, 'invalid');

const Hw = keyword_point(cx, episode.PID, institution, writer_epoch, ascii('Observation'));
const K_w = keyword_key(power(Hw, hospital.y), patient.X);
const found = file.accepts('the key that a trapdoor gives', 'query_key', { T, R });
if (found.K_w !== hex(K_w)) throw new Error('the trapdoor and the writer disagree');

// A table of the chain: three records of this episode at the given positions, and one that only has
// random entries.

const record_of = (name, of = episode) => {
  const delta = fixed_scalar(`${name}: delta`);
  const record = {
    digest: hex(fixed(`${name}: digest`)), hdr: hex(fixed(`${name}: hdr`)), O_rec: of_point(owner_key(of.E, delta)),
    author: hex(doctor.author.key), institution, R,
  };
  const LK = fixed(`${name}: LK`, 16);
  const address = fixed(`${name}: address`);
  return { record: { ...record, sealed_locator: hex(seal_locator(cx, LK, to_located(record), address, delta)) }, LK, delta };
};
const records = ['one', 'two', 'three'].map((name) => record_of(name));
const entry = (record, i) => ({
  record, tag: hex(tag_of(cx, K_w, i)), pad: hex(mask_LK(cx, K_w, i, to_G2(records[record].record.O_rec), records[record].LK)),
});
const random_entry = (record, k) => ({ record, tag: hex(fixed(`random tag ${k}`, 16)), pad: hex(fixed(`random pad ${k}`, 16)) });
const table_of = (...entries) => ({ records: records.map((one) => one.record), entries });
const table = table_of(entry(0, 0), entry(1, 1), random_entry(0, 0), random_entry(1, 1), random_entry(2, 2));
const query = { consortium, T, R, table };

file.accepts('two hits', 'query', query);
file.accepts('a hit after seven missing positions', 'query', { ...query, table: table_of(entry(2, 7), random_entry(0, 0)) });
file.accepts('hits on both sides of a gap of seven', 'query', { ...query, table: table_of(entry(0, 0), entry(1, 8)) });
const occupied = (i) => ({ ...random_entry(2, i), tag: hex(tag_of(cx, K_w, i)) });
file.accepts('a stranger\'s entry under the tag of position 0 is passed over', 'query', {
  ...query, table: table_of(occupied(0), entry(1, 1)),
});
file.accepts('a stranger\'s entry ends no search: positions 0 to 6 missing, 7 occupied, 8 a hit', 'query', {
  ...query, table: table_of(occupied(7), entry(1, 8)),
});

const miss = (name, fault, expect = 'no-hit') => file.refuses(`a query ${name}`, 'query', { ...query, ...fault }, expect);
const trapdoor = (of = episode, inst = institution, epoch = writer_epoch, keyword = 'Observation', key = patient.x) =>
  of_point(TokenGen(keyword_point(cx, of.PID, inst, epoch, ascii(keyword)), key));
miss('with the trapdoor of another keyword', { T: trapdoor(episode, institution, writer_epoch, 'Condition') });
miss('with the trapdoor of another writer epoch', { T: trapdoor(episode, institution, writer_epoch + 1) });
miss('with the trapdoor of another institution', { T: trapdoor(episode, other_hospital.institution) });
miss('with the trapdoor of another episode', { T: trapdoor(other_episode) });
miss('with the trapdoor of another patient\'s x', { T: trapdoor(episode, institution, writer_epoch, 'Observation', other_patient.x) });
miss('under another hospital\'s R', { R: of_point(other_hospital.R) });
miss('under the next writer epoch\'s R', { R: of_point(hospital.next_R) });
miss('in another consortium', { consortium: hex(other_consortium) });
miss('of a table without entries', { table: table_of() });
miss('of entries that were only padding', { table: table_of(random_entry(0, 0), random_entry(1, 1)) });
miss('whose only tag is occupied by padding', { table: table_of(occupied(0)) });
miss('whose entry stands behind eight missing positions', { table: table_of(entry(0, 8)) });
miss('whose entry was copied into another record', { table: table_of({ ...entry(0, 0), record: 1 }) });
miss('whose pad is another position\'s', { table: table_of({ ...entry(0, 0), pad: entry(0, 1).pad }) });
miss('with a trapdoor that is the identity', { T: hex(G1_identity) }, 'identity');
miss('with a trapdoor outside the subgroup', { T: hex(G1_outside) }, 'not-in-subgroup');
miss('with a trapdoor off the curve', { T: hex(G1_off_curve) }, 'off-curve');
miss('with a trapdoor cut short', { T: T.slice(0, -2) }, 'truncated');
miss('with R in the place of T', { T: R }, 'trailing');
miss('under R outside the subgroup', { R: hex(G2_outside) }, 'not-in-subgroup');

const checked = { O_rec: records[0].record.O_rec, delta: of_scalar(records[0].delta), E: of_point(episode.E) };
file.accepts('a record of the grant\'s episode', 'check_episode', checked);
file.refuses('a record of another episode', 'check_episode', { ...checked, E: of_point(other_episode.E) }, 'foreign-grant');
file.refuses('another record\'s delta', 'check_episode', { ...checked, delta: of_scalar(records[1].delta) }, 'foreign-grant');
file.refuses('delta = 0', 'check_episode', { ...checked, delta: of_integer(0n) }, 'invalid');
