"""coffer-keyd is killed while a slot is added or the passphrase is changed: the next start, or the next unseal, finishes it or undoes
it by itself, and every slot opens alone.  All steps: tests/stress/rotations."""
import os
import time

import pytest

import harness
from harness import OK, wait_for
from steps import COUNT, KILL, TEAR, Steps
from test_seal import with_passphrase

pytestmark = pytest.mark.skipif(harness.SANITIZED, reason="a preloaded library and a sanitizer both want to come first")


class Changing:
    """Slots main and usb, and a file; `what` is done to them again and again."""

    def __init__(self, vault, what):
        self.v, self.what, self.n = vault, what, 0
        self.steps = Steps(vault)
        self.steps.env["COFFER_STEPS_DIR"] = vault.base  # the other media, too
        vault.up(env=self.steps.env)
        vault.add()
        vault.grant("acme", vault.alice)
        m = vault.mount(vault.alice)
        m.sh("echo content > file")
        m.unmount()
        self.names = ["main", "usb"]
        vault.coffer("slot", "add", "usb", vault.base + "/usb")
        self.passphrase = None
        self.outcomes = {True: 0, False: 0}

    def change(self):
        if self.what == "passphrase":
            return with_passphrase(self.v, "passphrase", passphrase=f"number {self.n}", check=None)
        name = f"s{self.n}"
        return self.v.coffer("slot", "add", name, f"{self.v.base}/{name}", check=None, timeout=60)

    def attempt(self, mode, at=0, word=""):
        """Whether that step was reached."""
        self.n += 1
        self.steps.arm(mode, at, 0, "", word)
        r = self.change()
        hit, self.last = self.steps.hits > 0, f"at {at} {word}: {self.steps.last} -> {r.rc}"
        self.steps.off()
        if hit and mode != COUNT:
            wait_for(lambda: not self.v.pids("keyd") and not self.v.pids("fsd"), "the daemons' end", limit=20)
            self.v.up(env=self.steps.env)
        self.judge(r.rc)
        return hit

    def open(self):
        """By what seals it: the new passphrase, the one before, or nothing."""
        if self.v.status()["state"] == "open":
            return
        assert self.what == "passphrase", (self.last, self.v.status())
        new = f"number {self.n}"
        r = with_passphrase(self.v, "unseal", passphrase=new, check=None)
        self.outcomes[r.rc == OK] += 1
        if r.rc == OK:
            self.passphrase = new
        else:
            with_passphrase(self.v, "unseal", passphrase=self.passphrase)

    def judge(self, rc):
        v = self.v
        self.open()
        slots = {s["name"]: s for s in v.json("slot", "list")["slots"]}
        if self.what == "slot":
            name = f"s{self.n}"
            assert name in slots or rc != OK, self.last
            self.outcomes[name in slots] += 1
            if name not in slots:  # nobody has to clear up for it
                v.coffer("slot", "add", name, f"{v.base}/{name}")
            v.coffer("slot", "remove", name)
        elif rc == OK:
            self.passphrase = f"number {self.n}"
        slots = {s["name"]: s for s in v.json("slot", "list")["slots"]}
        assert {n: s["state"] for n, s in slots.items() if n in self.names} == dict.fromkeys(self.names, "ok"), (self.last, slots)
        assert not [w for w in v.status()["warnings"] if "waits for" in w or "not complete" in w], (self.last, v.status())
        if self.passphrase:
            assert {slots[n]["protection"] for n in self.names} == {"passphrase"}, (self.last, slots)
            assert not [p for p in (v.dir + "/keyd/slot", v.base + "/usb") if os.path.exists(p + "/root.key")], self.last

    def finish(self):
        """Each of the two opens all of it alone."""
        for away in (self.v.dir + "/keyd/slot", self.v.base + "/usb"):
            self.v.down()
            os.rename(away, away + ".away")
            self.v.up(env=self.steps.env)
            self.open()
            m = self.v.mount(self.v.alice)
            assert m.read("file") == b"content\n"
            m.unmount()
            self.v.down()
            os.rename(away + ".away", away)
            self.v.up(env=self.steps.env)
            self.open()


def test_slot_is_added_or_not_at_chosen_steps(make_vault):
    c = Changing(make_vault(up=False), "slot")
    assert c.attempt(KILL, 0, "fsync s1/root.key") and not c.outcomes[True]
    assert c.attempt(KILL, 0, "rename D/keyd/slots.json") and not c.outcomes[True]
    assert c.attempt(KILL, 0, "pwrite D/keyd/slot/root.slot") and not c.outcomes[True]
    assert c.attempt(KILL, 0, "pwrite usb/root.slot") and c.outcomes[True] == 1  # main has it
    assert c.attempt(KILL, 1, "pwrite s5/root.slot") and c.outcomes[True] == 2  # nothing in it (0 is the file itself)
    assert c.attempt(TEAR, 1, "pwrite s6/root.slot") and c.outcomes[True] == 3  # half a record
    assert c.attempt(KILL, 2, "pwrite s7/root.slot") and c.outcomes[True] == 4
    c.finish()


def test_passphrase_is_changed_or_not_at_chosen_steps(make_vault):
    c = Changing(make_vault(up=False), "passphrase")
    assert c.attempt(KILL, 0, "pwrite D/keyd/slot/root.slot")
    assert c.passphrase is None  # key files open them, as before
    assert c.attempt(KILL, 0, "pwrite usb/root.slot") and c.passphrase == "number 2"  # one of two has the new one
    assert c.attempt(TEAR, 0, "pwrite usb/root.slot") and c.passphrase == "number 3"
    c.finish()


@pytest.mark.skipif("COFFER_CRASH_SLOTS" not in os.environ, reason="long: tests/stress/rotations --slots")
@pytest.mark.limit(36000)
@pytest.mark.parametrize("what", ["slot", "passphrase"])
@pytest.mark.parametrize("mode", [KILL, TEAR])
def test_every_step(make_vault, what, mode):
    end = time.monotonic() + float(os.environ.get("COFFER_CRASH_SECONDS", 3600)) / 4
    c, at = Changing(make_vault(up=False), what), int(os.environ.get("COFFER_CRASH_FROM", 0))
    while time.monotonic() < end and c.attempt(mode, at):
        at += 1
    c.finish()
    print(f"{what}, mode {mode}: {at} steps, {c.outcomes}", flush=True)
