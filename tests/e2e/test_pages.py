"""Manual pages: made for every command, from coffer(1) and what the program says of its options; a command without words fails."""
import os
import re
import sys

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
