// The referral through the pages, in a real browser, and what the pages must refuse.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";

import { looked, pages, shot, start, tab, willis } from "./stage.mjs";

let stage;
let folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "willis-e2e-"));
  stage = await start();
});

after(async () => {
  await stage?.end();
  rmSync(folder, { recursive: true, force: true });
});

/** A call that no browser would make: any header can be set. */
function call(address, { method = "GET", path, headers = {}, body } = {}) {
  const url = new URL(address);
  return new Promise((done, failed) => {
    const request = http.request(
      { host: url.hostname, port: url.port, path: path ?? url.pathname + url.search, method, headers: { host: url.host, ...headers } },
      (answer) => {
        let text = "";
        answer.on("data", (piece) => (text += piece));
        answer.on("end", () => done({ status: answer.statusCode, headers: answer.headers, text }));
      },
    );
    request.on("error", failed);
    request.end(body);
  });
}

test("the pages refuse whoever was not given their address", async () => {
  const address = stage.pages.patient;
  const url = new URL(address);
  const place = url.pathname.split("/")[1];
  const entered = await call(address);
  assert.equal(entered.status, 303);
  const cookie = entered.headers["set-cookie"][0];
  assert.match(cookie, new RegExp(`; Path=/${place}; HttpOnly; SameSite=Strict$`));
  const own = { cookie: cookie.split(";")[0] };

  const home = await call(address, { path: `/${place}`, headers: own });
  assert.equal(home.status, 200);
  assert.match(home.headers["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(home.headers["cache-control"], "no-store");

  const nobody = [
    await call(address, { path: `/${place}` }),
    await call(address, { path: "/" }),
    await call(address, { path: `/${place}/assets/portal.css` }),
    await call(address, { path: `/${place}`, headers: { cookie: "willis=" + "0".repeat(64) } }),
    await call(address, { path: `/${place}/enter?code=${"0".repeat(32)}` }),
    await call(address, { path: `/${place}/enter` }),
  ];
  for (const answer of nobody) {
    assert.equal(answer.status, 403, answer.text);
    assert.doesNotMatch(answer.text, new RegExp(`${place}|Riverside|Eastern`));
  }

  for (const host of ["evil.example", `localhost:${url.port}`, "127.0.0.1", `127.0.0.1:${url.port}.evil.example`]) {
    const answer = await call(address, { path: `/${place}`, headers: { ...own, host } });
    assert.equal(answer.status, 421, host);
  }
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const foreign = [
    { ...own, ...form },
    { ...own, ...form, origin: "null" },
    { ...own, ...form, origin: "http://evil.example" },
    { ...own, ...form, origin: `http://127.0.0.1:${Number(url.port) + 1}` },
    { ...own, ...form, origin: url.origin, "sec-fetch-site": "cross-site" },
    { ...own, ...form, origin: url.origin, "sec-fetch-site": "same-site" },
  ];
  for (const headers of foreign) {
    const answer = await call(address, { method: "POST", path: `/${place}/lock`, headers });
    assert.equal(answer.status, 403, JSON.stringify(headers));
  }
  const read = await call(address, { path: `/${place}`, headers: { ...own, "sec-fetch-site": "cross-site" } });
  assert.equal(read.status, 403);
  assert.equal((await call(address, { path: `/${place}`, headers: own })).status, 200, "it is not locked");
});

test("a referral is played by hand: asked, granted to a team, opened, logged, revoked", async () => {
  const patient = await tab(stage, "patient", "phone");
  const doctor = await tab(stage, "receiving doctor");
  const colleague = await tab(stage, "colleague");

  // The patient's code.
  await patient.getByRole("link", { name: "My code" }).click();
  const code = (await patient.locator("button[data-copy]").getAttribute("data-copy")).trim();
  assert.match(code, /^[0-9a-f]{64}$/);
  await looked(assert, patient, "patient-code");

  // Asking. What is missing is said, and nothing that was typed is lost.
  await looked(assert, doctor, "doctor-empty");
  await doctor.getByRole("link", { name: "Ask a patient" }).click();
  await looked(assert, doctor, "doctor-ask");
  const purpose = "Stroke team, City University Hospital: you are being treated for a stroke now.";
  await doctor.getByLabel("The patient's code").fill(code.slice(0, 60));
  await doctor.getByLabel("Why you ask").fill(purpose);
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.locator("main").getByText("This was not done").waitFor();
  await shot(doctor, "doctor-failed");
  await doctor.getByRole("link", { name: "Back" }).click();
  assert.equal(await doctor.getByLabel("Why you ask").inputValue(), purpose);
  await doctor.getByLabel("The patient's code").fill(code);
  // With a colleague, who joins on an own machine; the patient is asked once both have signed.
  await doctor.getByLabel(/^Doctor \d+$/).check();
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.locator("main").getByText("was asked to join").waitFor();
  await looked(assert, doctor, "doctor-team");
  await colleague.locator("main").getByText("asks you to join a care team").waitFor();
  await looked(assert, colleague, "doctor-invited");
  assert.equal(await patient.locator(".card.asks").count(), 0, "nobody is asked before the team has signed");
  await colleague.getByRole("button", { name: "Join" }).click();
  await doctor.locator("main").getByText("This page changes by itself when the patient answers.").waitFor();
  assert.match(await doctor.locator("main").innerText(), /Team: Doctor \d+ and Doctor \d+/);
  await looked(assert, doctor, "doctor-waiting");

  // The patient sees who asks, from where, for what.
  await patient.getByRole("link", { name: "Home" }).click();
  const asks = patient.locator(".card.asks");
  await asks.waitFor();
  assert.equal(new Set((await asks.innerText()).match(/Doctor \d+ at City University Hospital/g)).size, 2);
  assert.match(await asks.innerText(), /you are being treated for a stroke now/);
  await looked(assert, patient, "patient-asked");
  await patient.getByRole("link", { name: /Look and decide/ }).click();
  const sentence = patient.locator(".sentence");
  assert.equal(await sentence.innerText(), "Choose from which stay.");
  for (const box of await patient.locator("input[type=checkbox]").all()) assert.equal(await box.isChecked(), false);
  await patient.getByLabel(/Your stay at Eastern District Hospital/).check();
  await patient.getByLabel(/Your stay at Riverside Community Hospital/).check();
  for (const name of ["imaging", "laboratory results", "medical history", "medication"]) {
    await patient.getByLabel(name, { exact: true }).check();
  }
  await patient.getByLabel("2 hours").check();
  await patient.waitForFunction(() => document.querySelector(".sentence").textContent.includes("may read"));
  assert.match(
    await sentence.innerText(),
    /^Doctor \d+ at City University Hospital and Doctor \d+ at City University Hospital may read medical history, laboratory results, imaging and medication from your stay at Eastern District Hospital and your stay at Riverside Community Hospital until .* UTC\+8\.$/,
  );
  await looked(assert, patient, "patient-granting");
  await patient.getByRole("button", { name: "Say so" }).click();
  await patient.locator("main").getByText("Granted, and recorded by the hospitals.").waitFor();
  await looked(assert, patient, "patient-grants");

  // The doctor's page changes by itself, without a step of the doctor's.
  await doctor.getByRole("button", { name: "Open everything that was granted (2)" }).waitFor();
  await looked(assert, doctor, "doctor-granted");
  await doctor.getByRole("button", { name: "Open everything that was granted (2)" }).click();
  await doctor.locator("aside .finding").first().waitFor();
  assert.equal(await doctor.locator("section.episode").count(), 2);
  assert.match(await doctor.locator("section.episode h2").allInnerTexts().then(String), /Eastern District Hospital/);
  assert.ok((await doctor.locator("main").getByText("Not granted, or not in this record").count()) >= 2, "what was not granted is marked");
  assert.match(await doctor.locator(".left").innerText(), /left/);
  await looked(assert, doctor, "doctor-timeline");

  // Rows as a clinician reads them, in part since not all was granted.
  await doctor.locator("section.episode a[href*='/records/']").filter({ hasNotText: "CT" }).first().click();
  await doctor.locator("main").getByText("Only the sections that were granted are here").waitFor();
  assert.ok((await doctor.locator("tbody tr").count()) > 5);
  for (const name of ["The patient", "Procedures", "Vital signs"]) {
    assert.equal(await doctor.locator("summary", { hasText: name }).count(), 0, `${name}: not granted`);
  }
  await looked(assert, doctor, "doctor-fhir");

  // An image: seen, its window moved, one key back.
  await doctor.keyboard.press("Escape");
  await doctor.locator("aside").waitFor();
  // A series is one entry, and one stack of slices.
  await doctor.locator("section.episode a").filter({ hasText: "(4 pictures)" }).first().click();
  const image = doctor.locator(".picture img");
  await image.waitFor();
  await doctor.waitForFunction(() => document.querySelector(".picture img").naturalWidth > 0);
  const grey = () =>
    image.evaluate((img) => {
      const canvas = document.createElement("canvas");
      canvas.width = img.naturalWidth;
      canvas.height = img.naturalHeight;
      const context = canvas.getContext("2d");
      context.drawImage(img, 0, 0);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      return data.reduce((sum, value, at) => (at % 4 === 0 ? sum + value : sum), 0);
    });
  await shot(doctor, "doctor-image-first");
  const first = await grey();
  const was = await image.getAttribute("src");
  await doctor.getByLabel(/^Level/).fill("-500");
  await doctor.waitForFunction((was) => document.querySelector(".picture img").getAttribute("src") !== was, was);
  await doctor.waitForFunction(() => document.querySelector(".picture img").complete);
  assert.notEqual(await grey(), first, "another level shows other greys");
  await looked(assert, doctor, "doctor-image");
  const stack = doctor.getByLabel(/^Slice/);
  const last = await stack.getAttribute("max");
  const shown = await grey();
  await stack.fill(last);
  await doctor.waitForFunction((last) => document.querySelector(".picture img").src.includes(`/${last}/picture.png`), last);
  await doctor.waitForFunction(() => document.querySelector(".picture img").complete);
  assert.match(await image.getAttribute("src"), /center=-500/, "the window stays");
  assert.equal(await doctor.locator("output[data-of=slice]").textContent(), "4");
  assert.notEqual(await grey(), shown, "another slice shows other greys");
  // On the slider the arrow keys are the slider's.
  await stack.blur();
  const slice = doctor.url();
  await doctor.keyboard.press("ArrowRight");
  await doctor.waitForURL((url) => String(url) !== slice);
  await doctor.waitForFunction(() => document.querySelector(".picture img")?.naturalWidth > 0);
  await doctor.keyboard.press("Escape");
  await doctor.locator("aside").waitFor();
  const timeline = doctor.url();

  // The colleague opens one of the records under an own name.
  await colleague.getByRole("link", { name: /Stroke team, City/ }).click();
  await colleague.getByRole("button", { name: /^Open [^e]/ }).first().click();
  await colleague.locator("main").getByText("Not granted, or not in this record").waitFor();

  // The patient's log: numbered, under the doctor's own name, proved.
  await patient.getByRole("button", { name: /What was read/ }).first().click();
  await patient.getByRole("heading", { name: "My access log" }).waitFor();
  const logged = await patient.locator("ol .card").allInnerTexts();
  for (const line of logged) assert.match(line, /^1\. Doctor \d+ at City University Hospital[\s\S]*proved from the chain/);
  await looked(assert, patient, "patient-log");
  await patient.getByRole("link", { name: "Back" }).click();
  await patient.getByRole("button", { name: /What was read/ }).nth(1).click();
  await patient.getByRole("heading", { name: "My access log" }).waitFor();
  logged.push(...(await patient.locator("ol .card").allInnerTexts()));
  const names = logged.map((line) => line.match(/Doctor \d+/)[0]).sort();
  assert.equal(names.length, 3);
  assert.equal(new Set(names).size, 2, `each member under an own name: ${names}`);

  // Taken back with one action, and shown as done only when final.
  await patient.getByRole("link", { name: "Home" }).click();
  for (let left = 2; left > 0; left -= 1) {
    await patient.getByRole("button", { name: /Take it back/ }).first().click();
    await patient.locator("main").getByText(/No hospital will open anything more for Doctor \d+ at City University Hospital and Doctor \d+ at City University Hospital\./).waitFor();
    assert.equal(await patient.getByRole("button", { name: /Take it back/ }).count(), left - 1);
  }
  await looked(assert, patient, "patient-revoked");
  await doctor.locator("main").getByText("Nothing more can be opened").waitFor();
  assert.equal(await doctor.locator("aside").count(), 0, "what was open is closed");
  await looked(assert, doctor, "doctor-revoked");
  // A page that was open, and the next access, are refused.
  await doctor.goto(timeline.replace(/$/, "/records/" + "00".repeat(32) + "/0"));
  await doctor.locator("main").getByText("This page is not here").waitFor();

  // The patient's own reading needs nobody.
  await patient.getByRole("link", { name: "My records" }).click();
  await looked(assert, patient, "patient-records");
  // Everything taken along, checked by who has the founding document, without a network.
  await patient.getByRole("button", { name: "Take everything with me" }).click();
  await patient.locator("main").getByText(/2 records and 2 grants, with their proofs, lie in/).waitFor();
  const along = (await patient.locator("main [role=status]").innerText()).match(/lie in (\S+)\./)[1];
  const founding = join(stage.folder, "dev", "founding");
  const checked = execFileSync(willis, ["proof", "export", along, "--founding", founding, "--json"], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(checked), { ok: true, records: 2, grants: 2, accesses: 3 });
  await patient.getByRole("button", { name: /Read it/ }).first().click();
  await patient.getByRole("heading", { name: "A record of yours" }).waitFor();
  await looked(assert, patient, "patient-opened");
  assert.deepEqual(patient.faults, []);
  assert.deepEqual(doctor.faults.filter((one) => !one.includes("404")), []);
});

test("a doctor seals a record from dropped files, and a hostile one stays text", async () => {
  const doctor = await tab(stage, "community doctor");
  await doctor.getByRole("link", { name: "My patients" }).click();
  await looked(assert, doctor, "doctor-patients");
  await doctor.locator("main ul a").first().click();
  const hostile = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=1>";
  const bundle = {
    resourceType: "Bundle",
    type: "collection",
    entry: [
      { resource: { resourceType: "Condition", id: "c", code: { text: hostile, coding: [{ system: "http://snomed.info/sct", code: "230690007" }] } } },
      { resource: { resourceType: "Patient", id: "p", name: [{ text: hostile }] } },
    ],
  };
  writeFileSync(join(folder, "hostile.json"), JSON.stringify(bundle));
  writeFileSync(join(folder, "note <b>.txt"), hostile);
  // A link is followed once the next page has begun; what is dropped there is taken once its script has run.
  await doctor.waitForLoadState();
  // Dropped, not chosen.
  // Dropped once more while the first is on its way: nothing of it is lost.
  await doctor.evaluate(
    (files) => {
      for (const [name, text] of files) {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([text], name, { type: "application/json" }));
        document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
      }
    },
    [["hostile.json", readFileSync(join(folder, "hostile.json"), "utf8")], ["beside.json", "{}"]],
  );
  await doctor.locator("main").getByText("What will be sealed as one record").waitFor();
  await doctor.locator("main").getByText(/^hostile\.json /).waitFor();
  await doctor.getByRole("button", { name: "take out beside.json" }).click();
  await doctor.locator("main").getByText(/^beside\.json /).waitFor({ state: "detached" });
  await doctor.locator("#files").setInputFiles(join(folder, "note <b>.txt"));
  await doctor.locator("main").getByText(/^note <b>\.txt \d+ B$/).waitFor();
  const card = await doctor.locator("section.card").innerText();
  for (const part of ["medical history", "personal details", "http://snomed.info/sct 230690007"]) assert.ok(card.includes(part), card);
  await looked(assert, doctor, "doctor-draft");
  const before = await doctor.getByRole("button", { name: /^Open/ }).count();
  await doctor.getByRole("button", { name: "Seal and store" }).click();
  await doctor.locator("main").getByText("Sealed on this machine, stored in the cloud, and recorded by the consortium.").waitFor();
  await looked(assert, doctor, "doctor-stored");
  assert.equal(await doctor.getByRole("button", { name: /^Open/ }).count(), before + 1);
  await doctor.getByRole("button", { name: /^Open/ }).first().click();
  await doctor.getByRole("heading", { name: "A record that you wrote" }).waitFor();
  const files = await doctor.locator("main ul a").count();
  assert.equal(files, 2);
  for (let at = 0; at < files; at += 1) {
    await doctor.locator("main ul a").nth(at).click();
    await doctor.locator("main").getByText("window.hacked = 1").first().waitFor();
    assert.equal(await doctor.evaluate(() => window.hacked), undefined);
    assert.equal(await doctor.locator("main img").count(), 0);
    await doctor.keyboard.press("Escape");
    await doctor.getByRole("heading", { name: "A record that you wrote" }).waitFor();
  }

  // Amended: a record of its own, with its history seen, and nothing replaced.
  await doctor.getByRole("link", { name: "Back" }).click();
  await doctor.getByRole("button", { name: /^Amend hostile\.json/ }).click();
  await doctor.getByRole("heading", { name: "Amendment" }).waitFor();
  writeFileSync(join(folder, "addendum.txt"), "The allergy that was noted is not one.");
  await doctor.locator("#files").setInputFiles(join(folder, "addendum.txt"));
  await doctor.locator("main").getByText("http://snomed.info/sct 230690007").count();
  await doctor.locator("main").getByText(/^addendum\.txt \d+ B$/).waitFor();
  await looked(assert, doctor, "doctor-amending");
  await doctor.getByRole("button", { name: "Seal and store" }).click();
  await doctor.locator("main").getByText("Sealed on this machine, stored in the cloud, and recorded by the consortium.").waitFor();
  const rows = await doctor.locator("main > ul.card > li").allInnerTexts();
  assert.match(rows[0], /addendum\.txt[\s\S]*Amends hostile\.json/);
  assert.match(rows[1], /hostile\.json[\s\S]*Was amended later/);
  await looked(assert, doctor, "doctor-amended");
  await doctor.getByRole("button", { name: "Open addendum.txt" }).click();
  await doctor.getByRole("button", { name: "Open the earlier record" }).click();
  await doctor.locator("main").getByText("hostile.json", { exact: false }).first().waitFor();
  assert.equal(await doctor.locator("main ul a").count(), 2);

  // The patient sees the same, by the doctors' receipts.
  const patient = await tab(stage, "patient", "phone");
  await patient.getByRole("link", { name: "My records" }).click();
  await patient.waitForFunction(() => [...document.querySelectorAll("main button")].filter((one) => one.textContent.includes("Read it")).length >= 4);
  for (let at = 0; ; at += 1) {
    await patient.getByRole("button", { name: /Read it/ }).nth(at).click();
    await patient.getByRole("heading", { name: "A record of yours" }).waitFor();
    if (await patient.getByRole("button", { name: "Open the earlier record" }).count()) break;
    await patient.getByRole("link", { name: "Back" }).click();
    await patient.getByRole("heading", { name: "My records" }).waitFor();
  }
  await looked(assert, patient, "patient-amendment");
  await patient.getByRole("button", { name: "Open the earlier record" }).click();
  await patient.locator("main ul a").nth(1).waitFor();
  assert.deepEqual([...doctor.faults, ...patient.faults], []);
});

test("a family agent is appointed, grants on an own device, is seen and withdrawn", async () => {
  const agent = await tab(stage, "family agent", "phone");
  const patient = await tab(stage, "patient", "phone");
  const doctor = await tab(stage, "receiving doctor");
  await looked(assert, agent, "agent-empty");
  await agent.getByRole("link", { name: "Whom I act for" }).click();
  await agent.getByRole("button", { name: "Make an offer" }).click();
  const copy = agent.locator("button[data-copy]");
  await copy.waitFor();
  const offer = await copy.getAttribute("data-copy");

  await patient.getByRole("link", { name: "Family" }).click();
  await looked(assert, patient, "patient-family");
  await patient.getByLabel("The agent's offer").fill(offer);
  await patient.getByLabel(/Stay \d: Riverside/).check();
  await patient.getByLabel("medical history", { exact: true }).check();
  await patient.getByRole("button", { name: "Appoint" }).click();
  const download = patient.waitForEvent("download");
  await patient.getByRole("link", { name: "Save the file for the agent" }).click();
  const file = join(folder, "appointment.willis");
  await (await download).saveAs(file);
  await looked(assert, patient, "patient-appointed");

  await agent.getByLabel("The file that the patient gave you").setInputFiles(file);
  await agent.getByRole("button", { name: "Accept" }).click();
  await agent.locator("main").getByText("you may grant").waitFor();
  await looked(assert, agent, "agent-appointed");
  const code = (await agent.locator(".card .id").first().innerText()).trim();

  await doctor.goto(doctor.place + "/ask");
  await doctor.getByLabel("The patient's code").fill(code);
  await doctor.getByLabel("Why you ask").fill("Stroke team: the patient cannot answer.");
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.locator("main").getByText("This page changes by itself when the patient answers.").waitFor();

  await agent.getByRole("link", { name: "Requests" }).click();
  await agent.getByRole("link", { name: /Look and decide/ }).click();
  await looked(assert, agent, "agent-request");
  assert.equal(await agent.locator("input[type=checkbox]").count(), 1, "only what is in scope can be granted");
  await agent.getByLabel("medical history", { exact: true }).check();
  await agent.getByLabel("2 hours").check();
  await agent.getByRole("button", { name: "Grant" }).click();
  await agent.locator("main").getByText("Granted, under your own key").waitFor();
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).click();
  await doctor.locator("section.episode .state.granted").first().waitFor();

  // The patient sees the agent's act, marked as the agent's, with what was read under it, and ends it.
  await patient.getByRole("link", { name: "Home" }).click();
  const act = patient.locator("section.card").filter({ hasText: "Given by your family agent" });
  await act.waitFor();
  assert.match(await act.innerText(), /Doctor \d+ at City University Hospital may read medical history from your stay at Riverside/);
  await looked(assert, patient, "patient-agents-act");
  await act.getByRole("button", { name: /What was read/ }).click();
  await patient.getByRole("heading", { name: "My access log" }).waitFor();
  assert.match(await patient.locator("ol .card").first().innerText(), /1\. Doctor \d+ at City University Hospital[\s\S]*proved from the chain/);
  assert.match(await patient.locator("main").innerText(), /Given by your family agent/);
  await looked(assert, patient, "patient-agents-log");
  await patient.getByRole("link", { name: "Home" }).click();
  await act.getByRole("button", { name: /Take it back/ }).click();
  await patient.locator("main").getByText(/No hospital will open anything more for Doctor/).waitFor();
  await doctor.locator("main").getByText("Nothing more can be opened").waitFor();

  await patient.getByRole("link", { name: "Family" }).click();
  await patient.getByRole("button", { name: /Withdraw/ }).click();
  await patient.locator("main").getByText("Withdrawn: no hospital takes or serves a grant").waitFor();
  await patient.locator("main").getByText("withdrawn", { exact: true }).waitFor();
  assert.deepEqual([...agent.faults, ...patient.faults, ...doctor.faults], []);
});

test("newcomers make their keys on their first page", async () => {
  const keystore = (who) => join(folder, `${who}.keystore`);
  const make = async (who, label, fill) => {
    const end = await pages(stage, who, ["--keystore", keystore(who)]);
    const page = await tab(stage, who, "phone");
    await page.getByLabel(label).check();
    await fill(page);
    await page.getByLabel("Passphrase", { exact: true }).fill("a sentence of mine");
    await page.getByLabel("The same passphrase again").fill("a sentence of mine");
    return { page, end };
  };
  const document = async (page) => {
    await page.getByLabel("Full name").fill("New <b>Person</b>");
    await page.getByLabel(/^Date of birth/).fill("1960-02-03");
    await page.getByLabel(/^Kind of document/).fill("passport");
    await page.getByLabel("Its number").fill("N-1");
  };
  const patient = await make("new patient", /^A patient(?! with)/, document);
  await looked(assert, patient.page, "newcomer");
  // What is wrong is said, nothing that was typed is lost, and no keystore is left.
  await patient.page.getByLabel("The same passphrase again").fill("another sentence");
  await patient.page.getByRole("button", { name: "Make my keys" }).click();
  await patient.page.locator("main").getByText("the two passphrases differ").waitFor();
  await looked(assert, patient.page, "newcomer-failed");
  assert.equal(await patient.page.getByLabel("Full name").inputValue(), "New <b>Person</b>");
  assert.equal(await patient.page.getByLabel("Passphrase", { exact: true }).inputValue(), "");
  assert.equal(existsSync(keystore("new patient")), false);
  for (const label of ["Passphrase", "The same passphrase again"]) {
    await patient.page.getByLabel(label, { exact: true }).fill("a sentence of mine");
  }
  await patient.page.getByRole("button", { name: "Make my keys" }).click();
  await patient.page.getByRole("heading", { name: "Your records are yours" }).waitFor();
  await patient.page.waitForFunction(() => !document.querySelector("section.card.asks"));
  await patient.page.getByRole("link", { name: "My code" }).click();
  assert.match((await patient.page.locator("button[data-copy]").getAttribute("data-copy")).trim(), /^[0-9a-f]{64}$/);

  const doctor = await make("new doctor", /^A doctor/, async (page) => {
    await document(page);
    await page.getByLabel("Your hospital").selectOption({ label: "City University Hospital" });
    await page.getByLabel(/licence to practise/).fill("L-1");
  });
  await doctor.page.getByRole("button", { name: "Make my keys" }).click();
  await doctor.page.getByRole("heading", { name: "Requests" }).waitFor();
  await doctor.page.getByRole("link", { name: "Ask a patient" }).click();
  await doctor.page.getByLabel("Why you ask").waitFor();

  const agent = await make("new agent", /^A family agent/, async () => {});
  await agent.page.getByRole("button", { name: "Make my keys" }).click();
  await agent.page.getByRole("link", { name: "Whom I act for" }).waitFor();
  for (const one of [patient, doctor, agent]) {
    await one.end();
    assert.deepEqual(one.page.faults.filter((fault) => !/400|ERR_CONNECTION/.test(fault)), []);
  }
});

test("a patient takes over with own keys, and a doctor finds the inbox by the document", async () => {
  const keystore = (who) => join(folder, `${who}.keystore`);
  const pass = "a sentence of mine";
  const document = async (page, name, number) => {
    await page.getByLabel("Full name").fill(name);
    await page.getByLabel(/^Date of birth/).fill("1948-01-20");
    await page.getByLabel(/^Kind of document/).fill("passport");
    await page.getByLabel("Its number").fill(number);
  };
  const open = async (who, label, fill) => {
    const end = await pages(stage, who, ["--keystore", keystore(who)]);
    const page = await tab(stage, who, "phone");
    await page.getByLabel(label).check();
    await fill(page);
    for (const each of ["Passphrase", "The same passphrase again"]) await page.getByLabel(each, { exact: true }).fill(pass);
    await page.getByRole("button", { name: "Make my keys" }).click();
    await page.getByRole("heading", { name: "Your records are yours" }).waitFor();
    return { page, end };
  };
  const words = async (page) => {
    await page.goto(`${page.place}/words`);
    await page.getByLabel("Your passphrase once more").fill(pass);
    await page.getByRole("button", { name: "Show the words" }).click();
    return page.locator("ol.words li").allTextContents();
  };
  const code = async (page) => {
    await page.goto(`${page.place}/code`);
    return (await page.locator("button[data-copy]").getAttribute("data-copy")).trim();
  };

  // A relative registers somebody who cannot, and hands the words over later.
  const relative = await open("relative", /^A patient(?! with)/, (page) => document(page, "Zhang Min", "R-1"));
  await relative.page.waitForFunction(() => !document.querySelector("section.card.asks"));
  const before = await words(relative.page);
  const codeBefore = await code(relative.page);
  assert.equal(before.length, 24);

  const own = await open("own device", /^A patient with 24 words/, (page) => page.getByLabel(/^The words/).fill(before.join(" ")));
  await own.page.getByRole("link", { name: "My records" }).click();
  await own.page.getByRole("link", { name: "Make keys that nobody else has" }).click();
  await own.page.locator("main").getByText("Nothing can take that back").waitFor();
  await looked(assert, own.page, "keys");
  await document(own.page, "Zhang Min", "R-2");
  await own.page.getByRole("button", { name: "Make keys of my own" }).click();
  const number = own.page.locator("section.card.asks strong");
  await number.waitFor();
  await looked(assert, own.page, "keys-waiting");
  const dev = join(stage.folder, "dev");
  const enrolment = (await number.textContent()).trim();
  execFileSync(willis, ["officer", "approve", enrolment, "--key", join(dev, "officer.key"), "--founding", join(dev, "founding")]);
  await own.page.getByRole("heading", { name: "The keys are yours alone" }).waitFor({ timeout: 60_000 });
  await looked(assert, own.page, "keys-own");
  const after = await words(own.page);
  assert.equal(after.length, 24);
  assert.notDeepEqual(after, before);
  const codeAfter = await code(own.page);
  assert.notEqual(codeAfter, codeBefore);

  // The short code that the patient says leads to the same inbox.
  await own.page.getByRole("button", { name: "Make a short code" }).click();
  await own.page.locator("p.short").waitFor();
  const short = (await own.page.locator("p.short").textContent()).trim();
  assert.match(short, /^[0-9A-Z]{4}-[0-9A-Z]{4}$/);
  const doctor = await tab(stage, "receiving doctor");
  await doctor.goto(`${doctor.place}/ask`);
  await doctor.getByLabel("The patient's code").fill(short.toLowerCase());
  await doctor.getByLabel("Why you ask").fill("Stroke unit: earlier images");
  await doctor.getByRole("button", { name: "Ask", exact: true }).click();
  await doctor.getByRole("heading", { name: "Stroke unit: earlier images" }).waitFor();
  await own.page.goto(own.page.place);
  await own.page.getByText("Stroke unit: earlier images").waitFor({ timeout: 30_000 });
  await own.page.goto(`${own.page.place}/code`);

  // Who wants it is found by the document, and sees who looked.
  const find = async () => {
    await doctor.goto(`${doctor.place}/ask`);
    await doctor.getByRole("link", { name: /ask through the registration centre/ }).click();
    await doctor.getByLabel(/^Kind of document/).fill("Passport");
    await doctor.getByLabel("Its number").fill("r 2");
    await doctor.getByLabel(/^Date of birth/).fill("1948-01-20");
    await doctor.getByLabel("Why you ask").fill("<b>Unconscious</b>, stroke unit");
  };
  await find();
  await looked(assert, doctor, "find");
  await doctor.getByRole("button", { name: "Find the patient's code" }).click();
  await doctor.locator("main").getByText("no patient with this document lets doctors find them").waitFor();
  await own.page.getByRole("button", { name: "Let doctors find me by my document" }).click();
  await own.page.getByRole("button", { name: "Let nobody find me" }).waitFor();
  await find();
  await doctor.getByRole("button", { name: "Find the patient's code" }).click();
  await doctor.getByLabel("The patient's code").waitFor();
  assert.equal(await doctor.getByLabel("The patient's code").inputValue(), codeAfter);
  assert.equal(await doctor.getByLabel("Why you ask").inputValue(), "<b>Unconscious</b>, stroke unit");
  // Said again, the centre tells who looked.
  await own.page.getByRole("button", { name: "Let nobody find me" }).click();
  await own.page.getByText("<b>Unconscious</b>, stroke unit").waitFor();
  await looked(assert, own.page, "code-found");
  for (const one of [relative, own]) {
    await one.end();
    assert.deepEqual(one.page.faults.filter((fault) => !/ERR_CONNECTION/.test(fault)), []);
  }
  assert.deepEqual(doctor.faults, []);
});

test("a lock that expires loses nothing that was typed or dropped", async () => {
  const doctor = await tab(stage, "receiving doctor");
  await doctor.goto(doctor.place + "/ask");
  await doctor.getByLabel("The patient's code").fill("ab".repeat(32));
  await doctor.getByLabel("Why you ask").fill("A sentence that took a while to write.");
  const other = await doctor.context().newPage();
  await other.goto(doctor.place);
  await other.getByRole("button", { name: "Lock" }).click();
  await other.getByRole("heading", { name: "Your keys are locked" }).waitFor();
  await looked(assert, other, "locked");
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.getByRole("heading", { name: "Your keys are locked" }).waitFor();
  await doctor.getByLabel("Passphrase").fill("a wrong passphrase");
  await doctor.getByRole("button", { name: "Unlock" }).click();
  await doctor.locator("main").getByText(/the passphrase is wrong/).waitFor();
  await doctor.getByLabel("Passphrase").fill(stage.passphrase);
  await doctor.getByRole("button", { name: "Unlock" }).click();
  await doctor.getByRole("heading", { name: "Ask a patient" }).waitFor();
  assert.equal(await doctor.getByLabel("Why you ask").inputValue(), "A sentence that took a while to write.");
});

test("a revoked grant and a tampered record are refused when they are opened, and nothing of them is shown", async () => {
  const patient = await tab(stage, "patient", "phone");
  const doctor = await tab(stage, "receiving doctor");
  await patient.getByRole("link", { name: "My code" }).click();
  const code = await patient.locator("button[data-copy]").getAttribute("data-copy");
  await doctor.goto(doctor.place + "/ask");
  await doctor.getByLabel("The patient's code").fill(code);
  await doctor.getByLabel("Why you ask").fill("Follow-up of the referral.");
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.locator("main").getByText("This page changes by itself when the patient answers.").waitFor();
  await patient.getByRole("link", { name: "Home" }).click();
  await patient.locator(".card.asks", { hasText: "Follow-up of the referral." }).getByRole("link").click();
  await patient.getByLabel(/Your stay at Riverside Community Hospital/).check();
  await patient.getByLabel("laboratory results", { exact: true }).check();
  await patient.getByLabel("1 day").check();
  await patient.getByRole("button", { name: "Say so" }).click();
  await patient.locator("main").getByText("Granted, and recorded by the hospitals.").waitFor();
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).waitFor();

  // Every container in the cloud is altered by one bit, and there is no other copy.
  const kept = new Map();
  const flip = (path) => {
    const bytes = readFileSync(path);
    kept.set(path, Buffer.from(bytes));
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(path, bytes);
  };
  for (const store of ["cloud/store", ...[1, 2, 3, 4].map((id) => `hospital-${id}/second-store`)]) {
    for (const file of files(join(stage.folder, "dev", store))) flip(file);
  }
  assert.ok(kept.size >= 2, `${kept.size} containers`);
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).click();
  let why;
  try {
    await doctor.locator("main").getByText("This was not done").waitFor();
    why = await doctor.locator("main .card.wrong").innerText();
  } finally {
    for (const [path, bytes] of kept) writeFileSync(path, bytes);
  }
  assert.match(why, /was altered in the cloud's store: it is not given out/);
  await looked(assert, doctor, "doctor-tampered");
  await doctor.getByRole("link", { name: "Back" }).click();
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).waitFor();
  assert.equal(await doctor.locator(".finding").count(), 0);

  // The doctor's page does not know yet that the patient took it back.
  await doctor.route("**/pulse", (route) => route.abort());
  await doctor.reload();
  await patient.getByRole("link", { name: "Home" }).click();
  await patient.getByRole("button", { name: /Take it back/ }).first().click();
  await patient.locator("main").getByText(/No hospital will open anything more for/).waitFor();
  await doctor.unroute("**/pulse");
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).click();
  await doctor.locator("main").getByText(/This was not done|Nothing more can be opened/).first().waitFor();
  assert.equal(await doctor.locator(".finding, section.episode li").count(), 0);
});

/** All files below a folder; none if it is not there. */
function files(folder) {
  const entries = existsSync(folder) ? readdirSync(folder, { recursive: true, withFileTypes: true }) : [];
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

test("a grant whose time has ended shows nothing more", async () => {
  const doctor = await tab(stage, "receiving doctor");
  const patient = await tab(stage, "patient", "phone");
  await patient.getByRole("link", { name: "My code" }).click();
  const code = await patient.locator("button[data-copy]").getAttribute("data-copy");
  await doctor.goto(doctor.place + "/ask");
  await doctor.getByLabel("The patient's code").fill(code);
  await doctor.getByLabel("Why you ask").fill("Stroke team: one look is enough.");
  await doctor.getByRole("button", { name: "Ask" }).click();
  await doctor.waitForURL(/\/requests\/[0-9a-f]{64}$/);
  const request = doctor.url().split("/").at(-1);
  await patient.getByRole("link", { name: "Home" }).click();
  await patient.locator(".card.asks").filter({ hasText: "one look is enough" }).waitFor();
  // The pages offer two hours at least; a command gives a minute, once the pages let go of the keystore.
  await patient.getByRole("button", { name: "Lock" }).click();
  await patient.getByRole("heading", { name: "Your keys are locked" }).waitFor();
  const passphrase = join(folder, "passphrase");
  writeFileSync(passphrase, stage.passphrase);
  const founding = join(stage.folder, "dev", "founding");
  const keystore = join(stage.folder, "patient.keystore");
  const options = ["--founding", founding, "--keystore", keystore, "--passphrase-file", passphrase, "--json"];
  execFileSync(willis, ["patient", "grant", request, "--episode", "1", "--minutes", "1", ...options]);
  await doctor.getByRole("button", { name: /Open everything that was granted/ }).click();
  await doctor.locator("section.episode .state.granted").first().waitFor();
  assert.match(await doctor.locator(".left").innerText(), /left/);
  await doctor.locator("section.episode li a").first().click();
  await doctor.locator("main h1").waitFor();
  await doctor.goBack();
  // It closes by itself when the chain's time has passed the end.
  await doctor.locator("main").getByText("Nothing more can be opened").waitFor({ timeout: 100_000 });
  assert.equal(await doctor.locator("aside, section.episode").count(), 0, "what was open is closed");
  assert.match(await doctor.locator("main").innerText(), /its time has ended/);
  await looked(assert, doctor, "doctor-expired");
  await patient.getByLabel("Passphrase").fill(stage.passphrase);
  await patient.getByRole("button", { name: "Unlock" }).click();
  await patient.getByRole("heading", { name: "Your records are yours" }).waitFor();
});

test("the consortium is watched without anybody's identity", async () => {
  const page = await tab(stage, "consortium");
  await page.locator(".strip a").first().waitFor();
  assert.equal(await page.locator(".circle .seat").count(), 4);
  assert.equal(await page.locator("tbody tr").count(), 4);
  await looked(assert, page, "consortium");
  const newest = Number(await page.locator(".strip strong").first().innerText());
  await page.waitForFunction((newest) => Number(document.querySelector(".strip strong").textContent) > newest, newest);
  await page.goto(page.place + "/consortium/evidence");
  await page.locator("main").getByText("Nothing is proved against any node.").waitFor();
  await looked(assert, page, "consortium-evidence");
  // A block with transactions: the oldest that the strip still shows, or one of the founding's first.
  let height = 2;
  for (; height < 60; height += 1) {
    await page.goto(`${page.place}/consortium/blocks/${height}`);
    if (await page.getByRole("link", { name: /check this proof/ }).count()) break;
  }
  assert.ok(await page.locator(".tree li").count());
  await looked(assert, page, "consortium-block");
  await page.getByRole("link", { name: /check this proof/ }).first().click();
  await page.locator("main").getByText("Computed on this machine just now").waitFor();
  assert.ok(await page.locator(".tree li.on").count());
  await looked(assert, page, "consortium-proof");
  const text = await page.content();
  assert.doesNotMatch(text, /Portillo|1951-03-08/);
  await page.goto(page.place + "/nowhere");
  await page.locator("main").getByText("This page is not here").waitFor();
  await looked(assert, page, "missing");
  assert.deepEqual(page.faults.filter((one) => !one.includes("404")), []);
});

test("every page speaks Chinese, works by keyboard, and reads with scripts off", async () => {
  const patient = await tab(stage, "patient", "phone");
  await patient.keyboard.press("Tab");
  assert.equal(await patient.evaluate(() => document.activeElement.className), "skip");
  await patient.keyboard.press("Enter");
  // The address is the browser's to say, a moment after the key.
  await patient.waitForURL(/#main$/);
  await patient.getByRole("button", { name: "中文" }).click();
  await patient.getByRole("heading", { name: "您的病历由您做主" }).waitFor();
  assert.equal(await patient.getAttribute("html", "lang"), "zh-Hans");
  for (const [path, name] of [["", "home"], ["/records", "records"], ["/grants", "grants"], ["/agents", "family"], ["/code", "code"], ["/begin", "begin"], ["/words", "words"], ["/keys", "keys"], ["/consortium", "hospitals"]]) {
    await patient.goto(patient.place + path);
    const latin = await patient.locator("h1").innerText();
    assert.match(latin, /[\u4e00-\u9fff]/, path);
    await looked(assert, patient, `zh-patient-${name}`);
  }
  // What goes wrong is said in Chinese, with the program's own sentence beside it.
  await patient.goto(patient.place + "/begin");
  await patient.locator("input[name=code]").fill("<b>4-0011</b>");
  await patient.locator("main form button").click();
  await patient.getByText("这不是医院给出的编码").waitFor();
  await patient.locator("main [lang=en]").getByText("this is no hospital's code").waitFor();
  await looked(assert, patient, "zh-failed");
  await patient.getByRole("button", { name: "English" }).click();

  const still = await stage.browser.newContext({ javaScriptEnabled: false });
  const page = await still.newPage();
  await page.goto(stage.pages.patient);
  await page.getByRole("link", { name: "My records" }).click();
  await page.locator("main section.card").first().getByRole("button", { name: /Read it/ }).last().click();
  await page.getByRole("heading", { name: "A record of yours" }).waitFor();
  await page.locator("main ul a").first().click();
  assert.ok((await page.locator("main").innerText()).length > 200);

  await patient.goto(patient.place + "/words");
  await patient.getByLabel("Your passphrase once more").fill("not the passphrase");
  await patient.getByRole("button", { name: "Show the words" }).click();
  await patient.locator("main").getByText("The passphrase is wrong.").waitFor();
  await patient.getByLabel("Your passphrase once more").fill(stage.passphrase);
  await patient.getByRole("button", { name: "Show the words" }).click();
  await patient.locator("ol.words li").first().waitFor();
  assert.equal(await patient.locator("ol.words li").count(), 24);
});
