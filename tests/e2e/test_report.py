"""Reports to clients: what stands in them, for whom, and that nobody else stands in them."""
import datetime
import json
import os
import random
import subprocess

import pytest

from harness import DAMAGED, NOT_FOUND, OK, OTHER_PURPOSE, REFUSED, SEALED, USAGE, kill9, wait_for
from test_destroy import clock, faketime, gone, pass_time  # noqa: F401 (fixtures)

HOSTILE = ["<script>alert(1)<_script>.txt", "a\"b'c&d`.txt", "rtl\u202efdp.exe", "<img src=x onerror=alert(1)>", "x" * 200]


def report(v, client="acme", *args, **kw):
    envelope = v.json("report", client, *args, **kw)
    assert set(envelope) == {"report", "signature", "public_key"}
    return envelope["report"]


def keep(v, name="acme.json", *args):
    path = os.path.join(v.base, name)
    v.coffer("report", "acme", "--signed", path, *args)
    with open(v.base + "/pub", "w") as f:
        f.write(v.coffer("public-key").out)
    return path, v.base + "/pub"


def verify(v, path, pub, **kw):
    return v.coffer("report", "verify", path, "--pubkey", pub, dir=v.base + "/nothing-here", **kw)


@pytest.fixture
def used(acme):
    """acme was used by alice and bob, globex by carol."""
    acme.add("globex", "Globex Corp", "privacy@globex.example")
    acme.grant("acme", acme.bob, OTHER_PURPOSE, "r")
    acme.grant("globex", acme.carol)
    m, n, g = acme.mount(acme.alice), acme.mount(acme.bob, "acme", OTHER_PURPOSE), acme.mount(acme.carol, "globex")
    m.sh("mkdir orders; for i in 1 2 3; do echo $i > orders/$i.csv; done; cat orders/1.csv > /dev/null")
    n.sh("cat orders/*.csv > /dev/null; cat orders/1.csv > /dev/null")
    g.write("secret-of-globex", "x")
    acme.mount(acme.carol, "acme", check=REFUSED)
    return acme


def test_who_did_what_for_which_purpose(used):
    r = report(used)
    people = {p["user"]: p for p in r["accesses"]["people"]}
    assert set(people) == {used.alice.name, used.bob.name}
    alice, bob = people[used.alice.name], people[used.bob.name]
    assert (alice["purpose"], alice["sessions"], alice["files"], alice["opens"], alice["writes"]) == ("data-migration", 1, 3, 4, 3)
    assert (bob["purpose"], bob["sessions"], bob["files"], bob["opens"], bob["writes"]) == (OTHER_PURPOSE, 1, 3, 4, 0)
    totals = r["accesses"]["totals"]
    assert (totals["people"], totals["files"], totals["opens"]) == (2, 3, 8)
    assert {p["purpose"]: p["opens"] for p in r["accesses"]["purposes"]} == {"data-migration": 4, OTHER_PURPOSE: 4}
    assert sum(w["opens"] for w in r["accesses"]["weeks"]) == 8
    assert all(datetime.date.fromisoformat(w["week"]).weekday() == 0 for w in r["accesses"]["weeks"])
    first = r["accesses"]["files"][0]
    assert first["path"] == "orders/1.csv" and first["opens"] == 4 and len(first["people"]) == 2
    refused, = r["accesses"]["refusals"]
    assert (refused["user"], refused["error"], refused["times"]) == (used.carol.name, "NotGranted", 1)
    assert r["ledger_head"]["batch"] > 0 and "journal" in r["ledger_head"]["anchors"][0]
    assert r["policy"]["version"] == used.status()["policy"]["version"]
    out = used.coffer("report", "acme").out
    assert used.alice.name in out and "relationship end + 90 days" in out


def test_nobody_else_stands_in_it(used):
    """Neither another client nor his people, files, disclosures."""
    order = used.base + "/order"
    with open(order, "w") as f:
        f.write("x")
    used.coffer("disclose", "globex", "--authority", "Globex Court", "--document", order, "--scope", "all of it")
    used.coffer("consent", "give", "globex", "--scope", "sharing", "--recipient", "Globex Partner", "--reason", "r", "--evidence", order)
    used.coffer("hold", "place", "acme", "--matter", "Secret matter", "--reason", "acme sues us")
    page = used.base + "/acme.html"
    used.coffer("report", "acme", "--html", page)
    text = json.dumps(used.json("report", "acme")) + open(page).read() + used.coffer("report", "acme").out
    for word in ("globex", "secret-of-globex", "secret matter", "acme sues"):
        assert word not in text.lower()
    globex = report(used, "globex")
    assert [p["user"] for p in globex["accesses"]["people"]] == [used.carol.name]
    assert globex["disclosures"][0]["authority"] == "Globex Court"


def test_o03_a_report_says_who_is_answerable(used):
    page, signed = used.base + "/acme.html", used.base + "/acme.json"
    used.coffer("report", "acme", "--html", page, "--signed", signed)
    with open(signed) as f:
        r = json.load(f)["report"]
    assert "iNEMSOFT" in r["controller"] and r["contact"] == "info@inemsoft.com"
    with open(page) as f:
        text = f.read()
    assert r["controller"] in text and r["contact"] in text and r["policy"]["version"] in text
    assert r["ledger_head"]["hash"] in text and r["ledger_head"]["anchors"][0].replace("'", "&#39;") in text
    assert os.stat(page).st_mode & 0o777 == 0o600 and os.stat(signed).st_mode & 0o777 == 0o600


def test_o11_a_report_lists_disclosures_and_no_sealed_one(acme):
    order = acme.base + "/order"
    with open(order, "w") as f:
        f.write("x")
    acme.grant("acme", acme.alice, "legal-process", "r")
    acme.coffer("request", "acme", "--purpose", "legal-process", "--reason", "order 7", user=acme.alice)
    acme.coffer("approve", "1")
    acme.mount(acme.alice).write("f", "x")
    acme.mount(acme.alice, "acme", "legal-process").read("f")
    acme.mount(acme.bob, "acme", "legal-process", check=REFUSED)
    acme.coffer("disclose", "acme", "--authority", "District Court", "--document", order, "--scope", "invoices")
    r = report(acme)
    told, = r["disclosures"]
    assert (told["authority"], told["scope"], len(told["document"])) == ("District Court", "invoices", 64)
    assert "legal-process" in [p["purpose"] for p in r["accesses"]["purposes"]]
    acme.coffer("disclose", "acme", "--authority", "Hidden Court", "--document", order, "--scope", "hidden", "--sealed-until",
                "2099-01-01")
    envelope = acme.coffer("report", "acme", "--json").out
    assert "Hidden" not in envelope and "legal-process" not in envelope and "sealed" not in envelope
    after = json.loads(envelope)["report"]
    assert len(after["disclosures"]) == 1 and after["accesses"]["totals"]["opens"] == r["accesses"]["totals"]["opens"] - 1
    assert after["accesses"]["refusals"] == []
    acme.add("globex", "Globex", "g@globex.example")
    assert report(acme, "globex")["disclosures"] == []


def test_o13_a_report_lists_consents_with_recipient_and_reason(acme):
    order = acme.base + "/consent.pdf"
    with open(order, "w") as f:
        f.write("x")
    acme.coffer("consent", "give", "acme", "--scope", "sharing", "--recipient", "Partner Ltd", "--reason", "joint webinar",
                "--evidence", order)
    acme.coffer("consent", "withdraw", "acme", "1", "--reason", "by mail")
    c, = report(acme)["consents"]
    assert (c["recipient"], c["reason"], c["document"], c["withdraw_reason"]) == ("Partner Ltd", "joint webinar", "consent.pdf", "by mail")
    assert c["withdrawn_at"] and c["from"]


def test_a_report_is_recorded_before_it_is_read(acme):
    before = len(acme.log("--op", "report"))
    report(acme, "acme", "--from", "2026-01-01", "--to", "2030-01-01")
    rows = acme.log("--op", "report")
    assert len(rows) == before + 1 and rows[-1]["client"] == "acme" and rows[-1]["detail"]["from"] == 1767225600
    acme.coffer("report", "acme", "--from", "2027-01-01", "--to", "2026-01-01", check=USAGE)
    acme.coffer("report", "nobody", check=NOT_FOUND)
    assert len(acme.log("--op", "report")) == before + 1


def test_the_time_that_it_is_about(acme):
    acme.mount(acme.alice).write("f", "x")
    r = report(acme, "acme", "--from", "2020-01-01", "--to", "2020-02-01")
    assert r["accesses"]["totals"]["opens"] == 0 and r["accesses"]["weeks"] == [] and r["accesses"]["files"] == []
    assert (r["period"]["from"], r["period"]["until"]) == ("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z")
    assert "nobody opened anything" in acme.coffer("report", "acme", "--from", "2020-01-01", "--to", "2020-02-01").out
    assert report(acme, "acme", "--from", "2020-01-01")["accesses"]["totals"]["opens"] > 0
    assert report(acme, "acme", "--to", "9999-12-31")["accesses"]["totals"]["opens"] > 0
    assert report(acme, "acme", "--from", "5000-01-01", "--to", "9999-12-31")["accesses"]["totals"]["opens"] == 0


def test_for_auditors_and_admins(make_vault):
    """Each role by itself; an admin, who may not see names of files, gets none."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.grant("acme", v.alice)
    v.mount(v.alice).write("very-secret-name", "x")
    v.coffer("report", "acme", user=v.alice, check=REFUSED)
    v.join(v.bob, "coffer-custodian")
    v.coffer("report", "acme", user=v.bob, check=REFUSED)
    v.leave(v.bob, "coffer-custodian")
    v.join(v.bob, "coffer-admin")
    r = report(v, user=v.bob)
    assert r["accesses"]["names"] == "withheld" and r["accesses"]["totals"]["files"] == 1 and r["accesses"]["files"][0]["path"] is None
    assert "very-secret-name" not in json.dumps(r) and r["made_by"] == v.bob.name
    v.join(v.carol, "coffer-auditor")
    r = report(v, user=v.carol)
    assert r["accesses"]["names"] == "shown" and r["accesses"]["files"][0]["path"] == "very-secret-name"
    assert [(row["user"], row["client"]) for row in v.log("--op", "report", user=v.carol)] == [
        (v.bob.name, "acme"), (v.carol.name, "acme")]


def test_names_of_files_stay_text(acme):
    m = acme.mount(acme.alice)
    m.python("import sys\nfor n in sys.argv[1:]: open(n, 'w').write('x')\nopen(b'bad\\xff\\xfe.txt', 'w').write('x')", *HOSTILE)
    page = acme.base + "/acme.html"
    acme.coffer("report", "acme", "--html", page)
    with open(page, encoding="utf-8") as f:
        text = f.read()
    assert text.count("<script") == 0 and "<img" not in text and "onerror=alert(1)&gt;" in text
    assert "\u202e" not in text and "rtl[U+202E]fdp.exe" in text and "bad??.txt" in text
    assert {f["path"] for f in report(acme)["accesses"]["files"]} == {*HOSTILE, "bad??.txt"}
    out = acme.coffer("report", "acme").out
    assert "\u202e" not in out


def test_a_signed_report_is_checked_without_the_daemons(used):
    path, pub = keep(used)
    assert "genuine" in verify(used, path, pub).out
    assert verify(used, path, pub, check=OK).rc == OK
    assert "genuine" in used.coffer("report", "verify", path).out  # with this installation's own key
    page = used.base + "/again.html"
    used.coffer("report", "verify", path, "--pubkey", pub, "--html", page)
    assert "Acme Corp" in open(page).read()
    envelope = json.load(open(path))
    used.coffer("rotate", "signing")  # its key was in force when it was made
    with open(pub, "w") as f:
        f.write(used.coffer("public-key").out)
    assert "genuine" in verify(used, path, pub).out
    envelope["report"]["made_at"] = "2099-01-01T00:00:00Z"
    with open(path, "w") as f:
        json.dump(envelope, f)
    verify(used, path, pub, check=DAMAGED)


def test_one_changed_byte_is_found(used):
    path, pub = keep(used)
    data, rng = open(path, "rb").read(), random.Random(5)
    places = [i for i in range(len(data)) if data[i:i + 1].strip()]  # white space says nothing
    for i in rng.sample(places, 60) + [places[0], places[-1]]:
        changed = bytearray(data)
        changed[i] ^= 1 << rng.randrange(7)
        with open(path, "wb") as f:
            f.write(changed)
        r = verify(used, path, pub, check=None)
        assert r.rc == DAMAGED and "genuine" not in r.out, (i, data[i - 20:i + 20], r)
    for cut in (0, 1, len(data) // 2, len(data) - 3):
        with open(path, "wb") as f:
            f.write(data[:cut])
        verify(used, path, pub, check=DAMAGED)


def test_what_is_no_genuine_report(used):
    path, pub = keep(used)
    envelope = json.load(open(path))

    def with_(**members):
        with open(used.base + "/other.json", "w") as f:
            json.dump({**envelope, **members}, f)
        return verify(used, used.base + "/other.json", pub, check=None).rc

    assert with_() == OK
    assert with_(more=1) == DAMAGED
    assert with_(public_key="00" * 32) == DAMAGED
    assert with_(signature="") == DAMAGED and with_(signature=7) == DAMAGED and with_(report=[]) == DAMAGED
    used.coffer("client", "end", "acme", "--on", "2020-01-01")
    page = used.base + "/no.html"
    with open(used.base + "/other.json", "w") as f:
        json.dump({**envelope, "signature": "00" * 64}, f)
    used.coffer("report", "verify", used.base + "/other.json", "--pubkey", pub, "--html", page, check=DAMAGED)
    assert not os.path.exists(page)
    verify(used, used.base + "/nowhere.json", pub, check=USAGE)
    stranger = used.base + "/stranger"
    with open(stranger, "w") as f:
        f.write("11" * 32 + "\n")
    verify(used, path, stranger, check=DAMAGED)


def test_a_file_that_cannot_be_written(acme):
    before = sorted(os.listdir(acme.base))
    acme.coffer("report", "acme", "--html", acme.base + "/nowhere/acme.html", check=USAGE)
    os.mkdir(acme.base + "/taken")
    r = acme.coffer("report", "acme", "--signed", acme.base + "/taken", check=None)
    assert r.rc != OK
    assert sorted(os.listdir(acme.base)) == sorted([*before, "taken"]), "something unfinished was left"


def test_while_the_keys_are_sealed_nothing_is_signed(acme):
    acme.coffer("seal")
    acme.coffer("report", "acme", check=SEALED)


def test_destroyed_files_and_their_certificate(acme):
    m = acme.mount(acme.alice)
    m.sh("mkdir d; echo x > d/gone; echo y > stays")
    assert report(acme)["certificates"] == []
    acme.coffer("shred", "acme", "d", "--reason", "request 12", "--yes", timeout=60)
    c, = report(acme)["certificates"]
    assert c["kind"] == "erasure" and c["file"] == "acme+erasure-1.json" and len(c["signature"]) == 128
    assert c["signature"] == json.load(open(acme.dir + "/keyd/certificates/acme+erasure-1.json"))["signature"]


def test_two_at_once(used):
    """One is made at a time; the other waits for it."""
    argv = [used.programs + "/tools/coffer", "--dir", used.dir, "report", "--json"]
    both = [subprocess.Popen([*argv, client], stdout=subprocess.PIPE) for client in ("acme", "globex")]
    told = [json.loads(p.communicate(timeout=30)[0])["report"] for p in both]
    assert [p.returncode for p in both] == [OK, OK]
    assert [r["client"]["client"] for r in told] == ["acme", "globex"]
    assert [p["user"] for p in told[1]["accesses"]["people"]] == [used.carol.name]


def test_fsd_dies_meanwhile(used):
    """No report is better than half a one; the next is whole."""
    for _ in range(3):
        p = subprocess.Popen([used.programs + "/tools/coffer", "--dir", used.dir, "report", "acme", "--json"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        kill9(used.pid("fsd"))
        out = p.communicate(timeout=30)[0]
        assert p.returncode != OK or json.loads(out)["report"]["accesses"]["totals"]["opens"] == 8
        wait_for(lambda: used.status()["fsd"] == "running" and used.pids("fsd"), "fsd", limit=15)
    assert report(used)["accesses"]["totals"]["opens"] == 8


def test_a_client_whose_data_are_destroyed(gone):
    """He may ask all the same: who used them is known, the names went with the keys."""
    page = gone.base + "/acme.html"
    gone.coffer("report", "acme", "--html", page)
    r = report(gone)
    assert r["accesses"]["names"] == "destroyed" and r["accesses"]["totals"]["opens"] > 0 and r["client"]["state"] == "destroyed"
    assert r["accesses"]["files"] and all(f["path"] is None for f in r["accesses"]["files"])
    c, = r["certificates"]
    whole = gone.json("certificate", "acme")
    assert c["kind"] == "destruction" and c["signature"] == whole["signature"]
    assert whole["certificate"]["controller"] == r["controller"] and whole["certificate"]["contact"] == r["contact"]
    assert "journal" in whole["certificate"]["ledger_head"]["anchors"][0]
    assert [row["state"] for row in r["retention"]["calendar"]] == ["destroyed"]
    with open(page) as f:
        text = f.read()
    assert "their names were destroyed with your data" in text and "acme.json" in text
    assert "The keys of all your data were destroyed on" in text and "No date is known" not in text


def test_what_was_sealed_is_told_from_its_day_on(clock):
    order = clock.base + "/order"
    with open(order, "w") as f:
        f.write("x")
    clock.coffer("disclose", "acme", "--authority", "Hidden Court", "--document", order, "--scope", "invoices", "--sealed-until",
                 clock.clock.today(10))
    made = report(clock)["made_at"][:10]
    assert report(clock)["disclosures"] == []
    pass_time(clock, 11)
    wait_for(lambda: clock.log("--op", "disclosure"), "its day", limit=15)
    told, = report(clock)["disclosures"]
    assert told["authority"] == "Hidden Court" and told["at"][:10] == made, "when it was disclosed, not when it could be told"
