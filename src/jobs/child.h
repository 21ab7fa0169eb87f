/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_CHILD_H
#define BELLHOP_JOBS_CHILD_H

/*
 * A child process from the fork to the exec. Only the broker has children.
 *
 * The exec may hang (a program on a mount that does not answer), so nobody waits for it: the
 * child says through a pipe that closes with the exec how it went. fork(), not vfork(): the latter
 * would hold the broker until the exec is done.
 *
 * What the program finds is the same whatever the agent is doing: its three descriptors and no
 * other, every signal at its default and none blocked, a session of its own, and the umask, the
 * limit of open files and the OOM score that the agent was started with.
 *
 * With a user it has that one's credentials and groups. Its environment begins with what a login
 * sets, and what it is given comes on top of that; the agent's own is not passed on.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "jobs/broker-protocol.h"
#include "jobs/child-gate.h"

/* What the agent was started with, and what its children get. */
struct child_origin {
    mode_t umask;
    struct rlimit open_files;
    char oom_score_adj[16]; /* as the kernel wrote it; "" when it is not to be touched */
};

struct child_spec {
    const char *program;      /* searched in PATH when it has no slash */
    char *const *arguments;   /* NULL-terminated, with argv[0] */
    char *const *environment; /* NULL-terminated; NULL: the caller's own, or with a user none. Its PATH, if it has one, is the one searched */
    const char *search_path;  /* else this one; NULL: what execvp(3) takes then */
    const char *directory;    /* to work in; NULL: as it is */
    const char *user;         /* to become (child-user.h); NULL: as it is */
    const struct child_gate *gate; /* that it has to pass (child-gate.h); NULL: none */
    int fds[3];               /* what becomes 0, 1 and 2; each above 2 */
    const struct child_origin *origin;

    /* True if a result is kept under that pid: the child then ends without having done anything.
     * Called in the child, on its copy of the memory. NULL: any pid will do. */
    bool (*pid_is_taken)(const void *context, pid_t pid);
    const void *context;
};

struct child {
    pid_t pid;
    int pidfd;   /* readable once it has ended */
    int note_fd; /* readable once there is a note of how the exec went; non-blocking */
};

#define CHILD_INIT                           \
    {                                        \
        .pid = 0, .pidfd = -1, .note_fd = -1 \
    }

/* Forks. Returns 0 with the child (to be reaped by the caller), or -errno. */
int child_fork(const struct child_spec *spec, struct child *ret_child) MUST_CHECK;

enum child_outcome {
    CHILD_UNDECIDED, /* the exec has not come back yet */
    CHILD_RUNS,      /* the program runs (or ran) */
    CHILD_FAILED,    /* it does not: `stage` and `error` say why */
    CHILD_PID_TAKEN, /* fork again */
    CHILD_MATCHED,   /* `rule` allows it; another note follows */
};

struct child_note {
    enum child_outcome outcome;
    enum broker_stage stage;
    int error;                     /* a positive errno */
    size_t rule;                   /* its index */
    bool awaits_answer;            /* child_answer() decides whether it goes on */
    char reason[CHILD_REASON_MAX]; /* for the client; with BROKER_STAGE_POLICY */
};

/* Reads the next note of how the exec went; its outcome always says something. Never blocks. */
void child_read_note(int note_fd, struct child_note *ret_note);

/* Lets a child go on that awaits it, or not: then it fails. Never blocks. */
void child_answer(int note_fd, bool goes_on);

/* Fills in what the calling process has now. */
void child_origin_read(struct child_origin *origin);

/* Closes every descriptor from that number on, in the calling process. */
void child_close_from(unsigned first);

#endif
