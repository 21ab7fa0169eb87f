# SPDX-License-Identifier: MIT
"""What guest-exec takes beyond the classic agent's members: time limits, directories, users, and input
that goes on while the program runs (bellhop-job-input)."""

import grp
import os
import pwd
import signal
import time

import pytest

import client
from agent import AgentError, process_state, seconds, wait_until
from programs import encoded, error_of_start, run_shell, shell, start, status, wait

pytestmark = pytest.mark.bellhop_only("exec-has-more-members")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def give(channel, pid, data=b"", eof=None, by="pid"):
    """bellhop-job-input; returns how many bytes were taken."""
    arguments = {by: pid}
    if data:
        arguments["data-b64"] = encoded(data)
    if eof is not None:
        arguments["eof"] = eof
    reply = channel.cmd("bellhop-job-input", arguments)
    assert set(reply) == {"count"}
    return reply["count"]


def refusal(channel, pid, **options):
    with pytest.raises(AgentError) as caught:
        give(channel, pid, **options)
    assert caught.value.error_class == "GenericError"
    return caught.value.desc


def is_gone(pid):
    return process_state(pid) in ("", "Z")


def pid_in(path):
    """The pid that a program wrote into a file of its own, once it is there."""
    def read():
        try:
            with open(path) as file:
                text = file.read()
        except FileNotFoundError:
            return None
        return int(text) if text.endswith("\n") else None
    return wait_until(read, 20, "a pid in " + path)


# --- time limits ---------------------------------------------------------------------------------


def test_time_is_up(shared):
    begin = time.monotonic()
    result = run_shell(shared, "echo begun; exec sleep 1000", time_limit=1)
    assert time.monotonic() - begin >= 1
    assert result.signal == signal.SIGTERM
    assert result.out == b"begun\n"
    assert result.reply["timed-out"] is True


def test_a_job_says_so_too(shared):
    pid = shell(shared, "exec sleep 1000", time_limit=1)
    job = [job for job in shared.cmd("bellhop-job-list")["jobs"] if job.get("pid") == pid][0]

    def status_of_job():
        return shared.cmd("bellhop-job-status", {"id": job["id"]})

    assert "timed-out" not in status_of_job()
    reply = wait_until(lambda: status_of_job() if status_of_job()["state"] == "done" else None, 20,
                       "the end of the job")
    assert (reply["signal"], reply["timed-out"]) == (signal.SIGTERM, True)


def test_input_by_the_jobs_id(shared):
    pid = start(shared, "/bin/cat", stdin_open=True, capture_output=True)
    job = [job for job in shared.cmd("bellhop-job-list")["jobs"] if job.get("pid") == pid][0]
    assert give(shared, job["id"], b"by id", eof=True, by="id") == 5
    assert wait(shared, pid).out == b"by id"


def test_time_is_not_up(shared):
    result = run_shell(shared, "exit 3", time_limit=1000)
    assert result.reply == {"exited": True, "exitcode": 3}


def test_a_program_may_end_in_its_own_way(shared):
    """SIGTERM first: it can put things in order."""
    result = run_shell(shared, "trap 'echo tidied; exit 7' TERM; sleep 1000 & wait", time_limit=1)
    assert (result.code, result.out) == (7, b"tidied\n")
    assert result.reply["timed-out"] is True


def test_who_ignores_it_is_killed_with_all_that_it_started(agent, channel):
    child = agent.path("child")
    pid = shell(channel, "trap '' TERM; sleep 1000 & echo $! >%s; while :; do sleep 1; done" % child,
                time_limit=1)
    child_pid = pid_in(child)
    result = wait(channel, pid)
    assert result.signal == signal.SIGKILL
    assert result.reply["timed-out"] is True
    wait_until(lambda: is_gone(child_pid), 20, "the end of the program's child")


def test_what_outlives_the_program_is_killed_too(agent, channel):
    child = agent.path("child")
    pid = shell(channel, "(trap '' TERM; while :; do sleep 1; done) & echo $! >%s; "
                         "sleep 1000 & wait" % child, time_limit=1)
    child_pid = pid_in(child)
    result = wait(channel, pid)
    assert result.signal == signal.SIGTERM
    wait_until(lambda: is_gone(child_pid), 20, "the end of the program's child")


@pytest.mark.parametrize("ending", ["kill", "restart"])
def test_time_is_up_without_an_agent(start_agent, ending):
    """The broker keeps the time, whether there is an agent or not."""
    agent = start_agent()
    with agent.connect() as channel:
        pid = shell(channel, "exec sleep 1000", time_limit=2)
    agent.kill()
    if ending == "kill":
        wait_until(lambda: is_gone(pid), 20, "the program's end without an agent")
    agent = start_agent(directory=agent.directory)
    with agent.connect() as channel:
        result = wait(channel, pid)
        assert result.signal == signal.SIGTERM
        assert result.reply["timed-out"] is True


@pytest.mark.parametrize("value", [0, -1, 31536001, 1 << 62])
def test_no_time(shared, value):
    assert error_of_start(shared, "/bin/true", time_limit=value) == \
        "Parameter 'timeout' expects 1 to 31536000 seconds"


# --- directories ---------------------------------------------------------------------------------


def test_directory(agent, channel):
    folder = agent.path("folder \u00e4")
    os.mkdir(folder)
    assert run_shell(channel, "pwd", cwd=folder).out == folder.encode() + b"\n"
    # A program that is named from there.
    with open(os.path.join(folder, "here"), "w") as file:
        file.write("#!/bin/sh\necho here\n")
    os.chmod(file.name, 0o755)
    assert wait(channel, start(channel, "./here", cwd=folder, capture_output=True)).out == b"here\n"
    # No other program is touched by it.
    assert run_shell(channel, "pwd").out == b"/\n"


def test_directories_that_cannot_be(agent, channel):
    text = "Failed to change to directory \u201c%s\u201d (%s)"
    assert error_of_start(channel, "/bin/true", cwd="/no/where") == \
        text % ("/no/where", "No such file or directory")
    assert error_of_start(channel, "/bin/true", cwd="/etc/passwd") == \
        text % ("/etc/passwd", "Not a directory")
    assert error_of_start(channel, "/bin/true", cwd="") == \
        "Parameter 'cwd' expects the path of a directory"
    assert error_of_start(channel, "/bin/true", cwd=7) == \
        "Invalid parameter type for 'cwd', expected: string"


# --- users ---------------------------------------------------------------------------------------

SHOW = ("echo $(id -u) $(id -g) $(id -G | tr ' ' ,) $HOME $USER $LOGNAME $SHELL $PATH; "
        "grep -E '^(Uid|Gid|CapPrm|CapEff|CapAmb):' /proc/self/status")


def shown(account, home=None):
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return "%d %d %s %s %s %s %s /usr/local/bin:/usr/bin:/bin" % (
        account.pw_uid, account.pw_gid, ",".join(map(str, sorted(groups))),
        home or account.pw_dir, account.pw_name, account.pw_name, account.pw_shell or "/bin/sh")


def check_shown(output, account, **options):
    lines = output.decode().splitlines()
    words = lines[0].split(" ")
    words[2] = ",".join(sorted(words[2].split(","), key=int))
    assert " ".join(words) == shown(account, **options)
    facts = dict(line.split(":\t") for line in lines[1:])
    assert facts["Uid"].split() == [str(account.pw_uid)] * 4
    assert facts["Gid"].split() == [str(account.pw_gid)] * 4
    for name in ("CapPrm", "CapEff", "CapAmb"):
        assert int(facts[name], 16) == 0


@as_root
@pytest.mark.parametrize("name", ["nobody", "daemon"])
def test_user(shared, name):
    account = pwd.getpwnam(name)
    for user in (name, account.pw_uid, str(account.pw_uid)):
        check_shown(run_shell(shared, SHOW, user=user).out, account)


@as_root
def test_environment_of_a_user(start_agent):
    """That of a login: nothing of the agent's, and what is given on top."""
    agent = start_agent(env={"AGENTS_OWN": "secret"})
    with agent.connect() as channel:
        assert b"AGENTS_OWN=secret" in run_shell(channel, "env").out
        nobody = pwd.getpwnam("nobody")
        expected = {"HOME=" + nobody.pw_dir, "USER=nobody", "LOGNAME=nobody",
                    "SHELL=" + nobody.pw_shell, "PATH=/usr/local/bin:/usr/bin:/bin"}
        result = wait(channel, start(channel, "/usr/bin/env", user="nobody", capture_output=True))
        assert set(result.out.decode().split("\n")[:-1]) == expected
        result = wait(channel, start(channel, "/usr/bin/env", user="nobody", capture_output=True,
                                     env=["HOME=/x", "OWN=1", "HOMER=2"]))
        expected = expected - {"HOME=" + nobody.pw_dir} | {"HOME=/x", "OWN=1", "HOMER=2"}
        assert set(result.out.decode().split("\n")[:-1]) == expected


@as_root
def test_root_as_a_user(shared):
    result = run_shell(shared, "id -u; echo $PATH", user="root")
    assert result.out == b"0\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


@as_root
def test_a_user_has_the_users_rights(agent, channel):
    """Also for the program itself, and its directory."""
    private = agent.path("private")
    with open(private, "w") as file:
        file.write("#!/bin/sh\necho ran\n")
    os.chmod(private, 0o700)
    # The way there is open: only the file itself is not.
    os.chmod(agent.directory, 0o755)
    os.chmod(agent.files, 0o755)
    assert wait(channel, start(channel, private, capture_output=True)).out == b"ran\n"
    assert error_of_start(channel, private, user="nobody") == \
        "Failed to execute child process \u201c%s\u201d (Permission denied)" % private
    folder = agent.path("folder")
    os.mkdir(folder, 0o700)
    assert error_of_start(channel, "/bin/true", user="nobody", cwd=folder) == \
        "Failed to change to directory \u201c%s\u201d (Permission denied)" % folder
    assert run_shell(channel, "cat %s" % private, user="nobody").code != 0


@as_root
def test_a_users_program_can_be_ended(shared):
    result = run_shell(shared, "exec sleep 1000", user="nobody", time_limit=1)
    assert result.signal == signal.SIGTERM


@pytest.mark.parametrize("user", ["no-such-user-at-all", "no/such", "4294967294", 4294967294,
                                  "0x0", " root", "root:root"])
def test_no_such_user(shared, user):
    assert error_of_start(shared, "/bin/true", user=user) == \
        "Failed to become user \u201c%s\u201d (there is none of that name or number)" % user


@pytest.mark.parametrize("user", ["", -1, 4294967295, 1.5, "a\0b"])
def test_no_user(shared, user):
    assert error_of_start(shared, "/bin/true", user=user) == \
        "Parameter 'user' expects the name of a user or a uid"


# --- input that goes on --------------------------------------------------------------------------


def test_conversation(agent, channel):
    """A program is told more when it has answered: cat beside it writes to where we can look."""
    out = agent.path("out")
    pid = start(channel, "/bin/sh", "-c", "cat >%s" % out, stdin_open=True, input=b"zero\n")

    def has(text):
        def look():
            try:
                with open(out, "rb") as file:
                    return file.read() == text
            except FileNotFoundError:
                return False
        wait_until(look, 20, "the program's copy of %r" % text)

    has(b"zero\n")
    expected = b"zero\n"
    for word in (b"one\n", b"two\n", bytes(range(256))):
        assert give(channel, pid, word) == len(word)
        expected += word
        has(expected)
    assert status(channel, pid) == {"exited": False}
    assert give(channel, pid, b"last", eof=True) == 4
    assert wait(channel, pid).code == 0
    has(expected + b"last")
    assert refusal(channel, pid, data=b"more") == "Invalid parameter 'pid'"  # seen, and forgotten


def test_a_program_that_has_ended(shared):
    pid = start(shared, "/bin/true", stdin_open=True)
    wait_until(lambda: is_gone(pid), 20, "its end")

    def is_known():
        try:
            give(shared, pid, b"x")  # the broker may not have heard yet
        except AgentError as error:
            return "ended" in str(error)
        return False

    wait_until(is_known, 20, "its end to be known")
    assert wait(shared, pid).code == 0


def test_end_alone(shared):
    pid = start(shared, "/bin/cat", stdin_open=True, capture_output=True)
    assert give(shared, pid) == 0
    assert give(shared, pid, eof=False) == 0
    assert give(shared, pid, eof=True) == 0
    assert wait(shared, pid).reply == {"exited": True, "exitcode": 0}


def test_without_stdin_open(shared):
    gate_script = "exec sleep 1000"
    for members in ({}, {"input": b"x"}, {"stdin_open": False}):
        pid = shell(shared, gate_script, **members)
        assert "'stdin-open'" in refusal(shared, pid, data=b"x")
        os.kill(pid, signal.SIGKILL)
        assert wait(shared, pid).signal == signal.SIGKILL


def test_no_more_than_the_program_reads(start_agent):
    """Back-pressure: what it does not read is taken up to the limit, and then refused."""
    agent = start_agent(settings={"exec.input-bytes": "64K"})
    data = os.urandom(400000)
    gate = agent.fifo()
    with agent.connect() as channel:
        pid = shell(channel, "read x <%s; exec cat" % gate, stdin_open=True, capture_output=True)
        sent = 0
        begin = time.monotonic()
        refused = 0
        while refused < 3:  # the pipe has room for some, too
            assert time.monotonic() - begin < seconds(20)
            try:
                count = give(channel, pid, data[sent:sent + 50000])
                assert 0 < count <= 50000
                sent += count
            except AgentError as error:
                assert error.desc == ("The program has 65536 bytes of input still to read, which "
                                      "is the limit (setting exec.input-bytes)")
                refused += 1
        assert 65536 <= sent <= 65536 + 65536
        with open(gate, "w"):
            pass
        while sent < len(data):
            assert time.monotonic() - begin < seconds(40)
            try:
                sent += give(channel, pid, data[sent:], eof=True)
            except AgentError as error:
                assert error.desc.endswith("is the limit (setting exec.input-bytes)")
        assert wait(channel, pid).out == data


def test_much_at_once(shared):
    data = os.urandom(900000)
    pid = start(shared, "/bin/cat", stdin_open=True, capture_output=True)
    assert give(shared, pid, data, eof=True) == len(data)
    assert wait(shared, pid).out == data


def test_conversation_goes_on_after_a_restart(start_agent):
    agent = start_agent()
    with agent.connect() as channel:
        pid = start(channel, "/bin/cat", stdin_open=True, capture_output=True)
        assert give(channel, pid, b"before ") == 7
    agent.kill()
    agent = start_agent(directory=agent.directory)
    with agent.connect() as channel:
        assert status(channel, pid) == {"exited": False}
        assert give(channel, pid, b"after", eof=True) == 5
        assert wait(channel, pid).out == b"before after"


def test_limit_holds_after_a_restart(start_agent):
    agent = start_agent(settings={"exec.input-bytes": "64K"})
    with agent.connect() as channel:
        pid = shell(channel, "exec sleep 1000", stdin_open=True)
        sent = fill(channel, pid)
    agent.kill()
    agent = start_agent(directory=agent.directory, settings={"exec.input-bytes": "64K"})
    with agent.connect() as channel:
        sent += fill(channel, pid)
        assert 65536 <= sent <= 65536 + 65536  # with what the pipe holds
        os.kill(pid, signal.SIGKILL)
        wait(channel, pid)


def fill(channel, pid):
    """Gives it as much as is taken; returns how much that was."""
    sent = [0]

    def is_full():
        try:
            sent[0] += give(channel, pid, b"x" * 70000)
            return False
        except AgentError as error:
            assert error.desc.startswith("The program has 65536 bytes")
            return True

    wait_until(is_full, 20, "a full input")
    return sent[0]


def test_whom_it_is_for(shared):
    with pytest.raises(AgentError) as caught:
        shared.cmd("bellhop-job-input", {})
    assert caught.value.desc == "Parameter 'id' is missing"
    with pytest.raises(AgentError) as caught:
        shared.cmd("bellhop-job-input", {"id": 1, "pid": 1})
    assert "'pid' is unexpected" in caught.value.desc
    for value in (0, -1, 1 << 40):
        assert refusal(shared, value) == "Invalid parameter 'pid'"
        assert refusal(shared, value, by="id") == "Invalid parameter 'id'"
    with pytest.raises(AgentError) as caught:
        shared.cmd("bellhop-job-input", {"pid": 1, "data-b64": "", "more": 1})
    assert caught.value.desc == "Parameter 'more' is unexpected"


# --- the environment -----------------------------------------------------------------------------


def test_what_is_the_managers_stays_with_the_agent(start_agent):
    names = ("LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")
    agent = start_agent(env=dict.fromkeys(names, "1"))
    with agent.connect() as channel:
        output = run_shell(channel, "env").out.decode()
    for name in names:
        assert "\n%s=" % name not in "\n" + output


# --- the client ----------------------------------------------------------------------------------


def test_client_has_options_for_them(agent):
    def run(*words):
        return client.run(agent.socket_path, "exec", *words)

    result = run("--cwd", "/usr", "--", "pwd")
    assert (result.status, result.stdout) == (0, b"/usr\n")
    result = run("--time-limit", "1", "--", "sleep", "1000")
    assert result.status == client.signal_exit(signal.SIGTERM)
    assert "time was up" in result.errors
    if os.geteuid() == 0:
        result = run("--user", "nobody", "--", "id", "-un")
        assert (result.status, result.stdout) == (0, b"nobody\n")
    for words in (("--time-limit", "0", "true"), ("--time-limit", "x", "true")):
        assert run(*words).status != 0
    assert client.run(agent.socket_path, "guest-ping", "--user", "x").status == 2
