"""Everything POSIX and Linux ask of a file system, done on a share and on the local disk: every result and errno must be equal."""
import concurrent.futures
import glob
import json
import os

import pytest

import harness

SCRIPT = "\n\n".join(open(p).read() for p in sorted(glob.glob(os.path.join(harness.HERE, "posix", "*.py"))))
# Where a share says something else, and may: (case, what) -> its result.
EXPECTED = {
    ("sparse", "all hole"): 9999360,  # the last sector of a file is always there: it carries the size
    ("sparse", "SEEK_SET far"): 1 << 50,  # the kernel asks nobody, and FUSE has no largest offset
    ("modes", "open p 0"): True,  # the kernel opens a fifo itself and asks nobody; only its owner gets this far
    ("modes", "open p 1"): True,
    # names the kernel has looked up are not asked for again; the owner of a private mount could give himself the right back
    **{("modes", f"stat in {m}"): 1 for m in (0, 200, 400, 600)},
    ("xattrs", "acl"): "ENOTSUP",  # a private mount has no access lists
    # nobody asked for that close to be told when the file was opened: see DESIGN, "where a share differs"
    ("read_only_locks", "first lock of all, own second descriptor closed"): ["EAGAIN", "EAGAIN", True],
    ("unlinked_open", "symlink read"): "ESTALE",  # the kernel asks by number, and the text went with the name
}


def run_cases(user, where, cases):
    """case -> its results; broken off where the script was."""
    return json.loads(user.python(SCRIPT, where, *cases, timeout=60, cwd="/").out)


def run_case(user, where, case):
    return run_cases(user, where, [case])[case]


def cases():
    return [line[4:].split("(")[0] for before, line in zip(SCRIPT.splitlines(), SCRIPT.splitlines()[1:])
            if before == "@case" and line.startswith("def ")]


@pytest.mark.parametrize("case", cases())
def test_as_on_the_local_disk(shared_share, case):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ours, local = pool.map(lambda top: run_case(shared_share.user, f"{top}/t-{case}", case),
                               (shared_share.point, shared_share.user.home))
    wrong = [f"{a}: {b[1]} on the local disk" for a, b in zip(ours, local)
             if a != b and (a[0] != b[0] or EXPECTED.get((case, a[0])) != a[1])]
    assert not wrong, "\n".join(wrong[:60])
    assert len(ours) == len(local)
    assert local[-1][0] != "the case broke off", local[-1]


def test_direct_io_without_alignment(shared_share):
    """More than a local disk gives: any address, length and offset."""
    shared_share.python("""
import mmap, os
data = os.urandom(30_000)
open("direct", "wb").write(data)
fd = os.open("direct", os.O_RDWR | os.O_DIRECT)
buf = bytearray(9000)
for at, n in ((0, 1), (1, 5000), (4031, 2), (4032, 4032), (29_990, 100), (30_000, 5)):
    view = memoryview(buf)[3:3 + n]
    assert os.preadv(fd, [view], at) == len(data[at:at + n]) and view[:len(data[at:at + n])] == data[at:at + n], (at, n)
want = bytearray(data)
for at, n in ((7, 1), (4000, 100), (8063, 3), (29_999, 10)):
    assert os.pwrite(fd, b"D" * n, at) == n
    want[at:at + n] = b"D" * n
assert open("direct", "rb").read() == want
""")
