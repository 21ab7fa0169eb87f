/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os-release.h"

/* What NAME and ID are after parsing the text; NULL where they are not set. */
struct expectation {
    const char *text;
    const char *name;
    const char *id;
};

static void check(const struct expectation *expected, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct os_release release = OS_RELEASE_INIT;
        /* A copy of exactly that size, so that a sanitizer sees a read past its end. */
        size_t length = strlen(expected[i].text);
        char *text = malloc(length + 1);
        assert_non_null(text);
        memcpy(text, expected[i].text, length);
        text = realloc(text, length ? length : 1);

        assert_int_equal(os_release_parse(&release, text, length), 0);
        free(text);
        if (expected[i].name)
            assert_non_null(release.name);
        if (release.name)
            assert_string_equal(release.name, expected[i].name ? expected[i].name : "(nothing)");
        if (expected[i].id)
            assert_non_null(release.id);
        if (release.id)
            assert_string_equal(release.id, expected[i].id ? expected[i].id : "(nothing)");
        os_release_deinit(&release);
        assert_null(release.name);
    }
}

static void test_debian(void **state)
{
    static const char text[] = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"
                               "NAME=\"Debian GNU/Linux\"\n"
                               "VERSION_ID=\"12\"\n"
                               "VERSION=\"12 (bookworm)\"\n"
                               "VERSION_CODENAME=bookworm\n"
                               "ID=debian\n"
                               "VARIANT='Server Edition'\n"
                               "VARIANT_ID=server\n"
                               "HOME_URL=\"https://www.debian.org/\"\n";
    struct os_release release = OS_RELEASE_INIT;
    assert_int_equal(os_release_parse(&release, text, strlen(text)), 0);
    assert_string_equal(release.pretty_name, "Debian GNU/Linux 12 (bookworm)");
    assert_string_equal(release.name, "Debian GNU/Linux");
    assert_string_equal(release.version_id, "12");
    assert_string_equal(release.version, "12 (bookworm)");
    assert_string_equal(release.id, "debian");
    assert_string_equal(release.variant, "Server Edition");
    assert_string_equal(release.variant_id, "server");
    os_release_deinit(&release);
}

static void test_double_quotes(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=\"\"", "", NULL},
        {"NAME=\"a b\"", "a b", NULL},
        {"NAME=\"a\\\"b\\$c\\`d\\\\e\"", "a\"b$c`d\\e", NULL},
        {"NAME=\"a\\nb\\'c\\ d\"", "a\\nb\\'c\\ d", NULL}, /* no escapes, so they stay */
        {"NAME=\"it's; # all & $HOME of `it`\"", "it's; # all & $HOME of `it`", NULL},
        {"NAME=\"a\\\nb\"", "ab", NULL},
        {"NAME=\"a\nb\"\nID=x", "a\nb", "x"},
        {"NAME=\"a\tb\"", "a\tb", NULL},
        {"NAME=\"x\r\n\"\r\nID=y\r\n", "x\r\n", "y"},
        {"NAME=\"caf\xc3\xa9\"", "caf\xc3\xa9", NULL},
        {"NAME=\"bad\xff\"\nID=x", "bad\xff", "x"},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_single_quotes(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=''", "", NULL},
        {"NAME='a b'", "a b", NULL},
        {"NAME='a\\b\"c$x`y`\\\\'", "a\\b\"c$x`y`\\\\", NULL},
        {"NAME='a\\'\nID=x", "a\\", "x"}, /* the backslash does not escape the quote */
        {"NAME='a\nb'\nID=x", "a\nb", "x"},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_unquoted(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=x", "x", NULL},
        {"NAME=", "", NULL},
        {"NAME=\nID=y", "", "y"},
        {"NAME=a\\ b", "a b", NULL},
        {"NAME=a\\\"b\\'c\\\\d\\$e\\nf", "a\"b'c\\d$enf", NULL},
        {"NAME=a\\\nb\nID=x", "ab", "x"},
        {"NAME=$HOME", "$HOME", NULL},
        {"NAME=x\\", "x", NULL},
        {"NAME=a#b", "a#b", NULL},
        {"NAME=#b", "#b", NULL},
        {"NAME=a=b", "a=b", NULL},
        {"NAME=x\r\nID=y\r", "x", "y"},
        {"NAME=x\ry", "x\ry", NULL},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_words_end(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=a b\nID=x", "a", "x"},         {"NAME=a\tb\nID=x", "a", "x"},
        {"NAME=x # comment\nID=y", "x", "y"}, {"NAME=\"x\" # it's a comment\nID=y", "x", "y"},
        {"NAME= # comment\nID=y", "", "y"},   {"NAME=x;ID=z", "x", NULL},
        {"NAME=\"x\";ID=z", "x", NULL},       {"NAME=x \nID=y", "x", "y"},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_sequences_of_quotes(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=\"a\"b", "ab", NULL},       {"NAME=a\"b\"c", "abc", NULL},
        {"NAME=\"a\"'b'", "ab", NULL},     {"NAME='a'\\''b'", "a'b", NULL},
        {"NAME='a'\"'\"'b'", "a'b", NULL}, {"NAME=\"a\"'", NULL, NULL},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_unclosed_quotes(void **state)
{
    static const struct expectation rows[] = {
        {"NAME=\"unterminated\nID=z", NULL, "z"},
        {"NAME='unterminated\nID=z", NULL, "z"},
        {"NAME=x\nNAME=\"y\nID=z", "x", "z"},
        {"NAME=\"", NULL, NULL},
        {"NAME='", NULL, NULL},
        {"NAME=\"x\\", NULL, NULL},
        {"NAME=\"x\\\"", NULL, NULL},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_lines(void **state)
{
    static const struct expectation rows[] = {
        {"", NULL, NULL},
        {"\n\n\n", NULL, NULL},
        {"ID=a\nID=b", NULL, "b"}, /* the last one wins */
        {"ID=a\nID=", NULL, ""},
        {"#NAME=y\nNAME=x", "x", NULL},
        {"  # NAME=y\nNAME=x", "x", NULL},
        {";NAME=y", NULL, NULL},
        {" \tNAME=x", "x", NULL},
        {"NAME =x", "x", NULL},
        {"NAME= x", "x", NULL},
        {"export NAME=x\nID=y", NULL, "y"},
        {"garbage\nID=x", NULL, "x"},
        {"=x\nID=y", NULL, "y"},
        {"=\n", NULL, NULL},
        {"NAME", NULL, NULL},
        {"1NAME=x\nNAME2=x\nXNAME=x\nNAM=x\nname=x", NULL, NULL},
        {"NAME[de]=x\nID=y", NULL, "y"},
        {"NAME.de=x\nNAME-de=x", NULL, NULL},
        {"\xef\xbb\xbfNAME=x", "x", NULL},
        {"\xef\xbb", NULL, NULL},
    };
    check(rows, ARRAY_SIZE(rows));
}

static void test_a_nul_ends_a_value_only(void **state)
{
    static const char text[] = "NAME=\"a\0b\"\nID=y\n";
    struct os_release release = OS_RELEASE_INIT;
    assert_int_equal(os_release_parse(&release, text, sizeof(text) - 1), 0);
    assert_string_equal(release.name, "a");
    assert_string_equal(release.id, "y");
    os_release_deinit(&release);
}

/* Every beginning and every rest of a text with all kinds of quoting: nothing is read outside. */
static void test_cut_anywhere(void **state)
{
    static const char text[] = "\xef\xbb\xbf NAME = \"a\\\"b\\\nc\"'d'\\ e # f\r\nID='x'\n";
    for (size_t from = 0; from < sizeof(text); from++) {
        for (size_t to = from; to < sizeof(text); to++) {
            struct os_release release = OS_RELEASE_INIT;
            char *part = malloc(to - from ? to - from : 1);
            assert_non_null(part);
            memcpy(part, text + from, to - from);
            assert_int_equal(os_release_parse(&release, part, to - from), 0);
            free(part);
            os_release_deinit(&release);
        }
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void test_load(void **state)
{
    char directory[] = "/tmp/test-os-release-XXXXXX";
    char first[64], second[64];
    assert_non_null(mkdtemp(directory));
    snprintf(first, sizeof(first), "%s/first", directory);
    snprintf(second, sizeof(second), "%s/second", directory);
    const char *paths[] = {first, second, NULL};
    struct os_release release = OS_RELEASE_INIT;

    assert_int_equal(os_release_load(&release, paths), -ENOENT);

    write_file(second, "NAME=second\nVERSION=2\n");
    assert_int_equal(os_release_load(&release, paths), 0);
    assert_string_equal(release.name, "second");
    os_release_deinit(&release);

    /* The first that exists is the only one that counts. */
    write_file(first, "NAME=first\n");
    assert_int_equal(os_release_load(&release, paths), 0);
    assert_string_equal(release.name, "first");
    assert_null(release.version);
    os_release_deinit(&release);

    /* Longer than one read, and than what is taken at most. */
    FILE *file = fopen(first, "w");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("# a comment line to be passed over\n", file);
    fputs("NAME=far\n", file);
    fclose(file);
    assert_int_equal(os_release_load(&release, paths), 0);
    assert_string_equal(release.name, "far");
    os_release_deinit(&release);
    assert_int_equal(truncate(first, 1024 * 1024 + 1), 0);
    assert_int_equal(os_release_load(&release, paths), -EFBIG);

    /* One that exists and cannot be read is an error, not a reason to look elsewhere. */
    assert_int_equal(unlink(first), 0);
    assert_int_equal(mkdir(first, 0700), 0);
    assert_int_equal(os_release_load(&release, paths), -EISDIR);
    assert_null(release.name);

    assert_int_equal(rmdir(first), 0);
    write_file(first, "");
    assert_int_equal(os_release_load(&release, paths), 0);
    assert_null(release.name);

    unlink(first);
    unlink(second);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_debian),
        cmocka_unit_test(test_double_quotes),
        cmocka_unit_test(test_single_quotes),
        cmocka_unit_test(test_unquoted),
        cmocka_unit_test(test_words_end),
        cmocka_unit_test(test_sequences_of_quotes),
        cmocka_unit_test(test_unclosed_quotes),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_a_nul_ends_a_value_only),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
