# SPDX-License-Identifier: MIT
"""Programs outlive their agent: it is killed or ended, and the next one on the same state directory
knows them and what came of them. And the other way round: a broker that is killed."""

import os
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

from agent import SlowOpen, process_state, seconds, wait_until
from programs import error_of_start, error_of_status, run, shell, start, status, wait

survives = pytest.mark.bellhop_only("exec-ends-with-the-agent")


@pytest.fixture
def restart(start_agent):
    """A function that starts the next agent on the directory of one that has ended."""
    return lambda agent, **options: start_agent(directory=agent.directory, **options)


def brokers(agent):
    """The pids of its broker, as the kernel names it."""
    found = []
    for pid in agent.family():
        with open("/proc/%d/comm" % pid) as file:
            if file.read() == "bellhop-broker\n":
                found.append(pid)
    return found


def end(agent):
    """Ends it as a service manager does that leaves other processes alone."""
    agent.expect_clean_end = False
    agent._note_family()
    agent.process.terminate()
    assert agent.process.wait(seconds(10)) == 0


def kill(agent):
    agent.kill()


def sockets(agent):
    return [name for name in os.listdir(os.path.join(agent.state_directory, "bellhop"))
            if name.endswith(".sock")]


@survives
@pytest.mark.parametrize("ending", [kill, end])
def test_fifty_programs(start_agent, restart, ending):
    agent = start_agent()
    gate = agent.path("gate")
    script = ("echo before %d; echo error %d >&2; until [ -e " + gate + " ]; do sleep 0.05; done; "
              "head -c %d /dev/zero | tr '\\0' x; exit %d")
    with agent.connect() as channel:
        pids = [shell(channel, script % (i, i, i * 5000, i), capture_output=True)
                for i in range(50)]
    ending(agent)
    assert all(process_state(pid) not in ("", "Z") for pid in pids)

    agent = restart(agent)
    with agent.connect() as channel:
        assert all(status(channel, pid) == {"exited": False} for pid in pids)
        with open(gate, "w"):
            pass
        for i, pid in enumerate(pids):
            result = wait(channel, pid)
            assert result.code == i
            assert result.out == b"before %d\n" % i + b"x" * (i * 5000)
            assert result.err == b"error %d\n" % i
            assert not result.truncated
        channel.cmd("guest-ping")
        # Nothing is left of them: neither the old broker nor its socket.
        wait_until(lambda: len(sockets(agent)) == 1, what="the end of the old broker")


@survives
def test_programs_do_not_wait_for_an_agent(start_agent, restart):
    """They run on and write as much as they like, whether there is an agent or not."""
    agent = start_agent()
    done = agent.path("done")
    with agent.connect() as channel:
        gate = agent.fifo()
        pid = shell(channel, "read x <%s; yes | head -c 20000000; echo >%s; exit 3"
                    % (gate, done), capture_output=True)
        early = shell(channel, "echo early; exit 4", capture_output=True)
        wait_until(lambda: process_state(early) == "", what="end of the first program")
    agent.kill()
    with open(gate, "w"):
        pass
    wait_until(lambda: os.path.exists(done), 20, "end of the second program")

    agent = restart(agent)
    with agent.connect() as channel:
        result = wait(channel, early)
        assert (result.code, result.out) == (4, b"early\n")
        result = wait(channel, pid)
        assert (result.code, len(result.out), result.truncated) == (3, 16 << 20, {"out"})


@survives
def test_input_goes_on(start_agent, restart):
    agent = start_agent()
    data = os.urandom(1 << 20)
    with agent.connect() as channel:
        gate = agent.fifo()
        pid = shell(channel, "read x <%s; cat" % gate, input=data, capture_output=True)
    agent.kill()
    agent = restart(agent)
    with open(gate, "w"):
        pass
    with agent.connect() as channel:
        assert wait(channel, pid).out == data


@survives
def test_agent_after_agent(start_agent, restart):
    """Each leaves a program running and a result; the last one has them all."""
    agent = start_agent()
    gate = agent.fifo()
    pids = []
    for i in range(4):
        with agent.connect() as channel:
            assert all(status(channel, pid) == {"exited": False} for pid in pids)
            pids.append(shell(channel, "read x <%s; exit %d" % (gate, i)))
        agent.kill()
        agent = restart(agent)
    assert len(sockets(agent)) == 5
    with agent.connect() as channel:
        for i, pid in enumerate(pids):
            os.kill(pid, signal.SIGKILL)
            assert wait(channel, pid).signal == signal.SIGKILL
        channel.cmd("guest-ping")
    wait_until(lambda: len(sockets(agent)) == 1, what="the end of the old brokers")


@survives
def test_new_programs_run_beside_old_ones(start_agent, restart):
    agent = start_agent(settings={"exec.running": 2})
    gates = agent.fifo("old"), agent.fifo("new")
    with agent.connect() as channel:
        old = shell(channel, "read x <%s; echo old" % gates[0], capture_output=True)
    agent.kill()
    agent = restart(agent, settings={"exec.running": 2})
    with agent.connect() as channel:
        new = shell(channel, "read x <%s; echo new" % gates[1], capture_output=True)
        # The limit is one for all of them.
        assert "exec.running" in error_of_start(channel, "true")
        for gate, pid, output in zip(gates, (old, new), (b"old\n", b"new\n")):
            with open(gate, "w"):
                pass
            assert wait(channel, pid).out == output


@survives
def test_a_background_child_outlives_everything(start_agent, restart):
    """A daemon started through guest-exec keeps a pipe that must stay open, whoever ends."""
    agent = start_agent()
    gate, alive = agent.fifo("gate"), agent.fifo("alive")
    with agent.connect() as channel:
        pid = shell(channel, "(read x <%s; echo late; echo alive >%s) & echo early"
                    % (gate, alive), capture_output=True)
        assert wait(channel, pid).out == b"early\n"
        channel.cmd("guest-ping")
    agent.kill()
    agent = restart(agent)
    agent.kill()
    with open(gate, "w"):
        pass
    with open(alive) as file:
        assert file.read() == "alive\n"
    restart(agent)


@survives
def test_a_result_is_not_lost_with_its_reply(start_agent, restart):
    """The reply was written, the agent ended before anybody can know that it was read."""
    agent = start_agent()
    with agent.connect() as channel:
        pid = shell(channel, "echo result", capture_output=True)
        assert wait(channel, pid).out == b"result\n"
        agent.kill()
    agent = restart(agent)
    with agent.connect() as channel:
        assert wait(channel, pid).out == b"result\n"
        channel.cmd("guest-ping")
        assert error_of_status(channel, pid) == "Invalid parameter 'pid'"


@survives
def test_a_broker_that_stands_still_delays_the_start_only_a_little(start_agent, restart):
    agent = start_agent()
    with agent.connect() as channel:
        pid = shell(channel, "echo late; exit 2", capture_output=True)
        wait_until(lambda: process_state(pid) == "", what="end of the program")
    broker, = brokers(agent)
    os.kill(broker, signal.SIGSTOP)
    agent.kill()
    begin = time.monotonic()
    agent = restart(agent)
    assert time.monotonic() - begin < seconds(5)
    with agent.connect() as channel:
        assert error_of_status(channel, pid) == "Invalid parameter 'pid'"
        assert run(channel, "true").code == 0
        os.kill(broker, signal.SIGCONT)
        wait_until(lambda: "return" in channel.request("guest-exec-status", {"pid": pid}),
                   what="the late broker")
    assert "does not answer" in agent.log()


@survives
def test_a_killed_brokers_socket_is_removed(start_agent, restart):
    agent = start_agent()
    with agent.connect() as channel:
        gate = agent.fifo()
        shell(channel, "read x <" + gate)
    broker, = brokers(agent)
    agent.kill()
    os.kill(broker, signal.SIGKILL)
    wait_until(lambda: process_state(broker) in ("", "Z"), what="end of the broker")
    assert len(sockets(agent)) == 1
    agent = restart(agent)
    assert len(sockets(agent)) == 1


@survives
def test_the_broker_is_killed(start_agent):
    """The agent goes on without it, and says what it cannot know and cannot do any more."""
    agent = start_agent()
    with agent.connect() as channel:
        done = shell(channel, "echo result", capture_output=True)
        wait_until(lambda: process_state(done) == "", what="end of the program")
        assert status(channel, done)["exited"]
        gate = agent.fifo()
        running = shell(channel, "read x <%s; exit 1" % gate)
        broker, = brokers(agent)
        os.kill(broker, signal.SIGKILL)
        wait_until(lambda: "was killed by signal 9" in agent.log(), what="a line in the log")
        assert "broker" in error_of_status(channel, running)
        assert "broker" in error_of_start(channel, "true")
        assert process_state(broker) == ""  # reaped
        channel.cmd("guest-ping")
        assert agent.process.poll() is None


@survives
def test_the_broker_is_killed_while_a_program_starts(start_agent):
    agent = start_agent()
    with agent.connect() as channel:
        broker, = brokers(agent)
        os.kill(broker, signal.SIGSTOP)
        for i in range(10):
            channel.post("guest-exec", {"path": "true"}, id=i)
        with agent.connect() as other:
            other.cmd("guest-ping")
        os.kill(broker, signal.SIGKILL)
        replies = channel.read_replies(10)
        assert {reply["id"] for reply in replies} == set(range(10))
        assert all("broker" in reply["error"]["desc"] for reply in replies)
        channel.cmd("guest-ping")


@survives
def test_ctrl_c_ends_the_agent_and_no_program(start_agent, restart):
    """SIGINT goes to the whole foreground process group of a terminal."""
    agent = start_agent()
    with agent.connect() as channel:
        gate = agent.fifo()
        pid = shell(channel, "read x <%s; exit 5" % gate)
    agent.expect_clean_end = False
    agent._note_family()
    os.killpg(os.getpgid(agent.pid), signal.SIGINT)
    assert agent.process.wait(seconds(10)) == 0
    agent = restart(agent)
    with agent.connect() as channel:
        assert status(channel, pid) == {"exited": False}
        with open(gate, "w"):
            pass
        assert wait(channel, pid).code == 5


@survives
def test_an_agent_that_ends_leaves_nothing_without_programs(start_agent):
    agent = start_agent()
    with agent.connect() as channel:
        assert run(channel, "true").code == 0
        channel.cmd("guest-ping")
    broker, = brokers(agent)
    end(agent)
    wait_until(lambda: process_state(broker) in ("", "Z"), what="end of the broker")
    assert sockets(agent) == []


@survives
def test_a_state_directory_that_cannot_be_used(start_agent, tmp_path):
    """Programs run all the same; the log says what does not work."""
    agent = start_agent()
    state = os.path.join(agent.state_directory, "bellhop")
    end(agent)
    wait_until(lambda: not sockets(agent), what="the end of the broker")
    shutil.rmtree(state)
    with open(state, "w"):
        pass
    agent = start_agent(directory=agent.directory)
    with agent.connect() as channel:
        assert run(channel, "echo", "x").out == b"x\n"
        channel.cmd("guest-ping")
    assert "will not be found by the next agent" in agent.log()


@survives
def test_an_agent_killed_in_the_middle_of_things(start_agent, restart):
    """A request being carried out, a program starting, results being fetched: all at once."""
    agent = start_agent()
    with agent.connect() as channel, agent.connect() as other:
        SlowOpen(agent).post(channel)
        pids = [start(other, "/bin/sh", "-c", "yes | head -c 3000000", capture_output=True)
                for _ in range(5)]
        for pid in pids:
            wait_until(lambda: process_state(pid) == "", what="end of the program")
            other.post("guest-exec-status", {"pid": pid}, id=pid)
        for i in range(20):
            other.post("guest-exec", {"path": "true"}, id=i)
        other.wait_readable()
        agent.kill()
    agent = restart(agent)
    with agent.connect() as channel:
        for pid in pids:
            assert wait(channel, pid).out == b"y\n" * 1500000
        assert run(channel, "true").code == 0


def replace_file(path, source, tail=b""):
    """As a package manager does it: a new file under the old name."""
    shutil.copy(source, path + ".new")
    with open(path + ".new", "ab") as file:
        file.write(tail)
    os.rename(path + ".new", path)


@survives
def test_an_upgrade(start_agent, tmp_path):
    """The program's file is another one when the next agent starts, and when the one after that does; the
    programs that run, their output and their results know nothing of it."""
    agent = start_agent()
    end(agent)
    binary = str(tmp_path / "bellhopd")
    replace_file(binary, agent.binary)

    gate = None
    for tail in (b"", b"a newer one", b"the newest"):
        replace_file(binary, agent.binary, tail)
        installed, agent.binary = agent.binary, binary
        agent.start()
        agent.binary = installed
        with agent.connect() as channel:
            if gate is None:
                gate = agent.fifo()
                pid = shell(channel, "echo before; read x <%s; echo after; exit 6" % gate,
                            capture_output=True)
                done = shell(channel, "exit 7")
                wait_until(lambda: process_state(done) == "", what="end of the other program")
            else:
                assert status(channel, pid) == {"exited": False}
        end(agent)
    # The broker that has them is of a file that is there no longer.
    assert any("(deleted)" in os.readlink("/proc/%d/exe" % pid) for pid in brokers(agent))
    agent.start()
    with agent.connect() as channel:
        assert wait(channel, done).code == 7
        with open(gate, "w"):
            pass
        result = wait(channel, pid)
        assert (result.code, result.out) == (6, b"before\nafter\n")
        channel.cmd("guest-ping")
    wait_until(lambda: len(sockets(agent)) == 1, what="the end of the old broker")


@survives
def test_a_broker_of_a_version_to_come(start_agent):
    """After a downgrade: its programs go on, their results cannot be had, and all else works."""
    agent = start_agent()
    end(agent)
    wait_until(lambda: not sockets(agent), what="the end of the broker")
    path = os.path.join(agent.state_directory, "bellhop", "broker-future-12345.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(seconds(20))
        answered = []

        def serve():
            connection, _ = listener.accept()
            with connection:
                magic, *_ = struct.unpack("=4IiIII", connection.recv(4096))
                connection.send(struct.pack("=4IiIII", magic, 9999, 9999, 1, 12345, 0, 0, 0))
                answered.append(connection.recv(4096))  # it goes away

        server = threading.Thread(target=serve)
        server.start()
        try:
            agent.start()
        finally:
            server.join()
        assert answered == [b""]
        with agent.connect() as channel:
            assert run(channel, "echo", "x").out == b"x\n"
    assert "is of another version" in agent.log()
    os.unlink(path)
