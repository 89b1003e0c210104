// That the validation against base R4 lets good resources pass and finds each kind of fault.
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { but, capabilities, example, examples, outcome, patient, searchset } from "./examples.mjs";
import { R4 } from "./r4.mjs";

const r4 = new R4();
after(() => r4.close());

const document = example("mhd/DocumentReference-ex-DocumentReferenceMinimal");
const consent = example("pcf/Consent-ex-consent-basic-treat");
const audit = example("balp/AuditEvent-ex-auditPrivacyDisclosure-source");
const provenance = example("pcf/Provenance-ex-provenance-consent-basic-treat");

test("IHE's examples are valid", async () => {
  const names = examples();
  assert.equal(names.length, 97);
  for (const name of names) assert.deepEqual(await r4.validate(example(name)), [], name);
});

const good = {
  patient,
  searchset,
  capabilities,
  outcome,
  "an extension in place of a value": but(patient, (one) => (one._birthDate = { extension: [{ url: "http://x", valueString: "y" }] })),
  "an extension in place of a value in a list": but(patient, (one) => {
    one.name[0].given = [null, "C"];
    one.name[0]._given = [{ extension: [{ url: "http://x", valueString: "y" }] }, null];
  }),
  "a reference to a version": but(document, (one) => (one.subject = { reference: "Patient/a/_history/2" })),
  "data with their size and hash": but(document, (one) => {
    one.content[0].attachment = { contentType: "text/plain; charset=utf-8", data: "SGVsbG8gV29ybGQ=", size: 11, hash: "Ck1VqNd45QIvq3AZd8XYQLvEhtA=" };
  }),
};

for (const [name, resource] of Object.entries(good)) {
  test(`valid: ${name}`, async () => assert.deepEqual(await r4.validate(resource), []));
}

const bad = [
  ["no such type", patient, (one) => (one.resourceType = "Foo")],
  ["a required element is missing", document, (one) => delete one.status],
  ["a required list is missing", document, (one) => delete one.content],
  ["a required element further in is missing", document, (one) => delete one.content[0].attachment],
  ["a consent without scope", consent, (one) => delete one.scope],
  ["a consent without any policy", consent, (one) => delete one.policy],
  ["an audit event without agents", audit, (one) => delete one.agent],
  ["an agent that may or may not have asked", audit, (one) => delete one.agent[0].requestor],
  ["an entity with name and query", audit, (one) => Object.assign(one.entity[0], { name: "a", query: "YQ==" })],
  ["a provenance without target", provenance, (one) => delete one.target],
  ["an outcome without issues", outcome, (one) => (one.issue = [])],
  ["an outcome of an unknown severity", outcome, (one) => (one.issue[0].severity = "bad")],
  ["an outcome of an unknown code", outcome, (one) => (one.issue[0].code = "bad")],
  ["an unknown element", document, (one) => (one.foo = "x")],
  ["an unknown element further in", document, (one) => (one.content[0].attachment.foo = "x")],
  ["an element of R5", document, (one) => (one.version = "1")],
  ["an unknown code", document, (one) => (one.status = "active")],
  ["an unknown code further in", document, (one) => (one.relatesTo = [{ code: "foo", target: { reference: "DocumentReference/1" } }])],
  ["a provision of an unknown type", consent, (one) => (one.provision.type = "maybe")],
  ["an action of an unknown code", audit, (one) => (one.action = "Z")],
  ["an outcome of an unknown number", audit, (one) => (one.outcome = "1")],
  ["a list where one value stands", document, (one) => (one.status = ["current"])],
  ["one value where a list stands", document, (one) => (one.content = one.content[0])],
  ["an instant without time", document, (one) => (one.date = "2026-01-01")],
  ["a date in another form", patient, (one) => (one.birthDate = "01/02/1970")],
  ["a date that never was", patient, (one) => (one.birthDate = "1970-13-45")],
  ["an id with a space", patient, (one) => (one.id = "a b")],
  ["a boolean as text", patient, (one) => (one.active = "true")],
  ["two values of one choice", patient, (one) => Object.assign(one, { deceasedBoolean: true, deceasedDateTime: "2020" })],
  ["data that are not base64", document, (one) => (one.content[0].attachment.data = "§§§")],
  ["a size below zero", document, (one) => (one.content[0].attachment.size = -1)],
  ["a size as text", document, (one) => (one.content[0].attachment.size = "12")],
  ["a size that is not that of the data", document, (one) => Object.assign(one.content[0].attachment, { data: "YQ==", size: 2, hash: undefined })],
  ["a hash of other data", document, (one) => Object.assign(one.content[0].attachment, { data: "YQ==", size: 1, hash: "Ck1VqNd45QIvq3AZd8XYQLvEhtA=" })],
  ["a hash that is SHA-256", document, (one) => (one.content[0].attachment.hash = "a".repeat(43) + "=")],
  ["data without a media type", document, (one) => Object.assign(one.content[0], { attachment: { data: "YQ==" } })],
  ["a media type that is none", document, (one) => (one.content[0].attachment.contentType = "pdf")],
  ["an empty text", patient, (one) => (one.name[0].family = "")],
  ["an empty list", patient, (one) => (one.name = [])],
  ["an empty object", patient, (one) => (one.name = [{}])],
  ["null", patient, (one) => (one.gender = null)],
  ["a URI with a space", patient, (one) => (one.identifier[0].system = "a b")],
  ["a reference to a type that is not allowed", document, (one) => (one.subject = { reference: "Binary/1" })],
  ["a reference that is none", document, (one) => (one.subject = { reference: "patient 1" })],
  ["a reference to what is not contained", document, (one) => (one.subject = { reference: "#nobody" })],
  ["a bundle of an unknown type", searchset, (one) => (one.type = "x")],
  ["a wrong resource in a bundle", searchset, (one) => (one.entry[0].resource.gender = "x")],
  ["an unknown element in a bundle's resource", searchset, (one) => (one.entry[0].resource.foo = "x")],
  ["an unknown resource in a bundle", searchset, (one) => (one.entry[0].resource.resourceType = "Foo")],
  ["a bundle's resource without type", searchset, (one) => delete one.entry[0].resource.resourceType],
  ["a full URL of a version", searchset, (one) => (one.entry[0].fullUrl = "http://a/Patient/a/_history/1")],
  ["a full URL of another id", searchset, (one) => (one.entry[0].fullUrl = "http://127.0.0.1/fhir/Patient/b")],
  ["a full URL that is relative", searchset, (one) => (one.entry[0].fullUrl = "Patient/a")],
  ["one resource twice", searchset, (one) => one.entry.push(one.entry[0]) && (one.total = 2)],
  ["more matches than the total", searchset, (one) => (one.total = 0)],
  ["a total where there is no search", searchset, (one) => (one.type = "collection")],
  ["an extension without URL", patient, (one) => (one.extension = [{ valueString: "x" }])],
  ["an extension with two values", patient, (one) => (one.extension = [{ url: "http://a", valueString: "x", valueCode: "y" }])],
  ["an extension with nothing", patient, (one) => (one.extension = [{ url: "http://a" }])],
  ["a period that ends before it starts", patient, (one) => (one.name[0].period = { start: "2020-02-01", end: "2019-02-01" })],
  ["a contact who is nobody", patient, (one) => (one.contact = [{ gender: "male" }])],
  ["a telephone number of no system", patient, (one) => delete one.telecom[0].system],
  ["a narrative that is no XHTML", patient, (one) => (one.text.div = "plain")],
  ["a narrative with a script", patient, (one) => (one.text.div = '<div xmlns="http://www.w3.org/1999/xhtml"><script>a</script></div>')],
  ["a narrative with a handler", patient, (one) => (one.text.div = '<div xmlns="http://www.w3.org/1999/xhtml"><p onclick="a">a</p></div>')],
  ["a narrative that is not closed", patient, (one) => (one.text.div = '<div xmlns="http://www.w3.org/1999/xhtml"><p>a</div>')],
  ["a narrative that says nothing", patient, (one) => (one.text.div = '<div xmlns="http://www.w3.org/1999/xhtml"> </div>')],
  ["a wrong contained resource", document, (one) => (one.contained = [{ resourceType: "Patient", id: "p", gender: "x" }]) && (one.subject = { reference: "#p" })],
  ["a contained resource that nothing refers to", document, (one) => (one.contained = [{ resourceType: "Patient", id: "p" }])],
  ["a contained resource in a contained one", document, (one) => {
    one.contained = [{ resourceType: "Patient", id: "p", contained: [{ resourceType: "Patient", id: "q" }] }];
    one.subject = { reference: "#p" };
  }],
  ["an instance that says not of what", capabilities, (one) => delete one.implementation],
  ["capabilities of one type twice", capabilities, (one) => one.rest[0].resource.push(one.rest[0].resource[0])],
  ["one search parameter twice", capabilities, (one) => one.rest[0].resource[0].searchParam.push({ name: "identifier", type: "token" })],
  ["capabilities with an unknown interaction", capabilities, (one) => (one.rest[0].resource[0].interaction[0].code = "write")],
];

for (const [name, resource, change] of bad) {
  test(`invalid: ${name}`, async () => {
    assert.deepEqual(await r4.validate(resource), [], "it is valid before");
    const problems = await r4.validate(JSON.parse(JSON.stringify(but(resource, change))));
    assert.notDeepEqual(problems, []);
  });
}
