/* SPDX-License-Identifier: MIT */
#include "jobs/child.h"

#include "jobs/child-user.h"

#include <fcntl.h>
#include <paths.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define OOM_FILE "/proc/self/oom_score_adj"

/* Written as one piece, which a pipe neither splits nor mixes. */
struct note {
    int outcome;
    int stage;
    int error;
};

static _Noreturn void tell_and_end(int note_fd, enum child_outcome outcome, enum broker_stage stage)
{
    struct note note = {.outcome = outcome, .stage = stage, .error = errno};
    ssize_t written = write(note_fd, &note, sizeof(note));
    _exit(written == sizeof(note) ? 127 : 126);
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
 * Puts the three descriptors in their places and the note's pipe at 3, and closes the rest. The
 * sources are all above 2, so 0 to 2 overwrite none of them; the note's pipe comes last.
 */
static int arrange_fds(const struct child_spec *spec, int *note_fd)
{
    for (int i = 0; i < 3; i++) {
        if (dup2(spec->fds[i], i) < 0)
            return -1;
    }
    if (*note_fd != 3) {
        if (dup3(*note_fd, 3, O_CLOEXEC) < 0)
            return -1;
        *note_fd = 3;
    }
    child_close_from(4);
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

static _Noreturn void fail(int note_fd, enum broker_stage stage, int error)
{
    errno = -error;
    tell_and_end(note_fd, CHILD_FAILED, stage);
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
        fail(note_fd, BROKER_STAGE_USER, error);
    spec->environment = child_user_environment(user, spec->environment);
    if (!spec->environment)
        fail(note_fd, BROKER_STAGE_SETUP, -ENOMEM);
}

static _Noreturn void run_child(const struct child_spec *given_spec, int note_fd)
{
    struct child_spec own_spec = *given_spec, *spec = &own_spec;
    struct child_user user;
    if (spec->pid_is_taken && spec->pid_is_taken(spec->context, getpid()))
        tell_and_end(note_fd, CHILD_PID_TAKEN, BROKER_STAGE_SETUP);

    reset_signals();
    umask(spec->origin->umask);
    restore_oom_score(spec->origin->oom_score_adj);
    if (setsid() < 0)
        tell_and_end(note_fd, CHILD_FAILED, BROKER_STAGE_SETUP);
    /* Before the descriptors are closed: a name service may leave some open. */
    settle_user(spec, &user, note_fd);
    if (arrange_fds(spec, &note_fd) < 0 || setrlimit(RLIMIT_NOFILE, &spec->origin->open_files) < 0)
        tell_and_end(note_fd, CHILD_FAILED, BROKER_STAGE_SETUP);
    int error = spec->user ? child_user_become(&user) : 0;
    if (error)
        fail(note_fd, BROKER_STAGE_USER, error);
    /* With the user's rights: it may be one that only they can enter. */
    if (spec->directory && chdir(spec->directory) < 0)
        tell_and_end(note_fd, CHILD_FAILED, BROKER_STAGE_DIRECTORY);

    if (spec->program[0] == '\0')
        errno = ENOENT;
    else if (strchr(spec->program, '/'))
        exec_path(spec->program, spec);
    else
        exec_in_path(spec);
    tell_and_end(note_fd, CHILD_FAILED, BROKER_STAGE_EXEC);
}

int child_fork(const struct child_spec *spec, struct child *ret_child)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
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
        int error = errno;
        kill(pid, SIGKILL);
        return -error;
    }
    *ret_child = (struct child){.pid = pid, .pidfd = pidfd, .note_fd = take_fd(&note_fd)};
    return 0;
}

enum child_outcome child_read_note(int note_fd, enum broker_stage *ret_stage, int *ret_error)
{
    struct note note;
    ssize_t got;
    do
        got = read(note_fd, &note, sizeof(note));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return CHILD_UNDECIDED;
    if (got != sizeof(note))
        return CHILD_RUNS;
    *ret_stage = note.stage;
    *ret_error = note.error;
    return note.outcome == CHILD_PID_TAKEN ? CHILD_PID_TAKEN : CHILD_FAILED;
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
