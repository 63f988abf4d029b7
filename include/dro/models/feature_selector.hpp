// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_FEATURE_SELECTOR_HPP
#define DRO_MODELS_FEATURE_SELECTOR_HPP

/// \file
/// A linear list-wise selector: the score of a document is linear in its features given the question and, unless that
/// is switched off, given the documents already chosen.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dro/config.hpp>
#include <dro/error.hpp>
#include <dro/models/selector_features.hpp>

namespace dro::models {

/// What a `feature_selector` may look at.
struct selector_options {
  /// Features on the documents already chosen, and weights of their own for the first, the second and all later picks.
  /// Off: one block of weights for all picks and scores that do not depend on earlier ones (Plackett–Luce).
  bool earlier_choices = true;
  /// Features of a document's best relation to any other candidate, chosen or not: `selector_question::link_features`.
  bool static_links = false;
  friend bool operator==(const selector_options&, const selector_options&) = default;
};

/// Scores of an autoregressive selector for its pick t = |z_<t|, counted from 0:
///
///     s_j(z_<t) = w_{min(t, 2)} · φ_j(z_<t),    φ_j = (document features, [link features], pair features, coverage)
///
/// Pair features are the greatest over the documents i chosen so far; coverage is what j adds to all of them. The first
/// pick has the bracketed parts only as far as the options give them and neither pairs nor coverage. Parameters lie
/// block after block: first, second, later; without `earlier_choices` there is one block. All begin at 0 but the weight
/// of BM25, which is 1, so that an untrained selector picks in the order of BM25. Const members may be called from
/// several threads.
class feature_selector {
 public:
  explicit feature_selector(selector_options options = {})
      : options_(options), parameters_(block_begin(blocks()), 0.0) {
    for (std::size_t block = 0; block < blocks(); ++block) {
      parameters_[block_begin(block) + static_cast<std::size_t>(document_feature::bm25)] = 1;
    }
  }

  [[nodiscard]] selector_options options() const noexcept { return options_; }
  /// n, the documents of `question`.
  [[nodiscard]] index_t document_count(const selector_question& question) const noexcept {
    return static_cast<index_t>(question.documents);
  }

  [[nodiscard]] std::size_t parameter_count() const noexcept { return parameters_.size(); }
  /// [parameter_count()]: all weights, to be read and written in place. The span holds as long as the object stays.
  [[nodiscard]] std::span<double> parameters() noexcept { return parameters_; }
  [[nodiscard]] std::span<const double> parameters() const noexcept { return parameters_; }

  /// Name of parameter `index` for people, such as "second.linked_from" or "any.link.bridge".
  /// Throws `shape_error` if there is no such parameter.
  [[nodiscard]] std::string parameter_name(std::size_t index) const {
    if (index >= parameter_count()) {
      throw shape_error("feature_selector: parameter " + std::to_string(index) + " of " +
                        std::to_string(parameter_count()));
    }
    static constexpr std::array<std::string_view, 3> block_names{"first.", "second.", "later."};
    std::size_t block = blocks() - 1;
    while (index < block_begin(block)) --block;
    std::string name(options_.earlier_choices ? block_names[block] : "any.");
    std::size_t feature = index - block_begin(block);
    if (feature < document_feature_count) return name.append(document_feature_names[feature]);
    feature -= document_feature_count;
    if (options_.static_links) {
      if (feature < pair_feature_count) return name.append("link.").append(pair_feature_names[feature]);
      feature -= pair_feature_count;
    }
    if (feature < pair_feature_count) return name.append(pair_feature_names[feature]);
    return name.append(coverage_feature_names[feature - pair_feature_count]);
  }

  /// out[j] = s_j(prefix) for each of the n documents, those in `prefix` included: they are the caller's to mask.
  /// `prefix` are the documents chosen so far, in order; `out` is [n] and all of it is written.
  /// Throws `shape_error` if a size does not fit or the prefix names a document that is not there.
  /// No allocation. O(n (features + |prefix| pair features)).
  void scores(const selector_question& question, std::span<const document_t> prefix, std::span<double> out) const {
    check(question, prefix, out.size(), "scores");
    const double* weights = parameters_.data() + block_begin(block_of(prefix));
    const std::uint64_t covered_words = covered(question.words, prefix);
    const std::uint64_t covered_bigrams = covered(question.bigrams, prefix);
    feature_row phi{};
    for (std::size_t j = 0; j < question.documents; ++j) {
      const std::size_t size = features(question, prefix, covered_words, covered_bigrams, j, phi);
      double sum = 0;
      for (std::size_t f = 0; f < size; ++f) sum += weights[f] * static_cast<double>(phi[f]);
      out[j] = sum;
    }
  }

  /// gradient += Σ_j d_scores[j] ∂s_j(prefix)/∂parameters, which for a linear score is Σ_j d_scores[j] φ_j(prefix) in
  /// the block of the pick. Documents with d_scores[j] = 0 (the masked ones) cost nothing. `d_scores` is [n],
  /// `gradient` is [parameter_count()]; errors and cost as `scores`.
  void accumulate_score_gradient(const selector_question& question, std::span<const document_t> prefix,
                                 std::span<const double> d_scores, std::span<double> gradient) const {
    check(question, prefix, d_scores.size(), "accumulate_score_gradient");
    if (gradient.size() != parameter_count()) {
      throw shape_error("feature_selector::accumulate_score_gradient: a gradient of " +
                        std::to_string(gradient.size()) + " for " + std::to_string(parameter_count()) + " parameters");
    }
    double* block = gradient.data() + block_begin(block_of(prefix));
    const std::uint64_t covered_words = covered(question.words, prefix);
    const std::uint64_t covered_bigrams = covered(question.bigrams, prefix);
    feature_row phi{};
    for (std::size_t j = 0; j < question.documents; ++j) {
      if (d_scores[j] == 0) continue;
      const std::size_t size = features(question, prefix, covered_words, covered_bigrams, j, phi);
      for (std::size_t f = 0; f < size; ++f) block[f] += d_scores[j] * static_cast<double>(phi[f]);
    }
  }

 private:
  using feature_row = std::array<float, document_feature_count + 2 * pair_feature_count + coverage_feature_count>;

  [[nodiscard]] std::size_t blocks() const noexcept { return options_.earlier_choices ? 3 : 1; }
  [[nodiscard]] std::size_t static_features() const noexcept {
    return document_feature_count + (options_.static_links ? pair_feature_count : 0);
  }
  /// Where block 0, 1 or 2 begins; blocks(): where the last one ends.
  [[nodiscard]] std::size_t block_begin(std::size_t block) const noexcept {
    const std::size_t later = static_features() + pair_feature_count + coverage_feature_count;
    return block == 0 ? 0 : static_features() + (block - 1) * later;
  }
  [[nodiscard]] std::size_t block_of(std::span<const document_t> prefix) const noexcept {
    return std::min(prefix.size(), blocks() - 1);
  }

  static void check(const selector_question& question, std::span<const document_t> prefix, std::size_t size,
                    const char* member) {
    if (size != question.documents) {
      throw shape_error("feature_selector::" + std::string(member) + ": " + std::to_string(size) + " scores for " +
                        std::to_string(question.documents) + " documents");
    }
    for (const document_t i : prefix) {
      if (i < 0 || static_cast<std::size_t>(i) >= question.documents) {
        throw shape_error("feature_selector::" + std::string(member) + ": document " + std::to_string(i) +
                          " in the prefix, there are " + std::to_string(question.documents));
      }
    }
  }

  /// Union of the sets of the chosen documents.
  [[nodiscard]] static std::uint64_t covered(const std::vector<std::uint64_t>& sets,
                                             std::span<const document_t> prefix) noexcept {
    std::uint64_t all = 0;
    for (const document_t i : prefix) all |= sets[static_cast<std::size_t>(i)];
    return all;
  }

  /// Writes φ_j(prefix) and returns how many features it has.
  std::size_t features(const selector_question& question, std::span<const document_t> prefix,
                       std::uint64_t covered_words, std::uint64_t covered_bigrams, std::size_t j,
                       feature_row& phi) const {
    auto* end =
        std::copy_n(question.document_features.data() + j * document_feature_count, document_feature_count, phi.data());
    if (options_.static_links) {
      end = std::copy_n(question.link_features.data() + j * pair_feature_count, pair_feature_count, end);
    }
    if (options_.earlier_choices && !prefix.empty()) {
      std::fill_n(end, pair_feature_count, 0.0F);  // no pair feature is negative
      for (const document_t i : prefix) {
        const float* pair =
            question.pair_features.data() + (static_cast<std::size_t>(i) * question.documents + j) * pair_feature_count;
        for (std::size_t f = 0; f < pair_feature_count; ++f) end[f] = std::max(end[f], pair[f]);
      }
      end += pair_feature_count;
      const std::uint64_t new_words = question.words[j] & ~covered_words;
      *end++ = static_cast<float>(mass_of(new_words, question.word_mass));
      *end++ = static_cast<float>(mass_of(question.title_words[j] & ~covered_words, question.word_mass));
      *end++ = static_cast<float>(mass_of(new_words & question.name_words, question.word_mass));
      *end++ = static_cast<float>(mass_of(question.bigrams[j] & ~covered_bigrams, question.bigram_mass));
    }
    return static_cast<std::size_t>(end - phi.data());
  }

  selector_options options_;
  std::vector<double> parameters_;
};

}  // namespace dro::models

#endif
