/* SPDX-License-Identifier: MIT */
/*
 * vsock-listen: a listening stream socket of vsock(7).
 *
 * Everybody who can open a vsock socket may try to connect: the host, other machines where a
 * hypervisor lets them, and programs of this machine. So it is looked at from where a connection
 * comes. Its CID cannot be forged: the hypervisor, or this kernel, fills it in.
 */
#include "io/transport-listen.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "base/log.h"
#include "base/vsock-address.h"

struct transport_vsock {
    struct transport_listen listen;
    struct vsock_peers peers;
    uint32_t refused_cid; /* the last one, which was logged */
};

static void explain(const char *path, int error, uint32_t cid, char **ret_reason)
{
    switch (error) {
    case -EADDRINUSE:
        transport_set_reason(ret_reason, "another program listens on vsock port %s", path);
        break;
    case -EADDRNOTAVAIL:
        transport_set_reason(ret_reason,
                             "cannot listen on vsock port %s: this machine's CID is not %" PRIu32
                             ", or it has no vsock device",
                             path, cid);
        break;
    case -EAFNOSUPPORT:
    case -ENODEV:
        transport_set_reason(ret_reason, "cannot listen on vsock port %s: the kernel has no vsock",
                             path);
        break;
    default:
        break;
    }
}

static int vsock_make_socket(struct transport_listen *transport, bool may_wait, char **ret_reason)
{
    const char *path = transport->common.path;
    struct sockaddr_vm address = {.svm_family = AF_VSOCK};
    _cleanup_close_ int fd = -1;
    int error = 0;

    if (vsock_address_parse(path, &address.svm_cid, &address.svm_port) < 0) {
        transport_set_reason(ret_reason, "'%s' is no vsock address: expected CID:PORT", path);
        return -EINVAL;
    }
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, SOMAXCONN) < 0) {
        error = -errno;
        explain(path, error, address.svm_cid, ret_reason);
        return error;
    }
    return take_fd(&fd);
}

static bool vsock_is_welcome(struct transport_listen *transport, int fd)
{
    struct transport_vsock *vsock = (struct transport_vsock *)transport;
    struct sockaddr_vm peer = {.svm_family = AF_VSOCK};
    socklen_t length = sizeof(peer);

    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        return false;
    if (peer.svm_family == AF_VSOCK && vsock_peers_have(&vsock->peers, peer.svm_cid))
        return true;
    if (peer.svm_cid != vsock->refused_cid)
        log_warning("vsock port %s: CID %" PRIu32 " is none of the peers that may connect",
                    transport->common.path, peer.svm_cid);
    vsock->refused_cid = peer.svm_cid;
    return false;
}

static void vsock_free(struct transport *transport)
{
    struct transport_vsock *vsock = (struct transport_vsock *)transport;

    transport_listen_deinit(&vsock->listen);
    free(vsock);
}

static int vsock_open(const struct transport *common, const struct transport_options *options,
                      struct transport **ret_transport, char **ret_reason)
{
    struct vsock_peers peers;
    struct transport_vsock *vsock;
    int result;

    if (vsock_peers_parse(options->vsock_peers, &peers) < 0) {
        transport_set_reason(ret_reason, "'%s' is no list of vsock peers: expected CIDs or any",
                             options->vsock_peers);
        return -EINVAL;
    }
    vsock = calloc(1, sizeof(*vsock));
    if (!vsock)
        return -ENOMEM;
    vsock->peers = peers;
    vsock->refused_cid = VMADDR_CID_ANY;
    vsock->listen.domain = AF_VSOCK;
    vsock->listen.make_socket = vsock_make_socket;
    vsock->listen.is_welcome = vsock_is_welcome;
    result = transport_listen_start(&vsock->listen, common, options, ret_reason);
    if (result < 0) {
        vsock_free(&vsock->listen.common);
        return result;
    }
    *ret_transport = &vsock->listen.common;
    return 0;
}

const struct transport_class transport_vsock_class = {
    .name = "vsock-listen",
    .open = vsock_open,
    .disconnected = transport_listen_disconnected,
    .free = vsock_free,
};
