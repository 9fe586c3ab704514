"""The mounting user owns the connection to his kernel and may forge what comes through it: he must not harm the worker, reach
another session, or go unrecorded."""
import json
import os
import subprocess
import time

import pytest

import harness
from harness import PURPOSE, TICKET, kill9, wait_for

HOSTILE = open(os.path.join(harness.HERE, "hostile.py")).read()

NAMESPACE = """
# Mounts fuse in a user namespace of his own (as uid 0 there) and hands the descriptor to the daemon.
import ctypes, json, os, socket, sys, array
state, client, purpose, ticket, point = sys.argv[1:6]
libc = ctypes.CDLL(None, use_errno=True)

def call(sock, method, parameters, fds=()):
    s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(f"{state}/run/{sock}.sock")
    m = json.dumps({"method": f"org.coffer.{sock}.{method}", "parameters": parameters}).encode() + b"\\0"
    s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    data = b""
    while not data.endswith(b"\\0"):
        more = s.recv(65536)
        if not more: return {"error": "closed"}
        data += more
    return json.loads(data.rstrip(b"\\0"))

uid = os.getuid()
session = call("keyd", "Mount", {"client": client, "purpose": purpose, "ticket": ticket})["parameters"]
gid = os.getgid()
if libc.unshare(0x10000000 | 0x00020000):
    print(json.dumps({"skip": os.strerror(ctypes.get_errno())})); sys.exit()
open("/proc/self/setgroups", "w").write("deny")
open("/proc/self/uid_map", "w").write(f"0 {uid} 1"); open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"coffer", point.encode(), b"fuse.coffer", 6, options):
    print(json.dumps({"skip": os.strerror(ctypes.get_errno())})); sys.exit()
ours, theirs = socket.socketpair()
reply = call("fsd", "Attach", {"session": session["session"], "token": session["token"], "mountpoint": point}, [fuse, theirs.fileno()])
os.close(fuse); theirs.close()
got = {"attach": reply.get("error"), "read": None, "made": None}
if not reply.get("error"):
    try: got["read"] = open(point + "/secret").read()
    except OSError as e: got["read_errno"] = e.errno
    try: open(point + "/made", "w").write("x"); got["made"] = True
    except OSError as e: got["made_errno"] = e.errno
print(json.dumps(got))
"""


@pytest.mark.limit(120)
@pytest.mark.sanitize
def test_forged_replies_through_a_kept_descriptor(acme):
    """Forged node ids and handles reach the worker as requests: it refuses and records them, and another session of the same
    client goes on undisturbed."""
    acme.grant("acme", acme.bob)
    other = acme.mount(acme.bob)
    other.write("f", "bob's")
    pid = other.worker()
    point = acme.alice.mkdir("forged")
    r = acme.alice.python(HOSTILE, acme.dir, "acme", PURPOSE, TICKET, point, "4", timeout=60)
    count = json.loads(r.out)
    assert count["forged_nodes"] > 20 and count["forged_handles"] > 5, count
    assert other.worker() == pid, "the worker died"
    assert other.read("f") == b"bob's"
    wait_for(lambda: len(acme.rows("sessions")) == 1, "the forged session's end")
    assert any(row["op"] == "refused" and row["user"] == acme.alice.name for row in acme.log("--user", acme.alice.name))
    assert other.sh("ls").out.split() == ["f"] or "f" in other.sh("ls").out.split()
    again = acme.mount(acme.alice)
    again.write("after", "works")
    assert other.read("after") == b"works"


def test_a_mount_in_a_user_namespace_gains_nothing(acme):
    """Requests then carry uid 0 of the user's own namespace: refused, or served as nobody else than him."""
    m = acme.mount(acme.alice)
    m.write("secret", "of alice")
    acme.grant("acme", acme.bob, PURPOSE, "r")
    point = acme.bob.mkdir("ns")
    r = acme.bob.python(NAMESPACE, acme.dir, "acme", PURPOSE, TICKET, point, timeout=40)
    got = json.loads(r.out)
    if "skip" in got:
        pytest.skip("no user namespaces for users here: " + got["skip"])
    assert not got.get("made"), "a read grant wrote"
    # bob has the right to read: whatever was served is recorded as his, never as root's
    if got.get("read"):
        rows = [x for x in acme.log() if x["op"] == "open" and "secret" in str(x.get("path"))]
        assert rows and rows[-1]["user"] == acme.bob.name
    assert m.read("secret") == b"of alice"


def test_a_token_is_good_once(acme):
    """The same token with a second descriptor is refused."""
    from test_mount import call
    reply = call(acme.alice, acme.dir + "/run/keyd.sock", "org.coffer.keyd.Mount",
                 {"client": "acme", "purpose": PURPOSE, "ticket": TICKET})["parameters"]
    for _ in range(2):
        bad = call(acme.alice, acme.dir + "/run/fsd.sock", "org.coffer.fsd.Attach",
                   {"session": reply["session"], "token": "0" * len(str(reply["token"])), "mountpoint": acme.alice.home},
                   ["os.open('/dev/fuse', os.O_RDWR)", "socket.socketpair()[0]"])
        assert bad.get("error")
    acme.mount(acme.alice).write("f", "x")


def test_unattached_sessions_do_not_pile_up(acme):
    """Sessions asked for and never attached are bounded, and end by themselves or with the next."""
    from test_mount import call
    for _ in range(40):
        call(acme.alice, acme.dir + "/run/keyd.sock", "org.coffer.keyd.Mount",
             {"client": "acme", "purpose": PURPOSE, "ticket": TICKET})
    acme.mount(acme.alice).write("f", "x")
    assert len([s for s in acme.rows("sessions") if s.get("mountpoint")]) == 1


def test_a_user_who_kills_his_keeper(share):
    """The keeper is the user's to kill; what ends is his mount's tidy end, not the session's."""
    for pid, name in harness.our_processes(share.vault.base).items():
        if name == "coffer":
            kill9(pid)
    share.vault.revoke("acme", share.user)
    assert share.user.run("ls", share.point).rc != 0
    wait_for(lambda: share.vault.rows("sessions") == [], "the session's end")


HOLD = open(os.path.join(harness.HERE, "hostile_hold.py")).read()


@pytest.mark.limit(90)
def test_an_unanswered_read_spoils_no_other_session(acme):
    """The invalidation at the end of his session waits for the page; the other session of the client must not notice, and the
    client must be open to all again."""
    acme.grant("acme", acme.bob)
    other = acme.mount(acme.bob)
    other.write("f", "bob's")
    pid = other.worker()
    point = acme.alice.mkdir("held")
    p = subprocess.Popen(["/usr/bin/python3", "-c", HOLD, acme.dir, "acme", PURPOSE, TICKET, point, "30"], stdout=subprocess.PIPE,
                         text=True, start_new_session=True, **harness.identity(acme.alice))
    try:
        assert p.stdout.readline() == "held\n"
        began = time.monotonic()
        acme.revoke("acme", acme.alice)
        assert time.monotonic() - began < 5 * harness.SLOW
        assert other.worker() == pid and other.read("f") == b"bob's"
        assert all(s["user"] != acme.alice.name for s in acme.rows("sessions"))
        other.write("g", "goes on")
        acme.grant("acme", acme.alice)
        assert acme.mount(acme.alice).read("g") == b"goes on"
    finally:
        harness.stop_process(p)
