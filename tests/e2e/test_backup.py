"""Backups: copies that are whole and consistent while sessions run, and what can be made of them again."""
import json
import os
import shutil
import subprocess

import pytest

import harness
from harness import DAMAGED, NOT_FOUND, REFUSED, USAGE, copy_tree, run


def tree_of(m):
    """What one sees in a share: {path: content or target}, modes and attributes."""
    return json.loads(m.python("""
import os, json, hashlib
found = {}
for top, dirs, files in os.walk("."):
    for n in sorted(dirs + files):
        p = os.path.join(top, n); st = os.lstat(p)
        what = os.readlink(p) if os.path.islink(p) else hashlib.sha256(open(p, "rb").read()).hexdigest() if os.path.isfile(p) else ""
        x = {} if os.path.islink(p) else {a: os.getxattr(p, a).hex() for a in os.listxattr(p) if a.startswith("user.")}
        found[p] = [what, oct(st.st_mode), st.st_mtime_ns if os.path.isfile(p) and not os.path.islink(p) else 0, x]
print(json.dumps(found))
""").out)


def fill(m):
    m.sh("""mkdir -p tree/below; echo one > tree/one; head -c 100000 /dev/urandom > tree/below/big; ln -s one tree/link
            ln -s "$(printf 'x%.0s' {1..900})" tree/longlink; ln tree/one hardlink; chmod 640 tree/one; : > empty
            truncate -s 3M sparse; echo end >> sparse; touch "$(printf 'n%.0s' {1..200})"; mkfifo pipe; rm pipe
            setfattr -n user.note -v hello tree/one; touch -d 2001-02-03 tree/below/big""")


def backups(to):
    return sorted(n for n in os.listdir(to) if not n.startswith("."))


def backup(v, to, **kw):
    kw.setdefault("timeout", 60)
    while True:  # one a second
        r = v.coffer("backup", to, "--json", check=None, **kw)
        if "of this second" not in r.err:
            assert r.rc == 0, r
            return r.json


@pytest.fixture
def filled(share):
    fill(share)
    share.to = share.vault.base + "/backups"
    return share


def with_slot(v, backup_path, name):
    """A state directory made of a backup and the slot, by ordinary means."""
    d = f"{v.base}/{name}"
    copy_tree(backup_path, d)
    os.chmod(d, 0o711)
    copy_tree(v.dir + "/keyd/slot", d + "/keyd/slot")
    return d


def look_into(v, d):
    """What alice sees in acme of the state directory d."""
    v.coffer("up", dir=d, timeout=60)
    m = v.mount(v.alice, "acme", dir=d)
    found = tree_of(m)
    v.coffer("unmount", m.point, user=v.alice, dir=d)
    v.coffer("log", "verify", dir=d)
    assert v.coffer("fsck", "acme", dir=d).rc == 0
    v.coffer("down", dir=d)
    return found


def test_backups_while_sessions_run_incremental_and_whole(filled):
    m, v, to = filled, filled.vault, filled.to
    first = backup(v, to)
    assert first["signed"] and first["manifest"]["unsettled"] == [] and first["manifest"]["linked"] == 0
    assert not os.path.exists(first["path"] + "/keyd/slot") and os.listdir(first["path"] + "/keyd/keys")
    seen = tree_of(m)
    m.sh("echo new > tree/new; printf X | dd of=tree/below/big bs=1 seek=5000 conv=notrunc status=none; rm hardlink")
    second = backup(v, to)["manifest"]
    assert 0 < second["copied_bytes"] < second["bytes"] and second["linked"] >= 2, second
    for b in backups(to):
        v.coffer("backup", "check", f"{to}/{b}")
    later = tree_of(m)
    assert later != seen
    m.unmount()
    v.down()
    assert look_into(v, with_slot(v, f"{to}/{backups(to)[1]}", "R2")) == later
    shutil.rmtree(v.base + "/R2")
    assert look_into(v, with_slot(v, f"{to}/{backups(to)[0]}", "R1")) == seen


def test_a_header_written_in_place_is_copied_again(filled):
    """Same size, same time of writing: the inode's time of change tells."""
    m, v = filled, filled.vault
    m.unmount()
    backup(v, filled.to)
    path = max(harness.files_below(v.store()), key=os.path.getsize)
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(1200)
        f.write(b"\1")
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    second = backup(v, filled.to)
    assert second["manifest"]["copied_bytes"] == st.st_size
    name = os.path.relpath(path, v.dir)
    assert open(second["path"] + "/" + name, "rb").read() == open(path, "rb").read()


def test_check_finds_what_is_not_as_it_was(filled):
    v, to = filled.vault, filled.to
    letter = v.dir + "/outbox/1-acme.eml"  # as a notice of destruction leaves one
    with open(letter, "w") as f:
        f.write("To: privacy@acme.example\n\nDear Acme\n")
    path = backup(v, to)["path"]
    v.coffer("restore", to, "--all", "--to", v.base + "/whole")
    assert harness.files_below(v.base + "/whole/outbox").__next__().endswith("1-acme.eml")
    key = v.base + "/key"
    with open(key, "w") as f:
        f.write(v.coffer("public-key").out)
    files = [f for f in harness.files_below(path) if "/store/" in f and os.path.getsize(f) > 4096]

    def damaged(word):
        r = v.coffer("backup", "check", to, "--pubkey", key, check=DAMAGED)
        assert word in r.out, r

    for victim, word in ((path + "/keyd/facts.db", "content"), (path + "/FILES", "content"), (path + "/MANIFEST.json", "signed"),
                         (path + "/outbox/1-acme.eml", "content"), (files[0], "size"), (path + "/ledger/ledger.db", "content")):
        old = open(victim, "rb").read()
        with open(victim, "wb") as f:
            f.write(old.replace(b'"files": ', b'"files": 1') if word == "signed" else old[:-1] + b"?!")
        damaged(word)
        with open(victim, "wb") as f:
            f.write(old)
        if word == "size":
            damaged("size")
            break
    os.unlink(files[1])
    damaged("missing")
    v.coffer("backup", "check", v.base, check=NOT_FOUND)


def test_who_may_and_where_to(filled):
    v = filled.vault
    r = v.coffer("backup", v.alice.home + "/b", user=v.alice, check=None)
    assert r.rc not in (0, None) and not [n for n in os.listdir(v.alice.home + "/b") if not n.startswith(".")]
    v.coffer("backup", v.dir + "/inside", check=USAGE)
    v.coffer("down", timeout=60)
    b = backup(v, filled.to)
    assert not b["signed"]
    key = v.dir + "/keyd/signing.pub"
    assert "not signed" in v.coffer("backup", "check", filled.to, "--pubkey", key, check=DAMAGED).out


RESTIC = "RESTIC_PASSWORD=p restic -q --no-cache"
TOOLS = {  # copying all but the slot; giving back a folder
    "rsync": ('rsync -aHAXS --exclude=/keyd/slot "$1/" "$2/"', 'rsync -aHAXS "$1/" "$2/"'),
    "tar": ('tar -C "$1" --xattrs --xattrs-include="*" --acls -S --exclude=./keyd/slot -cf - . |'
            ' tar -C "$2" --xattrs --xattrs-include="*" --acls -xpf -',
            'tar -C "$1" --xattrs --xattrs-include="*" --acls -S -cf - . | tar -C "$2" --xattrs --xattrs-include="*" --acls -xpf -'),
    "restic": (f'export RESTIC_REPOSITORY="$3"; {RESTIC} init; cd "$1"; {RESTIC} backup --exclude keyd/slot .;'
               f' {RESTIC} restore latest --target "$2"', 'rsync -aHAXS "$1/" "$2/"'),
}


@pytest.mark.parametrize("how", ["rsync", "tar", *(["restic"] if "COFFER_HEAVY" in os.environ else [])])
def test_ordinary_tools_give_the_same(filled, how):
    """And what was shredded since does not come back by them, whatever of it is put back."""
    if shutil.which(how) is None:
        pytest.skip(how + " is not installed")
    m, v = filled, filled.vault
    seen = tree_of(m)
    m.unmount()
    v.down()
    take, give = TOOLS[how]
    os.mkdir(v.base + "/copy")
    script = lambda text, *args: run(["/bin/bash", "-euc", text, "sh", *args], check=True, timeout=60)
    script(take, v.dir, v.base + "/copy", v.base + "/repository")
    assert look_into(v, with_slot(v, v.base + "/copy", "R")) == seen
    v.up()
    v.coffer("shred", "acme", "tree/below", "--reason", "request", "--yes")
    v.down()
    script('rm -r "$1"/*/', v.dir + "/store")
    script(give, v.base + "/copy/store", v.dir + "/store")
    v.up()
    m = v.mount(v.alice)
    now = m.sh("ls; cat tree/one; cat tree/below/* || echo no").out.split()
    assert {"tree", "one", "no"} <= set(now) and m.errno("open('tree/below/big')") != 0
    m.unmount()
    v.down()
    # The keys of then with the slot of now.
    v.coffer("up", dir=with_slot(v, v.base + "/copy", "K"), check=harness.FAILED, timeout=60)



# ---- restoring ----

def restored(v, *args, **kw):
    return v.coffer("restore", v.base + "/backups", *args, "--json", check=None, timeout=60, **kw)


def test_files_and_trees_come_back_into_the_running_installation(filled):
    m, v = filled, filled.vault
    seen = tree_of(m)
    backup(v, filled.to)
    m.sh("rm -r tree; echo changed > empty")
    r = restored(v, "acme", "tree")
    assert r.rc != 0 and "sessions" in r.err, r
    m.unmount()
    r = restored(v, "acme", "/tree/")
    assert r.rc == 0 and r.json["target"] == "tree" and r.json["lost"] == [] and r.json["counts"]["files"] == 4, r
    r = restored(v, "acme", "empty")
    assert r.rc == 0 and r.json["target"].startswith("empty.restored-"), r
    assert restored(v, "acme", "tree/one", "--to", "tree/again").json["target"] == "tree/again"
    assert restored(v, "acme", "tree/one", "--to", "tree/again").rc == USAGE
    assert restored(v, "acme", "none").rc == NOT_FOUND
    assert restored(v, "globex", "one").rc == NOT_FOUND
    assert restored(v, "acme", "one", user=v.alice).rc != 0
    assert restored(v, "acme").json["target"] == "share"
    m = v.mount(v.alice)
    now = tree_of(m)
    assert {p: x for p, x in now.items() if p.startswith("./tree") and "again" not in p} == \
        {p: x for p, x in seen.items() if p.startswith("./tree")}
    assert {"./" + p[8:]: x for p, x in now.items() if p.startswith("./share/")} == seen
    assert now["./tree/again"] == seen["./tree/one"] and m.read("empty") == b"changed\n"
    m.unmount()
    assert v.coffer("fsck", "acme").rc == 0
    acts = [(x["op"], x["outcome"]) for x in v.log() if x["op"].startswith("restore")]
    assert acts.count(("restore-end", 0)) == 4 and acts[0][0] in ("restore-start", "restore-end"), acts
    assert not [x for x in v.log() if x["op"].startswith("restore") and "tree" in str(x.get("detail"))]


def test_what_was_shredded_does_not_come_back(filled):
    """One file's key is punctured: every backup of before gives back all but it, and says so."""
    cut = os.path.join(harness.BUILD, "tests", "adversary", "cut")
    m, v = filled, filled.vault
    path = backup(v, filled.to)["path"]
    m.unmount()
    v.down()
    victim = max(harness.files_below(v.store()), key=lambda p: os.stat(p).st_blocks)
    with open(victim, "rb") as f:
        leaf = int.from_bytes(f.read(40)[32:], "little")
    assert run([cut, v.dir], input=f"{v.client_id()} {leaf:x} 64\n").rc == 0
    v.up()
    r = restored(v, "acme", "tree", "--to", "back")
    assert r.rc == DAMAGED and [x["path"] for x in r.json["lost"]] == ["tree/below/big"] and r.json["lost"][0]["why"] == "destroyed", r
    m = v.mount(v.alice)
    assert m.read("back/one") == b"one\n" and m.errno("os.stat('back/below/big')") != 0
    m.unmount()
    v.coffer("down", timeout=60)
    # A whole machine of that backup's store opens only with keys of now; its own keys are of a root key that is gone.
    r = v.coffer("restore", path, "--all", "--to", v.base + "/N", "--slot", v.dir + "/keyd/slot", "--json")
    v.coffer("up", dir=v.base + "/N", check=harness.FAILED, timeout=60)
    newer = backup(v, filled.to)["path"]
    r = v.coffer("restore", path, "--all", "--to", v.base + "/M", "--slot", v.dir + "/keyd/slot", "--json").json
    assert r["store_of"] == path and r["state_of"] == newer
    v.coffer("up", dir=v.base + "/M", timeout=60)
    m = v.mount(v.alice, dir=v.base + "/M")
    assert m.read("tree/one") == b"one\n" and m.errno("open('tree/below/big')") != 0
    v.coffer("unmount", m.point, user=v.alice, dir=v.base + "/M")
    v.coffer("down", dir=v.base + "/M")
    v.coffer("restore", filled.to, "--all", "--to", v.base + "/M", check=USAGE)
    v.coffer("restore", filled.to, "--all", check=USAGE)


def test_drill_says_whether_a_backup_would_do(filled):
    """Beside an open session; what was damaged in the backup is found, whatever its size and times say."""
    m, v = filled, filled.vault
    v.add("globex", "Globex", "dpo@globex.example")
    path = backup(v, filled.to)["path"]
    r = v.json("drill", filled.to, "--scratch", v.base, timeout=60)
    assert r["sound"] and r["wrong"] == [] and {c["client"]: c["damaged"] for c in r["clients"]} == {"acme": 0, "globex": 0}
    assert sum(c["files"] for c in r["clients"]) >= 5 and not [n for n in os.listdir(v.base) if "drill" in n]
    assert m.read("tree/one") == b"one\n", "the session goes on"
    victim = max(harness.files_below(path + "/store"), key=lambda p: os.stat(p).st_blocks)
    st = os.stat(victim)
    with open(victim, "r+b") as f:
        f.seek(9000)
        f.write(b"?")
    os.utime(victim, ns=(st.st_atime_ns, st.st_mtime_ns))
    v.coffer("backup", "check", path)
    r = v.coffer("drill", path, "--scratch", v.base, "--json", check=DAMAGED, timeout=60).json
    assert not r["sound"] and r["wrong"] == ["acme: tree/below/big: sector"], r
    assert v.coffer("drill", path, user=v.alice, check=None).rc != 0
    assert [x["op"] for x in v.log() if "fsck" in x["op"]] == [] and "drill-end" in [x["op"] for x in v.log()]


def test_a_backup_under_a_writer_is_sound(filled):
    """Files are written, renamed and removed all the time: what was there before is in it, and nothing in it is damaged."""
    m, v = filled, filled.vault
    a = v.actor(v.alice, m.point)
    a.do("""
import threading
def work():
    i = 0
    while not stop:
        i += 1
        os.makedirs(f'busy/{i % 5}', exist_ok=True)
        with open(f'busy/{i % 5}/{i % 20}.new', 'wb') as f: f.write(b'x' * (i * 977 % 60000))
        os.rename(f'busy/{i % 5}/{i % 20}.new', f'busy/{i % 5}/{i % 20}')
        with open('busy/grows', 'ab') as f: f.write(b'y' * 100)
        if i % 7 == 0: os.rename(f'busy/{i % 5}', 'busy/moved'); os.rename('busy/moved', f'busy/{i % 5}')
stop = False
t = threading.Thread(target=work); t.start()
""")
    first = backup(v, filled.to)
    second = backup(v, filled.to)
    a.do("stop = True; t.join(10); assert not t.is_alive()")
    assert first["signed"] and second["manifest"]["copied_bytes"] > 0
    r = v.coffer("drill", filled.to, "--scratch", v.base, "--json", check=None, timeout=60)
    unsettled = second["manifest"]["unsettled"]
    wrong = [w for w in r.json["wrong"] if not unsettled or "busy" not in w]
    assert wrong == [], (wrong, unsettled)
