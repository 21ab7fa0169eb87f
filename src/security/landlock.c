/* SPDX-License-Identifier: MIT */
#include "security/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same on every architecture (they are younger than the common table). */
enum {
    CALL_CREATE_RULESET = 444,
    CALL_ADD_RULE = 445,
    CALL_RESTRICT_SELF = 446,
};

enum { CREATE_RULESET_VERSION = 1, RULE_PATH_BENEATH = 1 };

#define FS_EXECUTE     (UINT64_C(1) << 0)
#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_REMOVE_DIR  (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_CHAR   (UINT64_C(1) << 6)
#define FS_MAKE_DIR    (UINT64_C(1) << 7)
#define FS_MAKE_REG    (UINT64_C(1) << 8)
#define FS_MAKE_SOCK   (UINT64_C(1) << 9)
#define FS_MAKE_FIFO   (UINT64_C(1) << 10)
#define FS_MAKE_BLOCK  (UINT64_C(1) << 11)
#define FS_MAKE_SYM    (UINT64_C(1) << 12)
#define FS_REFER       (UINT64_C(1) << 13) /* ABI 2 */
#define FS_TRUNCATE    (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV   (UINT64_C(1) << 15) /* ABI 5 */

#define FS_OF_ABI_1 ((UINT64_C(1) << 13) - 1)
/* What can be said of something that is no directory. */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

#define FS_FOR_READ    (FS_READ_FILE | FS_READ_DIR | FS_IOCTL_DEV)
#define FS_FOR_EXECUTE (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define FS_FOR_WRITE                                                                            \
    (FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | \
     FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER | FS_IOCTL_DEV)

#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL               (UINT64_C(1) << 1)

/* Older kernels take it with its end cut off or zero. */
struct ruleset_attributes {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

struct path_attributes {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
#ifdef HAVE_LANDLOCK
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
    if (abi < 0)
        return 0;
    return abi > LANDLOCK_ABI_MAX ? LANDLOCK_ABI_MAX : (int)abi;
#else
    return 0;
#endif
}

static uint64_t handled_access(int abi)
{
    uint64_t access = FS_OF_ABI_1;
    if (abi >= 2)
        access |= FS_REFER;
    if (abi >= 3)
        access |= FS_TRUNCATE;
    if (abi >= 5)
        access |= FS_IOCTL_DEV;
    return access;
}

static int add_path(int ruleset_fd, const char *path, uint64_t access)
{
    _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISDIR(status.st_mode))
        access &= FS_OF_FILES;
    if (access == 0)
        return 0;
    struct path_attributes attributes = {.allowed_access = access, .parent_fd = fd};
    return syscall(CALL_ADD_RULE, ruleset_fd, RULE_PATH_BENEATH, &attributes, 0) < 0 ? -errno : 0;
}

static int add_paths(int ruleset_fd, const struct landlock_paths *paths, uint64_t access,
                     const char **ret_path)
{
    for (size_t i = 0; i < paths->count; i++) {
        int error = add_path(ruleset_fd, paths->items[i], access);
        if (error) {
            *ret_path = paths->items[i];
            return error;
        }
    }
    return 0;
}

int landlock_ruleset_new(const struct landlock_scope *scope, int *ret_fd, const char **ret_path)
{
    *ret_path = NULL;
    int abi = landlock_abi();
    if (abi == 0)
        return -EOPNOTSUPP;
    uint64_t handled = handled_access(abi);
    struct ruleset_attributes attributes = {.handled_access_fs = handled};
    size_t size = sizeof(attributes.handled_access_fs);
    if (abi >= 6 && scope->is_isolated) {
        attributes.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
        size = sizeof(attributes);
    }
    _cleanup_close_ int fd = (int)syscall(CALL_CREATE_RULESET, &attributes, size, 0);
    if (fd < 0)
        return -errno;
    int error = add_paths(fd, &scope->read, handled & FS_FOR_READ, ret_path);
    if (!error)
        error = add_paths(fd, &scope->write, handled & FS_FOR_WRITE, ret_path);
    if (!error)
        error = add_paths(fd, &scope->execute, handled & FS_FOR_EXECUTE, ret_path);
    if (!error)
        error = add_paths(fd, &scope->list, FS_READ_DIR, ret_path);
    if (error)
        return error;
    *ret_fd = take_fd(&fd);
    return 0;
}

int landlock_restrict_self(int ruleset_fd)
{
    return syscall(CALL_RESTRICT_SELF, ruleset_fd, 0) < 0 ? -errno : 0;
}

const char *landlock_lacks(int abi)
{
    if (abi == 0)
        return "the kernel has no Landlock or does not enable it (lsm=), or it was not built in";
    if (abi < 3)
        return "the kernel's Landlock does not cover truncate(2) and ioctl(2)";
    if (abi < 5)
        return "the kernel's Landlock does not cover ioctl(2) on devices";
    return NULL;
}
