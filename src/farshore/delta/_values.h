/* The model of tensor values: what base, row and column let expect of each, coded on its grid down the tree of _tree.h.
 * docs/formats/patch.md, "Values". */
#ifndef FARSHORE_VALUES_H
#define FARSHORE_VALUES_H

#include <stddef.h>

#include "_channels.h"
#include "_joint.h"
#include "_tree.h"

#define NEIGHBOURS 16
#define MOST_FEATURES (MOST_JOINTS + NEIGHBOURS + 1)
#define TINY 1e-36

typedef struct {
    double sab, saa;            /* base·value, base·base: the row's factor */
    double sum[4];              /* of |value - expected| under each expectation */
    double scale, by_scale;     /* of the residual; its reciprocal */
    double log_near, log_size;  /* running log2 |residual|, |value| */
    double last, last2;         /* log2 |residual|, newest first */
    double x;                   /* the residual in this column, for the joint models */
    int equal;                  /* how many values just equalled the base */
} Row;

typedef struct {
    const Spec *s;
    Coder *c;
    Model *m;
    Row *row;
    Joint joint[MOST_JOINTS];
    Channels channels;
    double *work;
    double sum[4], seen;        /* of the tensor: |value - expected| under each expectation */
    double near, relative;      /* running |residual|, and relative to the expectation */
    double tab, taa, tn;        /* the tensor's factor */
    double column[4], column_log, column_residual;
    int equal_column;
    double weight[MOST_FEATURES], spread[MOST_FEATURES][MOST_FEATURES], x[MOST_FEATURES];
    double factor, mean[4], seen_rows, by_row, by_seen, slow, row_rate, by_mean; /* fixed for a column */
    double *by_place;           /* 1/(i + 8), 1/(i + 4), 1/(i + 6) for place i of a column */
    int features;               /* of the regression: the joint models' expectations, neighbours, the channels' */
    const double *a;
    double *residual;           /* scaled residuals in traversal order, for neighbours and channels */
    double fit[6], f[6], log_mean, size_mean;
    /* the value at hand */
    double base, m1, m2, guess, log_base, rate[4], miss[4], fitted, scale, log_e2;
    Mixture mixture;
} State;

static double regression_guess(State *st, int n) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum = sum + st->weight[i] * st->x[i];
    return clamp(sum, -8.0, 8.0);
}

WIDE static void regression_learn(State *st, int n, double error) {
    double k[MOST_FEATURES], over = 1.0;
    for (int i = 0; i < n; i++) k[i] = 0.0;
    for (int j = 0; j < n; j++) {
        double x = st->x[j];
        for (int i = 0; i < n; i++) k[i] = k[i] + st->spread[j][i] * x;
    }
    for (int i = 0; i < n; i++) over = over + k[i] * st->x[i];
    double by = 1.0 / over, step = clamp(error, -3.0, 3.0) * by, trace = 0.0;
    for (int i = 0; i < n; i++) {
        st->weight[i] = st->weight[i] + step * k[i];
        trace = trace + st->spread[i][i];
    }
    double grow = trace < 0.002 * n ? 1.0002 : 1.0;
    for (int j = 0; j < n; j++) {
        double kj = k[j] * by;
        for (int i = 0; i < n; i++) st->spread[j][i] = (st->spread[j][i] - kj * k[i]) * grow;
    }
}

static int quantised(double x, double step, int levels) { /* x in factors of two around 0 */
    double y = x * step + 0.5 * levels;
    return (int)clamp(y, 0.0, levels - 1);
}

#define LOG2(x) ((double)lg(x) * (1.0 / 4096.0))

static double exp2_of(double x) { return ex((int32_t)(clamp(x, -400.0, 400.0) * 1024.0)); }

/* Residuals and base values around (column t, row i), those of the base on all sides. */
static void gather(State *st, int t, int i) {
    const Spec *s = st->s;
    const size_t R = (size_t)s->rows, at = (size_t)t * R + (size_t)i, p = (size_t)s->period * R;
    const double *r = st->residual + at, *a = st->a + at;
    const int left = t > 0, right = t + 1 < s->cols, up = i > 0, down = i + 1 < s->rows, kin = s->period > 1 && t >= s->period;
    const double by = 1.0 / (st->row[i].sum[3] * st->slow + 1e-30);
    double *x = st->x + s->joints;
    x[0] = left ? r[-(ptrdiff_t)R] : 0.0;
    x[1] = t > 1 ? r[-2 * (ptrdiff_t)R] : 0.0;
    x[2] = t > 2 ? r[-3 * (ptrdiff_t)R] : 0.0;
    x[3] = up ? r[-1] : 0.0;
    x[4] = i > 1 ? r[-2] : 0.0;
    x[5] = i > 2 ? r[-3] : 0.0;
    x[6] = left && up ? r[-(ptrdiff_t)R - 1] : 0.0;
    x[7] = left && down ? r[-(ptrdiff_t)R + 1] : 0.0;
    x[8] = kin ? r[-(ptrdiff_t)p] : 0.0;
    x[9] = kin && t >= 2 * s->period ? r[-2 * (ptrdiff_t)p] : 0.0;
    x[10] = st->column_residual * st->by_place[2 * s->rows + i];
    x[11] = clamp(a[0] * by, -4.0, 4.0);
    x[12] = left ? clamp(a[-(ptrdiff_t)R] * by, -4.0, 4.0) : 0.0;
    x[13] = right ? clamp(a[R] * by, -4.0, 4.0) : 0.0;
    x[14] = up ? clamp(a[-1] * by, -4.0, 4.0) : 0.0;
    x[15] = down ? clamp(a[1] * by, -4.0, 4.0) : 0.0;
}

static inline double size_of(double x) { return x < 0.0 ? -x : x; }

static void state_start(State *st) {
    const Spec *s = st->s;
    double log_scale = LOG2(s->scale), log_size = LOG2(s->size);
    for (int i = 0; i < s->rows; i++) {
        Row *r = &st->row[i];
        memset(r, 0, sizeof *r);
        r->saa = 1e-30;
        r->scale = s->scale;
        r->by_scale = 1.0 / s->scale;
        st->by_place[i] = 1.0 / ((double)i + 8.0);
        st->by_place[s->rows + i] = 1.0 / ((double)i + 4.0);
        st->by_place[2 * s->rows + i] = 1.0 / ((double)i + 6.0);
        r->log_near = r->last = r->last2 = log_scale;
        r->log_size = log_size;
    }
    for (int k = 0; k < 3; k++) st->sum[k] = s->scale;
    st->sum[3] = s->size;
    st->seen = 1.0;
    st->near = s->scale;
    st->relative = 0.1;
    st->taa = 1e-30;
    st->log_mean = log_scale;
    st->size_mean = log_size;
    static const double fit[6] = {0.7, 0.6, 0.08, 0.05, 0.05, 0.0};
    memcpy(st->fit, fit, sizeof fit);
    st->features = s->joints + (s->flags & FLAG_NEAR ? NEIGHBOURS : 0) + !!(s->flags & FLAG_CHANNELS);
    for (int i = 0; i < st->features; i++) {
        st->weight[i] = i < s->joints ? 1.0 / s->joints : 0.0;
        for (int j = 0; j < st->features; j++) st->spread[i][j] = i == j ? 0.002 : 0.0;
    }
    if (s->flags & FLAG_CHANNELS) st->weight[st->features - 1] = 1.0;
    for (int k = 0; k < s->joints; k++) joint_start(st->joint[k].factor, s->rows, s->prior * joint_prior[k]);
    st->mixture.n = s->detail > 1 ? SHAPES : LIGHT_SHAPES;
}

/* What the value at (row i, base) may be: three centres, and how far off each is wont to be. */
static void expect(State *st, int t, int i) {
    const Spec *s = st->s;
    Row *r = &st->row[i];
    const int based = s->flags & HAS_BASE;
    double base = st->base, m1 = 0.0;
    if (based) {
        double k1 = st->seen_rows > 0.0 ? 1.5 * r->saa * st->by_seen : 1.0;
        m1 = clamp((r->sab + k1 * st->factor) / (r->saa + k1) * base, -1e30, 1e30);
    }
    st->guess = 0.0;
    for (int k = 0; k < s->joints; k++) st->x[k] = clamp(st->joint[k].expected[i], -6.0, 6.0);
    if (s->flags & FLAG_NEAR) gather(st, t, i);
    if (s->flags & FLAG_CHANNELS) {
        for (int k = 0; k < s->joints; k++) st->x[k] = st->x[k] * st->channels.unit;
        st->x[st->features - 1] = clamp(st->channels.expected[i], -6.0, 6.0);
    }
    if (st->features == 1) /* one expectation needs no weights */
        st->guess = st->x[0];
    else if (st->features)
        st->guess = regression_guess(st, st->features);
    double m2 = m1 + st->guess * r->scale, e[4];
    double by_column = st->by_place[i];
    for (int k = s->detail > 1 ? 0 : 2; k < 4; k++) { /* row x column x tensor */
        st->rate[k] = (r->sum[k] + st->mean[k] * 3.0) * st->by_row;
        e[k] = st->rate[k] * ((st->column[k] + 8.0) * by_column);
    }
    double *f = st->f; /* the same in factors of two, put together by weights that are learnt */
    f[0] = (st->seen_rows > 0.0 ? r->log_near : st->log_mean) - st->log_mean;
    f[1] = st->column_log * st->by_place[s->rows + i];
    f[2] = clamp(r->last - st->log_mean, -4.0, 4.0);
    f[3] = i > 0 ? clamp(r[-1].last - st->log_mean, -4.0, 4.0) : 0.0;
    st->log_base = LOG2((based ? size_of(base) : 0.0) + TINY);
    f[4] = clamp(st->log_base - st->size_mean, -6.0, 3.0);
    f[5] = clamp(r->last2 - st->log_mean, -4.0, 4.0);
    double fitted = st->log_mean;
    for (int k = 0; k < 6; k++) fitted = fitted + st->fit[k] * f[k];
    double scale = exp2_of(fitted + 0.6);
    if (st->seen_rows <= 4.0) scale = clamp(scale, 0.15 * e[2], 6.0 * e[2]);
    shape_set(&st->mixture, 0, m2, scale, 1);
    shape_set(&st->mixture, 1, 0.0, e[3], 1);
    shape_set(&st->mixture, 2, 0.0, exp2_of(r->log_size + 0.6), 0);
    if (s->detail > 1) {
        shape_set(&st->mixture, 8, m2, e[2], 1);
        shape_set(&st->mixture, 3, m1, e[1], 0);
        shape_set(&st->mixture, 4, m2, scale, 0);
        shape_set(&st->mixture, 5, base, e[0], 0);
        shape_set(&st->mixture, 6, m2, 0.5 * st->near + 0.5 * exp2_of(0.5 * r->last + 0.5 * r->last2) + TINY, 0);
        shape_set(&st->mixture, 7, m2, size_of(m1) * st->relative + TINY, 0);
    }
    st->m1 = m1;
    st->m2 = m2;
    st->fitted = fitted;
    st->scale = scale;
    st->log_e2 = LOG2(e[2]);
}

/* Flags for what no density says: exact zeros, values the base has too. Returns whether the value is settled. */
static int code_flags(State *st, Row *r, uint64_t *value, uint64_t expected) {
    const Spec *s = st->s;
    Model *m = st->m;
    const uint64_t zero = index_of(s, 0.0), minus = zero - (s->kind == KIND_FLOAT);
    if (s->flags & FLAG_ZERO) {
        double mean = st->mean[3], size = s->flags & HAS_BASE ? size_of(st->base) : st->rate[3];
        int q = quantised(LOG2(size / mean + 1e-6), 16.0, 128) + 64;
        if (code_flag(st->c, &m->zero[q], *value == zero || *value == minus, 255)) {
            int negative = s->kind == KIND_FLOAT && code_flag(st->c, &m->zero_sign[st->base < 0.0], *value == minus, 255);
            *value = negative ? minus : zero;
            return 1;
        }
    }
    if (s->flags & FLAG_EQUAL) {
        int q = (r->equal > 7 ? 7 : r->equal) * 8 + (st->equal_column > 7 ? 7 : st->equal_column);
        if (code_flag(st->c, &m->equal[q], *value == expected, 255)) {
            *value = expected;
            r->equal++;
            st->equal_column++;
            return 1;
        }
        r->equal = st->equal_column = 0;
    }
    return 0;
}

static uint64_t code_value(State *st, Row *r, int t, uint64_t value) {
    const Spec *s = st->s;
    uint64_t expected = index_of(s, s->flags & HAS_BASE ? st->base : st->m1);
    if (code_flags(st, r, &value, expected)) return value;
    int q = quantised(st->fitted + 0.6 - st->log_e2, 3.0, 16), set = t < 6 ? 0 : q < 5 ? 1 : q > 9 ? 3 : 2, context;
    if (s->kind == KIND_INT) {
        double part = st->m2 - (double)(int64_t)clamp(st->m2, -1e9, 1e9);
        context = (int)clamp(LOG2(st->scale) * 2.0 + 16.0, 0.0, 31.0) * 8 + (int)clamp(part * 4.0 + 4.0, 0.0, 7.0);
    } else
        context = quantised(r->last - st->fitted, 2.0, 8) + quantised(st->f[4], 2.0, 8) * 8
                + (quantised(st->f[1], 3.0, 8) + quantised(st->f[3], 1.0, 8) * 8) * 64;
    return code_index(st->c, st->m, s, &st->mixture, value, st->m2, st->scale, set, q, expected, context);
}

static void learn_value(State *st, Row *r, int t, int i, uint64_t value) {
    const Spec *s = st->s;
    double b = value_at(s, value), cell = 0.3 * (value < grid_top(s) ? value_at(s, value + 1) - b : 0.0);
    if (!(b > -1e30 && b < 1e30)) b = st->m1, cell = 0.0;
    double miss[4] = {b - st->base, b - st->m1, b - st->m2, b};
    for (int k = 0; k < 4; k++) {
        double x = size_of(miss[k]);
        miss[k] = x;
        r->sum[k] = r->sum[k] + x;
        st->sum[k] = st->sum[k] + x;
    }
    for (int k = s->detail > 1 ? 0 : 2; k < 4; k++) {
        double over = miss[k] / (st->rate[k] + TINY);
        st->column[k] = st->column[k] + (over > 8.0 ? 8.0 : over);
    }
    st->seen = st->seen + 1.0;
    if (s->detail > 1) {
        st->near = st->near + (miss[2] - st->near) * 0.12;
        double ratio = miss[2] / (size_of(st->m1) + TINY);
        st->relative = st->relative + ((ratio > 3.0 ? 3.0 : ratio) - st->relative) * 0.004;
    }
    r->log_size = r->log_size + (LOG2(miss[3] + cell + TINY) - r->log_size) * st->row_rate;
    double x = LOG2(miss[2] + cell + 1e-3 * st->rate[2] + TINY), error = clamp(x - st->fitted, -4.0, 4.0), square = 1.0;
    for (int k = 0; k < 6; k++) square = square + st->f[k] * st->f[k];
    double step = 0.003 * error / square;
    for (int k = 0; k < 6; k++) st->fit[k] = st->fit[k] + step * st->f[k];
    r->log_near = r->log_near + (x - r->log_near) * st->row_rate;
    st->log_mean = st->log_mean + (x - st->log_mean) * st->by_mean;
    st->size_mean = st->size_mean + (st->log_base - st->size_mean) * st->by_mean;
    st->column_log = st->column_log + clamp(x - st->fitted + st->fit[1] * st->f[1], -3.0, 3.0);
    r->last2 = r->last;
    r->last = x;
    if (st->features) {
        double n = (b - st->m1) * r->by_scale;
        if (st->features > 1) regression_learn(st, st->features, clamp(n, -6.0, 6.0) - st->guess);
        /* The rows have in common what the channels leave open. */
        double left = s->flags & FLAG_CHANNELS ? (n - st->channels.expected[i]) / st->channels.unit : n;
        for (int k = 0; k < s->joints; k++) joint_add(&st->joint[k], left, i, s->rows);
        r->x = clamp(left, -4.0, 4.0);
        if (s->flags & (FLAG_NEAR | FLAG_CHANNELS)) {
            n = clamp(n, -6.0, 6.0);
            st->residual[(size_t)t * (size_t)s->rows + (size_t)i] = n;
            st->column_residual = st->column_residual + n;
        }
    }
    r->sab = r->sab + st->base * b;
    r->saa = r->saa + st->base * st->base;
    st->tab = st->tab + st->base * b;
    st->taa = st->taa + st->base * st->base;
    st->tn = st->tn + 1.0;
}

static void column_start(State *st, int t) {
    const Spec *s = st->s;
    double k0 = st->tn > 0.0 ? 40.0 * st->taa / st->tn : 1.0;
    st->factor = (st->tab + k0) / (st->taa + k0);
    st->seen_rows = (double)t;
    st->by_seen = t > 0 ? 1.0 / (double)t : 0.0;
    st->by_row = 1.0 / ((double)t + 3.0);
    st->slow = 1.0 / ((double)t + 1.0);
    st->row_rate = st->slow < 0.04 ? 0.04 : st->slow;
    st->by_mean = 1.0 / (st->seen < 2000.0 ? st->seen : 2000.0);
    for (int k = 0; k < 4; k++) {
        st->mean[k] = st->sum[k] / st->seen + TINY;
        st->column[k] = 0.0;
    }
    st->column_log = st->column_residual = 0.0;
    st->equal_column = 0;
    for (int k = 0; k < s->joints; k++)
        for (int i = 0; i < s->rows; i++) st->joint[k].expected[i] = 0.0;
    if (s->flags & FLAG_CHANNELS) channels_column(&st->channels, t);
}

static void column_end(State *st, int t) {
    const Spec *s = st->s;
    for (int k = 0; t > 0 && k < s->joints; k++) {
        for (int i = 0; i < s->rows; i++) st->work[i] = st->row[i].x;
        joint_learn(st->joint[k].factor, st->work, s->rows);
    }
    if (s->flags & FLAG_CHANNELS) channels_learn(&st->channels, st->residual + (size_t)t * (size_t)s->rows, t);
    double mean = st->sum[1] / st->seen, by = 1.2533 / ((double)t + 5.0);
    for (int i = 0; i < s->rows; i++) { /* 1.2533: from the mean magnitude to a normal distribution's deviation */
        Row *r = &st->row[i];
        r->scale = (r->sum[1] + mean * 4.0) * by + TINY;
        r->by_scale = 1.0 / r->scale;
    }
    if (st->seen > 40000.0) {
        for (int k = 0; k < 4; k++) st->sum[k] = st->sum[k] * 0.5;
        st->seen = st->seen * 0.5;
    }
}

/* A matrix that has been coded, into the memory of the stream. */
static void remember(State *st, const uint64_t *u, Memory *memory) {
    channels_inputs(&st->channels, st->residual);
    double *values = st->residual;
    for (size_t k = 0; k < (size_t)st->s->rows * (size_t)st->s->cols; k++) {
        double b = value_at(st->s, u[k]);
        values[k] = b > -1e30 && b < 1e30 ? b : 0.0;
    }
    channels_outputs(&st->channels, values);
    memory_add(memory, &st->channels.told);
}

static int code_matrix(Coder *c, Model *m, Memory *memory, const Spec *s, uint64_t *u, const double *a) {
    const size_t R = (size_t)s->rows, J = (size_t)s->joints;
    State *st = calloc(1, sizeof *st);
    Row *row = malloc(sizeof(Row) * R);
    double *room = malloc(sizeof(double) * (J * R * R + J * R + 4 * R));
    double *residual = malloc(s->flags & (FLAG_NEAR | FLAG_CHANNELS) ? sizeof(double) * R * (size_t)s->cols : 1);
    int fine = st && row && room && residual;
    if (fine) {
        st->s = s;
        st->c = c;
        st->m = m;
        st->row = row;
        st->a = a;
        st->residual = residual;
        st->work = room + J * R * R + J * R;
        st->by_place = st->work + R;
        for (size_t k = 0; k < J; k++) st->joint[k] = (Joint){room + k * R * R, room + J * R * R + k * R};
        state_start(st);
        if (s->flags & FLAG_CHANNELS)
            fine = channels_start(&st->channels, s->rows, s->cols, s->period, a, s->own, s->kin, memory);
    }
    for (int t = 0; fine && t < s->cols && !c->failed; t++) {
        column_start(st, t);
        for (int i = 0; i < s->rows; i++) {
            size_t at = (size_t)t * R + (size_t)i;
            st->base = a[at];
            expect(st, t, i);
            u[at] = code_value(st, &row[i], t, u[at]);
            learn_value(st, &row[i], t, i, u[at]);
        }
        column_end(st, t);
    }
    if (fine && s->flags & FLAG_CHANNELS) remember(st, u, memory);
    if (st) channels_end(&st->channels);
    free(st);
    free(row);
    free(room);
    free(residual);
    return fine;
}

#endif
