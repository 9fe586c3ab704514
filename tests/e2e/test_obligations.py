"""The duties of the privacy policy, one test each, named by its row in doc/POLICY.md (O1 to O24)."""
import errno
import hashlib
import json
import re
import time

import pytest

import harness
from harness import Mount, NOT_FOUND, OK, OTHER_PURPOSE, PURPOSE, REFUSED, TICKET, USAGE, wait_for
from test_destroy import clock, faketime, pass_time  # noqa: F401 (fixtures)

SOON = 10  # promised is a second; on a machine that is busy, what counts is that it comes by itself (the lease would take 30)


@pytest.fixture
def evidence(acme):
    path = acme.base + "/consent.txt"
    with open(path, "w") as f:
        f.write("I agree. Acme")
    return path


def refused(vault, user, *args, error, **kw):
    """A mount is refused for that reason, which stands in the record, too."""
    r = vault.mount(user, *args, check=REFUSED, **kw)
    assert not isinstance(r, Mount)
    row = [r for r in vault.log() if r["op"] == "refused"][-1]
    assert row["outcome"] == error, (row, r)
    return r


def why(vault, user, purpose=PURPOSE, *more, **kw):
    return vault.json("why", user.name, "acme", "--purpose", purpose, *more, **kw)


def step(answer, rule):
    return next(s for s in answer["steps"] if s["rule"] == rule)


def consent(vault, evidence, scope="offers-and-events", *more):
    return vault.json("consent", "give", "acme", "--scope", scope, "--evidence", evidence, *more)["consent"]


def ended_reason(vault, session):
    return next(s["end_reason"] for s in vault.rows("sessions", "--ended") if s["session"] == session)


def test_o01_purpose_outside_the_engagements(make_vault):
    v = make_vault()
    v.coffer("client", "add", "acme", "--name", "Acme", "--email", "p@acme.example", "--services", "it-consulting")
    for purpose in (PURPOSE, OTHER_PURPOSE):
        v.grant("acme", v.alice, purpose)
    refused(v, v.alice, error="NotEngaged")
    m = v.mount(v.alice, "acme", OTHER_PURPOSE)
    v.coffer("engagement", "begin", "acme", "data-migration")
    n = v.mount(v.alice)
    session = m.session()["session"]
    v.coffer("engagement", "end", "acme", "it-consulting")
    wait_for(lambda: not m.mounted(), "the end of what rested on it", limit=SOON)
    assert n.mounted() and n.write("f", "x") is None
    assert ended_reason(v, session) == "the engagement ended"
    refused(v, v.alice, "acme", OTHER_PURPOSE, error="NotEngaged")
    v.coffer("engagement", "begin", "acme", "nonsense", check=NOT_FOUND)


def agreement(vault, text, **kw):
    path = vault.base + "/agreement.yaml"
    with open(path, "w") as f:
        f.write('format: 1\nname: MSA\nversion: "1"\neffective: "2020-01-01"\n' + text)
    return vault.coffer("agreement", "set", "acme", path, **kw)


def test_o02_the_agreement_prevails_where_it_conflicts(acme):
    m = acme.mount(acme.alice)
    acme.grant("acme", acme.alice, OTHER_PURPOSE)
    n = acme.mount(acme.alice, "acme", OTHER_PURPOSE)
    agreement(acme, "forbid:\n- {purpose: data-migration, source: '§ 7'}\n"
                    "sessions:\n- {purpose: support, max_session: 1h, source: '§ 8'}\n"
                    "retention:\n- {class: personal, event: relationship-end, period: 10d, source: '§ 9'}\n")
    wait_for(lambda: not m.mounted(), "the end of what is forbidden", limit=SOON)
    assert n.mounted(), "what the agreement does not mention goes on"
    refused(acme, acme.alice, error="Prohibited")
    a = why(acme, acme.alice)
    assert step(a, "agreement")["source"] == "§ 7" and "HOW WE USE INFORMATION" in a["message"] and "prevails" in a["message"]
    acme.grant("acme", acme.bob, "support")  # shortened; before it had no end
    s = acme.mount(acme.bob, "acme", "support").session()
    assert 3500 < s["until"] - s["since"] <= 3600
    assert "§ 9" in str(acme.rows("retention", "forecast", "acme"))
    r = agreement(acme, "forbid:\n- {purpose: legal-compliance, source: '§ 1'}\n", check=USAGE)
    assert "line 6" in r.err and "rests on the law" in r.err, r
    acme.coffer("agreement", "end", "acme", "--reason", "replaced")
    acme.mount(acme.alice)


def test_o04_what_nobody_classified_is_personal(acme):
    m = acme.mount(acme.alice)
    m.sh("mkdir in; cp /etc/hostname in/f")
    shown = acme.json("class", "show", "acme", "in/f")
    assert (shown["class"], shown["labelled"]) == ("personal", False)
    acme.coffer("grant", "acme", acme.bob.name, "--purpose", "offers-and-events", "--rights", "r", "--party", "partner",
                "--reference", "R", "--until", "2030-01-01")
    a = why(acme, acme.bob, "offers-and-events", "--path", "in/f")
    assert a["verdict"] == "deny"


def test_o02_what_an_agreement_permits_can_be_granted(acme):
    """More rights than the policy gives: for that client, while it holds."""
    acme.add("other", "Other Ltd", "o@other.example")
    acme.grant("acme", acme.alice, "training", "rw", check=USAGE)
    agreement(acme, "permit:\n- {purpose: training, rights: rw, source: '§ 8'}\n")
    acme.grant("acme", acme.alice, "training", "rw")
    acme.grant("other", acme.alice, "training", "rw", check=USAGE)
    m = acme.mount(acme.alice, "acme", "training")
    m.write("f", "x")
    assert m.session()["rights"] == "rw"
    acme.coffer("agreement", "end", "acme", "--reason", "over")
    wait_for(lambda: not m.mounted(), "the end of what rested on it")
    acme.grant("acme", acme.alice, "training", "rw", check=USAGE)


def sources(v):
    return [(r["path"], r["path2"], r["outcome"], r["user"], r["purpose"]) for r in v.log("--op", "source")]


@pytest.mark.sanitize
def test_o04_an_import_records_its_source(acme):
    """Data of others: who gave it, on which path, by whom, for what; before the first byte; in clear nowhere; personal, too."""
    giver = "Partner Ltd, delivery 12"
    m = acme.mount(acme.alice)
    home = acme.alice.home
    acme.alice.sh("mkdir -p in/deep; echo one > in/a; echo two > in/deep/b; echo three > c; ln -s a in/link")
    m.sh("mkdir inbox")

    def bring(what, *more, user=acme.alice, into=m.path("inbox"), **kw):
        return acme.coffer("import", what, into, "--source", giver, *more, user=user, **kw)

    bring("in")
    bring("c")
    assert m.read("inbox/in/deep/b") == b"two\n" and m.sh("readlink inbox/in/link").out == "a\n" and m.read("inbox/c") == b"three\n"
    who = (giver, 0, acme.alice.name, PURPOSE)
    assert sources(acme) == [("inbox/in", *who), ("inbox/c", *who)]
    rows = [r for r in acme.log() if r.get("path") in ("inbox/c", "inbox/in/a")]
    assert [r["op"] for r in rows if r["path"] == "inbox/c"][:3] == ["create", "source", "open"]
    log = acme.log()
    at = [n for n, r in enumerate(log) if r["op"] == "source"][0]
    assert all(n > at for n, r in enumerate(log) if r.get("path", "").startswith("inbox/in/"))
    assert acme.json("class", "show", "acme", "inbox/c")["class"] == "personal"
    assert f"inbox/c: {giver}" in acme.coffer("log", "--op", "source").out
    assert [r["path"] for r in acme.log("--op", "source", "--path", "inbox/c")] == ["inbox/c"]
    # Said afterwards; refused, and recorded as refused; nothing is overwritten.
    acme.coffer("source", m.path("inbox"), "the client himself", user=acme.alice)
    assert sources(acme)[-1][:3] == ("inbox", "the client himself", 0)
    m.write("inbox/old", "kept")
    acme.alice.sh("echo new > old")
    assert "there already" in bring("old", check=USAGE).err
    assert m.read("inbox/old") == b"kept"
    bring("nothing", check=NOT_FOUND)
    assert "not in a mounted share" in bring("c", into=home, check=USAGE).err
    for bad in ("", "x" * 256, "a\nb"):
        acme.coffer("source", m.path("inbox"), bad, user=acme.alice, check=USAGE)
        assert m.errno(f"os.setxattr('inbox', 'coffer.source', {bad.encode()!r})") == errno.EINVAL
    m.sh("mkfifo pipe")
    acme.coffer("source", m.path("pipe"), giver, user=acme.alice, check=USAGE)
    assert m.errno("os.getxattr('inbox/c', 'coffer.source')") != 0 and m.sh("getfattr -d inbox/c 2>/dev/null || true").out == ""
    acme.grant("acme", acme.bob, PURPOSE, "r")
    reader = acme.mount(acme.bob)
    acme.coffer("source", reader.path("inbox/c"), giver, user=acme.bob, check=REFUSED)
    assert sources(acme)[-1][2:4] == (errno.EROFS, acme.bob.name)
    bring("/etc/hostname", user=acme.bob, into=reader.path("inbox"), check=REFUSED)
    m.unmount()
    reader.unmount()
    acme.down()
    found = harness.run(["grep", "-rlaF", giver, acme.dir])
    assert found.out == "", found


def test_o05_nine_purposes_and_no_other_word(acme):
    nine = ["support", "technology-move", "data-migration", "training", "consulting", "offers-and-events", "improve-services",
            "fraud-prevention", "legal-compliance"]
    path = acme.base + "/c"
    open(path, "w").close()
    consent(acme, path)
    for purpose in nine:
        acme.grant("acme", acme.alice, purpose, "r")
        assert why(acme, acme.alice, purpose, "--ticket", "CHG-1")["verdict"] == "allow", purpose
    r = acme.mount(acme.alice, "acme", "curiosity", check=NOT_FOUND)
    assert all(purpose in r.err for purpose in nine[:6]), r
    acme.coffer("revoke", "acme", acme.alice.name)
    acme.grant("acme", acme.alice, "services")  # the node above five of them
    assert why(acme, acme.alice, "training")["verdict"] == "allow"
    assert why(acme, acme.alice, "improve-services")["verdict"] == "deny"
    assert {s["purpose"] for s in acme.rows("shares", user=acme.alice)} == set(nine[:5])


def test_o06_consent_withdrawn_ends_what_rests_on_it(acme, evidence):
    acme.grant("acme", acme.alice, "offers-and-events", "r")
    refused(acme, acme.alice, "acme", "offers-and-events", error="NoConsent")
    id = consent(acme, evidence)
    m, other = acme.mount(acme.alice, "acme", "offers-and-events"), acme.mount(acme.alice)
    session = m.session()["session"]
    acme.coffer("consent", "withdraw", "acme", str(id), "--reason", "by mail")
    wait_for(lambda: not m.mounted(), "the end of the session", limit=SOON)
    assert other.mounted() and other.write("f", "x") is None
    assert ended_reason(acme, session) == "consent withdrawn"
    refused(acme, acme.alice, "acme", "offers-and-events", error="NoConsent")
    row = acme.rows("consent", "list", "acme")[0]
    assert row["withdrawn_at"] and re.fullmatch("[0-9a-f]{64}", row["evidence"]) and row["document"] == "consent.txt"
    acme.coffer("consent", "give", "acme", "--scope", "support", "--evidence", evidence, check=REFUSED)  # rests on no consent


def test_o07_provider_only_within_the_request(acme):
    g = ("grant", "acme", acme.bob.name, "--purpose", PURPOSE, "--rights", "r", "--party", "provider")
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    assert "reference" in acme.coffer(*g, "--until", "2030-01-01", check=REFUSED).err
    assert "end" in acme.coffer(*g, "--reference", "PO-1", check=USAGE).err
    acme.coffer(*g, "--reference", "PO-1", "--until", soon)
    m = acme.mount(acme.bob)
    refused(acme, acme.bob, "acme", OTHER_PURPOSE, error="NotGranted")
    acme.coffer("grant", "acme", acme.bob.name, "--purpose", "legal-compliance", "--rights", "r", "--party", "provider",
                "--reference", "PO-1", "--until", "2030-01-01")
    refused(acme, acme.bob, "acme", "legal-compliance", error="PartyNotAllowed")
    wait_for(lambda: not m.mounted(), "the end of the order", limit=10)
    refused(acme, acme.bob, error="GrantExpired")


def test_o08_partner_sees_only_what_is_shareable(acme, evidence):
    m = acme.mount(acme.alice)
    m.sh("mkdir plain contact; echo secret > plain/f; echo Ada > contact/f; setfattr -n user.a -v b plain/f")
    acme.coffer("class", "set", "acme", "contact", "contact")
    consent(acme, evidence, "offers-and-events", "--recipient", "Partner Ltd", "--reason", "co-branded webinar")
    acme.coffer("grant", "acme", acme.bob.name, "--purpose", "offers-and-events", "--rights", "r", "--party", "partner",
                "--reference", "SO-7", "--until", "2030-01-01", "--organisation", "Partner Ltd")
    p = acme.mount(acme.bob, "acme", "offers-and-events")
    assert p.read("contact/f") == b"Ada\n"
    for statement in ("open('plain/f').read()", "open('plain/f', 'rb')", "os.getxattr('plain/f', 'user.a')"):
        assert p.errno(statement) == errno.EACCES, statement
    rows = [r for r in acme.log() if r.get("user") == acme.bob.name and r["op"] == "open" and r.get("path", "").endswith("plain/f")]
    assert rows and {r["outcome"] for r in rows} == {errno.EACCES}, rows
    a = why(acme, acme.bob, "offers-and-events", "--path", "plain/f")
    assert a["verdict"] == "deny" and "not shared" in a["message"], a
    assert why(acme, acme.bob, "offers-and-events", "--path", "contact/f")["verdict"] == "allow"


def test_o09_affiliate_has_its_own_list(acme):
    for purpose in (PURPOSE, "training"):
        acme.coffer("grant", "acme", acme.bob.name, "--purpose", purpose, "--rights", "r", "--party", "affiliate", "--until",
                    "2030-01-01")
    acme.mount(acme.bob)
    refused(acme, acme.bob, "acme", "training", error="PartyNotAllowed")


def test_o11_a_sealed_disclosure_appears_on_its_date(clock):
    v, order = clock, clock.base + "/order.pdf"
    with open(order, "wb") as f:
        f.write(b"In the name of the law: tell nobody")

    def disclose(until, check=OK):
        return v.coffer("disclose", "acme", "--authority", "Court, 4 C 17/26", "--document", order, "--scope", "invoices",
                        "--sealed-until", until, check=check)
    assert "past" in disclose(v.clock.today(-1), check=None).err
    disclose(v.clock.today(10))
    book = v.log()
    assert not [r for r in book if r["op"] == "disclosure"]
    entry, = [r for r in book if r["op"] == "sealed-entry"]
    assert entry["client"] is None and set(entry["detail"]) == {"commitment", "until"}
    assert "Court" not in json.dumps(book) and "invoices" not in json.dumps(book)
    v.coffer("log", "verify")
    listed, = v.json("disclosures")["sealed"]
    assert listed["client"] == "acme" and listed["authority"] == "Court, 4 C 17/26" and listed["scope"] == "invoices"
    assert v.log("--op", "sealed-list"), "somebody looked, and nobody wrote it down"
    assert v.coffer("disclosures", user=v.alice, check=None).rc == REFUSED

    v.coffer("down")
    v.up(env=v.clock.env)  # what is sealed outlives the daemons
    pass_time(v, 9)
    time.sleep(6)  # longer than keyd takes to look again
    assert not v.log("--op", "disclosure")
    pass_time(v, 11)
    wait_for(lambda: v.log("--op", "disclosure"), "the date", limit=15)
    told, = v.log("--op", "disclosure", "--client", "acme")
    d = told["detail"]
    assert d["authority"] == "Court, 4 C 17/26" and d["document"] == hashlib.sha256(b"In the name of the law: tell nobody").hexdigest()
    assert told["purpose"] == "legal-process" and d["sealed_until"] == entry["detail"]["until"]
    content = {k: d[k] for k in ("authority", "client", "document", "recorded_at", "recorded_by", "scope")}
    commitment = hashlib.blake2b(json.dumps(content, sort_keys=True, separators=(",", ":")).encode(), digest_size=32,
                                 key=bytes.fromhex(d["nonce"])).hexdigest()
    assert commitment == d["commitment"] == entry["detail"]["commitment"]
    assert v.json("disclosures")["sealed"] == []
    v.coffer("log", "verify")


def test_o12_claims_and_security_have_their_own_grants(acme):
    acme.grant("acme", acme.alice, "legal-claims", "r")
    acme.mount(acme.alice, "acme", "legal-claims")
    refused(acme, acme.alice, "acme", "security", error="NotGranted")
    acme.grant("acme", acme.alice, "security", "r")
    acme.mount(acme.alice, "acme", "security")
    acme.grant("acme", acme.bob, "legal-claims", "rw", check=USAGE)  # to look at, not to change


def test_o13_sharing_on_consent_to_that_recipient(acme, evidence):
    acme.coffer("grant", "acme", acme.bob.name, "--purpose", "sharing", "--rights", "r", "--party", "partner", "--reference",
                "R-1", "--until", "2030-01-01", "--organisation", "Partner Ltd")
    refused(acme, acme.bob, "acme", "sharing", error="NoConsent")
    r = acme.coffer("consent", "give", "acme", "--scope", "sharing", "--recipient", "Partner Ltd", "--evidence", evidence,
                    check=REFUSED)
    assert "reason" in r.err
    consent(acme, evidence, "sharing", "--recipient", "Another Ltd", "--reason", "a webinar")
    refused(acme, acme.bob, "acme", "sharing", error="NoConsent")
    id = consent(acme, evidence, "sharing", "--recipient", "Partner Ltd", "--reason", "a webinar")
    m = acme.mount(acme.bob, "acme", "sharing")
    acme.coffer("consent", "withdraw", "acme", str(id))
    wait_for(lambda: not m.mounted(), "the end of the session", limit=SOON)
    refused(acme, acme.bob, "acme", "sharing", error="NoConsent")
    assert acme.rows("consent", "list", "acme")[1]["reason"] == "a webinar"


def test_o16_billing_serves_orders_only(acme):
    acme.grant("acme", acme.alice, "orders")
    m = acme.mount(acme.alice)
    m.sh("mkdir bill other; echo 4711 > other/f")
    acme.coffer("class", "set", "acme", "bill", "billing")
    o = acme.mount(acme.alice, "acme", "orders")
    o.write("bill/f", "card")
    assert o.read("other/f") == b"4711\n"
    m = acme.mount(acme.alice)
    for statement in ("open('bill/f')", "open('bill/f', 'w')", "os.truncate('bill/f', 0)", "open('bill/new', 'w')"):
        assert m.errno(statement) == errno.EACCES, statement
    assert o.read("bill/f") == b"card" and m.read("other/f") == b"4711\n"
    session = m.session()["session"]
    acme.coffer("class", "set", "acme", "other", "billing")  # what it may have open is not its to open any more
    wait_for(lambda: not m.mounted(), "the end of the session", limit=SOON)
    assert o.mounted() and ended_reason(acme, session) == "a class label changed"


def test_o17_nothing_without_a_grant(acme):
    refused(acme, acme.bob, error="NotGranted")
    refused(acme, acme.alice, "acme", OTHER_PURPOSE, error="NotGranted")
    acme.mount(acme.alice)


def test_o18_credentials_need_an_approval_are_not_cached_and_leave_no_trace(acme):
    canary = "canary-7f3a91"
    m = acme.mount(acme.alice)
    m.sh(f"mkdir keys; echo {canary} > keys/f; echo x > g")
    acme.coffer("class", "set", "acme", "keys", "credentials")
    m = acme.mount(acme.alice)
    assert m.errno("open('keys/f')") == errno.EACCES and m.errno("open('g')") == 0
    ask = ("request", "acme", "--purpose", PURPOSE, "--class", "credentials", "--ticket", TICKET, "--reason", "login fails")
    id = str(acme.json(*ask, user=acme.alice)["request"])
    acme.coffer("approve", id)
    c = acme.mount(acme.alice)
    assert c.read("keys/f").decode().strip() == canary and c.session()["until"] - time.time() <= 8 * 3600
    pages = c.sh("cat keys/f g > /dev/null; fincore --noheadings --output PAGES,FILE keys/f g").out.split()
    assert dict(zip(pages[1::2], pages[::2])) == {"keys/f": "0", "g": "1"}
    assert m.errno("open('keys/f')") == errno.EACCES, "the older session is as it was"
    acme.coffer("deny", id)
    wait_for(lambda: not c.mounted(), "the end of the session with the class", limit=SOON)
    assert m.mounted()
    m.unmount()
    acme.down()
    assert harness.run(["grep", "-r", "-a", "-l", canary, acme.dir]).out == ""


def test_o19_no_purpose_no_mount_and_the_record_names_both(acme):
    point = acme.alice.mkdir("none")
    r = acme.coffer("mount", "acme", point, user=acme.alice, check=USAGE)
    assert "purpose" in r.err
    acme.mount(acme.alice)
    row = [r for r in acme.log() if r["op"] == "mount"][-1]
    assert (row["client"], row["purpose"], row["user"]) == ("acme", PURPOSE, acme.alice.name)
    assert "interest" in str(row["detail"]).lower()


def test_o20_suspension_ends_sessions_at_once_and_keeps_evidence(acme):
    acme.grant("acme", acme.bob)
    acme.add("other", "Other", "p@other.example")
    acme.grant("other", acme.alice)
    a, b, o = acme.mount(acme.alice), acme.mount(acme.bob), acme.mount(acme.alice, "other")
    a.write("f", "x")
    session = a.session()["session"]
    acme.coffer("suspend", "--user", acme.alice.name, "--reason", "password lost")
    wait_for(lambda: not a.mounted() and not o.mounted(), "the end of alice's sessions", limit=SOON)
    assert b.mounted() and b.read("f") == b"x"
    assert ended_reason(acme, session) == "suspended"
    assert "password lost" in refused(acme, acme.alice, "other", error="Suspended").err
    acme.coffer("log", "verify")
    acme.coffer("resume", "--user", acme.alice.name, "--reason", "new one")
    a = acme.mount(acme.alice)
    acme.coffer("suspend", "acme", "--reason", "breach")
    wait_for(lambda: not a.mounted() and not b.mounted(), "the end of acme's sessions", limit=SOON)
    o = acme.mount(acme.alice, "other")
    acme.coffer("suspend", "--all", "--reason", "breach")
    wait_for(lambda: not o.mounted(), "the end of all", limit=SOON)
    refused(acme, acme.alice, "other", error="Suspended")
    acme.coffer("suspend", "--all", "--reason", "again", check=REFUSED)
    acme.coffer("resume", "--all", "--reason", "over")
    acme.mount(acme.alice, "other")
    assert [r["op"] for r in acme.log() if r["op"] in ("suspend", "resume")] == ["suspend", "resume", "suspend", "suspend", "resume"]
