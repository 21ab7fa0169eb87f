/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "in-child.h"
#include "security/capabilities.h"
#include "security/confinement.h"

#define NOBODY 65534

static char said[512];

static void complain(void *context, const char *text)
{
    strncat(said, text, sizeof(said) - strlen(said) - 1);
}

static bool is_root(void)
{
    struct capability_sets sets;
    return geteuid() == 0 && capabilities_read(&sets) == 0 &&
           sets.effective & CAPABILITY_BIT(CAP_SETPCAP) &&
           sets.effective & CAPABILITY_BIT(CAP_SETUID);
}

static void everything(void)
{
    const char *const read[] = {"/proc"};
    const char *const calls[] = {"!socket"};
    struct confinement_user nobody = {.user = NOBODY, .group = NOBODY};
    struct confinement confinement = {
        .user = &nobody,
        .limits_capabilities = true,
        .capabilities = CAPABILITY_BIT(CAP_KILL),
        .locks_securebits = true,
        .no_new_privs = true,
        .limits_files = true,
        .files = {.read = {read, 1}},
        .limits_calls = true,
        .calls = {calls, 1},
        .ruleset_fd = -1,
    };
    struct capability_sets sets;
    confinement_prepare(&confinement, complain, NULL);
    confinement_apply(&confinement, complain, NULL);
    CHILD_CHECK(getuid() == NOBODY && getgid() == NOBODY && getgroups(0, NULL) == 0);
    CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHILD_CHECK(capabilities_read(&sets) == 0);
    CHILD_CHECK(sets.permitted == confinement.capabilities && sets.effective == 0);
    CHILD_CHECK(sets.bounding == confinement.capabilities && sets.inheritable == 0);
    if (confinement.ruleset_fd >= 0)
        CHILD_CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
    if (confinement.filter)
        CHILD_CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
    confinement_deinit(&confinement);
}

static void test_everything_at_once(void **state)
{
    if (!is_root())
        skip();
    assert_int_equal(run_in_child(everything), 0);
}

static void in_force(void)
{
    struct confinement confinement = {
        .limits_capabilities = true,
        .capabilities = CAPABILITY_BIT(CAP_KILL),
        .in_force = true,
        .ruleset_fd = -1,
    };
    struct capability_sets sets;
    confinement_prepare(&confinement, complain, NULL);
    confinement_apply(&confinement, complain, NULL);
    CHILD_CHECK(capabilities_read(&sets) == 0 && sets.effective == confinement.capabilities);
    CHILD_CHECK(said[0] == '\0');
    CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
}

static void test_capabilities_that_stay_in_force(void **state)
{
    if (!is_root())
        skip();
    assert_int_equal(run_in_child(in_force), 0);
}

static void without_root(void)
{
    struct confinement_user daemon = {.user = 1, .group = 1};
    struct confinement confinement = {
        .user = &daemon, .limits_capabilities = true, .no_new_privs = true, .ruleset_fd = -1};
    CHILD_CHECK(capabilities_keep_as_user(NOBODY, NOBODY, NULL, 0) == 0);
    struct capability_sets none = {.bounding = CAPABILITIES_ALL};
    CHILD_CHECK(capabilities_apply(&none) == 0);
    confinement_apply(&confinement, complain, NULL);
    CHILD_CHECK(strstr(said, "user: it stays 65534"));
    CHILD_CHECK(strstr(said, "bounding set: it stays"));
    CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

static void test_what_cannot_be_done_is_told_and_the_rest_is_done(void **state)
{
    if (!is_root())
        skip();
    assert_int_equal(run_in_child(without_root), 0);
}

static void test_nothing_is_given_up_unasked(void **state)
{
    struct confinement nothing = CONFINEMENT_INIT;
    confinement_prepare(&nothing, complain, NULL);
    confinement_apply(&nothing, complain, NULL);
    confinement_deinit(&nothing);
    assert_string_equal(said, "");
    assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_given_up_unasked),
        cmocka_unit_test(test_everything_at_once),
        cmocka_unit_test(test_capabilities_that_stay_in_force),
        cmocka_unit_test(test_what_cannot_be_done_is_told_and_the_rest_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
