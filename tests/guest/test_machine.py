# SPDX-License-Identifier: MIT
"""The suite's own machines: that every option gives what the other tests build on."""
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import vm as machine
from conftest import agent_program
from host import wait_until


def mounts(vm):
    """Type of file system by mount point."""
    lines = vm.shell.run("cat /proc/mounts").splitlines()
    return {line.split()[1]: line.split()[2] for line in lines}


def test_everything_at_once(fresh_vm):
    vm = fresh_vm(
        cpus=2,
        memory_mb=512,
        root_disk=True,
        ext4_disk=True,
        xfs_disk=True,
        loop=True,
        bind=True,
        swap=True,
        memory_module=True,
        network=True,
        vsock=True,
        programs=("/usr/bin/stat",),
        files=(("/etc/bellhop/note", "text\n"),),
    )
    found = mounts(vm)
    expected = {"/": "ext4", "/mnt/ext4": "ext4", "/mnt/xfs": "xfs", "/mnt/loop": "ext4"}
    assert expected.items() <= found.items()
    assert found["/mnt/bind"] == "ext4"
    assert vm.shell.run("cat /mnt/ext4/hello.txt") == "hello\n"
    assert vm.shell.run("cat /etc/bellhop/note") == "text\n"
    assert vm.shell.run("/usr/bin/stat -c %s /etc/bellhop/note") == "5\n"
    assert "/dev/vd" in vm.shell.run("cat /proc/swaps")
    assert vm.shell.run("cat /sys/devices/system/cpu/online") == "0-1\n"
    assert "10.0.2.15" in vm.shell.run("ip addr show dev eth0")
    assert "vsock_loopback" in vm.shell.run("cat /proc/modules")
    assert vm.shell.run("cat /sys/devices/system/memory/memory*/removable").count("1") >= 1
    vm.start_agent()


def test_console_and_log_are_reported(vm):
    vm.shell.run("echo from-the-guest >/dev/console; echo from-the-agent >/run/agent.log")
    report = vm.report()
    assert "from-the-guest" in report and "from-the-agent" in report


def test_failing_command_is_reported(vm):
    with pytest.raises(AssertionError, match="ended with 3:\nwhy"):
        vm.shell.run("echo why; exit 3")
    assert vm.shell.run("echo 'with \"quotes\"\nand lines'") == 'with "quotes"\nand lines\n'


def test_guest_that_panics_is_not_healthy(fresh_vm):
    vm = fresh_vm()
    assert vm.is_healthy()
    vm.shell.send(b"echo c >/proc/sysrq-trigger\n")
    wait_until(lambda: vm.process.poll() is not None, "the panicked machine ends")
    assert not vm.is_healthy()
    assert "sysrq" in vm.report()


def test_guest_that_shuts_down(fresh_vm):
    vm = fresh_vm()
    vm.shell.send(b"shutdown -P now\n")
    assert vm.qmp.wait_event("SHUTDOWN")["guest"] is True
    wait_until(lambda: vm.process.poll() is not None, "the machine ends")


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_tests_are_ended(request, tmp_path, ended_by):
    """meson ends a run that takes too long with SIGTERM, and then with SIGKILL."""
    test = tmp_path / "test_endless.py"
    here = os.path.dirname(os.path.abspath(machine.__file__))
    test.write_text(
        "import pathlib, signal\n"
        "def test_endless(vm):\n"
        f"    pathlib.Path({str(tmp_path / 'started')!r}).write_text(\n"
        "        f'{vm.process.pid} {vm.directory}')\n"
        "    signal.pause()\n"
    )
    with open(os.path.join(here, "conftest.py"), encoding="utf-8") as file:
        content = file.read().replace("os.path.dirname(__file__)", repr(here))
        (tmp_path / "conftest.py").write_text(content)
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        run = subprocess.Popen(
            [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", str(test)]
            + ["--rootdir", str(tmp_path), "--agent", agent_program(request.config)],
            env={name: value for name, value in os.environ.items() if name != "WIRE_JUNIT_DIR"},
            stdout=log,
            stderr=log,
        )
    directory = None
    try:
        wait_until((tmp_path / "started").exists, "the inner test runs", 60)
        pid, directory = wait_until((tmp_path / "started").read_text, "it says so").split()
        run.send_signal(ended_by)
        run.wait(30)
        wait_until(lambda: not is_running(int(pid)), "its machine has ended")
        if ended_by == signal.SIGKILL:
            make_old(directory)
            machine.remove_abandoned()
        assert not os.path.exists(directory)
    finally:
        run.kill()
        run.wait()
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


def make_old(directory):
    then = time.time() - 2 * machine.ABANDONED_SECONDS
    os.utime(directory, (then, then))


def test_machine_in_use_is_not_taken_for_abandoned(vm):
    make_old(vm.directory)
    machine.remove_abandoned()
    assert vm.is_healthy() and os.path.exists(os.path.join(vm.directory, "console.log"))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
