/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_HASH_H
#define BELLHOP_BASE_HASH_H

/* uthash, set up for the agent. Include this and never uthash.h itself. */

#define HASH_NONFATAL_OOM 1        /* what a client asks for never ends the agent */
#define HASH_FUNCTION     HASH_FNV /* the default one does not compile without warnings */
#include <uthash.h>

#endif
