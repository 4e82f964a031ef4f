/* The few functions of AMD's libamd_smi.so that slm_energy.meters.amd reaches through AMD's own
 * Python package, over GPUs that are described in the text file STATE and read anew at each call.
 * Struct layouts are those of amdsmi 7.0; `testing/amd.py` writes the file and adds a stub for each
 * function that the package binds and that is not here. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 16
#define NOT_SUPPORTED 2

typedef struct { char function[64]; int status; } Error;
typedef struct { int64_t length_ns, power_mw; } Step;
typedef struct {
    char name[128], uuid[64], power_field[16];
    unsigned domain, bus, device, function, hip_id;
    float resolution;
    int64_t start_ns, update_ns, frozen_ns, first_ticks;
    Step steps[64];
    Error errors[MOST];
    struct { unsigned pid; uint64_t bytes; } processes[MOST];
    int step_count, error_count, process_count;
} Gpu;

static Gpu gpus[MOST];
static int gpu_count, init_status;

static void load(void) {
    char line[512];
    FILE *file = fopen(STATE, "r");
    Gpu *gpu = gpus - 1;
    gpu_count = 0;
    if (!file) abort();
    while (fgets(line, sizeof line, file)) {
        char key[32], *value = strchr(line, ' ') + 1;
        sscanf(line, "%31s", key);
        value[strcspn(value, "\n")] = 0;
        if (!strcmp(key, "init")) init_status = atoi(value);
        else if (!strcmp(key, "gpu")) {
            gpu = &gpus[gpu_count++];
            memset(gpu, 0, sizeof *gpu);
            sscanf(value, "%x:%x:%x.%x", &gpu->domain, &gpu->bus, &gpu->device, &gpu->function);
        }
        else if (!strcmp(key, "name")) strncpy(gpu->name, value, sizeof gpu->name - 1);
        else if (!strcmp(key, "uuid")) strncpy(gpu->uuid, value, sizeof gpu->uuid - 1);
        else if (!strcmp(key, "power_field")) strncpy(gpu->power_field, value, 15);
        else if (!strcmp(key, "hip_id")) gpu->hip_id = strtoul(value, NULL, 10);
        else if (!strcmp(key, "resolution")) gpu->resolution = strtof(value, NULL);
        else if (!strcmp(key, "start_ns")) gpu->start_ns = atoll(value);
        else if (!strcmp(key, "update_ns")) gpu->update_ns = atoll(value);
        else if (!strcmp(key, "frozen_ns")) gpu->frozen_ns = atoll(value);
        else if (!strcmp(key, "first_ticks")) gpu->first_ticks = atoll(value);
        else if (!strcmp(key, "process")) {
            char *rest;
            gpu->processes[gpu->process_count].pid = strtoul(value, &rest, 10);
            gpu->processes[gpu->process_count++].bytes = strtoull(rest, NULL, 10);
        }
        else if (!strcmp(key, "step")) {
            Step *step = &gpu->steps[gpu->step_count++];
            sscanf(value, "%ld %ld", &step->length_ns, &step->power_mw);
        }
        else if (!strcmp(key, "error")) {
            Error *error = &gpu->errors[gpu->error_count++];
            sscanf(value, "%63s %d", error->function, &error->status);
        }
    }
    fclose(file);
}

/* The GPU of a handle, and the status that its function is to return. */
static Gpu *find(void *handle, const char *function, int *status) {
    load();
    Gpu *gpu = &gpus[(uintptr_t)handle - 1];
    *status = 0;
    for (int i = 0; i < gpu->error_count; i++)
        if (!strcmp(gpu->errors[i].function, function)) *status = gpu->errors[i].status;
    return gpu;
}

#define FIND(handle) int status; Gpu *gpu = find(handle, __func__, &status); if (status) return status

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t cycle_ns(const Gpu *gpu) {
    int64_t sum = 0;
    for (int i = 0; i < gpu->step_count; i++) sum += gpu->steps[i].length_ns;
    return sum;
}

static int64_t power_mw(const Gpu *gpu, int64_t time_ns) {
    int64_t phase = (time_ns - gpu->start_ns) % cycle_ns(gpu);
    int i = 0;
    while (phase >= gpu->steps[i].length_ns) phase -= gpu->steps[i++].length_ns;
    return gpu->steps[i].power_mw;
}

/* As Waveform.energy_pj, for times after its start. */
static __int128 energy_pj(const Gpu *gpu, int64_t time_ns) {
    int64_t cycles = (time_ns - gpu->start_ns) / cycle_ns(gpu);
    int64_t phase = (time_ns - gpu->start_ns) % cycle_ns(gpu);
    __int128 sum = 0;
    for (int i = 0; i < gpu->step_count; i++) {
        const Step *step = &gpu->steps[i];
        int64_t part = phase < step->length_ns ? phase : step->length_ns;
        sum += ((__int128)cycles * step->length_ns + part) * step->power_mw;
        phase -= part;
    }
    return sum;
}

int amdsmi_init(uint64_t flags) { (void)flags; load(); return init_status; }
int amdsmi_shut_down(void) { return 0; }

int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
    *count = 1;
    if (handles) handles[0] = (void *)1;
    return 0;
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
    (void)socket;
    load();
    *count = gpu_count;
    for (int i = 0; handles && i < gpu_count; i++) handles[i] = (void *)(uintptr_t)(i + 1);
    return 0;
}

int amdsmi_get_energy_count(void *handle, uint64_t *ticks, float *resolution, uint64_t *stamp) {
    FIND(handle);
    int64_t time_ns = gpu->frozen_ns ? gpu->frozen_ns : now_ns();
    time_ns -= time_ns % gpu->update_ns;
    *ticks = gpu->first_ticks + (int64_t)(energy_pj(gpu, time_ns) * 65536 / 1000000000000LL);
    *resolution = gpu->resolution;
    *stamp = time_ns;
    return 0;
}

typedef struct {
    uint64_t socket_power;
    uint32_t current_socket_power, average_socket_power;
    uint64_t gfx_mv, soc_mv, mem_mv;
    uint32_t power_limit;
    uint64_t reserved[18];
} PowerInfo;

int amdsmi_get_power_info(void *handle, PowerInfo *info) {
    FIND(handle);
    uint32_t watts = power_mw(gpu, now_ns()) / 1000, none = 0xFFFF;
    int current = !strcmp(gpu->power_field, "current");
    memset(info, 0, sizeof *info);
    info->socket_power = watts;
    info->current_socket_power = current ? watts : none;
    info->average_socket_power = current ? none : watts;
    return 0;
}

typedef struct {
    char market_name[256];
    uint32_t vendor_id;
    char vendor_name[256];
    uint32_t subvendor_id;
    uint64_t device_id;
    uint32_t rev_id;
    char asic_serial[256];
    uint32_t oam_id, compute_units;
    uint64_t graphics_version;
    uint32_t subsystem_id, reserved[21];
} AsicInfo;

int amdsmi_get_gpu_asic_info(void *handle, AsicInfo *info) {
    FIND(handle);
    memset(info, 0, sizeof *info);
    strcpy(info->market_name, gpu->name);
    return 0;
}

int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf) {
    FIND(handle);
    *bdf = gpu->function | gpu->device << 3 | gpu->bus << 8 | (uint64_t)gpu->domain << 16;
    return 0;
}

typedef struct { uint32_t drm_render, drm_card, hsa_id, hip_id; char hip_uuid[256]; } Enumeration;

int amdsmi_get_gpu_enumeration_info(void *handle, Enumeration *info) {
    FIND(handle);
    memset(info, 0, sizeof *info);
    info->hip_id = gpu->hip_id;
    strcpy(info->hip_uuid, gpu->uuid);
    return 0;
}

typedef struct { uint32_t gfx, umc, mm, reserved[13]; } Activity;

int amdsmi_get_gpu_activity(void *handle, Activity *activity) {
    FIND(handle);
    memset(activity, 0, sizeof *activity);
    activity->gfx = 40;
    return 0;
}

typedef struct { uint32_t total_mib, used_mib, reserved[2]; } Memory;

int amdsmi_get_gpu_vram_usage(void *handle, Memory *memory) {
    FIND(handle);
    memory->total_mib = 65536;
    memory->used_mib = 2000;
    return 0;
}

int amdsmi_get_temp_metric(void *handle, uint32_t sensor, uint32_t metric, int64_t *celsius) {
    FIND(handle);
    (void)metric;
    if (sensor != 1) return NOT_SUPPORTED; /* only the hot spot, as on an MI300 */
    *celsius = 45;
    return 0;
}

typedef struct {
    char name[256];
    uint32_t pid;
    uint64_t memory;
    struct { uint64_t gfx, enc; uint32_t reserved[12]; } usage;
    struct { uint64_t gtt, cpu, vram; uint32_t reserved[10]; } memory_usage;
    char container_name[256];
    uint32_t cu_occupancy, reserved[11];
} Process;

int amdsmi_get_gpu_process_list(void *handle, uint32_t *count, Process *processes) {
    FIND(handle);
    *count = gpu->process_count;
    memset(processes, 0, gpu->process_count * sizeof *processes);
    for (int i = 0; i < gpu->process_count; i++) {
        processes[i].pid = gpu->processes[i].pid;
        processes[i].memory = processes[i].memory_usage.vram = gpu->processes[i].bytes;
    }
    return 0;
}
