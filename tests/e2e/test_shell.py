"""coffer shell: a program inside a share, with its temporary files; what may leave it, by the policy's `export`."""
import contextlib
import os
import pty
import select
import signal
import subprocess
import time

import pytest

import harness
from harness import NOT_FOUND, OK, PURPOSE, REFUSED, TICKET, USAGE, wait_for

FOLDER = ".coffer-shell"


def with_export(word, purpose=PURPOSE):
    with open(harness.SOURCE + "/policy/inemsoft.yaml") as f:
        text = f.read()
    mark = f"  - id: {purpose}\n"
    at = text.rindex(mark) + len(mark)  # a service line may have the same name
    assert at > text.index("\npurposes:\n")
    return text[:at] + f"    export: {word}\n" + text[at:]


def vault_with(make_vault, text):
    v = make_vault(up=False)
    path = v.base + "/policy.yaml"
    with open(path, "w") as f:
        f.write(text)
    v.up("--policy", path)
    v.add()
    v.grant("acme", v.alice)
    return v


@pytest.fixture
def closed(make_vault):
    """A vault whose purpose data-migration says export: no."""
    return vault_with(make_vault, with_export("no"))


def command(v, *program, options=(), purpose=PURPOSE, ticket=TICKET):
    return [v.programs + "/tools/coffer", "--dir", v.dir, "shell", "acme", "--purpose", purpose,
            *(["--ticket", ticket] if ticket else []), *options, *(["--", *program] if program else [])]


def env(user, **more):
    """The mount lies below the vault, so that a failed test leaves nothing behind."""
    return {"XDG_RUNTIME_DIR": user.home, **more}


def shell(v, *program, user=None, check=OK, e=None, timeout=30, input=None, **kw):
    user = user or v.alice
    r = harness.run(command(v, *program, **kw), user=user, env=env(user, **(e or {})), cwd=user.home, timeout=timeout, input=input)
    if check is not None:
        assert r.rc == check, r
    return r


def sh(v, script, *args, **kw):
    return shell(v, "/bin/bash", "-euc", script, "sh", *args, **kw)


def nothing_is_left(v, user=None):
    home = (user or v.alice).home
    assert harness.mounts_below(home) == []
    assert [n for n in os.listdir(home) if n.startswith("coffer-shell")] == []
    assert v.rows("sessions") == []


@pytest.mark.sanitize
def test_program_works_in_the_share_with_its_own_places(acme):
    script = """pwd; echo "$TMPDIR"; test -d "$TMPDIR"; echo secret > f; echo x > "$TMPDIR/t"; for d in "$XDG_CACHE_HOME" "$XDG_STATE_HOME" "$XDG_DATA_HOME" "$XDG_CONFIG_HOME"; do
        case $d in "$PWD"/.coffer-shell/"$COFFER_SESSION"/*) echo x > "$d/x";; *) exit 9;; esac; done; mktemp; echo "$COFFER_CLIENT $COFFER_PURPOSE"
        echo "$XDG_DATA_DIRS"; echo "$XDG_CONFIG_DIRS" """
    out = sh(acme, script).out.splitlines()
    assert out[0].startswith(acme.alice.home + "/coffer-shell-") and out[0].endswith("/acme")
    assert out[1].startswith(out[0] + "/" + FOLDER + "/") and out[2].startswith(out[1] + "/tmp.")
    assert out[3] == "acme " + PURPOSE
    assert out[4] == acme.alice.home + "/.local/share:/usr/local/share:/usr/share"
    assert out[5] == acme.alice.home + "/.config:/etc/xdg"
    nothing_is_left(acme)
    m = acme.mount(acme.alice)
    assert m.sh("ls -A").out == "f\n" and m.read("f") == b"secret\n"


def test_exit_status_and_output_are_the_programs(acme):
    assert sh(acme, "exit 37", check=37).err == ""
    assert sh(acme, "cat; echo err >&2", input="given").out_bytes == b"given"
    sh(acme, "kill -9 $$", check=128 + signal.SIGKILL)
    assert "/nothing/there" in shell(acme, "/nothing/there", check=127).err
    assert "/etc/passwd" in shell(acme, "/etc/passwd", check=126).err
    nothing_is_left(acme)


class Running:
    """A `coffer shell` in the background, whose program says when it has begun."""

    def __init__(self, v, script, user=None, **kw):
        self.v, self.user = v, user or v.alice
        argv = command(v, "/bin/bash", "-euc", "echo begun $$ $PWD $COFFER_SESSION; " + script, **kw)
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                                  start_new_session=True, **harness.identity(self.user, env(self.user)))
        assert select.select([self.p.stdout], [], [], 15 * harness.SLOW)[0]
        words = self.p.stdout.readline().split()
        assert words and words[0] == b"begun", (words, self.p.stderr.read())
        self.program, self.point, self.session = int(words[1]), words[2].decode(), int(words[3])

    def say(self, text):
        self.p.stdin.write(text.encode())
        self.p.stdin.flush()

    def wait(self, limit=15):
        rc = self.p.wait(limit * harness.SLOW)
        for f in (self.p.stdin, self.p.stdout, self.p.stderr):
            with contextlib.suppress(BrokenPipeError):
                f.close()
        return rc


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
def test_no_signal_leaves_a_mount(acme, number):
    r = Running(acme, "echo x > $TMPDIR/t; exec sleep 1000")
    assert r.point in [p for p, _, _ in harness.mounts_below(r.user.home)]
    os.kill(r.p.pid, number)
    assert r.wait() == (-number if number == signal.SIGKILL else 128 + number)
    wait_for(lambda: harness.gone(r.program), "the end of the program")
    wait_for(lambda: acme.rows("sessions") == [] and not os.path.exists(os.path.dirname(r.point)), "the end of the mount")
    nothing_is_left(acme)
    assert acme.mount(acme.alice).sh("ls -A").out == ""
    ended = acme.rows("sessions", "--ended")[0]
    assert (ended["session"], ended["end_reason"]) == (r.session, "its program ended")


def test_program_that_ignores_sigterm_is_killed(acme):
    r = Running(acme, "trap '' TERM; while :; do sleep 1; done")
    os.kill(r.p.pid, signal.SIGTERM)
    assert r.wait() == 128 + signal.SIGKILL
    nothing_is_left(acme)


def test_what_a_program_leaves_running_reads_nothing_any_more(acme):
    sh(acme, "echo secret > f")
    home = acme.alice.home
    behind = f"exec 3< f; (trap '' HUP TERM; until [ -e {home}/go ]; do sleep 0.05; done; " \
             f"for way in 'cat f' 'cat <&3'; do eval \"$way\" 2>&1 || true; done > {home}/part; mv {home}/part {home}/got) > /dev/null 2>&1 &"
    sh(acme, behind)
    nothing_is_left(acme)
    acme.alice.sh("touch go")
    wait_for(lambda: os.path.exists(home + "/got"), "the answer of what was left running")
    with open(home + "/got") as f:
        got = f.read()
    assert "secret" not in got and got.count("cat: ") == 2, got


def folders(m):
    return m.sh(f"ls {FOLDER} 2>/dev/null || true").out.split()


@pytest.mark.sanitize
def test_two_shells_and_what_a_crash_left(acme):
    """Each has its own folder; the first to begin removes what shells left that were killed with their guard."""
    m = acme.mount(acme.alice, "acme", PURPOSE)
    first, crashed = Running(acme, "echo x > $TMPDIR/t; read x"), Running(acme, "mkdir $TMPDIR/d; echo y > $TMPDIR/d/t; chmod 0 $TMPDIR/d; exec sleep 1000")
    assert folders(m) == sorted([str(first.session), str(crashed.session), "lock"])
    others = [int(p) for p in filter(str.isdigit, os.listdir("/proc")) if parent_of(p) == crashed.p.pid]
    assert crashed.program in others and len(others) == 3  # the guard, and the mount's keeper
    for pid in [*others, crashed.p.pid]:
        os.kill(pid, signal.SIGSTOP)  # so that nobody does what another cannot
    for pid in [*others, crashed.p.pid]:
        os.kill(pid, signal.SIGKILL)
    crashed.wait()
    acme.alice.run("fusermount3", "-uz", crashed.point, check=True)
    wait_for(lambda: len(acme.rows("sessions")) == 2, "the end of its session")
    assert folders(m) == sorted([str(first.session), str(crashed.session), "lock"])
    assert sh(acme, f"ls {FOLDER}; test -e $PWD/{FOLDER}/{first.session}/tmp/t").out.split().count(str(crashed.session)) == 0
    assert folders(m) == sorted([str(first.session), "lock"])
    first.say("end\n")
    assert first.wait() == 0
    assert m.sh("ls -A").out == ""


def parent_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])
    return 0


def test_a_revoked_shell_leaves_its_folder_to_the_next(acme):
    r = Running(acme, "echo x > $TMPDIR/t; read x; cat f")
    acme.revoke("acme", acme.alice)
    r.say("go on\n")
    assert r.wait() != 0
    nothing_is_left(acme)
    acme.grant("acme", acme.alice)
    m = acme.mount(acme.alice)
    assert folders(m) == sorted([str(r.session), "lock"])
    sh(acme, "true")
    assert m.sh("ls -A").out == ""


class Terminal:
    """alice's bash on a terminal."""

    def __init__(self, v):
        self.user = v.alice
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.setgroups([])
            os.setgid(self.user.gid)
            os.setuid(self.user.uid)
            os.execve("/bin/bash", ["bash", "--norc", "-i"], {
                "PATH": "/usr/bin:/bin", "SHELL": "/bin/bash", "HOME": self.user.home, "LANG": "C.UTF-8", "TERM": "dumb",
                "COLUMNS": "1000", "PS1": "OUT> ", **env(self.user)})
        self.seen = ""
        self.until("OUT> ")

    def type(self, text, *words):
        """Types it and waits for the words, in this order."""
        os.write(self.fd, text.encode())
        self.until(*words)

    def until(self, *words):
        end = time.monotonic() + 15 * harness.SLOW
        for w in words:
            while w not in self.seen:
                assert time.monotonic() < end, (w, self.seen)
                if select.select([self.fd], [], [], 0.1)[0]:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
            self.seen = self.seen.split(w, 1)[1]


def test_a_shell_on_a_terminal(acme):
    """What it says; ^C, ^Z and suspend as in any shell; its exit status; the end of the terminal."""
    t = Terminal(acme)
    try:
        t.type(" ".join(command(acme)) + "\n", "acme is open in this shell for data-migration", "$ ")
        t.type("sh -c 'echo in-$((6*7)); tty; exec sleep 1000'\n", "in-42", "/dev/pts/")
        t.type("\x03", "$ ")
        t.type("suspend\n", "Stopped", "OUT> ")
        t.type("echo out-$((6*7))\n", "out-42", "OUT> ")
        t.type("fg\n", "shell")
        t.type("\n", "$ ")
        t.type("echo again-$((6*7))\n", "again-42", "$ ")
        t.type("exit 5\n", "OUT> ")
        t.type("echo rc=$?\n", "rc=5", "OUT> ")
        t.type(" ".join(command(acme, "/bin/sh", "-c", "'echo in-$((6*7)); exec sleep 1000'")) + "\n", "in-42")
        t.type("\x1a", "Stopped", "OUT> ")
        t.type("fg\n", "shell")
        t.type("\x03", "OUT> ")
        t.type("echo rc=$?\n", "rc=130", "OUT> ")
        nothing_is_left(acme)
        t.type(" ".join(command(acme, "/bin/sh", "-c", "'echo in-$((6*7)); exec sleep 1000'")) + "\n", "in-42")
    finally:
        os.close(t.fd)  # as when the window is closed
        wait_for(lambda: os.waitpid(t.pid, os.WNOHANG)[0], "the end of the terminal's shell")
    wait_for(lambda: acme.rows("sessions") == [] and harness.mounts_below(acme.alice.home) == [], "the end of the mount")
    wait_for(lambda: not [n for n in os.listdir(acme.alice.home) if n.startswith("coffer-shell")], "the end of its directory")


# ---- export: no ----

@pytest.mark.sanitize
def test_nothing_is_written_outside_the_share(closed):
    """By whichever call; what is in the share goes on as ever."""
    home = closed.alice.home
    closed.alice.sh("echo old > mine; mkdir d")
    script = f"""
import errno, os, socket
home = {home!r}
open("f", "w").write("secret")
os.makedirs("a/b"); os.rename("f", "a/b/f"); os.link("a/b/f", "g"); os.truncate("g", 3); os.symlink("g", "s"); os.mkfifo("p")
open(os.environ["TMPDIR"] + "/t", "w").write("x")
for path in ("/tmp/coffer-x", "/var/tmp/coffer-x", "/dev/shm/coffer-x", home + "/x", home + "/d/x", os.environ["XDG_RUNTIME_DIR"] + "/x"):
    for act in (lambda: open(path, "w"), lambda: os.mkdir(path), lambda: os.symlink("g", path), lambda: os.mkfifo(path),
                lambda: socket.socket(socket.AF_UNIX).bind(path)):
        try: act(); print("made", path)
        except OSError as e: assert e.errno == errno.EACCES, (path, e)
    for act in (os.rename, os.link):
        try: act("g", path); print("moved", path)
        except OSError as e: assert e.errno in (errno.EXDEV, errno.EACCES), (path, e)
for act in (lambda: open(home + "/mine", "a"), lambda: os.truncate(home + "/mine", 0), lambda: os.unlink(home + "/mine"),
            lambda: os.rmdir(home + "/d"), lambda: os.rename(home + "/mine", home + "/mine2"), lambda: os.rename(home + "/mine", "mine")):
    try: act(); print("changed")
    except OSError as e: assert e.errno in (errno.EACCES, errno.EXDEV), e
print(open(home + "/mine").read().strip(), open("/dev/null", "w").write("x"), open("g").read())
"""
    r = shell(closed, "/usr/bin/python3", "-c", script)
    assert r.out == "old 1 sec\n", r
    nothing_is_left(closed)
    assert closed.alice.sh("ls; cat mine").out == "d\nmine\nold\n"


def test_child_processes_and_privileges(closed):
    """What the program starts is kept inside as well; nothing in it gains privileges."""
    out = sh(closed, "(setsid sh -c 'cp /etc/hostname /tmp/coffer-x' || echo refused) 2>/dev/null; grep NoNewPrivs /proc/self/status").out.split()
    assert out == ["refused", "NoNewPrivs:", "1"]


def test_ordinary_programs_work_without_the_rest_of_the_disk(closed):
    script = r"""
printf '#include <stdio.h>
int main(void) { puts("built"); }
' > p.c
gcc -pipe -o p1 p.c; gcc -o p p.c; ./p
git init -q r; cd r; git config user.name A; git config user.email a@example.com; cp ../p.c .; git add p.c; git commit -qm first; git log --format=%s; cd ..
tar czf r.tgz r; mkdir out; tar xzf r.tgz -C out; cmp r/p.c out/r/p.c
sed -i s/built/edited/ p.c; grep -c edited p.c
sort -S 1M p.c > /dev/null; printf 'a
b
' | tee copy | wc -l; cat <<< here
python3 -c 'import tempfile; f = tempfile.TemporaryFile(); f.write(b"x"); print(tempfile.gettempdir().startswith("'$PWD'/"))'
"""
    assert sh(closed, script, timeout=60).out.split() == ["built", "first", "1", "2", "here", "True"]
    nothing_is_left(closed)


@pytest.mark.skipif(not os.path.exists("/usr/bin/vim"), reason="vim is not installed")
def test_an_editor_works(closed):
    r = shell(closed, "/usr/bin/script", "-qec", "/usr/bin/vim -u NONE -c 'normal ihello' -c wq note", "/dev/null", e={"TERM": "xterm"})
    m = shell(closed, "/bin/cat", "note")
    assert m.out == "hello\n", r
    nothing_is_left(closed)


def test_the_ordinary_mount_is_refused_and_says_what_to_do(closed):
    r = closed.mount(closed.alice, check=REFUSED)
    assert "coffer shell acme --purpose " + PURPOSE in r.err
    r = closed.mount(closed.alice, "acme", PURPOSE, "--shared", check=REFUSED)
    point = closed.base + "/shared"
    os.mkdir(point)
    assert "coffer shell" in closed.coffer("mount", "acme", "--purpose", PURPOSE, "--ticket", TICKET, "--shared", point, check=REFUSED).err
    refused = [x for x in closed.log() if x["op"] == "refused" and x["user"] == closed.alice.name]
    assert refused and "ShellNeeded" in str(refused[0])
    closed.grant("acme", closed.alice, "consulting")
    assert closed.mount(closed.alice, "acme", "consulting").mounted()  # another purpose is as it was
    shell(closed, "/bin/true", user=closed.bob, check=REFUSED)  # no grant: no shell


def test_why_and_the_record_say_it(closed):
    steps = closed.json("why", closed.alice.name, "acme", "--purpose", PURPOSE)["steps"]
    step = [s for s in steps if s["rule"] == "export"]
    assert len(step) == 1 and step[0]["passed"] and "coffer shell only" in step[0]["text"] and step[0]["source"]
    row = closed.rows("shares", user=closed.alice)[0]
    assert "refused" not in row and row["export"] == "no" and "EXPORT" in closed.coffer("shares", user=closed.alice).out
    r = Running(closed, "read x")
    row = closed.rows("sessions")[0]
    assert (row["session"], row["shell"], row["export"]) == (r.session, True, "no")
    assert "EXPORT" in closed.coffer("sessions").out
    r.say("\n")
    r.wait()
    mount = [x for x in closed.log() if x["op"] == "mount"]
    assert len(mount) == 1 and '"export": "no"' in str(mount[0]).replace("'", '"')


def test_output_into_a_file_is_refused_a_pipe_is_not(closed):
    for redirect in ("> out", "2> out", ">> out"):
        argv = " ".join(f"'{a}'" for a in command(closed, "/bin/echo", "secret"))
        r = closed.alice.run("/bin/sh", "-c", f"{argv} {redirect}", env=env(closed.alice))
        assert r.rc == REFUSED, r
    assert os.path.getsize(closed.alice.home + "/out") < 400 and "secret" not in open(closed.alice.home + "/out").read()
    nothing_is_left(closed)
    fd = os.open(closed.base + "/out", os.O_WRONLY | os.O_CREAT, 0o666)
    try:  # any other descriptor is closed
        r = harness.run(command(closed, "/bin/sh", "-c", f"echo secret >&{fd}"), user=closed.alice, env=env(closed.alice), pass_fds=[fd])
    finally:
        os.close(fd)
    assert r.rc != 0 and os.path.getsize(closed.base + "/out") == 0


WITHOUT_LANDLOCK = """
import ctypes, os, sys
s = ctypes.CDLL("libseccomp.so.2")
s.seccomp_init.restype = ctypes.c_void_p
c = ctypes.c_void_p(s.seccomp_init(0x7fff0000))
assert s.seccomp_rule_add(c, 0x00050000 | 38, 444, 0) == 0 and s.seccomp_load(c) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_kernel_without_landlock_is_refused(closed):
    r = closed.alice.run("/usr/bin/python3", "-c", WITHOUT_LANDLOCK, *command(closed, "/bin/echo", "secret"), env=env(closed.alice))
    assert r.rc == REFUSED and "Landlock" in r.err and "secret" not in r.out, r
    nothing_is_left(closed)


def test_a_session_that_cannot_write(closed):
    """Its temporary files are in memory."""
    closed.revoke("acme", closed.alice)
    closed.grant("acme", closed.alice, PURPOSE, "r")
    r = sh(closed, "test ! -e x; touch x || true; touch $TMPDIR/t; echo $TMPDIR; stat -fc %T $TMPDIR; touch /dev/shm/x 2>/dev/null || echo refused")
    path, kind, refused = r.out.split()
    assert path.startswith("/dev/shm/coffer-shell-") and kind == "tmpfs" and refused == "refused" and "Read-only" in r.err
    assert not os.path.exists(os.path.dirname(path)) and harness.mounts_below(os.path.dirname(path)) == []
    nothing_is_left(closed)


# ---- export: recorded; changes ----

def test_recorded_marks_the_session_and_lets_copies_out(make_vault):
    v = vault_with(make_vault, with_export("recorded", "services"))  # from the heading above it
    sh(v, "echo secret > f; cp f $HOME/out")
    assert open(v.alice.home + "/out").read() == "secret\n"
    m = v.mount(v.alice)
    row = m.session()
    assert row["export"] == "recorded" and "shell" not in row
    marks = [str(x) for x in v.log() if x["op"] == "mount"]
    assert len(marks) == 2 and all("recorded" in x for x in marks)
    assert "export: recorded" in v.coffer("why", v.alice.name, "acme", "--purpose", PURPOSE).out


def test_a_new_policy_ends_what_it_does_not_allow_any_more(acme):
    """The ordinary mount and the shell whose program is not confined; the confined shell of before goes on."""
    plain, loose = acme.mount(acme.alice), Running(acme, "sleep 1000")
    path = acme.base + "/policy.yaml"
    with open(path, "w") as f:
        f.write(with_export("no").replace('version: "2024-05-10"', 'version: "2026-1"'))
    assert "export" in acme.coffer("policy", "diff", path).out
    acme.coffer("policy", "apply", path)
    wait_for(lambda: acme.rows("sessions") == [], "the end of both", limit=2)
    assert not plain.mounted()
    loose.p.kill()
    loose.wait()
    strict = Running(acme, "read x")
    with open(path, "w") as f:
        f.write(with_export("no").replace('version: "2024-05-10"', 'version: "2026-2"'))
    acme.coffer("policy", "apply", path)
    assert [s["session"] for s in acme.rows("sessions")] == [strict.session]
    strict.say("\n")
    assert strict.wait() == 0


AGREEMENT = """format: 1
name: Master
version: "1"
effective: "2020-01-01"
sessions:
- {purpose: %s, export: %s, source: "§ 5"}
"""


def test_an_agreement_is_stricter_but_never_looser(make_vault):
    v = vault_with(make_vault, with_export("recorded"))
    path = v.base + "/agreement.yaml"

    def agree(purpose, word, check=OK):
        with open(path, "w") as f:
            f.write(AGREEMENT % (purpose, word))
        return v.coffer("agreement", "set", "acme", path, check=check)

    v.add("other", "Other Ltd", "o@other.example")
    v.grant("other", v.alice)
    m = v.mount(v.alice)
    agree(PURPOSE, "no")
    wait_for(lambda: not m.mounted(), "the end of the mount", limit=2)
    assert "coffer shell" in v.mount(v.alice, check=REFUSED).err
    assert sh(v, "touch $HOME/x || true; echo in").out == "in\n"
    assert not os.path.exists(v.alice.home + "/x")
    text = v.coffer("why", v.alice.name, "acme", "--purpose", PURPOSE).out
    assert "§ 5" in text and "says export: no" in text
    assert {r["client"]: r["export"] for r in v.rows("shares", user=v.alice)} == {"acme": "no", "other": "recorded"}
    assert v.mount(v.alice, "other").session()["export"] == "recorded"
    closed = vault_with(make_vault, with_export("no"))
    with open(path, "w") as f:
        f.write(AGREEMENT % (PURPOSE, "recorded"))
    r = closed.coffer("agreement", "set", "acme", path, check=USAGE)
    assert ":5:" in r.err or "line" in r.err or "stricter" in r.err, r


def test_ticket_and_approval_hold_for_a_shell_too(acme):
    acme.grant("acme", acme.alice, "legal-process", "r")
    acme.grant("acme", acme.alice, "fraud-prevention", "r")
    assert "--ticket" in shell(acme, "/bin/true", purpose="fraud-prevention", ticket=None, check=REFUSED).err
    assert "no ticket" in shell(acme, "/bin/true", purpose="fraud-prevention", ticket="x", check=REFUSED).err
    shell(acme, "/bin/true", purpose="fraud-prevention", ticket="CHG-1")
    assert "coffer request" in shell(acme, "/bin/true", purpose="legal-process", check=REFUSED).err
    id = str(acme.json("request", "acme", "--purpose", "legal-process", "--reason", "order 7/26", user=acme.alice)["request"])
    acme.coffer("approve", id)
    assert shell(acme, "/bin/echo", "in", purpose="legal-process").out == "in\n"
    nothing_is_left(acme)


def test_exclusive_and_in_an_emergency(acme):
    """What a mount can be, a shell can be, but shared."""
    r = Running(acme, "echo x > $TMPDIR/t; mv $TMPDIR/t f; read x; cat f", options=("--exclusive",))
    assert acme.rows("sessions")[0]["exclusive"]
    assert "exclusively" in shell(acme, "/bin/true", check=None).err
    r.say("\n")
    assert r.wait() == 0
    nothing_is_left(acme)
    acme.down()
    acme.up_with_groups()
    acme.join(acme.bob, "coffer-emergency")
    options = ("--emergency", "--reason", "the server burns")
    assert sh(acme, "cat f", user=acme.bob, purpose="support", ticket=None, options=options).out == "x\n"
    assert acme.rows("reviews")[0]["reason"] == "the server burns"
    nothing_is_left(acme, acme.bob)


def test_wrong_calls(acme):
    assert "CLIENT" in harness.run([acme.programs + "/tools/coffer", "--dir", acme.dir, "shell", "--", "ls"], user=acme.alice, cwd="/").err
    r = shell(acme, "/bin/true", purpose="nonsense", check=NOT_FOUND)
    assert "use one of" in r.err
    nothing_is_left(acme)
