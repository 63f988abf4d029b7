// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_ALLOCATION_HPP
#define DRO_EM_ALLOCATION_HPP

/// \file
/// How a fixed number of draws is shared out over the queries of a batch.

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/math/binary_format.hpp>
#include <dro/math/exp.hpp>
#include <dro/ranking/draws.hpp>

namespace dro {

struct allocation_options {
  double samples = 8;         ///< draws a query on average: the budget of a batch is this times its queries, rounded
  index_t least = 2;          ///< draws that every query gets; most objectives learn nothing from a single one
  index_t most = 32;          ///< draws that no query gets more than
  double exploration = 0.25;  ///< share of the budget for queries whose answer was hardly found, in [0, 1]
  double prior = 4;           ///< degrees of freedom of the batch's variance in that of each query, at least 0
  double memory = 0.5;        ///< how much an earlier visit counts beside the one after it, in [0, 1)
};

namespace detail {

// Columns of the statistics, sums over the visits of a query, discounted: of m − 1 and Σ (m w̄ − 1)², which make a
// variance; of 1 and of the room that is left, which make a mean.
inline constexpr index_t freedom_column = 0;
inline constexpr index_t squares_column = 1;
inline constexpr index_t visits_column = 2;
inline constexpr index_t room_column = 3;
inline constexpr index_t statistics_columns = 4;

struct allocate_program {
  matrix_view<const double> statistics;
  matrix_view<const std::int32_t> positions;  // [queries × 1]
  matrix_view<double> shares;                 // [queries × 1], workspace
  matrix_view<std::int32_t> offsets;          // [queries + 1 × 1]
  index_t total, least, most;
  double exploration, prior;

  [[nodiscard]] DRO_HOST_DEVICE double at(index_t q, index_t column) const {
    return statistics(positions(q, 0), column);
  }

  [[nodiscard]] index_t width() const { return positions.rows; }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t) const {
    const index_t queries = positions.rows;
    const auto sum = [&](auto&& f) { return team.template sum<double>(queries, f); };
    const auto ratio = [](double a, double b, double otherwise) { return b > 0 ? a / b : otherwise; };
    const auto all = [&](index_t column) { return sum([&](index_t q) { return at(q, column); }); };
    const double mean_variance = ratio(all(squares_column), all(freedom_column), 0);
    const double mean_room = ratio(all(room_column), all(visits_column), 0);
    const auto spread = [&](index_t q) {
      return std::sqrt(
          ratio(at(q, squares_column) + prior * mean_variance, at(q, freedom_column) + prior, mean_variance));
    };
    const auto room = [&](index_t q) { return ratio(at(q, room_column), at(q, visits_column), mean_room); };
    const double even = 1.0 / static_cast<double>(queries);
    const double all_spread = sum(spread);
    const double all_room = sum(room);
    team.for_each(queries, [&](index_t q) {
      const double share =
          (1 - exploration) * ratio(spread(q), all_spread, even) + exploration * ratio(room(q), all_room, even);
      // What the others leave at their caps goes to the rest evenly, not to the first of them.
      const double smallest = 1e-6 * even;
      shares(q, 0) = share > smallest ? share : smallest;
    });
    team.barrier();
    // One draw after the other would go to the query to which it is worth most, the first of several. So all go that
    // are worth more than the last one's price, and of those that are worth just that, the first.
    const double price = last_price(team);
    const index_t above = team.template sum<index_t>(queries, [&](index_t q) { return worth_more(q, price); });
    const auto is_at_price = [&](index_t q) {
      const index_t n = worth_more(q, price);
      return n < most && worth(q, n) == price;
    };
    if (team.rank() == 0) offsets(0, 0) = 0;
    team.template inclusive_scan<index_t>(
        queries, [&](index_t q) { return worth_more(q, price); },
        [&](index_t q, index_t end) { offsets(q + 1, 0) = static_cast<std::int32_t>(end); });
    team.barrier();
    team.template inclusive_scan<index_t>(
        queries, [&](index_t q) { return static_cast<index_t>(is_at_price(q)); },
        [&](index_t q, index_t tied) {
          offsets(q + 1, 0) += static_cast<std::int32_t>(tied < total - above ? tied : total - above);
        });
  }

 private:
  /// What one draw more is worth to a query that has n. Falls with n.
  [[nodiscard]] DRO_HOST_DEVICE double worth(index_t q, index_t n) const {
    const auto draws = static_cast<double>(n);
    return shares(q, 0) * shares(q, 0) / (draws * (draws + 1));
  }
  /// How many draws a query has if it gets all, from the floor to the cap, that are worth more than `price` to it.
  [[nodiscard]] DRO_HOST_DEVICE index_t worth_more(index_t q, double price) const {
    index_t low = least, high = most;
    while (low < high) {
      const index_t middle = (low + high) / 2;
      if (worth(q, middle) > price) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  /// The smallest number such that no more draws than there are in all are worth more than it: bit by bit, the bit
  /// patterns of positive numbers being in their order.
  template <class Team>
  [[nodiscard]] DRO_HOST_DEVICE double last_price(Team& team) const {
    std::uint64_t below = 0;
    for (int bit = 62; bit >= 0; --bit) {
      const std::uint64_t middle = below | std::uint64_t{1} << bit;
      const auto price = math::bit_cast<double>(middle - 1);
      const index_t draws = team.template sum<index_t>(positions.rows, [&](index_t q) { return worth_more(q, price); });
      if (draws > total) below = middle;
    }
    return math::bit_cast<double>(below);
  }
};

template <class T>
struct observe_program {
  matrix_view<double> statistics;
  matrix_view<const std::int32_t> positions;
  matrix_view<const T> effective_sample_size, log_evidence;
  matrix_view<const std::int32_t> status_of;
  grouped_view<const T> multiplicity;  // empty: 1
  grouping groups;
  double memory;

  [[nodiscard]] index_t width() const { return groups.mean_size(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t q) const {
    const auto state = static_cast<status>(status_of(q, 0));
    const bool is_impossible = state == status::impossible;
    if (!is_used(state) && !is_impossible) return;
    const auto count = [&](index_t i) { return multiplicity ? multiplicity(q, i) : T(1); };
    const double m = static_cast<double>(team.template sum<T>(groups.size(q), count));
    const double distinct =
        team.template sum<double>(groups.size(q), [&](index_t i) { return count(i) > 0 ? 1.0 : 0.0; });
    double squares = 0;
    double evidence = 0;
    if (!is_impossible) {
      const double excess = m / static_cast<double>(effective_sample_size(q, 0)) - 1;
      squares = excess > 0 ? m * excess : 0;
      const double found = math::exp(static_cast<double>(log_evidence(q, 0)));
      evidence = found < 1 ? found : 1;
    }
    if (team.rank() == 0) {
      const index_t row = positions(q, 0);
      const auto add = [&](index_t column, double value) {
        statistics(row, column) = memory * statistics(row, column) + value;
      };
      add(freedom_column, is_impossible ? 0 : m - 1);
      add(squares_column, squares);
      add(visits_column, 1);
      add(room_column, (1 - evidence) * distinct / m);
    }
  }
};

}  // namespace detail

/// Shares out the draws of a batch by what earlier visits of its queries showed. Nothing is ever read back: the
/// statistics are a matrix of the backend, and so are the numbers of draws made from them; their sum alone is known to
/// the host.
///
/// The error of a self-normalised gradient of m_q draws is about σ_q²/m_q, where σ_q² is the variance of w/E[w] (Owen
/// 2013, section 9.2, taking ∇ log p as long for one draw as for another). Σ_q σ_q²/m_q is smallest, for a given
/// Σ m_q, at m_q ∝ σ_q (Neyman 1934), which among whole numbers between a floor and a cap is reached by giving one draw
/// after the other to the query of largest σ_q²/(m_q (m_q + 1)) (Wright 2012, "The equivalence of Neyman optimum
/// allocation for sampling and equal proportions for apportioning the U.S. House of Representatives"). Here
///
///     share_q = (1 − ε) σ̂_q / Σ σ̂  +  ε u_q / Σ u                        in the place of σ_q,   ε = exploration,
///     σ̂_q²    = (Σ Σ_i (m w̄_i − 1)² + ν σ̄²) / (Σ (m − 1) + ν),          sums over visits, ν = prior,
///     u_q     = mean over visits of (1 − min(1, p̂(y|x))) · distinct/m,     p̂(y|x) = (1/m) Σ w.
///
/// Sums over visits are discounted. σ̂² is the pooled sample variance of m w̄, drawn towards that of the whole batch, σ̄²,
/// as if there had been ν + 1 draws of it more: few draws say little of a variance, and a single one nothing. Weights
/// that are all equal, because every draw hit or because none did, say that σ is small; u tells the two apart: it is
/// near 1 where the answer was not found (also where all weights were 0) and other rankings are left to be drawn, near
/// 0 where the answer is sure or the selector draws the same list again and again. A query never seen, or whose weights
/// were not usable (NaN, +inf), is taken for an average one of its batch.
///
/// Each query's number depends on earlier steps only, so given it the draws are m_q independent ones as ever, and an
/// estimator has the mean and variance that it has for that m.
template <backend B>
class sample_allocation {
 public:
  /// For a training set of `queries`. Throws option_error unless 1 ≤ least ≤ samples ≤ most, 0 ≤ exploration ≤ 1,
  /// prior ≥ 0 and 0 ≤ memory < 1.
  sample_allocation(B& b, index_t queries, const allocation_options& options = {}) : options_(options) {
    if (queries < 0) throw option_error("allocation: " + std::to_string(queries) + " queries");
    if (options.least < 1) {
      throw option_error("allocation: least is " + std::to_string(options.least) + ", expected at least 1");
    }
    if (!(options.samples >= static_cast<double>(options.least) &&
          options.samples <= static_cast<double>(options.most))) {
      throw option_error("allocation: samples is " + std::to_string(options.samples) + ", expected " +
                         std::to_string(options.least) + " (least) to " + std::to_string(options.most) + " (most)");
    }
    if (!(options.exploration >= 0 && options.exploration <= 1)) {
      throw option_error("allocation: exploration is " + std::to_string(options.exploration) + ", expected 0 to 1");
    }
    if (!(options.prior >= 0 && std::isfinite(options.prior))) {
      throw option_error("allocation: prior is " + std::to_string(options.prior) + ", expected at least 0");
    }
    if (!(options.memory >= 0 && options.memory < 1)) {
      throw option_error("allocation: memory is " + std::to_string(options.memory) + ", expected at least 0, below 1");
    }
    statistics_ = make_filled<double>(b, queries, detail::statistics_columns, 0.0);
    queries_ = queries;
  }

  [[nodiscard]] const allocation_options& options() const { return options_; }

  /// Draws of a batch of so many queries: samples · queries, rounded. Throws option_error if they cannot be numbered.
  [[nodiscard]] index_t total(index_t queries) const {
    const double sum = std::round(options_.samples * static_cast<double>(queries));
    if (sum > static_cast<double>(std::numeric_limits<std::int32_t>::max())) {
      throw option_error("allocation: " + std::to_string(sum) + " draws in a batch");
    }
    return static_cast<index_t>(sum);
  }

  /// Where the draws of each query of a batch begin, [queries + 1 × 1], from 0 to total(queries); each query has
  /// `least` to `most` of them. `positions`: the number of each query in the training set. Throws shape_error for a
  /// position out of range. Queues a write and one program of one row, 64 times O(queries log most).
  [[nodiscard]] matrix_t<B, std::int32_t> offsets(B& b, std::span<const index_t> positions) const {
    const auto queries = static_cast<index_t>(positions.size());
    const auto rows = write_positions(b, positions);
    auto shares = b.template make<double>(queries, 1);
    auto out = b.template make<std::int32_t>(queries + 1, 1);
    const B& view = b;
    b.run(1,
          detail::allocate_program{view.view(statistics_), view.view(rows), b.view(shares), b.view(out), total(queries),
                                   options_.least, options_.most, options_.exploration, options_.prior});
    return out;
  }

  /// Takes note of a visit: `z` are the draws of the queries at `positions`, which are distinct, and `weights` theirs.
  /// Throws shape_error. Queues a write and one program, O(m) a query.
  template <class T>
  void observe(B& b, std::span<const index_t> positions, const draws<B, T>& z,
               const importance_weights_result<B, T>& weights) {
    const B& view = b;
    require_queries(positions, z.groups(), "allocation");
    require_shape(view.view(weights.status), z.groups().queries(), 1, "allocation: weights");
    const auto rows = write_positions(b, positions);
    b.run(z.groups().queries(),
          detail::observe_program<T>{b.view(statistics_), view.view(rows), view.view(weights.effective_sample_size),
                                     view.view(weights.log_evidence), view.view(weights.status),
                                     detail::multiplicity_of(b, z), z.groups(), options_.memory});
  }

  /// All it knows, [queries of the training set × 4], for a checkpoint: a run whose statistics are put back allocates
  /// as if it had never stopped.
  [[nodiscard]] matrix_t<B, double>& matrix() { return statistics_; }
  [[nodiscard]] const matrix_t<B, double>& matrix() const { return statistics_; }

 private:
  [[nodiscard]] matrix_t<B, std::int32_t> write_positions(B& b, std::span<const index_t> positions) const {
    std::vector<std::int32_t> rows;
    rows.reserve(positions.size());
    for (const index_t p : positions) {
      if (p < 0 || p >= queries_) {
        throw shape_error("allocation: position " + std::to_string(p) + " in a training set of " +
                          std::to_string(queries_) + " queries");
      }
      rows.push_back(static_cast<std::int32_t>(p));
    }
    auto m = b.template make<std::int32_t>(static_cast<index_t>(rows.size()), 1);
    b.write(rows.data(), b.view(m));
    return m;
  }

  allocation_options options_;
  index_t queries_ = 0;
  matrix_t<B, double> statistics_;
};

}  // namespace dro

#endif
