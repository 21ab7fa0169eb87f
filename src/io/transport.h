/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_TRANSPORT_H
#define BELLHOP_IO_TRANSPORT_H

/*
 * A transport is one configured way for hosts to reach the agent. It yields connections: byte
 * streams as file descriptors, which its owner reads, writes and closes. It never reads or writes
 * them itself.
 *
 *   unix-listen     any number of connections, at most `connections_max` at a time. Above that
 *                   nothing is accepted: a further client waits in the kernel's backlog until one
 *                   of the others has gone.
 *   vsock-listen    the same; a connection whose CID is none of the peers that may connect is closed
 *                   at once.
 *   virtio-serial   one connection at a time: the device, open. The host coming and going is no
 *                   new connection; only a device that vanished ends it.
 *   isa-serial      one connection at a time: the serial line, open, in raw mode. A hang-up of the
 *                   line ends it; whether there is a host cannot be seen.
 *
 * How a virtio port's descriptor behaves (drivers/char/virtio_console.c), for its owner:
 *   - while no host is connected read() gives 0, poll() says POLLHUP without end, and write()
 *     gives EAGAIN: watch it edge-triggered, and keep it open, for closing is what the host is told
 *   - the host coming, going, sending and making room each give an edge; a host that was away only
 *     for a moment may give one for both
 *   - read() and write() give ENODEV once the device is gone: now it is to be closed
 * transport_is_device() says which of the two kinds a transport is.
 *
 * A transport belongs to the loop: every function is ON_LOOP, and callbacks come from the loop
 * only, never from inside a function of this header.
 */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct event_base;
struct transport;

enum transport_method {
    TRANSPORT_VIRTIO_SERIAL,
    TRANSPORT_UNIX_LISTEN,
    TRANSPORT_ISA_SERIAL,
    TRANSPORT_VSOCK_LISTEN,
};

struct transport_options {
    enum transport_method method;
    const char *path; /* of the socket or device, or CID:PORT; NULL takes the method's default */

    /* Wait for a device or address that is not there (or busy) instead of failing. */
    bool retry_path;

    /* unix-listen, vsock-listen: at least 1 */
    unsigned connections_max;

    /* unix-listen: whoever can reach the socket's folder may connect, because the owner looks at each
     * peer; else only root and the agent's own user */
    bool is_open_to_all;

    /*
     * unix-listen, vsock-listen: a listening socket that somebody else made, which is taken if the
     * opening succeeds; or 0. Its file, if it has one, stays when it is closed.
     */
    int passed_fd;

    /* vsock-listen: who may connect, as vsock_peers_parse() takes it; NULL is the host alone. */
    const char *vsock_peers;

    /*
     * virtio-serial: where device nodes and the list of ports are; NULL is /dev and
     * /sys/class/virtio-ports. A path below <devices>/virtio-ports that udev did not make is
     * looked up by its last component among the ports' names.
     */
    const char *devices_directory;
    const char *ports_directory;
};

struct transport_ops {
    /*
     * A connection is there. The owner takes `fd` (non-blocking, close-on-exec): it closes it in
     * the end and calls transport_disconnected() then. May call transport_disconnected(), not
     * transport_free().
     */
    void (*connected)(struct transport *transport, int fd, void *context);

    /*
     * A device without retry_path: it was lost and could not be opened again; `error` is a negative
     * errno. No connection will come any more; the transport is still to be freed,
     * but not from inside this call.
     */
    void (*failed)(struct transport *transport, int error, void *context);
};

/*
 * Opens the transport: from now on `ops->connected` is called. `options` and its strings are
 * borrowed for the call, `ops` for the transport's life.
 *
 * Returns 0, or -errno with a message for the operator in `ret_reason` (malloc'ed, NULL if there
 * was no memory for it):
 *   -EADDRINUSE    unix-listen, vsock-listen: another program listens there. A socket file that
 *                  nobody listens on any more is replaced instead.
 *   -EADDRNOTAVAIL vsock-listen: the machine has no such CID
 *   -EBUSY         another program has the device open
 *   -ENOTTY        isa-serial: the path is no serial line
 *   -EEXIST        unix-listen: what stands at the path is not a socket
 *   -ENAMETOOLONG  unix-listen: the path does not fit into a socket address
 *   any other      from the system's calls; with `retry_path` never for want of the device or address
 *
 * A unix socket is made with mode 0600. A listening socket must not be inherited by a process that
 * outlives the agent (the broker is forked before): the next agent would take it for a live one.
 */
int transport_open(struct event_base *base, const struct transport_options *options,
                   const struct transport_ops *ops, void *context,
                   struct transport **ret_transport, char **ret_reason) MUST_CHECK ON_LOOP;

/*
 * Says that one connection has ended and its descriptor is closed: a listening transport may
 * accept another one, a device is opened again (at once if it is there; waited for, or reported as
 * failed, if not). Once for each connection.
 */
void transport_disconnected(struct transport *transport) ON_LOOP;

/*
 * Closes the listening socket and removes its file, if it is still its own. Connections that the
 * owner has taken stay open. Returns NULL.
 */
struct transport *transport_free(struct transport *transport) ON_LOOP;

/* True if end-of-file only says that the host is away, false if it ends the connection. */
bool transport_is_device(const struct transport *transport);

/* The path in use, the default included. Lives as long as the transport. */
const char *transport_path(const struct transport *transport);

/* The name of a method as the configuration has it, and the other way round. */
const char *transport_method_name(enum transport_method method);
int transport_method_from_name(const char *name, enum transport_method *ret_method) MUST_CHECK;

/* The path that a method takes when none is given, or NULL if there is none. */
const char *transport_default_path(enum transport_method method);

#endif
