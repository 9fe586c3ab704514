"""Certificates in files: listed, printed and checked with nothing but the file and the public key.

They are made here, from doc/format-keys.md alone: so what the command takes for genuine is what the page says.
"""
import json
import os
import re

import pytest

import harness
from harness import DAMAGED, USAGE

signing = pytest.importorskip("nacl.signing", reason="python3-nacl is not installed")


def tool(*args):
    return harness.run([harness.BUILD + "/tools/coffer", *args])


def certificate(client="acme"):
    return {"version": 1, "kind": "destruction", "client": {"client": client, "name": "Acme\x1b[31m Corp", "id": "00" * 16},
            "destroyed_at": "2026-03-01T00:00:00Z", "rule": {"text": "end + 90 days", "source": "HOW WE RETAIN"},
            "slots": [{"kind": "file", "state": "forgotten", "assurance": "best effort: " + "long words " * 20}],
            "remains": ["the ciphertext", "the record"], "later_member": {"new_thing": 7}}


def envelope(key, c):
    text = json.dumps(c, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = re.sub(r"\\u00[0-9a-f]{2}", lambda m: m[0][:2] + m[0][2:].upper(), text)
    signature = key.sign(b"coffer-certificate\0" + text.encode()).signature
    return {"certificate": c, "signature": signature.hex(), "public_key": key.verify_key.encode().hex()}


@pytest.fixture
def files(tmp_path):
    """(folder, key file, key of somebody else, a genuine file, an altered one)."""
    key, other = signing.SigningKey.generate(), signing.SigningKey.generate()
    d = tmp_path / "certificates"
    d.mkdir()
    (tmp_path / "pub").write_text(key.verify_key.encode().hex() + "\n")
    (tmp_path / "other").write_text(other.verify_key.encode().hex() + "\n")
    (d / "acme.json").write_text(json.dumps(envelope(key, certificate())))
    altered = envelope(key, certificate("globex"))
    altered["certificate"]["destroyed_at"] = "2026-03-02T00:00:00Z"
    (d / "globex.json").write_text(json.dumps(altered))
    return d, str(tmp_path / "pub"), str(tmp_path / "other")


def test_a_genuine_certificate_is_printed_for_people(files):
    d, pub, _ = files
    r = tool("certificate", "show", d / "acme.json", "--pubkey", pub)
    assert r.rc == 0, r
    for words in ("Certificate of", "destruction", "acme", "end + 90 days", "the ciphertext", "later member", "genuine"):
        assert words in r.out, (words, r)
    assert "\x1b" not in r.out and max(map(len, r.out.splitlines()[:-3])) < 110, r
    assert "not checked" in tool("certificate", "show", d / "acme.json").out
    assert tool("certificate", "verify", d / "acme.json", "--pubkey", pub).rc == 0
    assert json.loads(tool("certificate", "show", d / "acme.json", "--json").out)["kind"] == "destruction"


def test_what_was_altered_or_signed_by_another_is_not_printed(files):
    d, pub, other = files
    for file, key in (("globex.json", pub), ("acme.json", other)):
        for what in ("show", "verify"):
            r = tool("certificate", what, d / file, "--pubkey", key)
            assert r.rc == DAMAGED and "destroyed" not in r.out.lower(), r
    (d / "text.json").write_text("{}")
    for file in ("text.json", "missing.json"):
        assert tool("certificate", "show", d / file).rc == USAGE


def test_a_folder_of_them_is_listed_with_verdicts(files):
    d, pub, _ = files
    (d / "text.json").write_text("{}")
    r = tool("certificate", "list", d, "--pubkey", pub, "--json")
    rows = {row["file"]: row["verdict"] for row in r.json}
    assert rows == {"acme.json": "genuine", "globex.json": "not genuine", "text.json": "no certificate"} and r.rc == DAMAGED
    for name in ("globex.json", "text.json"):
        os.unlink(d / name)
    assert tool("certificate", "list", d, "--pubkey", pub).rc == 0
    assert "not checked" in tool("certificate", "list", d).out
    assert tool("certificate", "list", d / "none").rc == USAGE
