/* SPDX-License-Identifier: MIT */
#include "security/syscall-filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_LIBSECCOMP
#include <seccomp.h>
#endif

struct syscall_filter {
    unsigned short count;
    struct sock_filter instructions[];
};

const struct syscall_group *syscall_group_find(const char *name)
{
    for (const struct syscall_group *group = syscall_groups; group->name; group++)
        if (strcmp(group->name, name) == 0)
            return group;
    return NULL;
}

bool syscall_filter_is_available(void)
{
    unsigned action = SECCOMP_RET_ERRNO;
    return syscall_filter_is_built() &&
           syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

struct syscall_filter *syscall_filter_free(struct syscall_filter *filter)
{
    free(filter);
    return NULL;
}

int syscall_filter_load(const struct syscall_filter *filter)
{
    struct sock_fprog program = {
        .len = filter->count,
        .filter = (struct sock_filter *)(void *)filter->instructions,
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &program) == 0)
        return 0;
    /* A kernel before 4.14 cannot log. */
    if (errno == EINVAL && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
        return 0;
    return -errno;
}

#ifdef HAVE_LIBSECCOMP

static void release_context(scmp_filter_ctx *context)
{
    if (*context)
        seccomp_release(*context);
}

bool syscall_filter_is_built(void)
{
    return true;
}

bool syscall_item_is_known(const char *item)
{
    if (*item == '!')
        item++;
    return syscall_group_find(item) || seccomp_syscall_resolve_name(item) != __NR_SCMP_ERROR;
}

/* Changes what one call gets. What the library, or this architecture, does not have is left out. */
static int add_call(scmp_filter_ctx context, const char *name, uint32_t action)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number < 0)
        return 0;
    return seccomp_rule_add(context, action, number, 0);
}

/* Of calls named more than once the last mention counts; a filter has at most one rule for each. */
struct mentions {
    const char **names;
    bool *is_allowed;
    size_t count;
    size_t capacity;
};

static void mentions_deinit(struct mentions *mentions)
{
    free(mentions->names);
    free(mentions->is_allowed);
}

static bool mention(struct mentions *mentions, const char *name, bool is_allowed)
{
    for (size_t i = 0; i < mentions->count; i++) {
        if (strcmp(mentions->names[i], name) == 0) {
            mentions->is_allowed[i] = is_allowed;
            return true;
        }
    }
    if (mentions->count == mentions->capacity) {
        size_t capacity = mentions->capacity * 2 + 64;
        const char **names = reallocarray(mentions->names, capacity, sizeof(*names));
        if (!names)
            return false;
        mentions->names = names;
        bool *flags = reallocarray(mentions->is_allowed, capacity, sizeof(*flags));
        if (!flags)
            return false;
        mentions->is_allowed = flags;
        mentions->capacity = capacity;
    }
    mentions->names[mentions->count] = name;
    mentions->is_allowed[mentions->count++] = is_allowed;
    return true;
}

static int mention_item(struct mentions *mentions, const char *item)
{
    bool is_allowed = *item != '!';
    const char *name = is_allowed ? item : item + 1;
    if (!syscall_item_is_known(name))
        return -EINVAL;
    const struct syscall_group *group = syscall_group_find(name);
    if (!group)
        return mention(mentions, name, is_allowed) ? 0 : -ENOMEM;
    for (size_t i = 0; group->syscalls[i]; i++)
        if (!mention(mentions, group->syscalls[i], is_allowed))
            return -ENOMEM;
    return 0;
}

/* The finished program comes out through a descriptor only. */
static int export_program(scmp_filter_ctx context, struct syscall_filter **ret_filter)
{
    _cleanup_close_ int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = seccomp_export_bpf(context, fd);
    if (error < 0)
        return error;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    size_t bytes = (size_t)status.st_size;
    struct syscall_filter *filter = malloc(sizeof(*filter) + bytes);
    if (!filter)
        return -ENOMEM;
    filter->count = (unsigned short)(bytes / sizeof(filter->instructions[0]));
    if (bytes / sizeof(filter->instructions[0]) > BPF_MAXINSNS ||
        pread(fd, filter->instructions, bytes, 0) != (ssize_t)bytes) {
        syscall_filter_free(filter);
        return -E2BIG;
    }
    *ret_filter = filter;
    return 0;
}

static int compile(const struct mentions *mentions, bool allows_others,
                   struct syscall_filter **ret_filter)
{
    uint32_t refused = SCMP_ACT_ERRNO(EPERM);
    _cleanup_(release_context) scmp_filter_ctx context =
        seccomp_init(allows_others ? SCMP_ACT_ALLOW : refused);
    if (!context)
        return -ENOMEM;
    bool has_clone3 = allows_others;
    /* Calls of another architecture would be others by number; the attribute kills unless told. */
    int error = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, refused);
    /* Finds a call in a tree instead of a row; a library before 2.5 has only rows. */
    (void)seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < mentions->count && !error; i++) {
        bool is_allowed = mentions->is_allowed[i];
        if (strcmp(mentions->names[i], "clone3") == 0)
            has_clone3 = is_allowed;
        else if (is_allowed != allows_others)
            error = add_call(context, mentions->names[i], is_allowed ? SCMP_ACT_ALLOW : refused);
    }
    if (!error && has_clone3 != allows_others)
        error = add_call(context, "clone3", has_clone3 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS));
    else if (!error && !has_clone3)
        error = add_call(context, "clone3", SCMP_ACT_ERRNO(ENOSYS));
    return error ? error : export_program(context, ret_filter);
}

int syscall_filter_new(const struct syscall_list *list, struct syscall_filter **ret_filter,
                       const char **ret_item)
{
    _cleanup_(mentions_deinit) struct mentions mentions = {0};
    *ret_item = NULL;
    for (size_t i = 0; i < list->count; i++) {
        int error = mention_item(&mentions, list->items[i]);
        if (error) {
            *ret_item = error == -EINVAL ? list->items[i] : NULL;
            return error;
        }
    }
    bool allows_others = list->count > 0 && list->items[0][0] == '!';
    return compile(&mentions, allows_others, ret_filter);
}

#else

bool syscall_filter_is_built(void)
{
    return false;
}

bool syscall_item_is_known(const char *item)
{
    return syscall_group_find(*item == '!' ? item + 1 : item);
}

int syscall_filter_new(const struct syscall_list *list, struct syscall_filter **ret_filter,
                       const char **ret_item)
{
    *ret_item = NULL;
    return -EOPNOTSUPP;
}

#endif
