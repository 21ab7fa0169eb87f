/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_POLICY_REPORT_H
#define BELLHOP_POLICY_REPORT_H

struct buffer;
struct config;
struct gate;

/*
 * Appends what the policy comes to, for `bellhopd --check`: each channel with its profile and who may
 * connect, each profile in use with the commands that it may use, and the rules.
 */
void policy_report(const struct config *config, const struct gate *gate, struct buffer *out);

#endif
