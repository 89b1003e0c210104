// Makes the files of this folder from IHE's: node reduce.mjs FOLDER, with StructureDefinitions in it. What only
// people read is left out, as SOURCES.md says.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const kept = ["id", "path", "sliceName", "slicing", "min", "max", "type", "contentReference", "binding", "constraint"];

const folder = process.argv[2];
for (const name of readdirSync(folder).filter((name) => name.startsWith("StructureDefinition-"))) {
  const { resourceType, id, url, type, kind, abstract, baseDefinition, fhirVersion, derivation, snapshot, ...whole } =
    JSON.parse(readFileSync(join(folder, name), "utf8"));
  const element = snapshot.element.map((one) => {
    const names = Object.keys(one).filter((key) => kept.includes(key) || /^(fixed|pattern|minValue|maxValue|maxLength)/.test(key));
    const reduced = Object.fromEntries(names.map((key) => [key, one[key]]));
    if (reduced.constraint) {
      reduced.constraint = reduced.constraint.map(({ key, severity, human, expression }) => ({ key, severity, human, expression }));
    }
    if (reduced.binding) reduced.binding = { strength: one.binding.strength, valueSet: one.binding.valueSet };
    return reduced;
  });
  const lines = element.map((one) => `    ${JSON.stringify(one)}`).join(",\n");
  const head = { resourceType, id, url, name: whole.name, status: whole.status, fhirVersion, kind, abstract, type, baseDefinition, derivation };
  const text = `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "snapshot": { "element": [\n${lines}\n  ] }\n}\n`;
  JSON.parse(text);
  writeFileSync(new URL(name, import.meta.url), text);
}
