/* SPDX-License-Identifier: MIT */
#include "base/thaw-crew.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/clock.h"

/* More file systems than threads share them. The stack holds next to nothing. */
enum { THREADS_MAX = 128, STACK_BYTES = 64 * 1024 };

/* Between two passes while a freeze is under way. */
enum { PASS_EVERY_MS = 10 };

/* The kernel counts freezes; nobody freezes one file system so often. */
enum { FREEZES_MAX = 100000 };

struct item {
    struct thaw_target target;
    atomic_bool was_frozen;
    atomic_bool is_done;
    atomic_int error;
};

struct thaw_crew {
    /* immutable */
    struct item *items;
    size_t count;
    size_t threads;
    int ended_fd;

    atomic_bool has_begun;
    atomic_bool is_settled;
    atomic_bool is_dropped; /* nobody wants it any more: those that wait end */
    atomic_size_t thawed;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    size_t running; /* threads not ended yet */
    size_t references;
};

/* One thread's part: every `threads`th item. */
struct hand {
    struct thaw_crew *crew;
    size_t first;
};

int thaw_filesystem(int fd)
{
    bool was_frozen = false;
    for (int i = 0; i < FREEZES_MAX; i++) {
        if (ioctl(fd, FITHAW, 0) == 0)
            was_frozen = true;
        else if (errno != EINTR)
            break;
    }
    if (was_frozen)
        return 1;
    return errno == EINVAL || errno == EOPNOTSUPP || errno == ENOTTY ? 0 : -errno;
}

static void thaw_item(struct thaw_crew *crew, struct item *item)
{
    struct thaw_target *target = &item->target;
    if (target->fd < 0 && target->path)
        target->fd = open(target->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int result = target->fd < 0 ? -errno : thaw_filesystem(target->fd);
    atomic_store(&item->error, result < 0 ? -result : 0);
    if (result > 0 && !atomic_exchange(&item->was_frozen, true))
        atomic_fetch_add(&crew->thawed, 1);
}

static void wait_locked(struct thaw_crew *crew, unsigned timeout_ms)
{
    uint64_t until_ms = clock_now_ms() + timeout_ms;
    struct timespec until = {
        .tv_sec = (time_t)(until_ms / 1000),
        .tv_nsec = (long)(until_ms % 1000) * 1000000,
    };
    pthread_cond_timedwait(&crew->changed, &crew->lock, &until);
}

/* Returns false if it is not wanted any more. */
static bool wait_for_begin(struct thaw_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    while (!crew->has_begun && !crew->is_dropped)
        pthread_cond_wait(&crew->changed, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
    return atomic_load(&crew->has_begun);
}

static void work(struct thaw_crew *crew, size_t first)
{
    if (!wait_for_begin(crew))
        return;
    bool is_last;
    do {
        /* Before the pass: what was still under way then is over when the pass after it begins. */
        is_last = atomic_load(&crew->is_settled);
        for (size_t i = first; i < crew->count; i += crew->threads) {
            thaw_item(crew, &crew->items[i]);
            if (is_last)
                atomic_store(&crew->items[i].is_done, true);
        }
        if (is_last)
            break;
        pthread_mutex_lock(&crew->lock);
        if (!atomic_load(&crew->is_settled))
            wait_locked(crew, PASS_EVERY_MS);
        pthread_mutex_unlock(&crew->lock);
    } while (!is_last);
}

static void destroy(struct thaw_crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        close_fd(crew->items[i].target.fd);
        free(crew->items[i].target.path);
    }
    close_fd(crew->ended_fd);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
    free(crew->items);
    free(crew);
}

static void unref(struct thaw_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    size_t left = --crew->references;
    pthread_mutex_unlock(&crew->lock);
    if (left == 0)
        destroy(crew);
}

static void *hand_main(void *argument)
{
    struct hand *hand = argument;
    struct thaw_crew *crew = hand->crew;
    size_t first = hand->first;
    free(hand);
    work(crew, first);
    uint64_t one = 1;
    pthread_mutex_lock(&crew->lock);
    if (--crew->running == 0)
        (void)!write(crew->ended_fd, &one, sizeof(one));
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    unref(crew);
    return NULL;
}

static int start_hand(struct thaw_crew *crew, const pthread_attr_t *attributes, size_t first)
{
    pthread_t thread;
    struct hand *hand = malloc(sizeof(*hand));
    if (!hand)
        return -ENOMEM;
    *hand = (struct hand){.crew = crew, .first = first};
    pthread_mutex_lock(&crew->lock);
    crew->running++;
    crew->references++;
    int error = pthread_create(&thread, attributes, hand_main, hand);
    if (error) {
        crew->running--;
        crew->references--;
    }
    pthread_mutex_unlock(&crew->lock);
    if (error)
        free(hand);
    return -error;
}

static int start_hands(struct thaw_crew *crew)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for others */
    for (size_t i = 0; i < crew->threads && !error; i++)
        error = start_hand(crew, &attributes, i);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static void init_sync(struct thaw_crew *crew)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&crew->lock, NULL);
}

int thaw_crew_new_take(struct thaw_target *targets, size_t count, struct thaw_crew **ret_crew)
{
    struct thaw_crew *crew = calloc(1, sizeof(*crew));
    if (!crew)
        return -ENOMEM;
    init_sync(crew);
    crew->references = 1;
    crew->threads = count < THREADS_MAX ? count : THREADS_MAX;
    crew->ended_fd = eventfd(count == 0, EFD_CLOEXEC | EFD_NONBLOCK);
    crew->items = calloc(count + 1, sizeof(*crew->items));
    int error = crew->items && crew->ended_fd >= 0 ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && !error; i++)
        crew->items[i].target = targets[i];
    if (!error)
        crew->count = count;
    if (!error)
        error = start_hands(crew);
    if (error) {
        /* They stay the caller's. The threads that wait see that nobody wants them. */
        for (size_t i = 0; i < crew->count; i++)
            crew->items[i].target = (struct thaw_target){.fd = -1};
        thaw_crew_free(crew);
        return error;
    }
    for (size_t i = 0; i < count; i++)
        targets[i] = (struct thaw_target){.fd = -1};
    *ret_crew = crew;
    return 0;
}

static void change(struct thaw_crew *crew, atomic_bool *what)
{
    pthread_mutex_lock(&crew->lock);
    atomic_store(what, true);
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

void thaw_crew_begin(struct thaw_crew *crew)
{
    change(crew, &crew->has_begun);
}

void thaw_crew_settle(struct thaw_crew *crew)
{
    change(crew, &crew->is_settled);
}

bool thaw_crew_has_begun(const struct thaw_crew *crew)
{
    return atomic_load(&crew->has_begun);
}

bool thaw_crew_wait(struct thaw_crew *crew, unsigned timeout_ms)
{
    uint64_t now_ms, until_ms = clock_now_ms() + timeout_ms;
    pthread_mutex_lock(&crew->lock);
    while (crew->running > 0 && (now_ms = clock_now_ms()) < until_ms)
        wait_locked(crew, (unsigned)(until_ms - now_ms));
    bool has_ended = crew->running == 0;
    pthread_mutex_unlock(&crew->lock);
    return has_ended;
}

int thaw_crew_ended_fd(const struct thaw_crew *crew)
{
    return crew->ended_fd;
}

size_t thaw_crew_thawed(const struct thaw_crew *crew)
{
    return atomic_load(&crew->thawed);
}

bool thaw_crew_find_stuck(struct thaw_crew *crew, const char **ret_path)
{
    for (size_t i = 0; i < crew->count; i++) {
        if (atomic_load(&crew->items[i].is_done))
            continue;
        *ret_path = crew->items[i].target.path;
        return true;
    }
    *ret_path = NULL;
    return false;
}

size_t thaw_crew_retry(struct thaw_crew *crew)
{
    size_t before = thaw_crew_thawed(crew);
    for (size_t i = 0; i < crew->count; i++)
        if (atomic_load(&crew->items[i].error) != 0)
            thaw_item(crew, &crew->items[i]);
    return thaw_crew_thawed(crew) - before;
}

int thaw_crew_error(struct thaw_crew *crew, const char **ret_path)
{
    for (size_t i = 0; i < crew->count; i++) {
        int error = atomic_load(&crew->items[i].error);
        if (error == 0)
            continue;
        *ret_path = crew->items[i].target.path;
        return error;
    }
    return 0;
}

struct thaw_crew *thaw_crew_free(struct thaw_crew *crew)
{
    if (!crew)
        return NULL;
    change(crew, &crew->is_dropped);
    unref(crew);
    return NULL;
}
