// SPDX-License-Identifier: Apache-2.0
// Models that look at one question and one list of documents at a time, in ordinary C++: two adapters make a selector
// and a generator of them. With an optimiser of your own, and search for the best ranking at test time.
//
// Made-up task, two hops: "Who is the <relation> of the <relation> of Ann?" A document says something of a subject and
// names an object. The first hop starts at the entity of the question, the second at the object of the first. The
// second document has no word in common with the question, so no score of a document alone can tell it from the others.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <span>
#include <vector>

#include <dro/dro.hpp>
#include <dro/model/host_generator.hpp>

namespace {

constexpr std::size_t documents = 8;
constexpr std::size_t entities = 20;

struct document {
  std::size_t subject;
  std::size_t object;
};

struct question {
  std::size_t entity;
  std::array<document, documents> candidates;
  std::vector<dro::document_t> gold;  // the two hops, for the score at the end
  std::size_t answer;
};

const document& at(const question& x, dro::document_t j) { return x.candidates[static_cast<std::size_t>(j)]; }

// [step_scorer]
/// Scores of the documents given those already chosen: θ · (is about the question's entity, is about the object of a
/// document already chosen). Without `sees_choices` the second feature is 0, and the model is document-independent.
class hop_scorer {
 public:
  explicit hop_scorer(bool sees_choices) : sees_choices_(sees_choices) {}

  dro::index_t document_count(const question&) const { return documents; }

  void scores(const question& x, std::span<const dro::document_t> prefix, std::span<double> out) const {
    for (std::size_t j = 0; j < documents; ++j) {
      const auto f = features(x, prefix, j);
      out[j] = theta_[0] * f[0] + theta_[1] * f[1];
    }
  }

  void accumulate_score_gradient(const question& x, std::span<const dro::document_t> prefix,
                                 std::span<const double> d_scores, std::span<double> gradient) const {
    for (std::size_t j = 0; j < documents; ++j) {
      const auto f = features(x, prefix, j);
      for (std::size_t k = 0; k < f.size(); ++k) gradient[k] += d_scores[j] * f[k];
    }
  }

  std::span<double> parameters() { return theta_; }

 private:
  std::array<double, 2> features(const question& x, std::span<const dro::document_t> prefix, std::size_t j) const {
    const std::size_t subject = x.candidates[j].subject;
    const bool linked = std::any_of(prefix.begin(), prefix.end(),
                                    [&](dro::document_t earlier) { return at(x, earlier).object == subject; });
    return {subject == x.entity ? 1.0 : 0.0, sees_choices_ && linked ? 1.0 : 0.0};
  }

  bool sees_choices_;
  std::array<double, 2> theta_{};
};
// [step_scorer]

// [list_scorer]
/// p(y|x,d_z) ∝ exp(φ · features of entity y given the list): is named by a document, is named by a document whose
/// subject another document of the list names. Every entity is possible, named or not, so no answer has probability 0.
class naming_reader {
 public:
  struct workspace {
    std::array<std::array<double, 2>, entities> features;
    std::array<double, entities> probability;
  };
  static constexpr bool order_free = true;  // lists of the same documents are scored once

  double log_likelihood(const question& x, std::span<const dro::document_t> z, workspace& w) const {
    read(x, z, w);
    return std::log(w.probability[x.answer]);
  }

  void accumulate_gradient(const question& x, std::span<const dro::document_t> z, double coefficient,
                           dro::sparse_gradient& gradient, workspace& w) const {
    read(x, z, w);
    for (std::uint32_t k = 0; k < phi_.size(); ++k) {
      double mean = 0;
      for (std::size_t y = 0; y < entities; ++y) mean += w.probability[y] * w.features[y][k];
      gradient.add(k, coefficient * (w.features[x.answer][k] - mean));
    }
  }

  std::span<double> parameters() { return phi_; }

 private:
  void read(const question& x, std::span<const dro::document_t> z, workspace& w) const {
    w.features = {};
    for (const dro::document_t j : z) {
      const document& d = at(x, j);
      w.features[d.object][0] = 1;
      for (const dro::document_t i : z) {
        if (at(x, i).object == d.subject) w.features[d.object][1] = 1;
      }
    }
    double sum = 0;
    for (std::size_t y = 0; y < entities; ++y) {
      sum += w.probability[y] = std::exp(phi_[0] * w.features[y][0] + phi_[1] * w.features[y][1]);
    }
    for (double& p : w.probability) p /= sum;
  }

  std::array<double, 2> phi_{};
};
// [list_scorer]

// [optimiser]
/// An optimiser is anything with step(b, model). It moves the values uphill and leaves the gradient at 0.
struct gradient_ascent {
  double rate;

  template <dro::backend B, dro::trainable Model>
  void step(B& b, Model& model) const {
    model.for_each_parameter([&](auto value, auto gradient) {
      b.run(value.rows, [rate = rate, value, gradient](auto& team, dro::index_t row) {
        team.for_each(value.cols, [&](dro::index_t col) {
          value(row, col) += rate * gradient(row, col);
          gradient(row, col) = 0;
        });
      });
    });
  }
};
// [optimiser]

/// Documents about different subjects, in a random order. Two of them are the hops from the entity to the answer.
std::vector<question> make_questions(std::uint32_t first, std::uint32_t count) {
  std::vector<question> all;
  for (std::uint32_t q = first; q < first + count; ++q) {
    std::uint32_t place = 0;
    const auto shuffle = [&](auto& list) {
      for (std::size_t k = list.size() - 1; k > 0; --k) {
        const std::uint32_t word = dro::random_word({.seed = 11}, q, 0, place++);
        std::swap(list[k], list[dro::noise::uniform_index(word, static_cast<std::uint32_t>(k + 1))]);
      }
    };
    std::array<std::size_t, entities> entity;
    std::iota(entity.begin(), entity.end(), std::size_t{0});
    shuffle(entity);
    question x{.entity = entity[0], .candidates = {}, .gold = {}, .answer = entity[2]};
    x.candidates[0] = {entity[0], entity[1]};
    x.candidates[1] = {entity[1], entity[2]};
    for (std::size_t j = 2; j < documents; ++j) x.candidates[j] = {entity[j + 1], entity[documents + j]};
    shuffle(x.candidates);
    for (const std::size_t subject : {entity[0], entity[1]}) {
      const auto hop = std::find_if(x.candidates.begin(), x.candidates.end(),
                                    [&](const document& d) { return d.subject == subject; });
      x.gold.push_back(static_cast<dro::document_t>(hop - x.candidates.begin()));
    }
    all.push_back(x);
  }
  return all;
}

/// Trains a pair of models, and says how often the best ranking holds both hops.
double train(bool sees_choices) {
  const std::vector<question> questions = make_questions(0, 200);
  const std::vector<question> held_out = make_questions(200, 200);
  // [train]
  dro::host_backend b;
  dro::autoregressive_selector selector(hop_scorer{sees_choices});
  dro::host_generator reader(naming_reader{});
  gradient_ascent selector_steps{1.0}, reader_steps{1.0};
  dro::callback::log log(stdout);
  dro::em(b, selector, reader, dro::item_source<question>(questions), dro::evidence<>{}, selector_steps, reader_steps,
          {.loop = {.iterations = 6}, .draw = {.samples = 8, .select = 2}}, log);

  double found = 0;
  for (const question& x : held_out) {
    const std::vector<dro::document_t> best = dro::greedy_ranking(selector.scorer(), x, 2);
    if (std::is_permutation(best.begin(), best.end(), x.gold.begin()))
      found += 1.0 / static_cast<double>(held_out.size());
  }
  // [train]
  const std::span<double> theta = selector.scorer().parameters();
  std::printf("selector: %.2f for \"about the question's entity\", %.2f for \"about what a chosen document names\"\n",
              theta[0], theta[1]);
  return found;
}

}  // namespace

int main() {
  std::printf("document-independent: the score of a document does not see what was chosen\n");
  const double independent = train(false);
  std::printf("\nlist-wise: the score of the second document depends on the first\n");
  const double list_wise = train(true);
  std::printf(
      "\nboth hops found on held-out questions: %.0f %% document-independent, %.0f %% list-wise\n"
      "The first hop alone never names the answer, so a selector that cannot follow it learns to leave it out.\n",
      100 * independent, 100 * list_wise);
  return list_wise > 0.95 && independent < 0.5 ? EXIT_SUCCESS : EXIT_FAILURE;
}
