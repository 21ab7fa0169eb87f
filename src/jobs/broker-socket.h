/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_SOCKET_H
#define BELLHOP_JOBS_BROKER_SOCKET_H

/*
 * Where a broker is found again: STATEDIR/bellhop/broker-<agent's pid>-<random>.sock, in a
 * directory that only the agent's own account can enter. A socket appears under its name once it
 * listens, so one that refuses a connection belongs to nobody and may be removed. Any thread.
 */

#include <stdbool.h>

#include "base/cleanup.h"

/*
 * Makes the directory if it is not there and opens it. One that others own or can enter is refused
 * (-EPERM). Returns the descriptor (O_PATH), or -errno.
 */
int broker_directory_open(const char *state_directory) MUST_CHECK;

/* Listens on a new socket. `ret_name` is its file name, malloc'ed. Returns the descriptor, -errno.
 */
int broker_socket_listen(int directory_fd, char **ret_name) MUST_CHECK;

/*
 * Connects without waiting. Returns the descriptor; -ECONNREFUSED: nobody listens there; -EPERM:
 * somebody of another account does; else -errno.
 */
int broker_socket_connect(int directory_fd, const char *name) MUST_CHECK;

/* True if the file's name is one of a broker's socket. */
bool broker_socket_is_name(const char *name);

/* From now on that user is trusted, too. Before there are threads. */
void broker_socket_trust(uid_t user);

/* True if the process at the other end belongs to this account, to root, or to who is trusted. */
bool broker_socket_peer_is_trusted(int fd);

#endif
