// SPDX-License-Identifier: Apache-2.0
// Draws that go to another process and log-likelihoods that come back, over files and over pipes.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/data/exchange_file.hpp>
#include <dro/data/exchange_generator.hpp>
#include <dro/data/line_peer.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/m_step.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/ranking/enumerate.hpp>

#include "data_files.hpp"
#include "support/exact_world.hpp"

namespace {

using dro::index_t;
using dro::data::exchange_generator;
using dro::data::exchange_options;
using dro::data::exchange_requests;
using dro::data::line_peer;
using dro::models::table_rows;
using nlohmann::json;
using backend = dro::host_backend;
using question_batch = dro::item_batch<dro::data::question>;

static_assert(dro::generator<exchange_generator<>, backend, table_rows, double>);
static_assert(
    dro::generator<exchange_generator<dro::data::question_texts>, dro::deferred_backend, question_batch, float>);
static_assert(exchange_generator<>::reads_back);

constexpr dro::document_t none = dro::no_document;

/// Some queries, by name.
struct named_queries {
  std::vector<std::string> names;
  [[nodiscard]] std::size_t size() const { return names.size(); }
};
struct their_names {
  [[nodiscard]] std::string name(const named_queries& queries, index_t q) const {
    return queries.names[static_cast<std::size_t>(q)];
  }
};

/// Draws of numbers that do not survive being written with too few digits, or in a wrong place.
template <class T>
std::vector<T> awkward_numbers(std::size_t count) {
  constexpr double u = 0.1;
  const std::vector<double> special = {u + 0.2, -745.1332191019411, -0.0, 5e-324, -test::infinity<double>, -1.0 / 3.0};
  std::vector<T> list;
  for (std::size_t i = 0; i < count; ++i) list.push_back(static_cast<T>(special[i % special.size()]));
  return list;
}

template <class T, class B>
std::vector<T> on_host(B& b, const dro::matrix_t<B, T>& m) {
  const auto copy = read(b, m);
  const auto values = test::elements(copy);
  return {values.begin(), values.end()};
}

/// Equal, bit for bit.
template <class T>
bool identical(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](T x, T y) {
    using word = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
    return std::bit_cast<word>(x) == std::bit_cast<word>(y);
  });
}

const std::vector<test::ranking> lists = {{0, 2}, {2, 0}, {0, 2}, {1, none}, {1, 2}, {0, 1}};

template <class T, class B>
dro::draws<B, T> uniform_draws(B& b, index_t queries, const dro::draw_traits& traits = {}) {
  return {b, write(b, test::ranking_matrix(lists)), write(b, test::column(awkward_numbers<T>(lists.size()))),
          dro::grouping::uniform(queries, static_cast<index_t>(lists.size()) / queries), traits};
}

/// Three queries with 4, 0 and 2 draws.
template <class T, class B>
dro::draws<B, T> ragged_draws(B& b, const dro::draw_traits& traits = {}) {
  return {b, write(b, test::ranking_matrix(lists)), write(b, test::column(awkward_numbers<T>(lists.size()))),
          write(b, dro::host_matrix<std::int32_t>(4, 1, {0, 4, 4, 6})), traits};
}

/// Checks that two sets of draws are the same in all that they have.
template <class T, class B>
void check_same(B& b, const dro::draws<B, T>& a, const dro::draws<B, T>& z) {
  CHECK(on_host<dro::document_t>(b, a.rankings()) == on_host<dro::document_t>(b, z.rankings()));
  CHECK(identical(on_host<T>(b, a.log_proposal()), on_host<T>(b, z.log_proposal())));
  CHECK(a.groups().is_uniform() == z.groups().is_uniform());
  REQUIRE(a.groups().queries() == z.groups().queries());
  for (index_t q = 0; q < a.groups().queries(); ++q) {
    CHECK(a.groups().begin(q) == z.groups().begin(q));
    CHECK(a.groups().size(q) == z.groups().size(q));
  }
  CHECK(a.select() == z.select());
  CHECK(a.traits().block == z.traits().block);
  CHECK(a.traits().covers == z.traits().covers);
  CHECK(a.has_multiplicity() == z.has_multiplicity());
  CHECK(identical(on_host<T>(b, a.multiplicity()), on_host<T>(b, z.multiplicity())));
  CHECK(a.has_log_kept() == z.has_log_kept());
  CHECK(identical(on_host<T>(b, a.log_kept()), on_host<T>(b, z.log_kept())));
  CHECK(a.has_log_unsampled() == z.has_log_unsampled());
  CHECK(identical(on_host<T>(b, a.log_unsampled()), on_host<T>(b, z.log_unsampled())));
}

/// A process that is this program, and goes its own way: it reads requests from one stream and writes to another.
class forked_peer {
 public:
  using server = std::function<void(std::FILE* in, std::FILE* out)>;

  explicit forked_peer(const server& serve,
                       const dro::data::line_peer_options& options = {.timeout = std::chrono::seconds(60)}) {
    std::array<int, 2> to{};
    std::array<int, 2> from{};
    if (::pipe(to.data()) != 0 || ::pipe(from.data()) != 0) throw std::runtime_error("pipe");
    process_ = ::fork();
    if (process_ < 0) throw std::runtime_error("fork");
    if (process_ == 0) {
      std::signal(SIGPIPE, SIG_DFL);
      ::close(to[1]);
      ::close(from[0]);
      std::FILE* out = ::fdopen(from[1], "w");
      serve(::fdopen(to[0], "r"), out);
      std::fflush(out);
      ::_exit(0);
    }
    ::close(to[0]);
    ::close(from[1]);
    peer_ = std::make_unique<line_peer>("scorer", from[0], to[1], options);
  }
  ~forked_peer() {
    peer_.reset();
    ::waitpid(process_, nullptr, 0);
  }
  forked_peer(const forked_peer&) = delete;
  forked_peer& operator=(const forked_peer&) = delete;

  [[nodiscard]] line_peer& peer() { return *peer_; }

 private:
  pid_t process_;
  std::unique_ptr<line_peer> peer_;
};

/// The next line as JSON; null at the end.
json next_message(std::FILE* in) {
  char* line = nullptr;
  std::size_t size = 0;
  const auto count = ::getline(&line, &size, in);
  json message = count > 0 ? json::parse(std::string_view(line, static_cast<std::size_t>(count))) : json();
  std::free(line);  // NOLINT(cppcoreguidelines-no-malloc): getline's
  return message;
}

void send(std::FILE* out, const json& message) {
  std::fputs((message.dump() + "\n").c_str(), out);
  std::fflush(out);
}

/// Log-likelihoods of every list of a world's table generator, by query and documents.
class table_of_lists {
 public:
  table_of_lists(backend& b, const test::exact_world& world) {
    const auto z = dro::exhaustive<>(world.documents).draw(b, world.all(), {1, world.picks});
    const auto values = world.generator(b).log_likelihood(b, world.all(), z);
    for (index_t i = 0; i < values.rows(); ++i) {
      table_[{std::to_string(i / world.size()), test::ranking_of(z.rankings(), i)}] = values(i, 0);
    }
  }
  [[nodiscard]] double operator()(const json& request) const {
    return table_.at({request.at("query").get<std::string>(), request.at("documents").get<test::ranking>()});
  }

 private:
  std::map<std::pair<std::string, test::ranking>, double> table_;
};

/// Answers every request as it comes.
forked_peer::server answer_with(table_of_lists table) {
  return [table = std::move(table)](std::FILE* in, std::FILE* out) {
    for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
      if (m.contains("request")) send(out, {{"request", m["request"]}, {"log_likelihood", table(m)}});
    }
  };
}

/// Says these lines at the first message, whatever it is.
forked_peer::server say(std::string lines) {
  return [lines = std::move(lines)](std::FILE* in, std::FILE* out) {
    next_message(in);
    std::fputs(lines.c_str(), out);
    std::fflush(out);
    while (!next_message(in).is_null()) {
    }
  };
}

/// The message of the E that `f` throws.
template <class E>
std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

/// Replaces a part of a text that occurs in it.
std::string with(std::string text, const std::string& part, const std::string& other) {
  const auto at = text.find(part);
  if (at == std::string::npos) throw std::logic_error("not there: " + part);
  return text.replace(at, part.size(), other);
}

}  // namespace

TEST_CASE_TEMPLATE("draws come back from a file as they were", T, double, float) {
  const temporary_folder folder;
  const auto path = folder.path() / "draws.jsonl";
  backend b(1);
  const auto round_trip = [&](const dro::draws<backend, T>& z, const std::vector<std::string>& names) {
    dro::data::write_draws(b, named_queries{names}, z, path, their_names{});
    const auto stored = dro::data::read_draws<T>(b, path);
    check_same(b, z, stored.z);
    CHECK(stored.requests.names() == names);
  };
  round_trip(uniform_draws<T>(b, 2), {"first", "Żółw \"2\""});
  round_trip(uniform_draws<T>(b, 1, {.block = 2, .covers = false}), {"one"});
  round_trip(ragged_draws<T>(b), {"a", "b", "a"});  // a batch may have a query twice
  auto counted = ragged_draws<T>(b);
  counted.set_multiplicity(b, test::column<T>({3, 0, 1, 2, 0, 1}));
  counted.set_log_kept(b, test::column(awkward_numbers<T>(6)));
  round_trip(counted, {"a", "b", "c"});
  auto without_replacement = ragged_draws<T>(b, {.block = 4});
  without_replacement.set_log_unsampled(b, test::column<T>({static_cast<T>(-0.1), 0, -test::infinity<T>}));
  round_trip(without_replacement, {"a", "b", "c"});
  round_trip({b, dro::host_matrix<dro::document_t>(0, 3), dro::host_matrix<T>(0, 1), dro::grouping::uniform(0, 8)}, {});
  round_trip({b, dro::host_matrix<dro::document_t>(0, 3), dro::host_matrix<T>(0, 1), dro::grouping::uniform(2, 0)},
             {"a", "b"});
}

TEST_CASE("the file of draws is the one the format describes") {
  const temporary_folder folder;
  const auto path = folder.path() / "draws.jsonl";
  backend b(1);
  auto z = ragged_draws<double>(b);
  z.set_multiplicity(b, test::column<double>({3, 1, 1, 1, 0, 1}));
  const auto requests = dro::data::write_draws(b, named_queries{{"a", "b", "c"}}, z, path, their_names{});
  CHECK(read_bytes(path) ==
        R"({"dro_draws":1,"queries":["a","b","c"],"offsets":[0,4,4,6],"select":2,"order_free":false,"block":1,)"
        R"("covers":true,"multiplicity":true,"log_kept":false})"
        "\n"
        R"({"request":0,"query":"a","documents":[0,2],"log_proposal":0.30000000000000004,"multiplicity":3.0})"
        "\n"
        R"({"request":1,"query":"a","documents":[2,0],"log_proposal":-745.1332191019411,"multiplicity":1.0})"
        "\n"
        R"({"repeats":0,"query":"a","documents":[0,2],"log_proposal":-0.0,"multiplicity":1.0})"
        "\n"
        R"({"query":"a","documents":[1,null],"log_proposal":5e-324,"multiplicity":1.0})"
        "\n"
        R"({"query":"c","documents":[1,2],"log_proposal":"-inf","multiplicity":0.0})"
        "\n"
        R"({"request":2,"query":"c","documents":[0,1],"log_proposal":-0.3333333333333333,"multiplicity":1.0})"
        "\n");
  CHECK(requests.size() == 3);
  CHECK(requests.query(2) == 2);
}

TEST_CASE("answers reach every draw of their list, in any order and container, infinities and NaN among them") {
  const temporary_folder folder;
  backend b(1);
  const exchange_requests requests(b, uniform_draws<double>(b, 1), {"a"});
  const double nan = test::nan<double>;
  const double inf = test::infinity<double>;
  const auto values = [&](const std::string& text) {
    return on_host<double>(b, dro::data::read_log_likelihoods<double>(b, folder.write("answers", text), requests));
  };
  const std::string rest = R"({"request":1,"log_likelihood":0.30000000000000004})"
                           "\n"
                           R"({"request":3,"log_likelihood":"inf"})"
                           "\n";
  CHECK(identical(values(rest + R"({"request":0,"log_likelihood":"-inf","tokens":7})"
                                "\n"
                                R"({"log_likelihood":"nan","request":2})"),
                  {-inf, 0.1 + 0.2, -inf, -inf, nan, inf}));
  // An array, packed, and one that repeats what it was asked.
  CHECK(identical(values(gzipped(R"([{"request":3,"log_likelihood":-3}, {"request":0,"log_likelihood":-0.0,
                                     "query":"a","documents":[0,2]},
                                    {"request":2,"log_likelihood":2e-300},{"request":1,"log_likelihood":-1}])")),
                  {-0.0, -1, -0.0, -inf, 2e-300, -3}));
  // Where nothing was asked there is nothing to read.
  const dro::draws<backend, double> empty(b, test::ranking_matrix({{0, none}}), test::column<double>({-inf}),
                                          dro::grouping::uniform(1, 1));
  CHECK(identical(on_host<double>(b, dro::data::read_log_likelihoods<double>(b, folder.path() / "no such file",
                                                                             exchange_requests(b, empty, {"a"}))),
                  {-inf}));
}

TEST_CASE("lists of the same documents are asked once where order has no say") {
  const temporary_folder folder;
  const auto path = folder.path() / "draws.jsonl";
  backend b(1);
  const auto z = ragged_draws<double>(b);
  CHECK(exchange_requests(b, z, {"a", "b", "c"}).size() == 4);
  dro::data::write_draws(b, named_queries{{"a", "b", "c"}}, z, path, their_names{}, {.order_free = true});
  const auto stored = dro::data::read_draws<double>(b, path);
  check_same(b, z, stored.z);  // {2, 0} is still {2, 0}
  CHECK(stored.requests.order_free());
  REQUIRE(stored.requests.size() == 3);
  CHECK(stored.requests.request_of(0) == 0);
  CHECK(stored.requests.request_of(1) == 0);
  CHECK_FALSE(stored.requests.request_of(3).has_value());
  CHECK(stored.requests.documents(1)[0] == 1);
}

TEST_CASE("an E-step over files has the weights of one in process, bit for bit") {
  const temporary_folder folder;
  const auto draws_path = folder.path() / "draws.jsonl";
  const test::exact_world world(4, 2, 3, 3, 71);
  const table_rows queries = world.all();
  backend b(1);
  const auto selector = world.selector(b);
  const auto generator = world.generator(b);
  const auto other = test::exact_world(4, 2, 3, 3, 72).selector(b);  // draws, so that p and q differ
  dro::random_state<backend> random(b, 5);
  const auto expected = e_step(b, selector, generator, other, queries, {16, 2}, random);
  dro::data::write_draws(b, queries, expected.z, draws_path);

  // The scorer knows the two files and the format.
  const table_of_lists table(b, world);
  std::string answers;
  {
    std::ifstream file(draws_path);
    for (std::string line; std::getline(file, line);) {
      const json m = json::parse(line);
      if (!m.contains("request")) continue;
      answers.insert(0, json{{"request", m["request"]}, {"log_likelihood", table(m)}}.dump() + "\n");
    }
  }
  const auto answers_path = folder.write("answers.jsonl", answers);

  // A later process, which knows the draws from the file alone.
  const auto stored = dro::data::read_draws<double>(b, draws_path);
  const auto log_likelihood = dro::data::read_log_likelihoods<double>(b, answers_path, stored.requests);
  const auto log_selector = selector.log_prob(b, queries, stored.z);
  const auto weights = importance_weights(b, off_policy(b, log_selector, log_likelihood, stored.z));
  CHECK(identical(on_host<double>(b, log_likelihood), on_host<double>(b, expected.log_likelihood)));
  CHECK(identical(on_host<double>(b, weights.normalised), on_host<double>(b, expected.weights.normalised)));
  CHECK(identical(on_host<double>(b, weights.log_evidence), on_host<double>(b, expected.weights.log_evidence)));
  CHECK(stored.requests.size() < 48);  // of 12 lists a query some were drawn twice
}

TEST_CASE("a generator in another process says what the same generator says in this one") {
  const test::exact_world world(4, 2, 3, 3, 73);
  backend b(1);
  const auto selector = world.selector(b);
  const auto generator = world.generator(b);
  forked_peer scorer(answer_with(table_of_lists(b, world)));
  const exchange_generator<> remote(scorer.peer());
  for (int step = 0; step < 3; ++step) {
    dro::random_state<backend> random(b, 6, static_cast<std::uint32_t>(step));
    dro::random_state<backend> same(b, 6, static_cast<std::uint32_t>(step));
    const auto expected = e_step(b, selector, generator, world.all(), {16, 2}, random);
    const auto e = e_step(b, selector, remote, world.all(), {16, 2}, same);
    CHECK(identical(on_host<double>(b, e.log_likelihood), on_host<double>(b, expected.log_likelihood)));
    CHECK(identical(on_host<double>(b, e.weights.normalised), on_host<double>(b, expected.weights.normalised)));
  }
  CHECK_THROWS_AS(static_cast<void>(remote.log_likelihood(b, table_rows{0, 2}, uniform_draws<double>(b, 1))),
                  dro::shape_error);
}

TEST_CASE("what is read from the backend is what the documentation says") {
  const auto reads = [](const auto& make) {
    dro::deferred_backend b;
    const auto z = make(b);
    forked_peer scorer([](std::FILE* in, std::FILE* out) {
      for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
        if (m.contains("request")) send(out, {{"request", m["request"]}, {"log_likelihood", m["documents"][0]}});
      }
    });
    exchange_generator<their_names> remote(scorer.peer());
    const named_queries queries{std::vector<std::string>(static_cast<std::size_t>(z.groups().queries()), "x")};
    const auto before = b.reads();
    const auto values = remote.log_likelihood(b, queries, z);
    const auto after = b.reads();
    const auto c = dro::make_filled<double>(b, z.groups().total(), 1, 1.0);
    remote.accumulate_gradient(b, queries, z, c);
    const auto end = b.reads();
    CHECK(b.synchronisations() == 0);
    CHECK(on_host<double>(b, values)[1] == 2);
    CHECK(on_host<double>(b, values)[3] == -test::infinity<double>);
    return std::pair(after - before, end - after);
  };
  CHECK(reads([](auto& b) { return uniform_draws<double>(b, 2); }) == std::pair<std::size_t, std::size_t>(1, 2));
  CHECK(reads([](auto& b) { return ragged_draws<double>(b); }) == std::pair<std::size_t, std::size_t>(2, 3));
  CHECK(reads([](auto& b) {
          auto z = ragged_draws<double>(b);
          z.set_multiplicity(b, write(b, test::column<double>({1, 1, 1, 0, 1, 1})));
          return z;
        }) == std::pair<std::size_t, std::size_t>(3, 4));
}

TEST_CASE("a selector learns from a generator in another process as from one in this") {
  const test::exact_world world(4, 2, 3, 3, 74);
  backend b(1);
  const auto train = [&](auto& generator, dro::index_t m_steps) {
    auto selector = world.selector(b);
    dro::random_state<backend> random(b, 7);
    dro::sgd<backend> optimizer(b, {.learning_rate = 1.0});
    for (int step = 0; step < 30; ++step) {
      auto e = e_step(b, selector, generator, world.all(), {8, 2}, random);
      m_step(b, selector, generator, world.all(), e, dro::evidence<>{}, optimizer, dro::frozen{}, {.steps = m_steps});
    }
    return on_host<double>(b, selector.scores());
  };
  auto generator = world.generator(b);
  forked_peer scorer(answer_with(table_of_lists(b, world)));
  exchange_generator<> remote(scorer.peer());
  for (const dro::index_t m_steps : {1, 2}) {
    const auto learned = train(remote, m_steps);
    CHECK(identical(learned, train(generator, m_steps)));
    test::exact_world after = world;
    after.scores = test::matrix<double>(3, 4, learned);
    CHECK(after.mean_log_evidence() > world.mean_log_evidence() + 0.2L);
  }
}

TEST_CASE("a generator in another process learns: sums of coefficients by list, then a step") {
  backend b(1);
  // A peer whose log-likelihood of a list is what it has learned of it: a table trained at rate 10.
  forked_peer scorer([](std::FILE* in, std::FILE* out) {
    std::map<std::string, double> value;
    std::map<std::string, double> gradient;
    const auto key = [](const json& m) { return m["query"].get<std::string>() + m["documents"].dump(); };
    for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
      if (m.contains("request")) send(out, {{"request", m["request"]}, {"log_likelihood", value[key(m)]}});
      if (m.contains("coefficient")) gradient[key(m)] += m["coefficient"].get<double>();
      if (!m.contains("step")) continue;
      for (auto& [k, g] : gradient) value[k] += 10 * std::exchange(g, 0.0);
      send(out, {{"step", m["step"]}});
    }
  });
  exchange_generator<their_names> remote(scorer.peer());
  const named_queries queries{{"a", "b"}};
  const auto z = uniform_draws<double>(b, 2);  // [0 2] [2 0] [0 2], [1 -] [1 2] [0 1]
  const auto c = test::column<double>({0.5, 0.25, 0.125, 4.0, 1.0, -1.0});
  remote.accumulate_gradient(b, queries, z, c);
  const auto p = [&] { return on_host<double>(b, remote.log_likelihood(b, queries, z)); };
  const double inf = test::infinity<double>;
  CHECK(p() == std::vector<double>{0, 0, 0, -inf, 0, 0});
  remote.step();
  CHECK(p() == std::vector<double>{6.25, 2.5, 6.25, -inf, 10, -10});
  remote.accumulate_gradient(b, queries, z,
                             test::matrix<double>(2, 3, std::vector<double>{0, 1, 0, 0, 0, 0}));  // a table
  remote.accumulate_gradient(b, queries, z, c);
  dro::data::peer_optimizer{}.step(b, remote);
  CHECK(p() == std::vector<double>{12.5, 15, 12.5, -inf, 20, -20});
  CHECK_THROWS_AS(remote.accumulate_gradient(b, queries, z, dro::host_matrix<double>(5, 1)), dro::shape_error);
}

TEST_CASE("only what has a coefficient is sent back") {
  backend b(1);
  forked_peer scorer([](std::FILE* in, std::FILE* out) {
    double lines = 0;
    for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
      lines += m.contains("coefficient") ? 1 : 0;
      if (m.contains("request")) send(out, {{"request", m["request"]}, {"log_likelihood", lines}});
    }
  });
  exchange_generator<> remote(scorer.peer());
  const auto z = uniform_draws<double>(b, 1);
  // The two draws of [0 2] cancel, [1 -] is no list, and [2 0] and [1 2] have none.
  remote.accumulate_gradient(b, table_rows{0, 1}, z, test::column<double>({0.5, 0, -0.5, 2, 0, 0.25}));
  CHECK(remote.log_likelihood(b, table_rows{0, 1}, z)(0, 0) == 1);
}

TEST_CASE("ten thousand requests, whichever end writes first") {
  backend b(1);
  constexpr index_t queries = 1250;
  dro::host_matrix<dro::document_t> rankings(queries * 8, 1);
  for (index_t i = 0; i < rankings.rows(); ++i) rankings(i, 0) = static_cast<dro::document_t>(i % 8);
  const dro::draws<backend, double> z(b, std::move(rankings), dro::host_matrix<double>(queries * 8, 1),
                                      dro::grouping::uniform(queries, 8));
  const auto value_of = [](const json& m) {
    return std::stod(m["query"].get<std::string>()) + m["documents"][0].get<double>() / 8;
  };
  forked_peer::server serve;
  SUBCASE("answers of more than 1 kB as the requests come") {
    serve = [&](std::FILE* in, std::FILE* out) {
      for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
        if (!m.contains("request")) continue;
        m["log_likelihood"] = value_of(m);  // the request with its answer in it
        m["padding"] = std::string(1000, '-');
        send(out, m);
      }
    };
  }
  SUBCASE("all is read, then answered from the end, with blank lines") {
    serve = [&](std::FILE* in, std::FILE* out) {
      for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
        std::vector<json> batch(m.at("batch").get<std::size_t>());
        for (json& request : batch) request = next_message(in);
        std::reverse(batch.begin(), batch.end());
        for (const json& request : batch) {
          const json answer = {{"request", request["request"]}, {"log_likelihood", value_of(request)}};
          std::fputs((answer.dump() + "\r\n\n").c_str(), out);
        }
        std::fflush(out);
      }
    };
  }
  forked_peer scorer(serve);
  const exchange_generator<> remote(scorer.peer());
  for (int call = 0; call < 2; ++call) {
    const auto p = remote.log_likelihood(b, table_rows{0, queries}, z);
    index_t wrong = 0;
    for (index_t i = 0; i < p.rows(); ++i) wrong += p(i, 0) == static_cast<double>(i) / 8 ? 0 : 1;
    CHECK(wrong == 0);
  }
}

TEST_CASE("a program that is started here") {
  backend b(1);
  const auto z = uniform_draws<double>(b, 2);
  const auto score = [&](const std::string& script, const dro::data::line_peer_options& options = {}) {
    line_peer peer({"sh", "-c", script, "scorer"}, options);
    return on_host<double>(b, exchange_generator<>(peer).log_likelihood(b, table_rows{0, 2}, z));
  };
  const std::string answer = R"(while read -r line; do case $line in *request*)
      r=${line#*:}; echo "{\"request\":${r%%,*},\"log_likelihood\":-${r%%,*}.5}";; esac; done)";
  CHECK(score(answer) == std::vector<double>{-0.5, -1.5, -0.5, -test::infinity<double>, -2.5, -3.5});
  // What it writes in pieces is put together; what it has not read when it is done is its own affair.
  CHECK(score(R"(printf '{"requ'; sleep 0.02; printf 'est":0,"log_likelihood":-1}\n{"request":3,'; sleep 0.02
      for r in 1 2; do printf '"log_likelihood":-2}\n{"request":%s,' $r; done; echo '"log_likelihood":-2}')") ==
        std::vector<double>{-1, -2, -1, -test::infinity<double>, -2, -2});

  const std::string name = "sh -c ";
  const auto trouble = [&](const std::string& script, const dro::data::line_peer_options& options = {}) {
    const std::string message = refusal<dro::file_error>([&] { score(script, options); });
    REQUIRE(message.substr(0, name.size() + script.size()) == name + script);
    return message.substr(name.size() + script.size());
  };
  CHECK(trouble("exit 3") == " scorer: ended with exit status 3, with 4 more lines expected of it");
  CHECK(trouble(R"(echo '{"request":2,"log_likelihood":0}'; kill -9 $$)") ==
        " scorer: was ended by signal 9, with 3 more lines expected of it");
  CHECK(trouble("exec sleep 60", {.timeout = std::chrono::milliseconds(50), .patience = {}}) ==
        " scorer: did nothing for 50 ms, with 4 more lines expected of it (the option `timeout`; does it flush every "
        "line?)");
  CHECK(refusal<dro::file_error>([] {
          line_peer({"no-such-program-of-dro", "x"});
        }) == "no-such-program-of-dro x: cannot be started: No such file or directory");
  CHECK_THROWS_AS(line_peer(std::vector<std::string>{}), dro::option_error);
  CHECK(refusal<dro::file_error>([] { line_peer("closed", -1, -1); }) == "closed: cannot be used: Bad file descriptor");
}

TEST_CASE("a program is told that there is no more, and has time to finish") {
  const temporary_folder folder;
  const auto path = (folder.path() / "saved").string();
  { const line_peer peer({"sh", "-c", "while read -r line; do :; done; sleep 0.1; echo done > \"$1\"", "sh", path}); }
  CHECK(read_bytes(path) == "done\n");
  const auto before = std::chrono::steady_clock::now();
  { const line_peer stubborn({"sleep", "60"}, {.patience = std::chrono::milliseconds(20)}); }
  CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(30));
}

TEST_CASE("a write to nobody is an error of this call, not a signal to this program") {
  backend b(1);
  const auto z = uniform_draws<double>(b, 1);
  const auto c = dro::make_filled<double>(b, 6, 1, 1.0);
  forked_peer gone([](std::FILE*, std::FILE*) {});
  exchange_generator<> remote(gone.peer());
  CHECK(refusal<dro::file_error>([&] {
          for (;;) remote.accumulate_gradient(b, table_rows{0, 1}, z, c);
        }) == "scorer: closed the exchange");
  CHECK(refusal<dro::file_error>([&] { remote.step(); }) ==
        "scorer: cannot be used any more: an exchange failed before");

  // One that lives on and could still write, so that it is the write that finds out.
  line_peer deaf({"sh", "-c", "exec 0<&-; exec sleep 60"}, {.patience = {}});
  exchange_generator<> unheard(deaf);
  CHECK(refusal<dro::file_error>([&] {
          for (;;) unheard.accumulate_gradient(b, table_rows{0, 1}, z, c);
        }) == "sh -c exec 0<&-; exec sleep 60: closed the exchange");
}

TEST_CASE("answers that are refused") {
  const temporary_folder folder;
  backend b(1);
  const exchange_requests requests(b, uniform_draws<double>(b, 2), {"a", "b"});
  REQUIRE(requests.size() == 4);
  const std::string path = (folder.path() / "answers").string();
  const std::string good = "{\"request\":0,\"log_likelihood\":-1}\n{\"request\":1,\"log_likelihood\":-1}\n";
  const std::string more = "{\"request\":2,\"log_likelihood\":-1}\n";
  const auto of_file = [&](const std::string& lines) {
    static_cast<void>(folder.write("answers", lines));
    const std::string message = refusal<dro::data_error>(
        [&] { static_cast<void>(dro::data::read_log_likelihoods<double>(b, path, requests)); });
    return with(message, path + ":", "");
  };
  CHECK(of_file(good + R"({"request":4,"log_likelihood":0})") ==
        "3: record 3, field \"request\": expected a number from 0 to 3, found 4");
  CHECK(of_file(good + R"({"request":"2","log_likelihood":0})") ==
        "3: record 3, field \"request\": expected a number from 0 to 3, found \"2\"");
  CHECK(of_file(good + "\n" + R"({"request":1,"log_likelihood":0})") ==
        "4: record 3, field \"request\": request 1 was answered before, in line 2");
  CHECK(of_file(good + R"({"log_likelihood":0})") == "3: record 3, field \"request\": is missing");
  CHECK(of_file(good + R"({"request":2})") == "3: record 3, field \"log_likelihood\": is missing");
  CHECK(of_file(good + R"({"request":2,"log_likelihood":null})") ==
        "3: record 3, field \"log_likelihood\": is missing");
  CHECK(of_file(good + R"({"request":2,"log_likelihood":"low"})") ==
        "3: record 3, field \"log_likelihood\": expected a number, \"-inf\", \"inf\" or \"nan\", found \"low\"");
  CHECK(of_file(good + R"({"request":2,"log_likelihood":[-1]})") ==
        "3: record 3, field \"log_likelihood\": expected a number, \"-inf\", \"inf\" or \"nan\", found array");
  CHECK(of_file(good + R"({"request":2,"query":"a","log_likelihood":0})") ==
        "3: record 3, field \"query\": request 2 was about query \"b\", found \"a\"");
  CHECK(of_file(good + R"({"request":2,"documents":[2,1],"log_likelihood":0})") ==
        "3: record 3, field \"documents\": request 2 was about [1,2]");
  CHECK(of_file(good + R"({"request":2,"log_likelihood":-Infinity})").find("3: malformed JSON in record 3: ") == 0);
  CHECK(of_file(good + R"({"request":2,"log_lik)").find("3: malformed JSON in record 3: ") == 0);
  CHECK(of_file(good + "[2, -1]").find("3: malformed JSON: expected '{' where record 3 begins") == 0);
  CHECK(of_file("").find("1: the file is empty") == 0);
  CHECK(of_file(more) == " 3 of 4 requests are not answered, the first is request 0 (query \"a\", documents [0,2])");
  CHECK(of_file(good + more) ==
        " 1 of 4 requests are not answered, the first is request 3 (query \"b\", documents [0,1])");
  CHECK(refusal<dro::file_error>([&] {
          static_cast<void>(dro::data::read_log_likelihoods<double>(b, folder.path() / "none", requests));
        }) == (folder.path() / "none").string() + ": cannot be opened: No such file or directory");

  const auto z = uniform_draws<double>(b, 2);
  const auto of_peer = [&](const std::string& lines) {
    forked_peer scorer(say(lines));
    const exchange_generator<> remote(scorer.peer());
    return refusal<dro::data_error>([&] { static_cast<void>(remote.log_likelihood(b, table_rows{0, 2}, z)); });
  };
  CHECK(of_peer("loading the model\n") ==
        "scorer:1: expected a line of JSON (numbers it lacks are the strings \"-inf\", \"inf\" and \"nan\"), found: "
        "loading the model");
  CHECK(of_peer(good + "\n" + std::string(70, 'x') + "\n") ==
        "scorer:4: expected a line of JSON (numbers it lacks are the strings \"-inf\", \"inf\" and \"nan\"), found: " +
            std::string(60, 'x') + "...");
  CHECK(of_peer("17\n") == "scorer:1: record 1: expected an object, found 17");
  CHECK(of_peer(good + "{\"request\":1,\"log_likelihood\":-1}\n") ==
        "scorer:3: record 3, field \"request\": request 1 was answered before, in line 2");
  CHECK(of_peer("{\"request\":1,\"log_likelihood\":true}\n") ==
        "scorer:1: record 1, field \"log_likelihood\": expected a number, \"-inf\", \"inf\" or \"nan\", found true");
}

TEST_CASE("an answer that comes late does not pass for one to a later request") {
  backend b(1);
  forked_peer scorer([](std::FILE* in, std::FILE* out) {
    for (json m = next_message(in); !m.is_null(); m = next_message(in)) {
      if (!m.contains("request")) continue;
      send(out, {{"request", m["request"]}, {"log_likelihood", 0}});
      if (m["request"] == 3) send(out, {{"request", 0}, {"log_likelihood", 0}});
    }
  });
  exchange_generator<> remote(scorer.peer());
  const auto z = uniform_draws<double>(b, 2);
  static_cast<void>(remote.log_likelihood(b, table_rows{0, 2}, z));
  CHECK(refusal<dro::data_error>([&] {
          static_cast<void>(remote.log_likelihood(b, table_rows{0, 2}, z));
        }) == "scorer:5: record 5, field \"request\": request 0 belongs to an earlier batch: this one begins at 4");

  forked_peer wrong(say("{\"step\":2}\n"));
  exchange_generator<> learner(wrong.peer());
  CHECK(refusal<dro::data_error>([&] { learner.step(); }) ==
        "scorer:1: record 1, field \"step\": expected 1, the step that was asked for");
}

TEST_CASE("files that are not whole files of draws") {
  const temporary_folder folder;
  const auto path = (folder.path() / "draws").string();
  backend b(1);
  const auto written = [&](const dro::draws<backend, double>& z, const std::vector<std::string>& names) {
    dro::data::write_draws(b, named_queries{names}, z, path, their_names{});
    return read_bytes(path);
  };
  const auto trouble = [&](const std::string& text) {
    static_cast<void>(folder.write("draws", text));
    return with(refusal<dro::data_error>([&] { static_cast<void>(dro::data::read_draws<double>(b, path)); }),
                path + ":", "");
  };
  auto z = ragged_draws<double>(b);
  z.set_multiplicity(b, dro::make_filled<double>(b, 6, 1, 1.0));
  const std::string ragged = written(z, {"a", "b", "c"});
  const std::string good = written(uniform_draws<double>(b, 2), {"a", "b"});

  CHECK(trouble("").find("1: the file is empty") == 0);
  CHECK(trouble(with(good, "\"dro_draws\":1,", "")) == "1: record 1, field \"dro_draws\": is missing");
  CHECK(trouble(with(good, "\"dro_draws\":1", "\"dro_draws\":2")) ==
        "1: record 1, field \"dro_draws\": expected 1, the version of the format that this library reads");
  CHECK(trouble(with(good, "\"b\"]", "7]")) == "1: record 1, field \"queries[1]\": expected a string, found 7");
  CHECK(trouble(with(good, "\"samples\":3", "\"samples\":2147483646")) ==
        "1: record 1, field \"samples\": is too large");
  CHECK(trouble(with(good, "\"samples\":3", "\"samples\":2")) ==
        "4: record 4, field \"query\": expected \"b\", whose draw this is");
  CHECK(trouble(with(good, "\"samples\":3", "\"samples\":4")) ==
        "5: record 5, field \"query\": expected \"a\", whose draw this is");
  CHECK(trouble(with(good, "\"block\":1", "\"block\":0")) == "1: record 1, field \"block\": expected at least 1");
  CHECK(trouble(with(ragged, "\"block\":1", "\"block\":2")) ==
        "1: record 1, field \"multiplicity\": draws in blocks have no multiplicities");
  CHECK(trouble(with(ragged, "[0,4,4,6]", "[0,4,3,6]")) ==
        "1: record 1, field \"offsets[2]\": the offsets do not ascend from 0");
  CHECK(trouble(with(ragged, "[0,4,4,6]", "[1,4,4,6]")) ==
        "1: record 1, field \"offsets[0]\": the offsets do not ascend from 0");
  CHECK(trouble(with(ragged, "[0,4,4,6]", "[0,4,6]")) ==
        "1: record 1, field \"offsets\": expected a list of 4, found [0,4,6]");
  CHECK(trouble(with(good, "\"select\":2", "\"log_unsampled\":[-1,[]],\"select\":2")) ==
        "1: record 1, field \"log_unsampled[1]\": expected a number, \"-inf\", \"inf\" or \"nan\", found array");
  CHECK(trouble(good.substr(0, good.rfind("{"))) == " ends after 5 of 6 draws");
  CHECK(trouble(good + R"({"query":"b"})") == "8: more lines than the 6 draws announced");
  CHECK(trouble(with(good, "[0,2]", "[0,2,1]")) ==
        "2: record 2, field \"documents\": expected a list of 2, found [0,2,1]");
  CHECK(trouble(with(good, "[0,2]", "[0,-1]")) ==
        "2: record 2, field \"documents[1]\": expected a number from 0 to 2147483646, found -1");
  CHECK(trouble(with(good, "\"log_proposal\":0.30000000000000004", "\"log_q\":0")) ==
        "2: record 2, field \"log_proposal\": is missing");
  CHECK(trouble(with(ragged, ",\"multiplicity\":1.0}", "}")) == "2: record 2, field \"multiplicity\": is missing");
  const std::string number = "\"request\" or \"repeats\" is not the number that follows from the draws before it";
  CHECK(trouble(with(good, "\"request\":1", "\"request\":2")) == "3: record 3: " + number);
  CHECK(trouble(with(good, "\"repeats\":0", "\"request\":0")) == "4: record 4: " + number);
  CHECK(trouble(with(good, "[2,0]", "[0,2]")) == "3: record 3: " + number);

  CHECK(refusal<dro::file_error>([&] {
          dro::data::write_draws(b, named_queries{{"a"}}, uniform_draws<double>(b, 1), folder.path() / "no" / "such",
                                 their_names{});
        }) == (folder.path() / "no" / "such").string() + ": cannot be written: No such file or directory");
  CHECK_THROWS_AS(written(uniform_draws<double>(b, 2), {"a"}), dro::shape_error);
  CHECK(refusal<dro::option_error>([&] { written(uniform_draws<double>(b, 1), {"\xFF"}); }) ==
        "the list of queries cannot be written: a text is not valid UTF-8");
}

TEST_CASE("requests carry the question, the answer and the texts of the list in its order") {
  const temporary_folder folder;
  const auto path = folder.path() / "draws.jsonl";
  backend b(1);
  std::vector<dro::data::question> questions(1);
  questions[0].id = "q7";
  questions[0].text = "Who wrote \"it\"?";
  questions[0].answers = {"Ada", "Lovelace"};
  questions[0].documents = {{"T0", "zero"}, {"", "one"}, {"T2", "zwölf"}};
  const question_batch batch(questions);
  dro::data::write_draws(b, batch, uniform_draws<double>(b, 1), path, dro::data::question_texts{});
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  CHECK(json::parse(line)["queries"] == json{"q7"});
  std::getline(file, line);
  std::getline(file, line);
  CHECK(line == R"({"request":1,"query":"q7","documents":[2,0],"log_proposal":-745.1332191019411,)"
                R"("question":"Who wrote \"it\"?","answer":"Ada",)"
                R"("texts":[{"title":"T2","text":"zwölf"},{"title":"T0","text":"zero"}]})");
  std::getline(file, line);
  CHECK(line == R"({"repeats":0,"query":"q7","documents":[0,2],"log_proposal":-0.0})");

  questions[0].documents.pop_back();
  CHECK(refusal<dro::shape_error>([&] {
          dro::data::write_draws(b, batch, uniform_draws<double>(b, 1), path, dro::data::question_texts{});
        }) == "question \"q7\" has 2 candidates, and a draw has number 2");
  questions[0].documents = {{"T0", "zero"}, {"", "\xC3"}, {"T2", "two"}};
  CHECK(refusal<dro::option_error>([&] {
          dro::data::write_draws(b, batch, uniform_draws<double>(b, 1), path, dro::data::question_texts{});
        }) == "query \"q7\" cannot be written: a text is not valid UTF-8");
}
