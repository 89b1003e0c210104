// What the tests of the validators begin with: IHE's examples, and resources of our own.
import { readFileSync, readdirSync } from "node:fs";

const folder = new URL("./profiles/examples/", import.meta.url);

/** A copy of one of IHE's examples, such as "pcf/Consent-ex-consent-basic-treat". */
export function example(name) {
  return JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8"));
}

export function examples() {
  return ["mhd", "pcf", "balp"].flatMap((group) =>
    readdirSync(new URL(group, folder)).map((file) => `${group}/${file.replace(/\.json$/, "")}`),
  );
}

/** A copy with something done to it. */
export function but(resource, change) {
  const copy = structuredClone(resource);
  change(copy);
  return copy;
}

export const patient = {
  resourceType: "Patient",
  id: "a",
  meta: { lastUpdated: "2026-01-01T00:00:00Z" },
  text: { status: "generated", div: '<div xmlns="http://www.w3.org/1999/xhtml"><p>A<br/>B</p></div>' },
  identifier: [{ system: "urn:oid:1.2.3", value: "x" }],
  name: [{ family: "Añez", given: ["B"], period: { start: "2019", end: "2020" } }],
  telecom: [{ system: "phone", value: "1" }],
  contact: [{ name: { family: "Z" } }],
  birthDate: "1970-01-01",
  gender: "female",
};

export const searchset = {
  resourceType: "Bundle",
  type: "searchset",
  total: 1,
  link: [{ relation: "self", url: "http://127.0.0.1/fhir/Patient?_id=a" }],
  entry: [{ fullUrl: "http://127.0.0.1/fhir/Patient/a", resource: patient, search: { mode: "match" } }],
};

export const capabilities = {
  resourceType: "CapabilityStatement",
  status: "active",
  date: "2026-01-01",
  kind: "instance",
  implementation: { description: "for tests" },
  fhirVersion: "4.0.1",
  format: ["json", "xml"],
  rest: [{ mode: "server", resource: [{ type: "Patient", interaction: [{ code: "read" }], searchParam: [{ name: "identifier", type: "token" }] }] }],
};

export const outcome = {
  resourceType: "OperationOutcome",
  issue: [{ severity: "error", code: "not-found", diagnostics: "no such document" }],
};
