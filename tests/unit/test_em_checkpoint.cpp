// SPDX-License-Identifier: Apache-2.0
// A run of EM in a file: stopped anywhere and read again it ends bit for bit the same.
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/data/em_checkpoint.hpp>
#include <dro/em/callbacks.hpp>
#include <dro/em/em.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/models/table.hpp>
#include <dro/optimize/optimizer.hpp>

#include "data_files.hpp"
#include "support/exact_world.hpp"

namespace {

using dro::index_t;

/// Two tables as a source of single queries.
struct table_source {
  index_t count;
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count); }
  [[nodiscard]] dro::models::table_rows batch(std::span<const index_t> positions) const {
    if (positions.size() != 1) throw std::logic_error("table_source: batches of one only");
    return {positions[0], 1};
  }
};

/// A run with its models and optimisers.
struct everything {
  explicit everything(const test::exact_world& w)
      : selector(b, w.scores),
        generator(b, w.documents, w.picks, w.logits, w.right),
        selector_optimizer(b, {.learning_rate = 0.05}, {}, 1.0),
        generator_optimizer(b, {.learning_rate = 0.05}),
        run(b, 7) {}

  /// Goes on for `steps` steps, or to the end.
  void go_on(const test::exact_world& w, int steps) {
    int done = 0;
    dro::callback::stop_when enough([&] { return ++done == steps; });
    dro::em(b, selector, generator, table_source{w.queries}, dro::evidence<>{}, selector_optimizer, generator_optimizer,
            {.loop = {.iterations = 3, .batch_size = 1, .seed = 3}, .draw = {4, w.picks}}, run, enough);
  }
  void write(const std::filesystem::path& path) {
    dro::data::write_em_checkpoint(b, path, selector, generator, selector_optimizer, generator_optimizer, run);
  }
  void read(const std::filesystem::path& path) {
    dro::data::read_em_checkpoint(b, path, selector, generator, selector_optimizer, generator_optimizer, run);
  }
  /// The file that it writes is all there is to know.
  [[nodiscard]] std::string bytes(const std::filesystem::path& folder) {
    write(folder / "bytes");
    return read_bytes(folder / "bytes");
  }

  dro::host_backend b{1};
  test::world_selector selector;
  test::world_generator generator;
  dro::adamw<dro::host_backend> selector_optimizer;
  dro::adamw<dro::host_backend> generator_optimizer;
  dro::em_run<dro::host_backend> run;
};

}  // namespace

TEST_CASE("a run that is stopped anywhere and read from its file ends bit for bit the same") {
  const test::exact_world w(4, 2, 5, 3, 131);
  const temporary_folder folder;
  const auto path = folder.path() / "run";
  everything whole(w);
  whole.go_on(w, -1);
  const std::string expected = whole.bytes(folder.path());
  for (const int stop : {1, 4, 5, 6, 11, 14}) {
    CAPTURE(stop);
    everything first(w);
    first.go_on(w, stop);
    CHECK(first.run.position == dro::loop_position{stop / 5, stop % 5});
    first.write(path);
    everything second(w);  // new models, new optimisers without any memory
    second.read(path);
    CHECK(second.bytes(folder.path()) == first.bytes(folder.path()));
    second.go_on(w, -1);
    CHECK(second.bytes(folder.path()) == expected);
  }
}

TEST_CASE("a model that does not learn is kept without an optimiser") {
  const test::exact_world w(4, 2, 5, 3, 131);
  const temporary_folder folder;
  const auto path = folder.path() / "run";
  everything one(w);
  one.go_on(w, 3);
  dro::frozen frozen;
  dro::data::write_em_checkpoint(one.b, path, one.selector, one.generator, frozen, one.generator_optimizer, one.run);
  everything other(w);
  dro::data::read_em_checkpoint(other.b, path, other.selector, other.generator, frozen, other.generator_optimizer,
                                other.run);
  CHECK(test::same(other.selector.scores(), one.selector.scores()));
  CHECK(other.run.position == one.run.position);
  CHECK_THROWS_AS(other.read(path), dro::checkpoint_error);  // which asks for what the selector's optimiser remembers
}

TEST_CASE("what does not fit a run is refused, and changes nothing") {
  const test::exact_world w(4, 2, 5, 3, 131);
  const temporary_folder folder;
  const auto path = folder.path() / "run";
  everything run(w);
  run.go_on(w, 3);
  run.write(path);
  const test::exact_world wider(5, 2, 5, 3, 131);
  everything other(wider);
  const std::string before = other.bytes(folder.path());
  CHECK_THROWS_WITH_AS(other.read(path),
                       (path.string() + ": \"selector.parameter0\" has 20 elements, expected 25").c_str(),
                       dro::checkpoint_error);
  CHECK(other.bytes(folder.path()) == before);
  CHECK_THROWS_AS(other.read(folder.path() / "none"), dro::file_error);
  CHECK_THROWS_AS(run.write(folder.path() / "no" / "such" / "folder"), dro::file_error);
}
