/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmds/guest-file.h"

static char directory[] = "/tmp/test-guest-file-XXXXXX";
static char path[64], other_path[64];

static int make_directory(void **state)
{
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/file", directory);
    snprintf(other_path, sizeof(other_path), "%s/other", directory);
    return 0;
}

static int remove_directory(void **state)
{
    return rmdir(directory);
}

static int remove_files(void **state)
{
    unlink(path);
    unlink(other_path);
    return 0;
}

static void set_content(const char *content)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
}

static void expect_content(const char *expected)
{
    char content[256];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    content[fread(content, 1, sizeof(content) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(content, expected);
}

static struct guest_file *open_as(const char *mode)
{
    struct guest_file *file = NULL;
    assert_int_equal(guest_file_open(path, guest_file_mode_flags(mode), &file), 0);
    assert_non_null(file);
    return file;
}

static void expect_read(struct guest_file *file, size_t count, const char *expected, bool at_end)
{
    char bytes[20000];
    size_t length;
    bool is_at_end;
    assert_true(count < sizeof(bytes));
    assert_int_equal(guest_file_read(file, bytes, count, &length, &is_at_end), 0);
    bytes[length] = '\0';
    assert_string_equal(bytes, expected);
    assert_int_equal(is_at_end, at_end);
}

static void expect_read_error(struct guest_file *file, size_t count, int error, size_t expected)
{
    char bytes[64];
    size_t length = 99;
    bool is_at_end = true;
    assert_int_equal(guest_file_read(file, bytes, count, &length, &is_at_end), error);
    assert_int_equal(length, expected);
    assert_false(is_at_end);
}

static void write_all(struct guest_file *file, const char *text)
{
    size_t length;
    assert_int_equal(guest_file_write(file, text, strlen(text), &length), 0);
    assert_int_equal(length, strlen(text));
}

static void expect_seek(struct guest_file *file, int64_t offset, int whence, int64_t expected)
{
    int64_t position = -1;
    assert_int_equal(guest_file_seek(file, offset, whence, &position), 0);
    assert_int_equal(position, expected);
}

static void expect_position(struct guest_file *file, int64_t expected)
{
    expect_seek(file, 0, SEEK_CUR, expected);
}

static void test_modes(void **state)
{
    static const struct {
        const char *mode;
        int flags;
    } rows[] = {
        {"r", O_RDONLY},
        {"rb", O_RDONLY},
        {"w", O_WRONLY | O_CREAT | O_TRUNC},
        {"wb", O_WRONLY | O_CREAT | O_TRUNC},
        {"a", O_WRONLY | O_CREAT | O_APPEND},
        {"ab", O_WRONLY | O_CREAT | O_APPEND},
        {"r+", O_RDWR},
        {"rb+", O_RDWR},
        {"r+b", O_RDWR},
        {"w+", O_RDWR | O_CREAT | O_TRUNC},
        {"wb+", O_RDWR | O_CREAT | O_TRUNC},
        {"w+b", O_RDWR | O_CREAT | O_TRUNC},
        {"a+", O_RDWR | O_CREAT | O_APPEND},
        {"ab+", O_RDWR | O_CREAT | O_APPEND},
        {"a+b", O_RDWR | O_CREAT | O_APPEND},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(guest_file_mode_flags(rows[i].mode), rows[i].flags);

    static const char *const wrong[] = {"",   "R",   "x",  "b",   "+",  "re",  "rx",
                                        "wx", "rw",  "br", "r++", "+r", "rt",  "rbb",
                                        "r ", "w+x", "rm", "rc",  "zz", "r+be"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(guest_file_mode_flags(wrong[i]), -EINVAL);
}

static void test_descriptor_flags(void **state)
{
    /* The next free descriptor is the one that will be opened. */
    int next = open("/dev/null", O_RDONLY);
    close(next);
    struct guest_file *file = open_as("w");
    assert_true(fcntl(next, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(next, F_GETFL) & O_NONBLOCK);
    assert_string_equal(guest_file_path(file), path);
    guest_file_free(file);
    assert_int_equal(fcntl(next, F_GETFD), -1);
}

static void test_creating(void **state)
{
    struct stat status;
    mode_t before = umask(027);
    guest_file_free(open_as("w"));
    umask(before);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);

    /* Who has no file to open, has none to create it from either. */
    struct guest_file *file = NULL;
    static const char *const modes[] = {"w", "a", "w+", "a+", "r", "r+"};
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        unlink(path);
        assert_int_equal(symlink(other_path, path), 0);
        assert_int_equal(guest_file_open(path, guest_file_mode_flags(modes[i]), &file), -ENOENT);
        assert_int_equal(access(other_path, F_OK), -1);
    }
    assert_int_equal(guest_file_open("/nonexistent/x", guest_file_mode_flags("w"), &file), -ENOENT);
    assert_int_equal(guest_file_open(directory, guest_file_mode_flags("w"), &file), -EISDIR);
    assert_int_equal(guest_file_open("", guest_file_mode_flags("r"), &file), -ENOENT);
    assert_null(file);
}

static void test_opening_truncates_or_not(void **state)
{
    set_content("0123456789");
    guest_file_free(open_as("r+"));
    guest_file_free(open_as("a"));
    guest_file_free(open_as("a+"));
    expect_content("0123456789");
    guest_file_free(open_as("w+"));
    expect_content("");
}

static void test_end_of_file_as_feof_has_it(void **state)
{
    set_content("0123456789");
    struct guest_file *file = open_as("r");
    expect_read(file, 0, "", false);
    expect_read(file, 10, "0123456789", false); /* the end was not yet met */
    expect_read(file, 0, "", false);
    expect_read(file, 1, "", true);
    expect_read(file, 1, "", true);
    expect_position(file, 10);
    expect_seek(file, 0, SEEK_END, 10);
    expect_seek(file, -1, SEEK_CUR, 9);
    expect_read(file, 2, "9", true);
    expect_seek(file, 100, SEEK_SET, 100);
    expect_read(file, 1, "", true);
    expect_position(file, 100);
    guest_file_free(file);
}

static void test_a_growing_file(void **state)
{
    set_content("0123");
    struct guest_file *file = open_as("r");
    expect_read(file, 10, "0123", true);
    set_content("0123more");
    expect_read(file, 10, "more", true);
    guest_file_free(file);
}

static void test_small_reads_cross_blocks(void **state)
{
    enum { SIZE = 10000 };
    char content[SIZE + 1], seen[SIZE + 1];
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (char)('a' + i * i % 26);
    content[SIZE] = '\0';
    set_content(content);

    /* Sizes around a block, alone and mixed, give the same bytes and positions. */
    static const size_t sizes[] = {1, 7, 4095, 4096, 4097, 100, 8192, 3};
    for (size_t first = 0; first < ARRAY_SIZE(sizes); first++) {
        struct guest_file *file = open_as("r");
        size_t total = 0, length;
        bool is_at_end = false;
        for (size_t i = first; !is_at_end; i++) {
            size_t wanted = sizes[i % ARRAY_SIZE(sizes)];
            if (wanted > SIZE - total)
                wanted = SIZE - total + 1;
            assert_int_equal(guest_file_read(file, seen + total, wanted, &length, &is_at_end), 0);
            total += length;
            assert_true(is_at_end || length == wanted);
            assert_int_equal(guest_file_remaining_hint(file), SIZE - total);
        }
        seen[total] = '\0';
        assert_string_equal(seen, content);
        expect_position(file, SIZE);
        guest_file_free(file);
    }
}

static void test_reading_and_writing_alternate(void **state)
{
    set_content("0123456789");
    struct guest_file *file = open_as("r+");
    expect_read(file, 4, "0123", false);
    write_all(file, "XY");
    expect_content("0123XY6789"); /* it is there at once */
    expect_read(file, 2, "67", false);
    expect_position(file, 8);
    write_all(file, "Z");
    expect_position(file, 9);
    expect_read(file, 5, "9", true);
    write_all(file, "!");
    expect_seek(file, 0, SEEK_SET, 0);
    expect_read(file, 20, "0123XY67Z9!", true);
    guest_file_free(file);
}

static void test_appending(void **state)
{
    set_content("0123456789");
    struct guest_file *file = open_as("a+");
    expect_position(file, 0);
    expect_read(file, 4, "0123", false);
    expect_position(file, 4);
    write_all(file, "XY");
    expect_position(file, 12);
    expect_read(file, 2, "", true);
    expect_seek(file, 0, SEEK_SET, 0);
    expect_read(file, 3, "012", false);
    write_all(file, "K");
    expect_position(file, 13);
    guest_file_free(file);
    expect_content("0123456789XYK");

    file = open_as("a");
    expect_position(file, 0);
    write_all(file, "!");
    expect_position(file, 14);
    guest_file_free(file);
    expect_content("0123456789XYK!");
}

static void test_not_allowed_by_the_mode(void **state)
{
    size_t length = 99;
    set_content("0123");
    struct guest_file *file = open_as("r");
    expect_read(file, 1, "0", false);
    assert_int_equal(guest_file_write(file, "x", 1, &length), -EBADF);
    assert_int_equal(length, 0);
    assert_int_equal(guest_file_write(file, "", 0, &length), 0);
    expect_read(file, 9, "123", true); /* the attempt has cost nothing */
    guest_file_free(file);

    file = open_as("w");
    expect_read_error(file, 1, -EBADF, 0);
    expect_read_error(file, 0, 0, 0);
    guest_file_free(file);
}

static void test_seeking(void **state)
{
    set_content("0123456789");
    struct guest_file *file = open_as("r");
    int64_t position = -1;
    expect_read(file, 3, "012", false);
    expect_position(file, 3);
    assert_int_equal(guest_file_seek(file, -4, SEEK_CUR, &position), -EINVAL);
    assert_int_equal(guest_file_seek(file, -11, SEEK_END, &position), -EINVAL);
    assert_int_equal(guest_file_seek(file, INT64_MIN, SEEK_CUR, &position), -EINVAL);
    assert_int_equal(guest_file_seek(file, INT64_MIN, SEEK_SET, &position), -EINVAL);
    /* Which error it is depends on the file system. */
    assert_true(guest_file_seek(file, INT64_MAX, SEEK_END, &position) < 0);
    assert_int_equal(position, -1);
    expect_read(file, 2, "34", false); /* a refused seek changes nothing */
    expect_seek(file, -3, SEEK_END, 7);
    expect_read(file, 2, "78", false);
    expect_seek(file, -9, SEEK_CUR, 0);
    expect_read(file, 2, "01", false);
    guest_file_free(file);
}

/* These give what they have to the first read only: the rest must not be asked for again. */
static void test_files_that_are_read_once(void **state)
{
    char whole[64], pieces[64];
    FILE *reference = fopen("/proc/sys/kernel/pid_max", "r");
    if (!reference)
        skip();
    whole[fread(whole, 1, sizeof(whole) - 1, reference)] = '\0';
    fclose(reference);

    struct guest_file *file = NULL;
    assert_int_equal(guest_file_open("/proc/sys/kernel/pid_max", O_RDONLY, &file), 0);
    size_t total = 0, length;
    bool is_at_end = false;
    while (!is_at_end && total < sizeof(pieces) - 1) {
        assert_int_equal(guest_file_read(file, pieces + total, 1, &length, &is_at_end), 0);
        total += length;
    }
    pieces[total] = '\0';
    assert_string_equal(pieces, whole);
    guest_file_free(file);
}

static void test_a_fifo(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    int peer = open(path, O_RDWR | O_NONBLOCK);
    struct guest_file *file = open_as("r");
    expect_read_error(file, 10, -EAGAIN, 0);

    /* What came before the pipe ran dry is not lost. */
    assert_int_equal(write(peer, "abc", 3), 3);
    expect_read_error(file, 10, -EAGAIN, 3);
    assert_int_equal(write(peer, "abcdef", 6), 6);
    expect_read(file, 2, "ab", false);
    expect_read(file, 4, "cdef", false);
    expect_read_error(file, 1, -EAGAIN, 0);
    assert_int_equal(guest_file_remaining_hint(file), 0);
    int64_t position;
    assert_int_equal(guest_file_seek(file, 0, SEEK_CUR, &position), -ESPIPE);

    close(peer);
    expect_read(file, 1, "", true);
    guest_file_free(file);
}

static void test_writing_into_a_full_pipe(void **state)
{
    enum { SIZE = 200000 };
    char *bytes = calloc(1, SIZE);
    assert_non_null(bytes);
    assert_int_equal(mkfifo(path, 0600), 0);
    int peer = open(path, O_RDONLY | O_NONBLOCK);
    struct guest_file *file = open_as("w");
    size_t length;
    assert_int_equal(guest_file_write(file, bytes, SIZE, &length), -EAGAIN);
    assert_true(length > 0 && length < SIZE);
    ssize_t in_pipe = 0, part;
    while ((part = read(peer, bytes, SIZE)) > 0)
        in_pipe += part;
    assert_int_equal(in_pipe, length);
    write_all(file, "more");
    assert_int_equal(read(peer, bytes, SIZE), 4);
    close(peer);
    guest_file_free(file);
    free(bytes);
}

/* Read-ahead cannot be given back to what has no position; it is kept for the next read. */
static void test_alternating_on_a_fifo(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    struct guest_file *file = open_as("r+");
    write_all(file, "abc");
    expect_read(file, 1, "a", false);
    write_all(file, "d");
    expect_read(file, 2, "bc", false);
    expect_read(file, 1, "d", false);
    guest_file_free(file);
}

static void test_no_space(void **state)
{
    struct guest_file *file = NULL;
    size_t length = 99;
    assert_int_equal(guest_file_open("/dev/full", guest_file_mode_flags("w"), &file), 0);
    assert_int_equal(guest_file_write(file, "x", 1, &length), -ENOSPC);
    assert_int_equal(length, 0);
    assert_int_equal(guest_file_close(file), 0);
    guest_file_free(file);
}

static void test_a_directory(void **state)
{
    struct guest_file *file = NULL;
    assert_int_equal(guest_file_open(directory, guest_file_mode_flags("r"), &file), 0);
    expect_read_error(file, 10, -EISDIR, 0);
    assert_int_equal(guest_file_remaining_hint(file), 0);
    expect_seek(file, 0, SEEK_SET, 0);
    guest_file_free(file);
}

static void test_closing(void **state)
{
    set_content("0123");
    struct guest_file *file = open_as("r");
    assert_false(guest_file_is_closed(file));
    assert_int_equal(guest_file_close(file), 0);
    assert_true(guest_file_is_closed(file));
    expect_read_error(file, 1, -EBADF, 0); /* nothing else's descriptor */
    assert_null(guest_file_free(file));
    assert_null(guest_file_free(NULL));
}

#define FILE_TEST(function) cmocka_unit_test_teardown(function, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_modes),
        FILE_TEST(test_descriptor_flags),
        FILE_TEST(test_creating),
        FILE_TEST(test_opening_truncates_or_not),
        FILE_TEST(test_end_of_file_as_feof_has_it),
        FILE_TEST(test_a_growing_file),
        FILE_TEST(test_small_reads_cross_blocks),
        FILE_TEST(test_reading_and_writing_alternate),
        FILE_TEST(test_appending),
        FILE_TEST(test_not_allowed_by_the_mode),
        FILE_TEST(test_seeking),
        FILE_TEST(test_files_that_are_read_once),
        FILE_TEST(test_a_fifo),
        FILE_TEST(test_writing_into_a_full_pipe),
        FILE_TEST(test_alternating_on_a_fifo),
        FILE_TEST(test_no_space),
        FILE_TEST(test_a_directory),
        FILE_TEST(test_closing),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
