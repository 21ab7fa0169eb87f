/* SPDX-License-Identifier: MIT */
/*
 * The rules for programs, where a child has to pass them: which file it is, however it is named,
 * and what the program has left of what the broker has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs/child.h"
#include "security/capabilities.h"
#include "security/landlock.h"
#include "security/profile.h"
#include "security/program-rule.h"
#include "security/syscall-filter.h"

#define LIMIT_MS 30000

static struct child_origin origin;
static char directory[PATH_MAX];
static struct program_rules rules;
static struct syscall_filter **filters;

/* --- rules --- */

static struct program_rule *add_rule(const char *name, const char *path)
{
    struct program_rule *rule = program_rules_append(&rules);
    char true_path[PATH_MAX];
    assert_non_null(rule);
    assert_non_null(realpath(path, true_path));
    rule->name = strdup(name);
    rule->path = strdup(true_path);
    rule->profiles = PROFILE_ALL;
    return rule;
}

static struct program_rule *shell_rule(void)
{
    return add_rule("shell", "/bin/sh");
}

static void add_text(struct text_list *list, const char *text)
{
    assert_int_equal(text_list_append(list, text, strlen(text)), 0);
}

/* --- one start --- */

struct run {
    enum child_outcome outcome;
    enum broker_stage stage;
    int error;
    unsigned matched;
    size_t rule;
    char reason[CHILD_REASON_MAX];
    int status;
    char output[16384];
};

static bool answer = true; /* to a child that asks whether one more may run */

static void wait_readable(int fd)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, LIMIT_MS), 1);
}

static void read_to_end(int fd, struct run *run)
{
    size_t length = 0;
    for (;;) {
        wait_readable(fd);
        ssize_t got = read(fd, run->output + length, sizeof(run->output) - 1 - length);
        assert_true(got >= 0);
        if (got == 0)
            break;
        length += (size_t)got;
    }
    run->output[length] = '\0';
}

static void read_notes(const struct child *child, struct run *run)
{
    struct child_note note;
    for (;;) {
        wait_readable(child->note_fd);
        child_read_note(child->note_fd, &note);
        if (note.outcome != CHILD_MATCHED)
            break;
        run->matched++;
        run->rule = note.rule;
        if (note.awaits_answer)
            child_answer(child->note_fd, answer);
    }
    run->outcome = note.outcome;
    if (note.outcome != CHILD_FAILED)
        return;
    run->stage = note.stage;
    run->error = note.error;
    memcpy(run->reason, note.reason, sizeof(run->reason));
}

static struct run run_child(struct child_spec spec)
{
    struct run run = {0};
    struct child child = CHILD_INIT;
    int ends[2];
    if (!filters)
        filters = child_gate_make_filters(&rules);
    const struct child_gate gate = {.rules = &rules, .filters = filters};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    spec.fds[0] = null_fd;
    spec.fds[1] = spec.fds[2] = ends[1];
    spec.origin = &origin;
    spec.gate = &gate;
    assert_int_equal(child_fork(&spec, &child), 0);
    close(ends[1]);
    close(null_fd);
    read_notes(&child, &run);
    read_to_end(ends[0], &run);
    wait_readable(child.pidfd);
    assert_int_equal(waitpid(child.pid, &run.status, WNOHANG), child.pid);
    close(ends[0]);
    close(child.note_fd);
    close(child.pidfd);
    return run;
}

static struct run run_words(char *const words[])
{
    return run_child((struct child_spec){.program = words[0], .arguments = words});
}

static struct run run_program(const char *path)
{
    char *words[] = {(char *)path, NULL};
    return run_words(words);
}

static struct run run_script(const char *script)
{
    char *words[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    return run_words(words);
}

static const char *in_directory(const char *name)
{
    static char paths[8][PATH_MAX + 64];
    static size_t next;
    char *path = paths[next++ % ARRAY_SIZE(paths)];
    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

static const char *write_file(const char *name, const char *content, mode_t mode)
{
    const char *path = in_directory(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

/* A program that can be told from others: a copy of one that prints its arguments. */
static const char *copy_program(const char *from, const char *name)
{
    char command[3 * PATH_MAX];
    const char *path = in_directory(name);
    snprintf(command, sizeof(command), "cp -L %s %s", from, path);
    assert_int_equal(system(command), 0);
    return path;
}

static void expect_ran(const struct run *run, const char *output)
{
    if (run->outcome != CHILD_RUNS)
        fail_msg("it was refused: %s (%d)", run->reason, run->error);
    assert_string_equal(run->output, output);
}

static void expect_refused(const struct run *run, const char *reason)
{
    assert_int_equal(run->outcome, CHILD_FAILED);
    assert_int_equal(run->stage, BROKER_STAGE_POLICY);
    if (!strstr(run->reason, reason))
        fail_msg("'%s' is not about '%s'", run->reason, reason);
    assert_string_equal(run->output, "");
}

/* --- which file --- */

static void test_only_what_a_rule_names_is_run(void **state)
{
    add_rule("true", "/bin/true");
    add_rule("echo", "/bin/echo");
    char *words[] = {(char *)"/bin/echo", (char *)"one", NULL};
    struct run run = run_words(words);
    expect_ran(&run, "one\n");
    assert_int_equal(run.matched, 1);
    assert_int_equal(run.rule, 1);
    run = run_program("/bin/cat");
    expect_refused(&run, "no [program] rule of the profile full allows '/");
    assert_int_equal(run.error, EPERM);
    /* What is not there is no other case. */
    run = run_program("/root/no/such/program");
    expect_refused(&run, "no [program] rule of the profile full allows '/root/no/such/program'");
    run = run_program("");
    expect_refused(&run, "no [program] rule");
}

static void test_every_name_of_the_file_is_the_file(void **state)
{
    const char *program = copy_program("/bin/echo", "program");
    char command[6 * PATH_MAX];
    add_rule("program", program);
    snprintf(command, sizeof(command),
             "cd %s && mkdir -p folder && ln -sf program link && "
             "ln -sf ../link folder/second && ln -sf folder other",
             directory);
    assert_int_equal(system(command), 0);
    static const char *const names[] = {"program",           "link",
                                        "folder/second",     "other/second",
                                        "folder/../program", "./folder/.././/program"};
    char slashes[2 * PATH_MAX], by_root[2 * PATH_MAX];
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct run run = run_program(in_directory(names[i]));
        expect_ran(&run, "\n");
    }
    snprintf(slashes, sizeof(slashes), "//%s", program);
    struct run run = run_program(slashes);
    expect_ran(&run, "\n");
    snprintf(by_root, sizeof(by_root), "/proc/self/root%s", program);
    run = run_program(by_root);
    expect_ran(&run, "\n");
}

static void test_no_other_file_is(void **state)
{
    const char *program = copy_program("/bin/echo", "program");
    const char *other = copy_program("/bin/echo", "other-program");
    add_rule("program", program);
    struct run run = run_program(other);
    expect_refused(&run, "no [program] rule");
    /* Another name of the same file is not the one that the rule has. */
    assert_int_equal(link(program, in_directory("hard-link")), 0);
    run = run_program(in_directory("hard-link"));
    expect_refused(&run, "hard-link'");
    /* A link that the rule's name leads over now: it does not lead to the rule's file. */
    assert_int_equal(unlink(in_directory("hard-link")), 0);
    assert_int_equal(unlink(program), 0);
    assert_int_equal(symlink("other-program", program), 0);
    run = run_program(program);
    expect_refused(&run, "other-program'");
    /* No program at all. */
    assert_int_equal(unlink(program), 0);
    run = run_program(program);
    expect_refused(&run, "No such file");
    assert_int_equal(mkdir(program, 0755), 0);
    run = run_program(program);
    expect_refused(&run, "Permission denied");
    assert_int_equal(rmdir(program), 0);
    assert_int_equal(mkfifo(program, 0755), 0);
    run = run_program(program);
    expect_refused(&run, "Permission denied");
}

static void test_a_link_that_is_exchanged_gains_nothing(void **state)
{
    const char *good = copy_program("/bin/echo", "good");
    const char *bad = write_file("bad", "#!/bin/sh\necho bad\n", 0755);
    add_rule("good", good);
    const char *link_path = in_directory("exchanged"), *next = in_directory("next");
    pid_t swapper = fork();
    if (swapper == 0) {
        for (;;) {
            (void)!symlink(good, next);
            (void)!rename(next, link_path);
            (void)!symlink(bad, next);
            (void)!rename(next, link_path);
        }
    }
    unsigned ran = 0, refused = 0;
    for (unsigned i = 0; i < 3000 && (i < 300 || !ran || !refused); i++) {
        struct run run = run_program(link_path);
        if (run.outcome == CHILD_RUNS) {
            ran++;
            assert_string_equal(run.output, "\n");
        } else {
            refused++;
            assert_int_equal(run.stage, BROKER_STAGE_POLICY);
            assert_string_equal(run.output, "");
        }
    }
    kill(swapper, SIGKILL);
    waitpid(swapper, NULL, 0);
    assert_true(ran && refused);
}

static void test_a_program_is_called_by_its_own_name(void **state)
{
    /* (A program that is many looks at it.) */
    shell_rule();
    char shell[PATH_MAX], expected[PATH_MAX + 2];
    assert_non_null(realpath("/bin/sh", shell));
    assert_int_equal(symlink("/bin/sh", in_directory("called-otherwise")), 0);
    char *words[] = {(char *)in_directory("called-otherwise"), (char *)"-c", (char *)"echo $0",
                     NULL};
    struct run run = run_words(words);
    snprintf(expected, sizeof(expected), "%s\n", shell);
    expect_ran(&run, expected);
}

static void test_scripts(void **state)
{
    const char *script = write_file("script", "#!/bin/sh\necho $# $1; ls /proc/self/fd\n", 0755);
    add_rule("script", script);
    char *words[] = {(char *)script, (char *)"word", NULL};
    struct run run = run_words(words);
    assert_int_equal(run.outcome, CHILD_RUNS);
    assert_string_equal(run.output, "1 word\n0\n1\n2\n3\n"); /* 3 is that of ls itself */
    /* Without a "#!" it would be the shell that runs, for which there is no rule. */
    const char *bare = write_file("bare", "echo ran\n", 0755);
    add_rule("bare", bare);
    run = run_program(bare);
    assert_int_equal(run.outcome, CHILD_FAILED);
    assert_int_equal(run.stage, BROKER_STAGE_EXEC);
    assert_int_equal(run.error, ENOEXEC);
}

static void test_a_name_is_looked_for_where_the_agent_would(void **state)
{
    const char *program = copy_program("/bin/echo", "by-name");
    struct program_rule *rule = add_rule("program", program);
    add_text(&rule->environment, "PATH");
    char *words[] = {(char *)"by-name", NULL};
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "PATH=%s", directory);
    char *environment[] = {path, NULL};
    /* Not where the client says. */
    struct run run = run_child((struct child_spec){.program = words[0],
                                                   .arguments = words,
                                                   .environment = environment,
                                                   .search_path = "/nowhere"});
    expect_refused(&run, "allows 'by-name'");
    run = run_child((struct child_spec){
        .program = words[0], .arguments = words, .search_path = path + strlen("PATH=")});
    expect_ran(&run, "\n");
    /* Nor in the working directory. */
    assert_int_equal(chdir(directory), 0);
    run = run_child((struct child_spec){
        .program = words[0], .arguments = words, .search_path = ":.:", .directory = NULL});
    assert_int_equal(chdir("/"), 0);
    expect_refused(&run, "allows 'by-name'");
}

/* --- what is asked for --- */

static void test_arguments_and_environment(void **state)
{
    struct program_rule *rule = add_rule("echo", "/bin/echo");
    rule->calls = calloc(1, sizeof(*rule->calls));
    rule->call_count = 1;
    add_text(&rule->calls[0].patterns, "a*");
    add_text(&rule->environment, "ALLOWED");
    char *words[] = {(char *)"/bin/echo", (char *)"abc", NULL, NULL};
    struct run run = run_words(words);
    expect_ran(&run, "abc\n");
    words[1] = (char *)"b";
    run = run_words(words);
    expect_refused(&run, "the rule [program echo] does not allow these arguments");
    words[1] = (char *)"abc";
    words[2] = (char *)"more";
    run = run_words(words);
    expect_refused(&run, "does not allow these arguments");
    words[1] = NULL;
    run = run_words(words);
    expect_refused(&run, "does not allow these arguments");

    words[1] = (char *)"abc";
    words[2] = NULL;
    static const char *const forbidden[] = {"LD_PRELOAD=/tmp/x.so", "PATH=/tmp", "ALLOWED",
                                            "ALLOWEDX=1",           "=",         "allowed=1",
                                            "BASH_ENV=/x"};
    for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
        char *environment[] = {(char *)"ALLOWED=1", (char *)forbidden[i], NULL};
        run = run_child((struct child_spec){
            .program = words[0], .arguments = words, .environment = environment});
        if (strcmp(forbidden[i], "ALLOWED") == 0)
            expect_ran(&run, "abc\n"); /* it is no other name */
        else
            expect_refused(&run, "in 'env'");
    }
    char *environment[] = {(char *)"ALLOWED=1", NULL};
    run = run_child(
        (struct child_spec){.program = words[0], .arguments = words, .environment = environment});
    expect_ran(&run, "abc\n");
    run = run_child(
        (struct child_spec){.program = words[0], .arguments = words, .directory = "/usr"});
    expect_refused(&run, "the working directory '/usr'");
    run = run_child((struct child_spec){.program = words[0], .arguments = words, .user = "root"});
    expect_refused(&run, "the user 'root'");
}

static void test_very_long_lists(void **state)
{
    struct program_rule *rule = add_rule("echo", "/bin/echo");
    add_text(&rule->environment, "A");
    enum { COUNT = 100000 };
    char **words = calloc(COUNT + 2, sizeof(*words));
    for (size_t i = 0; i < COUNT; i++)
        words[i] = (char *)"x";
    words[0] = (char *)"/bin/echo";
    words[COUNT - 1] = NULL;
    char **environment = calloc(COUNT + 2, sizeof(*environment));
    for (size_t i = 0; i < COUNT; i++)
        environment[i] = (char *)"A=1";
    environment[COUNT] = (char *)"LD_PRELOAD=x";
    char *few[] = {(char *)"/bin/echo", NULL};
    struct run run = run_child(
        (struct child_spec){.program = few[0], .arguments = few, .environment = environment});
    expect_refused(&run, "'LD_PRELOAD' in 'env'");
    rule->calls = calloc(1, sizeof(*rule->calls));
    rule->call_count = 1;
    run = run_child((struct child_spec){.program = words[0], .arguments = words});
    expect_refused(&run, "does not allow these arguments");
    free(words);
    free(environment);
}

static void test_how_many_at_once(void **state)
{
    struct program_rule *rule = add_rule("echo", "/bin/echo");
    rule->at_once = 3;
    struct run run = run_program("/bin/echo");
    expect_ran(&run, "\n");
    answer = false;
    run = run_program("/bin/echo");
    answer = true;
    expect_refused(&run, "3 programs are running, which the rule [program echo] allows at once");
    assert_int_equal(run.error, EBUSY);
}

/* --- what it has left --- */

#define STATUS "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status"

/* The line of /proc/PID/status, without its name. */
static const char *status_of(const struct run *run, const char *name)
{
    static char line[256];
    char key[32];
    assert_int_equal(run->outcome, CHILD_RUNS);
    snprintf(key, sizeof(key), "%s:\t", name);
    const char *at = strstr(run->output, key);
    assert_non_null(at);
    snprintf(line, sizeof(line), "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
    return line;
}

static uint64_t set_of(const struct run *run, const char *name)
{
    return strtoull(status_of(run, name), NULL, 16);
}

static bool is_root(void)
{
    return geteuid() == 0;
}

static void test_without_a_word_it_has_nothing(void **state)
{
    shell_rule();
    struct run run = run_script(STATUS "; pwd");
    static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        assert_int_equal(set_of(&run, sets[i]), 0);
    if (is_root())
        assert_int_equal(set_of(&run, "CapBnd"), 0);
    assert_string_equal(status_of(&run, "NoNewPrivs"), "1");
    assert_non_null(strstr(run.output, "\n/\n"));
}

static void test_it_keeps_what_its_rule_says(void **state)
{
    if (!is_root())
        skip();
    struct program_rule *rule = shell_rule();
    rule->capabilities = CAPABILITY_BIT(CAP_KILL) | CAPABILITY_BIT(CAP_CHOWN);
    rule->has_capabilities = true;
    struct run run = run_script(STATUS);
    assert_int_equal(set_of(&run, "CapPrm"), rule->capabilities);
    assert_int_equal(set_of(&run, "CapEff"), rule->capabilities);
    assert_int_equal(set_of(&run, "CapBnd"), rule->capabilities);
    assert_string_equal(status_of(&run, "NoNewPrivs"), "1");

    /* One that may gain some: but no others, if there is a word about them. */
    rule->may_gain_privileges = true;
    run = run_script(STATUS);
    assert_int_equal(set_of(&run, "CapEff"), rule->capabilities);
    assert_int_equal(set_of(&run, "CapBnd"), rule->capabilities);
    assert_string_equal(status_of(&run, "NoNewPrivs"), "0");
    struct capability_sets own;
    assert_int_equal(capabilities_read(&own), 0);
    rule->capabilities = 0;
    rule->has_capabilities = false;
    run = run_script(STATUS);
    assert_int_equal(set_of(&run, "CapBnd"), own.bounding);
}

static void test_a_capability_that_the_broker_lacks_is_no_rule(void **state)
{
    struct program_rule *rule = shell_rule();
    struct capability_sets own;
    assert_int_equal(capabilities_read(&own), 0);
    uint64_t lacking = capabilities_known() & ~own.permitted;
    if (!lacking)
        skip();
    rule->capabilities = lacking & -lacking;
    rule->has_capabilities = true;
    struct run run = run_script(STATUS);
    expect_refused(&run, "the rule [program shell] cannot be put in force: capabilities");
}

static void set_rules_user(struct program_rule *rule, const char *name)
{
    const struct passwd *account = getpwnam(name);
    assert_non_null(account);
    rule->user = strdup(name);
    rule->has_user = true;
    rule->uid = account->pw_uid;
    rule->gid = account->pw_gid;
    rule->home = strdup(account->pw_dir);
}

static void test_it_runs_as_its_rules_user(void **state)
{
    if (!is_root())
        skip();
    struct program_rule *rule = shell_rule();
    set_rules_user(rule, "nobody");
    char expected[64];
    struct run run = run_script(STATUS "; echo $USER $LOGNAME ${NOT_INHERITED-none}");
    snprintf(expected, sizeof(expected), "%u\t%u\t%u\t%u", rule->uid, rule->uid, rule->uid,
             rule->uid);
    assert_string_equal(status_of(&run, "Uid"), expected);
    assert_int_equal(set_of(&run, "CapPrm"), 0);
    assert_int_equal(set_of(&run, "CapBnd"), 0);
    assert_non_null(strstr(run.output, "\nnobody nobody none\n"));

    /* The same user may be asked for, no other. */
    char *words[] = {(char *)"/bin/sh", (char *)"-c", (char *)"id -un", NULL};
    run = run_child((struct child_spec){.program = words[0], .arguments = words, .user = "nobody"});
    expect_ran(&run, "nobody\n");
    run = run_child((struct child_spec){.program = words[0], .arguments = words, .user = "daemon"});
    expect_refused(&run, "the user 'daemon'");

    /* Groups of the rule in place of its own. */
    rule->groups = calloc(2, sizeof(*rule->groups));
    rule->groups[0] = 4242;
    rule->groups[1] = 4343;
    rule->group_count = 2;
    rule->has_groups = true;
    run = run_script(STATUS);
    assert_non_null(strstr(status_of(&run, "Groups"), "4242 4343"));

    /* With a capability that its user would not have. */
    rule->capabilities = CAPABILITY_BIT(CAP_KILL);
    rule->has_capabilities = true;
    run = run_script(STATUS);
    assert_string_equal(status_of(&run, "Uid"), expected);
    assert_int_equal(set_of(&run, "CapPrm"), rule->capabilities);
    assert_int_equal(set_of(&run, "CapEff"), rule->capabilities);
    assert_int_equal(set_of(&run, "CapBnd"), rule->capabilities);

    /* The account became another meanwhile. */
    rule->uid++;
    run = run_script(STATUS);
    expect_refused(&run, "the user 'nobody' of the rule [program shell]");
}

static void test_a_user_that_the_client_chooses(void **state)
{
    if (!is_root())
        skip();
    struct program_rule *rule = shell_rule();
    rule->user_is_free = true;
    char *words[] = {(char *)"/bin/sh", (char *)"-c", (char *)"id -un", NULL};
    struct run run =
        run_child((struct child_spec){.program = words[0], .arguments = words, .user = "daemon"});
    expect_ran(&run, "daemon\n");
    run = run_child(
        (struct child_spec){.program = words[0], .arguments = words, .user = "no-such-user"});
    expect_refused(&run, "the user 'no-such-user'");
    run = run_words(words);
    expect_ran(&run, "root\n");
}

static void test_directory_and_limits(void **state)
{
    struct program_rule *rule = shell_rule();
    rule->cwd = strdup("/usr");
    rule->limits = calloc(2, sizeof(*rule->limits));
    rule->limits[0] = (struct program_limit){RLIMIT_NOFILE, 55};
    rule->limits[1] = (struct program_limit){RLIMIT_CORE, 0};
    rule->limit_count = 2;
    struct run run = run_script("pwd; ulimit -S -n; ulimit -H -n; ulimit -H -c");
    expect_ran(&run, "/usr\n55\n55\n0\n");
    free(rule->cwd);
    rule->cwd = strdup("/no/where");
    run = run_script("pwd");
    expect_refused(&run, "cannot be put in force: /no/where");
    rule->cwd_is_free = true;
    char *words[] = {(char *)"/bin/sh", (char *)"-c", (char *)"pwd", NULL};
    run = run_child(
        (struct child_spec){.program = words[0], .arguments = words, .directory = "/etc"});
    expect_ran(&run, "/etc\n");
}

static void test_files_outside_its_scope(void **state)
{
    static const char *const system_paths[] = {"/bin", "/usr", "/lib", "/lib64"};
    if (landlock_abi() == 0)
        skip();
    struct program_rule *rule = shell_rule();
    for (size_t i = 0; i < ARRAY_SIZE(system_paths); i++)
        add_text(&rule->execute_paths, system_paths[i]);
    const char *inside = write_file("inside", "inside\n", 0644);
    add_text(&rule->read_paths, inside);
    rule->has_scope = true;
    char script[3 * PATH_MAX];
    const char *outside = write_file("outside", "outside\n", 0644);
    snprintf(script, sizeof(script),
             "cat %s; cat %s 2>&1 | grep -c denied; echo x 2>&1 >%s/new | "
             "grep -c denied",
             inside, outside, directory);
    struct run run = run_script(script);
    expect_ran(&run, "inside\n1\n1\n");
    assert_int_equal(access(in_directory("new"), F_OK), -1);
}

static void test_system_calls_that_it_has_not(void **state)
{
    if (!syscall_filter_is_available())
        skip();
    struct program_rule *rule = shell_rule();
    add_text(&rule->system_calls, "!mkdir");
    add_text(&rule->system_calls, "!mkdirat");
    char script[2 * PATH_MAX];
    snprintf(script, sizeof(script), "mkdir %s/made 2>/dev/null || echo refused; " STATUS,
             directory);
    struct run run = run_script(script);
    assert_string_equal(status_of(&run, "Seccomp"), "2");
    assert_int_equal(strncmp(run.output, "refused\n", 8), 0);
}

static void test_a_filter_that_cannot_be_made_is_no_rule(void **state)
{
    struct program_rule *rule = shell_rule();
    add_text(&rule->system_calls, "no_such_system_call");
    struct run run = run_script("echo ran");
    expect_refused(&run, "the rule [program shell] cannot be put in force: seccomp");
}

/* --- --- */

static int setup(void **state)
{
    char made[] = "/tmp/test-child-gate-XXXXXX";
    child_origin_read(&origin);
    origin.umask = 022;
    setenv("NOT_INHERITED", "1", 1);
    if (!mkdtemp(made) || !realpath(made, directory))
        return -1;
    return chmod(directory, 0755);
}

static int teardown(void **state)
{
    char command[PATH_MAX + 16];
    for (size_t i = 0; filters && i < rules.count; i++)
        syscall_filter_free(filters[i]);
    free(filters);
    filters = NULL;
    program_rules_deinit(&rules);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_only_what_a_rule_names_is_run),
        TEST(test_every_name_of_the_file_is_the_file),
        TEST(test_no_other_file_is),
        TEST(test_a_link_that_is_exchanged_gains_nothing),
        TEST(test_a_program_is_called_by_its_own_name),
        TEST(test_scripts),
        TEST(test_a_name_is_looked_for_where_the_agent_would),
        TEST(test_arguments_and_environment),
        TEST(test_very_long_lists),
        TEST(test_how_many_at_once),
        TEST(test_without_a_word_it_has_nothing),
        TEST(test_it_keeps_what_its_rule_says),
        TEST(test_a_capability_that_the_broker_lacks_is_no_rule),
        TEST(test_it_runs_as_its_rules_user),
        TEST(test_a_user_that_the_client_chooses),
        TEST(test_directory_and_limits),
        TEST(test_files_outside_its_scope),
        TEST(test_system_calls_that_it_has_not),
        TEST(test_a_filter_that_cannot_be_made_is_no_rule),
    };
    /* Where capabilities cannot be taken away no rule can be put in force, and nothing is run. */
    struct capability_sets sets;
    if (capabilities_read(&sets) == -EOPNOTSUPP) {
        puts("1..0 # SKIP a build without libcap runs no program by a rule");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
