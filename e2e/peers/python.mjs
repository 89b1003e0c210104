// A Python with the packages of requirements.txt, made once into target/tools/peers.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../target/tools/peers", import.meta.url));
const requirements = fileURLToPath(new URL("./requirements.txt", import.meta.url));

/** The folder of its programs. */
export function python() {
  const wanted = readFileSync(requirements, "utf8");
  const stamp = `${folder}/requirements.txt`;
  const made = () => existsSync(stamp) && readFileSync(stamp, "utf8") === wanted;
  if (!made()) {
    locked(() => {
      if (made()) return;
      rmSync(folder, { recursive: true, force: true });
      execFileSync("python3", ["-m", "venv", folder], { stdio: "inherit" });
      const options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"];
      execFileSync(`${folder}/bin/pip`, ["install", ...options, "-r", requirements], { stdio: "inherit" });
      writeFileSync(stamp, wanted);
    });
  }
  return `${folder}/bin`;
}

/** Test files run beside each other: one makes it, the others wait. */
function locked(make) {
  const lock = `${folder}.lock`;
  mkdirSync(fileURLToPath(new URL("../../target/tools", import.meta.url)), { recursive: true });
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    // Whoever made the lock may have been stopped.
    const made = statSync(lock, { throwIfNoEntry: false })?.mtimeMs;
    if (made !== undefined && Date.now() - made > 600_000) rmSync(lock, { recursive: true, force: true });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
  try {
    make();
  } finally {
    rmdirSync(lock);
  }
}
