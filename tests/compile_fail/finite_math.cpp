// SPDX-License-Identifier: Apache-2.0
// -ffast-math and -ffinite-math-only define __FINITE_MATH_ONLY__ as 1, under which −inf means nothing.
// EXPECT: dro represents impossible events as -inf: compile without -ffinite-math-only and -ffast-math
#ifndef DRO_COMPILE_FAIL_CONTROL
#undef __FINITE_MATH_ONLY__
#define __FINITE_MATH_ONLY__ 1
#endif
#include <dro/config.hpp>
