// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_REWARD_OBJECTIVES_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_REWARD_OBJECTIVES_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: coefficients of the expected rewards,
/// with every baseline they take, and together with the weights with the default one, for number type T. X(program) is
/// called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_REWARD_OBJECTIVES_PROGRAMS(X, T) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::leave_one_out>>) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::none>>) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::group_mean>>) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::group_normalised>>) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::value<T>>>) \
  X(dro::detail::coefficients_program<T, dro::expected_log_likelihood<dro::baseline::variance_minimising<T>>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::leave_one_out>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::none>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::group_mean>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::group_normalised>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::value<T>>>) \
  X(dro::detail::coefficients_program<T, dro::expected_likelihood<dro::baseline::variance_minimising<T>>>) \
  X(dro::detail::weigh_program<T, dro::expected_log_likelihood<>>) \
  X(dro::detail::weigh_program<T, dro::expected_likelihood<>>)
// clang-format on

#endif
