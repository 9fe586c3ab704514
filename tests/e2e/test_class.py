"""Record classes of files and directories, erasure of one file or tree, and the sweep of what no key opens."""
import errno
import json
import os
import re
import shutil
import struct
import subprocess

import harness
from harness import NOT_FOUND, REFUSED, USAGE, wait_for

OTHER, OTHER_NUMBER = "project", 19  # in the built-in policy


# How office programs save (LibreOffice, Word), call by call, since none is installed here: a lock file beside the document; a
# temporary file in the same directory, synced and renamed over it; or the old one kept aside and the document rewritten in place.
OFFICE = """
import os, shutil
def write(name, data, flags):
    fd = os.open(name, flags, 0o644)
    os.write(fd, data); os.fsync(fd); os.close(fd)
write('.~lock.doc#', b'me', os.O_WRONLY | os.O_CREAT | os.O_EXCL)
write('lu1x.tmp', b'first', os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.chmod('lu1x.tmp', os.stat('doc').st_mode & 0o777)
os.rename('lu1x.tmp', 'doc')
shutil.copy2('doc', 'doc.bak')
fd = os.open('doc', os.O_RDWR)
os.ftruncate(fd, 0); os.pwrite(fd, b'from an office program\\n', 0); os.fsync(fd); os.close(fd)
os.unlink('doc.bak'); os.unlink('.~lock.doc#')
"""


def headers(vault):
    """Of every file below the store that has one: {path: (leaf class, day, origin class, origin day)}."""
    found = {}
    for top, _, names in os.walk(vault.store()):
        for name in names:
            path = os.path.join(top, name)
            if name.startswith(".") or os.path.islink(path):
                continue
            with open(path, "rb") as f:
                h = f.read(4096)
            if len(h) < 4096:
                continue
            leaf = struct.unpack_from("<Q", h, 32)[0]
            records = [r for r in (h[512:1024], h[1024:1536]) if any(r)]
            newest = max(records, key=lambda r: struct.unpack_from("<Q", r)[0])
            day, origin = struct.unpack_from("<HH", newest, 20)
            found[path] = (leaf >> 48, leaf >> 32 & 0xffff, origin, day)
    return found


def acts(vault, kind):
    return [r for r in vault.log() if r["op"] == kind]


def test_class_of_a_tree(acme):
    """Set while it is in use: new files inherit, editors keep it, the files stay readable, the act is recorded."""
    m = acme.mount(acme.alice)
    m.sh("mkdir -p hr/old && echo one > hr/one && echo two > hr/old/two && ln -s one hr/link && echo x > plain")
    before = headers(acme)
    default = {v[0] for v in before.values()}
    assert len(default) == 1
    held = m.user.sh('exec 3<>"$1/hr/one"; sleep 0.01; cat <&3', m.point)
    assert held.out == "one\n"
    r = acme.json("class", "set", "acme", "hr", OTHER)
    assert r["rewrapped"] == 3 and r["failed"] == 0 and r["old_keys"] == 3
    wanted = OTHER_NUMBER
    after = headers(acme)
    assert sorted(v[0] for v in after.values()) == sorted([*default, wanted, wanted])
    assert all(v[1] == w[1] and v[3] == w[3] for v, w in zip(sorted(before.values()), sorted(after.values())))
    # The session that was open sees nothing of it; what is made from now on inherits.
    assert m.sh("cat hr/one hr/old/two; readlink hr/link").out == "one\ntwo\none\n"
    m.sh("echo n > hr/old/new && mkdir hr/dir && echo m > hr/dir/made && echo p > plain2")
    assert sorted(v[0] for v in headers(acme).values()) == sorted([*default] * 2 + [wanted] * 4)
    m.python("import os; fd = os.open('hr', os.O_TMPFILE | os.O_RDWR, 0o600); os.write(fd, b'x'); "
             "os.link(f'/proc/self/fd/{fd}', 'hr/unnamed', dst_dir_fd=os.open('.', 0), follow_symlinks=True)")
    assert sorted(v[0] for v in headers(acme).values()) == sorted([*default] * 2 + [wanted] * 5)
    m.sh("rm hr/unnamed")
    # O_TRUNC, a rename over it, vim's ways of saving, rsync: class and origin stay.
    shown = acme.json("class", "show", "acme", "hr")
    assert shown["class"] == OTHER and shown["labelled"] and shown["old_keys"] == 3
    assert {c["class"]: c["files"] for c in shown["classes"]} == {OTHER: 4}
    assert not acme.json("class", "show", "acme", "hr/old")["labelled"]
    m.sh("echo doc > doc")
    acme.coffer("class", "set", "acme", "doc", OTHER)
    m.sh("echo 2 > doc; echo 3 > tmp; mv tmp doc")
    origins = lambda: sorted(v[2] for v in headers(acme).values())
    expected = origins()
    assert expected.count(wanted) == 5
    vim = shutil.which("vim") or shutil.which("vim.tiny")
    if vim:
        for how in ("nobackup writebackup backupcopy=no", "nobackup backupcopy=yes"):
            m.sh('"$1" -u NONE -n -es -c "set $2" -c "normal Goline" -c wq doc </dev/null', vim, how)
    m.python(OFFICE)
    assert m.read("doc") == b"from an office program\n" and origins() == expected
    if shutil.which("rsync"):
        m.user.sh('mkdir -p "$1" && echo "from rsync, of another length" > "$1/doc"', m.user.home + "/r")
        m.user.sh('rsync -a "$1/doc" "$2/doc"', m.user.home + "/r", m.point)
        assert m.read("doc") == b"from rsync, of another length\n"
    assert origins() == expected
    assert [a["outcome"] for a in acts(acme, "class-set-end")][:1] == [0]
    # Refusals.
    acme.coffer("class", "set", "acme", "nowhere", OTHER, check=NOT_FOUND)
    acme.coffer("class", "set", "acme", "hr", "nonsense", check=NOT_FOUND)
    assert "NotFound" in [a["outcome"] for a in acts(acme, "class-set")]
    assert not any(re.search(r"(?<![\w-])hr(?![\w-])", json.dumps(a["detail"])) for a in acts(acme, "class-set"))


def test_old_keys_go_while_sessions_work(make_vault, tmp_path):
    """After the window an older copy of a file opens no more, and whoever works there notices nothing."""
    v = make_vault(up=False)
    v.up(env={"COFFER_WINDOW": "1"})
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    m.sh("mkdir d && echo one > d/f && echo two > other")
    path = next(p for p in headers(v) if os.path.dirname(p) != v.store())
    with open(path, "rb") as f:
        before = f.read(512)
    v.coffer("class", "set", "acme", "d", OTHER)
    m.sh("echo more >> d/f")
    assert wait_for(lambda: acts(v, "old-keys-destroyed"), "their end", limit=30)[0]["detail"] == {"keys": 1}
    assert m.sh("cat d/f other").out == "one\nmore\ntwo\n"
    m.sh("echo x > d/new")
    assert v.json("class", "show", "acme", "d")["old_keys"] == 0
    m.unmount()
    with open(path, "r+b") as f:
        f.write(before)
    m = v.mount(v.alice)
    assert m.errno("open('d/f')") == errno.ENOKEY
    assert m.sh("cat d/new other").out == "x\ntwo\n"


def test_killed_while_a_class_is_set(acme):
    """keyd is killed in the middle: it goes on by itself, and no file was ever without a key."""
    m = acme.mount(acme.alice)
    m.sh("mkdir d && cd d && for i in $(seq 400); do echo $i > $i; done")
    setting = subprocess.Popen([acme.programs + "/tools/coffer", "--dir", acme.dir, "class", "set", "acme", "d", OTHER],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        classes = lambda: [h[0] for h in headers(acme).values()]
        wait_for(lambda: classes().count(OTHER_NUMBER) > 30, "some files have moved", step=0.002)
        harness.kill9(acme.pid("keyd"))
    finally:
        setting.wait(30)
    wait_for(lambda: not harness.our_processes(acme.dir) or not acme.pids("fsd"), "all is down")
    acme.up()
    wait_for(lambda: acts(acme, "class-set-end"), "it goes on", limit=60)
    assert set(classes()) == {OTHER_NUMBER}
    m = acme.mount(acme.alice)
    assert m.sh("cat d/* | sort -n | uniq | wc -l").out.strip() == "400"
    shown = acme.json("class", "show", "acme", "d")
    assert shown["old_keys"] >= 400 and shown["classes"][0]["files"] == 400


def test_shred_one_and_a_tree(acme, tmp_path):
    """What was asked for is gone under all its names and from a copy of the store; all else is there."""
    m = acme.mount(acme.alice)
    m.sh("mkdir -p gone/deep stays && echo a > gone/a && echo b > gone/deep/b && ln -s a gone/l"
         " && ln gone/a stays/hard && echo c > stays/c && echo d > single")
    acme.coffer("class", "set", "acme", "stays/c", OTHER)
    # Not without a reason, not what is not there, not all of it, not under a hold.
    acme.coffer("shred", "acme", "gone", "--yes", check=USAGE)
    acme.coffer("shred", "acme", "none", "--reason", "R", "--yes", check=NOT_FOUND)
    acme.coffer("shred", "acme", "/", "--reason", "R", "--yes", check=USAGE)
    hold = acme.json("hold", "place", "acme", "--matter", "M", "--reason", "R")["hold"]
    acme.coffer("shred", "acme", "gone", "--reason", "R", "--yes", check=REFUSED)
    acme.coffer("hold", "lift", str(hold), "--reason", "over")
    # Says before what goes, hard links too; and takes no for an answer.
    r = acme.coffer("shred", "acme", "gone", "--reason", "R", input=b"no\n", check=REFUSED)
    assert "2 files, 2 directories and 1 symlinks" in r.err and "1 other names" in r.err
    assert m.sh("cat gone/a stays/hard").out == "a\na\n" and m.mounted()  # no refusal ended the session
    copy = str(tmp_path / "copy")
    shutil.copytree(acme.store(), copy, symlinks=True)
    r = acme.json("shred", "acme", "gone", "--reason", "request 7 of the client", "--yes")
    assert r["keys"] == 5 and r["old_keys"] == 1 and r["counts"]["other_names"] == 1
    wait_for(lambda: not m.mounted(), "the session ends")
    certificate = os.path.join(acme.dir, r["certificate"])
    acme.coffer("certificate", "verify", certificate)
    with open(certificate) as f:
        c = json.load(f)["certificate"]
    assert c["kind"] == "erasure" and c["what"]["keys"] == 5 and c["rule"]["source"] == "request 7 of the client"
    assert "gone" not in json.dumps(c["what"])
    # The sweep removes them, and nothing else.
    sweep = wait_for(lambda: acts(acme, "sweep"), "the sweep")[0]["detail"]
    assert (sweep["files"], sweep["links"], sweep["directories"], sweep["kept"]) == (3, 1, 2, 0)
    m = acme.mount(acme.alice)
    assert sorted(m.sh("ls -A; ls -A stays").out.split()) == ["c", "single", "stays"]
    assert m.sh("cat stays/c single").out == "c\nd\n"
    m.unmount()
    # The copy of before, put back: the names of what died do not open, nor what is in it.
    for name in os.listdir(copy):
        if not os.path.lexists(os.path.join(acme.store(), name)):
            os.rename(os.path.join(copy, name), os.path.join(acme.store(), name))
    m = acme.mount(acme.alice)
    assert m.errno("os.listdir('gone')") != 0
    assert m.sh("cat single").out == "d\n"
    m.unmount()
    assert acme.json("shred", "acme", "single", "--reason", "R", "--yes")["keys"] == 1


def test_no_client_has_the_name_of_an_erasure(acme):
    """Else the certificate of one would be written over the other's."""
    m = acme.mount(acme.alice)
    m.sh("echo x > f")
    acme.coffer("shred", "acme", "f", "--reason", "r", "--yes")
    name, = os.listdir(acme.dir + "/keyd/certificates")
    assert name.endswith("erasure-1.json")
    taken = name[:-len(".json")]
    r = acme.coffer("client", "add", taken, "--name", "x", "--email", "x@example.org", check=None)
    assert r.rc != 0 and "name" in r.err, r
