"""An exclusive mount: nobody else has the client mounted, and the kernel keeps what is written (write-back)."""
import concurrent.futures
import os

import pytest

import harness
import test_posix
from harness import PURPOSE, UNREACHABLE, USAGE, kill9, wait_for
from test_shared import Shared

# What differs from the local disk for more than the usual reasons (test_posix.EXPECTED).
EXPECTED = {
    # the kernel does not ask where data is, since we do not know what it keeps: a file is all data
    **{("sparse", what): value for what, value in (("all hole", 0), ("hole at once", 10_000_000), ("not all data", False),
                                                   ("punched", True))},
    ("truncate_sizes", "same size changes times"): False,  # times are the kernel's, and to it nothing has changed
    ("times", "far f"): [8589934592000000005, 15032385535999999999],  # as it was asked for; the disk has less room
}
CASES = ["truncate_sizes", "reads_and_writes", "appends_of_processes", "sparse", "allocation", "copying", "mapping", "direct", "times",
         "unlinked_open", "tmpfile", "locks", "waiting_locks", "the_file_system"]


def mount(v, user, *more, **kw):
    return v.mount(user, "acme", PURPOSE, "--exclusive", *more, **kw)


@pytest.fixture
def alone(acme):
    """alice's exclusive mount of acme; bob has a grant, too."""
    acme.grant("acme", acme.bob)
    return mount(acme, acme.alice)


def test_as_on_the_local_disk(alone):
    """Each case of test_posix that has to do with data, sizes, times or locks."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ours, local = pool.map(lambda top: test_posix.run_cases(alone.user, f"{top}/t", CASES), (alone.point, alone.user.home))
    expected = {**test_posix.EXPECTED, **EXPECTED}
    wrong = [f"{case}: {a}: {b[1]} on the local disk" for case in CASES for a, b in zip(ours[case], local[case])
             if a != b and (a[0] != b[0] or expected.get((case, a[0])) != a[1])]
    assert not wrong, "\n".join(wrong[:60])
    assert [len(ours[c]) for c in CASES] == [len(local[c]) for c in CASES]
    assert not [c for c in CASES if local[c][-1][0] == "the case broke off"]


def test_no_other_mount_beside_it(alone):
    v = alone.vault
    for more in ((), ("--read-only",), ("--exclusive",)):
        r = v.mount(v.bob, "acme", PURPOSE, *more, check=UNREACHABLE)
        assert v.alice.name in r.err and "exclusive" in r.err and "session end" in r.err, r
    assert alone.session()["exclusive"] is True
    assert [r["detail"]["exclusive"] for r in v.log() if r["op"] == "mount"] == [True]
    alone.unmount()
    theirs = v.mount(v.bob)
    r = mount(v, v.alice, check=UNREACHABLE)
    assert v.bob.name in r.err and "only one" in r.err, r
    theirs.unmount()
    assert mount(v, v.alice).errno("open('f', 'w').close()") == 0


def test_it_is_for_writing_and_says_what_it_costs(acme):
    point = acme.alice.mkdir("here")
    acme.coffer("mount", "acme", "--purpose", PURPOSE, "--exclusive", "--read-only", point, user=acme.alice, check=USAGE)
    said = acme.coffer("mount", "acme", "--purpose", PURPOSE, "--exclusive", point, user=acme.alice).out
    assert "fsync" in said and "lost" in said, said


def test_what_was_written_survives_the_mount(alone):
    """Through every way to write, without an fsync: after close and unmount it is in the store."""
    v = alone.vault
    alone.python("""
import mmap, os
open("whole", "wb").write(bytes(range(256)) * 1000)
with open("whole", "r+b") as f:      # a part of a page: the rest is read by the kernel
    f.seek(5000); f.write(b"inside")
fd = os.open("whole", os.O_WRONLY); os.pwrite(fd, b"only", 9000); os.close(fd)
for i in range(300):
    with open("log", "ab") as f: f.write(b"line %d\\n" % i)
with open("mapped", "w+b") as f:
    f.truncate(20000); m = mmap.mmap(f.fileno(), 20000); m[100:105] = b"mapped"[:5]; m.close()
os.utime("log", (1e9, 1e9)); os.rename("whole", "moved"); os.mkdir("d"); os.link("log", "d/link")
fd = os.open("cut", os.O_RDWR | os.O_CREAT); os.write(fd, b"c" * 50000); os.ftruncate(fd, 12345); os.close(fd)
fd = os.open("gap", os.O_RDWR | os.O_CREAT); os.pwrite(fd, b"end", 1000000); os.close(fd)
""")
    alone.unmount()
    v.mount(v.alice).python("""
import os
want = bytearray(bytes(range(256)) * 1000); want[5000:5006] = b"inside"; want[9000:9004] = b"only"
assert open("moved", "rb").read() == want
assert open("log").read() == "".join(f"line {i}\\n" for i in range(300)) == open("d/link").read()
assert os.stat("log").st_mtime == 1e9 and os.stat("log").st_nlink == 2
m = open("mapped", "rb").read(); assert len(m) == 20000 and m[100:105] == b"mappe" and m.count(0) == 19995
assert open("cut", "rb").read() == b"c" * 12345
g = open("gap", "rb").read(); assert len(g) == 1000003 and g.endswith(b"\\0end")
""")


def test_reading_behind_a_write_only_descriptor_is_recorded_first(alone):
    """A part of a page is overwritten: the kernel reads the rest, so the record says that it was read."""
    alone.write("f", "x" * 20000)
    alone.unmount()
    again = mount(alone.vault, alone.user)
    again.python("import os; fd = os.open('f', os.O_WRONLY); os.pwrite(fd, b'part', 5000); os.close(fd)")
    again.unmount()
    opens = [r["flags"] for r in alone.vault.log() if r["op"] == "open"]
    assert opens == [["write"], ["read", "write"]], opens
    closed = [r for r in alone.vault.log() if r["op"] == "close"][-1]
    assert closed["bytes_read"] > 0 and closed["bytes_written"] > 0 and closed["size"] == 20000, closed


def test_revocation_with_data_that_is_not_written_yet(alone):
    """What programs wrote before it is in the file; nothing is readable any more."""
    v = alone.vault
    a = v.actor(alone.user, alone.point)
    a.do("""
import mmap
data = os.urandom(1 << 20)
fd = os.open('f', os.O_RDWR | os.O_CREAT)
for at in range(0, len(data), 4096): os.pwrite(fd, data[at:at + 4096], at)
g = os.open('g', os.O_RDWR | os.O_CREAT); os.ftruncate(g, 9000); m = mmap.mmap(g, 9000); m[10:17] = b'changed'
""")
    data = a.get("data")
    v.revoke("acme", v.alice)
    assert a.errno("os.pread(fd, 8, 0)") and a.errno("os.pwrite(fd, b'x', 0)") and a.errno("os.open('f', os.O_RDONLY)")
    wait_for(lambda: not alone.mounted(), "the mount's end")
    v.grant("acme", v.alice)
    again = mount(v, v.alice)
    assert again.read("f") == data
    assert again.read("g")[10:17] == b"changed"


def test_killed_worker_keeps_what_was_synced(alone):
    """fsynced or closed: there.  What was only written may be lost, and then is not garbage."""
    a = alone.vault.actor(alone.user, alone.point)
    a.do("""
with open('closed', 'wb') as f: f.write(b'c' * 30000)
fd = os.open('f', os.O_RDWR | os.O_CREAT)
for i in range(500): os.pwrite(fd, b'%07d\\n' % i, i * 8)
os.fsync(fd)
for i in range(500, 5000): os.pwrite(fd, b'%07d\\n' % i, i * 8)
""")
    kill9(alone.worker())
    wait_for(lambda: not alone.mounted(), "the mount's end")
    again = mount(alone.vault, alone.user)
    data, all = again.read("f"), b"".join(b"%07d\n" % i for i in range(5000))
    assert len(data) >= 4000 and data == all[:len(data)]
    assert again.read("closed") == b"c" * 30000


def test_sqlite_and_git(alone):
    """Locks are the kernel's own there, between processes all the same."""
    alone.sh("""
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
git init -q repo; cd repo
for i in 1 2 3; do seq 1 ${i}000 >f$i; git add .; git commit -qm $i; done
git checkout -q -b side HEAD~1; echo x >>f1; git commit -qam side; git merge -q master -m merge; git gc -q; git fsck --strict
cd ..
sqlite3 db 'PRAGMA journal_mode=wal; CREATE TABLE t(v)' >/dev/null
for i in 1 2 3; do (for k in $(seq 40); do echo "INSERT INTO t VALUES($k);"; done | sqlite3 -cmd '.timeout 30000' db) & p="${p-} $!"; done
for x in $p; do wait $x; done
test "$(sqlite3 db 'PRAGMA integrity_check; SELECT count(*) FROM t')" = "$(printf 'ok\\n120')"
exec 9>lock; flock 9; ! flock -n lock true
""", timeout=60)
    alone.unmount()
    again = alone.vault.mount(alone.user)
    assert again.sh("git -C repo fsck --strict 2>/dev/null; git -C repo log --oneline | wc -l; sqlite3 db 'SELECT count(*) FROM t'"
                    ).out.split() == ["5", "120"]


def test_shared_and_exclusive(acme):
    """Many users of this host, one kernel: each with his session; a reader's close of what another writes is no error."""
    acme.grant("acme", acme.bob, PURPOSE, "r")
    s = Shared(acme, "--exclusive")
    a, b = acme.actor(acme.alice, "/"), acme.actor(acme.bob, "/")
    a.do(f"fa = os.open('{s.point}/f', os.O_RDWR | os.O_CREAT, 0o644); os.write(fa, b'a' * 6000)")
    b.do(f"fb = os.open('{s.point}/f', os.O_RDONLY); assert os.read(fb, 9000) == b'a' * 6000; os.close(fb)")
    assert b.errno(f"os.open('{s.point}/new', os.O_WRONLY | os.O_CREAT)") == 13  # EACCES: the access list
    assert set(s.members()) == {acme.alice.name, acme.bob.name}
    acme.mount(acme.alice, check=UNREACHABLE)
    # alice has no right any more; what she wrote is there, for bob who still has his
    a.do("os.write(fa, b'last')")
    acme.revoke("acme", acme.alice)
    assert a.errno("os.write(fa, b'x')") and a.errno("os.pread(fa, 1, 0)")
    b.do(f"fb = os.open('{s.point}/f', os.O_RDONLY); d = os.read(fb, 9000); os.close(fb)")
    assert b.get("d") == b"a" * 6000 + b"last"
    a.stop()
    acme.coffer("unmount", s.point)
    acme.grant("acme", acme.alice)
    assert acme.mount(acme.alice).read("f") == b"a" * 6000 + b"last"
