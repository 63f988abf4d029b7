// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_SMOOTHED_CALIBRATIONS_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_SMOOTHED_CALIBRATIONS_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: every calibration by the steps of the
/// library that smooths, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_SMOOTHED_CALIBRATIONS_PROGRAMS(X, T) \
  X(dro::detail::calibration_program<T, dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::clip, dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::pareto_smooth, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::clip, \
    dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::pareto_smooth, \
    dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::clip, \
    dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::pareto_smooth, \
    dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::clip, dro::calibration::pareto_smooth, \
    dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::clip, dro::calibration::pareto_smooth>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::pareto_smooth, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::clip, \
    dro::calibration::pareto_smooth, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::clip, \
    dro::calibration::pareto_smooth, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::clip, dro::calibration::pareto_smooth, dro::calibration::temper>)
// clang-format on

#endif
