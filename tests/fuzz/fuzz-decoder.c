/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "io/json-writer.h"
#include "io/json.h"
#include "io/scanner.h"

/*
 * Bytes from a host: scanner, parser and back to text.
 *
 * - However the bytes are cut into pieces, the same messages and faults come out.
 * - A message that parses is written as one line of ASCII, which parses to the same again.
 * - What the parser takes, the scanner takes for one message.
 * - After 0xFF the next message is heard, whatever came before.
 */

/* Small, so that they are reached. */
static const struct scanner_limits scanner_limits = {.message_bytes_max = 2000, .depth_max = 12};
static const struct json_limits json_limits = {.depth_max = 12, .values_max = 100};

/* Base64 that is taken is written in just one way, which gives the same bytes. */
static void check_base64(const struct json_value *value)
{
    char *text = malloc(value->length + 1);
    size_t length, again_length;

    CHECK(text);
    memcpy(text, value->text, value->length);
    if (base64_decode_in_place(text, value->length, &length) == 0) {
        CHECK(length <= value->length / 4 * 3);
        char *again = malloc(base64_encoded_length(length) + 1);
        CHECK(again);
        base64_encode(again, text, length);
        CHECK(base64_decode_in_place(again, base64_encoded_length(length), &again_length) == 0);
        CHECK(again_length == length && memcmp(text, again, length) == 0);
        free(again);
    }
    free(text);
}

/* The tree is what the header says. Returns the number of values. */
static size_t check_tree(const struct json_value *value, size_t depth)
{
    size_t count = 0, total = 1;

    if (value->name)
        CHECK(value->name[value->name_length] == '\0');
    if (value->type == JSON_STRING)
        check_base64(value);
    switch (value->type) {
    case JSON_STRING:
    case JSON_NUMBER:
        CHECK(value->text[value->length] == '\0');
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        CHECK(depth < json_limits.depth_max);
        for (const struct json_value *member = value->first; member; member = member->next) {
            CHECK((member->name != NULL) == (value->type == JSON_OBJECT));
            total += check_tree(member, depth + 1);
            count++;
        }
        CHECK(count == value->count);
        break;
    case JSON_NULL:
    case JSON_BOOL:
        break;
    }
    return total;
}

/* Parses a copy of the text; appends the tree's text to `out`. Returns false if it is refused. */
static bool parse(const char *text, size_t length, struct buffer *out)
{
    struct json_writer writer = JSON_WRITER_INIT(out);
    struct json_document *document = NULL;
    char reason[JSON_REASON_MAX] = "";
    char *copy = malloc(length + 1);

    CHECK(copy);
    memcpy(copy, text, length);
    copy[length] = '\0';
    int r = json_document_parse_take(copy, length, &json_limits, &document, reason);
    if (r < 0) {
        CHECK((r == -EBADMSG || r == -E2BIG) && !document);
        CHECK(reason[0] && memchr(reason, '\0', sizeof(reason)));
        return false;
    }
    const struct json_value *root = json_document_root(document);
    CHECK(!root->name && !root->next);
    CHECK(check_tree(root, 0) <= json_limits.values_max);
    json_copy_value(&writer, root);
    json_document_free(document, true);
    return true;
}

static void check_copy(const struct buffer *copy)
{
    _cleanup_buffer_ struct buffer again = BUFFER_INIT;

    for (size_t i = 0; i < copy->length; i++)
        CHECK(copy->data[i] >= 0x20 && copy->data[i] <= 0x7e);
    CHECK(parse(copy->data, copy->length, &again));
    CHECK(again.length == copy->length && memcmp(again.data, copy->data, copy->length) == 0);
}

/* Writes down what comes out of the scanner, and how it parses. */
static void feed(struct scanner *scanner, const char *bytes, size_t length, struct buffer *events)
{
    for (size_t at = 0; at < length;) {
        struct scan_outcome outcome;
        enum scan_result result = scanner_feed(scanner, bytes + at, length - at, &outcome);
        CHECK(outcome.consumed <= length - at);
        at += outcome.consumed;
        CHECK(scanner_held_bytes(scanner) <= scanner_limits.message_bytes_max);
        CHECK((result == SCAN_MESSAGE) == (outcome.text != NULL));
        CHECK(!outcome.out_of_memory);
        if (result == SCAN_MORE) {
            CHECK(at == length);
            continue;
        }
        CHECK(scanner_held_bytes(scanner) == 0);
        if (result == SCAN_FAULT) {
            CHECK(outcome.consumed > 0 && outcome.reason[0]);
            buffer_append_format(events, "fault: %s\n", outcome.reason);
            continue;
        }
        CHECK(outcome.length > 0 && outcome.length <= scanner_limits.message_bytes_max);
        CHECK(outcome.text[outcome.length] == '\0');
        buffer_append_format(events, "message of %zu: ", outcome.length);
        size_t before = events->length;
        if (parse(outcome.text, outcome.length, events)) {
            struct buffer copy = {events->data + before, events->length - before, 0, false};
            check_copy(&copy);
        }
        buffer_append_char(events, '\n');
        free(outcome.text);
    }
}

static struct scanner *new_scanner(void)
{
    struct scanner *scanner = scanner_new(&scanner_limits);
    CHECK(scanner);
    return scanner;
}

static void check_recovery(struct scanner *scanner)
{
    _cleanup_buffer_ struct buffer events = BUFFER_INIT;

    feed(scanner, "\xff{\"a\":1}", 8, &events);
    CHECK(events.data && strcmp(events.data, "message of 7: {\"a\": 1}\n") == 0);
}

/* Pieces of 1 to `piece_max` bytes, each in a block of its own size. */
static void check_pieces(const char *bytes, size_t length, size_t piece_max,
                         const struct buffer *expected, size_t expected_held)
{
    _cleanup_buffer_ struct buffer events = BUFFER_INIT;
    struct scanner *scanner = new_scanner();
    uint32_t random = (uint32_t)length + 1;

    for (size_t at = 0; at < length;) {
        random = random * 1664525 + 1013904223 + (unsigned char)bytes[at];
        size_t size = 1 + (random >> 16) % piece_max;
        if (size > length - at)
            size = length - at;
        char *piece = malloc(size);
        CHECK(piece);
        memcpy(piece, bytes + at, size);
        feed(scanner, piece, size, &events);
        free(piece);
        at += size;
    }
    CHECK(scanner_held_bytes(scanner) == expected_held);
    CHECK(events.length == expected->length);
    CHECK(events.length == 0 || memcmp(events.data, expected->data, events.length) == 0);
    check_recovery(scanner);
    scanner_free(scanner);
}

/* The parser alone gets to see more than the scanner lets through. */
static void check_parser(const char *bytes, size_t length)
{
    _cleanup_buffer_ struct buffer copy = BUFFER_INIT, events = BUFFER_INIT;
    char prefix[40];

    if (!parse(bytes, length, &copy))
        return;
    check_copy(&copy);
    if (length > scanner_limits.message_bytes_max)
        return;
    struct scanner *scanner = new_scanner();
    feed(scanner, bytes, length, &events);
    feed(scanner, "\n", 1, &events);
    CHECK(sscanf(events.data, "message of %39[0-9]: ", prefix) == 1);
    const char *colon = strchr(events.data, ':');
    CHECK(strlen(colon) == copy.length + 3 && memcmp(colon + 2, copy.data, copy.length) == 0);
    scanner_free(scanner);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buffer_ struct buffer events = BUFFER_INIT;
    const char *bytes = (const char *)data;
    struct scanner *scanner = new_scanner();

    feed(scanner, bytes, size, &events);
    size_t held = scanner_held_bytes(scanner);
    check_recovery(scanner);
    scanner_free(scanner);
    check_pieces(bytes, size, 1, &events, held);
    check_pieces(bytes, size, 40, &events, held);
    check_parser(bytes, size);
    return 0;
}
