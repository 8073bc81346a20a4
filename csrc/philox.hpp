// Philox4x32-10: counter-based random numbers. Specification: aqqua/plan/philox.py.
#pragma once

#include <array>
#include <cstdint>

// What a draw is for: 16 bits of the counter. The same numbers as aqqua.plan.philox.Purpose.
enum class Purpose : uint32_t {
    kViews = 1,
    kRepeat = 2,
    kMaskChoice = 3,
    kMaskBlocks = 4,
    kDropPath = 5,
    kHideScale = 6,
    kSpecks = 7,
};

using Words = std::array<uint32_t, 4>;

inline Words philox4x32(Words counter, uint64_t seed) {
    uint32_t key_low = uint32_t(seed), key_high = uint32_t(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t even = uint64_t(0xD2511F53u) * counter[0], odd = uint64_t(0xCD9E8D57u) * counter[2];
        counter = {uint32_t(odd >> 32) ^ counter[1] ^ key_low, uint32_t(odd),
                   uint32_t(even >> 32) ^ counter[3] ^ key_high, uint32_t(even)};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

// Block `block` (of four words) of the draws of one purpose for (image key, visit).
inline Words draws(uint64_t seed, uint64_t key, uint32_t visit, Purpose purpose, uint32_t block) {
    return philox4x32({uint32_t(key), uint32_t(key >> 32), visit, (uint32_t(purpose) << 16) + block}, seed);
}

// From [0, 1): a multiple of 2**-24.
inline double uniform(uint32_t word) { return double(word >> 8) * 0x1p-24; }
