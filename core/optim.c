/* optim.c - the optimizers: for each its state, and the numbers that one step's loop is given. The loops themselves, which
 * say the formulas for one element, are in core/cpu/optim.inc; t counts a parameter's updates from 1. */
#include "jit.h"
#include "watch.h"
#include "update.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- The numbers of a step ------------------------------------------------------------------------------------ */

typedef void numbers_of(const aj_optim_options *o, aj_optim_count *c, double *number);

static double sign_of(const aj_optim_options *o) { return o->maximize ? -1 : 1; }

/* Adam (Kingma and Ba, 2015); AdamW when decoupled (Loshchilov and Hutter, 2019); AMSGrad (Reddi and others, 2018). */
static void adam(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step;
    number[0] = o->lr / (1 - pow(o->beta1, t));
    number[1] = o->beta1;
    number[2] = o->beta2;
    number[3] = o->eps;
    number[4] = 1 / sqrt(1 - pow(o->beta2, t));
    number[5] = o->decoupled ? 1 - o->lr * o->weight_decay : 1;
    number[6] = o->decoupled ? 0 : o->weight_decay;
    number[7] = sign_of(o);
}

/* Momentum as in Sutskever and others (2013), written as PyTorch writes it: the first buffer is the gradient, undamped. */
static void sgd(const aj_optim_options *o, aj_optim_count *c, double *number) {
    number[0] = o->lr;
    number[1] = o->momentum;
    number[2] = c->step == 1 ? 1 : 1 - o->dampening;
    number[3] = o->weight_decay;
    number[4] = o->nesterov;
    number[5] = sign_of(o);
}

/* Lion (Chen and others, 2023). */
static void lion(const aj_optim_options *o, aj_optim_count *c, double *number) {
    (void)c;
    number[0] = o->lr;
    number[1] = o->beta1;
    number[2] = o->beta2;
    number[3] = 1 - o->lr * o->weight_decay;
    number[4] = sign_of(o);
}

/* Adan (Xie and others, 2022), with betas as its authors' program has them: the shares that stay. */
static void adan(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step;
    number[0] = o->beta1;
    number[1] = o->beta2;
    number[2] = o->beta3;
    number[3] = o->lr / (1 - pow(o->beta1, t));
    number[4] = o->lr * o->beta2 / (1 - pow(o->beta2, t));
    number[5] = 1 / sqrt(1 - pow(o->beta3, t));
    number[6] = o->eps;
    number[7] = o->no_prox ? 1 - o->lr * o->weight_decay : 1;
    number[8] = o->no_prox ? 1 : 1 / (1 + o->lr * o->weight_decay);
    number[9] = sign_of(o);
    number[10] = c->step == 1;                           /* there is no gradient before the first */
}

/* RMSprop (Hinton, 2012; centred: Graves, 2013). */
static void rmsprop(const aj_optim_options *o, aj_optim_count *c, double *number) {
    (void)c;
    number[0] = o->lr;
    number[1] = o->alpha;
    number[2] = o->eps;
    number[3] = o->weight_decay;
    number[4] = o->momentum;
    number[5] = sign_of(o);
}

/* Adagrad (Duchi and others, 2011). */
static void adagrad(const aj_optim_options *o, aj_optim_count *c, double *number) {
    number[0] = o->lr / (1 + (double)(c->step - 1) * o->lr_decay);
    number[1] = o->eps;
    number[2] = o->weight_decay;
    number[3] = sign_of(o);
}

/* Adadelta (Zeiler, 2012). */
static void adadelta(const aj_optim_options *o, aj_optim_count *c, double *number) {
    (void)c;
    number[0] = o->lr;
    number[1] = o->rho;
    number[2] = o->eps;
    number[3] = o->weight_decay;
    number[4] = sign_of(o);
}

/* Adamax (Kingma and Ba, 2015, section 7). */
static void adamax(const aj_optim_options *o, aj_optim_count *c, double *number) {
    number[0] = o->lr / (1 - pow(o->beta1, (double)c->step));
    number[1] = o->beta1;
    number[2] = o->beta2;
    number[3] = o->eps;
    number[4] = o->weight_decay;
    number[5] = sign_of(o);
}

/* NAdam (Dozat, 2016); the product of all momenta so far is carried along. */
static void nadam(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step;
    double mu = o->beta1 * (1 - 0.5 * pow(0.96, t * o->momentum_decay));
    double next = o->beta1 * (1 - 0.5 * pow(0.96, (t + 1) * o->momentum_decay));
    if (c->step == 1) c->number[0] = 1;
    c->number[0] *= mu;
    number[0] = o->lr * (1 - mu) / (1 - c->number[0]);
    number[1] = o->lr * next / (1 - c->number[0] * next);
    number[2] = o->beta1;
    number[3] = o->beta2;
    number[4] = o->eps;
    number[5] = 1 / sqrt(1 - pow(o->beta2, t));
    number[6] = o->decoupled ? 1 - o->lr * o->weight_decay : 1;
    number[7] = o->decoupled ? 0 : o->weight_decay;
    number[8] = sign_of(o);
}

/* RAdam (Liu and others, 2020): while the second moment's variance has no bound, momentum alone. */
static void radam(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step, b2 = pow(o->beta2, t);
    double most = 2 / (1 - o->beta2) - 1, rho = most - 2 * t * b2 / (1 - b2);
    number[0] = o->lr / (1 - pow(o->beta1, t));
    number[1] = o->beta1;
    number[2] = o->beta2;
    number[3] = o->eps;
    number[4] = rho > 5 ? sqrt(1 - b2) * sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) : 0;
    number[5] = o->decoupled ? 1 - o->lr * o->weight_decay : 1;
    number[6] = o->decoupled ? 0 : o->weight_decay;
    number[7] = sign_of(o);
}

/* Rprop (Riedmiller and Braun, 1993). */
static void rprop(const aj_optim_options *o, aj_optim_count *c, double *number) {
    (void)c;
    number[0] = o->etaminus;
    number[1] = o->etaplus;
    number[2] = o->least;
    number[3] = o->most;
    number[4] = sign_of(o);
}

/* Schedule-free AdamW (Defazio and others, 2024): the sum of the averaging weights and the largest rate are carried along. */
static void schedule_free(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step;
    double rate = t < o->warmup ? o->lr * t / o->warmup : o->lr;
    if (c->step == 1) c->number[0] = c->number[1] = 0;
    if (rate > c->number[1]) c->number[1] = rate;
    double weight = pow(t, o->rate_power) * pow(c->number[1], o->weight_power);
    c->number[0] += weight;
    double share = c->number[0] > 0 ? weight / c->number[0] : 0;
    number[0] = rate;
    number[1] = o->beta2;
    number[2] = o->eps;
    number[3] = 1 / sqrt(1 - pow(o->beta2, t));
    number[4] = o->weight_decay;
    number[5] = share;
    number[6] = rate * (o->beta1 * (1 - share) - 1);
    number[7] = sign_of(o);
}

/* LAMB (You and others, 2020), its moments without bias; [7] is left for the trust ratio times the rate. */
static void lamb(const aj_optim_options *o, aj_optim_count *c, double *number) {
    double t = (double)c->step;
    number[0] = o->beta1;
    number[1] = o->beta2;
    number[2] = 1 / (1 - pow(o->beta1, t));
    number[3] = 1 / sqrt(1 - pow(o->beta2, t));
    number[4] = o->eps;
    number[5] = o->weight_decay;
    number[6] = sign_of(o);
}

/* Muon's numbers are its own; see muon.c. */
static void muon(const aj_optim_options *o, aj_optim_count *c, double *number) { (void)o; (void)c; (void)number; }

/* -- The methods ------------------------------------------------------------------------------------------------ */

enum { N_STATE = 4 };

static bool always(const aj_optim_options *o) { (void)o; return true; }
static bool with_amsgrad(const aj_optim_options *o) { return o->amsgrad; }
static bool with_momentum(const aj_optim_options *o) { return o->momentum != 0; }
static bool with_centre(const aj_optim_options *o) { return o->centered; }

typedef struct {
    const char *name;
    numbers_of *numbers;
    struct { const char *name; bool (*wanted)(const aj_optim_options *o); } state[N_STATE];
} method;

static const method methods[] = {
#define METHOD(name, ...) {#name, name, {__VA_ARGS__}}
    METHOD(sgd, {"momentum buffer", with_momentum}),
    METHOD(adam, {"first moment", always}, {"second moment", always}, {"largest second moment", with_amsgrad}),
    METHOD(lion, {"first moment", always}),
    METHOD(adan, {"first moment", always}, {"mean difference", always}, {"second moment", always}, {"gradient before", always}),
    METHOD(rmsprop, {"mean square", always}, {"mean gradient", with_centre}, {"momentum buffer", with_momentum}),
    METHOD(adagrad, {"sum of squares", always}),
    METHOD(adadelta, {"mean square", always}, {"mean squared step", always}),
    METHOD(adamax, {"first moment", always}, {"infinity norm", always}),
    METHOD(nadam, {"first moment", always}, {"second moment", always}),
    METHOD(radam, {"first moment", always}, {"second moment", always}),
    METHOD(rprop, {"gradient before", always}, {"step size", always}),
    METHOD(schedule_free, {"z", always}, {"second moment", always}),
    METHOD(lamb, {"first moment", always}, {"second moment", always}),
    METHOD(muon, {"momentum buffer", always}),
};

static const method *method_named(const char *name) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) if (!strcmp(methods[i].name, name)) return &methods[i];
    aj_error("there is no optimizer method '%s'", name);
    return NULL;
}

static aj_optim_row *const *row_of(const method *m) {
    const aj_optim_kernels *k = aj_optim_cpu();
    numbers_of *f = m->numbers;
    return f == sgd ? k->sgd : f == adam ? k->adam : f == lion ? k->lion : f == adan ? k->adan : f == rmsprop ? k->rmsprop
         : f == adagrad ? k->adagrad : f == adadelta ? k->adadelta : f == adamax ? k->adamax : f == nadam ? k->nadam
         : f == radam ? k->radam : f == rprop ? k->rprop : f == schedule_free ? k->schedule_free : f == lamb ? k->lamb : k->muon;
}

typedef struct {
    const method *m;
    const aj_optim_options *o;
    aj_tensors params, grads, state[N_STATE], masters;
} step;

/* The operands of parameter i; operand[1] NULL: nothing to do. */
static bool operands(const step *s, int i, aj_update *u) {
    const char *who = s->m->name;
    bool ok = true;
    aj_tensor *p = aj_update_target(s->params, i, who, "parameter");
    if (!p) return false;
    memset(u->operand, 0, sizeof u->operand);
    u->operand[0] = p;
    u->operand[1] = aj_update_gradient(s->grads, p, i, who, &ok);
    u->master = NULL;
    if (!ok) return false;
    if (!u->operand[1]) return true;
    for (int k = 0; k < N_STATE && s->m->state[k].name; k++)
        if (s->m->state[k].wanted(s->o) && !aj_update_state(s->state[k], p, i, who, s->m->state[k].name, &u->operand[2 + k])) return false;
    if (p->dtype == AJ_F32 || p->dtype == AJ_F64 || !s->masters || i >= s->masters->n || !aj_untag(s->masters->v[i])) return true;
    return aj_update_state(s->masters, p, i, who, "f32 copy", &u->master);
}

static bool update_all(const step *s, aj_optim_count *count) {
    aj_update u = {.sum = {0}};
    aj_updates later = {0};                              /* on devices: one launch for all */
    aj_optim_count *old = NULL;                          /* of all parameters, from the first of these on */
    aj_optim_count last = {.step = -1}, after = last;    /* parameters are mostly of one age, and so have one set of numbers */
    bool ok = true;
    for (int i = 0; i < s->params->n && ok; i++) {
        if (!(ok = operands(s, i, &u))) break;
        if (!u.operand[1]) continue;
        aj_optim_count before = count[i];
        bool device = u.operand[0]->device >= 0;
        if (device && !old) {
            size_t size = (size_t)s->params->n * sizeof *old;
            if (!(old = malloc(size))) { ok = aj_error("%s: out of memory", s->m->name); break; }
            memcpy(old, count, size);
        }
        count[i].step++;
        if (s->m->numbers == muon) ok = aj_muon_apply(u.operand[0], u.operand[1], u.operand[2], u.master, s->o);
        else {
            if (before.step == last.step && !memcmp(before.number, last.number, sizeof last.number)) count[i] = after;
            else {
                s->m->numbers(s->o, &count[i], u.number);
                last = before;
                after = count[i];
            }
            u.row = row_of(s->m);
            u.summed = s->m->numbers == lamb;
            u.trust = u.summed ? s->o->lr : 0;
            ok = aj_update_add(&later, &u);
        }
        if (!ok) { count[i] = before; break; }
        for (int k = 0; k < AJ_UPDATE_OPERANDS; k++) if (k != 1) aj_written(u.operand[k]);
        aj_written(u.master);
    }
    if (!ok) aj_update_forget(&later);
    bool waits = later.n > 0 || (!ok && old && s->m->numbers != muon), done = ok && aj_update_end(&later);
    for (int i = 0; waits && !done && i < s->params->n; i++) {
        aj_tensor *p = aj_live(s->params->v[i]);
        if (p && p->device >= 0) count[i] = old[i];
    }
    free(old);
    return done;
}

/* What was recorded has been checked as a whole. */
static bool step_again(aj_jit_step *a) {
    aj_tensors const *l = a->list;
    step s = {.m = method_named(a->method), .o = a->options, .params = l[0], .grads = l[1], .state = {l[2], l[3], l[4], l[5]}, .masters = l[6]};
    return update_all(&s, a->count);
}

static bool step_all(const char *name, const aj_optim_options *o, aj_tensors params, aj_tensors grads,
                     aj_tensors s1, aj_tensors s2, aj_tensors s3, aj_tensors s4, aj_tensors masters, aj_optim_count *count) {
    step s = {.m = method_named(name), .o = o, .params = params, .grads = grads, .state = {s1, s2, s3, s4}, .masters = masters};
    aj_update u;
    if (!s.m || !aj_update_length(params, grads, name, "gradient")) return false;
    for (int k = 0; k < N_STATE && s.m->state[k].name; k++)
        if (s.m->state[k].wanted(o) && !aj_update_length(params, s.state[k], name, s.m->state[k].name)) return false;
    for (int i = 0; i < params->n; i++) {
        if (!operands(&s, i, &u)) return false;
        if (s.m->numbers == muon && u.operand[0]->ndim < 2)
            return aj_error("muon: parameter %d has %d dimensions; matrices are orthogonalised, the rest is for AdamW", i + 1, u.operand[0]->ndim);
    }
    aj_jit *recording = aj_jit_pause();                  /* the ops that it is made of are no part of a recording, but the step */
    bool ok = update_all(&s, count);
    aj_jit_resume(recording);
    if (!ok) return false;
    if (AJ_UNLIKELY(aj_ctx.jit != NULL))
        aj_jit_stepped(&(aj_jit_step){.run = step_again, .method = s.m->name, .options = o, .count = count, .list = {params, grads, s1, s2, s3, s4, masters}});
    return true;
}

bool aj_optim_step(const char *name, const aj_optim_options *o, aj_tensors params, aj_tensors grads,
                   aj_tensors s1, aj_tensors s2, aj_tensors s3, aj_tensors s4, aj_tensors masters, aj_optim_count *count) {
    int32_t event = AJ_UNLIKELY(aj_ctx.state.watch) ? aj_event_open(aj_event_name(name), AJ_EVENT_STEP) : -1;
    bool ok = step_all(name, o, params, grads, s1, s2, s3, s4, masters, count);
    if (AJ_UNLIKELY(event >= 0)) aj_event_close(event);
    return ok;
}
