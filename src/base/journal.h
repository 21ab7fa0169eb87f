/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_JOURNAL_H
#define BELLHOP_BASE_JOURNAL_H

/*
 * Entries for systemd's journal, by its native protocol (systemd.journal-fields(7) and
 * https://systemd.io/JOURNAL_NATIVE_PROTOCOL): any number of fields, whose values are any bytes. Not
 * thread safe; one thread has it at a time.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

struct journal;

/*
 * One field. The name is of A-Z, 0-9 and '_', at most 64 characters, and begins with a letter: the
 * journal drops others. Names that the journal knows: MESSAGE, PRIORITY (a digit, 0 to 7 as syslog has
 * them), SYSLOG_IDENTIFIER, MESSAGE_ID. Equal names are allowed: the field then has several values.
 */
struct journal_field {
    const char *name;
    const char *value; /* not NUL-terminated */
    size_t length;
};

/* A field whose value is a string. */
#define JOURNAL_TEXT(field_name, text)                                     \
    (struct journal_field)                                                 \
    {                                                                      \
        .name = (field_name), .value = (text), .length = strlen(text)      \
    }

/*
 * Opens the journal; `path` is its socket, NULL for JOURNAL_SOCKET. Returns 0 or -errno: -ENOENT or
 * -ECONNREFUSED where there is no journal.
 */
int journal_open(const char *path, struct journal **ret_journal) MUST_CHECK;
struct journal *journal_free(struct journal *journal);

/* False if journal_send() would block, because the journal does not keep up. */
bool journal_is_ready(const struct journal *journal);

/*
 * Sends one entry, of any size. Waits for as long as the journal takes nothing, so it is for a thread
 * that may wait (the log writer). Returns 0; -EINVAL for a name that is none; or -errno, and then the
 * entry is lost, but a later one may get through.
 */
int journal_send(struct journal *journal, const struct journal_field *fields,
                 size_t count) MUST_CHECK;

#endif
