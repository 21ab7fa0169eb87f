#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a policy costs: an agent with a full one beside an agent without any, in turns.

    BELLHOPD=build-bench/src/bellhopd tests/bench/bench_policy.py [--quick] [--limit RATIO]

The policy has 400 rules for files, 400 for programs, peers and an audit. A ping is to take no longer
under it: with --limit the program fails where the ratio is above that. All run on one processor:
where the scheduler puts agent and client makes more of a difference than anything that is measured.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))

import agent as wire  # noqa: E402

NEWLINE = 10
RULES = 400


def full_policy():
    lines = ["[policy]", "profile = full", "audit = DIRECTORY/audit", "[channel general]",
             "peer-uid = %d" % os.geteuid()]
    for number in range(RULES):
        lines += ["[files f%d]" % number, "path = DIRECTORY/files/%d" % number,
                  "access = read, write, create",
                  "[program p%d]" % number, "path = /bin/true",
                  "arguments = --number %d --value=* ..." % number, "environment = LANG TZ",
                  "timeout = 30", "capabilities = net_admin"]
    return "\n".join(lines) + "\n"


class Peer:
    def __init__(self, binary, config):
        self.agent = wire.Agent("bellhop", binary, config=config)
        self.buffer = bytearray(1 << 16)

    def start(self):
        self.agent.start()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.agent.socket_path)
        self.socket.settimeout(60)
        self.folder = os.path.join(self.agent.files, str(RULES - 1))
        os.mkdir(self.folder)

    def ask(self, request):
        self.socket.sendall(request)
        received = self.socket.recv_into(self.buffer)
        while self.buffer[received - 1] != NEWLINE:
            received = self.socket.recv_into(self.buffer)
        return bytes(self.buffer[:received])


def request(execute, **arguments):
    return json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n"


def pings(peer, count):
    """Microseconds for one."""
    ping = request("guest-ping")
    start = time.perf_counter_ns()
    for _ in range(count):
        peer.ask(ping)
    return (time.perf_counter_ns() - start) / count / 1000


def opens(peer, count):
    """Microseconds for opening a file to write, and closing it: by the last of the rules."""
    path = os.path.join(peer.folder, "file")
    start = time.perf_counter_ns()
    for _ in range(count):
        reply = json.loads(peer.ask(request("guest-file-open", path=path, mode="w")))
        peer.ask(request("guest-file-close", handle=reply["return"]))
    return (time.perf_counter_ns() - start) / count / 1000


def compare(peers, measure, rounds, count):
    """The median of each, and of the rounds' ratios: what disturbs a round disturbs both."""
    results = []
    for number in range(rounds):
        order = peers if number % 2 == 0 else peers[::-1]
        taken = {peer: measure(peer, count) for peer in order}
        results.append([taken[peer] for peer in peers])
    return (statistics.median(with_it for with_it, _ in results),
            statistics.median(without for _, without in results),
            statistics.median(with_it / without for with_it, without in results))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--limit", type=float)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    binary = os.environ["BELLHOPD"]
    peers = [Peer(binary, full_policy()), Peer(binary, None)]
    try:
        for peer in peers:
            peer.start()
            pings(peer, 2000)
        rounds = 11 if options.quick else 41
        ping = compare(peers, pings, rounds, 1000)
        opened = compare(peers, opens, rounds, 100)
    finally:
        for peer in peers:
            peer.agent.expect_clean_end = False
            peer.agent.__exit__(None, None, None)
    for name, (with_it, without, ratio) in (("ping", ping), ("open and close", opened)):
        print("%-16s %8.1f us with the policy, %8.1f us without: %.3f"
              % (name, with_it, without, ratio))
    if options.limit and ping[2] > options.limit:
        sys.exit("a ping takes %.3f times as long, more than %.3f" % (ping[2], options.limit))


if __name__ == "__main__":
    main()
