/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "io/uevent.h"

#define EXPECT_PARSED(text)          assert_true(uevent_parse(text, sizeof(text), &event))
#define EXPECT_REFUSED(text, length) assert_false(uevent_parse(text, length, &event))

static void test_parse(void **state)
{
    struct uevent event;
    EXPECT_PARSED("add@/devices/system/cpu/cpu1\0ACTION=add\0DEVPATH=/devices/system/cpu/cpu1\0"
                  "SUBSYSTEM=cpu\0DRIVER=processor\0MODALIAS=cpu:type:x86,ven0002\0SEQNUM=1234");
    assert_string_equal(event.action, "add");
    assert_string_equal(event.path, "/devices/system/cpu/cpu1");
    assert_string_equal(event.subsystem, "cpu");
    EXPECT_PARSED("x@\0SUBSYSTEM=\0\0ACTIONS=y\0ACTION=x\0DEVPATH=a=b");
    assert_string_equal(event.action, "x");
    assert_string_equal(event.path, "a=b");
    assert_string_equal(event.subsystem, "");
}

static void test_parse_what_is_no_event(void **state)
{
    static const char whole[] = "add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu";
    struct uevent event;
    EXPECT_PARSED("add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu");
    for (size_t length = 0; length < sizeof(whole); length++)
        EXPECT_REFUSED(whole, length);
    /* What udev sends to its own group. */
    static const char udev[] = "libudev\0\xfe\xed\xca\xfe ACTION=add\0DEVPATH=/x\0SUBSYSTEM=cpu";
    EXPECT_REFUSED(udev, sizeof(udev));
}

static void ignore(const struct uevent *event, void *context)
{
}

static void test_listens(void **state)
{
    struct uevent_listener *listener = NULL;
    thread_set_role(THREAD_LOOP);
    struct event_base *base = event_base_new();
    assert_non_null(base);
    assert_int_equal(uevent_listener_new(base, ignore, NULL, &listener), 0);
    assert_non_null(listener);
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 0);
    assert_null(uevent_listener_free(listener));
    assert_null(uevent_listener_free(NULL));
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_what_is_no_event),
        cmocka_unit_test(test_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
