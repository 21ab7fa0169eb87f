/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LIST_H
#define BELLHOP_BASE_LIST_H

/*
 * Intrusive doubly linked list: a struct list head, and a struct list embedded in each element.
 * Not thread safe; whoever owns the elements owns the list.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *previous;
    struct list *next;
};

#define LIST_INIT(head) {&(head), &(head)}

static inline void list_init(struct list *head)
{
    head->previous = head;
    head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_append(struct list *head, struct list *element)
{
    element->previous = head->previous;
    element->next = head;
    head->previous->next = element;
    head->previous = element;
}

static inline void list_prepend(struct list *head, struct list *element)
{
    list_append(head->next, element);
}

/* Takes the element out and leaves it a list of its own, so removing twice does no harm. */
static inline void list_remove(struct list *element)
{
    element->previous->next = element->next;
    element->next->previous = element->previous;
    list_init(element);
}

/* Moves all elements of `from` behind those of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

#define list_entry(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define list_first(head, type, member)                                                             \
    (list_is_empty(head) ? NULL : list_entry((head)->next, type, member))

/* Walks the list; the current element may be removed (and freed), no other one. */
#define list_for_each(item, head, type, member)                                                    \
    for (struct list *at_ = (head)->next, *then_ = at_->next;                                      \
         at_ != (head) && ((item) = list_entry(at_, type, member), 1); at_ = then_, then_ = at_->next)

#endif
