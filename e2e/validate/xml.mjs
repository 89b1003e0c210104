// FHIR XML: read by a library that others wrote, with what that library would let pass, and compared with JSON.
import { isDeepStrictEqual } from "node:util";
import fhir from "fhir";

const library = new fhir.Fhir();
const tag = /<(\/?)([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*(\/?)>/g;

/** The resource that an XML document says, and what is wrong with the document itself. */
export function fromXml(text) {
  const problems = [];
  const root = /^\s*(?:<\?xml[^>]*\?>\s*)?<([A-Z][A-Za-z]+)((?:\s+[\w.:-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*\/?>/.exec(text);
  if (!root) return { problems: ["does not begin with a resource's element"] };
  if (!/\sxmlns\s*=\s*["']http:\/\/hl7\.org\/fhir["']/.test(root[2])) problems.push(`${root[1]}: is not in FHIR's namespace`);
  let resource;
  try {
    resource = library.xmlToObj(text);
  } catch (error) {
    return { problems: [...problems, `can't be read: ${error.message}`] };
  }
  // The library leaves out elements that it does not know and takes them in any order. What it writes from what it
  // has read has them all in the order of the specification.
  const there = elements(text);
  const expected = elements(library.objToXml(resource));
  const first = there.findIndex((line, index) => line !== expected[index]);
  if (first >= 0) problems.push(`${there[first]}: is unknown or out of order where ${expected[first] ?? "the end"} is expected`);
  else if (expected.length > there.length) problems.push(`${expected[there.length]}: is missing`);
  return { resource, problems };
}

/** Whether XML and JSON say the same; gives the first differing places. */
export function differences(fromJson, fromXml) {
  const found = [];
  compare(fromJson, fromXml, fromJson.resourceType, found);
  return found.slice(0, 5);
}

function compare(json, xml, at, found) {
  if (typeof json === "object" && json !== null && typeof xml === "object" && xml !== null) {
    for (const key of new Set([...Object.keys(json), ...Object.keys(xml)])) {
      compare(json[key], xml[key], Array.isArray(json) ? `${at}[${key}]` : `${at}.${key}`, found);
    }
  } else if (at.endsWith(".div") ? squeezed(json) !== squeezed(xml) : !isDeepStrictEqual(json, xml)) {
    // A whole number in an element of decimals is read as text.
    if (typeof json === "number" && String(json) === xml) return;
    found.push(`${at}: ${JSON.stringify(json)?.slice(0, 60)} in JSON, ${JSON.stringify(xml)?.slice(0, 60)} in XML`);
  }
}

/** A narrative without the white space that the library moves. */
function squeezed(text) {
  return text?.replace(/\s+/g, "").replace(/<([^>]*?)\/>/g, "<$1/>");
}

/** Paths of all elements in their order, without those of narratives. */
function elements(text) {
  const lines = [];
  const open = [];
  let narrative = 0;
  for (const [, closing, name, , alone] of text.matchAll(tag)) {
    if (closing) {
      if (narrative > 0 && name === "div") narrative -= 1;
      open.pop();
      continue;
    }
    open.push(name);
    if (narrative === 0) lines.push(open.join("/"));
    if (name === "div" && !alone) narrative += 1;
    if (alone) open.pop();
  }
  return lines;
}
