/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static void check_set(struct settings *settings, const char *group, const char *key,
                      const char *value)
{
    char *reason = NULL;

    assert_int_equal(settings_set(settings, group, key, value, &reason), 0);
    assert_null(reason);
}

static void check_refused(const char *group, const char *key, const char *value, int error,
                          const char *expected)
{
    struct settings settings, before;
    char *reason = NULL;

    settings_init(&settings);
    before = settings;
    assert_int_equal(settings_set(&settings, group, key, value, &reason), error);
    assert_non_null(reason);
    assert_string_equal(reason, expected);
    assert_memory_equal(&settings, &before, sizeof(settings));
    free(reason);
}

static void test_defaults(void **state)
{
    (void)state;
    struct settings settings;
    size_t count = 0;
    const struct setting *rows = settings_rows(&count);

    settings_init(&settings);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_true(settings_value(&settings, &rows[i]) == rows[i].default_value);
        assert_true(rows[i].min <= rows[i].default_value);
        assert_true(rows[i].default_value <= rows[i].max);
        assert_true(strlen(rows[i].help) > 10);
    }
    assert_int_equal(settings.message_bytes, 64 << 20);
    assert_int_equal(settings.workers, 4);
    assert_int_equal(settings.file_umask, 0022);
    assert_int_equal(settings.exec_retention_s, 3600);
    assert_int_equal(settings.deadline_default_s, 60);
    assert_int_equal(settings.deadline_count, 0);
    settings_deinit(&settings);
}

/* Every number of the struct has a row of its own, so nothing is left at zero by oversight. */
static void test_rows_cover_the_struct(void **state)
{
    (void)state;
    size_t count = 0;
    const struct setting *rows = settings_rows(&count);

    assert_int_equal(count, offsetof(struct settings, deadlines) / sizeof(uint64_t));
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            assert_true(rows[i].offset != rows[j].offset);
            assert_false(strcmp(rows[i].group, rows[j].group) == 0 &&
                         strcmp(rows[i].key, rows[j].key) == 0);
        }
}

static void test_set(void **state)
{
    (void)state;
    struct settings settings;

    settings_init(&settings);
    check_set(&settings, "limits", "message-bytes", "100000");
    assert_int_equal(settings.message_bytes, 100000);
    check_set(&settings, "limits", "message-bytes", "64K");
    assert_int_equal(settings.message_bytes, 65536);
    check_set(&settings, "limits", "message-bytes", "1G");
    assert_int_equal(settings.message_bytes, 1 << 30);
    check_set(&settings, "exec", "output-bytes", "16G");
    assert_true(settings.exec_output_bytes == UINT64_C(16) << 30);
    check_set(&settings, "files", "umask", "077");
    assert_int_equal(settings.file_umask, 077);
    check_set(&settings, "files", "umask", "0");
    assert_int_equal(settings.file_umask, 0);
    check_set(&settings, "hotplug", "memory", "true");
    assert_int_equal(settings.hotplug_memory, 1);
    check_set(&settings, "hotplug", "memory", "false");
    assert_int_equal(settings.hotplug_memory, 0);
    check_set(&settings, "hotplug", "processors", "1");
    assert_int_equal(settings.hotplug_processors, 1);
    check_set(&settings, "hotplug", "processors", "0");
    assert_int_equal(settings.hotplug_processors, 0);
    check_set(&settings, "pool", "workers-lost-max", "0");
    assert_int_equal(settings.workers_lost_max, 0);
    settings_deinit(&settings);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",  "x",  "-5", "+5", " 5", "5 ", "5K", "0x5", "5.0", "1e1", "18446744073709551621",
        "1", "257"};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        char expected[400];
        snprintf(expected, sizeof(expected),
                 "'%s' does not fit 'workers' in [pool]: expected a number from 2 to 256",
                 wrong[i]);
        check_refused("pool", "workers", wrong[i], -EINVAL, expected);
    }
    check_refused("limits", "message-bytes", "64KB", -EINVAL,
                  "'64KB' does not fit 'message-bytes' in [limits]: expected a number of bytes "
                  "(K, M or G may follow it) from 64K to 1G");
    check_refused("limits", "message-bytes", "18014398509481985K", -EINVAL,
                  "'18014398509481985K' does not fit 'message-bytes' in [limits]: expected a "
                  "number of bytes (K, M or G may follow it) from 64K to 1G");
    check_refused(
        "files", "umask", "8", -EINVAL,
        "'8' does not fit 'umask' in [files]: expected an octal number from 0000 to 0777");
    check_refused("files", "umask", "1000", -EINVAL,
                  "'1000' does not fit 'umask' in [files]: expected an octal number from 0000 to "
                  "0777");
    check_refused("hotplug", "memory", "yes", -EINVAL,
                  "'yes' does not fit 'memory' in [hotplug]: expected true or false");
    check_refused("deadline", "guest-exec", "soon", -EINVAL,
                  "'soon' does not fit 'guest-exec' in [deadline]: expected a number of seconds "
                  "from 0 to 31536000");
    check_refused("files", "handels", "8", -ENOENT,
                  "there is no key 'handels' in [files]: expected one of handles, umask");
    check_refused("deadline", "Guest Ping", "8", -ENOENT,
                  "there is no key 'Guest Ping' in [deadline]: expected one of default, or a "
                  "command's name");
    check_refused("limit", "connections", "8", -ENOENT, "there is no group [limit]");
}

static void test_deadlines(void **state)
{
    (void)state;
    struct settings settings;

    settings_init(&settings);
    check_set(&settings, "deadline", "default", "5");
    check_set(&settings, "deadline", "guest-get-fsinfo", "10");
    check_set(&settings, "deadline", "guest-fstrim", "0");
    check_set(&settings, "deadline", "guest-get-fsinfo", "11");
    assert_int_equal(settings.deadline_count, 2);
    assert_int_equal(settings_deadline_ms(&settings, "guest-get-fsinfo", 7), 11000);
    assert_int_equal(settings_deadline_ms(&settings, "guest-fstrim", 7), 0);
    assert_int_equal(settings_deadline_ms(&settings, "guest-ping", 7), 7000);
    assert_int_equal(settings_deadline_ms(&settings, "guest-ping", settings.deadline_default_s),
                     5000);
    settings_deinit(&settings);
    assert_int_equal(settings.deadline_count, 0);
}

static void test_excluded_mount_points(void **state)
{
    struct settings settings;
    struct buffer out = BUFFER_INIT;

    settings_init(&settings);
    check_set(&settings, "freeze", "exclude", "/old");
    check_set(&settings, "freeze", "exclude", "/a;/with space;;/b;");
    assert_int_equal(settings.freeze_exclude.count, 3);
    assert_string_equal(settings.freeze_exclude.items[1], "/with space");
    check_set(&settings, "freeze", "timeout", "5");
    settings_dump(&settings, &out);
    assert_string_equal(out.data, "\n[freeze]\nexclude=/a;/with space;/b\ntimeout=5\n");
    buffer_deinit(&out);
    check_set(&settings, "freeze", "exclude", "");
    assert_int_equal(settings.freeze_exclude.count, 0);
    settings_deinit(&settings);
    check_refused("freeze", "exclude", "/a;b", -EINVAL,
                  "'/a;b' does not fit 'exclude' in [freeze]: expected absolute paths with ';' "
                  "between them");
    check_refused("freeze", "none", "1", -ENOENT,
                  "there is no key 'none' in [freeze]: expected one of timeout, hook-timeout, "
                  "exclude");
}

static void test_groups(void **state)
{
    (void)state;
    static const char *const groups[] = {"limits", "pool", "files", "exec", "deadline"};

    for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
        assert_true(settings_has_group(groups[i]));
    assert_false(settings_has_group("general"));
    assert_false(settings_has_group("Limits"));
    assert_false(settings_has_group("channel x"));
    assert_false(settings_has_group(""));
}

static void check_contradiction(const char *group, const char *key, const char *value,
                                const char *expected)
{
    struct settings settings;
    char *reason = NULL;

    settings_init(&settings);
    assert_int_equal(settings_check(&settings, &reason), 0);
    assert_null(reason);
    check_set(&settings, group, key, value);
    assert_int_equal(settings_check(&settings, &reason), -EINVAL);
    assert_string_equal(reason, expected);
    free(reason);
}

static void test_contradictions(void **state)
{
    (void)state;
    check_contradiction("pool", "workers", "33",
                        "[pool]: workers (33) is more than workers-max (32)");
    check_contradiction("limits", "message-bytes", "193M",
                        "[limits]: message-bytes (193M) is more than pending-bytes (192M)");
    check_contradiction("exec", "output-bytes", "1M",
                        "[exec]: stream-bytes (16M) is more than output-bytes (1M)");
}

static void test_dump(void **state)
{
    (void)state;
    struct settings settings;
    struct buffer out = BUFFER_INIT;

    settings_init(&settings);
    settings_dump(&settings, &out);
    assert_null(out.data);

    check_set(&settings, "deadline", "guest-ping", "3");
    check_set(&settings, "files", "umask", "077");
    check_set(&settings, "limits", "message-bytes", "65537");
    check_set(&settings, "limits", "unsent-bytes", "2048K");
    check_set(&settings, "limits", "connections", "32");
    settings_dump(&settings, &out);
    assert_string_equal(out.data, "\n[limits]\nmessage-bytes=65537\nunsent-bytes=2M\n"
                                  "\n[files]\numask=0077\n"
                                  "\n[deadline]\nguest-ping=3\n");
    buffer_deinit(&out);
    settings_deinit(&settings);
}

static void test_document(void **state)
{
    (void)state;
    struct buffer out = BUFFER_INIT;
    size_t count = 0, lines = 0;

    settings_rows(&count);
    settings_document(&out);
    for (size_t i = 0; i < out.length; i++)
        lines += out.data[i] == '\n';
    assert_int_equal(lines, count);
    assert_non_null(
        strstr(out.data, "limits.message-bytes=64M (64K to 1G): size of one request\n"));
    buffer_deinit(&out);
}

static char *read_file(const char *path)
{
    static char text[100000];
    FILE *file = fopen(path, "re");

    if (!file)
        fail_msg("%s cannot be opened", path);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* Fails unless the text has the line in the section: from its header to the next `section_end`. */
static void check_section(const char *text, const char *header, const char *line,
                          const char *section_end)
{
    const char *start = strstr(text, header);
    const char *found = start ? strstr(start, line) : NULL;
    const char *end = start ? strstr(start + 1, section_end) : NULL;

    if (!found || (end && found > end))
        fail_msg("section %s lacks %s", header, line);
}

/* ".It Cm workers No = 4 Pq 2 to 256": every item begins with its default and range. */
static void test_manual_page(void **state)
{
    (void)state;
    size_t count = 0;
    const struct setting *rows = settings_rows(&count);
    const char *page = read_file(SOURCE_ROOT "/docs/bellhop.conf.5");

    for (size_t i = 0; i < count; i++) {
        struct buffer header = BUFFER_INIT;
        struct buffer item = BUFFER_INIT;
        buffer_append_format(&header, ".Ss [%s]\n", rows[i].group);
        buffer_append_format(&item, ".It Cm %s No = ", rows[i].key);
        setting_format(&rows[i], rows[i].default_value, &item);
        buffer_append_text(&item, " Pq ");
        setting_format(&rows[i], rows[i].min, &item);
        buffer_append_text(&item, " to ");
        setting_format(&rows[i], rows[i].max, &item);
        buffer_append_text(&item, "\n");
        check_section(page, header.data, item.data, "\n.S");
        buffer_deinit(&header);
        buffer_deinit(&item);
    }
}

/* The sample has every setting as a comment that shows the default. */
static void test_sample(void **state)
{
    (void)state;
    size_t count = 0;
    const struct setting *rows = settings_rows(&count);
    const char *sample = read_file(SOURCE_ROOT "/packaging/bellhop.conf");

    for (size_t i = 0; i < count; i++) {
        struct buffer header = BUFFER_INIT;
        struct buffer line = BUFFER_INIT;
        buffer_append_format(&header, "\n[%s]\n", rows[i].group);
        buffer_append_format(&line, "\n#%s = ", rows[i].key);
        setting_format(&rows[i], rows[i].default_value, &line);
        buffer_append_text(&line, "\n");
        check_section(sample, header.data, line.data, "\n[");
        buffer_deinit(&header);
        buffer_deinit(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),    cmocka_unit_test(test_rows_cover_the_struct),
        cmocka_unit_test(test_set),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_deadlines),   cmocka_unit_test(test_excluded_mount_points),
        cmocka_unit_test(test_groups),      cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_dump),        cmocka_unit_test(test_document),
        cmocka_unit_test(test_manual_page), cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
