# SPDX-License-Identifier: MIT
"""Freeze and thaw, on file systems of the tests' own. See freezing.py: nothing else may be frozen."""

import base64
import os
import threading
import time

import pytest

from agent import AgentError, seconds, wait_until
from freezing import (begin, disks, freeze, freeze_error,  # noqa: F401
                      hooks, make_hook, post_freeze, status, thaw, thaw_error)

KINDS = ["ext4", "xfs", "btrfs"]


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
