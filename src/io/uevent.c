/* SPDX-License-Identifier: MIT */
#include "io/uevent.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

enum {
    KERNEL_GROUP = 1, /* udev sends what it made of it to group 2 */
    MESSAGE_BYTES = 8 * 1024,
    /* Room for a memory module's worth of blocks, all at once: the kernel counts about 1 KiB each.
     */
    RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024,
    MESSAGES_PER_TURN = 256,
};

struct uevent_listener {
    int fd;
    struct event *event;
    uevent_callback callback;
    void *context;
};

static const char *value_of(const char *text, const char *name)
{
    size_t length = strlen(name);
    return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

bool uevent_parse(const char *bytes, size_t length, struct uevent *ret_event)
{
    *ret_event = (struct uevent){0};
    if (length == 0 || bytes[length - 1] != '\0' || !strchr(bytes, '@'))
        return false;
    const struct {
        const char *name;
        const char **value;
    } members[] = {
        {"ACTION", &ret_event->action},
        {"DEVPATH", &ret_event->path},
        {"SUBSYSTEM", &ret_event->subsystem},
    };
    for (const char *at = bytes + strlen(bytes) + 1; at < bytes + length; at += strlen(at) + 1) {
        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
            const char *value = value_of(at, members[i].name);
            if (value)
                *members[i].value = value;
        }
    }
    return ret_event->action && ret_event->path && ret_event->subsystem;
}

/* Returns false if there is nothing more for now. */
static bool take_message(struct uevent_listener *listener)
{
    char bytes[MESSAGE_BYTES];
    struct sockaddr_nl sender = {0};
    socklen_t size = sizeof(sender);
    ssize_t length =
        recvfrom(listener->fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&sender, &size);
    if (length < 0 && errno == ENOBUFS)
        log_warning("device events were lost: there were too many at once");
    if (length < 0)
        return errno == EINTR || errno == ENOBUFS;
    struct uevent event;
    /* Privileged programs can send to the group, too; only the kernel has the port 0. */
    if (sender.nl_pid == 0 && uevent_parse(bytes, (size_t)length, &event))
        listener->callback(&event, listener->context);
    return true;
}

static void on_readable(evutil_socket_t fd, short events, void *argument)
{
    struct uevent_listener *listener = argument;
    for (unsigned i = 0; i < MESSAGES_PER_TURN; i++)
        if (!take_message(listener))
            return;
}

static int open_socket(void)
{
    _cleanup_close_ int fd =
        socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0)
        return -errno;
    int size = RECEIVE_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0)
        return -errno;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return take_fd(&fd);
}

int uevent_listener_new(struct event_base *base, uevent_callback callback, void *context,
                        struct uevent_listener **ret_listener)
{
    assert_on_loop();
    struct uevent_listener *listener = calloc(1, sizeof(*listener));
    if (!listener)
        return -ENOMEM;
    listener->callback = callback;
    listener->context = context;
    listener->fd = open_socket();
    int error = listener->fd < 0 ? listener->fd : 0;
    if (!error) {
        listener->event =
            event_new(base, listener->fd, EV_READ | EV_PERSIST, on_readable, listener);
        if (!listener->event || event_add(listener->event, NULL) < 0)
            error = -ENOMEM;
    }
    if (error) {
        uevent_listener_free(listener);
        return error;
    }
    *ret_listener = listener;
    return 0;
}

struct uevent_listener *uevent_listener_free(struct uevent_listener *listener)
{
    if (!listener)
        return NULL;
    if (listener->event)
        event_free(listener->event);
    close_fd(listener->fd);
    free(listener);
    return NULL;
}
