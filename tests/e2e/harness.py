"""What the tests drive: the programs, ordinary users, one set of daemons with its own state directory.

Nothing here waits without a limit, and every process and mount that a vault started is found again by what it refers to
(its state directory), never by its name.
"""
import contextlib
import errno
import json
import os
import pickle
import pwd
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("COFFER_BUILD", os.path.join(SOURCE, "build")))
SANITIZED = bool(os.environ.get("COFFER_TEST_SANITIZED"))
SLOW = 4 if SANITIZED else 1  # limits stretch under a sanitizer
PROGRAMS = ["tools/coffer", "keyd/coffer-keyd", "fs/broker/coffer-fsd", "fs/worker/coffer-worker"]
PURPOSE = "data-migration"
OTHER_PURPOSE = "consulting"
TICKET = "CHG-1042"
PASSED_ENV = ["ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "COFFER_UNRECORDED"]

OK, FAILED, USAGE, REFUSED, NOT_FOUND, UNREACHABLE, SEALED, DESTROYED, DAMAGED = range(9)


class Timeout(AssertionError):
    """A limit ran out; not a TimeoutError, which code under test may raise itself."""


def wait_for(condition, what, limit=10.0, step=0.02):
    """The value of condition() as soon as it is true; polls."""
    end = time.monotonic() + limit * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"not within {limit * SLOW:g} s: {what}")
        time.sleep(step)


class Result:
    def __init__(self, argv, rc, out, err):
        self.argv, self.rc, self.out_bytes, self.err_bytes = argv, rc, out, err

    @property
    def out(self):
        return self.out_bytes.decode("utf-8", "replace")

    @property
    def err(self):
        return self.err_bytes.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        argv = " ".join(a if len(a) < 200 else a[:60] + " [...]" for a in self.argv)
        return f"{argv}\n-> {self.rc}\n{self.out[-3000:]}\n{self.err[-3000:]}"


def stop_process(p):
    """Ends a child of ours; one stuck in the kernel is left behind rather than waited for."""
    if p.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(p.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            p.wait(5)


def run(argv, user=None, timeout=30, input=None, cwd=None, env=None, check=False, pass_fds=()):
    """Runs argv (as `user`, a User) in a process group of its own; kills the group when the time is up."""
    argv = [str(a) for a in argv]
    if user is not None:  # only he can enter his mount: change the directory as him
        argv, cwd = ["/usr/bin/env", "-C", cwd or "/", *argv], None
    if isinstance(input, str):
        input = input.encode()
    p = subprocess.Popen(argv, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd or "/", pass_fds=pass_fds,
                         start_new_session=True, **identity(user, env))
    try:
        out, err = p.communicate(input, timeout=timeout * SLOW)
    except subprocess.TimeoutExpired:
        stop_process(p)
        raise Timeout(f"{timeout * SLOW} s were not enough: {' '.join(argv)}") from None
    r = Result(argv, p.returncode, out, err)
    if check:
        assert r.rc == 0, r
    return r


def identity(user, env=None):
    """Keyword arguments of Popen that make the child the user, with a small environment."""
    e = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": "/root", "USER": "root",
         "LOGNAME": "root", "SHELL": "/bin/sh"}
    e.update({k: os.environ[k] for k in PASSED_ENV if k in os.environ})
    kw = {}
    if user is not None:
        e.update(HOME=user.home, USER=user.name, LOGNAME=user.name)
        kw = {"user": user.uid, "group": user.gid, "extra_groups": os.getgrouplist(user.name, user.gid)}
    e.update(env or {})
    return {"env": e, **kw}


class User:
    """An ordinary account.  `home` is a folder of his own below the vault under test."""

    def __init__(self, name, home):
        p = pwd.getpwnam(name)
        self.name, self.uid, self.gid, self.home = name, p.pw_uid, p.pw_gid, home

    def run(self, *argv, **kw):
        kw.setdefault("cwd", self.home)
        return run(argv, user=self, **kw)

    def sh(self, script, *args, **kw):
        kw.setdefault("check", True)
        return self.run("/bin/bash", "-euc", script, "sh", *args, **kw)

    def python(self, script, *args, **kw):
        kw.setdefault("check", True)
        return self.run(sys.executable, "-c", script, *args, **kw)

    def mkdir(self, name):
        path = os.path.join(self.home, name)
        os.mkdir(path, 0o755)
        os.chown(path, self.uid, self.gid)
        return path


class Actor:
    """A running process of a user that holds descriptors, mappings and locks (actor.py)."""

    def __init__(self, user, cwd=None, limit=20):
        self.limit = limit * SLOW
        with open(os.path.join(HERE, "actor.py")) as f:  # its text: he may not reach the file
            argv = ["/usr/bin/env", "-C", cwd or user.home, sys.executable, "-c", f.read()]
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                                  start_new_session=True, bufsize=0, **identity(user))

    def _read(self, n, end):
        data = b""
        while len(data) < n:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.p.stdout], [], [], left)[0]:
                raise Timeout("the program hangs")
            more = os.read(self.p.stdout.fileno(), n - len(data))
            if not more:
                self.p.wait(5)
                raise Died(self.p.returncode, self.p.stderr.read())
            data += more
        return data

    def _ask(self, kind, source):
        end = time.monotonic() + self.limit
        data = pickle.dumps((kind, source))
        try:
            self.p.stdin.write(struct.pack("<I", len(data)) + data)
        except BrokenPipeError:
            self.p.wait(5)
            raise Died(self.p.returncode, self.p.stderr.read()) from None
        n = struct.unpack("<I", self._read(4, end))[0]
        good, value = pickle.loads(self._read(n, end))
        if not good:
            raise value
        return value

    def do(self, source):
        self._ask("do", source)

    def get(self, source):
        return self._ask("get", source)

    def errno(self, source):
        """0, or the errno with which the statement failed."""
        try:
            self._ask("do", source)
        except OSError as e:
            return e.errno
        return 0

    def stop(self):
        stop_process(self.p)
        for f in (self.p.stdin, self.p.stdout, self.p.stderr):
            f.close()


class Died(Exception):
    def __init__(self, code, err=b""):
        super().__init__(f"the program ended: {code} {err[-500:]!r}")
        self.code = code


def proc_links(pid):
    """What a process refers to: its open files, working directory and mapped files."""
    for name in ("cwd", "root"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/{name}")
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{fd}")


def our_processes(base):
    """pid -> name of program, of coffer's processes that refer to something below `base`."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            exe = os.path.basename(os.readlink(f"/proc/{pid}/exe").replace(" (deleted)", ""))
            if exe not in {os.path.basename(p) for p in PROGRAMS}:
                continue
            argv = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        if base.encode() in argv or any(link.startswith(base) for link in proc_links(pid)):
            found[int(pid)] = exe
    return found


def mounts_below(base):
    """[(mount point, minor, type)] from this namespace's mountinfo, innermost last."""
    rows = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, right = line.split(" - ", 1)
            point = left.split()[4].encode().decode("unicode_escape")
            if point == base or point.startswith(base + "/"):
                rows.append((point, left.split()[2].split(":")[1], right.split()[0]))
    return rows


def gone(pid):
    """Whether a process has ended (a zombie has)."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def kill9(pid):
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid), f"end of process {pid}")


def remove_mounts(base):
    for point, minor, kind in reversed(mounts_below(base)):
        if kind.startswith("fuse"):
            with contextlib.suppress(OSError), open(f"/sys/fs/fuse/connections/{minor}/abort", "w") as f:
                f.write("1")
        subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, timeout=20)


class Mount:
    """A mounted share."""

    def __init__(self, vault, user, client, point):
        self.vault, self.user, self.client, self.point = vault, user, client, point

    def path(self, *names):
        return os.path.join(self.point, *names)

    def sh(self, script, *args, **kw):
        kw.setdefault("cwd", self.point)
        return self.user.sh(script, *args, **kw)

    def python(self, script, *args, **kw):
        kw.setdefault("cwd", self.point)
        return self.user.python(script, *args, **kw)

    def write(self, name, data):
        data = data.encode() if isinstance(data, str) else data
        self.python("import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())", name, input=data)

    def read(self, name):
        return self.python("import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())", name).out_bytes

    def errno(self, statement):
        """The errno with which a Python statement fails when the user runs it in the share; 0: it works."""
        r = self.python("import os, sys, mmap, fcntl\n"
                        "try:\n exec(sys.argv[1])\nexcept OSError as e: print(e.errno)\nelse: print(0)", statement)
        return int(r.out.split()[-1])

    def mounted(self):
        return any(p == self.point for p, _, _ in mounts_below(self.point))

    def session(self):
        """The session's row of `coffer sessions`, or None."""
        for s in self.vault.rows("sessions"):
            if s.get("mountpoint") == self.point:
                return s
        return None

    def worker(self):
        return self.session()["worker_pid"]

    def unmount(self, **kw):
        return self.vault.coffer("unmount", self.point, user=self.user, **kw)


class Vault:
    """One set of daemons, its state directory `dir`, and the users' homes beside it."""

    def __init__(self, programs, accounts, parent="/var/tmp"):
        self.programs = programs
        self.base = tempfile.mkdtemp(prefix="coffer-e2e-", dir=parent)
        os.chmod(self.base, 0o755)
        self.dir = os.path.join(self.base, "D")
        self.users, self.actors, self.points = {}, [], 0
        for short, name in accounts.items():
            home = os.path.join(self.base, short)
            os.mkdir(home, 0o755)
            self.users[short] = User(name, home)
            os.chown(home, self.users[short].uid, self.users[short].gid)
        self.alice, self.bob, self.carol = (self.users[n] for n in ("alice", "bob", "carol"))

    # -- the programs --
    def coffer(self, *args, user=None, check=True, timeout=30, input=None, env=None, pass_fds=(), dir=None):
        """Runs `coffer --dir D args`; with check it must succeed; `check=REFUSED` etc.: it must end with that code."""
        argv = [self.programs + "/tools/coffer", "--dir", dir or self.dir, *args]
        r = run(argv, user=user, timeout=timeout, input=input, env=env, pass_fds=pass_fds,
                cwd=user.home if user else self.base)
        if check is not None and check is not False:
            assert r.rc == (0 if check is True else check), r
        return r

    def json(self, *args, **kw):
        return self.coffer(*args, "--json", **kw).json

    def rows(self, *args, **kw):
        """The list in the answer of a command that shows one: [..] or {"name": [..]}."""
        value = self.json(*args, **kw)
        if isinstance(value, dict):
            lists = [v for v in value.values() if isinstance(v, list)]
            assert len(lists) <= 1, value
            value = lists[0] if lists else []
        return value

    def up(self, *args, **kw):
        return self.coffer("up", *args, timeout=60, **kw)

    def up_with_groups(self, *args, env=None):
        """Starts the daemons with groups that only they see (join, leave): tests that run beside this one keep theirs."""
        self.groups = os.path.join(self.base, "group")
        if not os.path.exists(self.groups):
            shutil.copy("/etc/group", self.groups)
            os.chmod(self.groups, 0o644)
        self.up_apart(self.groups, "/etc/group", *args, env=env)

    def up_apart(self, mine, place, *args, env=None):
        """Starts the daemons so that they find `mine` at `place`, and nobody else does."""
        run(["unshare", "-m", "/bin/sh", "-euc", 'mount --bind "$1" "$2"; shift 2; exec "$@"', "sh", mine, place,
             self.programs + "/tools/coffer", "--dir", self.dir, "up", *args], check=True, timeout=60, env=env)

    def join(self, user, group):
        """At once, also for daemons that run."""
        self._set_members(group, lambda members: [*members, user.name])

    def leave(self, user, group):
        self._set_members(group, lambda members: [m for m in members if m != user.name])

    def _set_members(self, group, change):
        with open(self.groups) as f:
            rows = [line.rstrip("\n").split(":") for line in f]
        row = next((r for r in rows if r[0] == group), None)
        if row is None:
            row = [group, "x", str(61000 + len(rows)), ""]
            rows.append(row)
        row[3] = ",".join(change([m for m in row[3].split(",") if m]))
        with open(self.groups, "r+") as f:  # in place: it is mounted
            f.write("".join(":".join(r) + "\n" for r in rows))
            f.truncate()

    def down(self, **kw):
        return self.coffer("down", timeout=60, **kw)

    def status(self, **kw):
        return self.json("status", **kw)

    # -- the story's steps --
    def add(self, client="acme", name="Acme Corp", email="privacy@acme.example", **kw):
        return self.coffer("client", "add", client, "--name", name, "--email", email, **kw)

    def grant(self, client, who, purpose=PURPOSE, rights="rw", *more, **kw):
        name = who.name if isinstance(who, User) else who
        return self.coffer("grant", client, name, "--purpose", purpose, "--rights", rights, *more, **kw)

    def revoke(self, client, who, *more, **kw):
        name = who.name if isinstance(who, User) else who
        return self.coffer("revoke", client, name, *more, **kw)

    def mount(self, user, client="acme", purpose=PURPOSE, *more, ticket=TICKET, point=None, **kw):
        """A Mount; without success (check=CODE) the Result."""
        if point is None:
            self.points += 1
            point = user.mkdir(f"{client}{self.points}")
        args = ["mount", client, "--purpose", purpose]
        args += ["--ticket", ticket] if ticket else []
        r = self.coffer(*args, *more, point, user=user, **kw)
        return Mount(self, user, client, point) if r.rc == 0 else r

    def log(self, *filters, **kw):
        return self.rows("log", *filters, **kw)

    def actor(self, user, cwd=None, **kw):
        a = Actor(user, cwd, **kw)
        self.actors.append(a)
        return a

    # -- what runs --
    def pids(self, name):
        return sorted(p for p, n in our_processes(self.dir).items() if n == "coffer-" + name)

    def pid(self, name):
        pids = self.pids(name)
        assert len(pids) == 1, (name, pids, our_processes(self.dir))
        return pids[0]

    def client_id(self):
        """The folder of the only client in the store."""
        stores = [d for d in os.listdir(self.dir + "/store") if os.path.isdir(self.dir + "/store/" + d)]
        assert len(stores) == 1, stores
        return stores[0]

    def store(self):
        return os.path.join(self.dir, "store", self.client_id())

    def logs(self):
        text = ""
        for root, _, files in os.walk(os.path.join(self.dir, "log")):
            for name in files:
                with open(os.path.join(root, name), errors="replace") as f:
                    text += f"--- {name}\n" + f.read()[-20000:]
        return text

    def crashes(self):
        """What a daemon's own words say of a defect of ours: a failed assertion, or a sanitizer's report."""
        return self.last_words if re.search(
            r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|Assertion .* failed|stack smashing|"
            r"double free|corrupted|malloc\(\)", self.last_words) else ""

    def close(self):
        """Ends everything this vault started, whatever state it is in, and removes it."""
        for a in self.actors:
            a.stop()
        if our_processes(self.dir):
            with contextlib.suppress(AssertionError, OSError):
                self.coffer("down", check=False, timeout=15)
        with contextlib.suppress(Timeout):
            wait_for(lambda: not our_processes(self.base), "end of the daemons", limit=2)
        for pid in our_processes(self.base):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        remove_mounts(self.base)
        with contextlib.suppress(Timeout):
            wait_for(lambda: not our_processes(self.base), "end of killed processes", limit=5)
        self.last_words = self.logs()
        shutil.rmtree(self.base, ignore_errors=True)


def copy_tree(source, target):
    """A complete copy, extended attributes and modes included, as a backup would take it."""
    run(["cp", "-a", "--reflink=auto", source, target], check=True, timeout=120)


def files_below(path):
    for root, _, names in os.walk(path):
        for name in names:
            p = os.path.join(root, name)
            if os.path.isfile(p) and not os.path.islink(p):
                yield p


ERRNO = errno.errorcode
