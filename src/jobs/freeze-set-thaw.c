/* SPDX-License-Identifier: MIT */
#include "jobs/freeze-set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mount-table.h"
#include "base/sysroot.h"
#include "base/thaw-crew.h"
#include "jobs/freeze-record.h"
#include "jobs/freeze-set-internal.h"
#include "jobs/guard-link.h"
#include "jobs/guard-protocol.h"
#include "security/capabilities.h"
#include "security/privileges.h"

/* How long the log may take with the line that it is writing. */
enum { LOG_HOLD_MS = 500 };

/* How long a thaw waits for what it did not freeze itself, once its own is thawed. */
enum { OTHERS_MS = 5 * 1000 };

/* --- what the agent does with itself --- */

/* What is in memory stays there: to read it again may take a disk that waits for the thaw. */
void freeze_set_enter_frozen(void)
{
    if (!log_hold(LOG_HOLD_MS))
        log_warning("the log hangs");
    if (mlockall(MCL_CURRENT) < 0)
        log_warning("the agent's memory could not be locked: %s", strerror(errno));
}

static void leave_frozen(void)
{
    munlockall();
    log_release();
}

/*
 * Whether the guard is to look once more. Not if this set's own crew has thawed everything by the
 * same descriptors: a guard that is slow could do it after the next freeze has begun.
 */
static bool needs_guard(struct freeze_set *set)
{
    const char *point;
    return !set->crew || !thaw_crew_has_begun(set->crew) || !thaw_crew_wait(set->crew, 0) ||
           thaw_crew_error(set->crew, &point) != 0;
}

void freeze_set_let_go(struct freeze_set *set, bool was_frozen)
{
    if (freeze_set_armed_guard(set))
        guard_link_done(set->guard, was_frozen && needs_guard(set));
    if (set->directory >= 0)
        (void)!freeze_record_remove(set->directory);
    leave_frozen();
}

void freeze_set_clear(struct freeze_set *set, enum freeze_record_state breach)
{
    assert_on_loop();
    struct freeze_record record = {.state = breach};
    if (freeze_set_armed_guard(set))
        guard_link_done_on_loop(set->guard, needs_guard(set));
    leave_frozen();
    if (set->directory < 0)
        return;
    int error = breach == FREEZE_RECORD_NONE ? freeze_record_remove(set->directory)
                                             : freeze_record_write(set->directory, &record);
    if (error)
        log_warning("the note of the freeze could not be changed: %s", strerror(-error));
}

/* --- thawing --- */

/* Waits until nobody freezes any more, or `until_ms`. */
static bool wait_for_return(struct freeze_set *set, uint64_t until_ms)
{
    pthread_mutex_lock(&set->lock);
    uint64_t now_ms;
    while (!set->has_returned && (now_ms = clock_now_ms()) < until_ms) {
        struct timespec until = {
            .tv_sec = (time_t)(until_ms / 1000),
            .tv_nsec = (long)(until_ms % 1000) * 1000000,
        };
        pthread_cond_timedwait(&set->changed, &set->lock, &until);
    }
    bool has_returned = set->has_returned;
    pthread_mutex_unlock(&set->lock);
    return has_returned;
}

/* A crew for every file system that a path leads to. Without memory for it, this thread does. */
static struct thaw_crew *new_crew_of_others(void)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    if (mount_table_load(&table) < 0)
        return NULL;
    struct thaw_target *targets = calloc(table.superblock_count + 1, sizeof(*targets));
    struct thaw_crew *crew = NULL;
    size_t count = 0;
    for (size_t i = 0; targets && i < table.superblock_count; i++) {
        const struct mount *mount = &table.mounts[table.superblocks[i].mount];
        if (!mount_is_on_disk(mount) || !mount->is_reachable)
            continue;
        targets[count].fd = -1;
        if (asprintf(&targets[count].path, "%s%s", sysroot_prefix(), mount->point) >= 0)
            count++;
    }
    if (targets && thaw_crew_new_take(targets, count, &crew) < 0)
        for (size_t i = 0; i < count; i++)
            free(targets[i].path);
    free(targets);
    return crew;
}

static void begin_thaw(struct freeze_set *set)
{
    freeze_set_stop(set);
    pthread_mutex_lock(&set->lock);
    struct thaw_crew *crew = set->crew;
    pthread_mutex_unlock(&set->lock);
    if (crew)
        thaw_crew_begin(crew);
    /* Before the freeze has returned: it may hang because of what somebody else has frozen. */
    if (!set->others)
        set->others = new_crew_of_others();
    if (set->others)
        thaw_crew_begin(set->others);
}

/* Once nobody freezes any more. The crew may be newer than the thaw's beginning. */
static void settle_thaw(struct freeze_set *set)
{
    pthread_mutex_lock(&set->lock);
    struct thaw_crew *crew = set->crew;
    pthread_mutex_unlock(&set->lock);
    if (crew) {
        thaw_crew_begin(crew);
        thaw_crew_settle(crew);
    }
    if (set->others)
        thaw_crew_settle(set->others);
}

struct thawing {
    struct freeze_set *set;
    const struct thaw_request *request;
    struct thaw_result *result;
    uint64_t until_ms;
};

static bool is_over(const struct thawing *thawing)
{
    const struct thaw_request *request = thawing->request;
    return clock_now_ms() >= thawing->until_ms ||
           (request->is_interrupted && request->is_interrupted(request->context));
}

static bool wait_for_crew(const struct thawing *thawing, struct thaw_crew *crew, uint64_t until_ms)
{
    while (crew && !thaw_crew_wait(crew, FREEZE_LOOK_MS))
        if (is_over(thawing) || clock_now_ms() >= until_ms)
            return false;
    return true;
}

static void fail_thaw(struct thawing *thawing, struct thaw_crew *crew, const char *what)
{
    const char *point = NULL;
    if (crew)
        thaw_crew_find_stuck(crew, &point);
    thawing->result->error = -ETIMEDOUT;
    snprintf(thawing->result->reason, FREEZE_REASON_MAX, "%s: %s", what,
             point ? point : "a file system");
}

/* What could not even be opened, or was refused, may be frozen. */
static void check_others(struct thawing *thawing)
{
    struct thaw_crew *others = thawing->set->others;
    const char *point = NULL;
    int error = others ? thaw_crew_error(others, &point) : ENOMEM;
    if (error == 0)
        return;
    struct thaw_result *result = thawing->result;
    char system[128];
    const char *text = strerror_r(error, system, sizeof(system));
    if (!thawing->request->is_required || thawing->set->crew) {
        log_info("thaw: %s could not be looked at: %s", point ? point : "the mount table", text);
        return;
    }
    result->error = -error;
    snprintf(result->reason, FREEZE_REASON_MAX, "failed to thaw %s: %s",
             point ? point : "the file systems", text);
}

/* False if one of the set's own is still frozen; each thaw tries that again. */
static bool check_own(struct thawing *thawing)
{
    struct thaw_crew *crew = thawing->set->crew;
    struct thaw_result *result = thawing->result;
    const char *point = NULL;
    char system[128];
    if (!crew || thaw_crew_error(crew, &point) == 0)
        return true;
    (void)thaw_crew_retry(crew);
    int error = thaw_crew_error(crew, &point);
    if (error == 0)
        return true;
    result->error = -error;
    snprintf(result->reason, FREEZE_REASON_MAX, "failed to thaw %s: %s",
             point ? point : "a file system", strerror_r(error, system, sizeof(system)));
    return false;
}

static void wait_for_all(struct thawing *thawing)
{
    struct freeze_set *set = thawing->set;
    bool has_returned;
    while (!(has_returned = wait_for_return(set, clock_now_ms() + FREEZE_LOOK_MS)) &&
           !is_over(thawing))
        ;
    if (!has_returned) {
        fail_thaw(thawing, set->crew,
                  "the freeze hangs in the kernel, and is thawed as soon as it comes back");
        return;
    }
    settle_thaw(set);
    if (!wait_for_crew(thawing, set->crew, UINT64_MAX)) {
        fail_thaw(thawing, set->crew, "the thaw does not come to its end");
        return;
    }
    if (!check_own(thawing))
        return;
    /* With a crew of its own, what others froze is a courtesy. */
    uint64_t patience_ms = set->crew ? clock_now_ms() + OTHERS_MS : UINT64_MAX;
    if (!wait_for_crew(thawing, set->others, patience_ms)) {
        const char *point = NULL;
        thaw_crew_find_stuck(set->others, &point);
        if (set->crew || !thawing->request->is_required)
            log_warning("thaw: %s does not answer", point ? point : "a file system");
        else
            fail_thaw(thawing, set->others, "the thaw does not come to its end");
        return;
    }
    check_others(thawing);
}

void freeze_set_thaw(struct freeze_set *set, const struct thaw_request *request,
                     struct thaw_result *ret_result)
{
    struct thawing thawing = {
        .set = set,
        .request = request,
        .result = ret_result,
        .until_ms = clock_now_ms() + request->timeout_ms,
    };
    *ret_result = (struct thaw_result){.count = 0};
    /* Nothing may come between: what is claimed is thawed. */
    struct guard_link *guard = freeze_set_armed_guard(set);
    if (guard) {
        struct guard_news news = guard_link_claim(guard);
        /* One that is gone may have fired before, and nobody can tell any more. */
        uint64_t deadline_ms = atomic_load(&set->deadline_ms);
        ret_result->has_fired =
            news.has_fired || (news.is_gone && deadline_ms > 0 && guard_clock_ms() >= deadline_ms);
        ret_result->is_incomplete = news.is_incomplete;
    }
    begin_thaw(set);
    wait_for_all(&thawing);
    if (set->crew)
        ret_result->count += thaw_crew_thawed(set->crew);
    if (set->others)
        ret_result->count += thaw_crew_thawed(set->others);
    if (ret_result->error)
        return;
    freeze_set_let_go(set, true);
}

/* --- without waiting --- */

/* The loop has none of what a thaw takes in force; the threads that it starts here inherit that. */
static const struct capability_need thaw_needs[] = {
    {CAP_SYS_ADMIN, "thaw file systems (FITHAW)"},
    {CAP_DAC_READ_SEARCH, "open mount points, whoever may look into them"},
    CAPABILITY_NEEDS_END,
};

void freeze_set_begin_thaw(struct freeze_set *set)
{
    assert_on_loop();
    privileges_enter(thaw_needs);
    begin_thaw(set);
    privileges_leave();
}

/* What others froze is a courtesy here, too: only a set without a crew needs it. */
bool freeze_set_has_thawed(struct freeze_set *set)
{
    assert_on_loop();
    if (!wait_for_return(set, 0))
        return false;
    settle_thaw(set);
    const char *point;
    if (set->crew) /* what could not be thawed is not; it is left to the guard, and the next thaw */
        return thaw_crew_wait(set->crew, 0) && thaw_crew_error(set->crew, &point) == 0;
    if (set->others)
        return thaw_crew_wait(set->others, 0);
    freeze_set_begin_thaw(set); /* there was no memory */
    return false;
}
