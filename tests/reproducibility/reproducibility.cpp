// SPDX-License-Identifier: Apache-2.0
// What must not depend on how dro was compiled. CMakeLists.txt builds this program with several sets of flags.
//   --write-rankings FILE    a checksum of the drawn rankings, one line a case
//   --check-rankings FILE    fails where one differs from the file
//   --write-numbers FILE     log-probabilities, weights and gradients, as hexadecimal floating-point numbers
//   --check-numbers FILE     fails where one differs by more than rounding can make of it
#include <algorithm>
#include <array>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <dro/backend/host.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/random/joint_noise.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/ranking/sampling.hpp>

namespace {

using dro::index_t;

// Scores are made without rounding, so that they are equal whatever the flags. Where they are `coarse`, float keeps
// five bits of the noise after the point: where keys are compared, one that is rounded once more, or once less, often
// changes places. Where they are `far apart`, picks are drawn anew among what is left.
enum class score_kind { spread, equal, tied, far_apart, coarse, padded };

constexpr std::array<const char*, 6> score_names{"spread", "equal", "tied", "far apart", "coarse", "padded"};

template <class T>
T uniform(std::uint32_t stream, index_t query, index_t position) {
  return dro::noise::uniform<T>(
      dro::random_word({11, stream}, static_cast<std::uint32_t>(query), 0, static_cast<std::uint32_t>(position)));
}

template <class T>
dro::host_matrix<T> make_scores(index_t queries, index_t documents, score_kind kind) {
  dro::host_matrix<T> s(queries, documents);
  for (index_t q = 0; q < queries; ++q) {
    for (index_t j = 0; j < documents; ++j) {
      const T spread = uniform<T>(0, q, j) * 8 - 4;
      switch (kind) {
        case score_kind::spread:
          s(q, j) = spread;
          break;
        case score_kind::equal:
          s(q, j) = 1;
          break;
        case score_kind::tied:
          s(q, j) = static_cast<T>(static_cast<int>(spread));
          break;
        case score_kind::far_apart:
          s(q, j) = std::floor(spread * 1024) * 128;
          break;  // up to half a million
        case score_kind::coarse:
          s(q, j) = std::floor(spread * 16) / 16 + 262144;
          break;
        case score_kind::padded:
          s(q, j) = j % 3 == 1 ? -std::numeric_limits<T>::infinity() : spread;
          break;
      }
    }
  }
  return s;
}

struct way {
  const char* name;
  dro::sampling how;
};

const std::array<way, 7> ways{{{"independent", {}},
                               {"antithetic", {1, 0, 1, {dro::noise_kind::antithetic}}},
                               {"hypercube of 4", {1, 0, 1, {dro::noise_kind::latin_hypercube, 4}}},
                               {"hypercube of 16", {1, 0, 1, {dro::noise_kind::latin_hypercube, 16}}},
                               {"temperature 0.7", {0.7, 0, 1, {}}},
                               {"top 7", {1, 7, 1, {}}},
                               {"top 7, antithetic", {1, 7, 1, {dro::noise_kind::antithetic}}}}};

// FNV-1a over the rankings' numbers.
std::uint64_t checksum(const dro::host_matrix<dro::document_t>& rankings) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (index_t i = 0; i < rankings.rows() * rankings.cols(); ++i) {
    const auto word = static_cast<std::uint32_t>(rankings.data()[i]);
    for (unsigned shift = 0; shift < 32; shift += 8) hash = (hash ^ (word >> shift & 0xffU)) * 0x100000001b3U;
  }
  return hash;
}

template <class T>
std::uint64_t draw_checksum(int threads, const dro::host_matrix<T>& scores, index_t select, const dro::sampling& how) {
  dro::host_backend b(threads);
  dro::random_state<dro::host_backend> random(b, 0x123456789abcdefU, 3);
  const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {16, select}, how);
  return checksum(dro::read(b, z.rankings()));
}

template <class T>
void add_ranking_lines(const char* scalar, std::vector<std::string>& lines) {
  struct shape {
    index_t queries, documents, select;
  };
  for (const shape& s : {shape{4, 1, 1}, shape{16, 3, 3}, shape{16, 7, 2}, shape{48, 20, 5}, shape{8, 20, 20},
                         shape{8, 33, 16}, shape{8, 100, 10}, shape{2, 257, 17}, shape{1, 1000, 12}}) {
    for (std::size_t kind = 0; kind < score_names.size(); ++kind) {
      const auto scores = make_scores<T>(s.queries, s.documents, static_cast<score_kind>(kind));
      for (const way& w : ways) {
        const std::uint64_t one = draw_checksum(1, scores, s.select, w.how);
        std::array<char, 128> line{};
        static_cast<void>(std::snprintf(line.data(), line.size(), "%s, %td queries, %td of %td, %s, %s: %016" PRIx64,
                                        scalar, s.queries, s.select, s.documents, score_names[kind], w.name, one));
        if (draw_checksum(2, scores, s.select, w.how) != one) {
          throw std::runtime_error(std::string(line.data()) + " with one thread, but not with two");
        }
        lines.emplace_back(line.data());
      }
    }
  }
}

std::vector<std::string> ranking_lines() {
  std::vector<std::string> lines;
  add_ranking_lines<float>("float", lines);
  add_ranking_lines<double>("double", lines);
  return lines;
}

/// A number, and how far it may be from the exact one, to first order in ε.
struct number {
  double value;
  double error;
};

/// With D the largest distance of a score from the query's largest, n documents, K picks, m draws:
///
/// - A mass exp(s − largest) has a relative error of D ε/2 (the difference) + ε (1 ulp of exp), a sum of n of them
///   n ε/2 more; its logarithm, of size at most D + log n, ε times that (1 ulp). A pick's term s − largest − log M is
///   at most L = 2D + log n; K of them are added with K/2 ε K L. So log p(z) is off by at most K ε (1 + n/2 + L + (K +
///   1)/2 L).
/// - ∂ log p/∂ s_j has K quotients of two masses, each at most 1, off by ε (D + n + 2) and ε/2 for each of dividing,
///   adding and multiplying by the coefficient; m terms of size up to K |c_i| are added with m/2 ε K Σ|c|. So the
///   gradient is off by at most K ε (D + n + 2 + K/2 + 2 + m/2) Σ|c_i|.
/// - Weights: the exponents are the same differences of the same numbers. exp 1 ulp; the sum, (m/8 + 3) ε and 1 ulp of
///   its terms; ε/2 for each of the inverse and the product. Relative: ε (m/8 + 6). Twice that for the sum of squares,
///   whose own sum adds m/8 + 3 and ε/2 for each square, and 1 for the quotient.
template <class T>
void add_numbers(index_t documents, index_t select, std::vector<number>& numbers) {
  constexpr index_t queries = 64;
  constexpr index_t samples = 16;
  constexpr double spread = 8;  // score_kind::spread lies in (−4, 4)
  const double eps = std::numeric_limits<T>::epsilon();
  const auto n = static_cast<double>(documents);
  const auto k = static_cast<double>(select);
  const auto m = static_cast<double>(samples);

  dro::host_backend b(1);
  const auto scores = make_scores<T>(queries, documents, score_kind::spread);
  dro::random_state<dro::host_backend> random(b, 5);
  const auto z = dro::draw_plackett_luce(b, scores, random.source(b), {samples, select});
  dro::host_matrix<T> log_likelihood(queries, samples);
  dro::host_matrix<T> coefficients(queries, samples);
  for (index_t q = 0; q < queries; ++q) {
    for (index_t i = 0; i < samples; ++i) {
      log_likelihood(q, i) = -16 * uniform<T>(1, q, i);
      coefficients(q, i) = uniform<T>(2, q, i) - T(0.5);
    }
  }
  const auto w = dro::importance_weights(b, dro::on_policy(b, log_likelihood, z));
  dro::host_matrix<T> gradient(queries, documents);
  dro::accumulate_plackett_luce_gradient(b, scores, b.view(z.rankings()), z.groups(), coefficients, b.view(gradient));

  const double term = 2 * spread + std::log(n);
  const double log_prob_error = k * eps * (1 + n / 2 + term + (k + 1) / 2 * term);
  for (index_t r = 0; r < queries * samples; ++r) numbers.push_back({z.log_proposal()(r, 0), log_prob_error});
  for (index_t q = 0; q < queries; ++q) {
    double size = 0;
    for (index_t i = 0; i < samples; ++i) {
      const double weight = w.normalised(q, i);
      numbers.push_back({weight, eps * (m / 8 + 6) * weight});
      size += std::abs(static_cast<double>(coefficients(q, i)));
    }
    const double ess = w.effective_sample_size(q, 0);
    numbers.push_back({ess, eps * (2 * (m / 8 + 6) + (m / 8 + 3) + 2) * ess});
    for (index_t j = 0; j < documents; ++j) {
      numbers.push_back({gradient(q, j), k * eps * (spread + n + 4 + k / 2 + m / 2) * size});
    }
  }
}

std::vector<number> all_numbers() {
  std::vector<number> numbers;
  for (const auto& [documents, select] : {std::array<index_t, 2>{5, 3}, {20, 5}, {100, 10}}) {
    add_numbers<float>(documents, select, numbers);
    add_numbers<double>(documents, select, numbers);
  }
  return numbers;
}

std::vector<std::string> read_lines(const char* path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(std::string("cannot read ") + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with('#')) lines.push_back(line);
  }
  return lines;
}

void write_lines(const char* path, const std::vector<std::string>& lines) {
  std::ofstream out(path);
  for (const std::string& line : lines) out << line << '\n';
  out.close();
  if (!out) throw std::runtime_error(std::string("cannot write ") + path);
}

int check_rankings(const char* path) {
  const auto expected = read_lines(path);
  const auto found = ranking_lines();
  if (expected.size() != found.size()) {
    throw std::runtime_error(std::string(path) + " has " + std::to_string(expected.size()) + " cases, expected " +
                             std::to_string(found.size()));
  }
  int wrong = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    ++wrong;
    static_cast<void>(std::fprintf(stderr, "expected %s\nfound    %s\n", expected[i].c_str(), found[i].c_str()));
  }
  std::printf("%zu cases, %d differ\n", found.size(), wrong);
  return wrong == 0 ? 0 : 1;
}

int check_numbers(const char* path) {
  const auto expected = read_lines(path);
  const auto found = all_numbers();
  if (expected.size() != found.size()) {
    throw std::runtime_error(std::string(path) + " has " + std::to_string(expected.size()) + " numbers, expected " +
                             std::to_string(found.size()));
  }
  std::size_t different = 0;
  bool close = true;
  double worst = 0;  // difference over what two numbers that are each off by their error may differ
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = std::abs(found[i].value - std::strtod(expected[i].c_str(), nullptr));
    if (difference != 0) ++different;
    const double share = difference == 0 ? 0 : difference / (2 * found[i].error);
    close = close && share <= 1;  // false for NaN
    worst = std::max(worst, share);
  }
  std::printf("%zu numbers, %zu differ, at most by %.3f of what they may\n", found.size(), different, worst);
  return close ? 0 : 1;
}

int run(const char* what, const char* path) {
  if (std::strcmp(what, "--write-rankings") == 0) {
    write_lines(path, ranking_lines());
    return 0;
  }
  if (std::strcmp(what, "--check-rankings") == 0) return check_rankings(path);
  if (std::strcmp(what, "--write-numbers") == 0) {
    std::vector<std::string> lines;
    for (const number& x : all_numbers()) {
      std::array<char, 64> text{};
      static_cast<void>(std::snprintf(text.data(), text.size(), "%a", x.value));
      lines.emplace_back(text.data());
    }
    write_lines(path, lines);
    return 0;
  }
  if (std::strcmp(what, "--check-numbers") == 0) return check_numbers(path);
  throw std::runtime_error(std::string("unknown: ") + what);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 3) return run(argv[1], argv[2]);
    throw std::runtime_error("usage: --write-rankings|--check-rankings|--write-numbers|--check-numbers FILE");
  } catch (const std::exception& e) {
    static_cast<void>(std::fprintf(stderr, "%s\n", e.what()));
    return 2;
  }
}
