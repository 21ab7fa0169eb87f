# SPDX-License-Identifier: MIT
"""Whole conversations on several connections at once, made of random honest and broken requests,
and checked against a model of the rules: each request is answered once and in its place, unless a
later sync took its place; nothing from before a sync follows its reply; effects stay."""

import errno
import json
import os
import random
import select
import socket
import time

import pytest

from agent import SLOW, Number, parse_reply, process_state, seconds, wait_until

MIB = 1 << 20
GRACE = 0.25
several = pytest.mark.bellhop_only("one-client-at-a-time")

# What may stand as an id; %d makes it unique.
IDS = [
    "%d", "-%d", "%d.5", "%de400", "1e-%d", '"%d"', '"\\u0000%d\\ud83d\\ude00"', "'it\\'s %d'",
    '[%d,[],{},null,true,"\u00e4"]', '{"a":{"a":[%d]},"":1}', "%d" + "0" * 400, '"%d\x7f"',
    '"%d' + "x" * 5000 + '"', "[" * 100 + "%d" + "]" * 100, '"%d' + "y" * 70000 + '"',
]

# Complete, wrong, and each worth one error without an id.
FAULTS = [
    b'{"execute":}\n', b"[1,2,,3]\n", b"nonsense\n", b'{"execute":"guest-ping"]\n', b"]\n", b"}\n",
    b'{"execute":"guest-ping","execute":"guest-ping","id":0}', b'"alone"', b"[]", b"{}", b"17 ",
    b'{"execute":"guest-ping","id":"\xc0\x80"}', b'{"execute":"guest-ping","id":"\\ud800"}',
    b'{"execute":"guest-ping\t"}', b'{"execute":"\\x"}', b"{'a':'b'}", b"[[[[[[]]]]]]",
    b'{"execute":"guest-ping","id":' + b"[" * 128 + b"]" * 128 + b"}",
    b'{"execute":"guest-ping","id":' + b"[" * 200 + b"\n", b'{"execute":"guest-ping","id":01}',
]

# Complete and wrong in a way that leaves the id.
WRONG = [
    '"execute":"guest-sync"', '"execute":"guest-sync","arguments":{"id":1.0}',
    '"execute":"guest-sync","arguments":{"id":9223372036854775808}',
    '"execute":"guest-sync-delimited","arguments":{"id":"1"}',
    '"execute":"guest-ping","arguments":{"":0}', '"execute":"guest-ping\\u0000"',
    '"execute":"guest-ping","arguments":{"\\u0000":0}',
    '"execute":"guest-exec-status","arguments":{"pid":-9223372036854775808}',
    '"execute":"guest-file-close","arguments":{"handle":9223372036854775807}',
    '"execute":"guest-file-read","arguments":{"handle":1000000,"count":-1}',
    '"execute":"guest-file-open","arguments":{"path":"/dev/null\\u0000"}',
    '"execute":"guest-file-open","arguments":{"path":"/dev/null","path\\u0000":0}',
    '"execute":"guest-exec","arguments":{"path":"/bin/true","input-data":"="}',
    '"execute":"guest-exec","arguments":{"path":"/bin/true","arg":["a",null]}',
]


class Request:
    """What was sent, and how to know its reply."""

    def __init__(self, text, check, key=None, sync=None, slow=False):
        self.text = text
        self.check = check  # does this reply belong to it?
        self.key = key  # its id
        self.sync = sync  # the number, if it is a sync
        self.slow = slow
        self.is_delimited = sync is not None and b"guest-sync-delimited" in text
        self.is_begun = False
        self.sent_at = None  # all of it


def canonical(line):
    """An id as it is written in a reply."""
    return json.dumps(parse_reply(line, exact_numbers=True).get("id"), sort_keys=False)


def canonical_id(text):
    value = json.loads(text.replace("\\'", "\1").replace("'", '"').replace("\1", "'")
                       if text.startswith("'") else text, parse_int=Number, parse_float=Number)
    return json.dumps(value, sort_keys=False)


def error_with(*words):
    return lambda reply: "error" in reply and all(
        word in reply["error"]["desc"] for word in words)


def has(reply, member):
    """A value that is an object with this member was returned."""
    return isinstance(reply.get("return"), dict) and member in reply["return"]


def is_handle(reply):
    """And not the number of a sync, which is larger."""
    return isinstance(reply.get("return"), int) and 1000 <= reply["return"] < 1000000


def is_refusal(reply):
    return "are pending on this channel" in reply.get("error", {}).get("desc", "")


class Conversation:
    """One connection and what is known of it."""

    def __init__(self, crowd, is_steady=False):
        self.crowd = crowd
        self.is_steady = is_steady  # never stops reading, asks nothing that takes time
        self.random = crowd.random
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(crowd.agent.socket_path)
        self.socket.setblocking(False)
        self.unsent = []  # [bytes, request or None]
        self.waiting = []  # sent, not answered, in order
        self.received = bytearray()
        self.reads = True
        self.stopped_reading_at = 0.0
        self.is_half_closed = False
        self.next_send = 0.0
        self.history = []

    # -- sending

    def add(self, request):
        self.unsent.append([request.text, request])

    def add_bytes(self, text):
        self.unsent.append([text, None])

    def send_some(self, now):
        if now < self.next_send:
            return
        budget = self.random.choice([1, 7, 100, 5000, 200000, 200000, 200000])
        while self.unsent and budget > 0:
            text, request = self.unsent[0]
            part = text[:budget]
            if request and not request.is_begun:
                request.is_begun = True  # a fault is answered before it is whole
                self.waiting.append(request)
            try:
                count = self.socket.send(part)
            except BlockingIOError:
                return
            budget -= count
            self.unsent[0][0] = text[count:]
            if count < len(text):
                continue
            self.unsent.pop(0)
            if request:
                request.sent_at = time.monotonic()
                self.history.append(("sent", request.sent_at, request.text[:120]))
        self.next_send = now + self.random.choice([0, 0, 0, 0, 0.001, 0.01, 0.05, 0.3])

    # -- receiving

    def receive(self):
        """Returns False at the end of the stream."""
        while True:
            try:
                data = self.socket.recv(self.random.choice([1, 100, MIB, MIB]))
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.received += data
            if b"\n" in data:
                lines = bytes(self.received).split(b"\n")
                self.received = bytearray(lines.pop())
                for line in lines:
                    self.take(line)

    def fail(self, what, line):
        raise AssertionError("%s\nline: %r\nwaiting: %r\nhistory:\n%s" % (
            what, line[:300], [request.text[:100] for request in self.waiting[:10]],
            "\n".join(map(repr, self.history[-40:]))))

    def take(self, line):
        now = time.monotonic()
        self.history.append(("came", now, line[:120]))
        reply = parse_reply(line)
        request = self.find(line, reply)
        if request is None:
            self.fail("a reply that belongs to nothing", line)
        if (line[:1] == b"\xff") != (request.is_delimited and not is_refusal(reply)):
            self.fail("0xFF in the wrong place", line)
        at = self.waiting.index(request)
        if request.sync is not None and not is_refusal(reply):
            for earlier in self.waiting[:at]:
                self.check_superseded(earlier, request, line)
            del self.waiting[:at]
            self.crowd.note_sync(self, request, now)
        elif request.key is None:
            for earlier in [other for other in self.waiting[:at] if other.key is None]:
                if not self.may_be_dropped(earlier, self.waiting.index(request)):
                    self.fail("out of order", line)
                self.waiting.remove(earlier)
        self.waiting.remove(request)
        self.crowd.note_reply(request, reply)

    def find(self, line, reply):
        if "id" in reply:
            key = canonical(line)
            for request in self.waiting:
                if request.key == key:
                    return request if request.check(reply) or is_refusal(reply) else None
            return None
        for at, request in enumerate(self.waiting):
            if request.key is not None:
                continue
            if request.check(reply) or is_refusal(reply):
                return request
            if request.sync is None and not self.may_be_dropped(request, at):
                later = [other for other in self.waiting[at:] if other.sync is not None]
                return next((other for other in later
                             if other.key is None and other.check(reply)), None)
        return None

    def may_be_dropped(self, request, at):
        """A sync that was sent later may have dropped its reply before its own one came."""
        if request.is_delimited or not request.sent_at:
            return request.is_delimited
        if not any(other.sync is not None for other in self.waiting[at:]):
            return False
        if not self.reads or request.sent_at <= self.stopped_reading_at:
            return True  # when it was read is not known
        return time.monotonic() - request.sent_at > GRACE - 0.01

    def check_superseded(self, request, sync, line):
        """What takes no time, and was sent together with the sync, is answered before it."""
        if self.is_steady and sync.sent_at and request.sent_at > sync.sent_at - GRACE / 2:
            self.fail("a sync took the place of %r" % request.text[:100], line)



class Crowd:
    """The conversations with one agent, and what they did to it."""

    def __init__(self, agent, seed):
        self.agent = agent
        self.random = random.Random(seed)
        self.number = seed * 1000000
        self.conversations = []
        self.fifos = []  # opened by a command that waits for us
        self.held = []
        self.handles = []
        self.readable = []
        self.appends = []  # tokens that programs write
        self.refused_appends = set()
        self.accepted_appends = set()
        self.appended = agent.file("appended")
        self.file = agent.file("data", bytes(range(256)) * 4096)
        self.sync_times = []

    # -- requests

    def unique(self):
        self.number += 1
        return self.number

    def envelope(self, body, with_id):
        """A whole request of one of its forms, and its id."""
        key = None
        if with_id or self.random.random() < 0.4:
            text = self.random.choice(IDS) % self.unique()
            key = canonical_id(text)
            body = self.random.choice(["%s,'id':%s", "%s , \"\\u0069d\" :\t%s"]) % (body, text)
        ends = ["", "\n", "\n", "\r\n", " \n\n"]
        return ("{%s}" % body).encode() + self.random.choice(ends).encode(), key

    def make(self, body, check, with_id=False, **members):
        text, key = self.envelope(body, with_id)
        return Request(text, check, key, **members)

    def sync(self):
        number = self.random.choice([self.unique(), -self.unique()])
        name = self.random.choice(["guest-sync", "guest-sync-delimited"])
        request = self.make('"execute":"%s","arguments":{"id":%d}' % (name, number),
                            lambda reply: reply.get("return") == number, sync=number)
        if self.random.random() < 0.5:
            request.text = b"\xff" + request.text
        if len(request.text) > 60000:
            return self.sync()  # read by a worker: no fence if something followed it
        return request

    def ping(self, with_id=True):
        return self.make('"execute":"guest-ping"', lambda reply: reply.get("return") == {},
                         with_id=with_id)

    def unknown(self):
        name = "guest-unknown-%d" % self.unique()
        return self.make('"execute":"%s"' % name, error_with(name))

    def wrong(self):
        return self.make(self.random.choice(WRONG), lambda reply: "error" in reply, with_id=True)

    def word(self):
        word = "n%d" % self.unique()
        return Request(word.encode() + b"\n", error_with("'%s'" % word))

    def fault(self):
        text = self.random.choice(FAULTS)
        return Request(text, lambda reply: "error" in reply and not is_refusal(reply))

    def missing_file(self):
        path = "/nonexistent/%d" % self.unique()
        return self.make('"execute":"guest-file-open","arguments":{"path":"%s"}' % path,
                         error_with(path))

    def missing_program(self):
        path = "/nonexistent/%d" % self.unique()
        return self.make('"execute":"guest-exec","arguments":{"path":"%s"}' % path,
                         error_with(path))

    def append(self):
        token = "%d" % self.unique()
        request = self.make(
            '"arguments":{"path":"/bin/sh","arg":["-c","echo %s >> %s"]},"execute":"guest-exec"'
            % (token, self.appended), lambda reply: has(reply, "pid")
            or error_with("guest-exec refused")(reply), with_id=True)
        request.token = token
        self.appends.append(request)
        return request

    def open(self):
        return self.make('"execute":"guest-file-open","arguments":{"path":"%s"}' % self.file,
                         is_handle)

    def slow(self):
        path = self.agent.fifo("fifo%d" % self.unique())
        self.fifos.append(path)
        return self.make('"execute":"guest-file-open","arguments":{"path":"%s"}' % path,
                         lambda reply: is_handle(reply) or error_with(path, "within 1 s")(reply),
                         slow=True)

    def read(self):
        if not self.readable:
            return self.open()
        size = self.random.choice([0, 1, 4096, 300000, MIB])
        return self.make('"execute":"guest-file-read","arguments":{"handle":%d,"count":%d}' % (
            self.random.choice(self.readable), size), lambda reply:
            has(reply, "buf-b64") and reply["return"]["count"] <= size, with_id=True)

    # -- what came of them

    def note_reply(self, request, reply):
        value = reply.get("return")
        if b"guest-file-open" in request.text and isinstance(value, int):
            assert value not in self.handles, "a handle was given twice"
            self.handles.append(value)
            if not request.slow:
                self.readable.append(value)
        if hasattr(request, "token") and "error" in reply:
            self.refused_appends.add(request.token)
        elif hasattr(request, "token"):
            self.accepted_appends.add(request.token)

    def note_sync(self, conversation, request, now):
        if request.sent_at and conversation.reads and \
                conversation.stopped_reading_at < request.sent_at:
            self.sync_times.append(now - request.sent_at)

    # -- acting

    def act(self):
        choice = self.random.choice
        conversation = choice(self.conversations)
        dice = self.random.random()
        if conversation.is_steady:
            self.act_steadily(conversation)
        elif dice < 0.03:
            self.replace(conversation)
        elif dice < 0.06:
            conversation.reads = not conversation.reads
            if conversation.reads:
                conversation.stopped_reading_at = time.monotonic() + 0.05
        elif dice < 0.1:
            whole = choice([self.ping(), self.unknown()]).text.strip()
            conversation.add_bytes(whole[:self.random.randrange(len(whole) - 1)] + b"\xff")
        elif dice < 0.13 and len(self.fifos) < 6:
            conversation.add(self.slow())
        elif dice < 0.15:
            self.finish_slow()
        elif dice < 0.25:
            conversation.add(self.sync())
        else:
            for _ in range(choice([1, 1, 2, 5, 20])):
                conversation.add(choice([
                    self.ping, self.unknown, self.wrong, self.word, self.missing_file,
                    self.missing_program, self.open, self.append, self.read])())

    def act_steadily(self, conversation):
        """Here nothing is dropped, so replies need not tell which request they belong to."""
        for _ in range(self.random.choice([1, 1, 2, 5, 20])):
            kind = self.random.choice([self.fault, self.unknown, self.wrong, self.sync,
                                       lambda: self.ping(with_id=False)])
            conversation.add(kind())

    def finish_slow(self):
        for path in self.fifos:
            try:
                self.held.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                assert error.errno == errno.ENXIO
                continue  # nobody has begun to open it
            self.fifos.remove(path)
            return

    def replace(self, conversation):
        """Its client leaves, perhaps in the middle of everything, and another one comes."""
        self.conversations.remove(conversation)
        for request in conversation.waiting + [request for _, request in conversation.unsent]:
            if hasattr(request, "token"):
                request.token = None  # it may or may not have been read
        conversation.socket.close()
        self.conversations.append(Conversation(self))

    def step(self):
        now = time.monotonic()
        for conversation in self.conversations:
            try:
                conversation.send_some(now)
            except (BrokenPipeError, ConnectionResetError):
                conversation.fail("the agent closed the connection", b"")
            if conversation.reads and not conversation.receive():
                conversation.fail("the agent closed the connection", b"")

    def run(self, actions, connections=5):
        self.conversations = [Conversation(self, number == 0) for number in range(connections)]
        for _ in range(actions):
            self.act()
            for _ in range(self.random.choice([1, 2, 10])):
                self.step()
            if self.random.random() < 0.2:
                time.sleep(self.random.choice([0.001, 0.01, 0.03]))

    # -- the end

    def drain(self):
        """Everybody says what is left, hears the answers, and goes."""
        for conversation in self.conversations:
            conversation.reads = True
            conversation.stopped_reading_at = time.monotonic() + 0.05
            conversation.add(self.sync())
        for path in self.fifos:
            self.held.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        self.fifos = []

        def is_quiet():
            self.step()
            return not any(conversation.unsent or conversation.waiting
                           for conversation in self.conversations)

        try:
            wait_until(is_quiet, 20, "an answer to everything")
        except TimeoutError:
            for conversation in self.conversations:
                if conversation.unsent or conversation.waiting:
                    conversation.fail("no answer", b"")
        for conversation in self.conversations[1:]:
            conversation.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: not conversation.receive(), what="the end of the stream")
            assert not conversation.received
            conversation.socket.close()

    def check_effects(self, some_were_refused):
        """What was started or whose reply was dropped has run once, what was refused has not."""
        expected = {request.token for request in self.appends if request.token}
        if some_were_refused:
            expected &= self.accepted_appends  # a refusal may have been dropped, too
        expected -= self.refused_appends

        def lines():
            with open(self.appended) as file:
                return sorted(file.read().split())

        wait_until(lambda: expected <= set(lines()), 10, "all effects")
        assert len(lines()) == len(set(lines())), "an effect twice"
        assert not self.refused_appends & set(lines()), "an effect of what was refused"

    def close_files(self):
        """Also those whose number came to a client that left without reading it."""
        with self.agent.connect() as channel:
            last = channel.open_file("/dev/null")
            for handle in range(1000, last + 1):
                reply = channel.request("guest-file-close", {"handle": handle})
                assert "return" in reply or handle not in self.handles
        for fd in self.held:
            os.close(fd)
        self.handles, self.held = [], []


SEEDS = [int(seed) for seed in os.environ.get("WIRE_SEEDS", "1 2 3 4").split()]
SMALL = {"limits.pending-requests": 8, "limits.unsent-bytes": "4K", "pool.workers": 2}
ROOMY = {"limits.pending-requests": 10000}
HASTY = dict(ROOMY, **{"deadline.guest-file-open": 1})


@several
@pytest.mark.parametrize("settings", [ROOMY, SMALL, HASTY], ids=["roomy", "small", "hasty"])
@pytest.mark.parametrize("seed", SEEDS)
def test_conversations(start_agent, seed, settings):
    agent = start_agent(settings=settings)
    with agent.connect() as channel:
        channel.cmd("guest-exec", {"path": "/bin/true"})
    before, fds = agent.rss(), descriptors(agent)
    crowd = Crowd(agent, seed)
    crowd.run(int(os.environ.get("WIRE_ACTIONS", "300")))
    crowd.drain()
    crowd.check_effects(some_were_refused=settings is SMALL)
    crowd.close_files()
    crowd.conversations[0].socket.close()
    assert max(crowd.sync_times) < GRACE + seconds(1)
    wait_until(lambda: descriptors(agent) <= fds, 10, "descriptors given back")
    if not agent.has_sanitizer("tsan"):
        tolerance = (64 if agent.has_sanitizer("asan") else 8) * MIB
        wait_until(lambda: agent.rss() <= before + tolerance, 5, "memory given back")
    assert no_zombies(agent)
    assert not agent.sanitizer_reports()


def descriptors(agent):
    """Results that nobody fetched keep their memfds."""
    return len([path for path in agent.open_paths() if "memfd" not in path])


def no_zombies(agent):
    children = []
    for pid in agent.family():
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            children += file.read().split()
    return all(process_state(int(child)) != "Z" for child in children)
