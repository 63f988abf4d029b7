// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_EXTRACTIVE_READER_HPP
#define DRO_MODELS_EXTRACTIVE_READER_HPP

/// \file
/// A log-linear reader that takes its answers from the chosen documents: p(y|x, d_z) for a CPU.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/reader_features.hpp>
#include <dro/models/reader_question.hpp>
#include <dro/text/normalise.hpp>

namespace dro::models {

/// A distribution over all strings y, in the normal form of `text::normalise_answer`:
///
///     p(y|x, d_z) = (1 - ε₁ - ε₂) Σ_{m in M(z): s(m) = y} e^{θ·f(m, z)} / Σ_{m in M(z)} e^{θ·f(m, z)}
///                   + ε₁ [y in C] / |C| + ε₂ (1 - ρ) (ρ / 256)^|y|
///
/// M(z): the mentions in the chosen documents and in the question (yes, no, the options of a choice); s(m): what a
/// mention reads, normalised; C: the candidates, the distinct strings that all n documents and the question offer;
/// |y|: bytes. The last two terms do not depend on z: they bound log p from below for every y, and leave no draw
/// without a finite log-likelihood. The last is a geometric length with ρ = 0.9 and uniform bytes. The three terms sum
/// to 1 over all strings. ε₁ and ε₂ are `reader_options::uniform_share` and `string_share`.
///
/// f depends on the set of chosen documents only, not on their order. All f are 0 or 1, except that what compares the
/// two subjects of a question counts three-fold: there is little of it to learn from.
class extractive_reader {
 public:
  static constexpr bool order_free = true;

  /// Memory that calls reuse; one for each thread. Belongs to no question and no reader.
  class workspace {
   private:
    friend class extractive_reader;
    struct term {
      std::uint32_t mention;
      std::uint32_t role, tie;  // bundles; 0 and 0 in the question's own mentions
    };
    struct fact {
      std::uint32_t mention, bundle;
    };
    std::vector<document_t> chosen_;
    std::vector<std::uint64_t> chosen_set_, others_;
    std::vector<term> terms_;
    std::vector<fact> facts_;
    std::vector<double> mass_;            // [terms]: unnormalised probability
    std::vector<double> bundle_value_;    // [bundles]: score, or its derivative
    std::vector<std::uint32_t> written_;  // [bundles]: the call that wrote bundle_value
    std::uint32_t call_ = 0;
    std::vector<std::uint32_t> used_;  // bundles with a derivative
    std::vector<double> candidate_mass_;
  };

  /// All parameters are 0: every mention is equally likely. Throws `option_error` unless the shares are positive and
  /// sum to less than 1.
  explicit extractive_reader(const reader_features& features)
      : extractive_reader(features.feature_count(), features.options()) {}
  explicit extractive_reader(std::size_t features, const reader_options& options = {})
      : options_(options), parameters_(features, 0.0) {
    const auto positive = [](double share) { return share > 0 && share < 1; };
    if (!positive(options.uniform_share) || !positive(options.string_share) || !positive(extracted_share())) {
      throw option_error("extractive_reader: uniform_share " + std::to_string(options.uniform_share) +
                         " and string_share " + std::to_string(options.string_share) +
                         " must be positive and sum to less than 1");
    }
  }

  /// θ, [features].
  [[nodiscard]] std::span<double> parameters() noexcept { return parameters_; }
  [[nodiscard]] std::span<const double> parameters() const noexcept { return parameters_; }

  /// log Σ_y p(y|x, d_z) over the distinct normal forms y of the accepted answers; nats, always finite while θ is.
  /// `z`: distinct positions of documents, may be empty. Throws `shape_error` for a position that is not there.
  /// O(features of the mentions in d_z).
  [[nodiscard]] double log_likelihood(const reader_question& question, std::span<const document_t> z,
                                      workspace& space) const {
    return log_likelihood(question, score(question, z, space));
  }

  /// log p(y|x, d_z) of one string, normalised here; nats. Otherwise as `log_likelihood`, and normalises all
  /// candidates.
  [[nodiscard]] double log_probability(const reader_question& question, std::string_view y,
                                       std::span<const document_t> z, workspace& space) const {
    const auto total = score(question, z, space).total;
    const auto normal = text::normalise_answer(y);
    double mass = 0;
    std::size_t candidates = 0;
    for (std::size_t c = 0; c < question.candidates(); ++c) {
      if (text::normalise_answer(question.surface(c)) != normal) continue;
      ++candidates;
      for (std::size_t t = 0; t < space.terms_.size(); ++t) {
        if (question.mentions[space.terms_[t].mention].candidate == c) mass += space.mass_[t];
      }
    }
    return log_mixture(mass / total, static_cast<double>(candidates) / static_cast<double>(question.candidates()),
                       log_string_probability(normal));
  }

  /// Adds coefficient · ∂ log p(accepted answers|x, d_z) / ∂θ to `gradient` through gradient.add(feature, value), once
  /// for each bundle of a mention that has the feature. Adds nothing if no chosen document has an accepted answer.
  /// Throws and costs as `log_likelihood`.
  template <class Gradient>
  void accumulate_gradient(const reader_question& question, std::span<const document_t> z, double coefficient,
                           Gradient& gradient, workspace& space) const {
    const auto sum = score(question, z, space);
    if (sum.accepted == 0) return;
    // ∂ log p / ∂ s_m = r π_m ([m accepted] - A): π the softmax, A its accepted share, r the extracted share over p.
    const double accepted = sum.accepted / sum.total;
    const double scale = coefficient * extracted_share() / std::exp(log_likelihood(question, sum));
    begin_bundles(question, space);
    space.used_.clear();
    const auto add = [&space](std::size_t bundle, double value) {
      if (space.written_[bundle] != space.call_) {
        space.written_[bundle] = space.call_;
        space.bundle_value_[bundle] = 0;
        space.used_.push_back(static_cast<std::uint32_t>(bundle));
      }
      space.bundle_value_[bundle] += value;
    };
    for (std::size_t t = 0; t < space.terms_.size(); ++t) {
      const auto& term = space.terms_[t];
      const bool good = question.mentions[term.mention].accepted;
      const double derivative = scale * (space.mass_[t] / sum.total) * ((good ? 1.0 : 0.0) - accepted);
      if (derivative == 0) continue;
      for_each_bundle(question, term, space,
                      [&](std::size_t bundle, double value) { add(bundle, value * derivative); });
    }
    for (const auto bundle : space.used_) {
      for (auto f = question.bundle_offsets[bundle]; f < question.bundle_offsets[bundle + 1]; ++f) {
        gradient.add(question.bundle_features[f], space.bundle_value_[bundle]);
      }
    }
  }

  /// The most probable string, in the form in which it was first read; ties go to the candidate read first.
  /// Throws and costs as `log_likelihood`.
  [[nodiscard]] std::string answer(const reader_question& question, std::span<const document_t> z,
                                   workspace& space) const {
    score(question, z, space);
    space.candidate_mass_.assign(question.candidates(), 0.0);
    for (std::size_t t = 0; t < space.terms_.size(); ++t) {
      space.candidate_mass_[question.mentions[space.terms_[t].mention].candidate] += space.mass_[t];
    }
    const auto best = std::max_element(space.candidate_mass_.begin(), space.candidate_mass_.end());
    return std::string(question.surface(static_cast<std::size_t>(best - space.candidate_mass_.begin())));
  }

 private:
  static constexpr double comparison_value = 3;  // better than 1 in cross-validation
  static constexpr double another_byte = 0.9;    // ρ

  /// Unnormalised probability of all mentions, and of those that read an accepted answer.
  struct masses {
    double total = 0;
    double accepted = 0;
  };

  double extracted_share() const { return 1 - options_.uniform_share - options_.string_share; }

  /// log of (1 - ρ) (ρ / 256)^|y|.
  static double log_string_probability(std::string_view y) {
    return std::log(1 - another_byte) + static_cast<double>(y.size()) * std::log(another_byte / 256);
  }

  /// log of the mixture's three terms, without underflow of the last.
  double log_mixture(double extracted, double uniform, double log_string) const {
    const double likely = extracted_share() * extracted + options_.uniform_share * uniform;
    const double rare = std::log(options_.string_share) + log_string;
    if (likely <= 0) return rare;
    const double high = std::max(std::log(likely), rare);
    return high + std::log1p(std::exp(std::min(std::log(likely), rare) - high));
  }

  double log_likelihood(const reader_question& question, const masses& sum) const {
    double longest = -std::numeric_limits<double>::infinity();
    for (const auto& y : question.accepted) longest = std::max(longest, log_string_probability(y));
    double strings = 0;
    for (const auto& y : question.accepted) strings += std::exp(log_string_probability(y) - longest);
    return log_mixture(sum.accepted / sum.total,
                       static_cast<double>(question.accepted_candidates) / static_cast<double>(question.candidates()),
                       longest + std::log(strings));
  }

  template <class F>
  static void for_each_bundle(const reader_question& q, const workspace::term& term, const workspace& space, F&& f) {
    for (auto b = q.mentions[term.mention].bundles; b < q.mentions[term.mention + 1].bundles; ++b) {
      f(q.mention_bundles[b], 1.0);
    }
    if (term.mention < q.mention_offsets[q.documents]) {
      f(term.role, 1.0);
      f(term.tie, 1.0);
      return;
    }
    for (const auto& fact : space.facts_) {
      if (fact.mention == term.mention) f(fact.bundle, comparison_value);
    }
  }

  static void begin_bundles(const reader_question& q, workspace& space) {
    const std::size_t bundles = q.bundle_offsets.size() - 1;
    if (space.written_.size() < bundles) {
      space.written_.resize(bundles, space.call_);
      space.bundle_value_.resize(bundles);
    }
    if (++space.call_ == 0) {
      std::fill(space.written_.begin(), space.written_.end(), 0u);
      space.call_ = 1;
    }
  }

  double bundle_score(const reader_question& q, std::size_t bundle, workspace& space) const {
    if (space.written_[bundle] != space.call_) {
      double sum = 0;
      for (auto f = q.bundle_offsets[bundle]; f < q.bundle_offsets[bundle + 1]; ++f) {
        sum += parameters_[q.bundle_features[f]];
      }
      space.written_[bundle] = space.call_;
      space.bundle_value_[bundle] = sum;
    }
    return space.bundle_value_[bundle];
  }

  /// Fills terms, mass (scaled by the largest) and facts.
  masses score(const reader_question& q, std::span<const document_t> z, workspace& space) const {
    choose(q, z, space);
    compare_subjects(q, space);
    begin_bundles(q, space);
    space.terms_.clear();
    for (const auto d : space.chosen_) add_terms(q, static_cast<std::size_t>(d), space);
    for (auto m = q.mention_offsets[q.documents]; m < q.mention_offsets[q.documents + 1]; ++m) {
      space.terms_.push_back({m, 0, 0});
    }
    space.mass_.resize(space.terms_.size());
    double top = -std::numeric_limits<double>::infinity();
    for (std::size_t t = 0; t < space.terms_.size(); ++t) {
      double sum = 0;
      for_each_bundle(q, space.terms_[t], space,
                      [&](std::size_t bundle, double value) { sum += value * bundle_score(q, bundle, space); });
      space.mass_[t] = sum;
      top = std::max(top, sum);
    }
    masses result;
    for (std::size_t t = 0; t < space.terms_.size(); ++t) {
      space.mass_[t] = std::exp(space.mass_[t] - top);
      result.total += space.mass_[t];
      if (q.mentions[space.terms_[t].mention].accepted) result.accepted += space.mass_[t];
    }
    return result;
  }

  static void choose(const reader_question& q, std::span<const document_t> z, workspace& space) {
    space.chosen_.assign(z.begin(), z.end());
    std::sort(space.chosen_.begin(), space.chosen_.end());
    space.chosen_set_.assign(q.set_words, 0);
    for (const auto d : space.chosen_) {
      if (d < 0 || static_cast<std::size_t>(d) >= q.documents) {
        throw shape_error("extractive_reader: document " + std::to_string(d) + " of " + std::to_string(q.documents));
      }
      space.chosen_set_[static_cast<std::size_t>(d) / 64] |= std::uint64_t{1} << (d % 64);
    }
  }

  /// The mentions of chosen document i, with their places among the other chosen ones.
  static void add_terms(const reader_question& q, std::size_t i, workspace& space) {
    std::size_t role = q.title_in_question[i] != 0 ? reader_layout::titled_in_question : std::size_t{0};
    for (const auto other : space.chosen_) {
      const auto j = static_cast<std::size_t>(other);
      if (j == i) continue;
      const bool asked = q.title_in_question[j] != 0;
      if (q.links[j * q.documents + i] != 0) {
        role |= asked ? reader_layout::linked_from_subject : reader_layout::linked_from_other;
      }
      if (q.links[i * q.documents + j] != 0) role |= reader_layout::links;
      if (asked) role |= reader_layout::beside_subject;
    }
    space.others_ = space.chosen_set_;
    space.others_[i / 64] &= ~(std::uint64_t{1} << (i % 64));
    const auto meets_others = [&](const std::vector<std::uint64_t>& sets, std::size_t row) {
      const auto set = q.row(sets, row);
      for (std::size_t w = 0; w < set.size(); ++w) {
        if ((set[w] & space.others_[w]) != 0) return true;
      }
      return false;
    };
    for (auto m = q.mention_offsets[i]; m < q.mention_offsets[i + 1]; ++m) {
      const auto& mention = q.mentions[m];
      std::size_t tie = mention.asked ? reader_layout::is_asked : std::size_t{0};
      if (meets_others(q.documents_titled, mention.candidate)) tie |= reader_layout::is_title;
      if (meets_others(q.documents_with, mention.candidate)) tie |= reader_layout::is_repeated;
      if (meets_others(q.titles_in_sentence, mention.sentence)) tie |= reader_layout::is_near_title;
      space.terms_.push_back({m, static_cast<std::uint32_t>(reader_layout::role_bundle(role, mention.shape)),
                              static_cast<std::uint32_t>(reader_layout::tie_bundle(tie, mention.shape))});
    }
  }

  /// What the chosen documents say of the two subjects, as facts of the question's own mentions. Both subjects must be
  /// among the chosen; compared are they, and what each of them links to.
  static void compare_subjects(const reader_question& q, workspace& space) {
    space.facts_.clear();
    const auto& chosen = space.chosen_;
    for (const auto subject : q.subjects) {
      if (!std::binary_search(chosen.begin(), chosen.end(), subject)) return;
    }
    std::array<document_t, 2> linked{no_document, no_document};
    for (std::size_t k = 0; k < 2; ++k) {
      int strongest = 0;
      for (const auto j : chosen) {
        const int link = q.links[static_cast<std::size_t>(q.subjects[k]) * q.documents + static_cast<std::size_t>(j)];
        if (j == q.subjects[0] || j == q.subjects[1] || link <= strongest) continue;
        strongest = link;
        linked[k] = j;
      }
    }
    const bool through_links = linked[0] != no_document && linked[1] != no_document;
    compare(q, q.subjects, false, !through_links, space);
    if (through_links) compare(q, linked, true, true, space);
  }

  /// `decisive`: no other pair of documents is closer to what the question compares.
  static void compare(const reader_question& q, const std::array<document_t, 2>& pair, bool linked, bool decisive,
                      workspace& space) {
    const auto& a = q.facts[static_cast<std::size_t>(pair[0])];
    const auto& b = q.facts[static_cast<std::size_t>(pair[1])];
    const auto own = q.mention_offsets[q.documents];
    if (q.has_options) {
      const auto put = [&](reader_layout::comparison what, int difference) {
        const auto order_of = [](int d) {
          return d < 0 ? reader_layout::less : d > 0 ? reader_layout::greater : reader_layout::equal;
        };
        for (const bool second : {false, true}) {
          const auto order = order_of(second ? -difference : difference);
          space.facts_.push_back({own + (second ? 3u : 2u),
                                  static_cast<std::uint32_t>(reader_layout::comparison_bundle(linked, what, order))});
        }
      };
      const bool first = a.first.year != 0 && b.first.year != 0;
      const bool second = a.second.year != 0 && b.second.year != 0;
      const int duration = (a.second.year - a.first.year) - (b.second.year - b.first.year);
      const int sign = q.greatest ? 1 : -1;
      if (first) put(reader_layout::first_date, difference(a.first, b.first));
      if (second) put(reader_layout::second_date, difference(a.second, b.second));
      if (first && second) put(reader_layout::duration, duration);
      if (a.largest > 0 && b.largest > 0) put(reader_layout::largest, a.largest - b.largest);
      if ((a.second.year != 0) != (b.second.year != 0)) put(reader_layout::ended, a.second.year != 0 ? -1 : 1);
      if (decisive && q.decided_by == criterion::first_date && first) {
        put(reader_layout::decisive, sign * difference(a.first, b.first));
      } else if (decisive && q.decided_by == criterion::second_date && second) {
        put(reader_layout::decisive, sign * difference(a.second, b.second));
      } else if (decisive && q.decided_by == criterion::duration && first && second) {
        put(reader_layout::decisive, sign * duration);
      }
      return;
    }
    const auto put = [&](reader_layout::agreement what, std::size_t outcome) {
      for (const bool no : {false, true}) {
        space.facts_.push_back({own + (no ? 1u : 0u), static_cast<std::uint32_t>(
                                                          reader_layout::agreement_bundle(linked, what, outcome, no))});
      }
    };
    const std::size_t country = a.country == 0 || b.country == 0 ? 2u : a.country == b.country ? 1u : 0u;
    put(reader_layout::country, country);
    if (q.asks_for_country && decisive) put(reader_layout::asked_country, country);
    put(reader_layout::coverage, std::min(a.coverage, b.coverage));
    if (a.first.year != 0 && b.first.year != 0) {
      put(reader_layout::date, difference(a.first, b.first) == 0 ? 1u : 0u);
    }
  }

  reader_options options_;
  std::vector<double> parameters_;
};

}  // namespace dro::models

#endif
