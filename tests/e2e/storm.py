"""Rounds of work under which daemons are killed; after each, everything that was promised is looked for.

What a round checks: nobody hangs; the mount points are free again without help; everything acknowledged by fsync is there;
whatever else is there is whole or legally short; every folder lists; each open that returned has its row and no row stands
there twice; the record verifies.
"""
import collections
import os
import random
import re
import signal
import subprocess
import sys
import time

import harness
from harness import SLOW, gone, identity, wait_for

WRITER = open(os.path.join(harness.HERE, "storm_writer.py")).read()
ALONE = [("worker",), ("fsd",), ("keyd",)]
# fsd and a worker in the same instant can leave a connection that only root can abort (DESIGN, section 9): not by default.
TOGETHER = [*ALONE, ("worker", "fsd"), ("fsd", "worker"), ("keyd", "worker"), ("keyd", "fsd", "worker"), ("worker", "fsd", "keyd")]
TARGETS = TOGETHER if os.environ.get("COFFER_STORM_TOGETHER") else ALONE
FRESH = 12	# rounds after which the folders are begun anew

# Run as the user in his folder: everything in it is read and listed; prints what the orchestrator compares.
LOOK = """
import os, sqlite3, sys, json
out = {"lines": {}, "doc": None, "db": [], "trees": [], "files": 0}
for top, dirs, names in os.walk(".", onerror=lambda e: (_ for _ in ()).throw(e)):
    for d in dirs: os.lstat(os.path.join(top, d))
    for n in names:
        p = os.path.join(top, n)
        if os.path.islink(p):
            os.readlink(p)
            continue
        size, data = os.stat(p).st_size, open(p, "rb").read()
        assert len(data) == size, (p, len(data), size)
        out["files"] += 1
        if top == "." and n in ("lines", "more"): out["lines"][n] = data.decode()
        if top == "." and n == "doc": out["doc"] = data.hex()
        if "/tree-" in top and "-new-" not in top: out["trees"].append([p, data.hex()])
if os.path.exists("db"):
    db = sqlite3.connect("db", timeout=20)
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    out["db"] = [n for n, in db.execute("SELECT n FROM t ORDER BY n")] if db.execute(
        "SELECT count(*) FROM sqlite_master").fetchone()[0] else []
    db.close()
json.dump(out, sys.stdout)
"""


def document(n, name):
    scope = {}
    exec(WRITER[WRITER.index("def document"):WRITER.index("def lines")], {"random": random, "hashlib": __import__("hashlib")}, scope)
    return scope["document"](n, name)


def abort_unmounted(uid):
    """Ends this user's FUSE connections that are mounted nowhere and still have requests, as root can by hand; how many."""
    return int(harness.run(["unshare", "-m", "sh", "-c", """
        n=0; d=$(mktemp -d); mount -t fusectl none "$d" || exit 1
        for c in "$d"/*/; do
            minor=$(basename "$c")
            if [ "$(stat -c %u "$c/abort")" = "$1" ] && [ "$(cat "$c/waiting")" != 0 ] &&
               ! grep -q " 0:$minor " /proc/self/mountinfo; then echo 1 >"$c/abort"; n=$((n + 1)); fi
        done
        umount "$d"; rmdir "$d"; echo $n""", "sh", str(uid)]).out.strip() or 0)


class Seat:
    """One user at his mount point, and what was acknowledged to him."""

    def __init__(self, vault, user, journal_mode):
        self.vault, self.user, self.journal_mode = vault, user, journal_mode
        self.point, self.acked, self.folder = user.mkdir("storm"), {}, None
        self.mount = self.p = self.session = None
        self.wedged = 0

    def get_in(self):
        wait_for(lambda: not harness.mounts_below(self.point), f"{self.user.name}'s stale mount goes away", limit=15)
        last = []

        def try_it():
            r = self.vault.mount(self.user, point=self.point, check=False)
            last[:] = [r]
            return isinstance(r, harness.Mount) and r
        try:
            self.mount = wait_for(try_it, "a new mount", limit=20, step=0.1)
        except harness.Timeout:
            raise harness.Timeout(f"no new mount: {last}") from None
        self.session = self.mount.session()["session"]

    def begin(self, round_no, seed):
        fresh = f"{self.user.name}-{round_no // FRESH}"
        if self.folder != fresh:
            if self.folder:
                self.mount.sh('rm -r "$1"', self.folder, timeout=60)
            self.folder, self.acked = fresh, {}
            self.mount.sh('mkdir "$1"', fresh)
        self.before = self.rows()
        self.log = os.path.join(self.user.home, f"log-{round_no}")
        numbers = [f"{k}={v}" for k, v in self.acked.items()]
        self.p = subprocess.Popen(
            ["/usr/bin/env", "-C", "/", sys.executable, "-c", WRITER, self.mount.path(self.folder), self.log,
             str(round_no), str(seed), self.journal_mode, *numbers],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            **identity(self.user))

    def end(self, excuse):
        """The programs end by themselves: their share is dead.  `excuse`: with both fsd and the worker killed nobody is
        left to answer what the kernel still asks while the dying worker takes back its pages (DESIGN, section 9)."""
        try:
            self.p.wait(25 * SLOW)
        except subprocess.TimeoutExpired:
            stacks = harness.run(["sh", "-c", f"cat /proc/{self.p.pid}/task/*/stack"]).out
            if not excuse or not abort_unmounted(self.user.uid):
                harness.stop_process(self.p)
                raise harness.Timeout(f"{self.user.name}'s programs hang: {stacks}") from None
            self.wedged += 1
            self.p.wait(10 * SLOW)
        err = self.p.stderr.read().decode()
        self.p.stderr.close()
        assert "Traceback" not in err, err
        self.tried, self.opened = collections.Counter(), collections.Counter()
        self.now_acked, self.dropped = dict(self.acked), set()
        if not os.path.exists(self.log):
            return
        for line in open(self.log).read().splitlines():
            word, name, *rest = line.split()
            if word == "try":
                self.tried[name] += 1
            elif word == "open":
                self.opened[name] += 1
            elif word == "ack":
                self.now_acked[name] = max(self.now_acked.get(name, 0), int(rest[0]))
            elif word == "gone":
                self.dropped.add(int(rest[0]))
        os.unlink(self.log)

    def look(self, round_no):
        import json
        found = json.loads(self.mount.python(LOOK, cwd=self.mount.path(self.folder), timeout=60).out)
        was, self.acked = self.acked, dict(self.now_acked)
        for name, text in found["lines"].items():
            rows = text.split("\n")
            numbers = [int(r.split()[0]) for r in rows[:-1]]
            assert all(r == f"{n} {'x' * (n % 97)}" for r, n in zip(rows, numbers)), (name, "garbled")
            assert max(numbers, default=0) >= self.acked.get(name, 0), (name, numbers[-1:], self.acked)
            assert len(set(numbers)) == len(numbers) or not numbers, (name, "twice")
            assert set(range(1, self.acked.get(name, 0) + 1)) <= set(numbers), (name, "lost lines")
            self.acked[name] = max(numbers, default=0)
            if rows[-1]:  # a line that was cut: the next round would write behind it
                self.mount.sh('sed -i "\\$d" "$1"', f"{self.folder}/{name}")
        for name in ("lines", "more"):
            assert name in found["lines"] or not self.acked.get(name), name
        if self.acked.get("doc"):
            data = bytes.fromhex(found["doc"])
            n = int(data.split(b" ", 1)[0])
            assert n >= self.acked["doc"], ("doc", n, self.acked)
            assert data == document(n, "doc"), ("doc", n, len(data))
            self.acked["doc"] = n
        if self.acked.get("db"):
            assert found["db"] and found["db"][-1] >= self.acked["db"], (found["db"][-3:], self.acked)
            assert found["db"] == list(range(1, found["db"][-1] + 1)), "rows are missing"
            self.acked["db"] = found["db"][-1]
        elif found["db"]:
            self.acked["db"] = found["db"][-1]
        for path, data in found["trees"]:
            k = int(path.rsplit("/f", 1)[1])
            assert bytes.fromhex(data) == document(k, "tree"), path
        tops = {p.split("/")[1] for p, _ in found["trees"]}
        for n in range(was.get("tree", 0) + 1, self.acked.get("tree", 0) + 1):
            assert f"tree-{round_no}-{n}" in tops or n in self.dropped, (n, tops)
        return found["files"]

    def rows(self):
        """name -> how often its opening was recorded in this session."""
        rows = self.vault.log("--session", str(self.session), timeout=60)
        got = collections.Counter()
        for r in rows:
            if r["op"] in ("open", "create") and r["outcome"] in (0, None, "ok", "OK", "allowed"):
                path = r.get("path")
                path = path.get("text") or path.get("name") if isinstance(path, dict) else path
                got[re.sub(r"^/?[^/]+/", "", str(path))] += 1
        return got

    def recorded(self):
        """Each open that returned stands in the record, none twice."""
        got = self.rows()
        got.subtract(self.before)
        for name, n in self.opened.items():
            if got[name] < n:
                time.sleep(3)
                late = self.rows()
                late.subtract(self.before)
                assert late[name] < n, (name, "recorded, but the row came late", n, got[name], late[name])
                assert False, (name, "opened", n, "recorded", got[name], "tried", self.tried[name], "all", dict(got),
                               [r for r in self.vault.log("--session", str(self.session)) if not r.get("path")][-5:])
            assert n <= got[name] <= self.tried[name], (name, "opened", n, "recorded", got[name], "tried", self.tried[name])
        return sum(self.opened.values())


class Storm:
    def __init__(self, vault, seed, say=lambda text: None):
        self.vault, self.rnd, self.seed, self.say = vault, random.Random(seed), seed, say
        vault.add()
        self.seats = [Seat(vault, vault.alice, "WAL"), Seat(vault, vault.bob, "DELETE")]
        for seat in self.seats:
            vault.grant("acme", seat.user)
        self.rounds = self.opens = self.files = 0

    def kill(self, names):
        for name in names:
            for pid in self.vault.pids(name):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self.rnd.random() < 0.5:
                time.sleep(self.rnd.random() * 0.05)

    def come_back(self, names):
        """What a person does: start what is not running, mount.  Now and then something dies in the middle of that."""
        if "keyd" in names:
            wait_for(lambda: not harness.our_processes(self.vault.dir) or self.only_tools(), "the daemons' end without keyd", limit=15)
        if self.rnd.random() < 0.25:
            up = subprocess.Popen([self.vault.programs + "/tools/coffer", "--dir", self.vault.dir, "up"], cwd="/",
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity(None))
            time.sleep(self.rnd.random() * 0.3)
            self.kill(self.rnd.choice(TARGETS))
            up.wait(60)
        wait_for(lambda: self.vault.coffer("up", check=False, timeout=60).rc == 0, "coffer up", limit=40, step=0.2)
        # keyd waits longer before each new try
        wait_for(lambda: self.vault.coffer("log", "--limit", "1", check=False, timeout=60).rc == 0, "the record answers",
                 limit=50, step=0.1)

    def only_tools(self):
        return not any(self.vault.pids(n) for n in ("keyd", "fsd", "worker"))

    def round(self):
        n = self.rounds
        names = self.rnd.choice(TARGETS)
        self.what = f"round {n}, seed {self.seed}, killed {'+'.join(names)}"
        for seat in self.seats:
            if not self.in_use(seat):
                seat.get_in()
        for seat in self.seats:
            seat.begin(n, self.rnd.random())
        time.sleep(0.1 + self.rnd.random() ** 2 * 1.2)
        self.kill(names)
        for seat in self.seats:
            seat.end(excuse="fsd" in names and ("worker" in names or "keyd" in names))
        sessions = [s.session for s in self.seats]
        self.come_back(names)
        for seat, session in zip(self.seats, sessions):
            seat.session = session
            self.opens += seat.recorded()
        for seat in self.seats:
            seat.get_in()
        for seat in self.seats:
            self.files += seat.look(n)
        self.vault.coffer("log", "verify", timeout=60)
        self.rounds += 1

    def in_use(self, seat):
        return seat.mount is not None and seat.mount.mounted() and seat.mount.session() is not None

    def run(self, rounds, seconds):
        end = time.monotonic() + seconds
        while self.rounds < rounds and time.monotonic() < end:
            try:
                self.round()
            except BaseException as e:
                keep = os.environ.get("COFFER_STORM_KEEP")
                if keep:
                    subprocess.run(["cp", "-a", self.vault.dir, keep], check=False)
                e.args = (f"{self.what}: {e}", *e.args[1:])
                raise
            if self.rounds % 10 == 0:
                self.say(f"{self.rounds} rounds, {self.opens} opens with their rows, {self.files} files read, "
                         f"{sum(s.wedged for s in self.seats)} connections wedged")
            if self.rounds % 40 == 0:
                self.check_store()
        self.check_store()
        self.say(f"{self.rounds} rounds, {self.opens} opens with their rows, {self.files} files read, "
                 f"{sum(s.wedged for s in self.seats)} connections wedged: all well")

    def check_store(self):
        for seat in self.seats:
            if self.in_use(seat):
                seat.mount.unmount()
        r = self.vault.coffer("fsck", "acme", check=False, timeout=120)
        assert r.rc == 0, r
