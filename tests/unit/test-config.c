/* SPDX-License-Identifier: MIT */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "options.h"
#include "passed-sockets.h"

/* Every test has a folder of its own with both files in it, which the environment names. */
static char folder[64];
static char bellhop_path[128];
static char classic_path[128];
static char policy_path[128];

static const char *const commands[] = {"guest-ping", "guest-sync", "guest-exec", NULL};

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-config-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(bellhop_path, sizeof(bellhop_path), "%s/bellhop.conf", folder);
    snprintf(classic_path, sizeof(classic_path), "%s/qga.conf", folder);
    setenv("BELLHOP_CONF", bellhop_path, 1);
    setenv("QGA_CONF", classic_path, 1);
    snprintf(policy_path, sizeof(policy_path), "%s/policy.d", folder);
    setenv("BELLHOP_POLICY", policy_path, 1);
    umask(022); /* a policy that others can write is refused */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(bellhop_path);
    unlink(classic_path);
    for (char name = 'a'; name <= 'c'; name++) {
        char path[200];
        snprintf(path, sizeof(path), "%s/%c.conf", policy_path, name);
        unlink(path);
    }
    rmdir(policy_path);
    return rmdir(folder);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static const struct passed_sockets *passed; /* for the next configuration that is loaded */

#define ARGS(...) ((const char *const[]){"bellhopd", ##__VA_ARGS__, NULL})

static int load(const char *const *arguments, struct config **ret_config, char **ret_reason)
{
    struct options options;
    char *argv[20] = {NULL};
    int argc = 0;

    for (; arguments[argc]; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc];
    assert_int_equal(options_parse(argc, argv, &options, ret_reason), 0);
    options.sockets = passed;
    int error = config_load(&options, commands, ret_config, ret_reason);
    options_deinit(&options);
    return error;
}

static struct config *loaded(const char *const *arguments)
{
    struct config *config = NULL;
    char *reason = NULL;
    int error = load(arguments, &config, &reason);

    if (reason)
        print_error("%s\n", reason);
    assert_int_equal(error, 0);
    assert_null(reason);
    return config;
}

static void check_dump(const char *const *arguments, const char *expected)
{
    struct config *config = loaded(arguments);
    struct buffer out = BUFFER_INIT;

    config_dump(config, &out);
    assert_string_equal(out.data, expected);
    buffer_deinit(&out);
    config_free(config);
}

/* `place` is the file at fault, or NULL; `expected` follows its name. */
static void check_refused(const char *const *arguments, const char *place, const char *expected)
{
    struct config *config = (struct config *)&folder;
    char *reason = NULL;
    char whole[600];

    snprintf(whole, sizeof(whole), "%s%s", place ? place : "", expected);
    assert_int_equal(load(arguments, &config, &reason), -EINVAL);
    assert_non_null(reason);
    assert_string_equal(reason, whole);
    assert_ptr_equal(config, &folder);
    free(reason);
}

static void check_warnings(const struct config *config, const char *place, const char *const *texts)
{
    size_t count = 0;

    for (; texts[count]; count++) {
        char whole[400];
        snprintf(whole, sizeof(whole), "%s%s", texts[count][0] == ':' ? place : "", texts[count]);
        assert_true(count < config->warnings.count);
        assert_string_equal(config->warnings.items[count], whole);
    }
    assert_int_equal(config->warnings.count, count);
}

#define REST "statedir=/var/run\nverbose=false\nretry-path=false\n"

static void test_defaults(void **state)
{
    (void)state;
    struct config *config = loaded(ARGS());

    assert_false(config->daemon);
    assert_null(config->logfile);
    assert_string_equal(config->pidfile, "/var/run/qemu-ga.pid");
    assert_false(config->has_pidfile);
    assert_null(config->fsfreeze_hook);
    assert_int_equal(config->channel_count, 1);
    assert_string_equal(config->channels[0].name, CONFIG_CLASSIC_CHANNEL);
    assert_false(config->block_rpcs.is_given);
    assert_false(config->allow_rpcs.is_given);
    assert_int_equal(config->settings.workers, 4);
    assert_int_equal(config->files.count, 0);
    assert_int_equal(config->warnings.count, 0);
    config_free(config);
    check_dump(ARGS("-D"), "[general]\ndaemon=false\nmethod=virtio-serial\n"
                           "path=/dev/virtio-ports/org.qemu.guest_agent.0\n"
                           "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\n");
}

static void test_general_keys(void **state)
{
    (void)state;
    write_file(classic_path, "[general]\ndaemon = 1\nmethod=unix-listen\npath=/a\\sb \n"
                             "logfile=/l\npidfile=/p\nfsfreeze-hook=/h\nstatedir=/s\n"
                             "verbose=true \nretry-path=true\nblock-rpcs=guest-ping;guest-sync\n"
                             "allow-rpcs = guest-exec , guest-ping\n");
    check_dump(ARGS(), "[general]\ndaemon=true\nmethod=unix-listen\npath=/a b \nlogfile=/l\n"
                       "pidfile=/p\nfsfreeze-hook=/h\nstatedir=/s\nverbose=true\n"
                       "retry-path=true\nblock-rpcs=guest-sync,guest-ping\n"
                       "allow-rpcs=guest-ping,guest-exec\n");
    struct config *config = loaded(ARGS());
    assert_true(config->has_pidfile);
    assert_int_equal(config->files.count, 1);
    assert_string_equal(config->files.items[0], classic_path);
    assert_int_equal(config->warnings.count, 0);
    config_free(config);
}

static void test_precedence(void **state)
{
    (void)state;
    write_file(bellhop_path, "[general]\npath=/1\nlogfile=/1\npidfile=/1\nstatedir=/1\n"
                             "[pool]\nworkers=5\nworkers-max=50\n[files]\nhandles=5\n"
                             "[limits]\nconnections=5\n");
    write_file(classic_path, "[general]\nlogfile=/2\npidfile=/2\nstatedir=/2\n"
                             "[pool]\nworkers=6\n[files]\nhandles=6\n");
    struct config *config = loaded(ARGS("-t/4", "--set", "general.statedir=/3", "--set",
                                        "general.pidfile=/3", "--set", "files.handles=7"));

    assert_string_equal(config->channels[0].path, "/1");
    assert_string_equal(config->logfile, "/2");
    assert_string_equal(config->pidfile, "/3");
    assert_string_equal(config->statedir, "/4");
    assert_int_equal(config->settings.connections, 5);
    assert_int_equal(config->settings.workers, 6);
    assert_int_equal(config->settings.workers_max, 50);
    assert_int_equal(config->settings.handles, 7);
    assert_int_equal(config->files.count, 2);
    assert_string_equal(config->files.items[0], bellhop_path);
    config_free(config);
}

static void test_lists(void **state)
{
    (void)state;
    const char *const texts[] = {
        ":3: older name of block-rpcs, which should replace it: 'blacklist'", NULL};

    write_file(bellhop_path, "[general]\nblock-rpcs=guest-exec\n");
    /* Equal keys of one file do not add up, different ones do. */
    write_file(classic_path, "[general]\nblock-rpcs=guest-nothing\nblacklist=guest-ping\n"
                             "block-rpcs=guest-sync\n");
    struct config *config = loaded(ARGS("-b", "guest-ping,guest-sync", "-b", ""));
    check_warnings(config, classic_path, texts);
    assert_true(config->block_rpcs.is_given);
    config_free(config);
    check_dump(ARGS("-b", "guest-ping,guest-sync", "-b", ""),
               "[general]\ndaemon=false\nmethod=virtio-serial\n"
               "path=/dev/virtio-ports/org.qemu.guest_agent.0\n"
               "pidfile=/var/run/qemu-ga.pid\n" REST
               "block-rpcs=guest-exec,guest-ping,guest-sync,guest-sync,guest-ping\n");
}

static void check_list(const char *text, bool is_given, size_t count)
{
    struct config *config = loaded(ARGS("-a", text));

    assert_int_equal(config->allow_rpcs.is_given, is_given);
    assert_int_equal(config->allow_rpcs.names.count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(config->allow_rpcs.names.items[i],
                            i == 0 ? "guest-sync" : "guest-ping");
    config_free(config);
}

static void test_list_forms(void **state)
{
    (void)state;
    /* A unit file's unset variable is no list, a list of nothing is one. */
    check_list("", false, 0);
    check_list(" \t", false, 0);
    check_list(",", true, 0);
    check_list(" ; ", true, 0);
    check_list("guest-sync", true, 1);
    check_list("guest-ping,guest-sync", true, 2);
    check_list("guest-ping;guest-sync;", true, 2);
    check_list(" guest-ping ,, guest-sync , ", true, 2);
    check_dump(ARGS("-a", ";"),
               "[general]\ndaemon=false\nmethod=virtio-serial\n"
               "path=/dev/virtio-ports/org.qemu.guest_agent.0\n"
               "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\nallow-rpcs=,\n");
}

static void test_warnings(void **state)
{
    (void)state;
    const char *const texts[] = {":2: unknown key in [general] is ignored: 'bogus'",
                                 ":3: unknown group is ignored: 'other'",
                                 "argument that is no option is ignored: 'x'",
                                 "unknown command in block-rpcs: 'guest-pong'",
                                 "unknown command in allow-rpcs: 'guest-pang'",
                                 NULL};

    /* Values that nobody asks for may be anything. */
    write_file(classic_path, "[general]\nbogus=\\q\n[other]\nverbose=\\q\n[general]\n"
                             "verbose=perhaps\nverbose=false\n");
    struct config *config = loaded(ARGS("-b", "guest-pong", "-a", "guest-pang,guest-ping", "x"));
    check_warnings(config, classic_path, texts);
    assert_int_equal(config->allow_rpcs.names.count, 2);
    config_free(config);
}

static void test_bad_general(void **state)
{
    (void)state;
    write_file(classic_path, "[general]\nverbose=maybe\n");
    check_refused(ARGS(), classic_path,
                  ":2: 'maybe' does not fit 'verbose': expected true or false");
    write_file(classic_path, "[general]\npath=a\\qb\n");
    check_refused(ARGS(), classic_path,
                  ":2: the value of 'path' has a '\\' that is none of \\s \\t \\n \\r \\\\");
    write_file(classic_path, "[general]\npath=\xff\n");
    check_refused(ARGS(), classic_path, ":2: the value of 'path' is not UTF-8");
    write_file(classic_path, "verbose=true\n");
    check_refused(ARGS(), classic_path, ":1: 'verbose' stands before the first [GROUP]");
    write_file(classic_path, "");
    check_refused(ARGS("-m", "carrier-pigeon", "-p/x"), NULL,
                  "unknown method 'carrier-pigeon' of channel 'general': expected one of "
                  "virtio-serial, isa-serial, unix-listen, vsock-listen");
    check_refused(ARGS("-m", "unix-listen"), NULL, "channel 'general' (unix-listen) needs a path");
    check_refused(ARGS("-m", "vsock-listen"), NULL,
                  "channel 'general' (vsock-listen) needs a path");
    check_refused(ARGS("-p", ""), NULL, "channel 'general' (virtio-serial) needs a path");
    check_refused(ARGS("-t", "run"), NULL,
                  "the state directory has to be an absolute path, not 'run'");
}

static void test_bad_settings(void **state)
{
    (void)state;
    write_file(classic_path, "[limits]\nconnections=many\n");
    check_refused(ARGS(), classic_path,
                  ":2: 'many' does not fit 'connections' in [limits]: expected a number from 1 to "
                  "1024");
    write_file(classic_path, "[files]\n\nhandels=1\n");
    check_refused(ARGS(), classic_path,
                  ":3: there is no key 'handels' in [files]: expected one of handles, umask");
    write_file(classic_path, "[pool]\nworkers=90\n");
    check_refused(ARGS(), NULL, "[pool]: workers (90) is more than workers-max (32)");
    write_file(classic_path, "[deadline]\nguest-pong=1\n");
    check_refused(ARGS(), classic_path,
                  ":2: there is no key 'guest-pong' in [deadline]: expected default or a command's "
                  "name");
    /* Every value counts, not only the last of its key. */
    write_file(classic_path, "[pool]\nworkers=0\nworkers=5\n");
    check_refused(ARGS(), classic_path,
                  ":2: '0' does not fit 'workers' in [pool]: expected a number from 2 to 256");
    write_file(classic_path, "");
    write_file(bellhop_path, "# x\n[limit]\nconnections=1\n");
    check_refused(ARGS(), bellhop_path, ":2: there is no group [limit]");
}

static void test_settings(void **state)
{
    (void)state;
    write_file(bellhop_path, "[limits]\nmessage-bytes = 1M \n[deadline]\nguest-exec=5\n");
    struct config *config = loaded(ARGS("--set", "deadline.default=9"));

    assert_int_equal(config->settings.message_bytes, 1 << 20);
    assert_int_equal(settings_deadline_ms(&config->settings, "guest-exec", 1), 5000);
    assert_int_equal(config->settings.deadline_default_s, 9);
    config_free(config);
    check_dump(ARGS("--set", "deadline.default=9"),
               "[general]\ndaemon=false\nmethod=virtio-serial\n"
               "path=/dev/virtio-ports/org.qemu.guest_agent.0\n"
               "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\n"
               "\n[limits]\nmessage-bytes=1M\n\n[deadline]\ndefault=9\nguest-exec=5\n");
}

static void test_set(void **state)
{
    (void)state;
    static const char expected[] = ": expected GROUP.KEY=VALUE";
    static const char *const malformed[] = {
        "", "pool", "pool.workers", "pool=5", ".workers=5", "pool.=5", "=", "."};

    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
        char whole[100];
        snprintf(whole, sizeof(whole), "--set %s%s", malformed[i], expected);
        check_refused(ARGS("--set", malformed[i]), NULL, whole);
    }
    check_refused(ARGS("--set", "pool.workers=1"), NULL,
                  "--set pool.workers=1: '1' does not fit 'workers' in [pool]: expected a number "
                  "from 2 to 256");
    check_refused(ARGS("--set", "general.bogus=1"), NULL,
                  "--set general.bogus=1: there is no key 'bogus' in [general]");
    check_refused(ARGS("--set", "pol.workers=4"), NULL,
                  "--set pol.workers=4: there is no group [pol]");

    /* A value is taken as it is. */
    struct config *config =
        loaded(ARGS("--set", "general.path=/a\\sb=c.d", "--set", "channel x.method=unix-listen",
                    "--set", "channel x.path=/x.sock"));
    assert_string_equal(config->channels[0].path, "/a\\sb=c.d");
    assert_int_equal(config->channel_count, 2);
    assert_string_equal(config->channels[1].path, "/x.sock");
    config_free(config);
}

static void test_channels(void **state)
{
    (void)state;
    write_file(bellhop_path, "[channel monitor]\nmethod=unix-listen\npath=/m\n"
                             "[channel b-2]\nmethod=isa-serial\n");
    write_file(classic_path, "[general]\nmethod=unix-listen\npath=/a\n"
                             "[channel  monitor]\npath=/m2\n");
    struct config *config = loaded(ARGS());

    assert_int_equal(config->channel_count, 3);
    assert_string_equal(config->channels[0].path, "/a");
    assert_string_equal(config->channels[1].name, "monitor");
    assert_string_equal(config->channels[1].method, "unix-listen");
    assert_string_equal(config->channels[1].path, "/m2");
    assert_string_equal(config->channels[2].path, "/dev/ttyS0");
    config_free(config);
    check_dump(ARGS(), "[general]\ndaemon=false\nmethod=unix-listen\npath=/a\n"
                       "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\n"
                       "\n[channel monitor]\nmethod=unix-listen\npath=/m2\n"
                       "\n[channel b-2]\nmethod=isa-serial\npath=/dev/ttyS0\n");
}

static void test_bad_channels(void **state)
{
    (void)state;
    static const char rest[] = "' is no name for a channel: expected [channel NAME] with a name of "
                               "1 to 64 letters, digits, '-' and '_'";
    static const struct {
        const char *header;
        const char *name;
    } names[] = {{"[channel]", ""},
                 {"[channel ]", ""},
                 {"[channel a b]", "a b"},
                 {"[channel \"a\"]", "\"a\""},
                 {"[channel a.b]", "a.b"}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char expected[300];
        snprintf(expected, sizeof(expected), ":1: '%s%s", names[i].name, rest);
        write_file(classic_path, names[i].header);
        check_refused(ARGS(), classic_path, expected);
    }
    write_file(classic_path, "[channel x]\n");
    check_refused(ARGS(), NULL, "channel 'x' needs a method");
    write_file(classic_path, "[channel x]\nmethod=unix-listen\n");
    check_refused(ARGS(), NULL, "channel 'x' (unix-listen) needs a path");
    write_file(classic_path, "[channel x]\nmethod=tcp\n");
    check_refused(ARGS(), NULL,
                  "unknown method 'tcp' of channel 'x': expected one of virtio-serial, "
                  "isa-serial, unix-listen, vsock-listen");
    write_file(classic_path, "[channel x]\nmethod=virtio-serial\n");
    check_refused(ARGS(), NULL,
                  "channels 'general' and 'x' have the same method and path (virtio-serial "
                  "/dev/virtio-ports/org.qemu.guest_agent.0)");
    write_file(classic_path, "[channel x]\nbaud=9600\n");
    check_refused(ARGS(), classic_path,
                  ":2: there is no key 'baud' in [channel x]: expected one of method, path, "
                  "vsock-peers, profile, peer-uid, peer-gid");
    write_file(classic_path, "[channel general]\npath=/x\n");
    check_refused(ARGS(), classic_path,
                  ":2: the channel 'general' has its method and path in [general]");
}

/* Writes one of the policy's files and returns its path, until the next one. */
static const char *write_policy(char name, const char *text)
{
    static char path[200];
    mkdir(policy_path, 0755);
    snprintf(path, sizeof(path), "%s/%c.conf", policy_path, name);
    write_file(path, text);
    return path;
}

static void test_profiles(void **state)
{
    struct config *config = loaded(ARGS());
    assert_int_equal(config->policy.profile, PROFILE_FULL);
    assert_int_equal(config->channels[0].profile, PROFILE_FULL);
    config_free(config);

    write_file(bellhop_path, "[policy]\nprofile = backup \n[channel m]\nmethod=unix-listen\n"
                             "path=/m\nprofile=monitor\npeer-uid=0, 7\n[channel n]\n"
                             "method=unix-listen\npath=/n\n[channel general]\npeer-gid=root\n");
    config = loaded(ARGS("-m", "unix-listen", "-p", "/x"));
    assert_int_equal(config->channels[0].profile, PROFILE_BACKUP);
    assert_int_equal(config->channels[1].profile, PROFILE_MONITOR);
    assert_int_equal(config->channels[2].profile, PROFILE_BACKUP);
    assert_int_equal(config->channels[1].peer.user_count, 2);
    assert_int_equal(config->channels[1].peer.users[1], 7);
    assert_int_equal(config->channels[0].peer.groups[0], 0);
    config_free(config);

    config = loaded(ARGS("-m", "unix-listen", "-p", "/x", "--profile", "provision"));
    assert_int_equal(config->channels[0].profile, PROFILE_PROVISION);
    assert_int_equal(config->channels[1].profile, PROFILE_MONITOR);
    config_free(config);
    check_refused(ARGS("-m", "unix-listen", "-p", "/x", "--profile=all"), NULL,
                  "there is no profile 'all': expected one of full, backup, provision, monitor");
    check_refused(ARGS(), NULL,
                  "channel 'general': peer-uid and peer-gid are of unix-listen; a virtio-serial "
                  "has no peer with credentials");
}

static void test_profiles_are_dumped(void **state)
{
    write_file(bellhop_path, "[policy]\nprofile=backup\nstrict=true\naudit=log\n[channel m]\n"
                             "method=unix-listen\npath=/m\nprofile=monitor\npeer-uid=0,7\n");
    struct config *config = loaded(ARGS());
    struct buffer out = BUFFER_INIT;
    config_dump(config, &out);
    assert_non_null(strstr(out.data, "\n[channel m]\nmethod=unix-listen\npath=/m\n"
                                     "profile=monitor\npeer-uid=0,7\n"));
    assert_non_null(strstr(out.data, "\n[policy]\nprofile=backup\nstrict=true\naudit=log\n"));
    buffer_deinit(&out);
    config_free(config);
}

static void test_policy_files_are_read_by_name(void **state)
{
    write_file(bellhop_path, "[files one]\npath=/srv/one\naccess=read\n");
    write_policy('b', "[policy]\nprofile=monitor\n[files two]\npath=/srv/two\naccess=none\n");
    write_policy('a', "[policy]\nprofile=backup\n[channel general]\nprofile=full\n");
    struct config *config = loaded(ARGS());
    assert_int_equal(config->policy.profile, PROFILE_MONITOR);
    assert_int_equal(config->channels[0].profile, PROFILE_FULL);
    assert_int_equal(config->policy.files.count, 2);
    assert_int_equal(config->files.count, 3);
    config_free(config);

    config = loaded(ARGS("--set", "files two.access=read", "--set", "policy.profile=full"));
    assert_int_equal(config->policy.files.rules[1].access, FILE_READ);
    assert_int_equal(config->policy.profile, PROFILE_FULL);
    config_free(config);
}

static void test_bad_policy_files(void **state)
{
    check_refused(ARGS(), write_policy('a', "[general]\nverbose=true\n"),
                  ":1: there is no group [general] in a policy's file: expected [policy], [program "
                  "NAME], [files NAME] or [channel NAME]");
    check_refused(ARGS(), write_policy('a', "[channel x]\nmethod=unix-listen\n"),
                  ":2: 'method' of a channel is nothing for a policy's file");
    check_refused(ARGS(), write_policy('a', "# a comment\n\n[files x]\npath=relative\n"),
                  ":4: 'relative' is no absolute path");
    check_refused(ARGS(), write_policy('a', "[files x]\npath=/srv\n"),
                  ":1: [files x]: needs access: none, or some of read, write, create");
    check_refused(ARGS(), write_policy('a', "[program x]\npath=/no/such/program\n"),
                  ":1: [program x]: /no/such/program: No such file or directory");
    check_refused(ARGS(), write_policy('a', "[policy\n"),
                  ":1: ']' is missing after the group's name");
}

static void test_the_same_rule_twice(void **state)
{
    static const char text[] = "[files x]\npath=/srv\naccess=read\n";
    char expected[300];
    write_policy('a', text);
    snprintf(expected, sizeof(expected), ":1: there is a [files x] already, in %s/a.conf:1",
             policy_path);
    check_refused(ARGS(), write_policy('b', text), expected);
    snprintf(expected, sizeof(expected),
             ":1: [files y]: [files x] has the same path, '/srv', for the same profile");
    check_refused(ARGS(), write_policy('b', "[files y]\npath=/srv/\naccess=read\n"), expected);
}

static void test_a_policy_that_others_can_write(void **state)
{
    static const char text[] = "[policy]\nprofile=backup\n";
    char expected[500];
    const char *path = write_policy('a', text);
    assert_int_equal(chmod(path, 0664), 0);
    snprintf(expected, sizeof(expected),
             ": a policy is not taken from here: '%s' can be written by others than its owner",
             path);
    check_refused(ARGS(), path, expected);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(policy_path, 0777), 0);
    snprintf(expected, sizeof(expected),
             ": a policy is not taken from here: '%s' can be written by others than its owner",
             policy_path);
    check_refused(ARGS(), policy_path, expected);
    assert_int_equal(chmod(policy_path, 0755), 0);
    unlink(path);

    /* Without a policy in it the file is nobody's concern. */
    write_file(bellhop_path, "[limits]\nconnections=3\n");
    assert_int_equal(chmod(bellhop_path, 0666), 0);
    config_free(loaded(ARGS()));
    write_file(bellhop_path, text);
    snprintf(expected, sizeof(expected),
             ": a policy is not taken from here: '%s' can be written by others than its owner",
             bellhop_path);
    check_refused(ARGS(), bellhop_path, expected);
}

static void test_vsock(void **state)
{
    (void)state;
    write_file(classic_path, "[general]\nmethod=vsock-listen\npath=3:1024\n"
                             "[channel x]\nmethod=vsock-listen\npath=any:5\nvsock-peers=1;2\n");
    struct config *config = loaded(ARGS("--set", "general.vsock-peers=any"));
    assert_string_equal(config->channels[0].vsock_peers, "any");
    assert_string_equal(config->channels[1].vsock_peers, "1;2");
    config_free(config);
    check_dump(ARGS(), "[general]\ndaemon=false\nmethod=vsock-listen\npath=3:1024\n"
                       "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\n"
                       "\n[channel x]\nmethod=vsock-listen\npath=any:5\nvsock-peers=1;2\n");
    check_refused(
        ARGS("-p", "1024"), NULL,
        "'1024' is no address for channel 'general' (vsock-listen): expected CID:PORT, for "
        "example any:1024");
    check_refused(
        ARGS("--set", "channel x.vsock-peers=host"), NULL,
        "'host' does not fit 'vsock-peers' of channel 'x': expected any, or CIDs separated "
        "by ',' or ';'");
}

static struct config *with_sockets(const struct passed_sockets *sockets,
                                   const char *const *arguments)
{
    passed = sockets;
    struct config *config = loaded(arguments);
    passed = NULL;
    return config;
}

static void check_channel(const struct config_channel *channel, const char *name,
                          const char *method, const char *path, int passed_fd)
{
    assert_string_equal(channel->name, name);
    assert_string_equal(channel->method, method);
    assert_string_equal(channel->path, path);
    assert_int_equal(channel->passed_fd, passed_fd);
}

#define TEXT(literal) ((char *)(uintptr_t)(literal))

static void test_passed_socket_is_the_classic_channels(void **state)
{
    (void)state;
    struct passed_socket socket = {
        .fd = 3, .name = TEXT("bellhop.socket"), .method = "unix-listen", .path = TEXT("/run/x")};
    const struct passed_sockets sockets = {.items = &socket, .count = 1};
    struct config *config = with_sockets(&sockets, ARGS());
    check_channel(&config->channels[0], "general", "unix-listen", "/run/x", 3);
    assert_int_equal(config->channel_count, 1);
    config_free(config);

    /* whatever was configured; also without a path, which that method otherwise needs */
    config = with_sockets(&sockets, ARGS("-m", "vsock-listen"));
    check_channel(&config->channels[0], "general", "unix-listen", "/run/x", 3);
    config_free(config);
}

static void test_passed_sockets_by_name(void **state)
{
    (void)state;
    struct passed_socket items[] = {
        {.fd = 3, .name = TEXT("bellhop.socket"), .method = "unix-listen", .path = TEXT("/run/1")},
        {.fd = 4, .name = TEXT("monitor"), .method = "vsock-listen", .path = TEXT("any:7")},
        {.fd = 5, .name = TEXT("bellhop.socket"), .method = "unix-listen", .path = TEXT("/run/3")},
        {.fd = 6, .name = TEXT(""), .method = "unix-listen", .path = TEXT("/run/4")},
    };
    const struct passed_sockets sockets = {.items = items, .count = ARRAY_SIZE(items)};
    write_file(classic_path, "[channel monitor]\nvsock-peers=any\n"
                             "[channel socket-2]\nmethod=unix-listen\npath=/a\n");
    struct config *config = with_sockets(&sockets, ARGS());
    assert_int_equal(config->channel_count, 5);
    check_channel(&config->channels[0], "general", "unix-listen", "/run/1", 3);
    check_channel(&config->channels[1], "monitor", "vsock-listen", "any:7", 4);
    assert_string_equal(config->channels[1].vsock_peers, "any");
    check_channel(&config->channels[2], "socket-2", "unix-listen", "/a", 0);
    check_channel(&config->channels[3], "socket-3", "unix-listen", "/run/3", 5);
    check_channel(&config->channels[4], "socket-4", "unix-listen", "/run/4", 6);
    config_free(config);
}

static void test_bad_passed_sockets(void **state)
{
    (void)state;
    struct passed_socket items[] = {
        {.fd = 3, .name = TEXT("monitor"), .method = "unix-listen", .path = TEXT("/run/1")},
        {.fd = 4, .name = TEXT("monitor"), .method = "unix-listen", .path = TEXT("/run/2")},
    };
    const struct passed_sockets sockets = {.items = items, .count = ARRAY_SIZE(items)};
    passed = &sockets;
    write_file(classic_path, "[channel monitor]\n");
    check_refused(ARGS(), NULL, "two sockets were passed for channel 'monitor'");
    write_file(classic_path, "[channel monitor]\nmethod=vsock-listen\npath=any:7\n");
    check_refused(ARGS(), NULL,
                  "the socket that was passed for channel 'monitor' is for unix-listen, not "
                  "vsock-listen");
    passed = NULL;
}

static void test_which_classic_file(void **state)
{
    (void)state;
    char other[160];
    struct config *config = NULL;
    char *reason = NULL;

    write_file(classic_path, "[general]\nlogfile=/by-environment\n");
    snprintf(other, sizeof(other), "%s/other.conf", folder);
    write_file(other, "[general]\nstatedir=/by-option\n");
    config = loaded(ARGS("-c", other));
    assert_null(config->logfile);
    assert_string_equal(config->statedir, "/by-option");
    config_free(config);
    unlink(other);

    assert_int_equal(load(ARGS("-c", other), &config, &reason), -ENOENT);
    assert_non_null(strstr(reason, "/other.conf: No such file or directory"));
    free(reason);
    setenv("QGA_CONF", other, 1);
    config_free(loaded(ARGS()));
    setenv("QGA_CONF", "", 1);
    config_free(loaded(ARGS()));
    setenv("QGA_CONF", folder, 1);
    assert_int_equal(load(ARGS(), &config, &reason), -EISDIR);
    free(reason);
}

static void test_fsfreeze_hook(void **state)
{
    (void)state;
    struct config *config = NULL;

    write_file(classic_path, "[general]\nfsfreeze-hook=/h\n");
    config = loaded(ARGS());
    assert_string_equal(config->fsfreeze_hook, "/h");
    config_free(config);
    config = loaded(ARGS("-F"));
    assert_non_null(strstr(config->fsfreeze_hook, "/fsfreeze-hook"));
    config_free(config);
    config = loaded(ARGS("-F/i"));
    assert_string_equal(config->fsfreeze_hook, "/i");
    config_free(config);
    write_file(classic_path, "[general]\nfsfreeze-hook=\n");
    config = loaded(ARGS());
    assert_null(config->fsfreeze_hook);
    config_free(config);
}

/* The sample changes nothing as it is. */
static void test_sample(void **state)
{
    (void)state;
    setenv("BELLHOP_CONF", SOURCE_ROOT "/packaging/bellhop.conf", 1);
    struct config *config = loaded(ARGS());
    assert_int_equal(config->files.count, 1);
    assert_int_equal(config->warnings.count, 0);
    config_free(config);
    check_dump(ARGS(), "[general]\ndaemon=false\nmethod=virtio-serial\n"
                       "path=/dev/virtio-ports/org.qemu.guest_agent.0\n"
                       "pidfile=/var/run/qemu-ga.pid\n" REST "block-rpcs=\n");
}

static void check_pidfile(const char *const *arguments, const char *path, bool has_pidfile)
{
    struct config *config = loaded(arguments);

    if (path)
        assert_string_equal(config->pidfile, path);
    else
        assert_null(config->pidfile);
    assert_int_equal(config->has_pidfile, has_pidfile);
    config_free(config);
}

static void test_pidfile(void **state)
{
    (void)state;
    check_pidfile(ARGS("-f", "/var/run/qemu-ga.pid"), "/var/run/qemu-ga.pid", true);
    check_pidfile(ARGS("-f", "/p"), "/p", true);
    check_pidfile(ARGS("-f", ""), NULL, false);
    write_file(classic_path, "[general]\npidfile=/p\n");
    check_pidfile(ARGS(), "/p", true);
    /* As in a dump that became the configuration. */
    write_file(classic_path, "[general]\npidfile=/var/run/qemu-ga.pid\n");
    check_pidfile(ARGS(), "/var/run/qemu-ga.pid", false);
    assert_null(config_free(NULL));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_general_keys),
        TEST(test_precedence),
        TEST(test_lists),
        TEST(test_list_forms),
        TEST(test_warnings),
        TEST(test_bad_general),
        TEST(test_bad_settings),
        TEST(test_settings),
        TEST(test_set),
        TEST(test_channels),
        TEST(test_bad_channels),
        TEST(test_vsock),
        TEST(test_passed_socket_is_the_classic_channels),
        TEST(test_passed_sockets_by_name),
        TEST(test_bad_passed_sockets),
        TEST(test_profiles),
        TEST(test_profiles_are_dumped),
        TEST(test_policy_files_are_read_by_name),
        TEST(test_bad_policy_files),
        TEST(test_the_same_rule_twice),
        TEST(test_a_policy_that_others_can_write),
        TEST(test_which_classic_file),
        TEST(test_fsfreeze_hook),
        TEST(test_pidfile),
        TEST(test_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
