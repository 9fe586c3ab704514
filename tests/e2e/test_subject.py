"""A person's requests: whom files are about, what there is about somebody, a copy for him, his erasure."""
import errno
import hashlib
import json
import os
import subprocess
import tarfile

import harness
from harness import NOT_FOUND, REFUSED, USAGE, wait_for

JANE, JOHN = "jane.doe@example.org", "P-4711 José"


def label(m, path, who, verb="label", **kw):
    return m.vault.coffer("subject", verb, m.path(path), who, user=m.user, **kw)


def labels(m, path, **kw):
    rows = m.vault.json("subject", "list", m.path(path), user=m.user, **kw)
    return sorted((r["subject"], r["from"] == "itself") for r in rows)


def acts(vault, kind):
    return [r for r in vault.log() if r["op"] == kind]


def test_labels_are_kept_and_inherited(acme):
    """Through saves of all kinds, moves and remounts; a directory's counts for what is in it, and leaves with what leaves."""
    m = acme.mount(acme.alice)
    m.sh("mkdir -p hr/jane/old && echo cv > hr/jane/cv && echo x > hr/jane/old/x && echo m > minutes && echo p > plain")
    label(m, "hr/jane", JANE)
    label(m, "minutes", JANE)
    label(m, "minutes", JOHN)
    label(m, "minutes", JOHN)  # twice is once
    assert labels(m, "hr/jane") == [(JANE, True)]
    assert labels(m, "hr/jane/cv") == labels(m, "hr/jane/old/x") == [(JANE, False)]
    assert labels(m, "minutes") == sorted([(JOHN, True), (JANE, True)])
    assert labels(m, "plain") == []
    both = labels(m, "minutes")
    m.sh("echo 2 > minutes; echo 3 > tmp; mv tmp minutes")
    assert labels(m, "minutes") == both
    m.sh("mv minutes minutes~; echo 4 > minutes")
    assert labels(m, "minutes") == both
    m.sh("sed -i s/4/5/ minutes; mv minutes hr/jane/m; mv hr/jane/m minutes")
    assert labels(m, "minutes") == both
    # What is made or comes into it counts; what leaves takes it along: a file, a directory, another link.
    m.sh("echo n > hr/jane/new; mv plain hr/jane/; mv hr/jane/cv .; mv hr/jane/old .; ln hr/jane/new linked")
    assert labels(m, "hr/jane/plain") == [(JANE, False)]
    assert labels(m, "cv") == labels(m, "old") == labels(m, "linked") == [(JANE, True)]
    assert labels(m, "old/x") == [(JANE, False)]
    m.sh("mkdir elsewhere; mv old elsewhere/; mv elsewhere/old/x .")
    assert labels(m, "x") == [(JANE, True)]
    m.sh("cp x copy")
    assert labels(m, "copy") == []
    m.unmount()
    m = acme.mount(acme.alice)
    assert labels(m, "minutes") == both and labels(m, "x") == [(JANE, True)]
    label(m, "minutes", JOHN, "unlabel")
    assert labels(m, "minutes") == [(JANE, True)]
    label(m, "minutes", JOHN, "unlabel", check=NOT_FOUND)
    label(m, "hr/jane/new", "nobody", "unlabel", check=NOT_FOUND)
    r = acme.coffer("fsck", "acme")
    assert "no damage" in r.out or r.rc == 0


def test_no_program_sees_or_takes_a_label(acme):
    m = acme.mount(acme.alice)
    m.sh("echo cv > cv; echo b > b")
    label(m, "cv", JANE)
    m.python("""
import errno, os
assert os.listxattr('cv') == []
for attempt in (lambda: os.getxattr('cv', 'coffer.subject.add'), lambda: os.getxattr('cv', 'user.coffer.subjects'),
                lambda: os.removexattr('cv', 'coffer.subjects'), lambda: os.removexattr('cv', 'coffer.subject.add'),
                lambda: os.removexattr('cv', 'user.coffer.subjects'), lambda: os.setxattr('cv', 'coffer.subjects', b''),
                lambda: os.setxattr('cv', 'coffer.subject.other', b'x')):
    try:
        attempt()
    except OSError as e:
        assert e.errno in (errno.EOPNOTSUPP, errno.ENODATA), e
    else:
        assert False
# One that is called so is an ordinary attribute.
os.setxattr('cv', 'user.coffer.subjects', b'mine')
assert os.listxattr('cv') == ['user.coffer.subjects']
""")
    for tool in ("setfattr -x coffer.subjects cv", "setfattr -n coffer.subjects -v x cv", "setfattr -x user.coffer.x.x cv"):
        assert m.user.run("/bin/sh", "-c", tool, cwd=m.point).rc != 0
    m.sh("cp -a --preserve=all cv cv2")
    assert labels(m, "cv") == [(JANE, True)] and labels(m, "cv2") == []


def test_hostile_labels_and_paths(acme):
    m = acme.mount(acme.alice)
    m.sh("echo cv > cv; mkdir d; ln -s cv link; ln -s /etc/hostname out; mkfifo pipe")
    for bad in ("", "x" * 256, "a\nb", "\x1b[31mred", "a\x7f"):
        label(m, "cv", bad, check=USAGE)
    label(m, "cv", "\udcff\udcfe", check=USAGE)  # no UTF-8
    for bad in ("b''", "b'x' * 256", "b'a\\nb'", "b'\\xff'", "b'a\\x00b'"):
        assert m.errno(f"os.setxattr('cv', 'coffer.subject.add', {bad})") == errno.EINVAL
    for path in ("link", "out", "pipe"):
        label(m, path, JANE, check=USAGE)
    assert m.errno("os.setxattr('link', 'coffer.subject.add', b'x', follow_symlinks=False)") == errno.EPERM
    label(m, "nowhere", JANE, check=NOT_FOUND)
    acme.coffer("subject", "label", acme.alice.home, JANE, user=acme.alice, check=USAGE)
    acme.coffer("subject", "list", "/etc/hostname", user=acme.alice, check=USAGE)
    for odd in ("../..", "; rm -rf /", "%s%n", "'\"", "Ж" * 127):
        label(m, "cv", odd)
    assert {s for s, _ in labels(m, "cv")} >= {"../..", "; rm -rf /", "%s%n", "'\"", "Ж" * 127}
    # There is room for a KiB of them.
    for i in range(3):
        label(m, "d", str(i) * 255)
    label(m, "d", "3" * 250)
    label(m, "d", "one more", check=harness.FAILED)
    assert len(labels(m, "d")) == 4


def test_a_label_from_stdin(acme):
    """A command line can be read by everybody on the host."""
    m = acme.mount(acme.alice)
    m.sh("echo cv > cv")
    label(m, "cv", "-", input=JOHN + "\n")
    label(m, "cv", "-", input="no newline")
    for bad in ("", "\n", "x" * 256, "x" * 255 + "yz\n", "a\tb\n"):
        label(m, "cv", "-", input=bad, check=USAGE)
    assert labels(m, "cv") == sorted([(JOHN, True), ("no newline", True)])
    assert set(find(acme, "-", input=JOHN)[0]) == {"cv"}
    r = acme.coffer("subject", "shred", "acme", "-", "--reason", "x", input=JOHN + "\nno\n", check=REFUSED)
    assert "nothing was destroyed" in r.err
    label(m, "cv", "-", "unlabel", input=JOHN)
    assert labels(m, "cv") == [("no newline", True)]


def test_who_may_label(acme):
    """Who may write there: not in a session that reads only, not on another's mount, not after its end."""
    m = acme.mount(acme.alice)
    m.sh("echo cv > cv; echo r > r; chmod 400 r")
    m.unmount()
    m = acme.mount(acme.alice, "acme", harness.PURPOSE, "--read-only")
    label(m, "cv", JANE, check=REFUSED)
    assert m.errno("os.setxattr('cv', 'coffer.subject.add', b'x')") == errno.EROFS
    m.unmount()
    m = acme.mount(acme.alice)
    assert acme.coffer("subject", "label", m.path("cv"), JANE, user=acme.bob, check=False).rc != 0
    assert acme.coffer("subject", "label", m.path("cv"), JANE, check=False).rc != 0  # root
    label(m, "cv", JANE)
    held = acme.actor(acme.alice, m.point)
    held.do("import os; f = os.open('cv', os.O_RDWR)")
    acme.revoke("acme", acme.alice)
    assert held.errno("os.setxattr(f, 'coffer.subject.add', b'x')") != 0
    assert [a["outcome"] for a in acts(acme, "subject-label")].count(0) == 1


def test_labels_are_recorded_and_sealed(acme):
    """By whom, for what, on which file, and which; in clear nowhere: not in store, record, journal or logs."""
    m = acme.mount(acme.alice)
    m.sh("mkdir d; echo cv > d/cv")
    label(m, "d/cv", JANE)
    label(m, "d", JOHN)
    label(m, "d", JOHN, "unlabel")
    row = acts(acme, "subject-label")[0]
    assert (row["path"], row["path2"], row["outcome"], row["user"]) == ("d/cv", JANE, 0, acme.alice.name)
    assert row["purpose"] == harness.PURPOSE and row["comm"] == "coffer"
    assert [a["path2"] for a in acts(acme, "subject-unlabel")] == [JOHN]
    assert [a["path2"] for a in acme.log("--path", JANE)] == [JANE]
    assert f"d/cv: {JANE}" in acme.coffer("log").out
    ocsf = [json.loads(line) for line in acme.coffer("log", "--format", "ocsf").out.splitlines()]
    assert [e["unmapped"]["subject"] for e in ocsf if e["activity_name"] == "subject-label"][:1] == [JANE]
    m.unmount()
    acme.down()
    for text in (JANE, JOHN):
        found = subprocess.run(["grep", "-rlaF", text, acme.dir], stdout=subprocess.PIPE).stdout
        assert found == b"", found
    for top, _, names in os.walk(acme.store()):
        for name in names:
            path = os.path.join(top, name)
            attrs = [] if os.path.islink(path) else os.listxattr(path)
            assert not any(JANE.encode() in os.getxattr(path, a) for a in attrs)


def find(vault, who, client="acme", **kw):
    """{path: row} of what is told, and the counts."""
    r = vault.json("subject", "find", client, who, **kw)
    return {x["path"]: x for x in r["found"]}, r["counts"]


def people(m):
    """Jane's tree, a file about both, one about John; a hard link, a symlink, an empty file; what is about nobody."""
    m.sh("mkdir -p hr/jane/deep other && echo cv > hr/jane/cv && echo x > hr/jane/deep/x && : > hr/jane/empty && "
         "ln -s /etc/hostname hr/jane/link && echo both > minutes && echo john > john && echo plain > other/plain && "
         "echo twice > other/first && ln other/first hr/jane/second")
    label(m, "hr/jane", JANE)
    label(m, "minutes", JANE)
    label(m, "minutes", JOHN)
    label(m, "john", JOHN)


def test_find(acme):
    """What there is about somebody: by whoever may, recorded, complete, also what has a name elsewhere."""
    m = acme.mount(acme.alice)
    people(m)
    found, counts = find(acme, JANE, user=acme.alice)
    assert set(found) == {"hr/jane", "hr/jane/cv", "hr/jane/deep/x", "hr/jane/empty", "hr/jane/link", "hr/jane/second",
                          "other/first", "minutes"}
    assert counts["about"] == 7 and counts["shared"] == 1 and counts["unclear"] == counts["held"] == 0
    assert [p for p, x in found.items() if x["shared"]] == ["minutes"]
    assert {p for p, x in found.items() if x["own"]} == {"hr/jane", "minutes"}
    assert found["hr/jane/cv"]["size"] == 3 and found["hr/jane/link"]["kind"] == "l"
    assert set(find(acme, JOHN)[0]) == {"minutes", "john"}
    assert find(acme, "jane")[0] == find(acme, JANE.upper())[0] == {}  # taken as it is
    text = acme.coffer("subject", "find", "acme", JANE).out
    assert "hr/jane/" in text and "others too" in text
    acme.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "x", "--path", "hr/jane/deep")
    found, counts = find(acme, JANE)
    # Another name of what has several may be in there.
    assert {p for p, x in found.items() if x["held"]} == {"hr/jane/deep/x", "hr/jane/second", "other/first"}
    assert counts["held"] == 3
    # Without a mount, and after a restart.
    m.unmount()
    acme.down()
    acme.up()
    assert "hr/jane/cv" in find(acme, JANE)[0]
    rows = acts(acme, "subject-find")
    assert len(rows) == 7 and {r["detail"]["subject"] for r in rows} >= {JANE, JOHN, "jane"}
    assert rows[0]["client"] == "acme" and rows[0]["detail"]["counts"]["about"] == 7 and rows[0]["user"] == acme.alice.name


def test_who_may_find(make_vault):
    """Custodians, auditors, who has it mounted himself: not an administrator, not one who had, not a stranger."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    people(m)
    v.join(v.bob, "coffer-custodian")
    v.join(v.carol, "coffer-admin")
    assert "minutes" in find(v, JANE, user=v.alice)[0]
    v.coffer("subject", "find", "acme", "a\nb", user=v.alice, check=USAGE)
    v.coffer("subject", "find", "nobody", JANE, user=v.alice, check=NOT_FOUND)
    m.unmount()
    v.coffer("subject", "find", "acme", JANE, user=v.alice, check=REFUSED)
    v.coffer("suspend", "acme", "--reason", "x")
    assert "minutes" in find(v, JANE)[0]
    refused = [r for r in v.log() if r["op"] == "subject-find" and r["outcome"]]
    assert [r["user"] for r in refused] == [v.alice.name] and refused[0]["detail"]["subject"] == JANE


def test_find_in_a_large_tree(acme):
    """More than one answer holds; names that are no text go as their bytes."""
    m = acme.mount(acme.alice)
    m.python("""
import os
os.mkdir('d')
for i in range(3000):
    open('d/' + 'n' * 180 + str(i), 'w').close()
os.makedirs(b'd/\\xff\\xfe')
open(b'd/\\xff\\xfe/x', 'w').write('x')
""")
    label(m, "d", JANE)
    r = acme.json("subject", "find", "acme", JANE, user=acme.alice)
    paths = [x["path"] for x in r["found"]]
    assert len(paths) == 3002 and {"hex": b"d/\xff\xfe/x".hex()} in paths
    assert acme.coffer("subject", "find", "acme", JANE, user=acme.alice).out.count("nnnn") > 3000


def test_labels_come_back_and_damage_is_told(acme, tmp_path):
    """From a backup, through fsck; a label that was altered on disk makes nobody's file anybody's."""
    m = acme.mount(acme.alice)
    people(m)
    m.unmount()
    acme.coffer("backup", tmp_path)
    acme.coffer("restore", tmp_path, "acme", "hr/jane/cv", "--to", "cv-restored")
    acme.coffer("restore", tmp_path, "acme", "minutes")
    found, _ = find(acme, JANE)
    assert "cv-restored" in found and any(p.startswith("minutes.restored") for p in found)
    assert acme.coffer("fsck", "acme").rc == 0
    acme.down()
    hurt = 0
    for name in os.listdir(acme.store()):
        path = os.path.join(acme.store(), name)
        for a in os.listxattr(path) if os.path.isfile(path) else []:
            if a.startswith("user.coffer.x."):
                value = bytearray(os.getxattr(path, a))
                value[40] ^= 1
                os.setxattr(path, a, bytes(value))
                hurt += 1
    assert hurt == 4  # john, minutes and what was restored of it, cv-restored
    acme.up()
    found, counts = find(acme, JANE)
    assert "minutes" not in found and counts["unclear"] == 4
    assert "cannot be told" in acme.coffer("subject", "find", "acme", JANE).err
    assert acme.coffer("fsck", "acme", check=False).rc == harness.DAMAGED


def test_shred(acme, tmp_path):
    """His erasure: what is about him alone goes, under all its names and in backups; held and shared files are named and stay."""
    m = acme.mount(acme.alice)
    people(m)
    m.sh("echo kept > hr/jane/kept; echo later > later")
    label(m, "later", JANE)
    m.unmount()
    acme.coffer("backup", tmp_path)
    acme.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "x", "--path", "hr/jane/kept")
    r = acme.coffer("subject", "shred", "acme", JANE, "--reason", "request 12", input="no\n", check=REFUSED)
    assert "hr/jane/kept" in r.err and "minutes" in r.err and "hr/jane/cv" not in r.err and "keys of 7" in r.err
    m = acme.mount(acme.alice)
    assert m.read("hr/jane/cv") == b"cv\n"
    r = acme.json("subject", "shred", "acme", JANE, "--reason", "request 12", "--yes")
    # cv, deep, deep/x, empty has none, link, second = first, later; hr/jane keeps its names for what is on hold
    assert r["counts"]["about"] == 6 and r["counts"]["shared"] == 1 and r["counts"]["held"] == 1 and r["keys"] == 6
    assert m.errno("open('minutes').read()") != 0  # the sessions ended
    m = acme.mount(acme.alice)
    for gone in ("hr/jane/cv", "hr/jane/deep/x", "hr/jane/second", "other/first", "later", "hr/jane/link"):
        assert m.errno(f"open({gone!r}).read()") != 0, gone
    assert m.sh("cat minutes john other/plain hr/jane/kept").out == "both\njohn\nplain\nkept\n"
    certificate = json.load(open(os.path.join(acme.dir, r["certificate"])))
    what = certificate["certificate"]["what"]
    assert what["about"] == 6 and what["held"] == 1 and what["shared"] == 1 and "store" not in what
    assert JANE not in json.dumps(certificate) and certificate["certificate"]["decided"]["by"] == "root"
    acme.coffer("certificate", "verify", os.path.join(acme.dir, r["certificate"]))
    row = acts(acme, "erase")[-1]
    assert row["detail"]["subject"] == JANE and row["outcome"] == 0 and row["detail"]["reason"] == "request 12"
    assert set(find(acme, JANE)[0]) >= {"minutes", "hr/jane/kept"}
    m.unmount()
    # Nor from the backup.
    wait_for(lambda: acme.coffer("restore", tmp_path, "acme", "hr/jane/cv", "--to", "back", check=False).rc != harness.UNREACHABLE,
             "the restore, when the sweep is through")
    wait_for(lambda: acme.coffer("restore", tmp_path, "acme", "other/plain", "--to", "plain-back", check=False).rc == 0,
             "the restore, when the sweep is through")
    m = acme.mount(acme.alice)
    assert m.errno("open('back')") == errno.ENOENT and m.read("plain-back") == b"plain\n"
    m.unmount()
    # Once it is not on hold any more, the rest; then there is nothing left.
    acme.coffer("hold", "lift", "1", "--reason", "settled")
    r = acme.json("subject", "shred", "acme", JANE, "--reason", "request 12", "--shared", "--yes")
    assert r["counts"]["about"] == 2 and r["counts"]["shared"] == 0
    m = acme.mount(acme.alice)
    assert m.sh("cat john other/plain; ls").out.split() [:2] == ["john", "plain"]
    assert m.errno("os.listdir('hr/jane')") != 0
    m.unmount()
    wait_for(lambda: acme.coffer("fsck", "acme", check=False).rc == 0, "nothing dead is left")  # swept
    acme.coffer("subject", "shred", "acme", JANE, "--reason", "again", "--yes", check=False)


def test_shred_refusals(make_vault):
    """Only by custodians; not while the client is on hold; not of nobody; nothing ends for that."""
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    people(m)
    v.join(v.bob, "coffer-auditor")
    v.join(v.carol, "coffer-admin")
    for user in (v.alice, v.bob, v.carol):
        v.coffer("subject", "shred", "acme", JANE, "--reason", "x", "--yes", user=user, check=REFUSED)
    v.coffer("subject", "shred", "acme", "nobody", "--reason", "x", "--yes", check=False)
    v.coffer("subject", "shred", "acme", JANE, "--yes", check=USAGE)
    refused = [r for r in v.log() if r["op"] == "erase" and r["outcome"]]
    assert [r["detail"]["subject"] for r in refused] == ["nobody"] and refused[0]["outcome"] == "NothingToErase"
    v.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "x")
    r = v.coffer("subject", "shred", "acme", JANE, "--reason", "x", "--yes", check=REFUSED)
    assert "hr/jane/cv" in r.err  # all of it is
    assert all(x["held"] for x in find(v, JANE)[0].values())
    v.coffer("subject", "export", "acme", JANE, "--to", v.alice.home + "/x", user=v.alice, check=NOT_FOUND)
    assert m.read("hr/jane/cv") == b"cv\n"  # the session stands
    # Who asks without end does not fill the book.
    for _ in range(40):
        v.coffer("subject", "find", "acme", JANE, user=v.carol, check=REFUSED)
    assert len([r for r in v.log() if r["op"] == "subject-find" and r["user"] == v.carol.name]) <= 32


def test_export(acme):
    """A copy for him: whole, with an index; without what is about others or on hold; recorded file by file; nothing followed."""
    m = acme.mount(acme.alice)
    people(m)
    m.sh("ln -s /etc/shadow hr/jane/out; echo kept > hr/jane/kept; truncate -s 3M hr/jane/hole; echo end >> hr/jane/hole")
    acme.coffer("hold", "place", "acme", "--matter", "case 17", "--reason", "x", "--path", "hr/jane/kept")
    to = os.path.join(acme.alice.home, "for-jane")
    r = acme.coffer("subject", "export", "acme", JANE, "--to", to, user=acme.alice)
    assert "minutes" in r.err and "hr/jane/kept" in r.err and "hr/jane/cv" not in r.err
    index = json.load(open(to + "/index.json"))
    assert index["subject"] == JANE and index["client"] == "acme"
    names = {f["path"] for f in index["files"]}
    assert names == {"hr/jane/cv", "hr/jane/deep/x", "hr/jane/empty", "hr/jane/hole", "hr/jane/second", "other/first"}
    assert {(x["path"], x["target"]) for x in index["links"]} == {("hr/jane/link", "/etc/hostname"), ("hr/jane/out", "/etc/shadow")}
    for f in index["files"]:
        data = open(f"{to}/files/{f['path']}", "rb").read()
        assert len(data) == f["size"] and hashlib.sha256(data).hexdigest() == f["sha256"]
    below = {os.path.relpath(os.path.join(top, n), to + "/files") for top, _, ns in os.walk(to + "/files") for n in ns}
    assert below == names and os.stat(to).st_mode & 0o777 == 0o700 and os.stat(to).st_uid == acme.alice.uid
    assert os.stat(to + "/files/hr/jane/hole").st_blocks < 3000
    assert "minutes" not in json.dumps(index) and "kept" not in json.dumps(index)
    # The book: the search, the copy, each file under the session's purpose.
    rows = acme.log()
    begin, end = [r for r in rows if r["op"] == "subject-export"], [r for r in rows if r["op"] == "subject-export-end"]
    assert begin[0]["detail"]["subject"] == end[0]["detail"]["subject"] == JANE
    assert end[0]["detail"]["counts"]["files"] == 6 and end[0]["detail"]["counts"]["left"] == 2 and end[0]["outcome"] == 0
    opened = {r["path"] for r in rows if r["op"] == "open" and r["comm"] == "coffer" and r["purpose"] == harness.PURPOSE}
    assert opened | {"hr/jane/second", "other/first"} == names and len(opened) >= 5  # two names of one file
    # As an archive, with what was left out.
    tar = os.path.join(acme.alice.home, "jane.tar")
    acme.coffer("subject", "export", "acme", JANE, "--tar", tar, "--shared", "--held", user=acme.alice)
    with tarfile.open(tar) as t:
        assert {"index.json", "files/minutes", "files/hr/jane/kept", "files/hr/jane/cv"} <= set(t.getnames())
        assert t.extractfile("files/minutes").read() == b"both\n"
        assert all(x.uid == 0 and not x.issym() for x in t.getmembers())
    assert os.stat(tar).st_mode & 0o777 == 0o600
    assert sorted(n for n in os.listdir(acme.alice.home) if "jane" in n) == ["for-jane", "jane.tar"]


def test_export_refusals(acme):
    m = acme.mount(acme.alice)
    people(m)
    home = acme.alice.home
    export = lambda *args, user=acme.alice, **kw: acme.coffer("subject", "export", "acme", *args, user=user, **kw)
    export(JANE, check=USAGE)
    export(JANE, "--to", home + "/a", "--tar", home + "/b", check=USAGE)
    export(JANE, "--to", m.path("copy"), check=USAGE)  # into the share
    export(JANE, "--tar", m.path("copy.tar"), check=USAGE)
    os.mkdir(home + "/there")
    export(JANE, "--to", home + "/there", check=USAGE)
    export(JANE, "--tar", home + "/there", check=USAGE)
    export("nobody", "--to", home + "/a", check=NOT_FOUND)
    export(JANE, "--to", home + "/a", "--mount", home, check=NOT_FOUND)
    export(JANE, "--to", "/nowhere/a", check=harness.FAILED)
    export(JANE, "--to", acme.bob.home + "/a", user=acme.bob, check=NOT_FOUND)  # has it not mounted
    export(JANE, "--to", "/root/jane", user=None, check=NOT_FOUND)  # nor has root
    assert not os.path.exists(home + "/a")
    assert [r for r in acme.log() if r["op"] == "subject-export"] == []
    # A file whose content his purpose may not read is named and left out.
    acme.coffer("class", "set", "acme", "hr/jane/cv", "billing")
    wait_for(lambda: not m.mounted(), "the end of the session")
    m = acme.mount(acme.alice)
    r = export(JANE, "--to", home + "/part", check=harness.FAILED)
    assert "hr/jane/cv" in r.err and "hr/jane/cv" not in open(home + "/part/index.json").read()
    assert os.path.exists(home + "/part/files/hr/jane/deep/x") and not os.path.exists(home + "/part/files/hr/jane/cv")
    # An archive that fails, a full disk: nothing of it stays.
    os.mkdir(home + "/bin", 0o755)
    with open(home + "/bin/tar", "w") as f:
        f.write("#!/bin/sh\necho part\nexit 1\n")
    os.chmod(home + "/bin/tar", 0o755)
    export(JANE, "--tar", home + "/t.tar", check=harness.FAILED, env={"PATH": home + "/bin:/usr/bin:/bin"})
    assert [n for n in os.listdir(home) if n.startswith("t.tar")] == []
    m.sh("head -c 40M /dev/zero | tr '\\0' x > hr/jane/big")
    full = home + "/full"
    os.mkdir(full)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1m,uid={acme.alice.uid}", "none", full], check=True)
    try:
        export(JANE, "--to", full + "/copy", check=harness.FAILED)
        assert os.listdir(full) == []
    finally:
        subprocess.run(["umount", full], check=True)
    assert [r["outcome"] for r in acme.log() if r["op"] == "subject-export-end"][-1] == "Failed"


def test_on_a_shared_mount(acme):
    """Each member by his own right and the file's mode; who only uses it asks nobody for all names."""
    acme.grant("acme", acme.bob)
    acme.grant("acme", acme.carol, harness.PURPOSE, "r")
    point = os.path.join(acme.base, "shared")
    os.mkdir(point)
    acme.coffer("mount", "acme", "--purpose", harness.PURPOSE, "--ticket", harness.TICKET, "--shared", point)
    acme.alice.sh('cd "$1"; echo cv > cv; chmod 600 cv; echo all > all; chmod 666 all; mkdir -m 700 d', point)
    acme.coffer("subject", "label", point + "/cv", JANE, user=acme.alice)
    acme.coffer("subject", "label", point + "/all", JANE, user=acme.bob)
    acme.coffer("subject", "label", point + "/cv", JOHN, user=acme.bob, check=REFUSED)
    acme.coffer("subject", "list", point + "/cv", user=acme.bob, check=REFUSED)
    acme.coffer("subject", "label", point + "/d", JOHN, user=acme.bob, check=REFUSED)
    acme.coffer("subject", "label", point + "/all", JOHN, user=acme.carol, check=REFUSED)  # reads only
    assert [r["user"] for r in acts(acme, "subject-label") if not r["outcome"]] == [acme.alice.name, acme.bob.name]
    acme.coffer("subject", "find", "acme", JANE, user=acme.alice, check=REFUSED)
    assert set(find(acme, JANE)[0]) == {"cv", "all"}


def test_a_class_that_the_purpose_may_not_open(acme):
    """Whom a file is about is content: neither read nor changed by who may not open it."""
    m = acme.mount(acme.alice)
    m.sh("echo bill > bill")
    label(m, "bill", JANE)
    acme.coffer("class", "set", "acme", "bill", "billing")
    wait_for(lambda: not m.mounted(), "the end of the session")
    m = acme.mount(acme.alice)
    label(m, "bill", JOHN, check=REFUSED)
    label(m, "bill", JANE, "unlabel", check=REFUSED)
    acme.coffer("subject", "list", m.path("bill"), user=acme.alice, check=REFUSED)
    assert set(find(acme, JANE)[0]) == {"bill"} and find(acme, JOHN)[0] == {}


def test_the_successor_has_the_labels(make_vault):
    a, b = make_vault(), make_vault()
    a.add()
    a.grant("acme", a.alice)
    m = a.mount(a.alice)
    people(m)
    m.unmount()
    a.coffer("suspend", "acme", "--reason", "handed over")
    a.coffer("transfer", "acme", "--to", b.coffer("transfer-key").out.strip(), "--out", a.base + "/out")
    with open(a.base + "/pub", "w") as f:
        f.write(a.coffer("public-key").out)
    before = find(a, JANE)
    b.coffer("adopt", a.base + "/out", "--pubkey", a.base + "/pub")
    after = find(b, JANE)
    assert set(after[0]) == set(before[0]) and after[1]["about"] == before[1]["about"] == 7


def test_crash_and_seal(acme):
    """A label that was said to be set is there after kill -9 of all; sealed, nobody is told anything."""
    m = acme.mount(acme.alice)
    m.sh("mkdir d; echo cv > d/cv; echo f > f")
    label(m, "d", JANE)
    label(m, "f", JANE)
    for pid in harness.our_processes(acme.base):
        try:
            harness.kill9(pid)
        except ProcessLookupError:
            pass
    harness.remove_mounts(acme.base)
    acme.up()
    assert set(find(acme, JANE)[0]) == {"d", "d/cv", "f"}
    acme.coffer("seal")
    acme.coffer("subject", "find", "acme", JANE, check=harness.SEALED)
    acme.coffer("subject", "shred", "acme", JANE, "--reason", "x", "--yes", check=harness.SEALED)
    acme.coffer("unseal")
    assert set(find(acme, JANE)[0]) == {"d", "d/cv", "f"}
    assert {r["detail"]["subject"] for r in acts(acme, "subject-find")} == {JANE}


def test_which_labels_there_are(make_vault):
    v = make_vault(up=False)
    v.up_with_groups()
    v.add()
    v.grant("acme", v.alice)
    m = v.mount(v.alice)
    people(m)
    label(m, "other/plain", "jane doe")
    rows = {r["subject"]: (r["files"], r["directories"]) for r in v.json("subject", "list", "--client", "acme")}
    assert rows == {JANE: (1, 1), JOHN: (2, 0), "jane doe": (1, 0)}
    assert JOHN in v.coffer("subject", "list", "--client", "acme").out
    v.join(v.bob, "coffer-admin")
    v.coffer("subject", "list", "--client", "acme", user=v.bob, check=REFUSED)
    v.coffer("subject", "list", "--client", "acme", user=v.alice, check=REFUSED)
    v.coffer("subject", "list", "--client", "nobody", check=NOT_FOUND)
    v.coffer("subject", "list", "--client", "acme", m.path("minutes"), check=USAGE)
    v.coffer("subject", "list", check=USAGE)
    assert [r["outcome"] for r in v.log() if r["op"] == "subject-list"] == [0, 0]


def test_the_root_and_what_is_read_only(acme):
    """The share itself may be labelled, while it is in use; what nobody may write to keeps its labels when it moves."""
    m = acme.mount(acme.alice)
    m.sh("mkdir -p a/b; echo x > a/b/x; echo y > y; chmod 400 a/b/x; cat a/b/x")
    held = acme.actor(acme.alice, m.point)
    held.do("import os; d = os.open('a/b', os.O_RDONLY)")
    label(m, ".", JANE)
    assert labels(m, "a/b/x") == [(JANE, False)] and labels(m, "y") == [(JANE, False)]
    assert set(find(acme, JANE)[0]) == {"", "a/b/x", "y"}
    label(m, "a", JOHN)
    held.do("os.rename('x', '../../x', src_dir_fd=d, dst_dir_fd=d)")
    assert labels(m, "x") == [(JOHN, True), (JANE, False)]
    label(m, ".", JANE, "unlabel")
    assert labels(m, "y") == [] and labels(m, "x") == [(JOHN, True)] and labels(m, "a/b") == [(JOHN, False)]
    m.sh("mv a/b c; mkdir d; mv c d/; mv d/c e")
    assert labels(m, "e") == [(JOHN, True)]
    held.stop()
    # The share's own names stay, whoever it is about.
    label(m, ".", JANE)
    r = acme.json("subject", "shred", "acme", JANE, "--reason", "x", "--yes", "--shared")
    assert r["counts"]["about"] == 2
    m = acme.mount(acme.alice)
    wait_for(lambda: m.sh("ls").out == "", "the sweep")
    m.sh("echo anew > anew")
    assert labels(m, "anew") == [(JANE, False)]
