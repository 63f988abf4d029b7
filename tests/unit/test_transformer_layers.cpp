// SPDX-License-Identifier: Apache-2.0
// Each layer of the transformer alone: its gradient against differences, teams of several threads, and what it
// promises.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/error.hpp>
#include <dro/models/transformer/attention.hpp>
#include <dro/models/transformer/embedding.hpp>
#include <dro/models/transformer/linear.hpp>
#include <dro/models/transformer/rms_norm.hpp>
#include <dro/models/transformer/rotary.hpp>
#include <dro/models/transformer/swiglu.hpp>
#include <dro/models/transformer/token_log_prob.hpp>

#include "support/check.hpp"
#include "support/matrices.hpp"
#include "teams.hpp"

namespace {

using dro::host_backend;
using dro::host_matrix;
using dro::index_t;
using dro::matrix_view;
using dro::models::no_token;
using dro::models::token_t;
using test::real;

using M = host_matrix<double>;
using view_t = matrix_view<double>;
using const_view_t = matrix_view<const double>;

M numbers(index_t rows, index_t cols, std::uint64_t seed) {
  return test::random_matrix<double>(rows, cols, -1, 1, seed);
}

view_t out(M& m) { return dro::row_major_view(m.data(), m.rows(), m.cols()); }
const_view_t in(const M& m) { return dro::row_major_view(m.data(), m.rows(), m.cols()); }

/// Σ c ∘ y.
real weighted(const M& c, const M& y) {
  real sum = 0;
  for (index_t i = 0; i < y.rows() * y.cols(); ++i)
    sum += static_cast<real>(c.data()[i]) * static_cast<real>(y.data()[i]);
  return sum;
}

/// Checks `gradient` against the differences of f by the elements of x. Sums here have at most 64 terms below 4 and f
/// at most 200 of them; values are rounded by 200 · 64 u · 4 = 6e-12, over h = 2^-14 that is 1e-7. Third derivatives
/// below 64 leave h²/6 · 64 = 4e-8.
template <class F>
void check_gradient(const M& gradient, M& x, const F& f) {
  const auto expected = test::central_differences(test::elements(x), f, 0x1p-14);
  REQUIRE(gradient.rows() * gradient.cols() == static_cast<index_t>(expected.size()));
  real largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    DRO_CHECK_NEAR(gradient.data()[i], expected[i], 1.5e-7L);
    largest = std::max(largest, std::abs(expected[i]));
  }
  CHECK(largest > 1e-2L);
}

}  // namespace

TEST_CASE("the embedding gives each token its row, and its gradient gathers them") {
  test::check_teams([](auto& b, test::results& r) {
    const auto table = dro::write(b, numbers(7, 5, 1));
    host_matrix<token_t> tokens(600, 1);
    for (index_t n = 0; n < 600; ++n) tokens(n, 0) = static_cast<token_t>(n * n % 9) - 1;  // −1 and 7 are no tokens
    const auto there = dro::write(b, tokens);
    auto y = b.template make<double>(600, 5);
    auto d_table = dro::write(b, numbers(7, 5, 2));
    const auto& view = b;
    dro::models::embedding(b, view.view(table), view.view(there), b.view(y));
    // Whole numbers, which sum exactly.
    M d_y(600, 5);
    for (index_t i = 0; i < 3000; ++i) d_y.data()[i] = static_cast<double>(i % 61 - 30);
    const auto d_there = dro::write(b, d_y);
    dro::models::embedding_gradient(b, view.view(there), view.view(d_there), b.view(d_table));
    M expected = numbers(7, 5, 2);
    const M e = numbers(7, 5, 1);
    const auto found = dro::read(b, y);
    for (index_t n = 0; n < 600; ++n) {
      const token_t token = tokens(n, 0);
      for (index_t j = 0; j < 5; ++j) {
        const bool known = token >= 0 && token < 7;
        CHECK(found(n, j) == (known ? e(token, j) : 0));
        if (known) expected(token, j) += d_y(n, j);
      }
    }
    CHECK(test::same(dro::read(b, d_table), expected));
    r.add(b, "y", y);
  });
}

TEST_CASE("the root-mean-square norm and its gradient") {
  for (const double epsilon : {0.0, 0.3}) {
    M x = numbers(130, 5, 1);
    M gain = numbers(1, 5, 2);
    const M c = numbers(130, 5, 3);
    const auto run = [&](auto& b, M& y, M& inverse) {
      dro::models::rms_norm(b, in(x), in(gain), epsilon, out(y), out(inverse));
    };
    host_backend b(1);
    M y(130, 5), inverse(130, 1), again(130, 5);
    run(b, y, inverse);
    const auto value = [&] {
      M z(130, 5), ignored(130, 1);
      run(b, z, ignored);
      return weighted(c, z);
    };
    M d_x(130, 5), d_gain(1, 5), partial(dro::models::rms_norm_parts(130), 5);
    dro::models::rms_norm_gradient(b, in(x), in(gain), in(inverse), in(c), out(d_x), out(d_gain), out(partial));
    check_gradient(d_x, x, value);
    check_gradient(d_gain, gain, value);
    dro::models::rms_norm_again(b, in(x), in(gain), in(inverse), out(again));
    CHECK(test::same(again, y));
    M once = d_x;
    dro::models::rms_norm_gradient(b, in(x), in(gain), in(inverse), in(c), out(d_x), view_t{}, out(partial));
    for (index_t i = 0; i < 650; ++i) CHECK(d_x.data()[i] == 2 * once.data()[i]);  // added to
  }
  test::check_teams([](auto& b, test::results& r) {
    const auto x = dro::write(b, numbers(5, 40, 1));
    const auto gain = dro::write(b, numbers(1, 40, 2));
    const auto d_y = dro::write(b, numbers(5, 40, 3));
    auto y = b.template make<double>(5, 40);
    auto inverse = b.template make<double>(5, 1);
    auto partial = b.template make<double>(1, 40);
    auto d_x = dro::make_filled<double>(b, 5, 40, 1.0);
    auto d_gain = dro::make_filled<double>(b, 1, 40, 1.0);
    const auto& view = b;
    dro::models::rms_norm(b, view.view(x), view.view(gain), 1e-5, b.view(y), b.view(inverse));
    dro::models::rms_norm_gradient(b, view.view(x), view.view(gain), view.view(std::as_const(inverse)), view.view(d_y),
                                   b.view(d_x), b.view(d_gain), b.view(partial));
    for (const auto* m : {&y, &inverse, &d_x, &d_gain}) r.add(b, "norm", *m);
  });
}

TEST_CASE("a row of zeros is normed to zeros, even without an epsilon") {
  host_backend b(1);
  const M x(2, 3), gain(1, 3, {1, 2, 3}), d_y(2, 3, {1, 1, 1, 1, 1, 1});
  M y = numbers(2, 3, 1), inverse(2, 1), d_x(2, 3), d_gain(1, 3), partial(1, 3);
  dro::models::rms_norm(b, in(x), in(gain), 0.0, out(y), out(inverse));
  dro::models::rms_norm_gradient(b, in(x), in(gain), in(inverse), in(d_y), out(d_x), out(d_gain), out(partial));
  for (const M* m : {&y, &d_x, &d_gain}) {
    for (const double v : test::elements(*m)) CHECK(v == 0);
  }
}

TEST_CASE("the gated activation and its gradient") {
  host_backend b(1);
  M gate = test::random_matrix<double>(6, 9, -4, 4, 1);
  M up = numbers(6, 9, 2);
  const M c = numbers(6, 9, 3);
  const auto value = [&] {
    M y(6, 9);
    dro::models::swiglu(b, in(gate), in(up), out(y));
    return weighted(c, y);
  };
  M d_gate = gate;
  M d_up = up;
  dro::models::swiglu_gradient(b, in(d_gate), in(d_up), in(c), out(d_gate), out(d_up));
  check_gradient(d_gate, gate, value);
  check_gradient(d_up, up, value);
  const M far(1, 2, {-1000, 1000});
  const M ones(1, 2, {3, 3});
  M y(1, 2);
  dro::models::swiglu(b, in(far), in(ones), out(y));
  CHECK(std::abs(y(0, 0)) < 1e-300);
  CHECK(y(0, 1) == 3000);
  test::check_teams([&](auto& backend, test::results& r) {
    auto g = dro::write(backend, numbers(4, 7, 5));
    auto u = dro::write(backend, numbers(4, 7, 6));
    const auto d = dro::write(backend, numbers(4, 7, 7));
    auto s = backend.template make<double>(4, 7);
    dro::models::swiglu<std::remove_reference_t<decltype(backend)>, double>(backend, backend.view(g), backend.view(u),
                                                                            backend.view(s));
    const auto& view = backend;
    dro::models::swiglu_gradient(backend, view.view(std::as_const(g)), view.view(std::as_const(u)), view.view(d),
                                 backend.view(g), backend.view(u));
    for (const auto* m : {&g, &u, &s}) r.add(backend, "swiglu", *m);
  });
}

namespace {

struct rotation {
  M cosine, sine;
  explicit rotation(index_t positions) : cosine(positions, 2), sine(positions, 2) {
    for (index_t p = 0; p < positions; ++p) {
      for (index_t i = 0; i < 2; ++i) {
        const double angle = static_cast<double>(p) * (i == 0 ? 1.0 : 0.1);
        cosine(p, i) = std::cos(angle);
        sine(p, i) = std::sin(angle);
      }
    }
  }
};

}  // namespace

TEST_CASE("a product of turned heads depends on the difference of their positions alone") {
  host_backend b(1);
  const rotation turn(12);
  M q(12, 4), k(12, 4);
  const M one = numbers(2, 4, 1);
  for (index_t p = 0; p < 12; ++p) {
    for (index_t j = 0; j < 4; ++j) {
      q(p, j) = one(0, j);
      k(p, j) = one(1, j);
    }
  }
  const dro::models::head_layout layout{1, 4, {12}, true, dro::models::sequence_layout::plain(12)};
  M turned_q(12, 4), turned_k(12, 4);
  dro::models::split_heads(b, out(q), out(turned_q), in(turn.cosine), in(turn.sine), layout);
  dro::models::split_heads(b, out(k), out(turned_k), in(turn.cosine), in(turn.sine), layout);
  const auto product = [&](index_t i, index_t j) {
    real sum = 0;
    for (index_t c = 0; c < 4; ++c) sum += static_cast<real>(turned_q(i, c)) * static_cast<real>(turned_k(j, c));
    return sum;
  };
  // Cosines and sines are off by u, elements by 4 u, products of 4 pairs below 2 by 4 · 2 · (8 + 4) u.
  for (index_t i = 0; i < 12; ++i) {
    for (index_t j = 0; j + 1 < 12 && i + 1 < 12; ++j) {
      DRO_CHECK_NEAR(product(i, j), product(i + 1, j + 1), 200 * test::unit_roundoff<double>);
    }
  }
  CHECK(std::abs(product(5, 5) - product(5, 3)) > 1e-2L);
  M back(12, 4);
  dro::models::join_heads(b, out(turned_q), out(back), in(turn.cosine), in(turn.sine), layout);
  for (index_t i = 0; i < 48; ++i) {
    DRO_CHECK_NEAR(back.data()[i], q.data()[i], 8 * test::unit_roundoff<double>);
  }
}

TEST_CASE("heads go to their places, branches begin where the trunk ends") {
  // Two sequences of trunk 2 and branches of 2, of which rows 2 and 4, the first of each branch, are split.
  const dro::models::sequence_layout sequence{6, 2, 2};
  const dro::models::row_span rows{2, 2, 2};
  const rotation turn(4);
  test::check_teams([&](auto& b, test::results& r) {
    auto joined = dro::write(b, numbers(4, 8, 1));
    auto keys = dro::make_filled<double>(b, 2 * 2 * 6, 4, 0.0);
    auto queries = dro::make_filled<double>(b, 2 * 2 * 2, 4, 0.0);
    const auto cosine = dro::write(b, turn.cosine);
    const auto sine = dro::write(b, turn.sine);
    const auto& view = b;
    dro::models::split_heads(b, b.view(joined), b.view(keys), view.view(cosine), view.view(sine),
                             {2, 4, rows, true, sequence});
    dro::models::split_heads(b, b.view(joined), b.view(queries), {}, {}, {2, 4, rows, false, sequence});
    const auto k = dro::read(b, keys);
    const auto q = dro::read(b, queries);
    const M x = numbers(4, 8, 1);
    for (index_t s = 0; s < 2; ++s) {
      for (index_t h = 0; h < 2; ++h) {
        for (index_t i = 0; i < 2; ++i) {
          for (index_t c = 0; c < 4; ++c) CHECK(q((s * 2 + h) * 2 + i, c) == x(s * 2 + i, h * 4 + c));
          const double a = x(s * 2 + i, h * 4 + 1);
          const double d = x(s * 2 + i, h * 4 + 3);
          DRO_CHECK_NEAR(k((s * 2 + h) * 6 + 2 + 2 * i, 1), a * turn.cosine(2, 1) - d * turn.sine(2, 1), 1e-15);
        }
        for (const index_t untouched : {0, 1, 3, 5}) CHECK(k((s * 2 + h) * 6 + untouched, 0) == 0);
      }
    }
    auto back = b.template make<double>(4, 8);
    dro::models::join_heads(b, b.view(queries), b.view(back), {}, {}, {2, 4, rows, false, sequence});
    CHECK(test::same(dro::read(b, back), x));
    r.add(b, "keys", keys);
  });
}

namespace {

/// An attention of 2 sequences: 4 heads on 2 key heads of 4 numbers, trunk 3, two branches of 2, the second sequence
/// padded by 1.
struct attention_example {
  host_matrix<std::int32_t> starts{2, 1, {0, 1}};
  M q = numbers(2 * 4 * 7, 4, 1), k = numbers(2 * 2 * 7, 4, 2), v = numbers(2 * 2 * 7, 4, 3);
  M c = numbers(2 * 4 * 7, 4, 4);

  template <class B>
  [[nodiscard]] dro::models::attention_shape shape(const B& b, const dro::matrix_t<B, std::int32_t>& there) const {
    return {2, 4, 2, 4, {7}, {7, 3, 2, b.view(there)}};
  }

  template <class B>
  void run(B& b, index_t workspace, test::results* r, M* o_out, M* d_q_out = nullptr, M* d_k_out = nullptr,
           M* d_v_out = nullptr) const {
    const auto starts_there = dro::write(b, starts);
    const auto qq = dro::write(b, q);
    const auto kk = dro::write(b, k);
    const auto vv = dro::write(b, v);
    const auto cc = dro::write(b, c);
    auto o = b.template make<double>(56, 4);
    auto sums = b.template make<double>(56, 1);
    auto work = b.template make<double>(workspace, 1);
    const B& view = b;
    const auto s = shape(view, starts_there);
    dro::models::attention(b, s, view.view(qq), view.view(kk), view.view(vv), b.view(o), b.view(sums), b.view(work));
    if (o_out != nullptr) *o_out = dro::read(b, o);
    auto d_q = b.template make<double>(56, 4);
    auto d_k = b.template make<double>(28, 4);
    auto d_v = b.template make<double>(28, 4);
    auto delta = b.template make<double>(56, 1);
    auto d_work = b.template make<double>(workspace, 1);
    if (d_q_out != nullptr || r != nullptr) {
      dro::models::attention_gradient(b, s, view.view(qq), view.view(kk), view.view(vv), view.view(std::as_const(o)),
                                      view.view(std::as_const(sums)), view.view(cc), b.view(d_q), b.view(d_k),
                                      b.view(d_v), b.view(delta), b.view(work), b.view(d_work));
    }
    if (d_q_out != nullptr) {
      *d_q_out = dro::read(b, d_q);
      *d_k_out = dro::read(b, d_k);
      *d_v_out = dro::read(b, d_v);
    }
    if (r != nullptr) {
      for (const auto* m : {&o, &d_q, &d_k, &d_v}) r->add(b, "attention", *m);
    }
  }
};

}  // namespace

TEST_CASE("attention is a softmax over what a query sees") {
  host_backend b(1);
  const attention_example e;
  M o;
  e.run(b, 7 * 7 * 4, nullptr, &o);
  for (index_t s = 0; s < 2; ++s) {
    for (index_t h = 0; h < 4; ++h) {
      for (index_t a = 0; a < 7; ++a) {
        std::vector<index_t> seen;
        for (index_t j = s; j < 3 && j <= a; ++j) seen.push_back(j);
        for (index_t j = a < 5 ? 3 : 5; j <= a; ++j) seen.push_back(j);
        const index_t keys = (s * 2 + h / 2) * 7;
        std::vector<real> scores;
        for (const index_t j : seen) {
          real dot = 0;
          for (index_t i = 0; i < 4; ++i) {
            dot += static_cast<real>(e.q((s * 4 + h) * 7 + a, i)) * static_cast<real>(e.k(keys + j, i));
          }
          scores.push_back(dot / 2);
        }
        const auto p = seen.empty() ? std::vector<real>() : test::softmax(scores);
        for (index_t i = 0; i < 4; ++i) {
          real expected = 0;
          for (std::size_t j = 0; j < seen.size(); ++j) expected += p[j] * static_cast<real>(e.v(keys + seen[j], i));
          // scores below 2 off by 8 u, so probabilities by 20 u with exp and sum; 7 terms below 1: 7 · 30 u.
          DRO_CHECK_NEAR(o((s * 4 + h) * 7 + a, i), expected, 210 * test::unit_roundoff<double>);
        }
      }
    }
  }
}

TEST_CASE("the gradient of attention, and teams") {
  host_backend b(1);
  attention_example e;
  M o, d_q, d_k, d_v;
  e.run(b, 200, nullptr, &o, &d_q, &d_k, &d_v);
  const auto value = [&] {
    M y;
    e.run(b, 200, nullptr, &y);
    return weighted(e.c, y);
  };
  check_gradient(d_q, e.q, value);
  check_gradient(d_k, e.k, value);
  check_gradient(d_v, e.v, value);
  test::check_teams([&](auto& backend, test::results& r) { e.run(backend, 50, &r, nullptr); });
}

TEST_CASE("attention does not depend on the size of its blocks") {
  host_backend b(1);
  const attention_example e;
  M o, d_q, d_k, d_v;
  e.run(b, 1000, nullptr, &o, &d_q, &d_k, &d_v);
  for (const index_t workspace : {7, 13, 14, 30, 49, 98, 196}) {
    CAPTURE(workspace);
    M o2, d_q2, d_k2, d_v2;
    e.run(b, workspace, nullptr, &o2, &d_q2, &d_k2, &d_v2);
    CHECK(test::same(o2, o));
    CHECK(test::same(d_q2, d_q));
    // Sums over queries in blocks: 14 terms below 4 in another order, 14² u · 4.
    for (index_t i = 0; i < 112; ++i) {
      DRO_CHECK_NEAR(d_k2.data()[i], d_k.data()[i], 784 * test::unit_roundoff<double>);
      DRO_CHECK_NEAR(d_v2.data()[i], d_v.data()[i], 784 * test::unit_roundoff<double>);
    }
  }
  CHECK_THROWS_WITH_AS(e.run(b, 6, nullptr, &o), "attention: workspace is [6 × 1], expected one column of at least 7",
                       dro::shape_error);
}

TEST_CASE("log p of the next token, its gradient, and pieces of any size") {
  host_backend b(1);
  M hidden = test::random_matrix<double>(6, 5, -2, 2, 1);
  M table = test::random_matrix<double>(9, 5, -2, 2, 2);
  const host_matrix<token_t> targets(6, 1, {0, 8, no_token, 3, 3, 9});  // 9 is out of range: as no_token
  M c = numbers(6, 1, 3);
  const auto value = [&] {
    M p(6, 1), work(20, 1);
    dro::models::token_log_prob(b, in(hidden), {{out(table), {}}}, b.view(targets), out(p), out(work));
    for (index_t n = 0; n < 6; ++n) {
      const auto target = static_cast<std::size_t>(targets(n, 0));
      std::vector<real> logits;
      for (index_t v = 0; v < 9; ++v) {
        real dot = 0;
        for (index_t j = 0; j < 5; ++j) dot += static_cast<real>(hidden(n, j)) * static_cast<real>(table(v, j));
        logits.push_back(dot);
      }
      // logits below 20 of 5 terms and the log of a sum of 9: 20 · (5 + 9 + 4) u.
      const real expected = target < 9 ? logits[target] - test::log_sum_exp(logits) : 0;
      DRO_CHECK_NEAR(p(n, 0), expected, 400 * test::unit_roundoff<double>);
    }
    return weighted(c, p);
  };
  M first_d_hidden;
  for (const index_t workspace : {9, 10, 30, 54, 1000}) {
    M p(6, 1), work(workspace, 1), d_hidden(6, 5), d_table(9, 5);
    dro::models::token_log_prob_gradient(b, in(hidden), {{out(table), out(d_table)}}, b.view(targets), in(c), out(p),
                                         out(d_hidden), out(work));
    check_gradient(d_hidden, hidden, value);
    check_gradient(d_table, table, value);
    if (workspace == 9) first_d_hidden = d_hidden;
    CHECK(test::same(d_hidden, first_d_hidden));
  }
  M p(6, 1), work(8, 1);
  CHECK_THROWS_WITH_AS(
      dro::models::token_log_prob(b, in(hidden), {{out(table), {}}}, b.view(targets), out(p), out(work)),
      "token_log_prob: workspace is [8 × 1], expected one column of at least 9", dro::shape_error);
  test::check_teams([&](auto& backend, test::results& r) {
    const auto h = dro::write(backend, hidden);
    auto t = dro::write(backend, table);
    const auto y = dro::write(backend, targets);
    const auto cc = dro::write(backend, c);
    auto log_prob = backend.template make<double>(6, 1);
    auto d_h = backend.template make<double>(6, 5);
    auto d_t = dro::make_filled<double>(backend, 9, 5, 0.0);
    auto w = backend.template make<double>(30, 1);
    const auto& view = backend;
    dro::models::token_log_prob_gradient(backend, view.view(h), {{backend.view(t), backend.view(d_t)}}, view.view(y),
                                         view.view(cc), backend.view(log_prob), backend.view(d_h), backend.view(w));
    for (const auto* m : {&log_prob, &d_h, &d_t}) r.add(backend, "head", *m);
  });
}

TEST_CASE("a linear layer with an adapter, its gradient, and pieces of any size") {
  host_backend b(1);
  M x = numbers(6, 5, 1), w = numbers(4, 5, 2), down = numbers(2, 5, 3), up = numbers(4, 2, 4);
  const M c = numbers(6, 4, 5), before = numbers(6, 4, 6);
  M d_w(4, 5), d_down(2, 5), d_up(4, 2);
  const dro::models::linear_layer<double> layer{
      {out(w), out(d_w)}, {out(down), out(d_down)}, {out(up), out(d_up)}, 1.5};
  const auto forward = [&](index_t workspace) {
    M y = before, work(workspace, 1);
    dro::models::linear(b, in(x), layer, out(y), true, out(work));
    return y;
  };
  const auto value = [&] { return weighted(c, forward(100)); };
  for (const index_t workspace : {2, 5, 100}) {
    CHECK(test::same(forward(workspace), forward(100)));
    M d_x = x, work(workspace, 1), d_work(workspace, 1);
    for (M* m : {&d_w, &d_down, &d_up}) *m = M(m->rows(), m->cols());
    const dro::models::linear_layer<double> here{
        {out(w), out(d_w)}, {out(down), out(d_down)}, {out(up), out(d_up)}, 1.5};
    dro::models::linear_gradient(b, in(d_x), here, in(c), out(d_x), false, out(work), out(d_work));  // d_x is x
    check_gradient(d_x, x, value);
    check_gradient(d_w, w, value);
    check_gradient(d_down, down, value);
    check_gradient(d_up, up, value);
    M frozen = x, added = d_x;
    const dro::models::linear_layer<double> base{{out(w), {}}, {out(down), out(d_down)}, {out(up), out(d_up)}, 1.5};
    M kept = d_w;
    dro::models::linear_gradient(b, in(x), base, in(c), out(added), true, out(work), out(d_work));
    CHECK(test::same(d_w, kept));
    for (index_t i = 0; i < 30; ++i) {
      DRO_CHECK_NEAR(added.data()[i], 2 * d_x.data()[i], 64 * test::unit_roundoff<double>);
    }
  }
  const M separate = forward(100);
  dro::models::merge_adapter(b, layer);
  M merged = before, work(1, 1);
  dro::models::linear(b, in(x), dro::models::linear_layer<double>{{out(w), {}}}, out(merged), true, out(work));
  // Both are off what is exact by 16 u times the sum of |x| |W| and s |x| |A| |B|, below 5 + 1.5 · 10.
  for (index_t i = 0; i < 24; ++i) {
    DRO_CHECK_NEAR(merged.data()[i], separate.data()[i], 640 * test::unit_roundoff<double>);
  }
  CHECK_THROWS_WITH_AS(dro::models::linear(b, in(x), layer, out(merged), true, out(work)),
                       "linear: workspace is [1 × 1], expected one column of at least 2", dro::shape_error);
}
