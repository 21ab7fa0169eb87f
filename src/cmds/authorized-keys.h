/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_AUTHORIZED_KEYS_H
#define BELLHOP_CMDS_AUTHORIZED_KEYS_H

/*
 * An account's ~/.ssh/authorized_keys (sshd(8)), handled with the account's own credentials: by
 * bellhopd itself, started by the broker as a program of its own with AUTHORIZED_KEYS_ARGUMENT,
 * because neither agent nor broker may change credentials or wait for a dead home directory.
 *
 * The file and its directory are never followed as symlinks. A change is written beside the file and
 * renamed, so that a full disk loses nothing; the file gets mode 0600, a new directory 0700.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer;
struct text_list;

/* `bellhopd --authorized-keys get|add|reset|remove USER`, with keys on stdin, one a line. */
#define AUTHORIZED_KEYS_ARGUMENT "--authorized-keys"

/*
 * Runs that program: prints keys on stdout, one a line, or the reason of a failure on stderr.
 * Returns the exit status. Single-threaded; gives up its privileges for good.
 */
int authorized_keys_main(int argc, char **argv);

/* True if it can be a key: one line, not empty, no comment. */
bool authorized_key_is_valid(const char *key);

/*
 * The functions behind it, for the home directory open as `home`. They return 0, or -errno with what
 * could not be done in `ret_what` ("opening .ssh/authorized_keys"), a static text.
 */

/* Appends the file's keys, without comments and empty lines. -ENOENT if there is no file. */
int authorized_keys_read(int home, struct text_list *keys, const char **ret_what) MUST_CHECK;

/* Adds those that are not there yet; with `reset`, what is there goes first. */
int authorized_keys_add(int home, const struct text_list *keys, bool reset,
                        const char **ret_what) MUST_CHECK;

/* Removes those that are there; other lines stay as they are. No file is no failure. */
int authorized_keys_remove(int home, const struct text_list *keys,
                           const char **ret_what) MUST_CHECK;

#endif
