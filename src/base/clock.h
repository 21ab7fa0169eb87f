/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_CLOCK_H
#define BELLHOP_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC. Any thread. */
uint64_t clock_now_ms(void);

#endif
