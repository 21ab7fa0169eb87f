/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_COMMAND_JOB_H
#define BELLHOP_CMDS_COMMAND_JOB_H

/*
 * A call as a job: something that one can watch and cancel by its id.
 *
 * Calls of rows with CMD_JOB are jobs from their admission on; a plain request's answer goes to its
 * client as ever, and stays with the job, too, for a host that had given up waiting. Any other call
 * becomes one by bellhop-job-start (cmds/job-start.h); its answer goes to the job alone.
 *
 * The dispatcher calls what stands here; commands only set the flag, say call_set_progress(), ask
 * call_is_cancelled(), and may have a `cancel` in their row (cmds/command.h).
 *
 * The I/O thread's alone, but for command_job_set_progress() and command_job_is_cancelled().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/thread.h"
#include "cmds/command.h"
#include "io/delivery.h"
#include "jobs/job-table.h"

struct call;
struct command_job;
struct wire_error;

extern const struct job_kind command_job_kind;

/* NULL if the job is of another kind. */
struct command_job *command_job_of(struct job *job) ON_LOOP;

/*
 * Enters the call into the job table, queued, in `lane` (copied; NULL: none). The call has a reference
 * until command_job_leave(). With `is_requested` nobody else is told of its answer. Returns 0 or
 * -ENOMEM: then it is no job.
 */
int command_job_enter(struct call *call, const char *lane, bool is_requested) ON_LOOP MUST_CHECK;

/* The call has begun. */
void command_job_begin(struct call *call) ON_LOOP;

/* It will never begin. */
void command_job_withdrawn(struct command_job *job) ON_LOOP;

/* The call's answer stands in it, complete; its job is over. May set the call's error. */
void command_job_answered(struct call *call) ON_LOOP;

/* The call is answered with `error` while it still runs: its job is lost once it comes back. */
void command_job_overdue(struct call *call, const struct wire_error *error) ON_LOOP;

/* Nothing of the call runs any more. */
void command_job_leave(struct call *call) ON_LOOP;

/* For the client's answer of a call that is a job: the token is the job's id. */
void command_job_told(void *services, enum delivery what, uint64_t job_id) ON_LOOP;

/*
 * Cancels it. Returns 0 (it will end soon, or has ended); -ESRCH if it is over; -EBUSY if it has begun
 * and its command cannot be cancelled then.
 */
int command_job_cancel(struct command_job *job) ON_LOOP MUST_CHECK;
bool command_job_is_cancelled(struct command_job *job) ANY_THREAD;

void command_job_set_progress(struct command_job *job, const struct call_progress *progress)
    ANY_THREAD;

/* --- what is shown of it --- */

uint64_t command_job_id(const struct command_job *job);
const char *command_job_name(const struct command_job *job); /* of the command */
const char *command_job_lane(const struct command_job *job); /* NULL: none */

/* False if it has none. `ret_progress->item` points to `ret_item`. */
bool command_job_progress(struct command_job *job, struct call_progress *ret_progress,
                          char ret_item[CALL_PROGRESS_ITEM_MAX]);

/*
 * `"return": ...` or `"error": ...`, once it is over, else empty. It does not change any more: any
 * thread may read it while the loop holds a reference for it.
 */
void command_job_result(const struct command_job *job, const char **ret_text, size_t *ret_length);

#endif
