// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_RANKING_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_RANKING_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: rankings drawn and scored, for number
/// type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_RANKING_PROGRAMS(X, T) \
  X(dro::detail::divide_program<T>) \
  X(dro::detail::plackett_luce_draw_program<T, 5>) \
  X(dro::detail::plackett_luce_draw_program<T, 10>) \
  X(dro::detail::plackett_luce_draw_program<T, 0>) \
  X(dro::detail::gumbel_top_k_program<T>) \
  X(dro::detail::plackett_luce_log_prob_program<T>) \
  X(dro::detail::plackett_luce_gradient_program<T, 1>) \
  X(dro::detail::plackett_luce_gradient_program<T, 2>) \
  X(dro::detail::plackett_luce_gradient_program<T, 3>) \
  X(dro::detail::plackett_luce_gradient_program<T, 4>) \
  X(dro::detail::plackett_luce_gradient_program<T, 5>) \
  X(dro::detail::plackett_luce_gradient_program<T, 10>) \
  X(dro::detail::plackett_luce_gradient_program<T, 0>) \
  X(dro::detail::truncated_draw_program<T>) \
  X(dro::detail::truncated_log_prob_program<T>) \
  X(dro::detail::greedy_program<T>) \
  X(dro::detail::deduplicate_program<T>) \
  X(dro::detail::without_replacement_program<T, dro::detail::plackett_luce_children<T>>) \
  X(dro::detail::set_log_prob_program<T>) \
  X(dro::detail::set_gradient_program<T>)
// clang-format on

#endif
