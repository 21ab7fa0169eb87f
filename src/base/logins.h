/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOGINS_H
#define BELLHOP_BASE_LOGINS_H

/*
 * Who is logged in, and since when: from utmp(5), or where no utmp is kept, from the sessions of
 * systemd-logind. One entry for each user, with the earliest login.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct login {
    char *user;
    uint64_t since_us; /* since 1970 */
};

struct logins {
    struct login *items; /* NULL while there are none */
    size_t count;
};

#define LOGINS_INIT {NULL, 0}

void logins_deinit(struct logins *logins);

/*
 * Adds all that is known: the records of /run/utmp (or /var/run/utmp); if there is no such file, or
 * nobody ever wrote to it, the sessions in /run/systemd/sessions. Neither is no error. Returns 0,
 * or -errno of reading them. May block: not for the loop.
 */
int logins_load(struct logins *logins) MUST_CHECK;

/*
 * Adds the logins of a utmp file's bytes, in the file's order. Understands glibc's record with
 * 32-bit times (x86, and others that had a 32-bit ABI) and the one with 64-bit times; which of them
 * it is follows from the contents. Returns 0 or -ENOMEM.
 */
int logins_add_utmp(struct logins *logins, const void *bytes, size_t length) MUST_CHECK;

/* Adds the login of the text of a file in /run/systemd/sessions, if it is one. 0 or -ENOMEM. */
int logins_add_session(struct logins *logins, char *text) MUST_CHECK;

#endif
