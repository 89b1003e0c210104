// Judges what was answered, as the recorder wrote it down: each resource by the validators, each answer by what HTTP
// and FHIR ask around its resource.
import { all } from "./validators.mjs";
import { fromXml } from "./xml.mjs";

const mhd = (name) => `https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.${name}`;

/** Everything that was answered under /fhir in FHIR's JSON or XML, with the resource that it says. */
export function answered(exchanges) {
  return exchanges
    .filter(({ url, whole, response }) => url.startsWith("/fhir") && whole && response.length > 0 && /fhir\+(json|xml)/.test(response.type ?? ""))
    .map((exchange) => {
      const { text, type } = exchange.response;
      if (type.includes("xml")) return { exchange, format: "XML", ...fromXml(text) };
      try {
        return { exchange, format: "JSON", resource: JSON.parse(text), problems: [] };
      } catch (error) {
        return { exchange, format: "JSON", problems: [String(error)] };
      }
    });
}

/**
 * How many resources of each type were seen in each format, what is wrong with them, and what could not be checked.
 * `address` is where the gateway was asked.
 */
export async function judged(exchanges, address, validators) {
  const counts = { JSON: {}, XML: {} };
  const wrong = new Set();
  const unchecked = new Set();
  // The same answer need not be checked twice.
  const seen = new Map();
  for (const { exchange, format, resource, problems } of answered(exchanges)) {
    const found = [...problems];
    if (resource) {
      for (const one of all(resource)) counts[format][one.resourceType] = (counts[format][one.resourceType] ?? 0) + 1;
      const profiles = asked(exchange, resource);
      const once = `${exchange.response.sha256} ${profiles}`;
      if (!seen.has(once)) seen.set(once, await validators.check(resource, profiles));
      found.push(...seen.get(once).problems, ...conduct(exchange, resource, address));
      for (const line of seen.get(once).unchecked) unchecked.add(line);
    }
    for (const line of found) wrong.add(`${exchange.method} ${exchange.url} ${exchange.status} (${format}): ${line}`);
  }
  return { counts, wrong: [...wrong], unchecked: [...unchecked] };
}

/** What is wrong with all other answers, and how many of DICOMweb's there were. */
export function others(exchanges) {
  const wrong = [];
  const dicom = { json: 0, multipart: 0 };
  for (const { method, url, status, whole, response, fault } of exchanges) {
    const where = `${method} ${url} ${status}`;
    if (!whole) {
      // A client that asks at three places for the same gives up on two, once one has answered.
      if (!/\/\.well-known\/|\/metadata/.test(url)) wrong.push(`${where}: broke off, ${fault}`);
      continue;
    }
    const type = response.type ?? "";
    if (status >= 500) wrong.push(`${where}: ${response.text}`);
    else if (url.startsWith("/dicom-web") && status === 200) {
      if (/^application\/dicom\+json/.test(type)) {
        dicom.json += 1;
        if (!Array.isArray(JSON.parse(response.text))) wrong.push(`${where}: no list`);
      } else if (/^multipart\/related;/.test(type) && /type="?application\/dicom"?/.test(type) && /boundary=/.test(type)) dicom.multipart += 1;
      else if (!url.includes("/frames/")) wrong.push(`${where}: ${type}`);
    } else if (url.startsWith("/fhir") && response.length > 0 && !/fhir\+(json|xml)/.test(type)) {
      if (!/\/Binary\/|\/\.well-known\//.test(url)) wrong.push(`${where}: ${type}`);
    }
  }
  return { wrong, dicom };
}

/** Profiles that an answer has to conform to by what was asked, beside those that it declares. */
function asked({ method, url, status }, resource) {
  const path = url.split("?")[0].replace(/^\/fhir\/?/, "");
  if (status >= 400) return [];
  if (method === "POST" && path === "") return [mhd("ProvideDocumentBundleResponse")];
  if ((path === "DocumentReference" && method === "GET") || path === "DocumentReference/_search") return [mhd("FindDocumentReferencesResponseMessage")];
  return resource.resourceType === "DocumentReference" ? [mhd("Minimal.DocumentReference")] : [];
}

/** What the specification asks of an answer around its resource. */
function conduct({ method, url, status, response: { type, headers } }, resource, address) {
  const problems = [];
  const base = `${address}/fhir/`;
  if (!/^application\/fhir\+(json|xml)(; ?charset=utf-8)?$/i.test(type)) problems.push(`media type ${type}`);
  if (status >= 400 && resource.resourceType !== "OperationOutcome") problems.push(`${status} with a ${resource.resourceType}`);
  if (status === 401 && !headers["www-authenticate"]) problems.push("401 without WWW-Authenticate");
  if (status === 201 && !headers.location?.startsWith(base)) problems.push(`201 with the Location ${headers.location}`);
  const read = status < 300 && method === "GET" && /^\/fhir\/[A-Za-z]+\/[^/?]+(\?.*)?$/.test(url);
  if (read && resource.resourceType !== "Binary" && headers.etag !== `W/"${resource.meta?.versionId}"`) {
    problems.push(`the ETag ${headers.etag} with version ${resource.meta?.versionId}`);
  }
  if (resource.type === "searchset") {
    if (!resource.link?.some(({ relation }) => relation === "self")) problems.push("a searchset without a link to itself");
    for (const { url: link } of resource.link ?? []) if (!link.startsWith(base)) problems.push(`a link to ${link}`);
    for (const entry of resource.entry ?? []) {
      if (!entry.search?.mode) problems.push("an entry without search mode");
      if (!entry.fullUrl?.startsWith(base)) problems.push(`a full URL ${entry.fullUrl}`);
    }
  }
  for (const one of all(resource)) {
    if (one.resourceType === "Consent" && !one.meta?.profile?.some((url) => url.includes("/IHE.PCF."))) problems.push("a consent of no profile");
    for (const { attachment } of one.resourceType === "DocumentReference" ? (one.content ?? []) : []) {
      if (!attachment?.url?.startsWith(`${base}Binary/`)) problems.push(`a document at ${attachment?.url}`);
    }
  }
  return problems;
}
