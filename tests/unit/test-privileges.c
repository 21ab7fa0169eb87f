/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "in-child.h"
#include "security/privileges.h"

#define CHOWN CAPABILITY_BIT(CAP_CHOWN)
#define KILL  CAPABILITY_BIT(CAP_KILL)

static const struct capability_need needs[] = {
    {CAP_CHOWN, "one"}, {CAP_KILL, "two"}, CAPABILITY_NEEDS_END};

static uint64_t effective(void)
{
    struct capability_sets sets;
    CHILD_CHECK(capabilities_read(&sets) == 0);
    return sets.effective;
}

static void *read_effective(void *ret_set)
{
    *(uint64_t *)ret_set = effective();
    return NULL;
}

static void raise_and_lower(void)
{
    struct capability_sets sets = {.permitted = CHOWN | KILL, .bounding = CHOWN | KILL};
    pthread_t thread;
    uint64_t inherited = 0;
    CHILD_CHECK(capabilities_apply(&sets) == 0);
    privileges_settle(CHOWN);
    privileges_enter(NULL);
    CHILD_CHECK(effective() == 0);
    privileges_leave();
    privileges_enter(needs);
    CHILD_CHECK(effective() == CHOWN); /* no more than was settled */
    CHILD_CHECK(pthread_create(&thread, NULL, read_effective, &inherited) == 0);
    CHILD_CHECK(pthread_join(thread, NULL) == 0);
    CHILD_CHECK(inherited == CHOWN);
    privileges_leave();
    CHILD_CHECK(effective() == 0);
    privileges_leave();
    CHILD_CHECK(effective() == 0);
}

static void test_raise_and_lower(void **state)
{
    struct capability_sets sets;
    if (capabilities_read(&sets) < 0 || (sets.permitted & CHOWN) == 0 ||
        !(sets.effective & CAPABILITY_BIT(CAP_SETPCAP)))
        skip();
    assert_int_equal(run_in_child(raise_and_lower), 0);
}

static void without_settling(void)
{
    struct capability_sets before, after;
    CHILD_CHECK(capabilities_read(&before) == 0);
    privileges_enter(needs);
    privileges_leave();
    CHILD_CHECK(capabilities_read(&after) == 0);
    CHILD_CHECK(before.effective == after.effective);
}

static void test_nothing_happens_before_it_is_settled(void **state)
{
    if (capabilities_known() == 0)
        skip();
    assert_int_equal(run_in_child(without_settling), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raise_and_lower),
        cmocka_unit_test(test_nothing_happens_before_it_is_settled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
