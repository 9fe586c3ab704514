"""A set of daemons and mounts for the measurements in this folder, all below one folder on the disk that is measured."""
import contextlib
import os
import pwd
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Vault:
    """One client "bench", granted to whoever runs this."""

    def __init__(self, build, folder, clients=("bench",)):
        self.tool, self.folder, self.points = os.path.join(build, "tools", "coffer"), folder, []
        self.dir = os.path.join(folder, "D")
        os.makedirs(folder, exist_ok=True)
        self.coffer("up")
        for c in clients:
            self.coffer("client", "add", c, "--name", "Benchmark", "--email", "bench@example.org")
            self.coffer("grant", c, pwd.getpwuid(os.geteuid()).pw_name, "--purpose", "data-migration", "--rights", "rw")

    def coffer(self, *args):
        return subprocess.run([self.tool, "--dir", self.dir, *args], check=True, timeout=120, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "COFFER_UNRECORDED": "benchmark"}).stdout

    def mount(self, client="bench", point=None):
        """A path.  With `point` (unmounted before) it is used again."""
        if point is None:
            point = os.path.join(self.folder, f"mnt{len(self.points)}")
            os.mkdir(point)
            self.points.append(point)
        self.coffer("mount", client, "--purpose", "data-migration", "--ticket", "BENCH-1", point)
        return point

    def remount(self, point, client="bench"):
        """What the kernel and the worker's session knew of it is forgotten."""
        self.coffer("unmount", point)
        self.mount(client, point)

    def worker_memory(self):
        """MiB resident, summed over the workers of this vault."""
        total = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(f"/proc/{pid}/exe").replace(" (deleted)", "")) != "coffer-worker":
                    continue
                links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                if not any(link.startswith(self.dir + "/") for link in links):
                    continue
                with open(f"/proc/{pid}/status") as f:
                    total += sum(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        return total / 1024

    def close(self):
        for point in self.points:
            with contextlib.suppress(subprocess.SubprocessError):
                self.coffer("unmount", point)
        with contextlib.suppress(subprocess.SubprocessError):
            self.coffer("down")
