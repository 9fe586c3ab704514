"""The command itself: help everywhere, exit codes that programs can rely on, JSON that parses."""
import json
import os

import pytest

import harness
from harness import OK, PURPOSE, UNREACHABLE, USAGE

COMMANDS = [["up"], ["down"], ["status"], ["client", "add"], ["client", "list"], ["client", "end"], ["grant"], ["revoke"],
            ["access"], ["shares"], ["why"], ["mount"], ["unmount"], ["sessions"], ["log"], ["log", "verify"],
            ["hold", "place"], ["hold", "lift"], ["hold", "list"], ["retention", "forecast"], ["clock", "confirm"],
            ["event", "set"], ["event", "list"], ["expiry", "list"], ["expiry", "cancel"], ["expiry", "schedule"], ["expiry", "confirm"],
            ["certificate"], ["seal"], ["unseal"], ["passphrase"]]
SHOWING = [["status"], ["client", "list"], ["access", "acme"], ["shares"], ["sessions"], ["log"], ["log", "verify"],
           ["hold", "list"], ["expiry", "list"], ["retention", "forecast"], ["why", "ct_alice", "acme", "--purpose", PURPOSE]]
INCOMPLETE = [["client"], ["client", "add"], ["client", "add", "x"], ["client", "end"], ["client", "end", "acme"], ["grant"],
              ["grant", "acme"], ["grant", "acme", "ct_alice"], ["revoke"], ["revoke", "acme"], ["access"], ["why"],
              ["why", "ct_alice", "acme"], ["mount"], ["mount", "acme"], ["mount", "acme", "--purpose", PURPOSE], ["unmount"],
              ["hold"], ["hold", "place"], ["hold", "place", "acme"], ["hold", "lift"], ["retention"], ["clock"], ["expiry"], ["expiry", "cancel", "acme"], ["expiry", "schedule", "acme"],
              ["certificate"]]


def tool(*args, **kw):
    return harness.run([harness.BUILD + "/tools/coffer", *args], **kw)


def ids(commands):
    return [" ".join(c) or "(none)" for c in commands]


def test_help():
    r = tool("--help")
    assert r.rc == OK and r.err == ""
    for command in {c[0] for c in COMMANDS}:
        assert command in r.out, command


def test_version():
    r = tool("--version")
    assert r.rc == OK and any(c.isdigit() for c in r.out)


@pytest.mark.parametrize("command", COMMANDS, ids=ids(COMMANDS))
def test_help_of_each_command(command):
    r = tool(*command, "--help")
    assert r.rc == OK and r.err == "", r
    assert "Usage" in r.out or "usage" in r.out
    assert len(r.out.splitlines()) >= 3
    assert all(len(line) <= 100 for line in r.out.splitlines()), r


@pytest.mark.parametrize("command", COMMANDS, ids=ids(COMMANDS))
def test_unknown_option_is_a_usage_error(command, tmp_path):
    r = tool("--dir", tmp_path, *command, "--no-such-option")
    assert r.rc == USAGE and r.out == "" and r.err, r


@pytest.mark.parametrize("command", INCOMPLETE, ids=ids(INCOMPLETE))
def test_missing_arguments_are_a_usage_error(command, tmp_path):
    r = tool("--dir", tmp_path, *command)
    assert r.rc == USAGE and r.err and r.out == "", r


@pytest.mark.parametrize("args", [[], ["no-such-command"], ["client", "no-such"], ["--no-such-option"], ["status", "extra"]])
def test_nonsense_is_a_usage_error(args, tmp_path):
    assert tool("--dir", tmp_path, *args).rc == USAGE


@pytest.mark.parametrize("command", SHOWING, ids=ids(SHOWING))
def test_json_and_table(acme, command):
    r = acme.coffer(*command, "--json", check=None)
    assert r.rc == OK, r
    json.loads(r.out)
    assert r.err == ""
    assert acme.coffer(*command).rc == OK


def test_json_of_nothing_is_still_json(vault):
    for command in (["client", "list"], ["sessions"], ["shares"], ["hold", "list"], ["retention", "forecast"]):
        value = vault.coffer(*command, "--json").json
        assert value == [] or all(v in ([], None) for v in value.values()), (command, value)


def test_missing_directory(tmp_path):
    r = tool("--dir", str(tmp_path) + "/missing", "status")
    assert r.rc == UNREACHABLE and "missing" in r.err, r


def test_dead_sockets(make_vault):
    """Left by a machine that lost power: said, and `up` starts over them."""
    v = make_vault()
    for name in ("keyd", "fsd"):
        for pid in v.pids(name):
            harness.kill9(pid)
    assert os.path.exists(v.dir + "/run/keyd.sock")
    v.coffer("status", check=UNREACHABLE)
    v.up()
    v.status()


def test_errors_go_to_stderr_with_the_programs_name(vault):
    r = vault.coffer("access", "nobody", check=None)
    assert r.rc == harness.NOT_FOUND and r.out == "" and r.err.startswith("coffer: "), r
    assert "nobody" in r.err


def test_json_error_is_not_half_an_answer(vault):
    r = vault.coffer("access", "nobody", "--json", check=None)
    assert r.rc == harness.NOT_FOUND
    assert r.out == "" or json.loads(r.out)


def test_output_that_cannot_be_written_is_a_failure(vault):
    r = harness.run(["/bin/sh", "-c", f'"{vault.programs}/tools/coffer" --dir "{vault.dir}" status > /dev/full'])
    assert r.rc != OK


def test_names_from_outside_send_no_escapes(vault):
    """A client's display name with control characters does not reach the terminal as such."""
    r = vault.coffer("client", "add", "acme", "--name", "Evil\x1b[31m\nCorp", "--email", "a@b.example", check=None)
    if r.rc == OK:
        assert b"\x1b" not in vault.coffer("client", "list").out_bytes
