# SPDX-License-Identifier: MIT
"""How the agent is started: how a shell (-d) and systemd learn that it is ready, and its channels."""

import os
import signal
import socket
import subprocess

import pytest

from agent import SlowOpen, seconds, wait_until

READY = [b"READY=1", b"STOPPING=1"]


def arguments(agent, directory):
    """A second agent's command line, with everything in `directory`."""
    return [agent.binary, "-m", "unix-listen", "-p", str(directory / "socket"), "-t",
            str(directory / "state"), "-f", str(directory / "pid"), "-l", str(directory / "log")]


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path


def environment(**more):
    return dict(os.environ, QGA_CONF="", BELLHOP_CONF="", **more)


@pytest.mark.bellhop_only("daemon-waits-until-ready")
def test_daemon(agent, directory):
    started = subprocess.run(arguments(agent, directory) + ["-d"], capture_output=True,
                             timeout=seconds(20), check=False, env=environment())
    assert started.returncode == 0, started.stderr
    # It serves by now: that is what its parent waited for.
    pid = int((directory / "pid").read_text())
    try:
        with agent.connect(path=str(directory / "socket")) as channel:
            assert channel.cmd("guest-ping") == {}
        assert os.getsid(pid) == pid
        assert os.readlink("/proc/%d/cwd" % pid) == "/"
        for number in range(3):
            assert os.readlink("/proc/%d/fd/%d" % (pid, number)) == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (directory / "pid").exists() and not (directory / "socket").exists(),
               what="the daemon's end")


@pytest.mark.bellhop_only("daemon-waits-until-ready")
def test_daemon_that_cannot_start_says_so(agent, directory):
    command = [a.replace(str(directory / "socket"), "/no/such/directory/socket")
               for a in arguments(agent, directory) if a != "-l" and a != str(directory / "log")]
    started = subprocess.run(command + ["-d"], capture_output=True, timeout=seconds(20),
                             check=False, env=environment())
    assert started.returncode == 1
    assert b"/no/such/directory/socket" in started.stderr
    assert not (directory / "pid").exists()


def broker_of(pid):
    """The pid of an agent's broker, as the kernel names it."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        for child in file.read().split():
            with open("/proc/%s/comm" % child, encoding="ascii") as name:
                if name.read() == "bellhop-broker\n":
                    return int(child)
    raise AssertionError("the agent has no broker")


@pytest.mark.bellhop_only("no-sd-notify")
def test_an_agent_without_its_broker_has_itself_started_again(agent, directory):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(seconds(20))
        process = subprocess.Popen(arguments(agent, directory), stderr=subprocess.DEVNULL,
                                   env=environment(NOTIFY_SOCKET=str(directory / "notify")))
        try:
            assert manager.recv(100) == READY[0]
            os.kill(broker_of(process.pid), signal.SIGKILL)
            assert manager.recv(100) == READY[1]
            assert process.wait(seconds(20)) == 1
        finally:
            process.kill()
            process.wait()
    assert "the service manager" in (directory / "log").read_text()


@pytest.mark.bellhop_only("no-sd-notify")
@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_for_systemd(agent, directory, abstract):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = "@bellhop-test-%d" % os.getpid() if abstract else str(directory / "notify")
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(seconds(20))
        process = subprocess.Popen(arguments(agent, directory), stderr=subprocess.DEVNULL,
                                   env=environment(NOTIFY_SOCKET=name))
        try:
            assert manager.recv(100) == READY[0]
            with agent.connect(path=str(directory / "socket")) as channel:
                assert channel.cmd("guest-ping") == {}
        finally:
            process.terminate()
        assert manager.recv(100) == READY[1]
        assert process.wait(seconds(20)) == 0


@pytest.mark.bellhop_only("one-channel")
def test_several_channels(start_agent):
    """Each is served while another one has something slow, and their requests share the lanes."""
    agent = start_agent(config="[channel second]\nmethod=unix-listen\npath=DIRECTORY/second\n")
    second = os.path.join(agent.directory, "second")
    slow = SlowOpen(agent)
    with agent.connect() as one, agent.connect(path=second) as other:
        slow.post(one)
        assert other.cmd("guest-ping") == {}
        handle = other.open_file(agent.file("shared", b"0123456789"))
        slow.finish()
        one.read_reply()
        assert one.read_file(handle, 5)[0] == b"01234"
        assert other.read_file(handle, 5)[0] == b"56789"
    agent.process.terminate()
    assert agent.process.wait(seconds(10)) == 0
    agent.expect_clean_end = False
    assert not os.path.exists(second)


@pytest.mark.bellhop_only("logs-to-files-only")
@pytest.mark.parametrize("kind_of_log", ["journal", "syslog"])
def test_log_to_a_logger(start_agent, tmp_path, kind_of_log):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        path = str(tmp_path / "logger")
        logger.bind(path)
        logger.settimeout(seconds(20))
        agent = start_agent(args=["-v", "-l", "%s:%s" % (kind_of_log, path)])
        received = b""
        while b"is ready" not in received:
            received = logger.recv(10000)
        if kind_of_log == "journal":
            fields = dict(line.split(b"=", 1) for line in received.splitlines())
            assert fields[b"PRIORITY"] == b"6"
            assert fields[b"MESSAGE"].startswith(b"bellhopd ")
            assert fields[b"SYSLOG_IDENTIFIER"] == b"bellhopd"
        else:
            assert received.startswith(b"<30>bellhopd[%d]: bellhopd " % agent.pid)
        assert agent.log() == ""
        with agent.connect() as channel:
            for _ in range(2000):  # nobody takes the log, and nobody waits for that
                assert channel.cmd("guest-ping") == {}
        while b"guest-ping" not in received:
            received = logger.recv(10000)
        while b"lost" not in received:  # what did not fit is counted
            received = logger.recv(10000)


@pytest.mark.bellhop_only("logs-to-files-only")
def test_no_logger(agent, directory):
    for name in ["journal", "syslog"]:
        command = arguments(agent, directory)
        command[-1] = "%s:%s" % (name, directory / "nothing")
        started = subprocess.run(command, capture_output=True, timeout=seconds(20), check=False,
                                 env=environment())
        assert started.returncode == 1
        assert b"nothing: No such file or directory" in started.stderr
