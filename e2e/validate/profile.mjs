// Checks resources against profiles: cardinalities, fixed values and patterns, types and their profiles, slices,
// targets and containment of references, required codes, invariants. It reads snapshots, whole or in part: what a
// snapshot does not mention is left to the validation against base R4. Whatever it was asked to check and could
// not, it says.
import { readdirSync, readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import fhirpath from "fhirpath";
import r4 from "fhirpath/fhir-context/r4/index.js";

import { definitions, valueSets } from "./profiles/definitions.mjs";

const core = "http://hl7.org/fhir/StructureDefinition/";
const coreValueSets = "http://hl7.org/fhir/ValueSet/";

// Kept by the validation against base R4, in plain code: the first is asked of every element, the second is
// written in a FHIRPath that its engine refuses, and the third is no rule but advice.
const elsewhere = new Set(["ele-1", "dom-3", "dom-6"]);

/** A resource's problems and what could not be checked, each a list of lines that begin with a path. */
export class Profiles {
  #trees = new Map();

  constructor(all) {
    for (const definition of all) this.#trees.set(definition.url, tree(definition));
  }

  /** IHE's profiles of the folder beside this file, and those that they point to. */
  static shipped() {
    const folder = new URL("./profiles/", import.meta.url);
    const names = readdirSync(folder).filter((name) => name.startsWith("StructureDefinition-"));
    const files = names.map((name) => JSON.parse(readFileSync(new URL(name, folder), "utf8")));
    return new Profiles([...files, ...files.flatMap(uncontained), ...definitions]);
  }

  knows(url) {
    return this.#trees.has(url);
  }

  urls() {
    return [...this.#trees.keys()];
  }

  /** The profiles' resource type, once the profile is known. */
  type(url) {
    return this.#trees.get(url)?.element.path;
  }

  /** Invariants of base R4 that the snapshots carry, by path. */
  invariants() {
    const found = new Map();
    const visit = (node) => {
      for (const one of node.element.constraint ?? []) {
        if (one.severity !== "error" || elsewhere.has(one.key) || !/^(dom|bdl|lst|ppc|ext)-/.test(one.key)) continue;
        found.set(`${node.element.path} ${one.key}`, { path: node.element.path, ...one });
      }
      for (const child of node.children.values()) visit(child);
    };
    for (const root of this.#trees.values()) visit(root);
    return [...found.values()];
  }

  check(resource, url, bundle) {
    const root = this.#trees.get(url);
    if (!root) throw new Error(`no profile ${url}`);
    const run = new Run(this.#trees, resource, bundle ?? (resource.resourceType === "Bundle" ? resource : undefined));
    if (resource.resourceType !== root.element.path) {
      run.problem(resource.resourceType, `is no ${root.element.path}`);
    } else {
      run.value(root, resource, root.element.path);
    }
    return run.said();
  }

  /** All profiles that the resource says it conforms to. */
  declared(resource, bundle) {
    const problems = [];
    const unchecked = [];
    for (const url of resource.meta?.profile ?? []) {
      if (!this.knows(url)) {
        if (!url.startsWith(core)) unchecked.push(`${resource.resourceType}: no profile ${url}`);
        continue;
      }
      const said = this.check(resource, url, bundle);
      problems.push(...said.problems.map((line) => `${line} [${last(url)}]`));
      unchecked.push(...said.unchecked);
    }
    return { problems, unchecked };
  }
}

/** MHD's comprehensive profiles are its uncontained ones, of which they ask that some references are contained. */
function uncontained(definition) {
  if (!definition.url.includes("MHD.Comprehensive.")) return [];
  const text = JSON.stringify(definition).replaceAll("MHD.Comprehensive.", "MHD.UnContained.Comprehensive.");
  return [JSON.parse(text, (key, value) => (key === "aggregation" ? undefined : value))];
}

/** A snapshot as a tree: children by name, slices by their own. */
function tree(definition) {
  const elements = definition.snapshot.element;
  const node = (element) => ({ element, children: new Map(), slices: new Map() });
  const root = node(elements[0]);
  root.all = new Map([[elements[0].id, root]]);
  for (const element of elements.slice(1)) {
    const here = place(root, element.id);
    here.element = element;
    root.all.set(element.id, here);
  }
  return root;

  function place(from, id) {
    let here = from;
    for (const part of id.split(".").slice(1)) {
      const [name, slice] = part.split(":");
      here = entry(here.children, name, () => node({ id: `${here.element.id}.${name}`, path: `${here.element.path}.${name}` }));
      if (slice) here = entry(here.slices, slice, () => node({ id: `${here.element.id}:${slice}`, path: here.element.path }));
    }
    return here;
  }
}

function entry(map, key, make) {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
}

class Run {
  #problems = [];
  #unchecked = new Set();

  constructor(trees, resource, bundle) {
    this.trees = trees;
    this.resource = resource;
    this.bundle = bundle;
  }

  said() {
    return { problems: this.#problems, unchecked: [...this.#unchecked] };
  }

  problem(at, what) {
    this.#problems.push(`${at}: ${what}`);
  }

  not(at, what) {
    this.#unchecked.add(`${at}: ${what}`);
  }

  /** One value against one element of a profile, and all below it. */
  value(node, value, at, key) {
    const { element } = node;
    for (const [name, expected] of Object.entries(element)) {
      if (name.startsWith("fixed") && !isDeepStrictEqual(value, expected)) {
        this.problem(at, `is not the fixed ${JSON.stringify(expected)}`);
      }
      if (name.startsWith("pattern") && !fits(value, expected)) this.problem(at, `does not fit ${JSON.stringify(expected)}`);
      if (/^(min|max)(Value|Length)/.test(name)) this.not(element.path, name);
    }
    if (element.type) this.types(element.type, value, at, key);
    if (element.binding?.strength === "required") this.codes(element.binding.valueSet, value, at);
    for (const one of element.constraint ?? []) this.invariant(one, element, value, at);
    const inner = element.contentReference ? this.referred(node) : node;
    if (!inner || value === null || typeof value !== "object") return;
    for (const [name, child] of inner.children) this.child(name, child, value, at);
  }

  referred(node) {
    const id = node.element.contentReference.split("#")[1];
    for (const root of this.trees.values()) {
      const found = root.all.get(node.element.id) === node && root.all.get(id);
      if (found) return found;
    }
    this.not(node.element.path, `content of ${id}`);
    return undefined;
  }

  child(name, node, parent, at) {
    const found = occurrences(parent, name);
    this.count(node, found.length, `${at}.${name}`);
    for (const one of found) {
      if (one.value !== undefined) this.value(node, one.value, `${at}.${one.at}`, one.suffix);
    }
    if (node.slices.size > 0) this.sliced(node, found, `${at}.${name}`, at);
  }

  count({ element }, count, at) {
    if (element.min !== undefined && count < element.min) this.problem(at, `is there ${count} times, not ${element.min} or more`);
    if (element.max !== undefined && element.max !== "*" && count > Number(element.max)) {
      this.problem(at, `is there ${count} times, not ${element.max} or fewer`);
    }
  }

  sliced(node, found, at, parentAt) {
    const { discriminator = [], rules } = node.element.slicing ?? {};
    if (discriminator.length === 0) {
      this.not(at, "slices without a discriminator");
      return;
    }
    const counts = new Map([...node.slices.keys()].map((name) => [name, 0]));
    for (const one of found) {
      let unknown = false;
      let matched = false;
      for (const [name, slice] of node.slices) {
        const answers = discriminator.map((how) => this.told(how, slice, one));
        if (answers.includes(false)) continue;
        // A slice may leave one of several discriminators open, as MHD's does for the method by which a Binary comes.
        if (!answers.includes(true)) {
          unknown = true;
          this.not(at, `slice ${name}, told apart by ${JSON.stringify(discriminator)}`);
          continue;
        }
        matched = true;
        counts.set(name, counts.get(name) + 1);
        if (one.value !== undefined) this.value(slice, one.value, `${parentAt}.${one.at}(${name})`, one.suffix);
      }
      if (!matched && !unknown && rules === "closed") this.problem(`${parentAt}.${one.at}`, "is in none of the slices, which are closed");
    }
    for (const [name, slice] of node.slices) this.count(slice, counts.get(name), `${at}:${name}`);
  }

  /** Whether a discriminator says that this value belongs to the slice; undefined if that is not known. */
  told({ type, path }, slice, { value, suffix }) {
    if (type === "value" || type === "pattern") {
      const expected = this.expected(slice, path);
      const there = select(value, path);
      if (expected === undefined || there === undefined) return undefined;
      return there.some((each) => expected.some((rule) => this.meets(rule, each)));
    }
    if (type === "profile") {
      const inner = path === "$this" ? slice : slice.children.get(path);
      const there = select(value, path);
      if (!inner?.element.type || there === undefined) return undefined;
      const answers = there.flatMap((each) => inner.element.type.map((one) => this.resembles(one, each)));
      return answers.includes(true) ? true : answers.includes(undefined) ? undefined : false;
    }
    if (type === "exists" && slice.children.has(path)) {
      const there = select(value, path)?.length > 0;
      return slice.children.get(path).element.max === "0" ? !there : there;
    }
    if (type === "type" && path === "$this" && slice.element.type) {
      return slice.element.type.some(({ code }) => value?.resourceType === code || suffix?.toLowerCase() === code.toLowerCase());
    }
    return undefined;
  }

  /** What a slice asks at a discriminator's path, in its own elements or in those of its types' profiles. */
  expected(slice, path) {
    if (path === "url" && slice.element.type?.some(({ code }) => code === "Extension")) {
      const urls = slice.element.type.flatMap(({ profile }) => profile ?? []);
      if (urls.length > 0) return urls.map((url) => ({ fixedUri: url }));
    }
    let nodes = [slice];
    for (const part of path === "$this" ? [] : path.split(".")) {
      nodes = nodes.flatMap((node) => {
        const inner = (node.element.type ?? []).flatMap(({ profile }) => profile ?? []).map((url) => this.trees.get(url));
        return [node, ...inner].map((one) => one?.children.get(part)).filter(Boolean);
      });
    }
    const rules = nodes.map(({ element }) => {
      const told = Object.entries(element).filter(([name]) => /^(fixed|pattern)/.test(name));
      if (told.length > 0) return Object.fromEntries(told);
      if (element.binding?.strength === "required" && valueSets[bare(element.binding.valueSet)]) return { binding: element.binding };
      return undefined;
    });
    const known = rules.filter(Boolean);
    return known.length > 0 ? known : undefined;
  }

  meets(rule, value) {
    return Object.entries(rule).every(([name, expected]) => {
      if (name === "binding") return inSet(valueSets[bare(expected.valueSet)], value);
      return name.startsWith("fixed") ? isDeepStrictEqual(value, expected) : fits(value, expected);
    });
  }

  /** Whether a resource is of this type and, if the type has profiles, of the kind that one of them is about. */
  resembles({ code, profile = [] }, resource) {
    if (code !== "Resource" && resource?.resourceType !== code) return false;
    if (profile.length === 0) return true;
    const answers = profile.map((url) => {
      if (url.startsWith(core)) return resource.resourceType === last(url);
      const root = this.trees.get(url);
      if (!root) return undefined;
      // Codes tell kinds apart, as SubmissionSets from folders. The rest of the profile is then checked in full.
      return [...root.children].every(
        ([name, { element }]) => !element.patternCodeableConcept || fits(resource[name], element.patternCodeableConcept),
      );
    });
    return answers.includes(true) ? true : answers.includes(undefined) ? undefined : false;
  }

  types(types, value, at, key) {
    if (key !== undefined && !types.some(({ code }) => code.toLowerCase() === key.toLowerCase())) {
      this.problem(at, `is of none of the types ${types.map(({ code }) => code)}`);
      return;
    }
    const fitting = key === undefined ? types : types.filter(({ code }) => code.toLowerCase() === key.toLowerCase());
    if (value?.resourceType && !fitting.some(({ code }) => ["Resource", "DomainResource", value.resourceType].includes(code))) {
      this.problem(at, `is a ${value.resourceType}, none of ${fitting.map(({ code }) => code)}`);
      return;
    }
    if (fitting.some(({ code }) => code === "Reference")) this.reference(fitting, value, at);
    const profiles = fitting.flatMap(({ profile }) => profile ?? []).filter((url) => !url.startsWith(core));
    if (profiles.length === 0) return;
    const results = [];
    for (const url of profiles) {
      const root = this.trees.get(url);
      if (!root) {
        this.not(at, `no profile ${url}`);
        return;
      }
      const inner = new Run(this.trees, value?.resourceType ? value : this.resource, this.bundle);
      inner.value(root, value, at);
      results.push(inner.said());
    }
    const best = results.sort((a, b) => a.problems.length - b.problems.length)[0];
    this.#problems.push(...best.problems);
    for (const line of best.unchecked) this.#unchecked.add(line);
  }

  reference(types, value, at) {
    const { reference } = value;
    if (types.every(({ aggregation }) => aggregation?.length > 0 && aggregation.every((how) => how === "contained"))) {
      if (reference !== undefined && !reference.startsWith("#")) this.problem(at, "is to be contained");
    }
    const targets = types.flatMap(({ targetProfile }) => targetProfile ?? []);
    const names = targets.map((url) => (url.startsWith(core) ? last(url) : this.trees.get(url)?.element.path));
    if (targets.length === 0 || names.includes("Resource")) return;
    if (names.includes(undefined)) {
      this.not(at, `targets ${targets.filter((_, index) => names[index] === undefined)}`);
      return;
    }
    const type = this.target(value);
    if (type && !names.includes(type)) this.problem(at, `refers to a ${type}, none of ${names}`);
  }

  target({ reference, type }) {
    if (type) return last(type);
    if (!reference) return undefined;
    if (reference.startsWith("#")) {
      return this.resource.contained?.find(({ id }) => id === reference.slice(1))?.resourceType;
    }
    if (reference.startsWith("urn:")) {
      return this.bundle?.entry?.find(({ fullUrl }) => fullUrl === reference)?.resource?.resourceType;
    }
    return /(?:^|\/)([A-Z][A-Za-z]+)\/[A-Za-z0-9.-]{1,64}(?:\/_history\/[^/]+)?$/.exec(reference)?.[1];
  }

  codes(valueSet, value, at) {
    const url = bare(valueSet);
    if (url.startsWith(coreValueSets)) return;
    const codes = valueSets[url];
    if (!codes) this.not(at, `codes of ${url}`);
    else if (!inSet(codes, value)) this.problem(at, `has no code of ${url}`);
  }

  invariant({ key, severity, expression, human }, { path }, value, at) {
    if (severity !== "error" || elsewhere.has(key)) return;
    const held = holds(expression, key.startsWith("ext-") ? "Extension" : path, value, this.resource);
    if (held === undefined) this.not(path, `invariant ${key}`);
    else if (!held) this.problem(at, `breaks ${key}: ${human}`);
  }
}

const compiled = new Map();

/** Whether an invariant holds at a value of this path; undefined if its FHIRPath can't be evaluated. */
export function holds(expression, path, value, resource) {
  const key = `${path} ${expression}`;
  try {
    if (!compiled.has(key)) compiled.set(key, fhirpath.compile({ base: path, expression }, r4));
    const answer = compiled.get(key)(value, { resource, rootResource: resource });
    // As FHIRPath has it, a collection of one value that is not false is true; so is an empty one here: what is not
    // there breaks nothing.
    return answer.length === 0 || answer.every((one) => one !== false);
  } catch {
    return undefined;
  }
}

/** All values of an element, with each value's place and, of a choice of types, the type's name. */
function occurrences(parent, name) {
  const found = [];
  const keys = name.endsWith("[x]")
    ? Object.keys(parent).filter((key) => new RegExp(`^_?${name.slice(0, -3)}[A-Z]`).test(key))
    : [name, `_${name}`];
  for (const key of new Set(keys.map((key) => key.replace(/^_/, "")))) {
    const suffix = name.endsWith("[x]") ? key.slice(name.length - 3) : undefined;
    const [value, more] = [parent[key], parent[`_${key}`]];
    if (Array.isArray(value) || Array.isArray(more)) {
      for (let index = 0; index < Math.max(value?.length ?? 0, more?.length ?? 0); index += 1) {
        found.push({ value: value?.[index] ?? undefined, at: `${key}[${index}]`, suffix });
      }
    } else if (value !== undefined || more !== undefined) {
      found.push({ value, at: key, suffix });
    }
  }
  return found;
}

function select(value, path) {
  if (path === "$this") return [value];
  if (!/^[\w.]+$/.test(path)) return undefined;
  return path.split(".").reduce((values, part) => values.flatMap((one) => one?.[part] ?? []), [value]);
}

function fits(value, pattern) {
  if (Array.isArray(pattern)) return Array.isArray(value) && pattern.every((one) => value.some((each) => fits(each, one)));
  if (pattern !== null && typeof pattern === "object") {
    return value !== null && typeof value === "object" && Object.keys(pattern).every((key) => fits(value[key], pattern[key]));
  }
  return value === pattern;
}

function inSet(codes, value) {
  if (typeof value === "string") return codes.some((code) => code === value || code.endsWith(`|${value}`));
  const codings = value?.coding ?? [value];
  return codings.some((one) => codes.includes(`${one?.system}|${one?.code}`));
}

const bare = (url) => url.split("|")[0];
const last = (url) => url.split("/").pop();
