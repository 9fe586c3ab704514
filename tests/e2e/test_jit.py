"""Just in time: approvals by a second person, idle limits, emergencies and their reviews, roles that exclude each other."""
import errno
import glob
import json
import os
import time

import pytest

import harness
from harness import Mount, NOT_FOUND, PURPOSE, REFUSED, wait_for

SOON = 10  # promised is a second; on a machine that is busy, what counts is that it comes by itself (the lease would take 30)


def builtin_policy():
    with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
        return f.read()


def test_approval_by_a_second_person(acme):
    """Purpose legal-process: refused, asked for, not approved by himself, approved, taken back."""
    acme.grant("acme", acme.alice, "legal-process", "r")
    args = ("acme", "legal-process")
    r = acme.mount(acme.alice, *args, check=REFUSED)
    assert "coffer request acme" in r.err
    ask = ("request", "acme", "--purpose", "legal-process", "--reason", "order 7/26")
    acme.coffer("request", "acme", "--purpose", PURPOSE, "--reason", "x", user=acme.alice, check=REFUSED)  # needs none
    acme.coffer(*ask, user=acme.bob, check=REFUSED)  # has no grant
    id = str(acme.json(*ask, user=acme.alice)["request"])
    acme.coffer("approve", id, user=acme.alice, check=REFUSED)
    acme.coffer("approve", "999", check=NOT_FOUND)
    acme.coffer("approve", id)
    m, other = acme.mount(acme.alice, *args), acme.mount(acme.alice)
    until = m.session()["until"]
    assert until - time.time() <= 8 * 3600
    acme.coffer("deny", id, "--note", "withdrawn")
    wait_for(lambda: not m.mounted(), "the end of what rested on it", limit=SOON)
    assert other.mounted()
    acme.mount(acme.alice, *args, check=REFUSED)
    acme.coffer("approve", id, check=REFUSED)
    assert acme.rows("requests", "--all")[0]["state"] == "revoked" and acme.rows("requests") == []
    again = str(acme.json(*ask, user=acme.alice)["request"])
    for _ in range(19):
        acme.coffer(*ask, user=acme.alice)
    assert "20 requests" in acme.coffer(*ask, user=acme.alice, check=harness.USAGE).err
    acme.coffer("deny", again)
    acme.mount(acme.alice, *args, check=REFUSED)


def test_an_approval_is_for_the_ticket_that_was_approved(acme):
    """Who approves reads the ticket: another one is another case."""
    acme.grant("acme", acme.alice, "legal-process", "r")
    id = str(acme.json("request", "acme", "--purpose", "legal-process", "--ticket", "CHG-7", "--reason", "x", user=acme.alice)["request"])
    acme.coffer("approve", id)
    r = acme.mount(acme.alice, "acme", "legal-process", ticket="CHG-8", check=REFUSED)
    assert "CHG-7" in r.err and "no other" in r.err
    acme.mount(acme.alice, "acme", "legal-process", ticket=None, check=REFUSED)
    m = acme.mount(acme.alice, "acme", "legal-process", ticket="CHG-7")
    acme.coffer("deny", id)
    wait_for(lambda: not m.mounted(), "the end of what rested on it", limit=SOON)


def test_nobody_approves_his_own_request(acme):
    """Neither where one user has all roles."""
    acme.grant("acme", "root", "legal-process", "r")
    id = str(acme.json("request", "acme", "--purpose", "legal-process", "--reason", "x")["request"])
    assert "himself" in acme.coffer("approve", id, check=REFUSED).err


def with_idle(make_vault, length):
    v = make_vault(up=False)
    path = v.base + "/policy.yaml"
    with open(path, "w") as f:
        f.write(builtin_policy().replace("    rights: rw\n    parties: [employee, provider, affiliate]",
                               f"    rights: rw\n    idle: {length}\n    parties: [employee, provider, affiliate]", 1))
    v.coffer("up", "--policy", path, timeout=60)
    v.add()
    v.grant("acme", v.alice, "support")
    v.grant("acme", v.alice)
    return v


def test_session_with_an_idle_limit_says_so(make_vault):
    v = with_idle(make_vault, "1min")
    answer = v.json("why", v.alice.name, "acme", "--purpose", "support")
    assert "not used for 1min" in str(answer["steps"])
    assert isinstance(v.mount(v.alice, "acme", "support"), Mount)


def test_a_session_that_is_not_used_ends_and_says_why(make_vault):
    """While something is done in it, it goes on, for longer than the limit; then it ends by itself, alone, and the record says so."""
    v = with_idle(make_vault, "4s")
    m, other = v.mount(v.alice, "acme", "support"), v.mount(v.alice)
    used = v.actor(v.alice)
    used.do(f"import os, time; d = {m.point!r}")
    used.do("open(d + '/f', 'w').write('x' * 5000); f = open(d + '/f', 'rb')")
    for _ in range(9):
        used.do("open(d + '/f').close()")
        time.sleep(0.5)
    assert m.mounted() and used.get("f.read(1)") == b"x"
    session = m.session()["session"]
    wait_for(lambda: not m.mounted(), "the end of what is not used", limit=20)
    assert used.errno("f.seek(4000); f.read(1000)") in (errno.EKEYEXPIRED, errno.ENOTCONN, errno.ECONNABORTED)  # the mount goes away behind it
    assert other.mounted()
    row = v.rows("sessions", "--ended")[0]
    assert (row["session"], row["end_reason"]) == (session, "not used")
    ends = [r["detail"] for r in v.log("--session", str(session)) if r["op"] == "session-end"]
    assert ends == ["not used", {"reason": "not used"}]  # the worker's row, with what was read and written, and fsd's
    assert [s["session"] for s in v.rows("sessions")] == [other.session()["session"]]
    assert v.mount(v.alice, "acme", "support").read("f") == b"x" * 5000


@pytest.mark.sanitize
def test_a_user_of_a_shared_mount_who_does_nothing_is_out(make_vault):
    """His session ends, what he had open too; the mount and the others go on; when he comes again, he is decided anew."""
    v = with_idle(make_vault, "2s")
    v.grant("acme", v.bob, "support")
    point = v.base + "/shared"
    os.mkdir(point)
    v.coffer("mount", "acme", "--purpose", "support", "--shared", point)
    alice, bob = v.actor(v.alice), v.actor(v.bob)
    alice.do(f"open({point!r} + '/f', 'w').write('x' * 9000)")
    alice.do(f"f = open({point!r} + '/f', 'rb')")

    def members():
        return {s["user"]: s["session"] for s in v.rows("sessions") if s.get("member_of")}

    was = members()[v.alice.name]

    def out():
        bob.do(f"open({point!r} + '/f').close()")
        return v.alice.name not in members()

    wait_for(out, "the end of who does nothing", limit=20)
    assert list(members()) == [v.bob.name]
    assert alice.errno("f.seek(5000); f.read(1)") == errno.EKEYEXPIRED
    row = v.rows("sessions", "--ended")[0]
    assert (row["session"], row["user"], row["end_reason"]) == (was, v.alice.name, "not used")
    wait_for(lambda: alice.errno(f"open({point!r} + '/f').close()") == 0, "his new session")
    assert members()[v.alice.name] > was


def test_a_look_from_outside_keeps_no_session_alive(make_vault):
    """Neither `coffer sessions`, nor what another session does in the same client."""
    v = with_idle(make_vault, "2s")
    m, other = v.mount(v.alice, "acme", "support"), v.mount(v.alice)
    m.write("f", "x")
    end = time.monotonic() + 20 * harness.SLOW
    while m.mounted():
        assert time.monotonic() < end, "it lives on"
        other.write("f", "y")
        v.rows("sessions")
    assert v.rows("sessions", "--ended")[0]["end_reason"] == "not used"


def test_emergency(acme):
    acme.down()
    acme.up_with_groups()
    args = ("--emergency", "--reason", "the server burns")
    acme.mount(acme.bob, "acme", "support", *args, check=REFUSED)
    acme.join(acme.bob, "coffer-emergency")
    bob = acme.bob
    acme.mount(bob, "acme", "support", check=REFUSED)
    acme.mount(bob, "acme", "support", "--emergency", check=REFUSED)  # says no reason
    share = acme.mount(acme.alice)
    share.write("f", "x")
    m = acme.mount(bob, "acme", "support", *args)
    s = m.session()
    assert s["rights"] == "r" and 0 < s["until"] - s["since"] <= 3600
    assert m.read("f") == b"x" and m.errno("open('g', 'w')") == errno.EROFS
    letters = glob.glob(acme.dir + "/outbox/emergency-*.eml")
    assert len(letters) == 1 and "the server burns" in open(letters[0]).read()
    assert "EMERGENCY" in acme.logs()
    assert len([r for r in acme.log() if r["op"] == "emergency"]) == 1
    event, = [e for e in map(json.loads, acme.coffer("log", "--format", "ocsf").out.splitlines()) if e["activity_name"] == "emergency"]
    assert event["activity_id"] == 12 and event["severity_id"] == 4, event  # a SIEM sees that somebody came in, and that it is grave
    assert "wait for a review" in str(acme.status()["warnings"])
    row = acme.rows("reviews")[0]
    assert (row["user"], row["reason"]) == (bob.name, "the server burns")
    acme.join(bob, "coffer-auditor")
    acme.coffer("reviews", "close", str(row["review"]), "--note", "fine", user=bob, check=REFUSED)  # his own act
    acme.coffer("reviews", "close", str(row["review"]), "--note", "needed: disk was failing")
    assert acme.rows("reviews") == [] and acme.rows("reviews", "--all")[0]["closed_by"] == "root"
    acme.coffer("reviews", "close", str(row["review"]), "--note", "again", check=NOT_FOUND)


def test_roles_are_not_used_together(make_vault):
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.join(v.bob, "coffer-admin")
    v.grant("acme", v.alice, user=v.bob)
    v.grant("acme", v.bob)
    r = v.mount(v.bob, check=REFUSED)  # an admin is no consultant here
    assert "role" in r.err
    v.join(v.bob, "coffer-auditor")
    r = v.grant("acme", v.carol, user=v.bob, check=REFUSED)
    assert "may not be used together" in r.err
    v.down()
    path = v.base + "/policy.yaml"
    with open(path, "w") as f:
        f.write(builtin_policy() + "together:\n- {roles: [admin, auditor, consultant]}\n")
    v.up_with_groups("--policy", path)
    v.grant("acme", v.carol, user=v.bob)
    assert isinstance(v.mount(v.bob), Mount)
