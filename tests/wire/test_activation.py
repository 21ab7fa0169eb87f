# SPDX-License-Identifier: MIT
"""Sockets that a service manager made and passes to the agent (sd_listen_fds(3))."""

import base64
import json
import os
import socket
import subprocess

import pytest

from agent import Agent, die_with_parent, seconds, wait_until

# Says to whom the sockets belong, as only the process itself can.
STARTER = 'export LISTEN_PID=$$; exec "$@"'


class PassedTo(Agent):
    """An agent that is passed listening sockets, in place of -m and -p."""

    def __init__(self, kind, binary, sockets, names=None, args=(), config="", pid=None):
        super().__init__(kind, binary, args=args, config=config)
        self.sockets = sockets
        self.names = names
        self.pid_text = pid

    def start(self):
        self.state_directory = os.path.join(self.directory, "state")
        self.log_path = os.path.join(self.directory, "log")
        self.files = os.path.join(self.directory, "files")
        self.socket_path = self.sockets[0].getsockname()
        os.makedirs(self.state_directory, exist_ok=True)
        os.makedirs(self.files, exist_ok=True)
        config_path = os.path.join(self.directory, "config")
        with open(config_path, "w", encoding="utf-8") as file:
            file.write(self.config.replace("DIRECTORY", self.directory))
        starter = STARTER if self.pid_text is None else 'export LISTEN_PID=%s; exec "$@"' % self.pid_text
        environment = dict(os.environ, QGA_CONF=config_path, BELLHOP_CONF="/no/such/file",
                           LISTEN_FDS=str(len(self.sockets)), BELLHOP_WIRE_TEST=self.mark)
        if self.names is not None:
            environment["LISTEN_FDNAMES"] = self.names

        def pass_sockets():
            die_with_parent()
            high = [os.dup(listener.fileno()) for listener in self.sockets]
            for at, fd in enumerate(high):
                os.dup2(fd, 3 + at)

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", starter, "sh", self.binary, "-t", self.state_directory, *self.args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/",
                close_fds=False, start_new_session=True, preexec_fn=pass_sockets)
        self.seen.add(self.process.pid)
        Agent.started.append(self)
        return self

    def _end(self):
        problems = super()._end()  # a passed socket's file stays
        return [problem for problem in problems if problem != "left its socket behind"]

    def check_refused(self, text):
        assert self.process.wait(seconds(20)) == 1
        assert text in self.log(), self.log()
        self.expect_clean_end = False


@pytest.fixture
def listeners(tmp_path):
    """Listening sockets, as a service manager makes them: a function that makes one of that name."""
    made = []

    def listen(name):
        listener = socket.socket(socket.AF_UNIX)
        # beyond the descriptors that are passed, so that the one does not overwrite the other
        high = os.dup2(listener.fileno(), 100 + len(made), inheritable=False)
        listener.close()
        listener = socket.socket(fileno=high)
        listener.bind(str(tmp_path / name))
        listener.listen()
        made.append(listener)
        return listener

    yield listen
    for listener in made:
        listener.close()


@pytest.fixture
def pass_to(start_agent):
    """A function that starts an agent of the test's kind with sockets."""

    def start(*sockets, **options):
        return start_agent(PassedTo, sockets=sockets, **options)

    return start


def test_a_socket_takes_the_place_of_method_and_path(pass_to, listeners):
    """Who connects before the agent is there waits in the socket."""
    listener = listeners("socket")
    early = socket.socket(socket.AF_UNIX)
    early.connect(listener.getsockname())
    early.sendall(b'{"execute":"guest-sync","arguments":{"id":4711}}\n')
    agent = pass_to(listener)
    early.settimeout(seconds(20))
    assert json.loads(early.recv(1000)) == {"return": 4711}
    early.close()
    with agent.connect() as channel:
        assert channel.cmd("guest-ping") == {}
        handle = channel.open_file(agent.file("some", b"content"))
        assert channel.read_file(handle)[0] == b"content"
        channel.close_file(handle)
    agent.process.terminate()
    agent.process.wait(seconds(20))
    agent.expect_clean_end = False
    assert os.path.exists(listener.getsockname())  # the service manager's, for the next agent


def test_more_than_one(pass_to, listeners):
    agent = pass_to(listeners("one"), listeners("two"))
    if agent.differs("one-passed-socket"):
        assert agent.process.wait(seconds(20)) == 1
        return
    for listener in agent.sockets:
        with agent.connect(path=listener.getsockname()) as channel:
            assert channel.cmd("guest-ping") == {}


@pytest.mark.bellhop_only("one-passed-socket")
def test_sockets_for_channels_of_that_name(pass_to, listeners):
    agent = pass_to(listeners("local"), listeners("main"), names="local:bellhop.socket",
                    config="[channel local]\n[channel more]\nmethod=unix-listen\npath=DIRECTORY/more\n")
    for path in [*(listener.getsockname() for listener in agent.sockets),
                 os.path.join(agent.directory, "more")]:
        def is_there(path=path):
            return os.path.exists(path)
        wait_until(is_there, 20, path)
        wait_until(lambda: "is ready" in agent.log(), 20, "readiness")
        with agent.connect(path=path) as channel:
            assert channel.cmd("guest-ping") == {}


@pytest.mark.bellhop_only("one-passed-socket")
def test_sockets_that_are_not_for_it(pass_to, listeners):
    """The variables may have been left by somebody else: then they say nothing."""
    agent = pass_to(listeners("socket"), pid=1, args=["-m", "unix-listen", "-p", "/no/such/folder/x"])
    agent.check_refused("/no/such/folder/x")


@pytest.mark.bellhop_only("one-passed-socket")
def test_what_is_no_listening_socket(pass_to, tmp_path):
    plain = socket.socket(socket.AF_UNIX)
    os.dup2(plain.fileno(), 100, inheritable=False)
    plain = socket.socket(fileno=100)
    plain.bind(str(tmp_path / "plain"))
    pass_to(plain).check_refused("is no listening unix or vsock stream socket")
    plain.close()


@pytest.mark.bellhop_only("one-passed-socket")
def test_programs_and_the_broker_have_none_of_it(pass_to, listeners):
    listener = listeners("socket")
    agent = pass_to(listener)
    with agent.connect() as channel:
        pid = channel.cmd("guest-exec", {"path": "/bin/sh", "capture-output": True,
                                         "arg": ["-c", "env; ls -l /proc/self/fd"]})["pid"]

        def status():
            reply = channel.cmd("guest-exec-status", {"pid": pid})
            return reply if reply["exited"] else None

        output = wait_until(status, 20, "the program's end")["out-data"]
    text = base64.b64decode(output).decode()
    assert "LISTEN_" not in text
    assert "socket:" not in text
    held = [pid for pid in agent.family() if socket_is_held(pid, listener)]
    assert held == [agent.process.pid]


def socket_is_held(pid, listener):
    name = "socket:[%d]" % os.fstat(listener.fileno()).st_ino
    return name in [os.readlink(entry.path) for entry in os.scandir("/proc/%d/fd" % pid)]
