/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_TRANSPORT_LISTEN_H
#define BELLHOP_IO_TRANSPORT_LISTEN_H

/*
 * What transports that listen share: a stream socket, made by the method or passed by a service
 * manager, whose connections are accepted as long as there may be more. For the transport-<method>.c
 * files only. ON_LOOP.
 */

#include "io/transport-method.h"

/* First member of the structure of such a method. What is not said to be the method's is private. */
struct transport_listen {
    struct transport common;

    /*
     * Makes the socket (non-blocking, close-on-exec, listening). Returns its descriptor or -errno, with
     * or without a reason. Only with `may_wait` may it wait for something.
     */
    int (*make_socket)(struct transport_listen *listen, bool may_wait, char **ret_reason);

    /* Whether that connection may stay; NULL: each. */
    bool (*is_welcome)(struct transport_listen *listen, int fd);

    int domain; /* address family of its sockets */
    int fd;     /* the listening socket, or -1 while it could not be made */
    unsigned connections;
    unsigned connections_max;
    bool is_short_of_resources; /* accepting pauses until accept_again fires */
    bool is_failure_logged;     /* since the last connection */
    struct event *readable;
    struct event *accept_again;
    struct event *listen_again;
};

/* What the method's open() comes to, its own members filled. Returns 0 or -errno as that one. */
int transport_listen_start(struct transport_listen *listen, const struct transport *common,
                           const struct transport_options *options, char **ret_reason) MUST_CHECK;

/* The method's disconnected(). */
void transport_listen_disconnected(struct transport *transport);

/* Releases the members above; also of one that was not started, if `fd` is -1. */
void transport_listen_deinit(struct transport_listen *listen);

#endif
