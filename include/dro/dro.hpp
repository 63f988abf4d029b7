// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DRO_HPP
#define DRO_DRO_HPP

/// \file
/// The core in one include: estimators, rankings, objectives, EM and optimisers. Add the header of a backend.

#include <dro/backend/concept.hpp>
#include <dro/backend/grouping.hpp>
#include <dro/backend/host.hpp>
#include <dro/config.hpp>
#include <dro/em/callbacks.hpp>
#include <dro/em/e_step.hpp>
#include <dro/em/em.hpp>
#include <dro/em/m_step.hpp>
#include <dro/em/totals.hpp>
#include <dro/em/training_loop.hpp>
#include <dro/error.hpp>
#include <dro/estimate/importance_weights.hpp>
#include <dro/estimate/scored_draws.hpp>
#include <dro/estimate/status.hpp>
#include <dro/gradient/baseline.hpp>
#include <dro/gradient/coefficients.hpp>
#include <dro/gradient/document_independent.hpp>
#include <dro/gradient/evidence.hpp>
#include <dro/gradient/expected_reward.hpp>
#include <dro/gradient/importance_weighted_bound.hpp>
#include <dro/gradient/objective.hpp>
#include <dro/model/concepts.hpp>
#include <dro/model/host_generator.hpp>
#include <dro/model/item_batch.hpp>
#include <dro/optimize/optimizer.hpp>
#include <dro/optimize/schedule.hpp>
#include <dro/optimize/update_rule.hpp>
#include <dro/random/key.hpp>
#include <dro/random/noise.hpp>
#include <dro/random/noise_source.hpp>
#include <dro/random/random_state.hpp>
#include <dro/ranking/autoregressive.hpp>
#include <dro/ranking/draws.hpp>
#include <dro/ranking/enumerate.hpp>
#include <dro/ranking/plackett_luce.hpp>
#include <dro/version.hpp>

#endif
