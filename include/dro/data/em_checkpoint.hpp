// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_EM_CHECKPOINT_HPP
#define DRO_DATA_EM_CHECKPOINT_HPP

/// \file
/// A run of dro::em in a file: what it goes on from to the same bits as if it had not been stopped.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <dro/backend/concept.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/data/checkpoint_file.hpp>
#include <dro/em/em.hpp>
#include <dro/em/m_step.hpp>
#include <dro/error.hpp>
#include <dro/random/random_state.hpp>

namespace dro::data {

namespace detail {

/// Calls f(name, view) for each matrix that a run goes on from: parameters, what optimisers remember, totals.
template <backend B, class Selector, class Generator, class SelectorOptimizer, class GeneratorOptimizer, class F>
void for_each_matrix_of_run(B& b, Selector& selector, Generator& generator, SelectorOptimizer& selector_optimizer,
                            GeneratorOptimizer& generator_optimizer, em_run<B>& run, F&& f) {
  const auto model = [&](const std::string& name, auto& parameters, auto& optimizer) {
    std::size_t number = 0;
    parameters.for_each_parameter([&](auto value, auto) { f(name + ".parameter" + std::to_string(number++), value); });
    if constexpr (!dro::detail::is_frozen<decltype(optimizer)>) {
      optimizer.prepare(b, parameters);
      optimizer.for_each_state(
          [&](const std::string& part, auto& matrix) { f(name + ".optimizer." + part, b.view(matrix)); });
    }
  };
  model("selector", selector, selector_optimizer);
  model("generator", generator, generator_optimizer);
  f("totals", b.view(run.totals.matrix()));
}

template <class T>
[[nodiscard]] std::span<T> elements(host_matrix<T>& m) {
  return {m.data(), static_cast<std::size_t>(m.rows() * m.cols())};
}

}  // namespace detail

/// Writes a run to one file, in place of what was there before once it is whole: parameters and optimisers of both
/// models (`frozen{}` for one that does not learn), position, random state and totals. Call it between two steps, such
/// as in a callback::checkpoint. Waits for the backend, and holds a copy of all on the host. Throws file_error.
template <backend B, class Selector, class Generator, class SelectorOptimizer, class GeneratorOptimizer>
void write_em_checkpoint(B& b, const std::filesystem::path& path, Selector& selector, Generator& generator,
                         SelectorOptimizer& selector_optimizer, GeneratorOptimizer& generator_optimizer,
                         em_run<B>& run) {
  checkpoint_writer writer;
  detail::for_each_matrix_of_run(b, selector, generator, selector_optimizer, generator_optimizer, run,
                                 [&]<class T>(const std::string& name, matrix_view<T> view) {
                                   auto values = read(b, matrix_view<const T>(view));
                                   writer.add(name, std::span<const T>(detail::elements(values)));
                                 });
  const std::array<index_t, 2> position{run.position.iteration, run.position.batch};
  writer.add("position", std::span<const index_t>(position));
  const std::uint64_t seed = run.random.seed();
  writer.add("random.seed", std::span<const std::uint64_t>(&seed, 1));
  const std::uint32_t step = read(b, run.random.step())(0, 0);
  writer.add("random.step", std::span<const std::uint32_t>(&step, 1));
  writer.write(path);
}

/// Reads such a file into models and optimisers of the same shapes and types, after which em() goes on where the run
/// stood. Throws checkpoint_error, which names what is missing or of another size, and file_error; then nothing has
/// changed.
template <backend B, class Selector, class Generator, class SelectorOptimizer, class GeneratorOptimizer>
void read_em_checkpoint(B& b, const std::filesystem::path& path, Selector& selector, Generator& generator,
                        SelectorOptimizer& selector_optimizer, GeneratorOptimizer& generator_optimizer,
                        em_run<B>& run) {
  const checkpoint_reader reader(path);
  const auto for_each_matrix = [&](const auto& f) {
    detail::for_each_matrix_of_run(b, selector, generator, selector_optimizer, generator_optimizer, run, f);
  };
  for_each_matrix([&]<class T>(const std::string& name, matrix_view<T> view) {
    host_matrix<T> values(view.rows, view.cols);
    reader.get_into(name, detail::elements(values));
  });
  std::array<index_t, 2> position{};
  reader.get_into("position", std::span<index_t>(position));
  std::uint64_t seed = 0;
  reader.get_into("random.seed", std::span<std::uint64_t>(&seed, 1));
  std::uint32_t step = 0;
  reader.get_into("random.step", std::span<std::uint32_t>(&step, 1));

  for_each_matrix(
      [&]<class T>(const std::string& name, matrix_view<T> view) { b.write(reader.get<T>(name).data(), view); });
  run.position = {position[0], position[1]};
  run.random = random_state<B>(b, seed, step);
}

}  // namespace dro::data

#endif
