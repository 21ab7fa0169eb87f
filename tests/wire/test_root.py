# SPDX-License-Identifier: MIT
"""--root: an agent in a container that reports on its host."""

import os
import pathlib
import re
import struct

import pytest

from agent import AgentError, wait_until

TREES = pathlib.Path(__file__).resolve().parent.parent / "unit" / "trees"
ACTING = """guest-exec guest-fsfreeze-freeze guest-fsfreeze-freeze-list guest-fsfreeze-status
    guest-fsfreeze-thaw guest-fstrim guest-set-time guest-set-user-password guest-shutdown
    guest-suspend-disk guest-suspend-hybrid guest-suspend-ram guest-ssh-add-authorized-keys
    guest-ssh-get-authorized-keys guest-ssh-remove-authorized-keys""".split()


def unescape(text):
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())


def make_tree(root, text):
    """What tests/unit/file-tree.h does, which says how the text is written."""
    path = None
    for line in text.splitlines():
        if line.startswith("|"):
            with open(path, "ab") as file:
                file.write(unescape(line[1:]) + b"\n")
            continue
        word, *fields = line.split(" ") if line and line[0] != "#" else [None]
        if not word:
            continue
        path = os.fsencode(root) + unescape(fields[0])
        os.makedirs(path if word == "dir" else os.path.dirname(path), exist_ok=True)
        if word == "file":
            open(path, "wb").close()
        elif word == "link":
            os.symlink(unescape(fields[1]), path)


GUEST = r"""
file /etc/hostname
|the-host
file /etc/os-release
|ID=elsewhere
|PRETTY_NAME="Elsewhere 1"
link /etc/localtime /usr/share/zoneinfo/Here
file /proc/loadavg
|1.25 0.50 0.00 1/234 5678
file /proc/stat
|cpu  30 0 20 100 4 0 0 0 0 0
|cpu0 30 0 20 100 4 0 0 0 0 0
file /proc/1/net/route
|Iface\x09Destination\x09Gateway \x09Flags\x09RefCnt\x09Use\x09Metric\x09Mask\x09\x09MTU\x09Window\x09IRTT
|eth7\x0900000000\x090100000A\x090003\x090\x090\x09100\x0900000000\x090\x090\x090
file /sys/devices/system/cpu/cpu0/topology/core_id
|0
file /sys/devices/system/cpu/cpu3/online
|0
file /proc/swaps
|Filename Type Size Used Priority
link /run/utmp ../var/utmp
"""


def zone_file(name, offset):
    """A time zone that never changes (RFC 8536, version 1)."""
    return struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 0, 1, len(name) + 1) + \
        struct.pack(">lBB", offset, 0, 0) + name.encode() + b"\0"


def utmp_record(user, seconds):
    record = struct.pack("<hhi32s4s32s256s4x", 7, 0, 100, b"pts/0", b"ts/0", user.encode(), b"")
    return record.ljust(340, b"\0") + struct.pack("<ll", seconds, 0).ljust(44, b"\0")


@pytest.fixture
def root(tmp_path):
    make_tree(tmp_path, (TREES / "lvm-on-raid.tree").read_text() + GUEST)
    zone = tmp_path / "usr/share/zoneinfo/Here"
    zone.parent.mkdir(parents=True)
    zone.write_bytes(zone_file("HERE", 3 * 3600 + 1800))
    (tmp_path / "var").mkdir(exist_ok=True)
    (tmp_path / "var/utmp").write_bytes(utmp_record("alice", 1500000000))
    (tmp_path / "proc/1/ns").mkdir()
    os.symlink(os.readlink("/proc/self/ns/net"), tmp_path / "proc/1/ns/net")
    return tmp_path


@pytest.fixture
def there(start_agent, root, kind):
    if kind == "reference":
        pytest.skip("it has no --root")
    return start_agent(args=["--root", str(root)]).connect()


def test_what_is_read_is_read_there(there):
    assert there.cmd("guest-get-host-name") == {"host-name": "the-host"}
    system = there.cmd("guest-get-osinfo")
    assert (system["id"], system["pretty-name"]) == ("elsewhere", "Elsewhere 1")
    assert system["kernel-release"] == os.uname().release
    assert there.cmd("guest-get-timezone") == {"zone": "HERE", "offset": 12600}
    assert there.cmd("guest-get-load")["load1m"] == 1.25
    assert [cpu["user"] for cpu in there.cmd("guest-get-cpustats")] == [
        30 * 1000 // os.sysconf("SC_CLK_TCK")]
    assert there.cmd("guest-get-users") == [{"user": "alice", "login-time": 1500000000.0}]
    assert [(route["iface"], route["gateway"]) for route in there.cmd("guest-network-get-route")] \
        == [("eth7", "10.0.0.1")]
    assert there.cmd("guest-get-vcpus") == [
        {"online": True, "can-offline": False, "logical-id": 0},
        {"online": False, "can-offline": True, "logical-id": 3}]
    assert [entry["mountpoint"] for entry in there.cmd("guest-get-fsinfo")] == [
        "/mnt/btrfs", "/mnt/loop", "/mnt/lv"]
    assert "/dev/md0" in [disk["name"] for disk in there.cmd("guest-get-disks")]
    assert "dm-0" in [disk["name"] for disk in there.cmd("guest-get-diskstats")]


def test_files_are_opened_there(there, root):
    (root / "etc/link").symlink_to("/etc/hostname")
    handle = there.open_file("/etc/link")
    assert there.read_file(handle)[0] == b"the-host\n"
    there.close_file(handle)
    handle = there.open_file("/etc/new", "w")
    there.write_file(handle, b"new\n")
    there.close_file(handle)
    assert (root / "etc/new").read_bytes() == b"new\n"
    (root / "etc/out").symlink_to("../" * 20 + "etc/hostname")
    handle = there.open_file("/etc/out")
    assert there.read_file(handle)[0] == b"the-host\n"
    there.close_file(handle)
    (root / "etc/dangling").symlink_to("/etc/nothing")
    with pytest.raises(AgentError, match="No such file"):
        there.open_file("/etc/dangling", "w")


def test_what_would_act_on_the_agent_s_own_system_is_refused(there):
    commands = {entry["name"]: entry["enabled"]
                for entry in there.cmd("guest-info")["supported_commands"]}
    disabled = {name for name, enabled in commands.items() if not enabled}
    assert disabled == {*ACTING, "guest-get-devices"}
    for name in ACTING:
        if name.startswith("guest-fsfreeze-freeze"):
            continue  # if that were not refused, the machine would be frozen
        with pytest.raises(AgentError, match="has been disabled: the agent only looks at the "
                                             "guest .--root.") as caught:
            there.cmd(name)
        assert caught.value.error_class == "CommandNotFound"


def test_network_of_the_guest(there):
    assert "lo" in [entry["name"] for entry in there.cmd("guest-network-get-interfaces")]


@pytest.fixture(params=["net:[1]", None])
def another_network(request, root):
    """The agent looks when it starts, so this comes before `there`."""
    link = root / "proc/1/ns/net"
    link.unlink()
    if request.param:
        link.symlink_to(request.param)


def test_network_of_another_namespace_is_not_taken_for_the_guest_s(another_network, there):
    with pytest.raises(AgentError, match="another network than the guest"):
        there.cmd("guest-network-get-interfaces")


def test_the_agent_s_own_root_is_no_difference(start_agent, kind):
    if kind == "reference":
        pytest.skip("it has no --root")
    with open("/proc/1/mountinfo") as one, open("/proc/self/mountinfo") as own:
        if one.read() != own.read():
            pytest.skip("these tests run in a mount namespace of their own")
    plain, other = start_agent().connect(), start_agent(args=["--root", "/"]).connect()
    for command, arguments in (
            ("guest-get-fsinfo", {}), ("guest-get-disks", {}), ("guest-get-vcpus", {}),
            ("guest-get-osinfo", {}), ("guest-get-users", {}), ("guest-get-timezone", {}),
            ("guest-get-memory-blocks", {})):
        # Other tests may make disks and mounts meanwhile.
        wait_until(lambda: shape(plain.cmd(command, arguments)) ==
                   shape(other.cmd(command, arguments)), 10, command)


def shape(reply):
    """Without what changes from one moment to the next."""
    if isinstance(reply, list):
        return [shape(entry) for entry in reply]
    return {name: value for name, value in reply.items()
            if name not in ("used-bytes", "total-bytes", "smart")}


@pytest.mark.parametrize("missing", ["nothing", "proc", "localtime"])
def test_what_cannot_be_a_root(start_agent, kind, tmp_path, missing):
    if kind == "reference":
        pytest.skip("it has no --root")
    root = tmp_path / "root"
    if missing != "nothing":
        make_tree(root, "dir /sys/class\n" + ("dir /proc/1\ndir /etc\nlink /etc/localtime "
                                              "localtime" if missing == "localtime" else ""))
    with pytest.raises(RuntimeError, match="--root .*/root: "):
        start_agent(args=["--root", str(root)])
