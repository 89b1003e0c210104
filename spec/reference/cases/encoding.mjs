import { enc, hex, Reader, unhex } from '../encoding.mjs';
import { in_ } from '../hashes.mjs';
import { consortium } from './world.mjs';
import { VectorFile } from './vector.mjs';

/** Parts of enc in JSON: {"bytes": hex}, {"text": ASCII} or {"integer": decimal}. */
export const to_parts = (parts) =>
  parts.map((part) => {
    if (part.bytes !== undefined) return unhex(part.bytes);
    if (part.text !== undefined) return part.text;
    return BigInt(part.integer);
  });

export const file = new VectorFile('encoding', ['E1'], {
  enc: ({ parts }) => ({ encoded: hex(enc(...to_parts(parts))) }),
  in: ({ consortium, tag, parts }) => ({
    encoded: hex(in_(unhex(consortium), tag.replace(/^WILLIS-V1-/, ''), ...to_parts(parts))),
  }),
  decode_var: ({ bytes, limit }) => {
    const reader = new Reader(unhex(bytes));
    const value = reader.variable(limit, 'var(x)');
    reader.end();
    return { value: hex(value) };
  },
});

file.accepts('no parts', 'enc', { parts: [] });
file.accepts('one empty part', 'enc', { parts: [{ bytes: '' }] });
file.accepts('bytes, text and integers', 'enc', {
  parts: [{ bytes: '00ff' }, { text: 'WILLIS' }, { integer: '0' }, { integer: '258' }, { integer: '18446744073709551615' }],
});
file.accepts('a tag, the consortium and a part', 'in', {
  consortium: hex(consortium), tag: 'WILLIS-V1-LC', parts: [{ integer: '3' }],
});
file.accepts('var of three bytes', 'decode_var', { bytes: '00000003aabbcc', limit: 3 });

file.refuses('var without a byte', 'decode_var', { bytes: '', limit: 8 }, 'truncated');
file.refuses('var with a length cut short', 'decode_var', { bytes: '000000', limit: 8 }, 'truncated');
file.refuses('var with a value cut short', 'decode_var', { bytes: '00000003aabb', limit: 8 }, 'truncated');
file.refuses('var with a byte behind its end', 'decode_var', { bytes: '00000003aabbccdd', limit: 8 }, 'trailing');
file.refuses('var one byte above its limit', 'decode_var', { bytes: '00000003aabbcc', limit: 2 }, 'too-large');
file.refuses('var with a length of 2^32 - 1 and no value', 'decode_var', { bytes: 'ffffffff', limit: 1024 }, 'too-large');
