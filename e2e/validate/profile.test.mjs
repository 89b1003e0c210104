// That IHE's examples conform to the profiles that they declare, and that no broken variant of them does.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { balp } from "./audit.mjs";
import { but, example, examples } from "./examples.mjs";
import { Profiles } from "./profile.mjs";
import { all } from "./validators.mjs";

const profiles = Profiles.shipped();
const mhd = (name) => `https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.${name}`;
const pcf = (name) => `https://profiles.ihe.net/ITI/PCF/StructureDefinition/IHE.PCF.${name}`;
const basic = (name) => `https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.${name}`;

// Audit events of transactions that willis does not have.
const foreign = /FindDocumentLists\.Audit|GenerateMetadata\.Audit/;

test("IHE's examples conform to what they declare", () => {
  const seen = new Map();
  for (const name of examples()) {
    const whole = example(name);
    for (const resource of all(whole)) {
      const said = profiles.declared(resource, whole.resourceType === "Bundle" ? whole : undefined);
      assert.deepEqual(said.problems, [], name);
      assert.deepEqual(said.unchecked.filter((line) => !foreign.test(line)), [], name);
      for (const url of resource.meta?.profile ?? []) seen.set(url, (seen.get(url) ?? 0) + 1);
    }
  }
  const shipped = [
    ...["Minimal", "Comprehensive", "UnContained.Comprehensive"].flatMap((level) =>
      ["ProvideBundle", "SubmissionSet", "DocumentReference"].map((what) => mhd(`${level}.${what}`)),
    ),
    ...["Basic", "Intermediate", "Advanced"].map((level) => pcf(`consent${level}`)),
  ];
  for (const url of shipped) assert.ok(seen.get(url) >= 1, `an example of ${url}`);
});

// Each profile with an example that conforms to it.
const conforming = {
  [mhd("Minimal.ProvideBundle")]: "mhd/Bundle-ex-minimalProvideDocumentBundleSimple",
  [mhd("Comprehensive.ProvideBundle")]: "mhd/Bundle-ex-comprehensiveProvideDocumentBundleComplete",
  [mhd("Minimal.SubmissionSet")]: "mhd/List-ex-compSubmissionSetFull",
  [mhd("Comprehensive.SubmissionSet")]: "mhd/List-ex-compSubmissionSetList",
  [mhd("Minimal.DocumentReference")]: "mhd/DocumentReference-ex-DocumentReferenceMinimal",
  [mhd("Comprehensive.DocumentReference")]: "mhd/DocumentReference-ex-DocumentReferenceComprehensive",
  [pcf("consentBasic")]: "pcf/Consent-ex-consent-basic-treat",
  [pcf("consentIntermediate")]: "pcf/Consent-ex-consent-intermediate-data",
  [pcf("consentAdvanced")]: "pcf/Consent-ex-consent-advanced-normal-not-restricted",
};

for (const [url, name] of Object.entries(conforming)) {
  test(`whatever ${url.split("/").pop()} requires or forbids is missed or found`, () => {
    const file = new URL(`./profiles/StructureDefinition-${url.split("/").pop()}.json`, import.meta.url);
    const { element } = JSON.parse(readFileSync(file, "utf8")).snapshot;
    let tried = 0;
    for (const { id, min, max } of element) {
      if (id.includes(":") || id.includes("[x]") || !id.includes(".")) continue;
      const [parents, last] = parentsOf(example(name), id);
      for (const index of parents.keys()) {
        const resource = example(name);
        const parent = parentsOf(resource, id)[0][index];
        if (min >= 1 && parent[last] !== undefined) delete parent[last];
        else if (max === "0" && parent[last] === undefined) parent[last] = Array.isArray(parent[last]) ? ["x"] : "x";
        else continue;
        tried += 1;
        assert.notDeepEqual(profiles.check(resource, url).problems, [], `${id} [${index}]`);
      }
    }
    assert.ok(tried >= 5, `${tried} variants`);
  });
}

/** The objects in which the last element of a path stands or could stand, and its name. */
function parentsOf(resource, id) {
  const names = id.split(".").slice(1);
  const last = names.pop();
  const parents = names.reduce((objects, name) => objects.flatMap((one) => one[name] ?? []), [resource]);
  return [parents.filter((one) => typeof one === "object"), last];
}

const list = "mhd/List-ex-compSubmissionSetFull";
const minimal = "mhd/DocumentReference-ex-DocumentReferenceMinimal";
const whole = "mhd/DocumentReference-ex-DocumentReferenceComprehensive";
const bundle = "mhd/Bundle-ex-minimalProvideDocumentBundleSimple";
const complete = "mhd/Bundle-ex-comprehensiveProvideDocumentBundleComplete";
const replacing = "mhd/Bundle-ex-comprehensiveProvideDocumentBundleReplace";
const consent = "pcf/Consent-ex-consent-basic-treat";
const withData = "pcf/Consent-ex-consent-intermediate-data";
const advanced = "pcf/Consent-ex-consent-advanced-normal-not-restricted";
const response = "mhd/Bundle-ex-response-minimalProvideDocumentBundleSimple";
const found = "mhd/Bundle-ex-findDocumentReferencesResponse";
const foundAll = "mhd/Bundle-FindDocumentReferences";
const simple = "mhd/DocumentReference-ex-DocumentReferenceSimplifiedPublish";

const extension = (one, name) => one.extension.find(({ url }) => url.endsWith(name));
const identifier = (one, code) => one.identifier.find(({ type }) => type.coding[0].code === code);
const entryOf = (one, type) => one.entry.find(({ resource }) => resource.resourceType === type);

// The resource, what is done to it, and what is to be said of it.
const broken = [
  [list, "another kind of list", (one) => (one.code.coding[0].code = "folder"), /List\.code: does not fit/],
  [list, "the kind of another system", (one) => (one.code.coding[0].system = "http://a"), /List\.code: does not fit/],
  [list, "a retired list", (one) => (one.status = "retired"), /List\.status: does not fit "current"/],
  [list, "a snapshot", (one) => (one.mode = "snapshot"), /List\.mode: does not fit "working"/],
  [list, "no source", (one) => (one.extension = one.extension.filter(({ url }) => !url.endsWith("sourceId"))), /extension:sourceId: is there 0 times/],
  [list, "two sources", (one) => one.extension.push(extension(one, "sourceId")), /extension:sourceId: is there 2 times/],
  [list, "a source that is a text", (one) => {
    const source = extension(one, "sourceId");
    delete source.valueIdentifier;
    source.valueString = "x";
  }, /none of the types Identifier/],
  [list, "an extension with nothing", (one) => delete extension(one, "sourceId").valueIdentifier, /breaks ext-1/],
  [list, "a recipient that is a list", (one) => (extension(one, "intendedRecipient").valueReference = { reference: "List/1" }), /refers to a List/],
  [list, "a unique id that is no OID", (one) => (identifier(one, "uniqueId").value = "urn:uuid:1"), /breaks mhd-startswithoid/],
  [list, "a unique id of no system", (one) => delete identifier(one, "uniqueId").system, /identifier\[\d\]\(uniqueId\)\.system: is there 0 times/],
  [list, "an entry UUID that is none", (one) => (identifier(one, "entryUUID").value = "1"), /breaks mhd-startswithuuid/],
  [list, "a subject that is a group", (one) => (one.subject = { reference: "Group/1" }), /refers to a Group, none of Patient/],
  [list, "an entry that is a patient", (one) => (one.entry[0].item = { reference: "Patient/1" }), /refers to a Patient/],
  [list, "entries and a reason for none", (one) => (one.emptyReason = { text: "x" }), /breaks lst-1/],
  [list, "an encounter", (one) => (one.encounter = { reference: "Encounter/1" }), /encounter: is there 1 times/],
  ["mhd/List-ex-compSubmissionSetList", "a source that is not contained", (one) => (one.source = { reference: "Practitioner/1" }), /is to be contained/],
  ["mhd/List-ex-compSubmissionSetList", "no designation", (one) => (one.extension = one.extension.filter(({ url }) => !url.endsWith("designationType"))), /extension:designationType: is there 0 times/],

  [minimal, "no master identifier", (one) => delete one.masterIdentifier, /masterIdentifier: is there 0 times/],
  [minimal, "a master identifier of no type", (one) => delete one.masterIdentifier.type, /masterIdentifier\.type: is there 0 times/],
  [minimal, "a master identifier of another type", (one) => (one.masterIdentifier.type.coding[0].code = "x"), /masterIdentifier\.type: does not fit/],
  [minimal, "a master identifier of no value", (one) => delete one.masterIdentifier.value, /masterIdentifier\.value: is there 0 times/],
  [minimal, "entered in error", (one) => (one.status = "entered-in-error"), /has no code of .*DocumentReferenceStats/],
  [minimal, "a second content", (one) => one.content.push(one.content[0]), /content: is there 2 times/],
  [minimal, "data in place of a URL", (one) => (one.content[0].attachment.data = "YQ=="), /attachment\.data: is there 1 times/],
  [minimal, "no URL", (one) => delete one.content[0].attachment.url, /attachment\.url: is there 0 times/],
  [minimal, "no media type", (one) => delete one.content[0].attachment.contentType, /contentType: is there 0 times/],
  [minimal, "a status of the document", (one) => (one.docStatus = "final"), /docStatus: is there 1 times/],
  [minimal, "a subject that is a device", (one) => (one.subject = { reference: "Device/1" }), /refers to a Device/],
  [minimal, "an extension that changes the meaning", (one) => (one.modifierExtension = [{ url: "http://a", valueBoolean: true }]), /modifierExtension: is there 1 times/],
  [whole, "two types", (one) => (one.type = undefined), /DocumentReference\.type: is there 0 times/],
  [whole, "an author elsewhere", (one) => (one.author[0] = { reference: "Practitioner/1" }), /author\[0\]: is to be contained/],
  [whole, "the patient's data elsewhere", (one) => (one.context.sourcePatientInfo = { reference: "Patient/1" }), /is to be contained/],
  [whole, "no language", (one) => delete one.content[0].attachment.language, /language: is there 0 times/],
  [whole, "no confidentiality", (one) => delete one.securityLabel, /securityLabel: is there 0 times/],

  [bundle, "a batch", (one) => (one.type = "batch"), /Bundle\.type: does not fit "transaction"/],
  [bundle, "no submission set", (one) => one.entry.splice(0, 1), /entry:SubmissionSet: is there 0 times/],
  [bundle, "two submission sets", (one) => one.entry.push(one.entry[0]), /entry:SubmissionSet: is there 2 times/],
  [bundle, "two patients", (one) => one.entry.push(entryOf(one, "Patient")), /entry:Patient: is there 2 times/],
  [bundle, "an observation", (one) => one.entry.push({ resource: { resourceType: "Observation" }, request: { method: "POST", url: "Observation" } }), /in none of the slices/],
  [bundle, "a deleted patient", (one) => (entryOf(one, "Patient").request.method = "DELETE"), /in none of the slices/],
  [bundle, "a document that is put", (one) => (entryOf(one, "DocumentReference").request.method = "PUT"), /in none of the slices/],
  [bundle, "a submission set that is put", (one) => (one.entry[0].request.method = "PUT"), /entry:SubmissionSet: is there 0 times/],
  [bundle, "a wrong submission set", (one) => delete one.entry[0].resource.date, /\(SubmissionSet\)\.resource\.date: is there 0 times/],
  [bundle, "a wrong document", (one) => delete entryOf(one, "DocumentReference").resource.masterIdentifier, /\(DocumentRefs\)\.resource\.masterIdentifier/],
  [bundle, "a document of somebody else's kind", (one) => (entryOf(one, "Patient").resource.resourceType = "Group"), /in none of the slices|refers to a Group/],
  [bundle, "no profile", (one) => delete one.meta.profile, /meta\.profile: is there 0 times/, mhd("Minimal.ProvideBundle")],
  [bundle, "no requests", (one) => one.entry.forEach((entry) => delete entry.request), /breaks bdl-3/],
  [bundle, "a total", (one) => (one.total = 4), /breaks bdl-1/],
  [complete, "a submission set without designation", (one) => {
    const set = one.entry.find(({ resource }) => resource.code?.coding[0].code === "submissionset").resource;
    set.extension = set.extension.filter(({ url }) => !url.endsWith("designationType"));
  }, /designationType: is there 0 times/],
  [complete, "a document of the minimal kind", (one) => delete entryOf(one, "DocumentReference").resource.context, /resource\.context: is there 0 times/],
  [complete, "a folder of nothing", (one) => {
    one.entry.find(({ resource }) => resource.code?.coding[0].code === "folder").resource.mode = "changes";
  }, /\(Folders\)\.resource\.mode: does not fit/],
  [replacing, "a patch that is posted", (one) => (entryOf(one, "Parameters").request.method = "POST"), /in none of the slices/],

  [consent, "another scope", (one) => (one.scope.coding[0].code = "research"), /Consent\.scope: does not fit/],
  [consent, "no patient", (one) => delete one.patient, /Consent\.patient: is there 0 times/],
  [consent, "no source", (one) => delete one.sourceReference, /source\[x\]: is there 0 times/],
  [consent, "nobody who performs", (one) => delete one.performer, /performer: is there 0 times/],
  [consent, "no organization", (one) => delete one.organization, /organization: is there 0 times/],
  [consent, "no policy", (one) => delete one.policy, /breaks ppc-1/],
  [consent, "a rule further in", (one) => (one.provision.provision = [{ type: "deny" }]), /provision\.provision: is there 1 times/],
  [consent, "some data only", (one) => (one.provision.data = [{ meaning: "instance", reference: { reference: "DocumentReference/1" } }]), /provision\.data: is there 1 times/],
  [consent, "an actor in another role", (one) => {
    one.provision.actor = [{ role: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/v3-RoleClass", code: "PROV" }] }, reference: { reference: "Organization/1" } }];
  }, /actor\[0\]\.role: does not fit/],
  [withData, "data and all that depends on them", (one) => (one.provision.data[0].meaning = "dependents"), /in none of the slices/],
  [withData, "data that are not said", (one) => delete one.provision.data[0].reference, /reference: is there 0 times/],
  [withData, "a label", (one) => (one.provision.securityLabel = [{ system: "http://a", code: "R" }]), /securityLabel: is there 1 times/],
  [advanced, "a rule in a rule in a rule", (one) => (one.provision.provision[0].provision = [{ type: "deny" }]), /provision\.provision.*provision: is there 1 times/],
  [advanced, "a class", (one) => (one.provision.class = [{ system: "http://a", code: "x" }]), /provision\.class: is there 1 times/],
  [advanced, "a check", (one) => (one.verification = [{ verified: true }]), /verification: is there 1 times/],

  [response, "an answer without a place", (one) => delete one.entry[1].response.location, /response\.location: is there 0 times/],
  [response, "an answer to a batch", (one) => (one.type = "batch-response"), /Bundle\.type: does not fit/],
  [found, "no total", (one) => delete one.total, /Bundle\.total: is there 0 times/],
  [found, "no full URL", (one) => delete one.entry[0].fullUrl, /fullUrl: is there 0 times/],
  [foundAll, "a document that is not comprehensive", (one) => delete one.entry[0].resource.context, /resource\.context: is there 0 times/],
  [simple, "a URL in place of data", (one) => {
    delete one.content[0].attachment.data;
    one.content[0].attachment.url = "http://a/b";
  }, /attachment\.data: is there 0 times/],
  [simple, "a superseded one", (one) => (one.status = "superseded"), /status: does not fit/],
];

for (const [name, what, change, said, url] of broken) {
  test(`${name.split("/")[1]}: ${what}`, () => {
    const resource = example(name);
    const [declared] = url ? [url] : resource.meta.profile;
    assert.deepEqual(profiles.check(resource, declared), { problems: [], unchecked: [] });
    const { problems } = profiles.check(JSON.parse(JSON.stringify(but(resource, change))), declared);
    assert.ok(problems.some((line) => said.test(line)), `${said} in ${JSON.stringify(problems, null, 1)}`);
  });
}

test("IHE's audit events are what they declare", () => {
  const names = examples().filter((name) => name.includes("/AuditEvent-"));
  assert.equal(names.length, 27);
  for (const name of names) assert.deepEqual(balp(profiles, example(name)), [], name);
});

const read = "balp/AuditEvent-ex-auditBasicReadServer";
const authorized = "balp/AuditEvent-ex-auditAuthZconsent";
const denied = "balp/AuditEvent-ex-auditAuthZconsent-deny";
const disclosed = "balp/AuditEvent-ex-auditPrivacyDisclosure-source";
const received = "balp/AuditEvent-ex-auditPrivacyDisclosure-recipient";
const asked = "mhd/AuditEvent-ex-auditFindDocumentReferences-responder";
const retrieved = "mhd/AuditEvent-ex-auditRetrieveDocument-responder";
const provided = "mhd/AuditEvent-ex-auditProvideBundle-recipient";
const published = "mhd/AuditEvent-ex-auditSimplifiedPublish-recipient";

const agent = (one, code) => one.agent.find(({ type }) => type.coding.some((each) => each.code === code));
const entity = (one, code) => one.entity.find(({ type }) => type.code === code);
const without = (all, one) => all.filter((each) => each !== one);

const brokenEvents = [
  [read, "nobody as client", (one) => delete agent(one, "110152").who, /agent.*who: is there 0 times/],
  [read, "no address of the client", (one) => delete agent(one, "110152").network, /network: is there 0 times/],
  [read, "no server", (one) => (one.agent = without(one.agent, agent(one, "110153"))), /agent:server: is there 0 times/],
  [read, "no interaction", (one) => (one.subtype[0].code = "write"), /no kind|subtype:interaction: is there 0 times/],
  [read, "another action", (one) => (one.action = "E"), /action: does not fit "R"/],
  [read, "a failure", (one) => (one.outcome = "8"), /outcome: does not fit "0"/],
  [read, "no patient", (one) => (one.entity = without(one.entity, entity(one, "1"))), /entity:patient: is there 0 times/],
  [read, "no data", (one) => (one.entity = without(one.entity, entity(one, "2"))), /entity:data: is there 0 times/],
  [read, "a patient who is a group", (one) => (entity(one, "1").what = { reference: "Group/1" }), /refers to a Group/],
  [read, "a patient in another role", (one) => (entity(one, "1").role.code = "2"), /role: does not fit/],
  [read, "data in another role", (one) => (entity(one, "2").role = { system: "http://terminology.hl7.org/CodeSystem/object-role", code: "1" }), /role: has no code/],
  [authorized, "no user", (one) => (one.agent = without(one.agent, agent(one, "IRCP"))), /agent:user: is there 0 times/],
  [authorized, "no organization", (one) => (one.agent = without(one.agent, agent(one, "PROV"))), /agent:userorg: is there 0 times/],
  [authorized, "a decision of somebody else", (one) => (agent(one, "authserver").who = { reference: "Device/other" }), /breaks val-audit-source/],
  [authorized, "no consent", (one) => (one.entity = without(one.entity, entity(one, "Consent"))), /entity:consent: is there 0 times/],
  [authorized, "something else", (one) => one.entity.push({ type: { system: "http://a", code: "x" }, what: { reference: "Patient/1" } }), /in none of the slices/],
  [denied, "a client that asks for a purpose", (one) => (agent(one, "110150").purposeOfUse = [{ text: "x" }]), /purposeOfUse: is there 1 times/],
  [disclosed, "no disclosure", (one) => (one.subtype = [{ system: "http://a", code: "x" }]), /subtype:disclosure: is there 0 times/],
  [disclosed, "an import", (one) => (one.type.code = "110107"), /AuditEvent\.type: does not fit/],
  [disclosed, "kept by somebody else", (one) => (one.source.observer = { reference: "Device/other" }), /breaks val-audit-source/],
  [disclosed, "no recipient", (one) => (one.agent = without(one.agent, agent(one, "110152"))), /agent:recipient: is there 0 times/],
  [received, "an export", (one) => (one.type.code = "110106"), /AuditEvent\.type: does not fit/],
  [asked, "no query", (one) => (one.entity = without(one.entity, entity(one, "2"))), /entity:query: is there 0 times/],
  [asked, "a query that is not said", (one) => delete entity(one, "2").query, /query\)\.query: is there 0 times/],
  [asked, "no transaction", (one) => (one.subtype = one.subtype.filter(({ code }) => code !== "ITI-67")), /subtype:iti67: is there 0 times/],
  [retrieved, "the wrong role", (one) => (entity(one, "2").role.code = "4"), /role: does not fit/],
  [retrieved, "kept by somebody else", (one) => (one.source.observer = { display: "other" }), /breaks val-audit-source/],
  [provided, "no submission set", (one) => (one.entity = without(one.entity, entity(one, "2"))), /entity:submissionSet: is there 0 times/],
  [provided, "a set that is a document", (one) => (entity(one, "2").what = { reference: "DocumentReference/1" }), /refers to a DocumentReference/],
  [published, "a document that is a binary", (one) => (entity(one, "2").what = { reference: "Binary/1" }), /refers to a Binary/],
];

for (const [name, what, change, said] of brokenEvents) {
  test(`${name.split("/")[1]}: ${what}`, () => {
    const problems = balp(profiles, but(example(name), change));
    assert.ok(problems.some((line) => said.test(line)), `${said} in ${JSON.stringify(problems, null, 1)}`);
  });
}

test("without a declared profile, an event is checked by what it records", () => {
  let told = 0;
  for (const name of examples().filter((one) => one.includes("/AuditEvent-") && !/OClient|OServer|DocumentLists|GenerateMetadata/.test(one))) {
    const event = example(name);
    const [declared] = event.meta.profile;
    delete event.meta.profile;
    assert.deepEqual(balp(profiles, event), [], name);
    const problems = balp(profiles, but(event, (one) => delete one.recorded));
    assert.deepEqual(problems, [`AuditEvent.recorded: is there 0 times, not 1 or more [${declared.split("/").pop()}]`], name);
    told += 1;
  }
  assert.equal(told, 20);
  assert.deepEqual(balp(profiles, { resourceType: "AuditEvent", type: { code: "x" } }), ["AuditEvent: is of no kind that IHE profiles"]);
});

test("what can't be checked is said", () => {
  const resource = example(minimal);
  const definition = (element) => new Profiles([{ url: "http://a", snapshot: { element: [{ id: "DocumentReference", path: "DocumentReference" }, element] } }]);
  const cases = [
    [{ id: "DocumentReference.masterIdentifier", path: "DocumentReference.masterIdentifier", type: [{ code: "Identifier", profile: ["http://b"] }] }, /no profile http:\/\/b/],
    [{ id: "DocumentReference.status", path: "DocumentReference.status", binding: { strength: "required", valueSet: "http://b" } }, /codes of http:\/\/b/],
    [{ id: "DocumentReference.status", path: "DocumentReference.status", constraint: [{ key: "x-1", severity: "error", expression: "memberOf('http://b')" }] }, /invariant x-1/],
    [{ id: "DocumentReference.subject", path: "DocumentReference.subject", type: [{ code: "Reference", targetProfile: ["http://b"] }] }, /targets http:\/\/b/],
    [{ id: "DocumentReference.status", path: "DocumentReference.status", maxLength: 3 }, /maxLength/],
  ];
  resource.subject = { reference: "Patient/1" };
  for (const [element, said] of cases) {
    const { unchecked } = definition(element).check(resource, "http://a");
    assert.ok(unchecked.some((line) => said.test(line)), `${said} in ${unchecked}`);
  }
});

test("a profile for another type is no fit", () => {
  assert.deepEqual(profiles.check(example(consent), mhd("Minimal.DocumentReference")).problems, ["Consent: is no DocumentReference"]);
  assert.throws(() => profiles.check(example(consent), basic("Nothing")), /no profile/);
});
