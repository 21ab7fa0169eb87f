# SPDX-License-Identifier: MIT
"""
The packaged unit under a real systemd as process 1, as it is and with each profile's drop-in: it
takes away nothing that the profile's commands need.
"""
import dataclasses
import os
import re

import pytest

import test_accounts
from host import wait_until
from test_sandbox import ACCOUNTS, PROFILES, SAME, SIMILAR, USER, _read, is_frozen, landlock_lacks
from vm import AGENT_LOG

MANAGER = "/lib/systemd/systemd"
PROGRAMS = (MANAGER, "/bin/systemctl")
EXECUTOR = "/lib/systemd/systemd-executor"  # of newer versions
DEVICE_RULES = "/lib/udev/rules.d/99-systemd.rules"
UNITS = "/etc/systemd/system"
KEPT = "/etc/guest/units"  # what is tried in turn
SYSTEMCTL = "SYSTEMD_PAGER= SYSTEMD_COLORS=0 systemctl --no-pager"
TARGETS = ("default", "sysinit", "basic", "shutdown", "umount", "local-fs")


def packaged(*parts):
    return _read("packaging", *parts).replace("@sbindir@", "/usr/sbin")


def files():
    yield "/etc/guest/process-1", MANAGER + " --system --log-target=console --show-status=no"
    yield "/var/tmp/.here", ""
    for target in TARGETS:
        yield f"{UNITS}/{target}.target", "[Unit]\nDefaultDependencies=no\n"
    yield f"{KEPT}/bellhop.service", packaged("bellhop.service.in")
    yield "/lib/udev/rules.d/99-bellhop.rules", packaged("99-bellhop.rules")
    for profile in PROFILES[1:]:
        yield f"{KEPT}/{profile}.conf", packaged("systemd", profile + ".conf.in")
    yield f"{KEPT}/zz-log.conf", f"[Service]\nStandardError=append:{AGENT_LOG}\n"
    if os.path.exists(DEVICE_RULES):
        with open(DEVICE_RULES, encoding="utf-8") as file:
            yield DEVICE_RULES, file.read()


VM_OPTIONS = dataclasses.replace(
    test_accounts.VM_OPTIONS, memory_mb=768, udev=True, root_disk=True, ext4_disk=True,
    programs=test_accounts.VM_OPTIONS.programs + tuple(
        path for path in (*PROGRAMS, EXECUTOR) if os.path.exists(path)),
    files=test_accounts.VM_OPTIONS.files + ACCOUNTS + tuple(files()))

pytestmark = [
    pytest.mark.time_limit(240),
    pytest.mark.skipif(not all(os.path.exists(path) for path in (*PROGRAMS, DEVICE_RULES)),
                       reason="systemd is not installed"),
]


def systemctl(vm, words, **options):
    return vm.shell.run(f"{SYSTEMCTL} {words}", timeout=90, **options)


def main_pid(vm):
    return int(systemctl(vm, "show --property=MainPID --value bellhop"))


@pytest.fixture
def managed(vm):
    """A machine with systemd, and no unit yet."""
    wait_until(lambda: systemctl(vm, "is-active basic.target", check=False)[0] in (0, 3),
               "the service manager answers", 60)
    yield vm
    systemctl(vm, "stop bellhop", check=False)
    vm.shell.run("while busybox fsfreeze --unfreeze /mnt/ext4 2>/dev/null; do :; done; "
                 f"rm -rf {UNITS}/bellhop.service {UNITS}/bellhop.service.d")
    systemctl(vm, "daemon-reload", check=False)


def start(vm, profile):
    """Installs the unit with the profile's drop-in and starts it."""
    folder = f"{UNITS}/bellhop.service.d"
    vm.shell.run(f"mkdir -p {folder}; cp {KEPT}/bellhop.service {UNITS}; "
                 f"cp {KEPT}/zz-log.conf {folder}")
    if profile != "full":
        vm.shell.run(f"cp {KEPT}/{profile}.conf {folder}")
    systemctl(vm, "daemon-reload")
    systemctl(vm, "start bellhop")
    is_up(vm)


def is_up(vm):
    assert systemctl(vm, "is-active bellhop", check=False)[1] == "active\n", vm.agent_log()
    assert main_pid(vm) > 0


def check_log(vm, profile):
    """Nothing is missing but what the guest's kernel does not have."""
    expected = set() if profile == "full" else landlock_lacks(vm)
    assert set(re.findall(r"not in force: (.*)", vm.agent_log())) == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_reading_and_restarts(managed, profile):
    """Each command that reads answers, and the unit can be restarted."""
    vm = managed
    start(vm, profile)
    assert ("0" if profile == "full" else str(USER)) == vm.shell.run(
        f"sed -n 's/^Uid:\t\\([0-9]*\\).*/\\1/p' /proc/{main_pid(vm)}/status").strip()
    with vm.session() as channel:
        commands = channel.run("guest-info")["supported_commands"]
        enabled = {command["name"] for command in commands if command["enabled"]}
        asked = enabled & {*SAME, *SIMILAR, "guest-fsfreeze-status", "bellhop-job-list"}
        assert "guest-ping" in asked
        if profile != "provision":
            assert asked > {*SAME, *SIMILAR}
        for command in sorted(asked):
            channel.run(command)
    before = main_pid(vm)
    systemctl(vm, "restart bellhop")
    is_up(vm)
    assert main_pid(vm) != before
    with vm.session() as channel:
        channel.run("guest-ping")
    check_log(vm, profile)


def test_backup(managed):
    start(managed, "backup")
    with managed.session() as channel:
        assert channel.run("guest-fsfreeze-freeze-list", timeout=60, mountpoints=["/mnt/ext4"]) == 1
        assert channel.run("guest-fsfreeze-status") == "frozen"
        assert is_frozen(managed, "/mnt/ext4")
        assert channel.run("guest-fsfreeze-thaw", timeout=60) == 1
        assert not is_frozen(managed, "/mnt/ext4")
        paths = channel.run("guest-fstrim", timeout=90)["paths"]
        found = {path["path"]: path for path in paths}
        assert {"/", "/mnt/ext4"} == set(found)
        assert not any("error" in path for path in paths)
    check_log(managed, "backup")


def test_provision(managed):
    managed.shell.run(f"printf '{test_accounts.SHADOW}' >/etc/shadow; rm -f /etc/.pwd.lock; "
                      "chown 1000:1000 /home/alice")
    start(managed, "provision")
    with managed.session() as channel:
        if os.path.exists("/usr/sbin/chpasswd"):
            assert test_accounts.set_password(channel, "alice", b"S3cret") == {"return": {}}
            assert test_accounts.hash_of(managed.shell.run("cat /etc/shadow"), "alice") != "!"
        key = "ssh-ed25519 AAAA one"
        channel.run("guest-ssh-add-authorized-keys", username="alice", keys=[key])
        found = channel.run("guest-ssh-get-authorized-keys", username="alice")
        assert found["keys"] == [key]
        channel.run("guest-set-time", time=1_800_000_000 * 10**9)
    check_log(managed, "provision")
