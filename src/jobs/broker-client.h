/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_CLIENT_H
#define BELLHOP_JOBS_BROKER_CLIENT_H

/*
 * The agent's way to its broker, and to those that earlier agents left running. Programs are jobs
 * in the job table from the moment they are asked for. Nothing here waits for a broker, but for
 * broker_client_adopt() at the start. The I/O thread's alone.
 */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "jobs/broker-payload.h"
#include "jobs/exec-job.h"
#include "jobs/job-table.h"

struct broker_client;
struct broker_process;
struct event_base;

/*
 * Takes what is in `process`. Jobs go to `jobs`, which must outlive the client. `state_directory`
 * is copied. Returns NULL if there is no memory.
 */
struct broker_client *broker_client_new_take(struct event_base *base, struct job_table *jobs,
                                             const char *state_directory,
                                             struct broker_process *process) ON_LOOP;

/*
 * Ends the connections; to be called before job_table_free(). Programs and results stay with their
 * brokers for the next agent. Whoever waits for a start or an end is not told any more. Returns NULL.
 */
struct broker_client *broker_client_free(struct broker_client *client) ON_LOOP;

/* Has `lost` called, once, when the own broker is gone: no program can be run from then on. */
void broker_client_on_lost(struct broker_client *client, void (*lost)(void *context),
                           void *context) ON_LOOP;

/*
 * Finds the brokers of earlier agents and enters their jobs into the table; removes the sockets of
 * those that are no more. To be called once, before anybody is served. Waits for at most
 * `timeout_ms`; one that answers later is taken over later.
 */
void broker_client_adopt(struct broker_client *client, unsigned timeout_ms) ON_LOOP;

/*
 * Has a program started. Takes the payload's contents in any case.
 * Returns 0, and `started` will be called, once; or -errno with the reason, for the client: a limit
 * (-EBUSY), the broker is gone (-EPIPE), no memory.
 */
int broker_client_spawn_take(struct broker_client *client, struct spawn_payload *payload,
                             exec_started started, void *context, struct exec_job **ret_job,
                             char ret_reason[JOB_REASON_MAX]) ON_LOOP MUST_CHECK;

/*
 * Runs one of the system's programs for the agent itself. No client can ask for its status, and it
 * is not refused for what clients run. Takes the payload's contents in any case.
 * Returns 0, and `ended` will be called, once; or -errno with the reason.
 */
int broker_client_run_take(struct broker_client *client, struct spawn_payload *payload,
                           exec_ended ended, void *context,
                           char ret_reason[JOB_REASON_MAX]) ON_LOOP MUST_CHECK;

/*
 * Kills the program that broker_client_run_take() started with this context, and all of its process
 * group; `ended` will be called as for any other end. Returns 0; -ESRCH if there is none; or -errno.
 */
int broker_client_kill(struct broker_client *client, const void *context) ON_LOOP MUST_CHECK;

/* broker_client_run_take() that says which job it is, to be signalled until `ended` is called. */
int broker_client_run_job_take(struct broker_client *client, struct spawn_payload *payload,
                               exec_ended ended, void *context, struct exec_job **ret_job,
                               char ret_reason[JOB_REASON_MAX]) ON_LOOP MUST_CHECK;

/*
 * Gives a running program more of its standard input, of a memory as broker_memory_seal() leaves it:
 * its first `length` bytes, or none and -1. After the last one its input ends. The descriptor is
 * taken. Returns 0; -ESRCH: no broker has it; -EPROTONOSUPPORT: its broker is too old; or -errno.
 * Whether it takes input, and how much of it, is told by the job.
 */
int broker_client_input_take(struct broker_client *client, struct exec_job *job, int memory_fd,
                             uint64_t length, bool is_last) ON_LOOP MUST_CHECK;

/* Sends SIGTERM or SIGKILL to a program, or to its whole process group. 0; -ESRCH; or -errno. */
int broker_client_signal(struct broker_client *client, struct exec_job *job, int number,
                         bool to_group) ON_LOOP MUST_CHECK;

#endif
