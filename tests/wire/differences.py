# SPDX-License-Identifier: MIT
"""Every known difference between bellhop and the reference, in one place, with its justification.

A test asks agent.differs(NAME), which is true for the reference, and then expects what the
reference does; or it is marked `bellhop_only(NAME)`, where the reference cannot do the thing at
all. Asking for a name that is not listed is an error, and so is a listed name that the tests it is
listed for do not ask for: the list stays true. (conftest.py checks it, file by file.)
"""


class Difference:
    def __init__(self, files, reference, why):
        self.files = files.split()  # the test files that ask for it
        self.reference = reference  # what the reference does
        self.why = why  # why bellhop does otherwise


DIFFERENCES = {
    "policy": Difference(
        "test_policy test_policy_exec",
        "has no profiles, no rules, no peers and no audit.",
        "A host is to be able to do only what it was allowed to."),
    "0xff-is-answered": Difference(
        "test_envelope test_framing",
        "answers every 0xFF byte with a parse error of its own.",
        "No known client needs that line, some are confused by a line before the sync's reply; "
        "0xFF only resets the decoder."),
    "several-errors-for-one-fault": Difference(
        "test_envelope test_framing test_integers",
        "goes on after a fault in the middle of it and reports what follows as further faults.",
        "Clients match replies by their order: one request, one reply."),
    "overlong-nul-is-utf8": Difference(
        "test_envelope",
        "takes C0 80 as U+0000 (modified UTF-8).",
        "Overlong forms hide characters from checks; RFC 3629 forbids them."),
    "noncharacters-are-refused": Difference(
        "test_envelope",
        "refuses noncharacters such as U+FFFF.",
        "They are valid in UTF-8 and JSON, and may stand in a file's name."),
    "depth-limit-is-1024": Difference(
        "test_envelope",
        "takes 1024 levels of nesting.",
        "No command has more than three; limits.message-depth can be raised."),
    "cut-off-request-swallows-all": Difference(
        "test_framing",
        "never recovers from a request cut off between tokens unless it gets 0xFF.",
        "libvirt never sends 0xFF."),
    "unfinished-input-outlives-its-client": Difference(
        "test_framing test_hostile",
        "reads a new connection as the continuation of the last one.",
        "A client is not to suffer from what another one left."),
    "id-numbers-are-recalculated": Difference(
        "test_framing",
        "reads numbers as int64, uint64 or double and prints what that gives; 1e400 comes back as "
        "inf, which is not JSON.",
        "An id is the client's own, to be echoed as it is."),
    "id-members-are-shuffled": Difference(
        "test_framing",
        "echoes an object's members in the order of its hash table.",
        "An id is the client's own, to be echoed as it is."),
    "nul-in-a-path": Difference(
        "test_files",
        "takes a NUL in a path and makes a file of another name.",
        "What is opened must be what was named; the rules for paths look at the name."),
    "new-files-are-writable-for-all": Difference(
        "test_files",
        "creates files with mode 0666, whatever its umask.",
        "A file that root made is not to be everybody's to change; files.umask = 0 gives the "
        "classic mode."),
    "broken-base64-is-taken": Difference(
        "test_exec test_files",
        "takes base64 without its padding, or with data after it, and drops what is left over.",
        "Half a message must not be taken for a whole one."),
    "writes-wait-for-a-flush": Difference(
        "test_files",
        "buffers writes: they reach the file, and fail, at a flush, a close or when the buffer is "
        "full.",
        "A write that was answered has happened; an error belongs to the write that failed."),
    "short-reads-are-lost": Difference(
        "test_files",
        "loses what a non-blocking read got if it was less than was asked for.",
        "Data is not to be lost."),
    "half-a-write-tells-no-count": Difference(
        "test_files",
        "does not tell how much of a write was done before it failed.",
        "A client that goes on has to know where."),
    "slow-commands-block-everything": Difference(
        "test_exec test_files test_sessions",
        "carries out one command after another on its only thread.",
        "This is what bellhop exists for."),
    "no-list-of-allowed-commands": Difference(
        "test_cli test_info",
        "7.2 has no --allow-rpcs, it came with 8.0.",
        "bellhop takes the options of later versions, too."),
    "os-release-is-not-shell": Difference(
        "test_info",
        "knows only some of the shell's quoting, and no file at all that is not UTF-8.",
        "os-release(5) says that the file is one of shell assignments."),
    "lists-know-only-commas": Difference(
        "test_info",
        "7.2 takes only commas in the lists of its configuration file, later ones semicolons.",
        "bellhop takes both."),
    "no-config-option": Difference(
        "test_cli",
        "7.2 has no --config, it came with 9.1.",
        "bellhop takes the options of later versions, too."),
    "help-needs-the-configuration": Difference(
        "test_cli",
        "reads the configuration before it looks at -h, -V and -b help.",
        "Help is wanted most when the configuration is broken."),
    "list-spaces-are-part-of-names": Difference(
        "test_cli",
        "takes the space in 'a, b' and a ';' for a part of the names, so that b is not blocked.",
        "A command that is believed to be blocked must be blocked."),
    "values-are-not-checked": Difference(
        "test_cli",
        "takes any method and any state directory, and fails later.",
        "A configuration that -D prints without complaint should work."),
    "blacklist-hides-block-rpcs": Difference(
        "test_cli",
        "ignores block-rpcs in a file that has blacklist, too.",
        "A command that is believed to be blocked must be blocked."),
    "empty-values-are-paths": Difference(
        "test_cli",
        "takes an empty logfile, pidfile or fsfreeze-hook for a file of that name.",
        "There is no such file; empty means none."),
    "unknown-names-are-not-told": Difference(
        "test_cli",
        "ignores keys, groups, names in lists and arguments that it does not know without a word.",
        "A typo should not go unnoticed."),
    "the-socket-stays": Difference(
        "test_cli",
        "leaves its socket behind, and does not always hear the first signal.",
        "A socket that nobody listens on misleads clients; a service manager does not wait."),
    "pidfile-only-for-daemons": Difference(
        "test_cli",
        "ignores --pidfile in the foreground.",
        "It keeps a second agent from starting there, too."),
    "daemon-waits-until-ready": Difference(
        "test_service",
        "goes into the background before it has opened anything, and what fails then is not said.",
        "Whoever started it should know."),
    "one-channel": Difference(
        "test_service test_serial",
        "has one channel.",
        "A monitoring socket in the guest must not take the host's place."),
    "anything-is-a-serial-line": Difference(
        "test_serial",
        "opens any file as a serial line, also one that is none.",
        "A typing error in a path must not fill a file with replies."),
    "serial-line-is-not-opened-again": Difference(
        "test_serial",
        "does not serve a line any more that was hung up; with --retry-path it starts again from the "
        "beginning, after 5 seconds and without its file handles.",
        "A line that comes back is the same channel."),
    "one-passed-socket": Difference(
        "test_activation",
        "serves one socket that systemd passes, under whatever name, and no other channel.",
        "One socket unit may have several addresses, and a name says whose they are."),
    "logs-to-files-only": Difference(
        "test_service",
        "logs to a file or to stderr.",
        "A daemon's log belongs where the system keeps its logs."),
    "no-sd-notify": Difference(
        "test_service",
        "does not tell systemd that it is ready.",
        "What is ordered after the agent should find it there."),
    "log-counts-seconds": Difference(
        "test_cli",
        "writes seconds since 1970 into its log, and no arguments of requests.",
        "Dates can be read, and compared with other logs."),
    "failures-exit-with-0": Difference(
        "test_cli",
        "exits with 0 when it cannot open its log or its state.",
        "Whoever started it should know."),
    "a-stuck-log-stops-the-agent": Difference(
        "test_cli",
        "waits for its log on its only thread.",
        "A log is not to hold up requests."),
    "bind-mounts-are-listed": Difference(
        "test_disks",
        "7.2 lists a file system once for each of its mounts, later ones once.",
        "guest-get-fsinfo lists file systems; a freeze that took one twice would hang."),
    "loop-devices-have-no-disks": Difference(
        "test_disks",
        "does not follow a loop device to the disks that its file lies on.",
        "These are the disks that a snapshot has to include."),
    "covered-mounts-have-others-sizes": Difference(
        "test_disks",
        "reports the sizes of what is mounted over a file system as that file system's.",
        "No sizes are better than wrong ones."),
    "a-dead-file-system-blocks-everything": Difference(
        "test_disks",
        "never answers again when a file system does not answer statvfs().",
        "One dead disk must not take the channel with it."),
    "one-client-at-a-time": Difference(
        "test_conversations test_sessions",
        "serves one client of its socket; the next one waits until that has gone.",
        "A monitoring client must not be kept out by one that forgot to leave."),
    "limits-are-built-in": Difference(
        "test_exec test_limits",
        "has few limits, and none that can be set.",
        "What a client may cost has to be the operator's decision."),
    "hostile-input-hurts": Difference(
        "test_hostile",
        "answers each token after a fault with an error, keeps what is past its limits, takes "
        "seconds to minutes for some of it, and ends itself when clients come and go quickly.",
        "One error each, bounded memory and time, and other clients do not notice."),
    "exec-errors-are-wrapped": Difference(
        "test_exec",
        "7.2 puts the error of a failed start into another one; later versions do not.",
        "Clients look for \"Failed to execute child process\", which both have."),
    "exec-captures-both-or-nothing": Difference(
        "test_exec",
        "7.2 takes only a bool for capture-output; the modes came with 8.0.",
        "bellhop takes the arguments of later versions, too."),
    "exec-is-a-child-of-the-agent": Difference(
        "test_exec",
        "runs programs in its own session and process group, with the signals that it ignores "
        "ignored.",
        "A program must not end with the agent's terminal or service, and find the same wherever "
        "the agent was started."),
    "exec-status-is-lost-with-its-reply": Difference(
        "test_exec",
        "forgets a result as soon as it has answered, whether anybody read that or not.",
        "A client that was interrupted can ask again."),
    "exec-waits-for-background-children": Difference(
        "test_exec",
        "never reports the end of a program whose background child keeps its output open.",
        "The program has ended, and its client would wait for ever."),
    "no-jobs": Difference(
        "test_jobs",
        "does one thing at a time, and nobody can watch or end it.",
        "bellhop's own commands, named bellhop-job-..."),
    "exec-ends-with-the-agent": Difference(
        "test_exec_restart",
        "loses its programs' output and status when it ends.",
        "An agent's restart or crash must not be the end of somebody's work."),
    "no-load": Difference(
        "test_load",
        "7.2 has no guest-get-load, it came with 10.0.",
        "bellhop has the commands of later versions, too."),
    "memory-stays-where-it-was": Difference(
        "test_hostile",
        "keeps, after a large request or reply, several times its size.",
        "A guest's memory is its owner's."),
    "order-of-directories": Difference(
        "test_cpus",
        "lists processors and memory blocks in the order that sysfs happens to have, backwards.",
        "Numbers in order are easier to read and compare."),
    "blocks-of-several-zones": Difference(
        "test_cpus",
        "says of a memory block that spans zones that it can go offline.",
        "The kernel says in valid_zones that it cannot, and refuses it."),
    "smuggled-password": Difference(
        "test_changes",
        "sets what comes before a NUL in a password, and passes on an encrypted one with a colon.",
        "What is set must be what was asked for, and only that."),
    "exec-has-more-members": Difference(
        "test_exec_more",
        "has no time limit, directory or user for a program, and gives it its input at once only.",
        "A program that never ends, or talks, is what clients had to build helpers for."),
    "freezes-by-the-age-of-mounts": Difference(
        "test_freeze",
        "freezes the newest mount first, whatever rests on it, and then hangs.",
        "A file system on a loop device is frozen before the one that its file lies on."),
    "freezes-everything-it-is-told-to": Difference(
        "test_freeze",
        "cannot be told to leave a file system alone.",
        "freeze.exclude is for what must never stand still."),
    "long-paths-are-not-read": Difference(
        "test_freeze",
        "does not see a mount whose path is longer than a path may be.",
        "What was named and cannot be frozen is an error."),
    "frozen-commands-are-not-enabled": Difference(
        "test_freeze",
        "says in guest-info that commands are disabled, while they are refused only for the freeze.",
        "Hosts that look meanwhile take the agent for one that lacks them."),
    "no-record-of-a-freeze": Difference(
        "test_freeze",
        "keeps no record but a file that says frozen.",
        "There is nothing to compare."),
    "no-thaw-hook-after-a-failed-one": Difference(
        "test_freeze",
        "does not run the hook with `thaw` if it failed with `freeze`.",
        "What the hook had done before it failed is to be undone."),
    "waits-for-a-hook-for-ever": Difference(
        "test_freeze",
        "answers nobody while its hook runs, and has no limit of time for it.",
        "A hook that hangs must not take the agent with it."),
    "a-stuck-write-holds-up-the-thaw": Difference(
        "test_freeze",
        "hangs in a write to a frozen file system, and never reads the thaw.",
        "The thaw is what the write waits for."),
    "nobody-guards-the-thaw": Difference(
        "test_freeze_guard",
        "leaves the guest frozen for as long as nobody thaws, also when it is ended.",
        "A guest that stays frozen has to be reset."),
}

_asked = set()
current_file = None  # stem of the test file that runs now; set by conftest.py


def ask(name, kind):
    """True if an agent of that kind is on the reference's side of the difference."""
    if name not in DIFFERENCES:
        raise LookupError("difference %r is not listed in differences.py" % name)
    if current_file not in DIFFERENCES[name].files:
        raise LookupError("difference %r is not listed for %s" % (name, current_file))
    _asked.add((current_file, name))
    return kind == "reference"


def never_asked(files):
    """The differences listed for these test files that none of their tests asked for."""
    return sorted("%s: %s" % (file, name) for name, difference in DIFFERENCES.items()
                  for file in difference.files if file in files and (file, name) not in _asked)
