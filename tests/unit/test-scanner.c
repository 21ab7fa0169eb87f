/* SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "io/scanner.h"
#include "little-memory.h"

/*
 * What comes out of the scanner is written down as text: <message> for a message, !reason for a
 * fault (without "JSON parse error, "), and at the end +N for N bytes that are held.
 */
struct sample {
    const char *input;
    size_t length;
    const char *expected;
};

#define SAMPLE(input, expected)            \
    {                                      \
        input, sizeof(input) - 1, expected \
    }

static const struct scanner_limits limits = {.message_bytes_max = 100, .depth_max = 5};

static const struct sample samples[] = {
    /* Messages. */
    SAMPLE("", "+0"),
    SAMPLE("{\"execute\":\"guest-ping\"}", "<{\"execute\":\"guest-ping\"}>+0"),
    SAMPLE("{\"execute\":\"guest-ping\"}\n", "<{\"execute\":\"guest-ping\"}>+0"),
    SAMPLE("{\"execute\":\"guest-ping\"", "+23"),
    SAMPLE(" \t\r\n [ ] \n {}\n", "<[ ]><{}>+0"),
    SAMPLE("{'execute':'guest-ping'}", "<{'execute':'guest-ping'}>+0"),
    SAMPLE("{\"a\":[1,2.5,-3e+7,true,false,null,\"x\"]}",
           "<{\"a\":[1,2.5,-3e+7,true,false,null,\"x\"]}>+0"),
    SAMPLE("{\"a\":1}{\"b\":2}[3]", "<{\"a\":1}><{\"b\":2}><[3]>+0"),
    SAMPLE("{\"a\"\n:\n1\n,\n\"b\"\n:\n2\n}", "<{\"a\"\n:\n1\n,\n\"b\"\n:\n2\n}>+0"),
    SAMPLE("{\"a\":\"}]{[,:'\"}", "<{\"a\":\"}]{[,:'\"}>+0"),
    SAMPLE("{'a':'}\"'}", "<{'a':'}\"'}>+0"),
    SAMPLE("[\"\\\"\",'\\'',\"\\\\\"]", "<[\"\\\"\",'\\'',\"\\\\\"]>+0"),
    SAMPLE("[[[[[1]]]]]", "<[[[[[1]]]]]>+0"),
    SAMPLE("[\"\x7f\xc3\xa9\xfe\"]", "<[\"\x7f\xc3\xa9\xfe\"]>+0"),

    /* Values that are no object. */
    SAMPLE("5\n", "<5>+0"),
    SAMPLE("5", "+1"),
    SAMPLE("5 6\n7", "<5><6>+1"),
    SAMPLE("\"s\"", "<\"s\">+0"),
    SAMPLE("'s'5\"t\"", "<'s'><5><\"t\">+0"),
    SAMPLE("true false\nnull ", "<true><false><null>+0"),
    SAMPLE("-1{}true[]", "<-1><{}><true><[]>+0"),
    SAMPLE("12abc\n", "<12abc>+0"),
    SAMPLE("5:\n6\n", "<5>!expecting value<6>+0"),
    SAMPLE("\"a\":1\n", "<\"a\">!expecting value+0"),

    /* Garbage. */
    SAMPLE("{bad json}\n{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("abc def\n5\n", "!invalid keyword 'abc'<5>+0"),
    SAMPLE("{\"a\":True}\n", "!invalid keyword 'True'+0"),
    SAMPLE("{\"a\":truefalse}\n", "!invalid keyword 'truefalse'+0"),
    SAMPLE("[nul]\n", "!invalid keyword 'nul'+0"),
    SAMPLE("abcdefghijabcdefghijabcdefghijabcdefghijabcdefghij\n",
           "!invalid keyword 'abcdefghijabcdefghijabcdefghijabcdefghij'+0"),
    SAMPLE("{\"a\":@}{}", "!stray '@'<{}>+0"),
    SAMPLE("\xc3\xa9\n{}", "!stray '\xef\xbf\xbd'<{}>+0"),
    SAMPLE("a\xc3\xa9\n{}", "!invalid keyword 'a'<{}>+0"),
    SAMPLE("\xfe{}5\n", "!stray '\xef\xbf\xbd'<5>+0"),
    SAMPLE("\0\n{}", "!stray '\xef\xbf\xbd'<{}>+0"),
    SAMPLE("{}\0\n", "<{}>!stray '\xef\xbf\xbd'+0"),
    SAMPLE("\x0b\n", "!stray '\x0b'+0"),
    SAMPLE("/* c */5\n6\n", "!stray '/'<6>+0"),
    SAMPLE("+5\n.5\n", "!stray '+'!stray '.'+0"),
    SAMPLE("{} x", "<{}>+1"),
    SAMPLE("{} x\n", "<{}>!invalid keyword 'x'+0"),

    /* The grammar. */
    SAMPLE("{,}\n", "!expecting value+0"),
    SAMPLE("{]\n", "!expecting value+0"),
    SAMPLE("[}\n", "!expecting value+0"),
    SAMPLE("[,]\n", "!expecting value+0"),
    SAMPLE("[1,]\n", "!expecting value+0"),
    SAMPLE("{\"a\":1,}\n", "!expecting value+0"),
    SAMPLE("{\"a\":}\n", "!expecting value+0"),
    SAMPLE("{\"a\":,}\n", "!expecting value+0"),
    SAMPLE("{\"a\"::1}\n", "!expecting value+0"),
    SAMPLE(":\n,\n", "!expecting value!expecting value+0"),
    SAMPLE("{\"a\"}\n", "!missing : in object pair+0"),
    SAMPLE("{\"a\" \"b\"}\n", "!missing : in object pair+0"),
    SAMPLE("{\"a\",1}\n", "!missing : in object pair+0"),
    SAMPLE("{\"a\":1 \"b\":2}\n", "!expected separator in dict+0"),
    SAMPLE("{\"a\":1:2}\n", "!expected separator in dict+0"),
    SAMPLE("{\"a\":1]\n", "!expected separator in dict+0"),
    SAMPLE("[1 2]\n", "!expected separator in list+0"),
    SAMPLE("[1:2]\n", "!expected separator in list+0"),
    SAMPLE("[1 true]\n", "!expected separator in list+0"),
    SAMPLE("[[1}\n", "!expected separator in list+0"),
    SAMPLE("{1:2}\n", "!key is not a string in object+0"),
    SAMPLE("{true:2}\n", "!key is not a string in object+0"),
    SAMPLE("{[]:1}\n", "!key is not a string in object+0"),
    SAMPLE("{\"a\":1,[]:1}\n", "!key is not a string in object+0"),
    SAMPLE("}{}", "!expecting value<{}>+0"),
    SAMPLE("{}]{}", "<{}>!expecting value<{}>+0"),

    /* Strings that are none. */
    SAMPLE("{\"a\":\"b\n{}", "!control character in string<{}>+0"),
    SAMPLE("{\"a\":\"b\tc\"}{}", "!control character in string<{}>+0"),
    SAMPLE("{\"a\":\"b\\\n{}", "!control character in string<{}>+0"),
    SAMPLE("{\"a\":\"b\\\t\\\"}\"}{}", "!control character in string<{}>+0"),
    SAMPLE("[\"\x1f\"]{}", "!control character in string<{}>+0"),
    SAMPLE("'abc\n{}", "!control character in string<{}>+0"),
    SAMPLE("{\"a\0b\":1}{}", "!control character in string<{}>+0"),

    /* 0xFF. */
    SAMPLE("\xff", "+0"),
    SAMPLE("\xff\xff{}\xff\n", "<{}>+0"),
    SAMPLE("{\"a\xff{}", "<{}>+0"),
    SAMPLE("{\"a\\\xff{}", "<{}>+0"),
    SAMPLE("{\"a\":12\xff{}", "<{}>+0"),
    SAMPLE("12\xff{}", "<{}>+0"),
    SAMPLE("tru\xff{}", "<{}>+0"),
    SAMPLE("[[[\xff[1]", "<[1]>+0"),
    SAMPLE("{bad \"\xff{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{,\"a\\\xff{}", "!expecting value<{}>+0"),

    /* What is skipped after a fault. */
    SAMPLE("{bad {\"a\":\"}\"}}{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{bad '}' }{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{bad [[[[[[[[[[]]]]]]]]]]}{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{bad \"x\ty\\\"}\" }{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{bad \"x\n{}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("bad {\"a\":1} {}", "!invalid keyword 'bad'<{}>+0"),
    SAMPLE("{bad", "+4"),
    SAMPLE("{bad ", "!invalid keyword 'bad'+0"),

    /* A message that was cut off, and the next one. */
    SAMPLE("{\"a\":1{\"b\":{}}\n{}", "!expected separator in dict<{}>+0"),
    SAMPLE("{\"a\":1{\"b\":{}}{}", "!expected separator in dict<{}>+0"),
    SAMPLE("{\"a\":{\"c\":1{\"b\":{}}{}{}", "!expected separator in dict<{}><{}>+0"),
    SAMPLE("{\"a\"{\"b\":\"}\"} {}", "!missing : in object pair<{}>+0"),
    SAMPLE("{\"a\":1,{\"b\":2}{}", "!key is not a string in object<{}>+0"),
    SAMPLE("{\"a\":tr{\"b\":2}{}", "!invalid keyword 'tr'<{}>+0"),
    SAMPLE("{\"a\":\"b\xff{\"c\":1{\"d\":1}{}", "!expected separator in dict<{}>+0"),
    /* It was not cut off but is malformed: its rest is passed over in silence. */
    SAMPLE("{\"a\":[{\"b\":1} {\"c\":2}]}{}", "!expected separator in list<{}>+0"),
    SAMPLE("{\"a\":[{} {},{}],\"b\":\"}\"}{}", "!expected separator in list<{}>+0"),
    SAMPLE("[{}{} , {}\n]", "!expected separator in list!expecting value+0"),
    SAMPLE("{\"a\":{}{}\xff}{}", "!expected separator in dict!expecting value<{}>+0"),

    /* Limits: 100 bytes, 5 deep. */
    SAMPLE("[[[[[[1]]]]]]{}", "!JSON nesting depth limit exceeded<{}>+0"),
    SAMPLE("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1},\"b\":2}}}}}{}",
           "!JSON nesting depth limit exceeded<{}>+0"),
    SAMPLE("[[[[[[[[[\n{}", "!JSON nesting depth limit exceeded<{}>+0"),
    SAMPLE("[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-123456\"]{}",
           "<[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-123456\"]>"
           "<{}>+0"),
    SAMPLE("[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-1234567\"]{}",
           "!JSON message size limit exceeded<{}>+0"),
    SAMPLE("[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-123456789-123456789-\\\"]\"]{}",
           "!JSON message size limit exceeded<{}>+0"),
    SAMPLE("[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-123456789-123456789-\n{}",
           "!JSON message size limit exceeded<{}>+0"),
    SAMPLE("[\"123456789-123456789-123456789-123456789-123456789-123456789-123456789-123456789-"
           "123456789-123456\xff{}",
           "<{}>+0"),
    SAMPLE(
        "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
        "901234567890 {}",
        "<123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
        "8901234567890><{}>+0"),
    SAMPLE(
        "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678"
        "9012345678901 {}\n5\n",
        "!JSON message size limit exceeded<5>+0"),
};

/* Feeds one piece, which stands in a block of its own size, and writes down what comes out. */
static void feed(struct scanner *scanner, const char *bytes, size_t length, struct buffer *events)
{
    char *piece = malloc(length ? length : 1);
    size_t at = 0;

    assert_non_null(piece);
    memcpy(piece, bytes, length);
    do {
        struct scan_outcome outcome;
        enum scan_result result = scanner_feed(scanner, piece + at, length - at, &outcome);
        static const char prefix[] = "JSON parse error, ";
        const char *reason = outcome.reason;

        assert_true(outcome.consumed <= length - at);
        at += outcome.consumed;
        assert_false(outcome.out_of_memory);
        switch (result) {
        case SCAN_MORE:
            assert_int_equal(at, length);
            break;
        case SCAN_MESSAGE:
            assert_int_equal(outcome.text[outcome.length], '\0');
            buffer_append_char(events, '<');
            buffer_append(events, outcome.text, outcome.length);
            buffer_append_char(events, '>');
            assert_int_equal(scanner_held_bytes(scanner), 0);
            break;
        case SCAN_FAULT:
            assert_true(outcome.consumed > 0);
            if (strncmp(reason, prefix, strlen(prefix)) == 0)
                reason += strlen(prefix);
            buffer_append_format(events, "!%s", reason);
            assert_int_equal(scanner_held_bytes(scanner), 0);
            break;
        }
        if (result != SCAN_MESSAGE)
            assert_null(outcome.text);
        free(outcome.text);
    } while (at < length);
    free(piece);
}

/* The input in three pieces, cut at `first` and `second`. */
static struct buffer scan_cut(const struct sample *sample, size_t first, size_t second)
{
    struct scanner *scanner = scanner_new(&limits);
    struct buffer events = BUFFER_INIT;

    assert_non_null(scanner);
    feed(scanner, sample->input, first, &events);
    feed(scanner, sample->input + first, second - first, &events);
    feed(scanner, sample->input + second, sample->length - second, &events);
    buffer_append_format(&events, "+%zu", scanner_held_bytes(scanner));
    scanner_free(scanner);
    return events;
}

static void check_cut(const struct sample *sample, size_t first, size_t second)
{
    _cleanup_buffer_ struct buffer events = scan_cut(sample, first, second);

    if (strcmp(events.data, sample->expected) != 0)
        fail_msg("\"%s\" cut at %zu and %zu:\nexpected %s\n     got %s", sample->input, first,
                 second, sample->expected, events.data);
}

static void test_whole(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
        check_cut(&samples[i], 0, 0);
}

static void test_cut_everywhere(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
        for (size_t second = 0; second <= samples[i].length; second++)
            for (size_t first = 0; first <= second; first++)
                check_cut(&samples[i], first, second);
}

static void test_byte_by_byte(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
        struct scanner *scanner = scanner_new(&limits);
        _cleanup_buffer_ struct buffer events = BUFFER_INIT;

        assert_non_null(scanner);
        for (size_t at = 0; at < samples[i].length; at++)
            feed(scanner, samples[i].input + at, 1, &events);
        buffer_append_format(&events, "+%zu", scanner_held_bytes(scanner));
        assert_string_equal(events.data, samples[i].expected);
        scanner_free(scanner);
    }
}

/* One scanner for all samples: what one leaves behind must not be seen by the next. */
static void test_reset_between(void **state)
{
    struct scanner *scanner = scanner_new(&limits);

    assert_non_null(scanner);
    for (size_t cut = 0; cut < 60; cut++) {
        for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
            _cleanup_buffer_ struct buffer events = BUFFER_INIT;
            size_t length = samples[i].length;
            feed(scanner, samples[i].input, cut < length ? cut : length, &events);
            scanner_reset(scanner);
            assert_int_equal(scanner_held_bytes(scanner), 0);
            buffer_truncate(&events, 0);
            feed(scanner, samples[i].input, length, &events);
            buffer_append_format(&events, "+%zu", scanner_held_bytes(scanner));
            assert_string_equal(events.data, samples[i].expected);
            scanner_reset(scanner);
        }
    }
    scanner_free(scanner);
}

/* Random bytes of the kind that matters, in random pieces and whole. */
static void test_random_bytes(void **state)
{
    static const char kinds[] = "{{{}}}[[]]\"\"\"''\\::,,\n \t\xff\x80"
                                "5-tnua@";

    srandom(2);
    for (int round = 0; round < 20000; round++) {
        struct scanner *scanner = scanner_new(&limits);
        struct scanner *whole = scanner_new(&limits);
        _cleanup_buffer_ struct buffer events = BUFFER_INIT, expected = BUFFER_INIT;
        char input[200];

        assert_non_null(scanner);
        assert_non_null(whole);
        for (size_t i = 0; i < sizeof(input); i++)
            input[i] =
                random() % 50 == 0 ? (char)random() : kinds[(size_t)random() % (sizeof(kinds) - 1)];
        feed(whole, input, sizeof(input), &expected);
        for (size_t at = 0; at < sizeof(input);) {
            size_t piece = (size_t)random() % 20;
            if (piece > sizeof(input) - at)
                piece = sizeof(input) - at;
            feed(scanner, input + at, piece, &events);
            at += piece;
        }
        assert_int_equal(scanner_held_bytes(scanner), scanner_held_bytes(whole));
        assert_int_equal(events.length, expected.length);
        assert_memory_equal(events.data ? events.data : "", expected.data ? expected.data : "",
                            events.length);
        scanner_free(scanner);
        scanner_free(whole);
    }
}

/* Whatever came before: after 0xFF or, outside of strings, a newline the next message is heard. */
static void test_recovers_from_anything(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
        for (size_t cut = 0; cut <= samples[i].length; cut++) {
            struct scanner *scanner = scanner_new(&limits);
            _cleanup_buffer_ struct buffer events = BUFFER_INIT;

            assert_non_null(scanner);
            feed(scanner, samples[i].input, cut, &events);
            buffer_truncate(&events, 0);
            feed(scanner, "\xff{\"a\":1}", 8, &events);
            assert_string_equal(events.data, "<{\"a\":1}>");
            scanner_free(scanner);
        }
    }
}

static const struct scanner_limits large = {.message_bytes_max = 64 << 20, .depth_max = 128};

/* Feeds `count` pieces of 64 KiB of one byte; returns the most that was held, counts the faults. */
static size_t feed_pieces(struct scanner *scanner, char byte, size_t count, unsigned *faults)
{
    static char piece[64 * 1024];
    size_t held_max = 0;

    memset(piece, byte, sizeof(piece));
    for (size_t i = 0; i < count; i++) {
        struct scan_outcome outcome;
        for (size_t at = 0; at < sizeof(piece); at += outcome.consumed) {
            enum scan_result result =
                scanner_feed(scanner, piece + at, sizeof(piece) - at, &outcome);
            assert_int_not_equal(result, SCAN_MESSAGE);
            *faults += result == SCAN_FAULT;
        }
        if (scanner_held_bytes(scanner) > held_max)
            held_max = scanner_held_bytes(scanner);
    }
    return held_max;
}

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void test_unfinished_string_of_100_mb(void **state)
{
    struct scanner *scanner = scanner_new(&large);
    _cleanup_buffer_ struct buffer events = BUFFER_INIT;
    size_t before = allocated();
    unsigned faults = 0;

    assert_non_null(scanner);
    feed(scanner, "{\"a\":\"", 6, &events);
    size_t held_max = feed_pieces(scanner, 'x', 100 * 16, &faults);
    assert_true(held_max <= large.message_bytes_max);
    assert_int_equal(faults, 1);
    assert_int_equal(scanner_held_bytes(scanner), 0);
    assert_true(allocated() < before + 64 * 1024);
    feed(scanner, "\n{}", 3, &events);
    assert_string_equal(events.data, "<{}>");
    scanner_free(scanner);
}

static void test_200000_open_brackets(void **state)
{
    static const char brackets[] = "[{";

    for (size_t kind = 0; kind < 2; kind++) {
        struct scanner *scanner = scanner_new(&large);
        _cleanup_buffer_ struct buffer events = BUFFER_INIT;
        unsigned faults = 0;

        assert_non_null(scanner);
        feed_pieces(scanner, brackets[kind], 200000 / (64 * 1024) + 1, &faults);
        assert_int_equal(faults, 1);
        assert_int_equal(scanner_held_bytes(scanner), 0);
        feed(scanner, "\n{}", 3, &events);
        assert_string_equal(events.data, "<{}>");
        scanner_free(scanner);
    }
}

/* A large message in pieces: every byte arrives, and its block is not larger than it has to be. */
static void test_large_message(void **state)
{
    const size_t length = 33 << 20;
    struct scanner *scanner = scanner_new(&large);
    struct scan_outcome outcome = {0};
    enum scan_result result = SCAN_MORE;
    char *message = malloc(length);

    assert_non_null(scanner);
    assert_non_null(message);
    for (size_t i = 0; i < length; i++)
        message[i] = (char)('A' + (i >> 8) % 26);
    message[0] = message[length - 1] = '"';
    for (size_t at = 0; at < length; at += outcome.consumed) {
        size_t piece = length - at < 64 * 1024 ? length - at : 64 * 1024;
        assert_int_equal(result, SCAN_MORE);
        result = scanner_feed(scanner, message + at, piece, &outcome);
    }
    assert_int_equal(result, SCAN_MESSAGE);
    assert_int_equal(outcome.length, length);
    assert_memory_equal(outcome.text, message, length);
    assert_true(malloc_usable_size(outcome.text) < length + length / 4);
    assert_int_equal(scanner_held_bytes(scanner), 0);
    free(outcome.text);
    free(message);
    scanner_free(scanner);
}

#if LITTLE_MEMORY_WORKS
/* A message that does not fit is one fault; the next one is heard. */
static void test_little_memory(void **state)
{
    struct scanner *scanner = scanner_new(&large);
    _cleanup_buffer_ struct buffer events = BUFFER_INIT;
    char *piece = malloc(64 * 1024);
    unsigned out_of_memory = 0, faults = 0;
    struct rlimit before;

    assert_non_null(scanner);
    assert_non_null(piece);
    memset(piece, 'x', 64 * 1024);
    feed(scanner, "\"", 1, &events);
    assert_true(little_memory_begin(8 << 20, &before));
    for (size_t i = 0; i < 40 * 16; i++) {
        struct scan_outcome outcome;
        for (size_t at = 0; at < 64 * 1024; at += outcome.consumed) {
            faults += scanner_feed(scanner, piece + at, 64 * 1024 - at, &outcome) == SCAN_FAULT;
            out_of_memory += outcome.out_of_memory;
        }
    }
    little_memory_end(&before);
    assert_int_equal(faults, 1);
    assert_int_equal(out_of_memory, 1);
    assert_int_equal(scanner_held_bytes(scanner), 0);
    feed(scanner, "\"{}", 3, &events);
    feed(scanner, "\n{}", 3, &events);
    assert_string_equal(events.data, "<{}>");
    free(piece);
    scanner_free(scanner);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_reset_between),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_recovers_from_anything),
        cmocka_unit_test(test_unfinished_string_of_100_mb),
        cmocka_unit_test(test_200000_open_brackets),
        cmocka_unit_test(test_large_message),
#if LITTLE_MEMORY_WORKS
        cmocka_unit_test(test_little_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
