"""Days that are over: what was never given out beside what was shredded goes from the keys, and nothing else does."""
import errno
import os
import sqlite3

import pytest

from harness import kill9, wait_for
from test_destroy import Clock, Mount, faketime, pass_time  # noqa: F401 (a fixture among them)

OTHER = "project"
GONE = (errno.ENOENT, errno.ENOKEY)  # after the sweep, before it
HEAD, NODE = 40 + 72 + 8, 41  # doc/format-keys.md


def nodes(v):
    tree, = (f for f in os.listdir(v.dir + "/keyd/keys") if f.endswith(".tree"))
    size = os.stat(f"{v.dir}/keyd/keys/{tree}").st_size - HEAD
    assert size % NODE == 0
    return size // NODE


def loads(v):
    with sqlite3.connect(v.dir + "/keyd/facts.db") as db:
        return db.execute("SELECT first_number, end_number, from_day, to_day FROM load ORDER BY id").fetchall()


def text(name):
    return f"what {name} holds\n"


def fill(m, prefix, n):
    m.python("import sys\nfor i in range(int(sys.argv[2])):\n n = sys.argv[1] + str(i)\n"
             " open(n, 'w').write(f'what {n} holds\\n')", prefix, str(n))


def expect(m, names):
    r = m.python("import sys\nfor n in sys.argv[1:]: assert open(n).read() == f'what {n} holds\\n', n", *names)
    assert r.rc == 0


def restart(v):
    """Ends the worker, without the wait for another session."""
    v.down()
    v.up(env=v.clock.env)


def restore(v, name):
    return v.coffer("restore", v.base + "/backups", "acme", name, check=None, timeout=60)


@pytest.mark.limit(150)
def test_a_day_that_is_over(make_vault, faketime):  # noqa: F811
    v = make_vault(up=False)
    v.clock = Clock(v.base + "/clock", faketime)
    v.up(env=v.clock.env)
    v.add()
    v.grant("acme", v.alice)

    # A load that ends well, and is then known to the number; one whose worker is killed.
    m = v.mount(v.alice)
    fill(m, "a", 40)
    m.unmount()
    restart(v)
    (first, end, from_day, to_day), = loads(v)
    assert 40 <= end - first < 60 and from_day == to_day > 0
    m = v.mount(v.alice)
    fill(m, "b", 20)
    kill9(m.worker())
    wait_for(lambda: not m.mounted(), "the mount to go", limit=15)
    m = v.mount(v.alice)
    assert [r[2:] for r in loads(v)[1:]] == [(0, 65535), (0, 65535)]
    m.unmount()
    restart(v)
    assert len(loads(v)) == 2, "a load that made nothing leaves a row"
    assert not set(range(first, end)) & set(range(*loads(v)[1][:2]))

    v.coffer("backup", v.base + "/backups")
    m = v.mount(v.alice)
    m.sh("rm a3 b3")
    m.unmount()

    # Shredded on the day itself: up to 32 siblings a file for numbers that may still be given out.
    v.coffer("shred", "acme", "a5", "--reason", "R", "--yes")
    whole = nodes(v)
    assert whole > 60
    pass_time(v, 5)
    v.coffer("shred", "acme", "b5", "--reason", "R", "--yes", timeout=60)
    assert nodes(v) < whole, "with one more shredded, less is kept"
    assert "nothing was ever given out" in v.logs()

    kept = [f"a{i}" for i in range(40) if i not in (3, 5)] + [f"b{i}" for i in range(20) if i not in (3, 5)]
    m = v.mount(v.alice)
    expect(m, kept)
    assert m.errno("open('a5')") in GONE and m.errno("open('b5')") in GONE
    # What was deleted, not shredded, comes back out of the backup; what was shredded does not.
    m.unmount()
    for name in ("a3", "b3"):
        wait_for(lambda: restore(v, name).rc == 0, "the sweep to end, and the file")
    for name in ("a5", "b5"):
        assert restore(v, name).rc != 0

    # Another class for an old file, of that day or the next that is not pruned; and the clock goes back to the day itself.
    wait_for(lambda: v.coffer("class", "set", "acme", "a7", OTHER, check=None).rc == 0, "the sweep to end")
    pass_time(v, 0)
    m = v.mount(v.alice)
    fill(m, "c", 10)
    kept += ["a3", "b3"] + [f"c{i}" for i in range(10)]
    expect(m, kept)
    m.unmount()
    restart(v)
    expect(v.mount(v.alice), kept)

    # The facts out of a copy: nobody knows what was given out since, so nothing more is pruned of these days.
    v.down()
    os.rename(v.dir + "/keyd/facts.db", v.base + "/facts.db")
    with open(v.base + "/facts.db", "rb") as old, open(v.dir + "/keyd/facts.db", "wb") as new:
        new.write(old.read())
    v.up(env=v.clock.env)
    pass_time(v, 9)
    before = nodes(v)
    v.coffer("shred", "acme", "c5", "--reason", "R", "--yes", timeout=60)
    assert nodes(v) > before + 20
    expect(v.mount(v.alice), [n for n in kept if n != "c5"])
