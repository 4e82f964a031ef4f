/* A stand-in for NVIDIA's libcuda.so.1, as far as it numbers GPUs. nvml.py compiles it.
 *
 * It has the same GPUs as libnvidia_ml.c, and numbers them as CUDA does (CUDA programming guide,
 * environment variables): the fastest first, or in the order of PCI addresses with
 * CUDA_DEVICE_ORDER=PCI_BUS_ID; then CUDA_VISIBLE_DEVICES chooses, by index or by the beginning of
 * a UUID, up to its first invalid entry. It computes nothing.
 */
#include "fake_gpu.h"

enum { NOT_INITIALIZED = 3, INVALID_DEVICE = 101 };

static struct { const Gpu *gpu; int mig; } visible[MAX_GPUS];
static int visible_count = -1;

static void show(const Gpu *gpu, int mig) {
    for (int n = 0; n < visible_count; n++)
        if (visible[n].gpu == gpu && visible[n].mig == mig) { /* named twice: CUDA sees none */
            visible_count = 0;
            return;
        }
    visible[visible_count].gpu = gpu;
    visible[visible_count++].mig = mig;
}

/* Show what one entry names; return whether it names one device. */
static int choose(const Gpu **ordered, const char *entry) {
    char *rest;
    long index = strtol(entry, &rest, 10);
    if (rest != entry && !*rest && index >= 0 && index < machine.count)
        return show(ordered[index], ordered[index]->mig_count ? 0 : -1), 1;
    for (int n = 0; n < machine.count && *entry; n++) {
        if (!strncmp(ordered[n]->uuid, entry, strlen(entry)))
            return show(ordered[n], ordered[n]->mig_count ? 0 : -1), 1;
        for (int mig = 0; mig < ordered[n]->mig_count; mig++)
            if (!strcmp(ordered[n]->mig[mig], entry))
                return show(ordered[n], mig), 1;
    }
    return 0;
}

int cuInit(unsigned flags) {
    const Gpu *ordered[MAX_GPUS];
    const char *order = getenv("CUDA_DEVICE_ORDER"), *setting = getenv("CUDA_VISIBLE_DEVICES");
    (void)flags;
    load();
    for (int n = 0; n < machine.count; n++) {
        int at = n;
        while (at && (!order || strcmp(order, "PCI_BUS_ID"))
               && ordered[at - 1]->speed < machine.gpus[n].speed) {
            ordered[at] = ordered[at - 1];
            at--;
        }
        ordered[at] = &machine.gpus[n];
    }
    visible_count = 0;
    for (int n = 0; n < machine.count && !setting; n++)
        show(ordered[n], ordered[n]->mig_count ? 0 : -1);
    char names[1024] = "", *next = names;
    copy(names, sizeof names, setting ? setting : "");
    while (*next) {
        char *entry = strsep(&next, ",");
        if (!choose(ordered, entry) || !next)
            break;
    }
    return SUCCESS;
}

int cuDeviceGet(int *device, int index) {
    if (visible_count < 0)
        return NOT_INITIALIZED;
    *device = index;
    return index < 0 || index >= visible_count ? INVALID_DEVICE : SUCCESS;
}

/* The 16 bytes of the hexadecimal digits of a UUID; with MIG, of the MIG device's. */
int cuDeviceGetUuid_v2(unsigned char *bytes, int device) {
    const Gpu *gpu = visible[device].gpu;
    const char *text = visible[device].mig < 0 ? gpu->uuid : gpu->mig[visible[device].mig];
    text += strlen("GPU-");
    for (int n = 0; n < 16; n++) {
        text += *text == '-';
        unsigned byte = 0;
        sscanf(text, "%2x", &byte);
        bytes[n] = (unsigned char)byte;
        text += 2;
    }
    return SUCCESS;
}
