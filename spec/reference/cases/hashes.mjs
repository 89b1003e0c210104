import { big_endian, concat, hex, unhex } from '../encoding.mjs';
import { e, enc_GT, g1, g2, q } from '../groups.mjs';
import { Expand, Extract, H1, Hs, HT, PRF, SHA } from '../hashes.mjs';
import { consortium as cx, other_consortium } from './world.mjs';
import { GT_cyclotomic, GT_one, GT_outside } from './groups.mjs';
import { to_parts } from './encoding.mjs';
import { changed, fixed, of_GT, of_point, of_scalar, to_GT, VectorFile } from './vector.mjs';

const name_of = (tag) => tag.replace(/^WILLIS-V1-/, '');

export const file = new VectorFile('hashes', ['E2', 'E3', 'E4', 'E5', '1.2'], {
  H1: ({ consortium, tag, parts }) => ({ point: of_point(H1(unhex(consortium), name_of(tag), ...to_parts(parts))) }),
  Hs: ({ consortium, tag, parts }) => ({ scalar: of_scalar(Hs(unhex(consortium), name_of(tag), ...to_parts(parts))) }),
  PRF: ({ consortium, key, tag, parts }) => ({
    bytes: hex(PRF(unhex(consortium), unhex(key), name_of(tag), ...to_parts(parts))),
  }),
  Extract: ({ salt, secret }) => ({ bytes: hex(Extract(salt, unhex(secret))) }),
  Expand: ({ consortium, prk, tag, parts }) => ({
    bytes: hex(Expand(unhex(consortium), unhex(prk), name_of(tag), ...to_parts(parts))),
  }),
  HT: ({ GT }) => ({ bytes: hex(HT(to_GT(GT))) }),
  SHA: ({ consortium, tag, parts }) => ({ bytes: hex(SHA(unhex(consortium), name_of(tag), ...to_parts(parts))) }),
});

const consortium = hex(cx);
const parts = [{ bytes: hex(fixed('a part')) }, { integer: '9' }];

file.accepts('H1 under COND', 'H1', { consortium, tag: 'WILLIS-V1-COND', parts });
file.accepts('H1 under MASK, the same parts', 'H1', { consortium, tag: 'WILLIS-V1-MASK', parts });
file.accepts('H1 in another consortium', 'H1', { consortium: hex(other_consortium), tag: 'WILLIS-V1-COND', parts });
file.accepts('Hs under PID', 'Hs', { consortium, tag: 'WILLIS-V1-PID', parts });
file.accepts('PRF under LC', 'PRF', { consortium, key: hex(fixed('a key')), tag: 'WILLIS-V1-LC', parts });
file.accepts('Extract', 'Extract', { salt: 'willis/v1/seed', secret: hex(fixed('a secret')) });
file.accepts('Expand under DATA', 'Expand', { consortium, prk: hex(fixed('a prk')), tag: 'WILLIS-V1-DATA', parts });
file.accepts('HT of e(g1, g2)', 'HT', { GT: of_GT(e(g1, g2)) });
file.accepts('SHA under GID', 'SHA', { consortium, tag: 'WILLIS-V1-GID', parts: [{ bytes: hex(fixed('a key')) }] });

const T = enc_GT(e(g1, g2));
file.refuses('HT of 1', 'HT', { GT: hex(GT_one) }, 'identity');
file.refuses('HT of an element outside GT', 'HT', { GT: hex(GT_outside) }, 'not-in-subgroup');
file.refuses('HT of an element of the cyclotomic subgroup only', 'HT', { GT: hex(GT_cyclotomic) }, 'not-in-subgroup');
file.refuses('HT of 0', 'HT', { GT: hex(new Uint8Array(576)) }, 'not-in-subgroup');
file.refuses(
  'HT of coefficients in the order c1, c0', 'HT', { GT: hex(concat(T.slice(288), T.slice(0, 288))) }, 'not-in-subgroup',
);
file.refuses('HT of no bytes', 'HT', { GT: '' }, 'truncated');
file.refuses('HT of a last coefficient 2^384 - 1', 'HT', { GT: hex(changed(T, 528, Array(48).fill(0xff))) }, 'non-canonical');
file.refuses('HT of a coefficient q', 'HT', { GT: hex(changed(T, 48, [...big_endian(q, 48)])) }, 'non-canonical');
file.refuses('HT of 575 bytes', 'HT', { GT: hex(T.slice(0, 575)) }, 'truncated');
file.refuses('HT of 577 bytes', 'HT', { GT: hex(concat(T, Uint8Array.of(0))) }, 'trailing');
