/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_SESSION_HARNESS_H
#define BELLHOP_TESTS_SESSION_HARNESS_H

/*
 * A session with a handler that answers when the test says so and a clock that the test
 * sets. A message's text says what it is: {"execute":"NAME"} with "id" in it or not; a
 * name beginning with "sync" is a fence, "ping" is reserved, "thaw" is urgent and reserved, "big" is
 * understood only when the test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/session.h"

enum { CALLS_MAX = 4096 };

struct call {
    struct request *request;
    char name[32];
    bool has_id, admitted, overtaken, turn, given_up, faulted, answered;
    enum delivery told[4];
    unsigned told_count;
};

static struct endpoint endpoint;
static struct session *session;
static struct call calls[CALLS_MAX];
static unsigned call_count;
static char turns[CALLS_MAX * 8]; /* names in the order of their turns */
static bool sync_answers_itself;
static uint64_t now;

static struct call *find(const char *name)
{
    for (unsigned i = 0; i < call_count; i++)
        if (strcmp(calls[i].name, name) == 0)
            return &calls[i];
    fail_msg("no request %s", name);
    abort(); /* fail_msg() does not return, which an optimising compiler does not know */
}

static void on_told(void *context, enum delivery what, uint64_t token)
{
    calls[token].told[calls[token].told_count++] = what;
}

static void answer_call(struct call *call)
{
    struct reply reply = {.line = BUFFER_INIT,
                          .is_delimited = strncmp(call->name, "syncd", 5) == 0,
                          .told = on_told,
                          .token = (uint64_t)(call - calls)};
    buffer_append_format(&reply.line, "%s\n", call->name);
    call->answered = true;
    request_answer_take(call->request, &reply);
}

/* Answers with a line of `length` bytes. */
static inline void answer_at_length(const char *name, size_t length)
{
    struct call *call = find(name);
    struct reply reply = {.line = BUFFER_INIT};
    assert_true(call->turn);
    while (reply.line.length < length - 1)
        buffer_append_char(&reply.line, 'x');
    buffer_append_char(&reply.line, '\n');
    call->answered = true;
    request_answer_take(call->request, &reply);
}

static void answer(const char *name)
{
    struct call *call = find(name);
    assert_true(call->turn);
    assert_false(call->answered);
    answer_call(call);
}

static void understood(struct call *call)
{
    struct request_traits traits = {
        .is_fence = strncmp(call->name, "sync", 4) == 0,
        .is_reserved = strncmp(call->name, "sync", 4) == 0 ||
                       strncmp(call->name, "ping", 4) == 0 || strncmp(call->name, "thaw", 4) == 0,
        .is_urgent = strncmp(call->name, "thaw", 4) == 0,
        .has_id = call->has_id,
        .reply_bytes = strncmp(call->name, "large", 5) == 0 ? 5000 : 0,
    };
    request_understood(call->request, &traits);
}

static struct call *call_add(struct request *request)
{
    struct call *call = request_data(request);
    if (call)
        return call;
    call = &calls[call_count++];
    *call = (struct call){.request = request};
    request_set_data(request, call);
    return call;
}

static void on_arrived(void *context, struct request *request, char *text, size_t length)
{
    struct call *call = call_add(request);
    sscanf(text, "{\"execute\":\"%31[^\"]", call->name);
    call->has_id = strstr(text, "\"id\"") != NULL;
    free(text);
    if (strncmp(call->name, "big", 3) != 0)
        understood(call);
}

static void on_faulted(void *context, struct request *request, enum request_fault fault,
                       const char *reason)
{
    struct call *call = call_add(request);
    call->faulted = true;
    if (call->name[0] == '\0')
        snprintf(call->name, sizeof(call->name), "fault%u", (unsigned)(call - calls));
}

static void on_admitted(void *context, struct request *request)
{
    struct call *call = request_data(request);
    assert_false(call->admitted);
    call->admitted = true;
    call->overtaken = request_is_overtaken(request);
}

static void on_turn(void *context, struct request *request)
{
    struct call *call = request_data(request);
    assert_true(call->admitted);
    assert_false(call->turn);
    call->turn = true;
    request_promise(request);
    strcat(turns, call->name);
    strcat(turns, " ");
    if (call->faulted || (strncmp(call->name, "sync", 4) == 0 && sync_answers_itself))
        answer_call(call);
}

static void on_given_up(void *context, struct request *request)
{
    struct call *call = request_data(request);
    assert_false(call->given_up);
    call->given_up = true;
}

static const struct request_handler handler = {on_arrived, on_faulted, on_admitted, on_turn,
                                               on_given_up};

static unsigned output_ready_count;

static void on_output_ready(void *context)
{
    output_ready_count++;
}

static int setup(void **state)
{
    endpoint = (struct endpoint){.name = "test",
                                 .pending_max = 8,
                                 .reserve = 4,
                                 .pending_bytes_max = 1000,
                                 .unsent_max = 4000,
                                 .scanner_limits = {.message_bytes_max = 500, .depth_max = 10}};
    call_count = 0;
    turns[0] = '\0';
    now = 1000000;
    sync_answers_itself = true;
    session = session_new(&endpoint, &handler, NULL, on_output_ready, NULL);
    assert_non_null(session);
    return 0;
}

/* Whatever a test left unanswered is answered without a session: nothing may leak or crash. */
static int teardown(void **state)
{
    session = session_free(session);
    bool any = true;
    while (any) {
        any = false;
        for (unsigned i = 0; i < call_count; i++) {
            if (calls[i].turn && !calls[i].answered) {
                answer_call(&calls[i]);
                any = true;
            } else if (!calls[i].admitted && strncmp(calls[i].name, "big", 3) == 0 &&
                       !calls[i].answered) {
                understood(&calls[i]);
                any = calls[i].turn;
            }
        }
    }
    for (unsigned i = 0; i < call_count; i++)
        assert_true(calls[i].answered);
    assert_int_equal(endpoint.pending, 0);
    assert_int_equal(endpoint.pending_bytes, 0);
    return 0;
}

static void send_text(const char *text)
{
    size_t length = strlen(text);
    for (size_t taken = 0; taken < length;)
        taken += session_input(session, text + taken, length - taken, now);
}

/* Sends the requests named, separated by spaces; a name that ends in '#' carries an id. */
static void send_names(const char *names)
{
    char copy[512], text[128];
    snprintf(copy, sizeof(copy), "%s", names);
    for (char *name = strtok(copy, " "); name; name = strtok(NULL, " ")) {
        size_t length = strlen(name);
        bool has_id = name[length - 1] == '#';
        if (has_id)
            name[length - 1] = '\0';
        snprintf(text, sizeof(text), "{\"execute\":\"%s\"%s}\n", name, has_id ? ",\"id\":1" : "");
        send_text(text);
    }
}

/* Takes all output, as a kernel that takes everything. */
static const char *written(void)
{
    static char all[65536];
    struct iovec pieces[4];
    int count;
    all[0] = '\0';
    while ((count = session_output(session, pieces, 4)) > 0) {
        size_t total = 0;
        for (int i = 0; i < count; i++) {
            strncat(all, pieces[i].iov_base, pieces[i].iov_len);
            total += pieces[i].iov_len;
        }
        session_written(session, total);
    }
    for (char *c = all; *c; c++)
        if (*c == '\n')
            *c = ' ';
    return all;
}

#define rule(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
