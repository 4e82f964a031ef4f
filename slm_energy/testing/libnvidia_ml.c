/* A stand-in for NVIDIA's libnvidia-ml.so.1. nvml.py compiles it, and describes the GPUs it plays.
 *
 * Each GPU follows one waveform P(t), piecewise constant on CLOCK_MONOTONIC. All that is told of
 * its power comes from that: power now, power averaged over 1 s, power seen by a sensor that looks
 * part of the time, and the energy counter, which is the exact integral. So readings agree, and
 * whoever integrates them can be checked.
 *
 * Signatures, codes and structures are those of nvml.h, as far as this project and a few others
 * call them. nvmlInit and nvmlInit_v2 are absent on purpose: CUDA programs look for those, and must
 * not take a fake GPU for one that computes.
 */
#include "fake_gpu.h"

enum { UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };
enum { FIELD_AVERAGE = 185, FIELD_INSTANT = 186, TYPE_DOUBLE = 0 };

static int users; /* nvmlInit minus nvmlShutdown */

/* --- the library and its devices -------------------------------------------------------------- */

/* A GPU's handle is its index + 1; a MIG device's has its own index + 1 in the next byte. */
typedef uintptr_t Device;
static Device handle(int gpu, int mig) { return (Device)(gpu + 1 + ((mig + 1) << 8)); }
static int gpu_index(Device device) { return (int)(device & 0xff) - 1; }
static int mig_index(Device device) { return (int)(device >> 8) - 1; }

static int ready(void) {
    int code = load();
    return users ? code : UNINITIALIZED;
}

static int enter(Device device, const char *function, const Gpu **gpu) {
    int code = ready();
    if (code)
        return code;
    if (gpu_index(device) < 0)
        return INVALID_ARGUMENT;
    if (gpu_index(device) >= machine.count)
        return GPU_IS_LOST;
    *gpu = &machine.gpus[gpu_index(device)];
    return outcome(*gpu, function);
}

/* How each function of a device begins: `gpu` is the device's, or the function returns why not. */
#define ENTER(function)                           \
    const Gpu *gpu;                               \
    int code = enter(device, function, &gpu);     \
    if (code)                                     \
        return code

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = load();
    code = code ? code : machine.init_code;
    users += !code;
    return code;
}

int nvmlShutdown(void) {
    if (!users)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    int code = ready();
    return code ? code : copy(text, size, machine.driver);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = ready();
    *count = (unsigned)machine.count;
    return code ? code : machine.count_code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *handle_out) {
    Device device = *handle_out = handle((int)index, -1);
    if (!ready() && index >= (unsigned)machine.count)
        return INVALID_ARGUMENT;
    ENTER("nvmlDeviceGetHandleByIndex");
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    int code = ready();
    for (int n = 0; !code && n < machine.count; n++)
        for (int mig = -1; mig < machine.gpus[n].mig_count; mig++)
            if (!strcmp(uuid, mig < 0 ? machine.gpus[n].uuid : machine.gpus[n].mig[mig])) {
                *device = handle(n, mig);
                return SUCCESS;
            }
    return code ? code : NOT_FOUND;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device device, Device *parent) {
    ENTER(__func__);
    *parent = handle(gpu_index(device), -1);
    return mig_index(device) < 0 ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    ENTER(__func__);
    *count = gpu->mig_count ? MAX_MIG : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *mig) {
    ENTER(__func__);
    *mig = handle(gpu_index(device), (int)index);
    return (int)index < gpu->mig_count ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    ENTER(__func__);
    *current = *pending = gpu->mig_count > 0;
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device device, char *text, unsigned size) {
    ENTER(__func__);
    return copy(text, size, mig_index(device) < 0 ? gpu->uuid : gpu->mig[mig_index(device)]);
}

int nvmlDeviceGetName(Device device, char *text, unsigned size) {
    ENTER(__func__);
    return copy(text, size, gpu->name);
}

int nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    ENTER(__func__);
    *major = (int)gpu->major;
    *minor = (int)gpu->minor;
    return SUCCESS;
}

/* --- what a device shows ---------------------------------------------------------------------- */

#define READING(function, type, value)                              \
    int function(Device device, type *out) {                        \
        ENTER(#function);                                           \
        *out = (type)answer(gpu, #function, (uint64_t)(value));     \
        return SUCCESS;                                             \
    }

/* The same for functions that ask which sensor or which clock; there is one. */
#define READING_OF(function, type, value)                           \
    int function(Device device, unsigned which, type *out) {        \
        ENTER(#function);                                           \
        (void)which;                                                \
        *out = (type)answer(gpu, #function, (uint64_t)(value));     \
        return SUCCESS;                                             \
    }

READING(nvmlDeviceGetTotalEnergyConsumption, uint64_t, counter_mj(gpu))
READING(nvmlDeviceGetPowerUsage, unsigned, usage_mw(gpu))
READING(nvmlDeviceGetEnforcedPowerLimit, unsigned, gpu->power_limit_mw)
READING(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, gpu->power_limit_mw)
READING(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, gpu->event_reasons)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, gpu->event_reasons)
READING(nvmlDeviceGetArchitecture, unsigned, gpu->architecture)
READING(nvmlDeviceGetPersistenceMode, unsigned, 1)
READING(nvmlDeviceGetComputeMode, unsigned, 0)
READING_OF(nvmlDeviceGetTemperature, unsigned, gpu->temperature_c)
READING_OF(nvmlDeviceGetClockInfo, unsigned, gpu->sm_clock_mhz)
READING_OF(nvmlDeviceGetMaxClockInfo, unsigned, gpu->sm_clock_mhz)

typedef struct { uint64_t reference_ns, violation_ns; } Violation;

int nvmlDeviceGetViolationStatus(Device device, unsigned policy, Violation *violation) {
    ENTER(__func__);
    (void)policy;
    violation->reference_ns = (uint64_t)now_ns();
    violation->violation_ns = answer(gpu, __func__, 0);
    return SUCCESS;
}

typedef struct { unsigned gpu, memory; } Utilization;

int nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    ENTER(__func__);
    rates->gpu = rates->memory = (unsigned)answer(gpu, __func__, (uint64_t)gpu->utilization_pct);
    return SUCCESS;
}

typedef struct { uint64_t total, free, used; } Memory;

int nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    ENTER(__func__);
    memory->used = answer(gpu, __func__, (uint64_t)gpu->memory_bytes);
    memory->free = memory->used;
    memory->total = 2 * memory->used;
    return SUCCESS;
}

typedef struct { unsigned pid; uint64_t used; unsigned gpu_instance, compute_instance; } Process;

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    ENTER("nvmlDeviceGetComputeRunningProcesses");
    unsigned room = *count;
    /* All of a divided GPU's processes are on its first MIG device. */
    *count = mig_index(device) > 0 ? 0 : (unsigned)gpu->process_count;
    if (room < *count)
        return INSUFFICIENT_SIZE;
    for (unsigned n = 0; n < *count; n++) {
        uint64_t used = answer(gpu, "nvmlDeviceGetComputeRunningProcesses",
                               (uint64_t)gpu->memory_bytes);
        processes[n] = (Process){ .pid = gpu->processes[n], .used = used };
    }
    return SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    ENTER("nvmlDeviceGetGraphicsRunningProcesses");
    (void)processes;
    *count = 0;
    return SUCCESS;
}

typedef struct {
    unsigned field, scope;
    int64_t timestamp_us, latency_us;
    unsigned type, code;
    union { double real; uint64_t whole; } value;
} Field;

static void fill(const Gpu *gpu, Field *field) {
    const char *name = field->field == FIELD_INSTANT   ? "NVML_FI_DEV_POWER_INSTANT"
                       : field->field == FIELD_AVERAGE ? "NVML_FI_DEV_POWER_AVERAGE" : NULL;
    if (!name || (field->field == FIELD_AVERAGE && !averages(gpu))) {
        field->code = NOT_SUPPORTED;
        return;
    }
    int64_t window = field->field == FIELD_AVERAGE ? SECOND : gpu->power_window_ns;
    field->code = (unsigned)outcome(gpu, name);
    field->type = (unsigned)gpu->power_type;
    field->value.whole = (uint64_t)power_mw(gpu, window);
    if (field->type == TYPE_DOUBLE)
        field->value.real = (double)field->value.whole;
    field->value.whole = answer(gpu, name, field->value.whole);
}

int nvmlDeviceGetFieldValues(Device device, int count, Field *fields) {
    ENTER(__func__);
    for (int n = 0; n < count; n++)
        fill(gpu, &fields[n]);
    return SUCCESS;
}
