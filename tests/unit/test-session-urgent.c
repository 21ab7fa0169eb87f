/* SPDX-License-Identifier: MIT */
/* Urgent requests, which overtake what is stuck, and replies that are there before their turn. */
#include "session-harness.h"

static void grow_old(void)
{
    now += SESSION_GRACE_MS;
    session_tick(session, now);
}

static void test_overtakes_what_is_old(void **state)
{
    send_names("a b");
    now += SESSION_GRACE_MS;
    send_names("thaw c");
    assert_string_equal(turns, "a thaw ");
    answer("thaw");
    assert_string_equal(written(), "");
    answer("a");
    assert_string_equal(written(), "a ");
    answer("b");
    assert_string_equal(written(), "b thaw ");
    assert_string_equal(turns, "a thaw b c ");
    answer("c");
    assert_string_equal(written(), "c ");
}

static void test_waits_for_the_young(void **state)
{
    send_names("a");
    now += 100;
    send_names("b thaw");
    assert_string_equal(turns, "a ");
    assert_int_equal(session_next_tick_ms(session), now + SESSION_GRACE_MS);
    session_tick(session, now + SESSION_GRACE_MS - 1);
    assert_string_equal(turns, "a ");
    session_tick(session, now + SESSION_GRACE_MS);
    assert_string_equal(turns, "a thaw ");
    assert_int_equal(session_next_tick_ms(session), 0);
    answer("thaw");
    answer("a");
    answer("b");
    assert_string_equal(written(), "a b thaw ");
}

static void test_begins_when_all_before_it_has_ended(void **state)
{
    send_names("a thaw");
    answer("a");
    assert_string_equal(turns, "a thaw ");
    answer("thaw");
    assert_string_equal(written(), "a thaw ");
    send_names("thaw2");
    assert_string_equal(turns, "a thaw thaw2 ");
    answer("thaw2");
    assert_string_equal(written(), "thaw2 ");
    assert_true(session_is_idle(session));
}

static void test_waits_for_the_young_with_id_too(void **state)
{
    send_names("a# thaw# b# thawed");
    assert_string_equal(turns, "a b ");
    grow_old();
    assert_string_equal(turns, "a b thawed thaw ");
    answer("thawed"); /* nothing without id is before it */
    answer("thaw");
    assert_string_equal(written(), "thawed thaw ");
    answer("a");
    answer("b");
}

static void test_overtakes_what_is_not_understood_yet(void **state)
{
    send_names("big thaw c");
    assert_string_equal(turns, "");
    grow_old();
    assert_string_equal(turns, "thaw ");
    answer("thaw");
    assert_string_equal(written(), "");
    understood(find("big"));
    assert_true(find("big")->overtaken);
    assert_false(find("thaw")->overtaken);
    assert_string_equal(turns, "thaw big ");
    answer("big");
    assert_string_equal(written(), "big thaw ");
    assert_false(find("c")->overtaken);
    answer("c");
}

static void test_overtakes_what_was_overtaken_and_has_an_id(void **state)
{
    send_names("big# thaw");
    grow_old();
    answer("thaw");
    assert_string_equal(written(), "");
    understood(find("big"));
    assert_string_equal(written(), "thaw ");
    answer("big");
    assert_string_equal(written(), "big ");
}

static void test_begins_while_there_is_too_much_output(void **state)
{
    send_names("a b");
    answer_at_length("a", 5000);
    send_names("c thaw");
    grow_old();
    assert_string_equal(turns, "a thaw ");
    answer("thaw");
    assert_int_equal(strlen(written()), 5000);
    answer("b");
    answer("c");
    assert_string_equal(written(), "b c thaw ");
}

static void test_one_that_is_given_up_still_begins(void **state)
{
    send_names("slow thaw");
    now += SESSION_GRACE_MS;
    send_names("sync");
    assert_string_equal(turns, "slow thaw sync ");
    assert_true(find("thaw")->given_up);
    answer("thaw");
    answer("slow");
    assert_string_equal(written(), "sync ");
}

static void test_a_fence_is_before_it(void **state)
{
    send_names("slow");
    now += SESSION_GRACE_MS - 1;
    send_names("sync thaw");
    assert_string_equal(turns, "slow ");
    session_tick(session, now + 1);
    assert_string_equal(turns, "slow sync thaw ");
    answer("thaw");
    answer("slow");
    assert_string_equal(written(), "sync thaw ");
}

static void test_an_early_answer_keeps_its_place(void **state)
{
    send_names("a b c");
    answer_call(find("b")); /* cancelled */
    assert_string_equal(written(), "");
    assert_int_equal(endpoint.pending, 3);
    answer("a");
    assert_string_equal(written(), "a b ");
    assert_string_equal(turns, "a c ");
    assert_int_equal(find("b")->told[0], DELIVERY_WRITTEN);
    answer("c");
}

static void test_an_early_answer_is_dropped_by_a_fence(void **state)
{
    send_names("a b c");
    answer_call(find("b"));
    now += SESSION_GRACE_MS;
    send_names("sync");
    assert_string_equal(written(), "sync ");
    assert_int_equal(find("b")->told[0], DELIVERY_DROPPED);
    assert_int_equal(find("b")->told_count, 1);
    assert_false(find("b")->given_up);
    assert_true(find("c")->given_up);
    answer("a");
    answer("c");
}

static void test_one_too_many_is_refused_in_its_place(void **state)
{
    send_names("a");
    for (unsigned i = 0; i < 11; i++)
        send_names("thaw");
    send_names("thawlast");
    assert_true(find("thawlast")->faulted);
    answer("a");
    for (unsigned i = 0; i < call_count; i++)
        if (calls[i].turn && !calls[i].answered)
            answer_call(&calls[i]);
    assert_non_null(strstr(written(), "thaw thawlast "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rule(test_overtakes_what_is_old),
        rule(test_waits_for_the_young),
        rule(test_begins_when_all_before_it_has_ended),
        rule(test_waits_for_the_young_with_id_too),
        rule(test_overtakes_what_is_not_understood_yet),
        rule(test_overtakes_what_was_overtaken_and_has_an_id),
        rule(test_begins_while_there_is_too_much_output),
        rule(test_one_that_is_given_up_still_begins),
        rule(test_a_fence_is_before_it),
        rule(test_an_early_answer_keeps_its_place),
        rule(test_an_early_answer_is_dropped_by_a_fence),
        rule(test_one_too_many_is_refused_in_its_place),
    };
    return cmocka_run_group_tests_name("session-urgent", tests, NULL, NULL);
}
