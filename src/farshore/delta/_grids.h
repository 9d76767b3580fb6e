/* Number formats as grids: indices that rise with the value, and the reals that they stand for. docs/formats/patch.md,
 * "Values"; farshore/delta/grids.py has the same for whole arrays.
 */
#ifndef FARSHORE_GRIDS_H
#define FARSHORE_GRIDS_H

#include "_channels.h"
#include "_coder.h"

enum { KIND_INT = 0, KIND_FLOAT = 1 };
enum { HAS_BASE = 1, FLAG_ZERO = 2, FLAG_EQUAL = 4, FLAG_NEAR = 8, FLAG_DEAD = 16, FLAG_CHANNELS = 32 };

typedef struct {
    int kind, bits;             /* grid: bits per value after the dropped ones */
    int mantissa, bias, shift;  /* float grids: mantissa bits, exponent bias, dropped low bits */
    double zero;                /* integer grids: the grid index that stands for 0 */
    int rows, cols, period;     /* traversal: column by column, `rows` values each; period: distance of kindred columns */
    int flags, joints, detail;  /* joint models (0: none); 0 the quick model, 1 few distributions are mixed, 2 all */
    double scale, size;         /* first guesses: mean |difference|, mean |value| */
    double prior;               /* joint: own variance before anything is seen, in rows */
    int own;                    /* channels: sixteenths of what the base tells */
    Kin kin[MOST_KIN];
} Spec;

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

#endif
