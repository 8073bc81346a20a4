// The 32-bit finaliser of MurmurHash3 (Appleby, public domain): every bit of x moves every bit of the result.
// Specification: aqqua/plan/murmur.py. Test: tests/plan/test_permute.py, tests/render/test_native.py.
#pragma once

#include <cstdint>

#include "inline.hpp"

AQQUA_INLINE uint32_t murmur_finaliser(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
    x = (x ^ (x >> 13)) * 0xC2B2AE35u;
    return x ^ (x >> 16);
}
