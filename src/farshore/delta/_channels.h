/* What a matrix's columns have to do with each other. A column belongs to an input channel (and to a place of a kernel, a
 * tap). Inputs that move together make what training changes alike, and how inputs move together can be told: by the
 * base's columns, by what changed in another matrix with the same inputs, by the rows of the matrix that makes them.
 * docs/formats/patch.md, "Channels".
 */
#ifndef FARSHORE_CHANNELS_H
#define FARSHORE_CHANNELS_H

#include <math.h>

#include "_coder.h"

#define LEAST_CHANNELS 4
#define MOST_CHANNELS 512
#define MOST_TAPS 128
#define MOST_KIN 3
#define MOST_KNOWN 64
#define MOST_CHANNEL_ROWS 1024
#define MOST_NUMBERS ((size_t)1 << 20)

/* What one matrix told: correlations of its inputs, then products of its outputs (lower triangles). */
typedef struct {
    int inputs, outputs;
    double *numbers;
} Known;

/* What the last matrices of a stream told. */
typedef struct {
    Known known[MOST_KNOWN];
    int count;
    size_t numbers;
} Memory;

/* Some sixteenths of what the matrix so far back told of its outputs (or inputs), from channel `start` on. */
typedef struct {
    int back, inputs, start, share;
} Kin;

typedef struct {
    int channels, taps, rows;
    double *inner, *tap;       /* triangular factors of the channels' and the taps' correlations */
    double *past;              /* for each column: how it turned out, less what earlier channels let expect, in units */
    double *now;               /* for each tap: the same, less what earlier taps let expect */
    double *expected, unit;    /* of the column at hand, in each row; how far off that is wont to be */
    double *products, *vector; /* room to work in: channels x channels, and rows or channels or taps */
    Known told;
} Channels;

static int taps_of(int cols, int period) { return period > 1 && cols % period == 0 ? period : 1; }

/* Whether a matrix is one that has channels to speak of, and not so many that they would take longer than its values. */
static int channels_fit(int rows, int cols, int period) {
    int taps = taps_of(cols, period), n = cols / taps;
    return rows >= LEAST_CHANNELS && rows <= MOST_CHANNEL_ROWS && taps <= MOST_TAPS && n >= LEAST_CHANNELS && n <= MOST_CHANNELS
        && n <= 8 * rows * taps && (size_t)n * (size_t)n + (size_t)rows * (size_t)rows <= MOST_NUMBERS;
}

static size_t known_numbers(const Known *k) {
    return (size_t)k->inputs * (size_t)k->inputs + (size_t)k->outputs * (size_t)k->outputs;
}

static void memory_drop(Memory *m, int count) {
    for (int k = 0; k < count; k++) {
        m->numbers -= known_numbers(&m->known[k]);
        free(m->known[k].numbers);
    }
    m->count -= count;
    memmove(m->known, m->known + count, sizeof(Known) * (size_t)m->count);
}

static void memory_add(Memory *m, Known *told) {
    size_t numbers = known_numbers(told);
    while (m->count && (m->count == MOST_KNOWN || m->numbers + numbers > MOST_NUMBERS)) memory_drop(m, 1);
    m->known[m->count++] = *told;
    m->numbers += numbers;
    told->numbers = NULL;
}

static void square_clear(double *a, int n) {
    for (size_t k = 0; k < (size_t)n * (size_t)n; k++) a[k] = 0.0;
}

WIDE static void products_add(double *sum, const double *x, int n) {
    for (int i = 0; i < n; i++) {
        double *row = sum + (size_t)i * n, xi = x[i];
        for (int j = 0; j <= i; j++) row[j] = row[j] + xi * x[j];
    }
}

/* Adds a share of the correlation that products of n vectors stand for, from `start` on; `scale` is room for n numbers. */
WIDE static void correlation_add(double *sum, int width, int start, const double *products, int n, double share, double *scale) {
    for (int i = 0; i < n; i++) {
        double p = products[(size_t)i * n + i];
        scale[i] = p > 1e-200 ? 1.0 / sqrt(p) : 0.0;
    }
    for (int i = 0; i < n; i++) {
        double *row = sum + (size_t)(start + i) * width + start, by = share * scale[i];
        const double *p = products + (size_t)i * n;
        for (int j = 0; j < i; j++) row[j] = row[j] + p[j] * scale[j] * by;
    }
}

/* A correlation (its diagonal is 1, whatever stands there) into its lower triangular factor. */
WIDE static void factorise(double *a, int n, double *column) {
    for (int i = 0; i < n; i++) a[(size_t)i * n + i] = 1.0;
    for (int k = 0; k < n; k++) {
        double *pivot = a + (size_t)k * n + k, d = sqrt(*pivot > 1e-3 ? *pivot : 1e-3), by = 1.0 / d;
        *pivot = d;
        for (int i = k + 1; i < n; i++) {
            double *row = a + (size_t)i * n, f = row[k] * by;
            row[k] = column[i] = f;
            for (int j = k + 1; j <= i; j++) row[j] = row[j] - f * column[j];
        }
    }
}

/* Products of the base's columns: of one tap's channels (along 0), or of one channel's taps. */
static void base_products(Channels *k, double *sum, const double *a, const double *by_row, int along_taps) {
    const int n = along_taps ? k->taps : k->channels, others = along_taps ? k->channels : k->taps;
    double *x = k->vector + k->rows;
    square_clear(sum, n);
    for (int i = 0; i < k->rows; i++)
        for (int o = 0; o < others; o++) {
            for (int c = 0; c < n; c++) {
                size_t t = (size_t)(along_taps ? o : c) * k->taps + (along_taps ? c : o);
                x[c] = a[t * k->rows + i] * by_row[i];
            }
            products_add(sum, x, n);
        }
}

static void channels_own(Channels *k, const double *a, int share) {
    double *by_row = k->vector, *x = by_row + k->rows;
    for (int i = 0; i < k->rows; i++) by_row[i] = 1e-200;
    for (int t = 0; t < k->channels * k->taps; t++)
        for (int i = 0; i < k->rows; i++) {
            double v = a[(size_t)t * k->rows + i];
            by_row[i] = by_row[i] + v * v;
        }
    for (int i = 0; i < k->rows; i++) by_row[i] = 1.0 / sqrt(by_row[i]);
    base_products(k, k->products, a, by_row, 0);
    correlation_add(k->told.numbers, k->channels, 0, k->products, k->channels, share * 0.0625, x);
    base_products(k, k->products, a, by_row, 1);
    correlation_add(k->tap, k->taps, 0, k->products, k->taps, 0.9375, x);
}

static void channels_kin(Channels *k, const Kin *kin, const Memory *memory) {
    if (kin->back < 1 || kin->back > memory->count) return;
    const Known *known = &memory->known[memory->count - kin->back];
    const int n = kin->inputs ? known->inputs : known->outputs;
    if (kin->start < 0 || kin->start > k->channels - n) return;
    const double *products = known->numbers + (kin->inputs ? 0 : (size_t)known->inputs * known->inputs);
    correlation_add(k->told.numbers, k->channels, kin->start, products, n, kin->share * 0.0625, k->vector);
}

static int channels_start(Channels *k, int R, int cols, int period, const double *a, int own, const Kin *kin, const Memory *memory) {
    k->taps = taps_of(cols, period);
    k->channels = cols / k->taps;
    k->rows = R;
    size_t n = (size_t)k->channels, t = (size_t)k->taps, most = n > t ? n : t, rows = (size_t)R;
    k->told = (Known){k->channels, R, malloc(sizeof(double) * (n * n + rows * rows))};
    k->inner = malloc(sizeof(double) * (n * n + t * t + most * most + rows * ((size_t)cols + t + 2) + most));
    if (!k->told.numbers || !k->inner) return 0;
    k->tap = k->inner + n * n;
    k->products = k->tap + t * t;
    k->past = k->products + most * most;
    k->now = k->past + rows * (size_t)cols;
    k->expected = k->now + rows * t;
    k->vector = k->expected + rows;
    square_clear(k->told.numbers, k->channels);
    square_clear(k->tap, k->taps);
    if (own) channels_own(k, a, own);
    for (int q = 0; q < MOST_KIN; q++) channels_kin(k, &kin[q], memory);
    memcpy(k->inner, k->told.numbers, sizeof(double) * n * n);
    factorise(k->inner, k->channels, k->vector);
    factorise(k->tap, k->taps, k->vector);
    return 1;
}

static void channels_end(Channels *k) {
    free(k->told.numbers);
    free(k->inner);
}

/* What the columns before column t let expect of it. */
WIDE static void channels_column(Channels *k, int t) {
    const int R = k->rows, c = t / k->taps, j = t % k->taps;
    const double *inner = k->inner + (size_t)c * k->channels, *tap = k->tap + (size_t)j * k->taps;
    double *past = k->past + (size_t)t * R, *expected = k->expected;
    for (int i = 0; i < R; i++) past[i] = 0.0;
    for (int b = 0; b < c; b++) {
        const double *y = k->past + (size_t)(b * k->taps + j) * R, f = inner[b];
        for (int i = 0; i < R; i++) past[i] = past[i] + f * y[i];
    }
    for (int i = 0; i < R; i++) expected[i] = past[i];
    for (int b = 0; b < j; b++) {
        const double *z = k->now + (size_t)b * R, f = inner[c] * tap[b];
        for (int i = 0; i < R; i++) expected[i] = expected[i] + f * z[i];
    }
    k->unit = inner[c] * tap[j];
}

/* Column t turned out as x. */
WIDE static void channels_learn(Channels *k, const double *x, int t) {
    const int R = k->rows, c = t / k->taps, j = t % k->taps;
    double *past = k->past + (size_t)t * R, *now = k->now + (size_t)j * R;
    const double by = 1.0 / k->inner[(size_t)c * k->channels + c], by_unit = 1.0 / k->unit;
    for (int i = 0; i < R; i++) {
        now[i] = (x[i] - k->expected[i]) * by_unit;
        past[i] = (x[i] - past[i]) * by;
    }
}

/* What the inputs have in common, now that the residuals are known (rows x columns, column after column). */
static void channels_inputs(Channels *k, const double *residual) {
    const int R = k->rows, taps = k->taps, n = k->channels;
    double *told = k->told.numbers, *x = k->vector;
    square_clear(k->products, n);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < taps; j++) {
            for (int c = 0; c < n; c++) x[c] = residual[(size_t)(c * taps + j) * R + i];
            products_add(k->products, x, n);
        }
    const double share = (double)(R * taps) / (double)(R * taps + n);
    for (size_t q = 0; q < (size_t)n * n; q++) told[q] = told[q] * (1.0 - share);
    correlation_add(told, n, 0, k->products, n, share, x);
    memcpy(k->inner, told, sizeof(double) * (size_t)n * n);
    factorise(k->inner, n, x);
    for (int c = 0; c < n; c++) told[(size_t)c * n + c] = 1.0;
}

/* What the outputs have in common, from the values (spent): outputs are rows times inputs. */
WIDE static void channels_outputs(Channels *k, double *values) {
    const int R = k->rows, taps = k->taps, n = k->channels;
    double *told = k->told.numbers + (size_t)n * n;
    square_clear(told, R);
    for (int c = 0; c < n; c++)
        for (int j = 0; j < taps; j++) {
            double *v = values + (size_t)(c * taps + j) * R, d = k->tap[j * taps + j];
            for (int i = 0; i < R; i++) v[i] = v[i] * d;
            for (int b = j + 1; b < taps; b++) {
                const double *w = values + (size_t)(c * taps + b) * R, f = k->tap[b * taps + j];
                for (int i = 0; i < R; i++) v[i] = v[i] + f * w[i];
            }
        }
    for (int c = 0; c < n; c++)
        for (int j = 0; j < taps; j++) {
            double *v = values + (size_t)(c * taps + j) * R, d = k->inner[(size_t)c * n + c];
            for (int i = 0; i < R; i++) v[i] = v[i] * d;
            for (int b = c + 1; b < n; b++) {
                const double *w = values + (size_t)(b * taps + j) * R, f = k->inner[(size_t)b * n + c];
                for (int i = 0; i < R; i++) v[i] = v[i] + f * w[i];
            }
            products_add(told, v, R);
        }
}

#endif
