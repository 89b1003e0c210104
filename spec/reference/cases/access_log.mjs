import { hex, unhex } from '../encoding.mjs';
import { mask_transaction, read_log_entry } from '../grants.mjs';
import { consortium as cx, doctor, other_consortium, other_doctor } from './world.mjs';
import { fixed, flipped, VectorFile } from './vector.mjs';

export const file = new VectorFile('access_log', ['E33'], {
  mask: ({ consortium, G, access_key, i, v, transaction }) => ({
    masked: hex(mask_transaction(unhex(consortium), unhex(G), unhex(access_key), i, unhex(v), unhex(transaction))),
  }),
  read: ({ consortium, G, access_key, i, v, masked, transactions }) => ({
    transaction: hex(read_log_entry(
      unhex(consortium), unhex(G), { access_key: unhex(access_key), i, v: unhex(v), masked: unhex(masked) },
      transactions.map(unhex),
    )),
  }),
});

const transactions = ['one', 'two', 'three'].map((name) => hex(fixed(`log transaction ${name}`)));
const entry = {
  consortium: hex(cx), G: hex(fixed('G of the log')), access_key: hex(doctor.access.key), i: 0, v: hex(fixed('v', 16)),
};
const { masked } = file.accepts('an entry', 'mask', { ...entry, transaction: transactions[1] });
file.accepts('the next entry for the same record', 'mask', { ...entry, i: 1, v: hex(fixed('next v', 16)), transaction: transactions[1] });
const logged = { ...entry, masked, transactions };
file.accepts('the patient reads the entry', 'read', logged);

const fault = (name, changes, expect = 'no-hit') => file.refuses(`an entry ${name}`, 'read', { ...logged, ...changes }, expect);
fault('read with another grant\'s G', { G: hex(fixed('another G')) });
fault('read under another access key', { access_key: hex(other_doctor.access.key) });
fault('read at another place in the log', { i: 1 });
fault('read with another v', { v: hex(fixed('another v', 16)) });
fault('read in another consortium', { consortium: hex(other_consortium) });
fault('with the masked id altered', { masked: hex(flipped(unhex(masked), 0)) });
fault('of a record that is not on the chain', { transactions: [transactions[0], transactions[2]] });
fault('with v of 15 bytes', { v: entry.v.slice(2) }, 'truncated');
fault('with a masked id of 33 bytes', { masked: `${masked}00` }, 'trailing');
