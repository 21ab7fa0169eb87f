/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_TRANSPORT_METHOD_H
#define BELLHOP_IO_TRANSPORT_METHOD_H

/*
 * What one kind of transport implements, for transport.c and the transport-<method>.c files only.
 * A new method is a value of enum transport_method, one of these, and a row in transport.c.
 */

#include "io/transport.h"

/* First member of every method's own structure. Filled by transport_open(). Loop only. */
struct transport {
    const struct transport_class *class;
    struct event_base *base; /* borrowed */
    const struct transport_ops *ops;
    void *context;
    char *path;
};

struct transport_class {
    const char *name;
    const char *default_path; /* or NULL */
    bool is_device;

    /*
     * Allocates the method's structure and starts it. `common` is to be copied; what it points to
     * stays the caller's when this fails. Returns 0, or -errno with `ret_reason` set or left alone
     * (then the error's own text is shown).
     */
    int (*open)(const struct transport *common, const struct transport_options *options,
                struct transport **ret_transport, char **ret_reason);

    void (*disconnected)(struct transport *transport);

    /* Frees what is the method's, and the structure; the members above are the caller's. */
    void (*free)(struct transport *transport);
};

extern const struct transport_class transport_virtio_class;
extern const struct transport_class transport_serial_class;
extern const struct transport_class transport_unix_class;
extern const struct transport_class transport_vsock_class;

/* Sets a reason, NULL if there is no memory for it. */
void transport_set_reason(char **ret_reason, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
