/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_EXEC_CANCEL_H
#define BELLHOP_JOBS_EXEC_CANCEL_H

/* The end of a program before its time. The I/O thread's alone. */

#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct exec_job;

/*
 * Ends a program that runs, and its whole process group: SIGTERM, and SIGKILL if it has not ended after
 * `grace_ms`; 0: SIGKILL at once. Returns 0; -ESRCH if it is over; or -errno.
 */
int exec_job_cancel(struct exec_job *job, uint64_t grace_ms) ON_LOOP MUST_CHECK;

#endif
