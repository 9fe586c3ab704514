"""zsh: the completion as a person meets it, on a terminal."""
import os
import pty
import select
import shutil
import time

import pytest

import harness
from harness import PURPOSE

pytestmark = pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")


class Zsh:
    def __init__(self, vault):
        env = {"PATH": f"{vault.programs}/tools:/usr/bin:/bin", "TERM": "dumb", "HOME": vault.base, "COFFER_DIR": vault.dir, "LANG": "C.UTF-8"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve("/usr/bin/zsh", ["zsh", "-f", "-i"], env)
        self.send(f"PS1='READY> '; fpath=({harness.SOURCE}/packaging/completion $fpath); autoload -Uz compinit; compinit -u -D; "
                  "setopt NO_beep LIST_ambiguous NO_always_last_prompt; echo LOADED-$?\n")
        self.until("LOADED-0")

    def send(self, text):
        os.write(self.fd, text.encode())

    def until(self, *words, limit=15):
        seen, end = "", time.monotonic() + limit * harness.SLOW
        while not all(w in seen for w in words):
            assert time.monotonic() < end, (words, seen)
            if select.select([self.fd], [], [], 0.1)[0]:
                seen += os.read(self.fd, 65536).decode("utf-8", "replace")
        return seen

    def complete(self, line, *expected):
        self.send(line + "\t")
        seen = self.until(*expected)
        self.send("\x15")  # the line is not run
        return seen

    def close(self):
        os.close(self.fd)
        harness.wait_for(lambda: os.waitpid(self.pid, os.WNOHANG)[0], "end of zsh")


def test_completion(acme):
    z = Zsh(acme)
    try:
        z.complete("coffer client ", "add", "end", "list")
        z.complete("coffer mount a", "coffer mount acme")
        z.complete("coffer mount acme --purpose data", "--purpose " + PURPOSE)
        z.complete("coffer mount acme --tick", "--ticket")
        z.complete("coffer help ho", "coffer help hold")
        z.complete("coffer shell a", "coffer shell acme")
        z.complete("coffer shell acme --purpose data", "--purpose " + PURPOSE)
        z.complete("coffer shell acme --purpose support -- base64 /etc/hostn", "/etc/hostname")
    finally:
        z.close()
