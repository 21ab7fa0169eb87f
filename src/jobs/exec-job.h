/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_EXEC_JOB_H
#define BELLHOP_JOBS_EXEC_JOB_H

/*
 * A program that a broker runs, as the agent knows it. Its output is in memory that the agent
 * shares with the broker, so the result stays when the broker ends.
 *
 * The I/O thread's alone, but for what exec_output_map() reads: that of a job that is done never
 * changes, and a worker may read it while the loop holds a reference for it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/thread.h"
#include "jobs/broker-protocol.h"
#include "jobs/job-table.h"

struct broker_peer;
struct exec_job;

/* Output of a job that is done. */
struct exec_output {
    int fd; /* sealed memory; -1: nothing was written */
    uint64_t size_bytes;
    bool is_truncated; /* there was more */
};

/*
 * The program runs (`error` is 0), or it does not: then `error` is a positive errno, `stage` says
 * where it came from (BROKER_STAGE_ACCEPT with EPIPE: the broker is gone), and the job ends with
 * this call.
 */
typedef void (*exec_started)(struct exec_job *job, int error, enum broker_stage stage,
                             void *context);

/*
 * A program of the agent's own has ended: with `error` 0, the job is done (its status and output are
 * in it) or lost (its broker is gone). Or it never ran: then `error` and `stage` are as above. The
 * job is forgotten when this returns.
 */
typedef void (*exec_ended)(struct exec_job *job, int error, enum broker_stage stage, void *context);

struct exec_job {
    struct job job;
    struct broker_peer *peer; /* the broker that has it; NULL once it has let go of it */
    struct list of_peer;
    uint64_t broker_id; /* its number there */
    enum broker_capture capture;
    int wait_status; /* as waitpid() has it; of a job that is done */
    bool has_timed_out;
    struct exec_output outputs[BROKER_STREAMS];

    bool takes_input; /* more may be written to its standard input */
    uint64_t input_sent_bytes;
    uint64_t input_taken_bytes; /* of those; the program may have read them */

    const char *refusal; /* why the policy refused it; only while its start is told to have failed */
    exec_started started; /* NULL once called, or when nobody waits */
    void *started_context;

    bool is_own; /* run for the agent itself: no client knows it or may ask for it */
    exec_ended ended; /* of an own one; NULL once called, or when nobody waits */
    void *ended_context;
};

extern const struct job_kind exec_job_kind;

/* NULL: no memory. Its one reference is the caller's. */
struct exec_job *exec_job_new(enum broker_capture capture) ON_LOOP;

/* NULL if the job is of another kind. */
struct exec_job *exec_job_of(struct job *job) ON_LOOP;

/* Puts what the broker says of its output into place. Logs what does not fit together. */
void exec_job_take_result(struct exec_job *job, const struct broker_facts *facts) ON_LOOP;

/*
 * The bytes of an output, to be given back with exec_output_unmap(). `ret_bytes` is "" when there
 * are none. Returns 0 or -errno. Any thread that has a reference.
 */
int exec_output_map(const struct exec_output *output, const void **ret_bytes) MUST_CHECK;
void exec_output_unmap(const struct exec_output *output, const void *bytes);

#endif
