"""Two sessions of one client on one host see each other's changes at once, in both directions."""
import pytest

import harness

LIMIT = 10  # a notification is on its way when the call has returned, and what is cached would stay for a day; how long it takes is the load


@pytest.fixture(params=["alice-bob", "bob-alice"])
def pair(acme, request):
    """(here, there): programs of two users in their mounts of one client."""
    acme.grant("acme", acme.bob)
    here, there = (acme.users[n] for n in request.param.split("-"))
    first = acme.mount(here)
    second = acme.mount(there)
    return acme.actor(here, first.point), acme.actor(there, second.point)


def sees(actor, expression, value):
    """The value, without asking the file system to wait: at most the notification's way."""
    got = []

    def look():
        try:
            got[:] = [actor.get(expression)]
        except OSError as e:
            got[:] = [e.errno]
        return got == [value]
    try:
        harness.wait_for(look, "", limit=LIMIT, step=0.001)
    except harness.Timeout:
        raise AssertionError(f"{expression}: {got[0]!r} instead of {value!r}") from None


WRITE = "def write(n, d, mode='wb'):\n with open(n, mode) as f: f.write(d)"
READ = "open('f', 'rb').read()"


@pytest.mark.sanitize
def test_content_and_size(pair):
    a, b = pair
    for p in pair:
        p.do(WRITE)
    a.do("write('f', b'one')")
    sees(b, READ, b"one")
    for i in range(20):
        writer, reader = (a, b) if i % 2 else (b, a)
        data = b"%d." % i * (i * 300 + 1)
        writer.do(f"write('f', {data!r})")
        sees(reader, "os.stat('f').st_size", len(data))
        sees(reader, READ, data)


def test_open_descriptor_sees_writes(pair):
    a, b = pair
    a.do("fa = os.open('f', os.O_RDWR | os.O_CREAT); os.pwrite(fa, b'x' * 20000, 0)")
    b.do("fb = os.open('f', os.O_RDWR)")
    for i in range(10):
        a.do(f"os.pwrite(fa, b'a{i}', {i * 1900})")
        sees(b, f"os.pread(fb, 2, {i * 1900})", b"a%d" % i)
        b.do(f"os.pwrite(fb, b'b{i}', {i * 1900 + 50})")
        sees(a, f"os.pread(fa, 2, {i * 1900 + 50})", b"b%d" % i)
    a.do("os.ftruncate(fa, 100)")
    sees(b, "os.fstat(fb).st_size", 100)
    sees(b, "len(os.pread(fb, 20000, 0))", 100)


def test_names(pair):
    a, b = pair
    sees(b, "os.listdir('.')", [])
    a.do("os.mkdir('d'); open('d/one', 'w').close()")
    sees(b, "os.listdir('d')", ["one"])
    sees(b, "os.path.exists('d/two')", False)
    a.do("open('d/two', 'w').close()")
    sees(b, "os.path.exists('d/two')", True)
    sees(b, "sorted(os.listdir('d'))", ["one", "two"])
    a.do("os.rename('d/one', 'd/three')")
    sees(b, "sorted(os.listdir('d'))", ["three", "two"])
    sees(b, "os.path.exists('d/one')", False)
    b.do("os.unlink('d/three')")
    sees(a, "os.listdir('d')", ["two"])
    b.do("os.unlink('d/two'); os.rmdir('d')")
    sees(a, "os.path.exists('d')", False)
    sees(a, "os.listdir('.')", [])


def test_rename_over(pair):
    a, b = pair
    for p in pair:
        p.do(WRITE)
    a.do("write('f', b'old')")
    sees(b, READ, b"old")
    a.do("write('tmp', b'new'); os.rename('tmp', 'f')")
    sees(b, READ, b"new")
    sees(b, "os.listdir('.')", ["f"])


def test_attributes(pair):
    a, b = pair
    for p in pair:
        p.do(WRITE)
    a.do("write('f', b'x'); os.chmod('f', 0o640)")
    sees(b, "os.stat('f').st_mode & 0o777", 0o640)
    a.do("os.chmod('f', 0o600)")
    sees(b, "os.stat('f').st_mode & 0o777", 0o600)
    a.do("os.utime('f', (1000, 2000))")
    sees(b, "os.stat('f').st_mtime", 2000.0)
    a.do("os.link('f', 'g')")
    sees(b, "os.stat('f').st_nlink", 2)
    a.do("os.setxattr('f', 'user.k', b'v')")
    sees(b, "os.getxattr('f', 'user.k')", b"v")


@pytest.mark.parametrize("removes", ["os.unlink('g')", "os.rename('other', 'g')"], ids=["unlink", "rename over it"])
def test_a_file_that_lost_one_of_its_names_gets_another(pair, removes):
    """The other kernel must not take the file for one without any name: it would refuse the link without asking."""
    a, b = pair
    a.do(WRITE + "\nwrite('f', b'x'); os.link('f', 'g'); write('other', b'y')")
    sees(b, "(os.stat('f').st_nlink, os.stat('g').st_nlink)", (2, 2))
    a.do(removes)
    sees(b, "os.path.exists('g') and open('g', 'rb').read() == b'x'", False)
    b.do("os.link('f', 'h')")
    sees(a, "os.stat('h').st_nlink", 2)
    a.do("os.unlink('f'); os.unlink('h')")
    sees(b, "os.path.exists('f') or os.path.exists('h')", False)


def test_appends_from_both_lose_nothing(pair):
    a, b = pair
    for p in pair:
        p.do("fd = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)")
    for i in range(50):
        a.do(f"os.write(fd, b'a{i:03}\\n')")
        b.do(f"os.write(fd, b'b{i:03}\\n')")
    lines = a.get("open('log').read().split()")
    assert sorted(lines) == sorted([f"a{i:03}" for i in range(50)] + [f"b{i:03}" for i in range(50)])


def test_concurrent_appends_lose_nothing(pair):
    for name, p in zip("ab", pair):
        p.do("import threading\n"
             "def work():\n"
             " fd = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
             f" for i in range(300): os.write(fd, b'{name}%03d\\n' % i)\n"
             "t = threading.Thread(target=work); t.start()")
    for p in pair:
        p.do("t.join(15)")
    lines = pair[0].get("open('log').read().split()")
    assert len(lines) == 600 and len(set(lines)) == 600


def test_shared_mapping_across_sessions_is_refused_or_right(pair):
    """Two kernels' caches cannot agree on a writable mapping: refused (ENODEV) rather than wrong."""
    a, b = pair
    a.do("fd = os.open('m', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 8192)")
    b.do("fd = os.open('m', os.O_RDWR)")
    assert harness.ERRNO.get(b.errno("m = mmap.mmap(fd, 8192)")) == "ENODEV"
    b.do("os.pwrite(fd, b'direct', 0)")
    sees(a, "os.pread(fd, 6, 0)", b"direct")


@pytest.mark.threads
@pytest.mark.limit(120)
def test_stress_in_one_directory(pair):
    """Both create, rename, write and remove in one directory: no error that a local disk would not give, no deadlock, and in
    the end both see the same."""
    for seed, p in enumerate(pair):
        p.do(f"""
import random, threading
rnd, errors = random.Random({seed}), []
def work():
    names = ['n%d' % i for i in range(12)]
    for i in range(400):
        p, q, k = rnd.choice(names), rnd.choice(names), rnd.randrange(7)
        try:
            if k == 0: os.mkdir(p)
            elif k <= 2:
                with open(p, 'ab') as f: f.write(b'x' * rnd.randrange(9000))
            elif k == 3: os.rename(p, q)
            elif k == 4: os.unlink(p)
            elif k == 5: os.rmdir(p)
            else:
                with open(p, 'rb') as f: assert set(f.read()) <= {{120}}
        except OSError as e:
            if e.errno not in (2, 17, 20, 21, 39, 1, 16): errors.append((k, p, q, e.errno))
        except AssertionError:
            errors.append((k, p, 'wrong bytes'))
t = threading.Thread(target=work); t.start()
""")
    for p in pair:
        p.limit = 60 * harness.SLOW
        p.do(f"t.join({50 * harness.SLOW})")
        assert p.get("t.is_alive()") is False, "it hangs"
        assert p.get("errors") == []
    look = ("sorted((n, os.lstat(n).st_mode, os.lstat(n).st_size, open(n, 'rb').read() if os.path.isfile(n) else b'') "
            "for n in os.listdir('.'))")
    sees(pair[1], look, pair[0].get(look))


def test_a_file_that_is_replaced_all_the_time_opens(acme, pair):
    """As on a local disk: rename() replaces a name without a moment in which it means nothing."""
    a, b = pair
    a.do("""
import threading
open('f', 'w').write('old')
over = False
def replace():
    while not over:
        with open('new', 'w') as f: f.write('new')
        os.rename('new', 'f')
t = threading.Thread(target=replace); t.start()
""")
    b.do("""
failed = []
does = [lambda: os.close(os.open('f', os.O_RDONLY)), lambda: os.close(os.open('f', os.O_RDWR | os.O_CREAT, 0o600)),
        lambda: os.truncate('f', 2), lambda: os.chmod('f', 0o640), lambda: os.utime('f', (1, 1)), lambda: os.stat('f'),
        lambda: os.listxattr('f')]
for i in range(7000):
    try: does[i % 7]()
    except OSError as e: failed.append((i % 7, e.errno))
""")
    a.do("over = True; t.join(20)")
    assert b.get("failed") == []
    opens = [r["path"] for r in acme.log("--op", "open") if r["outcome"] == 0]
    assert opens.count("f") >= 2000 and None not in opens, "a file that has no name any more was opened by one"


def test_a_directory_that_comes_and_goes_is_there_or_not(pair):
    """Never ESTALE: a program opens it, or it has no such name."""
    a, b = pair
    a.do("""
import threading
over = False
def replace():
    while not over:
        os.mkdir('d')
        os.rmdir('d')
t = threading.Thread(target=replace); t.start()
""")
    b.do("""
seen = set()
for i in range(3000):
    try: seen.add(len(os.listdir('d')))
    except OSError as e: seen.add(-e.errno)
""")
    a.do("over = True; t.join(20)")
    assert b.get("seen") <= {0, -2}


def test_no_zeros_where_another_session_made_a_file_longer(acme):
    """The size can come (a program asks for it) before the notification of the content does: then what is cached of the last
    page is not to be shown as if it were the file's."""
    first, second = acme.mount(acme.alice), acme.mount(acme.alice)
    a = acme.actor(acme.alice, first.point)
    a.do(f"""
libc = ctypes.CDLL(None, use_errno=True)
def ask(path):
    'statx() with AT_STATX_FORCE_SYNC: what is cached does not count'
    assert libc.statx(-100, path.encode(), 0x2000, 0xfff, ctypes.create_string_buffer(256)) == 0
there, bad, size = {second.point!r}, [], 64 << 20
def append(n):
    with open('f', 'ab') as f: f.write(b'x' * n)
append(1)
open('busy', 'w').truncate(size)
fb = os.open(there + '/f', os.O_RDONLY)  # while nobody writes: what is read is cached
for i in range(8):
    with open(there + '/busy', 'rb') as f:
        while f.read(1 << 20): pass
    os.pread(fb, 1 << 20, 0)
    os.truncate('busy', size - i - 1)  # its notification has much to do; the next ones wait for it
    append(40)
    ask(there + '/f')
    got = os.pread(fb, 1 << 20, 0)
    if set(got) != {{120}}: bad.append((i, len(got)))
""")
    assert a.get("bad") == []


def test_more_changes_than_are_told_singly(make_vault):
    """A session whose thread is behind is told that everything may be stale: names that went, too, and names that came."""
    v = make_vault(up=False)
    v.up(env={"COFFER_NOTES": "2"})
    v.add()
    v.grant("acme", v.alice)
    v.grant("acme", v.bob)
    here, there = v.mount(v.alice), v.mount(v.bob)
    a, b = v.actor(v.alice, here.point), v.actor(v.bob, there.point)
    a.do("for n in range(300): open(f'old{n}', 'w').write('x')")
    b.do("import errno")
    b.do("known = [os.stat(f'old{n}').st_ino for n in range(300)]")
    b.do("""
missing = 0
for n in range(300):
    try: os.stat(f'new{n}')
    except FileNotFoundError: missing += 1
""")
    assert b.get("missing") == 300  # and the kernel believes it for a day
    a.do("for n in range(300): os.rename(f'old{n}', f'new{n}')")
    harness.wait_for(lambda: b.get("sum(os.path.exists(f'old{n}') for n in range(300))") == 0, "the old names' end")
    harness.wait_for(lambda: b.get("sum(os.path.exists(f'new{n}') for n in range(300))") == 300, "the new names")
    assert "too many changes at once" in v.logs(), "nothing overflowed: this shows nothing"
