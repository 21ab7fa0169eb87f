/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "cmds/wire-error.h"
#include "io/json.h"

/*
 * An object as the arguments of every command there is.
 *
 * - It is taken or refused; a refusal has a description, in UTF-8, and the same one each time.
 * - What was taken can be described for the log and be freed.
 */

static const struct json_limits json_limits = {.depth_max = 12, .values_max = 200};

static void *zeroed(const struct command *command)
{
    void *args = calloc(1, command->args_size ? command->args_size : 1);
    CHECK(args);
    return args;
}

static void check_refusal(const struct wire_error *error)
{
    size_t length = strlen(error->desc);
    CHECK(error->is_set);
    CHECK(length > 0 && length < sizeof(error->desc));
    CHECK(utf8_valid_prefix(error->desc, length) == length);
}

static void try_command(const struct command *command, const struct json_value *arguments)
{
    struct wire_error error = {0}, again = {0};
    struct buffer description = BUFFER_INIT;
    void *args = zeroed(command), *args_again = zeroed(command);

    int result = args_decode(command->args, arguments, args, &error);
    CHECK(args_decode(command->args, arguments, args_again, &again) == result);
    CHECK(result == 0 || result == -EINVAL);
    CHECK(error.is_set == (result != 0));
    if (result == 0) {
        args_describe(command->args, args, &description);
        CHECK(!description.failed);
    } else {
        check_refusal(&error);
        CHECK(strcmp(error.desc, again.desc) == 0);
    }
    buffer_deinit(&description);
    args_deinit(command->args, args);
    args_deinit(command->args, args_again);
    free(args);
    free(args_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_document *document;
    char reason[JSON_REASON_MAX];
    char *text = malloc(size + 1);
    CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    if (json_document_parse_take(text, size, &json_limits, &document, reason))
        return 0;
    const struct json_value *root = json_document_root(document);
    for (size_t i = 0; root->type == JSON_OBJECT && i < command_count(); i++)
        try_command(command_at(i), root);
    json_document_free(document, false);
    return 0;
}
