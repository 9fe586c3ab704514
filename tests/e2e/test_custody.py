"""What takes two persons, and what nobody does for himself."""
import pytest

import harness
from harness import DESTROYED, NOT_FOUND, REFUSED, USAGE, wait_for
from test_lifecycle import Installed


@pytest.fixture
def apart(make_vault):
    """A vault where bob and carol are custodians and alice is an admin, by groups that only its daemons see."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.join(v.alice, "coffer-admin")
    v.join(v.bob, "coffer-custodian")
    v.join(v.carol, "coffer-custodian")
    v.add()
    return v


def handed_over(v, name="/out"):
    v.coffer("transfer", "acme", "--to", "5" * 64, "--out", v.base + name)


def row(v):
    return next(r for r in v.rows("client", "list") if r["client"] == "acme")


def test_two_custodians_end_a_transfer(apart):
    """One says that the successor has it, and nothing begins; another confirms it; both stand on the certificate."""
    v = apart
    v.coffer("suspend", "acme", "--reason", "handed over")
    v.coffer("transfer", "acme", "--confirm", user=v.carol, check=USAGE)  # was not handed over
    handed_over(v)
    v.coffer("transfer", "acme", "--confirm", user=v.carol, check=NOT_FOUND)  # nobody said so
    v.coffer("transfer", "acme", "--finish", user=v.alice, check=REFUSED)
    assert "--confirm" in v.coffer("transfer", "acme", "--finish", user=v.bob).out
    for again in ("--finish", "--finish"):
        v.coffer("transfer", "acme", again, user=v.bob)
    assert "two different custodians" in v.coffer("transfer", "acme", "--confirm", user=v.bob, check=REFUSED).err
    v.coffer("transfer", "acme", "--confirm", user=v.alice, check=REFUSED)
    assert (row(v)["state"], row(v)["ended_on"]) == ("suspended", None) and v.json("expiry", "list")["notices"] == []
    v.coffer("transfer", "acme", "--finish", "--confirm", user=v.carol, check=USAGE)
    assert v.json("transfer", "acme", "--finish", user=v.carol)["asked_by"] == v.bob.name  # does not confirm it
    assert row(v)["state"] == "suspended"
    hold = v.json("hold", "place", "acme", "--matter", "m", "--reason", "r")["hold"]
    v.coffer("transfer", "acme", "--confirm", user=v.carol, check=REFUSED)
    v.coffer("hold", "lift", str(hold), "--reason", "over")
    assert "are destroyed" in v.coffer("transfer", "acme", "--confirm", user=v.carol, timeout=60).out
    c = v.json("certificate", "acme")["certificate"]
    two = (v.bob.name, v.carol.name)
    for part in (c["transferred_to"], c["notice"]["hastened"]):
        assert (part["asked_by"], part["confirmed_by"]) == two, c
    acts = {r["op"]: r["user"] for r in v.log()}
    assert (acts["transfer-ask"], acts["transfer-finish"]) == two, acts
    v.coffer("transfer", "acme", "--confirm", user=v.bob, check=DESTROYED)


def test_what_was_asked_is_about_the_last_handing_over(apart):
    """Neither a newer bundle nor use since then is covered by it."""
    v = apart
    v.coffer("suspend", "acme", "--reason", "handed over")
    handed_over(v)
    v.coffer("transfer", "acme", "--finish", user=v.bob)
    handed_over(v, "/again")
    v.coffer("transfer", "acme", "--confirm", user=v.carol, check=NOT_FOUND)
    v.coffer("transfer", "acme", "--finish", user=v.bob)
    v.leave(v.alice, "coffer-admin")
    v.grant("acme", v.alice)
    v.coffer("resume", "acme", "--reason", "once more")
    m = v.mount(v.alice)
    m.write("new", "what no bundle has")
    m.unmount()
    wait_for(lambda: v.rows("sessions") == [], "the end of the session")
    v.coffer("suspend", "acme", "--reason", "handed over")
    for how in ("--finish", "--confirm"):
        assert "was used after" in v.coffer("transfer", "acme", how, user=v.carol, check=USAGE).err
    assert row(v)["state"] == "suspended"


def test_root_who_logged_in_as_a_custodian_is_that_custodian(make_vault):
    """Where roles are separate: becoming root by sudo makes no second person of him, whoever of the two asked."""
    v = make_vault(up=False)
    d = Installed(v, None)

    def as_root_after(user, *args, check=True):
        script = 'echo "$1" > /proc/self/loginuid; shift; exec "$@"'
        r = harness.run(["nsenter", "-m", "-t", str(d.pid), "/bin/sh", "-euc", script, "sh", user.uid,
                         v.programs + "/tools/coffer", *args], timeout=60)
        if "loginuid" in r.err:
            pytest.skip("this kernel keeps no login uid")
        assert r.rc == (0 if check is True else check), r
        return r

    try:
        d.coffer(v.alice, "client", "add", "acme", "--name", "Acme", "--email", "a@acme.example")
        d.coffer(v.alice, "suspend", "acme", "--reason", "handed over")
        d.coffer(None, "transfer", "acme", "--to", "5" * 64, "--out", v.base + "/one")
        d.coffer(v.bob, "transfer", "acme", "--finish")
        assert "himself" in as_root_after(v.bob, "transfer", "acme", "--confirm", check=REFUSED).err
        d.coffer(None, "transfer", "acme", "--to", "5" * 64, "--out", v.base + "/two")
        as_root_after(v.bob, "transfer", "acme", "--finish")
        assert "himself" in d.coffer(v.bob, "transfer", "acme", "--confirm", check=REFUSED).err
        assert "himself" in d.coffer(None, "transfer", "acme", "--confirm", check=REFUSED).err  # root is one account
        assert "are destroyed" in d.coffer(v.carol, "transfer", "acme", "--confirm").out
        d.coffer(None, "down")
    finally:
        d.close()
