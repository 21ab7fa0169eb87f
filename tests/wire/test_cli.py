# SPDX-License-Identifier: MIT
"""The command line, the configuration files, the pidfile and the log, by running the programs."""

import os
import random
import re
import signal
import subprocess

import conftest
import differences
import pytest
from agent import AgentError, seconds, wait_until

DEFAULT_PATH = "/dev/virtio-ports/org.qemu.guest_agent.0"
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|info|debug): .*")
CLASSIC_LOG_LINE = re.compile(r"\d+\.\d+: [a-z]+: .*")


class Program:
    """bellhopd or the reference, run for what it prints, with files of the test's own."""

    def __init__(self, kind, path, directory):
        self.kind = kind
        self.path = path
        self.config_path = os.path.join(directory, "qga.conf")
        self.bellhop_path = os.path.join(directory, "bellhop.conf")

    def run(self, *args, config=None, bellhop_config=None, **env):
        """`config` is the text of the classic file, in bytes; None: there is no such file."""
        for path, text in ((self.config_path, config), (self.bellhop_path, bellhop_config)):
            if os.path.exists(path):
                os.remove(path)
            if text is not None:
                with open(path, "wb") as file:
                    file.write(text)
        environment = dict(os.environ, QGA_CONF=self.config_path, BELLHOP_CONF=self.bellhop_path,
                           LC_ALL="C.UTF-8")
        environment.update(env)
        return subprocess.run([self.path, *args], stdin=subprocess.DEVNULL, capture_output=True,
                              env=environment, timeout=seconds(20), check=False)

    def differs(self, name):
        return differences.ask(name, self.kind)

    def dump(self, *args, **files):
        """What -D prints; it must succeed."""
        result = self.run("-D", *args, **files)
        assert result.returncode == 0, result.stderr
        return result.stdout.decode(errors="surrogateescape")

    def refusal(self, *args, **files):
        """What is said to a command line that is refused."""
        result = self.run(*args, **files)
        assert result.returncode == 1, result.stdout
        assert result.stderr
        return result.stderr.decode(errors="replace")


@pytest.fixture
def program(request, kind, tmp_path):
    return Program(kind, conftest._binary(request.config, kind), str(tmp_path))


@pytest.fixture
def bellhop(request, tmp_path):
    return Program("bellhop", conftest._binary(request.config, "bellhop"), str(tmp_path))


@pytest.fixture
def both(request, tmp_path):
    """bellhopd and the reference."""
    kinds = conftest._kinds(request.config)
    if len(kinds) != 2:
        pytest.skip("needs both programs")
    return [Program(kind, conftest._binary(request.config, kind), str(tmp_path)) for kind in kinds]


def dumped(**changes):
    """The text of a dump: the defaults, and what is different. None leaves a key out."""
    values = {"daemon": "false", "method": "virtio-serial", "path": DEFAULT_PATH, "logfile": None,
              "pidfile": "/var/run/qemu-ga.pid", "fsfreeze_hook": None, "statedir": "/var/run",
              "verbose": "false", "retry_path": "false", "block_rpcs": "", "allow_rpcs": None}
    assert set(changes) <= set(values)
    values.update(changes)
    return "[general]\n" + "".join("%s=%s\n" % (key.replace("_", "-"), value)
                                   for key, value in values.items() if value is not None)


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("args, changes", [
    ([], {}),
    (["-v", "-d", "-r"], {"verbose": "true", "daemon": "true", "retry_path": "true"}),
    (["-vdr"], {"verbose": "true", "daemon": "true", "retry_path": "true"}),
    (["--verbose", "--daemonize", "--retry-path"],
     {"verbose": "true", "daemon": "true", "retry_path": "true"}),
    (["-m", "unix-listen", "-p", "/x"], {"method": "unix-listen", "path": "/x"}),
    (["-munix-listen", "-p/x"], {"method": "unix-listen", "path": "/x"}),
    (["--method=unix-listen", "--path", "/x"], {"method": "unix-listen", "path": "/x"}),
    (["-m", "isa-serial"], {"method": "isa-serial", "path": "/dev/ttyS0"}),
    (["-m", "vsock-listen", "-p", "3:1024"], {"method": "vsock-listen", "path": "3:1024"}),
    (["-p", "/a", "-p", "/b", "-t", "/a", "-t", "/b"], {"path": "/b", "statedir": "/b"}),
    (["-l", "/l", "-f", "/f", "-t", "/t"], {"logfile": "/l", "pidfile": "/f", "statedir": "/t"}),
    (["--logfile=/l", "--pidfile=/f", "--statedir=/t"],
     {"logfile": "/l", "pidfile": "/f", "statedir": "/t"}),
    (["-F"], {"fsfreeze_hook": "/etc/qemu/fsfreeze-hook"}),
    (["-F/h"], {"fsfreeze_hook": "/h"}),
    (["-F", "/h"], {"fsfreeze_hook": "/etc/qemu/fsfreeze-hook"}),
    (["--fsfreeze-hook=/h"], {"fsfreeze_hook": "/h"}),
    (["--fsfreeze-hook"], {"fsfreeze_hook": "/etc/qemu/fsfreeze-hook"}),
    (["-b", "a"], {"block_rpcs": "a"}),
    (["-b", "a,b,c"], {"block_rpcs": "c,b,a"}),
    (["-b", "a,b", "--block-rpcs=c", "--blacklist", "d,e"], {"block_rpcs": "b,a,c,e,d"}),
    (["-b", ""], {}),
    (["--block-rpcs="], {}),
    (["--black=a"], {"block_rpcs": "a"}),
    (["x", "-v", "--", "-d"], {"verbose": "true"}),
    (["-p", " a\tb\\c"], {"path": "\\sa\tb\\\\c"}),
])
def test_dump(program, args, changes):
    if "/etc/qemu/fsfreeze-hook" in changes.values() and not os.path.exists("/etc/qemu"):
        pytest.skip("Red Hat's hook may be the default one")
    assert program.dump(*args) == dumped(**changes)


@pytest.mark.parametrize("seed", range(20))
def test_dumps_are_equal(both, seed):
    """Byte for byte, whatever options are combined with whatever file."""
    choose = random.Random(seed)
    options = ["-v", "-d", "-r", "-F", "-F/hook", "-munix-listen", "-misa-serial", "-p/path",
               "-p/some where", "-l/log", "-f/pid", "-t/state", "-bguest-ping", "-ba,b,c", "-b",
               "--blacklist=d", "--verb", "--retry", "--path=/o\\ther", "argument"]
    lines = ["daemon=true", "method=isa-serial", "method = unix-listen", "path=/file",
             "path=/with\\sescapes\\\\ ", "logfile=/file.log", "pidfile=/file.pid", "verbose=1",
             "verbose=false", "fsfreeze-hook=/file.hook", "statedir=/file.state", "retry-path=true",
             "block-rpcs=e,f", "block-rpcs=g", "unknown=\\q", "# comment", "", "[other]", "x=y",
             "[general]"]
    args = []
    for option in choose.sample(options, choose.randrange(6)):
        args += [option, "h,i"] if option == "-b" else [option]
    config = "\n".join(["[general]", "path=/default"] + choose.choices(lines, k=8)).encode()

    dumps = [program.dump(*args, config=config) for program in both]
    assert dumps[0] == dumps[1]


@pytest.mark.parametrize("args", [["-x"], ["--nonsense"], ["-m"], ["--path"], ["--verbose=1"],
                                  ["-x", "-h"], ["-vz"], ["--ver"]])
def test_bad_options(program, args):
    said = program.refusal(*args)
    if program.kind == "bellhop":
        assert "option" in said and "--help" in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("args", [["-h"], ["--help"], ["-v", "-h", "-x"]])
def test_help(program, args):
    result = program.run(*args)
    assert result.returncode == 0
    assert result.stdout.startswith(b"Usage: " + program.path.encode() + b" ")
    for option in ("-m", "--block-rpcs", "--fsfreeze-hook", "--dump-conf", "--retry-path"):
        assert option.encode() in result.stdout
    assert not result.stderr


@pytest.mark.parametrize("args", [["-V"], ["--version"], ["-V", "-x"]])
def test_version(program, args):
    result = program.run(*args)
    assert result.returncode == 0
    assert re.fullmatch(rb"[\w ]+ \d+\.\d+[\w.]*\n", result.stdout)


@pytest.mark.parametrize("args", [["-b", "help"], ["-b?"], ["--blacklist=help"], ["-D", "-bhelp"]])
def test_list_of_commands(program, args):
    result = program.run(*args)
    assert result.returncode == 0
    names = result.stdout.decode().splitlines()
    assert {"guest-sync", "guest-ping", "guest-info", "guest-file-open"} <= set(names)
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"(guest|bellhop)-[a-z0-9-]+", name) for name in names)


@pytest.mark.bellhop_only("no-list-of-allowed-commands")
def test_allow_list(program):
    assert program.dump("-a", "a,b") == dumped(allow_rpcs="b,a")
    assert program.dump("-a", "a", "--allow-rpcs=b", "-b", "c") == \
        dumped(allow_rpcs="a,b", block_rpcs="c")
    assert program.dump("-a", "") == dumped()
    # Nothing is allowed, and this does not get lost on its way through a file.
    assert program.dump("-a", ",") == dumped(allow_rpcs=",")
    assert program.dump(config=program.dump("-a", ",").encode()) == dumped(allow_rpcs=",")
    assert program.run("-a", "help").stdout == program.run("-b", "help").stdout


def test_names_of_the_program(bellhop, tmp_path):
    """Started as qemu-ga it is the same program."""
    link = str(tmp_path / "qemu-ga")
    os.symlink(os.path.abspath(bellhop.path), link)
    linked = Program("bellhop", link, str(tmp_path))
    for args in (["-V"], ["-D", "-v"], ["-b", "help"]):
        assert linked.run(*args).stdout == bellhop.run(*args).stdout


def test_answers_in_spite_of_a_broken_configuration(program):
    for args in (["-h"], ["-V"], ["-b", "help"]):
        result = program.run(*args, config=b"[broken")
        if program.differs("help-needs-the-configuration"):
            assert result.returncode == 1
        else:
            assert result.returncode == 0 and result.stdout


def test_lists_are_forgiving(program):
    dump = program.dump("-b", "a, b;c,,d ,")
    if program.differs("list-spaces-are-part-of-names"):
        assert dump == dumped(block_rpcs=",d ,, b;c,a")
    else:
        assert dump == dumped(block_rpcs="d,c,b,a")


@pytest.mark.parametrize("args", [["-m", "carrier-pigeon", "-p", "/x"], ["-t", "relative"]])
def test_values_that_cannot_work(program, args):
    if program.differs("values-are-not-checked"):
        program.dump(*args)
    else:
        said = program.refusal("-D", *args)
        assert args[1] in said


@pytest.mark.parametrize("args", [["-m", "unix-listen"], ["-m", "vsock-listen"], ["-m", ""]])
def test_path_is_needed(program, args):
    program.refusal("-D", *args)


# --- configuration files -------------------------------------------------------------------------


@pytest.mark.parametrize("config, changes", [
    (b"", {}),
    (b"[general]\n", {}),
    (b"[general]\nverbose=1\ndaemon=true\nretry-path=true\n",
     {"verbose": "true", "daemon": "true", "retry_path": "true"}),
    (b"[general]\nverbose=true \t\n", {"verbose": "true"}),
    (b"# c\n\n [general] \n  path = /a b \n", {"path": "/a b "}),
    (b"[general]\r\npath=/x\r\n", {"path": "/x"}),
    (b"[general]\npath=/a\\sb\\tc\\n\\\\d\n", {"path": "/a b\tc\\n\\\\d"}),
    (b"[general]\npath=/a # c\n#path=/b\n;path=/c\n  # path=/d\n", {"path": "/a # c"}),
    (b"[general]\npath=/x\npath=/y\n[general]\nstatedir=/z\n", {"path": "/y", "statedir": "/z"}),
    (b"[general]\nunknown=1\npath[de]=/d\npath=/x\n", {"path": "/x"}),
    (b"[ general ]\npath=/x\n[General]\npath=/x\n[other]\npath=/x\n", {}),
    (b"[general]\nmethod=unix-listen\npath=/s\nlogfile=/l\npidfile=/p\nfsfreeze-hook=/h\n"
     b"statedir=/t\n", {"method": "unix-listen", "path": "/s", "logfile": "/l", "pidfile": "/p",
                        "fsfreeze_hook": "/h", "statedir": "/t"}),
    (b"[general]\nblock-rpcs=a,b\n", {"block_rpcs": "b,a"}),
    (b"[general]\nblock-rpcs=a\nblock-rpcs=b\n", {"block_rpcs": "b"}),
    (b"[general]\nblacklist=a,b\n", {"block_rpcs": "b,a"}),
    (b"[general]\nblock-rpcs=\n", {}),
    (b"# caf\xe9\n[general]\nunknown=\xe9\n", {}),
])
def test_file(program, config, changes):
    assert program.dump(config=config) == dumped(**changes)


@pytest.mark.parametrize("config", [
    b"verbose=true\n", b"[general\n", b"[general] # c\n", b"[general]\nnonsense\n",
    b"[general]\n=/x\n", b"[general]\nverbose=maybe\n", b"[general]\nverbose=TRUE\n",
    b"[general]\ndaemon=\n", b"[general]\npath=/a\\qb\n", b"[general]\npath=/a\\\n",
    b"[general]\npath=/x\xff\n",
])
def test_broken_file(program, config):
    said = program.refusal("-D", config=config)
    assert program.config_path in said
    if program.kind == "bellhop":
        line = 1 if not config.startswith(b"[general]\n") else 2
        assert "%s:%d: " % (program.config_path, line) in said


def test_file_and_options(program):
    config = b"[general]\npath=/file\nstatedir=/file\nblock-rpcs=a,b\nverbose=true\n"
    assert program.dump("-t", "/option", "-b", "c,d", "-b", "", config=config) == dumped(
        path="/file", statedir="/option", verbose="true", block_rpcs="b,a,d,c")


def test_missing_files(program, tmp_path):
    """Only a file that was asked for by -c has to be there."""
    assert program.dump() == dumped()
    assert program.dump(QGA_CONF="") == dumped()
    program.refusal("-D", QGA_CONF=str(tmp_path))


@pytest.mark.bellhop_only("no-config-option")
def test_config_option(program, tmp_path):
    other = tmp_path / "other.conf"
    other.write_text("[general]\npath=/other\n")
    config = b"[general]\npath=/environment\nstatedir=/environment\n"
    assert program.dump("-c", str(other), config=config) == dumped(path="/other")
    assert program.dump("--config", "/x", "-c%s" % other) == dumped(path="/other")
    missing = str(tmp_path / "missing.conf")
    assert "%s: No such file" % missing in program.refusal("-D", "-c", missing)


def test_both_older_and_newer_list(program):
    dump = program.dump(config=b"[general]\nblacklist=a,b\nblock-rpcs=c\n")
    if program.differs("blacklist-hides-block-rpcs"):
        assert dump == dumped(block_rpcs="b,a")
    else:
        assert dump == dumped(block_rpcs="b,a,c")


def test_empty_values(program):
    dump = program.dump(config=b"[general]\nlogfile=\npidfile=\nfsfreeze-hook=\n")
    if program.differs("empty-values-are-paths"):
        assert dump == dumped(logfile="", pidfile="", fsfreeze_hook="")
    else:
        assert dump == dumped(logfile=None, pidfile=None, fsfreeze_hook=None)


# --- bellhop's own groups ------------------------------------------------------------------------


def test_own_settings(bellhop):
    dump = bellhop.dump("--set", "exec.kept=10", "--set=deadline.guest-ping=5",
                        config=b"[limits]\nmessage-bytes = 1M\n[files]\numask=077\n"
                               b"[exec]\nkept=9\n",
                        bellhop_config=b"[limits]\nmessage-bytes=2M\nconnections=3\n"
                                       b"[channel local]\nmethod=unix-listen\npath=/s\n")
    expected = dumped() + ("\n[channel local]\nmethod=unix-listen\npath=/s\n"
                           "\n[limits]\nmessage-bytes=1M\nconnections=3\n"
                           "\n[files]\numask=0077\n\n[exec]\nkept=10\n"
                           "\n[deadline]\nguest-ping=5\n")
    assert dump == expected
    assert bellhop.dump(config=dump.encode()) == dump


@pytest.mark.parametrize("config, expected", [
    (b"[limits]\nmessage-byte=1\n", "2: there is no key 'message-byte' in [limits]"),
    (b"[pool]\nworkers=many\n", "2: 'many' does not fit 'workers' in [pool]: expected a number"),
    (b"[pool]\n\nworkers=100000\n", "3: '100000' does not fit 'workers' in [pool]"),
    (b"[files]\numask=0888\n", "2: '0888' does not fit 'umask' in [files]: expected an octal"),
    (b"[deadline]\nguest-pong=1\n", "2: there is no key 'guest-pong' in [deadline]"),
    (b"[channel a]\ncolour=blue\n", "2: there is no key 'colour' in [channel a]"),
    (b"[channel a b]\n", "1: 'a b' is no name for a channel"),
])
def test_own_groups_are_strict(bellhop, config, expected):
    said = bellhop.refusal("-D", config=config)
    assert "%s:%s" % (bellhop.config_path, expected) in said
    said = bellhop.refusal("-D", bellhop_config=config)
    assert "%s:%s" % (bellhop.bellhop_path, expected) in said


def test_unknown_groups(bellhop):
    config = b"[limit]\nmessage-bytes=1M\n"
    assert bellhop.dump(config=config) == dumped()
    said = bellhop.refusal("-D", bellhop_config=config)
    assert "%s:1: there is no group [limit]" % bellhop.bellhop_path in said


@pytest.mark.parametrize("text, expected", [
    ("pool.workers", "expected GROUP.KEY=VALUE"),
    ("pool.workers=0", "'0' does not fit 'workers'"),
    ("pol.workers=4", "there is no group [pol]"),
    ("general.unknown=4", "there is no key 'unknown' in [general]"),
])
def test_bad_set(bellhop, text, expected):
    assert "--set %s: %s" % (text, expected) in bellhop.refusal("-D", "--set", text)


# --- the agent at work ---------------------------------------------------------------------------


def test_warnings(start_agent, kind):
    """What is not known is warned about, and the rest holds."""
    agent = start_agent(args=["-b", "guest-pong,guest-get-time", "argument"],
                        config="[general]\nunknown=1\n[other]\nx=y\n")
    channel = agent.connect()
    with pytest.raises(AgentError):
        channel.cmd("guest-get-time")
    assert channel.cmd("guest-ping") == {}
    if not start_agent.differs("unknown-names-are-not-told"):
        for name in ("guest-pong", "argument", "unknown", "other"):
            assert re.search(r" warning: .*'%s'$" % name, agent.log(), re.M), agent.log()


@pytest.mark.bellhop_only("the-socket-stays")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_end(start_agent, kind, number):
    agent = start_agent()
    agent.connect().close()
    agent.process.send_signal(number)
    assert agent.process.wait(seconds(10)) == 0
    agent.expect_clean_end = False  # it has ended already
    assert not os.path.exists(agent.socket_path)


@pytest.mark.bellhop_only("pidfile-only-for-daemons")
def test_pidfile(start_agent, tmp_path):
    path = str(tmp_path / "pid")
    with open(path, "w") as file:
        file.write("1\nstale\n")
    agent = start_agent(args=["-f", path])
    with open(path) as file:
        assert file.read() == "%d\n" % agent.pid

    directory = tmp_path / "second"
    directory.mkdir()
    second = subprocess.run(
        [agent.binary, "-m", "unix-listen", "-p", str(directory / "socket"), "-t", str(directory),
         "-f", path], capture_output=True, timeout=seconds(20), check=False,
        env=dict(os.environ, QGA_CONF="", BELLHOP_CONF=""))
    assert second.returncode == 1
    assert b"already running as process %d " % agent.pid in second.stderr
    assert agent.connect().cmd("guest-ping") == {}

    agent.process.terminate()
    assert agent.process.wait(seconds(10)) == 0
    agent.expect_clean_end = False
    assert not os.path.exists(path)


def test_logfile(start_agent, tmp_path):
    path = tmp_path / "agent.log"
    agent = start_agent(args=["-v", "-l", str(path)])
    agent.connect().cmd("guest-ping")
    pattern = CLASSIC_LOG_LINE if start_agent.differs("log-counts-seconds") else LOG_LINE
    wait_until(lambda: b"guest-ping" in path.read_bytes(), what="the request in the log")
    lines = path.read_text(errors="replace").splitlines()
    # The reference logs what it reads as it is, newlines included.
    for line in lines if agent.kind == "bellhop" else lines[:1]:
        assert pattern.fullmatch(line), line
    if agent.kind == "bellhop":
        assert path.stat().st_mode & 0o137 == 0


@pytest.mark.bellhop_only("log-counts-seconds")
def test_nothing_forges_a_line(start_agent):
    agent = start_agent(args=["-v"])
    channel = agent.connect()
    forged = "2026-01-01T00:00:00.000Z error: forged"
    with pytest.raises(AgentError):
        channel.cmd("guest-file-open", {"path": "/nonexistent\n%s\x1b[2J\u009b2J" % forged})
    with pytest.raises(AgentError):
        channel.cmd("guest-\n%s" % forged)
    wait_until(lambda: "forged" in agent.log(), what="the request in the log")
    channel.cmd("guest-ping")
    for line in agent.log().splitlines():
        assert LOG_LINE.fullmatch(line), line
        assert not line.startswith(forged)
        assert "\x1b" not in line and "\u009b" not in line


@pytest.mark.bellhop_only("a-stuck-log-stops-the-agent")
def test_stuck_log(start_agent, tmp_path):
    """A log that nobody reads costs lines, and never a reply."""
    path = str(tmp_path / "log")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        agent = start_agent(args=["-v", "-l", path])
        channel = agent.connect()
        for _ in range(3000):
            channel.cmd("guest-get-time")
        agent.process.terminate()
        assert agent.process.wait(seconds(10)) == 0
        agent.expect_clean_end = False
    finally:
        os.close(reader)


def test_log_that_cannot_be_opened(program, tmp_path):
    result = program.run("-m", "unix-listen", "-p", str(tmp_path / "socket"), "-t", str(tmp_path),
                         "-l", str(tmp_path / "nowhere" / "log"))
    assert result.returncode == (0 if program.differs("failures-exit-with-0") else 1)
    assert b"No such file or directory" in result.stderr
