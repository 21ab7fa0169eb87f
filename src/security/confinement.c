/* SPDX-License-Identifier: MIT */
#include "security/confinement.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "security/capabilities.h"

enum { TEXT_MAX = 512 };

/* The sanitizers look into their own process from another one and start a program to name what they
 * find: a filter or Landlock would end a test instead of letting it fail. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZERS 1
#endif
#endif
#ifndef HAS_SANITIZERS
#define HAS_SANITIZERS 0
#endif

struct listener {
    confinement_complaint complain;
    void *context;
};

static void tell(const struct listener *listener, const char *format, ...) PRINTF_LIKE(2, 3);
static void tell(const struct listener *listener, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    listener->complain(listener->context, text);
}

/* --- what is made ready --- */

static void prepare_files(struct confinement *confinement, const struct listener *listener)
{
    const char *path = NULL;
    int error = landlock_ruleset_new(&confinement->files, &confinement->ruleset_fd, &path);
    const char *lacks = landlock_lacks(landlock_abi());
    if (lacks)
        tell(listener, "Landlock: %s", lacks);
    if (error && error != -EOPNOTSUPP)
        tell(listener, "Landlock: %s%s%s", path ? path : "", path ? ": " : "", strerror(-error));
}

static void prepare_calls(struct confinement *confinement, const struct listener *listener)
{
    const char *item = NULL;
    if (!syscall_filter_is_available()) {
        tell(listener, "seccomp: %s",
             syscall_filter_is_built() ? "the kernel has none" : "it was not built in");
        return;
    }
    int error = syscall_filter_new(&confinement->calls, &confinement->filter, &item);
    if (error)
        tell(listener, "seccomp: %s%s%s", item ? item : "", item ? ": " : "", strerror(-error));
}

void confinement_prepare(struct confinement *confinement, confinement_complaint complain,
                         void *context)
{
    const struct listener listener = {complain, context};
    if (HAS_SANITIZERS) {
        if (confinement->limits_files || confinement->limits_calls)
            tell(&listener, "Landlock and seccomp: a build with sanitizers cannot work with them");
        return;
    }
    if (confinement->limits_files)
        prepare_files(confinement, &listener);
    if (confinement->limits_calls)
        prepare_calls(confinement, &listener);
}

void confinement_deinit(struct confinement *confinement)
{
    confinement->ruleset_fd = close_fd(confinement->ruleset_fd);
    confinement->filter = syscall_filter_free(confinement->filter);
}

/* --- what is put in force --- */

static void become_user(const struct confinement_user *user, const struct listener *listener)
{
    if (geteuid() != 0) {
        if (geteuid() != user->user)
            tell(listener, "user: it stays %u, for only root can become another",
                 (unsigned)geteuid());
        return;
    }
    int error = capabilities_keep_as_user(user->user, user->group, user->groups, user->group_count);
    if (error)
        tell(listener, "user: %s", strerror(-error));
}

/* What takes capabilities away takes some: CAP_SETPCAP is in force while it is done. */
static void limit_capabilities(const struct confinement *confinement,
                               const struct listener *listener)
{
    struct capability_sets now;
    int error = capabilities_read(&now);
    if (!error)
        error = capabilities_set_effective(now.permitted);
    if (error) {
        tell(listener, "capabilities: %s",
             error == -EOPNOTSUPP ? "libcap was not built in" : strerror(-error));
        return;
    }
    struct capability_sets wanted = {
        .permitted = now.permitted & confinement->capabilities,
        .bounding = confinement->capabilities,
    };
    if (confinement->in_force)
        wanted.effective = wanted.permitted;
    bool can_set = now.permitted & CAPABILITY_BIT(CAP_SETPCAP);
    if (!can_set && now.bounding & ~wanted.bounding) {
        tell(listener, "bounding set: it stays, for want of CAP_SETPCAP");
        wanted.bounding = CAPABILITIES_ALL;
    }
    if (confinement->locks_securebits) {
        error = can_set ? capabilities_lock_securebits() : -EPERM;
        if (error && (now.permitted || geteuid() == 0))
            tell(listener, "securebits: %s", strerror(-error));
    }
    error = capabilities_apply(&wanted);
    if (error)
        tell(listener, "capabilities: %s", strerror(-error));
}

void confinement_apply(const struct confinement *confinement, confinement_complaint complain,
                       void *context)
{
    const struct listener listener = {complain, context};
    int error;
    if (confinement->user)
        become_user(confinement->user, &listener);
    if (confinement->limits_capabilities)
        limit_capabilities(confinement, &listener);
    if (confinement->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        tell(&listener, "no_new_privs: %s", strerror(errno));
    if (confinement->ruleset_fd >= 0) {
        error = landlock_restrict_self(confinement->ruleset_fd);
        if (error)
            tell(&listener, "Landlock: %s", strerror(-error));
    }
    if (confinement->filter) {
        error = syscall_filter_load(confinement->filter);
        if (error)
            tell(&listener, "seccomp: %s", strerror(-error));
    }
}
