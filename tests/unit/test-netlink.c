/* SPDX-License-Identifier: MIT */
/* In a network namespace of the test's own, so that nothing of the machine's is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/netlink.h"

static void ip(const char *command)
{
    char line[256];
    snprintf(line, sizeof(line), "ip %s", command);
    if (system(line) != 0)
        fail_msg("%s", line);
}

static struct network_interface *find(struct network_interfaces *interfaces, const char *name)
{
    for (size_t i = 0; i < interfaces->count; i++)
        if (strcmp(interfaces->items[i].name, name) == 0)
            return &interfaces->items[i];
    fail_msg("no interface %s", name);
    return NULL;
}

static void expect_address(const struct network_address *address, int family, const char *text,
                           unsigned prefix_length)
{
    char found[INET6_ADDRSTRLEN];
    assert_non_null(address);
    assert_int_equal(address->family, family);
    assert_string_equal(inet_ntop(family, &address->ipv6, found, sizeof(found)), text);
    assert_int_equal(address->prefix_length, prefix_length);
}

static int setup(void **state)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("1..0 # SKIP no network namespace to be had: %s\n", strerror(errno));
        exit(0);
    }
    ip("link set lo up");
    return 0;
}

static void test_addresses_in_the_kernels_order(void **state)
{
    struct network_interfaces interfaces;
    ip("link add left type veth peer name right");
    ip("link set left address 02:00:00:00:00:2a");
    ip("addr add 192.0.2.1/24 dev left");
    ip("addr add 192.0.2.129/25 dev left label left:1");
    ip("addr add 198.51.100.1 peer 198.51.100.2/32 dev left"); /* point to point */
    ip("addr add 2001:db8::1/64 dev left nodad");
    assert_int_equal(network_interfaces_get(&interfaces), 0);

    struct network_interface *left = find(&interfaces, "left");
    const unsigned char hardware[6] = {2, 0, 0, 0, 0, 0x2a};
    assert_memory_equal(left->hardware_address, hardware, sizeof(hardware));
    const struct network_address *address = left->addresses;
    expect_address(address, AF_INET, "192.0.2.1", 24);
    expect_address(address->next, AF_INET, "192.0.2.129", 25);
    expect_address(address->next->next, AF_INET, "198.51.100.1", 32);
    expect_address(address->next->next->next, AF_INET6, "2001:db8::1", 64);
    assert_null(address->next->next->next->next);
    assert_null(find(&interfaces, "right")->addresses);
    expect_address(find(&interfaces, "lo")->addresses, AF_INET, "127.0.0.1", 8);

    for (size_t i = 1; i < interfaces.count; i++)
        assert_true(interfaces.items[i - 1].index < interfaces.items[i].index);
    network_interfaces_deinit(&interfaces);
    ip("link del left");
}

static void test_statistics_are_64_bits_of_this_interface(void **state)
{
    struct network_interfaces interfaces;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 3; i++) /* nobody listens: that answers are errors does not matter */
        sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to));
    close(fd);
    assert_int_equal(network_interfaces_get(&interfaces), 0);
    struct network_interface *lo = find(&interfaces, "lo");
    assert_true(lo->statistics.rx_packets >= 3);
    assert_true(lo->statistics.rx_packets == lo->statistics.tx_packets);
    assert_true(lo->statistics.rx_bytes == lo->statistics.tx_bytes);
    network_interfaces_deinit(&interfaces);
}

static void test_many_interfaces(void **state)
{
    enum { PAIRS = 300 };
    struct network_interfaces interfaces;
    FILE *batch = popen("ip -batch -", "w");
    assert_non_null(batch);
    for (int i = 0; i < PAIRS; i++)
        fprintf(batch,
                "link add a%d type veth peer name b%d\n"
                "addr add 10.0.%d.%d/32 dev a%d\n",
                i, i, i / 250, i % 250 + 1, i);
    assert_int_equal(pclose(batch), 0);
    assert_int_equal(network_interfaces_get(&interfaces), 0);
    assert_true(interfaces.count >= 2 * PAIRS + 1);
    for (int i = 0; i < PAIRS; i++) {
        char name[16], address[INET_ADDRSTRLEN];
        snprintf(name, sizeof(name), "a%d", i);
        snprintf(address, sizeof(address), "10.0.%d.%d", i / 250, i % 250 + 1);
        expect_address(find(&interfaces, name)->addresses, AF_INET, address, 32);
    }
    network_interfaces_deinit(&interfaces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_in_the_kernels_order),
        cmocka_unit_test(test_statistics_are_64_bits_of_this_interface),
        cmocka_unit_test(test_many_interfaces),
    };
    return cmocka_run_group_tests_name("netlink", tests, setup, NULL);
}
