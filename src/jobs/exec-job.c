/* SPDX-License-Identifier: MIT */
#include "jobs/exec-job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "jobs/broker-memory.h"
#include "jobs/broker-peer.h"

static uint64_t held_bytes(const struct job *job)
{
    const struct exec_job *exec = list_entry(job, const struct exec_job, job);
    uint64_t sum = 0;
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        struct stat status;
        if (exec->outputs[i].fd >= 0 && fstat(exec->outputs[i].fd, &status) == 0)
            sum += (uint64_t)status.st_size;
    }
    return sum;
}

static void forgotten(struct job *job)
{
    broker_peer_release(list_entry(job, struct exec_job, job));
}

static void free_job(struct job *job)
{
    struct exec_job *exec = list_entry(job, struct exec_job, job);
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        close_fd(exec->outputs[i].fd);
    free(exec);
}

const struct job_kind exec_job_kind = {
    .name = "exec",
    .forgotten = forgotten,
    .free = free_job,
    .held_bytes = held_bytes,
};

struct exec_job *exec_job_new(enum broker_capture capture)
{
    struct exec_job *exec = calloc(1, sizeof(*exec));
    if (!exec)
        return NULL;
    exec->job.kind = &exec_job_kind;
    exec->capture = capture;
    list_init(&exec->of_peer);
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        exec->outputs[i].fd = -1;
    job_ref(&exec->job);
    return exec;
}

struct exec_job *exec_job_of(struct job *job)
{
    return job->kind == &exec_job_kind ? list_entry(job, struct exec_job, job) : NULL;
}

void exec_job_take_result(struct exec_job *exec, const struct broker_facts *facts)
{
    exec->wait_status = facts->wait_status;
    exec->has_timed_out = facts->flags & BROKER_HAS_TIMED_OUT;
    exec->takes_input = false;
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        struct exec_output *output = &exec->outputs[i];
        uint64_t size_bytes = 0;
        output->size_bytes = facts->streams[i].size_bytes;
        output->is_truncated = facts->streams[i].is_truncated;
        if (output->size_bytes == 0 ||
            (broker_memory_is_sealed(output->fd, &size_bytes) && size_bytes >= output->size_bytes))
            continue;
        log_error("the output of pid %ld is lost (%" PRIu64 " bytes): it did not reach the agent",
                  (long)exec->job.pid, output->size_bytes);
        output->size_bytes = 0;
        output->is_truncated = true;
    }
}

int exec_output_map(const struct exec_output *output, const void **ret_bytes)
{
    if (output->size_bytes == 0) {
        *ret_bytes = "";
        return 0;
    }
    /* Sealed and as long as it says: no access to it can fail. */
    void *bytes = mmap(NULL, output->size_bytes, PROT_READ, MAP_PRIVATE, output->fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    *ret_bytes = bytes;
    return 0;
}

void exec_output_unmap(const struct exec_output *output, const void *bytes)
{
    if (output->size_bytes > 0)
        munmap((void *)bytes, output->size_bytes);
}
