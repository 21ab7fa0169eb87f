# SPDX-License-Identifier: MIT
"""Programs and their agent's service: bellhop's own unit under a real service manager, restarted,
updated and killed; and a unit that ends all of its processes."""
import base64
import os

import pytest

from host import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
UNIT = os.path.join(HERE, "..", "..", "packaging", "bellhop.service.in")
PROGRAMS = ("/lib/systemd/systemd", "/bin/systemctl")
UNITS = "/root/.config/systemd/user/"
SYSTEMCTL = "XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_PAGER= SYSTEMD_COLORS=0 systemctl --no-pager --user"


# What a unit says of its processes' lives. What it says of devices needs the real udev, and what it
# takes away from them is tested elsewhere.
KEYS = ("Type", "Environment", "EnvironmentFile", "ExecStart", "Restart", "RestartSec", "KillMode",
        "RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve")


def service():
    with open(UNIT, encoding="utf-8") as file:
        text = file.read().replace("@sbindir@", "/usr/sbin").splitlines()
    kept = [line for line in text if line.split("=")[0] in KEYS]
    return "\n".join(["[Unit]", "StartLimitIntervalSec=0", "[Service]", *kept, ""])


@pytest.fixture
def managed(fresh_vm):
    """A guest with systemd in it, as a user's manager, for its process 1 is another."""
    if not all(os.access(path, os.X_OK) for path in PROGRAMS):
        pytest.skip("systemd is not installed")
    own = service()
    assert "KillMode=process\n" in own
    target = "[Unit]\nDefaultDependencies=no\n"
    files = [(UNITS + "bellhop.service", own),
             (UNITS + "classic.service", own.replace("KillMode=process\n", "")),
             *((UNITS + name + ".target", target) for name in ("default", "basic", "shutdown", "exit"))]
    vm = fresh_vm(memory_mb=512, programs=PROGRAMS, files=tuple(files))
    vm.shell.run(
        "mkdir -p /sys/fs/cgroup /run/user/0 /run/systemd/system; chmod 700 /run/user/0\n"
        "mount -t cgroup2 none /sys/fs/cgroup; mkdir /sys/fs/cgroup/manager\n"
        "echo 0123456789abcdef0123456789abcdef >/etc/machine-id\n"
        "( echo $$ >/sys/fs/cgroup/manager/cgroup.procs\n"
        "export XDG_RUNTIME_DIR=/run/user/0; exec /lib/systemd/systemd --user --log-target=console"
        " >/run/agent.log 2>&1 </dev/null ) >/dev/null 2>&1 &\n")
    wait_until(lambda: vm.shell.run(SYSTEMCTL + " is-active basic.target", check=False)[0] in (0, 3),
               "the service manager answers", 60)
    return vm


def main_pid(vm, unit):
    return int(vm.shell.run(f"{SYSTEMCTL} show --property=MainPID --value {unit}", timeout=60))


def start_program(channel, script):
    return channel.run("guest-exec", path="/bin/sh", arg=["-c", script], capture_output=True)["pid"]


def lines(channel, pid):
    reply = channel.run("bellhop-job-output", pid=pid)
    return base64.b64decode(reply["buf-b64"]).decode().split()


def restart(vm):
    vm.shell.run(SYSTEMCTL + " restart bellhop", timeout=60)


def update(vm):
    vm.shell.run("cp $(readlink -f /usr/sbin/bellhopd) /usr/sbin/bellhopd.new;"
                 "echo newer >>/usr/sbin/bellhopd.new; mv /usr/sbin/bellhopd.new /usr/sbin/bellhopd")
    restart(vm)


def kill(vm):
    vm.shell.run(f"kill -KILL {main_pid(vm, 'bellhop')}")


@pytest.mark.time_limit(240)
def test_own_unit(managed):
    """A program writes a line whenever it is told to, whatever becomes of its agent."""
    vm = managed
    vm.shell.run("mkfifo /run/gate; " + SYSTEMCTL + " start bellhop", timeout=60)
    vm.wait_agent()
    with vm.session() as channel:
        pid = start_program(channel, "echo begun; while read x; do echo $x; done <>/run/gate")
        job = channel.run("bellhop-job-status", pid=pid)
        wait_until(lambda: lines(channel, pid) == ["begun"], "its first line")
    expected = ["begun"]
    for event in (restart, update, kill):
        before = main_pid(vm, "bellhop")
        event(vm)
        wait_until(lambda: main_pid(vm, "bellhop") not in (0, before), "another agent", 30)
        vm.wait_agent()
        expected.append(event.__name__)
        vm.shell.run(f"echo {event.__name__} >/run/gate")
        with vm.session() as channel:
            wait_until(lambda: lines(channel, pid) == expected, "what it wrote")
            found = channel.run("bellhop-job-status", pid=pid)
            assert (found["id"], found["state"]) == (job["id"], "running")
            assert found["started-ms"] == job["started-ms"]
    with vm.session() as channel:
        channel.run("bellhop-job-cancel", id=job["id"])
        wait_until(lambda: channel.run("guest-exec-status", pid=pid)["exited"], "its end")


@pytest.mark.time_limit(240)
def test_classic_unit(managed):
    """All of the unit's processes are ended. The documentation says so."""
    vm = managed
    vm.shell.run(SYSTEMCTL + " start classic", timeout=60)
    vm.wait_agent()
    with vm.session() as channel:
        pid = start_program(channel, "echo begun; sleep 1000")
        wait_until(lambda: lines(channel, pid) == ["begun"], "its first line")
    vm.shell.run(SYSTEMCTL + " restart classic", timeout=60)
    vm.wait_agent()
    assert vm.shell.run(f"kill -0 {pid}", check=False)[0] != 0
    with vm.session() as channel:
        reply = channel.call("bellhop-job-status", pid=pid)
        assert "There is no job" in reply["error"]["desc"]
