/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_UNIT_BROKER_HARNESS_H
#define BELLHOP_TESTS_UNIT_BROKER_HARNESS_H

/*
 * For tests with a broker: a real one in a process of its own, with a state directory of its own,
 * and what an agent says to it, packet by packet. Everything that waits has a limit.
 * To be included by one test program, after cmocka.h.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/settings.h"
#include "jobs/broker-memory.h"
#include "jobs/broker-payload.h"
#include "jobs/broker-protocol.h"
#include "jobs/broker-socket.h"
#include "jobs/broker.h"

#define LIMIT_MS 30000

static char state_directory[64];
static struct settings settings;
static const struct broker_policy *broker_policy; /* of the brokers that are started */
static pid_t started_brokers[8];
static size_t started_broker_count;

/* --- small things --- */

static inline void wait_readable(int fd)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, LIMIT_MS), 1);
}

/* Waits until the process has ended; one that is the test's child is reaped. Returns its status;
 * one that does not end is killed. */
static inline int wait_for_end(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int status = -1;
    if (pidfd >= 0) {
        struct pollfd waiting = {.fd = pidfd, .events = POLLIN};
        if (poll(&waiting, 1, LIMIT_MS) == 0) {
            kill(pid, SIGKILL);
            poll(&waiting, 1, LIMIT_MS);
        }
        close(pidfd);
    }
    (void)waitpid(pid, &status, WNOHANG);
    return status;
}

static inline bool process_is_alive(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    fclose(file);
    return state != 'Z' && state != 'X';
}

/* A FIFO that lets a program say that it has come so far, or wait until it is told to go on. */
static inline const char *make_fifo(const char *name)
{
    static char paths[8][128];
    static size_t next;
    char *path = paths[next++ % ARRAY_SIZE(paths)];
    snprintf(path, sizeof(paths[0]), "%s/%s", state_directory, name);
    assert_int_equal(mkfifo(path, 0600), 0);
    return path;
}

/* Waits until a program has opened the FIFO for reading, and lets it go on. */
static inline void open_gate(const char *path)
{
    uint64_t end_ms = clock_now_ms() + LIMIT_MS;
    int fd;
    while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0) {
        assert_int_equal(errno, ENXIO);
        assert_true(clock_now_ms() < end_ms);
        usleep(1000);
    }
    close(fd);
}

static inline size_t count_sockets(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/bellhop", state_directory);
    DIR *directory = opendir(path);
    size_t count = 0;
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        count += broker_socket_is_name(entry->d_name);
    if (directory)
        closedir(directory);
    return count;
}

/* --- set-up --- */

static inline int harness_setup(void **state)
{
    started_broker_count = 0;
    broker_policy = NULL;
    strcpy(state_directory, "/tmp/test-broker-XXXXXX");
    settings_init(&settings);
    return mkdtemp(state_directory) ? 0 : -1;
}

static inline int harness_teardown(void **state)
{
    char command[128];
    settings_deinit(&settings);
    /* Those that stay for a result, by design or because the test failed. */
    for (size_t i = 0; i < started_broker_count; i++)
        if (waitpid(started_brokers[i], NULL, WNOHANG) == 0) {
            kill(started_brokers[i], SIGKILL);
            waitpid(started_brokers[i], NULL, 0);
        }
    snprintf(command, sizeof(command), "rm -rf %s", state_directory);
    return system(command);
}

static inline struct broker_process start_broker(void)
{
    struct broker_process process = BROKER_PROCESS_INIT;
    struct broker_options options = {
        .state_directory = state_directory, .settings = &settings, .policy = broker_policy};
    assert_int_equal(broker_start(&options, &process), 0);
    assert_int_equal(process.listener_error, 0);
    assert_true(started_broker_count < ARRAY_SIZE(started_brokers));
    started_brokers[started_broker_count++] = process.pid;
    return process;
}

/* --- an agent, packet by packet --- */

/* Sends a packet, as soon as there is room for it; with a descriptor unless that is -1. */
static inline void send_with_fd(int fd, const void *packet, size_t length, int sent_fd)
{
    int error;
    while ((error = broker_send(fd, packet, length, &sent_fd, sent_fd < 0 ? 0 : 1)) == -EAGAIN) {
        struct pollfd waiting = {.fd = fd, .events = POLLOUT};
        assert_int_equal(poll(&waiting, 1, LIMIT_MS), 1);
    }
    assert_int_equal(error, 0);
}

static inline void send_packet(int fd, const void *packet, size_t length)
{
    send_with_fd(fd, packet, length, -1);
}

static inline struct broker_hello say_hello(int fd)
{
    struct broker_hello hello = {.magic = BROKER_HELLO_MAGIC,
                                 .version_min = BROKER_PROTOCOL_VERSION,
                                 .version_max = BROKER_PROTOCOL_VERSION,
                                 .pid = getpid()};
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    send_packet(fd, &hello, sizeof(hello));
    wait_readable(fd);
    assert_int_equal(broker_receive(fd, &hello, sizeof(hello), fds, &fd_count), sizeof(hello));
    assert_true(broker_hello_is_valid(&hello, sizeof(hello), fd_count));
    return hello;
}

static inline void tell(int fd, uint32_t type, uint64_t job)
{
    struct broker_message message = {.type = type, .job = job};
    send_packet(fd, &message, sizeof(message));
}

static inline void send_spawn(int fd, uint64_t job, const struct spawn_request *request)
{
    struct broker_message message = {.type = BROKER_SPAWN, .job = job};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(request, &payload), 0);
    send_with_fd(fd, &message, sizeof(message), payload.fd);
    spawn_payload_deinit(&payload);
}

static inline void spawn_shell(int fd, uint64_t job, enum broker_capture capture,
                               const char *script)
{
    const char *const words[] = {"/bin/sh", "-c", script};
    struct spawn_request request = {
        .program = words[0], .arguments = words, .argument_count = 3, .capture = capture};
    send_spawn(fd, job, &request);
}

/* Receives one message; its descriptors (or -1) are the caller's. */
static inline struct broker_message receive(int fd, int fds[BROKER_FDS_MAX])
{
    struct broker_message message;
    size_t fd_count;
    wait_readable(fd);
    int length = broker_receive(fd, &message, sizeof(message), fds, &fd_count);
    assert_true(length > 0);
    assert_true(broker_message_is_valid(&message, (size_t)length, fd_count, true));
    return message;
}

/* Receives the next message, which must be of this type and for this job. */
static inline struct broker_message expect(int fd, uint32_t type, uint64_t job)
{
    int fds[BROKER_FDS_MAX];
    struct broker_message message = receive(fd, fds);
    for (size_t i = 0; i < BROKER_FDS_MAX; i++)
        close_fd(fds[i]);
    assert_int_equal(message.type, type);
    assert_int_equal(message.job, job);
    return message;
}

/* What the broker tells of one program from its start to its end. */
struct story {
    struct broker_message spawned, exited;
    int outputs[BROKER_STREAMS];
    bool input_is_done; /* may also be told after the end */
};

static inline struct story expect_story(int fd, uint64_t job)
{
    struct story story = {.outputs = {-1, -1}};
    story.spawned = expect(fd, BROKER_SPAWNED, job);
    for (;;) {
        int fds[BROKER_FDS_MAX];
        struct broker_message message = receive(fd, fds);
        assert_int_equal(message.job, job);
        if (message.type == BROKER_OUTPUT) {
            assert_int_equal(story.outputs[message.output.index], -1);
            story.outputs[message.output.index] = fds[0];
        } else if (message.type == BROKER_EXITED) {
            story.exited = message;
            return story;
        } else {
            assert_int_equal(message.type, BROKER_INPUT_DONE);
            story.input_is_done = true;
        }
    }
}

static inline void end_story(struct story *story)
{
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        story->outputs[i] = close_fd(story->outputs[i]);
}

static inline void check_story_output(const struct story *story, size_t index, const char *expected)
{
    uint64_t size_bytes;
    char bytes[256];
    const struct broker_stream_facts *facts = &story->exited.facts.streams[index];
    assert_int_equal(facts->size_bytes, strlen(expected));
    assert_false(facts->is_truncated);
    if (expected[0] == '\0') {
        assert_int_equal(story->outputs[index], -1);
        return;
    }
    assert_true(broker_memory_is_sealed(story->outputs[index], &size_bytes));
    assert_int_equal(size_bytes, strlen(expected));
    assert_true(size_bytes < sizeof(bytes));
    assert_int_equal(broker_memory_read(story->outputs[index], bytes, size_bytes, 0), 0);
    assert_memory_equal(bytes, expected, size_bytes);
}

/* As a later agent: connects to the one broker there is in the state directory. */
static inline int connect_to_broker(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/bellhop", state_directory);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    int fd = -ENOENT;
    struct dirent *entry;
    while (fd < 0 && (entry = readdir(directory)))
        if (broker_socket_is_name(entry->d_name))
            fd = broker_socket_connect(dirfd(directory), entry->d_name);
    closedir(directory);
    assert_true(fd >= 0);
    return fd;
}

#endif
