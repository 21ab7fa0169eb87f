/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-call.h"
#include "file-tree.h"

extern const struct command_family users_commands;

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

/* Made by hand, with what logind writes that matters here. */
static void expect_since(const char *since, const char *expected)
{
    char tree[256], reply[256];
    snprintf(tree, sizeof(tree),
             "file /run/systemd/sessions/1\n|USER=alice\n|STATE=active\n|CLASS=user\n"
             "|REALTIME=%s\n",
             since);
    snprintf(reply, sizeof(reply), "[{\"login-time\": %s, \"user\": \"alice\"}]", expected);
    file_tree_use(root, tree);
    fake_expect(&users_commands, "guest-get-users", NULL, reply);
    file_tree_remove(root);
}

static void test_times(void **state)
{
    expect_since("1700000000500000", "1700000000.5");
    expect_since("1700000000123456", "1700000000.123456");
    expect_since("1700000000000001", "1700000000.000001");
    expect_since("1700000000999999", "1700000000.999999");
    expect_since("1700000000000000", "1700000000");
    expect_since("4294967295999999", "4294967295.999999");
}

static void test_nobody(void **state)
{
    file_tree_use(root, "dir /run");
    fake_expect(&users_commands, "guest-get-users", NULL, "[]");
    file_tree_remove(root);
}

static void test_failure(void **state)
{
    file_tree_use(root, "dir /run/utmp");
    fake_expect(&users_commands, "guest-get-users", NULL,
                "failed to read who is logged in: Is a directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test_teardown(test_failure, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
