"""Ordinary programs do their ordinary work in a share, and get the same results as on a local disk."""
import os
import shutil

import pytest

import harness

# A tree as people have them: nested, odd names, links, modes, times, sparse and empty files.
TREE = """
import os, random, sys
rnd = random.Random(7)
top = sys.argv[1]
os.mkdir(top)
for d in range(12):
    p = f"{top}/d{d}/inner {d}/deep"
    os.makedirs(p)
    for f in range(8):
        with open(f"{p}/file{f}.bin", "wb") as out:
            out.write(rnd.randbytes(rnd.choice((0, 1, 63, 4031, 4032, 4033, 8064, 20000, 70000))))
        os.utime(f"{p}/file{f}.bin", (1_600_000_000 + f, 1_500_000_000 + f))
    os.chmod(f"{p}/file0.bin", 0o755)
    os.chmod(f"{p}/file1.bin", 0o400)
os.symlink("d0/inner 0/deep/file3.bin", f"{top}/link")
os.symlink("nowhere/" + "x" * 200, f"{top}/dangling")
os.link(f"{top}/d1/inner 1/deep/file4.bin", f"{top}/hard")
for name in ("name with spaces", "-dash", "new\\nline", "gr\\u00fc\\u00dfe", "q'uo\\"te", "." + "h" * 254, "a" * 255, "*?[]"):
    open(f"{top}/{name}", "w").write(name)
with open(f"{top}/sparse", "wb") as f:
    f.write(b"start"); f.seek(3_000_000); f.write(b"end")
open(f"{top}/empty", "w").close()
os.mkfifo(f"{top}/fifo")
for d in range(12):
    os.utime(f"{top}/d{d}", (1_600_000_000, 1_400_000_000 + d))
"""


@pytest.fixture
def tree(share):
    """A local tree of the user's, and his mounted share."""
    share.user.python(TREE, share.user.home + "/tree")
    return share.user.home + "/tree"


def same(share, a, b):
    """Trees are equal in names, contents, types, modes, times, links, extended attributes."""
    out = share.user.sh('rsync -aHXcni --delete "$1/" "$2/"', a, b).out
    # a directory's own time may differ where the copying program does not keep it
    assert [line for line in out.splitlines() if not line.startswith(".d..t")] == [], out


def test_cp(share, tree):
    share.sh('cp -a "$1" copy', tree)
    same(share, tree, share.path("copy"))
    share.sh('cp -a copy "$1/back"', share.user.home)
    same(share, tree, share.user.home + "/back")


def test_cp_is_still_right_after_a_new_mount(share, tree):
    share.sh('cp -a "$1" copy', tree)
    share.unmount()
    again = share.vault.mount(share.user)
    same(again, tree, again.path("copy"))


def test_rsync_twice(share, tree):
    """The second run finds nothing to do; after a change it carries over exactly that."""
    share.sh('rsync -aHX "$1/" copy/', tree)
    same(share, tree, share.path("copy"))
    again = share.sh('rsync -aHXi "$1/" copy/', tree).out
    assert [line for line in again.splitlines() if not line.startswith(".")] == [], again
    share.sh('echo more >> "$1/d3/inner 3/deep/file5.bin"; rm "$1/empty"', tree)
    share.sh('rsync -aHX --delete "$1/" copy/', tree)
    same(share, tree, share.path("copy"))
    share.sh('rsync -aHX --inplace --no-whole-file --checksum "$1/" copy/', tree)
    same(share, tree, share.path("copy"))


def test_tar(share, tree):
    share.sh('tar -C "$1" -cf all.tar . && mkdir out && tar -C out -xpf all.tar', tree)
    same(share, tree, share.path("out"))
    share.sh('tar -C out -cf - . | tar -C "$1" -df - ', tree)


def test_git(share, tree):
    share.sh('''
        export GIT_CONFIG_GLOBAL=/dev/null
        mkdir origin && cd origin && git -c init.defaultBranch=main init -q
        cp -r "$1/d0" "$1/d1" . && git add -A
        git -c user.name=t -c user.email=t@t.example commit -qm one
        for i in 1 2 3; do echo $i >> file; git add file; git -c user.name=t -c user.email=t@t.example commit -qm "n $i"; done
        cd .. && git clone -q origin clone && cd clone
        git fsck --strict --full && git log --oneline | wc -l
        git gc -q && git fsck --full && git status --porcelain
        test -z "$(git status --porcelain)"
    ''', tree, timeout=60)


def test_make(share):
    project = os.path.join(harness.HERE, "project")
    copy = share.user.home + "/project"
    shutil.copytree(project, copy)
    share.user  # the copy is root's but readable: cp takes it over
    share.sh('cp -r "$1" p && cd p && make -s check && make -s check', copy, timeout=60)
    assert "up to date" in share.sh("cd p && make words").out
    share.sh("cd p && touch words.h && make && make -s check", timeout=60)


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
def test_sqlite(share, mode):
    sql = f"""
PRAGMA journal_mode={mode};
CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, blob BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
 INSERT INTO t SELECT i, 'row ' || i, randomblob(200) FROM n;
UPDATE t SET text = text || '!' WHERE id % 3 = 0;
DELETE FROM t WHERE id % 5 = 0;
PRAGMA integrity_check;
SELECT count(*), sum(length(blob)) FROM t;
"""
    r = share.sh('sqlite3 db', input=sql)
    assert "ok" in r.out and "1600|320000" in r.out, r
    again = share.sh('sqlite3 db "PRAGMA integrity_check; SELECT count(*) FROM t"').out.split()
    assert again == ["ok", "1600"]


def test_sqlite_two_writers_in_one_session(share):
    """Two programs of one session share a database in WAL mode: locks and shared mapping work."""
    script = """
import sqlite3, sys
db = sqlite3.connect("db", timeout=30, isolation_level=None)
for i in range(100):
    db.execute("BEGIN IMMEDIATE"); db.execute("UPDATE c SET n = n + 1"); db.execute("COMMIT")
"""
    share.sh('sqlite3 db "PRAGMA journal_mode=WAL; CREATE TABLE c(n); INSERT INTO c VALUES(0)"')
    share.sh('python3=$1; "$python3" -c "$2" & "$python3" -c "$2" & wait -n; wait -n', "/usr/bin/python3", script, timeout=60)
    assert share.sh('sqlite3 db "SELECT n FROM c; PRAGMA integrity_check"').out.split() == ["200", "ok"]


def test_save_by_rename(share):
    """As editors do: write beside, sync, rename over; a reader sees the old or the new, never between."""
    share.write("doc", "version 0\n" * 500)
    share.python("""
import os
for i in range(1, 30):
    with open(".doc.tmp", "w") as f:
        f.write(f"version {i}\\n" * 500); f.flush(); os.fsync(f.fileno())
    os.rename(".doc.tmp", "doc")
    text = open("doc").read()
    assert text == f"version {i}\\n" * 500, i
""")
    assert share.sh("ls -A").out.split() == ["doc"]


def test_find_du_mv_rm(share, tree):
    share.sh('cp -a "$1" t', tree)
    assert share.sh("cd t && find . | LC_ALL=C sort").out == share.user.sh('cd "$1" && find . | LC_ALL=C sort', tree).out
    assert int(share.sh("du -sb --apparent-size t | cut -f1").out) > 0
    share.sh('mv t/d3 t/d4/moved && mv "t/d4/moved/inner 3" t/up && test -f t/up/deep/file7.bin && mv t renamed')
    share.sh('cmp renamed/up/deep/file6.bin "$1/d3/inner 3/deep/file6.bin"', tree)
    share.sh("rm -r renamed && test -z \"$(ls -A)\"")


def test_move_into_and_out_of_the_share(share, tree):
    share.sh('cp -a "$1" here && mv here "$2/out" && diff -r --no-dereference "$1/d5" "$2/out/d5" && mv "$2/out" back',
             tree, share.user.home)
    same(share, tree, share.path("back"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_operations_on_a_file(share, seed):
    fsx = open(os.path.join(harness.HERE, "fsx.py")).read()
    r = share.python(fsx, "file", share.user.home + "/twin", str(seed), "600", timeout=80, check=False)
    assert r.rc == 0, r


@pytest.mark.sanitize
def test_random_operations_short(share):
    fsx = open(os.path.join(harness.HERE, "fsx.py")).read()
    r = share.python(fsx, "file", share.user.home + "/twin", "99", "300", timeout=60, check=False)
    assert r.rc == 0, r


@pytest.mark.slow
@pytest.mark.limit(150)
def test_random_operations_long(share):
    fsx = open(os.path.join(harness.HERE, "fsx.py")).read()
    r = share.python(fsx, "file", share.user.home + "/twin", "4", "4000", timeout=120, check=False)
    assert r.rc == 0, r


NAMES = """
import os, random, sys
rnd = random.Random(int(sys.argv[2]))
roots = [os.getcwd(), sys.argv[1]]
names = ["a", "b", "c", "x" * 170, "y" * 255]

def path(depth=3):
    return "/".join(rnd.choice(names) for _ in range(rnd.randrange(1, depth + 1)))

def act():
    p, q, kind = path(), path(), rnd.randrange(9)
    def go(root):
        P, Q = root + "/" + p, root + "/" + q
        try:
            if kind == 0: os.mkdir(P)
            elif kind in (1, 2): open(P, "a").write(p[:50])
            elif kind == 3: os.rename(P, Q)
            elif kind == 4: os.unlink(P)
            elif kind == 5: os.rmdir(P)
            elif kind == 6: os.link(P, Q)
            elif kind == 7: os.symlink(q[:300], P)
            else: return sorted(os.listdir(P))
        except OSError as e:
            return e.errno
        return 0
    return p, q, kind, go

def tree(root):
    rows = []
    for d, dirs, files in os.walk(root):
        for n in dirs + files:
            f = d + "/" + n
            st = os.lstat(f)
            what = os.readlink(f) if os.path.islink(f) else open(f).read() if os.path.isfile(f) else ""
            rows.append((f[len(root):], st.st_mode, 0 if os.path.isdir(f) else st.st_nlink, what))
    return sorted(rows)

log = []
for i in range(int(sys.argv[3])):
    p, q, kind, go = act()
    a, b = go(roots[0]), go(roots[1])
    log.append((kind, p, q, a, b))
    assert a == b, log[-8:]
    if i % 100 == 0:
        assert tree(roots[0]) == tree(roots[1]), log[-100:]
assert tree(roots[0]) == tree(roots[1])
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations_on_names(share, seed):
    """mkdir, create, rename, link, unlink at random: every result and error as on the local disk."""
    twin = share.user.mkdir("twin")
    share.python(NAMES, twin, str(seed), "1200", timeout=80)


# ---- single properties ----

def test_xattrs(share):
    share.python("""
import os, errno
open("f", "w").close(); os.mkdir("d")
for p in ("f", "d"):
    os.setxattr(p, "user.one", b"1"); os.setxattr(p, "user.two", b"\\0binary\\xff"); os.setxattr(p, "user.empty", b"")
    assert sorted(os.listxattr(p)) == ["user.empty", "user.one", "user.two"], os.listxattr(p)
    assert os.getxattr(p, "user.two") == b"\\0binary\\xff"
    os.setxattr(p, "user.one", b"changed", os.XATTR_REPLACE)
    assert os.getxattr(p, "user.one") == b"changed"
    for call, code in ((lambda: os.setxattr(p, "user.one", b"", os.XATTR_CREATE), errno.EEXIST),
                       (lambda: os.setxattr(p, "user.none", b"", os.XATTR_REPLACE), errno.ENODATA),
                       (lambda: os.getxattr(p, "user.none"), errno.ENODATA),
                       (lambda: os.removexattr(p, "user.none"), errno.ENODATA),
                       (lambda: os.setxattr(p, "trusted.x", b""), errno.EPERM)):
        try: call()
        except OSError as e: assert e.errno in (code, errno.EOPNOTSUPP), (p, e)
        else: raise AssertionError(p)
    os.removexattr(p, "user.two")
    assert sorted(os.listxattr(p)) == ["user.empty", "user.one"]
""")
    share.unmount()
    again = share.vault.mount(share.user)
    again.python("import os; assert os.getxattr('f', 'user.one') == b'changed'")


def test_symlinks(share):
    share.python("""
import os
for n, target in (("s", "t"), ("abs", "/etc/passwd"), ("long", "x/" * 2000 + "y"), ("odd", "a\\nb \\u00e9"), ("self", "self")):
    os.symlink(target, n)
    assert os.readlink(n) == target and os.lstat(n).st_size == len(os.fsencode(target)), n
open("t", "w").write("target"); assert open("s").read() == "target"
try: open("self")
except OSError as e: assert e.errno == 40
else: raise AssertionError
""")


def test_hard_links(share):
    share.python("""
import os
open("a", "w").write("x"); os.link("a", "b"); os.mkdir("d"); os.link("b", "d/c")
assert os.stat("a").st_nlink == 3 and os.path.samefile("a", "d/c")
open("b", "a").write("y"); assert open("d/c").read() == "xy"
os.unlink("a"); assert os.stat("b").st_nlink == 2 and open("b").read() == "xy"
os.rename("b", "e"); assert open("d/c").read() == "xy"
""")
    share.unmount()
    again = share.vault.mount(share.user)
    again.python("import os; assert os.path.samefile('e', 'd/c') and open('e').read() == 'xy'")


def test_long_names(share):
    share.python("""
import os
for n in (1, 100, 150, 160, 161, 162, 175, 176, 200, 254, 255):
    name = "n" * n
    open(name, "w").write(str(n)); assert open(name).read() == str(n)
    os.mkdir("d" * n); open("d" * n + "/" + name, "w").close(); assert os.listdir("d" * n) == [name]
    os.rename(name, "r" * n); assert open("r" * n).read() == str(n)
assert len(os.listdir(".")) == 22
try: open("n" * 256, "w")
except OSError as e: assert e.errno == 36
else: raise AssertionError
for n in (161, 255):
    os.unlink("r" * n); assert "r" * n not in os.listdir("."); os.unlink("d" * n + "/" + "n" * n); os.rmdir("d" * n)
""")


def test_sparse(share):
    share.python("""
import os
with open("s", "wb") as f:
    f.seek(50_000_000); f.write(b"end")
st = os.stat("s")
assert st.st_size == 50_000_003 and st.st_blocks * 512 < 1_000_000, st
fd = os.open("s", os.O_RDONLY)
assert os.pread(fd, 8192, 20_000_000) == bytes(8192) and os.pread(fd, 10, 49_999_998) == b"\\0\\0end"
try:
    assert os.lseek(fd, 0, os.SEEK_DATA) > 40_000_000 and os.lseek(fd, 0, os.SEEK_HOLE) == 0
except OSError as e:
    assert e.errno in (22, 95), e
""")


def test_truncate(share):
    share.python("""
import os
open("t", "wb").write(b"abc" * 5000)
for size in (15000, 8064, 8063, 4033, 4032, 4031, 1, 0, 1, 4032, 9000):
    old = open("t", "rb").read(); os.truncate("t", size)
    assert open("t", "rb").read() == (old + bytes(20000))[:size], size
    assert os.stat("t").st_size == size
open("t", "w").close(); assert os.stat("t").st_size == 0
""")


def test_append(share):
    share.sh('for i in $(seq 300); do echo "line $i" >> log; done; test "$(wc -l < log)" = 300; tail -1 log | grep -qx "line 300"')


def test_unlinked_open_file(share):
    share.python("""
import os
f = open("gone", "w+b", buffering=0); f.write(b"x" * 10000); os.unlink("gone")
assert os.listdir(".") == []
f.write(b"y" * 10000); f.seek(0); assert f.read() == b"x" * 10000 + b"y" * 10000
assert os.fstat(f.fileno()).st_nlink == 0
f.close()
""")


def test_open_file_survives_rename(share):
    share.python("""
import os
os.mkdir("d"); f = open("a", "w+b", buffering=0); f.write(b"1"); os.rename("a", "d/b"); f.write(b"2")
assert open("d/b", "rb").read() == b"12"; os.rename("d", "e"); f.write(b"3"); assert open("e/b", "rb").read() == b"123"
""")


def test_modes_are_enforced_for_the_owner(share):
    share.python("""
import os
open("f", "w").write("x"); os.chmod("f", 0o400)
assert os.stat("f").st_mode & 0o777 == 0o400
try: open("f", "a")
except PermissionError: pass
else: raise AssertionError("a read-only file was opened for writing")
os.chmod("f", 0o200)
try: open("f")
except PermissionError: pass
else: raise AssertionError("an unreadable file was read")
os.chmod("f", 0o600); open("f", "a").write("y")
os.mkdir("d"); os.chmod("d", 0o500)
try: open("d/x", "w")
except PermissionError: pass
else: raise AssertionError("a file was made in a read-only directory")
os.chmod("d", 0o700)
""")


def test_set_id_bits_are_not_served(share):
    """A mount is nosuid; the bits do nothing, and are not kept through a write."""
    share.python("""
import os
open("f", "w").write("x")
try: os.chmod("f", 0o4755)
except PermissionError: pass
open("f", "a").write("y")
assert os.stat("f").st_mode & 0o6000 == 0, oct(os.stat("f").st_mode)
""")


def test_times(share):
    share.python("""
import os
open("f", "w").close(); os.utime("f", ns=(1_234_567_890_123_456_789, 987_654_321_012_345_678))
st = os.stat("f"); assert (st.st_atime_ns, st.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_012_345_678)
before = os.stat(".").st_mtime_ns; open("g", "w").close(); assert os.stat(".").st_mtime_ns >= before
""")


def test_mapping_shared_between_programs(share):
    a, b = share.vault.actor(share.user, share.point), share.vault.actor(share.user, share.point)
    a.do("fd = os.open('m', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 10000); m = mmap.mmap(fd, 10000)")
    b.do("fd = os.open('m', os.O_RDWR); m = mmap.mmap(fd, 10000)")
    a.do("m[5000:5005] = b'hello'")
    assert b.get("m[5000:5005]") == b"hello"
    a.do("m.flush()")
    assert b.get("os.pread(fd, 5, 5000)") == b"hello"


def test_copy_file_range_and_rename_flags(share):
    share.python("""
import ctypes, os
open("a", "wb").write(os.urandom(20000)); open("b", "w").write("b")
s, d = os.open("a", os.O_RDONLY), os.open("c", os.O_RDWR | os.O_CREAT)
n = 0
while n < 20000: n += os.copy_file_range(s, d, 20000 - n)
assert open("a", "rb").read() == open("c", "rb").read()
libc = ctypes.CDLL(None, use_errno=True)
rename = lambda x, y, f: libc.renameat2(-100, x, -100, y, f) and ctypes.get_errno()
assert rename(b"a", b"b", 1) == 17
assert rename(b"a", b"new", 1) == 0 and rename(b"new", b"a", 1) == 0
r = rename(b"a", b"b", 2)
assert r == 22 or (r == 0 and open("a").read() == "b"), r
""")


def test_direct_io_and_unaligned(share):
    share.python("""
import mmap, os
open("f", "wb").write(bytes(range(256)) * 64)
fd = os.open("f", os.O_RDWR | os.O_DIRECT)
buf = mmap.mmap(-1, 8192)
assert os.preadv(fd, [buf], 4096) == 8192 and buf[:256] == bytes(range(256))
buf[:] = b"d" * 8192
assert os.pwritev(fd, [buf], 4096) == 8192
assert open("f", "rb").read()[4096:12288] == b"d" * 8192
""")


@pytest.mark.parametrize("kind", ["fcntl", "ofd", "flock"])
def test_locks_between_two_sessions(acme, kind):
    """A lock taken through one mount holds in another user's mount of the same client."""
    acme.grant("acme", acme.bob)
    a, b = acme.mount(acme.alice), acme.mount(acme.bob)
    a.write("f", "x" * 100)
    # struct flock: type, whence, start, len, pid.  Commands 37, 38 are F_OFD_SETLK, F_OFD_SETLKW.
    take = {"fcntl": "fcntl.lockf(fd, fcntl.LOCK_EX | {nb})", "flock": "fcntl.flock(fd, fcntl.LOCK_EX | {nb})",
            "ofd": "fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))"}[kind].format(nb="fcntl.LOCK_NB")
    free = {"fcntl": "fcntl.lockf(fd, fcntl.LOCK_UN)", "flock": "fcntl.flock(fd, fcntl.LOCK_UN)",
            "ofd": "fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_UNLCK, 0, 0, 0, 0))"}[kind]
    pa, pb = acme.actor(acme.alice, a.point), acme.actor(acme.bob, b.point)
    for p in (pa, pb):
        p.do("fd = os.open('f', os.O_RDWR)")
    pa.do(take)
    assert harness.ERRNO.get(pb.errno(take)) in ("EAGAIN", "EACCES")
    pa.do(free)
    pb.do(take)
    assert harness.ERRNO.get(pa.errno(take)) in ("EAGAIN", "EACCES")
    pb.stop()  # a program that dies leaves no lock
    harness.wait_for(lambda: pa.errno(take) == 0, "release of a dead program's lock", limit=5)


def test_waiting_lock_is_woken(acme):
    acme.grant("acme", acme.bob)
    a, b = acme.mount(acme.alice), acme.mount(acme.bob)
    a.write("f", "x")
    pa = acme.actor(acme.alice, a.point)
    pa.do("fd = os.open('f', os.O_RDWR); fcntl.lockf(fd, fcntl.LOCK_EX)")
    pb = acme.actor(acme.bob, b.point)
    pb.do("import threading\nfd = os.open('f', os.O_RDWR)\ngot = threading.Event()\n"
          "t = threading.Thread(target=lambda: (fcntl.lockf(fd, fcntl.LOCK_EX), got.set()), daemon=True); t.start()")
    assert pb.get("got.wait(0.2)") is False
    pa.do("fcntl.lockf(fd, fcntl.LOCK_UN)")
    assert pb.get("got.wait(5)") is True


@pytest.mark.threads
def test_parallel_work(share):
    """Several programs at once, in one directory and in their own."""
    share.sh('''
        for i in 1 2 3 4; do (
            mkdir d$i
            for j in $(seq 25); do
                head -c $((j * 700)) /dev/urandom > d$i/f$j; cp d$i/f$j shared-$i-$j; cmp d$i/f$j shared-$i-$j
                mv shared-$i-$j d$i/moved$j; rm d$i/f$j; ls > /dev/null
            done ) & pids="${pids-} $!"
        done
        for p in $pids; do wait $p; done
        test "$(find . -type f | wc -l)" = 100
        rm -r d1 d2 d3 d4; test -z "$(ls -A)"
    ''', timeout=60)
