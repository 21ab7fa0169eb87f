/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_OTHER_ROOT_H
#define BELLHOP_OTHER_ROOT_H

/*
 * --root: an agent in a container that reports on its host, whose root directory it sees at some
 * place. What commands read is read below that (base/sysroot.h); what acts on the system that the
 * agent itself is part of is refused (CMD_OWN_SYSTEM).
 */

#include "base/cleanup.h"

/*
 * Has everything below `directory` from now on, the time zone, too, as it is now. Start-up only: it
 * sets an environment variable. Returns 0, or -errno with a message for the operator in `ret_reason`
 * (malloc'ed; NULL: no memory).
 */
int other_root_use(const char *directory, char **ret_reason) MUST_CHECK;

#endif
