"""`coffer log --path` asks for the sealed names that are meant; what it finds is what reading all records finds."""
import pytest

import harness

ASK = """
import json, sys
sys.path.insert(0, %r)
from varlink import Connection
print(json.dumps(Connection(sys.argv[1]).call(sys.argv[2], **json.loads(sys.argv[3]))))
""" % harness.HERE


def ask(v, user, method, **params):
    import json
    script = user.python if user else None
    argv = (ASK, v.dir + "/run/fsd.sock", method, json.dumps(params))
    if script:
        return json.loads(script(*argv).out)
    return json.loads(harness.run(["/usr/bin/python3", "-c", *argv]).out)


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


def test_own_rows_by_path(worked):
    """Who may not ask for all paths gets what he got: his own rows."""
    rows = worked.log("--path", "docs/a.pdf", user=worked.alice)
    assert rows and all(r["path"] == "docs/a.pdf" and r["user"] == worked.alice.name for r in rows)


def test_refusals(worked):
    assert "PermissionDenied" in ask(worked, worked.alice, "org.coffer.fsd.LogPaths")["error"]
    for names in ("x", [1], ["!"], ["aGFsbG8="] * 201):
        assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogQuery", names=names)["error"], names
    assert "InvalidParameter" in ask(worked, None, "org.coffer.fsd.LogPaths", after="x")["error"]
    assert ask(worked, None, "org.coffer.fsd.LogPaths", client="nobody")["parameters"]["rows"] == []
    rows = ask(worked, None, "org.coffer.fsd.LogPaths", client="acme")["parameters"]
    assert rows["next"] is None and len(rows["rows"]) >= 6 and all(set(r) == {"client_id", "month", "sealed"} for r in rows["rows"])
