/* SPDX-License-Identifier: MIT */
/* Calls in every state, and what may happen to them there. */
#include "dispatch-harness.h"

#include "base/buffer.h"

static bool has_begun(char name)
{
    pthread_mutex_lock(&lock);
    bool result = begun[(unsigned char)name] > 0;
    pthread_mutex_unlock(&lock);
    return result;
}

static void post_text(unsigned number, const char *text)
{
    size_t length = strlen(text);
    for (size_t taken = 0; taken < length;)
        taken += session_input(sessions[number], text + taken, length - taken, now);
}

/* A trailing '#' in the command's name stands for an id. */
static void post_padded(unsigned number, const char *command, char name, size_t padding)
{
    char id[16] = "", plain[32];
    snprintf(plain, sizeof(plain), "%s", command);
    if (strchr(plain, '#')) {
        *strchr(plain, '#') = '\0';
        snprintf(id, sizeof(id), ",\"id\":\"%c\"", name);
    }
    char *spaces = malloc(padding + 1);
    memset(spaces, ' ', padding);
    spaces[padding] = '\0';
    struct buffer text = BUFFER_INIT;
    buffer_append_format(&text, "{\"execute\":\"%s\",\"arguments\":{\"name\":\"%c\"}%s%s}", plain,
                         name, id, spaces);
    post_text(number, text.data);
    buffer_deinit(&text);
    free(spaces);
}

static void post(unsigned number, const char *command, char name)
{
    post_padded(number, command, name, 0);
}

/* Above what is read on the loop. */
static void post_large(unsigned number, const char *command, char name)
{
    post_padded(number, command, name, 100 * 1000);
}

static void post_sync(unsigned number, int id)
{
    char text[80];
    snprintf(text, sizeof(text), "{\"execute\":\"sync\",\"arguments\":{\"id\":%d}}", id);
    post_text(number, text);
}

/* Takes all output, as a kernel that takes everything, with spaces for the newlines. */
static const char *written(unsigned number)
{
    static char all[16384];
    struct iovec piece;
    all[0] = '\0';
    while (session_output(sessions[number], &piece, 1) > 0) {
        strncat(all, piece.iov_base, piece.iov_len);
        all[strlen(all) - 1] = ' ';
        session_written(sessions[number], piece.iov_len);
    }
    return all;
}

static bool has_output(unsigned number)
{
    return session_unsent_bytes(sessions[number]) > 0;
}

/* --- deadlines --- */

static void test_overdue_is_answered_once_whatever_the_worker_writes(void **state)
{
    post(0, "work", 'a');
    loop_until(has_begun('a'));
    post(1, "work", 'b');
    post(1, "loop", 'c');
    loop_until(has_output(0));
    const char *reply = written(0);
    assert_non_null(strstr(reply, "work did not finish within 1 s; it may still be running"));
    reply = written(1);
    assert_non_null(strstr(reply, "work was refused: an earlier work on the same lane"));
    assert_non_null(strstr(reply, "loop was refused: an earlier work on the same lane"));
    assert_string_equal(trace, "RcRb");
    let_go('a'); /* it writes its reply and its steps while the loop is at the same call */
    loop_until(strstr(trace, "Ra"));
    assert_string_equal(trace, "RcRbRa"); /* and is not finished */
    assert_false(has_output(0));
    post(0, "loop", 'd');
    assert_string_equal(written(0), "{\"return\": \"d\"} ");
}

static void test_overdue_pending_tells_that_its_reply_is_lost(void **state)
{
    post(0, "pending", 'a');
    loop_until(has_output(0));
    assert_non_null(strstr(written(0), "pending did not finish within 1 s"));
    assert_string_equal(trace, "PaDa");
    complete();
    assert_string_equal(trace, "PaDaRa");
}

/* The answer of the overdue one gives the next one its turn, which completes it. */
static void test_overdue_pending_completed_by_its_own_answer(void **state)
{
    post(0, "pending", 'a');
    post(0, "complete", 'b');
    loop_until(has_output(0));
    const char *replies = written(0);
    assert_non_null(strstr(replies, "pending did not finish within 1 s"));
    assert_non_null(strstr(replies, "{\"return\": \"b\"} "));
    assert_string_equal(trace, "PaDaRaRb");
}

static void test_overdue_after_its_session_is_gone(void **state)
{
    post(0, "work", 'a');
    loop_until(has_begun('a'));
    sessions[0] = session_free(sessions[0]);
    start_session(0);
    loop_until(endpoints[0].pending == 0);
    let_go('a');
    loop_until(strcmp(trace, "Ra") == 0);
    assert_false(has_output(0));
}

/* --- the host gives up --- */

static void test_a_fence_keeps_effects_and_drops_replies(void **state)
{
    post(0, "work", 'a');
    post(0, "work", 'b');
    loop_until(has_begun('a'));
    now += SESSION_GRACE_MS;
    post_sync(0, 7);
    post(0, "thawed", 'c');
    assert_string_equal(written(0), "{\"return\": 7} {\"return\": \"c\"} ");
    let_go('a');
    let_go('b');
    loop_until(strstr(trace, "Rb"));
    assert_string_equal(trace, "RcFaDaRaFbDbRb");
    assert_false(has_output(0));
}

/* In every state: behind another in its lane, behind another in its line, read by a worker. */
static void test_what_expires_is_cancelled_until_it_begins(void **state)
{
    post(0, "pending", 'p'); /* holds the lane and the line */
    post(0, "expires#", 'a');
    post(0, "expires", 'b');
    post_large(0, "expires", 'c');
    post(0, "loop", 'd'); /* keeps its effect */
    now += SESSION_GRACE_MS;
    post_sync(0, 1);
    assert_string_equal(written(0), "{\"return\": 1} ");
    assert_string_equal(trace, "PpRbRa");
    complete();
    loop_until(endpoints[0].pending_bytes == 0);
    assert_string_equal(trace, "PpRbRaDpRpRcPdRd");
    post(0, "expires", 'e');
    assert_string_equal(written(0), "{\"return\": \"e\"} ");
}

static void test_what_expires_goes_on_once_it_has_begun(void **state)
{
    is_frozen = false;
    post(0, "expires", 'a');
    now += SESSION_GRACE_MS;
    post_sync(0, 1);
    assert_string_equal(trace, "PaRa");
}

/* A fence of one channel cancels what keeps another one's request from its lane: that is answered
 * in the midst of the fence. */
static void test_a_cancellation_starts_what_waits_elsewhere(void **state)
{
    post(0, "work-apart", 'w'); /* holds the line, not the lane */
    loop_until(has_begun('w'));
    post(0, "expires", 'a');
    post(1, "loop", 'b');
    assert_false(has_output(1));
    now += SESSION_GRACE_MS;
    post_sync(0, 1);
    assert_string_equal(written(1), "{\"return\": \"b\"} ");
    assert_string_equal(written(0), "{\"return\": 1} ");
    assert_string_equal(trace, "RaPbRb");
    let_go('w');
}

static void test_disconnect_in_every_state(void **state)
{
    post(0, "work", 'a');    /* at a worker */
    post(0, "work#", 'b');   /* waits for the lane */
    post(0, "loop", 'c');    /* waits for its turn */
    post(0, "expires", 'd'); /* too, and has no meaning without */
    post_large(0, "work-apart", 'e');
    post_large(0, "work-apart#", 'f');
    post_sync(0, 1);
    post(0, "work-apart", 'g'); /* behind a fence that waits for the young */
    loop_until(has_begun('a'));
    sessions[0] = session_free(sessions[0]);
    for (char name = 'a'; name <= 'g'; name++)
        let_go(name);
    loop_until(endpoints[0].pending == 0 && endpoints[0].pending_bytes == 0 &&
               scheduler_is_idle(scheduler));
    for (const char *name = "abefg"; *name; name++) {
        char finished[] = {'F', *name, '\0'};
        assert_non_null(strstr(trace, finished));
    }
    assert_non_null(strstr(trace, "Pc"));
    assert_null(strstr(trace, "Pd"));
    for (char name = 'a'; name <= 'g'; name++) {
        char released[] = {'R', name, '\0'};
        assert_non_null(strstr(trace, released));
        assert_null(strstr(strstr(trace, released) + 1, released));
    }
    start_session(0);
}

/* --- large replies --- */

/* A large one waits until others are made. It must not wait for one that waits behind it in its
 * lane: neither would ever begin. */
static void test_a_promise_is_not_waited_for_by_its_lane(void **state)
{
    post(0, "sized-apart#", 'x');
    post(0, "sized#", 'A'); /* too large beside the other one */
    post(0, "sized#", 'b');
    loop_until(has_begun('x'));
    for (const char *name = "xAb"; *name; name++)
        let_go(*name);
    loop_until(strstr(trace, "Rb"));
    assert_string_equal(written(0), "{\"return\": \"x\", \"id\": \"x\"} "
                                    "{\"return\": \"A\", \"id\": \"A\"} "
                                    "{\"return\": \"b\", \"id\": \"b\"} ");
}

/* The same with requests that wait for their turn. */
static void test_a_promise_is_not_waited_for_by_its_line(void **state)
{
    post(0, "sized-apart", 'x');
    post(0, "sized-apart", 'A');
    post(0, "work", 'y');
    post(0, "sized#", 'b'); /* behind y in the lane, which is behind A in the line */
    loop_until(has_begun('x'));
    for (const char *name = "xAyb"; *name; name++)
        let_go(*name);
    loop_until(strstr(trace, "Rb"));
    assert_string_equal(written(0), "{\"return\": \"x\"} "
                                    "{\"return\": \"A\"} "
                                    "{\"return\": \"y\"} "
                                    "{\"return\": \"b\", \"id\": \"b\"} ");
}

/* --- large messages --- */

static void wait_detached(void *argument)
{
    wait_for_leave(*(char *)argument);
}

static void test_a_fence_while_a_message_is_read_by_a_worker(void **state)
{
    static char name = 'x';
    for (int i = 0; i < 4; i++) /* so that it is not read yet */
        services_run_detached(&services, wait_detached, &name);
    post_large(0, "work-apart", 'a');
    post_large(0, "thawed", 'b');
    now += SESSION_GRACE_MS;
    post_sync(0, 1);
    post(0, "thawed", 'c');
    assert_string_equal(written(0), "{\"return\": 1} {\"return\": \"c\"} ");
    let_go('x');
    let_go('a');
    loop_until(strstr(trace, "Ra") && strstr(trace, "Rb")); /* in whichever order */
    assert_non_null(strstr(trace, "FaDa"));
    assert_false(has_output(0));
}

/* What hangs on a channel does not keep it from understanding, nor does it pay for what is left. */
static void test_stuck_calls_do_not_keep_messages_from_being_read(void **state)
{
    for (char name = 'a'; name <= 'd'; name++) /* the channel's share */
        post(0, "work-apart#", name);
    loop_until(has_begun('d'));
    post_large(0, "thawed#", 'e');
    loop_until(has_output(0));
    assert_string_equal(written(0), "{\"return\": \"e\", \"id\": \"e\"} ");
}

static void test_detached_work_is_nobodys_share(void **state)
{
    static char name = 'x';
    for (int i = 0; i < 6; i++)
        services_run_detached(&services, wait_detached, &name);
    let_go('a');
    post(0, "work-apart", 'a');
    loop_until(has_output(0));
    assert_string_equal(written(0), "{\"return\": \"a\"} ");
}

/* --- what may begin --- */

static void test_a_freeze_meets_what_waits_for_its_lane(void **state)
{
    post(0, "pending", 'p');
    post(0, "loop#", 'a'); /* had its turn before the freeze */
    post(0, "thawed#", 'b');
    is_frozen = true;
    complete();
    assert_string_equal(trace, "PpRbRpRa");
    const char *replies = written(0);
    assert_non_null(strstr(replies, "Command loop has been disabled: the agent is in frozen"));
    post(0, "loop", 'c'); /* comes before what is wrong with its arguments */
    post_text(0, "{\"execute\":\"loop\",\"arguments\":{}}");
    post(0, "thawed", 'd');
    replies = written(0);
    assert_non_null(strstr(replies, "frozen state"));
    assert_non_null(strstr(strstr(replies, "frozen state") + 1, "frozen state"));
    assert_non_null(strstr(replies, "{\"return\": \"d\"} "));
}

static void test_a_rescue_finds_a_worker_whatever_runs(void **state)
{
    for (char name = 'a'; name <= 'd'; name++) {
        post(0, "work-apart#", name);
        post(1, "work-apart#", (char)(name + 4));
    }
    for (char name = 'a'; name <= 'h'; name++)
        loop_until(has_begun(name));
    post(0, "work-apart#", 'x');
    let_go('r');
    post(0, "rescue#", 'r');
    loop_until(has_output(0));
    assert_string_equal(written(0), "{\"return\": \"r\", \"id\": \"r\"} ");
}

/* --- replies --- */

static void test_every_kind_of_reply(void **state)
{
    post(0, "silent", 'a');
    post_text(0, "{\"execute\":\"delimited\",\"arguments\":{\"id\":2}}");
    post_text(0, "{\"execute\":\"delimited\",\"arguments\":{\"id\":\"no\"}}");
    post_text(0, "{\"execute\":\"silent\",\"arguments\":{}}");
    post_text(0, "{\"execute\":\"none\",\"id\":[1]}");
    assert_string_equal(
        written(0),
        "\xff{\"return\": 2} "
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid parameter type for 'id', "
        "expected: integer\"}} "
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Parameter 'name' is missing\"}} "
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command none has not been "
        "found\"}, \"id\": [1]} ");
}

/* Small ones and large ones, these read by workers meanwhile: each is answered in its place. */
static void test_refused_in_their_place(void **state)
{
    post(0, "work", '0');
    for (int i = 1; i <= 40; i++)
        post_padded(0, "thawed", (char)('0' + i), i % 2 ? 70 * 1000 : 0);
    loop_until(session_unsent_bytes(sessions[0]) == 9 * 256); /* what the refusals will take */
    let_go('0');
    unsigned answers = 0, refusals = 0;
    while (endpoints[0].pending_bytes > 0) {
        struct iovec reply;
        event_base_loop(base, EVLOOP_ONCE);
        for (; session_output(sessions[0], &reply, 1) > 0; answers++) {
            char expected[] = "{\"return\": \"@\"}\n";
            expected[12] = (char)('0' + answers);
            if (strncmp(reply.iov_base, "{\"error\"", 8) == 0)
                refusals++;
            else
                assert_string_equal(reply.iov_base, expected);
            session_written(sessions[0], reply.iov_len);
        }
    }
    assert_int_equal(answers, 41);
    assert_int_equal(refusals, 9);
}

/* --- what cannot wait --- */

static void test_an_urgent_call_passes_its_lane_and_cancels_what_waits_there(void **state)
{
    post(0, "work", 'w');
    loop_until(has_begun('w'));
    post(1, "expires", 'e');
    post(1, "loop#", 'l');
    post(0, "expires", 'x');
    now += SESSION_GRACE_MS;
    let_go('u');
    post(0, "urgent", 'u');
    loop_until(strstr(trace, "Fu"));
    assert_string_equal(trace, "PuReRxFuRu");
    assert_non_null(strstr(written(1), "expires was cancelled before it began"));
    assert_string_equal(written(0), ""); /* in the line's order */
    let_go('w');
    loop_until(has_output(0));
    const char *replies = written(0);
    assert_non_null(strstr(replies, "{\"return\": \"w\"} {\"error\": "));
    assert_non_null(
        strstr(replies, "expires was cancelled before it began\"}} {\"return\": \"u\"} "));
    loop_until(has_output(1));
    assert_string_equal(written(1), "{\"return\": \"l\", \"id\": \"l\"} ");
}

static void test_what_comes_after_an_urgent_call_waits_for_it(void **state)
{
    post(0, "urgent", 'u');
    post(1, "loop", 'a');
    loop_until(has_begun('u'));
    assert_string_equal(trace, "Pu");
    let_go('u');
    loop_until(has_output(1));
    assert_string_equal(written(1), "{\"return\": \"a\"} ");
    assert_string_equal(written(0), "{\"return\": \"u\"} ");
}

static void test_an_urgent_call_is_not_refused_by_a_closed_lane(void **state)
{
    post(0, "work", 'w');
    loop_until(has_output(0)); /* its deadline has passed */
    written(0);
    let_go('u');
    post(1, "urgent", 'u');
    loop_until(has_output(1));
    assert_string_equal(written(1), "{\"return\": \"u\"} ");
}

static void test_what_may_expire_is_cancelled_when_it_was_overtaken(void **state)
{
    post(0, "work#", 'w');
    let_go('u');
    post_large(0, "expires", 'x'); /* a worker reads it, the loop does not run */
    post(0, "urgent", 'u');
    now += SESSION_GRACE_MS;
    session_tick(sessions[0], now);
    loop_until(strstr(trace, "Fu"));
    loop_until(has_output(0));
    const char *replies = written(0);
    assert_non_null(
        strstr(replies, "expires was cancelled before it began\"}} {\"return\": \"u\"} "));
    assert_null(strstr(trace, "Px"));
}

static void test_a_call_may_go_back_to_its_worker(void **state)
{
    post(0, "stages", 's');
    let_go('s');
    loop_until(pending);
    assert_int_equal(begun['s'], 2);
    call_go_on(take_ptr(&pending));
    loop_until(has_output(0));
    assert_int_equal(begun['s'], 3);
    assert_string_equal(written(0), "{\"return\": \"s\"} ");
    assert_string_equal(trace, "FsFsFsRs");
}

static void test_a_call_whose_deadline_passed_does_not_go_on(void **state)
{
    let_go('s');
    post(0, "stages", 's');
    loop_until(pending);
    loop_until(has_output(0));
    assert_non_null(strstr(written(0), "did not finish within 1 s"));
    call_go_on(take_ptr(&pending));
    assert_string_equal(trace, "FsFsRs");
    post(0, "loop", 'a');
    assert_string_equal(written(0), "{\"return\": \"a\"} ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        dispatch_test(test_overdue_is_answered_once_whatever_the_worker_writes),
        dispatch_test(test_overdue_pending_tells_that_its_reply_is_lost),
        dispatch_test(test_overdue_pending_completed_by_its_own_answer),
        dispatch_test(test_overdue_after_its_session_is_gone),
        dispatch_test(test_a_fence_keeps_effects_and_drops_replies),
        dispatch_test(test_what_expires_is_cancelled_until_it_begins),
        dispatch_test(test_what_expires_goes_on_once_it_has_begun),
        dispatch_test(test_a_cancellation_starts_what_waits_elsewhere),
        dispatch_test(test_disconnect_in_every_state),
        dispatch_test(test_a_promise_is_not_waited_for_by_its_lane),
        dispatch_test(test_a_promise_is_not_waited_for_by_its_line),
        dispatch_test(test_a_fence_while_a_message_is_read_by_a_worker),
        dispatch_test(test_stuck_calls_do_not_keep_messages_from_being_read),
        dispatch_test(test_detached_work_is_nobodys_share),
        dispatch_test(test_an_urgent_call_passes_its_lane_and_cancels_what_waits_there),
        dispatch_test(test_what_comes_after_an_urgent_call_waits_for_it),
        dispatch_test(test_an_urgent_call_is_not_refused_by_a_closed_lane),
        dispatch_test(test_what_may_expire_is_cancelled_when_it_was_overtaken),
        dispatch_test(test_a_call_may_go_back_to_its_worker),
        dispatch_test(test_a_call_whose_deadline_passed_does_not_go_on),
        dispatch_test(test_a_freeze_meets_what_waits_for_its_lane),
        dispatch_test(test_a_rescue_finds_a_worker_whatever_runs),
        dispatch_test(test_every_kind_of_reply),
        dispatch_test(test_refused_in_their_place),
    };
    return cmocka_run_group_tests_name("dispatch", tests, NULL, NULL);
}
