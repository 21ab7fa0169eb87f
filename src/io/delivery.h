/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_DELIVERY_H
#define BELLHOP_IO_DELIVERY_H

/* A reply, and what is known of its fate. */

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

/* A reply is told DROPPED, or WRITTEN and perhaps SEEN. */
enum delivery {
    DELIVERY_DROPPED, /* it was not written: given up on, or the host went away */
    DELIVERY_WRITTEN, /* the kernel has all of it; whether the host read it is not known */
    DELIVERY_SEEN,    /* the next request on the same unbroken connection was no sync, so the
                         host has read it */
};

struct reply {
    /* Complete, with its newline; taken. Empty: nothing is sent. Marked as failed: there was no
     * memory for it, and the connection ends, since the host would take another reply for it. */
    struct buffer line;
    bool is_delimited; /* begins with 0xFF */
    void (*told)(void *context, enum delivery what, uint64_t token); /* or NULL */
    void *context;
    uint64_t token;
};

#endif
