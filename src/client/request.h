/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_REQUEST_H
#define BELLHOP_CLIENT_REQUEST_H

/*
 * One request's text: {"execute": COMMAND, "arguments": {…}} and a newline.
 *
 *     struct request request = REQUEST_INIT;
 *     json_member_string(request_begin(&request, "guest-file-open"), "path", path);
 *     request_end(&request);
 *
 * One thread only.
 */

#include "base/buffer.h"
#include "client/report.h"
#include "io/json-writer.h"

struct request {
    const char *command; /* borrowed */
    struct buffer text;
    struct json_writer writer;
};

#define REQUEST_INIT        \
    {                       \
        .text = BUFFER_INIT \
    }

void request_deinit(struct request *request);
#define _cleanup_request_ _cleanup_(request_deinit)

/* Starts the text, also anew. Returns the writer to which the arguments go. */
struct json_writer *request_begin(struct request *request, const char *command);

/* Completes the text. */
void request_end(struct request *request);

/*
 * Fills the arguments from words of the command line, after request_begin():
 *
 *     KEY=VALUE    VALUE as it is if it is a JSON number, true, false, null, array or object,
 *                  a string otherwise
 *     KEY==TEXT    always a string
 *     KEY:=JSON    any JSON, and an error if it is none
 *
 * The words are UTF-8. Returns OUTCOME_OK, OUTCOME_USAGE or OUTCOME_LOCAL.
 */
enum outcome request_add_words(struct request *request, char *const *words,
                               size_t count) MUST_CHECK;

#endif
