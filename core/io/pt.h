/* pt.h - what a .pt file is while it is read: the machine of its pickle, the values made so far, and the storages behind tensors. */
#ifndef AJ_PT_H
#define AJ_PT_H
#include "io/zip.h"

/* Values of the pickle that no result may hold. */
enum { PT_GLOBAL = 100, PT_STORAGE };

typedef struct { int64_t entry; uint64_t numel; int32_t type; } pt_storage;       /* type: of pt_types */
typedef struct { uint32_t storage; int32_t ndim; int64_t offset, shape[AJ_MAX_DIM], stride[AJ_MAX_DIM]; } pt_tensor;
typedef struct { aj_storage *bytes; size_t item; bool bools; } pt_bytes;

struct aj_pt {
    aj_blob *blob, *pickle;
    aj_zip *zip;
    const char *folder;         /* of data.pkl; folder_n characters */
    int folder_n;
    bool big_endian;
    cursor in;
    aj_pt_node *nodes;
    pt_tensor *tensors;
    pt_storage *storages;
    uint32_t *stack, *marks, *memo;
    uint32_t n_nodes, n_tensors, n_storages, n_stack, n_marks, n_memo;    /* arrays grow when a count meets a power of two */
    uint32_t top;               /* the result */
    pt_bytes *bytes;            /* of each entry of the zip, once a tensor asked for it */
};

typedef struct { const char *name; int8_t dtype; uint8_t item; } pt_type;
extern const pt_type pt_types[];

bool pt_bad(const aj_pt *p, const char *what);                  /* false */
int64_t pt_refuse(const aj_pt *p, const char *what);            /* -1 */
/* Room for one more in an array of n; false after an error. */
bool pt_room(const aj_pt *p, void *array, uint32_t n, size_t item);
int64_t pt_make(aj_pt *p, uint32_t kind);                       /* a new node; -1 after an error */
bool pt_append(aj_pt *p, uint32_t list, uint32_t item);
bool pt_set(aj_pt *p, uint32_t dict, uint32_t key, uint32_t value);

int64_t pt_global(aj_pt *p, const char *module, size_t module_n, const char *name, size_t name_n);
int64_t pt_call(aj_pt *p, uint32_t callable, uint32_t args);    /* a data constructor, never a function */
int64_t pt_persistent(aj_pt *p, uint32_t id);
bool pt_run(aj_pt *p);
#endif
