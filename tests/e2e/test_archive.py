"""Months of the record in archives: read as before, checked as before, and gone when retention says so.

coffer-fsd's clock is moved back at first (libfaketime, by a program in its place that starts it): so what is recorded then is of
a month that is over."""
import datetime
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest

import harness
from harness import DAMAGED, OK, REFUSED, copy_tree, wait_for
from test_destroy import Clock as KeydClock, faketime  # noqa: F401 (a fixture)

BACK = 40  # days: surely another month, and no clock of a year


def month():
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now - datetime.timedelta(days=BACK)).strftime("%Y-%m")


class Clock:
    def __init__(self, path):
        self.path = path

    def set(self, days):
        with open(self.path + ".new", "w") as f:
            f.write(f"{days:+d}d\n" if days else "+0\n")
        os.chmod(self.path + ".new", 0o644)
        os.rename(self.path + ".new", self.path)


@pytest.fixture
def aged(programs, accounts, faketime):  # noqa: F811
    """A vault whose record began in a month that is over: read, written and granted in it."""
    base = tempfile.mkdtemp(prefix="coffer-aged-", dir="/var/tmp")
    os.chmod(base, 0o755)
    for p in harness.PROGRAMS:
        os.makedirs(os.path.dirname(os.path.join(base, p)), exist_ok=True)
        shutil.copy2(os.path.join(programs, p), os.path.join(base, p))
    broker = os.path.join(base, "fs", "broker")
    os.makedirs(os.path.join(broker, "real"))
    os.rename(os.path.join(broker, "coffer-fsd"), os.path.join(broker, "real", "coffer-fsd"))
    clock = Clock(os.path.join(base, "clock"))
    clock.set(-BACK)
    with open(os.path.join(broker, "coffer-fsd"), "w") as f:
        f.write(f"""#!/bin/sh
export LD_PRELOAD={faketime} FAKETIME_TIMESTAMP_FILE={clock.path} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
export DONT_FAKE_MONOTONIC=1
exec {broker}/real/coffer-fsd "$@"
""")
    os.chmod(os.path.join(broker, "coffer-fsd"), 0o755)
    v = harness.Vault(base, accounts)
    try:
        v.up()
        v.add()
        v.grant("acme", v.alice)
        m = v.mount(v.alice)
        m.sh("for i in 1 2 3 4 5; do echo text > file$i; cat file$i > /dev/null; done; mv file1 renamed; rm file2")
        m.unmount()
        v.coffer("log", "verify")
        v.clock = clock
        clock.set(0)
        yield v
    finally:
        v.close()
        shutil.rmtree(base, ignore_errors=True)
    assert not v.crashes(), v.crashes()


def rows(v, *args):
    return v.rows("log", "--limit", "0", *args)


def without_searches(found):
    return [r for r in found if r["op"] not in ("log-search", "ledger-archive", "ledger-destroy")]


def verify(v, *args, **kw):
    return v.coffer("log", "verify", *args, **kw)


def archive_files(v):
    return sorted(os.path.basename(p) for p in glob.glob(v.dir + "/ledger/archive/*"))


def test_archived_month_is_read_as_before(aged):
    v = aged
    before = {name: without_searches(rows(v, *args)) for name, args in QUESTIONS.items()}
    assert all(before.values()), {n: len(b) for n, b in before.items()}
    assert before["all"][0]["time"], before["all"][0]
    r = v.coffer("log", "archive")
    assert month() in r.out and "are in an archive" in r.out, r
    assert archive_files(v) == [month() + ".coffer-log.zst"]
    assert os.stat(v.dir + "/ledger/archive/" + archive_files(v)[0]).st_mode & 0o777 == 0o600
    for name, args in QUESTIONS.items():
        assert without_searches(rows(v, *args)) == before[name], name
    r = verify(v)
    assert "1 months in archives are sound" in r.out and "sound:" in r.out, r
    assert v.status()["ledger"]["archives"]["count"] == 1
    act = [r for r in rows(v) if r["op"] == "ledger-archive"]
    assert len(act) == 1 and act[0]["detail"]["name"] == month(), act
    assert "no month is over" in v.coffer("log", "archive").out
    listed = v.rows("log", "archive", "--list")
    assert [r["name"] for r in listed] == [month()] and listed[0]["records"][0] == 1 and listed[0]["destroyed"] is None
    # and the record goes on, also after a new start
    m = v.mount(v.alice)
    m.sh("cat renamed > /dev/null")
    m.unmount()
    v.coffer("down")
    v.up()
    assert [r["path"] for r in rows(v, "--path", "renamed") if r["op"] == "open"], "a name of then, opened now"
    assert "sound:" in verify(v).out


QUESTIONS = {"all": [], "user": ["--user", "ct_alice"], "client": ["--client", "acme"], "path": ["--path", "file3"],
             "op": ["--op", "rename"]}


def offline(v, tmp_path):
    """A copy of the ledger with its archives, and the public key."""
    copy = str(tmp_path / "copy")
    os.makedirs(copy)
    subprocess.run(["sqlite3", v.dir + "/ledger/ledger.db", f"VACUUM INTO '{copy}/ledger.db'"], check=True)
    copy_tree(v.dir + "/ledger/archive", copy + "/archive")
    key = str(tmp_path / "key")
    with open(key, "w") as f:
        f.write(v.coffer("public-key").out)
    return copy, ["log", "verify", "--db", copy + "/ledger.db", "--pubkey", key]


def test_copy_with_its_archives_is_checked_without_daemons(aged, tmp_path):
    v = aged
    v.coffer("log", "archive")
    copy, check = offline(v, tmp_path)
    file = copy + "/archive/" + month() + ".coffer-log.zst"
    assert "1 months in archives are sound" in v.coffer(*check).out
    # anybody can look into it
    plain = str(tmp_path / "month.db")
    subprocess.run(["zstd", "-q", "-d", file, "-o", plain], check=True)
    users = subprocess.run(["sqlite3", plain, "SELECT DISTINCT user FROM session"], check=True, capture_output=True, text=True)
    assert users.stdout.split() == ["ct_alice"]
    with open(file, "rb") as f:
        good = f.read()
    for what, bad in {"changed": good[:100] + bytes([good[100] ^ 1]) + good[101:], "cut": good[:-30], "empty": b"",
                      "no archive": b"x" * len(good)}.items():
        with open(file, "wb") as f:
            f.write(bad)
        r = v.coffer(*check, check=DAMAGED)
        assert f"archive {month()} was changed" in r.err, (what, r)
    os.unlink(file)
    r = v.coffer(*check, check=DAMAGED)
    assert re.search(rf"archive {month()}, records 1 to \d+, is missing", r.err), r


def test_missing_archive_is_named_and_told(aged):
    v = aged
    v.coffer("log", "archive")
    path = v.dir + "/ledger/archive/" + archive_files(v)[0]
    os.rename(path, path + ".away")
    r = verify(v, check=DAMAGED)
    assert f"archive {month()}" in r.err and "is missing" in r.err, r
    assert "MISSING" in v.coffer("status").out
    os.rename(path + ".away", path)
    assert "sound:" in verify(v).out


def test_archive_may_only_who_keeps_the_record(aged):
    v = aged
    r = v.coffer("log", "archive", user=v.alice, check=REFUSED)
    assert archive_files(v) == []
    r = v.coffer("log", "archive", "--list", user=v.alice, check=REFUSED)
    assert "Archives is for the role auditor" in r.err, r


def test_killed_daemon_leaves_one_of_both(aged):
    """kill -9 of coffer-fsd while a month moves, at ever later moments: nothing is lost and nothing is there twice."""
    v = aged
    before = without_searches(rows(v))
    for wait in (0.0, 0.01, 0.03, 0.1, 0.3):
        pid = v.pid("fsd")
        p = subprocess.Popen([v.programs + "/tools/coffer", "--dir", v.dir, "log", "archive"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            p.wait(wait) if wait else None
        except subprocess.TimeoutExpired:
            pass
        harness.kill9(pid)
        p.wait(30)
        wait_for(lambda: v.status().get("ledger"), "coffer-fsd again", limit=20)
        assert without_searches(rows(v)) == before, wait
        assert "sound:" in verify(v).out, wait
    v.coffer("log", "archive")
    assert without_searches(rows(v)) == before
    assert [n for n in archive_files(v) if n.endswith(".zst")] == [month() + ".coffer-log.zst"]


def test_backup_has_the_archives(aged, tmp_path):
    v = aged
    v.coffer("log", "archive")
    to = str(tmp_path / "backup")
    v.coffer("backup", to)
    found = glob.glob(to + "/**/" + month() + ".coffer-log.zst", recursive=True)
    assert len(found) == 1, found
    ledger = os.path.dirname(os.path.dirname(found[0])) + "/ledger.db"
    assert "1 months in archives are sound" in v.coffer("log", "verify", "--db", ledger).out
    manifest = glob.glob(to + "/**/MANIFEST*", recursive=True) or glob.glob(to + "/**/*.json", recursive=True)
    assert any(month() + ".coffer-log.zst" in open(m).read() for m in manifest), manifest
    v.json("drill", to, "--scratch", v.base, timeout=60)
    os.rename(found[0], found[0] + ".away")
    r = v.coffer("drill", to, "--scratch", v.base, "--json", check=DAMAGED, timeout=60)
    assert ".coffer-log.zst" in r.out, r


def test_retention_destroys_a_month_and_says_so(aged, faketime, tmp_path):  # noqa: F811
    v = aged
    with open(os.path.join(harness.SOURCE, "policy", "inemsoft.yaml")) as f:
        built_in = f.read()
    policy = str(tmp_path / "policy.yaml")
    with open(policy, "w") as f:
        f.write(built_in.replace('version: "2024-05-10"', 'version: "2"') + "\nrecord: {archive: 6m, keep: 1y}\n")
    v.coffer("policy", "apply", policy)
    keyd = KeydClock(v.base + "/clock", faketime)
    v.coffer("log", "archive")
    records = v.rows("log", "archive", "--list")[0]["records"][1]
    hold = v.json("hold", "place", "acme", "--matter", "m", "--reason", "r")["hold"]
    v.coffer("down")
    v.up(env=keyd.env)
    pass_time_of(v, keyd, 365 + BACK + 32)
    wait_for(lambda: "while a hold is in force" in log_of(v), "the hold", limit=20)
    assert archive_files(v) == [month() + ".coffer-log.zst"]
    v.coffer("hold", "lift", str(hold), "--reason", "r")
    wait_for(lambda: archive_files(v) == [], "the end of the month", limit=20)
    r = verify(v)
    assert re.search(rf"records 1 to {records}: destroyed by retention, the last of them 20", r.out), r
    assert "sound:" in r.out
    ended = v.rows("log", "archive", "--list")[0]
    assert ended["destroyed"]["why"] == "the policy (inemsoft, version 2) keeps the record for 1y 0m 0d", ended
    acts = rows(v, "--op", "ledger-destroy")
    assert len(acts) == 1 and acts[0]["detail"]["name"] == month(), acts
    assert rows(v, "--op", "grant"), "acts stay"
    assert not rows(v, "--op", "rename"), "records do not"
    assert f"records 1 to {records}: destroyed by retention" in v.coffer("status").out
    told = v.json("report", "acme", "--from", "2020-01-01")["report"]["accesses"]
    assert told["kept_since"] and told["totals"]["records"] == 0, "nobody opened anything, a client would think"
    assert told["kept_since"][:7] > month() and "Record since" in v.coffer("report", "acme", "--from", "2020-01-01").out
    copy, check = offline(v, tmp_path)
    assert "destroyed by retention" in v.coffer(*check).out
    subprocess.run(["sqlite3", copy + "/ledger.db", "UPDATE archive SET destroyed=NULL, destroyed_signature=NULL"], check=True)
    assert "is missing" in v.coffer(*check, check=DAMAGED).err


def pass_time_of(v, clock, days):
    clock.set(days)
    wait_for(lambda: v.status()["clock"]["state"] == "unconfirmed", "keyd noticing the jump", limit=15)
    v.coffer("clock", "confirm")


def log_of(v):
    with open(v.dir + "/log/keyd.log") as f:
        return f.read()


def test_policy_says_how_long_and_admins_do_not_shorten_it(aged, tmp_path):
    v = aged
    with open(os.path.join(harness.SOURCE, "policy", "inemsoft.yaml")) as f:
        built_in = f.read()
    for words, good in (("record: {keep: 2m}", False), ("record: {keep: never}", False), ("record: {archive: 2x}", False),
                        ("record: {archive: 2m, keep: 10y}", True), ("record: {keep: 1y}", True)):
        path = str(tmp_path / "policy.yaml")
        with open(path, "w") as f:
            f.write(built_in + "\n" + words + "\n")
        r = v.coffer("policy", "check", path, check=None)
        assert (r.rc == OK) == good, (words, r)


def test_an_erasure_finds_what_was_removed_in_an_archived_month(aged):
    """And says so where the archive cannot be read."""
    v = aged
    v.coffer("log", "archive")
    r = v.json("shred", "acme", "file2", "--reason", "R", "--yes")
    assert r["counts"]["versions"] == 1 and "versions_unread" not in r["counts"], r
    path = v.dir + "/ledger/archive/" + archive_files(v)[0]
    v.down()
    os.rename(path, path + ".away")
    v.up()
    r = v.coffer("shred", "acme", "file3", "--reason", "R", "--yes")
    assert "The record is not readable" in r.err, r
    r = v.coffer("shred", "acme", "gone", "--reason", "R", "--yes", check=harness.FAILED)  # whether there was one is not known
    assert "the record, which knows the keys of what was there, cannot be read" in r.err, r
    certificate, = glob.glob(v.dir + "/keyd/certificates/acme+erasure-2.json")
    with open(certificate) as f:
        assert json.load(f)["certificate"]["what"]["versions_unread"] is True
    os.rename(path + ".away", path)
