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
    for (int64_t v = from; v < to; v += LANES) store(row + v, all(0.0f), first(to - v));
}

template <class T>
inline float row_loss(T* row, int64_t target, const Head& head) {
    const int64_t vocab_size = head.vocab_size;
    __m512 top = all(-INFINITY);
    for (int64_t v = 0; v < vocab_size; v += LANES) {
        const __mmask16 mask = first(vocab_size - v);
        // NaN in the second place stays.
        top = _mm512_mask_max_ps(top, mask, top, load(row + v, mask));
    }
    const float most = largest(top);
    const float of_target = _mm512_cvtss_f32(load(row + target, 1));
    __m512 sums = all(0.0f);
    for (int64_t v = 0; v < vocab_size; v += LANES) {
        const __mmask16 mask = first(vocab_size - v);
        const __m512 e = exp(_mm512_sub_ps(load(row + v, mask), all(most)));
        sums = _mm512_mask_add_ps(sums, mask, sums, e);
    }
    const float total = sum(sums), share = 1.0f / total;
    for (int64_t v = 0; v < vocab_size; v += LANES) {
        const __mmask16 mask = first(vocab_size - v);
        __m512 p = exp(_mm512_sub_ps(load(row + v, mask), all(most)));
        p = _mm512_mul_ps(p, all(share));
        const int64_t lane = target - v;
        const __mmask16 hit = lane >= 0 && lane < LANES ? 1u << lane : 0;
        store(row + v, _mm512_mask_sub_ps(p, hit, p, all(1.0f)), mask);
    }
    zero(row, vocab_size, head.columns);
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
