import { ascii, concat, hex, unhex } from '../encoding.mjs';
import { p, power } from '../groups.mjs';
import {
  allocation_id, blind, episode_key, keyword_key, keyword_point, mask_LK, open_locator, owner_key, raise, seal_locator,
  seal_locator_bytes, tag_of, unblind,
} from '../index.mjs';
import {
  consortium as cx, doctor, episode, hospital, other_consortium, other_doctor, other_episode, other_hospital, patient,
} from './world.mjs';
import { G1_identity, G1_outside, G2_identity } from './groups.mjs';
import {
  fixed, fixed_scalar, flipped, of_integer, of_point, of_scalar, to_G1, to_G2, to_scalar, to_weight, VectorFile,
} from './vector.mjs';

/** The fields of a record transaction that a locator is bound to, in JSON, to values. */
export const to_located = ({ digest, hdr, O_rec, author, institution, R }) => ({
  digest: unhex(digest), hdr: unhex(hdr), O_rec: to_G2(O_rec), author: unhex(author), institution, R: to_G2(R),
});

export const file = new VectorFile('index', ['(11)', 'E18', 'E19', 'E22'], {
  keyword_point: ({ consortium, PID, institution, writer_epoch, keyword }) => ({
    Hw: of_point(keyword_point(unhex(consortium), unhex(PID), institution, writer_epoch, unhex(keyword))),
  }),
  blind: ({ Hw, b }) => ({ blinded: of_point(blind(to_G1(Hw), to_scalar(b))) }),
  raise: ({ blinded, y }) => ({ raised: of_point(raise(to_G1(blinded), to_scalar(y))) }),
  unblind: ({ R, items }) => ({
    Hw_y: unblind(to_G2(R), items.map(({ Hw, b, raised, weight }) => ({
      Hw: to_G1(Hw), b: to_scalar(b), raised: to_G1(raised), weight: to_weight(weight),
    }))).map(of_point),
  }),
  keyword_key: ({ Hw_y, X }) => ({ K_w: hex(keyword_key(to_G1(Hw_y), to_G2(X))) }),
  allocation_id: ({ consortium, K_w }) => ({ id: hex(allocation_id(unhex(consortium), unhex(K_w))) }),
  entry: ({ consortium, K_w, i, O_rec, LK }) => ({
    tag: hex(tag_of(unhex(consortium), unhex(K_w), i)),
    pad: hex(mask_LK(unhex(consortium), unhex(K_w), i, to_G2(O_rec), unhex(LK))),
  }),
  episode_key: ({ consortium, O, PID }) => ({ E: of_point(episode_key(unhex(consortium), to_G2(O), unhex(PID))) }),
  owner_key: ({ E, delta }) => ({ O_rec: of_point(owner_key(to_G2(E), to_scalar(delta))) }),
  seal_locator: ({ consortium, LK, record, address, delta }) => ({
    sealed_locator: hex(seal_locator(unhex(consortium), unhex(LK), to_located(record), unhex(address), to_scalar(delta))),
  }),
  open_locator: ({ consortium, LK, record, sealed_locator }) => {
    const { address, delta } = open_locator(unhex(consortium), unhex(LK), to_located(record), unhex(sealed_locator));
    return { address: hex(address), delta: of_scalar(delta) };
  },
  open_entry: ({ consortium, K_w, i, pad, record, sealed_locator }) => {
    const located = to_located(record);
    const LK = mask_LK(unhex(consortium), unhex(K_w), i, located.O_rec, unhex(pad));
    const { address, delta } = open_locator(unhex(consortium), LK, located, unhex(sealed_locator));
    return { LK: hex(LK), address: hex(address), delta: of_scalar(delta) };
  },
});

const consortium = hex(cx);
const { institution, writer_epoch } = hospital;
const PID = hex(episode.PID);
const R = of_point(hospital.R);
const X = of_point(patient.X);
const y = of_scalar(hospital.y);

// (11) keywords, blinding, raising

const keywords = ['', 'Observation', 'http://loinc.org|2339-0'].map((word) => hex(ascii(word)));
const points = keywords.map((keyword, k) =>
  file.accepts(`keyword ${k}: "${new TextDecoder().decode(unhex(keyword))}"`, 'keyword_point', {
    consortium, PID, institution, writer_epoch, keyword,
  }).Hw);
file.accepts('a keyword of 256 bytes', 'keyword_point', {
  consortium, PID, institution, writer_epoch, keyword: hex(ascii('k'.repeat(256))),
});
file.refuses('a keyword of 257 bytes', 'keyword_point', {
  consortium, PID, institution, writer_epoch, keyword: hex(ascii('k'.repeat(257))),
}, 'too-large');
file.refuses('a PID of 31 bytes', 'keyword_point', {
  consortium, PID: PID.slice(2), institution, writer_epoch, keyword: keywords[1],
}, 'truncated');

const factors = keywords.map((_, k) => of_scalar(fixed_scalar(`b ${k}`)));
const weights = keywords.map((_, k) => hex(fixed(`weight ${k}`, 16)));
const blinded = file.accepts('a keyword, blinded', 'blind', { Hw: points[1], b: factors[1] }).blinded;
file.accepts('a blinded keyword, raised', 'raise', { blinded, y });
const items = points.map((Hw, k) => ({
  Hw, b: factors[k], weight: weights[k], raised: of_point(raise(blind(to_G1(Hw), to_scalar(factors[k])), hospital.y)),
}));
const raised = file.accepts('an answer of three, checked and unblinded', 'unblind', { R, items }).Hw_y;
file.accepts('an answer of one, checked and unblinded', 'unblind', { R, items: items.slice(0, 1) });

const answer = (name, faults, expect, fault_R = R) =>
  file.refuses(`an answer ${name}`, 'unblind', { R: fault_R, items: faults }, expect);
const with_raised = (k, bytes) => items.map((item, at) => (at === k ? { ...item, raised: bytes } : item));
answer('raised to the next epoch\'s y', items.map((item) => ({
  ...item, raised: of_point(power(power(to_G1(item.Hw), to_scalar(item.b)), hospital.next_y)),
})), 'lying-server');
answer('of which one is raised to another y', with_raised(1, of_point(power(to_G1(items[1].raised), 2n))), 'lying-server');
answer('of which one is not raised', with_raised(2, of_point(blind(to_G1(points[2]), to_scalar(factors[2])))), 'lying-server');
answer('of which two are exchanged', items.map((item, k) => ({ ...item, raised: items[[1, 0, 2][k]].raised })), 'lying-server');
answer('of which two are off by factors that cancel without weights', [
  { ...items[0], raised: of_point(to_G1(items[0].raised).add(power(fixed_point(), to_scalar(factors[0])))) },
  { ...items[1], raised: of_point(to_G1(items[1].raised).add(power(fixed_point(), to_scalar(factors[1])).negate())) },
  items[2],
], 'lying-server');
answer('checked against another hospital\'s R', items, 'lying-server', of_point(other_hospital.R));
answer('that holds the identity', with_raised(0, hex(G1_identity)), 'identity');
answer('that holds a point outside the subgroup', with_raised(0, hex(G1_outside)), 'not-in-subgroup');
answer('that holds a point of the wrong group', with_raised(0, R), 'trailing');
file.refuses('raising the identity', 'raise', { blinded: hex(G1_identity), y }, 'identity');
file.refuses('raising a point outside the subgroup', 'raise', { blinded: hex(G1_outside), y }, 'not-in-subgroup');
file.refuses('raising with the scalar 0', 'raise', { blinded, y: of_integer(0n) }, 'invalid');
file.refuses('blinding with the scalar 0', 'blind', { Hw: points[1], b: of_integer(0n) }, 'invalid');
file.refuses('blinding with the scalar p', 'blind', { Hw: points[1], b: of_integer(p) }, 'non-canonical');

function fixed_point() {
  return to_G1(points[2]);
}

// (11) entries, E18, E19

const { K_w } = file.accepts('a keyword\'s key', 'keyword_key', { Hw_y: raised[1], X });
file.refuses('a keyword\'s key for X that is the identity', 'keyword_key', { Hw_y: raised[1], X: hex(G2_identity) }, 'identity');
file.accepts('an allocation id', 'allocation_id', { consortium, K_w });

const { E } = file.accepts('an episode key', 'episode_key', { consortium, O: of_point(patient.O), PID });
const delta = of_scalar(fixed_scalar('delta'));
const { O_rec } = file.accepts('an owner key', 'owner_key', { E, delta });
file.refuses('an owner key with delta = 0', 'owner_key', { E, delta: of_integer(0n) }, 'invalid');
file.refuses('an owner key that is the identity', 'owner_key', {
  E, delta: of_scalar(p - episode.secret),
}, 'identity');
file.refuses('an episode key of the identity as O', 'episode_key', { consortium, O: hex(G2_identity), PID }, 'identity');

const record = {
  digest: hex(fixed('the digest')), hdr: hex(fixed('the hdr')), O_rec, author: hex(doctor.author.key), institution, R,
};
const LK = hex(fixed('LK', 16));
const address = hex(fixed('an address'));
const { sealed_locator } = file.accepts('a locator, sealed', 'seal_locator', { consortium, LK, record, address, delta });
const locator = { consortium, LK, record, sealed_locator };
file.accepts('a locator, opened', 'open_locator', locator);
const first = file.accepts('an entry at position 0', 'entry', { consortium, K_w, i: 0, O_rec, LK });
const entry = file.accepts('an entry at position 5', 'entry', { consortium, K_w, i: 5, O_rec, LK });
const masked = { consortium, K_w, i: 5, pad: entry.pad, record, sealed_locator };
file.accepts('an entry, unmasked and opened', 'open_entry', masked);

const other_O_rec = of_point(owner_key(other_episode.E, fixed_scalar('delta')));
const moved = (name, fault) =>
  file.refuses(`a locator in a transaction with ${name}`, 'open_locator', {
    ...locator, record: { ...record, ...fault },
  }, 'not-this-locator');
moved('another container', { digest: hex(fixed('another digest')) });
moved('another header', { hdr: hex(fixed('another hdr')) });
moved('another O_rec', { O_rec: other_O_rec });
moved('another author', { author: hex(other_doctor.author.key) });
moved('another institution', { institution: other_hospital.institution });
moved('another R', { R: of_point(other_hospital.R) });

const locator_fault = (name, fault, expect) =>
  file.refuses(`a locator ${name}`, 'open_locator', { ...locator, ...fault }, expect);
const sealed = unhex(sealed_locator);
locator_fault('with another LK', { LK: hex(fixed('another LK', 16)) }, 'not-this-locator');
locator_fault('in another consortium', { consortium: hex(other_consortium) }, 'not-this-locator');
locator_fault('with its ciphertext altered', { sealed_locator: hex(flipped(sealed, 0)) }, 'not-this-locator');
locator_fault('with its tag altered', { sealed_locator: hex(flipped(sealed, 79)) }, 'not-this-locator');
locator_fault('of 79 bytes', { sealed_locator: hex(sealed.slice(0, 79)) }, 'truncated');
locator_fault('of 81 bytes', { sealed_locator: `${sealed_locator}00` }, 'trailing');
locator_fault('with LK of 15 bytes', { LK: LK.slice(2) }, 'truncated');
const locator_of = (scalar) =>
  hex(seal_locator_bytes(cx, unhex(LK), to_located(record), concat(unhex(address), unhex(of_integer(scalar)))));
locator_fault('that holds delta = 0', { sealed_locator: locator_of(0n) }, 'invalid');
locator_fault('that holds delta = p', { sealed_locator: locator_of(p) }, 'non-canonical');

const entry_fault = (name, fault, expect = 'not-this-locator') =>
  file.refuses(`an entry ${name}`, 'open_entry', { ...masked, ...fault }, expect);
entry_fault('unmasked at another position', { i: 6 });
entry_fault('unmasked with another O_rec', { record: { ...record, O_rec: other_O_rec } });
entry_fault('unmasked with another keyword\'s key', {
  K_w: hex(keyword_key(to_G1(raised[2]), patient.X)),
});
entry_fault('whose pad is another position\'s', { pad: first.pad });
entry_fault('that was only padding', { pad: hex(fixed('only padding', 16)) });
entry_fault('with a pad of 15 bytes', { pad: entry.pad.slice(2) }, 'truncated');
