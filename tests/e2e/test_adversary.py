"""What an adversary gets who kept everything: tests/adversary/adversary.py has every copy ever made of store, ledger and key
states, and all slots and the daemons' memory of afterwards.  He must get nothing of what was destroyed and everything else,
byte for byte; and all of it with either slot of before, so that the test could fail."""
import hashlib
import json
import os
import re
import struct
import sys

import pytest

import harness
from harness import copy_tree, run, wait_for
from test_destroy import Clock, die, due, end, faketime, pass_time  # noqa: F401 (a fixture among them)

TOOL = os.path.join(harness.SOURCE, "tests", "adversary", "adversary.py")
CUT = os.path.join(harness.BUILD, "tests", "adversary", "cut")
BATCH = 1000


def sha(data):
    return hashlib.sha256(data).hexdigest()


def memory_of(pids, path):
    """What root can read of these processes' memory, in one file; how much."""
    with open(path, "wb") as out:
        for pid in pids:
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
                for line in maps:
                    m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                    if m:
                        try:
                            mem.seek(int(m[1], 16))
                            out.write(mem.read(min(int(m[2], 16) - int(m[1], 16), 16 << 20)))
                        except OSError:
                            pass
        return out.tell()


class Story:
    """A vault with files of two days, and everything that was ever copied of it."""

    def __init__(self, vault):
        self.v, self.copies, self.files = vault, [], {}

    def write(self, m, files, batch=0):
        script = "import sys, json, os\nfor p, t in json.load(sys.stdin).items():\n os.makedirs(os.path.dirname(p) or '.', exist_ok=True)\n" \
                 " open(p, 'w').write(t)\n os.setxattr(p, 'user.note', t[:40].encode())\n"
        texts = {p: (p + " ") * n for p, n in files.items()}
        texts.update({f"batch/{i}": f"batch {i} {os.urandom(8).hex()}" for i in range(batch)})
        m.python(script, input=json.dumps(texts))
        m.sh(f"ln -sf target-of-{m.client} link-{m.client}; sync -f .")
        self.files.setdefault(m.client, {}).update({p: sha(t.encode()) for p, t in texts.items()})

    def copy(self, part=""):
        """Daemons are down.  Everything (or the part that has changed) but the slot, and the slot by itself."""
        n = len(self.copies)
        os.mkdir(f"{self.v.base}/copy{n}")
        copy_tree(f"{self.v.dir}/{part or '.'}", f"{self.v.base}/copy{n}/{part}")
        os.rename(f"{self.v.base}/copy{n}/keyd/slot", f"{self.v.base}/slot{n}")
        os.rename(f"{self.v.base}/copy{n}/keyd/recovery", f"{self.v.base}/held{n}")
        copy_tree(self.v.base + "/second", f"{self.v.base}/second{n}")
        self.copies.append(f"{self.v.base}/copy{n}")

    def loot(self, slots=(), memory=(), copies=None, held=()):
        argv = [sys.executable, TOOL]
        argv += [a for h in held for a in ("--held", h)] + (["--recovery", self.key] if held else [])
        argv += [a for s in slots for a in ("--slot", s)] + [a for m in memory for a in ("--memory", m)]
        return run([*argv, *(copies or self.copies)], check=True, timeout=60).json

    def leaves(self, client):
        """{sha256: leaf index} of a client's files, as the headers in the store have it in clear."""
        loot = self.loot([self.v.dir + "/keyd/slot"], copies=[self.v.dir])
        by_id = {f["id"]: f["sha256"] for f in loot["files"]}
        found = {}
        for path in harness.files_below(f"{self.v.dir}/store/{self.ids[client]}"):
            with open(path, "rb") as f:
                h = f.read(40)
            if h[16:32].hex() in by_id:
                found[by_id[h[16:32].hex()]] = struct.unpack_from("<Q", h, 32)[0]
        return found

    def cut(self, client, prefixes):
        text = "".join(f"{self.ids[client]} {p:x} {bits}\n" for p, bits in prefixes)
        assert run([CUT, self.v.dir], input=text, timeout=60).rc == 0
        self.copy("keyd")
        self.gone |= {(client, s) for s, leaf in self.leaves_before.items()
                      if any(leaf >> 64 - bits == p >> 64 - bits for p, bits in prefixes)}

    def check(self, slots, gone, memory=(), held=()):
        """With all copies and these slots, or what is held for the recovery key: all but what is gone."""
        wanted = {(c, s) for c, files in self.files.items() for s in files.values()} - gone
        got = self.loot(slots, memory, held=held)
        names = {v: k for k, v in self.ids.items()}
        files = {(names[f["client"]], f["sha256"]) for f in got["files"]}
        assert files == wanted, (sorted(files ^ wanted)[:5], got["trees"], got["roots"])
        assert got["content_keys"] == len(wanted)
        return got

    def check_now(self, memory=()):
        return self.check([self.v.dir + "/keyd/slot", self.v.base + "/second"], self.gone, memory)

    def check_recovery(self):
        """The same with the recovery key and all that is held for it now."""
        got = self.check([], self.gone, held=[self.v.dir + "/keyd/recovery", self.v.base + "/usb"])
        assert got["roots"] == [["recovery", 1]]

    def check_then(self):
        """The control: with either slot of the beginning, or the recovery key and a copy of then, all of it opens."""
        self.check([], set(), held=[self.v.base + "/held0"])
        self.check([self.v.base + "/second0"], set())
        return self.check([self.v.base + "/slot0"], set())


@pytest.fixture
def story(make_vault, faketime):  # noqa: F811
    if not os.path.exists(CUT):
        pytest.skip("tests/adversary/cut is not built")
    v = make_vault(up=False)
    v.clock = Clock(v.base + "/clock", faketime)
    v.up(env=v.clock.env)
    s = Story(v)
    s.gone, s.ids, s.key = set(), {}, v.base + "/key"
    os.mkdir(v.base + "/usb", 0o700)
    public = v.coffer("recovery", "keygen", s.key).out.strip()
    v.coffer("recovery", "add", public, "--name", "ada", "--to", v.base + "/usb/copy")
    v.coffer("slot", "add", "second", v.base + "/second")
    for client in ("acme", "globex"):
        s.ids[client] = v.json("client", "add", client, "--name", client, "--email", "x@example.org")["client_id"]
        v.grant(client, v.alice)
    m, other = v.mount(v.alice), v.mount(v.alice, "globex")
    s.write(m, {"old/one": 3000, "old/two": 10, "three": 1}, BATCH)
    s.write(other, {"stays": 2000, "deep/in/folders": 1})
    m.unmount()
    other.unmount()
    s.days = 40
    pass_time(v, s.days)
    m = v.mount(v.alice)
    s.write(m, {"new/one": 500, "new/two": 1})
    m.unmount()
    v.down()
    s.copy()
    s.leaves_before = s.leaves("acme")
    return s


@pytest.mark.limit(120)
def test_nothing_of_what_was_destroyed_and_everything_else(story):
    """One file by the command; a batch of 1,000, a class before a date; then the client as the clock does it."""
    s, v = story, story.v
    of = {name: s.leaves_before[sha256] for name, sha256 in s.files["acme"].items()}
    assert len(of) == BATCH + 5 and len(set(of.values())) == len(of)
    memory_is_searched(s)
    v.up(env=v.clock.env)
    v.coffer("shred", "acme", "old/one", "--reason", "erasure request", "--yes", timeout=60)
    v.down()
    s.copy()
    s.gone.add(("acme", s.files["acme"]["old/one"]))
    s.check_now()
    s.cut("acme", [(of[f"batch/{i}"], 64) for i in range(BATCH)])
    s.check_now()
    s.check_recovery()
    day = of["new/one"] >> 32 & 0xffff
    assert day - (of["three"] >> 32 & 0xffff) == s.days
    s.cut("acme", [(of["three"] & ~0xffffffff, 32)])  # the one day before that date of which there is something
    assert ("acme", s.files["acme"]["three"]) in s.gone and ("acme", s.files["acme"]["new/one"]) not in s.gone
    s.check_now()
    client_is_destroyed(s)


def test_a_version_that_was_replaced_before_goes_with_its_path(acme):
    """Overwritten in place, replaced by a rename, or removed: an older copy of the store opens none of them after `coffer shred`
    of the path; what was removed elsewhere still opens, so that a deleted file can be restored."""
    v = acme
    m = v.mount(v.alice)
    m.sh("echo first > saved; echo first > written; echo removed > removed; echo other > other; sync -f .")
    os.mkdir(v.base + "/before")
    copy_tree(v.dir + "/store", v.base + "/before/store")
    m.sh("echo second > saved.new; mv saved.new saved; echo second > written; rm removed other; sync -f .")
    os.mkdir(v.base + "/after")
    copy_tree(v.dir + "/store", v.base + "/after/store")
    for path in ("saved", "written", "removed"):
        v.coffer("shred", "acme", path, "--reason", "R", "--yes")
    v.down()
    got = run([sys.executable, TOOL, "--slot", v.dir + "/keyd/slot", v.dir, v.base + "/before", v.base + "/after"], check=True).json
    assert [f["sha256"] for f in got["files"]] == [sha(b"other\n")] and got["files"][0]["names"] == ["other"], got


def client_is_destroyed(s):
    v = s.v
    v.up(env=v.clock.env)
    end(v)
    die(v, due(v))
    assert memory_of([p for n in ("keyd", "fsd", "worker") for p in v.pids(n)], v.base + "/memory") > 1 << 20
    v.down()
    s.copy()
    s.gone |= {("acme", sha256) for sha256 in s.files["acme"].values()}
    after, before = s.check_now([v.base + "/memory"]), s.check_then()
    s.check_recovery()
    mine, theirs = s.ids["acme"], s.ids["globex"]
    assert set(after["trees"]) == {theirs} and mine in before["trees"]
    for what, one in (("names", "three"), ("paths", "old/one")):
        assert not [x for x in after[what] if x[0] == mine] and [mine, one] in before[what], what
    assert after["links"] == ["target-of-globex"] and set(before["links"]) == {"target-of-acme", "target-of-globex"}


def memory_is_searched(s):
    """The control of the memory's part: an image with the root key somewhere in it opens everything."""
    sys.path.insert(0, os.path.dirname(TOOL))
    import adversary
    a = adversary.Adversary()
    a.slot(s.v.base + "/slot0", [])
    root, = a.roots
    for name, content in (("with", root), ("without", os.urandom(32))):
        with open(f"{s.v.base}/{name}", "wb") as f:
            f.write(os.urandom(4096) + bytes(8) + content + bytes(800))
    got = s.loot(memory=[s.v.base + "/with"])
    assert got["roots"] == [["memory", 1]] and len(got["files"]) == BATCH + 7
    assert s.loot(memory=[s.v.base + "/without"])["files"] == []
