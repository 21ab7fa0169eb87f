/* SPDX-License-Identifier: MIT */
#include "pidfile.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char folder[64];
static char path[128];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-pidfile-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/pid", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void read_file(char ret_text[64])
{
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    ret_text[fread(ret_text, 1, 63, file)] = '\0';
    fclose(file);
}

static void check_content(void)
{
    char text[64], expected[64];

    read_file(text);
    snprintf(expected, sizeof(expected), "%ld\n", (long)getpid());
    assert_string_equal(text, expected);
}

static struct pidfile *created(void)
{
    struct pidfile *pidfile = NULL;
    char *reason = NULL;

    assert_int_equal(pidfile_create(path, &pidfile, &reason), 0);
    assert_null(reason);
    return pidfile;
}

static void test_life(void **state)
{
    (void)state;
    struct pidfile *pidfile = created();
    struct stat status;

    check_content();
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_null(pidfile_remove(pidfile));
    assert_int_equal(access(path, F_OK), -1);
    assert_null(pidfile_remove(NULL));
}

static void test_stale(void **state)
{
    (void)state;
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs("1\nand what a longer number left\n", file) >= 0);
    fclose(file);
    struct pidfile *pidfile = created();
    check_content();
    pidfile_remove(pidfile);
}

static void check_already_running(long holder)
{
    struct pidfile *pidfile = NULL;
    char *reason = NULL;
    char expected[200];

    assert_int_equal(pidfile_create(path, &pidfile, &reason), -EAGAIN);
    snprintf(expected, sizeof(expected), "already running as process %ld (it holds the pidfile %s)",
             holder, path);
    assert_string_equal(reason, expected);
    assert_null(pidfile);
    free(reason);
}

static void test_second_agent(void **state)
{
    (void)state;
    struct pidfile *pidfile = created();

    check_already_running((long)getpid());
    check_content();
    pidfile_remove(pidfile);
    pidfile_remove(created());
}

/* Holds the file in another process, as the classic agent does, until the pipe is closed. */
static pid_t hold_classically(int *ret_fd)
{
    int ready[2], end[2];
    char byte;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        close(end[1]);
        if (fd < 0 || fcntl(fd, F_SETLK, &lock) < 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        _exit(read(end[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ready[1]);
    close(end[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *ret_fd = end[1];
    return child;
}

static void test_classic_agent_runs(void **state)
{
    (void)state;
    int fd, status;
    pid_t child = hold_classically(&fd);

    check_already_running((long)child);
    close(fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    struct pidfile *pidfile = created();
    check_content();
    pidfile_remove(pidfile);
}

static void test_replaced_file_stays(void **state)
{
    (void)state;
    struct pidfile *pidfile = created();

    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fclose(file);
    pidfile_remove(pidfile);
    assert_int_equal(access(path, F_OK), 0);
}

/* As an agent that is not root any more, in a folder that is root's. */
static void test_what_may_not_be_removed_is_empty(void **state)
{
    (void)state;
    char text[64];
    struct pidfile *pidfile = created();
    bool is_root = geteuid() == 0;

    assert_int_equal(chmod(folder, 0555), 0);
    if (is_root)
        assert_int_equal(seteuid(65534), 0);
    pidfile_remove(pidfile);
    if (is_root)
        assert_int_equal(seteuid(0), 0);
    read_file(text);
    assert_string_equal(text, "");
    assert_int_equal(chmod(folder, 0700), 0);
    pidfile = created();
    check_content();
    pidfile_remove(pidfile);
}

static void test_impossible(void **state)
{
    (void)state;
    struct pidfile *pidfile = NULL;
    char *reason = NULL;

    assert_int_equal(pidfile_create("/nonexistent/pid", &pidfile, &reason), -ENOENT);
    assert_string_equal(reason,
                        "cannot make the pidfile /nonexistent/pid: No such file or directory");
    free(reason);
    assert_int_equal(pidfile_create("/", &pidfile, &reason), -EISDIR);
    free(reason);
    assert_null(pidfile);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_life),
        TEST(test_stale),
        TEST(test_second_agent),
        TEST(test_classic_agent_runs),
        TEST(test_replaced_file_stays),
        TEST(test_what_may_not_be_removed_is_empty),
        TEST(test_impossible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
