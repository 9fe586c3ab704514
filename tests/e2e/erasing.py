"""Destructions, each of which something interrupts at some step: erasures of trees, of a class before a date, ends of
clients."""
import errno
import os
import subprocess
import sys
import time

from harness import wait_for
from steps import FAIL_ON, FAIL_ONCE, KILL, KILL_CHILD, TEAR, Proof, Steps, headers

TREES = 12
MODES = {"kill": (KILL, 0, ""), "tear": (TEAR, 0, ""), "eio": (FAIL_ONCE, errno.EIO, ""), "eio-on": (FAIL_ON, errno.EIO, ""),
         "full": (FAIL_ON, errno.ENOSPC, ""), "worker": (KILL_CHILD, 0, "coffer-worker"), "fsd": (KILL_CHILD, 0, "coffer-fsd")}


class Erasing:
    """Trees t0, t1, ... of acme, one after the other a victim; `stays` must stay whatever happens."""

    def __init__(self, vault, trees=TREES, say=lambda text: print(text, file=sys.stderr, flush=True)):
        self.v, self.say, self.next = vault, say, 0
        self.steps, self.proof = Steps(vault), Proof(vault)
        self.outcomes = {True: 0, False: 0}
        self.old_keys = 0  # 1: victims with a leaf that waits for its end
        self.up()
        vault.add()
        vault.grant("acme", vault.alice)
        self.client = vault.client_id()
        self.victims = {}
        self.make(trees, stays=True)

    def up(self):
        self.v.up(env=self.steps.env)

    def make(self, n, stays=False):
        wait_for(lambda: not self.proof.facts("SELECT 1 FROM sweep"), "the sweep of before", limit=30)
        m = self.v.mount(self.v.alice)
        if stays:
            m.sh("mkdir stays && echo one > stays/one && head -c 9000 /dev/zero > stays/two")
        known = set(headers(self.v.store()))
        for i in range(self.next, self.next + n):
            m.sh('mkdir -p t$1/sub && echo $1a > t$1/a && echo $1b > t$1/sub/b && ln -s a t$1/l && ln t$1/a t$1/sub/hard', str(i))
            if i % 2:  # one of them was under another leaf, which waits for its end
                m.sh("echo $1c > t$1/c", str(i))
                self.v.coffer("class", "set", "acme", f"t{i}/c", "project")
            now = set(headers(self.v.store()))
            self.victims[f"t{i}"] = now - known
            known = now
        self.next += n
        m.unmount()
        self.proof.note()

    def victim(self):
        """The next of those that the current pass wants."""
        while True:
            fit = [v for v in self.victims if int(v[1:]) % 2 == self.old_keys]
            if fit:
                return fit[0]
            self.make(TREES)

    def shred(self, victim):
        return self.v.coffer("shred", "acme", victim, "--reason", "request", "--yes", "--json", check=None, timeout=60)

    def attempt(self, mode, at, error=errno.EIO, child="", word=""):
        """One erasure with something at step `at`; whether that step was reached."""
        self.now = self.victim()
        wait_for(lambda: not self.proof.facts("SELECT 1 FROM sweep"), "the sweep of before", limit=30)
        self.steps.arm(mode, at, error, child, word)
        r = self.shred(self.now)
        hit, self.what = self.steps.hits > 0, f"{self.now}, {mode} at {at} {word}: {self.steps.last}"
        self.steps.off()
        if mode in (KILL, TEAR) and hit:
            wait_for(lambda: not self.v.pids("keyd") and not self.v.pids("fsd"), "the daemons' end", limit=20)
        elif hit and self.unsettled():
            self.v.down()
        if not self.v.pids("keyd"):
            self.up()
        self.judge(r)
        return hit

    def unsettled(self):
        """A failed disk: keyd tries again in a minute, or is sealed; a restart decides it at once."""
        s = self.v.status(check=None)
        return s.get("sealed") or self.proof.pending() or any("old root key" in w or "root.slot:" in w for w in s.get("warnings", []))

    def judge(self, r):
        try:
            alive = self.proof.check()
            dead = {f for f in self.victims[self.now] if not alive[self.client, f]}
            assert dead in (set(), self.victims[self.now]), (len(dead), "of", len(self.victims[self.now]), "are gone")
            rows = self.proof.facts("SELECT destroyed FROM erasure ORDER BY id DESC LIMIT 1")
            done = bool(dead)
            if r.rc == 0:
                assert done, "it said that it was done"
            if done:
                assert rows == [(1,)], rows
            self.outcomes[done] += 1
            self.last = done
            if done:
                del self.victims[self.now]
            others = {f for fs in self.victims.values() for f in fs}
            assert all(alive[self.client, f] for f in others), "another one lost its key"
            assert len(self.proof.certificates()) == self.proof.facts("SELECT count(*) FROM erasure WHERE destroyed = 1")[0][0]
        except AssertionError as e:
            raise AssertionError(f"{getattr(self, 'what', '')}: {e}\n{r}\n{self.steps.calls[-5:]}") from e

    def every_step(self, name, first, seconds):
        """Steps `first`, ... until an erasure is through before it."""
        mode, error, child = MODES[name]
        end = time.monotonic() + seconds
        total = 0
        for self.old_keys in (0, 1):
            n = first
            while time.monotonic() < end and self.attempt(mode, n, error, child):
                self.say(f"{self.what}: {'destroyed' if self.last else 'not destroyed'}")
                n += 1
            total += n - first
        if time.monotonic() > end:
            self.say(f"{name}: stopped at step {n} for want of time")
        self.finish()
        self.say(f"{name}: {total} steps, {self.outcomes[True]} destroyed, {self.outcomes[False]} not destroyed: all well")

    def finish(self):
        """What was not to go is there and opens."""
        m = self.v.mount(self.v.alice)
        wait_for(lambda: not self.proof.facts("SELECT 1 FROM sweep"), "the sweep", limit=30)
        names = set(m.sh("ls").out.split())
        assert names == {"stays", *self.victims}, (names, self.victims)
        assert m.sh('for t in t*; do cat $t/a $t/sub/hard $t/sub/b; readlink $t/l; done; cat stays/one').out.split()[-1] == "one"
        assert m.sh("wc -c < stays/two").out.strip() == "9000"
        m.unmount()
        assert self.v.coffer("fsck", "acme").rc == 0
        self.v.coffer("log", "verify")


class Ageing(Erasing):
    """One class before a date, of one client after the other.  Of each dies: what is under the prefix and what replaced an
    older file; and there survives what was used later, which is under the prefix.  Then, a second time, that dies alone,
    when the prefix is gone already.

    `pass_time` and `policy` are test_destroy's."""

    def __init__(self, vault, clock, pass_time, policy, clients, say=lambda text: print(text, file=sys.stderr, flush=True)):
        self.v, self.say, self.clock, self.pass_time = vault, say, clock, pass_time
        vault.clock = clock
        self.steps, self.proof = Steps(vault, clock.env), Proof(vault)
        self.outcomes, self.clients, self.files = {True: 0, False: 0}, [f"c{i}" for i in range(clients)], {}
        policy(vault, wait="50y")  # here it is the custodian who destroys, not the clock behind him
        self.up()
        today = clock.today()
        self.before, later = clock.today(2), clock.today(40)
        for c in self.clients:
            vault.add(c)
            vault.grant(c, vault.alice)
            m = vault.mount(vault.alice, c)
            m.sh("mkdir c && echo plain > plain && cd c && for f in old used strag; do echo $f > $f; done")
            vault.coffer("class", "set", c, "c", "credentials")
            m.sh('touch -d "$1" c/used && touch -d "$2" c/old c/strag', later, today)
            m.unmount()
        self.proof.note()
        pass_time(vault, 5)
        for c in self.clients:
            m = vault.mount(vault.alice, c)
            m.sh('echo again > c/new && touch -d "$1" c/new && mv c/new c/strag', today)
            m.unmount()
        self.proof.note()
        pass_time(vault, 41)
        self.ids = {c: i for c, i in self.proof.facts("SELECT client, client_id FROM client")}
        self.second = False

    def shred(self, client):
        return self.v.coffer("shred", client, "--class", "credentials", "--before", self.before, "--reason", "R", "--yes",
                             "--json", check=None, timeout=60)

    def victim(self):
        return self.clients.pop(0)

    def judge(self, r):
        try:
            alive, now = self.proof.check(), self.proof.note()
            of = [leaves for (c, _), leaves in alive.items() if c == self.ids[self.now]]
            dead = sum(not leaves for leaves in of)
            row = self.proof.facts("SELECT destroyed FROM erasure e JOIN client c ON c.id = e.client WHERE c.client = ?"
                                   " ORDER BY e.id DESC LIMIT 1", self.now)
            done = row == [(1,)] if not self.second else dead == len(of) - 1
            assert row == [(1,)] or not done, (row, dead)
            if r.rc == 0:
                assert done, "it said that it was done"
            # five files were ever there: plain, old, used, strag and the strag that was replaced
            gone = {False: {False: 0, True: 3}, True: {False: 3, True: 4}}[self.second][done]
            assert dead == gone, (dead, "of", len(of), "are gone, not", gone, alive)
            certificates = [n for n in self.proof.certificates() if n.startswith(self.now + "+erasure-")]
            assert len(certificates) == self.second + done, certificates
            self.outcomes[done] += 1
            self.last = done
        except AssertionError as e:
            raise AssertionError(f"{self.what}: {e}\n{r}\n{self.steps.calls[-5:]}") from e

    def every_step(self, name, first, seconds):
        mode, error, child = MODES[name]
        clients, end, total = list(self.clients), time.monotonic() + seconds, 0
        for second in (False, True):
            if second:
                self.again(clients)
            n = first
            while self.clients and time.monotonic() < end and self.attempt(mode, n, error, child):
                self.say(f"{self.what}: {'destroyed' if self.last else 'not destroyed'}")
                n += 1
            total += n - first
            if not self.clients or time.monotonic() > end:
                self.say(f"{name}: stopped at step {n} for want of clients or time")
        self.finish()
        self.say(f"class, {name}: {total} steps, {self.outcomes[True]} destroyed, {self.outcomes[False]} not destroyed: all well")

    def again(self, clients):
        """What is left of these is done, and time passes until the survivors are due, too."""
        for c in clients:
            if not self.proof.facts("SELECT 1 FROM erasure e JOIN client c ON c.id = e.client WHERE c.client = ? AND destroyed = 1", c):
                wait_for(lambda: self.shred(c).rc == 0, "what was interrupted gets through", limit=30, step=0.5)
        self.pass_time(self.v, 80)
        self.clients, self.second = list(clients), True

    def finish(self):
        for c in self.ids:
            m = self.v.mount(self.v.alice, c)
            assert m.sh("cat plain").out == "plain\n"
            m.unmount()


class Expiring(Erasing):
    """One client after the other is destroyed because it is time.  Whatever step the daemons were stopped at, it is by itself
    destroyed in the end; and until it is, nothing says so."""

    AT_ONCE = 25  # below the days that a notice waits

    def __init__(self, vault, clock, say=lambda text: print(text, file=sys.stderr, flush=True)):
        self.v, self.say, self.clock = vault, say, clock
        vault.clock = clock
        self.steps, self.proof = Steps(vault, clock.env), Proof(vault)
        self.made, self.day, self.clients, self.destroyed = 0, 0, [], 0
        self.up()

    def jump(self, days):
        self.day = days
        self.clock.set(days)
        wait_for(lambda: self.v.status()["clock"]["state"] == "unconfirmed", "keyd noticing the jump", limit=15)

    def trust(self):
        if self.v.status()["clock"]["state"] == "unconfirmed":
            self.v.coffer("clock", "confirm", timeout=60)

    def more(self, n=AT_ONCE):
        """New clients, ended and due, each to be destroyed a day after the other."""
        self.clients = [f"e{self.made + i}" for i in range(n)]
        self.made += n
        for c in self.clients:
            self.v.add(c)
            self.v.grant(c, self.v.alice)
            m = self.v.mount(self.v.alice, c)
            m.sh("mkdir d && echo one > d/one && echo two > two")
            m.unmount()
            self.v.coffer("client", "end", c, "--on", self.clock.today())
        self.ids = {c: i for c, i in self.proof.facts("SELECT client, client_id FROM client")}
        self.proof.note()
        self.jump(self.day + 95)
        self.trust()
        wait_for(lambda: {r["client"] for r in self.v.json("expiry", "list")["expiry"]} >= set(self.clients), "the notices", limit=30)
        for i, c in enumerate(self.clients):
            self.v.coffer("expiry", "schedule", c, "--on", self.clock.today(i + 1), "--reason", "asks for it")
            self.v.coffer("expiry", "confirm", c)

    def finished(self, client):
        return self.proof.facts("SELECT count(*) FROM destruction d JOIN client c ON c.id = d.client WHERE c.client = ?"
                                " AND destroyed = 1", client)[0][0]

    def attempt(self, mode, at, error=errno.EIO, child="", word=""):
        client = self.clients.pop(0)
        certificate = f"{self.v.dir}/keyd/certificates/{client}.json"
        self.jump(self.day + 1)
        self.steps.arm(mode, at, error, child, word)
        self.v.coffer("clock", "confirm", check=None, timeout=60)
        hit, self.what = self.steps.hits > 0, f"{client}, {mode} at {at} {word}: {self.steps.last}"
        if mode in (KILL, TEAR) and hit:
            wait_for(lambda: not self.v.pids("keyd") and not self.v.pids("fsd"), "the daemons' end", limit=20)
        try:
            if os.path.exists(certificate) or self.finished(client):
                assert self.is_gone(client), "it is certified, and lives"
            self.steps.off()
            if not self.finished(client) and self.v.pids("keyd"):
                self.v.down()  # it is tried again in a minute, or at once after a restart
            if not self.v.pids("keyd"):
                self.up()
            self.trust()
            wait_for(lambda: self.finished(client), "its destruction", limit=30)
            self.proof.check()
            assert self.is_gone(client) and self.v.json("certificate", client)["signature"]
            assert not any(self.is_gone(c) for c in self.clients), "another one lost its keys"
            assert self.finished(client) == 1
        except AssertionError as e:
            raise AssertionError(f"{self.what}: {e}\n{self.steps.calls[-5:]}") from e
        self.destroyed += 1
        return hit

    def is_gone(self, client):
        alive = [bool(leaves) for (c, _), leaves in self.proof.alive().items() if c == self.ids[client]]
        assert len(alive) == 2 and len(set(alive)) == 1, alive
        return not alive[0]

    def every_step(self, name, first, seconds):
        mode, error, child = MODES[name]
        end, n = time.monotonic() + seconds, first
        while time.monotonic() < end:
            if not self.clients:
                self.more()
            if not self.attempt(mode, n, error, child):
                break
            self.say(self.what)
            n += 1
        self.say(f"client, {name}: {n - first} steps, {self.destroyed} destroyed in the end: all well")


class Moving:
    """Trees that get another class, while the worker is killed at its own steps: strace counts those of one kind."""

    CALLS = ("pwrite64", "fsync", "fdatasync", "syncfs", "renameat", "symlinkat", "unlinkat", "fsetxattr", "utimensat")

    def __init__(self, vault, say=lambda text: print(text, file=sys.stderr, flush=True)):
        self.v, self.say, self.n, self.proof = vault, say, 0, Proof(vault)

    def attempt(self, call, at):
        """Whether the worker got to its call number `at` (from 1) of that kind."""
        v, tree = self.v, f"d{self.n}"
        self.n += 1
        m = v.mount(v.alice)
        m.sh('mkdir -p $1/sub && cd $1 && for i in a b c sub/d; do echo $i > $i; done && ln -s a l && ln a sub/h && ln -s "$2" sub/long',
             tree, "x" * 900)
        self.proof.note()
        trace = subprocess.Popen(["strace", "-f", "-o", v.base + "/trace", "-p", str(m.worker()), "-e", "trace=" + call,
                                  "-e", f"inject={call}:signal=KILL:when={at}"], stderr=subprocess.PIPE)
        try:
            assert b"attached" in trace.stderr.readline()
            v.coffer("class", "set", "acme", tree, "project", check=None, timeout=60)
        finally:
            trace.terminate()
            trace.communicate(timeout=10)
        with open(v.base + "/trace") as f:
            hit = "killed by SIGKILL" in f.read()
        if hit:  # it goes on by itself in half a minute, or soon after a start
            v.down()
            v.up()
            wait_for(lambda: not self.proof.facts("SELECT 1 FROM class_set"), "the class is set", limit=30)
        elif m.mounted():
            m.unmount()
        self.proof.check()
        m = v.mount(v.alice)
        assert m.sh("cd $1 && cat a b c sub/d sub/h; readlink l sub/long", tree).out == f"a\nb\nc\nsub/d\na\na\n{'x' * 900}\n"
        m.unmount()
        shown = v.json("class", "show", "acme", tree)
        assert {c["class"]: c["files"] for c in shown["classes"]} == {"project": 5}, shown
        return hit

    def every_step(self, seconds):
        end, total = time.monotonic() + seconds, 0
        for call in self.CALLS:
            n = 1
            while time.monotonic() < end and self.attempt(call, n):
                n += 1
            total += n - 1
            self.say(f"worker, {call}: {n - 1} steps")
        assert self.v.coffer("fsck", "acme").rc == 0
        self.say(f"worker: {total} steps: all well")
