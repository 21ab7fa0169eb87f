# SPDX-License-Identifier: MIT
"""Integers are exact over the whole 64-bit range, and nothing else is an integer."""

import time

import pytest

from agent import Number, parse_reply

SYNC = '{"execute":"guest-sync","arguments":{"id":%s}}\n'

INT64 = ["0", "1", "-1", "7", "2147483647", "2147483648", "-2147483648", "-2147483649",
         "4294967295", "4294967296", "9007199254740991", "9007199254740992", "9007199254740993",
         "-9007199254740993", "1152921504606846977", "9223372036854775806", "9223372036854775807",
         "-9223372036854775807", "-9223372036854775808"]

NOT_INTEGERS = ["9223372036854775808", "-9223372036854775809", "18446744073709551615",
                "18446744073709551616", "1" + "0" * 100, "1.0", "-1.0", "0.0", "1e0", "1E0", "1e3",
                "1.5", "1e18", "1e-1", "true", "false", "null", '"1"', '""', "[]", "[1]", "{}"]


@pytest.mark.parametrize("text", INT64)
@pytest.mark.parametrize("command", ["guest-sync", "guest-sync-delimited"])
def test_exact(shared, command, text):
    shared.send('{"execute":"%s","arguments":{"id":%s}}\n' % (command, text))
    reply = parse_reply(shared.read_line(), exact_numbers=True)
    assert reply == {"return": text}


def test_minus_zero(shared):
    shared.send(SYNC % "-0")
    assert parse_reply(shared.read_line(), exact_numbers=True) == {"return": "0"}


@pytest.mark.parametrize("text", NOT_INTEGERS, ids=lambda text: text[:30])
def test_not_an_integer(shared, text):
    shared.send(SYNC % text)
    assert shared.read_reply() == {"error": {
        "class": "GenericError", "desc": "Invalid parameter type for 'id', expected: integer"}}


@pytest.mark.parametrize("text", ["01", "-01", "+1", "1.", ".5", "0x1", "1_000", "--1", "- 1", "1e"])
def test_not_a_number(shared, text):
    shared.send(SYNC % text)
    assert shared.read_reply()["error"]["desc"].startswith("JSON parse error")
    if shared.agent.differs("several-errors-for-one-fault"):
        shared.sync()
    assert shared.cmd("guest-ping") == {}


def test_very_long_number(shared):
    shared.send(SYNC % ("9" * 100000))
    desc = shared.read_reply()["error"]["desc"]
    assert desc == "Invalid parameter type for 'id', expected: integer"


# --- the integers of other commands --------------------------------------------------------------


@pytest.mark.parametrize("text", ["1.0", "1e3", "true", "null", '"1000"', "[]",
                                  "9223372036854775808"])
@pytest.mark.parametrize("command, member, rest", [
    ("guest-file-close", "handle", ""),
    ("guest-file-flush", "handle", ""),
    ("guest-file-read", "handle", ""),
    ("guest-file-read", "count", ',"handle":1'),
    ("guest-file-write", "handle", ',"buf-b64":""'),
    ("guest-file-write", "count", ',"handle":1,"buf-b64":""'),
    ("guest-file-seek", "handle", ',"offset":0,"whence":0'),
    ("guest-file-seek", "offset", ',"handle":1,"whence":0'),
    ("guest-exec-status", "pid", ""),
])
def test_argument_types(shared, command, member, rest, text):
    shared.send('{"execute":"%s","arguments":{"%s":%s%s}}\n' % (command, member, text, rest))
    assert shared.read_reply()["error"]["desc"] == (
        "Invalid parameter type for '%s', expected: integer" % member)


@pytest.mark.parametrize("text", INT64)
def test_unknown_handles_are_named_exactly(shared, text):
    shared.send('{"execute":"guest-file-close","arguments":{"handle":%s}}\n' % text)
    assert shared.read_reply()["error"]["desc"] == "handle '%s' has not been found" % text


@pytest.mark.parametrize("text", ["-1", "50331649", "9007199254740993", "9223372036854775807",
                                  "-9223372036854775808"])
def test_counts_are_named_exactly(shared_agent, shared, text):
    handle = shared.open_file(shared_agent.file("empty"))
    shared.send('{"execute":"guest-file-read","arguments":{"handle":%d,"count":%s}}\n'
                % (handle, text))
    assert shared.read_reply()["error"]["desc"] == "value '%s' is invalid for argument count" % text
    shared.close_file(handle)


def test_positions_beyond_2_to_the_53(shared_agent, shared):
    """A sparse file's end, where doubles have no odd numbers; needs no disk."""
    handle = shared.open_file(shared_agent.path("sparse"), "w+")
    position = (1 << 43) + 1  # ext4's largest file is 16 TiB
    assert shared.seek_file(handle, position, "set") == (position, False)
    assert shared.seek_file(handle, 1, "cur") == (position + 1, False)
    shared.close_file(handle)


def test_time_is_an_integer_in_nanoseconds(shared):
    before = time.time_ns()
    shared.send('{"execute":"guest-get-time"}\n')
    reply = parse_reply(shared.read_line(), exact_numbers=True)
    after = time.time_ns()
    assert isinstance(reply["return"], Number) and reply["return"].isdigit()
    # the reference counts in microseconds
    assert before - 1000 <= int(reply["return"]) <= after
