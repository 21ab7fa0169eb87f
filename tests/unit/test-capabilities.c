/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/prctl.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "in-child.h"
#include "security/capabilities.h"

#define NOBODY 65534

/* Two that a container's root has, too. */
#define CHOWN CAPABILITY_BIT(CAP_CHOWN)
#define KILL  CAPABILITY_BIT(CAP_KILL)

static void skip_unless_root(void)
{
    struct capability_sets sets;
    if (capabilities_known() == 0 || capabilities_read(&sets) < 0 ||
        !(sets.effective & CAPABILITY_BIT(CAP_SETPCAP)) || (sets.permitted & CHOWN) == 0)
        skip();
}

static void test_names(void **state)
{
    if (capabilities_known() == 0)
        skip();
    char name[32];
    unsigned number = 0;
    capability_name(CAP_SYS_TIME, name);
    assert_string_equal(name, "cap_sys_time");
    capability_name(63, name);
    assert_non_null(strstr(name, "63"));
    assert_int_equal(capability_from_name("CAP_SYS_ADMIN", &number), 0);
    assert_int_equal(number, CAP_SYS_ADMIN);
    assert_int_equal(capability_from_name("sys_time", &number), 0);
    assert_int_equal(number, CAP_SYS_TIME);
    assert_int_equal(capability_from_name("cap_nonsense", &number), -EINVAL);
    assert_int_equal(capability_from_name("", &number), -EINVAL);
    assert_int_equal(capability_from_name("a_name_that_is_far_too_long_to_be_one", &number),
                     -EINVAL);
    assert_int_equal(number, CAP_SYS_TIME);
}

static void test_a_set_in_words(void **state)
{
    if (capabilities_known() == 0)
        skip();
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    capabilities_describe(CHOWN | KILL, &text);
    buffer_append_char(&text, '/');
    capabilities_describe(0, &text);
    assert_string_equal(text.data, "cap_chown cap_kill/none");
}

static void test_the_set_of_needs(void **state)
{
    const struct capability_need needs[] = {
        {CAP_CHOWN, "a"}, {CAP_KILL, "b", .is_extra = true}, CAPABILITY_NEEDS_END};
    assert_int_equal(capability_needs_set(needs, true), CHOWN | KILL);
    assert_int_equal(capability_needs_set(needs, false), CHOWN);
    assert_int_equal(capability_needs_set(NULL, true), 0);
}

static bool can_chown(void)
{
    char path[] = "/tmp/test-capabilities.XXXXXX";
    int fd = mkstemp(path);
    bool succeeded = fd >= 0 && fchown(fd, NOBODY, NOBODY) == 0;
    close_fd(fd);
    unlink(path);
    return succeeded;
}

static void raise_and_lower(void)
{
    struct capability_sets sets = {.permitted = CHOWN, .bounding = CHOWN}, found;
    CHILD_CHECK(capabilities_apply(&sets) == 0);
    CHILD_CHECK(capabilities_read(&found) == 0);
    CHILD_CHECK(found.effective == 0 && found.permitted == CHOWN && found.bounding == CHOWN);
    CHILD_CHECK(found.inheritable == 0 && found.ambient == 0);
    CHILD_CHECK(!can_chown());
    CHILD_CHECK(capabilities_set_effective(CHOWN) == 0);
    CHILD_CHECK(can_chown());
    CHILD_CHECK(capabilities_set_effective(0) == 0);
    CHILD_CHECK(!can_chown());
    CHILD_CHECK(capabilities_set_effective(CHOWN | KILL) == -EPERM);
}

static void test_raise_and_lower(void **state)
{
    skip_unless_root();
    assert_int_equal(run_in_child(raise_and_lower), 0);
}

static void ambient_survives_exec(void)
{
    CHILD_CHECK(capabilities_keep_as_user(NOBODY, NOBODY, NULL, 0) == 0);
    CHILD_CHECK(capabilities_set_effective(CHOWN | CAPABILITY_BIT(CAP_SETPCAP)) == 0);
    struct capability_sets sets = {.effective = CHOWN,
                                   .permitted = CHOWN,
                                   .inheritable = CHOWN,
                                   .bounding = CHOWN,
                                   .ambient = CHOWN};
    CHILD_CHECK(capabilities_apply(&sets) == 0);
    execl("/bin/grep", "grep", "-q", "^CapEff:[[:space:]]*0*1$", "/proc/self/status", NULL);
}

static void test_a_program_of_another_user_can_be_given_some(void **state)
{
    skip_unless_root();
    assert_int_equal(run_in_child(ambient_survives_exec), 0);
}

static void lock_root_out(void)
{
    CHILD_CHECK(capabilities_lock_securebits() == 0);
    CHILD_CHECK(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) < 0);
    struct capability_sets sets = {.bounding = CAPABILITIES_ALL};
    CHILD_CHECK(capabilities_apply(&sets) == 0);
    execl("/bin/grep", "grep", "-q", "^CapEff:[[:space:]]*0*$", "/proc/self/status", NULL);
}

static void test_user_0_is_nobody_where_securebits_are_locked(void **state)
{
    skip_unless_root();
    assert_int_equal(run_in_child(lock_root_out), 0);
}

static void keep_as_user(void)
{
    struct capability_sets found;
    const uint32_t groups[] = {NOBODY - 1};
    CHILD_CHECK(capabilities_keep_as_user(NOBODY, NOBODY, groups, 1) == 0);
    CHILD_CHECK(getuid() == NOBODY && getegid() == NOBODY && getgroups(0, NULL) == 1);
    CHILD_CHECK(capabilities_read(&found) == 0);
    CHILD_CHECK(found.effective == 0 && (found.permitted & CHOWN));
    CHILD_CHECK(setuid(0) < 0);
}

static void test_another_user_keeps_what_is_permitted(void **state)
{
    skip_unless_root();
    assert_int_equal(run_in_child(keep_as_user), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_set_in_words),
        cmocka_unit_test(test_the_set_of_needs),
        cmocka_unit_test(test_raise_and_lower),
        cmocka_unit_test(test_a_program_of_another_user_can_be_given_some),
        cmocka_unit_test(test_user_0_is_nobody_where_securebits_are_locked),
        cmocka_unit_test(test_another_user_keeps_what_is_permitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
