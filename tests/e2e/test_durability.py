"""durability: sync: no answer about an access before its record is on the disk (the mechanism: tests/unit/test_stable.c,
test_journal_cut.c).  Here: who gets it, that ordinary work goes on, and that kills lose nothing."""
import errno
import os
import re
import shutil
import subprocess

import pytest

import harness
from harness import PURPOSE, USAGE, wait_for
from storm import Storm
from test_shared import Shared


def policy(where, word="sync", text=None):
    if text is None:
        with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
            text = f.read()
    if where is None:
        return text
    if where == "installation":
        return text.replace("\ncontroller:", f"\ndurability: {word}\ncontroller:", 1)
    mark = f"  - id: {where}\n"
    at = text.rindex(mark) + len(mark)  # a service line may have the same name
    return text[:at] + f"    durability: {word}\n" + text[at:]


def write(v, name, text):
    with open(f"{v.base}/{name}", "w") as f:
        f.write(text)
    return f"{v.base}/{name}"


def vault_with(make_vault, text):
    v = make_vault(up=False)
    v.up("--policy", write(v, "policy.yaml", text))
    v.add()
    v.grant("acme", v.alice)
    return v


@pytest.mark.parametrize("where, level", [("installation", "sync"), (PURPOSE, "sync"), (None, None)])
def test_who_gets_it(make_vault, where, level):
    v = vault_with(make_vault, policy(where))
    m = v.mount(v.alice)
    assert v.rows("sessions")[0].get("durability") == level
    steps = [s for s in v.json("why", v.alice.name, "acme", "--purpose", PURPOSE)["steps"] if s["rule"] == "durability"]
    assert [s["passed"] for s in steps] == ([True] if level else [])
    mounts = [x for x in v.log() if x["op"] == "mount"]
    assert len(mounts) == 1 and ('"durability": "sync"' in str(mounts[0]).replace("'", '"')) == bool(level)
    m.sh("mkdir d; echo one > d/a; ln -s a d/l; cat d/l; mv d/a d/b; ls d; test ! -e d/a; test -s d/b; rm -r d; test ! -e d; "
         "for i in $(seq 40); do echo $i > f$i; done; cat f* | wc -l | grep -qx 40")
    m.unmount()
    ops = {x["op"] for x in v.log()}
    assert {"create", "mkdir", "open", "opendir", "readlink", "rename", "unlink", "rmdir", "symlink"} <= ops


def test_several_sessions_see_each_others_changes_at_once(make_vault):
    """Answers that wait may be overtaken by notifications: so what they say is not kept."""
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob)
    a, b = v.mount(v.alice), v.mount(v.bob)

    def soon(mount, script):  # a notification is on its way; what was kept wrongly would stay for a day
        harness.wait_for(lambda: mount.sh(script, check=False).rc == 0, script)
    for n in range(30):
        text = f"{n}" * 100
        a.write(f"n{n}", text)
        soon(b, f"test \"$(cat n{n})\" = {text}")
        b.sh(f"mv n{n} m{n}; echo more >> m{n}")
        soon(a, f"test ! -e n{n}; tail -n 1 m{n} | grep -q more")
        a.sh(f"rm m{n}")
        soon(b, f"test ! -e m{n}")


def test_a_session_that_waits_for_less_ends_when_the_policy_asks_for_more(make_vault):
    v = vault_with(make_vault, policy(None))
    m = v.mount(v.alice)
    m.write("f", "x")
    v.coffer("policy", "apply", write(v, "stricter.yaml", policy(PURPOSE)))
    wait_for(lambda: not m.mounted(), "the end of the session")
    m = v.mount(v.alice)
    assert v.rows("sessions")[0]["durability"] == "sync" and m.sh("cat f").out == "x"
    v.coffer("policy", "apply", write(v, "looser.yaml", policy(None)))
    assert m.mounted() and m.sh("cat f").out == "x"


def test_what_a_policy_cannot_say(make_vault):
    v = make_vault(up=False)
    for text, what in [(policy(PURPOSE, "fast"), "fast"), (policy("installation", "no"), "no"),
                       (policy(PURPOSE, "process", policy("installation")), "durability: sync")]:
        r = v.coffer("policy", "check", write(v, "p.yaml", text), check=USAGE)
        assert what in r.err and re.search(r"p.yaml:\d+: ", r.err), r


def test_a_shared_mount_waits_for_all_its_members(make_vault):
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob)
    shared = Shared(v)
    for n in range(10):
        shared.sh(v.alice, f"echo {n} > n; chmod 666 n; mkdir -m 777 d; echo x > d/f; chmod 644 d/f")
        shared.sh(v.bob, f"grep -qx {n} n; cat d/f; mv d/f d/g; rm d/g; rmdir d; echo b > n")
        shared.sh(v.alice, "grep -qx b n; test ! -e d; rm n")
    rows = v.rows("sessions")
    assert len(rows) == 3 and all(r["durability"] == "sync" for r in rows), rows


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_failing_disk_gives_no_data_to_who_waits_for_it_and_mends_itself(make_vault, error):
    """fdatasync of the worker fails, by strace: an error in the session that waits, and in no other; then all is well again."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob, "support")
    a, b = v.mount(v.alice), v.mount(v.bob, "acme", "support")
    a.write("f", "x")

    def read():
        return a.sh("LC_ALL=C cat f 2>&1 || true").out

    trace = subprocess.Popen(["strace", "-f", "-o", v.base + "/trace", "-p", str(a.worker()), "-e", "trace=fdatasync",
                              "-e", f"inject=fdatasync:error={error}"], stderr=subprocess.PIPE)
    try:
        assert b"attached" in trace.stderr.readline()
        wait_for(lambda: {"EIO": "Input/output error", "ENOSPC": "No space left"}[error] in read(), "a refusal")
        for _ in range(5):
            assert b.sh("cat f").out == "x"
        v.json("status")
    finally:
        trace.terminate()
        trace.wait(10)
    wait_for(lambda: read() == "x", "the disk's recovery")
    a.write("g", "y")
    assert b.sh("cat g").out == "y"
    a.unmount()  # no handle was left behind by an answer that was not given
    assert any("records cannot be brought to the disk" in line for line in v.logs().splitlines())
    rows = [r for r in v.log() if r["op"] == "open"]
    assert len({r["id"] for r in rows}) == len(rows) > 6  # what was refused is recorded, too: it was on its way
    v.coffer("log", "verify")


@pytest.fixture
def small_ledger(make_vault):
    """A vault whose ledger has a file system of its own, 128 MB: keyd's facts are on another, as an installation may have it."""
    v = make_vault(up=False)
    image, point = v.base + "/image", v.dir + "/ledger"
    with open(image, "wb") as f:
        f.truncate(128 << 20)
    os.mkdir(v.dir, 0o755)
    os.mkdir(point, 0o700)
    for argv in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, point]):
        r = harness.run(argv)
        if r.rc:
            pytest.skip("no loop devices here: " + r.err.strip())
    os.chmod(point, 0o700)
    os.rmdir(point + "/lost+found")
    yield v, point
    v.coffer("down", check=None, timeout=60)
    harness.run(["umount", "-l", point])


def fill(path):
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    f.write(b"x" * size)
        os.fsync(f.fileno())


@pytest.mark.limit(90)
def test_a_full_disk_of_the_book_stops_data_and_nothing_else_and_ends_by_itself(small_ledger):
    """Whoever waits for the disk gets no data without a record, administration goes on, status and log say it before and
    while; with room again all goes on without a restart, and the book has each record once."""
    v, disk = small_ledger
    v.up("--policy", write(v, "policy.yaml", policy("installation")))
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    m.write("before", "x")
    assert v.json("status")["ledger"]["disk_low"]  # a disk of 128 MB is: before anything is refused
    assert "left on its disk" in v.coffer("status").out or "is full" in v.coffer("status").out, v.coffer("status").out
    wait_for(lambda: "the disk of the ledger has" in v.logs(), "the early warning in the log", limit=40)
    reader = v.actor(v.alice, m.point)
    assert reader.get("open('before').read()") == "x"
    fill(disk + "/filler")
    done = m.python("""
import errno, os
deep = '/'.join(['d' * 200] * 18)
os.makedirs(deep)
at, n = os.open(deep, os.O_RDONLY), 0
try:
    while n < 20000:
        os.close(os.open(f'n{n}', os.O_WRONLY | os.O_CREAT, dir_fd=at))
        n += 1
except OSError as e:
    assert e.errno in (errno.ENOSPC, errno.EIO), e
else:
    raise AssertionError('a full disk refused nothing')
print(n)
""", timeout=60)
    made = int(done.out)
    assert reader.errno("open('before').read()") in (errno.ENOSPC, errno.EIO)
    status = v.json("status")
    assert status["ledger"]["lag"], status
    v.grant("acme", v.bob, "support")  # administration goes on
    assert any("records wait" in w for w in v.json("status")["warnings"])
    v.revoke("acme", v.bob)
    assert "the ledger cannot be written" in v.logs()
    os.unlink(disk + "/filler")
    wait_for(lambda: reader.errno("open('before').read()") == 0, "data again, without a restart")
    m.write("after", "y")
    assert m.read("after") == b"y"
    reader.stop()
    m.unmount()
    assert "the ledger is written again" in v.logs()
    rows = v.log()
    names = [r["path"].rsplit("/", 1)[1] for r in rows if r["op"] == "create" and "/n" in (r.get("path") or "") and r["outcome"] == 0]
    assert len(names) == len(set(names)), "a record stands twice"
    missing = {f"n{n}" for n in range(made)} - set(names)
    assert not missing, sorted(missing)[:5]
    assert [r["op"] for r in rows].count("grant") == 2 and [r["op"] for r in rows].count("revoke") >= 1
    v.coffer("log", "verify")


def test_kills_lose_no_record(make_vault):
    v = make_vault(up=False)
    v.up("--policy", write(v, "policy.yaml", policy("installation")))
    storm = Storm(v, seed=5)
    storm.run(rounds=3, seconds=8)
    assert storm.rounds >= 1 and storm.opens > 5
