// What the peers in Node have in common: where the gateway is, SMART Backend Services, and what they send. The
// environment is the one that backend.py describes.
import { createHash, createPrivateKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

export const fhir = (process.env.PEER_FHIR ?? "").replace(/\/$/, "");
export const patientIdentifier = process.env.PEER_PATIENT ?? "";

const done = [];

export function say(did, more = {}) {
  done.push({ did, ...more });
}

export function check(held, what) {
  if (!held) throw new Error(what);
}

/** A client's keys: its private ones in files of a folder, its public ones to be registered at the gateway. */
export function newClient(folder, id, alg = "RS384") {
  mkdirSync(folder, { recursive: true });
  const made = alg === "RS384" ? generateKeyPairSync("rsa", { modulusLength: 3072 }) : generateKeyPairSync("ec", { namedCurve: "P-384" });
  const kid = `${id}-1`;
  const mode = { mode: 0o600 };
  const jwks = `${folder}/${id}.jwks.json`;
  const pem = `${folder}/${id}.pem`;
  writeFileSync(jwks, JSON.stringify({ keys: [{ ...made.privateKey.export({ format: "jwk" }), kid, alg, use: "sig" }] }), mode);
  writeFileSync(pem, made.privateKey.export({ format: "pem", type: "pkcs8" }), mode);
  return { id, alg, kid, jwks, pem, public: { keys: [{ ...made.publicKey.export({ format: "jwk" }), kid, alg, use: "sig", key_ops: ["verify"] }] } };
}

export function assertion(audience, { client = process.env.PEER_CLIENT, jwks = process.env.PEER_JWKS, claims = {} } = {}) {
  const [jwk] = JSON.parse(readFileSync(jwks, "utf8")).keys;
  const head = { alg: jwk.alg, kid: jwk.kid, typ: "JWT" };
  const body = { iss: client, sub: client, aud: audience, exp: Math.floor(Date.now() / 1000) + 240, jti: randomUUID(), ...claims };
  const text = [head, body].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  const key = { key: createPrivateKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" };
  return `${text}.${sign("sha384", Buffer.from(text), key).toString("base64url")}`;
}

/** The token endpoint's answer. */
export async function askForToken(endpoint, { scope = process.env.PEER_SCOPE ?? "system/*.rs", ...how } = {}) {
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    scope,
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: how.assertion ?? assertion(endpoint, how),
  });
  const answer = await fetch(endpoint, { method: "POST", body: form, headers: { accept: "application/json" } });
  return { status: answer.status, headers: answer.headers, body: await answer.json() };
}

export async function bearer(base = fhir, how = {}) {
  const configuration = await (await fetch(`${base}/.well-known/smart-configuration`)).json();
  const { status, body } = await askForToken(configuration.token_endpoint, how);
  check(status === 200, `the token request is answered with ${status}: ${JSON.stringify(body)}`);
  return body.access_token;
}

/** One of payloads/, with its {{placeholders}} filled. */
export function payload(name, values) {
  const [recipientType, recipient] = (process.env.PEER_RECIPIENT ?? "Organization urn:oid:2.25.1|hospital").split(" ");
  const organization = process.env.PEER_ORGANIZATION ?? "urn:oid:2.25.1|hospital";
  const now = new Date();
  const oid = () => `urn:oid:2.25.${BigInt(`0x${randomUUID().replaceAll("-", "")}`)}`;
  const all = {
    now: now.toISOString(),
    start: now.toISOString(),
    end: new Date(now.getTime() + 30 * 86_400_000).toISOString(),
    uniqueId: oid(),
    submission: oid(),
    list: `urn:uuid:${randomUUID()}`,
    document: `urn:uuid:${randomUUID()}`,
    binary: `urn:uuid:${randomUUID()}`,
    policy: process.env.PEER_POLICY ?? "urn:willis:policy:consent",
    recipientType,
    recipientSystem: recipient.split("|")[0],
    recipientValue: recipient.split("|")[1],
    organizationSystem: organization.split("|")[0],
    organizationValue: organization.split("|")[1],
    ...values,
  };
  let text = readFileSync(new URL(`./payloads/${name}.json`, import.meta.url), "utf8");
  for (const [key, value] of Object.entries(all)) {
    // A number stands without the placeholder's quotation marks.
    const here = typeof value === "number" ? `"{{${key}}}"` : `{{${key}}}`;
    text = text.replaceAll(here, () => JSON.stringify(value).replace(/^"|"$/g, ""));
  }
  check(!text.includes("{{"), `${name} is filled`);
  return JSON.parse(text);
}

export function encoded(data) {
  const bytes = Buffer.from(data);
  return { data: bytes.toString("base64"), size: bytes.length, hash: createHash("sha1").update(bytes).digest("base64") };
}

/** Runs a scenario, prints what was done as one JSON object, and ends with 1 if anything did not hold. */
export async function run(peer, version, scenario) {
  let failed = null;
  try {
    await scenario();
  } catch (error) {
    failed = `${error}${error.response ? ` ${JSON.stringify(error.response.data).slice(0, 500)}` : ""}`;
    console.error(error);
  }
  console.log(JSON.stringify({ peer, version, ok: failed === null, failed, done }));
  process.exitCode = failed === null ? 0 : 1;
}
