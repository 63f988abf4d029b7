// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_AUTOREGRESSIVE_HPP
#define DRO_RANKING_AUTOREGRESSIVE_HPP

/// \file
/// List-wise selection, one document after the other, in which the score of a document may depend on those already
/// chosen:
///
///     p(z|x) = Π_t exp(s(z_t | z_<t, x)) / Σ_{j not in z_<t} exp(s(j | z_<t, x))

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/sampling.hpp>

namespace dro {

/// Scores the documents of one query, given the ones already chosen, on the host.
///
///     index_t document_count(const Query&) const;                                         // n
///     void scores(const Query&, std::span<const document_t> prefix, std::span<double> out) const;
///     void accumulate_score_gradient(const Query&, std::span<const document_t> prefix,
///                                    std::span<const double> d_scores, std::span<double> gradient) const;
///     std::span<double> parameters();
///
/// `scores` writes n scores in nats (those of chosen documents are not looked at; −inf: cannot be chosen).
/// `accumulate_score_gradient` adds Σ_j d_scores[j] ∂ s_j / ∂ parameters. Both are called by several threads at once.
template <class S, class Query>
concept step_scorer = requires(const S& s, S& m, const Query& query, std::span<const document_t> prefix,
                               std::span<double> out, std::span<const double> d_scores) {
  { s.document_count(query) } -> std::convertible_to<index_t>;
  s.scores(query, prefix, out);
  s.accumulate_score_gradient(query, prefix, d_scores, out);
  { m.parameters() } -> std::convertible_to<std::span<double>>;
};

namespace detail {

inline constexpr double never = -std::numeric_limits<double>::infinity();

/// Scores −inf for the documents in `prefix`, then returns log Σ exp(scores).
inline double mask_and_log_sum(std::span<double> scores, std::span<const document_t> prefix) {
  for (const document_t j : prefix) scores[static_cast<std::size_t>(j)] = never;
  const double largest = *std::max_element(scores.begin(), scores.end());
  const double shift = largest > never ? largest : 0.0;  // where nothing is possible, or the first score is NaN
  double sum = 0;
  for (const double score : scores) sum += math::exp(score - shift);
  return shift + math::log(sum);
}

/// Scores −inf for the documents that top-k and top-p cut of those that have more; returns log Σ exp of the scores that
/// stay. `log_sum` is that of all of them; where it is NaN nothing is cut. `order` is space to work in. O(n log n).
inline double truncate_scores(std::span<double> scores, double log_sum, const sampling& how,
                              std::vector<std::size_t>& order) {
  if (!(log_sum > never)) return log_sum;
  order.resize(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return scores[i] != scores[j] ? scores[i] > scores[j] : i < j; });
  const double largest = scores[order.front()];
  std::size_t limit = order.size();
  if (how.top_k > 0) limit = std::min(limit, static_cast<std::size_t>(how.top_k));
  const auto mass = [&](std::size_t place) { return math::exp(scores[order[place]] - largest); };
  double kept = 0;
  for (std::size_t place = 0; place < limit; ++place) kept += mass(place);
  if (how.top_p < 1) {
    const double enough = how.top_p * kept;
    kept = 0;
    for (std::size_t place = 0; place < limit; ++place) {
      kept += mass(place);
      if (kept >= enough) limit = place + 1;
    }
  }
  for (std::size_t place = limit; place < order.size(); ++place) scores[order[place]] = never;
  return largest + math::log(kept);
}

/// A ranking of a matrix of them as a list; empty if an entry is out of range or repeated.
inline std::vector<document_t> checked_ranking(const matrix_view<const document_t>& rankings, index_t draw,
                                               index_t documents) {
  std::vector<document_t> z(static_cast<std::size_t>(rankings.cols));
  for (index_t t = 0; t < rankings.cols; ++t) {
    const document_t j = rankings(draw, t);
    const auto end = z.begin() + t;
    if (j < 0 || j >= documents || std::find(z.begin(), end, j) != end) return {};
    *end = j;
  }
  return z;
}

}  // namespace detail

/// A ranking found by search, and its log-probability in nats.
struct scored_ranking {
  std::vector<document_t> ranking;
  double log_prob = 0;
};

/// The `width` best rankings of K documents that a beam of that width finds, best first; ties go to the smaller
/// document number. Width 1 is greedy selection. Fewer are returned where fewer are possible. Throws option_error
/// unless 1 ≤ K ≤ n and width ≥ 1. Calls `scores` at most K × width times.
template <class Query, step_scorer<Query> Scorer>
[[nodiscard]] std::vector<scored_ranking> beam_search(const Scorer& scorer, const Query& query, index_t select,
                                                      index_t width) {
  const index_t n = scorer.document_count(query);
  require_drawable({1, select}, n);
  if (width < 1) throw option_error("beam width is " + std::to_string(width) + ", expected at least 1");
  std::vector<scored_ranking> beam(1);
  std::vector<double> scores(static_cast<std::size_t>(n));
  for (index_t t = 0; t < select; ++t) {
    std::vector<scored_ranking> longer;
    for (const scored_ranking& item : beam) {
      scorer.scores(query, std::span<const document_t>(item.ranking), std::span<double>(scores));
      const double log_sum = detail::mask_and_log_sum(scores, item.ranking);
      for (std::size_t j = 0; j < scores.size(); ++j) {
        if (!(scores[j] > detail::never)) continue;
        scored_ranking next = item;
        next.ranking.push_back(static_cast<document_t>(j));
        next.log_prob += scores[j] - log_sum;
        longer.push_back(std::move(next));
      }
    }
    const auto kept = std::min<std::size_t>(longer.size(), static_cast<std::size_t>(width));
    std::partial_sort(longer.begin(), longer.begin() + static_cast<std::ptrdiff_t>(kept), longer.end(),
                      [](const scored_ranking& a, const scored_ranking& b) {
                        return a.log_prob != b.log_prob ? a.log_prob > b.log_prob : a.ranking < b.ranking;
                      });
    longer.resize(kept);
    beam = std::move(longer);
  }
  return beam;
}

/// The ranking in which each pick is the best one given those before it; empty if fewer than K documents are possible.
template <class Query, step_scorer<Query> Scorer>
[[nodiscard]] std::vector<document_t> greedy_ranking(const Scorer& scorer, const Query& query, index_t select) {
  auto best = beam_search(scorer, query, select, 1);
  return best.empty() ? std::vector<document_t>{} : std::move(best.front().ranking);
}

/// Makes a `dro::selector` of a step_scorer, for backends that run on the host. `Queries` is a view, cheap to copy,
/// with size() and operator[](index_t) that gives what the scorer takes. The scorer is owned and must stay where it is
/// while work is queued on a backend.
template <class Scorer>
class autoregressive_selector {
 public:
  using scalar_type = double;

  explicit autoregressive_selector(Scorer scorer)
      : scorer_(std::move(scorer)), gradient_(scorer_.parameters().size(), 0.0) {}

  [[nodiscard]] Scorer& scorer() { return scorer_; }
  [[nodiscard]] const Scorer& scorer() const { return scorer_; }

  /// Rankings by Gumbel-max at each pick, over what `how` leaves it. log q = log p(z|x), or that of the distribution
  /// `how` makes of it. Throws option_error if a query has fewer than K documents, or for options that `sampling` does
  /// not take. O(m K n) noise and scores a query, and where `how` truncates as many sorts of n.
  template <host_executed B, class Queries>
  [[nodiscard]] draws<B, double> draw(B& b, const Queries& queries, const draw_options& options,
                                      const random_source& random, const sampling& how = {}) const {
    const auto count = static_cast<index_t>(std::size(queries));
    for (index_t q = 0; q < count; ++q) require_drawable(options, scorer_.document_count(queries[q]));
    require_sampling(how);
    require_joint_noise(how.noise, options.samples);
    const auto groups = grouping::uniform(count, options.samples);
    auto rankings = b.template make<document_t>(groups.total(), options.select);
    auto log_prob = b.template make<double>(groups.total(), 1);
    auto log_kept = b.template make<double>(groups.total(), 1);
    b.run(count,
          [this, queries, options, random, how, z = b.view(rankings), p = b.view(log_prob), kept = b.view(log_kept)](
              auto&, index_t q) { draw_query(queries[q], q, options.samples, random.key(), how, z, p, kept); });
    draws<B, double> drawn(b, std::move(rankings), std::move(log_prob), groups, how.traits());
    if (how.truncates()) drawn.set_log_kept(b, std::move(log_kept));
    return drawn;
  }

  /// log p(z|x) of each draw, [draws × 1], nats; −inf for what is not a ranking. With `how` it is log q of rankings
  /// drawn with it, −inf for those that it does not draw; its noise has no say.
  template <host_executed B, class Queries>
  [[nodiscard]] matrix_t<B, double> log_prob(B& b, const Queries& queries, const draws<B, double>& z,
                                             const sampling& how = {}) const {
    const grouping groups = z.groups();
    require_queries(queries, groups, "autoregressive_selector");
    require_sampling(how);
    auto out = b.template make<double>(groups.total(), 1);
    b.run(groups.queries(),
          [this, queries, groups, how, rankings = b.view(z.rankings()), p = b.view(out)](auto&, index_t q) {
            std::vector<std::size_t> order;
            for (index_t i = 0; i < groups.size(q); ++i) {
              const index_t draw = groups.begin(q) + i;
              double total = 0;
              const auto add = [&](auto, std::span<double> scores, double log_sum, document_t pick) {
                if (how.truncates()) log_sum = detail::truncate_scores(scores, log_sum, how, order);
                const double score = scores[static_cast<std::size_t>(pick)];
                total += score == detail::never ? detail::never : score - log_sum;
              };
              p(draw, 0) = this->walk(queries[q], rankings, draw, add, how.temperature) ? total : detail::never;
            }
          });
    return out;
  }

  /// Adds Σ_i c_i ∇ log p(z_i|x) to the gradient. The sum over queries is made in their order, whatever the threads.
  template <host_executed B, class Queries>
  void accumulate_gradient(B& b, const Queries& queries, const draws<B, double>& z,
                           const matrix_t<B, double>& coefficients) {
    const grouping groups = z.groups();
    require_queries(queries, groups, "autoregressive_selector");
    const grouped_view<const double> c(b.view(coefficients), groups, "accumulate_gradient: coefficients");
    accumulate_by_query(
        b, groups.queries(),
        [this, queries, groups, c, rankings = b.view(z.rankings())](index_t q, std::span<double> gradient) {
          for (index_t i = 0; i < groups.size(q); ++i) {
            const double coefficient = c(q, i);
            if (coefficient == 0) continue;
            walk(queries[q], rankings, groups.begin(q) + i,
                 [&](std::span<const document_t> prefix, std::span<double> scores, double log_sum, document_t pick) {
                   for (double& score : scores) score = -coefficient * math::exp(score - log_sum);
                   scores[static_cast<std::size_t>(pick)] += coefficient;
                   scorer_.accumulate_score_gradient(queries[q], prefix, scores, gradient);
                 });
          }
        });
  }

  /// Scores before anything is chosen, [queries × documents]; −inf beyond a query's own documents. With a scorer that
  /// ignores the prefix this is all there is to the distribution (see scored_selector).
  template <host_executed B, class Queries>
  [[nodiscard]] matrix_t<B, double> scores(B& b, const Queries& queries) const {
    const auto count = static_cast<index_t>(std::size(queries));
    index_t documents = 0;
    for (index_t q = 0; q < count; ++q) documents = std::max(documents, scorer_.document_count(queries[q]));
    auto out = b.template make<double>(count, documents);
    b.run(count, [this, queries, s = b.view(out)](auto&, index_t q) {
      std::vector<double> row(static_cast<std::size_t>(scorer_.document_count(queries[q])));
      scorer_.scores(queries[q], {}, row);
      row.resize(static_cast<std::size_t>(s.cols), detail::never);
      for (index_t j = 0; j < s.cols; ++j) s(q, j) = row[static_cast<std::size_t>(j)];
    });
    return out;
  }

  /// Adds Σ_qj d_scores(q, j) ∂ s_qj / ∂ parameters, for scores before anything is chosen, [queries × documents].
  template <host_executed B, class Queries>
  void accumulate_score_gradient(B& b, const Queries& queries, const matrix_t<B, double>& d_scores) {
    const auto count = static_cast<index_t>(std::size(queries));
    index_t documents = 0;
    for (index_t q = 0; q < count; ++q) documents = std::max(documents, scorer_.document_count(queries[q]));
    require_shape(b.view(d_scores), count, documents, "accumulate_score_gradient: d_scores");
    accumulate_by_query(b, count, [this, queries, d = b.view(d_scores)](index_t q, std::span<double> gradient) {
      std::vector<double> row(static_cast<std::size_t>(scorer_.document_count(queries[q])));
      for (std::size_t j = 0; j < row.size(); ++j) row[j] = d(q, static_cast<index_t>(j));
      scorer_.accumulate_score_gradient(queries[q], {}, row, gradient);
    });
  }

  template <class F>
  void for_each_parameter(F&& f) {
    const std::span<double> values = scorer_.parameters();
    const auto count = static_cast<index_t>(values.size());
    f(row_major_view(values.data(), 1, count), row_major_view(gradient_.data(), 1, count));
  }

 private:
  // Noise for pick t of document j is word j of the stream that starts at block t ⌈n/4⌉ of the (query, sample).
  static void add_noise(std::span<double> scores, std::vector<std::uint32_t>& words, const noise_source& source,
                        index_t t) {
    const std::size_t blocks = (scores.size() + 3) / 4;
    words.resize(4 * blocks);
    for (std::size_t block = 0; block < blocks; ++block) {
      const random_words four = source.words(static_cast<std::uint32_t>(static_cast<std::size_t>(t) * blocks + block));
      for (std::uint32_t k = 0; k < 4; ++k) words[4 * block + k] = four[k];
    }
    for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += noise::gumbel<double>(words[j]);
  }

  static void temper(std::span<double> scores, double temperature) {
    if (temperature == 1) return;
    for (double& score : scores) score /= temperature;
  }

  template <class Query>
  void draw_query(const Query& query, index_t q, index_t samples, const random_key& key, const sampling& how,
                  const matrix_view<document_t>& rankings, const matrix_view<double>& log_prob,
                  const matrix_view<double>& log_kept) const {
    const auto n = static_cast<std::size_t>(scorer_.document_count(query));
    std::vector<double> first(n);
    std::vector<double> scores(n);
    std::vector<double> keys(n);
    std::vector<std::uint32_t> words;
    std::vector<std::size_t> order;
    std::vector<document_t> prefix;
    scorer_.scores(query, {}, first);
    for (index_t sample = 0; sample < samples; ++sample) {
      const index_t draw = q * samples + sample;
      const noise_source source{key, static_cast<std::uint32_t>(q), static_cast<std::uint32_t>(sample), how.noise};
      prefix.clear();
      double total = 0;
      double kept = 0;
      for (index_t t = 0; t < rankings.cols; ++t) {
        if (t == 0) {
          scores = first;
        } else {
          scorer_.scores(query, prefix, scores);
        }
        temper(scores, how.temperature);
        double log_sum = detail::mask_and_log_sum(scores, prefix);
        if (how.truncates()) {
          const double all = log_sum;
          log_sum = detail::truncate_scores(scores, all, how, order);
          kept += log_sum == all ? 0 : log_sum - all;
        }
        keys = scores;
        add_noise(keys, words, source, t);
        const auto best = static_cast<std::size_t>(std::max_element(keys.begin(), keys.end()) - keys.begin());
        if (!(keys[best] > detail::never)) {
          for (index_t u = t; u < rankings.cols; ++u) rankings(draw, u) = no_document;
          total = log_sum == detail::never ? detail::never : std::numeric_limits<double>::quiet_NaN();
          break;
        }
        rankings(draw, t) = static_cast<document_t>(best);
        total += scores[best] - log_sum;
        prefix.push_back(static_cast<document_t>(best));
      }
      log_prob(draw, 0) = total;
      log_kept(draw, 0) = kept;
    }
  }

  // Calls step(prefix, masked scores / τ, log-sum, pick) for each pick of a ranking; false if it is not a ranking.
  template <class Query, class Step>
  bool walk(const Query& query, const matrix_view<const document_t>& rankings, index_t draw, Step&& step,
            double temperature = 1) const {
    const index_t n = scorer_.document_count(query);
    const std::vector<document_t> z = detail::checked_ranking(rankings, draw, n);
    if (z.empty()) return false;
    std::vector<double> scores(static_cast<std::size_t>(n));
    for (std::size_t t = 0; t < z.size(); ++t) {
      const std::span<const document_t> prefix(z.data(), t);
      scorer_.scores(query, prefix, scores);
      temper(scores, temperature);
      const double log_sum = detail::mask_and_log_sum(scores, prefix);
      step(prefix, std::span<double>(scores), log_sum, z[t]);
    }
    return true;
  }

  template <class B, class F>
  void accumulate_by_query(B& b, index_t queries, F&& f) {
    const auto parameters = static_cast<index_t>(gradient_.size());
    auto partial = b.template make<double>(parameters, queries);
    b.run(queries, [f = std::forward<F>(f), parameters, p = b.view(partial)](auto&, index_t q) {
      std::vector<double> own(static_cast<std::size_t>(parameters), 0.0);
      f(q, std::span<double>(own));
      for (index_t k = 0; k < parameters; ++k) p(k, q) = own[static_cast<std::size_t>(k)];
    });
    b.run(parameters, [p = b.view(partial), total = gradient_.data()](auto& team, index_t k) {
      total[k] += team.template sum<double>(p.cols, [&](index_t q) { return p(k, q); });
    });
  }

  Scorer scorer_;
  std::vector<double> gradient_;
};

}  // namespace dro

#endif
