// fhir-kit-client uploads a document as it is, provides it by a comprehensive ITI-65, and finds it by POST.
import { readFileSync } from "node:fs";
import { Client } from "fhir-kit-client";

import { assertion, askForToken, bearer, check, encoded, fhir, patientIdentifier, payload, run, say } from "./backend.mjs";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.resolve("fhir-kit-client"))));

const size = Number(process.env.PEER_DOCUMENT_BYTES ?? 3_000_000);
const document = Buffer.alloc(size, "Nothing in here is a picture.\0");
const contentType = "application/dicom";

/** The status and the body of what a call throws. */
async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return error.response ?? { status: 0, data: String(error) };
  }
  return { status: 200, data: {} };
}

async function scenario() {
  const stranger = new Client({ baseUrl: fhir });
  const refused = await refusal(() => stranger.search({ resourceType: "DocumentReference", searchParams: { "patient.identifier": patientIdentifier } }));
  check(refused.status === 401, `without a token: ${refused.status}`);
  check(refused.data.resourceType === "OperationOutcome", "401 comes with an OperationOutcome");
  say("was refused without a token");

  const { tokenUrl } = await stranger.smartAuthMetadata();
  check(tokenUrl, "the token endpoint is found");
  const wrong = {
    "a signature of somebody else's": { assertion: assertion(tokenUrl.href).replace(/\.[^.]*$/, `.${Buffer.alloc(96, 1).toString("base64url")}`) },
    "another audience": { claims: { aud: "http://127.0.0.1/other" } },
    "an assertion for a day": { claims: { exp: Math.floor(Date.now() / 1000) + 86_400 } },
    "an assertion of yesterday": { claims: { exp: Math.floor(Date.now() / 1000) - 86_400 } },
    "somebody who is not registered": { client: "nobody" },
  };
  for (const [what, how] of Object.entries(wrong)) {
    const { status, body } = await askForToken(tokenUrl.href, how);
    check(status === 400 || status === 401, `${what}: ${status}`);
    check(["invalid_client", "invalid_request", "invalid_grant"].includes(body.error), `${what}: ${JSON.stringify(body)}`);
  }
  const once = assertion(tokenUrl.href);
  check((await askForToken(tokenUrl.href, { assertion: once })).status === 200, "an assertion is good once");
  check((await askForToken(tokenUrl.href, { assertion: once })).status !== 200, "an assertion is not good twice");
  say("was refused tokens", { times: Object.keys(wrong).length + 1 });

  const token = await bearer();
  const client = new Client({ baseUrl: fhir, bearerToken: token });
  const capabilities = await client.capabilityStatement();
  check(capabilities.fhirVersion === "4.0.1", "the gateway speaks R4");
  const types = capabilities.rest[0].resource.map(({ type }) => type);
  for (const type of ["Patient", "DocumentReference", "Binary", "Consent", "AuditEvent", "Provenance"]) check(types.includes(type), `${type} is among the capabilities`);
  check(capabilities.rest[0].interaction?.some(({ code }) => code === "transaction"), "transactions are among the capabilities");
  say("read the capabilities");

  const patients = await client.search({ resourceType: "Patient", searchParams: { identifier: patientIdentifier } });
  check(patients.entry?.length === 1, `${patients.entry?.length} patients have the identifier`);
  const patient = `Patient/${patients.entry[0].resource.id}`;
  say("found the patient");

  // The client sends text only: what is large goes beside it.
  const authorization = `Bearer ${token}`;
  const uploaded = await fetch(`${fhir}/Binary`, { method: "POST", body: document, headers: { authorization, "content-type": contentType } });
  check(uploaded.status === 201, `an upload is answered with ${uploaded.status}`);
  const location = uploaded.headers.get("location");
  check(location?.startsWith(`${fhir}/Binary/`), `an upload is at ${location}`);
  await uploaded.arrayBuffer();
  const binary = location.replace(/\/_history\/.*$/, "").slice(fhir.length + 1);
  say("uploaded the document as it is", { bytes: document.length });

  const { hash } = encoded(document);
  const provided = payload("provide-comprehensive", { patient, contentType, title: "CT", size: document.length, hash, binary });
  const answer = await client.transaction({ body: provided });
  check(answer.type === "transaction-response" && answer.entry.length === 2, "both entries are answered");
  check(answer.entry.every(({ response }) => response.status.startsWith("201")), "both are created");
  const id = /DocumentReference\/([^/]+)/.exec(answer.entry[1].response.location)[1];
  say("provided by ITI-65");

  // All or nothing.
  const broken = payload("provide-comprehensive", { patient, contentType, title: "Half", size: 1, hash, binary });
  delete broken.entry[1].resource.status;
  const half = await refusal(() => client.transaction({ body: broken }));
  check(half.status >= 400 && half.status < 500 && half.data.resourceType === "OperationOutcome", `a broken transaction: ${half.status}`);
  const byUniqueId = (id) => ({ patient, status: "current", identifier: `urn:ietf:rfc:3986|${id}` });
  const halves = await client.search({ resourceType: "DocumentReference", searchParams: byUniqueId(broken.entry[1].resource.masterIdentifier.value) });
  check((halves.entry ?? []).length === 0, "of a broken transaction nothing is kept");
  say("was refused a broken transaction");

  const seen = [];
  let page = await client.search({
    resourceType: "DocumentReference",
    searchParams: { "patient.identifier": patientIdentifier, status: "current", _count: 1 },
    options: { postSearch: true },
  });
  const { total } = page;
  while (page) {
    seen.push(...(page.entry ?? []).map(({ resource }) => resource.id));
    page = await client.nextPage({ bundle: page });
  }
  check(seen.includes(id), "it is found");
  check(new Set(seen).size === seen.length && seen.length === total, `${seen.length} found, ${total} said`);
  say("found by ITI-67", { pages: seen.length });

  const reference = await client.resolve({ reference: `${fhir}/DocumentReference/${id}` });
  const { attachment } = reference.content[0];
  // The upload has become a document, with an address of its own.
  check(attachment.url.startsWith(`${fhir}/Binary/`), `the document is at ${attachment.url}`);
  check(attachment.hash === hash && attachment.size === document.length, "size and SHA-1 are kept");
  const retrieved = await fetch(attachment.url, { headers: { authorization, accept: "*/*" } });
  check(retrieved.headers.get("content-type").startsWith(contentType), `as ${retrieved.headers.get("content-type")}`);
  check(document.equals(Buffer.from(await retrieved.arrayBuffer())), "the bytes are the same");
  say("retrieved by ITI-68", { bytes: document.length });
  const unseen = await fetch(attachment.url, { headers: { accept: "*/*" } });
  check(unseen.status === 401, `without a token: ${unseen.status}`);

  // The same in XML.
  const xml = { headers: { authorization, accept: "application/fhir+xml" } };
  const paths = ["metadata", `DocumentReference/${id}`, `DocumentReference?${new URLSearchParams(byUniqueId(reference.masterIdentifier.value))}`, patient, "DocumentReference/there-is-no-such-document"];
  for (const path of paths) {
    const answered = await fetch(`${fhir}/${path}`, xml);
    const text = await answered.text();
    check(answered.headers.get("content-type").startsWith("application/fhir+xml"), `${path} in XML: ${answered.headers.get("content-type")}`);
    check(/^(<\?xml[^>]*\?>)?\s*<[A-Z][A-Za-z]+ [^>]*http:\/\/hl7.org\/fhir/.test(text), `${path} in XML: ${text.slice(0, 80)}`);
  }
  const formatted = await fetch(`${fhir}/${patient}?_format=xml`, { headers: { authorization, accept: "application/fhir+json" } });
  check(formatted.headers.get("content-type").startsWith("application/fhir+xml"), "_format comes before Accept");
  await formatted.arrayBuffer();
  say("read XML", { answers: paths.length + 1 });

  const consents = await client.search({ resourceType: "Consent", searchParams: { patient } });
  check(consents.type === "searchset", "consents are found");
  const [consent] = (consents.entry ?? []).map(({ resource }) => resource);
  if (consent) check((await client.read({ resourceType: "Consent", id: consent.id })).id === consent.id, "a consent is read");
  say("found consents", { consents: consents.entry?.length ?? 0 });

  const day = new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
  const events = await client.search({ resourceType: "AuditEvent", searchParams: { "patient.identifier": patientIdentifier, date: `ge${day}`, _count: 100 } });
  const codes = (events.entry ?? []).flatMap(({ resource }) => resource.subtype?.map(({ code }) => code) ?? []);
  for (const code of ["ITI-65", "ITI-67", "ITI-68"]) check(codes.includes(code), `${code} is in the log`);
  say("read the log", { events: events.total });

  const origins = await client.search({ resourceType: "Provenance", searchParams: { target: `DocumentReference/${id}` } });
  check(origins.entry?.length >= 1, "the document's provenance is found");
  say("read the provenance");

  const missing = await refusal(() => client.read({ resourceType: "DocumentReference", id: "there-is-no-such-document" }));
  check(missing.status === 404 && missing.data.resourceType === "OperationOutcome", `what is not there: ${missing.status}`);
  const unknown = await refusal(() => client.search({ resourceType: "DocumentReference", searchParams: { patient, status: "current", nonsense: "1" }, options: { headers: { prefer: "handling=strict" } } }));
  check(unknown.status === 400 && unknown.data.resourceType === "OperationOutcome", `an unknown parameter: ${unknown.status}`);
  const foreign = await refusal(() => client.create({ resourceType: "Observation", body: { resourceType: "Observation", status: "final", code: { text: "x" } } }));
  check([403, 404, 405, 422].includes(foreign.status) && foreign.data.resourceType === "OperationOutcome", `a type that is not served: ${foreign.status}`);
  const readonly = new Client({ baseUrl: fhir, bearerToken: await bearer(fhir, { scope: "system/DocumentReference.rs" }) });
  const overreach = await refusal(() => readonly.search({ resourceType: "Consent", searchParams: { patient } }));
  check(overreach.status === 403 && overreach.data.resourceType === "OperationOutcome", `beyond the scope: ${overreach.status}`);
  say("was told what was wrong");
}

await run("fhir-kit-client", version, scenario);
