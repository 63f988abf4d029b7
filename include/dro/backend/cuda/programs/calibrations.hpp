// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_CALIBRATIONS_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_CALIBRATIONS_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: every calibration by the steps of the
/// library that does not smooth, for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_CALIBRATIONS_PROGRAMS(X, T) \
  X(dro::detail::calibration_program<T>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate>) \
  X(dro::detail::calibration_program<T, dro::calibration::clip>) \
  X(dro::detail::calibration_program<T, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::clip>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::clip>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::clip, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::clip>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::clip, \
    dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::truncate, dro::calibration::clip, dro::calibration::temper>) \
  X(dro::detail::calibration_program<T, dro::calibration::length_normalise, dro::calibration::truncate, \
    dro::calibration::clip, dro::calibration::temper>)
// clang-format on

#endif
