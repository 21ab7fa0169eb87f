/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_RUN_H
#define BELLHOP_CLIENT_RUN_H

#include "client/report.h"

struct agent;
struct command_line;

/*
 * `bellhop SOCKET exec`: runs a program in the guest to its end and writes its output to stdout
 * and stderr. OUTCOME_OK with the exit status that stands for the program's end.
 */
enum outcome run_program(struct agent *agent, const struct command_line *line,
                         int *ret_status) MUST_CHECK;

#endif
