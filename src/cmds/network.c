/* SPDX-License-Identifier: MIT */

/* The guest's network: interfaces with their addresses and statistics, and routes. */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/netlink.h"
#include "base/sysroot.h"
#include "cmds/command.h"

/* --- guest-network-get-interfaces --- */

static void write_address(struct json_writer *reply, const struct network_address *address)
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(address->family, &address->ipv6, text, sizeof(text));
    json_begin_object(reply);
    json_member_string(reply, "ip-address-type", address->family == AF_INET ? "ipv4" : "ipv6");
    json_member_string(reply, "ip-address", text);
    json_member_uint(reply, "prefix", address->prefix_length);
    json_end_object(reply);
}

/* What /proc/net/dev calls "drop" counts missed packets, too; so does the classic agent. */
static void write_statistics(struct json_writer *reply, const struct rtnl_link_stats64 *statistics)
{
    json_name(reply, "statistics");
    json_begin_object(reply);
    json_member_uint(reply, "tx-packets", statistics->tx_packets);
    json_member_uint(reply, "tx-errs", statistics->tx_errors);
    json_member_uint(reply, "rx-bytes", statistics->rx_bytes);
    json_member_uint(reply, "rx-dropped", statistics->rx_dropped + statistics->rx_missed_errors);
    json_member_uint(reply, "rx-packets", statistics->rx_packets);
    json_member_uint(reply, "rx-errs", statistics->rx_errors);
    json_member_uint(reply, "tx-bytes", statistics->tx_bytes);
    json_member_uint(reply, "tx-dropped", statistics->tx_dropped);
    json_end_object(reply);
}

static void write_interface(struct json_writer *reply, const struct network_interface *interface)
{
    const unsigned char *address = interface->hardware_address;
    char text[18];
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", address[0], address[1],
             address[2], address[3], address[4], address[5]);
    json_begin_object(reply);
    json_member_string(reply, "name", interface->name);
    if (interface->addresses) {
        json_name(reply, "ip-addresses");
        json_begin_array(reply);
        for (const struct network_address *a = interface->addresses; a; a = a->next)
            write_address(reply, a);
        json_end_array(reply);
    }
    write_statistics(reply, &interface->statistics);
    json_member_string(reply, "hardware-address", text);
    json_end_object(reply);
}

static enum call_next interfaces_run(struct call *call)
{
    struct network_interfaces interfaces;
    if (!sysroot_has_own_network())
        return call_fail(call,
                         "the agent has another network than the guest that it looks at (--root "
                         "%s): its container has to be started with the guest's",
                         sysroot_prefix());
    call_step(call, "asking the kernel for the network interfaces");
    int error = network_interfaces_get(&interfaces);
    if (error)
        return call_fail_errno(call, -error, "failed to list the network interfaces");
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; i < interfaces.count; i++)
        write_interface(reply, &interfaces.items[i]);
    json_end_array(reply);
    network_interfaces_deinit(&interfaces);
    return CALL_CONTINUE;
}

/* --- guest-network-get-route --- */

/* A routing table that is larger makes no reply that a host would take. */
enum { ROUTES_BYTES_MAX = 16 * 1024 * 1024 };

/*
 * The tables are read as /proc/net has them, because it alone has the members that the reply is
 * made of: reference count, use, window and round-trip time.
 */

static void write_ipv4(struct json_writer *reply, const char *name, uint32_t address)
{
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof(text)); /* printed as the bytes stand in memory */
    json_member_string(reply, name, text);
}

/* Returns false if the line is none of the table's (its heading). */
static bool write_ipv4_route(struct json_writer *reply, const char *line)
{
    char interface[IF_NAMESIZE];
    uint32_t destination, gateway, flags, mask;
    int refcnt, use, metric, mtu, window, irtt;
    if (sscanf(line, "%15s %" SCNx32 " %" SCNx32 " %" SCNx32 " %d %d %d %" SCNx32 " %d %d %d",
               interface, &destination, &gateway, &flags, &refcnt, &use, &metric, &mask, &mtu,
               &window, &irtt) != 11)
        return false;
    json_begin_object(reply);
    json_member_string(reply, "iface", interface);
    write_ipv4(reply, "destination", destination);
    json_member_int(reply, "metric", metric);
    write_ipv4(reply, "gateway", gateway);
    write_ipv4(reply, "mask", mask);
    json_member_int(reply, "irtt", irtt);
    json_member_uint(reply, "flags", flags);
    json_member_int(reply, "refcnt", refcnt);
    json_member_int(reply, "use", use);
    json_member_int(reply, "window", window);
    json_member_int(reply, "mtu", mtu);
    json_member_int(reply, "version", 4);
    json_end_object(reply);
    return true;
}

/* 32 hexadecimal digits. Returns false if they are not. */
static bool write_ipv6(struct json_writer *reply, const char *name, const char *digits)
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    for (size_t i = 0; i < sizeof(address.s6_addr); i++)
        if (sscanf(digits + 2 * i, "%2hhx", &address.s6_addr[i]) != 1)
            return false;
    inet_ntop(AF_INET6, &address, text, sizeof(text));
    json_member_string(reply, name, text);
    return true;
}

static void write_prefix_length(struct json_writer *reply, const char *name, unsigned length)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", length);
    json_member_string(reply, name, text); /* a string it is (10.0) */
}

static bool write_ipv6_route(struct json_writer *reply, const char *line)
{
    char destination[33], source[33], next_hop[33], interface[IF_NAMESIZE];
    unsigned destination_length, source_length;
    uint32_t metric, refcnt, use, flags;
    if (sscanf(line, "%32s %x %32s %x %32s %" SCNx32 " %" SCNx32 " %" SCNx32 " %" SCNx32 " %15s",
               destination, &destination_length, source, &source_length, next_hop, &metric, &refcnt,
               &use, &flags, interface) != 10 ||
        strlen(destination) != 32 || strlen(source) != 32 || strlen(next_hop) != 32)
        return false;
    json_begin_object(reply);
    json_member_string(reply, "iface", interface);
    write_ipv6(reply, "destination", destination);
    write_prefix_length(reply, "desprefixlen", destination_length);
    write_ipv6(reply, "source", source);
    write_prefix_length(reply, "srcprefixlen", source_length);
    write_ipv6(reply, "nexthop", next_hop);
    json_member_uint(reply, "metric", metric);
    json_member_uint(reply, "refcnt", refcnt);
    json_member_uint(reply, "use", use);
    json_member_uint(reply, "flags", flags);
    json_member_int(reply, "version", 6);
    json_end_object(reply);
    return true;
}

/* Returns 0 or -errno; a kernel without that protocol has no table. */
static int write_routes(struct json_writer *reply, const char *name,
                        bool (*write_route)(struct json_writer *reply, const char *line))
{
    _cleanup_buffer_ struct buffer table = BUFFER_INIT;
    /* Each process has the tables of its own network. */
    const char *process = sysroot_prefix()[0] ? "1/net" : "net";
    int error = sysroot_read(&table, ROUTES_BYTES_MAX, "/proc/%s/%s", process, name);
    if (error)
        return error == -ENOENT ? 0 : error;
    char *rest = table.data, *line;
    while (rest && (line = strsep(&rest, "\n")))
        write_route(reply, line);
    return 0;
}

static enum call_next route_run(struct call *call)
{
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    int error = write_routes(reply, "route", write_ipv4_route);
    if (!error)
        error = write_routes(reply, "ipv6_route", write_ipv6_route);
    if (error)
        return call_fail_errno(call, -error, "failed to read the routing tables");
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-network-get-interfaces",
        .summary = "List the network interfaces with their addresses and statistics",
        .run = interfaces_run,
    },
    {
        .name = "guest-network-get-route",
        .summary = "List the routes, of IPv4 and of IPv6",
        .run = route_run,
    },
};

const struct command_family network_commands = COMMAND_FAMILY(commands);
