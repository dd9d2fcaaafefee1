/* The versions of conv_pool.h that this kind of processor may run; native/versions.py chooses one. */

#include <stdint.h>
#include <string.h>

#define DEAD 4
#define GROUP 16 /* the number of channels is a multiple of this */
#define BLOCK 96 /* floats summed at once: 6 registers of AVX-512, 12 of AVX2, 24 of NEON */

#if defined(__x86_64__)
#include <immintrin.h>

#define VERSION avx512
#define LANES 16
#define FUSED(a, b, c) _mm512_fmadd_ps(a, b, c)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#include "conv_pool.h"

#define VERSION avx2
#define LANES 8
#define FUSED(a, b, c) _mm256_fmadd_ps(a, b, c)
#define TARGET __attribute__((target("avx2,fma")))
#include "conv_pool.h"

#elif defined(__aarch64__)
#include <arm_neon.h>

#define VERSION neon
#define LANES 4
#define FUSED(a, b, c) vfmaq_f32(c, a, b)
#define TARGET
#include "conv_pool.h"

#endif
