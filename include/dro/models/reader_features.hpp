// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_READER_FEATURES_HPP
#define DRO_MODELS_READER_FEATURES_HPP

/// \file
/// The features of the extractive reader: chosen and numbered on training questions, then looked up in any question.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/models/reader_analysis.hpp>
#include <dro/models/reader_question.hpp>
#include <dro/text/normalise.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// Settings of the extractive reader. In cross-validation on training questions scores were flat around the defaults of
/// the first two (3 to 10 questions, 0.005 to 0.1); the third is merely small.
struct reader_options {
  std::uint32_t minimum_count = 5;  ///< training questions that a feature has to occur in
  double uniform_share = 0.02;      ///< ε₁: probability spread evenly over all candidates of a question
  double string_share = 1e-4;       ///< ε₂: probability spread over all strings
};

/// All that `reader_features` learns from training questions, in lists that a checkpoint can hold.
struct reader_dictionary {
  std::vector<std::string> words;          ///< frequent words
  std::vector<float> idf;                  ///< [words]
  float idf_of_others = 1;                 ///< of every other word
  std::vector<std::string> name_words;     ///< words of titles
  std::vector<std::uint8_t> name_classes;  ///< [name_words]: entity_class
  std::vector<std::string> keys;           ///< keys of questions
  std::vector<std::uint64_t> features;     ///< ascending; the place of a feature is its number
};

/// Numbers the features. A feature is an attribute of a mention (its kind, the word before it, how much of the question
/// stands around it, how it compares to the other chosen documents, ...: see attribute_family) together with a key of
/// the question (nothing, its question word, its head noun, ...: see key_level). Identities are exact, not hashed.
class reader_features {
 public:
  /// Features counted elsewhere, as a checkpoint restores them. Throws `shape_error` if lists that belong together
  /// differ in length.
  explicit reader_features(reader_dictionary dictionary, const reader_options& options = {})
      : dictionary_(std::move(dictionary)), options_(options) {
    const auto& d = dictionary_;
    if (d.words.size() != d.idf.size() || d.name_words.size() != d.name_classes.size()) {
      throw shape_error("reader_features: " + std::to_string(d.words.size()) + " words with " +
                        std::to_string(d.idf.size()) + " idf, " + std::to_string(d.name_words.size()) +
                        " name words with " + std::to_string(d.name_classes.size()) + " classes");
    }
    index_words();
    for (std::size_t k = 0; k < d.keys.size(); ++k) keys_.emplace(d.keys[k], static_cast<std::uint32_t>(k));
    for (std::size_t f = 0; f < d.features.size(); ++f) {
      features_.emplace(d.features[f], static_cast<std::uint32_t>(f));
    }
  }

  /// Keeps the words, keys and features that occur in at least `minimum_count` questions of `train`. Looks at questions
  /// and all their candidates, not at answers or gold documents. An empty `train` is allowed: no features then. Reads
  /// each question twice.
  [[nodiscard]] static reader_features fit(std::span<const data::question> train, const reader_options& options = {}) {
    reader_dictionary words;
    count_words(train, options.minimum_count, words);
    reader_features features(std::move(words), options);
    features.count_features(train);
    return features;
  }

  /// Number of features, the length of the reader's parameters.
  [[nodiscard]] std::size_t feature_count() const noexcept { return dictionary_.features.size(); }
  [[nodiscard]] const reader_options& options() const noexcept { return options_; }
  [[nodiscard]] const reader_dictionary& dictionary() const noexcept { return dictionary_; }

  /// Reads a question and looks its features up. Titles may be empty, as may the question's text. Attributes beyond
  /// 65,535 distinct ones of a question are left out. Safe to call from several threads. Time and memory grow with the
  /// words of all documents (about 4 ms and 150 kB for ten documents of 90 words) and with the square of their number.
  [[nodiscard]] reader_question prepare(const data::question& question) const {
    detail::question_analysis analysis(question, words_);
    reader_question result = std::move(analysis.question);
    const auto keys = known_keys(analysis.keys);
    result.bundle_offsets.push_back(0);
    for (std::size_t b = 0; b < reader_layout::bundles; ++b) {
      add_bundle(detail::attribute_of(attribute_family::chosen, b), keys, result);
    }
    // An attribute without features has bundle 0, which no mention lists: that is a place of reader_layout.
    std::vector<std::uint16_t> bundles;
    bundles.reserve(analysis.attributes.size());
    for (const auto attribute : analysis.attributes) {
      const auto bundle = result.bundle_offsets.size() - 1;
      const bool room = bundle <= std::numeric_limits<std::uint16_t>::max();
      bundles.push_back(room && add_bundle(attribute, keys, result) ? static_cast<std::uint16_t>(bundle)
                                                                    : std::uint16_t{0});
      if (bundles.back() == 0 && room) result.bundle_offsets.pop_back();
    }
    for (std::size_t m = 0; m + 1 < result.mentions.size(); ++m) {
      const auto begin =
          std::exchange(result.mentions[m].bundles, static_cast<std::uint32_t>(result.mention_bundles.size()));
      for (auto a = begin; a < result.mentions[m + 1].bundles; ++a) {
        if (const auto bundle = bundles[analysis.mention_attributes[a]]; bundle != 0) {
          result.mention_bundles.push_back(bundle);
        }
      }
    }
    result.mentions.back().bundles = static_cast<std::uint32_t>(result.mention_bundles.size());
    mark_accepted(question, analysis.normal_forms, result);
    shrink(result);
    return result;
  }

 private:
  struct known_key {
    key_level level;
    std::uint32_t number;
  };
  static constexpr std::size_t most_words = 60000;  // context words have 16 bits
  static constexpr std::uint32_t key_bits = 24;

  // Family in 8 bits, value in 32, key in 24. Values and keys are counted from 0 by what is frequent in training.
  static std::uint64_t feature_of(std::uint64_t attribute, std::uint32_t key) { return attribute << key_bits | key; }

  void index_words() {
    const auto& d = dictionary_;
    words_.idf_of_others = d.idf_of_others;
    for (std::size_t w = 0; w < d.words.size(); ++w) {
      words_.frequent.emplace(d.words[w], detail::known_words::entry{static_cast<std::uint32_t>(w + 1), d.idf[w]});
    }
    for (std::size_t w = 0; w < d.name_words.size(); ++w) {
      words_.classes.emplace(d.name_words[w], static_cast<entity_class>(d.name_classes[w]));
    }
  }

  [[nodiscard]] std::vector<known_key> known_keys(std::span<const detail::question_analysis::key> keys) const {
    std::vector<known_key> known;
    for (const auto& key : keys) {
      if (const auto at = keys_.find(key.text); at != keys_.end()) known.push_back({key.level, at->second});
    }
    return known;
  }

  /// Appends the bundle of an attribute; whether it has features.
  bool add_bundle(std::uint64_t attribute, std::span<const known_key> keys, reader_question& question) const {
    const auto level = detail::level_of(detail::family_of(attribute), detail::value_of(attribute));
    const auto before = question.bundle_features.size();
    for (const auto& key : keys) {
      if (key.level > level) continue;
      const auto at = features_.find(feature_of(attribute, key.number));
      if (at != features_.end()) question.bundle_features.push_back(at->second);
    }
    question.bundle_offsets.push_back(static_cast<std::uint32_t>(question.bundle_features.size()));
    return question.bundle_features.size() > before;
  }

  static void mark_accepted(const data::question& question, const std::vector<std::string>& normal_forms,
                            reader_question& result) {
    std::vector<bool> accepted(normal_forms.size(), false);
    for (const auto& answer : question.answers) {
      auto normal = text::normalise_answer(answer);
      if (std::find(result.accepted.begin(), result.accepted.end(), normal) != result.accepted.end()) continue;
      const auto at = std::find(normal_forms.begin(), normal_forms.end(), normal);
      if (at != normal_forms.end()) {
        accepted[static_cast<std::size_t>(at - normal_forms.begin())] = true;
        ++result.accepted_candidates;
      }
      result.accepted.push_back(std::move(normal));
    }
    for (std::size_t m = 0; m + 1 < result.mentions.size(); ++m) {
      result.mentions[m].accepted = accepted[result.mentions[m].candidate];
    }
  }

  static void shrink(reader_question& question) {
    question.bundle_offsets.shrink_to_fit();
    question.bundle_features.shrink_to_fit();
    question.mentions.shrink_to_fit();
    question.mention_bundles.shrink_to_fit();
    question.surfaces.shrink_to_fit();
    question.surface_offsets.shrink_to_fit();
    question.documents_with.shrink_to_fit();
    question.documents_titled.shrink_to_fit();
  }

  static void count_words(std::span<const data::question> train, std::uint32_t minimum_count, reader_dictionary& out) {
    struct counts {
      std::uint32_t documents = 0;
      std::uint32_t questions = 0;
    };
    std::unordered_map<std::string, counts> seen;
    std::unordered_map<std::string, std::array<std::uint32_t, 6>> names;
    double documents = 0;
    for (const auto& question : train) {
      text::vocabulary words;
      std::vector<std::uint32_t> frequency;
      for (const auto& source : question.documents) {
        const auto document = detail::read_document(source, words);
        documents += 1;
        frequency.resize(words.size(), 0);
        std::vector<text::word_id> distinct;
        distinct.reserve(document.body.size());
        for (const auto& t : document.body) distinct.push_back(t.word);
        std::sort(distinct.begin(), distinct.end());
        distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
        for (const auto w : distinct) ++frequency[w];
        const auto entity = static_cast<std::size_t>(detail::class_of(document, words));
        for (const auto& t : document.core_title()) ++names[words[t.word]][entity];
      }
      for (std::size_t w = 0; w < frequency.size(); ++w) {
        if (frequency[w] == 0) continue;
        auto& count = seen[words[static_cast<text::word_id>(w)]];
        count.documents += frequency[w];
        ++count.questions;
      }
    }
    for (const auto& [word, count] : seen) {
      if (count.questions >= minimum_count) out.words.push_back(word);
    }
    std::sort(out.words.begin(), out.words.end(), [&](const std::string& a, const std::string& b) {
      const auto count_a = seen[a].questions, count_b = seen[b].questions;
      return count_a != count_b ? count_a > count_b : a < b;
    });
    out.words.resize(std::min(out.words.size(), most_words));
    for (const auto& word : out.words) {
      out.idf.push_back(static_cast<float>(std::log((documents + 1) / (seen[word].documents + 0.5))));
    }
    out.idf_of_others = static_cast<float>(std::log(documents + 2));
    for (const auto& [word, count] : names) out.name_words.push_back(word);
    std::sort(out.name_words.begin(), out.name_words.end());
    for (const auto& word : out.name_words) {  // a class that has more than 60 %, else "other"
      const auto& count = names[word];
      std::uint32_t all = 0;
      for (const auto c : count) all += c;
      const auto top = std::max_element(count.begin(), count.end());
      const bool clear = 10 * *top > 6 * all;
      out.name_classes.push_back(
          static_cast<std::uint8_t>(clear ? static_cast<entity_class>(top - count.begin()) : entity_class::other));
    }
  }

  void count_features(std::span<const data::question> train) {
    struct sketch {
      std::vector<detail::question_analysis::key> keys;
      std::vector<std::uint64_t> attributes;
    };
    std::vector<sketch> sketches;
    std::unordered_map<std::string, std::uint32_t> key_count;
    std::unordered_map<std::uint64_t, std::uint32_t> attribute_count, feature_count;
    for (const auto& question : train) {
      detail::question_analysis analysis(question, words_);
      for (const auto& key : analysis.keys) ++key_count[key.text];
      for (const auto attribute : analysis.attributes) ++attribute_count[attribute];
      sketches.push_back({std::move(analysis.keys), std::move(analysis.attributes)});
    }
    for (const auto& [key, count] : key_count) {
      if (count >= options_.minimum_count) dictionary_.keys.push_back(key);
    }
    std::sort(dictionary_.keys.begin(), dictionary_.keys.end());
    dictionary_.keys.resize(std::min(dictionary_.keys.size(), std::size_t{1} << key_bits));
    for (std::size_t k = 0; k < dictionary_.keys.size(); ++k) {
      keys_.emplace(dictionary_.keys[k], static_cast<std::uint32_t>(k));
    }
    // A feature is as rare as its attribute at least: rare attributes need no look at their features.
    for (const auto& sketch : sketches) {
      const auto keys = known_keys(sketch.keys);
      const auto count = [&](std::uint64_t attribute) {
        const auto level = detail::level_of(detail::family_of(attribute), detail::value_of(attribute));
        for (const auto& key : keys) {
          if (key.level <= level) ++feature_count[feature_of(attribute, key.number)];
        }
      };
      for (std::size_t b = 0; b < reader_layout::bundles; ++b) {
        count(detail::attribute_of(attribute_family::chosen, b));
      }
      for (const auto attribute : sketch.attributes) {
        if (attribute_count[attribute] >= options_.minimum_count) count(attribute);
      }
    }
    for (const auto& [feature, count] : feature_count) {
      if (count >= options_.minimum_count) dictionary_.features.push_back(feature);
    }
    std::sort(dictionary_.features.begin(), dictionary_.features.end());
    for (std::size_t f = 0; f < dictionary_.features.size(); ++f) {
      features_.emplace(dictionary_.features[f], static_cast<std::uint32_t>(f));
    }
  }

  reader_dictionary dictionary_;
  reader_options options_;
  detail::known_words words_;
  std::unordered_map<std::string, std::uint32_t> keys_;
  std::unordered_map<std::uint64_t, std::uint32_t> features_;
};

}  // namespace dro::models

#endif
