/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_DELIVERY_H
#define BELLHOP_IO_DELIVERY_H

/* What is known of the fate of a reply. A reply is told DROPPED, or WRITTEN and perhaps SEEN. */
enum delivery {
    DELIVERY_DROPPED, /* it was not written: given up on, or the host went away */
    DELIVERY_WRITTEN, /* the kernel has all of it; whether the host read it is not known */
    DELIVERY_SEEN,    /* the next request on the same unbroken connection was no sync, so the
                         host has read it */
};

#endif
