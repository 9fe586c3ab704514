"""coffer-keyd is killed, or the disk fails, at chosen steps of destructions.  All of them: tests/stress/erasures."""
import errno
import glob
import os
import shutil
import sqlite3
import subprocess

import pytest

import harness
from harness import wait_for
from erasing import Ageing, Erasing, Expiring, Moving
from steps import FAIL_ON, FAIL_ONCE, KILL, KILL_CHILD, Proof
from test_destroy import Clock, faketime, open_credentials, pass_time  # noqa: F401 (a fixture among them)

pytestmark = pytest.mark.skipif(harness.SANITIZED, reason="a preloaded library and a sanitizer both want to come first")


@pytest.fixture
def erasing(make_vault):
    return Erasing(make_vault(up=False))


def test_tree_is_erased_or_not_at_chosen_steps(erasing):
    e = erasing
    assert e.attempt(KILL, 4, word="facts.db-wal") and not e.last
    assert e.attempt(KILL, 0, word="pwrite keyd/keys") and not e.last
    assert e.attempt(KILL, 0, word="pwrite keyd/slot") and not e.last
    assert e.attempt(KILL, 1, word="pwrite keyd/slot") and e.last
    e.old_keys = 1  # one of its files was under another leaf before
    assert e.attempt(KILL, 0, word="rename keyd/certificates") and e.last
    assert e.attempt(FAIL_ONCE, 0, word="fsync keyd/keys/ring") and not e.last
    assert e.attempt(FAIL_ON, 1, word="keyd/slot") and not e.last
    assert e.attempt(FAIL_ON, 2, word="keyd/slot") and e.last  # pending, until the disk takes writes again
    assert e.attempt(KILL_CHILD, 0, word="fsync keyd/slot", child="coffer-worker") and e.last
    e.finish()


def test_older_keys_that_cannot_be_looked_at_stop_an_erasure(acme):
    """`doc` was re-wrapped, and whether something is still under its old key cannot be looked up (keyd gets no descriptor for
    the list that it asks about).  Without the old key's end nothing of `doc` would be gone."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    v, proof = acme, Proof(acme)
    m = v.mount(v.alice)
    m.sh("echo secret > doc")
    proof.note()
    v.coffer("class", "set", "acme", "doc", "project")
    m.unmount()
    trace = subprocess.Popen(["strace", "-o", v.base + "/trace", "-p", str(v.pid("keyd")), "-e", "trace=memfd_create",
                              "-e", "inject=memfd_create:error=EMFILE"], stderr=subprocess.PIPE)
    try:
        assert b"attached" in trace.stderr.readline()
        r = v.coffer("shred", "acme", "doc", "--reason", "R", "--yes", check=harness.FAILED)
    finally:
        trace.terminate()
        trace.communicate(timeout=10)
    with open(v.base + "/trace") as f:
        assert "INJECTED" in f.read() and "older keys" in r.err, r
    assert all(proof.check().values()) and not proof.certificates()
    assert v.json("shred", "acme", "doc", "--reason", "R", "--yes")["old_keys"] == 1
    assert not any(proof.check().values())


def test_an_erasure_that_cannot_be_judged_stops_no_other(acme):
    """A crash came before the certificate, and now the client's keys do not read (a bad disk): what is asked for at other clients is done,
    `status` tells, and once they read again it is certified."""
    v, proof, hex_id = acme, Proof(acme), acme.client_id()
    v.add("beta")
    v.grant("beta", v.alice)
    for client in ("acme", "beta"):
        m = v.mount(v.alice, client)
        m.sh("echo one > one; echo two > two")
        m.unmount()
    v.coffer("shred", "acme", "one", "--reason", "R", "--yes")
    tree, = glob.glob(f"{v.dir}/keyd/keys/{hex_id}.*.tree")
    with open(tree, "rb") as f:
        sound = f.read()
    with open(tree, "r+b") as f:
        f.write(sound[:-1] + bytes([sound[-1] ^ 1]))
    db = sqlite3.connect(v.dir + "/keyd/facts.db", timeout=10)
    with db:
        columns = "client, store, reason, counts, leaves, generation, intent_at, recorded_by, recorded_uid"
        db.execute(f"INSERT INTO erasure ({columns}) SELECT {columns} FROM erasure")
    db.close()
    wait_for(lambda: any("whether an erasure is done" in w for w in v.status()["warnings"]), "the warning", limit=20)
    v.coffer("shred", "beta", "one", "--reason", "R", "--yes")
    assert proof.facts("SELECT destroyed FROM erasure ORDER BY id") == [(1,), (None,), (1,)]
    with open(tree, "r+b") as f:
        f.write(sound)
    wait_for(lambda: proof.facts("SELECT destroyed FROM erasure ORDER BY id") == [(1,)] * 3, "it is certified", limit=20)
    assert len(proof.certificates()) == 3
    wait_for(lambda: not any("whether an erasure" in w for w in v.status()["warnings"]), "the end of the warning", limit=20)


@pytest.fixture
def ageing(make_vault, faketime):  # noqa: F811
    def make(clients):
        v = make_vault(up=False)
        return Ageing(v, Clock(v.base + "/clock", faketime), pass_time, open_credentials, clients)
    return make


def test_class_before_a_date_is_destroyed_or_not_at_chosen_steps(ageing):
    """The second time the prefix is gone already: that alone must not count as destroyed."""
    e = ageing(2)
    clients = list(e.clients)
    assert e.attempt(KILL, 0, word="pwrite keyd/keys") and not e.last
    assert e.attempt(KILL, 1, word="pwrite keyd/slot") and e.last
    e.again(clients)
    assert e.attempt(KILL, 0, word="pwrite keyd/keys") and not e.last
    assert e.attempt(KILL, 0, word="rename keyd/certificates") and e.last
    e.finish()


@pytest.fixture
def small_ageing(make_vault, faketime):  # noqa: F811
    """As `ageing`, on an ext4 file system of 256 MB of its own."""
    def make(clients):
        v = make_vault(up=False)
        image, point = v.base + "/image", v.base + "/disk"
        with open(image, "wb") as f:
            f.truncate(256 << 20)
        os.mkdir(point)
        for argv in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, point]):
            r = harness.run(argv)
            if r.rc:
                pytest.skip("no loop devices here: " + r.err.strip())
        os.chmod(point, 0o755)
        v.dir = point + "/D"
        made.append(v)
        return Ageing(v, Clock(v.base + "/clock", faketime), pass_time, open_credentials, clients)
    made = []
    yield make
    for v in made:
        v.coffer("down", check=None, timeout=60)


def fill(path, leave):
    """Until nothing fits on that disk, then `leave` bytes are free again."""
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 65536)
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
        f.truncate(f.tell() - leave)
        os.fsync(f.fileno())


@pytest.mark.limit(120)
def test_class_on_a_full_disk(small_ageing):
    """No room for facts, keys, record or certificate, each in turn: destroyed or not, and what is said is so; with room again
    it goes on, by itself or when asked once more."""
    rooms = [0, 20480, 28672, 262144]
    e = small_ageing(len(rooms))
    v, filler = e.v, os.path.dirname(e.v.dir) + "/filler"
    for room in rooms:
        e.now, e.what = e.victim(), f"{room} bytes free"
        v.mount(v.alice, e.now).unmount()  # else there is no room for its worker's journal, and nothing begins
        fill(filler, room)
        r = e.shred(e.now)
        os.unlink(filler)
        if v.status(check=None).get("sealed") or e.unsettled():
            v.down()
            e.up()
        e.judge(r)
        assert e.last or "nothing was destroyed" in r.err or room > 0, r
        if not e.last:
            r = e.shred(e.now)
            assert r.rc == 0, (room, r)
            e.judge(r)
        assert e.last, room
    assert e.outcomes[False] > 0, "it was never full"
    e.finish()
    v.coffer("log", "verify")


@pytest.fixture
def expiring(make_vault, faketime):  # noqa: F811
    v = make_vault(up=False)
    return Expiring(v, Clock(v.base + "/clock", faketime))


def test_client_is_destroyed_in_the_end_and_not_before_it_says_so(expiring):
    e = expiring
    e.more(2)
    assert e.attempt(KILL, 0, word="pwrite keyd/slot")
    assert e.attempt(KILL, 0, word="rename keyd/certificates")


if "COFFER_CRASH_MODES" in os.environ:  # tests/stress/erasures
    FIRST, SECONDS = int(os.environ["COFFER_CRASH_FROM"]), float(os.environ["COFFER_CRASH_SECONDS"])
    each_mode = pytest.mark.parametrize("mode", os.environ["COFFER_CRASH_MODES"].split(","))

    @pytest.mark.limit(int(SECONDS) + 120)
    @each_mode
    def test_every_step_of_a_tree(erasing, mode):
        erasing.every_step(mode, FIRST, SECONDS)

    @pytest.mark.limit(int(SECONDS) + 600)
    @each_mode
    def test_every_step_of_a_class(ageing, mode):
        ageing(70).every_step(mode, FIRST, SECONDS)

    @pytest.mark.limit(int(SECONDS) + 600)
    @each_mode
    def test_every_step_of_a_client(expiring, mode):
        expiring.every_step(mode, FIRST, SECONDS)

    @pytest.mark.limit(int(SECONDS) + 600)
    def test_every_step_of_a_worker(acme):
        Moving(acme).every_step(SECONDS)
