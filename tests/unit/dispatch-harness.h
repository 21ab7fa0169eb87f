/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_DISPATCH_HARNESS_H
#define BELLHOP_TESTS_DISPATCH_HARNESS_H

/*
 * The dispatcher between real sessions, a real scheduler and real workers. Only the table of
 * commands is the test's own: each of its commands waits where the test wants it to wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/settings.h"
#include "cmds/command.h"
#include "cmds/dispatch.h"
#include "cmds/services.h"
#include "cmds/table.h"
#include "io/session.h"
#include "jobs/job-table.h"
#include "jobs/pool.h"
#include "jobs/task.h"
#include "security/gate.h"

enum { CHANNELS = 2, NAMES = 128 };

static struct event_base *base;
static struct event *ticker;
static struct pool *pool;
static struct scheduler *scheduler;
static struct settings settings;
static struct gate *gate;
static struct services services;
static struct endpoint endpoints[CHANNELS];
static struct session *sessions[CHANNELS];
static uint64_t now;
static bool is_frozen;
static char trace[256]; /* loop only: P(repared), F(inished), D(ropped), W(ritten), R(eleased) */
static struct call *pending;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool may_go[NAMES];    /* guarded by lock */
static unsigned begun[NAMES]; /* guarded by lock */

/* --- the commands --- */

struct named_args {
    struct arg_text name; /* one letter: what the test calls it by */
    struct arg_text padding;
};

static const struct arg_spec named_specs[] = {
    {ARG(ARG_STRING, struct named_args, name, "name")},
    {ARG(ARG_STRING, struct named_args, padding, "padding"), .flags = ARG_OPTIONAL},
    ARG_END,
};

struct sync_args {
    int64_t id;
};

static const struct arg_spec sync_specs[] = {
    {ARG(ARG_INT64, struct sync_args, id, "id")},
    ARG_END,
};

static char name_of(struct call *call)
{
    return ((struct named_args *)call_args(call))->name.data[0];
}

static void note(char what, char name)
{
    size_t length = strlen(trace);
    if (length + 3 > sizeof(trace))
        return; /* more than any test looks at */
    trace[length] = what;
    trace[length + 1] = name;
    trace[length + 2] = '\0';
}

static enum call_next sync_run(struct call *call)
{
    json_int(call_reply(call), ((struct sync_args *)call_args(call))->id);
    return CALL_CONTINUE;
}

static enum call_next named_run(struct call *call)
{
    char text[2] = {name_of(call)};
    json_string(call_reply(call), text);
    return CALL_CONTINUE;
}

static enum call_next named_prepare(struct call *call)
{
    note('P', name_of(call));
    return CALL_CONTINUE;
}

static void wait_for_leave(char name)
{
    pthread_mutex_lock(&lock);
    begun[(unsigned char)name]++;
    while (!may_go[(unsigned char)name])
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* Writes all that it may write, also long after its deadline. */
static enum call_next work_run(struct call *call)
{
    struct named_args *args = call_args(call);
    char text[2] = {args->name.data[0]};
    json_string(call_reply(call), text);
    wait_for_leave(text[0]);
    for (int i = 0; i < 1000; i++)
        call_step(call, "step %d of '%c'", i, text[0]);
    memset(args->name.data, text[0], args->name.length);
    return CALL_CONTINUE;
}

static void told(void *context, enum delivery what, uint64_t token)
{
    assert_ptr_equal(context, &services);
    if (what != DELIVERY_SEEN)
        note(what == DELIVERY_DROPPED ? 'D' : 'W', (char)token);
}

static enum call_next work_finish(struct call *call)
{
    note('F', name_of(call));
    call_on_delivery(call, told, (uint64_t)name_of(call));
    return CALL_CONTINUE;
}

static enum call_next pending_run(struct call *call)
{
    assert_null(pending);
    pending = call;
    note('P', name_of(call));
    call_on_delivery(call, told, (uint64_t)name_of(call));
    return CALL_PENDING;
}

static void complete(void)
{
    struct call *call = take_ptr(&pending);
    char text[2] = {name_of(call)};
    json_string(call_reply(call), text);
    call_complete(call);
}

/* Ends early once it is cancelled. */
static enum call_next watched_run(struct call *call)
{
    struct call_progress progress = {.done = 1, .total = 2, .item = "item", .bytes = 3};
    call_set_progress(call, &progress);
    work_run(call);
    return call_is_cancelled(call) ? call_fail(call, "cancelled") : CALL_CONTINUE;
}

static void let_go(char name);

static void watched_cancel(struct call *call)
{
    let_go(name_of(call));
}

/* Names in capital letters stand for long replies: more than may be unsent. */
static size_t sized_reply_bytes(const void *args)
{
    char name = ((const struct named_args *)args)->name.data[0];
    return name >= 'A' && name <= 'Z' ? 2 * 1024 * 1024 : 1000;
}

/* What one call does to another, in the midst of its own. */
static enum call_next complete_run(struct call *call)
{
    complete();
    return named_run(call);
}

static enum call_next urgent_prepare(struct call *call)
{
    note('P', name_of(call));
    call_cancel_earlier(call);
    return CALL_CONTINUE;
}

/* Goes back to its worker once, and after that by the test's leave. */
static enum call_next stages_finish(struct call *call)
{
    static char stages[3];
    char *stage = call_state(call) ? call_state(call) : stages;
    note('F', name_of(call));
    call_set_state(call, stage + 1);
    if (stage == stages)
        return CALL_RUN_AGAIN;
    if (stage == stages + 1) {
        pending = call;
        return CALL_PENDING;
    }
    char text[2] = {name_of(call)};
    json_string(call_reply(call), text);
    return CALL_CONTINUE;
}

static enum call_next stages_run(struct call *call)
{
    wait_for_leave(name_of(call));
    return CALL_CONTINUE;
}

static void named_release(struct call *call)
{
    note('R', name_of(call));
}

#define NAMED      .args = named_specs, .args_size = sizeof(struct named_args), .release = named_release
#define SYNC       .args = sync_specs, .args_size = sizeof(struct sync_args), .run = sync_run
#define SYNC_FLAGS (CMD_ON_LOOP | CMD_FENCE | CMD_RESERVED | CMD_ALLOWED_WHEN_FROZEN)

/* In the order of their names. */
static const struct command commands[] = {
    {.name = "complete", .run = complete_run, .flags = CMD_ON_LOOP, NAMED},
    {.name = "delimited", .flags = SYNC_FLAGS | CMD_DELIMITED, SYNC},
    {.name = "expires",
     .prepare = named_prepare,
     .run = named_run,
     .lane = "lane",
     .flags = CMD_ON_LOOP | CMD_EXPIRES,
     NAMED},
    {.name = "loop",
     .prepare = named_prepare,
     .run = named_run,
     .lane = "lane",
     .flags = CMD_ON_LOOP,
     NAMED},
    {.name = "pending", .run = pending_run, .lane = "lane", .flags = CMD_ON_LOOP, NAMED},
    {.name = "rescue", .run = work_run, .finish = work_finish, .flags = CMD_RESCUE, NAMED},
    {.name = "silent", .run = named_run, .flags = CMD_ON_LOOP | CMD_NO_SUCCESS_REPLY, NAMED},
    {.name = "sized",
     .run = work_run,
     .finish = work_finish,
     .lane = "lane",
     .reply_bytes = sized_reply_bytes,
     NAMED},
    {.name = "sized-apart",
     .run = work_run,
     .finish = work_finish,
     .reply_bytes = sized_reply_bytes,
     NAMED},
    {.name = "stages", .run = stages_run, .finish = stages_finish, .lane = "lane", NAMED},
    {.name = "sync", .flags = SYNC_FLAGS, SYNC},
    {.name = "thawed", .run = named_run, .flags = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN, NAMED},
    {.name = "urgent",
     .prepare = urgent_prepare,
     .run = work_run,
     .finish = work_finish,
     .lane = "lane",
     .flags = CMD_URGENT | CMD_RESCUE | CMD_RESERVED | CMD_ALLOWED_WHEN_FROZEN,
     NAMED},
    {.name = "watched",
     .run = watched_run,
     .finish = work_finish,
     .cancel = watched_cancel,
     .lane = "watched",
     .flags = CMD_JOB | CMD_EXPIRES,
     NAMED},
    {.name = "work", .run = work_run, .finish = work_finish, .lane = "lane", NAMED},
    {.name = "work-apart", .run = work_run, .finish = work_finish, NAMED},
};

/* A real family that the test adds; NULL: none. */
static const struct command_family *real_commands;

size_t command_count(void)
{
    return ARRAY_SIZE(commands) + (real_commands ? real_commands->count : 0);
}

const struct command *command_at(size_t index)
{
    return index < ARRAY_SIZE(commands) ? &commands[index]
                                        : &real_commands->commands[index - ARRAY_SIZE(commands)];
}

int command_find(const char *name, size_t length)
{
    for (size_t i = 0; i < command_count(); i++)
        if (strlen(command_at(i)->name) == length && memcmp(command_at(i)->name, name, length) == 0)
            return (int)i;
    return -1;
}

/* --- the fixture --- */

static void on_tick(evutil_socket_t fd, short events, void *argument)
{
}

static void on_output_ready(void *context)
{
}

static bool frozen(void *context)
{
    return is_frozen;
}

static void start_session(unsigned number)
{
    sessions[number] = session_new(&endpoints[number], dispatcher_request_handler(),
                                   services.dispatcher, on_output_ready, NULL);
    assert_non_null(sessions[number]);
}

static const char *deadline_s = "1"; /* the commands' */

static int setup(void **state)
{
    char *reason = NULL;
    trace[0] = '\0';
    now = 1000000;
    is_frozen = false;
    memset(may_go, 0, sizeof(may_go));
    memset(begun, 0, sizeof(begun));
    settings_init(&settings);
    assert_int_equal(settings_set(&settings, "deadline", "default", deadline_s, &reason), 0);
    base = event_base_new();
    struct timeval every = {.tv_usec = 2000};
    ticker = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(ticker, &every);
    struct pool_options options = {
        .workers = 2, .workers_max = 8, .lost_max = 4, .origins = CHANNELS + 1, .idle_ms = 1000};
    assert_int_equal(pool_new(base, &options, &pool), 0);
    assert_int_equal(scheduler_new(base, pool, &scheduler), 0);
    gate = gate_new(&(struct gate_rules){0});
    services = (struct services){.settings = &settings, .jobs = job_table_new(base, &settings)};
    assert_non_null(services.jobs);
    struct dispatcher_options dispatcher = {.services = &services,
                                            .pool = pool,
                                            .scheduler = scheduler,
                                            .gate = gate,
                                            .own_origin = CHANNELS,
                                            .is_frozen = frozen};
    assert_int_equal(dispatcher_new(&dispatcher, &services.dispatcher), 0);
    for (unsigned i = 0; i < CHANNELS; i++) {
        endpoints[i] = (struct endpoint){
            .name = "test",
            .number = i,
            .pending_max = 32,
            .reserve = 8,
            .pending_bytes_max = 4 * 1024 * 1024,
            .unsent_max = 1024 * 1024,
            .scanner_limits = {.message_bytes_max = 1024 * 1024, .depth_max = 10},
        };
        start_session(i);
    }
    return 0;
}

#define loop_until(expression) \
    while (!(expression))      \
    event_base_loop(base, EVLOOP_ONCE)

static void let_go(char name)
{
    pthread_mutex_lock(&lock);
    may_go[(unsigned char)name] = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Whatever a test left is carried out without a session: nothing may leak, hang or come twice. */
static int teardown(void **state)
{
    for (unsigned i = 0; i < CHANNELS; i++)
        sessions[i] = session_free(sessions[i]);
    for (int name = 0; name < NAMES; name++)
        let_go((char)name);
    if (pending)
        complete();
    loop_until(scheduler_is_idle(scheduler));
    for (unsigned i = 0; i < CHANNELS; i++) {
        loop_until(endpoints[i].pending_bytes == 0);
        assert_int_equal(endpoints[i].pending, 0);
    }
    loop_until(scheduler_is_idle(scheduler)); /* what these left to free */
    assert_true(pool_free(pool, 5000));
    services.dispatcher = dispatcher_free(services.dispatcher);
    job_table_free(services.jobs);
    scheduler_free(scheduler);
    gate_free(gate);
    settings_deinit(&settings);
    event_free(ticker);
    event_base_free(base);
    return 0;
}

#define dispatch_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
