/* rule.h - the rules that rows name; a missing one is a link error with its name. */
#ifndef AJ_RULE_H
#define AJ_RULE_H
#include "../core.h"

#define REDUCE(name, ...) aj_vjp_rule name##_vjp;
#define VIEW(name, ...) aj_view_rule name##_view; aj_vjp_rule name##_vjp;
#define OP(name, ...) aj_shape_rule name##_shape; aj_vjp_rule name##_vjp;
#define OP_N(name, ...) aj_shape_rule name##_shape; aj_vjp_rule name##_vjp;
#define COMPOSE(name, ...) aj_compose_rule name##_compose;
#define COMPOSE_N(name, ...) aj_compose_rule name##_compose;
#define UPDATE(name, ...) aj_shape_rule name##_check;
#define UPDATE_GRAD(name, ...) aj_shape_rule name##_check; aj_vjp_rule name##_vjp;
#include "../ops.def"
#endif
