/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "security/trusted-file.h"

static char folder[64], inner[96], file[128], by_link[96];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-trusted-file-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(inner, sizeof(inner), "%s/inner", folder);
    snprintf(file, sizeof(file), "%s/file", inner);
    snprintf(by_link, sizeof(by_link), "%s/link", folder);
    if (mkdir(inner, 0755) < 0 || symlink("inner/file", by_link) < 0)
        return -1;
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    return fd < 0 || close(fd) < 0 || chmod(inner, 0755) < 0 || chmod(file, 0644) < 0;
}

static int tear_down(void **state)
{
    unlink(file);
    unlink(by_link);
    rmdir(inner);
    return rmdir(folder);
}

static void check_refused(const char *path, const char *at, const char *what)
{
    char *reason = NULL, expected[300];
    assert_int_equal(trusted_file_check(path, &reason), -EPERM);
    snprintf(expected, sizeof(expected), "'%s' %s", at, what);
    assert_string_equal(reason, expected);
    free(reason);
}

static void check_good(const char *path)
{
    char *reason = NULL;
    if (trusted_file_check(path, &reason) != 0)
        fail_msg("%s", reason ? reason : "no reason");
    assert_null(reason);
}

static void test_own(void **state)
{
    check_good(file); /* though /tmp is for all: it is sticky */
    check_good(inner);
    check_good("/");
    check_good("/etc/passwd");
}

static void test_others_can_write(void **state)
{
    static const char what[] = "can be written by others than its owner";
    for (mode_t mode = 0002; mode <= 0020; mode *= 8) {
        assert_int_equal(chmod(file, 0644 | mode), 0);
        check_refused(file, file, what);
        check_refused(by_link, file, what);
        assert_int_equal(chmod(file, 0644), 0);
        assert_int_equal(chmod(inner, 0755 | mode), 0);
        check_refused(file, inner, what);
        check_refused(by_link, inner, what);
        assert_int_equal(chmod(inner, 01755 | mode), 0);
        check_good(file);
        assert_int_equal(chmod(inner, 0755), 0);
    }
    check_good(by_link);
}

static void test_somebody_elses(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(inner, 54321, 0), 0);
    check_refused(file, inner, "belongs to somebody else than root");
    assert_int_equal(chown(inner, 0, 0), 0);
    check_good(file);
}

static void test_what_is_not_there(void **state)
{
    char *reason = NULL;
    assert_int_equal(trusted_file_check("/no/such/file", &reason), -ENOENT);
    assert_null(reason);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_own),
        TEST(test_others_can_write),
        TEST(test_somebody_elses),
        TEST(test_what_is_not_there),
    };
    return cmocka_run_group_tests_name("trusted-file", tests, NULL, NULL);
}
