// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_ADAPTIVE_HPP
#define DRO_EM_ADAPTIVE_HPP

/// \file
/// An E-step whose generator scores go where earlier steps showed that they matter.

#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/em/allocation.hpp>
#include <dro/em/e_step.hpp>
#include <dro/error.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/deduplicate.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

namespace detail {

template <class U>
struct take_first_program {
  matrix_view<const U> source;
  matrix_view<U> target;
  grouping from, to;

  [[nodiscard]] index_t width() const { return to.mean_size() * source.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    team.for_each(to.size(q) * source.cols, [&](index_t k) {
      const index_t i = k / source.cols;
      const index_t t = k % source.cols;
      target(to.begin(q) + i, t) = source(from.begin(q) + i, t);
    });
  }
};

}  // namespace detail

/// The first offsets(q + 1, 0) − offsets(q, 0) draws of each query q, as a ragged list, with all that they carry.
/// `offsets` [queries + 1 × 1] ascends from 0 to `total` and asks of no query for more draws than it has, which is not
/// checked: it may not be known on the host. Throws option_error unless the draws are independent (blocks would be torn
/// apart), shape_error if offsets is not for as many queries. Queues one program for each thing carried.
template <backend B, class T>
[[nodiscard]] draws<B, T> take_first(B& b, const draws<B, T>& z, matrix_t<B, std::int32_t> offsets, index_t total) {
  const B& view = b;
  const grouping& from = z.groups();
  if (z.traits().block != 1) {
    throw option_error("take_first: draws in blocks of " + std::to_string(z.traits().block) +
                       ", expected independent draws");
  }
  require_shape(view.view(offsets), from.queries() + 1, 1, "take_first: offsets");
  const auto to = grouping::ragged(view.view(offsets), total);
  const auto part = [&]<class U>(const matrix_view<const U>& source) {
    auto target = b.template make<U>(total, source.cols);
    b.run(from.queries(), detail::take_first_program<U>{source, b.view(target), from, to});
    return target;
  };
  auto rankings = part(view.view(z.rankings()));
  auto log_proposal = part(view.view(z.log_proposal()));
  auto multiplicity = z.has_multiplicity() ? part(view.view(z.multiplicity())) : matrix_t<B, T>{};
  auto log_kept = z.has_log_kept() ? part(view.view(z.log_kept())) : matrix_t<B, T>{};
  draws<B, T> taken(b, std::move(rankings), std::move(log_proposal), std::move(offsets), z.traits());
  if (z.has_multiplicity()) taken.set_multiplicity(b, std::move(multiplicity));
  if (z.has_log_kept()) taken.set_log_kept(b, std::move(log_kept));
  return taken;
}

namespace detail {

template <class B, class Selector, class Generator, class Proposal, class Queries>
[[nodiscard]] auto adaptive_e_step(B& b, const Selector& selector, const Generator& generator, const Proposal& proposal,
                                   const Queries& queries, std::span<const index_t> positions, index_t select,
                                   sample_allocation<B>& allocation, random_state<B>& random, bool selector_draws) {
  check_selector<Selector, B, Queries>();
  check_proposal<Proposal, B, Queries>();
  check_generator<Generator, B, Queries, typename Selector::scalar_type>();
  if (std::size(queries) != positions.size()) {
    throw shape_error("adaptive_e_step: " + std::to_string(positions.size()) + " positions for " +
                      std::to_string(std::size(queries)) + " queries");
  }
  auto offsets = allocation.offsets(b, positions);
  const auto all = proposal.draw(b, queries, {allocation.options().most, select}, random.source(b));
  random.advance(b);
  auto z = take_first(b, all, std::move(offsets), allocation.total(all.groups().queries()));
  auto e = weigh(b, selector, generator, queries, deduplicate(b, std::move(z)), selector_draws);
  allocation.observe(b, positions, e.z, e.weights);
  return e;
}

}  // namespace detail

/// E-step with the selector as the proposal that spends a fixed number of generator scores a batch: `allocation` says
/// how many draws each query gets, from earlier visits, and takes note of this one. Equal draws are joined with their
/// multiplicity, so a generator that passes over draws of multiplicity 0 scores each list of a query once; the number
/// of scores is at most allocation.total(queries). The result is a ragged list, and all that e_step's is else.
///
/// `positions`: the number of each query of the batch in the training set that `allocation` was made for. `select`: K.
/// The random step is advanced. The draws of a query that gets m are the first m of those that e_step draws at the same
/// random step for any larger number of samples. Drawing is taken to be cheap beside scoring: `most` rankings are drawn
/// for every query, of which those beyond its number are not scored. Reads nothing back.
/// Throws what sample_allocation and take_first throw.
template <backend B, class Selector, class Generator, class Queries>
[[nodiscard]] auto adaptive_e_step(B& b, const Selector& selector, const Generator& generator, const Queries& queries,
                                   std::span<const index_t> positions, index_t select, sample_allocation<B>& allocation,
                                   random_state<B>& random) {
  return detail::adaptive_e_step(b, selector, generator, selector, queries, positions, select, allocation, random,
                                 true);
}

/// The same with another proposal q of independent draws: w ∝ p(z|x) p(y|x,d_z) / q(z).
template <backend B, class Selector, class Generator, class Proposal, class Queries>
[[nodiscard]] auto adaptive_e_step(B& b, const Selector& selector, const Generator& generator, const Proposal& proposal,
                                   const Queries& queries, std::span<const index_t> positions, index_t select,
                                   sample_allocation<B>& allocation, random_state<B>& random) {
  return detail::adaptive_e_step(b, selector, generator, proposal, queries, positions, select, allocation, random,
                                 false);
}

}  // namespace dro

#endif
