"""What somebody does who writes his own client: calls that no tool makes, and more of them than anybody needs."""
import inspect

import pytest

import varlink
from varlink import Connection

SOURCE = inspect.getsource(varlink)


def searches(v):
    return [r for r in v.log("--op", "log-search") if r["detail"].get("op") != "log-search"]


def test_a_search_leaves_its_trace_wherever_it_begins(acme):
    """Pages go on without a record of their own; a place that was given to nobody is no page."""
    acme.mount(acme.alice).write("f", "x")
    fsd = Connection(acme.dir + "/run/fsd.sock")

    def ask(**kw):
        return fsd.call("org.coffer.fsd.LogQuery", **kw)["parameters"]

    n = len(searches(acme))
    for after in ("r0a0", "r0a0.", "r0a0." + "0" * 64):
        assert ask(after=after)["rows"]
        n += 1
        assert len(searches(acme)) == n, after
    first = ask(client="acme", limit=2)
    assert len(searches(acme)) == n + 1 and len(first["rows"]) == 2 and first["next"]
    second = ask(client="acme", limit=3, after=first["next"])
    assert len(searches(acme)) == n + 1
    assert {r["id"] for r in first["rows"]}.isdisjoint(r["id"] for r in second["rows"])
    ask(limit=2, after=first["next"])  # the place of another search
    assert len(searches(acme)) == n + 2
    for bad in ("x", "x" * 100, "r1a1x", "r-1a0"):
        assert "error" in fsd.call("org.coffer.fsd.LogQuery", after=bad), bad
