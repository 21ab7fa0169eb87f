/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text-list.h"
#include "cmds/authorized-keys.h"

static char home_path[64];
static int home;
static const char *what;

static int setup(void **state)
{
    strcpy(home_path, "/tmp/bellhop-home-XXXXXX");
    if (!mkdtemp(home_path))
        return -1;
    home = open(home_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return home < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    char command[128];
    close(home);
    snprintf(command, sizeof(command), "rm -rf '%s'", home_path);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", home_path, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect_file(const char *text)
{
    char found[4096] = "";
    FILE *file = fopen(path_of(".ssh/authorized_keys"), "r");
    assert_non_null(file);
    size_t length = fread(found, 1, sizeof(found) - 1, file);
    found[length] = '\0';
    fclose(file);
    assert_string_equal(found, text);
}

static int add(bool reset, const char *first, const char *second)
{
    struct text_list keys = {0};
    assert_int_equal(text_list_append(&keys, first, strlen(first)), 0);
    if (second)
        assert_int_equal(text_list_append(&keys, second, strlen(second)), 0);
    int result = authorized_keys_add(home, &keys, reset, &what);
    text_list_deinit(&keys);
    return result;
}

static int drop(const char *key)
{
    struct text_list keys = {0};
    assert_int_equal(text_list_append(&keys, key, strlen(key)), 0);
    int result = authorized_keys_remove(home, &keys, &what);
    text_list_deinit(&keys);
    return result;
}

static void test_makes_file_and_directory_for_the_owner_alone(void **state)
{
    struct stat status;
    assert_int_equal(add(false, "key one", "key two"), 0);
    expect_file("key one\nkey two\n");
    assert_int_equal(stat(path_of(".ssh"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(stat(path_of(".ssh/authorized_keys"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void test_adds_what_is_not_there_and_keeps_the_rest(void **state)
{
    assert_int_equal(mkdir(path_of(".ssh"), 0700), 0);
    put(".ssh/authorized_keys", "# mine\n\nkey one\nkey last");
    assert_int_equal(add(false, "key one", "key two"), 0);
    expect_file("# mine\n\nkey one\nkey last\nkey two\n");
    assert_int_equal(add(false, "key two", "key two"), 0);
    expect_file("# mine\n\nkey one\nkey last\nkey two\n");
    assert_int_equal(add(true, "key three", "key three"), 0);
    expect_file("key three\n");
}

static void test_removes_and_keeps_the_rest(void **state)
{
    assert_int_equal(drop("key one"), 0); /* no directory: nothing to do */
    assert_int_equal(mkdir(path_of(".ssh"), 0700), 0);
    put(".ssh/authorized_keys", "# mine\nkey one\n\nkey two\nkey one\n");
    assert_int_equal(drop("key one"), 0);
    expect_file("# mine\n\nkey two\n");
    assert_int_equal(drop("none"), 0);
    expect_file("# mine\n\nkey two\n");
}

static void test_reads_keys_without_comments(void **state)
{
    struct text_list keys = {0};
    assert_int_equal(authorized_keys_read(home, &keys, &what), -ENOENT);
    assert_int_equal(mkdir(path_of(".ssh"), 0700), 0);
    assert_int_equal(authorized_keys_read(home, &keys, &what), -ENOENT);
    put(".ssh/authorized_keys", "# mine\nkey one\n\nkey two");
    assert_int_equal(authorized_keys_read(home, &keys, &what), 0);
    assert_int_equal(keys.count, 2);
    assert_string_equal(keys.items[0], "key one");
    assert_string_equal(keys.items[1], "key two");
    text_list_deinit(&keys);
    put(".ssh/authorized_keys", "");
    assert_int_equal(authorized_keys_read(home, &keys, &what), 0);
    assert_int_equal(keys.count, 0);
}

static void test_follows_no_symlinks(void **state)
{
    struct text_list keys = {0};
    put("secret", "key one\n");
    assert_int_equal(mkdir(path_of("elsewhere"), 0700), 0);
    assert_int_equal(symlink("elsewhere", path_of(".ssh")), 0);
    assert_int_equal(add(false, "key", NULL), -ENOTDIR);
    assert_int_equal(unlink(path_of(".ssh")), 0);

    assert_int_equal(mkdir(path_of(".ssh"), 0700), 0);
    assert_int_equal(symlink("../secret", path_of(".ssh/authorized_keys")), 0);
    assert_int_equal(authorized_keys_read(home, &keys, &what), -ELOOP);
    assert_int_equal(add(false, "key", NULL), -ELOOP);
    assert_int_equal(drop("key one"), -ELOOP);
    assert_int_equal(add(true, "key", NULL), 0); /* replaces the link, not what it leads to */
    expect_file("key\n");
    FILE *file = fopen(path_of("secret"), "r");
    char line[16];
    assert_non_null(fgets(line, sizeof(line), file));
    assert_string_equal(line, "key one\n");
    fclose(file);
}

static void test_a_fifo_is_no_file_to_wait_for(void **state)
{
    struct text_list keys = {0};
    assert_int_equal(mkdir(path_of(".ssh"), 0700), 0);
    assert_int_equal(mkfifo(path_of(".ssh/authorized_keys"), 0600), 0);
    assert_int_equal(authorized_keys_read(home, &keys, &what), -EINVAL);
}

/* A limit on the size of files stands for the full disk: what was there stays, nothing is left. */
static void test_nothing_is_lost_when_writing_fails(void **state)
{
    struct rlimit old, little = {.rlim_cur = 10, .rlim_max = RLIM_INFINITY};
    assert_int_equal(add(false, "key one", NULL), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    little.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    int result = add(false, "a key that does not fit", NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(result, -EFBIG);
    assert_string_equal(what, "writing .ssh/authorized_keys");
    expect_file("key one\n");
    char command[160];
    snprintf(command, sizeof(command), "test \"$(ls -A '%s/.ssh')\" = authorized_keys", home_path);
    assert_int_equal(system(command), 0);
}

static void test_what_can_be_a_key(void **state)
{
    assert_true(authorized_key_is_valid("ssh-ed25519 AAAA comment"));
    assert_true(authorized_key_is_valid("from=\"*\" ssh-rsa AAAA"));
    assert_false(authorized_key_is_valid(""));
    assert_false(authorized_key_is_valid("# comment"));
    assert_false(authorized_key_is_valid("one\ntwo"));
    assert_false(authorized_key_is_valid("one\rtwo"));
}

#define key_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        key_test(test_makes_file_and_directory_for_the_owner_alone),
        key_test(test_adds_what_is_not_there_and_keeps_the_rest),
        key_test(test_removes_and_keeps_the_rest),
        key_test(test_reads_keys_without_comments),
        key_test(test_follows_no_symlinks),
        key_test(test_a_fifo_is_no_file_to_wait_for),
        key_test(test_nothing_is_lost_when_writing_fails),
        key_test(test_what_can_be_a_key),
    };
    return cmocka_run_group_tests_name("authorized-keys", tests, NULL, NULL);
}
