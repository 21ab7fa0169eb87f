/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/buffer.h"
#include "config.h"
#include "policy-report.h"
#include "security/gate.h"

static void test_report(void **state)
{
    static const char *const blocked[] = {"guest-get-load"};
    struct gate *gate = gate_new(&(struct gate_rules){.blocked = blocked, .blocked_count = 1});
    char general[] = "general", port[] = "virtio-serial", local[] = "local";
    char socket[] = "unix-listen", x[] = "/x", y[] = "/y";
    struct config_channel channels[] = {
        {.name = general, .method = port, .path = x, .profile = PROFILE_PROVISION},
        {.name = local, .method = socket, .path = y, .profile = PROFILE_MONITOR},
    };
    struct config config = {.channels = channels, .channel_count = 2};
    struct buffer out = BUFFER_INIT;
    policy_report(&config, gate, &out);
    assert_non_null(strstr(out.data, "[channel local]: unix-listen /y, profile monitor\n"));
    assert_non_null(strstr(out.data, "profile provision has the commands\n"));
    assert_non_null(strstr(out.data, "    guest-set-time\n"));
    assert_non_null(strstr(out.data, "profile provision runs no program"));
    assert_non_null(strstr(out.data, "profile monitor has the commands\n"));
    assert_null(strstr(out.data, "guest-get-load"));
    assert_null(strstr(out.data, "guest-get-devices"));
    assert_null(strstr(out.data, "profile full has"));
    buffer_deinit(&out);
    gate_free(gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests_name("policy-report", tests, NULL, NULL);
}
