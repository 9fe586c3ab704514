"""`coffer log --path` asks for the sealed names that are meant; what it finds is what reading all records finds."""
import json
import subprocess

import pytest

import harness

ASK = """
import json, sys
sys.path.insert(0, %r)
from varlink import Connection
print(json.dumps(Connection(sys.argv[1]).call(sys.argv[2], **json.load(sys.stdin))))
""" % harness.HERE


def ask(v, user, method, **params):
    argv = ("-c", ASK, v.dir + "/run/fsd.sock", method)
    return harness.run(["/usr/bin/python3", *argv], user=user, input=json.dumps(params), check=True).json


@pytest.fixture
def worked(acme):
    m = acme.mount(acme.alice)
    m.sh("mkdir docs docs/old; echo a > docs/a.pdf; echo b > docs/old/b.pdf; echo c > c.pdf; mv c.pdf docs/d.pdf; cat docs/*.pdf; ln -s a.pdf docs/l; cat docs/l")
    m.unmount()
    m = acme.mount(acme.alice)  # another worker names them again
    m.sh("cat docs/a.pdf")
    m.unmount()
    return acme


def touched(rows, fits):
    return [r["id"] for r in rows if any(isinstance(r.get(k), str) and fits(r[k]) for k in ("path", "path2"))]


@pytest.mark.parametrize("wanted, fits", [
    ("docs", lambda p: p == "docs" or p.startswith("docs/")), ("docs/old/", lambda p: p.startswith("docs/old/")),
    ("docs/a.pdf", lambda p: p == "docs/a.pdf"), ("*.pdf", lambda p: p.endswith(".pdf")), ("c.pdf", lambda p: p == "c.pdf"),
    ("doc", lambda p: False)])
def test_finds_what_reading_all_finds(worked, wanted, fits):
    everything = worked.log()
    for more in ((), ("--client", "acme"), ("--user", worked.alice.name)):
        assert [r["id"] for r in worked.log("--path", wanted, *more)] == touched(everything, fits), (wanted, more)
    searches = [r for r in worked.log() if r["op"] == "log-search"]
    with_names = [s["detail"]["names"] for s in searches if isinstance(s["detail"], dict) and "names" in s["detail"]]
    assert len(with_names) == 3 and all(isinstance(n, int) and n >= 1 for n in with_names), searches


def test_many_names(worked):
    """More than are sent as names: by a bitmap, and nothing else comes with them."""
    m = worked.mount(worked.alice)
    m.sh("mkdir many other; for i in $(seq 250); do : > many/f$i; : > other/f$i; done; cat many/f7 other/f7")
    m.unmount()
    everything = worked.log()
    fits = lambda p: p == "many" or p.startswith("many/")
    for more in ((), ("--client", "acme")):
        assert [r["id"] for r in worked.log("--path", "many", *more)] == touched(everything, fits)
    search = [r["detail"] for r in worked.log() if r["op"] == "log-search" and "names" in (r["detail"] or {})][-1]
    assert search["names"] > 200 and search["names_bitmap"] is True


@pytest.mark.parametrize("wanted, count", [("docs", 0), ("many", 250)])
def test_follow_by_path_reads_what_was_there_by_its_names(worked, wanted, count):
    """And what comes in later by all rows: names come with it that were not there."""
    m = worked.mount(worked.alice)
    m.sh(f"mkdir many; for i in $(seq {count}); do : > many/f$i; done")
    before = worked.log("--path", wanted)
    out = worked.base + "/out"
    with open(out, "w") as f:
        p = subprocess.Popen([worked.programs + "/tools/coffer", "--dir", worked.dir, "log", "--follow", "--json", "--path", wanted], stdout=f,
                             stderr=subprocess.STDOUT, start_new_session=True, **harness.identity(None))
    try:
        def ids():
            with open(out) as f:
                return [json.loads(line)["id"] for line in f if line.endswith("\n")]

        harness.wait_for(lambda: len(ids()) >= len(before), "what was there")
        assert ids() == [r["id"] for r in before]
        m.sh("mkdir -p docs many; echo x > docs/later; echo x > many/later; echo x > elsewhere")
        after = worked.log("--path", wanted)
        assert len(after) > len(before)
        harness.wait_for(lambda: len(ids()) >= len(after), "what came in")
        assert ids() == [r["id"] for r in after]
    finally:
        harness.stop_process(p)
    searches = [r["detail"] for r in worked.log() if r["op"] == "log-search" and "to" in (r["detail"] or {})]
    assert len(searches) == 1 and searches[0]["names"] > 0, searches


def test_own_rows_by_path(worked):
    """Who may not ask for all paths gets what he got: his own rows."""
    rows = worked.log("--path", "docs/a.pdf", user=worked.alice)
    assert rows and all(r["path"] == "docs/a.pdf" and r["user"] == worked.alice.name for r in rows)


def test_refusals(worked):
    assert "PermissionDenied" in ask(worked, worked.alice, "org.coffer.fsd.LogPaths")["error"]
    for names in ("x", [1], ["!"], ["aGFsbG8="] * 201):
        assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogQuery", names=names)["error"], names
    for bits in ("", "!", "AAAA", "A" * 43688, "A" * 43696, 7):
        assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogQuery", names_bitmap=bits)["error"], bits
    assert not ask(worked, None, "org.coffer.fsd.LogQuery", names_bitmap="A" * 43691 + "=")["parameters"]["rows"]
    assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogQuery", names=["aGFsbG8="], to="r1")["error"]
    assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogPaths", after="x")["error"]
    assert ask(worked, None, "org.coffer.fsd.LogPaths", client="nobody")["parameters"]["rows"] == []
    rows = ask(worked, None, "org.coffer.fsd.LogPaths", client="acme")["parameters"]
    assert rows["next"] is None and len(rows["rows"]) >= 6 and all(set(r) == {"client_id", "month", "sealed"} for r in rows["rows"])
