# SPDX-License-Identifier: MIT
"""guest-fsfreeze-freeze of everything: only here, never on a machine that is needed.

The root is a disk, there are another ext4, an XFS, an ext4 in a file of the other one, and a bind mount
of that one's, which is younger than the loop device that rests on it.
"""
import time

import pytest

from host import wait_until
from vm import PORT_PATH, VmOptions

VM_OPTIONS = VmOptions(root_disk=True, ext4_disk=True, xfs_disk=True, loop=True, bind=True)
POINTS = ["/", "/mnt/ext4", "/mnt/xfs", "/mnt/loop"]
STATE = "/run/state"  # on a tmpfs, as /var/run is


@pytest.fixture(autouse=True)
def thawed_in_the_end(vm):
    yield
    for point in POINTS:
        vm.shell.run(f"while busybox fsfreeze --unfreeze {point} 2>/dev/null; do :; done; true")


def start(vm, *arguments):
    vm.shell.run(f"[ -d {STATE} ] || mkdir {STATE}")  # mkdir -p would touch the root
    vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, "-t", STATE, *arguments)


def kill(vm):
    vm.signal_agent("KILL")
    vm.wait_agent_exit()


def begin_writes(vm):
    """A process for each file system that writes to it, and notes in /run that it could."""
    for number, point in enumerate(POINTS):
        vm.shell.run(f"rm -f /run/written-{number}; (date >{point}/written; "
                     f">/run/written-{number}) >/dev/null 2>&1 </dev/null &")


def writes_done(vm):
    found = vm.shell.run("ls /run/ | grep ^written- | wc -l")
    return int(found)


def is_frozen(vm):
    """Whether the root is; asked by freezing it once more."""
    return vm.shell.run("if busybox fsfreeze --freeze / 2>/dev/null; then "
                        "busybox fsfreeze --unfreeze /; echo no; else echo yes; fi") == "yes\n"


def test_everything(vm):
    start(vm)
    with vm.session() as channel:
        for _ in range(3):
            assert channel.run("guest-fsfreeze-status") == "thawed"
            assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
            assert channel.run("guest-fsfreeze-status") == "frozen"
            begin_writes(vm)
            assert is_frozen(vm)
            refused = channel.call("guest-get-osinfo")
            assert refused["error"]["desc"].endswith("the agent is in frozen state")
            assert channel.run("guest-ping") == {}
            assert writes_done(vm) == 0
            assert channel.run("guest-fsfreeze-thaw") == len(POINTS)
            wait_until(lambda: writes_done(vm) == len(POINTS), "the writes come through")
            assert channel.run("guest-fsfreeze-thaw") == 0
        assert channel.run("guest-get-osinfo")


def test_by_list(vm):
    start(vm)
    with vm.session() as channel:
        for points, count in ((["/mnt/loop", "/mnt/xfs"], 2), (["/mnt/bind"], 1), (["/"], 1)):
            assert channel.run("guest-fsfreeze-freeze-list", mountpoints=points) == count
            assert channel.run("guest-fsfreeze-thaw") == count


def test_the_state_directory_on_the_frozen_root(vm):
    vm.shell.run("mkdir -p /var/state")
    vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, "-t", "/var/state",
                   "-l", "/var/agent.log")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        assert is_frozen(vm)
        for _ in range(20):
            assert channel.run("guest-ping") == {}
        assert channel.run("guest-fsfreeze-thaw") == len(POINTS)
    assert "file systems were thawed" in vm.shell.run("cat /var/agent.log")


def test_the_guard_thaws_what_a_killed_agent_froze(vm):
    start(vm, "--set", "freeze.timeout=5")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        kill(vm)
        assert is_frozen(vm)
        begin_writes(vm)
        wait_until(lambda: writes_done(vm) == len(POINTS), "the guard thaws", 20)
        assert not is_frozen(vm)
    start(vm)
    with vm.session() as channel:
        wait_until(lambda: channel.run("guest-fsfreeze-status") == "thawed", "it is thawed")
        reply = channel.call("guest-fsfreeze-thaw")
        assert "its timeout had passed" in reply["error"]["desc"]
        assert channel.run("guest-fsfreeze-thaw") == 0
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        assert channel.run("guest-fsfreeze-thaw") == len(POINTS)


def test_an_agent_that_is_started_while_everything_is_frozen(vm):
    start(vm)
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        kill(vm)
    start(vm)
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-status") == "frozen"
        assert "error" in channel.call("guest-get-osinfo")
        assert is_frozen(vm)
        assert channel.run("guest-fsfreeze-thaw") == len(POINTS)
        assert not is_frozen(vm)
        assert channel.run("guest-get-osinfo")


def test_killed_in_the_midst_of_a_freeze(vm):
    """Whenever that is, the guest is thawed: at once by the guard, or at the latest by the timeout."""
    for delay_ms in (0, 5, 20, 50, 100, 200):
        start(vm, "--set", "freeze.timeout=5")
        with vm.session() as channel:
            wait_until(lambda: channel.run("guest-fsfreeze-status") == "thawed", "it is thawed")
            channel.send_request("guest-fsfreeze-freeze")
            time.sleep(delay_ms / 1000)
            kill(vm)
            begin_writes(vm)
            wait_until(lambda: writes_done(vm) == len(POINTS), "everything is thawed", 20)
            assert not is_frozen(vm)
    start(vm)
    with vm.session() as channel:
        wait_until(lambda: channel.run("guest-fsfreeze-status") == "thawed", "it is thawed", 20)
        channel.call("guest-fsfreeze-thaw")  # may tell of the last kill
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        assert channel.run("guest-fsfreeze-thaw") == len(POINTS)


def test_sigterm_while_everything_is_frozen(vm):
    start(vm)
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze") == len(POINTS)
        begin_writes(vm)
        vm.signal_agent("TERM")
        assert vm.wait_agent_exit(30) == 0
        wait_until(lambda: writes_done(vm) == len(POINTS), "everything is thawed")
    start(vm)
    with vm.session() as channel:
        assert "the agent was ended" in channel.call("guest-fsfreeze-thaw")["error"]["desc"]
