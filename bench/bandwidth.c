/* The rate at which so many threads read memory, in bytes/s: bandwidth THREADS ROUNDS.
 *
 * Each thread sums its own part of an array of 256 MiB, far beyond any cache, in huge pages where
 * the system gives them. For every line of its input it runs so many short rounds and prints their
 * median. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { BYTES = 256 << 20, HUGE_PAGE = 2 << 20, LANES = 16 };

static int threads, rounds;
static const uint64_t *memory;
static pthread_barrier_t barrier;

struct part {
    pthread_t thread;
    size_t first, count;
    double began_s, ended_s;
    uint64_t sum;
};

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *read_part(void *argument) {
    struct part *part = argument;
    for (;;) {
        uint64_t sums[LANES] = {0};
        const uint64_t *from = memory + part->first;
        pthread_barrier_wait(&barrier);
        part->began_s = now_s();
        for (size_t i = 0; i < part->count; i += LANES)
            for (int lane = 0; lane < LANES; lane++) sums[lane] += from[i + lane];
        part->ended_s = now_s();
        for (int lane = 0; lane < LANES; lane++) part->sum += sums[lane];
        pthread_barrier_wait(&barrier); /* the main thread reads the times after it */
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

/* One short round of all threads. */
static double rate(const struct part *parts) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    double began_s = parts[0].began_s, ended_s = parts[0].ended_s;
    for (int i = 1; i < threads; i++) {
        if (parts[i].began_s < began_s) began_s = parts[i].began_s;
        if (parts[i].ended_s > ended_s) ended_s = parts[i].ended_s;
    }
    pthread_barrier_wait(&barrier);
    return parts[0].count * sizeof *memory * threads / (ended_s - began_s);
}

int main(int count, char **arguments) {
    if (count != 3 || (threads = atoi(arguments[1])) < 1 || (rounds = atoi(arguments[2])) < 1) {
        fprintf(stderr, "usage: bandwidth THREADS ROUNDS\n");
        return 2;
    }
    void *allocated = aligned_alloc(HUGE_PAGE, BYTES);
    struct part *parts = calloc(threads, sizeof *parts);
    double *rates = calloc(rounds, sizeof *rates);
    if (allocated == NULL || parts == NULL || rates == NULL) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    madvise(allocated, BYTES, MADV_HUGEPAGE);
    memset(allocated, 1, BYTES);
    memory = allocated;
    pthread_barrier_init(&barrier, NULL, threads + 1);
    size_t each = BYTES / sizeof *memory / threads / LANES * LANES;
    for (int i = 0; i < threads; i++) {
        parts[i].first = i * each;
        parts[i].count = each;
        if (pthread_create(&parts[i].thread, NULL, read_part, &parts[i])) return 1;
    }
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        for (int round = 0; round < rounds; round++) rates[round] = rate(parts);
        qsort(rates, rounds, sizeof *rates, ascending);
        printf("%.0f\n", rates[rounds / 2]);
        fflush(stdout);
    }
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) sum += parts[i].sum;
    return sum == 0; /* what was read must not look unused */
}
