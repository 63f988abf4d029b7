// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_REGULARISED_OBJECTIVES_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_REGULARISED_OBJECTIVES_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: coefficients of regularised
/// objectives with their usual baselines, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_REGULARISED_OBJECTIVES_PROGRAMS(X, T) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::evidence<dro::baseline::centred>, T>>) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::evidence<dro::baseline::ratio>, T>>) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::evidence<dro::baseline::none>, T>>) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::expected_log_likelihood<dro::baseline::leave_one_out>, \
    T>>) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::expected_likelihood<dro::baseline::leave_one_out>, T>>) \
  X(dro::detail::coefficients_program<T, dro::regularised<dro::importance_weighted_bound<dro::baseline::arithmetic>, \
    T>>)
// clang-format on

#endif
