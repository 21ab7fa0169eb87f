# SPDX-License-Identifier: MIT
"""bellhopd --check: what it says of a configuration, and when it fails."""

import os
import pwd
import re
import subprocess

import conftest
import pytest
from agent import seconds

NOBODY = "policy.user=nobody"


@pytest.fixture
def check(request, tmp_path):
    """check(ARGUMENT..., config=TEXT): runs it with that file as bellhop's own."""

    def run(*arguments, config=None):
        path = tmp_path / "bellhop.conf"
        if config is not None:
            path.write_text(config, encoding="utf-8")
        environment = dict(os.environ, BELLHOP_CONF=str(path), LC_ALL="C.UTF-8",
                           QGA_CONF=str(tmp_path / "none"), BELLHOP_POLICY=str(tmp_path / "none.d"))
        return subprocess.run(
            [conftest._binary(request.config, "bellhop"), "--check", *arguments], check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment,
            timeout=seconds(30))

    return run


def section(text, head):
    """The lines below "head:", without their indentation."""
    found = re.search(rf"^{head}:\n((?: .*\n)*)", text, re.M)
    assert found, text
    return [line.strip() for line in found.group(1).splitlines()]


def of(lines, key):
    return next(line.split(": ", 1)[1] for line in lines if line.startswith(key + ": "))


def commands(text, profile):
    return re.search(rf"^profile {profile} has the commands\n((?: .*\n)*)", text, re.M)[1].split()


def test_defaults(check):
    result = check()
    assert result.returncode == 0, result.stderr
    assert section(result.stdout, "configuration") == ["no file: the defaults"]
    assert "[channel general]: virtio-serial /dev/virtio-ports/org.qemu.guest_agent.0, " \
           "profile full\n" in result.stdout
    assert "guest-exec" in commands(result.stdout, "full")
    agent, broker = section(result.stdout, "agent"), section(result.stdout, "broker")
    assert of(agent, "no new privileges") == "yes" and of(broker, "no new privileges") == "no"
    assert of(broker, "capabilities") == "all that it is started with"
    assert any(line.startswith("cap_sys_time: guest-set-time: ") for line in agent)


def test_monitor_has_nothing(check):
    result = check("--profile", "monitor", "--set", NOBODY)
    assert result.returncode == 0, result.stderr
    for process in ("agent", "broker"):
        lines = section(result.stdout, process)
        assert of(lines, "user") == f"nobody ({pwd.getpwnam('nobody').pw_uid})"
        assert of(lines, "capabilities") == "none"
        assert of(lines, "no new privileges") == "yes"
    assert "guest-set-time" not in commands(result.stdout, "monitor")


def test_what_is_not_enabled_needs_nothing(check):
    arguments = ("--profile", "provision", "--set", NOBODY)
    agent = section(check(*arguments).stdout, "agent")
    assert of(agent, "capabilities") == "cap_sys_time"
    assert "clock_settime" in of(agent, "system calls").split()
    agent = section(check(*arguments, "-b", "guest-set-time").stdout, "agent")
    assert of(agent, "capabilities") == "none"
    assert "clock_settime" not in of(agent, "system calls").split()


def test_one_full_channel_makes_all_of_it_full(check):
    config = "[policy]\nprofile = monitor\nuser = nobody\n" \
             "[channel local]\nmethod = unix-listen\npath = /run/none/socket\nprofile = full\n"
    result = check(config=config)
    assert result.returncode == 0, result.stderr
    assert of(section(result.stdout, "broker"), "capabilities") == "all that it is started with"


def test_the_file_that_is_named(check, tmp_path):
    other = tmp_path / "other.conf"
    other.write_text("[general]\nblock-rpcs = guest-ping\n", encoding="utf-8")
    result = check(str(other), config="[nonsense]\n")
    assert result.returncode == 0, result.stderr
    assert section(result.stdout, "configuration") == [str(other)]
    assert "guest-ping" not in commands(result.stdout, "full")
    assert check(str(tmp_path / "missing")).returncode == 1
    assert "one file" in check(str(other), "more").stderr


@pytest.mark.parametrize("config, reason", [
    ("[limits]\nmessage-bytes = lots\n", "message-bytes"),
    ("[policy]\nprofile = most\n", "profile"),
    ("[policy]\nprofile = monitor\nuser = root\n", "not root"),
])
def test_errors(check, config, reason):
    result = check(config=config)
    assert result.returncode == 1 and reason in result.stderr and not result.stdout


def test_strict(check):
    config = "[policy]\nprofile = monitor\nuser = no-such-user\n"
    result = check(config=config)
    assert result.returncode == 0
    assert any("no-such-user" in line for line in
               section(result.stdout, "what cannot be put in force here"))
    result = check(config=config + "strict = true\n")
    assert result.returncode == 1 and "policy.strict" in result.stderr
