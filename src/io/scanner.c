/* SPDX-License-Identifier: MIT */
#include "io/scanner.h"

#include <stdio.h>
#include <string.h>

#include "io/grammar.h"

/*
 * Bytes are looked at where the caller has them; what belongs to an unfinished message is copied
 * once, when the call ends.
 */

enum mode {
    MODE_BETWEEN, /* no message has begun */
    MODE_MESSAGE,
    MODE_SKIPPING, /* after a fault */
};

/* The smallest block for an unfinished message. */
#define HELD_MIN 512

struct scanner {
    size_t message_bytes_max; /* immutable after init */

    enum mode mode;
    struct grammar grammar; /* of the message, or of what is being skipped */

    /*
     * Brackets that were open when what looks like the next message began. They are never closed
     * if the first message was cut off; if it was only malformed, its rest still comes.
     */
    size_t abandoned_depth;

    char *held; /* what earlier calls brought of the message */
    size_t held_length;
    size_t held_capacity;
};

static enum scan_result fault(struct scan_outcome *outcome, const char *reason)
{
    snprintf(outcome->reason, sizeof(outcome->reason), "%s", reason);
    return SCAN_FAULT;
}

static enum scan_result run_out_of_memory(struct scan_outcome *outcome)
{
    outcome->out_of_memory = true;
    return fault(outcome, "JSON message does not fit into memory");
}

static void drop_held(struct scanner *scanner)
{
    free(scanner->held);
    scanner->held = NULL;
    scanner->held_length = 0;
    scanner->held_capacity = 0;
}

static int hold(struct scanner *scanner, const char *bytes, size_t length)
{
    size_t needed = scanner->held_length + length;

    if (needed > scanner->held_capacity) {
        size_t capacity = scanner->held_capacity ? scanner->held_capacity : HELD_MIN;
        while (capacity < needed)
            capacity *= 2;
        if (capacity > scanner->message_bytes_max)
            capacity = scanner->message_bytes_max; /* and `needed` is never more */
        char *held = realloc(scanner->held, capacity);
        if (!held)
            return -ENOMEM;
        scanner->held = held;
        scanner->held_capacity = capacity;
    }
    memcpy(scanner->held + scanner->held_length, bytes, length);
    scanner->held_length = needed;
    return 0;
}

/* Hands the message out, what is held and `length` more bytes, in a block of just that size. */
static int finish_message(struct scanner *scanner, const char *bytes, size_t length,
                          struct scan_outcome *outcome)
{
    size_t total = scanner->held_length + length;
    char *text = realloc(scanner->held, total + 1);

    if (!text)
        return -ENOMEM;
    memcpy(text + scanner->held_length, bytes, length);
    text[total] = '\0';
    scanner->held = NULL;
    drop_held(scanner);
    outcome->text = text;
    outcome->length = total;
    return 0;
}

static void begin_between(struct scanner *scanner, size_t abandoned_depth)
{
    grammar_reset(&scanner->grammar);
    scanner->mode = MODE_BETWEEN;
    scanner->abandoned_depth = abandoned_depth;
}

/*
 * Passes over what may stand between messages. If the message before was abandoned, the rest of it
 * may still come: that was reported already, so it is skipped in silence.
 */
static size_t pass_between(struct scanner *scanner, const char *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        switch (bytes[at]) {
        case '\n':
        case '\xff':
            scanner->abandoned_depth = 0;
            break;
        case ' ':
        case '\t':
        case '\r':
            break;
        case ',':
        case ':':
        case ']':
        case '}':
            scanner->mode = scanner->abandoned_depth > 0 ? MODE_SKIPPING : MODE_MESSAGE;
            scanner->grammar.depth = scanner->abandoned_depth;
            scanner->abandoned_depth = 0;
            return at;
        default:
            scanner->mode = MODE_MESSAGE;
            scanner->abandoned_depth = 0;
            return at;
        }
    }
    return length;
}

/*
 * Enters skipping at `byte`, which is still to be skipped. A '{' out of place is most likely the
 * next message, this one having been cut off: then the end of that one is what to skip to, for the
 * brackets of this one will never be closed.
 */
static void begin_skipping(struct scanner *scanner, char byte)
{
    drop_held(scanner);
    scanner->mode = MODE_SKIPPING;
    if (byte == '{' && !grammar_is_in_string(&scanner->grammar)) {
        scanner->abandoned_depth = scanner->grammar.depth;
        scanner->grammar.depth = 0;
    }
}

/* Returns how many bytes were skipped; MODE_BETWEEN afterwards if that was all of it. */
static size_t skip(struct scanner *scanner, const char *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        at += grammar_pass_string(&scanner->grammar, bytes + at, length - at);
        if (at == length)
            break;
        if (bytes[at] == '\n' || bytes[at] == '\xff') {
            begin_between(scanner, 0);
            return at + 1;
        }
        if (grammar_skip_byte(&scanner->grammar, bytes[at])) {
            begin_between(scanner, scanner->abandoned_depth);
            return at + 1;
        }
    }
    return length;
}

/* How walk() ended. */
enum walk {
    WALK_OUT_OF_BYTES,
    WALK_MESSAGE, /* the message ends before `*at` */
    WALK_RESET,   /* 0xFF stands there */
    WALK_FAULT,   /* what stands there is wrong; the outcome says why */
};

/* Walks through the message from `*at`, where its part in these bytes begins. */
static enum walk walk(struct scanner *scanner, const char *bytes, size_t length, size_t *at,
                      struct scan_outcome *outcome)
{
    struct grammar *grammar = &scanner->grammar;
    const size_t room = scanner->message_bytes_max - scanner->held_length;
    const size_t end = room < length - *at ? *at + room : length; /* no more fits */

    while (*at < length) {
        *at += grammar_pass_string(grammar, bytes + *at, end - *at);
        if (*at == length)
            break;
        char byte = bytes[*at];
        if (byte == '\xff')
            return WALK_RESET;
        if (*at == end && !grammar_ends_before(grammar, byte)) {
            fault(outcome, "JSON message size limit exceeded");
            return WALK_FAULT;
        }
        switch (grammar_step(grammar, byte)) {
        case STEP_TAKEN:
            (*at)++;
            break;
        case STEP_ENDS:
            (*at)++;
            return WALK_MESSAGE;
        case STEP_ENDED:
            return WALK_MESSAGE;
        case STEP_FAULT:
            fault(outcome, grammar->reason);
            return WALK_FAULT;
        }
    }
    return WALK_OUT_OF_BYTES;
}

/* Goes on with the message from `*at`. SCAN_MORE also means that it was reset. */
static enum scan_result feed_message(struct scanner *scanner, const char *bytes, size_t length,
                                     size_t *at, struct scan_outcome *outcome)
{
    const size_t start = *at;
    int r;

    switch (walk(scanner, bytes, length, at, outcome)) {
    case WALK_OUT_OF_BYTES:
        r = hold(scanner, bytes + start, *at - start);
        if (r == 0)
            return SCAN_MORE;
        begin_skipping(scanner, '\0');
        return run_out_of_memory(outcome);
    case WALK_MESSAGE:
        r = finish_message(scanner, bytes + start, *at - start, outcome);
        if (r == 0) {
            begin_between(scanner, 0);
            return SCAN_MESSAGE;
        }
        scanner_reset(scanner);
        return run_out_of_memory(outcome);
    case WALK_RESET:
        scanner_reset(scanner);
        (*at)++;
        return SCAN_MORE;
    case WALK_FAULT:
        break;
    }
    begin_skipping(scanner, bytes[*at]);
    *at += skip(scanner, bytes + *at, length - *at);
    return SCAN_FAULT;
}

enum scan_result scanner_feed(struct scanner *scanner, const char *bytes, size_t length,
                              struct scan_outcome *ret_outcome)
{
    enum scan_result result = SCAN_MORE;
    size_t at = 0;

    ret_outcome->text = NULL;
    ret_outcome->length = 0;
    ret_outcome->reason[0] = '\0';
    ret_outcome->out_of_memory = false;

    while (at < length && result == SCAN_MORE) {
        switch (scanner->mode) {
        case MODE_BETWEEN:
            at += pass_between(scanner, bytes + at, length - at);
            break;
        case MODE_MESSAGE:
            result = feed_message(scanner, bytes, length, &at, ret_outcome);
            break;
        case MODE_SKIPPING:
            at += skip(scanner, bytes + at, length - at);
            break;
        }
    }
    ret_outcome->consumed = at;
    return result;
}

struct scanner *scanner_new(const struct scanner_limits *limits)
{
    struct scanner *scanner = calloc(1, sizeof(*scanner));
    if (!scanner)
        return NULL;
    scanner->message_bytes_max = limits->message_bytes_max;
    if (grammar_init(&scanner->grammar, limits->depth_max) < 0)
        return scanner_free(scanner);
    return scanner;
}

struct scanner *scanner_free(struct scanner *scanner)
{
    if (scanner) {
        drop_held(scanner);
        grammar_deinit(&scanner->grammar);
        free(scanner);
    }
    return NULL;
}

void scanner_reset(struct scanner *scanner)
{
    drop_held(scanner);
    begin_between(scanner, 0);
}

size_t scanner_held_bytes(const struct scanner *scanner)
{
    return scanner->held_length;
}
