# SPDX-License-Identifier: MIT
"""What the agent says about itself and the guest."""

import os
import re
import time

import pytest

COMMANDS = """
    guest-sync guest-sync-delimited guest-ping guest-info guest-get-time guest-get-host-name
    guest-get-osinfo guest-get-timezone guest-file-open guest-file-close guest-file-read
    guest-file-write guest-file-seek guest-file-flush guest-exec guest-exec-status
""".split()
NO_REPLY = {"guest-shutdown", "guest-suspend-ram", "guest-suspend-disk", "guest-suspend-hybrid"}


# --- guest-info ----------------------------------------------------------------------------------


def test_info(shared):
    info = shared.cmd("guest-info")
    assert set(info) == {"version", "supported_commands"}
    assert re.match(r"\d+\.\d+", info["version"]), "clients read its beginning as a number"
    float(".".join(info["version"].split(".")[:2]))


def test_info_entries_have_exactly_three_members(shared):
    """Ansible compares each entry with a dictionary of these three."""
    for entry in shared.cmd("guest-info")["supported_commands"]:
        assert entry == {"name": entry["name"], "enabled": entry["enabled"],
                         "success-response": entry["name"] not in NO_REPLY}
        assert isinstance(entry["enabled"], bool)


def test_info_names(shared):
    names = [entry["name"] for entry in shared.cmd("guest-info")["supported_commands"]]
    assert len(set(names)) == len(names)
    assert set(COMMANDS) <= set(names)
    enabled = {entry["name"] for entry in shared.cmd("guest-info")["supported_commands"]
               if entry["enabled"]}
    assert set(COMMANDS) <= enabled


def test_info_tells_the_truth(shared):
    """What is listed and enabled is known; what is not, is not. Called in a way that fails before
    it could do anything."""
    for entry in shared.cmd("guest-info")["supported_commands"]:
        reply = shared.request(entry["name"], {"no-such-argument": 1})
        expected = "GenericError" if entry["enabled"] else "CommandNotFound"
        assert reply["error"]["class"] == expected, entry


@pytest.mark.parametrize("arguments, enabled", [
    (["-b", "guest-exec"], set(COMMANDS) - {"guest-exec"}),
    (["-b", "guest-exec,guest-file-open"], set(COMMANDS) - {"guest-exec", "guest-file-open"}),
    (["--blacklist", "guest-exec"], set(COMMANDS) - {"guest-exec"}),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_blocked_commands(start_agent, arguments, enabled):
    channel = start_agent(args=arguments).connect()
    found = {entry["name"] for entry in channel.cmd("guest-info")["supported_commands"]
             if entry["enabled"]}
    assert found & set(COMMANDS) == enabled


@pytest.mark.parametrize("key", ["block-rpcs", "blacklist"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_blocked_in_the_configuration(start_agent, key, separator):
    channel = start_agent(
        config="[general]\n%s=guest-exec%sguest-get-time\n" % (key, separator)).connect()
    found = {entry["name"] for entry in channel.cmd("guest-info")["supported_commands"]
             if entry["enabled"]}
    if separator == ";" and start_agent.differs("lists-know-only-commas"):
        assert set(COMMANDS) <= found
    else:
        assert found & set(COMMANDS) == set(COMMANDS) - {"guest-exec", "guest-get-time"}


@pytest.mark.bellhop_only("no-list-of-allowed-commands")
def test_allowed_commands(start_agent):
    """The list of 8.0 on; a channel that can sync is what is left at least."""
    channel = start_agent(args=["-a", "guest-ping,guest-info"]).connect(sync=False)
    found = {entry["name"] for entry in channel.cmd("guest-info")["supported_commands"]
             if entry["enabled"]}
    assert {"guest-ping", "guest-info"} <= found
    assert not found & {"guest-exec", "guest-file-open", "guest-get-time", "guest-get-osinfo"}
    assert channel.request("guest-get-time")["error"]["class"] == "CommandNotFound"


# --- sync, ping ----------------------------------------------------------------------------------


def test_ping(shared):
    assert shared.request("guest-ping") == {"return": {}}
    assert shared.request("guest-ping", {}) == {"return": {}}


@pytest.mark.parametrize("number", [0, 1, -1, 1795389085344, 2**63 - 1, -2**63])
def test_sync(shared, number):
    assert shared.cmd("guest-sync", {"id": number}) == number
    shared.post("guest-sync-delimited", {"id": number})
    assert shared.read_line() == b'\xff{"return": %d}' % number


# --- the guest -----------------------------------------------------------------------------------


def test_time(shared):
    before = time.time_ns() - 1000  # the reference counts microseconds
    value = shared.cmd("guest-get-time")
    assert before <= value <= time.time_ns()


def test_time_goes_on(shared):
    values = [shared.cmd("guest-get-time") for _ in range(20)]
    assert values == sorted(values) and values[0] < values[-1]


def test_host_name(shared):
    assert shared.cmd("guest-get-host-name") == {"host-name": os.uname().nodename}


@pytest.mark.parametrize("zone, name, offset", [
    ("UTC", "UTC", 0), ("XXX+5:30", "XXX", -19800), ("<+03>-3", "+03", 10800),
    ("Asia/Kathmandu", "+0545", 20700), ("Asia/Tokyo", "JST", 32400),
    ("America/Phoenix", "MST", -25200), ("", "UTC", 0),
])
def test_timezone(start_agent, zone, name, offset):
    """Zones without summer time, so that the answer is the same all year."""
    if "/" in zone and not os.path.exists("/usr/share/zoneinfo/" + zone):
        pytest.skip("no such zone on this machine")
    channel = start_agent(env={"TZ": zone}).connect()
    assert channel.cmd("guest-get-timezone") == {"zone": name, "offset": offset}


def test_timezone_in_summer_and_winter(start_agent):
    channel = start_agent(env={"TZ": "AAA-1BBB,J1,J365"}).connect()  # summer (almost) all year
    now = channel.cmd("guest-get-timezone")
    assert now in ({"zone": "BBB", "offset": 7200}, {"zone": "AAA", "offset": 3600})


# --- guest-get-osinfo ----------------------------------------------------------------------------


def osinfo(start_agent, path):
    """The reply without what the kernel gave."""
    with start_agent(env={"QGA_OS_RELEASE": str(path)}).connect() as channel:
        info = channel.cmd("guest-get-osinfo")
    kernel = os.uname()
    assert info.pop("kernel-release") == kernel.release
    assert info.pop("kernel-version") == kernel.version
    assert info.pop("machine") == kernel.machine
    return info


def test_osinfo_members(start_agent, tmp_path):
    (tmp_path / "os-release").write_text("""
NAME="Some Linux"
ID=some
PRETTY_NAME="Some Linux 5 (codename)"
VERSION="5 (codename)"
VERSION_ID="5"
VARIANT="Server Edition"
VARIANT_ID=server
BUILD_ID=20240101
HOME_URL="https://example.org/"
LOGO=some
""")
    assert osinfo(start_agent, tmp_path / "os-release") == {
        "name": "Some Linux", "id": "some", "pretty-name": "Some Linux 5 (codename)",
        "version": "5 (codename)", "version-id": "5", "variant": "Server Edition",
        "variant-id": "server"}


def test_osinfo_of_this_machine(shared):
    if not os.path.exists("/etc/os-release"):
        pytest.skip("this machine has none")
    with open("/etc/os-release") as file:
        identifier = re.search(r"^ID=[\"']?([a-z0-9._-]+)", file.read(), re.M).group(1)
    assert shared.cmd("guest-get-osinfo")["id"] == identifier


# text, what a shell would make of it, and what the reference makes of it if that is another thing
OS_RELEASES = [
    ("", {}),
    ("NAME=x", {"name": "x"}),
    ("NAME=\nID=\"\"\n", {"name": "", "id": ""}),
    ("# NAME=x\n\n#\nID=y\n", {"id": "y"}),
    ("NAME=one\nNAME=two\n", {"name": "two"}),
    ("XNAME=x\nNAMEX=y\nNAME_=z\nname=x\n", {}),
    (" NAME=x\n", {"name": "x"}),
    ("NAME=\"a\\\"b\\$c\\`d\\\\e\"\n", {"name": "a\"b$c`d\\e"}),
    ("NAME=\"a\\nb\"\n", {"name": "a\\nb"}),
    ("NAME=\"x\" # comment\n", {"name": "x"}),
    ("NAME=\"\u00e4\u20ac\U0001f600\"\n", {"name": "\u00e4\u20ac\U0001f600"}),
    ("NAME=\"a\tb\"\n", {"name": "a\tb"}),
    ("NAME=x   \nID=y\t\n", {"name": "x", "id": "y"}, {"name": "x", "id": "y\t"}),
    ("NAME=\"a=b\"\nID=c=d\n", {"name": "a=b", "id": "c=d"}),
    ("NAME=\"a\"\r\nID=b\r\n", {"name": "a", "id": "b"}),
    ("NAME=a b\nID=c\n", {"name": "a", "id": "c"}),
    ("NAME=\"" + "x" * 5000 + "\"\n", {"name": "x" * 5000}),
    ("NAME='a b'\n", {"name": "a b"}, {"name": "'a"}),
    ("NAME='a\\nb'\n", {"name": "a\\nb"}, {"name": "'a\\nb'"}),
    ("NAME=a\\ b\n", {"name": "a b"}, {"name": "a\\"}),
    ("NAME=a'b c'\"d e\"f\n", {"name": "ab cd ef"}, {"name": "a'b"}),
    ("NAME='it'\"'\"'s'\n", {"name": "it's"}, {"name": "'it'\"'\"'s'"}),
    ("NAME=\"x\"y\n", {"name": "xy"}, {"name": "x"}),
    ("NAME=\"never closed\nID=next\n", {"id": "next"}, {"name": "never closedd", "id": "next"}),
]


@pytest.mark.parametrize("row", range(len(OS_RELEASES)),
                         ids=lambda row: repr(OS_RELEASES[row][0])[:40])
def test_osinfo_quoting(start_agent, tmp_path, row):
    """As a shell would read it: os-release(5)."""
    text, expected = OS_RELEASES[row][:2]
    (tmp_path / "os-release").write_bytes(text.encode())
    found = osinfo(start_agent, tmp_path / "os-release")
    if len(OS_RELEASES[row]) == 3 and start_agent.differs("os-release-is-not-shell"):
        expected = OS_RELEASES[row][2]
    assert found == expected


def test_osinfo_that_is_not_utf8(start_agent, tmp_path):
    (tmp_path / "os-release").write_bytes(b"NAME=\"a\xffb\"\nID=x\n")
    found = osinfo(start_agent, tmp_path / "os-release")
    if start_agent.differs("os-release-is-not-shell"):
        assert found == {}
    else:
        assert found == {"name": "a\ufffdb", "id": "x"}


def test_osinfo_without_a_file(start_agent, tmp_path):
    assert osinfo(start_agent, tmp_path / "none") == {}
    assert osinfo(start_agent, tmp_path) == {}


def test_osinfo_is_read_each_time(start_agent, tmp_path):
    """An upgrade of the guest changes it."""
    path = tmp_path / "os-release"
    path.write_text("ID=one\n")
    channel = start_agent(env={"QGA_OS_RELEASE": str(path)}).connect()
    assert channel.cmd("guest-get-osinfo")["id"] == "one"
    path.write_text("ID=two\n")
    assert channel.cmd("guest-get-osinfo")["id"] == "two"
