"""One user asks for more than his share of what all users of a client have together; the others go on."""
import errno

import pytest

from harness import USAGE, run, wait_for
from test_shared import Shared


def test_locks_of_one_user_leave_room_for_the_others(acme):
    """Taken one by one, and by cutting holes into one lock; and requests that wait."""
    acme.grant("acme", acme.bob)
    mine, theirs = acme.mount(acme.alice), acme.mount(acme.bob)
    mine.sh("touch f g h")
    theirs.sh("touch theirs")
    a, b = acme.actor(acme.alice, mine.point, limit=60), acme.actor(acme.bob, theirs.point)
    a.do("""
import fcntl, threading
f, g, h = (os.open(n, os.O_RDWR) for n in 'fgh')
def until_refused(step):
    for n in range(70000):
        try: step(n)
        except OSError as e: return e.errno
    return None
""")
    b.do("import fcntl; fd = os.open('theirs', os.O_RDWR)")
    assert a.get("until_refused(lambda n: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * n))") == errno.ENOLCK
    again = acme.mount(acme.alice)  # another session is the same user
    other = acme.actor(acme.alice, again.point)
    assert other.errno("import fcntl; fd = os.open('g', os.O_RDWR); fcntl.lockf(fd, fcntl.LOCK_EX)") == errno.ENOLCK
    b.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10)")
    a.do("os.close(f); fcntl.lockf(g, fcntl.LOCK_EX)")
    assert a.get("until_refused(lambda n: fcntl.lockf(g, fcntl.LOCK_UN, 1, 2 * n + 1))") == errno.ENOLCK
    b.do("fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)")
    a.do("os.close(g)")
    a.do("g = os.open('g', os.O_RDWR); fcntl.lockf(g, fcntl.LOCK_EX)")  # what was given back can be had again


def test_requests_for_locks_that_wait_are_bounded(acme):
    acme.grant("acme", acme.bob)
    mine, theirs = acme.mount(acme.alice), acme.mount(acme.bob)
    mine.sh("touch f")
    a, b = acme.actor(acme.alice, mine.point, limit=60), acme.actor(acme.bob, theirs.point)
    b.do("import fcntl; fd = os.open('f', os.O_RDWR); fcntl.lockf(fd, fcntl.LOCK_EX)")
    a.do("""
import fcntl, threading
threading.stack_size(65536)
resource = __import__('resource')
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
said = []
def one():
    fd = os.open('f', os.O_RDONLY)
    try: fcntl.fcntl(fd, 38, __import__('struct').pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))   # F_OFD_SETLKW
    except OSError as e: said.append(e.errno)
    else: said.append(0)
for _ in range(1100): threading.Thread(target=one, daemon=True).start()
""")
    wait_for(lambda: a.get("len(said)") >= 76, "the refusals of what is too much")
    assert set(a.get("said")) == {errno.ENOLCK} and a.get("len(said)") == 76
    b.do("g = os.open('g', os.O_RDWR | os.O_CREAT); fcntl.lockf(g, fcntl.LOCK_EX); fcntl.lockf(fd, fcntl.LOCK_UN)")
    wait_for(lambda: a.get("len(said)") == 1100, "the others' locks")
    assert a.get("said.count(0)") == 1024


def test_sessions_of_one_user_are_bounded(make_vault):
    """Each costs threads and descriptors of the worker that is everybody's, and one of the mounts that the host has for users."""
    v = make_vault(up=False)
    v.up_with_groups(env={"COFFER_SESSIONS": "3"})
    v.add()
    v.grant("acme", v.alice)
    v.grant("acme", v.bob)
    mounts = [v.mount(v.alice) for _ in range(3)]
    r = v.mount(v.alice, check=USAGE)
    assert "3 sessions" in r.err and "coffer sessions" in r.err, r
    v.mount(v.bob)
    mounts[0].unmount()
    wait_for(lambda: not mounts[0].session(), "the session's end")
    v.mount(v.alice)
    shared = Shared(v)  # root's, and alice's part in it does not count
    shared.sh(v.alice, "echo x > f")


@pytest.mark.parametrize("shared", [False, True])
def test_open_files_of_one_user_leave_room_for_the_others(make_vault, shared):
    """The worker is everybody's, and so are its descriptors."""
    v = make_vault(up=False)
    run(["prlimit", "--nofile=1024:1024", v.programs + "/tools/coffer", "--dir", v.dir, "up"], check=True, timeout=60)
    v.add()
    v.grant("acme", v.alice)
    v.grant("acme", v.bob)
    if shared:
        point = Shared(v).point
        mine = theirs = point
        v.alice.sh(f"mkdir {point}/d; chmod 777 {point}/d")
    else:
        mine, theirs = v.mount(v.alice).point, v.mount(v.bob).point
        v.alice.sh(f"mkdir {mine}/d; chmod 777 {mine}/d")
    a, b = v.actor(v.alice), v.actor(v.bob)
    a.do(f"""
def until_refused(step, most):
    kept = []
    for n in range(most):
        try: kept.append(step())
        except OSError as e: return kept, e.errno
    return kept, None
resource = __import__('resource')
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
files, why = until_refused(lambda: os.open('{mine}/d', os.O_TMPFILE | os.O_RDWR), 2000)
dirs, why_dirs = until_refused(lambda: os.open('{mine}/d', os.O_RDONLY), 2000)
""")
    assert a.get("(why, why_dirs)") == (errno.EMFILE, errno.EMFILE) and 100 < a.get("len(files)") < 700
    b.do(f"""
kept = []
for n in range(50): kept.append(os.open('{theirs}/d/b%d' % n, os.O_RDWR | os.O_CREAT))
assert len(os.listdir('{theirs}/d')) >= 50 and os.write(kept[0], b'x') == 1
""")
    a.do("for fd in files + dirs: os.close(fd)")
    wait_for(lambda: a.errno(f"os.close(os.open('{mine}/d', os.O_RDONLY))") == 0, "what was given back")
