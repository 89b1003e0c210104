// That FHIR XML is read as what it says, and that what the library would let pass is found.
import assert from "node:assert/strict";
import { test } from "node:test";
import fhir from "fhir";

import { but, capabilities, example, examples, outcome, patient, searchset } from "./examples.mjs";
import { differences, fromXml } from "./xml.mjs";

const toXml = (resource) => new fhir.Fhir().objToXml(resource);

test("what is written in XML is the same as in JSON", () => {
  const all = [...examples().map((name) => [name, example(name)]), ...Object.entries({ capabilities, outcome, patient, searchset })];
  for (const [name, resource] of all) {
    const read = fromXml(toXml(resource));
    assert.deepEqual(read.problems, [], name);
    assert.deepEqual(differences(resource, read.resource), [], name);
  }
});

test("text survives", () => {
  const resource = but(patient, (one) => (one.name = [{ family: 'A "q" <x> & é 患者', given: ["two\nlines"] }]));
  assert.deepEqual(differences(resource, fromXml(toXml(resource)).resource), []);
});

const document = '<Patient xmlns="http://hl7.org/fhir"><id value="a"/><name><family value="x"/></name><gender value="male"/></Patient>';
test("good XML is good", () => assert.deepEqual(fromXml(document), { resource: { resourceType: "Patient", id: "a", name: [{ family: "x" }], gender: "male" }, problems: [] }));

const bad = [
  ["no namespace", (text) => text.replace(/ xmlns="[^"]*"/, ""), /namespace/],
  ["another namespace", (text) => text.replace("http://hl7.org/fhir", "http://hl7.org/FHIR"), /namespace/],
  ["no XML", () => "{}", /does not begin/],
  ["an unknown element", (text) => text.replace("gender", "sex"), /Patient\/sex: is unknown/],
  ["an unknown element further in", (text) => text.replace("<family", "<last"), /Patient\/name/],
  ["another order", (text) => text.replace('<id value="a"/>', "").replace("</Patient>", '<id value="a"/></Patient>'), /is unknown or out of order/],
  ["not well-formed", (text) => text.replace("</name>", "</nam>"), /can't be read/],
];
for (const [name, change, said] of bad) {
  test(`found in XML: ${name}`, () => {
    const changed = change(document);
    assert.notEqual(changed, document);
    assert.match(fromXml(changed).problems.join("\n"), said);
  });
}

const different = [
  ["another value", (one) => (one.gender = "male"), /Patient\.gender/],
  ["a missing value", (one) => delete one.gender, /Patient\.gender/],
  ["another order of a list", (one) => (one.identifier = [{ value: "y" }, ...one.identifier]), /Patient\.identifier\[0\]/],
  ["another narrative", (one) => (one.text.div = one.text.div.replace("B", "C")), /Patient\.text\.div/],
  ["another number", (one) => (one.multipleBirthInteger = 3), /multipleBirthInteger/],
];
for (const [name, change, said] of different) {
  test(`a difference: ${name}`, () => {
    const base = but(patient, (one) => (one.multipleBirthInteger = 2));
    assert.match(differences(base, but(base, change)).join("\n"), said);
  });
}
