/* rnn.c - recurrent layers: one direction of one layer over a sequence is an op, and a cell is a sequence of one step.
 *
 * Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers and others, 2000; Cho and others,
 * "Learning phrase representations", 2014, in the form whose reset gate acts after the product, as in PyTorch. Gates are in
 * PyTorch's order: input, forget, cell, output; reset, update, new.
 */
#include "matrix.h"
#include <string.h>

enum { TANH, RELU, LSTM, GRU };
static const int gates_of[] = {1, 1, 4, 3};
static const char *const names[] = {"tanh", "relu", "lstm", "gru"};
int8_t aj_rnn_named(const char *name) {
    for (int i = 0; i < 4; i++) if (name && !strcmp(name, names[i])) return (int8_t)i;
    return -1;
}

/* x (T, N, gates * H), h and c (N, H), weight (gates * H, H), bias (gates * H) */
static bool fits(const aj_call *c, aj_tensor *const *in) {
    int mode = c->attrs->mode;
    if (mode < 0) return aj_refuse(c, "the mode is tanh, relu, lstm or gru");
    const aj_tensor *x = in[0], *h = in[1], *s = in[2], *w = in[3], *b = in[4];
    if (x->ndim != 3 || h->ndim != 2 || w->ndim != 2) return aj_refuse(c, "the input is (steps, batch, gates), the state (batch, hidden), the weight (gates, hidden)");
    int64_t H = h->shape[1], G = gates_of[mode] * H;
    if (x->shape[2] != G || w->shape[0] != G || w->shape[1] != H) return aj_refuse(c, "a state of %lld wants %lld gates, and a weight of (%lld, %lld)", (long long)H, (long long)G, (long long)G, (long long)H);
    if (x->shape[1] != h->shape[0]) return aj_refuse(c, "the input has a batch of %lld, and the state one of %lld", (long long)x->shape[1], (long long)h->shape[0]);
    if ((mode == LSTM) != (s != NULL)) return aj_refuse(c, mode == LSTM ? "an LSTM needs a cell state" : "only an LSTM has a cell state");
    if (s && !aj_same_shape(s, h)) return aj_refuse(c, "the hidden state and the cell state differ in shape");
    if (b && (b->ndim != 1 || b->shape[0] != G)) return aj_refuse(c, "the bias must have %lld elements", (long long)G);
    return true;
}

bool rnn_layer_shape(aj_call *c) {
    if (!aj_floats(c, 0) || !aj_floats(c, 1) || !aj_floats(c, 3) || !aj_same_dtype(c) || !fits(c, c->in)) return false;
    const aj_tensor *x = c->in[0];
    int64_t H = c->in[1]->shape[1];
    for (int k = 0; k < 3; k++) {
        aj_spec_like(&c->spec[k], x);
        c->spec[k].shape[2] = H;
    }
    if (c->attrs->mode != LSTM) c->spec[1].shape[0] = 0;
    c->spec[2].shape[2] = (c->attrs->mode == LSTM || c->attrs->mode == GRU ? 4 : 0) * H;   /* gates; of a GRU also its product's last third */
    c->n_out = 3;
    return true;
}

/* The steps lo to hi of x, by halves, so that the gradient of T steps costs T log T and not T^2. */
static bool steps_of(aj_tensor *x, int64_t lo, int64_t hi, aj_tensor **step) {
    if (!x) return false;
    if (hi - lo == 1) return (step[lo] = aj_live(aj_squeeze(x, &(aj_ints){1, {0}}))) != NULL;
    int64_t half = (hi - lo) / 2;
    return steps_of(aj_live(aj_narrow(x, 0, 0, half)), lo, lo + half, step) && steps_of(aj_live(aj_narrow(x, 0, half, hi - lo - half)), lo + half, hi, step);
}
static aj_tensor *gate(aj_tensor *x, int k, int64_t H) { return x ? aj_live(aj_narrow(x, 1, k * H, H)) : NULL; }
static aj_tensor *sigmoid(aj_tensor *x) { return x ? aj_live(aj_sigmoid(x)) : NULL; }
static aj_tensor *hyperbolic(aj_tensor *x) { return x ? aj_live(aj_tanh(x)) : NULL; }

/* One step; *s becomes the new cell state. */
static aj_tensor *one_step(int mode, aj_tensor *x, aj_tensor *h, aj_tensor **s, aj_tensor *w, aj_tensor *b) {
    int64_t H = h->shape[1];
    aj_tensor *p = aj_live(aj_linear(h, w, b));
    if (mode == GRU) {
        aj_tensor *r = sigmoid(plus(gate(x, 0, H), gate(p, 0, H))), *z = sigmoid(plus(gate(x, 1, H), gate(p, 1, H)));
        aj_tensor *n = hyperbolic(plus(gate(x, 2, H), times(r, gate(p, 2, H))));
        return plus(n, times(z, minus(h, n)));
    }
    aj_tensor *a = plus(x, p);
    if (mode == TANH) return hyperbolic(a);
    if (mode == RELU) return a ? aj_live(aj_relu(a)) : NULL;
    *s = plus(times(sigmoid(gate(a, 1, H)), *s), times(sigmoid(gate(a, 0, H)), hyperbolic(gate(a, 2, H))));
    return times(sigmoid(gate(a, 3, H)), hyperbolic(*s));
}
/* The outputs, with the cell states beside them: (T, N, H) or (T, N, 2 H). */
static aj_tensor *all_steps(aj_tensor *const *in, const aj_attrs *a, aj_tensor **step) {
    int64_t T = in[0]->shape[0];
    aj_tensor *h = in[1], *s = in[2];
    if (!steps_of(in[0], 0, T, step)) return NULL;
    for (int64_t i = 0; i < T; i++) {
        int64_t t = a->flag ? T - 1 - i : i;
        if (!(h = one_step(a->mode, step[t], h, &s, in[3], in[4]))) return NULL;
        aj_list both = {2, (aj_tensor *[]){h, s}};
        if (!(step[t] = a->mode == LSTM ? aj_live(aj_cat(&both, 1)) : h)) return NULL;
    }
    aj_list all = {(int32_t)T, step};
    return aj_live(aj_stack(&all, 0));
}
static aj_tensor *step_by_step(aj_tensor *const *in, int n_in, const aj_attrs *a) {
    (void)n_in;
    aj_tensor **step = aj_scratch(in[0]->shape[0] * (int64_t)sizeof *step);
    if (!step) return NULL;
    aj_tensor *y = all_steps(in, a, step);
    aj_scratch_free(step);
    return y;
}

bool rnn_layer_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) {
    aj_tensor *g = gy[0], *gs = n->attrs->mode == LSTM ? gy[1] : NULL;
    if (!g && !gs) return true;
    aj_ints size = aj_sizes(n->out[0].t), none = {0};
    if (size.v[0] == 0) return true;
    if (aj_recording()) {
        aj_tensor *zero = aj_live(aj_full((aj_dtype)n->out[0].t->dtype, &none, n->device, 0));
        if (!zero || !(zero = aj_live(aj_expand(zero, &size)))) return false;
        aj_list both = {2, (aj_tensor *[]){g ? g : zero, gs ? gs : zero}};
        if (n->attrs->mode == LSTM) g = aj_live(aj_cat(&both, 2));
        return g && aj_vjp_by_definition(n, step_by_step, g, gx);
    }
    if (!aj_rnn_layer_grad(g, gs, n->in[1].t, n->in[2].t, n->in[3].t, n->out[0].t, n->out[1].t, n->out[2].t, names[n->attrs->mode], n->attrs->flag)) return false;
    aj_tensor *result[4];
    for (int k = 0; k < 4; k++) result[k] = aj_result(k + 1);
    for (int k = 0; k < 4; k++) if (aj_wants(n, k)) gx[k] = result[k];
    /* The bias stands where the product with the weight does: its gradient is the sum of what flows there. */
    if (!aj_wants(n, 4)) return true;
    aj_tensor *flow = result[0];
    if (n->attrs->mode == GRU) {                         /* of the last third, times the reset gate */
        int64_t H = n->out[0].t->shape[2];
        aj_tensor *r = aj_live(aj_narrow(n->out[2].t, 2, 0, H)), *rest = aj_live(aj_narrow(flow, 2, 0, 2 * H)), *last = times(aj_live(aj_narrow(flow, 2, 2 * H, H)), r);
        aj_list both = {2, (aj_tensor *[]){rest, last}};
        flow = rest && last ? aj_live(aj_cat(&both, 2)) : NULL;
    }
    return flow && (gx[4] = aj_sum(flow, &(aj_ints){2, {0, 1}}, false));
}

bool rnn_layer_grad_shape(aj_call *c) {
    if (!aj_floats(c, 2) || !aj_floats(c, 4) || !aj_floats(c, 5) || !aj_floats(c, 7) || !aj_same_dtype(c)) return false;
    const aj_tensor *h = c->in[2], *w = c->in[4], *y = c->in[5];
    int mode = c->attrs->mode;
    if (mode < 0 || h->ndim != 2 || w->ndim != 2 || y->ndim != 3 || y->shape[2] != h->shape[1] || w->shape[1] != h->shape[1] || w->shape[0] != gates_of[mode] * h->shape[1]
        || y->shape[1] != h->shape[0] || (mode == LSTM) != (c->in[3] != NULL) || (mode == LSTM && !c->in[6])) return aj_refuse(c, "the operands do not fit together");
    if (mode == LSTM && (!aj_same_shape(c->in[3], h) || !aj_same_shape(c->in[6], y))) return aj_refuse(c, "the cell states do not fit");
    for (int k = 0; k < 2; k++) if (c->in[k] && !aj_same_shape(c->in[k], y)) return aj_refuse(c, "a gradient has its result's shape");
    const aj_tensor *work = c->in[7];
    if (work->ndim != 3 || work->shape[0] != y->shape[0] || work->shape[1] != y->shape[1] || work->shape[2] != (mode >= LSTM ? 4 : 0) * h->shape[1]) return aj_refuse(c, "the gates do not fit");
    aj_spec_like(&c->spec[0], y);
    c->spec[0].shape[2] = w->shape[0];
    aj_spec_like(&c->spec[1], h);
    aj_spec_like(&c->spec[2], h);
    if (mode != LSTM) c->spec[2].shape[0] = 0;
    aj_spec_like(&c->spec[3], w);
    c->n_out = 4;
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k] && !c->in[k]->contiguous && !(c->in[k] = aj_live(aj_contiguous(c->in[k])))) return false;
    return true;
}
bool rnn_layer_grad_vjp(aj_node *n, aj_tensor *const *gy, aj_tensor **gx) { (void)n; (void)gy; (void)gx; return true; }

/* -- Cells: of (N, features) and states (N, H), or without the batch --------------------------------------------------------- */

static aj_tensor *cell(aj_call *c, int mode) {
    int n_state = mode == LSTM ? 2 : 1;
    aj_tensor *x, *state[2] = {0}, *w = c->in[n_state + 1], *v = c->in[n_state + 2], *bx = c->in[n_state + 3], *bh = c->in[n_state + 4];
    if (!aj_given(c, 0, n_state + 3)) return NULL;
    x = c->in[0];
    if (x->ndim != 1 && x->ndim != 2) { aj_refuse(c, "the input is (batch, features), or (features)"); return NULL; }
    bool one = x->ndim == 1;
    for (int k = 0; k < n_state; k++) {
        if (c->in[k + 1]->ndim != x->ndim) { aj_refuse(c, "the input has %d dimensions, and the state must have as many", x->ndim); return NULL; }
        state[k] = one ? aj_live(aj_unsqueeze(c->in[k + 1], 0)) : c->in[k + 1];
        if (!state[k]) return NULL;
    }
    if (one && !(x = aj_live(aj_unsqueeze(x, 0)))) return NULL;
    x = aj_live(aj_linear(x, w, bx));
    if (!x || !(x = aj_live(aj_unsqueeze(x, 0)))) return NULL;
    aj_tensor *y = aj_live(aj_rnn_layer(x, state[0], state[1], v, bh, names[mode], false)), *s = y && mode == LSTM ? aj_live(aj_result(2)) : NULL;
    aj_ints over = {one ? 2 : 1, {0, 1}};
    if (!y || !(y = aj_live(aj_squeeze(y, &over)))) return NULL;
    if (mode != LSTM) return y;
    if (!(c->out[1] = s ? aj_live(aj_squeeze(s, &over)) : NULL)) return NULL;
    c->n_out = 2;
    return y;
}
aj_tensor *lstm_cell_compose(aj_call *c) { return cell(c, LSTM); }
aj_tensor *gru_cell_compose(aj_call *c) { return cell(c, GRU); }
aj_tensor *rnn_tanh_cell_compose(aj_call *c) { return cell(c, TANH); }
aj_tensor *rnn_relu_cell_compose(aj_call *c) { return cell(c, RELU); }
