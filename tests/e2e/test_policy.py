"""The policy's versions, what another would change, and many grants at once."""
import time

import pytest

import harness
from harness import Mount, OTHER_PURPOSE, PURPOSE, REFUSED, USAGE, wait_for

SOON = 10  # promised is a second; on a machine that is busy, what counts is that it comes by itself (the lease would take 30)


def builtin_policy():
    with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
        return f.read()


def write(vault, name, text):
    path = f"{vault.base}/{name}"
    with open(path, "w") as f:
        f.write(text)
    return path


def without_migration():
    """A version 2 that prohibits data-migration."""
    text = builtin_policy().replace('version: "2024-05-10"', 'version: "2"', 1)
    return text.replace("    title: To fulfill data migrations\n", "    title: To fulfill data migrations\n    prohibited: true\n", 1)


def test_o24_an_old_decision_explains_itself_with_the_old_text(acme):
    acme.grant("acme", acme.alice, OTHER_PURPOSE)
    m, n = acme.mount(acme.alice), acme.mount(acme.alice, "acme", OTHER_PURPOSE)
    row = [r for r in acme.log() if r["op"] == "mount"][0]
    old = acme.status()["policy"]["hash"]
    assert old in str(row["detail"])
    now = int(time.time())
    wait_for(lambda: time.time() > now + 1.1, "another second")
    path = write(acme, "two.yaml", without_migration())
    diff = acme.json("policy", "diff", path)
    assert {(r["id"], r["key"]) for r in diff["rules"]} == {(PURPOSE, "prohibited")}
    assert [(g["purpose"], g["will"]) for g in diff["grants"]] == [(PURPOSE, "Prohibited")]
    assert [s["session"] for s in diff["sessions"]] == [m.session()["session"]] and m.mounted()
    acme.coffer("policy", "apply", path)
    wait_for(lambda: not m.mounted(), "the end of what is prohibited now", limit=SOON)
    assert n.mounted(), "others go on"
    a = acme.json("why", acme.alice.name, "acme", "--purpose", PURPOSE)
    assert a["verdict"] == "deny" and a["policy"] == "2"
    then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    a = acme.json("why", acme.alice.name, "acme", "--purpose", PURPOSE, "--at", then)
    assert (a["verdict"], a["policy_hash"]) == ("allow", old)
    assert acme.json("policy", "show", "--at", then)["version"] == "2024-05-10"
    acme.down()
    acme.up()  # a restart does not bring the built-in one back
    assert [(v["version"], v["in_force"]) for v in acme.rows("policy", "versions")] == [("2024-05-10", False), ("2", True)]
    assert acme.mount(acme.alice, check=REFUSED)


def test_diff_shows_what_holds_for_all(acme):
    """Among it what only the owner may change: he sees it before he does."""
    text = builtin_policy()
    path = write(acme, "same.yaml", text)
    assert acme.json("policy", "diff", path)["rules"] == []
    text = text.replace("legal_bases:", 'durability: sync\ndestruction: {wait: 40d, at: "04:30", sendmail: /usr/sbin/sendmail}\n'
                        'record: {archive: 2m, keep: 9y}\nanchors:\n  - file: /var/log/heads\nlegal_bases:', 1)
    rules = acme.json("policy", "diff", write(acme, "two.yaml", text))["rules"]
    told = {r["key"]: (r["was"], r["will"]) for r in rules if r["kind"] == "setting"}
    assert set(told) == {"durability", "destruction: wait", "destruction: at", "destruction: sendmail", "record: archive", "record: keep",
                         "anchors"}, told
    assert told["destruction: wait"] == ("30d", "40d") and told["destruction: at"] == ("02:00 UTC", "04:30 UTC")
    assert told["record: keep"] == ("for ever", "9y") and told["anchors"][0] == "" and "file /var/log/heads every" in told["anchors"][1]
    assert told["destruction: sendmail"] == ("", "/usr/sbin/sendmail")


def test_a_version_begins_on_its_date(acme):
    m = acme.mount(acme.alice)
    soon = int(time.time()) + 3
    text = without_migration().replace('effective: "2024-05-10"', time.strftime('effective: "%Y-%m-%dT%H:%M:%SZ"', time.gmtime(soon)), 1)
    acme.coffer("policy", "apply", write(acme, "two.yaml", text))
    if time.time() < soon - 1:
        assert m.mounted() and acme.status()["policy"]["version"] == "2024-05-10"
    wait_for(lambda: not m.mounted(), "the new version", limit=8)
    assert acme.status()["policy"]["version"] == "2"
    assert "policy" in acme.rows("sessions", "--ended")[0]["end_reason"]


def test_mistakes_and_warnings_have_lines(vault):
    text = builtin_policy()
    path = write(vault, "w.yaml", without_migration().replace("    purposes: [orders, compliance, legal-claims]", "    purposes: [data-migration]", 1))
    r = vault.json("policy", "check", path)
    said = {w["text"].split('"')[1]: w for w in r["warnings"]}
    lines = open(path).read().splitlines()
    assert set(said) == {PURPOSE, "billing"}, r
    for word, w in said.items():
        assert lines[w["line"] - 1].strip().strip("- ") == f"id: {word}", w
    bad = write(vault, "b.yaml", text.replace("number: 20", "number: 19", 1))
    r = vault.coffer("policy", "apply", bad, check=USAGE)
    assert "line" in r.err and "number 19 is used twice" in r.err
    moved = write(vault, "m.yaml", text.replace("number: 20", "number: 21", 1))
    assert "for ever" in vault.coffer("policy", "apply", moved, check=USAGE).err
    assert len(vault.rows("policy", "versions")) == 1


def test_agreement_diff_changes_nothing(acme):
    m = acme.mount(acme.alice)
    path = write(acme, "a.yaml", 'format: 1\nname: MSA\nversion: "1"\neffective: "2020-01-01"\n'
                                 "forbid:\n- {purpose: data-migration, source: '§ 7'}\n")
    d = acme.json("agreement", "diff", "acme", path)
    assert [(r["id"], r["key"], r["will"]) for r in d["rules"]] == [(PURPOSE, "prohibited", "yes")]
    assert len(d["grants"]) == 1 and len(d["sessions"]) == 1
    assert m.mounted() and acme.rows("agreement", "show", "acme") == []


HEAD = "client,user,group,purpose,rights,party,reference,organisation,from,until\r\n"


def test_grants_as_csv_all_or_nothing(vault):
    v = vault
    for i in range(12):
        v.add(f"c{i}", f"Client {i}", f"p@c{i}.example")
    rows = [f"c{i},{v.alice.name},,support,rw,,,,,\r\n" for i in range(12)]
    rows.append(f'c0,{v.bob.name},,data-migration,r,provider,"PO 7, ""urgent""\nsecond line",Movers Ltd,,2030-01-01\r\n')
    good = write(v, "good.csv", HEAD + "".join(rows) + "c1,,ct_team,training,r,,,,,\r\n")
    assert "would add 14" in v.coffer("grants", "import", good, "--dry-run").out
    assert v.rows("access", "--user", v.alice.name) == []
    assert "14 grants added" in v.coffer("grants", "import", good).out
    assert "0 grants added, 14 were there already" in v.coffer("grants", "import", good).out
    assert isinstance(v.mount(v.alice, "c7", "support"), Mount)
    g = v.rows("access", "c0")
    assert [x["reference"] for x in g if x["subject"] == v.bob.name] == ['PO 7, "urgent"\nsecond line']
    out = write(v, "out.csv", v.coffer("grants", "export").out_bytes.decode())
    assert "14 were there already" in v.coffer("grants", "import", out).out
    wrong = write(v, "wrong.csv", HEAD + f"c2,{v.bob.name},,support,rw,,,,,\r\n" + f"c3,{v.bob.name},,nonsense,rw,,,,,\r\n"
                  + f"c4,{v.bob.name},,training,rw,,,,,\r\n" + f"c5,{v.bob.name},,support,r,provider,,,,\r\n" + "c6,nobody-here,,support,r,,,,,\r\n")
    r = v.coffer("grants", "import", wrong, check=REFUSED)
    for line, word in ((3, "nonsense"), (4, "training"), (5, "reference"), (6, "nobody-here")):
        assert any(f"wrong.csv:{line}:" in x and word in x for x in r.err.splitlines()), r
    assert "4 of 5" in r.err and [x for x in v.rows("access", "c2") if x["subject"] == v.bob.name] == []
    assert "no column" in v.coffer("grants", "import", write(v, "h.csv", "client,who\r\nc1,x\r\n"), check=USAGE).err
    assert "2" in v.coffer("grants", "import", write(v, "q.csv", HEAD + 'c1,"x'), check=USAGE).err
    v.coffer("grants", "import", good, user=v.alice, check=REFUSED)
