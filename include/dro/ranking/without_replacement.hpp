// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_RANKING_WITHOUT_REPLACEMENT_HPP
#define DRO_RANKING_WITHOUT_REPLACEMENT_HPP

/// \file
/// m different rankings of each query, drawn without replacement from all rankings of K documents: stochastic beam
/// search (Kool, van Hoof & Welling 2019, "Stochastic beams and where to find them").
///
/// Give every ranking z the key log p(z) + Gumbel noise; the m largest keys are m draws without replacement. The
/// largest key below a prefix is itself Gumbel distributed around the log-probability of the prefix, so the tree of
/// prefixes is searched from its root: the largest key below a node is handed on to its children, whose own largest
/// keys are drawn so that their maximum is just that, and only the m + 1 best prefixes of each length are kept.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/backend/team.hpp>
#include <dro/config.hpp>
#include <dro/math/exp.hpp>
#include <dro/math/log.hpp>
#include <dro/math/log_sum_exp.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>

namespace dro {

/// Different rankings of each query, best key first, with what estimators need to know of how they were drawn.
template <backend B, class T>
struct without_replacement_draws {
  /// The rankings. log q is log q_κ(z) − log m with q_κ(z) = 1 − exp(−exp(log p(z) − κ)), the probability that the key
  /// of z exceeds κ, the (m + 1)-th largest key (1 where there are no more than m rankings). With it the importance
  /// weighted mean (1/m) Σ p f / q is the unbiased estimator Σ p f / q_κ of Kool et al. 2019 (after Vieira 2017).
  draws<B, T> z;
  matrix_t<B, T> log_prob;       ///< log p(z|x) of each draw, [draws × 1], nats
  matrix_t<B, T> log_unsampled;  ///< log of the mass of all other rankings, [queries × 1], nats; −inf if there is none
};

namespace detail {

/// log(1 − e^{−x}) for x ≥ 0, off by a few ulp for small x as for large: 0 gives −inf, +inf gives 0.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE T log_one_minus_exp(T x) {
  const T u = math::exp(-x);
  if (u < T(0.5)) return math::log1p(-u);
  // (1 − u) / −log u hardly changes with the rounding error of u, and 1 − e^{−x} = x times it (Kahan).
  return math::log(u == T(1) ? x : x * ((u - T(1)) / math::log(u)));
}

/// log q_κ = log(1 − exp(−exp(x))), x = log p − κ: x itself for x far below 0, and 0 for x far above.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE T log_inclusion(T x) {
  const T rate = math::exp(x);
  return x < T(-20) ? x - rate / T(2) : log_one_minus_exp(rate);
}

/// A key drawn as one of several whose largest was `largest`, moved so that it is one of several whose largest is
/// `target`: −log(e^{−target} − e^{−largest} + e^{−key}), in the stable form of Kool et al. 2019. The order of keys
/// stays.
template <class T>
[[nodiscard]] DRO_HOST_DEVICE T key_given_largest(T key, T largest, T target) {
  const T v = target - key + log_one_minus_exp(largest - key);
  return target - (v > T(0) ? v : T(0)) - math::log1p(math::exp(v > T(0) ? -v : v));
}

/// log Σ exp(x_j), j < n, of numbers that the whole team sees. −inf for none, NaN if one is NaN or +inf.
template <class T, class Team>
[[nodiscard]] DRO_HOST_DEVICE T log_total(Team& team, index_t n, const T* x) {
  const T largest = team.max(n, minus_infinity<T>, [&](index_t j) { return x[j]; });
  const T shift = largest > minus_infinity<T> ? largest : T(0);
  return shift + math::log(team.template sum<T>(n, [&](index_t j) { return math::exp(x[j] - shift); }));
}

/// What can follow a prefix under Plackett–Luce scores [queries × n].
template <class T>
struct plackett_luce_children {
  matrix_view<const T> scores;

  [[nodiscard]] DRO_HOST_DEVICE index_t most_documents() const { return scores.cols; }
  [[nodiscard]] DRO_HOST_DEVICE index_t documents(index_t) const { return scores.cols; }

  /// Writes log p(j | prefix) of each document and returns log Σ exp(score) of what is left to choose from.
  template <class Team>
  DRO_HOST_DEVICE T operator()(Team& team, index_t query, const document_t* prefix, index_t length, T* log_p) const {
    team.for_each(scores.cols, [&](index_t j) { log_p[j] = scores(query, j); });
    team.barrier();
    team.for_each(length, [&](index_t u) { log_p[prefix[u]] = minus_infinity<T>; });
    team.barrier();
    const T mass = log_total(team, scores.cols, log_p);
    team.barrier();
    team.for_each(scores.cols, [&](index_t j) { log_p[j] -= mass; });
    team.barrier();
    return mass;
  }
};

/// The same under a step_scorer, on the host.
template <class Scorer, class Queries>
struct step_scorer_children {
  const Scorer* scorer;
  Queries queries;
  index_t most;

  [[nodiscard]] index_t most_documents() const { return most; }
  [[nodiscard]] index_t documents(index_t query) const { return scorer->document_count(queries[query]); }

  template <class Team>
  double operator()(Team&, index_t query, const document_t* prefix, index_t length, double* log_p) const {
    const std::span<double> scores(log_p, static_cast<std::size_t>(documents(query)));
    const std::span<const document_t> chosen(prefix, static_cast<std::size_t>(length));
    scorer->scores(queries[query], chosen, scores);
    const double mass = mask_and_log_sum(scores, chosen);
    for (double& score : scores) score -= mass;
    return mass;
  }
};

/// The best prefixes of one length, best key first, and where they came from.
template <class T>
struct beam_level {
  T* key;                ///< largest key of a ranking that begins so
  T* log_prob;           ///< log of the mass of all rankings that begin so
  document_t* prefix;    ///< [slots × K]; no_document from where nothing was left to choose
  std::int32_t* parent;  ///< slot of the prefix without its last document
  index_t size = 0;      ///< slots in use
};

/// The search for the `width` largest keys of one query. Everything lies in the team's scratch; members that are no
/// pointers are the same in each of its threads.
template <class T, class Team, class Children>
class stochastic_beam {
 public:
  // log p and key of the children of one prefix, [n] each; two levels.
  static std::size_t scratch_bytes(index_t documents, index_t width, index_t select) {
    const auto slots = static_cast<std::size_t>(2 * width);
    return sizeof(T) * 2 * (static_cast<std::size_t>(documents) + slots) +
           slots * (sizeof(document_t) * static_cast<std::size_t>(select) + sizeof(std::int32_t));
  }

  DRO_HOST_DEVICE stochastic_beam(Team& team, const Children& children, const random_key& random, index_t query,
                                  index_t width, index_t select)
      : team_(team),
        children_(children),
        random_(random),
        query_(query),
        width_(width),
        select_(select),
        documents_(children.documents(query)),
        log_p_(team.template scratch<T>()),
        key_(log_p_ + documents_) {
    T* numbers = key_ + documents_;
    auto* prefixes = reinterpret_cast<document_t*>(numbers + 4 * width);
    auto* parents = reinterpret_cast<std::int32_t*>(prefixes + 2 * width * select);
    now_ = {numbers, numbers + width, prefixes, parents};
    next_ = {numbers + 2 * width, numbers + 3 * width, prefixes + width * select, parents + width};
    if (team.rank() == 0) now_.key[0] = now_.log_prob[0] = T(0);
    now_.size = 1;
    team.barrier();
  }

  /// Makes all prefixes longer by one document and keeps the best.
  DRO_HOST_DEVICE void extend() {
    next_.size = 0;
    for (index_t slot = 0; slot < now_.size; ++slot) {
      if (length_ > 0 && last(now_, slot, length_) == no_document) {
        keep_incomplete(slot, now_.log_prob[slot]);
      } else {
        offer_children(slot);
      }
    }
    team_.for_each(next_.size * length_, [&](index_t k) {
      const index_t slot = k / length_;
      const index_t u = k % length_;
      next_.prefix[slot * select_ + u] = now_.prefix[next_.parent[slot] * select_ + u];
    });
    team_.barrier();
    const beam_level<T> free = now_;
    now_ = next_;
    next_ = free;
    ++length_;
  }

  [[nodiscard]] DRO_HOST_DEVICE index_t size() const { return now_.size; }
  [[nodiscard]] DRO_HOST_DEVICE T key(index_t slot) const { return now_.key[slot]; }
  [[nodiscard]] DRO_HOST_DEVICE T log_prob(index_t slot) const { return now_.log_prob[slot]; }
  [[nodiscard]] DRO_HOST_DEVICE const document_t* prefix(index_t slot) const { return now_.prefix + slot * select_; }
  [[nodiscard]] DRO_HOST_DEVICE bool is_complete(index_t slot) const {
    return last(now_, slot, length_) != no_document;
  }
  /// log of the mass of all rankings below the prefixes that were not kept.
  [[nodiscard]] DRO_HOST_DEVICE T log_pruned() const { return log_pruned_; }

 private:
  /// Last document of a prefix of `length`.
  [[nodiscard]] DRO_HOST_DEVICE document_t& last(const beam_level<T>& level, index_t slot, index_t length) const {
    return level.prefix[slot * select_ + length - 1];
  }

  /// Offers what can follow the prefix in `slot` to the next level.
  DRO_HOST_DEVICE void offer_children(index_t slot) {
    const index_t n = documents_;
    const T own = now_.log_prob[slot];
    const T mass = children_(team_, query_, now_.prefix + slot * select_, length_, log_p_);
    const noise_source source{random_, static_cast<std::uint32_t>(query_), static_cast<std::uint32_t>(slot)};
    const index_t blocks = (n + 3) / 4;
    team_.for_each(blocks, [&](index_t block) {
      const random_words four = source.words(static_cast<std::uint32_t>(length_ * blocks + block));
      for (index_t j = 4 * block; j < n && j < 4 * block + 4; ++j) {
        log_p_[j] += own;
        key_[j] = log_p_[j] + noise::gumbel<T>(four[static_cast<std::size_t>(j % 4)]);
      }
    });
    team_.barrier();
    const T largest = team_.max(n, minus_infinity<T>, [&](index_t j) { return key_[j]; });
    if (!(largest > minus_infinity<T>)) {
      keep_incomplete(slot, mass == minus_infinity<T> ? own : std::numeric_limits<T>::quiet_NaN());
      return;
    }
    while (true) {
      const index_t best = team_.arg_max(n, minus_infinity<T>, [&](index_t j) { return key_[j]; });
      if (best == n) break;
      // The root's largest key is free: its children's keys stay as they were drawn.
      const T moved = length_ > 0 ? key_given_largest(key_[best], largest, now_.key[slot]) : key_[best];
      if (!(moved > bar())) break;
      insert(moved, log_p_[best], slot, static_cast<document_t>(best));
      if (team_.rank() == 0) key_[best] = log_p_[best] = minus_infinity<T>;
      team_.barrier();
    }
    log_pruned_ = math::log_add_exp(log_pruned_, log_total(team_, n, log_p_));
    team_.barrier();
  }

  /// A prefix that nothing can follow keeps its place, as a ranking that could not be completed.
  DRO_HOST_DEVICE void keep_incomplete(index_t slot, T log_prob_of_prefix) {
    if (next_.size < width_ || now_.key[slot] > bar()) {
      insert(now_.key[slot], log_prob_of_prefix, slot, no_document);
    } else {
      log_pruned_ = math::log_add_exp(log_pruned_, log_prob_of_prefix);
    }
  }

  /// What a key has to exceed to get into the next level.
  [[nodiscard]] DRO_HOST_DEVICE T bar() const {
    return next_.size < width_ ? minus_infinity<T> : next_.key[width_ - 1];
  }

  /// Puts a child in its place in the next level, after keys that are equal; what falls out at the end is pruned.
  DRO_HOST_DEVICE void insert(T key_of_child, T log_prob_of_child, index_t parent, document_t pick) {
    if (next_.size == width_) {
      log_pruned_ = math::log_add_exp(log_pruned_, next_.log_prob[width_ - 1]);
    } else {
      ++next_.size;
    }
    team_.barrier();
    if (team_.rank() == 0) {
      index_t place = next_.size - 1;
      for (; place > 0 && next_.key[place - 1] < key_of_child; --place) {
        next_.key[place] = next_.key[place - 1];
        next_.log_prob[place] = next_.log_prob[place - 1];
        next_.parent[place] = next_.parent[place - 1];
        last(next_, place, length_ + 1) = last(next_, place - 1, length_ + 1);
      }
      next_.key[place] = key_of_child;
      next_.log_prob[place] = log_prob_of_child;
      next_.parent[place] = static_cast<std::int32_t>(parent);
      last(next_, place, length_ + 1) = pick;
    }
    team_.barrier();
  }

  Team& team_;
  const Children& children_;
  random_key random_;
  index_t query_, width_, select_, documents_;
  index_t length_ = 0;
  T* log_p_;
  T* key_;
  beam_level<T> now_, next_;
  T log_pruned_ = minus_infinity<T>;
};

template <class T, class Children>
struct without_replacement_program {
  Children children;
  matrix_view<document_t> rankings;
  matrix_view<T> log_prob, log_proposal, log_unsampled;
  index_t samples;
  random_source random;

  std::size_t scratch_bytes() const {
    return stochastic_beam<T, host_team, Children>::scratch_bytes(children.most_documents(), samples + 1,
                                                                  rankings.cols);
  }

  [[nodiscard]] index_t width() const { return children.most_documents(); }

  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t query) const {
    // One more than is drawn: its key is the threshold of the others.
    stochastic_beam<T, Team, Children> beam(team, children, random.key(), query, samples + 1, rankings.cols);
    for (index_t t = 0; t < rankings.cols; ++t) beam.extend();

    const T threshold = beam.size() > samples ? beam.key(samples) : minus_infinity<T>;
    T unsampled = beam.log_pruned();
    for (index_t i = 0; i < beam.size(); ++i) {
      if (i == samples || !beam.is_complete(i)) unsampled = math::log_add_exp(unsampled, beam.log_prob(i));
    }
    if (team.rank() == 0) log_unsampled(query, 0) = unsampled;
    const T log_samples = math::log(static_cast<T>(samples));
    team.for_each(samples, [&](index_t i) {
      const index_t draw = query * samples + i;
      const bool exists = i < beam.size();
      for (index_t u = 0; u < rankings.cols; ++u) rankings(draw, u) = exists ? beam.prefix(i)[u] : no_document;
      const T p = exists ? beam.log_prob(i) : minus_infinity<T>;
      if (exists && beam.is_complete(i)) {
        log_prob(draw, 0) = p;
        log_proposal(draw, 0) = log_inclusion(p - threshold) - log_samples;
      } else {
        log_prob(draw, 0) = log_proposal(draw, 0) = p == p ? minus_infinity<T> : p;
      }
    });
  }
};

template <class T, backend B, class Children>
[[nodiscard]] without_replacement_draws<B, T> draw_without_replacement(B& b, index_t queries, Children children,
                                                                       const random_source& random,
                                                                       const draw_options& options) {
  const auto groups = grouping::uniform(queries, options.samples);
  auto rankings = b.template make<document_t>(groups.total(), options.select);
  auto log_prob = b.template make<T>(groups.total(), 1);
  auto log_proposal = b.template make<T>(groups.total(), 1);
  auto log_unsampled = b.template make<T>(queries, 1);
  b.run(queries,
        without_replacement_program<T, Children>{std::move(children), b.view(rankings), b.view(log_prob),
                                                 b.view(log_proposal), b.view(log_unsampled), options.samples, random});
  return {draws<B, T>(b, std::move(rankings), std::move(log_proposal), groups, draw_traits{options.samples, true}),
          std::move(log_prob), std::move(log_unsampled)};
}

}  // namespace detail

/// Draws `options.samples` different rankings for each query without replacement from Plackett–Luce with `scores`
/// [queries × documents], in nats, by stochastic beam search. The draws of a query are one block: none is independent
/// of another.
///
/// The noise of document j after the prefix in slot i of the beam (slots by falling key) of length t is word j of the
/// stream that begins at block t ⌈n/4⌉ of (query, sample i). Beyond the first pick keys are computed in floating point:
/// rankings are reproducible within a backend.
///
/// Where there are fewer than m rankings the rest of the draws holds no_document, with log p = log q = −inf, and so do
/// rankings that could not be completed, if fewer than K documents are possible; their mass counts as not sampled. A
/// score of NaN or +inf gives NaN. The mass not sampled is summed over the branches that were left, never as 1 − Σp: it
/// keeps its relative precision for a peaked selector.
/// Throws option_error if samples or K do not fit. Queues one program: O(K m (n exp + n noise)) a query, and about
/// K m log m searches for the largest of n keys.
template <backend B, viewable<B> M>
[[nodiscard]] auto draw_without_replacement(B& b, const M& scores, const random_source& random,
                                            const draw_options& options) {
  using T = element_t<B, M>;
  const matrix_view<const T> s = detail::view_of(b, scores);
  require_drawable(options, s.cols);
  return detail::draw_without_replacement<T>(b, s.rows, detail::plackett_luce_children<T>{s}, random, options);
}

/// The same for a list-wise scorer (see step_scorer), on the host: `scores` is called at most 1 + (K − 1)(m + 1) times
/// a query. A prefix after which nothing is possible is a ranking that could not be completed, as above. The scorer
/// must stay where it is while work is queued. Throws option_error if a query has fewer than K documents.
template <host_executed B, class Scorer, class Queries>
requires step_scorer<Scorer, std::remove_cvref_t<decltype(std::declval<const Queries&>()[index_t{}])>>
[[nodiscard]] without_replacement_draws<B, double> draw_without_replacement(B& b, const Scorer& scorer,
                                                                            const Queries& queries,
                                                                            const random_source& random,
                                                                            const draw_options& options) {
  const auto count = static_cast<index_t>(std::size(queries));
  index_t most = 0;
  for (index_t q = 0; q < count; ++q) {
    const index_t documents = scorer.document_count(queries[q]);
    require_drawable(options, documents);
    most = std::max(most, documents);
  }
  return detail::draw_without_replacement<double>(
      b, count, detail::step_scorer_children<Scorer, Queries>{&scorer, queries, most}, random, options);
}

/// A selector's rankings without replacement, as a dro::proposal: one that shows its scorer (autoregressive_selector)
/// is followed step by step, any other by its Plackett–Luce scores. The selector must stay where it is.
template <class Selector>
class without_replacement {
 public:
  using scalar_type = typename Selector::scalar_type;

  explicit without_replacement(const Selector& selector) : selector_(&selector) {}
  explicit without_replacement(const Selector&&) = delete;

  /// The rankings with log q_κ − log m, for importance weights, and with the mass not sampled.
  template <backend B, class Queries>
  [[nodiscard]] draws<B, scalar_type> draw(B& b, const Queries& queries, const draw_options& options,
                                           const random_source& random) const {
    auto drawn = draw_set(b, queries, options, random);
    drawn.z.set_log_unsampled(b, std::move(drawn.log_unsampled));
    return std::move(drawn.z);
  }

  /// The same with log p and the mass not sampled: for the unordered-set estimator.
  template <backend B, class Queries>
  [[nodiscard]] without_replacement_draws<B, scalar_type> draw_set(B& b, const Queries& queries,
                                                                   const draw_options& options,
                                                                   const random_source& random) const {
    if constexpr (requires { selector_->scorer(); }) {
      return draw_without_replacement(b, selector_->scorer(), queries, random, options);
    } else {
      return draw_without_replacement(b, selector_->scores(b, queries), random, options);
    }
  }

 private:
  const Selector* selector_;
};

}  // namespace dro

#endif
