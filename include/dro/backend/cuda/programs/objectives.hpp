// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_PROGRAMS_OBJECTIVES_HPP
#define DRO_BACKEND_CUDA_PROGRAMS_OBJECTIVES_HPP

/// \file
/// Row programs of which a unit made by dro_add_cuda_unit holds the kernels: coefficients of the evidence and of
/// the importance-weighted bounds, with every baseline they take, and together with the weights with the default one,
/// for number type T. X(program) is called for each.

// One program a line.
// clang-format off
#define DRO_CUDA_OBJECTIVES_PROGRAMS(X, T) \
  X(dro::detail::coefficients_program<T, dro::evidence<dro::baseline::centred>>) \
  X(dro::detail::coefficients_program<T, dro::evidence<dro::baseline::ratio>>) \
  X(dro::detail::coefficients_program<T, dro::evidence<dro::baseline::none>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound<dro::baseline::arithmetic>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound<dro::baseline::geometric>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound<dro::baseline::none>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound_of_proposal<dro::baseline::arithmetic>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound_of_proposal<dro::baseline::geometric>>) \
  X(dro::detail::coefficients_program<T, dro::importance_weighted_bound_of_proposal<dro::baseline::none>>) \
  X(dro::detail::weigh_program<T, dro::evidence<>>) \
  X(dro::detail::weigh_program<T, dro::importance_weighted_bound<>>)
// clang-format on

#endif
