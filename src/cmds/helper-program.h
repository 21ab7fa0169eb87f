/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_HELPER_PROGRAM_H
#define BELLHOP_CMDS_HELPER_PROGRAM_H

/*
 * Commands that have one of the system's own programs do their work (chpasswd, shutdown). It runs
 * as the broker's child, with a fixed environment, and the call waits for its end on the loop:
 *
 *     run (worker):    helper_program_prepare()
 *     finish (loop):   return helper_program_start_take()  ─▶  `ended` (loop)
 *
 * At the call's deadline the program is killed, with all of its process group. No client can ask for
 * its status.
 */

#include <stdbool.h>
#include <stddef.h>

#include "cmds/command.h"
#include "jobs/broker-payload.h"

#define HELPER_SAID_MAX 400

/* A program's name that stands for bellhopd itself, whatever has become of its file. */
#define HELPER_BELLHOPD "/proc/self/exe"

/* Where they are looked for, and the environment that they get; each NULL-terminated. */
extern const char *const helper_program_folders[];
extern const char *const helper_program_environment[];

struct helper_program {
    /* "chpasswd": found where systems keep such programs; or HELPER_BELLHOPD */
    const char *name;
    const char *const *arguments; /* after the name; NULL-terminated */
    const void *input;            /* its standard input; NULL: /dev/null */
    size_t input_bytes;
    size_t output_bytes_max; /* of its output; 0: enough for people to read */
};

struct helper_result {
    bool succeeded; /* it ran and exited with status 0 */
    /* Else why: what it printed, on one line, or how it ended or was not started. */
    char said[HELPER_SAID_MAX];
    const char *output; /* all of what it printed, not terminated; NULL if there is none */
    size_t output_bytes;
    bool is_truncated; /* there was more */
};

/*
 * Tells how it ended. To be answered as from a hook: CALL_ANSWER ends the call, CALL_PENDING that
 * another helper was started. The result is gone afterwards.
 */
typedef enum call_next (*helper_ended)(struct call *call, const struct helper_result *result);

/* True if the program is installed. Any thread but the loop. */
bool helper_program_exists(const char *name);

/*
 * Makes ready what helper_program_start_take() takes; a payload that is not started is given back
 * with spawn_payload_deinit(). Any thread but the loop. Returns 0; -ENOENT: it is not installed; or
 * -errno.
 */
int helper_program_prepare(const struct helper_program *program,
                           struct spawn_payload *ret_payload) MUST_CHECK;

/*
 * Starts it: CALL_PENDING. If that cannot even be tried, `ended` is called at once and its answer
 * returned. The payload's contents are taken in any case.
 */
enum call_next helper_program_start_take(struct call *call, struct spawn_payload *payload,
                                         helper_ended ended) ON_LOOP;

/*
 * One line of what a program printed: white space and control characters become single spaces,
 * what is not UTF-8 question marks, and it is cut where it does not fit. Pure.
 */
void helper_said_compose(char ret_said[HELPER_SAID_MAX], const char *output, size_t length);

#endif
