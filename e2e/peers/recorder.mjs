// A reverse proxy that writes down what is said through it, so that every answer can be checked afterwards. Bodies
// pass as they come; of those in FHIR's or DICOM's JSON or in XML a copy is kept, of others the length and a digest.
import { createHash } from "node:crypto";
import http from "node:http";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";

const kept = /^application\/(fhir\+json|fhir\+xml|json|xml|dicom\+json|x-www-form-urlencoded)\b/;
const largestKept = 64 * 1024 * 1024;
const hopByHop = new Set(["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"]);

/** What one body was: its length, its SHA-256, and its bytes if they are of a kind that is checked. */
function observer(headers) {
  const hash = createHash("sha256");
  const pieces = kept.test(headers["content-type"] ?? "") ? [] : undefined;
  let length = 0;
  return {
    piece(data) {
      length += data.length;
      hash.update(data);
      if (pieces && length <= largestKept) pieces.push(data);
    },
    end() {
      const whole = pieces && length <= largestKept ? decoded(Buffer.concat(pieces), headers["content-encoding"]) : undefined;
      return { length, sha256: hash.digest("hex"), text: whole?.toString("utf8"), type: headers["content-type"] };
    },
  };
}

function decoded(bytes, encoding) {
  if (encoding === "gzip" || encoding === "deflate") return zlib.unzipSync(bytes);
  if (encoding === "br") return zlib.brotliDecompressSync(bytes);
  return bytes;
}

/** The proxy, at a free port of 127.0.0.1. `to(address)` says where it leads, `exchanges` what was said. */
export async function record() {
  const exchanges = [];
  const agent = new http.Agent({ keepAlive: true });
  let target;

  const server = http.createServer((request, response) => {
    const exchange = { method: request.method, url: request.url, request: { headers: request.headers }, status: undefined, whole: false };
    exchanges.push(exchange);
    // Who asks is told nothing of the proxy: the host stays the one that was asked for.
    const headers = withoutHops(request.headers);
    if (request.headers["transfer-encoding"]) headers["transfer-encoding"] = "chunked";
    const onward = http.request({ ...target, agent, method: request.method, path: request.url, headers }, (answer) => {
      exchange.status = answer.statusCode;
      response.writeHead(answer.statusCode, answer.statusMessage, withoutHops(answer.headers));
      const watched = observer(answer.headers);
      pipeline(answer, tee(watched), response).then(
        () => {
          exchange.whole = answer.complete;
          exchange.response = { headers: answer.headers, ...watched.end() };
        },
        (error) => {
          exchange.fault = String(error);
          response.destroy();
        },
      );
    });
    onward.on("error", (error) => {
      // Whoever asked may have gone, as a client does that asks at three places for the same.
      exchange.fault ??= String(error);
      if (!response.headersSent) response.writeHead(502).end();
      else response.destroy();
    });
    response.on("close", () => {
      if (!response.writableFinished) onward.destroy();
    });
    const watched = observer(request.headers);
    pipeline(request, tee(watched), onward).then(
      () => Object.assign(exchange.request, watched.end()),
      (error) => (exchange.fault ??= String(error)),
    );
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));

  return {
    address: `http://127.0.0.1:${server.address().port}`,
    exchanges,
    to(address) {
      const { hostname, port } = new URL(address);
      target = { host: hostname, port };
    },
    async end() {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** Passes bytes on as fast as they are taken, and shows each to the observer. */
function tee(watched) {
  return new Transform({
    transform(data, _, done) {
      watched.piece(data);
      done(null, data);
    },
  });
}

function withoutHops(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !hopByHop.has(name)));
}
