/* SPDX-License-Identifier: MIT */
#include "io/outbox.h"

#include <errno.h>
#include <stdlib.h>

struct output {
    struct list in_outbox;
    struct reply reply;
    size_t written;
    uint64_t number;     /* of those in `written`, from 1 */
    uint64_t arrived_ms; /* of its request */
};

static void output_free(struct output *output)
{
    buffer_deinit(&output->reply.line);
    free(output);
}

static void reply_tell(const struct reply *reply, enum delivery what)
{
    if (reply->told)
        reply->told(reply->context, what, reply->token);
}

void outbox_init(struct outbox *outbox)
{
    *outbox = (struct outbox){0};
    list_init(&outbox->unsent);
    list_init(&outbox->written);
}

int outbox_add_take(struct outbox *outbox, struct reply *reply, uint64_t arrived_ms)
{
    assert_on_loop();
    struct output *output = calloc(1, sizeof(*output));
    if (!output) {
        buffer_deinit(&reply->line);
        reply_tell(reply, DELIVERY_DROPPED);
        return -ENOMEM;
    }
    output->reply = *reply;
    reply->line = (struct buffer)BUFFER_INIT;
    output->arrived_ms = arrived_ms;
    outbox->unsent_bytes += output->reply.line.length;
    list_append(&outbox->unsent, &output->in_outbox);
    return 0;
}

static void outbox_drop(struct outbox *outbox, struct output *output)
{
    list_remove(&output->in_outbox);
    outbox->unsent_bytes -= output->reply.line.length - output->written;
    reply_tell(&output->reply, DELIVERY_DROPPED);
    output_free(output);
}

int outbox_pieces(const struct outbox *outbox, struct iovec *ret_pieces, int count)
{
    int filled = 0;
    struct output *output;
    list_for_each (output, &outbox->unsent, struct output, in_outbox) {
        if (filled == count)
            break;
        ret_pieces[filled].iov_base = output->reply.line.data + output->written;
        ret_pieces[filled].iov_len = output->reply.line.length - output->written;
        filled++;
    }
    return filled;
}

void outbox_written(struct outbox *outbox, size_t length)
{
    assert_on_loop();
    outbox->unsent_bytes -= length;
    struct output *output;
    while (length > 0 && (output = list_first(&outbox->unsent, struct output, in_outbox))) {
        size_t left = output->reply.line.length - output->written;
        if (length < left) {
            output->written += length;
            return;
        }
        length -= left;
        list_remove(&output->in_outbox);
        if (output->reply.told) {
            buffer_deinit(&output->reply.line);
            output->number = ++outbox->written_count;
            list_append(&outbox->written, &output->in_outbox);
            reply_tell(&output->reply, DELIVERY_WRITTEN);
        } else {
            output_free(output);
        }
    }
}

void outbox_settle(struct outbox *outbox, uint64_t written_count, bool is_seen)
{
    assert_on_loop();
    struct output *output;
    while ((output = list_first(&outbox->written, struct output, in_outbox)) &&
           output->number <= written_count) {
        list_remove(&output->in_outbox);
        if (is_seen)
            reply_tell(&output->reply, DELIVERY_SEEN);
        output_free(output);
    }
}

void outbox_supersede(struct outbox *outbox, uint64_t fence_ms, unsigned grace_ms, bool gave_up)
{
    assert_on_loop();
    struct output *output;
    list_for_each (output, &outbox->unsent, struct output, in_outbox) {
        if (output->written > 0)
            continue;
        bool is_old = output->arrived_ms + grace_ms <= fence_ms;
        if (is_old || (gave_up && output->reply.is_delimited))
            outbox_drop(outbox, output);
    }
}

void outbox_clear(struct outbox *outbox)
{
    assert_on_loop();
    struct output *output;
    while ((output = list_first(&outbox->unsent, struct output, in_outbox)))
        outbox_drop(outbox, output);
    outbox_settle(outbox, outbox->written_count, false);
}
