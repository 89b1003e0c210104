// That the recorder changes nothing, keeps what is to be checked, and holds no large body in memory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import zlib from "node:zlib";

import { record } from "./recorder.mjs";

const size = 256 * 1024 * 1024;
const piece = Buffer.alloc(1024 * 1024, "large");
// What fits between one who sends and one who does not take: sockets' and streams' buffers, three times over.
const between = 64 * 1024 * 1024;
const unhurried = () => new Promise((done) => setTimeout(done, 700));
let server;
let recorder;
let sent;

before(async () => {
  server = http.createServer(async (request, response) => {
    if (request.url === "/large") {
      for (sent = 0; sent < size; sent += piece.length) if (!response.write(piece)) await once(response, "drain");
      response.end();
    } else if (request.url === "/zipped") {
      response.writeHead(200, { "content-type": "application/fhir+json", "content-encoding": "gzip" });
      response.end(zlib.gzipSync('{"resourceType":"Patient"}'));
    } else if (request.url === "/broken") {
      response.writeHead(200, { "content-length": 10 });
      response.write("half");
      setTimeout(() => response.destroy(), 20);
    } else {
      if (request.url === "/slow") await unhurried();
      const hash = createHash("sha256");
      let length = 0;
      for await (const data of request) {
        hash.update(data);
        length += data.length;
      }
      response.writeHead(201, { "content-type": "application/json", location: "/x" });
      response.end(JSON.stringify({ host: request.headers.host, method: request.method, url: request.url, length, sha256: hash.digest("hex") }));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  recorder = await record();
  recorder.to(`http://127.0.0.1:${server.address().port}`);
});

after(async () => {
  await recorder.end();
  server.closeAllConnections();
  server.close();
});

/** The last exchange, once it is written down. */
async function last() {
  for (let times = 0; times < 100; times += 1) {
    const one = recorder.exchanges.at(-1);
    if (one.response || one.fault) return one;
    await new Promise((done) => setTimeout(done, 10));
  }
  throw new Error("nothing was written down");
}

test("what is asked and answered passes unchanged and is kept", async () => {
  const body = JSON.stringify({ resourceType: "Patient", id: "é" });
  const answer = await fetch(`${recorder.address}/fhir/Patient?a=b%7Cc`, { method: "POST", body, headers: { "content-type": "application/fhir+json" } });
  assert.equal(answer.status, 201);
  assert.equal(answer.headers.get("location"), "/x");
  const text = await answer.text();
  const said = JSON.parse(text);
  assert.equal(said.host, recorder.address.slice("http://".length));
  assert.equal(said.url, "/fhir/Patient?a=b%7Cc");
  assert.equal(said.length, Buffer.byteLength(body));
  const kept = await last();
  assert.equal(kept.request.text, body);
  assert.equal(kept.response.text, text);
  assert.equal(kept.status, 201);
  assert.ok(kept.whole);
});

test("a large answer waits for whoever takes it", async () => {
  const answer = await new Promise((done) => http.get(`${recorder.address}/large`, done));
  await unhurried();
  assert.ok(sent < between, `${sent} sent and nothing taken`);
  let length = 0;
  for await (const data of answer) length += data.length;
  assert.equal(length, size);
  const kept = await last();
  assert.equal(kept.response.length, size);
  assert.equal(kept.response.text, undefined);
});

test("a large upload waits for whoever takes it", async () => {
  const request = http.request(`${recorder.address}/slow`, { method: "POST", headers: { "content-type": "application/dicom" } });
  const answered = once(request, "response");
  let given = 0;
  let givenUnhurried;
  unhurried().then(() => (givenUnhurried = given));
  while (given < size) {
    given += piece.length;
    if (!request.write(piece)) await once(request, "drain");
  }
  request.end();
  const [answer] = await answered;
  let text = "";
  for await (const data of answer) text += data;
  assert.ok(givenUnhurried < between, `${givenUnhurried} given and nothing taken`);
  assert.equal(JSON.parse(text).length, size);
  assert.equal((await last()).request.sha256, JSON.parse(text).sha256);
});

test("packed answers are kept unpacked", async () => {
  assert.deepEqual(await (await fetch(`${recorder.address}/zipped`)).json(), { resourceType: "Patient" });
  assert.equal((await last()).response.text, '{"resourceType":"Patient"}');
});

test("what breaks off breaks off, and is not taken for whole", async () => {
  await assert.rejects(async () => (await fetch(`${recorder.address}/broken`)).text());
  const kept = await last();
  assert.equal(kept.whole, false);
  assert.ok(kept.fault);
});
