// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_SELECTOR_FEATURES_HPP
#define DRO_MODELS_SELECTOR_FEATURES_HPP

/// \file
/// What a list-wise selector sees of a question: features of each document, of each document given another one, and
/// the parts of the question that each document covers.
///
/// Notation: m(S) in [0, 1] is the mass of a set S of question words: the mass of a word is the smaller of its inverse
/// frequencies among documents and among questions ("which" is rare in documents, not in questions), and all masses of
/// a question sum to 1. Question words match by their stems. idf is that among documents. A *name* is a capitalised
/// word or a number in a document's text. The *window* of a word are the question words at most 8 words away.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/text/bm25.hpp>
#include <dro/text/idf.hpp>
#include <dro/text/stem.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// Features of document j given the question.
enum class document_feature : std::uint8_t {
  bm25,                ///< z-score among the candidates of BM25 over the candidates
  coverage,            ///< m(question words in title or text)
  sentence_coverage,   ///< the same of the title and the best single sentence
  entity_coverage,     ///< share of the mass of the question's names that is covered
  bigram_coverage,     ///< share of the mass of the question's adjacent word pairs that occur
  phrase,              ///< m of the heaviest run of question words that the text repeats in order
  log_length,          ///< z-score among the candidates of log(1 + words of the text)
  title_match,         ///< 1: the title, less what is in brackets, is in the question; 1/2: its part before a comma is
  title_share,         ///< idf share of the title's words that are in the question
  title_coverage,      ///< m(question words in the title)
  title_match_or,      ///< title_match if the question contains "or"
  title_match_yes_no,  ///< title_match if the question begins with an auxiliary verb
  title_share_comparison,  ///< title_share in either of these cases
  count
};

/// Features of document j given a document i; 0 for j = i. "New" says: if the title of j is not in the question.
enum class pair_feature : std::uint8_t {
  linked_from,             ///< the title of j occurs in the text of i, capitalised as a title is
  linked_from_new,         ///< the same, if new
  weakly_linked_from_new,  ///< it occurs only in lower case or only up to a comma, if new
  link_share,              ///< linked_from_new divided by the number of candidates that i links to
  links_to,                ///< the title of i occurs in the text of j
  title_in_names,          ///< idf share of j's title words that are names in i and not in the question
  title_near_question,     ///< the same, each word weighted by m(its best window in i)
  shared_names,            ///< log(1 + Σ idf) over rare names of both (idf > 0.4) that are not in the question
  bridge,        ///< greatest idf · m(window in i ∪ window in j) of a name of both that is not in the question
  title_bridge,  ///< greatest idf · m(window in i ∪ words of j) of a title word of j that is a name in i
  both_titles,   ///< titles of both are in the question
  new_sentence,  ///< m of the best sentence of j (title included) less the question words in i
  count
};

/// Features of document j given all documents chosen so far: what j adds to what they cover.
enum class coverage_feature : std::uint8_t {
  uncovered_text,     ///< m(question words that j has and no chosen document has)
  uncovered_title,    ///< the same of the title of j
  uncovered_names,    ///< the same of the names of the question
  uncovered_bigrams,  ///< share of the mass of the question's adjacent pairs that j has and no chosen document has
  count
};

inline constexpr auto document_feature_count = static_cast<std::size_t>(document_feature::count);
inline constexpr auto pair_feature_count = static_cast<std::size_t>(pair_feature::count);
inline constexpr auto coverage_feature_count = static_cast<std::size_t>(coverage_feature::count);

/// Names of the features, in the order of their enumerations.
inline constexpr std::array<std::string_view, document_feature_count> document_feature_names{
    "bm25",           "coverage",           "sentence_coverage",     "entity_coverage", "bigram_coverage",
    "phrase",         "log_length",         "title_match",           "title_share",     "title_coverage",
    "title_match_or", "title_match_yes_no", "title_share_comparison"};
inline constexpr std::array<std::string_view, pair_feature_count> pair_feature_names{
    "linked_from",    "linked_from_new",     "weakly_linked_from_new", "link_share", "links_to",
    "title_in_names", "title_near_question", "shared_names",           "bridge",     "title_bridge",
    "both_titles",    "new_sentence"};
inline constexpr std::array<std::string_view, coverage_feature_count> coverage_feature_names{
    "uncovered_text", "uncovered_title", "uncovered_names", "uncovered_bigrams"};

/// All that a selector needs of one question. Self-contained: it points to nothing.
struct selector_question {
  std::size_t documents = 0;               ///< n
  std::vector<float> document_features;    ///< [n × document_feature_count], row j: document j
  std::vector<float> pair_features;        ///< [n × n × pair_feature_count], row i n + j: document j given i
  std::vector<float> link_features;        ///< [n × pair_feature_count], row j: the greatest of j given any other i
  std::vector<float> word_mass;            ///< [at most 64]: the mass of each question word; bit b below is word b
  std::vector<float> bigram_mass;          ///< [at most 64]: the mass of each adjacent pair, summing to 1
  std::vector<std::uint64_t> words;        ///< [n]: question words in title or text
  std::vector<std::uint64_t> title_words;  ///< [n]: question words in the title
  std::vector<std::uint64_t> bigrams;      ///< [n]: adjacent pairs in title or text
  std::uint64_t name_words = 0;  ///< question words that are names: capitalised inside the question, or numbers

  /// Feature of document j, as float.
  [[nodiscard]] float document(std::size_t j, document_feature f) const {
    return document_features[j * document_feature_count + static_cast<std::size_t>(f)];
  }
  /// Feature of document j given i.
  [[nodiscard]] float pair(std::size_t i, std::size_t j, pair_feature f) const {
    return pair_features[(i * documents + j) * pair_feature_count + static_cast<std::size_t>(f)];
  }
};

/// Σ mass[b] over the bits b of `set`. O(bits).
inline double mass_of(std::uint64_t set, std::span<const float> mass) {
  double sum = 0;
  for (; set != 0; set &= set - 1) sum += static_cast<double>(mass[static_cast<std::size_t>(std::countr_zero(set))]);
  return sum;
}

namespace detail {

using text::word_id;
using word_list = std::vector<word_id>;

inline constexpr std::size_t window_reach = 8;     // words on either side
inline constexpr double common_title_idf = 0.2;    // a title of one word more common than this links nowhere
inline constexpr double rare_name_idf = 0.4;       // a shared name counts as rare above this
inline constexpr double content_bigram_idf = 0.3;  // a pair of words counts if their idf sum to more than this
inline constexpr std::size_t most_question_bits = 64;

inline bool contains(const word_list& text, const word_list& phrase) {
  return !phrase.empty() && std::search(text.begin(), text.end(), phrase.begin(), phrase.end()) != text.end();
}

inline word_list sorted_distinct(word_list words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

/// (x - mean) / standard deviation; all 0 where the values do not differ.
inline void standardise(std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0;
  double variance = 0;
  for (const double x : values) mean += x / n;
  for (const double x : values) variance += (x - mean) * (x - mean) / n;
  const double scale = variance > 1e-20 ? 1 / std::sqrt(variance) : 0;
  for (double& x : values) x = (x - mean) * scale;
}

/// The words of a question, in order, without punctuation and possessive "'s".
struct question_text {
  word_list words;
  word_list names;
  bool has_or = false;
  bool is_yes_no = false;

  question_text(std::string_view utf8, text::vocabulary& vocabulary) {
    static constexpr std::array<std::string_view, 15> auxiliaries{"are",    "can", "could", "did",  "do",
                                                                  "does",   "had", "has",   "have", "is",
                                                                  "should", "was", "were",  "will", "would"};
    for (const auto& t : text::tokenise(utf8, vocabulary)) {
      const std::string& form = vocabulary[t.word];
      if (t.kind == text::token_kind::punctuation || form == "'s") continue;
      if (words.empty()) is_yes_no = std::find(auxiliaries.begin(), auxiliaries.end(), form) != auxiliaries.end();
      has_or = has_or || form == "or";
      words.push_back(t.word);
      if (t.kind == text::token_kind::number || (t.capitalised && !t.sentence_start)) names.push_back(t.word);
    }
  }
};

/// A name of a document with the window of the occurrence that has most of the question around it.
struct document_name {
  word_id word;
  std::uint64_t window;
  double mass;  ///< m(window)
};

/// A document as words, without punctuation and possessive "'s".
struct selector_document {
  word_list title;       ///< all words of the title
  word_list title_core;  ///< without what is in brackets, unless that is all
  word_list title_head;  ///< the part of the core before a comma
  bool title_capitalised = false;
  word_list words;                          ///< of the text
  std::vector<bool> is_name;                ///< [words]
  std::vector<std::size_t> sentences;       ///< where each sentence begins in `words`
  std::vector<std::uint64_t> windows;       ///< [words]
  std::vector<std::uint64_t> sentence_set;  ///< [sentences]: question words of the sentence and the title
  std::vector<document_name> names;         ///< by word, those in the question left out
  bool title_in_question = false;

  selector_document(const data::document& document, text::vocabulary& vocabulary) {
    int depth = 0;
    bool behind_comma = false;
    for (const auto& t : text::tokenise(document.title, vocabulary)) {
      const std::string& form = vocabulary[t.word];
      if (t.kind == text::token_kind::punctuation) {
        if (form == "(") ++depth;
        if (form == ")" && depth > 0) --depth;
        if (form == "," && depth == 0) behind_comma = true;
        continue;
      }
      if (form == "'s") continue;
      if (title.empty()) title_capitalised = t.capitalised;
      title.push_back(t.word);
      if (depth > 0) continue;
      title_core.push_back(t.word);
      if (!behind_comma) title_head.push_back(t.word);
    }
    if (title_core.empty()) title_core = title_head = title;
    for (const auto& t : text::tokenise(document.text, vocabulary)) {
      if (t.kind == text::token_kind::punctuation || vocabulary[t.word] == "'s") continue;
      if (t.sentence_start) sentences.push_back(words.size());
      words.push_back(t.word);
      is_name.push_back(t.capitalised || t.kind == text::token_kind::number);
    }
  }
};

/// How the title of one document occurs in the text of another.
enum class link : std::uint8_t { none, weak, full };

/// Builds a `selector_question`, one group of features after the other.
class selector_question_builder {
 public:
  selector_question_builder(const data::question& source, const text::idf_table& documents,
                            const text::idf_table& questions)
      : question_(source.text, vocabulary_), n_(source.documents.size()) {
    documents_.reserve(n_);
    for (const auto& document : source.documents) documents_.emplace_back(document, vocabulary_);
    idf_.reserve(vocabulary_.size());
    for (word_id w = 0; w < vocabulary_.size(); ++w) idf_.push_back(documents(vocabulary_[w]));
    result_.documents = n_;
    number_question_words(questions);
    number_bigrams();
    for (auto& document : documents_) mark_question_words(document);
    fill_document_features();
    fill_pair_features();
    fill_link_features();
  }

  [[nodiscard]] selector_question take() && { return std::move(result_); }

 private:
  [[nodiscard]] double mass(std::uint64_t set) const { return mass_of(set, result_.word_mass); }
  [[nodiscard]] bool in_question(word_id w) const { return bit_[w] != 0; }
  [[nodiscard]] std::uint64_t bits(const word_list& words) const {
    std::uint64_t set = 0;
    for (const word_id w : words) set |= bit_[w];
    return set;
  }

  /// Gives the 64 stems of greatest mass among the question's words a bit each.
  void number_question_words(const text::idf_table& questions) {
    std::vector<std::pair<double, word_id>> ranked;
    for (const word_id w : sorted_distinct(question_.words)) {
      ranked.emplace_back(std::min(idf_[w], questions(vocabulary_[w])), w);
    }
    std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    const text::stemmer stem;
    std::unordered_map<std::string, std::uint64_t> bit_of_stem;
    double total = 0;
    for (const auto& [word_mass, w] : ranked) {
      if (bit_of_stem.size() == most_question_bits) break;
      if (!bit_of_stem.try_emplace(std::string(stem(vocabulary_[w])), std::uint64_t{1} << bit_of_stem.size()).second)
        continue;
      result_.word_mass.push_back(static_cast<float>(word_mass));
      total += word_mass;
    }
    if (total > 0) {
      for (float& m : result_.word_mass) m = static_cast<float>(static_cast<double>(m) / total);
    }
    bit_.reserve(vocabulary_.size());
    std::string key;
    for (word_id w = 0; w < vocabulary_.size(); ++w) {
      key = stem(vocabulary_[w]);
      const auto found = bit_of_stem.find(key);
      bit_.push_back(found == bit_of_stem.end() ? 0 : found->second);
    }
    result_.name_words = bits(question_.names);
  }

  /// Gives the 64 heaviest pairs of adjacent question words a bit each.
  void number_bigrams() {
    const auto& q = question_.words;
    for (std::size_t k = 1; k < q.size(); ++k) {
      if (idf_[q[k - 1]] + idf_[q[k]] > content_bigram_idf) bigrams_.emplace_back(q[k - 1], q[k]);
    }
    std::sort(bigrams_.begin(), bigrams_.end());
    bigrams_.erase(std::unique(bigrams_.begin(), bigrams_.end()), bigrams_.end());
    const auto pair_mass = [this](const auto& b) { return mass(bit_[b.first]) + mass(bit_[b.second]); };
    if (bigrams_.size() > most_question_bits) {
      std::sort(bigrams_.begin(), bigrams_.end(), [&](const auto& a, const auto& b) {
        return pair_mass(a) != pair_mass(b) ? pair_mass(a) > pair_mass(b) : a < b;
      });
      bigrams_.resize(most_question_bits);
      std::sort(bigrams_.begin(), bigrams_.end());
    }
    double total = 0;
    for (const auto& b : bigrams_) total += pair_mass(b);
    for (const auto& b : bigrams_) {
      result_.bigram_mass.push_back(static_cast<float>(total > 0 ? pair_mass(b) / total : 0));
    }
  }

  /// The question's bigrams in a list of words.
  [[nodiscard]] std::uint64_t bigrams_in(const word_list& words) const {
    std::uint64_t set = 0;
    for (std::size_t k = 1; k < words.size(); ++k) {
      const std::pair bigram(words[k - 1], words[k]);
      const auto found = std::lower_bound(bigrams_.begin(), bigrams_.end(), bigram);
      if (found != bigrams_.end() && *found == bigram) set |= std::uint64_t{1} << (found - bigrams_.begin());
    }
    return set;
  }

  /// Fills the sets of question words of a document, and its names.
  void mark_question_words(selector_document& d) const {
    const std::size_t size = d.words.size();
    d.title_in_question = contains(question_.words, d.title_head);
    d.windows.resize(size);
    for (std::size_t k = 0; k < size; ++k) {
      const std::size_t end = std::min(size, k + window_reach + 1);
      for (std::size_t l = k - std::min(k, window_reach); l < end; ++l) d.windows[k] |= bit_[d.words[l]];
    }
    const std::uint64_t title = bits(d.title);
    for (std::size_t s = 0; s < d.sentences.size(); ++s) {
      const std::size_t end = s + 1 < d.sentences.size() ? d.sentences[s + 1] : size;
      std::uint64_t set = title;
      for (std::size_t k = d.sentences[s]; k < end; ++k) set |= bit_[d.words[k]];
      d.sentence_set.push_back(set);
    }
    for (std::size_t k = 0; k < size; ++k) {
      if (d.is_name[k] && !in_question(d.words[k])) {
        d.names.push_back({d.words[k], d.windows[k], mass(d.windows[k])});
      }
    }
    std::sort(d.names.begin(), d.names.end(), [](const document_name& a, const document_name& b) {
      return std::tie(a.word, b.mass, b.window) < std::tie(b.word, a.mass, a.window);
    });
    d.names.erase(std::unique(d.names.begin(), d.names.end(),
                              [](const document_name& a, const document_name& b) { return a.word == b.word; }),
                  d.names.end());
  }

  /// m of the best sentence without the words of `seen`.
  [[nodiscard]] double best_sentence(const selector_document& d, std::uint64_t seen) const {
    double best = 0;
    for (const std::uint64_t set : d.sentence_set) best = std::max(best, mass(set & ~seen));
    return best;
  }

  /// m of the heaviest run of the question's words that `words` repeats in order.
  [[nodiscard]] double heaviest_phrase(const word_list& words) const {
    const auto& q = question_.words;
    double best = 0;
    for (std::size_t k = 0; k < words.size(); ++k) {
      if (!in_question(words[k])) continue;
      for (std::size_t a = 0; a < q.size(); ++a) {
        if (q[a] != words[k] || (a > 0 && k > 0 && q[a - 1] == words[k - 1])) continue;  // not where a run begins
        std::uint64_t run = 0;
        for (std::size_t l = 0; a + l < q.size() && k + l < words.size() && q[a + l] == words[k + l]; ++l) {
          run |= bit_[q[a + l]];
        }
        best = std::max(best, mass(run));
      }
    }
    return best;
  }

  void fill_document_features() {
    std::vector<word_list> bags;
    std::vector<double> lengths;
    for (const auto& d : documents_) {
      auto& bag = bags.emplace_back(d.title);
      bag.insert(bag.end(), d.words.begin(), d.words.end());
      lengths.push_back(std::log1p(static_cast<double>(d.words.size())));
    }
    auto relevance = text::bm25(bags).scores(question_.words);
    standardise(relevance);
    standardise(lengths);
    const double name_mass = mass(result_.name_words);
    result_.document_features.resize(n_ * document_feature_count);
    for (std::size_t j = 0; j < n_; ++j) {
      const auto& d = documents_[j];
      const std::uint64_t title = bits(d.title);
      const std::uint64_t all = title | bits(d.words);
      result_.title_words.push_back(title);
      result_.words.push_back(all);
      result_.bigrams.push_back(bigrams_in(d.title) | bigrams_in(d.words));
      const double match = contains(question_.words, d.title_core) ? 1 : d.title_in_question ? 0.5 : 0;
      double title_idf = 0;
      double shared_idf = 0;
      for (const word_id w : d.title) {
        title_idf += idf_[w];
        if (in_question(w)) shared_idf += idf_[w];
      }
      const double share = title_idf > 0 ? shared_idf / title_idf : 0;
      const auto set = [&](document_feature f, double value) {
        result_.document_features[j * document_feature_count + static_cast<std::size_t>(f)] = static_cast<float>(value);
      };
      using enum document_feature;
      set(bm25, relevance[j]);
      set(coverage, mass(all));
      set(sentence_coverage, best_sentence(d, 0));
      set(entity_coverage, name_mass > 0 ? mass(all & result_.name_words) / name_mass : 0);
      set(bigram_coverage, mass_of(result_.bigrams[j], result_.bigram_mass));
      set(phrase, heaviest_phrase(d.words));
      set(log_length, lengths[j]);
      set(title_match, match);
      set(title_share, share);
      set(title_coverage, mass(title));
      set(title_match_or, question_.has_or ? match : 0);
      set(title_match_yes_no, question_.is_yes_no ? match : 0);
      set(title_share_comparison, question_.has_or || question_.is_yes_no ? share : 0);
    }
  }

  /// How the text of `from` names the document `to`.
  [[nodiscard]] link find_link(const selector_document& from, const selector_document& to) const {
    const auto& title = to.title_core;
    if (title.empty() || title == from.title_core) return link::none;
    if (title.size() == 1 && idf_[title.front()] < common_title_idf) return link::none;
    auto result = link::none;
    for (auto at = from.words.begin();; ++at) {
      at = std::search(at, from.words.end(), title.begin(), title.end());
      if (at == from.words.end()) break;
      if (!to.title_capitalised || from.is_name[static_cast<std::size_t>(at - from.words.begin())]) return link::full;
      result = link::weak;
    }
    const bool has_head = to.title_head.size() < title.size() && to.title_head != from.title_head;
    return has_head && contains(from.words, to.title_head) ? link::weak : result;
  }

  void fill_pair_features() {
    std::vector<link> links(n_ * n_, link::none);  // [i n + j]: the title of j in the text of i
    std::vector<std::size_t> full_links(n_, 0);    // [i]
    for (std::size_t i = 0; i < n_; ++i) {
      for (std::size_t j = 0; j < n_; ++j) {
        if (i == j) continue;
        links[i * n_ + j] = find_link(documents_[i], documents_[j]);
        if (links[i * n_ + j] == link::full) ++full_links[i];
      }
    }
    result_.pair_features.resize(n_ * n_ * pair_feature_count);
    for (std::size_t i = 0; i < n_; ++i) {
      const auto& from = documents_[i];
      for (std::size_t j = 0; j < n_; ++j) {
        if (i == j) continue;
        const auto& to = documents_[j];
        const auto set = [&, row = (i * n_ + j) * pair_feature_count](pair_feature f, double value) {
          result_.pair_features[row + static_cast<std::size_t>(f)] = static_cast<float>(value);
        };
        using enum pair_feature;
        const double is_new = to.title_in_question ? 0 : 1;
        const double linked = links[i * n_ + j] == link::full ? 1 : 0;
        set(linked_from, linked);
        set(linked_from_new, linked * is_new);
        set(weakly_linked_from_new, links[i * n_ + j] == link::weak ? is_new : 0);
        if (full_links[i] > 0) set(link_share, linked * is_new / static_cast<double>(full_links[i]));
        set(links_to, links[j * n_ + i] == link::full ? 1 : 0);
        set(both_titles, from.title_in_question && to.title_in_question ? 1 : 0);
        set(new_sentence, best_sentence(to, result_.words[i]));

        double title_idf = 0;
        double in_names = 0;
        double near_question = 0;
        double title_bridge_idf = 0;
        for (const word_id w : to.title) {
          title_idf += idf_[w];
          const auto name = std::lower_bound(from.names.begin(), from.names.end(), w,
                                             [](const document_name& a, word_id b) { return a.word < b; });
          if (name == from.names.end() || name->word != w) continue;
          in_names += idf_[w];
          near_question += idf_[w] * name->mass;
          title_bridge_idf = std::max(title_bridge_idf, idf_[w] * mass(name->window | result_.words[j]));
        }
        if (title_idf > 0) {
          set(title_in_names, in_names / title_idf);
          set(title_near_question, near_question / title_idf);
        }
        set(title_bridge, title_bridge_idf);

        double shared_idf = 0;
        double best_bridge = 0;
        for (auto a = from.names.begin(), b = to.names.begin(); a != from.names.end() && b != to.names.end();) {
          if (a->word != b->word) {
            a->word < b->word ? ++a : ++b;
            continue;
          }
          const double idf = idf_[a->word];
          if (idf > rare_name_idf) shared_idf += idf;
          best_bridge = std::max(best_bridge, idf * mass(a->window | b->window));
          ++a;
          ++b;
        }
        set(shared_names, std::log1p(shared_idf));
        set(bridge, best_bridge);
      }
    }
  }

  void fill_link_features() {
    result_.link_features.resize(n_ * pair_feature_count);
    for (std::size_t i = 0; i < n_; ++i) {
      for (std::size_t f = 0; f < n_ * pair_feature_count; ++f) {
        result_.link_features[f] =
            std::max(result_.link_features[f], result_.pair_features[i * n_ * pair_feature_count + f]);
      }
    }
  }

  text::vocabulary vocabulary_;
  question_text question_;
  std::size_t n_;
  std::vector<selector_document> documents_;
  std::vector<double> idf_;                           // [vocabulary]
  std::vector<std::uint64_t> bit_;                    // [vocabulary]: the bit of a question word, 0 for others
  std::vector<std::pair<word_id, word_id>> bigrams_;  // sorted; position is the bit
  selector_question result_;
};

}  // namespace detail

/// Turns questions into features. Fitted once, on training questions: it holds how rare words are among their
/// documents and among the questions themselves.
class selector_features {
 public:
  /// Rarities counted elsewhere, as a checkpoint restores them.
  selector_features(text::idf_table documents, text::idf_table questions)
      : documents_(std::move(documents)), questions_(std::move(questions)) {}

  /// Counts words in the questions and candidates of `train`; answers and gold documents are not looked at. An empty
  /// `train` is allowed: all words are equally rare then. O(words).
  [[nodiscard]] static selector_features fit(std::span<const data::question> train) {
    text::idf_table documents;
    text::idf_table questions;
    for (const auto& question : train) {
      questions.add_document({question.text});
      for (const auto& document : question.documents) documents.add_document({document.title, document.text});
    }
    return {std::move(documents), std::move(questions)};
  }

  /// The features of one question with n >= 0 candidates; titles may be empty. Features are in [0, 1] but for the two
  /// z-scores and `shared_names`. Safe to call from several threads. O(n² words of a document), n² · 48 bytes.
  [[nodiscard]] selector_question prepare(const data::question& question) const {
    return detail::selector_question_builder(question, documents_, questions_).take();
  }

  [[nodiscard]] const text::idf_table& documents() const noexcept { return documents_; }
  [[nodiscard]] const text::idf_table& questions() const noexcept { return questions_; }

 private:
  text::idf_table documents_;
  text::idf_table questions_;
};

}  // namespace dro::models

#endif
