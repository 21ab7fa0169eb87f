# SPDX-License-Identifier: MIT
"""guest-set-user-password with the real chpasswd, PAM and shadow files."""
import base64
import crypt
import glob
import os

import pytest

from host import wait_until
from vm import PORT_PATH, VmOptions


def _pam_files():
    paths = ["/etc/pam.d/chpasswd", "/etc/pam.d/other", *glob.glob("/etc/pam.d/common-*")]
    for path in filter(os.path.exists, paths):
        with open(path, encoding="utf-8") as file:
            yield path, file.read()


MODULES = [glob.glob(f"/lib/*/security/pam_{name}.so") for name in ("unix", "permit", "deny")]
VM_OPTIONS = VmOptions(
    programs=("/usr/sbin/chpasswd", *(path for found in MODULES for path in found)),
    files=tuple(_pam_files()),
)
FAILED = "child process has failed to set user password"
SHADOW = "root:*:19000::::::\nalice:!:19000::::::\ndaemon:*:19000::::::\n"


@pytest.fixture(autouse=True)
def shadow(vm):
    """The file as it was, for every test."""
    vm.shell.run(f"printf '{SHADOW}' >/etc/shadow; rm -f /etc/.pwd.lock")
    return lambda: vm.shell.run("cat /etc/shadow")


def hash_of(text, name):
    return next(line.split(":")[1] for line in text.splitlines() if line.startswith(name + ":"))


def encode(password):
    return base64.b64encode(password).decode()


def set_password(channel, username, password, crypted=False, **options):
    arguments = {"username": username, "password": encode(password), "crypted": crypted, **options}
    return channel.call("guest-set-user-password", **arguments)


@pytest.mark.parametrize("password", [b"S3cret pw", b" : \t%n\\'\"$x ", "päß".encode()])
def test_password(agent, shadow, password):
    with agent.session() as channel:
        assert set_password(channel, "alice", password) == {"return": {}}
    hashed = hash_of(shadow(), "alice")
    assert crypt.crypt(password.decode(), hashed) == hashed
    assert hash_of(shadow(), "root") == "*" == hash_of(shadow(), "daemon")


def test_password_with_line_breaks_in_its_base64(agent, shadow):
    """As Proxmox encodes."""
    with agent.session() as channel:
        password = base64.encodebytes(b"long" * 20).decode()
        assert password.count("\n") == 2
        channel.run(
            "guest-set-user-password", username="alice", password=password, crypted=False
        )
    hashed = hash_of(shadow(), "alice")
    assert crypt.crypt("long" * 20, hashed) == hashed


@pytest.mark.parametrize("member", ["crypted", "cryptd"])
def test_encrypted_password(agent, shadow, member):
    entry = b"$6$abc$0123456789abcdef"
    with agent.session() as channel:
        arguments = {"username": "alice", "password": encode(entry), member: True}
        assert channel.call("guest-set-user-password", **arguments) == {"return": {}}
    assert hash_of(shadow(), "alice") == entry.decode()


def test_account_that_does_not_exist(agent, shadow):
    with agent.session() as channel:
        for name in ("nosuch", "", "-e"):
            error = set_password(channel, name, b"x")["error"]
            assert error["class"] == "GenericError"
            assert error["desc"].startswith(FAILED + ": "), error
            assert "\n" not in error["desc"]
    assert shadow() == SHADOW


@pytest.mark.parametrize(
    "username, password, crypted, expected",
    [
        ("alice", b"x\nroot:y", False, "forbidden characters in raw password"),
        ("alice", b"x\n", False, "forbidden characters in raw password"),
        ("alice", b"x\0y", False, "forbidden characters in raw password"),
        ("root:x\nalice", b"y", False, "forbidden characters in username"),
        ("alice:", b"y", False, "forbidden characters in username"),
        ("alice\n", b"y", False, "forbidden characters in username"),
        ("alice", b"x:0:0", True, "forbidden characters in new password"),
    ],
)
def test_nothing_is_smuggled(agent, shadow, username, password, crypted, expected):
    with agent.session() as channel:
        reply = set_password(channel, username, password, crypted)
        assert reply["error"]["desc"] == expected
    assert shadow() == SHADOW


def test_one_account_keeps_the_order(agent, shadow):
    """Requests with an id run side by side, but not those for one account."""
    with agent.session() as channel:
        lines = [
            '{"execute": "guest-set-user-password", "id": %d, "arguments": {"username": "alice", '
            '"password": "%s", "crypted": false}}\n' % (i, encode(b"password %d" % i))
            for i in range(4)
        ]
        channel.send("".join(lines).encode())
        assert [channel.reply(60) for _ in lines] == [{"return": {}, "id": i} for i in range(4)]
    hashed = hash_of(shadow(), "alice")
    assert crypt.crypt("password 3", hashed) == hashed


def test_the_password_is_nowhere_in_the_log(agent):
    with agent.session() as channel:
        set_password(channel, "alice", b"TopSecretWord")
        set_password(channel, "nosuch", b"TopSecretWord")
    log = agent.agent_log()
    assert "guest-set-user-password" in log
    assert "TopSecretWord" not in log and encode(b"TopSecretWord")[:12] not in log


def test_without_chpasswd(agent, shadow):
    agent.shell.run("mv /usr/sbin/chpasswd /tmp/chpasswd")
    try:
        with agent.session() as channel:
            assert "no chpasswd" in set_password(channel, "alice", b"x")["error"]["desc"]
    finally:
        agent.shell.run("mv /tmp/chpasswd /usr/sbin/chpasswd")
    assert shadow() == SHADOW


def test_chpasswd_that_hangs_is_killed(vm, shadow):
    """At the deadline, with whatever it started; and the account's lane is open again."""
    vm.shell.run("mv /usr/sbin/chpasswd /tmp/chpasswd\n"
                 "printf '#!/bin/sh\\nsleep 1000 & echo $! >/run/sleeper\\nwait\\n'"
                 " >/usr/sbin/chpasswd\nchmod 755 /usr/sbin/chpasswd")
    try:
        vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH,
                       "--set", "deadline.guest-set-user-password=2")
        with vm.session() as channel:
            error = set_password(channel, "alice", b"x", timeout=60)["error"]["desc"]
            assert "did not finish within 2 s (waiting for chpasswd)" in error
        wait_until(lambda: vm.shell.run("test -e /proc/$(cat /run/sleeper)/exe", check=False)[0],
                   "what it started has ended")
    finally:
        vm.shell.run("mv /tmp/chpasswd /usr/sbin/chpasswd")

    def lane_is_open():
        with vm.session() as channel:
            return set_password(channel, "alice", b"now", timeout=60) == {"return": {}}

    wait_until(lane_is_open, "a password can be set again", 60)
    hashed = hash_of(shadow(), "alice")
    assert crypt.crypt("now", hashed) == hashed
