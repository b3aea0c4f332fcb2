// Cross-entropy of a chunk of logits and its gradient in their place.
//
// A thread takes a row, which stays in its core's own cache: once for the largest logit, once for
// the sum of exponentials, and once more to overwrite it with
//
//     dz_v = exp(z_v - m) / s - [v = t],    loss = log s - (z_t - m)
//
// Arithmetic is float32; logits and gradient have the dtype of the matrix products.
#include "native.h"

namespace llmkit {

struct Head {
    int64_t rows, row_step, vocab_size, columns, ignore_index;
};

template <class T>
inline void zero(T* row, int64_t from, int64_t to) {
    by_lanes(to - from, [=](int64_t v, auto lanes) { store(row + from + v, all(0.0f), lanes); });
}

inline __m512 larger(__m512 top, __m512 z, Whole) { return _mm512_max_ps(top, z); }
inline __m512 larger(__m512 top, __m512 z, __mmask16 mask) {
    return _mm512_mask_max_ps(top, mask, top, z);
}

template <class T>
inline float row_loss(T* row, int64_t target, const Head& head) {
    __m512 top = all(-INFINITY), sums = all(0.0f);
    by_lanes(head.vocab_size, [&](int64_t v, auto lanes) {
        top = larger(top, load(row + v, lanes), lanes);
    });
    const float most = largest(top);
    by_lanes(head.vocab_size, [&](int64_t v, auto lanes) {
        const __m512 e = exp(_mm512_sub_ps(load(row + v, lanes), all(most)));
        sums = _mm512_add_ps(sums, or_zero(lanes, e));
    });
    const float total = sum(sums), share = 1.0f / total;
    const float of_target = _mm512_cvtss_f32(load(row + target, first(1)));
    by_lanes(head.vocab_size, [=](int64_t v, auto lanes) {
        const __m512 e = exp(_mm512_sub_ps(load(row + v, lanes), all(most)));
        __m512 p = _mm512_mul_ps(e, all(share));
        const int64_t lane = target - v;
        if (lane >= 0 && lane < LANES)
            p = _mm512_mask_sub_ps(p, static_cast<__mmask16>(1u << lane), p, all(1.0f));
        store(row + v, p, lanes);
    });
    zero(row, head.vocab_size, head.columns);
    return std::log(total) - (of_target - most);
}

template <class T>
inline void cross_entropy(T* logits, const int64_t* targets, float* losses, const Head& head,
                          int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t i = 0; i < head.rows; ++i) {
        T* row = logits + i * head.row_step;
        const bool counts = targets[i] != head.ignore_index;
        if (!counts) zero(row, 0, head.columns);
        losses[i] = counts ? row_loss(row, targets[i], head) : 0.0f;
    }
}

}  // namespace llmkit

using namespace llmkit;

extern "C" int cross_entropy_float32(float* logits, const int64_t* targets, float* losses,
                                      const Head* head, int threads) {
    cross_entropy(logits, targets, losses, *head, threads);
    return 0;
}

extern "C" int cross_entropy_bfloat16(bf16* logits, const int64_t* targets, float* losses,
                                       const Head* head, int threads) {
    cross_entropy(logits, targets, losses, *head, threads);
    return 0;
}
