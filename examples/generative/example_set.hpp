// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_GENERATIVE_EXAMPLE_SET_HPP
#define DRO_EXAMPLES_GENERATIVE_EXAMPLE_SET_HPP

/// \file
/// All questions of a run: those of the generated world, or those in files.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <dro/data/read_questions.hpp>
#include <dro/error.hpp>
#include <dro/models/llama_config.hpp>

#include "examples.hpp"
#include "options.hpp"
#include "tokens.hpp"
#include "world.hpp"

namespace generative {

struct example_set {
  tokenizer tokens;
  dro::models::prompt_style style;
  std::vector<example> annotated;  ///< for warm-up
  std::vector<example> train;
  std::vector<example> dev;   ///< for early stopping and for choosing options
  std::vector<example> test;  ///< for the report

  explicit example_set(tokenizer t) : tokens(std::move(t)), style(tokens.style()) {}

  /// The longest part of any example that `length` measures.
  template <class Length>
  [[nodiscard]] std::size_t longest(Length&& length) const {
    std::size_t most = 0;
    for (const auto* part : {&annotated, &train, &dev, &test}) {
      for (const example& x : *part) most = std::max(most, static_cast<std::size_t>(length(x.tokens)));
    }
    return most;
  }
  [[nodiscard]] std::size_t longest_answer() const {
    return longest([](const auto& x) { return x.answer.size(); });
  }
};

namespace detail {

[[nodiscard]] inline example_set generate(const options& o) {
  if (o.world.families < o.training.draw.select) {
    throw dro::option_error("--families is " + std::to_string(o.world.families) + ", fewer documents than the " +
                            std::to_string(o.training.draw.select) + " to select (--select)");
  }
  example_set s(tokenizer(o.world.families, world_words(o.world)));
  const auto draw = [&](std::vector<example>& to, world_part part, dro::index_t count) {
    for (dro::index_t i = 0; i < count; ++i) {
      const world_question w = make_question(o.world, o.world_seed, part, i);
      to.push_back(make_example(s.tokens, w.question, {w.gold.begin(), w.gold.end()}, o.limits));
    }
  };
  draw(s.annotated, world_part::annotated, o.annotated);
  draw(s.train, world_part::train, o.train_questions);
  draw(s.dev, world_part::dev, o.held_out);
  draw(s.test, world_part::test, o.held_out);
  return s;
}

[[nodiscard]] inline example_set read(const options& o) {
  std::vector<dro::data::question> train = dro::data::read_questions(o.train), dev, test;
  if (!o.dev.empty()) dev = dro::data::read_questions(o.dev);
  if (!o.test.empty()) test = dro::data::read_questions(o.test);
  if (o.dev.empty() || o.test.empty()) {
    if (train.size() < 10) {
      throw dro::data_error(
          o.train.string(), 0,
          "has " + std::to_string(train.size()) + " questions, too few to hold some out for --dev and --test");
    }
    std::vector<dro::data::question> rest;
    for (std::size_t i = 0; i < train.size(); ++i) {
      auto& to = o.dev.empty() && i % 10 == 8 ? dev : o.test.empty() && i % 10 == 9 ? test : rest;
      to.push_back(std::move(train[i]));
    }
    train = std::move(rest);
  }
  std::size_t candidates = 0;
  for (const auto* part : {&train, &dev, &test}) {
    for (const auto& q : *part) {
      if (static_cast<dro::index_t>(q.documents.size()) < o.training.draw.select) {
        throw dro::option_error("question \"" + q.id + "\" has " + std::to_string(q.documents.size()) +
                                " documents, fewer than the " + std::to_string(o.training.draw.select) +
                                " to select (--select)");
      }
      candidates = std::max(candidates, q.documents.size());
    }
  }
  std::vector<std::string> texts;
  for (const auto& q : train) {
    texts.push_back(q.text);
    texts.insert(texts.end(), q.answers.begin(), q.answers.end());
    for (const auto& d : q.documents) texts.push_back(d.title.empty() ? d.text : d.title + ": " + d.text);
  }
  example_set s(tokenizer(static_cast<dro::index_t>(candidates), texts, static_cast<std::size_t>(o.vocabulary)));
  const auto add = [&](std::vector<example>& to, const std::vector<dro::data::question>& from) {
    for (const auto& q : from) to.push_back(make_example(s.tokens, q, q.supporting, o.limits));
  };
  add(s.train, train);
  add(s.dev, dev);
  add(s.test, test);
  // Where nobody annotated gold documents, warm-up shows what the retriever found.
  const bool has_gold = std::any_of(s.train.begin(), s.train.end(), [](const example& x) { return !x.gold.empty(); });
  for (const example& x : s.train) {
    if (static_cast<dro::index_t>(s.annotated.size()) < o.annotated && (!has_gold || !x.gold.empty())) {
      s.annotated.push_back(x);
    }
  }
  return s;
}

}  // namespace detail

/// The questions that `o` asks for. Throws dro::file_error, dro::data_error, and dro::option_error if a question has
/// fewer documents than are to be selected.
[[nodiscard]] inline example_set load(const options& o) {
  return o.train.empty() ? detail::generate(o) : detail::read(o);
}

/// Both models' configuration: as large as `o` says, for the longest prompts of `s`.
[[nodiscard]] inline dro::models::llama_config model_config(const options& o, const example_set& s) {
  const std::size_t question = s.longest([](const auto& x) { return x.question.size(); });
  const std::size_t document = s.longest([](const auto& x) {
    std::size_t most = 0;
    for (const auto& d : x.documents) most = std::max(most, d.size());
    return most;
  });
  const std::size_t all_documents = s.longest([](const auto& x) {
    std::size_t sum = 0;
    for (const auto& d : x.documents) sum += 1 + d.size();
    return sum;
  });
  const auto select = static_cast<std::size_t>(o.training.draw.select);
  const std::size_t choosing = 2 + question + all_documents + select;
  const std::size_t reading = 2 + question + select * document + s.longest_answer() + 1;
  dro::models::llama_config c;
  c.vocab_size = static_cast<dro::index_t>(s.tokens.size());
  c.hidden_size = o.width;
  c.intermediate_size = 2 * o.width;
  c.num_hidden_layers = o.layers;
  c.num_attention_heads = o.heads;
  c.num_key_value_heads = o.heads;
  c.head_dim = o.width / o.heads;
  c.max_position_embeddings = static_cast<dro::index_t>(std::max(choosing, reading));
  c.tie_word_embeddings = true;
  return c;
}

}  // namespace generative

#endif
