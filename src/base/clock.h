/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_CLOCK_H
#define BELLHOP_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC. Any thread. */
uint64_t clock_now_ms(void);

/* The moment of CLOCK_MONOTONIC so far from now, as pthread_cond_timedwait(3) takes it. Any thread. */
struct timespec clock_deadline(uint64_t milliseconds);

#endif
