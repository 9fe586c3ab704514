"""coffer-keyd is killed, or the disk fails, at chosen steps of destructions.  All of them: tests/stress/erasures."""
import os
import shutil
import subprocess

import pytest

import harness
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
