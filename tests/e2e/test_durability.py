"""durability: sync: no answer about an access before its record is on the disk (the mechanism: tests/unit/test_stable.c,
test_journal_cut.c).  Here: who gets it, that ordinary work goes on, and that kills lose nothing."""
import re
import shutil
import subprocess

import pytest

import harness
from harness import PURPOSE, USAGE, wait_for
from storm import Storm
from test_shared import Shared


def policy(where, word="sync", text=None):
    if text is None:
        with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
            text = f.read()
    if where is None:
        return text
    if where == "installation":
        return text.replace("\ncontroller:", f"\ndurability: {word}\ncontroller:", 1)
    mark = f"  - id: {where}\n"
    at = text.rindex(mark) + len(mark)  # a service line may have the same name
    return text[:at] + f"    durability: {word}\n" + text[at:]


def write(v, name, text):
    with open(f"{v.base}/{name}", "w") as f:
        f.write(text)
    return f"{v.base}/{name}"


def vault_with(make_vault, text):
    v = make_vault(up=False)
    v.up("--policy", write(v, "policy.yaml", text))
    v.add()
    v.grant("acme", v.alice)
    return v


@pytest.mark.parametrize("where, level", [("installation", "sync"), (PURPOSE, "sync"), (None, None)])
def test_who_gets_it(make_vault, where, level):
    v = vault_with(make_vault, policy(where))
    m = v.mount(v.alice)
    assert v.rows("sessions")[0].get("durability") == level
    steps = [s for s in v.json("why", v.alice.name, "acme", "--purpose", PURPOSE)["steps"] if s["rule"] == "durability"]
    assert [s["passed"] for s in steps] == ([True] if level else [])
    mounts = [x for x in v.log() if x["op"] == "mount"]
    assert len(mounts) == 1 and ('"durability": "sync"' in str(mounts[0]).replace("'", '"')) == bool(level)
    m.sh("mkdir d; echo one > d/a; ln -s a d/l; cat d/l; mv d/a d/b; ls d; test ! -e d/a; test -s d/b; rm -r d; test ! -e d; "
         "for i in $(seq 40); do echo $i > f$i; done; cat f* | wc -l | grep -qx 40")
    m.unmount()
    ops = {x["op"] for x in v.log()}
    assert {"create", "mkdir", "open", "opendir", "readlink", "rename", "unlink", "rmdir", "symlink"} <= ops


def test_several_sessions_see_each_others_changes_at_once(make_vault):
    """Answers that wait may be overtaken by notifications: so what they say is not kept."""
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob)
    a, b = v.mount(v.alice), v.mount(v.bob)
    for n in range(30):
        a.write(f"n{n}", f"{n}" * 100)
        assert b.read(f"n{n}") == (f"{n}" * 100).encode() or b.read(f"n{n}") == f"{n}" * 100
        b.sh(f"mv n{n} m{n}; echo more >> m{n}")
        a.sh(f"test ! -e n{n}; tail -n 1 m{n} | grep -q more; rm m{n}")
        b.sh(f"test ! -e m{n}")


def test_a_session_that_waits_for_less_ends_when_the_policy_asks_for_more(make_vault):
    v = vault_with(make_vault, policy(None))
    m = v.mount(v.alice)
    m.write("f", "x")
    v.coffer("policy", "apply", write(v, "stricter.yaml", policy(PURPOSE)))
    wait_for(lambda: not m.mounted(), "the end of the session")
    m = v.mount(v.alice)
    assert v.rows("sessions")[0]["durability"] == "sync" and m.sh("cat f").out == "x"
    v.coffer("policy", "apply", write(v, "looser.yaml", policy(None)))
    assert m.mounted() and m.sh("cat f").out == "x"


def test_what_a_policy_cannot_say(make_vault):
    v = make_vault(up=False)
    for text, what in [(policy(PURPOSE, "fast"), "fast"), (policy("installation", "no"), "no"),
                       (policy(PURPOSE, "process", policy("installation")), "durability: sync")]:
        r = v.coffer("policy", "check", write(v, "p.yaml", text), check=USAGE)
        assert what in r.err and re.search(r"p.yaml:\d+: ", r.err), r


def test_a_shared_mount_waits_for_all_its_members(make_vault):
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob)
    shared = Shared(v)
    for n in range(10):
        shared.sh(v.alice, f"echo {n} > n; chmod 666 n; mkdir -m 777 d; echo x > d/f; chmod 644 d/f")
        shared.sh(v.bob, f"grep -qx {n} n; cat d/f; mv d/f d/g; rm d/g; rmdir d; echo b > n")
        shared.sh(v.alice, "grep -qx b n; test ! -e d; rm n")
    rows = v.rows("sessions")
    assert len(rows) == 3 and all(r["durability"] == "sync" for r in rows), rows


def test_a_failing_disk_gives_no_data_to_who_waits_for_it_and_mends_itself(make_vault):
    """fdatasync of the worker fails, by strace: EIO in the session that waits, and in no other; then all is well again."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    v = vault_with(make_vault, policy(PURPOSE))
    v.grant("acme", v.bob, "support")
    a, b = v.mount(v.alice), v.mount(v.bob, "acme", "support")
    a.write("f", "x")

    def read():
        return a.sh("LC_ALL=C cat f 2>&1 || true").out

    trace = subprocess.Popen(["strace", "-f", "-o", v.base + "/trace", "-p", str(a.worker()), "-e", "trace=fdatasync",
                              "-e", "inject=fdatasync:error=EIO"], stderr=subprocess.PIPE)
    try:
        assert b"attached" in trace.stderr.readline()
        wait_for(lambda: "Input/output error" in read(), "a refusal")
        for _ in range(5):
            assert b.sh("cat f").out == "x"
        v.json("status")
    finally:
        trace.terminate()
        trace.wait(10)
    wait_for(lambda: read() == "x", "the disk's recovery")
    a.write("g", "y")
    assert b.sh("cat g").out == "y"
    a.unmount()  # no handle was left behind by an answer that was not given
    assert any("records cannot be brought to the disk" in line for line in v.logs().splitlines())


def test_kills_lose_no_record(make_vault):
    v = make_vault(up=False)
    v.up("--policy", write(v, "policy.yaml", policy("installation")))
    storm = Storm(v, seed=5)
    storm.run(rounds=3, seconds=8)
    assert storm.rounds >= 1 and storm.opens > 5
