/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_ARGS_H
#define BELLHOP_CMDS_ARGS_H

/*
 * Declarative arguments: rows say which members a command takes, and one decoder turns a JSON
 * object into the command's plain struct. Errors name the member by its path
 * ("vcpus[0].online") and what was expected, in the protocol's wording.
 *
 * Members are checked in the order of the rows; members without a row are refused last.
 * Strings are refused if they hold a NUL. Pure functions of their arguments: any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct json_document;
struct json_value;
struct wire_error;

/* A string argument: NUL-terminated, lives in the request's document, may be changed in place. */
struct arg_text {
    char *data; /* NULL when the member was not given */
    size_t length;
};

/* A list argument. `items` is an array of the element type, NULL when not given. */
struct arg_list {
    void *items;
    size_t count;
    bool given;
};

enum arg_type {
    ARG_BOOL,   /* bool */
    ARG_INT64,  /* int64_t */
    ARG_UINT64, /* uint64_t */
    ARG_STRING, /* struct arg_text */
    ARG_LIST,   /* struct arg_list of the elements that `element` describes */
    ARG_STRUCT, /* a struct in place, described by `fields` */
    ARG_ENUM,   /* int: index into `names` */
    ARG_CUSTOM, /* whatever `decode` makes of it (QAPI alternates) */
};

enum {
    ARG_OPTIONAL = 1 << 0, /* may be missing; `has_offset` (if any) tells */
    ARG_SECRET = 1 << 1,   /* kept out of the log; its memory is wiped after use */
};

#define ARG_NO_HAS ((size_t)-1)

struct arg_spec {
    const char *name;
    const char *other_name; /* an older spelling that is taken too, or NULL */
    enum arg_type type;
    unsigned flags;
    size_t offset;     /* of the member in the command's struct */
    size_t has_offset; /* of the bool that says whether it was given, or ARG_NO_HAS */

    const char *const *names; /* ARG_ENUM: NULL-terminated */

    const struct arg_spec *element; /* ARG_LIST: one row, its offset 0 */
    size_t element_size;            /* ARG_LIST: sizeof one element */

    const struct arg_spec *fields; /* ARG_STRUCT: rows, ended by ARG_END */

    /* ARG_CUSTOM: returns false if the value does not fit. It may set an error of its own, naming
     * the member by `path`; otherwise the error says that `expected` was expected. */
    bool (*decode)(const struct json_value *value, void *ret_member, struct wire_error *error,
                   const char *path);
    const char *expected;
};

#define ARG_END {.name = NULL}

/* Rows for the common cases; `member` is the C name, `wire` the protocol's. */
#define ARG(kind, structure, member, wire)                                                         \
    .name = (wire), .type = (kind), .offset = offsetof(structure, member), .has_offset = ARG_NO_HAS
#define ARG_OPT(kind, structure, member, wire)                                                     \
    .name = (wire), .type = (kind), .offset = offsetof(structure, member),                         \
    .has_offset = offsetof(structure, has_##member), .flags = ARG_OPTIONAL

/*
 * Decodes `arguments` (NULL stands for an empty object) into `ret_args`, which the caller has
 * zeroed. Strings point into the document. Returns 0, or -EINVAL with the error filled in, or -ENOMEM.
 * What was allocated for lists is released by args_deinit(), also after a failure.
 */
int args_decode(const struct arg_spec *specs, const struct json_value *arguments, void *ret_args,
                struct wire_error *ret_error) MUST_CHECK;
void args_deinit(const struct arg_spec *specs, void *args);

/* True if one of the rows is marked ARG_SECRET. */
bool args_have_secret(const struct arg_spec *specs);

/*
 * Appends "path=/etc/motd mode=r" to the buffer, for the log: secrets left out, long values cut.
 */
struct buffer;
void args_describe(const struct arg_spec *specs, const void *args, struct buffer *out);

#endif
