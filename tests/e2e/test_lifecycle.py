"""One record class of a client, from due to destroyed: notice, waiting, holds on a class and on a path, the certificate.

keyd's clock is moved with libfaketime (test_destroy.py)."""
import contextlib
import errno
import json
import os
import signal
import sqlite3
import sys

import pytest

import harness
from harness import NOT_FOUND, REFUSED, USAGE, copy_tree, run, wait_for
from test_adversary import TOOL as ADVERSARY, sha
from test_destroy import Clock, faketime, letters, open_credentials, pass_time  # noqa: F401 (a fixture)

WAIT = 32  # days of the default policy, whole ones


@pytest.fixture
def late(make_vault, faketime):
    """A vault whose keyd lives under a clock of ours, with acme and what is of the class `credentials` (30 days after it
    was modified) among other files."""
    v = make_vault(up=False)
    v.clock = Clock(v.base + "/clock", faketime)
    open_credentials(v)
    v.up(env=v.clock.env)
    v.add()
    v.grant("acme", v.alice)
    v.grant("acme", v.alice, "legal-compliance", "r")
    m = v.mount(v.alice)
    m.sh("mkdir -p c/dir c/moved && echo plain > plain && for f in old kept saved dir/in moved/in used; do echo $f > c/$f; done")
    v.coffer("class", "set", "acme", "c", "credentials")
    return v, m


def rows(v, of="class"):
    return [r for r in v.json("expiry", "list")["expiry"] if r["of"] == of]


def waits(v):
    return [r for r in rows(v) if r["state"] == "waiting"]


def acts(v, kind, *filters):
    """By the clock, or as filtered."""
    return [r for r in v.log(*(filters or ("--user", "the clock"))) if r["op"] == kind]


def copy_all(v, name):
    """Store and keys, and the slot by itself."""
    os.mkdir(f"{v.base}/{name}")
    for part in ("keyd", "store"):
        copy_tree(f"{v.dir}/{part}", f"{v.base}/{name}/{part}")
    os.rename(f"{v.base}/{name}/keyd/slot", f"{v.base}/slot-{name}")


def test_class_from_due_to_certificate(late):
    """What is on hold survives alone, followed through renames and saving; what was used lately survives; all else stays."""
    v, m = late
    hold = ["hold", "place", "acme", "--matter", "case 17", "--reason", "litigation"]
    v.coffer(*hold, "--path", "c/kept", user=v.alice, check=REFUSED)
    v.coffer(*hold, "--path", "nowhere", check=NOT_FOUND)
    v.coffer(*hold, "--path", "/", check=USAGE)
    v.coffer(*hold, "--path", "c/kept", "--class", "credentials", check=USAGE)
    for path in ("c/kept", "c/saved", "c/moved"):
        assert v.json(*hold, "--path", path)["hold"]
    m.sh("mv c/kept c/renamed && mv c/moved c/away")
    m.sh("cp c/saved c/tmp && mv c/tmp c/saved && mv c/saved c/saved~ && echo anew > c/saved && rm c/saved~"
         " && mv c/saved c/saved2 && touch -d '-3 days' c/saved2 c/renamed")
    assert len(v.rows("hold", "list")) == 3 and letters(v) == []
    later = v.clock.today(60)
    m.sh('touch -d "$1" c/used', later)
    m.unmount()
    pass_time(v, 40)
    row, = wait_for(lambda: waits(v), "the notice", limit=30)
    assert row["class"] == "credentials" and row["rule"] == "last modified + 30 days"
    assert rows(v, "client")[0]["state"] == "running"
    name, = letters(v)
    with open(f"{v.dir}/outbox/{name}") as f:
        letter = f.read()
    assert "To: privacy@acme.example, info@inemsoft.com" in letter and "Its record class:   credentials" in letter, letter
    assert f"On {v.clock.today(31)}" in letter and "Some data of acme" in letter
    # Consultants do not open it meanwhile; what does not wait they do; who may use it until the end does, and it is told.
    m = v.mount(v.alice)
    for path in ("c/old", "c/dir/in"):
        assert m.errno(f"open({path!r})") == errno.EKEYEXPIRED
    assert m.errno("open('c/old', 'w')") == errno.EKEYEXPIRED
    assert m.errno("os.truncate('c/old', 1)") == errno.EKEYEXPIRED
    assert m.sh("cat plain c/used c/renamed c/saved2 c/away/in; ls c").out.split()[:5] == \
        ["plain", "used", "kept", "anew", "moved/in"]
    number = str(m.session()["session"])
    alarm, = wait_for(lambda: acts(v, "alarm", "--session", number), "the alarm")
    assert (alarm["outcome"], alarm["user"], alarm["detail"]["class"]) == ("Waiting", v.alice.name, "credentials")
    assert len([r for r in v.log("--session", number) if r["op"] == "open" and r["outcome"] == errno.EKEYEXPIRED]) == 3
    m.unmount()
    legal = v.mount(v.alice, "acme", "legal-compliance", ticket=None)
    assert legal.sh("cat c/old").out == "old\n"
    alarm, = wait_for(lambda: acts(v, "alarm", "--session", str(legal.session()["session"])), "the alarm")
    assert alarm["outcome"] == 0 and alarm["detail"]["used"] == 1
    legal.unmount()
    assert v.coffer("expiry", "list").out.count("credentials") == 1
    assert any("1 destruction waits" in w for w in v.status()["warnings"])
    # Its time is over.  Somebody has copies of before.
    copy_all(v, "before")
    pass_time(v, 40 + WAIT)
    done = wait_for(lambda: acts(v, "erase"), "the destruction", limit=30)
    assert done[0]["outcome"] == 0 and done[0]["user"] == "the clock"
    name, = [n for n in os.listdir(v.dir + "/keyd/certificates") if "erasure" in n and n.endswith(".json")]
    with open(f"{v.dir}/keyd/certificates/{name}") as f:
        c = json.load(f)["certificate"]
    v.coffer("certificate", "verify", f"{v.dir}/keyd/certificates/{name}")
    assert c["what"]["class"] == "credentials" and c["what"]["keys"] == 2 and c["what"]["held"] == 3, c
    assert c["notice"]["number"] == row_number(v) and c["decided"]["by"] == "the clock"
    wait_for(lambda: acts(v, "sweep"), "the sweep", limit=30)
    m = v.mount(v.alice)
    assert m.sh("cat plain c/used c/renamed c/saved2 c/away/in").out.split() == ["plain", "used", "kept", "anew", "moved/in"]
    assert sorted(m.sh("ls c c/dir").out.split()) == sorted("c: away dir renamed saved2 used c/dir:".split())
    m.unmount()
    copy_all(v, "after")
    stays = {sha(f"{x}\n".encode()) for x in ("plain", "used", "kept", "anew", "moved/in")}
    for slot, files in ((v.base + "/slot-after", stays), (v.base + "/slot-before", stays | {sha(b"old\n"), sha(b"dir/in\n")})):
        got = run([sys.executable, ADVERSARY, "--slot", slot, v.base + "/after", v.base + "/before"], check=True, timeout=60).json
        assert {f["sha256"] for f in got["files"]} == files, slot
    # The holds go: what is overdue goes through notice and waiting again.
    for h in v.rows("hold", "list"):
        v.coffer("hold", "lift", str(h["hold"]), "--reason", "settled")
    wait_for(lambda: len(letters(v)) == 2, "another notice", limit=30)
    pass_time(v, 40 + 2 * WAIT + 2)
    wait_for(lambda: len(acts(v, "erase")) == 2, "the other destruction", limit=30)
    wait_for(lambda: len(acts(v, "sweep")) == 2, "the sweep", limit=30)
    m = v.mount(v.alice)
    assert m.sh("cat plain; ls c").out.split() == ["plain", "away", "dir"]


def row_number(v):
    return v.json("expiry", "list")["notices"][0]["notice"]


class Installed:
    """Daemons in /var/lib/coffer, where roles are groups and nobody has all of them; both only in a namespace of their own."""

    def __init__(self, v, env):
        self.v = v
        lib, run, self.groups = v.base + "/lib", v.base + "/run", v.base + "/group"
        for path in (lib, run, lib + "/coffer", run + "/coffer"):
            os.mkdir(path, 0o755)
        members = {"coffer-admin": v.alice.name, "coffer-custodian": f"{v.bob.name},{v.carol.name}"}
        with open("/etc/group") as f:
            rows = [line for line in f if line.split(":")[0] not in members]
        with open(self.groups, "w") as f:
            f.write("".join(rows) + "".join(f"{g}:x:{61001 + i}:{m}\n" for i, (g, m) in enumerate(members.items())))
        os.chmod(self.groups, 0o644)
        script = ('mount --make-rprivate /; mount --bind "$1" /var/lib; mount --bind "$2" /run; mount --bind "$3" /etc/group; '
                  'exec "$4" up')
        harness.run(["unshare", "-m", "/bin/sh", "-euc", script, "sh", lib, run, self.groups, v.programs + "/tools/coffer"],
                    env=env, check=True, timeout=60)
        self.lib = os.stat(lib)
        self.pid, = self.pids("coffer-keyd")

    def pids(self, *names):
        """Of those that see our folder as /var/lib."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(f"/proc/{pid}/exe")) in names and \
                        os.path.samestat(os.stat(f"/proc/{pid}/root/var/lib"), self.lib):
                    found.append(int(pid))
        return found

    def close(self):
        for pid in self.pids("coffer-keyd", "coffer-fsd", "coffer-worker"):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def coffer(self, user, *args, check=True):
        argv = ["nsenter", "-m", "-t", str(self.pid)]
        if user is not None:
            argv += ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--init-groups"]
        r = harness.run([*argv, self.v.programs + "/tools/coffer", *args], timeout=60)
        assert r.rc == (0 if check is True else check), r
        return r

    def pass_time(self, clock, days, custodian):
        clock.set(days)
        wait_for(lambda: self.coffer(None, "status", "--json").json["clock"]["state"] == "unconfirmed", "the jump", limit=15)
        self.coffer(custodian, "clock", "confirm")


def test_two_custodians_where_roles_are_separate(make_vault, faketime):
    """Shortening the waiting takes two of them; an admin is none, and nobody confirms his own request."""
    v = make_vault(up=False)
    clock = Clock(v.base + "/clock", faketime)
    d = Installed(v, clock.env)
    try:
        two_custodians(v, d, clock)
    finally:
        d.close()


def two_custodians(v, d, clock):
    assert d.coffer(None, "status", "--json").json["separation"] is True
    d.coffer(v.bob, "client", "add", "acme", "--name", "Acme", "--email", "a@b", check=REFUSED)
    d.coffer(v.alice, "client", "add", "acme", "--name", "Acme", "--email", "privacy@acme.example")
    d.coffer(v.alice, "client", "end", "acme", "--on", clock.today())
    d.coffer(v.alice, "hold", "place", "acme", "--matter", "m", "--reason", "r", check=REFUSED)
    d.pass_time(clock, 92, v.bob)
    state = lambda: d.coffer(v.bob, "expiry", "list", "--json").json["expiry"][0]["state"]
    wait_for(lambda: state() == "waiting", "the notice", limit=20)
    ask = ["expiry", "schedule", "acme", "--on", clock.today(3), "--reason", "asks for it"]
    d.coffer(v.alice, *ask, check=REFUSED)
    assert "another custodian" in d.coffer(v.bob, *ask).out
    d.coffer(v.alice, "expiry", "confirm", "acme", check=REFUSED)
    r = d.coffer(v.bob, "expiry", "confirm", "acme", check=REFUSED)
    assert "two different custodians" in r.err, r
    d.coffer(v.carol, "expiry", "confirm", "acme")
    d.pass_time(clock, 94, v.carol)
    assert state() == "waiting"
    d.pass_time(clock, 96, v.carol)
    wait_for(lambda: state() == "destroyed", "the destruction", limit=20)
    c = d.coffer(v.bob, "certificate", "acme", "--json").json["certificate"]
    assert (c["notice"]["hastened"]["asked_by"], c["notice"]["hastened"]["confirmed_by"]) == (v.bob.name, v.carol.name), c
    d.coffer(None, "down")


def test_one_window_is_one_rotation(late):
    """A class of one client, the whole of two others: due on different days, destroyed together."""
    v, m = late
    m.unmount()
    for name, on in (("b", 0), ("c", -2)):
        v.add(name)
        v.coffer("client", "end", name, "--on", v.clock.today(on))
    pass_time(v, 93)
    assert len(wait_for(lambda: len(letters(v)) == 3 and letters(v), "the notices", limit=30)) == 3
    pass_time(v, 93 + WAIT)
    wait_for(lambda: acts(v, "erase") and len(acts(v, "destroy")) == 2, "the destructions", limit=30)
    with contextlib.closing(sqlite3.connect(f"file:{v.dir}/keyd/facts.db?mode=ro", uri=True)) as db:
        assert len(db.execute("SELECT generation FROM destruction UNION SELECT generation FROM erasure").fetchall()) == 1
    m = v.mount(v.alice)
    assert m.sh("cat plain").out == "plain\n"


def test_waiting_class_is_closed_cancelled_and_held(late):
    """What is open of it is closed at the notice; a cancellation and a hold on the class open it again; what is on hold is
    not erased on request either."""
    v, m = late
    reader = v.actor(v.alice, m.point)
    reader.do("import os; f = os.open('c/old', os.O_RDONLY); g = os.open('plain', os.O_RDONLY)")
    m.sh("touch -d '-2 days' c/used")
    pass_time(v, 40)
    wait_for(lambda: waits(v), "the notice", limit=30)
    assert reader.errno("os.pread(f, 10, 0)") != 0
    assert reader.get("os.pread(g, 10, 0)") == b"plain\n"
    cancel = ["expiry", "cancel", "acme", "--reason", "R", "--class"]
    v.coffer(*cancel, "nonsense", check=NOT_FOUND)
    v.coffer(*cancel, "project", check=NOT_FOUND)
    v.coffer("expiry", "cancel", "acme", "--reason", "R", check=NOT_FOUND)  # the client as a whole does not wait
    assert v.clock.today(31) in v.coffer(*cancel, "credentials").out
    assert m.read("c/old") == b"old\n"
    pass_time(v, 40 + WAIT)
    wait_for(lambda: waits(v), "the second notice", limit=30)
    assert m.errno("open('c/old')") == errno.EKEYEXPIRED
    v.coffer("expiry", "schedule", "acme", "--class", "credentials", "--on", v.clock.today(40), "--reason", "R", check=USAGE)
    v.coffer("expiry", "schedule", "acme", "--class", "credentials", "--on", v.clock.today(3), "--reason", "R")
    v.coffer("expiry", "confirm", "acme", "--class", "credentials")
    hold = v.json("hold", "place", "acme", "--class", "credentials", "--matter", "M", "--reason", "R")["hold"]
    assert not waits(v) and m.read("c/old") == b"old\n"
    pass_time(v, 40 + WAIT + 5)
    assert rows(v)[0]["state"] == "held" and len(letters(v)) == 2
    for path in ("c", "c/old"):
        assert "hold" in v.coffer("shred", "acme", path, "--reason", "R", "--yes", check=REFUSED).err
    assert m.mounted()
    v.coffer("hold", "lift", str(hold), "--reason", "over")
    wait_for(lambda: len(letters(v)) == 3, "another notice", limit=30)
    v.coffer("hold", "place", "acme", "--path", "c/dir", "--matter", "M", "--reason", "R")
    assert "hold" in v.coffer("shred", "acme", "c/dir/in", "--reason", "R", "--yes", check=REFUSED).err
    assert [n["outcome"] for n in v.json("expiry", "list")["notices"]] == ["cancelled", "held", None]
