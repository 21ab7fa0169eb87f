/* SPDX-License-Identifier: MIT */
#include "security/capabilities.h"

#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifdef HAVE_LIBCAP
#include <sys/capability.h>
#endif

#include "base/buffer.h"

enum { SET_BITS = 64 };

uint64_t capability_needs_set(const struct capability_need *needs, bool with_extras)
{
    uint64_t set = 0;
    for (; needs && needs->why; needs++)
        if (with_extras || !needs->is_extra)
            set |= CAPABILITY_BIT(needs->capability);
    return set;
}

#ifdef HAVE_LIBCAP

static void free_state(cap_t *state)
{
    if (*state)
        cap_free(*state);
}

static unsigned known_count(void)
{
    int bits = cap_max_bits();
    return bits <= 0 ? 0 : bits > SET_BITS ? SET_BITS : (unsigned)bits;
}

uint64_t capabilities_known(void)
{
    unsigned count = known_count();
    return count == SET_BITS ? UINT64_MAX : CAPABILITY_BIT(count) - 1;
}

static uint64_t read_flag(cap_t state, cap_flag_t flag)
{
    uint64_t set = 0;
    for (unsigned i = 0; i < known_count(); i++) {
        cap_flag_value_t value = CAP_CLEAR;
        if (cap_get_flag(state, (cap_value_t)i, flag, &value) == 0 && value == CAP_SET)
            set |= CAPABILITY_BIT(i);
    }
    return set;
}

int capabilities_read(struct capability_sets *ret_sets)
{
    _cleanup_(free_state) cap_t state = cap_get_proc();
    if (!state)
        return -errno;
    struct capability_sets sets = {
        .effective = read_flag(state, CAP_EFFECTIVE),
        .permitted = read_flag(state, CAP_PERMITTED),
        .inheritable = read_flag(state, CAP_INHERITABLE),
    };
    for (unsigned i = 0; i < known_count(); i++) {
        if (cap_get_bound((cap_value_t)i) > 0)
            sets.bounding |= CAPABILITY_BIT(i);
        if (cap_get_ambient((cap_value_t)i) > 0)
            sets.ambient |= CAPABILITY_BIT(i);
    }
    *ret_sets = sets;
    return 0;
}

static int write_flag(cap_t state, cap_flag_t flag, uint64_t set)
{
    cap_value_t values[SET_BITS];
    int count = 0;
    for (unsigned i = 0; i < known_count(); i++)
        if (set & CAPABILITY_BIT(i))
            values[count++] = (cap_value_t)i;
    if (cap_clear_flag(state, flag) < 0)
        return -errno;
    return count > 0 && cap_set_flag(state, flag, count, values, CAP_SET) < 0 ? -errno : 0;
}

static int drop_bounding(uint64_t kept)
{
    for (unsigned i = 0; i < known_count(); i++) {
        if (kept & CAPABILITY_BIT(i) || cap_get_bound((cap_value_t)i) <= 0)
            continue;
        if (cap_drop_bound((cap_value_t)i) < 0)
            return -errno;
    }
    return 0;
}

static int raise_ambient(uint64_t set)
{
    /* A kernel or a lock on the securebits that has none is no obstacle to having none. */
    if (cap_reset_ambient() < 0 && set != 0)
        return -errno;
    for (unsigned i = 0; i < known_count(); i++)
        if (set & CAPABILITY_BIT(i) && cap_set_ambient((cap_value_t)i, CAP_SET) < 0)
            return -errno;
    return 0;
}

int capabilities_apply(const struct capability_sets *sets)
{
    _cleanup_(free_state) cap_t state = cap_init();
    if (!state)
        return -errno;
    int error = write_flag(state, CAP_EFFECTIVE, sets->effective);
    if (!error)
        error = write_flag(state, CAP_PERMITTED, sets->permitted);
    if (!error)
        error = write_flag(state, CAP_INHERITABLE, sets->inheritable);
    if (!error)
        error = drop_bounding(sets->bounding);
    if (!error && cap_set_proc(state) < 0)
        error = -errno;
    return error ? error : raise_ambient(sets->ambient);
}

int capabilities_set_effective(uint64_t set)
{
    _cleanup_(free_state) cap_t state = cap_get_proc();
    if (!state)
        return -errno;
    int error = write_flag(state, CAP_EFFECTIVE, set);
    if (error)
        return error;
    return cap_set_proc(state) < 0 ? -errno : 0;
}

void capability_name(unsigned number, char ret_name[32])
{
    char *name = cap_to_name((cap_value_t)number);
    if (name && name[0] == 'c')
        snprintf(ret_name, 32, "%s", name);
    else
        snprintf(ret_name, 32, "cap_%u", number);
    if (name)
        cap_free(name);
}

int capability_from_name(const char *name, unsigned *ret_number)
{
    char full[32];
    cap_value_t value;
    bool has_prefix = strncasecmp(name, "cap_", 4) == 0;
    int length = snprintf(full, sizeof(full), "%s%s", has_prefix ? "" : "cap_", name);
    if (length < 0 || (size_t)length >= sizeof(full) || cap_from_name(full, &value) < 0)
        return -EINVAL;
    *ret_number = (unsigned)value;
    return 0;
}

#else

uint64_t capabilities_known(void)
{
    return 0;
}

int capabilities_read(struct capability_sets *ret_sets)
{
    return -EOPNOTSUPP;
}

int capabilities_apply(const struct capability_sets *sets)
{
    return -EOPNOTSUPP;
}

int capabilities_set_effective(uint64_t set)
{
    return -EOPNOTSUPP;
}

void capability_name(unsigned number, char ret_name[32])
{
    snprintf(ret_name, 32, "cap_%u", number);
}

int capability_from_name(const char *name, unsigned *ret_number)
{
    return -EINVAL;
}

#endif

int capabilities_lock_securebits(void)
{
    unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                         SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                         SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0 ? -errno : 0;
}

int capabilities_keep_as_user(uint32_t user, uint32_t group, const uint32_t *groups,
                              size_t group_count)
{
#ifdef HAVE_LIBCAP /* else nobody could take them away later */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -errno;
#endif
    int error = 0;
    if (setgroups(group_count, groups) < 0 || setresgid(group, group, group) < 0 ||
        setresuid(user, user, user) < 0)
        error = -errno;
    (void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return error;
}

void capabilities_describe(uint64_t set, struct buffer *out)
{
    const char *separator = "";
    char name[32];
    for (unsigned i = 0; i < SET_BITS; i++) {
        if (!(set & CAPABILITY_BIT(i)))
            continue;
        capability_name(i, name);
        buffer_append_format(out, "%s%s", separator, name);
        separator = " ";
    }
    if (set == 0)
        buffer_append_text(out, "none");
}
