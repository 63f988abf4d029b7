// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_ARCHETYPES_HPP
#define DRO_MODEL_ARCHETYPES_HPP

/// \file
/// The least that satisfies each model concept. They have declarations only: algorithms are compiled against them in
/// the tests, so that no algorithm asks a model for more than its concept says.

#include <cstddef>

#include <dro/backend/concept.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>

namespace dro::archetype {

struct queries {
  std::size_t size() const;
};

template <backend B, class T>
struct proposal {
  using scalar_type = T;
  draws<B, T> draw(B&, const queries&, const draw_options&, const random_source&) const;
};

template <backend B, class T>
struct selector : proposal<B, T> {
  matrix_t<B, T> log_prob(B&, const queries&, const draws<B, T>&) const;
  void accumulate_gradient(B&, const queries&, const draws<B, T>&, const matrix_t<B, T>& coefficients);
};

template <backend B, class T>
struct scored_selector : selector<B, T> {
  matrix_t<B, T> scores(B&, const queries&) const;
  void accumulate_score_gradient(B&, const queries&, const matrix_t<B, T>& d_scores);
};

template <backend B, class T>
struct generator {
  matrix_t<B, T> log_likelihood(B&, const queries&, const draws<B, T>&) const;
  void accumulate_gradient(B&, const queries&, const draws<B, T>&, const matrix_t<B, T>& coefficients);
};

}  // namespace dro::archetype

#endif
