// dnn_attention.h - attention by cuDNN.
#pragma once
#include "dnn.h"

namespace cuda {
dnn_result dnn_attention(work &w, const aj_call *c);     // of the row attention
dnn_result dnn_attention_grad(work &w, const aj_call *c);
}
