/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_OWN_PROGRAMS_H
#define BELLHOP_OWN_PROGRAMS_H

/*
 * What the broker is told at its start of what it may run: the rules for programs, which profiles have
 * guest-exec on some channel, and which programs of the system the enabled commands have.
 */

#include "base/cleanup.h"
#include "jobs/broker-policy.h"

struct config;
struct gate;
struct own_programs;

/*
 * Collects them. Points into the config, and into tables. NULL: no memory. Before the broker is
 * forked, which has a copy then.
 */
struct own_programs *own_programs_new(const struct config *config, const struct gate *gate);
struct own_programs *own_programs_free(struct own_programs *programs);

/* Borrowed; lives as long as the other. */
const struct broker_policy *own_programs_policy(const struct own_programs *programs);

#endif
