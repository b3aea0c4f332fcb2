// Causal attention of whole sequences in bfloat16, forward; the formula is in reference.py.
//
// A thread takes a head. It packs K and V once, and goes through the queries a few rows at a time:
// all scores of these rows that causality allows, their soft-max at once (no running maximum is
// needed, as the rows are whole), and the product with V. Nothing of size T x T is ever there.
#include "attention.h"

namespace llmkit {

constexpr int64_t ROWS = 24;  // queries at once; four tiles of six

struct Soft {  // of one row: the largest score in units of log 2, and the sum of the weights
    float largest, sum;
};

inline __m512 or_least(Whole, __m512 x) { return x; }
inline __m512 or_least(__mmask16 mask, __m512 x) {
    return _mm512_mask_mov_ps(all(-INFINITY), mask, x);
}

// Writes 2^(scaled scores - the largest) in bfloat16, and zero from `seen` to `columns`.
inline Soft soften(const float* scores, int64_t seen, int64_t columns, float scale, bf16* to) {
    __m512 top = all(-INFINITY);
    by_lanes(seen, [&](int64_t j, auto lanes) {
        top = _mm512_max_ps(top, or_least(lanes, load(scores + j)));
    });
    const float most = largest(top) * scale;
    __m512 total = all(0.0f);
    by_lanes(seen, [&](int64_t j, auto lanes) {
        const __m512 x = _mm512_fmsub_ps(load(scores + j), all(scale), all(most));
        const __m512 p = or_zero(lanes, exp2(x));
        total = _mm512_add_ps(total, p);
        store(to + j, p);
    });
    for (int64_t j = up(seen, LANES); j < columns; j += LANES) store(to + j, all(0.0f));
    return {most, sum(total)};
}

struct Scratch {
    Pair *keys, *values;
    float *scores, *sums;
    bf16* weights;
};

inline void attend(const Views& views, const Sizes& size, const Head& at, float scale,
                   const Scratch& s, float* lse) {
    const int64_t length = size.length, width = size.width, padded = size.padded();
    const Rows q = views.query.rows(at.batch, at.head), out = views.out.rows(at.batch, at.head);
    const Rows key = views.key.rows(at.batch, at.kv_head);
    const Rows value = views.value.rows(at.batch, at.kv_head);
    for (const Rows& x : {key, value, q}) fetch(x, length, width);
    pack_turned(key, length, width, padded, s.keys);
    pack(value, length, width, padded, s.values);
    for (int64_t start = 0; start < length; start += ROWS) {
        const int64_t rows = length - start < ROWS ? length - start : ROWS;
        const int64_t columns = up(start + rows, LANES);
        product(rows, columns / LANES, left(q, start), {s.keys, padded}, width / 2,
                {s.scores, padded}, false);
        float sums[ROWS];
        for (int64_t i = 0; i < rows; ++i) {
            const Soft soft = soften(s.scores + i * padded, start + i + 1, columns, scale,
                                     s.weights + i * padded);
            sums[i] = soft.sum;
            lse[start + i] = soft.largest + std::log2(soft.sum);
        }
        product(rows, width / LANES, left({s.weights, padded}, 0), {s.values, width}, columns / 2,
                {s.sums, width}, false);
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t d = 0; d < width; d += LANES)
                store(const_cast<bf16*>(out.at) + (start + i) * out.step + d,
                      _mm512_div_ps(load(s.sums + i * width + d), all(sums[i])));
    }
}

}  // namespace llmkit

using namespace llmkit;

// `lse` (B, H, T): log2 of the sum of 2^(scores in units of log 2). Returns 1 without memory.
extern "C" int attention_forward(const Views* views, const Sizes* size, float scale, float* lse,
                                 int threads) {
    const int64_t padded = size->padded(), width = size->width;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Memory memory;
        Scratch s;
        s.keys = memory.take<Pair>(padded * width / 2);
        s.values = memory.take<Pair>(padded * width / 2);
        s.scores = memory.take<float>(ROWS * padded);
        s.sums = memory.take<float>(ROWS * width);
        s.weights = memory.take<bf16>(ROWS * padded);
        failed = !memory.whole;
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < size->batch * size->heads; ++i) {
            const Head at = size->head(i);
            if (!failed) attend(*views, *size, at, scale, s, lse + i * size->length);
        }
    }
    return failed;
}
