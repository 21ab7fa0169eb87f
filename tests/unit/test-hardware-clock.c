/* SPDX-License-Identifier: MIT */
/* Only conversions and files: nothing here opens a clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/hardware-clock.h"
#include "file-tree.h"

/* 2027-01-15 08:00:00 UTC */
#define WINTER 1800000000

static void in_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void check(time_t time, bool is_local, int year, int month, int day, int hour)
{
    struct rtc_time shown;
    time_t back;
    assert_int_equal(hardware_clock_from_time(time, is_local, &shown), 0);
    assert_int_equal(shown.tm_year, year - 1900);
    assert_int_equal(shown.tm_mon, month - 1);
    assert_int_equal(shown.tm_mday, day);
    assert_int_equal(shown.tm_hour, hour);
    assert_int_equal(hardware_clock_to_time(&shown, is_local, &back), 0);
    assert_int_equal(back, time);
}

static void test_utc(void **state)
{
    in_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check(WINTER, false, 2027, 1, 15, 8);
    check(0, false, 1970, 1, 1, 0);
    check(4102444799, false, 2099, 12, 31, 23);
}

static void test_local_time(void **state)
{
    in_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check(WINTER, true, 2027, 1, 15, 9);
    check(WINTER + 180 * 86400, true, 2027, 7, 14, 10);
}

static void test_what_is_no_time(void **state)
{
    const struct rtc_time wrong[] = {
        {.tm_mday = 1, .tm_year = 69},
        {.tm_mday = 0, .tm_year = 100},
        {.tm_mday = 32, .tm_year = 100},
        {.tm_mday = 1, .tm_year = 100, .tm_mon = 12},
        {.tm_mday = 1, .tm_year = 100, .tm_hour = 24},
        {.tm_mday = 1, .tm_year = 100, .tm_min = 60},
        {.tm_mday = 1, .tm_year = 100, .tm_sec = -1},
    };
    time_t time;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(hardware_clock_to_time(&wrong[i], false, &time), -ERANGE);
}

/* Trees made by hand after hwclock(8). */
static void check_adjtime(const char *tree, bool expected)
{
    char root[32];
    file_tree_use(root, tree);
    assert_int_equal(hardware_clock_is_local(), expected);
    file_tree_remove(root);
}

static void test_adjtime_says_what_it_shows(void **state)
{
    check_adjtime("dir /etc\n", false);
    check_adjtime("file /etc/adjtime\n", false);
    check_adjtime("file /etc/adjtime\n|0.0 0 0.0\n|0\n|UTC\n", false);
    check_adjtime("file /etc/adjtime\n|0.0 0 0.0\n|0\n|LOCAL\n", true);
    check_adjtime("file /etc/adjtime\n|LOCAL\n|0\n", false);
}

static void test_a_guest_without_one(void **state)
{
    const char *tree = "dir /dev\n";
    char root[32];
    file_tree_use(root, tree);
    assert_int_equal(hardware_clock_open(), -ENOENT);
    file_tree_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utc),
        cmocka_unit_test(test_local_time),
        cmocka_unit_test(test_what_is_no_time),
        cmocka_unit_test(test_adjtime_says_what_it_shows),
        cmocka_unit_test(test_a_guest_without_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
