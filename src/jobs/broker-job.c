/* SPDX-License-Identifier: MIT */
#include "jobs/broker-job.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "security/program-rule.h"

/* More than results can be kept: the kernel hands out the pids in turn. */
#define ATTEMPTS_MAX 100000

static int start_process(struct broker_job *job, enum broker_stage *ret_stage);

static void raise_notes(struct broker_job *job, unsigned notes)
{
    job->notes |= notes;
    job->context->changed(job);
}

static bool output_is_at_end(const struct broker_job *job)
{
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        if (!broker_stream_is_at_end(&job->streams[i]))
            return false;
    }
    return true;
}

static void close_pipes(struct broker_job *job)
{
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        broker_stream_deinit(&job->streams[i], job->context->poll_fd, &job->context->budget);
        job->streams[i] = (struct broker_stream)BROKER_STREAM_INIT;
    }
    broker_input_deinit(&job->input, job->context->poll_fd);
}

static void finish(struct broker_job *job)
{
    job->state = BROKER_JOB_DONE;
    job->finished_ms = clock_now_ms();
    broker_input_end(&job->input, job->context->poll_fd);
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        broker_stream_finish(&job->streams[i]);
    raise_notes(job, BROKER_NOTE_EXITED);
}

static void fail(struct broker_job *job, int error, enum broker_stage stage)
{
    job->has_failed = true;
    job->failed_error = error;
    job->failed_stage = stage;
    job->due_ms = 0;
    close_pipes(job);
    spawn_plan_deinit(&job->plan);
    raise_notes(job, BROKER_NOTE_SPAWN_FAILED);
}

/* The process of an attempt is gone: either it never became the program, or it was that. */
static void handle_end(struct broker_job *job)
{
    if (job->retries) {
        enum broker_stage stage = BROKER_STAGE_FORK;
        int error = -EAGAIN;
        job->retries = false;
        job->plan.input_fd = take_fd(&job->input.memory_fd);
        close_pipes(job);
        if (job->attempts < ATTEMPTS_MAX)
            error = start_process(job, &stage);
        if (error) {
            job->has_ended = true;
            fail(job, -error, stage);
        }
        return;
    }
    job->has_ended = true;
    if (job->state == BROKER_JOB_STARTING) {
        fail(job, job->failed_error, job->failed_stage);
        return;
    }
    job->ended_ms = clock_now_ms();
    if (!job->is_unreaped)
        job->due_ms = 0;
    if (output_is_at_end(job))
        finish(job);
    else
        job->context->changed(job);
}

static void input_is_ready(struct broker_source *source, uint32_t events)
{
    struct broker_job *job = list_entry(source, struct broker_job, input.source);
    uint64_t taken_bytes = job->input.taken_bytes;
    broker_input_feed(&job->input, job->context->poll_fd, events);
    if (!broker_input_is_open(&job->input))
        raise_notes(job, BROKER_NOTE_INPUT_DONE);
    else if (job->input.stays_open && job->input.taken_bytes != taken_bytes)
        raise_notes(job, BROKER_NOTE_INPUT_TAKEN);
}

static void become_program(struct broker_job *job)
{
    job->state = BROKER_JOB_RUNNING;
    spawn_plan_deinit(&job->plan);
    /* Without kernel memory for this it would wait for its input for ever, or take a part for all.
     */
    if (broker_input_is_open(&job->input) &&
        broker_input_start(&job->input, job->context->poll_fd, input_is_ready) < 0)
        (void)broker_job_signal(job, SIGKILL, false);
}

/* A rule allows it. What the rule limits and the child cannot is limited from here on. */
static void take_rule(struct broker_job *job, const struct child_note *note)
{
    struct broker_context *context = job->context;
    if (!context->policy || note->rule >= context->policy->rules->count)
        return;
    const struct program_rule *rule = &context->policy->rules->rules[note->rule];
    if (note->awaits_answer) {
        bool goes_on = context->count_under(context, note->rule) < rule->at_once;
        child_answer(job->note.fd, goes_on);
        if (!goes_on)
            return;
    }
    job->has_rule = true;
    job->rule = note->rule;
    uint64_t due_ms = job->started_ms + rule->timeout_s * 1000;
    if (rule->timeout_s > 0 && !job->has_timed_out && (job->due_ms == 0 || due_ms < job->due_ms))
        job->due_ms = due_ms;
    for (size_t i = 0; i < BROKER_STREAMS && rule->output_bytes > 0; i++) {
        if (rule->output_bytes < job->streams[i].size_bytes_max)
            job->streams[i].size_bytes_max = rule->output_bytes;
    }
    context->changed(job);
}

static void read_note(struct broker_job *job)
{
    struct child_note note;
    child_read_note(job->note.fd, &note);
    if (note.outcome == CHILD_MATCHED) {
        take_rule(job, &note);
        child_read_note(job->note.fd, &note);
    }
    switch (note.outcome) {
    case CHILD_MATCHED: /* one child says that once */
    case CHILD_UNDECIDED:
        return;
    case CHILD_RUNS:
        become_program(job);
        break;
    case CHILD_FAILED:
        job->failed_stage = note.stage;
        job->failed_error = note.error > 0 ? note.error : EIO;
        if (note.stage == BROKER_STAGE_POLICY && !job->failed_reason)
            job->failed_reason = strdup(note.reason);
        break;
    case CHILD_PID_TAKEN:
        job->retries = true;
        break;
    }
    broker_source_close(job->context->poll_fd, &job->note);
    if (job->state == BROKER_JOB_RUNNING)
        raise_notes(job, BROKER_NOTE_SPAWNED);
}

static void note_is_ready(struct broker_source *source, uint32_t events)
{
    /* One that failed ends by itself at once, and its end is waited for. */
    read_note(list_entry(source, struct broker_job, note));
}

/* As waitpid() has it, of a process that is not reaped by this. Returns 0 if it has not ended. */
static pid_t peek_status(pid_t pid, int *ret_status)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) < 0)
        return -1;
    *ret_status = info.si_code == CLD_EXITED
                      ? W_EXITCODE(info.si_status, 0)
                      : info.si_status | (info.si_code == CLD_DUMPED ? WCOREFLAG : 0);
    return info.si_pid;
}

static void process_has_ended(struct broker_source *source, uint32_t events)
{
    struct broker_job *job = list_entry(source, struct broker_job, process);
    bool stays = job->has_timed_out && job->due_ms > 0;
    pid_t ended = stays ? peek_status(job->pid, &job->wait_status)
                        : waitpid(job->pid, &job->wait_status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR))
        return;
    job->is_unreaped = stays && ended > 0;
    if (ended < 0)
        job->wait_status = W_EXITCODE(255, 0); /* not known; never to be taken for a success */
    broker_source_close(job->context->poll_fd, &job->process);
    /* With the process its end of the note's pipe has closed, so this decides. */
    if (job->note.fd >= 0)
        read_note(job);
    handle_end(job);
}

static void stream_is_ready(struct broker_job *job, size_t index)
{
    struct broker_stream *stream = &job->streams[index];
    /* What is written is written by the program: its start is known by now, and told first. */
    if (job->note.fd >= 0)
        read_note(job);
    if (broker_stream_drain(stream, job->context->poll_fd, &job->context->budget))
        raise_notes(job, BROKER_NOTE_OUTPUT << index);
    if (!broker_stream_is_at_end(stream))
        return;
    if (job->has_ended && job->state == BROKER_JOB_RUNNING && output_is_at_end(job))
        finish(job);
    else
        job->context->changed(job);
}

static void first_stream_is_ready(struct broker_source *source, uint32_t events)
{
    stream_is_ready(list_entry(source, struct broker_job, streams[0].source), 0);
}

static void second_stream_is_ready(struct broker_source *source, uint32_t events)
{
    stream_is_ready(list_entry(source, struct broker_job, streams[1].source), 1);
}

/* The program's ends of the pipes; each is -1 where it gets /dev/null. */
struct child_ends {
    int input;
    int output;
    int error;
};

static int open_stream(struct broker_job *job, size_t index, int *ret_child_end)
{
    uint64_t limit = job->context->stream_bytes_max;
    if (job->plan.stream_bytes_max > 0 && job->plan.stream_bytes_max < limit)
        limit = job->plan.stream_bytes_max;
    return broker_stream_open(&job->streams[index], job->context->poll_fd, limit,
                              index == 0 ? first_stream_is_ready : second_stream_is_ready,
                              ret_child_end);
}

static int open_pipes(struct broker_job *job, struct child_ends *ends)
{
    int error = 0;
    if (job->plan.has_input) {
        error = broker_input_open_take(&job->input, job->plan.input_fd, job->plan.input_offset,
                                       job->plan.input_bytes, &ends->input);
        if (!error)
            job->plan.input_fd = -1;
        job->input.stays_open = job->plan.stays_open;
    }
    enum broker_capture capture = job->capture;
    if (!error && (capture == BROKER_CAPTURE_STDOUT || capture == BROKER_CAPTURE_SEPARATED ||
                   capture == BROKER_CAPTURE_MERGED))
        error = open_stream(job, 0, &ends->output);
    if (!error && (capture == BROKER_CAPTURE_STDERR || capture == BROKER_CAPTURE_SEPARATED))
        error = open_stream(job, 1, &ends->error);
    return error;
}

static int fork_child(struct broker_job *job, const struct child_ends *ends,
                      struct child *ret_child)
{
    _cleanup_close_ int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return -errno;
    int output = ends->output >= 0 ? ends->output : null_fd;
    int error = ends->error >= 0 ? ends->error : null_fd;
    if (job->capture == BROKER_CAPTURE_MERGED)
        error = output;
    const struct broker_context *context = job->context;
    bool has_gate = broker_policy_has_gate(context->policy, &job->asker);
    const struct child_gate gate = {
        .rules = has_gate ? context->policy->rules : NULL,
        .filters = context->filters,
        .profile = job->asker.profile,
    };
    struct child_spec spec = {
        .gate = has_gate ? &gate : NULL,
        .program = job->plan.program,
        .arguments = job->plan.arguments,
        .environment = job->plan.environment,
        .search_path = job->context->search_path,
        .directory = job->plan.directory,
        .user = job->plan.user,
        .fds = {ends->input >= 0 ? ends->input : null_fd, output, error},
        .origin = &job->context->origin,
        .pid_is_taken = job->context->pid_is_taken,
        .context = job->context->pid_context,
    };
    return child_fork(&spec, ret_child);
}

static int watch_child(struct broker_job *job, struct child *child)
{
    int poll_fd = job->context->poll_fd;
    int error =
        broker_source_open_take(poll_fd, &job->process, child->pidfd, EPOLLIN, process_has_ended);
    if (!error) {
        error =
            broker_source_open_take(poll_fd, &job->note, child->note_fd, EPOLLIN, note_is_ready);
        if (!error)
            return 0;
        broker_source_close(poll_fd, &job->process);
    } else {
        close_fd(child->pidfd);
    }
    /* As where the pidfd fails (child.c): without a way to watch it, it must not run. */
    kill(child->pid, SIGKILL);
    close_fd(child->note_fd);
    return error;
}

static int start_process(struct broker_job *job, enum broker_stage *ret_stage)
{
    struct child_ends ends = {-1, -1, -1};
    struct child child = CHILD_INIT;

    job->attempts++;
    *ret_stage = BROKER_STAGE_ACCEPT;
    int error = open_pipes(job, &ends);
    if (!error) {
        *ret_stage = BROKER_STAGE_FORK;
        error = fork_child(job, &ends, &child);
    }
    if (!error)
        error = watch_child(job, &child);
    if (!error)
        job->pid = child.pid;
    close_fd(ends.input);
    close_fd(ends.output);
    close_fd(ends.error);
    return error;
}

static struct broker_job *new_job(struct broker_context *context, uint64_t id)
{
    struct broker_job *job = calloc(1, sizeof(*job));
    if (!job)
        return NULL;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *job = (struct broker_job){
        .context = context,
        .id = id,
        .state = BROKER_JOB_STARTING,
        .failed_error = EIO,
        .started_ms = clock_now_ms(),
        .started_unix_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
        .plan = SPAWN_PLAN_INIT,
        .process = BROKER_SOURCE_INIT,
        .note = BROKER_SOURCE_INIT,
        .input = BROKER_INPUT_INIT,
        .streams = {BROKER_STREAM_INIT, BROKER_STREAM_INIT},
    };
    list_init(&job->all);
    list_init(&job->noted);
    list_init(&job->lingers);
    list_init(&job->finished);
    list_init(&job->timed);
    return job;
}

struct broker_job *broker_job_new_take(struct broker_context *context, uint64_t id,
                                       const struct broker_asker *asker, struct spawn_plan *plan)
{
    struct broker_job *job = new_job(context, id);
    if (!job) {
        spawn_plan_deinit(plan);
        return NULL;
    }
    job->plan = *plan;
    job->capture = plan->capture;
    job->asker = *asker;
    if (plan->timeout_ms > 0)
        job->due_ms = job->started_ms + plan->timeout_ms;
    *plan = (struct spawn_plan)SPAWN_PLAN_INIT;

    enum broker_stage stage;
    int error = start_process(job, &stage);
    if (error) {
        job->has_ended = true;
        fail(job, -error, stage);
    }
    return job;
}

struct broker_job *broker_job_new_refused(struct broker_context *context, uint64_t id, int error,
                                          const char *reason)
{
    struct broker_job *job = new_job(context, id);
    if (job) {
        job->has_ended = true;
        job->failed_reason = reason ? strdup(reason) : NULL;
        fail(job, error, reason ? BROKER_STAGE_POLICY : BROKER_STAGE_ACCEPT);
    }
    return job;
}

struct broker_job *broker_job_free(struct broker_job *job)
{
    if (!job)
        return NULL;
    list_remove(&job->all);
    list_remove(&job->noted);
    list_remove(&job->lingers);
    list_remove(&job->finished);
    list_remove(&job->timed);
    broker_source_close(job->context->poll_fd, &job->process);
    broker_source_close(job->context->poll_fd, &job->note);
    close_pipes(job);
    spawn_plan_deinit(&job->plan);
    free(job->failed_reason);
    free(job);
    return NULL;
}

void broker_job_release(struct broker_job *job)
{
    job->is_released = true;
    /* Nobody can add to it any more. */
    if (job->state != BROKER_JOB_STARTING)
        broker_input_end(&job->input, job->context->poll_fd);
    else
        job->input.stays_open = job->plan.stays_open = false;
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        broker_stream_drop(&job->streams[i], &job->context->budget);
}

int broker_job_signal(struct broker_job *job, int number, bool to_group)
{
    /* Until it is reaped its number is nobody else's, and neither is its group's. */
    if (job->process.fd < 0)
        return -ESRCH;
    if (to_group && job->state != BROKER_JOB_STARTING && kill(-job->pid, number) == 0)
        return 0;
    return syscall(SYS_pidfd_send_signal, job->process.fd, number, NULL, 0) < 0 ? -errno : 0;
}

int broker_job_add_input(struct broker_job *job, int memory_fd, uint64_t length, bool is_last)
{
    struct broker_context *context = job->context;
    if (job->state != BROKER_JOB_RUNNING)
        return -EPIPE;
    int error = broker_input_add(&job->input, context->poll_fd, memory_fd, length,
                                 context->input_bytes_max);
    if (error || !is_last)
        return error;
    broker_input_end(&job->input, context->poll_fd);
    if (!broker_input_is_open(&job->input))
        raise_notes(job, BROKER_NOTE_INPUT_DONE);
    return 0;
}

void broker_job_check_due(struct broker_job *job, uint64_t now_ms)
{
    if (job->due_ms == 0 || now_ms < job->due_ms)
        return;
    if (!job->has_timed_out) {
        job->has_timed_out = true;
        job->due_ms = now_ms + BROKER_GRACE_MS;
        (void)broker_job_signal(job, SIGTERM, true);
        (void)broker_job_signal(job, SIGCONT, true); /* one that is stopped would not notice */
        return;
    }
    job->due_ms = 0;
    if (!job->is_unreaped) {
        (void)broker_job_signal(job, SIGKILL, true);
    } else {
        kill(-job->pid, SIGKILL);
        job->is_unreaped = false;
        (void)!waitpid(job->pid, NULL, WNOHANG);
    }
    job->context->changed(job);
}

uint64_t broker_job_linger_until(const struct broker_job *job)
{
    uint64_t last_ms = job->ended_ms;
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        if (job->streams[i].last_byte_ms > last_ms)
            last_ms = job->streams[i].last_byte_ms;
    }
    uint64_t until_ms = last_ms + BROKER_LINGER_QUIET_MS;
    uint64_t latest_ms = job->ended_ms + BROKER_LINGER_MAX_MS;
    return until_ms < latest_ms ? until_ms : latest_ms;
}

bool broker_job_lingers(const struct broker_job *job)
{
    return job->has_ended && !job->has_failed && job->state == BROKER_JOB_RUNNING;
}

void broker_job_check(struct broker_job *job, uint64_t now_ms)
{
    if (broker_job_lingers(job) && now_ms >= broker_job_linger_until(job))
        finish(job);
}

bool broker_job_is_idle(const struct broker_job *job)
{
    if (job->notes || !job->has_ended || job->is_unreaped)
        return false;
    if (job->has_failed)
        return true;
    return job->is_released && job->state == BROKER_JOB_DONE && output_is_at_end(job) &&
           !broker_input_is_open(&job->input);
}

void broker_job_facts(const struct broker_job *job, struct broker_facts *ret_facts)
{
    *ret_facts = (struct broker_facts){
        .pid = job->state == BROKER_JOB_STARTING ? 0 : (int32_t)job->pid,
        .state = job->state,
        .capture = job->capture,
        .wait_status = job->wait_status,
        .started_ms = job->started_ms,
        .finished_ms = job->finished_ms,
        .started_unix_ms = job->started_unix_ms,
        .input_left_bytes = broker_input_left_bytes(&job->input),
        .profile = job->asker.profile,
        .input_taken_bytes = job->input.taken_bytes,
        .flags =
            (job->asker.is_own ? BROKER_IS_OWN : 0u) |
            (job->has_timed_out ? BROKER_HAS_TIMED_OUT : 0u) |
            (broker_input_is_open(&job->input) && job->input.stays_open ? BROKER_TAKES_INPUT : 0u),
    };
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        ret_facts->streams[i].size_bytes = job->streams[i].size_bytes;
        ret_facts->streams[i].is_present = job->streams[i].memory_fd >= 0;
        ret_facts->streams[i].is_truncated = job->streams[i].is_truncated;
    }
}
