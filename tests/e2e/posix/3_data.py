# ---- data ----

@case
def truncate_sizes():
    """Up and down at every size around the borders of sectors and pages."""
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    rnd = random.Random(3)
    data = rnd.randbytes(13000)
    for a in EDGES:
        for b in EDGES[:: 2 if a % 3 else 1]:
            os.ftruncate(fd, 0)
            os.pwrite(fd, data[:a], 0)
            os.ftruncate(fd, b)
            os.ftruncate(fd, 12500)
            log.append([f"{a} to {b}", hash_of(os.pread(fd, 20000, 0))])
    for size in EDGES + EDGES[::-1]:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"!", max(0, size - 1))
        log.append([f"at {size}", [os.fstat(fd).st_size, hash_of(os.pread(fd, 20000, 0))]])
    check("negative", os.ftruncate, fd, -1)
    check("read-only", lambda: with_fd("f", os.O_RDONLY, lambda g: os.ftruncate(g, 0)))
    check("same size changes times", lambda: (os.utime("f", (1, 1)), os.truncate("f", os.stat("f").st_size), os.stat("f").st_mtime > 1)[2])
    check("O_TRUNC", lambda: (opened("f", os.O_WRONLY | os.O_TRUNC), os.stat("f").st_size)[1])
    check("O_TRUNC of empty: mtime", lambda: (os.utime("f", (1, 1)), opened("f", os.O_WRONLY | os.O_TRUNC), os.stat("f").st_mtime > 1)[2])
    check("O_TRUNC|O_RDONLY", lambda: (write("g", b"12345"), opened("g", os.O_RDONLY | os.O_TRUNC), os.stat("g").st_size)[2])
    os.chmod("f", 0o400)
    check("no right", os.truncate, "f", 0)
    check("O_TRUNC no right", opened, "f", os.O_RDONLY | os.O_TRUNC)
    check("open file may", os.ftruncate, fd, 5)


@case
def reads_and_writes():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    rnd = random.Random(5)
    for at in EDGES:
        for n in (1, 2, 4031, 4032, 4033, 4096, 8064, 9000):
            os.pwrite(fd, rnd.randbytes(n), at)
            log.append([f"write {n} at {at}", [os.fstat(fd).st_size, hash_of(os.pread(fd, 40000, 0)), hash_of(os.pread(fd, n, at + 1))]])
    check("empty write", lambda: os.pwrite(fd, b"", 99999))
    check("size", lambda: os.fstat(fd).st_size)
    check("at the end", lambda: os.pread(fd, 10, os.fstat(fd).st_size))
    check("beyond", lambda: os.pread(fd, 10, 1 << 40))
    check("writev", lambda: os.pwritev(fd, [b"a" * 5000, b"", b"b" * 3], 100))
    check("readv", lambda: os.preadv(fd, [bytearray(3000), bytearray(3000)], 50))
    check("content", lambda: os.pread(fd, 40000, 0))
    check("negative offset", lambda: os.pread(fd, 1, -1))
    check("negative write", lambda: os.pwrite(fd, b"1", -1))
    check("far", lambda: (os.pwrite(fd, b"end", 1 << 40), os.fstat(fd).st_size)[1])
    check("far read", lambda: os.pread(fd, 5, (1 << 40) - 2))
    check("no right to read", lambda: with_fd("f", os.O_WRONLY, lambda g: os.read(g, 1)))
    check("no right to write", lambda: with_fd("f", os.O_RDONLY, lambda g: os.write(g, b"1")))
    check("dir read", lambda: with_fd(".", os.O_RDONLY, lambda g: os.read(g, 1)))
    check("dir write", opened, ".", os.O_WRONLY)
    check("sync flags", lambda: with_fd("s", os.O_CREAT | os.O_RDWR | os.O_SYNC, lambda g: os.write(g, b"1" * 5000)))
    check("dsync flags", lambda: with_fd("s", os.O_RDWR | os.O_DSYNC | os.O_APPEND, lambda g: os.write(g, b"1" * 5000)))
    check("s", lambda: os.stat("s").st_size)
    check("noatime", opened, "s", os.O_RDONLY | os.O_NOATIME)
    check("pwrite in append mode goes to the end", lambda: with_fd("s", os.O_RDWR | os.O_APPEND, lambda g: (os.pwrite(g, b"end", 0), os.fstat(g).st_size)[1]))
    check("append position", lambda: with_fd("s", os.O_RDWR | os.O_APPEND, lambda g: (os.write(g, b"x"), os.lseek(g, 0, 1))[1]))
    check("append switched on", lambda: with_fd("s", os.O_RDWR, lambda g: (fcntl.fcntl(g, fcntl.F_SETFL, os.O_APPEND), os.write(g, b"12"), os.fstat(g).st_size)[2]))
    check("append switched off", lambda: with_fd("s", os.O_RDWR | os.O_APPEND, lambda g: (fcntl.fcntl(g, fcntl.F_SETFL, 0), os.write(g, b"ZZ"), os.fstat(g).st_size, os.pread(g, 3, 0).decode())[2:]))
    check("limit", lambda: child(over_limit))


def over_limit():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
    fd = os.open("limited", os.O_RDWR | os.O_CREAT, 0o644)
    return [os.write(fd, b"x" * 20000), attempt(lambda: os.write(fd, b"y")), attempt(lambda: os.ftruncate(fd, 10001))]


def attempt(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]


@case
def appends_of_processes():
    """Whole lines of eight processes, none lost, none torn."""
    pids = []
    for i in range(8):
        pid = os.fork()
        if pid == 0:
            fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for j in range(60):
                os.write(fd, f"{i}:{j}:{'x' * (j * 7 % 300)}\n".encode())
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = read("log").decode().splitlines()
    check("lines", lambda: len(lines))
    check("whole", lambda: all(x.split(":")[2] == "x" * (int(x.split(":")[1]) * 7 % 300) for x in lines))
    check("in order", lambda: all([int(x.split(":")[1]) for x in lines if x[0] == str(i)] == list(range(60)) for i in range(8)))


def has_data(fd, size):
    """The bytes that are surely not all zero lie in what SEEK_DATA calls data, and holes read as zeros."""
    at, regions = 0, []
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO, e
            start = size
        assert os.pread(fd, start - at, at) == bytes(start - at), (at, start)
        if start == size:
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        assert end > start and end <= size, (start, end)
        regions.append((start, end))
        at = end
    return regions


@case
def sparse():
    fd = os.open("s", os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, 10_000_000)
    check("all hole", lambda: os.lseek(fd, 0, os.SEEK_DATA))
    check("hole at once", lambda: os.lseek(fd, 0, os.SEEK_HOLE))
    check("beyond data", lambda: os.lseek(fd, 10_000_000, os.SEEK_DATA))
    check("beyond hole", lambda: os.lseek(fd, 10_000_001, os.SEEK_HOLE))
    check("negative", lambda: os.lseek(fd, -1, os.SEEK_DATA))
    for at in (5_000_000, 1_000_000, 9_999_999):
        os.pwrite(fd, b"d", at)
        os.fsync(fd)
        regions = has_data(fd, 10_000_000)
        check("in data", lambda: any(a <= at < b for a, b in regions))
        check("few blocks", lambda: os.fstat(fd).st_blocks < 400)
        check("not all data", lambda: sum(b - a for a, b in regions) < 1_000_000)
    fallocate(fd, PUNCH | KEEP, 4_900_000, 200_000)
    check("punched", lambda: any(a <= 5_000_000 < b for a, b in has_data(fd, 10_000_000)))
    check("SEEK_END", lambda: os.lseek(fd, -5, os.SEEK_END))
    check("SEEK_SET far", lambda: os.lseek(fd, 1 << 50, os.SEEK_SET))
    check("SEEK_CUR neg", lambda: (os.lseek(fd, 0, 0), os.lseek(fd, -1, os.SEEK_CUR))[1])
    check("bad whence", lambda: os.lseek(fd, 0, 77))
    write("full", b"x" * 100_000)
    f = os.open("full", os.O_RDWR)
    check("full: data", lambda: os.lseek(f, 500, os.SEEK_DATA))
    check("full: hole", lambda: os.lseek(f, 500, os.SEEK_HOLE))
    check("full: at the end", lambda: os.lseek(f, 100_000, os.SEEK_HOLE))
    write("none", b"")
    check("empty: data", lambda: with_fd("none", os.O_RDONLY, lambda g: os.lseek(g, 0, os.SEEK_DATA)))
    check("empty: hole", lambda: with_fd("none", os.O_RDONLY, lambda g: os.lseek(g, 0, os.SEEK_HOLE)))


@case
def allocation():
    rnd = random.Random(11)
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    base = rnd.randbytes(13000)
    for mode in (0, KEEP, PUNCH | KEEP, ZERO, ZERO | KEEP):
        for at in EDGES[::2]:
            for n in (1, 2, 4031, 4032, 4033, 4096, 8192, 20000):
                os.ftruncate(fd, 0)
                os.pwrite(fd, base, 0)
                try:
                    fallocate(fd, mode, at, n)
                    r = 0
                except OSError as e:
                    r = errno.errorcode[e.errno]
                log.append([f"mode {mode} {n} at {at}", [r, os.fstat(fd).st_size, hash_of(os.pread(fd, 40000, 0))]])
    for mode in (PUNCH, COLLAPSE | KEEP, INSERT | KEEP, 0x1000, PUNCH | ZERO | KEEP):
        check(f"refused mode {mode}", fallocate, fd, mode, 0, 4096)
    for at, n in ((-1, 5), (0, 0), (0, -1), (1 << 62, 1 << 62), (5, 0)):
        check(f"refused {n} at {at}", fallocate, fd, 0, at, n)
        check(f"punch refused {n} at {at}", fallocate, fd, PUNCH | KEEP, at, n)
    check("punch beyond the end", fallocate, fd, PUNCH | KEEP, 1_000_000, 4096)
    check("size", lambda: os.fstat(fd).st_size)
    check("read-only", lambda: with_fd("f", os.O_RDONLY, lambda g: fallocate(g, 0, 0, 10)))
    check("dir", lambda: with_fd(".", os.O_RDONLY, lambda g: fallocate(g, 0, 0, 10)))
    os.mkfifo("p")
    check("fifo", lambda: with_fd("p", os.O_RDWR, lambda g: fallocate(g, 0, 0, 10)))
    check("posix_fallocate", lambda: (os.posix_fallocate(fd, 0, 50_000), os.fstat(fd).st_size)[1])
    os.utime("f", (1, 1))
    fallocate(fd, PUNCH | KEEP, 0, 100)
    check("punch moves mtime", lambda: os.fstat(fd).st_mtime > 1)


@case
def copying():
    rnd = random.Random(13)
    write("a", rnd.randbytes(50_000))
    s, d = os.open("a", os.O_RDONLY), os.open("b", os.O_RDWR | os.O_CREAT, 0o644)
    for src, dst, n in ((0, 0, 50_000), (100, 7, 9000), (4032, 4096, 4032), (49_000, 60_000, 5000), (50_000, 0, 10), (60_000, 0, 10), (5, 5, 0)):
        def go():
            done = 0
            while done < n:
                k = os.copy_file_range(s, d, n - done, src + done, dst + done)
                if not k:
                    break
                done += k
            return done
        check(f"copy {n} from {src} to {dst}", go)
        check("is", lambda: [os.fstat(d).st_size, hash_of(os.pread(d, 99999, 0))])
    check("overlap", lambda: os.copy_file_range(d, d, 1000, 0, 500))
    check("same file apart", lambda: os.copy_file_range(d, d, 1000, 0, 30_000))
    check("to a read-only", lambda: os.copy_file_range(d, s, 10, 0, 0))
    check("from a write-only", lambda: with_fd("b", os.O_WRONLY, lambda g: os.copy_file_range(g, d, 10, 0, 0)))
    check("to append", lambda: with_fd("b", os.O_WRONLY | os.O_APPEND, lambda g: os.copy_file_range(s, g, 10, 0)))
    check("dir", lambda: with_fd(".", os.O_RDONLY, lambda g: os.copy_file_range(g, d, 10, 0, 0)))
    check("sendfile", lambda: os.sendfile(d, s, 0, 1000))
    check("is at last", lambda: hash_of(os.pread(d, 99999, 0)))


@case
def mapping():
    write("m", b"a" * 20_000)
    fd = os.open("m", os.O_RDWR)
    m = mmap.mmap(fd, 20_000)
    m[4000:4200] = b"M" * 200
    check("read sees it", lambda: os.pread(fd, 300, 3950))
    os.pwrite(fd, b"W" * 100, 8000)
    check("mapping sees it", lambda: m[7990:8110])
    m.flush()
    check("fsync", os.fsync, fd)
    check("content", lambda: read("m"))
    p = mmap.mmap(fd, 20_000, flags=mmap.MAP_PRIVATE)
    p[0:3] = b"prv"
    check("private stays private", lambda: os.pread(fd, 3, 0))
    check("in a child", lambda: child(lambda: m[4000:4003].decode()))
    def in_child():
        m[12_000:12_005] = b"CHILD"
    check("from a child", lambda: child(in_child))
    check("seen", lambda: m[12_000:12_005])
    check("beyond the end: signal", lambda: child(beyond))
    check("tail of the last page is zero", lambda: tail(fd))
    check("write mapping of a read-only", lambda: with_fd("m", os.O_RDONLY, lambda g: mmap.mmap(g, 100, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE).close()))
    check("mapping of a write-only", lambda: with_fd("m", os.O_WRONLY, lambda g: mmap.mmap(g, 100).close()))
    os.ftruncate(fd, 4096)
    check("cut", lambda: child(lambda: m[5000]))
    os.ftruncate(fd, 20_000)
    check("and grown", lambda: m[5000:5003])
    m[19_000:19_003] = b"end"
    m.close()
    check("after unmapping", lambda: read("m"))


def beyond():
    write("short", b"x" * 100)
    with open("short", "r+b") as f:
        m = mmap.mmap(f.fileno(), 100)
        os.ftruncate(f.fileno(), 0)
        return m[0]


def tail(fd):
    os.ftruncate(fd, 5000)
    m = mmap.mmap(fd, 5000)
    size = len(m)
    m[4990:5000] = b"T" * 10
    os.ftruncate(fd, 4995)
    os.ftruncate(fd, 5000)
    got = m[4985:5000]
    m.close()
    os.ftruncate(fd, 20_000)
    return repr(got) + str(size)


@case
def direct():
    write("f", bytes(range(256)) * 200)
    fd = os.open("f", os.O_RDWR | os.O_DIRECT)
    buf = mmap.mmap(-1, 16384)
    check("aligned read", lambda: (os.preadv(fd, [buf], 4096), hash_of(buf[:])))
    buf[:] = b"D" * 16384
    check("aligned write", lambda: os.pwritev(fd, [buf], 8192))
    check("cached read sees it", lambda: hash_of(read("f")))
    check("at the end", lambda: os.preadv(fd, [buf], 49152))
    check("beyond", lambda: os.preadv(fd, [buf], 65536))
    check("append through it", lambda: os.pwritev(fd, [memoryview(buf)[:4096]], 53248))
    check("size", lambda: os.fstat(fd).st_size)
    other = os.open("f", os.O_RDWR)
    os.pread(other, 60000, 0)
    os.pwritev(fd, [memoryview(buf)[:4096]], 0)
    check("not stale", lambda: os.pread(other, 5, 0))
    os.pwrite(other, b"C" * 4096, 0)
    check("nor the other way", lambda: (os.preadv(fd, [memoryview(buf)[:4096]], 0), buf[:5].decode()))
    check("fcntl on", lambda: fcntl.fcntl(other, fcntl.F_SETFL, os.O_DIRECT))
