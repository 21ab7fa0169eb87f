# SPDX-License-Identifier: MIT
"""guest-fstrim on real file systems whose disks take discards, beside the classic agent: what is trimmed
is the same, slices or not; a long one is watched, cancelled, and holds up nobody."""
import os
import shutil
import subprocess
import time

import pytest

import vm as machine
from host import seconds, wait_until

GIB = 1 << 30
MIB = 1 << 20
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


class Disk:
    """A sparse disk with one file system, mounted on /mnt/NAME."""

    def __init__(self, name, size, filesystem, *options, device="", limit=None):
        self.name = name
        self.size = size
        self.filesystem = filesystem
        self.options = options
        self.device = device
        self.limit = limit  # discards (and writes) a second
        self.image = None

    @property
    def mount_point(self):
        return "/mnt/" + self.name

    def make(self, directory):
        self.image = os.path.join(directory, self.name + ".raw")
        with open(self.image, "wb") as file:
            file.truncate(self.size)
        command = [shutil.which("mkfs." + self.filesystem, path=PATH), *self.options, self.image]
        subprocess.run(command, check=True, capture_output=True)

    def arguments(self):
        node = f"driver=file,filename={self.image},discard=unmap,cache.no-flush=on"
        base = f"{self.name}-file"
        arguments = ["-blockdev", f"{node},node-name={base}"]
        if self.limit:
            arguments = [
                "-object", f"throttle-group,id=limit,x-iops-write={self.limit}", *arguments,
                "-blockdev", f"driver=throttle,node-name={self.name},throttle-group=limit,"
                             f"discard=unmap,file={base}"]
        else:
            arguments += ["-blockdev", f"driver=raw,node-name={self.name},discard=unmap,file={base}"]
        return [*arguments, "-device",
                f"virtio-blk-pci,drive={self.name},serial={self.name}{self.device}"]

    def allocated(self):
        """What the host's disk keeps of it."""
        return os.stat(self.image).st_blocks * 512


def boot(fresh_vm, tmp_path, disks):
    disks = [disk for disk in disks
             if shutil.which("mkfs." + disk.filesystem, path=PATH)]
    arguments = []
    for disk in disks:
        disk.make(tmp_path)
        arguments += disk.arguments()
    kinds = {disk.filesystem for disk in disks}
    vm = fresh_vm(memory_mb=512, qemu_arguments=tuple(arguments),
                  modules=("crc32c_generic", *sorted(kinds)))
    vm.disks = disks
    for disk in disks:
        device = vm.shell.run(f"basename $(dirname $(grep -lx {disk.name} /sys/block/vd*/serial))")
        disk.node = "/dev/" + device.strip()
        vm.shell.run(f"mkdir -p {disk.mount_point}")
        mount(vm, disk)
    return vm


def mount(vm, disk):
    vm.shell.run(f"mount -t {disk.filesystem} {disk.node} {disk.mount_point}", timeout=60)


def remount(vm):
    """The kernel forgets what it has trimmed."""
    for disk in vm.disks:
        vm.shell.run(f"umount {disk.mount_point}", timeout=60)
        mount(vm, disk)


def litter(vm):
    """Free space in pieces: files between files that are gone."""
    for disk in vm.disks:
        vm.shell.run(
            f"cd {disk.mount_point}; for i in 1 2 3 4 5 6 7 8; do "
            "dd if=/dev/urandom of=f$i bs=256k count=$i 2>/dev/null; done; sync; "
            "rm f1 f3 f5 f7; sync", timeout=120)


def trim(channel, **arguments):
    reply = channel.run("guest-fstrim", timeout=120, **arguments)
    assert set(reply) == {"paths"}
    return reply["paths"]


def take(entries, path):
    """Takes what was trimmed there out of the entries, 0 if there is no such thing."""
    trimmed = 0
    for entry in entries:
        if entry["path"] == path:
            trimmed = entry.pop("trimmed", 0)
    return trimmed


SMALL = [
    # Several slices each: the first has 1 GiB.
    Disk("ext4", 9 * GIB, "ext4", "-q", "-E", "lazy_itable_init=1,nodiscard"),
    Disk("small-blocks", 3 * GIB, "ext4", "-q", "-b", "1024", "-E", "lazy_itable_init=1,nodiscard"),
    Disk("odd-groups", 3 * GIB, "ext4", "-q", "-g", "24568", "-E", "lazy_itable_init=1,nodiscard"),
    Disk("bigalloc", 6 * GIB, "ext4", "-q", "-O", "bigalloc", "-C", "65536",
         "-E", "lazy_itable_init=1,nodiscard"),
    Disk("xfs", 5 * GIB, "xfs", "-q", "-K", "-d", "agsize=320m"),
    Disk("btrfs", 3 * GIB, "btrfs", "-q", "-K"),
    Disk("no-discard", 64 * MIB, "ext4", "-q", device=",discard=off"),
]


def run_trims(vm, program, minimums):
    """What the agent answers to one trim after another, the first with nothing remembered."""
    vm.shell.run("umount /mnt/bind")
    remount(vm)
    vm.shell.run("mount --bind /mnt/ext4/sub /mnt/bind")
    vm.reset()
    vm.start_agent(program=program)
    replies = []
    with vm.connect() as channel:
        channel.sync()
        for minimum in minimums:
            replies.append(trim(channel, **({} if minimum is None else {"minimum": minimum})))
    return replies


@pytest.mark.time_limit(400)
def test_as_the_classic_agent(fresh_vm, tmp_path):
    """The same entries, byte for byte, also where the kernel remembers an earlier trim: one with a
    large minimum that left small pieces, then one for all, then one that finds nothing new."""
    vm = boot(fresh_vm, tmp_path, SMALL)
    litter(vm)
    vm.shell.run("mkdir /mnt/ext4/sub /mnt/bind; mount --bind /mnt/ext4/sub /mnt/bind")
    minimums = [1 * MIB, None, 0, 1 << 50]
    ours = run_trims(vm, "bellhopd", minimums)
    for reply in ours:
        assert len({entry["path"] for entry in reply}) == len(reply) == len(vm.disks)
    first = {entry["path"]: entry for entry in ours[0]}
    assert first["/mnt/no-discard"] == {"path": "/mnt/no-discard", "error": "trim not supported"}
    for name in ("ext4", "small-blocks", "odd-groups", "bigalloc", "xfs"):
        assert first["/mnt/" + name]["minimum"] >= 1 * MIB
        assert first["/mnt/" + name]["trimmed"] > GIB
    again = {entry["path"]: entry for entry in ours[1]}
    assert again["/mnt/ext4"]["trimmed"] > first["/mnt/ext4"]["trimmed"]
    if not machine.reference():
        return
    theirs = run_trims(vm, "qemu-ga", minimums)
    for own, other in zip(ours, theirs):
        # It lists each mount, and so trims one file system twice.
        other = [entry for entry in other if entry["path"] != "/mnt/bind"]
        # btrfs writes its own trees anew with every mount, so that what is free differs a little.
        own_btrfs, other_btrfs = (take(entries, "/mnt/btrfs") for entries in (own, other))
        assert own == other
        assert abs(own_btrfs - other_btrfs) <= 16 * MIB


@pytest.mark.time_limit(240)
def test_the_host_gets_it_back(fresh_vm, tmp_path):
    vm = boot(fresh_vm, tmp_path, [
        Disk("ext4", 2 * GIB, "ext4", "-q", "-E", "lazy_itable_init=1,nodiscard"),
        Disk("xfs", 2 * GIB, "xfs", "-q", "-K")])
    before = [disk.allocated() for disk in vm.disks]
    for disk in vm.disks:
        vm.shell.run(f"dd if=/dev/urandom of={disk.mount_point}/junk bs=1M count=48 2>/dev/null;"
                     f"sync; rm {disk.mount_point}/junk; sync", timeout=120)
    full = [disk.allocated() for disk in vm.disks]
    vm.start_agent()
    with vm.connect() as channel:
        channel.sync()
        trim(channel)
    for disk, empty, used in zip(vm.disks, before, full):
        assert used > empty + 40 * MIB
        assert disk.allocated() < used - 40 * MIB, (disk.name, empty, used, disk.allocated())


def long_trim(fresh_vm, tmp_path, limit):
    """One group of 128 MiB after another, so many of them a second."""
    vm = boot(fresh_vm, tmp_path, [
        Disk("large", 512 * GIB, "ext4", "-q", "-O", "^has_journal", "-T", "largefile4",
             "-E", "lazy_itable_init=1,nodiscard", limit=limit)])
    vm.start_agent()
    return vm


def start_job(channel):
    channel.send(b'{"execute": "bellhop-job-start", "arguments": {"command": "guest-fstrim"}}')
    return channel.reply()["return"]["id"]


def running(channel):
    return [job for job in channel.run("bellhop-job-list")["jobs"] if job["state"] == "running"]


@pytest.mark.time_limit(240)
def test_a_long_trim(fresh_vm, tmp_path):
    """Its progress is visible, syncs and status are answered meanwhile, a second one waits, and both
    can be cancelled."""
    vm = long_trim(fresh_vm, tmp_path, 40)
    with vm.connect() as channel:
        channel.sync()
        first = start_job(channel)
        second = start_job(channel)
        seen = []

        def has_progressed():
            progress = channel.run("bellhop-job-status", id=first).get("progress")
            if progress and (not seen or progress != seen[-1]):
                seen.append(progress)
            return len(seen) >= 4

        wait_until(has_progressed, "its progress", 60)
        for progress in seen:
            assert (progress["done"], progress["total"]) == (0, 1)
            assert progress["item"] == "/mnt/large"
            assert progress["item-total-bytes"] == 512 * GIB
            assert progress["paused"] is False
        for earlier, later in zip(seen, seen[1:]):
            assert earlier["item-done-bytes"] < later["item-done-bytes"]
            assert earlier["bytes"] < later["bytes"]

        latencies = []
        for _ in range(50):
            begin = time.monotonic()
            channel.sync()
            latencies.append(time.monotonic() - begin)
        print("syncs during a trim: median %.1f ms, worst %.1f ms" % (
            sorted(latencies)[25] * 1000, max(latencies) * 1000))
        assert sorted(latencies)[25] < seconds(0.5)

        job = channel.run("bellhop-job-status", id=first)
        assert (job["state"], job["lane"], job["command"]) == ("running", "fstrim", "guest-fstrim")
        waiting = channel.run("bellhop-job-status", id=second)
        assert waiting["state"] == "queued" and "progress" not in waiting
        channel.run("bellhop-job-cancel", id=second)
        waiting = channel.run("bellhop-job-status", id=second)
        assert waiting["state"] == "cancelled"
        assert "before it began" in waiting["error"]["desc"]

        begin = time.monotonic()
        channel.run("bellhop-job-cancel", id=first)
        over = {}

        def is_over():
            over.update(channel.run("bellhop-job-status", id=first))
            return over["state"] != "running"

        wait_until(is_over, "its end", 30)
        print("a cancel took effect after %.2f s" % (time.monotonic() - begin))
        assert over["state"] == "cancelled"
        assert "cancelled: 0 of 1 file systems" in over["error"]["desc"]
        assert 0 < over["progress"]["bytes"] < 500 * GIB


@pytest.mark.time_limit(240)
def test_a_plain_request_is_a_job(fresh_vm, tmp_path):
    """A host that gave up waiting finds the trim, and can end it; its end ends the agent's, too."""
    vm = long_trim(fresh_vm, tmp_path, 40)
    with vm.connect() as channel:
        channel.sync()
        channel.send_request("guest-fstrim")
        channel.send_request("guest-fstrim")
        time.sleep(0.3)  # older than what a sync waits for
        channel.sync()
        jobs = channel.run("bellhop-job-list")["jobs"]
        # The one that had not begun was given up with its request.
        assert [job["state"] for job in jobs] == ["running", "cancelled"]
        assert jobs[0]["command"] == "guest-fstrim"
        channel.run("bellhop-job-cancel", id=jobs[0]["id"])
        wait_until(lambda: not running(channel), "its end", 30)

        channel.send_request("guest-fstrim")
        wait_until(lambda: running(channel) if channel.sync() or True else None, "the next one", 30)
    vm.signal_agent("TERM")
    assert vm.wait_agent_exit(30) == 0


@pytest.mark.time_limit(240)
def test_a_freeze_pauses_it(fresh_vm, tmp_path):
    vm = long_trim(fresh_vm, tmp_path, 40)
    with vm.connect() as channel:
        channel.sync()
        commands = {entry["name"] for entry in channel.run("guest-info")["supported_commands"]}
        if "guest-fsfreeze-freeze" not in commands:
            pytest.skip("this agent has no guest-fsfreeze-freeze")
        job = start_job(channel)

        def progress():
            return channel.run("bellhop-job-status", id=job).get("progress", {})

        wait_until(lambda: progress().get("bytes", 0) > 0, "its first slice", 60)
        assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
        assert channel.run("guest-fsfreeze-status") == "frozen"
        paused = progress()
        assert paused["paused"] is True
        time.sleep(1)
        assert progress() == paused
        assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
        wait_until(lambda: progress()["bytes"] > paused["bytes"], "it goes on", 30)
        assert progress()["paused"] is False
        channel.run("bellhop-job-cancel", id=job)
        wait_until(lambda: not running(channel), "its end", 30)
