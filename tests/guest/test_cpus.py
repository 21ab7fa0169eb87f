# SPDX-License-Identifier: MIT
"""Processors and memory switched on and off in a real guest, and who is logged in there."""
import contextlib
import struct

import pytest

from host import wait_until
from vm import PORT_PATH, VmOptions

SERVES_PORT = ("-v", "-m", "virtio-serial", "-p", PORT_PATH)
CPUS = "/sys/devices/system/cpu"
MEMORY = "/sys/devices/system/memory"
UTMP_RECORD = "<hxxi32s4s32s256shhiii16s20x"  # glibc's on x86
USER_PROCESS = 7
LOGINS = (
    ("alice", 1700000200, 0),
    ("root", 1700000100, 500000),
    ("alice", 1700000000, 123456),
)


def utmp_record(user, seconds, microseconds):
    return struct.pack(
        UTMP_RECORD,
        USER_PROCESS,
        1,
        b"tty1",
        b"1",
        user.encode(),
        b"",
        *(0, 0, 0),
        seconds,
        microseconds,
        b"",
    )


VM_OPTIONS = VmOptions(
    cpus=2,
    memory_module=True,
    files=(("/etc/guest/utmp", b"".join(utmp_record(*login) for login in LOGINS)),),
)


@contextlib.contextmanager
def connection(vm):
    with vm.connect() as channel:
        yield channel.sync(attempt_timeout=1)


def set_vcpus(channel, *vcpus):
    return channel.call(
        "guest-set-vcpus",
        vcpus=[{"logical-id": number, "online": online} for number, online in vcpus],
    )


def set_blocks(channel, *blocks):
    return channel.run(
        "guest-set-memory-blocks",
        mem_blks=[{"phys-index": number, "online": online} for number, online in blocks],
    )


def online_processors(vm):
    return vm.shell.run(f"cat {CPUS}/online").strip()


def block_states(vm):
    """Number of the block -> its state, as the kernel says it."""
    lines = vm.shell.run(f"cd {MEMORY}; grep -H . memory*/state").splitlines()
    return {int(line.split("/")[0][len("memory") :]): line.split(":")[1] for line in lines}


@pytest.fixture
def processors_on(any_agent):
    yield any_agent
    any_agent.shell.run(f"echo 1 >{CPUS}/cpu1/online")


@pytest.fixture
def module(any_agent):
    """The number of the block that the memory module has. It is offline.

    The kernel is told to put it where it holds only what can be moved: else it might not go
    offline again.
    """
    policy = "/sys/module/memory_hotplug/parameters/online_policy"
    number = max(block_states(any_agent))
    any_agent.shell.run(
        f"echo auto-movable >{policy}; cd {MEMORY}/memory{number};"
        "grep -q offline state || echo offline >state"
    )
    return number


# Processors


def test_processor_off_and_on(processors_on):
    vm = processors_on
    with connection(vm) as channel:

        def vcpus():
            return {entry["logical-id"]: entry for entry in channel.run("guest-get-vcpus")}

        first = {"logical-id": 0, "online": True, "can-offline": False}
        second = {"logical-id": 1, "online": True, "can-offline": True}
        assert vcpus() == {0: first, 1: second}
        assert set_vcpus(channel, (1, False)) == {"return": 1}
        assert online_processors(vm) == "0"
        assert vcpus() == {0: first, 1: {**second, "online": False}}
        assert set_vcpus(channel, (0, True), (1, True), (1, False), (1, True)) == {"return": 4}
        assert online_processors(vm) == "0-1"


def test_processors_up_to_the_first_that_fails(processors_on):
    vm = processors_on
    with connection(vm) as channel:
        absent = 'open("/sys/devices/system/cpu/cpu9/"): No such file or directory'
        assert set_vcpus(channel, (9, True), (1, False))["error"]["desc"] == absent
        stays = "logical processor #0 can't be offlined"
        assert set_vcpus(channel, (0, False), (1, False))["error"]["desc"] == stays
        assert online_processors(vm) == "0-1"
        assert set_vcpus(channel, (1, False), (9, True), (1, True)) == {"return": 1}
        assert online_processors(vm) == "0"


def test_processor_that_the_kernel_does_not_switch(agent):
    """A file that cannot be written to stands for a kernel that refuses."""
    path = f"{CPUS}/cpu1/online"
    agent.shell.run(
        f"echo 1 >/run/online && mount --bind /run/online {path} && mount -o remount,ro,bind {path}"
    )
    try:
        with connection(agent) as channel:
            assert set_vcpus(channel, (1, True)) == {"return": 1}
            refused = 'write("/sys/devices/system/cpu/cpu1/online"): Read-only file system'
            assert set_vcpus(channel, (1, False))["error"]["desc"] == refused
            assert set_vcpus(channel, (0, True), (1, False)) == {"return": 1}
    finally:
        agent.shell.run(f"umount {path}")
    assert online_processors(agent) == "0-1"
    assert "done with 1 of 2, then: " + refused in agent.agent_log()


def test_processor_times_of_the_one_that_is_on(processors_on):
    with connection(processors_on) as channel:
        assert [entry["cpu"] for entry in channel.run("guest-get-cpustats")] == [0, 1]
        assert set_vcpus(channel, (1, False)) == {"return": 1}
        assert [entry["cpu"] for entry in channel.run("guest-get-cpustats")] == [0]


# Memory


def test_memory_block_on_and_off(any_agent, module):
    with connection(any_agent) as channel:
        size = channel.run("guest-get-memory-block-info")["size"]
        assert size == 128 << 20

        def blocks():
            return {entry["phys-index"]: entry for entry in channel.run("guest-get-memory-blocks")}

        before = blocks()
        assert {number: entry["online"] for number, entry in before.items()} == {
            number: state == "online" for number, state in block_states(any_agent).items()
        }
        for online in (True, False, True):
            assert set_blocks(channel, (module, online)) == [
                {"phys-index": module, "response": "success"}
            ]
            assert block_states(any_agent)[module] == ("online" if online else "offline")
            assert blocks() == {
                **before,
                module: {"phys-index": module, "online": online, "can-offline": True},
            }
            total = int(any_agent.shell.run("grep MemTotal /proc/meminfo").split()[1]) << 10
            assert (total > VM_OPTIONS.memory_mb << 20) == online


def test_memory_blocks_each_on_its_own(any_agent, module):
    with connection(any_agent) as channel:
        assert set_blocks(channel, (99, True), (0, False), (module, True), (99, False)) == [
            {"phys-index": 99, "response": "not-found", "error-code": 2},
            {"phys-index": 0, "response": "operation-failed", "error-code": 22},
            {"phys-index": module, "response": "success"},
            {"phys-index": 99, "response": "not-found", "error-code": 2},
        ]
        states = block_states(any_agent)
        assert states[0] == "online" and states[module] == "online"


def test_block_that_cannot_go_offline_is_told(agent):
    """Block 0 spans two zones. The classic agent says that it could."""
    assert agent.shell.run(f"cat {MEMORY}/memory0/valid_zones").strip() == "none"
    with connection(agent) as channel:
        first = min(channel.run("guest-get-memory-blocks"), key=lambda entry: entry["phys-index"])
        assert first == {"phys-index": 0, "online": True, "can-offline": False}


# Users


def test_users_of_utmp(any_agent):
    any_agent.shell.run("cp /etc/guest/utmp /run/utmp; mkdir -p /var; ln -sfn /run /var/run")
    try:
        with connection(any_agent) as channel:
            users = channel.run("guest-get-users")
    finally:
        any_agent.shell.run("rm /run/utmp")
    assert sorted(users, key=lambda entry: entry["user"]) == [
        {"user": "alice", "login-time": 1700000000.123456},
        {"user": "root", "login-time": 1700000100.5},
    ]


# Hot plug


def plug_processor(vm):
    place = {"socket_id": 0, "core_id": 1, "thread_id": 0}
    vm.qmp.run("device_add", driver="max-x86_64-cpu", id="cpu1", **place)


def plug_memory(vm):
    vm.qmp.run("object-add", qom_type="memory-backend-ram", id="more", size=128 << 20)
    vm.qmp.run("device_add", driver="pc-dimm", id="dimm2", memdev="more")


def plug_all(vm):
    """Returns the number of the memory block when all is there."""
    before = set(block_states(vm))
    plug_memory(vm)
    wait_until(lambda: set(block_states(vm)) != before, "the kernel sees the memory")
    plug_processor(vm)
    present = f"ls -d {CPUS}/cpu1"
    wait_until(lambda: vm.shell.run(present, check=False)[0] == 0, "the kernel sees the processor")
    return (set(block_states(vm)) - before).pop()


HOT_PLUG = {"memory_module": True, "qemu_arguments": ("-smp", "1,maxcpus=2,cores=2")}


def test_what_is_plugged_in_is_brought_online(fresh_vm):
    vm = fresh_vm(**HOT_PLUG)
    module = max(block_states(vm))
    wanted = ("--set", "hotplug.processors=true", "--set", "hotplug.memory=true")
    vm.start_agent(*SERVES_PORT, *wanted)
    block = plug_all(vm)
    wait_until(lambda: online_processors(vm) == "0-1", "the processor is online")
    wait_until(lambda: block_states(vm)[block] == "online", "the memory is online")
    # what was there before is left as it was
    assert block_states(vm)[module] == "offline"
    assert "processor 1 was plugged in and is online" in vm.agent_log()
    # and what somebody takes offline stays so
    with connection(vm) as channel:
        assert set_vcpus(channel, (1, False)) == {"return": 1}
        assert set_vcpus(channel, (0, True)) == {"return": 1}
    assert online_processors(vm) == "0"


def test_only_what_was_asked_for_is_brought_online(fresh_vm):
    vm = fresh_vm(**HOT_PLUG)
    vm.start_agent(*SERVES_PORT, "--set", "hotplug.processors=true")
    block = plug_all(vm)
    # the memory came first: had it been wanted, it would be online by now
    wait_until(lambda: online_processors(vm) == "0-1", "the processor is online")
    wait_until(lambda: "processor 1 was plugged in" in vm.agent_log(), "the log says so")
    assert block_states(vm)[block] == "offline"
