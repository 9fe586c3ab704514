"""coffer-keyd is killed, or the disk fails, at a step of an exchange of keys: afterwards the keys of one generation are in force,
everybody opens them who should, and the next exchange works.  All steps: tests/stress/rotations."""
import errno
import os
import time

import pytest

import harness
from harness import OK, wait_for
from steps import FAIL_ON, FAIL_ONCE, KILL, TEAR, Steps

pytestmark = pytest.mark.skipif(harness.SANITIZED, reason="a preloaded library and a sanitizer both want to come first")
MODES = {"kill": (KILL, 0), "tear": (TEAR, 0), "eio": (FAIL_ONCE, errno.EIO), "eio-on": (FAIL_ON, errno.EIO), "full": (FAIL_ON, errno.ENOSPC)}


class Rotating:
    def __init__(self, vault, what="signing"):
        self.v, self.what = vault, what
        self.steps = Steps(vault)
        self.steps.env["COFFER_STEPS_DIR"] = vault.base  # the holder's medium, too
        self.up()
        vault.add()
        vault.grant("acme", vault.alice)
        m = vault.mount(vault.alice)
        m.sh("echo content > file; echo 1 > one")
        m.unmount()
        os.mkdir(vault.base + "/usb", 0o700)
        self.key, self.copy = vault.base + "/key", vault.base + "/usb/copy"
        line = vault.coffer("recovery", "keygen", self.key).out.strip()
        vault.coffer("recovery", "add", line, "--name", "ada", "--to", self.copy)
        vault.coffer("shred", "acme", "one", "--reason", "R", "--yes", timeout=60)
        self.generation = 2
        self.outcomes = {True: 0, False: 0}

    def up(self):
        self.v.up(env=self.steps.env)

    def attempt(self, mode, at, error=0, word=""):
        """One exchange with something at step `at`; whether that step was reached."""
        self.steps.arm(mode, at, error, "", word)
        r = self.v.coffer("rotate", self.what, check=None, timeout=60)
        hit, self.last = self.steps.hits > 0, f"{mode} at {at} {word}: {self.steps.last} -> {r.rc}"
        self.steps.off()
        if mode in (KILL, TEAR) and hit:
            wait_for(lambda: not self.v.pids("keyd") and not self.v.pids("fsd"), "the daemons' end", limit=20)
        elif hit and (r.rc != OK or not self.steady()):
            self.v.down()
        if not self.v.pids("keyd"):
            self.up()
        if error:  # a failing medium stops nothing: it is done later
            self.v.coffer("recovery", "check")
        self.judge(r.rc, swept=not error)
        return hit

    def steady(self):
        s = self.v.status(check=None)
        return s and s["state"] == "open" and not any("not complete" in w for w in s["warnings"])

    def judge(self, rc, swept):
        v = self.v
        rings = [n for n in os.listdir(v.dir + "/keyd/keys") if n.startswith(("ring.", "holders."))]
        now = int(max(rings, key=lambda n: int(n.split(".")[1])).split(".")[1])
        # what a failing disk does not remove opens nothing, and goes at the next start
        assert sorted(rings) == [f"holders.{now}", f"ring.{now}"] or not swept and f"ring.{now}" in rings, (self.last, rings)
        assert now in (self.generation, self.generation + 1) and (rc != OK or now == self.generation + 1), self.last
        self.outcomes[now > self.generation] += 1
        self.generation = now
        copies = sorted(n for n in os.listdir(v.dir + "/keyd/recovery") if n != "CACHEDIR.TAG")
        assert copies == [f"ada.{now}"] and os.listdir(v.base + "/usb") == ["copy"], (self.last, copies)
        v.coffer("recovery", "check")
        for where in ([], ["--copy", self.copy]):
            assert v.coffer("recovery", "check", "--key", self.key, *where, "--json").json["generation"] == now, self.last
        v.coffer("certificate", "verify", v.dir + "/keyd/certificates/acme+erasure-1.json")
        v.coffer("log", "verify")
        wait_for(lambda: v.status()["warnings"] is not None and self.steady(), "all is settled")

    def finish(self):
        """How each ended is in the book, and the files are what they were."""
        rows = [r for r in self.v.log() if r["op"] == "rotate-" + self.what]
        assert [r["outcome"] for r in rows].count(0) == self.outcomes[True], (rows, self.outcomes)
        m = self.v.mount(self.v.alice)
        assert m.read("file") == b"content\n"
        m.unmount()


def test_rotation_at_chosen_steps(make_vault):
    r = Rotating(make_vault(up=False))
    before = r.generation
    assert r.attempt(KILL, 0, word="fsync D/keyd/signing.chain")
    assert r.attempt(KILL, 0, word="rename D/keyd/keys/ring") and r.generation == before
    assert r.attempt(KILL, 0, word="rename D/keyd/keys/holders") and r.generation == before
    assert r.attempt(KILL, 0, word="unlink usb/copy.old") and r.generation == before + 1  # overwritten: no copy any more
    assert r.attempt(KILL, 0, word="rename D/keyd/signing.pub") and r.generation == before + 2
    assert r.attempt(FAIL_ONCE, 0, errno.EIO, word="fsync D/keyd/recovery") and r.generation == before + 2
    r.finish()


@pytest.mark.skipif("COFFER_CRASH_ROTATE" not in os.environ, reason="long: tests/stress/rotations")
@pytest.mark.limit(36000)
def test_every_step(make_vault):
    end = time.monotonic() + float(os.environ.get("COFFER_CRASH_SECONDS", 3600))
    for mode in os.environ["COFFER_CRASH_ROTATE"].split(","):
        r, at = Rotating(make_vault(up=False)), int(os.environ.get("COFFER_CRASH_FROM", 0))
        while time.monotonic() < end and r.attempt(MODES[mode][0], at, MODES[mode][1]):
            at += 1
        r.finish()
        print(f"{mode}: {at} steps, {r.outcomes[True]} exchanged, {r.outcomes[False]} not", flush=True)
