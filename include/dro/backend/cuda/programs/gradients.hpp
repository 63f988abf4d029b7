// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_GRADIENTS_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_GRADIENTS_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: gradients that do more than weigh the
/// draws, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_GRADIENTS_PROGRAMS(X, T) \
  X(dro::detail::pl_rank_3_program<T>) \
  X(dro::detail::score_norms_program<T>) \
  X(dro::detail::position_norms_program<T>) \
  X(dro::detail::position_gradient_program<T>) \
  X(dro::detail::position_coefficients_program<T, dro::log_likelihood_reward>) \
  X(dro::detail::position_coefficients_program<T, dro::likelihood_reward>) \
  X(dro::detail::rag_sequence_program<T>) \
  X(dro::detail::replug_program<T>) \
  X(dro::detail::straight_through_program<T>) \
  X(dro::detail::unordered_set_program<T, dro::unordered_set::evidence>) \
  X(dro::detail::unordered_set_program<T, dro::unordered_set::expected_likelihood>) \
  X(dro::detail::unordered_set_program<T, dro::unordered_set::expected_log_likelihood>) \
  X(dro::detail::conditional_noise_program<T>) \
  X(dro::detail::conditional_noise_pullback_program<T>) \
  X(dro::detail::relax_program<T, dro::softmax_control_variate<T>>) \
  X(dro::detail::add_columns_program<T>) \
  X(dro::detail::split_program<T>) \
  X(dro::detail::compare_halves_program<T>)
// clang-format on

#endif
