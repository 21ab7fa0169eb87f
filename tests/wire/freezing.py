# SPDX-License-Identifier: MIT
"""File systems of a test's own that may be frozen: on loop devices, in a mount namespace of its own.

Whatever happens to the test, or to this process, they are thawed: a keeper process has each of them
open, and thaws when this process is gone or takes too long. Nothing here, and no test, may ever have
guest-fsfreeze-freeze called, or guest-fsfreeze-freeze-list without mount points: that freezes the machine.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from agent import SLOW, AgentError, seconds, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878

KEEPER_SECONDS = 300

KEEPER = """
import fcntl, os, select, sys, time
end = time.monotonic() + float(sys.argv[1])
select.select([0], [], [], float(sys.argv[1]))
while True:
    for fd in map(int, sys.argv[2:]):
        try:
            while True:
                fcntl.ioctl(fd, 0xC0045878, 0)
        except OSError:
            pass
    if not select.select([0], [], [], 0)[0] and time.monotonic() < end:
        break
    time.sleep(0.05)
    if time.monotonic() > end + 20:
        break
    end = min(end, time.monotonic())
"""


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


class Keeper:
    """Thaws one file system when this process ends, or after a time, or when it is told to go."""

    def __init__(self, fd):
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(KEEPER_SECONDS * SLOW), str(fd)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=[fd], start_new_session=True, cwd="/")

    def go(self):
        """It thaws once more first; killed, so that it holds the file system no longer."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


class Disk:
    """A mounted file system."""

    def __init__(self, point, mounts=()):
        self.point = point
        self.fd = os.open(point, os.O_RDONLY)
        self.keeper = Keeper(self.fd)
        self.writers = []

    def freeze(self):
        """As somebody else."""
        fcntl.ioctl(self.fd, FIFREEZE, 0)

    def thaw(self):
        """Returns how often it was frozen."""
        count = 0
        try:
            while True:
                fcntl.ioctl(self.fd, FITHAW, 0)
                count += 1
        except OSError as error:
            assert error.errno in (errno.EINVAL, errno.EOPNOTSUPP), error
        return count

    def is_frozen(self):
        """Not while anybody else freezes or thaws."""
        try:
            self.freeze()
        except OSError as error:
            assert error.errno == errno.EBUSY, error
            return True
        self.thaw()
        return False

    def writer(self):
        self.writers.append(Writer(os.path.join(self.point, "written-%d" % len(self.writers))))
        return self.writers[-1]

    def close(self):
        self.thaw()
        for writer in self.writers:
            writer.close()
        self.keeper.go()
        os.close(self.fd)


class Writer:
    """Writes a byte on a thread of its own: `done_at` (monotonic) is when that was possible. To be made
    before the file system is frozen; write() begins it."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.done_at = None
        self.thread = threading.Thread(target=self._write, daemon=True)

    def _write(self):
        os.write(self.fd, b"x")
        self.done_at = time.monotonic()

    def write(self):
        self.thread.start()
        return self

    def close(self):
        if self.thread.ident:
            self.thread.join(seconds(10))
        os.close(self.fd)

    def wait(self, timeout=10):
        """When it was done."""
        self.thread.join(seconds(timeout))
        assert self.done_at is not None, "still frozen"
        return self.done_at


class SockFilter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                ("k", ctypes.c_uint32)]


class SockProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(SockFilter))]


def without_thaw(start):
    """What start() returns, in a thread whose programs, and theirs, have FITHAW fail with EIO."""
    numbers = {"x86_64": 16, "aarch64": 29, "riscv64": 29, "s390x": 54, "ppc64le": 54}
    machine = os.uname().machine
    if machine not in numbers or sys.byteorder != "little":
        pytest.skip("the number of ioctl(2) is not known for %s" % machine)
    load, equal, answer = 0x20, 0x15, 0x06
    lines = (SockFilter * 6)(
        SockFilter(load, 0, 0, 0), SockFilter(equal, 0, 3, numbers[machine]),
        SockFilter(load, 0, 0, 24), SockFilter(equal, 0, 1, FITHAW),
        SockFilter(answer, 0, 0, 0x00050000 | errno.EIO), SockFilter(answer, 0, 0, 0x7fff0000))
    program = SockProgram(len(lines), lines)
    result, done = [], threading.Event()

    def run_thread():
        try:
            # Sharing nothing that would keep this process from leaving its mount namespace.
            if LIBC.unshare(CLONE_FS) == 0 and \
                    LIBC.prctl(22, 2, ctypes.byref(program), 0, 0) == 0:  # PR_SET_SECCOMP
                result.append(start())
        finally:
            done.set()
        threading.Event().wait()  # what it started ends with this thread

    threading.Thread(target=run_thread, daemon=True).start()
    assert done.wait(seconds(60))
    if not result:
        pytest.skip("no system call filters here")
    return result[0]


class Disks:
    """The file systems of one test."""

    def __init__(self, directory):
        self.directory = directory
        self.before = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self.cwd = os.getcwd()
        self.disks = []
        self.points = []
        if LIBC.unshare(CLONE_NEWNS) != 0:
            pytest.skip("mount namespaces are not allowed here")
        run("mount", "--make-rprivate", "/")

    def place(self, name):
        path = os.path.join(self.directory, name)
        os.makedirs(path)
        return path

    def mount(self, *arguments, point):
        run("mount", *arguments, point)
        self.points.append(point)
        return point

    def make(self, name="disk", kind="ext4", below=None):
        """A new file system, its image in the test's directory or on another disk."""
        if not shutil.which("mkfs." + kind):
            pytest.skip("no mkfs.%s here" % kind)
        image = os.path.join(below.point if below else self.directory, name + ".img")
        size_mb = {"ext4": 16, "xfs": 304, "btrfs": 128}[kind]
        with open(image, "wb") as file:
            file.truncate(size_mb << 20)
        run("mkfs." + kind, "-q", image)
        point = self.place(name)
        try:
            self.mount("-o", "loop", image, point=point)
        except subprocess.CalledProcessError as error:
            if b"unknown filesystem type" in error.output:
                pytest.skip("no %s in this kernel" % kind)
            raise
        disk = Disk(point)
        self.disks.append(disk)
        return disk

    def bind(self, disk, name):
        return self.mount("--bind", disk.point, point=self.place(name))

    def thaw(self):
        """All of them, as often as it takes while somebody may still freeze."""
        for disk in self.disks:
            disk.thaw()

    def close(self):
        try:
            for _ in range(3):  # one of them may have held up another
                self.thaw()
            for disk in reversed(self.disks):
                disk.close()
            for point in reversed(self.points):
                wait_until(lambda: subprocess.run(["umount", point],
                                                  stderr=subprocess.DEVNULL).returncode == 0
                           or not os.path.ismount(point), 10, "umount " + point)
        finally:
            assert LIBC.setns(self.before, CLONE_NEWNS) == 0
            os.chdir(self.cwd)
            os.close(self.before)


def can_freeze():
    return os.geteuid() == 0 and shutil.which("losetup") and os.path.exists("/dev/loop-control")


# --- for the tests ---


@pytest.fixture
def disks(kind, tmp_path):
    if not can_freeze():
        pytest.skip("needs root and loop devices")
    disks = Disks(str(tmp_path))
    yield disks
    disks.close()


@pytest.fixture
def begin(disks, start_agent):
    """Starts an agent that sees the test's disks, and is ended before these go."""
    started = []

    def begin(**options):
        agent = start_agent(**options)
        started.append(agent)
        return agent

    yield begin
    disks.thaw()
    for agent in started:
        if agent.process and agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)


def freeze(channel, *points, timeout=20):
    assert points, "without any, the machine would be frozen"
    return channel.cmd("guest-fsfreeze-freeze-list", {"mountpoints": list(points)}, timeout)


def freeze_error(channel, *points, timeout=20):
    with pytest.raises(AgentError) as caught:
        freeze(channel, *points, timeout=timeout)
    return caught.value.desc


def post_freeze(channel, *points, **members):
    assert points
    channel.post("guest-fsfreeze-freeze-list", {"mountpoints": list(points)}, **members)


def thaw(channel, timeout=20):
    return channel.cmd("guest-fsfreeze-thaw", timeout=timeout)


def thaw_error(channel, timeout=20):
    with pytest.raises(AgentError) as caught:
        thaw(channel, timeout)
    return caught.value.desc


def status(channel, timeout=20):
    return channel.cmd("guest-fsfreeze-status", timeout=timeout)


def make_hook(agent_directory, *lines):
    """A hook in a directory; notes what it is called with in the file `hooks` beside it."""
    path = os.path.join(agent_directory, "hook")
    with open(path, "w") as file:
        file.write("#!/bin/sh\ncd '%s'\necho $1 >>hooks\necho the hook says $1\n" % agent_directory)
        file.write("\n".join(lines) + "\n")
    os.chmod(path, 0o755)
    return path


def hooks(directory):
    try:
        with open(os.path.join(directory, "hooks")) as file:
            return file.read().split()
    except FileNotFoundError:
        return []
