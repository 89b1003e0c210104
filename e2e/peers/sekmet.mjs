// The micro hospital system of sekmet-fhir as a peer: its client with SMART Backend Services, our scenario in JSON and
// in XML with its own validation of what it is answered, and as much of its own conformance test as a gateway to
// documents can pass.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createPrivateKey } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { check, fhir, patientIdentifier, run, say } from "./backend.mjs";
import { python } from "./python.mjs";

const scenario = fileURLToPath(new URL("./sekmet/document_sharing.yaml", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "willis-sekmet-"));
const [jwk] = JSON.parse(readFileSync(process.env.PEER_JWKS, "utf8")).keys;
writeFileSync(`${folder}/key.pem`, createPrivateKey({ key: jwk, format: "jwk" }).export({ format: "pem", type: "pkcs8" }), { mode: 0o600 });

const peer = (format) => ({
  base_url: fhir,
  format,
  auth: {
    type: "smart",
    client_id: process.env.PEER_CLIENT,
    private_key_path: `${folder}/key.pem`,
    kid: jwk.kid,
    alg: jwk.alg,
    scope: process.env.PEER_SCOPE ?? "system/*.cruds",
  },
});
const [mrnSystem, mrn] = patientIdentifier.split("|");
const settings = {
  base_url: "http://127.0.0.1:9/fhir",
  host: "127.0.0.1",
  data_dir: `${folder}/data`,
  db_path: `${folder}/sekmet.db`,
  identifiers: { mrn: mrnSystem },
  peers: { willis: peer("json"), "willis-xml": peer("xml") },
};
// JSON is YAML too.
writeFileSync(`${folder}/settings.yaml`, JSON.stringify(settings, null, 2), { mode: 0o600 });

const [recipientType, recipient] = (process.env.PEER_RECIPIENT ?? "Organization urn:oid:2.25.1|hospital").split(" ");
const organization = process.env.PEER_ORGANIZATION ?? "urn:oid:2.25.1|hospital";
const variables = {
  mrn,
  policy: process.env.PEER_POLICY ?? "urn:willis:policy:consent",
  until: new Date(Date.now() + 30 * 86_400_000).toISOString(),
  organization_system: organization.split("|")[0],
  organization_value: organization.split("|")[1],
  recipient_type: recipientType,
  recipient_system: recipient.split("|")[0],
  recipient_value: recipient.split("|")[1],
};

// What of conformance_smoke has to pass, and what may fail or be left out since the gateway keeps no clinical resources,
// deletes nothing and has one version of each patient. A step that is in neither list is a surprise.
const smoke = {
  pass: [
    "CapabilityStatement",
    "set",
    "Create Patient",
    "Read Patient",
    "Conditional create does not duplicate",
    "Search by identifier finds exactly one",
    "Answers FHIR XML when asked (Accept application/fhir+xml)",
    "Paging returns next link",
    "Invalid resource is rejected",
  ],
  may: [
    "Update with correct If-Match",
    "Stale If-Match is rejected (409/412)",
    "vread first version",
    "Instance history",
    "Transaction with urn:uuid references",
    "Search Observation by patient with _include",
    "Searchset entries carry search.mode (match / include)",
    "Delete",
    "Read after delete is 410 Gone (or 404)",
  ],
};

/** A scenario's result with one of the peers. */
function play(name, scenario) {
  const variables_ = Object.entries(variables).flatMap(([key, value]) => ["--var", `${key}=${value}`]);
  const reports = mkdtempSync(`${folder}/reports-`);
  const args = ["scenario", "run", scenario, "--peer", name, "--no-serve", "--config", `${folder}/settings.yaml`, "--report-dir", reports];
  let said;
  try {
    said = execFileSync(`${python()}/sekmet`, [...args, ...variables_], { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  } catch (error) {
    // It ends with 1 if any step failed, which its report tells.
    if (error.status !== 1) throw error;
    said = error.stdout;
  }
  const file = readdirSync(reports, { recursive: true }).find((path) => path.endsWith(".json"));
  const report = JSON.parse(readFileSync(join(reports, file), "utf8"));
  const results = Array.isArray(report) ? report : (report.results ?? report.scenarios ?? [report]);
  check(results.length === 1, `${said}\n${results.length} results`);
  return results[0];
}

try {
  const version = execFileSync(`${python()}/pip`, ["show", "sekmet-fhir"], { encoding: "utf8" }).match(/^Version: (.*)$/m)[1];
  await run("sekmet-fhir", version, () => {
    for (const name of ["willis", "willis-xml"]) {
      const { steps, status } = play(name, scenario);
      const bad = steps.filter((step) => step.status !== "passed");
      check(status === "passed" && bad.length === 0, `${name}: ${bad.map((step) => `${step.name}: ${step.message}`).join("\n")}`);
      check(steps.length >= 25, `${steps.length} steps`);
      say(`played the scenario as ${name}`, { steps: steps.length });
    }
    const { steps } = play("willis", "conformance_smoke");
    const named = ({ name }) => (name.startsWith("set") ? "set" : name);
    for (const step of steps) check([...smoke.pass, ...smoke.may].includes(named(step)), `conformance_smoke has a new step: ${step.name}`);
    for (const name of smoke.pass) {
      const step = steps.find((one) => named(one) === name);
      check(step?.status === "passed", `conformance_smoke: ${name}: ${step?.message}`);
    }
    const passed = steps.filter(({ status }) => status === "passed").length;
    say("played conformance_smoke", { steps: steps.length, passed });
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
