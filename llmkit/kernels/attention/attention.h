// What the two directions of native attention share: how tensors are handed over, and scratch.
#pragma once

#include <cstdlib>
#include <initializer_list>

#include "tiles.h"

namespace llmkit {

inline int64_t up(int64_t count, int64_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

struct View {  // a (B, H, T, D) tensor, D side by side; steps are in elements
    bf16* at;
    int64_t batch_step, head_step, row_step;

    Rows rows(int64_t batch, int64_t head) const {
        return {at + batch * batch_step + head * head_step, row_step};
    }
};

struct Views {
    View query, key, value, out;
    // Those below are there in the backward pass alone.
    View grad_out, grad_query, grad_key, grad_value;
};

struct Head {
    int64_t batch, head, kv_head;
};

struct Sizes {
    int64_t batch, heads, kv_heads, length, width;

    int64_t padded() const { return up(length, LANES); }
    int64_t group() const { return heads / kv_heads; }
    Head head(int64_t i) const { return {i / heads, i % heads, i % heads / group()}; }
};

// The left operand of a product whose rows are those of `x` from `start` on.
inline Left left(Rows x, int64_t start) {
    const int64_t bytes = sizeof(bf16);
    return {reinterpret_cast<const char*>(x.at + start * x.step), x.step * bytes, sizeof(Pair)};
}

// Ask for a head's rows before they are read: they lie far apart, where no hardware foresees them.
inline void fetch(Rows x, int64_t count, int64_t width) {
    for (int64_t t = 0; t < count; ++t)
        for (int64_t d = 0; d < width; d += 32)
            _mm_prefetch(reinterpret_cast<const char*>(x.at + t * x.step + d), _MM_HINT_T1);
}

// A thread's scratch, given back when it goes.
class Memory {
  public:
    bool whole = true;

    template <class T>
    T* take(int64_t count) {
        void* made = std::aligned_alloc(64, up(count * sizeof(T), 64));
        if (made == nullptr) whole = false;
        return static_cast<T*>(held[taken++] = made);
    }

    ~Memory() {
        for (void* each : held) std::free(each);
    }

  private:
    void* held[16] = {};
    int taken = 0;
};

}  // namespace llmkit
