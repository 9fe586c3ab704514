"""coffer bench: a self-test of anybody's own mount, which leaves nothing behind."""
import os

import pytest

import harness
from harness import NOT_FOUND, REFUSED

OPERATIONS = 10


def bench(v, where, **kw):
    return v.coffer("bench", where, "--json", timeout=120, **kw).json


def test_on_a_mount(share):
    v = share.vault
    share.write("mine", "stays")
    a = bench(v, share.point, user=share.user)
    assert a["coffer"] is True and 0 < a["record_us"] < 1000
    assert len(a["rows"]) == OPERATIONS and len({r["what"] for r in a["rows"]}) == OPERATIONS
    for r in a["rows"]:
        assert r["us"] > 0 and r["per_second"] == pytest.approx(1e6 / r["us"], rel=1e-6)
        assert r["record_us"] == pytest.approx(r["records"] * a["record_us"])
        assert 0 <= r["record_percent"] < 100
    assert {r["what"]: r["records"] for r in a["rows"]}["open and read it"] == 2
    assert share.python("import os; print(os.listdir('.'))").out.strip() == "['mine']"


def test_records_are_as_many_as_it_says(share):
    """Of small files: made (create and close), read twice over (open and close each), deleted."""
    v = share.vault
    a = bench(v, share.point, user=share.user)
    said = {r["what"]: r["records"] for r in a["rows"]}
    rows = [r for r in v.log("--client", "acme", "--limit", "10000") if "file-" in str(r.get("path"))]
    ops = [r["op"] for r in rows]
    assert ops.count("create") == 500 and ops.count("unlink") == 500 and ops.count("open") == 2500
    assert ops.count("close") == ops.count("create") + ops.count("open")
    assert said["create a file of 4 KiB"] == said["open and read it"] == 2 and said["delete it"] == 1


def test_elsewhere_nothing_is_recorded(acme, tmp_path):
    a = bench(acme, str(tmp_path))
    assert a["coffer"] is False and all(r["records"] is None and r["record_percent"] is None for r in a["rows"])
    assert os.listdir(tmp_path) == []
    assert "no Coffer mount" in acme.coffer("bench", str(tmp_path), timeout=120).out


def test_what_cannot_be_measured(acme):
    acme.grant("acme", acme.bob, harness.PURPOSE, "r")
    m = acme.mount(acme.bob)
    r = acme.coffer("bench", m.point, user=acme.bob, check=REFUSED)
    assert "cannot write" in r.err
    acme.coffer("bench", acme.base + "/nothing", check=NOT_FOUND)
    m.unmount()
