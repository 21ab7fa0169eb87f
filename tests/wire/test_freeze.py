# SPDX-License-Identifier: MIT
"""Freeze and thaw, on file systems of the tests' own. See freezing.py: nothing else may be frozen."""

import base64
import os
import random
import signal
import stat
import threading
import time

import pytest

from agent import AgentError, seconds, wait_until
from freezing import FIFREEZE, Disks, can_freeze, without_thaw

CYCLES = int(os.environ.get("BELLHOP_FREEZE_CYCLES", "50"))

KINDS = ["ext4", "xfs", "btrfs"]


@pytest.fixture
def disks(kind, tmp_path):
    if not can_freeze():
        pytest.skip("needs root and loop devices")
    disks = Disks(str(tmp_path))
    yield disks
    disks.close()


@pytest.fixture
def begin(disks, start_agent):
    """Starts an agent that sees the test's disks, and is ended before these go."""
    started = []

    def begin(**options):
        agent = start_agent(**options)
        started.append(agent)
        return agent

    yield begin
    disks.thaw()
    for agent in started:
        if agent.process and agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)


def freeze(channel, *points, timeout=20):
    assert points, "without any, the machine would be frozen"
    return channel.cmd("guest-fsfreeze-freeze-list", {"mountpoints": list(points)}, timeout)


def freeze_error(channel, *points, timeout=20):
    with pytest.raises(AgentError) as caught:
        freeze(channel, *points, timeout=timeout)
    return caught.value.desc


def post_freeze(channel, *points, **members):
    assert points
    channel.post("guest-fsfreeze-freeze-list", {"mountpoints": list(points)}, **members)


def thaw(channel, timeout=20):
    return channel.cmd("guest-fsfreeze-thaw", timeout=timeout)


def thaw_error(channel, timeout=20):
    with pytest.raises(AgentError) as caught:
        thaw(channel, timeout)
    return caught.value.desc


def status(channel, timeout=20):
    return channel.cmd("guest-fsfreeze-status", timeout=timeout)


def make_hook(agent_directory, *lines):
    """A hook in a directory; notes what it is called with in the file `hooks` beside it."""
    path = os.path.join(agent_directory, "hook")
    with open(path, "w") as file:
        file.write("#!/bin/sh\ncd '%s'\necho $1 >>hooks\necho the hook says $1\n" % agent_directory)
        file.write("\n".join(lines) + "\n")
    os.chmod(path, 0o755)
    return path


def hooks(directory):
    try:
        with open(os.path.join(directory, "hooks")) as file:
            return file.read().split()
    except FileNotFoundError:
        return []


# --- what is frozen ------------------------------------------------------------------------------


@pytest.mark.parametrize("filesystem", KINDS)
def test_one(disks, begin, filesystem):
    disk = disks.make(kind=filesystem)
    writer = disk.writer()
    channel = begin().connect()
    assert status(channel) == "thawed"
    assert freeze(channel, disk.point) == 1
    assert status(channel) == "frozen"
    assert disk.is_frozen()
    writer.write()
    assert thaw(channel) == 1
    writer.wait()
    assert status(channel) == "thawed"
    assert not disk.is_frozen()
    assert thaw(channel) == 0


def test_several_and_what_is_none(disks, begin):
    three = [disks.make(name) for name in ("a", "b", "c")]
    tmpfs = disks.mount("-t", "tmpfs", "none", point=disks.place("tmpfs"))
    channel = begin().connect()
    points = [disk.point for disk in three]
    assert freeze(channel, *points, tmpfs, "/nonexistent", points[0]) == 3
    assert [disk.is_frozen() for disk in three] == [True] * 3
    assert thaw(channel) == 3
    assert [disk.is_frozen() for disk in three] == [False] * 3
    for none in (tmpfs, "/nonexistent", points[0] + "/", ""):
        assert freeze(channel, none) == 0
        assert status(channel) == "thawed"


def test_bind_mounts(disks, begin):
    disk = disks.make()
    bound = disks.bind(disk, "bound")
    channel = begin().connect()
    for points in ([disk.point], [bound], [disk.point, bound]):
        assert freeze(channel, *points) == 1
        assert thaw(channel) == 1


def test_no_list_is_not_tried_but_an_empty_one(disks, begin):
    channel = begin().connect()
    assert channel.cmd("guest-fsfreeze-freeze-list", {"mountpoints": []}) == 0
    assert status(channel) == "thawed"


@pytest.mark.parametrize("arguments, desc", [
    ({"mountpoints": "/x"}, "Invalid parameter type for 'mountpoints', expected: array"),
    ({"mountpoints": ["/x", 1]}, "Invalid parameter type for 'mountpoints[1]', expected: string"),
    ({"mountpoints": ["/x"], "x": 1}, "Parameter 'x' is unexpected"),
])
def test_wrong_arguments(disks, begin, arguments, desc):
    channel = begin().connect()
    with pytest.raises(AgentError) as caught:
        channel.cmd("guest-fsfreeze-freeze-list", arguments)
    assert caught.value.desc == desc
    assert status(channel) == "thawed"


def test_what_somebody_else_froze(disks, begin):
    disk, other = disks.make(), disks.make("other")
    channel = begin().connect()
    disk.freeze()
    assert status(channel) == "thawed"
    assert freeze(channel, disk.point) == 0
    assert status(channel) == "thawed"
    assert disk.is_frozen()
    assert thaw(channel) == 1
    assert not disk.is_frozen()
    disk.freeze()
    assert freeze(channel, disk.point, other.point) == 1
    assert thaw(channel) == 2
    assert not disk.is_frozen() and not other.is_frozen()


@pytest.mark.bellhop_only("freezes-by-the-age-of-mounts")
def test_what_rests_on_what(disks, begin):
    """The file system of the loop device's file is the newer mount, by a bind mount that is older than
    it: by age it would be frozen first, and the other one for ever."""
    below = disks.make("below")
    above = disks.make("above", below=below)
    inner = disks.make("inner", below=above)
    points = [disk.point for disk in (below, above, inner)]
    moved = disks.place("moved")
    for order in (points, list(reversed(points))):
        channel = begin().connect()
        assert freeze(channel, *order) == 3
        assert thaw(channel) == 3
    disks.mount("--bind", below.point, point=moved)
    channel = begin().connect()
    assert freeze(channel, moved, inner.point, above.point) == 3
    assert [disk.is_frozen() for disk in (below, above, inner)] == [True] * 3
    assert thaw(channel) == 3


@pytest.mark.bellhop_only("freezes-everything-it-is-told-to")
def test_what_is_excluded(disks, begin):
    disk, other = disks.make(), disks.make("other")
    bound = disks.bind(disk, "bound")
    channel = begin(args=["--set", "freeze.exclude=/nowhere;" + bound]).connect()
    assert freeze(channel, disk.point, other.point) == 1
    assert not disk.is_frozen() and other.is_frozen()
    assert thaw(channel) == 1


def mount_at_a_long_path(disks, image):
    """A mount point whose path is longer than any that can be opened."""
    before = os.getcwd()
    part = "x" * 250
    path = disks.place("long")
    os.chdir(path)
    try:
        for _ in range(18):
            os.mkdir(part)
            os.chdir(part)
            path += "/" + part
        os.mkdir("mount")
        os.system("mount -o loop %s mount" % image)
        fd = os.open("mount", os.O_RDONLY)
    finally:
        os.chdir(before)
    return path + "/mount", fd


@pytest.mark.bellhop_only("long-paths-are-not-read")
def test_one_that_cannot_be_opened(disks, begin):
    disk = disks.make()
    image = os.path.join(disks.directory, "long.img")
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    os.system("mkfs.ext4 -q " + image)
    path, fd = mount_at_a_long_path(disks, image)
    try:
        channel = begin().connect()
        desc = freeze_error(channel, disk.point, path)
        assert desc.startswith("failed to open " + path[:200])
        assert status(channel) == "thawed"
        assert not disk.is_frozen()
        assert freeze(channel, disk.point) == 1
        assert thaw(channel) == 1
    finally:
        os.fchdir(fd)
        os.close(fd)
        os.chdir("..")
        os.system("umount -l mount")
        os.chdir("/")


# --- while frozen --------------------------------------------------------------------------------


def test_only_these_commands_run(disks, begin):
    disk = disks.make()
    channel = begin().connect()
    before = {command["name"]: command["enabled"]
              for command in channel.cmd("guest-info")["supported_commands"]}
    assert freeze(channel, disk.point) == 1
    for name in ("guest-get-time", "guest-get-osinfo", "guest-file-open", "guest-exec",
                 "guest-fsfreeze-freeze-list"):
        # With mount points in any case: without, it would be everything.
        reply = channel.request(name, {"mountpoints": [disk.point]})
        assert reply["error"] == {
            "class": "CommandNotFound",
            "desc": "Command %s has been disabled: the agent is in frozen state" % name}
    assert channel.cmd("guest-ping") == {}
    assert channel.cmd("guest-sync", {"id": 7}) == 7
    channel.sync()
    assert status(channel) == "frozen"
    during = {command["name"]: command["enabled"]
              for command in channel.cmd("guest-info")["supported_commands"]}
    if channel.agent.differs("frozen-commands-are-not-enabled"):
        assert during != before
    else:
        assert during == before
    assert thaw(channel) == 1
    assert channel.cmd("guest-get-time") > 0


def test_a_log_on_the_frozen_disk(disks, begin):
    disk = disks.make()
    log = os.path.join(disk.point, "log")
    agent = begin(args=["-v", "-l", log])
    channel = agent.connect()
    for _ in range(3):
        assert freeze(channel, disk.point) == 1
        size = os.path.getsize(log)
        for _ in range(50):
            channel.cmd("guest-ping")
        assert os.path.getsize(log) == size
        assert thaw(channel) == 1
        wait_until(lambda: os.path.getsize(log) > size, what="the log goes on")
    channel.close()


@pytest.mark.bellhop_only("no-record-of-a-freeze")
def test_a_state_directory_on_the_frozen_disk(disks, begin):
    disk = disks.make()
    state = os.path.join(disk.point, "state")
    os.mkdir(state)
    agent = begin(args=["-t", state], settings={"freeze.timeout": 1})
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    assert thaw(channel) == 1
    writer = disk.writer()
    assert freeze(channel, disk.point) == 1
    writer.write().wait()
    wait_until(lambda: status(channel) == "thawed", what="thawed by the guard")
    assert "timeout had passed" in thaw_error(channel)
    assert thaw(channel) == 0
    assert "freeze" not in os.listdir(os.path.join(state, "bellhop"))


def test_a_busy_disk(disks, begin):
    disk = disks.make()
    stopped = threading.Event()
    counts = [0] * 4

    def load(number):
        fd = os.open(os.path.join(disk.point, "load-%d" % number), os.O_RDWR | os.O_CREAT)
        while not stopped.is_set():
            os.pwrite(fd, os.urandom(4096), counts[number] % 64 * 4096)
            os.fsync(fd)
            counts[number] += 1
        os.close(fd)

    threads = [threading.Thread(target=load, args=(number,), daemon=True) for number in range(4)]
    channel = begin().connect()
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert freeze(channel, disk.point, timeout=60) == 1
            assert thaw(channel, timeout=60) == 1
            before = list(counts)
            wait_until(lambda: all(now > then for now, then in zip(counts, before)), 30,
                       "the load goes on")
    finally:
        stopped.set()
        disk.thaw()
        for thread in threads:
            thread.join(seconds(20))


# --- the hook ------------------------------------------------------------------------------------


def test_the_hook(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path))
    agent = begin(args=["-F" + hook])
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    assert hooks(tmp_path) == ["freeze"]
    assert thaw(channel) == 1
    assert hooks(tmp_path) == ["freeze", "thaw"]
    assert thaw(channel) == 0
    assert hooks(tmp_path) == ["freeze", "thaw", "thaw"]
    if not agent.is_reference:
        assert "the hook says freeze" in agent.log()


def test_a_hook_that_fails_before(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || exit 3')
    channel = begin(args=["-F" + hook]).connect()
    assert freeze_error(channel, disk.point) == "fsfreeze hook has failed with status 3"
    assert status(channel) == "thawed"
    assert not disk.is_frozen()
    if channel.agent.differs("no-thaw-hook-after-a-failed-one"):
        assert hooks(tmp_path) == ["freeze"]
    else:
        assert hooks(tmp_path) == ["freeze", "thaw"]


def test_a_hook_that_fails_afterwards(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = freeze ] || exit 4')
    channel = begin(args=["-F" + hook]).connect()
    assert freeze(channel, disk.point) == 1
    assert thaw_error(channel) == "fsfreeze hook has failed with status 4"
    assert status(channel) == "thawed"
    assert not disk.is_frozen()


def test_a_hook_that_is_not_there(disks, begin):
    disk = disks.make()
    missing = os.path.join(disks.directory, "missing")
    channel = begin(args=["-F" + missing]).connect()
    assert freeze_error(channel, disk.point) == \
        "can't access fsfreeze hook '%s': No such file or directory" % missing
    assert not disk.is_frozen()


hangs = pytest.mark.bellhop_only("waits-for-a-hook-for-ever")


@hangs
def test_a_hook_that_hangs(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), 'trap "" TERM', '[ "$1" = thaw ] || while :; do sleep 60; done')
    channel = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 1}).connect()
    assert freeze_error(channel, disk.point, timeout=30) == \
        "fsfreeze hook did not finish within 1 s and was killed"
    assert hooks(tmp_path) == ["freeze", "thaw"]
    assert status(channel) == "thawed"
    assert not disk.is_frozen()


@hangs
def test_a_thaw_stops_the_hook(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || exec sleep 600')
    agent = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 0})
    freezing, other = agent.connect(), agent.connect()
    post_freeze(freezing, disk.point)
    wait_until(lambda: hooks(tmp_path) == ["freeze"], what="the hook")
    assert thaw(other) == 0
    assert freezing.read_reply()["error"]["desc"] == "the freeze was stopped by a thaw"
    assert hooks(tmp_path) == ["freeze", "thaw"]
    assert status(other) == "thawed"
    assert freeze_is_possible(other, disk, tmp_path)


def freeze_is_possible(channel, disk, tmp_path):
    os.unlink(os.path.join(str(tmp_path), "hook"))
    make_hook(str(tmp_path))
    return freeze(channel, disk.point) == 1 and thaw(channel) == 1


@hangs
def test_a_freeze_is_a_job_that_can_be_cancelled(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || exec sleep 600')
    agent = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 0})
    freezing, other = agent.connect(), agent.connect()
    post_freeze(freezing, disk.point)
    wait_until(lambda: hooks(tmp_path) == ["freeze"], what="the hook")
    job, = [job for job in other.cmd("bellhop-job-list")["jobs"]
            if "guest-fsfreeze-freeze-list" in job.values()]
    other.cmd("bellhop-job-cancel", {"id": job["id"]})
    assert freezing.read_reply(20)["error"]["desc"] == "the freeze was cancelled"
    assert status(other) == "thawed"
    assert hooks(tmp_path) == ["freeze", "thaw"]


@hangs
def test_everything_is_answered_while_the_hook_sleeps(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || until [ -e go ]; do sleep 0.01; done')
    agent = begin(args=["-F" + hook])
    freezing, other = agent.connect(), agent.connect()
    post_freeze(freezing, disk.point)
    wait_until(lambda: hooks(tmp_path) == ["freeze"], what="the hook")
    took = []
    for number in range(200):
        start = time.monotonic()
        assert other.cmd("guest-sync", {"id": number}) == number
        took.append(time.monotonic() - start)
    took.sort()
    print("sync during a hook: median %.2f ms, worst %.2f ms" % (
        took[len(took) // 2] * 1000, took[-1] * 1000))
    assert took[len(took) // 2] < seconds(0.1)
    refused = other.request("guest-get-time")
    assert refused["error"]["desc"].endswith("the agent is in frozen state")
    other.post("guest-fsfreeze-status")  # waits for the freeze
    other.expect_silence(0.3)
    open(os.path.join(str(tmp_path), "go"), "w").close()
    assert freezing.read_reply(20) == {"return": 1}
    assert other.read_reply() == {"return": "frozen"}
    assert thaw(other) == 1


@hangs
def test_a_hook_that_goes_on_writing_to_the_frozen_disk(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), 'cd "%s"' % disk.point, 'if [ "$1" = freeze ]; then',
                     '(while [ -e goes-on ]; do echo x >>written; done) >/dev/null 2>&1 &',
                     'else', 'echo thawed >>written', 'rm -f goes-on', 'fi')
    open(os.path.join(disk.point, "goes-on"), "w").close()
    channel = begin(args=["-F" + hook]).connect()
    assert freeze(channel, disk.point) == 1
    assert thaw(channel) == 1
    with open(os.path.join(disk.point, "written")) as file:
        assert "thawed" in file.read()


# --- a thaw waits for nothing --------------------------------------------------------------------


@pytest.mark.bellhop_only("a-stuck-write-holds-up-the-thaw")
@pytest.mark.parametrize("same_channel", [True, False])
def test_forty_stuck_writers(disks, begin, same_channel):
    disk = disks.make()
    agent = begin(settings={"deadline.default": 0})
    writing, other = agent.connect(), agent.connect()
    handles = [writing.open_file(os.path.join(disk.point, "file-%d" % number), "w")
               for number in range(40)]
    disk.freeze()
    for handle in handles:
        writing.post("guest-file-write", {"handle": handle,
                                          "buf-b64": base64.b64encode(b"x" * 5000).decode()},
                     id=handle)
    thawing = writing if same_channel else other
    took = []
    for number in range(100):
        start = time.monotonic()
        assert other.cmd("guest-sync", {"id": number}) == number
        took.append(time.monotonic() - start)
    print("sync beside 40 stuck writes: worst %.2f ms" % (max(took) * 1000))
    assert sorted(took)[50] < seconds(0.1)
    thawing.post("guest-fsfreeze-thaw")
    replies = writing.read_replies(41 if same_channel else 40, 30)
    if not same_channel:
        replies.append(other.read_reply())
    assert {"return": 1} in replies
    assert sum(reply["return"] == {"count": 5000, "eof": False}
               for reply in replies if "id" in reply) == 40


@pytest.mark.bellhop_only("a-stuck-write-holds-up-the-thaw")
def test_a_thaw_in_line_behind_what_is_stuck(disks, begin):
    """Its reply stays in its place."""
    disk = disks.make()
    agent = begin()
    channel = agent.connect()
    handle = channel.open_file(os.path.join(disk.point, "file"), "w")
    disk.freeze()
    channel.post("guest-file-write", {"handle": handle, "buf-b64": "eA=="})
    post_freeze(channel, disk.point)
    channel.post("guest-fsfreeze-thaw")
    channel.post("guest-ping")
    write, freezing, thawing, ping = channel.read_replies(4, 20)
    assert write == {"return": {"count": 1, "eof": False}}
    assert freezing["error"]["desc"] == \
        "guest-fsfreeze-freeze-list was cancelled before it began"
    assert thawing == {"return": 1} and ping == {"return": {}}
    assert not disk.is_frozen()


@hangs
def test_a_thaw_on_another_channel_cancels_what_waits(disks, begin, tmp_path):
    disk = disks.make()
    hook = make_hook(str(tmp_path), '[ "$1" = thaw ] || exec sleep 600')
    agent = begin(args=["-F" + hook], settings={"freeze.hook-timeout": 0})
    first, second, third = agent.connect(), agent.connect(), agent.connect()
    post_freeze(first, disk.point)
    wait_until(lambda: hooks(tmp_path) == ["freeze"], what="the hook")
    post_freeze(second, disk.point)
    second.post("guest-fsfreeze-status")
    assert thaw(third) == 0
    assert "stopped by a thaw" in first.read_reply()["error"]["desc"]
    assert "cancelled before it began" in second.read_reply()["error"]["desc"]
    assert second.read_reply()["return"] in ("frozen", "thawed")  # the thaw may be on its way
    assert status(second) == "thawed"
    assert not disk.is_frozen()


def test_many_thaws_at_once(disks, begin):
    disk = disks.make()
    agent = begin()
    channel = agent.connect()
    assert freeze(channel, disk.point) == 1
    for _ in range(5):
        channel.post("guest-fsfreeze-thaw")
    replies = channel.read_replies(5, 20)
    assert sorted(reply["return"] for reply in replies) == [0, 0, 0, 0, 1]


# --- the guard, and the end of the agent ---------------------------------------------------------

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
