// That answers are judged: good ones pass, and each kind of bad conduct is said.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, test } from "node:test";
import fhir from "fhir";

import { judged, others } from "./answers.mjs";
import { but, example, outcome, patient } from "./examples.mjs";
import { Validators } from "./validators.mjs";

const address = "http://127.0.0.1:1";
const validators = new Validators();
after(() => validators.close());

function exchange(method, path, status, resource, headers = {}, type = "application/fhir+json; charset=utf-8") {
  const text = typeof resource === "string" ? resource : type.includes("xml") ? new fhir.Fhir().objToXml(resource) : JSON.stringify(resource);
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { method, url: path, status, whole: true, request: { headers: {} }, response: { headers, type, text, length: text.length, sha256 } };
}

const person = but(patient, (one) => (one.meta.versionId = "2"));
const document = but(example("mhd/DocumentReference-ex-DocumentReferenceMinimal"), (one) => {
  one.meta.versionId = "1";
  one.content[0].attachment.url = `${address}/fhir/Binary/b`;
});
const found = {
  resourceType: "Bundle",
  type: "searchset",
  total: 1,
  link: [{ relation: "self", url: `${address}/fhir/DocumentReference?status=current` }],
  entry: [{ fullUrl: `${address}/fhir/DocumentReference/${document.id}`, resource: document, search: { mode: "match" } }],
};
const etag = { etag: 'W/"1"' };
const at = `/fhir/DocumentReference/${document.id}`;
const provided = example("mhd/Bundle-ex-response-minimalProvideDocumentBundleSimple");

test("good answers pass, and are counted", async () => {
  const good = [
    exchange("GET", "/fhir/Patient/a", 200, person, { etag: 'W/"2"' }),
    exchange("GET", "/fhir/Patient/a", 200, person, { etag: 'W/"2"' }, "application/fhir+xml"),
    exchange("GET", at, 200, document, etag),
    exchange("GET", "/fhir/DocumentReference?status=current", 200, found),
    exchange("POST", "/fhir/DocumentReference/_search", 200, found),
    exchange("POST", "/fhir", 200, provided),
    exchange("POST", "/fhir/DocumentReference", 201, document, { ...etag, location: `${address}${at}/_history/1` }),
    exchange("GET", "/fhir/Patient/b", 404, outcome),
    exchange("GET", "/fhir/Patient/b", 401, outcome, { "www-authenticate": "Bearer" }),
    exchange("GET", "/fhir/Binary/b", 200, "bytes", {}, "text/plain"),
  ];
  const { counts, wrong, unchecked } = await judged(good, address, validators);
  assert.deepEqual(wrong, []);
  assert.deepEqual(unchecked, []);
  assert.deepEqual(counts, { JSON: { Patient: 1, DocumentReference: 4, Bundle: 3, OperationOutcome: 2 }, XML: { Patient: 1 } });
  assert.deepEqual(others(good).wrong, []);
});

const bad = [
  ["a wrong resource", exchange("GET", "/fhir/Patient/a", 200, but(person, (one) => (one.gender = "x")), { etag: 'W/"2"' }), /gender/],
  ["a wrong resource in XML", exchange("GET", "/fhir/Patient/a", 200, '<Patient xmlns="http://hl7.org/fhir"><sex value="a"/></Patient>', { etag: 'W/"2"' }, "application/fhir+xml"), /unknown/],
  ["no JSON", exchange("GET", "/fhir/Patient/a", 200, "{", { etag: 'W/"2"' }), /SyntaxError/],
  ["no profile's document", exchange("GET", at, 200, but(document, (one) => delete one.masterIdentifier), etag), /masterIdentifier/],
  ["a document that declares what it is not", exchange("GET", at, 200, but(document, (one) => (one.meta.profile = ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.SimplifiedPublish.DocumentReference"])), etag), /attachment\.data: is there 0/],
  ["a document elsewhere", exchange("GET", at, 200, but(document, (one) => (one.content[0].attachment.url = "urn:uuid:1")), etag), /a document at urn:uuid:1/],
  ["a document elsewhere among others", exchange("GET", "/fhir/DocumentReference", 200, but(found, (one) => (one.entry[0].resource.content[0].attachment.url = "Binary/b"))), /a document at Binary\/b/],
  ["a transaction without places", exchange("POST", "/fhir/", 200, but(provided, (one) => delete one.entry[0].response.location)), /location: is there 0/],
  ["no total", exchange("POST", "/fhir/DocumentReference/_search", 200, but(found, (one) => delete one.total)), /total: is there 0/],
  ["another media type", exchange("GET", "/fhir/Patient/a", 200, person, { etag: 'W/"2"' }, "application/fhir+json; fhirVersion=5.0"), /media type/],
  ["no outcome", exchange("GET", "/fhir/Patient/a", 404, person), /404 with a Patient/],
  ["no challenge", exchange("GET", "/fhir/Patient/a", 401, outcome), /WWW-Authenticate/],
  ["no place", exchange("POST", "/fhir/Patient", 201, person), /Location undefined/],
  ["a place elsewhere", exchange("POST", "/fhir/Patient", 201, person, { location: "http://10.0.0.1/fhir/Patient/a" }), /Location http:\/\/10/],
  ["no ETag", exchange("GET", "/fhir/Patient/a", 200, person), /ETag undefined/],
  ["the ETag of another version", exchange("GET", "/fhir/Patient/a", 200, person, etag), /ETag W\/"1" with version 2/],
  ["no link to itself", exchange("GET", "/fhir/DocumentReference", 200, but(found, (one) => delete one.link)), /without a link/],
  ["a link elsewhere", exchange("GET", "/fhir/DocumentReference", 200, but(found, (one) => (one.link[0].url = "http://10.0.0.1/fhir"))), /a link to/],
  ["no search mode", exchange("GET", "/fhir/DocumentReference", 200, but(found, (one) => delete one.entry[0].search)), /search mode/],
  ["a full URL elsewhere", exchange("GET", "/fhir/DocumentReference", 200, but(found, (one) => (one.entry[0].fullUrl = `http://10.0.0.1/fhir/DocumentReference/${document.id}`))), /a full URL/],
  ["a consent of no profile", exchange("GET", "/fhir/Consent/ex-consent-basic-treat", 200, but(example("pcf/Consent-ex-consent-basic-treat"), (one) => (one.meta = { versionId: "1" })), etag), /of no profile/],
  ["an event of no kind", exchange("GET", "/fhir/AuditEvent/a", 200, but(example("balp/AuditEvent-ex-auditBasicReadServer"), (one) => {
    one.meta = { versionId: "1" };
    one.subtype = undefined;
  }), etag), /of no kind that IHE profiles/],
];
for (const [name, one, said] of bad) {
  test(`found: ${name}`, async () => {
    const { wrong } = await judged([one], address, validators);
    assert.match(wrong.join("\n"), said);
  });
}

test("a profile that is not known is said", async () => {
  const strange = but(document, (one) => one.meta.profile.push("http://example.org/nobody-knows"));
  const { wrong, unchecked } = await judged([exchange("GET", at, 200, strange, etag)], address, validators);
  assert.deepEqual(wrong, []);
  assert.deepEqual(unchecked, ["DocumentReference: no profile http://example.org/nobody-knows"]);
});

test("other answers are judged too", () => {
  const json = (text, type = "application/dicom+json") => exchange("GET", "/dicom-web/studies", 200, text, {}, type);
  const multipart = json("x", 'multipart/related; type="application/dicom"; boundary=b');
  assert.deepEqual(others([json("[]"), multipart]), { wrong: [], dicom: { json: 1, multipart: 1 } });
  const strange = [
    [exchange("GET", "/fhir/Patient/a", 500, "x", {}, "text/plain"), /500/],
    [exchange("GET", "/fhir/Patient/a", 404, "x", {}, "text/plain"), /text\/plain/],
    [exchange("GET", "/fhir/Patient/a", 200, "{}", {}, "application/json"), /application\/json/],
    [json("{}"), /no list/],
    [json("[]", "application/json"), /application\/json/],
    [json("x", "application/dicom"), /application\/dicom/],
    [{ ...json("[]"), whole: false, fault: "gone" }, /broke off, gone/],
  ];
  for (const [one, said] of strange) assert.match(others([one]).wrong.join("\n"), said);
  assert.deepEqual(others([{ ...exchange("GET", "/fhir/metadata", 200, "{}"), whole: false }]).wrong, []);
});
