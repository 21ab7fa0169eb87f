/* SPDX-License-Identifier: MIT */
#include "io/path-watch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>

/*
 * Every arming takes a new inotify descriptor: closing the old one drops its watches and its
 * queued events together, so no event of an earlier arming has to be told from a current one.
 */

#define DIRECTORY_EVENTS \
    (IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define FILE_EVENTS (IN_CLOSE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

/* As many symbolic links in a row as the kernel follows would be no port any more. */
#define LINKS_MAX 8

/*
 * Directories are often watched for more than one reason (and inotify then gives them one
 * descriptor): an event counts if it is one of those that some reason is about.
 */
struct watched {
    int descriptor;
    uint32_t events;
    enum { ITSELF, ENTRY_OF_THAT_NAME, ANY_ENTRY } what; /* an event of itself always counts */
    char *name;
};

struct path_watch {
    struct event_base *base;
    path_watch_callback callback;
    void *context;
    int inotify_fd; /* -1 while disarmed */
    struct event *event;
    struct watched *watched;
    size_t watched_count;
};

struct path_watch *path_watch_new(struct event_base *base, path_watch_callback callback,
                                  void *context)
{
    struct path_watch *watch = calloc(1, sizeof(*watch));

    assert_on_loop();
    if (!watch)
        return NULL;
    watch->base = base;
    watch->callback = callback;
    watch->context = context;
    watch->inotify_fd = -1;
    return watch;
}

struct path_watch *path_watch_free(struct path_watch *watch)
{
    if (watch) {
        path_watch_disarm(watch);
        free(watch);
    }
    return NULL;
}

void path_watch_disarm(struct path_watch *watch)
{
    assert_on_loop();
    if (watch->event)
        event_free(watch->event);
    watch->event = NULL;
    watch->inotify_fd = close_fd(watch->inotify_fd);
    for (size_t i = 0; i < watch->watched_count; i++)
        free(watch->watched[i].name);
    free(watch->watched);
    watch->watched = NULL;
    watch->watched_count = 0;
}

static int watch_path(struct path_watch *watch, const char *path, unsigned links) MUST_CHECK;

/* Adds what `watched` says, whose name (not NUL-terminated) is copied. */
static int add_watch(struct path_watch *watch, const char *path, struct watched watched,
                     size_t name_length)
{
    _cleanup_free_ char *copy = NULL;
    struct watched *grown;

    if (watched.name) {
        copy = strndup(watched.name, name_length);
        if (!copy)
            return -ENOMEM;
    }
    grown = reallocarray(watch->watched, watch->watched_count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    watch->watched = grown;
    watched.descriptor = inotify_add_watch(watch->inotify_fd, path, watched.events | IN_MASK_ADD);
    if (watched.descriptor < 0)
        return -errno;
    watched.name = take_ptr(&copy);
    grown[watch->watched_count++] = watched;
    return 0;
}

static int watch_entry(struct path_watch *watch, const char *directory, const char *name,
                       size_t name_length)
{
    struct watched watched = {
        .events = DIRECTORY_EVENTS, .what = ENTRY_OF_THAT_NAME, .name = (char *)name};

    return add_watch(watch, directory, watched, name_length);
}

/* Watches the file itself and, where it is a symbolic link, what it points to. */
static int watch_end(struct path_watch *watch, const char *path, unsigned links)
{
    _cleanup_free_ char *resolved = NULL;
    char target[PATH_MAX];
    ssize_t length;
    int result;

    length = readlink(path, target, sizeof(target) - 1);
    if (length < 0) {
        struct watched itself = {.events = FILE_EVENTS, .what = ITSELF};

        result = add_watch(watch, path, itself, 0);
        return result == -ENOENT || result == -ENOTDIR ? 0 : result;
    }
    if (links >= LINKS_MAX)
        return 0;
    target[length] = '\0';
    if (target[0] == '/')
        return watch_path(watch, target, links + 1);
    if (asprintf(&resolved, "%.*s/%s", (int)(strrchr(path, '/') - path), path, target) < 0) {
        resolved = NULL;
        return -ENOMEM;
    }
    return watch_path(watch, resolved, links + 1);
}

/*
 * Watches each directory on the way for the next component, from the root on: a directory that is
 * not there when its turn comes is seen by the watch on its parent when it appears, so nothing
 * that grows under our hands is missed. Returns 1 if all of them are there, else 0 or -errno.
 */
static int watch_way(struct path_watch *watch, const char *path)
{
    _cleanup_free_ char *directory = strdup(path);
    size_t at = 0;
    int result;

    if (!directory)
        return -ENOMEM;
    if (path[0] != '/')
        return -EINVAL;
    while (path[at]) {
        size_t name = at + strspn(path + at, "/");
        size_t name_length = strcspn(path + name, "/");

        if (name_length == 0)
            break;
        directory[at == 0 ? 1 : at] = '\0';
        result = watch_entry(watch, directory, path + name, name_length);
        if (result == -ENOENT || result == -ENOTDIR)
            return 0;
        if (result < 0)
            return result;
        memcpy(directory, path, name + name_length);
        at = name + name_length;
    }
    return 1;
}

static int watch_path(struct path_watch *watch, const char *path, unsigned links)
{
    int result = watch_way(watch, path);

    return result > 0 ? watch_end(watch, path, links) : result;
}

static int watch_directory(struct path_watch *watch, const char *directory)
{
    struct watched entries = {.events = DIRECTORY_EVENTS, .what = ANY_ENTRY};
    int result = watch_way(watch, directory);

    if (result <= 0)
        return result;
    result = add_watch(watch, directory, entries, 0);
    return result == -ENOENT || result == -ENOTDIR ? 0 : result;
}

static bool is_wanted(const struct watched *watched, const struct inotify_event *event)
{
    if (watched->descriptor != event->wd ||
        !(event->mask & (watched->events | IN_IGNORED | IN_UNMOUNT)))
        return false;
    if (event->len == 0 || watched->what == ANY_ENTRY)
        return true;
    return watched->what == ENTRY_OF_THAT_NAME && strcmp(watched->name, event->name) == 0;
}

static bool is_relevant(const struct path_watch *watch, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW)
        return true;
    for (size_t i = 0; i < watch->watched_count; i++) {
        if (is_wanted(&watch->watched[i], event))
            return true;
    }
    return false;
}

static void on_inotify(evutil_socket_t fd, short what, void *context)
{
    struct path_watch *watch = context;
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool has_changed = false;
    ssize_t length;

    while ((length = read(fd, events, sizeof(events))) > 0) {
        const struct inotify_event *event;

        for (ssize_t at = 0; at < length; at += (ssize_t)(sizeof(*event) + event->len)) {
            event = (const struct inotify_event *)(const void *)(events + at);
            has_changed = has_changed || is_relevant(watch, event);
        }
    }
    if (has_changed) {
        path_watch_disarm(watch);
        watch->callback(watch->context);
    }
}

bool path_watch_is_armed(const struct path_watch *watch)
{
    assert_on_loop();
    return watch->inotify_fd >= 0;
}

static int arm(struct path_watch *watch, const char *path, const char *directory)
{
    int result;

    watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->inotify_fd < 0)
        return -errno;
    result = watch_path(watch, path, 0);
    if (result < 0)
        return result;
    if (directory) {
        result = watch_directory(watch, directory);
        if (result < 0)
            return result;
    }
    watch->event =
        event_new(watch->base, watch->inotify_fd, EV_READ | EV_PERSIST, on_inotify, watch);
    if (!watch->event || event_add(watch->event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

int path_watch_arm(struct path_watch *watch, const char *path, const char *directory)
{
    int result;

    assert_on_loop();
    path_watch_disarm(watch);
    result = arm(watch, path, directory);
    if (result < 0)
        path_watch_disarm(watch);
    return result;
}
