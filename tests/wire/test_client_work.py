# SPDX-License-Identifier: MIT
"""bellhop, the client: exec, read and write."""

import base64
import json
import os
import signal
import subprocess

import pytest

import client
from agent import seconds, wait_until
from client import FakeAgent, encoded, finish, run, start, talk

EXEC_FAILED = 125
CHUNK = 1 << 20


# --- exec ----------------------------------------------------------------------------------------


def ended(**members):
    """A script for a program that ends at once with this status."""
    def script(peer):
        peer.answer("guest-exec", {"pid": 7})
        assert peer.answer("guest-exec-status", dict(members, exited=True)) == {"pid": 7}

    return script


def test_exec_request(tmp_path):
    got = {}

    def script(peer):
        got.update(peer.answer("guest-exec", {"pid": 7}))
        peer.answer("guest-exec-status", {"exited": True, "exitcode": 0})

    result = talk(tmp_path, script, "exec", "--env", "A=1", "--env", "B=", "--input", "-", "--",
                  "tool", "-x", "--env", "C=5", stdin=b"in\0put")
    assert (result.status, result.stdout, result.errors) == (0, b"", "")
    assert got == {"path": "tool", "arg": ["-x", "--env", "C=5"], "env": ["A=1", "B="],
                   "input-data": encoded(b"in\0put"), "capture-output": True}


def test_exec_request_without_options(tmp_path):
    """No env is not an empty one, no input not an empty one; the program's options are its own."""
    got = {}

    def script(peer):
        got.update(peer.answer("guest-exec", {"pid": 7}))
        peer.answer("guest-exec-status", {"exited": True, "exitcode": 0})

    assert talk(tmp_path, script, "exec", "tool", "--pretty", "--").status == 0
    assert got == {"path": "tool", "arg": ["--pretty", "--"], "capture-output": True}


def test_exec_input_file(tmp_path):
    (tmp_path / "input").write_bytes(b"x" * 200000)
    got = {}

    def script(peer):
        got.update(peer.answer("guest-exec", {"pid": 7}))
        peer.answer("guest-exec-status", {"exited": True, "exitcode": 0})

    assert talk(tmp_path, script, "exec", "--input", str(tmp_path / "input"), "tool").status == 0
    assert got["input-data"] == encoded(b"x" * 200000)


def test_exec_input_file_missing(tmp_path):
    result = talk(tmp_path, lambda peer: peer.expect_end(), "exec", "--input", "/no/such", "tool")
    assert result.status == EXEC_FAILED
    assert "cannot open /no/such" in result.errors


def test_exec_output(tmp_path):
    script = ended(exitcode=3, **{"out-data": encoded(b"out\0\xff"), "err-data": encoded(b"err")})
    result = talk(tmp_path, script, "exec", "tool")
    assert (result.status, result.stdout, result.errors) == (3, b"out\0\xff", "err")


def test_exec_polls_until_the_end(tmp_path):
    def script(peer):
        peer.answer("guest-exec", {"pid": 7})
        for _ in range(4):
            peer.answer("guest-exec-status", {"exited": False})
        peer.answer("guest-exec-status", {"exited": True, "exitcode": 0})

    assert talk(tmp_path, script, "exec", "tool").status == 0


@pytest.mark.parametrize("members, status", [
    ({"exitcode": 0}, 0),
    ({"exitcode": 255}, 255),
    ({"signal": 9}, 128 + 9),
    ({"signal": 9, "exitcode": 0}, 128 + 9),
    ({"exitcode": 256}, 255),
    ({"exitcode": 3221225477}, 255),
    ({"exitcode": -1}, 255),
    ({}, EXEC_FAILED),
])
def test_exec_exit_status(tmp_path, members, status):
    assert talk(tmp_path, ended(**members), "exec", "tool").status == status


@pytest.mark.parametrize("stream, name", [("out", "standard output"), ("err", "standard error")])
def test_exec_truncated(tmp_path, stream, name):
    script = ended(exitcode=0, **{stream + "-data": encoded(b"12345"), stream + "-truncated": True})
    result = talk(tmp_path, script, "exec", "tool")
    assert result.status == 0
    assert "only the first 5 bytes of the program's %s" % name in result.errors


def test_exec_bad_base64(tmp_path):
    script = ended(exitcode=0, **{"out-data": "?", "err-data": encoded(b"err")})
    result = talk(tmp_path, script, "exec", "tool")
    assert result.status == EXEC_FAILED
    assert "not base64" in result.errors and "err" in result.errors


def test_exec_refused(tmp_path):
    def script(peer):
        peer.expect("guest-exec")
        peer.fail("Failed to execute child process")

    result = talk(tmp_path, script, "exec", "tool")
    assert result.status == EXEC_FAILED
    assert result.errors == "bellhop: Failed to execute child process\n"


@pytest.mark.parametrize("answer", [{}, {"pid": "7"}, [], 5])
def test_exec_without_pid(tmp_path, answer):
    result = talk(tmp_path, lambda peer: peer.answer("guest-exec", answer), "exec", "tool")
    assert result.status == EXEC_FAILED


def test_exec_no_agent(tmp_path):
    assert run(str(tmp_path / "none"), "exec", "tool").status == EXEC_FAILED


def test_exec_agent_lost(tmp_path):
    def script(peer):
        peer.answer("guest-exec", {"pid": 7})
        peer.expect("guest-exec-status")

    result = talk(tmp_path, script, "exec", "tool")
    assert result.status == EXEC_FAILED
    assert "process 7" in result.errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                         ids=lambda number: number.name)
def test_exec_interrupted(tmp_path, number):
    processes = []

    def script(peer):
        peer.sync()
        peer.answer("guest-exec", {"pid": 7})
        peer.answer("guest-exec-status", {"exited": False})
        processes[0].send_signal(number)
        while peer.read_bytes():
            peer.send(b'{"return": {"exited": false}}\n')

    with FakeAgent(tmp_path, script) as path:
        processes.append(start(path, "exec", "tool"))
        result = finish(processes[0])
    assert result.status == client.signal_exit(number)
    assert "process 7" in result.errors


def test_exec_reader_went_away(tmp_path):
    """That nobody reads stdout is no reason to lose what is on stderr."""
    ours, theirs = os.pipe()
    os.close(ours)
    script = ended(exitcode=0, **{"out-data": encoded(b"out"), "err-data": encoded(b"err")})
    result = talk(tmp_path, script, "exec", "tool", stdout=theirs)
    os.close(theirs)
    assert (result.status, result.errors) == (client.SIGPIPE_EXIT, "err")


# --- read ----------------------------------------------------------------------------------------


def chunk(data, eof):
    return {"count": len(data), "buf-b64": encoded(data), "eof": eof}


def read_script(*chunks, after=("guest-file-close",)):
    def script(peer):
        assert peer.answer("guest-file-open", 1000) == {"path": "/some/file", "mode": "r"}
        for item in chunks:
            assert peer.answer("guest-file-read", item) == {"handle": 1000, "count": CHUNK}
        for command in after:
            assert peer.answer(command, {}) == {"handle": 1000}
        peer.expect_end()

    return script


@pytest.mark.parametrize("chunks", [
    [chunk(b"", True)],
    [chunk(b"content", True)],
    [chunk(b"con", False), chunk(b"\0tent\xff", False), chunk(b"", True)],
    [chunk(b"", False), chunk(b"late", True)],
    [chunk(b"x" * CHUNK, False), chunk(b"y", True)],
])
def test_read(tmp_path, chunks):
    result = talk(tmp_path, read_script(*chunks), "read", "/some/file")
    assert (result.status, result.errors) == (0, "")
    assert result.stdout == b"".join(base64.b64decode(item["buf-b64"]) for item in chunks)


def test_read_refused(tmp_path):
    def script(peer):
        peer.expect("guest-file-open")
        peer.fail("No such file or directory")
        peer.expect_end()

    result = talk(tmp_path, script, "read", "/some/file")
    assert (result.status, result.errors) == (1, "bellhop: No such file or directory\n")


def test_read_fails_midway(tmp_path):
    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.answer("guest-file-read", chunk(b"begin", False))
        peer.expect("guest-file-read")
        peer.fail("Input/output error")
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    result = talk(tmp_path, script, "read", "/some/file")
    assert (result.status, result.stdout) == (1, b"begin")
    assert result.errors == "bellhop: Input/output error\n"


@pytest.mark.parametrize("answer", [
    {"count": 1, "buf-b64": "?", "eof": True},
    {"count": 1, "eof": True},
    {"count": 1, "buf-b64": "YQ=="},
    {"count": 1, "buf-b64": 5, "eof": True},
    [],
])
def test_read_makes_no_sense(tmp_path, answer):
    """The file is closed all the same, after a sync, as nobody knows what comes next."""
    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.answer("guest-file-read", answer)
        peer.sync()
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    result = talk(tmp_path, script, "read", "/some/file")
    assert result.status == 2
    assert "makes no sense" in result.errors


def test_read_reader_went_away(tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)

    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.answer("guest-file-read", chunk(b"x", False))
        peer.sync()
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}

    result = talk(tmp_path, script, "read", "/some/file", stdout=theirs)
    os.close(theirs)
    assert (result.status, result.errors) == (client.SIGPIPE_EXIT, "")


def test_read_interrupted(tmp_path):
    """While the agent is at work: the late reply is skipped, and the file closed."""
    processes = []

    def script(peer):
        peer.sync()
        peer.answer("guest-file-open", 1000)
        peer.expect("guest-file-read")
        processes[0].send_signal(signal.SIGINT)
        number = peer.expect_sync()
        peer.reply(chunk(b"late", False))
        peer.send(b"\xff{\"return\": %d}\n" % number)
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    with FakeAgent(tmp_path, script) as path:
        processes.append(start(path, "read", "/some/file"))
        result = finish(processes[0])
    assert (result.status, result.stdout, result.errors) == (128 + signal.SIGINT, b"", "")


def has_pending_signal(pid):
    with open("/proc/%d/status" % pid) as file:
        return any(line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16)
                   for line in file)


def test_read_interrupted_while_opening(tmp_path):
    """A handle that is still on its way is waited for a moment, as it has to be closed."""
    processes = []

    def script(peer):
        peer.sync()
        peer.expect("guest-file-open")
        processes[0].send_signal(signal.SIGINT)
        wait_until(lambda: not has_pending_signal(processes[0].pid), what="end of the wait")
        peer.reply(1000)
        peer.sync()
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    with FakeAgent(tmp_path, script) as path:
        processes.append(start(path, "read", "/some/file"))
        result = finish(processes[0])
    assert (result.status, result.errors) == (128 + signal.SIGINT, "")


def test_read_interrupted_while_the_open_hangs(tmp_path):
    processes = []

    def script(peer):
        peer.sync()
        peer.expect("guest-file-open")
        processes[0].send_signal(signal.SIGINT)
        peer.expect_end()

    with FakeAgent(tmp_path, script) as path:
        processes.append(start(path, "read", "/some/file"))
        result = finish(processes[0])
    assert result.status == 128 + signal.SIGINT
    assert "no answer to guest-file-open" in result.errors


def test_read_no_answer_in_time(tmp_path):
    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.expect("guest-file-read")
        peer.sync()
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    result = talk(tmp_path, script, "read", "/some/file", "--timeout", str(seconds(0.3)))
    assert result.status == 2
    assert "no answer to guest-file-read in time" in result.errors


def test_read_agent_lost(tmp_path):
    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.expect("guest-file-read")

    result = talk(tmp_path, script, "read", "/some/file")
    assert result.status == 2
    assert "/some/file may still be open in the guest, as handle 1000" in result.errors


# --- write ---------------------------------------------------------------------------------------


def take_writes(peer, take=lambda length: length):
    """Takes guest-file-writes up to the flush; returns what was written and the lengths."""
    written, lengths = b"", []
    while True:
        request = json.loads(peer.read_bytes())
        if request["execute"] != "guest-file-write":
            assert request["execute"] == "guest-file-flush"
            assert request["arguments"] == {"handle": 1000}
            peer.reply({})
            return written, lengths
        assert set(request["arguments"]) == {"handle", "buf-b64"}
        data = base64.b64decode(request["arguments"]["buf-b64"], validate=True)
        count = take(len(data))
        written += data[:count]
        lengths.append(len(data))
        peer.reply({"count": count, "eof": False})


@pytest.mark.parametrize("data", [b"", b"x", b"ab\0\xff", bytes(range(256)) * 4096,
                                  b"y" * (2 * CHUNK + 5)], ids=len)
def test_write(tmp_path, data):
    got = []

    def script(peer):
        assert peer.answer("guest-file-open", 1000) == {"path": "/some/file", "mode": "w"}
        got.append(take_writes(peer))
        assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    result = talk(tmp_path, script, "write", "/some/file", stdin=data)
    assert (result.status, result.stdout, result.errors) == (0, b"", "")
    written, lengths = got[0]
    assert written == data
    assert max(lengths, default=0) <= CHUNK and all(lengths)


def test_write_in_the_agents_own_steps(tmp_path):
    data = bytes(range(256)) * 40
    got = []

    def script(peer):
        peer.answer("guest-file-open", 1000)
        got.append(take_writes(peer, lambda length: min(length, 1000)))
        peer.answer("guest-file-close", {})

    assert talk(tmp_path, script, "write", "/some/file", stdin=data).status == 0
    assert got[0][0] == data


@pytest.mark.parametrize("answer", [{"count": 0}, {"count": 6}, {"count": -1}, {}, 5])
def test_write_makes_no_sense(tmp_path, answer):
    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.answer("guest-file-write", answer)
        peer.sync()
        peer.answer("guest-file-close", {})

    result = talk(tmp_path, script, "write", "/some/file", stdin=b"12345")
    assert result.status == 2
    assert "makes no sense" in result.errors


@pytest.mark.parametrize("failing", ["guest-file-write", "guest-file-flush", "guest-file-close"])
def test_write_fails(tmp_path, failing):
    """Also where the agent notices late that the disk is full."""
    def script(peer):
        peer.answer("guest-file-open", 1000)
        for command in ("guest-file-write", "guest-file-flush", "guest-file-close"):
            peer.expect(command)
            if command == failing:
                peer.fail("No space left on device")
                break
            peer.reply({"count": 1, "eof": False})
        if failing != "guest-file-close":
            assert peer.answer("guest-file-close", {}) == {"handle": 1000}
        peer.expect_end()

    result = talk(tmp_path, script, "write", "/some/file", stdin=b"x")
    assert (result.status, result.errors) == (1, "bellhop: No space left on device\n")


def test_write_interrupted(tmp_path):
    """While it waits for more input."""
    processes = []

    def script(peer):
        peer.sync()
        peer.answer("guest-file-open", 1000)
        processes[0].send_signal(signal.SIGTERM)
        peer.sync()
        peer.answer("guest-file-close", {})
        peer.expect_end()

    with FakeAgent(tmp_path, script) as path:
        process = start(path, "write", "/some/file", stdin=subprocess.PIPE)
        processes.append(process)
        process.wait(seconds(client.LIMIT_S))
        result = finish(process)
    assert result.status == 128 + signal.SIGTERM


def test_write_input_unreadable(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)

    def script(peer):
        peer.answer("guest-file-open", 1000)
        peer.sync()
        peer.answer("guest-file-close", {})

    result = talk(tmp_path, script, "write", "/some/file", stdin_file=folder)
    os.close(folder)
    assert result.status == 1
    assert "cannot read standard input" in result.errors


# --- with agents ---------------------------------------------------------------------------------

DATA = os.urandom(20 << 20)


def test_exec_real(shared_agent):
    result = run(shared_agent.socket_path, "exec", "--", "sh", "-c",
                 "cat; echo err >&2; echo $1; exit 42", "sh", "an arg")
    assert (result.status, result.stdout, result.errors) == (42, b"an arg\n", "err\n")


def test_exec_real_input(shared_agent):
    result = run(shared_agent.socket_path, "exec", "--input", "-", "--env", "A=1",
                 "/bin/sh", "-c", "cat; echo $A$B", stdin=DATA[:300000])
    assert result.status == 0
    assert result.stdout == DATA[:300000] + b"1\n"


def test_exec_real_signal(shared_agent):
    assert run(shared_agent.socket_path, "exec", "--", "sh", "-c", "kill -TERM $$").status == 143


def test_exec_real_missing(shared_agent):
    result = run(shared_agent.socket_path, "exec", "/no/such/program")
    assert result.status == EXEC_FAILED
    assert "Failed to execute child process" in result.errors


def test_exec_real_truncated(shared_agent):
    result = run(shared_agent.socket_path, "exec", "--", "sh", "-c", "head -c 20000000 /dev/zero")
    assert result.status == 0
    assert len(result.stdout) == 16 << 20
    assert "only the first 16777216 bytes" in result.errors


def test_copy_there_and_back(agent):
    path = agent.path("copy")
    result = run(agent.socket_path, "write", path, stdin=DATA)
    assert (result.status, result.errors) == (0, "")
    with open(path, "rb") as file:
        assert file.read() == DATA
    result = run(agent.socket_path, "read", path)
    assert (result.status, result.errors) == (0, "")
    assert result.stdout == DATA
    assert not agent.holds_open(path)


def test_read_real_missing(shared_agent):
    result = run(shared_agent.socket_path, "read", "/no/such/file")
    assert (result.status, result.stdout) == (1, b"")
    assert "No such file or directory" in result.errors


def test_read_real_proc(shared_agent):
    """A file that has no size."""
    result = run(shared_agent.socket_path, "read", "/proc/version")
    with open("/proc/version", "rb") as file:
        assert (result.status, result.stdout) == (0, file.read())


def test_write_real_full(shared_agent):
    result = run(shared_agent.socket_path, "write", "/dev/full", stdin=b"x" * 100000)
    assert result.status == 1
    assert "No space left on device" in result.errors


def test_read_real_interrupted(agent):
    """An endless file: whoever ends the client leaves no open handle behind."""
    process = start(agent.socket_path, "read", "/dev/zero")
    process.stdout.read(3 * CHUNK)
    assert agent.holds_open("/dev/zero")
    process.send_signal(signal.SIGINT)
    while process.stdout.read(CHUNK):
        pass
    assert finish(process).status == 128 + signal.SIGINT
    wait_until(lambda: not agent.holds_open("/dev/zero"), what="close of /dev/zero")
