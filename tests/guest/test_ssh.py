# SPDX-License-Identifier: MIT
"""The keys of an account, in a guest: the machine the tests run on keeps its own."""
import pytest

FILE = "/home/alice/.ssh/authorized_keys"
ONE, TWO, THREE = ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKEY%d k%d" % (n, n) for n in (1, 2, 3))


@pytest.fixture(autouse=True)
def home(vm):
    vm.shell.run("rm -rf /home/alice; mkdir -p /home/alice; chown 1000:1000 /home/alice; "
                 "chmod 755 /home/alice")


def call(channel, action, *keys, username="alice", **arguments):
    if action != "get":
        arguments["keys"] = list(keys)
    return channel.call("guest-ssh-%s-authorized-keys" % action, username=username, **arguments)


def test_add_get_remove(vm, agent):
    with agent.connect() as channel:
        assert call(channel, "add", ONE, TWO) == {"return": {}}
        assert call(channel, "get") == {"return": {"keys": [ONE, TWO]}}
        assert call(channel, "add", TWO, THREE) == {"return": {}}
        assert call(channel, "get") == {"return": {"keys": [ONE, TWO, THREE]}}
        assert call(channel, "remove", TWO, "ssh-rsa none") == {"return": {}}
        assert call(channel, "get") == {"return": {"keys": [ONE, THREE]}}
        assert call(channel, "add", TWO, reset=True) == {"return": {}}
        assert call(channel, "get") == {"return": {"keys": [TWO]}}
    for path, expected in (("/home/alice/.ssh", "700 1000 1000"), (FILE, "600 1000 1000")):
        assert vm.shell.run("stat -c '%%a %%u %%g' %s" % path).strip() == expected


def test_errors_are_those_of_the_classic_agent(agent):
    with agent.connect() as channel:
        for key in ("a\nb", "# c", ""):
            assert call(channel, "add", key)["error"]["desc"] == \
                "invalid OpenSSH public key: '%s'" % key
        assert "failed to lookup user 'nosuch'" in \
            call(channel, "get", username="nosuch")["error"]["desc"]
        assert "failed to read '%s'" % FILE in call(channel, "get")["error"]["desc"]
        assert call(channel, "remove", ONE) == {"return": {}}


def test_symlinks_of_the_account_lead_nowhere(vm, agent):
    """The account owns its home: it must not have the agent write elsewhere for it."""
    vm.shell.run("mkdir -p /root/.ssh; echo root-key >/root/.ssh/authorized_keys")
    vm.shell.run("ln -s /root/.ssh /home/alice/.ssh")
    with agent.connect() as channel:
        assert "error" in call(channel, "add", ONE)
        assert "error" in call(channel, "get")
        vm.shell.run("rm /home/alice/.ssh; mkdir -m 700 /home/alice/.ssh; "
                     "chown 1000:1000 /home/alice/.ssh; "
                     "ln -s /root/.ssh/authorized_keys %s" % FILE)
        assert "error" in call(channel, "get")
        assert "error" in call(channel, "remove", "root-key")
    assert vm.shell.run("cat /root/.ssh/authorized_keys").strip() == "root-key"


def test_the_account_s_own_credentials_are_used(vm, agent):
    """A home that the account may not write into is not written into."""
    vm.shell.run("chown 0:0 /home/alice")
    with agent.connect() as channel:
        assert "Permission denied" in call(channel, "add", ONE)["error"]["desc"]


def test_a_full_disk_loses_nothing(vm, agent):
    vm.shell.run("mount -t tmpfs -o size=64k,uid=1000,gid=1000,mode=755 tmpfs /home/alice")
    try:
        with agent.connect() as channel:
            assert call(channel, "add", ONE) == {"return": {}}
            vm.shell.run("dd if=/dev/zero of=/home/alice/fill bs=4k 2>/dev/null; true")
            before = vm.shell.run("ls -lA /home/alice/.ssh")
            for action, key in (("add", TWO), ("remove", ONE + "x")):
                reply = call(channel, action, key)
                assert action == "remove" or "No space left on device" in reply["error"]["desc"]
            assert vm.shell.run("ls -lA /home/alice/.ssh") == before
            assert call(channel, "get") == {"return": {"keys": [ONE]}}
            vm.shell.run("rm /home/alice/fill")
            assert call(channel, "add", TWO) == {"return": {}}
            assert call(channel, "get") == {"return": {"keys": [ONE, TWO]}}
    finally:
        vm.shell.run("umount /home/alice")
