"""What somebody types who has read the help and no more: answers that must not be taken for what they are not."""
import contextlib
import csv
import fcntl
import grp
import io
import json
import os
import pty
import re
import sqlite3
import struct
import termios

import harness
from harness import DAMAGED, NOT_FOUND, OTHER_PURPOSE, PURPOSE, REFUSED, USAGE, wait_for
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


# ---- the administrator of many ----

def test_a_group_of_commands_explains_itself(tmp_path):
    def tool(*args):
        return harness.run([harness.BUILD + "/tools/coffer", "--dir", tmp_path, *args])
    r = tool("agreement", "--help")
    assert r.rc == 0 and r.err == "", r
    for command in ("agreement set", "agreement show", "agreement diff", "agreement end"):
        assert command in r.out
    assert "client add" not in r.out
    for args in (["agreement"], ["agreement", "nonsense"]):
        r = tool(*args)
        assert r.rc == USAGE and r.out == "" and "coffer agreement --help" in r.err and "nothing" not in r.err, r


def test_one_client_is_found_among_many(vault):
    for i in range(12):
        vault.add(f"c{i:02}", f"Customer {i} Ltd", f"dpo@c{i:02}.example")
    vault.add("globex", "Globex Corporation", "privacy@globex.example")

    def found(*args):
        return [r["client"] for r in vault.rows("client", "list", *args)]
    assert len(found()) == 13
    assert found("globex corp") == ["globex"] and found("C07.EXAMPLE") == ["c07"] and found("r 11 L") == ["c11"]
    assert found("nobody") == []
    assert "called so" in vault.coffer("client", "list", "nobody").out


def test_what_is_no_address_is_refused(vault):
    for bad in ("notanaddress", "@example.org", "dpo@", "two dpo@c.example", "a@b,c@d"):
        r = vault.add("acme", "Acme", bad, check=USAGE)
        assert "mail address" in r.err, r
    assert vault.rows("client", "list") == []
    vault.add("acme", "Acme", "o'neill+privacy@acme.example")


def test_who_leaves_loses_all_his_grants_and_the_groups_are_named(acme):
    v = acme
    v.add("globex", "Globex", "dpo@globex.example")
    v.grant("globex", v.alice)
    v.grant("globex", v.alice, OTHER_PURPOSE)
    v.grant("globex", v.bob)
    v.coffer("grant", "globex", "ct_team", "--group", "--purpose", PURPOSE, "--rights", "r")
    m = v.mount(v.alice)
    r = v.coffer("revoke", "--user", v.alice.name)
    assert "revoked: 3, of 2 clients; sessions ended: 1" in r.out, r
    wait_for(lambda: not os.path.ismount(m.point), "the end of his mount")
    left = {(g["client"], g["subject"]) for c in ("acme", "globex") for g in v.rows("access", c)}
    assert left == {("globex", v.bob.name), ("globex", "ct_team")}
    if v.alice.name in grp.getgrnam("ct_team").gr_mem:
        assert "ct_team" in r.out
    r = v.coffer("revoke", "--user", v.alice.name, check=NOT_FOUND)
    assert "no grants of his own" in r.err and "revoked" not in r.out, r
    for args in (["--user", v.bob.name, "globex"], ["--user", v.bob.name, "--group"], ["globex"], []):
        v.coffer("revoke", *args, check=USAGE)
    assert v.rows("access", "globex", "--user", v.bob.name)


def test_who_leaves_by_purpose(acme):
    acme.grant("acme", acme.alice, OTHER_PURPOSE)
    assert acme.json("revoke", "--user", acme.alice.name, "--purpose", OTHER_PURPOSE) == {
        "revoked": 1, "clients": 1, "sessions_ended": 0, "groups": []}
    assert [g["purpose"] for g in acme.rows("access", "acme")] == [PURPOSE]
    acme.coffer("revoke", "--user", acme.alice.name, user=acme.bob, check=NOT_FOUND)  # sees no grants of others
    acme.coffer("revoke", "--user", acme.alice.name, user=acme.alice, check=REFUSED)
    assert [g["purpose"] for g in acme.rows("access", "acme")] == [PURPOSE]


def test_a_group_without_group_is_told(acme):
    r = acme.coffer("grant", "acme", "ct_team", "--purpose", PURPOSE, "--rights", "r", check=NOT_FOUND)
    assert "--group" in r.err, r
    acme.coffer("grant", "acme", "ct_team", "--group", "--purpose", PURPOSE, "--rights", "r")
    assert "--group" in acme.coffer("revoke", "acme", "ct_team", check=NOT_FOUND).err
    assert "--group" not in acme.coffer("revoke", "acme", acme.bob.name, check=NOT_FOUND).err
    assert "--group" not in acme.coffer("grant", "acme", "ct_nobody", "--purpose", PURPOSE, "--rights", "r", check=NOT_FOUND).err


def test_a_suspension_of_nobody_is_minded(acme):
    r = acme.coffer("suspend", "--user", "ct_alcie", "--reason", "password lost")
    assert "knows no user ct_alcie" in r.err
    assert acme.coffer("suspend", "--user", acme.alice.name, "--reason", "password lost").err == ""


def test_down_says_whose_work_it_ended(share):
    assert "sessions ended: 1" in share.vault.coffer("down").out
    assert share.vault.coffer("down").out.strip() == "not running"


def test_csv_says_whom_a_grant_was_for(acme):
    rows = list(csv.DictReader(io.StringIO(acme.coffer("log", "--op", "grant", "--format", "csv").out)))
    assert json.loads(rows[0]["detail"])["subject"] == acme.alice.name
    acme.mount(acme.alice).write("f", "x")
    rows = list(csv.DictReader(io.StringIO(acme.coffer("log", "--path", "f", "--format", "csv").out)))
    assert rows and all(None not in r for r in rows)  # as many fields as columns


def test_an_erasure_of_what_is_all_held_asks_nothing(share):
    v = share.vault
    share.sh("echo x > cv")
    share.coffer("subject", "label", "cv", "P-1") if hasattr(share, "coffer") else v.coffer(
        "subject", "label", share.path("cv"), "P-1", user=share.user)
    v.coffer("hold", "place", "acme", "--matter", "m", "--reason", "r")
    r = v.coffer("subject", "shred", "acme", "P-1", "--reason", "r", check=REFUSED)
    assert "stays" in r.err and "Type yes" not in r.err, r


def test_who_cannot_read_the_ciphertext_is_told_who_hands_it_over(make_vault):
    v = make_vault(up=False)
    v.up_with_groups()
    v.join(v.bob, "coffer-custodian")
    v.add()
    v.coffer("suspend", "acme", "--reason", "handed over")
    out = v.bob.home + "/out"
    r = v.coffer("transfer", "acme", "--to", "5" * 64, "--out", out, user=v.bob, check=REFUSED)
    assert "owner" in r.err and not os.path.exists(out), r


def test_a_policy_that_changes_all_grants_alike_says_so_once(acme):
    for i in range(4):
        acme.add(f"c{i}", f"Customer {i}", f"dpo@c{i}.example")
        acme.grant(f"c{i}", acme.alice)
    acme.grant("c3", acme.bob)
    with open(os.path.join(os.path.dirname(__file__), "../../policy/inemsoft.yaml")) as f:
        text = f.read()
    at = text.index("rights: rw", text.rindex("- id: " + PURPOSE))  # a service line is called so, too
    path = acme.base + "/stricter.yaml"
    with open(path, "w") as f:
        f.write(text[:at] + "rights: r" + text[at + len("rights: rw"):])
    assert len(acme.json("policy", "diff", path)["grants"]) == 6
    rows = [line.split() for line in acme.coffer("policy", "diff", path).out.splitlines() if PURPOSE in line and "ct_" in line]
    assert sorted((r[0], r[1]) for r in rows) == [("1", "c3"), ("5", "acme")], rows


def test_a_drill_says_what_was_erased_since_is_no_damage(share):
    v = share.vault
    share.sh("echo x > doe; echo y > kept")
    to = v.base + "/backup"
    v.coffer("backup", to)
    assert "erased for good" not in v.coffer("drill", to, "--scratch", v.base, timeout=60).out
    v.coffer("shred", "acme", "/doe", "--reason", "request 12", "--yes")
    r = v.coffer("drill", to, "--scratch", v.base, timeout=60, check=DAMAGED)
    assert "acme: doe: destroyed" in r.out and "erased for good" in r.out and "kept" not in r.out, r


def test_the_certificate_of_a_transfer_says_that_another_has_it(share):
    v = share.vault
    share.sh("echo x > f")
    v.coffer("suspend", "acme", "--reason", "handed over")
    v.coffer("transfer", "acme", "--to", "5" * 64, "--out", v.base + "/out")
    v.coffer("transfer", "acme", "--finish", timeout=60)
    file = v.base + "/acme.json"
    with open(file, "w") as f:
        f.write(v.coffer("certificate", "acme", "--json").out)
    r = v.coffer("certificate", "verify", file)
    assert "acme was destroyed" in r.out and "5" * 64 in r.out and "handed over" in r.out, r


def test_a_receipt_can_be_compared_as_the_manual_says(share):
    v = share.vault
    share.sh("echo x > f")
    r = v.coffer("unmount", share.point, user=share.user)
    batch, begins = re.search(r"receipt: the record up to batch (\d+), ([0-9a-f]{16})", r.out).groups()
    v.coffer("log", "verify")
    v.down()
    with contextlib.closing(sqlite3.connect(v.dir + "/ledger/ledger.db")) as db:
        (found,), = db.execute("SELECT lower(hex(hash)) FROM chain WHERE id = ?", (int(batch),))
    assert found.startswith(begins)


def test_the_last_rows_of_the_record(share):
    v = share.vault
    share.sh("for i in $(seq 30); do echo x > f$i; done")
    lines = v.coffer("log", "--op", "create", "--last", "3").out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["f28", "f29", "f30"], lines
    assert len(v.coffer("log", "--op", "create", "--last", "99").out.splitlines()) == 31
    for args in (["--json"], ["--format", "csv"], ["--limit", "3"], ["--follow"]):
        v.coffer("log", "--last", "3", *args, check=USAGE)
    v.coffer("log", "--last", "0", check=USAGE)
