/* SPDX-License-Identifier: MIT */
#include "io/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/session-internal.h"

/*
 * A message so short is never refused for its bytes: it may be a sync, which always gets through.
 * The number of pending requests bounds these.
 */
enum { SHORT_MESSAGE_BYTES = 256 };

/* --- output --- */

int session_output(const struct session *session, struct iovec *ret_pieces, int count)
{
    return outbox_pieces(&session->outbox, ret_pieces, count);
}

size_t session_unsent_bytes(const struct session *session)
{
    return session->outbox.unsent_bytes + session->refused_bytes;
}

bool session_has_failed(const struct session *session)
{
    return session->has_failed;
}

/* --- fences --- */

/* When the youngest request of the line stops being within its grace; 0: it has none. */
static uint64_t line_grace_ends_ms(const struct line *line)
{
    const struct list *lists[] = {&line->arrived, &line->ordered, &line->side_by_side};
    uint64_t ends_ms = 0;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        if (list_is_empty(lists[i]))
            continue;
        const struct request *last = list_entry(lists[i]->previous, struct request, in_line);
        if (last->arrived_ms + SESSION_GRACE_MS > ends_ms)
            ends_ms = last->arrived_ms + SESSION_GRACE_MS;
    }
    return ends_ms;
}

/* The first line that begins with a fence not answered yet, and until when that one waits. */
static struct line *session_next_fence(const struct session *session, uint64_t *ret_until_ms)
{
    struct line *line;
    uint64_t until_ms = 0;
    list_for_each (line, &session->lines, struct line, in_session) {
        if (line->fence) {
            *ret_until_ms = until_ms;
            return line;
        }
        uint64_t ends_ms = line_grace_ends_ms(line);
        if (ends_ms > until_ms)
            until_ms = ends_ms;
    }
    return NULL;
}

static void line_start_fence(struct line *line)
{
    line->fence->has_turn = true;
    line->handler->admitted(line->handler_context, line->fence);
    line->handler->turn(line->handler_context, line->fence);
}

/* The fence's wait is over: what is before it is given up, and it gets its turn. */
static void session_pass_fence(struct session *session, struct line *line)
{
    struct request *fence = line->fence;
    bool gave_up = false;
    struct line *earlier;
    while ((earlier = list_first(&session->lines, struct line, in_session)) != line) {
        gave_up |= line_give_up(earlier);
    }
    outbox_supersede(&session->outbox, fence->arrived_ms, SESSION_GRACE_MS, gave_up);
    line_start_fence(line);
}

/* Moves everything that can move. */
static void session_advance(struct session *session)
{
    if (session->is_advancing)
        return;
    session->is_advancing = true;
    struct line *line;
    uint64_t until_ms;
    while ((line = session_next_fence(session, &until_ms)) && !line->fence->has_turn &&
           until_ms <= session->now_ms) {
        session_pass_fence(session, line);
    }
    list_for_each (line, &session->lines, struct line, in_session)
        if (line->waiting_urgent > 0)
            line_pump(line);
    session->is_advancing = false;
}

/* Something has changed: what can move moves, and the channel looks what there is to do. */
static void session_moved(struct session *session)
{
    session_advance(session);
    session->output_ready(session->output_context);
}

uint64_t session_next_tick_ms(const struct session *session)
{
    uint64_t until_ms;
    struct line *line = session_next_fence(session, &until_ms);
    uint64_t tick_ms = line && !line->fence->has_turn ? until_ms : 0;
    list_for_each (line, &session->lines, struct line, in_session) {
        uint64_t urgent_ms = line_urgent_at_ms(line);
        if (urgent_ms > 0 && (tick_ms == 0 || urgent_ms < tick_ms))
            tick_ms = urgent_ms;
    }
    return tick_ms;
}

void session_tick(struct session *session, uint64_t now_ms)
{
    assert_on_loop();
    session->now_ms = now_ms;
    session_advance(session);
}

/* --- requests --- */

static void request_count(struct request *request)
{
    request->is_counted = true;
    request->endpoint->pending++;
}

static void request_leave(struct request *request)
{
    list_remove(&request->in_line);
    if (request->line->fence == request)
        request->line->fence = NULL;
    if (request->is_counted)
        request->endpoint->pending--;
    request->endpoint->pending_bytes -= request->bytes;
}

static struct request *request_new(struct session *session, size_t bytes)
{
    struct request *request = calloc(1, sizeof(*request));
    if (!request) {
        session->has_failed = true;
        return NULL;
    }
    request->endpoint = session->endpoint;
    request->arrived_ms = session->now_ms;
    request->sequence = ++session->arrived_count;
    request->written_before = session->outbox.written_count;
    request->bytes = bytes;
    request->endpoint->pending_bytes += bytes;
    request->line = session_last_line(session);
    list_append(&request->line->arrived, &request->in_line);
    return request;
}

/* A fence begins a line of its own; everything that comes later is behind it. */
static void request_begin_line(struct request *request)
{
    struct line *before = request->line;
    struct session *session = before->session;
    if (!session || request->in_line.next != &before->arrived)
        return; /* given up already, or not the last one: then it is an ordinary request */
    struct line *line = line_new(session);
    if (!line)
        return;
    list_remove(&request->in_line);
    request->line = line;
    line->fence = request;
    line_put(before);
}

/*
 * Whether the endpoint has room for it; each kind has a little more than the one before. One that
 * is not understood yet has no kind and counts only by its bytes: it is large.
 */
static bool request_fits(const struct request *request)
{
    const struct endpoint *endpoint = request->endpoint;
    unsigned limit = endpoint->pending_max;
    if (request->traits.is_reserved)
        limit += endpoint->reserve;
    if (request->traits.is_fence)
        limit += endpoint->reserve;
    return endpoint->pending < limit;
}

static void request_refuse(struct request *request, const char *reason)
{
    struct line *line = request->line;
    request->is_refused = true;
    line->session->refused_bytes += REFUSAL_BYTES;
    line->handler->faulted(line->handler_context, request, FAULT_REFUSED, reason);
}

/* The request is all that it will be: whatever may move now moves. */
static void request_settle(struct request *request)
{
    struct session *session = request->line->session;
    request->is_understood = true;
    line_pump(request->line);
    if (session)
        session_moved(session);
}

void request_understood(struct request *request, const struct request_traits *traits)
{
    assert_on_loop();
    struct session *session = request->line->session;
    request->traits = *traits;
    /* A sync says that the client may have given up on what came before; anything else that it has
     * gone on. */
    if (session)
        outbox_settle(&session->outbox, request->written_before, !traits->is_fence);
    /* One that was given up while a worker was reading it still has its effect. */
    if (session && !request_fits(request)) {
        request_refuse(request, "Too many requests are pending on this channel");
    } else {
        request_count(request);
        request->is_waiting_urgent = traits->is_urgent;
        request->line->waiting_urgent += traits->is_urgent;
        if (traits->is_fence)
            request_begin_line(request);
    }
    request_settle(request);
}

static void session_take_message(struct session *session, char *text, size_t length)
{
    struct endpoint *endpoint = session->endpoint;
    bool too_much = length > SHORT_MESSAGE_BYTES &&
                    length + endpoint->pending_bytes > endpoint->pending_bytes_max;
    struct request *request = request_new(session, too_much ? 0 : length);
    if (!request || too_much)
        free(text);
    if (!request)
        return;
    if (too_much) {
        request_refuse(request, "Too many bytes of requests are pending on this channel");
        request_settle(request);
    } else {
        session->handler->arrived(session->handler_context, request, text, length);
    }
}

static void session_take_fault(struct session *session, const char *reason)
{
    struct request *request = request_new(session, 0);
    if (!request)
        return;
    if (request_fits(request)) {
        request_count(request);
        session->handler->faulted(session->handler_context, request, FAULT_NOT_JSON, reason);
    } else {
        request_refuse(request, reason);
    }
    request_settle(request);
}

size_t session_input(struct session *session, const char *bytes, size_t length, uint64_t now_ms)
{
    assert_on_loop();
    session->now_ms = now_ms;
    struct scan_outcome outcome;
    switch (scanner_feed(session->scanner, bytes, length, &outcome)) {
    case SCAN_MORE:
        break;
    case SCAN_MESSAGE:
        session_take_message(session, outcome.text, outcome.length);
        break;
    case SCAN_FAULT:
        session_take_fault(session, outcome.reason);
        break;
    }
    return outcome.consumed;
}

/* --- answers --- */

void request_send_take(struct request *request, struct reply *reply)
{
    struct session *session = request->line->session;
    bool is_lost = reply->line.failed;
    request_leave(request);
    request_wait_no_more(request);
    if (session)
        request_take_back_promise(request, session);
    if (session && request->is_refused)
        session->refused_bytes -= REFUSAL_BYTES;
    if (session && !is_lost && reply->line.length > 0) {
        is_lost = outbox_add_take(&session->outbox, reply, request->arrived_ms) < 0;
    } else {
        buffer_deinit(&reply->line);
        if (reply->told)
            reply->told(reply->context, DELIVERY_DROPPED, reply->token);
    }
    if (session)
        session->has_failed |= is_lost;
    free(request);
}

void request_answer_take(struct request *request, struct reply *reply)
{
    assert_on_loop();
    struct line *line = request->line;
    struct session *session = line->session;
    if (request_is_early(request)) {
        request->reply = *reply;
        request->is_answered = true;
        request_wait_no_more(request);
    } else {
        request_send_take(request, reply);
    }
    line_pump(line);
    if (session)
        session_moved(session);
}

bool request_is_overtaken(const struct request *request)
{
    return request->is_overtaken;
}

void request_set_data(struct request *request, void *data)
{
    request->data = data;
}

void *request_data(const struct request *request)
{
    return request->data;
}

struct endpoint *request_endpoint(const struct request *request)
{
    return request->endpoint;
}

const char *request_peer(const struct request *request)
{
    return request->line->session ? request->line->session->peer : "";
}

/* --- the session as a whole --- */

/* Some output has left: if there was too much, what waited for that may begin now. */
static void session_output_left(struct session *session, bool was_full)
{
    if (!was_full || session_is_full(session) || session->is_advancing)
        return;
    session->is_advancing = true; /* no line but the one that is pumped may go meanwhile */
    struct line *line;
    list_for_each (line, &session->lines, struct line, in_session)
        line_pump(line);
    session->is_advancing = false;
    session_advance(session);
}

void session_drop_output(struct session *session)
{
    bool was_full = session_is_full(session);
    outbox_clear(&session->outbox);
    session_output_left(session, was_full);
}

void session_written(struct session *session, size_t length)
{
    bool was_full = session_is_full(session);
    outbox_written(&session->outbox, length);
    session_output_left(session, was_full);
}

bool session_is_idle(const struct session *session)
{
    return list_is_empty(&session->outbox.unsent) &&
           session->lines.next == session->lines.previous &&
           line_is_empty(session_last_line(session));
}

/* Lines that wait for their fence go on without it: nobody needs its answer, but what is
 * behind it is still to have its effect. What this leads to in later lines is answered in vain. */
static void session_give_up_lines(struct session *session, const struct line *until)
{
    struct line *line;
    session->is_advancing = true;
    while ((line = list_first(&session->lines, struct line, in_session)) != until) {
        bool waits = line->fence && !line->fence->has_turn;
        line_give_up(line);
        if (waits)
            line_start_fence(line);
    }
    session->is_advancing = false;
}

struct session *session_new(struct endpoint *endpoint, const struct request_handler *handler,
                            void *handler_context, void (*output_ready)(void *context),
                            void *output_context)
{
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return NULL;
    session->endpoint = endpoint;
    session->handler = handler;
    session->handler_context = handler_context;
    session->output_ready = output_ready;
    session->output_context = output_context;
    list_init(&session->lines);
    outbox_init(&session->outbox);
    session->scanner = scanner_new(&endpoint->scanner_limits);
    if (!session->scanner || !line_new(session))
        return session_free(session);
    return session;
}

void session_set_peer(struct session *session, const char *peer)
{
    snprintf(session->peer, sizeof(session->peer), "%s", peer);
}

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    session_give_up_lines(session, NULL);
    outbox_clear(&session->outbox);
    scanner_free(session->scanner);
    free(session);
    return NULL;
}

/* If there is no memory for a new line, the old one goes on: late answers are better than none. */
void session_reset(struct session *session)
{
    assert_on_loop();
    scanner_reset(session->scanner);
    struct line *fresh = line_new(session);
    if (fresh)
        session_give_up_lines(session, fresh);
    outbox_clear(&session->outbox);
}
