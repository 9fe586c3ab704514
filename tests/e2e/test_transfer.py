"""A client goes to another installation: the successor opens all of it, nobody else anything; then ours ends."""
import contextlib
import json
import os
import sqlite3

import pytest

import harness
from harness import DAMAGED, REFUSED, USAGE, copy_tree
from test_backup import backup, fill, tree_of


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


@pytest.fixture
def two(make_vault):
    """(ours with acme, suspended, what one sees in it; the successor; the folder handed over; our public key)."""
    a, b = make_vault(), make_vault()
    a.add()
    a.grant("acme", a.alice)
    m = a.mount(a.alice)
    fill(m)
    seen = tree_of(m)
    m.unmount()
    to = b.coffer("transfer-key").out.strip()
    out = a.base + "/out"
    a.coffer("transfer", "acme", "--to", to, "--out", out, check=REFUSED)
    a.coffer("suspend", "acme", "--reason", "handed over")
    a.coffer("transfer", "acme", "--to", "00", "--out", a.base + "/bad", check=USAGE)
    a.coffer("transfer", "acme", "--to", to, "--out", out)
    return a, b, seen, out, write(a.base + "/pub", a.coffer("public-key").out)


@pytest.mark.limit(120)
def test_the_successor_has_all_and_ours_ends(two):
    a, b, seen, out, pub = two
    b.coffer("adopt", out, "--pubkey", pub)
    b.coffer("adopt", out, "--pubkey", pub, check=USAGE)
    b.grant("acme", b.alice)
    m = b.mount(b.alice)
    assert tree_of(m) == seen
    m.write("new", "ours now")
    m.unmount()
    assert b.coffer("fsck", "acme").rc == 0
    b.coffer("shred", "acme", "tree/one", "--reason", "it is ours to destroy", "--yes", timeout=60)
    assert any(x["op"] == "transfer" for x in a.log()) and any(x["op"] == "adopt" for x in b.log())


@pytest.mark.limit(120)
def test_ours_is_destroyed_when_he_has_it(two):
    a, b, seen, out, pub = two
    a.add("other")
    a.coffer("suspend", "other", "--reason", "not handed over")
    a.coffer("transfer", "other", "--finish", check=USAGE)
    before = backup(a, a.base + "/backups")["path"]
    b.coffer("adopt", out, "--pubkey", pub)
    for what in ([], ["--class", "personal"]):
        hold = a.coffer("hold", "place", "acme", *what, "--matter", "case 17", "--reason", "litigation", "--json").json["hold"]
        a.coffer("transfer", "acme", "--finish", check=REFUSED)
        a.coffer("hold", "lift", str(hold), "--reason", "over")
    a.coffer("transfer", "acme", "--finish", user=a.alice, check=REFUSED)
    said = a.coffer("transfer", "acme", "--finish", timeout=60).out
    to = b.coffer("transfer-key").out.strip()
    assert "are destroyed" in said and to in said
    c = a.coffer("certificate", "acme", "--json").json["certificate"]
    assert c["transferred_to"]["key"] == to and "transferred" in c["rule"]["text"], c
    assert to in json.dumps(c["notice"]["hastened"]), c["notice"]
    row = next(r for r in a.rows("client", "list") if r["client"] == "acme")
    assert row["destroyed_on"] and row["ended_on"]
    assert not isinstance(a.mount(a.alice, check=None), harness.Mount)
    assert {"transfer-finish", "destroy-intent", "destroy"} <= {r["op"] for r in a.log()}
    a.coffer("transfer", "acme", "--finish", check=harness.DESTROYED)
    # nor by a backup of before, restored file by file or whole, with the slot of now
    assert a.coffer("restore", before, "acme", check=None, timeout=60).rc == harness.DESTROYED
    R = a.base + "/R"
    a.down()
    a.coffer("restore", before, "--all", "--to", R, "--slot", a.dir + "/keyd/slot", timeout=60)
    assert a.coffer("up", dir=R, check=None, timeout=60).rc != 0
    # he has all of it
    b.grant("acme", b.alice)
    m = b.mount(b.alice)
    assert tree_of(m) == seen


def test_only_the_successor_opens_it_and_only_unaltered(two):
    a, b, _, out, pub = two
    mine = write(a.base + "/mine", b.coffer("public-key").out)
    assert "another key" in b.coffer("adopt", out, "--pubkey", mine, check=DAMAGED).err
    bundle = json.load(open(out + "/BUNDLE.json"))

    def altered(name, change):
        d = f"{b.base}/{name}"
        copy_tree(out, d)
        new = json.loads(json.dumps(bundle))
        change(new)
        write(d + "/BUNDLE.json", json.dumps(new))
        r = b.coffer("adopt", d, "--pubkey", pub, check=None)
        assert r.rc != 0 and b.rows("client", "list") == [] and not os.path.exists(f"{b.dir}/store/{bundle['inventory']['client_id']}"), r

    altered("name", lambda x: x["inventory"].update(name="Somebody"))
    altered("sealed", lambda x: x.update(sealed=x["sealed"][:-8] + "AAAAAAA="))
    altered("list", lambda x: x["inventory"]["store"]["list"].update(size=1))
    r = a.coffer("adopt", out, "--pubkey", pub, check=None)  # it is there, and it is not for us
    assert r.rc != 0
    victim = max(harness.files_below(out + "/store"), key=os.path.getsize)
    os.truncate(victim, 4096)
    assert "size" in b.coffer("adopt", out, "--pubkey", pub, check=DAMAGED).err


@pytest.mark.parametrize("name", ["x,allow_other", "../../../../x", "-o", "a\nb", "ACME"])
def test_a_hostile_predecessor_names_his_client(make_vault, name):
    """He signs it, so the signature is right: the name would stand in mount options and in file names."""
    a, b = make_vault(), make_vault()
    a.add()
    a.coffer("suspend", "acme", "--reason", "handed over")
    a.down()
    with contextlib.closing(sqlite3.connect(a.dir + "/keyd/facts.db")) as db, db:
        trigger, = db.execute("SELECT sql FROM sqlite_master WHERE name='client_fixed'").fetchone()
        db.execute("DROP TRIGGER client_fixed")
        db.execute("UPDATE client SET client=?", (name,))
        db.execute(trigger)
    a.up()
    out = a.base + "/out"
    to = b.coffer("transfer-key").out.strip()
    a.coffer("transfer", "--to", to, "--out", out, "--", name)
    r = b.coffer("adopt", out, "--pubkey", write(a.base + "/pub", a.coffer("public-key").out), check=DAMAGED)
    assert "could not be a client's" in r.err and b.rows("client", "list") == []
    assert not [d for d in os.listdir(b.dir + "/store") if len(d) == 32]
