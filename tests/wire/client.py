# SPDX-License-Identifier: MIT
"""What the tests of the client share: starting it, and an agent made of a script.

    BELLHOP_CLIENT    the bellhop to test; default: the one beside $BELLHOPD
"""

import base64
import json
import os
import signal
import socket
import subprocess
import threading

from agent import seconds

LIMIT_S = 30  # no run of the client takes this long


def client_path():
    path = os.environ.get("BELLHOP_CLIENT")
    if not path and os.environ.get("BELLHOPD"):
        path = os.path.join(os.path.dirname(os.environ["BELLHOPD"]), "bellhop")
    assert path and os.access(path, os.X_OK), "no bellhop to test: set BELLHOP_CLIENT (have %r)" % path
    return os.path.abspath(path)


def start(*words, **options):
    """Starts the client; its streams are pipes unless told otherwise."""
    assert sum(map(len, words)) < 100000, "too long for a command line"
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pipes.update(options)
    return subprocess.Popen([client_path(), *words], **pipes)


class Result:
    """How a run ended: status, stdout and stderr (bytes; errors is stderr as text)."""

    def __init__(self, status, stdout, stderr):
        self.status = status
        self.stdout = stdout or b""
        self.errors = (stderr or b"").decode()

    def __repr__(self):
        return "<exit %d, stdout %r, stderr %r>" % (self.status, self.stdout[:400], self.errors)

    def value(self):
        """The JSON value that was printed, of a run that went well."""
        assert self.status == 0 and self.errors == "", self
        return json.loads(self.stdout)


def finish(process, stdin=None):
    """Waits for the end of a client that start() started."""
    try:
        stdout, stderr = process.communicate(stdin, timeout=seconds(LIMIT_S))
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert process.returncode != 99 and b"Sanitizer" not in (stderr or b""), stderr
    return Result(process.returncode, stdout, stderr)


def run(*words, stdin=None, stdin_file=None, **options):
    """Runs the client to its end; stdin is bytes for it, stdin_file an open file."""
    options["stdin"] = subprocess.PIPE if stdin is not None else stdin_file or subprocess.DEVNULL
    return finish(start(*words, **options), stdin)


class Peer:
    """The agent's end of one connection, for a script."""

    def __init__(self, connection):
        self.connection = connection
        self.received = b""

    def read_bytes(self):
        """One request with what stands before it, up to its newline; b"" at the end."""
        while b"\n" not in self.received:
            try:
                data = self.connection.recv(1 << 20)
            except ConnectionResetError:  # the client left something unread
                return b""
            if not data:
                assert self.received == b"", "a cut off request: %r" % self.received[:200]
                return b""
            self.received += data
        line, _, self.received = self.received.partition(b"\n")
        return line

    def expect(self, command):
        """Reads one request, which must be for this command. Returns its arguments."""
        line = self.read_bytes()
        request = json.loads(line)
        assert set(request) == {"execute", "arguments"}, line
        assert request["execute"] == command, line
        return request["arguments"]

    def expect_sync(self):
        """Reads a sync; returns its id."""
        line = self.read_bytes()
        assert line[:1] == b"\xff", line
        request = json.loads(line[1:])
        assert request["execute"] == "guest-sync-delimited", line
        assert list(request["arguments"]) == ["id"], line
        number = request["arguments"]["id"]
        assert isinstance(number, int) and number > 0
        return number

    def expect_end(self):
        assert self.read_bytes() == b"", "one more request"

    def send(self, data):
        self.connection.sendall(data)

    def reply(self, value):
        self.send(json.dumps({"return": value}).encode() + b"\n")

    def fail(self, desc):
        self.send(json.dumps({"error": {"class": "GenericError", "desc": desc}}).encode() + b"\n")

    def sync(self):
        self.send(b"\xff" + json.dumps({"return": self.expect_sync()}).encode() + b"\n")

    def answer(self, command, value):
        """Reads a request for the command, replies, and returns its arguments."""
        arguments = self.expect(command)
        self.reply(value)
        return arguments


class FakeAgent:
    """A socket behind which `script(peer)` talks to the one client that connects.

    with FakeAgent(tmp_path, script) as path: run(path, "guest-ping")

    What goes wrong in the script fails the test. Afterwards the client has to be gone from the
    connection, and the script has to have come to its end.
    """

    def __init__(self, folder, script):
        self.path = str(folder / "agent")
        self.script = script
        self.trouble = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        try:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(seconds(LIMIT_S))
                self.script(Peer(connection))
        except BaseException as trouble:  # all of it is the test's to know
            self.trouble = trouble

    def __enter__(self):
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread.start()
        return self.path

    def __exit__(self, exc_type, exc, traceback):
        self.thread.join(seconds(LIMIT_S))
        self.listener.close()
        if self.trouble is not None and exc_type is None:
            raise self.trouble
        assert exc_type is not None or not self.thread.is_alive(), "the script is still running"


def talk(folder, script, *words, **options):
    """Runs the client against a script that begins after the sync."""

    def synced(peer):
        peer.sync()
        script(peer)

    with FakeAgent(folder, synced) as path:
        return run(path, *words, **options)


def encoded(data):
    return base64.b64encode(data).decode()


def signal_exit(number):
    return 128 + number


SIGPIPE_EXIT = signal_exit(signal.SIGPIPE)
