#!/usr/bin/env python3
"""Writes docs/limits.md, every named limit of the host as its sources have it.

    docs/tables.py            writes docs/limits.md
    docs/tables.py --check    exits with 1 when that file is not what the sources say

What comes in: constants and struct fields of host/*/src with their doc comments and defaults. A limit without a reason
in its doc comment is an error, and so is a setting whose field has gone.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "limits.md"

# What makes a constant a limit, by a word of its name.
LIMIT_WORDS = (
    "MAX MIN TIMEOUT PERIOD INTERVAL GRACE DEADLINE WAIT AFTER SHARE BURST CAPACITY RESERVE AGE".split()
)

# Fields whose default is a list, in words.
LISTS = {"address_exempt": "loopback"}

CONSTANT = re.compile(
    r"^(?:pub(?:\([a-z]+\))? )?const (?P<name>[A-Z][A-Z0-9_]*): (?P<type>[^=]+?) =\s*(?P<value>[^;]+);", re.M
)
FIELD = re.compile(r"^    pub (?P<name>[a-z0-9_]+): (?P<type>[^,]+),$", re.M)
DEFAULT = re.compile(r"^            (?P<name>[a-z0-9_]+): (?P<value>(?:[^,()]|\([^()]*\))+),$", re.M)

HEAD = """\
# Limits

Written by `docs/tables.py` from the sources, and checked by `just check`: do not edit. What happens when one is reached,
and when anything else fails, stands in [failures.md](failures.md).

"""


def doc_above(text, start):
    """The doc comment that ends right above `start`, attributes left out, as one line."""
    lines = []
    for line in reversed(text[:start].rstrip("\n").split("\n")):
        line = line.strip()
        if line.startswith("#["):
            continue
        if not line.startswith("///"):
            break
        lines.append(line[3:].strip())
    text = re.sub(r"\[(`[^`]+`)\](\([^)]*\))?", r"\1", " ".join(reversed(lines)))
    return text.replace("|", "\\|")


def plain(value, type_=""):
    """A value as people write it: `32 << 10` is `32 KiB` where it counts bytes."""
    value = " ".join(value.split()).replace("_", "")
    tested = re.fullmatch(r"match cfg!\(test\) \{ true => .+, false => (.+), \}", value)
    if tested:
        return plain(tested[1])
    span = re.fullmatch(r"Duration::from(secs|millis|mins|hours)\((.+)\)", value)
    if span:
        unit = {"secs": "s", "millis": "ms", "mins": "min", "hours": "h"}[span[1]]
        return f"{span[2]} {unit}"
    shifted = re.fullmatch(r"(\d+) << (10|20|30)", value)
    if shifted:
        return f"{shifted[1]} {dict([('10', 'Ki'), ('20', 'Mi'), ('30', 'Gi')])[shifted[2]]}"
    return value if re.fullmatch(r"[\d.]+", value) else f"`{value}`"


def unit(name):
    """The unit that a name ends in."""
    words = name.lower().split("_")
    for word in ("bytes", "ns", "ms", "s", "percent"):
        if word in words:
            per = "/s" if "per" in words else ""
            return {"bytes": f"B{per}", "ns": "ns", "ms": "ms", "s": per or "s", "percent": "%"}[word]
    return ""


def value_of(name, value):
    """`32 Ki` of `head_bytes_max` is `32 KiB`."""
    text = plain(value)
    if text.startswith("`") or re.search(r" (s|ms|min|h)$", text):
        return text
    of = unit(name)
    if text.endswith("i"):
        return text + (of or "B")
    return f"{text} {of}".strip()


def constants(path):
    """Limits among the constants of a file: name, value, reason."""
    text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
    for match in CONSTANT.finditer(text):
        words = match["name"].split("_")
        if set(words) & set(LIMIT_WORDS) or words[-2:] == ["WINDOW", "BYTES"]:
            yield match["name"], value_of(match["name"], match["value"]), doc_above(text, match.start())


def struct(path, name):
    """Fields of a struct in order, each with its doc comment."""
    text = (ROOT / path).read_text()
    body = text[text.index(f"pub struct {name} {{") :]
    body = body[: body.index("\n}\n")]
    return {match["name"]: doc_above(body, match.start()) for match in FIELD.finditer(body)}


def defaults(path, name):
    """Values that `impl Default` of a struct gives."""
    text = (ROOT / path).read_text()
    body = text[text.index(f"impl Default for {name} {{") :]
    body = body[: body.index("\n}\n")]
    return {match["name"]: match["value"] for match in DEFAULT.finditer(body)}


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def node_settings(faults):
    """Limits on clients: fields of `NetLimits` and `HttpLimits`, and which of them a node's configuration can change."""
    settings = struct("host/control/src/ingress.rs", "IngressLimits")
    rows = []
    for path, limits in (("host/net/src/limits.rs", "NetLimits"), ("host/server/src/limits.rs", "HttpLimits")):
        values = defaults(path, limits)
        for name, why in struct(path, limits).items():
            setting = next((known for known in (name, f"{name}_ms") if known in settings), None)
            settings.pop(setting, None)
            if name in ("h2", "net"):
                continue
            if name not in values and name not in LISTS:
                faults.append(f"{path}: `{name}` has no default that can be read")
            rows.append((f"`{name}`", LISTS.get(name) or value_of(name, values.get(name, "")), f"`{setting}`" if setting else "", why))
    faults += [f"host/control/src/ingress.rs: `{name}` sets no limit of a client" for name in settings]
    http2 = defaults("host/server/src/limits.rs", "Http2Limits")
    for name, why in struct("host/server/src/limits.rs", "Http2Limits").items():
        rows.append((f"`h2.{name}`", value_of(name, http2[name]), "", why))
    return table(("limit", "default", "`limits.…` of `--ingress`", "why"), rows)


def main():
    faults = []
    page = HEAD
    page += "## What clients may do\n\nOn every node, for each of its children. Bytes are Ki, Mi and Gi: 1,024 and its powers.\n\n"
    page += node_settings(faults)
    page += "\n## What a build may set\n\nDefaults of `[handlers.NAME.limits]`, `[upstreams.NAME]` and `[live]`, taken when nothing is written.\n\n"
    built = list(constants(ROOT / "host/wire/src/manifest/defaults.rs"))
    page += table(("limit", "default", "why"), [(f"`{name.lower()}`", value, why) for name, value, why in built])
    faults += [f"host/wire/src/manifest/defaults.rs: `{name}` has no reason" for name, _, why in built if not why]
    page += "\n## What the Seed keeps\n\n`retention` of the Seed's configuration.\n\n"
    kept = defaults("host/seed/src/store/retention.rs", "Retention")
    reasons = struct("host/seed/src/store/retention.rs", "Retention")
    page += table(("limit", "default", "why"), [(f"`{name}`", value_of(name, kept[name]), why) for name, why in reasons.items()])
    page += "\n## Everything else\n\nFixed: changing one is a change of the code.\n"
    manifests = (ROOT / "host").glob("**/Cargo.toml")
    crates = (path.parent.relative_to(ROOT / "host") for path in manifests if (path.parent / "src").is_dir())
    for crate in sorted(crate.as_posix() for crate in crates):
        rows = []
        for path in sorted((ROOT / "host" / crate / "src").rglob("*.rs")):
            if "tests" in path.parts or path.name in ("tests.rs", "defaults.rs", "fuzzing.rs"):
                continue
            file = path.relative_to(ROOT / "host" / crate / "src")
            for name, value, why in constants(path):
                if not why:
                    faults.append(f"{path.relative_to(ROOT)}: `{name}` has no doc comment that gives its reason")
                rows.append((f"`{name}`", value, why, f"[{file}](../host/{crate}/src/{file})"))
        if rows:
            page += f"\n### {crate}\n\n" + table(("limit", "value", "why", "where"), rows)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        print("docs/limits.md is not what the sources say; run docs/tables.py", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
