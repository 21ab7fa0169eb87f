/* SPDX-License-Identifier: MIT */
#include "io/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "io/outbox.h"

/*
 * What a refused request will add to the output. It counts as unsent from the beginning, so that
 * a flood of them stops the reading of the channel and is not stored without bound.
 */
enum { REFUSAL_BYTES = 256 };

/*
 * A message so short is never refused for its bytes: it may be a sync, which always gets through.
 * The number of pending requests bounds these.
 */
enum { SHORT_MESSAGE_BYTES = 256 };

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
    bool is_pumping;          /* line_pump() is on the stack, and will look again */
};

struct request {
    struct line *line;
    struct list in_line;
    struct endpoint *endpoint;
    uint64_t arrived_ms;
    uint64_t written_before; /* replies that were written when it arrived */
    size_t bytes;            /* in the endpoint's pending_bytes */
    struct request_traits traits;
    bool is_understood;
    bool is_counted;       /* in the endpoint's pending requests */
    bool is_refused;       /* counts in the session's refused_bytes instead */
    bool is_waiting_by_id; /* counts in the line's waiting_by_id */
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

    struct scanner *scanner;
    struct list lines; /* in order of arrival; the last one takes what comes next */
    struct outbox outbox;
    size_t refused_bytes;
    size_t promised_bytes; /* of replies that are being made */
    uint64_t now_ms;
    bool is_advancing; /* somebody on the stack moves the lines, and will look again */
    bool has_failed;   /* a request or a reply got lost for want of memory */
};

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

/* There is so much output that nothing is to begin that adds to it. */
static bool session_is_full(const struct session *session)
{
    return session->outbox.unsent_bytes > session->endpoint->unsent_max;
}

/* --- lines --- */

static struct line *line_new(struct session *session)
{
    struct line *line = calloc(1, sizeof(*line));
    if (!line)
        return NULL;
    line->handler = session->handler;
    line->handler_context = session->handler_context;
    line->session = session;
    list_init(&line->arrived);
    list_init(&line->ordered);
    list_init(&line->side_by_side);
    list_append(&session->lines, &line->in_session);
    return line;
}

static struct line *session_last_line(const struct session *session)
{
    return list_entry(session->lines.previous, struct line, in_session);
}

static bool line_is_empty(const struct line *line)
{
    return !line->fence && list_is_empty(&line->arrived) && list_is_empty(&line->ordered) &&
           list_is_empty(&line->side_by_side);
}

/* Frees the line if nothing can come to it any more. */
static void line_put(struct line *line)
{
    if (line->is_pumping || !line_is_empty(line))
        return;
    if (line->session) {
        if (line == session_last_line(line->session))
            return;
        list_remove(&line->in_session);
    }
    free(line);
}

/*
 * While there is too much output, nothing more begins that would add to it; and of requests whose
 * replies are large together, one after the other. Lines that nobody waits for add nothing, and
 * what is reserved (a thaw) is not to wait for anything.
 */
static bool request_may_begin(const struct request *request)
{
    const struct session *session = request->line->session;
    if (!session || request->traits.is_reserved)
        return true;
    size_t expected = session->outbox.unsent_bytes + session->promised_bytes;
    return !session_is_full(session) &&
           (session->promised_bytes == 0 || request->traits.reply_bytes == 0 ||
            expected + request->traits.reply_bytes <= session->endpoint->unsent_max);
}

static void request_wait_no_more(struct request *request)
{
    request->line->waiting_by_id -= request->is_waiting_by_id;
    request->is_waiting_by_id = false;
}

static void request_begin(struct request *request)
{
    struct line *line = request->line;
    request->has_turn = true;
    request_wait_no_more(request);
    if (line->session) {
        request->promised_bytes = request->traits.reply_bytes;
        line->session->promised_bytes += request->promised_bytes;
    }
    line->handler->turn(line->handler_context, request);
}

/* Nothing of it will be output, or what will be is. */
static void request_take_back_promise(struct request *request, struct session *session)
{
    session->promised_bytes -= request->promised_bytes;
    request->promised_bytes = 0;
}

static void line_admit(struct line *line, struct request *request)
{
    list_remove(&request->in_line);
    bool by_id = request->traits.has_id;
    list_append(by_id ? &line->side_by_side : &line->ordered, &request->in_line);
    request->is_waiting_by_id = by_id;
    line->waiting_by_id += by_id;
    line->handler->admitted(line->handler_context, request);
}

/* The next one that may begin, or NULL. */
static struct request *line_next(struct line *line)
{
    struct request *request = list_first(&line->ordered, struct request, in_line);
    if (request && !request->has_turn && request_may_begin(request))
        return request;
    if (line->waiting_by_id == 0)
        return NULL;
    list_for_each (request, &line->side_by_side, struct request, in_line)
        if (request->is_waiting_by_id && request_may_begin(request))
            return request;
    return NULL;
}

static void line_pump(struct line *line)
{
    if (line->is_pumping)
        return;
    line->is_pumping = true;
    while (!line->fence) {
        struct request *request = list_first(&line->arrived, struct request, in_line);
        if (request && request->is_understood) {
            line_admit(line, request);
            continue;
        }
        request = line_next(line);
        if (!request)
            break;
        request_begin(request);
    }
    line->is_pumping = false;
    line_put(line);
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

static void request_give_up(struct request *request, struct session *session)
{
    request_take_back_promise(request, session);
    if (request->is_refused)
        session->refused_bytes -= REFUSAL_BYTES;
    request->is_refused = false;
    request->line->handler->given_up(request->line->handler_context, request);
}

/*
 * Nobody waits for the line's answers any more; its work goes on. Returns whether there was any.
 * May free the line.
 */
static bool line_give_up(struct line *line)
{
    struct session *session = line->session;
    bool any = !line_is_empty(line);
    bool was_pumping = line->is_pumping;
    line->session = NULL;
    list_remove(&line->in_session);
    line->is_pumping = true;

    if (line->fence)
        request_give_up(line->fence, session);
    struct list *lists[] = {&line->arrived, &line->ordered, &line->side_by_side};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        /* One that is told may cancel its task, which may start and answer any other one: so each
         * goes back before it is told, and the next one is whichever is still there. */
        struct list told = LIST_INIT(told);
        struct request *request;
        list_move_all(&told, lists[i]);
        while ((request = list_first(&told, struct request, in_line))) {
            list_remove(&request->in_line);
            list_append(lists[i], &request->in_line);
            request_give_up(request, session);
        }
    }
    line->is_pumping = was_pumping;
    line_pump(line);
    return any;
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
    return line && !line->fence->has_turn ? until_ms : 0;
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

void request_answer_take(struct request *request, struct reply *reply)
{
    assert_on_loop();
    struct line *line = request->line;
    struct session *session = line->session;
    bool is_lost = reply->line.failed;
    request_leave(request);
    request_wait_no_more(request);
    if (session)
        request_take_back_promise(request, session);
    if (request->is_refused)
        session->refused_bytes -= REFUSAL_BYTES;
    if (session && !is_lost && reply->line.length > 0) {
        is_lost = outbox_add_take(&session->outbox, reply, request->arrived_ms) < 0;
    } else {
        buffer_deinit(&reply->line);
        if (reply->told)
            reply->told(reply->context, DELIVERY_DROPPED, reply->token);
    }
    free(request);

    line_pump(line);
    if (session) {
        session->has_failed |= is_lost;
        session_moved(session);
    }
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
