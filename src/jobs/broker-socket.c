/* SPDX-License-Identifier: MIT */
#include "jobs/broker-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 4

static uid_t trusted_user;

void broker_socket_trust(uid_t user)
{
    trusted_user = user;
}

static int make_directory(const char *state_directory, const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    if (errno != ENOENT)
        return -errno;
    if (mkdir(state_directory, 0755) < 0 && errno != EEXIST)
        return -errno;
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int broker_directory_open(const char *state_directory)
{
    _cleanup_free_ char *path = NULL;
    if (asprintf(&path, "%s/bellhop", state_directory) < 0) {
        path = NULL;
        return -ENOMEM;
    }
    int error = make_directory(state_directory, path);
    if (error)
        return error;
    _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    /* Who can write here could put a socket of their own in a broker's place. */
    if (status.st_uid != geteuid() || (status.st_mode & 077) != 0)
        return -EPERM;
    return take_fd(&fd);
}

/*
 * A socket's address has room for 107 characters, a state directory may need more. So the
 * directory is named by its descriptor.
 */
static int socket_address(int directory_fd, const char *name, struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(ret_address->sun_path, sizeof(ret_address->sun_path),
                          "/proc/self/fd/%d/%s", directory_fd, name);
    return length < 0 || (size_t)length >= sizeof(ret_address->sun_path) ? -ENAMETOOLONG : 0;
}

/* A socket that is neither bound nor connected yet, and the address it is to have or to reach. */
static int open_socket(int directory_fd, const char *name, struct sockaddr_un *ret_address)
{
    int error = socket_address(directory_fd, name, ret_address);
    if (error)
        return error;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int broker_socket_listen(int directory_fd, char **ret_name)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return -EIO;
    _cleanup_free_ char *name = NULL;
    if (asprintf(&name, ".broker-%ld-%016" PRIx64 ".sock", (long)getpid(), random) < 0) {
        name = NULL;
        return -ENOMEM;
    }
    struct sockaddr_un address;
    _cleanup_close_ int fd = open_socket(directory_fd, name, &address);
    if (fd < 0)
        return fd;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    /* The name without the dot: it is seen once it listens, see the header. */
    if (listen(fd, BACKLOG) < 0 || renameat(directory_fd, name, directory_fd, name + 1) < 0) {
        int error = -errno;
        (void)unlinkat(directory_fd, name, 0);
        return error;
    }
    char *visible_name = strdup(name + 1);
    if (!visible_name) {
        (void)unlinkat(directory_fd, name + 1, 0);
        return -ENOMEM;
    }
    *ret_name = visible_name;
    return take_fd(&fd);
}

int broker_socket_connect(int directory_fd, const char *name)
{
    struct sockaddr_un address;
    _cleanup_close_ int fd = open_socket(directory_fd, name, &address);
    if (fd < 0)
        return fd;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    if (!broker_socket_peer_is_trusted(fd))
        return -EPERM;
    return take_fd(&fd);
}

bool broker_socket_is_name(const char *name)
{
    size_t length = strlen(name);
    return length > 12 && strncmp(name, "broker-", 7) == 0 &&
           strcmp(name + length - 5, ".sock") == 0;
}

bool broker_socket_peer_is_trusted(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    return peer.uid == geteuid() || peer.uid == 0 || peer.uid == trusted_user;
}
