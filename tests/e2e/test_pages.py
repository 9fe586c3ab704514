"""Manual pages: made for every command, from coffer(1) and what the program says of its options; a command without words fails."""
import os
import re
import sys

import pytest

import harness

PAGES = os.path.join(harness.SOURCE, "doc", "command_pages.py")


def make(tmp_path, scd):
    return harness.run([sys.executable, PAGES, scd, harness.BUILD + "/tools/coffer", "/usr/bin/scdoc", str(tmp_path / "man1")])


def test_every_command_has_a_page_with_its_options(vault, tmp_path):
    r = make(tmp_path, os.path.join(harness.SOURCE, "doc", "coffer.1.scd"))
    assert r.rc == 0, r
    names = {c.split()[0] for c in re.findall(r"^  ([a-z-]+(?: [a-z-]+)?)  ", vault.coffer("--help").out, re.M)}
    assert {f"coffer-{n}.1" for n in names} == set(os.listdir(tmp_path / "man1"))
    text = (tmp_path / "man1" / "coffer-mount.1").read_text().replace("\\", "")
    assert "OPTIONS" in text and "the order or incident you work on" in text and "EKEYREVOKED" in text


def test_a_command_that_the_manual_leaves_out(tmp_path):
    with open(os.path.join(harness.SOURCE, "doc", "coffer.1.scd")) as f:
        text = f.read()
    less = tmp_path / "less.scd"
    less.write_text(text.replace("*doctor*\n", "*docter*\n"))
    r = make(tmp_path, str(less))
    assert r.rc != 0 and "doctor" in r.err, r


# ---- coffer-policy(5) ----

def policy_page():
    with open(os.path.join(harness.SOURCE, "doc", "coffer-policy.5.scd")) as f:
        return f.read()


def keys_of(source):
    """Every key that a schema of policy/ reads."""
    with open(os.path.join(harness.SOURCE, "policy", source)) as f:
        found = set(re.findall(r'(?:TEXT|TEXT_OPTIONAL|WORD|FLAG|RULES|CYAML_FIELD_\w+)\(\s*"([a-z_]+)"', f.read()))
    assert len(found) > 10
    return found


def test_the_page_of_the_policy_file_has_every_key_and_no_other():
    page = policy_page()
    text, examples = page.split("# EXAMPLES")
    policy, agreement = text.split("# AN AGREEMENT")
    for source, part, example in (("policy_schema.c", policy, examples.split("```")[1]), ("agreement.c", agreement, examples.split("```")[3])):
        keys = keys_of(source)
        assert [k for k in sorted(keys) if f"_{k}_" not in part and k not in ("id", "title", "format", "name", "version", "effective")] == []
        assert [k for k in sorted(keys) if not re.search(rf"\b{k}:", example)] == []  # the example is complete
        assert set(re.findall(r"(?:^|[{,] ?|- )\s*([a-z_]+):", example, re.M)) <= keys


def test_the_examples_of_the_policy_page_are_good(make_vault):
    v = make_vault(up=False)
    _, policy, _, agreement, _ = policy_page().split("# EXAMPLES")[1].split("```")
    path, other = v.base + "/policy.yaml", v.base + "/agreement.yaml"
    for name, text in ((path, policy), (other, agreement)):
        with open(name, "w") as f:
            f.write(text)
    r = v.coffer("policy", "check", path)
    assert "good: example 3, 6 purposes" in r.out, r
    assert [line for line in r.out.splitlines() if ": warning: " in line and "resale" not in line] == []  # prohibited on purpose
    v.up("--policy", path)
    v.add()
    v.coffer("agreement", "set", "acme", other)
    v.grant("acme", v.alice, "support")
    steps = v.coffer("why", v.alice.name, "acme", "--purpose", "support", "--ticket", "T-1").out
    assert "Master services agreement" in steps and "export: no" in steps


@pytest.mark.parametrize("line, says", [("    idle: 30min", "export"), ("    default: true", "default"), ("    basis: contract", "basis")])
def test_an_example_with_a_mistake_is_told_with_its_line(make_vault, line, says):
    """The examples are read as a daemon would read them: what is wrong in them is found."""
    v = make_vault(up=False)
    policy = policy_page().split("```")[1].replace("export: recorded", "export: no") if says == "export" else policy_page().split("```")[1]
    policy = policy.replace(line + "\n", "    export: recorded\n" if says == "export" else "", 1)
    path = v.base + "/policy.yaml"
    with open(path, "w") as f:
        f.write(policy)
    r = v.coffer("policy", "check", path, check=harness.USAGE)
    assert says in r.err and re.search(r"policy.yaml:\d+: ", r.err), r
