// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_WEIGHTS_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_WEIGHTS_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: importance weights and what is said
/// of them, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_WEIGHTS_PROGRAMS(X, T) \
  X(dro::detail::importance_weights_program<T>) \
  X(dro::detail::pool_ratios_program<T>) \
  X(dro::detail::weight_diagnostics_program<T>) \
  X(dro::detail::draw_diagnostics_program<T>)
// clang-format on

#endif
