/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_IN_CHILD_H
#define BELLHOP_TESTS_IN_CHILD_H

/* For tests of what cannot be undone: they run it in a child, which fails by a line number. */

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: ends it, as failed, if that does not hold. */
#define CHILD_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)!dprintf(2, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #condition);        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Runs a function in a child and returns its exit status, -1 if it was killed. */
static inline int run_in_child(void (*function)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        function();
        _exit(0);
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
