# SPDX-License-Identifier: MIT
"""guest-set-time: the guest's own clock and its hardware clock."""
import time

import pytest

NS = 10**9
LATER = 1_800_000_000  # 2027-01-15
SLACK = 5  # seconds that a slow guest may take from one step to the next


@pytest.fixture(autouse=True)
def clocks(vm):
    """Both right at the beginning of a test, and at its end."""

    def put_right():
        set_both(vm, int(time.time()))

    put_right()
    yield
    put_right()


def set_both(vm, when):
    vm.shell.run(f"date -s @{when} >/dev/null && hwclock -w -u -f /dev/rtc0")


def system_time(vm):
    return int(vm.shell.run("date +%s"))


def hardware_time(vm):
    """Reads it without going through hwclock's notion of UTC."""
    text = vm.shell.run("cat /sys/class/rtc/rtc0/since_epoch")
    return int(text)


def assert_near(value, expected):
    assert expected <= value <= expected + SLACK


def test_time(agent):
    with agent.session() as channel:
        assert channel.call("guest-set-time", time=LATER * NS) == {"return": {}}
    assert_near(system_time(agent), LATER)
    assert_near(hardware_time(agent), LATER)


def test_part_of_a_second(agent):
    """The hardware clock shows the nearest second, the system's the very time."""
    with agent.session() as channel:
        channel.run("guest-set-time", time=LATER * NS + 123456789)
        now = channel.run("guest-get-time")
    assert 0 <= now - (LATER * NS + 123456789) <= SLACK * NS


def test_time_from_the_hardware_clock(agent):
    set_both(agent, LATER)
    agent.shell.run("date -s @1700000000 >/dev/null")
    with agent.session() as channel:
        assert channel.call("guest-set-time") == {"return": {}}
        hardware = hardware_time(agent)
        now = channel.run("guest-get-time")
    assert_near(hardware, LATER)
    # it was read at the beginning of one of its seconds
    assert hardware - 0.5 <= now / NS <= hardware + 1.5 + SLACK


@pytest.mark.parametrize("value", [-1, 0, -(2**63), 2**63 - 1])
def test_what_is_no_time(agent, value):
    before = system_time(agent)
    with agent.session() as channel:
        error = channel.call("guest-set-time", time=value)["error"]
        assert error["desc"] == "Failed to set time to guest: Invalid argument"
    assert_near(system_time(agent), before)
    assert_near(hardware_time(agent), before)


def test_without_a_hardware_clock(agent):
    agent.shell.run("mv /dev/rtc0 /dev/away")
    try:
        with agent.session() as channel:
            assert channel.call("guest-set-time", time=LATER * NS) == {"return": {}}
            assert_near(system_time(agent), LATER)
            error = channel.call("guest-set-time")["error"]
            assert "no hardware clock" in error["desc"] and "'time'" in error["desc"]
            assert_near(system_time(agent), LATER)
    finally:
        agent.shell.run("mv /dev/away /dev/rtc0")


def test_hardware_clock_that_is_in_use(agent):
    """Only one may have it open. That it was not set is said, and the rest was done."""
    agent.shell.run(
        "exec 8</dev/rtc0; sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >/run/holder"
    )
    try:
        with agent.session() as channel:
            error = channel.call("guest-set-time", time=LATER * NS)["error"]
            assert error["desc"].startswith("the time was set, but the hardware clock")
            assert_near(system_time(agent), LATER)
            # it is waited for, for a moment
            agent.shell.run("( usleep 300000; kill $(cat /run/holder) ) >/dev/null 2>&1 &")
            assert channel.call("guest-set-time", time=LATER * NS) == {"return": {}}
    finally:
        agent.shell.run("kill $(cat /run/holder) 2>/dev/null; true")
    assert_near(hardware_time(agent), LATER)


def test_hardware_clock_in_local_time(agent):
    """As /etc/adjtime has it."""
    agent.shell.run("printf '0.0 0 0.0\\n0\\nLOCAL\\n' >/etc/adjtime")
    agent.signal_agent("TERM")
    agent.wait_agent_exit()
    agent.shell.run(
        "ln -sf /usr/sbin/bellhopd /run/real\n"
        "printf '#!/bin/sh\\nTZ=CET-1 exec /run/real \"$@\"\\n' >/usr/sbin/in-cet\n"
        "chmod 755 /usr/sbin/in-cet"
    )
    agent.start_agent(program="in-cet")
    try:
        with agent.session() as channel:
            channel.run("guest-set-time", time=LATER * NS)
            assert_near(system_time(agent), LATER)
            assert_near(hardware_time(agent), LATER + 3600)
            agent.shell.run("date -s @1700000000 >/dev/null")
            channel.run("guest-set-time")
        assert_near(system_time(agent), LATER)
    finally:
        agent.shell.run("rm -f /etc/adjtime")
