/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include "base/byte-set.h"

/* What the first byte of a character of several bytes says. */
struct utf8_form {
    unsigned char first, last; /* first bytes of this form */
    unsigned char length;
    unsigned char payload;                   /* mask of the first byte's bits of the code point */
    unsigned char second_least, second_most; /* what keeps overlong forms and surrogates out */
};

/* The table of RFC 3629 section 4, row by row. */
static const struct utf8_form forms[] = {
    {0xc2, 0xdf, 2, 0x1f, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0x0f, 0xa0, 0xbf},
    {0xe1, 0xec, 3, 0x0f, 0x80, 0xbf}, {0xed, 0xed, 3, 0x0f, 0x80, 0x9f},
    {0xee, 0xef, 3, 0x0f, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x07, 0x90, 0xbf},
    {0xf1, 0xf3, 4, 0x07, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x07, 0x80, 0x8f},
};

static const struct utf8_form *form_of(unsigned char first)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (first <= forms[i].last)
            return first >= forms[i].first ? &forms[i] : NULL;
    return NULL;
}

size_t utf8_decode(const char *text, size_t length, uint32_t *ret_code_point)
{
    const unsigned char *bytes = (const unsigned char *)text;

    if (bytes[0] < 0x80) {
        *ret_code_point = bytes[0];
        return 1;
    }
    const struct utf8_form *form = form_of(bytes[0]);
    if (!form || form->length > length || bytes[1] < form->second_least ||
        bytes[1] > form->second_most)
        return 0;

    uint32_t code_point = bytes[0] & form->payload;
    for (size_t i = 1; i < form->length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        code_point = code_point << 6 | (bytes[i] & 0x3f);
    }
    *ret_code_point = code_point;
    return form->length;
}

size_t utf8_valid_prefix(const char *text, size_t length)
{
    static const struct byte_set not_ascii = {{0x80, 0x80}, 0, 0x80};
    size_t at = 0;

    while (at < length) {
        uint32_t code_point;
        size_t character = utf8_decode(text + at, length - at, &code_point);
        if (character == 0)
            break;
        at += character;
        if (character == 1)
            at += byte_set_find(&not_ascii, text + at, length - at);
    }
    return at;
}
