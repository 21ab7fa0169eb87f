# SPDX-License-Identifier: MIT
"""Where a request begins and ends, and what a reply looks like on the wire."""

import json
import socket

import pytest

from agent import ChannelClosed, Number, parse_reply

PING = b'{"execute":"guest-ping"}'
SYNC = '{"execute":"guest-sync","arguments":{"id":%d}}'
# every kind of token, an escape and some white space, so that cuts fall into each of them
RICH = (b'{"execute": "guest-sync", "id": ["\\u00e4\\n", {"a": -1.5e3}, true, null],\n'
        b" 'arguments':{\"id\":12345}}")
RICH_REPLY = {"return": 12345, "id": ["ä\n", {"a": -1500.0}, True, None]}


# --- requests ------------------------------------------------------------------------------------


def test_no_newline(shared):
    for number in range(3):
        shared.send(SYNC % number)
        assert shared.read_reply() == {"return": number}


def test_several_in_one_write(shared):
    shared.send("".join(SYNC % number for number in range(100)))
    assert shared.read_replies(100) == [{"return": number} for number in range(100)]


@pytest.mark.parametrize("between", [b"", b"\n", b"\r\n", b"\n\n\n", b" \t ", b"\n \n\t\r\n"],
                         ids=repr)
def test_white_space_between(shared, between):
    text = between.join((SYNC % number).encode() for number in range(5))
    shared.send(between + text + between)
    assert shared.read_replies(5) == [{"return": number} for number in range(5)]


def test_nothing_answers_white_space(shared):
    shared.send(b"\n\r\n \t\n\n")
    shared.expect_silence(0.05)
    assert shared.cmd("guest-ping") == {}


def test_byte_at_a_time(shared):
    for byte in RICH:
        shared.send(bytes([byte]))
    assert shared.read_reply() == RICH_REPLY


def test_in_two_pieces_at_every_position(shared):
    for cut in range(1, len(RICH)):
        shared.send(RICH[:cut])
        shared.send(RICH[cut:])
        assert shared.read_reply() == RICH_REPLY, cut


@pytest.mark.parametrize("size", [2, 3, 7, 64])
def test_in_pieces(shared, size):
    text = (SYNC % 1).encode() + RICH + b"\n" + (SYNC % 2).encode()
    for start in range(0, len(text), size):
        shared.send(text[start:start + size])
    assert shared.read_replies(3) == [{"return": 1}, RICH_REPLY, {"return": 2}]


def test_pretty_printed(shared):
    request = {"execute": "guest-sync", "arguments": {"id": 5}, "id": {"a": [1, {"b": None}]}}
    shared.send(json.dumps(request, indent=4).encode() + b"\n")
    assert shared.read_reply() == {"return": 5, "id": {"a": [1, {"b": None}]}}
    shared.send(b"\r\n".join(json.dumps(request, indent="\t").encode().splitlines()))
    assert shared.read_reply() == {"return": 5, "id": {"a": [1, {"b": None}]}}


def test_braces_and_quotes_in_strings(shared):
    text = "}{][\"'\\,:"
    shared.send({"execute": "guest-ping", "id": text})
    assert shared.read_reply() == {"return": {}, "id": text}
    shared.send(b"{'execute':'guest-ping','id':'}\"{'}")
    assert shared.read_reply() == {"return": {}, "id": '}"{'}


def test_large_request(shared):
    """Larger than any buffer on its way; it keeps its place in the line."""
    text = "x" * 3000000
    shared.send(SYNC % 1)
    shared.post("guest-ping", id=text)
    shared.send(SYNC % 2)
    replies = shared.read_replies(3, timeout=20)
    assert replies == [{"return": 1}, {"return": {}, "id": text}, {"return": 2}]


def test_request_at_the_end_of_the_stream(shared):
    """The last request of a client that sends no more still counts."""
    shared.send(SYNC % 1)
    shared.send(SYNC % 2)
    shared.half_close()
    assert shared.read_to_end() == b'{"return": 1}\n{"return": 2}\n'


# --- cut off -------------------------------------------------------------------------------------


def test_cut_at_every_position_then_0xff_and_sync(shared):
    """Nothing is left of what was cut off, and nothing but the sync's reply comes."""
    for cut in range(1, len(RICH)):
        shared.send(RICH[:cut])
        skipped = shared.sync()
        if not shared.agent.differs("0xff-is-answered"):
            newline = RICH[:cut].count(b"\n")
            assert len(skipped) <= newline, (cut, skipped)
        shared.send(SYNC % cut)
        assert shared.read_reply() == {"return": cut}


def test_cut_at_every_position_then_lines_only(shared):
    """libvirt sends no 0xFF: it sends syncs, one a line, until one is answered."""
    text = b'{"execute":"guest-ping","id":[1,"a b"],"arguments":{}}'
    if shared.agent.differs("cut-off-request-swallows-all"):
        shared.send(text[:11])
        for number in range(5):
            shared.send(SYNC % number + "\n")
        shared.expect_silence(0.2)
        return
    for cut in range(1, len(text)):
        shared.send(text[:cut])
        replies = []
        for number in range(3):
            shared.send(SYNC % number + "\n")
        while not replies or replies[-1] != {"return": 2}:
            replies.append(shared.read_reply())
        errors = [reply for reply in replies if "error" in reply]
        assert len(errors) <= 1, (cut, replies)
        assert shared.cmd("guest-ping") == {}


@pytest.mark.parametrize("before", [
    b"", b" ", b"{", b'{"a', b'{"a\\', b'{"a\\u00', b'{"a":', b'{"a":1', b"[[[[", b'{"a":tr',
    b"'", b'{"a":"\xc3', b"x" * 5, b"\xff\xff\xff", b'{"execute":"guest-ping"'], ids=repr)
def test_0xff_resets(shared, before):
    shared.send(before)
    shared.sync()
    assert shared.cmd("guest-ping") == {}


def test_0xff_between_requests_loses_none(shared):
    shared.send(b"\xff".join([PING] * 5) + b"\xff")
    replies = [reply for reply in iter_replies(shared, 5 + 5) if "return" in reply]
    assert replies == [{"return": {}}] * 5


def iter_replies(channel, count):
    """`count` replies of an agent that answers each 0xFF, or all that another one gives."""
    if channel.agent.differs("0xff-is-answered"):
        return channel.read_replies(count)
    lines = channel.sync()
    return [parse_reply(line) for line in lines]


def test_after_a_parse_error_the_line_is_skipped(shared):
    shared.send(b'{"execute":x} ' + PING + b" " + PING + b"\n" + (SYNC % 9).encode())
    if shared.agent.differs("several-errors-for-one-fault"):
        shared.sync()
        return
    replies = [parse_reply(line) for line in shared.sync()]
    assert [reply for reply in replies if "error" in reply] == replies[:1]
    assert replies[-1] == {"return": 9}


def test_new_connection_starts_clean(start_agent):
    """What one client left unfinished is not the next one's problem."""
    agent = start_agent()
    for rest in (b'{"execute":"guest-pi', b'"', b"[[[[", b"{"):
        with agent.connect(sync=False) as first:
            first.send(rest)
        with agent.connect(sync=False) as second:
            second.send(SYNC % 7)
            if agent.differs("unfinished-input-outlives-its-client"):
                second.sync()
            else:
                assert second.read_reply() == {"return": 7}


# --- replies -------------------------------------------------------------------------------------


def test_no_greeting(agent):
    with agent.connect(sync=False) as channel:
        channel.expect_silence(0.2)
        assert channel.cmd("guest-ping") == {}


def test_one_read_gives_a_whole_reply(shared):
    """EVE reads each reply with one read(4096)."""
    for number in range(200):
        shared.send(SYNC % number)
        shared.socket.setblocking(True)
        shared.socket.settimeout(5)
        assert shared.socket.recv(4096) == b'{"return": %d}\n' % number
        shared.socket.setblocking(False)


def test_one_line_for_each_reply(shared):
    shared.send(PING + b'{"execute":"guest-info"}' + b'{"execute":"nope"}' + PING + b"{]\n")
    lines = shared.sync()
    assert len(lines) >= 5
    for line in lines:
        parse_reply(line)  # refuses blank lines and everything that is no reply


def test_replies_are_ascii(shared):
    text = "ä\u20ac\U0001f600\x7f\u2028"
    reply_line = raw_request(shared, {"execute": "guest-ping", "id": text})
    assert json.loads(reply_line)["id"] == text
    assert all(0x20 <= byte < 0x7f for byte in reply_line)
    reply_line = raw_request(shared, {"execute": text})
    assert text in json.loads(reply_line)["error"]["desc"]
    assert all(0x20 <= byte < 0x7f for byte in reply_line)
    reply_line = raw_request(shared, {"execute": "guest-file-open",
                                      "arguments": {"path": "/nonexistent/" + text}})
    assert text in json.loads(reply_line)["error"]["desc"]
    assert all(0x20 <= byte < 0x7f for byte in reply_line)


def raw_request(channel, request):
    channel.send(json.dumps(request, ensure_ascii=False).encode() + b"\n")
    return channel.read_line()


def test_control_characters_in_replies(shared):
    text = "".join(map(chr, range(1, 0x20))) + '"\\/'
    line = raw_request(shared, {"execute": "guest-ping", "id": text})
    assert parse_reply(line)["id"] == text
    line = raw_request(shared, {"execute": text})
    assert text in parse_reply(line)["error"]["desc"]


IDS = ["null", "true", "false", "0", "1", "-1", "9223372036854775807", "-9223372036854775808",
       "18446744073709551615", "0.5", "-2.25", '""', '"x"', '"\\u0000"', '"a\\nb\\tc"', '"\\u00e4"',
       '"\\ud83d\\ude00"', "[]", "{}", "[1, 2, 3]", "[[], [[]], {}]", '{"a": 1, "b": [null, true]}',
       '{"": {"": ""}}', '"' + "y" * 10000 + '"']


@pytest.mark.parametrize("text", IDS, ids=lambda text: text[:30])
def test_id_is_echoed(shared, text):
    for request in ('{"execute":"guest-ping","id":%s}' % text,
                    '{"id":%s,"execute":"nope"}' % text,
                    '{"execute":"guest-file-close","id":%s,"arguments":{}}' % text):
        shared.send(request)
        reply = parse_reply(shared.read_line(), exact_numbers=True)
        assert reply["id"] == json.loads(text, parse_int=Number, parse_float=Number)


@pytest.mark.parametrize("text", [
    "1.0", "1e3", "1E3", "-0", "-0.0", "0.10", "1e400", "-1e-400", "123456789012345678901234567890",
    "-9223372036854775809", "0.1", "3.141592653589793238462643383279", "5e-324"])
def test_id_numbers_come_back_digit_for_digit(shared, text):
    shared.send('{"execute":"guest-ping","id":%s}' % text)
    line = shared.read_line()
    if shared.agent.differs("id-numbers-are-recalculated"):
        assert line.startswith(b'{"return": {}, "id": ')
    else:
        assert parse_reply(line, exact_numbers=True) == {"return": {}, "id": text}


def test_id_members_keep_their_order(shared):
    members = {"z": 1, "a": 2, "m": {"y": 3, "b": 4}, "1": 5}
    shared.send({"execute": "guest-ping", "id": members})
    reply = shared.read_reply()
    assert reply["id"] == members
    if not shared.agent.differs("id-members-are-shuffled"):
        assert json.dumps(reply["id"]) == json.dumps(members)


def test_no_id_where_none_was_sent(shared):
    """Some clients take an id that they did not send for a broken agent."""
    for request in (PING, b'{"execute":"nope"}', b"{]\n", b"[]"):
        shared.send(request)
        assert "id" not in shared.read_reply()
        shared.sync()


def test_delimited_sync(shared):
    """0xFF directly before the reply, and only this command's."""
    for number in (0, 1, -1, 2**63 - 1):
        shared.send('{"execute":"guest-sync-delimited","arguments":{"id":%d}}\n' % number)
        assert shared.read_line() == b'\xff{"return": %d}' % number
    shared.send(SYNC % 3)
    assert shared.read_line() == b'{"return": 3}'


def test_delimited_sync_that_fails(shared):
    for arguments in ("{}", '{"id":"x"}', '{"id":1.0}', '{"id":1,"x":1}'):
        shared.send('{"execute":"guest-sync-delimited","arguments":%s}\n' % arguments)
        line = shared.read_line()
        assert not line.startswith(b"\xff")
        assert "error" in parse_reply(line)


def test_big_reply_is_one_line(shared_agent, shared):
    path = shared_agent.file("big", bytes(range(256)) * 40000)
    handle = shared.open_file(path)
    data, _ = shared.read_file(handle, 256 * 40000, timeout=20)
    assert data == bytes(range(256)) * 40000
    shared.close_file(handle)


def test_disconnect_ends_nothing(start_agent):
    agent = start_agent()
    for _ in range(20):
        with agent.connect(sync=False) as channel:
            channel.send(PING * 10)
    with agent.connect() as channel:
        assert channel.cmd("guest-ping") == {}


def test_reset_connection(start_agent):
    """A client that goes away with replies unread (the agent's write then fails)."""
    agent = start_agent()
    for _ in range(20):
        channel = agent.connect(sync=False)
        try:
            channel.send(b'{"execute":"guest-info"}' * 50)
        except ChannelClosed:
            pass
        channel.socket.shutdown(socket.SHUT_RD)
        channel.close()
    with agent.connect() as channel:
        assert channel.cmd("guest-ping") == {}
