/* SPDX-License-Identifier: MIT */
#include "base/numbered-entries.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysroot.h"

void numbered_entries_deinit(struct numbered_entries *entries)
{
    free(entries->numbers);
    *entries = (struct numbered_entries)NUMBERED_ENTRIES_INIT;
}

/* Returns -1 for names of another kind, such as "cpufreq" beside "cpu0". */
static int64_t parse_name(const char *name, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 || !isdigit((unsigned char)name[length]))
        return -1;
    char *end;
    errno = 0;
    long long number = strtoll(name + length, &end, 10);
    return errno || *end ? -1 : number;
}

static int append(struct numbered_entries *entries, size_t *capacity, int64_t number)
{
    if (entries->count == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 64;
        int64_t *numbers = reallocarray(entries->numbers, more, sizeof(*numbers));
        if (!numbers)
            return -ENOMEM;
        entries->numbers = numbers;
        *capacity = more;
    }
    entries->numbers[entries->count++] = number;
    return 0;
}

static int compare_numbers(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int numbered_entries_list(struct numbered_entries *entries, const char *directory,
                          const char *prefix)
{
    *entries = (struct numbered_entries)NUMBERED_ENTRIES_INIT;
    _cleanup_closedir_ DIR *handle = sysroot_opendir("%s", directory);
    if (!handle)
        return -errno;

    size_t capacity = 0;
    const struct dirent *entry;
    int error = 0;
    while (!error && (errno = 0, entry = readdir(handle))) {
        int64_t number = parse_name(entry->d_name, prefix);
        if (number >= 0)
            error = append(entries, &capacity, number);
    }
    if (!error)
        error = -errno;
    if (error) {
        numbered_entries_deinit(entries);
        return error;
    }
    if (entries->count > 0)
        qsort(entries->numbers, entries->count, sizeof(*entries->numbers), compare_numbers);
    return 0;
}
