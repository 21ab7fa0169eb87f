# SPDX-License-Identifier: MIT
"""A real libvirt drives the agent, as most hosts do."""
import base64
import time

import pytest

import libvirt_vm
import vm as machine
from conftest import agent_program
from host import wait_until
from libvirt_vm import DOMAIN

REASON = libvirt_vm.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

AGENT_TIMEOUT_SECONDS = 2


@pytest.fixture(scope="module")
def host(request):
    with libvirt_vm.LibvirtVm(machine.VmOptions(), agent_program(request.config)) as guest:
        yield guest


@pytest.fixture
def vm(request, host):
    """The machine that libvirt runs: `agent` and `any_agent` start their agents in it."""
    request.node.guests = [host]
    assert host.is_healthy()
    host.reset()
    host.wait_channel("disconnected")
    return host



def test_ping(any_agent):
    assert any_agent.agent_command("guest-ping") == {}


def test_host_name(any_agent):
    assert any_agent.virsh("domhostname", DOMAIN, "--source", "agent") == "guest"


def test_guest_info(any_agent):
    output = any_agent.virsh("guestinfo", DOMAIN, "--os", "--hostname", "--timezone")
    values = dict(line.split(":", 1) for line in output.splitlines())
    values = {name.strip(): value.strip() for name, value in values.items()}
    assert values["hostname"] == "guest"
    assert values["os.id"] == "bellhop-test"
    assert values["os.kernel-release"] == any_agent.shell.run("uname -r").strip()
    assert values["timezone.offset"] == "0"


def test_error_is_shown(any_agent):
    status, output = any_agent.agent_command("no-such", check=False)
    assert status != 0
    assert "has not been found" in output


def test_program(any_agent):
    arguments = {"path": "/bin/echo", "arg": ["hello"], "capture-output": True}
    pid = any_agent.agent_command("guest-exec", **arguments)["pid"]

    def finished():
        status = any_agent.agent_command("guest-exec-status", pid=pid)
        return status["exited"] and status

    status = wait_until(finished, "the program ends")
    assert base64.b64decode(status["out-data"]) == b"hello\n"


def test_agent_that_comes_and_goes(any_agent):
    for _ in range(2):
        assert "connected" in any_agent.channel_state()
        any_agent.signal_agent("TERM")
        assert any_agent.wait_agent_exit() == 0
        any_agent.wait_channel("disconnected")
        status, output = any_agent.agent_command("guest-ping", check=False)
        assert status != 0 and "agent is not connected" in output
        any_agent.start_agent(program=any_agent.program)


def test_libvirt_that_comes_and_goes(any_agent):
    any_agent.agent_command("guest-ping")
    any_agent.restart_libvirt()
    any_agent.wait_channel("connected")
    assert any_agent.agent_command("guest-ping") == {}


def test_slow_command_holds_up_nothing(agent):
    """The command that libvirt gave up on goes on, and the next one is answered at once."""
    agent.shell.run("mkfifo /run/slow")
    begin = time.monotonic()
    status, output = agent.agent_command(
        "guest-file-open", "--timeout", str(AGENT_TIMEOUT_SECONDS), check=False, path="/run/slow"
    )
    assert status != 0 and "Guest agent is not responding" in output
    assert time.monotonic() - begin >= AGENT_TIMEOUT_SECONDS
    begin = time.monotonic()
    assert agent.agent_command("guest-ping") == {}
    assert time.monotonic() - begin < AGENT_TIMEOUT_SECONDS
    agent.shell.run("exec 3>/run/slow")  # ends only when the agent has the other end open
    assert agent.agent_command("guest-ping") == {}
    assert agent.virsh("domhostname", DOMAIN, "--source", "agent") == "guest"


def test_agent_that_hangs(agent):
    """libvirt gives up, and is answered again as soon as the agent goes on."""
    agent.virsh("guest-agent-timeout", DOMAIN, "--timeout", str(AGENT_TIMEOUT_SECONDS))
    agent.signal_agent("STOP")
    status, _ = agent.virsh("domhostname", DOMAIN, "--source", "agent", check=False)
    assert status != 0
    agent.signal_agent("CONT")
    assert agent.virsh("domhostname", DOMAIN, "--source", "agent") == "guest"
