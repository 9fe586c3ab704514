# ---- locks ----

def lock(fd, cmd, kind, start=0, n=0, whence=0):
    return fcntl.fcntl(fd, cmd, struct.pack("hhqqi4x", kind, whence, start, n, 0))


def probe(fd, cmd, kind, start=0, n=0):
    t, w, s, length, pid = struct.unpack("hhqqi4x", lock(fd, cmd, kind, start, n))
    return ["free"] if t == fcntl.F_UNLCK else [t, s, length, pid > 0 or pid]


def other(f):
    """In another process, with a descriptor of its own."""
    return child(lambda: with_fd("f", os.O_RDWR, f))


R, W, U = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


SPANS = ((0, 0), (0, 10), (10, 1), (19, 1), (20, 5), (45, 5), (60, 0), (1 << 40, 1))


@case
def locks():
    write("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    for name, get, put in (("posix", fcntl.F_GETLK, fcntl.F_SETLK), ("ofd", OFD_GETLK, OFD_SETLK)):
        def held(*ranges):
            lock(fd, put, U)
            for kind, start, n in ranges:
                lock(fd, put, kind, start, n)
        for ranges in ([(W, 0, 0)], [(R, 0, 0)], [(W, 10, 10)], [(R, 10, 10), (W, 15, 10)], [(W, 0, 100), (U, 40, 20)],
                       [(W, 0, 50), (R, 20, 10), (W, 50, 0)], [(R, 5, 5), (R, 10, 5)]):
            held(*ranges)
            check(f"{name} {ranges}", lambda: other(lambda g: [[k, s, n, probe(g, get, k, s, n), attempt(lambda: bool(lock(g, put, k, s, n)))]
                                                               for k in (R, W) for s, n in SPANS]))
        held()
        check(f"{name} whence end", lambda: bool(lock(fd, put, W, -10, 5, 2)))
        check(f"{name} is", lambda: other(lambda g: probe(g, get, R, 0, 0)))
        check(f"{name} negative length", lambda: (lock(fd, put, U), lock(fd, put, W, 20, -5))[1] and other(lambda g: probe(g, get, R, 0, 0)))
        check(f"{name} bad range", lambda: lock(fd, put, W, -5, 2))
        check(f"{name} bad type", lambda: lock(fd, put, 9, 0, 2))
        check(f"{name} max", lambda: bool(lock(fd, put, W, (1 << 63) - 1, 1)))
        check(f"{name} overflow", lambda: bool(lock(fd, put, W, (1 << 63) - 1, 5)))
        held()
        check(f"{name} W on read-only", lambda: with_fd("f", os.O_RDONLY, lambda g: bool(lock(g, put, W))))
        check(f"{name} R on write-only", lambda: with_fd("f", os.O_WRONLY, lambda g: bool(lock(g, put, R))))
    lock(fd, fcntl.F_SETLK, W)
    check("posix: own second descriptor does not conflict", lambda: with_fd("f", os.O_RDWR, lambda g: bool(lock(g, fcntl.F_SETLK, W))))
    check("posix: gone with any close", lambda: other(lambda g: bool(lock(g, fcntl.F_SETLK, W))))
    lock(fd, OFD_SETLK, W)
    check("ofd: own second descriptor conflicts", lambda: with_fd("f", os.O_RDWR, lambda g: bool(lock(g, OFD_SETLK, W))))
    check("ofd: not gone", lambda: other(lambda g: bool(lock(g, OFD_SETLK, W))))
    check("ofd against posix", lambda: other(lambda g: bool(lock(g, fcntl.F_SETLK, W))))
    check("ofd inherited", lambda: child(lambda: bool(lock(fd, OFD_SETLK, W))))
    check("ofd with a pid", lambda: fcntl.fcntl(fd, OFD_SETLK, struct.pack("hhqqi4x", W, 0, 0, 0, 5)))
    lock(fd, OFD_SETLK, U)
    fcntl.flock(fd, fcntl.LOCK_EX)
    check("flock: other process", lambda: other(lambda g: fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    check("flock: inherited", lambda: child(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    check("flock apart from posix", lambda: other(lambda g: bool(lock(g, fcntl.F_SETLK, W))))
    fcntl.flock(fd, fcntl.LOCK_SH)
    check("flock shared", lambda: other(lambda g: fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    check("flock upgrade in the way", lambda: other(lambda g: (fcntl.flock(g, fcntl.LOCK_SH), fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB))[1]))
    check("flock read-only descriptor", lambda: with_fd("f", os.O_RDONLY, lambda g: fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    check("flock dup", lambda: (os.close(os.dup(fd)), other(lambda g: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)))[1])
    fcntl.flock(fd, fcntl.LOCK_UN)
    check("flock of a directory", lambda: with_fd(".", os.O_RDONLY, lambda g: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)))
    check("posix lock of a directory", lambda: with_fd(".", os.O_RDONLY, lambda g: bool(lock(g, fcntl.F_SETLK, R))))


@case
def read_only_locks():
    """Gone with any close by the process, through whichever descriptor."""
    def may_write(name):
        return child(lambda: with_fd(name, os.O_RDWR, lambda g: bool(lock(g, fcntl.F_SETLK, W))))
    def second(name, make):
        a = os.open(name, os.O_RDONLY)
        b = make(a)
        lock(a, fcntl.F_SETLK, R)
        before = child(lambda: with_fd(name, os.O_RDWR, lambda g: attempt(lambda: bool(lock(g, fcntl.F_SETLK, W)))))
        os.close(b)
        after = child(lambda: with_fd(name, os.O_RDWR, lambda g: attempt(lambda: bool(lock(g, fcntl.F_SETLK, W)))))
        os.close(a)
        return [before, after, may_write(name)]
    write("new", b"x" * 10)
    check("first lock of all, own second descriptor closed", lambda: second("new", lambda a: os.open("new", os.O_RDONLY)))
    write("f", b"x" * 10)
    check("locked before", lambda: may_write("f"))
    check("own second descriptor closed", lambda: second("f", lambda a: os.open("f", os.O_RDONLY)))
    check("own copy of the descriptor closed", lambda: second("f", os.dup))
    def ended():
        """Who took it is gone, a child of his still has the descriptor."""
        r, w = os.pipe()
        def take():
            fd = os.open("f", os.O_RDONLY)
            lock(fd, fcntl.F_SETLK, R)
            if os.fork() == 0:
                for n in set(range(3, 100)) - {fd, r}:  # the pipe of child() as well
                    attempt(lambda: os.close(n))
                os.read(r, 1)
                os._exit(0)
            return True
        taken = child(take)
        after = child(lambda: with_fd("f", os.O_RDWR, lambda g: attempt(lambda: bool(lock(g, fcntl.F_SETLK, W)))))
        os.write(w, b"x")
        os.close(r), os.close(w)
        return [taken, after]
    check("process ended, its child has the descriptor", ended)


def waiter(action, ready=0.15):
    """A child that runs `action`; its pid and the pipe with its answer."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os.close(r)
        try:
            value = action()
        except OSError as e:
            value = errno.errorcode[e.errno]
        os.write(w, json.dumps(value).encode())
        os._exit(0)
    os.close(w)
    time.sleep(ready)
    return pid, r


def answer(pid, r):
    data = os.read(r, 1000)
    os.close(r)
    status = os.waitpid(pid, 0)[1]
    return json.loads(data) if data else f"signal {os.WTERMSIG(status)}"


@case
def waiting_locks():
    write("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    for name, take, put in (("posix", lambda g, kind=W, s=0, n=0: bool(lock(g, fcntl.F_SETLKW, kind, s, n)), lambda: lock(fd, fcntl.F_SETLK, U)),
                            ("ofd", lambda g, kind=W, s=0, n=0: bool(lock(g, OFD_SETLKW, kind, s, n)), lambda: lock(fd, OFD_SETLK, U)),
                            ("flock", lambda g, kind=W, s=0, n=0: fcntl.flock(g, fcntl.LOCK_EX) or True, lambda: fcntl.flock(fd, fcntl.LOCK_UN))):
        def again(*args):
            return with_fd("f", os.O_RDWR, lambda g: take(g, *args))

        take(fd)
        pid, r = waiter(again)
        check(f"{name} waits", lambda: select_empty(r))
        put()
        check(f"{name} woken", lambda: answer(pid, r))
        take(fd)

        def interrupted():
            def on(*_):
                raise InterruptedError(errno.EINTR, "signal")
            signal.signal(signal.SIGUSR1, on)
            return again()
        pid, r = waiter(interrupted)
        os.kill(pid, signal.SIGUSR1)
        check(f"{name} interrupted", lambda: answer(pid, r))
        pid, r = waiter(again)
        os.kill(pid, signal.SIGKILL)
        check(f"{name} killed while waiting", lambda: answer(pid, r))
        put()
        check(f"{name} nothing left of it", lambda: other(lambda g: take(g)))
        pid, r = waiter(lambda: (again_keep(take), time.sleep(30))[1])
        check(f"{name} held by a child", lambda: attempt_nb(name, fd))
        os.kill(pid, signal.SIGKILL)
        answer(pid, r)
        check(f"{name} released by its death", lambda: take(fd))
        put()
    check("deadlock", deadlock)
    check("deadlock of three", deadlock3)


def again_keep(take):
    g = os.open("f", os.O_RDWR)
    return take(g)


def attempt_nb(name, fd):
    if name == "flock":
        return attempt(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
    return attempt(lambda: bool(lock(fd, fcntl.F_SETLK if name == "posix" else OFD_SETLK, W)))


def select_empty(r):
    import select
    return select.select([r], [], [], 0)[0] == []


def deadlock():
    a = os.open("f", os.O_RDWR)
    lock(a, fcntl.F_SETLK, W, 0, 1)

    def them():
        g = os.open("f", os.O_RDWR)
        lock(g, fcntl.F_SETLK, W, 1, 1)
        return bool(lock(g, fcntl.F_SETLKW, W, 0, 1))
    pid, r = waiter(them, 0.3)
    mine = attempt(lambda: bool(child_alarm(lambda: lock(a, fcntl.F_SETLKW, W, 1, 1))))
    lock(a, fcntl.F_SETLK, U)
    theirs = answer(pid, r)
    os.close(a)
    return [mine, theirs]


def child_alarm(f):
    """With a limit, so that a lock that is never given does not hang the test."""
    def on(*_):
        raise TimeoutError(errno.ETIMEDOUT, "waited")
    signal.signal(signal.SIGALRM, on)
    signal.alarm(3)
    try:
        return f()
    finally:
        signal.alarm(0)


def deadlock3():
    a = os.open("f", os.O_RDWR)
    lock(a, fcntl.F_SETLK, W, 0, 1)

    def hold(mine, then):
        def go():
            g = os.open("f", os.O_RDWR)
            lock(g, fcntl.F_SETLK, W, mine, 1)
            time.sleep(0.2)
            return bool(lock(g, fcntl.F_SETLKW, W, then, 1))
        return go
    p1 = waiter(hold(1, 2), 0.05)
    p2 = waiter(hold(2, 0), 0.5)
    mine = attempt(lambda: bool(child_alarm(lambda: lock(a, fcntl.F_SETLKW, W, 1, 1))))
    lock(a, fcntl.F_SETLK, U)
    got = [mine, answer(*p2), answer(*p1)]
    os.close(a)
    return got


@case
def leases():
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    write("f", b"x")
    for name, flags in (("ro", os.O_RDONLY), ("rw", os.O_RDWR), ("wo", os.O_WRONLY)):
        fd = os.open("f", flags)
        for kind in (R, W, U):
            check(f"{name} set {kind}", lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, kind))
            check(f"{name} get {kind}", lambda: fcntl.fcntl(fd, fcntl.F_GETLEASE))
            check(f"{name} another reader {kind}", lambda: child(lambda: opened("f", os.O_RDONLY | os.O_NONBLOCK)))
            check(f"{name} another writer {kind}", lambda: child(lambda: opened("f", os.O_WRONLY | os.O_NONBLOCK)))
            check(f"{name} off {kind}", lambda: fcntl.fcntl(fd, fcntl.F_SETLEASE, U))
        os.close(fd)
    check("of a directory", lambda: with_fd(".", os.O_RDONLY, lambda g: fcntl.fcntl(g, fcntl.F_SETLEASE, R)))
    check("notify", lambda: with_fd(".", os.O_RDONLY, lambda g: fcntl.fcntl(g, fcntl.F_NOTIFY, 0)))


@case
def the_file_system():
    v = os.statvfs(".")
    check("namemax", lambda: v.f_namemax)
    check("blocks", lambda: v.f_blocks > 0 and v.f_bfree <= v.f_blocks and v.f_bavail <= v.f_bfree)
    check("files", lambda: v.f_files > 0 and v.f_ffree <= v.f_files)
    check("frsize", lambda: v.f_frsize)
    check("pathconf name", lambda: os.pathconf(".", "PC_NAME_MAX"))
    check("pathconf path", lambda: os.pathconf(".", "PC_PATH_MAX"))
    check("syncfs", lambda: with_fd(".", os.O_RDONLY, lambda g: sys_call("syncfs", g)))
    write("f", b"x" * 10000)
    check("one device", lambda: os.stat("f").st_dev == os.stat(".").st_dev)
    check("blksize", lambda: os.stat("f").st_blksize)
    check("blocks of a file", lambda: 16 <= os.stat("f").st_blocks <= 64)
    check("stable inode number", lambda: os.stat("f").st_ino == os.stat("f").st_ino)
    check("inode number after rename", lambda: (os.stat("f").st_ino, os.rename("f", "g"))[0] == os.stat("g").st_ino)
    fd = os.open("g", os.O_RDWR)
    check("fadvise", lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED))
    check("readahead", lambda: sys_call("readahead", fd, 0, 4096))
    check("sync_file_range", lambda: sys_call("sync_file_range", fd, 0, 4096, 7))
    check("fdatasync", os.fdatasync, fd)
    check("splice out", splice_out)
    check("O_CLOEXEC", lambda: not os.get_inheritable(fd))


def splice_out():
    r, w = os.pipe()
    fd = os.open("g", os.O_RDONLY)
    n = os.splice(fd, w, 5000) if hasattr(os, "splice") else 5000
    os.close(fd)
    return n > 0
