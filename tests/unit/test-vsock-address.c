/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/vsock-address.h"

static void test_addresses(void **state)
{
    static const struct {
        const char *text;
        uint32_t cid;
        uint32_t port;
    } good[] = {
        {"3:1024", 3, 1024},
        {"0:0", 0, 0},
        {"any:1024", UINT32_MAX, 1024},
        {"4294967295:4294967294", UINT32_MAX, UINT32_MAX - 1},
    };
    static const char *const bad[] = {
        "",
        ":",
        "3",
        "3:",
        ":1024",
        "3:1024:5",
        "-1:5",
        "3:1024 ",
        " 3:1",
        "a:1024",
        "3:port",
        "4294967296:1",
        "3:18446744073709551617",
        "anyone:1",
    };

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        uint32_t cid = 77, port = 77;
        assert_int_equal(vsock_address_parse(good[i].text, &cid, &port), 0);
        assert_int_equal(cid, good[i].cid);
        assert_int_equal(port, good[i].port);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint32_t cid = 77, port = 77;
        assert_int_equal(vsock_address_parse(bad[i], &cid, &port), -EINVAL);
        assert_int_equal(cid, 77);
        assert_int_equal(port, 77);
    }
}

static void test_peers(void **state)
{
    struct vsock_peers peers;

    assert_int_equal(vsock_peers_parse(NULL, &peers), 0);
    assert_true(vsock_peers_have(&peers, 2)); /* the host, and nobody else */
    assert_false(vsock_peers_have(&peers, 1));
    assert_false(vsock_peers_have(&peers, 3));
    assert_false(vsock_peers_have(&peers, UINT32_MAX));

    assert_int_equal(vsock_peers_parse("1, 7;9", &peers), 0);
    assert_true(vsock_peers_have(&peers, 1));
    assert_true(vsock_peers_have(&peers, 7));
    assert_true(vsock_peers_have(&peers, 9));
    assert_false(vsock_peers_have(&peers, 2)); /* the list is in place of the default */

    assert_int_equal(vsock_peers_parse("2;any", &peers), 0);
    assert_true(vsock_peers_have(&peers, 12345));
}

static void test_bad_peers(void **state)
{
    static const char *const bad[] = {"", " ,;", "host", "1.2", "-1", "4294967296", "2;x"};
    struct vsock_peers peers = {.count = 77};
    char many[4 * VSOCK_PEERS_MAX] = "";

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(vsock_peers_parse(bad[i], &peers), -EINVAL);
    assert_int_equal(peers.count, 77);
    for (size_t i = 0; i <= VSOCK_PEERS_MAX; i++) {
        many[2 * i] = '1';
        many[2 * i + 1] = ',';
    }
    assert_int_equal(vsock_peers_parse(many, &peers), -EINVAL);
    many[2 * VSOCK_PEERS_MAX] = '\0';
    assert_int_equal(vsock_peers_parse(many, &peers), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_bad_peers),
    };

    return cmocka_run_group_tests_name("vsock-address", tests, NULL, NULL);
}
