/* SPDX-License-Identifier: MIT */
#include "client/command-line.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define TIMEOUT_MAX_S    (7 * 24 * 3600)
#define TIME_LIMIT_MAX_S (365 * 24 * 3600)

const char command_line_help[] =
    "usage: bellhop [OPTION]... SOCKET COMMAND [KEY=VALUE]...\n"
    "       bellhop [OPTION]... SOCKET exec [EXEC-OPTION]... [--] PROGRAM [ARG]...\n"
    "       bellhop [OPTION]... SOCKET read PATH\n"
    "       bellhop [OPTION]... SOCKET write PATH\n"
    "\n"
    "Talks to the guest agent behind the unix socket SOCKET, or behind vsock:CID:PORT.\n"
    "\n"
    "  COMMAND         sends one command of the protocol and prints what it returns as JSON:\n"
    "                  bellhop SOCKET guest-get-osinfo\n"
    "                  bellhop SOCKET guest-file-open path=/etc/motd mode=r\n"
    "    KEY=VALUE     VALUE is sent as it is if it is a JSON number, true, false, null, array\n"
    "                  or object, and as a string if not\n"
    "    KEY==TEXT     TEXT is sent as a string, whatever it looks like\n"
    "    KEY:=JSON     sends any JSON value\n"
    "  exec            runs a program in the guest, prints its output and ends with its exit code\n"
    "    --env N=V     its environment, exactly; without, it has the agent's own\n"
    "    --input FILE  what it reads from its standard input; - is this one's\n"
    "    --cwd PATH    the directory of the guest that it works in\n"
    "    --user NAME   the user that it runs as, by name or number, with the environment of a "
    "login\n"
    "    --time-limit S  how many seconds it may run before the guest ends it\n"
    "  read            copies a file of the guest to standard output\n"
    "  write           copies standard input to a file of the guest\n"
    "\n"
    "  --timeout S     how many seconds to wait for each answer (else 5 to find the agent, and as\n"
    "                  long as it takes for the command)\n"
    "  --pretty        indented JSON, also where standard output is no terminal\n"
    "  --compact       JSON on one line, also where it is one\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 done; 1 the agent answered with an error, or a file here failed; 2 no agent,\n"
    "no answer in time, or wrong usage; with exec the program's own, 128 + signal if one killed\n"
    "it, and 125 where bellhop itself failed\n";

enum {
    OPTION_ENV = 256,
    OPTION_INPUT,
    OPTION_CWD,
    OPTION_USER,
    OPTION_TIME_LIMIT,
    OPTION_TIMEOUT,
    OPTION_PRETTY,
    OPTION_COMPACT,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"env", required_argument, NULL, OPTION_ENV},
    {"input", required_argument, NULL, OPTION_INPUT},
    {"cwd", required_argument, NULL, OPTION_CWD},
    {"user", required_argument, NULL, OPTION_USER},
    {"time-limit", required_argument, NULL, OPTION_TIME_LIMIT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"pretty", no_argument, NULL, OPTION_PRETTY},
    {"compact", no_argument, NULL, OPTION_COMPACT},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

void command_line_deinit(struct command_line *line)
{
    free(line->env);
    free(line->words);
    *line = (struct command_line){0};
}

static bool is_exec(const struct command_line *line)
{
    return line->command && strcmp(line->command, "exec") == 0;
}

static enum outcome take_timeout(struct command_line *line, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !isfinite(seconds) || seconds < 0.001 ||
        seconds > TIMEOUT_MAX_S) {
        report("'%s' is no number of seconds from 0.001 to %d", text, TIMEOUT_MAX_S);
        return OUTCOME_USAGE;
    }
    line->agent.limit_ms = (unsigned)(seconds * 1000);
    return OUTCOME_OK;
}

static enum outcome take_time_limit(struct command_line *line, const char *text)
{
    char *end;
    unsigned long seconds = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || seconds < 1 || seconds > TIME_LIMIT_MAX_S) {
        report("'%s' is no number of seconds from 1 to %d", text, TIME_LIMIT_MAX_S);
        return OUTCOME_USAGE;
    }
    line->time_limit_s = (unsigned)seconds;
    return OUTCOME_OK;
}

/* Those of exec. */
static enum outcome take_exec_option(struct command_line *line, int option, const char *argument)
{
    if (!is_exec(line)) {
        report("--env, --input, --cwd, --user and --time-limit stand after 'exec'");
        return OUTCOME_USAGE;
    }
    switch (option) {
    case OPTION_ENV:
        if (*argument == '=' || !strchr(argument, '=')) {
            report("--env takes NAME=VALUE, not '%s'", argument);
            return OUTCOME_USAGE;
        }
        line->env[line->env_count++] = argument;
        return OUTCOME_OK;
    case OPTION_INPUT:
        line->input = argument;
        return OUTCOME_OK;
    case OPTION_CWD:
        line->directory = argument;
        return OUTCOME_OK;
    case OPTION_USER:
        line->user = argument;
        return OUTCOME_OK;
    default:
        return take_time_limit(line, argument);
    }
}

static enum outcome take_option(struct command_line *line, int option, const char *argument)
{
    switch (option) {
    case OPTION_ENV:
    case OPTION_INPUT:
    case OPTION_CWD:
    case OPTION_USER:
    case OPTION_TIME_LIMIT:
        return take_exec_option(line, option, argument);
    case OPTION_TIMEOUT:
        return take_timeout(line, argument);
    case OPTION_PRETTY:
        line->layout = LAYOUT_INDENTED;
        return OUTCOME_OK;
    case OPTION_COMPACT:
        line->layout = LAYOUT_ONE_LINE;
        return OUTCOME_OK;
    case OPTION_HELP:
        line->wants_help = true;
        return OUTCOME_OK;
    case OPTION_VERSION:
        line->wants_version = true;
        return OUTCOME_OK;
    }
    /* getopt_long() has said what is wrong. */
    return OUTCOME_USAGE;
}

static void take_word(struct command_line *line, char *word)
{
    if (!line->agent.address)
        line->agent.address = word;
    else if (!line->command)
        line->command = word;
    else
        line->words[line->word_count++] = word;
}

/*
 * Options may stand anywhere before the first word of what exec is to run; from there on
 * everything belongs to the program.
 */
static enum outcome take_everything(struct command_line *line, int argc, char **argv)
{
    bool only_words = false;

    while (optind < argc) {
        int before = optind;
        int option = only_words ? -1 : getopt_long(argc, argv, "+h", long_options, NULL);
        enum outcome outcome;

        if (option != -1) {
            outcome = take_option(line, option == 'h' ? OPTION_HELP : option, optarg);
            if (outcome != OUTCOME_OK)
                return outcome;
            continue;
        }
        if (optind > before || is_exec(line)) /* getopt_long() took a "--" */
            only_words = true;
        if (optind < argc)
            take_word(line, argv[optind++]);
    }
    return OUTCOME_OK;
}

static enum outcome check(const struct command_line *line)
{
    if (!line->agent.address || !line->command)
        return OUTCOME_USAGE;
    if (is_exec(line) && line->word_count == 0) {
        report("exec needs a program");
        return OUTCOME_USAGE;
    }
    if ((strcmp(line->command, "read") == 0 || strcmp(line->command, "write") == 0) &&
        line->word_count != 1) {
        report("%s needs exactly one path", line->command);
        return OUTCOME_USAGE;
    }
    return OUTCOME_OK;
}

/* JSON cannot carry anything else: U+FFFD in its place would name another file than was meant. */
static enum outcome check_utf8(const struct command_line *line)
{
    const char *bad = NULL;

    if (utf8_valid_prefix(line->command, strlen(line->command)) != strlen(line->command))
        bad = line->command;
    for (size_t i = 0; i < line->word_count && !bad; i++) {
        if (utf8_valid_prefix(line->words[i], strlen(line->words[i])) != strlen(line->words[i]))
            bad = line->words[i];
    }
    for (size_t i = 0; i < line->env_count && !bad; i++) {
        if (utf8_valid_prefix(line->env[i], strlen(line->env[i])) != strlen(line->env[i]))
            bad = line->env[i];
    }
    const char *const single[] = {line->directory, line->user};
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]) && !bad; i++) {
        if (single[i] && utf8_valid_prefix(single[i], strlen(single[i])) != strlen(single[i]))
            bad = single[i];
    }
    if (!bad)
        return OUTCOME_OK;
    report("'%s' is not UTF-8, and the protocol carries nothing else", bad);
    return OUTCOME_USAGE;
}

enum outcome command_line_parse(int argc, char **argv, struct command_line *ret_line)
{
    enum outcome outcome;

    *ret_line = (struct command_line){0};
    ret_line->env = calloc((size_t)argc, sizeof(*ret_line->env));
    ret_line->words = calloc((size_t)argc, sizeof(*ret_line->words));
    if (!ret_line->env || !ret_line->words)
        return report_no_memory();

    outcome = take_everything(ret_line, argc, argv);
    if (outcome != OUTCOME_OK || ret_line->wants_help || ret_line->wants_version)
        return outcome;
    outcome = check(ret_line);
    if (outcome != OUTCOME_OK)
        return outcome;
    return check_utf8(ret_line);
}
