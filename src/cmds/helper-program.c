/* SPDX-License-Identifier: MIT */
#include "cmds/helper-program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/utf8.h"
#include "cmds/services.h"
#include "jobs/broker-client.h"
#include "jobs/exec-job.h"

/* What a helper prints is read by people, in an error. */
#define HELPER_OUTPUT_MAX 4096

#define HELPER_ARGUMENTS_MAX 8
#define HELPER_PATH_MAX      64

/* Not the agent's PATH, which a service manager may have made anything; the last is NixOS's. */
const char *const helper_program_folders[] = {
    "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin", NULL,
};

const char *const helper_program_environment[] = {
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin",
    "LC_ALL=C",
    "HOME=/",
    NULL,
};

/* One program on its way; ours until it has ended. */
struct helper_run {
    struct call *call;
    helper_ended ended;
};

static bool find_program(const char *name, char ret_path[HELPER_PATH_MAX])
{
    if (strcmp(name, HELPER_BELLHOPD) == 0)
        return snprintf(ret_path, HELPER_PATH_MAX, "%s", name) < HELPER_PATH_MAX;
    for (size_t i = 0; helper_program_folders[i]; i++) {
        int length = snprintf(ret_path, HELPER_PATH_MAX, "%s/%s", helper_program_folders[i], name);
        if (length < HELPER_PATH_MAX && access(ret_path, X_OK) == 0)
            return true;
    }
    return false;
}

bool helper_program_exists(const char *name)
{
    char path[HELPER_PATH_MAX];
    return find_program(name, path);
}

int helper_program_prepare(const struct helper_program *program, struct spawn_payload *ret_payload)
{
    char path[HELPER_PATH_MAX];
    const char *arguments[HELPER_ARGUMENTS_MAX] = {program->name};
    size_t count = 1;
    if (!find_program(program->name, path))
        return -ENOENT;
    for (size_t i = 0; program->arguments[i]; i++) {
        if (count == HELPER_ARGUMENTS_MAX)
            return -E2BIG;
        arguments[count++] = program->arguments[i];
    }
    const struct spawn_request request = {
        .program = path,
        .arguments = arguments,
        .argument_count = count,
        .environment = helper_program_environment,
        .environment_count = ARRAY_SIZE(helper_program_environment) - 1,
        .has_environment = true,
        .input = program->input,
        .input_bytes = program->input_bytes,
        .has_input = program->input != NULL,
        .capture = BROKER_CAPTURE_MERGED,
        .stream_bytes_max =
            program->output_bytes_max ? program->output_bytes_max : HELPER_OUTPUT_MAX,
    };
    return spawn_payload_build(&request, ret_payload);
}

void helper_said_compose(char ret_said[HELPER_SAID_MAX], const char *output, size_t length)
{
    size_t used = 0;
    bool gap = false;
    while (length > 0) {
        uint32_t code_point;
        size_t character = utf8_decode(output, length, &code_point);
        const char *from = character > 0 ? output : "?";
        size_t bytes = character > 0 ? character : 1;
        bool is_blank = bytes == 1 && ((unsigned char)*from <= ' ' || *from == 0x7f);
        output += bytes;
        length -= bytes;
        if (is_blank) {
            gap = used > 0;
            continue;
        }
        if (used + gap + bytes >= HELPER_SAID_MAX)
            break;
        if (gap)
            ret_said[used++] = ' ';
        gap = false;
        memcpy(ret_said + used, from, bytes);
        used += bytes;
    }
    ret_said[used] = '\0';
}

static void say_status(char ret_said[HELPER_SAID_MAX], int status)
{
    if (WIFSIGNALED(status))
        snprintf(ret_said, HELPER_SAID_MAX, "it was killed by signal %d", WTERMSIG(status));
    else
        snprintf(ret_said, HELPER_SAID_MAX, "it ended with status %d", WEXITSTATUS(status));
}

static void read_result(const struct exec_job *job, struct helper_result *ret_result)
{
    if (job->job.state != JOB_DONE) {
        snprintf(ret_result->said, HELPER_SAID_MAX,
                 "the broker, which ran it, is gone; whether it succeeded is not known");
        return;
    }
    const void *bytes;
    if (exec_output_map(&job->outputs[0], &bytes) == 0) {
        ret_result->output = bytes;
        ret_result->output_bytes = job->outputs[0].size_bytes;
        ret_result->is_truncated = job->outputs[0].is_truncated;
        helper_said_compose(ret_result->said, bytes, job->outputs[0].size_bytes);
    }
    ret_result->succeeded = WIFEXITED(job->wait_status) && WEXITSTATUS(job->wait_status) == 0;
    if (!ret_result->succeeded && !ret_result->said[0])
        say_status(ret_result->said, job->wait_status);
}

static void program_has_ended(struct exec_job *job, int error, enum broker_stage stage,
                              void *context)
{
    struct helper_run *run = context;
    struct call *call = run->call;
    helper_ended ended = run->ended;
    struct helper_result result = {.succeeded = false};
    char system[128];
    call_on_overdue(call, NULL, NULL);
    free(run);
    if (!error)
        read_result(job, &result);
    else if (error == EPIPE && stage == BROKER_STAGE_ACCEPT)
        snprintf(result.said, sizeof(result.said),
                 "the broker, which runs it, is gone; whether it was started is not known");
    else
        snprintf(result.said, sizeof(result.said), "it could not be started: %s",
                 strerror_r(error, system, sizeof(system)));
    enum call_next next = ended(call, &result);
    if (result.output)
        exec_output_unmap(&job->outputs[0], result.output);
    if (next != CALL_PENDING)
        call_complete(call);
}

/* Nobody waits for it any more, and what waits for its lane would wait for ever. */
static void program_is_overdue(void *context)
{
    struct helper_run *run = context;
    int error = broker_client_kill(call_services(run->call)->broker, run);
    if (error)
        log_error("a program that hangs could not be killed: %s", strerror(-error));
    else
        log_warning("a program that hangs is killed");
}

enum call_next helper_program_start_take(struct call *call, struct spawn_payload *payload,
                                         helper_ended ended)
{
    assert_on_loop();
    struct helper_result result = {.succeeded = false};
    char reason[JOB_REASON_MAX] = "out of memory";
    struct helper_run *run = malloc(sizeof(*run));
    if (run) {
        *run = (struct helper_run){.call = call, .ended = ended};
        if (broker_client_run_take(call_services(call)->broker, payload, program_has_ended, run,
                                   reason) == 0) {
            call_on_overdue(call, program_is_overdue, run);
            return CALL_PENDING;
        }
        free(run);
    } else {
        spawn_payload_deinit(payload);
    }
    snprintf(result.said, sizeof(result.said), "it could not be started: %s", reason);
    return ended(call, &result);
}
