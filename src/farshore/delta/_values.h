/* The model of tensor values: each value's place on its grid, coded as binary decisions down the quantiles of a learnt
 * mixture of distributions around what base, row and column let expect. docs/formats/patch.md, "Values". */
#ifndef FARSHORE_VALUES_H
#define FARSHORE_VALUES_H

#include <math.h>
#include <stddef.h>

#include "_coder.h"

enum { KIND_INT = 0, KIND_FLOAT = 1 };
enum { HAS_BASE = 1, FLAG_ZERO = 2, FLAG_EQUAL = 4, FLAG_NEAR = 8 };

typedef struct {
    int kind, bits;             /* grid: bits per value after the dropped ones */
    int mantissa, bias, shift;  /* float grids: mantissa bits, exponent bias, dropped low bits */
    double zero;                /* integer grids: the grid index that stands for 0 */
    int rows, cols, period;     /* traversal: column by column, `rows` values each; period: distance of kindred columns */
    int flags, joints, detail;  /* joint models (0: none); how many distributions are mixed: 0 few, 2 all */
    double scale, size;         /* first guesses: mean |difference|, mean |value| */
    double prior;               /* joint: own variance before anything is seen, in rows */
} Spec;

/* ---- grids --------------------------------------------------------------------------------------------------- */

static inline uint64_t grid_top(const Spec *s) { return s->bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << s->bits) - 1; }

static inline double power_of(int e) { /* 2^e, -1022 <= e <= 1023 */
    uint64_t bits = (uint64_t)(e + 1023) << 52;
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

static double value_at(const Spec *s, uint64_t u) {
    if (s->kind == KIND_INT) return (double)u - s->zero;
    uint64_t half = (uint64_t)1 << (s->bits - 1);
    int negative = u < half;
    uint64_t index = (negative ? half - 1 - u : u - half) << s->shift;
    int e = (int)(index >> s->mantissa);
    uint64_t m = index & (((uint64_t)1 << s->mantissa) - 1);
    double x;
    if (e == 0)
        x = s->bias == 1023 ? 0.0 : (double)m * power_of(1 - s->bias - s->mantissa);
    else if (s->bias == 1023 && e >= 2047)
        x = 1.7e308;
    else {
        uint64_t bits = (uint64_t)(e - s->bias + 1023) << 52 | m << (52 - s->mantissa);
        memcpy(&x, &bits, 8);
    }
    return negative ? -x : x;
}

/* The grid index at or just below |x|, with x's sign. */
static uint64_t index_of(const Spec *s, double x) {
    uint64_t top = grid_top(s);
    if (s->kind == KIND_INT) {
        x = x + s->zero + 0.5;
        if (!(x > 0.0)) return 0;
        if (x >= (double)top) return top;
        return (uint64_t)x;
    }
    uint64_t half = (uint64_t)1 << (s->bits - 1), bits;
    memcpy(&bits, &x, 8);
    int negative = (int)(bits >> 63);
    bits &= ~((uint64_t)1 << 63);
    int e = (int)(bits >> 52) - 1023 + s->bias;
    uint64_t index, most = (half << s->shift) - 1;
    if (e <= 0)
        index = s->bias == 1023 ? 0 : (uint64_t)((negative ? -x : x) * power_of(s->bias + s->mantissa - 1));
    else
        index = (uint64_t)e << s->mantissa | (bits & (((uint64_t)1 << 52) - 1)) >> (52 - s->mantissa);
    if (index > most) index = most;
    index >>= s->shift;
    return negative ? half - 1 - index : half + index;
}

/* The real threshold between u - 1 and u. */
static inline double edge_at(const Spec *s, uint64_t u) {
    if (s->kind == KIND_INT) return (double)u - s->zero - 0.5;
    return 0.5 * value_at(s, u - 1) + 0.5 * value_at(s, u);
}

/* Whether all cells in [low, high] are equally wide, or nearly. */
static inline int flat(const Spec *s, uint64_t low, uint64_t high) {
    if (s->kind == KIND_INT) return 1;
    uint64_t half = (uint64_t)1 << (s->bits - 1);
    if ((low < half) != (high < half)) return 0;
    uint64_t a = low < half ? half - 1 - low : low - half, b = high < half ? half - 1 - high : high - half;
    int by = s->mantissa - s->shift;
    a >>= by;
    b >>= by;
    return a == b || (a <= 1 && b <= 1);
}

/* ---- model --------------------------------------------------------------------------------------------------- */

#define BINS 64                 /* leaves of the quantile tree */
#define WIDTHS 40               /* classes of interval width below and beyond the tree */
#define DEPTHS 16               /* of these, by depth where cells differ in width */
#define NODES (BINS + WIDTHS)
#define STAGES 4
#define SHAPES 9                /* distributions */
#define LIGHT_SHAPES 2          /* of these without detail; one more with detail 1 */
#define COUNTERS 3
#define OTHERS (COUNTERS + 1)   /* votes before the distributions': counters, and a constant */
#define VOTES (OTHERS + SHAPES)
#define SLOTS (1 << 14)

typedef struct {
    int32_t weights[STAGES * NODES][VOTES];
    Apm apm[STAGES * NODES], apm_fit[NODES * 16];
    Counter nodes[NODES * 64], cells[SLOTS], cells2[SLOTS];
    Counter zero[256 * 4], zero_sign[4], equal[64];
} Model;

static const int32_t first_weights[VOTES] = {9000, 5000, 5000, 0, 30000, 6000, 3000, 6000, 9000, 3000, 5000, 3000, 9000};
static double quantile[BINS + 1]; /* thresholds of the tree, in scales from the expected value */

static void make_quantiles(void) {
    for (int k = 1; k < BINS; k++) {
        double p = (double)k / BINS, odds = p / (1.0 - p), z = 0.0;
        int negative = odds < 1.0;
        if (negative) odds = 1.0 / odds;
        while (odds >= 2.0) {
            odds = odds * 0.5;
            z = z + ln_of(2.0);
        }
        z = (z + ln_of(odds)) / 1.7;
        z = z * (1.0 + 0.12 * z);
        quantile[k] = negative ? -z : z;
    }
}

static void model_start(Model *m) {
    for (int i = 0; i < STAGES * NODES; i++) {
        memcpy(m->weights[i], first_weights, sizeof first_weights);
        apm_start(&m->apm[i]);
    }
    for (int i = 0; i < NODES * 16; i++) apm_start(&m->apm_fit[i]);
    Counter *counters = m->nodes;
    size_t n = (size_t)((Counter *)(m + 1) - counters);
    for (size_t i = 0; i < n; i++) counters[i] = COUNTER_START;
}

/* ---- one matrix ---------------------------------------------------------------------------------------------- */

#define MOST_JOINTS 3
#define NEIGHBOURS 16
#define MOST_FEATURES (MOST_JOINTS + NEIGHBOURS)
#define MOST_JOINT_ROWS 1024
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

/* The rows' residuals in one column are taken as jointly normal; the triangular factor of their running covariance
 * (transposed: factor[i*R + j], j >= i) gives each row's expectation from the rows above it. */
typedef struct {
    double *factor, *expected;
} Joint;

typedef struct {
    const Spec *s;
    Coder *c;
    Model *m;
    Row *row;
    Joint joint[MOST_JOINTS];
    double *work;
    double sum[4], seen;        /* of the tensor: |value - expected| under each expectation */
    double near, relative;      /* running |residual|, and relative to the expectation */
    double tab, taa, tn;        /* the tensor's factor */
    double column[4], column_log, column_residual;
    int equal_column;
    double weight[MOST_FEATURES], spread[MOST_FEATURES][MOST_FEATURES], x[MOST_FEATURES];
    double factor, mean[4], seen_rows, by_row, by_seen, slow, row_rate, by_mean; /* fixed for a column */
    double *by_place;           /* 1/(i + 8), 1/(i + 4), 1/(i + 6) for place i of a column */
    int features;               /* of the regression: the joint models' expectations, then neighbours */
    const double *a;
    double *residual;           /* scaled residuals in traversal order, for neighbours */
    double fit[6], f[6], log_mean, size_mean;
    /* the value at hand */
    double base, m1, m2, guess, log_base, rate[4], miss[4], fitted, scale, log_e2;
    double mu[SHAPES], inverse[SHAPES];
    const double *cdf[SHAPES];
    int shapes;
} State;

static inline double cdf_at(const double *table, double z) {
    double y = (z + 16.0) * 32.0;
    if (!(y > 0.0)) return 0.0;
    if (y >= (double)CDF_STEPS) return 1.0;
    int k = (int)y;
    return table[k] + (table[k + 1] - table[k]) * (y - (double)k);
}

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

static const double joint_prior[MOST_JOINTS] = {1.0, 0.2, 5.0};

static void joint_start(double *factor, int R, double prior) {
    for (size_t k = 0; k < (size_t)R * (size_t)R; k++) factor[k] = 0.0;
    double diagonal = sqrt(prior * R);
    for (int i = 0; i < R; i++) factor[(size_t)i * R + i] = diagonal;
}

/* Row i turned out as x: what the rows below may expect now. */
WIDE static void joint_add(const Joint *joint, double x, int i, int R) {
    const double *f = joint->factor + (size_t)i * R;
    double *expected = joint->expected, z = (x - expected[i]) / f[i];
    for (int j = i + 1; j < R; j++) expected[j] = expected[j] + f[j] * z;
}

/* A whole column x (spent here): rank-one update of the factor. */
WIDE static void joint_learn(double *factor, double *x, int R) {
    for (int i = 0; i < R; i++) {
        double *f = factor + (size_t)i * R, d = f[i], xi = x[i], r = sqrt(d * d + xi * xi), s = xi / d, by = d / r, c = r / d;
        f[i] = r;
        for (int j = i + 1; j < R; j++) {
            double y = (f[j] + s * x[j]) * by;
            x[j] = c * x[j] - s * y;
            f[j] = y;
        }
    }
}

/* Sets distribution k: centre, scale (mean |x - centre|), shape. */
static inline void shape_set(State *st, int k, double mu, double scale, int gauss) {
    st->mu[k] = mu;
    st->inverse[k] = (gauss ? 0.79788 : 1.3863) / scale;
    st->cdf[k] = gauss ? cdf_gauss : cdf_logistic;
}

static int quantised(double x, double step, int levels) { /* x in factors of two around 0 */
    double y = x * step + 0.5 * levels;
    return (int)clamp(y, 0.0, levels - 1);
}

/* One decision: is the value at or above the threshold `edge` (grid index `um`)? */
typedef struct {
    double low[SHAPES], high[SHAPES], at[SHAPES];
    int32_t votes[VOTES];
} Decision;

static int decide(State *st, Decision *d, int set, int node, int q, uint32_t cell, int bit, double edge) {
    Model *m = st->m;
    int n = st->shapes;
    for (int k = 0; k < n; k++) {
        d->at[k] = cdf_at(st->cdf[k], (edge - st->mu[k]) * st->inverse[k]);
        double above = d->high[k] - d->at[k], below = d->at[k] - d->low[k];
        if (above < 1e-12) above = 1e-12;
        if (below < 1e-12) below = 1e-12;
        int v = (lg(above) - lg(below)) >> 4;
        d->votes[OTHERS + k] = v < -ST_MAX ? -ST_MAX : v > ST_MAX ? ST_MAX : v;
    }
    Counter *c0 = &m->nodes[node * 64 + q], *c1 = &m->cells[cell & (SLOTS - 1)], *c2 = &m->cells2[cell >> 14 & (SLOTS - 1)];
    d->votes[0] = counter_vote(*c0);
    d->votes[1] = counter_vote(*c1);
    d->votes[2] = counter_vote(*c2);
    d->votes[3] = 256;
    int32_t *w = m->weights[set * NODES + node];
    int32_t dot = mix(w, d->votes, OTHERS + n);
    int p0 = squash_table[dot + 4096];
    Apm *a1 = &m->apm[set * NODES + node], *a2 = &m->apm_fit[node * 16 + (q & 15)];
    int p = (2 * p0 + apm_p(a1, dot) + apm_p(a2, dot) + 2) >> 2;
    if (p < 4) p = 4;
    if (p > 65532) p = 65532;
    bit = code_bit(st->c, bit, (uint32_t)p);
    learn(w, d->votes, OTHERS + n, (bit << 16) - bit - p0, 18);
    apm_learn(a1, dot, bit, 6);
    apm_learn(a2, dot, bit, 6);
    *c0 = counter_after(*c0, bit, 400);
    *c1 = counter_after(*c1, bit, 250);
    *c2 = counter_after(*c2, bit, 250);
    return bit;
}

/* Codes one grid index: down the quantile tree, then by halves until the density is flat, the rest as it is. */
static uint64_t code_index(State *st, uint64_t value, double mu, double scale, int set, int q, uint64_t expected, int ctx) {
    const Spec *s = st->s;
    uint64_t low = 0, high = grid_top(s);
    double low_edge = -1e300, high_edge = 1e300;
    Decision d;
    for (int k = 0; k < SHAPES; k++) d.low[k] = 0.0, d.high[k] = 1.0;
    int first = 0, last = BINS, node = 1, depth = 0, integer = s->kind == KIND_INT;
    while (low < high) {
        uint64_t um;
        double edge;
        int tree = last - first > 1, middle = (first + last) >> 1, context;
        double width = high_edge - low_edge;
        int even = flat(s, low, high);
        if (even && width < 0.5 * scale) break;
        if (tree) {
            um = index_of(s, mu + quantile[middle] * scale);
            if (um <= low) {
                first = middle;
                node = 2 * node + 1;
                continue;
            }
            if (um > high) {
                last = middle;
                node = 2 * node;
                continue;
            }
            edge = edge_at(s, um);
            context = node;
        } else {
            um = low + ((high - low) >> 1) + 1;
            edge = edge_at(s, um);
            if (even) {
                int class = (lg(width / scale + 1e-9) >> 12) + 9;
                context = BINS + (class < 0 ? 0 : class >= WIDTHS - DEPTHS ? WIDTHS - DEPTHS - 1 : class);
            } else { /* many octaves are left: halves of the index are halves of the exponent */
                context = BINS + WIDTHS - DEPTHS + (depth < DEPTHS ? depth : DEPTHS - 1);
                depth++;
            }
        }
        uint32_t cell;
        if (integer) {
            int64_t lo = (int64_t)(low - expected), hi = (int64_t)(high - expected), at = (int64_t)(um - expected);
            uint32_t key = (uint32_t)(lo < -99 ? -99 : lo > 99 ? 99 : lo) * 0x9E3779B1u
                         ^ (uint32_t)(hi < -99 ? -99 : hi > 99 ? 99 : hi) * 0x85EBCA6Bu
                         ^ (uint32_t)(at < -99 ? -99 : at > 99 ? 99 : at) * 0xC2B2AE35u;
            cell = ((key * 0x27D4EB2Fu) >> 18) | ((key ^ (uint32_t)ctx * 0x165667B1u) * 0x9E3779B1u >> 18) << 14;
        } else
            cell = (uint32_t)(context + NODES * (ctx & 63)) | (uint32_t)(context + NODES * (ctx >> 6 & 63)) << 14;
        int bit = decide(st, &d, set, context, q, cell, value >= um, edge);
        if (bit) {
            low = um;
            low_edge = edge;
            memcpy(d.low, d.at, sizeof d.at);
            if (tree) first = middle, node = 2 * node + 1;
        } else {
            high = um - 1;
            high_edge = edge;
            memcpy(d.high, d.at, sizeof d.at);
            if (tree) last = middle, node = 2 * node;
        }
    }
    uint64_t count = high - low;
    if (count == 0) return low;
    if (count < (uint64_t)1 << 32) return low + code_uniform(st->c, value - low, count + 1);
    uint64_t upper = code_uniform(st->c, (value - low) >> 24, (count >> 24) + 1);
    uint64_t lower = code_uniform(st->c, (value - low) & 0xffffff, (uint64_t)1 << 24);
    uint64_t sum = upper << 24 | lower;
    return low + (sum > count ? count : sum);
}

static int code_flag(Coder *c, Counter *counter, int bit, int limit) {
    uint32_t p = (uint32_t)(*counter >> 16);
    p = p < 16 ? 16 : p > 65520 ? 65520 : p;
    bit = code_bit(c, bit, p);
    *counter = counter_after(*counter, bit, limit);
    return bit;
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
    st->features = s->joints + (s->flags & FLAG_NEAR ? NEIGHBOURS : 0);
    for (int i = 0; i < st->features; i++) {
        st->weight[i] = i < s->joints ? 1.0 / s->joints : 0.0;
        for (int j = 0; j < st->features; j++) st->spread[i][j] = i == j ? 0.002 : 0.0;
    }
    for (int k = 0; k < s->joints; k++) joint_start(st->joint[k].factor, s->rows, s->prior * joint_prior[k]);
    st->shapes = s->detail > 1 ? SHAPES : LIGHT_SHAPES + s->detail;
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
    shape_set(st, 0, m2, scale, 1);
    shape_set(st, 1, 0.0, e[3], 1);
    if (s->detail) shape_set(st, 2, 0.0, exp2_of(r->log_size + 0.6), 0);
    if (s->detail > 1) {
        shape_set(st, 8, m2, e[2], 1);
        shape_set(st, 3, m1, e[1], 0);
        shape_set(st, 4, m2, scale, 0);
        shape_set(st, 5, base, e[0], 0);
        shape_set(st, 6, m2, 0.5 * st->near + 0.5 * exp2_of(0.5 * r->last + 0.5 * r->last2) + TINY, 0);
        shape_set(st, 7, m2, size_of(m1) * st->relative + TINY, 0);
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
    return code_index(st, value, st->m2, st->scale, set, q, expected, context);
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
    if (s->detail) r->log_size = r->log_size + (LOG2(miss[3] + cell + TINY) - r->log_size) * st->row_rate;
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
        for (int k = 0; k < s->joints; k++) joint_add(&st->joint[k], n, i, s->rows);
        r->x = clamp(n, -4.0, 4.0);
        if (s->flags & FLAG_NEAR) {
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
}

static void column_end(State *st, int t) {
    const Spec *s = st->s;
    for (int k = 0; t > 0 && k < s->joints; k++) {
        for (int i = 0; i < s->rows; i++) st->work[i] = st->row[i].x;
        joint_learn(st->joint[k].factor, st->work, s->rows);
    }
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

static int code_matrix(Coder *c, Model *m, const Spec *s, uint64_t *u, const double *a) {
    const size_t R = (size_t)s->rows, J = (size_t)s->joints;
    State *st = calloc(1, sizeof *st);
    Row *row = malloc(sizeof(Row) * R);
    double *room = malloc(sizeof(double) * (J * R * R + J * R + 4 * R));
    double *residual = malloc(s->flags & FLAG_NEAR ? sizeof(double) * R * (size_t)s->cols : 1);
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
    free(st);
    free(row);
    free(room);
    free(residual);
    return fine;
}

#endif
