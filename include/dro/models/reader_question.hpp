// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_READER_QUESTION_HPP
#define DRO_MODELS_READER_QUESTION_HPP

/// \file
/// A question made ready for the extractive reader: everything about it that does not depend on the chosen documents.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dro/config.hpp>
#include <dro/models/reader_mentions.hpp>

namespace dro::models {

/// What can be compared between two documents.
struct document_facts {
  calendar_day first;         ///< first date of the text; year 0: none
  calendar_day second;        ///< the date that ends what begins with `first`, a death say; year 0: none
  int largest = 0;            ///< largest number that is no year
  std::uint16_t country = 0;  ///< first country in the text, as in word_traits; 0: none
  std::uint8_t coverage = 0;  ///< how much of the question's content words it has: 0 nothing to cover, 1 none ... 4 all
};

/// How two options are compared, read off the question's words.
enum class criterion : std::uint8_t { none, first_date, second_date, duration };

/// A question in the form that `extractive_reader` scores. Made by `reader_features::prepare`; self-contained.
///
/// Features come in *bundles*: the features that all mentions with the same attribute share in this question. The first
/// `reader_layout::bundles` ones belong to attributes that depend on the chosen documents, at fixed places; a mention
/// lists the rest.
struct reader_question {
  /// One place where an answer could be read.
  struct entry {
    std::uint32_t candidate;  ///< which string it is
    std::uint32_t sentence;   ///< row of `titles_in_sentence`
    std::uint32_t bundles;    ///< first of its places in `mention_bundles`; the next entry's is the end
    std::uint8_t shape;       ///< coarse kind, below reader_layout::shapes
    bool asked;               ///< consists of words of the question
    bool accepted;            ///< reads an accepted answer
  };

  std::size_t documents = 0;                   ///< n
  std::vector<std::uint32_t> bundle_offsets;   ///< [bundles + 1] into bundle_features
  std::vector<std::uint32_t> bundle_features;  ///< feature numbers
  std::vector<std::uint32_t>
      mention_offsets;          ///< [n + 2] into mentions: by document, then those of the question itself
  std::vector<entry> mentions;  ///< one more than there are mentions, for its `bundles`
  std::vector<std::uint16_t> mention_bundles;  ///< bundle numbers
  std::vector<std::uint32_t> surface_offsets;  ///< [candidates + 1] into surfaces
  std::string surfaces;                        ///< candidates in their original form, one behind the other
  std::vector<std::string> accepted;           ///< distinct normal forms of the accepted answers
  std::size_t accepted_candidates = 0;         ///< how many of them are candidates

  std::size_t set_words = 0;                      ///< 64-bit words of a set of documents
  std::vector<std::uint64_t> documents_with;      ///< [candidates × set_words]: documents that mention the candidate
  std::vector<std::uint64_t> documents_titled;    ///< [candidates × set_words]: documents whose title it is
  std::vector<std::uint64_t> titles_in_sentence;  ///< [1 + sentences × set_words]: titles that occur; row 0 is empty
  std::vector<std::uint8_t> links;                ///< [n × n]: i's text has j's title; 2: behind a question word
  std::vector<std::uint8_t> title_in_question;    ///< [n]

  std::array<document_t, 2> subjects{no_document, no_document};  ///< documents of the two things compared
  std::vector<document_facts> facts;                             ///< [n]; empty if the question compares nothing
  criterion decided_by = criterion::none;
  bool greatest = false;          ///< whether the greater value wins
  bool has_options = false;       ///< the question's own mentions are yes, no and two options
  bool asks_for_country = false;  ///< a yes/no question about a common country

  /// Number of distinct strings that the candidate documents and the question offer, N.
  [[nodiscard]] std::size_t candidates() const { return surface_offsets.size() - 1; }
  /// Candidate c < N as it was first read.
  [[nodiscard]] std::string_view surface(std::size_t c) const {
    return std::string_view(surfaces).substr(surface_offsets[c], surface_offsets[c + 1] - surface_offsets[c]);
  }
  /// The documents of row `row` of one of the tables of sets.
  [[nodiscard]] std::span<const std::uint64_t> row(const std::vector<std::uint64_t>& sets, std::size_t row) const {
    return std::span(sets).subspan(row * set_words, set_words);
  }
};

/// Places of the bundles that depend on the chosen documents.
struct reader_layout {
  static constexpr std::size_t shapes = 8;

  /// Role of the mention's document among those chosen, a set of bits.
  enum role : std::size_t {
    titled_in_question = 1,
    linked_from_subject = 2,
    linked_from_other = 4,
    links = 8,
    beside_subject = 16
  };
  static constexpr std::size_t roles = 32;

  /// Ties of the mention to the other chosen documents, a set of bits.
  enum tie : std::size_t { is_title = 1, is_repeated = 2, is_near_title = 4, is_asked = 8 };
  static constexpr std::size_t ties = 16;

  /// What is compared for an option, and how it compares to the other option's.
  enum comparison : std::size_t { first_date, second_date, duration, largest, ended, decisive, comparisons };
  enum order : std::size_t { less, greater, equal, orders };

  /// What two subjects have in common; the outcomes' meaning depends on it.
  enum agreement : std::size_t { country, coverage, date, asked_country, agreements };
  static constexpr std::size_t outcomes = 5;

  static constexpr std::size_t first_tie = roles * shapes;
  static constexpr std::size_t first_comparison = first_tie + ties * shapes;
  static constexpr std::size_t first_agreement = first_comparison + 2 * comparisons * orders;
  static constexpr std::size_t bundles = first_agreement + 2 * agreements * outcomes * 2;

  static constexpr std::size_t role_bundle(std::size_t role, std::size_t shape) { return role * shapes + shape; }
  static constexpr std::size_t tie_bundle(std::size_t tie, std::size_t shape) {
    return first_tie + tie * shapes + shape;
  }
  /// `linked`: compared are documents that the subjects' documents link to.
  static constexpr std::size_t comparison_bundle(bool linked, comparison what, order how) {
    return first_comparison + ((linked ? comparisons : std::size_t{0}) + what) * orders + how;
  }
  static constexpr std::size_t agreement_bundle(bool linked, agreement what, std::size_t outcome, bool no) {
    return first_agreement + (((linked ? agreements : std::size_t{0}) + what) * outcomes + outcome) * 2 + (no ? 1 : 0);
  }
};

}  // namespace dro::models

#endif
