// Programs that others wrote meet the gateway, and every resource that it answered them is checked by validators that
// share no code with it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";

import { bearer, newClient } from "./peers/backend.mjs";
import { startGateway } from "./peers/gateway.mjs";
import { filesIn, missing as orthancIsMissing, start as startOrthanc } from "./peers/orthanc.mjs";
import { python } from "./peers/python.mjs";
import { record } from "./peers/recorder.mjs";
import { answered, judged, others } from "./validate/answers.mjs";
import { Validators, all } from "./validate/validators.mjs";
import { differences, fromXml } from "./validate/xml.mjs";

// What the peers do, and no more.
const scope = [
  "system/Patient.crs",
  "system/DocumentReference.crs",
  "system/List.crs",
  "system/Binary.cr",
  "system/Consent.crus",
  "system/AuditEvent.rs",
  "system/Provenance.rs",
  "system/ImagingStudy.rs",
].join(" ");

let folder;
let recorder;
let archive;
let gateway;
let clients;
let validators;

before(async () => {
  folder = mkdtempSync(`${tmpdir()}/willis-peers-`);
  clients = { rsa: newClient(`${folder}/keys`, "peer-rsa", "RS384"), ec: newClient(`${folder}/keys`, "peer-ec", "ES384") };
  recorder = await record();
  assert.equal(orthancIsMissing(), undefined);
  archive = await startOrthanc();
  archive.store(filesIn(fileURLToPath(new URL("../samples/secondary-hospital/ct-head", import.meta.url))));
  // As the archive keeps them: it writes the head of each file anew.
  const studyFolder = `${folder}/study`;
  mkdirSync(studyFolder);
  for (const [number, bytes] of (await archive.files()).entries()) writeFileSync(`${studyFolder}/${number}.dcm`, bytes);
  gateway = await startGateway({
    studyFolder,
    publicAddress: recorder.address,
    clients: Object.values(clients),
    scope,
    folder: `${folder}/gateway`,
    orthanc: archive.address,
  });
  recorder.to(gateway.address);
  const token = await bearer(`${recorder.address}/fhir`, { client: clients.rsa.id, jwks: clients.rsa.jwks, scope });
  const call = async (method, path, body) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/fhir+json" };
    const answer = await fetch(`${recorder.address}/${path.startsWith("dicom-web") ? path : `fhir/${path}`}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.ok(answer.ok, text);
    return JSON.parse(text);
  };
  await gateway.begin(call);
  // What comes without any call: the study that the archive has, and the letter of the watched folder.
  const there = async () => {
    const studies = await call("GET", "dicom-web/studies");
    const letters = await call("GET", `DocumentReference?patient.identifier=${encodeURIComponent(gateway.patient)}&contenttype=application/pdf`);
    return studies.length === 1 && letters.total === 1;
  };
  const deadline = Date.now() + 90_000;
  while (!(await there())) {
    assert.ok(Date.now() < deadline, "the archive's study or the watched folder's letter is not there");
    await new Promise((done) => setTimeout(done, 500));
  }
  validators = new Validators();
});

after(async () => {
  await validators?.close();
  await recorder?.end();
  await gateway?.end();
  await archive?.end();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs a peer to its end; gives what it says it did. */
async function peer(program, args, client, more = {}) {
  const env = {
    ...process.env,
    PEER_FHIR: `${recorder.address}/fhir`,
    PEER_DICOMWEB: `${recorder.address}/dicom-web`,
    PEER_CLIENT: client.id,
    PEER_JWKS: client.jwks,
    PEER_SCOPE: scope,
    PEER_PATIENT: gateway.patient,
    PEER_RECIPIENT: gateway.recipient,
    PEER_ORGANIZATION: gateway.organization,
    PEER_POLICY: gateway.policy,
    PEER_STUDY_FOLDER: gateway.studyFolder,
    PEER_OTHER_STUDY: gateway.otherStudy,
    ...more,
  };
  const process_ = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  let errors = "";
  process_.stdout.on("data", (data) => (said += data));
  process_.stderr.on("data", (data) => (errors += data));
  const code = await new Promise((done, failed) => process_.once("exit", done).once("error", failed));
  assert.equal(code, 0, `${said}${errors}`);
  const result = JSON.parse(said.trim().split("\n").at(-1));
  assert.equal(result.ok, true);
  return result;
}

const script = (name) => fileURLToPath(new URL(`./peers/${name}`, import.meta.url));
const peers = [
  ["fhirpy", () => peer(`${python()}/python`, [script("fhirpy_peer.py")], clients.rsa), 10],
  ["fhirclient", () => peer(`${python()}/python`, [script("fhirclient_peer.py")], clients.rsa), 10],
  ["fhir-kit-client", () => peer(process.execPath, [script("fhir-kit-client.mjs")], clients.ec, { PEER_DOCUMENT_BYTES: 32_000_000 }), 14],
  ["sekmet-fhir", () => peer(process.execPath, [script("sekmet.mjs")], clients.ec), 3],
  ["dicomweb-client", () => peer(`${python()}/python`, [script("dicomweb_peer.py")], clients.rsa), 8],
  ["Orthanc", () => peer(process.execPath, [script("orthanc.mjs")], clients.ec), 4],
];

for (const [name, run, least] of peers) {
  test(`${name} does its work through the gateway`, async () => {
    if (name === "Orthanc") assert.equal(orthancIsMissing(), undefined);
    const { version, done } = await run();
    console.log(`${name} ${version}: ${done.map(({ did }) => did).join("; ")}`);
    assert.ok(done.length >= least, `${done.length} things done`);
  });
}

test("each resource says the same in JSON and in XML", async () => {
  const token = await bearer(`${recorder.address}/fhir`, { client: clients.rsa.id, jwks: clients.rsa.jwks, scope });
  const paths = new Set(["metadata"]);
  for (const { resource } of answered(recorder.exchanges)) {
    for (const one of resource ? all(resource) : []) {
      const read = ["Patient", "DocumentReference", "List", "Consent", "AuditEvent", "Provenance"].includes(one.resourceType);
      // Of documents only those that a peer wanted in FHIR's form: a large one is not to be asked for so.
      if ((read || (one.resourceType === "Binary" && one.data)) && one.id) paths.add(`${one.resourceType}/${one.id}`);
    }
  }
  const counts = {};
  for (const path of paths) {
    const get = async (accept) => {
      const answer = await fetch(`${recorder.address}/fhir/${path}`, { headers: { accept, authorization: `Bearer ${token}` } });
      assert.equal(answer.status, 200, `${path} as ${accept}: ${await answer.clone().text()}`);
      return answer.text();
    };
    const json = JSON.parse(await get("application/fhir+json"));
    const { resource, problems } = fromXml(await get("application/fhir+xml"));
    assert.deepEqual(problems, [], path);
    // What is made anew for each answer may tell another time.
    if (path === "metadata") resource.date = json.date;
    assert.deepEqual(differences(json, resource), [], path);
    counts[json.resourceType] = (counts[json.resourceType] ?? 0) + 1;
  }
  for (const [type, count] of Object.entries(counts)) console.log(`the same in JSON and XML: ${type} ${count}`);
  for (const type of ["CapabilityStatement", "Patient", "DocumentReference", "Consent", "AuditEvent", "Provenance", "Binary"]) assert.ok(counts[type] >= 1, type);
});

// At least as many of each as the peers bring about: a check that sees nothing holds nothing.
const least = {
  JSON: { CapabilityStatement: 4, Bundle: 35, Patient: 5, DocumentReference: 40, Binary: 4, Consent: 12, AuditEvent: 60, Provenance: 6, OperationOutcome: 12 },
  XML: { CapabilityStatement: 2, Bundle: 6, Patient: 4, DocumentReference: 15, Binary: 2, Consent: 4, AuditEvent: 30, Provenance: 4, OperationOutcome: 4 },
};

test("every resource that the gateway answered is valid R4 and conforms to IHE's profiles", async () => {
  const { counts, wrong, unchecked } = await judged(recorder.exchanges, recorder.address, validators);
  for (const [format, types] of Object.entries(counts)) {
    for (const [type, count] of Object.entries(types).sort()) console.log(`checked in ${format}: ${type} ${count}`);
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(unchecked, []);
  for (const [format, types] of Object.entries(least)) {
    for (const [type, count] of Object.entries(types)) {
      assert.ok((counts[format][type] ?? 0) >= count, `${counts[format][type] ?? 0} of ${type} in ${format}, not ${count}`);
    }
  }
});

test("nothing was answered in another way", () => {
  const { wrong, dicom } = others(recorder.exchanges);
  console.log(`DICOMweb: ${dicom.json} answers in JSON, ${dicom.multipart} with instances`);
  assert.deepEqual(wrong, []);
  assert.ok(dicom.json >= 10 && dicom.multipart >= 5, JSON.stringify(dicom));
});
