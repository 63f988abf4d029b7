// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_MIXTURE_HPP
#define DRO_MODEL_PROPOSALS_MIXTURE_HPP

/// \file
/// Two proposals, one of which is picked at random for each sample.

#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/model/concepts.hpp>
#include <dro/random/key.hpp>
#include <dro/random/random_state.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

namespace detail {

struct choose_program {
  matrix_view<const document_t> first, second;
  matrix_view<document_t> chosen;
  index_t samples;
  random_source random;
  std::uint64_t threshold;  // α 2^32

  [[nodiscard]] index_t width() const { return chosen.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    const std::uint32_t word = random_word(random.key(), static_cast<std::uint32_t>(draw / samples),
                                           static_cast<std::uint32_t>(draw % samples), 0);
    const matrix_view<const document_t> from = word < threshold ? first : second;
    team.for_each(chosen.cols, [&](index_t t) { chosen(draw, t) = from(draw, t); });
  }
};

template <class T>
struct mix_program {
  matrix_view<const T> first, second;
  T log_alpha, log_rest;
  matrix_view<T> mixed;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    if (team.rank() == 0) {
      mixed(draw, 0) = math::log_add_exp(log_alpha + first(draw, 0), log_rest + second(draw, 0));
    }
  }
};

/// Throws shape_error unless a part of a proposal drew what it was asked for; `who` begins the message.
template <class Draws>
void require_asked(const Draws& z, index_t queries, const draw_options& options, const char* who) {
  if (!z.groups().is_uniform() || z.groups().queries() != queries || z.groups().per_query() != options.samples ||
      z.select() != options.select) {
    throw shape_error(std::string(who) + ": a part drew rankings " + shape_text(z.groups().total(), z.select()) +
                      " for " + std::to_string(z.groups().queries()) + " queries, asked for " +
                      std::to_string(options.samples) + " of " + std::to_string(options.select) + " documents each" +
                      (z.groups().queries() != queries ? ", for " + std::to_string(queries) + " queries" : ""));
  }
}

}  // namespace detail

/// The defensive mixture α p_first + (1 − α) p_second (Hesterberg 1995): each sample is drawn by the first proposal
/// with probability α, else by the second, and log q = log(α p_first(z) + (1 − α) p_second(z)) whoever drew it. So no
/// sample has a weight ρ = p_first(z)/q(z) above 1/α: with the selector first, weights are bounded whatever the second
/// does.
///
///     const mixture defensive(0.7, selector, fixed_order(documents));
///
/// Both draw for every sample, and score every draw: cheap beside the generator. Draws that share noise within a part
/// share it here. An incomplete ranking, impossible for both, has log q = −inf. The selector is covered if one of the
/// parts covers it. `log_kept` is not given: a mixture keeps no set. An lvalue is referred to and must outlive the
/// mixture, a temporary is kept.
template <class First, class Second>
class mixture {
  using first_type = std::remove_cvref_t<First>;
  using second_type = std::remove_cvref_t<Second>;

 public:
  using scalar_type = typename first_type::scalar_type;
  static_assert(std::is_same_v<scalar_type, typename second_type::scalar_type>,
                "dro: the parts of a mixture must have the same scalar_type");

  /// Throws option_error unless 0 < α < 1. α is met up to 2^-32.
  mixture(double alpha, First&& first, Second&& second)
      : alpha_(alpha), first_(std::forward<First>(first)), second_(std::forward<Second>(second)) {
    if (!(alpha > 0) || !(alpha < 1)) {
      throw option_error("mixture: alpha is " + std::to_string(alpha) + ", expected more than 0 and less than 1");
    }
  }

  /// Throws what the parts throw, and shape_error for a part that does not draw what it is asked for.
  template <backend B, class Queries>
  [[nodiscard]] draws<B, scalar_type> draw(B& b, const Queries& queries, const draw_options& options,
                                           const random_source& random) const {
    check_scoring_proposal<first_type, B, Queries>();
    check_scoring_proposal<second_type, B, Queries>();
    const auto a = first_.draw(b, queries, options, substream(random, 1));
    const auto c = second_.draw(b, queries, options, substream(random, 2));
    detail::require_asked(a, static_cast<index_t>(std::size(queries)), options, "mixture");
    detail::require_asked(c, static_cast<index_t>(std::size(queries)), options, "mixture");
    const auto groups = a.groups();
    const B& view = b;
    auto rankings = b.template make<document_t>(groups.total(), options.select);
    b.run(groups.total(),
          detail::choose_program{view.view(a.rankings()), view.view(c.rankings()), b.view(rankings), options.samples,
                                 substream(random, 0), static_cast<std::uint64_t>(std::ldexp(alpha_, 32))});
    // The parts score draws, and draws hold their log q: it is written once they have.
    auto log_q = b.template make<scalar_type>(groups.total(), 1);
    const auto target = b.view(log_q);
    draws<B, scalar_type> z(
        b, std::move(rankings), std::move(log_q), groups,
        {.block = std::lcm(a.traits().block, c.traits().block), .covers = a.traits().covers || c.traits().covers});
    mix(b, queries, z, target);
    return z;
  }

  /// log(α p_first(z) + (1 − α) p_second(z)) of rankings drawn by anybody, [draws × 1], nats.
  template <backend B, class Queries>
  [[nodiscard]] matrix_t<B, scalar_type> log_prob(B& b, const Queries& queries, const draws<B, scalar_type>& z) const {
    check_scoring_proposal<first_type, B, Queries>();
    check_scoring_proposal<second_type, B, Queries>();
    auto out = b.template make<scalar_type>(z.groups().total(), 1);
    mix(b, queries, z, b.view(out));
    return out;
  }

 private:
  template <class B, class Queries>
  void mix(B& b, const Queries& queries, const draws<B, scalar_type>& z, matrix_view<scalar_type> log_q) const {
    const auto p = first_.log_prob(b, queries, z);
    const auto q = second_.log_prob(b, queries, z);
    const B& view = b;
    b.run(log_q.rows,
          detail::mix_program<scalar_type>{view.view(p), view.view(q), static_cast<scalar_type>(std::log(alpha_)),
                                           static_cast<scalar_type>(std::log1p(-alpha_)), log_q});
  }

  double alpha_;
  First first_;
  Second second_;
};

template <class First, class Second>
mixture(double, First&&, Second&&) -> mixture<First, Second>;

}  // namespace dro

#endif
