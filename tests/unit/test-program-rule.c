/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "security/profile.h"
#include "security/program-rule.h"

static void test_patterns(void **state)
{
    static char long_text[PROGRAM_ARGUMENT_MAX + 2];
    memset(long_text, 'a', sizeof(long_text) - 1);
    const struct {
        const char *pattern, *argument;
        bool matches;
    } rows[] = {
        {"", "", true},
        {"", "x", false},
        {"start", "start", true},
        {"start", "starts", false},
        {"start", "star", false},
        {"s*t", "start", true},
        {"s*t", "st", true},
        {"s*t", "stop", false},
        {"*", "", true},
        {"*", "a", true},
        {"*", "a/b", false},
        {"**", "a/b", true},
        {"?", "a", true},
        {"?", "", false},
        {"?", "/", false},
        {"/srv/*/x", "/srv/a/x", true},
        {"/srv/*/x", "/srv/a/b/x", false},
        {"/srv/**/x", "/srv/a/b/x", true},
        {"/srv/**", "/srv/", true},
        {"/srv/**", "/srv", false},
        {"**a*b", "x/ab", true},
        {"**a*b", "a/a/ab", true},
        {"**a*b*", "a/b", false},
        {"a*a*a", "aaa", true},
        {"a*a*a", "aa", false},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"a\\", "a\\", true},
        /* what stands for a value does not become an option */
        {"*", "-rf", false},
        {"**", "--output=/etc/passwd", false},
        {"?*", "-x", false},
        {"-*", "-x", true},
        {"--name=*", "--name=a", true},
        {"--name=*", "--name=a/b", false},
        /* nor does it lead out of a folder */
        {"/srv/**", "/srv/../etc/passwd", false},
        {"/srv/*/x", "/srv/../x", false},
        {"--file=**", "--file=../x", false},
        {"**", "..", true},
        {"*", "..", false},
        {"/srv/../x", "/srv/../x", true},
        {"/srv/*", "/srv/..x", true},
        {"*", long_text, false},
        {"a**", long_text, false},
        {"**", long_text, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (program_pattern_matches(rows[i].pattern, rows[i].argument) != rows[i].matches)
            fail_msg("'%s' %s '%s'", rows[i].pattern,
                     rows[i].matches ? "does not match" : "matches", rows[i].argument);
}

/* One that goes wrong late, in every way that there is, still comes to an end. */
static void test_hostile_patterns_end(void **state)
{
    static char text[PROGRAM_ARGUMENT_MAX + 1];
    memset(text, 'a', PROGRAM_ARGUMENT_MAX);
    assert_false(program_pattern_matches("a**a*a**a*a**a*a**a*a*a*a*a*b", text));
    for (size_t i = 1; i < PROGRAM_ARGUMENT_MAX; i += 2)
        text[i] = '/';
    assert_false(program_pattern_matches("a**a*a**a*a**a*a**a*a*a*a*a*b", text));
}

static struct program_rule *add(struct program_rules *rules, const char *name, const char *path)
{
    struct program_rule *rule = program_rules_append(rules);
    assert_non_null(rule);
    rule->name = strdup(name);
    rule->path = strdup(path);
    rule->profiles = PROFILE_ALL;
    return rule;
}

static void add_call(struct program_rule *rule, const char *const *patterns, bool allows_more)
{
    rule->calls = reallocarray(rule->calls, rule->call_count + 1, sizeof(*rule->calls));
    struct program_call *call = &rule->calls[rule->call_count++];
    *call = (struct program_call){.allows_more = allows_more};
    for (; *patterns; patterns++)
        assert_int_equal(text_list_append(&call->patterns, *patterns, strlen(*patterns)), 0);
}

static int match(const struct program_rules *rules, const struct program_request *request,
                 const char *expected)
{
    const struct program_rule *rule = NULL;
    char reason[PROGRAM_REFUSAL_MAX] = "";
    int error = program_rules_match(rules, request, &rule, reason);
    if (expected && error == 0)
        assert_string_equal(rule ? rule->name : "", expected);
    else if (expected && !strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    return error;
}

static void test_without_rules(void **state)
{
    struct program_rules rules = {NULL, 0};
    struct program_request request = {.profile = PROFILE_FULL, .path = "/bin/sh"};
    assert_int_equal(match(&rules, &request, ""), 0);
    request.profile = PROFILE_PROVISION;
    assert_int_equal(match(&rules, &request, "no [program] rule of the profile provision"), -EPERM);
    request.profile = 77;
    assert_int_equal(match(&rules, &request, "no [program] rule"), -EPERM);
}

static void test_one_rule_refuses_the_rest(void **state)
{
    struct program_rules rules = {NULL, 0};
    add(&rules, "true", "/usr/bin/true")->profiles = PROFILE_BIT(PROFILE_PROVISION);
    struct program_request request = {.profile = PROFILE_PROVISION, .path = "/usr/bin/true"};
    assert_int_equal(match(&rules, &request, "true"), 0);
    request.path = "/usr/bin/truer";
    assert_int_equal(match(&rules, &request, "no [program] rule"), -EPERM);
    request.path = "/usr/bin/true";
    request.profile = PROFILE_FULL;
    assert_int_equal(match(&rules, &request, "no [program] rule of the profile full"), -EPERM);
    assert_ptr_equal(program_rules_find(&rules, "true"), &rules.rules[0]);
    assert_null(program_rules_find(&rules, "false"));
    program_rules_deinit(&rules);
}

static void test_arguments(void **state)
{
    struct program_rules rules = {NULL, 0};
    struct program_rule *rule = add(&rules, "service", "/bin/service");
    add_call(rule, (const char *const[]){"status", "*", NULL}, false);
    add_call(rule, (const char *const[]){"list", NULL}, true);
    const struct {
        const char *arguments[4];
        bool is_allowed;
    } rows[] = {
        {{"status", "sshd"}, true},
        {{"status"}, false},
        {{"status", "a", "b"}, false},
        {{"list"}, true},
        {{"list", "-a", "b"}, true},
        {{"stop", "sshd"}, false},
        {{NULL}, false},
        {{"status", "--all"}, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct program_request request = {.path = "/bin/service", .arguments = rows[i].arguments};
        while (rows[i].arguments[request.argument_count])
            request.argument_count++;
        const char *expected =
            rows[i].is_allowed ? "service" : "[program service] does not allow these arguments";
        assert_int_equal(match(&rules, &request, expected), rows[i].is_allowed ? 0 : -EPERM);
    }
    program_rules_deinit(&rules);
}

static void test_environment(void **state)
{
    struct program_rules rules = {NULL, 0};
    struct program_rule *rule = add(&rules, "tool", "/bin/tool");
    assert_int_equal(text_list_append(&rule->environment, "LANG", 4), 0);
    const struct {
        const char *member;
        bool is_allowed;
    } rows[] = {
        {"LANG=C", true},  {"LANG=", true},    {"LANG", true}, {"LANGU=C", false},
        {"LAN=C", false},  {"=LANG=C", false}, {"", false},    {"LD_PRELOAD=/x", false},
        {"lang=C", false}, {" LANG=C", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct program_request request = {
            .path = "/bin/tool", .environment = &rows[i].member, .environment_count = 1};
        assert_int_equal(match(&rules, &request, rows[i].is_allowed ? "tool" : "in 'env'"),
                         rows[i].is_allowed ? 0 : -EPERM);
    }
    program_rules_deinit(&rules);
}

static void test_user_and_directory(void **state)
{
    struct program_rules rules = {NULL, 0};
    struct program_rule *rule = add(&rules, "tool", "/bin/tool");
    struct program_request request = {.path = "/bin/tool", .user = "joe"};
    assert_int_equal(match(&rules, &request, "does not allow the user 'joe'"), -EPERM);
    rule->user = strdup("joe");
    assert_int_equal(match(&rules, &request, "tool"), 0);
    request.user = "root";
    assert_int_equal(match(&rules, &request, "does not allow the user 'root'"), -EPERM);
    rule->user_is_free = true;
    assert_int_equal(match(&rules, &request, "tool"), 0);
    request.cwd = "/srv";
    assert_int_equal(match(&rules, &request, "does not allow the working directory"), -EPERM);
    rule->cwd_is_free = true;
    assert_int_equal(match(&rules, &request, "tool"), 0);
    program_rules_deinit(&rules);
}

static void test_the_first_rule_that_fits_counts(void **state)
{
    struct program_rules rules = {NULL, 0};
    add_call(add(&rules, "one", "/bin/tool"), (const char *const[]){"a", NULL}, false);
    add_call(add(&rules, "two", "/bin/tool"), (const char *const[]){"b", NULL}, false);
    add(&rules, "three", "/bin/tool");
    const char *arguments[] = {"b"};
    struct program_request request = {
        .path = "/bin/tool", .arguments = arguments, .argument_count = 1};
    assert_int_equal(match(&rules, &request, "two"), 0);
    arguments[0] = "c";
    assert_int_equal(match(&rules, &request, "three"), 0);
    program_rules_deinit(&rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_hostile_patterns_end),
        cmocka_unit_test(test_without_rules),
        cmocka_unit_test(test_one_rule_refuses_the_rest),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_user_and_directory),
        cmocka_unit_test(test_the_first_rule_that_fits_counts),
    };
    return cmocka_run_group_tests_name("program-rule", tests, NULL, NULL);
}
