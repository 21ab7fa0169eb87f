/* SPDX-License-Identifier: MIT */
#include "base/vsock-address.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

static const char any[] = "any";

/* Reads a number of 32 bits; what follows has to be `end`. */
static bool parse_number(const char *text, const char *end, uint32_t *ret_number)
{
    uint64_t number = 0;

    if (text == end)
        return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return false;
        number = number * 10 + (uint64_t)(*text - '0');
        if (number > UINT32_MAX)
            return false;
    }
    *ret_number = (uint32_t)number;
    return true;
}

static bool is_any(const char *text, const char *end)
{
    return (size_t)(end - text) == strlen(any) && strncmp(text, any, strlen(any)) == 0;
}

int vsock_address_parse(const char *text, uint32_t *ret_cid, uint32_t *ret_port)
{
    const char *colon = strchr(text, ':');
    uint32_t cid = VMADDR_CID_ANY;
    uint32_t port;

    if (!colon || (!is_any(text, colon) && !parse_number(text, colon, &cid)) ||
        !parse_number(colon + 1, colon + strlen(colon), &port))
        return -EINVAL;
    *ret_cid = cid;
    *ret_port = port;
    return 0;
}

int vsock_peers_parse(const char *text, struct vsock_peers *ret_peers)
{
    static const char separators[] = ",; \t";
    struct vsock_peers peers = {.count = 0};

    if (!text) {
        *ret_peers = (struct vsock_peers){.cids = {VMADDR_CID_HOST}, .count = 1};
        return 0;
    }
    while (*(text += strspn(text, separators))) {
        const char *end = text + strcspn(text, separators);

        if (is_any(text, end))
            peers.is_any = true;
        else if (peers.count == VSOCK_PEERS_MAX ||
                 !parse_number(text, end, &peers.cids[peers.count++]))
            return -EINVAL;
        text = end;
    }
    if (!peers.is_any && peers.count == 0)
        return -EINVAL;
    *ret_peers = peers;
    return 0;
}

bool vsock_peers_have(const struct vsock_peers *peers, uint32_t cid)
{
    for (size_t i = 0; i < peers->count; i++)
        if (peers->cids[i] == cid)
            return true;
    return peers->is_any;
}
