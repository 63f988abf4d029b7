// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EM_ADVISOR_HPP
#define DRO_EM_ADVISOR_HPP

/// \file
/// From diagnostics to what to do about them: one finding and one line for each iteration, and which estimator to take.
/// Host code on numbers that were read already; nothing here touches a backend.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <dro/config.hpp>
#include <dro/em/totals.hpp>
#include <dro/em/training_loop.hpp>
#include <dro/error.hpp>
#include <dro/estimate/status.hpp>

namespace dro {

/// What an advisor found, the most pressing first.
enum class finding {
  numerical_trouble,  ///< NaN or +inf among log-probabilities
  impossible,         ///< in many queries no sample has any weight
  no_hit,             ///< in many queries no sample contains the answer
  support,            ///< the proposal cannot draw all that the selector can
  no_gradient,        ///< the objective has nothing to say in many queries
  one_sample,         ///< a self-normalised weight of 1, whatever it is worth
  repeated,           ///< the same rankings come again and again
  heavy_tail,         ///< weights whose variance may be infinite
  one_weight,         ///< a single sample decides
  all_hit,            ///< all weights equal, since all samples contain the answer
  flat,               ///< all weights equal, nobody knows why
  low_signal,         ///< the gradient drowns in noise
  fine
};

/// The finding as a word or two.
[[nodiscard]] constexpr const char* to_string(finding f) {
  switch (f) {
    case finding::numerical_trouble:
      return "numerical trouble";
    case finding::impossible:
      return "impossible";
    case finding::no_hit:
      return "no hit";
    case finding::support:
      return "support";
    case finding::no_gradient:
      return "no gradient";
    case finding::one_sample:
      return "one sample";
    case finding::repeated:
      return "repeated";
    case finding::heavy_tail:
      return "heavy tail";
    case finding::one_weight:
      return "one weight";
    case finding::all_hit:
      return "all hit";
    case finding::flat:
      return "flat";
    case finding::low_signal:
      return "low signal";
    case finding::fine:
      return "fine";
  }
  return "unknown";
}

/// What was found, in one line that says by which number and what to do.
struct advice {
  finding what = finding::fine;
  std::string line;
};

/// What a summary does not say of the run.
struct advice_context {
  index_t batch_queries = 1;          ///< queries in a step, over which gradients are averaged
  bool order_free_generator = false;  ///< p(y|x,d_z) depends on the set of documents alone
  bool scored_selector = false;       ///< the selector shows its scores (see scored_selector)
  bool selector_drew = true;          ///< the proposal is the selector itself
  bool centred = true;                ///< the objective carries a baseline
  bool self_normalised = true;        ///< it uses self-normalised weights: the evidence, not an expected reward
  /// Rankings a query has, n!/(n − K)!; see count_rankings.
  double rankings = std::numeric_limits<double>::infinity();
};

/// From where on something is worth a line. Shares are of queries, unless said otherwise.
struct advice_limits {
  double impossible = 0.1;   ///< queries in which nothing is possible
  double no_hit = 0.25;      ///< queries of which no sample hits
  double no_gradient = 0.1;  ///< queries to which the objective gives no gradient, beyond those in trouble
  double all_hit = 0.75;     ///< queries of which all do
  double kept_mass = 0.99;   ///< of the selector, below which the truncation is worth a line
  double distinct = 0.5;     ///< of as many different rankings as there could be
  double heavy_tails = 0.2;  ///< of the tails that were fitted
  double one_weight = 0.1;   ///< (ESS − 1)/(m − 1), 0 where one sample decides and 1 where all count the same
  double flat = 1e-3;        ///< variance of m w̄ below which weights are equal
  double signal = 1;         ///< signal-to-noise ratio of a batch
};

/// n!/(n − K)!, the number of rankings of K of n documents; rounded above 2^53.
[[nodiscard]] inline double count_rankings(index_t documents, index_t select) {
  double count = 1;
  for (index_t t = 0; t < select; ++t) count *= static_cast<double>(documents - t);
  return count;
}

namespace detail {

/// `value` with `digits` after the point.
[[nodiscard]] inline std::string decimal(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

[[nodiscard]] inline std::string percent(double share) {
  // Neither "0 %" of what was seen nor "100 %" where one was missing.
  if (share > 0 && share < 0.01) return "under 1 %";
  if (share < 1 && share > 0.99) return "over 99 %";
  return decimal(100 * share, 0) + " %";
}

[[nodiscard]] inline std::string how_many(std::int64_t part, std::int64_t of) {
  return std::to_string(part) + " of " + std::to_string(of) + " queries";
}

}  // namespace detail

/// The most pressing thing that `s` says, by the order of `finding`. What is not known (NaN, nothing counted) is no
/// finding. Equal weights are told apart by the hit rule that was given to step_totals: no sample contains the answer
/// (no_hit), all do (all_hit), or it is not known (flat).
[[nodiscard]] inline advice advise(const step_summary& s, const advice_context& context = {},
                                   const advice_limits& limits = {}) {
  using detail::decimal;
  using detail::how_many;
  using detail::percent;
  const auto all = static_cast<double>(s.all());
  const auto known = static_cast<double>(s.hits_known);
  const auto share = [](std::int64_t part, double of) { return of > 0 ? static_cast<double>(part) / of : 0.0; };
  const double m = s.samples;
  const std::string more_samples = s.samples >= context.rankings ? "" : "draw more samples, ";

  if (const auto bad = s.count(status::not_a_number) + s.count(status::unbounded); bad > 0) {
    return {finding::numerical_trouble,
            how_many(bad, s.all()) + " with a log-probability that is NaN (" +
                std::to_string(s.count(status::not_a_number)) + ") or a weight of +inf (" +
                std::to_string(s.count(status::unbounded)) +
                "): lower the learning rate, and check the models' outputs and the proposal's log q"};
  }
  if (share(s.count(status::impossible), all) > limits.impossible) {
    return {finding::impossible, "every sample has weight 0 in " + percent(share(s.count(status::impossible), all)) +
                                     " of the queries: give every answer some probability in the generator, or mix in "
                                     "the retriever's order"};
  }
  if (share(s.no_hit, known) > limits.no_hit) {
    return {finding::no_hit, "no sample hits in " + percent(share(s.no_hit, known)) +
                                 " of the queries, whose weights mean nothing: mix in the retriever's order, " +
                                 more_samples + "or train the generator alone first"};
  }
  if (s.count(status::support) > 0 && !(s.kept_mass >= limits.kept_mass)) {
    const std::string kept = s.kept_mass == s.kept_mass ? percent(s.kept_mass) : "an unknown share";
    return {finding::support, "the proposal can draw " + kept +
                                  " of what the selector can: gradients are biased and carry no baseline; mix in the "
                                  "whole selector, or truncate less if it was truncated"};
  }
  if (s.all() > 0 && s.used() == 0) {
    return {finding::no_gradient, "no query could be used: each has too few samples for its weights"};
  }
  if (share(s.without_gradient - s.flagged(), all) > limits.no_gradient) {
    return {finding::no_gradient,
            "the objective gives no gradient in " + percent(share(s.without_gradient, all)) +
                " of the queries: a sample of log-likelihood -inf (expected log-likelihood), equal rewards "
                "(group-normalised) or too few samples; the evidence takes all of these"};
  }
  if (m == 1 && context.self_normalised) {
    return {finding::one_sample,
            "one sample has weight 1 whatever it is worth, and the evidence no gradient for the "
            "selector: draw 4 or more"};
  }
  if (const double possible = std::fmin(1.0, context.rankings / m); s.distinct_share < limits.distinct * possible) {
    return {
        finding::repeated,
        decimal(s.distinct_share * m, 1) + " different rankings of " + decimal(m, 0) +
            (context.selector_drew ? ": the selector has made up its mind; draw without replacement, spend samples on "
                                     "other queries (adaptive E-step), draw fewer, or add an entropy bonus"
                                   : ": the proposal repeats itself; draw fewer, or mix in the selector")};
  }
  if (share(s.tails_heavy, static_cast<double>(s.tails_fitted)) > limits.heavy_tails) {
    return {finding::heavy_tail, "the Pareto shape of the weights is above its threshold in " +
                                     percent(share(s.tails_heavy, static_cast<double>(s.tails_fitted))) +
                                     " of the queries: " + (context.selector_drew ? "" : "draw from the selector, ") +
                                     more_samples + "temper, or mix in the retriever's order"};
  }
  if (m > 1 && (s.effective_sample_size - 1) / (m - 1) < limits.one_weight) {
    return {finding::one_weight, "ESS " + decimal(s.effective_sample_size, 1) + " of " + decimal(m, 0) + ": " +
                                     (more_samples.empty() ? "" : "raise samples, ") +
                                     "temper, or mix in the retriever's order"};
  }
  if (m > 1 && share(s.all_hit, known) > limits.all_hit) {
    return {finding::all_hit, "every sample hits in " + percent(share(s.all_hit, known)) +
                                  " of the queries: little is left to learn from choosing; draw fewer samples, or "
                                  "spend them on other queries (adaptive E-step)"};
  }
  if (m > 1 && s.weight_variance < limits.flat) {
    return {finding::flat,
            "all weights are equal (ESS " + decimal(s.effective_sample_size, 1) + " of " + decimal(m, 0) + "): " +
                (s.hits_known > 0 ? "the generator does not tell its documents apart; train it alone first"
                                  : "either all samples are equally good or none contains the answer; "
                                    "give a hit_rule to know which")};
  }
  // Two standard errors in favour of the signal, all queries pulling the same way, and all of the samples, not half.
  const auto batch = static_cast<double>(context.batch_queries);
  const double most = 2 * batch * (s.gradient.signal + 2 * s.gradient.signal_error) / s.gradient.variance;
  if (most < limits.signal) {
    const bool sets = context.order_free_generator && context.scored_selector;
    return {finding::low_signal, "the gradient's signal is at most " + decimal(most, 2) +
                                     " of its noise in a batch of " + decimal(batch, 0) + ": " +
                                     (context.centred ? "" : "use a centred objective, ") +
                                     (sets ? "use the scores of sets, " : "") + "use larger batches" +
                                     (more_samples.empty() ? "" : " or more samples")};
  }
  return {finding::fine, "ESS " + decimal(s.effective_sample_size, 1) + " of " + decimal(m, 0) +
                             (s.hits_known > 0 ? ", no sample hits in " + percent(share(s.no_hit, known)) : "") +
                             ": nothing to change"};
}

/// What the library can estimate the gradient with; see docs/estimators.md for how they compare.
enum class estimator {
  exhaustive,           ///< all rankings as draws, weighed exactly: `exhaustive` as the proposal
  known_value,          ///< expected_log_likelihood<baseline::value>, with a baseline known beforehand
  plain,                ///< evidence<baseline::none>
  centred,              ///< evidence<baseline::centred>
  antithetic,           ///< the same, on draws in antithetic pairs: sampled_selector
  without_replacement,  ///< the same, on draws of which no two are the same: without_replacement
  mixture,              ///< evidence<baseline::ratio>, on draws from a mixture of the selector and the uniform proposal
};

[[nodiscard]] constexpr const char* to_string(estimator e) {
  switch (e) {
    case estimator::exhaustive:
      return "all rankings";
    case estimator::known_value:
      return "expected log-likelihood, a known value";
    case estimator::plain:
      return "evidence, no baseline";
    case estimator::centred:
      return "evidence, centred";
    case estimator::antithetic:
      return "evidence, centred, antithetic noise";
    case estimator::without_replacement:
      return "evidence, centred, without replacement";
    case estimator::mixture:
      return "evidence, less the ratio, mixture with uniform";
  }
  return "unknown";
}

/// What the choice of an estimator depends on.
struct estimator_context {
  index_t samples = 8;                                        ///< m, generator calls a query
  double rankings = std::numeric_limits<double>::infinity();  ///< rankings a query has; see count_rankings
  /// Whether the library can draw from the selector in ways of its own: it shows its scores (scored_selector), or is an
  /// autoregressive_selector.
  bool library_draws = true;
  bool proposal_covers = true;  ///< the proposal can draw whatever the selector can (see draw_traits)
  /// (evidence − ELBO) / (1 − ESS/m) of earlier steps, NaN if unknown: how unequal the weights are where they are not
  /// equal. About 1 to 2 where all samples differ a little, large where most are alike and few are far better.
  double tail_index = std::numeric_limits<double>::quiet_NaN();
};

/// The tail index of a step; NaN where all weights are equal or one is 0.
[[nodiscard]] inline double tail_index(const step_summary& s) {
  const double index = (s.evidence - s.elbo) / (1 - s.effective_share);
  return std::isfinite(index) ? index : std::numeric_limits<double>::quiet_NaN();
}

struct recommendation {
  estimator choice;
  const char* reason;
};

/// The estimator that the library recommends: the first rule that holds. Set by the tables of docs/estimators.md, where
/// each choice has an error within a tenth of the best. Throws option_error if samples < 1.
[[nodiscard]] inline recommendation recommend_estimator(const estimator_context& c) {
  constexpr double heavy = 2.6;
  if (c.samples < 1) throw option_error("samples is " + std::to_string(c.samples) + ", expected at least 1");
  if (c.rankings <= static_cast<double>(c.samples)) {
    return {estimator::exhaustive, "there are no more rankings than samples: all of them give the exact gradient"};
  }
  if (!c.proposal_covers) {
    return {estimator::plain, "the proposal does not cover the selector: a baseline would add bias"};
  }
  if (c.samples == 1) {
    return {estimator::known_value,
            "one sample has weight 1 whatever it is worth: the evidence has no gradient for the selector"};
  }
  if (c.samples <= 4 && c.tail_index > heavy) {
    return {estimator::mixture, "few rankings are far better than all others: what the selector would not draw helps"};
  }
  if (!c.library_draws) return {estimator::centred, "the evidence, with the variance that centring saves"};
  if (c.samples < 4) {
    return c.samples % 2 == 0
               ? recommendation{estimator::antithetic, "two samples tell more if they differ"}
               : recommendation{estimator::centred, "the evidence, with the variance that centring saves"};
  }
  return {estimator::without_replacement, "no ranking is drawn twice, and no generator call spent on one"};
}

namespace callback {

/// Writes what advise() says after an iteration, when the finding is another than the last one written. Runs that begin
/// fine stay silent until something is found.
class advice {
 public:
  explicit advice(std::FILE* out, const advice_context& context = {}, const advice_limits& limits = {})
      : out_(out), context_(context), limits_(limits) {}

  void on_iteration(const loop_progress& p, const step_summary& s) {
    const dro::advice now = advise(s, context_, limits_);
    if (now.what == last_) return;
    last_ = now.what;
    std::fprintf(out_, "iteration %td of %td: %s\n", p.position.iteration, p.iterations, now.line.c_str());
    std::fflush(out_);
  }

 private:
  std::FILE* out_;
  advice_context context_;
  advice_limits limits_;
  finding last_ = finding::fine;
};

}  // namespace callback

}  // namespace dro

#endif
