# SPDX-License-Identifier: MIT
"""What outlasts its request: bellhop-job-list, -status, -cancel, -output, -start."""

import base64
import os
import signal
import time

import pytest

from agent import AgentError, SlowOpen, process_state, seconds, wait_until
from programs import shell, start, status, wait

pytestmark = pytest.mark.bellhop_only("no-jobs")

OVER = {"done", "cancelled", "lost"}


def job(channel, **name):
    return channel.cmd("bellhop-job-status", name)


def wait_over(channel, timeout=20, **name):
    found = {}

    def is_over():
        found.clear()
        found.update(job(channel, **name))
        return found["state"] in OVER

    wait_until(is_over, timeout, "the end of job %r" % name)
    return found


def listing(channel, **arguments):
    return channel.cmd("bellhop-job-list", arguments)


def start_job(channel, command, arguments=None):
    members = {"command": command}
    if arguments is not None:
        members["arguments"] = arguments
    reply = channel.cmd("bellhop-job-start", members)
    assert set(reply) == {"id"}
    return reply["id"]


def error_of(channel, execute, **arguments):
    with pytest.raises(AgentError) as caught:
        channel.cmd(execute, arguments)
    return str(caught.value)


def output(channel, **arguments):
    reply = channel.cmd("bellhop-job-output", arguments)
    data = base64.b64decode(reply["buf-b64"], validate=True)
    assert len(data) == reply["count"]
    assert ("truncated" in reply) == reply["eof"]
    return data, reply


def follow(channel, **arguments):
    """All of an output, in pieces, as a host would."""
    pieces, offset = [], 0
    end = time.monotonic() + seconds(20)
    while time.monotonic() < end:
        data, reply = output(channel, offset=offset, **arguments)
        assert reply["offset"] == offset
        pieces.append(data)
        offset += len(data)
        if reply["eof"]:
            return b"".join(pieces)
        if not data:
            time.sleep(0.02)
    raise AssertionError("no end of the output")


# --- programs are jobs ---


def test_a_program_is_a_job(agent, channel):
    gate = agent.fifo()
    before = int(time.time() * 1000)
    pid = shell(channel, "echo hello; read x <%s; exit 3" % gate, capture_output=True)
    by_pid = job(channel, pid=pid)
    assert by_pid["pid"] == pid
    assert by_pid["kind"] == "exec"
    assert by_pid["command"] == "guest-exec"
    assert by_pid["state"] == "running"
    assert by_pid["cancelling"] is False
    assert before - 1000 <= by_pid["started-ms"] <= int(time.time() * 1000) + 1000
    assert by_pid["elapsed-ms"] >= 0
    by_id = job(channel, id=by_pid["id"])
    assert by_id["pid"] == pid
    assert [entry["id"] for entry in listing(channel)["jobs"]] == [by_id["id"]]

    with open(gate, "w"):
        pass
    over = wait_over(channel, pid=pid)
    assert (over["state"], over["exitcode"]) == ("done", 3)
    assert (over["out-bytes"], over["err-bytes"]) == (6, 0)
    assert "cancelling" not in over
    # The classic status still has it all: nothing was taken away.
    channel.cmd("guest-ping")
    result = wait(channel, pid)
    assert (result.code, result.out) == (3, b"hello\n")
    channel.cmd("guest-ping")
    assert "no job" in error_of(channel, "bellhop-job-status", id=by_id["id"])
    assert listing(channel)["counts"]["seen"] == 1


def test_names_of_jobs(channel):
    for command in ("bellhop-job-status", "bellhop-job-cancel", "bellhop-job-output"):
        assert "Either parameter" in error_of(channel, command)
        assert "Either parameter" in error_of(channel, command, id=1, pid=1)
        assert "no job with id 7" in error_of(channel, command, id=7)
        assert "no job with id -7" in error_of(channel, command, id=-7)
        assert "no job with pid 1" in error_of(channel, command, pid=1)
        assert "'id', expected: integer" in error_of(channel, command, id="x")


def test_list_and_counts(agent, channel):
    assert listing(channel) == {"jobs": [], "more": 0, "counts": {
        "queued": 0, "running": 0, "kept": 0, "seen": 0, "expired": 0, "evicted": 0}}
    gate = agent.fifo()
    running = [shell(channel, "read x <%s" % gate) for _ in range(3)]
    ended = start(channel, "/bin/true")
    wait_over(channel, pid=ended)
    reply = listing(channel)
    assert [entry.get("pid") for entry in reply["jobs"]] == [*running, ended]
    assert (reply["counts"]["running"], reply["counts"]["kept"], reply["more"]) == (3, 1, 0)
    assert len({entry["id"] for entry in reply["jobs"]}) == 4
    reply = listing(channel, limit=2)
    assert [entry["pid"] for entry in reply["jobs"]] == running[:2]
    assert reply["more"] == 2
    assert "'limit'" in error_of(channel, "bellhop-job-list", limit=-1)
    for pid in running:
        channel.cmd("bellhop-job-cancel", {"pid": pid, "grace": 0})
        wait_over(channel, pid=pid)


def test_what_was_evicted_is_counted(start_agent):
    agent = start_agent(settings={"exec.kept": 2})
    with agent.connect() as channel:
        for _ in range(3):  # the third makes room for itself: the first was answered
            wait_over(channel, pid=start(channel, "/bin/true"))
        counts = listing(channel)["counts"]
        assert (counts["kept"], counts["evicted"], counts["expired"]) == (2, 1, 0)


def test_what_expired_is_counted(start_agent):
    agent = start_agent(settings={"exec.retention": 1})
    with agent.connect() as channel:
        for _ in range(2):
            start(channel, "/bin/true")
        wait_until(lambda: listing(channel)["counts"]["expired"] == 2, 10, "their expiry")
        assert listing(channel)["counts"]["kept"] == 0


# --- output ---


@pytest.mark.parametrize("mode,stdout,stderr", [
    ("separated", b"out\n", b"err\n"),
    ("stdout", b"out\n", None),
    ("stderr", None, b"err\n"),
    ("merged", b"out\nerr\n", None),
    ("none", None, None),
])
def test_output_by_stream(channel, mode, stdout, stderr):
    pid = shell(channel, "echo out; echo err >&2", capture_output=mode)
    wait_over(channel, pid=pid)
    for stream, expected in (("stdout", stdout), ("stderr", stderr)):
        if expected is None:
            error = error_of(channel, "bellhop-job-output", pid=pid, stream=stream)
            assert "%s of job" % stream in error and "is not captured" in error
        else:
            data, reply = output(channel, pid=pid, stream=stream)
            assert (data, reply["eof"], reply["truncated"]) == (expected, True, False)


def test_output_is_followed(agent, channel):
    gate = agent.fifo()
    pid = shell(channel, "echo first; read x <%s; echo second" % gate, capture_output=True)
    wait_until(lambda: output(channel, pid=pid)[0] == b"first\n", what="the first line")
    data, reply = output(channel, pid=pid, offset=6)
    assert (data, reply["eof"]) == (b"", False)
    data, reply = output(channel, pid=pid, offset=2, count=3)
    assert (data, reply["eof"]) == (b"rst", False)
    with open(gate, "w"):
        pass
    assert follow(channel, pid=pid) == b"first\nsecond\n"
    assert output(channel, pid=pid, offset=100)[0] == b""
    # Whoever follows takes nothing away.
    assert wait(channel, pid).out == b"first\nsecond\n"


def test_much_output(channel):
    pid = shell(channel, "yes 0123456 | head -c 8000000", capture_output=True)
    expected = b"0123456\n" * 1000000
    assert follow(channel, pid=pid, count=3000000) == expected
    assert output(channel, pid=pid, offset=7999990)[0] == expected[-10:]


def test_output_arguments(channel):
    pid = shell(channel, "echo x", capture_output=True)
    wait_over(channel, pid=pid)
    for arguments, expected in (({"offset": -1}, "'offset'"), ({"count": 0}, "'count'"),
                                ({"count": 16 * 1024 * 1024 + 1}, "'count'"),
                                ({"stream": "stdin"}, "'stdin'")):
        assert expected in error_of(channel, "bellhop-job-output", pid=pid, **arguments)


# --- cancelling programs ---


def group(pid):
    """The processes of that group that are no zombies."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] != "Z":
                found.append(int(name))
    return found


def test_cancel_ends_the_whole_group(channel):
    pid = shell(channel, "sleep 1000 & sleep 1001 & wait", capture_output=True)
    wait_until(lambda: len(group(pid)) == 3, what="all three")
    assert channel.cmd("bellhop-job-cancel", {"pid": pid}) == {}
    over = wait_over(channel, pid=pid)
    assert (over["state"], over["signal"]) == ("cancelled", signal.SIGTERM)
    wait_until(lambda: not group(pid), what="the end of the group")
    assert "is over" in error_of(channel, "bellhop-job-cancel", pid=pid)
    assert wait(channel, pid).signal == signal.SIGTERM


def test_cancel_insists(agent, channel):
    ready = agent.path("ready")
    pid = shell(channel, "trap '' TERM; echo >%s; while :; do sleep 1; done" % ready)
    wait_until(lambda: os.path.exists(ready), what="its trap")
    channel.cmd("bellhop-job-cancel", {"pid": pid, "grace": 1})
    state = job(channel, pid=pid)
    assert state["state"] == "running" and state["cancelling"] or state["state"] == "cancelled"
    over = wait_over(channel, pid=pid)
    assert (over["state"], over["signal"]) == ("cancelled", signal.SIGKILL)
    assert over["elapsed-ms"] >= 900
    wait_until(lambda: not group(pid), what="the end of the group")


def test_cancel_at_once(agent, channel):
    ready = agent.path("ready")
    pid = shell(channel, "trap '' TERM; echo >%s; while :; do sleep 1; done" % ready)
    wait_until(lambda: os.path.exists(ready), what="its trap")
    assert "'grace'" in error_of(channel, "bellhop-job-cancel", pid=pid, grace=-1)
    channel.cmd("bellhop-job-cancel", {"pid": pid, "grace": 0})
    assert wait_over(channel, pid=pid)["signal"] == signal.SIGKILL


def test_cancel_gets_through(start_agent):
    """Cancel has a place where there is none for others, and needs no worker."""
    agent = start_agent(settings={"limits.pending-requests": 8, "pool.workers": 2,
                                  "pool.workers-max": 2})
    with agent.connect() as channel:
        pid = shell(channel, "sleep 1000")
        slow = SlowOpen(agent)
        for number in range(12):
            channel.send(slow.request(id=number))
        wait_until(lambda: agent.opens_in_progress() >= 1, what="the first open")
        channel.post("bellhop-job-cancel", {"pid": pid}, id="cancel")
        reply = {}
        while reply.get("id") != "cancel":
            reply = channel.read_reply(10)
        assert reply["return"] == {}
    wait_until(lambda: process_state(pid) == "", what="its end")
    slow.finish()


# --- restarts ---


def test_jobs_after_a_restart(start_agent):
    agent = start_agent()
    with agent.connect() as channel:
        pid = shell(channel, "echo early; sleep 1000", capture_output=True)
        wait_until(lambda: output(channel, pid=pid)[0] == b"early\n", what="its line")
        first = job(channel, pid=pid)
        other = start(channel, "/bin/true")
        last = wait_over(channel, pid=other)["id"]
        status(channel, other)
        channel.cmd("guest-ping")
    agent.kill()
    agent = start_agent(directory=agent.directory)
    with agent.connect() as channel:
        again = job(channel, pid=pid)
        assert (again["id"], again["state"]) == (first["id"], "running")
        assert again["started-ms"] == first["started-ms"]
        assert output(channel, id=first["id"])[0] == b"early\n"
        # Ids go on, also where nothing is left of them.
        new = start(channel, "/bin/true")
        assert wait_over(channel, pid=new)["id"] > last
        channel.cmd("bellhop-job-cancel", {"id": first["id"]})
        assert wait_over(channel, id=first["id"])["state"] == "cancelled"
        assert wait(channel, pid).signal == signal.SIGTERM


# --- any command as a job ---


def test_start(agent, channel):
    number = start_job(channel, "guest-get-osinfo")
    over = wait_over(channel, id=number)
    assert (over["kind"], over["command"], over["state"]) == ("command", "guest-get-osinfo", "done")
    assert over["return"] == channel.cmd("guest-get-osinfo")
    # It was seen.
    assert "no job" in error_of(channel, "bellhop-job-status", id=number)


def test_start_with_arguments(agent, channel):
    path = agent.file("content", b"some content")
    handle = wait_over(channel, id=start_job(channel, "guest-file-open", {"path": path}))["return"]
    assert channel.read_file(handle) == (b"some content", True)
    over = wait_over(channel, id=start_job(channel, "guest-file-close", {"handle": handle}))
    assert over["return"] == {}
    assert over["lane"] == "handle:%d" % handle
    assert not agent.holds_open(path)


def test_a_job_fails(agent, channel):
    over = wait_over(channel, id=start_job(channel, "guest-file-open",
                                           {"path": agent.path("missing")}))
    assert over["state"] == "done"
    assert over["error"]["class"] == "GenericError"
    assert "No such file" in over["error"]["desc"]
    assert "return" not in over


@pytest.mark.parametrize("members,expected", [
    ({}, "'command'"),
    ({"command": 1}, "'command'"),
    ({"command": "guest-ping"}, "guest-ping cannot be a job: it is answered at once"),
    ({"command": "guest-sync", "arguments": {"id": 1}}, "guest-sync cannot be a job"),
    ({"command": "bellhop-job-start", "arguments": {"command": "x"}}, "cannot be a job"),
    ({"command": "bellhop-job-list"}, "cannot be a job"),
    ({"command": "bellhop-job-output", "arguments": {"id": 1}}, "cannot be a job"),
    ({"command": "guest-exec-status", "arguments": {"pid": 1}}, "cannot be a job"),
    ({"command": "bellhop-job-input", "arguments": {"pid": 1}}, "cannot be a job"),
    ({"command": "no-such-command"}, "no-such-command has not been found"),
    ({"command": "guest-file-open"}, "'path'"),
    ({"command": "guest-file-open", "arguments": {"path": "x", "y": 1}}, "'y' is unexpected"),
    ({"command": "guest-file-open", "arguments": []}, "'arguments'"),
    ({"command": "guest-get-osinfo", "more": 1}, "'more' is unexpected"),
])
def test_refused_at_once(channel, members, expected):
    assert expected in error_of(channel, "bellhop-job-start", **members)
    assert listing(channel)["jobs"] == []


def test_the_gate(start_agent):
    agent = start_agent(args=["-b", "guest-get-osinfo"])
    with agent.connect() as channel:
        reply = channel.request("bellhop-job-start", {"command": "guest-get-osinfo"})
        assert reply["error"] == {"class": "CommandNotFound",
                                  "desc": "Command guest-get-osinfo has been disabled"}


def test_what_has_begun_is_not_cancelled(agent, channel):
    slow = SlowOpen(agent)
    first = start_job(channel, "guest-file-open", {"path": slow.path})
    assert job(channel, id=first)["state"] == "running"
    assert "guest-file-open has begun" in error_of(channel, "bellhop-job-cancel", id=first)
    assert job(channel, id=first)["cancelling"] is False
    slow.finish()
    assert "return" in wait_over(channel, id=first)


def test_deadline_of_a_job(start_agent):
    agent = start_agent(settings={"deadline.guest-file-open": 1})
    with agent.connect() as channel:
        slow = SlowOpen(agent)
        number = start_job(channel, "guest-file-open", {"path": slow.path})
        over = wait_over(channel, id=number)
        assert "within 1 s" in over["error"]["desc"]


def test_large_requests_and_results(agent, channel):
    content = os.urandom(3000000)
    path = agent.path("large")
    handle = channel.open_file(path, "w+")
    number = start_job(channel, "guest-file-write",
                       {"handle": handle, "buf-b64": base64.b64encode(content).decode()})
    assert wait_over(channel, id=number)["return"] == {"count": len(content), "eof": False}
    channel.seek_file(handle, 0, "set")
    number = start_job(channel, "guest-file-read", {"handle": handle, "count": 4000000})
    wait_until(lambda: listing(channel)["counts"]["running"] == 0, 20, "the read")
    over = wait_over(channel, id=number)
    assert base64.b64decode(over["return"]["buf-b64"]) == content
    channel.close_file(handle)


def test_results_are_bounded(start_agent):
    agent = start_agent(settings={"exec.stream-bytes": "64K", "exec.output-bytes": "128K"})
    with agent.connect() as channel:
        path = agent.file("content", bytes(100000))
        handle = channel.open_file(path)
        over = wait_over(channel, id=start_job(channel, "guest-file-read",
                                               {"handle": handle, "count": 60000}))
        assert "more than is kept (setting exec.stream-bytes)" in over["error"]["desc"]
        channel.seek_file(handle, 0, "set")
        error = error_of(channel, "bellhop-job-start", command="guest-file-read", arguments={
            "handle": handle, "count": 30000, "padding": "x" * 100})
        assert "'padding' is unexpected" in error
        big = base64.b64encode(bytes(150000)).decode()
        error = error_of(channel, "bellhop-job-start", command="guest-file-write",
                         arguments={"handle": handle, "buf-b64": big})
        assert "exec.output-bytes" in error


def test_a_handle_nobody_asked_for_is_closed(start_agent):
    """The result of a job that is forgotten unseen is a reply that was never delivered."""
    agent = start_agent(settings={"exec.retention": 1})
    with agent.connect() as channel:
        path = agent.file("content")
        start_job(channel, "guest-file-open", {"path": path})
        wait_until(lambda: listing(channel)["counts"]["expired"] == 1, 10, "its expiry")
        wait_until(lambda: not agent.holds_open(path), what="the closing")


def test_a_program_started_by_a_job(channel):
    number = start_job(channel, "guest-exec", {"path": "/bin/sh", "arg": ["-c", "exit 4"]})
    pid = wait_over(channel, id=number)["return"]["pid"]
    assert wait(channel, pid).code == 4


def test_jobs_outlive_their_connection(agent):
    slow = SlowOpen(agent)
    with agent.connect() as channel:
        number = start_job(channel, "guest-file-open", {"path": slow.path})
    with agent.connect() as channel:
        assert job(channel, id=number)["state"] == "running"
        slow.finish()
        wait_over(channel, id=number)


def test_a_status_costs_the_same_among_many(start_agent):
    """A look at one job does not depend on how many there are: 600 beside it make no difference that
    could be seen, least of all the factor of 600 that a search would cost."""
    agent = start_agent(settings={"exec.running": 1000})
    with agent.connect() as channel:
        def cost(number):
            best = float("inf")
            for _ in range(5):
                begin = agent.cpu_seconds()
                for _ in range(200):
                    job(channel, id=number)
                best = min(best, agent.cpu_seconds() - begin)
            return best

        first = shell(channel, "sleep 1000")
        number = job(channel, pid=first)["id"]
        alone = cost(number)
        gate = agent.fifo()
        others = [start(channel, "/bin/true") for _ in range(600)]
        among = cost(number)
        assert among < 3 * alone + 0.1, (alone, among)
        channel.cmd("bellhop-job-cancel", {"id": number, "grace": 0})
        assert gate and len(others) == 600
