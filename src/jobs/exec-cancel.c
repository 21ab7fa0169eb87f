/* SPDX-License-Identifier: MIT */
#include "jobs/exec-cancel.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "jobs/broker-peer.h"
#include "jobs/exec-job.h"
#include "jobs/job-table.h"

static int signal_group(struct exec_job *exec, int number)
{
    int error = broker_peer_signal(exec, number, true);
    if (error && error != -ESRCH)
        log_error("pid %ld could not be sent signal %d: %s", (long)exec->job.pid, number,
                  strerror(-error));
    return error;
}

static void grace_is_over(struct job *job)
{
    struct exec_job *exec = list_entry(job, struct exec_job, job);
    log_info("pid %ld was cancelled and has not ended: SIGKILL", (long)job->pid);
    int error = signal_group(exec, SIGKILL);
    (void)error; /* logged; there is no more that could be done */
}

int exec_job_cancel(struct exec_job *exec, uint64_t grace_ms)
{
    assert_on_loop();
    if (!exec->job.table || job_is_over(&exec->job))
        return -ESRCH;
    int error = 0;
    if (grace_ms > 0)
        error = job_table_set_timer(exec->job.table, &exec->job, grace_ms, grace_is_over);
    if (!error)
        error = signal_group(exec, grace_ms > 0 ? SIGTERM : SIGKILL);
    if (!error)
        exec->job.is_cancelled = true;
    return error;
}
