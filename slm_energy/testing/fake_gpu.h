/* The GPUs that libnvidia_ml.c and libcuda.c simulate: their description, their waveform and their faults.
 *
 * They are described in the file NAME_OF_THE_LIBRARY.conf, one "key value" a line, which is read
 * again whenever it changes. nvml.py writes it and says what the keys mean.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, UNKNOWN = 999 };
enum { MAX_GPUS = 16, MAX_STEPS = 1024, MAX_FAULTS = 64, MAX_PROCESSES = 64, MAX_MIG = 8 };
#define SECOND 1000000000LL

/* What is wrong with a function; "*" is every function of the GPU. */
typedef struct {
    char kind; /* e: error code, d: delay in ms, v: value; of the counter f: frozen, b: backward,
                  r: reset */
    char function[64];
    uint64_t number;
} Fault;

typedef struct {
    char uuid[96], name[96], mig[MAX_MIG][96];
    struct { int64_t length_ns, power_mw; } steps[MAX_STEPS];
    Fault faults[MAX_FAULTS];
    unsigned processes[MAX_PROCESSES];
    int mig_count, step_count, fault_count, process_count;
    int64_t start_ns, counter_period_ns, power_period_ns, power_window_ns, faults_from_ns;
    int64_t major, minor, architecture, power_limit_mw, utilization_pct, memory_bytes, temperature_c;
    int64_t sm_clock_mhz, event_reasons, power_type, speed;
} Gpu;

static const struct { const char *key; size_t offset; } NUMBERS[] = {
#define NUMBER(key) { #key, offsetof(Gpu, key) }
    NUMBER(start_ns), NUMBER(counter_period_ns), NUMBER(power_period_ns), NUMBER(power_window_ns),
    NUMBER(faults_from_ns), NUMBER(major), NUMBER(minor), NUMBER(architecture),
    NUMBER(power_limit_mw), NUMBER(utilization_pct), NUMBER(memory_bytes), NUMBER(temperature_c),
    NUMBER(sm_clock_mhz), NUMBER(event_reasons), NUMBER(power_type),
    NUMBER(speed),
};

/* Each thread has the machine to itself: no lock is needed. */
static _Thread_local struct {
    struct stat file;
    char driver[80];
    int init_code, count_code, count;
    Gpu gpus[MAX_GPUS];
} machine;

/* --- the machine's description ---------------------------------------------------------------- */

static int copy(char *to, size_t size, const char *from) {
    snprintf(to, size, "%s", from);
    return SUCCESS;
}

static void set(Gpu *gpu, const char *key, const char *text) {
    for (size_t n = 0; n < sizeof NUMBERS / sizeof *NUMBERS; n++)
        if (!strcmp(key, NUMBERS[n].key))
            *(int64_t *)((char *)gpu + NUMBERS[n].offset) = atoll(text);
    if (!strcmp(key, "name"))
        copy(gpu->name, sizeof gpu->name, text);
    if (!strcmp(key, "mig") && gpu->mig_count < MAX_MIG)
        copy(gpu->mig[gpu->mig_count++], sizeof *gpu->mig, text);
    if (!strcmp(key, "process") && gpu->process_count < MAX_PROCESSES)
        gpu->processes[gpu->process_count++] = (unsigned)atoll(text);
    if (!strcmp(key, "step") && gpu->step_count < MAX_STEPS) {
        char *rest;
        gpu->steps[gpu->step_count].length_ns = strtoll(text, &rest, 10);
        gpu->steps[gpu->step_count++].power_mw = atoll(rest);
    }
    if (!strcmp(key, "fault") && gpu->fault_count < MAX_FAULTS) {
        Fault *fault = &gpu->faults[gpu->fault_count++];
        char number[32];
        sscanf(text, "%c %63s %31s", &fault->kind, fault->function, number);
        fault->number = strtoull(number, NULL, 10);
    }
}

/* Read the description, if it is another file than before. */
static int load(void) {
    Dl_info library;
    char path[PATH_MAX], line[256];
    struct stat file;
    if (!dladdr((void *)load, &library))
        return UNKNOWN;
    snprintf(path, sizeof path, "%s.conf", library.dli_fname);
    if (stat(path, &file))
        return UNKNOWN;
    if (file.st_ino == machine.file.st_ino
        && !memcmp(&file.st_mtim, &machine.file.st_mtim, sizeof file.st_mtim))
        return SUCCESS;
    FILE *stream = fopen(path, "r");
    if (!stream)
        return UNKNOWN;
    memset(&machine, 0, sizeof machine);
    machine.file = file;
    while (fgets(line, sizeof line, stream)) {
        line[strcspn(line, "\n")] = 0;
        char *text = line + strcspn(line, " ");
        if (*text)
            *text++ = 0;
        if (!strcmp(line, "driver"))
            copy(machine.driver, sizeof machine.driver, text);
        else if (!strcmp(line, "init"))
            machine.init_code = atoi(text);
        else if (!strcmp(line, "count"))
            machine.count_code = atoi(text);
        else if (!strcmp(line, "gpu") && machine.count < MAX_GPUS)
            copy(machine.gpus[machine.count++].uuid, sizeof machine.gpus->uuid, text);
        else if (machine.count)
            set(&machine.gpus[machine.count - 1], line, text);
    }
    fclose(stream);
    return SUCCESS;
}

/* --- the waveform ----------------------------------------------------------------------------- */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t cycle_ns(const Gpu *gpu) {
    int64_t sum = 0;
    for (int n = 0; n < gpu->step_count; n++)
        sum += gpu->steps[n].length_ns;
    return sum;
}

static int64_t phase_ns(const Gpu *gpu, int64_t at) {
    int64_t cycle = cycle_ns(gpu), phase = (at - gpu->start_ns) % cycle;
    return phase < 0 ? phase + cycle : phase;
}

/* Energy in pJ (mW times ns) between the start of a cycle and `at`. */
static __int128 energy_pj(const Gpu *gpu, int64_t at) {
    int64_t phase = phase_ns(gpu, at), cycles = (at - gpu->start_ns - phase) / cycle_ns(gpu);
    __int128 energy = 0;
    for (int n = 0; n < gpu->step_count; n++) {
        int64_t length = gpu->steps[n].length_ns, part = phase < length ? phase : length;
        energy += ((__int128)length * cycles + part) * gpu->steps[n].power_mw;
        phase -= part;
    }
    return energy;
}

/* Mean power over the `window` before the last publication; without a window, power then. */
static int64_t power_mw(const Gpu *gpu, int64_t window) {
    int64_t at = now_ns();
    at -= at % gpu->power_period_ns;
    if (window)
        return (int64_t)((energy_pj(gpu, at) - energy_pj(gpu, at - window)) / window);
    int64_t phase = phase_ns(gpu, at);
    int n = 0;
    while (phase >= gpu->steps[n].length_ns)
        phase -= gpu->steps[n++].length_ns;
    return gpu->steps[n].power_mw;
}

static int averages(const Gpu *gpu) { /* Ampere and later, but for GA100, which has 8.0 */
    return gpu->major > 8 || (gpu->major == 8 && gpu->minor > 0);
}

static int64_t usage_mw(const Gpu *gpu) {
    return power_mw(gpu, averages(gpu) ? SECOND : gpu->power_window_ns);
}

/* --- faults ----------------------------------------------------------------------------------- */

static const Fault *fault(const Gpu *gpu, char kind, const char *function) {
    for (int n = 0; n < gpu->fault_count && now_ns() >= gpu->faults_from_ns; n++) {
        const Fault *one = &gpu->faults[n];
        if (one->kind == kind && (!strcmp(one->function, "*") || !strcmp(one->function, function)))
            return one;
    }
    return NULL;
}

/* The code that a function returns, once it has taken its time. */
static int outcome(const Gpu *gpu, const char *function) {
    const Fault *delay = fault(gpu, 'd', function), *error = fault(gpu, 'e', function);
    if (delay) {
        struct timespec pause = { delay->number / 1000, delay->number % 1000 * 1000000 };
        nanosleep(&pause, NULL);
    }
    return error ? (int)error->number : SUCCESS;
}

static uint64_t answer(const Gpu *gpu, const char *function, uint64_t value) {
    const Fault *other = fault(gpu, 'v', function);
    return other ? other->number : value;
}

/* The counter in mJ since the clock's zero, or since its reset. */
static uint64_t counter_mj(const Gpu *gpu) {
    const char *self = "nvmlDeviceGetTotalEnergyConsumption";
    int64_t at = now_ns(), since = 0;
    if (fault(gpu, 'f', self))
        at = gpu->faults_from_ns;
    if (fault(gpu, 'b', self))
        at = 2 * gpu->faults_from_ns - at;
    if (fault(gpu, 'r', self))
        since = gpu->faults_from_ns;
    at -= at % gpu->counter_period_ns;
    return at < since ? 0 : (uint64_t)((energy_pj(gpu, at) - energy_pj(gpu, since)) / SECOND);
}
