/* A plugin for QEMU's user mode that counts the instructions a program executes, and the turns that its first thread
 * takes part in, and prints both at the program's end.
 *
 * Threads run as on a machine that has a core for each of them, where every instruction takes a turn: the thread that
 * has come least far goes on, for a slice, and all others stand still. So the number of turns until the end does not
 * depend on the machine that counts. A thread is put aside while it is inside the system, and is where the others are
 * when it comes back.
 *
 * Preloaded into QEMU too, it has the program see the processors of COUNT_SPEEDS, a list of relative speeds ("1,1,0.5"):
 * where a thread is bound to one of speed 0.5, an instruction takes two turns.
 *
 * The declarations are those of QEMU's qemu-plugin.h (API version 1) that are needed here; distributions leave the
 * header out of their packages. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned, void *);
typedef void (*called_t)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                         uint64_t, uint64_t, uint64_t);
typedef void (*ended_t)(qemu_plugin_id_t, void *);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, called_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *);
void qemu_plugin_outs(const char *);

int qemu_plugin_version = 1;

enum {
    THREADS = 64,
    /* Instructions that a thread may be ahead of another one. */
    SLICE = 500,
    /* System calls of aarch64. */
    EXIT_GROUP = 94,
    FUTEX = 98,
};

static struct thread {
    /* When its next instruction is due, and when another thread goes on, in turns. */
    double clock, until;
    /* Whether it takes turns; otherwise it is inside the system, where it may wait for an address. */
    bool ready;
    uint64_t address;
    pthread_cond_t chosen;
} threads[THREADS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Who goes on. */
static struct thread *_Atomic running;
static double now;
/* Executed so far by all; only the one that runs adds to it. */
static uint64_t instructions;
/* Turns that an instruction of this thread takes. */
static _Thread_local double turns = 1;
/* The program is ending: nobody stands still any more. */
static bool _Atomic ending;

/* Lets the thread go on that is due first. */
static void choose(void)
{
    struct thread *first = NULL;
    double second = INFINITY;
    for (struct thread *t = threads; t < threads + THREADS; t++) {
        if (!t->ready)
            continue;
        if (!first || t->clock < first->clock) {
            if (first)
                second = first->clock;
            first = t;
        } else if (t->clock < second) {
            second = t->clock;
        }
    }
    running = first;
    if (!first)
        return;
    first->until = second + SLICE;
    now = first->clock > now ? first->clock : now;
    pthread_cond_signal(&first->chosen);
}

static void get_ready(struct thread *t)
{
    double there = running ? running->clock : now;
    if (t->ready)
        return;
    t->ready = true;
    t->address = 0;
    t->clock = t->clock > there ? t->clock : there;
    /* Somebody who has a long time to go on for does not know of this thread. */
    if (running && running->until > t->clock + SLICE)
        running->until = t->clock + SLICE;
}

static void wait_for_turn(struct thread *t)
{
    pthread_mutex_lock(&lock);
    get_ready(t);
    if (!running || running == t)
        choose();
    while (running != t && !ending)
        pthread_cond_wait(&t->chosen, &lock);
    pthread_mutex_unlock(&lock);
}

static void executed(unsigned index, void *data)
{
    struct thread *t = &threads[index % THREADS];
    if (ending)
        return;
    if (running != t || t->clock >= t->until)
        wait_for_turn(t);
    t->clock += (uintptr_t)data * turns;
    instructions += (uintptr_t)data;
}

static void called(qemu_plugin_id_t id, unsigned index, int64_t number, uint64_t address, uint64_t operation,
                   uint64_t count, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    struct thread *t = &threads[index % THREADS], *waiting = NULL;
    (void)id, (void)count, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    pthread_mutex_lock(&lock);
    if (number == EXIT_GROUP) {
        ending = true;
        for (struct thread *other = threads; other < threads + THREADS; other++)
            pthread_cond_signal(&other->chosen);
    }
    /* FUTEX_WAIT and FUTEX_WAKE; with a set of bits they are 9 more. */
    if (number == FUTEX && (operation & 127) % 9 == 0)
        t->address = address;
    if (number == FUTEX && (operation & 127) % 9 == 1) {
        unsigned found = 0;
        for (struct thread *other = threads; other < threads + THREADS; other++)
            if (other != t && !other->ready && other->address == address) {
                waiting = other;
                found++;
            }
        /* Which of several threads the system wakes is not known. */
        if (found == 1)
            get_ready(waiting);
    }
    t->ready = false;
    if (running == t || !running)
        choose();
    pthread_mutex_unlock(&lock);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS, (void *)qemu_plugin_tb_n_insns(block));
}

static void ended(qemu_plugin_id_t id, void *data)
{
    char line[128];
    (void)id, (void)data;
    snprintf(line, sizeof line, "instructions: %" PRIu64 "\nturns: %.0f\n", instructions, threads[0].clock);
    qemu_plugin_outs(line);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    for (int i = 0; i < THREADS; i++)
        pthread_cond_init(&threads[i].chosen, NULL);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}

/* Puts the speeds of COUNT_SPEEDS into `speeds`, and returns how many there are. */
static int read_speeds(double speeds[THREADS])
{
    char *text = getenv("COUNT_SPEEDS");
    int count = 0;
    while (text && *text && count < THREADS) {
        speeds[count++] = strtod(text, &text);
        text += *text == ',';
    }
    return count;
}

/* QEMU hands the program's system calls on through this function. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
    static long (*next)(long, long, long, long, long, long, long);
    double speeds[THREADS];
    int count = read_speeds(speeds);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    if (count && number == SYS_sched_setaffinity) {
        int processor = __builtin_ctzl(*(unsigned long *)c);
        if (processor < count)
            turns = 1 / speeds[processor];
        return 0;
    }
    if (count && number == SYS_sched_getaffinity) {
        memset((void *)c, 0, b);
        *(unsigned long *)c = ~0UL >> (64 - count);
        return sizeof(unsigned long);
    }
    return next(number, a, b, c, d, e, f);
}
