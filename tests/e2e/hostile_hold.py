"""A user who keeps a duplicate of his /dev/fuse descriptor, takes one READ from it and never answers: the page that it is for
stays locked in the kernel, and whoever wants to invalidate it waits.

Arguments: state directory, client, purpose, ticket, mount point, seconds.  Prints "held" when he has it, then holds it.
"""
import array
import json
import os
import socket
import struct
import subprocess
import sys
import time

state, client, purpose, ticket, point, seconds = sys.argv[1:7]
READ = 15


def call(sock, method, parameters, fds=()):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(f"{state}/run/{sock}.sock")
    message = json.dumps({"method": f"org.coffer.{sock}.{method}", "parameters": parameters}).encode() + b"\0"
    s.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
    data = b""
    while not data.endswith(b"\0"):
        data += s.recv(65536)
    return json.loads(data.rstrip(b"\0"))["parameters"]


ours, theirs = socket.socketpair()
os.set_inheritable(theirs.fileno(), True)
session = call("keyd", "Mount", {"client": client, "purpose": purpose, "ticket": ticket})
subprocess.run(["fusermount3", "-o", f"fsname=coffer:{client},subtype=coffer,nosuid,nodev,max_read=1048576", "--", point],
               env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()], check=True)
fds = array.array("i")
fds.frombytes(ours.recvmsg(1, 100)[1][0][2][:4])
fuse = fds[0]
kept = os.dup(fuse)
keeper, other = socket.socketpair()
call("fsd", "Attach", {"session": session["session"], "token": session["token"], "mountpoint": point}, [fuse, other.fileno()])
os.close(fuse)
other.close()
os.set_blocking(kept, False)
with open(point + "/bait", "wb") as f:
    f.write(b"x" * 400000)
READER = """
import os, random, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
while True:
    os.posix_fadvise(fd, 0, 0, 4)  # DONTNEED: so that it must be read again
    try: os.pread(fd, 4096, random.randrange(0, 399999))
    except OSError: pass
"""
readers = [subprocess.Popen([sys.executable, "-c", READER, point + "/bait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True) for _ in range(4)]
for r in readers:
    assert r.stdout.readline() == "open\n"
for r in readers:  # from now on nearly all requests are READs; the worker is quicker for most of them
    print("go", file=r.stdin, flush=True)
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    try:
        request = os.read(kept, 2 << 20)
    except BlockingIOError:
        continue
    except OSError:
        raise SystemExit("the session ended before a READ was taken")
    _, opcode, unique, _ = struct.unpack_from("<IIQQ", request)
    if opcode == READ:
        print("held", flush=True)
        time.sleep(max(0, end - time.monotonic()))
    elif opcode not in (2, 42, 36):
        os.write(kept, struct.pack("<IiQ", 16, -5, unique))
for r in readers:
    r.kill()
