#!/usr/bin/env python3
"""A manual page for each command, made of what is written once: its entries in coffer(1), and the options that the program
itself lists.

    command_pages.py coffer.1.scd COFFER SCDOC OUT      OUT, a folder, gets coffer-NAME.1 for each

NAME is a command's first word: coffer-client(1) has client add, list and end.  Fails when a command has no entry.
"""
import os
import re
import shutil
import subprocess
import sys


def entries(text):
    """[(heading, body lines)] of coffer(1): a heading begins with a command in bold, its body is indented."""
    found, heading, body = [], None, []
    for line in text.splitlines():
        if line.startswith("\t") or (not line and heading):
            body.append(line[1:])
            continue
        if heading and any(body):
            found.append((heading, body))
        heading, body = (line, []) if re.match(r"\*[a-z-]+( [a-z-]+)?\*", line) else (None, [])
    return found


def commands(heading):
    """Which commands it explains: "*hold place* _CLIENT_ ..., *hold lift* _HOLD_" -> ["hold place", "hold lift"]."""
    return re.findall(r"(?:^|, )\*([a-z-]+(?: [a-z-]+)?)\*", heading)


# A program built with a sanitizer is no less able to tell its options.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "COLUMNS": "80"}


def ask(coffer, *words):
    return subprocess.run([coffer, *words], check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def all_commands(coffer):
    """{command: one line} as the program lists them."""
    return dict(re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  +(\S.*)$", ask(coffer, "--help"), re.M))


def escape(text):
    return re.sub(r"([\\*_#~`\[\]<>|])", r"\\\1", text)


def options(coffer, command):
    """[(option as scdoc, explanation)] from `coffer COMMAND --help`."""
    found = []
    for line in ask(coffer, *command.split(), "--help").splitlines():
        m = re.match(r"  (?:-., |    )--([a-z-]+)(\[?=[^ ]+)?(?: +(\S.*))?$", line)
        if m:
            value = (m[2] or "").strip("[]=")
            found.append(["*--" + m[1] + "*" + (f" _{escape(value)}_" if value else ""), escape(m[3] or "")])
        elif found and re.match(r" {20,}\S", line):
            found[-1][1] += " " + escape(line.strip())
        elif not line.strip() and found:
            break
    return [(o, text) for o, text in found if not re.match(r"\*--(help|usage|version|dir|json)\*", o)]


def page(name, text, coffer, listed):
    mine = [c for c in listed if c.split()[0] == name]
    explained = [(h, b) for h, b in entries(text) if any(c.split()[0] == name for c in commands(h))]
    missing = set(mine) - {c for h, _ in explained for c in commands(h)}
    if missing or not explained:
        sys.exit(f"coffer.1.scd does not explain: {', '.join(sorted(missing)) or name}")
    title = f"coffer-{name}"
    out = [f"{title}(1)", "", "# NAME", "", f"{title} - {escape(listed[mine[0]])}", "", "# SYNOPSIS", ""]
    for heading, _ in explained:
        for part in re.split(r", (?=\*)", heading):
            if commands(part) and commands(part)[0].split()[0] == name:
                out += ["*coffer* " + part, ""]
    out += ["# DESCRIPTION", ""]
    for heading, body in explained:
        if len(explained) > 1:
            out += ["## " + ", ".join(commands(heading)).upper(), ""]
        out += body + [""]
    seen = [(c, options(coffer, c)) for c in mine]
    if any(o for _, o in seen):
        out += ["# OPTIONS", ""]
        for command, of in seen:
            if of and len(mine) > 1:
                out += ["## " + command.upper(), ""]
            for option, explanation in of:
                out += [option, "\t" + explanation, ""]
    out += ["*--dir*, *--json* and the exit status are those of *coffer*(1).", "", "# SEE ALSO", "", "*coffer*(1)", ""]
    return "\n".join(out)


def main():
    scd, coffer, scdoc, out = sys.argv[1:]
    with open(scd) as f:
        text = f.read()
    listed = all_commands(coffer)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for name in {c.split()[0]: None for c in listed}:
        made = subprocess.run([scdoc], input=page(name, text, coffer, listed), capture_output=True, text=True)
        if made.returncode != 0:
            sys.exit(f"coffer-{name}: {made.stderr}")
        with open(os.path.join(out, f"coffer-{name}.1"), "w") as f:
            f.write(made.stdout)


main()
