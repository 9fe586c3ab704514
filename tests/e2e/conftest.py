"""Fixtures.  A test gets a vault of its own; it ends with nothing mounted and nothing running."""
import contextlib
import faulthandler
import fcntl
import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile

import pytest

import harness

ACCOUNTS = {"alice": "ct_alice", "bob": "ct_bob", "carol": "ct_carol"}
GROUP = "ct_team"
GECOS = "coffer tests"
LIMIT = 90  # seconds a test may take, unless marked limit(n)


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long this test may take")
    config.addinivalue_line("markers", "sanitize: part of the subset that also runs with sanitizers")
    config.addinivalue_line("markers", "threads: also runs under the thread sanitizer")
    config.addinivalue_line("markers", "slow: left out by tests/run --quick")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Each test has a limit: first an exception in it, then (if that is not enough) the end of the run with all stacks."""
    mark = item.get_closest_marker("limit")
    limit = (mark.args[0] if mark else LIMIT) * harness.SLOW

    def alarm(signum, frame):
        signal.alarm(15)  # once more, should the clean-up hang as well
        raise harness.Timeout(f"the test took more than {limit} s")

    old = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(limit)
    faulthandler.dump_traceback_later(limit + 60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the last lines of the daemons' logs."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for v in getattr(item, "vaults", []):
            with contextlib.suppress(OSError):
                report.sections.append(("logs of the daemons", v.logs()))


@pytest.fixture(scope="session", autouse=True)
def machine():
    """What every test here needs, checked once."""
    if os.geteuid() != 0:
        pytest.skip("these tests make users and mounts: run them as root")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse on this machine")
    if stat.S_IMODE(os.stat("/dev/fuse").st_mode) & 0o006 != 0o006:
        pytest.skip("/dev/fuse is closed to ordinary users (chmod 0666 /dev/fuse; tests/run does it)")
    for p in harness.PROGRAMS:
        assert os.access(os.path.join(harness.BUILD, p), os.X_OK), f"{harness.BUILD}/{p} is not built"


@pytest.fixture(scope="session")
def accounts(machine):
    """Three ordinary users and a group; what we made goes again, unless another run still uses it."""
    lock = os.open("/run/coffer-tests.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)  # shared by all runs; who removes the accounts has it alone
    subprocess.run(["groupadd", "-f", GROUP], check=True)
    for name in ACCOUNTS.values():
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            continue
        subprocess.run(["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--comment", GECOS, name],
                       stderr=subprocess.DEVNULL, check=False)  # another run may just have made it
        pwd.getpwnam(name)
    if ACCOUNTS["carol"] not in grp.getgrnam(GROUP).gr_mem:  # who writes /etc/group uncovers what others have mounted on it
        subprocess.run(["usermod", "-a", "-G", GROUP, ACCOUNTS["carol"]], check=True)
    yield ACCOUNTS
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in ACCOUNTS.values():
            if pwd.getpwnam(name).pw_gecos.startswith(GECOS):
                subprocess.run(["userdel", name], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["groupdel", GROUP], stderr=subprocess.DEVNULL, check=False)
    os.close(lock)


@pytest.fixture(scope="session")
def programs(accounts):
    """The build tree, or a copy of its programs where the users can reach them (a clone may lie in /root)."""
    probe = harness.run([os.path.join(harness.BUILD, harness.PROGRAMS[0]), "--help"],
                        user=harness.User(ACCOUNTS["alice"], "/")) if reachable(harness.BUILD) else None
    if probe is not None and probe.rc == 0:
        yield harness.BUILD
        return
    copy = tempfile.mkdtemp(prefix="coffer-programs-", dir="/var/tmp")
    os.chmod(copy, 0o755)
    for p in harness.PROGRAMS:
        os.makedirs(os.path.dirname(os.path.join(copy, p)), exist_ok=True)
        shutil.copy2(os.path.join(harness.BUILD, p), os.path.join(copy, p))
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def reachable(path):
    while path != "/":
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        path = os.path.dirname(path)
    return True


@pytest.fixture
def make_vault(request, programs, accounts):
    """Makes vaults, each with its own state directory; all are taken down at the end."""
    request.node.vaults = []

    def make(up=True, **kw):
        v = harness.Vault(programs, accounts, **kw)
        request.node.vaults.append(v)
        if up:
            v.up()
        return v

    yield make
    crashed = ""
    for v in request.node.vaults:
        v.close()
        crashed += v.crashes()
    assert not crashed, crashed


@pytest.fixture
def vault(make_vault):
    """Running daemons, nothing in them."""
    return make_vault()


@pytest.fixture
def acme(vault):
    """A vault with the client acme and a grant for alice."""
    vault.add()
    vault.grant("acme", vault.alice)
    return vault


@pytest.fixture
def share(acme):
    """alice's mounted share of acme."""
    return acme.mount(acme.alice)


@pytest.fixture(scope="module")
def shared_share(programs, accounts):
    """One share for a module's cases: each works in a directory of its own."""
    v = harness.Vault(programs, accounts)
    try:
        v.up()
        v.add()
        v.grant("acme", v.alice)
        yield v.mount(v.alice)
    finally:
        v.close()
    assert not v.crashes(), v.crashes()
