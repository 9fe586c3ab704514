"""A user who mounts by himself, keeps a duplicate of his /dev/fuse descriptor and answers requests with forged numbers.

Arguments: state directory, client, purpose, ticket, mount point, seconds.  Prints JSON: what was stolen and forged.
Everything here is what an ordinary user may do; the programs under test must not be harmed by it.
"""
import array
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

state, client, purpose, ticket, point, seconds = sys.argv[1:7]
NODES = [0xdead0000, 0xffffffffffffffff, 0x7fffffffffffffff, 2, 3, 4, 1 << 32, (1 << 32) | 1, 0x4141414141414141, 0]
HANDLES = [0xdead0018, 0, 1, 2, 0xffffffffffffffff, 1 << 32, 0x4242424242424242]
LOOKUP, GETATTR, OPEN, READ, OPENDIR, CREATE = 1, 3, 14, 15, 27, 35
count = {"stolen": 0, "forged_nodes": 0, "forged_handles": 0}


def call(sock, method, parameters, fds=()):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(f"{state}/run/{sock}.sock")
    message = json.dumps({"method": f"org.coffer.{sock}.{method}", "parameters": parameters}).encode() + b"\0"
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([message], ancillary)
    data = b""
    while not data.endswith(b"\0"):
        more = s.recv(65536)
        if not more:
            raise SystemExit(f"{method}: no answer")
        data += more
    reply = json.loads(data.rstrip(b"\0"))
    if reply.get("error"):
        raise SystemExit(f"{method}: {reply}")
    return reply["parameters"]


def mount():
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    subprocess.run(["fusermount3", "-o", f"fsname=coffer:{client},subtype=coffer,nosuid,nodev,max_read=1048576", "--", point],
                   env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()], check=True)
    fds = array.array("i")
    _, ancillary, _, _ = ours.recvmsg(1, 100)
    fds.frombytes(ancillary[0][2][:4])
    return fds[0]


def attributes(ino, mode):
    now = int(time.time())
    return struct.pack("<6Q10I", ino, 100000, 200, now, now, now, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def entry(node, mode):
    return struct.pack("<4Q2I", node, 1, 86400, 86400, 0, 0) + attributes(node, mode)


def answer(n, opcode):
    """A forged reply's body, or an errno."""
    node, handle = NODES[n % len(NODES)], HANDLES[n % len(HANDLES)]
    if opcode == LOOKUP:
        count["forged_nodes"] += 1
        return entry(node, 0o40700 if n % 3 == 0 else 0o100600)
    if opcode == GETATTR:
        return struct.pack("<Q2I", 86400, 0, 0) + attributes(1, 0o40700)
    if opcode in (OPEN, OPENDIR):
        count["forged_handles"] += 1
        return struct.pack("<Q2I", handle, 0, 0)
    if opcode == CREATE:
        count["forged_nodes"] += 1
        count["forged_handles"] += 1
        return entry(node, 0o100600) + struct.pack("<Q2I", handle, 0, 0)
    return 38 if n % 2 else 5


VICTIM = """
import os, sys, random
rnd = random.Random(int(sys.argv[2]))
while True:
    n = "%s/x%d" % (sys.argv[1], rnd.randrange(10 ** 9))
    try:
        k = rnd.randrange(4)
        if k == 0: os.stat(n)
        elif k == 1:
            fd = os.open(n, os.O_RDWR); os.pread(fd, 100000, 0); os.pwrite(fd, b"x" * 5000, 3); os.fsync(fd); os.close(fd)
        elif k == 2:
            fd = os.open(n, os.O_RDWR | os.O_CREAT); os.pwrite(fd, b"x", 0); os.pread(fd, 10, 0); os.ftruncate(fd, 7); os.close(fd)
        else: os.listdir(n)
    except OSError: pass
"""

session = call("keyd", "Mount", {"client": client, "purpose": purpose, "ticket": ticket})
fuse = mount()
keeper, theirs = socket.socketpair()
kept = os.dup(fuse)
call("fsd", "Attach", {"session": session["session"], "token": session["token"], "mountpoint": point},
     [fuse, theirs.fileno()])
os.close(fuse)
theirs.close()
os.set_blocking(kept, False)
victims = [subprocess.Popen([sys.executable, "-c", VICTIM, point, str(i)], start_new_session=True) for i in range(3)]
end = time.monotonic() + float(seconds)
try:
    while time.monotonic() < end:
        if not select.select([kept], [], [], 0.05)[0]:
            continue
        try:
            request = os.read(kept, 2 << 20)
        except BlockingIOError:
            continue
        except OSError:
            break  # the session was ended: as good a defence as any
        length, opcode, unique, nodeid = struct.unpack_from("<IIQQ", request)
        count["stolen"] += 1
        if opcode in (2, 42, 36):
            continue  # FORGET, BATCH_FORGET, INTERRUPT want no answer
        body = answer(count["stolen"], opcode)
        reply = struct.pack("<IiQ", 16, -body, unique) if isinstance(body, int) else \
            struct.pack("<IiQ", 16 + len(body), 0, unique) + body
        try:
            os.write(kept, reply)
        except OSError:
            pass
finally:
    for v in victims:
        v.send_signal(signal.SIGKILL)
    subprocess.run(["fusermount3", "-u", "-z", "--", point], stderr=subprocess.DEVNULL)
    os.close(kept)
    keeper.close()
print(json.dumps(count))
