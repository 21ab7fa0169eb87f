/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "config.h"
#include "security/program-rule.h"

/*
 * The text of a policy's file, as root's own mistakes, or an image's, could be.
 *
 * - It is understood, or refused with its name and a line that it has.
 * - Nothing of it is looked up: that would be somebody else's files. (Accounts of peers are.)
 * - A pattern matches in a bounded time, and itself if it has nothing special.
 */

static void check_refusal(const char *reason, const char *text, size_t length)
{
    unsigned line = 0, lines = 1;
    CHECK(reason);
    CHECK(sscanf(reason, "policy:%u: ", &line) == 1);
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    CHECK(line >= 1 && line <= lines);
}

static void check_pattern(const char *text, size_t length)
{
    char copy[PROGRAM_ARGUMENT_MAX + 1];
    if (length > PROGRAM_ARGUMENT_MAX || memchr(text, '\0', length))
        return;
    memcpy(copy, text, length);
    copy[length] = '\0';
    bool is_plain = !strpbrk(copy, "*?\\");
    bool matches = program_pattern_matches(copy, copy);
    CHECK(!is_plain || matches);
    CHECK(program_pattern_matches("**", copy) == (copy[0] != '-'));
    /* The first half as the pattern, the second as what it is to match. */
    char *second = copy + length / 2;
    char saved = *second;
    *second = '\0';
    char *first = strdup(copy);
    *second = saved;
    CHECK(first);
    (void)program_pattern_matches(first, second);
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    char *reason = NULL;
    int error = config_check_policy("policy", text, size, &reason);
    CHECK(error == 0 || error == -EINVAL);
    if (error)
        check_refusal(reason, text, size);
    else
        CHECK(!reason);
    free(reason);
    check_pattern(text, size < 300 ? size : 300);
    return 0;
}
