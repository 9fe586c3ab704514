"""A process that does what it is told, as an ordinary user, and keeps files open meanwhile.

Started by harness.Actor.  Reads pickled (kind, source) pairs on descriptor 0, answers (True, value) or (False, exception).
It is a real program for the kernel: its descriptors, mappings and locks are its own, and a SIGBUS kills it as it would kill
any other.
"""
import ctypes
import fcntl
import mmap
import os
import pickle
import struct
import sys

scope = {"os": os, "mmap": mmap, "fcntl": fcntl, "ctypes": ctypes, "struct": struct}


def put(answer):
    data = pickle.dumps(answer)
    os.write(1, struct.pack("<I", len(data)))
    while data:
        data = data[os.write(1, data):]


def get(n):
    data = b""
    while len(data) < n:
        more = os.read(0, n - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


while True:
    kind, source = pickle.loads(get(struct.unpack("<I", get(4))[0]))
    try:
        if kind == "get":
            put((True, eval(source, scope)))
        else:
            exec(source, scope)
            put((True, None))
    except BaseException as e:
        put((False, OSError(e.errno, e.strerror) if isinstance(e, OSError) else RuntimeError(repr(e))))
