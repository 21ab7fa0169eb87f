/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_JOB_START_H
#define BELLHOP_CMDS_JOB_START_H

/*
 * bellhop-job-start: any command as a job. The call that is started is read, checked by the gate and
 * scheduled exactly as a request's own call is; only its answer goes to the job. What is wrong
 * with it from the beginning is the answer of bellhop-job-start itself.
 */

#include "cmds/command.h"

struct json_value;

struct job_start_args {
    struct arg_text command;
    const struct json_value *arguments; /* in the request's document; NULL: not given */
};

extern const struct arg_spec job_start_specs[];

enum call_next job_start_prepare(struct call *call) ON_LOOP;
enum call_next job_start_run(struct call *call) ON_WORKER;
enum call_next job_start_finish(struct call *call) ON_LOOP;
void job_start_release(struct call *call) ON_LOOP;

#endif
