# SPDX-License-Identifier: MIT
"""guest-file-*: what fopen, fread, fwrite, fseek and feof would do, over the wire."""

import base64
import fcntl
import hashlib
import os
import random
import socket
import stat
import time

import pytest

from agent import AgentError, seconds, wait_until

MIB = 1 << 20


def b64(data):
    return base64.b64encode(data).decode()


def error_of(channel, command, arguments):
    """The description of the error that the command must end with."""
    with pytest.raises(AgentError) as caught:
        channel.cmd(command, arguments)
    assert caught.value.error_class == "GenericError"
    return caught.value.desc


def contents(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def path(shared_agent, request):
    """A path in the agent's directory that nothing stands at."""
    path = shared_agent.path("f%d" % random.getrandbits(60))
    yield path
    if os.path.lexists(path):
        os.unlink(path)


def make(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


# --- opening -------------------------------------------------------------------------------------

# mode: may read, may write, creates, truncates, appends
MODES = {
    "r": (1, 0, 0, 0, 0), "rb": (1, 0, 0, 0, 0),
    "r+": (1, 1, 0, 0, 0), "rb+": (1, 1, 0, 0, 0), "r+b": (1, 1, 0, 0, 0),
    "w": (0, 1, 1, 1, 0), "wb": (0, 1, 1, 1, 0),
    "w+": (1, 1, 1, 1, 0), "wb+": (1, 1, 1, 1, 0), "w+b": (1, 1, 1, 1, 0),
    "a": (0, 1, 1, 0, 1), "ab": (0, 1, 1, 0, 1),
    "a+": (1, 1, 1, 0, 1), "ab+": (1, 1, 1, 0, 1), "a+b": (1, 1, 1, 0, 1),
    None: (1, 0, 0, 0, 0),
}


@pytest.mark.parametrize("mode", MODES)
def test_mode(shared, path, mode):
    may_read, may_write, creates, truncates, appends = MODES[mode]
    if not creates:
        with pytest.raises(AgentError) as caught:
            shared.open_file(path, mode)
        assert caught.value.desc == "failed to open file '%s' (mode: '%s'): %s" % (
            path, mode or "r", "No such file or directory")
        assert not os.path.exists(path)
    else:
        shared.close_file(shared.open_file(path, mode))
        assert contents(path) == b""

    make(path, b"0123456789")
    handle = shared.open_file(path, mode)
    assert contents(path) == (b"" if truncates else b"0123456789")
    if may_read:
        assert shared.read_file(handle, 4) == (b"" if truncates else b"0123", bool(truncates))
    else:
        assert error_of(shared, "guest-file-read", {"handle": handle, "count": 4}) == \
            "failed to read file: Bad file descriptor"
    shared.seek_file(handle, 2, "set")
    if may_write:
        assert shared.write_file(handle, b"ab") == 2
    else:
        assert error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": b64(b"ab")}) \
            == "failed to write to file: Bad file descriptor"
    shared.close_file(handle)
    assert contents(path) == (
        b"0123456789ab" if appends else b"\0\0ab" if truncates else
        b"01ab456789" if may_write else b"0123456789")


@pytest.mark.parametrize("mode", ["", "rw", "br", "r+b+", "rt", "x", "wx", "re", "R", " r", "r ",
                                  "rbb", "r++", "+", "b", "ä", "rm", "wr"])
def test_unknown_mode(shared, path, mode):
    assert error_of(shared, "guest-file-open", {"path": path, "mode": mode}) == \
        "invalid file open mode '%s'" % mode
    assert not os.path.exists(path)


@pytest.mark.parametrize("bad_path, reason", [
    ("", "No such file or directory"),
    ("/nonexistent/file", "No such file or directory"),
    ("/etc/passwd/file", "Not a directory"),
    ("/" + "a" * 300, "File name too long"),
    ("/nonexistent/\u00e4\n\"", "No such file or directory"),
])
@pytest.mark.parametrize("mode", ["r", "w"])
def test_open_fails(shared, bad_path, reason, mode):
    assert error_of(shared, "guest-file-open", {"path": bad_path, "mode": mode}) == \
        "failed to open file '%s' (mode: '%s'): %s" % (bad_path, mode, reason)


def test_open_of_a_very_long_path(shared):
    desc = error_of(shared, "guest-file-open", {"path": "/" + "a/" * 3000})
    assert desc.startswith("failed to open file '/a/a/a/a/")
    assert desc.endswith("(mode: 'r'): File name too long")


def test_nul_in_a_path(shared, path):
    """The file that would be opened is not the one that was named."""
    arguments = {"path": path + "\0.txt", "mode": "w"}
    if shared.agent.differs("nul-in-a-path"):
        shared.close_file(shared.cmd("guest-file-open", arguments))
        return
    error_of(shared, "guest-file-open", arguments)
    assert not os.path.exists(path)


def test_mode_of_new_files(start_agent):
    """Not writable for everybody, and what a umask says is the configuration's business."""
    def mode_of_new(agent, name):
        with agent.connect() as channel:
            channel.close_file(channel.open_file(agent.path(name), "w"))
        return stat.S_IMODE(os.stat(agent.path(name)).st_mode)

    agent = start_agent()
    if agent.differs("new-files-are-writable-for-all"):
        assert mode_of_new(agent, "new") == 0o666
        return
    assert mode_of_new(agent, "new") == 0o644
    assert mode_of_new(start_agent(settings={"files.umask": "077"}), "new") == 0o600
    assert mode_of_new(start_agent(settings={"files.umask": "0"}), "new") == 0o666


def test_mode_of_existing_files_is_kept(shared, path):
    make(path, b"x")
    os.chmod(path, 0o751)
    for mode in ("w", "a", "r+"):
        shared.close_file(shared.open_file(path, mode))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o751


def test_links(shared, shared_agent, path):
    target = make(path, b"content")
    link, dangling = path + "-link", path + "-dangling"
    os.symlink(target, link)
    os.symlink(path + "-nowhere", dangling)
    handle = shared.open_file(link)
    assert shared.read_file(handle) == (b"content", True)
    shared.close_file(handle)
    # none is made where a link points to nowhere
    for mode in ("r", "w", "a"):
        assert error_of(shared, "guest-file-open", {"path": dangling, "mode": mode}).endswith(
            "No such file or directory")
    assert not os.path.exists(path + "-nowhere")


def test_descriptors_are_not_inherited(shared, shared_agent, path):
    """A program started by guest-exec gets no other client's files."""
    handle = shared.open_file(make(path, b"secret"))
    reply = shared.cmd("guest-exec", {
        "path": "/bin/ls", "arg": ["-l", "/proc/self/fd"], "capture-output": True})

    def status():
        status = shared.cmd("guest-exec-status", {"pid": reply["pid"]})
        return status if status["exited"] else None

    output = base64.b64decode(wait_until(status)["out-data"])
    assert b"/proc/" in output and path.encode() not in output
    shared.close_file(handle)


# --- reading and the end of a file ---------------------------------------------------------------


def test_eof(shared, path):
    handle = shared.open_file(make(path, b"0123456789"), "r+")
    assert shared.read_file(handle, 10) == (b"0123456789", False)
    assert shared.read_file(handle, 0) == (b"", False)
    assert shared.read_file(handle, 1) == (b"", True)
    assert shared.read_file(handle, 0) == (b"", False)
    assert shared.read_file(handle, 1) == (b"", True)
    assert shared.seek_file(handle, 0, "cur") == (10, False)
    assert shared.seek_file(handle, 0, "set") == (0, False)
    assert shared.read_file(handle, 11) == (b"0123456789", True)
    assert shared.seek_file(handle, 100, "set") == (100, False)
    assert shared.read_file(handle, 1) == (b"", True)
    shared.close_file(handle)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192])
def test_default_count(shared, path, size):
    data = random.Random(size).randbytes(size)
    handle = shared.open_file(make(path, data))
    assert shared.read_file(handle) == (data[:4096], size < 4096)
    shared.close_file(handle)


def test_file_that_grows(shared, path):
    """The end is no state: what is appended later can be read (tail -f)."""
    handle = shared.open_file(make(path, b"one"))
    assert shared.read_file(handle, 10) == (b"one", True)
    with open(path, "ab") as file:
        file.write(b"two")
    assert shared.read_file(handle, 10) == (b"two", True)
    os.truncate(path, 2)
    assert shared.read_file(handle, 10) == (b"", True)
    shared.close_file(handle)


def test_unlinked_file(shared, path):
    handle = shared.open_file(make(path, b"content"))
    os.unlink(path)
    assert shared.read_file(handle) == (b"content", True)
    shared.close_file(handle)


@pytest.mark.parametrize("count", [-1, 48 * MIB + 1, 2**63 - 1, -2**63])
def test_read_count_limits(shared, path, count):
    handle = shared.open_file(make(path, b"content"))
    assert error_of(shared, "guest-file-read", {"handle": handle, "count": count}) == \
        "value '%d' is invalid for argument count" % count
    assert shared.read_file(handle) == (b"content", True)
    shared.close_file(handle)


def test_read_of_the_largest_count(shared, path):
    handle = shared.open_file(make(path, b"small"))
    assert shared.read_file(handle, 48 * MIB) == (b"small", True)
    shared.close_file(handle)


def test_read_48_mib(agent):
    data = random.Random(1).randbytes(4 * MIB) * 12 + b"end"
    channel = agent.connect()
    handle = channel.open_file(agent.file("large", data))
    first, eof = channel.read_file(handle, 48 * MIB, timeout=30)
    assert not eof and len(first) == 48 * MIB
    assert hashlib.sha256(first).digest() == hashlib.sha256(data[:48 * MIB]).digest()
    assert channel.read_file(handle, 48 * MIB, timeout=30) == (b"end", True)


@pytest.mark.parametrize("chunk", [48000, 65536, MIB, 10 * MIB])
def test_copy_20_mb_both_ways(agent, chunk):
    """As clients do it: until count or eof says that it is done."""
    data = random.Random(2).randbytes(20000000)
    channel = agent.connect()
    handle = channel.open_file(agent.path("copy"), "w")
    for start in range(0, len(data), chunk):
        piece = data[start:start + chunk]
        assert channel.write_file(handle, piece, timeout=20) == len(piece)
    channel.cmd("guest-file-flush", {"handle": handle})
    assert contents(agent.path("copy")) == data
    channel.close_file(handle)

    handle = channel.open_file(agent.path("copy"))
    received, eof = [], False
    while not eof:
        piece, eof = channel.read_file(handle, chunk, timeout=20)
        received.append(piece)
    channel.close_file(handle)
    assert b"".join(received) == data


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, count", [
    ("", 0), ("QQ==", 1), ("QUI=", 2), ("QUJD", 3), ("QQ\n==", 1), ("\nQQ==\n", 1), ("\n\n", 0),
    ("Q\nU\nJ\nD\n", 3), ("QUJD\n\n\nQUJD\n", 6), ("QUJD\nQQ==\n\n", 4), ("++//", 3),
])
def test_base64(shared, path, text, count):
    handle = shared.open_file(path, "w")
    assert shared.cmd("guest-file-write", {"handle": handle, "buf-b64": text}) == {
        "count": count, "eof": False}
    shared.close_file(handle)
    assert contents(path) == base64.b64decode(text)


def test_nul_in_base64(shared, path):
    handle = shared.open_file(path, "w")
    error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": "QQ\0=="})
    shared.close_file(handle)
    assert contents(path) == b""


def test_base64_in_lines_of_76(shared, path):
    data = random.Random(3).randbytes(60000)
    handle = shared.open_file(path, "w")
    text = base64.encodebytes(data).decode()  # as Proxmox sends it
    assert "\n" in text[:100]
    assert shared.cmd("guest-file-write", {"handle": handle, "buf-b64": text})["count"] == 60000
    shared.close_file(handle)
    assert contents(path) == data


@pytest.mark.parametrize("text", ["!!!!", "aG k=", "QQ==\r\n", "QQ ==", "-_==", "\u00e9",
                                  "QUJD\t", "QUJD,"])
def test_not_base64(shared, path, text):
    handle = shared.open_file(path, "w")
    assert error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": text}) == \
        "Base64 data contains invalid characters"
    assert shared.write_file(handle, b"next") == 4
    shared.close_file(handle)
    assert contents(path) == b"next"


@pytest.mark.parametrize("text", ["Q", "QQ", "QQ=", "QUJ", "QUJDR", "=", "==", "====", "Q===",
                                  "QUJD=", "QQ==QQ==", "QQ=Q"])
def test_base64_that_is_cut_off(shared, path, text):
    """Half a message must not be taken for a whole one."""
    handle = shared.open_file(path, "w")
    if shared.agent.differs("broken-base64-is-taken"):
        shared.cmd("guest-file-write", {"handle": handle, "buf-b64": text})
    else:
        error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": text})
        assert shared.write_file(handle, b"next") == 4
        shared.cmd("guest-file-flush", {"handle": handle})
        assert contents(path) == b"next"
    shared.close_file(handle)


def test_write_count(shared, path):
    handle = shared.open_file(path, "w")

    def write(count):
        return {"handle": handle, "buf-b64": b64(b"abc"), "count": count}

    for count in (0, 1, 3):
        assert shared.cmd("guest-file-write", write(count)) == {"count": count, "eof": False}
    for count in (4, -1, 2**63 - 1, -2**63):
        assert error_of(shared, "guest-file-write", write(count)) == \
            "value '%d' is invalid for argument count" % count
    shared.close_file(handle)
    assert contents(path) == b"aabc"


def test_reading_and_writing_without_a_seek(shared, path):
    handle = shared.open_file(make(path, b"0123456789"), "r+")
    assert shared.read_file(handle, 3) == (b"012", False)
    assert shared.write_file(handle, b"ab") == 2
    assert shared.read_file(handle, 2) == (b"56", False)
    assert shared.write_file(handle, b"c") == 1
    assert shared.seek_file(handle, 0, "cur") == (8, False)
    assert shared.read_file(handle, 10) == (b"89", True)
    assert shared.write_file(handle, b"end") == 3
    assert shared.read_file(handle, 1) == (b"", True)
    shared.close_file(handle)
    assert contents(path) == b"012ab56c89end"


def test_appending(shared, path):
    handle = shared.open_file(make(path, b"01234"), "a+")
    assert shared.seek_file(handle, 0, "cur") == (0, False)
    assert shared.read_file(handle, 2) == (b"01", False)
    assert shared.write_file(handle, b"ab") == 2
    assert shared.seek_file(handle, 0, "cur") == (7, False)
    assert shared.read_file(handle, 2) == (b"", True)
    assert shared.seek_file(handle, 1, "set") == (1, False)
    assert shared.write_file(handle, b"cd") == 2
    assert shared.seek_file(handle, 0, "cur") == (9, False)
    shared.close_file(handle)
    assert contents(path) == b"01234abcd"


def test_sparse_file(shared, path):
    handle = shared.open_file(path, "w+")
    assert shared.seek_file(handle, 1000000, "set") == (1000000, False)
    assert shared.write_file(handle, b"x") == 1
    assert shared.seek_file(handle, -3, "cur") == (999998, False)
    assert shared.read_file(handle, 10) == (b"\0\0x", True)
    shared.close_file(handle)


def test_two_handles_on_one_file(shared, path):
    first = shared.open_file(path, "w+")
    second = shared.open_file(path, "r")
    assert first != second
    shared.write_file(first, b"hello")
    if not shared.agent.differs("writes-wait-for-a-flush"):
        assert shared.read_file(second) == (b"hello", True)
        assert contents(path) == b"hello"
    else:
        assert shared.read_file(second) == (b"", True)
        shared.cmd("guest-file-flush", {"handle": first})
        assert shared.read_file(second) == (b"hello", True)
    shared.close_file(first)
    shared.close_file(second)


def test_small_reads_of_a_file_that_has_its_content_only_once(shared):
    """A sysctl gives it to the first read alone, so small reads come from a buffer."""
    path = "/proc/sys/kernel/ostype"
    handle = shared.open_file(path)
    read = [shared.read_file(handle, 2) for _ in range(4)]
    assert read == [(b"Li", False), (b"nu", False), (b"x\n", False), (b"", True)]
    shared.close_file(handle)


def test_file_of_unknown_size(shared):
    handle = shared.open_file("/proc/self/status")
    data, eof = shared.read_file(handle, 100000)
    assert data.startswith(b"Name:") and eof
    shared.close_file(handle)


# --- seeking -------------------------------------------------------------------------------------


def test_whence(shared, path):
    handle = shared.open_file(make(path, b"0123456789"))
    for number, name in enumerate(("set", "cur", "end")):
        for offset, start in ((0, 0), (3, 0), (-2, 4), (100, 0)):
            expected = {"set": 0, "cur": start, "end": 10}[name] + offset
            for whence in (number, name):
                shared.seek_file(handle, start, "set")
                if expected < 0:
                    assert error_of(shared, "guest-file-seek", {
                        "handle": handle, "offset": offset, "whence": whence}) == \
                        "failed to seek file: Invalid argument"
                    assert shared.seek_file(handle, 0, "cur") == (start, False)
                else:
                    assert shared.seek_file(handle, offset, whence) == (expected, False)
    shared.close_file(handle)


@pytest.mark.parametrize("whence, desc", [
    (-1, "invalid whence code -1"),
    (3, "invalid whence code 3"),
    (2**63 - 1, "invalid whence code 9223372036854775807"),
    ("SET", "Parameter 'whence' does not accept value 'SET'"),
    ("", "Parameter 'whence' does not accept value ''"),
    ("1", "Parameter 'whence' does not accept value '1'"),
    (1.0, "Invalid parameter type for 'whence', expected: integer"),
    (None, "Invalid parameter type for 'whence', expected: GuestFileWhence"),
    (True, "Invalid parameter type for 'whence', expected: GuestFileWhence"),
    ([], "Invalid parameter type for 'whence', expected: GuestFileWhence"),
], ids=repr)
def test_bad_whence(shared, path, whence, desc):
    handle = shared.open_file(make(path, b"0123456789"))
    assert error_of(shared, "guest-file-seek",
                    {"handle": handle, "offset": 0, "whence": whence}) == desc
    shared.close_file(handle)


@pytest.mark.parametrize("offset, whence", [(-1, "set"), (2**63 - 1, "end"), (2**63 - 1, "cur"),
                                            (-2**63, "set"), (-2**63, "cur"), (-2, "cur")])
def test_seek_to_nowhere(shared, path, offset, whence):
    handle = shared.open_file(make(path, b"0123456789"))
    shared.read_file(handle, 1)
    desc = error_of(shared, "guest-file-seek",
                    {"handle": handle, "offset": offset, "whence": whence})
    assert desc in ("failed to seek file: Invalid argument",
                    "failed to seek file: Value too large for defined data type")
    assert shared.seek_file(handle, 0, "cur") == (1, False)
    shared.close_file(handle)


@pytest.mark.parametrize("missing", ["handle", "offset", "whence"])
def test_seek_arguments(shared, missing):
    arguments = {"handle": 1, "offset": 0, "whence": 0}
    del arguments[missing]
    assert error_of(shared, "guest-file-seek", arguments) == "Parameter '%s' is missing" % missing


# --- handles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command, arguments", [
    ("guest-file-close", {}), ("guest-file-flush", {}), ("guest-file-read", {}),
    ("guest-file-read", {"count": -1}),
    ("guest-file-write", {"buf-b64": "!!!!"}), ("guest-file-write", {"buf-b64": "", "count": 9}),
    ("guest-file-seek", {"offset": 0, "whence": 7}),
])
@pytest.mark.parametrize("handle", [0, -1, 999, 2**40])
def test_unknown_handle(shared, command, arguments, handle):
    """Before anything else that may be wrong with the request."""
    assert error_of(shared, command, dict(arguments, handle=handle)) == \
        "handle '%d' has not been found" % handle


def test_closed_handle(shared, path):
    handle = shared.open_file(make(path, b""))
    assert shared.close_file(handle) == {}
    for command in ("guest-file-close", "guest-file-flush", "guest-file-read"):
        assert error_of(shared, command, {"handle": handle}) == \
            "handle '%d' has not been found" % handle


def test_handles_are_never_used_again(shared, path):
    make(path, b"")
    handles = []
    for _ in range(50):
        handle = shared.open_file(path)
        shared.close_file(handle)
        handles.append(handle)
    assert handles == sorted(set(handles))


def test_handles_are_never_used_again_by_the_next_agent(start_agent):
    """A client that kept a handle from before a restart must not get another one's file."""
    agent = start_agent()
    with agent.connect() as channel:
        last = [channel.open_file("/dev/null") for _ in range(20)][-1]
    agent.stop()
    agent.start()
    with agent.connect() as channel:
        assert channel.open_file("/dev/null") > last


def test_handles_outlive_their_connection(agent):
    with agent.connect() as channel:
        handle = channel.open_file(agent.file("file", b"0123456789"))
        assert channel.read_file(handle, 3) == (b"012", False)
    with agent.connect() as channel:
        assert channel.read_file(handle, 3) == (b"345", False)
        channel.close_file(handle)


def test_close_closes(agent):
    channel = agent.connect()
    handle = channel.open_file(agent.file("file", b"x"))
    assert agent.holds_open(agent.path("file"))
    channel.close_file(handle)
    assert not agent.holds_open(agent.path("file"))


def test_many_handles(agent):
    """More than one, fewer than any limit, each with a position of its own."""
    channel = agent.connect()
    agent.file("file", bytes(range(256)))
    handles = [channel.open_file(agent.path("file")) for _ in range(200)]
    for number, handle in enumerate(handles):
        channel.seek_file(handle, number, "set")
    for number, handle in enumerate(handles):
        assert channel.read_file(handle, 1) == (bytes([number]), False)
    for handle in handles:
        channel.close_file(handle)
    assert not agent.holds_open(agent.path("file"))


# --- what is no regular file ---------------------------------------------------------------------


def test_directory(shared, shared_agent):
    directory = shared_agent.directory
    for mode in ("r+", "w", "a"):
        assert error_of(shared, "guest-file-open", {"path": directory, "mode": mode}) == \
            "failed to open file '%s' (mode: '%s'): Is a directory" % (directory, mode)
    handle = shared.open_file(directory)
    assert error_of(shared, "guest-file-read", {"handle": handle}) == \
        "failed to read file: Is a directory"
    assert error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": "QQ=="}) == \
        "failed to write to file: Bad file descriptor"
    assert shared.seek_file(handle, 0, "cur") == (0, False)
    shared.close_file(handle)


def test_dev_null(shared):
    handle = shared.open_file("/dev/null", "r+")
    assert shared.read_file(handle) == (b"", True)
    assert shared.write_file(handle, b"abc") == 3
    assert shared.seek_file(handle, 10, "set") == (0, False)
    assert shared.seek_file(handle, 0, "end") == (0, False)
    shared.close_file(handle)


def test_dev_zero(shared):
    handle = shared.open_file("/dev/zero")
    assert shared.read_file(handle, 5) == (b"\0" * 5, False)
    assert shared.read_file(handle, MIB) == (b"\0" * MIB, False)
    shared.close_file(handle)


def test_dev_full(shared):
    """A disk without room: said when it is met."""
    no_space = "No space left on device"
    handle = shared.open_file("/dev/full", "r+")
    assert shared.read_file(handle, 3) == (b"\0" * 3, False)
    if shared.agent.differs("writes-wait-for-a-flush"):
        assert shared.write_file(handle, b"abc") == 3
        assert error_of(shared, "guest-file-flush", {"handle": handle}) == \
            "failed to flush file: " + no_space
    else:
        assert error_of(shared, "guest-file-write", {"handle": handle, "buf-b64": b64(b"abc")}) \
            == "failed to write to file: " + no_space
    assert error_of(shared, "guest-file-write",
                    {"handle": handle, "buf-b64": b64(b"x" * 100000)}).startswith(
                        "failed to write to file: " + no_space)
    assert shared.cmd("guest-file-flush", {"handle": handle}) == {}
    assert shared.close_file(handle) == {}


def test_socket(shared, shared_agent):
    path = shared_agent.path("a-socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert error_of(shared, "guest-file-open", {"path": path}) == \
            "failed to open file '%s' (mode: 'r'): No such device or address" % path


# --- FIFOs: files that let one wait --------------------------------------------------------------


@pytest.fixture
def fifo(shared, shared_agent, path):
    """(handle open for reading, our end for reading and writing)"""
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    handle = shared.open_file(path)
    yield handle, ours
    try:
        shared.close_file(handle)
        os.close(ours)
    except OSError:
        pass  # the test did


def test_fifo_reads_do_not_wait(shared, fifo):
    """Handles are non-blocking once they are open."""
    handle, ours = fifo
    not_now = "failed to read file: Resource temporarily unavailable"
    assert error_of(shared, "guest-file-read", {"handle": handle, "count": 10}) == not_now
    os.write(ours, b"hello")
    assert shared.read_file(handle, 5) == (b"hello", False)
    os.write(ours, b"x" * 5000)
    assert shared.read_file(handle) == (b"x" * 4096, False)
    assert error_of(shared, "guest-file-seek", {"handle": handle, "offset": 0, "whence": "cur"}) \
        == "failed to seek file: Illegal seek"


def test_fifo_that_has_less_than_asked_for(shared, fifo):
    handle, ours = fifo
    os.write(ours, b"hello")
    if shared.agent.differs("short-reads-are-lost"):
        assert error_of(shared, "guest-file-read", {"handle": handle, "count": 10}) == \
            "failed to read file: Resource temporarily unavailable"
        os.write(ours, b"again")
        assert shared.read_file(handle, 5) == (b"again", False)
    else:
        assert shared.read_file(handle, 10) == (b"hello", False)


def test_fifo_whose_writer_went(shared, fifo):
    handle, ours = fifo
    os.write(ours, b"last")
    os.close(ours)
    assert shared.read_file(handle, 10) == (b"last", True)
    assert shared.read_file(handle, 10) == (b"", True)


def test_fifo_that_is_full(shared, path):
    """Half a write is an error, as the client would not look at a count."""
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    handle = shared.open_file(path, "w")
    room = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)
    desc = error_of(shared, "guest-file-write",
                    {"handle": handle, "buf-b64": b64(b"x" * (room + 100000))})
    assert desc.startswith("failed to write to file: Resource temporarily unavailable")
    if not shared.agent.differs("half-a-write-tells-no-count"):
        assert "%d of %d" % (room, room + 100000) in desc
    assert len(os.read(ours, 2 * room)) == room
    try:
        shared.close_file(handle)
    except AgentError:
        pass  # the reference has something left to write
    os.close(ours)


def test_fifo_whose_reader_went(shared, path):
    os.mkfifo(path)
    ours = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    handle = shared.open_file(path, "w")
    os.close(ours)
    arguments = {"handle": handle, "buf-b64": b64(b"abc")}
    if shared.agent.differs("writes-wait-for-a-flush"):
        shared.cmd("guest-file-write", arguments)
        assert error_of(shared, "guest-file-flush", {"handle": handle}) == \
            "failed to flush file: Broken pipe"
    else:
        assert error_of(shared, "guest-file-write", arguments) == \
            "failed to write to file: Broken pipe"
    shared.close_file(handle)


@pytest.mark.bellhop_only("slow-commands-block-everything")
def test_fifo_open_blocks_only_its_worker(agent):
    """The open ends when its other end is opened, and everything else goes on meanwhile."""
    channel, other = agent.connect(), agent.connect()
    path = agent.fifo()
    channel.post("guest-file-open", {"path": path}, id="slow")
    channel.post("guest-ping", id="quick")
    assert channel.read_reply() == {"return": {}, "id": "quick"}
    assert other.cmd("guest-ping") == {}
    handle = other.open_file(agent.file("file", b"content"))
    assert other.read_file(handle) == (b"content", True)
    ours = os.open(path, os.O_WRONLY)  # waits for the agent's end, which is there
    reply = channel.read_reply()
    assert reply["id"] == "slow"
    os.write(ours, b"through")
    assert other.read_file(reply["return"], 7) == (b"through", False)
    os.close(ours)


@pytest.mark.bellhop_only("slow-commands-block-everything")
def test_deadline_of_an_open(start_agent):
    """It ends with an error that says what hangs where; the file is not opened any more."""
    agent = start_agent(settings={"deadline.guest-file-open": "1"})
    channel = agent.connect()
    path = agent.fifo()
    start = time.monotonic()
    desc = error_of(channel, "guest-file-open", {"path": path})
    assert 0.9 <= time.monotonic() - start <= seconds(4)
    assert "guest-file-open" in desc and path in desc
    assert channel.cmd("guest-ping") == {}
    # nobody is left in the open: a writer finds no reader
    def no_reader():
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return True
        return False
    wait_until(no_reader)
    assert not agent.holds_open(path)


# --- random sequences ----------------------------------------------------------------------------


class ModelFile:
    """What fopen() and its family say of a file: what both agents are held against."""

    def __init__(self, content):
        self.content = bytearray(content)
        self.mode = None
        self.position = 0

    def open(self, mode):
        self.mode = mode.replace("b", "")
        self.position = 0
        if self.mode[0] == "w":
            del self.content[:]
        return "opened"

    def close(self):
        self.mode = None
        return {}

    def flush(self):
        return {}

    def read(self, count):
        count = 4096 if count is None else count
        if count and self.mode in ("w", "a"):
            return "failed to read file: Bad file descriptor"
        data = bytes(self.content[self.position:self.position + count])
        self.position += len(data)
        return {"count": len(data), "buf-b64": b64(data), "eof": len(data) < count}

    def write(self, data, count):
        data = data if count is None else data[:count]
        if data and self.mode == "r":
            return "failed to write to file: Bad file descriptor"
        if data:
            if self.mode[0] == "a":
                self.position = len(self.content)
            self.content.extend(bytes(max(0, self.position - len(self.content))))
            self.content[self.position:self.position + len(data)] = data
            self.position += len(data)
        return {"count": len(data), "eof": False}

    def seek(self, offset, whence):
        start = {"set": 0, "cur": self.position, "end": len(self.content),
                 0: 0, 1: self.position, 2: len(self.content)}[whence]
        if start + offset < 0:
            return "failed to seek file: Invalid argument"
        self.position = start + offset
        return {"position": self.position, "eof": False}


def ask(channel, handle, operation, parameters):
    """The same over the wire."""
    arguments = {"handle": handle}
    if operation == "read" and parameters[0] is not None:
        arguments["count"] = parameters[0]
    elif operation == "write":
        arguments["buf-b64"] = b64(parameters[0])
        if parameters[1] is not None:
            arguments["count"] = parameters[1]
    elif operation == "seek":
        arguments.update(offset=parameters[0], whence=parameters[1])
    reply = channel.request("guest-file-" + operation, arguments)
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def random_step(rng):
    operation = rng.choice(["open", "read", "read", "read", "write", "write", "write", "seek",
                            "seek", "flush", "close"])
    if operation == "open":
        return operation, (rng.choice(["r", "r+", "r+b", "w", "w+", "a", "a+", "a+"]),)
    if operation == "read":
        return operation, (rng.choice([0, 1, 2, 5, 10, 100, 4095, 4096, 4097, 10000, None]),)
    if operation == "write":
        size = rng.choice([0, 1, 2, 7, 100, 4096, 5000, 9000])
        return operation, (rng.randbytes(size), rng.choice([None, None, None, 0, size // 2, size]))
    if operation == "seek":
        return operation, (rng.choice([0, 0, 1, -1, 3, -3, 10, -10, 100, 4096, -4096, 20000]),
                           rng.choice([0, 1, 2, "set", "cur", "end"]))
    return operation, ()


@pytest.mark.parametrize("seed", range(60))
def test_random_operations(shared, path, seed):
    """Both agents give the model's answers, and so each other's, and leave the same file."""
    rng = random.Random(seed)
    content = rng.randbytes(rng.choice([0, 10, 4096, 10000]))
    make(path, content)
    model = ModelFile(content)
    handle = None
    done = []  # shown when an assertion fails
    for _ in range(120):
        operation, parameters = random_step(rng)
        done.append((operation,) + parameters)
        if operation == "open":
            if handle is not None:
                assert shared.close_file(handle) == model.close(), done
            handle = shared.open_file(path, *parameters)
            model.open(*parameters)
        elif handle is not None:
            expected = getattr(model, operation)(*parameters)
            assert ask(shared, handle, operation, parameters) == expected, done
            if operation == "close":
                handle = None
    if handle is not None:
        shared.close_file(handle)
    assert contents(path) == model.content
