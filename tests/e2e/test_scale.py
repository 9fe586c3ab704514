"""What grows with the data stays bounded, and is right while it is bounded."""
import errno
import os
import re

import pytest

FILES, FOLDERS, LIMIT = 6000, 60, 1024


@pytest.fixture
def small(make_vault):
    """A share whose worker keeps few inodes."""
    v = make_vault(up=False)
    v.up(env={"COFFER_INODES": str(LIMIT), "COFFER_LOG": "debug"})
    v.add()
    v.grant("acme", v.alice)
    return v.mount(v.alice)


def known(vault):
    """What each session knew whenever there were too many."""
    return [int(n) for n in re.findall(r"knows (\d+) inodes", vault.logs())]


def test_inodes_are_bounded_and_what_is_used_stays(small):
    small.python(f"""
import os
for d in range({FOLDERS}):
    os.mkdir(f"d{{d}}")
    for i in range({FILES // FOLDERS}):
        os.close(os.open(f"d{{d}}/f{{i}}", os.O_CREAT | os.O_WRONLY))
open("d0/f0", "w").write("still here")
""", timeout=60)
    a = small.vault.actor(small.user, small.path("d1"))
    a.do("import os, mmap")
    a.do("fd = os.open('../d0/f0', os.O_RDWR); m = mmap.mmap(fd, 10, mmap.MAP_PRIVATE)")
    seen = small.sh("find . -size -1 -type f | wc -l; find . -ls | wc -l", timeout=60).out.split()
    assert [int(n) for n in seen] == [FILES - 1, 1 + FOLDERS + FILES]
    peaks = known(small.vault)
    assert peaks, "nothing was ever too much"
    assert max(peaks) < FILES // 2, peaks
    # a working directory, an open file and a mapping outlive it
    assert a.get("os.getcwd()") == small.path("d1")
    assert a.get("len(os.listdir('.'))") == FILES // FOLDERS
    assert a.get("os.pread(fd, 100, 0)") == b"still here"
    assert a.get("bytes(m)") == b"still here"
    assert a.get("os.readlink('/proc/self/fd/%d' % fd)") == small.path("d0/f0")
    assert small.read("d0/f0") == b"still here"
    a.stop()
    assert small.unmount().rc == 0


def test_two_sessions_share_the_bound(small):
    v = small.vault
    v.grant("acme", v.bob)
    other = v.mount(v.bob)
    small.python("import os\nfor i in range(3000): os.close(os.open(f'f{i}', os.O_CREAT | os.O_WRONLY, 0o644))", timeout=60)
    assert other.sh("ls -l | wc -l", timeout=60).out.split() == ["3001"]
    small.sh("rm f1; echo new >f2", timeout=60)
    assert other.errno("open('f1')") == errno.ENOENT
    assert other.sh("ls | wc -l").out.split() == ["2999"]
    peaks = known(v)
    assert peaks and max(peaks) < 2500, peaks
    for m in (small, other):
        assert m.unmount().rc == 0
        assert not os.path.ismount(m.point)
