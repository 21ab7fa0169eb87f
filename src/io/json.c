/* SPDX-License-Identifier: MIT */
#include "io/json.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "io/grammar.h"
#include "io/json-strings.h"

/*
 * A text is parsed in two passes: json-strings.c checks and decodes what is inside strings, then
 * yajl checks everything else and calls back for each value, which is put into the tree.
 *
 * What yajl 2.1.0 is known to get wrong is out of its reach here. It sees no escapes, so its string
 * decoder and the unchecked growth of that decoder's buffer are never used; it gets the whole text
 * at once and a space after it, so that no token is cut short and copied by its lexer; and the few
 * small blocks that it still asks for come from scratch memory that is there already.
 */

/* Far below the sizes at which yajl's 32-bit arithmetic could overflow. */
#define TEXT_BYTES_MAX ((size_t)1 << 30)

#define BLOCK_VALUES_MIN 16
#define BLOCK_VALUES_MAX 4096

struct value_block {
    struct value_block *next; /* the one filled before */
    size_t used;
    size_t capacity;
    struct json_value values[];
};

struct json_document {
    char *text;
    size_t length;
    struct value_block *blocks; /* the one being filled first */
    const struct json_value *root;
};

/*
 * yajl's memory: it checks no allocation. It wants some 3 KiB and a byte for each level of nesting;
 * up to a depth of 1024 all of it fits, and what does not comes from malloc.
 */
struct scratch {
    alignas(max_align_t) char memory[3 * 1024 + 3 * 1024];
    size_t used;
    char *last; /* the block handed out last */
};

/* A container that is still open, and its last value so far. */
struct frame {
    struct json_value *container;
    struct json_value *last;
};

struct parser {
    struct json_document *document;
    const struct json_limits *limits;
    size_t value_count;

    const char *name; /* of the next value */
    size_t name_length;

    struct frame *frames;
    size_t frame_count;
    size_t frame_capacity;

    int error; /* why a callback stopped yajl: -errno */
    char *reason;
};

/* Stops yajl. */
static int stop(struct parser *parser, int error, const char *reason)
{
    parser->error = error;
    snprintf(parser->reason, JSON_REASON_MAX, "%s", reason);
    return 0;
}

static struct json_value *take_slot(struct json_document *document)
{
    struct value_block *block = document->blocks;

    if (!block || block->used == block->capacity) {
        size_t capacity = block ? block->capacity * 2 : BLOCK_VALUES_MIN;
        if (capacity > BLOCK_VALUES_MAX)
            capacity = BLOCK_VALUES_MAX;
        block = malloc(sizeof(*block) + capacity * sizeof(block->values[0]));
        if (!block)
            return NULL;
        block->next = document->blocks;
        block->used = 0;
        block->capacity = capacity;
        document->blocks = block;
    }
    return &block->values[block->used++];
}

/* Appends a value to the innermost open container. Returns NULL if yajl has to stop. */
static struct json_value *add_value(struct parser *parser, enum json_type type)
{
    if (parser->value_count == parser->limits->values_max) {
        stop(parser, -E2BIG, "JSON value count limit exceeded");
        return NULL;
    }
    struct json_value *value = take_slot(parser->document);
    if (!value) {
        stop(parser, -ENOMEM, "JSON text does not fit into memory");
        return NULL;
    }
    *value =
        (struct json_value){.type = type, .name = parser->name, .name_length = parser->name_length};
    parser->name = NULL;
    parser->name_length = 0;
    parser->value_count++;

    if (parser->frame_count == 0) {
        parser->document->root = value;
        return value;
    }
    struct frame *frame = &parser->frames[parser->frame_count - 1];
    if (frame->last)
        frame->last->next = value;
    else
        frame->container->first = value;
    frame->last = value;
    frame->container->count++;
    return value;
}

static int open_container(struct parser *parser, enum json_type type)
{
    if (parser->frame_count == parser->limits->depth_max)
        return stop(parser, -E2BIG, "JSON nesting depth limit exceeded");
    if (parser->frame_count == parser->frame_capacity) {
        size_t capacity = parser->frame_capacity ? parser->frame_capacity * 2 : 16;
        struct frame *frames = realloc(parser->frames, capacity * sizeof(*frames));
        if (!frames)
            return stop(parser, -ENOMEM, "JSON text does not fit into memory");
        parser->frames = frames;
        parser->frame_capacity = capacity;
    }
    struct json_value *value = add_value(parser, type);
    if (!value)
        return 0;
    parser->frames[parser->frame_count++] = (struct frame){value, NULL};
    return 1;
}

/* By length first: most names differ in it, and the rest compares fast. */
static int compare_names(const struct json_value *a, const struct json_value *b)
{
    if (a->name_length != b->name_length)
        return a->name_length < b->name_length ? -1 : 1;
    return memcmp(a->name, b->name, a->name_length);
}

static int compare_name_pointers(const void *a, const void *b)
{
    return compare_names(*(const struct json_value *const *)a,
                         *(const struct json_value *const *)b);
}

/* Sorting is good for thousands of members, and a host can do nothing to make it slow. */
static int check_many_names(struct parser *parser, const struct json_value *object)
{
    _cleanup_free_ const struct json_value **members = malloc(object->count * sizeof(*members));
    size_t count = 0;

    if (!members)
        return stop(parser, -ENOMEM, "JSON text does not fit into memory");
    for (const struct json_value *member = object->first; member; member = member->next)
        members[count++] = member;
    qsort(members, count, sizeof(*members), compare_name_pointers);
    for (size_t i = 1; i < count; i++)
        if (compare_names(members[i - 1], members[i]) == 0)
            return stop(parser, -EBADMSG, "JSON parse error, duplicate key");
    return 1;
}

/* Names are not restored yet; no two different ones look the same before it either. */
static int check_names(struct parser *parser, const struct json_value *object)
{
    if (object->count > 12)
        return check_many_names(parser, object);
    for (const struct json_value *a = object->first; a; a = a->next)
        for (const struct json_value *b = a->next; b; b = b->next)
            if (compare_names(a, b) == 0)
                return stop(parser, -EBADMSG, "JSON parse error, duplicate key");
    return 1;
}

/* yajl hands out the text as constant and unsigned; it is ours, and writable. */
static char *own_text(struct json_document *document, const void *text)
{
    return document->text + ((const char *)text - document->text);
}

static int on_null(void *context)
{
    return add_value(context, JSON_NULL) != NULL;
}

static int on_boolean(void *context, int boolean)
{
    struct json_value *value = add_value(context, JSON_BOOL);
    if (!value)
        return 0;
    value->boolean = boolean;
    return 1;
}

static int on_number(void *context, const char *digits, size_t length)
{
    struct parser *parser = context;
    struct json_value *value = add_value(parser, JSON_NUMBER);
    if (!value)
        return 0;
    value->text = own_text(parser->document, digits);
    value->length = length;
    return 1;
}

static int on_string(void *context, const unsigned char *text, size_t length)
{
    struct parser *parser = context;
    struct json_value *value = add_value(parser, JSON_STRING);
    if (!value)
        return 0;
    value->text = own_text(parser->document, text);
    value->length = length;
    return 1;
}

static int on_start_map(void *context)
{
    return open_container(context, JSON_OBJECT);
}

static int on_map_key(void *context, const unsigned char *text, size_t length)
{
    struct parser *parser = context;

    parser->name = (const char *)text;
    parser->name_length = length;
    return 1;
}

static int on_end_map(void *context)
{
    struct parser *parser = context;
    return check_names(parser, parser->frames[--parser->frame_count].container);
}

static int on_start_array(void *context)
{
    return open_container(context, JSON_ARRAY);
}

static int on_end_array(void *context)
{
    ((struct parser *)context)->frame_count--;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_map_key,
    .yajl_end_map = on_end_map,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end_array,
};

static void *scratch_alloc(void *context, size_t size)
{
    struct scratch *scratch = context;
    size_t room = sizeof(scratch->memory) - scratch->used;
    size_t taken = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);

    if (taken > room)
        return malloc(size);
    scratch->last = scratch->memory + scratch->used;
    scratch->used += taken;
    return scratch->last;
}

static bool is_in_scratch(const struct scratch *scratch, const char *memory)
{
    return memory >= scratch->memory && memory < scratch->memory + sizeof(scratch->memory);
}

static void *scratch_resize(void *context, void *memory, size_t size)
{
    struct scratch *scratch = context;

    if (!memory)
        return scratch_alloc(scratch, size);
    if (!is_in_scratch(scratch, memory))
        return realloc(memory, size);

    /* How large the block was is not written anywhere, but it ends before this many bytes. */
    size_t size_was = scratch->used - (size_t)((char *)memory - scratch->memory);
    if (memory == scratch->last)
        scratch->used -= size_was;
    void *resized = scratch_alloc(scratch, size);
    if (resized && resized != memory)
        memcpy(resized, memory, size < size_was ? size : size_was);
    return resized;
}

static void scratch_release(void *context, void *memory)
{
    if (!is_in_scratch(context, memory))
        free(memory);
}

/* A number that is none, or something after the text's end: names it as the classic agent does. */
static void word_stray(const struct parser *parser, size_t offset)
{
    static const char bare[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._";
    const struct json_document *document = parser->document;
    size_t begin = offset < document->length ? offset : document->length;

    while (begin > 0 && strchr(bare, document->text[begin - 1]))
        begin--;
    size_t length = strspn(document->text + begin, bare);
    if (length > GRAMMAR_WORD_MAX)
        length = GRAMMAR_WORD_MAX;
    if (length == 0)
        snprintf(parser->reason, JSON_REASON_MAX, "JSON parse error, expecting one value");
    else
        snprintf(parser->reason, JSON_REASON_MAX, "JSON parse error, stray '%.*s'", (int)length,
                 document->text + begin);
}

/* yajl found the text at fault at `offset`: says why in the words that the scanner would use. */
static void word_fault(const struct parser *parser, size_t offset)
{
    const struct json_document *document = parser->document;
    enum grammar_step step = STEP_TAKEN;
    struct grammar grammar;

    if (grammar_init(&grammar, parser->limits->depth_max) < 0) {
        word_stray(parser, offset);
        return;
    }
    /* Past its end stands a space, which ends a bare number or word. */
    for (size_t at = 0; step == STEP_TAKEN && at <= document->length; at++) {
        size_t left = document->length - at;
        at += grammar_pass_string(&grammar, document->text + at, left);
        step = grammar_step(&grammar, document->text[at]);
    }
    if (step == STEP_FAULT)
        snprintf(parser->reason, JSON_REASON_MAX, "%s", grammar.reason);
    else if (step == STEP_TAKEN)
        snprintf(parser->reason, JSON_REASON_MAX, "JSON parse error, unexpected end of input");
    else
        word_stray(parser, offset);
    grammar_deinit(&grammar);
}

/* Runs yajl over the text. Returns 0 or -errno. */
static int build_tree(struct parser *parser)
{
    struct json_document *document = parser->document;
    struct scratch scratch = {.used = 0};
    yajl_alloc_funcs functions = {scratch_alloc, scratch_resize, scratch_release, &scratch};

    yajl_handle yajl = yajl_alloc(&callbacks, &functions, parser);
    yajl_config(yajl, yajl_dont_validate_strings, 1);
    document->text[document->length] = ' ';
    yajl_status status =
        yajl_parse(yajl, (const unsigned char *)document->text, document->length + 1);
    size_t offset = yajl_get_bytes_consumed(yajl);
    yajl_free(yajl);

    if (status == yajl_status_client_canceled)
        return parser->error;
    if (status == yajl_status_error || !document->root || parser->frame_count > 0) {
        word_fault(parser, offset);
        return -EBADMSG;
    }
    return 0;
}

/* Gives strings their content back, and all texts their NULs. */
static void finish_texts(struct json_document *document, bool rewritten)
{
    for (struct value_block *block = document->blocks; block; block = block->next) {
        for (size_t i = 0; i < block->used; i++) {
            struct json_value *value = &block->values[i];
            if (value->name) {
                char *name = own_text(document, value->name);
                if (rewritten)
                    value->name_length = json_strings_restore(name, value->name_length);
                name[value->name_length] = '\0';
            }
            if (value->type != JSON_STRING && value->type != JSON_NUMBER)
                continue;
            if (rewritten && value->type == JSON_STRING)
                value->length = json_strings_restore(value->text, value->length);
            value->text[value->length] = '\0';
        }
    }
}

static int parse(struct json_document *document, const struct json_limits *limits, char *reason)
{
    struct parser parser = {.document = document, .limits = limits, .reason = reason};
    bool rewritten = false;

    if (document->length > TEXT_BYTES_MAX) {
        snprintf(reason, JSON_REASON_MAX, "JSON message size limit exceeded");
        return -E2BIG;
    }
    int r = json_strings_prepare(document->text, document->length, &rewritten, reason);
    if (r < 0)
        return r;
    r = build_tree(&parser);
    free(parser.frames);
    if (r < 0)
        return r;
    finish_texts(document, rewritten);
    return 0;
}

int json_document_parse_take(char *text, size_t length, const struct json_limits *limits,
                             struct json_document **ret_document, char ret_reason[JSON_REASON_MAX])
{
    struct json_document *document = calloc(1, sizeof(*document));

    if (!document) {
        free(text);
        snprintf(ret_reason, JSON_REASON_MAX, "JSON text does not fit into memory");
        return -ENOMEM;
    }
    document->text = text;
    document->length = length;
    int r = parse(document, limits, ret_reason);
    if (r < 0) {
        json_document_free(document, false);
        return r;
    }
    *ret_document = document;
    return 0;
}

struct json_document *json_document_free(struct json_document *document, bool wipe)
{
    if (!document)
        return NULL;
    while (document->blocks) {
        struct value_block *block = document->blocks;
        document->blocks = block->next;
        free(block);
    }
    if (wipe)
        explicit_bzero(document->text, document->length);
    free(document->text);
    free(document);
    return NULL;
}

const struct json_value *json_document_root(const struct json_document *document)
{
    return document->root;
}

const struct json_value *json_object_get(const struct json_value *object, const char *name)
{
    size_t length = strlen(name);

    for (const struct json_value *member = object->first; member; member = member->next)
        if (member->name_length == length && memcmp(member->name, name, length) == 0)
            return member;
    return NULL;
}

/* Reads an optional minus and digits. Returns false if it is anything else or too large. */
static bool read_integer(const struct json_value *value, bool *ret_negative,
                         uint64_t *ret_magnitude)
{
    if (value->type != JSON_NUMBER)
        return false;
    const char *at = value->text;
    bool negative = *at == '-';
    uint64_t magnitude = 0;

    for (at += negative; *at; at++) {
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, (uint64_t)(*at - '0'), &magnitude))
            return false;
    }
    *ret_negative = negative;
    *ret_magnitude = magnitude;
    return true;
}

bool json_get_int64(const struct json_value *value, int64_t *ret_integer)
{
    uint64_t magnitude;
    bool negative;

    if (!read_integer(value, &negative, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *ret_integer = (int64_t)(negative ? -magnitude : magnitude);
    return true;
}

bool json_get_uint64(const struct json_value *value, uint64_t *ret_integer)
{
    uint64_t magnitude;
    bool negative;

    if (!read_integer(value, &negative, &magnitude) || (negative && magnitude > 0))
        return false;
    *ret_integer = magnitude;
    return true;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",     [JSON_BOOL] = "boolean", [JSON_NUMBER] = "number",
        [JSON_STRING] = "string", [JSON_ARRAY] = "array",  [JSON_OBJECT] = "object",
    };
    return names[type];
}
