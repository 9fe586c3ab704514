"""Recovery keys: whoever loses every slot opens with one, on a machine of now; and nobody opens with it what was destroyed."""
import json
import os
import shutil

import pytest

from harness import DAMAGED, NOT_FOUND, REFUSED, USAGE, copy_tree
from test_backup import backup, fill, tree_of


def keygen(v, name="key", *args, **kw):
    """(secret's file, public line)"""
    os.makedirs(v.base + "/safe", mode=0o700, exist_ok=True)
    path = f"{v.base}/safe/{name}"
    return path, v.coffer("recovery", "keygen", path, *args, timeout=60, **kw).out.strip()


def usb(v, name="usb"):
    path = f"{v.base}/{name}"
    os.makedirs(path, mode=0o700)
    return path


@pytest.fixture
def held(share):
    """A vault with something in acme, a recovery key ada and her copy on a medium."""
    v = share.vault
    fill(share)
    v.seen = tree_of(share)
    share.unmount()
    v.usb = usb(v)
    v.key, v.public = keygen(v)
    v.coffer("recovery", "add", v.public, "--name", "ada", "--to", v.usb + "/copy")
    return v


def certificate(v, n):
    with open(f"{v.dir}/keyd/certificates/acme+erasure-{n}.json") as f:
        return json.load(f)["certificate"]


def row(v, name="ada"):
    return next(r for r in v.coffer("recovery", "list", "--json").json["recovery"] if r["name"] == name)


def test_keygen_makes_what_only_its_passphrase_opens(make_vault):
    v = make_vault()
    plain, public = keygen(v, "plain")
    assert os.stat(plain).st_mode & 0o777 == 0o600 and public in open(plain).read()
    v.coffer("recovery", "keygen", plain, check=USAGE)  # never over something
    r, w = os.pipe()
    os.write(w, b"correct horse\n")
    os.close(w)
    sealed, public = keygen(v, "sealed", "--passphrase-fd", r, pass_fds=(r,))
    os.close(r)
    d = usb(v)
    v.coffer("recovery", "add", public[:-1] + ("A" if public[-1] != "A" else "B"), "--name", "s", "--to", d + "/c", check=USAGE)
    v.coffer("recovery", "add", public, "--name", "s", "--to", v.dir + "/keyd/c", check=USAGE)
    v.coffer("recovery", "add", public, "--name", "s", "--to", d + "/c", user=v.alice, check=REFUSED)
    v.coffer("recovery", "add", public, "--name", "s", "--to", d + "/c")
    for text, rc in ((b"correct horse\n", 0), (b"wrong\n", REFUSED)):
        r, w = os.pipe()
        os.write(w, text)
        os.close(w)
        assert v.coffer("recovery", "check", "--key", sealed, "--copy", d + "/c", "--passphrase-fd", r, pass_fds=(r,), check=None,
                        timeout=60).rc == rc
        os.close(r)
    v.coffer("recovery", "check", "--key", plain, "--copy", d + "/c", check=REFUSED)  # another's


@pytest.mark.limit(120)
def test_every_slot_is_lost(held):
    v = held
    v.coffer("recovery", "open", "--key", v.key, check=REFUSED)  # the daemons run
    v.down()
    v.coffer("recovery", "open", "--key", v.key, check=REFUSED)  # there is a slot
    shutil.rmtree(v.dir + "/keyd/slot")
    assert "recovery open" in v.coffer("up", check=None, timeout=60).err + v.logs()
    assert not os.path.exists(v.dir + "/keyd/slot/root.slot")  # no other was made
    v.coffer("recovery", "open", "--key", v.key)
    v.up()
    m = v.mount(v.alice)
    assert tree_of(m) == v.seen
    m.unmount()
    assert any(r["op"] == "recovery-open" and r["outcome"] == 0 for r in v.log())
    v.coffer("recovery", "check")


@pytest.mark.limit(150)
def test_another_machine_and_nothing_that_was_destroyed(held):
    """A backup, then a file is shredded: the copy of before opens nothing of it, that of now the rest."""
    v = held
    to = v.base + "/backups"
    old = backup(v, to)["path"]
    shutil.copy(v.usb + "/copy", v.base + "/old-copy")
    copy_tree(v.dir + "/keyd/recovery", v.base + "/old-recovery")
    v.coffer("shred", "acme", "tree/one", "--reason", "erasure request 12", "--yes", timeout=60)
    c = certificate(v, 1)
    assert c["recovery"][0]["name"] == "ada" and "removed" in c["recovery"][0]["old_copy"], c
    backup(v, to)
    v.down()
    R = v.base + "/R"

    def restore(copy, backup=to, **kw):
        shutil.rmtree(R, ignore_errors=True)
        return v.coffer("restore", backup, "--all", "--to", R, "--recovery-key", v.key, "--recovery-copy", copy, timeout=60, **kw)

    # the newest backup with an old copy: nothing; the old copy opens the old keys, which stand in the old backup alone
    assert "newest copy" in restore(v.base + "/old-copy", check=NOT_FOUND).err
    restore(v.base + "/old-recovery", check=NOT_FOUND)
    v.coffer("restore", to, "--all", "--to", R + "x", "--recovery-key", v.key, check=USAGE)
    restore(v.usb + "/copy", backup=old)  # the old store, with keys and copy of now
    v.coffer("up", dir=R, timeout=60)
    m = v.mount(v.alice, "acme", dir=R)
    assert m.read("tree/below/big") and m.errno("open('tree/one').read()") != 0
    v.coffer("unmount", m.point, user=v.alice, dir=R)
    v.coffer("log", "verify", dir=R)
    rows = v.coffer("recovery", "list", "--json", dir=R).json["recovery"]
    assert [r["name"] for r in rows] == ["ada"] and rows[0]["current"]  # whom it is sealed to came along
    v.coffer("down", dir=R)
    # the same for who kept the whole of D of before, but its slot, and has the medium of now
    for name in ("keys", "facts.db"):
        assert os.path.exists(f"{old}/keyd/{name}")
    D = v.base + "/D-of-before"
    copy_tree(old, D)
    os.chmod(D, 0o711)
    v.coffer("recovery", "open", "--key", v.key, "--copy", v.usb + "/copy", dir=D, check=NOT_FOUND)


@pytest.mark.limit(120)
def test_a_medium_that_is_away_is_named_until_it_is_back(held):
    v = held
    os.rename(v.usb, v.usb + "-away")
    v.coffer("shred", "acme", "tree/one", "--reason", "erasure request 12", "--yes", timeout=60)
    c = certificate(v, 1)
    assert "could not be replaced" in c["recovery"][0]["old_copy"] and any("ada" in x for x in c["remains"]), c
    assert not row(v)["current"] and row(v)["may_remain"]
    assert any("recovery confirm ada" in w for w in v.status()["warnings"])
    assert f"ada: {v.usb}/copy, NOT CURRENT" in v.coffer("status").out
    assert "could not be replaced" in v.coffer("recovery", "check", check=DAMAGED).out
    shutil.copytree(v.usb + "-away", v.base + "/kept")
    os.rename(v.usb + "-away", v.usb)
    v.coffer("recovery", "check")
    assert row(v)["current"] and "may_remain" not in row(v)
    # somebody who takes the copy away: only a person can say what became of it
    os.rename(v.usb + "/copy", v.base + "/kept/copy")
    v.coffer("shred", "acme", "tree/link", "--reason", "erasure request 13", "--yes", timeout=60)
    assert row(v)["current"] and "not at" in row(v)["may_remain"]
    v.coffer("recovery", "confirm", "ada", user=v.alice, check=REFUSED)
    v.coffer("recovery", "confirm", "ada")
    v.coffer("recovery", "confirm", "ada", check=NOT_FOUND)
    v.coffer("recovery", "check")
    v.coffer("recovery", "remove", "ada")
    assert not os.path.exists(v.usb + "/copy") and v.coffer("recovery", "list", "--json").json["recovery"] == []
    assert any("no recovery key" in w for w in v.status()["warnings"])
    ops = [r["op"] for r in v.log()]
    assert [o for o in ops if o.startswith("recovery-")].count("recovery-settled") == 1
    assert {"recovery-add", "recovery-confirm", "recovery-remove"} <= set(ops)
