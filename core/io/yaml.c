/* yaml.c - YAML for Lua: libyaml's events, laid out flat as a JSON document is. Scalars follow the core schema of YAML 1.2,
 * so that no and 1:30 are texts. Keys are texts. An alias is a copy of what it names, and copies are limited.
 */
#include "io/csv.h"
#include "io/json.h"
#include <math.h>
#include <stdlib.h>
#include <yaml.h>

enum { MAX_COPIES = 1000000, MAX_ANCHORS = 10000 };

typedef struct { size_t item, line, column; } key;
typedef struct { size_t item, count, first_key, anchor; bool map, wants_key; } level;
typedef struct { size_t name, start, end; } anchor;       /* end 0: what it names is still open */

typedef struct {
    aj_json *j;
    size_t used, room;          /* of j->pool; until the end, items hold the places of their texts there */
    key *keys;                  /* of the maps that are open */
    size_t n_keys, key_room;
    anchor *anchors;
    size_t n_anchors, anchor_room, copies;
    level levels[AJ_JSON_DEPTH + 1];
    int depth;
    bool exact;
    yaml_mark_t at;
} reader;

static bool fail(const reader *r, const char *what) {
    return aj_error("yaml: line %zu, column %zu: %s", r->at.line + 1, r->at.column + 1, what);
}

static void *grown(void *list, size_t *room, size_t n, size_t size) {
    if (n < *room) return list;
    size_t more = *room ? 2 * *room : 32;
    void *p = realloc(list, more * size);
    if (!p) {
        aj_error("yaml: out of memory");
        return NULL;
    }
    *room = more;
    return p;
}

static bool put_text(reader *r, const void *text, size_t size, size_t *place) {
    if (r->room - r->used <= size) {
        size_t room = 2 * (r->used + size + 32);
        char *p = realloc(r->j->pool, room);
        if (!p) return aj_error("yaml: out of memory");
        r->j->pool = p;
        r->room = room;
    }
    memcpy(r->j->pool + r->used, text, size);
    r->j->pool[r->used + size] = 0;
    *place = r->used;
    r->used += size + 1;
    return true;
}

static bool add_text(reader *r, const void *text, size_t size) {
    size_t place = 0;
    if (!put_text(r, text, size, &place)) return false;
    aj_json_item *item = aj_json_add(r->j, AJ_JSON_TEXT, size);
    if (item) item->integer = (int64_t)place;
    return item != NULL;
}

/* -- Scalars ------------------------------------------------------------------------------------------ */

static bool among(const char *s, const char *a, const char *b, const char *c) {
    return strcmp(s, a) == 0 || strcmp(s, b) == 0 || strcmp(s, c) == 0;
}

/* [-+]? [0-9]+, 0o[0-7]+, 0x[0-9a-fA-F]+. Whole numbers past 2^63 are read as reals. */
static bool is_integer(const char *s, int64_t *v, bool *large) {
    static const char decimal[] = "0123456789";
    uint64_t u = 0, base = 10;
    bool minus = *s == '-';
    const char *d = s + (*s == '-' || *s == '+'), *set = decimal;
    if (d == s && s[0] == '0' && (s[1] == 'o' || s[1] == 'x')) {
        base = s[1] == 'o' ? 8 : 16;
        set = s[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF";
        d = s + 2;
    }
    size_t n = strspn(d, set);
    if (n == 0 || d[n]) return false;
    *large = false;
    for (; *d; d++) {
        unsigned c = (unsigned char)*d, digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
        if (u > ((uint64_t)INT64_MAX - digit) / base) *large = true;
        if (!*large) u = u * base + digit;
    }
    *v = minus ? -(int64_t)u : (int64_t)u;
    if (*large && base != 10) *v = 0;
    return true;
}

/* [-+]? ( \.[0-9]+ | [0-9]+ (\.[0-9]*)? ) ([eE][-+]?[0-9]+)? */
static bool is_real(const char *s) {
    static const char set[] = "0123456789";
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, set), part = 0;
    s += whole;
    if (*s == '.') {
        part = strspn(s + 1, set);
        s += 1 + part;
    }
    if (whole + part == 0) return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t power = strspn(s, set);
        if (power == 0) return false;
        s += power;
    }
    return *s == 0;
}

static bool add_number(reader *r, double v) {
    aj_json_item *item = aj_json_add(r->j, AJ_JSON_NUMBER, 0);
    if (item) item->number = v;
    return item != NULL;
}

/* Adds what the text is of the wanted kinds; *done tells whether it was one. */
static bool resolve(reader *r, const char *s, size_t size, const char *wanted, bool *done) {
    int64_t v;
    bool large;
    *done = strlen(s) == size;              /* no zero bytes */
    if (!*done) return true;
    bool any = wanted[0] == 0;
    if ((any || strcmp(wanted, "null") == 0) && (size == 0 || strcmp(s, "~") == 0 || among(s, "null", "Null", "NULL")))
        return aj_json_add(r->j, AJ_JSON_NULL, 0) != NULL;
    if (any || strcmp(wanted, "bool") == 0) {
        if (among(s, "true", "True", "TRUE")) return aj_json_add(r->j, AJ_JSON_TRUE, 0) != NULL;
        if (among(s, "false", "False", "FALSE")) return aj_json_add(r->j, AJ_JSON_FALSE, 0) != NULL;
    }
    bool whole = (any || strcmp(wanted, "int") == 0 || strcmp(wanted, "float") == 0) && is_integer(s, &v, &large);
    if (whole && large && (r->exact || s[1] == 'x' || s[1] == 'o')) return fail(r, "the integer does not fit into 64 bits");
    if (whole && !large) return aj_json_add_integer(r->j, v, r->exact);
    if (whole || ((any || strcmp(wanted, "float") == 0) && is_real(s))) {
        double real;
        return aj_csv_number(s, size, &real) ? add_number(r, real) : fail(r, "the number is too large");
    }
    if (any || strcmp(wanted, "float") == 0) {
        bool sign = *s == '-' || *s == '+';
        if (among(s + sign, ".inf", ".Inf", ".INF")) return add_number(r, *s == '-' ? -HUGE_VAL : HUGE_VAL);
        if (among(s, ".nan", ".NaN", ".NAN")) return add_number(r, NAN);
    }
    *done = false;
    return true;
}

static bool add_scalar(reader *r, const yaml_event_t *e) {
    static const char prefix[] = "tag:yaml.org,2002:";
    const char *text = (const char *)e->data.scalar.value, *tag = (const char *)e->data.scalar.tag;
    size_t size = e->data.scalar.length;
    bool done = false;
    if (tag && strncmp(tag, prefix, sizeof prefix - 1) == 0) tag += sizeof prefix - 1;
    else if (tag && strcmp(tag, "!") != 0) return fail(r, "only YAML's own tags can be read: !!str, !!int, !!float, !!bool, !!null, !!map, !!seq");
    if (!tag ? e->data.scalar.plain_implicit : strcmp(tag, "!") != 0 && strcmp(tag, "str") != 0) {
        if (tag && strcmp(tag, "int") && strcmp(tag, "float") && strcmp(tag, "bool") && strcmp(tag, "null"))
            return fail(r, "this tag cannot be read here: a scalar is !!str, !!int, !!float, !!bool or !!null");
        if (!resolve(r, text, size, tag ? tag : "", &done)) return false;
        if (!done && tag) return fail(r, "the text is not what its tag says");
    }
    return done || add_text(r, text, size);
}

/* -- Structure ----------------------------------------------------------------------------------------- */

/* Counts the value that comes; a key of a map is noted. */
static bool begin_value(reader *r, bool scalar, bool *is_key) {
    *is_key = false;
    if (r->depth == 0) return true;
    level *l = &r->levels[r->depth - 1];
    if (l->map && l->wants_key) {
        if (!scalar) return fail(r, "a list or a map cannot be a key");
        key *p = grown(r->keys, &r->key_room, r->n_keys, sizeof *p);
        if (!p) return false;
        r->keys = p;
        r->keys[r->n_keys++] = (key){r->j->n, r->at.line, r->at.column};
        *is_key = true;
    } else l->count++;
    if (l->map) l->wants_key = !l->wants_key;
    if (l->count == UINT32_MAX) return fail(r, "too many values");
    return true;
}

static bool name_anchor(reader *r, const unsigned char *name, size_t *index) {
    *index = SIZE_MAX;
    if (!name) return true;
    if (r->n_anchors == MAX_ANCHORS) return fail(r, "more than 10000 anchors");
    anchor *p = grown(r->anchors, &r->anchor_room, r->n_anchors, sizeof *p);
    if (!p) return false;
    r->anchors = p;
    size_t place = 0;
    if (!put_text(r, name, strlen((const char *)name), &place)) return false;
    *index = r->n_anchors++;
    r->anchors[*index] = (anchor){place, r->j->n, 0};
    return true;
}

static bool scalar(reader *r, const yaml_event_t *e) {
    bool is_key;
    size_t index;
    if (!begin_value(r, true, &is_key) || !name_anchor(r, e->data.scalar.anchor, &index)) return false;
    if (is_key ? !add_text(r, e->data.scalar.value, e->data.scalar.length) : !add_scalar(r, e)) return false;
    aj_json_item *item = &r->j->items[r->j->n - 1];
    if (is_key && e->data.scalar.plain_implicit && item->size == 2 && strcmp((const char *)e->data.scalar.value, "<<") == 0) item->kind = AJ_JSON_MERGE;
    if (index != SIZE_MAX) r->anchors[index].end = r->j->n;
    return true;
}

static bool open_level(reader *r, bool map, const unsigned char *name, const unsigned char *tag) {
    bool is_key;
    if (tag && strcmp((const char *)tag, "!") != 0 && strcmp((const char *)tag, map ? YAML_MAP_TAG : YAML_SEQ_TAG) != 0)
        return fail(r, map ? "a map can have no tag but !!map" : "a list can have no tag but !!seq");
    if (r->depth == AJ_JSON_DEPTH) return aj_error("yaml: line %zu, column %zu: nested deeper than %d", r->at.line + 1, r->at.column + 1, AJ_JSON_DEPTH);
    if (!begin_value(r, false, &is_key)) return false;
    level *l = &r->levels[r->depth++];
    *l = (level){.item = r->j->n, .first_key = r->n_keys, .map = map, .wants_key = map};
    return name_anchor(r, name, &l->anchor) && aj_json_add(r->j, map ? AJ_JSON_OBJECT : AJ_JSON_ARRAY, 0);
}

static int by_text(const void *x, const void *y, void *arg) {
    const reader *r = arg;
    const key *a = x, *b = y;
    const aj_json_item *s = &r->j->items[a->item], *t = &r->j->items[b->item];
    size_t least = s->size < t->size ? s->size : t->size;
    int order = memcmp(r->j->pool + s->integer, r->j->pool + t->integer, least);
    if (order == 0 && s->size != t->size) return s->size < t->size ? -1 : 1;
    if (order == 0 && s->kind != t->kind) return s->kind < t->kind ? -1 : 1;
    return order ? order : a->item < b->item ? -1 : 1;
}

static bool close_level(reader *r) {
    level *l = &r->levels[--r->depth];
    r->j->items[l->item].size = (uint32_t)l->count;
    if (l->anchor != SIZE_MAX) r->anchors[l->anchor].end = r->j->n;
    if (!l->map) return true;
    size_t n = r->n_keys - l->first_key;
    key *keys = n ? r->keys + l->first_key : NULL;
    if (n > 1) qsort_r(keys, n, sizeof *keys, by_text, r);
    for (size_t i = 1; i < n; i++) {
        const aj_json_item *s = &r->j->items[keys[i - 1].item], *t = &r->j->items[keys[i].item];
        if (s->kind != t->kind || s->size != t->size || memcmp(r->j->pool + s->integer, r->j->pool + t->integer, s->size) != 0) continue;
        return aj_error("yaml: line %zu, column %zu: the key \"%s\" stands here for a second time; the first is on line %zu", keys[i].line + 1,
                        keys[i].column + 1, aj_shown(r->j->pool + s->integer, s->size).text, keys[i - 1].line + 1);
    }
    r->n_keys = l->first_key;
    return true;
}

static bool alias(reader *r, const char *name) {
    size_t i = r->n_anchors;
    while (i > 0 && strcmp(r->j->pool + r->anchors[i - 1].name, name) != 0) i--;
    if (i == 0) return aj_error("yaml: line %zu, column %zu: there is no anchor &%s before *%s", r->at.line + 1, r->at.column + 1,
                                aj_shown(name, strlen(name)).text, aj_shown(name, strlen(name)).text);
    const anchor a = r->anchors[i - 1];
    if (a.end == 0) return fail(r, "an alias stands inside what it names");
    bool is_key;
    if (!begin_value(r, a.end - a.start == 1 && r->j->items[a.start].kind == AJ_JSON_TEXT, &is_key)) return false;
    r->copies += a.end - a.start;
    if (r->copies > MAX_COPIES) return fail(r, "aliases stand for more than 1000000 values");
    /* What is copied holds levels too. */
    int deep = 0;
    size_t rest[AJ_JSON_DEPTH + 1];
    for (size_t k = a.start; k < a.end; k++) {
        aj_json_item copy = r->j->items[k];
        aj_json_item *to = aj_json_add(r->j, copy.kind, copy.size);
        if (!to) return false;
        *to = copy;
        while (deep > 0 && rest[deep - 1] == 0) deep--;
        if (deep > 0) rest[deep - 1]--;
        if (copy.kind == AJ_JSON_ARRAY || copy.kind == AJ_JSON_OBJECT) {
            if (r->depth + deep == AJ_JSON_DEPTH) return fail(r, "an alias nests deeper than 512");
            rest[deep++] = copy.kind == AJ_JSON_OBJECT ? 2 * (size_t)copy.size : copy.size;
        }
    }
    return true;
}

/* One event; *end when the stream is over. */
static bool take(reader *r, const yaml_event_t *e, int *documents, bool *end) {
    r->at = e->start_mark;
    switch (e->type) {
    case YAML_STREAM_END_EVENT:
        *end = true;
        return *documents > 0 || aj_json_add(r->j, AJ_JSON_NULL, 0);
    case YAML_DOCUMENT_START_EVENT:
        if (++*documents > 1) return fail(r, "a second document begins here; one is read");
        return true;
    case YAML_SCALAR_EVENT: return scalar(r, e);
    case YAML_ALIAS_EVENT: return alias(r, (const char *)e->data.alias.anchor);
    case YAML_SEQUENCE_START_EVENT: return open_level(r, false, e->data.sequence_start.anchor, e->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT: return open_level(r, true, e->data.mapping_start.anchor, e->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return close_level(r);
    default: return true;
    }
}

/* libyaml's complaint; bytes that are no text have an offset instead of a line. */
static bool explain(const yaml_parser_t *p, const char *text, size_t size) {
    if (p->error == YAML_MEMORY_ERROR) return aj_error("yaml: out of memory");
    size_t line = p->problem_mark.line, column = p->problem_mark.column;
    if (p->error == YAML_READER_ERROR) {
        line = column = 0;
        for (size_t i = 0; i < p->problem_offset && i < size; i++) {
            column++;
            if (text[i] == '\n') line++, column = 0;
        }
    }
    const char *context = p->context && p->error != YAML_READER_ERROR ? p->context : "";
    return aj_error("yaml: line %zu, column %zu: %s%s%s", line + 1, column + 1, p->problem ? p->problem : "cannot be read",
                    *context ? " " : "", context);
}

static bool read_all(reader *r, yaml_parser_t *parser, const char *text, size_t size) {
    int documents = 0;
    for (bool end = false; !end;) {
        yaml_event_t e;
        if (!yaml_parser_parse(parser, &e)) return explain(parser, text, size);
        bool good = take(r, &e, &documents, &end);
        yaml_event_delete(&e);
        if (!good) return false;
    }
    for (size_t i = 0; i < r->j->n; i++) {
        aj_json_item *item = &r->j->items[i];
        if (item->kind == AJ_JSON_TEXT || item->kind == AJ_JSON_MERGE) item->text = r->j->pool + item->integer;
    }
    return true;
}

aj_json *aj_yaml_parse(const char *text, size_t size, bool exact) {
    if (size > UINT32_MAX) {
        aj_error("yaml: %zu bytes: at most 4 GiB can be read at once", size);
        return NULL;
    }
    reader *r = calloc(1, sizeof *r);
    aj_json *j = calloc(1, sizeof *j);
    yaml_parser_t *parser = calloc(1, sizeof *parser);
    bool good = false;
    if (!r || !j || !parser || !yaml_parser_initialize(parser)) aj_error("yaml: out of memory");
    else {
        r->j = j;
        r->exact = exact;
        yaml_parser_set_input_string(parser, (const unsigned char *)text, size);
        good = read_all(r, parser, text, size);
        yaml_parser_delete(parser);
    }
    if (r) {
        free(r->keys);
        free(r->anchors);
    }
    free(r);
    free(parser);
    if (good) return j;
    aj_json_drop(j);
    return NULL;
}
