"""What POSIX and Linux ask of a file system, as cases whose results are printed: run on a share and on the local disk, the
results must be equal (test_posix.py).

Arguments: a directory to work in, which is made; then the names of cases (none: all).  Prints one JSON object,
case -> [[what, result]...]; a result is a value, or the name of an errno.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import shutil
import signal
import socket
import stat
import struct
import sys
import time

CASES = {}
log = []
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
O_TMPFILE = os.O_TMPFILE
EDGES = sorted({b + d for b in (0, 4032, 4096, 8064, 8192, 12096, 12288) for d in (-2, -1, 0, 1, 2) if b + d >= 0})


def case(f):
    CASES[f.__name__] = f
    return f


def check(what, call, *args, **kw):
    """Does it, and notes the result: a value, True for None, or the errno's name."""
    try:
        value = call(*args, **kw)
        value = True if value is None else value
    except OSError as e:
        value = errno.errorcode.get(e.errno, e.errno)
    except ValueError as e:
        value = str(e)
    if isinstance(value, bytes):
        value = repr(value) if len(value) < 80 else [len(value), hash_of(value)]
    log.append([what, value])
    return value


def hash_of(data):
    import zlib
    return zlib.crc32(data)


def sys_call(name, *args):
    """A function of libc that returns -1 and errno."""
    ctypes.set_errno(0)
    r = getattr(libc, name)(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), name)
    return r


def rename2(a, b, flags):
    sys_call("renameat2", AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags)


def link_fd(fd, name):
    """os.link does not follow the last symlink, whatever it is told."""
    sys_call("linkat", AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(name), AT_SYMLINK_FOLLOW)


def fallocate(fd, mode, at, n):
    sys_call("fallocate", fd, mode, at, n)


def write(name, data=b"x", mode="wb"):
    with open(name, mode) as f:
        f.write(data)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def opened(name, flags, mode=0o644):
    """Whether an open works; closes it."""
    os.close(os.open(name, flags, mode))


def with_fd(name, flags, f, mode=0o644):
    fd = os.open(name, flags, mode)
    try:
        return f(fd)
    finally:
        os.close(fd)


def child(f):
    """Runs f in another process: its value, or the errno's name; or "signal N"."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            value = f()
        except OSError as e:
            value = errno.errorcode[e.errno]
        os.write(w, json.dumps(value).encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return json.loads(data) if data else f"signal {os.WTERMSIG(status)}"


def kind_of(name):
    st = os.lstat(name)
    return stat.filemode(st.st_mode)[0] + (str(st.st_nlink) if not stat.S_ISDIR(st.st_mode) else "")
