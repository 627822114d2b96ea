/* leaves.c - the leaves of a graph: for those who compute it anew and must know what it hangs on. */
#include "core.h"
#include <stdlib.h>

static _Thread_local struct { aj_tensor **v; int32_t n, cap; } found;      /* not owned: the graph that was walked holds them */
static _Thread_local uint64_t walk;                      /* counts down: ids of tensors, which also mark nodes, count up */

void aj_leaves_leave(void) {
    free(found.v);
    found.v = NULL;
    found.n = found.cap = 0;
}

static void push(aj_node **stack, aj_node *n) {
    if (!n || n->searched == walk) return;
    n->searched = walk;
    n->next = *stack;
    *stack = n;
}

int32_t aj_leaves(aj_tensors of) {
    aj_node *stack = NULL;
    aj_thread_enter();
    found.n = 0;
    walk--;
    for (int i = 0; i < of->n; i++) {
        aj_tensor *t = aj_need(of->v[i], "leaves");
        if (!t) return -1;
        push(&stack, aj_node_of(t));
    }
    while (stack) {
        aj_node *n = stack;
        stack = n->next;
        for (int k = 0; k < n->n_in; k++) push(&stack, n->edge[k].node);
        if (n->op != OP_LEAF || !n->leaf) continue;
        if (found.n == found.cap) {
            int32_t cap = found.cap ? 2 * found.cap : 32;
            aj_tensor **v = realloc(found.v, (size_t)cap * sizeof *v);
            if (!v) { aj_error("out of memory: no room for the leaves of a graph"); return -1; }
            found.v = v; found.cap = cap;
        }
        found.v[found.n++] = n->leaf;
    }
    return found.n;
}

aj_tensor *aj_leaf_at(int32_t i) { return i >= 0 && i < found.n ? aj_give(aj_hold(found.v[i])) : NULL; }
