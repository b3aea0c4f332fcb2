// Products of small bfloat16 blocks with float32 sums, by the instruction that multiplies pairs:
// each of 16 lanes adds a[2k] b[2k] + a[2k + 1] b[2k + 1].
//
// A "pair" is two neighbours along the summed dimension in 32 bits. The left operand is read as
// single pairs, wherever they lie; the right one as rows of pairs, 16 columns at a time. A block
// packed in rows of pairs can also be the left operand of a product with its transpose.
#pragma once

#include "native.h"

namespace llmkit {

typedef uint32_t Pair __attribute__((aligned(2), may_alias));

struct Left {  // the pairs of row m begin at `at + m * row`, `step` apart; all in bytes
    const char* at;
    int64_t row, step;
};

struct Right {  // pair k of column n is at[k * row + n]
    const Pair* at;
    int64_t row;
};

struct Sums {  // element (m, n) is at[m * row + n]
    float* at;
    int64_t row;
};

template <int ROWS, int VECTORS>
inline void tile(Left a, Right b, int64_t pairs, Sums c, bool add) {
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; ++n)
            sums[m][n] = add ? load(c.at + m * c.row + n * LANES) : _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; ++k) {
        __m512i right[VECTORS];
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; ++n)
            right[n] = _mm512_loadu_si512(b.at + k * b.row + n * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m) {
            const Pair* left = reinterpret_cast<const Pair*>(a.at + m * a.row + k * a.step);
            const __m512i pair = _mm512_set1_epi32(*left);
#pragma GCC unroll 4
            for (int n = 0; n < VECTORS; ++n)
                sums[m][n] = _mm512_dpbf16_ps(sums[m][n], (__m512bh)pair, (__m512bh)right[n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < VECTORS; ++n) store(c.at + m * c.row + n * LANES, sums[m][n]);
}

template <int VECTORS>
inline void column(int64_t rows, Left a, Right b, int64_t pairs, Sums c, bool add) {
    int64_t m = 0;
    const auto here = [&] { return Left{a.at + m * a.row, a.row, a.step}; };
    const auto sums = [&] { return Sums{c.at + m * c.row, c.row}; };
    for (; m + 6 <= rows; m += 6) tile<6, VECTORS>(here(), b, pairs, sums(), add);
    if (m + 4 <= rows) tile<4, VECTORS>(here(), b, pairs, sums(), add), m += 4;
    if (m + 2 <= rows) tile<2, VECTORS>(here(), b, pairs, sums(), add), m += 2;
    if (m < rows) tile<1, VECTORS>(here(), b, pairs, sums(), add);
}

// c (rows, 16 vectors) = a b, or += where `add`. 24 sums and what they need fill the registers.
inline void product(int64_t rows, int64_t vectors, Left a, Right b, int64_t pairs, Sums c,
                    bool add) {
    int64_t n = 0;
    const auto right = [&] { return Right{b.at + n * LANES, b.row}; };
    const auto sums = [&] { return Sums{c.at + n * LANES, c.row}; };
    for (; n + 4 <= vectors; n += 4) column<4>(rows, a, right(), pairs, sums(), add);
    if (n + 2 <= vectors) column<2>(rows, a, right(), pairs, sums(), add), n += 2;
    if (n < vectors) column<1>(rows, a, right(), pairs, sums(), add);
}

// Sixteen rows of sixteen 32-bit values, turned.
inline void turn(__m512i (&r)[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

struct Rows {  // bfloat16 (count, width); a row's elements lie side by side, rows `step` apart
    const bf16* at;
    int64_t step;
};

// The transpose in rows of pairs: to[(d / 2) * columns + t], zero from `count` to `columns`.
inline void pack_turned(Rows x, int64_t count, int64_t width, int64_t columns, Pair* to) {
    for (int64_t t = 0; t < columns; t += LANES) {
        for (int64_t d = 0; d < width; d += 2 * LANES) {
            const int64_t pairs = width - d >= 2 * LANES ? LANES : (width - d) / 2;
            __m512i block[16];
            for (int i = 0; i < 16; ++i) {
                const bool there = t + i < count;
                const bf16* row = x.at + (there ? (t + i) * x.step + d : 0);
                block[i] = _mm512_maskz_loadu_epi32(there ? first(pairs) : 0, row);
            }
            turn(block);
            for (int64_t i = 0; i < pairs; ++i)
                _mm512_storeu_si512(to + (d / 2 + i) * columns + t, block[i]);
        }
    }
}

inline __m512i paired(__m256i even, __m256i odd) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

// The block itself in rows of pairs: to[(t / 2) * width + d], zero from `count` to `padded` rows.
inline void pack(Rows x, int64_t count, int64_t width, int64_t padded, Pair* to) {
    for (int64_t t = 0; t < padded; t += 2) {
        const bf16* row = x.at + t * x.step;
        for (int64_t d = 0; d < width; d += LANES) {
            __m256i even = _mm256_setzero_si256(), odd = even;
            if (t < count) even = _mm256_loadu_si256((const __m256i*)(row + d));
            if (t + 1 < count) odd = _mm256_loadu_si256((const __m256i*)(row + x.step + d));
            _mm512_storeu_si512(to + t / 2 * width + d, paired(even, odd));
        }
    }
}

}  // namespace llmkit
