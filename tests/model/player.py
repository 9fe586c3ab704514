"""Plays single operations in a directory and says what came of each: in a share, and on the local disk beside it.

Reads one operation a line (JSON), answers one line: a value, or the name of an errno.  The same text runs for both, so that
results can be compared; only what both must have in common is in a result.  Handles are numbered by the driver; the player
on the local disk plays for all sessions, one in a share only for its own.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import stat
import struct
import sys
import zlib

libc = ctypes.CDLL(None, use_errno=True)
handles = {}
ALONE = "alone" in sys.argv
OLD = 10**18  # a time below it was set by utime and must be kept; one above is of now


def sys_call(name, *args):
    ctypes.set_errno(0)
    r = getattr(libc, name)(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), name)


def data(n, seed):
    return random.Random(seed).randbytes(n)


def crc(b):
    return [len(b), zlib.crc32(b)]


def close_all():
    for fd in handles.values():
        os.close(fd)
    handles.clear()


def about(st):
    kind = stat.S_IFMT(st.st_mode)
    row = [oct(st.st_mode), st.st_mtime_ns if st.st_mtime_ns < OLD else "now"]
    return row if kind == stat.S_IFDIR else row + [st.st_nlink, st.st_size]


def regions(fd):
    """What is in a hole reads as zeros, and data and holes alternate to the end."""
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            start = size
        if os.pread(fd, start - at, at).strip(b"\0"):
            return f"data in a hole between {at} and {start}"
        if start == size:
            return "good"
        at = os.lseek(fd, start, os.SEEK_HOLE)
        if not start < at <= size:
            return f"hole at {at} after data at {start} of {size}"
    return "good"


def tree(top="."):
    rows = []
    for d, dirs, files in os.walk(top):
        for n in dirs + files:
            p = os.path.join(d, n)
            st = os.lstat(p)
            what = ""
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(p)
            elif stat.S_ISREG(st.st_mode) and st.st_mode & 0o400:
                with open(p, "rb") as f:
                    what = crc(f.read())
            rows.append([p, what, *about(st)])
    return sorted(rows, key=lambda r: r[0])


def mapped(fd, at, n, seed):
    size = os.fstat(fd).st_size
    if at >= size:
        return "beyond"
    n = min(n, size - at)
    with mmap.mmap(fd, size) as m:
        if seed:
            m[at:at + n] = data(n, seed)
            m.flush()
        return crc(m[at:at + n])


def no_directory(fd):
    """Locks of directories do not reach another session, a removed one takes no times and attributes (DESIGN), and its size is
    what ext4 says of it: 0 from then on."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.EISDIR, "a directory")
    return fd


def lock(fd, kind):
    no_directory(fd)
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))


def no_fifo(path):
    """A fifo joins only programs of one mount."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise OSError(errno.ESPIPE, "a fifo")


def searchable(st, mode):
    """A directory keeps its search right: names the kernel has cached are not asked for again (DESIGN)."""
    return mode | 0o100 if stat.S_ISDIR(st.st_mode) else mode


def cut(o, st, how):
    """In an exclusive mount times are the kernel's, and to it a cut to the same size changes nothing (test_exclusive)."""
    if ALONE and stat.S_ISREG(st().st_mode) and st().st_size == o["n"]:
        raise OSError(errno.EALREADY, "has this size")
    how(o["n"])


def begun(o):
    close_all()
    made = not os.path.exists(o["p"])
    os.makedirs(o["p"], exist_ok=True)
    if made and "mode" in o:
        os.chmod(o["p"], o["mode"])
    os.chdir(o["p"])


def opened(o):
    no_fifo(o["p"])
    fd = os.open(o["p"], o["flags"] | os.O_CLOEXEC | os.O_NONBLOCK, o.get("mode", 0o644))
    put(o, fd)


def put(o, fd):
    if o["h"] in handles:
        os.close(handles[o["h"]])
    handles[o["h"]] = fd


def copied(o):
    os.fstat(handles[o["h"]])  # the kernel itself looks at the size that it knows: DESIGN
    return os.copy_file_range(handles[o["h"]], handles[o["g"]], o["n"], o["at"], o["to"])


OPS = {
    "open": opened,
    "close": lambda o: os.close(handles.pop(o["h"])),
    "tmpfile": lambda o: put(o, os.open(o["p"], os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)),
    "name": lambda o: sys_call("linkat", -100, b"/proc/self/fd/%d" % handles[o["h"]], -100, os.fsencode(o["p"]), 0x400),
    "write": lambda o: os.pwrite(handles[o["h"]], data(o["n"], o["seed"]), o["at"]),
    "read": lambda o: crc(os.pread(handles[o["h"]], o["n"], o["at"])),
    "ftruncate": lambda o: cut(o, lambda: os.fstat(handles[o["h"]]), lambda n: os.ftruncate(handles[o["h"]], n)),
    "truncate": lambda o: cut(o, lambda: os.stat(o["p"]), lambda n: os.truncate(o["p"], n)),
    "fallocate": lambda o: sys_call("fallocate", handles[o["h"]], o["mode"], o["at"], o["n"]),
    "map": lambda o: mapped(no_directory(handles[o["h"]]), o["at"], o["n"], o["seed"]),
    "regions": lambda o: regions(no_directory(handles[o["h"]])),
    "fsync": lambda o: os.fsync(handles[o["h"]]),
    "copy": copied,
    "fstat": lambda o: about(os.fstat(handles[o["h"]])),
    "fchmod": lambda o: os.fchmod(handles[o["h"]], searchable(os.fstat(handles[o["h"]]), o["mode"])),
    "futime": lambda o: os.utime(no_directory(handles[o["h"]]), ns=(o["n"], o["n"])),
    "setfl": lambda o: fcntl.fcntl(handles[o["h"]], fcntl.F_SETFL, o["flags"]),
    "lock": lambda o: lock(handles[o["h"]], o["kind"]),
    "flock": lambda o: fcntl.flock(no_directory(handles[o["h"]]), o["kind"]),
    "fsetxattr": lambda o: os.setxattr(no_directory(handles[o["h"]]), o["k"], data(o["n"], o["seed"])),
    "save": lambda o: save(o["p"], data(o["n"], o["seed"])),
    "stat": lambda o: about(os.lstat(o["p"])),
    "look": lambda o: about(os.stat(o["p"])),
    "cat": lambda o: crc(cat(o["p"])),
    "list": lambda o: sorted(os.listdir(o["p"])),
    "rename": lambda o: sys_call("renameat2", -100, os.fsencode(o["p"]), -100, os.fsencode(o["q"]), o["flags"]),
    "link": lambda o: os.link(o["p"], o["q"], follow_symlinks=False),
    "symlink": lambda o: os.symlink(o["text"], o["p"]),
    "readlink": lambda o: os.readlink(o["p"]),
    "unlink": lambda o: os.unlink(o["p"]),
    "mkdir": lambda o: os.mkdir(o["p"]),
    "rmdir": lambda o: os.rmdir(o["p"]),
    "mkfifo": lambda o: os.mkfifo(o["p"]),
    "chmod": lambda o: os.chmod(o["p"], searchable(os.stat(o["p"]), o["mode"])),
    "utime": lambda o: os.utime(o["p"], ns=(o["n"], o["n"])),
    "setxattr": lambda o: os.setxattr(o["p"], o["k"], data(o["n"], o["seed"]), o["flags"]),
    "getxattr": lambda o: crc(os.getxattr(o["p"], o["k"])),
    "listxattr": lambda o: sorted(os.listxattr(o["p"])),
    "removexattr": lambda o: os.removexattr(o["p"], o["k"]),
    "tree": lambda o: tree(),
    "begin": begun,
    "forget": lambda o: [os.close(handles.pop(h)) for h in o["handles"] if h in handles] and None,
    "barrier": lambda o: os.utime(o["p"], ns=(o["n"], o["n"])),
    "reached": lambda o: os.stat(o["p"]).st_mtime_ns,
    "set up": lambda o: open(o["p"], "a").close(),
}


def save(path, content):
    no_fifo(path)
    with open(path, "wb") as f:
        f.write(content)


def cat(path):
    no_fifo(path)
    with open(path, "rb") as f:
        return f.read()


os.umask(0o022)
for line in sys.stdin:
    o = json.loads(line)
    try:
        answer = OPS[o["op"]](o)
    except OSError as e:
        answer = errno.errorcode[e.errno]
    except KeyError as e:
        answer = f"no handle {e}"
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
