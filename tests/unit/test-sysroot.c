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
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/sysroot.h"

static char root[] = "/tmp/bellhop-sysroot-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof(full), "%s%s", root, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    char path[256];
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/sys", root);
    assert_int_equal(mkdir(path, 0755), 0);
    put("/sys/number", " 0042 \nsecond\n");
    put("/sys/hex", "0x1F\n");
    put("/sys/text", "hello \t\n");
    put("/sys/empty", "");
    snprintf(path, sizeof(path), "%s/sys/link", root);
    assert_int_equal(symlink("/sys/number", path), 0);
    assert_int_equal(sysroot_set(root), 0);
    return 0;
}

static int teardown(void **state)
{
    char command[300];
    assert_int_equal(sysroot_set(NULL), 0);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command);
}

static void test_reads_below_the_prefix(void **state)
{
    int64_t number;
    uint64_t unsigned_number;
    char line[16];
    assert_int_equal(sysroot_read_int64(&number, "/sys/%s", "number"), 0);
    assert_int_equal(number, 42);
    assert_int_equal(sysroot_read_uint64(&unsigned_number, "/sys/hex"), 0);
    assert_int_equal(unsigned_number, 31);
    assert_int_equal(sysroot_read_line(line, sizeof(line), "/sys/text"), 0);
    assert_string_equal(line, "hello");
    assert_int_equal(sysroot_read_line(line, 3, "/sys/text"), 0);
    assert_string_equal(line, "he");
    assert_int_equal(sysroot_read_line(line, sizeof(line), "/sys/empty"), 0);
    assert_string_equal(line, "");
    assert_int_equal(sysroot_read_int64(&number, "/sys/text"), -EINVAL);
    assert_int_equal(sysroot_read_int64(&number, "/sys/none"), -ENOENT);
    assert_false(sysroot_exists("/etc/passwd"));
    assert_true(sysroot_exists("/sys/text"));
}

static void test_absolute_links_stay_inside(void **state)
{
    int64_t number;
    char target[64];
    assert_int_equal(sysroot_read_int64(&number, "/sys/link"), 0);
    assert_int_equal(number, 42);
    assert_int_equal(sysroot_readlink(target, sizeof(target), "/sys/link"), 0);
    assert_string_equal(target, "/sys/number");
    assert_int_equal(sysroot_readlink(target, 5, "/sys/link"), -ENAMETOOLONG);
    assert_int_equal(sysroot_readlink(target, sizeof(target), "/sys/text"), -EINVAL);
    assert_true(sysroot_open(O_RDONLY, "/../../../etc/passwd") < 0);
}

static void test_reads_whole_files(void **state)
{
    struct buffer out = BUFFER_INIT;
    assert_int_equal(sysroot_read(&out, 100, "/sys/number"), 0);
    assert_string_equal(out.data, " 0042 \nsecond\n");
    assert_int_equal(sysroot_read(&out, 3, "/sys/number"), -EFBIG);
    buffer_deinit(&out);
}

static void test_writes(void **state)
{
    char line[16];
    assert_int_equal(sysroot_write("1", "/sys/empty"), 0);
    assert_int_equal(sysroot_read_line(line, sizeof(line), "/sys/empty"), 0);
    assert_string_equal(line, "1");
    put("/sys/empty", "");
    assert_int_equal(sysroot_write("1", "/sys/none"), -ENOENT);
}

static void test_lists(void **state)
{
    DIR *directory = sysroot_opendir("/sys");
    assert_non_null(directory);
    unsigned entries = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        entries += entry->d_name[0] != '.';
    assert_int_equal(entries, 5);
    closedir(directory);
    assert_null(sysroot_opendir("/sys/text"));
    assert_int_equal(errno, ENOTDIR);
}

static void test_opens_paths_as_they_stand(void **state)
{
    int fd = sysroot_open_path("/sys/%s", O_WRONLY | O_CREAT | O_EXCL, 0640);
    struct stat status;
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    close(fd);
    assert_int_equal(sysroot_open_path("/sys/%s", O_WRONLY | O_CREAT | O_EXCL, 0640), -EEXIST);
    fd = sysroot_open_path("sys/%s", O_RDONLY, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sysroot_open_path("/sys/none", O_RDONLY, 0), -ENOENT);
    assert_int_equal(sysroot_open_path("", O_RDONLY, 0), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_below_the_prefix),
        cmocka_unit_test(test_absolute_links_stay_inside),
        cmocka_unit_test(test_reads_whole_files),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_opens_paths_as_they_stand),
    };
    return cmocka_run_group_tests_name("sysroot", tests, setup, teardown);
}
