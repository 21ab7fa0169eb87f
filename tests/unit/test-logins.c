/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <utmp.h>

#include <cmocka.h>

#include "base/logins.h"
#include "file-tree.h"

static char root[32];
static struct logins logins;

static int remove_tree(void **state)
{
    logins_deinit(&logins);
    file_tree_remove(root);
    return 0;
}

/* --- files, by the documentation of the formats --- */

struct record {
    short type;
    const char *user;
    uint32_t seconds, microseconds;
};

/* A name of 32 characters is not terminated. */
static void put_name(char *at, const char *name)
{
    memcpy(at, name, strnlen(name, 32));
}

/* Appends it as glibc on x86 has it: 384 bytes, times of 32 bits. */
static size_t put_small(char *at, const struct record *record)
{
    memset(at, 0, 384);
    memcpy(at, &record->type, 2);
    memcpy(at + 8, "pts/0", 5);
    put_name(at + 44, record->user);
    memcpy(at + 340, &record->seconds, 4);
    memcpy(at + 344, &record->microseconds, 4);
    return 384;
}

/* The same as glibc on aarch64 has it: 400 bytes, times of 64 bits. */
static size_t put_large(char *at, const struct record *record)
{
    uint64_t seconds = record->seconds, microseconds = record->microseconds;
    put_small(at, record);
    memset(at + 336, 0, 64);
    memcpy(at + 344, &seconds, 8);
    memcpy(at + 352, &microseconds, 8);
    return 400;
}

static size_t put_native(char *at, const struct record *record)
{
    return (sizeof(struct utmp) == 400 ? put_large : put_small)(at, record);
}

static void write_file(const char *path, const char *bytes, size_t length)
{
    char full[256];
    snprintf(full, sizeof(full), "%s%s", root, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void expect_login(size_t index, const char *user, uint64_t since_us)
{
    assert_true(index < logins.count);
    assert_string_equal(logins.items[index].user, user);
    assert_int_equal(logins.items[index].since_us, since_us);
}

/* --- utmp --- */

static const struct record records[] = {
    {BOOT_TIME, "reboot", 1699999000, 0},    {RUN_LVL, "runlevel", 1699999001, 0},
    {LOGIN_PROCESS, "LOGIN", 1699999002, 0}, {USER_PROCESS, "alice", 1700000200, 500000},
    {USER_PROCESS, "root", 1700000100, 1},   {USER_PROCESS, "alice", 1700000000, 123456},
    {DEAD_PROCESS, "bob", 1699999003, 0},    {USER_PROCESS, "alice", 1700000300, 0},
    {USER_PROCESS, "", 1700000400, 0},
};

static void expect_records(size_t (*put)(char *at, const struct record *record))
{
    char bytes[400 * ARRAY_SIZE(records)];
    size_t length = 0;
    for (size_t i = 0; i < ARRAY_SIZE(records); i++)
        length += put(bytes + length, &records[i]);
    assert_int_equal(logins_add_utmp(&logins, bytes, length), 0);
    assert_int_equal(logins.count, 2);
    expect_login(0, "alice", 1700000000123456);
    expect_login(1, "root", 1700000100000001);
    logins_deinit(&logins);
}

static void test_utmp(void **state)
{
    expect_records(put_small);
    expect_records(put_large);
}

/* 9600 bytes are 25 small records and 24 large ones: only their contents tell. */
static void test_utmp_of_either_size(void **state)
{
    static char bytes[9600];
    size_t (*const puts[])(char *at, const struct record *record) = {put_small, put_large};
    for (size_t kind = 0; kind < 2; kind++) {
        struct record record = {USER_PROCESS, "someone", 1700000000, 0};
        for (size_t at = 0; at < sizeof(bytes); record.seconds++)
            at += puts[kind](bytes + at, &record);
        assert_int_equal(logins_add_utmp(&logins, bytes, sizeof(bytes)), 0);
        assert_int_equal(logins.count, 1);
        expect_login(0, "someone", 1700000000000000);
        logins_deinit(&logins);
    }
}

/* What the C library of this machine writes. */
static void test_utmp_of_this_machine(void **state)
{
    struct utmp own = {.ut_type = USER_PROCESS, .ut_user = "alice"};
    own.ut_tv.tv_sec = 1700000000;
    own.ut_tv.tv_usec = 7;
    assert_int_equal(logins_add_utmp(&logins, &own, sizeof(own)), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "alice", 1700000000000007);
    logins_deinit(&logins);
}

static void test_utmp_at_its_limits(void **state)
{
    char bytes[800];
    /* No NUL at the end of the longest name; a time after January 2038. */
    struct record record = {USER_PROCESS, "abcdefghijklmnopqrstuvwxyz012345", UINT32_MAX, 999999};
    size_t length = put_native(bytes, &record);
    memset(bytes + 76, 'h', 256);
    /* Half of a record that is just being written. */
    memset(bytes + length, USER_PROCESS, 100);
    assert_int_equal(logins_add_utmp(&logins, bytes, length + 100), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "abcdefghijklmnopqrstuvwxyz012345", 4294967295999999);
    logins_deinit(&logins);
    assert_int_equal(logins_add_utmp(&logins, bytes, 0), 0);
    assert_int_equal(logins.count, 0);
}

/* --- sessions of logind --- */

/* As systemd 252 writes it. */
#define SESSION(name, user, class, state, since)                 \
    "file /run/systemd/sessions/" name "\n"                      \
    "|# This is private data. Do not parse.\n"                   \
    "|UID=1000\n"                                                \
    "|USER=" user "\n"                                           \
    "|ACTIVE=1\n"                                                \
    "|IS_DISPLAY=1\n"                                            \
    "|STATE=" state "\n"                                         \
    "|REMOTE=0\n"                                                \
    "|TYPE=tty\n"                                                \
    "|ORIGINAL_TYPE=tty\n"                                       \
    "|CLASS=" class "\n"                                         \
                    "|SCOPE=session-" name ".scope\n"            \
                    "|FIFO=/run/systemd/sessions/" name ".ref\n" \
                    "|TTY=tty1\n"                                \
                    "|SERVICE=login\n"                           \
                    "|LEADER=400\n"                              \
                    "|AUDIT=1\n"                                 \
                    "|REALTIME=" since "\n"                      \
                    "|MONOTONIC=4000000\n"

static const char sessions[] = SESSION("1", "alice", "user", "active", "1700000200500000")
    SESSION("c2", "alice", "user", "online",
            "1700000000123456") SESSION("3", "gdm", "greeter", "active", "1700000000000000")
        SESSION("4", "root", "background", "active", "1700000000000000")
            SESSION("5", "root", "manager", "active", "1700000000000000")
                SESSION("6", "bob", "user", "closing", "1700000000000000")
                    SESSION("7", "carol", "user-incomplete", "opening", "1700000000000000")
                        SESSION("8", "", "user", "active", "1700000000000000")
                            SESSION("9", "dave", "user", "active", "")
                                SESSION(".#1a2b3c", "eve", "user", "active", "1700000000000000");

static void expect_sessions(void)
{
    assert_int_equal(logins_load(&logins), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "alice", 1700000000123456);
    logins_deinit(&logins);
}

static void test_sessions_where_there_is_no_utmp(void **state)
{
    char path[128];
    file_tree_use(root, sessions);
    /* Whoever opened it would wait for its other end. */
    snprintf(path, sizeof(path), "%s/run/systemd/sessions/1.ref", root);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_sessions();
    /* systemd-tmpfiles makes the file, but nobody writes to it. */
    write_file("/run/utmp", "", 0);
    expect_sessions();
}

static void test_utmp_is_preferred(void **state)
{
    char bytes[400];
    struct record record = {USER_PROCESS, "frank", 1700000000, 0};
    file_tree_use(root, sessions);
    write_file("/run/utmp", bytes, put_native(bytes, &record));
    assert_int_equal(logins_load(&logins), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "frank", 1700000000000000);
}

static void test_utmp_without_a_login(void **state)
{
    char bytes[400];
    struct record record = {BOOT_TIME, "reboot", 1700000000, 0};
    file_tree_use(root, sessions);
    write_file("/run/utmp", bytes, put_native(bytes, &record));
    assert_int_equal(logins_load(&logins), 0);
    assert_int_equal(logins.count, 0);
}

static void test_utmp_in_var_run(void **state)
{
    char bytes[400];
    struct record record = {USER_PROCESS, "frank", 1700000000, 0};
    file_tree_use(root, "dir /run\ndir /var/run\n");
    write_file("/var/run/utmp", bytes, put_native(bytes, &record));
    assert_int_equal(logins_load(&logins), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "frank", 1700000000000000);
}

static void test_quoted_names(void **state)
{
    char text[] = "USER=\"DOMAIN\\\\user name\"\nCLASS=user-early\nSTATE=active\nREALTIME=5\n";
    assert_int_equal(logins_add_session(&logins, text), 0);
    assert_int_equal(logins.count, 1);
    expect_login(0, "DOMAIN\\user name", 5);
    logins_deinit(&logins);
}

static void test_nothing_known(void **state)
{
    file_tree_use(root, "dir /run\n");
    assert_int_equal(logins_load(&logins), 0);
    assert_int_equal(logins.count, 0);
}

static void test_what_cannot_be_read(void **state)
{
    file_tree_use(root, "dir /run/utmp\n");
    assert_int_equal(logins_load(&logins), -EISDIR);
    assert_int_equal(logins.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utmp),
        cmocka_unit_test(test_utmp_of_either_size),
        cmocka_unit_test(test_utmp_of_this_machine),
        cmocka_unit_test(test_utmp_at_its_limits),
        cmocka_unit_test_teardown(test_sessions_where_there_is_no_utmp, remove_tree),
        cmocka_unit_test_teardown(test_utmp_is_preferred, remove_tree),
        cmocka_unit_test_teardown(test_utmp_without_a_login, remove_tree),
        cmocka_unit_test_teardown(test_utmp_in_var_run, remove_tree),
        cmocka_unit_test(test_quoted_names),
        cmocka_unit_test_teardown(test_nothing_known, remove_tree),
        cmocka_unit_test_teardown(test_what_cannot_be_read, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
