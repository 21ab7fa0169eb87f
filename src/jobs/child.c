/* SPDX-License-Identifier: MIT */
#include "jobs/child.h"

#include "jobs/child-gate.h"
#include "jobs/child-user.h"
#include "security/program-rule.h"

#include <fcntl.h>
#include <paths.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define OOM_FILE "/proc/self/oom_score_adj"

/* A note is written as one piece, which a pipe neither splits nor mixes. */
static _Noreturn void tell_and_end(int note_fd, const struct child_note *note)
{
    ssize_t written = write(note_fd, note, sizeof(*note));
    _exit(written == sizeof(*note) ? 127 : 126);
}

static _Noreturn void fail(int note_fd, enum broker_stage stage, int error)
{
    const struct child_note note = {.outcome = CHILD_FAILED, .stage = stage, .error = error};
    tell_and_end(note_fd, &note);
}

/* It may not be run, or not as it has to be; `error` is negative. */
static _Noreturn void fail_policy(int note_fd, int error, const char *reason)
{
    struct child_note note = {
        .outcome = CHILD_FAILED, .stage = BROKER_STAGE_POLICY, .error = -error};
    snprintf(note.reason, sizeof(note.reason), "%s", reason);
    tell_and_end(note_fd, &note);
}

static void reset_signals(void)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &by_default, NULL); /* SIGKILL, SIGSTOP, glibc's own: refused */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void restore_oom_score(const char *score)
{
    if (!score[0])
        return;
    int fd = open(OOM_FILE, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    /* Best effort: raising it back is always allowed, and a system without it has nothing to undo.
     */
    (void)!write(fd, score, strlen(score));
    close(fd);
}

void child_close_from(unsigned first)
{
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
    /* An old kernel, or a filter that does not know it. */
    int end = getdtablesize();
    for (int fd = (int)first; fd < end; fd++)
        close(fd);
}

/*
 * Puts the three descriptors in their places, the note's at 3 and the program's, if it is open
 * (else -1), at 4, and closes the rest. The sources are all above 2, so 0 to 2 overwrite none of
 * them; the other two are first moved out of each other's way.
 */
static int arrange_fds(const struct child_spec *spec, int *note_fd, int *program_fd)
{
    for (int i = 0; i < 3; i++) {
        if (dup2(spec->fds[i], i) < 0)
            return -1;
    }
    if (*program_fd >= 0 && (*program_fd = fcntl(*program_fd, F_DUPFD_CLOEXEC, 5)) < 0)
        return -1;
    if (*note_fd != 3) {
        if (dup3(*note_fd, 3, O_CLOEXEC) < 0)
            return -1;
        *note_fd = 3;
    }
    if (*program_fd >= 0) {
        if (dup3(*program_fd, 4, O_CLOEXEC) < 0)
            return -1;
        *program_fd = 4;
    }
    child_close_from(*program_fd >= 0 ? 5 : 4);
    return 0;
}

/* The kernel does not know the format: a script without "#!" is the shell's, as with execvp(3). */
static void exec_by_shell(const char *path, const struct child_spec *spec)
{
    size_t count = 0;
    while (spec->arguments[count])
        count++;
    /* Nobody else is in this process, so the child may allocate. */
    const char **arguments = calloc(count + 2, sizeof(*arguments));
    if (!arguments)
        return;
    arguments[0] = _PATH_BSHELL;
    arguments[1] = path;
    for (size_t i = 1; i < count; i++)
        arguments[i + 1] = spec->arguments[i];
    execve(_PATH_BSHELL, (char *const *)arguments, spec->environment);
    free(arguments);
}

/* Returns only when it failed, with errno set. */
static void exec_path(const char *path, const struct child_spec *spec)
{
    execve(path, spec->arguments, spec->environment);
    if (errno == ENOEXEC)
        exec_by_shell(path, spec);
}

static const char *search_path_of(const struct child_spec *spec)
{
    for (char *const *entry = spec->environment; *entry; entry++) {
        if (strncmp(*entry, "PATH=", 5) == 0)
            return *entry + 5;
    }
    return spec->search_path ? spec->search_path : "/bin:/usr/bin";
}

/* True if the next directory is worth a try: there is no such program in this one. */
static bool search_goes_on(int error)
{
    return error == ENOENT || error == ENOTDIR || error == EACCES || error == ESTALE ||
           error == ENODEV || error == ETIMEDOUT || error == ENAMETOOLONG;
}

/* As execvp(3), but with the PATH that the program will have. Returns only when it failed. */
static void exec_in_path(const struct child_spec *spec)
{
    const char *directory = search_path_of(spec);
    size_t program_length = strlen(spec->program);
    char *path = malloc(strlen(directory) + program_length + 3);
    if (!path)
        return;
    bool was_denied = false;
    errno = ENOENT;
    for (;;) {
        size_t length = strcspn(directory, ":");
        /* An empty entry is the working directory. */
        char *at = mempcpy(path, length > 0 ? directory : ".", length > 0 ? length : 1);
        *at++ = '/';
        memcpy(at, spec->program, program_length + 1);
        exec_path(path, spec);
        if (!search_goes_on(errno))
            break;
        was_denied |= errno == EACCES;
        if (directory[length] == '\0') {
            errno = was_denied ? EACCES : ENOENT;
            break;
        }
        directory += length + 1;
    }
    free(path);
}

/* Fills in the environment that the program will have. */
static void settle_user(struct child_spec *spec, struct child_user *user, int note_fd)
{
    if (!spec->user) {
        if (!spec->environment)
            spec->environment = environ;
        return;
    }
    int error = child_user_find(spec->user, user);
    if (error)
        fail(note_fd, BROKER_STAGE_USER, -error);
    spec->environment = child_user_environment(user, spec->environment);
    if (!spec->environment)
        fail(note_fd, BROKER_STAGE_SETUP, ENOMEM);
}

static void settle_fds(const struct child_spec *spec, int *note_fd, int *program_fd)
{
    if (arrange_fds(spec, note_fd, program_fd) < 0 ||
        setrlimit(RLIMIT_NOFILE, &spec->origin->open_files) < 0)
        fail(*note_fd, BROKER_STAGE_SETUP, errno);
}

/* Where no rules are: as what was asked for. */
static _Noreturn void run_freely(struct child_spec *spec, int note_fd)
{
    struct child_user user;
    int no_fd = -1;
    /* Before the descriptors are closed: a name service may leave some open. */
    settle_user(spec, &user, note_fd);
    settle_fds(spec, &note_fd, &no_fd);
    int error = spec->user ? child_user_become(&user) : 0;
    if (error)
        fail(note_fd, BROKER_STAGE_USER, -error);
    /* With the user's rights: it may be one that only they can enter. */
    if (spec->directory && chdir(spec->directory) < 0)
        fail(note_fd, BROKER_STAGE_DIRECTORY, errno);
    if (spec->program[0] == '\0')
        errno = ENOENT;
    else if (strchr(spec->program, '/'))
        exec_path(spec->program, spec);
    else
        exec_in_path(spec);
    fail(note_fd, BROKER_STAGE_EXEC, errno);
}

/* Tells which rule it is, and asks whether one more may run under it where that is limited. */
static void tell_rule(int note_fd, const struct child_permit *permit)
{
    const struct child_note note = {
        .outcome = CHILD_MATCHED,
        .rule = permit->rule_index,
        .awaits_answer = permit->rule->at_once > 0,
    };
    char answer = 0, reason[CHILD_REASON_MAX];
    if (write(note_fd, &note, sizeof(note)) != sizeof(note))
        _exit(126);
    if (!note.awaits_answer || (read(note_fd, &answer, 1) == 1 && answer))
        return;
    snprintf(reason, sizeof(reason),
             "%llu programs are running, which the rule [program %s] allows "
             "at once",
             (unsigned long long)permit->rule->at_once, permit->rule->name);
    fail_policy(note_fd, -EBUSY, reason);
}

static _Noreturn void run_by_rule(const struct child_spec *spec, int note_fd)
{
    static struct child_permit permit;
    char reason[CHILD_REASON_MAX];
    const struct child_request request = {
        .program = spec->program,
        .arguments = spec->arguments,
        .environment = spec->environment,
        .search_path = spec->search_path,
        .directory = spec->directory,
        .user = spec->user,
    };
    int error = child_gate_pass(spec->gate, &request, &permit, reason);
    if (error)
        fail_policy(note_fd, error, reason);
    tell_rule(note_fd, &permit);
    settle_fds(spec, &note_fd, &permit.program_fd);
    error = child_gate_confine(spec->gate, &permit, reason);
    if (error)
        fail_policy(note_fd, error, reason);
    fail(note_fd, BROKER_STAGE_EXEC, -child_gate_exec(&permit));
}

static _Noreturn void run_child(const struct child_spec *given_spec, int note_fd)
{
    static const struct child_note pid_is_taken = {.outcome = CHILD_PID_TAKEN};
    struct child_spec spec = *given_spec;
    if (spec.pid_is_taken && spec.pid_is_taken(spec.context, getpid()))
        tell_and_end(note_fd, &pid_is_taken);

    reset_signals();
    umask(spec.origin->umask);
    restore_oom_score(spec.origin->oom_score_adj);
    if (setsid() < 0)
        fail(note_fd, BROKER_STAGE_SETUP, errno);
    if (spec.gate)
        run_by_rule(&spec, note_fd);
    run_freely(&spec, note_fd);
}

/* With rules there may be an answer to a note; else a pipe, which costs less, is enough. */
static int open_note(const struct child_spec *spec, int ret_ends[2])
{
    int error = spec->gate ? socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_ends)
                           : pipe2(ret_ends, O_CLOEXEC);
    return error < 0 ? -errno : 0;
}

int child_fork(const struct child_spec *spec, struct child *ret_child)
{
    int ends[2];
    int error = open_note(spec, ends);
    if (error)
        return error;
    _cleanup_close_ int note_fd = ends[0];
    _cleanup_close_ int child_end = ends[1];
    if (fcntl(note_fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    /* Holds the place of the pidfd: once the child runs, its pidfd must not fail for a limit. */
    _cleanup_close_ int placeholder = fcntl(note_fd, F_DUPFD_CLOEXEC, 3);
    if (placeholder < 0)
        return -errno;

    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        run_child(spec, child_end);

    placeholder = close_fd(placeholder);
    /* Not by their glibc names: those are younger than the systems that this is to run on. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        /* No kernel memory. Waiting here could last for ever (its exec may hang), so it is killed
         * and stays a zombie: better than a broker that stands still. */
        error = errno;
        kill(pid, SIGKILL);
        return -error;
    }
    *ret_child = (struct child){.pid = pid, .pidfd = pidfd, .note_fd = take_fd(&note_fd)};
    return 0;
}

void child_read_note(int note_fd, struct child_note *ret_note)
{
    ssize_t got;
    do
        got = read(note_fd, ret_note, sizeof(*ret_note));
    while (got < 0 && errno == EINTR);
    /* One that was killed has closed it, too: its end comes. */
    if (got != sizeof(*ret_note))
        ret_note->outcome =
            got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? CHILD_UNDECIDED : CHILD_RUNS;
    ret_note->reason[sizeof(ret_note->reason) - 1] = '\0';
}

void child_answer(int note_fd, bool goes_on)
{
    const char answer = goes_on;
    /* A child that is gone needs none. */
    (void)!send(note_fd, &answer, sizeof(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void child_origin_read(struct child_origin *origin)
{
    memset(origin, 0, sizeof(*origin));
    origin->umask = umask(0);
    umask(origin->umask);
    if (getrlimit(RLIMIT_NOFILE, &origin->open_files) < 0)
        origin->open_files = (struct rlimit){.rlim_cur = 1024, .rlim_max = 4096};
    _cleanup_close_ int fd = open(OOM_FILE, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, origin->oom_score_adj, sizeof(origin->oom_score_adj) - 1) < 0)
        origin->oom_score_adj[0] = '\0';
    origin->oom_score_adj[strcspn(origin->oom_score_adj, "\n")] = '\0';
}
