/* SPDX-License-Identifier: MIT */
/* What is too much, or finds no memory: nothing may crowd out a sync, and nothing goes unanswered.
 */
#include "session-harness.h"

static void send_padded(const char *name, size_t length)
{
    char text[500];
    int written_length = snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"p\":\"", name);
    memset(text + written_length, 'x', length - (size_t)written_length - 2);
    snprintf(text + length - 2, 3, "\"}");
    send_text(text);
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

/* Messages that a worker has to read first may be many, and it may be long until it does. */
static void test_large_messages_do_not_crowd_out_a_sync(void **state)
{
    for (int i = 0; i < 30; i++)
        send_names("big");
    now += SESSION_GRACE_MS;
    send_names("sync b");
    answer("b");
    assert_string_equal(written(), "sync b ");
    for (unsigned i = 0; i < 30; i++)
        understood(&calls[i]);
    for (unsigned i = 0; i < 30; i++)
        answer_call(&calls[i]);
}

static void test_bytes_do_not_crowd_out_a_sync(void **state)
{
    send_padded("a", 490);
    send_padded("b", 490);
    assert_int_equal(endpoint.pending_bytes, 980);
    now += SESSION_GRACE_MS;
    send_names("sync");
    assert_string_equal(written(), "sync ");
    send_padded("c", 300);
    assert_true(calls[3].faulted);
    answer("a");
    answer("b");
}

/* The id that is to be echoed may be all of it. */
static void test_refused_bytes_count_until_they_are_answered(void **state)
{
    send_names("a1 a2 a3 a4 a5 a6 a7 a8");
    size_t before = endpoint.pending_bytes;
    send_padded("a9", 300);
    assert_true(find("a9")->faulted);
    assert_int_equal(endpoint.pending_bytes, before + 300);
    assert_int_equal(endpoint.pending, 8);
    for (unsigned i = 0; i < 8; i++)
        answer_call(&calls[i]);
    assert_int_equal(endpoint.pending_bytes, 0);
}

static void test_a_reply_without_memory_is_a_failure(void **state)
{
    send_names("silent lost");
    struct reply reply = {.line = BUFFER_INIT, .told = on_told};
    find("silent")->answered = find("lost")->answered = true;
    request_answer_take(find("silent")->request, &reply);
    assert_int_equal(calls[0].told_count, 1); /* nothing is sent: so its handle is not known */
    assert_int_equal(calls[0].told[0], DELIVERY_DROPPED);
    assert_false(session_has_failed(session));
    reply = (struct reply){.line = {.failed = true}};
    request_answer_take(find("lost")->request, &reply);
    assert_true(session_has_failed(session));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rule(test_too_many_requests_are_refused_in_their_place),
        rule(test_given_up_requests_still_count),
        rule(test_a_flood_of_refusals_stops_the_reading),
        rule(test_too_many_bytes_are_refused),
        rule(test_large_messages_do_not_crowd_out_a_sync),
        rule(test_bytes_do_not_crowd_out_a_sync),
        rule(test_refused_bytes_count_until_they_are_answered),
        rule(test_a_reply_without_memory_is_a_failure),
    };
    return cmocka_run_group_tests_name("session-limits", tests, NULL, NULL);
}
