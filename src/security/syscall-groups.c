/* SPDX-License-Identifier: MIT */
/*
 * The groups of system calls. Names of all architectures stand together; the library knows which of
 * them are the running one's. A call that several purposes need is in several groups; what is in
 * none can only be allowed by its own name.
 */
#include "security/syscall-filter.h"

#include <stddef.h>

/* clang-format off */
static const char *const basic_calls[] = {
    "alarm", "arch_prctl", "brk", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "exit", "exit_group", "futex",
    "futex_time64", "futex_waitv", "get_robust_list", "get_thread_area", "getcpu", "getegid",
    "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
    "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage", "getsid", "gettid",
    "gettimeofday", "getuid", "getuid32", "madvise", "membarrier", "mmap", "mmap2", "mprotect",
    "mremap", "msync", "munmap", "nanosleep", "pause", "prlimit64", "restart_syscall",
    "riscv_flush_icache", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_yield", "set_robust_list",
    "set_thread_area", "set_tid_address", "set_tls", "setitimer", "sigaction", "sigaltstack",
    "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "sysinfo", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "times", "ugetrlimit", "umask", "uname", NULL,
};

static const char *const io_calls[] = {
    "_llseek", "_newselect", "arm_sync_file_range", "close", "close_range", "copy_file_range",
    "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2",
    "fadvise64", "fadvise64_64", "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fstat",
    "fstat64", "fsync", "ftruncate", "ftruncate64", "ioctl", "lseek", "memfd_create", "pipe",
    "pipe2", "poll", "ppoll", "ppoll_time64", "pread64", "preadv", "preadv2", "pselect6",
    "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv", "select",
    "sendfile", "sendfile64", "signalfd", "signalfd4", "splice", "sync", "sync_file_range",
    "sync_file_range2", "syncfs", "tee", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64", "vmsplice", "write", "writev", NULL,
};

static const char *const file_calls[] = {
    "access", "chdir", "faccessat", "faccessat2", "fchdir", "fgetxattr", "flistxattr", "fstatat64",
    "fstatfs", "fstatfs64", "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "lgetxattr", "listxattr", "llistxattr",
    "lstat", "lstat64", "name_to_handle_at", "newfstatat", "oldfstat", "oldlstat", "oldstat",
    "open", "openat", "openat2", "readlink", "readlinkat", "stat", "stat64", "statfs", "statfs64",
    "statx", "ustat", NULL,
};

static const char *const file_change_calls[] = {
    "chmod", "chown", "chown32", "creat", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32",
    "fchownat", "fremovexattr", "fsetxattr", "futimesat", "lchown", "lchown32", "link", "linkat",
    "lremovexattr", "lsetxattr", "mkdir", "mkdirat", "mknod", "mknodat", "removexattr", "rename",
    "renameat", "renameat2", "rmdir", "setxattr", "symlink", "symlinkat", "truncate", "truncate64",
    "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes", NULL,
};

static const char *const network_calls[] = {
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
    "sendto", "setsockopt", "shutdown", "socket", "socketcall", "socketpair", NULL,
};

static const char *const process_calls[] = {
    "capget", "clone", "clone3", "execve", "execveat", "fork", "ioprio_get", "ioprio_set", "kill",
    "pidfd_open", "pidfd_send_signal", "prctl", "sched_setaffinity", "setpgid", "setpriority",
    "setrlimit", "setsid", "tkill", "vfork", "wait4", "waitid", "waitpid", NULL,
};

static const char *const threads_calls[] = {
    "clone", "clone3", "prctl", NULL,
};

static const char *const credentials_calls[] = {
    "capset", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
    "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32",
    "setreuid", "setreuid32", "setuid", "setuid32", NULL,
};

static const char *const clock_calls[] = {
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64",
    "settimeofday", "stime", NULL,
};

static const char *const mount_calls[] = {
    "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount",
    "open_tree", "pivot_root", "setns", "umount", "umount2", "unshare", NULL,
};

static const char *const memory_lock_calls[] = {
    "mlock", "mlock2", "mlockall", "munlock", "munlockall", NULL,
};

static const char *const debug_calls[] = {
    "kcmp", "lookup_dcookie", "perf_event_open", "pidfd_getfd", "process_madvise",
    "process_vm_readv", "process_vm_writev", "ptrace", NULL,
};

static const char *const kernel_calls[] = {
    "_sysctl", "acct", "add_key", "bpf", "create_module", "delete_module", "fanotify_init",
    "fanotify_mark", "finit_module", "get_kernel_syms", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kexec_file_load", "kexec_load",
    "keyctl", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
    "nfsservctl", "open_by_handle_at", "pciconfig_iobase", "pciconfig_read", "pciconfig_write",
    "query_module", "quotactl", "quotactl_fd", "reboot", "request_key", "s390_pci_mmio_read",
    "s390_pci_mmio_write", "seccomp", "setdomainname", "sethostname", "swapoff", "swapon", "syslog",
    "userfaultfd", "vhangup", NULL,
};

const struct syscall_group syscall_groups[] = {
    {"@basic", "what every program needs: memory, time, signals, limits", basic_calls},
    {"@io", "reading, writing and waiting on what is open", io_calls},
    {"@file", "opening files, looking at them, folders, watches", file_calls},
    {"@file-change", "creating, renaming, removing, changing what files are", file_change_calls},
    {"@network", "sockets of every kind", network_calls},
    {"@process", "starting programs, waiting for them, signalling them", process_calls},
    {"@threads", "starting threads (a process, too, where it is not told apart)", threads_calls},
    {"@credentials", "becoming another user, changing capabilities", credentials_calls},
    {"@clock", "setting clocks", clock_calls},
    {"@mount", "mounts and what is like them", mount_calls},
    {"@memory-lock", "keeping memory from being swapped", memory_lock_calls},
    {"@debug", "looking into other processes", debug_calls},
    {"@kernel", "modules, power, swap, raw input and output, keys, and the like", kernel_calls},
    {NULL, NULL, NULL},
};
/* clang-format on */
