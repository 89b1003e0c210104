#!/usr/bin/env python3
"""Runs schemathesis against the OpenAPI document that each service of a whole consortium serves.
README.md says what it checks and how a failure is repeated."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

# The tree stays as it was.
sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / "target" / "tools-schemathesis"
ROLES = ["centre", "query", "cloud", "hospital", "node"]
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
# The hooks carry what a service gave from call to call, with the keys that own it, which the stateful
# phase does not know.
PHASES = ["examples", "coverage", "fuzzing"]
START_SECONDS = 120
STOP_SECONDS = 30
# Answers that no handler made.
BEFORE_HANDLERS = {"401", "429"}


def main():
    arguments = read_arguments()
    python = tools()
    if Path(sys.prefix).resolve() != TOOLS.resolve():
        os.execv(python, [str(python), *sys.argv])
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="willis-interfaces-"))
    failed = True
    try:
        failed = check(arguments, folder)
    finally:
        if failed or arguments.keep:
            print(f"the consortium's folder with every log and report: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{time.monotonic() - begun:.0f} s in all")
    return 1 if failed else 0


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--willis", type=Path, default=ROOT / "target" / "release" / "willis")
    parser.add_argument("--only", choices=ROLES, action="append", help="this role alone; repeatable")
    parser.add_argument("--operation", help="this operation alone, by its operationId")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=20, help="for each operation")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    return parser.parse_args()


def tools():
    """A Python with what requirements.txt names."""
    python = TOOLS / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_bytes()
    marker = TOOLS / "installed-requirements.txt"
    if not python.exists() or not marker.exists() or marker.read_bytes() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", TOOLS], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", HERE / "requirements.txt"], check=True)
        marker.write_bytes(wanted)
    return python


def check(arguments, folder):
    """Whether anything failed."""
    errors = (folder / "dev.log").open("w")
    dev = subprocess.Popen(
        [arguments.willis.resolve(), "dev", "--json", "--folder", folder / "consortium"],
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    try:
        ready = wait(dev, folder / "dev.log")
        world = prepare(ready)
        at = folder / "world.json"
        at.write_text(json.dumps(world))
        roles = arguments.only or ROLES
        problems = []
        for role in roles:
            problems += run(arguments, role, world, at, folder)
        if dev.poll() is not None:
            problems.append(f"the consortium ended by itself: {(folder / 'dev.log').read_text()}")
        problems += failures_in_logs(ready)
    finally:
        stop(dev)
        errors.close()
    print()
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print(f"no server error, and every answer as its document says: {', '.join(roles)}")
    return bool(problems)


def wait(dev, log):
    """The one line that says where everything is."""
    end = time.monotonic() + START_SECONDS
    os.set_blocking(dev.stdout.fileno(), False)
    text = b""
    while time.monotonic() < end and dev.poll() is None:
        text += dev.stdout.read() or b""
        if text.endswith(b"\n"):
            return json.loads(text)
        time.sleep(0.1)
    raise SystemExit(f"willis dev is not ready: {log.read_text()}")


def stop(dev):
    if dev.poll() is None:
        dev.send_signal(signal.SIGINT)
    try:
        dev.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        dev.kill()
        dev.wait()


def prepare(ready):
    """Where the services are, and people whom they know."""
    from calls import Key
    from people import INSTITUTION, People

    folder = Path(ready["folder"])
    names = {"hospital": f"hospital-{INSTITUTION}", "node": f"node-{INSTITUTION}"}
    services = {}
    for served in ready["services"]:
        # Of hospitals and nodes the first, which is that of INSTITUTION.
        if served["role"] not in services:
            name = names.get(served["role"], served["role"])
            services[served["role"]] = {**served, "name": name}
    world = {"consortium": ready["consortium"], "services": services}

    def key_of(name, file):
        return Key(name, bytes.fromhex((folder / file).read_text().strip()))

    keys = {
        "officer": key_of("officer", "officer.key"),
        "institution": key_of("institution", f"hospital-{INSTITUTION}/institution.key"),
    }
    people = People(world, keys)
    people.make()
    world["keys"] = {name: key.seed.hex() for name, key in keys.items()}
    world["known"] = people.known
    world["owners"] = people.owners
    return world


def run(arguments, role, world, at, folder):
    """One service's document; what failed."""
    place = world["services"][role]
    reports = folder / role
    reports.mkdir()
    counts = reports / "counts.json"
    print(f"\n== {role}: {place['openapi']}", flush=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SCHEMATHESIS_HOOKS": "hooks",
        "WILLIS_WORLD": str(at),
        "WILLIS_ROLE": role,
        "WILLIS_COUNTS": str(counts),
    }
    command = [
        TOOLS / "bin" / "schemathesis",
        "--config-file",
        HERE / "schemathesis.toml",
        "run",
        place["openapi"],
        f"--tls-verify={place['authority']}",
        f"--checks={','.join(CHECKS)}",
        f"--phases={','.join(PHASES)}",
        f"--seed={arguments.seed}",
        f"--max-examples={arguments.examples}",
        f"--report-dir={reports}",
        "--report=ndjson",
        "--no-color",
    ]
    if arguments.operation:
        command.append(f"--include-operation-id={arguments.operation}")
    begun = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment)
    problems = []
    if done.returncode != 0:
        problems.append(f"{role}: schemathesis found what stands above (exit {done.returncode})")
    answers = answers_by_operation(counts)
    if not answers:
        return problems or [f"{role}: nothing was called"]
    total = sum(sum(statuses.values()) for statuses in answers.values())
    operations = operations_of(place)
    for operation in operations:
        statuses = answers.get(operation)
        if statuses is None:
            if not arguments.operation:
                problems.append(f"{role}: {operation} was never called")
            continue
        said = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        print(f"  {operation}  {said}")
        if not set(statuses) - BEFORE_HANDLERS:
            problems.append(f"{role}: no call of {operation} reached its handler ({said})")
    print(f"  {total} calls in {time.monotonic() - begun:.0f} s", flush=True)
    return problems


def answers_by_operation(counts):
    answers = defaultdict(dict)
    if counts.exists():
        for text, count in json.loads(counts.read_text()).items():
            operation, status = text.rsplit(" ", 1)
            answers[operation][status] = count
    return answers


def operations_of(place):
    """Those that the document has; the answers to others, which schemathesis tries as well, are 405."""
    import requests

    document = requests.get(place["openapi"], verify=place["authority"], timeout=30).json()
    methods = {"get", "put", "post", "delete", "patch"}
    return [
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method in item
        if method in methods
    ]


def failures_in_logs(ready):
    """A task that panicked beside a call leaves a trace in the log alone."""
    return [
        f"{served['log']} holds: {line}"
        for served in ready["services"]
        for line in Path(served["log"]).read_text(errors="replace").splitlines()
        if re.search(r"panicked at", line)
    ]


if __name__ == "__main__":
    sys.exit(main())
