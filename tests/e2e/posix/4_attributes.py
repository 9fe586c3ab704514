# ---- times, modes ----

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def utimens(name, atime, mtime, flags=0):
    ts = struct.pack("qqqq", *atime, *mtime)
    sys_call("utimensat", AT_FDCWD, os.fsencode(name), ts, flags)


def stamps(name):
    st = os.lstat(name)
    return [st.st_atime_ns, st.st_mtime_ns]


@case
def times():
    write("f"), os.mkdir("d"), os.symlink("f", "s"), os.mkfifo("p")
    for n in ("f", "d", "s", "p"):
        flags = 0x100
        check(f"set {n}", lambda: (utimens(n, (1, 2), (3, 999_999_999), flags), stamps(n))[1])
        check(f"omit {n}", lambda: (utimens(n, (0, UTIME_OMIT), (7, 7), flags), stamps(n))[1])
        check(f"omit 2 {n}", lambda: (utimens(n, (9, 9), (0, UTIME_OMIT), flags), stamps(n))[1])
        check(f"omit both {n}", lambda: (utimens(n, (0, UTIME_OMIT), (0, UTIME_OMIT), flags), stamps(n))[1])
        check(f"now {n}", lambda: (utimens(n, (0, UTIME_NOW), (5, 5), flags), stamps(n)[0] > 10**18, stamps(n)[1])[1:])
        check(f"bad {n}", utimens, n, (0, 10**9), (0, 0), flags)
        check(f"bad 2 {n}", utimens, n, (0, -1), (0, 0), flags)
        check(f"negative {n}", lambda: (utimens(n, (-5, 5), (-100, 9), flags), stamps(n))[1])
        check(f"far {n}", lambda: (utimens(n, (1 << 33, 5), (15032385535, 999999999), flags), stamps(n))[1])
    utimens("s", (1, 1), (1, 1))
    check("followed", lambda: stamps("f"))
    old = os.stat("f").st_ctime_ns
    time.sleep(0.01)
    for what, f in (("chmod", lambda: os.chmod("f", 0o600)), ("utime", lambda: utimens("f", (1, 1), (1, 1))),
                    ("xattr", lambda: os.setxattr("f", "user.x", b"1")), ("link", lambda: os.link("f", "g")),
                    ("unlink", lambda: os.unlink("g")), ("rename", lambda: (os.rename("f", "h"), os.rename("h", "f")))):
        f()
        now = os.stat("f").st_ctime_ns
        check(f"ctime after {what}", lambda: now > old)
        check(f"mtime after {what}", lambda: os.stat("f").st_mtime_ns)
        old = now
        time.sleep(0.01)
    for what, f in (("create", lambda: write("d/x")), ("mkdir", lambda: os.mkdir("d/y")), ("unlink", lambda: os.unlink("d/x")),
                    ("symlink", lambda: os.symlink("q", "d/s")), ("rename in", lambda: os.rename("d/s", "d/t")),
                    ("rmdir", lambda: os.rmdir("d/y")), ("link", lambda: os.link("f", "d/l")), ("tmp", lambda: os.rename("d/l", "d/t"))):
        utimens("d", (1, 1), (1, 1))
        f()
        check(f"directory's mtime after {what}", lambda: os.stat("d").st_mtime > 1)
    utimens("f", (1, 1), (1, 1))
    write("f", b"y", "ab")
    check("mtime after write", lambda: os.stat("f").st_mtime > 1)
    os.chmod("f", 0o400)
    check("now without right, own", lambda: utimens("f", (0, UTIME_NOW), (0, UTIME_NOW)))
    check("read-only descriptor", lambda: with_fd("f", os.O_RDONLY, lambda g: os.utime(g, ns=(4, 4))))
    check("is", lambda: stamps("f"))
    check("mapped write moves mtime", mapped_mtime)
    for size in (0, 1, 5000):
        fd = os.open(f"kept{size}", os.O_RDWR | os.O_CREAT, 0o644)
        os.write(fd, b"x" * size)
        os.utime(fd, ns=(11, 22))
        for what, f in (("fsync", lambda: os.fsync(fd)), ("xattr", lambda: os.setxattr(fd, "user.a", b"1")),
                        ("link", lambda: os.link(f"kept{size}", f"kept{size}l")), ("chmod", lambda: os.fchmod(fd, 0o600)),
                        ("read", lambda: os.pread(fd, 10, 0)), ("open", lambda: opened(f"kept{size}", os.O_RDWR)),
                        ("rename", lambda: os.rename(f"kept{size}l", f"kept{size}r")), ("rm xattr", lambda: os.removexattr(fd, "user.a")),
                        ("close", lambda: os.close(fd)), ("open again", lambda: read(f"kept{size}"))):
            f()
            check(f"mtime of {size} after {what}", lambda: os.stat(f"kept{size}").st_mtime_ns)


def mapped_mtime():
    write("mm", b"x" * 5000)
    with open("mm", "r+b") as f:
        m = mmap.mmap(f.fileno(), 5000)
        utimens("mm", (1, 1), (1, 1))
        m[0:1] = b"y"
        m.flush()
        os.fsync(f.fileno())
        m.close()
    return os.stat("mm").st_mtime > 1


@case
def modes():
    write("f"), os.mkdir("d"), os.mkfifo("p")
    for n in ("f", "d", "p"):
        for mode in (0o000, 0o001, 0o777, 0o644, 0o1777, 0o400):
            os.chmod(n, mode)
            check(f"{n} {mode:o}", lambda: oct(os.stat(n).st_mode))
            check(f"access {n} {mode:o}", lambda: [os.access(n, m) for m in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)])
            check(f"open {n} {mode:o}", opened, n, os.O_RDONLY | os.O_NONBLOCK)
            if n == "f":
                check(f"open w {n} {mode:o}", opened, n, os.O_WRONLY)
                check(f"open rw {n} {mode:o}", opened, n, os.O_RDWR)
        os.chmod(n, 0o700)
    for umask in (0o000, 0o022, 0o077, 0o777):
        os.umask(umask)
        check(f"create {umask:o}", lambda: (opened(f"f{umask:o}", os.O_CREAT | os.O_WRONLY, 0o1666), oct(os.stat(f"f{umask:o}").st_mode))[1])
        check(f"mkdir {umask:o}", lambda: (os.mkdir(f"d{umask:o}", 0o1777), oct(os.stat(f"d{umask:o}").st_mode))[1])
        check(f"mkfifo {umask:o}", lambda: (os.mkfifo(f"p{umask:o}", 0o666), oct(os.stat(f"p{umask:o}").st_mode))[1])
    os.umask(0o022)
    check("create 000, write", lambda: with_fd("z", os.O_CREAT | os.O_RDWR, lambda g: os.write(g, b"1"), 0))
    check("open it again", opened, "z", os.O_RDONLY)
    check("chmod of a symlink", lambda: (os.symlink("f", "s"), sys_call("syscall", 452, AT_FDCWD, b"s", 0o600, 0x100))[1])
    check("chown to self", os.chown, "f", os.getuid(), os.getgid())
    check("chown -1", os.chown, "f", -1, -1)
    check("chown to another", os.chown, "f", 0, -1)
    check("chgrp to another", os.chown, "f", -1, 0)
    for mode in (0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600):
        os.chmod("d", 0o700)
        write("d/in")
        os.chmod("d", mode)
        check(f"list {mode:o}", lambda: os.listdir("d"))
        check(f"stat in {mode:o}", lambda: os.stat("d/in").st_size)
        check(f"create in {mode:o}", write, "d/new")
        check(f"unlink in {mode:o}", os.unlink, "d/in")
        check(f"mkdir in {mode:o}", os.mkdir, "d/sub")
        check(f"chdir {mode:o}", lambda: child(lambda: os.chdir("d")))
        os.chmod("d", 0o700)
        for left in os.listdir("d"):
            os.rmdir("d/sub") if left == "sub" else os.unlink("d/" + left)


# ---- special files, exec ----

@case
def specials():
    check("fifo", os.mkfifo, "p")
    check("mknod fifo", os.mknod, "p2", stat.S_IFIFO | 0o600)
    check("mknod file", os.mknod, "f", stat.S_IFREG | 0o640)
    check("mknod 0", os.mknod, "f0", 0o640)
    check("file", lambda: [kind_of("f"), os.stat("f").st_size])
    check("mknod sock", os.mknod, "s0", stat.S_IFSOCK | 0o600)
    check("mknod dir", os.mknod, "dd", stat.S_IFDIR | 0o600)
    check("mknod chr", os.mknod, "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    check("mknod blk", os.mknod, "b", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    pid = os.fork()
    if pid == 0:
        fd = os.open("p", os.O_WRONLY)
        os.write(fd, b"through")
        os._exit(0)
    check("fifo carries", lambda: with_fd("p", os.O_RDONLY, lambda g: os.read(g, 20)))
    os.waitpid(pid, 0)
    check("fifo wr nonblock", opened, "p", os.O_WRONLY | os.O_NONBLOCK)
    check("fifo rename", os.rename, "p", "q")
    a = socket.socket(socket.AF_UNIX)
    check("bind", a.bind, "sock")
    check("bind again", socket.socket(socket.AF_UNIX).bind, "sock")
    a.listen()
    b = socket.socket(socket.AF_UNIX)
    check("connect", b.connect, "sock")
    check("kind", lambda: kind_of("sock"))
    check("open a socket", opened, "sock", os.O_RDONLY)
    os.rename("sock", "sock2")
    c = socket.socket(socket.AF_UNIX)
    check("connect renamed", c.connect, "sock2")
    os.unlink("sock2")
    check("connect gone", socket.socket(socket.AF_UNIX).connect, "sock2")
    check("size of fifo", lambda: os.stat("q").st_size)


@case
def execution():
    with open("/bin/true", "rb") as f:
        program = f.read()
    write("prog", program)
    run = lambda name: child(lambda: os.execv(name, [name]) or 0) if False else spawn(name)
    check("no x", run, "./prog")
    os.chmod("prog", 0o755)
    check("runs", run, "./prog")
    write("script", b"#!/bin/sh\nexit 7\n")
    os.chmod("script", 0o755)
    check("script", run, "./script")
    os.chmod("script", 0o111)
    check("script without r", run, "./script")
    os.chmod("prog", 0o111)
    check("program without r", run, "./prog")
    os.chmod("prog", 0o755)
    fd = os.open("prog", os.O_RDWR)
    check("while open for writing", run, "./prog")
    os.close(fd)
    check("afterwards", run, "./prog")
    with open("/bin/sleep", "rb") as f:
        write("sleep", f.read())
    os.chmod("sleep", 0o755)
    pid = os.spawnv(os.P_NOWAIT, "./sleep", ["sleep", "20"])
    time.sleep(0.1)
    check("write while it runs", opened, "sleep", os.O_WRONLY)
    check("truncate while it runs", os.truncate, "sleep", 0)
    check("unlink while it runs", os.unlink, "sleep")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    check("exec dir", run, ".")
    check("exec missing", run, "./nothing")
    write("text", b"garbage")
    os.chmod("text", 0o755)
    check("garbage", run, "./text")
    check("mmap exec", lambda: with_fd("prog", os.O_RDONLY, lambda g: mmap.mmap(g, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()))


def spawn(name):
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(name, [name])
        except OSError as e:
            os._exit(100 + e.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- directories ----

@case
def directories():
    os.mkdir("d")
    for i in range(300):
        write(f"d/f{i}", b"")
    check("all", lambda: len(os.listdir("d")))
    check("links", lambda: os.stat("d").st_nlink >= 1)
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    check("fsync", os.fsync, fd)
    check("fdatasync", os.fdatasync, fd)
    check("dir through it", lambda: len(os.listdir(fd)))
    for i in range(0, 300, 2):
        os.unlink(f"d/f{i}")
    check("left", lambda: len(os.listdir(fd)))
    check("not empty", os.rmdir, "d")
    check("rewind sees new", rewind)
    check("seekdir", seekdir)
    check("change while reading", change_while_reading)
    check("types", types)
    check("remove while reading", remove_while_reading)
    check("lseek 0", lambda: os.lseek(fd, 0, 0))
    check("dup", lambda: len(os.listdir(os.dup(fd))))
    check("dot inode", lambda: os.stat("d/.").st_ino == os.stat("d").st_ino)
    check("dotdot inode", lambda: os.stat("d/..").st_ino == os.stat(".").st_ino)
    check("entries' inodes", lambda: all(e.inode() == os.lstat(e.path).st_ino for e in os.scandir("d")))


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort), ("type", ctypes.c_ubyte),
                ("name", ctypes.c_char * 256)]


libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long


class Dir:
    def __init__(self, name):
        self.p = ctypes.c_void_p(libc.opendir(os.fsencode(name)))

    def read(self):
        e = libc.readdir(self.p)
        return e.contents.name.decode() if e else None

    def rest(self):
        return list(iter(self.read, None))

    def tell(self):
        return libc.telldir(self.p)

    def seek(self, at):
        libc.seekdir(self.p, ctypes.c_long(at))

    def rewind(self):
        libc.rewinddir(self.p)

    def close(self):
        libc.closedir(self.p)


def rewind():
    os.mkdir("rw")
    d = Dir("rw")
    d.rest()
    write("rw/new")
    d.rewind()
    got = sorted(d.rest())
    d.close()
    return got


def seekdir():
    """Every position, asked again in any order, gives the same rest of the list; also after some entries are gone."""
    os.mkdir("sk")
    for i in range(200):
        write(f"sk/{'e' * (i % 40)}{i}", b"")
    d = Dir("sk")
    at, order = [], []
    while True:
        pos = d.tell()
        n = d.read()
        if n is None:
            break
        at.append(pos)
        order.append(n)
    rnd = random.Random(1)
    for _ in range(60):
        k = rnd.randrange(len(order))
        d.seek(at[k])
        if d.read() != order[k]:
            return f"position {k}"
    gone = set(order[2::3]) - {".", ".."}
    for n in gone:
        os.unlink("sk/" + n)
    for k in rnd.sample(range(len(order)), 40):
        d.seek(at[k])
        rest = [n for n in d.rest()]
        want = [n for n in order[k:] if n not in gone]
        if [n for n in rest if n not in gone] != want:
            return f"after removal, position {k}: {len(rest)} {len(want)}"
    d.close()
    return len(order)


def change_while_reading():
    """What is there all the time is listed exactly once."""
    os.mkdir("cw")
    for i in range(1000):
        write(f"cw/stay{i}", b"")
    d = Dir("cw")
    seen = []
    n = d.read()
    k = 0
    while n is not None:
        seen.append(n)
        write(f"cw/new{k}" + "n" * (k % 100), b"")
        if k > 3 and k % 3 == 0:
            os.unlink(f"cw/new{k - 2}" + "n" * ((k - 2) % 100))
        k += 1
        if k > 4000:
            return "endless"
        n = d.read()
    d.close()
    stay = [n for n in seen if n.startswith("stay")]
    return [len(stay), len(set(stay)), len(set(seen)) == len(seen)]


def remove_while_reading():
    os.mkdir("rm")
    for i in range(700):
        write(f"rm/{i}", b"")
    count = 0
    for e in os.scandir("rm"):
        os.unlink(e.path)
        count += 1
    return [count, os.listdir("rm")]


def types():
    os.mkdir("ty")
    os.mkdir("ty/d"), write("ty/f"), os.symlink("x", "ty/s"), os.mkfifo("ty/p")
    return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink()) for e in os.scandir("ty"))


@case
def symlinks():
    for n in (1, 43, 44, 59, 60, 700, 730, 731, 732, 733, 1023, 1024, 4000, 4094, 4095, 4096):
        target = "t" * n
        name = f"s{n}"
        check(f"make {n}", os.symlink, target, name)
        check(f"size {n}", lambda: os.lstat(name).st_size)
        check(f"read {n}", lambda: os.readlink(name) == target)
        check(f"follow {n}", lambda: os.stat(name).st_size)
        check(f"rename {n}", os.rename, name, name + "r")
        check(f"link {n}", lambda: os.link(name + "r", name + "l", follow_symlinks=False))
        check(f"unlink {n}", os.unlink, name + "r")
        check(f"read the other {n}", lambda: os.readlink(name + "l") == target)
    check("empty", os.symlink, "", "e")
    check("odd", lambda: (os.symlink(b"a\xff\n\x01", "odd"), os.readlink(b"odd"))[1])
    check("short buffer", lambda: libc.readlink(b"s700l", ctypes.create_string_buffer(10), 10))
    check("no buffer", lambda: sys_call("readlink", b"s700l", ctypes.create_string_buffer(10), 0))
    os.mkdir("d"), os.mkdir("d/e")
    os.rename("s4095l", "d/moved")
    check("moved away", lambda: len(os.readlink("d/moved")))
    for i in range(45):
        os.symlink(f"c{i + 1}", f"c{i}")
    write("c45")
    check("forty is too many", lambda: os.stat("c0").st_size)
    check("thirty are not", lambda: os.stat("c10").st_size)
    check("mode", lambda: oct(os.lstat("odd").st_mode))
    check("left", lambda: len(os.listdir(".")))


# ---- attributes ----

@case
def xattrs():
    write("f"), os.mkdir("d"), os.symlink("f", "s"), os.mkfifo("p")
    for n in ("f", "d", "s", "p"):
        go = {"follow_symlinks": False}
        check(f"set {n}", os.setxattr, n, "user.a", b"1", **go)
        check(f"get {n}", os.getxattr, n, "user.a", **go)
        check(f"list {n}", lambda: sorted(os.listxattr(n, **go)))
        check(f"missing {n}", os.getxattr, n, "user.none", **go)
        check(f"remove missing {n}", os.removexattr, n, "user.none", **go)
        check(f"trusted {n}", os.setxattr, n, "trusted.a", b"1", **go)
        check(f"get trusted {n}", os.getxattr, n, "trusted.a", **go)
        check(f"no namespace {n}", os.setxattr, n, "a", b"1", **go)
        check(f"unknown namespace {n}", os.setxattr, n, "foo.a", b"1", **go)
        check(f"security {n}", os.setxattr, n, "security.a", b"1", **go)
        check(f"get security {n}", os.getxattr, n, "security.a", **go)
        check(f"capability {n}", os.getxattr, n, "security.capability", **go)
        check(f"set capability {n}", os.setxattr, n, "security.capability", bytes(20), **go)
        check(f"empty name {n}", os.setxattr, n, "", b"1", **go)
        check(f"user. {n}", os.setxattr, n, "user.", b"1", **go)
    for n in ("f", "d"):
        check(f"create there {n}", os.setxattr, n, "user.a", b"1", os.XATTR_CREATE)
        check(f"replace {n}", os.setxattr, n, "user.a", b"22", os.XATTR_REPLACE)
        check(f"replace missing {n}", os.setxattr, n, "user.q", b"22", os.XATTR_REPLACE)
        check(f"both flags {n}", os.setxattr, n, "user.a", b"22", 3)
        check(f"bad flags {n}", os.setxattr, n, "user.a", b"22", 8)
        check(f"size asked {n}", lambda: sys_call("getxattr", n.encode(), b"user.a", None, 0))
        check(f"short buffer {n}", lambda: sys_call("getxattr", n.encode(), b"user.a", ctypes.create_string_buffer(1), 1))
        check(f"list size {n}", lambda: sys_call("listxattr", n.encode(), None, 0))
        check(f"list short {n}", lambda: sys_call("listxattr", n.encode(), ctypes.create_string_buffer(1), 1))
        check(f"empty value {n}", lambda: (os.setxattr(n, "user.e", b""), os.getxattr(n, "user.e"))[1])
        check(f"too long a name {n}", os.setxattr, n, "user." + "n" * 251, b"1")
        check(f"longest name {n}", os.setxattr, n, "user." + "n" * 140, b"1")
        check(f"too big {n}", os.setxattr, n, "user.big", b"1" * 65537)
        check(f"big {n}", os.setxattr, n, "user.big", b"B" * 2000)
        check(f"big is {n}", os.getxattr, n, "user.big")
        check(f"remove {n}", os.removexattr, n, "user.big")
        check(f"binary {n}", lambda: (os.setxattr(n, "user.b", bytes(range(256))), os.getxattr(n, "user.b"))[1])
        check(f"utf8 {n}", lambda: (os.setxattr(n, "user.ä", b"u"), os.getxattr(n, "user.ä"))[1])
        check(f"in the end {n}", lambda: [a[:9] for a in sorted(os.listxattr(n))])
        os.chmod(n, 0o400)
        check(f"no right {n}", os.setxattr, n, "user.a", b"1")
        check(f"right to read {n}", os.getxattr, n, "user.a")
        os.chmod(n, 0o200)
        check(f"no right to read {n}", os.getxattr, n, "user.a")
        check(f"list is free {n}", lambda: len(os.listxattr(n)))
        os.chmod(n, 0o700)
    os.rename("f", "g"), os.rename("d", "e")
    check("kept", lambda: [os.getxattr("g", "user.b") == bytes(range(256)), len(os.listxattr("e"))])
    os.truncate("g", 0)
    check("kept cut", lambda: len(os.listxattr("g")))
    os.link("g", "g2")
    check("shared", lambda: (os.setxattr("g2", "user.l", b"l"), os.getxattr("g", "user.l"))[1])
    fd = os.open("g", os.O_RDONLY)
    check("on a read-only descriptor", os.setxattr, fd, "user.fd", b"1")
    check("acl", os.getxattr, "g", "system.posix_acl_access")
