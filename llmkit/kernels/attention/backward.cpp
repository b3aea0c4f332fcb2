// Causal attention of whole sequences in bfloat16, backward; the formula is in reference.py.
//
// A thread takes a head of keys and values with all heads of queries that read it, so that no two
// threads add to one gradient and the result does not depend on how many there are. It goes
// through blocks of keys and of queries. Of each it makes the weights again from the saved sums,
// keeps them and the gradient of the scores in bfloat16, and adds three products to the gradients.
#include "attention.h"

namespace llmkit {

constexpr int64_t BLOCK = 64, STRIP = 12;

struct Scratch {
    Pair *keys_turned, *values_turned, *keys;              // of a head of keys
    Pair *queries, *grads;                                 // of a head of queries
    float *grad_query, *grad_key, *grad_value, *deltas;    // sums
    float *scores, *grad_weights;                          // of six queries and a block of keys
    Pair *weights, *grad_scores;                           // of a block of both, in rows of pairs
    bf16* grad_scores_in_rows;                             // the same once more
};

// delta_i = sum over d of out_i grad_i, which is sum over j of p_ij dp_ij.
inline void find_deltas(Rows out, Rows grad, int64_t length, int64_t width, float* deltas) {
    for (int64_t i = 0; i < length; ++i) {
        __m512 total = all(0.0f);
        for (int64_t d = 0; d < width; d += LANES)
            total = _mm512_fmadd_ps(load(out.at + i * out.step + d),
                                    load(grad.at + i * grad.step + d), total);
        deltas[i] = sum(total);
    }
}

struct Row {
    const float *scores, *grad_weights;
    int64_t seen;  // keys of this block that the row sees; 0 for a row beyond the last
    float lse, delta;
};

// Weights and gradients of the scores of two rows of queries, in 16 columns from j on.
inline void soften(const Row (&rows)[2], int64_t j, float scale, float outer, Pair* weights,
                   Pair* grad_scores, bf16* const (&in_rows)[2]) {
    __m256i p_pair[2], ds_pair[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        const Row& row = rows[i];
        const __mmask16 mask = row.seen > j ? first(row.seen - j) : 0;
        const __m512 x = _mm512_fmsub_ps(load(row.scores + j, mask), all(scale), all(row.lse));
        const __m512 p = _mm512_maskz_mov_ps(mask, exp2(x));
        const __m512 dp = _mm512_sub_ps(load(row.grad_weights + j, mask), all(row.delta));
        p_pair[i] = rounded(p);
        ds_pair[i] = rounded(_mm512_mul_ps(_mm512_mul_ps(p, all(outer)), dp));
        _mm256_storeu_si256((__m256i*)(in_rows[i] + j), ds_pair[i]);
    }
    _mm512_storeu_si512(weights + j, paired(p_pair[0], p_pair[1]));
    _mm512_storeu_si512(grad_scores + j, paired(ds_pair[0], ds_pair[1]));
}

struct Blocks {  // where a block of queries and a block of keys begin, and how long they are
    int64_t query, key, queries, keys, columns;
};

struct Saved {
    Rows q, grad;
    const float* lse;
    float scale, outer;  // of scores to units of log 2; of gradients of the scores
};

inline void make_weights(const Scratch& s, const Saved& saved, const Sizes& size, Blocks b) {
    for (int64_t i = 0; i < up(b.queries, 2); i += 6) {
        const int64_t rows = b.queries - i < 6 ? b.queries - i : 6, start = b.query + i;
        const int64_t last = start + rows - b.key;  // columns from here on are not seen
        const int64_t columns = last < b.columns ? up(last, LANES) : b.columns;
        product(rows, columns / LANES, left(saved.q, start),
                {s.keys_turned + b.key, size.padded()}, size.width / 2, {s.scores, BLOCK}, false);
        product(rows, columns / LANES, left(saved.grad, start),
                {s.values_turned + b.key, size.padded()}, size.width / 2,
                {s.grad_weights, BLOCK}, false);
        for (int64_t m = 0; m < rows; m += 2) {
            Row two[2];
            for (int64_t n = 0; n < 2; ++n) {
                const int64_t at = start + m + n;
                const bool there = m + n < rows;
                const int64_t seen = at - b.key + 1 < b.keys ? at - b.key + 1 : b.keys;
                two[n] = {s.scores + (m + n) * BLOCK, s.grad_weights + (m + n) * BLOCK,
                          there ? seen : 0, there ? saved.lse[at] : 0.0f,
                          there ? s.deltas[at] : 0.0f};
            }
            const int64_t pair = (i + m) / 2 * BLOCK;
            bf16* const in_rows[2] = {s.grad_scores_in_rows + (i + m) * BLOCK,
                                      s.grad_scores_in_rows + (i + m + 1) * BLOCK};
            for (int64_t j = 0; j < b.columns; j += LANES)
                soften(two, j, saved.scale, saved.outer, s.weights + pair,
                       s.grad_scores + pair, in_rows);
        }
    }
}

inline Left turned(const Pair* x) {
    return {reinterpret_cast<const char*>(x), sizeof(Pair), BLOCK * sizeof(Pair)};
}

// On the diagonal a strip of queries sees the keys up to its own, and one of keys is seen from its
// own on; elsewhere a block is one strip.
inline void add_products(const Scratch& s, const Sizes& size, Blocks b) {
    const int64_t width = size.width, vectors = width / LANES;
    const bool diagonal = b.query == b.key;
    const int64_t strip = diagonal ? STRIP : BLOCK, query_pairs = up(b.queries, 2) / 2;
    for (int64_t i = 0; i < b.queries; i += strip) {
        const int64_t rows = b.queries - i < strip ? b.queries - i : strip;
        const int64_t pairs = diagonal ? up(i + rows, 2) / 2 : b.columns / 2;
        product(rows, vectors, left({s.grad_scores_in_rows, BLOCK}, i),
                {s.keys + b.key / 2 * width, width}, pairs,
                {s.grad_query + (b.query + i) * width, width}, true);
    }
    for (int64_t j = 0; j < b.keys; j += strip) {
        const int64_t rows = b.keys - j < strip ? b.keys - j : strip;
        const int64_t from = diagonal ? j / 2 : 0, row = b.query / 2 + from;
        const int64_t at = from * BLOCK + j, to = (b.key + j) * width;
        product(rows, vectors, turned(s.weights + at), {s.grads + row * width, width},
                query_pairs - from, {s.grad_value + to, width}, true);
        product(rows, vectors, turned(s.grad_scores + at), {s.queries + row * width, width},
                query_pairs - from, {s.grad_key + to, width}, true);
    }
}

inline void write(const float* from, int64_t length, int64_t width, Rows to) {
    for (int64_t t = 0; t < length; ++t)
        for (int64_t d = 0; d < width; d += LANES)
            store(const_cast<bf16*>(to.at) + t * to.step + d, load(from + t * width + d));
}

inline void clear(float* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) from[i] = 0.0f;
}

inline void of_queries(const Views& views, const Sizes& size, Head at, const Saved& saved,
                       const Scratch& s) {
    const int64_t length = size.length, width = size.width;
    const Rows out = views.out.rows(at.batch, at.head);
    for (const Rows& x : {saved.q, saved.grad, out}) fetch(x, length, width);
    pack(saved.q, length, width, size.padded(), s.queries);
    pack(saved.grad, length, width, size.padded(), s.grads);
    find_deltas(out, saved.grad, length, width, s.deltas);
    clear(s.grad_query, length * width);
    for (int64_t key = 0; key < length; key += BLOCK) {
        const int64_t keys = length - key < BLOCK ? length - key : BLOCK;
        for (int64_t query = key; query < length; query += BLOCK) {
            const int64_t queries = length - query < BLOCK ? length - query : BLOCK;
            const Blocks b = {query, key, queries, keys, up(keys, LANES)};
            make_weights(s, saved, size, b);
            add_products(s, size, b);
        }
    }
    write(s.grad_query, length, width, views.grad_query.rows(at.batch, at.head));
}

inline void of_keys(const Views& views, const Sizes& size, int64_t number, float scale,
                    float outer, const float* lse, const Scratch& s) {
    const int64_t length = size.length, width = size.width, padded = size.padded();
    const int64_t batch = number / size.kv_heads, kv_head = number % size.kv_heads;
    const Rows key = views.key.rows(batch, kv_head), value = views.value.rows(batch, kv_head);
    for (const Rows& x : {key, value}) fetch(x, length, width);
    pack_turned(key, length, width, padded, s.keys_turned);
    pack_turned(value, length, width, padded, s.values_turned);
    pack(key, length, width, padded, s.keys);
    clear(s.grad_key, length * width);
    clear(s.grad_value, length * width);
    for (int64_t i = 0; i < size.group(); ++i) {
        const Head at = {batch, kv_head * size.group() + i, kv_head};
        const Saved saved = {views.query.rows(batch, at.head), views.grad_out.rows(batch, at.head),
                             lse + (batch * size.heads + at.head) * length, scale, outer};
        of_queries(views, size, at, saved, s);
    }
    write(s.grad_key, length, width, views.grad_key.rows(batch, kv_head));
    write(s.grad_value, length, width, views.grad_value.rows(batch, kv_head));
}

}  // namespace llmkit

using namespace llmkit;

// `scale` turns scores into units of log 2, `outer` is the factor of the scores itself. Returns 1
// without memory.
extern "C" int attention_backward(const Views* views, const Sizes* size, float scale, float outer,
                                  const float* lse, int threads) {
    const int64_t block = size->padded() * size->width;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Memory memory;
        Scratch s;
        for (Pair** pairs : {&s.keys_turned, &s.values_turned, &s.keys, &s.queries, &s.grads})
            *pairs = memory.take<Pair>(block / 2);
        for (float** sums : {&s.grad_query, &s.grad_key, &s.grad_value})
            *sums = memory.take<float>(block);
        s.deltas = memory.take<float>(size->padded());
        s.scores = memory.take<float>(6 * BLOCK);
        s.grad_weights = memory.take<float>(6 * BLOCK);
        s.weights = memory.take<Pair>(BLOCK / 2 * BLOCK);
        s.grad_scores = memory.take<Pair>(BLOCK / 2 * BLOCK);
        s.grad_scores_in_rows = memory.take<bf16>(BLOCK * BLOCK);
        failed = !memory.whole;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < size->batch * size->kv_heads; ++i)
            if (!failed) of_keys(*views, *size, i, scale, outer, lse, s);
    }
    return failed;
}
