/* SPDX-License-Identifier: MIT */
/* With files in place of file systems, and ioctl() of the test's own: nothing is frozen here. */
#include "base/thaw-crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { FILES = 200, WAIT_MS = 60 * 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* guarded by lock, by the number that a file's size is */
static int frozen[FILES]; /* how often */
static int calls[FILES];
static int error[FILES]; /* of FITHAW, if not 0 */
static bool hangs[FILES];

static char path[] = "/tmp/bellhop-crew-XXXXXX";

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    struct stat status;
    assert_int_equal(request, FITHAW);
    assert_int_equal(fstat(fd, &status), 0);
    size_t number = (size_t)status.st_size;
    pthread_mutex_lock(&lock);
    calls[number]++;
    pthread_cond_broadcast(&changed);
    while (hangs[number])
        pthread_cond_wait(&changed, &lock);
    int result = error[number] ? error[number] : frozen[number] > 0 ? 0 : EINVAL;
    if (result == 0)
        frozen[number]--;
    pthread_mutex_unlock(&lock);
    errno = result;
    return result ? -1 : 0;
}

static void name_file(size_t number, char *ret_name, size_t size)
{
    snprintf(ret_name, size, "%s/%zu", path, number);
}

static int make_files(void **state)
{
    char name[64];
    memset(frozen, 0, sizeof(frozen));
    memset(calls, 0, sizeof(calls));
    memset(error, 0, sizeof(error));
    memset(hangs, 0, sizeof(hangs));
    strcpy(path, "/tmp/bellhop-crew-XXXXXX");
    assert_non_null(mkdtemp(path));
    for (size_t i = 0; i < FILES; i++) {
        name_file(i, name, sizeof(name));
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        close(fd);
    }
    return 0;
}

static int remove_files(void **state)
{
    char name[64];
    for (size_t i = 0; i < FILES; i++) {
        name_file(i, name, sizeof(name));
        unlink(name);
    }
    return rmdir(path);
}

static struct thaw_crew *start(size_t count, bool by_path)
{
    struct thaw_target targets[FILES];
    struct thaw_crew *crew;
    char name[64];
    for (size_t i = 0; i < count; i++) {
        name_file(i, name, sizeof(name));
        targets[i] = (struct thaw_target){.fd = by_path ? -1 : open(name, O_RDONLY | O_CLOEXEC),
                                          .path = strdup(name)};
    }
    assert_int_equal(thaw_crew_new_take(targets, count, &crew), 0);
    for (size_t i = 0; i < count; i++)
        assert_null(targets[i].path);
    return crew;
}

static void wait_for_calls(size_t number, int count)
{
    pthread_mutex_lock(&lock);
    while (calls[number] < count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static bool is_readable(int fd)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return poll(&wanted, 1, 0) == 1;
}

static void test_waits_until_it_is_told(void **state)
{
    struct thaw_crew *crew = start(3, false);
    frozen[1] = 1;
    frozen[2] = 3; /* a file system may be frozen more than once */
    assert_false(thaw_crew_has_begun(crew));
    assert_false(thaw_crew_wait(crew, 0));
    assert_int_equal(calls[1], 0);
    thaw_crew_settle(crew);
    assert_false(thaw_crew_wait(crew, 0));
    thaw_crew_begin(crew);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_true(is_readable(thaw_crew_ended_fd(crew)));
    assert_int_equal(thaw_crew_thawed(crew), 2);
    assert_int_equal(frozen[2], 0);
    const char *stuck = "";
    assert_false(thaw_crew_find_stuck(crew, &stuck));
    assert_int_equal(thaw_crew_error(crew, &stuck), 0);
    assert_null(thaw_crew_free(crew));
}

static void test_looks_again_until_every_freeze_has_returned(void **state)
{
    struct thaw_crew *crew = start(2, true);
    thaw_crew_begin(crew);
    wait_for_calls(0, 3); /* nothing to do, again and again */
    assert_false(is_readable(thaw_crew_ended_fd(crew)));
    pthread_mutex_lock(&lock);
    frozen[0] = 1; /* the freeze under way completes */
    pthread_mutex_unlock(&lock);
    thaw_crew_settle(crew);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_int_equal(frozen[0], 0);
    assert_int_equal(thaw_crew_thawed(crew), 1);
    thaw_crew_free(crew);
}

static void test_one_that_hangs_holds_up_no_other(void **state)
{
    struct thaw_crew *crew = start(5, false);
    const char *stuck = NULL;
    char name[64];
    for (size_t i = 0; i < 5; i++)
        frozen[i] = 1;
    hangs[2] = true;
    thaw_crew_begin(crew);
    thaw_crew_settle(crew);
    for (size_t i = 0; i < 5; i++)
        wait_for_calls(i, i == 2 ? 1 : 2);
    assert_false(thaw_crew_wait(crew, 1));
    assert_true(thaw_crew_find_stuck(crew, &stuck));
    while (thaw_crew_thawed(crew) < 4)
        thaw_crew_wait(crew, 1);
    name_file(2, name, sizeof(name));
    for (bool is_it = false; !is_it; is_it = strcmp(stuck, name) == 0)
        assert_true(thaw_crew_find_stuck(crew, &stuck));
    pthread_mutex_lock(&lock);
    hangs[2] = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_int_equal(thaw_crew_thawed(crew), 5);
    thaw_crew_free(crew);
}

static void test_more_than_threads(void **state)
{
    struct thaw_crew *crew = start(FILES, false);
    for (size_t i = 0; i < FILES; i++)
        frozen[i] = i % 2;
    thaw_crew_begin(crew);
    thaw_crew_settle(crew);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_int_equal(thaw_crew_thawed(crew), FILES / 2);
    thaw_crew_free(crew);
}

static void test_none_at_all(void **state)
{
    struct thaw_crew *crew = start(0, false);
    assert_true(thaw_crew_wait(crew, 0));
    assert_true(is_readable(thaw_crew_ended_fd(crew)));
    assert_int_equal(thaw_crew_thawed(crew), 0);
    thaw_crew_free(crew);
}

static void test_errors(void **state)
{
    struct thaw_crew *crew = start(3, true);
    const char *where = NULL;
    char name[64];
    error[0] = EOPNOTSUPP;
    error[1] = EPERM;
    name_file(1, name, sizeof(name));
    thaw_crew_begin(crew);
    thaw_crew_settle(crew);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_int_equal(thaw_crew_error(crew, &where), EPERM);
    assert_string_equal(where, name);
    thaw_crew_free(crew);
}

static void test_one_that_cannot_be_opened(void **state)
{
    struct thaw_target target = {.fd = -1, .path = strdup("/nonexistent/place")};
    struct thaw_crew *crew;
    const char *where = NULL;
    assert_int_equal(thaw_crew_new_take(&target, 1, &crew), 0);
    thaw_crew_begin(crew);
    thaw_crew_settle(crew);
    assert_true(thaw_crew_wait(crew, WAIT_MS));
    assert_int_equal(thaw_crew_error(crew, &where), ENOENT);
    thaw_crew_free(crew);
}

static void test_freed_before_it_begins(void **state)
{
    struct thaw_crew *crew = start(4, false);
    thaw_crew_free(crew);
    assert_null(thaw_crew_free(NULL));
    assert_int_equal(calls[0], 0);
}

#define crew_test(test) cmocka_unit_test_setup_teardown(test, make_files, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        crew_test(test_waits_until_it_is_told),
        crew_test(test_looks_again_until_every_freeze_has_returned),
        crew_test(test_one_that_hangs_holds_up_no_other),
        crew_test(test_more_than_threads),
        crew_test(test_none_at_all),
        crew_test(test_errors),
        crew_test(test_one_that_cannot_be_opened),
        crew_test(test_freed_before_it_begins),
    };
    return cmocka_run_group_tests_name("thaw-crew", tests, NULL, NULL);
}
