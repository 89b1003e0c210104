// Definitions that the checker needs beside IHE's profiles of this folder, written here by hand from IHE's
// specification: extensions, identifiers and lists that those profiles point to, answers to MHD's transactions,
// and audit events. Only what they ask beyond base R4 stands here. They are no copies of IHE's files.

const mhd = (name) => `https://profiles.ihe.net/ITI/MHD/StructureDefinition/${name}`;
const balp = (name) => `https://profiles.ihe.net/ITI/BALP/StructureDefinition/${name}`;
const core = (name) => `http://hl7.org/fhir/StructureDefinition/${name}`;

/** Value sets that IHE's profiles bind as required, with all their codes. */
export const valueSets = {
  "https://profiles.ihe.net/ITI/MHD/ValueSet/DocumentReferenceStats": ["current", "superseded"],
  "https://profiles.ihe.net/ITI/MHD/ValueSet/MHDlistTypesVS": ["folder", "submissionset"].map(
    (code) => `https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes|${code}`,
  ),
  "https://profiles.ihe.net/ITI/MHD/ValueSet/MHDprovideFolderActions": ["POST", "PUT"],
  "https://profiles.ihe.net/ITI/MHD/ValueSet/MHDprovidePatientActions": ["GET", "POST", "PUT"],
  "https://profiles.ihe.net/ITI/BALP/ValueSet/AllReadVS": ["read", "vread"].map(interaction),
  "https://profiles.ihe.net/ITI/BALP/ValueSet/AllSearchVS": ["search", "search-type", "search-system"].map(interaction),
  "https://profiles.ihe.net/ITI/BALP/ValueSet/AllUpdateVS": ["update", "patch"].map(interaction),
  "https://profiles.ihe.net/ITI/BALP/ValueSet/AuthZsubTypeVS": ["AuthZ-Consent", "AuthZ-Role"].map(
    (code) => `https://profiles.ihe.net/ITI/BALP/CodeSystem/AuthZsubType|${code}`,
  ),
  "https://profiles.ihe.net/ITI/BALP/ValueSet/RestObjectRoles": ["3", "4", "20"].map(
    (code) => `http://terminology.hl7.org/CodeSystem/object-role|${code}`,
  ),
};

function interaction(code) {
  return `http://hl7.org/fhir/restful-interaction|${code}`;
}

const coding = (system, code) => ({ patternCoding: { system, code } });
const concept = (system, code) => ({ patternCodeableConcept: { coding: [{ system, code }] } });
const bound = (valueSet) => ({ binding: { strength: "required", valueSet } });
const by = (path, rules = "open") => ({ slicing: { discriminator: [{ type: "value", path }], rules } });
const to = (...types) => ({ type: [{ code: "Reference", targetProfile: types.map(core) }] });
const none = { min: 0, max: "0" };
const one = { min: 1, max: "1" };

function define(url, type, elements) {
  const element = Object.entries(elements).map(([path, rules]) => ({
    id: path === "" ? type : `${type}.${path}`,
    path: (path === "" ? type : `${type}.${path}`).replace(/:[^.]+/g, ""),
    ...rules,
  }));
  if (!("" in elements)) element.unshift({ id: type, path: type });
  return { resourceType: "StructureDefinition", url, type, snapshot: { element } };
}

// MHD: what its profiles point to.

const identifierTypes = "https://profiles.ihe.net/ITI/MHD/CodeSystem/IHE.MHD.MHDIdentifierType";
const listTypes = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes";

const uniqueId = { system: one, value: one, type: { ...one, ...concept(identifierTypes, "uniqueId") } };
const begins = (key, text) => ({
  constraint: [{ key, severity: "error", human: `begins with ${text}`, expression: `startsWith('${text}')` }],
});
const uris = { fixedUri: "urn:ietf:rfc:3986" };

const identifiers = [
  define(mhd("IHE.MHD.UniqueIdIdentifier"), "Identifier", uniqueId),
  define(mhd("IHE.MHD.SubmissionSetUniqueIdIdentifier"), "Identifier", {
    ...uniqueId,
    system: { ...one, ...uris },
    value: { ...one, ...begins("mhd-startswithoid", "urn:oid:") },
  }),
  define(mhd("IHE.MHD.EntryUUID.Identifier"), "Identifier", {
    system: { ...one, ...uris },
    value: { ...one, ...begins("mhd-startswithuuid", "urn:uuid:") },
    type: { ...one, ...concept(identifierTypes, "entryUUID") },
  }),
];

const extension = (name, type) =>
  define(mhd(name), "Extension", {
    extension: none,
    url: { ...one, fixedUri: mhd(name) },
    "value[x]": { ...one, type: [type] },
  });

const extensions = [
  extension("ihe-HomeCommunityId", { code: "oid" }),
  extension("ihe-designationType", { code: "CodeableConcept" }),
  extension("ihe-sourceId", { code: "Identifier" }),
  extension("ihe-authorOrg", to("Organization").type[0]),
  extension(
    "ihe-intendedRecipient",
    to("Practitioner", "Organization", "Patient", "RelatedPerson", "Group", "Device", "Location").type[0],
  ),
];

const folder = {
  modifierExtension: none,
  mode: { ...one, patternCode: "working" },
  code: { ...one, ...concept(listTypes, "folder") },
  subject: to("Patient"),
  encounter: none,
  orderedBy: none,
  source: none,
  note: { min: 0, max: "1" },
  entry: { min: 0, max: "*" },
  "entry.flag": none,
  "entry.deleted": none,
  "entry.date": none,
  "entry.item": { ...one, ...to("DocumentReference") },
  emptyReason: none,
};

const lists = [
  define(mhd("IHE.MHD.Minimal.Folder"), "List", folder),
  define(mhd("IHE.MHD.Comprehensive.Folder"), "List", { ...folder, subject: { ...one, ...to("Patient") }, title: one }),
  // By it a provided bundle marks the replaced DocumentReference as superseded.
  define(mhd("IHE.MHD.Patch.Parameters"), "Parameters", { parameter: { min: 1, max: "*" } }),
];

// MHD: the simplified publication and the answers.

const answers = [
  define(mhd("IHE.MHD.SimplifiedPublish.DocumentReference"), "DocumentReference", {
    modifierExtension: none,
    masterIdentifier: one,
    identifier: by("type"),
    "identifier:entryUUID": { sliceName: "entryUUID", ...none, type: [{ code: "Identifier", profile: [mhd("IHE.MHD.EntryUUID.Identifier")] }] },
    status: { ...one, patternCode: "current" },
    docStatus: none,
    type: { min: 0, max: "1" },
    subject: { ...one, ...to("Patient") },
    content: one,
    "content.attachment": one,
    "content.attachment.contentType": one,
    "content.attachment.data": one,
    "content.attachment.url": none,
  }),
  define(mhd("IHE.MHD.ProvideDocumentBundleResponse"), "Bundle", {
    type: { ...one, patternCode: "transaction-response" },
    entry: { min: 1, max: "*" },
    "entry.response": one,
    "entry.response.location": one,
  }),
  define(mhd("IHE.MHD.FindDocumentReferencesResponseMessage"), "Bundle", {
    type: { ...one, fixedCode: "searchset" },
    total: one,
    "entry.fullUrl": one,
  }),
  define(mhd("IHE.MHD.FindDocumentReferencesComprehensiveResponseMessage"), "Bundle", {
    type: { ...one, fixedCode: "searchset" },
    total: one,
    entry: { slicing: { discriminator: [{ type: "profile", path: "resource" }], rules: "open" } },
    "entry.fullUrl": one,
    "entry:DocumentReference": { sliceName: "DocumentReference", min: 0, max: "*" },
    "entry:DocumentReference.fullUrl": one,
    "entry:DocumentReference.resource": {
      ...one,
      type: [{ code: "DocumentReference", profile: [mhd("IHE.MHD.Comprehensive.DocumentReference")] }],
    },
  }),
  define(mhd("IHE.MHD.FindDocumentListsResponseMessage"), "Bundle", {
    type: { ...one, fixedCode: "searchset" },
    total: one,
    "entry.fullUrl": one,
  }),
];

// BALP.

const dcm = "http://dicom.nema.org/resources/ontology/DCM";
const entityTypes = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const entityRoles = "http://terminology.hl7.org/CodeSystem/object-role";
const succeeded = { ...one, patternCode: "0" };
const userAgents = "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes";

/** A slice of agents or entities, of which one element tells what it is. */
function slice(list, name, bounds, elements) {
  const rules = { [`${list}:${name}`]: { sliceName: name, ...bounds } };
  for (const [path, rule] of Object.entries(elements)) rules[`${list}:${name}.${path}`] = rule;
  return rules;
}

const recorder = {
  constraint: [
    { key: "val-audit-source", severity: "error", human: "The Audit Source is this agent too.", expression: "$this.who = %resource.source.observer" },
  ],
};

const patient = slice("entity", "patient", one, {
  type: { ...one, ...coding(entityTypes, "1") },
  role: { ...one, ...coding(entityRoles, "1") },
  what: { ...one, ...to("Patient") },
});
const data = slice("entity", "data", one, {
  type: { ...one, ...coding(entityTypes, "2") },
  role: bound("https://profiles.ihe.net/ITI/BALP/ValueSet/RestObjectRoles"),
  what: one,
});
const query = slice("entity", "query", one, {
  type: { ...one, ...coding(entityTypes, "2") },
  role: { ...one, ...coding(entityRoles, "24") },
  what: none,
  lifecycle: none,
  query: one,
  detail: none,
});

/** A user is told by the type of IRCP for reads and queries; other events allow more types and are not sliced here. */
const user = slice("agent", "user", { min: 0, max: "1" }, {
  type: { ...one, ...concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP") },
  who: one,
  requestor: { ...one, patternBoolean: true },
  media: none,
  network: none,
});
const party = (name, system, code) =>
  slice("agent", name, one, { type: { ...one, ...concept(system, code) }, who: one, network: one, media: none });

/** What a REST interaction leaves in the log. */
function rest(action, subtype, client, server, entities) {
  return {
    type: { ...one, ...coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest") },
    subtype: { min: 1, max: "*", ...by("$this") },
    "subtype:interaction": { sliceName: "interaction", ...one, ...subtype },
    action: { patternCode: action },
    recorded: one,
    outcome: succeeded,
    agent: { min: 2, max: "*", ...by("type") },
    ...party("client", ...client),
    ...party("server", ...server),
    ...(action === "R" || action === "E" ? user : {}),
    ...entities,
  };
}

const source = [dcm, "110153"];
const destination = [dcm, "110152"];
const entities = (...parts) => Object.assign({ entity: { min: parts.length, max: "*", ...by("type") } }, ...parts);
const created = coding("http://hl7.org/fhir/restful-interaction", "create");
const deleted = coding("http://hl7.org/fhir/restful-interaction", "delete");
const set = (name) => bound(`https://profiles.ihe.net/ITI/BALP/ValueSet/${name}`);

/** An audit event of an MHD transaction: the REST one, with the transaction's number, kept by the server or the client. */
function transaction(number, side, whole, more = {}) {
  return {
    ...whole,
    modifierExtension: none,
    subtype: { min: 2, max: "*", ...by("$this") },
    [`subtype:iti${number}`]: { sliceName: `iti${number}`, ...one, ...coding("urn:ihe:event-type-code", `ITI-${number}`) },
    [`agent:${side}`]: { ...whole[`agent:${side}`], ...recorder },
    ...more,
  };
}

function provided(type, action, keeper) {
  const named = (name, system, code) => slice("agent", name, one, { type: concept(system, code), who: one, network: one });
  const agents = { ...named("documentSource", ...source), ...named("documentRecipient", ...destination) };
  agents[`agent:${keeper}`] = { ...agents[`agent:${keeper}`], ...recorder };
  return {
    modifierExtension: none,
    type: { ...one, ...coding(dcm, type) },
    action: { patternCode: action },
    subtype: { min: 1, max: "*", ...by("$this") },
    "subtype:iti65": { sliceName: "iti65", ...one, ...coding("urn:ihe:event-type-code", "ITI-65") },
    recorded: one,
    outcome: one,
    agent: { min: 2, max: "*", ...by("type") },
    ...agents,
    entity: { min: 2, max: "*", ...by("type") },
    ...slice("entity", "patient", one, {
      type: { ...one, ...coding(entityTypes, "1") },
      role: { ...one, ...coding(entityRoles, "1") },
      what: { ...one, ...to("Patient") },
    }),
    ...slice("entity", "submissionSet", one, {
      type: { ...one, ...coding(entityTypes, "2") },
      role: { ...one, ...coding(entityRoles, "20") },
      what: { ...one, ...to("List") },
    }),
  };
}

function disclosed(type, action, keeper) {
  const agents = {
    ...slice("agent", "source", one, { type: { ...one, ...concept(...source) }, who: one, network: one }),
    ...slice("agent", "recipient", one, { type: { ...one, ...concept(...destination) }, who: one, network: one }),
    ...slice("agent", "custodian", { min: 0, max: "1" }, { type: { ...one, ...concept("http://snomed.info/sct", "159541003") }, who: one }),
    ...slice("agent", "authorizer", { min: 0, max: "1" }, { type: { ...one, ...concept("http://snomed.info/sct", "429577009") }, who: one }),
  };
  agents[`agent:${keeper}`] = { ...agents[`agent:${keeper}`], ...recorder };
  return {
    modifierExtension: none,
    type: { ...one, ...coding(dcm, type) },
    action: { patternCode: action },
    subtype: { min: 1, max: "*", ...by("$this") },
    "subtype:disclosure": {
      sliceName: "disclosure",
      ...one,
      ...coding("http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle", "disclose"),
    },
    recorded: one,
    outcome: one,
    agent: { min: 2, max: "*", ...by("type") },
    ...agents,
    entity: { min: 2, max: "*", ...by("type") },
    ...patient,
  };
}

const authorized = {
  modifierExtension: none,
  type: { ...one, ...coding(dcm, "110113") },
  subtype: { ...one, ...set("AuthZsubTypeVS") },
  action: { patternCode: "E" },
  recorded: one,
  outcome: one,
  agent: { min: 2, max: "*", ...by("type") },
  ...slice("agent", "client", one, {
    type: { ...one, ...concept(dcm, "110150") },
    who: one, network: one, role: none, altId: none, name: none, location: none, media: none, purposeOfUse: none,
  }),
  ...slice("agent", "user", one, {
    type: { ...one, ...concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP") },
    who: one, requestor: { ...one, patternBoolean: true }, altId: none, location: none, media: none, network: none,
  }),
  ...slice("agent", "userorg", one, {
    type: { ...one, ...concept("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV") },
    who: one, requestor: { ...one, patternBoolean: false },
    role: none, altId: none, name: none, location: none, policy: none, media: none, network: none,
  }),
  ...slice("agent", "authorizer", { ...one, ...recorder }, {
    type: { ...one, ...concept("http://terminology.hl7.org/CodeSystem/extra-security-role-type", "authserver") },
    who: one, requestor: { ...one, patternBoolean: false },
    role: none, altId: none, name: none, location: none, policy: none, media: none, network: none, purposeOfUse: none,
  }),
  entity: { min: 2, max: "*", ...by("type", "closed") },
  ...patient,
  ...slice("entity", "consent", { min: 1, max: "*" }, {
    type: { ...one, ...coding("http://hl7.org/fhir/resource-types", "Consent") },
    what: one,
  }),
  ...slice("entity", "token", { min: 0, max: "1" }, {
    type: { ...one, ...coding(userAgents, "UserOauthAgent") },
    what: one,
    "what.identifier": one,
    "what.identifier.value": one,
  }),
};

const read = (...parts) => rest("R", set("AllReadVS"), destination, source, entities(...parts));
const search = (...parts) => rest("E", set("AllSearchVS"), source, destination, entities(...parts));
const create = (...parts) => rest("C", created, source, destination, entities(...parts));
const update = (...parts) => rest("U", set("AllUpdateVS"), source, destination, entities(...parts));
const remove = (...parts) =>
  rest("D", deleted, [dcm, "110150"], ["http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian"], entities(...parts));
const retrieved = { "entity:data.role": { ...one, ...coding(entityRoles, "3") } };
const published = { "entity:data.what": { ...one, ...to("DocumentReference") } };

// Only the minimum of entities that the profile itself names: PatientQuery does not raise it to two.
const patientSearch = { ...search(query, patient), entity: { min: 1, max: "*", ...by("type") } };

const audits = [
  define(balp("IHE.BasicAudit.Read"), "AuditEvent", read(data)),
  define(balp("IHE.BasicAudit.PatientRead"), "AuditEvent", read(data, patient)),
  define(balp("IHE.BasicAudit.Query"), "AuditEvent", search(query)),
  define(balp("IHE.BasicAudit.PatientQuery"), "AuditEvent", patientSearch),
  define(balp("IHE.BasicAudit.Create"), "AuditEvent", create(data)),
  define(balp("IHE.BasicAudit.PatientCreate"), "AuditEvent", create(data, patient)),
  define(balp("IHE.BasicAudit.Update"), "AuditEvent", update(data)),
  define(balp("IHE.BasicAudit.PatientUpdate"), "AuditEvent", update(data, patient)),
  define(balp("IHE.BasicAudit.Delete"), "AuditEvent", remove(data)),
  define(balp("IHE.BasicAudit.PatientDelete"), "AuditEvent", remove(data, patient)),
  define(balp("IHE.BasicAudit.AuthZconsent"), "AuditEvent", authorized),
  define(balp("IHE.BasicAudit.PrivacyDisclosure.Source"), "AuditEvent", disclosed("110106", "R", "source")),
  define(balp("IHE.BasicAudit.PrivacyDisclosure.Recipient"), "AuditEvent", disclosed("110107", "C", "recipient")),
  define(balp("IHE.BasicAudit.OAUTHaccessTokenUse.Opaque"), "AuditEvent", {
    agent: by("type"),
    ...slice("agent", "oUser", { min: 1, max: "*" }, {
      type: { ...one, ...concept(userAgents, "UserOauthAgent") }, requestor: { ...one, patternBoolean: true }, policy: one,
    }),
  }),
  define(balp("IHE.BasicAudit.OAUTHaccessTokenUse.Minimal"), "AuditEvent", {
    agent: by("type"),
    ...slice("agent", "oUser", { min: 1, max: "*" }, {
      type: { ...one, ...concept(userAgents, "UserOauthAgent") }, requestor: { ...one, patternBoolean: true },
      policy: one, media: none, network: none,
    }),
  }),
  define(balp("IHE.BasicAudit.OAUTHaccessTokenUse.Comprehensive"), "AuditEvent", {
    agent: by("type"),
    ...slice("agent", "oClient", one, {
      type: { ...one, ...concept(dcm, "110150") }, who: one, "who.identifier": one, "who.identifier.value": one, media: none,
    }),
    ...slice("agent", "oUser", { min: 0, max: "1" }, {
      type: { ...one, ...concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP") },
      who: one, "who.identifier": one, requestor: { ...one, patternBoolean: true }, policy: one, media: none, network: none,
    }),
  }),
  define(mhd("IHE.MHD.ProvideBundle.Audit.Source"), "AuditEvent", provided("110106", "R", "documentSource")),
  define(mhd("IHE.MHD.ProvideBundle.Audit.Recipient"), "AuditEvent", provided("110107", "C", "documentRecipient")),
  define(mhd("IHE.MHD.FindDocumentReferences.Audit.Consumer"), "AuditEvent", transaction(67, "client", patientSearch)),
  define(mhd("IHE.MHD.FindDocumentReferences.Audit.Responder"), "AuditEvent", transaction(67, "server", patientSearch)),
  define(mhd("IHE.MHD.RetrieveDocument.Audit.Consumer"), "AuditEvent", transaction(68, "client", read(data, patient), retrieved)),
  define(mhd("IHE.MHD.RetrieveDocument.Audit.Responder"), "AuditEvent", transaction(68, "server", read(data, patient), retrieved)),
  define(mhd("IHE.MHD.SimplifiedPublish.Audit.Source"), "AuditEvent", transaction(105, "client", create(data, patient), published)),
  define(mhd("IHE.MHD.SimplifiedPublish.Audit.Recipient"), "AuditEvent", transaction(105, "server", create(data, patient), published)),
];

export const definitions = [...identifiers, ...extensions, ...lists, ...answers, ...audits];
