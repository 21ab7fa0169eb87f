/* SPDX-License-Identifier: MIT */
#include "io/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

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
    struct list side_by_side; /* admitted, with id: all have their turn */
    bool is_pumping;          /* line_pump() is on the stack, and will look again */
};

struct request {
    struct line *line;
    struct list in_line;
    struct endpoint *endpoint;
    uint64_t arrived_ms;
    size_t bytes;
    struct request_traits traits;
    bool is_understood;
    bool is_counted; /* in the endpoint's pending requests and bytes */
    bool is_refused; /* counts in the session's refused_bytes instead */
    bool is_given_up;
    bool has_turn;
    void *data; /* the handler's */
};

struct output {
    struct list in_session;
    struct buffer line;
    size_t written;
    uint64_t arrived_ms; /* of its request */
    bool is_delimited;
    void (*told)(void *context, enum delivery what, uint64_t token);
    void *context;
    uint64_t token;
};

struct session {
    struct endpoint *endpoint;
    const struct request_handler *handler;
    void *handler_context;
    void (*output_ready)(void *context);
    void *output_context;

    struct scanner *scanner;
    struct list lines;   /* in order of arrival; the last one takes what comes next */
    struct list outputs; /* not written whole */
    struct list written; /* written, and the handler wants to know whether they were seen */
    size_t output_bytes;
    size_t refused_bytes;
    uint64_t now_ms;
    bool is_advancing; /* session_advance() is on the stack, and will look again */
};

/* --- output --- */

static void output_free(struct output *output)
{
    buffer_deinit(&output->line);
    free(output);
}

static void output_tell(struct output *output, enum delivery what)
{
    if (output->told)
        output->told(output->context, what, output->token);
}

static void output_drop(struct session *session, struct output *output)
{
    list_remove(&output->in_session);
    session->output_bytes -= output->line.length - output->written;
    output_tell(output, DELIVERY_DROPPED);
    output_free(output);
}

static void session_forget_written(struct session *session, bool seen)
{
    struct output *output;
    while ((output = list_first(&session->written, struct output, in_session))) {
        list_remove(&output->in_session);
        if (seen)
            output_tell(output, DELIVERY_SEEN);
        output_free(output);
    }
}

void session_drop_output(struct session *session)
{
    assert_on_loop();
    struct output *output;
    while ((output = list_first(&session->outputs, struct output, in_session)))
        output_drop(session, output);
    session_forget_written(session, false);
}

/*
 * What a fence that arrived at `fence_ms` supersedes of the output: replies to requests that were
 * past their grace by then. If a request was given up, unsent delimited syncs go too, whatever their
 * age: a client must never see two of them without the reply between.
 */
static void session_supersede_outputs(struct session *session, uint64_t fence_ms, bool gave_up)
{
    struct output *output;
    list_for_each (output, &session->outputs, struct output, in_session) {
        if (output->written > 0)
            continue; /* a line that was begun is finished */
        bool is_old = output->arrived_ms + SESSION_GRACE_MS <= fence_ms;
        if (is_old || (gave_up && output->is_delimited))
            output_drop(session, output);
    }
}

int session_output(struct session *session, struct iovec *ret_pieces, int count)
{
    int filled = 0;
    struct output *output;
    list_for_each (output, &session->outputs, struct output, in_session) {
        if (filled == count)
            break;
        ret_pieces[filled].iov_base = output->line.data + output->written;
        ret_pieces[filled].iov_len = output->line.length - output->written;
        filled++;
    }
    return filled;
}

void session_written(struct session *session, size_t length)
{
    session->output_bytes -= length;
    struct output *output;
    while (length > 0 && (output = list_first(&session->outputs, struct output, in_session))) {
        size_t left = output->line.length - output->written;
        if (length < left) {
            output->written += length;
            return;
        }
        length -= left;
        list_remove(&output->in_session);
        if (output->told) {
            buffer_deinit(&output->line);
            list_append(&session->written, &output->in_session);
            output_tell(output, DELIVERY_WRITTEN);
        } else {
            output_free(output);
        }
    }
}

size_t session_unsent_bytes(const struct session *session)
{
    return session->output_bytes + session->refused_bytes;
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

static struct request *line_next_not_given_up(const struct line *line)
{
    if (line->fence && !line->fence->is_given_up)
        return line->fence;
    const struct list *lists[] = {&line->arrived, &line->ordered, &line->side_by_side};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        struct request *request;
        list_for_each (request, lists[i], struct request, in_line) {
            if (!request->is_given_up)
                return request;
        }
    }
    return NULL;
}

static void line_pump(struct line *line)
{
    const struct request_handler *handler = line->handler;
    void *context = line->handler_context;
    if (line->is_pumping)
        return;
    line->is_pumping = true;
    while (!line->fence) {
        struct request *request = list_first(&line->arrived, struct request, in_line);
        if (request && request->is_understood) {
            list_remove(&request->in_line);
            bool by_id = request->traits.has_id;
            list_append(by_id ? &line->side_by_side : &line->ordered, &request->in_line);
            handler->admitted(context, request);
            if (by_id) {
                request->has_turn = true;
                handler->turn(context, request);
            }
            continue;
        }
        request = list_first(&line->ordered, struct request, in_line);
        if (!request || request->has_turn)
            break;
        request->has_turn = true;
        handler->turn(context, request);
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

/*
 * Nobody waits for the line's answers any more; its work goes on. Returns whether there was any. May
 * free the line.
 */
static bool line_give_up(struct line *line)
{
    struct session *session = line->session;
    line->session = NULL;
    list_remove(&line->in_session);

    /* One that is told may cancel its task, which may start and answer any other one: so each
     * time the next one is looked for from the beginning. */
    bool any = false;
    bool was_pumping = line->is_pumping;
    line->is_pumping = true;
    struct request *request;
    while ((request = line_next_not_given_up(line))) {
        any = true;
        request->is_given_up = true;
        if (request->is_refused) {
            session->refused_bytes -= REFUSAL_BYTES;
            request->is_refused = false;
        }
        line->handler->given_up(line->handler_context, request);
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
    session_supersede_outputs(session, fence->arrived_ms, gave_up);
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

static void request_count(struct request *request, size_t bytes)
{
    request->is_counted = true;
    request->bytes = bytes;
    request->endpoint->pending++;
    request->endpoint->pending_bytes += bytes;
}

static void request_uncount(struct request *request)
{
    if (!request->is_counted)
        return;
    request->is_counted = false;
    request->endpoint->pending--;
    request->endpoint->pending_bytes -= request->bytes;
}

static void request_leave(struct request *request)
{
    list_remove(&request->in_line);
    if (request->line->fence == request)
        request->line->fence = NULL;
    request_uncount(request);
}

static struct request *request_new(struct session *session, size_t bytes)
{
    struct request *request = calloc(1, sizeof(*request));
    if (!request)
        return NULL;
    request->endpoint = session->endpoint;
    request->arrived_ms = session->now_ms;
    request->line = session_last_line(session);
    list_append(&request->line->arrived, &request->in_line);
    request_count(request, bytes);
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

/* Whether the endpoint has room for it; each kind has a little more than the one before. */
static bool request_fits(const struct request *request)
{
    const struct endpoint *endpoint = request->endpoint;
    unsigned limit = endpoint->pending_max;
    if (request->traits.is_reserved)
        limit += endpoint->reserve;
    if (request->traits.is_fence)
        limit += endpoint->reserve;
    return endpoint->pending <= limit;
}

static void request_refuse(struct request *request, const char *reason)
{
    struct line *line = request->line;
    request_uncount(request);
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
        session_advance(session);
}

void request_understood(struct request *request, const struct request_traits *traits)
{
    assert_on_loop();
    struct session *session = request->line->session;
    request->traits = *traits;
    if (session) { /* else given up while a worker was reading it: it still has its effect */
        /* A sync says that the client may have given up on what came before; anything else that
         * it has gone on. */
        session_forget_written(session, !traits->is_fence);
        if (!request_fits(request))
            request_refuse(request, "Too many requests are pending on this channel");
        else if (traits->is_fence)
            request_begin_line(request);
    }
    request_settle(request);
}

static void session_take_message(struct session *session, char *text, size_t length)
{
    struct endpoint *endpoint = session->endpoint;
    bool too_much = length > endpoint->pending_bytes_max - endpoint->pending_bytes;
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
    if (request_fits(request))
        session->handler->faulted(session->handler_context, request, FAULT_NOT_JSON, reason);
    else
        request_refuse(request, reason);
    request_settle(request);
}

void session_input(struct session *session, const char *bytes, size_t length, uint64_t now_ms)
{
    assert_on_loop();
    session->now_ms = now_ms;
    while (length > 0) {
        struct scan_outcome outcome;
        enum scan_result result = scanner_feed(session->scanner, bytes, length, &outcome);
        bytes += outcome.consumed;
        length -= outcome.consumed;
        if (result == SCAN_MESSAGE)
            session_take_message(session, outcome.text, outcome.length);
        else if (result == SCAN_FAULT)
            session_take_fault(session, outcome.reason);
    }
}

/* --- answers --- */

static void session_queue_output(struct session *session, const struct request *request,
                                 struct reply *reply)
{
    struct output *output = calloc(1, sizeof(*output));
    if (!output) {
        if (reply->told)
            reply->told(reply->context, DELIVERY_DROPPED, reply->token);
        return;
    }
    output->line = buffer_take(&reply->line);
    output->arrived_ms = request->arrived_ms;
    output->is_delimited = reply->is_delimited;
    output->told = reply->told;
    output->context = reply->context;
    output->token = reply->token;
    session->output_bytes += output->line.length;
    list_append(&session->outputs, &output->in_session);
}

void request_answer_take(struct request *request, struct reply *reply)
{
    assert_on_loop();
    struct line *line = request->line;
    struct session *session = line->session;
    request_leave(request);
    if (request->is_refused)
        session->refused_bytes -= REFUSAL_BYTES;
    if (session && reply->line.length > 0) {
        session_queue_output(session, request, reply);
    } else if (reply->told && reply->line.length > 0) {
        reply->told(reply->context, DELIVERY_DROPPED, reply->token);
    }
    buffer_deinit(&reply->line);
    free(request);

    line_pump(line);
    if (session) {
        session_advance(session);
        session->output_ready(session->output_context);
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

bool session_is_idle(const struct session *session)
{
    return list_is_empty(&session->outputs) &&
           session->lines.next == session->lines.previous && line_is_empty(session_last_line(session));
}

/* Lines that wait for their fence go on without it: nobody needs its answer, but what is
 * behind it is still to have its effect. */
static void session_give_up_lines(struct session *session, const struct line *until)
{
    struct line *line;
    while ((line = list_first(&session->lines, struct line, in_session)) != until) {
        bool waits = line->fence && !line->fence->has_turn;
        line_give_up(line);
        if (waits)
            line_start_fence(line);
    }
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
    list_init(&session->outputs);
    list_init(&session->written);
    session->scanner = scanner_new(&endpoint->scanner_limits);
    if (!session->scanner || !line_new(session))
        return session_free(session);
    return session;
}

struct session *session_free(struct session *session)
{
    if (!session)
        return NULL;
    session_drop_output(session);
    session_give_up_lines(session, NULL);
    scanner_free(session->scanner);
    free(session);
    return NULL;
}

/* If there is no memory for a new line, the old one goes on: late answers are better than none. */
void session_reset(struct session *session)
{
    assert_on_loop();
    scanner_reset(session->scanner);
    session_drop_output(session);
    struct line *fresh = line_new(session);
    if (fresh)
        session_give_up_lines(session, fresh);
}
