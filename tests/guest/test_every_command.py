# SPDX-License-Identifier: MIT
"""Every command of the protocol in a real guest, and the classic agent's replies to the same.

replies.jsonl has what qemu-ga 7.2 answers in this machine, one request a line. bellhop's replies are
the same but for DIFFERENCES, each of which has its row in docs/compatibility.md. Recorded anew by

    BELLHOP_RECORD_DIR=tests/guest BELLHOPD=... python3 -m pytest tests/guest/test_every_command.py

What changes from run to run (times, counters, sizes, numbers of processes) is only held to its type.
"""
import json
import os

import pytest

import vm as machine
from host import wait_until
from vm import VmOptions

HERE = os.path.dirname(os.path.abspath(__file__))
RECORDED = os.path.join(HERE, "replies.jsonl")
PAGE = os.path.join(HERE, "..", "..", "docs", "compatibility.md")
VM_OPTIONS = VmOptions(cpus=2, memory_mb=384, ext4_disk=True, memory_module=True)

# The commands of the reference manual (2.10), and what came later.
COMMANDS = """
    guest-exec guest-exec-status guest-file-close guest-file-flush guest-file-open guest-file-read
    guest-file-seek guest-file-write guest-fsfreeze-freeze guest-fsfreeze-freeze-list
    guest-fsfreeze-status guest-fsfreeze-thaw guest-fstrim guest-get-cpustats guest-get-devices
    guest-get-disks guest-get-diskstats guest-get-fsinfo guest-get-host-name guest-get-load
    guest-get-memory-block-info guest-get-memory-blocks guest-get-osinfo guest-get-time
    guest-get-timezone guest-get-users guest-get-vcpus guest-info guest-network-get-interfaces
    guest-network-get-route guest-ping guest-set-memory-blocks guest-set-time
    guest-set-user-password guest-set-vcpus guest-shutdown guest-ssh-add-authorized-keys
    guest-ssh-get-authorized-keys guest-ssh-remove-authorized-keys guest-suspend-disk
    guest-suspend-hybrid guest-suspend-ram guest-sync guest-sync-delimited
""".split()

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEY%d k%d"

# Requests and their arguments. "$name" stands for what was returned before under that name: SAVED
# says which request that was.
FREEZING = [
    ("guest-fsfreeze-status", {}),
    ("guest-fsfreeze-thaw", {}),
    ("guest-fstrim", {"minimum": 1 << 30}),
    ("guest-fsfreeze-freeze-list", {"mountpoints": ["/mnt/ext4"]}),
    ("guest-fsfreeze-status", {}),
    ("guest-get-time", {"when": "frozen"}),
    ("guest-fsfreeze-thaw", {}),
    ("guest-fsfreeze-freeze", {}),
    ("guest-get-time", {}),
    ("guest-fsfreeze-thaw", {}),
]
CONVERSATION = [
    ("guest-ping", {}),
    ("guest-ping", {"x": 1}),
    ("guest-no-such-command", {}),
    ("guest-info", {}),
    ("guest-sync", {"id": 9223372036854775807}),
    ("guest-sync", {"id": "7"}),
    ("guest-sync", {}),
    ("guest-sync-delimited", {"id": -5}),
    ("guest-get-time", {}),
    ("guest-get-host-name", {}),
    ("guest-get-osinfo", {}),
    ("guest-get-timezone", {}),
    ("guest-get-users", {}),
    ("guest-get-devices", {}),
    ("guest-get-load", {}),
    ("guest-network-get-interfaces", {}),
    ("guest-network-get-route", {}),
    ("guest-get-fsinfo", {}),
    ("guest-get-disks", {}),
    ("guest-get-diskstats", {}),
    ("guest-get-cpustats", {}),
    # files
    ("guest-file-open", {"path": "/mnt/ext4/file", "mode": "w+"}),
    ("guest-file-write", {"handle": "$file", "buf-b64": "aGVsbG8gd29ybGQK"}),
    ("guest-file-write", {"handle": "$file", "buf-b64": "MDEyMzQ1Njc4OQ==", "count": 4}),
    ("guest-file-write", {"handle": "$file", "buf-b64": "YWI=", "count": 9}),
    ("guest-file-write", {"handle": "$file", "buf-b64": "!!notb64"}),
    ("guest-file-flush", {"handle": "$file"}),
    ("guest-file-seek", {"handle": "$file", "offset": -4, "whence": "end"}),
    ("guest-file-read", {"handle": "$file"}),
    ("guest-file-seek", {"handle": "$file", "offset": 0, "whence": 7}),
    ("guest-file-seek", {"handle": "$file", "offset": -1, "whence": 0}),
    ("guest-file-read", {"handle": "$file", "count": 0}),
    ("guest-file-read", {"handle": "$file", "count": -1}),
    ("guest-file-read", {"handle": "$file", "count": 52428800}),
    ("guest-file-close", {"handle": "$file"}),
    ("guest-file-close", {"handle": "$file"}),
    ("guest-file-open", {"path": "/nonexistent/x"}),
    ("guest-file-open", {"path": "/etc/passwd", "mode": "zz"}),
    ("guest-file-open", {"path": "/mnt/ext4", "mode": "w"}),
    # programs
    ("guest-exec", {"path": "/bin/sh", "arg": ["-c", "echo out; echo err >&2; exit 3"],
                    "capture-output": True}),
    ("guest-exec-status", {"pid": "$program"}),
    ("guest-exec", {"path": "/bin/sh", "arg": ["-c", "kill -9 $$"]}),
    ("guest-exec-status", {"pid": "$killed"}),
    ("guest-exec", {"path": "cat", "input-data": "c3RkaW4=", "capture-output": True}),
    ("guest-exec-status", {"pid": "$cat"}),
    ("guest-exec", {"path": "/no/such/program"}),
    ("guest-exec-status", {"pid": 1}),
    # processors and memory
    ("guest-get-vcpus", {}),
    ("guest-set-vcpus", {"vcpus": []}),
    ("guest-set-vcpus", {"vcpus": [{"logical-id": 1, "online": False}]}),
    ("guest-get-vcpus", {}),
    ("guest-set-vcpus", {"vcpus": [{"logical-id": 1, "online": True}]}),
    ("guest-set-vcpus", {"vcpus": [{"logical-id": 0, "online": False}]}),
    ("guest-set-vcpus", {"vcpus": [{"logical-id": 9, "online": True}]}),
    ("guest-get-memory-blocks", {}),
    ("guest-get-memory-block-info", {}),
    ("guest-set-memory-blocks", {"mem-blks": []}),
    ("guest-set-memory-blocks", {"mem-blks": [{"phys-index": 32, "online": True},
                                              {"phys-index": 99, "online": True}]}),
    ("guest-set-memory-blocks", {"mem-blks": [{"phys-index": 32, "online": False}]}),
    # accounts
    ("guest-set-user-password", {"username": "a:b", "password": "eA==", "crypted": False}),
    ("guest-set-user-password", {"username": "alice", "password": "eAp5", "crypted": False}),
    ("guest-set-user-password", {"username": "alice", "password": "!!", "crypted": False}),
    ("guest-set-user-password", {"username": "alice", "password": "eA=="}),
    ("guest-ssh-get-authorized-keys", {"username": "alice"}),
    ("guest-ssh-add-authorized-keys", {"username": "alice", "keys": [KEY % (1, 1), KEY % (2, 2)]}),
    ("guest-ssh-get-authorized-keys", {"username": "alice"}),
    ("guest-ssh-add-authorized-keys", {"username": "alice", "keys": [KEY % (9, 9)], "reset": True}),
    ("guest-ssh-remove-authorized-keys", {"username": "alice", "keys": [KEY % (9, 9), "other x"]}),
    ("guest-ssh-get-authorized-keys", {"username": "alice"}),
    ("guest-ssh-add-authorized-keys", {"username": "alice", "keys": ["a\nb"]}),
    ("guest-ssh-add-authorized-keys", {"username": "alice", "keys": ["# c"]}),
    ("guest-ssh-get-authorized-keys", {"username": "nosuch"}),
    # time
    ("guest-set-time", {"time": 1900000000000000000}),
    ("guest-set-time", {}),
    ("guest-set-time", {"time": -1}),
    ("guest-set-time", {"time": 0}),
    # power
    ("guest-shutdown", {"mode": "sideways"}),
    ("guest-suspend-disk", {}),
    ("guest-suspend-hybrid", {}),
    # Last: from then on the classic agent says of what it disabled itself that it is frozen.
    *FREEZING,
]
SAVED = {"/mnt/ext4/file": "file", "echo out; echo err >&2; exit 3": "program",
         "kill -9 $$": "killed", "stdin": "cat"}

# Command and what bellhop's reply has in it; each is a row of the page.
DIFFERENCES = {
    ("guest-info", "guest-get-load"): "newer commands",
    ("guest-get-load", "load1m"): "newer commands",
    ("guest-network-get-route", "srcprefixlen"): "newer commands",
    ("guest-get-fsinfo", "total-bytes-privileged"): "total-bytes-privileged",
    ("guest-get-fsinfo", "'serial': 'EXT4'"): "serial numbers without udev",
    ("guest-get-disks", "'serial': 'EXT4'"): "serial numbers without udev",
    ("guest-exec", "Failed to execute child process"): "error of a failed start",
    ("guest-get-memory-blocks", "'can-offline': False"): "can-offline of memory",
    ("guest-ssh-get-authorized-keys", "opening .ssh: "): "errors about keys",
    ("guest-ssh-get-authorized-keys", "there is no such user"): "errors about keys",
    ("guest-ssh-get-authorized-keys", "k1', "): "order of keys",
    ("guest-suspend-disk", "not supported"): "suspend to disk without swap",
}

# Members whose values change from run to run, or belong to this build.
VOLATILE = {"statistics", "stats", "total-bytes", "used-bytes", "total-bytes-privileged",
            "version", "kernel-release", "kernel-version", "login-time", "trimmed", "user", "nice",
            "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestnice", "pid",
            "load1m", "load5m", "load15m"}
ORDER = {"guest-get-vcpus": "logical-id", "guest-get-memory-blocks": "phys-index",
         "guest-get-disks": "name", "guest-get-diskstats": "name", "guest-info": "name"}


def type_of(value):
    """What stands for a value that changes: its type, of objects also the members' names."""
    if isinstance(value, dict):
        return {name: type_of(member) for name, member in sorted(value.items())}
    return {bool: "<bool>", int: "<number>", float: "<number>", str: "<text>"}[type(value)]


def steady(value, name=None):
    if isinstance(value, dict):
        return {key: type_of(member) if key in VOLATILE and not (key == "user" and isinstance(
            member, str)) else steady(member, key) for key, member in sorted(value.items())}
    return [steady(member, name) for member in value] if isinstance(value, list) else value


def steady_reply(command, reply):
    """A reply without what changes from run to run and without an order that means nothing."""
    found = reply.get("return")
    if command == "guest-info" and found:
        found = dict(found, supported_commands=[
            entry["name"] for entry in found["supported_commands"]])
        found["supported_commands"].sort()
    if command in ("guest-get-time", "guest-file-open", "guest-exec") and "return" in reply:
        return {"return": type_of(found)}
    if isinstance(found, list) and command in ORDER:
        found = sorted(found, key=lambda entry: entry[ORDER[command]])
    return steady(dict(reply, **{"return": found}) if "return" in reply else reply)


def ask(channel, command, arguments):
    channel.send(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    line = channel.line(120)
    return json.loads(line[line.rfind(b"\xff") + 1:])


def ended(channel, arguments):
    """The status of a program that has ended, however long it takes."""
    found = []

    def is_over():
        found[:] = [ask(channel, "guest-exec-status", arguments)]
        return found[0].get("return", {"exited": True})["exited"]

    wait_until(is_over, "the program ends", 60)
    return found[0]


def converse(channel):
    """Every request and the steady part of its reply."""
    saved = {}
    for command, arguments in CONVERSATION:
        sent = {name: saved[value[1:]] if isinstance(value, str) and value.startswith("$") else value
                for name, value in arguments.items()}
        if command == "guest-exec-status":
            reply = ended(channel, sent)
        else:
            reply = ask(channel, command, sent)
        for text, name in SAVED.items():
            if "return" in reply and (sent.get("path") == text or text in sent.get("arg", ())
                                      or name == "cat" and sent.get("path") == name):
                saved[name] = reply["return"] if isinstance(reply["return"], int) else \
                    reply["return"]["pid"]
        yield command, arguments, steady_reply(command, reply)


def prepare(vm):
    """The machine as the conversation expects it."""
    vm.shell.run("rm -rf /mnt/ext4/file /home/alice/.ssh /run/utmp; date -s @1800000000 >/dev/null;"
                 "echo 1 >/sys/devices/system/cpu/cpu1/online; "
                 "echo offline >/sys/devices/system/memory/memory32/state; true")


@pytest.fixture
def fresh(vm):
    prepare(vm)
    return vm


def talk(vm, program):
    vm.reset()
    vm.start_agent(program=program)
    with vm.session() as channel:
        return list(converse(channel))


def read_recorded():
    with open(RECORDED, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


REFERENCE_TRIES = 3  # it is not what is tested


@pytest.mark.time_limit(600)
def test_the_classic_agent_answers_as_recorded(fresh):
    if not machine.reference():
        pytest.skip("qemu-ga is not installed")
    directory = os.environ.get("BELLHOP_RECORD_DIR")
    for _ in range(1 if directory else REFERENCE_TRIES):
        prepare(fresh)
        lines = [{"execute": command, "arguments": arguments, "reply": reply}
                 for command, arguments, reply in talk(fresh, "qemu-ga")]
        if directory or lines == read_recorded():
            break
    with fresh.session() as channel:
        version = channel.run("guest-info")["version"]
    if not version.startswith("7.2."):
        pytest.skip(f"these are the replies of 7.2, not of {version}")
    if directory:
        with open(os.path.join(directory, "replies.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    assert lines == read_recorded()


@pytest.mark.time_limit(300)
def test_replies_are_the_classic_agent_s_but_for_known_differences(fresh):
    recorded = read_recorded()
    assert [(line["execute"], line["arguments"]) for line in recorded] == CONVERSATION
    seen, wrong = set(), []
    for number, (command, arguments, reply) in enumerate(talk(fresh, "bellhopd")):
        line = recorded[number]
        if reply == line["reply"]:
            continue
        names = [name for name in DIFFERENCES if name[0] == command and name[1] in str(reply)]
        seen.update(names)
        if not names:
            wrong.append((command, arguments, reply, line["reply"]))
    assert not wrong
    assert seen == set(DIFFERENCES), "a difference that is none any more"


def test_every_difference_has_its_row():
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    for name in set(DIFFERENCES.values()):
        assert f"| {name} |" in page, name


# --- all of them ---------------------------------------------------------------------------------


def test_the_list_is_complete(agent):
    with agent.session() as channel:
        entries = channel.run("guest-info")["supported_commands"]
    names = {entry["name"] for entry in entries}
    assert set(COMMANDS) <= names
    assert {entry["name"] for entry in entries if not entry["enabled"]} == {"guest-get-devices"}


def test_every_command_is_tried():
    """Here, or where it has a machine that may end."""
    elsewhere = {"guest-suspend-ram"}
    assert {command for command, _ in CONVERSATION} | elsewhere >= set(COMMANDS)


def test_suspend_to_ram(vm):
    vm.start_agent()
    with vm.session() as channel:
        channel.send_request("guest-suspend-ram")
        vm.qmp.wait_event("SUSPEND")
        vm.qmp.run("system_wakeup")
        vm.qmp.wait_event("WAKEUP")
        channel.sync(60)
        channel.run("guest-ping")
