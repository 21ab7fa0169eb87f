/* SPDX-License-Identifier: MIT */
#include "client/request.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

/* One word of the command line, cut at its sign. */
struct word {
    const char *key;
    size_t key_length;
    enum { WORD_GUESS, WORD_STRING, WORD_JSON } kind;
    const char *value;
};

void request_deinit(struct request *request)
{
    buffer_deinit(&request->text);
}

struct json_writer *request_begin(struct request *request, const char *command)
{
    request->command = command;
    buffer_truncate(&request->text, 0);
    request->writer = (struct json_writer)JSON_WRITER_INIT(&request->text);
    json_begin_object(&request->writer);
    json_member_string(&request->writer, "execute", command);
    json_name(&request->writer, "arguments");
    json_begin_object(&request->writer);
    return &request->writer;
}

void request_end(struct request *request)
{
    json_end_object(&request->writer);
    json_end_object(&request->writer);
    buffer_append_char(&request->text, '\n');
}

static bool word_parse(const char *text, struct word *ret_word)
{
    const char *sign = strchr(text, '=');
    struct word word = {.key = text};

    if (!sign)
        return false;
    word.value = sign + 1;
    if (sign > text && sign[-1] == ':') {
        word.kind = WORD_JSON;
        sign--;
    } else if (sign[1] == '=') {
        word.kind = WORD_STRING;
        word.value++;
    }
    word.key_length = (size_t)(sign - text);
    if (word.key_length == 0)
        return false;
    *ret_word = word;
    return true;
}

/* Returns NULL with the reason if the text is no JSON. */
static struct json_document *parse_json(const char *text, char ret_reason[JSON_REASON_MAX])
{
    static const struct json_limits limits = {.depth_max = 128, .values_max = 1000000};
    struct json_document *document;
    char *copy = strdup(text);

    if (!copy) {
        strcpy(ret_reason, "out of memory");
        return NULL;
    }
    if (json_document_parse_take(copy, strlen(copy), &limits, &document, ret_reason) < 0)
        return NULL;
    return document;
}

static enum outcome add_value(struct request *request, const struct word *word)
{
    char reason[JSON_REASON_MAX] = "out of memory";
    struct json_document *document = NULL;
    const struct json_value *value = NULL;

    if (word->kind != WORD_STRING) {
        document = parse_json(word->value, reason);
        if (!document && word->kind == WORD_JSON) {
            report("the value of '%.*s' is not JSON: %s", (int)word->key_length, word->key, reason);
            return OUTCOME_USAGE;
        }
    }
    if (document)
        value = json_document_root(document);
    /* A word in quotes is more likely meant as it stands than as JSON. */
    if (value && (word->kind == WORD_JSON || value->type != JSON_STRING))
        json_copy_value(&request->writer, value);
    else
        json_string(&request->writer, word->value);
    json_document_free(document, false);
    return OUTCOME_OK;
}

static enum outcome add_word(struct request *request, char *const *words, size_t index)
{
    struct word word, other;
    char *key;

    if (!word_parse(words[index], &word)) {
        report("'%s' is not of the form KEY=VALUE", words[index]);
        return OUTCOME_USAGE;
    }
    for (size_t i = 0; i < index; i++) {
        if (word_parse(words[i], &other) && other.key_length == word.key_length &&
            memcmp(other.key, word.key, word.key_length) == 0) {
            report("'%.*s' is given twice", (int)word.key_length, word.key);
            return OUTCOME_USAGE;
        }
    }
    key = strndup(word.key, word.key_length);
    if (!key)
        return report_no_memory();
    json_name(&request->writer, key);
    free(key);
    return add_value(request, &word);
}

enum outcome request_add_words(struct request *request, char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum outcome outcome = add_word(request, words, i);

        if (outcome != OUTCOME_OK)
            return outcome;
    }
    return OUTCOME_OK;
}
