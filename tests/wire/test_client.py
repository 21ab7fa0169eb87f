# SPDX-License-Identifier: MIT
"""bellhop, the client: its command line, its sync, plain commands, and whatever may go wrong."""

import itertools
import json
import os
import pty
import signal
import socket

import pytest

import client
from client import FakeAgent, run, talk

PING = "guest-ping"


def ping(peer):
    peer.answer(PING, {})


# --- the command line ----------------------------------------------------------------------------


def test_help():
    result = run("--help")
    assert result.status == 0 and result.errors == ""
    assert result.stdout.startswith(b"usage: bellhop ")


def test_version():
    result = run("--version")
    assert result.status == 0
    assert result.stdout.startswith(b"bellhop ")


@pytest.mark.parametrize("words", [
    [],
    ["/nowhere"],
    ["--no-such-option", "/nowhere", PING],
    ["--timeout", "0", "/nowhere", PING],
    ["--timeout", "-1", "/nowhere", PING],
    ["--timeout", "soon", "/nowhere", PING],
    ["--timeout", "nan", "/nowhere", PING],
    ["--timeout"],
    ["--env", "A=1", "/nowhere", PING],
    ["/nowhere", "exec"],
    ["/nowhere", "exec", "--"],
    ["/nowhere", "exec", "--env", "A", "--", "true"],
    ["/nowhere", "exec", "--env", "=1", "--", "true"],
    ["/nowhere", "read"],
    ["/nowhere", "read", "/a", "/b"],
    ["/nowhere", "write"],
    [b"/nowhere", b"read", b"/tmp/\xff"],
    [b"/nowhere", b"exec", b"--env", b"A=\xff", b"--", b"true"],
])
def test_wrong_usage(words):
    result = run(*words)
    assert result.status == 2
    assert result.stdout == b""
    assert "usage: bellhop " in result.errors
    assert "connect" not in result.errors


@pytest.mark.parametrize("words, complaint", [
    (["path"], "KEY=VALUE"),
    (["=1"], "KEY=VALUE"),
    ([":=1"], "KEY=VALUE"),
    (["a:=one"], "not JSON"),
    (["a:="], "not JSON"),
    (["a=1", "a==1"], "given twice"),
])
def test_wrong_arguments(words, complaint):
    """They are found out before anything is connected."""
    result = run("/nowhere", PING, *words)
    assert result.status == 2
    assert complaint in result.errors
    assert "connect" not in result.errors


@pytest.mark.parametrize("word, sent", [
    ("a=5", 5),
    ("a=-5", -5),
    ("a=18446744073709551615", 18446744073709551615),
    ("a=1.50", 1.5),
    ("a=true", True),
    ("a=null", None),
    ("a=[1, \"x\"]", [1, "x"]),
    ("a={\"b\": {}}", {"b": {}}),
    ("a=r", "r"),
    ("a=", ""),
    ("a=truely", "truely"),
    ("a=1 2", "1 2"),
    ("a=[1", "[1"),
    ("a=\"x\"", "\"x\""),
    ("a='x'", "'x'"),
    ("a=b=c", "b=c"),
    ("a=MTIzNA==", "MTIzNA=="),
    ("a=\u00fc\n\u20ac", "\u00fc\n\u20ac"),
    ("a==5", "5"),
    ("a===5", "=5"),
    ("a==", ""),
    ("a:=5", 5),
    ("a:=\"x\"", "x"),
    ("a-b=c", "c"),
])
def test_arguments(tmp_path, word, sent):
    got = []

    def script(peer):
        got.append(peer.answer("some-command", 1))

    assert talk(tmp_path, script, "some-command", word).value() == 1
    [(name, value)] = got[0].items()
    assert name == word.split("=")[0].rstrip(":")
    assert value == sent and type(value) is type(sent)


def test_numbers_keep_their_digits(tmp_path):
    def script(peer):
        assert b"123456789012345678901234567890.50" in peer.read_bytes()
        peer.send(b'{"return": [0.10, 1E400, -0]}\n')

    result = talk(tmp_path, script, "x", "a=123456789012345678901234567890.50")
    assert result.stdout == b"[0.10, 1E400, -0]\n"


@pytest.mark.parametrize("words", [
    ["--compact", ..., PING, "a=1"],
    [..., "--compact", PING, "a=1"],
    [..., PING, "--compact", "a=1"],
    [..., PING, "a=1", "--compact"],
    ["--compact", "--", ..., PING, "a=1"],
])
def test_options_stand_anywhere(tmp_path, words):
    def script(peer):
        peer.sync()
        assert peer.answer(PING, {"b": []}) == {"a": 1}

    with FakeAgent(tmp_path, script) as path:
        result = run(*[path if word is ... else word for word in words])
    assert result.value() == {"b": []}


# --- the sync ------------------------------------------------------------------------------------


def test_sync_comes_first(tmp_path):
    """Nothing else is sent before the agent has answered it."""
    def script(peer):
        number = peer.expect_sync()
        peer.connection.settimeout(0.05)
        with pytest.raises(socket.timeout):
            peer.read_bytes()
        peer.connection.settimeout(client.LIMIT_S)
        peer.send(b"\xff" + json.dumps({"return": number}).encode() + b"\n")
        ping(peer)

    with FakeAgent(tmp_path, script) as path:
        assert run(path, PING).value() == {}


def test_two_runs_take_different_ids(tmp_path):
    numbers = []

    def script(peer):
        numbers.append(peer.expect_sync())

    for _ in range(2):
        with FakeAgent(tmp_path, script) as path:
            assert run(path, PING).status == 2
        os.unlink(path)
    assert numbers[0] != numbers[1]


STALE = [
    b'{"return": {"pid": 7}}\n',
    b'{"error": {"class": "GenericError", "desc": "JSON parse error, stray \'\\uFFFD\'"}}\n',
    b"\xff{\"return\": 1}\n",
    b"\xff{\"return\": 1}\n{\"return\": \"wrong\"}\n",
    b"\xff{\"return\": \"1\"}\n\xff[]\n\xff5\n\xff\n",
    b'{"return": "cut o',
    b"\xff{\"return\": 1",
    b"\n\n\n",
    b"\x00\xfe\x80garbage\x00\n",
    b'{"return": %d}\n',
    b'{"return": "' + b"x" * 300000 + b'"}\n',
]


@pytest.mark.parametrize("stale", STALE, ids=range(len(STALE)))
@pytest.mark.parametrize("pieces", [1, 2])
def test_stale_lines_are_skipped(tmp_path, stale, pieces):
    def script(peer):
        number = peer.expect_sync()
        data = stale % number if b"%d" in stale else stale
        data += b"\xff" + json.dumps({"return": number}).encode() + b"\n"
        for at in range(0, len(data), -(-len(data) // pieces)):
            peer.send(data[at:at + -(-len(data) // pieces)])
        peer.answer(PING, "right")

    with FakeAgent(tmp_path, script) as path:
        assert run(path, PING).value() == "right"


def test_replies_in_single_bytes(tmp_path):
    def script(peer):
        number = peer.expect_sync()
        for byte in b"\xff" + json.dumps({"return": number}).encode() + b"\n":
            peer.send(bytes([byte]))
        peer.expect(PING)
        for byte in b'{"return": {"a": "\\u00fc"}}\n':
            peer.send(bytes([byte]))

    with FakeAgent(tmp_path, script) as path:
        assert run(path, PING).value() == {"a": "\u00fc"}


def test_silence(tmp_path):
    with FakeAgent(tmp_path, lambda peer: (peer.expect_sync(), peer.expect_end())) as path:
        result = run("--timeout", "0.2", path, PING)
    assert result.status == 2
    assert result.errors == "bellhop: %s: no agent answered within 0.2 s\n" % path


def noise(peer, after_a_while=lambda: None):
    """Sends valid lines that nobody asked for, until the client is gone."""
    peer.expect_sync()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for count in itertools.count():
            peer.send(b'{"return": {}}\n' * 1000)
            if count == 100:
                after_a_while()


def test_endless_noise_is_no_answer(tmp_path):
    with FakeAgent(tmp_path, noise) as path:
        result = run("--timeout", "0.3", path, PING)
    assert result.status == 2
    assert "no agent answered" in result.errors


def test_interrupted_in_endless_noise(tmp_path):
    processes = []

    def script(peer):
        noise(peer, lambda: processes[0].send_signal(signal.SIGINT))

    with FakeAgent(tmp_path, script) as path:
        processes.append(client.start(path, PING, "--timeout", "1000"))
        result = client.finish(processes[0])
    assert (result.status, result.errors) == (client.signal_exit(signal.SIGINT), "")


def test_end_before_the_sync(tmp_path):
    with FakeAgent(tmp_path, lambda peer: peer.expect_sync()) as path:
        result = run(path, PING)
    assert result.status == 2
    assert "the connection ended" in result.errors


# --- connecting ----------------------------------------------------------------------------------


def test_no_such_socket(tmp_path):
    result = run(str(tmp_path / "none"), PING)
    assert result.status == 2
    assert result.errors.startswith("bellhop: cannot connect to %s/none: " % tmp_path)


@pytest.mark.parametrize("address", ["vsock:", "vsock:3", "vsock:3:port", "vsock:host:1024"])
def test_no_vsock_address(address):
    result = run(address, PING)
    assert result.status == 2
    assert result.errors == "bellhop: %s is no address: expected vsock:CID:PORT\n" % address


def test_nobody_listens(tmp_path):
    path = str(tmp_path / "dead")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    result = run(path, PING)
    assert result.status == 2
    assert "Connection refused" in result.errors


def test_no_socket_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(str(tmp_path / "file"), PING).status == 2


def test_path_too_long(tmp_path):
    result = run("/" + "x" * 200, PING)
    assert result.status == 2
    assert "File name too long" in result.errors


def test_busy_socket(tmp_path):
    """A queue of waiting connections that is full is not waited for longer than was asked for."""
    path = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        others = []
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                others.append(socket.socket(socket.AF_UNIX))
                others[-1].setblocking(False)
                others[-1].connect(path)
        result = run("--timeout", "0.2", path, PING)
        for other in others:
            other.close()
    assert result.status == 2
    assert "busy" in result.errors


# --- replies -------------------------------------------------------------------------------------


def reply_with(data):
    def script(peer):
        peer.expect(PING)
        peer.send(data)

    return script


def test_error(tmp_path):
    data = b'{"error": {"class": "GenericError", "desc": "It is \\u00fcber 9000"}}\n'
    result = talk(tmp_path, reply_with(data), PING)
    assert (result.status, result.stdout) == (1, b"")
    assert result.errors == "bellhop: It is \u00fcber 9000\n"


def test_error_without_description(tmp_path):
    result = talk(tmp_path, reply_with(b'{"error": {"class": "CommandNotFound"}}\n'), PING)
    assert result.status == 1
    assert result.errors == "bellhop: CommandNotFound\n"


def test_error_that_says_nothing(tmp_path):
    result = talk(tmp_path, reply_with(b'{"error": {"desc": 5}}\n'), PING)
    assert result.status == 1
    assert PING in result.errors


def test_error_cannot_steer_the_terminal(tmp_path):
    data = b'{"error": {"desc": "a\\u001b[2Jb\\nbellhop: \\u009bc\\u0000d"}}\n'
    result = talk(tmp_path, reply_with(data), PING)
    assert result.errors.startswith("bellhop: a\\x1b[2Jb\\x0abellhop: \\xc2\\x9bc")
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize("data, complaint", [
    (b"no JSON\n", "cannot be read"),
    (b"\n", "cannot be read"),
    (b'{"return": "\xff"}\n', "cannot be read"),
    (b'{"return": 1, "return": 2}\n', "cannot be read"),
    (b'{"return": %s}\n' % (b"[" * 1000 + b"]" * 1000), "cannot be read"),
    (b"[]\n", "neither"),
    (b"5\n", "neither"),
    (b"{}\n", "neither"),
    (b'{"error": "no object"}\n', "neither"),
    (b"", "the connection ended"),
    (b'{"return": {}}', "the connection ended"),
], ids=range(11))
def test_no_sense(tmp_path, data, complaint):
    result = talk(tmp_path, reply_with(data), PING)
    assert (result.status, result.stdout) == (2, b"")
    assert complaint in result.errors
    assert PING in result.errors


def test_no_answer_in_time(tmp_path):
    def script(peer):
        peer.expect(PING)
        peer.expect_end()

    result = talk(tmp_path, script, PING, "--timeout", "0.2")
    assert result.status == 2
    assert "no answer to guest-ping in time" in result.errors


def test_line_without_end(tmp_path):
    """A guest cannot make the host's side hold more than a bounded amount."""
    def script(peer):
        peer.expect(PING)
        peer.send(b'{"return": "')
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1024):
                peer.send(b"x" * (1 << 20))

    result = talk(tmp_path, script, PING)
    assert result.status == 2
    assert "too long" in result.errors


# --- printing ------------------------------------------------------------------------------------

VALUE = {"name": "\u00fc\x1b", "list": [1, [], {}, {"a": None}], "empty": {}}
ONE_LINE = (b'{"name": "\\u00fc\\u001b", "list": [1, [], {}, {"a": null}], "empty": {}}\n')
INDENTED = b"""{
    "name": "\\u00fc\\u001b",
    "list": [
        1,
        [],
        {},
        {
            "a": null
        }
    ],
    "empty": {}
}
"""


def on_terminal(tmp_path, *words):
    ours, theirs = pty.openpty()
    try:
        result = talk(tmp_path, lambda peer: peer.answer(PING, VALUE), PING, *words, stdout=theirs)
        assert result.status == 0, result
        return os.read(ours, 65536).replace(b"\r\n", b"\n").lower()
    finally:
        os.close(ours)
        os.close(theirs)


def test_layout(tmp_path):
    result = talk(tmp_path, lambda peer: peer.answer(PING, VALUE), PING)
    assert result.stdout.lower() == ONE_LINE


def test_layout_indented(tmp_path):
    result = talk(tmp_path, lambda peer: peer.answer(PING, VALUE), PING, "--pretty")
    assert result.stdout.lower() == INDENTED


def test_layout_on_a_terminal(tmp_path):
    assert on_terminal(tmp_path) == INDENTED


def test_layout_compact_on_a_terminal(tmp_path):
    assert on_terminal(tmp_path, "--compact") == ONE_LINE


def test_full_disk(tmp_path):
    with open("/dev/full", "wb") as full:
        result = talk(tmp_path, ping, PING, stdout=full)
    assert result.status == 1
    assert result.errors == "bellhop: cannot write to standard output: No space left on device\n"


def test_reader_went_away(tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    result = talk(tmp_path, ping, PING, stdout=theirs)
    os.close(theirs)
    assert (result.status, result.errors) == (client.SIGPIPE_EXIT, "")


# --- with agents ---------------------------------------------------------------------------------


def test_ping(shared_agent):
    assert run(shared_agent.socket_path, PING).value() == {}


def test_osinfo(shared_agent):
    assert "kernel-release" in run(shared_agent.socket_path, "guest-get-osinfo").value()


def test_command_not_found(shared_agent):
    result = run(shared_agent.socket_path, "guest-no-such-thing")
    assert result.status == 1
    assert "guest-no-such-thing" in result.errors and "not been found" in result.errors


def test_file_handle_by_hand(shared_agent):
    """What the manual page shows: one command of the protocol after the other."""
    socket_path = shared_agent.socket_path
    path = shared_agent.file("hand", b"content")
    handle = run(socket_path, "guest-file-open", "path=" + path, "mode=r").value()
    reply = run(socket_path, "guest-file-read", "handle=%d" % handle, "count=3").value()
    assert reply["buf-b64"] == "Y29u" and reply["count"] == 3
    assert run(socket_path, "guest-file-close", "handle=%d" % handle).value() == {}
