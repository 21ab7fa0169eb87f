/* SPDX-License-Identifier: MIT */
#include "io/session-internal.h"

#include <stdlib.h>

bool session_is_full(const struct session *session)
{
    return session->outbox.unsent_bytes > session->endpoint->unsent_max;
}

struct line *line_new(struct session *session)
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

struct line *session_last_line(const struct session *session)
{
    return list_entry(session->lines.previous, struct line, in_session);
}

bool line_is_empty(const struct line *line)
{
    return !line->fence && list_is_empty(&line->arrived) && list_is_empty(&line->ordered) &&
           list_is_empty(&line->side_by_side);
}

void line_put(struct line *line)
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

void request_wait_no_more(struct request *request)
{
    request->line->waiting_by_id -= request->is_waiting_by_id;
    request->is_waiting_by_id = false;
}

static void request_begin(struct request *request)
{
    struct line *line = request->line;
    request->has_turn = true;
    request_wait_no_more(request);
    line->handler->turn(line->handler_context, request);
}

/* Not with the turn: what waits for its lane then may wait for one that waits for the promises. */
void request_promise(struct request *request)
{
    struct session *session = request->line->session;
    if (!session)
        return;
    request->promised_bytes = request->traits.reply_bytes;
    session->promised_bytes += request->promised_bytes;
}

void request_take_back_promise(struct request *request, struct session *session)
{
    session->promised_bytes -= request->promised_bytes;
    request->promised_bytes = 0;
}

/*
 * While there is too much output nothing is admitted either: it would hold its lane without
 * beginning, and so hold up other channels, for as long as this one's host does not read.
 */
static bool request_may_be_admitted(const struct request *request)
{
    const struct session *session = request->line->session;
    return request->is_understood &&
           (!session || request->traits.is_reserved || !session_is_full(session));
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

void line_pump(struct line *line)
{
    if (line->is_pumping)
        return;
    line->is_pumping = true;
    while (!line->fence) {
        struct request *request = list_first(&line->arrived, struct request, in_line);
        if (request && request_may_be_admitted(request)) {
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

static void request_give_up(struct request *request, struct session *session)
{
    request_take_back_promise(request, session);
    if (request->is_refused)
        session->refused_bytes -= REFUSAL_BYTES;
    request->is_refused = false;
    request->line->handler->given_up(request->line->handler_context, request);
}

bool line_give_up(struct line *line)
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
