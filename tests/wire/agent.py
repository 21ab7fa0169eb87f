# SPDX-License-Identifier: MIT
"""A running agent and connections to it.

`Agent` starts one agent (bellhopd or the reference, qemu-ga) in a directory of its own and always
cleans up after it: the agent, its broker, and whatever they started, wherever it went since.
`Channel` is one connection. Everything that waits has a deadline, and deadlines grow with the
environment variable BELLHOP_TEST_SLOW (a factor, for sanitizer builds).
"""

import base64
import ctypes
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

import differences

SLOW = float(os.environ.get("BELLHOP_TEST_SLOW", "1"))
REFERENCE = os.environ.get("BELLHOP_REFERENCE", "/usr/sbin/qemu-ga")
MARK = "BELLHOP_WIRE_TEST"
LINE_MAX = 256 << 20

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def seconds(value):
    """A time limit, scaled for slow builds."""
    return value * SLOW


def become_subreaper():
    """Makes processes whose parent ended children of this one, so that they can be reaped."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def wait_until(condition, timeout=5.0, what="condition"):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + seconds(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("%s not met within %.1f s" % (what, seconds(timeout)))
        time.sleep(0.002)


class AgentError(Exception):
    """The agent answered with an error."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error.get("class"), error.get("desc")))
        self.error_class = error.get("class")
        self.desc = error.get("desc")


class ChannelClosed(Exception):
    """The agent closed the connection."""


# --- processes -----------------------------------------------------------------------------------


def _read_proc(pid, name):
    try:
        with open("/proc/%d/%s" % (pid, name), "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _parents():
    """pid -> ppid of every live process (zombies included)."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _read_proc(int(name), "stat")
            if stat:
                parents[int(name)] = int(stat[stat.rindex(b")") + 2:].split()[1])
    return parents


def process_state(pid):
    """The kernel's letter for a process ("S", "Z", ...), or "" if there is none."""
    stat = _read_proc(pid, "stat")
    return chr(stat[stat.rindex(b")") + 2]) if stat else ""


def status_kib(pid, field):
    """A value of /proc/PID/status in KiB (VmRSS, VmHWM), 0 if the process is gone."""
    for line in _read_proc(pid, "status").splitlines():
        if line.startswith(field.encode() + b":"):
            return int(line.split()[1])
    return 0


# --- agents --------------------------------------------------------------------------------------


def wait_for_listener(path):
    """An agent is waited for by its own socket: another channel's may come a moment later."""
    def listens():
        # A line of the kernel's for each socket: its flags (a listener's are 00010000), its path.
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
            lines = [line.split(maxsplit=7) for line in sockets]
        return any(line[3] == "00010000" and line[-1].strip() == path for line in lines)

    wait_until(listens, 10, "a listener at %s" % path)


class Agent:
    """One agent process. `kind` is "bellhop" or "reference".

    args: further command line arguments. config: the text of a configuration file, in which
    DIRECTORY stands for the agent's own. env: changes to the environment (None removes). settings: {"limits.handles": 3} becomes --set (bellhop only).
    directory: a directory to use again (a second life on the same state); it is then not removed.
    """

    started = []  # all that were and are not cleaned up

    def __init__(self, kind, binary, args=(), config=None, env=None, settings=None, directory=None):
        self.kind = kind
        self.binary = binary
        self.args = list(args)
        self.config = config
        self.env_changes = env or {}
        self.settings = settings or {}
        self.owns_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="bellhop-wire-")
        self.mark = uuid.uuid4().hex
        self.process = None
        self.channels = []
        self.seen = set()  # every process that ever belonged to this agent
        self.expect_clean_end = True

    def __repr__(self):
        return "<%s %s>" % (self.kind, self.directory)

    # -- life

    def start(self):
        """Starts the agent and waits until it answers."""
        self.socket_path = os.path.join(self.directory, "socket")
        self.state_directory = os.path.join(self.directory, "state")
        self.log_path = os.path.join(self.directory, "log")
        self.files = os.path.join(self.directory, "files")
        os.makedirs(self.state_directory, exist_ok=True)
        os.makedirs(self.files, exist_ok=True)
        config_path = os.path.join(self.directory, "config")
        with open(config_path, "w") as file:
            file.write((self.config or "").replace("DIRECTORY", self.directory))
        os.chmod(config_path, 0o644)  # with a policy in it, nobody else may write it

        command = [self.binary, "-m", "unix-listen", "-p", self.socket_path,
                   "-t", self.state_directory] + self.args
        for name, value in self.settings.items():
            command += ["--set", "%s=%s" % (name, value)]

        environment = dict(os.environ, QGA_CONF=config_path,
                           BELLHOP_CONF=os.path.join(self.directory, "no-other-config"),
                           BELLHOP_POLICY=os.path.join(self.directory, "no-policy"))
        environment[MARK] = self.mark
        environment.pop("PYTEST_CURRENT_TEST", None)
        self._quiet_sanitizers(environment)
        for name, value in self.env_changes.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                cwd="/", start_new_session=True, preexec_fn=die_with_parent)
        self.seen.add(self.process.pid)
        Agent.started.append(self)
        try:
            wait_until(self._is_up, 10, "start of %s" % self.binary)
        except BaseException:
            self.expect_clean_end = False
            raise
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError("%s ended with %d at its start:\n%s" % (
                self.binary, self.process.returncode, self.log()))
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket_path)
            except OSError:
                return False
        return True

    def _quiet_sanitizers(self, environment):
        """Memory tests want freed memory back, also from a sanitizer's quarantine."""
        options = environment.get("ASAN_OPTIONS", "")
        environment["ASAN_OPTIONS"] = ":".join(filter(None, [
            options, "quarantine_size_mb=1", "thread_local_quarantine_size_kb=64",
            "allocator_release_to_os_interval_ms=0"]))

    def stop(self):
        """Ends the agent as its service manager would, and checks that it does so properly."""
        for channel in self.channels:
            channel.close()
        if self.process is None:
            return
        self._note_family()
        problems = []
        if self.process.poll() is None:
            if not self.is_reference:  # how that one ends is not what is tested
                problems += self._end()
        elif not self.is_reference:
            problems.append("was not running any more (%d)" % self.process.returncode)
        self._kill_family()
        problems += self.sanitizer_reports()
        if problems and self.expect_clean_end:
            raise AssertionError("%s %s\n--- its log:\n%s" % (
                self.kind, "; ".join(problems), self.log()[-8000:]))

    def _end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds(10))
        except subprocess.TimeoutExpired:
            return ["did not end within %.0f s of SIGTERM" % seconds(10)]
        if self.process.returncode != 0:
            return ["ended with %d after SIGTERM" % self.process.returncode]
        return ["left its socket behind"] if os.path.exists(self.socket_path) else []

    def kill(self):
        """SIGKILL to the agent alone; a broker of it lives on."""
        self._note_family()
        self.expect_clean_end = False
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self._cleanup()
            raise

    def __exit__(self, exc_type, exc, traceback):
        try:
            try:
                self.stop()
            except AssertionError:
                if exc_type is None:
                    raise
        finally:
            self._cleanup()

    def has_fallen(self):
        """True if it ended by itself."""
        return self.process.poll() is not None and self.expect_clean_end

    def _cleanup(self):
        if self in Agent.started:
            Agent.started.remove(self)
        self._kill_family()
        if self.owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def family(self):
        """The pids of the agent and everything that descends from it, zombies left out."""
        mark = ("%s=%s" % (MARK, self.mark)).encode()
        parents = _parents()
        members = {pid for pid in parents
                   if mark in _read_proc(pid, "environ").split(b"\0")}
        members |= {pid for pid in self.seen if pid in parents}
        members.discard(os.getpid())
        grew = True
        while grew:
            children = {pid for pid, parent in parents.items()
                        if parent in members and pid not in members}
            members |= children
            grew = bool(children)
        return {pid for pid in members if process_state(pid) not in ("", "Z")}

    def _note_family(self):
        self.seen |= self.family()

    def _kill_family(self):
        """Until nothing is left; what was started meanwhile has a member as its parent."""
        for _ in range(200):
            members = self.family()
            self.seen |= members
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._reap()
            if not members:
                break
            time.sleep(0.005)
        self.seen = set()

    def _reap(self):
        if self.process is not None:
            try:
                self.process.wait(seconds(5) if self.process.poll() is None else 0)
            except subprocess.TimeoutExpired:
                pass
        for pid in self.seen:
            if self.process is None or pid != self.process.pid:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass

    # -- looking at it

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_reference(self):
        return self.kind == "reference"

    def differs(self, name):
        """True if this agent is on the reference's side of a known difference."""
        return differences.ask(name, self.kind)

    def log(self):
        try:
            with open(self.log_path, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def sanitizer_reports(self):
        return [line for line in self.log().splitlines()
                if "Sanitizer" in line or "runtime error:" in line][:5]

    def has_sanitizer(self, name):
        """name: "asan" or "tsan"."""
        with open("/proc/%d/maps" % self.pid) as maps:
            return "lib%s" % name in maps.read()

    def rss(self):
        """Resident memory of the agent and all its children in bytes."""
        return sum(status_kib(pid, "VmRSS") for pid in self.family()) * 1024

    def rss_peak(self):
        """The sum of the peaks of the agent and its children so far, in bytes."""
        return sum(status_kib(pid, "VmHWM") for pid in self.family()) * 1024

    def threads(self):
        return len(os.listdir("/proc/%d/task" % self.pid))

    def cpu_seconds(self):
        """Processor time used by the agent and its live children."""
        ticks = 0
        for pid in self.family():
            fields = _read_proc(pid, "stat")
            if fields:
                fields = fields[fields.rindex(b")") + 2:].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def open_paths(self):
        """What the agent's and its children's descriptors point to, one entry for each."""
        paths = []
        for pid in self.family():
            try:
                names = os.listdir("/proc/%d/fd" % pid)
            except OSError:
                continue
            for name in names:
                try:
                    paths.append(os.readlink("/proc/%d/fd/%s" % (pid, name)))
                except OSError:
                    pass
        return paths

    def holds_open(self, path):
        return path in self.open_paths()

    def opens_in_progress(self):
        """How many of the agent's threads are inside of an open()."""
        numbers = {"x86_64": (b"2", b"257"), "aarch64": (b"56",)}[os.uname().machine]
        return sum(_read_proc(self.pid, "task/%s/syscall" % task).split(b" ")[0] in numbers
                   for task in os.listdir("/proc/%d/task" % self.pid))

    # -- talking to it

    def connect(self, sync=True, path=None):
        """A new connection. It is in sync unless that is not wanted."""
        if path:
            wait_for_listener(path)
        channel = Channel(self, path or self.socket_path)
        self.channels.append(channel)
        if sync:
            channel.sync()
        return channel

    def path(self, name):
        """A path for a test's file."""
        return os.path.join(self.files, name)

    def file(self, name, content=b""):
        """Makes a file and returns its path."""
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def fifo(self, name="fifo"):
        """Makes a FIFO and returns its path. Opening it for reading is a command that takes
        exactly until the test opens its other end."""
        path = self.path(name)
        os.mkfifo(path)
        return path


class SlowOpen:
    """A command that takes exactly as long as the test wants: guest-file-open of a FIFO without a
    writer, which ends when the test opens the other end."""

    def __init__(self, agent, name="slow"):
        self.agent = agent
        self.path = agent.fifo(name)
        self.writer = None

    def post(self, channel, **members):
        """Sends it and returns when it has begun."""
        before = self.agent.opens_in_progress()
        channel.send(self.request(**members))
        wait_until(lambda: self.agent.opens_in_progress() > before, what="begin of the open")
        return self

    def request(self, **members):
        return dict({"execute": "guest-file-open", "arguments": {"path": self.path}}, **members)

    def finish(self):
        """Lets it end. Returns when the agent's end is open."""
        def opened():
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK) + 1
            except OSError:
                return 0  # nobody has begun to open it
        self.writer = wait_until(opened, what="reader of " + self.path) - 1

    def wait_closed(self):
        """Waits until the agent has no descriptor of it any more."""
        os.close(self.writer)
        wait_until(lambda: not self.agent.holds_open(self.path), what="closed " + self.path)


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# --- connections ---------------------------------------------------------------------------------


class Channel:
    """One connection to an agent's socket."""

    def __init__(self, agent, path):
        self.agent = agent
        self.received = bytearray()
        self.searched = 0  # no newline in received before this
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.poll = select.poll()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        if self in self.agent.channels:
            self.agent.channels.remove(self)

    # -- bytes

    def send(self, data, timeout=10.0):
        """Sends bytes, or an object as one line of JSON."""
        if isinstance(data, dict):
            data = json.dumps(data).encode() + b"\n"
        elif isinstance(data, str):
            data = data.encode()
        view = memoryview(data)
        end = time.monotonic() + seconds(timeout)
        while view:
            try:
                view = view[self.socket.send(view):]
            except BlockingIOError:
                # It may be waiting for us to read.
                if self._wait(select.POLLOUT | select.POLLIN, end, "sending") & select.POLLIN:
                    self.fill()
            except (BrokenPipeError, ConnectionResetError):
                raise ChannelClosed("while sending") from None

    def half_close(self):
        """Tells the agent that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def wait_readable(self, timeout=10.0):
        """Waits until something has come, and leaves it in the socket."""
        self._wait(select.POLLIN, time.monotonic() + seconds(timeout), "receiving")

    def fill(self, timeout=0.0):
        """Takes in what has arrived, waiting for it up to `timeout`; False if there was nothing."""
        self.poll.register(self.socket, select.POLLIN)
        if not self.poll.poll(timeout * 1000):
            return False
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ChannelClosed("agent closed the connection; %d bytes of an unfinished line"
                                % len(self.received))
        self.received += data
        return True

    def read_line(self, timeout=5.0):
        """The next line, without its newline."""
        end = time.monotonic() + seconds(timeout)
        while True:
            at = self.received.find(b"\n", self.searched)
            if at >= 0:
                line = bytes(self.received[:at])
                del self.received[:at + 1]
                self.searched = 0
                return line
            self.searched = len(self.received)
            assert self.searched < LINE_MAX, "a line without an end"
            left = end - time.monotonic()
            if left <= 0 or not self.fill(left):
                raise TimeoutError("no line within %.2f s; so far: %r" % (
                    seconds(timeout), bytes(self.received[:200])))

    def read_to_end(self, timeout=5.0):
        """Everything up to the end of the stream."""
        end = time.monotonic() + seconds(timeout)
        try:
            while time.monotonic() < end:
                self.fill(max(end - time.monotonic(), 0))
        except ChannelClosed:
            data = bytes(self.received)
            self.received.clear()
            self.searched = 0
            return data
        raise TimeoutError("no end of the stream within %.2f s" % seconds(timeout))

    def expect_silence(self, duration):
        """Fails if anything arrives within `duration` seconds (not scaled)."""
        end = time.monotonic() + duration
        while True:
            left = end - time.monotonic()
            if self.received or (left > 0 and self.fill(left)):
                raise AssertionError("unexpected: %r" % bytes(self.received[:400]))
            if left <= 0:
                return

    def _wait(self, events, end, what):
        self.poll.register(self.socket, events)
        left = end - time.monotonic()
        ready = self.poll.poll(left * 1000) if left > 0 else []
        if not ready:
            raise TimeoutError("%s: no progress" % what)
        return ready[0][1]

    # -- replies

    def read_reply(self, timeout=5.0):
        """The next reply, parsed; checks that the line is one that an agent may send."""
        return parse_reply(self.read_line(timeout))

    def read_replies(self, count, timeout=5.0):
        end = time.monotonic() + seconds(timeout)
        replies = []
        while len(replies) < count:
            left = max(end - time.monotonic(), 0.001)
            replies.append(self.read_reply(left / SLOW))
        return replies

    def request(self, execute, arguments=None, timeout=5.0, **members):
        """Sends a request and returns its whole reply."""
        self.post(execute, arguments, **members)
        return self.read_reply(timeout)

    def post(self, execute, arguments=None, **members):
        """Sends a request without waiting for its reply."""
        message = {"execute": execute}
        if arguments is not None:
            message["arguments"] = arguments
        message.update(members)
        self.send(message)

    def cmd(self, execute, arguments=None, timeout=5.0, **members):
        """Sends a request and returns what its reply returns, or raises AgentError."""
        reply = self.request(execute, arguments, timeout, **members)
        if "error" in reply:
            raise AgentError(reply["error"])
        return reply["return"]

    def sync(self, timeout=5.0):
        """0xFF and a delimited sync; skips everything before its reply. Returns what was skipped."""
        number = random.getrandbits(48)
        self.send(b"\xff" + json.dumps({"execute": "guest-sync-delimited",
                                        "arguments": {"id": number}}).encode() + b"\n", timeout)
        return self.read_until_sync(number, timeout)

    def read_until_sync(self, number, timeout=5.0):
        """Reads up to the reply of the delimited sync `number`; returns the lines before it."""
        end = time.monotonic() + seconds(timeout)
        skipped = []
        while True:
            line = self.read_line(max(end - time.monotonic(), 0.001) / SLOW)
            if line.startswith(b"\xff") and json.loads(line[1:]) == {"return": number}:
                return skipped
            skipped.append(line)

    # -- files

    def open_file(self, path, mode=None, **members):
        arguments = {"path": path}
        if mode is not None:
            arguments["mode"] = mode
        return self.cmd("guest-file-open", arguments, **members)

    def close_file(self, handle):
        return self.cmd("guest-file-close", {"handle": handle})

    def read_file(self, handle, count=None, timeout=5.0):
        """guest-file-read with the bytes decoded: (bytes, eof)."""
        arguments = {"handle": handle}
        if count is not None:
            arguments["count"] = count
        reply = self.cmd("guest-file-read", arguments, timeout)
        data = base64.b64decode(reply["buf-b64"], validate=True)
        assert reply["count"] == len(data)
        assert set(reply) == {"count", "buf-b64", "eof"}
        return data, reply["eof"]

    def write_file(self, handle, data, timeout=5.0):
        """guest-file-write; returns the count."""
        reply = self.cmd("guest-file-write",
                         {"handle": handle, "buf-b64": base64.b64encode(data).decode()}, timeout)
        assert set(reply) == {"count", "eof"}
        return reply["count"]

    def seek_file(self, handle, offset, whence):
        """guest-file-seek; returns (position, eof)."""
        reply = self.cmd("guest-file-seek",
                         {"handle": handle, "offset": offset, "whence": whence})
        assert set(reply) == {"position", "eof"}
        return reply["position"], reply["eof"]


class Number(str):
    """A JSON number as it was written, for comparing digit for digit."""


def parse_reply(line, exact_numbers=False):
    """Parses one line, which must be a reply as it may stand on the wire."""
    assert line, "a blank line"
    if line.startswith(b"\xff"):
        line = line[1:]
    assert all(0x20 <= byte < 0x7f for byte in line) if len(line) < 4096 else line.isascii(), \
        "not printable ASCII: %r" % line[:400]

    def members(pairs):
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), "a member twice: %r" % line[:400]
        return dict(pairs)

    kinds = {"parse_int": Number, "parse_float": Number} if exact_numbers else {}
    reply = json.loads(line, object_pairs_hook=members, parse_constant=_not_json, **kinds)
    assert isinstance(reply, dict), line[:400]
    assert set(reply) <= {"return", "error", "id"}, line[:400]
    assert ("return" in reply) != ("error" in reply), line[:400]
    if "error" in reply:
        assert set(reply["error"]) == {"class", "desc"}, line[:400]
        assert reply["error"]["class"] in ("GenericError", "CommandNotFound"), line[:400]
        assert isinstance(reply["error"]["desc"], str) and reply["error"]["desc"], line[:400]
    return reply


def _not_json(text):
    raise AssertionError("%s is not JSON" % text)
