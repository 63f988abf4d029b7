// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_EXCHANGE_GENERATOR_HPP
#define DRO_DATA_EXCHANGE_GENERATOR_HPP

/// \file
/// A generator that lives in another process, such as a language model served elsewhere.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/data/exchange_format.hpp>
#include <dro/data/exchange_requests.hpp>
#include <dro/data/json_field.hpp>
#include <dro/data/line_peer.hpp>
#include <dro/error.hpp>
#include <dro/model/concepts.hpp>
#include <dro/ranking/draws.hpp>

namespace dro::data {

/// A `dro::generator` on any backend that asks a line_peer, in the format of docs/log-probability-exchange.md. Each
/// distinct list of a query is asked once a call.
///
/// It cannot work without the host: log_likelihood reads the rankings from the backend, accumulate_gradient the
/// rankings and the coefficients; each reads once more for ragged draws, and once more for draws with multiplicities.
///
/// The other process may learn (accumulate_gradient, step) or not: give `frozen{}` as its optimiser then. Numbers do
/// not depend on the order in which it answers. Not for use by several threads at once.
template <class Describer = query_positions>
class exchange_generator {
 public:
  static constexpr bool reads_back = true;

  /// `peer` outlives the generator.
  explicit exchange_generator(line_peer& peer, Describer describer = {}, const exchange_options& options = {})
      : peer_(&peer), describer_(std::move(describer)), options_(options) {}

  /// log p(y|x,d_z) of each draw as the peer says, [draws × 1], nats; −inf for a list with a place that holds no
  /// document and for a draw of multiplicity 0, for which it is not asked. Waits for the answers.
  /// \throws data_error where an answer is malformed or does not fit a request, with the number of the peer's line;
  /// file_error where the peer ends, see line_peer.
  template <backend B, query_batch Queries, class T>
  requires request_describer<Describer, Queries>
  [[nodiscard]] matrix_t<B, T> log_likelihood(B& b, const Queries& queries, const draws<B, T>& z) const {
    const exchange_requests requests(b, z, query_names(queries, describer_), options_);
    const std::uint64_t first = asked_;
    asked_ += requests.size();
    exchange_answers answers(requests, first);
    if (requests.size() > 0) {
      const auto write_line = [&](std::size_t line, std::string& text) {
        if (line == 0) return append_exchange_line(text, {{"batch", requests.size()}}, "a batch");
        append_list(text, {{"request", first + line - 1}}, queries, requests, line - 1);
      };
      peer_->exchange(requests.size() + 1, write_line, requests.size(), [&](std::string_view line, std::size_t number) {
        answers.take(parse(line, number), place_of(number));
      });
    }
    return write(b, requests.spread<T>(answers.values(peer_->name())));
  }

  /// Sends Σ c′ of each distinct list whose sum is not 0, for the peer to add Σ c′ ∇ log p(y|x,d_z) to its gradient.
  /// Nothing is answered. \throws as log_likelihood.
  template <backend B, query_batch Queries, class T>
  requires request_describer<Describer, Queries>
  void accumulate_gradient(B& b, const Queries& queries, const draws<B, T>& z, const matrix_t<B, T>& coefficients) {
    const exchange_requests requests(b, z, query_names(queries, describer_), options_);
    static_cast<void>(
        grouped_view<const T>(std::as_const(b).view(coefficients), z.groups(), "accumulate_gradient: coefficients"));
    const auto c = read(b, coefficients);
    const auto sums = requests.sum(std::span<const T>(c.data(), static_cast<std::size_t>(c.rows() * c.cols())));
    const auto write_line = [&](std::size_t r, std::string& text) {
      if (sums[r] != 0) append_list(text, {{"coefficient", exchange_number(sums[r])}}, queries, requests, r);
    };
    peer_->exchange(requests.size(), write_line, 0, [](std::string_view, std::size_t) {});
  }

  /// Has the peer move its parameters uphill on the gradient it has added up, and set the gradient to 0. Waits until it
  /// says that it has. \throws as log_likelihood.
  void step() {
    ++steps_;
    const auto write_line = [&](std::size_t, std::string& text) {
      append_exchange_line(text, {{"step", steps_}}, "a step");
    };
    peer_->exchange(1, write_line, 1, [&](std::string_view line, std::size_t number) {
      const nlohmann::json answer = parse(line, number);
      const record_place place = place_of(number);
      const json_field step = json_field(answer, place)["step"];
      if (step.index(std::numeric_limits<std::size_t>::max()) != steps_) {
        step.fail("expected " + std::to_string(steps_) + ", the step that was asked for");
      }
    });
  }

 private:
  [[nodiscard]] record_place place_of(std::size_t number) const { return {peer_->name(), number, number, {}}; }

  [[nodiscard]] nlohmann::json parse(std::string_view line, std::size_t number) const {
    try {
      return nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception&) {
      constexpr std::size_t longest = 60;
      throw data_error(
          peer_->name(), number,
          "expected a line of JSON (numbers it lacks are the strings \"-inf\", \"inf\" and \"nan\"), found: " +
              std::string(line.substr(0, longest)) + (line.size() > longest ? "..." : ""));
    }
  }

  template <class Queries>
  void append_list(std::string& text, nlohmann::ordered_json line, const Queries& queries,
                   const exchange_requests& requests, std::size_t r) const {
    const index_t q = requests.query(r);
    const std::string& name = requests.names()[static_cast<std::size_t>(q)];
    line["query"] = name;
    line["documents"] = exchange_list(requests.documents(r));
    describe_request(describer_, line, queries, q, requests.documents(r));
    append_exchange_line(text, line, "query \"" + name + "\"");
  }

  line_peer* peer_;
  Describer describer_;
  exchange_options options_;
  mutable std::uint64_t asked_ = 0;  // no number is used twice, so that a late answer cannot pass for another
  std::uint64_t steps_ = 0;
};

/// As the optimiser of an exchange_generator: the peer has its own, and takes a step when this one would.
struct peer_optimizer {
  template <class B, class Describer>
  void step(B&, exchange_generator<Describer>& model) const {
    model.step();
  }
};

}  // namespace dro::data

#endif
