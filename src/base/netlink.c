/* SPDX-License-Identifier: MIT */
#include "base/netlink.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* What the kernel's own macros (netlink(3), rtnetlink(3)) do to walk through messages. */
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wsign-compare"

/* The kernel fills at most 32 KiB at a time, more than a page only for those who ask for it. */
enum { DUMP_BUFFER_BYTES = 32 * 1024 };

/* A dump that something changed meanwhile is taken again, but not for ever. */
enum { DUMP_TRIES = 5 };

/* Whatever is wrong with the kernel's answer, it does not hold the caller up for longer. */
enum { DUMP_TIMEOUT_S = 10 };

struct collection {
    struct network_interface *interfaces;
    size_t interface_count, interface_room;
    struct network_address *addresses;
    int *owners; /* the interface's index, for each address */
    size_t address_count, address_room;
};

typedef int (*message_taker)(const struct nlmsghdr *message, struct collection *collection);

/* Makes room for one more item. Returns false if there is no memory. */
static bool grow(void **items, size_t *room, size_t count, size_t item_bytes)
{
    if (count < *room)
        return true;
    size_t wanted = *room ? *room * 2 : 64;
    void *grown = realloc(*items, wanted * item_bytes);
    if (!grown)
        return false;
    *items = grown;
    *room = wanted;
    return true;
}

static int take_link(const struct nlmsghdr *message, struct collection *collection)
{
    const struct ifinfomsg *info = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWLINK || message->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
        return 0;
    void *items = collection->interfaces;
    if (!grow(&items, &collection->interface_room, collection->interface_count,
              sizeof(*collection->interfaces)))
        return -ENOMEM;
    collection->interfaces = items;

    struct network_interface *link = &collection->interfaces[collection->interface_count];
    *link = (struct network_interface){.index = info->ifi_index};
    int left = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*info)));
    for (struct rtattr *attribute = IFLA_RTA(info); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
        size_t length = RTA_PAYLOAD(attribute);
        const void *data = RTA_DATA(attribute);
        if (attribute->rta_type == IFLA_IFNAME && length <= sizeof(link->name))
            memcpy(link->name, data, length);
        else if (attribute->rta_type == IFLA_ADDRESS)
            memcpy(link->hardware_address, data,
                   length < sizeof(link->hardware_address) ? length
                                                           : sizeof(link->hardware_address));
        else if (attribute->rta_type == IFLA_STATS64)
            memcpy(&link->statistics, data,
                   length < sizeof(link->statistics) ? length : sizeof(link->statistics));
    }
    link->name[sizeof(link->name) - 1] = '\0';
    collection->interface_count++;
    return 0;
}

static void set_address(struct network_address *address, const struct rtattr *attribute)
{
    size_t length = address->family == AF_INET ? sizeof(address->ipv4) : sizeof(address->ipv6);
    if (RTA_PAYLOAD(attribute) == length)
        memcpy(&address->ipv6, RTA_DATA(attribute), length);
}

/* On a point-to-point link, IFA_ADDRESS is the other end and IFA_LOCAL one's own. */
static int take_address(const struct nlmsghdr *message, struct collection *collection)
{
    const struct ifaddrmsg *info = NLMSG_DATA(message);
    if (message->nlmsg_type != RTM_NEWADDR || message->nlmsg_len < NLMSG_LENGTH(sizeof(*info)) ||
        (info->ifa_family != AF_INET && info->ifa_family != AF_INET6))
        return 0;
    void *items = collection->addresses, *owners = collection->owners;
    size_t owners_room = collection->address_room;
    if (!grow(&owners, &owners_room, collection->address_count, sizeof(int)))
        return -ENOMEM;
    collection->owners = owners;
    if (!grow(&items, &collection->address_room, collection->address_count,
              sizeof(*collection->addresses)))
        return -ENOMEM;
    collection->addresses = items;

    struct network_address address = {.family = info->ifa_family,
                                      .prefix_length = info->ifa_prefixlen};
    const struct rtattr *own = NULL;
    int left = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof(*info)));
    for (struct rtattr *attribute = IFA_RTA(info); RTA_OK(attribute, left);
         attribute = RTA_NEXT(attribute, left)) {
        if (attribute->rta_type == IFA_LOCAL || (attribute->rta_type == IFA_ADDRESS && !own))
            own = attribute;
    }
    if (!own)
        return 0;
    set_address(&address, own);
    collection->owners[collection->address_count] = (int)info->ifa_index;
    collection->addresses[collection->address_count++] = address;
    return 0;
}

static int request_dump(int fd, uint16_t type, uint32_t sequence)
{
    /*
     * Counting up the IPv6 statistics of every processor is most of what a link costs the kernel;
     * they are not wanted. For addresses only the family counts, the first byte of `info`.
     */
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
        struct rtattr attribute;
        uint32_t mask;
    } request = {
        .attribute = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_EXT_MASK},
        .mask = RTEXT_FILTER_SKIP_STATS,
        .header = {.nlmsg_len = sizeof(request),
                   .nlmsg_type = type,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = sequence},
    };
    return send(fd, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

/* Takes one datagram's messages. Returns 1 at the dump's end, 0 if more follows, or -errno. */
static int take_messages(const char *buffer, size_t length, uint32_t sequence, message_taker take,
                         struct collection *collection, bool *ret_interrupted)
{
    int left = (int)length;
    for (const struct nlmsghdr *message = (const void *)buffer; NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_seq != sequence)
            continue;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR)
            *ret_interrupted = true;
        if (message->nlmsg_type == NLMSG_DONE)
            return 1;
        if (message->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *error = NLMSG_DATA(message);
            return error->error < 0 ? error->error : -EPROTO;
        }
        int result = take(message, collection);
        if (result < 0)
            return result;
    }
    return 0;
}

/* Returns 0; -EAGAIN if something changed meanwhile; or another -errno. */
static int dump(int fd, uint16_t type, uint32_t sequence, message_taker take,
                struct collection *collection)
{
    _cleanup_free_ char *buffer = malloc(DUMP_BUFFER_BYTES);
    bool interrupted = false;
    int result = buffer ? request_dump(fd, type, sequence) : -ENOMEM;
    while (result == 0) {
        ssize_t length = recv(fd, buffer, DUMP_BUFFER_BYTES, 0);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return length < 0 && errno != EAGAIN ? -errno : -ETIMEDOUT;
        result = take_messages(buffer, (size_t)length, sequence, take, collection, &interrupted);
    }
    if (result < 0)
        return result;
    return interrupted ? -EAGAIN : 0;
}

static int open_socket(void)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_S};
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return take_fd(&fd);
}

static int compare_indexes(const void *a, const void *b)
{
    const struct network_interface *const *left = a, *const *right = b;
    return ((*left)->index > (*right)->index) - ((*left)->index < (*right)->index);
}

/* Gives each address to its interface. Later ones are put in front of earlier ones: so backwards.
 */
static int attach_addresses(struct collection *collection)
{
    size_t count = collection->interface_count;
    _cleanup_free_ struct network_interface **by_index = calloc(count + 1, sizeof(*by_index));
    if (!by_index)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        by_index[i] = &collection->interfaces[i];
    qsort(by_index, count, sizeof(*by_index), compare_indexes);
    for (size_t i = collection->address_count; i-- > 0;) {
        struct network_interface key = {.index = collection->owners[i]}, *pointer = &key;
        struct network_interface **found =
            bsearch(&pointer, by_index, count, sizeof(*by_index), compare_indexes);
        if (!found)
            continue; /* it came between the two dumps */
        collection->addresses[i].next = (*found)->addresses;
        (*found)->addresses = &collection->addresses[i];
    }
    return 0;
}

static int collect(int fd, uint32_t sequence, struct collection *collection)
{
    collection->interface_count = 0;
    collection->address_count = 0;
    int error = dump(fd, RTM_GETLINK, sequence, take_link, collection);
    if (!error)
        error = dump(fd, RTM_GETADDR, sequence + 1, take_address, collection);
    return error;
}

int network_interfaces_get(struct network_interfaces *ret_interfaces)
{
    _cleanup_close_ int fd = open_socket();
    if (fd < 0)
        return fd;
    struct collection collection = {0};
    int error = -EAGAIN;
    for (uint32_t tries = 0; error == -EAGAIN && tries < DUMP_TRIES; tries++)
        error = collect(fd, 1 + 2 * tries, &collection);
    /* Interfaces that come and go all the time: what the last try gave is good enough. */
    if (error == -EAGAIN)
        error = 0;
    if (!error)
        error = attach_addresses(&collection);
    free(collection.owners);
    if (error) {
        free(collection.interfaces);
        free(collection.addresses);
        return error;
    }
    *ret_interfaces = (struct network_interfaces){
        .items = collection.interfaces,
        .count = collection.interface_count,
        .addresses = collection.addresses,
    };
    return 0;
}

void network_interfaces_deinit(struct network_interfaces *interfaces)
{
    free(interfaces->items);
    free(interfaces->addresses);
    *interfaces = (struct network_interfaces){NULL, 0, NULL};
}
