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
 * every packet is a struct broker_message of that version, of exactly its size, which is the same in
 * all versions so far.
 *
 *     version 1    no flags, no profile, no input_taken_bytes; no INPUT, no INPUT_TAKEN
 *     version 2    this one
 *
 *     agent                                broker
 *     HELLO                       ──▶
 *                                 ◀──      HELLO
 *     SPAWN job (+ payload)       ──▶
 *                                 ◀──      SPAWNED job    or    SPAWN_FAILED job
 *                                 ◀──      OUTPUT job, stream (+ its memory), at its first byte
 *     INPUT job (+ its memory)    ──▶      (of a program whose input stays open)
 *                                 ◀──      INPUT_TAKEN job
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

#define BROKER_PROTOCOL_VERSION     2
#define BROKER_PROTOCOL_VERSION_MIN 1 /* of a broker that an agent can still take over */
#define BROKER_HELLO_MAGIC          0x62686c6fu
#define BROKER_FDS_MAX              2 /* descriptors that go with one packet */
#define BROKER_FDS_LOST             SIZE_MAX /* in place of their count: no room for them */
#define BROKER_STREAMS              2 /* read from a program: standard output, standard error */
#define BROKER_LOG_TEXT             256
#define BROKER_REASON_MAX           240

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
    BROKER_INPUT,

    BROKER_SPAWNED = 64,
    BROKER_SPAWN_FAILED,
    BROKER_OUTPUT,
    BROKER_INPUT_DONE,
    BROKER_EXITED,
    BROKER_JOB,
    BROKER_LIST_END,
    BROKER_LOG,
    BROKER_INPUT_TAKEN,
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
    BROKER_STAGE_USER,      /* its user: ENOENT: there is none of that name */
    BROKER_STAGE_DIRECTORY, /* its working directory */
    BROKER_STAGE_POLICY,    /* it is not allowed, or cannot be held to its rule; says why */
    BROKER_STAGE_COUNT,
};

struct broker_stream_facts {
    uint64_t size_bytes; /* kept of it; more was dropped if it is truncated */
    uint8_t is_present;  /* it has had at least one byte that was kept: there is memory for it */
    uint8_t is_truncated;
    uint8_t reserved[6];
};

enum broker_job_flags {
    BROKER_IS_OWN = 1 << 0,        /* run for the agent itself: no client may ever ask for it */
    BROKER_HAS_TIMED_OUT = 1 << 1, /* the broker had to end it */
    BROKER_TAKES_INPUT = 1 << 2,   /* its input is open, and more may be written to it */
    BROKER_JOB_FLAGS_ALL = (1 << 3) - 1,
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
    /* from version 2 on */
    uint64_t input_taken_bytes; /* taken by the program so far */
    uint32_t flags;             /* enum broker_job_flags */
    uint32_t profile;           /* that it was started under */
};

struct broker_message {
    uint32_t type;
    uint32_t reserved;
    uint64_t job; /* the number that the agent gave it; 0 where no job is meant */
    union {
        struct broker_facts facts; /* SPAWNED, EXITED, JOB */
        struct {
            uint32_t flags;   /* BROKER_IS_OWN or 0 */
            uint32_t profile; /* of the channel that asks for it */
        } spawn;              /* SPAWN */
        struct {
            uint64_t length;  /* of the memory that comes along; 0: none does */
            uint32_t is_last; /* 1: its input ends after this */
            uint32_t reserved;
        } input; /* INPUT */
        struct {
            uint64_t total_bytes; /* since its start */
        } input_taken;            /* INPUT_TAKEN */
        struct {
            int32_t error;  /* a positive errno */
            uint32_t stage; /* enum broker_stage */
            char reason[BROKER_REASON_MAX]; /* for the client, with BROKER_STAGE_POLICY; else "" */
        } failed;                           /* SPAWN_FAILED */
        struct {
            uint32_t index;
        } output; /* OUTPUT */
        struct {
            int32_t number;    /* SIGTERM or SIGKILL */
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

/* Makes a message of an older version, just received, one of this version: fills in what that one
 * does not have. To be called before it is looked at in any way. */
void broker_message_upgrade(struct broker_message *message, size_t length, uint32_t version);

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
