#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""bellhopd and qemu-ga side by side over a unix socket: what each thing takes, and the ratio.

    BELLHOPD=build-bench/src/bellhopd tests/bench/bench_wire.py [--quick] [--json FILE]

A ratio above 1 means that bellhop is better: less time, less memory, more bytes per second. Both
agents run at the same time and are measured in turns, so that what else the machine does hits both.
The client side is raw sockets and prepared bytes: most of what is measured is the agent, but no
round trip can be shorter than what the kernel takes to switch between two processes.
"""

import argparse
import base64
import json
import os
import pathlib
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))

import agent as wire  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
NEWLINE = 10


class Peer:
    """One agent and a connection to it that costs as little as possible."""

    def __init__(self, kind, binary):
        self.kind = kind
        self.agent = wire.Agent(kind, binary)
        self.buffer = bytearray(MIB)
        self.view = memoryview(self.buffer)

    def start(self):
        self.agent.start()
        self.connect()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.agent.socket_path)
        self.socket.settimeout(60)

    def round_trips(self, request, count):
        """Sends a request so many times, waiting for its line each time."""
        sock, buffer = self.socket, self.buffer
        for _ in range(count):
            sock.send(request)
            received = sock.recv_into(buffer)
            while buffer[received - 1] != NEWLINE:  # the reference writes long ones in pieces
                received = sock.recv_into(buffer)

    def ask(self, request):
        """Sends bytes and waits for one line; returns its beginning."""
        self.socket.sendall(request)
        received = self.socket.recv_into(self.buffer)
        first = bytes(self.view[:min(received, 200)])
        while self.buffer[received - 1] != NEWLINE:
            received = self.socket.recv_into(self.buffer)
            assert received, "the agent closed the connection"
        return first

    def cmd(self, execute, **arguments):
        """A command outside of what is measured."""
        request = {"execute": execute, "arguments": {
            name.replace("_", "-"): value for name, value in arguments.items()}}
        reply = json.loads(self.ask(json.dumps(request).encode() + b"\n"))
        assert "return" in reply, reply
        return reply["return"]

    def cpu_ns(self):
        """Processor time of the agent and its helpers so far."""
        total = 0
        for pid in self.agent.family():
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, task)) as file:
                    total += int(file.read().split()[0])
        return total


def request_bytes(execute, **arguments):
    message = {"execute": execute}
    if arguments:
        message["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
    return json.dumps(message).encode() + b"\n"


# --- what is measured: functions of a peer that return a number ----------------------------------


def round_trips(execute, count, **arguments):
    """Microseconds for one request and its reply."""
    request = request_bytes(execute, **arguments)

    def measure(peer):
        assert b'"return"' in peer.ask(request)
        start = time.perf_counter_ns()
        peer.round_trips(request, count)
        return (time.perf_counter_ns() - start) / count / 1000
    return measure


def cpu_of_pings(count):
    """Microseconds of the agent's processor time for one ping."""
    request = request_bytes("guest-ping")

    def measure(peer):
        before = peer.cpu_ns()
        peer.round_trips(request, count)
        return (peer.cpu_ns() - before) / count / 1000
    return measure


def reading(chunk, total):
    """MiB per second of guest-file-read, before base64."""
    def measure(peer):
        path = os.path.join(peer.agent.files, "read")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                for _ in range(96):
                    file.write(os.urandom(MIB))
        handle = peer.cmd("guest-file-open", path=path)
        request = request_bytes("guest-file-read", handle=handle, count=chunk)
        count = min(total, 96 * MIB) // chunk
        start = time.perf_counter()
        for _ in range(count):
            peer.ask(request)
        took = time.perf_counter() - start
        peer.cmd("guest-file-close", handle=handle)
        return count * chunk / MIB / took
    return measure


def writing(chunk, total):
    """MiB per second of guest-file-write, before base64."""
    text = base64.b64encode(os.urandom(chunk)).decode()

    def measure(peer):
        path = os.path.join(peer.agent.files, "written")
        handle = peer.cmd("guest-file-open", path=path, mode="w")
        request = request_bytes("guest-file-write", handle=handle, buf_b64=text)
        count = max(1, total // chunk)
        start = time.perf_counter()
        for _ in range(count):
            first = peer.ask(request)
        took = time.perf_counter() - start
        assert b'"return"' in first, first
        peer.cmd("guest-file-close", handle=handle)
        assert os.path.getsize(path) == count * chunk
        return count * chunk / MIB / took
    return measure


def running(count):
    """Milliseconds for guest-exec of /bin/true and guest-exec-status until it has exited."""
    request = request_bytes("guest-exec", path="/bin/true")

    def measure(peer):
        start = time.perf_counter()
        for _ in range(count):
            pid = json.loads(peer.ask(request))["return"]["pid"]
            status = b'{"execute":"guest-exec-status","arguments":{"pid":%d}}\n' % pid
            while b'"exited": true' not in peer.ask(status):
                pass
        return (time.perf_counter() - start) / count * 1000
    return measure


def spawning(count):
    """The same without an agent: posix_spawn and waitpid."""
    start = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], os.environ), 0)
    return (time.perf_counter() - start) / count * 1000


def sync_beside_slow_commands(count):
    """Microseconds, 99th percentile, of a sync while 12 commands of the same channel hang."""
    def measure(peer):
        if peer.agent.is_reference:
            return None  # one of them and nothing is answered any more
        fifos = [peer.agent.path("fifo%d-%d" % (number, time.monotonic_ns()))
                 for number in range(12)]
        for number, path in enumerate(fifos):
            os.mkfifo(path)
            request = json.loads(request_bytes("guest-file-open", path=path))
            peer.socket.sendall(json.dumps(dict(request, id=number)).encode())
        time.sleep(0.3)  # they grow older than the grace, so that a sync does not wait for them
        request = request_bytes("guest-sync", id=1)
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            peer.round_trips(request, 1)
            times.append(time.perf_counter_ns() - start)
        for path in fifos:
            os.close(os.open(path, os.O_RDWR))  # ends the open
            os.unlink(path)
        return sorted(times)[int(count * 0.99)] / 1000
    return measure


# --- taking turns and telling --------------------------------------------------------------------


class Table:
    def __init__(self):
        self.rows = []
        print("%-44s %12s %12s %8s" % ("", "bellhop", "qemu-ga", "ratio"))

    def add(self, what, unit, ours, theirs, more_is_better=False):
        ratio = None
        if ours and theirs:
            ratio = ours / theirs if more_is_better else theirs / ours
        self.rows.append({"what": what, "unit": unit, "bellhop": ours, "reference": theirs,
                          "ratio": ratio})
        print("%-44s %12s %12s %8s" % (
            "%s [%s]" % (what, unit), number(ours), number(theirs),
            "%.2f" % ratio if ratio else "-"), flush=True)


def number(value):
    return "-" if value is None else "%.4g" % value if value < 1000 else "%.0f" % value


def in_turns(peers, rounds, measure):
    """The median of each peer's rounds; None for a peer that is not there."""
    results = {"bellhop": [], "reference": []}
    for _ in range(rounds):
        for peer in peers:
            value = measure(peer)
            if value is not None:
                results[peer.kind].append(value)
    return [statistics.median(values) if values else None for values in results.values()]


def compare(peers, quick):
    table = Table()
    few = 20 if quick else 1
    rounds = 3 if quick else 7

    def memory(which):
        found = {peer.kind: which(peer.agent) / MIB for peer in peers}
        return found["bellhop"], found.get("reference")

    table.add("memory when idle", "MiB", *memory(lambda agent: agent.rss()))
    for name, command, arguments in (
            ("ping", "guest-ping", {}), ("sync", "guest-sync", {"id": 1}),
            ("get-time", "guest-get-time", {}), ("host name", "guest-get-host-name", {}),
            ("info", "guest-info", {})):
        table.add(name, "us", *in_turns(peers, rounds,
                                        round_trips(command, 10000 // few, **arguments)))
    table.add("ping, agent's processor time", "us",
              *in_turns(peers, rounds, cpu_of_pings(10000 // few)))
    for chunk, total, name in ((64 * KIB, 32 * MIB, "64 KiB"), (MIB, 64 * MIB, "1 MiB"),
                               (48 * MIB, 96 * MIB, "48 MiB")):
        table.add("reading a file, chunks of " + name, "MiB/s",
                  *in_turns(peers, min(rounds, 5), reading(chunk, total)), more_is_better=True)
    # The largest request that the reference takes is of 64 MiB, which is 48 MiB before base64.
    for chunk, total, name in ((64 * KIB, 32 * MIB, "64 KiB"), (MIB, 64 * MIB, "1 MiB"),
                               (47 * MIB, 47 * MIB, "47 MiB")):
        table.add("writing a file, chunks of " + name, "MiB/s",
                  *in_turns(peers, min(rounds, 5), writing(chunk, total)), more_is_better=True)
    table.add("memory at its peak", "MiB", *memory(lambda agent: agent.rss_peak()))
    table.add("memory afterwards", "MiB", *memory(lambda agent: agent.rss()))
    table.add("running /bin/true", "ms", *in_turns(peers, rounds, running(400 // few)))
    table.add("the same by posix_spawn", "ms",
              statistics.median(spawning(400 // few) for _ in range(rounds)), None)
    table.add("sync beside 12 that hang, p99", "us",
              *in_turns(peers, 3, sync_beside_slow_commands(5000 // few)))
    return table.rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agent", default=os.environ.get("BELLHOPD"))
    parser.add_argument("--reference", default=wire.REFERENCE)
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there")
    options = parser.parse_args()
    if not options.agent:
        parser.error("no bellhopd: set BELLHOPD or give --agent")

    wire.become_subreaper()
    peers = [Peer("bellhop", os.path.abspath(options.agent))]
    if options.reference and os.access(options.reference, os.X_OK):
        peers.append(Peer("reference", options.reference))
    try:
        for peer in peers:
            peer.start()
        rows = compare(peers, options.quick)
    finally:
        for peer in peers:
            peer.agent.__exit__(*sys.exc_info())
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=4)


if __name__ == "__main__":
    main()
