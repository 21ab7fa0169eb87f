# SPDX-License-Identifier: MIT
"""A machine that a libvirt of its own runs, and virsh to drive its agent as libvirt does.

The daemon runs in session mode as an ordinary user, with every path that it knows inside the
machine's temporary directory, and in a process namespace that ends with it: the system's libvirt,
if there is one, is not touched, and nothing is left behind.
"""
import json
import os
import pwd
import signal
import subprocess
import xml.sax.saxutils

import image
from host import seconds, wait_until
from vm import KERNEL_ARGUMENTS, Vm, start_process

DOMAIN = "bellhop-guest"
USER = "nobody"

# Process 1 of the namespace: a shell reaps what libvirtd and QEMU leave behind, and starts the
# daemon again when it ends.
RUN_DAEMON = "while :; do libvirtd; done"

XML = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory_mb}</memory>
  <vcpu>{cpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{directory}/initramfs</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='maximum'/>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{directory}/console.log'/><target port='0'/></serial>
    <serial type='unix'>
      <source mode='bind' path='{directory}/shell.sock'/><target port='1'/>
    </serial>
    <channel type='unix'>
      <source mode='bind' path='{directory}/agent.sock'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def missing():
    """Why no libvirt can be run here, or None."""
    try:
        for program in ("libvirtd", "virsh", "unshare", "setpriv"):
            image.find_program(program)
    except image.Missing as reason:
        return str(reason)
    if os.geteuid() != 0:
        return "a process namespace of its own needs root"
    return None


class LibvirtVm(Vm):
    """Like Vm, but without its monitor and its own connections to the agent: libvirt has them."""

    def virsh(self, *arguments, check=True, timeout=60):
        """Runs virsh; returns what it printed, or (status, output with errors) without `check`."""
        result = subprocess.run(
            ["virsh", "-q", "-c", "qemu:///session", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds(timeout),
            check=False,
            **self._as_user(),
        )
        if not check:
            return result.returncode, result.stdout
        assert result.returncode == 0, f"virsh {' '.join(arguments)}: {result.stdout}"
        return result.stdout.strip()

    def _launch(self, kernel):
        self._prepare_directory(kernel)
        user = [f"--reuid={self._user().pw_uid}", f"--regid={self._user().pw_gid}"]
        self.process = start_process(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
            + ["setpriv", *user, "--clear-groups", "sh", "-c", RUN_DAEMON],
            self._in("libvirtd.log"),
            env=self._environment(),
        )
        self._wait_daemon()
        self.virsh("create", self._in("domain.xml"))

    def stop(self):
        """Ends process 1 of the namespace, which ends everything in it, before the rest."""
        if self.process:
            for child in _children(self.process.pid):
                os.kill(child, signal.SIGKILL)
            try:
                self.process.wait(seconds(10))
            except subprocess.TimeoutExpired:
                pass  # is killed then
        super().stop()

    def _prepare_directory(self, kernel):
        for name in ("config/libvirt", "runtime", "data", "cache"):
            os.makedirs(self._in(name))
        self._write(
            "config/libvirt/qemu.conf", 'stdio_handler = "file"\nsecurity_driver = "none"\n'
        )
        values = {
            "name": DOMAIN,
            "memory_mb": str(self.options.memory_mb),
            "cpus": str(self.options.cpus),
            "kernel": kernel.image,
            "cmdline": KERNEL_ARGUMENTS,
            "emulator": image.find_program("qemu-system-x86_64"),
            "directory": self.directory,
        }
        escaped = {name: xml.sax.saxutils.escape(value) for name, value in values.items()}
        self._write("domain.xml", XML.format(**escaped))
        for path, _, names in os.walk(self.directory):
            for name in (path, *(os.path.join(path, name) for name in names)):
                os.chown(name, self._user().pw_uid, self._user().pw_gid)

    def _write(self, name, text):
        with open(self._in(name), "w", encoding="utf-8") as file:
            file.write(text)

    @staticmethod
    def _user():
        return pwd.getpwnam(USER)

    def _environment(self):
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "HOME": self.directory,
            "XDG_CONFIG_HOME": self._in("config"),
            "XDG_RUNTIME_DIR": self._in("runtime"),
            "XDG_DATA_HOME": self._in("data"),
            "XDG_CACHE_HOME": self._in("cache"),
        }

    def _wait_daemon(self):
        def answers():
            self._check_running()
            return self.virsh("version", check=False)[0] == 0

        wait_until(answers, "libvirtd answers", 60)

    def restart_libvirt(self):
        """Ends the daemon, as an upgrade does, and has it started again; the machine runs on."""
        (shell,) = _children(self.process.pid)
        daemons = [pid for pid in _children(shell) if _name(pid) == "libvirtd"]
        assert len(daemons) == 1, daemons
        os.kill(daemons[0], signal.SIGTERM)
        wait_until(lambda: daemons[0] not in _children(shell), "libvirtd ends")
        self._wait_daemon()

    # What a host does

    def virsh(self, *arguments, check=True, timeout=60):
        """Runs virsh; returns what it printed, or (status, output with errors) without `check`."""
        result = subprocess.run(
            ["virsh", "-q", "-c", "qemu:///session", *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds(timeout),
            check=False,
            user=self._user().pw_uid,
            group=self._user().pw_gid,
            extra_groups=[],
        )
        if not check:
            return result.returncode, result.stdout
        assert result.returncode == 0, f"virsh {' '.join(arguments)}: {result.stdout}"
        return result.stdout.strip()

    def agent_command(self, command, *options, check=True, **arguments):
        """virsh qemu-agent-command; the reply's return value, or as virsh() without `check`."""
        request = json.dumps({"execute": command, "arguments": arguments})
        output = self.virsh("qemu-agent-command", *options, DOMAIN, request, check=check)
        return json.loads(output)["return"] if check else output

    def channel_state(self):
        """What libvirt knows of the agent's end of the port: connected or disconnected."""
        return self.virsh("dumpxml", DOMAIN, "--xpath", "//channel/target/@state")

    def wait_channel(self, state):
        wait_until(lambda: f"'{state}'" in self.channel_state().replace('"', "'"), f"the agent's channel is {state}")

    def wait_agent(self, timeout=20):
        """Waits until the agent answers."""
        wait_until(
            lambda: self.agent_command("guest-ping", check=False)[0] == 0,
            "the agent answers",
            timeout,
        )


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def _name(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read().strip()
