// node verify-proof.mjs FOUNDING FILE: checks a file of `willis proof` and prints what it proves, as JSON.
// node verify-proof.mjs --vectors DIRECTORY: checks all of ../vectors/proofs.
//
// ../verifier.md, section by section, and nothing else: SHA-256, Ed25519, and reading of bytes.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { Reader, Refused, ascii, compare, concat, enc, equal, hex, require, u32, u64, u8 } from './encoding.mjs';

// 1 Bytes

const hash = (consortium, tag, ...parts) => sha256(enc(`WILLIS-V1-${tag}`, consortium, ...parts));

function stands(signature, text, key) {
  try {
    return ed25519.verify(signature, text, key, { zip215: true });
  } catch {
    return false;
  }
}

/** A reader of all of `bytes`. */
function whole(bytes, read) {
  const from = new Reader(bytes);
  const value = read(from);
  from.end();
  return value;
}

const u16 = (from) => Number(from.integer(2, 'u16'));
const variable = (from, limit = 1 << 24) => from.variable(limit, 'part');

// 2 The founding document

function founding(bytes) {
  return whole(bytes, (from) => {
    require(u16(from) === 1, 'invalid', 'the founding document is of another version');
    from.take(8 + 32 + 33);
    const term = BigInt(from.u32());
    from.take(24);
    const epoch_blocks = BigInt(from.u32());
    const nodes = [];
    for (let left = from.u32(); left > 0; left--) {
      const [institution, tier] = [from.u32(), from.u8()];
      variable(from);
      from.take(32);
      const key = from.take(32);
      if (tier !== 0) nodes.push({ institution, tier, key });
    }
    const consortium = sha256(enc('WILLIS-V1-GENESIS', bytes));
    return { consortium, term, epoch_blocks, set: { epoch: 0n, nodes } };
  });
}

// 3 A node set

const digest_of = (set) => sha256(concat(...set.nodes.map(({ institution, tier, key }) => concat(u32(institution), u8(tier), key))));

function read_set(bytes) {
  return whole(bytes, (from) => {
    const epoch = from.u64();
    const nodes = Array.from({ length: u16(from) }, () => ({ institution: from.u32(), tier: from.u8(), key: from.take(32) }));
    for (let i = 1; i < nodes.length; i++) require(nodes[i - 1].institution < nodes[i].institution, 'invalid', 'the nodes are not in order');
    require(nodes.length > 0, 'invalid', 'a set without nodes');
    return { epoch, nodes };
  });
}

// 4 A block's header

function read_header(from) {
  const bytes = from.take(264, 'header');
  const field = new Reader(bytes);
  const header = {
    consortium: field.take(32), height: field.u64(), epoch: field.u64(), view: field.u64(), previous: field.take(32),
    time: field.u64(), size: field.u32(), count: field.u32(), merkle_root: field.take(32), state_root: field.take(32),
  };
  header.id = hash(header.consortium, 'BLOCK', bytes);
  return header;
}

// 5 A certificate

function read_varint(from) {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = from.u8('varint');
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) {
      require(byte !== 0 || shift === 0n, 'non-canonical', 'a varint is longer than needed');
      require(value < 1n << 64n, 'invalid', 'a varint is too large');
      return value;
    }
    require(shift < 63n, 'invalid', 'a varint is too long');
  }
}

const short_varint = (length) => (length < 128 ? u8(length) : concat(u8((length & 127) | 128), u8(length >> 7)));

function check_certificate({ consortium, term }, header, set, bytes) {
  const quorum = set.nodes.length - Math.floor((set.nodes.length - 1) / 3);
  const keys = set.nodes.map((node) => node.key).sort(compare);
  whole(bytes, (from) => {
    const [epoch, view] = [read_varint(from), read_varint(from)];
    read_varint(from);
    const id = from.take(32, 'block id');
    const vote = bytes.slice(0, from.at);
    require(equal(id, header.id) && equal(header.consortium, consortium), 'altered', 'the certificate is of another block');
    require(epoch === header.epoch && epoch === set.epoch, 'altered', 'the certificate is of another validator epoch');
    require((view === 0n ? 0n : view - 1n + term) >= header.view, 'altered', 'the certificate is of an earlier view');
    require(from.u64('number of nodes') === BigInt(keys.length), 'altered', 'the certificate is of a set of another size');
    const bits = from.take(Math.ceil(keys.length / 8), 'signers');
    const signers = keys.filter((_, i) => bits[i >> 3] & (1 << (i & 7)));
    require(keys.length % 8 === 0 || bits[bits.length - 1] >> keys.length % 8 === 0, 'non-canonical', 'a bit of no node is set');
    require(read_varint(from) === BigInt(signers.length), 'altered', 'there are not as many signatures as signers');
    require(signers.length >= quorum, 'too-few', 'fewer than n - f nodes signed');
    const namespace = concat(ascii('WILLIS-V1-ENGINE-'), consortium, digest_of(set), ascii('_FINALIZE'));
    const text = concat(short_varint(namespace.length), namespace, vote);
    for (const key of signers) require(stands(from.take(64, 'signature'), text, key), 'bad-signature', 'a vote does not stand');
  });
}

// 6 A finality proof

const read_finality = (bytes) => whole(bytes, (from) => {
  const count = u16(from);
  require(count >= 1 && count <= 256, 'invalid', 'a finality proof has 1 to 256 headers');
  const headers = Array.from({ length: count }, () => read_header(from));
  return { headers, certificate: variable(from) };
});

function check_finality(chain, { headers, certificate }, set) {
  check_certificate(chain, headers[headers.length - 1], set, certificate);
  for (let i = 1; i < headers.length; i++) require(equal(headers[i - 1].id, headers[i].previous), 'altered', 'a header is not the next one\'s parent');
  return headers[0];
}

// 7 A state proof

const bit = (path, depth) => (path[depth >> 3] >> (7 - (depth & 7))) & 1;

/** The value under `key` in the state after `header`, or null. */
function check_state(header, key, bytes) {
  const H = (tag, ...parts) => hash(header.consortium, tag, ...parts);
  return whole(bytes, (from) => {
    const there = from.u8();
    require(there <= 1, 'invalid', 'neither a value nor none');
    const value = there ? variable(from) : null;
    const steps = u16(from);
    require(steps <= 256, 'too-large', 'a path has at most 256 steps');
    const siblings = Array.from({ length: steps }, () => from.take(32, 'sibling'));
    const path = H('TRIE-PATH', key);
    const end = from.u8();
    let node;
    if (end === 0 && value !== null) node = H('TRIE-LEAF', path, H('TRIE-VALUE', value));
    else if (end === 1 && value === null) node = new Uint8Array(32);
    else if (end === 2 && value === null) {
      const [other, other_value] = [from.take(32), from.take(32)];
      require(!equal(other, path), 'altered', 'the other leaf is the key\'s own');
      for (let depth = 0; depth < steps; depth++) require(bit(other, depth) === bit(path, depth), 'altered', 'the other leaf is elsewhere');
      node = H('TRIE-LEAF', other, other_value);
    } else require(false, 'altered', 'the end of the path does not fit the value');
    for (let depth = steps - 1; depth >= 0; depth--) {
      node = bit(path, depth) === 0 ? H('TRIE-NODE', node, siblings[depth]) : H('TRIE-NODE', siblings[depth], node);
    }
    const [records, log] = [from.u64(), from.take(32)];
    require(equal(H('STATE-ROOT', node, records, log), header.state_root), 'altered', 'the value does not lead to the state root');
    return value;
  });
}

// 8 From the founders to later nodes

function check_step(chain, trusted, bytes) {
  return whole(bytes, (from) => {
    const finality = read_finality(variable(from));
    const { height, epoch } = finality.headers[0];
    const epoch_of = (at) => at / chain.epoch_blocks;
    require(epoch >= trusted.epoch && epoch === epoch_of(height) && epoch_of(height + 1n) === epoch + 1n, 'altered', 'the step is not from the last block of an epoch');
    const header = check_finality(chain, finality, { ...trusted, epoch });
    const value = check_state(header, concat(ascii('sv'), u64(epoch + 1n)), variable(from));
    require(value !== null, 'altered', 'the state has no such node set');
    const set = read_set(value);
    require(set.epoch === epoch + 1n, 'altered', 'the node set is of another epoch');
    return set;
  });
}

// 9 An inclusion proof

function check_inclusion(header, bytes) {
  const H = (tag, ...parts) => hash(header.consortium, `BODY-${tag}`, ...parts);
  return whole(bytes, (from) => {
    const transaction = variable(from);
    let [position, count] = [from.u64(), from.u64()];
    const steps = from.u8();
    require(steps <= 64 && count === BigInt(header.count) && position < count, 'altered', 'the path is not one of this block');
    let [node, last] = [H('LEAF', transaction), count - 1n];
    for (let step = 0; step < steps; step++) {
      const sibling = from.take(32, 'sibling');
      require(last !== 0n, 'altered', 'the path is too long');
      if (position % 2n === 1n || position === last) {
        node = H('NODE', sibling, node);
        while (position % 2n === 0n && position !== 0n) [position, last] = [position >> 1n, last >> 1n];
      } else node = H('NODE', node, sibling);
      [position, last] = [position >> 1n, last >> 1n];
    }
    require(last === 0n && equal(node, header.merkle_root), 'altered', 'the transaction does not lead to the Merkle root');
    return transaction;
  });
}

// 10 Transactions

function check_record(consortium, bytes) {
  return whole(bytes, (from) => {
    require(from.u8() === 4, 'altered', 'the transaction is no record');
    const parts = [from.take(32), from.take(32), from.take(96), from.take(80)];
    const count = from.u32();
    require(count >= 8 && count <= 1024 && count % 8 === 0, 'invalid', 'a record has 8 to 1,024 entries, a multiple of 8');
    const entries = Array.from({ length: count }, () => from.take(32, 'entry'));
    for (let i = 1; i < count; i++) require(compare(entries[i - 1].slice(0, 16), entries[i].slice(0, 16)) < 0, 'invalid', 'the tags do not ascend');
    const [R, author, institution, time] = [from.take(96), from.take(32), from.u32(), from.u64()];
    from.take(16);
    const doctor = from.take(64);
    from.take(64);
    const text = enc('WILLIS-V1-ED25519-record', consortium, ...parts, concat(...entries), R, author, institution, time);
    require(stands(doctor, text, author), 'bad-signature', 'the doctor\'s signature does not stand');
    return { id: sha256(text), digest: parts[0], author, institution };
  });
}

function check_accesses(consortium, bytes) {
  return whole(bytes, (from) => {
    const kind = from.take(1);
    require(kind[0] === 7, 'altered', 'the transaction holds no accesses');
    const count = u16(from);
    require(count >= 1 && count <= 256, 'invalid', 'a transaction holds 1 to 256 accesses');
    return Array.from({ length: count }, () => {
      const body = from.take(88, 'access');
      const field = new Reader(body);
      const [access_key, number] = [field.take(32), field.u64()];
      const text = enc('WILLIS-V1-ED25519-access', consortium, kind, body);
      require(stands(from.take(64), text, access_key), 'bad-signature', 'an access is not signed by its key');
      return { access_key, number, masked: body.slice(56) };
    });
  });
}

// 11 A grant in the state

const read_grant = (bytes) => whole(bytes, (from) => {
  const moment = () => ({ height: from.u64(), time: from.u64() });
  const grant = { grant: from.take(32), not_before: from.u64(), expiry: from.u64(), recorded: moment() };
  from.take(8 + 4);
  const revoked = from.u8();
  require(revoked <= 1, 'invalid', 'neither revoked nor not');
  grant.revoked = revoked ? moment() : null;
  grant.access = [];
  while (from.at < bytes.length) grant.access.push({ key: from.take(32), next: from.u64() });
  return grant;
});

// 12 The file

export function check_proof(founding_bytes, bytes) {
  const chain = founding(founding_bytes);
  const { consortium } = chain;
  return whole(bytes, (from) => {
    require(equal(from.take(15), ascii('WILLIS-V1-PROOF')), 'invalid', 'the file is no proof');
    const kind = from.u8();
    require(kind >= 1 && kind <= 3, 'invalid', 'the kind of claim is unknown');
    require(equal(from.take(32), consortium), 'altered', 'the file is of another consortium');
    const sets = [chain.set];
    for (let left = u16(from); left > 0; left--) sets.push(check_step(chain, sets[sets.length - 1], variable(from)));
    const final = () => {
      const finality = read_finality(variable(from));
      const { epoch } = finality.headers[0];
      const set = sets.filter((one) => one.epoch <= epoch).pop();
      return check_finality(chain, finality, { ...set, epoch });
    };
    const subject = from.take(32);
    const header = final();

    if (kind === 1) {
      const record = check_record(consortium, check_inclusion(header, variable(from)));
      require(equal(record.id, subject), 'altered', 'the record is another');
      return {
        claim: 'record', id: hex(subject), height: Number(header.height), time: Number(header.time),
        digest: hex(record.digest), author: hex(record.author), institution: record.institution,
      };
    }

    const value = check_state(header, concat(ascii('sg'), subject), variable(from));
    const grant = value === null ? null : read_grant(value);
    const state = grant && {
      grant: hex(grant.grant), not_before: Number(grant.not_before), expiry: Number(grant.expiry),
      recorded: Number(grant.recorded.height), revoked: grant.revoked && Number(grant.revoked.height),
      accesses: grant.access.map(({ key, next }) => [hex(key), Number(next)]),
    };
    const told = { gid: hex(subject), as_of: Number(header.height), time: Number(header.time), state };
    if (kind === 2) return { claim: 'grant', ...told };

    require(grant !== null, 'altered', 'the chain has no such grant');
    const next = new Map(grant.access.map(({ key }) => [hex(key), 0n]));
    const accesses = [];
    let height = 0n;
    for (let left = from.u32(); left > 0; left--) {
      const block = final();
      require(block.height >= height && block.height <= header.height, 'altered', 'an access is out of order or later');
      height = block.height;
      const own = check_accesses(consortium, check_inclusion(block, variable(from))).filter(({ access_key }) => next.has(hex(access_key)));
      require(own.length > 0, 'altered', 'a transaction holds no access under the grant');
      for (const { access_key, number, masked } of own) {
        const key = hex(access_key);
        require(number === next.get(key), 'altered', 'an access is missing or shown twice');
        next.set(key, number + 1n);
        accesses.push({ height: Number(height), time: Number(block.time), access_key: key, number: Number(number), masked: hex(masked) });
      }
    }
    for (const { key, next: counted } of grant.access) require(next.get(hex(key)) === counted, 'altered', 'the log is not complete');
    return { claim: 'access-log', ...told, accesses };
  });
}

// The command

const sorted = (value) => (value === null || typeof value !== 'object' ? value
  : Array.isArray(value) ? value.map(sorted)
  : Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])])));

function check_vectors(directory) {
  const proofs = (folder) => readdirSync(folder).filter((name) => name.endsWith('.proof')).sort();
  const bytes_of = (...path) => new Uint8Array(readFileSync(join(directory, ...path)));
  const first = bytes_of('founding');
  const [held, refused] = [proofs(directory), proofs(join(directory, 'refused'))];
  for (const name of held) {
    const found = check_proof(first, bytes_of(name));
    const expected = JSON.parse(readFileSync(join(directory, name.replace(/proof$/, 'json')), 'utf8'));
    if (JSON.stringify(sorted(found)) !== JSON.stringify(sorted(expected))) throw new Error(`${name} proves something else: ${JSON.stringify(found)}`);
    // No single byte can be changed, of the shorter ones.
    for (let at = 0; at < Math.min(bytes_of(name).length, 700); at++) {
      const changed = bytes_of(name);
      changed[at] ^= 1;
      if (!is_refused(first, changed)) throw new Error(`${name} is taken with byte ${at} changed`);
    }
  }
  for (const name of refused) {
    if (!is_refused(first, bytes_of('refused', name))) throw new Error(`refused/${name} is taken`);
  }
  if (held.length < 5 || refused.length < 23) throw new Error(`${held.length} and ${refused.length} files are fewer than there were`);
  console.log(`${held.length} proofs hold, ${refused.length} are refused`);
}

function is_refused(first, bytes) {
  try {
    check_proof(first, bytes);
    return false;
  } catch (error) {
    if (error instanceof Refused) return true;
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [one, other] = process.argv.slice(2);
  try {
    if (one === '--vectors') check_vectors(other ?? fileURLToPath(new URL('../vectors/proofs', import.meta.url)));
    else console.log(JSON.stringify(check_proof(new Uint8Array(readFileSync(one)), new Uint8Array(readFileSync(other))), null, 2));
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
