/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_ADDRESS_H
#define BELLHOP_CLIENT_ADDRESS_H

#include "client/report.h"

/*
 * Connects to an agent's address: the path of a unix socket, be it the agent's own or the one at
 * the host's end of a virtio channel; or vsock:CID:PORT. Waits at most `limit_ms` where the other side has no time.
 * Returns OUTCOME_OK and the descriptor, non-blocking, or OUTCOME_NO_ANSWER.
 */
enum outcome address_connect(const char *address, unsigned limit_ms, int *ret_fd) MUST_CHECK;

#endif
