/* SPDX-License-Identifier: MIT */
#include "io/grammar.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/byte-set.h"

/* A backslash inside a string needs a look too, and a control character of either kind. */
static const struct byte_set in_double_quotes = {{'"', '\\'}, 0x20, 0xff};
static const struct byte_set in_single_quotes = {{'\'', '\\'}, 0x20, 0xff};

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool continues_word(char byte)
{
    return is_letter(byte) || is_digit(byte) || byte == '+' || byte == '-' || byte == '.';
}

static enum grammar_step fault(struct grammar *grammar, const char *format, ...) PRINTF_LIKE(2, 3);

static enum grammar_step fault(struct grammar *grammar, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(grammar->reason, sizeof(grammar->reason), format, arguments);
    va_end(arguments);
    return STEP_FAULT;
}

static bool innermost_is_object(const struct grammar *grammar)
{
    size_t level = grammar->depth - 1;
    return grammar->is_object[level / 8] >> level % 8 & 1;
}

static enum grammar_step after_value(struct grammar *grammar)
{
    grammar->expects = EXPECTS_SEPARATOR;
    return grammar->depth == 0 ? STEP_ENDS : STEP_TAKEN;
}

static enum grammar_step refuse(struct grammar *grammar, char byte)
{
    switch (grammar->expects) {
    case EXPECTS_NAME:
    case EXPECTS_NAME_OR_END:
        if (byte == ',' || byte == ':' || byte == ']' || byte == '}')
            break;
        return fault(grammar, "JSON parse error, key is not a string in object");
    case EXPECTS_COLON:
        return fault(grammar, "JSON parse error, missing : in object pair");
    case EXPECTS_SEPARATOR:
        return fault(grammar, "JSON parse error, expected separator in %s",
                     innermost_is_object(grammar) ? "dict" : "list");
    case EXPECTS_VALUE:
    case EXPECTS_VALUE_OR_END:
        break;
    }
    return fault(grammar, "JSON parse error, expecting value");
}

static bool expects_value(const struct grammar *grammar)
{
    return grammar->expects == EXPECTS_VALUE || grammar->expects == EXPECTS_VALUE_OR_END;
}

static enum grammar_step open_bracket(struct grammar *grammar, char byte)
{
    if (!expects_value(grammar))
        return refuse(grammar, byte);
    if (grammar->depth == grammar->depth_max)
        return fault(grammar, "JSON nesting depth limit exceeded");

    size_t level = grammar->depth++;
    unsigned char bit = (unsigned char)(1u << level % 8);
    if (byte == '{')
        grammar->is_object[level / 8] |= bit;
    else
        grammar->is_object[level / 8] &= (unsigned char)~bit;
    grammar->expects = byte == '{' ? EXPECTS_NAME_OR_END : EXPECTS_VALUE_OR_END;
    return STEP_TAKEN;
}

static enum grammar_step close_bracket(struct grammar *grammar, char byte)
{
    bool may_end = grammar->expects == EXPECTS_SEPARATOR ||
                   grammar->expects == EXPECTS_NAME_OR_END ||
                   grammar->expects == EXPECTS_VALUE_OR_END;

    if (!may_end || innermost_is_object(grammar) != (byte == '}'))
        return refuse(grammar, byte);
    grammar->depth--;
    return after_value(grammar);
}

static enum grammar_step open_string(struct grammar *grammar, char byte)
{
    if (grammar->expects == EXPECTS_COLON || grammar->expects == EXPECTS_SEPARATOR)
        return refuse(grammar, byte);
    grammar->lexeme = LEXEME_STRING;
    grammar->quote = byte;
    return STEP_TAKEN;
}

static enum grammar_step close_string(struct grammar *grammar)
{
    grammar->lexeme = LEXEME_NONE;
    if (expects_value(grammar))
        return after_value(grammar);
    grammar->expects = EXPECTS_COLON;
    return STEP_TAKEN;
}

static enum grammar_step stray(struct grammar *grammar, char byte)
{
    if (byte == '\0' || (unsigned char)byte >= 0x80)
        return fault(grammar, "JSON parse error, stray '\xef\xbf\xbd'"); /* U+FFFD */
    return fault(grammar, "JSON parse error, stray '%c'", byte);
}

/* A byte outside of any string, number or word. */
static enum grammar_step step_structure(struct grammar *grammar, char byte)
{
    if (is_space(byte))
        return STEP_TAKEN;
    switch (byte) {
    case '{':
    case '[':
        return open_bracket(grammar, byte);
    case '}':
    case ']':
        return close_bracket(grammar, byte);
    case '"':
    case '\'':
        return open_string(grammar, byte);
    case ':':
        if (grammar->expects != EXPECTS_COLON)
            return refuse(grammar, byte);
        grammar->expects = EXPECTS_VALUE;
        return STEP_TAKEN;
    case ',':
        if (grammar->expects != EXPECTS_SEPARATOR)
            return refuse(grammar, byte);
        grammar->expects = innermost_is_object(grammar) ? EXPECTS_NAME : EXPECTS_VALUE;
        return STEP_TAKEN;
    default:
        break;
    }
    if (is_digit(byte) || byte == '-') {
        if (!expects_value(grammar))
            return refuse(grammar, byte);
        grammar->lexeme = LEXEME_NUMBER;
        return STEP_TAKEN;
    }
    if (is_letter(byte)) {
        grammar->lexeme = LEXEME_WORD;
        grammar->word[0] = byte;
        grammar->word_length = 1;
        return STEP_TAKEN;
    }
    return stray(grammar, byte);
}

static enum grammar_step step_string(struct grammar *grammar, char byte)
{
    if ((unsigned char)byte < 0x20)
        return fault(grammar, "JSON parse error, control character in string");
    if (grammar->lexeme == LEXEME_ESCAPE)
        grammar->lexeme = LEXEME_STRING;
    else if (byte == '\\')
        grammar->lexeme = LEXEME_ESCAPE;
    else if (byte == grammar->quote)
        return close_string(grammar);
    return STEP_TAKEN;
}

/* A word is named before its place is: {bad} is about "bad", as it is for the classic agent. */
static enum grammar_step end_word(struct grammar *grammar)
{
    const char *word = grammar->word;

    grammar->word[grammar->word_length] = '\0';
    if (strcmp(word, "true") != 0 && strcmp(word, "false") != 0 && strcmp(word, "null") != 0)
        return fault(grammar, "JSON parse error, invalid keyword '%s'", word);
    if (!expects_value(grammar))
        return refuse(grammar, word[0]);
    return after_value(grammar);
}

/* Numbers and words end where something else begins, and that byte is then looked at again. */
static enum grammar_step step_bare(struct grammar *grammar, char byte)
{
    bool is_word = grammar->lexeme == LEXEME_WORD;

    if (continues_word(byte)) {
        if (!is_word)
            return STEP_TAKEN;
        grammar->word[grammar->word_length++] = byte;
        return grammar->word_length < GRAMMAR_WORD_MAX ? STEP_TAKEN : end_word(grammar);
    }
    grammar->lexeme = LEXEME_NONE;
    enum grammar_step ended = is_word ? end_word(grammar) : after_value(grammar);
    if (ended == STEP_FAULT)
        return STEP_FAULT;
    return ended == STEP_ENDS ? STEP_ENDED : step_structure(grammar, byte);
}

enum grammar_step grammar_step(struct grammar *grammar, char byte)
{
    switch (grammar->lexeme) {
    case LEXEME_NONE:
        return step_structure(grammar, byte);
    case LEXEME_STRING:
    case LEXEME_ESCAPE:
        return step_string(grammar, byte);
    case LEXEME_NUMBER:
    case LEXEME_WORD:
        break;
    }
    return step_bare(grammar, byte);
}

size_t grammar_pass_string(const struct grammar *grammar, const char *bytes, size_t length)
{
    if (grammar->lexeme != LEXEME_STRING)
        return 0;
    return byte_set_find(grammar->quote == '"' ? &in_double_quotes : &in_single_quotes, bytes,
                         length);
}

bool grammar_is_in_string(const struct grammar *grammar)
{
    return grammar->lexeme == LEXEME_STRING || grammar->lexeme == LEXEME_ESCAPE;
}

bool grammar_ends_before(const struct grammar *grammar, char byte)
{
    bool bare = grammar->lexeme == LEXEME_NUMBER || grammar->lexeme == LEXEME_WORD;
    return bare && grammar->depth == 0 && !continues_word(byte);
}

bool grammar_skip_byte(struct grammar *grammar, char byte)
{
    if (grammar->lexeme == LEXEME_ESCAPE) {
        grammar->lexeme = LEXEME_STRING;
    } else if (grammar->lexeme == LEXEME_STRING) {
        if (byte == '\\')
            grammar->lexeme = LEXEME_ESCAPE;
        else if (byte == grammar->quote)
            grammar->lexeme = LEXEME_NONE;
    } else if (byte == '"' || byte == '\'') {
        grammar->lexeme = LEXEME_STRING;
        grammar->quote = byte;
    } else {
        grammar->lexeme = LEXEME_NONE;
        if (byte == '{' || byte == '[')
            grammar->depth++;
        else if (byte == '}' || byte == ']')
            return grammar->depth <= 1 || --grammar->depth == 0;
    }
    return false;
}

int grammar_init(struct grammar *grammar, size_t depth_max)
{
    *grammar = (struct grammar){.depth_max = depth_max};
    grammar->is_object = calloc(depth_max / 8 + 1, 1);
    return grammar->is_object ? 0 : -ENOMEM;
}

void grammar_deinit(struct grammar *grammar)
{
    free(grammar->is_object);
    grammar->is_object = NULL;
}

void grammar_reset(struct grammar *grammar)
{
    grammar->expects = EXPECTS_VALUE;
    grammar->lexeme = LEXEME_NONE;
    grammar->depth = 0;
}
