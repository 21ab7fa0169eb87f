# SPDX-License-Identifier: MIT
"""A virtual machine with an agent in it.

    with Vm(VmOptions(root_disk=True), "/path/to/bellhopd") as vm:
        vm.start_agent()
        vm.shell.run("dmesg")                # the debug shell, independent of the agent
        with vm.connect() as channel:        # the host's end of the agent's port
            channel.run("guest-ping")
        vm.qmp.run("device_del", id="agent") # the monitor

Everything of a machine lies in one temporary directory, which stop() removes; QEMU dies with the
process that started it, whatever ends that.
"""
import collections
import contextlib
import ctypes
import dataclasses
import fcntl
import glob
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import image
from host import Channel, Qmp, Shell, Timeout, wait_until

PORT_NAME = "org.qemu.guest_agent.0"
PORT_PATH = "/dev/virtio-ports/" + PORT_NAME
AGENT_LOG = "/run/agent.log"
REFERENCE = "/usr/sbin/qemu-ga"

PREFIX = "bellhop-guest-"
ABANDONED_SECONDS = 60

BASE_MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtio_rng", "button")
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr random.trust_cpu=on "
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 rdinit=/init"
)
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

AgentUsage = collections.namedtuple("AgentUsage", "cpu_ticks switches")


@dataclasses.dataclass(frozen=True)
class VmOptions:
    """What kind of machine; the defaults boot fastest."""

    cpus: int = 1
    memory_mb: int = 256
    machine: str = "pc"  # q35 hangs at power-off after a suspend to RAM
    agent_port: bool = True  # plugged in from the start
    port_links: bool = True  # /dev/virtio-ports/NAME, as udev would make it
    udev: bool = False  # the real one makes the links, and everything else it makes
    root_disk: bool = False  # the root is an ext4 disk, not the initramfs
    ext4_disk: bool = False  # virtio disk, its first partition mounted on /mnt/ext4, with discard
    xfs_disk: bool = False  # whole SCSI disk mounted on /mnt/xfs, with discard
    loop: bool = False  # ext4 on a loop device on /mnt/ext4, mounted on /mnt/loop
    bind: bool = False  # /mnt/ext4/sub mounted on /mnt/bind too
    swap: bool = False  # a swap disk, so that suspend to disk works
    memory_module: bool = False  # 128 MiB that can be taken offline
    network: bool = False  # eth0, with nothing behind it
    serial_line: bool = False  # a third serial port, /dev/ttyS2: connect_line() is its host's end
    vsock: bool = False  # vsock sockets over the guest's own loopback (CID 1)
    programs: tuple = ()  # of this machine, copied with their libraries to the same place
    files: tuple = ()  # (path in the guest, content) pairs
    modules: tuple = ()  # kernel modules beyond those that the options above need
    qemu_arguments: tuple = ()
    kernel_arguments: str = ""

    def needed_modules(self):
        modules = list(BASE_MODULES)
        if self.root_disk or self.ext4_disk:
            modules += ["crc32c_generic", "ext4"]
        if self.xfs_disk:
            modules += ["crc32c_generic", "virtio_scsi", "sd_mod", "xfs"]
        if self.loop:
            modules.append("loop")
        if self.network:
            modules.append("virtio_net")
        if self.vsock:
            modules.append("vsock_loopback")
        return [*modules, *self.modules]

    def for_init(self):
        """The options as init.sh reads them."""
        names = "port_links udev root_disk ext4_disk xfs_disk loop bind swap network".split()
        return "".join(f"{name.upper()}={int(getattr(self, name))}\n" for name in names)


def missing():
    """Why no guest can be run here, or None."""
    try:
        for program in ("qemu-system-x86_64", "busybox", "mkfs.ext4"):
            image.find_program(program)
        image.Kernel()
    except image.Missing as reason:
        return str(reason)
    return None


def reference():
    """The path of the classic agent, or None if it is not installed here."""
    path = os.environ.get("BELLHOP_REFERENCE", REFERENCE)
    return path if path and os.access(path, os.X_OK) else None


def start_process(command, log_path, **options):
    """Starts a process that ends with this one, whatever ends that."""
    with open(log_path, "wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            **options,
        )


def lock_directory(path):
    """Locks a machine's directory; returns the descriptor, None if it is locked already."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        return None
    return directory


def remove_abandoned():
    """Removes what is left of machines whose tests were ended by SIGKILL."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), PREFIX + "*")):
        try:
            if time.time() - os.stat(path).st_mtime < ABANDONED_SECONDS:
                continue  # perhaps just made, and not yet locked
            directory = lock_directory(path)
        except OSError:
            continue  # another run's, or gone
        if directory is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(directory)


class Vm:
    def __init__(self, options, agent_program):
        self.options = options
        self.agent_program = os.path.abspath(agent_program) if agent_program else None
        self.directory = None
        self.lock = None  # held as long as the directory is in use
        self.process = None
        self.qmp = None
        self.shell = None
        self.program = None  # that was started last

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception):
        self.stop()

    # The machine

    def start(self, timeout=60):
        """Builds the machine and boots it until its debug shell answers."""
        remove_abandoned()
        self.directory = tempfile.mkdtemp(prefix=PREFIX)
        self.lock = lock_directory(self.directory)
        kernel = image.Kernel()
        self._build(kernel)
        try:
            self._launch(kernel)
            wait_until(self._has_booted, "the guest boots", timeout)
            self.shell = Shell(self._in("shell.sock"))
            self.shell.run("true")
        except (Timeout, OSError, EOFError) as error:
            raise AssertionError(f"no guest: {error}\n{self.report()}") from error

    def _launch(self, kernel):
        self.process = start_process(self._command(kernel), self._in("qemu.log"))
        self.qmp = wait_until(self._connect_qmp, "QEMU starts")

    def stop(self):
        """Ends the machine and removes everything of it. May be called at any time."""
        for connection in (self.shell, self.qmp):
            if connection:
                connection.close()
        self.shell = self.qmp = None
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def is_healthy(self):
        """True if the machine runs and its debug shell answers."""
        if not self.shell or self.process.poll() is not None:
            return False
        try:
            return self.shell.run("echo yes", timeout=10) == "yes\n"
        except (OSError, EOFError, AssertionError, ValueError):
            return False

    def report(self):
        """What there is to see when something went wrong."""
        parts = []
        for path in sorted(glob.glob(self._in("*.log"))) if self.directory else ():
            with open(path, errors="replace", encoding="utf-8") as file:
                parts.append(f"--- {os.path.basename(path)}\n{file.read()[-4000:]}")
        if self.is_healthy():
            parts.append(f"--- agent\n{self.agent_log()[-8000:]}")
        return "\n".join(parts)

    def _in(self, name):
        return os.path.join(self.directory, name)

    def _build(self, kernel):
        options = self.options
        tree = image.base_tree(kernel, options.needed_modules())
        tree.file("etc/guest/options", options.for_init())
        for program in filter(None, (self.agent_program, reference(), *options.programs)):
            tree.program(program)
        if self.agent_program:
            tree.link("/usr/sbin/bellhopd", self.agent_program)
        if options.udev:
            image.add_udev(tree)
        for path, content in options.files:
            tree.file(path, content)
        with open(self._in("initramfs"), "wb") as file:
            tree.write_initramfs(file)
        if options.root_disk:
            tree.file("etc/guest/on-disk", "")
            image.make_root_disk(self._in("root.raw"), tree)
        if options.ext4_disk:
            image.make_ext4_disk(self._in("ext4.raw"), with_loop_image=options.loop)
        if options.xfs_disk:
            image.make_disk(self._in("xfs.raw"), 320, "xfs", "data-xfs")
        if options.swap:
            image.make_disk(self._in("swap.raw"), 2 * options.memory_mb, "swap", "swap")

    def _disk(self, name, device, **properties):
        rest = "".join(f",{key}={value}" for key, value in properties.items())
        drive = f"if=none,id={name},file={self._in(name)}.raw,format=raw,discard=unmap,cache=unsafe"
        return ["-drive", drive, "-device", f"{device},drive={name}{rest}"]

    def _devices(self):
        options = self.options
        arguments = []
        if options.agent_port:
            arguments += ["-device", self._port_device("agent", 1, "agent", PORT_NAME)]
        if options.root_disk:
            arguments += self._disk("root", "virtio-blk-pci", serial="ROOT")
        if options.ext4_disk:
            arguments += self._disk("ext4", "virtio-blk-pci", serial="EXT4")
        if options.swap:
            arguments += self._disk("swap", "virtio-blk-pci", serial="SWAP")
        if options.xfs_disk:
            arguments += ["-device", "virtio-scsi-pci,id=scsi"]
            arguments += self._disk("xfs", "scsi-hd", bus="scsi.0", serial="XFS")
        if options.memory_module:
            arguments += ["-object", "memory-backend-ram,id=module,size=128M"]
            arguments += ["-device", "pc-dimm,memdev=module,id=dimm"]
        if options.serial_line:  # with an interrupt of its own: the console has the usual one
            arguments += ["-chardev", self._socket("line")]
            arguments += ["-device", "isa-serial,chardev=line,index=2,irq=5"]
        if options.network:
            arguments += ["-netdev", "user,id=net,restrict=on"]
            arguments += ["-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56,romfile="]
        return arguments

    @staticmethod
    def _port_device(device_id, number, chardev, name):
        return f"virtserialport,id={device_id},bus=ports.0,nr={number},chardev={chardev},name={name}"

    def _socket(self, name):
        return f"socket,id={name},path={self._in(name)}.sock,server=on,wait=off"

    def _command(self, kernel):
        options = self.options
        accelerator = os.environ.get("BELLHOP_GUEST_ACCEL", "tcg")
        memory = f"{options.memory_mb}"
        if options.memory_module:
            memory += ",slots=2,maxmem=2G"
        # fmt: off
        return [
            image.find_program("qemu-system-x86_64"), "-name", "bellhop-guest",
            "-machine", options.machine, "-accel", accelerator, "-cpu", "max",
            "-smp", str(options.cpus), "-m", memory, "-rtc", "base=utc",
            "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", kernel.image, "-initrd", self._in("initramfs"), "-append", f"{KERNEL_ARGUMENTS} {options.kernel_arguments}",
            "-chardev", f"file,id=console,path={self._in('console.log')}",
            "-serial", "chardev:console",
            "-chardev", self._socket("shell"), "-serial", "chardev:shell",
            "-chardev", self._socket("qmp"), "-mon", "chardev=qmp,mode=control",
            "-chardev", self._socket("agent"), "-chardev", self._socket("agent2"),
            "-device", "virtio-serial-pci,id=ports,max_ports=8",
            "-device", "virtio-rng-pci",
            *self._devices(), *options.qemu_arguments,
        ]
        # fmt: on

    def _check_running(self):
        if self.process.poll() is not None:
            raise Timeout(f"QEMU ended with {self.process.returncode}")

    def _connect_qmp(self):
        """The monitor, or None while nobody listens: a socket is there a moment before that."""
        try:
            return Qmp(self._in("qmp.sock")) if self._socket_is_there("qmp.sock") else None
        except ConnectionRefusedError:
            return None

    def _socket_is_there(self, name):
        self._check_running()
        return os.path.exists(self._in(name))

    def _has_booted(self):
        self._check_running()
        if not os.path.exists(self._in("console.log")):
            return False
        with open(self._in("console.log"), "rb") as file:
            return b"init: ready" in file.read()

    # The agent's port

    def connect(self):
        """Connects to the agent's port as a host does. QEMU takes one connection at a time."""
        return Channel(self._in("agent.sock"))

    def connect_line(self):
        """Connects to the serial line. QEMU takes one connection at a time."""
        return Channel(self._in("line.sock"))

    @contextlib.contextmanager
    def session(self):
        """Connects and syncs, both seen by the guest: nothing meant for an earlier connection comes,
        and nothing is lost to one that the guest takes for away yet."""
        self.wait_host_connected(False)
        with self.connect() as channel:
            self.wait_host_connected(True)
            channel.sync()
            yield channel

    def plug_port(self, name=PORT_NAME):
        self.qmp.run(
            "device_add",
            driver="virtserialport",
            id="agent",
            bus="ports.0",
            nr=1,
            chardev="agent",
            name=name,
        )

    def unplug_port(self):
        self.qmp.run("device_del", id="agent")
        self.qmp.wait_event("DEVICE_DELETED")
        wait_until(lambda: not self.port_node(), "the port vanishes")

    def port_node(self, name=PORT_NAME):
        """The name of the port's device in the guest, such as vport1p1, or ""."""
        found = self.shell.run(
            f"grep -lx {shlex.quote(name)} /sys/class/virtio-ports/*/name 2>/dev/null", check=False
        )[1]
        return found.split("/")[4] if found else ""

    def port_state(self):
        """What the guest's driver knows of the port: name, guest_connected, host_connected, ..."""
        lines = self.shell.run(f"cat /sys/kernel/debug/virtio-ports/{self.port_node()}")
        return dict(line.split(": ", 1) for line in lines.splitlines() if ": " in line)

    def wait_host_connected(self, expected):
        state = "1" if expected else "0"
        wait_until(
            lambda: self.port_state()["host_connected"] == state,
            f"the guest sees the host as {'there' if expected else 'away'}",
        )

    @contextlib.contextmanager
    def port_stays_open(self):
        """Asserts that the guest does not close the port meanwhile, however briefly.

        QEMU sends one VSERPORT_CHANGE a second and keeps only the latest of those that it delays:
        after a second without any the next closing is sent at once.
        """
        quiet = False
        while not quiet:
            try:
                self.qmp.wait_event("VSERPORT_CHANGE", 1.1)
            except Timeout:
                quiet = True
        yield
        assert self.qmp.take_events("VSERPORT_CHANGE") == []

    # The agent

    def start_agent(self, *arguments, program="bellhopd", wait=True, before=()):
        """Starts an agent in the guest; without arguments on its virtio port.

        `program` is bellhopd or qemu-ga, `before` a command that runs it, as its last words. With
        `wait` the call returns once the agent answers.
        """
        self.program = program
        if not arguments:
            arguments = ("-v", "-m", "virtio-serial", "-p", PORT_PATH)
        path = reference() if program == "qemu-ga" else "/usr/sbin/" + program
        command = " ".join(map(shlex.quote, [*before, path, *arguments]))
        self.shell.run(
            "rm -f /run/agent.status\n"
            f"( sh -c 'echo $$ >/run/agent.pid; exec {command}' >{AGENT_LOG} 2>&1 </dev/null\n"
            "echo $? >/run/agent.status ) >/dev/null 2>&1 </dev/null &\n"
        )
        if wait:
            self.wait_agent()

    def wait_agent(self, timeout=20):
        """Waits until the agent answers."""

        def agent_runs():
            status = self.agent_status()
            assert status is None, f"the agent ended with {status}:\n{self.agent_log()}"

        end = time.monotonic() + timeout
        with self.connect() as channel:
            while True:
                try:
                    channel.sync(1, 0.3)
                    return
                except Timeout:
                    agent_runs()
                    if time.monotonic() > end:
                        raise

    def agent_pid(self):
        return int(self.shell.run("cat /run/agent.pid"))

    def agent_status(self):
        """The agent's exit status, None while it runs."""
        status = self.shell.run("cat /run/agent.status 2>/dev/null", check=False)[1]
        return int(status) if status else None

    def wait_agent_exit(self, timeout=15):
        wait_until(lambda: self.agent_status() is not None, "the agent exits", timeout)
        return self.agent_status()

    def agent_log(self):
        """The end of what it logged: the debug shell's line is slow."""
        return self.shell.run(f"tail -c 20000 {AGENT_LOG} 2>/dev/null", check=False)[1]

    def signal_agent(self, name):
        self.shell.run(f"kill -{name} {self.agent_pid()}")

    def agent_usage(self):
        """Processor time (ticks of 10 ms) and voluntary context switches of all its threads."""
        pid = self.agent_pid()
        # the name in stat may hold spaces; utime and stime are the 12th and 13th after it
        lines = self.shell.run(
            f"sed 's/.*) //' /proc/{pid}/stat; grep -h ^voluntary /proc/{pid}/task/*/status"
        ).splitlines()
        fields = lines[0].split()
        switches = sum(int(line.split()[1]) for line in lines[1:])
        return AgentUsage(int(fields[11]) + int(fields[12]), switches)

    def agent_calls(self):
        """How often the agent has called read() and write() and their like."""
        lines = self.shell.run(f"grep ^sysc /proc/{self.agent_pid()}/io").splitlines()
        return sum(int(line.split()[1]) for line in lines)

    def wait_agent_idle(self):
        """Waits until all its threads sleep: what has happened before has been dealt with."""
        pid = self.agent_pid()
        command = f"sed 's/.*) //' /proc/{pid}/task/*/stat"
        wait_until(
            lambda: all(line[0] == "S" for line in self.shell.run(command).splitlines()),
            "the agent sleeps",
        )

    def reset(self):
        """Makes the machine as good as new for the next test: no agent, the port as configured."""
        self.shell.run(
            "killall -q -9 bellhopd qemu-ga; rm -rf /run/agent.* /run/bellhop* /run/qemu-ga*; true"
        )
        wait_until(
            lambda: not self.shell.run("pidof bellhopd qemu-ga", check=False)[1].strip(),
            "the agents are gone",
        )
        if self.options.agent_port and not self.port_node():
            self.plug_port()
            wait_until(self.port_node, "the port is back")
        if self.qmp:
            self.qmp.events.clear()
