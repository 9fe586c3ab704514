"""No byte of a key outside the arenas of keyd and the client's own worker, and sealed: neither on disk nor in any process.

The keys are known: tests/adversary opens slot, rings, trees and headers as the documents say.  Searched for are the halves of
each, plain, and on disk the whole in hex and base64, too."""
import base64
import contextlib
import os
import re
import signal
import struct
import time

import pytest

import harness
from harness import wait_for
from steps import adversary
from test_seal import with_passphrase

KEYS = 3  # of a client's files
ELSEWHERE_MAX = 16 << 20  # of files that are not ours
PASSPHRASE = "Gneiss-Kolibri-8821-Aquavit"
read_store = adversary.read_store


def forms(name, key):
    if len(key) == 32:
        yield key[:16], name
        yield key[16:], name
    else:
        yield key, name
    yield key.hex().encode(), name
    yield key.hex().upper().encode(), name
    for skip in range(3):
        core = key[skip:]
        yield base64.b64encode(core[:len(core) // 3 * 3]), name


class Search:
    def __init__(self, keys):
        self.words = {}
        for name, key in keys.items():
            self.words.update(forms(name, key))
        raw = {k[at:at + 16] if len(k) == 32 else k for k in keys.values() for at in (0, 16)}
        self.pattern, self.plain = self.compile(self.words), self.compile(raw)  # the short one for memory: it is much
        self.overlap = max(map(len, self.words))

    @staticmethod
    def compile(words):
        return re.compile(b"|".join(map(re.escape, words)), re.DOTALL)

    def data(self, data, plain=False):
        return {self.words[m] for m in (self.plain if plain else self.pattern).findall(data)}

    def file(self, path):
        found, tail = set(), b""
        with open(path, "rb") as f:
            while part := f.read(1 << 20):
                found |= self.data(tail + part)
                tail = part[-self.overlap:]
        return found

    def files(self, top, newer=0):
        """{path: names of keys}, file names, links and attributes included."""
        found = {}
        for root, dirs, names in os.walk(top):
            for path in (os.path.join(root, n) for n in dirs + names):
                with contextlib.suppress(OSError):
                    st = os.lstat(path)
                    text = path.encode() + (os.readlink(path).encode() if os.path.islink(path) else b"")
                    for attr in os.listxattr(path, follow_symlinks=False):
                        text += os.getxattr(path, attr, follow_symlinks=False)
                    hits = self.data(text)
                    if os.path.isfile(path) and not os.path.islink(path) and st.st_mtime >= newer and \
                            (not newer or st.st_size < ELSEWHERE_MAX):
                        hits |= self.file(path)
                    if hits:
                        found[path] = hits
        return found

    def memory(self, pid):
        """({"arena", "locked" or "open": names of keys}, bytes seen): the arena is what is wiped on fork and left out of dumps."""
        found, seen, kind = {"arena": set(), "locked": set(), "open": set()}, 0, None
        with open(f"/proc/{pid}/smaps") as f:
            areas, area = [], None
            for line in f:
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)", line)
                if m:
                    area = [int(m[1], 16), int(m[2], 16), m[3], m[4], []]
                    areas.append(area)
                elif line.startswith("VmFlags:"):
                    area[4] = line.split()[1:]
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
            for at, end, mode, name, flags in areas:
                if "r" not in mode or name in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                    continue
                kind, tail = "arena" if "wf" in flags and "dd" in flags else "locked" if "lo" in flags else "open", b""
                while at < end:
                    try:
                        mem.seek(at)
                        data = mem.read(min(1 << 16, end - at))
                    except OSError:
                        break
                    if not data:
                        break
                    seen += len(data)
                    if data.count(0) < len(data):
                        found[kind] |= self.data(tail + data, plain=True)
                    tail, at = data[-self.overlap:], at + len(data)
        return found, seen


class Known:
    """The keys of a vault, by who may have them."""

    def __init__(self, vault, ids, passphrases=()):
        a = adversary.Adversary()
        a.copy(vault.dir)
        a.slot(vault.dir + "/keyd/slot", passphrases)
        assert a.open_keys() == 1 and len(a.roots) == 1
        self.keyd, self.client, self.file = {}, {}, {}
        self.keyd["root key"], = a.roots
        plain = adversary.box_open(a.rings[0], 40, self.keyd["root key"], b"coffer-wrap-ring")
        self.keyd["signing seed"] = plain[:32]
        names = {v: k for k, v in ids.items()}
        for at in range(32, 32 + 56 * struct.unpack_from("<I", a.rings[0], 32)[0], 56):
            self.keyd["client key of " + names[plain[at:at + 16].hex()]] = plain[at + 24:at + 56]
        for client, name in names.items():
            tree = a.trees[client].trees[0][1]
            self.client[name] = {f"node {i} of {name}'s tree": node for i, (_, _, node) in enumerate(tree.nodes[:KEYS])}
            self.file[name] = {}
            for path in harness.files_below(f"{vault.dir}/store/{client}"):
                raw = adversary.read(path)
                if raw[:8] == b"COFFER\r\n" and len(self.file[name]) < KEYS:
                    index = struct.unpack_from("<Q", raw, 32)[0]
                    wrap = next(a.trees[client].keys(index, read_store.WRAP))
                    f = read_store.File.__new__(read_store.File)
                    f.raw = raw
                    f.read_header(adversary.One(wrap))
                    self.file[name][f"content key {f.id.hex()[:8]} of {name}"] = f.key
                    self.client[name][f"wrap key {f.id.hex()[:8]} of {name}"] = wrap
            for key in a.name_keys(client, f"{vault.dir}/store/{client}"):  # of the share itself
                self.client[name][f"key of names of {name}"] = key

    def all(self):
        found = dict(self.keyd)
        for part in (self.client, self.file):
            for keys in part.values():
                found.update(keys)
        return found


@pytest.fixture
def two(vault):
    """Two clients, each with a session of its own; everything done that touches keys."""
    v = vault
    v.ids, v.began = {}, time.time() - 1
    for name, user in (("acme", v.alice), ("globex", v.bob)):
        v.ids[name] = v.json("client", "add", name, "--name", name, "--email", "x@example.org")["client_id"]
        v.grant(name, user)
    v.shares = {"acme": v.mount(v.alice), "globex": v.mount(v.bob, "globex")}
    for m in v.shares.values():
        m.sh("mkdir d; head -c 30000 /dev/zero > d/big; echo small > small; ln -s small l; setfattr -n user.a -v b small; echo gone > gone")
        m.sh("cat d/big small > /dev/null; mv small d/moved; sync -f .")
    v.coffer("class", "set", "acme", "d", "project")
    v.coffer("backup", v.base + "/backup", timeout=60)
    v.log()
    v.status()
    v.known = Known(v, v.ids)
    assert all(len(k) == KEYS for k in v.known.file.values())
    return v


def processes_of(v):
    return {p: n for p, n in harness.our_processes(v.base).items() if n != "coffer"}


def processes(v):
    """All of ours: the daemons and the keepers."""
    found = harness.our_processes(v.base)
    assert set(found.values()) >= {"coffer", "coffer-keyd", "coffer-fsd", "coffer-worker"}, found
    return found


def test_the_search_finds_what_is_there(tmp_path):
    """Each form, across the border of two reads, in a name, an attribute, in memory; each half by itself."""
    key, other = os.urandom(32), os.urandom(32)
    s = Search({"one": key, "two": other})
    for i, (word, _) in enumerate(forms("one", key)):
        (tmp_path / f"f{i}").write_bytes(bytes((1 << 20) - 9) + word + bytes(5))
    (tmp_path / key.hex()).touch()
    assert len(s.files(tmp_path)) == 8 + 1 - (len(set(dict(forms("one", key)))) < 8)
    assert set().union(*s.files(tmp_path).values()) == {"one"}
    found, seen = s.memory(os.getpid())
    assert found["open"] | found["locked"] == {"one", "two"} and seen > 1 << 20


def test_no_function_is_bound_while_there_are_keys(programs):
    """Binding at the first call saves all registers on the stack, where a half of a key once stayed behind."""
    for p in harness.PROGRAMS:
        flags = [line for line in harness.run(["readelf", "-d", os.path.join(programs, p)], check=True).out.splitlines() if "FLAGS_1" in line]
        assert len(flags) == 1 and "NOW" in flags[0].split(), (p, flags)


@pytest.mark.limit(180)
def test_keys_are_in_the_arenas_and_nowhere_else(two):
    v = two
    keys = v.known.all()
    s = Search(keys)
    # On disk sealed only: all of D (record, logs and outbox too), the backup, and what was written meanwhile elsewhere.
    for top, newer in ((v.base, 0), ("/tmp", v.began), ("/dev/shm", v.began), ("/run", v.began)):
        assert s.files(top, newer) == {}, top
    programs = [v.actor(m.user, m.point) for m in v.shares.values()]
    for p in programs:
        p.do("f = open('d/big', 'rb'); assert len(f.read()) == 30000")
    pids = {**processes(v), **{p.p.pid: "a user's program" for p in programs}}
    per_client = {name: {*v.known.client[name], *v.known.file[name]} for name in v.ids}
    workers = {m.worker(): name for name, m in v.shares.items()}
    seen_in_workers = set()
    for pid, what in pids.items():
        found, seen = s.memory(pid)
        assert seen > 100_000, (what, seen)
        arena = found.pop("arena")
        assert found == {"locked": set(), "open": set()}, (what, workers.get(pid), found)
        if what == "coffer-keyd":
            assert {"root key", "signing seed", "client key of acme"} <= arena, arena
            assert not arena & set().union(*(v.known.file[n] for n in v.ids)), "keyd needs no content key"
        elif pid in workers:
            assert arena <= per_client[workers[pid]], (workers[pid], arena)
            assert any(n.startswith("content") for n in arena) and any(n.startswith("node") for n in arena), arena
            seen_in_workers.add(pid)
        else:
            assert arena == set(), (what, arena)
    assert seen_in_workers == set(workers)
    crash_all(v)
    assert s.files(v.base) == {}


def crash_all(v):
    """Each daemon is made to crash: whoever writes cores on this machine gets none."""
    with open("/proc/sys/kernel/core_pattern") as f:
        pattern = f.read().strip()
    pids = processes_of(v)
    for pid in sorted(pids, key=lambda p: pids[p] == "coffer-keyd"):  # keyd last: the others end with it
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd")
            os.kill(pid, signal.SIGSEGV)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a worker whose fsd died
        wait_for(lambda: harness.gone(pid), "its end")
        if not pattern.startswith("|"):
            where = os.path.dirname(os.path.join(cwd, pattern))
            new = [n for n in os.listdir(where) if "core" in n and os.path.getmtime(os.path.join(where, n)) >= v.began]
            assert new == [], (pids[pid], where, new)


@pytest.mark.limit(180)
def test_nothing_is_left_after_seal(two):
    """In keyd; the workers are gone.  Then under a passphrase, which nobody keeps."""
    v = two
    s = Search(v.known.all())
    keyd = v.pid("keyd")
    assert s.memory(keyd)[0]["arena"]
    v.coffer("seal")
    wait_for(lambda: not v.pids("worker"), "the end of the workers")
    for pid, what in processes_of(v).items():
        assert not any(s.memory(pid)[0].values()), (what, s.memory(pid)[0])
    v.coffer("unseal")
    with_passphrase(v, "passphrase", passphrase=PASSPHRASE)
    v.coffer("seal")
    with_passphrase(v, "unseal", passphrase=PASSPHRASE)
    known = Known(v, v.ids, [PASSPHRASE])
    s = Search({**known.all(), "passphrase": PASSPHRASE.encode()})
    for top, newer in ((v.base, 0), ("/tmp", v.began), ("/dev/shm", v.began)):
        assert s.files(top, newer) == {}, top
    found = s.memory(keyd)[0]
    assert "root key" in found["arena"] and not found["locked"] | found["open"] and "passphrase" not in found["arena"], found
    v.coffer("seal")
    assert not any(s.memory(keyd)[0].values())
