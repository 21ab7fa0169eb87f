/* SPDX-License-Identifier: MIT */
/* What is supported, on trees made by hand after sleep-states.rst; nothing here goes to sleep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "cmds/sleep-mode.h"
#include "file-tree.h"

#define STATE(words) "file /sys/power/state\n|" words "\n"
#define DISK(words)  "file /sys/power/disk\n|" words "\n"
#define SWAPS(lines) "file /proc/swaps\n|Filename Type Size Used Priority\n" lines
#define ONE_SWAP     SWAPS("|/dev/vdb partition 524284 0 -2\n")
#define USUAL_DISK   DISK("[platform] shutdown reboot suspend test_resume")

static void check(const char *tree, bool ram, bool disk, bool hybrid)
{
    char root[32];
    file_tree_use(root, tree);
    assert_int_equal(sleep_mode_is_supported(SLEEP_RAM), ram);
    assert_int_equal(sleep_mode_is_supported(SLEEP_DISK), disk);
    assert_int_equal(sleep_mode_is_supported(SLEEP_HYBRID), hybrid);
    file_tree_remove(root);
}

static void test_what_the_kernel_offers(void **state)
{
    check(STATE("freeze mem disk") USUAL_DISK ONE_SWAP, true, true, true);
    check(STATE("freeze standby mem disk") DISK("platform [suspend]") ONE_SWAP, true, true, true);
    check(STATE("disk") DISK("[shutdown] reboot test_resume") ONE_SWAP, false, true, false);
    check(STATE("freeze mem") USUAL_DISK ONE_SWAP, true, false, false);
    check(STATE("freeze memory diskette") USUAL_DISK ONE_SWAP, false, false, false);
}

static void test_what_it_does_not_offer(void **state)
{
    check("dir /sys/power\n", false, false, false);
    check("dir /sys\n", false, false, false);
    check(STATE("") DISK("") ONE_SWAP, false, false, false);
    check(STATE("freeze mem disk") DISK("[disabled]") ONE_SWAP, true, false, false);
}

static void test_an_image_needs_swap_space(void **state)
{
    check(STATE("freeze mem disk") USUAL_DISK, true, false, false);
    check(STATE("freeze mem disk") USUAL_DISK "file /proc/swaps\n", true, false, false);
    check(STATE("freeze mem disk") USUAL_DISK SWAPS(""), true, false, false);
    check(STATE("freeze mem disk") USUAL_DISK SWAPS("|/dev/zram0 partition 524284 0 100\n"), true,
          false, false);
    check(STATE("freeze mem disk")
              USUAL_DISK SWAPS("|/dev/zram0 partition 524284 0 100\n|/swap file 1 0 -2\n"),
          true, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_the_kernel_offers),
        cmocka_unit_test(test_what_it_does_not_offer),
        cmocka_unit_test(test_an_image_needs_swap_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
