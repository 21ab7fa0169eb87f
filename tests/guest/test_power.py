# SPDX-License-Identifier: MIT
"""guest-shutdown and guest-suspend-*: every test has a machine of its own, or wakes it up again.

The programs of the systems that are not installed here are stand-ins that note what they were asked
for; what they would do is theirs. The kernel's part is real.
"""
import json

import pytest

from host import Timeout, wait_until
from vm import PORT_PATH

UNSUPPORTED = "the requested suspend mode is not supported by the guest"
PROGRAMS = "systemctl shutdown poweroff halt reboot pm-suspend pm-hibernate pm-suspend-hybrid".split()
WAYS = {
    "powerdown": ("-h -P +0 hypervisor initiated shutdown", "guest-shutdown"),
    "reboot": ("-r +0 hypervisor initiated shutdown", "guest-reset"),
    "halt": ("-h -H +0 hypervisor initiated shutdown", None),
}


def start(guest):
    guest.start_agent()
    return guest


def console(guest):
    with open(guest._in("console.log"), errors="replace", encoding="utf-8") as file:
        return file.read()


def sends_nothing(channel, seconds=1):
    with pytest.raises((Timeout, EOFError, ConnectionError)):
        reply = channel.line(timeout=seconds)
        pytest.fail(f"there was a reply: {reply}")


def remove_programs(guest, names=PROGRAMS):
    for name in names:
        guest.shell.run(f"rm -f /sbin/{name} /usr/sbin/{name} /bin/{name} /usr/bin/{name}")


def stand_in(guest, name, script="exit 0"):
    """A program that notes what it is called with, then does what the script says."""
    remove_programs(guest, [name])
    guest.shell.run(
        f"printf '#!/bin/sh\\necho \"{name} $*\" >>/run/asked\\n{script}\\n' >/usr/sbin/{name}\n"
        f"chmod 755 /usr/sbin/{name}; : >>/run/asked"
    )


def asked(guest):
    return guest.shell.run("cat /run/asked").splitlines()


def wait_asked(guest, count):
    wait_until(lambda: len(asked(guest)) >= count, "a program is asked")
    return asked(guest)


# Shutting down


@pytest.mark.parametrize("mode", [None, *WAYS])
def test_shutdown_program(fresh_vm, mode):
    guest = start(fresh_vm())
    arguments, reason = WAYS[mode or "powerdown"]
    with guest.session() as channel:
        channel.send_request("guest-shutdown", **({"mode": mode} if mode else {}))
        if reason:
            assert guest.qmp.wait_event("SHUTDOWN")["reason"] == reason
        else:
            wait_until(lambda: "System halted" in console(guest), "the guest halts")
        sends_nothing(channel)
    assert f"shutdown: {arguments}\n" in console(guest)


@pytest.mark.parametrize("mode", WAYS)
def test_shutdown_by_the_kernel(fresh_vm, mode):
    """A guest that has nothing but a kernel and an agent."""
    guest = start(fresh_vm(ext4_disk=True))
    guest.shell.run("echo kept >/mnt/ext4/file")
    remove_programs(guest)
    with guest.session() as channel:
        channel.send_request("guest-shutdown", mode=mode)
        if WAYS[mode][1]:
            assert guest.qmp.wait_event("SHUTDOWN")["reason"] == WAYS[mode][1]
        else:
            wait_until(lambda: "System halted" in console(guest), "the guest halts")
        sends_nothing(channel)
    assert "shutdown:" not in console(guest)


def test_shutdown_reply_before_it_is_not_lost(fresh_vm):
    """Proxmox takes the end of the stream for success, if the sync was answered."""
    guest = start(fresh_vm())
    with guest.session() as channel:
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": 4711}}
        channel.send((json.dumps(sync) + '\n{"execute": "guest-shutdown"}\n').encode())
        assert json.loads(channel.line().lstrip(b"\xff")) == {"return": 4711}
        guest.qmp.wait_event("SHUTDOWN")
        sends_nothing(channel)


def test_shutdown_with_systemd(agent):
    agent.shell.run("mkdir -p /run/systemd/system; rm -f /run/asked")
    stand_in(agent, "systemctl")
    try:
        with agent.session() as channel:
            for mode in ("powerdown", "halt", "reboot"):
                channel.send_request("guest-shutdown", mode=mode)
            channel.run("guest-ping")
    finally:
        agent.shell.run("rm -rf /run/systemd /usr/sbin/systemctl")
    options = "--ignore-inhibitors --no-wall --no-block"
    assert asked(agent) == [f"systemctl {options} {verb}" for verb in ("poweroff", "halt", "reboot")]


def test_shutdown_goes_the_next_way(fresh_vm):
    """What fails is not the end of it, but the kernel is not asked behind the system's back."""
    guest = start(fresh_vm())
    guest.shell.run("mkdir -p /run/systemd/system")
    stand_in(guest, "systemctl", "echo no bus >&2; exit 1")
    stand_in(guest, "shutdown", "exit 3")
    stand_in(guest, "poweroff", "echo not today >&2; exit 1")
    with guest.session() as channel:
        error = channel.call("guest-shutdown")["error"]
        assert error["desc"] == "child process has failed to shutdown: not today"
        assert [line.split()[0] for line in asked(guest)] == ["systemctl", "shutdown", "poweroff"]
        stand_in(guest, "poweroff")
        channel.send_request("guest-shutdown")
        channel.run("guest-ping")
        assert len(asked(guest)) == 6


@pytest.mark.parametrize("mode", ["sideways", "", "HALT", "halt "])
def test_shutdown_mode_that_does_not_exist(any_agent, mode):
    with any_agent.session() as channel:
        error = channel.call("guest-shutdown", mode=mode)["error"]
        assert error["desc"] == "mode is invalid (valid values are: halt|powerdown|reboot"
        channel.run("guest-ping")


def test_shutdown_program_that_hangs_is_killed(fresh_vm):
    """It is no reason to try another way, but one can be asked for again."""
    guest = fresh_vm()
    remove_programs(guest)
    stand_in(guest, "shutdown", "sleep 1000")
    stand_in(guest, "poweroff")
    guest.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH,
                      "--set", "deadline.guest-shutdown=2")
    with guest.session() as channel:
        error = channel.call("guest-shutdown", timeout=60)["error"]["desc"]
        assert "did not finish within 2 s" in error

        def is_asked_again():
            return "did not finish" in channel.call("guest-shutdown", timeout=60)["error"]["desc"]

        wait_until(is_asked_again, "its lane is open", 60)
    assert {line.split()[0] for line in asked(guest)} == {"shutdown"}


def test_shutdown_that_was_given_up(fresh_vm):
    """A host that syncs has given up on what it asked before: if it has not begun, it never does."""
    guest = start(fresh_vm())
    stand_in(guest, "shutdown", "read x </run/gate")
    guest.shell.run("mkfifo /run/gate")
    with guest.session() as channel:
        channel.send_request("guest-shutdown", mode="halt")
        wait_asked(guest, 1)
        channel.send_request("guest-shutdown", mode="reboot")  # waits for the first
        channel.sync()
        guest.shell.run("echo >/run/gate")
        channel.run("guest-ping")
        assert asked(guest) == ["shutdown -h -H +0 hypervisor initiated shutdown"]


# Sleeping


def test_suspend_to_ram_by_the_kernel(fresh_vm):
    guest = start(fresh_vm())
    with guest.session() as channel:
        for _ in range(2):
            channel.send_request("guest-suspend-ram")
            guest.qmp.wait_event("SUSPEND")
            guest.qmp.run("system_wakeup")
            guest.qmp.wait_event("WAKEUP")
            assert channel.call("guest-ping", timeout=30) == {"return": {}}  # and nothing before it


def test_suspend_with_programs(agent):
    """systemd's before pm-utils', and those before the kernel."""
    agent.shell.run("rm -f /run/asked")
    stand_in(agent, "pm-suspend")
    stand_in(agent, "systemctl")
    try:
        with agent.session() as channel:
            channel.send_request("guest-suspend-ram")
            channel.run("guest-ping")
            assert asked(agent) == ["pm-suspend "]
            agent.shell.run("mkdir -p /run/systemd/system")
            channel.send_request("guest-suspend-ram")
            channel.run("guest-ping")
            assert asked(agent)[1:] == ["systemctl --ignore-inhibitors suspend"]
            stand_in(agent, "systemctl", "exit 1")
            stand_in(agent, "pm-suspend", "echo broken; exit 1")
            error = channel.call("guest-suspend-ram")["error"]
            assert error["desc"] == "child process has failed to suspend: broken"
    finally:
        agent.shell.run("rm -rf /run/systemd /usr/sbin/systemctl /usr/sbin/pm-suspend")


@pytest.mark.parametrize("mode", ["disk", "hybrid"])
def test_suspend_without_swap(agent, mode):
    """Refused before anything happens: the kernel would stop everything first."""
    stand_in(agent, "pm-hibernate")
    stand_in(agent, "pm-suspend-hybrid")
    agent.shell.run("rm -f /run/asked; : >/run/asked; dmesg -c >/dev/null")
    try:
        with agent.session() as channel:
            error = channel.call("guest-suspend-" + mode)["error"]
            assert error == {"class": "GenericError", "desc": UNSUPPORTED}
        assert asked(agent) == []
        assert "PM:" not in agent.shell.run("dmesg")
    finally:
        remove_programs(agent, ["pm-hibernate", "pm-suspend-hybrid"])


def test_suspend_to_disk_by_the_kernel(fresh_vm):
    guest = start(fresh_vm(swap=True))
    with guest.session() as channel:
        channel.send_request("guest-suspend-disk")
        guest.qmp.wait_event("SUSPEND_DISK", 90)
        sends_nothing(channel)


def test_suspend_hybrid_by_the_kernel(fresh_vm):
    guest = start(fresh_vm(swap=True))
    with guest.session() as channel:
        channel.send_request("guest-suspend-hybrid")
        guest.qmp.wait_event("SUSPEND", 90)
        assert guest.qmp.take_events("SUSPEND_DISK") == []
        guest.qmp.run("system_wakeup")
        guest.qmp.wait_event("WAKEUP")
        assert channel.call("guest-ping", timeout=60) == {"return": {}}
        # a hibernation afterwards is one
        channel.send_request("guest-suspend-disk")
        guest.qmp.wait_event("SUSPEND_DISK", 90)
