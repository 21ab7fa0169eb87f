/* SPDX-License-Identifier: MIT */
#include "base/base64.h"

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/*
 * Every file that is copied passes through here, so both directions are table driven: encoding
 * looks up 12 bits (two characters) at a time, decoding one character in a table that has its bits
 * already where they belong. The tables are constants: nothing to initialise, nothing to race for.
 */

/* clang-format off */
/* X(character, value) for the whole alphabet. */
#define ALPHABET(X)                                                                                \
    X('A', 0) X('B', 1) X('C', 2) X('D', 3) X('E', 4) X('F', 5) X('G', 6) X('H', 7)                \
    X('I', 8) X('J', 9) X('K', 10) X('L', 11) X('M', 12) X('N', 13) X('O', 14) X('P', 15)          \
    X('Q', 16) X('R', 17) X('S', 18) X('T', 19) X('U', 20) X('V', 21) X('W', 22) X('X', 23)        \
    X('Y', 24) X('Z', 25) X('a', 26) X('b', 27) X('c', 28) X('d', 29) X('e', 30) X('f', 31)        \
    X('g', 32) X('h', 33) X('i', 34) X('j', 35) X('k', 36) X('l', 37) X('m', 38) X('n', 39)        \
    X('o', 40) X('p', 41) X('q', 42) X('r', 43) X('s', 44) X('t', 45) X('u', 46) X('v', 47)        \
    X('w', 48) X('x', 49) X('y', 50) X('z', 51) X('0', 52) X('1', 53) X('2', 54) X('3', 55)        \
    X('4', 56) X('5', 57) X('6', 58) X('7', 59) X('8', 60) X('9', 61) X('+', 62) X('/', 63)

/* The same once more: a macro does not expand inside itself. */
#define PAIRS_WITH(a)                                                                              \
    {a, 'A'}, {a, 'B'}, {a, 'C'}, {a, 'D'}, {a, 'E'}, {a, 'F'}, {a, 'G'}, {a, 'H'}, {a, 'I'},      \
        {a, 'J'}, {a, 'K'}, {a, 'L'}, {a, 'M'}, {a, 'N'}, {a, 'O'}, {a, 'P'}, {a, 'Q'}, {a, 'R'},  \
        {a, 'S'}, {a, 'T'}, {a, 'U'}, {a, 'V'}, {a, 'W'}, {a, 'X'}, {a, 'Y'}, {a, 'Z'}, {a, 'a'},  \
        {a, 'b'}, {a, 'c'}, {a, 'd'}, {a, 'e'}, {a, 'f'}, {a, 'g'}, {a, 'h'}, {a, 'i'}, {a, 'j'},  \
        {a, 'k'}, {a, 'l'}, {a, 'm'}, {a, 'n'}, {a, 'o'}, {a, 'p'}, {a, 'q'}, {a, 'r'}, {a, 's'},  \
        {a, 't'}, {a, 'u'}, {a, 'v'}, {a, 'w'}, {a, 'x'}, {a, 'y'}, {a, 'z'}, {a, '0'}, {a, '1'},  \
        {a, '2'}, {a, '3'}, {a, '4'}, {a, '5'}, {a, '6'}, {a, '7'}, {a, '8'}, {a, '9'}, {a, '+'},  \
        {a, '/'},
/* clang-format on */

#define ENCODE_ROW(character, value) PAIRS_WITH(character)
static const char pairs[4096][2] = {ALPHABET(ENCODE_ROW)};

/*
 * One table for each place in a group of four characters. A character of the alphabet carries a
 * flag, a foreign one is 0, so one comparison says whether all of a group are good.
 */
#define GOOD                       0x80000000u
#define DECODE_0(character, value) [character] = GOOD | (value##u << 18),
#define DECODE_1(character, value) [character] = GOOD >> 1 | (value##u << 12),
#define DECODE_2(character, value) [character] = GOOD >> 2 | (value##u << 6),
#define DECODE_3(character, value) [character] = GOOD >> 3 | value##u,
#define ALL_GOOD                   0xf0000000u
static const uint32_t places[4][256] = {
    {ALPHABET(DECODE_0)}, {ALPHABET(DECODE_1)}, {ALPHABET(DECODE_2)}, {ALPHABET(DECODE_3)}};

static void put_pair(char *text, uint64_t bits)
{
    memcpy(text, pairs[bits & 0xfff], 2);
}

/* 1 to 3 bytes to 4 characters. */
static void encode_group(char *text, const unsigned char *bytes, size_t length)
{
    uint32_t bits = (uint32_t)bytes[0] << 16;
    if (length > 1)
        bits |= (uint32_t)bytes[1] << 8;
    if (length > 2)
        bits |= bytes[2];
    put_pair(text, bits >> 12);
    put_pair(text + 2, bits);
    if (length < 3)
        text[3] = '=';
    if (length < 2)
        text[2] = '=';
}

void base64_encode(char *text, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    /* 6 bytes to 8 characters; the load takes 8, so as long as there are that many. */
    for (; length >= 8; length -= 6, at += 6, text += 8) {
        uint64_t bits;
        memcpy(&bits, at, sizeof(bits));
        bits = be64toh(bits);
        put_pair(text, bits >> 52);
        put_pair(text + 2, bits >> 40);
        put_pair(text + 4, bits >> 28);
        put_pair(text + 6, bits >> 16);
    }
    while (length > 0) {
        size_t group = length < 3 ? length : 3;
        encode_group(text, at, group);
        at += group;
        text += 4;
        length -= group;
    }
}

static uint32_t decode_group(const unsigned char *characters)
{
    return places[0][characters[0]] | places[1][characters[1]] | places[2][characters[2]] |
           places[3][characters[3]];
}

/*
 * Decodes groups for as long as they are nothing but alphabet; returns the number of characters.
 * Of the 8 bytes stored for each 8 characters 6 count: the store never passes what was read.
 */
static size_t decode_blocks(char *out, const unsigned char *text, size_t length)
{
    size_t at = 0;

    for (; length - at >= 8; at += 8, out += 6) {
        uint32_t high = decode_group(text + at), low = decode_group(text + at + 4);
        if ((high & low & ALL_GOOD) != ALL_GOOD)
            break;
        uint64_t bits =
            htobe64((uint64_t)(high & 0xffffff) << 40 | (uint64_t)(low & 0xffffff) << 16);
        memcpy(out, &bits, sizeof(bits));
    }
    return at;
}

/*
 * Collects the next four characters, newlines passed over. Returns how many there were before the
 * end of the text, and where it stands then.
 */
static size_t collect_group(const unsigned char *text, size_t length, size_t *at,
                            unsigned char group[4])
{
    size_t count = 0;

    for (; *at < length && count < 4; (*at)++)
        if (text[*at] != '\n')
            group[count++] = text[*at];
    return count;
}

/* The last group, one or two '=' at its end. Returns its bytes' number, or 0 if it is not one. */
static size_t decode_padded(char *out, unsigned char group[4])
{
    size_t length = group[2] == '=' ? 1 : 2;

    for (size_t i = length + 1; i < 4; i++) {
        if (group[i] != '=')
            return 0;
        group[i] = 'A';
    }
    uint32_t bits = decode_group(group);
    if ((bits & ALL_GOOD) != ALL_GOOD)
        return 0;
    out[0] = (char)(bits >> 16);
    if (length == 2)
        out[1] = (char)(bits >> 8);
    return length;
}

int base64_decode_in_place(char *text, size_t length, size_t *ret_length)
{
    const unsigned char *characters = (const unsigned char *)text;
    size_t at = 0, decoded = 0;
    bool ended = false;

    while (at < length) {
        unsigned char group[4];

        if (!ended) {
            size_t fast = decode_blocks(text + decoded, characters + at, length - at);
            at += fast;
            decoded += fast / 4 * 3;
        }
        size_t count = collect_group(characters, length, &at, group);
        if (count == 0)
            break;
        if (count < 4 || ended)
            return -EINVAL;
        if (group[3] == '=') {
            size_t bytes = decode_padded(text + decoded, group);
            if (bytes == 0)
                return -EINVAL;
            decoded += bytes;
            ended = true;
            continue;
        }
        uint32_t bits = decode_group(group);
        if ((bits & ALL_GOOD) != ALL_GOOD)
            return -EINVAL;
        text[decoded++] = (char)(bits >> 16);
        text[decoded++] = (char)(bits >> 8);
        text[decoded++] = (char)bits;
    }
    *ret_length = decoded;
    return 0;
}
