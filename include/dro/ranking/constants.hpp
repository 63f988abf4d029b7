// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_CONSTANTS_HPP
#define DRO_RANKING_CONSTANTS_HPP

/// \file
/// What several row programs on rankings have in common.

#include <limits>

#include <dro/backend/team.hpp>
#include <dro/config.hpp>

namespace dro::detail {

template <class T>
inline constexpr T minus_infinity = -std::numeric_limits<T>::infinity();

/// How many draws of a query one thread of a Team works on at once: on the host as many as fill its vector registers.
/// On a GPU each thread has one and neighbouring threads its neighbours.
template <class Team>
inline constexpr index_t draws_together = 1;
template <>
inline constexpr index_t draws_together<host_team> = 8;

}  // namespace dro::detail

#endif
