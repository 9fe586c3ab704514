"""Sealed: no key is in memory, no share opens; unsealing needs key file or passphrase, never on a command line."""
import os

import pytest

import harness
from harness import FAILED, Mount, OK, REFUSED, SEALED, USAGE, wait_for

PASSPHRASE = "correct horse battery staple 7391"


def with_passphrase(v, *args, passphrase=PASSPHRASE, **kw):
    """Runs a command that reads a passphrase from a descriptor."""
    r, w = os.pipe()
    try:
        os.write(w, passphrase.encode() + b"\n")
        os.close(w)
        return v.coffer(*args, "--passphrase-fd", str(r), pass_fds=(r,), timeout=60, **kw)
    finally:
        os.close(r)


@pytest.mark.sanitize
def test_seal_ends_sessions_and_unseal_opens_again(share):
    v = share.vault
    share.write("f", "x")
    a = v.actor(share.user, share.point)
    a.do("fd = os.open('f', os.O_RDONLY); os.pread(fd, 1, 0)")
    v.coffer("seal")
    assert a.errno("os.pread(fd, 1, 0)") != 0
    wait_for(lambda: not share.mounted(), "the mount's end", limit=2)
    assert v.status()["state"] == "sealed"
    r = v.mount(share.user, check=SEALED)
    assert "unseal" in r.err
    v.coffer("unseal")
    assert v.mount(share.user).read("f") == b"x"


def test_sealed_vault_still_answers_and_administers(acme):
    acme.coffer("seal")
    assert acme.status()["state"] == "sealed"
    acme.rows("shares", user=acme.alice)
    acme.rows("access", "acme")
    acme.grant("acme", acme.bob)
    acme.revoke("acme", acme.bob)
    acme.coffer("log", "verify", check=None)
    acme.coffer("client", "add", "globex", "--name", "G", "--email", "g@g.example", check=SEALED)
    acme.coffer("unseal")


def test_sealed_stays_sealed_over_a_restart(share):
    v = share.vault
    share.write("f", "x")
    v.coffer("seal")
    v.coffer("down")
    v.up()
    assert v.status()["state"] == "sealed"
    v.mount(share.user, check=SEALED)
    v.coffer("unseal")
    v.coffer("down")
    v.up()
    assert v.status()["state"] == "open"
    assert v.mount(share.user).read("f") == b"x"


def test_sealed_log_shows_no_names(share):
    share.write("CanaryName4412", "x")
    share.vault.coffer("seal")
    assert "CanaryName4412" not in share.vault.coffer("log", "--json", check=None).out
    share.vault.coffer("unseal")
    assert "CanaryName4412" in share.vault.coffer("log", "--json").out


def test_sealing_is_for_custodians(share):
    share.vault.coffer("seal", user=share.user, check=REFUSED)
    share.write("f", "x")
    share.vault.coffer("seal")
    share.vault.coffer("unseal", user=share.user, check=REFUSED)
    assert share.vault.status()["state"] == "sealed"


def test_passphrase_replaces_the_key_file(acme):
    m = acme.mount(acme.alice)
    m.write("f", "x")
    with_passphrase(acme, "passphrase")
    assert not os.path.exists(acme.dir + "/keyd/slot/root.key")
    m.unmount()
    acme.coffer("seal")
    assert acme.coffer("unseal", check=None).rc != OK
    assert acme.status()["state"] == "sealed"
    with_passphrase(acme, "unseal")
    assert acme.mount(acme.alice).read("f") == b"x"


def test_wrong_passphrase_is_refused(acme):
    with_passphrase(acme, "passphrase")
    acme.coffer("seal")
    for wrong in ("Zanzibar", PASSPHRASE + " ", PASSPHRASE[:-1], ""):
        r = with_passphrase(acme, "unseal", passphrase=wrong, check=None)
        assert r.rc in (FAILED, REFUSED, SEALED, USAGE), r
        assert wrong == "" or wrong not in r.err
        assert acme.status()["state"] == "sealed"
    with_passphrase(acme, "unseal")
    assert acme.status()["state"] == "open"


def test_after_a_restart_a_passphrase_is_needed(acme):
    m = acme.mount(acme.alice)
    m.write("f", "x")
    with_passphrase(acme, "passphrase")
    acme.down()
    acme.up()
    assert acme.status()["state"] == "sealed"
    assert not isinstance(acme.mount(acme.alice, check=SEALED), Mount)
    with_passphrase(acme, "unseal")
    assert acme.mount(acme.alice).read("f") == b"x"


def test_empty_passphrase_is_refused(acme):
    r = with_passphrase(acme, "passphrase", passphrase="", check=None)
    assert r.rc in (FAILED, USAGE, REFUSED), r
    acme.coffer("seal")
    acme.coffer("unseal")
    assert acme.status()["state"] == "open"


def test_no_passphrase_on_the_command_line(acme):
    """There is no option that takes one, and a word behind the command is refused."""
    for command in ("unseal", "passphrase"):
        assert acme.coffer(command, PASSPHRASE, check=None).rc == USAGE
        assert acme.coffer(command, "--passphrase=" + PASSPHRASE, check=None).rc != OK
        assert PASSPHRASE not in acme.coffer(command, "--help").out
    assert acme.status()["state"] == "open"


def test_passphrase_stands_nowhere(acme):
    """Neither in D nor in its logs nor in anybody's arguments."""
    with_passphrase(acme, "passphrase")
    acme.coffer("seal")
    with_passphrase(acme, "unseal")
    for path in harness.files_below(acme.dir):
        with open(path, "rb") as f:
            assert PASSPHRASE.encode() not in f.read(), path
    for pid in harness.our_processes(acme.dir):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            assert PASSPHRASE.encode() not in f.read()


def test_key_file_that_others_can_read_is_refused(acme):
    acme.down()
    os.chmod(acme.dir + "/keyd/slot/root.key", 0o644)
    r = acme.up(check=None)
    state = acme.coffer("status", "--json", check=None)
    assert r.rc != OK or state.json["state"] == "sealed", (r, state)
    text = r.err + r.out + state.out + acme.logs()
    assert "root.key" in text
    if state.rc == OK:
        assert acme.coffer("unseal", check=None).rc != OK
    os.chmod(acme.dir + "/keyd/slot/root.key", 0o600)


def test_status_of_a_passphrase_slot(acme):
    with_passphrase(acme, "passphrase")
    slot = acme.status()["slots"][0]
    assert slot["protection"] == "passphrase" and slot["healthy"], slot
