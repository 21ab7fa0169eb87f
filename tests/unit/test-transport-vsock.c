/* SPDX-License-Identifier: MIT */
/*
 * What the vsock-listen transport refuses. That it serves the host, and only the host, is tested in
 * the guest suite: not every kernel that runs this one can connect to itself, and the machine's own
 * host is no part of a test.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "io/transport.h"

static const struct transport_ops ops = {.connected = NULL};

static void check_refused(struct transport_options options, int error, const char *expected)
{
    struct event_base *base = event_base_new();
    struct transport *transport = NULL;
    _cleanup_free_ char *reason = NULL;

    options.method = TRANSPORT_VSOCK_LISTEN;
    int result = transport_open(base, &options, &ops, NULL, &transport, &reason);
    if (result != -EAFNOSUPPORT) /* a kernel without vsock */
        assert_int_equal(result, error);
    assert_non_null(reason);
    if (result == error && !strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    assert_null(transport);
    event_base_free(base);
}

static void test_addresses(void **state)
{
    check_refused((struct transport_options){.path = NULL}, -EINVAL, "needs a path");
    check_refused((struct transport_options){.path = "1024"}, -EINVAL, "expected CID:PORT");
    check_refused((struct transport_options){.path = "any:1024", .vsock_peers = "me"}, -EINVAL,
                  "'me' is no list of vsock peers");
}

static void test_cid_of_another_machine(void **state)
{
    check_refused((struct transport_options){.path = "4000000000:1024"}, -EADDRNOTAVAIL,
                  "this machine's CID is not 4000000000");
}

static void test_passed_socket_of_another_kind(void **state)
{
    const struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(fd, 1), 0);
    check_refused((struct transport_options){.path = "any:1024", .passed_fd = fd}, -EINVAL,
                  "is not listening for vsock-listen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_cid_of_another_machine),
        cmocka_unit_test(test_passed_socket_of_another_kind),
    };

    return cmocka_run_group_tests_name("transport-vsock", tests, NULL, NULL);
}
