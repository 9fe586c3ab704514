"""What the machine refuses under a session: writing to the store, and descriptors."""
import os
import resource

import pytest

import harness

FILES, FOLDERS = 20000, 1000
KEPT = 256  # DIRS_MAX of resolve.c


def proc_status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


@pytest.fixture
def remountable(acme):
    """A vault whose client's store is a bind mount; and a function that makes it read-only or writable: whether it could."""
    m = acme.mount(acme.alice)
    m.write("old", "what was there")
    m.unmount()
    store = acme.store()
    acme.down()
    if harness.run(["mount", "--bind", store, store]).rc:
        pytest.skip("no bind mounts here")
    acme.up()
    yield acme, lambda how: harness.run(["mount", "-o", f"remount,bind,{how}", store]).rc == 0
    acme.coffer("down", check=None, timeout=60)
    harness.run(["umount", "-l", store])


def test_store_becomes_read_only_under_a_session(remountable):
    """As a kernel does after an error: EROFS, nothing lost, and work goes on in the same session when it is writable again."""
    v, remount = remountable
    m = v.mount(v.alice)
    a = v.actor(v.alice, m.point)
    a.do("f = os.open('open', os.O_RDWR | os.O_CREAT)")
    a.do("os.write(f, b'1' * 10000)")
    a.do("os.fsync(f)")
    a.do("os.close(f)")  # with a file open for writing below, a kernel does not make a mount read-only
    harness.wait_for(lambda: remount("ro"), "the remount")
    for attempt in ("open('new', 'w')", "open('old', 'a')", "os.mkdir('d')", "os.unlink('old')", "os.rename('old', 'x')",
                    "os.truncate('open', 5)", "os.symlink('x', 'y')", "os.link('old', 'z')", "os.setxattr('old', 'user.a', b'1')"):
        assert harness.ERRNO.get(m.errno(attempt)) == "EROFS", attempt
    assert m.read("old") == b"what was there"
    assert m.read("open") == b"1" * 10000
    assert remount("rw")
    m.write("new", "works again")
    m.sh("mv old moved; mkdir d; echo more >> open")
    a.stop()
    m.unmount()
    again = v.mount(v.alice)
    assert again.read("moved") == b"what was there" and again.read("new") == b"works again"
    assert again.read("open") == b"1" * 10000 + b"more\n"


@pytest.mark.slow
@pytest.mark.limit(120)
def test_few_descriptors_for_a_large_tree(acme):
    """find over a tree needs no descriptor a file or folder: it keeps those of 256 folders, and is allowed 64 more."""
    m = acme.mount(acme.alice)
    m.python(f"""
import os
for d in range({FOLDERS}):
    os.mkdir(f'd{{d}}')
    for i in range({FILES // FOLDERS}): os.mknod(f'd{{d}}/f{{i}}')
""", timeout=100)
    pid = m.worker()
    before = proc_status(pid, "VmRSS")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (KEPT + 64, KEPT + 64))
    most = 0
    walk = acme.actor(acme.alice, m.point)
    for walked in ("sum(len(f) for _, _, f in os.walk('.'))",
                   "sum(os.path.lexists(os.path.join(r, n)) for r, _, f in os.walk('.') for n in f)"):
        assert walk.get(walked) == FILES
        most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
    print(f"worker: at most {most} descriptors; {before} kB before, {proc_status(pid, 'VmHWM')} kB at most")
    assert most < KEPT + 64
    assert proc_status(pid, "VmHWM") - before < 30 * 1024, "30 MiB for 20,000 files in the kernel's cache"


def test_table_of_descriptors_does_not_grow_at_work(acme):
    """Growing it in a process with threads waits for all processors: 5 to 20 ms in an open, at 64, 256, 512, ... descriptors."""
    m = acme.mount(acme.alice)
    size = proc_status(m.worker(), "FDSize")
    assert size >= 4096
    a = acme.actor(acme.alice, m.point)
    a.do("fs = [os.open(f'f{n}', os.O_RDWR | os.O_CREAT) for n in range(300)]")
    assert proc_status(m.worker(), "FDSize") == size
