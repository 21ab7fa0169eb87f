# SPDX-License-Identifier: MIT
"""How busy the guest is, against /proc."""

import os
import time

NAMES = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest",
         "guestnice"]


def processor_times():
    """cpu -> {name: milliseconds} as the kernel has them now."""
    tick = 1000 // os.sysconf("SC_CLK_TCK")
    times = {}
    with open("/proc/stat") as file:
        for line in file:
            word, *fields = line.split()
            if word.startswith("cpu") and word != "cpu":
                times[int(word[3:])] = dict(zip(NAMES, [int(field) * tick for field in fields]))
    return times


def test_cpustats(shared):
    before = processor_times()
    reply = shared.cmd("guest-get-cpustats")
    after = processor_times()
    assert [entry["cpu"] for entry in reply] == list(before) == list(after)
    for entry in reply:
        cpu = entry["cpu"]
        assert set(entry) == {"type", "cpu", *before[cpu]}
        assert entry["type"] == "linux"
        for name in before[cpu]:
            # Idle times are sampled and may step back by a tick.
            assert before[cpu][name] - 10 <= entry[name] <= after[cpu][name] + 10, (cpu, name)


def test_cpustats_go_on(shared):
    first = shared.cmd("guest-get-cpustats")[0]
    end = time.monotonic() + 5
    while time.monotonic() < end:
        later = shared.cmd("guest-get-cpustats")[0]
        if sum(later[name] for name in NAMES[:8]) > sum(first[name] for name in NAMES[:8]):
            return
    raise AssertionError("no time passed on processor 0: %r" % first)


def test_load(start_agent):
    if start_agent.differs("no-load"):
        reply = start_agent().connect().request("guest-get-load")
        assert reply["error"]["class"] == "CommandNotFound"
        return
    channel = start_agent().connect()
    for _ in range(100):
        before = open("/proc/loadavg").read().split()[:3]
        reply = channel.cmd("guest-get-load")
        after = open("/proc/loadavg").read().split()[:3]
        if before == after:  # it is calculated anew every five seconds
            assert reply == dict(zip(["load1m", "load5m", "load15m"], map(float, before)))
            return
    raise AssertionError("the load never stood still")
