# SPDX-License-Identifier: MIT
"""An agent in a container that reports on the guest around it (--root)."""
import pytest

from vm import PORT_PATH, VmOptions

VM_OPTIONS = VmOptions(ext4_disk=True, bind=True, modules=("loop",))
CONTAINER = "/run/container"
REPORTS = """guest-get-fsinfo guest-get-disks guest-get-vcpus guest-get-memory-blocks
    guest-get-osinfo guest-get-host-name guest-get-users guest-get-timezone""".split()


@pytest.fixture
def container(vm):
    """A root of its own in a mount namespace of its own; the guest's is on /host, and what is mounted
    in the guest later appears there, too."""
    vm.shell.run("echo guest >/etc/hostname")
    command = f"""
mount --make-rshared /
mkdir -p {CONTAINER}
cat >/run/enter <<'END'
mount -t tmpfs container {CONTAINER}
cd {CONTAINER}
mkdir host proc sys dev etc bin sbin lib lib64 usr run
echo 'ID=container' >etc/os-release
echo container >etc/hostname
for directory in bin sbin lib lib64 usr; do
    [ -d /$directory ] && mount --bind /$directory $directory
done
cp -L /usr/sbin/bellhopd run/bellhopd
mount -o rbind / host
mount -o bind /proc proc
exec chroot . /run/bellhopd -v --root /host -m virtio-serial -p /host{PORT_PATH}
END
"""
    vm.shell.run(command)
    vm.program = "bellhopd"
    vm.shell.run("( sh -c 'echo $$ >/run/agent.pid; exec unshare -m --propagation slave sh /run/enter'"
                 " >/run/agent.log 2>&1 </dev/null; echo $? >/run/agent.status )"
                 " >/dev/null 2>&1 </dev/null &\n")
    vm.wait_agent()
    yield vm
    vm.shell.run("umount /mnt/late 2>/dev/null; true")


def steady(reply):
    if isinstance(reply, list):
        return [steady(entry) for entry in reply]
    return {name: value for name, value in reply.items() if name not in ("used-bytes", "total-bytes")}


def ask_all(vm):
    with vm.session() as channel:
        return {name: steady(channel.run(name)) for name in REPORTS}


def test_it_reports_on_the_guest(container):
    inside = ask_all(container)
    with container.session() as channel:
        entry, = channel.run("guest-get-fsinfo")
        assert entry["used-bytes"] > 0 and entry["total-bytes"] > entry["used-bytes"]
        assert channel.run("guest-network-get-interfaces")
        handle = channel.run("guest-file-open", path="/mnt/ext4/hello.txt")
        assert channel.run("guest-file-read", handle=handle)["count"] == 6
        error = channel.call("guest-shutdown")["error"]["desc"]
        assert "has been disabled: the agent only looks at the guest (--root)" in error
    container.shell.run("dd if=/dev/zero of=/mnt/ext4/late bs=1M count=8 2>/dev/null; "
                        "mke2fs -F /mnt/ext4/late >/dev/null 2>&1; mkdir -p /mnt/late; "
                        "mount -t ext4 -o loop /mnt/ext4/late /mnt/late")
    with container.session() as channel:
        late = channel.run("guest-get-fsinfo")[0]
    assert (late["mountpoint"], late["used-bytes"] > 0) == ("/mnt/late", True)
    assert [disk["dev"] for disk in late["disk"]] == ["/dev/vda1"]
    container.shell.run("umount /mnt/late")
    container.reset()
    container.start_agent()
    assert ask_all(container) == inside
