// The stage that the tests play on: `willis demo --ui` and a real Chromium.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const willis = process.env.WILLIS ?? "../target/debug/willis";
const shots = process.env.WILLIS_SHOTS;

const browsers = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Everybody's pages, once all runs. */
export async function start() {
  // A zone eight hours ahead, as POSIX writes it, which needs no database of zones.
  const env = { ...process.env, TZ: "CST-8" };
  const process_ = spawn(willis, ["demo", "--ui", "--json"], { env, stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: process_.stdout });
  const ready = await new Promise((done, failed) => {
    lines.once("line", (line) => done(JSON.parse(line)));
    process_.once("exit", (code) => failed(new Error(`willis demo --ui ended with ${code}`)));
  });
  const executablePath = browsers.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("no Chromium: on Debian, apt-get install chromium, or set CHROMIUM");
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  return {
    ...ready,
    browser,
    besides: [],
    async end() {
      for (const end of this.besides) await end();
      await browser.close();
      const ended = new Promise((done) => process_.once("exit", done));
      process_.kill("SIGTERM");
      await ended;
    },
  };
}

/** The pages of `willis pages` with these arguments, besides those of the stage. */
export async function pages(stage, who, args) {
  const process_ = spawn(willis, ["pages", "--founding", `${stage.folder}/dev/founding`, "--json", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: process_.stdout });
  stage.pages[who] = await new Promise((done, failed) => {
    lines.once("line", (line) => done(JSON.parse(line).address));
    process_.once("exit", (code) => failed(new Error(`willis pages ended with ${code}`)));
  });
  const end = async () => {
    if (process_.exitCode !== null) return;
    const ended = new Promise((done) => process_.once("exit", done));
    process_.kill("SIGTERM");
    await ended;
  };
  stage.besides.push(end);
  return end;
}

/** A person's tab, which fails the test on any error of a script or of the content security policy. */
export async function tab(stage, who, size = "desktop") {
  const viewport = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } }[size];
  const context = await stage.browser.newContext({ viewport, acceptDownloads: true });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") page.faults.push(message.text());
  });
  page.setDefaultTimeout(30_000);
  await page.goto(stage.pages[who]);
  page.place = page.url();
  return page;
}

/** What axe finds against WCAG 2.2 A and AA, as a list to compare with an empty one. */
export async function violations(page) {
  await page.evaluate(axeSource);
  const found = await page.evaluate(() =>
    window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }),
  );
  return found.violations.flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target} ${node.failureSummary}`));
}

/** Keeps a picture of the page where the documents show it, if asked to. */
export async function shot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

/** What reaches beyond the page's right edge, if the page can be scrolled sideways. */
function tooWide() {
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  const beyond = [...document.body.querySelectorAll("*")].filter((one) => {
    const { right } = one.getBoundingClientRect();
    return right > innerWidth + 1 && !one.closest(".wide, .strip");
  });
  return beyond.map((one) => `${one.tagName} ${one.className} ${one.textContent.slice(0, 60)}`).concat("sideways");
}

/**
 * Goes through the page by the Tab key alone. Everything that can be operated is reached, in the order of the
 * page, with a name and a visible ring around it; gives what is not so.
 */
async function byKeyboard(page) {
  const wrong = [];
  const expected = await page.evaluate(() => {
    const all = document.querySelectorAll("a[href], button, input, textarea, select, summary, [tabindex='0']");
    const operable = [...all].filter((one) => one.checkVisibility() && !one.disabled && one.type !== "hidden");
    // Of the choices of one group only one is stopped at.
    const radios = new Set();
    const stops = operable.filter((one) => {
      if (one.type !== "radio") return true;
      if (radios.has(one.name)) return false;
      radios.add(one.name);
      return true;
    });
    document.querySelector(".skip").focus({ focusVisible: true });
    return Math.min(stops.length, 80);
  });
  let before = null;
  for (let stop = 0; stop < expected; stop += 1) {
    // The first stop leads past the navigation.
    if (stop > 0) await page.keyboard.press("Tab");
    const now = await page.evaluate((before) => {
      const one = document.activeElement;
      window.before = before ? window.before : null;
      const after = window.before?.compareDocumentPosition(one) ?? Node.DOCUMENT_POSITION_FOLLOWING;
      const label = one.labels?.[0]?.textContent ?? one.getAttribute("aria-label") ?? one.textContent;
      const named = one.getAttribute("aria-labelledby") ?? label;
      window.before = one;
      const said = `${one.tagName} ${one.className} ${label.trim().slice(0, 40)}`;
      const ring = getComputedStyle(one);
      return {
        said,
        named: named.trim() !== "",
        ordered: Boolean(after & Node.DOCUMENT_POSITION_FOLLOWING),
        ringed: ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2,
        body: one === document.body,
      };
    }, before);
    before = now.said;
    if (now.body || !now.named || !now.ordered || !now.ringed) wrong.push(now);
    if (now.body) break;
  }
  return wrong;
}

/** The page in each size and mode, without a violation and without a sideways scroll. */
export async function looked(assert, page, name) {
  const before = page.viewportSize();
  for (const [size, width] of [["phone", 390], ["desktop", 1440]]) {
    for (const mode of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme: mode });
      assert.deepEqual(await violations(page), [], `${name}, ${size}, ${mode}`);
      assert.deepEqual(await page.evaluate(tooWide), [], `${name} at ${width} px`);
      await shot(page, `${name}-${size}-${mode}`);
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  // A tablet, and a desktop's page at 200 %.
  await page.setViewportSize({ width: 720, height: 900 });
  assert.deepEqual(await page.evaluate(tooWide), [], `${name} at 720 px`);
  if (shots) writeFileSync(`${shots}/${name}.txt`, await page.locator("body").ariaSnapshot());
  await page.setViewportSize(before);
  assert.deepEqual(await byKeyboard(page), [], `${name} by keyboard`);
  await page.evaluate(() => document.activeElement?.blur());
}
