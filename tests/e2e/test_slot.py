"""Slots: a destruction is done when all have forgotten; what seals them, and that nobody loses R or brings an older one back."""
import glob
import json
import os
import shutil
import subprocess

import harness
from harness import FAILED, NOT_FOUND, REFUSED, UNREACHABLE, USAGE, copy_tree, wait_for
from test_seal import with_passphrase


def slot(v, name):
    return {s["name"]: s for s in v.json("slot", "list")["slots"]}[name]


def test_destruction_waits_for_a_slot_that_is_unplugged(acme):
    v, usb = acme, acme.base + "/usb"
    assert any("one slot only" in w for w in v.status()["red"])
    v.coffer("slot", "add", "usb", usb)
    assert slot(v, "usb")["state"] == slot(v, "main")["state"] == "ok"
    red = v.status()["red"]
    assert len(red) == 1 and "same device" in red[0], red
    m = v.mount(v.alice)
    m.write("doe.pdf", "x")
    m.unmount()
    os.rename(usb, usb + ".away")
    assert slot(v, "usb")["state"] == "away"
    r = v.coffer("shred", "acme", "doe.pdf", "--reason", "R", "--yes", check=FAILED)
    assert "usb" in r.err, r
    assert not [n for n in os.listdir(v.dir + "/keyd/certificates") if "erasure" in n]
    assert slot(v, "usb")["state"] == "missing"
    assert any("usb" in w for w in v.status()["red"]) and any("waits for the slot usb" in w for w in v.status()["warnings"])
    # Also after a restart; and what was to be destroyed does not open any more.
    v.down()
    v.up()
    assert any("waits for the slot usb" in w for w in v.status()["warnings"])
    m = v.mount(v.alice)
    assert m.errno("open('doe.pdf').read()") != 0
    m.unmount()
    # The old slot opens nothing by itself: the old ring went at once.
    assert os.listdir(v.dir + "/keyd/keys").count("ring.3") == 1 and not os.path.exists(v.dir + "/keyd/keys/ring.2")
    v.down()
    os.rename(usb + ".away", usb)
    v.up()
    certificate = wait_for(lambda: glob.glob(v.dir + "/keyd/certificates/*erasure*.json"), "the certificate", limit=30)[0]
    v.coffer("certificate", "verify", certificate)
    with open(certificate) as f:
        slots = json.load(f)["certificate"]["slots"]
    assert [(s["name"], s["state"]) for s in slots] == [("main", "forgotten"), ("usb", "forgotten")], slots
    assert slots[1]["assurance"] and usb in slots[1]["path"]
    assert slot(v, "usb")["state"] == "ok" and not [w for w in v.status()["warnings"] if "waits" in w]


def test_second_slot_opens_when_the_first_is_lost_and_acts_are_recorded(acme):
    v, usb = acme, acme.base + "/usb"
    v.coffer("slot", "add", "usb", usb, user=v.alice, check=REFUSED)
    v.coffer("slot", "add", "usb", "relative", check=USAGE)
    v.coffer("slot", "add", "Usb!", usb, check=USAGE)
    v.coffer("slot", "remove", "nope", check=NOT_FOUND)
    v.coffer("slot", "remove", "main", check=REFUSED)
    with_passphrase(v, "slot", "add", "usb", usb, passphrase="of the stick")
    assert slot(v, "usb")["protection"] == "passphrase" and not slot(v, "usb")["automatic"]
    v.coffer("slot", "add", "usb", usb + "2", check=USAGE)
    m = v.mount(v.alice)
    m.write("f", "x")
    m.unmount()
    v.coffer("rotate", "root")  # the stick's passphrase is not known to the daemon, and it is kept up to date
    assert slot(v, "usb")["state"] == "ok"
    v.down()
    shutil.rmtree(v.dir + "/keyd/slot")
    v.up()
    assert v.status()["state"] == "sealed"
    with_passphrase(v, "unseal", passphrase="wrong", check=REFUSED)
    with_passphrase(v, "unseal", passphrase="of the stick")
    assert v.mount(v.alice).read("f") == b"x"
    v.coffer("slot", "replace", "main")
    assert slot(v, "main")["state"] == "ok"
    os.rename(usb, usb + ".away")
    v.coffer("slot", "remove", "usb", check=UNREACHABLE)
    r = v.coffer("slot", "remove", "usb", "--lost")
    assert "given up" in r.out
    assert slot(v, "usb")["state"] == "lost" and "missing" not in [s["state"] for s in v.json("slot", "list")["slots"]]
    kinds = [row["op"] for row in v.log()]
    assert {"slot-add", "slot-replace", "slot-lost"} <= set(kinds), kinds
    v.coffer("log", "verify")


def test_credential_opens_after_a_restart_and_the_old_one_is_locked_out(acme):
    v, cred = acme, acme.base + "/credential"
    m = v.mount(v.alice)
    m.write("f", "x")
    m.unmount()
    with open(cred, "w", opener=lambda p, f: os.open(p, f, 0o644)) as f:
        f.write("first\n")
    r = v.coffer("slot", "seal", "--credential", cred, check=FAILED)
    assert "chmod 600" in r.err, r
    os.chmod(cred, 0o600)
    v.coffer("slot", "seal", "--credential", cred)
    assert not os.path.exists(v.dir + "/keyd/slot/root.key")
    s = slot(v, "main")
    assert s["protection"] == "credential" and s["protected_by"] == cred and s["automatic"]
    v.down()
    copy_tree(v.dir + "/keyd/slot", v.base + "/old-slot")
    v.up()
    assert v.status()["state"] == "open" and v.mount(v.alice).read("f") == b"x"
    # systemd's way: the daemon finds it below a directory of its own.
    os.makedirs(v.base + "/credentials", 0o700)
    with open(v.base + "/credentials/coffer", "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write("second")
    env = {"CREDENTIALS_DIRECTORY": v.base + "/credentials"}
    r = v.coffer("slot", "seal", "--systemd", "coffer", check=FAILED)
    assert "CREDENTIALS_DIRECTORY" in r.err, r
    v.down()
    v.up(env=env)
    v.coffer("slot", "seal", "--systemd", "coffer")
    v.down()
    v.up()  # without it
    assert v.status()["state"] == "sealed" and any("CREDENTIALS_DIRECTORY" in w for w in v.status()["warnings"])
    v.mount(v.alice, check=harness.SEALED)
    v.down()
    v.up(env=env)
    assert v.status()["state"] == "open" and v.mount(v.alice).read("f") == b"x"
    v.down()
    # The slot of before, with the credential that opened it: nothing of now.
    shutil.rmtree(v.dir + "/keyd/slot")
    copy_tree(v.base + "/old-slot", v.dir + "/keyd/slot")
    r = v.coffer("up", check=None)
    assert r.rc != 0 or v.status()["state"] == "sealed", r
    with open(v.dir + "/log/keyd.log") as f:
        assert "is missing" in f.read()


def test_slot_in_a_tpm(acme):
    v = acme
    if shutil.which("swtpm") is None:
        import pytest
        pytest.skip("swtpm is not installed")
    port = next(p for p in range(21000 + os.getpid() % 20000, 65000, 2) if free(p) and free(p + 1))
    os.mkdir(v.base + "/tpm", 0o700)
    tpm = subprocess.Popen(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={v.base}/tpm", "--server",
                            f"type=tcp,port={port},bindaddr=127.0.0.1", "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
                            "--flags", "not-need-init,startup-clear"])
    try:
        wait_for(lambda: not free(port), "swtpm", limit=10)
        at = f"@swtpm:host=127.0.0.1,port={port}"
        r = v.coffer("slot", "add", "chip", "0x01800100" + at, "--kind", "tpm2", check=None)
        if r.rc and "no part for" in r.err + "".join(r.out):
            import pytest
            pytest.skip("built without tpm2-tss")
        assert r.rc == 0, r
        s = slot(v, "chip")
        assert s["state"] == "ok" and s["protection"] == "tpm2" and "forgets" in s["assurance"]
        assert not v.status()["red"]
        v.coffer("rotate", "root")
        v.down()
        shutil.rmtree(v.dir + "/keyd/slot")
        v.up()
        assert v.status()["state"] == "open"
        v.coffer("slot", "replace", "main", "--tpm", "0x01800200" + at)
        v.down()
        v.up()
        assert v.status()["state"] == "open" and slot(v, "main")["protection"] == "tpm2"
        v.coffer("slot", "remove", "chip")
        assert len(v.status()["red"]) == 1
    finally:
        tpm.kill()
        tpm.wait()


def free(port):
    import socket
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0
