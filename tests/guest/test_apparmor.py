# SPDX-License-Identifier: MIT
"""The AppArmor profile, enforced by a real kernel: what the profiles' commands do is permitted."""
import dataclasses
import glob
import os
import re
import shutil

import pytest

import test_accounts
from test_sandbox import ACCOUNTS, PORT_PATH, SAME, SIMILAR, _read, is_frozen

PARSER = shutil.which("apparmor_parser", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
PROFILE = "/etc/apparmor.d/usr.sbin.bellhopd"


def _files():
    text = _read("packaging", "apparmor", "usr.sbin.bellhopd.in")
    yield PROFILE, text.replace("@sbindir@", "/usr/sbin").replace("@name@", "usr.sbin.bellhopd")
    for path in glob.glob("/etc/apparmor.d/abi/*") + glob.glob("/etc/apparmor.d/tunables/**",
                                                               recursive=True):
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                yield path, file.read()


VM_OPTIONS = dataclasses.replace(
    test_accounts.VM_OPTIONS, ext4_disk=True, kernel_arguments="apparmor=1",
    programs=test_accounts.VM_OPTIONS.programs + ((PARSER,) if PARSER else ()),
    files=test_accounts.VM_OPTIONS.files + ACCOUNTS + (tuple(_files()) if PARSER else ()))

pytestmark = pytest.mark.skipif(not PARSER, reason="there is no apparmor_parser")


@pytest.fixture
def confined(vm):
    """A machine whose bellhopd is where the profile has it, with the profile loaded."""
    vm.shell.run("[ -d /sys/kernel/security/apparmor ] || mount -t securityfs none "
                 "/sys/kernel/security")
    if not vm.shell.run("cat /sys/kernel/security/apparmor/profiles; echo x", check=False)[1]:
        pytest.skip("the guest's kernel has no AppArmor")
    vm.shell.run(
        f"printf '{test_accounts.SHADOW}' >/etc/shadow; chmod 640 /etc/shadow; rm -f /etc/.pwd.lock; "
        "mkdir -p /home/alice /etc/apparmor.d/local; chown 1000:1000 /home/alice; "
        "real=$(readlink -f /usr/sbin/bellhopd); "
        "[ $real = /usr/sbin/bellhopd ] || { rm /usr/sbin/bellhopd; cp $real /usr/sbin/bellhopd; }; "
        f"apparmor_parser -r -K {PROFILE}; dmesg -c >/dev/null", timeout=60)
    yield vm
    vm.shell.run(f"apparmor_parser -R {PROFILE}")


def start(vm, profile):
    vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, "--profile", profile)
    pid = vm.agent_pid()
    assert vm.shell.run(f"cat /proc/{pid}/attr/current").strip() == "bellhopd (enforce)"


def assert_nothing_denied(vm):
    assert vm.shell.run("dmesg | grep DENIED; true") == ""


@pytest.mark.parametrize("profile", ["monitor", "backup"])
def test_reading(confined, profile):
    start(confined, profile)
    with confined.session() as channel:
        for command in (*SAME, *SIMILAR):
            channel.run(command)
    assert_nothing_denied(confined)


def guards(vm):
    return vm.shell.run("grep -l bellhop-guard /proc/[0-9]*/comm | cut -d/ -f3").split()


def test_freezing_and_trimming(confined):
    """With the guard: a program that the broker runs, with a socket and locked memory."""
    start(confined, "backup")
    with confined.session() as channel:
        for command, arguments in (("guest-fsfreeze-freeze", {}),
                                   ("guest-fsfreeze-freeze-list", {"mountpoints": ["/mnt/ext4"]})):
            assert channel.run(command, timeout=30, **arguments) == 1
            assert is_frozen(confined, "/mnt/ext4")
            assert len(guards(confined)) == 1
            assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
            assert not is_frozen(confined, "/mnt/ext4")
        paths = channel.run("guest-fstrim", timeout=60)["paths"]
        found = next(path for path in paths if path["path"] == "/mnt/ext4")
        assert "error" not in found and found["trimmed"] > 0
    assert_nothing_denied(confined)


def test_a_guard_left_over(confined):
    """It is confined like the agent, and the next agent reaches it by its socket."""
    start(confined, "backup")
    with confined.session() as channel:
        assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
    guard = guards(confined)
    assert len(guard) == 1
    status = confined.shell.run(f"cat /proc/{guard[0]}/attr/current /proc/{guard[0]}/status")
    assert status.startswith("bellhopd (enforce)\n")
    assert int(re.search(r"^VmLck:\s*(\d+) kB$", status, re.M)[1]) > 0
    confined.signal_agent("KILL")
    confined.wait_agent_exit()
    start(confined, "backup")
    with confined.session() as channel:
        assert channel.run("guest-fsfreeze-status") == "frozen"
        assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
    assert not is_frozen(confined, "/mnt/ext4")
    assert_nothing_denied(confined)


def test_the_root_can_be_opened(confined):
    """
    What is mounted on / is listed there, but whoever was started before that opens what is below:
    it is refused for that reason, and not by the profile.
    """
    confined.shell.run("umount /mnt/ext4; mkdir -p /mnt/ext4")
    path = "/root/over-root"
    confined.shell.run(f"printf '#!/bin/sh\\nmount -t ext4 /dev/vda1 /\\nexec \"$@\"\\n' >{path}; "
                       f"chmod 755 {path}")
    try:
        confined.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, "--profile", "backup",
                             "-t", "/run", before=("unshare", "-m", path))
        with confined.session() as channel:
            channel.call("guest-fsfreeze-freeze-list", timeout=30, mountpoints=["/"])
            channel.call("guest-fsfreeze-thaw", timeout=30)
            channel.call("guest-fstrim", timeout=60)
        log = confined.agent_log()
        confined.signal_agent("TERM")
        confined.wait_agent_exit()
    finally:
        confined.shell.run("mount -t ext4 /dev/vda1 /mnt/ext4")
    assert "Permission denied" not in log, log
    assert_nothing_denied(confined)


def test_provisioning(confined):
    start(confined, "provision")
    with confined.session() as channel:
        channel.run("guest-set-time", time=1_800_000_000 * 10**9)
        channel.run("guest-ssh-add-authorized-keys", username="alice", keys=["ssh-ed25519 AAAA one"])
        assert channel.run("guest-ssh-get-authorized-keys", username="alice")["keys"]
        assert test_accounts.set_password(channel, "alice", b"S3cret") == {"return": {}}
    assert test_accounts.hash_of(confined.shell.run("cat /etc/shadow"), "alice") != "!"
    assert_nothing_denied(confined)


def test_what_is_not_listed_is_denied(confined):
    """As root, who may otherwise do everything."""
    confined.start_agent("-m", "virtio-serial", "-p", PORT_PATH)
    with confined.session() as channel:
        for path in ("/dev/vda", "/etc/guest/options", "/dev/mem"):
            reply = channel.call("guest-file-open", path=path, mode="r")
            assert "Permission denied" in reply["error"]["desc"], path
        reply = channel.call("guest-exec", path="/bin/busybox", arg=["true"])
        assert "Permission denied" in reply["error"]["desc"]
    assert "DENIED" in confined.shell.run("dmesg")
