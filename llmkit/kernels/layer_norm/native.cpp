// A residual sum and the layer norm after it, in one pass over the activations each way.
//
// Forward, a thread takes a row, adds, normalises, and keeps mean and 1 / deviation. Backward, with
// n = (r - mean) / deviation and g = dy * weight,
//
//     dr = (g - mean g - n mean(g n)) / deviation + what arrives at r itself
//     dweight = sum over rows of dy n,    dbias = sum over rows of dy
//
// The rows are cut into stripes whose number does not depend on that of the threads; each adds up
// its own dweight and dbias, and the stripes are added in their order, so that the bits are the
// same whoever runs them. Arithmetic is float32.
#include "native.h"

namespace llmkit {

struct Shape {
    int64_t rows, width, stripes;
};

template <class X>
inline void add_row(const X* x, const float* residual, float* r, int64_t width) {
    by_lanes(width, [=](int64_t e, auto lanes) {
        store(r + e, _mm512_add_ps(load(x + e, lanes), load(residual + e, lanes)), lanes);
    });
}

template <class Y>
inline void norm_row(const float* r, const float* weight, const float* bias, Y* y, float* mean,
                     float* scale, int64_t width, float eps) {
    __m512 total = all(0.0f), squares = all(0.0f);
    by_lanes(width, [&](int64_t e, auto lanes) {
        total = _mm512_add_ps(total, load(r + e, lanes));
    });
    const float middle = sum(total) / width;
    by_lanes(width, [&](int64_t e, auto lanes) {
        const __m512 centred = or_zero(lanes, _mm512_sub_ps(load(r + e, lanes), all(middle)));
        squares = _mm512_fmadd_ps(centred, centred, squares);
    });
    const float factor = 1.0f / std::sqrt(sum(squares) / width + eps);
    by_lanes(width, [=](int64_t e, auto lanes) {
        const __m512 centred = _mm512_sub_ps(load(r + e, lanes), all(middle));
        const __m512 n = _mm512_mul_ps(centred, all(factor));
        store(y + e, _mm512_fmadd_ps(n, load(weight + e, lanes), load(bias + e, lanes)), lanes);
    });
    *mean = middle, *scale = factor;
}

struct Means {
    __m512 of_g, of_gn;
};

template <class Y>
inline Means row_means(const float* r, const Y* grad_y, const float* weight, float mean,
                       float scale, float* grad_weight, float* grad_bias, int64_t width) {
    __m512 g_sum = all(0.0f), gn_sum = all(0.0f);
    by_lanes(width, [&](int64_t e, auto lanes) {
        const __m512 dy = load(grad_y + e, lanes);
        const __m512 g = _mm512_mul_ps(dy, load(weight + e, lanes));
        const __m512 n = _mm512_mul_ps(_mm512_sub_ps(load(r + e, lanes), all(mean)), all(scale));
        g_sum = _mm512_add_ps(g_sum, g);
        gn_sum = _mm512_fmadd_ps(g, n, gn_sum);
        store(grad_weight + e, _mm512_fmadd_ps(dy, n, load(grad_weight + e, lanes)), lanes);
        store(grad_bias + e, _mm512_add_ps(dy, load(grad_bias + e, lanes)), lanes);
    });
    return {all(sum(g_sum) / width), all(sum(gn_sum) / width)};
}

// Writes dr, and once more in the dtype of x where `grad_x` is there.
template <class X, class Y>
inline void grad_row(const float* r, const Y* grad_y, const float* weight, const float* grad_r,
                     float mean, float scale, Means means, float* dr, X* grad_x, int64_t width) {
    by_lanes(width, [=](int64_t e, auto lanes) {
        const __m512 g = _mm512_mul_ps(load(grad_y + e, lanes), load(weight + e, lanes));
        const __m512 n = _mm512_mul_ps(_mm512_sub_ps(load(r + e, lanes), all(mean)), all(scale));
        const __m512 centred = _mm512_fnmadd_ps(n, means.of_gn, _mm512_sub_ps(g, means.of_g));
        const __m512 arrived = grad_r ? load(grad_r + e, lanes) : all(0.0f);
        const __m512 whole = _mm512_fmadd_ps(centred, all(scale), arrived);
        store(dr + e, whole, lanes);
        if (grad_x) store(grad_x + e, whole, lanes);
    });
}

inline void add_stripes(const float* partial, float* to, int64_t stripes, int64_t width) {
    for (int64_t e = 0; e < width; ++e) to[e] = 0.0f;
    for (int64_t s = 0; s < stripes; ++s)
        for (int64_t e = 0; e < width; ++e) to[e] += partial[s * width + e];
}

// Without a residual, r is given and x is not read.
template <class X, class Y>
inline void forward(const X* x, const float* residual, const float* weight, const float* bias,
                    float* r, Y* y, float* statistics, const Shape& shape, float eps,
                    int threads) {
    const int64_t width = shape.width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < shape.rows; ++i) {
        float *mean = statistics + i, *scale = statistics + shape.rows + i;
        const int64_t at = i * width;
        if (residual != nullptr) add_row(x + at, residual + at, r + at, width);
        norm_row(r + at, weight, bias, y + at, mean, scale, width, eps);
    }
}

// `partial` (2, stripes, E) is scratch; `grad_r` and `grad_x` may be null.
template <class X, class Y>
inline void backward(const float* r, const Y* grad_y, const float* weight, const float* grad_r,
                     const float* statistics, float* dr, X* grad_x, float* partial,
                     float* grad_weight, float* grad_bias, const Shape& shape, int threads) {
    const int64_t width = shape.width, stripes = shape.stripes, rows = shape.rows;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t s = 0; s < stripes; ++s) {
        float *of_weight = partial + s * width, *of_bias = partial + (stripes + s) * width;
        for (int64_t e = 0; e < width; ++e) of_weight[e] = of_bias[e] = 0.0f;
        for (int64_t i = rows * s / stripes; i < rows * (s + 1) / stripes; ++i) {
            const int64_t at = i * width;
            const float mean = statistics[i], scale = statistics[rows + i];
            const Means means = row_means(r + at, grad_y + at, weight, mean, scale, of_weight,
                                          of_bias, width);
            grad_row(r + at, grad_y + at, weight, grad_r ? grad_r + at : nullptr, mean, scale,
                     means, dr + at, grad_x ? grad_x + at : nullptr, width);
        }
    }
    add_stripes(partial, grad_weight, stripes, width);
    add_stripes(partial + stripes * width, grad_bias, stripes, width);
}

}  // namespace llmkit

using namespace llmkit;

#define FORWARD(NAME, X, Y)                                                                        \
    extern "C" int NAME(const X* x, const float* residual, const float* weight,                    \
                         const float* bias, float* r, Y* y, float* statistics,                     \
                         const Shape* shape, float eps, int threads) {                             \
        forward(x, residual, weight, bias, r, y, statistics, *shape, eps, threads);                \
        return 0;                                                                                  \
    }

#define BACKWARD(NAME, X, Y)                                                                       \
    extern "C" int NAME(const float* r, const Y* grad_y, const float* weight,                      \
                         const float* grad_r, const float* statistics, float* dr, X* grad_x,       \
                         float* partial, float* grad_weight, float* grad_bias,                     \
                         const Shape* shape, int threads) {                                        \
        backward(r, grad_y, weight, grad_r, statistics, dr, grad_x, partial, grad_weight,          \
                 grad_bias, *shape, threads);                                                      \
        return 0;                                                                                  \
    }

// By the dtypes of x and of y; the residual, r and the parameters are float32.
FORWARD(forward_float32_float32, float, float)
FORWARD(forward_float32_bfloat16, float, bf16)
FORWARD(forward_bfloat16_float32, bf16, float)
FORWARD(forward_bfloat16_bfloat16, bf16, bf16)
BACKWARD(backward_float32_float32, float, float)
BACKWARD(backward_float32_bfloat16, float, bf16)
BACKWARD(backward_bfloat16_float32, bf16, float)
BACKWARD(backward_bfloat16_bfloat16, bf16, bf16)
