/* SPDX-License-Identifier: MIT */
#include "base/hardware-clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/sysroot.h"

/* Longer than one of its seconds. */
enum { SECOND_WAIT_MS = 1200, POLL_MS = 1 };

enum { OPEN_WAIT_MS = 1000, OPEN_RETRY_MS = 20 };

enum { ADJTIME_BYTES_MAX = 4096 };

static void wait_ms(unsigned duration_ms)
{
    struct timespec duration = {.tv_nsec = (long)duration_ms * 1000000};
    (void)nanosleep(&duration, NULL);
}

static int open_any(void)
{
    static const char *const names[] = {"rtc", "rtc0", "misc/rtc"};
    int fd = -ENOENT;
    for (size_t i = 0; i < ARRAY_SIZE(names) && fd == -ENOENT; i++)
        fd = sysroot_open(O_RDONLY, "/dev/%s", names[i]);
    /* A node without a driver. */
    return fd == -ENODEV || fd == -ENXIO ? -ENOENT : fd;
}

int hardware_clock_open(void)
{
    uint64_t end_ms = clock_now_ms() + OPEN_WAIT_MS;
    int fd = open_any();
    while (fd == -EBUSY && clock_now_ms() < end_ms) {
        wait_ms(OPEN_RETRY_MS);
        fd = open_any();
    }
    return fd;
}

bool hardware_clock_is_local(void)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    if (sysroot_read(&text, ADJTIME_BYTES_MAX, "/etc/adjtime") < 0 || text.failed)
        return false;
    /* "UTC" or "LOCAL" is the third line. */
    const char *line = text.data, *end = text.data + text.length;
    for (int i = 0; i < 2 && line; i++) {
        line = memchr(line, '\n', (size_t)(end - line));
        if (line)
            line++;
    }
    return line && end - line >= 5 && memcmp(line, "LOCAL", 5) == 0;
}

int hardware_clock_from_time(time_t time, bool is_local, struct rtc_time *ret_shown)
{
    struct tm tm;
    if (is_local)
        tzset();
    if (!(is_local ? localtime_r(&time, &tm) : gmtime_r(&time, &tm)))
        return -ERANGE;
    *ret_shown = (struct rtc_time){
        .tm_sec = tm.tm_sec,
        .tm_min = tm.tm_min,
        .tm_hour = tm.tm_hour,
        .tm_mday = tm.tm_mday,
        .tm_mon = tm.tm_mon,
        .tm_year = tm.tm_year,
        .tm_wday = tm.tm_wday,
        .tm_yday = tm.tm_yday,
        .tm_isdst = tm.tm_isdst,
    };
    return 0;
}

int hardware_clock_to_time(const struct rtc_time *shown, bool is_local, time_t *ret_time)
{
    struct tm tm = {
        .tm_sec = shown->tm_sec,
        .tm_min = shown->tm_min,
        .tm_hour = shown->tm_hour,
        .tm_mday = shown->tm_mday,
        .tm_mon = shown->tm_mon,
        .tm_year = shown->tm_year,
        .tm_isdst = -1,
    };
    /* timegm() would make a time of anything. */
    if (tm.tm_sec < 0 || tm.tm_sec > 60 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_hour < 0 ||
        tm.tm_hour > 23 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_mon < 0 || tm.tm_mon > 11 ||
        tm.tm_year < 70)
        return -ERANGE;
    if (is_local)
        tzset();
    time_t time = is_local ? mktime(&tm) : timegm(&tm);
    if (time < 0)
        return -ERANGE;
    *ret_time = time;
    return 0;
}

int hardware_clock_read(int fd, struct timespec *ret_time)
{
    struct rtc_time first, shown;
    uint64_t end_ms = clock_now_ms() + SECOND_WAIT_MS;
    if (ioctl(fd, RTC_RD_TIME, &first) < 0)
        return -errno;
    do {
        wait_ms(POLL_MS);
        if (ioctl(fd, RTC_RD_TIME, &shown) < 0)
            return -errno;
        if (clock_now_ms() > end_ms)
            return -EIO;
    } while (shown.tm_sec == first.tm_sec);
    *ret_time = (struct timespec){0};
    return hardware_clock_to_time(&shown, hardware_clock_is_local(), &ret_time->tv_sec);
}

int hardware_clock_write(int fd, const struct timespec *time)
{
    struct rtc_time shown;
    int error = hardware_clock_from_time(time->tv_sec + (time->tv_nsec >= 500000000),
                                         hardware_clock_is_local(), &shown);
    if (error)
        return error;
    return ioctl(fd, RTC_SET_TIME, &shown) < 0 ? -errno : 0;
}
