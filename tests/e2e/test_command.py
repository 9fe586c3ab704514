"""What `coffer` does by itself: policies, keys and copies checked without the daemons, filters of the log, passphrases on a
terminal, the keeper of a mount, completion."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest

import harness
from harness import DAMAGED, FAILED, NOT_FOUND, OK, PURPOSE, REFUSED, TICKET, USAGE, wait_for

POLICY = os.path.join(harness.SOURCE, "policy", "inemsoft.yaml")


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


# ---- policies ----

def test_policy_check(vault):
    assert "good" in vault.coffer("policy", "check", POLICY).out
    text = open(POLICY).read()
    wrong = write(vault.base + "/wrong.yaml", text.replace("rights: rw", "rights: rwx", 1))
    line = text[:text.index("rights: rw")].count("\n") + 1
    r = vault.coffer("policy", "check", wrong, check=USAGE)
    assert f"wrong.yaml:{line}" in r.err, r
    assert "missing.yaml" in vault.coffer("policy", "check", vault.base + "/missing.yaml", check=USAGE).err


def test_policy_show_is_the_one_in_force(vault):
    shown = vault.json("policy", "show")
    assert {p["purpose"] for p in shown["purposes"]} >= {PURPOSE, "support"}
    assert shown["hash"] == vault.status()["policy"]["hash"]
    assert PURPOSE in vault.coffer("policy", "show").out


def test_own_policy_is_used_from_the_state_directory(vault):
    vault.down()
    text = open(POLICY).read().replace("name: inemsoft", "name: another", 1)
    assert "name: another" in text
    write(vault.dir + "/policy.yaml", text)
    vault.up()
    assert vault.status()["policy"]["name"] == "another"
    assert vault.json("policy", "show")["name"] == "another"


def test_another_policy_for_running_daemons_is_refused(vault):
    r = vault.coffer("up", "--policy", POLICY, check=FAILED)
    assert "coffer down" in r.err, r


def test_show_does_not_pass_another_policy_off(vault):
    """The file lies there, but what runs was started before it."""
    write(vault.dir + "/policy.yaml", open(POLICY).read() + "# another file\n")
    assert vault.json("policy", "show")["hash"] == vault.status()["policy"]["hash"]


# ---- what is checked with a public key ----

@pytest.fixture
def copy(share):
    """A copy of a ledger with some batches, and the key that signed it; the vault goes on."""
    v = share.vault
    share.write("report.txt", "x")
    v.coffer("log", "verify")
    key = write(v.base + "/signing.pub", v.coffer("public-key").out)
    share.unmount()
    v.coffer("log", "verify")
    v.down()
    harness.copy_tree(v.dir + "/ledger/ledger.db", v.base + "/copy.db")
    v.up()
    return v, v.base + "/copy.db", key


def test_public_key_is_one_line(vault):
    key = vault.coffer("public-key").out
    assert len(key.splitlines()) == 1 and len(key.strip()) == 44
    assert vault.json("public-key")["public_key"] == key.strip()
    vault.coffer("seal")
    assert vault.coffer("public-key").out == key


def test_offline_verification(copy):
    v, db, key = copy
    r = v.json("log", "verify", "--db", db, "--pubkey", key)
    assert r["records"] > 0 and r["signed_until"] > 0 and "first_bad" not in r
    assert "not checked" in v.coffer("log", "verify", "--db", db).out
    another = write(v.base + "/another.pub", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n")
    v.coffer("log", "verify", "--db", db, "--pubkey", another, check=DAMAGED)


@pytest.mark.parametrize("args, word", [
    (["--pubkey", "{key}"], "--db"),
    (["--db", "{base}/missing.db"], "missing.db"),
    (["--db", "{db}", "--pubkey", "{base}/missing.pub"], "missing.pub"),
    (["--db", "{db}", "--pubkey", "{db}"], "public key"),
])
def test_offline_verification_names_what_is_wrong(copy, args, word):
    v, db, key = copy
    r = v.coffer("log", "verify", *(a.format(db=db, key=key, base=v.base) for a in args), check=USAGE)
    assert word in r.err, r


def test_what_is_no_ledger(copy):
    v, _, key = copy
    v.coffer("log", "verify", "--db", write(v.base + "/text", "no ledger at all\n" * 100), "--pubkey", key, check=DAMAGED)


def test_certificate_verify_refuses_what_is_none(vault):
    key = write(vault.base + "/key", vault.coffer("public-key").out)
    for name, text in (("garbage", "{"), ("other", "{}"), ("half", '{"certificate": {}}')):
        r = vault.coffer("certificate", "verify", write(vault.base + "/" + name, text), "--pubkey", key, check=USAGE)
        assert name in r.err, r
    forged = {"certificate": {"client": {"client": "acme"}}, "signature": "00" * 64, "public_key": "00" * 32}
    vault.coffer("certificate", "verify", write(vault.base + "/forged", json.dumps(forged)), "--pubkey", key, check=DAMAGED)


# ---- log ----

def test_log_filters(share):
    v = share.vault
    share.sh("mkdir -p docs/old && echo a > docs/a.pdf && echo b > docs/old/b.pdf && echo c > docs2 && cat docs/a.pdf")

    def paths(*filters):
        return {r["path"] for r in v.log(*filters)}
    assert paths("--path", "docs") == {"docs", "docs/a.pdf", "docs/old", "docs/old/b.pdf"}
    assert paths("--path", "docs/old/") == {"docs/old/b.pdf"}
    assert paths("--path", "*.pdf") == {"docs/a.pdf", "docs/old/b.pdf"}
    assert paths("--path", "nothing") == set()
    assert len(v.log("--limit", "3")) == 3
    assert len(v.log("--path", "*.pdf", "--limit", "1")) == 1
    assert v.log("--since", "tomorrow") == [] and v.log("--until", "yesterday") == []
    assert v.log("--user", "nobody") == []
    assert {r["ticket"] for r in v.log("--session", str(share.session()["session"]))} == {TICKET}


def test_log_json_is_one_row_a_line(share):
    share.write("f", "x")
    lines = share.vault.coffer("log", "--json").out.splitlines()
    assert lines[0] == "[" and lines[-1] == "]"
    assert all(json.loads(line.rstrip(","))["op"] for line in lines[1:-1])
    assert share.vault.coffer("log", "--user", "nobody", "--json").out == "[]\n"


def test_log_table_shows_acts_in_words_and_no_escapes(share):
    share.sh("touch \"$(printf 'evil\\033[31mname')\"")
    r = share.vault.coffer("log")
    assert b"\x1b" not in r.out_bytes and b"\x9b" not in r.out_bytes
    assert "evil" in r.out and "subject=" + share.user.name in r.out and "{" not in r.out


def test_log_of_sealed_names(share):
    share.write("secret-name", "x")
    share.unmount()
    share.vault.coffer("seal")
    out = share.vault.coffer("log").out
    assert "(sealed)" in out and "secret-name" not in out


def test_forecast_names_the_holds(acme):
    acme.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "r")
    out = acme.coffer("retention", "forecast").out
    assert "1 (case 17)" in out and "{" not in out


# ---- mount ----

def test_umount_is_unmount(share):
    share.vault.coffer("umount", share.point, user=share.user)
    assert not share.mounted()


def test_unmount_by_session_number(share):
    share.vault.coffer("unmount", "--session", str(share.session()["session"]), user=share.user)
    assert not share.mounted()
    share.vault.coffer("unmount", "--session", "4711", user=share.user, check=NOT_FOUND)


def test_busy_mount_is_said_and_lazy_helps(share):
    share.write("f", "x")
    a = share.vault.actor(share.user, share.point)
    r = share.unmount(check=FAILED)
    assert share.point in r.err and "--lazy" in r.err, r
    assert share.mounted()
    share.vault.coffer("unmount", "--lazy", share.point, user=share.user)
    assert not share.mounted()
    a.stop()


def test_failed_mount_leaves_no_session(acme):
    """/dev/fuse or fusermount3 fails after keyd said yes: the session it had in mind is taken back."""
    point = acme.alice.mkdir("p")
    r = acme.coffer("mount", "acme", "--purpose", PURPOSE, "--ticket", TICKET, point, user=acme.alice,
                    env={"PATH": "/nonexistent"}, check=FAILED)
    assert "apt install fuse3" in r.err, r
    assert acme.rows("sessions") == [] and harness.mounts_below(acme.base) == []


def test_mount_does_not_hold_its_callers_pipes(acme):
    """Who reads the output of `coffer mount` gets its end, though the keeper lives on."""
    point = acme.alice.mkdir("p")
    p = subprocess.Popen([acme.programs + "/tools/coffer", "--dir", acme.dir, "mount", "acme", "--purpose", PURPOSE, "--ticket",
                          TICKET, point], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **harness.identity(acme.alice))
    out, _ = p.communicate(timeout=20)
    assert p.returncode == OK and point.encode() in out


def keepers(v):
    return [pid for pid, name in harness.our_processes(v.base).items() if name == "coffer"]


def test_a_late_keeper_leaves_a_newer_mount_alone(share):
    """It is told that its session is over, and by then another mount stands there."""
    v = share.vault
    (old,) = keepers(v)
    os.kill(old, signal.SIGSTOP)
    try:
        v.coffer("session", "end", str(share.session()["session"]))
        share.user.run("fusermount3", "-uz", share.point)
        wait_for(lambda: not share.mounted(), "the first mount's end")
        again = v.mount(share.user, point=share.point)
    finally:
        os.kill(old, signal.SIGCONT)
    wait_for(lambda: old not in keepers(v), "the old keeper's end")
    again.write("f", "still there")
    assert again.mounted() and len(keepers(v)) == 1


def test_keeper_holds_nothing_but_its_socket(share):
    (pid,) = keepers(share.vault)
    fds = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert fds["0"].startswith("socket:") and set(fds) <= {"0", "1", "2"}, fds
    assert all(link == "/dev/null" for fd, link in fds.items() if fd != "0"), fds
    assert os.readlink(f"/proc/{pid}/cwd") == "/" and os.getsid(pid) == pid
    assert os.stat(f"/proc/{pid}").st_uid == share.user.uid
    share.unmount()
    wait_for(lambda: keepers(share.vault) == [], "the keeper's end with its session")


# ---- passphrases on a terminal ----

class Terminal:
    """A command under a terminal of its own."""

    def __init__(self, argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.seen = b""

    def expect(self, text, limit=20):
        end = time.monotonic() + limit
        while text not in self.seen:
            assert time.monotonic() < end and select.select([self.fd], [], [], limit)[0], self.seen
            self.seen += os.read(self.fd, 4096)

    def type(self, text):
        os.write(self.fd, text)

    def finish(self, limit=60):
        end = time.monotonic() + limit
        while time.monotonic() < end and select.select([self.fd], [], [], limit)[0]:
            try:
                data = os.read(self.fd, 4096)
            except OSError:  # EIO: the last one closed it
                break
            if not data:
                break
            self.seen += data
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return status


def on_terminal(v, *args):
    return Terminal([v.programs + "/tools/coffer", "--dir", v.dir, *args])


def test_passphrase_is_asked_twice_and_not_shown(vault):
    t = on_terminal(vault, "passphrase")
    t.expect(b"New passphrase: ")
    t.type(b"correct horse\n")
    t.expect(b"again: ")
    t.type(b"correct horse\n")
    assert os.waitstatus_to_exitcode(t.finish()) == OK, t.seen
    assert b"horse" not in t.seen
    vault.coffer("seal")
    t = on_terminal(vault, "unseal")
    t.expect(b"Passphrase: ")
    t.type(b"wrong horse\n")
    assert os.waitstatus_to_exitcode(t.finish()) == REFUSED, t.seen
    t = on_terminal(vault, "unseal")
    t.expect(b"Passphrase: ")
    t.type(b"correct horse\n")
    assert os.waitstatus_to_exitcode(t.finish()) == OK, t.seen


def test_two_different_passphrases_change_nothing(vault):
    t = on_terminal(vault, "passphrase")
    t.expect(b"New passphrase: ")
    t.type(b"one\n")
    t.expect(b"again: ")
    t.type(b"other\n")
    assert os.waitstatus_to_exitcode(t.finish()) == USAGE, t.seen
    vault.coffer("seal")
    vault.coffer("unseal")


def test_interrupted_prompt_gives_the_echo_back(vault):
    import termios
    t = on_terminal(vault, "passphrase")
    t.expect(b"New passphrase: ")
    wait_for(lambda: not termios.tcgetattr(t.fd)[3] & termios.ECHO, "the echo's end")
    t.type(b"\x03")
    wait_for(lambda: termios.tcgetattr(t.fd)[3] & termios.ECHO, "the echo")
    assert os.waitstatus_to_exitcode(t.finish()) == -signal.SIGINT, t.seen


# ---- completion ----

def completions(v, *words):
    script = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_coffer; printf '%s\\n' "${COMPREPLY[@]}"
"""
    r = harness.run(["/bin/bash", "-c", script, "sh", harness.SOURCE + "/packaging/completion/coffer.bash", *words],
                    env={"PATH": v.programs + "/tools:" + os.environ["PATH"], "COFFER_DIR": v.dir})
    return set(r.out.split("\n")) - {""}


def test_completion(share):
    v = share.vault
    assert completions(v, "coffer", "cl") == {"class", "client", "clock"}
    assert completions(v, "coffer", "client", "") == {"add", "end", "list"}
    assert completions(v, "coffer", "mount", "a") == {"acme"}
    assert completions(v, "coffer", "mount", "acme", "--purpose", "data") == {PURPOSE}
    assert "--ticket" in completions(v, "coffer", "mount", "acme", "--")
    assert share.point in completions(v, "coffer", "unmount", share.vault.base)
    assert completions(v, "coffer", "shell", "a") == {"acme"}
    assert "--purpose" in completions(v, "coffer", "shell", "acme", "--")
    assert "base64" in completions(v, "coffer", "shell", "acme", "--purpose", "support", "--", "base6")
    assert completions(v, "coffer", "shell", "acme", "--", "cat", "/etc/hostnam") == {"/etc/hostname"}
    assert completions(v, "coffer", "no-such", "") == set()


def test_completion_does_not_run_what_it_shows(acme):
    """A mount point's name is somebody else's text."""
    point = acme.alice.mkdir("$(touch pwned)`touch pwned`")
    acme.mount(acme.alice, point=point)
    completions(acme, "coffer", "unmount", acme.base)
    assert not os.path.exists("pwned") and not os.path.exists(acme.base + "/pwned")
