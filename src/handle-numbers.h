/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_HANDLE_NUMBERS_H
#define BELLHOP_HANDLE_NUMBERS_H

/*
 * File handles are never used again, not by the next agent either: a client that does not know of
 * a restart must not write into somebody else's file. Each agent takes a block of numbers, noted in
 * the state directory. Start-up only.
 */

#include <stdint.h>

#include "base/cleanup.h"

/* Handles that one agent may give out before it enters the next one's block. */
#define HANDLE_NUMBERS_BLOCK 10000000

/*
 * Takes a block. Sets `ret_first` in any case; returns 0, or -errno if the block could not be noted:
 * the next agent will then count from the same number.
 */
int handle_numbers_take(const char *state_directory, int64_t *ret_first) MUST_CHECK;

#endif
