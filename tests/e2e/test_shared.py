"""Shared mounts: many users of one host, each with his own decision, session and records, and real owners."""
import contextlib
import errno
import fcntl
import grp
import os

import pytest

import harness
from harness import PURPOSE, REFUSED, TICKET, wait_for


class Shared:
    """A shared mount of acme, made by root, with grants for alice and bob; carol is a stranger."""

    def __init__(self, vault, *more):
        self.vault = vault
        vault.points += 1
        self.point = os.path.join(vault.base, f"shared{vault.points}")
        os.mkdir(self.point, 0o755)
        vault.coffer("mount", "acme", "--purpose", PURPOSE, "--ticket", TICKET, "--shared", *more, self.point)

    def path(self, *names):
        return os.path.join(self.point, *names)

    def errno(self, user, statement):
        """The errno with which a Python statement fails when the user runs it; 0: it works.  P is the mount."""
        r = harness.run(["/usr/bin/python3", "-c",
                         "import os, sys\nP = sys.argv[2]\n"
                         "try:\n exec(sys.argv[1])\nexcept OSError as e: print(e.errno)\nelse: print(0)",
                         statement, self.point], user=user, check=True)
        return int(r.out.split()[-1])

    def sh(self, user, script, **kw):
        kw.setdefault("check", True)
        return harness.run(["/bin/bash", "-euc", f"cd {self.point}; " + script], user=user, **kw)

    def members(self):
        """user -> row of `coffer sessions`, of those who are in."""
        return {r["user"]: r for r in self.vault.rows("sessions") if r.get("member_of")}


@pytest.fixture
def both(acme):
    """acme, with grants for alice (rw) and bob (rw)."""
    acme.grant("acme", acme.bob)
    return acme


@pytest.fixture
def shared(both):
    return Shared(both)


def test_each_user_has_his_own_decision_session_and_records(shared):
    v = shared.vault
    assert shared.members() == {}  # nobody is in before he comes
    shared.sh(v.alice, "echo from alice > a")
    shared.sh(v.bob, "cat a; echo from bob > b")
    rows = shared.members()
    assert set(rows) == {v.alice.name, v.bob.name}
    assert all(r["purpose"] == PURPOSE and r["ticket"] == TICKET for r in rows.values())
    log = v.log()
    enters = {r["user"]: r["session"] for r in log if r["op"] == "enter"}
    assert enters == {u: r["session"] for u, r in rows.items()}
    who = {(r["user"], r["op"], r.get("path")) for r in log if r["session"] in enters.values()}
    assert any(u == v.alice.name and op == "create" and p and p.endswith("a") for u, op, p in who), who
    assert any(u == v.bob.name and op == "open" and p and p.endswith("a") for u, op, p in who), who
    assert not any(u == v.alice.name and p and p.endswith("b") for u, op, p in who), who
    assert os.stat(v.store()).st_uid == 0


def test_stranger_gets_eacces_at_the_root_and_a_record(shared):
    v = shared.vault
    shared.sh(v.alice, "mkdir -m 755 d; echo x > d/f; cat d/f")  # the names are in the kernel's cache
    for statement in ("os.stat(P)", "os.listdir(P)", "os.stat(P + '/d/f')", "open(P + '/d/f')", "os.mkdir(P + '/e')"):
        assert shared.errno(v.carol, statement) == errno.EACCES, statement
    rows = [r for r in v.log("--user", v.carol.name) if r["op"] == "refused"]
    assert len(rows) == 1 and rows[0]["outcome"] == "NotGranted" and rows[0]["purpose"] == PURPOSE, rows
    assert v.carol.name not in shared.members()


def test_a_later_grant_lets_in_without_a_new_mount(shared):
    v = shared.vault
    assert shared.errno(v.carol, "os.stat(P)") == errno.EACCES
    v.grant("acme", v.carol, PURPOSE, "r")
    wait_for(lambda: shared.errno(v.carol, "os.listdir(P)") == 0, "the new grant taking effect")
    assert shared.errno(v.carol, "os.mkdir(P + '/e')") in (errno.EROFS, errno.EACCES)  # to read only
    assert shared.members()[v.carol.name]["rights"] == "r"


def test_root_needs_a_grant_like_everybody(shared):
    shared.sh(shared.vault.alice, "echo x > f; chmod 666 f")
    for statement in ("os.stat(P)", "os.listdir(P)", "open(P + '/f')"):
        assert shared.errno(None, statement) == errno.EACCES, statement
    assert shared.errno(None, "os.statvfs(P)") == 0  # how full it is says nothing of the client
    assert [r["outcome"] for r in shared.vault.log("--user", "root") if r["op"] == "refused"] == ["NotGranted"]


def test_revoking_one_member_leaves_the_other(shared):
    v = shared.vault
    shared.sh(v.alice, "umask 0; head -c 100000 /dev/urandom > f; mkdir d; echo in > d/g")
    readers = {u.name: v.actor(u) for u in (v.alice, v.bob)}
    for a in readers.values():
        a.do(f"f = open({shared.path('f')!r}, 'rb', buffering=0)")
        a.do(f"d = os.open({shared.path('d')!r}, os.O_RDONLY)")
        a.do("m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)")
        assert len(a.get("m[:4096]")) == 4096
    v.revoke("acme", v.bob)
    bob, alice = readers[v.bob.name], readers[v.alice.name]
    for statement in (f"open({shared.path('f')!r})", f"os.listdir({shared.path()!r})", "os.listdir(d)", "f.read(4096)",
                      f"os.mkdir({shared.path('new')!r})"):
        assert bob.errno(statement) == errno.EKEYREVOKED, statement
    assert len(alice.get("m[:4096]")) == 4096
    assert len(alice.get("os.pread(f.fileno(), 4096, 8192)")) == 4096
    assert alice.get("os.listdir(d)") == ["g"]
    assert set(shared.members()) == {v.alice.name}
    assert v.bob.name in [r["user"] for r in v.log() if r["op"] == "session-end" and "revoked" in str(r["detail"])]
    v.grant("acme", v.bob)  # what he had open stays dead; he comes in anew
    wait_for(lambda: shared.errno(v.bob, "os.stat(P)") == 0, "the new grant taking effect")
    alice.do("m.close(); os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)")  # the page cache is everybody's
    assert bob.errno("os.pread(f.fileno(), 4096, 65536)") == errno.EBADF
    assert bob.errno(f"open({shared.path('f')!r})") == 0


def test_a_descriptor_passed_to_another_user(shared):
    v = shared.vault
    shared.sh(v.alice, "umask 077; head -c 300000 /dev/urandom > secret")
    # bob is a member: he may use it, and it is recorded as his; carol is not: she gets nothing that is not cached
    for user, want in ((v.bob, 0), (v.carol, errno.EACCES)):
        r = harness.run(["/usr/bin/python3", "-c", """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))
try:
    os.pread(fd, 4096, 200000)
except OSError as e:
    os._exit(e.errno)
os._exit(0)
""".replace("fd = os.open", "os.seteuid(int(sys.argv[4]))\nfd = os.open", 1).replace("pid = os.fork()", "os.seteuid(0)\npid = os.fork()", 1),
                         shared.path("secret"), user.uid, user.gid, v.alice.uid])
        assert r.rc == want, (user.name, r)
    opens = [r for r in v.log("--user", v.bob.name) if r["op"] == "open"]
    assert len(opens) == 1 and opens[0]["path"].endswith("secret"), opens
    assert [r["op"] for r in v.log("--user", v.carol.name)] == ["refused"]


MODES = r"""
umask 022
echo x > f; chmod 640 f; mkdir d; chmod 2775 d
umask 027; echo y > d/inherits; mkdir d/sub; mknod d/fifo p; ln -s f link
umask 0; touch open; umask 077; touch closed
chmod 4755 f; echo more >> f               # a write takes set-user-id away
cp /bin/true suid; chmod 4755 suid
cp /bin/true keeps; chmod 4755 keeps
mkdir -m 1777 tmp; touch tmp/mine
chmod 0000 closed
touch -d 2001-02-03T04:05:06.123456789Z old
ln f hard
"""
OTHERS = r"""
e() { "$@" 2> /dev/null && echo "ok $1" || echo "no $1"; }
e cat closed; e rm -f tmp/mine; e touch tmp/theirs; e sh -c 'echo z >> open'; e sh -c 'echo z >> f'; e chmod 777 open
e mkdir d/x; e mv tmp/mine tmp/other; e chown $(id -u) open; e chgrp $(id -g) open; e ln open tmp/open2
e sh -c 'echo z >> suid'; e sh -c 'cat d/inherits'; e truncate -s 0 open; e touch -d 2020-01-01 open; e touch open
"""
LIST = r"find . -mindepth 1 -printf '%P %y %m %U:%G %n %s %l\n' | sort; find . -mindepth 1 ! -type l | sort | xargs getfacl -n -p 2>/dev/null || :"


def by_user(root, user, script):
    return harness.run(["/bin/bash", "-c", f"cd {root} || exit 9; " + script], user=user, check=True).out


def local_twin(v):
    """An empty directory on the local disk with the rights that the members have at the share's root."""
    path = os.path.join(v.base, "twin")
    os.mkdir(path, 0o770)
    harness.run(["setfacl", "-m", f"u:{v.alice.uid}:rwx,u:{v.bob.uid}:rwx,u:{v.carol.uid}:rwx", path], check=True)
    return path


def test_owners_modes_and_sticky_as_on_the_local_disk(both):
    both.grant("acme", both.carol)
    both.coffer("status")
    shared, local = Shared(both), local_twin(both)
    for user, script in ((both.alice, MODES), (both.bob, OTHERS), (both.carol, OTHERS), (both.alice, LIST),
                         (both.bob, LIST)):
        assert by_user(shared.point, user, script) == by_user(local, user, script), script


ACLS = r"""
mkdir p; setfacl -m u:%(bob)d:rwx,g:%(group)d:r-x p; setfacl -d -m u:%(bob)d:rw-,g:%(group)d:r--,o::- p
umask 022; touch p/f; mkdir p/d; touch p/d/g; umask 077; touch p/h
touch plain; setfacl -m u:%(bob)d:r plain; chmod 600 plain
mkdir q; setfacl -d -m u::rwx,g::-,o::- q; touch q/only; setfacl -k q; touch q/again
setfacl -m u:%(bob)d:rw p/h; setfacl -b p/h
for d in p q; do for m in 666 751; do /usr/bin/python3 -c "
import os; fd = os.open('$d', os.O_TMPFILE | os.O_RDWR, 0o$m)
os.link(f'/proc/self/fd/{fd}', '$d/unnamed$m', dst_dir_fd=os.open('.', 0), follow_symlinks=True)"; done; done
mkdir g; chgrp %(own)d g; chmod 2770 g; setfacl -m u:%(bob)d:rwx g
"""
ACL_USE = r"""
e() { "$@" > /dev/null 2>&1 && echo "ok $*" || echo "no $*"; }
e cat p/f; e sh -c 'echo 1 >> p/f'; e touch p/new; e cat plain; e cat q/only; e touch g/new; e setfacl -m o::rwx p/f
e cat p/h; e ls p/d; e cat p/d/g; e touch p/d/new
"""


def test_acls_are_enforced_and_inherited_as_on_the_local_disk(both):
    both.grant("acme", both.carol)
    shared, local = Shared(both), local_twin(both)
    # carol is in ct_team by a supplementary group
    ids = {"bob": both.bob.uid, "group": grp.getgrnam("ct_team").gr_gid, "own": both.alice.gid}
    for user, script in ((both.alice, ACLS % ids), (both.bob, ACL_USE), (both.carol, ACL_USE), (both.alice, LIST)):
        assert by_user(shared.point, user, script) == by_user(local, user, script), script
    both.down()
    both.up()
    again = Shared(both)  # they are on disk
    assert by_user(again.point, both.alice, LIST) == by_user(local, both.alice, LIST)


def test_what_has_no_name_keeps_its_access_list(both):
    """Unlinked under who has it open, removed, made without a name: the kernel asks for the list before it decides."""
    heard = []
    for top in (Shared(both).point, local_twin(both)):
        a, b = both.actor(both.alice, top), both.actor(both.bob, top)
        a.do(f"""
import subprocess
os.umask(0o022)
def acl(path, who):
    if subprocess.run(["setfacl", "-m", who, path], stderr=subprocess.DEVNULL).returncode: raise OSError(1000, "setfacl")
for n in ("f", "g"):
    with open(n, "w") as f: f.write("text")
    os.chmod(n, 0o640); os.setxattr(n, "user.a", b"1")
acl("g", "u:{both.bob.uid}:rw"); os.chmod("f", 0o644); os.mkdir("d", 0o755); os.mkdir("e", 0o700); acl("e", "u:{both.bob.uid}:rx")
t = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
u = os.open("g", os.O_RDONLY)""")
        b.do("f, g = os.open('f', os.O_RDONLY), os.open('g', os.O_RDWR)\nd, e = os.open('d', os.O_RDONLY), os.open('e', os.O_RDONLY)")
        a.do("os.unlink('f'); os.unlink('g'); os.rmdir('d'); os.rmdir('e')")
        heard.append([
            [b.errno(s) for s in ("os.getxattr(f, 'user.a')", "os.setxattr(f, 'user.a', b'2')", "os.getxattr(f, 'user.none')",
                                  "os.setxattr(g, 'user.a', b'2')", "os.removexattr(g, 'user.a')",
                                  "os.close(os.open(f'/proc/self/fd/{f}', os.O_RDONLY))", "os.open(f'/proc/self/fd/{f}', os.O_RDWR)",
                                  "os.close(os.open(f'/proc/self/fd/{g}', os.O_RDWR))",
                                  "os.listdir(f'/proc/self/fd/{d}')", "os.mkdir('x', dir_fd=d)", "os.setxattr(d, 'user.a', b'2')")],
            b.get("os.getxattr(g, 'system.posix_acl_access').hex()"),
            a.errno(f"acl(f'/proc/{{os.getpid()}}/fd/{{u}}', 'u:{both.bob.uid}:r')"), b.errno("os.setxattr(g, 'user.a', b'3')"),
            a.errno(f"acl(f'/proc/{{os.getpid()}}/fd/{{t}}', 'u:{both.bob.uid}:rw')"),
            a.errno("os.link(f'/proc/self/fd/{t}', 'made', src_dir_fd=t, follow_symlinks=True)"), b.errno("os.close(os.open('made', os.O_RDWR))"),
            a.get("os.getxattr('made', 'system.posix_acl_access').hex()"), a.errno("os.close(t); os.close(u)")])
        a.stop(), b.stop()
    assert heard[0] == heard[1]
    assert errno.EACCES in heard[1][0] and 0 in heard[1][0]


def test_the_root_shows_the_access_list_and_cannot_be_changed(shared):
    v = shared.vault
    v.grant("acme", v.carol, PURPOSE, "r")
    v.coffer("grant", "acme", "--group", "ct_team", "--purpose", PURPOSE, "--rights", "r")
    want = {f"user:{v.alice.name}:rwx", f"user:{v.bob.name}:rwx", f"user:{v.carol.name}:r-x", "group:ct_team:r-x"}

    def acl():
        return set(shared.sh(v.alice, "getfacl -p .").out.split())
    wait_for(lambda: want <= acl(), f"the access list as an ACL: {acl()}", limit=3)
    assert "other::---" in acl()
    st = shared.sh(v.alice, "stat -c '%a %u %g' .").out.split()
    assert st == ["770", "0", "0"]
    v.revoke("acme", v.bob)
    wait_for(lambda: not any(v.bob.name in line for line in acl()), "the list without him", limit=3)
    for user in (v.alice, None):
        for script in (f"setfacl -m u:{v.bob.uid}:rwx {shared.point}", f"setfacl -b {shared.point}",
                       f"setfacl -d -m o::rwx {shared.point}", f"chmod 777 {shared.point}", f"chown 1 {shared.point}"):
            r = harness.run(["/bin/sh", "-c", script], user=user)
            assert r.rc != 0 and ("not permitted" in r.err or "ermission denied" in r.err), (script, r)


@pytest.fixture
def helper(programs):
    """/sbin/mount.fuse.coffer for the time of a test; runs in other trees wait."""
    link = "/sbin/mount.fuse.coffer"
    with open("/run/coffer-tests-helper.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.islink(link) and not os.path.exists(link):
            os.unlink(link)  # of a run that was killed
        if os.path.lexists(link):
            pytest.skip(f"{link} is there already")
        os.symlink(os.path.join(programs, "tools/coffer"), link)
        yield
        os.unlink(link)


def test_mount_of_the_system_and_fstab(both, helper):
    v = both
    point = os.path.join(v.base, "by-mount")
    os.mkdir(point)
    harness.run(["mount", "-t", "fuse.coffer", "acme", point, "-o",
                 f"allow_other,purpose={PURPOSE},ticket={TICKET},dir={v.dir}"], check=True)
    assert by_user(point, v.alice, "echo x > f; stat -c %U f").split() == [v.alice.name]
    harness.run(["umount", point], check=True)
    wait_for(lambda: v.rows("sessions") == [], "the sessions' end")
    fstab = os.path.join(v.base, "fstab")
    with open(fstab, "w") as f:
        f.write(f"acme {point} fuse.coffer noauto,nofail,x-systemd.automount,ro,allow_other,purpose={PURPOSE},ticket={TICKET},"
                f"dir={v.dir} 0 0\n")
    harness.run(["mount", "-T", fstab, point], check=True)
    assert by_user(point, v.bob, "cat f; touch f 2> /dev/null || echo no").split() == ["x", "no"]
    harness.run(["umount", point], check=True)


def test_mount_of_the_system_says_what_is_wrong(both, helper):
    point = os.path.join(both.base, "by-mount")
    os.mkdir(point)
    for options, word in ((f"purpose={PURPOSE},dir={both.dir},sahred", "sahred"), (f"dir={both.dir}", "purpose"),
                          (f"allow_other,purpose={PURPOSE},dir={both.dir}/none", "No such file")):
        r = harness.run(["mount", "-t", "fuse.coffer", "acme", point, "-o", options])
        assert r.rc != 0 and word in r.err + r.out, (options, r)
    assert harness.mounts_below(point) == []


def test_private_and_shared_sessions_see_the_same(shared):
    v = shared.vault
    private = v.mount(v.alice)
    private.write("by-alice", "one")
    assert shared.sh(v.alice, "stat -c '%U %G' by-alice").out.split() == [v.alice.name] * 2  # as if made here
    shared.sh(v.bob, "cat by-alice; echo two > by-bob; chmod 600 by-bob")
    assert private.sh("stat -c '%U %a' by-bob; cat by-bob").out.split() == [v.alice.name, "600", "two"]
    private.write("by-alice", "three")
    assert shared.sh(v.bob, "cat by-alice").out == "three"
    shared.sh(v.alice, "mv by-alice moved; ln moved link")
    assert private.sh("stat -c %h moved").out.split() == ["2"]
    assert private.errno("open('by-alice')") == errno.ENOENT
    v.revoke("acme", v.alice)
    assert shared.errno(v.alice, "os.stat(P)") in (errno.EKEYREVOKED, errno.EACCES)
    wait_for(lambda: not private.mounted(), "the private mount's end")
    assert shared.sh(v.bob, "cat moved").out == "three"


def test_members_end_with_the_mount(shared):
    v = shared.vault
    shared.sh(v.alice, "echo x > f")
    shared.sh(v.bob, "cat f")
    numbers = {r["session"] for r in v.rows("sessions")}
    assert len(numbers) == 3
    v.coffer("unmount", shared.point)
    wait_for(lambda: v.rows("sessions") == [], "the end of all its sessions")
    ended = {r["session"] for r in v.log() if r["op"] == "session-end"}
    assert numbers <= ended


@pytest.mark.parametrize("who", ["worker", "keyd", "fsd"])
def test_a_daemon_killed_ends_a_shared_mount(shared, who):
    v = shared.vault
    shared.sh(v.alice, "head -c 200000 /dev/urandom > f")
    a = v.actor(v.alice)
    a.do(f"f = open({shared.path('f')!r}, 'rb', buffering=0)")
    a.do("m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)")
    assert len(a.get("m[:]")) == 200000
    harness.kill9(v.pid(who))
    wait_for(lambda: not any(p == shared.point for p, _, _ in harness.mounts_below(shared.point)), "the mount's end")
    assert a.errno("os.pread(f.fileno(), 4096, 0)") != 0
    with pytest.raises(harness.Died):
        a.get("m[:]")
    if who == "keyd":
        wait_for(lambda: not harness.our_processes(v.dir), "the end of the other daemons")
        v.up()
    wait_for(lambda: v.status()["fsd"] == "running" and v.rows("sessions") == [], "the daemons' recovery")
    again = Shared(v)
    assert len(again.sh(v.bob, "cat f").out_bytes) == 200000


def test_who_may_make_a_shared_mount(both):
    r = both.mount(both.alice, "acme", PURPOSE, "--shared", check=REFUSED)
    assert "admin" in r.err, r
    both.coffer("suspend", "acme", "--reason", "incident")
    point = both.alice.mkdir("s")
    r = both.coffer("mount", "acme", "--purpose", PURPOSE, "--ticket", TICKET, "--shared", point, check=REFUSED)
    assert "suspended" in r.err, r
    both.coffer("resume", "acme", "--reason", "over")
    r = both.coffer("mount", "acme", "--purpose", "fraud-prevention", "--shared", point, check=REFUSED)
    assert "ticket" in r.err, r  # nobody could come in


def test_suspension_ends_the_shared_mount(shared):
    v = shared.vault
    shared.sh(v.alice, "echo x > f")
    v.coffer("suspend", "acme", "--reason", "incident")
    assert v.rows("sessions") == []
    wait_for(lambda: not any(p == shared.point for p, _, _ in harness.mounts_below(shared.point)), "the mount's end")


def test_a_loop_of_a_stranger_does_not_fill_the_record(shared):
    v = shared.vault
    r = harness.run(["/bin/bash", "-c", f"for i in $(seq 200); do ls {shared.point}; done 2>&1 | sort | uniq -c"],
                    user=v.carol)
    assert "200" in r.out and "denied" in r.out, r
    assert len([r for r in v.log("--user", v.carol.name) if r["op"] == "refused"]) == 1


def test_many_come_at_once(shared):
    """Requests wait for a decision while others are served; nobody is refused by chance."""
    v = shared.vault
    crowd = [v.actor(u) for u in (v.alice, v.bob) * 6]
    for n, a in enumerate(crowd):
        a.p.stdin.write(b"")  # started
    script = f"import threading\nbad = []\ndef one(n):\n try: os.listdir({shared.path()!r})\n except OSError as e: bad.append(e.errno)\n" \
             "ts = [threading.Thread(target=one, args=(n,)) for n in range(8)]\n[t.start() for t in ts]; [t.join() for t in ts]"
    for a in crowd:
        a.do(script)
        assert a.get("bad") == []
    assert set(shared.members()) == {v.alice.name, v.bob.name}


def test_a_grant_for_a_node_lets_in(both):
    """A grant for a purpose above the mount's is one for it, for the kernel's access list, too; a sibling's is none."""
    both.grant("acme", both.carol, "services", "r")
    both.grant("acme", "ct_team", "marketing", "r", "--group")
    s = Shared(both)
    s.sh(both.alice, "echo x > f; chmod 644 f")
    assert s.errno(both.carol, "assert open(P + '/f').read() == 'x\\n'") == 0
    both.revoke("acme", both.carol)
    wait_for(lambda: s.errno(both.carol, "open(P + '/f')") != 0, "the end of the node's grant", limit=5)
