/* One value as decisions down a tree: at each node a learnt mixture of distributions says how likely "at or above" is.
 * docs/formats/patch.md, "Values".
 */
#ifndef FARSHORE_TREE_H
#define FARSHORE_TREE_H

#include "_grids.h"

#define BINS 64                 /* leaves of the quantile tree */
#define WIDTHS 40               /* classes of interval width below and beyond the tree */
#define DEPTHS 16               /* of these, by depth where cells differ in width */
#define NODES (BINS + WIDTHS)
#define STAGES 4
#define SHAPES 9                /* distributions */
#define LIGHT_SHAPES 3          /* of these with detail 1 */
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

/* The distributions that are mixed for the value at hand. */
typedef struct {
    double mu[SHAPES], inverse[SHAPES];
    const double *cdf[SHAPES];
    int n;
} Mixture;

static inline double cdf_at(const double *table, double z) {
    double y = (z + 16.0) * 32.0;
    if (!(y > 0.0)) return 0.0;
    if (y >= (double)CDF_STEPS) return 1.0;
    int k = (int)y;
    return table[k] + (table[k + 1] - table[k]) * (y - (double)k);
}

/* Sets distribution k: centre, scale (mean |x - centre|), shape. */
static inline void shape_set(Mixture *x, int k, double mu, double scale, int gauss) {
    x->mu[k] = mu;
    x->inverse[k] = (gauss ? 0.79788 : 1.3863) / scale;
    x->cdf[k] = gauss ? cdf_gauss : cdf_logistic;
}

/* One decision: is the value at or above the threshold `edge` (grid index `um`)? */
typedef struct {
    double low[SHAPES], high[SHAPES], at[SHAPES];
    int32_t votes[VOTES];
} Decision;

static int decide(Coder *c, Model *m, const Mixture *x, Decision *d, int set, int node, int q, uint32_t cell, int bit, double edge) {
    int n = x->n;
    for (int k = 0; k < n; k++) {
        d->at[k] = cdf_at(x->cdf[k], (edge - x->mu[k]) * x->inverse[k]);
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
    bit = code_bit(c, bit, (uint32_t)p);
    learn(w, d->votes, OTHERS + n, (bit << 16) - bit - p0, 18);
    apm_learn(a1, dot, bit, 6);
    apm_learn(a2, dot, bit, 6);
    *c0 = counter_after(*c0, bit, 400);
    *c1 = counter_after(*c1, bit, 250);
    *c2 = counter_after(*c2, bit, 250);
    return bit;
}

/* Codes one grid index: down the quantile tree, then by halves until the density is flat, the rest as it is. */
static uint64_t code_index(Coder *c, Model *m, const Spec *s, const Mixture *x, uint64_t value, double mu, double scale, int set,
                           int q, uint64_t expected, int ctx) {
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
        int bit = decide(c, m, x, &d, set, context, q, cell, value >= um, edge);
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
    if (count < (uint64_t)1 << 32) return low + code_uniform(c, value - low, count + 1);
    uint64_t upper = code_uniform(c, (value - low) >> 24, (count >> 24) + 1);
    uint64_t lower = code_uniform(c, (value - low) & 0xffffff, (uint64_t)1 << 24);
    uint64_t sum = upper << 24 | lower;
    return low + (sum > count ? count : sum);
}

#endif
