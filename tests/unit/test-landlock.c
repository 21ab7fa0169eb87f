/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "in-child.h"
#include "security/landlock.h"

static char *folder;

static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static int setup(void **state)
{
    static char template[] = "/tmp/test-landlock.XXXXXX";
    folder = mkdtemp(template);
    if (!folder || mkdir(in_folder("read"), 0755) < 0 || mkdir(in_folder("write"), 0755) < 0)
        return -1;
    close_fd(open(in_folder("read/file"), O_WRONLY | O_CREAT, 0644));
    close_fd(open(in_folder("outside"), O_WRONLY | O_CREAT, 0644));
    return 0;
}

static int teardown(void **state)
{
    const char *const names[] = {"read/file", "write/file", "outside", "new", "read", "write", "."};
    for (size_t i = 0; i < ARRAY_SIZE(names) - 1; i++)
        remove(in_folder(names[i]));
    return rmdir(folder);
}

static void skip_without_landlock(void)
{
    if (landlock_abi() == 0)
        skip();
}

static bool can_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void restrict_to_scope(void)
{
    const char *const read[] = {in_folder("read"), in_folder("is-not-there")};
    const char *const write[] = {in_folder("write")};
    const char *const list[] = {"/proc"};
    const char *const execute[] = {"/bin", "/usr", "/lib", "/lib64"};
    struct landlock_scope scope = {
        .read = {read, ARRAY_SIZE(read)},
        .write = {write, ARRAY_SIZE(write)},
        .execute = {execute, ARRAY_SIZE(execute)},
        .list = {list, ARRAY_SIZE(list)},
    };
    const char *path;
    int ruleset = -1;
    CHILD_CHECK(landlock_ruleset_new(&scope, &ruleset, &path) == 0);
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(landlock_restrict_self(ruleset) == 0);
    close(ruleset);
}

static void try_files(void)
{
    restrict_to_scope();
    CHILD_CHECK(can_open(in_folder("read/file"), O_RDONLY));
    CHILD_CHECK(!can_open(in_folder("read/file"), O_WRONLY));
    CHILD_CHECK(!can_open(in_folder("read/new"), O_WRONLY | O_CREAT));
    CHILD_CHECK(can_open(in_folder("write/file"), O_WRONLY | O_CREAT | O_TRUNC));
    CHILD_CHECK(!can_open(in_folder("write/file"), O_RDONLY));
    CHILD_CHECK(!can_open(in_folder("outside"), O_RDONLY));
    CHILD_CHECK(!can_open(in_folder("write/../outside"), O_RDONLY));
    CHILD_CHECK(!can_open("/etc/passwd", O_RDONLY));
    CHILD_CHECK(can_open("/proc", O_RDONLY | O_DIRECTORY));
    CHILD_CHECK(!can_open("/proc/version", O_RDONLY));
    CHILD_CHECK(mknod(in_folder("write/device"), S_IFCHR | 0600, 0x103) < 0);
}

static void test_files(void **state)
{
    skip_without_landlock();
    assert_int_equal(run_in_child(try_files), 0);
}

static void execute_true(void)
{
    restrict_to_scope();
    execl("/bin/true", "true", NULL);
    _exit(1);
}

static void test_programs_below_execute_run(void **state)
{
    skip_without_landlock();
    assert_int_equal(run_in_child(execute_true), 0);
}

static void restrict_to_nothing(void)
{
    struct landlock_scope nothing = {.is_isolated = true};
    const char *path;
    int ruleset = -1;
    CHILD_CHECK(landlock_ruleset_new(&nothing, &ruleset, &path) == 0);
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(landlock_restrict_self(ruleset) == 0);
    execl("/bin/true", "true", NULL);
    CHILD_CHECK(errno == EACCES);
    CHILD_CHECK(!can_open("/", O_RDONLY));
}

static void test_an_empty_scope_allows_nothing(void **state)
{
    skip_without_landlock();
    assert_int_equal(run_in_child(restrict_to_nothing), 0);
}

static void test_what_is_lacking_is_said(void **state)
{
    for (int abi = 0; abi <= LANDLOCK_ABI_MAX; abi++)
        assert_int_equal(landlock_lacks(abi) == NULL, abi >= 5);
    assert_true(landlock_abi() <= LANDLOCK_ABI_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_programs_below_execute_run),
        cmocka_unit_test(test_an_empty_scope_allows_nothing),
        cmocka_unit_test(test_what_is_lacking_is_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
