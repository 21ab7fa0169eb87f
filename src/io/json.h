/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_JSON_H
#define BELLHOP_IO_JSON_H

/*
 * One JSON text as a tree. This is the only header that stands before yajl: no yajl type is seen
 * outside json.c.
 *
 * A document owns its text and everything in the tree; strings point into the text, where their
 * escapes were decoded, so a 48 MiB string is never copied. Documents are not thread safe; they are
 * moved between threads whole.
 *
 * yajl 2.1.0 is no longer maintained, so what it is known to be lax about is checked here: UTF-8,
 * surrogate pairs in \u escapes, nesting depth, the number of values, duplicate member names.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buffer;
struct json_document;

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_type type;
    const char *name; /* its member name, NUL-terminated, when it stands in an object */
    size_t name_length;
    struct json_value *next; /* the next value of the same array or object */
    union {
        bool boolean;
        struct { /* JSON_STRING: decoded UTF-8, NUL-terminated, may hold NULs inside;
                    JSON_NUMBER: its digits as they were written, NUL-terminated */
            char *text;
            size_t length;
        };
        struct { /* JSON_ARRAY, JSON_OBJECT */
            struct json_value *first;
            size_t count;
        };
    };
};

struct json_limits {
    size_t depth_max;  /* arrays and objects inside each other */
    size_t values_max; /* values in the whole text */
};

/*
 * Parses a complete text. The text must have been allocated with malloc and be followed by a NUL
 * at text[length]; the document takes it, also on failure. 'single quoted' strings are taken too,
 * as the classic agent does.
 * Returns 0; -EBADMSG (not JSON, bad UTF-8, a duplicate member), -E2BIG (a limit) with the
 * reason in `ret_reason` (a static or document-independent string of at most 159 characters
 * such as "JSON parse error, duplicate key"); or -ENOMEM.
 */
#define JSON_REASON_MAX 160
int json_document_parse_take(char *text, size_t length, const struct json_limits *limits,
                             struct json_document **ret_document,
                             char ret_reason[JSON_REASON_MAX]) MUST_CHECK;

/* Returns NULL. With `wipe` the text is overwritten first (it held a secret). */
struct json_document *json_document_free(struct json_document *document, bool wipe);

/* The outermost value. Borrowed; lives as long as the document. */
const struct json_value *json_document_root(const struct json_document *document);

/* The member of an object, or NULL. */
const struct json_value *json_object_get(const struct json_value *object, const char *name);

/*
 * The number as an integer, exactly: only an optional minus and digits count as one (1.0 and 1e3
 * do not). Return false if it is not an integer of that range.
 */
bool json_get_int64(const struct json_value *value, int64_t *ret_integer);
bool json_get_uint64(const struct json_value *value, uint64_t *ret_integer);

/* The name QMP errors use for a type: "integer" is not among them ("number" for JSON_NUMBER). */
const char *json_type_name(enum json_type type);

#endif
