# SPDX-License-Identifier: MIT
"""Transports that need a machine: an emulated serial port, and vsock, of which the guest's own loopback
(CID 1) stands for a peer that is not the host."""
import base64
import json
import os
import random
import shlex

import pytest

from host import wait_until
from vm import VmOptions, reference

CLIENT = os.path.join(os.path.dirname(os.path.abspath(os.environ.get("BELLHOPD", "x"))), "bellhop")
LINE = "/dev/ttyS2"
LINE_BYTES = 20_000  # each one is an interrupt or nearly so
TWO_CHANNELS = (
    "/etc/two.conf",
    "[channel two]\nmethod=vsock-listen\npath=any:1025\nvsock-peers=7,1\n",
)
VM_OPTIONS = VmOptions(serial_line=True, vsock=True, programs=(CLIENT,), files=(TWO_CHANNELS,))
AGENTS = ["bellhopd", "qemu-ga"] if reference() else ["bellhopd"]


# A serial port


def connect_line(vm):
    """A host's connection, in sync."""
    channel = vm.connect_line()
    try:
        return channel.sync(60, 2)
    except BaseException:
        channel.close()
        raise


@pytest.mark.parametrize("program", AGENTS)
def test_serial_line(vm, program):
    vm.start_agent("-v", "-m", "isa-serial", "-p", LINE, program=program, wait=False)
    data = random.Random(1).randbytes(LINE_BYTES)
    with connect_line(vm) as channel:
        assert channel.run("guest-ping") == {}
        handle = channel.run("guest-file-open", path="/tmp/data", mode="w+")
        text = base64.b64encode(data).decode()
        written = channel.run("guest-file-write", 90, handle=handle, buf_b64=text)
        assert written["count"] == LINE_BYTES
        channel.run("guest-file-seek", handle=handle, offset=0, whence=0)
        read = channel.run("guest-file-read", 90, handle=handle, count=LINE_BYTES)
        assert base64.b64decode(read["buf-b64"]) == data
    with connect_line(vm) as channel:  # the line does not tell, and the agent need not know
        assert channel.run("guest-file-close", handle=handle) == {}
    vm.shell.run("rm /tmp/data")


def test_serial_line_that_the_kernel_hangs_up(vm):
    """With -r it is opened again, as after a device that went away."""
    vm.start_agent("-v", "-r", "-m", "isa-serial", "-p", LINE, wait=False)
    connect_line(vm).close()
    vm.shell.run(f"setsid getty -n -l /bin/false 0 {LINE} vt100 </dev/null", check=False)
    wait_until(lambda: vm.agent_log().count(f"opened {LINE}") > 1, "the line is opened again", 60)
    with connect_line(vm) as channel:
        assert channel.run("guest-ping") == {}


def test_line_without_hardware(vm):
    vm.start_agent("-m", "isa-serial", "-p", "/dev/ttyS3", wait=False)
    assert vm.wait_agent_exit() == 1
    log = vm.agent_log()
    assert "/dev/ttyS3" in log and "serial" in log, log


# vsock


def start_listening(vm, *arguments, program="bellhopd"):
    vm.start_agent("-v", "-m", "vsock-listen", *arguments, program=program, wait=False)
    if program == "bellhopd":
        wait_until(lambda: "is ready" in vm.agent_log(), "the agent is ready", 30)


def call(vm, address, *words):
    """Runs the client in the guest: its exit status and what it printed."""
    command = " ".join(map(shlex.quote, [CLIENT, "--timeout", "20", address, *words]))
    return vm.shell.run(command, timeout=60, check=False)


@pytest.mark.parametrize("program", AGENTS)
def test_vsock(vm, program):
    """Peers that were named may connect, several one after the other."""
    peers = ["--set", "general.vsock-peers=1"] if program == "bellhopd" else []
    start_listening(vm, "-p", "1:1024", *peers, program=program)

    def answers():
        status, output = call(vm, "vsock:1:1024", "guest-ping")
        return status == 0 and output.strip() == "{}"

    wait_until(answers, "the agent answers", 60)
    status, output = call(vm, "vsock:1:1024", "guest-get-osinfo")
    assert status == 0 and json.loads(output)["id"] == "bellhop-test", output
    assert call(vm, "vsock:1:1024", "read", "/etc/machine-id")[1].startswith("0123456789abcdef")


def test_vsock_of_any_cid_and_several_channels(vm):
    start_listening(vm, "-p", "any:1024", "--set", "general.vsock-peers=any", "-c", TWO_CHANNELS[0])
    for port in (1024, 1025):
        status, output = call(vm, f"vsock:1:{port}", "guest-ping")
        assert status == 0, output


@pytest.mark.parametrize("peers", [None, "2", "3,7"])
def test_vsock_peers_that_may_not_connect(vm, peers):
    """By default nobody but the host: no program of the guest, whoever runs it."""
    arguments = ["--set", f"general.vsock-peers={peers}"] if peers else []
    start_listening(vm, "-p", "any:1024", *arguments)
    for _ in range(3):
        status, output = call(vm, "vsock:1:1024", "guest-ping")
        assert status == 2, output
    log = vm.agent_log()
    assert "CID 1 is none of the peers that may connect" in log
    assert log.count("CID 1 is none") == 1  # who is refused cannot fill the log
    assert "guest-sync" not in log and "guest-ping" not in log
    assert vm.agent_status() is None


def test_vsock_port_that_is_taken(vm):
    start_listening(vm, "-p", "any:1024")
    status, output = vm.shell.run(
        "mkdir -p /run/second; /usr/sbin/bellhopd -m vsock-listen -p any:1024 -t /run/second",
        check=False,
    )
    assert status == 1 and "another program listens on vsock port any:1024" in output, output
    # and is free again as soon as its agent has ended, however that was
    vm.signal_agent("KILL")
    vm.wait_agent_exit()
    start_listening(vm, "-p", "any:1024", "--set", "general.vsock-peers=1")
    assert call(vm, "vsock:1:1024", "guest-ping")[0] == 0


def test_vsock_cid_of_another_machine(vm):
    vm.start_agent("-m", "vsock-listen", "-p", "77:1024", wait=False)
    assert vm.wait_agent_exit() == 1
    assert "this machine's CID is not 77" in vm.agent_log()


# The system's log


def test_log_to_syslog(vm):
    """Where there is no journal, journal: is syslog: with a real one, which takes lines without a time."""
    vm.shell.run("syslogd -O /run/messages")
    try:
        wait_until(lambda: vm.shell.run("ls /dev/log", check=False)[0] == 0, "syslogd listens")
        vm.start_agent("-m", "isa-serial", "-p", LINE, "-l", "journal:", wait=False)
        wait_until(
            lambda: "is ready" in vm.shell.run("cat /run/messages", check=False)[1],
            "the log reaches syslog",
            30,
        )
        line = next(x for x in vm.shell.run("cat /run/messages").splitlines() if "is ready" in x)
        assert f" daemon.info bellhopd[{vm.agent_pid()}]: bellhopd " in line, line
        assert vm.agent_log() == ""
    finally:
        vm.shell.run("killall syslogd; rm -f /run/messages", check=False)
