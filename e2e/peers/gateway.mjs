// The gateway that the peers meet: `willis dev`, a patient who grants whatever is asked, a stay that was handed over to
// the gateway's desk, a letter that comes by its watched folder, and an image archive that it asks for studies.
import { execFile, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const willis = process.env.WILLIS ?? "../target/debug/willis";
const samples = fileURLToPath(new URL("../../samples", import.meta.url));
const SYSTEM = "urn:oid:2.999.40";
const NUMBER = "peer-patient-1";
/** The image archive's own numbers, and the patient's among them. */
const ARCHIVE = "urn:oid:2.999.42";
const IN_ARCHIVE = "77654033";
/** Of samples/formats/enhanced-mr.dcm. */
const OTHER_STUDY = "1.2.826.0.1.3680043.2.1143.3365540476747857567072393009509418480";

/** A person's program: each command gives its JSON. */
function person(role, name, dev, folder) {
  const passphrase = `${folder}/${name}.passphrase`;
  writeFileSync(passphrase, `the passphrase of ${name}\n`, { mode: 0o600 });
  const env = {
    ...process.env,
    WILLIS_FOUNDING: `${dev}/founding`,
    WILLIS_KEYSTORE: `${folder}/${name}.keystore`,
    WILLIS_PASSPHRASE_FILE: passphrase,
  };
  const does = (...args) =>
    new Promise((done, failed) => {
      execFile(willis, [role, ...args, "--json"], { env, maxBuffer: 1 << 24 }, (error, out) => {
        if (error) failed(new Error(`willis ${role} ${args.join(" ")}: ${out}`));
        else done(JSON.parse(out));
      });
    });
  return { does, keystore: env.WILLIS_KEYSTORE, passphrase };
}

async function enrols(one, name, ...more) {
  const found = await one.does("enrol", "--name", name, "--birth-date", "1951-03-08", "--document-kind", "passport", "--document-number", "P-1", "--wait", "60", ...more);
  if (found.state !== "registered") throw new Error(JSON.stringify(found));
}

const asDoctor = (institution) => ["--licence-number", "L-1", "--institution", String(institution)];

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

async function ends(process_) {
  if (process_.exitCode !== null) return;
  const ended = new Promise((done) => process_.once("exit", done));
  process_.kill("SIGTERM");
  await ended;
}

/**
 * Starts all of it.
 *
 * Given: `publicAddress`, under which peers reach the gateway through the recorder and which it takes for its own;
 * `clients`, each { id, public } with a JWK set; `scope`, what each client may ask for at most; `folder`, an empty one;
 * `orthanc`, the address of an archive that is asked for new studies; `studyFolder`, with the files of the study that it has.
 *
 * Gives: `address`, where it listens; `patient`, "system|value"; `recipient`, "type system|value", whom consents are
 * for; `organization`, "system|value"; `policy`, a URI; `studyFolder`;
 * `otherStudy`, the UID of one that is stored and not granted; `desk`, the gateway's own patient resource; `end()`.
 */
export async function startGateway({ publicAddress, clients, scope, folder, orthanc, studyFolder }) {
  mkdirSync(folder, { recursive: true });
  const dev = `${folder}/dev`;
  const consortium = spawn(willis, ["dev", "--json", "--folder", dev], { stdio: ["ignore", "pipe", "inherit"] });
  const running = [consortium];
  let asking = true;
  const end = async () => {
    asking = false;
    for (const one of running.reverse()) await ends(one);
  };
  try {
    await new Promise((done, failed) => {
      createInterface({ input: consortium.stdout }).once("line", done);
      consortium.once("exit", (code) => failed(new Error(`willis dev ended with ${code}`)));
    });
    const patient = person("patient", "patient", dev, folder);
    const desk = person("doctor", "desk", dev, folder);
    const stranger = person("doctor", "stranger", dev, folder);
    await enrols(patient, "Chen Mei");
    await enrols(desk, "Desk", ...asDoctor(1));
    await enrols(stranger, "Zhou Min", ...asDoctor(2));

    // A study that another hospital stored and nobody granted.
    const uid = await stranger.does("uid");
    const { doctor: number } = await desk.does("uid");
    await patient.does("begin", "--institution", "2", "--uid", uid.uid, "--doctor", String(uid.doctor));
    const { episodes } = await stranger.does("handovers", "--wait", "30");
    await stranger.does("store", "--episode", String(episodes[0].episode), `${samples}/formats/enhanced-mr.dcm`);

    const port = await freePort();
    const inbox = `${folder}/watched/inbox`;
    mkdirSync(inbox, { recursive: true });
    for (const client of clients) writeFileSync(`${folder}/${client.id}.public.json`, JSON.stringify(client.public));
    const systems = clients.map(({ id }) => `[[systems]]\nid = "${id}"\nkeys = "${id}.public.json"\nscopes = "${scope}"\n`);
    const archive = orthanc ? `[intake.orthanc]\naddress = "${orthanc}"\npoll_seconds = 1\npatient_system = "${ARCHIVE}"\nearlier_studies = true\n` : "";
    const config = `${folder}/gateway.toml`;
    writeFileSync(
      config,
      `founding = "dev/founding"\nkeystore = "desk.keystore"\npassphrase_file = "desk.passphrase"\nfolder = "state"\n` +
        `listen = "127.0.0.1:${port}"\naddress = "${publicAddress}"\n\n` +
        `[intake.watch_folder]\nfolder = "watched"\nsettle_seconds = 1\npatient_system = "${SYSTEM}"\n\n${archive}\n${systems.join("\n")}`,
    );
    const gateway = spawn(willis, ["gateway", "--config", config], { stdio: "inherit", env: { ...process.env, RUST_LOG: "warn" } });
    running.push(gateway);
    const address = `http://127.0.0.1:${port}`;
    const deadline = Date.now() + 60_000;
    while (!(await fetch(`${address}/fhir/metadata`).catch(() => undefined))?.ok) {
      if (gateway.exitCode !== null || Date.now() > deadline) throw new Error("the gateway does not start");
      await new Promise((done) => setTimeout(done, 200));
    }

    // Whatever is asked is granted at once, of the stay that the gateway published into.
    const grants = async () => {
      while (asking) {
        try {
          const { requests } = await patient.does("requests", "--wait", "5");
          for (const one of requests) await patient.does("grant", one.request, "--episode", "2");
        } catch (error) {
          if (asking) console.error(String(error));
        }
      }
    };
    return {
      address,
      patient: `${SYSTEM}|${NUMBER}`,
      recipient: "Organization urn:oid:2.999.41|stroke-unit",
      organization: "urn:oid:2.999.41|hospital-1",
      policy: "urn:willis:consent",
      studyFolder,
      otherStudy: OTHER_STUDY,
      end,
      /** Enters the patient as a system of the hospital does, and lets the patient hand the stay over. */
      async begin(call) {
        const code = (await patient.does("inbox")).inbox;
        const entered = await call("POST", "Patient", {
          resourceType: "Patient",
          identifier: [
            { system: SYSTEM, value: NUMBER },
            { system: ARCHIVE, value: IN_ARCHIVE },
            { system: "urn:willis:uid", value: "new" },
            { system: "urn:willis:inbox", value: code },
          ],
        });
        const own = entered.identifier.find(({ system }) => system === "urn:willis:uid");
        await patient.does("begin", "--institution", "1", "--uid", own.value, "--doctor", String(number));
        // Under a name that is not taken until it is whole.
        mkdirSync(`${inbox}/${NUMBER}`);
        copyFileSync(`${samples}/formats/referral-letter.pdf`, `${inbox}/${NUMBER}/.letter.pdf`);
        renameSync(`${inbox}/${NUMBER}/.letter.pdf`, `${inbox}/${NUMBER}/letter.pdf`);
        grants();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}
