/* SPDX-License-Identifier: MIT */
/*
 * Random conversations on two channels, with everything that can meet: lanes, lines, ids, fences,
 * urgency, expiry, large messages, large replies, freezes, hosts that do not read, that reset, that
 * leave. Afterwards nothing is in the way any more, the hosts read and the clock goes on: then
 * everything must come to its end. Whatever waits for one another for ever is found here.
 */
#include "dispatch-harness.h"

#include "base/buffer.h"
#include "base/clock.h"

enum { CONVERSATIONS = 100, PATIENCE_MS = 60 * 1000 };

static unsigned below(unsigned limit)
{
    return (unsigned)rand() % limit;
}

static void post_text(unsigned number, const char *text)
{
    size_t length = strlen(text);
    for (size_t taken = 0; taken < length;)
        taken += session_input(sessions[number], text + taken, length - taken, now);
}

static char random_name(void)
{
    return (char)((below(4) ? 'a' : 'A') + below(26));
}

static void post_call(unsigned number)
{
    static const char *const names[] = {"expires", "loop",        "rescue", "silent", "sized",
                                        "urgent",  "sized-apart", "thawed", "work",   "work-apart"};
    struct buffer text = BUFFER_INIT;
    buffer_append_format(&text, "{\"execute\":\"%s\",\"arguments\":{\"name\":\"%c\"}%s",
                         names[below(ARRAY_SIZE(names))], random_name(),
                         below(2) ? ",\"id\":1" : "");
    for (size_t padding = below(8) ? 0 : 70 * 1000; padding > 0; padding--)
        buffer_append_char(&text, ' ');
    buffer_append_char(&text, '}');
    post_text(number, text.data);
    buffer_deinit(&text);
}

static void post_sync(unsigned number)
{
    char text[80];
    snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":{\"id\":%u}}",
             below(2) ? "sync" : "delimited", below(1000));
    post_text(number, text);
}

/* The host reads so many bytes. */
static void drain(unsigned number, size_t length)
{
    struct iovec piece;
    while (length > 0 && session_output(sessions[number], &piece, 1) > 0) {
        size_t part = piece.iov_len < length ? piece.iov_len : length;
        session_written(sessions[number], part);
        length -= part;
    }
}

static void step(unsigned number)
{
    unsigned what = below(100);
    if (what < 50) {
        post_call(number);
    } else if (what < 60) {
        post_sync(number);
    } else if (what < 63) {
        post_text(number, "{bad}\n");
    } else if (what < 75) {
        let_go(random_name());
    } else if (what < 80) {
        now += below(400);
        session_tick(sessions[number], now);
    } else if (what < 88) {
        drain(number, below(3000));
    } else if (what < 90) {
        session_reset(sessions[number]);
    } else if (what < 91) {
        session_free(sessions[number]);
        start_session(number);
    } else if (what < 92) {
        is_frozen = !is_frozen;
    } else {
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
}

static bool is_at_end(void)
{
    bool result = scheduler_is_idle(scheduler);
    for (unsigned i = 0; i < CHANNELS; i++)
        result = result && session_is_idle(sessions[i]) && endpoints[i].pending == 0 &&
                 endpoints[i].pending_bytes == 0;
    return result;
}

static void converse(unsigned seed)
{
    srand(seed);
    for (unsigned steps = 50 + below(200); steps > 0; steps--)
        step(below(CHANNELS));
    for (int name = 0; name < NAMES; name++)
        let_go((char)name);
    uint64_t until_ms = clock_now_ms() + PATIENCE_MS;
    while (!is_at_end()) {
        if (clock_now_ms() > until_ms)
            fail_msg("the conversation with seed %u does not end", seed);
        event_base_loop(base, EVLOOP_ONCE);
        now += 10;
        for (unsigned i = 0; i < CHANNELS; i++) {
            session_tick(sessions[i], now);
            drain(i, SIZE_MAX);
        }
    }
    for (unsigned i = 0; i < CHANNELS; i++)
        assert_int_equal(session_unsent_bytes(sessions[i]), 0);
}

static void test_every_conversation_ends(void **state)
{
    for (unsigned seed = 1; seed <= CONVERSATIONS; seed++) {
        setup(state);
        converse(seed);
        teardown(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_conversation_ends)};
    return cmocka_run_group_tests_name("dispatch-random", tests, NULL, NULL);
}
