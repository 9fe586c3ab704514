"""The story's first steps: daemons up and down, clients, grants, what one may, and why not."""
import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import time

import pytest

import harness
from harness import FAILED, NOT_FOUND, PURPOSE, REFUSED, UNREACHABLE, USAGE, wait_for

# ---- up, down, status ----

@pytest.mark.sanitize
def test_up_starts_both_daemons_and_down_leaves_nothing(make_vault):
    v = make_vault()
    assert v.pids("keyd") and v.pids("fsd")
    v.down()
    wait_for(lambda: not harness.our_processes(v.dir), "end of the daemons")
    assert not os.path.exists(v.dir + "/run/keyd.sock")
    assert not os.path.exists(v.dir + "/run/fsd.sock")


def test_down_unmounts_what_is_mounted(share):
    share.write("a", "a")
    share.vault.down()
    wait_for(lambda: not share.mounted(), "unmounting")
    wait_for(lambda: not harness.our_processes(share.vault.base), "end of keeper and daemons")
    assert os.listdir(share.point) == []


def test_down_and_up_twice_are_said_and_harmless(vault):
    before = harness.our_processes(vault.dir)
    assert "already running" in vault.up().out
    assert harness.our_processes(vault.dir) == before
    vault.down()
    assert "not running" in vault.down().out


def test_data_is_there_after_down_and_up(share):
    share.write("kept", "still here")
    share.unmount()
    share.vault.down()
    share.vault.up()
    again = share.vault.mount(share.user)
    assert again.read("kept") == b"still here"


@pytest.mark.parametrize("file, daemon", [("keyd/facts.db", "keyd"), ("ledger/ledger.db", "fsd")])
def test_state_of_a_later_version_is_named_and_left_alone(acme, file, daemon):
    """Going back to an older package must not read what it does not know as something else."""
    path = os.path.join(acme.dir, file)

    def words():
        with open(os.path.join(acme.dir, "log", f"{daemon}.log")) as f:
            return f.read()

    acme.down()
    with contextlib.closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version={version + 1}")
    # not acme.up(): it waits until the daemons answer
    up = subprocess.Popen([acme.programs + "/tools/coffer", "--dir", acme.dir, "up"], stderr=subprocess.DEVNULL)
    harness.wait_for(lambda: f"{path} was written by a later version of Coffer: start that version" in words(), "the word")
    acme.down(check=None)
    assert up.wait(30) != 0
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == version + 1
        db.execute(f"PRAGMA user_version={version}")
    acme.up()


def test_commands_without_daemons_say_how_to_start_them(make_vault):
    v = make_vault(up=False)
    os.mkdir(v.dir, 0o711)
    for args in (["status"], ["shares"], ["client", "list"], ["log"]):
        r = v.coffer(*args, check=UNREACHABLE)
        assert "coffer up" in r.err, r


def test_commands_find_the_daemons_by_environment(vault):
    r = harness.run([vault.programs + "/tools/coffer", "status", "--json"], env={"COFFER_DIR": vault.dir})
    assert r.rc == 0 and r.json["state"] == "open", r


def test_dir_option_wins_over_environment(vault):
    r = harness.run([vault.programs + "/tools/coffer", "--dir", vault.dir, "status", "--json"],
                    env={"COFFER_DIR": "/nonexistent"})
    assert r.rc == 0, r


def test_state_is_closed_to_others(vault):
    for name in ("keyd", "ledger", "store", "log"):
        mode = stat.S_IMODE(os.stat(os.path.join(vault.dir, name)).st_mode)
        # the store's own folder may be passed through, never listed
        assert mode & 0o066 == 0, (name, oct(mode))
    assert vault.alice.run("ls", vault.dir + "/keyd").rc != 0
    assert vault.alice.run("ls", vault.dir + "/store").rc != 0


def test_daemons_keep_few_privileges(vault):
    """keyd keeps what it must give its workers, fsd nothing; neither can gain more."""
    def field(pid, name):
        with open(f"/proc/{pid}/status") as f:
            return next(line.split()[1] for line in f if line.startswith(name + ":"))
    needed = 1 << 0 | 1 << 1 | 1 << 3  # CHOWN, DAC_OVERRIDE, FOWNER
    with open(f"/proc/{vault.pid('keyd')}/limits") as f:
        if not re.search(r"Max locked memory +unlimited", f.read()):
            needed |= 1 << 14  # IPC_LOCK, where the limit cannot be lifted
    assert int(field(vault.pid("keyd"), "CapEff"), 16) & ~needed == 0
    assert int(field(vault.pid("keyd"), "CapBnd"), 16) & ~needed == 0
    assert int(field(vault.pid("fsd"), "CapEff"), 16) == 0
    assert field(vault.pid("fsd"), "NoNewPrivs") == "1"


def test_worker_is_confined(share):
    pid = share.worker()
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    needed = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 14  # CHOWN, DAC_OVERRIDE, FOWNER, IPC_LOCK
    assert int(status["CapEff"], 16) & ~needed == 0
    assert status["NoNewPrivs"] == "1"
    if not harness.SANITIZED:
        assert status["Seccomp"] == "2"
        box = share.vault.status()["sandbox"]
        assert box["seccomp"] and box["landlock"], box


def test_ordinary_user_runs_his_own(make_vault):
    """Started by alice, everything runs as alice and serves her."""
    v = make_vault(up=False)
    v.dir = v.alice.mkdir("D")
    v.up(user=v.alice)
    for pid in harness.our_processes(v.dir):
        assert os.stat(f"/proc/{pid}").st_uid in (v.alice.uid, 0)  # an undumpable process's files belong to root
        with open(f"/proc/{pid}/status") as f:
            assert f"\nUid:\t{v.alice.uid}\t{v.alice.uid}" in f.read()
    v.add(user=v.alice)
    v.grant("acme", v.alice, user=v.alice)
    m = v.mount(v.alice)
    m.write("x", "mine")
    assert m.read("x") == b"mine"
    v.down(user=v.alice)
    wait_for(lambda: not harness.our_processes(v.base), "end of the daemons")


def test_status_says_what_there_is(acme):
    s = acme.status()
    assert s["state"] == "open" and s["mode"] == "embedded"
    assert s["policy"]["name"] == "inemsoft" and s["policy"]["version"] == "2024-05-10"
    assert s["slots"] and os.path.exists(os.path.join(acme.dir, s["slots"][0]["path"]))
    assert s["clock"]["state"] == "trusted"
    assert s["clients"] == 1


def test_status_says_what_the_key_file_means(vault):
    """Embedded default: the key lies beside the data; `status` has to say so."""
    s = vault.status()
    assert s["separation"] is False
    assert s["warnings"], s
    text = vault.coffer("status").out
    assert "key" in text.lower()


def test_key_file_is_for_its_owner_only(vault):
    for path in harness.files_below(vault.dir + "/keyd"):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, path


# ---- clients ----

def test_client_add_and_list(vault):
    vault.add()
    rows = vault.rows("client", "list")
    assert [(c["client"], c["name"], c["email"]) for c in rows] == [("acme", "Acme Corp", "privacy@acme.example")]


def test_client_twice_is_refused(acme):
    r = acme.add(check=None)
    assert r.rc != 0 and "acme" in r.err


@pytest.mark.parametrize("name", ["", "Acme Corp", "a/b", "../x", "-rf", ".", "ä", "a" * 300])
def test_client_names_are_checked(vault, name):
    r = vault.coffer("client", "add", "--name", "N", "--email", "a@b.example", "--", name, check=None)
    assert r.rc in (FAILED, USAGE), r
    assert vault.rows("client", "list") == []


def test_ordinary_user_cannot_administer(acme):
    """Denials for each act of an admin; nothing changes."""
    bob = acme.bob
    for args in (["client", "add", "evil", "--name", "E", "--email", "e@e.example"],
                 ["grant", "acme", bob.name, "--purpose", PURPOSE, "--rights", "rw"],
                 ["revoke", "acme", acme.alice.name],
                 ["client", "end", "acme", "--on", "2026-01-01"],
                 ["hold", "place", "acme", "--matter", "m", "--reason", "r"],
                 ["clock", "confirm"],
                 ["expiry", "cancel", "acme", "--reason", "r"],
                 ["expiry", "schedule", "acme", "--on", "2027-01-01", "--reason", "r"],
                 ["expiry", "confirm", "acme"],
                 ["event", "set", "acme", "contract-end", "2027-01-01"],
                 ["seal"],
                 ["down"]):
        r = acme.coffer(*args, user=bob, check=REFUSED)
        assert r.err, args
    assert [c["client"] for c in acme.rows("client", "list")] == ["acme"]
    assert [g["subject"] for g in acme.rows("access", "acme")] == [acme.alice.name]
    assert acme.status()["state"] == "open"


def test_bob_sees_nothing_of_others(acme):
    assert acme.rows("client", "list", user=acme.bob) == []
    assert acme.rows("shares", user=acme.bob) == []
    assert acme.alice.name not in acme.coffer("access", "acme", user=acme.bob, check=None).out


# ---- grants ----

def test_grant_shows_in_access_and_shares(acme):
    g, = acme.rows("access", "acme")
    assert (g["subject"], g["purpose"], g["rights"], g["group"]) == (acme.alice.name, PURPOSE, "rw", False)
    assert g["uid"] == acme.alice.uid
    s, = acme.rows("shares", user=acme.alice)
    assert (s["client"], s["purpose"], s["rights"]) == ("acme", PURPOSE, "rw")


def test_grant_by_group(acme):
    acme.grant("acme", "ct_team", PURPOSE, "rw", "--group")
    m = acme.mount(acme.carol)
    m.write("by-group", "x")
    assert m.read("by-group") == b"x"
    assert not isinstance(acme.mount(acme.bob, check=REFUSED), harness.Mount)


def test_read_grant_gives_no_write(acme):
    acme.grant("acme", acme.bob, PURPOSE, "r")
    a = acme.mount(acme.alice)
    a.write("f", "text")
    b = acme.mount(acme.bob)
    assert b.read("f") == b"text"
    for statement in ("open('new', 'w')", "open('f', 'a')", "os.truncate('f', 0)", "os.mkdir('d')", "os.unlink('f')",
                      "os.rename('f', 'g')", "os.chmod('f', 0o600)", "os.symlink('f', 's')", "os.link('f', 'h')",
                      "os.setxattr('f', 'user.a', b'b')", "os.utime('f')"):
        assert harness.ERRNO.get(b.errno(statement)) in ("EROFS", "EACCES", "EPERM"), statement
    assert a.read("f") == b"text"


def test_read_only_mount_of_a_write_grant(acme):
    m = acme.mount(acme.alice, "acme", PURPOSE, "--read-only")
    assert harness.ERRNO.get(m.errno("open('new', 'w')")) in ("EROFS", "EACCES", "EPERM")
    assert m.sh("ls").out == ""


@pytest.mark.parametrize("args, word", [
    (["nobody", "ct_alice", "--purpose", PURPOSE, "--rights", "rw"], "nobody"),
    (["acme", "no_such_user", "--purpose", PURPOSE, "--rights", "rw"], "no_such_user"),
    (["acme", "no_such_group", "--group", "--purpose", PURPOSE, "--rights", "rw"], "no_such_group"),
    (["acme", "ct_alice", "--purpose", "gossip", "--rights", "rw"], "gossip"),
    (["acme", "ct_alice", "--purpose", PURPOSE, "--rights", "rwx"], "rwx"),
    (["acme", "ct_alice", "--purpose", PURPOSE, "--rights", "rw", "--until", "31.12.2026"], "31.12.2026"),
    (["acme", "ct_alice", "--purpose", PURPOSE, "--rights", "rw", "--until", "2026-02-30"], "2026-02-30"),
    (["acme", "ct_alice", "--purpose", PURPOSE, "--rights", "rw", "--party", "friend"], "friend"),
])
def test_grant_names_what_it_does_not_know(acme, args, word):
    before = acme.rows("access", "acme")
    r = acme.coffer("grant", *args, check=None)
    assert r.rc in (FAILED, USAGE, NOT_FOUND), r
    assert word in r.err, r
    assert acme.rows("access", "acme") == before


def test_access_remembers_what_was_revoked(acme):
    acme.revoke("acme", acme.alice)
    assert [g for g in acme.rows("access", "acme") if not g.get("revoked_at")] == []
    assert acme.rows("shares", user=acme.alice) == []


def test_revoke_of_nothing_is_said(acme):
    assert acme.revoke("acme", acme.bob, check=None).rc in (NOT_FOUND, FAILED)


# ---- why ----

def test_why_yes_and_no(acme):
    yes = acme.json("why", acme.alice.name, "acme", "--purpose", PURPOSE)
    assert yes["verdict"] == "allow" and all(s["passed"] for s in yes["steps"])
    assert any(s["source"] for s in yes["steps"])
    no = acme.json("why", acme.bob.name, "acme", "--purpose", PURPOSE, check=None)
    assert no["verdict"] == "deny" and no["message"] and no["remedy"]
    assert [s["rule"] for s in no["steps"] if not s["passed"]] == ["grant"]


def test_why_about_others_is_for_admins(acme):
    acme.coffer("why", acme.alice.name, "acme", "--purpose", PURPOSE, user=acme.bob, check=REFUSED)
    acme.coffer("why", acme.bob.name, "acme", "--purpose", PURPOSE, "--json", user=acme.bob, check=None)


def test_sessions_shows_own_only_to_users(acme):
    acme.grant("acme", acme.bob)
    m, n = acme.mount(acme.alice), acme.mount(acme.bob)
    assert {s["user"] for s in acme.rows("sessions")} == {acme.alice.name, acme.bob.name}
    mine, = acme.rows("sessions", user=acme.alice)
    assert (mine["user"], mine["client"], mine["purpose"], mine["ticket"]) == (acme.alice.name, "acme", PURPOSE, harness.TICKET)
    assert mine["mountpoint"] == m.point and n.mounted()


def test_two_clients_are_two_rooms(acme):
    """A session of one client never reaches the other's files; each has a worker of its own."""
    acme.add("globex", "Globex", "dpo@globex.example")
    acme.grant("globex", acme.alice)
    a, g = acme.mount(acme.alice, "acme"), acme.mount(acme.alice, "globex")
    a.write("only-acme", "1")
    assert g.sh("ls -A").out == ""
    assert a.worker() != g.worker()
    harness.kill9(g.worker())
    assert a.read("only-acme") == b"1"


# ---- the end of a permission without a revocation ----

def in_seconds(n):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + n))


def test_session_ends_with_its_grant(acme):
    """The grant's end comes while bob has the share mounted and a file open."""
    acme.grant("acme", acme.bob, PURPOSE, "rw", "--until", in_seconds(4 * harness.SLOW))
    m = acme.mount(acme.bob)
    m.write("f", "x")
    a = acme.actor(acme.bob, m.point)
    a.do("fd = os.open('f', os.O_RDONLY); os.pread(fd, 1, 0)")
    wait_for(lambda: a.errno("os.pread(fd, 1, 0)"), "the end of reading", limit=8)
    wait_for(lambda: not m.mounted(), "the mount's end", limit=2)
    assert not isinstance(acme.mount(acme.bob, check=REFUSED), harness.Mount)


def test_suspended_client_ends_sessions_and_opens_again(share):
    v = share.vault
    share.write("f", "x")
    v.coffer("suspend", "acme", "--reason", "audit", user=v.bob, check=REFUSED)
    v.coffer("suspend", "acme", "--reason", "audit")
    wait_for(lambda: not share.mounted(), "the mount's end", limit=2)
    r = v.mount(share.user, check=REFUSED)
    assert "audit" in r.err or "suspend" in r.err.lower()
    v.coffer("resume", "acme", "--reason", "done")
    assert v.mount(share.user).read("f") == b"x"


def test_session_end_by_its_user_and_not_by_others(share):
    v = share.vault
    number = str(share.session()["session"])
    assert v.coffer("session", "end", number, user=v.bob, check=None).rc in (REFUSED, NOT_FOUND)
    assert share.mounted()
    v.coffer("session", "end", number, user=share.user)
    wait_for(lambda: not share.mounted(), "the mount's end", limit=2)
    v.mount(share.user).write("f", "x")
