/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "config.h"
#include "policy-report.h"
#include "sandbox-plan.h"
#include "sandbox.h"
#include "security/capabilities.h"
#include "security/landlock.h"

static void print_configuration(const struct config *config, struct buffer *out)
{
    buffer_append_text(out, "configuration:\n");
    for (size_t i = 0; i < config->files.count; i++)
        buffer_append_format(out, "    %s\n", config->files.items[i]);
    if (config->files.count == 0)
        buffer_append_text(out, "    no file: the defaults\n");
    for (size_t i = 0; i < config->warnings.count; i++)
        buffer_append_format(out, "    warning: %s\n", config->warnings.items[i]);
}

static void print_need(void *context, const char *who, unsigned capability, const char *why)
{
    char name[32];
    capability_name(capability, name);
    buffer_append_format(context, "        %s: %s: %s\n", name, who, why);
}

static void print_capabilities(const struct sandbox *sandbox, bool of_broker, struct buffer *out)
{
    const struct confinement *confinement = of_broker ? &sandbox->broker : &sandbox->agent;
    buffer_append_text(out, "    capabilities: ");
    if (confinement->limits_capabilities)
        capabilities_describe(confinement->capabilities, out);
    else
        buffer_append_text(out, "all that it is started with");
    buffer_append_char(out, '\n');
    if (confinement->limits_capabilities)
        sandbox_for_each_need(sandbox, of_broker, print_need, out);
}

static void print_paths(const struct landlock_paths *paths, const char *what, struct buffer *out)
{
    if (paths->count == 0)
        return;
    buffer_append_format(out, "    files that it may %s:", what);
    for (size_t i = 0; i < paths->count; i++)
        buffer_append_format(out, " %s", paths->items[i]);
    buffer_append_char(out, '\n');
}

static void print_confinement(const struct sandbox *sandbox, bool of_broker, struct buffer *out)
{
    const struct confinement *confinement = of_broker ? &sandbox->broker : &sandbox->agent;
    buffer_append_text(out, of_broker ? "broker:\n" : "agent:\n");
    if (confinement->user)
        buffer_append_format(out, "    user: %s (%u)\n", sandbox->user_name,
                             (unsigned)confinement->user->user);
    else
        buffer_append_format(out, "    user: as it is started (%u here)\n", (unsigned)geteuid());
    print_capabilities(sandbox, of_broker, out);
    buffer_append_format(out, "    no new privileges: %s\n",
                         confinement->no_new_privs ? "yes" : "no");
    if (confinement->limits_files) {
        print_paths(&confinement->files.read, "read", out);
        print_paths(&confinement->files.write, "write", out);
        print_paths(&confinement->files.list, "list", out);
    } else {
        buffer_append_text(out, "    files: as its user and capabilities have it\n");
    }
    buffer_append_text(out, "    system calls:");
    for (size_t i = 0; confinement->limits_calls && i < confinement->calls.count; i++)
        buffer_append_format(out, " %s", confinement->calls.items[i]);
    buffer_append_text(out, confinement->limits_calls ? "\n" : " all\n");
}

static void print_complaints(const struct sandbox *sandbox, struct buffer *out)
{
    buffer_append_format(out, "kernel:\n    Landlock: version %d\n    seccomp: %s\n",
                         landlock_abi(), syscall_filter_is_available() ? "yes" : "no");
    buffer_append_text(out, "what cannot be put in force here:\n");
    for (size_t i = 0; i < sandbox->complaints.count; i++)
        buffer_append_format(out, "    %s\n", sandbox->complaints.items[i]);
    if (sandbox->complaints.count == 0)
        buffer_append_text(out, "    nothing\n");
}

int check_print(const struct config *config, struct sandbox *sandbox, FILE *out)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    int error = sandbox_try(sandbox);
    print_configuration(config, &text);
    policy_report(config, sandbox->options.gate, &text);
    print_confinement(sandbox, false, &text);
    print_confinement(sandbox, true, &text);
    print_complaints(sandbox, &text);
    if (error || text.failed) {
        fprintf(stderr, "bellhopd: %s\n", strerror(error ? -error : ENOMEM));
        return EXIT_FAILURE;
    }
    if (fwrite(text.data, 1, text.length, out) != text.length || fflush(out) == EOF)
        return EXIT_FAILURE;
    if (config->policy.is_strict && sandbox->complaints.count > 0) {
        fprintf(stderr, "bellhopd: the sandbox is not complete, and policy.strict is set\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
