// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_WORLD_HPP
#define DRO_EXAMPLES_GENERATIVE_WORLD_HPP

/// \file
/// A made-up world in which a question is answered by two documents, of which only the first says where the second is:
///
///     question    dilo visits
///     documents   [1] bado knows kike home mosi
///                 [2] dilo knows juna home tafe
///                 …
///                 [5] juna knows hasi home peke
///                 …
///     answer      tafe peke
///
/// The answer is the way of a visit: from the home of the person that the question names to the home of the one whom
/// that person knows. Each document is about one person, and each person's family has its number among the documents,
/// as in an archive. Who knows whom and who lives where are drawn anew for each question, so that no fact can be learnt
/// by heart. Nothing in the question tells the second document from the others, and to a reader that goes from home to
/// home the order of the two matters.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dro/config.hpp>
#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>

namespace generative {

/// How large the world is.
struct world_options {
  dro::index_t families = 6;  ///< documents of a question, 3 to 8
  dro::index_t names = 4;     ///< members of a family, 1 to 8
  dro::index_t homes = 24;    ///< 2 to 64
};

/// Throws option_error for a world that there are no words for.
inline void check(const world_options& o) {
  const auto require = [](const char* what, dro::index_t value, dro::index_t least, dro::index_t most) {
    if (value >= least && value <= most) return;
    throw dro::option_error("world: " + std::string(what) + " is " + std::to_string(value) + ", expected " +
                            std::to_string(least) + " to " + std::to_string(most));
  };
  require("families", o.families, 3, 8);
  require("names", o.names, 1, 8);
  require("homes", o.homes, 2, 64);
}

/// Which questions are drawn; those of different parts are independent.
enum class world_part : std::uint32_t { annotated, train, dev, test };

/// A question with the order in which its gold documents lead to the answer.
struct world_question {
  dro::data::question question;
  std::array<dro::document_t, 2> gold;
};

namespace detail {

/// Numbers drawn one after the other from a place of their own.
class dice {
 public:
  dice(const dro::random_key& key, std::uint32_t place) : key_(key), place_(place) {}

  /// Uniform among 0 … n − 1.
  [[nodiscard]] std::size_t roll(dro::index_t n) {
    return dro::noise::uniform_index(dro::random_word(key_, place_, 0, next_++), static_cast<std::uint32_t>(n));
  }

 private:
  dro::random_key key_;
  std::uint32_t place_;
  std::uint32_t next_ = 0;
};

inline constexpr std::array<std::string_view, 8> families = {"ba", "di", "go", "ha", "ju", "ki", "le", "ri"};
inline constexpr std::array<std::string_view, 8> places = {"mo", "ny", "pe", "sa", "ta", "vu", "wi", "zo"};
inline constexpr std::array<std::string_view, 8> endings = {"do", "ke", "lo", "fe", "na", "ru", "si", "vo"};

/// Ending `second` of the word that begins with `first`.
[[nodiscard]] inline std::string word(std::string_view first, std::size_t second) {
  return std::string(first) + std::string(endings[second]);
}

}  // namespace detail

/// All words of the world.
[[nodiscard]] inline std::vector<std::string> world_words(const world_options& o) {
  std::vector<std::string> words = {"visits", "knows", "home"};
  for (std::size_t i = 0; i < static_cast<std::size_t>(o.families * o.names); ++i) {
    const auto families = static_cast<std::size_t>(o.families);
    words.push_back(detail::word(detail::families[i % families], i / families));
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(o.homes); ++i) {
    words.push_back(detail::word(detail::places[i % 8], i / 8));
  }
  return words;
}

/// Question `place` of a part of the world that `seed` makes.
[[nodiscard]] inline world_question make_question(const world_options& o, std::uint64_t seed, world_part part,
                                                  dro::index_t place) {
  detail::dice dice({seed, static_cast<std::uint32_t>(part)}, static_cast<std::uint32_t>(place));
  const auto count = static_cast<std::size_t>(o.families);
  std::vector<std::string> person(count), home(count);
  std::vector<std::size_t> known(count);
  for (std::size_t i = 0; i < count; ++i) {
    person[i] = detail::word(detail::families[i], dice.roll(o.names));
    known[i] = (i + 1 + dice.roll(o.families - 1)) % count;  // not oneself
    const std::size_t lives = dice.roll(o.homes);
    home[i] = detail::word(detail::places[lives % 8], lives / 8);
  }
  const std::size_t first = dice.roll(o.families);
  const std::size_t second = known[first];
  world_question w;
  w.gold = {static_cast<dro::document_t>(first), static_cast<dro::document_t>(second)};
  w.question.id = std::to_string(place);
  w.question.text = person[first] + " visits";
  w.question.answers = {home[first] + " " + home[second]};
  for (std::size_t i = 0; i < count; ++i) {
    w.question.documents.push_back({"", person[i] + " knows " + person[known[i]] + " home " + home[i]});
  }
  w.question.supporting = {std::min(w.gold[0], w.gold[1]), std::max(w.gold[0], w.gold[1])};
  w.question.gold_missing = 0;
  return w;
}

}  // namespace generative

#endif
