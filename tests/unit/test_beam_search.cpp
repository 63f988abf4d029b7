// SPDX-License-Identifier: Apache-2.0
// Greedy and beam search against enumeration of all continuations.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/transformer/beam_search.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "support/small_retrieval.hpp"
#include "support/small_transformer.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::models::beam_search;
using dro::models::continuation;
using dro::models::no_token;
using dro::models::search_options;
using dro::models::token_t;
using dro::models::transformer_memory;
using test::real;

constexpr token_t end = 3;
constexpr real tolerance = test::log_prob_tolerance;

struct tiny_world {
  dro::models::llama_config config = test::small_llama(4);
  std::vector<dro::host_matrix<double>> weights = test::small_weights(config, 3);

  /// Log-probabilities of the token after each of a sequence.
  [[nodiscard]] std::vector<real> after(const test::tokens& sequence) const {
    auto row = test::reference_logits(config, weights, sequence).back();
    const real sum = test::log_sum_exp(row);
    for (real& v : row) v -= sum;
    return row;
  }

  /// Every continuation of at most `most` tokens with its log-probability, best first.
  [[nodiscard]] std::vector<continuation<real>> all(const test::tokens& prompt, std::size_t most) const {
    std::vector<continuation<real>> found;
    const auto extend = [&](const auto& self, const test::tokens& tokens, real log_prob) -> void {
      test::tokens whole = prompt;
      whole.insert(whole.end(), tokens.begin(), tokens.end());
      const auto next = after(whole);
      found.push_back({tokens, log_prob + next[static_cast<std::size_t>(end)]});
      if (tokens.size() == most) return;
      for (token_t v = 0; v < 4; ++v) {
        if (v == end) continue;
        auto longer = tokens;
        longer.push_back(v);
        self(self, longer, log_prob + next[static_cast<std::size_t>(v)]);
      }
    };
    extend(extend, {}, 0);
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.log_prob > b.log_prob; });
    return found;
  }
};

const tiny_world world;
const std::vector<test::tokens> prompts = {{0, 1, 2}, {2}, {1, 1}};

/// Searches for continuations of `prompts`, padded to four rows, and of one more that is all padding.
template <class B>
std::vector<std::vector<continuation<double>>> search(B& b, const search_options& options,
                                                      const tiny_world& of = world) {
  const auto model = test::transformer_of<double>(b, of.config, of.weights);
  host_matrix<token_t> tokens(16, 1);
  host_matrix<std::int32_t> starts(4, 1, {1, 3, 2, 4});
  std::fill_n(tokens.data(), 16, no_token);
  for (std::size_t s = 0; s < 3; ++s) {
    std::copy(prompts[s].begin(), prompts[s].end(), tokens.data() + 4 * s + 4 - prompts[s].size());
  }
  const auto there = dro::write(b, tokens);
  const auto starts_there = dro::write(b, starts);
  transformer_memory<B, double> memory;
  const B& view = b;
  return beam_search(b, model, view.view(there), 4, view.view(starts_there), end, options, memory);
}

/// A backend that knows by a mark what nothing has written yet, and notes when that is read.
class marking_backend : public host_backend {
 public:
  using host_backend::host_backend;

  template <class T>
  [[nodiscard]] host_matrix<T> make(index_t rows, index_t cols) const {
    host_matrix<T> m(rows, cols);
    std::fill_n(m.data(), rows * cols, mark<T>());
    return m;
  }
  template <class T>
  void read(dro::matrix_view<const T> source, T* target) {
    host_backend::read(source, target);
    reads_unwritten = reads_unwritten || std::count(target, target + source.rows * source.cols, mark<T>()) > 0;
  }

  bool reads_unwritten = false;

 private:
  template <class T>
  static T mark() {
    return static_cast<T>(-1234567);
  }
};

}  // namespace

TEST_CASE("a search reads back only what it wrote") {
  for (const index_t beam : {1, 2}) {
    marking_backend b(1);
    REQUIRE(search(b, {.beam = beam, .max_tokens = 3}).size() == 4);
    CHECK_FALSE(b.reads_unwritten);
  }
}

TEST_CASE_TEMPLATE("a beam that holds everything finds everything, best first", B, host_backend, dro::eigen_backend<>,
                   dro::deferred_backend) {
  B b(1);
  for (const index_t most : {1, 2, 3}) {
    const auto expected_count = most == 1 ? 4U : most == 2 ? 13U : 40U;
    const auto found = search(b, {.beam = 64, .max_tokens = most});
    REQUIRE(found.size() == 4);
    CHECK(found[3].empty());
    for (std::size_t s = 0; s < 3; ++s) {
      const auto expected = world.all(prompts[s], static_cast<std::size_t>(most));
      REQUIRE(expected.size() == expected_count);
      REQUIRE(found[s].size() == expected_count);
      for (std::size_t k = 0; k < expected_count; ++k) {
        CHECK(found[s][k].tokens == expected[k].tokens);
        DRO_CHECK_NEAR(found[s][k].log_prob, expected[k].log_prob, tolerance);
      }
    }
  }
}

TEST_CASE("a beam of 1 takes the best token each time") {
  host_backend b(1);
  for (const index_t most : {1, 5}) {
    const auto found = search(b, {.beam = 1, .max_tokens = most});
    for (std::size_t s = 0; s < 3; ++s) {
      test::tokens greedy;
      real log_prob = 0;
      for (;;) {
        auto whole = prompts[s];
        whole.insert(whole.end(), greedy.begin(), greedy.end());
        const auto next = world.after(whole);
        const bool must_end = static_cast<index_t>(greedy.size()) == most;
        const auto best = must_end ? end : std::max_element(next.begin(), next.end()) - next.begin();
        log_prob += next[static_cast<std::size_t>(best)];
        if (best == end) break;
        greedy.push_back(static_cast<token_t>(best));
      }
      REQUIRE(found[s].size() == 1);
      CHECK(found[s][0].tokens == greedy);
      DRO_CHECK_NEAR(found[s][0].log_prob, log_prob, tolerance);
    }
  }
}

TEST_CASE("a beam of some keeps at each step the best of what the step before kept") {
  host_backend b(1);
  constexpr std::size_t most = 4;
  for (const std::size_t beam : {2U, 3U, 5U}) {
    const auto found = search(b, {.beam = static_cast<index_t>(beam), .max_tokens = most});
    for (std::size_t s = 0; s < 3; ++s) {
      std::vector<continuation<real>> kept = {{{}, 0}};  // those that have ended with their end
      for (std::size_t step = 0; step <= most; ++step) {
        std::vector<continuation<real>> next;
        for (const auto& c : kept) {
          if (!c.tokens.empty() && c.tokens.back() == end) {
            next.push_back(c);
            continue;
          }
          auto whole = prompts[s];
          whole.insert(whole.end(), c.tokens.begin(), c.tokens.end());
          const auto p = world.after(whole);
          for (token_t v = step == most ? end : 0; v < 4; ++v) {
            next.push_back({c.tokens, c.log_prob + p[static_cast<std::size_t>(v)]});
            next.back().tokens.push_back(v);
          }
        }
        std::sort(next.begin(), next.end(), [](const auto& a, const auto& c) { return a.log_prob > c.log_prob; });
        next.resize(std::min(next.size(), beam));
        kept = next;
      }
      REQUIRE(found[s].size() == beam);
      for (std::size_t k = 0; k < beam; ++k) {
        kept[k].tokens.pop_back();
        CHECK(found[s][k].tokens == kept[k].tokens);
        DRO_CHECK_NEAR(found[s][k].log_prob, kept[k].log_prob, tolerance);
      }
    }
  }
}

TEST_CASE("a search stops when all have ended") {
  std::size_t early = 0;
  for (std::uint64_t seed = 1; seed < 9; ++seed) {
    dro::deferred_backend b;
    tiny_world other;
    other.weights = test::small_weights(other.config, seed);
    for (index_t v = 0; v < 4; ++v) {  // the end is best wherever its logit is positive, about every other time
      for (index_t j = 0; v != end && j < 8; ++j) other.weights.back()(v, j) = 0;
    }
    const auto found = search(b, {.beam = 1, .max_tokens = 14}, other);
    std::size_t longest = 0;
    for (std::size_t s = 0; s < 3; ++s) longest = std::max(longest, found[s][0].tokens.size());
    // One after each token and its end, but for the last that there can be; and three results.
    CHECK(b.reads() == std::min<std::size_t>(longest + 1, 14) + 3);
    if (longest < 13) ++early;
    marking_backend marking(1);
    REQUIRE(search(marking, {.beam = 1, .max_tokens = 14}, other).size() == 4);
    CHECK_FALSE(marking.reads_unwritten);
  }
  CHECK(early > 0);
}

TEST_CASE("a reader's answers have the likelihood that it gives them, once for equal rankings") {
  host_backend b(1);
  const test::small_language_model language;
  const auto questions = test::small_questions();
  const dro::models::retrieval_batch<host_backend> batch(b, questions, test::small_style());
  const std::vector<test::ranking> list = {{0, 1}, {2, 0}, {0, 1}, {3, 1}, {dro::no_document, 2}, {1, 0}};
  const dro::draws<host_backend, double> z(b, test::ranking_matrix(list), host_matrix<double>(6, 1),
                                           dro::grouping::uniform(2, 3));
  std::vector<std::vector<continuation<double>>> first;
  for (const index_t at_once : {1, 2, 4, 32}) {
    const dro::models::generative_reader<host_backend, double> reader(
        test::transformer_of<double>(b, language.config, language.weights), {.sequences = at_once});
    const auto found = reader.answers(b, batch, z, {.beam = 4, .max_tokens = 3});
    REQUIRE(found.size() == 6);
    if (first.empty()) first = found;
    for (std::size_t i = 0; i < 6; ++i) {
      REQUIRE(found[i].size() == 4);
      for (std::size_t k = 0; k < 4; ++k) {
        CHECK(found[i][k].tokens.size() <= 3);
        DRO_CHECK_NEAR(found[i][k].log_prob, language.log_answer(questions[i / 3], list[i], found[i][k].tokens),
                       tolerance);
        CHECK(found[i][k].tokens == first[i][k].tokens);
        CHECK(found[i][k].log_prob == first[i][k].log_prob);
        if (k > 0) CHECK(found[i][k].log_prob <= found[i][k - 1].log_prob);
      }
    }
    CHECK(found[0][0].tokens == found[2][0].tokens);
  }
}

TEST_CASE("searches that make no sense are refused") {
  host_backend b(1);
  const auto model = test::transformer_of<double>(b, world.config, world.weights);
  const host_matrix<token_t> tokens(4, 1);
  transformer_memory<host_backend, double> memory;
  const auto run = [&](index_t sequences, token_t last, const search_options& options) {
    (void)beam_search(b, model, b.view(tokens), sequences, {}, last, options, memory);
  };
  CHECK_THROWS_WITH_AS(run(1, end, {.beam = 0}), "beam_search: beam is 0 and max_tokens 16, expected at least 1",
                       dro::option_error);
  CHECK_THROWS_AS(run(1, end, {.max_tokens = 0}), dro::option_error);
  CHECK_THROWS_WITH_AS(run(1, 4, {}), "beam_search: the end is token 4 of 4", dro::option_error);
  CHECK_THROWS_WITH_AS(run(3, end, {}), "beam_search: prompts is [4 × 1] for 3 prompts", dro::shape_error);
  CHECK_THROWS_AS(run(0, end, {}), dro::shape_error);
  CHECK_THROWS_AS(run(1, end, {.max_tokens = 61}), dro::shape_error);
}
