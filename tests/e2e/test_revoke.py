"""Revocation: within a second nothing is readable through the session, cached and mapped pages included."""
import os
import signal
import subprocess
import time

import pytest

import harness
from harness import Died, Mount, PURPOSE, REFUSED, kill9, wait_for

SIZE = 200_000
SOON = 10  # promised is a second; on a machine that is busy, what counts is that it comes by itself (the lease would take 30)


def refuses(actor, statement):
    """Whether a statement fails with an error of the file system."""
    return actor.errno(statement) != 0


@pytest.fixture
def reading(share):
    """alice's program with a file open and its pages cached; (share, actor)."""
    share.python(f"open('f', 'wb').write(b'secret..' * {SIZE // 8}); open('g', 'w').write('other')")
    a = share.vault.actor(share.user, share.point)
    a.do(f"fd = os.open('f', os.O_RDWR); d = os.open('.', os.O_RDONLY); assert len(os.pread(fd, {SIZE}, 0)) == {SIZE}")
    return share, a


def revoked(share, check_mount=True):
    v = share.vault
    if check_mount:
        wait_for(lambda: not share.mounted(), "the mount's end", limit=SOON)
    wait_for(lambda: v.rows("sessions") == [], "the session's end", limit=SOON)
    assert not isinstance(v.mount(share.user, check=REFUSED), Mount)


@pytest.mark.sanitize
def test_open_descriptor(reading):
    share, a = reading
    share.vault.revoke("acme", share.user)
    for statement in (f"os.pread(fd, {SIZE}, 0)", "os.pread(fd, 1, 5000)", "os.pwrite(fd, b'x', 0)", "os.open('f', os.O_RDONLY)",
                      "os.open('g', os.O_RDONLY)", "os.listdir(d)", "os.open('f', os.O_RDONLY, dir_fd=d)",
                      "os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)"):
        assert refuses(a, statement), statement
    revoked(share)


def test_error_says_why(reading):
    """A program that reads on sees EKEYREVOKED, or that the connection is gone."""
    share, a = reading
    a.do("""
import threading, errno
seen = set()
def reader():
    while True:
        try: os.pread(fd, 4096, 0)
        except OSError as e:
            seen.add(errno.errorcode[e.errno])
            if e.errno in (errno.ENOTCONN, errno.ECONNABORTED): break
t = threading.Thread(target=reader, daemon=True); t.start()
""")
    share.vault.revoke("acme", share.user)
    wait_for(lambda: a.get("bool(seen)"), "the reader being refused", limit=SOON)
    assert a.get("seen") <= {"EKEYREVOKED", "ENOTCONN", "ECONNABORTED"}, a.get("seen")


@pytest.mark.parametrize("flags", ["mmap.MAP_SHARED", "mmap.MAP_PRIVATE"])
def test_mapped_pages(reading, flags):
    share, a = reading
    a.do(f"m = mmap.mmap(fd, {SIZE}, flags={flags}, prot=mmap.PROT_READ)")
    assert a.get("m[0:8]") == b"secret.." and a.get(f"m[{SIZE - 8}:{SIZE}]") == b"secret.."
    share.vault.revoke("acme", share.user)
    with pytest.raises(Died) as died:
        a.get("m[0:8]")
    assert died.value.code == -signal.SIGBUS
    revoked(share)


def test_dirty_mapped_pages_are_kept(reading):
    """What a program wrote through its mapping before the revocation is in the file afterwards."""
    share, a = reading
    a.do(f"m = mmap.mmap(fd, {SIZE}); m[100:108] = b'changed!'")
    share.vault.revoke("acme", share.user)
    share.vault.grant("acme", share.user)
    again = share.vault.mount(share.user)
    assert again.read("f")[100:108] == b"changed!"


def test_running_program_and_busy_directory(share):
    """A mount in use (working directory, running program) goes away all the same."""
    share.sh("cp /bin/sleep . && chmod +x sleep")
    a = share.vault.actor(share.user, share.point)
    a.do("import subprocess; p = subprocess.Popen(['./sleep', '1000'])")
    share.vault.revoke("acme", share.user)
    wait_for(lambda: not share.mounted(), "the mount's end", limit=SOON)
    a.do("p.kill(); p.wait()")


def test_record_says_so(reading):
    share, a = reading
    share.vault.revoke("acme", share.user)
    revoked(share)
    rows = share.vault.log()
    assert any(r["op"] == "revoke" for r in rows)
    end = [r for r in rows if r["op"] == "session-end"]
    assert end and "revoke" in str(end[-1].get("detail")).lower(), end


def test_after_kill_9_of_the_worker(reading):
    """The worker is killed and the grant revoked: open descriptor, cached and mapped pages are dead all the same."""
    share, a = reading
    b = share.vault.actor(share.user, share.point)
    b.do(f"fd = os.open('f', os.O_RDONLY); m = mmap.mmap(fd, {SIZE}, prot=mmap.PROT_READ)")
    assert b.get("m[0:8]") == b"secret.."
    kill9(share.worker())
    share.vault.revoke("acme", share.user)
    wait_for(lambda: refuses(a, "os.pread(fd, 8, 0)"), "the refusal of cached pages", limit=SOON)
    with pytest.raises(Died) as died:
        def touch():
            b.get("m[0:8]")
            return False
        wait_for(touch, "SIGBUS on the mapping", limit=SOON)
    assert died.value.code == -signal.SIGBUS
    revoked(share)


def test_kill_9_of_the_worker_alone_ends_the_session(reading):
    share, a = reading
    kill9(share.worker())
    wait_for(lambda: refuses(a, "os.pread(fd, 8, 0)"), "the end of cached reads", limit=SOON)
    wait_for(lambda: not share.mounted(), "the mount's end", limit=SOON)


def test_worker_that_hangs_is_killed(reading):
    """A worker stopped by SIGSTOP cannot acknowledge: it is killed, and its pages die."""
    share, a = reading
    os.kill(share.worker(), signal.SIGSTOP)
    share.vault.revoke("acme", share.user, timeout=20)
    wait_for(lambda: refuses(a, "os.pread(fd, 8, 0)"), "the refusal of cached pages", limit=3)
    wait_for(lambda: not share.mounted(), "the mount's end", limit=3)


def test_cached_names_and_attributes(share):
    """What the kernel keeps of files that are not open: names, attributes, targets, a list."""
    share.python("import os; os.mkdir('d'); [open(f'd/{i}', 'w').close() for i in range(50)]; os.symlink('d/1', 'l')")
    a = share.vault.actor(share.user, share.point)
    a.do("""
known = [os.open('d', os.O_PATH), os.open('d/7', os.O_PATH), os.open('.', os.O_PATH)]
def look(): return [os.stat(f'd/{i}').st_ino for i in os.listdir('d')], os.readlink('l'), [os.fstat(fd).st_ino for fd in known]
first = look()
""")
    assert a.get("len(first[0])") == 50 and a.get("look() == first")
    share.vault.revoke("acme", share.user)
    for i in range(50):
        assert refuses(a, f"os.stat('d/{i}')"), i
    for statement in ("os.fstat(known[0])", "os.fstat(known[1])", "os.fstat(known[2])", "os.stat('.')", "os.readlink('l')",
                      "os.listdir('d')", "os.stat('l', follow_symlinks=False)", "os.stat('.', dir_fd=known[0])"):
        assert refuses(a, statement), statement
    revoked(share)


def test_many_sessions_end_in_one_go(acme):
    """Each of them, with its reason in the record, and nobody else's."""
    acme.grant("acme", acme.bob)
    mounts, other = [acme.mount(acme.alice) for _ in range(6)], acme.mount(acme.bob)
    other.write("theirs", "x")
    mounts[0].python(f"open('f', 'wb').write(b'secret..' * {SIZE // 8})")
    actors = [acme.actor(acme.alice, m.point) for m in mounts]
    for a in actors:
        a.do(f"fd = os.open('f', os.O_RDONLY); m = mmap.mmap(fd, {SIZE}, prot=mmap.PROT_READ); assert m[0:8] == b'secret..'")
    assert acme.json("revoke", "acme", acme.alice.name)["sessions_ended"] == 6
    for a in actors:
        assert refuses(a, "os.pread(fd, 8, 0)") and refuses(a, "os.stat('f')")
        with pytest.raises(Died) as died:
            a.get("m[0:8]")
        assert died.value.code == -signal.SIGBUS
    assert [s["user"] for s in acme.rows("sessions")] == [acme.bob.name]
    assert other.read("theirs") == b"x"
    wait_for(lambda: not any(m.mounted() for m in mounts), "the mounts' end", limit=SOON)

    def told():
        rows = [r for r in acme.log("--client", "acme") if r["op"] == "session-end" and "revoked" in str(r.get("detail"))]
        return len({r["session"] for r in rows}) == 6
    wait_for(told, "the records of all six", limit=SOON)


def test_a_worker_that_hangs_holds_up_no_other(acme):
    """A suspension of a user of two clients: one worker cannot answer, the doors of the other are shut before it is killed."""
    acme.add("beta")
    acme.grant("beta", acme.alice)
    m, n = acme.mount(acme.alice), acme.mount(acme.alice, "beta")
    pairs = []
    for share in (m, n):
        share.python(f"open('f', 'wb').write(b'secret..' * {SIZE // 8})")
        a = acme.actor(acme.alice, share.point)
        a.do(f"fd = os.open('f', os.O_RDONLY); assert len(os.pread(fd, {SIZE}, 0)) == {SIZE}")
        pairs.append((share, a))
    os.kill(m.worker(), signal.SIGSTOP)
    acme.coffer("suspend", "--user", acme.alice.name, "--reason", "lost")
    for share, a in pairs:
        wait_for(lambda: refuses(a, "os.pread(fd, 8, 0)"), "the refusal of cached pages", limit=SOON)
        wait_for(lambda: not share.mounted(), "the mount's end", limit=SOON)
    assert acme.rows("sessions") == []
    wait_for(lambda: len({r["session"] for r in acme.log() if r["op"] == "session-end" and "suspended" in str(r.get("detail"))}) == 2,
             "both records with the reason", limit=SOON)


def test_second_users_session_goes_on(acme):
    acme.grant("acme", acme.bob)
    ma, mb = acme.mount(acme.alice), acme.mount(acme.bob)
    ma.python("open('f', 'wb').write(b'x' * 100000)")
    b = acme.actor(acme.bob, mb.point)
    b.do("""
import threading
fd = os.open('f', os.O_RDWR); m = mmap.mmap(fd, 100000); errors, rounds, stop = [], [0], threading.Event()
def work():
    while not stop.is_set():
        try:
            assert os.pread(fd, 100000, 0) == b'x' * 100000 and m[5000:5001] == b'x'
            g = os.open('g', os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.write(g, b'y'); os.close(g)
            rounds[0] += 1
        except BaseException as e:
            errors.append(repr(e)); break
t = threading.Thread(target=work, daemon=True); t.start()
""")
    wait_for(lambda: b.get("rounds[0]") > 5, "bob at work")
    pid = mb.worker()
    acme.revoke("acme", acme.alice)
    wait_for(lambda: not ma.mounted(), "the end of alice's mount", limit=SOON)
    n = b.get("rounds[0]")
    wait_for(lambda: b.get("rounds[0]") > n + 5 or b.get("errors"), "bob going on")
    b.do("stop.set()")
    assert b.get("errors") == []
    assert mb.mounted() and mb.worker() == pid
    assert not isinstance(acme.mount(acme.alice, check=REFUSED), Mount)


def test_one_purpose_revoked_leaves_the_other(acme):
    acme.grant("acme", acme.alice, harness.OTHER_PURPOSE)
    m, n = acme.mount(acme.alice), acme.mount(acme.alice, "acme", harness.OTHER_PURPOSE)
    acme.revoke("acme", acme.alice, "--purpose", PURPOSE)
    wait_for(lambda: not m.mounted(), "the end of the revoked session", limit=SOON)
    n.write("f", "x")


def test_revoking_a_group(acme):
    acme.grant("acme", "ct_team", PURPOSE, "rw", "--group")
    m, other = acme.mount(acme.carol), acme.mount(acme.alice)
    acme.revoke("acme", "ct_team", "--group")
    wait_for(lambda: not m.mounted(), "the end of the group's session", limit=SOON)
    other.write("f", "x")


def test_user_taken_out_of_a_group(make_vault):
    """Nobody tells us: keyd looks every minute (here: every second)."""
    v = make_vault(up=False)
    v.up_with_groups(env={"COFFER_RECHECK": "1"})
    v.add()
    v.grant("acme", "ct_team", PURPOSE, "rw", "--group")
    v.grant("acme", v.alice)
    m, other = v.mount(v.carol), v.mount(v.alice)
    v.leave(v.carol, "ct_team")
    wait_for(lambda: not m.mounted(), "the end of the session that rested on the group", limit=10)
    assert other.mounted()
    other.write("f", "x")
    assert "no grant holds any more" in str([r for r in v.log("--client", "acme") if r["op"] == "session-end"])


def test_an_end_that_lies_ahead(acme):
    """`client end --on` a moment from now ends a session that is open already, and limits one that begins."""
    m = acme.mount(acme.alice)
    soon = int(time.time()) + 4
    acme.coffer("client", "end", "acme", "--on", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon)))
    assert m.mounted()
    later = acme.mount(acme.alice)
    assert [s["until"] for s in acme.rows("sessions")] == [soon, soon]
    wait_for(lambda: not m.mounted() and not later.mounted(), "the end of both", limit=10)
    acme.mount(acme.alice, check=harness.DESTROYED)


def test_two_grants_one_revoked_keeps_the_session(acme):
    """carol has the purpose by name and by group: taking one away is no reason to end her session."""
    acme.grant("acme", "ct_team", PURPOSE, "rw", "--group")
    acme.grant("acme", acme.carol)
    m = acme.mount(acme.carol)
    acme.revoke("acme", "ct_team", "--group")
    again = acme.mount(acme.carol)
    again.write("f", "x")
    assert not m.mounted() or m.read("f") == b"x"


def test_revoked_then_granted_again(reading):
    share, a = reading
    share.vault.revoke("acme", share.user)
    share.vault.grant("acme", share.user)
    again = share.vault.mount(share.user)
    assert again.read("g") == b"other"
    assert refuses(a, "os.pread(fd, 8, 0)"), "the old descriptor stays dead"


def test_ordinary_revoke_cannot_be_done_by_the_user_himself(share):
    share.vault.revoke("acme", share.user, user=share.user, check=REFUSED)
    share.write("f", "x")


def test_descriptor_passed_to_another_user(reading):
    """bob gets alice's open descriptor: what is not cached is refused to him, and revocation reaches him too."""
    share, a = reading
    v = share.vault
    b = v.actor(v.bob)
    b.do("import socket, array; s = socket.socket(socket.AF_UNIX); s.bind('pass'); s.listen(1); os.chmod('pass', 0o777)")
    a.do(f"import socket, array; c = socket.socket(socket.AF_UNIX); c.connect({v.bob.home + '/pass'!r}); "
         "big = os.open('big', os.O_RDWR | os.O_CREAT); os.pwrite(big, b'x' * 4000000, 0); "
         "c.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [big]))])")
    b.do("c, _ = s.accept(); fds = array.array('i'); "
         "_, anc, _, _ = c.recvmsg(1, 100); fds.frombytes(anc[0][2]); fd = fds[0]")
    assert refuses(b, "os.pwrite(fd, b'forged', 0)")
    assert a.get("os.pread(big, 6, 0)") == b"xxxxxx"
    v.revoke("acme", share.user)
    assert refuses(b, "os.pread(fd, 100, 0)")
