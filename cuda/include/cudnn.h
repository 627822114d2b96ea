// cudnn.h - what aijit uses of cuDNN 9's interface; for compilers that find no other. See ../library.h.
#pragma once
#include <cuda_runtime.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum { CUDNN_STATUS_SUCCESS = 0, CUDNN_STATUS_BAD_PARAM = 2000, CUDNN_STATUS_NOT_SUPPORTED = 3000 } cudnnStatus_t;

size_t cudnnGetVersion(void);
const char *cudnnGetErrorString(cudnnStatus_t status);

#ifdef __cplusplus
}
#endif
