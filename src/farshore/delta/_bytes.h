/* The model of plain bytes: context mixing with pointers into the history, so that what moved, shifted or changed a
 * little costs next to nothing, and long equal runs are taken at once. docs/formats/patch.md, "Bytes". */
#ifndef FARSHORE_BYTES_H
#define FARSHORE_BYTES_H

#include "_coder.h"

#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define PREFETCH(p) ((void)0)
#endif
#define MOST_CONTEXTS 16
#define FEW_CONTEXTS 8
#define POINTERS 2
#define GUESSES 5
#define ADDRESSES (1 << 12)
#define OTHER_VOTES (GUESSES + 1) /* before the contexts': guesses, and a constant */
#define BYTE_VOTES 24           /* OTHER_VOTES + MOST_CONTEXTS, and zeros to a multiple of what vectors hold */
#define FEW_VOTES 16            /* the same of FEW_CONTEXTS */
#define SHORT_MATCH 5
#define LONG_MATCH 20
#define AHEAD 32                /* known bytes whose places are fetched together */

typedef struct {
    uint32_t check;
    Counter slot[15];
} Bucket;

typedef struct {
    int64_t at;                 /* position that is expected to come next; -1: none */
    int length, misses;         /* equal bytes just before, misses lately */
} Pointer;

typedef struct {
    Coder *c;
    uint8_t *data;
    size_t n;
    int contexts;
    Bucket *buckets, *room;
    uint32_t bucket_mask;
    uint32_t short_hash, long_hash; /* of the last SHORT_MATCH, LONG_MATCH bytes */
    uint32_t *recent, *far;     /* newest position + 1 after a hash of the last SHORT_MATCH / LONG_MATCH bytes */
    uint32_t recent_mask;
    Pointer aligned, newest;
    uint32_t context[MOST_CONTEXTS], word;
    Bucket *bucket[MOST_CONTEXTS];
    int since;                  /* bytes since the last miss of the aligned pointer */
    int run, quiet;             /* next run's exponent; bytes before runs are tried again */
    int32_t by_match[64 * 4][BYTE_VOTES], by_prefix[256][BYTE_VOTES];
    const int64_t *places;      /* (position, address in its file), rising: where each span of the data is from */
    size_t n_places, here;      /* how many; the one that holds the current position */
    size_t first_place;         /* of the target's */
    uint32_t word_guess[3];     /* what the word at hand may be: see words_guess */
    int word_known[3], word_hits[3];
    int64_t address_now;        /* of the byte at hand in its file */
    int64_t last_range;         /* the target's range whose end the last word pointed to; -1: none */
    int64_t last_step;
    struct { int64_t base, target; } address[ADDRESSES];
    Counter hit[GUESSES][64 * 16], runs[32 * 8];
    Apm by_order1[65536 >> 4], by_state[1024];
} Bytes;

static inline uint32_t hash2(uint32_t a, uint32_t b) {
    uint32_t h = a * 0x9E3779B1u ^ (b + 0x7F4A7C15u) * 0x85EBCA6Bu;
    h ^= h >> 15;
    h *= 0xC2B2AE35u;
    return h ^ h >> 13;
}

/* The hash of the last bytes is h = h * HASH_BY + byte + 1 from the newest back. With HASH_BY's inverse it rolls: the oldest
 * byte leaves, the others move down, the new one comes in on top. */
#define HASH_BY 0x2F0B4C47u
#define HASH_TOP_SHORT 0x97131061u /* HASH_BY to the power of SHORT_MATCH - 1, of LONG_MATCH - 1 */
#define HASH_TOP_LONG 0x0EF66497u
#define HASH_INVERSE 0x40489D77u

static uint32_t hash_rolled(uint32_t h, uint32_t oldest, uint32_t newest, uint32_t top) {
    return (h - oldest) * HASH_INVERSE + newest * top;
}

static uint32_t hash_slot(uint32_t h) { return (h ^ h >> 15) * 0x9E3779B1u >> 7; }

static uint32_t power_above(uint64_t n, uint32_t low, uint32_t high) {
    uint32_t x = low;
    while (x < n && x < high) x <<= 1;
    return x;
}

static int bytes_start(Bytes *b, Coder *c, uint8_t *data, const int64_t *places, size_t n_places, size_t trained,
                       size_t history, size_t n, int level) {
    b->c = c;
    b->data = data;
    b->n = n;
    b->contexts = level ? MOST_CONTEXTS : FEW_CONTEXTS;
    uint32_t buckets = power_above((uint64_t)(n - trained) * 2 * b->contexts, 1 << 10, level ? 1 << 18 : 1 << 16);
    uint32_t recent = power_above(n, 1 << 10, 1 << 20);
    b->bucket_mask = buckets - 1;
    b->recent_mask = recent - 1;
    b->room = calloc(buckets + 1, sizeof(Bucket)); /* bucket_of fills those that are used */
    b->buckets = (Bucket *)(((uintptr_t)b->room + 63) & ~(uintptr_t)63); /* a bucket is a line of the cache */
    b->recent = calloc(recent, sizeof(uint32_t));
    b->far = calloc(recent, sizeof(uint32_t));
    if (!b->room || !b->recent || !b->far) return 0;
    for (int i = 0; i < 256; i++)
        for (int k = 0; k < BYTE_VOTES; k++)
            b->by_match[i][k] = b->by_prefix[i][k] = k < GUESSES ? 16000 : k < OTHER_VOTES ? 0 : 9000;
    for (int i = 0; i < GUESSES; i++)
        for (int k = 0; k < 64 * 16; k++) b->hit[i][k] = (Counter)(3u << 30);
    for (int i = 0; i < 256; i++) b->runs[i] = COUNTER_START;
    apm_start(&b->by_order1[0]);
    for (int i = 1; i < 65536 >> 4; i++) b->by_order1[i] = b->by_order1[0];
    for (int i = 0; i < 1024; i++) b->by_state[i] = b->by_order1[0];
    b->aligned.at = b->newest.at = -1;
    b->run = 5;
    b->places = places;
    b->n_places = n_places;
    b->first_place = 0;
    while (b->first_place < n_places && (size_t)places[2 * b->first_place] < history) b->first_place++;
    b->last_range = -1;
    b->last_step = -1;
    for (int i = 0; i < ADDRESSES; i++) b->address[i].base = INT64_MIN;
    return 1;
}

static void bytes_end(Bytes *b) {
    free(b->room);
    free(b->recent);
    free(b->far);
}

static void contexts_set(Bytes *b, size_t pos, const uint32_t *guess) {
    const uint8_t *d = b->data;
#define BACK(k) ((uint32_t)(pos >= (k) ? d[pos - (k)] : 0))
    uint32_t c1 = BACK(1), c2 = BACK(2), c3 = BACK(3), c4 = BACK(4), c5 = BACK(5), c6 = BACK(6), c8 = BACK(8), c12 = BACK(12), c16 = BACK(16);
#undef BACK
    int64_t at = b->aligned.at;
    uint32_t pb = at >= 0 ? d[at] : 256, after = at >= 0 && (size_t)at + 1 < pos ? d[at + 1] : 256, before = at > 0 ? d[at - 1] : 256;
    uint32_t nb = b->newest.at >= 0 ? d[b->newest.at] : 256;
    uint32_t shift1 = at > 0 ? (c1 - before) & 255 : 0, carry = at > 0 && c1 < before;
    uint32_t length = (uint32_t)(b->aligned.length > 15 ? 15 : b->aligned.length);
    uint32_t since = (uint32_t)(b->since > 8 ? 8 : b->since);
    uint32_t o4 = c1 | c2 << 8 | c3 << 16 | c4 << 24;
    uint32_t *x = b->context;
    x[0] = c1;
    x[1] = c1 | c2 << 8;
    x[2] = o4 & 0xffffff;
    x[3] = o4;
    x[4] = hash2(o4, c5 | c6 << 8);
    x[5] = hash2(pb | length << 9, c1);
    x[6] = hash2(pb | shift1 << 9 | carry << 17, since);
    x[7] = hash2(guess[2] | guess[3] << 9 | (uint32_t)(b->address_now & 3) << 18, pb | guess[4] << 9);
    x[8] = c4 | c8 << 8 | (uint32_t)(b->address_now & 3) << 16;
    x[9] = c4 | c1 << 8;
    x[10] = hash2(b->word, c1);
    x[11] = hash2(pb | after << 9, before);
    x[12] = hash2(c8 | c16 << 8, c12);
    x[13] = hash2(pb | nb << 9, since);
    x[14] = hash2(c2 | c3 << 8, 0x55);
    x[15] = 0;
    for (int k = 0; k < b->contexts; k++) x[k] = hash2(x[k], (uint32_t)k + 1);
}

/* The bucket of a context and the half byte before: found, or taken from the lesser of two. */
static Bucket *bucket_of(Bytes *b, uint32_t h) {
    uint32_t i = h & b->bucket_mask;
    Bucket *one = &b->buckets[i], *two = &b->buckets[i ^ 1];
    if (one->check != h) {
        const int other = two->check == h || (two->slot[0] & 1023) < (one->slot[0] & 1023);
        if (other) one = two;
    }
    if (one->check == h && one->slot[0]) return one; /* a counter that was used is never 0 */
    one->check = h;
    for (int k = 0; k < 15; k++) one->slot[k] = COUNTER_START;
    return one;
}

/* A guessed byte's vote on the next bit, if it agrees with the bits known. */
static int guess_vote(Counter *hit, uint32_t byte, uint32_t prefix, int left, int *expected) {
    *expected = -1;
    if (byte > 255 || (byte | 256) >> (left + 1) != prefix) return 0;
    *expected = (int)(byte >> left & 1);
    int v = stretch_table[*hit >> 20];
    return *expected ? v : -v;
}

static uint32_t word_at(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

/* The span that holds a position. */
static size_t place_of(const Bytes *b, size_t pos) {
    size_t low = 0, high = b->n_places;
    while (high - low > 1) {
        size_t middle = (low + high) >> 1;
        if ((size_t)b->places[2 * middle] <= pos)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int64_t address_in(const Bytes *b, size_t place, size_t pos) {
    return b->places[2 * place + 1] + (int64_t)(pos - (size_t)b->places[2 * place]);
}

static int64_t range_end(const Bytes *b, size_t place) { /* address behind a span */
    size_t next = place + 1 < b->n_places ? (size_t)b->places[2 * (place + 1)] : b->n;
    return address_in(b, place, next);
}

static size_t address_slot(int64_t base) { return hash2((uint32_t)base, (uint32_t)(base >> 32)) & (ADDRESSES - 1); }

/* Four-byte numbers that point at something: what the next one would be if it
 *  0  differed from the base's as the one before did (all offsets moved by the same);
 *  1  pointed back at what the target has in place of what the base's points back at (a table's vtable);
 *  2  pointed just before the end of the range after (or before) the one that the last word pointed at (buffers in a row). */
static void words_guess(Bytes *b, size_t pos, int64_t address) {
    const uint8_t *d = b->data;
    size_t at = (size_t)b->aligned.at;
    for (int k = 0; k < 3; k++) b->word_known[k] = 0;
    if (b->aligned.at >= 0 && at + 4 <= pos) {
        uint32_t there = word_at(d + at);
        if (at >= 4 && pos >= 4) {
            uint32_t shift = word_at(d + pos - 4) - word_at(d + at - 4);
            b->word_guess[0] = there + shift;
            b->word_known[0] = shift != 0;
        }
        int64_t base = address_in(b, place_of(b, at), at) - (int32_t)there;
        size_t slot = address_slot(base);
        if (b->address[slot].base == base) {
            b->word_guess[1] = (uint32_t)(address - b->address[slot].target);
            b->word_known[1] = 1;
        }
    }
    if (pos < 4 || b->first_place >= b->n_places) return;
    int64_t pointed = address - 4 + word_at(d + pos - 4);
    size_t low = b->first_place, high = b->n_places; /* the first range that ends at or after it */
    while (low < high) {
        size_t middle = (low + high) >> 1;
        if (range_end(b, middle) >= pointed)
            high = middle;
        else
            low = middle + 1;
    }
    int64_t range = low < b->n_places && range_end(b, low) - pointed < 256 && pointed > address ? (int64_t)low : -1;
    if (range >= 0) {
        int64_t step = b->last_range < 0 ? b->last_step : range - b->last_range;
        int64_t next = range + step;
        b->last_step = step;
        if (next >= (int64_t)b->first_place && next < (int64_t)b->n_places) {
            b->word_guess[2] = (uint32_t)(range_end(b, (size_t)next) - (range_end(b, (size_t)range) - pointed) - address);
            b->word_known[2] = 1;
        }
    }
    b->last_range = range;
}

/* At the end of a word: what it pointed back at, in the base and here; which guesses were right. */
static void words_learn(Bytes *b, size_t pos, int64_t address) {
    uint32_t word = word_at(b->data + pos);
    for (int k = 0; k < 3; k++)
        if (b->word_known[k]) b->word_hits[k] = b->word_guess[k] == word ? (b->word_hits[k] < 7 ? b->word_hits[k] + 1 : 7) : b->word_hits[k] >> 1;
    size_t at = (size_t)b->aligned.at;
    if (b->aligned.at < 4 || at > pos + 4) return;
    int64_t base = address_in(b, place_of(b, at - 4), at - 4) - (int32_t)word_at(b->data + at - 4);
    size_t slot = address_slot(base);
    b->address[slot].base = base;
    b->address[slot].target = address - (int32_t)word;
}

static int match_class(const Pointer *p) {
    return p->length < 16 ? p->length : p->length < 32 ? 16 : p->length < 64 ? 17 : p->length < 512 ? 18 : 19;
}

static ALWAYS_INLINE int code_byte_of(Bytes *b, size_t pos, int known, const int contexts, const int n_votes) {
    int32_t votes[BYTE_VOTES] = {0};
    Counter now[MOST_CONTEXTS];
    uint32_t prefix = 1, value = known ? b->data[pos] : 0, c1 = pos ? b->data[pos - 1] : 0;
    if (b->c && !b->c->decode) value = b->data[pos];
    size_t phase = (size_t)b->address_now & 3;
    if (!phase) words_guess(b, pos, b->address_now);
    uint32_t guess[GUESSES] = {256, 256, 256, 256, 256};
    Counter *base[GUESSES];
    for (int k = 0; k < 3; k++) {
        base[POINTERS + k] = &b->hit[POINTERS + k][(phase * 8 + (size_t)b->word_hits[k]) * 16 + (b->since > 15 ? 15 : b->since)];
        int right = b->word_known[k]; /* as far as the word is known */
        for (size_t j = 0; right && j < phase; j++) right = b->data[pos - phase + j] == (b->word_guess[k] >> (8 * j) & 255);
        if (right) guess[POINTERS + k] = b->word_guess[k] >> (8 * phase) & 255;
    }
    for (int k = 0; k < POINTERS; k++) {
        const Pointer *p = k ? &b->newest : &b->aligned;
        if (p->at >= 0) guess[k] = b->data[p->at];
        base[k] = &b->hit[k][match_class(p) * 32 + (p->misses > 15 ? 15 : p->misses)];
    }
    contexts_set(b, pos, guess);
    int state = b->aligned.at < 0 ? 0 : 1 + (b->aligned.length > 14 ? b->aligned.length > 30 ? 16 : 15 : b->aligned.length);
    for (int left = 7; left >= 0; left--) {
        uint32_t nibble = left > 3 ? prefix : (prefix & ((1u << (3 - left)) - 1)) | 1u << (3 - left);
        if (left == 7 || left == 3) {
            uint32_t hash[MOST_CONTEXTS];
            for (int k = 0; k < contexts; k++) {
                hash[k] = left == 7 ? b->context[k] : hash2(b->context[k], prefix);
                PREFETCH(&b->buckets[hash[k] & b->bucket_mask]);
            }
            for (int k = 0; k < contexts; k++) b->bucket[k] = bucket_of(b, hash[k]);
        }
        for (int k = 0; k < contexts; k++) now[k] = b->bucket[k]->slot[nibble - 1];
        counters_vote(now, votes + OTHER_VOTES, contexts);
        int expected[GUESSES];
        for (int k = 0; k < GUESSES; k++) votes[k] = guess_vote(base[k] + (left < 7 && k < POINTERS ? 16 : 0), guess[k], prefix, left, &expected[k]);
        votes[GUESSES] = 256;
        int agree = expected[0] < 0 ? 0 : expected[1] < 0 ? 1 : expected[0] == expected[1] ? 2 : 3;
        int32_t *w0 = b->by_match[(expected[0] < 0 ? 0 : state) * 4 + agree], *w1 = b->by_prefix[prefix];
        int d0 = mix(w0, votes, n_votes), d1 = mix(w1, votes, n_votes), d = (d0 + d1) >> 1;
        int p0 = squash_table[d0 + 4096], p1 = squash_table[d1 + 4096], pd = squash_table[d + 4096];
        Apm *a0 = &b->by_order1[hash2(c1 << 8 | prefix, 7) & 0xfff];
        Apm *a1 = &b->by_state[(expected[0] < 0 ? 0 : state * 2 + expected[0]) * 16 + (b->since > 15 ? 15 : b->since)];
        int p = (2 * pd + apm_p(a0, d) + apm_p(a1, d) + 2) >> 2;
        p = p < 4 ? 4 : p > 65532 ? 65532 : p;
        int bit = (int)(value >> left & 1);
        if (!known) bit = code_bit(b->c, bit, (uint32_t)p);
        learn(w0, votes, n_votes, (bit << 16) - bit - p0, 15);
        learn(w1, votes, n_votes, (bit << 16) - bit - p1, 15);
        apm_learn(a0, d, bit, 5);
        apm_learn(a1, d, bit, 5);
        counters_learn(now, contexts, bit, 60);
        for (int k = 0; k < contexts; k++) b->bucket[k]->slot[nibble - 1] = now[k];
        for (int k = 0; k < GUESSES; k++) {
            Counter *hit = base[k] + (left < 7 && k < POINTERS ? 16 : 0);
            if (expected[k] >= 0) *hit = counter_after(*hit, bit == expected[k], 1000);
        }
        prefix = prefix << 1 | (uint32_t)bit;
    }
    return (int)(prefix & 255);
}

WIDE static int code_byte_full(Bytes *b, size_t pos, int known) {
    return code_byte_of(b, pos, known, MOST_CONTEXTS, BYTE_VOTES);
}

WIDE static int code_byte_few(Bytes *b, size_t pos, int known) {
    return code_byte_of(b, pos, known, FEW_CONTEXTS, FEW_VOTES);
}

static int code_byte(Bytes *b, size_t pos, int known) {
    return b->contexts == MOST_CONTEXTS ? code_byte_full(b, pos, known) : code_byte_few(b, pos, known);
}

static int run_back(const Bytes *b, size_t one, size_t two, int most) { /* equal bytes before both */
    int k = 0;
    while (k < most && (size_t)k < one && b->data[one - 1 - (size_t)k] == b->data[two - 1 - (size_t)k]) k++;
    return k;
}

/* Keeps the address of the byte at hand. */
static void place_move(Bytes *b, size_t pos) {
    while (b->here + 1 < b->n_places && (size_t)b->places[2 * (b->here + 1)] <= pos) b->here++;
    b->address_now = address_in(b, b->here, pos);
}

/* After data[pos] is known: where the places of the last bytes' hashes are kept. */
static void slots_of(Bytes *b, size_t pos, uint32_t *slot) {
    const uint8_t *d = b->data; /* before there are enough bytes, none leave */
    b->short_hash = hash_rolled(b->short_hash, pos < SHORT_MATCH ? 0 : d[pos - SHORT_MATCH] + 1u, d[pos] + 1u, HASH_TOP_SHORT);
    b->long_hash = hash_rolled(b->long_hash, pos < LONG_MATCH ? 0 : d[pos - LONG_MATCH] + 1u, d[pos] + 1u, HASH_TOP_LONG);
    slot[0] = hash_slot(b->short_hash) & b->recent_mask;
    slot[1] = hash_slot(b->long_hash) & b->recent_mask;
}

/* Moves the pointers, indexes the place, finds new ones. */
static void pointers_move(Bytes *b, size_t pos, const uint32_t *slot) {
    const uint8_t *d = b->data;
    uint8_t byte = d[pos];
    for (int k = 0; k < POINTERS; k++) {
        Pointer *p = k ? &b->newest : &b->aligned;
        if (p->at < 0) continue;
        if (d[p->at] == byte) {
            p->length = p->length < 65535 ? p->length + 1 : p->length;
            if (p->misses && !(p->length & 15)) p->misses--;
        } else {
            if (!k) b->since = 0;
            p->length = 0;
            p->misses++;
        }
        p->at++;
        if (p->misses > (k ? 0 : 8)) p->at = -1, p->misses = p->length = 0;
    }
    if (b->since < 255) b->since++;
    if ((b->address_now & 3) == 3 && pos >= 3) words_learn(b, pos - 3, b->address_now - 3);
    place_move(b, pos + 1);
    b->word = (byte | 32) >= 'a' && (byte | 32) <= 'z' ? hash2(b->word, byte) : byte >= '0' && byte <= '9' ? b->word : 0;
    size_t end = pos + 1;
    if (end < SHORT_MATCH) return;
    uint32_t *recent = &b->recent[slot[0]];
    size_t found = *recent;
    *recent = (uint32_t)end;
    if (b->newest.at < 0 && found) {
        int length = run_back(b, found, end, 32);
        if (length >= SHORT_MATCH) b->newest = (Pointer){(int64_t)found, length, 0};
    }
    if (end >= LONG_MATCH) {
        uint32_t *far = &b->far[slot[1]];
        size_t candidate = *far;
        *far = (uint32_t)end;
        if (candidate) found = candidate;
    }
    if (found && (b->aligned.at < 0 || (b->aligned.length < 16 && b->aligned.misses > 0))) {
        int length = run_back(b, found, end, 32);
        if (length >= SHORT_MATCH + 1 && (b->aligned.at < 0 || length > b->aligned.length))
            b->aligned = (Pointer){(int64_t)found, length, 0};
    }
}

/* Moves over bytes that are all known. */
static void pointers_pass(Bytes *b, size_t pos, size_t count) {
    uint32_t slot[AHEAD][2];
    while (count) {
        size_t n = count < AHEAD ? count : AHEAD;
        for (size_t k = 0; k < n; k++) {
            slots_of(b, pos + k, slot[k]);
            PREFETCH(&b->recent[slot[k][0]]);
            PREFETCH(&b->far[slot[k][1]]);
        }
        for (size_t k = 0; k < n; k++) pointers_move(b, pos + k, slot[k]);
        pos += n;
        count -= n;
    }
}

static int run_class(int length) {
    return length < 24 ? 0 : length < 32 ? 1 : length < 48 ? 2 : length < 64 ? 3 : length < 128 ? 4 : length < 400 ? 5 : length < 2000 ? 6 : 7;
}

/* Takes a run of equal bytes at once if there is one. Returns how many were taken. */
static size_t code_run(Bytes *b, size_t pos) {
    if (b->quiet) {
        b->quiet--;
        return 0;
    }
    while (b->aligned.at >= 0 && b->aligned.length >= 16 && b->run >= 4) {
        size_t length = (size_t)1 << b->run, at = (size_t)b->aligned.at;
        if (pos + length > b->n) {
            b->run--;
            continue;
        }
        int bit = !b->c->decode && !memcmp(b->data + at, b->data + pos, length > pos - at ? pos - at : length);
        if (bit && length > pos - at)
            for (size_t k = pos - at; k < length && bit; k++) bit = b->data[at + k] == b->data[pos + k];
        Counter *counter = &b->runs[b->run * 8 + run_class(b->aligned.length)];
        uint32_t p = (*counter >> 16) < 16 ? 16 : (*counter >> 16) > 65520 ? 65520 : *counter >> 16;
        bit = code_bit(b->c, bit, p);
        *counter = counter_after(*counter, bit, 250);
        if (bit) {
            for (size_t k = 0; k < length; k++) b->data[pos + k] = b->data[at + k];
            if (b->run < 16) b->run++;
            return length;
        }
        b->run--;
    }
    if (b->run < 4) b->quiet = 15;
    b->run = 5;
    return 0;
}

/* Codes data[history..n) after data[0..history), of which the last n_trained bytes teach the model first. */
static int code_bytes(Coder *c, uint8_t *data, const int64_t *places, size_t n_places, size_t history, size_t trained, size_t n, int level) {
    Bytes *b = calloc(1, sizeof *b);
    if (!b) return 0;
    int fine = bytes_start(b, c, data, places, n_places, history - trained, history, n, level);
    if (fine) place_move(b, 0);
    if (fine) pointers_pass(b, 0, history - trained);
    for (size_t pos = history - trained; fine && pos < history; pos++) {
        code_byte(b, pos, 1);
        pointers_pass(b, pos, 1);
    }
    place_move(b, history);
    b->aligned = history ? (Pointer){0, 0, 0} : (Pointer){-1, 0, 0};
    b->newest = (Pointer){-1, 0, 0};
    for (size_t pos = history; fine && pos < n && !c->failed;) {
        size_t taken = code_run(b, pos);
        if (!taken) {
            data[pos] = (uint8_t)code_byte(b, pos, 0);
            taken = 1;
        }
        pointers_pass(b, pos, taken);
        pos += taken;
    }
    bytes_end(b);
    free(b);
    return fine;
}

#endif
