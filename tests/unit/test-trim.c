/* SPDX-License-Identifier: MIT */
/*
 * guest-fstrim over mount tables and directories made by hand. ioctl() is the test's own: nothing
 * is ever trimmed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "fake-call.h"
#include "file-tree.h"
#include "base/sysroot.h"
#include "cmds/freeze-state.h"

extern const struct command_family trim_commands;

static char root[32];
static unsigned asked;
static int answers[8]; /* of one FITRIM after another: an errno, or 0 */
static uint64_t last_minimum;
static struct call *cancel_after; /* the first FITRIM */

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    if (request != FITRIM) {
        errno = ENOTTY;
        return -1;
    }
    va_list arguments;
    va_start(arguments, request);
    struct fstrim_range *range = va_arg(arguments, struct fstrim_range *);
    va_end(arguments);
    assert_true(asked < ARRAY_SIZE(answers));
    assert_int_equal(range->start, 0);
    assert_int_equal(range->len, UINT64_MAX);
    last_minimum = range->minlen;
    errno = answers[asked++];
    range->len = asked * 1000;
    range->minlen += 1;
    if (cancel_after)
        cancel_after->is_cancelled = true;
    return errno ? -1 : 0;
}

static const char files[] = "file /proc/1/mountinfo\n"
                            "|20 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
                            "|21 20 0:20 / /proc rw - proc proc rw\n"
                            "|22 20 0:21 / /tmp rw - tmpfs tmpfs rw\n"
                            "|23 20 254:2 / /data rw - vfat /dev/vda2 rw\n"
                            "|24 20 254:2 /sub /bind rw - vfat /dev/vda2 rw\n"
                            "|25 20 0:30 / /pool rw - btrfs /dev/vdb rw\n"
                            "|26 20 0:31 / /net rw - nfs server:/export rw\n"
                            "|27 20 254:3 / /covered rw - f2fs /dev/vda3 rw\n"
                            "|28 27 254:4 / /covered rw - f2fs /dev/vda4 rw\n"
                            "|29 20 254:5 / /missing rw - f2fs /dev/vda5 rw\n"
                            "dir /data\n"
                            "dir /pool\n"
                            "dir /covered\n";

static int setup(void **state)
{
    asked = 0;
    memset(answers, 0, sizeof(answers));
    cancel_after = NULL;
    file_tree_use(root, files);
    fake_services.freeze = freeze_state_new();
    return fake_services.freeze ? 0 : -1;
}

static int teardown(void **state)
{
    fake_services.freeze = freeze_state_free(fake_services.freeze);
    file_tree_remove(root);
    return 0;
}

static void test_each_file_system_once(void **state)
{
    fake_expect(
        &trim_commands, "guest-fstrim", "{\"minimum\": 4096}",
        "{\"paths\": ["
        "{\"path\": \"/missing\", \"error\": \"failed to open: No such file or directory\"}, "
        "{\"path\": \"/covered\", \"minimum\": 4097, \"trimmed\": 1000}, "
        "{\"path\": \"/pool\", \"minimum\": 4097, \"trimmed\": 2000}, "
        "{\"path\": \"/data\", \"minimum\": 4097, \"trimmed\": 3000}, "
        "{\"path\": \"/\", \"minimum\": 4097, \"trimmed\": 4000}]}");
    assert_int_equal(asked, 4);
    assert_int_equal(last_minimum, 4096);
}

static void test_errors_by_path(void **state)
{
    answers[0] = EOPNOTSUPP;
    answers[1] = ENOTTY;
    answers[2] = EIO;
    fake_expect(
        &trim_commands, "guest-fstrim", NULL,
        "{\"paths\": ["
        "{\"path\": \"/missing\", \"error\": \"failed to open: No such file or directory\"}, "
        "{\"path\": \"/covered\", \"error\": \"trim not supported\"}, "
        "{\"path\": \"/pool\", \"error\": \"trim not supported\"}, "
        "{\"path\": \"/data\", \"error\": \"failed to trim: Input/output error\"}, "
        "{\"path\": \"/\", \"minimum\": 1, \"trimmed\": 4000}]}");
    assert_int_equal(last_minimum, 0);
}

static void test_progress(void **state)
{
    struct call *call = fake_call_new(&trim_commands, "guest-fstrim", NULL);
    fake_call_carry_out(call);
    assert_int_equal(call->progress.done, 5);
    assert_int_equal(call->progress.total, 5);
    assert_int_equal(call->progress.bytes, 1000 + 2000 + 3000 + 4000);
    assert_false(call->progress.is_paused);
    assert_null(call->progress.item);
    fake_call_free(call);
}

static void test_cancelled(void **state)
{
    struct call *call = fake_call_new(&trim_commands, "guest-fstrim", NULL);
    cancel_after = call;
    fake_call_carry_out(call);
    assert_int_equal(asked, 1);
    assert_string_equal(fake_call_answer(call),
                        "guest-fstrim was cancelled: 2 of 5 file systems and 1000 bytes were "
                        "trimmed");
    fake_call_free(call);
}

/* A freeze that nobody ends: the deadline does. */
static void test_pauses_for_a_freeze(void **state)
{
    struct call *call = fake_call_new(&trim_commands, "guest-fstrim", NULL);
    freeze_state_set(fake_services.freeze, FREEZE_FROZEN);
    call->is_interrupted = true;
    fake_call_carry_out(call);
    assert_int_equal(asked, 0);
    assert_true(call->progress.is_paused);
    assert_string_equal(call->progress_item, "/covered");
    call->command->cancel(call); /* wakes it, wherever it is */
    fake_call_free(call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_file_system_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_by_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_progress, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pauses_for_a_freeze, setup, teardown),
    };
    return cmocka_run_group_tests_name("trim", tests, NULL, NULL);
}
