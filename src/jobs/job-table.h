/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_JOB_TABLE_H
#define BELLHOP_JOBS_JOB_TABLE_H

/*
 * Operations that outlast their request, and what came of them. Finding one costs the same however
 * many there are. Everything here is the I/O thread's alone, so there is no lock.
 *
 *     (queued ──▶) running ──▶ done, cancelled or lost ──▶ forgotten
 *
 * A job that is over is kept until its result was seen, or its retention has run out. When the
 * table is full, results that were at least written to a client go before their time, the one
 * answered longest ago first; what nobody was told yet never does: a new job is refused instead.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/thread.h"

struct event;
struct event_base;
struct job;
struct job_table;
struct settings;

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_DONE, /* its result is complete */
    JOB_CANCELLED,
    JOB_LOST, /* whoever ran it is gone; what became of it is not known */
};

/* What the kinds of jobs do differently. */
struct job_kind {
    const char *name; /* "exec" */
    /* The table lets go of it; references may remain. May be NULL. */
    void (*forgotten)(struct job *job);
    /* Frees it, with the last reference. */
    void (*free)(struct job *job);
    /* Bytes of result that it holds while it runs. NULL: none. */
    uint64_t (*held_bytes)(const struct job *job);
};

/* Embedded in each kind's own struct; zeroed but for `kind`, the times and `waiting_bytes`. */
struct job {
    /* immutable once it is in the table */
    uint64_t id;
    const struct job_kind *kind;
    uint64_t started_ms; /* CLOCK_MONOTONIC */
    int64_t started_unix_ms;
    unsigned profile; /* that it was made under: only that one's channels may know of it */

    /* changed by the functions below */
    enum job_state state;
    pid_t pid; /* the name that the classic commands know it by; 0: none (yet) */
    uint64_t finished_ms;
    uint64_t result_bytes; /* once it is over */
    bool is_abandoned;     /* nobody knows its name: forgotten when it is over */
    bool is_cancelled;     /* that was asked for, and it is on its way or has happened */

    /* changed by its kind */
    uint64_t waiting_bytes; /* of input that it has not taken yet */

    /* the table's */
    struct job_table *table; /* NULL: not in it (any more) */
    unsigned references;
    struct event *timer;              /* NULL: none was ever set */
    void (*time_up)(struct job *job); /* what it is set for */
    struct list by_age;    /* running: as they came; over: as they ended */
    struct list by_answer; /* among those whose result was written to a client */
    UT_hash_handle by_id;
    UT_hash_handle by_pid;
};

struct job_counts {
    size_t running; /* or queued */
    size_t kept;
    uint64_t seen;    /* results forgotten because they were seen, */
    uint64_t expired; /* because of their age, */
    uint64_t evicted; /* to make room; since the agent's start */
};

/* `base` drives the retention; NULL: job_table_expire() is called by somebody else. NULL: no
 * memory. */
struct job_table *job_table_new(struct event_base *base, const struct settings *settings) ON_LOOP;
/* Forgets all; what should outlive the agent has been taken from it before (broker_client_free()).
 */
struct job_table *job_table_free(struct job_table *table) ON_LOOP;

/*
 * Ids are counted up from `first`, unless one that was added has a higher one. An agent begins where
 * no earlier one can have come to.
 */
void job_table_start_ids(struct job_table *table, uint64_t first) ON_LOOP;

/* What a new job may come to hold. */
struct job_demand {
    uint64_t output_bytes;
    uint64_t input_bytes;
};

#define JOB_REASON_MAX 200

/*
 * Makes room for one more job, if the limits allow it. Returns 0, or -EBUSY with the reason, for
 * the client.
 */
int job_table_admit(struct job_table *table, const struct job_demand *demand,
                    char ret_reason[JOB_REASON_MAX]) ON_LOOP MUST_CHECK;

/*
 * Enters a job, running, under `id` if that is free and not 0, else under a new one. Takes one
 * reference, the caller's, on success. Returns 0 or -ENOMEM.
 */
int job_table_add_take(struct job_table *table, struct job *job, uint64_t id) ON_LOOP MUST_CHECK;

/* The same for one that waits for its turn: it is queued until job_table_begin(). */
int job_table_queue_take(struct job_table *table, struct job *job, uint64_t id) ON_LOOP MUST_CHECK;
void job_table_begin(struct job_table *table, struct job *job) ON_LOOP;

/* Makes it known under its pid. Returns 0; -EEXIST: another is, or it has one; or -ENOMEM. */
int job_table_set_pid(struct job_table *table, struct job *job, pid_t pid) ON_LOOP MUST_CHECK;

/* It is over. An abandoned one is forgotten at once: the job may be gone afterwards. */
void job_table_finish(struct job_table *table, struct job *job, enum job_state state,
                      uint64_t finished_ms, uint64_t result_bytes) ON_LOOP;

/*
 * Makes room for a result of that size among those that are kept, before its job is finished with it.
 * Returns false if there is none.
 */
bool job_table_make_room(struct job_table *table, uint64_t result_bytes) ON_LOOP MUST_CHECK;

/*
 * Has `time_up` called after a while, unless the job is over or forgotten by then; it may be anything
 * afterwards. A job has one such timer, the last one set. Returns 0 or -ENOMEM.
 */
int job_table_set_timer(struct job_table *table, struct job *job, uint64_t wait_ms,
                        void (*time_up)(struct job *job)) ON_LOOP MUST_CHECK;

/* Nobody was told its name, so nobody will ask. It may be gone afterwards. */
void job_table_abandon(struct job_table *table, struct job *job) ON_LOOP;

/*
 * What is known of an answer that held its result; for a job that is over. Where more is kept than
 * the settings allow, results that were answered earlier are forgotten.
 */
void job_table_answered(struct job_table *table, struct job *job) ON_LOOP;
void job_table_seen(struct job_table *table, struct job *job) ON_LOOP; /* and forgotten */

/* Lets go of it, whatever its state. */
void job_table_forget(struct job_table *table, struct job *job) ON_LOOP;

/* Borrowed; NULL if there is none. */
struct job *job_table_find(const struct job_table *table, uint64_t id) ON_LOOP;
struct job *job_table_find_pid(const struct job_table *table, int64_t pid) ON_LOOP;

/* Forgets what is older than its retention. Returns when to call it again, UINT64_MAX: never. */
uint64_t job_table_expire(struct job_table *table, uint64_t now_ms) ON_LOOP;

/* The limits that it was made with. */
const struct settings *job_table_settings(const struct job_table *table) ON_LOOP;

/* Calls `each` for every job: those not over as they came, then the others as they ended. It must not
 * change the table. */
void job_table_for_each(const struct job_table *table, void (*each)(struct job *job, void *context),
                        void *context) ON_LOOP;

struct job_counts job_table_counts(const struct job_table *table) ON_LOOP;

/* True if whoever asks under that profile may know of it. */
bool job_belongs_to(const struct job *job, unsigned profile) ON_LOOP;

/* True once it is over, in one way or another. */
bool job_is_over(const struct job *job) ON_LOOP;

/* A job that a call looks at stays, also when the table forgets it. job_unref() returns NULL. */
struct job *job_ref(struct job *job) ON_LOOP;
struct job *job_unref(struct job *job) ON_LOOP;

#endif
