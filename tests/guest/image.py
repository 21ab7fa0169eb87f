# SPDX-License-Identifier: MIT
"""What a test guest consists of: a tree of files, written as an initramfs or as a disk.

Everything comes from the packages of the machine that runs the tests (kernel, modules, busybox,
programs with their libraries); nothing is downloaded and nothing is kept between runs.
"""
import glob
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# Where busybox is a poor stand-in, or a test wants the real thing, a program is added by name.
BUSYBOX_LINKS = ("bin", "sbin", "usr/bin", "usr/sbin")

ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nshadow:x:42:\nalice:x:1000:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/os-release": 'ID=bellhop-test\nNAME="Bellhop test guest"\nVERSION_ID="1"\n'
    'PRETTY_NAME="Bellhop test guest 1"\n',
}


class Missing(Exception):
    """Something the guest needs is not installed here."""


class Tree:
    """Files by path, parents included, in memory until they are written."""

    def __init__(self):
        self.entries = {}

    def directory(self, path, mode=0o755, owner=(0, 0)):
        if not path:
            return
        self.directory(os.path.dirname(path))
        if path not in self.entries or mode != 0o755 or owner != (0, 0):
            self.entries[path] = (stat.S_IFDIR | mode, b"", owner)

    def file(self, path, content, mode=0o644, owner=(0, 0)):
        if isinstance(content, str):
            content = content.encode()
        path = path.lstrip("/")
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, content, owner)

    def link(self, path, target):
        path = path.lstrip("/")
        self.directory(os.path.dirname(path))
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode(), (0, 0))

    def copy(self, source, path=None):
        """Copies a file of this machine, to the same place unless another is given."""
        with open(source, "rb") as file:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            self.file(path or source, file.read(), mode)

    def program(self, source, path=None):
        """Copies a program and the shared libraries it is linked with."""
        self.copy(source, path)
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)
        for library in re.findall(r"(?:=> |^\t)(/\S+) \(", listed.stdout, re.M):
            self.copy(library)

    def write_initramfs(self, file):
        """Writes a "newc" archive (kernel: Documentation/driver-api/early-userspace)."""
        for inode, path in enumerate(sorted(self.entries), 1):
            mode, content, owner = self.entries[path]
            self._write_entry(file, inode, path, mode, owner, content)
        self._write_entry(file, 0, "TRAILER!!!", 0, (0, 0), b"")

    @staticmethod
    def _write_entry(file, inode, path, mode, owner, content):
        name = path.encode() + b"\0"
        fields = (inode, mode, *owner, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        file.write(header + name + b"\0" * (-(len(header) + len(name)) % 4))
        file.write(content + b"\0" * (-len(content) % 4))

    def write_directory(self, root):
        for path in sorted(self.entries):
            mode, content, owner = self.entries[path]
            target = os.path.join(root, path)
            if stat.S_ISDIR(mode):
                os.makedirs(target, exist_ok=True)
            elif stat.S_ISLNK(mode):
                os.symlink(content, target)
            else:
                with open(target, "wb") as file:
                    file.write(content)
            if not stat.S_ISLNK(mode):
                os.chmod(target, stat.S_IMODE(mode))
            if os.geteuid() == 0:
                os.lchown(target, *owner)


def find_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(f"{name} is not installed")
    return path


class Kernel:
    """A kernel of this machine that has virtio modules, and the modules."""

    def __init__(self):
        image = os.environ.get("BELLHOP_GUEST_KERNEL")
        images = [image] if image else sorted(glob.glob("/boot/vmlinuz-*-cloud-*"), reverse=True)
        for self.image in images:
            self.version = os.path.basename(self.image).removeprefix("vmlinuz-")
            self.directory = "/lib/modules/" + self.version
            if os.path.exists(self.directory + "/modules.dep") and os.access(self.image, os.R_OK):
                break
        else:
            raise Missing("no kernel for the guest (Debian: linux-image-cloud-amd64)")
        self.needs = {}
        self.paths = {}
        with open(self.directory + "/modules.dep", encoding="ascii") as file:
            for line in file:
                path, needed = line.split(":", 1)
                self.paths[self._name(path)] = path
                self.needs[self._name(path)] = [self._name(other) for other in needed.split()]

    @staticmethod
    def _name(path):
        return os.path.basename(path).split(".ko")[0].replace("-", "_")

    def in_load_order(self, names):
        """The modules and what they need, each after what it needs; built-in ones left out."""
        ordered = []

        def add(name):
            # modules.dep lists what is needed last first
            for needed in reversed(self.needs.get(name, ())):
                add(needed)
            if name in self.paths and name not in ordered:
                ordered.append(name)

        for name in names:
            add(name.replace("-", "_"))
        return ordered

    def read_module(self, name):
        path = os.path.join(self.directory, self.paths[name])
        with open(path, "rb") as file:
            data = file.read()
        if path.endswith(".xz"):
            return lzma.decompress(data)
        if path.endswith(".gz"):
            return gzip.decompress(data)
        if path.endswith(".zst"):
            unpacked = subprocess.run(
                [find_program("zstd"), "-dc"], input=data, capture_output=True, check=True
            )
            return unpacked.stdout
        return data


def base_tree(kernel, modules):
    """The guest's own system: busybox, modules, accounts and init."""
    tree = Tree()
    busybox = find_program("busybox")
    tree.copy(busybox, "bin/busybox")
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    for path in listed.stdout.split():
        if path.startswith(BUSYBOX_LINKS) and path != "bin/busybox":
            tree.link(path, "/bin/busybox")
    for path in ("proc", "sys", "dev", "run", "mnt", "newroot", "root", "var/log", "var/lib"):
        tree.directory(path)
    tree.directory("tmp", 0o1777)
    tree.directory("home/alice", 0o755, (1000, 1000))
    tree.link("var/run", "../run")
    for path, text in ETC.items():
        tree.file(path, text)
    tree.file("etc/shadow", "root:*:19000::::::\nalice:!:19000::::::\n", 0o640, (0, 42))
    for name in ("libnss_files.so.2", "libnss_compat.so.2"):
        for path in glob.glob(f"/lib/*-linux-gnu/{name}"):
            tree.copy(path)
    ordered = kernel.in_load_order(modules)
    for name in ordered:
        tree.file(f"lib/modules/{name}.ko", kernel.read_module(name))
    tree.file("etc/guest/modules", "".join(f"{name}\n" for name in ordered))
    tree.copy(os.path.join(HERE, "init.sh"), "init")
    tree.copy(os.path.join(HERE, "shutdown.sh"), "sbin/shutdown")
    return tree


def make_disk(path, size_mb, filesystem, label, content=None, partitioned=False):
    """Makes a sparse raw disk with one filesystem, on its first partition if so wanted."""
    offset = 1024 * 1024 if partitioned else 0
    with open(path, "wb") as file:
        file.truncate(offset + size_mb * 1024 * 1024)
    if filesystem == "ext4":
        command = [find_program("mkfs.ext4"), "-q", "-F", "-L", label, "-E", f"offset={offset}"]
        if content:
            command += ["-d", content]
        subprocess.run([*command, path, f"{size_mb}M"], check=True, capture_output=True)
    elif filesystem == "xfs":
        assert not partitioned and not content
        subprocess.run([find_program("mkfs.xfs"), "-q", "-f", "-L", label, path], check=True)
    elif filesystem == "swap":
        subprocess.run([find_program("mkswap"), "-L", label, path], check=True, capture_output=True)
    if partitioned:
        _write_partition_table(path, offset // 512, size_mb * 2048)


def _write_partition_table(path, first_sector, sectors):
    """One Linux partition in an MBR: cylinder numbers are not looked at, sector numbers are."""
    entry = bytes([0, 0, 0x21, 0, 0x83, 0xFE, 0xFF, 0xFF])
    entry += first_sector.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    with open(path, "r+b") as file:
        file.seek(440)
        file.write((0x1BADCAFE).to_bytes(4, "little") + b"\0\0")
        file.write(entry + bytes(48) + b"\x55\xaa")


def make_root_disk(path, tree):
    with tempfile.TemporaryDirectory(prefix="bellhop-guest-root-") as root:
        tree.write_directory(root)
        make_disk(path, 256, "ext4", "root", content=root)


def make_ext4_disk(path, with_loop_image):
    with tempfile.TemporaryDirectory(prefix="bellhop-guest-ext4-") as content:
        with open(os.path.join(content, "hello.txt"), "w", encoding="ascii") as file:
            file.write("hello\n")
        if with_loop_image:
            make_disk(os.path.join(content, "loop.img"), 32, "ext4", "loop")
        make_disk(path, 256, "ext4", "data-ext4", content=content, partitioned=True)


def add_udev(tree):
    """The real udev, with the rules that say something about disks, ports and interfaces."""
    tree.program(find_program("udevadm"))
    tree.link("lib/systemd/systemd-udevd", find_program("udevadm"))
    for name in ("libudev.so.1", "libmount.so.1"):  # which bellhop loads where they are
        for path in glob.glob(f"/lib/*-linux-gnu/{name}"):
            tree.program(path)
    for name in ("scsi_id", "ata_id"):
        if os.path.exists(f"/lib/udev/{name}"):
            tree.program(f"/lib/udev/{name}")
    for rules in (
        "50-udev-default 60-block 60-persistent-storage 60-serial 75-net-description "
        "80-net-setup-link 60-qemu-guest-agent"
    ).split():
        path = f"/lib/udev/rules.d/{rules}.rules"
        if os.path.exists(path):
            tree.copy(path)
