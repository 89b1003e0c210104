// Writes crates/gateway/src/fhir/elements.txt from the StructureDefinitions of FHIR R4 (npm package
// hl7.fhir.r4.examples 4.0.1, CC0-1.0), unpacked into the folder that is given:
//   node crates/gateway/src/fhir/elements.mjs PACKAGE > crates/gateway/src/fhir/elements.txt
//
// One line for each type: its name, then its elements in the order in which XML has them, each as
// NAME:TYPE, with * behind the name if it repeats. Elements that may have several types stand once for
// each. A type that is written inside another has its path as its name.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
// What the facade reads and answers, and what stands inside it.
const resources = [
  "AuditEvent", "Binary", "Bundle", "CapabilityStatement", "Consent", "Device", "DocumentReference",
  "Encounter", "Endpoint", "Group", "HealthcareService", "ImagingStudy", "List", "Location",
  "OperationOutcome", "Organization", "Parameters", "Patient", "Practitioner", "PractitionerRole",
  "Provenance", "RelatedPerson",
];
const lines = new Map();
const wanted = [...resources];
const read = (name) => JSON.parse(readFileSync(join(folder, `StructureDefinition-${name}.json`), "utf8"));
const files = new Set(readdirSync(folder));
const shortOf = (code) => (code.startsWith("http://hl7.org/fhirpath/System.") ? "string" : code);

while (wanted.length > 0) {
  const name = wanted.shift();
  if (lines.has(name) || !files.has(`StructureDefinition-${name}.json`)) continue;
  const definition = read(name);
  if (definition.kind === "primitive-type") continue;
  lines.set(name, []);
  for (const element of definition.snapshot.element) {
    const at = element.path.lastIndexOf(".");
    if (at < 0) continue;
    const within = element.path.slice(0, at);
    const field = element.path.slice(at + 1);
    const many = element.max === "*" || Number(element.max) > 1 ? "*" : "";
    if (!lines.has(within)) lines.set(within, []);
    const add = (label, type) => lines.get(within).push(`${label}${many}:${type}`);
    if (element.contentReference) {
      add(field, element.contentReference.replace(/^.*#/, ""));
      continue;
    }
    for (const { code } of element.type) {
      const type = shortOf(code);
      const inner = type === "BackboneElement" || type === "Element" ? element.path : type;
      if (field.endsWith("[x]")) {
        add(field.slice(0, -3) + type[0].toUpperCase() + type.slice(1), inner);
      } else {
        add(field, inner);
      }
      wanted.push(type);
    }
  }
}
for (const name of [...lines.keys()].sort()) {
  if (lines.get(name).length > 0) console.log([name, ...lines.get(name)].join(" "));
}
