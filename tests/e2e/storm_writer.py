"""A user's programs at work in his mount, for the storm of kills (test_kill9.py).

Arguments: folder below the mount, the file `log` outside it, round, seed.  Several threads, each a program of its own kind;
each tells what was acknowledged to it (a system call that returned), in lines of the log:

    try NAME / open NAME            before and after an open of NAME
    ack KIND NUMBER                 this step of that kind is fsynced

Ends when the share fails, or by SIGTERM.
"""
import hashlib
import os
import random
import sqlite3
import sys
import threading

where, log_path, round_no, seed, journal_mode = sys.argv[1:6]
log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def log(*words):
    os.write(log_fd, (" ".join(map(str, words)) + "\n").encode())


def opened(name, flags, mode=0o644):
    path = os.path.join(where, name)
    log("try", name)
    fd = os.open(path, flags, mode)
    log("open", name)
    return fd


def document(n, name):
    """The text of a version; its first line says all of it."""
    size = random.Random(f"{name}{n}").choice([0, 10, 3000, 4032, 4033, 9000, 70000])
    return f"{n} {size}\n".encode() + hashlib.shake_128(f"{name}{n}".encode()).digest(size)


def lines(name, rnd, n):
    """Appends lines and syncs them, opening anew now and then."""
    while True:
        fd = opened(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for _ in range(rnd.randrange(1, 8)):
                for _ in range(rnd.randrange(1, 4)):
                    n += 1
                    os.write(fd, b"%d %s\n" % (n, b"x" * (n % 97)))
                os.fsync(fd)
                log("ack", name, n)
        finally:
            os.close(fd)


def editor(name, rnd, n):
    """Saves as editors do: beside, sync, over it, sync the folder."""
    folder = os.open(where, os.O_RDONLY)
    while True:
        n += 1
        fd = opened(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        data = document(n, name)
        while data:
            data = data[os.write(fd, data[:rnd.choice([500, 4032, 100000])]):]
        os.fsync(fd)
        os.close(fd)
        os.rename(f"{where}/{name}.new", f"{where}/{name}")
        os.fsync(folder)
        log("ack", name, n)


def database(name, rnd, n):
    db = sqlite3.connect(f"{where}/{name}", timeout=20, isolation_level=None)
    db.execute(f"PRAGMA journal_mode={journal_mode}")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, b BLOB)")
    while True:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(rnd.randrange(1, 20)):
            n += 1
            db.execute("INSERT INTO t VALUES (?, ?)", (n, b"z" * (n % 700)))
        db.execute("COMMIT")
        log("ack", name, n)


def trees(name, rnd, n):
    """Makes folders with files in them, renames and removes them."""
    folder = os.open(where, os.O_RDONLY)
    while True:
        n += 1
        making, made = f"{where}/{name}-new-{round_no}-{n}", f"{where}/{name}-{round_no}-{n}"
        os.mkdir(making)
        os.mkdir(making + "/deep")
        for k in range(rnd.randrange(1, 5)):
            fd = os.open(f"{making}/deep/f{k}", os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, document(k, "tree"))
            os.fsync(fd)
            os.close(fd)
        os.symlink("deep/f0", making + "/link")
        os.rename(making, made)
        os.fsync(folder)
        log("ack", name, n)
        if n > 3:
            old = f"{where}/{name}-{round_no}-{n - 3}"
            log("gone", name, n - 3)
            for k in os.listdir(old + "/deep"):
                os.unlink(f"{old}/deep/{k}")
            os.unlink(old + "/link")
            os.rmdir(old + "/deep")
            os.rmdir(old)


def reader(name, rnd, n):
    """Opens what others write; a file that is not there (yet) is no failure."""
    while True:
        try:
            fd = opened(rnd.choice(["lines", "doc"]), os.O_RDONLY)
        except FileNotFoundError:
            os.stat(where)  # the share itself may be gone
            continue
        os.read(fd, 5000)
        os.close(fd)


def forever(program, name, n):
    try:
        program(name, random.Random(f"{seed} {name}"), n)
    except (OSError, sqlite3.Error) as e:
        log("end", name, repr(e))


def last_number(name):
    """Where the last round came to: the reader of the share knows best."""
    return int(numbers.get(name, 0))


numbers = dict(a.split("=") for a in sys.argv[6:])
if __name__ == "__main__":
    programs = [(lines, "lines"), (editor, "doc"), (database, "db"), (trees, "tree"), (reader, "reader"), (lines, "more")]
    running = [threading.Thread(target=forever, args=(p, name, last_number(name))) for p, name in programs]
    for t in running:
        t.start()
    for t in running:
        t.join()
