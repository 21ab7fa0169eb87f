# SPDX-License-Identifier: MIT
"""The host's side of a guest: its agent channel, its monitor, and the debug shell."""
import base64
import itertools
import json
import os
import select
import shlex
import socket
import time

SYNC_IDS = itertools.count(1_000_001)


class Timeout(AssertionError):
    """Something that was expected did not happen in time."""


def seconds(value):
    """A time limit, scaled for machines that are slower than usual."""
    return value * float(os.environ.get("BELLHOP_TEST_SLOW", "1"))


def wait_until(condition, what, timeout=15, interval=0.02):
    """Polls until condition() is true and returns what it returned."""
    end = time.monotonic() + seconds(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"not within {seconds(timeout)} s: {what}")
        time.sleep(interval)


class LineSocket:
    """A unix socket with line-wise reading."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data, timeout=15):
        self.socket.settimeout(timeout)
        self.socket.sendall(data)

    def receive_some(self, timeout):
        """Whatever comes next, b"" at the end of the stream; Timeout if nothing does."""
        if not select.select([self.socket], [], [], max(timeout, 0))[0]:
            raise Timeout("nothing was received")
        return self.socket.recv(1 << 20)

    def read_until(self, mark, timeout):
        """Everything up to and with `mark`."""
        end = time.monotonic() + seconds(timeout)
        while mark not in self.pending:
            more = self.receive_some(end - time.monotonic())
            if not more:
                raise EOFError("the other end closed the connection")
            self.pending += more
        at = self.pending.index(mark) + len(mark)
        found, self.pending = self.pending[:at], self.pending[at:]
        return found

    def line(self, timeout=15):
        return self.read_until(b"\n", timeout)[:-1]


class Channel(LineSocket):
    """One connection of a host to the agent, over the socket behind the virtio port."""

    def sync(self, timeout=15, attempt_timeout=None):
        """Syncs as libguestfs or UTM do: 0xFF, guest-sync-delimited, skip to the reply's 0xFF."""
        end = time.monotonic() + timeout
        ids = []
        while True:
            ids.append(next(SYNC_IDS))
            request = {"execute": "guest-sync-delimited", "arguments": {"id": ids[-1]}}
            self.send(b"\xff" + json.dumps(request).encode() + b"\n", timeout)
            left = end - time.monotonic()
            try:
                if self._sync_reply(ids, min(left, attempt_timeout or left)):
                    return self
            except Timeout:
                if time.monotonic() > end:
                    raise

    def _sync_reply(self, ids, timeout):
        end = time.monotonic() + timeout
        while True:
            line = self.line(end - time.monotonic())
            if b"\xff" not in line:
                continue
            reply = json.loads(line[line.rindex(b"\xff") + 1 :])
            if reply.get("return") in ids:
                return True

    def send_request(self, command, **arguments):
        """Sends without waiting; underscores in names stand for dashes."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = {
                name.replace("_", "-"): value for name, value in arguments.items()
            }
        self.send(json.dumps(request).encode() + b"\n")

    def reply(self, timeout=15):
        return json.loads(self.line(timeout))

    def call(self, command, timeout=15, **arguments):
        """Sends a command and returns the whole reply."""
        self.send_request(command, **arguments)
        return self.reply(timeout)

    def run(self, command, timeout=15, **arguments):
        """Sends a command that must succeed and returns what it returned."""
        reply = self.call(command, timeout, **arguments)
        assert "return" in reply, reply
        return reply["return"]

    def execute(self, path, *arguments, timeout=15, **options):
        """guest-exec, waited for: the final guest-exec-status."""
        options.setdefault("capture_output", True)
        pid = self.run("guest-exec", path=path, arg=list(arguments), **options)["pid"]

        def finished():
            status = self.run("guest-exec-status", pid=pid)
            return status["exited"] and status

        return wait_until(finished, f"{path} exits", timeout)

    def read_file(self, path, chunk_bytes=1 << 20):
        handle = self.run("guest-file-open", path=path, mode="r")
        content = b""
        while True:
            part = self.run("guest-file-read", handle=handle, count=chunk_bytes)
            content += base64.b64decode(part["buf-b64"])
            if part["eof"]:
                break
        self.run("guest-file-close", handle=handle)
        return content


class Qmp(LineSocket):
    """The machine's monitor. Events are kept until they are asked for."""

    def __init__(self, path):
        super().__init__(path)
        self.events = []
        self.line()  # the greeting
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {
                name.replace("_", "-"): value for name, value in arguments.items()
            }
        self.send(json.dumps(request).encode() + b"\n")
        while True:
            reply = json.loads(self.line())
            if "event" in reply:
                self.events.append(reply)
                continue
            assert "return" in reply, f"{command}: {reply}"
            return reply["return"]

    def take_events(self, name):
        """The data of the events of that name that have come so far, oldest first."""
        self.run("query-status")
        found = [event.get("data", {}) for event in self.events if event["event"] == name]
        self.events = [event for event in self.events if event["event"] != name]
        return found

    def wait_event(self, name, timeout=30):
        end = time.monotonic() + seconds(timeout)
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event.get("data", {})
            message = json.loads(self.line(end - time.monotonic()))
            if "event" in message:
                self.events.append(message)


class Shell(LineSocket):
    """A root shell in the guest that does not depend on the agent."""

    def __init__(self, path):
        super().__init__(path)
        self.numbers = itertools.count(1)

    def run(self, command, timeout=15, check=True):
        """Runs a shell command; returns what it printed, or (status, output) without `check`."""
        tag = f"<{next(self.numbers)}:{id(self)}>"
        # the tag is put together by the shell, so that an echo of the command has none
        line = f"sh -c {shlex.quote(command)} </dev/null 2>&1; echo \"{tag[:3]}\"'{tag[3:]}'$?\n"
        self.send(line.encode())
        output = self.read_until(tag.encode(), timeout)[: -len(tag)].decode(errors="replace")
        status = int(self.line(timeout))
        if not check:
            return status, output
        assert status == 0, f"{command}\nended with {status}:\n{output}"
        return output
