"""What somebody types who has read the help and no more: answers that must not be taken for what they are not."""
import fcntl
import os
import pty
import re
import struct
import termios

import harness
from harness import PURPOSE, REFUSED, USAGE
from test_command import Terminal



class Screen(Terminal):
    """A terminal of that many columns."""

    def __init__(self, argv, columns):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.environ.pop("COLUMNS", None)
            os.execv(argv[0], argv)
        self.seen = b""

    def lines(self):
        self.finish()
        return [line.rstrip("\r") for line in re.sub(r"\x1b\[[0-9;]*m", "", self.seen.decode()).split("\n")]


def screen(v, columns, *args):
    return Screen([v.programs + "/tools/coffer", "--dir", v.dir, *args], columns).lines()


# ---- the record ----

def test_a_path_with_a_slash_before_is_the_same_path(share):
    """Other commands (shred, class set, hold place) and `coffer help record` write it so."""
    share.sh("mkdir orders; echo x > orders/doe; echo x > other")
    v = share.vault

    def paths(path):
        return {r["path"] for r in v.log("--path", path) if r["path"]}
    assert paths("/orders") == paths("orders") == {"orders", "orders/doe"}
    assert paths("/orders/*") == {"orders/doe"}
    assert paths("/orders/doe") == {"orders/doe"}
    assert {"other", "orders/doe"} <= paths("/")


def test_no_records_is_not_taken_for_nobody_did_it(share):
    v = share.vault
    share.sh("echo x > f")
    v.grant("acme", v.bob)
    r = v.coffer("log", "--user", v.alice.name, user=v.bob)
    assert "only auditors" in r.out, r
    assert "misspelt" in v.coffer("log", "--op", "opn").out
    assert "only auditors" not in v.coffer("log", "--op", "opn").out
    assert "below the share" in v.coffer("log", "--path", "elsewhere").out
    r = v.coffer("log", "--since", "2026-02-01", "--until", "2026-01-01", check=USAGE)
    assert "--until" in r.err and r.out == ""
    v.coffer("log", "--since", "2026-01-01", "--until", "2026-01-01", check=USAGE)


def test_the_record_can_be_read_at_eighty_columns(share):
    """No column of a few letters: a row that does not fit goes on, and the terminal breaks it."""
    v = share.vault
    name = "a file with a name that is rather long.txt"
    share.sh('echo x > "$1"', name)
    lines = screen(v, 80, "log", "--client", "acme", "--op", "create")
    row, = (line for line in lines if name in line)
    assert row.startswith("20") and PURPOSE[:7] in row, lines
    assert len([line for line in lines if line.strip()]) == 2, lines
    share.sh('echo x > "$1"', "evil\nroot acme")
    lines = screen(v, 80, "log", "--client", "acme", "--op", "create")
    assert len([line for line in lines if line.strip()]) == 3 and not any(line.startswith("root") for line in lines), lines


def test_a_wrapped_table_keeps_words_whole(vault):
    lines = screen(vault, 80, "doctor")
    assert max(map(len, lines)) <= 80, lines
    words = set(" ".join(lines).split())
    piped = vault.coffer("doctor", check=None).out
    for word in ("evidence", "outsiders", "destruction"):
        assert word in piped.split() and word in words, (word, lines)


# ---- proofs ----

def test_the_certificate_of_an_erasure_is_no_proof_of_the_whole(share):
    v = share.vault
    share.sh("mkdir orders; echo x > orders/doe; echo y > kept")
    v.coffer("shred", "acme", "/orders/doe", "--reason", "erasure request 12", "--yes")
    folder = v.dir + "/keyd/certificates"
    file, = os.listdir(folder)
    r = v.coffer("certificate", "verify", os.path.join(folder, file))
    assert "genuine" in r.out and "acme was destroyed" not in r.out and "a part" in r.out, r
    row, = v.coffer("certificate", "list", "--json").json
    assert row["kind"] == "erasure"
    assert "erasure" in v.coffer("certificate", "list").out


def test_who_cannot_read_certificates_is_told_how_to_get_them(acme):
    r = acme.coffer("certificate", "list", user=acme.bob, check=REFUSED)
    assert "certificates" in r.err and "report" in r.err and "LedgerHead" not in r.err, r


def test_a_certificate_far_away_needs_the_key(acme, tmp_path):
    file = tmp_path / "c.json"
    file.write_text("{}")
    r = harness.run([harness.BUILD + "/tools/coffer", "--dir", tmp_path / "none", "certificate", "verify", file])
    assert r.rc != 0 and "--pubkey" in r.err, r


def test_a_lifted_hold_holds_nothing_in_the_forecast(acme):
    acme.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "litigation")
    row, = acme.rows("retention", "forecast")
    assert [h["matter"] for h in row["holds"]] == ["case 17"]
    acme.coffer("hold", "lift", "1", "--reason", "settled")
    row, = acme.rows("retention", "forecast")
    assert row["holds"] == []
    assert "case 17" not in acme.coffer("retention", "forecast").out
    assert "case 17" in acme.coffer("hold", "list").out  # its history stays
