# SPDX-License-Identifier: MIT
"""The network, against iproute2 and the kernel's own tables."""

import json
import socket
import struct
import subprocess

import pytest


def ip(*arguments):
    return json.loads(subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True).stdout)


def test_interfaces_are_those_of_ip(shared):
    links = {link["ifname"]: link for link in ip("-s", "addr", "show")}
    reply = shared.cmd("guest-network-get-interfaces")
    assert [entry["name"] for entry in reply] == list(links)
    for entry in reply:
        link = links[entry["name"]]
        addresses = [{"ip-address-type": {"inet": "ipv4", "inet6": "ipv6"}[info["family"]],
                      "ip-address": info["local"], "prefix": info["prefixlen"]}
                     for info in link["addr_info"]]
        assert entry.get("ip-addresses", []) == addresses
        if len(link["address"]) == 17:
            assert entry["hardware-address"] == link["address"]
        assert "ip-addresses" not in entry or entry["ip-addresses"]


def test_statistics(shared):
    before = {link["ifname"]: link["stats64"] for link in ip("-s", "link", "show")}
    reply = shared.cmd("guest-network-get-interfaces")
    after = {link["ifname"]: link["stats64"] for link in ip("-s", "link", "show")}
    for entry in reply:
        if "statistics" not in entry:
            assert shared.agent.is_reference
            continue
        statistics = entry["statistics"]
        assert set(statistics) == {way + "-" + what for way in ("rx", "tx")
                                   for what in ("bytes", "packets", "errs", "dropped")}
        for way in ("rx", "tx"):
            for ours, theirs in (("bytes", "bytes"), ("packets", "packets"), ("errs", "errors")):
                assert before[entry["name"]][way][theirs] <= statistics[way + "-" + ours] <= \
                    after[entry["name"]][way][theirs]


def test_routes_are_those_of_the_kernel(channel):
    if channel.agent.is_reference:
        pytest.skip("the reference is too old to know routes")
    reply = channel.cmd("guest-network-get-route")
    with open("/proc/net/route") as table:
        lines = [line.split() for line in table.readlines()[1:]]
    routes = [route for route in reply if route["version"] == 4]
    assert [route["iface"] for route in routes] == [line[0] for line in lines]
    for route, line in zip(routes, lines):
        for name, column in (("destination", 1), ("gateway", 2), ("mask", 7)):
            assert route[name] == socket.inet_ntoa(struct.pack("=I", int(line[column], 16)))
        assert route["flags"] == int(line[3], 16)
        for name, column in (("refcnt", 4), ("use", 5), ("metric", 6), ("mtu", 8), ("window", 9),
                             ("irtt", 10)):
            assert route[name] == int(line[column])
    with open("/proc/net/ipv6_route") as table:
        lines = [line.split() for line in table.readlines()]
    routes = [route for route in reply if route["version"] == 6]
    assert [route["iface"] for route in routes] == [line[9] for line in lines]
    for route, line in zip(routes, lines):
        for name, column in (("destination", 0), ("source", 2), ("nexthop", 4)):
            assert route[name] == socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[column]))
        assert route["desprefixlen"] == str(int(line[1], 16))
        assert route["srcprefixlen"] == str(int(line[3], 16))
        assert (route["metric"], route["flags"]) == (int(line[5], 16), int(line[8], 16))
