/* SPDX-License-Identifier: MIT */
#include "jobs/freeze-record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/bellhop-record-XXXXXX";
static int directory = -1;

static int make_directory(void **state)
{
    strcpy(path, "/tmp/bellhop-record-XXXXXX");
    assert_non_null(mkdtemp(path));
    directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return 0;
}

static int remove_directory(void **state)
{
    (void)unlinkat(directory, "freeze", 0);
    (void)unlinkat(directory, "freeze.new", 0);
    close(directory);
    return rmdir(path);
}

static void write_text(const char *text)
{
    int fd = openat(directory, "freeze", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect(enum freeze_record_state state, uint64_t deadline_ms)
{
    struct freeze_record record = freeze_record_read(directory);
    assert_int_equal(record.state, state);
    assert_int_equal(record.deadline_ms, deadline_ms);
}

static void test_written_and_read(void **state)
{
    expect(FREEZE_RECORD_NONE, 0);
    for (int i = FREEZE_RECORD_FROZEN; i <= FREEZE_RECORD_ENDED; i++) {
        struct freeze_record record = {.state = (enum freeze_record_state)i,
                                       .deadline_ms = UINT64_MAX - (uint64_t)i};
        assert_int_equal(freeze_record_write(directory, &record), 0);
        expect(record.state, record.deadline_ms);
    }
    assert_int_equal(freeze_record_remove(directory), 0);
    expect(FREEZE_RECORD_NONE, 0);
    assert_int_equal(freeze_record_remove(directory), 0);
}

/* On a full disk, say. */
static void test_no_new_file(void **state)
{
    struct freeze_record record = {.state = FREEZE_RECORD_EXPIRED, .deadline_ms = 123456};
    assert_int_equal(mkdirat(directory, "freeze.new", 0700), 0);
    assert_int_equal(freeze_record_write(directory, &record), -EISDIR);
    write_text("frozen 01234567-89ab-cdef-0123-456789abcdef 18446744073709551615\n");
    assert_int_equal(freeze_record_write(directory, &record), 0);
    expect(FREEZE_RECORD_EXPIRED, 123456);
    record = (struct freeze_record){.state = FREEZE_RECORD_DIED};
    assert_int_equal(freeze_record_write(directory, &record), 0);
    expect(FREEZE_RECORD_DIED, 0);
    assert_int_equal(unlinkat(directory, "freeze.new", AT_REMOVEDIR), 0);
}

static void test_another_boot(void **state)
{
    write_text("frozen 01234567-89ab-cdef-0123-456789abcdef 5000\n");
    expect(FREEZE_RECORD_NONE, 0);
}

static void test_what_is_no_record(void **state)
{
    static const char *const texts[] = {
        "",         "\n",           "frozen",
        "frozen x", "melted x 7\n", "a-word-that-is-far-too-long-for-a-state x 7\n"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        write_text(texts[i]);
        expect(FREEZE_RECORD_NONE, 0);
    }
}

static void test_no_directory(void **state)
{
    struct freeze_record record = {.state = FREEZE_RECORD_FROZEN};
    assert_int_equal(freeze_record_write(-1, &record), -EBADF);
    assert_int_equal(freeze_record_remove(-1), -EBADF);
    assert_int_equal(freeze_record_read(-1).state, FREEZE_RECORD_NONE);
}

#define record_test(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        record_test(test_written_and_read), record_test(test_no_new_file),
        record_test(test_another_boot),     record_test(test_what_is_no_record),
        record_test(test_no_directory),
    };
    return cmocka_run_group_tests_name("freeze-record", tests, NULL, NULL);
}
