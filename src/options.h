/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_OPTIONS_H
#define BELLHOP_OPTIONS_H

/*
 * The command line of bellhopd, which takes every option of the classic agent (same letters, same
 * names, same abbreviations of names) and adds --set and --root. It is only taken apart here; what the values
 * mean is config.h's. Start-up only: getopt_long(3) is not thread safe.
 */

#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/text-list.h"

enum options_action {
    OPTIONS_RUN,
    OPTIONS_DUMP_CONFIG,   /* -D */
    OPTIONS_CHECK,         /* --check */
    OPTIONS_LIST_COMMANDS, /* -b help, -a help, and "?" */
    OPTIONS_PRINT_HELP,    /* -h */
    OPTIONS_PRINT_VERSION, /* -V */
};

/* Texts are borrowed from argv and NULL where the option was not given. The last one wins. */
struct options {
    enum options_action action;
    const char *config_path;
    const char *checked_path; /* of --check: in place of bellhop's own file; NULL: that one */
    const char *method;
    const char *path;
    const char *logfile;
    const char *pidfile;
    const char *statedir;
    const char *root;
    const char *profile;
    const char *fsfreeze_hook; /* "" with wants_fsfreeze_hook: the default one */
    bool wants_fsfreeze_hook;
    bool daemonize;
    bool verbose;
    bool retry_path;
    struct text_list block_rpcs; /* one item for each -b, still with its separators */
    struct text_list allow_rpcs;
    struct text_list sets;    /* one GROUP.KEY=VALUE for each --set */
    struct text_list ignored; /* arguments that are no options: the classic agent ignores them */

    /* What a service manager passed: not of the command line, the caller adds it. Or NULL. */
    const struct passed_sockets *sockets;
};

/*
 * Takes a command line apart. At the first option that asks for an answer instead of an agent
 * (help, version, the commands) the rest is not looked at any more, as the classic agent does it.
 *
 * Returns 0; -EINVAL with a message for the operator in `ret_reason` (malloc'ed); or -ENOMEM.
 * Options that were filled are to be released by options_deinit(), also after an error.
 */
int options_parse(int argc, char **argv, struct options *ret_options, char **ret_reason) MUST_CHECK;
void options_deinit(struct options *options);

/* Writes the answers; `program` is argv[0], `commands` a NULL-terminated array of names. */
void options_print_help(FILE *out, const char *program);
void options_print_version(FILE *out);
void options_print_commands(FILE *out, const char *const *commands);

#endif
