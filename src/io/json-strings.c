/* SPDX-License-Identifier: MIT */
#include "io/json-strings.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/byte-set.h"
#include "base/utf8.h"
#include "io/json.h"

/*
 * Stand-ins for what yajl would not take in a string. One byte for what has an escape of two (and
 * for the double quote, which is but one byte in a 'single-quoted string'); two for the other
 * control characters, whose escapes have six.
 */
enum {
    STAND_IN_FIRST = 0xf5, /* UTF-8 has nothing from here */
    STAND_IN_QUOTE = STAND_IN_FIRST,
    STAND_IN_BACKSLASH,
    STAND_IN_BACKSPACE,
    STAND_IN_FORM_FEED,
    STAND_IN_NEWLINE,
    STAND_IN_RETURN,
    STAND_IN_TAB,
    STAND_IN_CONTROL, /* the control character follows, with its highest bit set */
};

static const char stood_for[] = {'"', '\\', '\b', '\f', '\n', '\r', '\t'};

static const struct byte_set stand_ins = {{STAND_IN_FIRST, STAND_IN_FIRST}, 0, STAND_IN_FIRST};

/* What in a string is not to be taken as it is. */
static const struct byte_set special = {{'"', '\\'}, 0x20, 0x80};
static const struct byte_set special_in_single_quotes = {{'\'', '\\'}, '"' + 1, 0x80};

/* The text being rewritten: read at `in`, written at `out`, which never overtakes. */
struct rewrite {
    char *in;
    char *out;
    char *end;
    bool stand_ins; /* some were put */
    char *reason;
};

static int refuse(struct rewrite *rewrite, const char *what)
{
    snprintf(rewrite->reason, JSON_REASON_MAX, "JSON parse error, %s", what);
    return -EBADMSG;
}

static void put(struct rewrite *rewrite, char byte)
{
    *rewrite->out++ = byte;
}

/* Copies the next `length` bytes as they are. */
static void copy(struct rewrite *rewrite, size_t length)
{
    if (rewrite->out != rewrite->in)
        memmove(rewrite->out, rewrite->in, length);
    rewrite->in += length;
    rewrite->out += length;
}

static void put_stand_in(struct rewrite *rewrite, int stand_in)
{
    rewrite->stand_ins = true;
    put(rewrite, (char)stand_in);
}

static void put_code_point(struct rewrite *rewrite, uint32_t code_point)
{
    if (code_point < 0x80) {
        const char *special_case = memchr(stood_for, (int)code_point, sizeof(stood_for));
        if (special_case) {
            put_stand_in(rewrite, STAND_IN_FIRST + (int)(special_case - stood_for));
        } else if (code_point < 0x20) {
            put_stand_in(rewrite, STAND_IN_CONTROL);
            put(rewrite, (char)(0x80 | code_point));
        } else {
            put(rewrite, (char)code_point);
        }
        return;
    }
    if (code_point < 0x800) {
        put(rewrite, (char)(0xc0 | code_point >> 6));
    } else {
        if (code_point < 0x10000) {
            put(rewrite, (char)(0xe0 | code_point >> 12));
        } else {
            put(rewrite, (char)(0xf0 | code_point >> 18));
            put(rewrite, (char)(0x80 | (code_point >> 12 & 0x3f)));
        }
        put(rewrite, (char)(0x80 | (code_point >> 6 & 0x3f)));
    }
    put(rewrite, (char)(0x80 | (code_point & 0x3f)));
}

/* Reads XXXX of \uXXXX at `digits`. Returns false if that is not what stands there. */
static bool read_unit(const char *digits, const char *end, uint32_t *ret_unit)
{
    uint32_t unit = 0;

    if (end - digits < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char digit = digits[i];
        uint32_t value;
        if (digit >= '0' && digit <= '9')
            value = (uint32_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = (uint32_t)(digit - 'a') + 10;
        else if (digit >= 'A' && digit <= 'F')
            value = (uint32_t)(digit - 'A') + 10;
        else
            return false;
        unit = unit << 4 | value;
    }
    *ret_unit = unit;
    return true;
}

/* \uXXXX, or a pair of them for what is above U+FFFF. */
static int rewrite_unicode_escape(struct rewrite *rewrite)
{
    const char *at = rewrite->in;
    uint32_t unit, low;

    if (!read_unit(at + 2, rewrite->end, &unit))
        return refuse(rewrite, "invalid escape sequence in string");
    rewrite->in += 6;
    if (unit >= 0xd800 && unit < 0xdc00 && rewrite->end - at >= 8 && at[6] == '\\' &&
        at[7] == 'u' && read_unit(at + 8, rewrite->end, &low) && low >= 0xdc00 && low < 0xe000) {
        rewrite->in += 6;
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    if (unit >= 0xd800 && unit < 0xe000) {
        snprintf(rewrite->reason, JSON_REASON_MAX,
                 "JSON parse error, \\u%.4s is not a valid Unicode character", at + 2);
        return -EBADMSG;
    }
    put_code_point(rewrite, unit);
    return 0;
}

static int rewrite_escape(struct rewrite *rewrite)
{
    /* \' is not JSON's, but the classic agent takes it. */
    static const char escaped[] = "\"\\/'bfnrt", meant[] = "\"\\/'\b\f\n\r\t";

    if (rewrite->end - rewrite->in < 2)
        return refuse(rewrite, "unterminated string");
    char what = rewrite->in[1];
    if (what == 'u')
        return rewrite_unicode_escape(rewrite);
    const char *found = what ? strchr(escaped, what) : NULL;
    if (!found)
        return refuse(rewrite, "invalid escape sequence in string");
    rewrite->in += 2;
    put_code_point(rewrite, (unsigned char)meant[found - escaped]);
    return 0;
}

/* The characters beyond ASCII that stand next. */
static int copy_characters(struct rewrite *rewrite)
{
    while (rewrite->in < rewrite->end && (unsigned char)*rewrite->in >= 0x80) {
        uint32_t code_point;
        size_t length = utf8_decode(rewrite->in, (size_t)(rewrite->end - rewrite->in), &code_point);
        if (length == 0)
            return refuse(rewrite, "invalid UTF-8 sequence in string");
        copy(rewrite, length);
    }
    return 0;
}

/* The one byte that stands next and is in the set that is looked for. */
static int rewrite_special(struct rewrite *rewrite)
{
    char byte = *rewrite->in;

    if (byte == '\\')
        return rewrite_escape(rewrite);
    if ((unsigned char)byte >= 0x80)
        return copy_characters(rewrite);
    if ((unsigned char)byte < 0x20)
        return refuse(rewrite, "control character in string");
    rewrite->in++;
    if (byte == '"')
        put_stand_in(rewrite, STAND_IN_QUOTE);
    else
        put(rewrite, byte);
    return 0;
}

/* The string whose opening quote stands next. Returns 0 or -EBADMSG. */
static int rewrite_string(struct rewrite *rewrite)
{
    const char quote = *rewrite->in;
    const struct byte_set *set = quote == '"' ? &special : &special_in_single_quotes;

    rewrite->out = rewrite->in++;
    put(rewrite, '"');
    for (;;) {
        copy(rewrite, byte_set_find(set, rewrite->in, (size_t)(rewrite->end - rewrite->in)));
        if (rewrite->in == rewrite->end)
            return refuse(rewrite, "unterminated string");
        if (*rewrite->in == quote)
            break;
        int r = rewrite_special(rewrite);
        if (r < 0)
            return r;
    }
    rewrite->in++;
    put(rewrite, '"');
    memset(rewrite->out, ' ', (size_t)(rewrite->in - rewrite->out));
    return 0;
}

int json_strings_prepare(char *text, size_t length, bool *ret_rewritten, char *ret_reason)
{
    struct rewrite rewrite = {.in = text, .end = text + length, .reason = ret_reason};

    while (rewrite.in < rewrite.end) {
        char byte = *rewrite.in;
        if (byte == '"' || byte == '\'') {
            int r = rewrite_string(&rewrite);
            if (r < 0)
                return r;
            continue;
        }
        if ((unsigned char)byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r')
            return refuse(&rewrite, "stray control character");
        rewrite.in++;
    }
    *ret_rewritten = rewrite.stand_ins;
    return 0;
}

size_t json_strings_restore(char *text, size_t length)
{
    size_t in = 0, out = 0;

    for (;;) {
        size_t plain = byte_set_find(&stand_ins, text + in, length - in);
        if (in != out)
            memmove(text + out, text + in, plain);
        in += plain;
        out += plain;
        if (in == length)
            return out;
        unsigned char stand_in = (unsigned char)text[in++];
        if (stand_in < STAND_IN_CONTROL)
            text[out++] = stood_for[stand_in - STAND_IN_FIRST];
        else
            text[out++] = text[in++] & 0x7f;
    }
}
