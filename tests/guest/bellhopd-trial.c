/* SPDX-License-Identifier: MIT */
/*
 * bellhopd for the sandbox' tests, never installed: the same program, with guest-get-timezone
 * (which every profile has) in the hands of an attacker. Its member "attempt" names what a worker
 * then tries, with every capability in force that the process has kept.
 *
 * By the environment, before anything else is done:
 *   TRIAL_ATTEMPT=NAME  makes the attempt at once, without any sandbox, and ends with its errno:
 * the control that shows what could succeed TRIAL_KEEP=MASK     has only these capabilities
 * (hexadecimal), for ever TRIAL_KEEP_GUARD=MASK the same, of those that it has, as the thaw guard
 * only TRIAL_LIST=         prints what the rows say, "COMMAND CAPABILITY", and ends
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "jobs/thaw-guard.h"
#include "security/capabilities.h"

const struct command *__real_command_at(size_t index);
const struct command *__wrap_command_at(size_t index);

/* --- what is tried; each returns 0 or -1 with errno --- */

static int open_and_close(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    close_fd(fd);
    return fd < 0 ? -1 : 0;
}

static int write_to(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static int try_read_shadow(void)
{
    return open_and_close("/etc/shadow", O_RDONLY);
}

static int try_read_home(void)
{
    return open_and_close("/home/alice/secret", O_RDONLY);
}

static int try_create_in_etc(void)
{
    return open_and_close("/etc/trial", O_WRONLY | O_CREAT);
}

static int try_create_in_tmp(void)
{
    return open_and_close("/tmp/trial", O_WRONLY | O_CREAT);
}

static int try_read_tmp(void)
{
    return open_and_close("/tmp/for-all", O_RDONLY);
}

static int try_disk(void)
{
    return open_and_close("/dev/vda", O_RDWR);
}

static int try_memory(void)
{
    return open_and_close("/dev/mem", O_RDONLY);
}

static int try_make_device(void)
{
    unlink("/tmp/device");
    return mknod("/tmp/device", S_IFBLK | 0600, makedev(254, 0));
}

static int try_sysctl(void)
{
    return write_to("/proc/sys/kernel/core_pattern", "core");
}

static int try_power_state(void)
{
    return open_and_close("/sys/power/state", O_WRONLY);
}

static int try_environment_of_init(void)
{
    return open_and_close("/proc/1/environ", O_RDONLY);
}

static int try_memory_of_parent(void)
{
    return open_and_close("/proc/1/mem", O_RDWR);
}

static int try_trace(void)
{
    /* Seizing does not stop it, and ends with this process. */
    return ptrace(PTRACE_SEIZE, 1, NULL, NULL) < 0 ? -1 : 0;
}

static int try_peek(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    ssize_t got = process_vm_readv(1, &here, 1, &there, 1, 0);
    /* That nothing is at that address was allowed to be found out. */
    return got < 0 && errno != EFAULT ? -1 : 0;
}

static int try_signal(void)
{
    return kill(1, 0);
}

static int try_execute(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/busybox", "true", NULL);
        _exit(errno);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return errno ? -1 : 0;
}

static int try_become_root(void)
{
    /* Of the calling thread only: nobody else is to notice. */
    if (syscall(SYS_setresuid, 0, 0, 0) < 0)
        return -1;
    return syscall(SYS_setgroups, 0, NULL) < 0 ? -1 : 0;
}

static int try_become_alice(void)
{
    return syscall(SYS_setresuid, -1, 1000, -1) < 0 ? -1 : 0;
}

static int try_all_capabilities(void)
{
    struct capability_sets all = {.effective = UINT64_C(0x3fffffffff),
                                  .permitted = UINT64_C(0x3fffffffff),
                                  .bounding = CAPABILITIES_ALL};
    int error = capabilities_apply(&all);
    errno = -error;
    return error ? -1 : 0;
}

static int try_mount(void)
{
    return mount("none", "/mnt", "tmpfs", 0, NULL);
}

static int try_user_namespace(void)
{
    return unshare(CLONE_NEWNS);
}

static int try_module(void)
{
    /* There is no such image, which only those are told who may load one. */
    return syscall(SYS_init_module, NULL, 0, "") < 0 && errno != ENOEXEC && errno != EFAULT ? -1
                                                                                            : 0;
}

static int try_reboot(void)
{
    return reboot(RB_DISABLE_CAD);
}

static int try_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now);
}

static int try_host_name(void)
{
    return sethostname("guest", 5);
}

static int try_key(void)
{
    return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1) < 0 ? -1 : 0;
}

static int try_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0) < 0 && errno != EINVAL && errno != EFAULT ? -1 : 0;
}

static int try_io_ring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno != EFAULT ? -1 : 0;
}

static int try_raw_socket(void)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    return fd < 0 ? -1 : 0;
}

static int try_low_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static int try_change_owner(void)
{
    return chown("/tmp/for-all", 1000, 1000);
}

static int try_new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : (errno = EPERM, -1);
}

static const struct attempt {
    const char *name;
    int (*try)(void);
} attempts[] = {
    {"read-shadow", try_read_shadow},
    {"read-home", try_read_home},
    {"create-in-etc", try_create_in_etc},
    {"create-in-tmp", try_create_in_tmp},
    {"read-tmp", try_read_tmp},
    {"disk", try_disk},
    {"memory", try_memory},
    {"make-device", try_make_device},
    {"sysctl", try_sysctl},
    {"power-state", try_power_state},
    {"environment-of-init", try_environment_of_init},
    {"memory-of-parent", try_memory_of_parent},
    {"trace", try_trace},
    {"peek", try_peek},
    {"signal", try_signal},
    {"execute", try_execute},
    {"become-root", try_become_root},
    {"become-alice", try_become_alice},
    {"all-capabilities", try_all_capabilities},
    {"mount", try_mount},
    {"namespace", try_user_namespace},
    {"module", try_module},
    {"reboot", try_reboot},
    {"clock", try_clock},
    {"host-name", try_host_name},
    {"key", try_key},
    {"bpf", try_bpf},
    {"io-ring", try_io_ring},
    {"raw-socket", try_raw_socket},
    {"low-port", try_low_port},
    {"change-owner", try_change_owner},
    {"new-privileges", try_new_privileges},
};

/* Returns 0 or the errno; -1: there is no such attempt. */
static int attempt(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
        if (strcmp(attempts[i].name, name) == 0)
            return attempts[i].try() == 0 ? 0 : errno;
    return -1;
}

/* --- in a worker --- */

struct trial_args {
    struct arg_text attempt;
};

static const struct arg_spec trial_specs[] = {
    {ARG(ARG_STRING, struct trial_args, attempt, "attempt")},
    ARG_END,
};

/* Whose code this is takes what it can get, and spoils its own thread only. */
static void *attack(void *argument)
{
    struct capability_sets sets;
    if (capabilities_read(&sets) == 0 && capabilities_set_effective(sets.permitted) < 0)
        return (void *)(intptr_t)-2;
    return (void *)(intptr_t)attempt(argument);
}

static enum call_next trial_run(struct call *call)
{
    struct trial_args *args = call_args(call);
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, attack, args->attempt.data) != 0 ||
        pthread_join(thread, &result) != 0)
        return call_fail(call, "no thread");
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_int(reply, "errno", (intptr_t)result);
    json_end_object(reply);
    return CALL_CONTINUE;
}

const struct command *__wrap_command_at(size_t index)
{
    static struct command trial = {
        .name = "guest-get-timezone",
        .summary = "For tests only",
        .args = trial_specs,
        .args_size = sizeof(struct trial_args),
        .run = trial_run,
    };
    const struct command *command = __real_command_at(index);
    return strcmp(command->name, trial.name) == 0 ? &trial : command;
}

/* --- by the environment --- */

static void list(const char *command, const struct capability_need *needs)
{
    char name[32];
    for (; needs && needs->why; needs++) {
        capability_name(needs->capability, name);
        printf("%s %s\n", command, name);
    }
}

static void keep_as_guard(const char *mask)
{
    struct capability_sets sets;
    int error = capabilities_read(&sets);
    if (!error) {
        sets.permitted &= strtoull(mask, NULL, 16);
        sets.effective = sets.permitted;
        sets.inheritable = sets.ambient = 0;
        error = capabilities_apply(&sets);
    }
    if (error)
        _exit(99);
}

static void __attribute__((constructor)) before_main(int argc, char **argv)
{
    const char *guard_keep = getenv("TRIAL_KEEP_GUARD");
    if (guard_keep && argc > 1 && strcmp(argv[1], THAW_GUARD_ARGUMENT) == 0)
        keep_as_guard(guard_keep);
    const char *name = getenv("TRIAL_ATTEMPT"), *keep = getenv("TRIAL_KEEP");
    if (name)
        _exit(attempt(name));
    if (keep) {
        uint64_t set = strtoull(keep, NULL, 16);
        struct capability_sets sets = {.effective = set, .permitted = set, .bounding = set};
        if (capabilities_apply(&sets) < 0)
            _exit(99);
    }
    if (getenv("TRIAL_LIST")) {
        for (size_t i = 0; i < command_count(); i++) {
            list(command_at(i)->name, command_at(i)->needs);
            list(command_at(i)->name, command_at(i)->helper_needs);
        }
        fflush(stdout);
        _exit(0);
    }
}
