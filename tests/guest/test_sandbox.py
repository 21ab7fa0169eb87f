# SPDX-License-Identifier: MIT
"""The sandbox as the kernel has it, against the tables of docs/security.md."""
import itertools
import os
import re

import pytest

from vm import PORT_PATH, VmOptions

TRIAL = os.environ.get("BELLHOPD_TRIAL")

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
USER = 990
PROFILES = ("full", "backup", "provision", "monitor")


def _read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


ACCOUNTS = (
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
                    "alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
                    f"bellhop:x:{USER}:{USER}::/:/usr/sbin/nologin\n"),
    ("/etc/group", f"root:x:0:\nshadow:x:42:\nalice:x:1000:\nbellhop:x:{USER}:\n"),
)
VM_OPTIONS = VmOptions(ext4_disk=True, network=True, files=ACCOUNTS,
                       programs=(TRIAL,) if TRIAL else ())

# What `monitor` and `full` are asked in turn, for the same answers. What changes by itself is
# compared by its members' names.
SAME = (
    "guest-get-host-name", "guest-get-osinfo", "guest-get-timezone", "guest-get-users",
    "guest-get-vcpus", "guest-get-memory-block-info", "guest-get-memory-blocks",
    "guest-get-fsinfo", "guest-get-disks", "guest-network-get-route", "guest-ping",
)
SIMILAR = (
    "guest-get-time", "guest-get-load", "guest-get-cpustats", "guest-get-diskstats",
    "guest-network-get-interfaces",
)


def table(title):
    """The rows of the table below a heading of the page, as dicts by the heads of its columns."""
    text = _read("docs", "security.md").split(f"\n### {title}\n")[1]
    lines = [line for line in text.split("\n#")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
             for line in lines]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def numbers():
    """The kernel's number of each capability."""
    with open("/usr/include/linux/capability.h", encoding="utf-8") as file:
        return {name.lower(): int(number) for name, number in
                re.findall(r"#define (CAP_[A-Z_]+)\s+(\d+)\b", file.read())}


def mask(names):
    return sum(1 << numbers()[name] for name in names.split() if name != "none")


def start(vm, profile, *arguments):
    vm.start_agent("-v", "-m", "virtio-serial", "-p", PORT_PATH, "-r", "--profile", profile,
                   *arguments)


def statuses(vm, pid):
    """/proc/PID/task/*/status of all threads, as dicts."""
    text = vm.shell.run(f"for i in /proc/{pid}/task/*; do echo Next:; cat $i/status; done")
    return [dict(re.findall(r"^(\w+):\s*(.*)$", part, re.M))
            for part in text.split("Next:")[1:]]


def broker_pid(vm):
    children = vm.shell.run(f"cat /proc/{vm.agent_pid()}/task/*/children").split()
    assert len(children) == 1
    return int(children[0])


def expected_of(process, profile):
    rows = [row for row in table("The processes")
            if row["process"] == process and row["profile"] == profile]
    assert len(rows) == 1
    return rows[0]


def check_status(status, expected, everything):
    user = 0 if expected["user"] == "root" else USER
    assert status["Uid"].split() == [str(user)] * 4
    assert status["Gid"].split() == [str(user)] * 4
    if user:
        assert "0" not in status["Groups"].split()
    kept = everything if expected["permitted, bounding"] == "all" else \
        mask(expected["permitted, bounding"])
    effective = {"none": 0, "the same": kept}[expected["effective"]]
    sets = {name: int(status[name], 16) for name in
            ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert sets == {"CapInh": 0, "CapPrm": kept, "CapEff": effective, "CapBnd": kept, "CapAmb": 0}
    assert status["NoNewPrivs"] == {"yes": "1", "no": "0"}[expected["no_new_privs"]]
    assert status["Seccomp"] == {"yes": "2", "no": "0"}[expected["seccomp"]]


def landlock_lacks(vm):
    """What an agent under Landlock says of the guest's kernel."""
    release = tuple(map(int, re.match(r"(\d+)\.(\d+)", vm.shell.run("uname -r")).groups()))
    if release < (5, 13):
        return {"agent: Landlock: the kernel has no Landlock or does not enable it (lsm=), or it was "
                "not built in"}
    if release < (6, 2):
        return {"agent: Landlock: the kernel's Landlock does not cover truncate(2) and ioctl(2)"}
    if release < (6, 10):
        return {"agent: Landlock: the kernel's Landlock does not cover ioctl(2) on devices"}
    return set()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_thread_is_as_documented(vm, profile):
    everything = int(statuses(vm, 1)[0]["CapBnd"], 16)
    start(vm, profile)
    with vm.session() as channel:
        for _ in range(3):
            channel.run("guest-get-osinfo")  # on a worker
    threads = statuses(vm, vm.agent_pid())
    assert len(threads) > 2
    for status in threads:
        check_status(status, expected_of("agent", profile), everything)
    for status in statuses(vm, broker_pid(vm)):
        check_status(status, expected_of("broker", profile), everything)
    expected = set() if profile == "full" else landlock_lacks(vm)
    assert set(re.findall(r"not in force: (.*)", vm.agent_log())) == expected


def shape(value):
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def ask(vm, profile):
    start(vm, profile)
    with vm.session() as channel:
        replies = {name: channel.run(name) for name in SAME}
        replies.update({name: shape(channel.run(name)) for name in SIMILAR})
    vm.signal_agent("TERM")
    vm.wait_agent_exit()
    vm.reset()
    return replies


def without_usage(replies):
    """How full a file system is may change from one to the other, and who uses a route."""
    for filesystem in replies["guest-get-fsinfo"]:
        filesystem.pop("used-bytes", None)
    for route in replies["guest-network-get-route"]:
        route.pop("refcnt", None)
        route.pop("use", None)
    return replies


def differing(one, other):
    return {name: (one[name], other[name]) for name in one if one[name] != other[name]}


def test_monitor_says_what_root_says(vm):
    as_root = without_usage(ask(vm, "full"))
    for _ in range(5):  # IPv6 takes some seconds to have all its addresses and routes
        as_nobody = without_usage(ask(vm, "monitor"))
        if not differing(as_root, as_nobody):
            break
        as_root = without_usage(ask(vm, "full"))
        if not differing(as_root, as_nobody):
            break
    assert differing(as_root, as_nobody) == {}


def test_monitor_has_every_command_of_its_list(vm):
    """So that one that is added is compared, too."""
    start(vm, "monitor")
    with vm.session() as channel:
        info = channel.run("guest-info")
    enabled = {row["name"] for row in info["supported_commands"] if row["enabled"]}
    asked_elsewhere = {"guest-info", "guest-sync", "guest-sync-delimited", "bellhop-job-list",
                       "bellhop-job-status", "guest-fsfreeze-status"}
    assert enabled - asked_elsewhere <= {*SAME, *SIMILAR}


def test_port_that_comes_back(fresh_vm):
    """The packaged rule gives its new device to the agent's group."""
    rules = (("/lib/udev/rules.d/99-bellhop.rules", _read("packaging", "99-bellhop.rules")),)
    vm = fresh_vm(udev=True, files=ACCOUNTS + rules)
    start(vm, "monitor")
    vm.unplug_port()
    vm.plug_port()
    vm.wait_agent()
    with vm.session() as channel:
        channel.run("guest-get-osinfo")


def test_backup_trims(vm):
    start(vm, "backup")
    with vm.session() as channel:
        paths = channel.run("guest-fstrim", timeout=60)["paths"]
    found = next(path for path in paths if path["path"] == "/mnt/ext4")
    assert "error" not in found and found["trimmed"] > 0


PROBES = itertools.count()


def is_frozen(vm, path):
    """Asked without being held up: whoever writes to what is frozen waits, and cannot be killed."""
    probe = f"{path}/probe{next(PROBES)}"
    return vm.shell.run(
        f"( touch {probe} </dev/null >/dev/null 2>&1 & )\n"
        f"for i in 1 2 3 4 5 6 7 8 9 10; do [ -e {probe} ] && exit 0; usleep 100000; done; exit 1",
        check=False)[0] != 0


def test_backup_freezes_and_thaws(vm):
    """A mount in a folder of alice's, too, which the agent may not look into."""
    vm.shell.run("umount /mnt/ext4; mkdir -p /home/alice/private/mount; "
                 "chown -R 1000:1000 /home/alice; chmod 700 /home/alice/private; "
                 "mount -t ext4 /dev/vda1 /home/alice/private/mount")
    try:
        start(vm, "backup")
        with vm.session() as channel:
            assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
            assert channel.run("guest-fsfreeze-status") == "frozen"
            assert is_frozen(vm, "/home/alice/private/mount")
            assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
            assert channel.run("guest-fsfreeze-status") == "thawed"
            assert not is_frozen(vm, "/home/alice/private/mount")
    finally:
        vm.shell.run("umount /home/alice/private/mount; mount -t ext4 /dev/vda1 /mnt/ext4")


@pytest.mark.parametrize("profile", ("full", "backup"))
def test_memory_is_locked_while_frozen(vm, profile):
    """What the agent needs for the thaw is not read from a disk that waits for it."""
    def locked_kb():
        return int(statuses(vm, vm.agent_pid())[0]["VmLck"].split()[0])

    start(vm, profile)
    with vm.session() as channel:
        assert locked_kb() == 0
        assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
        locked, resident = (int(statuses(vm, vm.agent_pid())[0][name].split()[0])
                            for name in ("VmLck", "VmRSS"))
        print(f"{profile}: {locked} kB locked, {resident} kB resident")
        assert locked > 1000
        assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
        assert locked_kb() == 0


def test_backup_thaws_at_its_end_what_another_agent_froze(vm):
    """The loop does that, which has no privilege in force, and the guard is gone, too."""
    start(vm, "backup")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
    vm.shell.run("kill -9 $(grep -l bellhop-guard /proc/[0-9]*/comm | cut -d/ -f3)")
    vm.signal_agent("KILL")
    vm.wait_agent_exit()
    start(vm, "backup")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-status") == "frozen"
    vm.signal_agent("TERM")
    vm.wait_agent_exit()
    assert not is_frozen(vm, "/mnt/ext4")


def test_backups_guard_outlives_the_agent(vm):
    """It is the agent's user, so that the next agent finds it, and nobody else is heard."""
    start(vm, "backup")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-freeze", timeout=30) == 1
    guard = vm.shell.run("grep -l bellhop-guard /proc/[0-9]*/comm | cut -d/ -f3").split()
    assert len(guard) == 1
    status = statuses(vm, guard[0])[0]
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == mask("cap_sys_admin cap_ipc_lock")
    vm.signal_agent("KILL")
    vm.wait_agent_exit()
    start(vm, "backup")
    with vm.session() as channel:
        assert channel.run("guest-fsfreeze-status") == "frozen"
        assert channel.run("guest-fsfreeze-thaw", timeout=30) == 1
    assert not is_frozen(vm, "/mnt/ext4")


def test_the_user_has_to_be_there(vm):
    start(vm, "monitor", "--set", "policy.user=nosuch")
    assert "not in force: agent: user: there is no user 'nosuch'" in vm.agent_log()


def test_strict(vm):
    vm.start_agent("-m", "virtio-serial", "-p", PORT_PATH, "--profile", "monitor",
                   "--set", "policy.user=nosuch", "--set", "policy.strict=true", wait=False)
    assert vm.wait_agent_exit() == 1
    assert "policy.strict" in vm.agent_log()


def test_restart_as_another_user(vm):
    """A `monitor` after a root, and the other way round: each keeps its state for itself."""
    for profile in ("full", "monitor", "provision", "full"):
        start(vm, profile)
        assert "will not be found by the next agent" not in vm.agent_log()
        assert "may be used again" not in vm.agent_log()
        vm.signal_agent("TERM")
        vm.wait_agent_exit()


# What an attacker in a worker tries, and where it may succeed: with what the process has kept.
ATTEMPTS = {
    "read-shadow": "full", "read-home": "full", "create-in-etc": "full", "create-in-tmp": "full",
    "read-tmp": "full", "disk": "full", "memory": "full", "sysctl": "full", "power-state": "full",
    "environment-of-init": "full", "memory-of-parent": "full", "signal": "full", "reboot": "full",
    "clock": "full provision",
    "make-device": "", "trace": "", "peek": "", "execute": "", "become-root": "",
    "become-alice": "", "all-capabilities": "", "mount": "", "namespace": "", "module": "",
    "host-name": "", "key": "", "bpf": "", "io-ring": "", "raw-socket": "", "low-port": "",
    "change-owner": "", "new-privileges": "",
}
# What everybody may do, so that it is Landlock alone that refuses it.
FOR_EVERYBODY = ("read-tmp", "create-in-tmp")


@pytest.fixture
def trial(vm):
    """A machine with an agent in it that has an attacker in it, as /usr/sbin/bellhopd-trial."""
    if not TRIAL:
        pytest.skip("BELLHOPD_TRIAL names no program")
    vm.shell.run(
        f"ln -sf {TRIAL} /usr/sbin/bellhopd-trial; mkdir -p /home/alice /tmp; "
        "echo secret >/home/alice/secret; chown -R 1000:1000 /home/alice; chmod 700 /home/alice; "
        "chmod 1777 /tmp; "
        "rm -rf /tmp/* /etc/trial; echo x >/tmp/for-all; chmod 644 /tmp/for-all")
    yield vm
    vm.shell.run("killall -q -9 bellhopd-trial in-trial; rm -rf /tmp/* /etc/trial; "
                 "grep -q ' /mnt tmpfs' /proc/mounts && umount /mnt; true")


def attempt(channel, name):
    return channel.run("guest-get-timezone", attempt=name)["errno"]


def test_attempts_succeed_without_a_sandbox(trial):
    """The control: as root they are all possible, so that a failure means something."""
    results = trial.shell.run("".join(
        f"TRIAL_ATTEMPT={name} bellhopd-trial; echo {name} $?; umount /mnt 2>/dev/null; true\n"
        for name in ATTEMPTS))
    failed = [line for line in results.splitlines() if not line.endswith(" 0")]
    assert failed == []


def test_what_landlock_alone_refuses(trial):
    """The same for the agent's user: no permission is in the way of these."""
    for name in FOR_EVERYBODY:
        assert trial.shell.run(f"TRIAL_ATTEMPT={name} su -s /bin/sh bellhop -c "
                               "'id -u; bellhopd-trial; echo $?'").split() == [str(USER), "0"]
        assert all(profile == "full" for profile in ATTEMPTS[name].split())


RULES = """[files shared]
path = /tmp
access = %s
profiles = provision
"""


@pytest.mark.parametrize("access, possible", [("read", {"read-tmp"}),
                                              ("read, write, create", {"read-tmp", "create-in-tmp"})])
def test_landlock_follows_the_rules_for_files(trial, access, possible):
    """What a rule has is possible for an attacker, too, and nothing else that was not before."""
    trial.shell.run(f"mkdir -p /etc/bellhop/policy.d; "
                    f"printf '{RULES % access}' >/etc/bellhop/policy.d/files.conf")
    try:
        trial.start_agent("-m", "virtio-serial", "-p", PORT_PATH, "--profile", "provision",
                          program="bellhopd-trial")
        with trial.session() as channel:
            succeeded = {name for name in ATTEMPTS if attempt(channel, name) == 0}
            reply = channel.call("guest-file-open", path="/tmp/made", mode="w")
            assert ("return" in reply) == ("create" in access), reply
            handle = channel.run("guest-file-open", path="/tmp/for-all", mode="r")
            assert channel.run("guest-file-read", handle=handle)["count"] == 2
            # Of the agent's user: another one's is not to be had by a rule.
            trial.shell.run("echo x >/tmp/of-root; chmod 600 /tmp/of-root")
            reply = channel.call("guest-file-open", path="/tmp/of-root", mode="r")
            assert "Permission denied" in reply["error"]["desc"]
            reply = channel.call("guest-file-open", path="/etc/passwd", mode="r")
            assert "no [files] rule" in reply["error"]["desc"]
        if "create" in access:
            assert trial.shell.run("stat -c %u /tmp/made").strip() == str(USER)
    finally:
        trial.shell.run("rm -r /etc/bellhop/policy.d")
    assert succeeded == {name for name, profiles in ATTEMPTS.items()
                         if "provision" in profiles.split()} | possible


@pytest.mark.parametrize("profile", PROFILES)
def test_attempts_of_a_worker(trial, profile):
    trial.start_agent("-m", "virtio-serial", "-p", PORT_PATH, "--profile", profile,
                      program="bellhopd-trial")
    with trial.session() as channel:
        succeeded = {name for name in ATTEMPTS if attempt(channel, name) == 0}
        assert attempt(channel, "nonsense") == -1
        channel.run("guest-ping")
    assert succeeded == {name for name, profiles in ATTEMPTS.items() if profile in profiles.split()}
