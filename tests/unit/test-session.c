/* SPDX-License-Identifier: MIT */
/*
 * The session's rules, with a handler that answers when the test says so and a clock that the test
 * sets. A message's text says what it is: {"execute":"NAME"} with "id" in it or not; a
 * name beginning with "sync" is a fence, "ping" is reserved, "big" is understood only when the test
 * says so.
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
    bool has_id, admitted, turn, given_up, faulted, answered;
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
    return NULL;
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
        .is_reserved = strncmp(call->name, "sync", 4) == 0 || strncmp(call->name, "ping", 4) == 0,
        .has_id = call->has_id,
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
}

static void on_turn(void *context, struct request *request)
{
    struct call *call = request_data(request);
    assert_true(call->admitted);
    assert_false(call->turn);
    call->turn = true;
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

static void on_output_ready(void *context)
{
}

static int setup(void **state)
{
    endpoint = (struct endpoint){.name = "test", .pending_max = 8, .reserve = 4,
                                 .pending_bytes_max = 1000,
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
    session_input(session, text, strlen(text), now);
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

static void test_in_order(void **state)
{
    send_names("a b c");
    assert_string_equal(turns, "a ");
    answer("a");
    assert_string_equal(turns, "a b ");
    answer("b");
    answer("c");
    assert_string_equal(written(), "a b c ");
}

static void test_side_by_side_with_id(void **state)
{
    send_names("a b# c#");
    assert_string_equal(turns, "a b c ");
    answer("c");
    answer("a");
    answer("b");
    assert_string_equal(written(), "c a b ");
}

static void test_fence_does_not_wait_for_the_old(void **state)
{
    send_names("slow next");
    now += SESSION_GRACE_MS;
    send_names("sync after");
    assert_string_equal(written(), "sync ");
    assert_true(find("slow")->given_up);
    assert_true(find("next")->given_up);
    answer("after"); /* waits for nothing of the old line */
    answer("slow");
    answer("next"); /* its effect is kept */
    assert_string_equal(written(), "after ");
    assert_int_equal(find("slow")->told[0], DELIVERY_DROPPED);
}

static void test_fence_waits_for_the_young(void **state)
{
    send_names("young sync after");
    assert_string_equal(turns, "young ");
    assert_int_equal(session_next_tick_ms(session), now + SESSION_GRACE_MS);
    answer("young");
    answer("after");
    assert_string_equal(written(), "young sync after ");
    assert_int_equal(session_next_tick_ms(session), 0);
}

static void test_fence_waits_no_longer_than_the_grace(void **state)
{
    send_names("slow sync");
    session_tick(session, now + SESSION_GRACE_MS - 1);
    assert_string_equal(written(), "");
    session_tick(session, now + SESSION_GRACE_MS);
    assert_string_equal(written(), "sync ");
    answer("slow");
    assert_string_equal(written(), "");
}

static void test_old_reply_may_come_while_the_fence_waits_for_a_young_one(void **state)
{
    send_names("old#");
    now += SESSION_GRACE_MS;
    send_names("young# sync");
    answer("old");
    assert_string_equal(written(), "old ");
    answer("young");
    assert_string_equal(written(), "young sync ");
}

static void test_fence_drops_unsent_old_replies(void **state)
{
    send_names("a");
    answer("a"); /* the host does not read it */
    now += SESSION_GRACE_MS;
    send_names("sync b");
    answer("b");
    assert_string_equal(written(), "sync b ");
    assert_int_equal(find("a")->told[0], DELIVERY_DROPPED);
    assert_int_equal(find("a")->told_count, 1);
}

static void test_fence_keeps_unsent_young_replies(void **state)
{
    send_names("a");
    answer("a");
    now += SESSION_GRACE_MS - 1;
    send_names("sync");
    assert_string_equal(written(), "a sync ");
}

static void test_line_begun_is_finished(void **state)
{
    struct iovec piece;
    send_names("abc");
    answer("abc");
    assert_int_equal(session_output(session, &piece, 1), 1);
    session_written(session, 2);
    now += 10 * SESSION_GRACE_MS;
    send_names("sync");
    assert_string_equal(written(), "c sync ");
}

static void test_unsent_delimited_sync_goes_with_its_command(void **state)
{
    send_names("syncd1 slow");
    now += 100; /* still within the grace: but its command's reply is dropped, so it is too */
    send_names("syncd2 b");
    session_tick(session, now + SESSION_GRACE_MS);
    answer("b");
    assert_string_equal(written(), "syncd2 b ");
    answer("slow");
    assert_string_equal(written(), "");
}

static void test_two_syncs_at_once_are_both_answered(void **state)
{
    send_names("syncd1 syncd2 sync3");
    assert_string_equal(written(), "syncd1 syncd2 sync3 ");
}

static void test_parse_error_is_dropped_by_a_fence(void **state)
{
    send_names("slow");
    send_text("{bad}\n");
    now += SESSION_GRACE_MS;
    send_names("sync");
    answer("slow");
    assert_string_equal(written(), "sync ");
}

static void test_parse_error_is_answered_in_its_place(void **state)
{
    send_names("a");
    send_text("{bad}\n");
    send_names("b");
    assert_string_equal(written(), "");
    answer("a");
    answer("b");
    assert_string_equal(written(), "a fault1 b ");
}

static void test_big_message_keeps_its_place(void **state)
{
    send_names("a big b#");
    assert_string_equal(turns, "a "); /* b shares a lane with big, for all we know */
    understood(find("big"));
    assert_string_equal(turns, "a b ");
    answer("a");
    answer("big");
    answer("b");
    assert_string_equal(written(), "a big b ");
}

static void test_fence_passes_a_big_message_and_keeps_its_effect(void **state)
{
    send_names("big");
    now += SESSION_GRACE_MS;
    send_names("sync b");
    answer("b");
    assert_string_equal(written(), "sync b ");
    understood(find("big"));
    answer("big");
    assert_string_equal(written(), "");
}

static void test_too_many_requests_are_refused_in_their_place(void **state)
{
    send_names("a1 a2 a3 a4 a5 a6 a7 a8 a9 ping1 sync");
    assert_false(find("a8")->faulted);
    assert_true(find("a9")->faulted);
    assert_false(find("ping1")->faulted);
    assert_false(find("sync")->faulted);
    assert_true(session_unsent_bytes(session) > 0); /* what the refusal will take */
    for (int i = 1; i <= 8; i++) {
        char name[8];
        snprintf(name, sizeof(name), "a%d", i);
        answer(name);
    }
    answer("ping1");
    assert_string_equal(written(), "a1 a2 a3 a4 a5 a6 a7 a8 a9 ping1 sync ");
    assert_int_equal(session_unsent_bytes(session), 0);
}

static void test_given_up_requests_still_count(void **state)
{
    send_names("a1 a2 a3 a4 a5 a6 a7 a8");
    now += SESSION_GRACE_MS;
    send_names("sync b");
    assert_true(find("b")->faulted);
    assert_string_equal(written(), "sync b ");
}

static void test_a_flood_of_refusals_stops_the_reading(void **state)
{
    for (int i = 0; i < 1000; i++)
        send_names("flood");
    assert_true(session_unsent_bytes(session) > 100000);
    now += SESSION_GRACE_MS;
    send_names("sync");
    assert_string_equal(written(), "sync ");
    assert_int_equal(session_unsent_bytes(session), 0);
}

static void test_too_many_bytes_are_refused(void **state)
{
    char text[600], name[401];
    memset(name, 'x', 400);
    name[400] = '\0';
    snprintf(text, sizeof(text), "{\"execute\":\"n\",\"p\":\"%s\"}\n", name);
    send_text(text);
    send_text(text);
    send_text(text); /* the third one does not fit into 1000 */
    assert_int_equal(call_count, 3);
    assert_true(calls[2].faulted);
}

static void test_seen_when_followed_by_a_request(void **state)
{
    send_names("a");
    answer("a");
    send_names("b"); /* before it was written: no proof */
    assert_int_equal(find("a")->told_count, 0);
    written();
    assert_int_equal(find("a")->told[0], DELIVERY_WRITTEN);
    assert_int_equal(find("a")->told_count, 1);
    send_names("c");
    assert_int_equal(find("a")->told[1], DELIVERY_SEEN);
    assert_int_equal(find("a")->told_count, 2);
}

static void test_not_seen_when_followed_by_a_sync(void **state)
{
    send_names("a");
    answer("a");
    written();
    send_names("sync c");
    assert_int_equal(find("a")->told[0], DELIVERY_WRITTEN);
    assert_int_equal(find("a")->told_count, 1);
}

static void test_reset_drops_output_and_keeps_effects(void **state)
{
    send_names("a b c");
    answer("a");
    send_text("{\"execute\":\"half");
    session_reset(session);
    assert_int_equal(find("a")->told[0], DELIVERY_DROPPED);
    assert_true(find("b")->given_up);
    send_names("d");
    answer("d");
    answer("b");
    answer("c"); /* b's end gave it its turn, though nobody waits for it */
    assert_string_equal(written(), "d ");
    assert_true(session_is_idle(session));
}

static void test_free_lets_waiting_lines_go_on(void **state)
{
    sync_answers_itself = false;
    send_names("young sync after");
    session = session_free(session);
    assert_true(find("sync")->turn);
    answer("sync");
    assert_true(find("after")->turn);
}

static void test_idle(void **state)
{
    assert_true(session_is_idle(session));
    send_names("a");
    assert_false(session_is_idle(session));
    answer("a");
    assert_false(session_is_idle(session));
    written();
    assert_true(session_is_idle(session));
}

#define rule(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        rule(test_in_order),
        rule(test_side_by_side_with_id),
        rule(test_fence_does_not_wait_for_the_old),
        rule(test_fence_waits_for_the_young),
        rule(test_fence_waits_no_longer_than_the_grace),
        rule(test_old_reply_may_come_while_the_fence_waits_for_a_young_one),
        rule(test_fence_drops_unsent_old_replies),
        rule(test_fence_keeps_unsent_young_replies),
        rule(test_line_begun_is_finished),
        rule(test_unsent_delimited_sync_goes_with_its_command),
        rule(test_two_syncs_at_once_are_both_answered),
        rule(test_parse_error_is_dropped_by_a_fence),
        rule(test_parse_error_is_answered_in_its_place),
        rule(test_big_message_keeps_its_place),
        rule(test_fence_passes_a_big_message_and_keeps_its_effect),
        rule(test_too_many_requests_are_refused_in_their_place),
        rule(test_given_up_requests_still_count),
        rule(test_a_flood_of_refusals_stops_the_reading),
        rule(test_too_many_bytes_are_refused),
        rule(test_seen_when_followed_by_a_request),
        rule(test_not_seen_when_followed_by_a_sync),
        rule(test_reset_drops_output_and_keeps_effects),
        rule(test_free_lets_waiting_lines_go_on),
        rule(test_idle),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
