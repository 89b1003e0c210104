"""What campaigns share: their tools, and the totals that they add to."""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOTALS = ROOT / "docs" / "measured" / "faults.json"
TOOLS = ROOT / "target" / "tools"


def say(text: str) -> None:
    print(text, flush=True)


def with_tool(name: str, version: str, asked: list[str], *options: str) -> dict[str, str]:
    """Installs a subcommand of cargo unless this version of it is there; gives the environment in which cargo
    finds it. `asked` are the arguments with which it says its version."""
    environment = {**os.environ, "PATH": f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    program = TOOLS / "bin" / name
    said = ""
    if program.exists():
        said = subprocess.run([program, *asked], capture_output=True, text=True).stdout
    if version not in said.split():
        install = ["cargo", "install", name, "--version", version, "--locked", "--force"]
        subprocess.run([*install, "--root", TOOLS, *options], check=True)
    return environment


def read(totals: pathlib.Path) -> dict:
    """The totals; none of a file that is not there yet."""
    return json.loads(totals.read_text()) if totals.exists() else {}


def change(totals: pathlib.Path, to: Callable[[dict], None]) -> None:
    """Changes the totals and leaves whatever else is in the file."""
    file = read(totals)
    to(file)
    text = json.dumps(file, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    # Whole or not at all, since the next run goes on from it.
    following = totals.with_name(f"{totals.name}.{os.getpid()}")
    following.write_text(text)
    following.replace(totals)
