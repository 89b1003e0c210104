import { ascii, concat, enc, hex, u64, unhex } from '../encoding.mjs';
import { derive_key_pair, hpke_info, hpke_open, hpke_seal, inbox_commitment, serialize_private } from '../sealing.mjs';
import { consortium as cx, hospital, other_consortium, other_doctor, UID } from './world.mjs';
import { changed, fixed, flipped, VectorFile } from './vector.mjs';

export const file = new VectorFile('sealing', ['E11', 'E12'], {
  derive_key_pair: ({ ikm }) => {
    const pair = derive_key_pair(unhex(ikm));
    return { secret: hex(serialize_private(pair.secret)), key: hex(pair.key) };
  },
  info: ({ consortium, purpose, subject, key }) => ({
    info: hex(hpke_info(unhex(consortium), purpose, unhex(subject), unhex(key))),
  }),
  seal: ({ consortium, purpose, subject, key, ephemeral_ikm, plaintext }) => ({
    sealed: hex(hpke_seal(
      unhex(consortium), purpose, unhex(subject), unhex(key), unhex(ephemeral_ikm), unhex(plaintext),
    )),
  }),
  open: ({ consortium, purpose, subject, secret, sealed }) => ({
    plaintext: hex(hpke_open(unhex(consortium), purpose, unhex(subject), unhex(secret), unhex(sealed))),
  }),
  inbox_commitment: ({ consortium, handle, salt }) => ({
    commitment: hex(inbox_commitment(unhex(consortium), unhex(handle), unhex(salt))),
  }),
});

const consortium = hex(cx);
const handle = hex(fixed('an inbox handle', 16));
const salt = hex(fixed('a salt', 16));
const gid = hex(fixed('a gid'));

const pair = file.accepts('a key pair from key material', 'derive_key_pair', { ikm: hex(fixed('doctor\'s HPKE key')) });
const subjects = {
  handover: hex(enc(hospital.institution, UID)),
  receipt: handle,
  request: handle,
  'grant-to-doctor': gid,
  'grant-to-node': gid,
  reply: gid,
  appointment: hex(fixed('an appointment id')),
  'answer-note': hex(fixed('a request\'s commitment')),
  team: hex(enc(hospital.institution, u64(11))),
  'agent-act': hex(fixed('an appointment id')),
};
file.accepts('the info of a hand-over', 'info', {
  consortium, purpose: 'handover', subject: subjects.handover, key: pair.key,
});
const sealed = {};
for (const [purpose, subject] of Object.entries(subjects)) {
  const plaintext = hex(ascii(`what a ${purpose} says`));
  const made = file.accepts(`a ${purpose}, sealed`, 'seal', {
    consortium, purpose, subject, key: pair.key, ephemeral_ikm: hex(fixed(`ephemeral ${purpose}`)), plaintext,
  });
  sealed[purpose] = { consortium, purpose, subject, secret: pair.secret, sealed: made.sealed };
  file.accepts(`a ${purpose}, opened`, 'open', sealed[purpose]);
}
const nothing = file.accepts('an empty message, sealed', 'seal', {
  consortium, purpose: 'reply', subject: gid, key: pair.key, ephemeral_ikm: hex(fixed('ephemeral nothing')), plaintext: '',
});
file.accepts('an empty message, opened', 'open', { ...sealed.reply, sealed: nothing.sealed });
file.accepts('an inbox commitment', 'inbox_commitment', { consortium, handle, salt });

const reply = sealed.reply;
const bytes = unhex(reply.sealed);
const zero = new Uint8Array(32);
const one = changed(zero, 0, 1);
const order_eight = small_order_point();
for (const [name, fault, expect] of [
  ['of another purpose', { purpose: 'grant-to-doctor' }, 'cannot-open'],
  ['of a receipt\'s purpose', { purpose: 'receipt' }, 'cannot-open'],
  ['of another subject', { subject: hex(fixed('another gid')) }, 'cannot-open'],
  ['of another consortium', { consortium: hex(other_consortium) }, 'cannot-open'],
  ['sealed to another recipient', { secret: hex(other_doctor.hpke.secret) }, 'cannot-open'],
  ['with the encapsulated key altered', { sealed: hex(flipped(bytes, 3)) }, 'cannot-open'],
  ['with the ciphertext altered', { sealed: hex(flipped(bytes, 33)) }, 'cannot-open'],
  ['with the tag altered', { sealed: hex(flipped(bytes, -1)) }, 'cannot-open'],
  ['with another message\'s encapsulated key', { sealed: hex(concat(unhex(nothing.sealed).slice(0, 32), bytes.slice(32))) }, 'cannot-open'],
  ['with a byte missing', { sealed: hex(bytes.slice(0, -1)) }, 'cannot-open'],
  ['with a byte behind it', { sealed: `${reply.sealed}00` }, 'cannot-open'],
  ['of 47 bytes', { sealed: hex(bytes.slice(0, 47)) }, 'truncated'],
  ['of no bytes', { sealed: '' }, 'truncated'],
  ['from the key 0, of small order', { sealed: hex(concat(zero, bytes.slice(32))) }, 'cannot-open'],
  ['from the key 1, of small order', { sealed: hex(concat(one, bytes.slice(32))) }, 'cannot-open'],
  ['from a key of order 8', { sealed: hex(concat(order_eight, bytes.slice(32))) }, 'cannot-open'],
]) {
  file.refuses(`a message ${name}`, 'open', { ...reply, ...fault }, expect);
}
for (const [name, key] of [['0', zero], ['1', one], ['of order 8', order_eight]]) {
  file.refuses(`sealing to the key ${name}, of small order`, 'seal', {
    consortium, purpose: 'reply', subject: gid, key: hex(key), ephemeral_ikm: hex(fixed('ephemeral small')), plaintext: '00',
  }, 'invalid');
}
file.refuses('an inbox handle of 15 bytes', 'inbox_commitment', { consortium, handle: handle.slice(2), salt }, 'truncated');
file.refuses('an inbox salt of 17 bytes', 'inbox_commitment', { consortium, handle, salt: `${salt}00` }, 'trailing');

/**
 * A u-coordinate of order 8 on Curve25519: doubling it gives u = 1, of order 4, so that
 * (u^2 - 1)^2 = 4 u (u^2 + A u + 1). The two roots of order 8 are the ones that RFC 7748's ladder
 * takes to 0 in three doublings; this is the smaller one, from u^4 - 4u^3 - (4A + 2)u^2 - 4u + 1 = 0.
 */
function small_order_point() {
  const P = (1n << 255n) - 19n;
  const A = 486662n;
  const mod = (x) => ((x % P) + P) % P;
  const pow = (x, n) => {
    let result = 1n;
    for (let base = mod(x); n > 0n; n >>= 1n) {
      if (n & 1n) result = (result * base) % P;
      base = (base * base) % P;
    }
    return result;
  };
  const i = pow(2n, (P - 1n) / 4n);
  const sqrt = (x) => {
    const root = pow(x, (P + 3n) / 8n);
    if (mod(root * root) === mod(x)) return root;
    const other = mod(root * i);
    return mod(other * other) === mod(x) ? other : undefined;
  };
  // With s = u + 1/u the equation is s^2 - 4s - (4A + 4) = 0.
  const half = sqrt(4n * A + 8n);
  for (const s of [mod(2n + half), mod(2n - half)]) {
    const root = sqrt(s * s - 4n);
    if (root === undefined) continue;
    const inverse_two = (P + 1n) / 2n;
    const candidates = [mod((s + root) * inverse_two), mod((s - root) * inverse_two)].sort((x, y) => (x < y ? -1 : 1));
    return Uint8Array.from({ length: 32 }, (_, k) => Number((candidates[0] >> BigInt(8 * k)) & 255n));
  }
  throw new Error('no point of order 8');
}
