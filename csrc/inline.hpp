// What a hot loop calls must become part of it, or it stays compiled for the oldest machine.
#pragma once

#if defined(__GNUC__)
#define AQQUA_INLINE inline __attribute__((always_inline))
#else
#define AQQUA_INLINE inline
#endif
