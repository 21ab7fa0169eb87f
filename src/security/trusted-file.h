/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_TRUSTED_FILE_H
#define BELLHOP_SECURITY_TRUSTED_FILE_H

#include "base/cleanup.h"

/*
 * Checks that nobody can change the file but root and the account that this process runs as: neither
 * itself nor which file its path leads to. So every folder on its true path is looked at, too; one
 * that everybody may write to is good enough if it is sticky, like /tmp.
 *
 * Returns 0; -errno if it cannot be looked at; or -EPERM with what is wrong in `ret_reason`
 * (malloc'ed; NULL without memory), which names the file or folder. Start-up only.
 */
int trusted_file_check(const char *path, char **ret_reason) MUST_CHECK;

#endif
