"""coffer-keyd stopped at its n-th step on the disk (tests/crash/steps.c), and what must be true afterwards.

Whatever step it was: what was to be destroyed is destroyed, or it is not and nothing says that it is; the slot has both its
halves; no content key is under two leaves that live, unless the older one stands in the list of those that are to go; all
else opens.  That is looked up without the product: tests/adversary reads slot, rings and trees as the documents say.
"""
import glob
import json
import mmap
import os
import sqlite3
import struct
import sys

import harness
from harness import wait_for

sys.path.insert(0, os.path.join(harness.SOURCE, "tests", "adversary"))
import adversary  # noqa: E402

LIBRARY = os.path.join(harness.BUILD, "tests", "crash", "steps.so")
OFF, COUNT, KILL, FAIL_ONCE, FAIL_ON, KILL_CHILD, TEAR = range(7)  # as in steps.h
HEAD = struct.Struct("<6I40s64s192s")
BYTES = HEAD.size + (1 << 18)


class Steps:
    """The plan that keyd follows while it runs."""

    def __init__(self, vault, env=None):
        self.path = vault.base + "/steps"
        with open(self.path, "wb") as f:
            f.truncate(BYTES)
        with open(self.path, "r+b") as f:
            self.plan = mmap.mmap(f.fileno(), BYTES)
        self.env = {**(env or {}), "COFFER_STEPS": self.path, "COFFER_STEPS_DIR": vault.dir}
        self.env["LD_PRELOAD"] = " ".join(filter(None, [self.env.get("LD_PRELOAD"), LIBRARY]))

    def arm(self, mode, at=0, error=0, child="", word=""):
        """`word`: only calls with it in their text (\"pwrite keyd/slot/root.slot\") count."""
        self.plan[:BYTES] = HEAD.pack(OFF, at, error, 0, 0, 0, child.encode(), word.encode(), b"") + bytes(BYTES - HEAD.size)
        self.plan[:4] = struct.pack("<I", mode)

    def off(self):
        self.plan[:4] = bytes(4)

    def _head(self):
        return HEAD.unpack(self.plan[:HEAD.size])

    @property
    def count(self):
        return self._head()[3]

    @property
    def hits(self):
        return self._head()[4]

    @property
    def last(self):
        return self._head()[8].rstrip(b"\0").decode()

    @property
    def calls(self):
        used = self._head()[5]
        return self.plan[HEAD.size:HEAD.size + used].decode().splitlines()


def headers(store):
    """{file id: leaf} of what has a header below `store`."""
    found = {}
    for path in harness.files_below(store):
        with open(path, "rb") as f:
            h = f.read(40)
        if len(h) == 40 and h[:8] == b"COFFER\r\n":
            found[h[16:32].hex()] = struct.unpack_from("<Q", h, 32)[0]
    return found


class Proof:
    """What was ever seen of a vault's keys, and what lives of it now."""

    def __init__(self, vault, passphrases=()):
        self.v, self.passphrases = vault, passphrases
        self.seen = {}  # (client, file) -> leaves it was ever under
        self.public_key = None

    def note(self):
        now = {}
        for client in os.listdir(self.v.dir + "/store"):
            if len(client) == 32:
                for f, leaf in headers(f"{self.v.dir}/store/{client}").items():
                    now[client, f] = leaf
                    self.seen.setdefault((client, f), set()).add(leaf)
        return now

    def trees(self):
        """All that slot, rings and trees of D give an adversary."""
        a = adversary.Adversary()
        a.copy(self.v.dir + "/keyd")
        a.slot(self.v.dir + "/keyd/slot", self.passphrases)
        assert a.open_keys() >= 1, "the keys do not open"
        return a.trees

    def facts(self, sql, *args):
        db = sqlite3.connect(f"file:{self.v.dir}/keyd/facts.db?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, args).fetchall()
        finally:
            db.close()

    def alive(self):
        """(client, file) -> leaves that live."""
        trees = self.trees()
        return {key: {leaf for leaf in leaves if any(True for _ in trees[key[0]].keys(leaf, 1))}
                for key, leaves in self.seen.items()}

    def pending(self):
        return self.facts("SELECT count(*) FROM erasure WHERE finished_at IS NULL")[0][0] + \
            self.facts("SELECT count(*) FROM destruction WHERE finished_at IS NULL")[0][0]

    def certificates(self):
        """Their numbers of keys by name; each must be signed and stand in the facts."""
        found = {}
        rows = {r[0]: r[1] for r in self.facts("SELECT id, destroyed FROM erasure")}
        for path in glob.glob(self.v.dir + "/keyd/certificates/*.json"):
            name = os.path.basename(path)[:-5]
            self.v.coffer("certificate", "verify", path)
            with open(path) as f:
                found[name] = json.load(f)["certificate"]
            if "+erasure-" in name:
                assert rows[int(name.rsplit("-", 1)[1])] == 1, (name, "a certificate of what was not destroyed")
        return found

    def check(self):
        """Nothing is under way any more.  What holds after every step; returns alive()."""
        wait_for(lambda: self.pending() == 0, "what was begun is settled", limit=30)
        now, alive = self.note(), self.alive()
        with open(self.v.dir + "/keyd/slot/root.slot", "rb") as f:
            halves = f.read(4096), f.read(4096)
        assert halves[0] == halves[1] and halves[0][:8] == b"COFRSLOT", "the slot has not both its halves"
        dying = {(c, leaf & (1 << 64) - 1) for c, leaf in
                 self.facts("SELECT c.client_id, leaf FROM dying_leaf d JOIN client c ON c.id = d.client")}
        for key, leaves in alive.items():
            left = {leaf for leaf in leaves - {now.get(key)} if (key[0], leaf) not in dying}
            if key in now:
                assert not left, (key, f"{left} live beside {now[key]:x}, and nobody knows")
        return alive
