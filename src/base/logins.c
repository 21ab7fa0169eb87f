/* SPDX-License-Identifier: MIT */
#include "base/logins.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utmp.h>

#include "base/buffer.h"
#include "base/sysroot.h"

#define SESSIONS "/run/systemd/sessions"

enum { UTMP_BYTES_MAX = 64 * 1024 * 1024, SESSION_BYTES_MAX = 64 * 1024 };

void logins_deinit(struct logins *logins)
{
    for (size_t i = 0; i < logins->count; i++)
        free(logins->items[i].user);
    free(logins->items);
    *logins = (struct logins)LOGINS_INIT;
}

static int add_login(struct logins *logins, const char *user, size_t length, uint64_t since_us)
{
    for (size_t i = 0; i < logins->count; i++) {
        struct login *login = &logins->items[i];
        if (strlen(login->user) == length && memcmp(login->user, user, length) == 0) {
            if (since_us < login->since_us)
                login->since_us = since_us;
            return 0;
        }
    }
    struct login *items = reallocarray(logins->items, logins->count + 1, sizeof(*items));
    if (!items)
        return -ENOMEM;
    logins->items = items;
    char *copy = strndup(user, length);
    if (!copy)
        return -ENOMEM;
    items[logins->count++] = (struct login){.user = copy, .since_us = since_us};
    return 0;
}

/* --- utmp --- */

/*
 * The file's records are those of the system that wrote it, which need not be the one that this
 * program was built for (a static program has its own C library's), so <utmp.h>'s struct will not
 * do.
 */
struct layout {
    size_t size;
    size_t seconds_at; /* the microseconds follow */
    size_t seconds_size;
};

static const struct layout layouts[] = {
    {.size = 384, .seconds_at = 340, .seconds_size = 4},
    {.size = 400, .seconds_at = 344, .seconds_size = 8},
};

enum { TYPE_AT = 0, USER_AT = 44, USER_BYTES = 32, TYPE_LAST = 9 /* ACCOUNTING */ };

static int record_type(const char *record)
{
    int16_t type;
    memcpy(&type, record + TYPE_AT, sizeof(type));
    return type;
}

static uint64_t record_number(const char *at, size_t size)
{
    uint32_t small;
    uint64_t large;
    memcpy(&small, at, sizeof(small));
    if (size == sizeof(small))
        return small; /* read as unsigned, it lasts until 2106 */
    memcpy(&large, at, sizeof(large));
    return large;
}

static bool layout_fits(const struct layout *layout, const char *bytes, size_t length)
{
    if (length % layout->size != 0)
        return false;
    for (size_t at = 0; at < length; at += layout->size)
        if (record_type(bytes + at) < EMPTY || record_type(bytes + at) > TYPE_LAST)
            return false;
    return true;
}

static const struct layout *choose_layout(const char *bytes, size_t length)
{
    const struct layout *own = &layouts[0], *other = &layouts[1];
    if (sizeof(struct utmp) == layouts[1].size) {
        own = &layouts[1];
        other = &layouts[0];
    }
    return !layout_fits(own, bytes, length) && layout_fits(other, bytes, length) ? other : own;
}

int logins_add_utmp(struct logins *logins, const void *bytes, size_t length)
{
    const char *at = bytes;
    const struct layout *layout = choose_layout(bytes, length);
    int r = 0;
    for (; r == 0 && length >= layout->size; at += layout->size, length -= layout->size) {
        size_t user_length = strnlen(at + USER_AT, USER_BYTES);
        if (record_type(at) != USER_PROCESS || user_length == 0)
            continue;
        const char *time_at = at + layout->seconds_at;
        uint64_t seconds = record_number(time_at, layout->seconds_size);
        uint64_t microseconds = record_number(time_at + layout->seconds_size, layout->seconds_size);
        r = add_login(logins, at + USER_AT, user_length, seconds * 1000000 + microseconds);
    }
    return r;
}

/* Returns 1 if there was something in it, 0 if not. */
static int load_utmp(struct logins *logins)
{
    _cleanup_buffer_ struct buffer bytes = BUFFER_INIT;
    int r = sysroot_read(&bytes, UTMP_BYTES_MAX, "/run/utmp");
    if (r == -ENOENT)
        r = sysroot_read(&bytes, UTMP_BYTES_MAX, "/var/run/utmp");
    if (r == -ENOENT || (r == 0 && bytes.length == 0))
        return 0;
    if (r == 0)
        r = logins_add_utmp(logins, bytes.data, bytes.length);
    return r < 0 ? r : 1;
}

/* --- logind --- */

/* Values with special characters are quoted: "DOMAIN\\user". In place. */
static char *unquote(char *value)
{
    size_t length = strlen(value);
    if (length < 2 || value[0] != '"' || value[length - 1] != '"')
        return value;
    value[length - 1] = '\0';
    char *to = value;
    for (const char *from = value + 1; *from; from++) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from;
    }
    *to = '\0';
    return value;
}

/* Not those of a greeter, a lock screen or cron, nor one whose login is not through yet. */
static bool class_is_user(const char *class)
{
    return strncmp(class, "user", 4) == 0 && strcmp(class, "user-incomplete") != 0;
}

int logins_add_session(struct logins *logins, char *text)
{
    const char *user = "", *class = "", *state = "", *since = "";
    const struct {
        const char *key;
        const char **value;
    } keys[] = {{"USER", &user}, {"CLASS", &class}, {"STATE", &state}, {"REALTIME", &since}};

    for (char *line; (line = strsep(&text, "\n"));) {
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
            if (strcmp(line, keys[i].key) == 0)
                *keys[i].value = unquote(value);
    }
    if (!*user || !class_is_user(class) || strcmp(state, "closing") == 0 ||
        !isdigit((unsigned char)*since))
        return 0;
    return add_login(logins, user, strlen(user), strtoull(since, NULL, 10));
}

/* A session's identifier; beside it lie pipes (1.ref) and files that are being written (.#1...). */
static bool is_session(const char *name)
{
    for (; isalnum((unsigned char)*name); name++)
        ;
    return *name == '\0';
}

static int load_sessions(struct logins *logins)
{
    _cleanup_closedir_ DIR *directory = sysroot_opendir(SESSIONS);
    if (!directory)
        return errno == ENOENT ? 0 : -errno;
    int r = 0;
    const struct dirent *entry;
    while (r == 0 && (errno = 0, entry = readdir(directory))) {
        _cleanup_buffer_ struct buffer text = BUFFER_INIT;
        if (!is_session(entry->d_name))
            continue;
        r = sysroot_read(&text, SESSION_BYTES_MAX, SESSIONS "/%s", entry->d_name);
        if (r == 0 && text.length > 0)
            r = logins_add_session(logins, text.data);
        else if (r == -ENOENT) /* it ended just now */
            r = 0;
    }
    return r < 0 ? r : -errno;
}

int logins_load(struct logins *logins)
{
    int r = load_utmp(logins);
    return r != 0 ? (r < 0 ? r : 0) : load_sessions(logins);
}
