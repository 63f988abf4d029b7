// SPDX-License-Identifier: Apache-2.0
// The EM functions compiled against the least a model has to be, and every model of the library against its concept.
#include <cstddef>
#include <cstdint>
#include <span>

#include <doctest/doctest.h>

#include <dro/backend/eigen.hpp>
#include <dro/backend/host.hpp>
#include <dro/backend/testing.hpp>
#include <dro/em/em.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/model/archetypes.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/models/question_models.hpp>
#include <dro/models/table.hpp>
#include <dro/ranking/enumerate.hpp>

#include "support/check.hpp"

// The archetypes are declared, not defined. Here each says the least that makes sense: three queries, the first K
// documents in order, and probabilities of ½.
namespace dro::archetype {

inline std::size_t queries::size() const { return 3; }

template <backend B, class T>
draws<B, T> proposal<B, T>::draw(B& b, const queries& batch, const draw_options& options, const random_source&) const {
  const auto groups = grouping::uniform(static_cast<index_t>(batch.size()), options.samples);
  host_matrix<document_t> rankings(groups.total(), options.select);
  for (index_t i = 0; i < rankings.rows(); ++i) {
    for (index_t t = 0; t < options.select; ++t) rankings(i, t) = static_cast<document_t>(t);
  }
  return {b, write(b, rankings), make_filled<T>(b, groups.total(), 1, T(-0.5)), groups};
}

template <backend B, class T>
matrix_t<B, T> selector<B, T>::log_prob(B& b, const queries&, const draws<B, T>& z) const {
  return make_filled<T>(b, z.groups().total(), 1, T(-0.5));
}

template <backend B, class T>
void selector<B, T>::accumulate_gradient(B&, const queries&, const draws<B, T>&, const matrix_t<B, T>&) {}

template <backend B, class T>
matrix_t<B, T> generator<B, T>::log_likelihood(B& b, const queries&, const draws<B, T>& z) const {
  return make_filled<T>(b, z.groups().total(), 1, T(-0.25));
}

template <backend B, class T>
void generator<B, T>::accumulate_gradient(B&, const queries&, const draws<B, T>&, const matrix_t<B, T>&) {}

}  // namespace dro::archetype

namespace {

using dro::index_t;

template <class B, class T>
constexpr bool archetypes_satisfy_their_concepts =
    dro::proposal<dro::archetype::proposal<B, T>, B, dro::archetype::queries> &&
    !dro::selector<dro::archetype::proposal<B, T>, B, dro::archetype::queries> &&
    dro::selector<dro::archetype::selector<B, T>, B, dro::archetype::queries> &&
    !dro::scored_selector<dro::archetype::selector<B, T>, B, dro::archetype::queries> &&
    dro::scored_selector<dro::archetype::scored_selector<B, T>, B, dro::archetype::queries> &&
    dro::generator<dro::archetype::generator<B, T>, B, dro::archetype::queries, T> &&
    !dro::generator<dro::archetype::selector<B, T>, B, dro::archetype::queries, T>;

static_assert(archetypes_satisfy_their_concepts<dro::host_backend, float>);
static_assert(archetypes_satisfy_their_concepts<dro::host_backend, double>);
static_assert(archetypes_satisfy_their_concepts<dro::eigen_backend<>, double>);
static_assert(archetypes_satisfy_their_concepts<dro::deferred_backend, float>);

template <class B, class T>
constexpr bool models_satisfy_their_concepts =
    dro::selector<dro::models::table_selector<B, T>, B, dro::models::table_rows>&&
        dro::trainable<dro::models::table_selector<B, T>>&&
            dro::generator<dro::models::table_generator<B, T>, B, dro::models::table_rows, T>&& dro::trainable<
                dro::models::table_generator<B, T>>&& dro::proposal<dro::exhaustive<T>, B, dro::models::table_rows> &&
    !dro::selector<dro::exhaustive<T>, B, dro::models::table_rows>;

static_assert(models_satisfy_their_concepts<dro::host_backend, float>);
static_assert(models_satisfy_their_concepts<dro::host_backend, double>);
static_assert(models_satisfy_their_concepts<dro::eigen_backend<>, float>);
static_assert(models_satisfy_their_concepts<dro::deferred_backend, double>);

using questions = dro::item_batch<dro::models::prepared_question>;

template <class B>
constexpr bool text_models_satisfy_their_concepts = dro::scored_selector<dro::models::question_selector, B, questions>&&
    dro::generator<dro::models::question_reader, B, questions, double>;

static_assert(text_models_satisfy_their_concepts<dro::host_backend>);
static_assert(text_models_satisfy_their_concepts<dro::eigen_backend<>>);
static_assert(text_models_satisfy_their_concepts<dro::deferred_backend>);
static_assert(dro::trainable<dro::models::question_selector> && dro::trainable<dro::models::question_reader>);
static_assert(dro::query_source<dro::item_source<dro::models::prepared_question>>);

static_assert(!dro::query_batch<int> && dro::query_batch<dro::archetype::queries>);

struct archetype_source {
  [[nodiscard]] std::size_t size() const { return 3; }
  [[nodiscard]] dro::archetype::queries batch(std::span<const index_t>) const { return {}; }
};
static_assert(dro::query_source<archetype_source>);

/// The least an optimiser has to be.
struct counting_optimizer {
  int steps = 0;
  template <class B, class Model>
  void step(B&, Model&) {
    ++steps;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("EM asks a model for no more than its concept says", T, float, double) {
  using B = dro::deferred_backend;
  B b;
  dro::archetype::selector<B, T> selector;
  dro::archetype::generator<B, T> generator;
  const dro::archetype::proposal<B, T> proposal;
  const dro::archetype::queries queries;
  dro::random_state<B> random(b, 1);
  const dro::draw_options options{4, 2};
  counting_optimizer so;
  counting_optimizer go;

  auto on = dro::e_step(b, selector, generator, queries, options, random);
  auto off = dro::e_step(b, selector, generator, proposal, queries, options, random);
  for (auto* e : {&on, &off}) {
    const auto weights = read(b, e->weights.normalised);
    const auto evidence = read(b, e->weights.log_evidence);
    for (index_t i = 0; i < 12; ++i) CHECK(weights(i, 0) == T(0.25));
    for (index_t q = 0; q < 3; ++q) CHECK(evidence(q, 0) == T(-0.25));  // log p(z|x) = log q(z)
  }
  const auto plain = dro::m_step(b, selector, generator, queries, on, dro::evidence<dro::baseline::none>{}, so, go);
  const auto centred = dro::m_step(b, selector, generator, queries, off, dro::evidence<>{}, so, go, {3, 0});
  const auto reward = dro::m_step(b, selector, generator, queries, on, dro::expected_log_likelihood<>{}, so, go);
  CHECK(read(b, plain.selector)(0, 0) == T(0.25) * (T(1) / T(3)));
  CHECK(read(b, centred.selector)(0, 0) == 0);
  CHECK(read(b, reward.selector)(0, 0) == 0);
  CHECK(so.steps == 5);
  CHECK(go.steps == 5);
  dro::reweigh(b, selector, generator, queries, on);
  CHECK_FALSE(on.selector_drew);

  dro::em_run<B> run(b, 1);
  dro::frozen still;
  CHECK(dro::em(b, selector, generator, archetype_source{}, dro::evidence<>{}, still, go,
                {.loop = {.iterations = 2, .batch_size = 3, .seed = 1}, .draw = options}, run));
  CHECK(go.steps == 7);
}
