"""A client goes to another installation: the successor opens all of it, nobody else anything; then ours ends."""
import json
import os

import pytest

import harness
from harness import DAMAGED, REFUSED, USAGE, copy_tree
from test_backup import fill, tree_of


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
    a.coffer("transfer", "acme", "--finish")
    assert any(x["op"] == "transfer" for x in a.log()) and any(x["op"] == "adopt" for x in b.log())
    c, = a.rows("client", "list")
    assert c["ended_on"] and c["destroy_on"] and c["state"] != "active"
    assert not isinstance(a.mount(a.alice, check=None), harness.Mount)


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
