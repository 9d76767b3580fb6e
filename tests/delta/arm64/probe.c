/* Codes made-up matrices of every kind and made-up bytes, decodes them again, decodes noise, prints a hash of
 * it all: the same on every machine, or the kernel is not fit to be shipped. No libm, no data files: only the kernel's own arithmetic. */
#include <stdio.h>

#include "_bytes.h"
#include "_quick.h"
#include "_values.h"

static uint64_t seed = 88172645463325252ull;

static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static double bell(void) { /* about normal */
    double sum = -6.0;
    for (int i = 0; i < 12; i++) sum = sum + (double)(next() >> 11) / 9007199254740992.0;
    return sum;
}

static void code(Coder *c, Model *m, Bins *b, Memory *memory, const Spec *s, uint64_t *u, const double *a) {
    if (s->detail)
        code_matrix(c, m, memory, s, u, a);
    else
        code_quick(c, b, s, u, a);
}

int main(void) {
    make_tables();
    make_quantiles();
    static const Spec kinds[] = {
        {.kind = KIND_FLOAT, .bits = 32, .mantissa = 23, .bias = 127}, {.kind = KIND_FLOAT, .bits = 16, .mantissa = 10, .bias = 15},
        {.kind = KIND_FLOAT, .bits = 16, .mantissa = 7, .bias = 127}, {.kind = KIND_FLOAT, .bits = 64, .mantissa = 52, .bias = 1023},
        {.kind = KIND_INT, .bits = 8, .zero = 128}, {.kind = KIND_INT, .bits = 32, .zero = 2147483648.0},
        {.kind = KIND_FLOAT, .bits = 19, .mantissa = 23, .bias = 127, .shift = 13},
    };
    enum { ROWS = 16, COLS = 60, COUNT = ROWS * COLS, KINDS = sizeof kinds / sizeof *kinds, TEXT = 6000 };
    enum { WAYS = 4, ALL = WAYS * KINDS }; /* few distributions, all, the quick model, that with all flags */
    static const int flags[] = {1, 47, 1, 31}, joints[] = {1, 3, 1, 1}, detail[] = {1, 2, 0, 0};
    static uint64_t value[ALL][COUNT], found[COUNT];
    static double base[ALL][COUNT];
    static uint8_t text[TEXT], read[TEXT];
    static Model models[WAYS];
    static Bins bins;
    static Memory memory;
    Spec spec[ALL];
    for (int k = 0; k < ALL; k++) {
        spec[k] = kinds[k / WAYS];
        spec[k].rows = ROWS;
        spec[k].cols = COLS;
        spec[k].period = 3;
        spec[k].flags = flags[k % WAYS];
        if (k % WAYS == 1) spec[k].own = 5;
        if (k > WAYS && k % WAYS == 1) spec[k].kin[0] = (Kin){1, 1, 0, 4}, spec[k].kin[1] = (Kin){1, 0, 4, 6};
        spec[k].joints = joints[k % WAYS];
        spec[k].detail = spec[k].bits > 33 && !detail[k % WAYS] ? 1 : detail[k % WAYS];
        spec[k].scale = spec[k].kind == KIND_INT ? 2.0 : 0.0078125;
        spec[k].size = spec[k].kind == KIND_INT ? 16.0 : 0.5;
        spec[k].prior = 0.25;
        for (int i = 0; i < COUNT; i++) {
            base[k][i] = bell() * spec[k].size;
            double x = i % 11 ? base[k][i] + bell() * spec[k].scale : 0.0;
            value[k][i] = index_of(&spec[k], x);
        }
    }
    for (int i = 0; i < TEXT; i++) text[i] = i > 100 && next() % 29 ? text[i - 97] : (uint8_t)next();
    const int64_t places[] = {0, 0, 1500, 9000, 2000, 100};
    Coder out = {0};
    coder_start(&out);
    for (int m = 0; m < WAYS; m++) model_start(&models[m]);
    bins_start(&bins);
    for (int k = 0; k < ALL; k++) {
        memcpy(found, value[k], sizeof found);
        code(&out, &models[k % WAYS], &bins, &memory, &spec[k], found, base[k]);
    }
    for (int level = 0; level < 2; level++) code_bytes(&out, text, places, 3, 2000, 1000, TEXT, level);
    coder_finish(&out);
    uint64_t hash = 1469598103934665603ull;
    for (size_t i = 0; i < out.at; i++) hash = (hash ^ out.out[i]) * 1099511628211ull;
    Coder in = {.decode = 1, .in = out.out, .size = out.at};
    coder_start(&in);
    memory_drop(&memory, memory.count);
    for (int m = 0; m < WAYS; m++) model_start(&models[m]);
    bins_start(&bins);
    int wrong = 0;
    for (int k = 0; k < ALL; k++) {
        memset(found, 0, sizeof found);
        code(&in, &models[k % WAYS], &bins, &memory, &spec[k], found, base[k]);
        wrong += memcmp(found, value[k], sizeof found) != 0;
    }
    for (int level = 0; level < 2; level++) {
        memset(read, 0, sizeof read);
        memcpy(read, text, 2000);
        code_bytes(&in, read, places, 3, 2000, 1000, TEXT, level);
        wrong += memcmp(read, text, sizeof text) != 0;
    }
    for (int round = 0; round < 60; round++) { /* any stream decodes to something, nowhere else */
        uint8_t noise[64];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = round & 1 ? (uint8_t)next() : (uint8_t)(next() % 3 * 127);
        Coder any = {.decode = 1, .in = noise, .size = (size_t)round};
        coder_start(&any);
        int k = round % ALL;
        code(&any, &models[k % WAYS], &bins, &memory, &spec[k], found, base[k]);
        memcpy(read, text, 2000);
        code_bytes(&any, read, places, 3, 2000, 500, TEXT, round & 1);
        for (int i = 0; i < COUNT; i++) hash = (hash ^ found[i]) * 1099511628211ull;
        for (int i = 0; i < TEXT; i++) hash = (hash ^ read[i]) * 1099511628211ull;
    }
    free(out.out);
    memory_drop(&memory, memory.count);
    printf("%zu bytes %016llx wrong %d\n", out.at, (unsigned long long)hash, wrong);
    return wrong;
}
