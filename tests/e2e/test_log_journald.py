"""`coffer log --format journald`: each row is an entry of the system's journal; nothing in a row can pretend to be a field."""
import os
import socket

import pytest

import harness
from harness import OK, TICKET, UNREACHABLE

PLACE = "/run/systemd/journal"


@pytest.fixture
def journal(acme):
    os.makedirs(PLACE, exist_ok=True)
    os.mkdir(acme.base + "/journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(acme.base + "/journal/socket")
        s.settimeout(10)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        yield s


def log(v, *args, journal="/journal", check=OK):
    """With a journal of its own at the place where the system's is."""
    if not os.path.isdir(v.base + journal):
        os.mkdir(v.base + journal)
    r = harness.run(["unshare", "-m", "/bin/sh", "-euc", 'mount --bind "$1" "$2"; shift 2; exec "$@"', "sh", v.base + journal, PLACE,
                     v.programs + "/tools/coffer", "--dir", v.dir, "log", "--format", "journald", *args], timeout=30)
    assert r.rc == check, r
    return r


def entry(data):
    """The native format: NAME=value, or NAME, a newline, the length (64 bits), the value."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
            data = rest
        else:
            n = int.from_bytes(rest[:8], "little")
            name, value, data = line, rest[8:8 + n], rest[8 + n + 1:]
        assert name not in fields, name
        fields[name.decode()] = value.decode()
    return fields


def entries(journal):
    journal.settimeout(0.5)
    found = []
    while True:
        try:
            found.append(entry(journal.recv(1 << 20)))
        except TimeoutError:
            return found


def test_each_row_is_an_entry(journal, acme):
    m = acme.mount(acme.alice)
    m.sh('echo x > f; echo y > "$(printf "a\\nCOFFER_USER=root")"')
    m.unmount()
    log(acme, "--user", acme.alice.name)
    rows = {r["id"]: r for r in acme.log("--user", acme.alice.name)}
    found = entries(journal)
    assert len({e["COFFER_ID"] for e in found}) == len(found) >= len(rows) - 1 > 3
    for e in found:
        r = rows[e["COFFER_ID"]]
        assert e["SYSLOG_IDENTIFIER"] == "coffer-log" and e["MESSAGE_ID"] == "5d0c1f6f8f3f4a2e9a67c2a1d1b7e904"
        assert e["COFFER_OP"] == r["op"] and e["COFFER_USER"] == acme.alice.name and e.get("COFFER_PATH") == r.get("path")
        assert e["PRIORITY"] == ("5" if r["outcome"] else "6")
        assert e["MESSAGE"].startswith(f"{r['op']} by {acme.alice.name} for acme: "), e
    assert any("\n" in e.get("COFFER_PATH", "") for e in found)


def test_pseudonyms(journal, acme):
    m = acme.mount(acme.alice)
    m.write("secret-name", "x")
    m.unmount()
    log(acme, "--pseudonyms", acme.base + "/key")
    text = str(entries(journal))
    assert "COFFER_OP" in text and acme.alice.name not in text and "secret-name" not in text and "acme" not in text and TICKET not in text


def test_no_journal_is_an_error(acme):
    os.makedirs(PLACE, exist_ok=True)
    r = log(acme, journal="/empty", check=UNREACHABLE)
    assert "journal is not there" in r.err
