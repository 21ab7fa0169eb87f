/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_JOB_H
#define BELLHOP_JOBS_BROKER_JOB_H

/*
 * One program in the broker's keeping: its process, its pipes, its output, its end. Lives in the
 * broker process, which has one thread.
 *
 * It is done, and told to be, when it has ended and its output is at its end. Where a background
 * child keeps the pipe open, it is done when its end and the last byte are both 1 s ago, and at the
 * latest 5 s after its end.
 *
 * One that has a time limit is ended by the broker when that has passed: SIGTERM to its process
 * group, and BROKER_GRACE_MS later SIGKILL to what is left of the group. A program that ends in
 * between is done, but its process stays unreaped until the group was killed: so its number cannot
 * have become somebody else's.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "jobs/broker-input.h"
#include "jobs/broker-payload.h"
#include "jobs/broker-policy.h"
#include "jobs/broker-protocol.h"
#include "jobs/broker-stream.h"
#include "jobs/child.h"

#define BROKER_LINGER_QUIET_MS 1000
#define BROKER_LINGER_MAX_MS   5000
#define BROKER_GRACE_MS        5000

/* What the agent has still to be told of a job, in the order in which it is told. */
enum broker_note {
    BROKER_NOTE_LISTED = 1 << 0, /* all of it, to an agent that took over */
    BROKER_NOTE_SPAWNED = 1 << 1,
    BROKER_NOTE_SPAWN_FAILED = 1 << 2,
    BROKER_NOTE_OUTPUT = 1 << 3, /* and the next bit: of the second stream */
    BROKER_NOTE_OUTPUT_SECOND = 1 << 4,
    BROKER_NOTE_INPUT_TAKEN = 1 << 5,
    BROKER_NOTE_INPUT_DONE = 1 << 6,
    BROKER_NOTE_EXITED = 1 << 7,
};

struct broker_context;
struct broker_job;

/* What all jobs of a broker share. */
struct broker_context {
    int poll_fd;
    struct broker_budget budget;
    uint64_t stream_bytes_max;
    uint64_t input_bytes_max; /* of input that was added and not taken yet, of one program */
    struct child_origin origin;
    const char *search_path; /* the agent's PATH, or NULL */
    const struct broker_policy *policy;     /* NULL: none */
    struct syscall_filter *const *filters;  /* of its rules */

    /* How many programs run under that rule. */
    uint64_t (*count_under)(struct broker_context *context, size_t rule);

    bool (*pid_is_taken)(const void *context, pid_t pid);
    const void *pid_context;

    void (*changed)(struct broker_job *job); /* it has notes, or may have become idle */
};

struct broker_job {
    /* the broker's, which made it */
    struct list all;
    struct list noted;    /* has notes */
    struct list lingers;  /* has ended, its pipes have not */
    struct list finished; /* is done and its result kept; in that order */
    struct list timed;    /* has a time at which something is due */
    unsigned notes;       /* enum broker_note */

    /* the job's own; others only look */
    struct broker_context *context;
    uint64_t id;
    struct broker_asker asker;
    enum broker_job_state state;
    bool has_failed;  /* it never ran: `failed_error`, `failed_stage` */
    bool is_released; /* nobody will ask for its result */
    bool has_ended;   /* its process has */
    bool is_unreaped; /* it has ended and is kept until its group was killed */
    bool has_timed_out;
    bool retries;     /* its process had a pid that is taken; another will be forked */
    unsigned attempts;
    int failed_error;
    enum broker_stage failed_stage;
    char *failed_reason; /* with BROKER_STAGE_POLICY; NULL: it is not known */
    bool has_rule;       /* it runs, or will, under a rule: */
    size_t rule;
    int wait_status;
    uint64_t due_ms; /* when its time is up, or its grace; 0: it has all the time */
    uint64_t started_ms;
    uint64_t ended_ms;
    uint64_t finished_ms;
    int64_t started_unix_ms;

    struct spawn_plan plan; /* until the exec has come back */
    enum broker_capture capture;
    pid_t pid;
    struct broker_source process; /* its pidfd */
    struct broker_source note;    /* tells how its exec went */
    struct broker_input input;
    struct broker_stream streams[BROKER_STREAMS];
};

/*
 * Forks for the plan, which it takes. What becomes of it is told by notes, also if it fails at
 * once. Returns NULL if there is no memory; the plan is then released.
 */
struct broker_job *broker_job_new_take(struct broker_context *context, uint64_t id,
                                       const struct broker_asker *asker, struct spawn_plan *plan);

/*
 * One that is not even tried, for a reason that its note tells: a positive errno, and if the policy
 * refuses it a text, else NULL. NULL: no memory.
 */
struct broker_job *broker_job_new_refused(struct broker_context *context, uint64_t id, int error,
                                          const char *reason);

/* Closes what it has open; a process that still runs is left alone. Returns NULL. */
struct broker_job *broker_job_free(struct broker_job *job);

/* Nobody will ask for its result: the memory goes now, the rest when it has ended. */
void broker_job_release(struct broker_job *job);

/* Returns 0, or -ESRCH once it has ended. */
int broker_job_signal(struct broker_job *job, int number, bool to_group);

/*
 * Adds input to a program that runs; none if `length` is 0. After the last one its input ends.
 * Returns as broker_input_add(), also -EPIPE for a program that is not there to read.
 */
int broker_job_add_input(struct broker_job *job, int memory_fd, uint64_t length,
                         bool is_last) MUST_CHECK;

/* Does what is due at that time, for a job whose `due_ms` has come. */
void broker_job_check_due(struct broker_job *job, uint64_t now_ms);

/* When to call broker_job_check() next, for one that lingers. CLOCK_MONOTONIC, ms. */
uint64_t broker_job_linger_until(const struct broker_job *job);

/* Finishes a lingering job whose time has come. */
void broker_job_check(struct broker_job *job, uint64_t now_ms);

/* True if it has ended but its pipes have not. */
bool broker_job_lingers(const struct broker_job *job);

/* True if there is nothing left to wait for and nobody to keep it for. */
bool broker_job_is_idle(const struct broker_job *job);

void broker_job_facts(const struct broker_job *job, struct broker_facts *ret_facts);

#endif
