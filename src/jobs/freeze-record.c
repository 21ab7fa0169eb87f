/* SPDX-License-Identifier: MIT */
#include "jobs/freeze-record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "freeze"
#define NEW_NAME  "freeze.new"

enum { BOOT_ID_BYTES = 64, TEXT_BYTES = 256 };

static const char *const state_names[] = {
    [FREEZE_RECORD_FROZEN] = "frozen",
    [FREEZE_RECORD_EXPIRED] = "expired",
    [FREEZE_RECORD_DIED] = "died",
    [FREEZE_RECORD_ENDED] = "ended",
};

static void read_text(int fd, char *ret_text, size_t size)
{
    ssize_t length = fd < 0 ? -1 : read(fd, ret_text, size - 1);
    ret_text[length > 0 ? length : 0] = '\0';
}

static void read_boot_id(char ret_id[BOOT_ID_BYTES])
{
    _cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    read_text(fd, ret_id, BOOT_ID_BYTES);
    ret_id[strcspn(ret_id, "\n")] = '\0';
    if (!ret_id[0])
        strcpy(ret_id, "unknown");
}

static int write_beside(int directory, const char *text, size_t length)
{
    _cleanup_close_ int fd =
        openat(directory, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t written = write(fd, text, length);
    if (written != (ssize_t)length)
        return written < 0 ? -errno : -ENOSPC;
    return renameat(directory, NEW_NAME, directory, FILE_NAME) < 0 ? -errno : 0;
}

/* Takes no room on a disk that is full: what a longer one leaves behind its line is not read. */
static bool write_over(int directory, const char *text, size_t length)
{
    _cleanup_close_ int fd = openat(directory, FILE_NAME, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 && write(fd, text, length) == (ssize_t)length;
}

int freeze_record_write(int directory, const struct freeze_record *record)
{
    char boot[BOOT_ID_BYTES], text[TEXT_BYTES];
    read_boot_id(boot);
    int length = snprintf(text, sizeof(text), "%s %s %" PRIu64 "\n", state_names[record->state],
                          boot, record->deadline_ms);
    int error = write_beside(directory, text, (size_t)length);
    return error && write_over(directory, text, (size_t)length) ? 0 : error;
}

struct freeze_record freeze_record_read(int directory)
{
    char boot[BOOT_ID_BYTES], text[TEXT_BYTES], state[16], of_boot[BOOT_ID_BYTES];
    struct freeze_record record = {.state = FREEZE_RECORD_NONE};
    _cleanup_close_ int fd = openat(directory, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    read_text(fd, text, sizeof(text));
    read_boot_id(boot);
    uint64_t deadline_ms;
    if (sscanf(text, "%15s %63s %" SCNu64, state, of_boot, &deadline_ms) != 3 ||
        strcmp(boot, of_boot) != 0)
        return record;
    for (size_t i = FREEZE_RECORD_FROZEN; i < ARRAY_SIZE(state_names); i++)
        if (strcmp(state, state_names[i]) == 0)
            record = (struct freeze_record){.state = (enum freeze_record_state)i,
                                            .deadline_ms = deadline_ms};
    return record;
}

int freeze_record_remove(int directory)
{
    return unlinkat(directory, FILE_NAME, 0) < 0 && errno != ENOENT ? -errno : 0;
}
