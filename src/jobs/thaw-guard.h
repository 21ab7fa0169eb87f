/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_THAW_GUARD_H
#define BELLHOP_JOBS_THAW_GUARD_H

/*
 * The thaw guard: a small process that is started with every freeze, and thaws when the freeze's
 * time is over, whatever has become of the agent. It is bellhopd itself, started by the broker with
 * THAW_GUARD_ARGUMENT; jobs/guard-link.h is the agent's end, jobs/guard-protocol.h what they say.
 *
 * Before anything is frozen it has every descriptor, its threads, and all its memory locked; from
 * then on it allocates nothing, writes nothing (but the record, once everything is thawed), and
 * hears no signal but SIGKILL.
 *
 * It also thaws at once if the agent dies in the midst of a freeze or of a thaw. If the agent dies
 * between them, it leaves everything frozen until the deadline, for the next agent to thaw.
 */

/* `bellhopd --thaw-guard FOLDER`, the folder with the agent's socket. */
#define THAW_GUARD_ARGUMENT "--thaw-guard"

/* Runs it. Returns the exit status. */
int thaw_guard_main(int argc, char **argv);

#endif
