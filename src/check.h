/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CHECK_H
#define BELLHOP_CHECK_H

/* `bellhopd --check`: says what a configuration allows, and what the sandbox is where it is run. */

#include <stdio.h>

#include "base/cleanup.h"

struct config;
struct sandbox;

/*
 * Prints it. Returns the exit status: not 0 if it could not be found out or written, or if a part of
 * the sandbox cannot be had and the configuration is strict.
 */
int check_print(const struct config *config, struct sandbox *sandbox, FILE *out) MUST_CHECK;

#endif
