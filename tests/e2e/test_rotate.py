"""Keys are exchanged: all opens as before, what opened it before opens nothing, each is recorded."""
import glob
import os
import shutil
import sqlite3
import time

import harness
from harness import DAMAGED, REFUSED, copy_tree
from test_backup import backup, fill, tree_of


def test_root_and_client_while_a_session_runs(share):
    v, m = share.vault, share
    fill(m)
    seen = tree_of(m)
    old_slot, to = v.base + "/old-slot", v.base + "/backups"
    copy_tree(v.dir + "/keyd/slot", old_slot)
    old = backup(v, to)["path"]
    v.coffer("rotate", "root", user=v.alice, check=REFUSED)
    v.coffer("rotate", "client", "nobody", check=harness.NOT_FOUND)
    a = v.coffer("rotate", "root", "--json").json
    assert a["generation"] == a["generation_before"] + 1
    out = v.coffer("rotate", "client", "acme").out
    assert "Not changed" in out and "coffer backup" in out
    assert tree_of(m) == seen
    m.write("new", "still writable")
    m.unmount()
    rows = [r for r in v.log() if r["op"].startswith("rotate-")]
    assert [(r["op"], r["outcome"]) for r in sorted(rows, key=lambda r: r["time_ns"])] == [("rotate-root", 0), ("rotate-client", 0)]
    assert rows[0]["user"] == "root"
    v.down()
    # keys of now with the slot of before, and the other way round
    now = v.base + "/now"
    copy_tree(v.dir + "/keyd", now)
    shutil.rmtree(v.dir + "/keyd/slot")
    copy_tree(old_slot, v.dir + "/keyd/slot")
    assert v.coffer("up", check=None, timeout=60).rc != 0
    shutil.rmtree(v.dir + "/keyd/slot")
    copy_tree(now + "/slot", v.dir + "/keyd/slot")
    R = v.base + "/R"
    copy_tree(old, R)
    os.chmod(R, 0o711)
    copy_tree(now + "/slot", R + "/keyd/slot")
    assert v.coffer("up", dir=R, check=None, timeout=60).rc != 0
    v.up()
    m = v.mount(v.alice)
    assert m.read("new") == b"still writable"


def test_signing_key(make_vault):
    """What the old key signed verifies with either, in its time; what it signs later does not."""
    v = make_vault()
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    m.sh("echo 1 > one; echo 2 > two")
    m.unmount()
    to, old = v.base + "/backups", v.base + "/old.pub"
    with open(old, "w") as f:
        f.write(v.coffer("public-key").out)
    transfer = v.coffer("transfer-key").out
    first = backup(v, to)["path"]
    v.coffer("shred", "acme", "one", "--reason", "R", "--yes", timeout=60)
    v.coffer("log", "verify")
    v.coffer("rotate", "signing", user=v.alice, check=REFUSED)
    keys = v.dir + "/keyd/keys"
    assert "bundles" in v.coffer("rotate", "signing").out and len(os.listdir(keys)) == 2
    v.coffer("shred", "acme", "two", "--reason", "R", "--yes", timeout=60)
    now = v.coffer("public-key").out
    assert now.splitlines()[0] != open(old).read().strip() and now.splitlines()[1].startswith("coffer-signing-link ")
    assert v.coffer("transfer-key").out != transfer
    assert v.coffer("public-key", "--json").json["earlier"][0]["until"] > 0
    certificates = v.dir + "/keyd/certificates"
    assert {r["verdict"] for r in v.coffer("certificate", "list", "--json").json} == {"genuine"}
    v.coffer("log", "verify")
    # off the host: the old key alone knows nothing of the new one; with the lines both are known
    verify = "certificate", "verify", certificates + "/acme+erasure-2.json", "--pubkey"
    v.coffer(*verify, old, check=DAMAGED)
    v.coffer("log", "verify", "--db", v.dir + "/ledger/ledger.db", "--pubkey", old, check=DAMAGED)
    with open(old, "a") as f:
        f.write("".join(now.splitlines(True)[1:]))
    v.coffer(*verify, old)
    v.coffer("log", "verify", "--db", v.dir + "/ledger/ledger.db", "--pubkey", old)
    v.coffer("backup", "check", first, "--pubkey", old)
    with open(v.base + "/now.pub", "w") as f:
        f.write(now)
    v.coffer("certificate", "verify", certificates + "/acme+erasure-1.json", "--pubkey", v.base + "/now.pub")
    # a line that somebody made up
    with open(v.base + "/forged.pub", "w") as f:
        f.write(now.splitlines(True)[0] + now.splitlines(True)[1].replace(" 1", " 2", 1))
    v.coffer("certificate", "verify", certificates + "/acme+erasure-1.json", "--pubkey", v.base + "/forged.pub", check=DAMAGED)
    v.down()
    v.up()
    assert v.coffer("public-key").out == now
    v.coffer("log", "verify")
    assert [r["outcome"] for r in v.log() if r["op"] == "rotate-signing"] == [0]


def test_an_erasure_that_did_not_happen_is_settled_before_keys_are_exchanged(make_vault):
    """The exchange may prune its leaves: "not there" would then be taken for destroyed."""
    v = make_vault()
    v.add()
    db = sqlite3.connect(f"{v.dir}/keyd/facts.db", timeout=10, isolation_level=None)
    for n, rotate in enumerate((("root",), ("client", "acme"), ("root",))):
        # as after a destruction that failed, when that could not be recorded; of today, so that its leaf is there
        leaf = (16 << 48) | ((time.time_ns() // (86400 * 10**9)) + 1 << 32)
        row = db.execute("INSERT INTO erasure (client,store,reason,counts,leaves,generation,intent_at,recorded_by,recorded_uid)"
                         " SELECT id,'/a','a reason','{}',?,?,?,'root',0 FROM client LIMIT 1",
                         (f"{leaf:016x}", n + 1, int(time.time()))).lastrowid
        a = v.coffer("rotate", *rotate, "--json").json
        assert a["generation"] == a["generation_before"] + 1
        assert db.execute("SELECT destroyed FROM erasure WHERE id = ?", (row,)).fetchall() == [(0,)]
    db.close()
    rows = [r["op"] for r in v.log() if r["op"].startswith(("rotate-", "erase-"))]
    assert rows == ["erase-abandoned", "rotate-root", "erase-abandoned", "rotate-client", "erase-abandoned", "rotate-root"]
    assert not glob.glob(v.dir + "/keyd/certificates/*")
