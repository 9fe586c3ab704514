"""What takes two persons, and what nobody does for himself."""
import json
import os
import shutil
import time

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


def as_root_after(d, v, user, *args, check=True):
    """Root, who logged in as `user`: what sudo is."""
    script = 'echo "$1" > /proc/self/loginuid; shift; exec "$@"'
    r = harness.run(["nsenter", "-m", "-t", str(d.pid), "/bin/sh", "-euc", script, "sh", user.uid, v.programs + "/tools/coffer", *args],
                    timeout=60)
    if "loginuid" in r.err:
        pytest.skip("this kernel keeps no login uid, or none that a test may set")
    assert r.rc == (0 if check is True else check), r
    return r


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


def test_two_custodians_erase_a_file(apart):
    """By path or person it goes at once, so one asks and another confirms; what one asked for is used once, and is about that place."""
    v = apart
    v.leave(v.alice, "coffer-admin")
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    m.sh("mkdir d; echo x > d/doe.pdf; echo y > d/other; echo z > jane.txt")
    v.coffer("subject", "label", m.path("jane.txt"), "P-1", user=v.alice)
    reason = ["--reason", "request 12", "--yes"]
    doe, confirm = ["shred", "acme", "d/doe.pdf", *reason], ["--confirm"]
    v.coffer(*doe, *confirm, user=v.carol, check=NOT_FOUND)
    assert v.json("expiry", "list", user=v.carol)["erasures"] == []
    assert "nothing is destroyed yet" in v.coffer(*doe, user=v.bob).out
    waits, = v.json("expiry", "list", user=v.carol)["erasures"]  # who is to confirm need not be told by word of mouth
    assert (waits["client"], waits["asked_by"], waits["reason"]) == ("acme", v.bob.name, "request 12") and "doe" not in str(waits)
    assert "request 12" in v.coffer("expiry", "list", "acme", user=v.carol).out
    v.coffer("expiry", "list", user=v.alice, check=REFUSED)
    assert m.read("d/doe.pdf") == b"x\n"  # nor did a session end
    assert "two different custodians" in v.coffer(*doe, *confirm, user=v.bob, check=REFUSED).err
    v.coffer(*doe, *confirm, user=v.alice, check=REFUSED)
    assert v.json(*doe, user=v.carol)["asked_by"] == v.bob.name  # does not confirm it
    for other in ("d", "d/other"):
        v.coffer("shred", "acme", other, *reason, *confirm, user=v.carol, check=NOT_FOUND)
    path = v.json(*doe, *confirm, user=v.carol, timeout=60)["certificate"]
    with open(os.path.join(v.dir, path)) as f:
        decided = json.load(f)["certificate"]["decided"]
    assert (decided["asked_by"], decided["confirmed_by"]) == (v.bob.name, v.carol.name), decided
    assert v.json("expiry", "list", user=v.carol)["erasures"] == []
    acts = {r["op"]: r for r in v.log()}
    assert (acts["erase-ask"]["user"], acts["erase-confirm"]["user"]) == (v.bob.name, v.carol.name)
    assert "doe" not in str([acts["erase-ask"], acts["erase-confirm"]])
    m = v.mount(v.alice)
    m.sh("rm -f d/doe.pdf; echo new > d/doe.pdf")
    m.unmount()
    v.coffer(*doe, *confirm, user=v.carol, check=NOT_FOUND)  # that was another file
    jane = ["subject", "shred", "acme", "P-1", *reason]
    v.coffer(*jane, user=v.bob)
    v.coffer(*jane, *confirm, user=v.bob, check=REFUSED)
    v.coffer(*jane, *confirm, user=v.carol, timeout=60)
    m = v.mount(v.alice)
    assert m.errno("open('jane.txt').read()") != 0 and m.read("d/other") == b"y\n" and m.read("d/doe.pdf") == b"new\n"
    # What is not there any more is called by its path, which nobody reads in the book.
    v.mount(v.alice).sh("rm d/doe.pdf")
    assert "nothing is destroyed yet" in v.coffer(*doe, user=v.bob).out
    v.coffer("shred", "acme", "d/never", *reason, *confirm, user=v.carol, check=NOT_FOUND)
    assert v.json(*doe, *confirm, user=v.carol, timeout=60)["counts"]["versions"] == 1
    assert "doe" not in str([r for r in v.log() if r["op"].startswith("erase")])


def test_two_custodians_erase_a_class(apart):
    """Who labels with a class of short life does not alone have that destroyed: neither now (nothing of today), nor another day's."""
    v = apart
    v.leave(v.alice, "coffer-admin")
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    m.sh("echo x > f")
    m.unmount()
    v.coffer("class", "set", "acme", "f", "credentials", user=v.bob)
    erase = ["shred", "acme", "--class", "credentials", "--reason", "R", "--yes", "--before"]
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60 * 86400))
    v.coffer(*erase, day, "--confirm", user=v.carol, check=NOT_FOUND)
    assert "nothing is destroyed yet" in v.coffer(*erase, day, user=v.bob).out
    assert "two different custodians" in v.coffer(*erase, day, "--confirm", user=v.bob, check=REFUSED).err
    ask, = v.log("--op", "erase-ask")
    assert (ask["user"], ask["detail"]["class"]) == (v.bob.name, "credentials"), ask
    # there is nothing that old: but it was begun
    assert "nothing of that class" in v.coffer(*erase, day, "--confirm", user=v.carol, check=None).err
    assert "not due" in v.coffer(*erase, "today", user=v.bob, check=None).err


def test_root_who_logged_in_as_a_custodian_is_that_custodian(make_vault):
    """Where roles are separate: becoming root by sudo makes no second person of him, whoever of the two asked."""
    v = make_vault(up=False)
    d = Installed(v, None)

    try:
        d.coffer(v.alice, "client", "add", "acme", "--name", "Acme", "--email", "a@acme.example")
        d.coffer(v.alice, "suspend", "acme", "--reason", "handed over")
        d.coffer(None, "transfer", "acme", "--to", "5" * 64, "--out", v.base + "/one")
        d.coffer(v.bob, "transfer", "acme", "--finish")
        assert "himself" in as_root_after(d, v, v.bob, "transfer", "acme", "--confirm", check=REFUSED).err
        d.coffer(None, "transfer", "acme", "--to", "5" * 64, "--out", v.base + "/two")
        as_root_after(d, v, v.bob, "transfer", "acme", "--finish")
        assert "himself" in d.coffer(v.bob, "transfer", "acme", "--confirm", check=REFUSED).err
        assert "himself" in d.coffer(None, "transfer", "acme", "--confirm", check=REFUSED).err  # root is one account
        assert "are destroyed" in d.coffer(v.carol, "transfer", "acme", "--confirm").out
        d.coffer(None, "down")
    finally:
        d.close()


def test_two_accounts_of_one_name_are_one_person(make_vault):
    """As the daemons see it, carol's number belongs to another account called as bob."""
    v = make_vault(up=False)
    v.groups, passwd = v.base + "/group", v.base + "/passwd"
    shutil.copy("/etc/group", v.groups)
    with open("/etc/passwd") as f, open(passwd, "w") as out:
        out.write(f.read().replace(v.carol.name + ":", v.bob.name + ":"))
    for path in (v.groups, passwd):
        os.chmod(path, 0o644)
    harness.run(["unshare", "-m", "/bin/sh", "-euc", 'mount --bind "$1" /etc/passwd; mount --bind "$2" /etc/group; shift 2; exec "$@"',
                 "sh", passwd, v.groups, v.programs + "/tools/coffer", "--dir", v.dir, "up"], check=True, timeout=60)
    v.add()
    v.join(v.bob, "coffer-custodian")  # by name: both have it
    v.coffer("suspend", "acme", "--reason", "handed over")
    handed_over(v)
    v.coffer("transfer", "acme", "--finish", user=v.bob)
    r = v.coffer("transfer", "acme", "--confirm", user=v.carol, check=REFUSED)
    assert "two different custodians" in r.err, r
    v.join(v.bob, "coffer-admin")
    v.leave(v.bob, "coffer-custodian")
    r = v.coffer("grant", "acme", v.bob.name, "--purpose", "support", "--rights", "r", user=v.carol, check=REFUSED)
    assert "himself" in r.err, r


# -- own powers --

@pytest.fixture
def admins(make_vault):
    """bob and carol are admins by their groups; bob has a grant from before, for which he must not be an admin."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.grant("acme", v.bob, "offers-and-events", "r")
    v.grant("acme", v.bob, "legal-process", "r")
    v.join(v.bob, "coffer-admin")
    v.join(v.bob, "friends")
    v.join(v.carol, "coffer-admin")
    return v


def policy(v, name, *changes):
    with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
        text = f.read()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = f"{v.base}/policy-{name}.yaml"
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o644)
    return path


def test_nobody_grants_himself_anything(admins):
    v = admins
    for subject in ([v.bob.name], ["--group", "friends"]):
        r = v.coffer("grant", "acme", *subject, "--purpose", "support", "--rights", "r", user=v.bob, check=REFUSED)
        assert "himself" in r.err
    v.coffer("grant", "acme", "--group", "friends", "--purpose", "support", "--rights", "r", user=v.carol)


def test_nobody_lets_himself_in_by_the_policy(admins):
    """A group for emergencies that he is in; roles that he has and must not use together."""
    v = admins
    group = policy(v, "group", ("groups: [coffer-emergency]", "groups: [coffer-emergency, friends]"))
    roles = policy(v, "roles", ("emergency:\n", "together:\n- {roles: [admin, consultant]}\n\nemergency:\n"))
    for path, what in ((group, "the group friends"), (roles, "together")):
        r = v.coffer("policy", "apply", path, user=v.bob, check=REFUSED)
        assert what in r.err and "another admin" in r.err, r
    assert len(v.rows("policy", "versions")) == 1 and v.rows("reviews") == []
    assert v.json("policy", "apply", group, user=v.carol)["review"] == 0  # is not in it: she gains nothing
    v.coffer("policy", "apply", roles, check=0)  # the owner has all already
    assert v.rows("reviews") == []


@pytest.mark.parametrize("gain", [
    ("purpose", ("    approval: 1d\n", "")),
    ("emergency", ("max_session: 1h\n  rights: r", "max_session: 2h\n  rights: r")),
])
def test_a_policy_that_gives_its_maker_more_is_loud(admins, gain):
    """Log, letter, review: open until another person closes it."""
    v = admins
    v.join(v.bob, "coffer-emergency")
    harmless = policy(v, "harmless", ("max_session: 1h", "max_session: 30min"))
    assert v.json("policy", "apply", harmless, user=v.bob)["review"] == 0
    v.json("policy", "apply", policy(v, "as-it-was", ("title: To provide customer support", "title: Support")), user=v.carol)
    said = v.coffer("policy", "apply", policy(v, gain[0], gain[1]), user=v.bob).out
    row, = v.rows("reviews")
    assert f"review {row['review']}" in said and (row["what"], row["user"], row["client"]) == ("policy", v.bob.name, None), row
    with open(f"{v.dir}/outbox/gain-{row['review']}.eml") as f:
        letter = f.read()
    assert v.bob.name in letter and row["reason"] in letter and "To: info@inemsoft.com" in letter, letter
    assert "OWN POWERS" in v.logs() and "wait for a review" in str(v.status()["warnings"])
    assert [r["detail"]["gain"] for r in v.log("--op", "policy-apply") if "gain" in r["detail"]] == [row["reason"]]
    close = ["reviews", "close", str(row["review"]), "--note", "as agreed"]
    assert "himself" in v.coffer(*close, user=v.bob, check=REFUSED).err
    v.coffer(*close, user=v.carol)
    assert v.rows("reviews") == [] and v.rows("reviews", "--all")[0]["closed_by"] == v.carol.name


def test_an_agreement_that_gives_its_maker_more_is_loud(admins):
    v = admins
    v.leave(v.bob, "coffer-admin")
    v.grant("acme", v.bob, "support", "r", user=v.carol)
    v.join(v.bob, "coffer-admin")
    path = v.base + "/agreement.yaml"

    def agreement(rule):
        with open(path, "w") as f:
            f.write(f'format: 1\nname: terms\nversion: "1"\neffective: "2024-01-01"\n{rule}\n')
        os.chmod(path, 0o644)

    agreement('forbid: [{purpose: support, source: "§ 1"}]')
    assert v.json("agreement", "set", "acme", path, user=v.bob)["review"] == 0  # less, not more
    v.coffer("agreement", "end", "acme", "--reason", "over", user=v.bob)
    row, = v.rows("reviews")
    assert (row["what"], row["client"], row["user"]) == ("agreement", "acme", v.bob.name) and "support" in row["reason"], row
    v.coffer("reviews", "close", str(row["review"]), "--note", "fine", user=v.bob, check=REFUSED)
    v.coffer("reviews", "close", str(row["review"]), "--note", "fine", user=v.carol)
    assert "emergencies" not in v.json("report", "acme")["report"] or v.json("report", "acme")["report"]["emergencies"] == []


def test_nobody_records_for_himself_what_lets_him_in(admins):
    """A consent on which his grant rests, an engagement that it needs, the end of his own suspension."""
    v = admins
    evidence = v.base + "/consent.txt"
    with open(evidence, "w") as f:
        f.write("yes")
    os.chmod(evidence, 0o644)
    give = ["consent", "give", "acme", "--scope", "offers-and-events", "--evidence", evidence]
    assert "another admin" in v.coffer(*give, user=v.bob, check=REFUSED).err
    assert v.rows("consent", "list", "acme") == []
    v.coffer(*give, user=v.carol)
    v.coffer(*give, user=v.bob)  # there is one: he gains nothing
    v.coffer("suspend", "--user", v.bob.name, "--reason", "password lost", user=v.carol)
    assert "himself" in v.coffer("resume", "--user", v.bob.name, "--reason", "found", user=v.bob, check=REFUSED).err
    v.coffer("resume", "--user", v.bob.name, "--reason", "found", user=v.carol)
    for what in (["acme"], ["--all"]):
        v.coffer("suspend", *what, "--reason", "a suspicion", user=v.carol)
        assert "another admin" in v.coffer("resume", *what, "--reason", "none", user=v.bob, check=REFUSED).err
        v.coffer("resume", *what, "--reason", "cleared", user=v.carol)  # has no grant there
        v.coffer("suspend", *what, "--reason", "work on it", user=v.bob)
        v.coffer("resume", *what, "--reason", "done", user=v.bob)  # it was his own


def test_nobody_brings_a_client_back_for_himself(admins):
    """A later end lets in again who has a grant; an earlier one lets nobody in."""
    v = admins
    v.leave(v.bob, "coffer-admin")
    v.grant("acme", v.bob, "support", "r", user=v.carol)
    v.join(v.bob, "coffer-admin")
    day = [time.strftime("%Y-%m-%d", time.gmtime(time.time() + n * 86400)) for n in (-3, -2, 30)]
    v.coffer("client", "end", "acme", "--on", day[1], user=v.carol)
    r = v.coffer("client", "end", "acme", "--on", day[2], user=v.bob, check=REFUSED)
    assert "another admin" in r.err and "support" in r.err, r
    assert row(v)["state"] == "ended"
    v.coffer("client", "end", "acme", "--on", day[0], user=v.bob)
    v.coffer("client", "end", "acme", "--on", day[2], user=v.carol)
    assert row(v)["state"] == "active"


def test_two_who_became_root_are_two(make_vault):
    """Who did not make a suspension does not lift it for himself, though both have root's number."""
    v = make_vault(up=False)
    d = Installed(v, None)
    try:
        d.coffer(v.alice, "client", "add", "acme", "--name", "Acme", "--email", "a@acme.example")
        d.coffer(v.alice, "grant", "acme", v.bob.name, "--purpose", "support", "--rights", "r")
        as_root_after(d, v, v.alice, "suspend", "acme", "--reason", "a suspicion")
        r = as_root_after(d, v, v.bob, "resume", "acme", "--reason", "none", check=REFUSED)
        assert "another admin" in r.err, r
        as_root_after(d, v, v.alice, "resume", "acme", "--reason", "cleared")
        as_root_after(d, v, v.bob, "suspend", "acme", "--reason", "work on it")
        as_root_after(d, v, v.bob, "resume", "acme", "--reason", "done")
        d.coffer(None, "down")
    finally:
        d.close()


def test_nobody_approves_or_reviews_himself_by_another_role_or_as_root(make_vault):
    """Roles from two groups are still one person; root is who logged in."""
    v = make_vault(up=False)
    d = Installed(v, None)
    try:
        d.coffer(v.alice, "client", "add", "acme", "--name", "Acme", "--email", "a@acme.example")
        d.coffer(v.alice, "grant", "acme", "ct_bob", "--purpose", "legal-process", "--rights", "r")
        # bob is a custodian: who has a role may ask, and another must decide
        id = d.coffer(v.bob, "request", "acme", "--purpose", "legal-process", "--reason", "order", "--json").json["request"]
        assert "himself" in d.coffer(v.bob, "approve", str(id), check=REFUSED).err
        assert "himself" in as_root_after(d, v, v.bob, "approve", str(id), check=REFUSED).err
        assert "himself" in as_root_after(d, v, v.carol, "grant", "acme", v.carol.name, "--purpose", "support", "--rights", "r",
                                          check=REFUSED).err
        d.coffer(v.carol, "approve", str(id))
        d.coffer(v.alice, "grant", "acme", "root", "--purpose", "legal-process", "--rights", "r")
        r = as_root_after(d, v, v.bob, "request", "acme", "--purpose", "legal-process", "--reason", "order", "--json")
        assert "himself" in d.coffer(v.bob, "approve", str(json.loads(r.out)["request"]), check=REFUSED).err
        d.coffer(v.carol, "approve", str(json.loads(r.out)["request"]))
        d.coffer(None, "down")
    finally:
        d.close()
