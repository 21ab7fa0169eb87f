/* SPDX-License-Identifier: MIT */
#include "base/key-file.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

enum { FILE_SIZE_MAX = 1024 * 1024 };

struct key_file {
    struct key_file_entry *entries;
    size_t count;
    size_t capacity;
};

/* What the parser works on. */
struct parser {
    const char *name;
    unsigned line;
    const char *group; /* of the lines that follow; NULL before the first header */
    struct key_file *file;
    char **ret_reason;
};

static bool is_space(char character)
{
    return character == ' ' || (character >= '\t' && character <= '\r');
}

static int fail(const struct parser *parser, const char *format, ...) PRINTF_LIKE(2, 3);
static int fail(const struct parser *parser, const char *format, ...)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;
    va_list arguments;

    buffer_append_format(&message, "%s:%u: ", parser->name, parser->line);
    va_start(arguments, format);
    buffer_append_va(&message, format, arguments);
    va_end(arguments);
    *parser->ret_reason = message.failed ? NULL : take_ptr(&message.data);
    return -EINVAL;
}

static int append_entry(struct parser *parser, struct key_file_entry entry)
{
    struct key_file *file = parser->file;

    if (file->count == file->capacity) {
        size_t capacity = file->capacity ? 2 * file->capacity : 32;
        struct key_file_entry *entries =
            reallocarray(file->entries, capacity, sizeof(file->entries[0]));
        if (!entries)
            return -ENOMEM;
        file->entries = entries;
        file->capacity = capacity;
    }
    file->entries[file->count++] = entry;
    return 0;
}

static int append_copies(struct parser *parser, const char *group, const char *key,
                         size_t key_length, const char *value, size_t value_length)
{
    _cleanup_free_ char *group_copy = strdup(group);
    _cleanup_free_ char *key_copy = key ? strndup(key, key_length) : NULL;
    _cleanup_free_ char *value_copy = key ? strndup(value, value_length) : NULL;

    if (!group_copy || (key && (!key_copy || !value_copy)))
        return -ENOMEM;
    int error = append_entry(parser, (struct key_file_entry){.line = parser->line,
                                                             .group = group_copy,
                                                             .key = key_copy,
                                                             .value = value_copy});
    if (error < 0)
        return error;
    group_copy = key_copy = value_copy = NULL;
    return 0;
}

static int parse_header(struct parser *parser, const char *text, size_t length)
{
    const char *end = memchr(text, ']', length);

    if (!end)
        return fail(parser, "']' is missing after the group's name");
    for (const char *rest = end + 1; rest < text + length; rest++)
        if (!is_space(*rest))
            return fail(parser, "there is something after the ']' of the group's name");

    size_t name_length = (size_t)(end - text) - 1;
    if (name_length == 0)
        return fail(parser, "the group's name is empty");
    for (size_t i = 1; i <= name_length; i++)
        if (text[i] == '[' || (unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return fail(parser, "a group's name cannot have '[' or control characters");

    _cleanup_free_ char *group = strndup(text + 1, name_length);
    if (!group)
        return -ENOMEM;
    int error = append_copies(parser, group, NULL, 0, NULL, 0);
    if (error < 0)
        return error;
    parser->group = parser->file->entries[parser->file->count - 1].group;
    return 0;
}

static int parse_pair(struct parser *parser, const char *text, size_t length)
{
    const char *equals = memchr(text, '=', length);

    if (!equals)
        return fail(parser, "expected '[GROUP]', 'KEY = VALUE' or a line starting with '#'");
    size_t key_length = (size_t)(equals - text);
    while (key_length > 0 && is_space(text[key_length - 1]))
        key_length--;
    if (key_length == 0)
        return fail(parser, "there is no key before the '='");
    if (!parser->group)
        return fail(parser, "'%.*s' stands before the first [GROUP]", (int)key_length, text);

    const char *value = equals + 1;
    const char *end = text + length;
    while (value < end && is_space(*value))
        value++;
    return append_copies(parser, parser->group, text, key_length, value, (size_t)(end - value));
}

static int parse_line(struct parser *parser, const char *text, size_t length)
{
    if (length > 0 && text[length - 1] == '\r')
        length--;
    if (memchr(text, '\0', length))
        return fail(parser, "there is a NUL byte");
    while (length > 0 && is_space(*text)) {
        text++;
        length--;
    }
    if (length == 0 || *text == '#')
        return 0;
    return *text == '[' ? parse_header(parser, text, length) : parse_pair(parser, text, length);
}

int key_file_parse(const char *name, const char *text, size_t length, struct key_file **ret_file,
                   char **ret_reason)
{
    struct parser parser = {.name = name, .ret_reason = ret_reason};

    *ret_reason = NULL;
    parser.file = calloc(1, sizeof(*parser.file));
    if (!parser.file)
        return -ENOMEM;
    for (size_t at = 0; at < length;) {
        const char *newline = memchr(text + at, '\n', length - at);
        size_t line_length = newline ? (size_t)(newline - (text + at)) : length - at;
        parser.line++;
        int error = parse_line(&parser, text + at, line_length);
        if (error < 0) {
            key_file_free(parser.file);
            return error;
        }
        at += line_length + 1;
    }
    *ret_file = parser.file;
    return 0;
}

static int fail_to_read(const char *path, int error, char **ret_reason)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;

    errno = -error;
    buffer_append_format(&message, "%s: %m", path);
    *ret_reason = message.failed ? NULL : take_ptr(&message.data);
    return error;
}

int key_file_load(const char *path, struct key_file **ret_file, char **ret_reason)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    *ret_reason = NULL;
    if (fd < 0)
        return fail_to_read(path, -errno, ret_reason);
    for (;;) {
        enum { CHUNK = 16384 };
        char *room = buffer_reserve(&text, CHUNK);
        if (!room)
            return -ENOMEM;
        ssize_t count = read(fd, room, CHUNK);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_to_read(path, -errno, ret_reason);
        if (count == 0)
            break;
        buffer_commit(&text, (size_t)count);
        if (text.length > FILE_SIZE_MAX)
            return fail_to_read(path, -EFBIG, ret_reason);
    }
    return key_file_parse(path, text.data ? text.data : "", text.length, ret_file, ret_reason);
}

struct key_file *key_file_free(struct key_file *file)
{
    if (file) {
        for (size_t i = 0; i < file->count; i++) {
            free(file->entries[i].group);
            free(file->entries[i].key);
            free(file->entries[i].value);
        }
        free(file->entries);
        free(file);
    }
    return NULL;
}

size_t key_file_count(const struct key_file *file)
{
    return file->count;
}

const struct key_file_entry *key_file_at(const struct key_file *file, size_t index)
{
    return &file->entries[index];
}

static const char escaped[] = {'s', 't', 'n', 'r', '\\'};
static const char plain[] = {' ', '\t', '\n', '\r', '\\'};

int key_file_decode(const char *value, char **ret_text)
{
    /* Only here: a comment or a foreign key in another encoding is no reason not to start. */
    if (utf8_valid_prefix(value, strlen(value)) < strlen(value))
        return -EILSEQ;

    _cleanup_free_ char *text = malloc(strlen(value) + 1);
    char *out = text;

    if (!text)
        return -ENOMEM;
    for (const char *at = value; *at; at++) {
        if (*at != '\\') {
            *out++ = *at;
            continue;
        }
        at++;
        const char *found = *at ? memchr(escaped, *at, sizeof(escaped)) : NULL;
        if (!found)
            return -EINVAL;
        *out++ = plain[found - escaped];
    }
    *out = '\0';
    *ret_text = take_ptr(&text);
    return 0;
}

int key_file_decode_bool(const char *value, bool *ret_bool)
{
    size_t length = strlen(value);

    while (length > 0 && is_space(value[length - 1]))
        length--;
    if ((length == 4 && memcmp(value, "true", 4) == 0) || (length == 1 && *value == '1'))
        *ret_bool = true;
    else if ((length == 5 && memcmp(value, "false", 5) == 0) || (length == 1 && *value == '0'))
        *ret_bool = false;
    else
        return -EINVAL;
    return 0;
}

void key_file_encode(struct buffer *out, const char *text)
{
    bool leading = true; /* space is only lost at the start */

    for (const char *at = text; *at; at++) {
        const char *found = memchr(plain, *at, sizeof(plain));
        bool is_blank = *at == ' ' || *at == '\t';
        if (found && (leading || !is_blank)) {
            buffer_append_char(out, '\\');
            buffer_append_char(out, escaped[found - plain]);
        } else {
            buffer_append_char(out, *at);
        }
        leading = leading && is_blank;
    }
}
