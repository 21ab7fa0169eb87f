/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_VSOCK_ADDRESS_H
#define BELLHOP_BASE_VSOCK_ADDRESS_H

/*
 * Addresses of vsock(7) as they are configured. A CID is the number of a machine: 2 is the host, 1 the
 * machine itself. Pure functions: any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum { VSOCK_PEERS_MAX = 32 };

/* Who may connect. */
struct vsock_peers {
    bool is_any;
    uint32_t cids[VSOCK_PEERS_MAX];
    size_t count;
};

/*
 * Reads CID:PORT, two decimal numbers of 32 bits; a CID may also be "any". Returns 0 or -EINVAL, the
 * outputs left alone then.
 */
int vsock_address_parse(const char *text, uint32_t *ret_cid, uint32_t *ret_port) MUST_CHECK;

/*
 * Reads a list of CIDs, separated by ',' or ';', or "any"; NULL stands for the host alone. Returns 0
 * or -EINVAL, also for an empty list.
 */
int vsock_peers_parse(const char *text, struct vsock_peers *ret_peers) MUST_CHECK;

bool vsock_peers_have(const struct vsock_peers *peers, uint32_t cid);

#endif
