# SPDX-License-Identifier: MIT
"""Interfaces of every kind, against iproute2 and the classic agent."""
import json
import shutil

import pytest

import vm as machine
from host import wait_until
from vm import VmOptions

IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
VM_OPTIONS = VmOptions(programs=(IP,) if IP else (),
                       modules=("dummy", "8021q", "bridge", "veth", "tun", "ip_gre"))
SET_UP = """
    link add extra0 type dummy
    link set extra0 up
    link add link extra0 name extra0.5 type vlan id 5
    link add br0 type bridge
    link add v0 type veth peer name v1
    link set v1 master br0
    tuntap add dev ptp0 mode tun
    link add tunnel type gre local 10.0.2.15 remote 192.0.2.99
    link set br0 up
    link set v0 up
    link set v1 up
    link set extra0.5 up
    link set ptp0 up
    addr add 192.0.2.1/24 dev br0
    addr add 192.0.2.65/26 dev br0
    addr add 2001:db8::1/64 dev br0 nodad
    addr add 198.51.100.1 peer 198.51.100.2/32 dev ptp0
    addr add 192.0.2.130/25 dev extra0.5
    addr add fe80::5/64 dev extra0 nodad
"""


@pytest.fixture
def interfaces(any_agent):
    if not IP:
        pytest.skip("ip is not installed")
    any_agent.shell.run("cat >/run/batch <<'END'\n" + SET_UP + "END\n"
                        f"{IP} -batch /run/batch", timeout=60)
    yield any_agent
    any_agent.shell.run("for i in extra0 extra0.5 br0 v0 ptp0 tunnel; do "
                        f"{IP} link del $i; done; true", timeout=60)


def listed(vm):
    links = json.loads(vm.shell.run(f"{IP} -j addr", timeout=60))
    for link in links:
        link["addr_info"] = [{name: info[name] for name in ("family", "local", "prefixlen")}
                             for info in link["addr_info"]]
    return links


def test_interfaces_of_all_kinds(interfaces):
    found = []

    def is_quiet():
        """The kernel gives a link its own addresses some time after the link is there."""
        before = listed(interfaces)
        found[:] = [channel.run("guest-network-get-interfaces", timeout=60), listed(interfaces)]
        return [link["addr_info"] for link in before] == [link["addr_info"] for link in found[1]]

    with interfaces.session() as channel:
        wait_until(is_quiet, "the addresses stay the same", 60)
    reply = found[0]
    links = {link["ifname"]: link for link in found[1]}
    assert [entry["name"] for entry in reply] == list(links)
    for entry in reply:
        link = links[entry["name"]]
        addresses = [{"ip-address-type": {"inet": "ipv4", "inet6": "ipv6"}[info["family"]],
                      "ip-address": info["local"], "prefix": info["prefixlen"]}
                     for info in link["addr_info"]]
        assert entry.get("ip-addresses", []) == addresses
        if len(link.get("address", "")) == 17:
            assert entry["hardware-address"] == link["address"]
    assert {"lo", "extra0", "extra0.5", "br0", "v0", "v1", "ptp0", "tunnel"} <= set(links)


def test_the_classic_agent_says_the_same(vm):
    if not machine.reference() or not IP:
        pytest.skip("qemu-ga or ip is not installed")
    replies = []
    vm.shell.run(f"{IP} link add extra1 type dummy; {IP} addr add 192.0.2.7/24 dev extra1")
    try:
        for program in ("bellhopd", "qemu-ga"):
            vm.reset()
            vm.start_agent(program=program)
            with vm.session() as channel:
                replies.append(channel.run("guest-network-get-interfaces"))
    finally:
        vm.shell.run(f"{IP} link del extra1")
    ours, theirs = ({entry["name"]: entry for entry in reply} for reply in replies)
    assert list(ours) == list(theirs)
    for name, entry in theirs.items():
        assert set(ours[name]) == set(entry) | {"statistics"}, "which the classic agent may not have"
        for member in set(entry) - {"statistics"}:
            assert ours[name][member] == entry[member], name
        if "statistics" in entry:
            assert set(ours[name]["statistics"]) == set(entry["statistics"])
