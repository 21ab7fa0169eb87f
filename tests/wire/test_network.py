# SPDX-License-Identifier: MIT
"""The network, against iproute2 and the kernel's own tables."""

import contextlib
import ctypes
import json
import os
import socket
import struct
import subprocess

import pytest

from agent import wait_until


def ip(*arguments):
    return json.loads(subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True).stdout)


CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def network_space():
    """A network namespace, in which this process and the agents that it starts are for a while."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if LIBC.unshare(CLONE_NEWNET) != 0:
            pytest.skip("network namespaces are not allowed here")
        yield
    finally:
        assert LIBC.setns(before, CLONE_NEWNET) == 0
        os.close(before)


def batch(*lines, force=False):
    """Has ip carry out the lines; with `force` the others, too, if some cannot be."""
    text = "".join(line + "\n" for line in lines)
    subprocess.run(["ip", *(["-force"] if force else []), "-batch", "-"], input=text, text=True,
                   check=not force, capture_output=True)


def addresses_of(links):
    return [(link["ifname"], [(info["local"], info["prefixlen"]) for info in link["addr_info"]])
            for link in links]


def check_interfaces(channel):
    """Returns the reply. Addresses that the kernel makes itself come some time after their link."""
    found = []

    def is_quiet():
        before = ip("addr", "show")
        found[:] = [channel.cmd("guest-network-get-interfaces", timeout=20), ip("addr", "show")]
        return addresses_of(before) == addresses_of(found[1])

    wait_until(is_quiet, 20, "the addresses stay the same")
    reply, listed = found
    links = {link["ifname"]: link for link in listed}
    assert [entry["name"] for entry in reply] == list(links)
    for entry in reply:
        link = links[entry["name"]]
        addresses = [{"ip-address-type": {"inet": "ipv4", "inet6": "ipv6"}[info["family"]],
                      "ip-address": info["local"], "prefix": info["prefixlen"]}
                     for info in link["addr_info"]]
        assert entry.get("ip-addresses", []) == addresses
        if len(link.get("address", "")) == 17:
            assert entry["hardware-address"] == link["address"]
        assert "ip-addresses" not in entry or entry["ip-addresses"]
    return reply


def test_interfaces_are_those_of_ip(shared):
    check_interfaces(shared)


# What this machine's kernel does not have is tested in the guest suite.
KINDS = ["link add br0 type bridge", "link add v0 type veth peer name v1", "link set v1 master br0",
         "tuntap add dev ptp0 mode tun", "link add dummy0 type dummy",
         "link add link v0 name v0.5 type vlan id 5"]
SET_UP = ["link set lo up", "link set br0 up", "link set v0 up", "link set v1 up", "link set ptp0 up",
          "link set v0.5 up", "addr add 192.0.2.1/24 dev br0", "addr add 192.0.2.65/26 dev br0",
          "addr add 2001:db8::1/64 dev br0 nodad", "addr add 198.51.100.1 peer 198.51.100.2/32 dev ptp0",
          "addr add 203.0.113.9/32 dev lo", "addr add 192.0.2.130/25 dev v0.5"]


def test_interfaces_of_all_kinds(kind, start_agent):
    """Bridges, pairs, point-to-point, several addresses, none, link-local ones."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with network_space():
        batch(*KINDS, *SET_UP, force=True)
        reply = check_interfaces(start_agent().connect())
        found = {entry["name"]: entry for entry in reply}
        assert {"lo", "br0", "v0", "v1"} <= set(found)
        assert "ip-addresses" not in found["v1"] or "fe80" in str(found["v1"])


def test_many_interfaces(kind, start_agent):
    """In the kernel's order, none twice, none left out, all with statistics."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    names = ["many%d" % number for number in range(200)]
    with network_space():
        batch(*("link add %s type bridge" % name for name in names))
        batch(*("addr add 10.%d.%d.1/30 dev %s" % (number // 250, number % 250, name)
                for number, name in enumerate(names)))
        reply = check_interfaces(start_agent().connect())
    found = [entry["name"] for entry in reply]
    assert [name for name in found if name.startswith("many")] == names
    if kind == "bellhop":  # the reference leaves them out for some
        assert all("statistics" in entry for entry in reply)


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
