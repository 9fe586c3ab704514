"""coffer fsck: finds damage without a mount, mends or isolates it, never destroys; a file older than the record knows."""
import json
import os
import random
import shutil
import socket
import subprocess
import time

import pytest

import harness
from harness import DAMAGED, NOT_FOUND, OK, REFUSED, UNREACHABLE, USAGE, wait_for

MENDED = 9
SECTOR = 4096


def backing_of(v, text):
    """The path in the store of the file that fsck knows by this plaintext path: found by its size below."""
    found = [p for p in harness.files_below(v.store()) if os.path.getsize(p) == text]
    assert len(found) == 1, (text, found)
    return found[0]


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))


def fsck(v, *args, code=OK, **kw):
    """{"verdict", "counts", "findings"} of a check that must end with `code`."""
    return v.coffer("fsck", "acme", "--json", *args, check=code, timeout=60, **kw).json


def only(answer):
    assert len(answer["findings"]) == 1, answer
    return answer["findings"][0]


@pytest.fixture
def store(share):
    """A share with a few files of known sizes, unmounted; the daemons run."""
    share.sh("mkdir -p dir/below; head -c 100 /dev/zero > small; head -c 20000 /dev/urandom > dir/big;"
             "echo note > dir/below/note; ln -s target link; ln dir/big hard; : > empty")
    share.unmount()
    return share.vault


def size_below(n):
    """What a file of n bytes has in the store."""
    sectors = -(-n // 4032)
    return SECTOR * (1 + sectors) + n - (sectors - 1) * 4032


@pytest.mark.sanitize
def test_clean(store):
    a = fsck(store)
    assert a["verdict"] == "clean" and a["findings"] == []
    assert a["counts"]["files"] == 5 and a["counts"]["directories"] == 3, a
    assert a["counts"]["damaged"] == 0 and a["counts"]["bytes"] > 20000
    text = store.coffer("fsck", "acme")
    assert "acme: clean" in text.out and "\r" not in text.out + text.err, text
    ops = [(r["op"], r["user"], r["client"]) for r in store.log("--client", "acme")]
    assert ops.count(("fsck-start", "root", "acme")) == 2 and ops.count(("fsck-end", "root", "acme")) == 2


def test_damage_is_named_by_both_paths(store):
    path = backing_of(store, size_below(100))
    flip(path, SECTOR + 70)
    a = fsck(store, code=DAMAGED)
    f = only(a)
    assert a["verdict"] == "damaged"
    assert f["path"] == "small" and f["what"] == "sector" and f["damage"]
    assert os.path.join(store.store(), f["store"]) == path
    text = store.coffer("fsck", "acme", check=DAMAGED).out
    assert "small" in text and f["store"] in text and "sector" in text
    # The record says what was found, and names nothing.
    rows = [r for r in store.log("--client", "acme") if r["op"] == "fsck-findings"]
    assert rows and rows[0]["detail"]["findings"][0]["store"] == f["store"]
    assert "small" not in json.dumps([r["detail"] for r in rows])
    assert store.coffer("log", "verify")


def test_isolate_and_what_it_leaves(store):
    content = bytes(100)
    flip(backing_of(store, size_below(100)), SECTOR + 70)
    f = only(fsck(store, "--isolate", code=MENDED))
    assert f["done"] == "isolated" and f["path"] == "small"
    again = fsck(store, code=MENDED)["counts"]
    assert again["isolated"] >= 1 and again["damaged"] == 0
    m = store.mount(store.alice)
    names = m.sh("ls").out.split()
    assert "small" not in names and any(n.startswith("small.damaged-") for n in names), names
    m.write("small", content)  # the name is free again
    assert m.read("small") == content
    assert m.sh("cmp hard dir/big; cat dir/below/note").out == "note\n"
    m.sh("rm small.damaged-*")
    m.unmount()
    assert fsck(store)["verdict"] == "clean"


def test_isolation_needs_a_store_without_sessions(store):
    m = store.mount(store.alice)
    r = store.coffer("fsck", "acme", "--isolate", check=UNREACHABLE)
    assert "sessions" in r.err
    assert fsck(store)["verdict"] == "clean"  # a look is always possible
    m.unmount()
    fsck(store, "--isolate")


@pytest.mark.sanitize
def test_beside_a_busy_session(share):
    """Nothing is taken for damage because somebody is writing it."""
    script = """
import os, random, time
end = time.monotonic() + 4
r = random.Random(1)
n = 0
while time.monotonic() < end:
    name = f"f{r.randrange(20)}"
    k = r.randrange(6)
    try:
        if k == 0: open(name, "wb").write(r.randbytes(r.randrange(30000)))
        elif k == 1: open(name, "ab").write(r.randbytes(5000))
        elif k == 2: os.truncate(name, r.randrange(20000))
        elif k == 3: os.rename(name, f"f{r.randrange(20)}")
        elif k == 4: os.makedirs(f"d{r.randrange(5)}", exist_ok=True); os.rename(f"d{r.randrange(5)}", f"d{r.randrange(9)}")
        else: os.remove(name)
    except OSError: pass
    n += 1
print(n)
"""
    p = subprocess.Popen(["/usr/bin/env", "-C", share.point, "/usr/bin/python3", "-c", script],
                         stdout=subprocess.PIPE, start_new_session=True, cwd="/", **harness.identity(share.user))
    rounds = 0
    while p.poll() is None:
        a = fsck(share.vault)
        assert a["counts"]["damaged"] == 0, a
        rounds += 1
    assert rounds >= 3 and int(p.stdout.read()) > 50
    share.unmount()
    assert fsck(share.vault)["findings"] == []


def test_an_older_copy_of_a_file(share, tmp_path):
    """A whole old version, attributes and all, is in itself sound: only the record knows that there is a newer one."""
    v = share.vault
    share.write("list", b"old" * 1000)
    share.unmount()
    path = backing_of(v, size_below(3000))
    shutil.copy2(path, tmp_path / "old")
    m = v.mount(v.alice)
    m.python("f = open('list', 'r+b'); f.write(b'NEW' * 1000)")
    m.unmount()
    assert fsck(v)["verdict"] == "clean"
    subprocess.run(["cp", "-a", tmp_path / "old", path], check=True)
    time.sleep(0.1)
    f = only(fsck(v, code=DAMAGED))
    assert f["what"] == "rolled-back" and f["path"] == "list"
    # It was meant: a custodian says so, and that stands in the record.
    f = only(fsck(v, "--accept", "list", code=MENDED))
    assert f["done"] == "accepted"
    assert fsck(v)["verdict"] == "clean"
    rows = [r for r in v.log("--client", "acme") if r["op"] == "fsck-accept"]
    assert len(rows) == 1 and rows[0]["user"] == "root" and rows[0]["detail"]["file"] == f["file"]
    m = v.mount(v.alice)
    assert m.read("list") == b"old" * 1000
    m.write("list", b"on from here")
    m.unmount()
    assert fsck(v)["verdict"] == "clean"


def test_an_older_copy_of_the_whole_store(share, tmp_path):
    """A restore of last night's backup: each file that was changed since is named, the others are not."""
    v = share.vault
    for name in ("same", "changed", "emptied"):
        share.write(name, name * 100)
    share.unmount()
    harness.copy_tree(v.store(), tmp_path / "old")
    m = v.mount(v.alice)
    m.sh("echo more >> changed; : > emptied; echo new > new")
    m.unmount()
    v.down()
    store = v.store()
    shutil.rmtree(store)
    harness.copy_tree(tmp_path / "old", store)
    v.up()
    a = fsck(v, code=DAMAGED)
    assert {f["path"]: f["what"] for f in a["findings"]} == {"changed": "rolled-back", "emptied": "cut"}, a
    fsck(v, "--accept", "/", code=MENDED)
    assert fsck(v)["verdict"] == "clean"


def test_a_file_cut_where_a_sector_ends(share):
    """Never synced, so the file itself does not know; the record of its close does."""
    v = share.vault
    share.write("list", random.Random(1).randbytes(4032 * 5))
    share.unmount()
    path = backing_of(v, size_below(4032 * 5))
    os.truncate(path, SECTOR * 3 + 4032)
    time.sleep(0.1)
    f = only(fsck(v, code=DAMAGED))
    assert f["what"] in ("cut", "rolled-back") and f["path"] == "list"


def test_restored_without_attributes(store, tmp_path):
    """As a backup tool that keeps no attributes brings it back."""
    path = backing_of(store, size_below(100))
    data = open(path, "rb").read()
    os.unlink(path)
    open(path, "wb").write(data)
    assert only(fsck(store, code=DAMAGED))["what"] == "place"
    f = only(fsck(store, "--accept", "small", code=MENDED))
    assert f["what"] == "place" and f["done"] == "accepted"
    assert fsck(store)["verdict"] == "clean"
    m = store.mount(store.alice)
    assert m.read("small") == bytes(100)


def test_leftovers_are_removed_only_on_demand(store):
    stale = os.path.join(store.store(), ".uAAAAAAAAAAAAAAAAAAAAAA")
    open(stale, "w").close()
    assert fsck(store)["counts"]["leftovers"] == 1
    assert os.path.exists(stale)
    assert fsck(store, "--repair", code=MENDED)["counts"]["repaired"] == 1
    assert not os.path.exists(stale)
    assert fsck(store)["findings"] == []


def test_root_of_the_share(store):
    """Without the id of the root nothing opens: that is said, and with which file."""
    store.down()
    store.up()
    os.rename(store.store() + "/.id", store.store() + "/../kept")
    r = store.coffer("fsck", "acme", check=DAMAGED)
    assert store.client_id() in r.err and ".id" in r.err, r
    os.rename(store.store() + "/../kept", store.store() + "/.id")
    fsck(store)


def test_only_a_part(store):
    flip(backing_of(store, size_below(100)), 100)
    assert fsck(store, "--only", "dir")["counts"]["files"] == 2
    f = only(fsck(store, "--only", "small", code=DAMAGED))
    assert only(fsck(store, "--only", f["store"], code=DAMAGED))["path"] == "small"
    assert "no such" in store.coffer("fsck", "acme", "--only", "nothing", check=NOT_FOUND).err
    store.coffer("fsck", "acme", "--only", "dir", "--resume", check=USAGE)
    store.coffer("fsck", "nobody", check=NOT_FOUND)


def test_who_may(store):
    r = store.coffer("fsck", "acme", user=store.alice, check=REFUSED)
    assert "coffer-admin" in r.err
    store.coffer("fsck", "acme", "--accept", "small", user=store.alice, check=REFUSED)
    store.coffer("seal")
    store.coffer("fsck", "acme", check=harness.SEALED)
    store.coffer("unseal")
    fsck(store)


class Keyd:
    """keyd's socket, for what the tool does not do."""

    def __init__(self, v):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(20)
        fd = os.open(v.dir + "/run", os.O_PATH)
        self.s.connect(f"/proc/self/fd/{fd}/keyd.sock")
        os.close(fd)

    def call(self, method, **params):
        self.s.sendall(json.dumps({"method": "org.coffer.keyd." + method, "parameters": params}).encode() + b"\0")
        data = b""
        while not data.endswith(b"\0"):
            more = self.s.recv(1 << 20)
            assert more, data
            data += more
        answer = json.loads(data[:-1])
        assert "error" not in answer, answer
        return answer["parameters"]


def test_roles(store):
    """An administrator learns which stored file is damaged, and no name, not by trying names either; he cannot say that it is
    right.  An auditor sees names and changes nothing."""
    v, path = store, backing_of(store, size_below(100))
    flip(path, SECTOR + 70)
    v.down()
    v.up_with_groups()
    for group, user in (("coffer-admin", v.carol), ("coffer-auditor", v.bob), ("coffer-custodian", v.alice)):
        v.join(user, group)
    f = only(fsck(v, user=v.carol, code=DAMAGED))
    assert f["path"] is None and os.path.join(v.store(), f["store"]) == path
    assert "small" not in v.coffer("fsck", "acme", user=v.carol, check=DAMAGED).out
    v.coffer("fsck", "acme", "--only", "small", user=v.carol, check=NOT_FOUND)
    fsck(v, "--only", f["store"], "--repair", user=v.carol, code=DAMAGED)
    v.coffer("fsck", "acme", "--accept", f["store"], user=v.carol, check=REFUSED)
    assert only(fsck(v, "--only", "small", user=v.bob, code=DAMAGED))["path"] == "small"
    for option in (["--repair"], ["--isolate"], ["--accept", "small"]):
        v.coffer("fsck", "acme", *option, user=v.bob, check=REFUSED)
    # She has worked for acme: the names are no news to her.
    assert only(fsck(v, "--accept", "small", user=v.alice, code=DAMAGED))["path"] == "small"


def test_stopped_and_resumed(store):
    """What was looked at is not looked at again, also after keyd was killed; no finding is lost or told twice."""
    junk = {f"x{i:04}" for i in range(1000)}
    for name in junk:
        open(os.path.join(store.store(), name), "w").close()
    k = Keyd(store)
    check = k.call("Fsck", client="acme")["fsck"]
    first = []
    while len(first) < 300:  # findings that nobody takes hold the check up: it cannot be through
        first += k.call("FsckNext", fsck=check)["findings"]
    assert len(first) < 1000
    k.call("FsckStop", fsck=check)
    harness.kill9(store.pid("keyd"))
    wait_for(lambda: not harness.our_processes(store.dir), "end of the daemons")
    store.up()
    a = fsck(store, "--resume", code=DAMAGED)
    assert a["counts"]["files"] == 5 and a["counts"]["damaged"] == 1000, a["counts"]
    seen = [f["store"] for f in first + a["findings"]]
    assert len(seen) == 1000 and set(seen) == junk
    store.coffer("fsck", "acme", "--resume", check=NOT_FOUND)  # it was through
    outcomes = [r["outcome"] for r in store.log("--client", "acme") if r["op"] == "fsck-end"]
    assert outcomes == ["Stopped", 0]


def test_one_at_a_time_and_an_abandoned_one(store):
    """A tool that is killed does not keep others out for long."""
    k = Keyd(store)
    k.call("Fsck", client="acme")
    r = store.coffer("fsck", "acme", check=UNREACHABLE)
    assert "being checked" in r.err
    wait_for(lambda: store.coffer("fsck", "acme", check=None).rc == OK, "end of the abandoned check", 25, 0.5)
    assert [r["outcome"] for r in store.log("--client", "acme") if r["op"] == "fsck-end"] == ["Abandoned", 0]


def test_another_user_cannot_take_the_findings(acme):
    """The number of a check is no secret worth having: it is good for who began it."""
    check = Keyd(acme).call("Fsck", client="acme")["fsck"]
    script = f"""
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
os.chdir(sys.argv[1]); s.connect("keyd.sock")
s.sendall(json.dumps({{"method": "org.coffer.keyd.FsckNext", "parameters": {{"fsck": {check}}}}}).encode() + b"\\0")
print(s.recv(65536).decode())
"""
    assert "PermissionDenied" in acme.alice.python(script, acme.dir + "/run").out


def test_between_erasure_and_sweep_nothing_is_damaged(store, tmp_path):
    """Then it is swept.  What somebody puts back afterwards is reported."""
    before = {os.path.join(d, f) for d, _, fs in os.walk(store.store()) for f in fs}
    copy = str(tmp_path / "copy")
    subprocess.run(["cp", "-a", store.store(), copy], check=True)
    store.coffer("shred", "acme", "small", "--reason", "R", "--yes")
    r = fsck(store)  # swept already, or not yet
    assert r["verdict"] == "clean" and r["counts"]["damaged"] == 0, r
    assert [f["what"] for f in r["findings"]] == ["destroyed"] * r["counts"]["destroyed"]
    assert all(not f["damage"] for f in r["findings"])
    wait_for(lambda: [x for x in store.log() if x["op"] == "sweep"], "the sweep")
    assert fsck(store)["findings"] == []
    gone = before - {os.path.join(d, f) for d, _, fs in os.walk(store.store()) for f in fs}
    assert len(gone) == 1
    path = gone.pop()
    subprocess.run(["cp", "-a", path.replace(store.store(), copy), path], check=True)
    r = fsck(store, code=DAMAGED)
    assert only(r)["what"] == "destroyed" and r["counts"]["damaged"] == 1 and r["counts"]["destroyed"] == 0, r
