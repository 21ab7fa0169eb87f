# SPDX-License-Identifier: MIT
"""What surrounds every command: requests, replies, errors and ids.

The table is what qemu-ga 7.2 and 10.0 were observed to answer, byte for byte but for the order of
members and the case of \\u escapes, which clients may not rely on.
"""

import json

import pytest

from agent import parse_reply


def error(desc, error_class="GenericError"):
    return {"error": {"class": error_class, "desc": desc}}


NOT_OBJECT = error("QMP input must be a JSON object")
NO_EXECUTE = error("QMP input lacks member 'execute'")
NO_INTEGER = error("Invalid parameter type for 'id', expected: integer")
UNKNOWN = error("The command nope has not been found", "CommandNotFound")
DUPLICATE = error("JSON parse error, duplicate key")

# what is sent, and all that comes back
TABLE = [
    # ids, and where errors keep them
    (b'{"execute":"guest-ping"}', [{"return": {}}]),
    (b'{"execute":"guest-ping","id":"x"}', [{"return": {}, "id": "x"}]),
    (b'{"execute":"guest-ping","id":{"a":[1,2.5,null]}}',
     [{"return": {}, "id": {"a": [1, 2.5, None]}}]),
    (b'{"execute":"guest-ping","id":[1,{"a":null}]}', [{"return": {}, "id": [1, {"a": None}]}]),
    (b'{"id":"first","execute":"guest-ping"}', [{"return": {}, "id": "first"}]),
    (b'{"execute":"nope"}', [UNKNOWN]),
    (b'{"execute":"nope","id":3}', [dict(UNKNOWN, id=3)]),
    (b'{"id":5}', [dict(NO_EXECUTE, id=5)]),
    (b'{"execute":"guest-ping","id":7,"arguments":{"x":1}}',
     [dict(error("Parameter 'x' is unexpected"), id=7)]),
    (b'{"execute":"guest-sync","arguments":{"id":5,"x":1},"id":[1]}',
     [dict(error("Parameter 'x' is unexpected"), id=[1])]),
    # what makes a request
    (b'{"execute":"guest-ping","extra":1}',
     [error("QMP input member 'extra' is unexpected")]),
    (b'{"execute":"guest-ping","control":{}}',
     [error("QMP input member 'control' is unexpected")]),
    (b'{"exec-oob":"guest-ping"}', [error("QMP input member 'exec-oob' is unexpected")]),
    (b'{"execute":"nope","bad":1}', [error("QMP input member 'bad' is unexpected")]),
    (b'{"arguments":{}}', [NO_EXECUTE]),
    (b'{}', [NO_EXECUTE]),
    (b'{"execute":5}', [error("QMP input member 'execute' must be a string")]),
    (b'{"execute":null}', [error("QMP input member 'execute' must be a string")]),
    (b'[]', [NOT_OBJECT]),
    (b'["execute"]', [NOT_OBJECT]),
    (b'5\n', [NOT_OBJECT]),
    (b'-1.5e3\n', [NOT_OBJECT]),
    (b'"s"', [NOT_OBJECT]),
    (b'"s" "t"\n', [NOT_OBJECT, NOT_OBJECT]),
    (b'null\n', [NOT_OBJECT]),
    (b'true\n', [NOT_OBJECT]),
    (b'false\n', [NOT_OBJECT]),
    # arguments
    (b'{"execute":"guest-ping","arguments":{}}', [{"return": {}}]),
    (b'{"execute":"guest-ping","arguments":{"foo":42}}',
     [error("Parameter 'foo' is unexpected")]),
    (b'{"execute":"guest-ping","arguments":[]}',
     [error("QMP input member 'arguments' must be an object")]),
    (b'{"execute":"guest-ping","arguments":null}',
     [error("QMP input member 'arguments' must be an object")]),
    (b'{"execute":"nope","arguments":5}',
     [error("QMP input member 'arguments' must be an object")]),
    (b'{"execute":"guest-sync","arguments":{"id":1}}', [{"return": 1}]),
    (b'{"execute":"guest-sync","arguments":{"id":-1}}', [{"return": -1}]),
    (b'{"execute":"guest-sync","arguments":{"id":"a"}}', [NO_INTEGER]),
    (b'{"execute":"guest-sync","arguments":{"id":1.5}}', [NO_INTEGER]),
    (b'{"execute":"guest-sync","arguments":{"id":1e3}}', [NO_INTEGER]),
    (b'{"execute":"guest-sync"}', [error("Parameter 'id' is missing")]),
    (b'{"execute":"guest-sync","arguments":{"ID":1}}', [error("Parameter 'id' is missing")]),
    (b'{"execute":"guest-file-read","arguments":{"handle":99}}',
     [error("handle '99' has not been found")]),
    (b'{"execute":"guest-file-read","arguments":{"handle":"x","x":1}}',
     [error("Invalid parameter type for 'handle', expected: integer")]),
    (b'{"execute":"guest-file-read","arguments":{"y":1,"x":1}}',
     [error("Parameter 'handle' is missing")]),
    (b'{"execute":"guest-file-open","arguments":{"path":5}}',
     [error("Invalid parameter type for 'path', expected: string")]),
    (b'{"execute":"guest-file-open","arguments":{"path":null}}',
     [error("Invalid parameter type for 'path', expected: string")]),
    (b'{"execute":"guest-file-open","arguments":{"path":"/nonexistent"}}',
     [error("failed to open file '/nonexistent' (mode: 'r'): No such file or directory")]),
    (b'{"execute":"guest-exec","arguments":{"path":"/bin/true","arg":"x"}}',
     [error("Invalid parameter type for 'arg', expected: array")]),
    (b'{"execute":"guest-exec","arguments":{"path":"/bin/true","arg":["x",5]}}',
     [error("Invalid parameter type for 'arg[1]', expected: string")]),
    (b'{"execute":"guest-exec","arguments":{"arg":[]}}', [error("Parameter 'path' is missing")]),
    # command names
    (b'{"execute":""}', [error("The command  has not been found", "CommandNotFound")]),
    (b'{"execute":"guest-\\u0070ing"}', [{"return": {}}]),
    (b'{"\\u0065xecute":"guest-ping"}', [{"return": {}}]),
    (b'{"execute":"Guest-Ping"}',
     [error("The command Guest-Ping has not been found", "CommandNotFound")]),
    (b'{"execute":"guest-ping "}',
     [error("The command guest-ping  has not been found", "CommandNotFound")]),
    (b'{"execute":"\xc3\xa4"}', [error("The command ä has not been found", "CommandNotFound")]),
    (b'{"execute":"a\\nb\'c\\"d"}',
     [error("The command a\nb'c\"d has not been found", "CommandNotFound")]),
    (b'{"execute":"qmp_capabilities"}',
     [error("The command qmp_capabilities has not been found", "CommandNotFound")]),
    # not JSON
    (b'{"execute":"guest-ping","execute":"guest-info"}', [DUPLICATE]),
    (b'{"execute":"guest-ping","arguments":{"a":1,"a":2}}', [DUPLICATE]),
    (b'{"execute":"guest-ping","\\u0065xecute":"guest-info"}', [DUPLICATE]),
    # strings
    (b"{'execute':'guest-ping'}", [{"return": {}}]),
    (b"{'execute':'guest-ping','id':'x\"y'}", [{"return": {}, "id": 'x"y'}]),
    (b"{'execute':'guest-ping','id':'it\\'s'}", [{"return": {}, "id": "it's"}]),
    (b'{"execute":"guest-ping","id":"it\'s"}', [{"return": {}, "id": "it's"}]),
]


@pytest.mark.parametrize("row", range(len(TABLE)), ids=lambda row: TABLE[row][0].decode()[:48])
def test_observed_reply(shared, row):
    sent, expected = TABLE[row]
    shared.send(sent + b"\n")
    assert shared.read_replies(len(expected)) == expected
    assert shared.sync() == stray(shared), "more came than was expected"


def stray(channel):
    """What a sync() that follows nothing else skips."""
    if channel.agent.differs("0xff-is-answered"):
        return [b'{"error": {"class": "GenericError", "desc": "JSON parse error, stray \'\\uFFFD\'"}}']
    return []


def test_0xff_is_answered_by_nothing_but_the_sync(shared):
    shared.send(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":5}}\n')
    for line in stray(shared):
        assert shared.read_line() == line
    assert shared.read_line() == b'\xff{"return": 5}'


def test_0xff_alone(shared):
    shared.send(b"\xff\n")
    for line in stray(shared):
        assert shared.read_line() == line
    assert shared.cmd("guest-ping") == {}


def test_0xff_in_a_string(shared):
    shared.send(b'{"exec\xff{"execute":"guest-ping"}\n')
    if shared.agent.differs("0xff-is-answered"):
        assert "stray" in shared.read_reply()["error"]["desc"]
    assert shared.read_reply() == {"return": {}}


def test_unfinished_request_waits_for_its_end(shared):
    shared.send(b'{"execute":"guest-ping"')
    shared.expect_silence(0.1)
    shared.send(b"}\n")
    assert shared.read_reply() == {"return": {}}


@pytest.mark.parametrize("text", [
    b"{bad json}", b"x", b"}", b"]", b"{,}", b"[}", b'{"a":}', b'{"execute" "guest-ping"}',
    b'{"execute":"guest-ping",}', b'{"execute":"guest-ping"]', b'{"execute":01}',
    b'{"execute":+1}', b'{"execute":.5}', b'{"execute":1.}', b'{"execute":-}', b"/* c */",
    b'{"execute":"guest-ping","id":tru}', b'{"execute":"guest-ping","id":nulll}',
    b'{"execute":"guest-ping","id":NaN}', b'{"execute":"guest-ping","id":1e}',
    b'{"execute":"guest-ping","id":0x10}', b'{"execute":"guest-ping","id":[1,]}',
    b'{"execute":"guest-ping","id":[1 2]}', b'{execute:"guest-ping"}', b'{5:"guest-ping"}',
    b'"abc', b'{"execute":"guest-ping","id":"a\tb"}',
    b'{"execute":"guest-ping","id":"a\x01b"}',
    b'{"execute":"guest-ping","id":"\\x"}', b'{"execute":"guest-ping","id":"\\u12"}',
    b'{"execute":"guest-ping","id":"\\uzzzz"}',
    b'{"execute":"guest-ping","id":"\\ud800"}', b'{"execute":"guest-ping","id":"\\udc00"}',
    b'{"execute":"guest-ping","id":"\\ud83d\\u0041"}',
    b'{"execute":"guest-ping","id":"a\x80"}', b'{"execute":"guest-ping","id":"\xed\xa0\x80"}',
    b'{"execute":"guest-ping","id":"\xf4\x90\x80\x80"}',
    b'{"execute":"guest-ping","id":"\xc3"}', b'{"execute":"guest-ping","id":"\xe2\x82"}',
    b'{"execute":"guest-ping","\xc3":1}',
], ids=repr)
def test_what_is_not_json_gets_one_error(shared, text):
    """One error, however long the rest of the line; then the next line counts again."""
    shared.send(text + b"\n")
    reply = shared.read_reply()
    assert reply["error"]["class"] == "GenericError"
    assert reply["error"]["desc"].startswith("JSON parse error")
    if shared.agent.differs("several-errors-for-one-fault"):
        shared.sync()
        return
    assert shared.cmd("guest-ping", id=1) == {}
    assert shared.sync() == []


def test_newline_in_a_string(shared):
    """An error, and the end of the skipping: who speaks in lines is back in step at once."""
    shared.send(b'{"execute":"guest-ping","id":"a\n{"execute":"guest-ping","id":1}\n')
    assert shared.read_reply()["error"]["desc"].startswith("JSON parse error")
    if shared.agent.differs("several-errors-for-one-fault"):
        shared.sync()
    else:
        assert shared.read_reply() == {"return": {}, "id": 1}


@pytest.mark.parametrize("text", [b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"'], ids=repr)
def test_overlong_utf8(shared, text):
    shared.send(b'{"execute":"guest-ping","id":' + text + b"}\n")
    reply = shared.read_reply()
    if shared.agent.differs("overlong-nul-is-utf8") and text == b'"\xc0\x80"':
        assert reply == {"return": {}, "id": "\0"}
    else:
        assert reply["error"]["desc"].startswith("JSON parse error")


@pytest.mark.parametrize("text", [b'"\xef\xbf\xbf"', b'"\\uffff"', b'"\xf4\x8f\xbf\xbf"'],
                         ids=repr)
def test_noncharacters(shared, text):
    shared.send(b'{"execute":"guest-ping","id":' + text + b"}\n")
    reply = shared.read_reply()
    if shared.agent.differs("noncharacters-are-refused"):
        assert reply["error"]["desc"].startswith("JSON parse error")
    else:
        assert reply == {"return": {}, "id": json.loads(text)}


def test_garbage_after_a_request(shared):
    """The request before it counts, the garbage gets its own error."""
    shared.send(b'{"execute":"guest-ping"} x\n')
    assert shared.read_reply() == {"return": {}}
    assert shared.read_reply()["error"]["desc"].startswith("JSON parse error")
    assert shared.cmd("guest-ping") == {}


@pytest.mark.parametrize("depth", [1, 100, 125, 500])
def test_depth(shared, depth):
    """The request itself and its arguments are levels, too."""
    text = b"[" * depth + b"]" * depth
    shared.send(b'{"execute":"guest-ping","id":' + text + b"}\n")
    reply = shared.read_reply()
    if depth <= 125 or shared.agent.differs("depth-limit-is-1024"):
        assert reply["return"] == {}
        assert json.dumps(reply["id"]).encode() == text
    else:
        assert reply == error("JSON nesting depth limit exceeded")
        assert shared.cmd("guest-ping") == {}
        assert shared.sync() == []


def test_too_deep(shared):
    """Reported when it is met, without waiting for an end that may never come."""
    shared.send(b"[" * 1025)
    assert shared.read_reply() == error("JSON nesting depth limit exceeded")
    assert shared.sync() == stray(shared)
    assert shared.cmd("guest-ping") == {}


def test_disabled_command(start_agent):
    channel = start_agent(args=["-b", "guest-get-time,guest-file-open"]).connect()
    expected = error("Command guest-get-time has been disabled", "CommandNotFound")
    reply = channel.request("guest-get-time")
    # 7.2 and 10.0 agree on the beginning, which is what clients match.
    assert reply["error"]["class"] == expected["error"]["class"]
    assert reply["error"]["desc"].startswith(expected["error"]["desc"])
    reply = channel.request("guest-get-time", id={"a": 1})
    assert reply["id"] == {"a": 1} and reply["error"]["class"] == "CommandNotFound"
    # before its arguments are looked at
    reply = channel.request("guest-file-open", {"nonsense": 1})
    assert reply["error"]["class"] == "CommandNotFound"
    commands = {c["name"]: c["enabled"] for c in channel.cmd("guest-info")["supported_commands"]}
    assert commands["guest-get-time"] is False
    assert commands["guest-ping"] is True


def test_reply_members_and_spacing(shared):
    """Clients that use sed and regular expressions know these very bytes."""
    shared.send(b'{"execute":"guest-ping"}\n{"execute":"guest-sync","arguments":{"id":7}}\n')
    assert shared.read_line() == b'{"return": {}}'
    assert shared.read_line() == b'{"return": 7}'
    shared.send(b'{"execute":"nope"}\n')
    assert shared.read_line() == (b'{"error": {"class": "CommandNotFound", '
                                  b'"desc": "The command nope has not been found"}}')


def test_long_values_in_errors(shared):
    """An error names what was wrong even if that is long; the reply stays one line."""
    name = "x" * 5000
    shared.send({"execute": name})
    reply = parse_reply(shared.read_line())
    assert reply["error"]["class"] == "CommandNotFound"
    assert reply["error"]["desc"].startswith("The command xxxxxxxxxxxxxxxx")
    shared.send({"execute": "ä" * 5000})  # a cut must not leave half a character
    reply = parse_reply(shared.read_line())
    assert "\ufffd" not in reply["error"]["desc"]
    assert shared.cmd("guest-ping") == {}
