/* SPDX-License-Identifier: MIT */
#include "base/logger-socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>

#include "logger-harness.h"

static struct logger logger;
static struct logger_socket *out;

static int set_up(void **state)
{
    logger_start(&logger);
    assert_int_equal(logger_socket_open(logger.path, &out), 0);
    return 0;
}

static int tear_down(void **state)
{
    out = logger_socket_free(out);
    logger_stop(&logger);
    return 0;
}

static void test_opening_fails(void **state)
{
    struct logger_socket *none = NULL;
    char path[200];

    assert_int_equal(logger_socket_open("/no/such/socket", &none), -ENOENT);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(logger_socket_open(path, &none), -ENAMETOOLONG);
    assert_null(none);
}

static void test_a_logger_that_is_started_again_is_found(void **state)
{
    assert_int_equal(logger_socket_send(out, "1", 1, -1), 0);
    logger_expect(&logger, "1");
    for (int i = 0; i < 2;
         i++) { /* the first finds that it has gone, the second that it still is */
        logger.fd = close_fd(logger.fd);
        assert_int_equal(logger_socket_send(out, "2", 1, -1), -ECONNREFUSED);
        assert_int_equal(logger_socket_send(out, "3", 1, -1), -ECONNREFUSED);
        logger_listen(&logger);
        assert_int_equal(logger_socket_send(out, "4", 1, -1), 0);
        logger_expect(&logger, "4");
    }
    logger.fd = close_fd(logger.fd);
    logger_listen(&logger); /* another one before the next message */
    assert_int_equal(logger_socket_send(out, "5", 1, -1), 0);
    logger_expect(&logger, "5");
}

static void *send_one(void *result)
{
    *(int *)result = logger_socket_send(out, "late", 4, -1);
    return NULL;
}

/* A logger that takes nothing: that is to be seen, and who sends all the same waits. */
static void test_a_logger_that_does_not_keep_up(void **state)
{
    unsigned sent = 0;
    int result = 1;
    pthread_t thread;

    while (logger_socket_is_ready(out)) {
        assert_true(sent < 100000);
        assert_int_equal(logger_socket_send(out, "x", 1, -1), 0);
        sent++;
    }
    assert_int_equal(pthread_create(&thread, NULL, send_one, &result), 0);
    for (unsigned i = 0; i < sent; i++)
        logger_expect(&logger, "x");
    logger_expect(&logger, "late");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, 0);
    assert_true(logger_socket_is_ready(out));
}

static void test_too_long(void **state)
{
    enum { SIZE = 4 * 1024 * 1024 };
    _cleanup_free_ char *bytes = calloc(1, SIZE);

    assert_int_equal(logger_socket_send(out, bytes, SIZE, -1), -EMSGSIZE);
}

#define socket_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        socket_test(test_opening_fails),
        socket_test(test_a_logger_that_is_started_again_is_found),
        socket_test(test_a_logger_that_does_not_keep_up),
        socket_test(test_too_long),
    };

    return cmocka_run_group_tests_name("logger-socket", tests, NULL, NULL);
}
