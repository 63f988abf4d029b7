// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_TRAINING_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_TRAINING_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: copies, proposals, totals, tables and
/// optimisers, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_TRAINING_PROGRAMS(X, T) \
  X(dro::detail::fill_program<T>) \
  X(dro::detail::copy_program<T>) \
  X(dro::detail::cuda::scale_program<T>) \
  X(dro::detail::flatten_program<T>) \
  X(dro::detail::is_first_documents_program<T>) \
  X(dro::detail::mix_program<T>) \
  X(dro::detail::share_program<T, 1>) \
  X(dro::detail::share_program<T, 2>) \
  X(dro::detail::share_program<T, 3>) \
  X(dro::detail::share_program<T, 4>) \
  X(dro::detail::take_first_program<T>) \
  X(dro::detail::observe_program<T>) \
  X(dro::detail::moving_average_program<T>) \
  X(dro::detail::add_totals_program<T>) \
  X(dro::detail::add_draws_program<T>) \
  X(dro::detail::add_calibrated_program<T>) \
  X(dro::detail::add_tails_program<T>) \
  X(dro::models::detail::add_rows_program<T>) \
  X(dro::models::detail::table_likelihood_program<T>) \
  X(dro::models::detail::table_likelihood_gradient_program<T>) \
  X(dro::detail::block_squares_program<T>) \
  X(dro::detail::norm_program<T>) \
  X(dro::detail::update_program<T, dro::sgd_rule, dro::constant_schedule>) \
  X(dro::detail::update_program<T, dro::sgd_rule, dro::linear_schedule>) \
  X(dro::detail::update_program<T, dro::sgd_rule, dro::cosine_schedule>) \
  X(dro::detail::update_program<T, dro::adagrad_rule, dro::constant_schedule>) \
  X(dro::detail::update_program<T, dro::adagrad_rule, dro::linear_schedule>) \
  X(dro::detail::update_program<T, dro::adagrad_rule, dro::cosine_schedule>) \
  X(dro::detail::update_program<T, dro::adamw_rule, dro::constant_schedule>) \
  X(dro::detail::update_program<T, dro::adamw_rule, dro::linear_schedule>) \
  X(dro::detail::update_program<T, dro::adamw_rule, dro::cosine_schedule>)
// clang-format on

#endif
