"""Nothing in clear below D: neither content nor names, symlink targets, extended attributes; nor in coffer-fsd's memory."""
import base64
import os
import re

import pytest

import harness

CONTENT, NAME, DIRECTORY, TARGET, ATTRIBUTE, VALUE, LONG, APPENDED = (
    f"Canary{word}Zanzibar7391" for word in ("Content", "Name", "Directory", "Target", "Attribute", "Value", "Long", "Appended"))
WORDS = [CONTENT, NAME, DIRECTORY, TARGET, ATTRIBUTE, VALUE, LONG, APPENDED]


def forms(word):
    """A word as it may stand in a file: plain, UTF-16, hex, base64 at each alignment."""
    raw = word.encode()
    yield raw
    yield word.encode("utf-16-le")
    yield raw.hex().encode()
    for skip in range(3):
        core = raw[(3 - skip) % 3:]
        yield base64.b64encode(core[:len(core) // 3 * 3])


PATTERNS = {f: w for w in WORDS for f in forms(w)}
PATTERN = re.compile(b"|".join(re.escape(p) for p in PATTERNS))
OVERLAP = max(map(len, PATTERNS))


def found_in(data):
    return sorted({PATTERNS[m] for m in PATTERN.findall(data)})


def search_files(top):
    hits = []
    for root, dirs, names in os.walk(top):
        for name in dirs + names:
            path = os.path.join(root, name)
            text = path.encode()
            if os.path.islink(path):
                text += os.readlink(path).encode()
            try:
                for attr in os.listxattr(path, follow_symlinks=False):
                    text += attr.encode() + os.getxattr(path, attr, follow_symlinks=False)
            except OSError:
                pass
            hits += [(path, w) for w in found_in(text)]
        for name in names:
            path = os.path.join(root, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    hits += [(path, w) for w in found_in(f.read())]
    return hits


def search_memory(pid):
    """Words found in a process's memory image, and the bytes that were looked at."""
    hits, seen = [], 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (r...) \S+ \S+ (\d+) *(.*)", line)
            if not m or m[5] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            at, end, tail = int(m[1], 16), int(m[2], 16), b""
            while at < end:
                try:
                    mem.seek(at)
                    data = mem.read(min(1 << 20, end - at))
                except OSError:
                    break
                if not data:
                    break
                seen += len(data)
                hits += [(m[5] or "anonymous", w) for w in found_in(tail + data)]
                tail, at = data[-OVERLAP:], at + len(data)
    return hits, seen


@pytest.fixture
def canaries(share):
    """A share full of words, with every kind of operation on them done."""
    share.python(f"""
import os
os.mkdir({DIRECTORY!r})
with open("{DIRECTORY}/{NAME}", "w") as f:
    f.write({CONTENT!r} * 3000)
open("{DIRECTORY}/{NAME}", "a").write({APPENDED!r} * 10)
assert {CONTENT!r} in open("{DIRECTORY}/{NAME}").read()
os.symlink({TARGET!r}, "link"); os.readlink("link")
os.symlink({TARGET!r} * 20, "link{LONG}")
os.setxattr("{DIRECTORY}/{NAME}", "user.{ATTRIBUTE}", {VALUE!r}.encode())
os.getxattr("{DIRECTORY}/{NAME}", "user.{ATTRIBUTE}")
open({LONG!r} * 11 + "end", "w").write({CONTENT!r})
os.rename("{DIRECTORY}/{NAME}", "{NAME}2"); os.link("{NAME}2", "{DIRECTORY}/{NAME}3"); os.unlink("{DIRECTORY}/{NAME}3")
os.truncate("{NAME}2", 5000)
for p in ("none{NAME}", "{DIRECTORY}/none"):
    try: open(p)
    except OSError: pass
os.listdir({DIRECTORY!r}); os.listdir(".")
""")
    return share


def test_the_search_finds_what_is_there(tmp_path):
    """The search itself: each form of a word is found in file, name, link and attribute, and in memory."""
    for i, form in enumerate(PATTERNS):
        (tmp_path / f"f{i}").write_bytes(os.urandom(100) + form + os.urandom(100))
    assert len(search_files(tmp_path)) >= len(PATTERNS)
    os.symlink(TARGET, tmp_path / "l")
    (tmp_path / NAME).touch()
    assert {w for _, w in search_files(tmp_path)} >= {TARGET, NAME}
    held = "".join(["CanaryValue", "Zanzibar7391"]).encode()
    assert VALUE in {w for _, w in search_memory(os.getpid())[0]}, held


@pytest.mark.sanitize
def test_nothing_in_clear_while_mounted(canaries):
    assert search_files(canaries.vault.dir) == []


def test_nothing_in_clear_after_the_record_was_asked_and_all_is_down(canaries):
    v = canaries.vault
    rows = v.log()
    assert any(NAME in str(r) for r in rows), "the record does know the names"
    v.coffer("log")
    v.status()
    canaries.unmount()
    assert search_files(v.dir) == []
    v.down()
    assert search_files(v.dir) == []


def test_nothing_in_clear_after_kill_9(canaries):
    v = canaries.vault
    for name in ("worker", "fsd", "keyd"):
        for pid in v.pids(name):
            harness.kill9(pid)
    assert search_files(v.dir) == []


def test_nothing_in_the_memory_of_fsd(canaries):
    v = canaries.vault
    v.log()
    try:
        hits, seen = search_memory(v.pid("fsd"))
    except PermissionError:
        pytest.skip("this kernel does not let root read another process's memory")
    assert seen > 1_000_000, seen
    # The descriptor's owner sees paths; what fsd handles is ciphertext and JSON about it.
    assert hits == []


def test_the_worker_leaves_no_core(share):
    """Plaintext and keys live in the workers: undumpable, and limited to no core."""
    pid = share.worker()
    with open(f"/proc/{pid}/limits") as f:
        core = next(line.split() for line in f if line.startswith("Max core file size"))
    assert core[4] == "0", core
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0
    for name in ("keyd", "fsd"):
        with open(f"/proc/{share.vault.pid(name)}/limits") as f:
            assert next(line.split() for line in f if line.startswith("Max core file size"))[4] == "0", name


def test_another_user_reads_nothing_of_the_store(canaries):
    v = canaries.vault
    r = v.bob.run("find", v.dir, "-type", "f", "-readable")
    assert r.out == "", r


def test_equal_contents_and_names_do_not_look_equal(acme):
    """Two files of one content, and one name in two directories, have nothing in common on disk."""
    m = acme.mount(acme.alice)
    m.sh("mkdir a b; head -c 12000 /dev/zero > a/same; cp a/same b/same; cp a/same b/other")
    m.unmount()
    files = list(harness.files_below(acme.store()))
    contents = [open(f, "rb").read() for f in files if os.path.getsize(f) > 8192]
    assert len(contents) == 3
    sectors = [c[i:i + 4096] for c in contents for i in range(4096, len(c) - 4095, 4096)]
    assert len(set(sectors)) == len(sectors)
    names = [os.path.basename(f) for f in files if os.path.getsize(f) > 8192]
    assert len(set(names)) == len(names)


def test_paths_in_the_ledger_need_the_key(canaries):
    """The ledger's file itself names nothing; asked with the key there, it does; to others it stays closed."""
    v = canaries.vault
    assert any((r.get("path") or "").startswith(DIRECTORY) for r in v.log("--client", "acme") if isinstance(r.get("path"), str))
    assert DIRECTORY not in v.coffer("log", "--json", user=v.bob, check=None).out
