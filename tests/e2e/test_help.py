"""coffer help: what it tells people to type exists."""
import re
import shlex

import harness


def test_every_command_of_every_task_exists(vault):
    commands = set(re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  ", vault.coffer("--help").out, re.M))
    tasks = vault.json("help")
    assert {t["role"] for t in tasks} == {"consultant", "admin", "owner", "custodian", "auditor"}
    assert len({t["task"] for t in tasks}) == len(tasks)
    typed = [line.strip() for t in tasks for line in t["text"].splitlines() if line.startswith("    coffer ")]
    assert len(typed) > 30
    for line in typed:
        words = shlex.split(line.replace("$USER", "alice"))[1:]
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands else words[0]
        assert name in commands, line
        usage = vault.coffer(*name.split(), "--help").out
        for option in (w for w in words if w.startswith("--")):
            assert option in usage, (line, option)


def test_one_task_and_none(vault):
    r = vault.coffer("help", "hold")
    assert "coffer hold place" in r.out
    r = vault.coffer("help", "nonsense", check=harness.NOT_FOUND)
    assert "coffer help" in r.err
