"""What is under way while a session is ended: as soon as the end is reported, no byte comes out or goes in any more."""
import shutil
import subprocess
import time

import pytest

from harness import PURPOSE, REFUSED, wait_for
from test_durability import policy, vault_with

SOURCE = r"""
import mmap, threading, time
log, stop = [], False
def loop(name, step):
    def run():
        while not stop:
            begun = time.monotonic()
            try:
                if step(): log.append((begun, name))
            except OSError: time.sleep(0.0005)
    threading.Thread(target=run, daemon=True).start()
def opened(*args, **kw):
    os.close(os.open(*args, **kw))
    return True
fd, top, direct = os.open('f', os.O_RDWR), os.open('.', os.O_RDONLY), os.open('f', os.O_RDONLY | os.O_DIRECT)
named, sub = os.open('f', os.O_PATH), os.open('d', os.O_PATH)
path, page, n = f'/proc/self/fd/{fd}', mmap.mmap(-1, 4096), [0]
sink = os.memfd_create('sink')
def write():
    n[0] += 1
    return os.pwrite(fd, b'W%015d' % n[0], 4096 * (n[0] % 200))
def spliced():
    r, w = os.pipe()
    try: return os.splice(fd, w, 4096, offset_src=0)
    finally: os.close(r); os.close(w)
def renamed():
    os.rename('a', 'b', src_dir_fd=sub, dst_dir_fd=sub)
    os.rename('b', 'a', src_dir_fd=sub, dst_dir_fd=sub)
    return True
def linked():
    os.link('c', 'l', src_dir_fd=sub, dst_dir_fd=sub)
    os.unlink('l', dir_fd=sub)
    return True
def unnamed():
    x = os.open('d', os.O_TMPFILE | os.O_RDWR, dir_fd=top)
    try: return os.write(x, b'x')
    finally: os.close(x)
steps = {
    'pread': lambda: os.pread(fd, 65536, int(time.monotonic() * 1e6) % 900000), 'write': write,
    'direct': lambda: os.preadv(direct, [page], 0), 'open': lambda: opened('f', os.O_RDONLY),
    'open by O_PATH': lambda: opened(f'/proc/self/fd/{named}', os.O_RDONLY), 'readdir': lambda: os.listdir(top), 'rename': renamed,
    'link': linked, 'sendfile': lambda: os.sendfile(sink, fd, 0, 4096), 'splice': spliced,
    'getxattr': lambda: os.getxattr(path, 'user.k'), 'setxattr': lambda: os.setxattr(path, 'user.k2', b'x') is None,
    'truncate': lambda: os.truncate(path, (1 << 20) + n[0] % 7) is None, 'fsync': lambda: os.fsync(fd) is None, 'tmpfile': unnamed,
    'readlink': lambda: os.readlink('ln', dir_fd=top), 'stat': lambda: os.stat('d/a', dir_fd=top)}
for name, step in steps.items(): loop(name, step)
"""
HOW = {"revoke": lambda v: v.revoke("acme", v.alice), "suspend": lambda v: v.coffer("suspend", "acme", "--reason", "test"),
       "session end": lambda v: v.coffer("session", "end", str(v.rows("sessions")[0]["session"])),
       "seal": lambda v: v.coffer("seal")}


@pytest.mark.parametrize("how, more, sync", [("revoke", (), False), ("revoke", ("--exclusive",), False), ("revoke", (), True),
                                             ("suspend", (), False), ("session end", ("--exclusive",), True), ("seal", (), False)])
def test_nothing_comes_or_goes_after_the_end_is_reported(make_vault, how, more, sync):
    v = vault_with(make_vault, policy(PURPOSE if sync else None))
    m = v.mount(v.alice, "acme", PURPOSE, *more)
    m.python("import os; open('f', 'wb').write(b's' * (1 << 20)); os.mkdir('d'); os.symlink('x', 'ln'); os.setxattr('f', 'user.k', b'v')\n"
             "for n in 'ac': open('d/' + n, 'w').write('1')")
    a = v.actor(v.alice, m.point)
    a.do(SOURCE)
    wait_for(lambda: a.get("len({name for _, name in log}) == len(steps)"), "each way once", limit=20)
    HOW[how](v)
    done = time.monotonic()
    wait_for(lambda: a.get("time.monotonic()") > done + 0.3, "a while afterwards")
    a.do("stop = True")
    late = a.get(f"[(t - {done}, name) for t, name in log if t > {done}]")
    assert not late, late[:10]
    a.stop()
    wait_for(lambda: not m.mounted(), "the mount's end")
    if how == "seal":
        return
    assert v.coffer("fsck", "acme").out.startswith("acme: clean")
    v.coffer("log", "verify")


def test_a_disk_that_hangs_does_not_hold_up_a_revocation(make_vault):
    """Whoever waits for his records to reach it gets an error, not the data; the others, and keyd, go on."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob, "support")
    m, other = v.mount(v.alice), v.mount(v.bob, "acme", "support")
    m.write("f", "secret")
    a = v.actor(v.alice, m.point)
    a.do("""
import threading, time
log = []
def read():
    while True:
        try: log.append((time.monotonic(), bool(open('f').read())))
        except OSError: log.append((time.monotonic(), False)); time.sleep(0.01)
""")
    trace = subprocess.Popen(["strace", "-f", "-o", v.base + "/trace", "-p", str(m.worker()), "-e", "trace=fdatasync",
                              "-e", "inject=fdatasync:delay_enter=20000000"], stderr=subprocess.PIPE)
    try:
        assert b"attached" in trace.stderr.readline()
        a.do("for _ in range(4): threading.Thread(target=read, daemon=True).start()")
        wait_for(lambda: "fdatasync" in open(v.base + "/trace").read(), "the first record that waits")
        v.revoke("acme", v.alice)
        done = time.monotonic()
        v.mount(v.alice, check=REFUSED)
        assert other.read("f") == b"secret"
        wait_for(lambda: a.get(f"sum(1 for t, _ in log if t > {done}) >= 4"), "an answer to each that waited", limit=15)
        assert not a.get(f"[t for t, good in log if good and t > {done}]")
    finally:
        trace.terminate()
        trace.wait(10)
    wait_for(lambda: not m.mounted(), "the mount's end")
    a.stop()
    other.unmount()
    v.coffer("log", "verify")
