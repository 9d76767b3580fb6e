/* Tables, range coder, mixer: the arithmetic under both models of the kernel.
 *
 * Everything a decoder decides with is integers, or IEEE doubles under + - * / sqrt in the order written here, so that all
 * machines agree bit for bit; the twin (twin) does the same in Python. Build with -ffp-contract=off.
 */
#ifndef FARSHORE_CODER_H
#define FARSHORE_CODER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Wider vectors where the machine has them; the same operations on each element, so the same bits. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

/* ---- tables ---------------------------------------------------------------------------------------------- */

#define LG_BITS 11                 /* mantissa bits that index the logarithm */
#define ONE_STEP 4096              /* fixed point of logarithms: 1/4096 */
#define ST_MAX 4095                /* log-odds are kept in 1/256 of a factor of two, within +-16 factors */
#define CDF_STEPS 1024             /* distribution functions run over +-16 in steps of 1/32 */

static int16_t lg_table[1 << LG_BITS];      /* log2(1 + i/2048) * 4096 */
static double ex_table[1024];               /* 2^(i/1024) */
static uint16_t squash_table[8192];         /* probability (16 bits) of log-odds (i - 4096)/256 */
static int32_t stretch_table[4096];         /* log-odds of probability (i + 1/2)/4096 */
static int32_t rate_table[1024];            /* 65536/(n + 1.5) */
static int32_t trust_table[1024];           /* 256 * 5n/(5n + 2): how far a counter of n is believed */
static double cdf_logistic[CDF_STEPS + 2];
static double cdf_gauss[CDF_STEPS + 2];

static double exp_of(double x) { /* e^x by 2^-10 scaling, Taylor and squaring: only + and * */
    double y = x / 1024.0, term = 1.0, sum = 1.0;
    for (int k = 1; k < 12; k++) {
        term = term * y / (double)k;
        sum = sum + term;
    }
    for (int k = 0; k < 10; k++) sum = sum * sum;
    return sum;
}

static double ln_of(double x) { /* natural logarithm of 1 <= x <= 2, by the series of atanh */
    double y = (x - 1.0) / (x + 1.0), square = y * y, power = y, sum = 0.0;
    for (int k = 0; k < 24; k++) {
        sum = sum + power / (double)(2 * k + 1);
        power = power * square;
    }
    return 2.0 * sum;
}

static void make_tables(void) {
    const double ln2 = ln_of(2.0);
    for (int i = 0; i < 1 << LG_BITS; i++)
        lg_table[i] = (int16_t)(int)(ln_of(1.0 + (i + 0.5) / (1 << LG_BITS)) / ln2 * ONE_STEP + 0.5);
    for (int i = 0; i < 1024; i++) ex_table[i] = exp_of(ln2 * (i + 0.5) / 1024.0);
    for (int i = 0; i < 8192; i++) {
        double p = 65536.0 / (1.0 + exp_of(-ln2 * (i - 4096) / 256.0));
        squash_table[i] = (uint16_t)(p < 2.0 ? 2 : p > 65534.0 ? 65534 : (int)p);
    }
    for (int i = 0; i < 4096; i++) { /* the inverse of squash, by search: no second logarithm to agree on */
        int low = 0, p = i * 16 + 8;
        while (low < 8191 && squash_table[low] < p) low++;
        stretch_table[i] = low - 4096;
    }
    for (int i = 0; i < 1024; i++) {
        rate_table[i] = (int)(65536.0 / (i + 1.5));
        trust_table[i] = 1280 * i / (5 * i + 2);
    }
    double sum = 0.0;
    for (int i = 0; i <= CDF_STEPS + 1; i++) {
        double z = (i - CDF_STEPS / 2) / 32.0;
        cdf_logistic[i] = 1.0 / (1.0 + exp_of(-z));
        cdf_gauss[i] = sum; /* Simpson's rule over the density, step 1/32 */
        double d0 = exp_of(-0.5 * z * z), y = z + 1.0 / 64.0, d1 = exp_of(-0.5 * y * y);
        y = z + 1.0 / 32.0;
        sum = sum + (d0 + 4.0 * d1 + exp_of(-0.5 * y * y)) / 192.0;
    }
    const double whole = cdf_gauss[CDF_STEPS + 1];
    for (int i = 0; i <= CDF_STEPS + 1; i++) cdf_gauss[i] = cdf_gauss[i] / whole;
}

/* log2 of a positive double, in 1/4096 */
static inline int32_t lg(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return ((int32_t)(bits >> 52) - 1023) * ONE_STEP + lg_table[(bits >> (52 - LG_BITS)) & ((1 << LG_BITS) - 1)];
}

/* 2^(x/1024), |x| < 2^19 */
static inline double ex(int32_t x) {
    uint64_t bits = (uint64_t)((x >> 10) + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return power * ex_table[x & 1023];
}

/* Also a wall: what is no number comes out as `low`, so that no index is ever made from it. */
static inline double clamp(double x, double low, double high) { return x > low ? x < high ? x : high : low; }

/* ---- range coder: 64-bit range, carries settled in the buffer ---------------------------------------------- */

typedef struct {
    int decode, failed;
    uint8_t *out;               /* encoder: grows */
    const uint8_t *in;          /* decoder: borrowed */
    size_t size, at;            /* capacity or length; position */
    uint64_t low, range;        /* decoder: low is the code's distance from the range's start */
} Coder;

static int coder_byte(Coder *c) { return c->at < c->size ? c->in[c->at++] : (c->at++, 0); }

static void coder_start(Coder *c) {
    c->low = 0;
    c->range = ~(uint64_t)0;
    if (c->decode)
        for (int i = 0; i < 8; i++) c->low = c->low << 8 | (uint64_t)coder_byte(c);
}

static void coder_put(Coder *c, uint8_t byte) {
    if (c->at == c->size) {
        size_t size = c->size ? c->size * 2 : 4096;
        uint8_t *out = realloc(c->out, size);
        if (!out) {
            c->failed = 1;
            c->at = 0; /* keeps writing inside the old buffer; the result is thrown away */
            if (!c->size) return;
        } else {
            c->out = out;
            c->size = size;
        }
    }
    c->out[c->at++] = byte;
}

static void coder_carry(Coder *c) {
    for (size_t i = c->at; i-- > 0;)
        if (++c->out[i]) return;
}

static inline void coder_normalise(Coder *c) {
    while (c->range < (uint64_t)1 << 48) {
        if (c->decode)
            c->low = c->low << 8 | (uint64_t)coder_byte(c);
        else {
            coder_put(c, (uint8_t)(c->low >> 56));
            c->low <<= 8;
        }
        c->range <<= 8;
    }
}

static inline void coder_add(Coder *c, uint64_t x) {
    uint64_t low = c->low + x;
    if (low < x) coder_carry(c);
    c->low = low;
}

/* One binary decision; p is the probability of 1 in 1/65536, 1..65535. */
static inline int code_bit(Coder *c, int bit, uint32_t p) {
    uint64_t bound = (c->range >> 16) * p;
    if (c->decode) bit = c->low < bound;
    if (bit)
        c->range = bound;
    else {
        if (c->decode)
            c->low -= bound;
        else
            coder_add(c, bound);
        c->range -= bound;
    }
    coder_normalise(c);
    return bit;
}

/* A number below n <= 2^32, all equally likely. */
static inline uint64_t code_uniform(Coder *c, uint64_t value, uint64_t n) {
    uint64_t step = c->range / n;
    if (c->decode) {
        value = c->low / step;
        if (value >= n) value = n - 1;
        c->low -= value * step;
    } else
        coder_add(c, value * step);
    c->range = step;
    coder_normalise(c);
    return value;
}

/* Ends the stream with as few bytes as name a number in the range; a decoder reads zeros after the end. */
static void coder_finish(Coder *c) {
    for (int bytes = 0; bytes <= 8; bytes++) {
        uint64_t mask = bytes ? bytes == 8 ? 0 : ~(uint64_t)0 >> (8 * bytes) : ~(uint64_t)0;
        uint64_t value = (c->low + mask) & ~mask;
        if (value - c->low < c->range) {
            if (value < c->low) coder_carry(c);
            for (int i = 0; i < bytes; i++) coder_put(c, (uint8_t)(value >> (56 - 8 * i)));
            break;
        }
    }
    while (c->at && !c->out[c->at - 1]) c->at--;
}

/* ---- adaptive pieces --------------------------------------------------------------------------------------- */

/* A counter: 22 bits of probability, 10 bits of count; the more it has seen, the slower it moves. */
typedef uint32_t Counter;
#define COUNTER_START ((Counter)1 << 31)

static inline int counter_p(Counter s) { return (int)(s >> 20); } /* 12 bits */

static inline Counter counter_after(Counter s, int bit, int limit) {
    int64_t p = s >> 10;
    uint32_t n = s & 1023;
    p += ((((int64_t)bit << 22) - bit - p) * rate_table[n]) >> 16;
    return (Counter)p << 10 | (n < (uint32_t)limit ? n + 1 : n);
}

static inline int code_flag(Coder *c, Counter *counter, int bit, int limit) {
    uint32_t p = (uint32_t)(*counter >> 16);
    p = p < 16 ? 16 : p > 65520 ? 65520 : p;
    bit = code_bit(c, bit, p);
    *counter = counter_after(*counter, bit, limit);
    return bit;
}

/* log-odds a counter votes with; a fresh one abstains */
static inline int counter_vote(Counter s) {
    return (stretch_table[counter_p(s)] * (int)trust_table[s & 1023]) >> 8;
}

/* The same for many counters at once, in 32 bits: what vectors hold. */
static ALWAYS_INLINE void counters_vote(const Counter *s, int32_t *votes, int n) {
    for (int k = 0; k < n; k++) votes[k] = (stretch_table[s[k] >> 20] * trust_table[s[k] & 1023]) >> 8;
}

static ALWAYS_INLINE void counters_learn(Counter *s, int n, int bit, uint32_t limit) {
    const int32_t target = (bit << 22) - bit;
    for (int k = 0; k < n; k++) { /* (off * rate) >> 16, in two halves */
        const int32_t p = (int32_t)(s[k] >> 10), seen = (int32_t)(s[k] & 1023), off = target - p, rate = rate_table[seen];
        const int32_t by = ((off >> 8) * rate + ((off & 255) * rate >> 8)) >> 8;
        s[k] = (Counter)(p + by) << 10 | (Counter)(seen + (seen < (int32_t)limit));
    }
}

static ALWAYS_INLINE int32_t mix(const int32_t *weights, const int32_t *votes, int n) {
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += (int64_t)weights[i] * votes[i];
    sum >>= 16;
    return (int32_t)(sum < -ST_MAX ? -ST_MAX : sum > ST_MAX ? ST_MAX : sum);
}

static ALWAYS_INLINE void learn(int32_t *weights, const int32_t *votes, int n, int32_t error, int shift) {
    for (int i = 0; i < n; i++) weights[i] += (votes[i] * error + (1 << (shift - 1))) >> shift; /* within 12 + 16 bits */
}

/* Adaptive map from log-odds to probability, in a context: 33 points, linear between them. */
typedef struct {
    uint16_t p[33];
} Apm;

static void apm_start(Apm *a) {
    for (int i = 0; i < 33; i++) a->p[i] = squash_table[i * 256 < 8191 ? i * 256 : 8191];
}

static inline int apm_p(const Apm *a, int32_t d) {
    int x = d + 4096, j = x >> 8, w = x & 255;
    return (a->p[j] * (256 - w) + a->p[j + 1] * w) >> 8;
}

static inline void apm_learn(Apm *a, int32_t d, int bit, int shift) {
    int x = d + 4096, j = (x >> 8) + ((x & 255) >= 128);
    int p = a->p[j];
    a->p[j] = (uint16_t)(p + (((bit ? 65535 : 0) - p) >> shift));
}

#endif
