// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/optimize/optimizer.hpp>

#include "support/matrices.hpp"

namespace {

using dro::index_t;
using test::real;

/// A model that is nothing but parameters: any number of matrices.
template <class B, class T = double>
class parameters {
 public:
  parameters(B& b, const std::vector<dro::host_matrix<T>>& values) : backend_(&b) {
    for (const auto& m : values) {
      values_.push_back(write(b, m));
      gradients_.push_back(dro::make_filled<T>(b, m.rows(), m.cols(), T(0)));
    }
  }

  template <class F>
  void for_each_parameter(F&& f) {
    for (std::size_t i = 0; i < values_.size(); ++i) f(backend_->view(values_[i]), backend_->view(gradients_[i]));
  }

  void set_gradient(std::size_t i, const dro::host_matrix<T>& g) {
    backend_->write(g.data(), backend_->view(gradients_[i]));
  }
  [[nodiscard]] dro::host_matrix<T> value(std::size_t i) { return read(*backend_, values_[i]); }
  [[nodiscard]] dro::host_matrix<T> gradient(std::size_t i) { return read(*backend_, gradients_[i]); }

 private:
  B* backend_;
  std::vector<dro::matrix_t<B, T>> values_, gradients_;
};

static_assert(dro::trainable<parameters<dro::host_backend>>);

using on_host = parameters<dro::host_backend>;

dro::host_matrix<double> one(double value) { return test::matrix<double>(1, 1, std::vector{value}); }

/// A gradient that is not shaped as its value.
struct lopsided {
  dro::host_matrix<double> value{2, 2}, gradient{2, 3};
  template <class F>
  void for_each_parameter(F&& f) {
    f(dro::row_major_view(value.data(), 2, 2), dro::row_major_view(gradient.data(), 2, 3));
  }
};

const std::vector<double> some_gradients = {1.0, -2.0, 0.5, 0.0, 3.0, -0.25, 1e-3, 4.0};

/// The values of one parameter that starts at 2 under `some_gradients`.
template <class Optimizer>
std::vector<double> trajectory(dro::host_backend& b, Optimizer& o) {
  on_host model(b, {one(2.0)});
  std::vector<double> path;
  for (const double g : some_gradients) {
    model.set_gradient(0, one(g));
    o.step(b, model);
    path.push_back(model.value(0)(0, 0));
    CHECK(model.gradient(0)(0, 0) == 0);
  }
  return path;
}

void check_path(const std::vector<double>& path, const std::vector<real>& expected) {
  REQUIRE(path.size() == expected.size());
  // About 10 roundings a step of numbers below 4, over 8 steps.
  constexpr real tolerance = 400 * static_cast<real>(test::unit_roundoff<double>);
  for (std::size_t i = 0; i < path.size(); ++i) DRO_CHECK_NEAR(path[i], expected[i], tolerance);
}

}  // namespace

TEST_CASE("sgd moves uphill by the rate times the gradient") {
  dro::host_backend b(1);
  dro::sgd<dro::host_backend> o(b, {.learning_rate = 0.25});
  real value = 2;
  std::vector<real> expected;
  for (const double g : some_gradients) expected.push_back(value += real(0.25) * g);
  check_path(trajectory(b, o), expected);
}

TEST_CASE("sgd with momentum and weight decay, two steps by hand") {
  dro::host_backend b(1);
  dro::sgd<dro::host_backend> o(b, {.learning_rate = 0.5, .momentum = 0.5, .weight_decay = 0.25});
  on_host model(b, {one(2.0)});
  model.set_gradient(0, one(1.0));
  o.step(b, model);  // v = 1 − 0.25 · 2 = 0.5; θ = 2 + 0.5 · 0.5
  CHECK(model.value(0)(0, 0) == 2.25);
  model.set_gradient(0, one(-1.0));
  o.step(b, model);  // v = 0.25 − 1 − 0.5625 = −1.3125; θ = 2.25 − 0.65625
  CHECK(model.value(0)(0, 0) == 1.59375);
}

TEST_CASE("adagrad divides by the root of the sum of squares, and lets zeros be") {
  dro::host_backend b(1);
  dro::adagrad<dro::host_backend> o(b, {.learning_rate = 0.5, .weight_decay = 0.125, .epsilon = 1e-8});
  real value = 2;
  real squares = 0;
  std::vector<real> expected;
  for (const double g : some_gradients) {
    if (g != 0) {
      const real decayed = g - real(0.125) * value;
      squares += decayed * decayed;
      value += real(0.5) * decayed / (std::sqrt(squares) + real(1e-8));
    }
    expected.push_back(value);
  }
  check_path(trajectory(b, o), expected);
  CHECK(expected[3] == expected[2]);
}

TEST_CASE("AdamW follows algorithm 2 of Loshchilov and Hutter, uphill") {
  dro::host_backend b(1);
  dro::adamw<dro::host_backend> o(
      b, {.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .weight_decay = 0.1});
  real value = 2;
  real m = 0;
  real v = 0;
  std::vector<real> expected;
  for (std::size_t i = 0; i < some_gradients.size(); ++i) {
    const real g = -some_gradients[i];  // of the loss that the algorithm descends
    const auto t = static_cast<real>(i + 1);
    m = real(0.8) * m + (1 - real(0.8)) * g;
    v = real(0.95) * v + (1 - real(0.95)) * g * g;
    const real m_hat = m / (1 - std::pow(real(0.8), t));
    const real v_hat = v / (1 - std::pow(real(0.95), t));
    value -= real(0.05) * (m_hat / (std::sqrt(v_hat) + real(1e-3)) + real(0.1) * value);
    expected.push_back(value);
  }
  check_path(trajectory(b, o), expected);
}

TEST_CASE("AdamW's first step has the size of the rate whatever the gradient, and zero gradients only decay") {
  dro::host_backend b(1);
  for (const double g : {1e-4, 3.0, -7e5}) {
    dro::adamw<dro::host_backend> o(b, {.learning_rate = 0.125, .epsilon = 0, .weight_decay = 0});
    on_host model(b, {one(0.0)});
    model.set_gradient(0, one(g));
    o.step(b, model);
    DRO_CHECK_NEAR(model.value(0)(0, 0), g > 0 ? 0.125 : -0.125, 1e-15);
  }
  dro::adamw<dro::host_backend> o(b, {.learning_rate = 0.5, .weight_decay = 0.5});
  on_host model(b, {one(8.0)});
  o.step(b, model);
  CHECK(model.value(0)(0, 0) == 6);  // 8 (1 − 0.25)
}

TEST_CASE("many matrices, longer than a block, in any layout: every element is moved, once") {
  dro::deferred_backend b;                                             // column-major
  const auto first = test::random_matrix<double>(37, 61, -1, 1, 121);  // 2257 elements, three blocks
  const auto second = test::random_matrix<double>(1, 1500, -1, 1, 122);
  parameters<dro::deferred_backend> model(b, {first, second, dro::host_matrix<double>(0, 4)});
  model.set_gradient(0, first);
  model.set_gradient(1, second);
  dro::sgd<dro::deferred_backend> o(b, {.learning_rate = 2});
  o.step(b, model);
  CHECK(b.reads() == 0);
  const auto moved_first = model.value(0);
  const auto moved_second = model.value(1);
  real squares = 0;
  for (const auto& [before, after] : {std::pair(&first, &moved_first), {&second, &moved_second}}) {
    for (std::size_t i = 0; i < test::elements(*before).size(); ++i) {
      const double v = test::elements(*before)[i];
      squares += static_cast<real>(v) * v;
      REQUIRE(test::elements(*after)[i] == v + 2 * v);
    }
  }
  // 3757 squares in blocks: relative error below (1024/8 + 3 + 4) u.
  DRO_CHECK_NEAR(read(b, o.gradient_norm())(0, 0), std::sqrt(squares),
                 std::sqrt(squares) * 140 * test::unit_roundoff<double>);
}

TEST_CASE("clipping shrinks all matrices together to the norm") {
  dro::host_backend b(1);
  const auto zero = dro::host_matrix<double>(1, 2);
  on_host model(b, {zero, one(0.0)});
  dro::sgd<dro::host_backend> o(b, {.learning_rate = 1}, {}, 6.5);
  model.set_gradient(0, test::matrix<double>(1, 2, std::vector{3.0, -4.0}));
  model.set_gradient(1, one(12.0));
  o.step(b, model);  // norm 13, twice the largest
  CHECK(o.gradient_norm()(0, 0) == 13);
  CHECK(test::same(model.value(0), test::matrix<double>(1, 2, std::vector{1.5, -2.0})));
  CHECK(model.value(1)(0, 0) == 6);
  // Below the largest norm nothing is shrunk, nor enlarged.
  model.set_gradient(0, test::matrix<double>(1, 2, std::vector{0.5, 0.25}));
  o.step(b, model);
  CHECK(test::same(model.value(0), test::matrix<double>(1, 2, std::vector{2.0, -1.75})));
}

TEST_CASE("a gradient that is not finite moves nothing at all, and is gone afterwards") {
  dro::host_backend b(1);
  for (const double bad : {test::nan<double>, test::infinity<double>, -test::infinity<double>}) {
    for (const double largest_norm : {0.0, 1.0}) {
      dro::adamw<dro::host_backend> o(b, {.learning_rate = 0.5, .weight_decay = 0.5}, {}, largest_norm);
      on_host model(b, {one(1.0), one(2.0)});
      model.set_gradient(0, one(1.0));
      model.set_gradient(1, one(bad));
      o.step(b, model);
      CHECK(model.value(0)(0, 0) == 1);
      CHECK(model.value(1)(0, 0) == 2);
      CHECK(model.gradient(0)(0, 0) == 0);
      CHECK(model.gradient(1)(0, 0) == 0);
      CHECK_FALSE(std::isfinite(o.gradient_norm()(0, 0)));
      o.for_each_state([](const std::string& name, auto& state) {
        if (name != "steps") {
          for (index_t k = 0; k < state.cols(); ++k) CHECK(state(0, k) == 0);
        }
      });
      model.set_gradient(0, one(1.0));
      o.step(b, model);  // and the next step is an ordinary one
      CHECK(std::isfinite(model.value(0)(0, 0)));
      CHECK(model.value(0)(0, 0) != 1);
    }
  }
}

TEST_CASE("schedules at the ends and where they bend") {
  CHECK(dro::constant_schedule{}(0) == 1);
  const dro::linear_schedule linear{4, 10};
  CHECK(linear(0) == 0.25);
  CHECK(linear(3) == 1);
  CHECK(linear(4) == 1);
  CHECK(linear(7) == 0.5);
  CHECK(linear(10) == 0);
  CHECK(linear(1000) == 0);
  CHECK(dro::linear_schedule{0, 4}(0) == 1);
  CHECK(dro::linear_schedule{0, 4}(3) == 0.25);
  CHECK(dro::linear_schedule{3, 3}(2) == 1);
  CHECK(dro::linear_schedule{3, 3}(3) == 0);
  const dro::cosine_schedule cosine{2, 12, 0.2};
  CHECK(cosine(0) == 0.5);
  CHECK(cosine(1) == 1);
  CHECK(cosine(2) == 1);
  DRO_CHECK_NEAR(cosine(7), 0.6, 1e-15);  // half way: the mean of 1 and the floor
  DRO_CHECK_NEAR(cosine(4), 0.2 + 0.8 * (1 + std::cos(std::acos(real(-1)) / 5)) / 2, 1e-15);
  CHECK(cosine(12) == 0.2);
  CHECK(cosine(13) == 0.2);
}

TEST_CASE("the schedule follows the optimiser's own counter") {
  dro::host_backend b(1);
  dro::sgd<dro::host_backend, double, dro::linear_schedule> o(b, {.learning_rate = 1}, {2, 4});
  on_host model(b, {one(0.0)});
  std::vector<double> path;
  for (int i = 0; i < 5; ++i) {
    model.set_gradient(0, one(1.0));
    o.step(b, model);
    path.push_back(model.value(0)(0, 0));
  }
  CHECK(path == std::vector<double>{0.5, 1.5, 2.5, 3.0, 3.0});
}

TEST_CASE("state written into a fresh optimiser goes on as the old one") {
  dro::host_backend b(1);
  const auto step = [&](auto& o, on_host& model, double g) {
    model.set_gradient(0, one(g));
    o.step(b, model);
  };
  dro::adamw<dro::host_backend> whole(b, {.learning_rate = 0.1});
  on_host model(b, {one(1.0)});
  for (const double g : {1.0, -0.5, 2.0}) step(whole, model, g);

  dro::adamw<dro::host_backend> resumed(b, {.learning_rate = 0.1});
  on_host copy(b, {model.value(0)});
  resumed.prepare(b, copy);
  std::vector<std::string> names;
  whole.for_each_state([&](const std::string& name, auto& from) {
    names.push_back(name);
    resumed.for_each_state([&](const std::string& other, auto& to) {
      if constexpr (std::is_same_v<decltype(from), decltype(to)>) {
        if (other == name) to = from;
      }
    });
  });
  CHECK(names == std::vector<std::string>{"steps", "state0"});
  for (const double g : {0.25, -3.0}) {
    step(whole, model, g);
    step(resumed, copy, g);
  }
  CHECK(test::same(model.value(0), copy.value(0)));
}

TEST_CASE("float parameters follow double ones") {
  dro::host_backend b(1);
  dro::adamw<dro::host_backend, float> o(b, {.learning_rate = 0.05});
  dro::adamw<dro::host_backend> reference(b, {.learning_rate = 0.05});
  parameters<dro::host_backend, float> model(b, {test::matrix<float>(1, 1, std::vector{2.0F})});
  on_host expected(b, {one(2.0)});
  for (const double g : some_gradients) {
    model.set_gradient(0, test::matrix<float>(1, 1, std::vector{g}));
    expected.set_gradient(0, one(g));
    o.step(b, model);
    reference.step(b, expected);
  }
  DRO_CHECK_NEAR(model.value(0)(0, 0), expected.value(0)(0, 0), 400 * test::unit_roundoff<float>);  // as check_path
}

TEST_CASE("a rule with several numbers a parameter moves matrices of every layout alike") {
  const auto start = test::random_matrix<double>(3, 4, -1, 1, 41);
  const auto moved = [&]<class B>(B b) {
    dro::adamw<B> o(b, {.learning_rate = 0.05});
    parameters<B> model(b, {start});
    for (std::uint64_t step = 0; step < 3; ++step) {
      model.set_gradient(0, test::random_matrix<double>(3, 4, -1, 1, 42 + step));
      o.step(b, model);
    }
    return model.value(0);
  };
  const auto by_rows = moved(dro::host_backend(1));
  CHECK(!test::same(by_rows, start));
  CHECK(test::same(by_rows, moved(dro::deferred_backend())));  // column-major
}

TEST_CASE("other parameters than at the first step, and rates that are none, are refused") {
  dro::host_backend b(1);
  dro::sgd<dro::host_backend> o(b);
  on_host model(b, {dro::host_matrix<double>(2, 3), one(0.0)});
  o.step(b, model);
  on_host larger(b, {dro::host_matrix<double>(3, 3), one(0.0)});
  CHECK_THROWS_WITH_AS(o.step(b, larger), "optimizer: parameter 0 is [3 × 3], other than at the first step",
                       dro::shape_error);
  on_host fewer(b, {dro::host_matrix<double>(2, 3)});
  CHECK_THROWS_WITH_AS(o.step(b, fewer), "optimizer: the model has 1 parameter matrices, it had 2", dro::shape_error);
  on_host more(b, {dro::host_matrix<double>(2, 3), one(0.0), one(0.0)});
  CHECK_THROWS_AS(o.step(b, more), dro::shape_error);
  CHECK_THROWS_WITH_AS(dro::sgd<dro::host_backend>(b, {.learning_rate = -1}),
                       "learning rate is -1.000000, expected 0 or more", dro::option_error);
  CHECK_THROWS_AS(dro::adamw<dro::host_backend>(b, {.learning_rate = test::nan<double>}), dro::option_error);
  CHECK_THROWS_AS(dro::adamw<dro::host_backend>(b, {.learning_rate = test::infinity<double>}), dro::option_error);
  CHECK_THROWS_WITH_AS(dro::adamw<dro::host_backend>(b, {.beta1 = 2}),
                       "beta1 is 2.000000, expected 0.000000 or more and less than 1.000000", dro::option_error);
  CHECK_THROWS_AS(dro::adamw<dro::host_backend>(b, {.beta2 = test::nan<double>}), dro::option_error);
  CHECK_THROWS_AS(dro::adamw<dro::host_backend>(b, {.epsilon = -1}), dro::option_error);
  CHECK_THROWS_WITH_AS(dro::adamw<dro::host_backend>(b, {.weight_decay = -1}),
                       "weight decay is -1.000000, expected 0.000000 or more", dro::option_error);
  CHECK_THROWS_AS(dro::sgd<dro::host_backend>(b, {.momentum = 1}), dro::option_error);
  CHECK_THROWS_AS(dro::adagrad<dro::host_backend>(b, {.weight_decay = test::infinity<double>}), dro::option_error);
  CHECK_THROWS_WITH_AS(dro::sgd<dro::host_backend>(b, {}, {}, test::nan<double>),
                       "largest norm is nan, expected 0.000000 or more", dro::option_error);
  dro::adamw<dro::host_backend> unprepared(b);
  CHECK_THROWS_WITH_AS(unprepared.for_each_state([](const std::string&, auto&) {}),
                       "optimizer: no memory to save or restore yet, call prepare(backend, model) or step first",
                       dro::option_error);

  lopsided wrong;
  dro::sgd<dro::host_backend> fresh(b);
  CHECK_THROWS_WITH_AS(fresh.step(b, wrong), "optimizer: gradient is [2 × 3], expected [2 × 2]", dro::shape_error);
}

TEST_CASE("a parameter of −inf, such as padding, stays what it is without decay") {
  dro::host_backend b(1);
  const auto check = [&](auto optimizer) {
    on_host model(b, {one(-test::infinity<double>)});
    model.set_gradient(0, one(0.0));
    optimizer.step(b, model);
    CHECK(model.value(0)(0, 0) == -test::infinity<double>);
  };
  check(dro::sgd<dro::host_backend, double>(b, {.learning_rate = 0.5}));
  check(dro::adagrad<dro::host_backend, double>(b, {.learning_rate = 0.5}));
}
