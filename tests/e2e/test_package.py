"""The Debian package: built from this tree, found sound by lintian, installed, upgraded, removed, purged; no key and no record is lost."""
import glob
import json
import os
import shutil
import subprocess

import pytest

import harness

pytestmark = [pytest.mark.slow, pytest.mark.skipif(harness.SANITIZED, reason="the package is built without sanitizers")]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("deb")
    r = harness.run([harness.SOURCE + "/packaging/build-deb", str(out)], timeout=300)
    assert r.rc == 0, r
    return next(p for p in glob.glob(f"{out}/coffer_*.deb"))


@pytest.mark.limit(400)
def test_lintian_and_life(package, tmp_path):
    r = harness.run(["lintian", "--fail-on", "error,warning,info", "--suppress-tags", "initial-upload-closes-no-bugs",
                     "--allow-root", package], timeout=120)
    assert r.rc == 0 and not r.out.strip(), r

    # the next version: the same files under a higher number
    tree = str(tmp_path / "next")
    harness.run(["dpkg-deb", "-R", package, tree], check=True)
    control = open(tree + "/DEBIAN/control").read()
    version = next(line for line in control.splitlines() if line.startswith("Version: "))
    with open(tree + "/DEBIAN/control", "w") as f:
        f.write(control.replace(version, version + "+next"))
    harness.run(["dpkg-deb", "--root-owner-group", "-b", tree, str(tmp_path / "next.deb")], check=True)

    folder = subprocess.run(["mktemp", "-d", "/var/tmp/coffer-package-XXXXXX"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        r = harness.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", harness.HERE + "/package_life.sh", folder,
                         package, str(tmp_path / "next.deb")], timeout=200)
        assert r.rc == 0 and r.out.endswith("life: done\n"), r
        rows = [(row["op"], row.get("comm")) for row in json.load(open(folder + "/log.json"))]
        assert rows.count(("open", "cat")) == 2 and rows.count(("open", "sh")) == 2, rows  # of the second and the third life
        doctor = {(f["check"], f["verdict"]) for f in json.load(open(folder + "/doctor.json"))}
        assert ("permissions", "ok") in doctor and ("roles", "ok") in doctor, doctor
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_unit_is_confined(package, tmp_path):
    """What systemd itself says of the unit: its exposure, from 0 (none) to 10."""
    harness.run(["dpkg-deb", "-x", package, str(tmp_path)], check=True)
    unit = next(os.path.join(d, "coffer.service") for d, _, names in os.walk(tmp_path) if "coffer.service" in names)
    r = harness.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit], timeout=60)
    assert r.rc == 0, r
