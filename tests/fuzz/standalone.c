/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>

#include "base/buffer.h"

/*
 * Runs a fuzz target without a fuzzer: on every file of the folders named on the command line, and
 * on each of its beginnings. To be used as a test, and for a file that a fuzzer left behind.
 */

/* Cutting a large file everywhere would take minutes. */
#define CUT_MAX 600

/* In a block of its own size, so that a sanitizer sees a read past the end. */
static void run_on(const char *bytes, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    CHECK(copy);
    memcpy(copy, bytes, length);
    CHECK(LLVMFuzzerTestOneInput(copy, length) == 0);
    free(copy);
}

static int run_file(const char *path)
{
    _cleanup_buffer_ struct buffer content = BUFFER_INIT;
    _cleanup_fclose_ FILE *file = fopen(path, "re");
    char chunk[4096];
    size_t got;

    if (!file)
        return -errno;
    buffer_append(&content, "", 0);
    while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buffer_append(&content, chunk, got);
    if (ferror(file) || content.failed)
        return -EIO;
    run_on(content.data, content.length);
    for (size_t cut = 0; cut < content.length && content.length <= CUT_MAX; cut++)
        run_on(content.data, cut);
    return 0;
}

/* Returns the number of files, or -errno. */
static int run_folder(const char *path)
{
    _cleanup_closedir_ DIR *folder = opendir(path);
    int count = 0;

    if (!folder)
        return -errno;
    for (struct dirent *entry; (entry = readdir(folder)); count++) {
        char name[4096];
        if (entry->d_name[0] == '.') {
            count--;
            continue;
        }
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        int r = run_file(name);
        if (r < 0)
            return r;
    }
    return count;
}

int main(int argument_count, char **arguments)
{
    int total = 0;

    for (int i = 1; i < argument_count; i++) {
        int r = run_folder(arguments[i]);
        if (r == -ENOTDIR)
            r = run_file(arguments[i]) < 0 ? -EIO : 1;
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", arguments[i], strerror(-r));
            return 1;
        }
        total += r;
    }
    printf("%d files\n", total);
    return total > 0 ? 0 : 1;
}
