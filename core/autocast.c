/* autocast.c - mixed precision: the dtype that each op takes its inputs in, while a thread asks for it. */
#include "core.h"

/* Products and convolutions, whose cost falls with the size of a number, take the low precision; what needs range or adds
 * many numbers takes f32; the others, not named here, follow promotion. */
enum { FOLLOW, LOW, FULL };
static const uint8_t policy[OP_COUNT] = {
    [OP_matmul] = LOW, [OP_linear] = LOW, [OP_conv1d] = LOW, [OP_conv2d] = LOW, [OP_conv3d] = LOW,
    [OP_conv_transpose1d] = LOW, [OP_conv_transpose2d] = LOW, [OP_conv_transpose3d] = LOW, [OP_attention] = LOW,
    [OP_scaled_dot_product_attention] = LOW,

    [OP_exp] = FULL, [OP_exp2] = FULL, [OP_expm1] = FULL, [OP_log] = FULL, [OP_log2] = FULL, [OP_log10] = FULL, [OP_log1p] = FULL,
    [OP_pow] = FULL, [OP_rsqrt] = FULL, [OP_reciprocal] = FULL, [OP_logaddexp] = FULL, [OP_logaddexp2] = FULL, [OP_softplus] = FULL,
    [OP_sinh] = FULL, [OP_cosh] = FULL, [OP_tan] = FULL, [OP_asin] = FULL, [OP_acos] = FULL, [OP_erfinv] = FULL,
    [OP_sum] = FULL, [OP_prod] = FULL, [OP_mean] = FULL, [OP_var] = FULL, [OP_std] = FULL, [OP_norm] = FULL, [OP_logsumexp] = FULL,
    [OP_cumsum] = FULL, [OP_cumprod] = FULL, [OP_logcumsumexp] = FULL, [OP_cdist] = FULL,
    [OP_softmax] = FULL, [OP_log_softmax] = FULL, [OP_softmin] = FULL,
    [OP_layer_norm] = FULL, [OP_rms_norm] = FULL, [OP_group_norm] = FULL, [OP_batch_norm] = FULL, [OP_instance_norm] = FULL,
    [OP_rnn_layer] = FULL,
    [OP_normalize] = FULL, [OP_cosine_similarity] = FULL, [OP_pairwise_distance] = FULL, [OP_local_response_norm] = FULL,
    [OP_cross_entropy] = FULL, [OP_cross_entropy_index] = FULL, [OP_nll_loss] = FULL, [OP_mse_loss] = FULL, [OP_l1_loss] = FULL,
    [OP_smooth_l1_loss] = FULL, [OP_huber_loss] = FULL, [OP_bce_loss] = FULL, [OP_bce_with_logits] = FULL, [OP_kl_div] = FULL,
    [OP_pseudo_huber_loss] = FULL, [OP_log_cosh_loss] = FULL, [OP_hinge_loss] = FULL, [OP_soft_margin_loss] = FULL,
    [OP_margin_ranking_loss] = FULL, [OP_hinge_embedding_loss] = FULL, [OP_cosine_embedding_loss] = FULL,
    [OP_triplet_margin_loss] = FULL, [OP_multi_margin_loss] = FULL, [OP_multilabel_soft_margin_loss] = FULL,
    [OP_poisson_nll_loss] = FULL, [OP_gaussian_nll_loss] = FULL,
};

int32_t aj_autocast(int32_t dtype) {
    int32_t was = aj_ctx.state.autocast;
    aj_ctx.state.autocast = dtype;
    return was;
}

/* The dtype that t is cast to as an input of op; -1: it stays as it is. f64 and integers do. */
static int wanted(int op, const aj_tensor *t) {
    if (!t) return -1;
    if (policy[op] == LOW && (t->dtype == AJ_F32 || t->dtype == AJ_F16 || t->dtype == AJ_BF16))
        return t->dtype == aj_ctx.state.autocast ? -1 : aj_ctx.state.autocast;
    return policy[op] == FULL && (t->dtype == AJ_F16 || t->dtype == AJ_BF16) ? AJ_F32 : -1;
}

bool aj_autocasts(int op, aj_tensor *const *in, int n) {
    if (policy[op] == LOW)                               /* f64 among the inputs: the caller wants that precision */
        for (int k = 0; k < n; k++) if (in[k] && in[k]->dtype == AJ_F64) return false;
    for (int k = 0; policy[op] != FOLLOW && k < n; k++) if (wanted(op, in[k]) >= 0) return true;
    return false;
}

bool aj_autocast_inputs(int op, aj_tensor **in, int n) {
    for (int k = 0; k < n; k++) {
        int d = wanted(op, in[k]);
        if (d >= 0 && !(in[k] = aj_live(aj_cast(in[k], (aj_dtype)d)))) return false;
    }
    return true;
}
