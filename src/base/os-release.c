/* SPDX-License-Identifier: MIT */
#include "base/os-release.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/buffer.h"
#include "base/sysroot.h"

/* Generous: real ones have 500 bytes. A bound, so that a wrong path cannot eat the memory. */
enum { FILE_BYTES_MAX = 1024 * 1024 };

const char *const os_release_paths[] = {"/etc/os-release", "/usr/lib/os-release", NULL};

static const struct {
    const char *name;
    size_t offset;
} members[] = {
    {"ID", offsetof(struct os_release, id)},
    {"NAME", offsetof(struct os_release, name)},
    {"PRETTY_NAME", offsetof(struct os_release, pretty_name)},
    {"VERSION", offsetof(struct os_release, version)},
    {"VERSION_ID", offsetof(struct os_release, version_id)},
    {"VARIANT", offsetof(struct os_release, variant)},
    {"VARIANT_ID", offsetof(struct os_release, variant_id)},
};

static char **member(struct os_release *release, size_t index)
{
    return (void *)((char *)release + members[index].offset);
}

void os_release_deinit(struct os_release *release)
{
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        free(*member(release, i));
    *release = (struct os_release)OS_RELEASE_INIT;
}

/* What is still to be read. */
struct cursor {
    const char *at;
    const char *end;
};

static bool is_blank(char character)
{
    return character == ' ' || character == '\t';
}

static void skip_blanks(struct cursor *cursor)
{
    while (cursor->at < cursor->end && is_blank(*cursor->at))
        cursor->at++;
}

static void skip_line(struct cursor *cursor)
{
    const char *newline = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
    cursor->at = newline ? newline + 1 : cursor->end;
}

static bool is_name_character(char character, bool is_first)
{
    return (character >= 'A' && character <= 'Z') || (character >= 'a' && character <= 'z') ||
           character == '_' || (!is_first && character >= '0' && character <= '9');
}

/* `NAME=`. False if the line does not begin like an assignment. */
static bool read_name(struct cursor *cursor, const char **ret_name, size_t *ret_length)
{
    skip_blanks(cursor);
    const char *name = cursor->at;
    while (cursor->at < cursor->end && is_name_character(*cursor->at, cursor->at == name))
        cursor->at++;
    size_t length = (size_t)(cursor->at - name);
    skip_blanks(cursor);
    if (length == 0 || cursor->at == cursor->end || *cursor->at != '=')
        return false;
    cursor->at++;
    *ret_name = name;
    *ret_length = length;
    return true;
}

/* Behind the opening quote. False if there is no closing one. */
static bool read_single_quoted(struct cursor *cursor, struct buffer *value)
{
    const char *quote = memchr(cursor->at, '\'', (size_t)(cursor->end - cursor->at));
    if (!quote)
        return false;
    buffer_append(value, cursor->at, (size_t)(quote - cursor->at));
    cursor->at = quote + 1;
    return true;
}

static bool read_double_quoted(struct cursor *cursor, struct buffer *value)
{
    while (cursor->at < cursor->end) {
        char character = *cursor->at++;
        if (character == '"')
            return true;
        if (character == '\\' && cursor->at < cursor->end) {
            char escaped = *cursor->at;
            if (escaped == '\n') {
                cursor->at++;
                continue;
            }
            if (escaped == '"' || escaped == '\\' || escaped == '$' || escaped == '`') {
                character = escaped;
                cursor->at++;
            }
        }
        buffer_append_char(value, character);
    }
    return false;
}

static bool is_word_end(const struct cursor *cursor)
{
    char character = *cursor->at;
    if (character == '\r')
        return cursor->at + 1 == cursor->end || cursor->at[1] == '\n';
    return is_blank(character) || character == '\n' || character == ';';
}

/* One shell word. False if a quote is not closed. */
static bool read_value(struct cursor *cursor, struct buffer *value)
{
    skip_blanks(cursor);
    if (cursor->at < cursor->end && *cursor->at == '#' && is_blank(cursor->at[-1]))
        return true;
    while (cursor->at < cursor->end && !is_word_end(cursor)) {
        char character = *cursor->at++;
        if (character == '\'') {
            if (!read_single_quoted(cursor, value))
                return false;
        } else if (character == '"') {
            if (!read_double_quoted(cursor, value))
                return false;
        } else if (character != '\\') {
            buffer_append_char(value, character);
        } else if (cursor->at < cursor->end) {
            if (*cursor->at != '\n')
                buffer_append_char(value, *cursor->at);
            cursor->at++;
        }
    }
    return true;
}

static int assign(struct os_release *release, const char *name, size_t name_length,
                  const struct buffer *value)
{
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        if (strlen(members[i].name) != name_length ||
            memcmp(members[i].name, name, name_length) != 0)
            continue;
        char *copy = strdup(value->data ? value->data : "");
        if (!copy)
            return -ENOMEM;
        free(*member(release, i));
        *member(release, i) = copy;
    }
    return 0;
}

int os_release_parse(struct os_release *release, const char *text, size_t length)
{
    static const char byte_order_mark[] = {'\xef', '\xbb', '\xbf'};
    _cleanup_buffer_ struct buffer value = BUFFER_INIT;
    struct cursor cursor = {text, text + length};

    if (length >= sizeof(byte_order_mark) &&
        memcmp(text, byte_order_mark, sizeof(byte_order_mark)) == 0)
        cursor.at += sizeof(byte_order_mark);

    while (cursor.at < cursor.end) {
        struct cursor line = cursor;
        const char *name;
        size_t name_length;
        buffer_truncate(&value, 0);
        if (read_name(&line, &name, &name_length) && read_value(&line, &value)) {
            if (value.failed)
                return -ENOMEM;
            int r = assign(release, name, name_length, &value);
            if (r < 0)
                return r;
            cursor = line;
        }
        skip_line(&cursor);
    }
    return 0;
}

static int read_whole(int fd, struct buffer *text)
{
    for (;;) {
        char *room = buffer_reserve(text, 4096);
        if (!room)
            return -ENOMEM;
        ssize_t length = read(fd, room, 4096);
        if (length < 0 && errno != EINTR)
            return -errno;
        if (length == 0)
            return 0;
        if (length > 0)
            buffer_commit(text, (size_t)length);
        if (text->length > FILE_BYTES_MAX)
            return -EFBIG;
    }
}

int os_release_load(struct os_release *release, const char *const *paths)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    _cleanup_close_ int fd = -1;

    for (; fd < 0 && *paths; paths++) {
        fd = sysroot_open_path(*paths, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0);
        if (fd < 0 && fd != -ENOENT)
            return fd;
    }
    if (fd < 0)
        return -ENOENT;
    int r = read_whole(fd, &text);
    if (r < 0)
        return r;
    return text.length > 0 ? os_release_parse(release, text.data, text.length) : 0;
}
