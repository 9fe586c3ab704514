"""The documents say what is there: tests named in THREATS exist, commands of the README are commands, links lead somewhere."""
import os
import re

import harness


def text(name):
    with open(os.path.join(harness.SOURCE, name)) as f:
        return f.read()


def test_every_test_named_in_threats_exists():
    missing, file = [], None
    for name in re.findall(r"`((?:test_\w+\.py::)?test_\w+|tests/[\w/.]+)`", text("doc/THREATS.md")):
        if name.startswith("tests/"):
            if not os.path.exists(os.path.join(harness.SOURCE, name)):
                missing.append(name)
            continue
        if "::" in name:
            file, name = name.split("::")
        if not re.search(rf"^def {name}\(", text(f"tests/e2e/{file}"), re.M):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_commands_of_the_readme_exist():
    commands = re.findall(r"^    (?:.*[;&] )?coffer ((?:[a-z]+ ?)+)", text("README.md"), re.M)
    assert len(commands) > 10
    for words in {tuple(c.split()[:2]) for c in commands}:
        tried = [harness.run([harness.BUILD + "/tools/coffer", *words[:n], "--help"]).rc for n in (2, 1)]
        assert 0 in tried, words


def test_links_lead_somewhere():
    for name in ("README.md", "doc/THREATS.md", "doc/DESIGN.md", "doc/PROTOCOL.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", text(name)):
            assert os.path.exists(os.path.join(harness.SOURCE, os.path.dirname(name), link)), (name, link)


def test_places_of_the_readme_exist():
    for path in re.findall(r"^\| `([\w/]+)/`", text("README.md"), re.M):
        assert os.path.isdir(os.path.join(harness.SOURCE, path)), path


def test_every_duty_has_its_test():
    """The table of doc/POLICY.md: all rows, and each test that it names is there."""
    rows = re.findall(r"^\| O(\d+) \|.*\|(.*)\|$", text("doc/POLICY.md"), re.M)
    assert [int(n) for n, _ in rows] == list(range(1, 25))
    for n, tests in rows:
        for file, name in re.findall(r"`(\w+\.\w+)::(\w+)`", tests):
            where = "tests/e2e/" if file.endswith(".py") else "tests/unit/"
            assert name in text(where + file), (n, name)
            assert n == "10" or name.startswith(f"test_o{int(n):02}_"), (n, name)
