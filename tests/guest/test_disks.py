# SPDX-License-Identifier: MIT
"""File systems and disks on real device stacks: LVM on RAID, encryption on multipath, btrfs, loop,
NVMe, SCSI, IDE.

With BELLHOP_RECORD_DIR set, what the agent read there is written to that directory as file trees
for the unit tests (tests/unit/trees).
"""
import json
import os
import shutil

import pytest

import image
import vm as machine

HERE = os.path.dirname(os.path.abspath(__file__))


def program(name):
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def sparse(directory, name, size_mb):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.truncate(size_mb << 20)
    return path


def drive(name, path):
    return ["-drive", f"if=none,id={name},file={path},format=raw,cache=unsafe"]


def record(vm, name, what):
    """Writes the tree of what the agent reads, if that is wanted."""
    directory = os.environ.get("BELLHOP_RECORD_DIR")
    if directory:
        text = vm.shell.run(f"sh /root/record-disks.sh '{what}'", timeout=120)
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)


def recorder():
    with open(os.path.join(HERE, "record-disks.sh"), encoding="utf-8") as file:
        return ("/root/record-disks.sh", file.read())


def usage(vm, path):
    """(size, used, available) in bytes, as the guest's own df has them."""
    line = vm.shell.run(f"df -P -k {path} | tail -n 1").split()
    return tuple(int(field) * 1024 for field in line[1:4])


def by(member, entries):
    return {entry[member]: entry for entry in entries}


def pci_slots(vm, device):
    """[domain, bus, slot, function] of the last PCI device on a block device's path."""
    steps = vm.shell.run(f"readlink -f /sys/class/block/{device}").strip().split("/")
    last = [step for step in steps if step.count(":") == 2 and "." in step][-1]
    domain, bus, rest = last.split(":")
    slot, function = rest.split(".")
    return {"domain": int(domain, 16), "bus": int(bus, 16), "slot": int(slot, 16),
            "function": int(function)}


def brief(disks):
    """What identifies each disk of an entry: (dev, bus type, bus, target, unit), sorted."""
    return sorted((disk["dev"], disk["bus-type"], disk["bus"], disk["target"], disk["unit"])
                  for disk in disks)


def check_sizes(vm, entry):
    size, used, available = usage(vm, entry["mountpoint"])
    assert abs(entry["total-bytes-privileged"] - size) <= 1024, entry
    assert abs(entry["used-bytes"] - used) <= 65536, entry
    assert abs(entry["total-bytes"] - used - available) <= 65536, entry


def compare_with_reference(vm, entries, disks):
    """What the classic agent (7.2) knows of the same machine is the same, but for what it gets
    wrong: SCSI targets, btrfs and multipath NVMe of which it sees one device or none, loop devices."""
    if not machine.reference():
        return
    vm.reset()
    vm.start_agent(program="qemu-ga")
    with vm.connect() as channel:
        their_entries = by("mountpoint", ask_reference(channel, "guest-get-fsinfo"))
        their_disks = by("name", ask_reference(channel, "guest-get-disks"))
    for entry in entries:
        theirs = their_entries[entry["mountpoint"]]
        assert (entry["name"], entry["type"]) == (theirs["name"], theirs["type"])
        ours = by("dev", entry["disk"])
        for disk in theirs["disk"]:
            compare_addresses(ours[disk["dev"]], disk)
    there = {name for name in their_disks if "c" not in os.path.basename(name)}
    assert there == set(disks)
    for name in there:
        disk, theirs = disks[name], their_disks[name]
        assert set(disk) - {"smart"} <= set(theirs) | {"address", "alias"}, (disk, theirs)
        assert disk["partition"] == theirs["partition"]
        assert sorted(disk["dependencies"]) == sorted(theirs["dependencies"])
        if "address" in theirs:
            compare_addresses(disk["address"], theirs["address"])
        if "smart" in theirs:
            assert set(disk["smart"]) == set(theirs["smart"])
            for member in ("type", "temperature", "available-spare-threshold"):
                assert disk["smart"][member] == theirs["smart"][member]


def ask_reference(channel, command):
    """Its replies to the syncs of its start may still come, and to the 0xFF before them."""
    channel.send_request(command)
    while True:
        line = channel.line()
        if line.startswith(b'{"return": ['):
            return json.loads(line)["return"]


def compare_addresses(ours, theirs):
    if theirs["bus-type"] == "unknown":
        return
    for member, value in theirs.items():
        if member != "target" or ours["bus-type"] != "scsi":
            assert ours[member] == value, (member, ours, theirs)
    assert set(ours) == set(theirs)


@pytest.fixture
def stack(fresh_vm, tmp_path):
    """RAID, LVM, loop and btrfs. Named disks: vda and vdb by virtio, the others by virtio-scsi."""
    arguments = ["-device", "virtio-scsi-pci,id=scsi"]
    for name in ("RAIDA", "RAIDB"):
        arguments += drive(name, sparse(tmp_path, name, 128))
        arguments += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    for name, target, lun in (("BTRFSA", 1, 2), ("BTRFSB", 3, 0)):
        arguments += drive(name, sparse(tmp_path, name, 128))
        arguments += ["-device", f"scsi-hd,bus=scsi.0,drive={name},serial={name},channel=0,"
                                 f"scsi-id={target},lun={lun}"]
    programs = [program(name) for name in ("mdadm", "lvm", "mkfs.ext4", "mkfs.btrfs")]
    vm = fresh_vm(
        udev=True, programs=tuple(programs), files=(recorder(),), qemu_arguments=tuple(arguments),
        modules=("raid1", "dm_mod", "crc32c_generic", "ext4", "loop", "virtio_scsi", "sd_mod",
                 "btrfs"))
    lvm = f"{program('lvm')} %s --config 'activation{{udev_sync=0 udev_rules=0}}' %s"
    vm.shell.run(
        "mdadm --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 "
        "--metadata=1.2 /dev/vda /dev/vdb", timeout=60)
    vm.shell.run(lvm % ("pvcreate", "/dev/md0"), timeout=60)
    vm.shell.run(lvm % ("vgcreate", "vg /dev/md0"), timeout=60)
    vm.shell.run(lvm % ("lvcreate", "-Zn -Wn -L 64M -n data vg"), timeout=60)
    vm.shell.run("mkfs.ext4 -q /dev/mapper/vg-data; mkdir -p /mnt/lv /mnt/loop /mnt/btrfs /mnt/sub;"
                 "mount -t ext4 /dev/mapper/vg-data /mnt/lv", timeout=60)
    vm.shell.run("dd if=/dev/zero of=/mnt/lv/image bs=1M count=8 2>/dev/null;"
                 "mkfs.ext4 -q /mnt/lv/image; mount -t ext4 -o loop /mnt/lv/image /mnt/loop",
                 timeout=60)
    vm.shell.run("mkfs.btrfs -q -d raid1 -m raid1 /dev/sda /dev/sdb; udevadm settle;"
                 "mount -t btrfs -o device=/dev/sda,device=/dev/sdb /dev/sda /mnt/btrfs;"
                 "mkdir /mnt/btrfs/part; mount --bind /mnt/btrfs/part /mnt/sub", timeout=60)
    return vm


@pytest.mark.time_limit(300)
def test_stack(stack):
    record(stack, "lvm-on-raid.tree", "LVM on RAID, a loop device on that, btrfs on two disks")
    stack.start_agent()
    raid = [("/dev/vda", "virtio", 0, 0, 0), ("/dev/vdb", "virtio", 0, 0, 0)]
    with stack.connect() as channel:
        channel.sync()
        entries = channel.run("guest-get-fsinfo")
        disks = by("name", channel.run("guest-get-disks"))

    assert [(entry["mountpoint"], entry["type"]) for entry in entries] == [
        ("/mnt/btrfs", "btrfs"), ("/mnt/loop", "ext4"), ("/mnt/lv", "ext4")]
    btrfs, loop, data = entries
    assert [entry["name"] for entry in entries] == [
        btrfs["name"], "loop0", "dm-0"] and btrfs["name"] in ("sda", "sdb")
    assert brief(data["disk"]) == brief(loop["disk"]) == raid
    assert brief(btrfs["disk"]) == sorted(
        (node(stack, serial), "scsi", 0, target, unit)
        for serial, target, unit in (("BTRFSA", 1, 2), ("BTRFSB", 3, 0)))
    serials = {disk["dev"]: disk.get("serial", "") for disk in data["disk"] + btrfs["disk"]}
    assert {serials["/dev/vda"], serials["/dev/vdb"]} == {"RAIDA", "RAIDB"}
    assert sorted(serial[-6:] for dev, serial in serials.items() if "sd" in dev) == [
        "BTRFSA", "BTRFSB"]
    for entry in entries:
        check_sizes(stack, entry)
        for disk in entry["disk"]:
            assert disk["pci-controller"] == pci_slots(stack, disk["dev"][5:])

    assert disks["/dev/dm-0"] == {"name": "/dev/dm-0", "dependencies": ["/dev/md0"],
                                  "partition": False, "alias": "vg-data"}
    assert sorted(disks["/dev/md0"]["dependencies"]) == ["/dev/vda", "/dev/vdb"]
    assert disks["/dev/loop0"] == {"name": "/dev/loop0", "dependencies": [], "partition": False}
    assert "/dev/loop1" not in disks
    assert disks["/dev/vda"]["address"] in data["disk"]
    compare_with_reference(stack, entries, disks)


@pytest.fixture
def crypt(fresh_vm, tmp_path):
    """Encryption on a disk that two ways lead to, as a SAN's: the same file twice."""
    path = sparse(tmp_path, "san", 64)
    arguments = ["-device", "virtio-scsi-pci,id=one", "-device", "virtio-scsi-pci,id=two"]
    for bus in ("one", "two"):
        arguments += ["-drive", f"if=none,id=san{bus},file={path},format=raw,cache=unsafe,"
                                "file.locking=off"]
        arguments += ["-device", f"scsi-hd,bus={bus}.0,drive=san{bus},serial=SAN,scsi-id=5,"
                                 "share-rw=on"]
    vm = fresh_vm(
        udev=True, programs=(program("dmsetup"), program("mkfs.ext4")), files=(recorder(),),
        qemu_arguments=tuple(arguments),
        modules=("virtio_scsi", "sd_mod", "crc32c_generic", "ext4", "dm_mod", "dm_multipath",
                 "dm_round_robin", "dm_crypt", "aes_generic", "xts", "ecb", "cbc"))
    create = f"{program('dmsetup')} create --noudevrules --noudevsync"
    sectors = 64 << 11
    vm.shell.run(f"{create} san --uuid mpath-san --table '0 {sectors} multipath 0 0 1 1 "
                 "round-robin 0 2 1 /dev/sda 100 /dev/sdb 100'", timeout=60)
    vm.shell.run(f"{create} secret --uuid CRYPT-PLAIN-secret --table '0 {sectors} crypt "
                 f"aes-xts-plain64 {'0123456789abcdef' * 4} 0 /dev/dm-0 0'", timeout=60)
    vm.shell.run("mkfs.ext4 -q /dev/dm-1; mkdir -p /mnt/secret; udevadm settle;"
                 "mount -t ext4 /dev/dm-1 /mnt/secret", timeout=60)
    return vm


@pytest.mark.time_limit(300)
def test_encryption_on_multipath(crypt):
    record(crypt, "crypt-on-multipath.tree", "encryption (dm-crypt) on multipath, two SCSI paths")
    crypt.start_agent()
    with crypt.connect() as channel:
        channel.sync()
        entry, = channel.run("guest-get-fsinfo")
        disks = by("name", channel.run("guest-get-disks"))
    assert (entry["name"], entry["mountpoint"], entry["type"]) == ("dm-1", "/mnt/secret", "ext4")
    assert brief(entry["disk"]) == [("/dev/sda", "scsi", 0, 5, 0), ("/dev/sdb", "scsi", 0, 5, 0)]
    for disk in entry["disk"]:
        assert disk["serial"].endswith("SAN")
        assert disk["pci-controller"] == pci_slots(crypt, disk["dev"][5:])
    slots = [disk["pci-controller"]["slot"] for disk in entry["disk"]]
    assert len(set(slots)) == 2, "each path is shown with its own controller"
    check_sizes(crypt, entry)
    assert disks["/dev/dm-1"] == {"name": "/dev/dm-1", "dependencies": ["/dev/dm-0"],
                                  "partition": False, "alias": "secret"}
    assert disks["/dev/dm-0"]["alias"] == "san"
    assert sorted(disks["/dev/dm-0"]["dependencies"]) == ["/dev/sda", "/dev/sdb"]
    compare_with_reference(crypt, [entry], disks)


def node(vm, serial):
    return "/dev/" + vm.shell.run(
        f"basename $(dirname $(dirname $(grep -l -a {serial} /sys/block/sd*/device/vpd_pg80)))"
    ).strip()


@pytest.fixture
def nvme(fresh_vm, tmp_path):
    """NVMe, one with a partition and one behind two controllers; and an IDE disk."""
    arguments = []
    image.make_disk(os.path.join(tmp_path, "one"), 64, "ext4", "one", partitioned=True)
    arguments += drive("one", os.path.join(tmp_path, "one"))
    arguments += ["-device", "nvme,drive=one,serial=NVMEA"]
    arguments += drive("two", sparse(tmp_path, "two", 64))
    arguments += ["-device", "nvme-subsys,id=subsystem,nqn=two"]
    arguments += ["-device", "nvme,serial=NVMEB,subsys=subsystem"] * 2
    arguments += ["-device", "nvme-ns,drive=two,shared=on"]
    image.make_disk(os.path.join(tmp_path, "ide"), 64, "ext4", "ide")
    arguments += drive("ide", os.path.join(tmp_path, "ide"))
    arguments += ["-device", "ide-hd,drive=ide,bus=ide.1,unit=1,serial=IDEA"]
    vm = fresh_vm(
        udev=True, programs=(program("mkfs.ext4"),), files=(recorder(),),
        qemu_arguments=tuple(arguments),
        modules=("nvme", "crc32c_generic", "ext4", "ata_piix", "sd_mod"))
    vm.shell.run("mkdir -p /mnt/nvme /mnt/two /mnt/ide; mount -t ext4 -o ro /dev/sda /mnt/ide")
    first = vm.shell.run("basename $(dirname /sys/class/block/nvme*n1/nvme*n1p1)").strip()
    second = vm.shell.run(
        f"cd /sys/class/block; ls -d nvme*n1 | grep -v -e {first} -e nvme.c").strip()
    vm.shell.run(f"mount -t ext4 /dev/{first}p1 /mnt/nvme; mkfs.ext4 -q /dev/{second};"
                 f"mount -t ext4 /dev/{second} /mnt/two", timeout=60)
    vm.first, vm.second = first, second
    return vm


@pytest.mark.time_limit(300)
def test_nvme(nvme):
    record(nvme, "nvme.tree", "NVMe, one namespace with two controllers, an IDE disk")
    nvme.start_agent()
    with nvme.connect() as channel:
        channel.sync()
        entries = by("mountpoint", channel.run("guest-get-fsinfo"))
        disks = by("name", channel.run("guest-get-disks"))
    one, two, ide = (entries["/mnt/" + name] for name in ("nvme", "two", "ide"))
    assert one["name"] == nvme.first + "p1"
    assert brief(one["disk"]) == [(f"/dev/{nvme.first}p1", "nvme", 0, 0, 0)]
    assert brief(two["disk"]) == [(f"/dev/{nvme.second}", "nvme", 0, 0, 0)]
    assert brief(ide["disk"]) == [("/dev/sda", "ide", 1, 0, 1)]
    assert "NVMEA" in one["disk"][0]["serial"] and "NVMEB" in two["disk"][0]["serial"]
    assert one["disk"][0]["pci-controller"] == pci_slots(nvme, nvme.first)
    controllers = [slot for slot in nvme.shell.run(
        "for c in /sys/class/nvme/nvme*; do echo $(cat $c/serial) $(basename "
        "$(readlink $c/device)); done").splitlines() if slot.startswith("NVMEB")]
    assert len(controllers) == 2
    address = two["disk"][0]["pci-controller"]
    assert "%04x:%02x:%02x.%x" % tuple(
        address[name] for name in ("domain", "bus", "slot", "function")
    ) in [line.split()[1] for line in controllers]
    for entry in (one, two, ide):
        check_sizes(nvme, entry)

    assert disks[f"/dev/{nvme.first}p1"]["dependencies"] == [f"/dev/{nvme.first}"]
    assert disks[f"/dev/{nvme.first}p1"]["partition"] is True
    assert "address" not in disks[f"/dev/{nvme.first}p1"]
    assert not any("c0n" in name or "c1n" in name or "c2n" in name for name in disks), disks
    smart = disks[f"/dev/{nvme.first}"]["smart"]
    assert smart["type"] == "nvme" and smart["critical-warning"] == 0
    assert 273 < smart["temperature"] < 373
    assert smart["host-read-commands-lo"] > 0 and smart["host-read-commands-hi"] == 0
    assert "smart" not in disks["/dev/sda"]
    compare_with_reference(nvme, entries.values(), disks)
