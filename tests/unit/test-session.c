/* SPDX-License-Identifier: MIT */
/* The rules: what is answered, in which order, and what a fence drops. */
#include "session-harness.h"

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

/* What is understood only now was sent long ago: the host had not seen anything then. */
static void test_not_seen_when_the_next_request_came_before(void **state)
{
    send_names("a big");
    answer("a");
    written();
    understood(find("big"));
    assert_int_equal(find("a")->told_count, 1);
    send_names("c");
    assert_int_equal(find("a")->told[1], DELIVERY_SEEN);
    answer("big");
}

/* Nobody else would look at the clock for it. */
static void test_a_request_understood_late_asks_for_its_tick(void **state)
{
    send_names("young big"); /* the big one is a sync, as it turns out */
    output_ready_count = 0;
    struct request_traits traits = {.is_fence = true};
    request_understood(find("big")->request, &traits);
    assert_int_equal(session_next_tick_ms(session), now + SESSION_GRACE_MS);
    assert_true(output_ready_count > 0);
    session_tick(session, now + SESSION_GRACE_MS);
    answer("big");
    assert_string_equal(written(), "big ");
    answer("young");
}

/* A client that asks and does not read must not have replies pile up: above the limit of unsent
 * output nothing begins that adds to it, with id or without. */
static void test_nothing_begins_while_there_is_too_much_output(void **state)
{
    send_names("a b c# d");
    answer_at_length("a", endpoint.unsent_max + 1);
    assert_false(find("b")->turn);
    send_names("e#");
    assert_false(find("e")->admitted); /* it would keep others out of its lane */
    answer("c");                       /* had begun before */
    session_written(session, 100);
    assert_true(find("b")->turn); /* not too much any more */
    assert_true(find("e")->turn);
    answer_at_length("b", 1000);
    assert_false(find("d")->turn);
    now += SESSION_GRACE_MS;
    send_names("sync f"); /* nobody waits for the old ones: they have their effect */
    assert_true(find("d")->turn);
    answer("d");
    session_drop_output(session);
    assert_true(find("f")->turn);
    answer("f");
}

/* Two replies that are too large together are made one after the other; others go by. */
static void test_large_replies_are_made_one_by_one(void **state)
{
    send_names("large1# large2# small# large3");
    assert_true(find("large1")->turn);
    assert_false(find("large2")->turn);
    assert_true(find("small")->turn);
    assert_false(find("large3")->turn);
    answer_at_length("large1", 3000);
    assert_true(find("large2")->turn != find("large3")->turn);
    session_drop_output(session);
    answer(find("large2")->turn ? "large2" : "large3");
    assert_true(find("large2")->turn && find("large3")->turn);
    send_names("large4#");
    assert_false(find("large4")->turn);
    now += SESSION_GRACE_MS;
    send_names("sync large5");
    assert_true(find("large4")->turn); /* given up: its reply is none */
    assert_true(find("large5")->turn);
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
        rule(test_seen_when_followed_by_a_request),
        rule(test_not_seen_when_followed_by_a_sync),
        rule(test_reset_drops_output_and_keeps_effects),
        rule(test_free_lets_waiting_lines_go_on),
        rule(test_not_seen_when_the_next_request_came_before),
        rule(test_a_request_understood_late_asks_for_its_tick),
        rule(test_nothing_begins_while_there_is_too_much_output),
        rule(test_large_replies_are_made_one_by_one),
        rule(test_idle),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
