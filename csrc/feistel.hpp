// A random order of n things that is never stored: keyed Feistel permutation with cycle walking.
// Specification: aqqua/plan/permute.py, permute_reference.
#pragma once

#include <array>
#include <cstdint>

#include "murmur.hpp"

// The permutation of range(n) named by (seed, stream); n is 1 to 2**62.
class Permutation {
public:
    Permutation(uint64_t n, uint64_t seed, uint64_t stream) : n_(n) {
        int bits = 0;
        while (bits < 64 && ((n - 1) >> bits) != 0) ++bits;
        half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
        const uint32_t base = mix(uint32_t(seed)) ^ mix(uint32_t(seed >> 32) + 0x51EDu) ^
                              mix(uint32_t(stream), 3) ^ mix(uint32_t(stream >> 32), 5);
        for (int i = 0; i < kRounds; ++i) keys_[size_t(i)] = mix(base ^ mix(uint32_t(i), 7));
    }

    // The image of x, which must be below n.
    uint64_t operator()(uint64_t x) const {
        do x = rounds(x);
        while (x >= n_);
        return x;
    }

private:
    static constexpr int kRounds = 8;

    static uint32_t mix(uint32_t x, uint32_t salt = 0) { return murmur_finaliser(x + salt * 0x9E3779B9u); }

    uint64_t rounds(uint64_t x) const {
        const uint64_t mask = (uint64_t(1) << half_bits_) - 1;
        uint64_t left = x >> half_bits_, right = x & mask;
        for (uint32_t key : keys_) {
            const uint64_t next = left ^ (mix(uint32_t(right) ^ key) & mask);
            left = right;
            right = next;
        }
        return (left << half_bits_) | right;
    }

    uint64_t n_;
    int half_bits_;
    std::array<uint32_t, kRounds> keys_;
};
