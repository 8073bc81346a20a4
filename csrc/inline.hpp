// What a hot loop calls must become part of it, or it stays compiled for the oldest machine.
#pragma once

#if defined(__GNUC__)
#define AQQUA_INLINE inline __attribute__((always_inline))
#else
#define AQQUA_INLINE inline
#endif

// Hot loops are compiled for several machines and chosen at start. -ffp-contract=off: all give the same bits.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__) || __GNUC__ < 12
#define AQQUA_HOT __attribute__((target_clones("avx2", "default")))
#else
#define AQQUA_HOT __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif
#endif
#endif
#ifndef AQQUA_HOT
#define AQQUA_HOT
#endif
