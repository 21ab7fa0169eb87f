# SPDX-License-Identifier: MIT
"""The agent on a serial line, which here is a pseudo terminal."""

import errno
import os
import random
import select
import subprocess
import termios

import pytest

from agent import Agent, Channel, seconds, wait_until


class Line:
    """The host's end of a line, with what Channel needs of a socket."""

    def __init__(self, path):
        """Makes a line, as it comes: in canonical mode, with echo. Its device is at `path`."""
        self.fd, device = os.openpty()
        self.path = path
        try:
            os.symlink(os.ttyname(device), path)
        finally:
            os.close(device)
        os.set_blocking(self.fd, False)

    def fileno(self):
        return self.fd

    def send(self, data):
        return os.write(self.fd, data)

    def recv(self, size):
        try:
            return os.read(self.fd, size)
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the device open
                raise
            return b""

    def close(self):
        """Hangs up."""
        if self.fd >= 0:
            os.close(self.fd)
            os.unlink(self.path)
            self.fd = -1

    def is_raw(self):
        flags = termios.tcgetattr(self.fd)
        return not flags[3] & (termios.ICANON | termios.ECHO)


class LineChannel(Channel):
    """A connection by the line. There is nothing to connect to: it is there once the agent has set
    it up."""

    def __init__(self, agent, line):  # pylint: disable=super-init-not-called
        self.agent = agent
        self.received = bytearray()
        self.searched = 0
        self.socket = line
        self.poll = select.poll()


class SerialAgent(Agent):
    """An agent on a line of the test's own."""

    def __init__(self, kind, binary, **options):
        super().__init__(kind, binary, **options)
        self.device = os.path.join(self.directory, "line")
        self.args += ["-m", "isa-serial", "-p", self.device]  # the last ones count
        self.line = Line(self.device)

    def plug(self):
        self.line = Line(self.device)

    def _is_up(self):
        assert self.process.poll() is None, self.log()
        return self.line.is_raw()

    def connect(self, sync=True, path=None):
        wait_until(self._is_up, 20, "set-up of the line")
        channel = LineChannel(self, self.line)
        self.channels.append(channel)
        if sync:
            channel.sync()
        return channel


@pytest.fixture
def agent(start_agent):
    return start_agent(SerialAgent)


def test_conversation(agent):
    channel = agent.connect()
    assert channel.cmd("guest-ping") == {}
    assert channel.cmd("guest-sync", {"id": 7}) == 7
    assert channel.cmd("guest-info")["version"]
    assert channel.request("guest-nonsense")["error"]["class"] == "CommandNotFound"
    channel.send(b'{"execute":"guest-pi')
    channel.sync()  # 0xFF gets through, too
    channel.expect_silence(0.05)  # no echo of anything


def test_files(agent):
    """More than any buffer of the line holds, both ways."""
    channel = agent.connect()
    data = random.Random(1).randbytes(200000)
    path = agent.path("data")
    handle = channel.open_file(path, "w+")
    for at in range(0, len(data), 50000):
        assert channel.write_file(handle, data[at:at + 50000], 20) == 50000
    channel.cmd("guest-file-flush", {"handle": handle})
    channel.seek_file(handle, 0, 0)
    read = b""
    while len(read) < len(data):
        read += channel.read_file(handle, len(data), 20)[0]
    channel.close_file(handle)
    assert read == data
    with open(path, "rb") as file:
        assert file.read() == data


@pytest.mark.bellhop_only("serial-line-is-not-opened-again")
def test_hung_up_and_back(start_agent):
    """What belongs to no connection survives: handles."""
    agent = start_agent(SerialAgent, args=["-r"])
    channel = agent.connect()
    handle = channel.open_file(agent.file("some", b"0123456789"))
    for at in range(3):
        channel.close()
        agent.plug()
        channel = agent.connect()
        assert channel.read_file(handle, 2)[0] == b"0123456789"[2 * at:2 * at + 2]


@pytest.mark.bellhop_only("serial-line-is-not-opened-again")
def test_hung_up_is_waited_for_without_turning_in_circles(start_agent):
    agent = start_agent(SerialAgent, args=["-r"])
    agent.connect().close()
    wait_until(lambda: "waiting for " in agent.log(), 20, "the agent's noticing")
    os.mkdir(agent.device)  # as what cannot be opened, and that no event may ever end
    before = agent.cpu_seconds()
    select.select([], [], [], 2)
    assert agent.cpu_seconds() - before < 0.5
    os.rmdir(agent.device)


@pytest.mark.bellhop_only("serial-line-is-not-opened-again")
def test_hung_up_without_retry_is_the_end(agent):
    agent.connect().close()
    assert agent.process.wait(seconds(20)) == 1
    assert "is gone" in agent.log()
    agent.expect_clean_end = False


@pytest.mark.bellhop_only("anything-is-a-serial-line")
def test_no_line(agent, tmp_path):
    """What is no line is not served, and that is said."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    for path in [plain, tmp_path / "nothing", "/dev/null"]:
        started = subprocess.run([agent.binary, "-m", "isa-serial", "-p", str(path), "-t", str(tmp_path)],
                                 stdin=subprocess.DEVNULL, capture_output=True, check=False,
                                 timeout=seconds(20), env=dict(os.environ, QGA_CONF="/none"))
        assert started.returncode == 1
        assert str(path).encode() in started.stderr
    assert plain.read_bytes() == b""


@pytest.mark.bellhop_only("one-channel")
def test_a_line_as_a_further_channel(start_agent, tmp_path):
    """It is served beside the other channel, and that one goes on when it is lost."""
    line = Line(str(tmp_path / "line"))
    agent = start_agent(config="[channel line]\nmethod=isa-serial\npath=%s\n" % line.path)
    wait_until(line.is_raw, 20, "set-up of the line")
    by_line = LineChannel(agent, line)
    by_line.sync()
    with agent.connect() as channel:
        handle = channel.open_file(agent.file("some", b"0123456789"))
        assert by_line.read_file(handle, 4)[0] == b"0123"
        line.close()
        wait_until(lambda: "channel line: %s is gone" % line.path in agent.log(), 20, "its loss")
        assert channel.read_file(handle, 4)[0] == b"4567"
