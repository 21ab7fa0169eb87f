/* SPDX-License-Identifier: MIT */
#include "base/journal.h"

#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buffer.h"
#include "base/logger-socket.h"

enum { NAME_LENGTH_MAX = 64 };

struct journal {
    struct logger_socket *socket;
};

int journal_open(const char *path, struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    if (!journal)
        return -ENOMEM;
    int error = logger_socket_open(path ? path : JOURNAL_SOCKET, &journal->socket);
    if (error < 0) {
        free(journal);
        return error;
    }
    *ret_journal = journal;
    return 0;
}

struct journal *journal_free(struct journal *journal)
{
    if (journal) {
        logger_socket_free(journal->socket);
        free(journal);
    }
    return NULL;
}

bool journal_is_ready(const struct journal *journal)
{
    return logger_socket_is_ready(journal->socket);
}

static bool is_name(const char *name)
{
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t length = strlen(name);

    return name[0] >= 'A' && name[0] <= 'Z' && length <= NAME_LENGTH_MAX &&
           strspn(name, characters) == length;
}

/* "NAME=value\n", or with a newline in the value "NAME\n", its length in 64 bits, "value\n". */
static void append_field(struct buffer *entry, const struct journal_field *field)
{
    buffer_append_text(entry, field->name);
    if (memchr(field->value, '\n', field->length)) {
        uint64_t length = htole64(field->length);
        buffer_append_char(entry, '\n');
        buffer_append(entry, &length, sizeof(length));
    } else {
        buffer_append_char(entry, '=');
    }
    buffer_append(entry, field->value, field->length);
    buffer_append_char(entry, '\n');
}

/* What is too long for a datagram is passed as a file, which has to be one that cannot change. */
static int send_as_file(struct journal *journal, const struct buffer *entry)
{
    _cleanup_close_ int fd = memfd_create("journal-entry", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;

    if (fd < 0)
        return -errno;
    while (done < entry->length) {
        ssize_t written = write(fd, entry->data + done, entry->length - done);
        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0)
            done += (size_t)written;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return -errno;
    return logger_socket_send(journal->socket, NULL, 0, fd);
}

int journal_send(struct journal *journal, const struct journal_field *fields, size_t count)
{
    _cleanup_buffer_ struct buffer entry = BUFFER_INIT;

    for (size_t i = 0; i < count; i++) {
        if (!is_name(fields[i].name))
            return -EINVAL;
        append_field(&entry, &fields[i]);
    }
    if (entry.failed)
        return -ENOMEM;
    int error = logger_socket_send(journal->socket, entry.data, entry.length, -1);
    if (error == -EMSGSIZE || error == -ENOBUFS)
        error = send_as_file(journal, &entry);
    return error;
}
