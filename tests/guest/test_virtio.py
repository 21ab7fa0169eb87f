# SPDX-License-Identifier: MIT
"""The virtio-serial transport on a real port: hosts that come, go and vanish at any moment."""
import base64
import contextlib
import hashlib
import os
import time

import pytest

from host import Timeout, seconds, wait_until
from vm import PORT_PATH

BIG_BYTES = 4 << 20  # more than the port and QEMU hold of an unread reply
FITS_NEARLY_BYTES = 3_500_000  # so much more that the rest does not keep the agent from reading
ABSENCE_SECONDS = 2
NOTICE_SECONDS = 1
WITH_RETRY = ("-v", "-m", "virtio-serial", "-p", PORT_PATH, "--retry-path")


@contextlib.contextmanager
def host_that_leaves(vm):
    """A host's connection, in sync; then so much time that the agent must know that it is over.

    It cannot know at once: what looks like the end of one host may be the beginning of the next.
    """
    with vm.session() as channel:
        yield channel
    vm.wait_host_connected(False)
    time.sleep(seconds(NOTICE_SECONDS))  # a limit that is tested, nothing is waited for
    vm.wait_agent_idle()


def wait_received(vm, count):
    """Waits until the agent has read so many bytes from its port."""
    wait_until(
        lambda: int(vm.port_state()["bytes_received"]) >= count, f"{count} bytes reach the agent"
    )


def assert_answers_with_nothing_before(vm):
    """Connects as a new host does that does not sync, and gets its own reply first."""
    with vm.connect() as channel:
        assert channel.call("guest-ping") == {"return": {}}


def exit_status(channel, pid):
    """The final status of a program, None while it runs."""
    status = channel.run("guest-exec-status", pid=pid)
    return status if status["exited"] else None


def request_big_reply(vm, channel, count=BIG_BYTES):
    """Has the agent send a reply that is not read; returns once the port is full."""
    handle = channel.run("guest-file-open", path="/dev/zero", mode="r")
    channel.send_request("guest-file-read", handle=handle, count=count)
    wait_until(lambda: vm.port_state()["outvq_full"] == "1", "the port is full")


def assert_sleeps(vm):
    vm.wait_agent_idle()
    before = vm.agent_usage()
    time.sleep(ABSENCE_SECONDS)  # what is measured, nothing is waited for
    after = vm.agent_usage()
    assert after.cpu_ticks - before.cpu_ticks <= 1, (before, after)
    assert after.switches - before.switches <= 10, (before, after)


# An agent at work over the port


def test_commands(any_agent):
    with any_agent.connect() as channel:
        channel.sync()
        assert channel.run("guest-ping") == {}
        assert channel.run("guest-sync", id=2**63 - 1) == 2**63 - 1
        commands = channel.run("guest-info")["supported_commands"]
        assert {"guest-ping", "guest-exec"} <= {command["name"] for command in commands}
        assert channel.run("guest-get-host-name") == {"host-name": "guest"}
        assert channel.run("guest-get-osinfo")["id"] == "bellhop-test"
        assert channel.call("no-such")["error"]["class"] == "CommandNotFound"


def test_program(any_agent):
    with any_agent.connect() as channel:
        channel.sync()
        status = channel.execute("/bin/sh", "-c", "cat; exit 3", input_data="aGVsbG8=")
        assert status["exitcode"] == 3
        assert base64.b64decode(status["out-data"]) == b"hello"


@pytest.mark.parametrize("size", [1, 4096, 3_000_000])
def test_file_both_ways(any_agent, size):
    content = os.urandom(size)
    with any_agent.connect() as channel:
        channel.sync()
        handle = channel.run("guest-file-open", path="/tmp/file", mode="w")
        for at in range(0, size, 1_000_000):
            part = base64.b64encode(content[at : at + 1_000_000]).decode()
            channel.run("guest-file-write", handle=handle, buf_b64=part)
        channel.run("guest-file-close", handle=handle)
        sum_in_guest = any_agent.shell.run("sha256sum /tmp/file").split()[0]
        assert sum_in_guest == hashlib.sha256(content).hexdigest()
        assert channel.read_file("/tmp/file") == content


def test_host_that_connects_for_every_command(any_agent):
    with any_agent.port_stays_open():
        for _ in range(20):
            with any_agent.connect() as channel:
                channel.sync()
                assert channel.call("guest-ping") == {"return": {}}
    assert any_agent.agent_status() is None


def test_port_is_closed_at_the_end(any_agent):
    """That closing the port is seen is what the other tests rely on."""
    with pytest.raises(AssertionError), any_agent.port_stays_open():
        any_agent.signal_agent("TERM")
        any_agent.wait_agent_exit()


# Hosts that come and go


def test_hundred_hosts_without_sync(agent):
    """Each is answered, with nothing that is meant for another one, however fast they follow."""
    with agent.port_stays_open():
        for number in range(100):
            with agent.connect() as channel:
                assert channel.run("guest-sync", id=number) == number


def test_request_and_sync_in_one_write(agent):
    """As Proxmox does it: on a connection of its own, both lines expected next to each other."""
    for number in range(1, 21):
        with agent.connect() as channel:
            channel.send(
                b'{"execute":"guest-sync-delimited","arguments":{"id":%d}}\n'
                b'{"execute":"guest-get-host-name"}\n' % number
            )
            assert channel.line() == b'\xff{"return": %d}' % number
            assert channel.reply() == {"return": {"host-name": "guest"}}


def test_first_request_of_a_host_that_was_away(agent):
    """Its bytes reach the agent before the driver knows that it is there; they count all the same.

    (The driver learns of a host through a queue of its own that is worked off later, and until
    then read() says end of file behind the bytes.)
    """
    for number in range(1, 41):
        agent.wait_host_connected(False)
        agent.wait_agent_idle()
        with agent.connect() as channel:
            assert channel.run("guest-sync", id=number) == number


def test_hosts_with_processors_that_race(fresh_vm):
    """With two processors the agent runs while the driver hears of hosts: coming, going, both."""
    vm = fresh_vm(cpus=2)
    vm.start_agent()
    for number in range(1, 101):
        if number % 3 == 0:
            vm.wait_host_connected(False)
        with vm.connect() as channel:
            channel.send(
                b'{"execute":"guest-sync-delimited","arguments":{"id":%d}}\n'
                b'{"execute":"guest-get-host-name"}\n' % number
            )
            assert channel.line() == b'\xff{"return": %d}' % number
            assert channel.reply() == {"return": {"host-name": "guest"}}


def test_host_leaves_within_its_request(agent):
    with agent.port_stays_open():
        for cut in (b"{", b'{"execute": "guest-pi', b'{"execute": "guest-ping"', b'"', b"[[[["):
            with host_that_leaves(agent) as channel:
                received = int(agent.port_state()["bytes_received"])
                channel.send(cut)
                wait_received(agent, received + len(cut))
            assert_answers_with_nothing_before(agent)


def test_host_leaves_within_a_reply(agent):
    with agent.port_stays_open():
        with host_that_leaves(agent) as channel:
            request_big_reply(agent, channel)
        assert_answers_with_nothing_before(agent)


def test_host_leaves_within_a_reply_with_more_requests_behind(agent):
    with host_that_leaves(agent) as channel:
        request_big_reply(agent, channel)
        for _ in range(50):
            channel.send_request("guest-get-osinfo")
        channel.send(b'{"execute": "gu')
    assert_answers_with_nothing_before(agent)


def test_host_is_back_at_once_within_a_reply(agent):
    """The agent may not notice that there was another host: a sync makes it usable at once."""
    for _ in range(5):
        with agent.connect() as channel:
            channel.sync()
            request_big_reply(agent, channel)
        with agent.connect() as channel:
            channel.sync()
            assert channel.call("guest-ping") == {"return": {}}


def test_reply_that_is_ready_while_the_host_is_away(agent):
    """It is dropped: the next host did not ask for it."""
    agent.shell.run("mkfifo /run/slow")
    with host_that_leaves(agent) as channel:
        received = int(agent.port_state()["bytes_received"])
        channel.send_request("guest-file-open", path="/run/slow", mode="r")
        wait_received(agent, received + 1)
    agent.shell.run("exec 3>/run/slow")  # ends only when the agent has the other end open
    agent.wait_agent_idle()
    assert_answers_with_nothing_before(agent)


def test_program_goes_on_while_the_host_is_away(agent):
    with host_that_leaves(agent) as channel:
        script = "while [ ! -e /run/go ]; do usleep 10000; done; echo finished"
        pid = channel.run(
            "guest-exec", path="/bin/sh", arg=["-c", script], capture_output=True
        )["pid"]
    agent.shell.run(f"touch /run/go; while [ -d /proc/{pid} ]; do usleep 10000; done")
    with agent.connect() as channel:
        status = wait_until(lambda: exit_status(channel, pid), "the program has exited")
        assert status["exitcode"] == 0
        assert base64.b64decode(status["out-data"]) == b"finished\n"


# Sleeping


def test_sleeps_while_no_host_was_there_yet(vm):
    vm.start_agent(wait=False)
    wait_until(lambda: vm.port_state()["guest_connected"] == "1", "the agent opens its port")
    assert_sleeps(vm)


def test_sleeps_while_the_host_is_away(agent):
    with host_that_leaves(agent):
        pass
    assert_sleeps(agent)


def test_sleeps_while_the_host_is_silent(agent):
    with agent.connect() as channel:
        channel.sync()
        assert_sleeps(agent)


def test_sleeps_while_the_host_does_not_read(agent):
    with agent.connect() as channel:
        channel.sync()
        request_big_reply(agent, channel)
        assert_sleeps(agent)
        assert len(channel.reply()["return"]["buf-b64"]) > BIG_BYTES


def test_does_not_spin_until_it_is_sure_that_its_host_has_left(agent):
    """Something is to be written, and the port says on and on that nobody is there."""
    with agent.session() as channel:
        request_big_reply(agent, channel, FITS_NEARLY_BYTES)
        agent.wait_agent_idle()
        before = agent.agent_calls()
        channel.send(b" ")
    agent.wait_host_connected(False)
    time.sleep(seconds(NOTICE_SECONDS))
    assert agent.agent_calls() - before <= 30


def test_sleeps_after_a_host_that_did_not_read(agent):
    with host_that_leaves(agent) as channel:
        request_big_reply(agent, channel)
    assert_sleeps(agent)


def test_sleeps_after_a_reply_for_a_host_that_is_away(agent):
    agent.shell.run("mkfifo /run/slow2")
    with host_that_leaves(agent) as channel:
        received = int(agent.port_state()["bytes_received"])
        channel.send_request("guest-file-open", path="/run/slow2", mode="r")
        wait_received(agent, received + 1)
    agent.shell.run("exec 3>/run/slow2")
    assert_sleeps(agent)


# A port that comes, goes and is busy


def test_no_port(vm):
    vm.unplug_port()
    vm.start_agent(wait=False)
    assert vm.wait_agent_exit() != 0
    assert PORT_PATH in vm.agent_log()


@pytest.mark.parametrize("link", [True, False])
def test_port_is_waited_for(vm, link):
    vm.unplug_port()
    if not link:
        vm.shell.run("rm -r /dev/virtio-ports")
    vm.start_agent(*WITH_RETRY, wait=False)
    wait_until(lambda: "waiting for" in vm.agent_log(), "the agent says that it waits")
    for _ in range(3):
        vm.plug_port()
        vm.wait_agent()
        vm.unplug_port()
        wait_until(
            lambda: "vport" not in vm.shell.run("ls -l /proc/$(cat /run/agent.pid)/fd"),
            "the agent has closed the port",
        )
    vm.plug_port()
    vm.wait_agent()
    assert vm.agent_status() is None


def test_waiting_agent_sleeps(vm):
    vm.unplug_port()
    vm.start_agent(*WITH_RETRY, wait=False)
    wait_until(lambda: "waiting for" in vm.agent_log(), "the agent says that it waits")
    time.sleep(2)  # attempts go on for a while after an event; what comes then is measured
    assert_sleeps(vm)
    vm.plug_port()
    vm.wait_agent()


def test_waiting_agent_ends_when_asked(vm):
    vm.unplug_port()
    vm.start_agent(*WITH_RETRY, wait=False)
    wait_until(lambda: "waiting for" in vm.agent_log(), "the agent says that it waits")
    vm.signal_agent("TERM")
    assert vm.wait_agent_exit() == 0


def test_port_vanishes_within_a_reply(vm):
    vm.start_agent(*WITH_RETRY)
    with vm.connect() as channel:
        channel.sync()
        request_big_reply(vm, channel)
        vm.unplug_port()
    vm.plug_port()
    vm.wait_agent()


def test_port_vanishes_without_retry(vm):
    """Nothing is left to serve: the service manager is told so by the exit status."""
    vm.start_agent()
    vm.unplug_port()
    assert vm.wait_agent_exit() != 0
    assert f"{PORT_PATH} is gone" in vm.agent_log()


def test_busy_port(vm):
    vm.start_agent()
    vm.shell.run("mkdir -p /run/other")
    status, output = vm.shell.run(
        f"bellhopd -m virtio-serial -p {PORT_PATH} -t /run/other", check=False
    )
    assert status != 0
    assert f"{PORT_PATH}: another program has it open" in output
    vm.wait_agent()  # the first one is not disturbed


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_busy_port_is_waited_for(vm, signal):
    vm.start_agent()
    first = vm.agent_pid()
    vm.start_agent(*WITH_RETRY, "-t", "/run/agent.second", wait=False)
    wait_until(lambda: "waiting for" in vm.agent_log(), "the second agent waits")
    vm.shell.run(f"kill -{signal} {first}")
    vm.wait_agent()
    assert vm.port_state()["guest_connected"] == "1"


def test_real_udev(fresh_vm):
    """udev makes the link a moment after the node."""
    vm = fresh_vm(udev=True, agent_port=False)
    vm.start_agent(*WITH_RETRY, wait=False)
    wait_until(lambda: "waiting for" in vm.agent_log(), "the agent says that it waits")
    for _ in range(2):
        vm.plug_port()
        vm.wait_agent()
        assert vm.shell.run(f"readlink -f {PORT_PATH}").startswith("/dev/vport")
        vm.unplug_port()
    assert vm.agent_status() is None


# Ending


@pytest.mark.parametrize("signal", ["TERM", "INT"])
def test_ends_when_asked(agent, signal):
    with agent.connect() as channel:
        channel.sync()
        agent.signal_agent(signal)
        assert agent.wait_agent_exit() == 0
    agent.start_agent()  # and the port is free for the next one


def test_ends_when_asked_while_its_reply_is_not_read(agent):
    with agent.connect() as channel:
        channel.sync()
        request_big_reply(agent, channel)
        agent.signal_agent("TERM")
        assert agent.wait_agent_exit() == 0


def test_killed_agent_leaves_the_port_usable(agent):
    with agent.connect() as channel:
        channel.sync()
        request_big_reply(agent, channel)
    agent.signal_agent("KILL")
    agent.wait_agent_exit()
    agent.start_agent()
    with agent.session() as channel, pytest.raises(Timeout):
        channel.line(timeout=0.5)  # nothing unasked for
