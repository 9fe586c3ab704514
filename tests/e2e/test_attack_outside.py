"""What leaves the share by ways that nobody thought of, and text that others take for more than text."""
import contextlib
import csv
import inspect
import io
import json
import os
import pty
import re
import subprocess

import pytest

import varlink
from harness import REFUSED, wait_for
from test_anchors import anchor, policy, work
from test_policy import write
from test_shell import closed, command, env, nothing_is_left, sh  # noqa: F401 (closed is a fixture)
from varlink import Connection

SOURCE = inspect.getsource(varlink)


def test_standard_input_that_can_be_written_is_a_way_out_too(closed):  # noqa: F811
    """0<>FILE: the shell opens it for reading and writing, and a program writes into it."""
    argv = " ".join(f"'{a}'" for a in command(closed, "/bin/sh", "-c", "echo secret >&0"))
    for redirect in ("0<> out", "0> out"):
        r = closed.alice.run("/bin/sh", "-c", f"{argv} {redirect}", env=env(closed.alice))
        assert r.rc == REFUSED and "standard input" in r.err, r
        assert os.path.getsize(closed.alice.home + "/out") == 0
    r = closed.alice.run("/bin/sh", "-c", f"{argv.replace('echo secret >&0', 'cat')} < /etc/hostname", env=env(closed.alice))
    assert r.rc == 0 and r.out, r
    nothing_is_left(closed)


CRASHES = """
import os, resource, signal
soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
try:
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, hard))
except ValueError:
    pass
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status) == signal.SIGSEGV, os.WCOREDUMP(status), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_program_that_crashes_leaves_no_copy_of_its_memory(acme):
    """Neither in a file nor with what collects them: for a limit of 1 byte the kernel feeds no collector."""
    assert sh(acme, 'ulimit -S -c unlimited || true; exec python3 -c "$1"', CRASHES).out == "True False (1, 1)\n"


def test_an_exported_grant_is_no_formula_and_comes_back_as_it_was(acme):
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "'=1", "'tis", "plain"]
    for i, text in enumerate(texts):
        acme.add(f"c{i}", "C", "p@c.example")
        acme.grant(f"c{i}", acme.bob, "data-migration", "r", "--party", "provider", "--organisation", text,
                   "--reference", text, "--until", "2099-01-01")
    out = acme.coffer("grants", "export").out_bytes.decode()
    rows = {r["client"]: (r["organisation"], r["reference"]) for r in csv.DictReader(io.StringIO(out, newline=""))}
    shown = ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "''=1", "'tis", "plain"]
    assert [rows[f"c{i}"] for i in range(len(texts))] == [(s, s) for s in shown]
    assert "8 were there already" in acme.coffer("grants", "import", write(acme, "out.csv", out)).out


def test_no_character_ends_a_line_of_an_export(share):
    """Some collectors take U+0085, U+2028 and U+2029 for the end of a line, too."""
    for n in ("a\u2028CEF:0|forged", "b\u2029{}", "c\u0085x", "d\u009b31m"):
        share.write(n, "x")
    v = share.vault
    lines = v.coffer("log", "--op", "create", "--format", "cef").out.splitlines()
    assert len(lines) == 4 and all(li.startswith("CEF:0|Coffer|") for li in lines), lines
    lines = v.coffer("log", "--op", "create", "--format", "ocsf").out.splitlines()
    assert sorted(json.loads(li)["file"]["path"][:2] for li in lines) == ["a\u2028", "b\u2029", "c\u0085", "d\u009b"]


def on_a_terminal(argv):
    """What the program writes on a terminal of its own."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while more := os.read(ours, 65536):
            text += more
    os.close(ours)
    assert p.wait(30) == 0, text
    return text.decode()


def test_no_name_reaches_the_terminal_of_who_reads_json_or_csv(share):
    """Terminals obey U+009B as they obey ESC [; JSON has a way to write it that means the same."""
    names = ["a\u009b2J", "b\x7f", "c\u202egpj.exe", "d\u2028x", "e\x1b[2Jf", "gr\u00fc\u00dfe \u20ac \U0001f600"]
    for n in names:
        share.write(n, "x")
    v = share.vault
    bad = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
    asked = ["log", "--op", "create"]
    assert sorted(r["path"] for r in v.log("--op", "create")) == sorted(names)  # the same value
    program = [v.programs + "/tools/coffer", "--dir", v.dir]
    for argv in ([*program, "--json", *asked], [*program, *asked, "--format", "csv"], [*program, *asked]):
        out = on_a_terminal(argv)
        assert not bad.search(out), (argv, bad.findall(out))
        assert "\u20ac" in out and len(out.splitlines()) >= len(names)


LOOP = SOURCE + r"""
import threading
n = [0]
def loop():
    keyd = Connection(PATH)
    while True:
        n[0] += "error" not in keyd.call("org.coffer.keyd.SubjectFind", client="acme", subject="jane")
for _ in range(4):
    threading.Thread(target=loop, daemon=True).start()
"""


def test_a_user_who_searches_in_a_loop_stops_no_custodian(acme):
    """His search gives way; he ends nobody's."""
    m = acme.mount(acme.alice)
    m.sh("mkdir d; cd d; for i in $(seq 400); do : > $i; done")
    a = acme.actor(acme.alice)
    a.do(f"PATH = {acme.dir + '/run/keyd.sock'!r}")
    a.do(LOOP)
    wait_for(lambda: a.get("n[0]") > 3, "searches")
    keyd = Connection(acme.dir + "/run/keyd.sock")
    for who in range(5):
        wait_for(lambda last=a.get("n[0]"): a.get("n[0]") > last, "another search")
        begun = keyd.call("org.coffer.keyd.SubjectFind", client="acme", subject="jane")
        assert "error" not in begun, begun
        said = []

        def done():
            said[:] = [keyd.call("org.coffer.keyd.Job", job=begun["parameters"]["job"])]
            return said[0]["parameters"].get("state") != "running"

        wait_for(done, "the custodian's search")
        assert said[0]["parameters"].get("state") == "done", said
    assert [r["outcome"] for r in acme.log("--op", "subject-find", "--user", acme.alice.name) if r["outcome"]]


@pytest.mark.parametrize("kind", ["symlink", "fifo"])
def test_who_may_write_where_an_anchor_lies_leads_it_nowhere_else(make_vault, kind):
    """A link in its place is not followed by coffer-keyd, who is root; a pipe that nobody reads holds up nothing."""
    def place(v):
        if kind == "fifo":
            os.mkfifo(v.alice.home + "/heads")
        else:
            v.alice.sh('ln -s "$1" heads', v.base + "/victim")
        return [f"{{file: {v.alice.home}/heads}}"]

    v = make_vault(up=False)
    v.up("--policy", policy(v, "policy.yaml", place(v)), env={"COFFER_ANCHOR_SECONDS": "1"})
    v.add()
    v.grant("acme", v.alice)
    work(v)
    wait_for(lambda: anchor(v, "file")["failing"] or os.path.exists(v.base + "/victim"), "what becomes of it")
    assert not os.path.exists(v.base + "/victim") and anchor(v, "file")["failing"] and v.status()["warnings"]


def test_an_import_is_not_led_elsewhere(acme):
    """Somebody else who may write in that directory puts a link in the place of what has just been made there."""
    m = acme.mount(acme.alice)
    victim, fake = acme.alice.home + "/victim", acme.alice.mkdir("bin")
    with open(fake + "/cp", "w") as f:
        f.write(f'#!/bin/sh\ncd {m.point}/in\nmv f was\nln -s {victim} f\nexec /bin/cp "$@"\n')
    os.chmod(fake + "/cp", 0o755)
    m.sh('mkdir in; echo mine > "$1"; echo secret > "$2"', victim, acme.alice.home + "/f")
    acme.coffer("import", acme.alice.home + "/f", m.point + "/in", "--source", "Partner", user=acme.alice, check=None,
                env={"PATH": fake + ":/usr/bin:/bin"})
    with open(victim) as f:
        assert f.read() == "mine\n"
    assert m.read("in/was") == b"secret\n"


def test_answers_that_nobody_fetches_do_not_pile_up(acme):
    """In coffer-keyd's memory, 200 bytes a file: a few lists of a user's, and the newest are there."""
    m = acme.mount(acme.alice)
    m.sh("mkdir d; cd d; for i in $(seq 20); do echo x > $i; done")
    acme.coffer("subject", "label", m.point + "/d", "jane", user=acme.alice)
    out = acme.alice.python(SOURCE + """
import sys, time
keyd = Connection(sys.argv[1])
def find():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        begun = keyd.call("org.coffer.keyd.SubjectFind", client="acme", subject="jane")
        while "error" not in begun:
            said = keyd.call("org.coffer.keyd.Job", job=begun["parameters"]["job"])
            if said["parameters"].get("state") == "done":
                return said["parameters"]["list"]
            if "error" in said:
                break
lists = [find() for _ in range(20)]
print(*["rows" in keyd.call("org.coffer.keyd.SubjectRows", list=n)["parameters"] for n in lists])
""", acme.dir + "/run/keyd.sock").out.split()
    assert out == ["False"] * 12 + ["True"] * 8


def test_a_name_does_not_turn_a_row_of_a_table_around(share):
    """Nor end its line: what stands in a terminal stands there in the order in which it was said."""
    names = ["a\u202egpj.exe", "b\u2066c", "d\u2028e", "f\u2029g"]
    for n in names:
        share.write(n, "x")
    v, signs = share.vault, "\u202e\u2066\u2028\u2029"
    share.sh('mkdir d; for n in "$@"; do mv "$n" d; done', *names)
    v.coffer("subject", "label", share.point + "/d", "ja\u202ene", user=v.alice)
    out = v.coffer("log").out + v.coffer("log", "--op", "rename").out + v.coffer("subject", "find", "acme", "ja\u202ene").out
    out += v.coffer("subject", "labels", "acme", check=None).out
    assert "gpj.exe" in out and not set(out) & set(signs), [li for li in out.split("\n") if set(li) & set(signs)]


OTHERS = """
import ctypes, os
libc, tool = ctypes.CDLL(None, use_errno=True), os.getppid()
assert os.path.basename(os.readlink(f"/proc/{os.getpid()}/exe")).startswith("python")
def refused(what):
    try:
        what()
    except OSError as e:
        return e.errno in (1, 13)
def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")
print(refused(lambda: open(f"/proc/{tool}/mem", "r+b")), refused(lambda: os.readlink(f"/proc/{tool}/fd/1")),
      refused(lambda: open(f"/proc/{tool}/root/" + os.environ["HOME"] + "/x", "w")),
      refused(lambda: call(438, os.pidfd_open(tool), 0, 0)),
      refused(lambda: call(101, 16, tool, 0, 0)) if os.uname().machine == "x86_64" else True)
"""


def test_a_confined_program_does_not_become_one_that_is_not(closed):  # noqa: F811
    """Its parent is not confined: neither its memory nor its descriptors are to be had."""
    assert sh(closed, 'exec python3 -c "$1"', OTHERS).out.split() == ["True"] * 5
