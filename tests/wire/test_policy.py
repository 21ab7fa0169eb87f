# SPDX-License-Identifier: MIT
"""The policy over the wire: profiles, rules for files with each way around them, peers, the audit,
and what is refused at the start."""

import base64
import contextlib
import json
import os
import random
import re
import socket
import stat
import subprocess
import threading

import pytest

from agent import Agent, AgentError, ChannelClosed, seconds, wait_for_listener, wait_until

pytestmark = pytest.mark.bellhop_only("policy")

PAGE = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "policy.md")
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TWO_CHANNELS = """
[channel other]
method = unix-listen
path = DIRECTORY/other
profile = %s
"""


def documented():
    """{command: set of profiles} of docs/policy.md."""
    lists = {}
    with open(PAGE) as page:
        for line in page:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == 4 and re.match(r"(guest|bellhop)-[a-z-]+$", cells[0]):
                lists[cells[0]] = {name for name, cell in zip(("backup", "provision", "monitor"),
                                                              cells[1:]) if cell == "yes"}
    assert len(lists) > 40
    return lists


def enabled(channel):
    return {command["name"]: command["enabled"]
            for command in channel.cmd("guest-info")["supported_commands"]}


def refusal(channel, command, arguments=None):
    with pytest.raises(AgentError) as caught:
        channel.cmd(command, arguments)
    return caught.value


# --- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["backup", "provision", "monitor"])
def test_a_profile_has_what_the_page_says(start_agent, profile):
    agent = start_agent(args=["--profile", profile])
    channel = agent.connect()
    lists = documented()
    for name, is_enabled in enabled(channel).items():
        assert is_enabled == (profile in lists[name]), name
        if not is_enabled and lists[name] != {"unsupported"} and name != "guest-get-devices":
            error = refusal(channel, name)
            assert error.error_class == "CommandNotFound"
            assert error.desc == ("Command %s has been disabled: the profile %s does not have it"
                                  % (name, profile))


def test_full_has_everything(channel):
    assert [name for name, is_enabled in enabled(channel).items() if not is_enabled] == [
        "guest-get-devices"]


def test_lists_are_as_they_were(start_agent):
    channel = start_agent(args=["-b", "guest-get-load"]).connect()
    assert not enabled(channel)["guest-get-load"]
    error = refusal(channel, "guest-get-load")
    assert (error.error_class, error.desc) == (
        "CommandNotFound", "Command guest-get-load has been disabled")


def test_lists_and_profile(start_agent):
    channel = start_agent(args=["-b", "guest-get-load", "--profile", "monitor"]).connect()
    commands = enabled(channel)
    assert not commands["guest-get-load"] and commands["guest-get-osinfo"]
    assert refusal(channel, "guest-get-load").desc == "Command guest-get-load has been disabled"


def test_each_channel_has_its_own(start_agent):
    agent = start_agent(config=TWO_CHANNELS % "monitor")
    full = agent.connect()
    monitor = agent.connect(path=os.path.join(agent.directory, "other"))
    assert enabled(full)["guest-exec"] and not enabled(monitor)["guest-exec"]
    assert enabled(monitor)["guest-get-osinfo"]
    handle = full.open_file(agent.file("x", b"text"))
    error = refusal(monitor, "guest-file-read", {"handle": handle})
    assert error.error_class == "CommandNotFound"
    assert full.read_file(handle)[0] == b"text"


FILE_COMMANDS = {"guest-file-" + name for name in ("open", "close", "read", "write", "seek", "flush")}


@pytest.mark.parametrize("profile", ["backup", "provision"])
def test_a_rule_for_files_names_a_profile(start_agent, tmp_path, profile):
    """That profile then opens files, and only what rules that are for it allow."""
    other = "provision" if profile == "backup" else "backup"
    (tmp_path / "in" / "keys").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    config = ("[files in]\npath = PLACE/in\naccess = read, write, create\nprofiles = %s\n"
              "[files keys]\npath = PLACE/in/keys\naccess = none\n"
              "[files other]\npath = PLACE/other\naccess = read\nprofiles = %s\n" % (profile, other))
    agent = start_agent(args=["--profile", profile, "--set", "policy.user=no-such-user"],
                        config=config.replace("PLACE", str(tmp_path)))
    channel = agent.connect()
    assert {name for name, is_enabled in enabled(channel).items()
            if is_enabled and name.startswith("guest-file-")} == FILE_COMMANDS
    handle = channel.open_file(str(tmp_path / "in" / "new"), "w+")
    assert channel.write_file(handle, b"text") == 4
    channel.cmd("guest-file-flush", {"handle": handle})
    channel.cmd("guest-file-seek", {"handle": handle, "offset": 0, "whence": 0})
    assert channel.read_file(handle)[0] == b"text"
    channel.cmd("guest-file-close", {"handle": handle})
    for name in ("in/keys/x", "other/x", "x"):
        (tmp_path / name).write_bytes(b"")
        error = refusal(channel, "guest-file-open", {"path": str(tmp_path / name)})
        assert "rule" in error.desc, name


def test_a_rule_for_files_that_names_no_profile(start_agent):
    """It is for those that open files, which is `full` alone."""
    for profile in ("backup", "provision", "monitor"):
        channel = start_agent(args=["--profile", profile, "--set", "policy.user=no-such-user"],
                              config="[files in]\npath = /\naccess = read\n").connect()
        assert not enabled(channel)["guest-file-open"]


def test_programs_of_another_profile_are_unknown(start_agent):
    agent = start_agent(config=TWO_CHANNELS % "provision")
    full = agent.connect()
    provision = agent.connect(path=os.path.join(agent.directory, "other"))
    pid = full.cmd("guest-exec", {"path": "/bin/true"})["pid"]
    assert refusal(provision, "guest-exec-status", {"pid": pid}).desc == "Invalid parameter 'pid'"
    wait_until(lambda: full.cmd("guest-exec-status", {"pid": pid})["exited"], 10)


def test_jobs_of_another_profile_are_unknown(start_agent):
    agent = start_agent(config=TWO_CHANNELS % "provision")
    full = agent.connect()
    other = agent.connect(path=os.path.join(agent.directory, "other"))
    pid = full.cmd("guest-exec", {"path": "/bin/sleep", "arg": ["1000"],
                                  "capture-output": True})["pid"]
    job = full.cmd("bellhop-job-list")["jobs"][0]
    assert job["pid"] == pid
    assert other.cmd("bellhop-job-list")["jobs"] == []
    assert other.cmd("bellhop-job-list")["counts"]["running"] == 0
    for command in ("bellhop-job-status", "bellhop-job-cancel", "bellhop-job-output"):
        for name in ("id", "pid"):
            assert refusal(other, command, {name: job[name]}).desc == (
                "There is no job with %s %d" % (name, job[name]))
    assert full.cmd("bellhop-job-status", {"id": job["id"]})["state"] == "running"
    full.cmd("bellhop-job-cancel", {"id": job["id"]})


def test_a_job_is_started_under_its_channels_profile(start_agent):
    agent = start_agent(config="[policy]\naudit = DIRECTORY/audit\n" + TWO_CHANNELS % "backup")
    backup = agent.connect(path=os.path.join(agent.directory, "other"))
    for command, arguments in (("guest-file-open", {"path": agent.path("new"), "mode": "w"}),
                               ("guest-set-time", {"time": 1})):
        error = refusal(backup, "bellhop-job-start", {"command": command, "arguments": arguments})
        assert error.error_class == "CommandNotFound"
        assert error.desc == ("Command %s has been disabled: the profile backup does not have it"
                              % command)
    assert not os.path.exists(agent.path("new"))
    found = wait_for_records(os.path.join(agent.directory, "audit"), 2)
    assert [(r["command"], r["decision"], r["rule"], r["channel"]) for r in found] == [
        ("guest-file-open", "refused", "profile backup", "other"),
        ("guest-set-time", "refused", "profile backup", "other")]
    job = backup.cmd("bellhop-job-start", {"command": "guest-get-fsinfo"})["id"]
    wait_until(lambda: backup.cmd("bellhop-job-status", {"id": job})["state"] == "done", 20)
    full = agent.connect()
    assert refusal(full, "bellhop-job-status", {"id": job}).desc.startswith("There is no job")


def test_a_profile_in_the_policys_own_file(start_agent, tmp_path):
    (tmp_path / "a.conf").write_text("[policy]\nprofile = monitor\n[channel general]\n"
                                     "profile = backup\n")
    (tmp_path / "a.conf").chmod(0o644)
    agent = start_agent(env={"BELLHOP_POLICY": str(tmp_path)})
    channel = agent.connect()
    assert enabled(channel)["guest-get-load"] and not enabled(channel)["guest-exec"]
    assert refusal(channel, "guest-exec").desc.endswith("the profile backup does not have it")


# --- rules for files -----------------------------------------------------------------------------

RULES = """
[files in]
path = DIRECTORY/in
access = read, write, create
[files read-only]
path = DIRECTORY/in/read-only
access = read
[files secret]
path = DIRECTORY/in/secret
access = none
[files special]
path = DIRECTORY/special
access = read, write
special = true
hard-links = true
"""


class Tree:
    """The folders that the rules are about, in the agent's own: "in", "special", and "out", which no
    rule has. Each has a file "file"."""

    def __init__(self, agent):
        self.agent = agent
        self.root = os.path.realpath(agent.directory)
        for name in ("in", "in/read-only", "in/secret", "special", "out"):
            os.makedirs(self.path(name))
            self.write(name + "/file")
        self.channel = agent.connect()

    def path(self, name):
        return os.path.join(self.root, name)

    def write(self, name, text="text"):
        with open(self.path(name), "w") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def open(self, path, mode="r"):
        """Opens and closes it."""
        self.channel.close_file(self.channel.open_file(path, mode))

    def refused(self, path, mode="r"):
        error = refusal(self.channel, "guest-file-open", {"path": path, "mode": mode})
        assert error.error_class == "GenericError"
        return error.desc


@pytest.fixture
def tree(start_agent):
    return Tree(start_agent(config=RULES))


NO_RULE = "no [files] rule of the profile full has"

ALLOWED = [
    ("in/file", "r"), ("in/file", "w"), ("in/file", "r+"), ("in/file", "a"), ("in/file", "w+"),
    ("in/new", "w"), ("in/new", "a+"), ("in", "r"), ("in/../in//./file", "w"),
    ("out/../in/file", "r"), ("out//..//in///file", "r"), ("in/read-only/file", "r"),
    ("special/file", "w"),
]
REFUSED = [
    ("out/file", "r", NO_RULE), ("out/file", "w", NO_RULE), ("out/file", "a", NO_RULE),
    ("out/new", "w", NO_RULE), ("new", "w", NO_RULE), ("", "r", NO_RULE),
    ("in/../out/file", "r", NO_RULE), ("in/../out/file", "w", NO_RULE),
    ("in//..//out//file", "w", NO_RULE), ("in/./../out/new", "w", NO_RULE),
    ("in/../new", "w", NO_RULE),
    ("in/read-only/file", "w", "[files read-only] does not allow writing"),
    ("in/read-only/file", "r+", "[files read-only] does not allow writing"),
    ("in/read-only/new", "w", "[files read-only] does not allow creating"),
    ("in/secret/file", "r", "[files secret] does not allow reading"),
    ("in/secret/new", "w", "[files secret] does not allow creating"),
    ("in/secret/../secret/file", "r", "[files secret]"),
    ("special/new", "w", "[files special] does not allow creating"),
]


def test_files(tree):
    for name, mode in ALLOWED:
        tree.open(tree.path(name), mode)
    for name, mode, reason in REFUSED:
        assert reason in tree.refused(tree.path(name), mode), (name, mode)
    for name in ("out/file", "in/read-only/file", "in/secret/file"):
        assert tree.read(name) == "text"
    for name in ("out/new", "new", "in/read-only/new", "in/secret/new", "special/new"):
        assert not os.path.exists(tree.path(name)), name


def test_what_is_refused_by_the_system_is_so_still(tree):
    for name, mode, reason in [("in/none", "r", "No such file or directory"),
                               ("in/none/x", "w", "No such file or directory"),
                               ("in/file/", "r", "Not a directory"),
                               ("in/file/", "w", "Not a directory"),
                               ("in/new/", "w", "Is a directory"),
                               ("in/read-only", "w", "does not allow writing"),
                               ("in", "w", "Is a directory"),
                               ("in/" + 300 * "x", "w", "File name too long")]:
        assert reason in tree.refused(tree.path(name), mode), name


def test_symbolic_links(tree):
    links = {"in/to-file": "../out/file", "in/to-folder": "../out", "in/to-in": "file",
             "out/to-in": "../in/file", "in/absolute": tree.path("out/file"),
             "in/chain": "to-folder/file", "in/to-secret": "secret/file",
             "in/loop": "loop"}
    for name, target in links.items():
        os.symlink(target, tree.path(name))
    for name in ("in/to-file", "in/to-folder/file", "in/to-folder/new", "in/absolute", "in/chain"):
        assert NO_RULE in tree.refused(tree.path(name), "w"), name
    assert NO_RULE in tree.refused(tree.path("in/to-folder/"), "r")
    assert "[files secret]" in tree.refused(tree.path("in/to-secret"))
    assert "Too many levels" in tree.refused(tree.path("in/loop"), "w")
    assert tree.read("out/file") == "text"
    assert os.listdir(tree.path("out")) == ["file", "to-in"] or \
        os.listdir(tree.path("out")) == ["to-in", "file"]
    for name in ("in/to-in", "out/to-in"):
        tree.open(tree.path(name), "w")


def test_nothing_is_made_through_a_dangling_link(tree):
    for target in ("../out/new", "new", tree.path("out/new")):
        os.symlink(target, tree.path("in/dangling"))
        assert "No such file or directory" in tree.refused(tree.path("in/dangling"), "w")
        os.unlink(tree.path("in/dangling"))
    assert not os.path.exists(tree.path("out/new"))
    assert not os.path.exists(tree.path("in/new"))


def test_magic_links(tree):
    pid = tree.agent.pid
    for prefix in ("/proc/self/root", "/proc/thread-self/root", "/proc/%d/root" % pid,
                   "/proc/self/cwd"):
        assert NO_RULE in tree.refused(prefix + tree.path("out/file"), "w"), prefix
        assert NO_RULE in tree.refused(prefix + tree.path("out/new"), "w"), prefix
        tree.open(prefix + tree.path("in/file"))
    for number in range(3):
        tree.refused("/proc/self/fd/%d" % number, "r")
    assert NO_RULE in tree.refused("/proc/self/exe")
    assert tree.read("out/file") == "text"
    assert not os.path.exists(tree.path("out/new"))


def test_a_deleted_file_is_no_file_any_more(tree):
    handle = tree.channel.open_file(tree.path("in/file"), "r+")
    number = next(name for name in os.listdir("/proc/%d/fd" % tree.agent.pid) if
                  os.readlink("/proc/%d/fd/%s" % (tree.agent.pid, name)) == tree.path("in/file"))
    link = "/proc/self/fd/" + number
    tree.open(link)
    os.unlink(tree.path("in/file"))
    tree.write("in/file (deleted)")
    assert "no path of its own" in tree.refused(link, "w")
    tree.channel.close_file(handle)
    assert tree.read("in/file (deleted)") == "text"


def test_hard_links(tree):
    os.link(tree.path("out/file"), tree.path("in/linked"))
    for mode in ("w", "a", "r+"):
        assert "[files in] does not allow writing to a file that has more than one link" in \
            tree.refused(tree.path("in/linked"), mode)
    assert tree.read("out/file") == "text"
    tree.open(tree.path("in/linked"))
    os.link(tree.path("out/file"), tree.path("special/linked"))
    tree.open(tree.path("special/linked"), "r+")


def test_special_files(tree):
    """The open of a FIFO would wait, that of a device have an effect: neither is come to."""
    for name in ("in", "special"):
        os.mkfifo(tree.path(name + "/fifo"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(tree.path(name + "/socket"))
    for name, mode in (("fifo", "r"), ("fifo", "w"), ("socket", "r")):
        assert "[files in] does not allow devices, FIFOs and sockets" in tree.refused(
            tree.path("in/" + name), mode)
    tree.open(tree.path("special/fifo"), "r+")
    assert "No such device or address" in tree.refused(tree.path("special/socket"))
    assert NO_RULE in tree.refused("/dev/null", "w")


@is_root
def test_devices(tree):
    try:
        for name in ("in", "special"):
            os.mknod(tree.path(name + "/null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    assert "devices, FIFOs and sockets" in tree.refused(tree.path("in/null"), "w")
    try:
        os.close(os.open(tree.path("special/null"), os.O_RDONLY))
    except PermissionError:
        pytest.skip("devices do not work on this file system")
    tree.open(tree.path("special/null"), "w")


@contextlib.contextmanager
def swapping(*pairs):
    """Exchanges what stands at a path for one link and another, as fast as can be, meanwhile."""
    stop = threading.Event()

    def swap():
        number = 0
        while not stop.is_set():
            for path, targets in pairs:
                fresh = "%s.%d" % (path, number % 2)
                os.symlink(targets[number % 2], fresh)
                os.rename(fresh, path)
            number += 1

    for path, targets in pairs:
        os.symlink(targets[0], path)
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_links_that_are_exchanged_meanwhile(tree):
    """Whatever the path leads to at each moment, nothing of "out" is ever read, truncated or made."""
    tree.write("in/file", "allowed")
    tree.write("out/file", "forbidden")
    file, folder = tree.path("in/file-link"), tree.path("in/folder-link")
    os.mkdir(tree.path("in/folder"))
    tree.write("in/folder/file", "allowed")
    opened = 0
    with swapping((file, ("file", "../out/file")), (folder, ("folder", "../out"))):
        for round in range(400):
            path, mode = [(file, "r"), (folder + "/file", "r"), (file, "a"),
                          (folder + "/new%d" % round, "w")][round % 4]
            reply = tree.channel.request("guest-file-open", {"path": path, "mode": mode})
            if "error" in reply:
                continue
            opened += 1
            if mode == "r":
                assert tree.channel.read_file(reply["return"])[0] == b"allowed"
            tree.channel.close_file(reply["return"])
    assert opened > 0
    assert tree.read("out/file") == "forbidden"
    assert os.listdir(tree.path("out")) == ["file"]


def test_a_file_that_becomes_a_link_meanwhile(tree):
    """The same where one of the two is no link at all, and is written to."""
    tree.write("out/file", "forbidden")
    stop = threading.Event()
    path = tree.path("in/x")

    def swap():
        number = 0
        while not stop.is_set():
            fresh = tree.path("in/y")
            if number % 2:
                os.symlink("../out/file", fresh)
            else:
                tree.write("in/y", "allowed")
            os.rename(fresh, path)
            number += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for round in range(300):
            reply = tree.channel.request("guest-file-open",
                                         {"path": path, "mode": "w" if round % 2 else "a"})
            if "return" in reply:
                tree.channel.cmd("guest-file-write", {
                    "handle": reply["return"], "buf-b64": base64.b64encode(b"x").decode()})
                tree.channel.close_file(reply["return"])
    finally:
        stop.set()
        thread.join()
    assert tree.read("out/file") == "forbidden"


@is_root
def test_bind_mounts(start_agent, tmp_path, request):
    """What root mounts below a rule's path has that path; what only another mount namespace has there
    has none."""
    here = start_agent(config=RULES)
    wrapper = tmp_path / "bellhopd"
    wrapper.write_text("#!/bin/sh\nd=${QGA_CONF%%/config}\n"
                       "mkdir -p $d/in/mounted $d/out && echo mounted >$d/out/there\n"
                       "exec unshare -m sh -c 'mount --bind '$d/out' '$d/in/mounted' && exec %s \"$@\"'"
                       " sh \"$@\"\n" % here.binary)
    wrapper.chmod(0o755)
    agent = Agent("bellhop", str(wrapper), config=RULES)
    try:
        agent.__enter__()
    except RuntimeError as error:
        if "permission denied" in str(error).lower() or "not permitted" in str(error):
            pytest.skip("no mount namespaces here")
        raise
    with contextlib.ExitStack() as stack:
        stack.push(agent)
        root = os.path.realpath(agent.directory)
        channel = agent.connect()
        channel.close_file(channel.open_file(root + "/in/mounted/there"))
        assert NO_RULE in refusal(channel, "guest-file-open", {"path": root + "/out/there"}).desc
        # From here, the path leads by /proc into that namespace, where it has a name that a rule
        # has; but here there is nothing of that name.
        pid = next(pid for pid in agent.family()
                   if os.readlink("/proc/%d/exe" % pid) == os.path.realpath(here.binary))
        tree = Tree(here)
        other = start_agent(config="[files all]\npath = %s/in\naccess = read\n" % root)
        text = refusal(other.connect(), "guest-file-open",
                       {"path": "/proc/%d/root%s/in/mounted/there" % (pid, root)}).desc
        assert "no path of its own" in text
        assert "no path of its own" in tree.refused(
            "/proc/%d/root%s/in/mounted/there" % (pid, root))


def test_below_another_root(start_agent, tmp_path):
    """Paths begin at that root; rules are for what is there by its path from here."""
    for name in ("proc/1", "sys/class", "in", "out"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("in", "out"):
        (tmp_path / name / "file").write_text("text")
    (tmp_path / "in" / "absolute").symlink_to("/out/file")
    (tmp_path / "in" / "within").symlink_to("/in/file")
    agent = start_agent(args=["--root", str(tmp_path)], config="[files in]\npath = %s/in\n"
                        "access = read, write, create\n" % os.path.realpath(tmp_path))
    channel = agent.connect()
    for path, mode in (("/in/file", "r"), ("/in/new", "w"), ("/in/within", "w"),
                       ("/../in/file", "a")):
        channel.close_file(channel.open_file(path, mode))
    for path, mode in (("/out/file", "w"), ("/in/absolute", "w"), ("/in/../out/new", "w"),
                       ("/in/../../out/file", "r")):
        assert NO_RULE in refusal(channel, "guest-file-open", {"path": path, "mode": mode}).desc
    assert (tmp_path / "out" / "file").read_text() == "text"
    assert sorted(os.listdir(tmp_path / "out")) == ["file"]
    assert (tmp_path / "in" / "file").read_text() == ""
    error = refusal(channel, "guest-exec", {"path": "/bin/true"})
    assert error.desc.endswith("has been disabled: the agent only looks at the guest (--root)")


def test_very_long_lists(start_agent):
    rules = "".join("[files r%d]\npath = DIRECTORY/in/%d\naccess = read, write, create\n"
                    "[program p%d]\npath = /bin/true\narguments = %s\n" %
                    (i, i, i, " ".join("a*%d" % j for j in range(40))) for i in range(800))
    agent = start_agent(config=rules)
    channel = agent.connect()
    for number in (0, 400, 799):
        os.makedirs(os.path.join(agent.directory, "in", str(number)))
        path = os.path.join(agent.directory, "in", str(number), "file")
        channel.close_file(channel.open_file(path, "w"))
    assert NO_RULE in refusal(channel, "guest-file-open",
                              {"path": agent.directory + "/in/0/../800", "mode": "w"}).desc
    assert "File name too long" in refusal(channel, "guest-file-open", {
        "path": agent.directory + "/in/0/" + "x/" * 4000}).desc


def test_without_rules_files_are_opened_as_they_were(agent, channel):
    channel.close_file(channel.open_file(agent.file("x"), "w"))
    channel.close_file(channel.open_file("/dev/null", "w"))


# --- peers ---------------------------------------------------------------------------------------


def connects(path, uid=None, gid=None, groups=()):
    """Whether a process with those ids is answered, or disconnected at once."""
    wait_for_listener(path)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b"error"
        try:
            if uid is not None:
                os.setgroups(list(groups))
                os.setgid(gid)
                os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(seconds(10))
                peer.connect(path)
                try:
                    peer.sendall(b'{"execute": "guest-ping"}\n')
                    answer = b"yes" if peer.recv(100) else b"no"
                except (BrokenPipeError, ConnectionResetError):
                    answer = b"no"
        except OSError as error:
            answer = str(error).encode()
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(pid, 0)
    assert answer in ("yes", "no"), answer
    return answer == "yes"


PEERS = "[channel other]\nmethod = unix-listen\npath = DIRECTORY/other\n%s\n"


def test_own_user_as_peer(start_agent):
    agent = start_agent(config=PEERS % ("peer-uid = %d" % os.geteuid()))
    assert connects(os.path.join(agent.directory, "other"))


def test_nobody_as_peer(start_agent):
    agent = start_agent(config=PEERS % "peer-uid = 54321",
                        args=["--set", "policy.audit=log"])
    assert not connects(os.path.join(agent.directory, "other"))
    agent.connect().cmd("guest-ping")
    wait_until(lambda: "may not connect (peer-uid, peer-gid)" in agent.log(), what="log line")
    wait_until(lambda: '"decision": "refused", "rule": "peer-uid, peer-gid"' in agent.log(),
               what="audit record")


@is_root
def test_others_as_peers(start_agent):
    agent = start_agent(config=PEERS % "peer-uid = 54321 54322\npeer-gid = 777")
    os.chmod(agent.directory, 0o755)
    other = os.path.join(agent.directory, "other")
    wait_for_listener(other)
    assert stat.S_IMODE(os.stat(other).st_mode) == 0o666
    assert stat.S_IMODE(os.stat(agent.socket_path).st_mode) == 0o600
    assert connects(other, 54321, 777)
    assert connects(other, 54322, 100, groups=[5, 777])
    assert not connects(other, 54321, 778)
    assert not connects(other, 54323, 777)
    assert not connects(other)


# --- the audit -----------------------------------------------------------------------------------


def records(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def wait_for_records(path, count):
    wait_until(lambda: os.path.exists(path) and len(records(path)) >= count, 20,
               "%d audit records" % count)
    return records(path)


def test_audit(start_agent):
    agent = start_agent(config=RULES + "[policy]\naudit = DIRECTORY/audit\n" +
                        TWO_CHANNELS % "monitor")
    tree = Tree(agent)
    monitor = agent.connect(path=os.path.join(agent.directory, "other"))
    tree.open(tree.path("in/file"), "w")
    tree.refused(tree.path("out/file"), "w")
    tree.refused(tree.path("in/none"), "r")
    refusal(monitor, "guest-set-user-password",
            {"username": "joe", "password": "c2VjcmV0", "crypted": False})
    refusal(monitor, "guest-shutdown", {"mode": 17})
    tree.channel.cmd("guest-ping")
    found = wait_for_records(os.path.join(agent.directory, "audit"), 5)
    assert [(r["event"], r.get("decision", r.get("result")), r["command"], r.get("rule"))
            for r in found] == [
        ("decision", "allowed", "guest-file-open", "[files in]"),
        ("result", "done", "guest-file-open", None),
        ("decision", "refused", "guest-file-open", "[files]"),
        ("decision", "refused", "guest-set-user-password", "profile monitor"),
        ("decision", "refused", "guest-shutdown", "profile monitor"),
    ]
    first, second = found[:2]
    assert first["call"] == second["call"] != found[2]["call"]
    assert first["channel"] == "general" and found[3]["channel"] == "other"
    assert first["profile"] == "full" and found[3]["profile"] == "monitor"
    assert first["peer"] == "pid %d, uid %d, gid %d" % (os.getpid(), os.geteuid(), os.getegid())
    assert first["arguments"] == 'path="%s" mode="w"' % tree.path("in/file")
    assert "joe" in found[3]["arguments"] and "c2VjcmV0" not in json.dumps(found)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", first["time"])


def test_a_failed_change_is_audited(start_agent):
    agent = start_agent(config="[policy]\naudit = DIRECTORY/audit\n")
    channel = agent.connect()
    refusal(channel, "guest-set-vcpus", {"vcpus": [{"logical-id": 99999, "online": True}]})
    channel.open_file(agent.path("new"), "w")
    found = wait_for_records(os.path.join(agent.directory, "audit"), 4)
    assert [r.get("decision", r.get("result")) for r in found] == [
        "allowed", "failed", "allowed", "done"]
    assert found[0]["rule"] == "profile full" and found[1]["error"]


def test_an_audit_that_nobody_reads_holds_nobody_up(start_agent, tmp_path):
    """Its queue has an end: what does not fit is counted, and told once it can be."""
    path = str(tmp_path / "audit")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    agent = start_agent(config="[policy]\naudit = %s\n" % path,
                        args=["-b", "guest-set-time"])
    channel = agent.connect()
    request = json.dumps({"execute": "guest-set-time", "arguments": {"time": 1}})
    rounds = 12000  # more than the pipe, what is being written to it, and the queue take
    for _ in range(rounds // 100):
        channel.send((request + "\n") * 100)
        assert len(channel.read_replies(100, 30)) == 100
    assert channel.cmd("guest-ping") == {}

    text, lost = b"", []
    os.set_blocking(reader, True)

    def read_on():
        nonlocal text
        text += os.read(reader, 1 << 20)
        whole = text[:text.rindex(b"\n")] if b"\n" in text else b""
        found = [json.loads(line) for line in whole.split(b"\n") if line]
        lost[:] = [r["records"] for r in found if r["event"] == "lost"]
        return lost and len(found) - len(lost) + sum(lost) >= rounds

    refusal(channel, "guest-set-time")
    wait_until(read_on, 30, "the count of what was lost")
    os.close(reader)


def test_audit_is_reopened(start_agent):
    agent = start_agent(config="[policy]\naudit = DIRECTORY/audit\n", args=["-b", "guest-get-load"])
    channel = agent.connect()
    path = os.path.join(agent.directory, "audit")
    refusal(channel, "guest-get-load")
    wait_for_records(path, 1)
    os.rename(path, path + ".1")
    agent.process.send_signal(1)

    def is_there():
        refusal(channel, "guest-get-load")
        return os.path.exists(path) and records(path)

    wait_until(is_there, 20, "the new file")
    assert records(path)[0]["rule"] == "block-rpcs, allow-rpcs"


def test_an_audit_that_cannot_be_written(agent):
    ended = subprocess.run([agent.binary, "-m", "unix-listen", "-p", agent.path("s"), "-t",
                            agent.directory, "--set", "policy.audit=/no/such/folder/audit"],
                           capture_output=True, timeout=seconds(20), check=False,
                           env=dict(os.environ, BELLHOP_CONF="", QGA_CONF="", BELLHOP_POLICY=""))
    assert ended.returncode == 1
    assert b"/no/such/folder/audit: No such file or directory" in ended.stderr


# --- at the start --------------------------------------------------------------------------------


def dump(agent, folder, option="-D"):
    return subprocess.run([agent.binary, option], capture_output=True, timeout=seconds(20),
                          check=False, text=True,
                          env=dict(os.environ, BELLHOP_CONF="", QGA_CONF="",
                                   BELLHOP_POLICY=str(folder)))


BROKEN = [
    ("[policy]\nprofile = root\n", 2, "there is no profile 'root'"),
    ("\n\n[file x]\n", 3, "there is no group [file x]"),
    ("[files x]\npath = /srv\nacess = read\n", 3, "there is no key 'acess' in [files NAME]"),
    ("[files x]\npath = srv\n", 2, "'srv' is no absolute path"),
    ("[files x]\npath = /srv/../etc\n", 2, "cannot have '..'"),
    ("[files x]\npath = /srv\n", 1, "[files x]: needs access"),
    ("[files x]\naccess = read\n", 1, "[files x]: needs a path"),
    ("[files x]\npath=/srv\naccess=read\n[files x]\n", 4, "there is a [files x] already"),
    ("[program x]\npath = /no/such/program\n", 1, "/no/such/program: No such file or directory"),
    ("[program x]\npath = /bin/true\nuser = no-such-user\n", 1, "there is no user 'no-such-user'"),
    ("[program x]\npath = /bin/true\ncapabilities = root\n", 3, "there is no capability 'root'"),
    ("[program x]\npath = /bin/true\ntimeout = soon\n", 3, "expected a number"),
    ("[program x]\npath = /bin/true\nprofiles = monitor\n", 1,
     "the profile monitor has no guest-exec"),
    ("[program x]\npath = /bin/true\nnew-privileges = true\nsystem-calls = @basic\n", 1,
     "'system-calls' and 'new-privileges = true' do not go together"),
    ("[policy]\nprofile\n", 2, "expected '[GROUP]', 'KEY = VALUE'"),
    ("[policy]\naudit = \xff\n", 2, "is not UTF-8"),
    ("[policy\n", 1, "']' is missing"),
    ("[general]\nverbose=true\n", 1, "there is no group [general] in a policy's file"),
]


def test_broken_policies_are_refused_with_their_place(agent, tmp_path):
    good = tmp_path / "a.conf"
    good.write_text("[files good]\npath = /srv\naccess = read\n")
    good.chmod(0o644)
    assert dump(agent, tmp_path).returncode == 0
    bad = tmp_path / "b.conf"
    for text, line, reason in BROKEN:
        bad.write_text(text, encoding="latin-1")
        bad.chmod(0o644)
        for option in ("-D", "--check"):
            ended = dump(agent, tmp_path, option)
            assert ended.returncode == 1 and not ended.stdout, text
            assert ended.stderr.startswith("bellhopd: %s:%d: " % (bad, line)), ended.stderr
            assert reason in ended.stderr, text
    bad.unlink()
    (tmp_path / "c.txt").write_text("nonsense")
    (tmp_path / ".d.conf").write_text("nonsense")
    assert dump(agent, tmp_path).returncode == 0


def test_policies_that_others_can_write_are_refused(agent, tmp_path):
    folder = tmp_path / "policy.d"
    folder.mkdir(mode=0o755)
    file = folder / "a.conf"
    file.write_text("[policy]\nprofile = monitor\n")
    file.chmod(0o644)
    assert "profile=monitor" in dump(agent, folder).stdout

    def check_refused(path):
        ended = dump(agent, folder)
        assert ended.returncode == 1 and not ended.stdout
        assert "a policy is not taken from here: '%s' " % path in ended.stderr

    for mode in (0o664, 0o646):
        file.chmod(mode)
        check_refused(file)
    file.chmod(0o600)
    for path in (folder, tmp_path):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(0o777)
        check_refused(path)
        path.chmod(before)
    if os.geteuid() == 0:
        os.chown(file, 54321, 0)
        check_refused(file)
        os.chown(file, 0, 0)
    # A link's own folder, and what it leads to.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    elsewhere.chmod(0o777)
    os.rename(file, elsewhere / "a.conf")
    os.symlink(elsewhere / "a.conf", file)
    check_refused(elsewhere)
    elsewhere.chmod(0o755)
    assert dump(agent, folder).returncode == 0


def test_the_option_wins(agent):
    ended = subprocess.run([agent.binary, "-D", "--profile", "backup", "--set",
                            "policy.profile=monitor"], capture_output=True, text=True,
                           timeout=seconds(20), check=False,
                           env=dict(os.environ, BELLHOP_CONF="", QGA_CONF="", BELLHOP_POLICY=""))
    assert "\n[policy]\nprofile=backup\n" in ended.stdout
