/* SPDX-License-Identifier: MIT */
/*
 * Channels on real sockets and FIFOs, with a handler that knows three kinds of requests by the
 * first letters of their text: "sync" is a fence, "slow" is answered when the test says so,
 * {"fill":N} by N bytes; whatever else at its turn by a short line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/channel.h"
#include "io/session.h"

enum { UNSENT_MAX = 64 * 1024, SLOW_MAX = 16 };

struct fixture {
    struct endpoint endpoint;
    struct channel *channel;
    int host; /* the other side */
    bool has_ended;
    int end_error;

    unsigned arrived, turned, given_up, answered, dropped;
    struct request *slow[SLOW_MAX]; /* in the order of their turns */
    unsigned slow_count;
    void (*on_arrival)(struct fixture *fixture);
};

static struct event_base *base;
static struct event *ticker;

struct content {
    char text[64];
};

static void on_told(void *context, enum delivery what, uint64_t token)
{
    struct fixture *fixture = context;
    if (what == DELIVERY_DROPPED)
        fixture->dropped++;
}

static void answer(struct fixture *fixture, struct request *request)
{
    struct content *content = request_data(request);
    struct reply reply = {.line = BUFFER_INIT, .told = on_told, .context = fixture};
    unsigned fill;
    if (sscanf(content->text, "{\"fill\":%u", &fill) == 1) {
        char *room = buffer_reserve(&reply.line, fill);
        assert_non_null(room);
        memset(room, 'x', fill);
        buffer_commit(&reply.line, fill);
    } else {
        buffer_append_text(&reply.line, content->text);
    }
    buffer_append_char(&reply.line, '\n');
    free(content);
    fixture->answered++;
    request_answer_take(request, &reply);
}

static void on_arrived(void *context, struct request *request, char *text, size_t length)
{
    struct fixture *fixture = context;
    struct content *content = calloc(1, sizeof(*content));
    snprintf(content->text, sizeof(content->text), "%s", text);
    free(text);
    request_set_data(request, content);
    fixture->arrived++;
    if (fixture->on_arrival)
        fixture->on_arrival(fixture);
    struct request_traits traits = {
        .is_fence = strncmp(content->text, "\"sync", 5) == 0,
        .is_reserved = strncmp(content->text, "\"sync", 5) == 0,
    };
    request_understood(request, &traits);
}

static void on_faulted(void *context, struct request *request, enum request_fault fault,
                       const char *reason)
{
    struct content *content = request_data(request);
    if (!content)
        content = calloc(1, sizeof(*content));
    snprintf(content->text, sizeof(content->text), "fault");
    request_set_data(request, content);
}

static void on_admitted(void *context, struct request *request)
{
}

static void on_turn(void *context, struct request *request)
{
    struct fixture *fixture = context;
    struct content *content = request_data(request);
    fixture->turned++;
    if (strncmp(content->text, "\"slow", 5) == 0 && fixture->slow_count < SLOW_MAX)
        fixture->slow[fixture->slow_count++] = request;
    else
        answer(fixture, request);
}

static void on_given_up(void *context, struct request *request)
{
    struct fixture *fixture = context;
    fixture->given_up++;
}

static const struct request_handler handler = {on_arrived, on_faulted, on_admitted, on_turn,
                                               on_given_up};

static void on_ended(void *context, struct channel *channel, int error)
{
    struct fixture *fixture = context;
    assert_false(fixture->has_ended);
    assert_ptr_equal(channel, fixture->channel);
    fixture->has_ended = true;
    fixture->end_error = error;
    fixture->channel = channel_free(channel);
}

static void serve(struct fixture *fixture, enum channel_kind kind, int fd)
{
    fixture->endpoint = (struct endpoint){
        .name = "test",
        .pending_max = 64,
        .reserve = 16,
        .pending_bytes_max = 1024 * 1024,
        .unsent_max = UNSENT_MAX,
        .scanner_limits = {.message_bytes_max = 1024 * 1024, .depth_max = 10},
    };
    struct channel_options options = {
        .kind = kind,
        .endpoint = &fixture->endpoint,
        .handler = &handler,
        .handler_context = fixture,
        .ended = on_ended,
        .context = fixture,
    };
    assert_int_equal(channel_new(base, fd, &options, &fixture->channel), 0);
}

static void start(struct fixture *fixture, enum channel_kind kind)
{
    int fds[2];
    *fixture = (struct fixture){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    fixture->host = fds[1];
    serve(fixture, kind, fds[0]);
}

static void hang_up(struct fixture *fixture)
{
    fixture->host = close_fd(fixture->host);
}

static void stop(struct fixture *fixture)
{
    fixture->channel = channel_free(fixture->channel);
    for (unsigned i = 0; i < fixture->slow_count; i++)
        if (fixture->slow[i])
            answer(fixture, take_ptr(&fixture->slow[i]));
    assert_int_equal(fixture->arrived, fixture->answered);
    assert_int_equal(fixture->endpoint.pending, 0);
    assert_int_equal(fixture->endpoint.pending_bytes, 0);
    hang_up(fixture);
}

static void on_ticked(evutil_socket_t fd, short events, void *argument)
{
}

static int setup(void **state)
{
    base = event_base_new();
    struct timeval every = {.tv_usec = 2000};
    ticker = event_new(base, -1, EV_PERSIST, on_ticked, NULL);
    event_add(ticker, &every);
    return 0;
}

static int teardown(void **state)
{
    event_free(ticker);
    event_base_free(base);
    return 0;
}

#define loop_until(expression) \
    while (!(expression))      \
    event_base_loop(base, EVLOOP_ONCE)

static bool timer_came;

static void on_timer(evutil_socket_t fd, short events, void *argument)
{
    timer_came = true;
}

/* Until the loop has nothing to do but to wait: nothing polls. */
static void loop_until_quiet(void)
{
    struct event *timer = evtimer_new(base, on_timer, NULL);
    struct timeval delay = {.tv_usec = 20 * 1000};
    unsigned busy = 0;
    event_del(ticker);
    for (timer_came = false; !timer_came; busy++) {
        assert_true(busy < 100000);
        event_add(timer, &delay);
        event_base_loop(base, EVLOOP_ONCE);
    }
    event_free(timer);
    delay.tv_usec = 2000;
    event_add(ticker, &delay);
}

static void send_bytes(struct fixture *fixture, const char *bytes, size_t length)
{
    assert_int_equal(write(fixture->host, bytes, length), (ssize_t)length);
}

static void send_text(struct fixture *fixture, const char *text)
{
    send_bytes(fixture, text, strlen(text));
}

/* Everything that has come so far. */
static const char *received(struct fixture *fixture)
{
    static char bytes[4096];
    ssize_t length = read(fixture->host, bytes, sizeof(bytes) - 1);
    bytes[length > 0 ? length : 0] = '\0';
    return bytes;
}

static bool has_received(struct fixture *fixture, const char *text)
{
    char bytes[4096];
    ssize_t length = recv(fixture->host, bytes, sizeof(bytes), MSG_PEEK);
    return length > 0 && memmem(bytes, (size_t)length, text, strlen(text));
}

static size_t receive_all(struct fixture *fixture)
{
    char bytes[65536];
    size_t total = 0;
    ssize_t length;
    while ((length = read(fixture->host, bytes, sizeof(bytes))) > 0)
        total += (size_t)length;
    return total;
}

/* --- fairness --- */

static void send_one_more(struct fixture *fixture)
{
    send_text(fixture, "1 ");
    receive_all(fixture);
}

/* A host that always has one more request must not keep the others from theirs. */
static void test_an_endless_channel_leaves_room_for_others(void **state)
{
    struct fixture endless, other;
    start(&endless, CHANNEL_PORT);
    start(&other, CHANNEL_SOCKET);
    endless.on_arrival = send_one_more;
    timer_came = false;
    struct event *timer = evtimer_new(base, on_timer, NULL);
    struct timeval delay = {.tv_usec = 5000};
    send_text(&endless, "1 ");
    loop_until(endless.arrived > 0);
    event_add(timer, &delay);
    send_text(&other, "2 ");
    loop_until(timer_came && has_received(&other, "2\n"));
    endless.on_arrival = NULL;
    loop_until_quiet();
    receive_all(&endless);
    event_free(timer);
    stop(&endless);
    stop(&other);
}

static void send_flood(struct fixture *fixture)
{
    static char flood[100000];
    for (size_t i = 0; i < sizeof(flood); i += 2)
        memcpy(flood + i, "1 ", 2);
    send_bytes(fixture, flood, sizeof(flood));
}

/* One read may bring more requests than may be pending: those in it have to wait, too. */
static void test_a_flood_in_one_read_is_held(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow\" ");
    send_flood(&fixture);
    loop_until(fixture.arrived > UNSENT_MAX / 256);
    loop_until_quiet();
    assert_in_range(fixture.arrived, UNSENT_MAX / 256, UNSENT_MAX / 256 + 70);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    while (fixture.answered < 50001) { /* and all of them are answered once it is read */
        event_base_loop(base, EVLOOP_ONCE);
        receive_all(&fixture);
    }
    stop(&fixture);
}

/* --- the host goes away --- */

static void test_half_closed_is_answered_first(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow\" 2 3");
    shutdown(fixture.host, SHUT_WR);
    loop_until(fixture.slow_count == 1);
    loop_until_quiet();
    assert_false(fixture.has_ended);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    loop_until(fixture.has_ended);
    assert_int_equal(fixture.end_error, 0);
    assert_string_equal(received(&fixture), "\"slow\"\n2\n");
    stop(&fixture);
}

static void test_half_closed_and_then_gone(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow\" 2 ");
    shutdown(fixture.host, SHUT_WR);
    loop_until(fixture.slow_count == 1);
    loop_until_quiet();
    hang_up(&fixture);
    loop_until(fixture.has_ended);
    assert_int_equal(fixture.given_up, 2);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    assert_int_equal(fixture.answered, 2); /* its effect is kept */
    stop(&fixture);
}

/* What a host sends and does not wait for has its effect, however much it is. */
static void close_with_unread_replies(enum channel_kind kind)
{
    struct fixture fixture;
    start(&fixture, kind);
    for (int i = 0; i < 20; i++)
        send_text(&fixture, "{\"fill\":60000} ");
    loop_until(fixture.answered > 2);
    loop_until_quiet();
    assert_true(fixture.arrived < 20); /* it is not read any more */
    hang_up(&fixture);
    loop_until(fixture.arrived == 20 && (fixture.has_ended || kind == CHANNEL_PORT));
    loop_until_quiet();
    assert_int_equal(fixture.answered, 20);
    assert_true(fixture.dropped > 10);
    stop(&fixture);
}

static void test_close_with_unread_replies(void **state)
{
    close_with_unread_replies(CHANNEL_SOCKET);
}

static void test_away_with_unread_replies(void **state)
{
    close_with_unread_replies(CHANNEL_PORT);
}

/* A worker's completion may be the first to find that nobody reads: what was sent behind it still
 * counts. */
static void test_broken_pipe_does_not_end_the_reading(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow\" ");
    loop_until(fixture.slow_count == 1);
    send_text(&fixture, "2 3 ");
    hang_up(&fixture);
    answer(&fixture, take_ptr(&fixture.slow[0])); /* its wake-up is before the input in the queue */
    loop_until(fixture.has_ended);
    assert_int_equal(fixture.answered, 3);
    stop(&fixture);
}

static void test_no_reader_but_a_writer(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    shutdown(fixture.host, SHUT_RD);
    for (int i = 0; i < 20; i++)
        send_text(&fixture, "{\"fill\":60000} ");
    loop_until(fixture.answered == 20);
    assert_false(fixture.has_ended);
    hang_up(&fixture);
    loop_until(fixture.has_ended);
    stop(&fixture);
}

static void test_freed_while_requests_run(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow1\" \"sync\" \"slow2\" 4 ");
    loop_until(fixture.arrived == 4);
    fixture.channel = channel_free(fixture.channel);
    assert_int_equal(fixture.given_up, 4);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    loop_until_quiet();
    assert_int_equal(fixture.slow_count, 2);
    stop(&fixture);
}

/* --- a port --- */

/* A FIFO's reading end behaves like a port: end of file and POLLHUP while nobody has it open for
 * writing, and an edge when somebody does again. (It cannot be written to.) */
static void test_a_port_whose_host_goes_and_comes(void **state)
{
    char directory[] = "/tmp/test-channel.XXXXXX", path[64];
    struct fixture fixture = {0};
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/port", directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    serve(&fixture, CHANNEL_PORT, open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    loop_until_quiet();

    fixture.host = open(path, O_WRONLY | O_CLOEXEC);
    send_text(&fixture, "\"slow\" 2 {\"half");
    loop_until(fixture.slow_count == 1);
    hang_up(&fixture);
    loop_until(fixture.given_up == 2);
    loop_until_quiet(); /* it sleeps until the host is back */
    assert_false(fixture.has_ended);

    fixture.host = open(path, O_WRONLY | O_CLOEXEC);
    send_text(&fixture, "4 "); /* not the end of the half one */
    loop_until(fixture.answered == 1);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    assert_int_equal(fixture.answered, 3);
    hang_up(&fixture);
    loop_until_quiet();

    /* away and back before the loop looks */
    fixture.host = open(path, O_WRONLY | O_CLOEXEC);
    send_text(&fixture, "5 ");
    hang_up(&fixture);
    fixture.host = open(path, O_WRONLY | O_CLOEXEC);
    send_text(&fixture, "6 ");
    loop_until(fixture.answered == 5);
    assert_false(fixture.has_ended);
    stop(&fixture);
    unlink(path);
    rmdir(directory);
}

static void test_a_socket_as_port_is_not_polled_while_away(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_PORT);
    send_text(&fixture, "\"slow\" 2 ");
    loop_until(fixture.slow_count == 1);
    hang_up(&fixture);
    loop_until(fixture.given_up == 2);
    loop_until_quiet();
    answer(&fixture, take_ptr(&fixture.slow[0]));
    loop_until_quiet();
    assert_false(fixture.has_ended);
    stop(&fixture);
}

/*
 * A port as virtio_console.c makes it, on a socket: what is sent through that is the news (an
 * edge), `queued` is what has arrived. To answer poll() the driver takes it out of its queue, and
 * the news of it do not come any more.
 */
static struct {
    int fd;
    bool has_host;
    bool is_news_lost;
    const char *queued;
    unsigned reads;
} port = {.fd = -1};

ssize_t __real_read(int fd, void *buffer, size_t length);
ssize_t __wrap_read(int fd, void *buffer, size_t length);
ssize_t __wrap_read(int fd, void *buffer, size_t length)
{
    if (fd != port.fd)
        return __real_read(fd, buffer, length);
    port.reads++;
    if (__real_read(fd, buffer, length) < 0 && !port.queued && port.has_host) {
        errno = EAGAIN;
        return -1;
    }
    const char *taken = port.queued ? port.queued : "";
    port.queued = NULL;
    memcpy(buffer, taken, strlen(taken));
    return (ssize_t)strlen(taken);
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    if (fds[0].fd != port.fd)
        return __real_poll(fds, count, timeout_ms);
    port.is_news_lost = port.queued;
    fds[0].revents = port.has_host ? 0 : POLLHUP;
    return !port.has_host;
}

static void tell_port(struct fixture *fixture)
{
    unsigned reads = port.reads;
    send_text(fixture, "!");
    loop_until(port.reads > reads);
}

/* A host that goes and comes, and whose request arrives when it is looked at whether it is there.
 */
static void test_a_port_is_read_when_it_is_looked_at(void **state)
{
    struct fixture fixture = {0};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    fixture.host = fds[1];
    port.has_host = true;
    port.fd = fds[0];
    serve(&fixture, CHANNEL_PORT, fds[0]);
    port.queued = "1 ";
    tell_port(&fixture);
    loop_until(fixture.answered == 1);
    port.has_host = false; /* so short a time after its request that it has to be looked at again */
    tell_port(&fixture);
    port.has_host = true;
    tell_port(&fixture);

    port.queued = "2 "; /* its news come a moment later than that */
    uint64_t end_ms = clock_now_ms() + 1000;
    loop_until(fixture.answered == 2 || clock_now_ms() > end_ms);
    if (fixture.answered < 2 && !port.is_news_lost)
        tell_port(&fixture);
    end_ms = clock_now_ms() + 1000;
    loop_until(fixture.answered == 2 || clock_now_ms() > end_ms);
    assert_int_equal(fixture.answered, 2);
    port.fd = -1;
    stop(&fixture);
}

/* --- input that comes in odd ways --- */

/* read() stops where a descriptor was sent along, though there is more: no edge will tell. */
static void test_descriptors_sent_along_lose_nothing(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    char control[CMSG_SPACE(sizeof(int))] = {0}, text[] = "1 ";
    struct iovec piece = {.iov_base = text, .iov_len = 2};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fixture.host, sizeof(int));
    for (int i = 0; i < 3; i++)
        assert_int_equal(sendmsg(fixture.host, &message, 0), 2);
    send_text(&fixture, "2 ");
    loop_until(fixture.answered == 4);
    stop(&fixture);
}

static void test_the_last_bytes_come_with_the_end(void **state)
{
    for (size_t cut = 0; cut < 4; cut++) {
        struct fixture fixture;
        start(&fixture, CHANNEL_SOCKET);
        send_bytes(&fixture, "1 2 ", cut);
        loop_until_quiet();
        send_text(&fixture, &"1 2 "[cut]);
        shutdown(fixture.host, SHUT_WR);
        loop_until(fixture.has_ended);
        assert_int_equal(fixture.answered, 2);
        assert_string_equal(received(&fixture), "1\n2\n");
        stop(&fixture);
    }
}

/* --- output --- */

static void test_a_slow_reader_gets_everything_in_order(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    for (int i = 0; i < 30; i++)
        send_text(&fixture, "{\"fill\":99999} ");
    send_text(&fixture, "\"last\" ");
    size_t total = 0;
    while (total < 30 * 100000) {
        event_base_loop(base, EVLOOP_ONCE);
        char bytes[10000];
        ssize_t length = read(fixture.host, bytes, sizeof(bytes));
        for (ssize_t i = 0; i < length; i++)
            if (total + (size_t)i < 30 * 100000)
                assert_int_equal(bytes[i], (total + (size_t)i) % 100000 == 99999 ? '\n' : 'x');
        total += length > 0 ? (size_t)length : 0;
    }
    loop_until((total += receive_all(&fixture)) == 30 * 100000 + strlen("\"last\"\n"));
    stop(&fixture);
}

/* Nothing but the timer moves a fence that waits for a young request. */
static void test_a_fence_is_answered_when_the_grace_is_over(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    uint64_t start_ms = clock_now_ms();
    send_text(&fixture, "\"slow\" \"sync\" ");
    event_del(ticker);
    loop_until(has_received(&fixture, "\"sync\""));
    assert_true(clock_now_ms() - start_ms >= SESSION_GRACE_MS);
    answer(&fixture, take_ptr(&fixture.slow[0]));
    loop_until_quiet();
    assert_string_equal(received(&fixture), "\"sync\"\n");
    assert_int_equal(fixture.dropped, 1);
    stop(&fixture);
}

/* A host whose request got lost would take the next reply for that one. */
static void test_a_lost_reply_ends_the_connection(void **state)
{
    struct fixture fixture;
    start(&fixture, CHANNEL_SOCKET);
    send_text(&fixture, "\"slow\" 2 ");
    loop_until(fixture.slow_count == 1 && fixture.arrived == 2); /* perhaps in two turns */
    struct reply reply = {.line = {.failed = true}, .told = on_told, .context = &fixture};
    free(request_data(fixture.slow[0]));
    request_answer_take(take_ptr(&fixture.slow[0]), &reply);
    fixture.answered++;
    loop_until(fixture.has_ended);
    assert_int_equal(fixture.end_error, ENOMEM);
    assert_int_equal(fixture.dropped, 2);
    stop(&fixture);
}

#define channel_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        channel_test(test_an_endless_channel_leaves_room_for_others),
        channel_test(test_a_flood_in_one_read_is_held),
        channel_test(test_half_closed_is_answered_first),
        channel_test(test_half_closed_and_then_gone),
        channel_test(test_close_with_unread_replies),
        channel_test(test_away_with_unread_replies),
        channel_test(test_broken_pipe_does_not_end_the_reading),
        channel_test(test_no_reader_but_a_writer),
        channel_test(test_freed_while_requests_run),
        channel_test(test_a_port_whose_host_goes_and_comes),
        channel_test(test_a_socket_as_port_is_not_polled_while_away),
        channel_test(test_a_port_is_read_when_it_is_looked_at),
        channel_test(test_descriptors_sent_along_lose_nothing),
        channel_test(test_the_last_bytes_come_with_the_end),
        channel_test(test_a_slow_reader_gets_everything_in_order),
        channel_test(test_a_fence_is_answered_when_the_grace_is_over),
        channel_test(test_a_lost_reply_ends_the_connection),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
