"""Whole programs in a share, with what they use themselves to tell whether their data is right.

Those that need big packages are run by tests/stress/programs (COFFER_HEAVY=1) and are not collected otherwise.
"""
import glob
import os
import shutil

import pytest

import harness

HEAVY = bool(os.environ.get("COFFER_HEAVY"))
GIT = "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t\n"


def need(program):
    """Path of a program of a heavy test."""
    path = shutil.which(program)
    if not path:
        pytest.skip(f"{program} is not installed")
    return path


WRITER = """
import sqlite3, sys, random
who = int(sys.argv[1])
db = sqlite3.connect("db", timeout=60, isolation_level=None)
rnd = random.Random(who)
for i in range(int(sys.argv[2])):
    db.execute("BEGIN IMMEDIATE")
    a, b, n = rnd.randrange(50), rnd.randrange(50), rnd.randrange(100)
    db.execute("UPDATE account SET sum = sum - ? WHERE id = ?", (n, a))
    db.execute("UPDATE account SET sum = sum + ? WHERE id = ?", (n, b))
    db.execute("INSERT INTO log VALUES (?, ?, ?)", (who, i, "x" * rnd.randrange(3000)))
    db.execute("COMMIT" if i % 5 else "ROLLBACK")
    if i % 20 == 0:
        assert db.execute("SELECT sum(sum) FROM account").fetchone() == (0,)
"""


def test_sqlite_wal_with_five_processes(share):
    """Four write, one makes checkpoints; sums and the file are right, also after a new mount."""
    share.python("""
import sqlite3
db = sqlite3.connect("db"); db.execute("PRAGMA journal_mode=WAL"); db.execute("CREATE TABLE account(id PRIMARY KEY, sum)")
db.execute("CREATE TABLE log(who, i, text)"); db.executemany("INSERT INTO account VALUES(?, 0)", [(i,) for i in range(50)]); db.commit()
""")
    share.sh('for i in 1 2 3 4; do /usr/bin/python3 -c "$1" $i 60 & p="${p-} $!"; done\n'
             'for i in 1 2 3 4 5; do sqlite3 db "PRAGMA busy_timeout=20000; PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null; done\n'
             'for x in $p; do wait $x; done', WRITER, timeout=80)
    ask = 'sqlite3 db "PRAGMA integrity_check; SELECT sum(sum) FROM account; SELECT count(*) FROM log"'
    assert share.sh(ask).out.split() == ["ok", "0", str(4 * 48)]
    share.unmount()
    assert share.vault.mount(share.user).sh(ask).out.split() == ["ok", "0", str(4 * 48)]


def test_sqlite_wal_when_its_process_is_killed(share):
    share.sh('sqlite3 db "PRAGMA journal_mode=WAL; CREATE TABLE account(id PRIMARY KEY, sum); CREATE TABLE log(who, i, text);\n'
             'INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49) SELECT i, 0 FROM n"')
    share.sh('for k in 1 2 3; do /usr/bin/python3 -c "$1" $k 100000 & p=$!; sleep 0.5; kill -9 $p; wait $p || true\n'
             'test "$(sqlite3 db "PRAGMA integrity_check")" = ok; done', WRITER)
    assert int(share.sh('sqlite3 db "SELECT count(*) FROM log"').out) > 0


def test_git_branches_gc_and_worktrees(share):
    share.sh(GIT + '''
        git init -q -b main r && cd r
        for i in $(seq 12); do mkdir -p d$i; for j in 1 2 3 4; do head -c $((i * j * 500)) /dev/urandom > d$i/f$j; done
            git add -A; git commit -qm "n $i"; done
        git gc -q --prune=now && git fsck --full --strict
        git worktree add -q ../w -b side HEAD~4
        echo side > ../w/new && git -C ../w add -A && git -C ../w commit -qm side
        git merge -q --no-edit side && git rebase -q HEAD~1 && git stash list && git repack -adq && git fsck --full --strict
        git clone -q --no-local . ../clone && cd ../clone && git fsck --full && git checkout -q HEAD~3 && git checkout -q -
        test -z "$(git status --porcelain)" && test "$(git rev-parse HEAD)" = "$(git -C ../r rev-parse HEAD)"
        git -C ../r worktree remove ../w && git -C ../r worktree prune && ! test -e ../w
    ''', timeout=80)


BUILD_IT = """
import os
os.mkdir("p"); names = []
for i in range(40):
    names.append(f"m{i}")
    open(f"p/m{i}.h", "w").write(f"int f{i}(int);\\n")
    inc = "".join(f'#include "m{j}.h"\\n' for j in range(max(0, i - 3), i + 1))
    body = f"return x + {i}" + (f" + f{i - 1}(x)" if i else "") + ";"
    open(f"p/m{i}.c", "w").write(f"{inc}int f{i}(int x) {{ {body} }}\\n")
open("p/main.c", "w").write('#include <stdio.h>\\n#include "m39.h"\\nint main(void) { printf("%d\\\\n", f39(1)); }\\n')
objects = " ".join(f"m{i}.o" for i in range(40)) + " main.o"
open("p/Makefile", "w").write(f"CFLAGS = -MMD -O1\\nprog: {objects}\\n\\t$(CC) -o $@ $^\\nlib.a: {objects}\\n\\tar rcs $@ $^\\n-include *.d\\n")
"""


def test_a_build_with_make_j(share):
    share.python(BUILD_IT)
    share.sh('cd p && make -s -j4 prog lib.a', timeout=80)
    assert share.sh("cd p && ./prog").out == "820\n"
    assert "up to date" in share.sh("cd p && make prog").out
    share.sh("cd p && sleep 0.02 && touch m20.h && make -j4 prog > log && grep -c 'cc.*-c' log | grep -qx 4")


def test_vim_saves(share):
    """Each way vim can write: over the file, by a new one, with a backup, with its swap file."""
    vim = need("vim") if HEAVY else shutil.which("vim") or shutil.which("vim.tiny")
    if not vim:
        share.sh("true")
        return
    share.write("doc", "one\ntwo\n")
    share.sh("chmod 640 doc")
    for n, how in enumerate(("backupcopy=yes", "backupcopy=no", "backup backupcopy=auto", "nowritebackup", "backupcopy=auto,breakhardlink")):
        share.sh('"$1" -u NONE -n -es -c "set $2" -c "normal Goline $3" -c wq doc </dev/null', vim, how, str(n))
    assert share.read("doc").decode().splitlines() == ["one", "two"] + [f"line {n}" for n in range(5)]
    assert share.sh("stat -c %a doc; ls").out.split() == ["640", "doc", "doc~"]


TREE = """
import os, random, sys
rnd = random.Random(5)
top = sys.argv[1]
for d in range(6):
    os.makedirs(f"{top}/d{d}/" + "x" * (d * 40 + 1))
    for f in range(6):
        p = f"{top}/d{d}/f{f}"
        open(p, "wb").write(rnd.randbytes(rnd.choice((0, 1, 4032, 4096, 30000))))
        os.setxattr(p, "user.note", rnd.randbytes(f * 20))
        os.chmod(p, rnd.choice((0o600, 0o644, 0o755)))  # tar cannot set attributes of a read-only file
        os.utime(p, ns=(rnd.randrange(10**18), rnd.randrange(10**18)))
    os.link(f"{top}/d{d}/f0", f"{top}/d{d}/hard")
    os.symlink("f" * (d * 200 + 1), f"{top}/d{d}/link")
    os.setxattr(f"{top}/d{d}", "user.dir", b"d")
with open(f"{top}/sparse", "wb") as f:
    f.truncate(5_000_000); f.seek(2_000_000); f.write(b"middle")
for d in range(6):
    os.utime(f"{top}/d{d}", ns=(1, 10**9 + d))
"""


def test_rsync_tar_cp_both_ways(share):
    """Out of the share and in again, by each program: nothing is different at the end."""
    home = share.user.home
    share.user.python(TREE, home + "/t")
    differs = 'test -z "$(rsync -aHXSnci --delete "$1/" "$2/" | grep -v "^\\.d\\.\\.t\\.\\.\\.\\.\\.\\. \\./$")"'
    share.sh('rsync -aHXS "$1/" r/', home + "/t")
    share.sh(differs, home + "/t", share.path("r"))
    share.sh('tar --xattrs --sparse -cf t.tar -C r . && mkdir x "$1/y" && tar --xattrs -xpf t.tar -C x && tar --xattrs -xpf t.tar -C "$1/y"', home)
    share.sh(differs, home + "/t", share.path("x"))
    share.sh(differs, home + "/t", home + "/y")
    share.sh('cp -a --reflink=auto --sparse=always x c && cp -a --reflink=auto c "$1/back"', home)
    share.sh(differs, home + "/t", share.path("c"))
    share.sh(differs, home + "/t", home + "/back")
    share.sh('rsync -aHX --inplace --no-W "$1/" "$2/" && rsync -aHXSci --delete "$1/" "$2/" | grep -v "^\\.d" | wc -l | grep -qx 0', share.path("c"), home + "/y")
    assert int(share.sh("du -k c/sparse | cut -f1").out) < 200


# ---- heavy: tests/stress/programs ----

def heavy(f):
    """Collected only when asked for: its package is no part of the suite."""
    return pytest.mark.limit(600)(f) if HEAVY else None


def postgres():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not found:
        pytest.skip("postgresql is not installed")
    return os.path.dirname(found[-1])


@heavy
def test_postgresql(share):
    """initdb, pgbench, kill -9 of all its processes, recovery; then the worker is killed under it, twice."""
    env = f'export PATH={postgres()}:$PATH PGHOST={share.user.home} PGDATA={share.path("pg")} PGDATABASE=postgres\n'
    start = 'pg_ctl -w -t 60 -l "$PGHOST/log" -o "-k $PGHOST -c listen_addresses= -c shared_buffers=32MB" start >/dev/null || { tail -20 "$PGHOST/log"; false; }\n'
    check = ('test "$(psql -Atc "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)")" = t\n'
             'test "$(psql -Atc "SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)")" = t\n'
             'pg_amcheck --heapallindexed -q 2>&1 | grep -v "amcheck is not installed" || true\n')
    share.sh(env + 'initdb -k --auth=trust >/dev/null\n' + start + 'pgbench -qi -s 2 >/dev/null 2>&1\n'
             'psql -qc "CREATE EXTENSION IF NOT EXISTS amcheck" || true\npgbench -n -c 4 -j 2 -T 8 >/dev/null\n' + check, timeout=200)
    for _ in range(2):  # its processes die
        share.sh(env + 'pgbench -n -c 4 -j 2 -T 30 >/dev/null 2>&1 & sleep 3; kill -9 $(head -1 "$PGDATA/postmaster.pid")\n'
                 'pkill -9 -U "$(id -u)" postgres || true; wait || true; while pgrep -U "$(id -u)" postgres >/dev/null; do sleep 0.1; done', timeout=100, check=False)
        share.sh(env + start + check + 'pgbench -n -c 4 -j 2 -T 3 >/dev/null\n' + check, timeout=120)
    for _ in range(2):  # the worker dies
        share.sh(env + 'pgbench -n -c 4 -T 60 >/dev/null 2>&1 & sleep 3; true', timeout=30)
        harness.kill9(share.worker())
        share.user.sh('while pkill -9 -U "$(id -u)" "postgres|pgbench"; do sleep 0.1; done')
        harness.wait_for(lambda: not share.mounted(), "the end of the mount")
        share = share.vault.mount(share.user, point=share.point)
        share.sh(env + 'rm -f "$PGDATA/postmaster.pid"\n' + start + check, timeout=120)
    share.sh(env + 'psql -Atc "SELECT count(*) FROM pgbench_history"; pg_ctl -w stop >/dev/null; pg_checksums --check >/dev/null', timeout=60)


FIO = """[global]
size=24M
verify=crc32c
verify_fatal=1
verify_state_save=0
group_reporting=1
[random]
rw=randwrite
bsrange=512-64k
bs_unaligned=1
numjobs=2
[direct]
rw=randrw
bs=4k
direct=1
ioengine=libaio
iodepth=8
stonewall
[mmap]
rw=randwrite
bs=4k
ioengine=mmap
stonewall
[append]
rw=write
bs=5000
fsync=50
stonewall
"""


@heavy
def test_fio_with_verify(share):
    need("fio")
    share.sh('cat > "$1/job"; fio --output="$1/out" "$1/job" || { cat "$1/out"; false; }', share.user.home, input=FIO, timeout=400)


# Those of Debian 12's stress-ng (0.15) that work on files; bind-mount, binderfs, fanotify and rawdev need root or a device;
# io-uring has a failing check of its own, also on ext4.
STRESSORS = ("access aio aiol chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup eventfd fallocate fcntl fiemap "
             "file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease link locka lockf "
             "lockofd mknod msync open readahead rename revio seek sendfile splice symlink sync-file touch utime verity xattr").split()


@heavy
@pytest.mark.parametrize("stressor", STRESSORS)
def test_stress_ng(shared_share, stressor):
    """Each file system stressor for two seconds, with its own verification."""
    r = shared_share.user.run(need("stress-ng"), "--" + stressor, "2", "-t", "2s", "--verify", "--temp-path", shared_share.point,
                              "--hdd-bytes", "16m", "--iomix-bytes", "16m", timeout=120)
    if "unrecognized option" in r.err:
        pytest.skip("this stress-ng does not know it")
    assert r.rc in (0, 3, 4), r  # 3, 4: not for this machine or file system
    assert "fail:" not in r.out + r.err, r
    assert shared_share.sh("ls -A | grep -v ^tmp | wc -l").out.strip() == "0"
