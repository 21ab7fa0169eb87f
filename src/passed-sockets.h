/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_PASSED_SOCKETS_H
#define BELLHOP_PASSED_SOCKETS_H

/*
 * Listening sockets that a service manager made and passes to the agent (socket activation,
 * sd_listen_fds(3)). Start-up only: the environment is changed.
 */

#include <stddef.h>

#include "base/cleanup.h"

#define PASSED_SOCKETS_FIRST 3 /* the first descriptor that is passed */

struct passed_socket {
    int fd;
    char *name;         /* from LISTEN_FDNAMES, "" if it has none */
    const char *method; /* unix-listen or vsock-listen */
    char *path;         /* its address as that method has it */
};

struct passed_sockets {
    struct passed_socket *items; /* array of `count` */
    size_t count;
};

/*
 * Finds out what was passed to this process, from `first_fd` on, and removes it from the environment,
 * so that no other program takes it for its own. The descriptors are set to be closed on exec; they
 * are the caller's.
 *
 * Returns 0, also if there is none; -EINVAL with a message for the operator in `ret_reason`
 * (malloc'ed) if one of them is no listening unix or vsock stream socket; or -ENOMEM.
 */
int passed_sockets_take(int first_fd, struct passed_sockets *ret_sockets,
                        char **ret_reason) MUST_CHECK;

/* Frees the array. The descriptors stay open. */
void passed_sockets_deinit(struct passed_sockets *sockets);

#endif
