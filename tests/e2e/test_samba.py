"""Samba exports a shared mount: each of its users is judged, and recorded, by himself.  tests/stress/programs runs it."""
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess

import pytest

import harness
from harness import PURPOSE, TICKET, wait_for

HEAVY = bool(os.environ.get("COFFER_HEAVY"))

CONFIG = """
[global]
    server role = standalone server
    interfaces = 127.0.0.1
    bind interfaces only = yes
    smb ports = {port}
    disable spoolss = yes
    load printers = no
    map to guest = never
    private dir = {base}/private
    state directory = {base}/state
    cache directory = {base}/cache
    lock directory = {base}/lock
    pid directory = {base}/pid
    ncalrpc dir = {base}/ncalrpc
    passdb backend = tdbsam:{base}/private/passdb.tdb
    log file = {base}/log
[clients]
    path = {export}
    read only = no
    store dos attributes = no
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Samba:
    def __init__(self, base, export):
        self.port, self.base = free_port(), os.path.join(base, "samba")
        for name in ("", "private", "state", "cache", "lock", "pid", "ncalrpc"):
            os.mkdir(os.path.join(self.base, name))
        self.config = os.path.join(self.base, "smb.conf")
        with open(self.config, "w") as f:
            f.write(CONFIG.format(base=self.base, export=export, port=self.port))
        self.server = subprocess.Popen(["smbd", "-F", "--no-process-group", "-s", self.config], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def add(self, user):
        subprocess.run(["smbpasswd", "-c", self.config, "-a", "-s", user.name], input=b"secret\nsecret\n", check=True, timeout=20,
                       stdout=subprocess.DEVNULL)

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def do(self, user, commands):
        """(exit code, what it said) of smbclient in the share, in a folder where it may write."""
        r = subprocess.run(["smbclient", "-s", self.config, "-p", str(self.port), "-U", user.name + "%secret",
                            "//127.0.0.1/clients", "-D", "acme", "-c", commands], cwd=self.base, timeout=60, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        return r.returncode, r.stdout

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGTERM)  # the session that was begun for it
        self.server.wait(10)


@pytest.fixture
def samba(acme):
    if not (shutil.which("smbd") and shutil.which("smbclient")):
        pytest.skip("samba and smbclient are not installed")
    acme.grant("acme", acme.bob)
    # smbd looks at the folder it exports as root, who has no grant: so the mount stands in that folder.
    export = os.path.join(acme.base, "export")
    point = os.path.join(export, "acme")
    os.makedirs(point, 0o755)
    acme.coffer("mount", "acme", "--purpose", PURPOSE, "--ticket", TICKET, "--shared", point)
    s = Samba(acme.base, export)
    try:
        for user in (acme.alice, acme.bob, acme.carol):
            s.add(user)
        wait_for(s.listens, "smbd listening", limit=20)
        s.vault, s.point = acme, point
        yield s
    finally:
        s.close()


def rows(v, user, **wanted):
    return [r for r in v.log("--user", user.name) if all(str(r.get(k)) == w or w in str(r.get(k)) for k, w in wanted.items())]


def exported(samba):
    v, content = samba.vault, os.urandom(3 << 20)
    with open(samba.base + "/big", "wb") as f:
        f.write(content)
    code, said = samba.do(v.alice, "put big; mkdir folder; rename big folder\\renamed; ls folder\\*")
    assert code == 0 and "renamed" in said and str(len(content)) in said, said
    code, said = samba.do(v.alice, "get folder\\renamed back")
    assert code == 0, said
    with open(samba.base + "/back", "rb") as f:
        assert f.read() == content
    local = harness.run(["/bin/bash", "-euc", "cd $1; stat -c '%U %s' folder/renamed; sha256sum <folder/renamed", "sh", samba.point],
                        user=v.alice, check=True).out.split()
    assert local[:3] == [v.alice.name, str(len(content)), hashlib.sha256(content).hexdigest()]
    assert rows(v, v.alice, op="open", path="folder/renamed") and rows(v, v.alice, op="rename", path="big")

    # Another user, with a grant of his own: sees the tree, may not change what is not his.
    code, said = samba.do(v.bob, "ls folder\\*; put big folder\\his")
    assert "renamed" in said and "ACCESS_DENIED" in said, said
    code, said = samba.do(v.bob, "put big his; del his; ls")
    assert code == 0 and "folder" in said and "his" not in said.split("his (")[-1].split("folder")[1], said
    assert rows(v, v.bob, op="create", path="his") and rows(v, v.bob, op="unlink", path="his")

    # One without: nothing, and a record of it.
    code, said = samba.do(v.carol, "ls; get folder\\renamed stolen")
    assert "ACCESS_DENIED" in said and "renamed" not in said, said
    assert not os.path.exists(samba.base + "/stolen") or os.path.getsize(samba.base + "/stolen") == 0
    assert rows(v, v.carol, op="refused", outcome="NotGranted") and not rows(v, v.carol, op="open")

    # A revocation reaches him through Samba as well.
    v.coffer("revoke", "acme", v.bob.name)
    code, said = samba.do(v.bob, "ls folder\\*")
    assert "renamed" not in said, said
    assert samba.do(v.alice, "del folder\\renamed; rmdir folder; ls")[0] == 0


if HEAVY:
    @pytest.mark.limit(180)
    def test_samba_exports_a_shared_mount(samba):
        exported(samba)
