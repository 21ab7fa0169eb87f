/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CONFIG_POLICY_H
#define BELLHOP_CONFIG_POLICY_H

/* Where the policy comes from, for config.c. */

#include "base/cleanup.h"

struct config_loader;

typedef int (*config_file_loader)(struct config_loader *loader, const char *path);

/*
 * Has every file of the policy's folder loaded, by name. That there is none is no error. Returns 0,
 * -EINVAL with the reason set, or -ENOMEM.
 */
int config_load_policy(struct config_loader *loader, config_file_loader load_file) MUST_CHECK;

/* Refuses a file or folder that others could change. Returns 0 or -EINVAL with the reason set. */
int config_check_trust(struct config_loader *loader, const char *path) MUST_CHECK;

#endif
