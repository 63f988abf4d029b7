// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_READER_ANALYSIS_HPP
#define DRO_MODELS_READER_ANALYSIS_HPP

/// \file
/// What the extractive reader reads off a question and its documents, before any of it is numbered as a feature.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/models/question_type.hpp>
#include <dro/models/reader_lexicon.hpp>
#include <dro/models/reader_mentions.hpp>
#include <dro/models/reader_question.hpp>
#include <dro/text/normalise.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// What kind of thing a name that holds a word tends to be.
enum class entity_class : std::uint8_t { unknown, person, place, work, group, other };

/// Families of attributes. A feature is an attribute of a mention together with a key of the question.
enum class attribute_family : std::uint8_t {
  chosen,          ///< depends on the chosen documents: value is a bundle of reader_layout
  kind,            ///< mention_kind, which option
  title,           ///< kind, whether it is a title of its own or another document
  left,            ///< word before
  right,           ///< word behind
  left_pair,       ///< two words before
  left_shape,      ///< word before, shape
  first_word,      ///< first word
  last_word,       ///< last word of several
  whole,           ///< the only word
  entity,          ///< entity_class of first and last word
  definition,      ///< a word by which the document of which it is the title defines it
  defined_focus,   ///< whether that definition has the question's head noun
  ordinal,         ///< kind, how many of the kind came before, in a bracket
  position,        ///< number of the sentence, in a bracket
  asked,           ///< whether none, some or all of its words are in the question
  near_window,     ///< share of the question's words within 3 words, shape or none
  far_window,      ///< the same within 8 words
  sentence,        ///< the same of its sentence
  best_sentence,   ///< whether no sentence of the document has more
  document,        ///< the same of its document
  focus,           ///< where the question's head noun stands: its last word, before it, in its sentence
  left_distance,   ///< words back to the next content word of the question
  right_distance,  ///< the same forward
  capitals,        ///< kind, whether a capital stands before and behind
  repeats          ///< how often the document mentions the candidate
};

/// How much of the question an attribute is combined with, each level with those before it.
enum class key_level : std::uint8_t {
  always,  ///< one key: the attribute alone
  type,    ///< question word
  focus,   ///< head noun, last word, all of them together
  words,   ///< each content word
  pairs    ///< the direction of a comparison, and pairs of content words
};

namespace detail {

/// The level up to which the keys of a question combine with attributes of a family. Bundle numbers of reader_layout
/// tell the attributes of family `chosen` apart.
constexpr key_level level_of(attribute_family family, std::uint64_t value) {
  switch (family) {
    case attribute_family::chosen:
      return value < reader_layout::first_comparison ? key_level::focus : key_level::pairs;
    case attribute_family::kind:
    case attribute_family::left:
    case attribute_family::left_shape:
    case attribute_family::ordinal:
      return key_level::words;
    case attribute_family::right:
    case attribute_family::left_pair:
    case attribute_family::first_word:
    case attribute_family::last_word:
    case attribute_family::whole:
    case attribute_family::entity:
    case attribute_family::definition:
    case attribute_family::position:
      return key_level::focus;
    default:
      return key_level::type;
  }
}

/// A family and a value below 2^32.
constexpr std::uint64_t attribute_of(attribute_family family, std::uint64_t value) {
  return static_cast<std::uint64_t>(family) << 32 | value;
}
constexpr attribute_family family_of(std::uint64_t attribute) { return static_cast<attribute_family>(attribute >> 32); }
constexpr std::uint64_t value_of(std::uint64_t attribute) { return attribute & 0xffffffffu; }

/// Coarse kind of a mention, below reader_layout::shapes.
constexpr std::uint8_t shape_of(mention_kind kind) {
  if (kind <= mention_kind::year_range) return 0;
  if (kind <= mention_kind::quantity) return 1;
  if (kind == mention_kind::country) return 2;
  if (kind == mention_kind::quoted || kind == mention_kind::title) return 3;
  if (kind <= mention_kind::name_long) return 4;
  if (kind == mention_kind::name_part) return 5;
  if (kind <= mention_kind::mixed) return 6;
  return 7;
}
/// Stands for any shape in an attribute: what is learnt there serves all.
inline constexpr std::uint64_t any_shape = reader_layout::shapes;

constexpr bool is_title_or_name(std::uint64_t shape) { return shape >= 3 && shape <= 5; }

/// Words that the reader met often in training.
struct known_words {
  struct entry {
    std::uint32_t number;  ///< from 1
    float idf;
  };
  std::unordered_map<std::string, entry> frequent;
  std::unordered_map<std::string, entity_class> classes;
  float idf_of_others = 1;
};

/// Tokens of a document and of its title.
struct document_text {
  std::vector<text::token> title, body;
  std::size_t core = 0;                   ///< tokens of the title before a bracket
  std::size_t head = 0;                   ///< tokens of the title before a bracket or a comma
  std::vector<std::uint32_t> sentence;    ///< [body]
  std::vector<text::word_id> definition;  ///< plain words of the noun phrase behind the first "is" or "was"
  std::vector<mention> mentions;
  std::vector<std::uint32_t> candidates;  ///< [mentions]

  [[nodiscard]] std::span<const text::token> core_title() const { return std::span(title).first(core); }
  [[nodiscard]] std::span<const text::token> head_title() const { return std::span(title).first(head); }
  [[nodiscard]] std::size_t sentences() const { return sentence.empty() ? 1 : sentence.back() + std::size_t{1}; }
};

/// Cuts a document into tokens, sentences and definition.
inline document_text read_document(const data::document& document, text::vocabulary& words) {
  document_text d;
  d.title = text::tokenise(document.title, words);
  d.body = text::tokenise(document.text, words);
  const auto title_until = [&](std::string_view mark) {
    const auto at = std::find_if(d.title.begin(), d.title.end(), [&](const auto& t) { return words[t.word] == mark; });
    return static_cast<std::size_t>(at - d.title.begin());
  };
  d.core = title_until("(");
  if (d.core == 0) d.core = d.title.size();
  d.head = std::min(d.core, title_until(","));
  if (d.head == 0) d.head = d.core;
  std::uint32_t sentence = 0;
  for (std::size_t t = 0; t < d.body.size(); ++t) {
    if (t > 0 && d.body[t].sentence_start && !d.body[t - 1].sentence_start) ++sentence;
    d.sentence.push_back(sentence);
  }
  std::size_t t = 0;
  while (t < d.body.size() && t < 60 && !traits_of(words[d.body[t].word]).auxiliary) ++t;
  for (const std::size_t end = std::min(d.body.size(), t + 14); t < end; ++t) {
    const auto& token = d.body[t];
    const std::string_view word = words[token.word];
    if (token.sentence_start || word == "." || word == "that" || word == "who" || word == "which" || word == "by")
      break;
    const bool plain = token.kind == text::token_kind::word && !token.capitalised && !traits_of(word).function_word;
    if (plain) d.definition.push_back(token.word);
  }
  return d;
}

/// What a document is about, by the pronouns and dates at its beginning and by its definition.
inline entity_class class_of(const document_text& d, const text::vocabulary& words) {
  static constexpr std::array person{"born", "he", "she", "his", "her", "died"};
  static constexpr std::array place{"city",     "town",   "village",      "county", "country", "state",    "capital",
                                    "district", "region", "municipality", "island", "river",   "province", "borough"};
  static constexpr std::array work{"film",   "album",  "song",     "novel",     "book",
                                   "series", "single", "magazine", "newspaper", "game"};
  static constexpr std::array group{"company", "band",         "university", "team",  "club",
                                    "school",  "organization", "league",     "label", "college"};
  for (std::size_t t = 0; t < std::min<std::size_t>(d.body.size(), 40); ++t) {
    if (holds(person, words[d.body[t].word])) return entity_class::person;
  }
  for (const auto w : d.definition) {
    if (holds(place, words[w])) return entity_class::place;
    if (holds(work, words[w])) return entity_class::work;
    if (holds(group, words[w])) return entity_class::group;
  }
  return entity_class::other;
}

/// Where `what` begins in `in`, by words; in.size() if it does not occur or is empty.
inline std::size_t find_tokens(std::span<const text::token> what, std::span<const text::token> in) {
  if (what.empty()) return in.size();
  const auto same = [](const text::token& a, const text::token& b) { return a.word == b.word; };
  return static_cast<std::size_t>(std::search(in.begin(), in.end(), what.begin(), what.end(), same) - in.begin());
}

/// Share of the question in steps.
constexpr std::uint64_t share_step(double share) {
  return share <= 0 ? 0 : share < 0.1 ? 1 : share < 0.2 ? 2 : share < 0.35 ? 3 : share < 0.5 ? 4 : share < 0.7 ? 5 : 6;
}
/// Number of words in steps.
constexpr std::uint64_t distance_step(std::size_t words) {
  return words <= 3 ? words : words <= 5 ? 4u : words <= 10 ? 5u : words <= 20 ? 6u : 7u;
}

/// One question, read. Words are numbered in a vocabulary of its own, so that questions can be read at the same time.
/// The results are the public members; `question` in them has no bundles, features or accepted answers yet.
class question_analysis {
 public:
  struct key {
    key_level level;
    std::string text;
  };

  std::vector<key> keys;                          ///< of the question
  std::vector<std::uint64_t> attributes;          ///< distinct ones of the mentions
  std::vector<std::uint32_t> mention_attributes;  ///< places in `attributes`; entry::bundles has the first
  std::vector<std::string> normal_forms;          ///< of the candidates
  reader_question question;

  question_analysis(const data::question& source, const known_words& known) : source_(source) {
    read_texts(known);
    read_question();
    find_links();
    find_candidates();
    for (std::size_t i = 0; i < n(); ++i) describe_document(i);
    describe_question();
    find_facts();
    question.mentions.push_back({0, 0, static_cast<std::uint32_t>(mention_attributes.size()), 0, false, false});
    question.surface_offsets.push_back(static_cast<std::uint32_t>(question.surfaces.size()));
  }

 private:
  using family = attribute_family;
  static constexpr std::size_t nowhere = 1000;  // farther than any distance that is told apart

  [[nodiscard]] std::size_t n() const { return documents_.size(); }
  [[nodiscard]] const std::string& form(const text::token& t) const { return words_[t.word]; }
  [[nodiscard]] bool is_content(const text::token& t) const {
    return t.kind != text::token_kind::punctuation && !traits_[t.word].function_word;
  }

  void read_texts(const known_words& known) {
    query_ = text::tokenise(source_.text, words_);
    for (const auto& document : source_.documents) documents_.push_back(read_document(document, words_));
    text::vocabulary stems;
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const auto& word = words_[static_cast<text::word_id>(w)];
      traits_.push_back(traits_of(word));
      stems_.push_back(stems.add(word_stem(word)));
      const auto frequent = known.frequent.find(word);
      numbers_.push_back(frequent == known.frequent.end() ? 0 : frequent->second.number);
      idf_.push_back(frequent == known.frequent.end() ? known.idf_of_others : frequent->second.idf);
      const auto entity = known.classes.find(word);
      classes_.push_back(entity == known.classes.end() ? entity_class::unknown : entity->second);
    }
    question.documents = n();
    question.set_words = (n() + 63) / 64;
  }

  void read_question() {
    type_ = type_of_question(query_, words_, traits_);
    const std::string asked = type_.interrogative + '|' + type_.divider;
    keys.push_back({key_level::always, ""});
    keys.push_back({key_level::type, "type " + asked});
    if (!type_.focus.empty()) keys.push_back({key_level::focus, "focus " + type_.focus});
    if (!type_.last.empty()) keys.push_back({key_level::focus, "last " + type_.last});
    keys.push_back({key_level::focus, "all " + asked + '|' + type_.focus + '|' + type_.last});
    std::vector<std::string> content;
    for (const auto& word : type_.content) {
      content.emplace_back(word_stem(word));
      keys.push_back({key_level::words, "word " + content.back()});
    }
    if (type_.direction != comparison::none) {
      content.emplace_back(type_.direction == comparison::least ? "<" : ">");
      keys.push_back({key_level::pairs, "direction " + content.back()});
    }
    if (type_.choice()) {
      for (std::size_t a = 0; a < content.size(); ++a) {
        for (std::size_t b = a + 1; b < content.size(); ++b) {
          const auto& [low, high] = std::minmax(content[a], content[b]);
          std::string pair = "pair ";
          pair.append(low).append(1, ' ').append(high);
          keys.push_back({key_level::pairs, std::move(pair)});
        }
      }
    }
    weigh_words();
  }

  /// Weight and role of every word whose stem is a content word of the question.
  void weigh_words() {
    struct query_word {
      float weight = 0;
      bool plain = false;
    };
    std::unordered_map<std::uint32_t, query_word> stems;
    for (const auto& t : query_) {
      if (!is_content(t)) continue;
      stems[stems_[t.word]] = {idf_[t.word], !t.capitalised && t.kind == text::token_kind::word};
    }
    for (const auto& [stem, word] : stems) query_weight_ += word.weight;
    query_weight_ = std::max(query_weight_, 1e-9);
    weight_.assign(words_.size(), 0);
    plain_.assign(words_.size(), false);
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const auto at = stems.find(stems_[w]);
      if (at == stems.end() || traits_[w].function_word) continue;
      weight_[w] = at->second.weight;
      plain_[w] = at->second.plain;
    }
    const auto focus = words_.find(type_.focus);
    focus_stem_ = focus && !type_.focus.empty() ? stems_[*focus] : std::numeric_limits<std::uint32_t>::max();
  }

  /// Which titles occur in the question and in the other documents.
  void find_links() {
    question.links.assign(n() * n(), 0);
    question.title_in_question.assign(n(), 0);
    std::size_t rows = 1;
    for (const auto& d : documents_) {
      first_row_.push_back(rows);
      rows += d.sentences();
    }
    question.titles_in_sentence.assign(rows * question.set_words, 0);
    for (std::size_t j = 0; j < n(); ++j) {
      const auto core = documents_[j].core_title();
      const auto head = documents_[j].head_title();
      const auto in_query = [&](std::span<const text::token> name) {
        return find_tokens(name, query_) < query_.size();
      };
      question.title_in_question[j] = in_query(core) || (head.size() > 1 && in_query(head));
      for (std::size_t i = 0; i < n(); ++i) {
        if (i == j) continue;
        find_title(i, j, core);
        if (head.size() > 1 && head.size() < core.size()) find_title(i, j, head);
      }
    }
  }

  /// Marks where the text of document i has `name`, a title of document j. A single word must have its capital.
  void find_title(std::size_t i, std::size_t j, std::span<const text::token> name) {
    const std::span<const text::token> body = documents_[i].body;
    for (std::size_t t = 0; t < body.size(); ++t) {
      t += find_tokens(name, body.subspan(t));
      if (t >= body.size()) return;
      if (name.size() == 1 && !body[t].capitalised) continue;
      const auto row = first_row_[i] + documents_[i].sentence[t];
      question.titles_in_sentence[row * question.set_words + j / 64] |= std::uint64_t{1} << (j % 64);
      const auto before = body.subspan(t > 6 ? t - 6 : 0, std::min<std::size_t>(t, 6));
      const bool asked = std::any_of(before.begin(), before.end(), [&](const auto& b) { return plain_[b.word]; });
      auto& link = question.links[i * n() + j];
      link = std::max<std::uint8_t>(link, asked ? 2 : 1);
    }
  }

  /// Number of the candidate that `surface` reads.
  std::uint32_t candidate(std::string_view surface) {
    const auto [at, unseen] = by_surface_.try_emplace(surface, 0);
    if (!unseen) return at->second;
    const auto fresh = static_cast<std::uint32_t>(normal_forms.size());
    const auto [normal, first] = by_normal_form_.try_emplace(text::normalise_answer(surface), fresh);
    at->second = normal->second;
    if (first) {
      normal_forms.push_back(normal->first);
      question.surface_offsets.push_back(static_cast<std::uint32_t>(question.surfaces.size()));
      question.surfaces += surface;
      question.documents_with.resize(question.documents_with.size() + question.set_words);
      question.documents_titled.resize(question.documents_titled.size() + question.set_words);
    }
    return at->second;
  }
  static std::string_view surface(std::string_view text, std::span<const text::token> tokens) {
    return tokens.empty() ? std::string_view{}
                          : text.substr(tokens.front().begin, tokens.back().end - tokens.front().begin);
  }
  void mark(std::vector<std::uint64_t>& sets, std::size_t row, std::size_t document) const {
    sets[row * question.set_words + document / 64] |= std::uint64_t{1} << (document % 64);
  }
  [[nodiscard]] bool is_marked(const std::vector<std::uint64_t>& sets, std::size_t row, std::size_t document) const {
    return (sets[row * question.set_words + document / 64] >> (document % 64) & 1) != 0;
  }

  /// All candidates of the documents, and which documents have them: attributes look at other documents, too.
  void find_candidates() {
    mention_finder finder(words_, traits_);
    for (std::size_t i = 0; i < n(); ++i) {
      auto& d = documents_[i];
      d.mentions = finder.find(d.body);
      for (const auto& m : d.mentions) {
        const auto c =
            candidate(surface(source_.documents[i].text, std::span(d.body).subspan(m.first, m.last - m.first)));
        d.candidates.push_back(c);
        mark(question.documents_with, c, i);
      }
      if (d.title.empty()) continue;
      for (const auto title : {d.core_title(), d.head_title()}) {
        const auto c = candidate(surface(source_.documents[i].title, title));
        mark(question.documents_with, c, i);
        mark(question.documents_titled, c, i);
      }
    }
  }

  void put(family f, std::uint64_t value) {
    const auto attribute = attribute_of(f, value);
    const auto [at, fresh] = attribute_places_.try_emplace(attribute, static_cast<std::uint32_t>(attributes.size()));
    if (fresh) attributes.push_back(attribute);
    mention_attributes.push_back(at->second);
  }
  /// The attribute with the mention's shape and without.
  void put_both(family f, std::uint64_t shape, std::uint64_t value) {
    put(f, shape << 8 | value);
    put(f, any_shape << 8 | value);
  }
  void begin_mention(std::uint32_t c, std::size_t sentence_row, std::uint64_t shape, bool asked) {
    question.mentions.push_back({c, static_cast<std::uint32_t>(sentence_row),
                                 static_cast<std::uint32_t>(mention_attributes.size()),
                                 static_cast<std::uint8_t>(shape), asked, false});
  }

  /// A word as context: its number if it is frequent, else what it looks like. Below 2^16.
  [[nodiscard]] std::uint64_t context(std::span<const text::token> tokens, std::size_t t) const {
    enum : std::uint64_t { none, capital, plain, number, year, first_word };
    if (t >= tokens.size()) return none;
    const auto& token = tokens[t];
    if (token.kind == text::token_kind::number) return form(token).size() == 4 ? year : number;
    if (const auto word = numbers_[token.word]; word != 0) return first_word + word - 1;
    return token.capitalised ? capital : plain;
  }

  void describe_title(std::size_t i, std::span<const text::token> title, std::uint64_t part) {
    const auto c = candidate(surface(source_.documents[i].title, title));
    begin_mention(c, 0, shape_of(mention_kind::title), false);
    put(family::kind, static_cast<std::uint64_t>(mention_kind::title) << 2 | part);
    put(family::title, std::uint64_t{1} << 16 | question.title_in_question[i]);
    put(family::first_word, context(title, 0));
    put(family::last_word, context(title, title.size() - 1));
    put(family::focus, std::uint64_t{1} << 16 | std::uint64_t{stems_[title.back().word] == focus_stem_});
    describe_entity(c, title, shape_of(mention_kind::title), i);
  }

  void describe_entity(std::uint32_t c, std::span<const text::token> name, std::uint64_t shape, std::size_t own) {
    if (is_title_or_name(shape)) {
      put(family::entity, shape << 8 | static_cast<std::uint64_t>(classes_[name.front().word]) << 4 |
                              static_cast<std::uint64_t>(classes_[name.back().word]));
    }
    for (std::size_t j = 0; j < n(); ++j) {
      if (!is_marked(question.documents_titled, c, j)) continue;
      bool focus = false;
      for (const auto w : documents_[j].definition) {
        if (numbers_[w] != 0) put(family::definition, numbers_[w]);
        focus = focus || stems_[w] == focus_stem_;
      }
      put(family::defined_focus, shape << 2 | std::uint64_t{focus} << 1 | std::uint64_t{j == own});
      return;
    }
  }

  /// Where the question's words stand in a text.
  struct question_words {
    std::vector<double> weight;                                      // [tokens + 1]: running sum
    std::vector<std::size_t> since_plain, until_plain, since_focus;  // [tokens + 1]: words between, from a boundary
    std::vector<double> sentence_weight;                             // [sentences]: of distinct words
    std::vector<std::size_t> sentence_begin;                         // [sentences]
    std::vector<bool> sentence_has_focus;                            // [sentences]
    double document_weight = 0;                                      // of distinct words
    double best_sentence = 0;
  };

  [[nodiscard]] question_words find_question_words(const document_text& d) const {
    const std::size_t size = d.body.size();
    question_words q{std::vector<double>(size + 1, 0.0),          std::vector<std::size_t>(size + 1, nowhere),
                     std::vector<std::size_t>(size + 1, nowhere), std::vector<std::size_t>(size + 1, nowhere),
                     std::vector<double>(d.sentences(), 0.0),     std::vector<std::size_t>(d.sentences(), size),
                     std::vector<bool>(d.sentences(), false)};
    std::vector<std::uint32_t> in_document, in_sentence;
    const auto insert = [](std::vector<std::uint32_t>& set, std::uint32_t stem) {
      if (std::find(set.begin(), set.end(), stem) != set.end()) return false;
      set.push_back(stem);
      return true;
    };
    for (std::size_t t = 0; t < size; ++t) {
      const auto w = d.body[t].word;
      const auto s = d.sentence[t];
      if (q.sentence_begin[s] == size) {
        q.sentence_begin[s] = t;
        in_sentence.clear();
      }
      q.weight[t + 1] = q.weight[t] + weight_[w];
      q.since_plain[t + 1] = plain_[w] ? 0 : q.since_plain[t] + 1;
      q.since_focus[t + 1] = stems_[w] == focus_stem_ ? 0 : q.since_focus[t] + 1;
      if (stems_[w] == focus_stem_) q.sentence_has_focus[s] = true;
      if (weight_[w] > 0 && insert(in_sentence, stems_[w])) q.sentence_weight[s] += weight_[w];
      if (weight_[w] > 0 && insert(in_document, stems_[w])) q.document_weight += weight_[w];
    }
    for (std::size_t t = size; t-- > 0;) q.until_plain[t] = plain_[d.body[t].word] ? 0 : q.until_plain[t + 1] + 1;
    q.best_sentence = *std::max_element(q.sentence_weight.begin(), q.sentence_weight.end());
    return q;
  }

  /// 0 outside of brackets, 1 in the first pair, 2 in a later one; [body].
  [[nodiscard]] std::vector<std::uint8_t> brackets(const document_text& d) const {
    std::vector<std::uint8_t> inside(d.body.size(), 0);
    for (std::size_t t = 0, depth = 0, pairs = 0; t < d.body.size(); ++t) {
      if (form(d.body[t]) == "(") {
        ++depth;
        ++pairs;
      }
      inside[t] = depth == 0 ? 0 : pairs == 1 ? 1 : 2;
      if (form(d.body[t]) == ")" && depth > 0) --depth;
    }
    return inside;
  }

  void describe_document(std::size_t i) {
    const auto& d = documents_[i];
    question.mention_offsets.push_back(static_cast<std::uint32_t>(question.mentions.size()));
    const auto words = find_question_words(d);
    const auto inside = brackets(d);
    std::array<std::size_t, mention_kinds> seen{};
    std::unordered_map<std::uint32_t, std::size_t> repeats;
    for (const auto c : d.candidates) ++repeats[c];
    for (std::size_t k = 0; k < d.mentions.size(); ++k) {
      const auto& m = d.mentions[k];
      const auto c = d.candidates[k];
      describe_mention(i, m, c, words);
      const auto kind = static_cast<std::size_t>(m.kind);
      put(family::ordinal, kind << 8 | std::min<std::size_t>(seen[kind]++, 3) << 4 | inside[m.first]);
      put(family::position, std::uint64_t{shape_of(m.kind)} << 4 |
                                std::min<std::uint64_t>(d.sentence[m.first], 3) << 2 | inside[m.first]);
      put(family::repeats, std::uint64_t{shape_of(m.kind)} << 2 | std::min<std::size_t>(repeats[c], 3));
    }
    if (d.title.empty()) return;
    const auto step = share_step(words.document_weight / query_weight_);
    describe_title(i, d.core_title(), 0);
    put_both(family::document, shape_of(mention_kind::title), step);
    if (d.head == d.core) return;
    describe_title(i, d.head_title(), 1);
    put_both(family::document, shape_of(mention_kind::title), step);
  }

  void describe_mention(std::size_t i, const mention& m, std::uint32_t c, const question_words& words) {
    const auto& d = documents_[i];
    const std::span<const text::token> body = d.body;
    const auto span = body.subspan(m.first, m.last - m.first);
    const auto kind = static_cast<std::uint64_t>(m.kind);
    const std::uint64_t shape = shape_of(m.kind);
    const auto s = d.sentence[m.first];
    const auto before = std::size_t{m.first} - 1;  // wraps round at the beginning: beyond every text

    std::size_t content = 0;
    std::size_t asked = 0;
    for (const auto& t : span) {
      if (!is_content(t)) continue;
      ++content;
      if (weight_[t.word] > 0) ++asked;
    }
    begin_mention(c, first_row_[i] + s, shape, content > 0 && asked == content);
    put_both(family::asked, shape, asked == 0 ? 0u : asked < content ? 1u : 2u);

    // What it looks like and what stands around it.
    put(family::kind, kind << 2);
    bool other_title = false;
    for (std::size_t j = 0; j < n(); ++j)
      other_title = other_title || (j != i && is_marked(question.documents_titled, c, j));
    put(family::title,
        kind << 2 | std::uint64_t{is_marked(question.documents_titled, c, i)} << 1 | std::uint64_t{other_title});
    put(family::left, context(body, before));
    put(family::left_pair, context(body, before - 1) << 16 | context(body, before));
    put(family::left_shape, context(body, before) << 4 | shape);
    put(family::right, context(body, m.last));
    put(family::first_word, context(span, 0));
    if (span.size() > 1) put(family::last_word, context(span, span.size() - 1));
    if (span.size() == 1) put(family::whole, context(span, 0));
    const auto capital = [&](std::size_t t) { return std::uint64_t{t < body.size() && body[t].capitalised}; };
    put(family::capitals, kind << 2 | capital(before) << 1 | capital(m.last));
    describe_entity(c, span, shape, i);

    // Question words around it, its own not counted.
    const double own = words.weight[m.last] - words.weight[m.first];
    const auto window = [&](std::size_t reach) {
      const std::size_t begin = std::max(m.first > reach ? m.first - reach : 0, words.sentence_begin[s]);
      const std::size_t end = std::min(body.size(), m.last + reach);
      return share_step((words.weight[end] - words.weight[begin] - own) / query_weight_);
    };
    put_both(family::near_window, shape, window(3));
    put_both(family::far_window, shape, window(8));
    put_both(family::sentence, shape, share_step((words.sentence_weight[s] - own) / query_weight_));
    put_both(family::best_sentence, shape,
             words.best_sentence > 0 && words.sentence_weight[s] >= words.best_sentence ? 1u : 0u);
    put_both(family::document, shape, share_step(words.document_weight / query_weight_));
    put_both(family::left_distance, shape, distance_step(words.since_plain[m.first]));
    put_both(family::right_distance, shape, distance_step(words.until_plain[m.last]));
    const auto since_focus = words.since_focus[m.first];
    put_both(family::focus, shape,
             std::uint64_t{stems_[span.back().word] == focus_stem_} << 3 |
                 std::uint64_t{words.sentence_has_focus[s]} << 2 |
                 (since_focus == 0  ? 0u
                  : since_focus < 4 ? 1u
                                    : 2u));
  }

  void describe_own(std::string_view what, mention_kind kind, std::uint64_t which) {
    begin_mention(candidate(what), 0, shape_of(kind), false);
    put(family::kind, static_cast<std::uint64_t>(kind) << 2 | which);
  }

  /// Mentions that need no document: yes, no, and the options of a choice. Finds the documents of the options, or of
  /// the two things that a yes/no question is about.
  void describe_question() {
    question.mention_offsets.push_back(static_cast<std::uint32_t>(question.mentions.size()));
    describe_own("yes", mention_kind::yes, 0);
    describe_own("no", mention_kind::no, 0);
    if (type_.polar) find_subjects();
    if (type_.choice()) {
      // The last divider, but one without a capital rather than one that may be in a title.
      std::size_t divider = query_.size();
      for (std::size_t t = query_.size(); t-- > 0;) {
        if (form(query_[t]) != type_.divider) continue;
        if (divider == query_.size() || (query_[divider].capitalised && !query_[t].capitalised)) divider = t;
      }
      const auto first = option_before(divider);
      const auto second = option_behind(divider + 1);
      if (!first.empty() && !second.empty()) {
        describe_own(surface(source_.text, first), mention_kind::option, 0);
        describe_own(surface(source_.text, second), mention_kind::option, 1);
        question.subjects = {document_named(first), document_named(second)};
        question.has_options = true;
      }
    }
    question.mention_offsets.push_back(static_cast<std::uint32_t>(question.mentions.size()));
  }

  struct place {
    std::size_t begin;
    std::size_t size;
    document_t document;
  };
  /// Titles that stand in a part of the question, the longest first; of two as long, the one with the shorter whole
  /// title.
  [[nodiscard]] std::vector<place> titles_in(std::span<const text::token> part) const {
    std::vector<place> places;
    for (std::size_t j = 0; j < n(); ++j) {
      const auto& d = documents_[j];
      for (const auto name : {std::span<const text::token>(d.title), d.core_title(), d.head_title()}) {
        const auto at = find_tokens(name, part);
        if (at == part.size()) continue;
        places.push_back({at, name.size(), static_cast<document_t>(j)});
        break;
      }
    }
    const auto length = [this](const place& p) {
      return documents_[static_cast<std::size_t>(p.document)].title.size();
    };
    std::sort(places.begin(), places.end(), [&](const place& a, const place& b) {
      if (a.size != b.size) return a.size > b.size;
      return length(a) != length(b) ? length(a) < length(b) : a.document < b.document;
    });
    return places;
  }
  [[nodiscard]] document_t document_named(std::span<const text::token> option) const {
    const auto places = titles_in(option);
    return places.empty() ? no_document : places.front().document;
  }
  void find_subjects() {
    const auto places = titles_in(query_);
    const auto apart = [&](const place& p) {
      return p.begin >= places.front().begin + places.front().size || places.front().begin >= p.begin + p.size;
    };
    const auto second = std::find_if(places.begin(), places.end(), apart);
    if (second != places.end()) question.subjects = {places.front().document, second->document};
  }

  /// The option behind a divider: the longest title that begins there, with a bracket; else the capitalised run, else
  /// all up to a punctuation mark.
  [[nodiscard]] std::span<const text::token> option_behind(std::size_t begin) const {
    const std::span<const text::token> query = query_;
    while (begin < query.size() && query[begin].kind == text::token_kind::punctuation) ++begin;
    std::size_t longest = 0;
    for (const auto& d : documents_) {
      if (d.core == 0 || d.core > query.size() - begin) continue;
      if (find_tokens(d.core_title(), query.subspan(begin, d.core)) == 0) longest = std::max(longest, d.core);
    }
    std::size_t end = begin + longest;
    if (longest > 0) {
      if (end < query.size() && form(query[end]) == "(") {
        while (end < query.size() && form(query[end - 1]) != ")") ++end;
      }
      return query.subspan(begin, end - begin);
    }
    const auto ends = [&](const text::token& t) { return form(t) == "?" || form(t) == "," || form(t) == "\""; };
    std::size_t last_capital = begin;
    while (end < query.size() && !ends(query[end])) {
      if (query[end].capitalised) last_capital = end + 1;
      ++end;
    }
    if (begin < end && query[begin].capitalised) {
      end = begin;
      while (end < last_capital && (query[end].capitalised || traits_[query[end].word].name_inner ||
                                    query[end].kind != text::token_kind::word)) {
        ++end;
      }
    }
    return query.subspan(begin, end - begin);
  }

  /// The option before a divider: the longest title that ends there, with a bracket; else the capitalised run, else one
  /// word.
  [[nodiscard]] std::span<const text::token> option_before(std::size_t end) const {
    const std::span<const text::token> query = query_;
    while (end > 0 && query[end - 1].kind == text::token_kind::punctuation && form(query[end - 1]) != ")" &&
           form(query[end - 1]) != "!") {
      --end;
    }
    std::size_t name_end = end;
    if (end > 0 && form(query[end - 1]) == ")") {
      while (name_end > 0 && form(query[name_end - 1]) != "(") --name_end;
      if (name_end > 0) --name_end;
    }
    std::size_t longest = 0;
    for (const auto& d : documents_) {
      if (d.core == 0 || d.core > name_end) continue;
      if (find_tokens(d.core_title(), query.subspan(name_end - d.core, d.core)) == 0)
        longest = std::max(longest, d.core);
    }
    if (longest > 0) return query.subspan(name_end - longest, end - (name_end - longest));
    std::size_t begin = end;
    const auto in_name = [&](const text::token& t) {
      return t.capitalised || t.kind == text::token_kind::number || traits_[t.word].name_inner || form(t) == "-" ||
             form(t) == "." || form(t) == "'";
    };
    while (begin > 0 && in_name(query[begin - 1])) --begin;
    while (begin < end && !query[begin].capitalised) ++begin;
    if (begin == end && begin > 0) --begin;
    return query.subspan(begin, end - begin);
  }

  void find_facts() {
    if (!type_.polar && !type_.choice()) return;
    const auto has = [this](std::string_view word) { return holds(type_.content, word); };
    if (type_.direction != comparison::none) {
      question.decided_by = has("lived") || has("live") || has("lifespan") ? criterion::duration
                            : has("died") || has("die") || has("death")    ? criterion::second_date
                                                                           : criterion::first_date;
      question.greatest = type_.direction == comparison::most;
    }
    question.asks_for_country = has("country") || has("countries") || has("nationality") || has("nationalities");
    for (const auto& d : documents_) question.facts.push_back(facts_of(d));
  }

  [[nodiscard]] document_facts facts_of(const document_text& d) const {
    document_facts facts;
    find_dates(d, facts);
    for (const auto& t : d.body) {
      if (t.kind == text::token_kind::number && form(t).size() != 4) {
        facts.largest = std::max(facts.largest, leading_integer(form(t)));
      }
    }
    for (std::size_t t = 0; t < d.body.size() && facts.country == 0; ++t) {
      if (!d.body[t].capitalised) continue;
      if (t + 1 < d.body.size()) facts.country = traits_of(form(d.body[t]) + ' ' + form(d.body[t + 1])).country;
      if (facts.country == 0) facts.country = traits_[d.body[t].word].country;
    }
    std::size_t covered = 0;
    for (const auto& word : type_.content) {
      const auto w = words_.find(word);
      if (w && std::any_of(d.body.begin(), d.body.end(), [&](const auto& t) { return stems_[t.word] == stems_[*w]; })) {
        ++covered;
      }
    }
    const auto all = type_.content.size();
    facts.coverage = static_cast<std::uint8_t>(all == 0            ? 0
                                               : covered == 0      ? 1
                                               : 2 * covered < all ? 2
                                               : covered < all     ? 3
                                                                   : 4);
    return facts;
  }

  /// The first date, and the one behind a dash or "died" that ends it.
  void find_dates(const document_text& d, document_facts& facts) const {
    const mention_finder finder(words_, traits_);
    const auto ends_a_span = [&](std::size_t t) {
      static constexpr std::array marks{"–", "-", "—", "−", "died"};
      return t < d.body.size() && holds(marks, form(d.body[t]));
    };
    std::size_t read = 0;
    for (std::size_t k = 0; k < d.mentions.size() && facts.second.year == 0; ++k) {
      auto date = d.mentions[k];
      if (date.kind > mention_kind::year_range || date.first < read) continue;
      while (k + 1 < d.mentions.size() && d.mentions[k + 1].first == date.first) {  // the longest that begins here
        ++k;
        if (d.mentions[k].kind <= mention_kind::year_range) date = d.mentions[k];
      }
      const auto day = finder.day_of(d.body, date);
      if (day.year == 0) continue;
      read = date.last;
      if (facts.first.year == 0) {
        facts.first = day;
        if (date.kind == mention_kind::year_range) {
          const int last = leading_integer(form(d.body[date.last - std::size_t{1}]));
          if (last >= 1000) facts.second.year = last;
        }
      } else if (ends_a_span(date.first - std::size_t{1}) || ends_a_span(date.first - std::size_t{2})) {
        facts.second = day;
      }
    }
  }

  const data::question& source_;
  text::vocabulary words_;
  std::vector<word_traits> traits_;  // [words], as the next five
  std::vector<std::uint32_t> stems_;
  std::vector<std::uint32_t> numbers_;  // among the frequent words, 0: rare
  std::vector<float> idf_;
  std::vector<entity_class> classes_;
  std::vector<float> weight_;  // idf of a content word of the question, else 0
  std::vector<bool> plain_;    // whether it is one without a capital
  std::vector<text::token> query_;
  question_type type_;
  double query_weight_ = 0;
  std::uint32_t focus_stem_ = 0;
  std::vector<document_text> documents_;
  std::vector<std::size_t> first_row_;  // [documents] of titles_in_sentence
  std::unordered_map<std::uint64_t, std::uint32_t> attribute_places_;
  std::unordered_map<std::string_view, std::uint32_t> by_surface_;
  std::unordered_map<std::string, std::uint32_t> by_normal_form_;
};

}  // namespace detail

}  // namespace dro::models

#endif
