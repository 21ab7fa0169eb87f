#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""guest-network-get-interfaces with many interfaces, bellhopd and qemu-ga in the same run.

    BELLHOPD=build-bench/src/bellhopd tests/bench/bench_interfaces.py [--json FILE]

Runs as root in a network namespace of its own, which goes with it. The interfaces are dummies, or
bridges where the kernel has no dummies; each has an IPv4 address. What is wanted: 1,000 interfaces at
least 40 times faster than qemu-ga; 5,000 in at most 6 times what 1,000 take. Exit status 1 if not.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time

import bench_wire

wire = bench_wire.wire

CLONE_NEWNET = 0x40000000
WANTED_RATIO, WANTED_GROWTH = 40, 6


def batch(lines):
    subprocess.run(["ip", "-batch", "-"], input="".join(line + "\n" for line in lines), text=True,
                   check=True, stdout=subprocess.DEVNULL)


def kind_of_interface():
    for kind in ("dummy", "bridge"):
        if subprocess.run(["ip", "link", "add", "probe", "type", kind],
                          stderr=subprocess.DEVNULL).returncode == 0:
            batch(["link del probe"])
            return kind
    sys.exit("neither dummies nor bridges can be made here")


def add_interfaces(kind, first, last):
    batch("link add if%d type %s" % (number, kind) for number in range(first, last))
    batch("addr add 10.%d.%d.1/30 dev if%d" % (number // 250, number % 250, number)
          for number in range(first, last))


def measure(peers, rounds):
    """Milliseconds of each kind of peer, the median; they take turns."""
    times = {peer.kind: [] for peer in peers}
    request = bench_wire.request_bytes("guest-network-get-interfaces")
    for _ in range(rounds):
        for peer in peers:
            start = time.perf_counter()
            assert peer.ask(request).startswith(b'{"return": [')
            times[peer.kind].append((time.perf_counter() - start) * 1000)
    return {kind: statistics.median(values) for kind, values in times.items()}


def count(peer):
    peer.socket.sendall(bench_wire.request_bytes("guest-network-get-interfaces"))
    received = b""
    while not received.endswith(b"\n"):
        received += peer.socket.recv(1 << 20)
    return len(json.loads(received)["return"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agent", default=os.environ.get("BELLHOPD"))
    parser.add_argument("--reference", default=wire.REFERENCE)
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there")
    options = parser.parse_args()
    if not options.agent:
        parser.error("no bellhopd: set BELLHOPD or give --agent")
    if os.geteuid() != 0 or ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        print("needs root and network namespaces", file=sys.stderr)
        return 77

    wire.become_subreaper()
    kind = kind_of_interface()
    ours = bench_wire.Peer("bellhop", os.path.abspath(options.agent))
    peers = [ours]
    if options.reference and os.access(options.reference, os.X_OK):
        peers.append(bench_wire.Peer("reference", options.reference))
    try:
        for peer in peers:
            peer.start()
        add_interfaces(kind, 0, 1000)
        thousand = measure(peers, 9)
        assert count(ours) == 1001
        add_interfaces(kind, 1000, 5000)
        five = measure([ours], 9)
        assert count(ours) == 5001
    finally:
        for peer in peers:
            peer.agent.__exit__(*sys.exc_info())

    growth = five["bellhop"] / thousand["bellhop"]
    ratio = thousand["reference"] / thousand["bellhop"] if "reference" in thousand else None
    print("1,000 interfaces (%s): bellhop %.2f ms" % (kind, thousand["bellhop"]), end="")
    print(", qemu-ga %.0f ms: %.0f times (wanted: %d)" % (
        thousand["reference"], ratio, WANTED_RATIO) if ratio else "")
    print("5,000 interfaces: bellhop %.2f ms: %.1f times what 1,000 take (wanted: at most %d)" % (
        five["bellhop"], growth, WANTED_GROWTH))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"kind": kind, "thousand_ms": thousand, "five_thousand_ms": five}, file)
    return 0 if growth <= WANTED_GROWTH and (ratio is None or ratio >= WANTED_RATIO) else 1


if __name__ == "__main__":
    sys.exit(main())
