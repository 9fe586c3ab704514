"""Random operations from several sessions of one client, each compared with the same on the local disk.

One operation at a time, so results are the same for a seed.  Between operations of two sessions stands a barrier: the last session
changes a file that only the next one looks at, and which waits to see it.  Notifications come in order, so it has then got all
others.  One file for all would not do: the notification of an earlier barrier would show the newest one before its time.
A sequence that fails is made short and can be kept as a file, one operation a line (replays/).
"""
import json
import os
import random
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import harness  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 20  # seconds for one operation: a file system that hangs is a finding, too
PATHS = ["a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "e/f", "e/f/a", "s", "s/a", "L" * 200, "d/" + "M" * 170, "e/f/" + "N" * 255]
TEXTS = ["a", "d", "e/f", "nowhere", "./" * 9, "t" * 700, "u" * 1100]
KEYS = ["user.a", "user.b", "user." + "k" * 100]
EDGES = [b + d for b in (0, 4032, 4096, 8064, 8192, 16128, 40320, 65536) for d in (-1, 0, 1) if b + d >= 0]
# In a directory that may not be written the kernel looks at the kinds of names before it asks us whether it may, and whether what
# gets a name there was unlinked.
KINDS_FIRST = ("ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY", "EPERM")
HANDLES = 3  # of each session


class Differs(AssertionError):
    def __init__(self, at, what, ours, theirs):
        super().__init__(f"operation {at}: {json.dumps(what)}\n  in the share: {ours}\n  on the local disk: {theirs}")
        self.at = at


class Player:
    def __init__(self, user, where, *words):
        with open(os.path.join(HERE, "player.py")) as f:
            argv = ["/usr/bin/env", "-C", where, sys.executable, "-c", f.read(), *words]
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True, bufsize=0,
                                  **harness.identity(user))

    def ask(self, op):
        self.p.stdin.write(json.dumps(op).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.p.stdout], [], [], LIMIT * harness.SLOW)[0]:
                raise harness.Timeout(f"no answer: {op}")
            more = os.read(self.p.stdout.fileno(), 1 << 20)
            if not more:
                raise harness.Died(self.p.wait(5))
            line += more
        return json.loads(line)

    def stop(self):
        harness.stop_process(self.p)
        self.p.stdin.close()
        self.p.stdout.close()


class Own:
    """Three mounts (two of alice, one of bob), whose users stand for one: the local twin is alice's."""
    alone = False

    def __init__(self, vault):
        self.vault = vault
        self.users = [vault.alice, vault.bob, vault.alice]
        self.twins = [vault.alice] * 3
        self.mounts = [vault.mount(u) for u in self.users]
        self.points = [m.point for m in self.mounts]

    def unmount(self, i):
        if self.mounts[i].mounted():
            # again where it is busy for a moment: who looks at /proc/PID/cwd holds a mount
            harness.wait_for(lambda: self.mounts[i].unmount(check=None).rc == 0 or not self.mounts[i].mounted(), "an unmount", step=0.2)
        harness.wait_for(lambda: not self.mounts[i].mounted(), "the end of the mount")

    def mount(self, i):
        self.mounts[i] = self.vault.mount(self.users[i], point=self.points[i])

    def worker(self):
        return self.mounts[0].worker()


class One(Own):
    """One mount for all players, so they have one kernel, and its end concerns all: alice's exclusive one, or a shared one
    with alice and bob as themselves (and so is who plays on the local disk)."""

    def __init__(self, vault, *options):
        self.vault, self.options, self.alone, shared = vault, options, "--exclusive" in options, "--shared" in options
        self.users = [vault.alice, vault.bob if shared else vault.alice, vault.alice]
        self.twins = self.users
        self.owner = None if shared else vault.alice
        if shared:
            point = os.path.join(vault.base, "shared")
            os.mkdir(point, 0o755)
        else:
            point = vault.alice.mkdir("exclusive")
        self.mounts, self.points = [harness.Mount(vault, self.owner, "acme", point)], [point] * 3
        self.mount(0)

    def unmount(self, i):
        super().unmount(0)

    def mount(self, i):
        self.vault.coffer("mount", "acme", "--purpose", harness.PURPOSE, "--ticket", harness.TICKET, *self.options, self.points[0],
                          user=self.owner)


KINDS = {"own": Own, "shared": lambda v: One(v, "--shared"), "exclusive": lambda v: One(v, "--exclusive"),
         "shared-exclusive": lambda v: One(v, "--shared", "--exclusive")}


class Stage:
    """The mounts, a player in each, and the local twins: one for each user of whom the file system knows."""

    def __init__(self, vault, kind="own"):
        self.vault, self.runs, self.barrier, self.last = vault, 0, 1, None
        vault.grant("acme", vault.bob)
        self.at = KINDS[kind](vault)
        self.one = kind != "own"
        self.words = ["alone"] if self.at.alone else []
        self.home = os.path.join(vault.base, "twin")
        os.mkdir(self.home)
        os.chmod(self.home, 0o777)
        twins = {u.name: u for u in self.at.twins}
        twins = {name: Player(u, self.home, *self.words) for name, u in twins.items()}
        self.twins = [twins[u.name] for u in self.at.twins]
        self.players = [self.player(i) for i in range(3)]
        for i in range(3):
            self.players[0].ask({"op": "set up", "p": self.path(f"barrier{i}")})

    def player(self, i):
        return Player(self.at.users[i], self.at.points[i], *self.words)

    def path(self, name, i=0):
        return os.path.join(self.at.points[i], name)

    def close(self):
        for p in [*self.players, *self.twins]:
            p.stop()

    def begin(self):
        """A new directory in the share and beside it; nothing open."""
        self.runs += 1
        name = f"run{self.runs}"
        mode = 0o777 if len(set(self.twins)) > 1 else 0o755
        for twin in dict.fromkeys(self.twins):
            twin.ask({"op": "begin", "p": f"{self.home}/{name}", "mode": mode})
        self.last = None
        for i in range(len(self.players)):
            self.meet(i)
            assert self.players[i].ask({"op": "begin", "p": self.path(name, i), "mode": mode}) is None
            self.last = i

    def meet(self, i):
        """Session i has heard of all that the last one did."""
        if self.one or self.last in (None, i):
            return
        self.barrier += 1
        self.players[self.last].ask({"op": "barrier", "p": self.path(f"barrier{i}", self.last), "n": self.barrier})
        harness.wait_for(lambda: self.players[i].ask({"op": "reached", "p": self.path(f"barrier{i}", i)}) == self.barrier,
                         "the notification", limit=LIMIT, step=0.0005)

    def again(self, i):
        """A new mount for session i (and whoever is in the same mount), at the same place."""
        whom = range(len(self.players)) if self.one else [i]
        for k in whom:
            self.players[k].stop()
        self.at.unmount(i)
        self.at.mount(i)
        for k in whom:
            self.players[k] = self.player(k)
            assert self.players[k].ask({"op": "begin", "p": self.path(f"run{self.runs}", k)}) is None
            self.twins[k].ask({"op": "forget", "handles": [f"{k}{h}" for h in range(HANDLES)]})

    def kill(self):
        if self.at.alone:
            return self.again(0)  # what the kernel still has would be lost, as it is told
        harness.kill9(self.at.worker())
        self.last = None
        for i in [0] if self.one else range(len(self.players)):
            self.again(i)

    def play(self, at, op):
        if op["op"] == "kill":
            return self.kill()
        i = op["s"]
        if op["op"] == "remount":
            if self.last == i:
                self.meet((i + 1) % len(self.players))
                self.last = None
            return self.again(i)
        self.meet(i)
        ours = self.players[i].ask(op)
        self.last = i
        if op["op"] == "map" and ours == "ENODEV":
            return None  # another session writes: refused, and the twin does not do it either
        theirs = self.twins[i].ask(op)
        first = (*KINDS_FIRST, "ENOENT") if op["op"] == "name" else KINDS_FIRST
        if ours != theirs and not (theirs == "EACCES" and ours in first):
            raise Differs(at, op, ours, theirs)

    def run(self, ops):
        """None, or what differed."""
        self.begin()
        for at, op in enumerate(ops):
            try:
                self.play(at, op)
            except Differs as e:
                return e
        for i in range(len(self.players)):
            try:
                self.play(len(ops), {"op": "tree", "s": i})
            except Differs as e:
                return e
        return None


# ---- making operations ----

def offset(rnd):
    return rnd.choice(EDGES) if rnd.random() < 0.6 else rnd.randrange(90_000)


def length(rnd):
    return rnd.choice((1, 63, 4031, 4032, 4033, 4096, 8064, rnd.randrange(1, 60_000)))


O = os
RW = [O.O_RDWR | O.O_CREAT] * 6 + [O.O_RDWR, O.O_RDONLY, O.O_WRONLY | O.O_CREAT | O.O_TRUNC, O.O_RDWR | O.O_CREAT | O.O_EXCL,
                                  O.O_RDWR | O.O_APPEND | O.O_CREAT, O.O_RDWR | O.O_TRUNC, O.O_RDONLY | O.O_DIRECTORY, O.O_RDONLY | O.O_NOFOLLOW]

WEIGHTS = {"open": 9, "close": 3, "tmpfile": 1, "name": 1, "write": 14, "read": 8, "ftruncate": 5, "truncate": 3, "fallocate": 4, "map": 4,
           "regions": 2, "fsync": 2, "copy": 2, "fstat": 3, "fchmod": 1, "futime": 1, "setfl": 1, "lock": 3, "flock": 2, "fsetxattr": 1,
           "save": 5, "stat": 3, "look": 2, "cat": 4, "list": 3, "rename": 6, "link": 3, "symlink": 2, "readlink": 1, "unlink": 3, "mkdir": 4,
           "rmdir": 2, "mkfifo": 1, "chmod": 2, "utime": 2, "setxattr": 2, "getxattr": 1, "listxattr": 1, "removexattr": 1, "tree": 1}


def make(rnd, sessions, seldom):
    if rnd.random() < seldom:
        return rnd.choice(({"op": "kill"}, {"op": "remount", "s": rnd.randrange(sessions)}))
    s = rnd.randrange(sessions)
    return {"op": rnd.choices(list(WEIGHTS), WEIGHTS.values())[0], "s": s, "h": f"{s}{rnd.randrange(HANDLES)}", "g": f"{s}{rnd.randrange(HANDLES)}",
            "p": rnd.choice(PATHS), "q": rnd.choice(PATHS), "at": offset(rnd), "to": offset(rnd), "seed": rnd.randrange(1, 1 << 30)}


def fill(rnd, op):
    """What only some operations need."""
    kind = op["op"]
    op["n"] = offset(rnd) if "truncate" in kind else rnd.randrange(1, 1 << 40) if "utime" in kind else \
        rnd.choice((0, 1, 50, 900)) if "xattr" in kind else length(rnd)
    op["flags"] = rnd.choice(RW) if kind == "open" else rnd.choice((0, 0, 0, 1, 2)) if kind in ("rename", "setxattr") else \
        rnd.choice((0, os.O_APPEND)) if kind == "setfl" else 0
    op["kind"] = rnd.choice((0, 1, 2)) if kind == "lock" else rnd.choice((5, 6, 8))  # R W U; SH|NB EX|NB UN
    op["mode"] = rnd.choice((0, 1, 3, 3, 16, 17)) if kind == "fallocate" else rnd.choice((0o700, 0o755, 0o500, 0o600, 0o644, 0o400))
    op["text"], op["k"] = rnd.choice(TEXTS), rnd.choice(KEYS)
    if kind == "map" and rnd.random() < 0.3:
        op["seed"] = 0
    return op


NEEDS = {"open": "hp flags", "close": "h", "tmpfile": "hp", "name": "hp", "write": "h at n seed", "read": "h at n", "ftruncate": "h n",
         "truncate": "p n", "fallocate": "h mode at n", "map": "h at n seed", "regions": "h", "fsync": "h", "copy": "hg at to n", "fstat": "h",
         "fchmod": "h mode", "futime": "h n", "setfl": "h flags", "lock": "h kind", "flock": "h kind", "fsetxattr": "h k n seed",
         "save": "p n seed", "stat": "p", "look": "p", "cat": "p", "list": "p", "rename": "pq flags", "link": "pq", "symlink": "p text",
         "readlink": "p", "unlink": "p", "mkdir": "p", "rmdir": "p", "mkfifo": "p", "chmod": "p mode", "utime": "p n",
         "setxattr": "p k n seed flags", "getxattr": "p k", "listxattr": "p", "removexattr": "p k", "tree": "", "kill": "", "remount": ""}


def bare(op):
    """Only what its kind needs: so that a replay reads well."""
    words = NEEDS[op["op"]].split()
    wanted = {"op", "s"} | {c for w in words if set(w) <= set("hgpq") for c in w} | {w for w in words if not set(w) <= set("hgpq")}
    wanted |= {"n"} if "n" in words else set()
    return {k: v for k, v in op.items() if k in wanted}


def sequence(seed, count, sessions=3, seldom=0.0):
    rnd = random.Random(seed)
    return [bare(fill(rnd, make(rnd, sessions, seldom))) for _ in range(count)]


# ---- making it short ----

def shrink(stage, ops, failure, limit=120):
    """As few operations as still make results differ; within `limit` seconds."""
    end = time.monotonic() + limit
    ops = ops[:failure.at + 1]
    size = max(1, len(ops) // 2)
    while size and time.monotonic() < end:
        at, removed = 0, False
        while at < len(ops) and time.monotonic() < end:
            fewer = ops[:at] + ops[at + size:]
            found = stage.run(fewer) if fewer else None
            if found:
                ops, failure, removed = fewer[:found.at + 1], found, True
            else:
                at += size
        size = size // 2 if not removed or size > 1 else 1
        if size == 1 and not removed:
            break
    return ops, failure


def save(path, ops):
    with open(path, "w") as f:
        f.writelines(json.dumps(op) + "\n" for op in ops)


def load(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]
