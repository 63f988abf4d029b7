// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_COMMON_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_COMMON_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: those without a number type, or with one
/// alone. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_COMMON_PROGRAMS(X) \
  X(dro::detail::empty_program) \
  X(dro::detail::fill_program<std::int32_t>) \
  X(dro::detail::fill_program<std::uint32_t>) \
  X(dro::detail::copy_program<std::int32_t>) \
  X(dro::detail::copy_program<std::uint32_t>) \
  X(dro::detail::copy_program<dro::bfloat16>) \
  X(dro::detail::advance_step_program) \
  X(dro::detail::count_step_program) \
  X(dro::detail::interleave_program) \
  X(dro::detail::choose_program) \
  X(dro::detail::first_documents_program) \
  X(dro::detail::take_first_program<std::int32_t>) \
  X(dro::detail::allocate_program) \
  X(dro::detail::add_rows_program) \
  X(dro::detail::add_statuses_program) \
  X(dro::detail::round_program) \
  X(dro::models::detail::attention_softmax_program<float, dro::bfloat16>) \
  X(dro::models::detail::attention_softmax_gradient_program<float, dro::bfloat16>) \
  X(dro::models::detail::rms_norm_program<float, dro::bfloat16>) \
  X(dro::models::detail::rms_norm_again_program<float, dro::bfloat16>) \
  X(dro::models::detail::rotary_program<float, dro::bfloat16, true>) \
  X(dro::models::detail::swiglu_program<float, dro::bfloat16>) \
  X(dro::models::detail::swiglu_gradient_program<float, dro::bfloat16>) \
  X(dro::models::detail::token_log_prob_program<float, dro::bfloat16>) \
  X(dro::models::detail::choice_tokens_program) \
  X(dro::models::detail::each_draw_program) \
  X(dro::models::detail::reading_program)
// clang-format on

#endif
