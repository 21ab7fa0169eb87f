/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_PROTOCOL_H
#define BELLHOP_JOBS_BROKER_PROTOCOL_H

/*
 * What the agent and its broker say to each other, over SOCK_SEQPACKET, one struct a packet, in the
 * machine's own byte order.
 *
 * Both sides begin with a hello, whose layout never changes: an agent may meet a broker that an
 * older bellhop left behind. The agent's hello names the versions that it speaks, the broker's the
 * one version that it speaks; who cannot go on with that closes the connection. After the hellos
 * every packet is a struct broker_message of that version, of exactly its size.
 *
 *     agent                                broker
 *     HELLO                       ──▶
 *                                 ◀──      HELLO
 *     SPAWN job (+ payload)       ──▶
 *                                 ◀──      SPAWNED job    or    SPAWN_FAILED job
 *                                 ◀──      OUTPUT job, stream (+ its memory), at its first byte
 *                                 ◀──      INPUT_DONE job
 *                                 ◀──      EXITED job
 *     RELEASE job                 ──▶      (at any time after SPAWN; forgets it once it has ended)
 *     SIGNAL job                  ──▶
 *     RESERVE_PID, UNRESERVE_PID  ──▶
 *     LIST                        ──▶
 *                                 ◀──      JOB … (+ the memory of its output), LIST_END
 *                                 ◀──      LOG, at any time
 *
 * Neither side trusts what it receives: a packet of another size, an unknown type, a number out of
 * its range, the wrong number of descriptors, a job that does not exist or is in another state is
 * reported and passed over.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define BROKER_PROTOCOL_VERSION 1
#define BROKER_HELLO_MAGIC      0x62686c6fu
#define BROKER_FDS_MAX          2        /* descriptors that go with one packet */
#define BROKER_FDS_LOST         SIZE_MAX /* in place of their count: the receiver could not hold them */
#define BROKER_STREAMS          2 /* what is read from a program: standard output, standard error */
#define BROKER_LOG_TEXT         256

enum broker_hello_flags {
    BROKER_IS_RETIRED = 1 << 0, /* its first agent is gone: it accepts no spawn any more */
};

/* The first packet of each side. Never to be changed. */
struct broker_hello {
    uint32_t magic;
    uint32_t version_min; /* the broker names its one version in both */
    uint32_t version_max;
    uint32_t flags;
    int32_t pid;
    uint32_t reserved[3]; /* sent as 0, not looked at */
};

enum broker_type {
    BROKER_SPAWN = 1,
    BROKER_RELEASE,
    BROKER_SIGNAL,
    BROKER_RESERVE_PID,
    BROKER_UNRESERVE_PID,
    BROKER_LIST,

    BROKER_SPAWNED = 64,
    BROKER_SPAWN_FAILED,
    BROKER_OUTPUT,
    BROKER_INPUT_DONE,
    BROKER_EXITED,
    BROKER_JOB,
    BROKER_LIST_END,
    BROKER_LOG,
};

/* What is kept of a program's output. */
enum broker_capture {
    BROKER_CAPTURE_NONE,
    BROKER_CAPTURE_STDOUT,
    BROKER_CAPTURE_STDERR,
    BROKER_CAPTURE_SEPARATED,
    BROKER_CAPTURE_MERGED, /* both in the first stream, in the order written */
    BROKER_CAPTURE_COUNT,
};

enum broker_job_state {
    BROKER_JOB_STARTING, /* forked; its exec has not returned, and on a dead mount may never do */
    BROKER_JOB_RUNNING,
    BROKER_JOB_DONE, /* has ended, and its result is complete */
    BROKER_JOB_STATE_COUNT,
};

/* Where a program's start failed. */
enum broker_stage {
    BROKER_STAGE_ACCEPT, /* the broker takes no programs, or has no memory or descriptors */
    BROKER_STAGE_FORK,
    BROKER_STAGE_SETUP, /* in the child, before the exec */
    BROKER_STAGE_EXEC,
    BROKER_STAGE_COUNT,
};

struct broker_stream_facts {
    uint64_t size_bytes; /* kept of it; more was dropped if it is truncated */
    uint8_t is_present;  /* it has had at least one byte that was kept: there is memory for it */
    uint8_t is_truncated;
    uint8_t reserved[6];
};

/* All there is to know of a job: SPAWNED, EXITED, JOB. */
struct broker_facts {
    int32_t pid;          /* 0 while it is starting */
    uint32_t state;       /* enum broker_job_state */
    uint32_t capture;     /* enum broker_capture */
    int32_t wait_status;  /* as waitpid() has it, once it is done */
    uint64_t started_ms;  /* CLOCK_MONOTONIC, which all processes share */
    uint64_t finished_ms; /* 0 until it is done */
    int64_t started_unix_ms;
    uint64_t input_left_bytes; /* not yet taken by the program */
    struct broker_stream_facts streams[BROKER_STREAMS];
};

struct broker_message {
    uint32_t type;
    uint32_t reserved;
    uint64_t job; /* the number that the agent gave it; 0 where no job is meant */
    union {
        struct broker_facts facts; /* SPAWNED, EXITED, JOB */
        struct {
            int32_t error;  /* a positive errno */
            uint32_t stage; /* enum broker_stage */
        } failed;           /* SPAWN_FAILED */
        struct {
            uint32_t index;
        } output; /* OUTPUT */
        struct {
            int32_t number;
            uint32_t to_group; /* 1: its whole process group; 0: only the program */
        } signal;              /* SIGNAL */
        struct {
            int32_t pid;
        } reserve; /* RESERVE_PID, UNRESERVE_PID */
        struct {
            uint32_t level; /* enum log_level */
            char text[BROKER_LOG_TEXT];
        } log; /* LOG: NUL-terminated */
    };
};

/*
 * Says whether the packet that was received is one a broker (an agent, with `for_agent`) may get:
 * its size, its type, the range of each of its members, the number of descriptors. Whether the job
 * exists and is in a state for it is the receiver's to check.
 */
bool broker_message_is_valid(const struct broker_message *message, size_t length, size_t fd_count,
                             bool for_agent) MUST_CHECK;
bool broker_hello_is_valid(const struct broker_hello *hello, size_t length,
                           size_t fd_count) MUST_CHECK;

/*
 * Sends one packet without waiting. The descriptors stay the caller's.
 * Returns 0; -EAGAIN when there is no room; else -errno (-EPIPE when the other side is gone).
 */
int broker_send(int fd, const void *packet, size_t length, const int *fds,
                size_t fd_count) MUST_CHECK;

/*
 * Receives one packet without waiting. The descriptors are the caller's, close-on-exec; `fds` is -1
 * where there is none, and `ret_fd_count` is BROKER_FDS_LOST when some came that the process has no
 * room for (its limit of open files), and that are gone.
 * Returns the packet's length; 0 when the other side is gone; -EAGAIN when there is none;
 * -EBADMSG when there was one that is too long to be one of ours, which is dropped; else -errno.
 */
int broker_receive(int fd, void *packet, size_t size, int fds[BROKER_FDS_MAX],
                   size_t *ret_fd_count) MUST_CHECK;

#endif
