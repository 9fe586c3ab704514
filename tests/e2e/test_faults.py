"""Damage, full disks, dead daemons: never a wrong byte, never a hang, never a silent loss, and the message names the thing."""
import os
import random
import shutil
import signal
import subprocess

import pytest

import harness
from harness import Mount, OK, REFUSED, UNREACHABLE, copy_tree, kill9, wait_for

SECTOR = 4096
SIZE = 3 * 4032 + 100  # three whole sectors and a short one


def contents(i, size=SIZE):
    """Bytes of file number i, anywhere different."""
    return random.Random(i).randbytes(size)


@pytest.fixture
def files(share):
    """A share with files f0 .. f15 of one size; afterwards unmounted, the daemons down."""
    script = "import random\nfor i in range(16): open(f'f{i}', 'wb').write(random.Random(i).randbytes(int(__import__('sys').argv[1])))"
    share.python(script, str(SIZE))
    share.unmount()
    share.vault.down()
    return share.vault


def again(v):
    """The daemons once more, on what has become of their files, and alice's mount."""
    v.up()
    return v.mount(v.alice)


def backing(v):
    """The regular files of the client's store that hold content, sorted."""
    return sorted(p for p in harness.files_below(v.store()) if os.path.getsize(p) > SECTOR)


def flip(path, at, mask=0x01):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ mask]))


def read_all(m, names):
    """name -> its bytes, or the errno of reading it."""
    script = """
import pickle, sys
got = {}
for n in sys.argv[1:]:
    try: got[n] = open(n, "rb").read()
    except OSError as e: got[n] = e.errno
sys.stdout.buffer.write(pickle.dumps(got))
"""
    import pickle
    return pickle.loads(m.python(script, *names).out_bytes)


def right_or_error(got, expected):
    """No wrong byte: each file is what was written or an error.  How many are errors?"""
    errors = 0
    for name, value in got.items():
        if isinstance(value, int):
            assert harness.ERRNO[value] in ("EIO", "EBADMSG", "ENOENT", "EKEYREVOKED", "EUCLEAN"), (name, value)
            errors += 1
        else:
            assert value == expected[name], f"{name}: wrong bytes"
    return errors


EXPECTED = {f"f{i}": contents(i) for i in range(16)}


@pytest.mark.parametrize("part", ["header", "salt", "counter-length-tag", "content", "last"])
@pytest.mark.sanitize
def test_flipped_bits(files, part):
    """One bit in each file, at another offset: an error where it matters, never a wrong byte, and a record of it."""
    rnd = random.Random(part)
    ranges = {"header": (0, 512), "salt": (SECTOR, SECTOR + 16), "counter-length-tag": (SECTOR + 16, SECTOR + 42),
              "content": (SECTOR + 64, 4 * SECTOR), "last": (4 * SECTOR, 4 * SECTOR + 164)}
    for path in backing(files):
        flip(path, rnd.randrange(*ranges[part]), 1 << rnd.randrange(8))
    m = again(files)
    errors = right_or_error(read_all(m, EXPECTED), EXPECTED)
    if part in ("salt", "counter-length-tag", "content"):
        assert errors >= 14, "most flips are in authenticated bytes"
    if errors:
        assert any(r["op"] == "damage" for r in files.log())
    m.write("new", "still works")
    assert m.read("new") == b"still works"


@pytest.mark.parametrize("keep", [0, 1, 4095, 4096, 4097, 8191, 8192, 3 * 4096, 5 * 4096 - 1])
def test_truncated_files(files, keep):
    """A backing file cut short: an error or the right bytes; a file cut at a sector's border must not pass for a shorter one
    when its size was synced."""
    for path in backing(files):
        os.truncate(path, keep)
    m = again(files)
    got = read_all(m, EXPECTED)
    for name, value in got.items():
        if isinstance(value, bytes):
            assert EXPECTED[name].startswith(value), f"{name}: wrong bytes"


def test_truncation_of_synced_files_is_found(share):
    share.python(f"""
import os, random
for i in range(4):
    with open(f'f{{i}}', 'wb') as f: f.write(random.Random(i).randbytes({SIZE})); f.flush(); os.fsync(f.fileno())
""")
    share.unmount()
    share.vault.down()
    for path in backing(share.vault):
        os.truncate(path, 2 * SECTOR)
    m = again(share.vault)
    got = read_all(m, ["f0", "f1", "f2", "f3"])
    assert all(isinstance(v, int) and harness.ERRNO[v] in ("EIO", "EBADMSG") for v in got.values()), \
        {k: v if isinstance(v, int) else len(v) for k, v in got.items()}


def test_zeroed_sector(files):
    """A sector of zeros is a hole only in a file that has holes."""
    for path in backing(files):
        with open(path, "r+b") as f:
            f.seek(2 * SECTOR)
            f.write(bytes(SECTOR))
    assert right_or_error(read_all(again(files), EXPECTED), EXPECTED) == 16


def test_swapped_sectors(files):
    """Inside one file, and between files."""
    paths = backing(files)
    for i, path in enumerate(paths):
        with open(path, "r+b") as f, open(paths[i ^ 1], "r+b") as g:
            f.seek(SECTOR)
            one, two = f.read(SECTOR), f.read(SECTOR)
            if i % 4 < 2:
                f.seek(SECTOR)
                f.write(two + one)
            elif i % 2 == 0:
                g.seek(SECTOR)
                other = g.read(SECTOR)
                g.seek(SECTOR)
                g.write(one)
                f.seek(SECTOR)
                f.write(other)
    assert right_or_error(read_all(again(files), EXPECTED), EXPECTED) == 16


def test_swapped_files(files):
    """Each file's ciphertext under its neighbour's name."""
    paths = backing(files)
    for a, b in zip(paths[::2], paths[1::2]):
        os.rename(a, a + "x")
        os.rename(b, a)
        os.rename(a + "x", b)
    assert right_or_error(read_all(again(files), EXPECTED), EXPECTED) == 16


def test_file_copied_over_another(files):
    """Content of one file, whole, in place of another's (attributes included)."""
    paths = backing(files)
    for a, b in zip(paths[::2], paths[1::2]):
        subprocess.run(["cp", "-a", a, b], check=True)
    got = read_all(again(files), EXPECTED)
    assert right_or_error(got, EXPECTED) >= 8


def test_renamed_backing_names(files):
    """Names that do not open are left out of the list and reported; the rest of the directory is fine."""
    paths = backing(files)
    directory, name = os.path.split(paths[3])
    os.rename(paths[3], os.path.join(directory, name[:-2] + ("AA" if name[-2:] != "AA" else "BB")))
    m = again(files)
    names = m.sh("ls").out.split()
    assert len(names) == 15 and set(names) < set(EXPECTED)
    assert any(r["op"] == "damage" for r in files.log())


def test_foreign_files_in_the_store(files):
    """What somebody dropped into the store is no file of the share."""
    top = os.path.dirname(backing(files)[0])
    with open(top + "/README", "w") as f:
        f.write("hello")
    with open(top + "/" + "A" * 43, "w") as f:
        f.write("x" * 9000)
    os.symlink("/etc/passwd", top + "/passwd")
    os.mkfifo(top + "/pipe")
    m = again(files)
    assert sorted(m.sh("ls").out.split()) == sorted(EXPECTED)
    assert right_or_error(read_all(m, EXPECTED), EXPECTED) == 0


@pytest.fixture
def tree(share):
    """Two directories with a file each; the daemons down.  (vault, backing folders)."""
    share.sh("mkdir one two; echo first > one/file; echo second > two/file")
    share.unmount()
    share.vault.down()
    store = share.vault.store()
    folders = sorted(os.path.join(r, d) for r, dirs, _ in os.walk(store) for d in dirs)
    folders = [f for f in folders if any(os.path.isfile(os.path.join(f, n)) and not os.path.islink(os.path.join(f, n)) and
                                         os.path.getsize(os.path.join(f, n)) >= SECTOR for n in os.listdir(f))]
    return share.vault, [f for f in folders if f != store][-2:]


def ids_of(folder):
    """The symlinks of a folder: its id is among them."""
    return [os.path.join(folder, n) for n in os.listdir(folder) if os.path.islink(os.path.join(folder, n))]


@pytest.mark.parametrize("how", ["flip", "swap", "remove"])
def test_damaged_directory_id(tree, how):
    """A directory whose id is altered, exchanged or missing opens nothing wrong; its neighbour is fine (unless swapped)."""
    v, folders = tree
    one, two = (ids_of(f)[0] for f in folders)
    a, b = os.readlink(one), os.readlink(two)
    os.unlink(one)
    if how == "flip":
        os.symlink(a[:10] + ("A" if a[10] != "A" else "B") + a[11:], one)
    elif how == "swap":
        os.unlink(two)
        os.symlink(b, one)
        os.symlink(a, two)
    m = again(v)
    r = m.sh('for d in one two; do cat "$d/file" 2>&1 || echo FAILED; done', check=False)
    assert r.out.count("FAILED") == (2 if how == "swap" else 1), r
    if how != "swap":
        assert ("first" in r.out) != ("second" in r.out), r
    assert any(x["op"] == "damage" for x in v.log()), r


def test_moved_directory(tree):
    """A directory moved on the store to another place is not taken for what stands there."""
    v, folders = tree
    a, b = folders
    os.rename(a, a + "x")
    os.rename(b, a)
    os.rename(a + "x", b)
    m = again(v)
    r = m.sh('for d in one two; do cat "$d/file" 2>&1 || echo FAILED; done', check=False)
    assert r.out.count("FAILED") == 2, r


# ---- key state and slot ----

def damage_each(paths, rnd):
    for path in paths:
        if os.path.getsize(path) and not path.endswith((".db", "-wal", "-shm", "CACHEDIR.TAG")):
            flip(path, rnd.randrange(os.path.getsize(path)), 1 << rnd.randrange(8))


def opens(v):
    """Whether alice's share can be read; else the text of what was said on the way."""
    r = v.up(check=None)
    text = r.err + r.out
    if r.rc == OK:
        m = v.mount(v.alice, check=None)
        if isinstance(m, Mount):
            return m.read("f") == b"x", text
        text += m.err
    return False, text + v.logs()


@pytest.fixture
def closed(share):
    share.write("f", "x")
    share.unmount()
    share.vault.down()
    return share.vault


@pytest.mark.parametrize("seed", range(4))
def test_damaged_key_state(closed, seed):
    """A flipped bit in the sealed keys: nothing opens, and it is called by its name; put back, all is well."""
    keys = [p for p in harness.files_below(closed.dir + "/keyd") if "/slot/" not in p]
    copy_tree(closed.dir, closed.base + "/sound")
    damage_each(keys, random.Random(seed))
    good, text = opens(closed)
    assert not good and "keyd/keys" in text, text
    closed.coffer("down", check=None)
    shutil.rmtree(closed.dir)
    os.rename(closed.base + "/sound", closed.dir)
    good, text = opens(closed)
    assert good, text


def test_one_damaged_half_of_the_slot_does_no_harm(closed):
    flip(closed.dir + "/keyd/slot/root.slot", 100)
    good, text = opens(closed)
    assert good, text
    closed.down()
    flip(closed.dir + "/keyd/slot/root.slot", 4096 + 100)
    good, text = opens(closed)
    assert good, "the half that was damaged first had been mended: " + text


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "missing", "key", "no-key"])
def test_damaged_slot(closed, how):
    slot = closed.dir + "/keyd/slot/"
    copy_tree(slot, closed.base + "/slot")
    if how == "flip":
        for at in (100, 4196):
            flip(slot + "root.slot", at)
    elif how in ("truncate", "empty"):
        os.truncate(slot + "root.slot", 100 if how == "truncate" else 0)
    elif how == "missing":
        os.unlink(slot + "root.slot")
    elif how == "key":
        flip(slot + "root.key", 5)
    else:
        os.unlink(slot + "root.key")
    good, text = opens(closed)
    assert not good and ("slot" in text or "key" in text), text
    closed.coffer("down", check=None)
    shutil.rmtree(slot)
    copy_tree(closed.base + "/slot", slot.rstrip("/"))
    good, text = opens(closed)
    assert good, "nothing was overwritten in the confusion: " + text


# ---- daemons that die ----

def test_worker_killed_under_an_open_session(share):
    share.write("f", "kept")
    kill9(share.worker())
    wait_for(lambda: not share.mounted(), "the mount's end")
    again = share.vault.mount(share.user, point=share.point)
    assert again.read("f") == b"kept"


@pytest.mark.sanitize
def test_fsd_killed_under_an_open_session(share):
    v = share.vault
    share.write("f", "kept")
    old = v.pid("fsd")
    kill9(old)
    wait_for(lambda: not share.mounted(), "the mount's end")
    wait_for(lambda: v.pids("fsd") not in ([], [old]), "a new fsd", limit=10)
    again = v.mount(share.user, point=share.point)
    assert again.read("f") == b"kept"


@pytest.mark.sanitize
def test_keyd_killed_under_an_open_session(share):
    """Fail closed: without keyd nobody could revoke; afterwards `coffer up` is all it takes."""
    v = share.vault
    share.write("f", "kept")
    a = v.actor(share.user, share.point)
    a.do("fd = os.open('f', os.O_RDONLY); os.pread(fd, 4, 0)")
    kill9(v.pid("keyd"))
    wait_for(lambda: a.errno("os.pread(fd, 4, 0)"), "the end of reading")
    wait_for(lambda: not share.mounted(), "the mount's end")
    wait_for(lambda: not v.pids("fsd") and not v.pids("worker"), "the end of fsd and worker", limit=10)
    v.coffer("mount", "acme", "--purpose", harness.PURPOSE, share.point, user=share.user, check=UNREACHABLE)
    v.up()
    again = v.mount(share.user, point=share.point)
    assert again.read("f") == b"kept"


def test_keyd_restarted_under_open_sessions(share):
    v = share.vault
    share.write("f", "kept")
    kill9(v.pid("keyd"))
    v.up()
    wait_for(lambda: not share.mounted(), "the old mount's end")
    again = v.mount(share.user, point=share.point)
    assert again.read("f") == b"kept"


def test_fsd_that_dies_again_and_again(acme):
    """keyd starts it each time; administration goes on."""
    for _ in range(3):
        old = acme.pid("fsd")
        kill9(old)
        wait_for(lambda: acme.pids("fsd") not in ([], [old]), "a new fsd", limit=10)
    wait_for(lambda: acme.coffer("log", check=None).rc == OK, "fsd answering", limit=10)
    acme.mount(acme.alice).write("f", "x")


def test_keyd_stopped_by_sigterm_is_like_down(share):
    v = share.vault
    os.kill(v.pid("keyd"), signal.SIGTERM)
    wait_for(lambda: not v.pids("keyd") and not v.pids("fsd") and not v.pids("worker"), "an orderly end", limit=10)
    wait_for(lambda: not share.mounted(), "the mount's end")


def test_two_sets_of_daemons_on_one_directory(share):
    v = share.vault
    before = harness.our_processes(v.dir)
    assert "already running" in v.up().out
    os.unlink(v.dir + "/run/keyd.sock")  # the command cannot see them any more: keyd finds the lock
    r = v.up(check=None)
    assert r.rc != OK and "already" in r.err + v.logs(), r
    assert harness.our_processes(v.dir).keys() == before.keys()
    share.write("f", "x")
    for pid in v.pids("keyd"):
        os.kill(pid, signal.SIGTERM)


def test_killed_while_writing_keeps_what_was_synced(share):
    """Every fsynced byte is there after kill -9 of the worker in the middle of writing."""
    a = share.vault.actor(share.user, share.point)
    a.do("""
import threading
synced = [0]
def work():
    try:
        fd = os.open('data', os.O_WRONLY | os.O_CREAT)
        for i in range(100000):
            os.pwrite(fd, b'%07d\\n' % i, i * 8)
            if i % 20 == 19: os.fsync(fd); synced[0] = i + 1
    except OSError:
        pass
t = threading.Thread(target=work, daemon=True); t.start()
""")
    wait_for(lambda: a.get("synced[0]") > 600, "some syncs", limit=30)
    kill9(share.worker())
    wait_for(lambda: not a.get("t.is_alive()"), "the writer's end")
    n = a.get("synced[0]")
    data = share.vault.mount(share.user).read("data")
    assert data[:n * 8] == b"".join(b"%07d\n" % i for i in range(n))


# ---- the disk ----

@pytest.fixture
def small_disk(make_vault):
    """A vault on an ext4 file system of its own, 128 MB; (vault, mount point)."""
    v = make_vault(up=False)
    image, point = v.base + "/image", v.base + "/disk"
    with open(image, "wb") as f:
        f.truncate(128 << 20)
    os.mkdir(point)
    for argv in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, point]):
        r = harness.run(argv)
        if r.rc:
            pytest.skip("no loop devices here: " + r.err.strip())
    os.chmod(point, 0o755)
    v.dir = point + "/D"
    v.up()
    v.add()
    v.grant("acme", v.alice)
    yield v
    v.coffer("down", check=None, timeout=60)


@pytest.mark.limit(120)
def test_full_disk(small_disk):
    """ENOSPC is said; what was there stays right; unmounting, removing and administration work; nothing is lost."""
    v = small_disk
    m = v.mount(v.alice)
    m.python("import random; open('before', 'wb').write(random.Random(1).randbytes(300000))")
    r = m.python("""
import errno, os
fd = os.open('big', os.O_WRONLY | os.O_CREAT)
try:
    while True: os.write(fd, b'x' * 1000000)
except OSError as e:
    assert e.errno == errno.ENOSPC, e
try:
    for i in range(100000):
        f = os.open(f's{i}', os.O_WRONLY | os.O_CREAT); os.write(f, b'y' * 4000); os.fsync(f); os.close(f)
except OSError as e:
    assert e.errno in (errno.ENOSPC, errno.EDQUOT), e
print('full')
""", timeout=60)
    assert "full" in r.out
    assert m.read("before") == random.Random(1).randbytes(300000)
    v.rows("client", "list")
    v.status()
    m.sh("rm -f big s*")
    m.write("after", "works again")
    assert m.read("after") == b"works again"
    m.unmount()
    again = v.mount(v.alice)
    assert again.read("before") == random.Random(1).randbytes(300000)
    again.unmount()
    v.coffer("log", "verify")
    assert any(r["op"] == "create" and "after" in str(r.get("path")) for r in v.log("--path", "after"))


def test_read_only_store(make_vault, acme):
    """The store's file system is read-only: reading works or is refused in words; writing says EROFS, and nothing breaks."""
    m = acme.mount(acme.alice)
    m.write("f", "x")
    m.unmount()
    acme.down()
    store = acme.dir + "/store"
    if harness.run(["mount", "--bind", store, store]).rc or harness.run(["mount", "-o", "remount,bind,ro", store]).rc:
        pytest.skip("no bind mounts here")
    try:
        up = acme.up(check=None)
        r = acme.mount(acme.alice, check=None) if up.rc == OK else up
        if isinstance(r, Mount):
            assert r.read("f") == b"x"
            assert harness.ERRNO.get(r.errno("open('new', 'w')")) == "EROFS"
            assert harness.ERRNO.get(r.errno("open('f', 'a')")) == "EROFS"
        else:
            assert "read-only" in r.err.lower(), r
    finally:
        acme.coffer("down", check=None, timeout=60)
        harness.run(["umount", "-l", store])
    acme.up()
    assert acme.mount(acme.alice).read("f") == b"x"


# ---- the policy ----

POLICY_ERRORS = {
    "unknown key": ("purposes:", "purpozes:"),
    "unknown basis": ("basis: legitimate-interest", "basis: curiosity"),
    "bad period": ("period: 90d", "period: ninety"),
    "bad rights": ("rights: rw", "rights: all"),
    "not yaml": ("format: 1", "format: [1"),
    "wrong format": ("format: 1", "format: 99"),
}


def policy_file(v):
    return os.path.join(v.base, "policy.yaml")


@pytest.mark.parametrize("name", POLICY_ERRORS)
def test_policy_with_a_typo(make_vault, name):
    """The daemons do not start on it, and say file, line and what is wrong."""
    v = make_vault()
    v.down()
    text = open(os.path.join(harness.SOURCE, "policy", "inemsoft.yaml")).read()
    old, new = POLICY_ERRORS[name]
    assert old in text
    line = text[:text.index(old)].count("\n") + 1
    with open(policy_file(v), "w") as f:
        f.write(text.replace(old, new, 1))
    r = v.coffer("up", "--policy", policy_file(v), check=None, timeout=60)
    assert r.rc != OK, r
    said = r.err + v.logs()
    assert "policy.yaml" in said, said
    assert any(str(n) in said for n in range(line, line + 3)), (line, said)
    assert not v.pids("keyd")
    assert v.coffer("policy", "check", policy_file(v), check=None).rc != OK
    v.up()


def test_own_policy_is_used(make_vault):
    v = make_vault()
    v.down()
    text = open(os.path.join(harness.SOURCE, "policy", "inemsoft.yaml")).read()
    with open(policy_file(v), "w") as f:
        f.write(text.replace("name: inemsoft", "name: ours", 1))
    v.coffer("up", "--policy", policy_file(v), timeout=60)
    assert v.status()["policy"]["name"] == "ours"


def test_no_daemon_leaves_descriptors_behind(acme):
    """Many mounts and refusals later the daemons hold no more descriptors than before."""
    def count():
        return {n: len(os.listdir(f"/proc/{acme.pid(n)}/fd")) for n in ("keyd", "fsd")}
    acme.mount(acme.alice).unmount()
    wait_for(lambda: not acme.pids("worker"), "the worker's end")
    before = count()
    for i in range(8):
        m = acme.mount(acme.alice)
        m.write("f", str(i))
        m.unmount()
        acme.mount(acme.bob, check=REFUSED)
    wait_for(lambda: not acme.pids("worker"), "the last worker's end")
    wait_for(lambda: all(count()[n] <= before[n] + 1 for n in before), f"descriptors going back to {before}")


def test_a_mount_that_went_says_where_to_look(share):
    """At five o'clock: the folder is empty, and nothing is mounted there."""
    m, v = share, share.vault
    kill9(m.worker())
    wait_for(lambda: not m.mounted(), "the end of the mount")
    r = m.unmount(check=None)
    assert r.rc == harness.NOT_FOUND and "coffer sessions" in r.err and "--ended" in r.err, r
    r = v.coffer("sessions", user=v.alice)
    assert "--ended" in r.out + r.err, r
    assert "worker died" in v.coffer("sessions", "--ended", user=v.alice).out
