# SPDX-License-Identifier: MIT
"""The rules for programs over the wire: what is run and what is not, each way around them, and what a
program has left of what the broker has."""

import ctypes
import json
import os
import pwd
import re
import signal
import threading
import time

import pytest

from agent import AgentError, seconds, wait_until
from programs import encoded, error_of_start, run, start, status, wait

pytestmark = pytest.mark.bellhop_only("policy")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

REFUSED = "guest-exec refused: the policy does not allow it: "


@pytest.fixture
def place(tmp_path):
    """A folder of root's that everybody may enter, for programs that rules are about."""
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    return tmp_path


def program(place, name, text="#!/bin/sh\necho ran $0 \"$@\"\n"):
    path = place / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def start_with(start_agent, place):
    """A function that starts an agent with a policy's text, in which PLACE stands for the folder."""
    def start_it(text, **options):
        folder = place / "policy.d"
        folder.mkdir(exist_ok=True, mode=0o755)
        policy = folder / "test.conf"
        policy.write_text(text.replace("PLACE", str(place)))
        policy.chmod(0o644)
        options["env"] = dict(options.get("env") or {}, BELLHOP_POLICY=str(folder))
        return start_agent(**options)
    return start_it


def refused(channel, path, *words, **members):
    """The reason why it is refused."""
    text = error_of_start(channel, path, *words, **members)
    assert text.startswith(REFUSED), text
    text = text[len(REFUSED):]
    # One that is a rule's has the rule's place.
    if " does not allow " in text and len(text) < 230:
        assert re.search(r" \([^ ]*/policy\.d/test\.conf:[0-9]+\)$", text), text
    return re.sub(r" \([^ ]*\.conf:[0-9]+\)$", "", text)


def no_rule(path):
    return "no [program] rule of the profile full allows '%s'" % path


# --- which program -------------------------------------------------------------------------------

RULE = """
[program good]
path = PLACE/good
"""


def test_the_table_of_names(start_with, place):
    """Each way to name a file: those that lead to the rule's are run, no others are."""
    good = program(place, "good")
    bad = program(place, "bad", "#!/bin/sh\necho bad\n")
    (place / "folder").mkdir()
    (place / "link").symlink_to("good")
    (place / "second").symlink_to("link")
    (place / "folder" / "third").symlink_to("../second")
    (place / "other").symlink_to("folder")
    (place / "wrong").symlink_to("bad")
    (place / "dangling").symlink_to("nothing")
    (place / "round").symlink_to("round")
    os.link(good, place / "hard")
    os.mkfifo(place / "fifo")
    name = str(place)
    channel = start_with(RULE).connect()

    for path in (good, name + "/link", name + "/second", name + "/folder/third",
                 name + "/other/third", name + "/folder/../good", name + "/./good",
                 "//" + good, good.replace("/", "///"), "/proc/self/root" + good,
                 "/proc/self/root/proc/self/root" + good, os.path.relpath(good, "/")):
        result = run(channel, path, "word")
        assert (result.code, result.out) == (0, ("ran %s word\n" % good).encode()), path

    for path in (bad, name + "/wrong", name + "/hard", name + "/dangling", name + "/round",
                 name + "/fifo", name + "/folder", name, "/", "", ".", "good", "/bin/sh", "sh",
                 good + "/", good + "/.", good + "x", good[:-1], good.upper(), good + "\n",
                 name + "/good/../good", "/proc/self/exe", "/proc/self/fd/0", "/dev/null",
                 "/proc/self/cwd", "/no/where", name + "/folder/../bad",
                 "/proc/self/root" + bad, "x" * 300, "/" + "x/" * 3000, "*", "**", name + "/*"):
        assert "rule" in refused(channel, path), path
    assert refused(channel, bad) == no_rule(bad)
    # Of what is not there nothing else is said.
    assert refused(channel, name + "/nothing") == no_rule(name + "/nothing")


def test_a_link_that_is_exchanged(start_with, place):
    """A race: whatever the link leads to when, only the rule's program is ever run."""
    good = program(place, "good")
    bad = program(place, "bad", "#!/bin/sh\necho bad\n")
    link, scratch = str(place / "link"), str(place / "scratch")
    os.symlink(good, link)
    channel = start_with(RULE).connect()
    is_over = threading.Event()

    def exchange():
        while not is_over.is_set():
            for target in (bad, good):
                os.symlink(target, scratch)
                os.rename(scratch, link)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        ran = refusals = 0
        end = time.monotonic() + seconds(15)
        while time.monotonic() < end and (ran < 50 or refusals < 50):
            try:
                pid = start(channel, link, capture_output=True)
            except AgentError as error:
                assert error.desc.startswith(REFUSED)
                refusals += 1
                continue
            assert wait(channel, pid).out == ("ran %s\n" % good).encode()
            ran += 1
    finally:
        is_over.set()
        thread.join()
    assert ran and refusals


def test_what_is_in_the_place_of_the_program_later(start_with, place):
    good = program(place, "good")
    bad = program(place, "bad", "#!/bin/sh\necho bad\n")
    channel = start_with(RULE).connect()
    os.unlink(good)
    assert refused(channel, good) == "No such file or directory"
    os.symlink(bad, good)
    assert refused(channel, good) == no_rule(bad)
    os.unlink(good)
    os.mkdir(good)
    assert refused(channel, good) == "Permission denied"


def test_path_is_the_agents(start_with, place):
    good = program(place, "good")
    evil = place / "evil"
    evil.mkdir()
    program(evil, "good", "#!/bin/sh\necho bad\n")
    agent = start_with(RULE + "environment = PATH\n", env={"PATH": "%s:/usr/bin:/bin" % place})
    channel = agent.connect()
    for env in (None, [], ["PATH=%s" % evil], ["PATH=" + str(place)]):
        members = {} if env is None else {"env": env}
        assert run(channel, "good", **members).out == ("ran %s\n" % good).encode()
    assert refused(channel, "evil/good") == no_rule("evil/good")


def test_what_is_called_by_another_name(start_with, place):
    """A program that looks at how it is called (busybox) is called by its own name."""
    (place / "sh").symlink_to("good")
    good = program(place, "good")
    channel = start_with(RULE).connect()
    assert run(channel, str(place / "sh")).out == ("ran %s\n" % good).encode()


def test_no_rules_at_all(start_agent):
    """As it always was; but the other profiles run nothing."""
    with start_agent().connect() as channel:
        assert run(channel, "/bin/echo", "x").out == b"x\n"
    with start_agent(args=["--profile", "provision"]).connect() as channel:
        assert refused(channel, "/bin/true") == \
            "no [program] rule of the profile provision allows '%s'" % os.path.realpath("/bin/true")


# --- how it is called ----------------------------------------------------------------------------

ARGUMENTS = """
[program good]
path = PLACE/good
arguments = show *
arguments = put --level=? "two words" **
environment = LANG, TZ
"""


def test_the_table_of_arguments(start_with, place):
    good = program(place, "good")
    channel = start_with(ARGUMENTS).connect()
    for words in (["show", "x"], ["show", ""], ["show", "a b;c$(d)"],
                  ["put", "--level=3", "two words", "/any/thing"]):
        result = run(channel, good, *words)
        assert result.out.decode().split(" ", 2)[2] == " ".join(words) + "\n", words
    for words in ([], ["show"], ["show", "x", "y"], ["show", "-x"], ["show", "a/b"],
                  ["show", ".."], ["show", "../x"], ["show", "x" * 5000], ["Show", "x"],
                  ["show ", "x"], ["show x"], ["", "show", "x"],
                  ["put", "--level=33", "two words", "x"], ["put", "--level=3", "two", "words", "x"],
                  ["put", "--level=3", "two words", "-x"], ["put", "--level=/", "two words", "x"],
                  ["show"] + ["x"] * 50000):
        assert refused(channel, good, *words) == \
            "the rule [program good] does not allow these arguments", words[:5]


def test_the_table_of_environments(start_with, place):
    good = program(place, "good", "#!/bin/sh\nenv\n")
    channel = start_with(ARGUMENTS).connect()

    def members(env):
        return {"arg": ["show", "x"], "env": env}

    for env in ([], ["LANG=C"], ["TZ=UTC", "LANG=C"], ["LANG="]):
        lines = run(channel, good, **members(env)).out.decode().splitlines()
        assert set(env) <= set(lines)
    for env, name in ((["LD_PRELOAD=/tmp/x.so"], "LD_PRELOAD"), (["LANG=C", "PATH=/tmp"], "PATH"),
                      (["LD_LIBRARY_PATH=/tmp"], "LD_LIBRARY_PATH"), (["BASH_ENV=x"], "BASH_ENV"),
                      (["lang=C"], "lang"), (["LANGUAGE=C"], "LANGUAGE"), (["LAN=C"], "LAN"),
                      (["LANG =C"], "LANG "), (["=x"], ""), ([""], ""),
                      (["LANG=C"] * 20000 + ["IFS=x"], "IFS")):
        assert refused(channel, good, **members(env)) == \
            "the rule [program good] does not allow '%s' in 'env'" % name


def test_users_and_directories_are_the_rules(start_with, place):
    good = program(place, "good", "#!/bin/sh\npwd\n")
    channel = start_with(RULE).connect()
    assert run(channel, good).out == b"/\n"
    assert refused(channel, good, cwd="/usr") == \
        "the rule [program good] does not allow the working directory '/usr'"
    for user in ("root", "nobody", 0, "0"):
        assert refused(channel, good, user=user) == \
            "the rule [program good] does not allow the user '%s'" % user
    channel = start_with(RULE + "cwd = *\n").connect()
    assert run(channel, good, cwd="/usr").out == b"/usr\n"
    assert "/no/where" in refused(channel, good, cwd="/no/where")


# --- how much of it ------------------------------------------------------------------------------


def test_time(start_with, place):
    good = program(place, "good", "#!/bin/sh\nexec sleep 1000\n")
    channel = start_with(RULE + "timeout = 1\n").connect()
    for members in ({}, {"time_limit": 1000}):
        result = wait(channel, start(channel, good, **members))
        assert result.signal == signal.SIGTERM
        assert result.reply["timed-out"] is True
    # A client can only be stricter.
    channel = start_with(RULE + "timeout = 1000\n").connect()
    assert wait(channel, start(channel, good, time_limit=1)).signal == signal.SIGTERM


def test_output(start_with, place):
    good = program(place, "good", "#!/bin/sh\nhead -c 100000 /dev/zero\n"
                                  "head -c 5000 /dev/zero >&2\n")
    channel = start_with(RULE + "output-bytes = 10K\n").connect()
    result = run(channel, good)
    assert (len(result.out), len(result.err), result.truncated) == (10240, 5000, {"out"})


def test_how_many_at_once(start_with, place):
    good = program(place, "good", "#!/bin/sh\nexec sleep 1000\n")
    other = program(place, "other")
    channel = start_with(RULE + "at-once = 2\n[program other]\npath = PLACE/other\n"
                                "at-once = 1\n").connect()
    text = "2 programs are running, which the rule [program good] allows at once"
    pids = [start(channel, good) for _ in range(2)]
    for _ in range(3):
        assert refused(channel, good) == text
        assert run(channel, other).code == 0  # one after the other is not at once
    os.kill(pids[0], signal.SIGKILL)
    assert wait(channel, pids[0]).signal == signal.SIGKILL
    pids[0] = start(channel, good)
    assert refused(channel, good) == text
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        wait(channel, pid)


def test_many_that_come_together(start_with, place):
    """Side by side: never more than the rule allows."""
    good = program(place, "good", "#!/bin/sh\nexec sleep 1000\n")
    channel = start_with(RULE + "at-once = 3\n").connect()
    for number in range(30):
        channel.send({"execute": "guest-exec", "id": number, "arguments": {"path": good}})
    replies = channel.read_replies(30)
    pids = [reply["return"]["pid"] for reply in replies if "return" in reply]
    assert len(pids) == 3
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        wait(channel, pid)


def test_limits(start_with, place):
    good = program(place, "good", "#!/bin/sh\nulimit -n; ulimit -H -n; ulimit -c\n")
    channel = start_with(RULE + "limit-nofile = 33\nlimit-core = 0\n").connect()
    assert run(channel, good).out == b"33\n33\n0\n"


# --- what it has left ----------------------------------------------------------------------------

SHOW = "#!/bin/sh\ngrep -E '^(Uid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status\n"


def facts(result):
    assert result.code == 0, result
    return dict(line.split(":\t") for line in result.out.decode().splitlines())


def test_by_default_it_has_nothing(start_with, place):
    good = program(place, "good", SHOW)
    shown = facts(run(start_with(RULE).connect(), good))
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (
            ("CapBnd",) if os.geteuid() == 0 else ()):
        assert int(shown[name], 16) == 0, name
    assert shown["NoNewPrivs"] == "1"


@as_root
def test_capabilities(start_with, place):
    good = program(place, "good", SHOW)
    kill, chown = 1 << 5, 1 << 0
    for text, user in (("", 0), ("user = nobody\n", pwd.getpwnam("nobody").pw_uid)):
        channel = start_with(RULE + text + "capabilities = kill, chown\n").connect()
        shown = facts(run(channel, good))
        assert shown["Uid"].split() == [str(user)] * 4
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(shown[name], 16) == kill | chown, name


@as_root
def test_users_and_groups(start_with, place):
    good = program(place, "good", SHOW)
    nobody = pwd.getpwnam("nobody")
    channel = start_with(RULE + "user = nobody\n").connect()
    shown = facts(run(channel, good))
    assert shown["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert int(shown["CapPrm"], 16) == int(shown["CapBnd"], 16) == 0
    assert run(channel, good, user="nobody").code == 0  # what the rule says may be said
    assert "does not allow the user" in refused(channel, good, user="daemon")
    channel = start_with(RULE + "user = nobody\ngroups = 4242, daemon\n").connect()
    groups = facts(run(channel, good))["Groups"].split()
    assert set(map(int, groups)) == {4242, 1} or "4242" in groups
    channel = start_with(RULE + "user = *\n").connect()
    daemon = pwd.getpwnam("daemon").pw_uid
    assert facts(run(channel, good, user="daemon"))["Uid"].split() == [str(daemon)] * 4
    assert "no-such" in refused(channel, good, user="no-such")


def has_landlock():
    """Whether the kernel has it: by the raw system call, as the agent asks."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) > 0


def test_scope(start_with, place):
    if not has_landlock():
        pytest.skip("the kernel has no Landlock")
    (place / "inside").mkdir()
    (place / "inside" / "file").write_text("inside")
    (place / "outside").write_text("outside")
    good = program(place, "good", "#!/bin/sh\ncat %s/inside/file; cat %s/outside; "
                   "echo x >%s/made; true\n" % ((place,) * 3))
    channel = start_with(RULE + "execute-paths = /bin, /usr, /lib, /lib64\n"
                                "read-paths = PLACE/inside\n").connect()
    result = run(channel, good)
    assert result.out == b"inside"
    assert result.err.count(b"ermission denied") == 2
    assert not (place / "made").exists()


def test_system_calls(start_with, place):
    good = program(place, "good", "#!/bin/sh\nmkdir %s/made || echo refused\n" % place)
    channel = start_with(RULE + 'system-calls = "!mkdir", "!mkdirat"\n').connect()
    assert run(channel, good).out == b"refused\n"
    assert not (place / "made").exists()


def test_what_cannot_be_put_in_force_is_not_run(start_with, place):
    good = program(place, "good")
    channel = start_with(RULE + "cwd = PLACE/nothing\n").connect()
    assert refused(channel, good) == "the rule [program good] cannot be put in force: " \
        "%s/nothing: No such file or directory" % place


@as_root
@pytest.mark.parametrize("profile", ["full", "provision"])
@pytest.mark.parametrize("confined", ["execute-paths = /bin, /usr, /lib, /lib64\nread-paths = /\n",
                                      "system-calls = !mount\ncapabilities = sys_admin\n"])
def test_confined_and_with_new_privileges(start_with, place, profile, confined):
    """Landlock and seccomp are only for who has no_new_privs, or CAP_SYS_ADMIN: the broker has it
    for the one, and the rule has to leave it for the other."""
    if "paths" in confined and not has_landlock():
        pytest.skip("the kernel has no Landlock")
    good = program(place, "good", SHOW)
    channel = start_with(RULE + "new-privileges = true\n" + confined,
                         args=["--profile", profile, "--set", "policy.user=no-such-user"]).connect()
    shown = facts(run(channel, good))
    assert shown["NoNewPrivs"] == "0"
    assert shown["Seccomp"] == ("2" if "system-calls" in confined else "0")


# --- whose it is ---------------------------------------------------------------------------------

TWO = """
[channel other]
method = unix-listen
path = DIRECTORY/other
profile = provision
"""


def test_programs_belong_to_their_profile(start_with, place):
    """Also after a restart; another profile's channel cannot tell them from what never was."""
    good = program(place, "good", "#!/bin/sh\nexec cat\n")
    agent = start_with(RULE, config=TWO)
    full = agent.connect()
    other = agent.connect(path=os.path.join(agent.directory, "other"))
    pids = {full: start(full, good, stdin_open=True), other: start(other, good, stdin_open=True)}

    def check(full, other, full_pid, other_pid):
        for mine, theirs, my_pid, their_pid in ((full, other, full_pid, other_pid),
                                                (other, full, other_pid, full_pid)):
            assert status(mine, my_pid) == {"exited": False}
            for command, arguments in (("guest-exec-status", {}), ("bellhop-job-input",
                                                                   {"eof": True})):
                with pytest.raises(AgentError) as caught:
                    mine.cmd(command, dict(arguments, pid=their_pid))
                assert caught.value.desc == "Invalid parameter 'pid'"

    check(full, other, pids[full], pids[other])
    agent.kill()
    agent = start_with(RULE, config=TWO, directory=agent.directory)
    new_full = agent.connect()
    new_other = agent.connect(path=os.path.join(agent.directory, "other"))
    check(new_full, new_other, pids[full], pids[other])
    for channel, pid in ((new_full, pids[full]), (new_other, pids[other])):
        channel.cmd("bellhop-job-input", {"pid": pid, "data-b64": encoded(b"x"), "eof": True})
        assert wait(channel, pid).code == 0


def test_rules_are_for_their_profiles(start_with, place):
    good = program(place, "good")
    agent = start_with(RULE + "profiles = provision\n", config=TWO)
    full = agent.connect()
    other = agent.connect(path=os.path.join(agent.directory, "other"))
    assert run(other, good).code == 0
    assert refused(full, good) == no_rule(good)


def test_an_older_broker_starts_nothing(start_with, place):
    """A tightened policy cannot be got around through the broker that an earlier agent left."""
    good = program(place, "good", "#!/bin/sh\nexec sleep 1000\n")
    other = program(place, "other")
    agent = start_with(RULE + "[program other]\npath = PLACE/other\n")
    with agent.connect() as channel:
        pid = start(channel, good)
        assert run(channel, other).code == 0
    agent.kill()
    agent = start_with(RULE, directory=agent.directory)
    with agent.connect() as channel:
        assert status(channel, pid) == {"exited": False}
        assert refused(channel, other) == no_rule(other)
        os.kill(pid, signal.SIGKILL)
        assert wait(channel, pid).signal == signal.SIGKILL


# --- what is told of it --------------------------------------------------------------------------


def test_a_refusal_is_audited(start_with, place):
    good = program(place, "good")
    agent = start_with("[policy]\naudit = PLACE/audit\n" + ARGUMENTS)
    channel = agent.connect()
    refused(channel, good, "forbidden")
    refused(channel, "/bin/sh")
    assert run(channel, good, "show", "x").code == 0

    def records():
        try:
            with open(place / "audit") as file:
                return [record for record in map(json.loads, file)
                        if record.get("command") == "guest-exec"]
        except (FileNotFoundError, ValueError):
            return []

    wait_until(lambda: any(r.get("result") == "done" for r in records()), 20, "the audit")
    rules = [record["rule"] for record in records() if record.get("decision") == "refused"]
    assert rules == ["[program good]", "profile full"]


# --- the agent's own programs --------------------------------------------------------------------


def test_own_programs_need_no_rule(start_with, place):
    """Keys are looked for by a program of the agent's own: no rule is about it."""
    program(place, "good")
    channel = start_with(RULE).connect()
    with pytest.raises(AgentError) as caught:
        channel.cmd("guest-ssh-get-authorized-keys", {"username": "no-such-user-at-all"})
    assert caught.value.desc.startswith("failed to lookup user 'no-such-user-at-all'")
