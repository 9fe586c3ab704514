"""What somebody does who writes his own client: calls that no tool makes, and more of them than anybody needs."""
import ast
import contextlib
import csv
import inspect
import io
import json
import os
import re
import shutil

import pytest

import harness
import varlink
from harness import FAILED, REFUSED, USAGE, wait_for
from test_policy import builtin_policy, write
from varlink import Connection

SOURCE = inspect.getsource(varlink)


def searches(v):
    return [r for r in v.log("--op", "log-search") if r["detail"].get("op") != "log-search"]


def test_a_search_leaves_its_trace_wherever_it_begins(acme):
    """Pages go on without a record of their own; a place that was given to nobody is no page."""
    acme.mount(acme.alice).write("f", "x")
    fsd = Connection(acme.dir + "/run/fsd.sock")

    def ask(**kw):
        return fsd.call("org.coffer.fsd.LogQuery", **kw)["parameters"]

    n = len(searches(acme))
    for after in ("r0a0", "r0a0.", "r0a0." + "0" * 64):
        assert ask(after=after)["rows"]
        n += 1
        assert len(searches(acme)) == n, after
    first = ask(client="acme", limit=2)
    assert len(searches(acme)) == n + 1 and len(first["rows"]) == 2 and first["next"]
    second = ask(client="acme", limit=3, after=first["next"])
    assert len(searches(acme)) == n + 1
    assert {r["id"] for r in first["rows"]}.isdisjoint(r["id"] for r in second["rows"])
    ask(limit=2, after=first["next"])  # the place of another search
    assert len(searches(acme)) == n + 2
    for bad in ("x", "x" * 100, "r1a1x", "r-1a0"):
        assert "error" in fsd.call("org.coffer.fsd.LogQuery", after=bad), bad


ASK = SOURCE + r'''
import sys, collections
_, path, n, client, purpose, ticket = sys.argv
keyd, said = Connection(path + "/run/keyd.sock"), collections.Counter()
for i in range(int(n)):
    answer = keyd.call("org.coffer.keyd.Mount", client=client, purpose=purpose, ticket=ticket)
    said[answer.get("error", "ok").rsplit(".", 1)[-1]] += 1
print(dict(said))
'''


def asks(v, user, n, client="acme", purpose="data-migration"):
    return ast.literal_eval(user.python(ASK, v.dir, n, client, purpose, "CHG-1", timeout=60).out)


def test_refusals_without_end_do_not_fill_the_disk(acme):
    """Bounded for each user, and none is lost: those that are not recorded one by one are counted in the book."""
    assert asks(acme, acme.bob, 200) == {"NotGranted": 200}
    rows = [r for r in acme.log("--user", acme.bob.name) if r["op"] == "refused"]
    single = [r for r in rows if r["outcome"] == "NotGranted"]
    assert 30 <= len(single) <= 60 and len(rows) - len(single) in (1, 2), rows  # a minute may end meanwhile
    acme.mount(acme.carol, check=REFUSED)
    assert [r for r in acme.log("--user", acme.carol.name) if r["outcome"] == "NotGranted"]
    assert isinstance(acme.mount(acme.alice), harness.Mount)
    acme.down()
    acme.up()
    rows = [r for r in acme.log("--user", acme.bob.name) if r["op"] == "refused" and r["outcome"] == "TooMany"]
    assert sum(r["detail"].get("left_out", 0) for r in rows) == 200 - len(single)


def test_refused_searches_without_end_do_not_fill_the_disk_either(acme):
    said = acme.bob.python(SOURCE + '''
import sys
keyd = Connection(sys.argv[1])
print({keyd.call("org.coffer.keyd.SubjectFind", client="acme", subject="doe").get("error") for i in range(200)})
''', acme.dir + "/run/keyd.sock", timeout=60).out
    assert said.strip() == "{'org.coffer.keyd.PermissionDenied'}"
    rows = acme.log("--user", acme.bob.name)
    assert 30 <= len([r for r in rows if r["op"] == "subject-find"]) <= 60
    assert [r for r in rows if r["op"] == "refused" and r["outcome"] == "TooMany"]


def test_sessions_that_nobody_mounts_are_bounded(acme):
    assert asks(acme, acme.alice, 80) == {"ok": 64, "TooMany": 16}
    acme.grant("acme", acme.bob)
    assert isinstance(acme.mount(acme.bob), harness.Mount)


def test_garbage_without_end_does_not_fill_the_log(acme):
    """Nor do connections beyond what one user may have."""
    def size():
        return sum(os.path.getsize(f"{acme.dir}/log/{n}") for n in os.listdir(acme.dir + "/log"))

    before = size()
    acme.bob.python("""
import socket, sys
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    return s
for i in range(500):
    s = connect()
    s.sendall(b"{}\\0")
    s.recv(1000)
    s.close()
keep = [connect() for i in range(64)]
for i in range(500):
    connect().close()
""", acme.dir + "/run/keyd.sock", timeout=60)
    acme.status()
    assert size() - before < 20000


def test_names_of_files_are_no_formulas_and_end_no_line(share):
    """Whoever names a file must not run anything on the auditor's desk, nor forge an event."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@x", "plain", "\x0b\x1b[31m\x0c", "\t=1"]
    for n in names:
        share.write(n, "x")
    v = share.vault

    def log(form):
        return v.coffer("log", "--op", "create", "--format", form).out

    paths = [r["path"] for r in csv.DictReader(io.StringIO(log("csv"), newline=""))]
    assert sorted(paths) == sorted(("'" + n) if n[0] in "=+-@\t" else n for n in names)
    lines = log("cef").splitlines()
    assert len(lines) == len(names) and all(li.startswith("CEF:0|Coffer|") for li in lines), lines
    assert "\x1b" not in log("cef")


def test_pseudonyms_leave_nothing_else(share):
    """Only what is known to be harmless stays."""
    share.write("secret-name", "x")
    v = share.vault
    for row in v.rows("log", "--pseudonyms", v.base + "/key"):
        assert set(row) <= {"id", "time", "time_ns", "op", "outcome", "purpose", "session", "size", "bytes_read", "bytes_written",
                            "flags", "name_lost", "user", "client", "path", "path2", "file"}, row
        for key in ("user", "client", "path", "path2", "file"):
            assert row.get(key) is None or "-" in row[key] and len(row[key]) > 32, row


def test_a_passphrase_that_drips_holds_up_nobody(acme):
    """Two seconds for all of it, not for each byte."""
    acme.down()
    acme.up_with_groups()
    acme.join(acme.bob, "coffer-custodian")
    a = acme.actor(acme.bob, limit=60)
    a.do(f"""
import array, json, socket, threading, time
s = socket.socket(socket.AF_UNIX)
s.settimeout(30)
s.connect({acme.dir + '/run/keyd.sock'!r})
r, w = os.pipe()
def drip():
    for i in range(8):
        try: os.write(w, b'x')
        except OSError: return
        time.sleep(1)
    os.close(w)
threading.Thread(target=drip, daemon=True).start()
s.sendmsg([json.dumps({{"method": "org.coffer.keyd.PassphraseSet", "parameters": {{}}}}).encode() + b"\\0"],
          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [r]))])
os.close(r)
said = s.recv(10000)
""")
    assert b"NoPassphrase" in a.get("said")


def test_an_admin_does_not_become_root_by_the_policy(acme):
    """coffer-keyd runs the policy's mail program, as itself: only the owner of the state directory names one."""
    acme.down()
    acme.up_with_groups()
    bob = acme.bob
    acme.join(bob, "coffer-admin")
    keys, program = bob.home + "/keys", bob.home + "/program"
    with open(program, "w") as f:
        f.write(f"#!/bin/sh\ncat {acme.dir}/keyd/slot/root.key > {keys}\nid > {bob.home}/id\n")
    os.chmod(program, 0o755)
    text = builtin_policy().replace('version: "2024-05-10"', 'version: "2"', 1)

    def with_program(name, path):
        return write(acme, name, text.replace("legal_bases:", f'destruction: {{sendmail: "{path}"}}\nlegal_bases:', 1))

    def letter(user):
        said = user.python(SOURCE + """
import sys
print(Connection(sys.argv[1]).call("org.coffer.keyd.Incident", client="acme", **{"from": 1, "until": 2}, persons=1, files=1,
                                   categories="names"))""", acme.dir + "/run/keyd.sock").out
        assert "incident-" in said, said

    r = acme.coffer("policy", "apply", with_program("a.yaml", program), user=bob, check=None)
    letter(bob)
    with contextlib.suppress(harness.Timeout):
        wait_for(lambda: os.path.exists(bob.home + "/id"), "what must not be", limit=1)
    assert not os.path.exists(bob.home + "/id"), "an admin's program ran as " + open(bob.home + "/id").read()
    assert r.rc == REFUSED and "owner" in r.err, r
    # what the owner named stays in force under versions that an admin applies
    theirs = acme.base + "/sendmail"
    with open(theirs, "w") as f:
        f.write(f"#!/bin/sh\ncat > {acme.base}/sent\n")
    os.chmod(theirs, 0o755)
    acme.coffer("policy", "apply", with_program("b.yaml", theirs))
    acme.coffer("policy", "apply", with_program("c.yaml", program), user=bob, check=REFUSED)
    text = text.replace('version: "2"', 'version: "3"', 1)
    acme.coffer("policy", "apply", with_program("d.yaml", theirs), user=bob)
    letter(bob)
    wait_for(lambda: os.path.exists(acme.base + "/sent"), "the letter")


def test_an_admin_does_not_shorten_how_long_the_record_is_kept(acme):
    """What was recorded about him would be destroyed sooner."""
    acme.down()
    acme.up_with_groups()
    bob = acme.bob
    acme.join(bob, "coffer-admin")
    text = builtin_policy()

    def keeps(version, words):
        return write(acme, version + ".yaml", text.replace('version: "2024-05-10"', f'version: "{version}"', 1).replace(
            "legal_bases:", words + "\nlegal_bases:", 1))

    r = acme.coffer("policy", "apply", keeps("2", "record: {keep: 1y}"), user=bob, check=REFUSED)
    assert "sooner" in r.err and "owner" in r.err, r
    acme.coffer("policy", "apply", keeps("3", "record: {keep: 5y}"))
    acme.coffer("policy", "apply", keeps("4", "record: {keep: 4y}"), user=bob, check=REFUSED)
    acme.coffer("policy", "apply", keeps("5", "record: {keep: 6y}"), user=bob)
    acme.coffer("policy", "apply", keeps("6", "record: {archive: 2m}"), user=bob)


def test_a_number_that_a_class_ever_had_is_no_others(acme):
    """Not even when a version between them left the class out, or begins later."""
    text = builtin_policy()
    without = text.replace('version: "2024-05-10"', 'version: "2"', 1).replace("number: 20\n    id: contact", "number: 99\n    id: names")
    reused = without.replace("number: 99\n    id: names", "number: 20\n    id: other").replace('version: "2"', 'version: "3"', 1)
    name = "contact"
    assert "number: 99" in without and "number: 20" in reused
    acme.coffer("policy", "apply", write(acme, "2.yaml", without))
    r = acme.coffer("policy", "apply", write(acme, "3.yaml", reused), check=USAGE)
    assert name in r.err and "for ever" in r.err
    said = r.err.split("coffer: ")[1].split(";")[0]
    # nor when the daemons are started with it: the same words, and nothing is recorded
    acme.down()
    r = acme.coffer("up", "--policy", write(acme, "3.yaml", reused), check=FAILED, timeout=60)
    assert said in r.err and "for ever" in r.err, r
    moved = text.replace('version: "2024-05-10"', 'version: "4"', 1).replace("number: 20\n    id: contact", "number: 98\n    id: contact")
    assert "contact had the number 20" in acme.coffer("up", "--policy", write(acme, "4.yaml", moved), check=FAILED, timeout=60).err
    acme.up("--policy", write(acme, "2.yaml", without))
    assert [p["version"] for p in acme.rows("policy", "versions")] == ["2024-05-10", "2"]


@pytest.mark.parametrize("how", ["library", "command", "device"])
def test_a_custodian_does_not_become_root_by_the_way_to_a_tpm(acme, how):
    """The way is loaded as a library of coffer-keyd, may run a command, or write to a file: only those to a TPM will do."""
    acme.down()
    acme.up_with_groups()
    bob = acme.bob
    acme.join(bob, "coffer-custodian")
    proof, path = bob.home + "/proof", bob.home + "/evil.so"
    with open(proof, "w") as f:
        f.write("untouched")
    with open(bob.home + "/evil.c", "w") as f:
        f.write('#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void run(void)\n'
                f'{{ int fd = open("{proof}", O_WRONLY | O_TRUNC); if (fd >= 0 && write(fd, "I am root", 9) > 0) close(fd); }}\n')
    if how == "library":
        if not shutil.which("cc"):
            pytest.skip("no compiler here")
        harness.run(["cc", "-shared", "-fPIC", "-o", path, bob.home + "/evil.c"], check=True)
    way = {"library": path + ":x", "command": f"cmd:cp /etc/hostname {proof}", "device": "device:" + proof}[how]
    place = "0x01500000@" + way
    for args in (("add", "chip", place, "--kind", "tpm2"), ("add", "stick", bob.home + "/slot", "--tpm", place)):
        r = acme.coffer("slot", *args, user=bob, check=None)
        with open(proof, "rb") as f:
            assert f.read() == b"untouched", r
        assert r.rc != 0
    assert len(acme.rows("slot", "list")) == 1


def test_a_pipe_in_the_place_of_a_slot_holds_up_nobody(acme):
    """A custodian, or whoever had the medium, puts there what would be waited for."""
    for name in ("root.slot", "root.key", "CACHEDIR.TAG"):
        place = f"{acme.bob.home}/{name}.d"
        os.mkdir(place)
        os.mkfifo(place + "/" + name)
        acme.coffer("slot", "add", name.lower().replace(".", "-"), place, check=None, timeout=10)
        assert acme.status(timeout=5)["state"] == "open"


LIE = SOURCE + r'''
import array, os, subprocess, sys, time
_, state, point, lie = sys.argv
a = Connection(state + "/run/keyd.sock").call("org.coffer.keyd.Mount", client="acme", purpose="data-migration", ticket="CHG-1")["parameters"]
ours, theirs = socket.socketpair()
subprocess.run(["fusermount3", "-o", "fsname=coffer:acme,subtype=coffer,nosuid,nodev,max_read=1048576", "--", point],
               env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()], check=True)
fds = array.array("i")
fds.frombytes(ours.recvmsg(1, 100)[1][0][2][:4])
keeper, other = socket.socketpair()
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(state + "/run/fsd.sock")
s.sendmsg([json.dumps({"method": "org.coffer.fsd.Attach", "parameters": {"session": a["session"], "token": a["token"],
          "mountpoint": lie}}).encode() + b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fds[0], other.fileno()]))])
assert b"error" not in s.recv(10000)
print(a["session"])
'''


def test_root_unmounts_nothing_that_a_user_names(share):
    """A session says itself where it is mounted: root, who ends it, must not unmount that."""
    v = share.vault
    victim = v.base + "/victim"
    os.mkdir(victim)
    harness.run(["mount", "-t", "tmpfs", "none", victim], check=True)
    try:
        with open(victim + "/file", "w") as f:
            f.write("there")
        v.grant("acme", v.bob)
        for lie in (victim, share.point):
            n = v.bob.python(LIE, v.dir, v.bob.mkdir("p" + lie[-1]), lie).out.strip()
            assert [s for s in v.rows("sessions") if str(s["session"]) == n and s["mountpoint"] == lie]
            v.coffer("unmount", "--session", n, check=None)
            assert os.path.exists(victim + "/file") and share.mounted()
            assert not [s for s in v.rows("sessions") if str(s["session"]) == n]
        v.coffer("unmount", victim, check=harness.NOT_FOUND)
        assert os.path.exists(victim + "/file")
    finally:
        harness.run(["umount", "-l", victim])
    n = str(share.session()["session"])
    v.coffer("unmount", "--session", n)
    assert not share.mounted()


@pytest.mark.slow
@pytest.mark.limit(120)
def test_no_exchange_of_the_signing_key_makes_old_heads_look_forged(acme):
    """Who verifies knows 64 keys: the 64th exchange is refused, and all heads stay good."""
    acme.mount(acme.alice).write("f", "x")
    keyd = Connection(acme.dir + "/run/keyd.sock")
    keyd.call("org.coffer.keyd.Suspend", all=True, reason="a signed head")
    for i in range(63):
        assert "error" not in keyd.call("org.coffer.keyd.RotateSigning"), i
    assert "TooMany" in str(keyd.call("org.coffer.keyd.RotateSigning"))
    acme.coffer("log", "verify")


def test_a_day_beyond_all_calendars_is_no_day(acme):
    """What is computed from it would wrap to a day that is over, and be destroyed."""
    keyd = Connection(acme.dir + "/run/keyd.sock")
    for on in (2**63 - 1, 2**62, 253402300800):
        assert "InvalidDate" in str(keyd.call("org.coffer.keyd.ClientEnd", client="acme", on=on)), on
        assert "InvalidDate" in str(keyd.call("org.coffer.keyd.Grant", client="acme", user="root", purpose="support", rights="r", until=on))
    assert acme.rows("client", "list")[0]["ended_on"] is None
    assert "error" not in keyd.call("org.coffer.keyd.ClientEnd", client="acme", on=253402300799)


def test_who_has_a_role_opens_no_client_through_a_shared_mount_either(acme):
    """Nor goes on when he gets the role later."""
    acme.down()
    acme.up_with_groups()
    acme.join(acme.bob, "coffer-auditor")
    acme.grant("acme", acme.bob)
    acme.grant("acme", acme.carol)
    acme.mount(acme.bob, check=REFUSED)
    point = acme.base + "/shared"
    os.mkdir(point, 0o755)
    acme.coffer("mount", "acme", "--purpose", "data-migration", "--ticket", "CHG-1", "--shared", point)
    alice = acme.actor(acme.alice, acme.base)
    alice.do(f"open('{point}/f', 'w').write('secret')")
    assert acme.bob.run("cat", point + "/f").rc != 0
    row = [r for r in acme.log("--user", acme.bob.name) if r["op"] == "refused"][-1]
    assert row["outcome"] == "RolesTogether", row
    assert acme.carol.run("ls", point).rc == 0
    acme.join(acme.carol, "coffer-custodian")
    acme.revoke("acme", acme.bob)  # looks at everybody's session again
    wait_for(lambda: acme.carol.run("ls", point).rc != 0, "the end of what a role excludes", limit=5)
    alice.do(f"open('{point}/f').read()")


def test_where_keys_lie_is_not_told_to_everybody(acme):
    mine, his = acme.status(), acme.json("status", user=acme.bob)
    assert [s["path"] for s in mine["slots"]] and mine["red"]
    assert his["slots"] == [] and his["red"] == [] and his["recovery"] is None and "keyd/slot" not in json.dumps(his["warnings"])
    acme.coffer("status", user=acme.bob)
    acme.coffer("slot", "list", user=acme.bob, check=REFUSED)


def test_an_auditor_with_a_role_that_excludes_it_reads_no_record_of_others(make_vault):
    """The record is coffer-fsd's, the policy coffer-keyd's: it is told."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    for group in ("coffer-auditor", "coffer-admin"):
        v.join(v.bob, group)
    v.join(v.carol, "coffer-auditor")
    assert v.coffer("log", "--json", user=v.carol).json
    assert v.coffer("log", "--json", user=v.bob).json == []
    fsd = SOURCE + "import sys; print(Connection(sys.argv[1]).call('org.coffer.fsd.LogVerify'))"
    assert "RolesTogether" in v.bob.python(fsd, v.dir + "/run/fsd.sock").out
    text = builtin_policy().replace('version: "2024-05-10"', 'version: "2"', 1) + "together:\n- {roles: [admin, auditor]}\n"
    v.coffer("policy", "apply", write(v, "together.yaml", text))
    wait_for(lambda: v.coffer("log", "--json", user=v.bob).json, "his roles go together now")
