/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_NETLINK_H
#define BELLHOP_BASE_NETLINK_H

/*
 * Network interfaces with their addresses, from two rtnetlink dumps (rtnetlink(7)), whatever their
 * number. Any thread; talks to the kernel, which takes its network lock for it.
 */

#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct network_address {
    int family; /* AF_INET or AF_INET6 */
    unsigned prefix_length;
    union {
        struct in_addr ipv4;
        struct in6_addr ipv6;
    };
    struct network_address *next; /* of the same interface, in the kernel's order; NULL: the last */
};

struct network_interface {
    int index;
    char name[IFNAMSIZ];
    /* As SIOCGIFHWADDR gives it: cut or filled with zeros. */
    unsigned char hardware_address[6];
    struct rtnl_link_stats64 statistics;
    struct network_address *addresses; /* NULL: it has none */
};

/* In the kernel's order. */
struct network_interfaces {
    struct network_interface *items;
    size_t count;
    struct network_address *addresses; /* the memory of all of them */
};

/* Returns 0 or -errno. */
int network_interfaces_get(struct network_interfaces *ret_interfaces) MUST_CHECK;
void network_interfaces_deinit(struct network_interfaces *interfaces);

#endif
