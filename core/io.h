/* io.h - files read and written safely, and the formats that tensors, pictures and settings are kept in.
 *
 * A reader takes a blob: bytes that nobody vouches for. A writer of a format puts into an aj_writer, which is
 * a file replaced in one step, or memory. Errors begin with the format and name the file.
 */
#ifndef AJ_IO_H
#define AJ_IO_H
#include "aijit.h"
#pragma GCC visibility push(default)

/* <cdef> */
/* -- Bytes to read --------------------------------------------------------------------------------------- */
typedef struct aj_blob aj_blob;
/* A file's bytes, mapped: nothing is read before it is used, and writing to them does not reach the file.
 * As with every mapping, a file that another program cuts short while it is in use kills the process;
 * aj_blob_read() takes a copy. Our own writers replace files and never cut them. */
aj_blob *aj_blob_open(const char *path);
aj_blob *aj_blob_read(const char *path);
aj_blob *aj_blob_of(const void *data, size_t size, const char *name);      /* a copy; errors will name it */
aj_blob *aj_gunzip(aj_blob *b, size_t limit);       /* b inflated; more than limit bytes is an error */
const char *aj_blob_data(aj_blob *b);
size_t aj_blob_size(aj_blob *b);
aj_blob *aj_blob_slice(aj_blob *b, int64_t offset, int64_t size, const char *name);     /* a part of it, in place */
void aj_blob_drop(aj_blob *b);                      /* tensors made from it keep it alive; NULL is left alone */

/* -- Bytes to write --------------------------------------------------------------------------------------- */
typedef struct aj_writer aj_writer;
aj_writer *aj_writer_open(const char *path);        /* to replace path; NULL: into memory */
bool aj_writer_put(aj_writer *w, const void *data, size_t size);
bool aj_writer_commit(aj_writer *w);                /* synced and renamed. False: path is as it was, or the message says that it is new but unsynced */
aj_blob *aj_writer_blob(aj_writer *w);              /* what was put into memory */
void aj_writer_drop(aj_writer *w);                  /* without a commit nothing is left behind */
bool aj_file_replace(const char *from, const char *to);      /* rename a synced file or folder; the folder is synced too */
bool aj_file_sync(const char *path);                /* a file or a folder */
void aj_file_fail(int64_t n);                       /* the n-th write, sync or rename from now fails; 0: off (for tests) */

/* -- Checksums, downloads ----------------------------------------------------------------------------------- */
void aj_sha256(const void *data, size_t size, char *hex);    /* 64 hexadecimal digits and a 0 */
bool aj_sha256_file(const char *path, char *hex);
uint32_t aj_crc32(uint32_t crc, const void *data, size_t size);       /* of zip, gzip and PNG; crc: of what came before, or 0 */
uint32_t aj_crc32c(uint32_t crc, const void *data, size_t size);      /* Castagnoli's, of TensorBoard's files */
/* sha256 (64 digits) lets an interrupted download go on and is checked at the end; NULL: none. max_bytes 0: any size. */
bool aj_download(const char *url, const char *path, const char *sha256, int64_t max_bytes);
/* One request; the answer's bytes, of any status, or NULL. headers: n lines such as "Content-Type: text/plain". body NULL: none. timeout in ms. */
aj_blob *aj_http(const char *method, const char *url, int64_t n, const char *const *headers, const void *body, size_t size, int32_t timeout, int32_t *status);

/* -- Tensors in files ------------------------------------------------------------------------------------------ */
typedef struct aj_safetensors aj_safetensors;
aj_safetensors *aj_safetensors_read(aj_blob *b);    /* the whole header is checked here */
int64_t aj_safetensors_count(aj_safetensors *s);
const char *aj_safetensors_name(aj_safetensors *s, int64_t i);
aj_tensor *aj_safetensors_tensor(aj_safetensors *s, int64_t i);       /* in place where its bytes are aligned */
int64_t aj_safetensors_metadata_count(aj_safetensors *s);
const char *aj_safetensors_metadata(aj_safetensors *s, int64_t i, bool value);
void aj_safetensors_drop(aj_safetensors *s);
bool aj_safetensors_write(aj_writer *w, int64_t n, const char *const *names, aj_tensor *const *tensors,
                          int64_t n_metadata, const char *const *keys, const char *const *values);
aj_tensor *aj_npy_read(aj_blob *b);
bool aj_npy_write(aj_writer *w, aj_tensor *t);
/* .npz, a zip of .npy files. limit: the bytes of all entries together; 0: 64 MB, or 100 times the file if that is more. */
typedef struct aj_npz aj_npz;
aj_npz *aj_npz_read(aj_blob *b, int64_t limit);
int64_t aj_npz_count(aj_npz *z);
const char *aj_npz_name(aj_npz *z, int64_t i);      /* until the next call */
aj_tensor *aj_npz_tensor(aj_npz *z, int64_t i);
void aj_npz_drop(aj_npz *z);
bool aj_npz_write(aj_writer *w, int64_t n, const char *const *names, aj_tensor *const *tensors, bool deflated);
aj_tensor *aj_idx_read(aj_blob *b);                 /* plain or gzipped */
aj_tensor *aj_raw_read(aj_blob *b, aj_dtype dtype); /* all bytes as (n), little-endian, in place where they are aligned */
/* The files in a tar archive, in their order; each lies within the archive, which aj_blob_slice() cuts. */
typedef struct aj_tar aj_tar;
aj_tar *aj_tar_read(aj_blob *b);
int64_t aj_tar_count(aj_tar *t);
const char *aj_tar_name(aj_tar *t, int64_t i);      /* until aj_tar_drop() */
int64_t aj_tar_offset(aj_tar *t, int64_t i);
int64_t aj_tar_size(aj_tar *t, int64_t i);
void aj_tar_drop(aj_tar *t);
/* PyTorch's .pt, a zip of a pickle and of storages. The pickle is read as data, with a closed list of constructors: values are
 * nodes, those of a list, tuple or set by their numbers in items, of a dictionary key, value, key, value. */
enum { AJ_PT_NONE, AJ_PT_FALSE, AJ_PT_TRUE, AJ_PT_NUMBER, AJ_PT_INTEGER, AJ_PT_TEXT, AJ_PT_LIST, AJ_PT_TUPLE, AJ_PT_DICT, AJ_PT_SET, AJ_PT_TENSOR };
typedef struct { uint32_t kind, n; union { double number; int64_t integer; const char *text; uint32_t *items; }; } aj_pt_node;
typedef struct aj_pt aj_pt;
aj_pt *aj_pt_read(aj_blob *b, int64_t limit);       /* limit as for .npz */
const aj_pt_node *aj_pt_nodes(aj_pt *p);            /* good until aj_pt_drop() */
uint32_t aj_pt_top(aj_pt *p);                       /* the value of the file; nothing under it contains itself */
aj_tensor *aj_pt_tensor(aj_pt *p, uint32_t node);   /* in place where it can be; those of one storage share it */
void aj_pt_drop(aj_pt *p);
/* u8 (H, W, C), or (C, H, W) when chw. channels 0: as many as the picture has, of 1, 3, 4. Where alpha is dropped
 * the picture is laid over the colour background, 0xRRGGBB. */
aj_tensor *aj_png_read(aj_blob *b, int32_t channels, bool chw, int32_t background);
bool aj_png_write(aj_writer *w, aj_tensor *t, bool chw);
bool aj_gif_write(aj_writer *w, aj_tensor *t, int32_t delay);       /* frames u8 (T, H, W, C), C of 1 or 3; delay: hundredths of a second */
/* Where least_height and least_width are given, decoded at 1/2, 1/4 or 1/8 of its size if that is still no smaller. */
aj_tensor *aj_jpeg_read(aj_blob *b, int32_t channels, bool chw, int64_t least_height, int64_t least_width);
bool aj_jpeg_write(aj_writer *w, aj_tensor *t, bool chw, int32_t quality);     /* 1 to 100 */
/* u8 pictures; filter 0 nearest, 1 bilinear, 2 bicubic, the latter two over all that a pixel covers. */
aj_tensor *aj_picture_resize(aj_tensor *t, int64_t height, int64_t width, int32_t filter, bool chw);

/* -- Tables of text ------------------------------------------------------------------------------------------------ */
/* Opened, the header is read; aj_csv_type() may then say what a column shall hold: a dtype (no f16, bf16) or AJ_CSV_TEXT. Of the others
 * aj_csv_fill() finds it out: i64, f64 (with NaN where a field is missing), bool, or text. */
enum { AJ_CSV_TEXT = -1 };
typedef struct { const char *text; size_t size; } aj_csv_text;
typedef struct { char delimiter; bool header; int64_t n_missing; const aj_csv_text *missing; } aj_csv_how;     /* missing: besides empty fields */
typedef struct aj_csv aj_csv;
aj_csv *aj_csv_open(aj_blob *b, const aj_csv_how *how);         /* missing must last */
int64_t aj_csv_columns(aj_csv *c);
aj_csv_text aj_csv_name(aj_csv *c, int64_t k);
void aj_csv_type(aj_csv *c, int64_t k, int32_t kind);
bool aj_csv_fill(aj_csv *c);
int64_t aj_csv_rows(aj_csv *c);
int32_t aj_csv_kind(aj_csv *c, int64_t k);
const aj_csv_text *aj_csv_texts(aj_csv *c, int64_t k);          /* one a row, until aj_csv_drop() */
aj_tensor *aj_csv_tensor(aj_csv *c, int64_t k);                 /* may be taken once */
void aj_csv_drop(aj_csv *c);
typedef struct { aj_csv_text name; aj_tensor *t; const aj_csv_text *texts; } aj_csv_column;     /* t, or texts */
bool aj_csv_write(aj_writer *w, int64_t n, const aj_csv_column *columns, int64_t rows, bool header, char delimiter);

/* -- JSON -------------------------------------------------------------------------------------------------------- */
/* A document laid out flat: an array of size n is followed by its n values, an object by n pairs of a text and a value. */
enum { AJ_JSON_NULL, AJ_JSON_FALSE, AJ_JSON_TRUE, AJ_JSON_NUMBER, AJ_JSON_BIG, AJ_JSON_TEXT, AJ_JSON_ARRAY, AJ_JSON_OBJECT, AJ_JSON_MERGE };
typedef struct { uint32_t kind, size; union { double number; int64_t integer; const char *text; }; } aj_json_item;
typedef struct aj_json aj_json;
/* exact: integers beyond 2^53 come as AJ_JSON_BIG, and beyond 2^63 are an error; else they are rounded to numbers. */
aj_json *aj_json_parse(const char *text, size_t size, bool exact);
const aj_json_item *aj_json_items(aj_json *j);
void aj_json_drop(aj_json *j);
aj_json *aj_yaml_parse(const char *text, size_t size, bool exact);     /* one document of YAML 1.2, laid out the same way. Keys are texts, or AJ_JSON_MERGE for << */
int64_t aj_utf8_bad(const char *text, size_t size); /* where text stops being UTF-8; -1: nowhere */
/* </cdef> */

#pragma GCC visibility pop
#endif
