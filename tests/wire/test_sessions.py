# SPDX-License-Identifier: MIT
"""The session rules (ARCHITECTURE.md, "Sessions") with a slow command in flight.

Times are part of what is tested here: the grace of 250 ms is waited for on purpose, by
grow_old(); everything else waits on conditions.
"""

import base64
import os
import time

import pytest

from agent import SLOW, AgentError, SlowOpen, parse_reply, seconds, wait_until

GRACE = 0.25
slow = pytest.mark.bellhop_only("slow-commands-block-everything")
several = pytest.mark.bellhop_only("one-client-at-a-time")


def grow_old():
    """Lets every request that was sent become older than the grace."""
    time.sleep(GRACE + 0.05)


def sync_request(number, delimited=False, **members):
    name = "guest-sync-delimited" if delimited else "guest-sync"
    return dict({"execute": name, "arguments": {"id": number}}, **members)


def timed(action):
    start = time.monotonic()
    result = action()
    return result, time.monotonic() - start


# --- 1: in order ---------------------------------------------------------------------------------


@slow
def test_requests_without_id_wait_for_their_turn(agent):
    """Also those that would need no worker: they are evaluated at their turn, not on arrival."""
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    blocker = SlowOpen(agent).post(channel)
    channel.post("guest-get-time")
    channel.post("guest-ping")
    channel.post("guest-file-close", {"handle": handle})
    channel.post("guest-file-close", {"handle": handle})
    channel.send(b"{bad}\n")
    channel.post("guest-no-such-command")
    channel.post("guest-info")
    channel.expect_silence(0.3)
    before = time.time_ns()
    blocker.finish()
    replies = channel.read_replies(8)
    assert isinstance(replies[0]["return"], int)
    assert replies[1]["return"] >= before, "evaluated on arrival"
    assert replies[2] == replies[3] == {"return": {}}
    assert replies[4]["error"]["desc"] == "handle '%d' has not been found" % handle
    assert replies[5]["error"]["desc"].startswith("JSON parse error")
    assert replies[6]["error"]["class"] == "CommandNotFound"
    assert "supported_commands" in replies[7]["return"]


def test_order_of_many(shared_agent, shared):
    """Quick ones, ones that need a worker, wrong ones, in one burst."""
    path = shared_agent.file("file%d" % time.monotonic_ns(), b"x")
    requests, kinds = [], []
    for number in range(200):
        kind = ("sync", "open", "bad", "ping")[number % 4]
        kinds.append(kind)
        requests.append({
            "sync": '{"execute":"guest-sync","arguments":{"id":%d}}' % number,
            "open": '{"execute":"guest-file-open","arguments":{"path":"%s"}}' % path,
            "bad": '{"execute":"guest-file-close","arguments":{"handle":-%d}}' % (number + 1),
            "ping": '{"execute":"guest-ping"}'}[kind])
    shared.send("\n".join(requests) + "\n", timeout=20)
    for number, (kind, reply) in enumerate(zip(kinds, shared.read_replies(200, timeout=20))):
        if kind == "sync":
            assert reply == {"return": number}
        elif kind == "open":
            shared.close_file_later = reply["return"]
            assert isinstance(reply["return"], int)
        elif kind == "bad":
            assert reply["error"]["desc"] == "handle '-%d' has not been found" % (number + 1)
        else:
            assert reply == {"return": {}}


@several
def test_channels_do_not_wait_for_each_other(agent):
    first, second = agent.connect(), agent.connect()
    blocker = SlowOpen(agent).post(first)
    assert second.cmd("guest-ping") == {}
    handle = second.open_file(agent.file("file", b"x"))
    assert second.read_file(handle) == (b"x", True)
    blocker.finish()
    assert isinstance(first.read_reply()["return"], int)


# --- 2: side by side with id ---------------------------------------------------------------------


@slow
def test_requests_with_id_are_answered_as_they_finish(agent):
    channel = agent.connect()
    one = SlowOpen(agent, "one").post(channel, id=1)
    two = SlowOpen(agent, "two").post(channel, id=[2])
    channel.post("guest-ping", id="three")
    assert channel.read_reply() == {"return": {}, "id": "three"}
    two.finish()
    assert channel.read_reply()["id"] == [2]
    one.finish()
    assert channel.read_reply()["id"] == 1


@slow
def test_with_id_beside_one_without(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    channel.post("guest-ping")
    assert channel.cmd("guest-ping", id=1) == {}
    blocker.finish()
    assert isinstance(channel.read_reply()["return"], int)
    assert channel.read_reply() == {"return": {}}


@slow
def test_without_id_beside_one_with(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel, id=1)
    assert channel.cmd("guest-ping") == {}
    assert channel.open_file("/dev/null") >= 1000
    blocker.finish()
    assert channel.read_reply()["id"] == 1


@pytest.mark.parametrize("with_id", [True, False])
def test_lane_of_a_file_handle(agent, with_id):
    """Writes to one handle happen in the order they were sent."""
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    expected = b""
    for number in range(200):
        line = b"%d\n" % number
        expected += line
        members = {"id": number} if with_id else {}
        channel.post("guest-file-write", {
            "handle": handle, "buf-b64": base64.b64encode(line).decode()}, **members)
    replies = channel.read_replies(200, timeout=20)
    assert all("return" in reply for reply in replies)
    channel.cmd("guest-file-flush", {"handle": handle})
    with open(agent.path("file"), "rb") as file:
        assert file.read() == expected


@slow
def test_lanes_hold_across_fences(agent):
    """A fence gives up the answer, not the order of the effects."""
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    blocker = SlowOpen(agent).post(channel)
    channel.post("guest-file-write", {"handle": handle, "buf-b64": "Zmlyc3Q="})  # behind it
    grow_old()
    assert channel.sync() == []
    channel.post("guest-file-write", {"handle": handle, "buf-b64": "c2Vjb25k"})
    channel.expect_silence(0.3)
    assert channel.cmd("guest-ping", id=1) == {}
    blocker.finish()
    assert channel.read_reply() == {"return": {"count": 6, "eof": False}}
    with open(agent.path("file"), "rb") as file:
        assert file.read() == b"firstsecond"


@slow
@pytest.mark.time_limit(60)
def test_forty_opens_and_everything_else_goes_on(agent):
    """More slow commands than workers: what needs none is answered as if there were none."""
    channel, other = agent.connect(), agent.connect()
    pid = other.cmd("guest-exec", {"path": "/bin/sleep", "arg": ["100"]})["pid"]
    blockers = [SlowOpen(agent, "slow%d" % number) for number in range(40)]
    for number, blocker in enumerate(blockers):
        channel.send(blocker.request(id=number))
    wait_until(lambda: agent.opens_in_progress() >= 4)

    times = []
    for number in range(50):
        for connection, members in ((channel, {"id": "quick"}), (other, {})):
            for command, arguments in (("guest-ping", None), ("guest-info", None),
                                       ("guest-exec-status", {"pid": pid})):
                reply, took = timed(lambda: connection.request(command, arguments, **members))
                assert "return" in reply and reply.get("id") == members.get("id")
                times.append(took)
    times.sort()
    assert times[len(times) // 2] < 0.010 * SLOW
    assert times[int(len(times) * 0.99)] < 0.050 * SLOW

    for blocker in blockers:
        blocker.finish()
    replies = channel.read_replies(40, timeout=20)
    assert sorted(reply["id"] for reply in replies) == list(range(40))
    assert len({reply["return"] for reply in replies}) == 40


@slow
def test_one_channel_does_not_take_all_workers(start_agent):
    """Two configured channels: what one of them hangs on is not the other one's problem."""
    agent = start_agent(config="[channel second]\nmethod=unix-listen\npath=DIRECTORY/second\n")
    first, second = agent.connect(), agent.connect(path=os.path.join(agent.directory, "second"))
    blockers = [SlowOpen(agent, "slow%d" % number) for number in range(40)]
    for number, blocker in enumerate(blockers):
        first.send(blocker.request(id=number))
    wait_until(lambda: agent.opens_in_progress() >= 4)
    handle = second.open_file(agent.file("file", b"content"))
    assert second.read_file(handle) == (b"content", True)
    for blocker in blockers:
        blocker.finish()
    assert len(first.read_replies(40, timeout=20)) == 40


# --- 3: the fence --------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("delimited", [False, True])
@pytest.mark.parametrize("blocker_id", [{}, {"id": "slow"}])
def test_sync_is_answered_at_once(agent, delimited, blocker_id):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel, **blocker_id)
    grow_old()
    times = []
    for number in range(10):
        channel.send(sync_request(number, delimited))
        line, took = timed(channel.read_line)
        assert line == (b"\xff" if delimited else b"") + b'{"return": %d}' % number
        times.append(took)
    assert times[0] < 0.100 * SLOW, "the first one is the one that counts"
    assert min(times) < 0.010 * SLOW
    blocker.finish()
    channel.expect_silence(0.2)
    assert channel.cmd("guest-ping") == {}


@slow
def test_first_sync_within_10_ms(agent):
    """Best of several: a new slow command and a first sync each time."""
    times = []
    for number in range(5):
        with agent.connect() as channel:
            blocker = SlowOpen(agent, "slow%d" % number).post(channel)
            grow_old()
            channel.send(sync_request(number))
            reply, took = timed(channel.read_reply)
            assert reply == {"return": number}
            times.append(took)
            blocker.finish()
    assert min(times) < 0.010 * SLOW, times


@slow
@pytest.mark.parametrize("delimited", [False, True])
def test_nothing_stale_after_a_sync(agent, delimited):
    """No result, no error, no parse error of anything before it, and an answer to all after it."""
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    with_id = SlowOpen(agent, "with-id").post(channel, id="a")
    channel.post("guest-ping")
    channel.post("guest-no-such-command")
    channel.post("guest-file-read", {"handle": 1})
    channel.send(b"{bad}\n")
    channel.send(sync_request(1))
    channel.send(sync_request(2, True))
    grow_old()
    channel.received.clear()
    channel.fill(0)  # what the syncs of the same burst gave, if it is there
    while channel.fill(0.05):
        pass
    channel.received.clear()
    channel.searched = 0
    channel.send(sync_request(3, delimited))
    channel.post("guest-ping")
    assert parse_reply(channel.read_line()) == {"return": 3}
    assert channel.read_reply() == {"return": {}}
    blocker.finish()
    with_id.finish()
    channel.expect_silence(0.3)
    assert channel.cmd("guest-sync", {"id": 4}) == 4


@slow
def test_sync_with_id_is_a_fence_too(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    channel.send(sync_request(5, id={"x": 1}))
    assert channel.read_reply() == {"return": 5, "id": {"x": 1}}
    blocker.finish()
    channel.expect_silence(0.2)


@several
def test_fence_is_for_its_own_channel(agent):
    first, second = agent.connect(), agent.connect()
    blocker = SlowOpen(agent).post(first)
    grow_old()
    second.sync()
    blocker.finish()
    assert isinstance(first.read_reply()["return"], int)


@slow
def test_new_requests_after_the_fence_do_not_wait(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    channel.sync()
    handle = channel.open_file(agent.file("file", b"content"))
    assert channel.read_file(handle) == (b"content", True)
    assert channel.close_file(handle) == {}
    blocker.finish()
    channel.expect_silence(0.1)


@slow
def test_effects_are_kept(agent):
    """What was given up is done all the same, in its order, though nobody hears of it."""
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    blocker = SlowOpen(agent).post(channel)
    for number in range(5):
        channel.post("guest-file-write", {
            "handle": handle, "buf-b64": base64.b64encode(b"%d" % number).decode()})
    channel.post("guest-file-close", {"handle": handle})
    channel.post("guest-exec", {"path": "/bin/touch", "arg": [agent.path("touched")]})
    grow_old()
    assert channel.sync() == []
    assert os.path.getsize(agent.path("file")) == 0
    assert not os.path.exists(agent.path("touched"))
    blocker.finish()
    wait_until(lambda: os.path.exists(agent.path("touched")))
    with open(agent.path("file"), "rb") as file:
        assert file.read() == b"01234"
    with pytest.raises(AgentError, match="has not been found"):
        channel.close_file(handle)


@slow
def test_undelivered_file_handle_is_closed(agent):
    """Nobody knows its number, so nobody would ever close it."""
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    channel.sync()
    blocker.finish()
    blocker.wait_closed()
    assert channel.cmd("guest-ping") == {}


@slow
def test_file_handle_of_a_client_that_left_is_closed(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    channel.close()
    blocker.finish()
    blocker.wait_closed()


@slow
def test_delivered_file_handle_stays(agent):
    """A sync after the reply was written takes nothing back."""
    channel = agent.connect()
    handle = channel.open_file(agent.file("file", b"content"))
    for _ in range(3):
        channel.sync()
    grow_old()
    channel.sync()
    assert channel.read_file(handle) == (b"content", True)


# Replies that wait in the agent: more than a socket holds, less than what stops the reading.
WAITING_BYTES = 600000


def fill_output(agent, channel):
    """Makes replies wait: a reply that the socket does not take whole."""
    handle = channel.open_file(agent.file("big", b"x" * WAITING_BYTES))
    channel.post("guest-file-read", {"handle": handle, "count": WAITING_BYTES})
    channel.wait_readable()  # its beginning is here


@slow
def test_exec_status_can_be_asked_again(agent):
    """The only copy of a program's output is not to be lost with a reply that was dropped."""
    channel = agent.connect()
    pid = channel.cmd("guest-exec", {"path": "/bin/echo", "arg": ["once"],
                                     "capture-output": True})["pid"]
    blocker = SlowOpen(agent).post(channel)
    channel.post("guest-exec-status", {"pid": pid})  # waits for its turn, and is given up
    grow_old()
    assert channel.sync() == []
    blocker.finish()
    status = wait_for_exit(channel, pid)
    assert base64.b64decode(status["out-data"]) == b"once\n"


def wait_for_exit(channel, pid):
    def exited():
        status = channel.cmd("guest-exec-status", {"pid": pid})
        return status if status["exited"] else None
    return wait_until(exited, what="exit")


@slow
def test_exec_status_whose_reply_was_dropped_from_the_output(agent):
    channel, watch = agent.connect(), agent.connect()
    release = agent.fifo("release")
    pid = channel.cmd("guest-exec", {"path": "/bin/sh", "capture-output": True,
                                     "arg": ["-c", "read line < %s; echo once" % release]})["pid"]
    with open(release, "w") as file:  # the program goes on, and ends
        file.write("go\n")
    wait_until(lambda: not os.path.exists("/proc/%d" % pid))
    fill_output(agent, channel)
    channel.post("guest-exec-status", {"pid": pid})
    grow_old()
    channel.send(sync_request(7))
    # the sync is read at once, since less waits than what stops the reading
    wait_until(lambda: unread(channel) == 0)
    big = channel.read_reply()
    assert big["return"]["count"] == WAITING_BYTES
    assert channel.read_reply() == {"return": 7}
    status = wait_for_exit(watch, pid)
    assert base64.b64decode(status["out-data"]) == b"once\n"


def unread(channel):
    """Bytes that we have sent and the agent has not read."""
    import array
    import fcntl
    siocoutq = 0x5411
    value = array.array("i", [0])
    fcntl.ioctl(channel.socket, siocoutq, value)
    return value[0]


def test_exec_status_is_asked_once(channel):
    """As clients know it: what was delivered is gone."""
    pid = channel.cmd("guest-exec", {"path": "/bin/echo", "arg": ["x"],
                                     "capture-output": True})["pid"]
    wait_for_exit(channel, pid)
    with pytest.raises(AgentError):
        channel.cmd("guest-exec-status", {"pid": pid})


@slow
def test_unsent_delimited_sync_is_superseded(agent):
    """A client must never see two 0xFF without the reply between that the first one was for."""
    channel = agent.connect()
    fill_output(agent, channel)
    channel.send(sync_request(1, True))
    channel.post("guest-ping")
    wait_until(lambda: unread(channel) == 0)
    grow_old()
    channel.send(sync_request(2, True))
    channel.post("guest-get-host-name")
    assert channel.read_reply()["return"]["count"] == WAITING_BYTES
    assert channel.read_line() == b'\xff{"return": 2}'
    assert "host-name" in channel.read_reply()["return"]
    channel.expect_silence(0.1)


@slow
def test_line_that_was_begun_is_finished(agent):
    """Never a truncated line, never one with another one inside."""
    channel = agent.connect()
    handle = channel.open_file(agent.file("large", b"y" * (16 << 20)))
    channel.post("guest-file-read", {"handle": handle, "count": 16 << 20})
    channel.wait_readable()
    channel.post("guest-ping")
    grow_old()
    channel.send(sync_request(1))
    reply = channel.read_reply(20)
    assert reply["return"]["count"] == 16 << 20
    replies = [channel.read_reply()]
    while replies[-1] != {"return": 1}:
        replies.append(channel.read_reply())
    # The channel was not read meanwhile: ping and sync may have arrived together.
    assert replies in ([{"return": 1}], [{"return": {}}, {"return": 1}])
    channel.expect_silence(0.1)


# --- 4: the grace --------------------------------------------------------------------------------


def test_burst_of_command_and_sync(shared_agent, shared):
    """Scripts send both at once and read two replies."""
    path = shared_agent.file("burst", b"x")
    for number in range(50):
        shared.send({"execute": "guest-file-open", "arguments": {"path": path}})
        shared.send(sync_request(number))
        handle = shared.read_reply()["return"]
        assert shared.read_reply() == {"return": number}
        shared.close_file(handle)


def test_burst_of_sync_and_command(shared):
    """What Proxmox does for every command."""
    for number in range(1, 50):
        shared.send('{"execute":"guest-sync-delimited","arguments":{"id":%d}}\n'
                    '{"execute":"guest-get-host-name"}\n' % number)
        assert shared.read_line() == b'\xff{"return": %d}' % number
        assert "host-name" in shared.read_reply()["return"]


@slow
@pytest.mark.parametrize("delimited", [False, True])
def test_command_that_ends_within_its_grace(agent, delimited):
    """Both replies, in order, the sync's right after the command's."""
    channel = agent.connect()
    for number in range(5):
        blocker = SlowOpen(agent, "slow%d" % number)
        channel.send(blocker.request())
        channel.send(sync_request(number, delimited))
        blocker.finish()
        assert isinstance(channel.read_reply()["return"], int)
        line, took = timed(channel.read_line)
        assert line.endswith(b'{"return": %d}' % number)
        assert took < 0.100 * SLOW


@slow
def test_command_that_outlasts_its_grace(agent):
    """The sync waits until the command is 250 ms old, and no longer."""
    channel = agent.connect()
    blocker = SlowOpen(agent)
    start = time.monotonic()
    channel.send(blocker.request())
    channel.send(sync_request(1))
    assert channel.read_reply() == {"return": 1}
    took = time.monotonic() - start
    assert GRACE - 0.01 <= took < GRACE + 0.1 * SLOW
    blocker.finish()
    channel.expect_silence(0.2)


@slow
def test_sync_waits_for_the_rest_of_the_grace(agent):
    """It is the command's age that counts, not the sync's."""
    channel = agent.connect()
    blocker = SlowOpen(agent)
    start = time.monotonic()
    channel.send(blocker.request())
    time.sleep(0.15)  # part of its grace
    sent = time.monotonic()
    channel.send(sync_request(1))
    assert channel.read_reply() == {"return": 1}
    now = time.monotonic()
    assert now - start >= GRACE - 0.01
    if sent - start < 0.2:  # else we were held up ourselves
        assert now - sent < 0.1 + 0.1 * SLOW
    blocker.finish()


@slow
def test_old_command_and_young_ones(agent):
    """The old one is not waited for, the young ones are until they are old: they wait for it."""
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    start = time.monotonic()
    channel.post("guest-ping")  # waits for its turn behind the old one
    channel.send(sync_request(1))
    assert channel.read_reply() == {"return": 1}
    assert GRACE - 0.01 <= time.monotonic() - start < GRACE + 0.1 * SLOW
    blocker.finish()
    channel.expect_silence(0.2)


@slow
def test_young_commands_with_id_are_answered_before_the_sync(agent):
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    channel.post("guest-ping", id=1)
    channel.send(sync_request(2))
    assert channel.read_reply() == {"return": {}, "id": 1}
    line, took = timed(channel.read_reply)
    assert line == {"return": 2} and took < 0.1 * SLOW, "nothing is left to be waited for"
    blocker.finish()


@slow
def test_several_syncs_after_giving_up(agent):
    """A client that tried again and again finds its last one, and nothing after it."""
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    grow_old()
    for number in range(5):
        channel.send(sync_request(number, True))
        assert channel.read_line() == b'\xff{"return": %d}' % number
    channel.send(sync_request(99, True))
    channel.post("guest-ping")
    assert channel.read_line() == b'\xff{"return": 99}'
    assert channel.read_reply() == {"return": {}}
    blocker.finish()
    channel.expect_silence(0.1)


# --- 6: the client goes away ---------------------------------------------------------------------


@slow
def test_half_closed_client_gets_its_replies(agent):
    """`printf ... | socat - UNIX:socket`"""
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    channel.post("guest-ping")
    channel.half_close()
    channel.expect_silence(0.1)
    blocker.finish()
    lines = channel.read_to_end().splitlines()
    assert len(lines) == 2
    assert isinstance(parse_reply(lines[0])["return"], int)
    assert parse_reply(lines[1]) == {"return": {}}


@slow
def test_half_closed_client_with_a_long_reply(agent):
    channel = agent.connect()
    handle = channel.open_file(agent.file("large", b"z" * (8 << 20)))
    channel.post("guest-file-read", {"handle": handle, "count": 8 << 20})
    channel.half_close()
    lines = channel.read_to_end(20).splitlines()
    assert len(lines) == 1 and parse_reply(lines[0])["return"]["count"] == 8 << 20


@several
def test_disconnect_while_a_command_runs(agent):
    channel, other = agent.connect(), agent.connect()
    blocker = SlowOpen(agent).post(channel)
    handle = other.open_file(agent.path("file"), "w")
    channel.post("guest-file-write", {"handle": handle, "buf-b64": "ZWZmZWN0"})
    assert channel.cmd("guest-ping", id=1) == {}  # all of it has been read
    channel.close()
    assert other.cmd("guest-ping") == {}
    blocker.finish()
    blocker.wait_closed()

    def written():
        with open(agent.path("file"), "rb") as file:
            return file.read() == b"effect"
    wait_until(written)


@several
def test_disconnect_in_the_middle_of_a_reply(agent):
    other = agent.connect()
    handle = other.open_file(agent.file("large", b"x" * (32 << 20)))
    for _ in range(3):
        channel = agent.connect()
        other.seek_file(handle, 0, "set")
        channel.post("guest-file-read", {"handle": handle, "count": 32 << 20})
        channel.wait_readable()
        channel.close()
        assert other.cmd("guest-ping") == {}
    assert other.seek_file(handle, 0, "set") == (0, False)
    assert other.read_file(handle, 4) == (b"xxxx", False)


@several
def test_exec_status_of_a_client_that_left_can_be_asked_again(agent):
    """Its reply was written into a socket that nobody reads any more, or not at all."""
    channel, other = agent.connect(), agent.connect()
    pid = channel.cmd("guest-exec", {"path": "/bin/echo", "arg": ["kept"],
                                     "capture-output": True})["pid"]
    wait_until(lambda: not os.path.exists("/proc/%d" % pid))
    fill_output(agent, channel)
    channel.post("guest-exec-status", {"pid": pid})
    wait_until(lambda: unread(channel) == 0)
    channel.close()
    status = wait_for_exit(other, pid)
    assert base64.b64decode(status["out-data"]) == b"kept\n"


@several
def test_many_clients_at_once(agent):
    channels = [agent.connect() for _ in range(20)]
    for number, channel in enumerate(channels):
        channel.send(sync_request(number))
    for number, channel in enumerate(channels):
        assert channel.read_reply() == {"return": number}


# --- the end -------------------------------------------------------------------------------------


@slow
def test_sigterm_with_commands_that_hang(agent):
    """The agent ends within its time though workers are stuck; stop() checks that."""
    channel = agent.connect()
    for number in range(6):
        SlowOpen(agent, "slow%d" % number).post(channel, id=number)
    start = time.monotonic()
    agent.process.terminate()
    assert agent.process.wait(seconds(10)) == 0
    assert time.monotonic() - start < 5 * SLOW
    agent.expect_clean_end = False
