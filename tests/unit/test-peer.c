/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "peer.h"

static int pair[2];

static int set_up(void **state)
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int tear_down(void **state)
{
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static struct peer_rule make_rule(const char *users, const char *groups)
{
    struct peer_rule rule = {.users = NULL};
    char *reason = NULL;
    if (users)
        assert_int_equal(peer_rule_set_users(&rule, users, &reason), 0);
    if (groups)
        assert_int_equal(peer_rule_set_groups(&rule, groups, &reason), 0);
    return rule;
}

static bool is_allowed(const char *users, const char *groups, int fd)
{
    struct peer_rule rule = make_rule(users, groups);
    bool is = peer_is_allowed(&rule, fd);
    peer_rule_deinit(&rule);
    return is;
}

static void test_who_is_there(void **state)
{
    char text[PEER_TEXT_MAX], expected[PEER_TEXT_MAX];
    snprintf(expected, sizeof(expected), "pid %d, uid %u, gid %u", (int)getpid(),
             (unsigned)geteuid(), (unsigned)getegid());
    peer_describe(pair[0], text);
    assert_string_equal(text, expected);
    peer_describe(0, text);
    assert_string_equal(text, "");
}

static void test_rules(void **state)
{
    char own[32], own_group[32], two[64];
    snprintf(own, sizeof(own), "%u", (unsigned)geteuid());
    snprintf(own_group, sizeof(own_group), "%u", (unsigned)getegid());
    snprintf(two, sizeof(two), "54321, %s", own);
    assert_true(is_allowed(NULL, NULL, pair[0]));
    assert_true(is_allowed(own, NULL, pair[0]));
    assert_true(is_allowed(two, NULL, pair[0]));
    assert_true(is_allowed(own, own_group, pair[0]));
    assert_false(is_allowed("54321", NULL, pair[0]));
    assert_false(is_allowed("54321", own_group, pair[0]));
    assert_false(is_allowed(own, "54321", pair[0]));
}

static void test_what_has_no_peer(void **state)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_true(is_allowed(NULL, NULL, pipes[0]));
    assert_false(is_allowed("0", NULL, pipes[0]));
    close(pipes[0]);
    close(pipes[1]);
}

static void test_values(void **state)
{
    static const char *const bad[] = {"", " ", "no-such-user", "-1", "4294967295", "\"0"};
    struct peer_rule rule = make_rule("root 7", NULL);
    assert_int_equal(rule.user_count, 2);
    assert_int_equal(rule.users[0], 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char *reason = NULL;
        assert_int_equal(peer_rule_set_users(&rule, bad[i], &reason), -EINVAL);
        assert_non_null(reason);
        free(reason);
    }
    assert_int_equal(rule.user_count, 2);
    struct buffer out = BUFFER_INIT;
    peer_rule_dump(&rule, &out);
    assert_string_equal(out.data, "peer-uid=0,7\n");
    buffer_deinit(&out);
    assert_true(peer_rule_is_given(&rule));
    peer_rule_deinit(&rule);
    assert_false(peer_rule_is_given(&rule));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_who_is_there),
        TEST(test_rules),
        TEST(test_what_has_no_peer),
        TEST(test_values),
    };
    return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
