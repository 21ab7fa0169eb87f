/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "security/object-gate.h"
#include "security/profile.h"

/*
 * Each test has a folder with "in", which there is a rule for, and "out", which there is none for;
 * both have a "file" with "text" in it. The working directory is that folder.
 */
static char root[PATH_MAX];
static struct file_rules rules;
static char decision[128];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void check_text(const char *path, const char *expected)
{
    char text[64] = "";
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    assert_string_equal(text, expected);
}

static int set_up(void **state)
{
    char template[] = "/tmp/test-object-gate-XXXXXX";
    if (!mkdtemp(template) || !realpath(template, root) || chdir(root) < 0)
        return -1;
    mkdir("in", 0755);
    mkdir("out", 0755);
    write_file("in/file", "text");
    write_file("out/file", "text");
    struct file_rule *rule = file_rules_append(&rules);
    rule->name = strdup("in");
    if (asprintf(&rule->path, "%s/in", root) < 0)
        return -1;
    rule->profiles = PROFILE_ALL;
    rule->access = FILE_READ | FILE_WRITE | FILE_CREATE;
    return 0;
}

static int tear_down(void **state)
{
    char command[PATH_MAX + 16];
    file_rules_deinit(&rules);
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return chdir("/") < 0 || system(command) != 0;
}

static void note(void *context, bool is_allowed, const struct file_rule *rule)
{
    snprintf(decision, sizeof(decision), "%s by %s", is_allowed ? "allowed" : "refused",
             rule ? rule->name : "none");
}

/* Returns the result; a descriptor is closed again and becomes 0. */
static int open_it(const char *path, int flags, char *ret_reason)
{
    char ignored[FILE_REFUSAL_MAX];
    struct object_question question = {.rules = &rules, .decided = note};
    decision[0] = '\0';
    int fd = object_gate_open(&question, path, flags, ret_reason ? ret_reason : ignored);
    if (fd < 0)
        return fd;
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
    return 0;
}

static void check_refused(const char *path, int flags, const char *text)
{
    char reason[FILE_REFUSAL_MAX] = "";
    int error = open_it(path, flags, reason);
    if (error != -EPERM || !strstr(reason, text))
        fail_msg("'%s': %d, '%s' does not say '%s'", path, error, reason, text);
    assert_non_null(strstr(decision, "refused"));
}

enum { WRITE_NEW = O_WRONLY | O_CREAT | O_TRUNC };

static void test_plain(void **state)
{
    char path[PATH_MAX + 16];
    assert_int_equal(open_it("in/file", O_RDONLY, NULL), 0);
    assert_string_equal(decision, "allowed by in");
    snprintf(path, sizeof(path), "%s/in/file", root);
    assert_int_equal(open_it(path, O_RDWR, NULL), 0);
    check_text("in/file", "text");
    assert_int_equal(open_it("in/file", WRITE_NEW, NULL), 0);
    check_text("in/file", "");
    check_refused("out/file", O_RDONLY, "no [files] rule");
    check_refused("out/file", WRITE_NEW, "no [files] rule");
    check_text("out/file", "text");
    assert_int_equal(open_it("in/none", O_RDONLY, NULL), -ENOENT);
    assert_int_equal(open_it("in/file/", O_RDONLY, NULL), -ENOTDIR);
    assert_int_equal(open_it("in", O_RDONLY, NULL), 0);
    assert_int_equal(open_it("in", O_WRONLY, NULL), -EISDIR);
}

static void test_ways_to_the_same(void **state)
{
    char path[PATH_MAX + 64];
    assert_int_equal(open_it("in/../in//./file", O_RDONLY, NULL), 0);
    check_refused("in/../out/file", O_RDONLY, "no [files] rule");
    check_refused("in//../out//file", WRITE_NEW, "no [files] rule");
    snprintf(path, sizeof(path), "/proc/self/root%s/out/file", root);
    check_refused(path, WRITE_NEW, "no [files] rule");
    snprintf(path, sizeof(path), "/proc/self/root%s/in/file", root);
    assert_int_equal(open_it(path, O_RDONLY, NULL), 0);
    check_refused("/proc/self/cwd/out/file", WRITE_NEW, "no [files] rule");
    _cleanup_close_ int fd = open("out/file", O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    check_refused(path, O_WRONLY | O_TRUNC, "no [files] rule");
    check_text("out/file", "text");
}

static void test_links(void **state)
{
    assert_int_equal(symlink("../out/file", "in/to-file"), 0);
    assert_int_equal(symlink("../out", "in/to-folder"), 0);
    assert_int_equal(symlink("../in/file", "out/to-in"), 0);
    check_refused("in/to-file", WRITE_NEW, "no [files] rule");
    check_refused("in/to-folder/file", WRITE_NEW, "no [files] rule");
    check_refused("in/to-folder/new", WRITE_NEW, "no [files] rule");
    assert_int_equal(access("out/new", F_OK), -1);
    check_text("out/file", "text");
    assert_int_equal(open_it("out/to-in", WRITE_NEW, NULL), 0);
}

static void test_nothing_is_made_through_a_dangling_link(void **state)
{
    assert_int_equal(symlink("../out/new", "in/dangling"), 0);
    assert_int_equal(symlink("new", "in/dangling-within"), 0);
    assert_int_equal(open_it("in/dangling", WRITE_NEW, NULL), -ENOENT);
    assert_int_equal(open_it("in/dangling-within", WRITE_NEW, NULL), -ENOENT);
    assert_int_equal(access("out/new", F_OK), -1);
    assert_int_equal(access("in/new", F_OK), -1);
}

static void test_creating(void **state)
{
    struct stat status;
    umask(027);
    assert_int_equal(open_it("in/new", WRITE_NEW, NULL), 0);
    assert_int_equal(stat("in/new", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    check_refused("out/new", WRITE_NEW, "no [files] rule");
    check_refused("in/../new", WRITE_NEW, "no [files] rule");
    assert_int_equal(access("out/new", F_OK), -1);
    assert_int_equal(open_it("in/none/new", WRITE_NEW, NULL), -ENOENT);
    assert_int_equal(open_it("in/new2/", WRITE_NEW, NULL), -EISDIR);
    rules.rules[0].access = FILE_READ | FILE_WRITE;
    check_refused("in/new3", WRITE_NEW, "creating a file");
    assert_int_equal(access("in/new3", F_OK), -1);
    rules.rules[0].access = FILE_READ;
    check_refused("in/file", WRITE_NEW, "writing");
    check_refused("in/file", O_WRONLY | O_APPEND, "writing");
    check_text("in/file", "text");
}

static void test_hard_links(void **state)
{
    assert_int_equal(link("out/file", "in/linked"), 0);
    check_refused("in/linked", WRITE_NEW, "more than one link");
    check_refused("in/linked", O_RDWR, "more than one link");
    check_text("out/file", "text");
    assert_int_equal(open_it("in/linked", O_RDONLY, NULL), 0);
    rules.rules[0].access |= FILE_LINKED;
    assert_int_equal(open_it("in/linked", WRITE_NEW, NULL), 0);
    check_text("out/file", "");
}

static void test_special_files(void **state)
{
    assert_int_equal(mkfifo("in/fifo", 0600), 0);
    check_refused("in/fifo", O_RDONLY, "devices, FIFOs and sockets"); /* and does not wait */
    check_refused("/dev/null", O_RDONLY, "no [files] rule");
    rules.rules[0].access |= FILE_SPECIAL;
    assert_int_equal(open_it("in/fifo", O_RDWR, NULL), 0);
}

static void test_what_has_no_name(void **state)
{
    char path[64];
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", pipes[0]);
    free(rules.rules[0].path);
    rules.rules[0].path = strdup("/");
    rules.rules[0].access |= FILE_SPECIAL | FILE_LINKED;
    check_refused(path, O_RDONLY, "no path of its own");
    close(pipes[0]);
    close(pipes[1]);

    _cleanup_close_ int fd = open("in/file", O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_int_equal(open_it(path, O_RDONLY, NULL), 0);
    assert_int_equal(unlink("in/file"), 0);
    check_refused(path, O_RDONLY, "no path of its own");
    write_file("in/file (deleted)", "another");
    check_refused(path, O_RDONLY, "no path of its own");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_plain),         TEST(test_ways_to_the_same),
        TEST(test_links),         TEST(test_nothing_is_made_through_a_dangling_link),
        TEST(test_creating),      TEST(test_hard_links),
        TEST(test_special_files), TEST(test_what_has_no_name),
    };
    return cmocka_run_group_tests_name("object-gate", tests, NULL, NULL);
}
