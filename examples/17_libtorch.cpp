// SPDX-License-Identifier: Apache-2.0
// Models that are LibTorch modules, trained by dro: at::Tensor is the matrix, a module gives the selector's scores,
// another one reads the answer, autograd takes the coefficients, LibTorch's Adam makes the steps.
//
// Made-up task: a question with one of four answers and eight documents. Every document names an answer; those that
// look trustworthy name the right one, the others any. Which documents to trust is not labelled.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "libtorch/dro_torch.hpp"

#if defined(DRO_EXAMPLE_CUDA)
#include <ATen/cuda/CUDAContext.h>

#include <dro/backend/cuda.hpp>
#endif

namespace {

#if defined(DRO_EXAMPLE_CUDA)
// [gpu]
using backend = torch_backend<dro::cuda_backend>;
const at::Device device(at::kCUDA, 0);

/// A backend on a stream that LibTorch works on, too: then what both do is in one order.
backend make_backend() {
  const auto stream = at::cuda::getStreamFromPool();
  at::cuda::setCurrentCUDAStream(stream);
  return backend(device, dro::cuda_options{.device = 0, .stream = stream});
}
// [gpu]
#else
using backend = torch_backend<>;
const at::Device device(at::kCPU);
backend make_backend() { return backend(device); }
#endif
using scalar = double;
constexpr std::int64_t document_count = 8, answer_count = 4, looks = 3;

/// Some questions.
struct questions {
  at::Tensor look;    // [questions × documents × looks]: what the selector sees
  at::Tensor claim;   // [questions × documents × answers]: what the reader sees, one-hot
  at::Tensor answer;  // [questions], the right one

  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(look.size(0)); }
  [[nodiscard]] const at::Tensor& documents() const { return look; }
};

questions make_questions(std::int64_t count) {
  const auto numbers = at::device(device).dtype(at::kDouble);
  const auto numbered = at::device(device).dtype(at::kLong);
  const at::Tensor look = at::randn({count, document_count, looks}, numbers);
  const at::Tensor answer = at::randint(answer_count, {count}, numbered);
  const at::Tensor any = at::randint(answer_count, {count, document_count}, numbered);
  const at::Tensor trustworthy = look.select(2, 0) - look.select(2, 1) > 0.5;
  const at::Tensor named = at::where(trustworthy, answer.unsqueeze(1), any);
  return {look, at::one_hot(named, answer_count).to(at::kDouble), answer};
}

/// Scores of documents, [questions × documents], from their looks.
struct score_net_impl : torch::nn::Module {
  torch::nn::Linear hidden = register_module("hidden", torch::nn::Linear(looks, 8));
  torch::nn::Linear out = register_module("out", torch::nn::Linear(8, 1));
  at::Tensor forward(const at::Tensor& look) { return out(at::tanh(hidden(look))).squeeze(-1); }
};
TORCH_MODULE_IMPL(score_net, score_net_impl);

// [reader]
/// p(y|x,d_z): softmax of a linear function of the claims in z, added up.
class reader {
 public:
  torch::nn::Linear layer{answer_count, answer_count};

  torch_matrix<scalar> log_likelihood(backend&, const questions& x, const dro::draws<backend, scalar>& z) const {
    const at::NoGradGuard no_graph;
    return {forward(x, z)};
  }
  void accumulate_gradient(backend&, const questions& x, const dro::draws<backend, scalar>& z,
                           const torch_matrix<scalar>& coefficients) {
    forward(x, z).backward(-coefficients.tensor);
  }

 private:
  /// [draws × 1]. Every question has the same number of draws.
  [[nodiscard]] at::Tensor forward(const questions& x, const dro::draws<backend, scalar>& z) const {
    const at::Tensor query = at::arange(x.look.size(0), x.answer.options()).repeat_interleave(z.groups().per_query());
    const at::Tensor chosen = z.rankings().tensor.to(at::kLong).clamp_min(0);  // no_document counts with weight 0
    const at::Tensor claims = x.claim.index({query.unsqueeze(1), chosen}).sum(1);
    const at::Tensor log_prob = at::log_softmax(torch::nn::Linear(layer)->forward(claims), 1);
    return log_prob.gather(1, x.answer.index({query}).unsqueeze(1));
  }
};
// [reader]

/// The mean of log p(y|x) over the questions, as a function autograd can follow: every ranking of K documents.
at::Tensor exact_evidence(score_net net, const reader& generator, const questions& x, dro::index_t select) {
  const auto all = dro::enumerate_rankings(document_count, select);
  const at::Tensor scores = net->forward(x.look);
  const at::Tensor outputs = torch::nn::Linear(generator.layer)->forward(x.claim);  // linear: bias once a document
  std::vector<at::Tensor> joint;
  for (dro::index_t z = 0; z < all.rows(); ++z) {
    at::Tensor left = scores;
    at::Tensor log_prior = at::zeros({scores.size(0)}, scores.options());
    at::Tensor logits = (1.0 - static_cast<double>(select)) * generator.layer->bias.expand({scores.size(0), -1});
    for (dro::index_t t = 0; t < select; ++t) {
      const std::int64_t j = all(z, t);
      log_prior = log_prior + scores.select(1, j) - at::logsumexp(left, 1);
      left = left.index_fill(1, at::tensor({j}, x.answer.options()), -std::numeric_limits<double>::infinity());
      logits = logits + outputs.select(1, j);
    }
    joint.push_back(log_prior + at::log_softmax(logits, 1).gather(1, x.answer.unsqueeze(1)).squeeze(1));
  }
  return at::logsumexp(at::stack(joint, 1), 1).mean();
}

/// The gradients the parameters hold, one after the other; they are set to zero.
at::Tensor take_gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& p : parameters) {
    parts.push_back(p.grad().flatten().clone());
    p.mutable_grad().zero_();
  }
  return at::cat(parts);
}

}  // namespace

int main() {
#if defined(DRO_EXAMPLE_CUDA)
  if (!torch::cuda::is_available()) {
    std::printf("LibTorch finds no GPU: nothing to show.\n");
    return EXIT_SUCCESS;
  }
#endif
  torch::manual_seed(7);
  backend b = make_backend();
  // [models]
  score_net net;
  net->to(device, at::kDouble);
  reader generator;
  generator.layer->to(device, at::kDouble);
  torch_selector<score_net, scalar> selector(net);
  dro::random_state<backend> random(b, /*seed=*/3);
  // [models]
  constexpr dro::draw_options draw{.samples = 16, .select = 2};
  std::vector<at::Tensor> parameters = net->parameters();
  for (const at::Tensor& p : generator.layer->parameters()) parameters.push_back(p);

  // With every ranking drawn once, dro's step is the gradient of the evidence, and autograd can say what that is.
  const questions few = make_questions(5);
  auto e = dro::e_step(b, selector, generator, dro::exhaustive<scalar>(document_count), few, draw, random);
  const auto c = dro::coefficients(b, dro::evidence<>{}, e.scores(b), e.weights);
  selector.accumulate_gradient(b, few, e.z, c.selector);
  generator.accumulate_gradient(b, few, e.z, c.generator);
  const at::Tensor through_dro = -take_gradients(parameters);
  exact_evidence(net, generator, few, draw.select).backward();
  const at::Tensor through_autograd = take_gradients(parameters);
  // Each entry adds 5 × 56 draws, weights and coefficients each within a few dozen roundings of what they stand for.
  const double size = through_autograd.abs().max().item<double>();
  const double difference = (through_dro - through_autograd).abs().max().item<double>() / size;
  const double tolerance = 5 * 56 * 32 * std::numeric_limits<double>::epsilon();
  std::printf("Gradient of the exact evidence, dro against autograd: they differ by %.1e of its largest entry.\n\n",
              difference);

  // [train]
  torch::optim::Adam selector_adam(net->parameters(), torch::optim::AdamOptions(0.02));
  torch::optim::Adam reader_adam(generator.layer->parameters(), torch::optim::AdamOptions(0.02));
  const auto evidence = [&](const questions& x) {
    const at::NoGradGuard no_graph;
    return exact_evidence(net, generator, x, draw.select).item<double>();
  };
  const questions held_out = make_questions(200);
  const double first = evidence(held_out);
  for (int step = 0; step <= 200; ++step) {
    if (step % 40 == 0) std::printf("step %3d   log p(y|x) of held-out questions %7.3f\n", step, evidence(held_out));
    const questions batch = make_questions(32);
    auto drawn = dro::e_step(b, selector, generator, batch, draw, random);
    dro::m_step(b, selector, generator, batch, drawn, dro::evidence<>{}, torch_optimizer{selector_adam},
                torch_optimizer{reader_adam});
  }
  // [train]
  const double last = evidence(held_out);
  std::printf("\nThe best guess without documents has log 1/4 = %.3f.\n", -std::log(4.0));
  return difference < tolerance && last > first + 0.5 && last > -std::log(4.0) + 0.5 ? EXIT_SUCCESS : EXIT_FAILURE;
}
