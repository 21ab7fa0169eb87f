/* SPDX-License-Identifier: MIT */
#include "cmds/sleep-mode.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/sysroot.h"

#define WORDS_MAX        256
#define SWAPS_BYTES_MAX  (256 * 1024)
#define WORD_SEPARATORS  " \t"
#define COMPRESSED_SWAPS "/dev/zram" /* lies in memory itself */

/* True if the list has the word, which may stand in brackets: it is the present choice then. */
static bool list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    while (*(list += strspn(list, WORD_SEPARATORS))) {
        size_t word_length = strcspn(list, WORD_SEPARATORS);
        const char *found = list;
        list += word_length;
        if (word_length >= 2 && found[0] == '[' && found[word_length - 1] == ']') {
            found++;
            word_length -= 2;
        }
        if (word_length == length && memcmp(found, word, length) == 0)
            return true;
    }
    return false;
}

static bool kernel_has(const char *file, const char *word)
{
    char list[WORDS_MAX];
    return sysroot_read_line(list, sizeof(list), "/sys/power/%s", file) >= 0 &&
           list_has(list, word);
}

static bool has_swap(void)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    int error = sysroot_read(&text, SWAPS_BYTES_MAX, "/proc/swaps");
    buffer_append_char(&text, '\0');
    if (error < 0 || text.failed)
        return false;
    /* The first line says what the columns are. */
    for (const char *line = strchr(text.data, '\n'); line && line[1]; line = strchr(line + 1, '\n'))
        if (strncmp(line + 1, COMPRESSED_SWAPS, strlen(COMPRESSED_SWAPS)) != 0)
            return true;
    return false;
}

/* "[disabled]" is all there is where the kernel was told or is locked down not to. */
static bool can_write_image(void)
{
    return kernel_has("state", "disk") && !kernel_has("disk", "disabled") && has_swap();
}

bool sleep_mode_is_supported(enum sleep_mode mode)
{
    switch (mode) {
    case SLEEP_RAM:
        return kernel_has("state", "mem");
    case SLEEP_DISK:
        return can_write_image();
    case SLEEP_HYBRID:
        return can_write_image() && kernel_has("disk", "suspend");
    default:
        return false;
    }
}

/* What the image's writing is followed by. Returns 0 or -errno. */
static int choose_end(enum sleep_mode mode)
{
    if (mode == SLEEP_HYBRID)
        return sysroot_write("suspend", "/sys/power/disk");
    /* An earlier hybrid sleep must not make a hibernation come back at once. */
    if (kernel_has("disk", "platform"))
        return sysroot_write("platform", "/sys/power/disk");
    return sysroot_write("shutdown", "/sys/power/disk");
}

int sleep_mode_enter(enum sleep_mode mode)
{
    if (mode == SLEEP_RAM)
        return sysroot_write("mem", "/sys/power/state");
    int error = choose_end(mode);
    if (!error) {
        sync();
        error = sysroot_write("disk", "/sys/power/state");
    }
    return error;
}
