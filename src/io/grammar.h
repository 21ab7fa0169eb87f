/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_GRAMMAR_H
#define BELLHOP_IO_GRAMMAR_H

/*
 * Follows JSON texts byte by byte: where one ends, and that brackets, names, colons and commas come
 * in the right order. All it knows between two bytes is in the struct, so it makes no difference
 * how the bytes arrive. Strings may stand in single quotes, as for the classic agent. Numbers,
 * escapes and UTF-8 are not looked into. Not thread safe.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/* What may come next, inside a text or at the start of one. */
enum grammar_expectation {
    EXPECTS_VALUE,
    EXPECTS_VALUE_OR_END, /* after '[' */
    EXPECTS_NAME,         /* after ',' in an object */
    EXPECTS_NAME_OR_END,  /* after '{' */
    EXPECTS_COLON,
    EXPECTS_SEPARATOR, /* ',' or the closing bracket */
};

enum grammar_lexeme {
    LEXEME_NONE,
    LEXEME_STRING,
    LEXEME_ESCAPE, /* in a string, after a backslash */
    LEXEME_NUMBER, /* and whatever else hangs on to it: 12abc */
    LEXEME_WORD,
};

/* Words longer than this are not waited for; they are none of the three that JSON has. */
#define GRAMMAR_WORD_MAX 40

#define GRAMMAR_REASON_MAX 160

struct grammar {
    /* Where it stands. */
    enum grammar_expectation expects;
    enum grammar_lexeme lexeme; /* the unfinished one */
    char quote;                 /* that the string began with */
    char word[GRAMMAR_WORD_MAX + 1];
    size_t word_length;
    size_t depth;             /* brackets open */
    unsigned char *is_object; /* a bit for each of them: '{' rather than '[' */

    size_t depth_max;                /* immutable after init */
    char reason[GRAMMAR_REASON_MAX]; /* of the last fault, for the client */
};

/* What one byte does to the text. */
enum grammar_step {
    STEP_TAKEN,
    STEP_ENDS,  /* taken, and the text ends with it */
    STEP_ENDED, /* not taken: the text ended before it */
    STEP_FAULT, /* not taken, and `reason` says why */
};

/* Returns 0 or -ENOMEM. */
int grammar_init(struct grammar *grammar, size_t depth_max) MUST_CHECK;
void grammar_deinit(struct grammar *grammar);

/* Back to where no text has begun. */
void grammar_reset(struct grammar *grammar);

/* Once a text has ended or is at fault, the next call has to be grammar_reset() or _skip_byte(). */
enum grammar_step grammar_step(struct grammar *grammar, char byte);

/* Returns how many of the bytes are inside the unfinished string and would change nothing. */
size_t grammar_pass_string(const struct grammar *grammar, const char *bytes, size_t length);

bool grammar_is_in_string(const struct grammar *grammar);

/* True if grammar_step() would say STEP_ENDED, given that the text is without fault so far. */
bool grammar_ends_before(const struct grammar *grammar, char byte);

/*
 * For a text that is at fault: follows its strings and brackets only, without minding which of them
 * belong together. Returns true if the byte closes the last bracket that is open (or none is).
 */
bool grammar_skip_byte(struct grammar *grammar, char byte);

#endif
