"""Heads of the record are brought where root cannot rewrite them: a file, a command, letters (anchors of the policy)."""
import json
import os
import re
import shutil
import sqlite3

import pytest

import harness
from harness import DAMAGED, OK, REFUSED, SEALED, USAGE, wait_for

LINE = re.compile(r"coffer-ledger-head (\d+) [0-9a-f]{64} [0-9a-f]{128} \d+\n")


def program(v, name, script):
    path = f"{v.base}/{name}"
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + script)
    os.chmod(path, 0o755)
    return path


def policy(v, name, anchors, more=""):
    with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
        text = f.read()
    path = f"{v.base}/{name}"
    with open(path, "w") as f:
        f.write(text.replace("\nlegal_bases:", f"\n{more}anchors:\n" + "".join(f"  - {a}\n" for a in anchors) + "legal_bases:", 1))
    return path


def vault_with(make_vault, anchors, more=""):
    v = make_vault(up=False)
    v.up("--policy", policy(v, "policy.yaml", anchors(v), more(v) if more else ""))
    v.add()
    v.grant("acme", v.alice)
    return v


def work(v):
    m = v.mount(v.alice)
    m.write("f", "x")
    return m.unmount()


def heads(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        lines = f.readlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    return [int(LINE.fullmatch(line)[1]) for line in lines]


def anchor(v, kind):
    return next(a for a in v.json("status")["anchors"] if a["kind"] == kind)


def test_file_is_appended_to_and_shows_what_was_rewritten(make_vault):
    v = vault_with(make_vault, lambda v: [f"{{file: {v.base}/heads}}"])
    file = v.base + "/heads"
    work(v)
    wait_for(lambda: heads(file), "the first head")
    wait_for(lambda: anchor(v, "file")["batch"], "the news of it")
    assert anchor(v, "file")["batch"] == heads(file)[-1] and anchor(v, "file")["failing"] is None
    assert re.search(rf"sent to {file}: heads until batch {heads(file)[-1]}, ", v.coffer("log", "verify").out)
    v.down()
    old = v.base + "/old.db"
    shutil.copy(v.dir + "/ledger/ledger.db", old)
    v.up()
    work(v)
    v.down()  # what is signed at the end still arrives
    wait_for(lambda: len(heads(file)) >= 2, "the last head")
    v.up()
    good = v.coffer("log", "verify", "--anchors", file)
    assert re.search(rf"anchored until batch {heads(file)[-1]}, .*unanchored since: \d+ batches", good.out)
    key = v.base + "/key"
    shutil.copy(v.dir + "/keyd/signing.pub", key)
    assert v.coffer("log", "verify", "--db", old, "--pubkey", key).rc == OK
    r = v.coffer("log", "verify", "--db", old, "--pubkey", key, "--anchors", file, check=None)
    assert r.rc == DAMAGED, r
    forged = v.base + "/forged"
    with open(file) as f, open(forged, "w") as g:
        line = f.readlines()[-1]
        g.write(line.replace("coffer-ledger-head ", "coffer-ledger-head 9", 1))
    for more in ([], ["--json"], ["--db", v.dir + "/ledger/ledger.db", "--pubkey", key]):  # as if the key had been exchanged, too
        assert "no head in the file" in v.coffer("log", "verify", "--anchors", forged, *more, check=DAMAGED).err
    with open(forged, "a") as g:
        g.write(line)
    assert "count for nothing" in v.coffer("log", "verify", "--anchors", forged).out


def test_heads_are_compared_also_with_a_record_that_does_not_open(make_vault):
    """coffer-fsd does not start on it: the owner reads the file, and what was kept elsewhere is compared all the same."""
    v = vault_with(make_vault, lambda v: [f"{{file: {v.base}/heads}}"])
    file = v.base + "/heads"
    work(v)
    wait_for(lambda: heads(file), "the first head")
    v.down()
    db = sqlite3.connect(v.dir + "/ledger/ledger.db")
    db.execute("INSERT INTO act (id, time, kind) SELECT max(id) + 1, 1, 'grant' FROM act")
    db.commit()
    db.close()
    assert v.up(check=None).rc == DAMAGED
    with open(file) as f:
        line = f.readlines()[-1]
    with open(file, "a") as f:
        f.write(line.replace("coffer-ledger-head ", "coffer-ledger-head 9", 1))
    r = v.coffer("log", "verify", "--anchors", file, "--json", check=DAMAGED)
    assert json.loads(r.out)["anchors_ignored"] == 1, r
    v.coffer("seal")
    r = v.coffer("log", "verify", "--anchors", file, check=SEALED)
    assert "coffer unseal" in r.err, r


def test_command_gets_the_head_and_nothing_of_ours(make_vault):
    v = vault_with(make_vault, lambda v: ["{command: %s}" % program(v, "command", f"""
{{ env; ls /proc/self/fd; grep ^Cap[PEI] /proc/self/status; }} > {v.base}/seen
cat > {v.base}/got.tmp; mv {v.base}/got.tmp {v.base}/got
""")])
    work(v)
    wait_for(lambda: heads(v.base + "/got"), "the head")
    with open(v.base + "/seen") as f:
        seen = f.read()
    assert set(re.findall(r"^(\w+)=", seen, re.M)) <= {"PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}, seen
    assert {int(c, 16) for c in re.findall(r"^Cap\w+:\s+([0-9a-f]+)", seen, re.M)} == {0}, seen
    assert set(re.findall(r"^(\d+)$", seen, re.M)) <= {"0", "1", "2", "3"}, seen  # 3: of ls itself


def test_mail(make_vault):
    v = vault_with(make_vault, lambda v: ["{mail: audit@example.org}"],
                   lambda v: "destruction: {sendmail: %s}\n" % program(v, "sendmail", f"cat > {v.base}/letter.tmp; mv {v.base}/letter.tmp {v.base}/letter\n"))
    work(v)
    wait_for(lambda: os.path.exists(v.base + "/letter"), "the letter")
    with open(v.base + "/letter") as f:
        letter = f.read()
    assert letter.startswith("To: <audit@example.org>\n") and LINE.search(letter)
    assert f"anchored until batch {LINE.search(letter)[1]}" in v.coffer("log", "verify", "--anchors", v.base + "/letter").out


def test_failure_is_told_recorded_once_and_tried_again(make_vault):
    v = vault_with(make_vault, lambda v: [f"{{command: {v.base}/missing}}", f"{{file: {v.base}/no/heads}}", f"{{file: {v.base}/heads}}"])
    work(v)
    wait_for(lambda: sum(bool(a["failing"]) for a in v.json("status")["anchors"]) == 2, "both failures")
    assert heads(v.base + "/heads")  # the others go on
    assert sum("not anchored" in w for w in v.json("status")["warnings"]) == 2
    assert "fails" in v.coffer("log", "verify").out
    work(v)
    failed = [x for x in v.log() if x["op"] == "anchor-failed"]
    assert len(failed) == 2
    m = v.mount(v.alice)  # nothing waits for an anchor
    assert m.sh("cat f").out == "x"


HANGS = {
    "hangs": "cat; exec sleep 1000",
    "ignores TERM": "trap '' TERM HUP INT; while :; do sleep 1000; done",
    "hangs with a child": "sleep 1000 & cat; sleep 1000",
}


def alive(mark):
    """Processes with `mark` in their environment or command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f, open(f"/proc/{pid}/environ", "rb") as g:
                if mark.encode() in f.read() + g.read() and not harness.gone(int(pid)):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def hanging(make_vault, script):
    """A vault with an anchor of that script, and what to find its processes by."""
    v = make_vault(up=False)
    mark = "ANCHOR_OF=" + os.path.basename(v.base)
    command = program(v, "command", f"export {mark}\necho x >> {v.base}/started\n{script}\n")
    v.up("--policy", policy(v, "policy.yaml", [f"{{command: {command}}}", f"{{file: {v.base}/heads}}"]), env={"COFFER_ANCHOR_SECONDS": "2"})
    v.add()
    v.grant("acme", v.alice)
    return v, mark


@pytest.mark.parametrize("how", HANGS)
def test_a_command_that_does_not_end_is_ended(make_vault, how):
    v, mark = hanging(make_vault, HANGS[how])
    work(v)
    wait_for(lambda: os.path.exists(v.base + "/started"), "its start")
    assert work(v).rc == OK  # nobody waits for it
    wait_for(lambda: heads(v.base + "/heads"), "the other anchor")
    wait_for(lambda: anchor(v, "command")["failing"], "its end", limit=20)
    assert "signal 9" in anchor(v, "command")["failing"] and anchor(v, "command")["batch"] == 0
    wait_for(lambda: not alive(mark) , "the end of all its processes", limit=20)
    assert [x["detail"]["reason"] for x in v.log() if x["op"] == "anchor-failed"] == [anchor(v, "command")["failing"]]


def test_what_a_command_leaves_behind_goes_with_it(make_vault):
    """A child with all its descriptors: the head counts as arrived, nothing waits for the child, and none pile up."""
    v, mark = hanging(make_vault, "cat > /dev/null; (trap '' TERM HUP; sleep 1000) & echo $! > $0.child")
    work(v)
    wait_for(lambda: anchor(v, "command")["batch"], "the news of it")
    assert anchor(v, "command")["failing"] is None
    assert os.path.exists(v.base + "/command.child")
    wait_for(lambda: not alive(mark), "the end of the child")


@pytest.mark.parametrize("what", ["policy", "down"])
def test_a_command_is_ended_also_when_its_policy_or_coffer_has_gone(make_vault, what):
    v, mark = hanging(make_vault, HANGS["ignores TERM"])
    work(v)
    wait_for(lambda: alive(mark), "its start")
    if what == "policy":
        v.coffer("policy", "apply", policy(v, "other.yaml", [f"{{file: {v.base}/heads}}"]))
    else:
        v.down()
    wait_for(lambda: not alive(mark), "its end", limit=20)
    if what == "policy":
        assert [a["kind"] for a in v.json("status")["anchors"]] == ["file"]


@pytest.mark.parametrize("bad, what", [
    ("{file: heads}", "no absolute path"), ("{every: 1h}", "one of file"), ("{file: /a, command: /b}", "one of file"),
    ("{mail: nobody}", "sendmail"), ("{file: /a, every: 5s}", "at least"), ("{file: /a, every: often}", "no length")])
def test_what_an_anchor_cannot_be(make_vault, bad, what):
    v = make_vault(up=False)
    r = v.coffer("policy", "check", policy(v, "p.yaml", [bad]), check=USAGE)
    assert what in r.err and re.search(r"p\.yaml:\d+:", r.err), r


def test_unmount_gives_a_receipt_that_covers_the_session(make_vault):
    v = make_vault()
    v.add()
    v.grant("acme", v.alice)
    r = work(v)
    m = re.fullmatch(r"receipt: the record up to batch (\d+), ([0-9a-f]{16})\n", r.out)
    assert m, r
    head = v.json("log", "verify")
    assert head["first_bad"] is None if "first_bad" in head else True
    assert head["signed_until"] >= int(m[1])
    rows = v.log()
    assert any(x["op"] == "session-end" for x in rows)


def test_an_admin_names_no_file_and_no_command(acme):
    """Both are written and run as the user of coffer-keyd: only the owner of the state directory names one."""
    acme.down()
    acme.up_with_groups()
    acme.join(acme.bob, "coffer-admin")
    mine, theirs = acme.bob.home + "/heads", acme.base + "/heads"
    for kind in ("file", "command"):
        r = acme.coffer("policy", "apply", readable(policy(acme, f"{kind}.yaml", [f"{{{kind}: {mine}}}"])), user=acme.bob, check=REFUSED)
        assert "owner" in r.err
    acme.coffer("policy", "apply", policy(acme, "a.yaml", [f"{{file: {theirs}}}"]))
    r = acme.coffer("policy", "apply", readable(policy(acme, "b.yaml", [f"{{file: {theirs}, every: 2min}}"])), user=acme.bob, check=None)
    assert r.rc == OK or "owner" not in r.err, r  # what the owner named stays in force
    r = acme.coffer("policy", "apply", readable(policy(acme, "c.yaml", [f"{{command: {theirs}}}"])), user=acme.bob, check=REFUSED)
    assert "owner" in r.err and not os.path.exists(mine)


def readable(path):
    os.chmod(path, 0o644)
    return path


def test_no_receipt_for_what_has_not_ended(acme):
    m = acme.mount(acme.alice)
    script = """
import sys
from varlink import Connection
for session in (0, 1, 99):
    print(Connection(sys.argv[1]).call("org.coffer.keyd.Receipt", session=session))
"""
    assert m.session()["session"] == 1
    said = acme.alice.python("import sys; sys.path.insert(0, %r)\n" % harness.HERE + script, acme.dir + "/run/keyd.sock").out
    assert said.count("NotYet") == 3, said
