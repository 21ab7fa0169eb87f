/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CONFIG_ENTRY_H
#define BELLHOP_CONFIG_ENTRY_H

/*
 * Enters single values into a configuration that is being put together, for config.c. What
 * configuration there is, group by group, is here; where it comes from is there.
 */

#include <stdbool.h>

#include "config.h"

/* The configuration, and where the value comes from that is being looked at: messages say so. */
struct config_loader {
    struct config *config;
    const char *const *commands; /* all commands' names, NULL-terminated */
    const char *file;            /* or the argument of --set, with `line` 0; or NULL */
    unsigned line;
    bool is_classic_file;
    bool is_policy_file; /* which has nothing but policy */
    bool has_policy;     /* the file that is read has some of it: it has to be trusted */
    char **ret_reason;
};

/* Sets the reason, with the place before it. Returns -EINVAL. */
int config_fail(struct config_loader *loader, const char *format, ...) PRINTF_LIKE(2, 3);

/* Adds "PLACE: TEXT: 'NAME'" to the warnings. Returns 0 or -ENOMEM. */
int config_warn(struct config_loader *loader, const char *text, const char *name) MUST_CHECK;

/*
 * Enters one value, with its escapes resolved; or a group's header, for which `key` and `value` are
 * NULL. Returns 0, -EINVAL with the reason set, or -ENOMEM.
 */
int config_set_entry(struct config_loader *loader, const char *group, const char *key,
                     const char *value) MUST_CHECK;

/* Adds a channel of that name without anything else. Returns 0 or -ENOMEM. */
int config_add_channel(struct config *config, const char *name,
                       struct config_channel **ret_channel) MUST_CHECK;

/* True if there is such a group. */
bool config_has_group(const char *group);

/* True if [general] has that key. */
bool config_has_general(const char *key);

/* Adds the names of a list as users write it. Returns 0 or -ENOMEM. */
int config_add_names(struct config_list *list, const char *text) MUST_CHECK;

bool config_is_name_in(const char *const *names, const char *name);

#endif
