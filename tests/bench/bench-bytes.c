/* SPDX-License-Identifier: MIT */

/*
 * How fast the bytes layer is, in MB/s of what a client would count: bytes of a file for base64,
 * characters on the wire for the rest. Every figure is the best of some runs, in CPU time, so that
 * what else the machine does counts little.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "io/grammar.h"
#include "io/json-writer.h"
#include "io/json.h"
#include "io/scanner.h"

#define FILE_BYTES  ((size_t)48 << 20)
#define PIECE_BYTES ((size_t)64 << 10)
#define RUNS        5

static const struct scanner_limits scanner_limits = {.message_bytes_max = (size_t)128 << 20,
                                                     .depth_max = 128};
static const struct json_limits json_limits = {.depth_max = 128, .values_max = 10000000};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static char *copy_of(const char *text, size_t length)
{
    char *copy = must(malloc(length + 1));
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static void print(const char *what, size_t bytes, double seconds)
{
    printf("%-52s %8.0f MB/s\n", what, (double)bytes / seconds / 1e6);
    fflush(stdout);
}

static double encode(const unsigned char *bytes, char *text)
{
    double start = now_s();
    base64_encode(text, bytes, FILE_BYTES);
    return now_s() - start;
}

static double decode(const char *text, size_t length, const unsigned char *bytes)
{
    char *copy = copy_of(text, length);
    size_t decoded = 0;
    double start = now_s();
    int r = base64_decode_in_place(copy, length, &decoded);
    double seconds = now_s() - start;
    if (r < 0 || decoded != FILE_BYTES || memcmp(copy, bytes, decoded) != 0)
        abort();
    free(copy);
    return seconds;
}

/* Cuts the text, which holds `messages`, in pieces. */
static double scan(const char *text, size_t length, size_t messages)
{
    struct scanner *scanner = must(scanner_new(&scanner_limits));
    double start = now_s();

    for (size_t begin = 0; begin < length; begin += PIECE_BYTES) {
        size_t end = length - begin < PIECE_BYTES ? length : begin + PIECE_BYTES;
        for (size_t at = begin; at < end;) {
            struct scan_outcome outcome;
            enum scan_result result = scanner_feed(scanner, text + at, end - at, &outcome);
            if (result == SCAN_FAULT)
                abort();
            messages -= result == SCAN_MESSAGE;
            free(outcome.text);
            at += outcome.consumed;
        }
    }
    double seconds = now_s() - start;
    if (messages != 0)
        abort();
    scanner_free(scanner);
    return seconds;
}

/* The same without putting the pieces together, which costs more than looking at them. */
static double look(const char *text, size_t length)
{
    struct grammar grammar;
    enum grammar_step step = STEP_TAKEN;

    if (grammar_init(&grammar, 128) < 0)
        abort();
    double start = now_s();
    for (size_t begin = 0; begin < length; begin += PIECE_BYTES) {
        size_t end = length - begin < PIECE_BYTES ? length : begin + PIECE_BYTES;
        for (size_t at = begin; at < end; at++) {
            at += grammar_pass_string(&grammar, text + at, end - at);
            if (at < end && step == STEP_TAKEN)
                step = grammar_step(&grammar, text[at]);
        }
    }
    double seconds = now_s() - start;
    if (step != STEP_ENDS)
        abort();
    grammar_deinit(&grammar);
    return seconds;
}

static double parse(const char *text, size_t length, size_t times)
{
    char **copies = must(calloc(times, sizeof(*copies)));

    for (size_t i = 0; i < times; i++)
        copies[i] = copy_of(text, length);
    double start = now_s();
    for (size_t i = 0; i < times; i++) {
        struct json_document *document;
        char reason[JSON_REASON_MAX];
        if (json_document_parse_take(copies[i], length, &json_limits, &document, reason) < 0)
            abort();
        json_document_free(document, false);
    }
    double seconds = now_s() - start;
    free(copies);
    return seconds;
}

static double write_text(const char *text, size_t length)
{
    struct buffer out = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&out);

    buffer_reserve(&out, length * 7);
    double start = now_s();
    json_string_n(&writer, text, length);
    double seconds = now_s() - start;
    buffer_deinit(&out);
    return seconds;
}

/* The best of some runs of an expression that is a time. */
#define BEST(expression)                                 \
    ({                                                   \
        double best_ = expression;                       \
        for (int run_ = 1; run_ < RUNS; run_++) {        \
            double seconds_ = expression;                \
            best_ = seconds_ < best_ ? seconds_ : best_; \
        }                                                \
        best_;                                           \
    })

static void bench_base64_and_string(void)
{
    const size_t length = base64_encoded_length(FILE_BYTES);
    unsigned char *bytes = must(malloc(FILE_BYTES));
    char *text = must(malloc(length));
    struct buffer message = BUFFER_INIT, lines = BUFFER_INIT, escaped = BUFFER_INIT;

    for (size_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    memset(text, 0, length);
    print("base64 encode", FILE_BYTES, BEST(encode(bytes, text)));
    print("base64 decode", FILE_BYTES, BEST(decode(text, length, bytes)));

    buffer_append_text(&message, "{\"a\":\"");
    buffer_append(&message, text, length);
    buffer_append_text(&message, "\"}\n");
    buffer_append_text(&escaped, "{\"a\":\"");
    for (size_t at = 0; at < length; at += 76) {
        size_t line = length - at < 76 ? length - at : 76;
        buffer_append(&lines, text + at, line);
        buffer_append(&escaped, text + at, line);
        buffer_append_char(&lines, '\n');
        buffer_append_text(&escaped, "\\n");
    }
    buffer_append_text(&escaped, "\"}\n");
    print("base64 decode, lines of 76", FILE_BYTES, BEST(decode(lines.data, lines.length, bytes)));

    print("scanner, a 64 MiB string in pieces of 64 KiB", message.length,
          BEST(scan(message.data, message.length, 1)));
    print("  without putting the pieces together", message.length,
          BEST(look(message.data, message.length)));
    print("json parse, a 64 MiB string", message.length,
          BEST(parse(message.data, message.length, 1)));
    print("json parse, the same with \\n every 76 characters", escaped.length,
          BEST(parse(escaped.data, escaped.length, 1)));
    print("json write, a 64 MiB string", length, BEST(write_text(text, length)));
    buffer_deinit(&message);
    buffer_deinit(&lines);
    buffer_deinit(&escaped);
    free(bytes);
    free(text);
}

static void bench_small_messages(void)
{
    static const char ping[] = "{\"execute\":\"guest-ping\"}\n";
    static const char exec[] =
        "{\"execute\":\"guest-exec\",\"arguments\":{\"path\":\"/bin/sh\",\"arg\":[\"-c\",\"ls\"],"
        "\"env\":[\"A=b\",\"C=d\"],\"capture-output\":true},\"id\":17}\n";
    const size_t count = 100000;
    struct buffer pings = BUFFER_INIT, execs = BUFFER_INIT;

    for (size_t i = 0; i < count; i++) {
        buffer_append_text(&pings, ping);
        buffer_append_text(&execs, exec);
    }
    print("scanner, guest-ping after guest-ping", pings.length,
          BEST(scan(pings.data, pings.length, count)));
    print("scanner, guest-exec after guest-exec", execs.length,
          BEST(scan(execs.data, execs.length, count)));
    double seconds = BEST(parse(ping, sizeof(ping) - 1, count));
    print("json parse, guest-ping", pings.length, seconds);
    printf("%-52s %8.0f ns\n", "  each", seconds / (double)count * 1e9);
    seconds = BEST(parse(exec, sizeof(exec) - 1, count));
    print("json parse, guest-exec", execs.length, seconds);
    printf("%-52s %8.0f ns\n", "  each", seconds / (double)count * 1e9);
    buffer_deinit(&pings);
    buffer_deinit(&execs);
}

/* What a host could send to keep the loop busy: 64 KiB, which are parsed on it. */
static void bench_hostile(void)
{
    struct buffer members = BUFFER_INIT, numbers = BUFFER_INIT, words = BUFFER_INIT;

    for (unsigned i = 0; members.length < PIECE_BYTES - 20; i++)
        buffer_append_format(&members, "%c\"%x\":0", i == 0 ? '{' : ',', i * 40503u & 0xffff);
    buffer_append_char(&members, '}');
    while (numbers.length < PIECE_BYTES - 3)
        buffer_append_text(&numbers, numbers.length == 0 ? "[0" : ",0");
    buffer_append_char(&numbers, ']');
    while (words.length < (size_t)16 << 20)
        buffer_append_text(&words, "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 ");
    printf("%-52s %8.2f ms\n", "json parse, 64 KiB of members",
           BEST(parse(members.data, members.length, 1)) * 1e3);
    printf("%-52s %8.2f ms\n", "json parse, 64 KiB of numbers",
           BEST(parse(numbers.data, numbers.length, 1)) * 1e3);
    print("json write, 16 MiB that is not ASCII", words.length,
          BEST(write_text(words.data, words.length)));
    buffer_deinit(&members);
    buffer_deinit(&numbers);
    buffer_deinit(&words);
}

int main(void)
{
    bench_base64_and_string();
    bench_small_messages();
    bench_hostile();
    return 0;
}
