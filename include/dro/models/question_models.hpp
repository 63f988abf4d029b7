// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_MODELS_QUESTION_MODELS_HPP
#define DRO_MODELS_QUESTION_MODELS_HPP

/// \file
/// The ready-made models for questions over text: a list-wise feature selector and an extractive reader, as a
/// `dro::selector` and a `dro::generator` over batches of prepared questions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>
#include <dro/data/question.hpp>
#include <dro/error.hpp>
#include <dro/model/host_generator.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/models/extractive_reader.hpp>
#include <dro/models/feature_selector.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/text/idf.hpp>
#include <dro/text/tokens.hpp>

namespace dro::models {

/// A question with everything both models want to know of it. It does not point into the question it was made from.
struct prepared_question {
  selector_question for_selector;
  reader_question for_reader;

  // Each model takes its own part of the question. NOLINTBEGIN(google-explicit-constructor)
  operator const selector_question&() const { return for_selector; }
  operator const reader_question&() const { return for_reader; }
  // NOLINTEND(google-explicit-constructor)
};

/// Features of both models, fitted on training questions.
struct question_features {
  selector_features selector;
  reader_features reader;

  [[nodiscard]] static question_features fit(std::span<const data::question> train,
                                             const reader_options& options = {}) {
    return {selector_features::fit(train), reader_features::fit(train, options)};
  }

  /// Adds the fitted features to a checkpoint, under names that begin with "documents.", "questions." and "reader.".
  void save(data::checkpoint_writer& writer) const {
    save_idf(writer, "documents", selector.documents());
    save_idf(writer, "questions", selector.questions());
    const reader_dictionary& d = reader.dictionary();
    const reader_options o = reader.options();
    writer.add("reader.words", std::span<const std::string>(d.words));
    writer.add("reader.idf", std::span<const float>(d.idf));
    writer.add("reader.idf_of_others", std::span<const float>(&d.idf_of_others, 1));
    writer.add("reader.name_words", std::span<const std::string>(d.name_words));
    writer.add("reader.name_classes", std::span<const std::uint8_t>(d.name_classes));
    writer.add("reader.keys", std::span<const std::string>(d.keys));
    writer.add("reader.features", std::span<const std::uint64_t>(d.features));
    writer.add("reader.minimum_count", std::span<const std::uint32_t>(&o.minimum_count, 1));
    writer.add("reader.shares", std::span<const double>(std::array{o.uniform_share, o.string_share}));
  }
  /// Reads what save() added. Throws checkpoint_error.
  [[nodiscard]] static question_features load(const data::checkpoint_reader& file) {
    try {
      reader_dictionary d;
      d.words = file.strings("reader.words");
      d.idf = file.get<float>("reader.idf");
      file.get_into("reader.idf_of_others", std::span<float>(&d.idf_of_others, 1));
      d.name_words = file.strings("reader.name_words");
      d.name_classes = file.get<std::uint8_t>("reader.name_classes");
      d.keys = file.strings("reader.keys");
      d.features = file.get<std::uint64_t>("reader.features");
      reader_options o;
      std::array<double, 2> shares{};
      file.get_into("reader.minimum_count", std::span<std::uint32_t>(&o.minimum_count, 1));
      file.get_into("reader.shares", std::span<double>(shares));
      o.uniform_share = shares[0];
      o.string_share = shares[1];
      return {selector_features(load_idf(file, "documents"), load_idf(file, "questions")),
              reader_features(std::move(d), o)};
    } catch (const file_error&) {
      throw;
    } catch (const error& e) {
      throw checkpoint_error(file.path(), e.what());
    }
  }

  /// Prepares all questions, in their order, on the threads of `b`. Work is done when the call returns.
  template <host_executed B>
  [[nodiscard]] std::vector<prepared_question> prepare(B& b, std::span<const data::question> questions) const {
    std::vector<prepared_question> prepared(questions.size());
    b.run(static_cast<index_t>(questions.size()), [this, questions, out = prepared.data()](auto&, index_t i) {
      const data::question& question = questions[static_cast<std::size_t>(i)];
      out[i] = {selector.prepare(question), reader.prepare(question)};
    });
    b.synchronise();
    return prepared;
  }

 private:
  static void save_idf(data::checkpoint_writer& writer, const std::string& name, const text::idf_table& table) {
    const std::uint64_t documents = table.documents();
    std::vector<std::string> words;
    words.reserve(table.words().size());
    for (text::word_id w = 0; w < table.words().size(); ++w) words.push_back(table.words()[w]);
    writer.add(name + ".count", std::span<const std::uint64_t>(&documents, 1));
    writer.add(name + ".words", std::span<const std::string>(words));
    writer.add(name + ".frequencies", table.frequencies());
  }
  static text::idf_table load_idf(const data::checkpoint_reader& file, const std::string& name) {
    std::uint64_t documents = 0;
    file.get_into(name + ".count", std::span<std::uint64_t>(&documents, 1));
    const auto words = file.strings(name + ".words");
    const auto frequencies = file.get<std::uint32_t>(name + ".frequencies");
    return {static_cast<std::size_t>(documents), words, frequencies};
  }
};

/// Selector and generator over item_batch<prepared_question>.
using question_selector = autoregressive_selector<feature_selector>;
using question_reader = host_generator<extractive_reader>;

}  // namespace dro::models

#endif
