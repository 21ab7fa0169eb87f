/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/buffer.h"
#include "base/key-file.h"
#include "config.h"
#include "security/policy-key.h"
#include "security/policy.h"

/* Enters the text's entries as config.c does. */
static void parse(struct policy *policy, const char *text)
{
    struct key_file *file = NULL;
    char *reason = NULL;
    assert_int_equal(key_file_parse("test", text, strlen(text), &file, &reason), 0);
    for (size_t i = 0; i < key_file_count(file); i++) {
        const struct key_file_entry *entry = key_file_at(file, i);
        struct policy_place place = {"test", entry->line};
        _cleanup_free_ char *value = NULL;
        if (entry->key)
            assert_int_equal(key_file_decode(entry->value, &value), 0);
        int error = policy_set(policy, &place, entry->group, entry->key, value, &reason);
        if (error)
            fail_msg("line %u: %s", entry->line, reason);
    }
    key_file_free(file);
}

static void check_resolved(struct policy *policy)
{
    char *reason = NULL;
    int error = policy_resolve(policy, &reason);
    if (error)
        fail_msg("%s", reason);
}

static void check_refused(const char *text, const char *expected)
{
    char *reason = NULL;
    char whole[400];
    snprintf(whole, sizeof(whole), "test:%s", expected);
    assert_int_equal(config_check_policy("test", text, strlen(text), &reason), -EINVAL);
    assert_non_null(reason);
    if (strncmp(reason, whole, strlen(whole)) != 0)
        fail_msg("'%s' does not begin with '%s'", reason, whole);
    free(reason);
}

static void check_not_resolved(const char *text, const char *expected)
{
    struct policy policy = {0};
    char *reason = NULL;
    parse(&policy, text);
    assert_int_equal(policy_resolve(&policy, &reason), -EINVAL);
    assert_non_null(reason);
    if (!strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    free(reason);
    policy_deinit(&policy);
}

static const char whole_program[] = "[program tool]\n"
                                    "path = /bin/true\n"
                                    "profiles = provision, full\n"
                                    "arguments = status \"two words\" /srv/**\n"
                                    "arguments = list ...\n"
                                    "arguments =\n"
                                    "environment = LANG TZ\n"
                                    "user = root\n"
                                    "groups = 7 root\n"
                                    "cwd = /\n"
                                    "timeout = 30\n"
                                    "output-bytes = 64K\n"
                                    "at-once = 2\n"
                                    "capabilities = CAP_SYS_ADMIN net_admin\n"
                                    "new-privileges = true\n"
                                    "read-paths = /usr /no/such/folder\n"
                                    "write-paths = /tmp\n"
                                    "system-calls = @basic !mount\n"
                                    "limit-nofile = 64\n"
                                    "limit-as = 1G\n";

static void test_a_whole_program(void **state)
{
    struct policy policy = {0};
    parse(&policy, whole_program);
    check_resolved(&policy);
    const struct program_rule *rule = program_rules_find(&policy.programs, "tool");
    assert_non_null(rule);
    assert_int_equal(rule->line, 1);
    _cleanup_free_ char *true_path = realpath("/bin/true", NULL);
    assert_string_equal(rule->path, true_path);
    assert_int_equal(rule->profiles, PROFILE_BIT(PROFILE_FULL) | PROFILE_BIT(PROFILE_PROVISION));
    assert_int_equal(rule->call_count, 3);
    assert_int_equal(rule->calls[0].patterns.count, 3);
    assert_string_equal(rule->calls[0].patterns.items[1], "two words");
    assert_int_equal(rule->calls[1].patterns.count, 1);
    assert_true(rule->calls[1].allows_more);
    assert_int_equal(rule->calls[2].patterns.count, 0);
    assert_false(rule->calls[2].allows_more);
    assert_int_equal(rule->environment.count, 2);
    assert_true(rule->has_user);
    assert_int_equal(rule->uid, 0);
    assert_string_equal(rule->home, "/root");
    assert_int_equal(rule->group_count, 2);
    assert_int_equal(rule->groups[0], 7);
    assert_int_equal(rule->timeout_s, 30);
    assert_int_equal(rule->output_bytes, 65536);
    assert_int_equal(rule->at_once, 2);
    assert_int_equal(rule->capabilities, UINT64_C(1) << CAP_SYS_ADMIN | UINT64_C(1)
                                                                            << CAP_NET_ADMIN);
    assert_true(rule->may_gain_privileges);
    assert_true(rule->has_scope);
    assert_int_equal(rule->read_paths.count, 2);
    assert_int_equal(rule->system_calls.count, 2);
    assert_int_equal(rule->limit_count, 2);
    assert_int_equal(rule->limits[0].resource, RLIMIT_NOFILE);
    assert_int_equal(rule->limits[1].value, 1 << 30);
    policy_deinit(&policy);
}

static void test_a_rule_that_says_little_allows_little(void **state)
{
    struct policy policy = {0};
    parse(&policy, "[program x]\npath=/bin/true\n");
    check_resolved(&policy);
    const struct program_rule *rule = &policy.programs.rules[0];
    assert_int_equal(rule->capabilities, 0);
    assert_false(rule->may_gain_privileges);
    assert_false(rule->user_is_free || rule->cwd_is_free || rule->has_user || rule->has_scope);
    assert_int_equal(rule->environment.count, 0);
    assert_int_equal(rule->call_count, 0);
    policy_deinit(&policy);
}

static void test_file_paths_are_true_ones(void **state)
{
    struct policy policy = {0};
    parse(&policy, "[files a]\npath=/dev/fd/none//such/./x/\naccess=read\n"
                   "[files b]\npath=/\naccess=none\n[files c]\npath=//usr//./\naccess=read write "
                   "create\nspecial=true\nhard-links=1\nprofiles=full\n");
    check_resolved(&policy);
    const struct file_rule *rules = policy.files.rules;
    if (!strstr(rules[0].path, "/proc/") || !strstr(rules[0].path, "/fd/none/such/x"))
        fail_msg("%s", rules[0].path);
    assert_string_equal(rules[1].path, "/");
    assert_int_equal(rules[1].access, 0);
    assert_string_equal(rules[2].path, "/usr");
    assert_int_equal(rules[2].access,
                     FILE_READ | FILE_WRITE | FILE_CREATE | FILE_SPECIAL | FILE_LINKED);
    policy_deinit(&policy);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"[policy]\nprofile=root\n", "2: there is no profile 'root'"},
        {"[policy]\nprofile=full\nprofile=backup\n", "3: 'profile' comes twice in this group"},
        {"[policy]\nstrict=maybe\n", "2: 'maybe' does not fit 'strict'"},
        {"[policy]\naudit=file\n", "2: 'file' does not fit 'audit'"},
        {"[policy]\nlevel=1\n", "2: there is no key 'level' in [policy]: expected one of profile, "
                                "strict, user, audit"},
        {"[policies]\n", "1: there is no group [policies] in a policy's file"},
        {"[files]\n", "1: there is no group [files] in a policy's file"},
        {"[program]\n", "1: '' is no name for a rule"},
        {"[program a b]\n", "1: 'a b' is no name for a rule"},
        {"[files ../x]\n", "1: '../x' is no name for a rule"},
        {"[files x]\npath=/a/../b\n", "2: '/a/../b': a path in a rule cannot have '..'"},
        {"[files x]\npath=\n", "2: '' is no absolute path"},
        {"[files x]\naccess=all\n", "2: 'all' does not fit 'access'"},
        {"[files x]\naccess=none, read\n", "2: 'none, read' does not fit 'access'"},
        {"[files x]\naccess=create\n", "2: 'create' does not fit 'access'"},
        {"[files x]\naccess=\n", "2: '' does not fit 'access'"},
        {"[files x]\nspecial=yes\n", "2: 'yes' does not fit 'special'"},
        {"[files x]\nmode=r\n", "2: there is no key 'mode' in [files NAME]"},
        {"[files x]\nprofiles=\n", "2: '' names no profile"},
        {"[files x]\nprofiles=full,all\n", "2: there is no profile 'all'"},
        {"[files x]\n[files x]\n", "2: there is a [files x] already, in test:1"},
        {"[program x]\n[policy]\n[program x]\n", "3: there is a [program x] already, in test:1"},
        {"[program x]\npath=true\n", "2: 'true' is no absolute path"},
        {"[program x]\narguments=\"a\n", "2: a '\"' has no other one"},
        {"[program x]\nenvironment=LANG=C\n", "2: 'LANG=C' is no name of a member"},
        {"[program x]\nenvironment=LD_*\n", "2: 'LD_*' is no name of a member"},
        {"[program x]\nuser=\n", "2: expected a user's name"},
        {"[program x]\ncwd=here\n", "2: 'here' is no absolute path"},
        {"[program x]\ntimeout=1m\n", "2: '1m' does not fit 'timeout': expected a number"},
        {"[program x]\ntimeout=-1\n", "2: '-1' does not fit 'timeout'"},
        {"[program x]\ntimeout=99999999999999999999\n", "2: '99999999999999999999' does not fit"},
        {"[program x]\noutput-bytes=1T\n", "2: '1T' does not fit 'output-bytes'"},
        {"[program x]\ncapabilities=root\n", "2: there is no capability 'root'"},
        {"[program x]\ncapabilities=all kill\n", "2: there is no capability 'all'"},
        {"[program x]\ncapabilities=\n", "2: expected names of capabilities(7)"},
        {"[program x]\nread-paths=/usr lib\n", "2: 'lib' is no absolute path"},
        {"[program x]\nsystem-calls=\n", "2: '' does not fit 'system-calls'"},
        {"[program x]\nsystem-calls=read; write\n", "2: 'read; write' does not fit"},
        {"[program x]\nlimit-files=1\n", "2: there is no limit 'limit-files'"},
        {"[program x]\nlimit-nofile=many\n", "2: 'many' does not fit 'limit-nofile'"},
        {"[program x]\nlimit-cpu=1\nlimit-cpu=2\n", "3: 'limit-cpu' comes twice"},
        {"[program x]\npath=/bin/true\npath=/bin/false\n", "3: 'path' comes twice"},
        {"[channel x]\nprofile=\n", "2: there is no profile ''"},
        {"[channel x]\npeer-uid=\n", "2: expected names or numbers of users"},
        {"[channel x]\npeer-uid=no such user\n", "2: there is no user 'no'"},
        {"[policy]\naudit=\\x\n", "2: the value of 'audit' has a '\\'"},
        {"profile=full\n", "1: 'profile' stands before the first [GROUP]"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check_refused(rows[i].text, rows[i].expected);
}

static void test_what_cannot_be_looked_up(void **state)
{
    check_not_resolved("[program x]\n", "test:1: [program x]: needs a path");
    check_not_resolved("[program x]\npath=/usr\n", "is no program");
    check_not_resolved("[program x]\npath=/etc/passwd\n", "is no program");
    check_not_resolved("[program x]\npath=/bin/true\nuser=no-such-user\n",
                       "there is no user 'no-such-user'");
    check_not_resolved("[program x]\npath=/bin/true\nuser=4294967295\n", "there is no user");
    check_not_resolved("[program x]\npath=/bin/true\nuser=root\ngroups=no-such-group\n",
                       "there is no group 'no-such-group'");
    check_not_resolved("[program x]\npath=/bin/true\ngroups=root\n", "groups need a user");
    check_not_resolved("[program x]\npath=/bin/true\nprofiles=monitor\n",
                       "the profile monitor has no guest-exec");
    check_not_resolved("[program x]\npath=/bin/true\nnew-privileges=true\nsystem-calls=@basic\n",
                       "test:1: [program x]: 'system-calls' and 'new-privileges = true' do not go "
                       "together unless 'capabilities' has sys_admin");
    check_not_resolved("[files x]\naccess=read\n", "[files x]: needs a path");
    check_not_resolved("[files x]\npath=/\naccess=read\nprofiles=monitor\n",
                       "the profile monitor has no guest-file-open");
    check_not_resolved("[files x]\npath=/usr\naccess=read\n[files y]\npath=/usr/\naccess=none\n",
                       "test:4: [files y]: [files x] has the same path");
}

static void test_policy(void **state)
{
    struct policy policy = {0};
    parse(&policy, "[policy]\nprofile=monitor\nstrict=true\naudit=/var/log/audit\n");
    assert_int_equal(policy.profile, PROFILE_MONITOR);
    assert_true(policy.is_strict);
    assert_string_equal(policy.audit, "/var/log/audit");
    parse(&policy, "[policy]\naudit=none\n");
    assert_null(policy.audit);
    policy_deinit(&policy);
}

static void test_it_is_described(void **state)
{
    static const char *const parts[] = {
        "profile: full\naudit: none\n",
        "[program tool] (test:1): ",
        "    for the profiles full, provision\n",
        "    arguments: \"status\" \"two words\" \"/srv/**\"\n",
        "    arguments: \"list\" and any after it\n    arguments: none\n",
        "    environment: LANG TZ\n    as root (user 0, group 0)\n    with the groups 7, 0\n",
        "    for at most 30 s\n    output: at most 65536 bytes\n    at once: at most 2\n",
        "    capabilities: net_admin sys_admin; may gain privileges\n",
        "    may write: /tmp\n    system calls: @basic !mount\n    limit of nofile: 64\n",
        "[files f] (test:21): /usr\n    for the profiles full\n    read, write\n",
    };
    struct policy policy = {0};
    struct buffer text = BUFFER_INIT;
    buffer_append_text(&text, whole_program);
    buffer_append_text(&text, "[files f]\npath=/usr\naccess=read,write\n");
    parse(&policy, text.data);
    check_resolved(&policy);
    buffer_truncate(&text, 0);
    policy_describe(&policy, &text);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (!strstr(text.data, parts[i]))
            fail_msg("'%s' is not in:\n%s", parts[i], text.data);
    buffer_deinit(&text);
    policy_deinit(&policy);
}

/* A rule that names a profile has it open files; one that names none is for those that do. */
static void test_file_rules_name_profiles(void **state)
{
    struct policy policy = {0};
    struct buffer text = BUFFER_INIT;
    parse(&policy, "[files a]\npath=/usr\naccess=read\n");
    check_resolved(&policy);
    assert_int_equal(file_rules_profiles(&policy.files), 0);
    assert_int_equal(policy.files.rules[0].profiles, PROFILE_ALL);
    policy_deinit(&policy);
    policy = (struct policy){0};
    parse(&policy, "[files a]\npath=/usr\naccess=read\n[files "
                   "b]\npath=/etc\naccess=read\nprofiles=provision, full\n");
    check_resolved(&policy);
    assert_int_equal(file_rules_profiles(&policy.files),
                     PROFILE_BIT(PROFILE_FULL) | PROFILE_BIT(PROFILE_PROVISION));
    policy_describe(&policy, &text);
    assert_non_null(strstr(text.data, "/usr\n    for the profiles full, provision\n"));
    buffer_deinit(&text);
    policy_deinit(&policy);
}

/* The sample is understood, also when nothing of it is a comment any more, and has every key. */
static void test_sample(void **state)
{
    static char sample[16 * 1024];
    FILE *file = fopen(SOURCE_ROOT "/packaging/policy.d/example.conf", "re");
    assert_non_null(file);
    size_t length = fread(sample, 1, sizeof(sample) - 1, file);
    fclose(file);
    sample[length] = '\0';
    char *reason = NULL;
    if (config_check_policy("example.conf", sample, length, &reason))
        fail_msg("%s", reason);

    const struct policy_keys *const groups[] = {&policy_program_keys, &policy_file_keys};
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
        for (size_t j = 0; j < groups[i]->count; j++) {
            char line[64];
            snprintf(line, sizeof(line), "\n#%s =", groups[i]->keys[j].name);
            if (!strstr(sample, line))
                fail_msg("packaging/policy.d/example.conf has no '%s'", line + 1);
        }
    for (char *at = sample; (at = strstr(at, "\n#")); at += 2)
        if (at[2] != ' ' && at[2] != '\n')
            at[1] = ' ';
    /* Who is monitoring is up to the operator. */
    char *peers = strstr(sample, " peer-uid");
    assert_non_null(peers);
    peers[0] = '#';
    peers = strstr(sample, " peer-gid");
    peers[0] = '#';
    if (config_check_policy("example.conf", sample, length, &reason))
        fail_msg("%s", reason);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_program),
        cmocka_unit_test(test_a_rule_that_says_little_allows_little),
        cmocka_unit_test(test_file_paths_are_true_ones),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_cannot_be_looked_up),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_it_is_described),
        cmocka_unit_test(test_file_rules_name_profiles),
        cmocka_unit_test(test_sample),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
