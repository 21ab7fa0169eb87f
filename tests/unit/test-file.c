/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake-call.h"

#include "base/base64.h"
#include "cmds/file-table.h"
#include "cmds/guest-file.h"

extern const struct command_family file_commands;

static char directory[] = "/tmp/test-file-XXXXXX";
static char path[64], open_read[128], open_update[128], open_append[128];

static int make_directory(void **state)
{
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/file", directory);
    snprintf(open_read, sizeof(open_read), "{\"path\": \"%s\"}", path);
    snprintf(open_update, sizeof(open_update), "{\"path\": \"%s\", \"mode\": \"w+\"}", path);
    snprintf(open_append, sizeof(open_append), "{\"path\": \"%s\", \"mode\": \"a+\"}", path);
    return 0;
}

static int remove_directory(void **state)
{
    return rmdir(directory);
}

static int make_table(void **state)
{
    thread_set_role(THREAD_LOOP);
    fake_settings.handles = 3;
    fake_services.files = file_table_new(FILE_TABLE_FIRST_HANDLE, 3);
    return fake_services.files ? 0 : -1;
}

static int remove_table(void **state)
{
    fake_run_detached();
    fake_services.files = file_table_free(fake_services.files);
    unlink(path);
    return 0;
}

static void set_content(const char *content)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    assert_int_equal(fclose(file), 0);
}

static size_t count_descriptors(void)
{
    size_t count = 0;
    DIR *descriptors = opendir("/proc/self/fd");
    assert_non_null(descriptors);
    while (readdir(descriptors))
        count++;
    closedir(descriptors);
    return count;
}

static void expect(const char *name, const char *arguments, const char *expected)
{
    fake_expect(&file_commands, name, arguments, expected);
}

static void expect_open(const char *arguments, int64_t expected_handle)
{
    char expected[32];
    snprintf(expected, sizeof(expected), "%" PRId64, expected_handle);
    expect("guest-file-open", arguments, expected);
}

static struct call *call_new(const char *name, const char *arguments)
{
    return fake_call_new(&file_commands, name, arguments);
}

static void test_a_file_s_life(void **state)
{
    set_content("0123456789");
    size_t descriptors = count_descriptors();
    expect_open(open_append, 1000);
    assert_int_equal(count_descriptors(), descriptors + 1);
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 4}",
           "{\"count\": 4, \"buf-b64\": \"MDEyMw==\", \"eof\": false}");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\"}",
           "{\"count\": 2, \"eof\": false}");
    expect("guest-file-flush", "{\"handle\": 1000}", "{}");
    expect("guest-file-seek", "{\"handle\": 1000, \"offset\": -3, \"whence\": \"end\"}",
           "{\"eof\": false, \"position\": 9}");
    expect("guest-file-read", "{\"handle\": 1000}",
           "{\"count\": 3, \"buf-b64\": \"OWhp\", \"eof\": true}");
    expect("guest-file-close", "{\"handle\": 1000}", "{}");
    assert_int_equal(fake_detached_count, 0); /* it was closed by its own worker */
    assert_int_equal(count_descriptors(), descriptors);
    expect("guest-file-close", "{\"handle\": 1000}", "handle '1000' has not been found");
    expect_open(open_read, 1001);
}

static void test_unknown_handles(void **state)
{
    expect("guest-file-close", "{\"handle\": 99}", "handle '99' has not been found");
    expect("guest-file-flush", "{\"handle\": -1}", "handle '-1' has not been found");
    expect("guest-file-read", "{\"handle\": 99, \"count\": -1}", "handle '99' has not been found");
    expect("guest-file-write", "{\"handle\": 99, \"buf-b64\": \"!!!!\", \"count\": -1}",
           "handle '99' has not been found");
    expect("guest-file-seek", "{\"handle\": 99, \"offset\": 0, \"whence\": 7}",
           "handle '99' has not been found");
}

static void test_opening_fails(void **state)
{
    char long_path[2000], arguments[2100];
    expect("guest-file-open", "{\"path\": \"/nonexistent/x\"}",
           "failed to open file '/nonexistent/x' (mode: 'r'): No such file or directory");
    expect("guest-file-open", "{\"path\": \"\", \"mode\": \"r+\"}",
           "failed to open file '' (mode: 'r+'): No such file or directory");
    expect("guest-file-open", "{\"path\": \"\", \"mode\": \"zz\"}", "invalid file open mode 'zz'");
    expect("guest-file-open", "{\"path\": \"/x\", \"mode\": \"\"}", "invalid file open mode ''");
    expect("guest-file-open", "{\"path\": \"/tmp\", \"mode\": \"w\"}",
           "failed to open file '/tmp' (mode: 'w'): Is a directory");
    expect("guest-file-open", "{}", "Parameter 'path' is missing");
    assert_int_equal(file_table_in_use(fake_services.files), 0);

    /* However long the path, the reason is told, and no character is cut in two. */
    for (size_t shift = 0; shift < 2; shift++) {
        size_t at = 0;
        long_path[at++] = '/';
        if (shift)
            long_path[at++] = 'x';
        for (int i = 0; i < 400; i++) {
            memcpy(long_path + at, "\xc3\xa4", 2);
            at += 2;
        }
        long_path[at] = '\0';
        snprintf(arguments, sizeof(arguments), "{\"path\": \"%s\"}", long_path);
        struct call *call = call_new("guest-file-open", arguments);
        fake_call_carry_out(call);
        const char *answer = fake_call_answer(call);
        assert_non_null(strstr(answer, "\xc3\xa4...' (mode: 'r'): File name too long"));
        fake_call_free(call);
    }
}

static void test_the_limit_of_handles(void **state)
{
    set_content("");
    expect_open(open_read, 1000);
    expect_open(open_read, 1001);

    /* One that is under way counts too. */
    struct call *call = call_new("guest-file-open", open_read);
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    expect("guest-file-open", open_read,
           "failed to open file: the limit of 3 open handles is reached (setting files.handles)");
    assert_int_equal(fake_run(call), CALL_CONTINUE);
    assert_int_equal(fake_finish(call), CALL_CONTINUE);
    /* The next request may begin before this call is released: the file counts once. */
    assert_int_equal(file_table_in_use(fake_services.files), 3);
    fake_call_free(call);
    assert_int_equal(file_table_in_use(fake_services.files), 3);

    expect("guest-file-close", "{\"handle\": 1001}", "{}");
    expect("guest-file-open", "{\"path\": \"/nonexistent/x\"}",
           "failed to open file '/nonexistent/x' (mode: 'r'): No such file or directory");
    expect_open(open_read, 1003);
}

static void test_a_call_that_never_ran_gives_its_place_back(void **state)
{
    struct call *call = call_new("guest-file-open", open_read);
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    assert_int_equal(file_table_in_use(fake_services.files), 1);
    fake_call_free(call);
    assert_int_equal(file_table_in_use(fake_services.files), 0);

    fake_call_free(call_new("guest-file-open", open_read));
    fake_call_free(call_new("guest-file-read", "{\"handle\": 1000}"));
    assert_int_equal(file_table_in_use(fake_services.files), 0);
}

/* Its deadline had passed: there is no `finish`. The file is closed, but not by the loop. */
static void test_an_open_that_came_too_late(void **state)
{
    set_content("");
    size_t descriptors = count_descriptors();
    struct call *call = call_new("guest-file-open", open_read);
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    assert_int_equal(fake_run(call), CALL_CONTINUE);
    fake_call_free(call);
    assert_int_equal(count_descriptors(), descriptors + 1);
    assert_int_equal(fake_detached_count, 1);
    fake_run_detached();
    assert_int_equal(count_descriptors(), descriptors);
    assert_int_equal(file_table_in_use(fake_services.files), 0);
    expect_open(open_read, 1000);
}

static void test_delivery_of_a_handle(void **state)
{
    set_content("");
    size_t descriptors = count_descriptors();
    struct call *call = call_new("guest-file-open", open_read);
    fake_call_carry_out(call);
    call->told(&fake_services, DELIVERY_WRITTEN, call->told_token);
    call->told(&fake_services, DELIVERY_SEEN, call->told_token);
    fake_call_free(call);
    expect("guest-file-flush", "{\"handle\": 1000}", "{}");

    call = call_new("guest-file-open", open_read);
    fake_call_carry_out(call);
    call->told(&fake_services, DELIVERY_DROPPED, call->told_token);
    fake_call_free(call);
    expect("guest-file-flush", "{\"handle\": 1001}", "handle '1001' has not been found");
    fake_run_detached();
    assert_int_equal(count_descriptors(), descriptors + 1);
}

/* Somebody guessed the number of a handle that was never delivered. */
static void test_dropped_while_it_is_read(void **state)
{
    set_content("0123");
    size_t descriptors = count_descriptors();
    struct call *opening = call_new("guest-file-open", open_read);
    fake_call_carry_out(opening);
    struct call *reading = call_new("guest-file-read", "{\"handle\": 1000}");
    assert_int_equal(fake_prepare(reading), CALL_CONTINUE);
    opening->told(&fake_services, DELIVERY_DROPPED, opening->told_token);
    fake_call_free(opening);
    assert_int_equal(fake_detached_count, 0);
    assert_int_equal(fake_run(reading), CALL_CONTINUE);
    assert_string_equal(fake_call_answer(reading),
                        "{\"count\": 4, \"buf-b64\": \"MDEyMw==\", \"eof\": true}");
    fake_call_free(reading);
    assert_int_equal(fake_detached_count, 1);
    fake_run_detached();
    assert_int_equal(count_descriptors(), descriptors);
}

/* Closed by a worker that was given up: the handle is gone all the same. */
static void test_a_close_that_came_too_late(void **state)
{
    set_content("");
    expect_open(open_read, 1000);
    struct call *call = call_new("guest-file-close", "{\"handle\": 1000}");
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    assert_non_null(file_table_get(fake_services.files, 0, 1000));
    assert_int_equal(fake_run(call), CALL_CONTINUE);
    fake_call_free(call);
    assert_null(file_table_get(fake_services.files, 0, 1000));
    assert_int_equal(file_table_in_use(fake_services.files), 0);
    assert_int_equal(fake_detached_count, 0);
}

/* One that no worker ever began has done nothing. */
static void test_a_close_that_never_began(void **state)
{
    set_content("");
    expect_open(open_read, 1000);
    struct call *call = call_new("guest-file-close", "{\"handle\": 1000}");
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    fake_call_free(call);
    expect("guest-file-close", "{\"handle\": 1000}", "{}");
}

static void test_count_of_a_read(void **state)
{
    set_content("0123456789");
    expect_open(open_read, 1000);
    expect("guest-file-read", "{\"handle\": 1000, \"count\": -1}",
           "value '-1' is invalid for argument count");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 50331649}",
           "value '50331649' is invalid for argument count");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 9223372036854775807}",
           "value '9223372036854775807' is invalid for argument count");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 0}",
           "{\"count\": 0, \"buf-b64\": \"\", \"eof\": false}");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 10}",
           "{\"count\": 10, \"buf-b64\": \"MDEyMzQ1Njc4OQ==\", \"eof\": false}");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 1}",
           "{\"count\": 0, \"buf-b64\": \"\", \"eof\": true}");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": \"1\"}",
           "Invalid parameter type for 'count', expected: integer");
    expect("guest-file-read", "{\"handle\": 1000, \"count\": 1.0}",
           "Invalid parameter type for 'count', expected: integer");
    expect("guest-file-read", "{}", "Parameter 'handle' is missing");

    /* The most that may be asked for costs no more memory than there is to be read. */
    expect("guest-file-seek", "{\"handle\": 1000, \"offset\": 0, \"whence\": 0}",
           "{\"eof\": false, \"position\": 0}");
    struct call *call = call_new("guest-file-read", "{\"handle\": 1000, \"count\": 50331648}");
    fake_call_carry_out(call);
    assert_string_equal(fake_call_answer(call),
                        "{\"count\": 10, \"buf-b64\": \"MDEyMzQ1Njc4OQ==\", \"eof\": true}");
    assert_true(call->reply.capacity < 4096);
    fake_call_free(call);
}

/* Returns the bytes of a file-read's answer, in its own memory, and checks the members' order. */
static char *read_bytes(struct call *call, size_t *ret_length)
{
    size_t count = 0;
    int at = 0;
    assert_false(call->error.is_set);
    assert_int_equal(sscanf(call->reply.data, "{\"count\": %zu, \"buf-b64\": \"%n", &count, &at),
                     1);
    assert_true(at > 0);
    char *text = call->reply.data + at;
    assert_int_equal(base64_decode_in_place(text, strcspn(text, "\""), ret_length), 0);
    assert_int_equal(*ret_length, count);
    return text;
}

static void test_long_reads(void **state)
{
    enum { SIZE = 1000003 };
    char *content = malloc(SIZE);
    assert_non_null(content);
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (char)(i * i / 7);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, SIZE, file), SIZE);
    assert_int_equal(fclose(file), 0);
    expect_open(open_read, 1000);

    /* In pieces that end anywhere in a slice, the rest with less digits than asked for. */
    static const size_t counts[] = {1, 100000, 98304, 98305, 196608, 300001, 50331648};
    size_t total = 0, length;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        char arguments[64];
        snprintf(arguments, sizeof(arguments), "{\"handle\": 1000, \"count\": %zu}", counts[i]);
        struct call *call = call_new("guest-file-read", arguments);
        fake_call_carry_out(call);
        assert_non_null(
            strstr(call->reply.data, counts[i] == 50331648 ? "\"eof\": true}" : "\"eof\": false}"));
        char *bytes = read_bytes(call, &length);
        assert_true(total + length <= SIZE);
        assert_memory_equal(bytes, content + total, length);
        total += length;
        fake_call_free(call);
    }
    assert_int_equal(total, SIZE);
    free(content);
}

/* Its size is not known beforehand, and not a multiple of anything. */
static void test_reading_what_has_no_size(void **state)
{
    size_t length;
    expect_open("{\"path\": \"/dev/zero\"}", 1000);
    struct call *call = call_new("guest-file-read", "{\"handle\": 1000, \"count\": 777777}");
    fake_call_carry_out(call);
    char *bytes = read_bytes(call, &length);
    assert_int_equal(length, 777777);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(bytes[i], 0);
    fake_call_free(call);
}

static void test_a_fifo(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    int peer = open(path, O_RDWR | O_NONBLOCK);
    expect_open(open_read, 1000);
    expect("guest-file-read", "{\"handle\": 1000}",
           "failed to read file: Resource temporarily unavailable");
    assert_int_equal(write(peer, "hi", 2), 2);
    expect("guest-file-read", "{\"handle\": 1000}",
           "{\"count\": 2, \"buf-b64\": \"aGk=\", \"eof\": false}");
    expect("guest-file-seek", "{\"handle\": 1000, \"offset\": 0, \"whence\": 1}",
           "failed to seek file: Illegal seek");
    close(peer);
}

static void test_a_directory(void **state)
{
    expect_open("{\"path\": \"/tmp\"}", 1000);
    expect("guest-file-read", "{\"handle\": 1000}", "failed to read file: Is a directory");
}

static void test_wrong_direction(void **state)
{
    set_content("");
    expect_open(open_read, 1000);
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\"}",
           "failed to write to file: Bad file descriptor");
    char open_write[128];
    snprintf(open_write, sizeof(open_write), "{\"path\": \"%s\", \"mode\": \"w\"}", path);
    expect_open(open_write, 1001);
    expect("guest-file-read", "{\"handle\": 1001}", "failed to read file: Bad file descriptor");
}

static void test_writing(void **state)
{
    expect_open(open_update, 1000);
    expect("guest-file-write", "{\"handle\": 1000}", "Parameter 'buf-b64' is missing");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"\"}",
           "{\"count\": 0, \"eof\": false}");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\", \"count\": 1}",
           "{\"count\": 1, \"eof\": false}");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\", \"count\": 0}",
           "{\"count\": 0, \"eof\": false}");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\", \"count\": 3}",
           "value '3' is invalid for argument count");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aGk=\", \"count\": -1}",
           "value '-1' is invalid for argument count");
    expect("guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"aG\\nk=\\n\", \"count\": 2}",
           "{\"count\": 2, \"eof\": false}");
    static const char *const wrong[] = {"!!!!", "aG k=", "aG\\r\\nk=", "aG-_", "aGk", "=aGk"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        char arguments[64];
        snprintf(arguments, sizeof(arguments), "{\"handle\": 1000, \"buf-b64\": \"%s\"}", wrong[i]);
        expect("guest-file-write", arguments, "Base64 data contains invalid characters");
    }
    expect("guest-file-seek", "{\"handle\": 1000, \"offset\": 0, \"whence\": \"set\"}",
           "{\"eof\": false, \"position\": 0}");
    expect("guest-file-read", "{\"handle\": 1000}",
           "{\"count\": 3, \"buf-b64\": \"aGhp\", \"eof\": true}");
}

/* "AAAA" as often as it takes, as the arguments of a write. */
static char *big_write(size_t groups)
{
    static const char start[] = "{\"handle\": 1000, \"buf-b64\": \"";
    char *arguments = malloc(sizeof(start) + groups * 4 + 2);
    assert_non_null(arguments);
    strcpy(arguments, start);
    memset(arguments + strlen(start), 'A', groups * 4);
    strcpy(arguments + strlen(start) + groups * 4, "\"}");
    return arguments;
}

static void test_long_writes(void **state)
{
    struct stat status;
    char *arguments = big_write(1000000);
    expect_open(open_update, 1000);
    expect("guest-file-write", arguments, "{\"count\": 3000000, \"eof\": false}");
    free(arguments);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 3000000);
}

static void test_a_write_that_does_not_fit(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    int peer = open(path, O_RDWR | O_NONBLOCK);
    assert_int_equal(fcntl(peer, F_SETPIPE_SZ, 65536), 65536);
    expect_open(open_append, 1000);
    char *arguments = big_write(100000);
    expect("guest-file-write", arguments,
           "failed to write to file: Resource temporarily unavailable "
           "(65536 of 300000 bytes were written)");
    expect("guest-file-write", arguments,
           "failed to write to file: Resource temporarily unavailable");
    free(arguments);
    close(peer);
}

static void test_whence(void **state)
{
    static const struct {
        const char *whence, *expected;
    } rows[] = {
        {"0", "{\"eof\": false, \"position\": 1}"},
        {"1", "{\"eof\": false, \"position\": 2}"},
        {"2", "{\"eof\": false, \"position\": 5}"},
        {"\"set\"", "{\"eof\": false, \"position\": 1}"},
        {"\"cur\"", "{\"eof\": false, \"position\": 2}"},
        {"\"end\"", "{\"eof\": false, \"position\": 5}"},
        {"3", "invalid whence code 3"},
        {"-1", "invalid whence code -1"},
        {"4294967296", "invalid whence code 4294967296"},
        {"-9223372036854775808", "invalid whence code -9223372036854775808"},
        {"9223372036854775808", "Invalid parameter type for 'whence', expected: integer"},
        {"1.0", "Invalid parameter type for 'whence', expected: integer"},
        {"1e3", "Invalid parameter type for 'whence', expected: integer"},
        {"\"SET\"", "Parameter 'whence' does not accept value 'SET'"},
        {"\"middle\"", "Parameter 'whence' does not accept value 'middle'"},
        {"\"\"", "Parameter 'whence' does not accept value ''"},
        {"\"0\"", "Parameter 'whence' does not accept value '0'"},
        {"null", "Invalid parameter type for 'whence', expected: GuestFileWhence"},
        {"true", "Invalid parameter type for 'whence', expected: GuestFileWhence"},
        {"[]", "Invalid parameter type for 'whence', expected: GuestFileWhence"},
        {"{}", "Invalid parameter type for 'whence', expected: GuestFileWhence"},
    };
    set_content("0123");
    expect_open(open_read, 1000);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char arguments[128];
        snprintf(arguments, sizeof(arguments), "{\"handle\": 1000, \"offset\": 1, \"whence\": %s}",
                 rows[i].whence);
        expect("guest-file-seek", arguments, rows[i].expected);
    }
    expect("guest-file-seek", "{\"handle\": 1000, \"offset\": -1, \"whence\": 0}",
           "failed to seek file: Invalid argument");
    expect("guest-file-seek", "{\"handle\": 99}", "Parameter 'offset' is missing");
    expect("guest-file-seek", "{\"handle\": 99, \"offset\": 0}", "Parameter 'whence' is missing");
}

static void test_an_interrupted_call_ends(void **state)
{
    set_content("0123");
    expect_open(open_update, 1000);
    struct call *call = call_new("guest-file-read", "{\"handle\": 1000}");
    call->is_interrupted = true;
    fake_call_carry_out(call);
    assert_true(call->error.is_set);
    fake_call_free(call);

    /* A write stops between two slices. */
    char *arguments = big_write(1000000);
    call = call_new("guest-file-write", arguments);
    free(arguments);
    call->is_interrupted = true;
    fake_call_carry_out(call);
    assert_string_equal(fake_call_answer(call), "failed to write to file: Interrupted system call "
                                                "(1048576 of 3000000 bytes were written)");
    fake_call_free(call);
}

static void test_steps_name_the_path(void **state)
{
    static const char *const others[][3] = {
        {"guest-file-read", "{\"handle\": 1000}", "reading"},
        {"guest-file-write", "{\"handle\": 1000, \"buf-b64\": \"\"}", "writing"},
        {"guest-file-seek", "{\"handle\": 1000, \"offset\": 0, \"whence\": 0}", "seeking in"},
        {"guest-file-close", "{\"handle\": 1000}", "closing"},
    };
    char expected[128];
    struct call *call = call_new("guest-file-open", open_update);
    fake_call_carry_out(call);
    snprintf(expected, sizeof(expected), "opening '%s'", path);
    assert_string_equal(call->step, expected);
    fake_call_free(call);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        call = call_new(others[i][0], others[i][1]);
        fake_call_carry_out(call);
        snprintf(expected, sizeof(expected), "%s '%s'", others[i][2], path);
        assert_string_equal(call->step, expected);
        fake_call_free(call);
    }
}

/* Every command on a handle must be kept apart from the others on it. */
static void test_lanes(void **state)
{
    for (size_t i = 0; i < file_commands.count; i++) {
        const struct command *command = &file_commands.commands[i];
        if (strcmp(command->name, "guest-file-open") == 0)
            continue;
        assert_string_equal(command->lane, "handle");
        assert_string_equal(command->lane_arg, "handle");
        assert_string_equal(command->args[0].name, "handle");
        assert_int_equal(command->args[0].offset, 0);
    }
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, make_table, remove_table)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_a_file_s_life),
        FILE_TEST(test_unknown_handles),
        FILE_TEST(test_opening_fails),
        FILE_TEST(test_the_limit_of_handles),
        FILE_TEST(test_a_call_that_never_ran_gives_its_place_back),
        FILE_TEST(test_an_open_that_came_too_late),
        FILE_TEST(test_delivery_of_a_handle),
        FILE_TEST(test_dropped_while_it_is_read),
        FILE_TEST(test_a_close_that_came_too_late),
        FILE_TEST(test_a_close_that_never_began),
        FILE_TEST(test_count_of_a_read),
        FILE_TEST(test_long_reads),
        FILE_TEST(test_reading_what_has_no_size),
        FILE_TEST(test_a_fifo),
        FILE_TEST(test_a_directory),
        FILE_TEST(test_wrong_direction),
        FILE_TEST(test_writing),
        FILE_TEST(test_long_writes),
        FILE_TEST(test_a_write_that_does_not_fit),
        FILE_TEST(test_whence),
        FILE_TEST(test_an_interrupted_call_ends),
        FILE_TEST(test_steps_name_the_path),
        FILE_TEST(test_lanes),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
