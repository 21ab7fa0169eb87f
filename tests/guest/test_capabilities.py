# SPDX-License-Identifier: MIT
"""Each command with exactly the capabilities that its row names, and with one of them taken away.

A capability without a case fails the test: a row is not to say too much. That it does not say too
little is seen where a command works with what its row names and nothing else.
"""
import base64
import contextlib
import dataclasses
import os
import shlex
import subprocess

import pytest

import test_accounts
from host import wait_until
from test_power import remove_programs
from test_sandbox import ACCOUNTS, mask
from vm import PORT_PATH

TRIAL = os.environ.get("BELLHOPD_TRIAL")
NVME = ("-drive", "if=none,id=nvme,driver=null-co,size=16M",
        "-device", "nvme,drive=nvme,serial=NVMEA")
VM_OPTIONS = dataclasses.replace(
    test_accounts.VM_OPTIONS, ext4_disk=True, modules=("nvme",), qemu_arguments=NVME,
    kernel_arguments="audit=1", files=test_accounts.VM_OPTIONS.files + ACCOUNTS,
    programs=test_accounts.VM_OPTIONS.programs + ((TRIAL,) if TRIAL else ()))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEY one"
PRIVATE = "/home/alice/private"
POINT = PRIVATE + "/mount"
GUARD = "grep -ls bellhop-guard /proc/[0-9]*/comm | cut -d/ -f3"  # its process


def rows():
    """command -> the capabilities that its row names, of the agent's and of its helpers."""
    if not TRIAL:
        return {}
    listed = subprocess.run([TRIAL], env={"TRIAL_LIST": ""}, capture_output=True, text=True,
                            check=True).stdout
    found = {}
    for line in listed.splitlines():
        command, capability = line.split()
        found.setdefault(command, [])
        if capability not in found[command]:
            found[command].append(capability)
    return found


ROWS = rows()


# --- what shows that it works: each returns None, or what was said or missing ---------------------


def said(reply):
    return reply["error"]["desc"] if "error" in reply else None


def set_time(vm, channel):
    return said(channel.call("guest-set-time", time=1_800_000_000 * 10**9))


def opens(path):
    def case(vm, channel):
        reply = channel.call("guest-file-open", path=path, mode="r")
        if "return" in reply:
            channel.run("guest-file-close", handle=reply["return"])
        return said(reply)

    return case


def write(channel, path, content):
    handle = channel.run("guest-file-open", path=path, mode="r+")
    reply = channel.call("guest-file-write", handle=handle,
                         buf_b64=base64.b64encode(content).decode())
    channel.run("guest-file-close", handle=handle)
    return said(reply)


def keeps_set_user_id(vm, channel):
    vm.shell.run("echo x >/tmp/program; chmod 4755 /tmp/program")
    assert write(channel, "/tmp/program", b"y") is None
    mode = vm.shell.run("stat -c %a /tmp/program").strip()
    return None if mode == "4755" else "the mode became " + mode


def writes_setting(vm, channel):
    return write(channel, "/proc/sys/kernel/dmesg_restrict", b"0")


def asks_nvme(vm, channel):
    disks = channel.run("guest-get-disks")
    disk = next(disk for disk in disks if "nvme" in disk["name"])
    return None if "smart" in disk else "no SMART data"


@contextlib.contextmanager
def private_mount(vm):
    """A file system in a folder that only alice may look into. In the end nothing is frozen."""
    # it is told of once, so it must not be elsewhere, too
    vm.shell.run(f"umount /mnt/ext4; mkdir -p {PRIVATE}/mount; chown -R 1000:1000 /home/alice; "
                 f"chmod 700 {PRIVATE}; mount -t ext4 /dev/vda1 {POINT}")
    try:
        yield
    finally:
        vm.shell.run(f"killall -q -9 bellhopd-trial; kill -9 $({GUARD}) 2>/dev/null; "
                     f"while busybox fsfreeze --unfreeze {POINT} 2>/dev/null; do :; done; true")
        wait_until(lambda: vm.shell.run(f"umount {POINT}", check=False)[0] == 0,
                   "nobody holds the file system")
        vm.shell.run("mount -t ext4 /dev/vda1 /mnt/ext4")


def sees_private_mount(vm, channel):
    with private_mount(vm):
        found = channel.run("guest-get-fsinfo")
    usage = [row for row in found if row["mountpoint"] == POINT and "used-bytes" in row]
    return None if usage else "its usage is missing"


def trims(vm, channel):
    with private_mount(vm):
        paths = channel.run("guest-fstrim", timeout=60)["paths"]
    return next(path for path in paths if path["path"] == POINT).get("error")


def guard_status(vm, name):
    return vm.shell.run(f"sed -n 's/^{name}:[[:space:]]*//p' /proc/$({GUARD})/status").strip()


def is_frozen(vm):
    """Asked by freezing it once more."""
    return vm.shell.run(f"if busybox fsfreeze --freeze {POINT} 2>/dev/null; then "
                        f"busybox fsfreeze --unfreeze {POINT}; echo no; else echo yes; fi") == "yes\n"


def freeze(channel, command="guest-fsfreeze-freeze-list"):
    """Long enough for a guard that never comes."""
    arguments = {"mountpoints": [POINT]} if command.endswith("-list") else {}
    return channel.call(command, timeout=60, **arguments)


def freezes(command, is_locked=False):
    """There and back; nothing is frozen if it fails. With `is_locked` the guard is in memory."""
    def case(vm, channel):
        with private_mount(vm):
            problem = said(freeze(channel, command))
            assert is_frozen(vm) == (problem is None)
            assert channel.run("guest-fsfreeze-status") == ("thawed" if problem else "frozen")
            if problem:
                return problem
            locked = guard_status(vm, "VmLck")
            assert channel.run("guest-fsfreeze-thaw", timeout=60) == 1
            assert not is_frozen(vm)
            assert channel.run("guest-fsfreeze-status") == "thawed"
        return "the guard is not locked" if is_locked and locked == "0 kB" else None

    return case


def keys(action):
    def case(vm, channel):
        vm.shell.run("mkdir -p /home/alice; chown -R 1000:1000 /home/alice; chmod 700 /home/alice")
        arguments = {} if action == "get" else {"keys": [KEY]}
        vm.shell.run("mkdir -p /home/alice/.ssh; echo 'ssh-rsa old' >/home/alice/.ssh/authorized_keys; "
                     "chown -R 1000:1000 /home/alice/.ssh; chmod 700 /home/alice/.ssh")
        return said(channel.call(f"guest-ssh-{action}-authorized-keys", username="alice",
                                 **arguments))

    return case


def sets_password(mode):
    def case(vm, channel):
        vm.shell.run(f"printf '{test_accounts.SHADOW}' >/etc/shadow; chown 0:42 /etc/shadow; "
                     f"chmod {mode} /etc/shadow; rm -f /etc/.pwd.lock")
        problem = said(test_accounts.set_password(channel, "alice", b"S3cret"))
        if problem:
            return problem
        after = vm.shell.run("stat -c '%u %g' /etc/shadow").strip()
        return None if after == "0 42" else "the file's group became " + after

    return case


def audits_password(vm, channel):
    vm.shell.run("dmesg -c >/dev/null")
    problem = sets_password("640")(vm, channel)
    log = vm.shell.run("dmesg | grep 'audit: .*chpasswd' || true")
    return problem or (None if log else "the audit log says nothing")


CASES = {
    ("guest-set-time", "cap_sys_time"): set_time,
    ("guest-file-open", "cap_dac_override"): opens("/home/alice/secret"),
    ("guest-file-open", "cap_sys_ptrace"): opens("/proc/1/environ"),
    ("guest-file-open", "cap_sys_rawio"): opens("/dev/mem"),
    ("guest-file-open", "cap_syslog"): opens("/proc/kmsg"),
    ("guest-file-write", "cap_fsetid"): keeps_set_user_id,
    ("guest-file-write", "cap_sys_admin"): writes_setting,
    ("guest-fstrim", "cap_dac_read_search"): trims,
    ("guest-fstrim", "cap_sys_admin"): trims,
    ("guest-get-disks", "cap_sys_admin"): asks_nvme,
    ("guest-get-fsinfo", "cap_dac_read_search"): sees_private_mount,
    ("guest-set-user-password", "cap_chown"): sets_password("640"),
    ("guest-set-user-password", "cap_dac_override"): sets_password("0"),
    ("guest-set-user-password", "cap_audit_write"): audits_password,
}
for ACTION in ("get", "add", "remove"):
    for CAPABILITY in ("cap_setuid", "cap_setgid"):
        CASES[f"guest-ssh-{ACTION}-authorized-keys", CAPABILITY] = keys(ACTION)

FREEZES = ("guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list")
for COMMAND in FREEZES:
    for CAPABILITY in ("cap_sys_admin", "cap_dac_read_search", "cap_ipc_lock"):
        CASES[COMMAND, CAPABILITY] = freezes(COMMAND, CAPABILITY == "cap_ipc_lock")

# Those that have tests of their own, below.
ALONE = {("guest-shutdown", "cap_kill"), ("guest-shutdown", "cap_sys_boot"),
         ("guest-fsfreeze-thaw", "cap_sys_admin"), ("guest-fsfreeze-thaw", "cap_dac_read_search"),
         *((command, capability) for command in FREEZES
           for capability in ("cap_setuid", "cap_setgid"))}


def start(vm, capabilities, *arguments, keep="TRIAL_KEEP"):
    """An agent that has these and no others, nor has its broker; TRIAL_KEEP_GUARD: only its guard.

    It may lock so little memory that it takes CAP_IPC_LOCK to lock what it has.
    """
    vm.shell.run(
        f"ln -sf {TRIAL} /usr/sbin/bellhopd-trial; "
        f"printf '#!/bin/sh\\nulimit -l 64\\nexport {keep}=%s\\n"
        f"exec /usr/sbin/bellhopd-trial \"$@\"\\n' {mask(' '.join(capabilities)):x} "
        ">/usr/sbin/in-trial; chmod 755 /usr/sbin/in-trial")
    vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, *arguments, program="in-trial")


@pytest.fixture
def prepared(vm):
    if not TRIAL:
        pytest.skip("BELLHOPD_TRIAL names no program")
    vm.shell.run("mkdir -p /home/alice /tmp; echo secret >/home/alice/secret; "
                 "chown -R 1000:1000 /home/alice; chmod 700 /home/alice")
    yield vm
    vm.shell.run("killall -q -9 bellhopd-trial; rm -rf /tmp/program /home/alice/.ssh; true")


def kill(vm):
    vm.shell.run("killall -q -9 bellhopd-trial; true")
    wait_until(lambda: vm.agent_status() is not None, "the agent is gone")


def outcome(vm, capabilities, case):
    start(vm, capabilities)
    with vm.session() as channel:
        result = case(vm, channel)
    kill(vm)
    vm.shell.run("rm -rf /run/bellhop*")
    return result


def test_every_need_has_a_case():
    if not TRIAL:
        pytest.skip("BELLHOPD_TRIAL names no program")
    named = {(command, capability) for command, found in ROWS.items() for capability in found}
    assert named == set(CASES) | ALONE


@pytest.mark.parametrize("command, capability", sorted(CASES), ids=str)
def test_with_and_without(prepared, command, capability):
    case = CASES[command, capability]
    exactly = ROWS[command]
    assert outcome(prepared, exactly, case) is None
    less = [name for name in exactly if name != capability]
    problem = outcome(prepared, less, case)
    assert problem, f"{command} works without {capability}"


@pytest.mark.parametrize("capability, error", [
    ("cap_sys_admin", "Operation not permitted"), ("cap_dac_read_search", "Permission denied")])
def test_freeze_and_thaw_without_guard(prepared, capability, error):
    """So that it is not the guard who says no; and the thaw of what an earlier agent froze."""
    vm = prepared
    exactly = ROWS["guest-fsfreeze-thaw"]
    less = [name for name in exactly if name != capability]

    def run(capabilities):
        start(vm, capabilities, "--set=freeze.timeout=0")
        return vm.session()

    with private_mount(vm):
        with run(less) as channel:
            problem = said(freeze(channel))
            assert error in problem and POINT in problem
            assert channel.run("guest-fsfreeze-status") == "thawed" and not is_frozen(vm)
        kill(vm)
        with run(exactly) as channel:
            assert freeze(channel) == {"return": 1}
        kill(vm)
        with run(less) as channel:
            assert channel.run("guest-fsfreeze-status") == "frozen"
            problem = said(channel.call("guest-fsfreeze-thaw", timeout=60))
            assert error in problem and POINT in problem and is_frozen(vm)
        kill(vm)
        with run(exactly) as channel:
            assert channel.run("guest-fsfreeze-thaw", timeout=60) == 1
            assert channel.run("guest-fsfreeze-status") == "thawed" and not is_frozen(vm)


GUARD_NEEDS = ("cap_sys_admin", "cap_ipc_lock", "cap_dac_read_search", "cap_setuid", "cap_setgid")


@pytest.mark.parametrize("missing", (None, *GUARD_NEEDS))
def test_guard_with_and_without(prepared, missing):
    """Where it becomes the agent's user; without it nothing is frozen."""
    vm = prepared
    kept = [name for name in GUARD_NEEDS if name != missing]
    start(vm, kept, "--profile", "backup", keep="TRIAL_KEEP_GUARD")
    with private_mount(vm), vm.session() as channel:
        reply = freeze(channel)
        if missing in (None, "cap_ipc_lock"):
            assert reply == {"return": 1} and is_frozen(vm)
            left = [name for name in ("cap_sys_admin", "cap_ipc_lock") if name != missing]
            assert int(guard_status(vm, "CapEff"), 16) == mask(" ".join(left))
            assert (guard_status(vm, "VmLck") == "0 kB") == (missing is not None)
            assert channel.run("guest-fsfreeze-thaw", timeout=60) == 1
        else:
            assert "nothing was frozen: the thaw guard is not ready" in said(reply)
            assert ("Operation not permitted" in said(reply)) == (missing == "cap_sys_admin")
        assert channel.run("guest-fsfreeze-status") == "thawed" and not is_frozen(vm)
        text = "the thaw guard could not lock its memory"
        if missing == "cap_ipc_lock":
            wait_until(lambda: text in vm.agent_log(), "the log says so")
        else:
            assert text not in vm.agent_log()


def test_provision_does_its_work(prepared):
    """As the profile's user, with a broker that has only what helpers need."""
    vm = prepared
    vm.start_agent("-m", "virtio-serial", "-p", PORT_PATH, "--profile", "provision")
    with vm.session() as channel:
        for case in (set_time, sets_password("640"), sets_password("0"), keys("add"), keys("get"),
                     keys("remove")):
            assert case(vm, channel) is None
    assert int(vm.shell.run("cat /sys/class/rtc/rtc0/since_epoch")) >= 1_800_000_000


def test_shutdown_without_reboot(fresh_vm):
    vm = fresh_vm(programs=(TRIAL,))
    remove_programs(vm)
    start(vm, ["cap_kill"])
    with vm.session() as channel:
        assert "Operation not permitted" in said(channel.call("guest-shutdown", timeout=30))


def test_shutdown_with_both(fresh_vm):
    vm = fresh_vm(programs=(TRIAL,))
    remove_programs(vm)
    start(vm, ["cap_kill", "cap_sys_boot"])
    with vm.session() as channel:
        channel.send_request("guest-shutdown")
        vm.qmp.wait_event("SHUTDOWN")


@pytest.mark.parametrize("capabilities", [[], ["cap_kill"]], ids=["without", "with"])
def test_shutdown_ends_processes(fresh_vm, capabilities):
    """Of other users, too; without the last step the agent can still be asked."""
    vm = fresh_vm(programs=(TRIAL,))
    remove_programs(vm)
    command = "sleep 100000 </dev/null >/dev/null 2>&1 & echo $! >/tmp/sleeper"
    vm.shell.run("chmod 777 /tmp; su -s /bin/sh alice -c " + shlex.quote(command))
    path = f"/proc/{vm.shell.run('cat /tmp/sleeper').strip()}/stat"
    start(vm, capabilities)
    with vm.session() as channel:
        channel.call("guest-shutdown", timeout=30)
        reply = channel.call("guest-file-open", path=path, mode="r")
    assert ("error" in reply) == bool(capabilities)
