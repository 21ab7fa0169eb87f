# SPDX-License-Identifier: MIT
"""Each configured limit: where it is, its one clear error, and that it ends with its cause."""

import base64
import os
import subprocess
import time

import pytest

from agent import SLOW, AgentError, SlowOpen, seconds, wait_until

pytestmark = pytest.mark.bellhop_only("limits-are-built-in")

PING = b'{"execute":"guest-ping"}\n'


def error_of(channel, command, arguments=None):
    with pytest.raises(AgentError) as caught:
        channel.cmd(command, arguments)
    return caught.value.desc


def assert_refused_once(channel, request, desc):
    """One error, and the channel goes on as if nothing had been."""
    channel.send(request, 20)
    reply = channel.read_reply(20)
    assert reply == {"error": {"class": "GenericError", "desc": desc}}
    assert channel.cmd("guest-ping", id=1) == {}
    assert channel.sync() == []


# --- one request ---------------------------------------------------------------------------------


def test_message_bytes(start_agent):
    channel = start_agent(settings={"limits.message-bytes": "64K"}).connect()
    frame = b'{"execute":"guest-ping","id":"%s"}'
    room = 65536 - len(frame) + 2
    channel.send(frame % (b"x" * room) + b"\n")
    assert channel.read_reply() == {"return": {}, "id": "x" * room}
    too_large = "JSON message size limit exceeded"
    assert_refused_once(channel, frame % (b"x" * (room + 1)) + b"\n", too_large)
    # what follows in the same message is skipped up to its end, however much it is
    assert_refused_once(channel, frame % (b"x" * 1000000) + b"\n", too_large)
    assert_refused_once(channel, b"[" + b"1," * 100000 + b"1]\n", too_large)
    # white space is not a part of it
    channel.send(b" " * 100000 + PING)
    assert channel.read_reply() == {"return": {}}


def test_message_bytes_of_a_file_write(start_agent):
    agent = start_agent(settings={"limits.message-bytes": "64K"})
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    assert channel.write_file(handle, b"x" * 48000) == 48000
    assert error_of(channel, "guest-file-write", {
        "handle": handle, "buf-b64": base64.b64encode(b"x" * 60000).decode()}) == \
        "JSON message size limit exceeded"
    assert channel.write_file(handle, b"x") == 1
    channel.close_file(handle)
    assert os.path.getsize(agent.path("file")) == 48001


def test_message_depth(start_agent):
    channel = start_agent(settings={"limits.message-depth": 8}).connect()
    channel.send(b'{"execute":"guest-ping","id":[[[[[[[]]]]]]]}\n')
    assert channel.read_reply()["return"] == {}
    assert_refused_once(channel, b'{"execute":"guest-ping","id":[[[[[[[[]]]]]]]]}\n',
                        "JSON nesting depth limit exceeded")
    assert_refused_once(channel, b'{"a":' * 9 + b"1" + b"}" * 9 + b"\n",
                        "JSON nesting depth limit exceeded")


def test_message_values(start_agent):
    channel = start_agent(settings={"limits.message-values": 100}).connect()

    def request(count):  # the request, its command and the list are values, too
        return b'{"execute":"guest-ping","id":[%s]}\n' % b",".join([b"1"] * (count - 3))

    channel.send(request(100))
    assert channel.read_reply()["return"] == {}
    assert_refused_once(channel, request(101), "JSON value count limit exceeded")
    assert_refused_once(channel, request(50000), "JSON value count limit exceeded")
    assert_refused_once(channel, b"{%s}\n" % b",".join(b'"%d":1' % n for n in range(200)),
                        "JSON value count limit exceeded")


# --- many requests -------------------------------------------------------------------------------


def test_pending_requests(start_agent):
    """Past the limit each is refused in its place; sync and ping still get through."""
    agent = start_agent(settings={"limits.pending-requests": 8})
    channel, other = agent.connect(), agent.connect()
    blocker = SlowOpen(agent).post(channel)
    for number in range(20):
        channel.post("guest-get-host-name")
    assert channel.cmd("guest-ping", id=1) == {}  # all of it has been read
    for connection in (channel, other):
        assert connection.cmd("guest-ping", id=1) == {}
    assert other.sync() == []
    blocker.finish()
    assert isinstance(channel.read_reply()["return"], int)
    replies = channel.read_replies(20)
    assert [("return" in reply) for reply in replies] == [True] * 7 + [False] * 13
    assert {reply["error"]["desc"] for reply in replies[7:]} == {
        "Too many requests are pending on this channel"}
    assert "host-name" in channel.cmd("guest-get-host-name")


def test_pending_requests_with_id_are_refused_at_once(start_agent):
    agent = start_agent(settings={"limits.pending-requests": 8})
    channel = agent.connect()
    blockers = [SlowOpen(agent, "slow%d" % number) for number in range(8)]
    for number, blocker in enumerate(blockers):
        channel.send(blocker.request(id=number))
    reply = channel.request("guest-get-host-name", id="one more")
    assert reply == {"id": "one more", "error": {
        "class": "GenericError", "desc": "Too many requests are pending on this channel"}}
    for blocker in blockers:
        blocker.finish()
    assert sorted(reply["id"] for reply in channel.read_replies(8, 20)) == list(range(8))
    assert "host-name" in channel.cmd("guest-get-host-name")


def test_sync_gets_through_a_full_channel(start_agent):
    """Given up requests still count while they run, and a client that tries again and again
    still gets its sync."""
    agent = start_agent(settings={"limits.pending-requests": 8})
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    for number in range(20):
        channel.post("guest-get-host-name")
    time.sleep(0.3)  # older than the grace
    for _ in range(20):
        assert channel.sync() == []
        assert channel.cmd("guest-ping") == {}
    blocker.finish()
    wait_until(lambda: "return" in channel.request("guest-get-host-name"))


def test_pending_bytes(start_agent):
    agent = start_agent(settings={"limits.message-bytes": "64K", "limits.pending-bytes": "100K"})
    channel = agent.connect()
    handle = channel.open_file(agent.path("file"), "w")
    blocker = SlowOpen(agent).post(channel)
    for _ in range(4):
        channel.post("guest-file-write", {
            "handle": handle, "buf-b64": base64.b64encode(b"x" * 30000).decode()})
    assert channel.cmd("guest-ping", id=1) == {}
    blocker.finish()
    assert isinstance(channel.read_reply()["return"], int)
    replies = channel.read_replies(4)
    assert [("return" in reply) for reply in replies] == [True, True, False, False]
    assert {reply["error"]["desc"] for reply in replies[2:]} == {
        "Too many bytes of requests are pending on this channel"}
    assert channel.write_file(handle, b"x" * 30000) == 30000
    assert os.path.getsize(agent.path("file")) == 90000


def test_unsent_bytes(start_agent):
    """A client that does not read is not read either; nothing is lost when it reads again."""
    agent = start_agent(settings={"limits.unsent-bytes": "4K"})
    channel, other = agent.connect(), agent.connect()
    request = b'{"execute":"guest-ping","id":"%s"}\n' % (b"x" * 900)
    sent, rest = 0, b""
    deadline = time.monotonic() + seconds(20)
    while time.monotonic() < deadline:
        # as long as it takes more; then it must have stopped, soon and for good
        channel.poll.register(channel.socket, 4)  # POLLOUT
        if not channel.poll.poll(300 * SLOW):
            break
        data = rest or request
        taken = channel.socket.send(data)
        rest = data[taken:]
        sent += not rest
        assert sent < 100000, "the agent reads and stores without bound"
    assert other.cmd("guest-ping") == {}, "and others are served"
    channel.poll.register(channel.socket, 1)
    replies = 0
    while replies < sent:
        assert channel.read_reply()["return"] == {}
        replies += 1
    channel.send(rest + b"\n")
    if rest:
        assert channel.read_reply()["return"] == {}
    assert channel.sync() == []


def test_connections(start_agent):
    """Those past the limit wait; they are served when another one leaves."""
    agent = start_agent(settings={"limits.connections": 2})
    first, second = agent.connect(), agent.connect()
    third = agent.connect(sync=False)
    third.send(PING)
    third.expect_silence(0.2)
    assert first.cmd("guest-ping") == {} and second.cmd("guest-ping") == {}
    first.close()
    assert third.read_reply() == {"return": {}}
    assert second.cmd("guest-ping") == {}


# --- files ---------------------------------------------------------------------------------------


def test_handles(start_agent):
    agent = start_agent(settings={"files.handles": 3})
    channel = agent.connect()
    path = agent.file("file", b"x")
    handles = [channel.open_file(path) for _ in range(3)]
    desc = error_of(channel, "guest-file-open", {"path": path})
    assert desc == ("failed to open file: the limit of 3 open handles is reached "
                    "(setting files.handles)")
    assert channel.read_file(handles[0]) == (b"x", True)
    channel.close_file(handles.pop())
    handles.append(channel.open_file(path))
    error_of(channel, "guest-file-open", {"path": path})
    for handle in handles:
        channel.close_file(handle)


def test_failed_opens_take_no_handles(start_agent):
    agent = start_agent(settings={"files.handles": 3})
    channel = agent.connect()
    for _ in range(10):
        assert "No such file" in error_of(channel, "guest-file-open", {"path": "/nonexistent"})
        assert "mode" in error_of(channel, "guest-file-open", {"path": "/", "mode": "x"})
    assert [channel.open_file("/dev/null") for _ in range(3)]


def test_opens_in_flight_take_handles(start_agent):
    agent = start_agent(settings={"files.handles": 2})
    channel = agent.connect()
    blockers = [SlowOpen(agent, "slow%d" % number).post(channel, id=number)
                for number in range(2)]
    assert "files.handles" in error_of(channel, "guest-file-open", {"path": "/dev/null"})
    time.sleep(0.3)  # older than the grace: both are given up
    channel.sync()
    for blocker in blockers:
        blocker.finish()
        blocker.wait_closed()
    # what nobody got to know of has given its place back
    handles = [wait_until(lambda: channel.request("guest-file-open", {"path": "/dev/null"})
                          .get("return")) for _ in range(2)]
    assert len(set(handles)) == 2


# --- programs ------------------------------------------------------------------------------------


def run(channel, script, **arguments):
    return channel.cmd("guest-exec", dict({
        "path": "/bin/sh", "arg": ["-c", script], "capture-output": True}, **arguments))["pid"]


def wait_for_exit(channel, pid):
    def exited():
        status = channel.cmd("guest-exec-status", {"pid": pid})
        return status if status["exited"] else None
    return wait_until(exited, 10, "exit")


def test_exec_running(start_agent):
    agent = start_agent(settings={"exec.running": 2})
    channel = agent.connect()
    fifos = [agent.fifo("fifo%d" % number) for number in range(2)]
    pids = [run(channel, "read line < " + fifo) for fifo in fifos]
    desc = error_of(channel, "guest-exec", {"path": "/bin/true"})
    assert "exec.running" in desc and "2" in desc
    with open(fifos[0], "w") as file:
        file.write("go\n")
    assert wait_for_exit(channel, pids[0])["exitcode"] == 0
    assert wait_for_exit(channel, run(channel, "exit 3"))["exitcode"] == 3


def test_failed_execs_are_not_running(start_agent):
    agent = start_agent(settings={"exec.running": 2, "exec.kept": 2})
    channel = agent.connect()
    for _ in range(10):
        assert "No such file" in error_of(channel, "guest-exec", {"path": "/nonexistent"})
    assert wait_for_exit(channel, run(channel, "exit 3"))["exitcode"] == 3


@pytest.mark.parametrize("script, out, err", [
    ("head -c 4096 /dev/zero", 4096, 0),
    ("head -c 4097 /dev/zero", 4096, 0),
    ("head -c 1000000 /dev/zero", 4096, 0),
    ("head -c 1000000 /dev/zero >&2; echo x", 2, 4096),
])
def test_exec_stream_bytes(start_agent, script, out, err):
    """What is too much is cut off and said so; the program runs to its end unhindered."""
    agent = start_agent(settings={"exec.stream-bytes": "4K"})
    channel = agent.connect()
    status = wait_for_exit(channel, run(channel, script + "; exit 7"))
    assert status["exitcode"] == 7
    for size, name in ((out, "out"), (err, "err")):
        assert len(base64.b64decode(status.get(name + "-data", ""))) == size
        if size:
            cut = size == 4096 and "4096" not in script
            assert status[name + "-truncated"] is cut


def test_exec_output_bytes(start_agent):
    """Of all programs together."""
    agent = start_agent(settings={"exec.stream-bytes": "8K", "exec.output-bytes": "16K"})
    channel = agent.connect()
    pids = []
    for number in range(2):
        done = agent.path("done%d" % number)
        pids.append(run(channel, "head -c 8192 /dev/zero; touch " + done))
        wait_until(lambda: os.path.exists(done))
    wait_until(lambda: not any(os.path.exists("/proc/%d" % pid) for pid in pids))
    desc = wait_until(lambda: channel.request("guest-exec", {
        "path": "/bin/true", "capture-output": True}).get("error", {}).get("desc"))
    assert "exec.output-bytes" in desc
    # without output it may run; with the others' results fetched it may have output
    assert channel.cmd("guest-exec", {"path": "/bin/true"})["pid"] > 0
    for pid in pids:
        assert len(base64.b64decode(wait_for_exit(channel, pid)["out-data"])) == 8192
    assert wait_for_exit(channel, run(channel, "echo x"))["out-data"] == "eAo="


def test_exec_kept(start_agent):
    """Results that nobody has fetched: they are not thrown away, there are no new ones instead."""
    agent = start_agent(settings={"exec.kept": 2})
    channel = agent.connect()
    pids = []
    for number in range(2):
        pids.append(run(channel, "echo %d" % number))
        wait_until(lambda: not os.path.exists("/proc/%d" % pids[-1]))
    # The agent may not know yet that they have ended; what still starts is fetched at once.
    def refusal():
        reply = channel.request("guest-exec", {"path": "/bin/true"})
        if "return" in reply:
            wait_for_exit(channel, reply["return"]["pid"])
        return reply.get("error", {}).get("desc")
    assert "exec.kept" in wait_until(refusal)
    outputs = [wait_for_exit(channel, pid)["out-data"] for pid in pids]
    assert outputs == ["MAo=", "MQo="]
    assert wait_for_exit(channel, run(channel, "exit 3"))["exitcode"] == 3


def test_exec_retention(start_agent):
    agent = start_agent(settings={"exec.retention": 1})
    channel = agent.connect()
    done = agent.path("done")
    pid = run(channel, "echo x; touch " + done)
    wait_until(lambda: os.path.exists(done) and not os.path.exists("/proc/%d" % pid))
    time.sleep(1.5 * SLOW)  # it is the time that is tested
    assert error_of(channel, "guest-exec-status", {"pid": pid}) == "Invalid parameter 'pid'"


# --- workers and deadlines -----------------------------------------------------------------------


def test_workers(start_agent):
    """One channel has at most half of them."""
    agent = start_agent(settings={"pool.workers": 2, "pool.workers-max": 6})
    channel = agent.connect()
    blockers = [SlowOpen(agent, "slow%d" % number) for number in range(8)]
    for number, blocker in enumerate(blockers):
        channel.send(blocker.request(id=number))
    wait_until(lambda: agent.opens_in_progress() == 3)
    for _ in range(20):
        assert channel.cmd("guest-ping", id="p") == {}
        assert agent.opens_in_progress() == 3
    for blocker in blockers:
        blocker.finish()
    assert len(channel.read_replies(8)) == 8


def test_default_deadline(start_agent):
    agent = start_agent(settings={"deadline.default": 1})
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    start = time.monotonic()
    reply = channel.read_reply()
    assert time.monotonic() - start <= 3 * SLOW
    desc = reply["error"]["desc"]
    assert "guest-file-open" in desc and blocker.path in desc
    assert channel.cmd("guest-ping") == {}


def test_deadline_of_one_command(start_agent):
    """Its own one counts, and 0 is for ever."""
    agent = start_agent(settings={"deadline.default": 1, "deadline.guest-file-open": 0})
    channel = agent.connect()
    blocker = SlowOpen(agent).post(channel)
    channel.expect_silence(2.5)
    blocker.finish()
    assert isinstance(channel.read_reply()["return"], int)


def test_deadline_of_what_waits_for_a_worker(start_agent):
    """It has not begun, so it has no effect, and says so."""
    agent = start_agent(settings={"pool.workers": 2, "pool.workers-max": 2,
                                  "deadline.default": 60, "deadline.guest-file-open": 1})
    channel = agent.connect()
    blockers = [SlowOpen(agent, "slow%d" % number) for number in range(4)]
    for number, blocker in enumerate(blockers):
        channel.send(blocker.request(id=number))
    replies = channel.read_replies(4, 20)
    assert sorted(reply["id"] for reply in replies) == [0, 1, 2, 3]
    assert all("guest-file-open" in reply["error"]["desc"] for reply in replies)
    assert channel.open_file("/dev/null") >= 1000


# --- settings that are wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("setting, words", [
    ("files.handles=0", ["handles"]),
    ("files.handles=many", ["handles"]),
    ("files.handles=-1", ["handles"]),
    ("files.handles=99999999999999999999", ["handles"]),
    ("files.handles=", ["handles"]),
    ("files.handles=3x", ["handles"]),
    ("files.handles", ["files.handles"]),
    ("files.umask=999", ["umask"]),
    ("limits.message-bytes=1", ["message-bytes"]),
    ("limits.no-such-key=1", ["no-such-key"]),
    ("no-such-group.handles=1", ["no-such-group"]),
    ("deadline.guest-no-such-command=1", ["guest-no-such-command"]),
    ("pool.workers-max=1", ["workers-max"]),
])
def test_wrong_setting(kind, request, tmp_path, setting, words):
    """A clear message, a bad exit status, and nothing started."""
    from conftest import _binary
    result = subprocess.run(
        [_binary(request.config, kind), "-m", "unix-listen", "-p", str(tmp_path / "socket"),
         "-t", str(tmp_path), "--set", setting],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds(10),
        env=dict(os.environ, QGA_CONF="/dev/null", BELLHOP_CONF="/dev/null"))
    assert result.returncode not in (0, -6, -11)
    assert all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "socket").exists()
