// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODEL_PROPOSALS_SEVERAL_HPP
#define DRO_MODEL_PROPOSALS_SEVERAL_HPP

/// \file
/// Several proposals at once, each with samples of its own: multiple importance sampling.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/proposals/mixture.hpp>
#include <dro/random/random_state.hpp>
#include <dro/random/substream.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

/// How a sample is shared among the proposals that could have drawn it.
enum class heuristic : std::uint8_t {
  balance,  ///< proposal k's share of z is m_k q_k(z) / Σ_j m_j q_j(z)
  power     ///< the same with squares: lower variance where one proposal fits much better than the others
};

namespace detail {

/// Copies the draws of one proposal to where they stand among all: the query's samples are blocks of `block`, of which
/// `part` from `offset` on belong to this proposal.
struct interleave_program {
  matrix_view<const document_t> own;
  matrix_view<document_t> all;
  index_t own_samples, all_samples, block, offset, part;

  [[nodiscard]] index_t width() const { return all.cols; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    const index_t query = draw / own_samples;
    const index_t sample = draw % own_samples;
    const index_t target = query * all_samples + sample / part * block + offset + sample % part;
    team.for_each(all.cols, [&](index_t t) { all(target, t) = own(draw, t); });
  }
};

template <class T, std::size_t Count>
struct share_program {
  static constexpr T never = -std::numeric_limits<T>::infinity();

  matrix_view<const T> log_q[Count];
  T log_samples[Count];  // log m_k
  index_t end[Count];    // of proposal k's places in a block
  index_t block;
  T exponent;   // β
  T log_total;  // log m
  matrix_view<T> effective;

  [[nodiscard]] index_t width() const { return 1; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t draw) const {
    if (team.rank() != 0) return;
    std::size_t owner = 0;
    while (draw % block >= end[owner]) ++owner;
    T sum = never;
    for (std::size_t k = 0; k < Count; ++k) {
      sum = math::log_add_exp(sum, exponent * (log_samples[k] + log_q[k](draw, 0)));
    }
    const T own = log_samples[owner] + log_q[owner](draw, 0);
    // β = 1 and own = −inf would give 0 · inf; a sample that its own proposal calls impossible is incomplete.
    effective(draw, 0) = own == never ? never : sum + (T(1) - exponent) * own - log_total;
  }
};

}  // namespace detail

/// Multiple importance sampling (Veach & Guibas 1995): proposal k draws m_k of a query's m samples, and every proposal
/// scores every sample. `log_proposal` of a draw z of proposal k is the effective
///
///     log q(z) = log q_k(z) + log(m_k/m) − log h_k(z),   h_k the proposal's share of z: see `heuristic`
///
/// with which (1/m) Σ_i f(z_i)/q(z_i) over all samples has mean Σ_z f(z), as if one proposal had drawn them all, if
/// wherever f ≠ 0 some q_k > 0. With the balance heuristic q is the density Σ_k (m_k/m) q_k whoever drew.
///
///     const several proposals(heuristic::balance, {6, 2}, selector, fixed_order(documents));   // m = 8
///
/// Samples of different proposals have different distributions, so a single one has no mean to be held against the
/// others: it is the blocks that are alike. The samples of a query are therefore laid out as g = gcd(m_k) blocks (less
/// where the parts' samples depend on each other), each with m_k/g samples of each proposal in turn, and
/// `draw_traits::block` is m/g: with {6, 2} two blocks of four, with {5, 2} one.
/// An lvalue is referred to and must outlive this, a temporary is kept.
template <class... Proposals>
class several {
  static constexpr std::size_t count = sizeof...(Proposals);
  static_assert(count > 0, "dro: several needs at least one proposal");

 public:
  using scalar_type = typename std::tuple_element_t<0, std::tuple<std::remove_cvref_t<Proposals>...>>::scalar_type;
  static_assert((std::is_same_v<scalar_type, typename std::remove_cvref_t<Proposals>::scalar_type> && ...),
                "dro: proposals drawn from together must have the same scalar_type");

  /// `samples`: m_k, in the order of the proposals. Throws option_error unless each is at least 1.
  several(heuristic share, const std::array<index_t, count>& samples, Proposals&&... proposals)
      : share_(share), samples_(samples), proposals_(std::forward<Proposals>(proposals)...) {
    for (const index_t m : samples_) {
      if (m < 1) {
        throw option_error("several: samples of a proposal are " + std::to_string(m) + ", expected at least 1");
      }
    }
  }

  /// Σ m_k, the samples that `draw` must be asked for.
  [[nodiscard]] index_t samples() const { return std::accumulate(samples_.begin(), samples_.end(), index_t{0}); }

  /// Throws option_error unless samples = Σ m_k, what the proposals throw, and shape_error for one that does not draw
  /// what it is asked for. Reads nothing back. Cost: each proposal draws its samples and scores all m.
  template <backend B, class Queries>
  [[nodiscard]] draws<B, scalar_type> draw(B& b, const Queries& queries, const draw_options& options,
                                           const random_source& random) const {
    (check_scoring_proposal<std::remove_cvref_t<Proposals>, B, Queries>(), ...);
    if (options.samples != samples()) {
      throw option_error("several: samples is " + std::to_string(options.samples) + ", expected " +
                         std::to_string(samples()) + ", the sum over the proposals");
    }
    return draw_all(b, queries, options.select, random, std::make_index_sequence<count>());
  }

 private:
  template <class B, class Queries, std::size_t... K>
  draws<B, scalar_type> draw_all(B& b, const Queries& queries, index_t select, const random_source& random,
                                 std::index_sequence<K...>) const {
    const B& view = b;
    const index_t total = samples();
    const draws<B, scalar_type> own[] = {
        std::get<K>(proposals_).draw(b, queries, {samples_[K], select}, substream(random, K))...};
    index_t blocks = 0;
    bool covers = false;
    for (std::size_t k = 0; k < count; ++k) {
      detail::require_asked(own[k], static_cast<index_t>(std::size(queries)), {samples_[k], select}, "several");
      blocks = std::gcd(blocks, samples_[k] / own[k].traits().block);
      covers = covers || own[k].traits().covers;
    }
    const auto groups = grouping::uniform(static_cast<index_t>(std::size(queries)), total);
    auto rankings = b.template make<document_t>(groups.total(), select);
    detail::share_program<scalar_type, count> program{};
    program.block = total / blocks;
    program.exponent = share_ == heuristic::power ? scalar_type(2) : scalar_type(1);
    program.log_total = static_cast<scalar_type>(std::log(static_cast<double>(total)));
    index_t offset = 0;
    for (std::size_t k = 0; k < count; ++k) {
      const index_t width = samples_[k] / blocks;
      b.run(own[k].groups().total(), detail::interleave_program{view.view(own[k].rankings()), b.view(rankings),
                                                                samples_[k], total, program.block, offset, width});
      offset += width;
      program.end[k] = offset;
      program.log_samples[k] = static_cast<scalar_type>(std::log(static_cast<double>(samples_[k])));
    }
    // The proposals score draws, and draws hold their log q: it is written once they have.
    auto effective = b.template make<scalar_type>(groups.total(), 1);
    program.effective = b.view(effective);
    draws<B, scalar_type> z(b, std::move(rankings), std::move(effective), groups,
                            {.block = program.block, .covers = covers});
    const matrix_t<B, scalar_type> log_q[] = {std::get<K>(proposals_).log_prob(b, queries, z)...};
    for (std::size_t k = 0; k < count; ++k) {
      program.log_q[k] = view.view(log_q[k]);
      require_shape(program.log_q[k], groups.total(), 1, "several: log_prob of a part");
    }
    b.run(groups.total(), program);
    return z;
  }

  heuristic share_;
  std::array<index_t, count> samples_;
  std::tuple<Proposals...> proposals_;
};

template <class... Proposals>
several(heuristic, const std::array<index_t, sizeof...(Proposals)>&, Proposals&&...) -> several<Proposals...>;

}  // namespace dro

#endif
