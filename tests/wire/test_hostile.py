# SPDX-License-Identifier: MIT
"""Input that no honest client sends. After each: the same connection works after a sync, a new
one works, and the agent's memory (its children's included) has come back."""

import os
import random
import select
import time

import pytest

from agent import SLOW, ChannelClosed, parse_reply, seconds, wait_until

MIB = 1 << 20
hostile = pytest.mark.bellhop_only("hostile-input-hurts")


@pytest.fixture
def victim(agent):
    """(agent, connection), with what must be true in the end."""
    channel = agent.connect()
    warm_up(agent, channel)
    before = agent.rss()
    descriptors = len(agent.open_paths())
    yield agent, channel
    if not channel.socket._closed:
        channel.sync(timeout=20)
        assert channel.cmd("guest-sync", {"id": 1}) == 1
        left = channel.sync()
        assert left == [] or agent.is_reference, left
        channel.close()
    with agent.connect(sync=False) as new:
        assert new.cmd("guest-sync", {"id": 2}) == 2
        assert new.request("guest-get-osinfo")["return"]["machine"] == os.uname().machine
    if not agent.differs("memory-stays-where-it-was"):
        assert_memory_back(agent, before)
    wait_until(lambda: len(agent.open_paths()) <= descriptors, what="descriptors given back")


def warm_up(agent, channel):
    """What the agent has to load and allocate once."""
    channel.cmd("guest-get-osinfo")
    channel.cmd("guest-info")
    handle = channel.open_file(agent.file("warm", b"x" * 200000))
    channel.read_file(handle, 200000)
    channel.close_file(handle)
    channel.send(b'{"execute":"guest-ping","id":"%s"}\n' % (b"x" * 200000))
    channel.read_reply()
    channel.sync()


def assert_memory_back(agent, before):
    if agent.has_sanitizer("tsan"):
        return  # keeps its shadow of what was there
    tolerance = (64 if agent.has_sanitizer("asan") else 6) * MIB
    try:
        wait_until(lambda: agent.rss() <= before + tolerance, 5)
    except TimeoutError:
        pytest.fail("memory: %.1f MiB before, %.1f after" % (before / MIB, agent.rss() / MIB))


def assert_peak_below(agent, extra):
    """Bounds what the agent ever held; says nothing under a sanitizer."""
    if not agent.has_sanitizer("tsan") and not agent.has_sanitizer("asan"):
        peak = agent.rss_peak()
        assert peak < 24 * MIB + extra, "peak %.1f MiB" % (peak / MIB)


def pump(channel, pieces, timeout=40):
    """Sends all pieces while it takes in what comes; returns the lines that had come by then."""
    end = time.monotonic() + seconds(timeout)
    for piece in pieces:
        view = memoryview(piece)
        while view:
            assert time.monotonic() < end, "no progress"
            channel.poll.register(channel.socket, select.POLLIN | select.POLLOUT)
            for _, events in channel.poll.poll(1000):
                if events & select.POLLIN:
                    channel.fill()
                elif events & select.POLLOUT:
                    try:
                        view = view[channel.socket.send(view[:MIB]):]
                    except BlockingIOError:
                        pass
    lines = bytes(channel.received).split(b"\n")
    channel.received = bytearray(lines.pop())
    channel.searched = 0
    return lines


def repeated(piece, total):
    """`total` bytes of the piece again and again."""
    block = piece * max(1, 65536 // len(piece))
    for _ in range(total // len(block)):
        yield block


def errors_before_sync(channel, timeout=20):
    """The descriptions of all errors up to a sync's reply."""
    lines = [line for line in channel.sync(timeout) if line]
    return [parse_reply(line)["error"]["desc"] for line in lines]


# --- one endless thing ---------------------------------------------------------------------------


@hostile
def test_string_without_end(victim):
    """100 MB: one error, at the limit, and the rest is not stored."""
    agent, channel = victim
    lines = pump(channel, [b'{"execute":"guest-ping","id":"'])
    lines += pump(channel, repeated(b"x", 100 * MIB))
    assert len(lines) == 1
    assert parse_reply(lines[0])["error"]["desc"] == "JSON message size limit exceeded"
    assert errors_before_sync(channel) == []
    assert_peak_below(agent, 140 * MIB)


def test_unfinished_string_of_a_client_that_leaves(victim):
    agent, channel = victim
    pump(channel, [b'{"execute":"guest-ping","id":"'])
    pump(channel, repeated(b"x", 30 * MIB))
    channel.close()
    if agent.differs("unfinished-input-outlives-its-client"):
        with agent.connect(sync=False) as new:
            new.sync(timeout=20)


@hostile
@pytest.mark.parametrize("piece", [b"[", b'{"a":', b"[{'a':[", b"[1,"], ids=repr)
def test_200000_open_brackets(victim, piece):
    agent, channel = victim
    lines = pump(channel, [piece * 200000])
    descs = [parse_reply(line)["error"]["desc"] for line in lines] + errors_before_sync(channel)
    assert descs == ["JSON nesting depth limit exceeded"]
    assert_peak_below(agent, 20 * MIB)


@hostile
@pytest.mark.parametrize("piece", [b",", b":", b"x", b"\\", b"-", b"\x00", b"\x80"], ids=repr)
def test_endless_line_of(victim, piece):
    """One error, then nothing but the end of the line matters."""
    agent, channel = victim
    lines = pump(channel, repeated(piece, 5 * MIB))
    descs = [parse_reply(line)["error"]["desc"] for line in lines] + errors_before_sync(channel)
    assert len(descs) == (piece != b"-"), "of a number one cannot tell before its end"
    assert_peak_below(agent, 20 * MIB)


@hostile
@pytest.mark.parametrize("piece", [b"]", b"}", b'""', b"[]", b"{}"], ids=repr)
def test_many_tiny_messages(victim, piece):
    """An end without a beginning is a message of its own: who sends no newlines is back in step."""
    agent, channel = victim
    lines = pump(channel, [piece * 50000])
    while len(lines) < 50000:
        lines.append(channel.read_line())
    assert len({parse_reply(line)["error"]["desc"] for line in lines}) == 1
    assert channel.sync() == []
    assert_peak_below(agent, 20 * MIB)


@hostile
@pytest.mark.parametrize("piece", [b"\n", b" ", b"\r\n\t ", b"\xff", b"\xff\n"], ids=repr)
def test_endless_nothing(victim, piece):
    agent, channel = victim
    assert pump(channel, repeated(piece, 20 * MIB)) == []
    assert errors_before_sync(channel) == []
    assert_peak_below(agent, 4 * MIB)


@hostile
def test_endless_number(victim):
    agent, channel = victim
    lines = pump(channel, repeated(b"1", 80 * MIB))
    descs = [parse_reply(line)["error"]["desc"] for line in lines] + errors_before_sync(channel)
    assert descs == ["JSON message size limit exceeded"]
    assert_peak_below(agent, 140 * MIB)


# --- large ones ----------------------------------------------------------------------------------


def test_huge_id(victim):
    agent, channel = victim
    text = "x" * (10 * MIB)
    channel.post("guest-ping", id=text)
    assert channel.read_reply(20) == {"return": {}, "id": text}


@pytest.mark.parametrize("text", ["\u0000", "\u00e4", "\U0001f600", "\\\"\n"], ids=ascii)
def test_id_that_grows_with_its_escapes(victim, text):
    agent, channel = victim
    channel.post("guest-ping", id=text * 300000)
    assert channel.read_reply(20) == {"return": {}, "id": text * 300000}


@pytest.mark.parametrize("name", ["x" * MIB, "guest-ping" + "\0" * 1000, "\U0001f600" * 100000],
                         ids=lambda name: ascii(name[:12]))
def test_huge_command(victim, name):
    agent, channel = victim
    channel.send({"execute": name})
    assert channel.read_reply(20)["error"]["class"] == "CommandNotFound"


def test_huge_path(victim):
    agent, channel = victim
    reply = channel.request("guest-file-open", {"path": "/" + "x" * (5 * MIB)}, timeout=20)
    assert reply["error"]["desc"].startswith("failed to open file '/xxxxxxxx")
    assert reply["error"]["desc"].endswith("(mode: 'r'): File name too long")


@hostile
@pytest.mark.parametrize("text", [
    b'{"execute":"guest-ping","id":[%s1]}\n' % (b"1," * 200000),
    b'{"execute":"guest-ping","id":{%s"x":1}}\n' % b"".join(b'"%d":1,' % n for n in range(200000)),
    b'{"execute":"guest-ping","id":[%s[]]}\n' % (b"[]," * 200000),
    b'{"execute":"guest-ping","id":[%s""]}\n' % (b'"",' * 5000000),
], ids=lambda text: text[:40].decode())
def test_too_many_values(victim, text):
    agent, channel = victim
    pump(channel, [text])
    reply = channel.read_reply(20)
    assert reply["error"]["desc"] == "JSON value count limit exceeded"
    assert errors_before_sync(channel) == []


@hostile
def test_many_members_of_one_object(victim):
    """Finding a duplicate among them must not take the square of their number."""
    agent, channel = victim
    members = b",".join(b'"%d":0' % number for number in range(90000))
    start = time.monotonic()
    pump(channel, [b'{"execute":"guest-ping","id":{%s}}\n' % members])
    assert len(channel.read_reply(20)["id"]) == 90000
    pump(channel, [b'{"execute":"guest-ping","id":{%s,"0":1}}\n' % members])
    assert channel.read_reply(20)["error"]["desc"] == "JSON parse error, duplicate key"
    assert time.monotonic() - start < 5 * SLOW


def test_large_write_that_fails(victim):
    agent, channel = victim
    pump(channel, [b'{"execute":"guest-file-write","arguments":{"handle":1,"buf-b64":"'])
    pump(channel, repeated(b"A", 40 * MIB))
    pump(channel, [b'"}}\n'])
    assert channel.read_reply(20)["error"]["desc"] == "handle '1' has not been found"


# --- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_random_bytes(victim, seed):
    """Whatever comes back are proper replies."""
    agent, channel = victim
    rng = random.Random(seed)
    lines = pump(channel, [rng.randbytes(rng.choice([1, 10, 1000, 20000])) for _ in range(10)])
    lines += channel.sync(20)
    for line in lines:
        assert "error" in parse_reply(line)


@hostile
@pytest.mark.parametrize("seed", range(10))
def test_random_tokens(victim, seed):
    """Looks more like JSON than random bytes do."""
    agent, channel = victim
    rng = random.Random(seed)
    tokens = [b"{", b"}", b"[", b"]", b",", b":", b'"a"', b"'b'", b"1", b"-1.5e3", b"true", b"null",
              b"\n", b" ", b'"', b"\\", b"\xff", b'"execute"', b'"arguments"', b'"guest-ping"',
              b'"id"', b"\xc3", b'{"execute":"guest-ping"}', b'{"execute":"guest-info"}']
    text = b"".join(rng.choice(tokens) for _ in range(20000))
    for line in pump(channel, [text]) + channel.sync(20):
        if line.startswith(b"\xff"):
            continue
        parse_reply(line)


@hostile
@pytest.mark.parametrize("seed", range(10))
def test_damaged_requests(victim, seed):
    """Good requests with a byte changed, taken out, or put in."""
    agent, channel = victim
    rng = random.Random(seed)
    good = (b'{"execute":"guest-sync","arguments":{"id":123},"id":{"a":[1,"\\u00e4",null]}}\n')
    damaged = []
    for _ in range(1000):
        text = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            kind = rng.randrange(3)
            if kind == 0:
                text[at] = rng.randrange(256)
            elif kind == 1:
                del text[at]
            else:
                text.insert(at, rng.randrange(256))
        damaged.append(bytes(text))
    for line in pump(channel, damaged) + channel.sync(20):
        parse_reply(line)


# --- many ----------------------------------------------------------------------------------------


def test_many_requests_of_a_client_that_does_not_read(victim):
    """The agent stops reading, instead of storing what nobody takes."""
    agent, channel = victim
    request = b'{"execute":"guest-info"}\n'
    sent = 0
    block = request * 100
    while True:
        channel.poll.register(channel.socket, select.POLLOUT)
        if not channel.poll.poll(500 * SLOW):
            break
        try:
            sent += channel.socket.send(block[sent % len(request):])
        except BlockingIOError:
            pass
        assert sent < 20 * MIB, "it reads for ever"
    if not agent.is_reference:
        assert_peak_below(agent, 16 * MIB)
        with agent.connect() as other:
            assert other.cmd("guest-ping") == {}
    # and nothing is lost when it is read again
    complete, rest = divmod(sent, len(request))
    for _ in range(complete):
        assert "supported_commands" in channel.read_reply()["return"]
    channel.send(request[rest:] if rest else b"")
    if rest:
        channel.read_reply()


def test_errors_that_nobody_reads(victim):
    agent, channel = victim
    sent = 0
    while sent < 40 * MIB:
        channel.poll.register(channel.socket, select.POLLOUT)
        if not channel.poll.poll(500 * SLOW):
            break
        try:
            sent += channel.socket.send(b"x\n" * 30000)
        except BlockingIOError:
            pass
    assert sent < 40 * MIB, "it reads for ever"
    if not agent.is_reference:
        assert_peak_below(agent, 16 * MIB)
    channel.close()


def test_slow_reader(victim):
    """Large replies taken in small bites; others are served meanwhile."""
    agent, channel = victim
    handle = channel.open_file(agent.file("large", b"x" * (8 * MIB)))
    channel.post("guest-file-read", {"handle": handle, "count": 8 * MIB})
    other = None if agent.is_reference else agent.connect()
    total = 0
    data = b""
    while not data.endswith(b"\n"):
        assert select.select([channel.socket], [], [], seconds(10))[0]
        data = channel.socket.recv(30000)
        total += len(data)
        if other and total % 20 == 0:
            assert other.cmd("guest-ping") == {}
    assert total > 8 * MIB * 4 // 3
    if other:
        other.close()
    channel.close_file(handle)


@hostile
@pytest.mark.parametrize("with_id", [False, True])
def test_large_replies_that_nobody_reads(victim, with_id):
    """Ten of 16 MiB asked for at once are not all made and kept."""
    agent, channel = victim
    path = agent.file("large", b"x" * (16 * MIB))
    handles = [channel.open_file(path) for _ in range(10)]
    for handle in handles:
        members = {"id": handle} if with_id else {}
        channel.post("guest-file-read", {"handle": handle, "count": 16 * MIB}, **members)
    channel.wait_readable()
    with agent.connect() as other:
        for _ in range(20):
            assert other.cmd("guest-ping") == {}
    for _ in handles:
        assert channel.read_reply(20)["return"]["count"] == 16 * MIB
    for handle in handles:
        channel.close_file(handle)
    assert_peak_below(agent, 80 * MIB)


@hostile
def test_many_pending_requests_with_ids(victim):
    agent, channel = victim
    lines = pump(channel, (b'{"execute":"guest-get-osinfo","id":%d}\n' % number
                           for number in range(20000)))
    ids = [parse_reply(line)["id"] for line in lines]
    while len(ids) < 20000:
        ids.append(channel.read_reply(20)["id"])
    assert sorted(ids) == list(range(20000))


@hostile
def test_10000_connections_one_after_another(victim):
    agent, channel = victim
    for number in range(10000):
        with agent.connect(sync=False) as one:
            if number % 3 == 0:
                one.send(b'{"execute":"guest-ping"}\n')
            elif number % 3 == 1:
                one.send(b'{"execute":"gue')


@hostile
def test_many_connections_at_once(victim):
    """More than are served at once; those that wait are served as others leave."""
    agent, channel = victim
    for _ in range(3):
        many = []
        for number in range(100):
            one = agent.connect(sync=False)
            one.send('{"execute":"guest-sync","arguments":{"id":%d}}' % number)
            many.append(one)
        for number, one in enumerate(many):
            assert one.read_reply() == {"return": number}
            one.close()
    assert channel.cmd("guest-ping") == {}


@hostile
def test_connections_that_hang_at_each_point(victim):
    """Half a request, a request with a reply not read, nothing at all, and then gone."""
    agent, channel = victim
    for seed in range(100):
        rng = random.Random(seed)
        many = [agent.connect(sync=False) for _ in range(rng.randrange(1, 10))]
        for one in many:
            try:
                one.send(rng.choice([b"", b'{"exec', b'{"execute":"guest-info"}' * 20,
                                     b'"', b"\xff", b"{bad}\n", b'{"execute":"guest-get-osinfo"}']))
            except ChannelClosed:
                pass
        rng.shuffle(many)
        for one in many:
            one.close()
        assert channel.cmd("guest-ping") == {}
