"""Keys are exchanged: all opens as before, what opened it before opens nothing, each is recorded."""
import os
import shutil

import harness
from harness import REFUSED, copy_tree
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
