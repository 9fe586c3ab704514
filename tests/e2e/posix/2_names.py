# ---- names and paths ----

@case
def names():
    for n in (1, 160, 161, 254, 255, 256, 300):
        name = "n" * n
        check(f"create {n}", write, name)
        check(f"stat {n}", lambda: os.stat(name).st_size)
        check(f"mkdir {n}", os.mkdir, "d" * n)
        check(f"symlink {n}", os.symlink, "t", "s" * n)
        check(f"link {n}", os.link, "n", "l" * n)
        check(f"rename to {n}", os.rename, "n" * n, "r" * n)
        check(f"mkfifo {n}", os.mkfifo, "f" * n)
        check(f"unlink {n}", os.unlink, "r" * n)
        write("n")
        check(f"rename from {n}", os.rename, "missing" + "n" * n, "to")
        check(f"rmdir {n}", os.rmdir, "d" * n)
        check(f"readlink {n}", os.readlink, "s" * n)
        check(f"utf8 {n}", write, "ä" * (n // 2))
        check(f"noreplace {n}", rename2, "n", "q" * n, NOREPLACE)
        write("n")
    for name in (".id", ".id+", ".nabc", ".t" + "a" * 22, ".u" + "a" * 22, "..x", "...", "+", " ", "\n", "\x01", "a\\b", "*"):
        check(f"odd name {name!r}", write, name)
        check(f"listed {name!r}", lambda: name in os.listdir("."))
    check("bytes", write, b"\xff\xfe\x80")
    check("empty", write, "")
    check("empty mkdir", os.mkdir, "")
    check("dot", os.mkdir, ".")
    check("rmdir dot", os.rmdir, ".")
    check("rmdir dotdot", os.rmdir, "d/..")
    check("rename dot", os.rename, ".", "x")
    check("unlink dot", os.unlink, ".")
    check("sorted", lambda: [n[:20] for n in sorted(os.listdir("."))])


@case
def long_paths():
    """4095 bytes are a path, 4096 are not; deeper trees are reached step by step."""
    part = "p" * 254
    top = os.getcwd()
    here = os.open(".", os.O_RDONLY)
    fd = here
    for depth in range(20):
        os.mkdir(part, dir_fd=fd)
        fd = os.open(part, os.O_RDONLY, dir_fd=fd)
    write_fd = os.open("deep", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.close(write_fd)
    check("deep", lambda: os.listdir(fd))
    fifteen = "/".join([part] * 15)
    for n in (4094, 4095, 4096, 5000):
        rest = n - len(fifteen) - 1
        p = fifteen + "/" + "./" * (rest // 2 - 1) + "x" * (2 + rest % 2)
        check(f"path of {n}, {len(p)}", write, p)
        check(f"stat path of {n}", lambda: os.stat(p).st_size)
        check(f"rename path of {n}", os.rename, p, p[:-1] + "y")
        check(f"back {n}", os.rename, p[:-1] + "y", p)
        check(f"unlink path of {n}", os.unlink, p)
    os.close(fd)
    del top


@case
def wrong_kinds():
    """ENOTDIR, EISDIR, ENOTEMPTY, EEXIST, ELOOP, ENOENT where they belong."""
    write("f"), os.mkdir("d"), os.mkdir("full"), write("full/x"), os.symlink("f", "sf"), os.symlink("d", "sd")
    os.symlink("nowhere", "dangling"), os.symlink("loop", "loop"), os.mkfifo("p"), os.mkdir("e")
    for n in ("f", "d", "full", "sf", "sd", "dangling", "loop", "p", "missing", "f/x", "missing/x", "sf/x", "loop/x", "dangling/x"):
        check(f"rmdir {n}", lambda: with_copy(os.rmdir, n))
        check(f"unlink {n}", lambda: with_copy(os.unlink, n))
        check(f"mkdir {n}", os.mkdir, n) if n != "missing" else None
        check(f"open rd {n}", opened, n, os.O_RDONLY | os.O_NONBLOCK)
        check(f"open wr {n}", opened, n, os.O_WRONLY | os.O_NONBLOCK)
        check(f"open dir {n}", opened, n, os.O_RDONLY | os.O_DIRECTORY)
        check(f"open nofollow {n}", opened, n, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        check(f"open excl {n}", opened, n, os.O_CREAT | os.O_EXCL | os.O_WRONLY) if n != "missing" else None
        check(f"open path {n}", opened, n, os.O_PATH | os.O_NOFOLLOW)
        check(f"readlink {n}", os.readlink, n)
        check(f"truncate {n}", os.truncate, n, 0)
        check(f"listdir {n}", lambda: len(os.listdir(n)))
        check(f"link from {n}", lambda: (os.link(n, "new", follow_symlinks=False), os.unlink("new"))[1])
        check(f"link to {n}", os.link, "f", n) if n != "missing" else None
        check(f"symlink to {n}", os.symlink, "f", n) if n != "missing" else None
        check(f"mkfifo {n}", os.mkfifo, n) if n != "missing" else None
        check(f"trailing slash stat {n}", lambda: kind_of(n + "/"))
        check(f"trailing slash mkdir {n}", lambda: (os.mkdir(n + "/"), os.rmdir(n))[1])
        check(f"trailing slash unlink {n}", os.unlink, n + "/")
        check(f"chmod {n}", os.chmod, n, 0o755)
        check(f"utime {n}", os.utime, n, (1, 1))
        check(f"access {n}", os.access, n, os.R_OK)
        check(f"statvfs {n}", lambda: os.statvfs(n).f_namemax)
        check(f"chdir {n}", lambda: with_fd(n, os.O_PATH, lambda fd: child(lambda: os.chdir(fd))))
    check("open creat dangling", opened, "dangling", os.O_CREAT | os.O_WRONLY)
    check("made", lambda: kind_of("nowhere"))
    check("open creat dir", opened, "d", os.O_CREAT | os.O_WRONLY)
    check("open creat|directory", opened, "e", os.O_CREAT | os.O_DIRECTORY)
    check("left", lambda: sorted(os.listdir(".")))


def with_copy(f, name):
    """Removing something must not spoil the next check: it comes back."""
    if not os.path.lexists(name):
        return f(name)
    st = os.lstat(name)
    target = os.readlink(name) if stat.S_ISLNK(st.st_mode) else None
    f(name)
    if target is not None:
        os.symlink(target, name)
    elif stat.S_ISDIR(st.st_mode):
        os.mkdir(name)
    elif stat.S_ISFIFO(st.st_mode):
        os.mkfifo(name)
    else:
        write(name)


# ---- rename ----

def kit():
    """One of each kind, in a fresh directory."""
    kit.n += 1
    top = f"kit{kit.n}"
    os.mkdir(top)
    os.chdir(top)
    write("file", b"file"), write("file2", b"file2"), os.mkdir("empty"), os.mkdir("full")
    write("full/x", b"inner"), os.mkdir("full/sub"), os.symlink("empty", "dirlink")
    os.symlink("t/" * 900, "longlink")
    os.link("file", "hard"), os.mkfifo("fifo"), write("L" * 200, b"long")


kit.n = 0


def shape():
    rows = []
    for d, dirs, files in os.walk("."):
        for n in sorted(dirs + files):
            p = os.path.join(d, n)
            k = kind_of(p)
            rows.append([p, k, os.readlink(p)[:30] if k[0] == "l" else read(p).decode() if k[0] == "-" else ""])
    return hash_of(json.dumps(sorted(rows)).encode())


KINDS = ["file", "hard", "empty", "full", "full/x", "full/sub", "longlink", "dirlink", "fifo", "L" * 200, "missing", "file/x",
         "full/sub/deep"]


def rename_all(flags):
    for a in KINDS:
        for b in KINDS:
            kit()
            check(f"rename {flags} {a[:9]} {b[:9]}", rename2, a, b, flags)
            check("then", shape)
            os.chdir("..")
            shutil.rmtree(f"kit{kit.n}")


@case
def rename_over_everything():
    rename_all(0)


@case
def rename_noreplace():
    rename_all(NOREPLACE)


@case
def rename_exchange():
    rename_all(EXCHANGE)


@case
def rename_other():
    kit()
    check("both", rename2, "file", "dirlink", NOREPLACE | EXCHANGE)
    check("unknown", rename2, "file", "dirlink", 64)
    check("whiteout+exchange", rename2, "file", "dirlink", WHITEOUT | EXCHANGE)
    check("slash file", os.rename, "file/", "x")
    check("slash to", os.rename, "file", "x/")
    check("slash dir to", os.rename, "empty", "x/")
    check("dir slash", os.rename, "x/", "empty")
    check("dot", os.rename, "empty/.", "y")
    check("dotdot", os.rename, "full/sub", "full/..")
    check("root", os.rename, "file", "/nowhere/at/all")
    fd = os.open("file", os.O_RDWR)
    d = os.open("full", os.O_RDONLY)
    os.rename("file2", "file")
    check("replaced, open", lambda: os.pread(fd, 9, 0))
    check("replaced, links", lambda: os.fstat(fd).st_nlink)
    os.rename("full", "moved")
    check("dir open, moved", lambda: sorted(os.listdir(d)))
    check("made through it", lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=d)))
    check("seen", lambda: sorted(os.listdir("moved")))
    check("ctime", lambda: os.stat("file").st_ctime_ns >= os.stat("file").st_mtime_ns)
    os.mkdir("ro"), os.mkdir("ro/in"), write("ro/f")
    os.chmod("ro", 0o500)
    check("out of ro", os.rename, "ro/f", "f2")
    check("into ro", os.rename, "file", "ro/x")
    os.chmod("ro", 0o700)
    os.chmod("ro/in", 0o500)
    check("unwritable dir within", os.rename, "ro/in", "ro/in2")
    check("unwritable dir to another", os.rename, "ro/in2", "in2")
    check("exchange unwritable dir", rename2, "ro/in2", "moved", EXCHANGE)
    check("exchange unwritable dir 2", rename2, "moved", "ro/in2", EXCHANGE)
    os.chmod("ro/in2" if os.path.isdir("ro/in2") else "moved", 0o700)


# ---- links, unlinked files, O_TMPFILE ----

@case
def hard_links():
    write("a", b"1")
    for i in range(20):
        os.link("a", f"l{i}")
    check("count", lambda: os.stat("a").st_nlink)
    os.mkdir("d")
    check("dir", os.link, "d", "e")
    check("over", os.link, "a", "l0")
    os.symlink("a", "s")
    check("of a symlink", lambda: os.link("s", "s2", follow_symlinks=False))
    check("same", lambda: os.path.samefile("s2", "a") and kind_of("s2"))
    sys_call("linkat", AT_FDCWD, b"s", AT_FDCWD, b"followed", AT_SYMLINK_FOLLOW)
    check("followed", lambda: kind_of("followed"))
    check("linkat flags", sys_call, "linkat", AT_FDCWD, b"a", AT_FDCWD, b"no", 0x8000)
    before = os.stat("a").st_ctime_ns
    time.sleep(0.01)
    os.link("a", "new")
    check("ctime moves", lambda: os.stat("a").st_ctime_ns > before)
    check("ctime of the other", lambda: os.stat("l3").st_ctime_ns > before)
    for i in range(20):
        os.unlink(f"l{i}")
    check("count after", lambda: os.stat("a").st_nlink)
    os.mkfifo("p"), os.link("p", "p2")
    check("fifo", lambda: kind_of("p2"))
    fd = os.open("a", os.O_RDWR)
    for n in ("a", "new", "followed"):
        os.unlink(n)
        check(f"without {n}", lambda: os.fstat(fd).st_nlink)
    check("link of an unlinked", link_fd, fd, "back")
    check("content", lambda: os.pread(fd, 9, 0))
    for mode in (0o000, 0o400):
        write("m")
        os.chmod("m", mode)
        check(f"link of mode {mode:o}", os.link, "m", f"m{mode:o}")
        os.unlink("m")


@case
def unlinked_open():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"a" * 5000)
    os.unlink("f")
    check("again", os.unlink, "f")
    check("stat", lambda: [os.fstat(fd).st_nlink, os.fstat(fd).st_size])
    check("write", lambda: os.pwrite(fd, b"b" * 5000, 4000))
    check("truncate", os.ftruncate, fd, 7000)
    check("read", lambda: os.pread(fd, 9999, 0))
    check("chmod", os.fchmod, fd, 0o600)
    check("mode", lambda: os.fstat(fd).st_mode)
    check("utime", os.utime, fd, ns=(5, 6))
    check("times", lambda: [os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns])
    check("xattr", os.setxattr, fd, "user.a", b"1")
    check("xattrs", lambda: [os.listxattr(fd), os.getxattr(fd, "user.a")])
    check("rm xattr", os.removexattr, fd, "user.a")
    check("fsync", os.fsync, fd)
    check("fallocate", fallocate, fd, PUNCH | KEEP, 0, 4096)
    check("reopen", lambda: with_fd(f"/proc/self/fd/{fd}", os.O_RDONLY, lambda g: os.read(g, 10000)))
    check("reopen trunc", lambda: with_fd(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC, lambda g: os.fstat(g).st_size))
    check("lock", fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    write("f", b"new")
    check("new one", lambda: [read("f").decode(), os.fstat(fd).st_size])
    m = mmap.mmap(os.open("mapped", os.O_RDWR | os.O_CREAT, 0o644) if not write("mapped", b"m" * 9000) else -1, 9000)
    os.unlink("mapped")
    m[0:3] = b"abc"
    m.flush()
    check("mapping lives", lambda: m[:5])
    os.mkdir("d")
    d = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    check("dir stat", lambda: stat.S_ISDIR(os.fstat(d).st_mode))
    check("dir links", lambda: os.fstat(d).st_nlink)
    check("dir list", lambda: os.listdir(d))
    check("create in removed", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=d))
    check("mkdir in removed", lambda: os.mkdir("x", dir_fd=d))
    check("fsync removed dir", os.fsync, d)
    check("chmod removed dir", os.fchmod, d, 0o755)
    check("lookup in removed", lambda: os.stat("x", dir_fd=d).st_size)
    os.mkfifo("p")
    p = os.open("p", os.O_RDWR | os.O_NONBLOCK)
    os.unlink("p")
    check("fifo stat", lambda: os.fstat(p).st_nlink)
    check("fifo works", lambda: (os.write(p, b"hi"), os.read(p, 2))[1])
    os.symlink("target", "s")
    s = os.open("s", os.O_PATH | os.O_NOFOLLOW)
    os.unlink("s")
    check("symlink read", lambda: os.readlink("", dir_fd=s))
    check("symlink stat", lambda: os.fstat(s).st_nlink)


@case
def tmpfile():
    fd = os.open(".", O_TMPFILE | os.O_RDWR, 0o640)
    check("nothing listed", lambda: os.listdir("."))
    check("stat", lambda: [os.fstat(fd).st_nlink, os.fstat(fd).st_size, oct(os.fstat(fd).st_mode)])
    check("write", lambda: os.write(fd, b"t" * 10000))
    check("read", lambda: os.pread(fd, 20000, 0))
    check("size", lambda: os.fstat(fd).st_size)
    check("truncate", os.ftruncate, fd, 5000)
    check("chmod", os.fchmod, fd, 0o600)
    check("fsync", os.fsync, fd)
    check("xattr", os.setxattr, fd, "user.a", b"v")
    check("mmap", lambda: mmap.mmap(fd, 5000)[:3])
    check("reopen", lambda: with_fd(f"/proc/self/fd/{fd}", os.O_RDONLY, lambda g: os.read(g, 3)))
    check("link", link_fd, fd, "named")
    check("listed", lambda: os.listdir("."))
    check("links", lambda: os.fstat(fd).st_nlink)
    check("content", lambda: read("named"))
    check("xattr kept", lambda: os.getxattr("named", "user.a"))
    check("same", lambda: os.path.samestat(os.fstat(fd), os.stat("named")))
    check("second link", link_fd, fd, "again")
    check("links 2", lambda: os.fstat(fd).st_nlink)
    os.write(fd, b"more")
    check("through the name", lambda: read("named"))
    os.close(fd)
    check("after close", lambda: [os.stat("again").st_nlink, len(read("again"))])
    fd = os.open(".", O_TMPFILE | os.O_WRONLY, 0o600)
    check("read of a write-only", lambda: os.read(fd, 1))
    check("link over", link_fd, fd, "named")
    check("link deeper", lambda: (os.mkdir("d"), link_fd(fd, "d/" + "L" * 200))[1])
    check("deeper", lambda: os.listdir("d"))
    os.close(fd)
    fd = os.open(".", O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    check("excl cannot be linked", link_fd, fd, "x")
    os.close(fd)
    check("rdonly", opened, ".", O_TMPFILE | os.O_RDONLY)
    check("on a file", opened, "named", O_TMPFILE | os.O_RDWR)
    check("on nothing", opened, "missing", O_TMPFILE | os.O_RDWR)
    os.mkdir("ro", 0o500)
    check("in a read-only one", opened, "ro", O_TMPFILE | os.O_RDWR)
    fd = os.open("d", O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"x")
    os.rename("d", "e")
    check("its directory moved", link_fd, fd, "e/in")
    os.close(fd)
    os.mkdir("gone")
    fd = os.open("gone", O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"y" * 5000)
    check("its directory removed", os.rmdir, "gone")
    check("still there", lambda: os.pread(fd, 10, 0))
    check("write on", lambda: os.write(fd, b"z" * 5000))
    check("linked elsewhere", link_fd, fd, "saved")
    os.close(fd)
    check("saved", lambda: len(read("saved")))
    fds = [os.open(".", O_TMPFILE | os.O_RDWR, 0o600) for _ in range(50)]
    for i, f in enumerate(fds):
        os.write(f, bytes([i]) * i)
    check("many", lambda: [os.fstat(f).st_size for f in fds])
    for f in fds:
        os.close(f)
    check("all", lambda: sorted(n[:5] for n in os.listdir(".")))
