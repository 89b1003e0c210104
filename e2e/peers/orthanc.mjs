// Orthanc as a hospital's picture archive, on loopback ports and in a folder of its own: it takes files by DICOM's
// C-STORE, and it retrieves studies from the gateway as a DICOMweb client. Needs Debian's orthanc, orthanc-dicomweb
// and dcmtk.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { bearer, check, run, say } from "./backend.mjs";

const program = ["/usr/sbin/Orthanc", "/usr/bin/Orthanc"].find(existsSync);
const plugin = ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so"].find(existsSync);

/** Why Orthanc can't run here, if it can't. */
export function missing() {
  return program && plugin && existsSync("/usr/bin/storescu") ? undefined : "on Debian, apt-get install --no-install-recommends orthanc orthanc-dicomweb dcmtk";
}

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** A running Orthanc. `servers` are DICOMweb servers by name: { Url, HttpHeaders }. */
export async function start(servers = {}) {
  if (missing()) throw new Error(missing());
  const folder = mkdtempSync(join(tmpdir(), "willis-orthanc-"));
  const [http, dicom] = [await freePort(), await freePort()];
  const configuration = {
    Name: "willis-peer",
    StorageDirectory: `${folder}/storage`,
    IndexDirectory: `${folder}/index`,
    Plugins: [plugin],
    HttpPort: http,
    DicomPort: dicom,
    DicomAet: "PEER",
    // It listens on all addresses and has no setting against that: only this machine is served.
    RemoteAccessAllowed: false,
    DicomAlwaysAllowStore: false,
    DicomAlwaysAllowEcho: false,
    DicomCheckCalledAet: true,
    DicomCheckModalityHost: true,
    DicomModalities: { source: ["SOURCE", "127.0.0.1", 104] },
    AuthenticationEnabled: false,
    StorageCompression: false,
    OverwriteInstances: false,
    // A study is complete when nothing of it came for a second.
    StableAge: 1,
    HttpTimeout: 60,
    DicomWeb: { Enable: true, Root: "/dicom-web/", EnableWado: false, Servers: servers },
  };
  const file = `${folder}/orthanc.json`;
  writeFileSync(file, JSON.stringify(configuration, null, 2), { mode: 0o600 });
  const process_ = spawn(program, [file, `--logfile=${folder}/log`], { stdio: "ignore" });
  const address = `http://127.0.0.1:${http}`;
  const deadline = Date.now() + 30_000;
  while (!(await fetch(`${address}/system`).catch(() => undefined))?.ok) {
    if (process_.exitCode !== null || Date.now() > deadline) {
      process_.kill("SIGKILL");
      const log = existsSync(`${folder}/log`) ? readFileSync(`${folder}/log`, "utf8").slice(-2000) : "";
      rmSync(folder, { recursive: true, force: true });
      throw new Error(`Orthanc does not start:\n${log}`);
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  return {
    address,
    dicom,
    folder,
    log: () => readFileSync(`${folder}/log`, "utf8"),
    /** Takes the files of a folder by C-STORE, in their own transfer syntax. */
    store(files) {
      execFileSync("storescu", ["--aetitle", "SOURCE", "--call", "PEER", "--propose-lossless", "127.0.0.1", String(dicom), ...files], { stdio: "pipe" });
    },
    async call(path, body) {
      const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
      const answer = await fetch(`${address}${path}`, how);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`Orthanc answers ${path} with ${answer.status}: ${text.slice(0, 500)}`);
      return text === "" ? undefined : JSON.parse(text);
    },
    /** All files that it has. */
    async files() {
      const ids = await this.call("/instances");
      const load = async (id) => Buffer.from(await (await fetch(`${address}/instances/${id}/file`)).arrayBuffer());
      return Promise.all(ids.map(load));
    },
    async end() {
      if (process_.exitCode === null) {
        const ended = new Promise((done) => process_.once("exit", done));
        process_.kill("SIGTERM");
        await ended;
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function filesIn(folder) {
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile());
}

/** What the archive of one hospital has reaches that of another through the gateway, unchanged. */
async function scenario() {
  const files = filesIn(process.env.PEER_STUDY_FOLDER);
  const wanted = files.map((path) => readFileSync(path));
  const token = await bearer();
  const Url = process.env.PEER_DICOMWEB.replace(/\/?$/, "/");
  const orthanc = await start({
    willis: { Url, HttpHeaders: { Authorization: `Bearer ${token}` } },
    stranger: { Url },
  });
  try {
    const source = await start();
    let study;
    try {
      source.store(files);
      const [id] = await source.call("/studies");
      study = (await source.call(`/studies/${id}`)).MainDicomTags.StudyInstanceUID;
      const kept = await source.files();
      check(kept.length === files.length, `${kept.length} files are stored`);
    } finally {
      await source.end();
    }
    say("stored the study by C-STORE", { files: files.length });

    const found = await orthanc.call("/dicom-web/servers/willis/qido", { Uri: "/studies", Arguments: { StudyInstanceUID: study } });
    check(JSON.stringify(found).includes(study), "the study is found");
    const nothing = await orthanc.call("/dicom-web/servers/willis/qido", { Uri: "/studies", Arguments: { PatientID: "nobody's" } });
    check(Array.isArray(nothing) && nothing.length === 0, "nothing is found for nobody");
    say("found the study by QIDO-RS");

    await orthanc.call("/dicom-web/servers/willis/retrieve", { Resources: [{ Study: study }], Synchronous: true });
    const kept = await orthanc.files();
    check(kept.length === wanted.length, `${kept.length} files are retrieved`);
    for (const bytes of kept) check(wanted.some((each) => each.equals(bytes)), "each file is the same byte by byte");
    say("retrieved the study by WADO-RS", { files: kept.length });

    let refused = "nothing";
    try {
      await orthanc.call("/dicom-web/servers/stranger/qido", { Uri: "/studies", Arguments: {} });
    } catch (error) {
      refused = String(error);
    }
    check(refused !== "nothing", "without a token nothing is found");
    say("was refused without a token");
  } finally {
    if (process.env.PEER_ORTHANC_LOG) writeFileSync(process.env.PEER_ORTHANC_LOG, orthanc.log());
    await orthanc.end();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const version = program ? execFileSync(program, ["--version"], { encoding: "utf8" }).split("\n")[0].replace(/^.*?Orthanc /i, "") : "none";
  await run("Orthanc", version, scenario);
}
