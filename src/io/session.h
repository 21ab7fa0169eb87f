/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_SESSION_H
#define BELLHOP_IO_SESSION_H

/*
 * A session is the conversation on one connection: it cuts the input into requests, says which
 * of them may start and when, and puts the replies into the order that clients rely on. It has
 * neither a descriptor nor a clock nor an event loop; the channel gives it bytes, the time, and
 * takes its output. It does not know any command; what a request means is told by its handler.
 *
 * The rules (ARCHITECTURE.md, "Sessions"):
 *
 * - Requests without `id` start and are answered in the order they came. Those with `id` start at
 *   once and are answered as they finish.
 * - A fence (a sync) supersedes the requests before it. It waits only for those younger than the
 *   grace; when it is answered, the others are given up: their work goes on, their replies,
 *   also unsent ones, are dropped. What comes after a fence begins a new *line*, which waits for
 *   nothing in the old one.
 * - A request beyond the pending limit is refused in its place.
 * - An urgent request (a thaw) waits only until what came before it in its line has been answered or is
 *   as old as the grace; then it overtakes that. Its reply keeps its place in the line.
 *
 * A request exists from its arrival until it is answered, always exactly once, also when
 * its session is gone. All functions: ON_LOOP.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/thread.h"
#include "io/delivery.h"
#include "io/scanner.h"

struct request;
struct session;

/* Younger requests were pipelined with the fence, not given up on. */
enum { SESSION_GRACE_MS = 250 };

/*
 * A configured channel. Its sessions share its limits, so that a client that connects anew for
 * every command does not get new ones every time. It outlives its sessions and their requests.
 */
struct endpoint {
    const char *name;        /* for the log */
    unsigned number;         /* origin of its work in the pool */
    unsigned profile;        /* that its requests are made under: a number, for who makes them */
    unsigned pending_max;    /* requests not answered yet */
    unsigned reserve;        /* so many more for the reserved ones, and again for fences */
    size_t pending_bytes_max; /* bytes of requests not answered yet */
    size_t unsent_max; /* bytes of output: above it nothing is read, and nothing begins that is to
                          be answered */
    struct scanner_limits scanner_limits;

    unsigned pending;     /* includes those that were given up and still run */
    size_t pending_bytes; /* of the same, and of those that were refused */
};

/* Who is at the other end of a connection, in words. */
enum { SESSION_PEER_MAX = 64 };

/* What the handler says of a request once it has understood it. */
struct request_traits {
    bool is_fence;
    bool is_reserved;
    bool is_urgent;
    bool has_id;
    size_t reply_bytes; /* if it is large: about how much its reply will be, else 0 */
};

/* Why a request came without a text. */
enum request_fault {
    FAULT_NOT_JSON, /* `reason` says what is wrong */
    FAULT_REFUSED,  /* too much is pending on this channel; `reason` says so */
};

struct request_handler {
    /*
     * A message has arrived. The handler takes the text (malloc'ed, NUL-terminated) and calls
     * request_understood(), now or later. Its order in the line is fixed already.
     */
    void (*arrived)(void *context, struct request *request, char *text, size_t length);

    /* Instead of `arrived`, or after it: the request is to be answered with an error. */
    void (*faulted)(void *context, struct request *request, enum request_fault fault,
                    const char *reason);

    /* Its order among the requests of the line, for lanes. Called once, in the line's order; for an
     * urgent one perhaps before earlier ones: see request_is_overtaken(). */
    void (*admitted)(void *context, struct request *request);

    /* It may start, and is to be answered: request_answer(). Once, after `admitted`. */
    void (*turn)(void *context, struct request *request);

    /* Its reply will not be sent. It is to be answered all the same, when it is done. */
    void (*given_up)(void *context, struct request *request);
};

/*
 * `output_ready` is called whenever there is more output or another time to tick, also outside of
 * session_input(); it must not write, free or reset the session there and then. Returns NULL if
 * there is no memory.
 */
struct session *session_new(struct endpoint *endpoint, const struct request_handler *handler,
                            void *handler_context, void (*output_ready)(void *context),
                            void *output_context);

/* Says who is at the other end; cut at SESSION_PEER_MAX. */
void session_set_peer(struct session *session, const char *peer);

/* Gives up all its requests and drops its output. Returns NULL. */
struct session *session_free(struct session *session);

/* The host went away and may come back: forget half a request, drop the output, give up what runs. */
void session_reset(struct session *session);

/* Drops all output that was not written. */
void session_drop_output(struct session *session);

/*
 * Bytes came from the host at `now_ms`. Takes them up to the end of one message, so that the caller
 * can look at what came of it before the next one. Returns how many were taken: perhaps none, where
 * the next byte only ended a message.
 */
size_t session_input(struct session *session, const char *bytes, size_t length, uint64_t now_ms);

/* The next output, at most `count` pieces. Returns how many were filled. */
int session_output(const struct session *session, struct iovec *ret_pieces, int count);

/* So many bytes of it were written. */
void session_written(struct session *session, size_t length);

/* Output not written yet, and what refused requests will add to it. */
size_t session_unsent_bytes(const struct session *session);

/*
 * True if there was no memory for a request or its reply. The connection is to be ended then: the
 * host would take the next reply for that one.
 */
bool session_has_failed(const struct session *session);

/* True if it has nothing to send and nothing to answer. */
bool session_is_idle(const struct session *session);

/* When session_tick() is to be called, in the clock of session_input(); 0: not at all. */
uint64_t session_next_tick_ms(const struct session *session);
void session_tick(struct session *session, uint64_t now_ms);

/* --- for the handler --- */

void request_understood(struct request *request, const struct request_traits *traits);

/* After its turn, once its reply is really being made: its traits' `reply_bytes` count from now. */
void request_promise(struct request *request);

/* In `admitted`: an urgent request that came later has been admitted before this one. */
bool request_is_overtaken(const struct request *request);

/*
 * Answers and frees the request. The reply's line is taken. A request without id that is answered
 * before its turn keeps its reply until that comes.
 */
void request_answer_take(struct request *request, struct reply *reply);

void request_set_data(struct request *request, void *data);
void *request_data(const struct request *request);
struct endpoint *request_endpoint(const struct request *request);

/* What session_set_peer() said; "" if it said nothing, or the request was given up. Borrowed. */
const char *request_peer(const struct request *request);

#endif
