/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_REPORT_H
#define BELLHOP_CLIENT_REPORT_H

/* How the client's steps end, and what it tells its user about it. One thread only. */

#include "base/cleanup.h"

/*
 * How a step ended. Whoever returns one of the failures has reported it already, so callers just
 * hand it up.
 */
enum outcome {
    OUTCOME_OK = 0,
    OUTCOME_REFUSED,     /* the agent answered with an error */
    OUTCOME_LOCAL,       /* a file, a stream or the memory on this side failed */
    OUTCOME_NO_ANSWER,   /* no connection, no answer in time, or not this protocol */
    OUTCOME_INTERRUPTED, /* a signal came: local_signal() says which */
    OUTCOME_USAGE,       /* the command line makes no sense */
};

/*
 * Writes "bellhop: ", the message and a newline to stderr. The guest is not trusted with the
 * user's terminal: whatever is no printable UTF-8 in the message is written as \xNN.
 */
void report(const char *format, ...) PRINTF_LIKE(1, 2);

/* Reports that memory ran out; returns OUTCOME_LOCAL. */
enum outcome report_no_memory(void);

#endif
