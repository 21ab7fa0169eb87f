/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CONFIG_H
#define BELLHOP_CONFIG_H

/*
 * The configuration, put together from what later overrides earlier:
 *
 *   1. what is built in
 *   2. bellhop's file: $BELLHOP_CONF, else /etc/bellhop/bellhop.conf
 *   3. the classic agent's file: -c, else $QGA_CONF, else /etc/qemu/qemu-ga.conf, else
 *      /etc/qemu-ga/qemu-ga.conf
 *   4. the policy's files: *.conf in $BELLHOP_POLICY, else in /etc/bellhop/policy.d, by name
 *   5. --set
 *   6. the other options
 *   7. sockets that a service manager passed: one whose name is a channel's is that channel's; of the
 *      others the first is the classic channel's, as it is the classic agent's, and each further one
 *      makes a channel of its own
 *
 * The first two files may have every group: [general] with the classic keys, bellhop's own settings
 * (base/settings.h), [channel NAME], and the policy (security/policy.h). Those of the policy have
 * its groups, and of channels what their clients may do. A file with some of the policy in it, which
 * others than root (or the agent's own user) can change, is refused. Only the lists of commands add up
 * instead of being overridden. A file that is not there is no error, unless -c names it.
 *
 * What the classic agent ignores is a warning in [general] and, for a group that bellhop does not
 * have, in the classic agent's file. Everywhere else a key, group or value that is not understood
 * is an error: a limit that is not in force because of a typo is found out too late.
 *
 * bellhop.conf(5) is the user's side of this.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/settings.h"
#include "base/text-list.h"
#include "peer.h"
#include "security/policy.h"

struct buffer;
struct options;

#define CONFIG_CLASSIC_CHANNEL "general"
#define CONFIG_DEFAULT_PIDFILE "/var/run/qemu-ga.pid"

/* One way for hosts to reach the agent. Other channels may not have the same method and path. */
struct config_channel {
    char *name;   /* of its group; CONFIG_CLASSIC_CHANNEL for the one of -m and -p */
    char *method; /* one of virtio-serial, isa-serial, unix-listen, vsock-listen */
    char *path;   /* never NULL: the method's default is filled in */
    char *vsock_peers; /* which CIDs may connect; NULL: the host */
    int passed_fd;     /* the socket, if it was passed to the agent; or 0 */

    enum profile profile; /* the policy's, unless it was given here */
    bool has_profile;
    struct peer_rule peer; /* who may connect */
};

/* Commands in the order in which the classic agent's dump shows them, which means nothing. */
struct config_list {
    struct text_list names; /* also names that are no commands */
    bool is_given;          /* there is such a list; if it is an empty one, it means no command */
};

/* Never changed after config_load(): any thread may read it. */
struct config {
    bool daemon;
    bool verbose;
    bool retry_path;
    char *logfile;    /* NULL: stderr */
    char *pidfile;    /* NULL: none */
    bool has_pidfile; /* it was asked for: by -f, or by a file that does not just name the default
                         (as dumps do); else `pidfile` is only for daemons */
    char *fsfreeze_hook; /* NULL: none */
    char *statedir;      /* absolute */

    /* With `allow_rpcs` given nothing else is allowed; what `block_rpcs` has is never allowed. */
    struct config_list block_rpcs;
    struct config_list allow_rpcs;

    struct config_channel *channels; /* array of `channel_count`; the first is the classic one */
    size_t channel_count;

    struct settings settings;
    struct policy policy; /* with everything looked up */

    struct text_list files;    /* the files that were read, in that order */
    struct text_list warnings; /* for the log, once it is open */
};

/*
 * Reads the files and merges everything. `commands` is the NULL-terminated array of all commands'
 * names, which [deadline] and the lists are checked against.
 *
 * Returns 0; -EINVAL or the -errno of reading a file, with a message for the operator in
 * `ret_reason` (malloc'ed) that names file and line; or -ENOMEM. `options` may go afterwards.
 * Start-up only (it reads the environment).
 */
int config_load(const struct options *options, const char *const *commands,
                struct config **ret_config, char **ret_reason) MUST_CHECK;
struct config *config_free(struct config *config);

/*
 * Appends the configuration as a file: [general] as `qemu-ga --dump-conf` writes it, then channels
 * and bellhop's own settings so far as they are set to something else than their defaults. The rules
 * of the policy stay where they are.
 */
void config_dump(const struct config *config, struct buffer *out);

/*
 * Reads the text of a policy's file, which messages call `name`, and forgets it: only whether it can
 * be understood, without looking anything up. Returns as config_load() does. For tests.
 */
int config_check_policy(const char *name, const char *text, size_t length,
                        char **ret_reason) MUST_CHECK;

#endif
