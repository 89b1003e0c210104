// What the pages do beyond what they do without it: every form and link works with scripts off.
"use strict";

const root = document.documentElement;
const pulse = root.dataset.pulse;
let seen = root.dataset.version;

// A form that was sent shows it, and cannot be sent twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.getAttribute("aria-busy") === "true") {
    event.preventDefault();
    return;
  }
  form.setAttribute("aria-busy", "true");
  say(root.dataset.working);
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
});

function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

// Whether something typed or chosen would be lost by showing the page anew.
let touched = false;
document.addEventListener("input", () => { touched = true; });

async function look() {
  let now;
  try {
    const answer = await fetch(pulse, { headers: { accept: "application/json" } });
    if (answer.status === 403) return;
    now = await answer.json();
  } catch {
    say(root.dataset.gone);
    // A machine that slept is back in a moment; one where it was ended is not, and asking costs nothing.
    setTimeout(look, 5000);
    return;
  }
  const job = document.getElementById("job");
  if (job) {
    await progress(job);
  } else if (now.locked && !root.dataset.locked && !touched) {
    location.reload();
    return;
  } else if (root.dataset.live && ![now.version, now.chain].includes(seen)) {
    await anew();
  }
  setTimeout(look, job ? 400 : 1500);
}

// Whoever is in the middle of something, also by the keyboard, is not moved.
function busy() {
  return touched || document.activeElement !== document.body || document.querySelector("main details[open]");
}

// Shows the page as it is now, or says that there is news to whoever is in the middle of something.
async function anew() {
  const news = () => document.querySelector(".news")?.classList.add("shown");
  if (busy()) return news();
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const text = await answer.text();
  // Something may have been begun while the page was on its way.
  if (busy()) return news();
  put(text);
}

// Puts a page in the place of this one.
function put(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const main = page.querySelector("main");
  if (!main) return false;
  for (const part of ["header.top", "main"]) {
    document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
  }
  document.title = page.title;
  for (const name of ["live", "locked"]) delete root.dataset[name];
  Object.assign(root.dataset, page.documentElement.dataset);
  seen = root.dataset.version;
  touched = false;
  ready();
  return true;
}

async function progress(job) {
  const answer = await fetch(job.dataset.at);
  const text = await answer.text();
  const next = new DOMParser().parseFromString(text, "text/html").getElementById("job");
  if (!next) {
    // It led to the page with its result, which says once what came of it.
    if (!put(text)) return;
    history.replaceState(null, "", answer.url);
    scrollTo(0, 0);
    say(document.querySelector("main [role=status]")?.textContent ?? document.title);
    return;
  }
  const before = job.querySelector(".steps")?.lastElementChild?.textContent;
  const now = next.querySelector(".steps")?.lastElementChild?.textContent;
  job.querySelector(".told").replaceChildren(...next.querySelector(".told").childNodes);
  if (now && now !== before) say(now);
  if (next.dataset.over) {
    job.className = next.className;
    job.removeAttribute("id");
    say(job.querySelector("h2")?.textContent ?? "");
  }
}

// What stands only where scripts run: dropping files, the live sentence, window and level, copying.
function ready() {
  for (const drop of document.querySelectorAll(".drop")) {
    const input = drop.querySelector("input[type=file]");
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const files = new DataTransfer();
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      const found = collect(entries, event.dataTransfer.files);
      collecting.add(found);
      try {
        for (const file of await found) files.items.add(file);
      } finally {
        collecting.delete(found);
      }
      if (drop.getAttribute("aria-busy") === "true") {
        waiting.push(files.files);
      } else {
        input.files = files.files;
        drop.requestSubmit();
      }
    });
    for (const each of drop.querySelectorAll("input[type=file]")) {
      each.addEventListener("change", () => { if (each.files.length) each.form.requestSubmit(); });
    }
    drop.addEventListener("submit", (event) => {
      event.preventDefault();
      if (drop.getAttribute("aria-busy") !== "true") send(drop, new FormData(drop));
    });
  }
  for (const form of document.querySelectorAll("form[data-sentence]")) {
    form.addEventListener("input", () => sentence(form));
  }
  for (const sliders of document.querySelectorAll(".sliders")) {
    sliders.addEventListener("input", () => picture(sliders));
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      say(button.dataset.done);
    });
  }
}

// What was dropped while other files were on their way, and what of it is still being listed.
const waiting = [];
const collecting = new Set();

// Hands files to the program, and says how far it is.
function send(form, body) {
  const sending = form.querySelector(".sending");
  const [bar, text] = [sending.querySelector("progress"), sending.querySelector("span")];
  const begun = Date.now();
  const mebi = (bytes) => Math.round(bytes / 1048576);
  const call = new XMLHttpRequest();
  let said = 0;
  [sending.hidden, bar.hidden] = [false, false];
  for (const input of form.querySelectorAll("input")) input.disabled = true;
  call.upload.addEventListener("progress", ({ loaded, total }) => {
    const speed = loaded / Math.max(Date.now() - begun, 1);
    [bar.max, bar.value] = [total, loaded];
    // Read aloud, it would not end otherwise.
    if (Date.now() - said < 3000) return;
    said = Date.now();
    const left = Math.ceil((total - loaded) / Math.max(speed, 1) / 1000);
    text.textContent = sending.dataset.said
      .replace("{done}", mebi(loaded))
      .replace("{all}", mebi(total))
      .replace("{speed}", mebi(speed * 1000))
      .replace("{left}", left);
  });
  call.addEventListener("load", async () => {
    while (collecting.size) await Promise.allSettled(collecting);
    const next = waiting.shift();
    if (call.status < 400 && next) {
      const rest = new FormData();
      for (const file of next) rest.append("files", file);
      return send(form, rest);
    }
    if (call.status < 400) return location.assign(call.responseURL);
    const told = new DOMParser().parseFromString(call.responseText, "text/html").querySelector("main");
    if (told) document.querySelector("main").replaceWith(told);
    say(told?.querySelector("h1")?.textContent ?? "");
  });
  // The files are where they were: they can be chosen again.
  call.addEventListener("error", () => {
    bar.hidden = true;
    text.textContent = sending.dataset.failed;
    for (const input of form.querySelectorAll("input")) [input.disabled, input.value] = [false, ""];
    form.removeAttribute("aria-busy");
  });
  call.open("POST", form.action);
  call.send(body);
}

// All files below what was dropped, 4,096 at most.
async function collect(entries, files) {
  if (!entries.length) return [...files];
  const found = [];
  const walk = async (entry) => {
    if (found.length >= 4096) return;
    if (entry.isFile) {
      found.push(await new Promise((done, failed) => entry.file(done, failed)));
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const each of some) await walk(each);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

// The sentence is made by the program, so that what is read is what is granted.
let asked = 0;
async function sentence(form) {
  const mine = ++asked;
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.dataset.sentence, { method: "POST", body });
  if (!answer.ok || mine !== asked) return;
  const said = await answer.json();
  const place = form.querySelector(".sentence");
  place.textContent = said.sentence;
  form.querySelector("button.give").disabled = !said.complete;
}

let drawn = 0;
function picture(sliders) {
  const mine = ++drawn;
  setTimeout(() => {
    if (mine !== drawn) return;
    const image = sliders.closest("section").querySelector("img");
    const query = new URLSearchParams(new FormData(sliders.closest("form")));
    const slice = query.get("slice") ?? image.dataset.number;
    query.delete("slice");
    image.src = `${image.dataset.at}/${slice}/picture.png?${query}`;
    for (const output of sliders.querySelectorAll("output")) {
      const { value } = sliders.querySelector(`[name=${output.dataset.of}]`);
      const { from } = output.dataset;
      output.textContent = from ? Number(value) - Number(from) + 1 : value;
    }
  }, 60);
}

// One key from the timeline to an image and back.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
  const link = document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
  if (link) link.click();
});

ready();
if (pulse) setTimeout(look, document.getElementById("job") ? 200 : 1500);
