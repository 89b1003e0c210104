// Audit events against IHE's profiles for them: the basic ones of BALP, and MHD's.

const basic = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit";
const mhd = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD";

/**
 * Problems of an audit event: of each known profile that it declares, or else of the one that fits what happened. An
 * event for which no profile is known is a problem too.
 */
export function balp(profiles, event) {
  const declared = (event.meta?.profile ?? []).filter((url) => profiles.knows(url));
  const urls = declared.length > 0 ? declared : told(event);
  if (urls.length === 0) return ["AuditEvent: is of no kind that IHE profiles"];
  return urls.flatMap((url) => profiles.check(event, url).problems.map((line) => `${line} [${url.split("/").pop()}]`));
}

/** Which profiles are about what such an event says: its type, its subtypes, and whether a patient is in it. */
export function told({ type, subtype = [], entity = [], agent = [], source }) {
  const codes = subtype.map(({ code }) => code);
  const about = entity.some((one) => one.type?.code === "1") ? "Patient" : "";
  const keeper = (code) => agent.some((one) => one.type?.coding?.some((each) => each.code === code) && same(one.who, source?.observer));
  if (codes.includes("ITI-65")) return [`${mhd}.ProvideBundle.Audit.${type?.code === "110106" ? "Source" : "Recipient"}`];
  if (codes.includes("ITI-67")) return [`${mhd}.FindDocumentReferences.Audit.${keeper("110152") ? "Responder" : "Consumer"}`];
  if (codes.includes("ITI-68")) return [`${mhd}.RetrieveDocument.Audit.${keeper("110153") ? "Responder" : "Consumer"}`];
  if (codes.includes("ITI-105")) return [`${mhd}.SimplifiedPublish.Audit.${keeper("110152") ? "Recipient" : "Source"}`];
  if (codes.some((code) => code?.startsWith("AuthZ-"))) return [`${basic}.AuthZconsent`];
  if (codes.includes("disclose")) return [`${basic}.PrivacyDisclosure.${type?.code === "110107" ? "Recipient" : "Source"}`];
  const kinds = { read: "Read", vread: "Read", create: "Create", update: "Update", patch: "Update", delete: "Delete" };
  const kind = codes.map((code) => kinds[code] ?? (code?.startsWith("search") ? "Query" : undefined)).find(Boolean);
  return kind ? [`${basic}.${about}${kind}`] : [];
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
