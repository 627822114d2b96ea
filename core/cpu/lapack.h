/* lapack.h - the routines of LAPACK that kernels call, which OpenBLAS holds. Matrices are column by column; integers are
 * int; the lengths of strings come last, as Fortran compilers pass them.
 */
#ifndef AJ_LAPACK_H
#define AJ_LAPACK_H
#include <stddef.h>

#define LAPACK_OF(p, real) \
    void p##getrf_(const int *m, const int *n, real *a, const int *lda, int *pivot, int *info); \
    void p##getri_(const int *n, real *a, const int *lda, const int *pivot, real *work, const int *lwork, int *info); \
    void p##getrs_(const char *trans, const int *n, const int *nrhs, const real *a, const int *lda, const int *pivot, real *b, \
                   const int *ldb, int *info, size_t); \
    void p##potrf_(const char *uplo, const int *n, real *a, const int *lda, int *info, size_t); \
    void p##gelqf_(const int *m, const int *n, real *a, const int *lda, real *tau, real *work, const int *lwork, int *info); \
    void p##orglq_(const int *m, const int *n, const int *k, real *a, const int *lda, const real *tau, real *work, const int *lwork, int *info); \
    void p##gesdd_(const char *jobz, const int *m, const int *n, real *a, const int *lda, real *s, real *u, const int *ldu, real *vt, \
                   const int *ldvt, real *work, const int *lwork, int *iwork, int *info, size_t); \
    void p##syevd_(const char *jobz, const char *uplo, const int *n, real *a, const int *lda, real *w, real *work, const int *lwork, \
                   int *iwork, const int *liwork, int *info, size_t, size_t);
LAPACK_OF(s, float)
LAPACK_OF(d, double)
#undef LAPACK_OF
#endif
