# SPDX-License-Identifier: MIT
"""File systems and disks, against findmnt, lsblk and statvfs.

What cannot be had on every machine (LVM, RAID, NVMe, controllers) is tested in the guest suite and,
on recorded machines, in the unit tests.
"""

import ctypes
import json
import os
import shutil
import subprocess
import time

import pytest

from agent import seconds, wait_until

CLONE_NEWNS = 0x00020000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mounted():
    """What findmnt says of file systems on block devices, oldest first."""
    columns = "ID,TARGET,SOURCE,FSTYPE,MAJ:MIN,FSROOT"
    listed = json.loads(run("findmnt", "-J", "-l", "-o", columns))["filesystems"]
    return [mount for mount in listed if not mount["maj:min"].startswith("0:")]


def first_of_each(mounts):
    """The oldest mount of each file system."""
    found = {}
    for mount in mounts:
        found.setdefault(mount["maj:min"], mount)
    return list(found.values())


def kernel_name(number):
    return os.path.basename(os.path.realpath("/sys/dev/block/" + number))


def check_sizes(entry):
    """Others use the disk meanwhile: what is free may have changed a little."""
    status = os.statvfs(entry["mountpoint"])
    slack = max(16 << 20, status.f_blocks * status.f_frsize // 100)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    assert abs(entry["used-bytes"] - used) <= slack
    assert abs(entry["total-bytes"] - used - status.f_bavail * status.f_frsize) <= slack
    if "total-bytes-privileged" in entry:
        assert entry["total-bytes-privileged"] == status.f_blocks * status.f_frsize


# --- this machine --------------------------------------------------------------------------------


def test_fsinfo_is_findmnt(shared):
    reply = shared.cmd("guest-get-fsinfo")
    expected = mounted() if shared.agent.differs("bind-mounts-are-listed") else \
        first_of_each(mounted())
    assert [(entry["mountpoint"], entry["type"]) for entry in reply] == \
        [(mount["target"], mount["fstype"]) for mount in reversed(expected)]
    for entry, mount in zip(reply, reversed(expected)):
        assert set(entry) - {"total-bytes-privileged"} == {
            "name", "mountpoint", "type", "disk", "used-bytes", "total-bytes"}
        assert ("total-bytes-privileged" in entry) == (not shared.agent.is_reference)
        assert entry["name"] == kernel_name(mount["maj:min"])
        check_sizes(entry)


def test_addresses(shared):
    for entry in shared.cmd("guest-get-fsinfo"):
        for disk in entry["disk"]:
            check_address(disk)


def check_address(disk):
    assert set(disk) - {"serial", "dev", "ccw-address"} == {
        "bus-type", "bus", "target", "unit", "pci-controller"}
    assert all(isinstance(disk[name], int) for name in ("bus", "target", "unit"))
    path = os.path.realpath("/sys/class/block/" + disk["dev"][len("/dev/"):])
    pci = [step for step in path.split("/") if step.count(":") == 2 and "." in step]
    numbers = disk["pci-controller"]
    assert set(numbers) == {"domain", "bus", "slot", "function"}
    if pci:
        assert "%04x:%02x:%02x.%x" % (numbers["domain"], numbers["bus"], numbers["slot"],
                                      numbers["function"]) == pci[-1]
    else:
        assert set(numbers.values()) == {-1}


def test_disks_are_those_of_lsblk(shared):
    listed = json.loads(run("lsblk", "-J", "-b", "-l", "-p", "-o", "NAME,TYPE,SIZE,PKNAME"))
    expected = {entry["name"]: entry for entry in listed["blockdevices"] if entry["size"]}
    reply = {entry["name"]: entry for entry in shared.cmd("guest-get-disks")}
    assert set(reply) == set(expected)
    for name, entry in reply.items():
        is_partition = expected[name]["type"] == "part"
        assert entry["partition"] == is_partition
        if is_partition:
            assert entry["dependencies"] == [expected[name]["pkname"]]
        path = os.path.realpath("/sys/class/block/" + os.path.basename(name))
        assert ("address" in entry) == (not is_partition and "/virtual/" not in path)
        if "address" in entry:
            assert entry["address"]["dev"] == name
            check_address(entry["address"])


STATS = """read-ios read-merges read-sectors read-ticks write-ios write-merges write-sectors
    write-ticks ios-pgr total-ticks weight-ticks discard-ios discard-merges discard-sectors
    discard-ticks flush-ios flush-ticks""".split()


def diskstats():
    with open("/proc/diskstats") as file:
        lines = [line.split() for line in file]
    return {fields[2]: (int(fields[0]), int(fields[1]), dict(zip(STATS, map(int, fields[3:]))))
            for fields in lines}


def test_diskstats_are_the_kernels(shared):
    before = diskstats()
    reply = shared.cmd("guest-get-diskstats")
    after = diskstats()
    assert [entry["name"] for entry in reply] == list(before) == list(after)
    for entry in reply:
        major, minor, stats = before[entry["name"]]
        assert (entry["major"], entry["minor"]) == (major, minor)
        assert set(entry["stats"]) == set(stats)
        for name, value in entry["stats"].items():
            if name != "ios-pgr":
                assert stats[name] <= value <= after[entry["name"]][2][name], (entry, name)


# --- mounts of the test's own --------------------------------------------------------------------


class MountSpace:
    """A mount namespace, in which this process and the agents that it starts are for a while. Its
    mounts and loop devices go with it."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self.cwd = os.getcwd()
        if LIBC.unshare(CLONE_NEWNS) != 0:
            pytest.skip("mount namespaces are not allowed here")
        run("mount", "--make-rprivate", "/")

    def leave(self):
        assert LIBC.setns(self.before, CLONE_NEWNS) == 0
        os.chdir(self.cwd)
        os.close(self.before)

    def place(self, name):
        path = os.path.join(os.fsencode(self.directory), os.fsencode(name))
        os.makedirs(path, exist_ok=True)
        return path

    def image(self, name, size_mb=4, program="mkfs.ext4"):
        path = os.path.join(self.directory, name + ".img")
        with open(path, "wb") as file:
            file.truncate(size_mb << 20)
        run(program, "-q", path)
        return path

    def loop_device(self, path):
        """Detached when nothing uses it any more."""
        device = run("losetup", "-f", "--show", path).strip()
        return device

    def mount(self, name, *arguments):
        place = self.place(name)
        run("mount", *arguments, place)
        return place

    def ours(self, reply):
        """The entries of a guest-get-fsinfo that lie in this space."""
        return [entry for entry in reply
                if entry["mountpoint"].startswith(self.directory + "/")]


@pytest.fixture
def space(kind, tmp_path):
    if os.geteuid() != 0 or not shutil.which("losetup"):
        pytest.skip("needs root and loop devices")
    space = MountSpace(tmp_path)
    yield space
    space.leave()


def disks_of_root(reply):
    return next((entry["disk"] for entry in reply if entry["mountpoint"] == "/"), None)


def test_mounts_newest_first(space, start_agent):
    for name in ("first", "second", "third"):
        space.mount(name, "-o", "loop", space.image(name))
    channel = start_agent().connect()
    reply = channel.cmd("guest-get-fsinfo")
    entries = space.ours(reply)
    assert [os.path.basename(entry["mountpoint"]) for entry in entries] == [
        "third", "second", "first"]
    for entry in entries:
        assert entry["type"] == "ext4" and entry["name"].startswith("loop")
        check_sizes(entry)
        if channel.agent.differs("loop-devices-have-no-disks"):
            assert entry["disk"] == []
        elif run("findmnt", "-n", "-o", "SOURCE", "-T", space.directory) == \
                run("findmnt", "-n", "-o", "SOURCE", "/"):
            assert entry["disk"] == disks_of_root(reply)


def test_a_bind_mount_is_not_another_file_system(space, start_agent):
    place = space.mount("mount", "-o", "loop", space.image("image"))
    os.mkdir(place + b"/sub")
    space.mount("bind", "--bind", place + b"/sub")
    space.mount("again", "--bind", place)
    channel = start_agent().connect()
    found = {os.path.basename(entry["mountpoint"])
             for entry in space.ours(channel.cmd("guest-get-fsinfo"))}
    if channel.agent.differs("bind-mounts-are-listed"):
        assert found == {"mount", "bind", "again"}
    else:
        assert found == {"mount"}


@pytest.mark.parametrize("name, shown", [
    (b"a b\tc\nd", "a b\tc\nd"), (b"back\\slash\\040", "back\\slash\\040"),
    ("caf\u00e9".encode(), "caf\u00e9"), (b"caf\xe9", "caf\ufffd"), (b'"#', '"#'),
])
def test_names_of_mount_points(space, start_agent, name, shown):
    space.mount(name, "-o", "loop", space.image("image"))
    channel = start_agent().connect()
    entry, = space.ours(channel.cmd("guest-get-fsinfo"))
    assert os.path.basename(entry["mountpoint"]) == shown
    assert entry["used-bytes"] > 0, "found by the name as it is"


@pytest.mark.bellhop_only("covered-mounts-have-others-sizes")
def test_covered_mounts(space, start_agent):
    """A path that another mount covers would lead to the other's sizes."""
    space.mount("place", "-o", "loop", space.image("below"))
    space.mount("place", "-o", "loop", space.image("above", 16))
    lower = space.mount("visible", "-o", "loop", space.image("twice"))
    space.mount("other", "--bind", lower)
    space.mount("visible", "-t", "tmpfs", "none")
    channel = start_agent().connect()
    entries = space.ours(channel.cmd("guest-get-fsinfo"))
    twice, above, below = entries
    assert above["mountpoint"] == below["mountpoint"]
    assert above["total-bytes-privileged"] > 8 << 20
    assert "total-bytes" not in below and "used-bytes" not in below
    assert twice["mountpoint"].endswith("/other"), "the mount that can be reached is shown"
    check_sizes(twice)


def test_btrfs_of_two_devices(space, start_agent):
    if not shutil.which("mkfs.btrfs") or "btrfs" not in open("/proc/filesystems").read():
        pytest.skip("no btrfs here")
    devices = []
    for name in ("one", "two"):
        path = os.path.join(space.directory, name)
        with open(path, "wb") as file:
            file.truncate(128 << 20)
        devices.append(space.loop_device(path))
    try:
        run("mkfs.btrfs", "-q", "-f", "-d", "raid1", "-m", "raid1", *devices)
        place = space.mount("btrfs", "-o", ",".join("device=" + name for name in devices),
                            devices[0])
        run("btrfs", "subvolume", "create", os.fsdecode(place) + "/volume")
        space.mount("volume", "-o", "subvol=volume", devices[0])
    finally:
        for device in devices:
            run("losetup", "-d", device)
    channel = start_agent().connect()
    reply = channel.cmd("guest-get-fsinfo")
    entries = space.ours(reply)
    if channel.agent.differs("bind-mounts-are-listed"):
        assert len(entries) == 2
        return
    entry, = entries
    assert entry["type"] == "btrfs" and "/dev/" + entry["name"] in devices
    assert os.path.basename(entry["mountpoint"]) == "btrfs"
    check_sizes(entry)


@pytest.mark.bellhop_only("a-dead-file-system-blocks-everything")
def test_a_dead_file_system(space, start_agent):
    """A FUSE file system on a block device whose server never answers."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE here")
    space.mount("alive", "-o", "loop", space.image("alive"))
    loop = space.loop_device(space.image("dead"))
    server = os.open("/dev/fuse", os.O_RDWR)
    options = "fd=%d,rootmode=40000,user_id=0,group_id=0,blksize=512" % server
    place = space.place("dead")
    try:
        if LIBC.mount(loop.encode(), place, b"fuseblk", 0, options.encode()) != 0:
            pytest.skip("no fuseblk here: " + os.strerror(ctypes.get_errno()))
        run("losetup", "-d", loop)
        space.mount("newer", "-o", "loop", space.image("newer"))
        agent = start_agent()
        channel = agent.connect()
        times = []
        for _ in range(3):
            begin = time.monotonic()
            newer, dead, alive = space.ours(channel.cmd("guest-get-fsinfo"))
            times.append(time.monotonic() - begin)
            assert os.path.basename(dead["mountpoint"]) == "dead" and dead["type"] == "fuseblk"
            assert "used-bytes" not in dead and "total-bytes" not in dead
            for entry in (newer, alive):
                check_sizes(entry)
        assert times[0] < seconds(1), "as long as the least patient host waits"
        assert max(times[1:]) < seconds(0.3), "it is known to be dead"
        assert agent.log().count("/dead' does not answer") == 1
    finally:
        os.close(server)  # what waits for it gets an error
    wait_until(lambda: len(space.ours(channel.cmd("guest-get-fsinfo"))) == 3)


# --- many ----------------------------------------------------------------------------------------


def fastest(channel, command, times=5):
    """(seconds, reply) of the fastest of some calls."""
    best, reply = None, None
    for _ in range(times):
        begin = time.monotonic()
        reply = channel.cmd(command, timeout=30)
        best = min(best or 1e9, time.monotonic() - begin)
    return best, reply


@pytest.mark.time_limit(180)
def test_a_thousand_mounts(space, start_agent):
    """Pseudo file systems cost little, file systems on disks about the same each."""
    space.mount("tmpfs", "-t", "tmpfs", "none")
    channel = start_agent().connect()
    alone, _ = fastest(channel, "guest-get-fsinfo")
    for number in range(1000):
        place = space.place("tmpfs/%d" % number)
        assert LIBC.mount(b"none", place, b"tmpfs", 0, b"size=4k") == 0
    many, reply = fastest(channel, "guest-get-fsinfo")
    assert not space.ours(reply)
    assert many - alone < seconds(0.1), (alone, many)


@pytest.mark.time_limit(180)
@pytest.mark.bellhop_only("bind-mounts-are-listed")
def test_many_file_systems(space, start_agent):
    channel = start_agent().connect()
    with open(space.image("image", 1), "rb") as file:
        image = file.read()
    space.mount("tmpfs", "-t", "tmpfs", "none")
    times = {}
    made = 0
    for count in (10, 60):
        for number in range(made, count):
            path = os.path.join(space.directory, "tmpfs", "%d.img" % number)
            with open(path, "wb") as file:
                file.write(image)
            space.mount("tmpfs/%d" % number, "-o", "loop", path)
        made = count
        times[count], reply = fastest(channel, "guest-get-fsinfo")
        assert len(space.ours(reply)) == count
        assert all("used-bytes" in entry for entry in space.ours(reply))
    assert times[60] < 9 * times[10] + seconds(0.02), times
