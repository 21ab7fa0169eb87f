/* SPDX-License-Identifier: MIT */
#include "passed-sockets.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

/* More than anybody passes; a number that is not meant must not have us close half the process. */
enum { SOCKETS_MAX = 64 };

static bool parse_number(const char *text, long max, long *ret_number)
{
    char *end = NULL;

    errno = 0;
    long number = strtol(text, &end, 10);
    if (!*text || *end || errno || number < 0 || number > max)
        return false;
    *ret_number = number;
    return true;
}

/* An abstract name is shown as systemd writes it; one that has no name has none to be shown. */
static int unix_path(const struct sockaddr_un *address, socklen_t length, char **ret_path)
{
    size_t used = length - offsetof(struct sockaddr_un, sun_path);
    int printed;

    if (length <= offsetof(struct sockaddr_un, sun_path))
        printed = asprintf(ret_path, "(unnamed)");
    else if (address->sun_path[0])
        printed = asprintf(ret_path, "%.*s", (int)used, address->sun_path);
    else
        printed = asprintf(ret_path, "@%.*s", (int)used - 1, address->sun_path + 1);
    return printed < 0 ? -ENOMEM : 0;
}

static int vsock_path(const struct sockaddr_vm *address, char **ret_path)
{
    int printed;

    if (address->svm_cid == VMADDR_CID_ANY)
        printed = asprintf(ret_path, "any:%" PRIu32, address->svm_port);
    else
        printed = asprintf(ret_path, "%" PRIu32 ":%" PRIu32, address->svm_cid, address->svm_port);
    return printed < 0 ? -ENOMEM : 0;
}

/* Fills in method and path. Returns 0, -ENOMEM, or another -errno if it is no socket for an agent.
 */
static int look_at(struct passed_socket *passed)
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_vm vsock;
    } address = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t length = sizeof(int);
    int type = 0;
    int is_listening = 0;

    if (getsockopt(passed->fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
        getsockopt(passed->fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &length) < 0)
        return -errno;
    length = sizeof(address);
    if (getsockname(passed->fd, &address.any, &length) < 0 ||
        fcntl(passed->fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    if (type != SOCK_STREAM || !is_listening)
        return -EINVAL;
    switch (address.any.sa_family) {
    case AF_UNIX:
        passed->method = "unix-listen";
        return unix_path(&address.local, length, &passed->path);
    case AF_VSOCK:
        passed->method = "vsock-listen";
        return vsock_path(&address.vsock, &passed->path);
    default:
        return -EAFNOSUPPORT;
    }
}

/* Takes the next name off the list, which may be shorter than it should be. */
static char *next_name(const char **names)
{
    size_t length = strcspn(*names, ":");
    char *name = strndup(*names, length);

    *names += length + ((*names)[length] == ':');
    return name;
}

static int take_all(int first_fd, size_t count, const char *names, struct passed_sockets *sockets,
                    char **ret_reason)
{
    sockets->items = calloc(count, sizeof(sockets->items[0]));
    if (!sockets->items)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct passed_socket *passed = &sockets->items[sockets->count++];

        passed->fd = first_fd + (int)i;
        passed->name = next_name(&names);
        int error = passed->name ? look_at(passed) : -ENOMEM;
        if (error == -ENOMEM)
            return error;
        if (error < 0) {
            if (asprintf(ret_reason,
                         "descriptor %d (%s), which the service manager passed, is no listening "
                         "unix or vsock stream socket",
                         passed->fd, *passed->name ? passed->name : "unnamed") < 0)
                *ret_reason = NULL;
            return -EINVAL;
        }
    }
    return 0;
}

int passed_sockets_take(int first_fd, struct passed_sockets *ret_sockets, char **ret_reason)
{
    const char *pid_text = getenv("LISTEN_PID");
    const char *count_text = getenv("LISTEN_FDS");
    const char *names_text = getenv("LISTEN_FDNAMES");
    _cleanup_free_ char *names = strdup(names_text ? names_text : "");
    _cleanup_(passed_sockets_deinit) struct passed_sockets sockets = {.items = NULL};
    long pid, count = 0;

    *ret_reason = NULL;
    if (!names)
        return -ENOMEM;
    bool is_ours =
        pid_text && count_text && parse_number(pid_text, INT32_MAX, &pid) && pid == (long)getpid();
    if (is_ours && !parse_number(count_text, SOCKETS_MAX, &count)) {
        if (asprintf(ret_reason, "LISTEN_FDS=%s: expected a number up to %d", count_text,
                     SOCKETS_MAX) < 0)
            *ret_reason = NULL;
        return -EINVAL;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    int error = count > 0 ? take_all(first_fd, (size_t)count, names, &sockets, ret_reason) : 0;
    if (error < 0)
        return error;
    *ret_sockets = sockets;
    sockets = (struct passed_sockets){.items = NULL};
    return 0;
}

void passed_sockets_deinit(struct passed_sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        free(sockets->items[i].name);
        free(sockets->items[i].path);
    }
    free(sockets->items);
    *sockets = (struct passed_sockets){.items = NULL};
}
