# SPDX-License-Identifier: MIT
"""guest-exec and guest-exec-status: what a program gets, what comes back, and what goes wrong."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from agent import AgentError, SlowOpen, process_state, seconds, wait_until
from programs import (encoded, error_of_start, error_of_status, quickly, run, run_shell, shell,
                      start, status, wait)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def hanging_ends_are_not_ours(request):
    """The reference sometimes misses the SIGTERM that is to end it: not what is tested here."""
    if "shared_agent" in request.fixturenames:
        agent = request.getfixturevalue("shared_agent")
        agent.expect_clean_end = not agent.is_reference


def exec_error(agent, path, cause):
    """What the agent says when a program cannot be executed."""
    text = "Failed to execute child process \u201c%s\u201d (%s)" % (path, cause)
    if agent.differs("exec-errors-are-wrapped"):
        text = "Guest agent command failed, error was '%s'" % text
    return text


def script(agent, name, text, mode=0o755):
    path = agent.path("%s%d" % (name, random.getrandbits(40)))
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


# --- the result ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_code(shared, code):
    result = run_shell(shared, "exit %d" % code)
    assert result.reply == {"exited": True, "exitcode": code}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_signal(shared, number):
    result = run_shell(shared, "kill -%d $$" % number)
    assert result.reply == {"exited": True, "signal": number}


def test_both_streams(shared):
    result = run_shell(shared, "echo out; echo err >&2; exit 3")
    assert result.reply == {
        "exited": True, "exitcode": 3, "out-data": encoded(b"out\n"), "out-truncated": False,
        "err-data": encoded(b"err\n"), "err-truncated": False}


def test_a_stream_without_output_is_left_out(shared):
    assert set(run_shell(shared, "echo").reply) == {"exited", "exitcode", "out-data",
                                                    "out-truncated"}
    assert set(run_shell(shared, "echo >&2").reply) == {"exited", "exitcode", "err-data",
                                                        "err-truncated"}


@pytest.mark.parametrize("members", [{}, {"capture_output": False}])
def test_output_that_is_not_wanted(shared, members):
    pid = shell(shared, "echo out; echo err >&2", **members)
    assert wait(shared, pid).reply == {"exited": True, "exitcode": 0}


@pytest.mark.bellhop_only("exec-captures-both-or-nothing")
@pytest.mark.parametrize("mode, out, err", [
    ("none", b"", b""), ("stdout", b"1\n3\n", b""), ("stderr", b"", b"2\n"),
    ("separated", b"1\n3\n", b"2\n"), ("merged", b"1\n2\n3\n", b"")])
def test_capture_modes(shared, mode, out, err):
    result = run_shell(shared, "echo 1; echo 2 >&2; echo 3", capture_output=mode)
    assert (result.out, result.err) == (out, err)


@pytest.mark.bellhop_only("exec-captures-both-or-nothing")
def test_merged_keeps_the_order_of_writes(shared):
    result = run_shell(shared, "i=0; while [ $i -lt 2000 ]; do echo $i; echo e$i >&2; "
                               "i=$((i+1)); done", capture_output="merged")
    assert result.out == b"".join(b"%d\ne%d\n" % (i, i) for i in range(2000))


def test_wrong_capture_modes(shared_agent, shared):
    expected = "GuestExecCaptureOutput"
    if shared_agent.differs("exec-captures-both-or-nothing"):
        expected = "boolean"
    for value in (3, None, [], {}):
        assert error_of_start(shared, "/bin/true", capture_output=value) == (
            "Invalid parameter type for 'capture-output', expected: " + expected)
    if expected == "boolean":
        return
    for value in ("loud", "", "Merged", "merged "):
        assert error_of_start(shared, "/bin/true", capture_output=value) == (
            "Parameter 'capture-output' does not accept value '%s'" % value)


def test_bytes_come_back_as_they_are(shared):
    data = bytes(range(256)) * 300 + b"\xff\x00"
    result = run(shared, "/bin/cat", input=data)
    assert result.out == data


def test_big_output(shared):
    """More than is encoded on the loop."""
    data = random.Random(1).randbytes(5 * MIB + 1)
    result = run_shell(shared, "tee /dev/stderr", input=data)
    assert result.code == 0
    assert result.out == data and result.err == data
    assert not result.truncated


def test_output_is_cut_at_16_mib(shared):
    """And the program does not notice: it comes to its end."""
    result = run_shell(shared, "yes | head -c 16777216; echo to the end >&2; exit 9")
    assert (len(result.out), result.truncated, result.code) == (16 * MIB, set(), 9)
    result = run_shell(shared, "yes | head -c 40000000; echo to the end >&2; exit 9")
    assert result.out == b"y\n" * (8 * MIB)
    assert result.truncated == {"out"}
    assert (result.err, result.code) == (b"to the end\n", 9)
    result = run_shell(shared, "yes | head -c 16777217 >&2")
    assert (len(result.err), result.out, result.truncated) == (16 * MIB, b"", {"err"})


def test_status_of_a_running_program(shared_agent, shared):
    gate = shared_agent.fifo("running")
    pid = shell(shared, "echo early; read x <" + gate, capture_output=True)
    for _ in range(3):
        assert status(shared, pid) == {"exited": False}
    with open(gate, "w"):
        pass
    assert wait(shared, pid).out == b"early\n"


def test_status_of_nobody(shared):
    for pid in (1, os.getpid(), 0, -1, 1 << 40, (1 << 63) - 1, -(1 << 63)):
        assert error_of_status(shared, pid) == "Invalid parameter 'pid'"


def test_a_status_is_had_once(shared):
    """Not more often than with the classic agent: what was seen is gone."""
    pid = shell(shared, "exit 5")
    assert wait(shared, pid).code == 5
    assert error_of_status(shared, pid) == "Invalid parameter 'pid'"


@pytest.mark.bellhop_only("exec-status-is-lost-with-its-reply")
def test_a_status_that_was_not_seen_can_be_asked_again(agent):
    with agent.connect() as first:
        pid = shell(first, "echo result", capture_output=True)
        wait_until(lambda: process_state(pid) == "", what="end of the program")
        wait_until(lambda: status(first, pid)["exited"], what="its result")
        # What follows is a sync, which an agent answers whether its client reads or not.
        first.sync()
    with agent.connect() as second:
        assert wait(second, pid).out == b"result\n"
        second.cmd("guest-ping")
        assert error_of_status(second, pid) == "Invalid parameter 'pid'"


@pytest.mark.bellhop_only("exec-status-is-lost-with-its-reply")
def test_a_status_whose_reply_was_dropped_can_be_asked_again(agent, channel):
    pid = shell(channel, "echo result; exit 4", capture_output=True)
    wait_until(lambda: process_state(pid) == "", what="end of the program")
    slow = SlowOpen(agent).post(channel)
    channel.post("guest-exec-status", {"pid": pid})
    assert channel.sync() == []  # gives up on both
    result = wait(channel, pid)
    assert (result.code, result.out) == (4, b"result\n")
    slow.finish()


def test_many_at_once(shared):
    count = 100
    pids = [shell(shared, "echo %d; exit %d" % (i, i), capture_output=True) for i in range(count)]
    assert len(set(pids)) == count
    for i in random.Random(2).sample(range(count), count):
        result = wait(shared, pids[i])
        assert (result.code, result.out) == (i, b"%d\n" % i)


# --- what a program is given ---------------------------------------------------------------------


def test_arguments_are_passed_as_they_are(shared):
    words = ["", " ", "two words", "-n", "\n", "\"'\\$(x)", "\u00e9\U0001f600", "\x01\x7f",
             "x" * 100000]
    result = run(shared, "/usr/bin/printf", "[%s]", *words)
    assert result.out == "".join("[%s]" % word for word in words).encode()


def test_argument_0_is_the_path_as_given(shared):
    assert run(shared, "sh", "-c", "echo $0").out == b"sh\n"
    assert run(shared, "/bin/../bin/sh", "-c", "echo $0").out == b"/bin/../bin/sh\n"


def test_input(shared):
    assert run(shared, "/bin/cat", input=b"some input").out == b"some input"
    # Proxmox breaks lines.
    assert run(shared, "/bin/cat", input_data="c29tZSBp\nbnB1\n\ndA==\n").out == b"some input"
    # An empty one is at its end at once, none at all is /dev/null.
    assert run(shared, "/bin/cat", input=b"").code == 0
    assert run(shared, "/usr/bin/readlink", "/proc/self/fd/0").out == b"/dev/null\n"


def test_big_input(shared):
    data = random.Random(3).randbytes(10 * MIB)
    assert run(shared, "/bin/cat", input=data, timeout=30).out == data


def test_input_that_is_not_read(shared):
    """Neither the program nor anything else waits for it."""
    assert run(shared, "/bin/true", input=b"x" * MIB).code == 0
    result = run_shell(shared, "head -c 3; exec <&-; sleep 0.01; exit 6", input=b"abc" * MIB)
    assert (result.out, result.code) == (b"abc", 6)


def test_input_that_is_not_base64(shared_agent, shared):
    assert error_of_start(shared, "/bin/cat", input_data="!!") == (
        "Base64 data contains invalid characters")
    if not shared_agent.differs("broken-base64-is-taken"):
        assert error_of_start(shared, "/bin/cat", input_data="aGVsb") == (
            "Base64 data contains invalid characters")


def test_environment_given(shared):
    """Exactly these, in their order, odd ones too."""
    environment = ["A=1", "B", "=x", "A=2", "C=", "D=\u00e9\n"]
    result = run(shared, "/usr/bin/env", "-0", env=environment)
    assert result.out.decode().split("\0") == environment + [""]
    assert run(shared, "/usr/bin/env", env=[]).out == b""


def test_environment_not_given(start_agent):
    agent = start_agent(env={"BELLHOP_TEST_MARK": "from the agent"})
    with agent.connect() as channel:
        result = run(channel, "/usr/bin/env", "-0")
    assert b"BELLHOP_TEST_MARK=from the agent" in result.out.split(b"\0")


def test_path_is_searched(start_agent):
    agent = start_agent(env={"PATH": "/usr/bin:/bin"})
    with agent.connect() as channel:
        name = os.path.basename(script(agent, "prog", "#!/bin/sh\necho found $PATH\n"))
        assert run(channel, "true").code == 0
        assert error_of_start(channel, name) == exec_error(agent, name,
                                                           "No such file or directory")
        # The PATH that the program gets is the one that it is found in.
        path = "PATH=/nowhere:%s:/bin" % agent.files
        assert run(channel, name, env=[path]).out == b"found %s\n" % path[5:].encode()
        assert error_of_start(channel, "true", env=["PATH=/nowhere"]) == exec_error(
            agent, "true", "No such file or directory")
        assert run(channel, "true", env=["X=1"]).code == 0
        # With a slash in it, it is a path.
        assert error_of_start(channel, "x/" + name, env=[path]) == exec_error(
            agent, "x/" + name, "No such file or directory")


def test_a_script_without_an_interpreter(shared_agent, shared):
    path = script(shared_agent, "script", "echo $0 $1 $2\n")
    assert run(shared, path, "a", "b").out == b"%s a b\n" % path.encode()


def test_descriptors(shared):
    """Its three and no other, whatever else the agent has open."""
    assert run_shell(shared, "ls /proc/$$/fd; true").out == b"0\n1\n2\n"


def read_status(shared, script="cat /proc/self/status"):
    lines = run_shell(shared, script).out.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_signals_are_at_their_default(shared_agent, shared):
    fields = read_status(shared)
    assert int(fields["SigBlk"], 16) == 0
    assert int(fields["SigCgt"], 16) == 0
    if not shared_agent.differs("exec-is-a-child-of-the-agent"):
        assert int(fields["SigIgn"], 16) == 0
    # SIGPIPE above all: a program must end when nobody reads it.
    result = run_shell(shared, "(yes; echo $? >&2) | head -n1")
    assert result.err == b"141\n"


@pytest.mark.bellhop_only("exec-is-a-child-of-the-agent")
def test_a_session_of_its_own(shared):
    pid = shell(shared, "cut -d' ' -f1,5,6,7 /proc/$$/stat", capture_output=True)
    assert wait(shared, pid).out == b"%d %d %d 0\n" % (pid, pid, pid)


def test_umask_and_directory(shared):
    expected = os.umask(0o022)
    os.umask(expected)
    assert run_shell(shared, "umask; pwd").out == b"%04o\n/\n" % expected


@pytest.mark.bellhop_only("exec-is-a-child-of-the-agent")
def test_limits_are_those_the_agent_was_started_with(start_agent):
    import resource
    agent = start_agent()
    with agent.connect() as channel:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        result = run_shell(channel, "ulimit -S -n; cat /proc/self/oom_score_adj")
        with open("/proc/self/oom_score_adj") as file:
            assert result.out.decode().split() == [str(limit), file.read().strip()]


# --- errors --------------------------------------------------------------------------------------


def test_programs_that_cannot_be_run(shared_agent, shared):
    plain = script(shared_agent, "plain", "x", 0o644)
    for path, cause in (("/nope", "No such file or directory"),
                        ("", "No such file or directory"),
                        ("no-such-program", "No such file or directory"),
                        ("/n\u00f6 pe", "No such file or directory"),
                        ("/etc", "Permission denied"),
                        (plain, "Permission denied"),
                        ("/etc/passwd/x", "Not a directory")):
        assert error_of_start(shared, path) == exec_error(shared_agent, path, cause)


def test_too_many_arguments(shared_agent, shared):
    cause = "Argument list too long"
    for words in (["x" * 200000], ["x" * 1000] * 9000):
        assert error_of_start(shared, "/bin/true", *words, timeout=30) == exec_error(
            shared_agent, "/bin/true", cause)


def test_a_long_path_does_not_hide_the_cause(shared_agent, shared):
    error = error_of_start(shared, "/" + "\u00e9" * 3000)
    assert "Failed to execute child process \u201c/\u00e9\u00e9" in error
    assert "(File name too long)" in error


def test_arguments_are_checked(shared):
    for arguments, error in (
            ({}, "Parameter 'path' is missing"),
            ({"path": 1}, "Invalid parameter type for 'path', expected: string"),
            ({"path": "/bin/true", "arg": "x"},
             "Invalid parameter type for 'arg', expected: array"),
            ({"path": "/bin/true", "arg": ["a", 1]},
             "Invalid parameter type for 'arg[1]', expected: string"),
            ({"path": "/bin/true", "env": [None]},
             "Invalid parameter type for 'env[0]', expected: string"),
            ({"path": "/bin/true", "bogus": 1}, "Parameter 'bogus' is unexpected")):
        with pytest.raises(AgentError) as caught:
            shared.cmd("guest-exec", arguments)
        assert caught.value.desc == error
    with pytest.raises(AgentError) as caught:
        shared.cmd("guest-exec-status", {"pid": "1"})
    assert caught.value.desc == "Invalid parameter type for 'pid', expected: integer"


def test_a_failed_start_leaves_nothing(start_agent):
    agent = start_agent()
    with agent.connect() as channel:
        run(channel, "true")
        family, paths = len(agent.family()), len(agent.open_paths())
        for _ in range(50):
            error_of_start(channel, "/nope", input=b"x", capture_output=True)
        wait_until(lambda: len(agent.family()) == family, what="the end of all children")
        wait_until(lambda: len(agent.open_paths()) <= paths, what="closed descriptors")


# --- programs that leave something running -------------------------------------------------------


@pytest.mark.bellhop_only("exec-waits-for-background-children")
def test_a_background_child_does_not_hold_the_result(agent, channel):
    gate, alive = agent.fifo("gate"), agent.fifo("alive")
    begin = time.monotonic()
    pid = shell(channel, "(read x <%s; echo late; echo late >&2; echo alive >%s) & echo early"
                % (gate, alive), capture_output=True)
    result = wait(channel, pid)
    took = time.monotonic() - begin
    assert (result.out, result.err) == (b"early\n", b"")
    assert 1.0 <= took < 5.0
    # It writes into pipes that nobody wants to read any more, and does not die of it.
    with open(gate, "w"):
        pass
    with open(alive) as file:
        assert file.read() == "alive\n"


@pytest.mark.bellhop_only("exec-waits-for-background-children")
def test_a_background_child_that_writes_holds_it_for_5_s(agent, channel):
    begin = time.monotonic()
    pid = shell(channel, "(while echo x; do sleep 0.2; done) & exit 3", capture_output=True)
    result = wait(channel, pid)
    took = time.monotonic() - begin
    assert result.code == 3
    assert set(result.out.split()) == {b"x"}
    assert 4.9 <= took < 5.0 + seconds(3)


def test_a_detached_child_holds_nothing(shared):
    result = run_shell(shared, "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    child = int(result.out)
    assert process_state(child) not in ("", "Z")
    os.kill(child, signal.SIGKILL)


def test_a_child_that_closed_its_output_is_waited_for(shared_agent, shared):
    gate = shared_agent.fifo("closed")
    pid = shell(shared, "echo x; exec >&- 2>&-; read x <%s; exit 8" % gate, capture_output=True)
    assert status(shared, pid) == {"exited": False}
    with open(gate, "w"):
        pass
    result = wait(shared, pid)
    assert (result.out, result.code) == (b"x\n", 8)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.bellhop_only("limits-are-built-in")
def test_limit_of_running_programs(start_agent):
    agent = start_agent(settings={"exec.running": 3})
    gate = agent.fifo()
    with agent.connect() as channel:
        pids = [shell(channel, "read x <" + gate) for _ in range(3)]
        error = error_of_start(channel, "true")
        assert "exec.running" in error
        os.kill(pids[0], signal.SIGKILL)
        assert wait(channel, pids[0]).signal == 9
        assert run(channel, "true").code == 0
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.bellhop_only("limits-are-built-in")
def test_limit_of_kept_results(start_agent):
    agent = start_agent(settings={"exec.kept": 3})
    with agent.connect() as channel:
        pids = [shell(channel, "exit %d" % i) for i in range(3)]
        for pid in pids:
            wait_until(lambda: process_state(pid) == "", what="end of the program")
        wait_until(lambda: "error" in channel.request("guest-exec", {"path": "true"}),
                   what="the limit")
        assert "exec.kept" in error_of_start(channel, "true")
        # None of those that nobody has asked for is lost.
        assert [wait(channel, pid).code for pid in pids[:1]] == [0]
        pid = start(channel, "true")
        for i in (1, 2):
            assert wait(channel, pids[i]).code == i
        assert wait(channel, pid).code == 0


@pytest.mark.bellhop_only("limits-are-built-in")
def test_clients_that_connect_for_every_command_do_not_fill_the_table(start_agent):
    """As Proxmox does: nothing follows on the connection that a status was asked on."""
    agent = start_agent(settings={"exec.kept": 5})
    for i in range(30):
        with agent.connect() as channel:
            pid = shell(channel, "exit %d" % i)
        with agent.connect() as channel:
            wait_until(lambda: process_state(pid) == "", what="end of the program")
        reply = {"exited": False}
        while not reply["exited"]:
            with agent.connect() as channel:
                reply = status(channel, pid)
        assert reply["exitcode"] == i


@pytest.mark.bellhop_only("limits-are-built-in")
def test_limit_of_output(start_agent):
    agent = start_agent(settings={"exec.stream-bytes": 100000, "exec.output-bytes": 150000})
    with agent.connect() as channel:
        first = shell(channel, "head -c 200000 /dev/zero", capture_output=True)
        wait_until(lambda: process_state(first) == "", what="end of the program")
        second = shell(channel, "head -c 100000 /dev/zero", capture_output=True)
        wait_until(lambda: process_state(second) == "", what="end of the program")
        wait_until(lambda: "error" in channel.request(
            "guest-exec", {"path": "true", "capture-output": True}), what="the limit")
        assert "exec.output-bytes" in error_of_start(channel, "true", capture_output=True)
        result = wait(channel, first)
        assert (len(result.out), result.truncated) == (100000, {"out"})
        result = wait(channel, second)
        assert (len(result.out), result.truncated) == (50000, {"out"})
        # Seen, they are gone.
        result = run_shell(channel, "head -c 100000 /dev/zero")
        assert (len(result.out), result.truncated) == (100000, set())


@pytest.mark.bellhop_only("limits-are-built-in")
def test_limit_of_waiting_input(start_agent):
    agent = start_agent(settings={"exec.output-bytes": 3 * MIB, "exec.stream-bytes": MIB})
    with agent.connect() as channel:
        pid = start(channel, "sleep", "1000", input=b"x" * (2 * MIB))
        assert "input-data" in error_of_start(channel, "cat", input=b"x" * (2 * MIB))
        os.kill(pid, signal.SIGKILL)
        assert wait(channel, pid).signal == 9
        assert run(channel, "wc", "-c", input=b"x" * (2 * MIB)).out == b"%d\n" % (2 * MIB)


@pytest.mark.bellhop_only("limits-are-built-in")
def test_results_expire(start_agent):
    agent = start_agent(settings={"exec.retention": 1})
    with agent.connect() as channel:
        pid = shell(channel, "exit 1")
        wait_until(lambda: process_state(pid) == "", what="end of the program")

        def is_forgotten():
            with agent.connect() as other:
                reply = other.request("guest-exec-status", {"pid": pid})
            return "error" in reply

        wait_until(is_forgotten, 10, "the end of its retention")


# --- a program on a filesystem that does not answer ----------------------------------------------


@pytest.fixture
def dead_mount(tmp_path):
    """A directory with a program in it that cannot be opened, and a way to end that."""
    mount_point = tmp_path / "dead"
    mount_point.mkdir()
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    # Mounts of a test are seen by nobody else, and are gone with the test's process.
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
    if libc.unshare(clone_newns) or libc.mount(b"none", b"/", None, ms_rec | ms_private, None):
        pytest.skip("mount namespaces are not allowed: " + os.strerror(ctypes.get_errno()))
    server = subprocess.Popen(
        [sys.executable, os.path.join(os.path.dirname(__file__), "dead_mount.py"),
         str(mount_point)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"mounted\n"

    class Dead:
        program = str(mount_point / "program")
        directory = str(mount_point)

        @staticmethod
        def wait_until_asked():
            """Until somebody tries to open the program."""
            assert server.stdout.readline() == b"opening\n"

        @staticmethod
        def end():
            server.kill()
            server.wait()

    yield Dead
    Dead.end()
    libc.umount2(str(mount_point).encode(), 2)


@pytest.mark.bellhop_only("slow-commands-block-everything")
def test_an_exec_that_hangs(start_agent, dead_mount):
    agent = start_agent(settings={"deadline.guest-exec": 1, "exec.running": 4})
    with agent.connect() as channel, agent.connect() as other:
        channel.post("guest-exec", {"path": dead_mount.program, "capture-output": True})
        dead_mount.wait_until_asked()
        # Neither the agent nor the broker waits for it.
        begin = time.monotonic()
        count = 0
        while time.monotonic() < begin + 0.5:
            quickly(lambda: other.cmd("guest-ping"), 0.5)
            assert quickly(lambda: run_shell(other, "echo x"), 2).out == b"x\n"
            count += 1
        assert count > 2
        reply = channel.read_reply(10)
        assert "did not finish within 1 s" in reply["error"]["desc"]
        assert dead_mount.program in reply["error"]["desc"]
        # It counts as long as it hangs; and the search of PATH may hang as well.
        error = error_of_start(channel, "program", env=["PATH=%s:/bin" % dead_mount.directory])
        assert "did not finish" in error
        dead_mount.end()
        # Now both have failed, late, and nothing is left of them.
        wait_until(lambda: len(agent.family()) == 2, 10, "the end of what hung")
        gate = agent.fifo()
        pids = [shell(channel, "read x <" + gate) for _ in range(4)]
        assert "exec.running" in error_of_start(channel, "true")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.bellhop_only("slow-commands-block-everything")
def test_programs_need_no_worker(start_agent):
    """A channel whose share of the workers (half) is stuck can still run programs."""
    agent = start_agent(settings={"pool.workers": 2, "pool.workers-max": 2})
    with agent.connect() as first, agent.connect() as channel:
        stuck = SlowOpen(agent).post(first)
        assert run_shell(channel, "echo alive").out == b"alive\n"
        stuck.finish()


@pytest.mark.bellhop_only("slow-commands-block-everything")
def test_a_start_that_comes_too_late_leaves_no_result(start_agent, tmp_path):
    """The program runs, but nobody knows its pid: its result goes when it ends."""
    agent = start_agent(settings={"deadline.guest-exec": 1, "exec.kept": 1})
    trace = str(tmp_path / "ran")
    with agent.connect() as channel:
        run(channel, "true")
        channel.cmd("guest-ping")
        broker = [pid for pid in agent.family() if pid != agent.pid]
        assert len(broker) == 1
        os.kill(broker[0], signal.SIGSTOP)
        error = error_of_start(channel, "/bin/sh", "-c", "echo >" + trace)
        assert "did not finish within 1 s" in error
        os.kill(broker[0], signal.SIGCONT)
        wait_until(lambda: os.path.exists(trace), what="the program")
        # A kept result would be one too many.
        assert run(channel, "true").code == 0
        assert run(channel, "true").code == 0
