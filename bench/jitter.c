/* How long equal pieces of arithmetic take on so many threads at once, in seconds, a line each:
 * jitter THREADS SECONDS PIECES. A piece takes SECONDS where nothing disturbs it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int pieces;
static long count;
static pthread_barrier_t barrier;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void work(void) {
    uint64_t a = 1, b = 2, c = 3, d = 4;
    for (long i = 0; i < count; i++) {
        a = a * 3 + i, b = b * 5 + i, c = c * 7 + i, d = d * 9 + i;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)); /* none of it may be left out */
    }
}

static void *beside(void *unused) {
    (void)unused;
    for (int piece = 0; piece < pieces; piece++) {
        pthread_barrier_wait(&barrier);
        work();
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

/* What a thread does in `seconds`, from the best of some tries. */
static long counted(double seconds) {
    double best_s = 1e9;
    count = 1000000;
    for (int i = 0; i < 20; i++) {
        double began_s = now_s();
        work();
        double took_s = now_s() - began_s;
        if (took_s < best_s) best_s = took_s;
    }
    return count * (seconds / best_s);
}

int main(int given, char **arguments) {
    int threads = given == 4 ? atoi(arguments[1]) : 0;
    double seconds = given == 4 ? atof(arguments[2]) : 0;
    if (threads < 1 || seconds <= 0 || (pieces = atoi(arguments[3])) < 1) {
        fprintf(stderr, "usage: jitter THREADS SECONDS PIECES\n");
        return 2;
    }
    count = counted(seconds);
    pthread_barrier_init(&barrier, NULL, threads);
    pthread_t thread;
    for (int i = 1; i < threads; i++)
        if (pthread_create(&thread, NULL, beside, NULL)) return 1;
    for (int piece = 0; piece < pieces; piece++) {
        pthread_barrier_wait(&barrier);
        double began_s = now_s();
        work();
        pthread_barrier_wait(&barrier);
        printf("%.6f\n", now_s() - began_s);
    }
    return 0;
}
