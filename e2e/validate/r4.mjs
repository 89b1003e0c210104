// Validates resources against base R4 by two programs that others wrote, and by rules of the specification that
// neither of them keeps. README.md says which finds what.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import fhir from "fhir";

import { python } from "../peers/python.mjs";
import { Profiles, holds } from "./profile.mjs";

const library = new fhir.Fhir();
const types = library.parser.parsedStructureDefinitions;

/** `await validate(resource)` gives problems as lines that begin with a path. To be closed. */
export class R4 {
  #process;
  #waiting = [];

  constructor() {
    const script = fileURLToPath(new URL("./fhirkit_lines.py", import.meta.url));
    this.#process = spawn(`${python()}/python`, [script], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#process.stdout }).on("line", (line) => this.#waiting.shift().done(JSON.parse(line)));
    this.#process.on("exit", (code) => {
      for (const { failed } of this.#waiting) failed(new Error(`fhirkit ended with ${code}`));
    });
  }

  async validate(resource) {
    if (!types[resource?.resourceType]) return [`${resource?.resourceType}: is no resource type of R4`];
    const byFhirkit = new Promise((done, failed) => this.#waiting.push({ done, failed }));
    this.#process.stdin.write(`${JSON.stringify(resource)}\n`);
    const problems = [...byLibrary(resource), ...byRules(resource), ...(await byFhirkit)];
    return [...new Set(problems)];
  }

  async close() {
    if (this.#process.exitCode !== null) return;
    const ended = new Promise((done) => this.#process.once("exit", done));
    this.#process.stdin.end();
    await ended;
  }
}

function byLibrary(resource) {
  const { messages } = library.validate(resource, { errorOnUnexpected: true });
  return messages
    .filter(({ severity }) => severity === "error" || severity === "fatal")
    // It takes the version of a reference to a version for its id.
    .filter(({ message }) => !(message.startsWith("Invalid type for reference") && message.includes("/_history/")))
    .map(({ location, message }) => `${location}: ${message}`);
}

// Invariants of R4 by type or by path, beside those that IHE's snapshots carry.
const invariants = {
  Period: [["per-1", "start.hasValue().not() or end.hasValue().not() or (start <= end)"]],
  ContactPoint: [["cpt-2", "value.empty() or system.exists()"]],
  Attachment: [["att-1", "data.empty() or contentType.exists()"]],
  Extension: [["ext-1", "extension.exists() != value.exists()"]],
  "Patient.contact": [["pat-1", "name.exists() or telecom.exists() or address.exists() or organization.exists()"]],
  "AuditEvent.entity": [["sev-1", "name.empty() or query.empty()"]],
  CapabilityStatement: [
    ["cpb-1", "rest.exists() or messaging.exists() or document.exists()"],
    ["cpb-2", "(description.count() + software.count() + implementation.count()) > 0"],
    ["cpb-14", "(kind != 'instance') or implementation.exists()"],
    ["cpb-15", "(kind != 'capability') or (implementation.exists().not() and software.exists())"],
  ],
  "CapabilityStatement.rest": [["cpb-9", "resource.select(type).isDistinct()"]],
  "CapabilityStatement.rest.resource": [["cpb-12", "searchParam.select(name).isDistinct()"]],
};
for (const { path, key, expression } of Profiles.shipped().invariants()) {
  const at = key.startsWith("ext-") ? "Extension" : key.startsWith("dom-") ? "DomainResource" : path;
  const known = (invariants[at] ??= []);
  if (!known.some(([name]) => name === key)) known.push([key, expression]);
}

function byRules(resource) {
  const problems = [];
  emptiness(resource, resource.resourceType, problems);
  visitResource(resource, resource.resourceType, problems);
  return problems;
}

/** Nothing is empty: no text, list or object; null stands only in lists, for a value whose extension is given beside. */
function emptiness(value, at, problems) {
  if (value === "") problems.push(`${at}: is empty`);
  if (value === null || typeof value !== "object") return;
  const keys = Object.keys(value);
  if (keys.length === 0) problems.push(`${at}: is empty`);
  for (const key of keys) {
    if (value[key] === null && !Array.isArray(value)) problems.push(`${at}.${key}: is null`);
    emptiness(value[key], Array.isArray(value) ? `${at}[${key}]` : `${at}.${key}`, problems);
  }
}

function visitResource(resource, at, problems) {
  const definition = types[resource?.resourceType];
  if (!definition) return;
  if (resource.id !== undefined && !/^[A-Za-z0-9.-]{1,64}$/.test(resource.id)) problems.push(`${at}.id: is no id`);
  const isDomainResource = definition._properties.some(({ _name }) => _name === "contained");
  if (isDomainResource) keep("DomainResource", resource, resource, at, problems, resource.resourceType);
  keep(resource.resourceType, resource, resource, at, problems);
  containment(resource, at, problems);
  if (resource.resourceType === "Bundle") bundle(resource, at, problems);
  visit(definition._properties, resource, resource.resourceType, resource, at, problems);
}

function visit(properties, object, path, resource, at, problems) {
  for (const property of properties) {
    const value = object[property._name];
    if (value === undefined || value === null) continue;
    const list = Array.isArray(value) ? value : [value];
    list.forEach((one, index) => {
      const here = `${at}.${property._name}${Array.isArray(value) ? `[${index}]` : ""}`;
      if (one === null) return;
      if (property._type === "Resource") {
        visitResource(one, here, problems);
        return;
      }
      if (property._type === "xhtml") narrative(one, here, problems);
      if (typeof one !== "object") return;
      const inner = property._properties?.length ? property._properties : types[property._type]?._properties;
      const backbone = property._properties?.length > 0;
      keep(backbone ? `${path}.${property._name}` : property._type, one, resource, here, problems);
      if (property._type === "Reference") reference(one, resource, here, problems);
      if (property._type === "Attachment") attachment(one, here, problems);
      if (inner) visit(inner, one, backbone ? `${path}.${property._name}` : property._type, resource, here, problems);
    });
  }
}

function keep(type, value, resource, at, problems, base = type) {
  for (const [key, expression] of invariants[type] ?? []) {
    const held = holds(expression, base, value, resource);
    if (held === undefined) throw new Error(`${key} of ${type} can't be evaluated`);
    if (!held) problems.push(`${at}: breaks ${key}: ${expression}`);
  }
}

/** dom-3: what is contained is referred to, from outside or from another contained resource, or refers to its container. */
function containment(resource, at, problems) {
  for (const [index, one] of (resource.contained ?? []).entries()) {
    const text = JSON.stringify({ ...resource, contained: resource.contained.filter((other) => other !== one) });
    const within = JSON.stringify(one);
    if (!text.includes(`"#${one.id}"`) && !within.includes('"reference":"#"')) problems.push(`${at}.contained[${index}]: breaks dom-3: nothing refers to it`);
  }
}

/** ref-1, and the forms that a literal reference has. */
function reference({ reference: literal }, resource, at, problems) {
  if (literal === undefined) return;
  if (literal.startsWith("#")) {
    const there = literal === "#" || (resource.contained ?? []).some(({ id }) => id === literal.slice(1));
    // A contained resource's own references lead to its container's, which is not at hand here.
    if (!there && !at.includes(".contained[")) problems.push(`${at}: breaks ref-1: nothing is contained as ${literal}`);
  } else if (!/^(urn:(uuid|oid):|https?:\/\/|[A-Z][A-Za-z]+\/[A-Za-z0-9.-]{1,64}(\/_history\/[A-Za-z0-9.-]{1,64})?(#.*)?$)/.test(literal)) {
    // A search may stand in the place of a reference only in a transaction.
    if (!/^[A-Z][A-Za-z]+\?/.test(literal)) problems.push(`${at}: ${literal} is no reference`);
  }
}

/** What an attachment carries is as long as it says, and of that SHA-1. */
function attachment({ data, size, hash, contentType, url }, at, problems) {
  if (contentType !== undefined && !/^[\w.+!#$&^-]+\/[\w.+!#$&^-]+(\s*;.*)?$/.test(contentType)) problems.push(`${at}.contentType: is no media type`);
  if (hash !== undefined && Buffer.from(hash, "base64").length !== 20) problems.push(`${at}.hash: is no SHA-1`);
  if (url !== undefined && /\s/.test(url)) problems.push(`${at}.url: is no URL`);
  if (data === undefined) return;
  const bytes = Buffer.from(data, "base64");
  if (size !== undefined && size !== bytes.length) problems.push(`${at}.size: is not ${bytes.length}`);
  if (hash !== undefined && hash !== createHash("sha1").update(bytes).digest("base64")) problems.push(`${at}.hash: is not of these data`);
}

/** A full URL is absolute and agrees with its resource's type and id; no more matches are there than counted. */
function bundle({ type, entry = [], total }, at, problems) {
  entry.forEach(({ fullUrl, resource }, index) => {
    const here = `${at}.entry[${index}]`;
    if (fullUrl !== undefined && resource?.id !== undefined && /^https?:/.test(fullUrl) && !fullUrl.endsWith(`/${resource.resourceType}/${resource.id}`)) {
      problems.push(`${here}.fullUrl: is not of ${resource.resourceType}/${resource.id}`);
    }
    if (fullUrl !== undefined && !/^(https?:\/\/|urn:(uuid|oid):)/.test(fullUrl)) problems.push(`${here}.fullUrl: is not absolute`);
  });
  const matches = entry.filter(({ search }) => search?.mode === "match").length;
  if (type === "searchset" && total !== undefined && matches > total) problems.push(`${at}.total: is less than what is there`);
}

const allowed = new Set(
  ("div p br span b i em strong small big sub sup tt ul ol li dl dt dd a img table caption colgroup col thead tbody tfoot tr th td " +
    "h1 h2 h3 h4 h5 h6 blockquote pre code q cite abbr acronym address dfn kbd samp var hr ins del bdo map area").split(" "),
);

/** txt-1 and txt-2, without a parser: elements are of the allowed ones and closed, and something is said. */
function narrative(text, at, problems) {
  if (!/^<div xmlns="http:\/\/www.w3.org\/1999\/xhtml"/.test(text)) problems.push(`${at}: is no div of XHTML`);
  const open = [];
  for (const [, closing, name, attributes, alone] of text.matchAll(/<(\/?)([A-Za-z][\w:-]*)((?:[^>"']|"[^"]*"|'[^']*')*?)(\/?)>/g)) {
    if (!allowed.has(name)) problems.push(`${at}: breaks txt-1: ${name} is not allowed`);
    if (/\son\w+\s*=|javascript:/i.test(attributes)) problems.push(`${at}: breaks txt-1: scripts are not allowed`);
    if (closing && open.pop() !== name) problems.push(`${at}: ${name} is closed and not open`);
    if (!closing && !alone) open.push(name);
  }
  if (open.length > 0) problems.push(`${at}: ${open} is not closed`);
  if (text.replace(/<[^>]*>/g, "").trim() === "" && !text.includes("<img")) problems.push(`${at}: breaks txt-2: says nothing`);
}
