/* SPDX-License-Identifier: MIT */
#include "base/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "logger-harness.h"

static struct logger logger;
static struct journal *journal;

static int set_up(void **state)
{
    logger_start(&logger);
    assert_int_equal(journal_open(logger.path, &journal), 0);
    return 0;
}

static int tear_down(void **state)
{
    journal = journal_free(journal);
    logger_stop(&logger);
    return 0;
}

static void test_fields(void **state)
{
    const struct journal_field fields[] = {
        JOURNAL_TEXT("MESSAGE", "what happened = this"),
        JOURNAL_TEXT("PRIORITY", "6"),
        {.name = "EMPTY_1", .value = "", .length = 0},
        {.name = "CUT", .value = "abcdef", .length = 3},
    };

    assert_true(journal_is_ready(journal));
    assert_int_equal(journal_send(journal, fields, ARRAY_SIZE(fields)), 0);
    logger_expect(&logger, "MESSAGE=what happened = this\nPRIORITY=6\nEMPTY_1=\nCUT=abc\n");
}

/* A value cannot forge a field. */
static void test_newlines(void **state)
{
    static const char value[] = "one\nPRIORITY=0\n";
    const struct journal_field fields[] = {
        JOURNAL_TEXT("MESSAGE", value),
        JOURNAL_TEXT("PRIORITY", "6"),
    };
    char found[256], expected[256];
    uint64_t length = htole64(strlen(value));
    int passed;

    size_t used = (size_t)snprintf(expected, sizeof(expected), "MESSAGE\n");
    memcpy(expected + used, &length, sizeof(length));
    used += sizeof(length);
    used += (size_t)snprintf(expected + used, sizeof(expected) - used, "%s\nPRIORITY=6\n", value);
    assert_int_equal(journal_send(journal, fields, ARRAY_SIZE(fields)), 0);
    assert_int_equal(logger_receive(&logger, found, sizeof(found), &passed), used);
    assert_memory_equal(found, expected, used);
}

static void test_bad_names(void **state)
{
    static const char *const names[] = {
        "",      "_PID",     "1A",
        "lower", "A B",      "A=B",
        "A\nB",  "\xc3\x84", "A2345678901234567890123456789012345678901234567890123456789012345",
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct journal_field field = JOURNAL_TEXT(names[i], "value");
        assert_int_equal(journal_send(journal, &field, 1), -EINVAL);
    }
    const struct journal_field longest =
        JOURNAL_TEXT("A234567890123456789012345678901234567890123456789012345678901234", "v");
    assert_int_equal(journal_send(journal, &longest, 1), 0);
    logger_expect(&logger, "A234567890123456789012345678901234567890123456789012345678901234=v\n");
}

/* An entry that fits into no datagram comes as a file that nobody can change any more. */
static void test_large_entry(void **state)
{
    enum { SIZE = 4 * 1024 * 1024 };
    _cleanup_free_ char *value = malloc(SIZE), *found = malloc(SIZE + 16);
    char bytes[16];
    struct stat status;
    int passed;

    memset(value, 'x', SIZE);
    const struct journal_field field = {.name = "MESSAGE", .value = value, .length = SIZE};
    assert_int_equal(journal_send(journal, &field, 1), 0);
    assert_int_equal(logger_receive(&logger, bytes, sizeof(bytes), &passed), 0);
    assert_true(passed >= 0);
    assert_int_equal(fstat(passed, &status), 0);
    assert_int_equal(status.st_size, strlen("MESSAGE=") + SIZE + 1);
    assert_int_equal(fcntl(passed, F_GET_SEALS),
                     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    assert_int_equal(pread(passed, found, SIZE + 16, 0), status.st_size);
    assert_memory_equal(found, "MESSAGE=x", 9);
    assert_memory_equal(found + strlen("MESSAGE="), value, SIZE);
    assert_int_equal(found[status.st_size - 1], '\n');
    close(passed);
}

static void test_no_journal(void **state)
{
    struct journal *none = NULL;
    const struct journal_field field = JOURNAL_TEXT("MESSAGE", "lost");
    const struct journal_field next = JOURNAL_TEXT("MESSAGE", "there again");

    assert_int_equal(journal_open("/no/such/socket", &none), -ENOENT);
    assert_null(none);
    logger.fd = close_fd(logger.fd);
    assert_int_equal(journal_send(journal, &field, 1), -ECONNREFUSED);
    assert_true(journal_is_ready(journal));
    logger_listen(&logger);
    assert_int_equal(journal_send(journal, &next, 1), 0);
    logger_expect(&logger, "MESSAGE=there again\n");
}

#define journal_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        journal_test(test_fields),      journal_test(test_newlines),   journal_test(test_bad_names),
        journal_test(test_large_entry), journal_test(test_no_journal),
    };

    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
