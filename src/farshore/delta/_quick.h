/* The quick model of tensor values: what base, row, column, neighbours and the rows above let expect of each, coded as a bin
 * of _bins.h. docs/formats/patch.md, "Values". */
#ifndef FARSHORE_QUICK_H
#define FARSHORE_QUICK_H

#include "_bins.h"
#include "_joint.h"

#define NEAR 4                  /* what the rows above let expect; residuals to the left, above, one period back */

typedef struct { /* one number for each row */
    double *sab, *saa;          /* base·value, base·base: the factor on the base */
    double *factor;
    double *off1, *off2;        /* sums of |value - expected| without and with the rows above */
    double *rate, *by_rate;     /* mean of off2, drawn to the tensor's; its reciprocal */
    double *scale, *by_scale;   /* of the residual, for joint rows and neighbours */
    double *last;               /* |residual| over the rate, in the last column */
    double *x;                  /* the residual, there */
    double *work, *by_place;    /* 1/(i + 8) */
    int *equal, *dead;          /* how many were equal to the base, or dead, just before */
} Rows;

typedef struct {
    const Spec *s;
    Coder *c;
    Bins *b;
    Rows row;
    Joint joint;
    double off1, off2, size, seen; /* sums over the tensor */
    double tab, taa, tn, mean_size;
    double column, up;          /* |residual| over the rate: sum over the column, the row above's */
    double weight[NEAR], spread[NEAR][NEAR], z[NEAR], *kin; /* neighbours; residuals of the last `period` columns */
    int equal, dead;            /* how many above were equal to the base, or dead */
    uint64_t dead_low, dead_high, zero; /* between the first two values are dead; the index of 0 */
    double dead_octave;
    int period;
} Quick;

static inline double quick_size(double x) { return x < 0.0 ? -x : x; }

static void quick_column(Quick *q, int t) {
    const int R = q->s->rows;
    const Rows *r = &q->row;
    const double k0 = q->tn > 0.0 ? 40.0 * q->taa / q->tn : 1.0, all = (q->tab + k0) / (q->taa + k0);
    const double shrink = t ? 1.5 / (double)t : 0.0, mean1 = q->off1 / q->seen + 1e-36, mean2 = q->off2 / q->seen + 1e-36;
    const double by2 = 1.0 / ((double)t + 3.0), by1 = 1.2533 / ((double)t + 4.0);
    for (int i = 0; i < R; i++) { /* 1.2533: from the mean magnitude to a normal distribution's deviation */
        double k = t ? shrink * r->saa[i] : 1.0;
        r->factor[i] = (r->sab[i] + k * all) / (r->saa[i] + k);
        r->rate[i] = (r->off2[i] + mean2 * 3.0) * by2;
        r->by_rate[i] = 1.0 / r->rate[i];
        r->scale[i] = (r->off1[i] + mean1 * 4.0) * by1 + 1e-36;
        r->by_scale[i] = 1.0 / r->scale[i];
        q->joint.expected[i] = 0.0;
    }
    q->mean_size = q->size / q->seen + 1e-36;
    q->column = 0.0;
    q->up = 1.0;
    q->equal = q->dead = 0;
}

/* What joint rows and neighbours let expect of row i's residual. */
static double quick_guess(Quick *q, int t, int i) {
    const Spec *s = q->s;
    double guess = s->joints ? clamp(q->joint.expected[i], -6.0, 6.0) : 0.0;
    if (!(s->flags & FLAG_NEAR)) return guess;
    q->z[0] = guess;
    q->z[1] = q->row.x[i];
    q->z[2] = i ? q->row.x[i - 1] : 0.0;
    q->z[3] = q->period ? q->kin[(size_t)(t % q->period) * (size_t)s->rows + (size_t)i] : 0.0;
    guess = 0.0;
    for (int k = 0; k < NEAR; k++) guess = guess + q->weight[k] * q->z[k];
    return clamp(guess, -8.0, 8.0);
}

/* Recursive least squares over the neighbours. */
static void quick_near(Quick *q, double error) {
    double k[NEAR], over = 1.0, trace = 0.0;
    for (int i = 0; i < NEAR; i++) {
        k[i] = 0.0;
        for (int j = 0; j < NEAR; j++) k[i] = k[i] + q->spread[j][i] * q->z[j];
    }
    for (int i = 0; i < NEAR; i++) over = over + k[i] * q->z[i];
    double by = 1.0 / over, step = clamp(error, -3.0, 3.0) * by;
    for (int i = 0; i < NEAR; i++) {
        q->weight[i] = q->weight[i] + step * k[i];
        trace = trace + q->spread[i][i];
    }
    double grow = trace < 0.002 * NEAR ? 1.0002 : 1.0;
    for (int j = 0; j < NEAR; j++) {
        double kj = k[j] * by;
        for (int i = 0; i < NEAR; i++) q->spread[j][i] = (q->spread[j][i] - kj * k[i]) * grow;
    }
}

enum { NOT, SETTLED, DEAD_VALUE };

/* Whether a flag settles the value: exactly zero, dead (as good as zero), equal to the base. */
static int quick_flags(Quick *q, int i, double base, double near, uint64_t *value) {
    const Spec *s = q->s;
    const Rows *r = &q->row;
    const int floats = s->kind == KIND_FLOAT;
    if (s->flags & FLAG_ZERO) {
        const uint64_t minus = q->zero - (uint64_t)floats;
        int k = (int)clamp((double)lg(near + 1e-6) * (16.0 / 4096.0) + 128.0, 0.0, 255.0);
        if (code_flag(q->c, &q->b->zero[k], *value == q->zero || *value == minus, 255)) {
            int negative = floats && code_flag(q->c, &q->b->sign[base < 0.0], *value == minus, 255);
            *value = negative ? minus : q->zero;
            return SETTLED;
        }
    }
    if (s->flags & FLAG_DEAD) {
        int dead = floats ? *value < q->dead_high && *value > q->dead_low : *value == q->zero;
        dead = code_flag(q->c, &q->b->dead[(r->dead[i] >> 1) * 8 + (q->dead > 7 ? 7 : q->dead)], dead, 255);
        if (r->dead[i] < 8) q->dead = dead ? q->dead + 1 : 0; /* rows mostly dead tell nothing of the column */
        r->dead[i] = dead ? r->dead[i] < 15 ? r->dead[i] + 1 : 15 : r->dead[i] >> 2;
        if (dead) {
            *value = floats ? code_dead(q->c, q->b, s, *value, q->dead_high - q->zero, base < 0.0, &q->dead_octave) : q->zero;
            return DEAD_VALUE;
        }
    }
    if (s->flags & FLAG_EQUAL) {
        int k = (r->equal[i] > 7 ? 7 : r->equal[i]) * 8 + (q->equal > 7 ? 7 : q->equal);
        const uint64_t expected = index_of(s, base); /* 0 without one */
        int equal = code_flag(q->c, &q->b->equal[k], *value == expected, 255);
        r->equal[i] = equal ? r->equal[i] + 1 : 0;
        q->equal = equal ? q->equal + 1 : 0;
        if (equal) *value = expected;
        return equal ? SETTLED : NOT;
    }
    return NOT;
}

/* Row i turned out as b. */
static void quick_learn(Quick *q, int t, int i, double base, double m1, double m2, double guess, double b) {
    const Spec *s = q->s;
    const Rows *r = &q->row;
    const double off1 = quick_size(b - m1), off2 = quick_size(b - m2), ab = base * b, aa = base * base;
    double over = off2 * r->by_rate[i];
    over = over > 8.0 ? 8.0 : over;
    r->off1[i] = r->off1[i] + off1;
    r->off2[i] = r->off2[i] + off2;
    q->off1 = q->off1 + off1;
    q->off2 = q->off2 + off2;
    q->size = q->size + quick_size(b);
    q->seen = q->seen + 1.0;
    q->column = q->column + over;
    q->up = r->last[i] = over;
    r->sab[i] = r->sab[i] + ab;
    r->saa[i] = r->saa[i] + aa;
    q->tab = q->tab + ab;
    q->taa = q->taa + aa;
    q->tn = q->tn + 1.0;
    if (!s->joints && !(s->flags & FLAG_NEAR)) return;
    const double n = (b - m1) * r->by_scale[i];
    if (s->joints) joint_add(&q->joint, n, i, s->rows);
    r->x[i] = clamp(n, -4.0, 4.0);
    if (!(s->flags & FLAG_NEAR)) return;
    quick_near(q, clamp(n, -6.0, 6.0) - guess);
    if (q->period) q->kin[(size_t)(t % q->period) * (size_t)s->rows + (size_t)i] = r->x[i];
}

static void code_column(Quick *q, int t, uint64_t *u, const double *a) {
    const Spec *s = q->s;
    const Rows *r = &q->row;
    const int flags = s->flags & (FLAG_ZERO | FLAG_EQUAL | FLAG_DEAD);
    quick_column(q, t);
    for (int i = 0; i < s->rows; i++) {
        const double base = a[i], m1 = clamp(r->factor[i] * base, -1e30, 1e30), guess = quick_guess(q, t, i);
        const double m2 = m1 + guess * r->scale[i], near = quick_size(base) / q->mean_size;
        int settled = flags ? quick_flags(q, i, base, near, &u[i]) : NOT;
        if (settled == DEAD_VALUE) { /* teaches nothing */
            r->x[i] = 0.0;
            continue;
        }
        if (settled == NOT) {
            int context = ((near > 0.5) + (near > 1.0) + (near > 2.0)) * 6 + (r->last[i] > 1.0) * 3 + (q->up > 0.7) + (q->up > 1.6);
            u[i] = code_binned(q->c, q->b, s, m2, r->rate[i] * ((q->column + 8.0) * r->by_place[i]), context, u[i]);
        }
        double b = value_at(s, u[i]);
        if (!(b > -1e30 && b < 1e30)) b = m1;
        quick_learn(q, t, i, base, m1, m2, guess, b);
    }
    if (s->joints && t) {
        memcpy(r->work, r->x, sizeof(double) * (size_t)s->rows);
        joint_learn(q->joint.factor, r->work, s->rows);
    }
    if (q->seen > 40000.0) {
        double *sums[] = {&q->off1, &q->off2, &q->size, &q->seen};
        for (int k = 0; k < 4; k++) *sums[k] = *sums[k] * 0.5;
    }
}

static void quick_start(Quick *q, double *room, int *flags) {
    const Spec *s = q->s;
    const size_t R = (size_t)s->rows;
    Rows *r = &q->row;
    double **parts[] = {&r->sab, &r->saa, &r->factor, &r->off1, &r->off2, &r->rate, &r->by_rate, &r->scale, &r->by_scale,
                        &r->last, &r->x, &r->work, &r->by_place, &q->joint.expected, &q->joint.factor};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) *parts[k] = room + k * R;
    q->kin = q->joint.factor + (s->joints ? R * R : 0);
    r->equal = flags;
    r->dead = flags + R;
    for (size_t i = 0; i < R; i++) {
        r->saa[i] = 1e-30;
        r->last[i] = 1.0;
        r->by_place[i] = 1.0 / ((double)i + 8.0);
    }
    if (s->joints) joint_start(q->joint.factor, s->rows, s->prior);
    for (int i = 0; i < NEAR; i++) q->spread[i][i] = 0.002;
    q->weight[0] = 1.0;
    q->off1 = q->off2 = s->scale;
    q->size = s->size;
    q->seen = 1.0;
    q->taa = 1e-30;
    q->zero = index_of(s, 0.0);
    q->dead_high = index_of(s, s->size * power_of(-20));
    q->dead_low = index_of(s, -s->size * power_of(-20));
    if (s->kind == KIND_FLOAT) q->dead_octave = 0.5 * (double)((q->dead_high - q->zero) >> (s->mantissa - s->shift));
}

static int code_quick(Coder *c, Bins *b, const Spec *s, uint64_t *u, const double *a) {
    const size_t R = (size_t)s->rows, squares = s->joints ? R * R : 0;
    Quick q = {.s = s, .c = c, .b = b, .period = s->flags & FLAG_NEAR && s->period < s->cols ? s->period : 0};
    double *room = calloc(14 * R + squares + R * (size_t)q.period, sizeof(double));
    int *flags = calloc(2 * R, sizeof(int));
    int fine = room && flags;
    if (fine) quick_start(&q, room, flags);
    for (int t = 0; fine && t < s->cols && !c->failed; t++) code_column(&q, t, u + (size_t)t * R, a + (size_t)t * R);
    free(room);
    free(flags);
    return fine;
}

#endif
