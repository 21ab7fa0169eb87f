/* SPDX-License-Identifier: MIT */
#include "cmds/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "cmds/wire-error.h"
#include "io/json.h"

/* A member's path as errors name it, "vcpus[0].online". Longer ones are cut. */
enum { PATH_MAX_BYTES = 256 };

/* In the log, a longer string is cut. */
enum { DESCRIBED_BYTES_MAX = 128, DESCRIBED_ITEMS_MAX = 16 };

static int decode_fields(const struct arg_spec *specs, const struct json_value *object, char *base,
                         const char *path, struct wire_error *error);

static const char *type_expected(const struct arg_spec *spec)
{
    switch (spec->type) {
    case ARG_BOOL:
        return "boolean";
    case ARG_INT64:
    case ARG_UINT64:
        return "integer";
    case ARG_STRING:
    case ARG_ENUM:
        return "string";
    case ARG_LIST:
        return "array";
    case ARG_STRUCT:
        return "object";
    case ARG_CUSTOM:
        return spec->expected;
    }
    return "";
}

static int fail_type(const char *path, const char *expected, struct wire_error *error)
{
    wire_error_set(error, WIRE_GENERIC_ERROR, "Invalid parameter type for '%s', expected: %s", path,
                   expected);
    return -EINVAL;
}

/* A negative number is taken for what it is modulo 2^64: the classic agent's way. */
static int decode_uint64(const struct json_value *value, const char *path, uint64_t *ret,
                         struct wire_error *error)
{
    int64_t negative;
    if (json_get_uint64(value, ret))
        return 0;
    if (json_get_int64(value, &negative)) {
        *ret = (uint64_t)negative;
        return 0;
    }
    wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' expects uint64", path);
    return -EINVAL;
}

static int decode_string(const struct json_value *value, const char *path, struct arg_text *ret,
                         struct wire_error *error)
{
    if (memchr(value->text, '\0', value->length)) {
        wire_error_set(error, WIRE_GENERIC_ERROR,
                       "Invalid parameter '%s': a string without NUL characters is expected", path);
        return -EINVAL;
    }
    ret->data = value->text;
    ret->length = value->length;
    return 0;
}

static int decode_enum(const struct arg_spec *spec, const struct json_value *value,
                       const char *path, int *ret, struct wire_error *error)
{
    for (int i = 0; spec->names[i]; i++) {
        if (strlen(spec->names[i]) == value->length &&
            memcmp(spec->names[i], value->text, value->length) == 0) {
            *ret = i;
            return 0;
        }
    }
    wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' does not accept value '%s'", path,
                   value->text);
    return -EINVAL;
}

static int decode_value(const struct arg_spec *spec, const struct json_value *value, void *member,
                        const char *path, struct wire_error *error);

static int decode_list(const struct arg_spec *spec, const struct json_value *value,
                       struct arg_list *ret, const char *path, struct wire_error *error)
{
    ret->given = true;
    if (value->count == 0)
        return 0;
    char *items = calloc(value->count, spec->element_size);
    if (!items)
        return -ENOMEM;
    /* Set before the elements are decoded: args_deinit() frees what a failure leaves. */
    ret->items = items;
    ret->count = value->count;
    size_t index = 0;
    for (const struct json_value *item = value->first; item; item = item->next, index++) {
        char item_path[PATH_MAX_BYTES];
        snprintf(item_path, sizeof(item_path), "%s[%zu]", path, index);
        int error_code =
            decode_value(spec->element, item, items + index * spec->element_size, item_path, error);
        if (error_code)
            return error_code;
    }
    return 0;
}

static bool type_fits(const struct arg_spec *spec, const struct json_value *value)
{
    switch (spec->type) {
    case ARG_BOOL:
        return value->type == JSON_BOOL;
    case ARG_INT64:
        return value->type == JSON_NUMBER;
    case ARG_STRING:
    case ARG_ENUM:
        return value->type == JSON_STRING;
    case ARG_LIST:
        return value->type == JSON_ARRAY;
    case ARG_STRUCT:
        return value->type == JSON_OBJECT;
    case ARG_UINT64: /* has an error of its own */
    case ARG_CUSTOM:
        return true;
    }
    return false;
}

static int decode_value(const struct arg_spec *spec, const struct json_value *value, void *member,
                        const char *path, struct wire_error *error)
{
    if (!type_fits(spec, value))
        return fail_type(path, type_expected(spec), error);
    switch (spec->type) {
    case ARG_BOOL:
        *(bool *)member = value->boolean;
        return 0;
    case ARG_INT64:
        return json_get_int64(value, member) ? 0 : fail_type(path, "integer", error);
    case ARG_UINT64:
        return decode_uint64(value, path, member, error);
    case ARG_STRING:
        return decode_string(value, path, member, error);
    case ARG_ENUM:
        return decode_enum(spec, value, path, member, error);
    case ARG_LIST:
        return decode_list(spec, value, member, path, error);
    case ARG_STRUCT:
        return decode_fields(spec->fields, value, member, path, error);
    case ARG_CUSTOM:
        if (spec->decode(value, member, error, path))
            return 0;
        return fail_type(path, spec->expected, error);
    }
    return -EINVAL;
}

static const char *member_path(const char *path, const char *name, char buffer[PATH_MAX_BYTES])
{
    if (path[0] == '\0')
        return name;
    snprintf(buffer, PATH_MAX_BYTES, "%s.%s", path, name);
    return buffer;
}

static bool member_is_named(const struct json_value *member, const char *name)
{
    /* A name may hold a NUL, and must not pass for what stands before it. */
    return name && strlen(name) == member->name_length &&
           memcmp(member->name, name, member->name_length) == 0;
}

static int check_unexpected(const struct arg_spec *specs, const struct json_value *object,
                            const char *path, struct wire_error *error)
{
    for (const struct json_value *member = object->first; member; member = member->next) {
        bool known = false;
        for (const struct arg_spec *spec = specs; spec->name && !known; spec++)
            known =
                member_is_named(member, spec->name) || member_is_named(member, spec->other_name);
        if (!known) {
            char buffer[PATH_MAX_BYTES];
            wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' is unexpected",
                           member_path(path, member->name, buffer));
            return -EINVAL;
        }
    }
    return 0;
}

/* With an older spelling beside the current one, one of the two is unexpected. */
static const struct json_value *find_member(const struct arg_spec *spec,
                                            const struct json_value *object, const char *path,
                                            struct wire_error *error)
{
    const struct json_value *value = json_object_get(object, spec->name);
    const struct json_value *older =
        spec->other_name ? json_object_get(object, spec->other_name) : NULL;
    if (value && older) {
        char buffer[PATH_MAX_BYTES];
        wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' is unexpected",
                       member_path(path, spec->other_name, buffer));
    }
    return value ? value : older;
}

static int decode_fields(const struct arg_spec *specs, const struct json_value *object, char *base,
                         const char *path, struct wire_error *error)
{
    for (const struct arg_spec *spec = specs; spec->name; spec++) {
        char buffer[PATH_MAX_BYTES];
        const char *full_name = member_path(path, spec->name, buffer);
        const struct json_value *value = find_member(spec, object, path, error);
        if (error->is_set)
            return -EINVAL;
        if (!value) {
            if (spec->flags & ARG_OPTIONAL)
                continue;
            wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' is missing", full_name);
            return -EINVAL;
        }
        int error_code = decode_value(spec, value, base + spec->offset, full_name, error);
        if (error_code)
            return error_code;
        if (spec->has_offset != ARG_NO_HAS)
            *(bool *)(base + spec->has_offset) = true;
    }
    return check_unexpected(specs, object, path, error);
}

int args_decode(const struct arg_spec *specs, const struct json_value *arguments, void *ret_args,
                struct wire_error *ret_error)
{
    static const struct arg_spec none[] = {ARG_END};
    static const struct json_value empty = {.type = JSON_OBJECT};
    return decode_fields(specs ? specs : none, arguments ? arguments : &empty, ret_args, "",
                         ret_error);
}

static void deinit_value(const struct arg_spec *spec, void *member)
{
    if (spec->type == ARG_STRUCT) {
        args_deinit(spec->fields, member);
    } else if (spec->type == ARG_LIST) {
        struct arg_list *list = member;
        for (size_t i = 0; i < list->count; i++)
            deinit_value(spec->element, (char *)list->items + i * spec->element_size);
        free(list->items);
        *list = (struct arg_list){NULL, 0, false};
    }
}

void args_deinit(const struct arg_spec *specs, void *args)
{
    for (const struct arg_spec *spec = specs; spec && spec->name; spec++)
        deinit_value(spec, (char *)args + spec->offset);
}

bool args_have_secret(const struct arg_spec *specs)
{
    for (const struct arg_spec *spec = specs; spec && spec->name; spec++) {
        if (spec->flags & ARG_SECRET)
            return true;
        if (spec->type == ARG_STRUCT && args_have_secret(spec->fields))
            return true;
        if (spec->type == ARG_LIST &&
            ((spec->element->flags & ARG_SECRET) ||
             (spec->element->type == ARG_STRUCT && args_have_secret(spec->element->fields))))
            return true;
    }
    return false;
}

static void describe_text(const struct arg_text *text, struct buffer *out)
{
    bool is_long = text->length > DESCRIBED_BYTES_MAX;
    buffer_append_char(out, '"');
    for (size_t i = 0; i < (is_long ? DESCRIBED_BYTES_MAX : text->length); i++) {
        if (text->data[i] == '"' || text->data[i] == '\\')
            buffer_append_char(out, '\\');
        buffer_append_char(out, text->data[i]);
    }
    buffer_append_char(out, '"');
    if (is_long)
        buffer_append_format(out, "...(%zu bytes)", text->length);
}

static void describe_value(const struct arg_spec *spec, const void *member, struct buffer *out)
{
    switch (spec->type) {
    case ARG_BOOL:
        buffer_append_text(out, *(const bool *)member ? "true" : "false");
        break;
    case ARG_INT64:
        buffer_append_format(out, "%" PRId64, *(const int64_t *)member);
        break;
    case ARG_UINT64:
        buffer_append_format(out, "%" PRIu64, *(const uint64_t *)member);
        break;
    case ARG_STRING:
        describe_text(member, out);
        break;
    case ARG_ENUM:
        buffer_append_text(out, spec->names[*(const int *)member]);
        break;
    case ARG_LIST: {
        const struct arg_list *list = member;
        buffer_append_char(out, '[');
        for (size_t i = 0; i < list->count && i < DESCRIBED_ITEMS_MAX; i++) {
            if (i > 0)
                buffer_append_char(out, ' ');
            describe_value(spec->element, (const char *)list->items + i * spec->element_size, out);
        }
        buffer_append_text(out, list->count > DESCRIBED_ITEMS_MAX ? " ...]" : "]");
        break;
    }
    case ARG_STRUCT:
        buffer_append_char(out, '{');
        args_describe(spec->fields, member, out);
        buffer_append_char(out, '}');
        break;
    case ARG_CUSTOM:
        buffer_append_text(out, "...");
        break;
    }
}

static bool was_given(const struct arg_spec *spec, const char *base)
{
    const void *member = base + spec->offset;
    if (!(spec->flags & ARG_OPTIONAL))
        return true;
    if (spec->has_offset != ARG_NO_HAS)
        return *(const bool *)(base + spec->has_offset);
    if (spec->type == ARG_STRING)
        return ((const struct arg_text *)member)->data != NULL;
    if (spec->type == ARG_LIST)
        return ((const struct arg_list *)member)->given;
    return false; /* nobody can tell */
}

void args_describe(const struct arg_spec *specs, const void *args, struct buffer *out)
{
    bool first = true;
    for (const struct arg_spec *spec = specs; spec && spec->name; spec++) {
        if (!was_given(spec, args))
            continue;
        if (!first)
            buffer_append_char(out, ' ');
        first = false;
        buffer_append_text(out, spec->name);
        buffer_append_char(out, '=');
        if (spec->flags & ARG_SECRET)
            buffer_append_text(out, "(secret)");
        else
            describe_value(spec, (const char *)args + spec->offset, out);
    }
}
