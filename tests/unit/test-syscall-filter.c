/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "in-child.h"
#include "security/syscall-filter.h"

static void skip_without_seccomp(void)
{
    if (!syscall_filter_is_available())
        skip();
}

static void load(const char *const *items, size_t count)
{
    struct syscall_list list = {items, count};
    struct syscall_filter *filter = NULL;
    const char *item;
    CHILD_CHECK(syscall_filter_new(&list, &filter, &item) == 0);
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(syscall_filter_load(filter) == 0);
    syscall_filter_free(filter);
}

static bool can_make_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0)
        close(fd);
    else
        CHILD_CHECK(errno == EPERM);
    return fd >= 0;
}

/* What the sanitizers do in between has to be possible, too. */
static void allow_list(void)
{
    const char *const items[] = {"@basic", "@io", "@file", "@threads", "!dup", "wait4", "kill"};
    load(items, ARRAY_SIZE(items));
    CHILD_CHECK(getpid() > 0);
    CHILD_CHECK(!can_make_socket());
    CHILD_CHECK(syscall(SYS_dup, 0) < 0 && errno == EPERM);
}

static void test_only_what_is_listed(void **state)
{
    skip_without_seccomp();
    assert_int_equal(run_in_child(allow_list), 0);
}

static void deny_list(void)
{
    const char *const items[] = {"!@network", "socketpair"};
    int ends[2];
    load(items, ARRAY_SIZE(items));
    CHILD_CHECK(!can_make_socket());
    CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    execl("/bin/true", "true", NULL);
    _exit(1);
}

static void test_all_but_what_is_listed(void **state)
{
    skip_without_seccomp();
    assert_int_equal(run_in_child(deny_list), 0);
}

static void *do_nothing(void *context)
{
    return context;
}

static void without_clone3(void)
{
    const char *const items[] = {"!clone3"};
    load(items, ARRAY_SIZE(items));
    pthread_t thread;
    CHILD_CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
    CHILD_CHECK(pthread_create(&thread, NULL, do_nothing, NULL) == 0);
    CHILD_CHECK(pthread_join(thread, NULL) == 0);
}

static void test_threads_start_without_clone3(void **state)
{
    skip_without_seccomp();
    assert_int_equal(run_in_child(without_clone3), 0);
}

static void test_what_is_not_known(void **state)
{
    skip_without_seccomp();
    const char *const items[] = {"@basic", "opne"};
    struct syscall_filter *filter = NULL;
    const char *item;
    assert_int_equal(syscall_filter_new(&(struct syscall_list){items, 2}, &filter, &item), -EINVAL);
    assert_string_equal(item, "opne");
    assert_null(filter);
    assert_true(syscall_item_is_known("!@network"));
    assert_false(syscall_item_is_known("@networks"));
    assert_true(syscall_item_is_known("openat"));
}

/* A name that no architecture has would be allowed nowhere, and nobody would see it. */
static void test_every_name_in_the_groups_is_one(void **state)
{
    skip_without_seccomp();
    /* Younger than the oldest library that will do. */
    static const char *const young[] = {"fchmodat2",
                                        "futex_waitv",
                                        "process_madvise",
                                        "quotactl_fd",
                                        "landlock_add_rule",
                                        "landlock_create_ruleset",
                                        "landlock_restrict_self",
                                        "epoll_pwait2",
                                        "mount_setattr"};
    for (const struct syscall_group *group = syscall_groups; group->name; group++) {
        assert_ptr_equal(syscall_group_find(group->name), group);
        for (size_t i = 0; group->syscalls[i]; i++) {
            bool is_young = false;
            for (size_t j = 0; j < ARRAY_SIZE(young); j++)
                is_young |= strcmp(young[j], group->syscalls[i]) == 0;
            if (!is_young && !syscall_item_is_known(group->syscalls[i]))
                fail_msg("%s: there is no call %s", group->name, group->syscalls[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_listed),
        cmocka_unit_test(test_all_but_what_is_listed),
        cmocka_unit_test(test_threads_start_without_clone3),
        cmocka_unit_test(test_what_is_not_known),
        cmocka_unit_test(test_every_name_in_the_groups_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
