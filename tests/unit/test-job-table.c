/* SPDX-License-Identifier: MIT */
/*
 * The job table: what is kept, for how long, what goes when it is full, and when it refuses. Jobs
 * are of a kind made for the test, the time is the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/settings.h"
#include "jobs/job-table.h"

struct fake_job {
    struct job job;
    uint64_t held_bytes;
};

static struct settings settings;
static struct job_table *table;
static unsigned forgotten_count, freed_count;
static uint64_t last_forgotten;
static uint64_t known_by_the_last; /* the id of a job that nobody knows without it */

static void forgotten(struct job *job)
{
    forgotten_count++;
    last_forgotten = job->id;
    struct job *other = job_table_find(table, known_by_the_last);
    known_by_the_last = 0;
    if (other)
        job_table_abandon(table, other);
}

static void free_job(struct job *job)
{
    freed_count++;
    free(list_entry(job, struct fake_job, job));
}

static uint64_t held_bytes(const struct job *job)
{
    return list_entry(job, const struct fake_job, job)->held_bytes;
}

static const struct job_kind fake_kind = {
    .name = "fake", .forgotten = forgotten, .free = free_job, .held_bytes = held_bytes};

static struct job *add(uint64_t id)
{
    struct fake_job *fake = calloc(1, sizeof(*fake));
    fake->job.kind = &fake_kind;
    job_ref(&fake->job);
    assert_int_equal(job_table_add_take(table, &fake->job, id), 0);
    return &fake->job;
}

static struct job *add_done(uint64_t finished_ms, uint64_t bytes)
{
    struct job *job = add(0);
    job_table_finish(table, job, JOB_DONE, finished_ms, bytes);
    return job;
}

static int admit(uint64_t output_bytes, uint64_t input_bytes)
{
    struct job_demand demand = {.output_bytes = output_bytes, .input_bytes = input_bytes};
    char reason[JOB_REASON_MAX] = "";
    int error = job_table_admit(table, &demand, reason);
    assert_true((error == 0) == (reason[0] == '\0'));
    return error;
}

static int setup(void **state)
{
    settings_init(&settings);
    settings.exec_running = 3;
    settings.exec_kept = 4;
    settings.exec_output_bytes = 1000;
    settings.exec_retention_s = 10;
    forgotten_count = freed_count = 0;
    known_by_the_last = 0;
    table = job_table_new(NULL, &settings);
    return table ? 0 : -1;
}

static int teardown(void **state)
{
    table = job_table_free(table);
    settings_deinit(&settings);
    return 0;
}

static void test_jobs_are_found_by_id_and_pid(void **state)
{
    struct job *first = add(0), *second = add(0);
    assert_true(first->id != 0 && second->id != first->id);
    assert_ptr_equal(job_table_find(table, first->id), first);
    assert_null(job_table_find(table, 12345));
    assert_null(job_table_find_pid(table, 0));

    assert_int_equal(job_table_set_pid(table, first, 100), 0);
    assert_int_equal(job_table_set_pid(table, second, 100), -EEXIST);
    assert_int_equal(job_table_set_pid(table, second, 0), -EEXIST);
    assert_int_equal(job_table_set_pid(table, second, 101), 0);
    assert_ptr_equal(job_table_find_pid(table, 100), first);
    assert_ptr_equal(job_table_find_pid(table, 101), second);
    assert_null(job_table_find_pid(table, -100));
    /* What a client asks for has 64 bits. */
    assert_null(job_table_find_pid(table, (INT64_C(1) << 32) + 100));

    job_table_forget(table, first);
    assert_null(job_table_find_pid(table, 100));
    assert_int_equal(freed_count, 1);
    assert_int_equal(job_table_set_pid(table, second, 100), -EEXIST); /* it has one */
    assert_int_equal(job_table_set_pid(table, add(0), 100), 0);       /* which is free again */
}

static void test_an_id_of_an_earlier_agent_is_kept_if_it_is_free(void **state)
{
    assert_int_equal(add(40)->id, 40);
    assert_int_equal(add(40)->id, 41);
    assert_int_equal(add(7)->id, 7);
    assert_int_equal(add(0)->id, 42);
}

static void test_a_result_stays_until_it_was_seen(void **state)
{
    struct job *job = add_done(1, 100);
    uint64_t id = job->id;
    job_table_answered(table, job);
    assert_ptr_equal(job_table_find(table, id), job);
    job_table_seen(table, job);
    assert_null(job_table_find(table, id));
    assert_int_equal(forgotten_count, 1);
    struct job_counts counts = job_table_counts(table);
    assert_int_equal(counts.seen, 1);
    assert_int_equal(counts.kept, 0);

    /* That it runs may be seen as often as one likes. */
    job = add(0);
    job_table_answered(table, job);
    job_table_seen(table, job);
    assert_ptr_equal(job_table_find(table, job->id), job);
}

static void test_results_expire(void **state)
{
    struct job *second = add_done(2000, 1);
    struct job *first = add_done(1000, 1); /* found late: a broker of an earlier agent had it */
    uint64_t first_id = first->id;
    add(0);
    assert_int_equal(job_table_expire(table, 0), 11000);
    assert_int_equal(job_table_expire(table, 10999), 11000);
    assert_int_equal(job_table_expire(table, 11000), 12000);
    assert_null(job_table_find(table, first_id));
    assert_ptr_equal(job_table_find(table, second->id), second);
    assert_true(job_table_expire(table, 12000) == UINT64_MAX);
    struct job_counts counts = job_table_counts(table);
    assert_int_equal(counts.expired, 2);
    assert_int_equal(counts.running, 1);
}

/* As of a program that was started by a job: its pid is told by that job alone. */
static void test_a_job_that_expires_takes_along_what_only_it_knew(void **state)
{
    add_done(1000, 1);
    known_by_the_last = add_done(1000, 1)->id;
    add_done(1001, 1);
    assert_int_equal(job_table_expire(table, 11000), 11001);
    assert_int_equal(forgotten_count, 2);
    assert_int_equal(freed_count, 2);
    assert_int_equal(job_table_counts(table).kept, 1);
}

static void test_a_table_that_ends_takes_along_what_only_its_jobs_knew(void **state)
{
    struct job_table *ending = table;
    add_done(1000, 1);
    known_by_the_last = add_done(1000, 1)->id;
    add(0);
    job_table_free(ending);
    assert_int_equal(freed_count, 3);
    table = job_table_new(NULL, &settings);
}

static void test_a_reference_outlives_the_table(void **state)
{
    struct job *job = add_done(1, 5);
    job_ref(job);
    job_table_seen(table, job);
    assert_int_equal(forgotten_count, 1);
    assert_int_equal(freed_count, 0);
    assert_true(job_is_over(job));
    /* Whatever is still told of it does nothing more. */
    job_table_seen(table, job);
    job_table_answered(table, job);
    job_table_abandon(table, job);
    job_table_finish(table, job, JOB_DONE, 1, 5);
    assert_int_equal(job_table_counts(table).seen, 1);
    assert_null(job_unref(job));
    assert_int_equal(freed_count, 1);
}

static void test_an_abandoned_job_goes_when_it_is_over(void **state)
{
    struct job *running = add(0);
    job_table_abandon(table, running);
    assert_int_equal(job_table_counts(table).running, 1);
    job_table_finish(table, running, JOB_DONE, 1, 5);
    assert_int_equal(freed_count, 1);
    job_table_abandon(table, add_done(1, 5));
    assert_int_equal(freed_count, 2);
    assert_int_equal(job_table_counts(table).kept, 0);
}

static void test_running_jobs_are_limited(void **state)
{
    struct job *job = add(0);
    add(0);
    assert_int_equal(admit(0, 0), 0);
    add(0);
    assert_int_equal(admit(0, 0), -EBUSY);
    job_table_finish(table, job, JOB_DONE, 1, 0);
    assert_int_equal(admit(0, 0), 0);
}

static void test_kept_results_are_limited(void **state)
{
    struct job *jobs[4];
    for (size_t i = 0; i < 4; i++)
        jobs[i] = add_done(1000 + i, 0);
    uint64_t ids[4];
    for (size_t i = 0; i < 4; i++)
        ids[i] = jobs[i]->id;
    /* Nobody has asked for any of them: nothing may go. */
    assert_int_equal(admit(0, 0), -EBUSY);
    assert_int_equal(forgotten_count, 0);
    /* Answered last is kept longest. */
    job_table_answered(table, jobs[2]);
    job_table_answered(table, jobs[1]);
    job_table_answered(table, jobs[2]);
    assert_int_equal(admit(0, 0), 0);
    assert_int_equal(forgotten_count, 1);
    assert_int_equal(last_forgotten, ids[1]);
    add_done(2000, 0);
    assert_int_equal(admit(0, 0), 0);
    assert_int_equal(last_forgotten, ids[2]);
    add_done(2000, 0);
    assert_int_equal(admit(0, 0), -EBUSY);
    assert_int_equal(job_table_counts(table).evicted, 2);
}

/* Plain requests that are jobs ask for no place. */
static void test_what_was_answered_goes_at_once_where_too_much_is_kept(void **state)
{
    for (uint64_t i = 0; i < 100; i++)
        job_table_answered(table, add_done(1000 + i, 300));
    assert_int_equal(job_table_counts(table).kept, 3); /* 1000 bytes may be kept */
    for (uint64_t i = 0; i < 100; i++)
        job_table_answered(table, add_done(2000 + i, 0));
    assert_int_equal(job_table_counts(table).kept, 4);
    assert_int_equal(job_table_counts(table).evicted, 196);
    /* What nobody was told stays. */
    struct job *untold[6];
    for (size_t i = 0; i < 6; i++)
        untold[i] = add_done(3000, 0);
    assert_int_equal(job_table_counts(table).kept, 10);
    /* So does what was just answered: the answer may get lost. */
    job_table_answered(table, untold[5]);
    assert_int_equal(job_table_counts(table).kept, 6);
    assert_ptr_equal(job_table_find(table, untold[5]->id), untold[5]);
}

static void test_output_is_limited(void **state)
{
    struct job *first = add_done(1000, 400), *second = add_done(1001, 300);
    uint64_t first_id = first->id;
    job_table_answered(table, first);
    job_table_answered(table, second);
    /* It fits: nothing goes. */
    assert_int_equal(admit(300, 0), 0);
    assert_int_equal(forgotten_count, 0);
    /* It fits without the first. */
    assert_int_equal(admit(400, 0), 0);
    assert_int_equal(forgotten_count, 1);
    assert_int_equal(last_forgotten, first_id);

    /* What nobody was told stays, and what runs counts; a new one has what is left of the room. */
    add_done(1002, 500);
    struct job *running = add(0);
    list_entry(running, struct fake_job, job)->held_bytes = 499;
    assert_int_equal(admit(400, 0), 0);
    assert_int_equal(forgotten_count, 2);
    assert_int_equal(job_table_counts(table).kept, 1);
    /* Without any room there is no sense in running it, unless its output is not wanted. */
    list_entry(running, struct fake_job, job)->held_bytes = 500;
    assert_int_equal(admit(400, 0), -EBUSY);
    assert_int_equal(admit(0, 0), 0);
}

static void test_waiting_input_is_limited(void **state)
{
    struct job *job = add(0);
    job->waiting_bytes = 600;
    assert_int_equal(admit(0, 400), 0);
    assert_int_equal(admit(0, 401), -EBUSY);
    assert_int_equal(admit(0, 1001), -EBUSY);
    assert_int_equal(admit(0, UINT64_MAX), -EBUSY);
    job->waiting_bytes = 0;
    assert_int_equal(admit(0, 1000), 0);
}

static void test_the_timer_forgets_by_itself(void **state)
{
    struct event_base *base = event_base_new();
    settings.exec_retention_s = 1;
    struct job_table *timed = job_table_new(base, &settings);
    struct job_table *saved = table;
    table = timed;
    add_done(clock_now_ms() - 1000, 0);
    add_done(clock_now_ms() - 990, 0);
    struct job *running = add(0);
    /* The loop has nothing to do but this: it returns when no timer is left. */
    assert_int_equal(event_base_dispatch(base), 1);
    assert_int_equal(forgotten_count, 2);
    assert_int_equal(job_table_counts(table).expired, 2);
    assert_ptr_equal(job_table_find(table, running->id), running);
    table = saved;
    job_table_free(timed);
    event_base_free(base);
    assert_int_equal(freed_count, 3);
}

static void test_a_queued_job_begins(void **state)
{
    struct fake_job *fake = calloc(1, sizeof(*fake));
    fake->job.kind = &fake_kind;
    job_ref(&fake->job);
    assert_int_equal(job_table_queue_take(table, &fake->job, 0), 0);
    assert_int_equal(fake->job.state, JOB_QUEUED);
    assert_false(job_is_over(&fake->job));
    assert_int_equal(job_table_counts(table).running, 1);
    job_table_begin(table, &fake->job);
    assert_int_equal(fake->job.state, JOB_RUNNING);
    job_table_finish(table, &fake->job, JOB_DONE, 1, 0);
    job_table_begin(table, &fake->job);
    assert_int_equal(fake->job.state, JOB_DONE);
}

static void test_ids_start_where_no_earlier_agent_came_to(void **state)
{
    job_table_start_ids(table, 5000);
    assert_int_equal(add(0)->id, 5000);
    assert_int_equal(add(40)->id, 40);
    assert_int_equal(add(0)->id, 5001);
    assert_int_equal(add(9000)->id, 9000);
    job_table_start_ids(table, 7);
    assert_int_equal(add(0)->id, 9001);
}

static void test_room_for_results(void **state)
{
    struct job *told = add_done(1, 600), *untold = add_done(2, 300);
    assert_true(job_table_make_room(table, 100));
    assert_int_equal(forgotten_count, 0);
    job_table_answered(table, told);
    assert_true(job_table_make_room(table, 101));
    assert_int_equal(last_forgotten, 1);
    assert_true(job_table_make_room(table, 700));
    assert_false(job_table_make_room(table, 701));
    assert_false(job_table_make_room(table, 1001));
    assert_ptr_equal(job_table_find(table, 2), untold);
}

static void note_id(struct job *job, void *context)
{
    char *ids = context;
    ids[strlen(ids)] = (char)('0' + job->id);
}

static void test_all_jobs_in_their_order(void **state)
{
    char ids[8] = "";
    struct job *first = add(0), *second = add(0);
    add(0);
    add_done(5, 0);
    job_table_finish(table, second, JOB_DONE, 9, 0);
    job_table_finish(table, first, JOB_LOST, 10, 0);
    job_table_for_each(table, note_id, ids);
    assert_string_equal(ids, "3421");
}

static unsigned times_up;

static void time_up(struct job *job)
{
    times_up++;
    job_table_finish(table, job, JOB_DONE, clock_now_ms(), 0);
}

static void test_timers_of_jobs(void **state)
{
    struct event_base *base = event_base_new();
    struct job_table *timed = job_table_new(base, &settings), *saved = table;
    table = timed;
    times_up = 0;
    struct job *first = add(0), *second = add(0), *third = add(0), *fourth = add(0);
    assert_int_equal(job_table_set_timer(table, first, 1, time_up), 0);
    assert_int_equal(job_table_set_timer(table, first, 2, time_up), 0); /* instead */
    assert_int_equal(job_table_set_timer(table, second, 1, time_up), 0);
    assert_int_equal(job_table_set_timer(table, third, 1, time_up), 0);
    assert_int_equal(job_table_set_timer(table, fourth, 1000000, time_up), 0);
    job_table_finish(table, second, JOB_DONE, clock_now_ms(), 0);
    assert_int_equal(job_table_set_timer(table, second, 1, time_up), 0); /* it is over */
    job_table_forget(table, third);
    while (!job_is_over(first))
        event_base_loop(base, EVLOOP_ONCE);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(times_up, 1);
    table = saved;
    job_table_free(timed); /* with the last one's timer */
    event_base_free(base);
    assert_int_equal(freed_count, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_jobs_are_found_by_id_and_pid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_id_of_an_earlier_agent_is_kept_if_it_is_free, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_result_stays_until_it_was_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_results_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_job_that_expires_takes_along_what_only_it_knew,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_table_that_ends_takes_along_what_only_its_jobs_knew,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reference_outlives_the_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_abandoned_job_goes_when_it_is_over, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_running_jobs_are_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_results_are_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_answered_goes_at_once_where_too_much_is_kept,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_output_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_input_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_timer_forgets_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_queued_job_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_start_where_no_earlier_agent_came_to, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_room_for_results, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_jobs_in_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers_of_jobs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
