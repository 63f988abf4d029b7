// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_TRANSFORMER_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_TRANSFORMER_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: the transformer, and the generative
/// selector and reader over it, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_TRANSFORMER_PROGRAMS(X, T) \
  X(dro::models::detail::attention_softmax_program<T, T>) \
  X(dro::models::detail::attention_softmax_gradient_program<T, T>) \
  X(dro::models::detail::attention_delta_program<T>) \
  X(dro::models::detail::beam_step_program<T>) \
  X(dro::models::detail::embedding_program<T>) \
  X(dro::models::detail::embedding_gradient_program<T>) \
  X(dro::models::detail::normal_noise_program<T>) \
  X(dro::models::detail::rms_norm_program<T, T>) \
  X(dro::models::detail::rms_norm_again_program<T, T>) \
  X(dro::models::detail::rms_norm_gradient_program<T>) \
  X(dro::models::detail::rms_norm_gain_program<T>) \
  X(dro::models::detail::add_column_sums_program<T>) \
  X(dro::models::detail::rotary_program<T, T, false>) \
  X(dro::models::detail::rotary_program<T, T, true>) \
  X(dro::models::detail::swiglu_program<T, T>) \
  X(dro::models::detail::swiglu_gradient_program<T, T>) \
  X(dro::models::detail::token_log_prob_program<T, T>) \
  X(dro::models::detail::reorder_branches_program<T>) \
  X(dro::models::detail::pick_document_program<T>) \
  X(dro::models::detail::choice_log_prob_program<T>) \
  X(dro::models::detail::choice_gradient_program<T>) \
  X(dro::models::detail::sum_of_item_program<T>) \
  X(dro::models::detail::item_coefficient_program<T>)
// clang-format on

#endif
