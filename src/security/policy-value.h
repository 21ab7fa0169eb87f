/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_POLICY_VALUE_H
#define BELLHOP_SECURITY_POLICY_VALUE_H

/* The kinds of values that the policy's keys have. Pure functions, for the parser. */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/text-list.h"

/* Formats what is wrong. Returns -EINVAL, or -ENOMEM. */
int policy_fail(char **ret_reason, const char *format, ...) PRINTF_LIKE(2, 3);

/*
 * Splits a value into its words, at blanks and commas; "..." keeps them together. Appends to the list.
 * Returns 0, -EINVAL if a quote has no end, or -ENOMEM.
 */
int policy_split(const char *value, struct text_list *list) MUST_CHECK;

/* The same, but only at blanks: commas are part of arguments. */
int policy_split_arguments(const char *value, struct text_list *list) MUST_CHECK;

/* A decimal number, and nothing after it but blanks. With `has_unit` K, M or G may follow. */
bool policy_parse_number(const char *value, bool has_unit, uint64_t *ret_number);

/* A comma- or blank-separated list of profiles' names, as PROFILE_BIT()s. */
int policy_parse_profiles(const char *value, unsigned *ret_profiles, char **ret_reason) MUST_CHECK;

/* A list of capabilities, "all" or "none". Case and "CAP_" do not matter. */
int policy_parse_capabilities(const char *value, uint64_t *ret_set, char **ret_reason) MUST_CHECK;

/* The name of one of them without "CAP_", in lower case; NULL: there is none. */
const char *policy_capability_name(unsigned number);

/* "nofile" is RLIMIT_NOFILE. Returns 0 or -EINVAL. */
int policy_parse_limit_name(const char *name, int *ret_resource) MUST_CHECK;
const char *policy_limit_name(int resource);

/* A copy of an absolute path without "//", "." and a '/' at its end; ".." is refused. */
int policy_copy_path(const char *value, char **ret_path, char **ret_reason) MUST_CHECK;

/* Replaces the text at `text`. Returns 0 or -ENOMEM. */
int policy_set_text(char **text, const char *value) MUST_CHECK;

#endif
