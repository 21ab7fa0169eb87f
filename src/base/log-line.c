/* SPDX-License-Identifier: MIT */
#include "base/log-line.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const char cut_mark[] = "[...]";

static bool is_plain(uint32_t character)
{
    if (character < 0x20 || (character >= 0x7f && character < 0xa0))
        return false; /* C0, DEL and C1: the latter drive terminals as ESC does */
    if (character == 0x2028 || character == 0x2029)
        return false; /* viewers break lines there */
    /* The bidirectional controls let a text pretend to be what stands around it. */
    return character != 0x061c && character != 0x200e && character != 0x200f &&
           !(character >= 0x202a && character <= 0x202e) &&
           !(character >= 0x2066 && character <= 0x2069);
}

/* Writes one character of `size` bytes, or its escapes; returns the length written. */
static size_t put_character(char *out, const char *text, size_t size, bool plain)
{
    static const char digits[] = "0123456789abcdef";

    if (plain) {
        memcpy(out, text, size);
        return size;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        const char escape[4] = {'\\', 'x', digits[byte >> 4], digits[byte & 0xf]};
        memcpy(out + 4 * i, escape, sizeof(escape));
    }
    return 4 * size;
}

static size_t escape_text(char *out, const char *text, size_t length, bool cut)
{
    size_t used = 0;
    size_t mark_at = 0; /* the last place where the mark of a cut still fits */

    for (size_t at = 0; at < length;) {
        uint32_t character = 0;
        size_t size = utf8_decode(text + at, length - at, &character);
        bool plain = size > 0 && is_plain(character);
        size = size > 0 ? size : 1;
        size_t needed = plain ? size : 4 * size;

        if (used + needed > LOG_TEXT_MAX) {
            cut = true;
            break;
        }
        used += put_character(out + used, text + at, size, plain);
        at += size;
        if (used + strlen(cut_mark) <= LOG_TEXT_MAX)
            mark_at = used;
    }
    if (cut) {
        memcpy(out + mark_at, cut_mark, strlen(cut_mark));
        used = mark_at + strlen(cut_mark);
    }
    out[used] = '\0';
    return used;
}

size_t log_line_text(char ret_text[LOG_TEXT_MAX + 1], const char *format, va_list arguments)
{
    char raw[LOG_TEXT_MAX + 1];
    int full = vsnprintf(raw, sizeof(raw), format, arguments);
    bool cut = false;
    size_t length;

    if (full < 0)
        length = (size_t)snprintf(raw, sizeof(raw), "(a log record that cannot be formatted)");
    else
        length = (size_t)full;
    if (length >= sizeof(raw)) {
        cut = true;
        length = sizeof(raw) - 1;
        /* Not in the middle of a character, which would look like invalid UTF-8. */
        for (size_t back = 0; back < 4 && length > back; back++) {
            if (((unsigned char)raw[length - back - 1] & 0xc0) != 0x80) {
                uint32_t character;
                if (utf8_decode(raw + length - back - 1, back + 1, &character) == 0)
                    length -= back + 1;
                break;
            }
        }
    }
    return escape_text(ret_text, raw, length, cut);
}

enum { DAY_S = 24 * 60 * 60 };

static int64_t floor_days(time_t time)
{
    return time / DAY_S - (time % DAY_S < 0);
}

/*
 * The Gregorian date. Not by gmtime_r(), which has the C library look after the time zone: for a
 * log line that is too much, and it does so while a command is reading it.
 *
 * Counted in years that begin in March, so that the leap day is the last one, and in eras of 400
 * years, which all have the same number of days.
 */
static void date_of(time_t time, int *ret_year, int *ret_month, int *ret_day)
{
    enum { ERA_DAYS = 146097, DAYS_TO_1970 = 719468 /* since March 1st of the year 0 */ };
    int64_t days = floor_days(time) + DAYS_TO_1970;
    int64_t era = days / ERA_DAYS - (days % ERA_DAYS < 0);
    int day_of_era = (int)(days - era * ERA_DAYS);
    int year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int month_from_march = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    *ret_month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    *ret_year = (int)(era * 400) + year_of_era + (*ret_month <= 2);
}

size_t log_line_format(char ret_line[LOG_LINE_MAX], const struct timespec *time,
                       enum log_level level, const char *text, size_t length)
{
    static const char *const names[] = {
        [LOG_ERROR] = "error",
        [LOG_WARNING] = "warning",
        [LOG_INFO] = "info",
        [LOG_DEBUG] = "debug",
    };
    int year, month, day;
    date_of(time->tv_sec, &year, &month, &day);
    long second = (long)(time->tv_sec - floor_days(time->tv_sec) * DAY_S);
    size_t used = (size_t)snprintf(
        ret_line, LOG_LINE_MAX, "%04d-%02d-%02dT%02ld:%02ld:%02ld.%03ldZ %s: ", year, month, day,
        second / 3600, second / 60 % 60, second % 60, time->tv_nsec / 1000000, names[level]);
    if (length > LOG_LINE_MAX - 1 - used)
        length = LOG_LINE_MAX - 1 - used;
    memcpy(ret_line + used, text, length);
    ret_line[used + length] = '\n';
    return used + length + 1;
}
