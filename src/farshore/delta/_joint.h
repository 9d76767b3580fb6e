/* What the rows of a matrix have in common: their residuals in one column are taken as jointly normal; the triangular
 * factor of their running covariance (transposed: factor[i*R + j], j >= i) gives each row's expectation from the rows above
 * it. docs/formats/patch.md, "Values".
 */
#ifndef FARSHORE_JOINT_H
#define FARSHORE_JOINT_H

#include <math.h>

#include "_coder.h"

#define MOST_JOINTS 3
#define MOST_JOINT_ROWS 1024

typedef struct {
    double *factor, *expected;
} Joint;

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

#endif
