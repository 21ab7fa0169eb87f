/* SPDX-License-Identifier: MIT */
#include "base/freeze-plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mount-table.h"
#include "base/storage.h"
#include "base/text-list.h"

#define NOT_CHOSEN ((size_t)-1)

/* One file system of the choice. */
struct node {
    const struct mount *mount;
    size_t above; /* how many of the choice rest on it and are not placed yet */
    bool is_placed;
};

/* `above` rests on `below`, both indexes of nodes. */
struct edge {
    size_t above;
    size_t below;
};

struct planner {
    const struct mount_table *table;
    const struct storage *storage;
    const struct mount **chosen; /* by superblock: by which mount it is chosen, or NULL */
    size_t *node_of;             /* by superblock: its node, or NOT_CHOSEN */
    struct node *nodes;          /* the newest first */
    size_t node_count;
    struct edge *edges;
    size_t edge_count, edge_capacity;
    size_t walked; /* the node whose ground is being looked at */
};

/* --- the choice --- */

static bool is_listed(const char *point, const char *const *points, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(points[i], point) == 0)
            return true;
    return false;
}

static void choose(struct planner *planner, const struct freeze_choice *choice)
{
    const struct mount_table *table = planner->table;
    for (size_t i = 0; i < table->count; i++) {
        const struct mount *mount = &table->mounts[i];
        if (mount_is_on_disk(mount) && mount->is_reachable && !planner->chosen[mount->superblock] &&
            (choice->all || is_listed(mount->point, choice->points, choice->point_count)))
            planner->chosen[mount->superblock] = mount;
    }
    if (!choice->exclude)
        return;
    for (size_t i = 0; i < table->count; i++)
        if (is_listed(table->mounts[i].point, (const char *const *)choice->exclude->items,
                      choice->exclude->count))
            planner->chosen[table->mounts[i].superblock] = NULL;
}

static void number(struct planner *planner)
{
    for (size_t i = planner->table->superblock_count; i > 0; i--) {
        planner->node_of[i - 1] = NOT_CHOSEN;
        if (!planner->chosen[i - 1])
            continue;
        planner->node_of[i - 1] = planner->node_count;
        planner->nodes[planner->node_count++].mount = planner->chosen[i - 1];
    }
}

static size_t count_unreachable(const struct mount_table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < table->superblock_count; i++) {
        const struct mount *mount = &table->mounts[table->superblocks[i].mount];
        count += mount_is_on_disk(mount) && !mount->is_reachable;
    }
    return count;
}

/* --- what rests on what --- */

static int note_below(const struct mount *mount, void *context)
{
    struct planner *planner = context;
    size_t below = planner->node_of[mount->superblock];
    if (below == NOT_CHOSEN || below == planner->walked)
        return 0;
    if (planner->edge_count == planner->edge_capacity) {
        size_t capacity = planner->edge_capacity ? planner->edge_capacity * 2 : 16;
        struct edge *edges = reallocarray(planner->edges, capacity, sizeof(*edges));
        if (!edges)
            return -ENOMEM;
        planner->edges = edges;
        planner->edge_capacity = capacity;
    }
    planner->edges[planner->edge_count++] = (struct edge){.above = planner->walked, .below = below};
    planner->nodes[below].above++;
    return 0;
}

/* A walk tells all that is below, so the edges of one node stand together. */
static int find_edges(struct planner *planner)
{
    const struct storage_visitor visitor = {.mount = note_below, .context = planner};
    for (size_t i = 0; i < planner->node_count; i++) {
        planner->walked = i;
        int error = storage_walk(planner->storage, planner->nodes[i].mount, &visitor);
        if (error)
            return error;
    }
    return 0;
}

/* The newest that nothing rests on any more. Things that rest on each other have no right order. */
static struct node *next_node(struct planner *planner)
{
    struct node *fallback = NULL;
    for (size_t i = 0; i < planner->node_count; i++) {
        struct node *node = &planner->nodes[i];
        if (node->is_placed)
            continue;
        if (node->above == 0)
            return node;
        if (!fallback)
            fallback = node;
    }
    return fallback;
}

static void place_all(struct planner *planner, struct freeze_plan *plan)
{
    struct node *node;
    while ((node = next_node(planner))) {
        size_t index = (size_t)(node - planner->nodes);
        node->is_placed = true;
        plan->mounts[plan->count++] = node->mount;
        for (size_t i = 0; i < planner->edge_count; i++)
            if (planner->edges[i].above == index)
                planner->nodes[planner->edges[i].below].above--;
    }
}

int freeze_plan_build(const struct mount_table *table, const struct storage *storage,
                      const struct freeze_choice *choice, struct freeze_plan *ret_plan)
{
    struct planner planner = {.table = table, .storage = storage};
    struct freeze_plan plan = {.unreachable = choice->all ? count_unreachable(table) : 0};
    size_t count = table->superblock_count;
    planner.chosen = calloc(count + 1, sizeof(struct mount *));
    planner.node_of = calloc(count + 1, sizeof(*planner.node_of));
    planner.nodes = calloc(count + 1, sizeof(*planner.nodes));
    plan.mounts = calloc(count + 1, sizeof(struct mount *));
    int error = planner.chosen && planner.node_of && planner.nodes && plan.mounts ? 0 : -ENOMEM;
    if (!error) {
        choose(&planner, choice);
        number(&planner);
        error = find_edges(&planner);
    }
    if (!error)
        place_all(&planner, &plan);
    free(planner.chosen);
    free(planner.node_of);
    free(planner.nodes);
    free(planner.edges);
    if (error) {
        freeze_plan_deinit(&plan);
        return error;
    }
    *ret_plan = plan;
    return 0;
}

void freeze_plan_deinit(struct freeze_plan *plan)
{
    free(plan->mounts);
    *plan = (struct freeze_plan){0};
}
