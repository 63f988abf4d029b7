// SPDX-License-Identifier: Apache-2.0
// The generator is another process: requests go to it as lines of JSON, log-likelihoods come back, and it is told how
// to learn. docs/log-probability-exchange.md describes the lines.
//
// Started without arguments this program trains a selector. It starts the generator itself: the same program with the
// argument "serve", in the place of a server of a language model. That one never sees the library, only its lines.

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dro/data/exchange_generator.hpp>
#include <dro/data/line_peer.hpp>
#include <dro/data/question.hpp>
#include <dro/dro.hpp>
#include <dro/models/table.hpp>

namespace {

using nlohmann::json;

// [server]
/// How much of the texts is this word: the mean over the texts of its share of their words.
double share(const json& texts, const std::string& answer) {
  double sum = 0;
  for (const json& text : texts) {
    std::istringstream words(text["text"].get<std::string>());
    double count = 0;
    double hits = 0;
    for (std::string word; words >> word; ++count) hits += word == answer ? 1 : 0;
    sum += hits / count;
  }
  return sum / static_cast<double>(texts.size());
}

/// A reader with one parameter: it copies a word from its texts with probability σ(trust), and else says any of a
/// thousand words: p(y|x,d_z) = σ(trust) share + (1 − σ(trust)) / 1000. It learns to trust what it is given.
int serve() {
  double trust = -2;
  double gradient = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const json message = json::parse(line);
    if (message.contains("request") || message.contains("coefficient")) {
      const double copied = share(message["texts"], message["answer"]);
      const double sigma = 1 / (1 + std::exp(-trust));
      const double p = sigma * copied + (1 - sigma) / 1000;
      if (message.contains("request")) {
        std::cout << json{{"request", message["request"]}, {"log_likelihood", std::log(p)}} << '\n';
      } else {
        gradient += message["coefficient"].get<double>() * sigma * (1 - sigma) * (copied - 1.0 / 1000) / p;
      }
    } else if (message.contains("step")) {
      trust += 0.5 * gradient;
      gradient = 0;
      std::cout << json{{"step", message["step"]}, {"trust", trust}} << '\n';
    }
    std::cout << std::flush;
  }
  return EXIT_SUCCESS;
}
// [server]

std::vector<dro::data::question> make_questions() {
  const auto ask = [](std::string id, std::string text, std::string answer,
                      std::vector<dro::data::document> candidates) {
    dro::data::question q;
    q.id = std::move(id);
    q.text = std::move(text);
    q.answers = {std::move(answer)};
    q.documents = std::move(candidates);
    return q;
  };
  return {ask("sky", "What colour is a clear sky?", "blue",
              {{"Grass", "grass is green in spring"},
               {"Sky", "a clear sky is blue"},
               {"Snow", "fresh snow is white"},
               {"Sea", "the sea may look blue or grey or green"}}),
          ask("gold", "Which metal has the symbol Au?", "gold",
              {{"Silver", "the symbol Ag is silver"},
               {"Iron", "the symbol Fe is iron"},
               {"Lead", "the symbol Pb is lead"},
               {"Gold", "the symbol Au is gold"}}),
          ask("legs", "How many legs has a spider?", "eight",
              {{"Spiders", "spiders have eight legs and most have eight eyes"},
               {"Insects", "insects have six legs"},
               {"Birds", "birds have two legs"},
               {"Octopus", "an octopus has eight arms and three hearts"}})};
}

// [describer]
using dro::models::table_rows;

/// The selector knows a question as a row of its table; the generator is to be told its text.
struct questions_of_rows {
  dro::item_batch<dro::data::question> all;

  [[nodiscard]] std::string name(const table_rows& rows, dro::index_t q) const { return all[rows.first + q].id; }
  void describe(nlohmann::ordered_json& request, const table_rows& rows, dro::index_t q,
                std::span<const dro::document_t> z) const {
    dro::data::question_texts{}.describe(request, all, rows.first + q, z);
  }
};
// [describer]

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "serve") return serve();
  using backend = dro::host_backend;
  const std::vector<dro::data::question> questions = make_questions();
  const table_rows all{0, static_cast<dro::index_t>(questions.size())};
  backend b;

  // [train]
  dro::data::line_peer process({argv[0], "serve"}, {.timeout = std::chrono::seconds(60)});
  dro::data::exchange_generator generator(process, questions_of_rows{dro::item_batch<dro::data::question>(questions)});
  dro::models::table_selector<backend> selector(b, dro::host_matrix<double>(all.count, 4));
  dro::sgd<backend> selector_optimizer(b, {.learning_rate = 1.0});
  dro::random_state<backend> random(b, 16);

  double first = 0;
  double last = 0;
  std::printf("step  log-evidence   ESS of 8\n");
  for (int step = 0; step <= 40; ++step) {
    auto e = dro::e_step(b, selector, generator, all, {.samples = 8, .select = 2}, random);
    dro::m_step(b, selector, generator, all, e, dro::evidence<>{}, selector_optimizer, dro::data::peer_optimizer{});
    // [train]
    double evidence = 0;
    double ess = 0;
    for (dro::index_t q = 0; q < all.count; ++q) {
      evidence += e.weights.log_evidence(q, 0) / static_cast<double>(all.count);
      ess += e.weights.effective_sample_size(q, 0) / static_cast<double>(all.count);
    }
    if (step == 0) first = evidence;
    last = evidence;
    if (step % 10 == 0) std::printf("%4d  %12.3f   %8.2f\n", step, evidence, ess);
  }

  bool right = true;
  const std::vector<dro::index_t> gold = {1, 3, 0};
  std::printf("\nThe document each question now ranks first:\n");
  for (dro::index_t q = 0; q < all.count; ++q) {
    dro::index_t best = 0;
    for (dro::index_t j = 1; j < 4; ++j) best = selector.scores()(q, j) > selector.scores()(q, best) ? j : best;
    const auto& question = questions[static_cast<std::size_t>(q)];
    std::printf("  %-32s %s\n", question.text.c_str(),
                question.documents[static_cast<std::size_t>(best)].title.c_str());
    right = right && best == gold[static_cast<std::size_t>(q)];
  }
  return right && last > first + 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
