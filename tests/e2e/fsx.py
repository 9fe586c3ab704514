"""Random operations on one file in a share and on a twin on the local disk; after each, both must say the same.

Arguments: file, twin, seed, operations.  Prints what it did last when they differ.
"""
import ctypes
import mmap
import os
import random
import sys

path, twin, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rnd = random.Random(seed)
LIMIT = 300_000  # many sectors, few enough to be quick
libc = ctypes.CDLL(None, use_errno=True)
done = []


def open_both(flags=os.O_RDWR | os.O_CREAT):
    return os.open(path, flags, 0o644), os.open(twin, flags, 0o644)


def both(f):
    a, b = f(fds[0]), f(fds[1])
    if a != b:
        print(f"seed {seed}: they differ after", *done[-12:], sep="\n  ")
        if isinstance(a, bytes):
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            print(f"at {at}: {a[at:at + 16]!r} instead of {b[at:at + 16]!r}; lengths {len(a)}, {len(b)}")
        else:
            print(a, "instead of", b)
        sys.exit(1)
    return a


def offset():
    """Near borders of sectors (4032 bytes of content, pages of 4096) as often as anywhere."""
    if rnd.random() < 0.5:
        return max(0, rnd.choice((4032, 4096)) * rnd.randrange(70) + rnd.randrange(-3, 4))
    return rnd.randrange(LIMIT)


def length():
    return rnd.choice((1, 2, 63, 64, 4031, 4032, 4033, 4096, rnd.randrange(1, 70_000)))


def do_write():
    at, data = offset(), rnd.randbytes(length())
    done.append(f"write {len(data)} at {at}")
    both(lambda fd: os.pwrite(fd, data, at))


def do_append():
    data = rnd.randbytes(rnd.randrange(1, 9000))
    done.append(f"append {len(data)}")
    for p in (path, twin):
        fd = os.open(p, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)


def do_read():
    at, n = offset(), length()
    done.append(f"read {n} at {at}")
    both(lambda fd: os.pread(fd, n, at))


def do_truncate():
    size = offset()
    done.append(f"truncate to {size}")
    both(lambda fd: os.ftruncate(fd, size))


def do_map():
    size = os.fstat(fds[1]).st_size
    if not size:
        return
    at = rnd.randrange(size)
    data = rnd.randbytes(min(rnd.randrange(1, 9000), size - at))
    done.append(f"write {len(data)} at {at} through a mapping")
    for fd in fds:
        with mmap.mmap(fd, size) as m:
            m[at:at + len(data)] = data
            m.flush()


def do_hole():
    at, n = offset(), length()
    done.append(f"punch {n} at {at}")
    both(lambda fd: libc.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(n)) and ctypes.get_errno())


def do_grow():
    at, n = offset(), length()
    done.append(f"allocate {n} at {at}")
    both(lambda fd: libc.fallocate(fd, 0, ctypes.c_long(at), ctypes.c_long(n)) and ctypes.get_errno())


def do_reopen():
    global fds
    done.append("close and open")
    for fd in fds:
        os.close(fd)
    fds = open_both()


def do_sync():
    done.append("fsync")
    both(os.fsync)


def do_check():
    done.append("check")
    both(lambda fd: os.fstat(fd).st_size)
    both(lambda fd: os.pread(fd, LIMIT * 2, 0))


fds = open_both()
operations = [do_write] * 6 + [do_append] * 2 + [do_read] * 6 + [do_truncate] * 2 + [do_map] + [do_reopen] + [do_sync]
if libc.fallocate(fds[0], 3, ctypes.c_long(0), ctypes.c_long(1)) == 0:
    operations += [do_hole]
if libc.fallocate(fds[0], 0, ctypes.c_long(0), ctypes.c_long(1)) == 0:
    libc.fallocate(fds[1], 0, ctypes.c_long(0), ctypes.c_long(1))
    operations += [do_grow]
for i in range(count):
    rnd.choice(operations)()
    if i % 50 == 0:
        do_check()
do_check()
