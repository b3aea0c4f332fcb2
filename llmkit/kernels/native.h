// What the native CPU kernels share: sixteen floats at a time, read from and written to float32 or
// bfloat16, and exponentials. Arithmetic is float32. Needs AVX-512 F, BW, DQ and VL; bfloat16 is
// rounded by one instruction where __AVX512BF16__ is there, and by integers elsewhere.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

namespace llmkit {

constexpr int LANES = 16;

struct bf16 {
    uint16_t bits;
};

struct Whole {};  // all sixteen lanes; a mask of all ones would cost as much as any other

inline __mmask16 first(int64_t count) {  // the first `count` lanes, at most all
    return count >= LANES ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}

// work(i, which lanes) for each sixteen of `count` elements, the last ones under a mask.
template <class Work>
inline void by_lanes(int64_t count, Work work) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) work(i, Whole{});
    if (i < count) work(i, first(count - i));
}

inline __m512 widened(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline __m512 load(const float* from, Whole = {}) { return _mm512_loadu_ps(from); }
inline __m512 load(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }

inline __m512 load(const bf16* from, Whole = {}) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline __m512 load(const bf16* from, __mmask16 mask) {
    return widened(_mm256_maskz_loadu_epi16(mask, from));
}

inline __m512 or_zero(Whole, __m512 x) { return x; }
inline __m512 or_zero(__mmask16 mask, __m512 x) { return _mm512_maskz_mov_ps(mask, x); }

// To the nearest bfloat16, ties to even; NaN stays NaN.
inline __m256i rounded(__m512 x) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, quiet), 16));
#endif
}

inline void store(float* to, __m512 x, Whole = {}) { _mm512_storeu_ps(to, x); }
inline void store(float* to, __m512 x, __mmask16 mask) { _mm512_mask_storeu_ps(to, mask, x); }

inline void store(bf16* to, __m512 x, Whole = {}) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded(x));
}
inline void store(bf16* to, __m512 x, __mmask16 mask) {
    _mm256_mask_storeu_epi16(to, mask, rounded(x));
}

inline __m512 all(float x) { return _mm512_set1_ps(x); }

// 2^whole * 2^part, where part is in [-1/2, 1/2]: a polynomial fitted to 2e-9 of 2^part.
inline __m512 power_of_two(__m512 whole, __m512 part) {
    __m512 y = all(0.00015353361959569156f);
    y = _mm512_fmadd_ps(y, part, all(0.0013398873852565885f));
    y = _mm512_fmadd_ps(y, part, all(0.00961843691766262f));
    y = _mm512_fmadd_ps(y, part, all(0.055503323674201965f));
    y = _mm512_fmadd_ps(y, part, all(0.24022647738456726f));
    y = _mm512_fmadd_ps(y, part, all(0.6931471824645996f));
    y = _mm512_fmadd_ps(y, part, all(1.0f));
    return _mm512_scalef_ps(y, whole);
}

inline __m512 nearest_whole(__m512 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// 2^x for x up to 127; 0 far below. NaN stays NaN.
inline __m512 exp2(__m512 x) {
    x = _mm512_max_ps(all(-200.0f), x);
    const __m512 whole = nearest_whole(x);
    return power_of_two(whole, _mm512_sub_ps(x, whole));
}

// e^x for x up to 88; 0 far below. log2 e stands in two parts, so that large x keep their digits.
inline __m512 exp(__m512 x) {
    x = _mm512_max_ps(all(-150.0f), x);
    const __m512 whole = nearest_whole(_mm512_mul_ps(x, all(1.4426950216293335f)));
    const __m512 part = _mm512_fmsub_ps(x, all(1.4426950216293335f), whole);
    return power_of_two(whole, _mm512_fmadd_ps(x, all(1.9259629911266175e-08f), part));
}

// 1 / x for x in the middle of float32's range: the processor's estimate, corrected once.
inline __m512 reciprocal(__m512 x) {
    const __m512 y = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, all(1.0f)), y);
}

inline float sum(__m512 x) { return _mm512_reduce_add_ps(x); }
inline float largest(__m512 x) { return _mm512_reduce_max_ps(x); }

}  // namespace llmkit
