/* SPDX-License-Identifier: MIT */
#include "jobs/hook-run.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"
#include "jobs/broker-client.h"
#include "jobs/exec-job.h"

/* What is kept of its output, and how much of it is worth a line of the log each. */
enum { OUTPUT_MAX = 64 * 1024, LINES_MAX = 100 };

/* From SIGTERM to SIGKILL, and from that until it is given up. */
enum { TERM_MS = 1000, KILL_MS = 2000 };

enum { FAILURE_MAX = 400 };

struct hook_run {
    struct hook_run_options options;
    char *path;
    struct exec_job *job;
    struct event *timer;
    unsigned signals;  /* how many it was sent */
    bool is_timed_out; /* else it was killed because nobody wants it any more */
    bool is_given_up;  /* `ended` was called; only the broker still has it */
};

static void run_free(struct hook_run *run)
{
    if (run->timer)
        event_free(run->timer);
    free(run->path);
    free(run);
}

static void arm_timer(struct hook_run *run, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    event_add(run->timer, &delay);
}

/* --- its end --- */

static void log_output(const struct hook_run *run, const char *text, size_t length)
{
    for (unsigned lines = 0; length > 0 && lines < LINES_MAX; lines++) {
        const char *end = memchr(text, '\n', length);
        size_t line = end ? (size_t)(end - text) : length;
        if (line > 0)
            log_info("fsfreeze hook, %s: %.*s", run->options.word, (int)line, text);
        text += end ? line + 1 : line;
        length -= end ? line + 1 : line;
    }
}

static void describe(const struct hook_run *run, char ret_failure[FAILURE_MAX])
{
    int status = run->job->wait_status;
    ret_failure[0] = '\0';
    if (run->is_timed_out)
        snprintf(ret_failure, FAILURE_MAX,
                 "fsfreeze hook did not finish within %llu s and was killed",
                 (unsigned long long)(run->options.timeout_ms + 999) / 1000);
    else if (run->signals > 0)
        snprintf(ret_failure, FAILURE_MAX, "fsfreeze hook was stopped");
    else if (run->job->job.state != JOB_DONE)
        snprintf(ret_failure, FAILURE_MAX, "the broker, which ran the fsfreeze hook, is gone");
    else if (!WIFEXITED(status))
        snprintf(ret_failure, FAILURE_MAX, "fsfreeze hook was killed by signal %d",
                 WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        snprintf(ret_failure, FAILURE_MAX, "fsfreeze hook has failed with status %d",
                 WEXITSTATUS(status));
}

static void tell_ended(struct hook_run *run, const char *failure)
{
    if (failure)
        log_error("%s: %s", run->options.word, failure);
    run->options.ended(run->options.context, failure);
}

static void on_ended(struct exec_job *job, int error, enum broker_stage stage, void *context)
{
    struct hook_run *run = context;
    char failure[FAILURE_MAX] = "", system[128];
    const void *bytes;
    if (run->is_given_up) {
        run_free(run);
        return;
    }
    if (error)
        snprintf(failure, sizeof(failure), "can't access fsfreeze hook '%s': %s", run->path,
                 strerror_r(error, system, sizeof(system)));
    else
        describe(run, failure);
    if (!error && exec_output_map(&job->outputs[0], &bytes) == 0) {
        log_output(run, bytes, job->outputs[0].size_bytes);
        exec_output_unmap(&job->outputs[0], bytes);
    }
    tell_ended(run, failure[0] ? failure : NULL);
    run_free(run);
}

/* --- its time --- */

static void send_next_signal(struct hook_run *run)
{
    int number = run->signals++ == 0 ? SIGTERM : SIGKILL;
    /* One that has ended meanwhile says so itself. */
    (void)!broker_client_signal(run->options.broker, run->job, number, true);
    arm_timer(run, number == SIGTERM ? TERM_MS : KILL_MS);
}

static void on_timer(evutil_socket_t fd, short events, void *argument)
{
    struct hook_run *run = argument;
    if (run->signals < 2) {
        run->is_timed_out |= run->signals == 0;
        send_next_signal(run);
        return;
    }
    run->is_given_up = true;
    tell_ended(run, "fsfreeze hook cannot be killed");
}

void hook_run_kill(struct hook_run *run)
{
    assert_on_loop();
    if (run->signals == 0)
        send_next_signal(run);
}

/* --- its start --- */

static int build_payload(const struct hook_run *run, struct spawn_payload *ret_payload)
{
    const char *const arguments[] = {run->path, run->options.word};
    const struct spawn_request request = {
        .program = run->path,
        .arguments = arguments,
        .argument_count = ARRAY_SIZE(arguments),
        .capture = BROKER_CAPTURE_MERGED,
        .stream_bytes_max = OUTPUT_MAX,
    };
    return spawn_payload_build(&request, ret_payload);
}

int hook_run_start(const struct hook_run_options *options, struct hook_run **ret_run)
{
    assert_on_loop();
    char reason[JOB_REASON_MAX];
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    struct hook_run *run = calloc(1, sizeof(*run));
    if (!run)
        return -ENOMEM;
    run->options = *options;
    run->path = strdup(options->path);
    run->timer = evtimer_new(options->base, on_timer, run);
    int error = run->path && run->timer ? build_payload(run, &payload) : -ENOMEM;
    if (!error)
        error =
            broker_client_run_job_take(options->broker, &payload, on_ended, run, &run->job, reason);
    if (error) {
        run_free(run);
        return error;
    }
    if (options->timeout_ms > 0)
        arm_timer(run, options->timeout_ms);
    *ret_run = run;
    return 0;
}
