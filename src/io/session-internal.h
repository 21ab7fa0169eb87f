/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_SESSION_INTERNAL_H
#define BELLHOP_IO_SESSION_INTERNAL_H

/*
 * The inside of a session, for session.c (bytes, fences, answers) and session-line.c (who may
 * begin, and in which order). All of it: ON_LOOP.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "io/outbox.h"
#include "io/session.h"

/*
 * What a refused request will add to the output. It counts as unsent from the beginning, so that
 * a flood of them stops the reading of the channel and is not stored without bound.
 */
enum { REFUSAL_BYTES = 256 };

/* Requests between two fences. */
struct line {
    const struct request_handler *handler;
    void *handler_context;
    struct session *session;  /* NULL: given up, nobody waits for answers */
    struct list in_session;   /* while it has a session */
    struct request *fence;    /* begins the line; nothing in it moves before that is answered */
    struct list arrived;      /* not admitted yet, in order of arrival */
    struct list ordered;      /* admitted, without id: the first one has its turn */
    struct list side_by_side; /* admitted, with id: all may have their turn */
    size_t waiting_by_id;     /* of these, how many have not had it yet */
    size_t waiting_urgent;    /* how many urgent requests have not begun yet */
    bool is_pumping;          /* line_pump() is on the stack, and will look again */
};

struct request {
    struct line *line;
    struct list in_line;
    struct endpoint *endpoint;
    uint64_t arrived_ms;
    uint64_t sequence;       /* counts the session's requests */
    uint64_t written_before; /* replies that were written when it arrived */
    size_t bytes;            /* in the endpoint's pending_bytes */
    struct request_traits traits;
    bool is_understood;
    bool is_ordered;       /* in the line's `ordered` */
    bool is_counted;       /* in the endpoint's pending requests */
    bool is_refused;       /* counts in the session's refused_bytes instead */
    bool is_waiting_by_id; /* counts in the line's waiting_by_id */
    bool is_waiting_urgent; /* counts in the line's waiting_urgent */
    bool is_overtaken;
    bool is_answered; /* before its turn: `reply` waits for that, the handler is done with it */
    struct reply reply;
    bool has_turn;
    size_t promised_bytes; /* in the session's */
    void *data;            /* the handler's */
};

struct session {
    struct endpoint *endpoint;
    const struct request_handler *handler;
    void *handler_context;
    void (*output_ready)(void *context);
    void *output_context;
    char peer[SESSION_PEER_MAX];

    struct scanner *scanner;
    struct list lines; /* in order of arrival; the last one takes what comes next */
    struct outbox outbox;
    size_t refused_bytes;
    size_t promised_bytes; /* of replies that are being made */
    uint64_t now_ms;
    uint64_t arrived_count;
    bool is_advancing; /* somebody on the stack moves the lines, and will look again */
    bool has_failed;   /* a request or a reply got lost for want of memory */
};

/* There is so much output that nothing is to begin that adds to it. */
bool session_is_full(const struct session *session);

/* Begins a line behind the others. Returns NULL if there is no memory. */
struct line *line_new(struct session *session);

/* The one that takes what comes next. */
struct line *session_last_line(const struct session *session);

bool line_is_empty(const struct line *line);

/* Frees the line if nothing can come to it any more. */
void line_put(struct line *line);

/*
 * When the line's next urgent request may begin, if nothing moves before; 0: there is none, or the
 * line does not move at all.
 */
uint64_t line_urgent_at_ms(const struct line *line);

/* Admits what was understood, and lets begin what may. May free the line. */
void line_pump(struct line *line);

/*
 * Nobody waits for the line's answers any more; its work goes on. Returns whether there was any.
 * May free the line.
 */
bool line_give_up(struct line *line);

/* The request has its turn, or is answered without having had it. */
void request_wait_no_more(struct request *request);

/* True if there is one before it that is to be answered first. */
bool request_is_early(const struct request *request);

/* Puts its reply, which is taken, into the output, and frees it. The line is to be pumped then. */
void request_send_take(struct request *request, struct reply *reply);

/* Nothing of it will be output, or what will be is. */
void request_take_back_promise(struct request *request, struct session *session);

#endif
