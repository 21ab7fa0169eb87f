# SPDX-License-Identifier: MIT
"""The end of a freeze that nobody thaws: the timeout, its guard, and the agent's own end. See freezing.py:
nothing but the tests' own file systems may be frozen."""

import os
import random
import signal
import time

import pytest

from agent import seconds, wait_until
from freezing import (FIFREEZE, begin, disks, freeze, freeze_error,  # noqa: F401
                      hooks, make_hook, post_freeze, status, thaw, thaw_error, without_thaw)

CYCLES = int(os.environ.get("BELLHOP_FREEZE_CYCLES", "50"))

guarded = pytest.mark.bellhop_only("nobody-guards-the-thaw")


@guarded
def test_the_timeout(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path))
    agent = begin(args=["-F" + hook], settings={"freeze.timeout": 1})
    channel = agent.connect()
    writer = disk.writer()
    start = time.monotonic()
    assert freeze(channel, disk.point) == 1
    took = writer.write().wait() - start
    assert took > 0.9
    wait_until(lambda: status(channel) == "thawed", what="thawed")
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the hook")
    assert channel.cmd("guest-get-time") > 0
    assert thaw_error(channel) == ("the freeze had ended before this thaw: its timeout had passed; "
                                   "what was copied meanwhile is not consistent")
    assert thaw(channel) == 0
    assert freeze(channel, disk.point) == 1
    assert thaw(channel) == 1


HOOK_THAW_WAITS = '[ "$1" = freeze ] || until [ -e go ]; do sleep 0.01; done'


def let_go(directory):
    open(os.path.join(str(directory), "go"), "w").close()


@guarded
def test_a_freeze_waits_for_the_hook_of_the_one_before(disks, begin, tmp_path):
    """Else what an operator's hook undoes late would be undone in the midst of the next freeze."""
    disk = disks.make()
    hook = make_hook(str(tmp_path), HOOK_THAW_WAITS)
    agent = begin(args=["-F" + hook], settings={"freeze.timeout": 1})
    channel, freezing = agent.connect(), agent.connect()
    assert freeze(channel, disk.point) == 1
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the timeout's hook")
    post_freeze(freezing, disk.point)
    freezing.expect_silence(0.5)
    assert hooks(tmp_path) == ["freeze", "thaw"]
    let_go(tmp_path)
    assert freezing.read_reply(20) == {"return": 1}
    assert hooks(tmp_path)[:3] == ["freeze", "thaw", "freeze"]
    channel.request("guest-fsfreeze-thaw")  # the timeout may have passed again
    assert hooks(tmp_path)[:4] == ["freeze", "thaw", "freeze", "thaw"]


@guarded
def test_a_thaw_stops_a_freeze_that_waits_for_a_hook(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), HOOK_THAW_WAITS)
    agent = begin(args=["-F" + hook], settings={"freeze.timeout": 1})
    channel, freezing = agent.connect(), agent.connect()
    assert freeze(channel, disk.point) == 1
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the timeout's hook")
    post_freeze(freezing, disk.point)
    freezing.expect_silence(0.3)
    channel.post("guest-fsfreeze-thaw")
    channel.expect_silence(0.3)
    let_go(tmp_path)
    assert freezing.read_reply(20)["error"]["desc"] == "the freeze was stopped by a thaw"
    assert "timeout had passed" in channel.read_reply(20)["error"]["desc"]
    assert hooks(tmp_path) == ["freeze", "thaw", "thaw"]
    assert not disk.is_frozen()


@guarded
def test_a_thaw_answers_with_the_hook_that_runs_already(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), HOOK_THAW_WAITS)
    agent = begin(args=["-F" + hook], settings={"freeze.timeout": 1})
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the timeout's hook")
    channel.post("guest-fsfreeze-thaw")
    channel.expect_silence(0.5)
    let_go(tmp_path)
    assert "timeout had passed" in channel.read_reply(20)["error"]["desc"]
    assert hooks(tmp_path) == ["freeze", "thaw"]


@guarded
def test_a_freeze_that_was_given_up(disks, begin, tmp_path):
    """Its hook "thaw", when that ends, is not taken for the next freeze's."""
    outer, other = disks.make("outer"), disks.make("other")
    inner = disks.make("inner", below=outer)
    hook = make_hook(str(tmp_path), HOOK_THAW_WAITS)
    deadline = int(seconds(3))
    agent = begin(args=["-F" + hook], settings={"deadline.guest-fsfreeze-freeze-list": deadline})
    channel, freezing = agent.connect(), agent.connect()
    outer.freeze()
    assert "did not finish within" in freeze_error(channel, inner.point, timeout=30)
    assert hooks(tmp_path) == ["freeze"]
    outer.thaw()
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the hook of what was given up")
    post_freeze(freezing, other.point)
    freezing.expect_silence(0.3)
    assert hooks(tmp_path) == ["freeze", "thaw"]
    let_go(tmp_path)
    assert freezing.read_reply(20) == {"return": 1}
    assert thaw(channel) == 1
    assert hooks(tmp_path) == ["freeze", "thaw", "freeze", "thaw"]


@guarded
def test_no_timeout(disks, begin):
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 0})
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    assert guards(agent) == []
    assert thaw(channel) == 1


def guards(agent):
    found = []
    for pid in agent.family():
        try:
            with open("/proc/%d/comm" % pid) as file:
                if file.read() == "bellhop-guard\n":
                    found.append(pid)
        except FileNotFoundError:
            pass
    return found


@guarded
def test_the_guard(disks, begin):
    """Locked, with everything open, and gone after the thaw."""
    disk = disks.make()
    agent = begin()
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    guard, = guards(agent)
    if not agent.has_sanitizer("asan") and not agent.has_sanitizer("tsan"):
        with open("/proc/%d/status" % guard) as file:
            locked, = [line for line in file if line.startswith("VmLck:")]
        assert int(locked.split()[1]) > 0
    open_paths = [os.readlink("/proc/%d/fd/%s" % (guard, fd))
                  for fd in os.listdir("/proc/%d/fd" % guard)]
    assert disk.point in open_paths
    os.kill(guard, signal.SIGTERM)  # it hears none
    assert thaw(channel) == 1
    wait_until(lambda: guards(agent) == [], what="the guard's end")


@guarded
def test_a_guard_that_is_killed(disks, begin):
    """The agent stands in for it."""
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 2})
    channel = agent.connect()
    writer = disk.writer()
    assert freeze(channel, disk.point) == 1
    for guard in guards(agent):
        os.kill(guard, signal.SIGKILL)
    writer.write().wait()
    wait_until(lambda: status(channel) == "thawed", what="thawed")
    assert "timeout had passed" in thaw_error(channel)


@guarded
def test_an_agent_that_stands_still(disks, begin):
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 1})
    channel = agent.connect()
    writer = disk.writer()
    assert freeze(channel, disk.point) == 1
    agent.process.send_signal(signal.SIGSTOP)
    try:
        writer.write().wait()
    finally:
        agent.process.send_signal(signal.SIGCONT)
    wait_until(lambda: status(channel) == "thawed", what="thawed")
    assert "timeout had passed" in thaw_error(channel)


@guarded
def test_a_guard_that_stands_still(disks, begin):
    """The agent stands in for it; and when it goes on, it does nothing to a later freeze."""
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 2})
    channel = agent.connect()
    writer = disk.writer()
    assert freeze(channel, disk.point) == 1
    guard, = guards(agent)
    os.kill(guard, signal.SIGSTOP)
    try:
        writer.write().wait()
        wait_until(lambda: status(channel) == "thawed", what="thawed")
        assert "timeout had passed" in thaw_error(channel)
    finally:
        os.kill(guard, signal.SIGCONT)
    wait_until(lambda: guards(agent) == [], what="the guard's end")


@guarded
def test_a_thaw_that_was_given_up(disks, begin, tmp_path):
    """What it did counts all the same."""
    disk = disks.make()
    hook = make_hook(str(tmp_path))
    agent = begin(args=["-F" + hook], settings={"deadline.guest-fsfreeze-thaw": 1})
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    guard, = guards(agent)
    os.kill(guard, signal.SIGSTOP)  # each of two questions takes longer than the deadline
    try:
        assert "did not finish within 1 s" in thaw_error(channel)
        wait_until(lambda: channel.request("guest-fsfreeze-status") == {"return": "thawed"}, 20)
        wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the hook")
    finally:
        os.kill(guard, signal.SIGCONT)
    assert not disk.is_frozen()
    assert freeze(channel, disk.point) == 1
    assert "frozen state" in channel.request("guest-get-time")["error"]["desc"]


@guarded
def test_a_guard_that_lags_behind(disks, begin):
    """What it has not done when the thaw is over, it does not do to a later freeze."""
    disk = disks.make()
    agent = begin()
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    guard, = guards(agent)
    os.kill(guard, signal.SIGSTOP)
    try:
        assert thaw(channel) == 1
        assert freeze(channel, disk.point) == 1
    finally:
        os.kill(guard, signal.SIGCONT)
    wait_until(lambda: guard not in guards(agent), what="the guard's end")
    assert disk.is_frozen()
    assert status(channel) == "frozen"
    assert thaw(channel) == 1


@guarded
def test_a_breach_outlasts_a_freeze_that_takes_nothing(disks, begin, tmp_path):
    disk = disks.make()
    channel = begin(settings={"freeze.timeout": 1}).connect()
    assert freeze(channel, disk.point) == 1
    wait_until(lambda: status(channel) == "thawed", what="the timeout")
    assert freeze(channel, str(tmp_path / "nowhere")) == 0
    assert "timeout had passed" in thaw_error(channel)
    assert thaw(channel) == 0


@guarded
def test_a_disk_that_cannot_be_thawed(disks, begin):
    """It is not said to be thawed: neither by the agent, nor when the guard has tried."""
    disk = disks.make()
    agent = without_thaw(lambda: begin(settings={"freeze.timeout": 3}))
    agent.expect_clean_end = False
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    start = time.monotonic()
    assert "failed to thaw %s: Input/output error" % disk.point in thaw_error(channel)
    while time.monotonic() < start + 5:  # beyond the timeout
        assert status(channel) == "frozen"
        time.sleep(0.2)
    assert disk.is_frozen()
    assert "failed to thaw" in thaw_error(channel)
    agent.kill()


def is_freezing(pid, point):
    """Whether a thread is in the midst of its FIFREEZE."""
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/syscall" % (pid, task)) as file:
                words = file.read().split()
            if len(words) > 3 and int(words[2], 16) == FIFREEZE and \
                    os.readlink("/proc/%d/fd/%d" % (pid, int(words[1], 16))) == point:
                return True
        except FileNotFoundError:
            pass
    return False


@guarded
def test_a_failed_freeze_that_cannot_be_thawed(disks, begin):
    """Nor is this said to be thawed: a thaw may still help."""
    outer = disks.make("outer")
    inner = disks.make("inner", below=outer)
    other = disks.make("other")  # the youngest is frozen first
    agent = without_thaw(begin)
    agent.expect_clean_end = False
    channel, freezing = agent.connect(), agent.connect()
    outer.freeze()
    post_freeze(freezing, other.point, inner.point)

    def job():
        return [job for job in channel.cmd("bellhop-job-list")["jobs"]
                if "guest-fsfreeze-freeze-list" in job.values()]

    wait_until(lambda: is_freezing(agent.pid, inner.point), what="it hangs")
    assert other.is_frozen()
    channel.cmd("bellhop-job-cancel", {"id": job()[0]["id"]})
    outer.thaw()
    said = freezing.read_reply(20)["error"]["desc"]
    assert "cancelled" in said and "failed to thaw %s: Input/output error" % other.point in said
    assert status(channel) == "frozen"
    assert len(guards(agent)) == 1
    assert "failed to thaw" in thaw_error(channel)
    assert status(channel) == "frozen"
    assert other.is_frozen()
    agent.kill()


@guarded
def test_a_restart_while_frozen(disks, begin):
    disk = disks.make()
    agent = begin()
    assert freeze(agent.connect(), disk.point) == 1
    agent.kill()
    for _ in range(2):
        agent = begin(directory=agent.directory)
        channel = agent.connect()
        assert status(channel) == "frozen"
        assert disk.is_frozen()
        assert "frozen state" in channel.request("guest-get-time")["error"]["desc"]
        agent.kill()
    agent = begin(directory=agent.directory)
    channel = agent.connect()
    assert thaw(channel) == 1
    assert status(channel) == "thawed"
    assert not disk.is_frozen()
    assert freeze(channel, disk.point) == 1
    assert thaw(channel) == 1


@guarded
def test_a_restart_after_the_timeout(disks, begin):
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 1})
    writer = disk.writer()
    assert freeze(agent.connect(), disk.point) == 1
    agent.kill()
    writer.write().wait()
    agent = begin(directory=agent.directory)
    channel = agent.connect()
    wait_until(lambda: status(channel) == "thawed", what="thawed")
    assert "timeout had passed" in thaw_error(channel)
    assert thaw(channel) == 0


@guarded
def test_the_timeout_after_a_restart(disks, begin):
    disk = disks.make()
    agent = begin(settings={"freeze.timeout": 3})
    writer = disk.writer()
    assert freeze(agent.connect(), disk.point) == 1
    agent.kill()
    agent = begin(directory=agent.directory)
    channel = agent.connect()
    writer.write().wait(20)
    wait_until(lambda: status(channel) == "thawed", what="thawed")
    assert "timeout had passed" in thaw_error(channel)


@guarded
def test_sigterm_while_frozen(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path))
    agent = begin(args=["-F" + hook])
    writer = disk.writer()
    assert freeze(agent.connect(), disk.point) == 1
    agent.expect_clean_end = False
    agent._note_family()
    agent.process.terminate()
    writer.write().wait()
    assert agent.process.wait(seconds(20)) == 0
    assert hooks(tmp_path) == ["freeze", "thaw"]
    agent = begin(directory=agent.directory)
    channel = agent.connect()
    assert status(channel) == "thawed"
    assert "the agent was ended" in thaw_error(channel)
    assert thaw(channel) == 0


def end(agent, timeout):
    agent.expect_clean_end = False
    agent._note_family()
    agent.process.terminate()
    assert agent.process.wait(seconds(timeout)) == 0


@guarded
def test_sigterm_in_the_midst_of_a_freeze(disks, begin, tmp_path):
    """It never succeeded, so there is nothing that its host could take for consistent."""
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || exec sleep 600')
    agent = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 0})
    channel = agent.connect()
    post_freeze(channel, disk.point)
    wait_until(lambda: hooks(tmp_path) == ["freeze"], what="the hook")
    end(agent, 20)
    assert hooks(tmp_path) == ["freeze", "thaw"]
    channel = begin(directory=agent.directory).connect()
    assert thaw(channel) == 0


@guarded
def test_sigterm_in_the_midst_of_a_thaw(disks, begin, tmp_path):
    """The end waits for its hook, but not for ever."""
    disk = disks.make()
    hook = make_hook(str(tmp_path), HOOK_THAW_WAITS)
    agent = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 0})
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    channel.post("guest-fsfreeze-thaw")
    wait_until(lambda: hooks(tmp_path) == ["freeze", "thaw"], what="the hook")
    start = time.monotonic()
    end(agent, 40)
    assert time.monotonic() - start > 5
    let_go(tmp_path)
    channel = begin(directory=agent.directory).connect()
    assert thaw(channel) == 0


@guarded
@pytest.mark.time_limit(60 + CYCLES * 4)
def test_killed_at_random_moments(disks, begin):
    """Whenever the agent is killed, nothing is frozen a second after the deadline."""
    disk, other = disks.make(), disks.make("other")
    timeout, worst, directory = 1, 0.0, None
    for cycle in range(CYCLES):
        agent = begin(directory=directory, settings={"freeze.timeout": timeout})
        directory = agent.directory
        channel = agent.connect()
        writers = [disk.writer(), other.writer()]
        # The last cycle's guard may be writing down that it has thawed.
        wait_until(lambda: status(channel) == "thawed", what="thawed for the next cycle")
        started = time.monotonic()
        moment = random.random()
        post_freeze(channel, disk.point, other.point)
        if moment < 0.5:  # in the midst of the freeze
            time.sleep(random.random() * 0.03)
        else:  # in the midst of the thaw
            reply = channel.read_reply(20)
            assert reply == {"return": 2}, reply
            channel.post("guest-fsfreeze-thaw")
            time.sleep(random.random() * 0.01)
        agent.kill()  # and when this returns, nobody freezes any more
        for writer in writers:
            writer.write()
        late = max(writer.wait(20) for writer in writers) - started - timeout
        worst = max(worst, late)
        agent._kill_family()
        assert late < seconds(1.0), "cycle %d: thawed %.2f s after the deadline" % (cycle, late)
        assert not disk.is_frozen() and not other.is_frozen()
    print("%d kills: latest thaw %.3f s after the deadline" % (CYCLES, worst))
