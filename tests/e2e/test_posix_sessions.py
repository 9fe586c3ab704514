"""What POSIX asks of a file system, between two sessions of one client: two users, two mounts, one worker."""
import errno
import os

import pytest

import harness


@pytest.fixture
def pair(acme):
    """alice's and bob's mounts, and a running program of each in it."""
    acme.grant("acme", acme.bob)
    mounts = acme.mount(acme.alice), acme.mount(acme.bob)
    return [acme.actor(m.user, m.point) for m in mounts]


def eventually(actor, expression, value):
    """Notifications are sent, not waited for: until they come a name may be what it was, or nothing."""
    def is_there():
        try:
            return actor.get(expression) == value
        except OSError:
            return False
    harness.wait_for(is_there, f"{expression} == {value!r}")


def test_a_file_without_a_name_gets_one(pair):
    a, b = pair
    a.do("fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'x' * 9000)")
    assert b.get("os.listdir('.')") == []
    a.do("assert ctypes.CDLL(None).linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, b'named', 0x400) == 0")
    eventually(b, "os.listdir('.')", ["named"])
    assert b.get("open('named', 'rb').read()") == b"x" * 9000
    b.do("g = os.open('named', os.O_RDWR); os.pwrite(g, b'bob', 0)")
    eventually(a, "os.pread(fd, 3, 0)", b"bob")
    assert a.get("os.fstat(fd).st_nlink") == 1
    b.do("os.unlink('named')")
    eventually(a, "os.fstat(fd).st_nlink", 0)
    assert a.get("os.pread(fd, 4, 0)") == b"bobx"


def test_files_without_a_name_die_with_the_worker(share):
    vault = share.vault
    a = vault.actor(share.user, share.point)
    a.do("fds = [os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600) for i in range(5)]\nfor fd in fds: os.write(fd, b'secret')")
    hidden = lambda: [n for n in os.listdir(vault.store()) if n.startswith(".u")]
    assert len(hidden()) == 5
    harness.kill9(share.worker())
    assert a.errno("os.pread(fds[0], 1, 0)") != 0
    a.stop()
    harness.wait_for(lambda: not share.mounted(), "the mount of the dead worker is gone")
    assert vault.mount(share.user).sh("ls -A").out == ""
    assert hidden() == []


def test_appends_by_several_sessions(pair):
    """Lines of four descriptors in two sessions, opened for appending or switched to it: none lost, none torn, none over another."""
    for p, who in zip(pair, "ab"):
        p.do(f"""
def add(i):
    os.write(fds[i % 2], f"{who}:{{i}}:{{'x' * (i * 37 % 400)}}\\n".encode())
fds = [os.open("log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), os.open("log", os.O_RDWR | os.O_CREAT, 0o644)]
fcntl.fcntl(fds[1], fcntl.F_SETFL, os.O_APPEND)
""")
    for i in range(60):
        for p in pair:
            p.do(f"add({i})")
    whole = sorted(f"{who}:{i}:{'x' * (i * 37 % 400)}" for who in "ab" for i in range(60))
    for p in pair:
        p.do("t = open('log').read()")
        eventually(p, "open('log').read() == os.pread(fds[0], 10**6, 0).decode()", True)
        assert sorted(p.get("open('log').read()").splitlines()) == whole


def test_append_switched_on_in_one_session_sees_the_others_end(pair):
    """The kernel of that session has put the bytes into its cache where it believed the end to be."""
    a, b = pair
    a.do("fd = os.open('f', os.O_RDWR | os.O_CREAT, 0o644); os.write(fd, b'a' * 100); fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)")
    for i in range(20):
        b.do("g = os.open('f', os.O_WRONLY | os.O_APPEND); os.write(g, b'b' * 10); os.close(g)")
        a.do("os.write(fd, b'A' * 5)")
    want = b"a" * 100 + (b"b" * 10 + b"A" * 5) * 20
    assert b.get("open('f', 'rb').read()") == want
    eventually(a, "os.pread(fd, 9999, 0)", want)
    eventually(a, "os.fstat(fd).st_size", len(want))


def test_a_deadlock_of_two_sessions_is_refused(pair):
    a, b = pair
    for p, mine in zip(pair, (0, 1)):
        p.do(f"fd = os.open('f', os.O_RDWR | os.O_CREAT, 0o644); fcntl.lockf(fd, fcntl.LOCK_EX, 1, {mine})")
    b.do("import threading\ngot = threading.Event()\n"
         "t = threading.Thread(target=lambda: (fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0), got.set()), daemon=True); t.start()")
    assert b.get("got.wait(0.3)") is False
    assert a.errno("fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)") == errno.EDEADLK
    a.do("fcntl.lockf(fd, fcntl.LOCK_UN, 1, 0)")
    assert b.get("got.wait(5)") is True


def test_removed_by_the_other_session(pair):
    """What one session removes, another that holds it still sees: with no links, and as it was."""
    a, b = pair
    a.do("os.mkdir('d'); os.mkfifo('p'); open('f', 'w').write('text'); os.mkdir('d/sub')")
    b.do("d, p = os.open('d', os.O_RDONLY), os.open('p', os.O_RDWR | os.O_NONBLOCK); f = open('f'); os.listdir(d)")
    a.do("os.rmdir('d/sub'); os.rmdir('d'); os.unlink('p'); os.unlink('f')")
    eventually(b, "[os.fstat(x).st_nlink for x in (d, p, f.fileno())]", [0, 0, 0])
    assert b.get("f.read()") == "text"
    assert b.errno("os.open('x', os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=d)") in (errno.ENOENT, errno.ESTALE)
    eventually(b, "os.listdir('.')", [])
    a.do("os.mkdir('d'); open('d/new', 'w').close()")
    eventually(b, "os.listdir('d')", ["new"])


def test_renames_and_exchange_are_seen(pair):
    a, b = pair
    a.do("""
libc = ctypes.CDLL(None, use_errno=True)
def swap(x, y): assert libc.renameat2(-100, x.encode(), -100, y.encode(), 2) == 0, ctypes.get_errno()
os.mkdir('one'); os.mkdir('two'); open('one/f', 'w').write('1'); open('two/f', 'w').write('2'); open('file', 'w').write('F')
""")
    eventually(b, "open('one/f').read()", "1")
    a.do("swap('one', 'two')")
    eventually(b, "[open('one/f').read(), open('two/f').read()]", ["2", "1"])
    a.do("swap('one/f', 'file')")
    eventually(b, "[open('one/f').read(), open('file').read(), open('two/f').read()]", ["F", "2", "1"])
    a.do("swap('two', 'file')")
    eventually(b, "[open('two').read(), os.listdir('file')]", ["2", ["f"]])
    b.do("os.rename('file/f', 'two')")
    eventually(a, "[open('two').read(), os.listdir('file')]", ["1", []])


def test_truncating_under_a_mapping_of_another_session(pair):
    """A shared writable mapping is refused while another session writes; a reader's mapping follows the size."""
    a, b = pair
    a.do("fd = os.open('m', os.O_RDWR | os.O_CREAT, 0o644); os.write(fd, b'a' * 20000)")
    b.do("g = os.open('m', os.O_RDWR)")
    eventually(b, "os.fstat(g).st_size", 20000)
    assert b.errno("mmap.mmap(g, 20000)") == errno.ENODEV
    a.do("os.close(fd)")
    b.do("os.close(g)")
    # nobody waits for what the kernel tells of a close
    harness.wait_for(lambda: b.errno("g = os.open('m', os.O_RDWR)\ntry: m = mmap.mmap(g, 20000)\nexcept OSError: os.close(g); raise") == 0,
                     "a mapping after the writer's close")
    b.do("m[5000:5003] = b'bob'; m.flush(); m.close(); os.close(g)")
    eventually(a, "open('m', 'rb').read()[4998:5005]", b"aabobaa")
    a.do("os.truncate('m', 100)")
    eventually(b, "[os.stat('m').st_size, len(open('m', 'rb').read())]", [100, 100])


def test_attributes_times_and_modes_are_seen(pair):
    a, b = pair
    a.do("open('f', 'w').close()")
    assert b.get("os.stat('f').st_size") == 0
    a.do("os.utime('f', ns=(123456789, 987654321)); os.chmod('f', 0o640); os.setxattr('f', 'user.k', b'v'); os.link('f', 'g')")
    eventually(b, "[os.stat('f').st_mtime_ns, os.stat('f').st_mode & 0o777, os.stat('f').st_nlink]", [987654321, 0o640, 2])
    assert b.get("os.getxattr('g', 'user.k')") == b"v"
    b.do("os.removexattr('f', 'user.k'); os.truncate('g', 5000)")
    eventually(a, "[os.listxattr('f'), os.stat('f').st_size]", [[], 5000])
