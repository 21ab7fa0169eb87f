/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log-line.h"
#include "base/log-sink.h"

enum { DEFAULT_QUEUE_RECORDS = 1024 };

struct record {
    struct list list;
    uint64_t lost_before; /* records dropped just before this one */
    struct timespec time;
    enum log_level level;
    size_t length;
    char text[];
};

enum log_mode {
    LOG_DIRECT, /* callers write */
    LOG_QUEUED, /* the writer's thread writes */
    LOG_GONE,   /* a stuck writer was left behind: nobody writes */
};

/*
 * There is one log, as there is one stderr. It is a static and never freed, because a writer that
 * is stuck in a write comes back to it whenever the destination lets go: it then finds that its
 * generation is over and touches nothing but the sink, which it kept.
 */
static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    pthread_cond_t work;    /* to the writer: there may be something to do */
    pthread_cond_t settled; /* from the writer: a write is over, or the thread has ended */

    /* guarded by lock */
    enum log_mode mode;
    struct list queue;
    unsigned queued;
    unsigned queue_max;
    uint64_t lost; /* since the last record that was queued or, in direct mode, written */
    bool held;
    bool reopen;
    bool stopping;
    bool ended;
    bool writing;
    bool broken; /* the last write failed: what was lost is told with the next record */
    unsigned generation;
    pthread_t thread;
    struct log_sink *sink; /* NULL while the writer has it, or before log_open() */
} log_state = {
    .once = PTHREAD_ONCE_INIT,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .queue = LIST_INIT(log_state.queue),
    .queue_max = DEFAULT_QUEUE_RECORDS,
};

static _Atomic int log_level_now = LOG_INFO;

static struct {
    bool (*hold)(void *context, unsigned wait_ms);
    void (*release)(void *context);
    void *context;
} companion;

void log_set_companion(bool (*hold)(void *context, unsigned wait_ms),
                       void (*release)(void *context), void *context)
{
    companion.hold = hold;
    companion.release = release;
    companion.context = context;
}

/* Only a condition made at run time can wait by the clock that nobody sets. */
static void init_settled(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&log_state.settled, &attributes);
    pthread_condattr_destroy(&attributes);
}

static int write_lost(struct log_sink *sink, uint64_t lost)
{
    char text[80];
    struct timespec now;

    if (lost == 0)
        return 0;
    int length = snprintf(text, sizeof(text), "%" PRIu64 " log record%s lost", lost,
                          lost == 1 ? " was" : "s were");
    clock_gettime(CLOCK_REALTIME, &now);
    return log_sink_write(sink, &now, LOG_WARNING, text, (size_t)length);
}

static void drop_queue_locked(void)
{
    struct record *record;

    while ((record = list_first(&log_state.queue, struct record, list))) {
        list_remove(&record->list);
        free(record);
    }
    log_state.queued = 0;
}

/* --- the writer --- */

static bool has_work_locked(void)
{
    if (log_state.held)
        return false;
    return !list_is_empty(&log_state.queue) || log_state.reopen ||
           (log_state.lost > 0 && !log_state.broken);
}

/* Tells of `lost` records, then writes the record, if any. Returns how many are lost now. */
static uint64_t write_record(struct log_sink *sink, uint64_t lost, const struct record *record)
{
    if (write_lost(sink, lost) < 0)
        return lost + (record ? 1 : 0);
    if (!record)
        return 0;
    return log_sink_write(sink, &record->time, record->level, record->text, record->length) < 0;
}

static void reopen_sink(struct log_sink *sink)
{
    int error = log_sink_reopen(sink);
    if (error == 0)
        return;

    char text[120];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    errno = -error;
    int length = snprintf(text, sizeof(text), "the log file cannot be opened again: %m");
    /* Where even that cannot be written there is nobody left to tell. */
    (void)!log_sink_write(sink, &now, LOG_WARNING, text, (size_t)length);
}

/* Carries out the oldest thing to do, unlocked meanwhile. */
static void writer_step_locked(struct log_sink *sink, unsigned generation)
{
    struct record *record = list_first(&log_state.queue, struct record, list);
    bool reopen = log_state.reopen;
    uint64_t lost = log_state.lost;

    if (record) {
        list_remove(&record->list);
        log_state.queued--;
        lost = record->lost_before;
    } else {
        log_state.lost = 0;
    }
    log_state.reopen = false;
    log_state.writing = true;
    pthread_mutex_unlock(&log_state.lock);

    if (reopen)
        reopen_sink(sink);
    lost = write_record(sink, lost, record);
    free(record);

    pthread_mutex_lock(&log_state.lock);
    if (generation != log_state.generation)
        return;
    log_state.writing = false;
    log_state.lost += lost;
    log_state.broken = lost > 0;
    pthread_cond_broadcast(&log_state.settled);
}

struct writer {
    struct log_sink *sink;
    unsigned generation;
};

static void *writer_run(void *argument)
{
    struct writer writer = *(struct writer *)argument;
    free(argument);
    thread_set_role(THREAD_LOG);

    pthread_mutex_lock(&log_state.lock);
    while (writer.generation == log_state.generation) {
        if (has_work_locked())
            writer_step_locked(writer.sink, writer.generation);
        else if (log_state.stopping)
            break;
        else
            pthread_cond_wait(&log_state.work, &log_state.lock);
    }
    if (writer.generation == log_state.generation) {
        log_state.sink = take_ptr(&writer.sink);
        log_state.ended = true;
        pthread_cond_broadcast(&log_state.settled);
    }
    pthread_mutex_unlock(&log_state.lock);
    log_sink_free(writer.sink);
    return NULL;
}

/* --- opening, starting, stopping --- */

int log_open(const struct log_options *options)
{
    struct log_sink *sink = NULL;
    int error = log_sink_open(options->path, &sink);
    if (error < 0)
        return error;

    pthread_mutex_lock(&log_state.lock);
    if (log_state.mode == LOG_QUEUED) {
        error = -EBUSY;
    } else {
        struct log_sink *old = log_state.sink;
        log_state.sink = sink;
        sink = old;
        log_state.mode = LOG_DIRECT;
        log_state.held = false;
        log_state.reopen = false;
        log_state.queue_max =
            options->queue_max_records ? options->queue_max_records : DEFAULT_QUEUE_RECORDS;
        atomic_store_explicit(&log_level_now, (int)options->level, memory_order_relaxed);
    }
    pthread_mutex_unlock(&log_state.lock);
    log_sink_free(sink);
    return error;
}

/* Signals are for the loop; and a SIGPIPE of a write of ours must not end the agent. */
static int create_thread(pthread_t *ret_thread, struct writer *writer)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(ret_thread, NULL, writer_run, writer);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error == 0)
        pthread_setname_np(*ret_thread, "log-writer");
    return -error;
}

static int start_locked(void)
{
    if (log_state.mode != LOG_DIRECT)
        return -EBUSY;
    if (!log_state.sink) {
        int error = log_sink_open(NULL, &log_state.sink);
        if (error < 0)
            return error;
    }
    _cleanup_free_ struct writer *writer = malloc(sizeof(*writer));
    if (!writer)
        return -ENOMEM;
    *writer = (struct writer){.sink = log_state.sink, .generation = log_state.generation + 1};

    /* The thread waits for the lock, so it cannot see the state half changed. */
    int error = create_thread(&log_state.thread, writer);
    if (error < 0)
        return error;
    log_state.sink = NULL;
    log_state.generation++;
    log_state.stopping = log_state.ended = log_state.writing = log_state.broken = false;
    log_state.mode = LOG_QUEUED;
    writer = NULL;
    return 0;
}

int log_start(void)
{
    pthread_once(&log_state.once, init_settled);
    pthread_mutex_lock(&log_state.lock);
    int error = start_locked();
    pthread_mutex_unlock(&log_state.lock);
    return error;
}

void log_stop(unsigned timeout_ms)
{
    struct timespec deadline = clock_deadline(timeout_ms);

    pthread_mutex_lock(&log_state.lock);
    if (log_state.mode != LOG_QUEUED) {
        pthread_mutex_unlock(&log_state.lock);
        return;
    }
    log_state.stopping = true;
    pthread_cond_broadcast(&log_state.work);
    int waited = 0;
    while (!log_state.ended && waited == 0)
        waited = pthread_cond_timedwait(&log_state.settled, &log_state.lock, &deadline);

    bool ended = log_state.ended;
    pthread_t thread = log_state.thread;
    log_state.mode = ended ? LOG_DIRECT : LOG_GONE;
    log_state.generation++;
    log_state.lost += log_state.queued;
    drop_queue_locked();
    pthread_mutex_unlock(&log_state.lock);

    if (ended)
        pthread_join(thread, NULL);
    else
        pthread_detach(thread);
}

void log_reopen(void)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.reopen = true;
    pthread_cond_signal(&log_state.work);
    pthread_mutex_unlock(&log_state.lock);
}

bool log_hold(unsigned wait_ms)
{
    struct timespec deadline = clock_deadline(wait_ms);
    int waited = 0;

    pthread_once(&log_state.once, init_settled);
    pthread_mutex_lock(&log_state.lock);
    log_state.held = true;
    while (log_state.mode == LOG_QUEUED && log_state.writing && waited == 0)
        waited = pthread_cond_timedwait(&log_state.settled, &log_state.lock, &deadline);
    bool quiet = log_state.mode != LOG_QUEUED || !log_state.writing;
    pthread_mutex_unlock(&log_state.lock);
    if (companion.hold)
        quiet &= companion.hold(companion.context, wait_ms);
    return quiet;
}

void log_release(void)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.held = false;
    pthread_cond_signal(&log_state.work);
    pthread_mutex_unlock(&log_state.lock);
    if (companion.release)
        companion.release(companion.context);
}

/* --- records --- */

bool log_is_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

static struct record *record_new(enum log_level level, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);
static struct record *record_new(enum log_level level, const char *format, va_list arguments)
{
    char text[LOG_TEXT_MAX + 1];
    size_t length = log_line_text(text, format, arguments);
    struct record *record = malloc(sizeof(*record) + length);

    if (!record)
        return NULL;
    *record = (struct record){.level = level, .length = length};
    list_init(&record->list);
    clock_gettime(CLOCK_REALTIME, &record->time);
    memcpy(record->text, text, length);
    return record;
}

static void write_direct_locked(const struct record *record)
{
    if (!log_state.sink && log_sink_open(NULL, &log_state.sink) < 0) {
        log_state.lost++;
        return;
    }
    if (log_state.reopen) {
        log_state.reopen = false;
        reopen_sink(log_state.sink);
    }
    if (log_sink_is_ready(log_state.sink))
        log_state.lost = write_record(log_state.sink, log_state.lost, record);
    else
        log_state.lost++;
}

/* Returns the record that is to be freed: the caller's, or NULL. */
static struct record *queue_record_locked(struct record *record)
{
    unsigned room = log_state.queue_max;

    if (record->level == LOG_DEBUG)
        room -= room / 4;
    if (log_state.queued >= room) {
        log_state.lost++;
        return record;
    }
    record->lost_before = log_state.lost;
    log_state.lost = 0;
    list_append(&log_state.queue, &record->list);
    log_state.queued++;
    pthread_cond_signal(&log_state.work);
    return NULL;
}

void log_write_va(enum log_level level, const char *format, va_list arguments)
{
    if (!log_is_enabled(level))
        return;
    int saved = errno;
    struct record *record = record_new(level, format, arguments);

    pthread_mutex_lock(&log_state.lock);
    if (!record || log_state.mode == LOG_GONE)
        log_state.lost++;
    else if (log_state.mode == LOG_QUEUED)
        record = queue_record_locked(record);
    else
        write_direct_locked(record);
    pthread_mutex_unlock(&log_state.lock);

    free(record);
    errno = saved;
}

void log_write(enum log_level level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_write_va(level, format, arguments);
    va_end(arguments);
}
