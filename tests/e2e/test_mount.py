"""What a mount is refused for, and what a mount keeps out."""
import fcntl
import json
import os
import socket
import stat
import struct

import pytest

import harness
from harness import FAILED, NOT_FOUND, OTHER_PURPOSE, PURPOSE, REFUSED, TICKET, USAGE, wait_for


def refused(v, user, *args, code=None, says=(), **kw):
    """The mount does not come about, the message says why, and nothing is left."""
    r = v.mount(user, *args, check=None, **kw)
    assert not isinstance(r, harness.Mount), "the mount came about"
    assert r.rc == code if code is not None else r.rc in (FAILED, REFUSED, NOT_FOUND, USAGE), r
    for word in says:
        assert word.lower() in r.err.lower(), r
    assert harness.mounts_below(user.home) == []
    wait_for(lambda: v.rows("sessions") == [], "sessions of refused mounts ending")
    return r


@pytest.mark.sanitize
def test_mount_work_unmount(acme):
    m = acme.mount(acme.alice)
    assert m.mounted()
    m.write("hello", "world")
    assert m.read("hello") == b"world"
    m.unmount()
    wait_for(lambda: not m.mounted(), "unmounting")
    wait_for(lambda: acme.rows("sessions") == [], "the session's end")
    wait_for(lambda: not acme.pids("worker"), "the worker's end with its last session")
    assert os.listdir(m.point) == []


def test_unmount_with_the_systems_own_tool(share):
    share.user.run("fusermount3", "-u", share.point, check=True)
    wait_for(lambda: share.vault.rows("sessions") == [], "the session's end")
    wait_for(lambda: not share.vault.pids("worker"), "the worker's end")


def test_mount_again_after_unmount(share):
    share.write("f", "1")
    share.unmount()
    again = share.vault.mount(share.user, point=share.point)
    assert again.read("f") == b"1"


def test_mount_is_named_for_its_client(share):
    with open("/proc/self/mountinfo") as f:
        row = next(line for line in f if f" {share.point} " in line)
    assert "fuse.coffer" in row and "coffer:acme" in row
    assert "nosuid" in row and "nodev" in row


def test_no_grant(acme):
    refused(acme, acme.bob, code=REFUSED, says=["acme", "coffer grant"])


def test_wrong_purpose(acme):
    refused(acme, acme.alice, "acme", OTHER_PURPOSE, code=REFUSED, says=[OTHER_PURPOSE])


def test_unknown_purpose(acme):
    refused(acme, acme.alice, "acme", "gossip", says=["gossip"])


def test_unknown_client(acme):
    refused(acme, acme.alice, "nobody", says=["nobody"])


def test_expired_grant(acme):
    acme.revoke("acme", acme.alice)
    r = acme.grant("acme", acme.alice, PURPOSE, "rw", "--until", "2020-01-01", check=None)
    # either a grant in the past is not taken, or it does not open
    refused(acme, acme.alice, code=REFUSED)
    assert r.rc in (0, FAILED, USAGE, REFUSED)


def test_more_rights_than_granted(acme):
    """A read grant mounts, but never writable (test_story covers what happens inside)."""
    acme.grant("acme", acme.bob, PURPOSE, "r")
    m = acme.mount(acme.bob)
    assert m.session()["rights"] == "r"


def test_mount_point_not_empty(acme):
    point = acme.alice.mkdir("full")
    acme.alice.sh("echo x > full/file")
    refused(acme, acme.alice, point=point, says=[point, "empty"])
    assert acme.alice.sh("cat full/file").out == "x\n"


def test_mount_point_of_somebody_else(acme):
    point = acme.bob.mkdir("bobs")
    refused(acme, acme.alice, point=point, says=[point])


def test_mount_point_missing(acme):
    refused(acme, acme.alice, point=acme.alice.home + "/missing", says=["missing"])


def test_mount_point_is_a_file(acme):
    acme.alice.sh("echo x > file")
    refused(acme, acme.alice, point=acme.alice.home + "/file", says=["file"])


def test_mount_point_already_mounted(share):
    r = share.vault.mount(share.user, point=share.point, check=None)
    assert not isinstance(r, harness.Mount) and r.rc in (FAILED, USAGE) and share.point in r.err, r
    share.write("still", "works")
    assert len(share.vault.rows("sessions")) == 1


def test_dead_mount_is_cleared_first(share):
    """A keeper that was killed leaves a dead mount; the next mount on it works without help."""
    for pid, name in harness.our_processes(share.vault.base).items():
        if name == "coffer":
            harness.kill9(pid)
    harness.kill9(share.worker())
    again = share.vault.mount(share.user, point=share.point)
    again.write("f", "x")
    assert again.read("f") == b"x"


def test_unmount_of_what_is_not_ours(acme):
    r = acme.coffer("unmount", acme.alice.mkdir("plain"), user=acme.alice, check=None)
    assert r.rc in (FAILED, NOT_FOUND) and "plain" in r.err, r


def test_root_cannot_look_inside(share):
    share.write("f", "private")
    for argv in (["ls", share.point], ["cat", share.path("f")], ["stat", share.path("f")]):
        r = harness.run(argv)
        assert r.rc != 0 and "ermission denied" in r.err, r


def test_other_user_cannot_look_inside(share):
    share.write("f", "private")
    assert share.vault.bob.run("cat", share.path("f")).rc != 0


def test_refusal_does_not_tell_strangers_the_clients_full_name(acme):
    assert "Acme Corp" not in acme.mount(acme.bob, "acme", check=REFUSED).err


# ---- forged descriptors, straight to the daemons ----

def call(user, sock, method, parameters, fds=()):
    """One Varlink call as the user, by a process of his; descriptors are opened by the script text in `fds`."""
    script = """
import array, json, os, socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
fds = [eval(f) for f in json.loads(sys.argv[4])]
ints = [f if isinstance(f, int) else f.fileno() for f in fds]
m = json.dumps({"method": sys.argv[2], "parameters": json.loads(sys.argv[3])}).encode() + b"\\0"
s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ints))] if ints else [])
data = b""
while not data.endswith(b"\\0"):
    more = s.recv(65536)
    if not more: break
    data += more
print(data.rstrip(b"\\0").decode() or "{}")
"""
    r = user.python(script, sock, method, json.dumps(parameters), json.dumps(list(fds)))
    return json.loads(r.out)


@pytest.fixture
def expected(acme):
    """A session that keyd has allowed and nobody has attached yet: (vault, session, token)."""
    reply = call(acme.alice, acme.dir + "/run/keyd.sock", "org.coffer.keyd.Mount",
                 {"client": "acme", "purpose": PURPOSE, "ticket": TICKET})
    assert "error" not in reply, reply
    return acme, reply["parameters"]["session"], reply["parameters"]["token"]


@pytest.mark.parametrize("fd", [
    "os.pipe()[0]",
    "os.open('/dev/null', os.O_RDWR)",
    "os.open('/dev/fuse', os.O_RDWR)",
    "os.open('/dev/fuse', os.O_PATH)",
    "os.open('/', os.O_RDONLY)",
    "socket.socketpair()[0]",
    "os.memfd_create('x')",
], ids=["pipe", "null", "unconnected", "o_path", "directory", "socketpair", "memfd"])
@pytest.mark.sanitize
def test_forged_descriptor_is_refused(expected, fd):
    v, session, token = expected
    reply = call(v.alice, v.dir + "/run/fsd.sock", "org.coffer.fsd.Attach",
                 {"session": session, "token": token, "mountpoint": v.alice.home}, [fd, "socket.socketpair()[0]"])
    assert reply.get("error"), reply
    m = v.mount(v.alice)  # and everything still works
    m.write("f", "x")
    assert m.read("f") == b"x"


def test_attach_without_descriptors_is_refused(expected):
    v, session, token = expected
    reply = call(v.alice, v.dir + "/run/fsd.sock", "org.coffer.fsd.Attach",
                 {"session": session, "token": token, "mountpoint": v.alice.home})
    assert reply.get("error"), reply
    v.mount(v.alice).write("f", "x")


def test_attach_by_another_user_is_refused(expected):
    """bob has learnt alice's session and token: they are hers only."""
    v, session, token = expected
    reply = call(v.bob, v.dir + "/run/fsd.sock", "org.coffer.fsd.Attach",
                 {"session": session, "token": token, "mountpoint": v.bob.home},
                 ["os.open('/dev/fuse', os.O_RDWR)", "socket.socketpair()[0]"])
    assert reply.get("error"), reply


@pytest.mark.parametrize("method", ["org.coffer.fsd.Record", "org.coffer.fsd.WorkerStarted", "org.coffer.fsd.Shutdown",
                                    "org.coffer.fsd.SessionExpected", "org.coffer.fsd.HeadSigned", "org.coffer.fsd.Nonsense"])
def test_keyds_own_methods_are_nobody_elses(acme, method):
    """Not even root's: the role is keyd's inherited socket."""
    for user in (acme.alice, None):
        argv_user = user or harness.User("root", "/root")
        reply = call(argv_user, acme.dir + "/run/fsd.sock", method, {"entries": [], "client": "acme"})
        assert reply.get("error"), (user, reply)
    assert acme.pids("fsd")


@pytest.mark.parametrize("garbage", [b"\0", b"x", b"{}\0", b"[]\0", b'{"method":1}\0', b'{"method":"' + b"a" * 70000 + b'"}\0',
                                     b"\xff" * 4096 + b"\0", b'{"method":"org.coffer.keyd.Status","parameters":[]}\0',
                                     b"{" * 100000 + b"\0"])
@pytest.mark.parametrize("sock", ["keyd", "fsd"])
def test_garbage_on_the_sockets(acme, sock, garbage):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(f"{acme.dir}/run/{sock}.sock")
    try:
        s.sendall(garbage)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        s.close()
    acme.status()
    acme.log()


def test_many_connections_do_not_lock_others_out(acme):
    """One user who opens connections without end is bounded; another is still served."""
    a = acme.actor(acme.bob)
    a.do("import socket; keep = []")
    a.do(f"""
for i in range(600):
    s = socket.socket(socket.AF_UNIX); s.settimeout(2)
    try: s.connect({acme.dir + '/run/keyd.sock'!r})
    except OSError: break
    keep.append(s)
""")
    acme.rows("shares", user=acme.alice)
    m = acme.mount(acme.alice)
    m.write("f", "x")


def test_mount_point_mode_is_the_users(share):
    st = share.python("import os; s = os.stat('.'); print(s.st_uid, oct(s.st_mode & 0o777))").out.split()
    assert int(st[0]) == share.user.uid
    assert stat.S_IRWXU & int(st[1], 8) == stat.S_IRWXU


def test_the_kernel_reads_ahead_as_far_as_a_request_goes(share):
    """By coffer-fsd, which may: it was started by root."""
    minor = [m for p, m, _ in harness.mounts_below(share.point)][0]
    with open(f"/sys/class/bdi/0:{minor}/read_ahead_kb") as f:
        assert f.read().strip() == "1024"


FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x00020000


def top_of_unrelated_trees(path, mark=False):
    """chattr's +T, as the disk has it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4])[0]
        if mark:
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("q", flags | FS_TOPDIR_FL))
            return top_of_unrelated_trees(path)
        return flags & FS_TOPDIR_FL != 0
    finally:
        os.close(fd)


def test_clients_and_the_folders_of_a_share_are_placed_apart(share, tmp_path):
    """Else each new file waits for all that were deleted near it (common/placement.h)."""
    try:
        known = top_of_unrelated_trees(tmp_path, mark=True)
    except OSError:
        known = False
    if not known:
        pytest.skip("this disk knows no such mark")
    assert top_of_unrelated_trees(share.vault.store())
    assert top_of_unrelated_trees(os.path.dirname(share.vault.store()))
