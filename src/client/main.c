/* SPDX-License-Identifier: MIT */

/*
 * bellhop: the small client for the host's side of an agent, and for trying things. See bellhop(1).
 */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "client/agent.h"
#include "client/command-line.h"
#include "client/copy.h"
#include "client/local.h"
#include "client/report.h"
#include "client/request.h"
#include "client/run.h"
#include "client/text.h"
#include "io/json.h"

enum {
    EXIT_FAILED = 1,
    EXIT_NO_ANSWER = 2,
    EXIT_USAGE = 2,
    EXIT_EXEC_FAILED = 125, /* as env(1) and timeout(1) have it, apart from the program's own */
};

static enum outcome print_value(const struct json_value *value, enum layout layout)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    bool is_indented =
        layout == LAYOUT_INDENTED || (layout == LAYOUT_BY_TERMINAL && isatty(STDOUT_FILENO) == 1);
    int error;

    text_append_value(&text, value, is_indented);
    if (text.failed)
        return report_no_memory();
    error = local_write(STDOUT_FILENO, text.data, text.length);
    if (error == 0)
        return OUTCOME_OK;
    if (local_signal() != 0)
        return OUTCOME_INTERRUPTED;
    report("cannot write to standard output: %s", strerror(-error));
    return OUTCOME_LOCAL;
}

static enum outcome send_command(struct agent *agent, const struct command_line *line,
                                 const struct request *request)
{
    struct json_document *document;
    const struct json_value *value;
    enum outcome outcome = agent_call(agent, request, 0, &document, &value);

    if (outcome != OUTCOME_OK)
        return outcome;
    outcome = print_value(value, line->layout);
    json_document_free(document, false);
    return outcome;
}

static enum outcome carry_out(const struct command_line *line, int *ret_status)
{
    _cleanup_request_ struct request request = REQUEST_INIT;
    _cleanup_agent_ struct agent *agent = NULL;
    bool is_exec = strcmp(line->command, "exec") == 0;
    bool is_read = strcmp(line->command, "read") == 0;
    bool is_write = strcmp(line->command, "write") == 0;
    enum outcome outcome;

    /* What is wrong with the words is said before anything is connected. */
    if (!is_exec && !is_read && !is_write) {
        request_begin(&request, line->command);
        outcome = request_add_words(&request, line->words, line->word_count);
        if (outcome != OUTCOME_OK)
            return outcome;
        request_end(&request);
    }
    outcome = agent_open(&line->agent, &agent);
    if (outcome != OUTCOME_OK)
        return outcome;
    if (is_exec)
        return run_program(agent, line, ret_status);
    if (is_read)
        return copy_from_guest(agent, line->words[0]);
    if (is_write)
        return copy_to_guest(agent, line->words[0]);
    return send_command(agent, line, &request);
}

static int exit_status(enum outcome outcome, int status, bool is_exec)
{
    switch (outcome) {
    case OUTCOME_OK:
        return status;
    case OUTCOME_INTERRUPTED:
        return 128 + local_signal();
    case OUTCOME_USAGE:
        return EXIT_USAGE;
    case OUTCOME_REFUSED:
    case OUTCOME_LOCAL:
        return is_exec ? EXIT_EXEC_FAILED : EXIT_FAILED;
    case OUTCOME_NO_ANSWER:
        break;
    }
    return is_exec ? EXIT_EXEC_FAILED : EXIT_NO_ANSWER;
}

int main(int argc, char **argv)
{
    struct command_line line;
    bool is_exec;
    int status = 0;
    enum outcome outcome = command_line_parse(argc, argv, &line);

    if (outcome == OUTCOME_OK && line.wants_help) {
        fputs(command_line_help, stdout);
    } else if (outcome == OUTCOME_OK && line.wants_version) {
        puts("bellhop " BELLHOP_VERSION);
    } else if (outcome == OUTCOME_OK) {
        local_init();
        outcome = carry_out(&line, &status);
    } else if (outcome == OUTCOME_USAGE) {
        fputs(command_line_help, stderr);
    }
    is_exec = line.command && strcmp(line.command, "exec") == 0;
    command_line_deinit(&line);
    return exit_status(outcome, status, is_exec);
}
