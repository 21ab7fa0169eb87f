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
    request->line->waiting_urgent -= request->is_waiting_urgent;
    request->is_waiting_by_id = false;
    request->is_waiting_urgent = false;
}

/* When all that came before it in its line is answered or old enough; 0: it is. */
static uint64_t request_urgent_at_ms(const struct request *request)
{
    const struct line *line = request->line;
    const struct list *lists[] = {&line->arrived, &line->ordered, &line->side_by_side};
    uint64_t at_ms = 0;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct request *other;
        list_for_each (other, lists[i], struct request, in_line)
            if (other->sequence < request->sequence && !other->is_answered &&
                other->arrived_ms + SESSION_GRACE_MS > at_ms)
                at_ms = other->arrived_ms + SESSION_GRACE_MS;
    }
    return at_ms;
}

/* Nobody looks at the clock for a line that was given up; what came before is old there. */
static bool request_is_in_time(const struct request *request)
{
    const struct session *session = request->line->session;
    return !request->is_waiting_urgent || !session ||
           request_urgent_at_ms(request) <= session->now_ms;
}

/* The next urgent one among these that has not begun and that `is_in_time`, or NULL. */
static struct request *find_urgent(const struct list *requests)
{
    struct request *request;
    list_for_each (request, requests, struct request, in_line)
        if (request->is_waiting_urgent && request_is_in_time(request))
            return request;
    return NULL;
}

uint64_t line_urgent_at_ms(const struct line *line)
{
    const struct list *lists[] = {&line->arrived, &line->ordered, &line->side_by_side};
    uint64_t first_ms = 0;
    if (line->fence || line->waiting_urgent == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct request *request;
        list_for_each (request, lists[i], struct request, in_line) {
            if (!request->is_waiting_urgent)
                continue;
            uint64_t at_ms = request_urgent_at_ms(request);
            if (first_ms == 0 || at_ms < first_ms)
                first_ms = at_ms > 0 ? at_ms : 1;
        }
    }
    return first_ms;
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

/* In its place in the line: one that was overtaken comes before what overtook it. */
static void line_insert_ordered(struct line *line, struct request *request)
{
    struct list *at = &line->ordered;
    while (at->previous != &line->ordered &&
           list_entry(at->previous, struct request, in_line)->sequence > request->sequence)
        at = at->previous;
    list_append(at, &request->in_line);
}

static void line_admit(struct line *line, struct request *request)
{
    list_remove(&request->in_line);
    bool by_id = request->traits.has_id;
    if (by_id)
        list_append(&line->side_by_side, &request->in_line);
    else
        line_insert_ordered(line, request);
    request->is_ordered = !by_id;
    request->is_waiting_by_id = by_id;
    line->waiting_by_id += by_id;
    line->handler->admitted(line->handler_context, request);
}

/* The next one that may begin, or NULL. */
static struct request *line_next(struct line *line)
{
    struct request *request = list_first(&line->ordered, struct request, in_line);
    if (request && !request->has_turn && !request->is_answered && request_may_begin(request) &&
        request_is_in_time(request))
        return request;
    if (line->waiting_urgent > 0 && (request = find_urgent(&line->ordered)))
        return request;
    if (line->waiting_by_id == 0)
        return NULL;
    list_for_each (request, &line->side_by_side, struct request, in_line)
        if (request->is_waiting_by_id && request_may_begin(request) && request_is_in_time(request))
            return request;
    return NULL;
}

/* The next one to be admitted, or NULL. An urgent one may come before those that have to wait. */
static struct request *line_next_admitted(struct line *line)
{
    struct request *request = list_first(&line->arrived, struct request, in_line);
    if (!request || request_may_be_admitted(request))
        return request;
    struct request *urgent = line->waiting_urgent > 0 ? find_urgent(&line->arrived) : NULL, *other;
    if (!urgent)
        return NULL;
    list_for_each (other, &line->arrived, struct request, in_line)
        other->is_overtaken |= other->sequence < urgent->sequence;
    return urgent;
}

/* What has not been admitted yet may have to be answered before it. */
bool request_is_early(const struct request *request)
{
    const struct line *line = request->line;
    const struct request *waiting = list_first(&line->arrived, struct request, in_line);
    return request->is_ordered && line->session &&
           (list_first(&line->ordered, struct request, in_line) != request ||
            (waiting && waiting->sequence < request->sequence));
}

/* What was answered before its turn is sent at its turn. */
static void line_send_answered(struct line *line)
{
    struct request *request;
    while ((request = list_first(&line->ordered, struct request, in_line)) &&
           request->is_answered && !request_is_early(request))
        request_send_take(request, &request->reply);
}

void line_pump(struct line *line)
{
    if (line->is_pumping)
        return;
    line->is_pumping = true;
    while (!line->fence) {
        line_send_answered(line);
        struct request *request = line_next_admitted(line);
        if (request) {
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
    if (request->is_answered) {
        request_send_take(request, &request->reply); /* to nobody */
        return;
    }
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
