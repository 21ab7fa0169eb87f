/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <string.h>

/* Long options without a letter. */
enum { OPTION_SET = 256, OPTION_ROOT, OPTION_PROFILE, OPTION_CHECK };

/* ':' first tells a missing argument from an unknown option. */
static const char short_options[] = ":hVvdc:m:p:l:f:F::b:a:t:Dr";

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"config", required_argument, NULL, 'c'},
    {"method", required_argument, NULL, 'm'},
    {"path", required_argument, NULL, 'p'},
    {"logfile", required_argument, NULL, 'l'},
    {"pidfile", required_argument, NULL, 'f'},
    {"fsfreeze-hook", optional_argument, NULL, 'F'},
    {"statedir", required_argument, NULL, 't'},
    {"verbose", no_argument, NULL, 'v'},
    {"daemonize", no_argument, NULL, 'd'},
    {"block-rpcs", required_argument, NULL, 'b'},
    {"blacklist", required_argument, NULL, 'b'},
    {"allow-rpcs", required_argument, NULL, 'a'},
    {"dump-conf", no_argument, NULL, 'D'},
    {"retry-path", no_argument, NULL, 'r'},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"set", required_argument, NULL, OPTION_SET},
    {"root", required_argument, NULL, OPTION_ROOT},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {NULL, 0, NULL, 0},
};

static bool asks_for_commands(const char *list)
{
    return strcmp(list, "help") == 0 || strcmp(list, "?") == 0;
}

static int append(struct text_list *list, const char *text)
{
    return text_list_append(list, text, strlen(text));
}

/* Where the value of an option goes that has nothing but a value; NULL for others. */
static const char **find_text(struct options *options, int option)
{
    switch (option) {
    case 'c':
        return &options->config_path;
    case 'm':
        return &options->method;
    case 'p':
        return &options->path;
    case 'l':
        return &options->logfile;
    case 'f':
        return &options->pidfile;
    case 't':
        return &options->statedir;
    case OPTION_ROOT:
        return &options->root;
    case OPTION_PROFILE:
        return &options->profile;
    default:
        return NULL;
    }
}

/* Carries out one option. Returns 0, -ENOENT if there is no such option, or -ENOMEM. */
static int apply(struct options *options, int option, const char *value)
{
    const char **text = find_text(options, option);
    if (text) {
        *text = value;
        return 0;
    }
    switch (option) {
    case 'h':
        options->action = OPTIONS_PRINT_HELP;
        return 0;
    case 'V':
        options->action = OPTIONS_PRINT_VERSION;
        return 0;
    case 'D':
    case OPTION_CHECK:
        options->action = option == 'D' ? OPTIONS_DUMP_CONFIG : OPTIONS_CHECK;
        return 0;
    case 'F':
        options->wants_fsfreeze_hook = true;
        options->fsfreeze_hook = value ? value : "";
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case 'd':
        options->daemonize = true;
        return 0;
    case 'r':
        options->retry_path = true;
        return 0;
    case 'b':
    case 'a':
        if (asks_for_commands(value)) {
            options->action = OPTIONS_LIST_COMMANDS;
            return 0;
        }
        return append(option == 'b' ? &options->block_rpcs : &options->allow_rpcs, value);
    case OPTION_SET:
        return append(&options->sets, value);
    default:
        return -ENOENT;
    }
}

static bool is_known(int option)
{
    for (const struct option *row = long_options; row->name; row++)
        if (row->val == option)
            return true;
    return false;
}

/*
 * Says what getopt_long() did not like. Which kind of option it was has to be told from `optopt`:
 * 0 for a long one that it does not know, else the option's value or letter. `last` is the last
 * argument it has finished with, which a letter in the middle of others is not in.
 */
static char *describe_error(bool lacks_argument, const char *last)
{
    bool is_long = strncmp(last, "--", 2) == 0;
    char *reason = NULL;
    int length;

    if (lacks_argument && is_long)
        length = asprintf(&reason, "option '%s' needs an argument; see --help", last);
    else if (lacks_argument)
        length = asprintf(&reason, "option '-%c' needs an argument; see --help", optopt);
    else if (optopt == 0)
        length = asprintf(&reason, "unknown or ambiguous option '%s'; see --help", last);
    else if (is_known(optopt))
        length = asprintf(&reason, "option '%s' takes no argument; see --help", last);
    else
        length = asprintf(&reason, "unknown option '-%c'; see --help", optopt);
    return length < 0 ? NULL : reason;
}

static bool is_answer(enum options_action action)
{
    return action == OPTIONS_PRINT_HELP || action == OPTIONS_PRINT_VERSION ||
           action == OPTIONS_LIST_COMMANDS;
}

int options_parse(int argc, char **argv, struct options *ret_options, char **ret_reason)
{
    struct options *options = ret_options;
    int error = 0;

    *options = (struct options){.action = OPTIONS_RUN};
    *ret_reason = NULL;
    opterr = 0;
    optind = 0; /* GNU: starts anew, so that a test may parse twice */
    for (;;) {
        int option = getopt_long(argc, argv, short_options, long_options, NULL);
        if (option == -1)
            break;
        error = apply(options, option, optarg);
        if (error == -ENOENT) {
            *ret_reason = describe_error(option == ':', argv[optind - 1]);
            return *ret_reason ? -EINVAL : -ENOMEM;
        }
        if (error < 0 || is_answer(options->action))
            return error;
    }
    if (options->action == OPTIONS_CHECK && optind < argc)
        options->checked_path = argv[optind++];
    if (options->action == OPTIONS_CHECK && optind < argc) {
        if (asprintf(ret_reason, "--check takes one file, not '%s', too", argv[optind]) < 0)
            *ret_reason = NULL;
        return *ret_reason ? -EINVAL : -ENOMEM;
    }
    for (int i = optind; i < argc && error == 0; i++)
        error = append(&options->ignored, argv[i]);
    return error;
}

void options_deinit(struct options *options)
{
    text_list_deinit(&options->block_rpcs);
    text_list_deinit(&options->allow_rpcs);
    text_list_deinit(&options->sets);
    text_list_deinit(&options->ignored);
}

void options_print_help(FILE *out, const char *program)
{
    fprintf(out, "Usage: %s [-m METHOD -p PATH] [OPTION...]\n", program);
    fputs("\n"
          "bellhop " BELLHOP_VERSION ", a guest agent: does jobs for the host inside a virtual\n"
          "machine. Speaks the QEMU guest agent protocol.\n"
          "\n"
          "  -m, --method=METHOD       how the host reaches the agent: virtio-serial (default),\n"
          "                            isa-serial, unix-listen or vsock-listen\n"
          "  -p, --path=PATH           device, socket, or CID:PORT; default for virtio-serial:\n"
          "                            /dev/virtio-ports/org.qemu.guest_agent.0, for isa-serial:\n"
          "                            /dev/ttyS0\n"
          "  -r, --retry-path          wait for a device that is not there or goes away\n"
          "  -c, --config=FILE         configuration file; default: $QGA_CONF, else\n"
          "                            /etc/qemu/qemu-ga.conf or /etc/qemu-ga/qemu-ga.conf\n"
          "      --set=GROUP.KEY=VALUE one setting of a configuration file; may be repeated\n"
          "  -b, --block-rpcs=LIST     commands that are refused, separated by commas;\n"
          "                            'help' lists all commands (older name: --blacklist)\n"
          "  -a, --allow-rpcs=LIST     the only commands that are not refused\n"
          "      --profile=NAME        what clients may do: full (default), backup, provision or\n"
          "                            monitor\n"
          "  -F, --fsfreeze-hook[=FILE]\n"
          "                            program to run with 'freeze' and 'thaw'; -FFILE without a\n"
          "                            space; default: /etc/qemu/fsfreeze-hook\n"
          "  -t, --statedir=DIRECTORY  where state is kept (an absolute path; default: /var/run)\n"
          "      --root=DIRECTORY      report on the system below a directory: for an agent in a\n"
          "                            container. What would act on the agent's own is refused\n"
          "  -l, --logfile=FILE        log to a file, journal: or syslog: instead of stderr\n"
          "  -v, --verbose             log debugging information, too\n"
          "  -d, --daemonize           go to the background\n"
          "  -f, --pidfile=FILE        default in the background: /var/run/qemu-ga.pid\n"
          "      --check [FILE]        say what the configuration (bellhop's own, or FILE) allows\n"
          "                            and what the sandbox is here; fails on any error\n"
          "  -D, --dump-conf           print the resulting configuration and exit\n"
          "  -h, --help                print this and exit\n"
          "  -V, --version             print the version and exit\n"
          "\n"
          "See bellhopd(8) and bellhop.conf(5).\n",
          out);
}

void options_print_version(FILE *out)
{
    fputs("bellhop " BELLHOP_VERSION "\n", out);
}

void options_print_commands(FILE *out, const char *const *commands)
{
    for (; *commands; commands++)
        fprintf(out, "%s\n", *commands);
}
