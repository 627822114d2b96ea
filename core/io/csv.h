/* csv.h - numbers as text, whatever the locale. */
#ifndef AJ_CSV_H
#define AJ_CSV_H
#include "io/blob.h"

/* All of the text must be the number; spaces around it are allowed. */
bool aj_csv_integer(const char *s, size_t n, int64_t *v);
bool aj_csv_number(const char *s, size_t n, double *v);         /* also inf, infinity and nan in any case */
/* The shortest text that reads back as v, with a point or an exponent in it; at most 31 bytes and a 0. */
size_t aj_csv_put_number(char *text, double v, bool is_float);
#endif
