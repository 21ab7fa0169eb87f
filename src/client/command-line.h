/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_COMMAND_LINE_H
#define BELLHOP_CLIENT_COMMAND_LINE_H

/* What the user asked for, by value; everything points into argv. */

#include <stdbool.h>
#include <stddef.h>

#include "client/agent.h"
#include "client/report.h"

enum layout { LAYOUT_BY_TERMINAL, LAYOUT_INDENTED, LAYOUT_ONE_LINE };

struct command_line {
    struct agent_options agent;
    enum layout layout;
    const char *input; /* exec: file with the program's input, "-" for stdin, or NULL */
    const char *directory; /* exec: to work in, or NULL */
    const char *user;      /* exec: to run as, or NULL */
    unsigned time_limit_s; /* exec: 0 is none */
    const char **env;      /* exec: malloc'ed array of NAME=VALUE */
    size_t env_count;
    const char *command;
    char **words; /* what stands after the command */
    size_t word_count;
    bool wants_help;
    bool wants_version;
};

/*
 * Returns OUTCOME_OK, OUTCOME_USAGE or OUTCOME_LOCAL. `ret_line` is to be released in any case.
 */
enum outcome command_line_parse(int argc, char **argv, struct command_line *ret_line) MUST_CHECK;
void command_line_deinit(struct command_line *line);

/* What --help prints. */
extern const char command_line_help[];

#endif
