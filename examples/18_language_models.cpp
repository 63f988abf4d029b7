// SPDX-License-Identifier: Apache-2.0
// Language models from files and back: byte pairs trained on a text, a transformer as selector and one as reader,
// trained together, saved in Hugging Face's formats, loaded again and adapted to other questions with LoRA.
//
// Made-up task: four people, a note on each, and the question where one of them is. Which note to read is for the
// selector to find out, and where in it the answer stands for the reader; nobody tells either.
//
//     18_language_models [FOLDER]        models and adapters are written to FOLDER, out-language-models if none is
//     named

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/eigen.hpp>
#include <dro/data/tokenizer_json.hpp>
#include <dro/dro.hpp>
#include <dro/models/generative_reader.hpp>
#include <dro/models/generative_selector.hpp>
#include <dro/models/transformer/weights.hpp>
#include <dro/text/byte_pair_trainer.hpp>

namespace {

namespace models = dro::models;
using backend = dro::eigen_backend<Eigen::RowMajor>;
using model = models::transformer<backend, float>;
using selector_type = models::generative_selector<backend, float>;
using reader_type = models::generative_reader<backend, float>;

constexpr std::array<const char*, 4> people = {"Ann", "Bo", "Cid", "Dot"};
constexpr std::array<const char*, 6> towns = {"Oslo", "Rome", "Lyon", "Bern", "Cork", "Graz"};

struct question {
  std::string text;
  std::vector<std::string> documents;
  std::string answer;
};

/// `notes_say`: what stands between a person and a town.
std::vector<question> make_questions(std::uint64_t seed, dro::index_t count, const std::string& notes_say) {
  std::vector<question> all;
  for (dro::index_t i = 0; i < count; ++i) {
    const auto roll = [&](std::uint32_t position, std::size_t sides) {
      const auto query = static_cast<std::uint32_t>(i);
      return dro::noise::uniform_index(dro::random_word({seed, 0}, query, 0, position),
                                       static_cast<std::uint32_t>(sides));
    };
    const std::size_t whom = roll(0, people.size());
    question q{std::string("Where is ").append(people[whom]) + "?", {}, {}};
    for (std::uint32_t j = 0; j < people.size(); ++j) {
      const std::string town = towns[roll(1 + j, towns.size())];
      q.documents.push_back(std::string(people[j]).append(notes_say).append(town));
      if (j == whom) q.answer = " " + town;
    }
    all.push_back(std::move(q));
  }
  return all;
}

// [tokens]
/// Byte pairs of the texts, after one token for each part of a prompt and for each candidate's number.
dro::text::byte_pair_tokenizer train_tokenizer(const std::vector<question>& questions) {
  std::vector<std::string> texts;
  for (const question& q : questions) {
    texts.insert(texts.end(), q.documents.begin(), q.documents.end());
    texts.push_back(q.text);
  }
  return dro::text::train_byte_pairs(
      texts,
      {.vocabulary = 330, .special_tokens = {"<s>", "<select>", "<answer>", "</s>", "<1>", "<2>", "<3>", "<4>"}});
}

models::prompt_style make_style(const dro::text::byte_pair_tokenizer& tokens) {
  const auto id = [&](const char* content) { return tokens.find_added(content).value(); };
  return {.begin = {id("<s>")},
          .identifiers = {id("<1>"), id("<2>"), id("<3>"), id("<4>")},
          .select = {id("<select>")},
          .answer = {id("<answer>")},
          .end = id("</s>")};
}
// [tokens]

// [source]
/// What dro::em asks for questions: how many there are, and some of them as tokens in the backend's memory.
class question_source {
 public:
  question_source(backend& b, const std::vector<question>& questions, const dro::text::byte_pair_tokenizer& tokens)
      : backend_(&b), style_(make_style(tokens)) {
    for (const question& q : questions) {
      models::tokenised_question x{tokens.encode(q.text), {}, tokens.encode(q.answer)};
      for (const std::string& d : q.documents) x.documents.push_back(tokens.encode(d));
      questions_.push_back(std::move(x));
    }
  }

  [[nodiscard]] std::size_t size() const { return questions_.size(); }
  [[nodiscard]] models::retrieval_batch<backend> batch(std::span<const dro::index_t> positions) const {
    std::vector<models::tokenised_question> chosen;
    for (const dro::index_t q : positions) chosen.push_back(questions_[static_cast<std::size_t>(q)]);
    return {*backend_, chosen, style_};
  }

 private:
  backend* backend_;
  models::prompt_style style_;
  std::vector<models::tokenised_question> questions_;
};
// [source]

// [model]
model new_model(backend& b, dro::index_t vocabulary, std::uint64_t seed) {
  models::llama_config config;
  config.vocab_size = vocabulary;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;  // grouped queries: both heads share keys and values
  config.head_dim = 16;
  config.max_position_embeddings = 128;
  model m(b, config);
  m.initialise(b, seed, 0.15);
  return m;
}
// [model]

// [train]
/// DRO: 8 lists of one document a question and step, of which half the questions are in memory at a time.
void train(backend& b, selector_type& selector, reader_type& reader, const question_source& questions,
           dro::index_t iterations, double rate) {
  using adamw = dro::adamw<backend, float, dro::cosine_schedule>;
  const dro::loop_options loop{.iterations = iterations, .batch_size = 16, .piece_size = 8};
  const auto steps = static_cast<std::uint32_t>(iterations) * static_cast<std::uint32_t>(questions.size() / 16);
  const dro::cosine_schedule schedule{.warmup = steps / 20, .total = steps, .floor = 0.1};
  constexpr double largest_norm = 1;  // of the gradient of all parameters of a model together
  adamw of_selector(b, {.learning_rate = rate}, schedule, largest_norm);
  adamw of_reader(b, {.learning_rate = rate}, schedule, largest_norm);
  dro::em(b, selector, reader, questions, dro::evidence<>{}, of_selector, of_reader,
          {.loop = loop, .draw = {.samples = 8, .select = 1}}, dro::callback::log(stdout));
}
// [train]

// [answer]
/// Share of questions that get the right answer: from the list that is most probable, by beam search.
double exact_match(backend& b, const selector_type& selector, const reader_type& reader,
                   const std::vector<question>& questions, const dro::text::byte_pair_tokenizer& tokens) {
  std::vector<dro::index_t> all;
  for (std::size_t q = 0; q < questions.size(); ++q) all.push_back(static_cast<dro::index_t>(q));
  const auto batch = question_source(b, questions, tokens).batch(all);
  // At so low a temperature noise decides between equal logits alone.
  const auto lists = selector.draw(b, batch, {.samples = 1, .select = 1}, {}, {.temperature = 1e-4});
  const auto found = reader.answers(b, batch, lists, {.beam = 2, .max_tokens = 4});
  double right = 0;
  for (std::size_t q = 0; q < questions.size(); ++q) {
    if (tokens.decode(found[q].front().tokens) == questions[q].answer) ++right;
  }
  return right / static_cast<double>(questions.size());
}
// [answer]

int run(const std::filesystem::path& folder) {
  backend b;
  const auto questions = make_questions(1, 256, " is in ");
  const auto held_out = make_questions(2, 64, " is in ");

  // [scratch]
  const auto tokens = train_tokenizer(questions);
  const auto vocabulary = static_cast<dro::index_t>(tokens.size());
  selector_type selector(new_model(b, vocabulary, 1));
  reader_type reader(new_model(b, vocabulary, 2));
  train(b, selector, reader, question_source(b, questions, tokens), 12, 5e-3);
  // [scratch]
  std::printf("trained from scratch: %.0f %% right\n", 100 * exact_match(b, selector, reader, held_out, tokens));

  // [save]
  models::save_transformer(b, selector.model(), folder / "selector");
  models::save_transformer(b, reader.model(), folder / "reader", {.type = dro::data::element_type::bf16});
  dro::data::write_tokenizer_json(tokens, folder / "reader" / "tokenizer.json");
  // [save]

  const auto rephrased = make_questions(3, 256, " has gone for good to ");
  const auto rephrased_held_out = make_questions(4, 64, " has gone for good to ");

  // [load]
  const auto same_tokens = dro::data::read_tokenizer_json(folder / "reader" / "tokenizer.json");
  selector_type adapted_selector(models::load_transformer<float>(b, folder / "selector"));
  reader_type adapted_reader(models::load_transformer<float>(b, folder / "reader"));
  const models::lora_options lora{.rank = 4, .alpha = 8, .layers = {"q_proj", "v_proj", "down_proj", "lm_head"}};
  adapted_selector.model().adapt(b, lora, 5);
  adapted_reader.model().adapt(b, lora, 6);
  // [load]
  const double before = exact_match(b, adapted_selector, adapted_reader, rephrased_held_out, same_tokens);
  train(b, adapted_selector, adapted_reader, question_source(b, rephrased, same_tokens), 8, 1e-2);
  const double after = exact_match(b, adapted_selector, adapted_reader, rephrased_held_out, same_tokens);
  std::printf("other notes: %.0f %% right, with adapters %.0f %%\n", 100 * before, 100 * after);

  // [adapters]
  models::save_adapters(b, adapted_reader.model(), folder / "reader-adapter");
  reader_type again(models::load_transformer<float>(b, folder / "reader"));
  models::load_adapters(b, folder / "reader-adapter", again.model());
  again.model().merge_adapters(b);  // one set of weights again, which save_transformer writes
  // [adapters]
  const double merged = exact_match(b, adapted_selector, again, rephrased_held_out, same_tokens);
  std::printf("merged: %.0f %%\n", 100 * merged);
  return merged > before ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "out-language-models");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "18_language_models: %s\n", e.what());
    return 1;
  }
}
