/* formula.h - the values of a chain of elementwise ops, between their text (formula.c) and their code (assemble.c). */
#ifndef AJ_FORMULA_H
#define AJ_FORMULA_H
#include "assemble.h"

enum { MAX_VALUES = 400, MAX_CODE = 8192, REGISTERS = 32 };
enum { LOAD, CONSTANT, ADD, SUB, MUL, DIV, NEG, SQRT, FMA, FNMA, FMS, SELECT, MIN, MAX, RINT, SCALE, STORE };

enum { EQ = 0x00, LT = 0x11, LE = 0x12, NE = 0x04, GE = 0x1d, GT = 0x1e };            /* as vcmpps has them; NaN is unequal, and nothing else */

typedef struct {
    uint8_t kind, predicate;
    int16_t a, b, c, d;                                  /* operands, -1: none. FMA: a b + c; FNMA: c - a b; FMS: a b - c; SELECT: c where a compares to b, else d */
    float v;
    int stream, uses, last, reg;
} val;

typedef struct {
    val v[MAX_VALUES];
    int n, first;                                        /* of the op that is being read */
    int *of;                                             /* the value of each array; -1: none so far */
    aj_loop *loop;
    const bool *single;                                  /* by array; NULL: none is */
    bool failed;
    uint8_t code[MAX_CODE];
    size_t size;
    uint32_t free;                                       /* registers */
    int least_free;
    int n_constant, n_held;                              /* the first of the constants stay in the last registers */
    float constant[128];
} maker;

static inline bool is_constant(const maker *m, int i, float v) { return m->v[i].kind == CONSTANT && m->v[i].v == v; }
bool aj_read_formula(maker *m, const aj_formula *f);     /* more values; false: it cannot be read */
#endif
