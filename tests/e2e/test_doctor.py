"""coffer doctor: what is wrong with an installation is found, named with its remedy, and nothing is changed."""
import os

import harness

import pytest


def findings(vault, **kw):
    r = vault.coffer("doctor", "--json", check=None, **kw)
    return r, {(f["check"], f["verdict"]): f for f in r.json}


def test_a_sound_installation_has_nothing_wrong(vault):
    r, found = findings(vault)
    assert r.rc == 0, r
    assert not [v for v in found if v[1] == "WRONG"], r
    assert ("permissions", "ok") in found and ("daemons", "ok") in found and ("/dev/fuse", "ok") in found
    assert "its owner has all roles" in found["roles", "mind"]["text"]
    for f in r.json:  # whatever is to be minded says how, or is a word of status
        assert f["verdict"] == "ok" or f["remedy"] or f["check"] == "status", f


@pytest.mark.parametrize("folder, mode", [("keyd/slot", 0o750), ("ledger", 0o701), ("keyd", 0o770)])
def test_an_open_folder_is_wrong_and_its_remedy_mends_it(vault, folder, mode):
    path = os.path.join(vault.dir, folder)
    os.chmod(path, mode)
    r, found = findings(vault)
    f = found["permissions", "WRONG"]
    assert r.rc == harness.FAILED and path in f["text"] and f["remedy"] == f"chmod 700 {path}", r
    assert os.stat(path).st_mode & 0o777 == mode  # it only looks
    harness.run(f["remedy"].split(), check=True)
    r, found = findings(vault)
    assert r.rc == 0 and ("permissions", "ok") in found, r


def test_a_folder_above_that_others_may_write_to(vault):
    os.chmod(vault.base, 0o777)
    r, found = findings(vault)
    assert r.rc == harness.FAILED and "could replace" in found["permissions", "WRONG"]["text"], r


def test_another_owner_and_daemons_that_do_not_run(vault):
    vault.down()
    os.chown(vault.dir + "/store", vault.alice.uid, -1)
    r, found = findings(vault)
    assert r.rc == harness.FAILED
    assert f"chown 0 {vault.dir}/store" == found["permissions", "WRONG"]["remedy"], r
    assert "does not answer" in found["daemons", "WRONG"]["text"]


def test_a_user_is_told_what_he_cannot_see(vault):
    r, found = findings(vault, user=vault.alice)
    assert r.rc == 0 and "closed to you" in found["permissions", "unseen"]["text"], r


def test_sealed_keys_and_a_missing_directory(vault):
    vault.coffer("seal")
    r, found = findings(vault)
    assert r.rc == harness.FAILED and found["keys", "WRONG"]["remedy"] == "coffer unseal", r
    r = vault.coffer("doctor", dir=vault.base + "/none", check=harness.FAILED)
    assert "No such file" in r.out and "coffer up" in r.out
