# SPDX-License-Identifier: MIT
"""Processors and memory blocks, against lscpu and sysfs. Only what changes nothing: switching
them is for the guest suite."""

import glob
import os
import subprocess

import pytest

MEMORY = "/sys/devices/system/memory"


def read(path):
    with open(path) as file:
        return file.read().strip()


def by(name, entries):
    """The entries by their number, each of which is there once."""
    found = {entry[name]: entry for entry in entries}
    assert len(found) == len(entries)
    return found


# --- processors ----------------------------------------------------------------------------------


def test_vcpus(shared):
    lines = subprocess.run(["lscpu", "--all", "--parse=CPU,ONLINE"], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    online = {int(number): state == "Y"
              for number, state in (line.split(",") for line in lines if line[0] != "#")}
    reply = by("logical-id", shared.cmd("guest-get-vcpus"))
    assert {number: entry["online"] for number, entry in reply.items()} == online
    for number, entry in reply.items():
        assert set(entry) == {"logical-id", "online", "can-offline"}
        assert entry["can-offline"] == os.path.exists(
            "/sys/devices/system/cpu/cpu%d/online" % number)


def test_vcpus_in_order(start_agent):
    numbers = [entry["logical-id"] for entry in start_agent().connect().cmd("guest-get-vcpus")]
    assert numbers == sorted(numbers, reverse=start_agent.differs("order-of-directories"))


def test_set_vcpus_nothing(shared):
    assert shared.cmd("guest-set-vcpus", {"vcpus": []}) == 0


@pytest.mark.parametrize("number", [7777, -1])
def test_set_vcpus_unknown(shared, number):
    reply = shared.request("guest-set-vcpus",
                           {"vcpus": [{"logical-id": number, "online": True}] * 2})
    assert reply["error"] == {
        "class": "GenericError",
        "desc": 'open("/sys/devices/system/cpu/cpu%d/"): No such file or directory' % number}


# what does not fit the protocol, and the reason
WRONG = [
    ({"{ID}": 7777}, "Parameter '{LIST}[0].online' is missing"),
    ({"online": True}, "Parameter '{LIST}[0].{ID}' is missing"),
    (5, "Invalid parameter type for '{LIST}[0]', expected: object"),
    ({"{ID}": "7777", "online": True}, "{WRONG}"),
    ({"{ID}": 7777.5, "online": True}, "{WRONG}"),
    ({"{ID}": None, "online": True}, "{WRONG}"),
    ({"{ID}": 2**64, "online": True}, "{WRONG}"),
    ({"{ID}": 7777, "online": 1}, "Invalid parameter type for '{LIST}[0].online', "
                                  "expected: boolean"),
    ({"{ID}": 7777, "online": True, "can-offline": 0},
     "Invalid parameter type for '{LIST}[0].can-offline', expected: boolean"),
    ({"{ID}": 7777, "online": True, "x": 0}, "Parameter '{LIST}[0].x' is unexpected"),
]


@pytest.mark.parametrize("command, names", [
    ("guest-set-vcpus", {
        "LIST": "vcpus", "ID": "logical-id",
        "WRONG": "Invalid parameter type for 'vcpus[0].logical-id', expected: integer"}),
    ("guest-set-memory-blocks", {
        "LIST": "mem-blks", "ID": "phys-index",
        "WRONG": "Parameter 'mem-blks[0].phys-index' expects uint64"}),
], ids=["vcpus", "mem-blks"])
@pytest.mark.parametrize("row", range(len(WRONG)))
def test_set_what_does_not_fit(shared, command, names, row):
    entry, expected = WRONG[row]
    if isinstance(entry, dict):
        entry = {name.format(**names): value for name, value in entry.items()}
    reply = shared.request(command, {names["LIST"]: [entry]})
    assert reply["error"] == {"class": "GenericError", "desc": expected.format(**names)}
    reply = shared.request(command)
    assert reply["error"]["desc"] == "Parameter '%s' is missing" % names["LIST"]


# --- memory blocks -------------------------------------------------------------------------------


def test_memory_blocks(shared):
    expected = {}
    for path in glob.glob(MEMORY + "/memory[0-9]*"):
        online = read(path + "/state") == "online"
        can_offline = not online or (read(path + "/removable") == "1"
                                     and (shared.agent.differs("blocks-of-several-zones")
                                          or read(path + "/valid_zones") != "none"))
        number = int(path[len(MEMORY + "/memory"):])
        expected[number] = {"phys-index": number, "online": online, "can-offline": can_offline}
    assert by("phys-index", shared.cmd("guest-get-memory-blocks")) == expected


@pytest.mark.bellhop_only("order-of-directories")
def test_memory_blocks_in_order(shared):
    numbers = [entry["phys-index"] for entry in shared.cmd("guest-get-memory-blocks")]
    assert numbers == sorted(numbers)


def test_memory_block_info(shared):
    if not os.path.exists(MEMORY):
        pytest.skip("this machine has no memory blocks")
    assert shared.cmd("guest-get-memory-block-info") == {
        "size": int(read(MEMORY + "/block_size_bytes"), 16)}


def test_set_memory_blocks_nothing(shared):
    assert shared.cmd("guest-set-memory-blocks", {"mem-blks": []}) == []


@pytest.mark.skipif(not os.path.exists(MEMORY), reason="this machine has no memory blocks")
@pytest.mark.parametrize("number", [7777777, 2**64 - 1, -1])
def test_set_memory_blocks_unknown(shared, number):
    response = {"phys-index": number % 2**64, "response": "not-found", "error-code": 2}
    assert shared.cmd("guest-set-memory-blocks", {
        "mem-blks": [{"phys-index": number, "online": False}] * 3}) == [response] * 3
