// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_SAMPLED_SELECTOR_HPP
#define DRO_MODEL_PROPOSALS_SAMPLED_SELECTOR_HPP

/// \file
/// A selector as a proposal that is tempered, truncated, or draws with joint noise.

#include <concepts>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/sampling.hpp>

namespace dro {

/// A selector that takes sampling options itself, as an autoregressive_selector does: `draw` and `log_prob` with a
/// `const sampling&` as one more argument.
template <class S, class B, class Q>
concept sampling_selector = proposal<S, B, Q> &&
    requires(const S& s, B& b, const Q& queries, const draw_options& options, const random_source& random,
             const draws<B, typename S::scalar_type>& z, const sampling& how) {
  { s.draw(b, queries, options, random, how) } -> std::same_as<draws<B, typename S::scalar_type>>;
  { s.log_prob(b, queries, z, how) } -> std::same_as<matrix_t<B, typename S::scalar_type>>;
};

/// A selector with its sampling changed, as a proposal: draws and their log q are those of the distribution that
/// `sampling` makes of it. A selector that takes sampling options is given them; of any other scored_selector the
/// scores are sampled. Options that change nothing give the draws of the selector, bit for bit. The selector's
/// parameters are those it has when the work is done: a tempered proposal keeps up with the training.
///
///     const sampled_selector warm(selector, {.temperature = 1.5});
///     const sampled_selector pairs(selector, {.noise = {noise_kind::antithetic}});
///
/// An lvalue is referred to and must outlive the proposal, a temporary is kept.
template <class Selector>
class sampled_selector {
  using selector_type = std::remove_cvref_t<Selector>;

 public:
  using scalar_type = typename selector_type::scalar_type;

  /// Throws option_error for options that `sampling` does not take.
  sampled_selector(Selector&& selector, const sampling& how) : selector_(std::forward<Selector>(selector)), how_(how) {
    require_sampling(how);
  }

  [[nodiscard]] const sampling& how() const { return how_; }

  /// Throws what the selector throws, and option_error unless the samples are whole blocks of joint noise.
  template <backend B, class Queries>
  [[nodiscard]] draws<B, scalar_type> draw(B& b, const Queries& queries, const draw_options& options,
                                           const random_source& random) const {
    check<B, Queries>();
    if (how_.is_plain()) return selector_.draw(b, queries, options, random);
    if constexpr (sampling_selector<selector_type, B, Queries>) {
      return selector_.draw(b, queries, options, random, how_);
    } else {
      return draw_plackett_luce(b, selector_.scores(b, queries), random, options, how_);
    }
  }

  /// log q of rankings drawn by anybody, [draws × 1], nats; −inf for those the truncation excludes.
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, scalar_type> log_prob(B& b, const Queries& queries, const draws<B, scalar_type>& z) const {
    check<B, Queries>();
    if constexpr (sampling_selector<selector_type, B, Queries>) {
      return selector_.log_prob(b, queries, z, how_);
    } else {
      auto out = b.template make<scalar_type>(z.groups().total(), 1);
      plackett_luce_log_prob(b, selector_.scores(b, queries), std::as_const(b).view(z.rankings()), z.groups(),
                             b.view(out), how_);
      return out;
    }
  }

 private:
  template <class B, class Queries>
  static constexpr void check() {
    static_assert(sampling_selector<selector_type, B, Queries> || scored_selector<selector_type, B, Queries>,
                  "dro: sampled_selector needs a selector that shows its scores (scored_selector), or whose draw and "
                  "log_prob take `const sampling&` as one more argument; see docs/bring-your-own-model.md");
  }

  Selector selector_;
  sampling how_;
};

template <class Selector>
sampled_selector(Selector&&, const sampling&) -> sampled_selector<Selector>;

}  // namespace dro

#endif
