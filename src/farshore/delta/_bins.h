/* One value as a bin of a learnt histogram around what is expected of it: the quick way of coding. Where a bin holds many
 * grid indices, these are taken as equally likely, or as likely as their cells are wide. docs/formats/patch.md, "Values".
 */
#ifndef FARSHORE_BINS_H
#define FARSHORE_BINS_H

#include "_grids.h"

#define BIN_COUNT 64            /* the first and the last are everything beyond */
#define MIDDLE 32
#define SHARPNESS 3.2           /* a mean miss spans so many bins, or up to twice as many */
#define RATIOS 14               /* classes of the scale, in half octaves, where bins are single cells */
#define PLACES 8                /* of the expectation within its cell */
#define WIDE_KINDS 24           /* contexts where bins are wider than cells */
#define TAILS 64
#define OCTAVES 6               /* peeled off one by one where a bin holds several */
#define BIN_SHARE 0.21875       /* width of a bin of reals in mean misses */
#define SINGLE (RATIOS * PLACES) /* histograms: of single cells, of wider bins, of reals, of dead values' octaves */
#define DEAD (SINGLE + 2 * WIDE_KINDS)
#define HISTOGRAMS (DEAD + 1)

typedef struct {
    uint32_t count[BIN_COUNT], cum[BIN_COUNT + 1]; /* what was seen; 65536 times the share of bins before */
    uint32_t seen, due;         /* since it was made; when the shares are made anew */
} Histogram;

typedef struct {
    Histogram histogram[HISTOGRAMS];
    Counter tail[2][TAILS], half[TAILS], zero[256], sign[2], equal[64], dead[64], dead_sign[2];
} Bins;

static void bins_start(Bins *b) {
    memset(b->histogram, 0, sizeof b->histogram);
    Counter *counters = &b->tail[0][0];
    size_t n = (size_t)((Counter *)(b + 1) - counters);
    for (size_t i = 0; i < n; i++) counters[i] = COUNTER_START;
}

/* Shares from counts: none is zero. */
static void histogram_settle(Histogram *h) {
    uint32_t total = 0, sum = 0;
    for (int k = 0; k < BIN_COUNT; k++) total += h->count[k];
    for (int k = 0; k < BIN_COUNT; k++) {
        h->cum[k] = sum;
        sum += 1 + (uint32_t)((uint64_t)h->count[k] * (65536 - BIN_COUNT) / total);
    }
    h->cum[BIN_COUNT] = 65536;
    if (h->seen >= 1 << 13) { /* old counts fade */
        for (int k = 0; k < BIN_COUNT; k++) h->count[k] = (h->count[k] + 1) >> 1;
        h->seen >>= 1;
    }
    h->due = h->seen + (h->seen < 128 ? 32 : 256);
}

/* Before anything is seen: a logistic distribution; `first` is the first edge, `step` the width of bins, in mean misses. */
static void histogram_start(Histogram *h, double first, double step) {
    double below = 0.0;
    for (int k = 0; k < BIN_COUNT; k++) {
        double z = (first + step * (double)(k + 1)) * 1.3863, at = 1.0;
        if (k + 1 < BIN_COUNT) at = cdf_logistic[(int)clamp((z + 16.0) * 32.0, 0.0, CDF_STEPS)];
        h->count[k] = (uint32_t)((at - below) * 2048.0) + 1;
        below = at;
    }
    h->seen = 1;
    histogram_settle(h);
}

static int code_bin(Coder *c, Histogram *h, int bin) {
    uint64_t step = c->range >> 16;
    if (c->decode) {
        uint64_t at = c->low / step;
        const uint32_t *cum = h->cum;
        bin = 0;
        for (int half = BIN_COUNT / 2; half; half >>= 1) bin += cum[bin + half] <= at ? half : 0;
        c->low -= step * cum[bin];
    } else
        coder_add(c, step * h->cum[bin]);
    c->range = step * (h->cum[bin + 1] - h->cum[bin]);
    coder_normalise(c);
    h->count[bin] += 16;
    if (++h->seen >= h->due) histogram_settle(h);
    return bin;
}

/* A grid index in [low, high], as likely as its cell is wide. */
static uint64_t code_within(Coder *c, Bins *b, const Spec *s, uint64_t low, uint64_t high, uint64_t value) {
    for (int octave = 0; !flat(s, low, high); octave++) {
        uint64_t um, middle = (uint64_t)1 << (s->bits - 1);
        int bit, by = s->mantissa - s->shift;
        if (octave < OCTAVES) {
            if (low < middle && high >= middle)
                um = middle;
            else if (high >= middle)
                um = middle + ((high - middle) >> by << by);
            else
                um = middle - ((middle - 1 - low) >> by << by);
            double at = edge_at(s, um), top = edge_at(s, high + 1), bottom = low ? edge_at(s, low) : value_at(s, 0);
            double p = (top - at) / (top - bottom) * 65536.0;
            bit = code_bit(c, value >= um, (uint32_t)clamp(p, 16.0, 65520.0));
        } else {
            um = low + ((high - low) >> 1) + 1;
            bit = code_flag(c, &b->half[octave < TAILS ? octave : TAILS - 1], value >= um, 255);
        }
        if (bit)
            low = um;
        else
            high = um - 1;
    }
    return low == high ? low : low + code_uniform(c, value - low, high - low + 1);
}

/* Where an expectation lies on the grid: the nearest index, the place beside it (-1/2..1/2 cells), the cell's width. */
typedef struct {
    uint64_t at;
    double place, cell;
} Point;

static inline Point point_at(const Spec *s, double x) {
    Point p;
    if (s->kind == KIND_INT) {
        double y = clamp(x + s->zero, 0.0, (double)grid_top(s));
        p.at = (uint64_t)(y + 0.5);
        if (p.at > grid_top(s)) p.at = grid_top(s);
        p.place = clamp(y - (double)p.at, -0.5, 0.5);
        p.cell = 1.0;
        return p;
    }
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int e = (int)(bits >> 52 & 2047) - 1023, least = 1 - s->bias;
    p.cell = power_of((e < least ? least : e) - s->mantissa + s->shift);
    p.at = index_of(s, x); /* from the index nearer to 0 to the nearest */
    p.place = (x - value_at(s, p.at)) / p.cell;
    if (p.place >= 0.5 && p.at < grid_top(s)) p.at++, p.place = p.place - 1.0;
    if (p.place < -0.5 && p.at > 0) p.at--, p.place = p.place + 1.0;
    p.place = clamp(p.place, -0.5, 0.5);
    return p;
}

/* Beyond the last bin: at twice, four times … the distance of its edge? `reach` is that distance in reals, 0: `step` in
 * indices. `edge` is the index nearest to the bins. */
static uint64_t code_tail(Coder *c, Bins *b, const Spec *s, int above, uint64_t edge, uint64_t step, double x, double reach, uint64_t value) {
    const uint64_t top = grid_top(s);
    uint64_t low = above ? edge : 0, high = above ? top : edge;
    for (int j = 0; j < TAILS; j++) {
        uint64_t next, far = step << (j < 40 ? j : 40);
        reach = reach * 2.0;
        if (reach > 0.0)
            next = index_of(s, above ? x + reach : x - reach);
        else
            next = above ? top - edge > far ? edge + far : top : edge > far ? edge - far : 0;
        if (next <= low || next >= high) break;
        int further = code_flag(c, &b->tail[above][j], above ? value >= next : value < next, 255);
        if (above == further)
            low = next;
        else
            high = next - 1;
        if (!further) break;
    }
    return code_within(c, b, s, low, high, value);
}

/* Bins of equal width in reals. */
static uint64_t code_reals(Coder *c, Bins *b, const Spec *s, double x, double scale, int context, uint64_t value) {
    const double step = scale * BIN_SHARE, last = step * (MIDDLE - 1);
    Histogram *h = &b->histogram[SINGLE + WIDE_KINDS + context];
    if (!h->seen) histogram_start(h, -MIDDLE * BIN_SHARE, BIN_SHARE);
    int bin = 0;
    if (!c->decode) {
        bin = (int)clamp((value_at(s, value) - x) / step + MIDDLE, 0.0, BIN_COUNT - 1);
        while (bin > 0 && value < index_of(s, x + (double)(bin - MIDDLE) * step)) bin--;
        while (bin < BIN_COUNT - 1 && value >= index_of(s, x + (double)(bin + 1 - MIDDLE) * step)) bin++;
    }
    bin = code_bin(c, h, bin);
    uint64_t low = index_of(s, x + (double)(bin - MIDDLE) * step), next = index_of(s, x + (double)(bin + 1 - MIDDLE) * step);
    if (bin == 0) return code_tail(c, b, s, 0, next ? next - 1 : 0, 0, x, last, value);
    if (bin == BIN_COUNT - 1) return code_tail(c, b, s, 1, low, 0, x, last, value);
    return code_within(c, b, s, low, next > low ? next - 1 : low, value);
}

/* Bins of 2^shift grid indices each. */
static uint64_t code_indices(Coder *c, Bins *b, const Spec *s, Histogram *h, uint64_t middle, int shift, double x, uint64_t value) {
    const int64_t top = (int64_t)grid_top(s), size = (int64_t)1 << shift;
    int bin = 0;
    if (!c->decode) {
        int64_t off = (int64_t)(value - middle) >> shift;
        bin = off < -MIDDLE ? 0 : off >= MIDDLE ? BIN_COUNT - 1 : (int)off + MIDDLE;
    }
    bin = code_bin(c, h, bin);
    int64_t low = (int64_t)middle + (bin - MIDDLE) * size, high = low + size - 1;
    if (high < 0) return 0; /* only a damaged stream comes here */
    if (low > top) return (uint64_t)top;
    if (bin == 0) return code_tail(c, b, s, 0, (uint64_t)high, (uint64_t)size << 3, x, 0.0, value);
    if (low < 0) low = 0;
    if (bin == BIN_COUNT - 1) return code_tail(c, b, s, 1, (uint64_t)low, (uint64_t)size << 3, x, 0.0, value);
    if (high > top) high = top;
    return low == high ? (uint64_t)low : (uint64_t)low + code_uniform(c, value - (uint64_t)low, (uint64_t)(high - low) + 1);
}

/* One grid index, expected at x, off by `scale` in the mean; `context` tells histograms of wide bins apart. */
static uint64_t code_binned(Coder *c, Bins *b, const Spec *s, double x, double scale, int context, uint64_t value) {
    const Point p = point_at(s, x);
    const double cells = scale / p.cell, ratio = cells * (1.0 / SHARPNESS);
    uint64_t bits;
    memcpy(&bits, &ratio, 8);
    const int octave = (int)(bits >> 52) - 1023, half = (int)(bits >> 51 & 1);
    if (s->kind == KIND_FLOAT && octave > 2) return code_reals(c, b, s, x, scale, context, value);
    Histogram *h;
    if (octave > 0) {
        h = &b->histogram[SINGLE + context];
        if (!h->seen) histogram_start(h, -MIDDLE / 4.5, 1 / 4.5);
    } else {
        int class = 2 * octave + half + RATIOS - 2;
        class = class < 0 ? 0 : class;
        h = &b->histogram[class * PLACES + (int)clamp((p.place + 0.5) * PLACES, 0.0, PLACES - 1)];
        if (!h->seen) histogram_start(h, (-MIDDLE - 0.5 - p.place) / cells, 1.0 / cells);
    }
    return code_indices(c, b, s, h, p.at, octave < 0 ? 0 : octave > 31 ? 31 : octave, x, value);
}

/* A magnitude below `most` (an index from the middle on), by its octave's distance from the usual one. */
static uint64_t code_dead(Coder *c, Bins *b, const Spec *s, uint64_t value, uint64_t most, int negative, double *usual) {
    const uint64_t middle = (uint64_t)1 << (s->bits - 1);
    const int by = s->mantissa - s->shift, about = (int)(*usual + 0.5), highest = (int)(most >> by);
    Histogram *h = &b->histogram[DEAD];
    if (!h->seen) histogram_start(h, -MIDDLE / 1.2, 1 / 1.2);
    negative = code_flag(c, &b->dead_sign[negative], value < middle, 255);
    uint64_t m = value < middle ? middle - 1 - value : value - middle;
    int octave = (int)(m >> by), bin = octave - about + MIDDLE;
    bin = code_bin(c, h, bin < 0 ? 0 : bin >= BIN_COUNT ? BIN_COUNT - 1 : bin);
    if (bin == 0 || bin == BIN_COUNT - 1)
        octave = (int)code_uniform(c, (uint64_t)octave, (uint64_t)highest + 1);
    else
        octave = about + bin - MIDDLE;
    octave = octave < 0 ? 0 : octave > highest ? highest : octave;
    m = (uint64_t)octave << by | code_uniform(c, m & (((uint64_t)1 << by) - 1), (uint64_t)1 << by);
    *usual = *usual + ((double)octave - *usual) * 0.05;
    return negative ? middle - 1 - m : middle + m;
}

#endif
