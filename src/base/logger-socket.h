/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOGGER_SOCKET_H
#define BELLHOP_BASE_LOGGER_SOCKET_H

/*
 * The datagram socket of one of the system's loggers (journald's, syslog's). A logger that is started
 * again is found again. Not thread safe; one thread has it at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/cleanup.h"

struct logger_socket;

/* Connects to the socket at `path`. Returns 0 or -errno: -ENOENT or -ECONNREFUSED without a logger. */
int logger_socket_open(const char *path, struct logger_socket **ret_socket) MUST_CHECK;
struct logger_socket *logger_socket_free(struct logger_socket *socket);

/* False if a sending would block, because the logger does not keep up. */
bool logger_socket_is_ready(const struct logger_socket *socket);

/*
 * Sends one datagram, `passed_fd` (-1: none) along with it. Waits for as long as the logger takes
 * nothing: for a thread that may wait. Returns 0 or -errno; -EMSGSIZE if it is too long for one.
 */
int logger_socket_send(struct logger_socket *socket, const void *bytes, size_t length,
                       int passed_fd) MUST_CHECK;

#endif
