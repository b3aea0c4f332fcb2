// GELU's tanh form, forward and backward in one pass over memory each; x alone is kept.
//
//     u = sqrt(2 / pi) (x + 0.044715 x^3),    s = sigmoid(2 u),    y = x s
//     dy/dx = s + x s (1 - s) 2 sqrt(2 / pi) (1 + 3 * 0.044715 x^2)
//
// since (1 + tanh u) / 2 = sigmoid(2 u), which keeps its digits in the left tail, where 1 + tanh u
// loses them.
#include "native.h"

namespace llmkit {

constexpr float TWICE_ROOT = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float FAR = 16.0f;  // beyond it the sigmoid is 0 or 1 in float32, and x^3 may overflow
constexpr int64_t PIECE = 4096;  // elements that a thread takes at once

struct Gate {
    __m512 s, slope;  // sigmoid(2 u) and its derivative by x
};

inline Gate gate(__m512 x) {
    const __m512 near = _mm512_min_ps(all(FAR), _mm512_max_ps(all(-FAR), x));
    const __m512 square = _mm512_mul_ps(near, near);
    const __m512 scaled = _mm512_mul_ps(near, all(TWICE_ROOT));
    const __m512 twice_u =
        _mm512_mul_ps(scaled, _mm512_fmadd_ps(square, all(0.044715f), all(1.0f)));
    // e = e^-|2u| is at most 1, so that nothing overflows: s = 1 / (1 + e) or e / (1 + e).
    const __m512 e = exp(_mm512_or_ps(twice_u, all(-0.0f)));
    const __m512 r = reciprocal(_mm512_add_ps(e, all(1.0f)));
    const __mmask16 left = _mm512_cmp_ps_mask(near, all(0.0f), _CMP_LT_OQ);
    const __m512 s = _mm512_mask_mul_ps(r, left, r, e);
    const __m512 by_x = _mm512_fmadd_ps(square, all(3 * 0.044715f * TWICE_ROOT), all(TWICE_ROOT));
    return {s, _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(r, r), e), by_x)};
}

template <class T>
inline void forward(const T* x, T* y, int64_t count) {
    by_lanes(count, [=](int64_t i, auto lanes) {
        const __m512 value = load(x + i, lanes);
        store(y + i, _mm512_mul_ps(value, gate(value).s), lanes);
    });
}

template <class T>
inline void backward(const T* x, const T* grad_y, T* grad_x, int64_t count) {
    by_lanes(count, [=](int64_t i, auto lanes) {
        const __m512 value = load(x + i, lanes);
        const Gate g = gate(value);
        const __m512 derivative = _mm512_fmadd_ps(value, g.slope, g.s);
        store(grad_x + i, _mm512_mul_ps(load(grad_y + i, lanes), derivative), lanes);
    });
}

template <class Work>
inline void in_pieces(int64_t count, int threads, Work work) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t start = 0; start < count; start += PIECE)
        work(start, count - start < PIECE ? count - start : PIECE);
}

template <class T>
inline void all_forward(const T* x, T* y, int64_t count, int threads) {
    in_pieces(count, threads, [=](int64_t at, int64_t n) { forward(x + at, y + at, n); });
}

template <class T>
inline void all_backward(const T* x, const T* grad_y, T* grad_x, int64_t count, int threads) {
    in_pieces(count, threads,
              [=](int64_t at, int64_t n) { backward(x + at, grad_y + at, grad_x + at, n); });
}

}  // namespace llmkit

using namespace llmkit;

extern "C" int gelu_forward_float32(const float* x, float* y, int64_t count, int threads) {
    all_forward(x, y, count, threads);
    return 0;
}

extern "C" int gelu_forward_bfloat16(const bf16* x, bf16* y, int64_t count, int threads) {
    all_forward(x, y, count, threads);
    return 0;
}

extern "C" int gelu_backward_float32(const float* x, const float* grad_y, float* grad_x,
                                      int64_t count, int threads) {
    all_backward(x, grad_y, grad_x, count, threads);
    return 0;
}

extern "C" int gelu_backward_bfloat16(const bf16* x, const bf16* grad_y, bf16* grad_x,
                                       int64_t count, int threads) {
    all_backward(x, grad_y, grad_x, count, threads);
    return 0;
}
