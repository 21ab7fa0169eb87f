/* SPDX-License-Identifier: MIT */
#include "jobs/freeze-set.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mount-table.h"
#include "base/probe.h"
#include "base/storage.h"
#include "base/sysroot.h"
#include "base/thaw-crew.h"
#include "jobs/freeze-record.h"
#include "jobs/freeze-set-internal.h"
#include "jobs/guard-link.h"
#include "jobs/guard-protocol.h"

/* How long mount points may take to be opened, and the guard to be ready. */
enum { OPEN_MS = 10 * 1000, GUARD_MS = 20 * 1000 };

/* How often a failed freeze that cannot be thawed says so. */
enum { ROLL_BACK_LOOK_MS = 5 * 1000 };

/* --- its life --- */

static struct freeze_set *set_new(int directory)
{
    struct freeze_set *set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&set->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&set->lock, NULL);
    set->directory = directory;
    set->references = 1;
    return set;
}

struct freeze_set *freeze_set_new(int directory)
{
    assert_on_loop();
    return set_new(directory);
}

struct freeze_set *freeze_set_new_adopted_take(int directory, struct guard_link *guard,
                                               uint64_t deadline_ms)
{
    assert_on_loop();
    struct freeze_set *set = set_new(directory);
    if (!set) {
        guard_link_free(guard);
        return NULL;
    }
    set->is_adopted = true;
    atomic_store(&set->deadline_ms, deadline_ms);
    set->has_returned = true;
    set->guard = guard;
    set->is_armed = guard != NULL;
    return set;
}

struct freeze_set *freeze_set_ref(struct freeze_set *set)
{
    set->references++;
    return set;
}

struct freeze_set *freeze_set_unref(struct freeze_set *set)
{
    if (!set || --set->references > 0)
        return NULL;
    for (size_t i = 0; i < set->count; i++) {
        close_fd(set->members[i].fd);
        free(set->members[i].point);
    }
    free(set->members);
    guard_link_free(set->guard);
    thaw_crew_free(set->crew);
    thaw_crew_free(set->others);
    pthread_cond_destroy(&set->changed);
    pthread_mutex_destroy(&set->lock);
    free(set);
    return NULL;
}

void freeze_set_stop(struct freeze_set *set)
{
    atomic_store(&set->is_stopped, true);
}

bool freeze_set_is_stopped(const struct freeze_set *set)
{
    return atomic_load(&set->is_stopped);
}

struct guard_link *freeze_set_guard(struct freeze_set *set)
{
    return set->guard;
}

int freeze_set_expect_guard(struct freeze_set *set)
{
    assert_on_worker();
    struct guard_link *guard = NULL;
    int error = set->directory < 0 ? set->directory : guard_link_listen(set->directory, &guard);
    pthread_mutex_lock(&set->lock);
    set->guard = guard;
    pthread_mutex_unlock(&set->lock);
    return error;
}

struct guard_link *freeze_set_armed_guard(struct freeze_set *set)
{
    pthread_mutex_lock(&set->lock);
    struct guard_link *guard = set->is_armed ? set->guard : NULL;
    pthread_mutex_unlock(&set->lock);
    return guard;
}

static void set_returned(struct freeze_set *set)
{
    pthread_mutex_lock(&set->lock);
    set->has_returned = true;
    pthread_cond_broadcast(&set->changed);
    pthread_mutex_unlock(&set->lock);
}

void freeze_set_abandon(struct freeze_set *set)
{
    freeze_set_stop(set);
    set_returned(set);
}

/* --- freezing --- */

struct freezing {
    struct freeze_set *set;
    const struct freeze_request *request;
    struct freeze_result *result;
};

static int fail(struct freezing *freezing, int error, const char *format, ...) PRINTF_LIKE(3, 4);
static int fail(struct freezing *freezing, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(freezing->result->reason, FREEZE_REASON_MAX, format, arguments);
    va_end(arguments);
    freezing->result->error = error;
    return error;
}

static int fail_errno(struct freezing *freezing, int error, const char *what, const char *point)
{
    char system[128];
    return fail(freezing, error, "%s %s: %s", what, point,
                strerror_r(-error, system, sizeof(system)));
}

/* Returns 0, or an error if the freeze is not to go on. */
static int check(struct freezing *freezing)
{
    struct freeze_set *set = freezing->set;
    const struct freeze_request *request = freezing->request;
    if (freeze_set_is_stopped(set))
        return fail(freezing, -ECANCELED, "the freeze was stopped by a thaw");
    if (request->is_interrupted(request->context))
        return fail(freezing, -ETIMEDOUT, "the freeze was cancelled, or its time was over");
    return 0;
}

static bool is_cancelled(void *context)
{
    const struct freezing *freezing = context;
    return freeze_set_is_stopped(freezing->set) ||
           freezing->request->is_interrupted(freezing->request->context);
}

static int add_members(struct freeze_set *set, const struct freeze_plan *plan)
{
    set->members = calloc(plan->count + 1, sizeof(*set->members));
    if (!set->members)
        return -ENOMEM;
    for (size_t i = 0; i < plan->count; i++) {
        struct member *member = &set->members[set->count];
        *member = (struct member){
            .point = strdup(plan->mounts[i]->point),
            .major = plan->mounts[i]->major,
            .minor = plan->mounts[i]->minor,
            .fd = -1,
        };
        if (!member->point)
            return -ENOMEM;
        set->count++;
    }
    return 0;
}

static int choose_members(struct freezing *freezing)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    _cleanup_(storage_deinit) struct storage storage = {0};
    _cleanup_(freeze_plan_deinit) struct freeze_plan plan = {0};
    int error = mount_table_load(&table);
    if (error)
        return fail_errno(freezing, error, "failed to read", "/proc/self/mountinfo");
    error = storage_init(&storage, &table);
    if (!error)
        error = freeze_plan_build(&table, &storage, &freezing->request->choice, &plan);
    if (!error)
        error = add_members(freezing->set, &plan);
    if (error)
        return fail(freezing, error, "Out of memory for the list of file systems");
    if (plan.unreachable > 0)
        log_warning("%zu file systems are not frozen: no path leads to them", plan.unreachable);
    return 0;
}

/* --- opening: a path may lead through a dead mount --- */

struct opening {
    char *path;
    unsigned major;
    unsigned minor;
    int fd;
    int error;
};

/* A path may also lead elsewhere, if something was mounted there just now, or not below --root. */
static int check_device(const struct opening *opening)
{
    struct stat status;
    if (fstat(opening->fd, &status) < 0)
        return -errno;
    /* A subvolume has a number of its own, but none of a device's either. */
    bool is_same = opening->major == 0 ? major(status.st_dev) == 0
                                       : status.st_dev == makedev(opening->major, opening->minor);
    return is_same ? 0 : -ESTALE;
}

static void open_one(void *question)
{
    struct opening *opening = question;
    opening->fd = open(opening->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    opening->error = opening->fd < 0 ? -errno : check_device(opening);
}

static void release_opening(void *question)
{
    struct opening *opening = question;
    free(opening->path);
    if (opening->fd > 0) /* zero is one that was never asked: no file gets that number */
        close_fd(opening->fd);
}

/* The path below the root that the agent looks at. */
static int fill_opening(struct opening *opening, const struct member *member)
{
    if (asprintf(&opening->path, "%s%s", sysroot_prefix(), member->point) < 0) {
        opening->path = NULL;
        return -ENOMEM;
    }
    opening->major = member->major;
    opening->minor = member->minor;
    return 0;
}

static int take_opening(struct freezing *freezing, struct probe_set *probes, size_t index)
{
    struct member *member = &freezing->set->members[index];
    struct opening *opening = (struct opening *)probe_set_answer(probes, index);
    if (!opening)
        return fail_errno(freezing, -ETIMEDOUT, "failed to open", member->point);
    if (opening->error)
        return fail_errno(freezing, opening->error, "failed to open", member->point);
    member->fd = opening->fd;
    opening->fd = -1;
    return 0;
}

static int open_members(struct freezing *freezing)
{
    struct freeze_set *set = freezing->set;
    struct probe_set *probes =
        probe_set_new(set->count, sizeof(struct opening), open_one, release_opening);
    int error = probes ? 0 : -ENOMEM;
    for (size_t i = 0; i < set->count && !error; i++) {
        struct opening *opening = probe_set_question(probes, i);
        /* Each its own: what hung once is tried again. */
        probe_set_key(probes, i, (uint64_t)(uintptr_t)opening);
        error = fill_opening(opening, &set->members[i]);
    }
    if (error) {
        probe_set_unref(probes);
        return fail(freezing, error, "Out of memory for the list of file systems");
    }
    probe_set_run(probes, OPEN_MS);
    for (size_t i = 0; i < set->count && !error; i++)
        error = take_opening(freezing, probes, i);
    probe_set_unref(probes);
    return error;
}

/* --- getting ready --- */

static int start_crew(struct freezing *freezing)
{
    struct freeze_set *set = freezing->set;
    struct thaw_target *targets = calloc(set->count + 1, sizeof(*targets));
    int error = targets ? 0 : -ENOMEM;
    for (size_t i = 0; i < set->count && !error; i++) {
        targets[i] = (struct thaw_target){
            .fd = fcntl(set->members[i].fd, F_DUPFD_CLOEXEC, 3),
            .path = strdup(set->members[i].point),
        };
        if (targets[i].fd < 0 || !targets[i].path)
            error = targets[i].fd < 0 ? -errno : -ENOMEM;
    }
    struct thaw_crew *crew = NULL;
    if (!error)
        error = thaw_crew_new_take(targets, set->count, &crew);
    for (size_t i = 0; error && targets && i < set->count; i++) {
        if (targets[i].path)
            close_fd(targets[i].fd);
        free(targets[i].path);
    }
    free(targets);
    if (error)
        return fail_errno(freezing, error, "failed to prepare", "the thaw");
    pthread_mutex_lock(&set->lock);
    set->crew = crew;
    pthread_mutex_unlock(&set->lock);
    return 0;
}

static int arm_guard(struct freezing *freezing)
{
    struct freeze_set *set = freezing->set;
    if (!set->guard)
        return 0;
    _cleanup_free_ int *fds = calloc(set->count + 1, sizeof(*fds));
    if (!fds)
        return fail(freezing, -ENOMEM, "Out of memory for the thaw guard");
    for (size_t i = 0; i < set->count; i++)
        fds[i] = set->members[i].fd;
    struct guard_orders orders = {
        .fds = fds,
        .count = set->count,
        .deadline_ms = freezing->result->deadline_ms,
        .timeout_ms = GUARD_MS,
        .is_cancelled = is_cancelled,
        .context = freezing,
    };
    bool is_locked = false;
    int error = guard_link_arm(set->guard, &orders, &is_locked);
    if (error == -ECANCELED)
        return check(freezing);
    if (error)
        return fail_errno(freezing, error, "nothing was frozen:", "the thaw guard is not ready");
    pthread_mutex_lock(&set->lock);
    set->is_armed = true;
    pthread_mutex_unlock(&set->lock);
    if (!is_locked)
        log_warning("the thaw guard could not lock its memory");
    return 0;
}

static int write_record(struct freezing *freezing)
{
    struct freeze_record record = {.state = FREEZE_RECORD_FROZEN,
                                   .deadline_ms = freezing->result->deadline_ms};
    int error = freezing->set->directory < 0
                    ? -ENOTDIR
                    : freeze_record_write(freezing->set->directory, &record);
    if (error)
        return fail_errno(freezing, error, "failed to note the freeze in", "the state directory");
    return 0;
}

static int get_ready(struct freezing *freezing)
{
    const struct freeze_request *request = freezing->request;
    struct freeze_set *set = freezing->set;
    request->step(request->context, "reading", "the mount table");
    int error = choose_members(freezing);
    if (!error)
        error = check(freezing);
    if (!error && set->count > 0) {
        request->step(request->context, "opening", "the mount points");
        error = open_members(freezing);
    }
    if (!error)
        error = start_crew(freezing);
    if (!error && request->timeout_ms > 0)
        freezing->result->deadline_ms = guard_clock_ms() + request->timeout_ms;
    atomic_store(&set->deadline_ms, freezing->result->deadline_ms);
    request->step(request->context, "waiting for", "the thaw guard");
    if (!error)
        error = arm_guard(freezing);
    if (!error)
        error = write_record(freezing);
    return error;
}

/* --- the freeze --- */

static int freeze_member(struct freezing *freezing, const struct member *member)
{
    const struct freeze_request *request = freezing->request;
    int error = check(freezing);
    if (!error && freeze_set_armed_guard(freezing->set) &&
        guard_link_has_fired(freezing->set->guard))
        error = fail(freezing, -ETIMEDOUT, "the freeze timeout passed before all was frozen");
    if (error)
        return error;
    request->step(request->context, "freezing", member->point);
    while (ioctl(member->fd, FIFREEZE, 0) < 0) {
        if (errno == EINTR) {
            error = check(freezing);
            if (error)
                return error;
            continue;
        }
        /* As the classic agent: kinds that cannot be frozen are left out, and what somebody else
         * has frozen already is as frozen as it is to be. */
        if (errno == EOPNOTSUPP || errno == ENOTTY)
            log_info("%s is not frozen: its kind of file system cannot be", member->point);
        else if (errno == EBUSY)
            log_warning("%s was frozen by somebody else", member->point);
        else
            return fail_errno(freezing, -errno, "failed to freeze", member->point);
        return 0;
    }
    freezing->result->count++;
    return 0;
}

/* Returns whether nothing of the set is frozen any more; else the reason says so, too. */
static bool check_roll_back(struct freezing *freezing)
{
    struct thaw_crew *crew = freezing->set->crew;
    char system[128], *reason = freezing->result->reason;
    const char *point = NULL;
    if (thaw_crew_error(crew, &point) == 0)
        return true;
    (void)thaw_crew_retry(crew);
    int error = thaw_crew_error(crew, &point);
    if (error == 0)
        return true;
    size_t length = strlen(reason);
    snprintf(reason + length, FREEZE_REASON_MAX - length, "; and failed to thaw %s: %s",
             point ? point : "a file system", strerror_r(error, system, sizeof(system)));
    return false;
}

/*
 * Everything that was frozen so far is thawed; what hangs is left to its thread and the guard. One
 * that a thaw stopped is cleared by that.
 */
static void roll_back(struct freezing *freezing)
{
    struct freeze_set *set = freezing->set;
    /* What somebody else had frozen before is not undone by a freeze that took nothing. */
    if (set->crew && freezing->result->error) {
        thaw_crew_begin(set->crew);
        thaw_crew_settle(set->crew);
        while (!thaw_crew_wait(set->crew, ROLL_BACK_LOOK_MS)) {
            if (freeze_set_is_stopped(set))
                return;
            log_warning("the failed freeze is not thawed yet");
        }
        /* One that took nothing has left nothing, though it may not be allowed to thaw either. */
        freezing->result->is_stuck = freezing->result->count > 0 && !check_roll_back(freezing);
    }
    if (freezing->result->is_stuck)
        return; /* guard and record stay */
    if (!freeze_set_is_stopped(set)) {
        freeze_set_let_go(set, freezing->result->error != 0);
        freezing->result->is_cleared = true;
    }
}

void freeze_set_freeze(struct freeze_set *set, const struct freeze_request *request,
                       struct freeze_result *ret_result)
{
    struct freezing freezing = {.set = set, .request = request, .result = ret_result};
    *ret_result = (struct freeze_result){.count = 0};
    int error = get_ready(&freezing);
    if (!error)
        freeze_set_enter_frozen();
    for (size_t i = 0; i < set->count && !error; i++)
        error = freeze_member(&freezing, &set->members[i]);
    if (!error)
        error = check(&freezing);
    set_returned(set);
    if (freeze_set_armed_guard(set))
        guard_link_settled(set->guard);
    if (error || ret_result->count == 0)
        roll_back(&freezing);
}
