/* SPDX-License-Identifier: MIT */
#include "io/transport.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/transport-method.h"

static const struct transport_class *const classes[] = {
    [TRANSPORT_VIRTIO_SERIAL] = &transport_virtio_class,
    [TRANSPORT_UNIX_LISTEN] = &transport_unix_class,
    [TRANSPORT_ISA_SERIAL] = &transport_serial_class,
    [TRANSPORT_VSOCK_LISTEN] = &transport_vsock_class,
};

void transport_set_reason(char **ret_reason, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(ret_reason, format, arguments) < 0)
        *ret_reason = NULL;
    va_end(arguments);
}

int transport_open(struct event_base *base, const struct transport_options *options,
                   const struct transport_ops *ops, void *context, struct transport **ret_transport,
                   char **ret_reason)
{
    const struct transport_class *class = classes[options->method];
    const char *path = options->path ? options->path : class->default_path;
    _cleanup_free_ char *copy = NULL;
    struct transport common = {.class = class, .base = base, .ops = ops, .context = context};
    int result;

    assert_on_loop();
    *ret_reason = NULL;
    if (!path || !path[0]) {
        transport_set_reason(ret_reason, "%s needs a path", class->name);
        return -EINVAL;
    }
    copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    common.path = copy;
    result = class->open(&common, options, ret_transport, ret_reason);
    if (result < 0) {
        if (!*ret_reason)
            transport_set_reason(ret_reason, "%s %s: %s", class->name, path, strerror(-result));
        return result;
    }
    (void)take_ptr(&copy);
    return 0;
}

void transport_disconnected(struct transport *transport)
{
    assert_on_loop();
    transport->class->disconnected(transport);
}

struct transport *transport_free(struct transport *transport)
{
    if (transport) {
        char *path = transport->path;

        assert_on_loop();
        transport->class->free(transport);
        free(path);
    }
    return NULL;
}

bool transport_is_device(const struct transport *transport)
{
    return transport->class->is_device;
}

const char *transport_path(const struct transport *transport)
{
    return transport->path;
}

const char *transport_method_name(enum transport_method method)
{
    return classes[method]->name;
}

int transport_method_from_name(const char *name, enum transport_method *ret_method)
{
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (strcmp(name, classes[i]->name) == 0) {
            *ret_method = (enum transport_method)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *transport_default_path(enum transport_method method)
{
    return classes[method]->default_path;
}
