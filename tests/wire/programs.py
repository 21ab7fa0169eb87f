# SPDX-License-Identifier: MIT
"""Programs run through guest-exec, for the tests that are about them."""

import base64
import json
import time

from agent import AgentError, seconds, wait_until

LIMIT_S = 20  # no program of a test takes this long


def encoded(data):
    return base64.b64encode(data).decode()


def start(channel, path, *words, timeout=10.0, **members):
    """guest-exec; returns the pid. Members are written with _ for -, input is bytes, and the time
    limit of the program is time_limit (timeout is that of the answer)."""
    arguments = {"path": path}
    if words:
        arguments["arg"] = list(words)
    if "input" in members:
        arguments["input-data"] = encoded(members.pop("input"))
    if "time_limit" in members:
        arguments["timeout"] = members.pop("time_limit")
    arguments.update((name.replace("_", "-"), value) for name, value in members.items())
    reply = channel.cmd("guest-exec", arguments, timeout)
    assert set(reply) == {"pid"}
    assert isinstance(reply["pid"], int) and reply["pid"] > 0
    return reply["pid"]


def shell(channel, script, **members):
    """The same for a script of the shell."""
    return start(channel, "/bin/sh", "-c", script, **members)


def status(channel, pid, timeout=10.0):
    """guest-exec-status; checks that the members fit together."""
    reply = channel.cmd("guest-exec-status", {"pid": pid}, timeout)
    if not reply["exited"]:
        assert set(reply) == {"exited"}
        return reply
    assert ("exitcode" in reply) != ("signal" in reply), reply
    for stream in ("out", "err"):
        assert ("%s-data" % stream in reply) == ("%s-truncated" % stream in reply), reply
    assert set(reply) <= {"exited", "exitcode", "signal", "out-data", "out-truncated",
                          "err-data", "err-truncated", "timed-out"}
    return reply


class Result:
    """How a program ended: code or signal (the other is None), out and err (bytes, b"" if there
    was nothing), truncated (the streams that were)."""

    def __init__(self, reply):
        self.reply = reply
        self.code = reply.get("exitcode")
        self.signal = reply.get("signal")
        self.out = base64.b64decode(reply.get("out-data", ""), validate=True)
        self.err = base64.b64decode(reply.get("err-data", ""), validate=True)
        self.truncated = {stream for stream in ("out", "err")
                          if reply.get("%s-truncated" % stream)}

    def __repr__(self):
        return "<code %s, signal %s, out %r, err %r>" % (self.code, self.signal, self.out[:400],
                                                         self.err[:400])


def wait(channel, pid, timeout=LIMIT_S):
    """Asks for the status until the program has exited."""
    reply = {}

    def has_exited():
        reply.update(status(channel, pid))
        return reply["exited"]

    wait_until(has_exited, timeout, "the end of pid %d" % pid)
    return Result(reply)


def run(channel, path, *words, **members):
    """Runs a program to its end, its output captured unless told otherwise."""
    members.setdefault("capture_output", True)
    return wait(channel, start(channel, path, *words, **members))


def run_shell(channel, script, **members):
    return run(channel, "/bin/sh", "-c", script, **members)


def error_of_start(channel, path, *words, timeout=10.0, **members):
    """The description of the error that a start must end with."""
    try:
        pid = start(channel, path, *words, timeout=timeout, **members)
    except AgentError as error:
        assert error.error_class == "GenericError"
        return error.desc
    raise AssertionError("it started: pid %d" % pid)


def error_of_status(channel, pid):
    try:
        reply = status(channel, pid)
    except AgentError as error:
        assert error.error_class == "GenericError"
        return error.desc
    raise AssertionError("it has a status: %s" % json.dumps(reply)[:400])


def quickly(action, limit):
    """Calls action() and returns its value, which has to come within `limit` seconds (scaled)."""
    begin = time.monotonic()
    value = action()
    took = time.monotonic() - begin
    assert took < seconds(limit), "took %.3f s" % took
    return value
