#!/usr/bin/env python3
"""Checks what people write down twice: documents against the code, and constants against Cargo.lock.

    docs/check.py    prints each difference, and exits with 1 if there is one

- Every test that docs/failures.md and docs/guarantees.md name exists, and each of their rows names one.
- ARCHITECTURE.md's map has a row for each crate of the host, and its last column is what the crate depends on among
  ours: names of crates without `protoplex-`, separated by commas, or a dash.
- `WASMTIME_VERSION` is the version of wasmtime in Cargo.lock, since native code of another one must not be loaded, and
  so is the version of the bench's peer.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn ([a-z0-9_]+)\(")


def sources():
    """Rust sources of the host and its tests."""
    for folder in ("tests", "host"):
        yield from (path for path in (ROOT / folder).rglob("*.rs") if "target" not in path.parts)


def rows(text):
    """Rows of the tables of a page, without heads, each as its cells."""
    lines = text.splitlines()
    for line, after in zip(lines, lines[1:] + [""]):
        if line.startswith("| ") and not line.startswith("| ---") and not after.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def missing_tests(page):
    """Tests that the last column of a page's tables names, and that are not there."""
    known = {name for path in sources() for name in TEST.findall(path.read_text())}
    for row in rows((ROOT / page).read_text()):
        named = re.findall(r"`([a-z0-9_]+)`", row[-1])
        if not named:
            yield f"{page}: no test stands behind: {row[0]} | {row[1]}"
        yield from (f"{page}: there is no test `{name}`" for name in named if name not in known)


def dependencies():
    """Crates of the workspace by folder, each with the names of those of ours that it depends on, for tests as well."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    ours = {package["name"] for package in metadata["packages"]}
    short = lambda name: name.removeprefix("protoplex-")
    for package in metadata["packages"]:
        folder = Path(package["manifest_path"]).parent.relative_to(ROOT)
        yield str(folder), {short(other["name"]) for other in package["dependencies"] if other["name"] in ours}


def false_map():
    """Differences between ARCHITECTURE.md's map and the workspace."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    section = page.split("\n## The map\n")[1].split("\n## ")[0]
    drawn = {}
    for folder, _, uses in rows(section):
        drawn[folder.strip("`/")] = {name.strip("` ") for name in uses.split(",")} - {"–"}
    real = dict(dependencies())
    for folder, uses in real.items():
        if folder not in drawn:
            yield f"ARCHITECTURE.md: the map has no row for `{folder}`"
        elif uses != drawn[folder]:
            yield f"ARCHITECTURE.md: `{folder}` depends on: {', '.join(sorted(uses)) or '–'}"
    gone = [folder for folder in drawn if folder not in real and not (ROOT / folder / "Cargo.toml").exists()]
    yield from (f"ARCHITECTURE.md: the map has a row for `{folder}`, which is no crate" for folder in gone)


def false_versions():
    """Constants with the version of wasmtime that are not Cargo.lock's."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    locked = [package["version"] for package in lock["package"] if package["name"] == "wasmtime"]
    constant = re.compile(r'\b(WASMTIME(?:_VERSION)?): &str = "([^"]*)"')
    named = [(path, *found) for path in sources() for found in constant.findall(path.read_text())]
    if [name for _, name, _ in named].count("WASMTIME_VERSION") != 1:
        yield "WASMTIME_VERSION must be defined once"
    for path, name, version in named:
        if locked != [version]:
            yield f"{path.relative_to(ROOT)}: {name} is {version}, and Cargo.lock has {', '.join(locked)}"


def main():
    faults = [*missing_tests("docs/failures.md"), *missing_tests("docs/guarantees.md"), *false_map(), *false_versions()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
