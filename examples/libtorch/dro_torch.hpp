// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_EXAMPLES_LIBTORCH_DRO_TORCH_HPP
#define DRO_EXAMPLES_LIBTORCH_DRO_TORCH_HPP

/// \file
/// All that a program which trains with LibTorch needs in order to train with dro too: tensors as matrices, a module as
/// the selector, LibTorch's optimisers. Copy it and change what you like.

// First of LibTorch's headers, for clang.
#include <ATen/core/ivalue.h>

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/dro.hpp>

// [backend]
/// A tensor of which the number type is known. Copies share the memory, as those of at::Tensor do.
template <class T>
struct torch_matrix {
  at::Tensor tensor;  // undefined: a matrix without rows
};

/// Tensors on the host with Base = dro::host_base, on a GPU with Base = dro::cuda_backend.
template <class Base = dro::host_base>
class torch_backend : public Base {
 public:
  template <class T>
  using matrix = torch_matrix<T>;

  template <class... Arguments>
  explicit torch_backend(at::Device device = at::kCPU, Arguments&&... for_base)
      : Base(std::forward<Arguments>(for_base)...), device_(device) {}

  template <class T>
  matrix<T> make(dro::index_t rows, dro::index_t cols) const {
    const auto type = std::is_integral_v<T> ? at::kInt : sizeof(T) == 4 ? at::kFloat : at::kDouble;  // uint32 as int32
    return {at::empty({rows, cols}, at::device(device_).dtype(type))};
  }
  template <class T>
  dro::matrix_view<T> view(matrix<T>& m) const {
    const at::Tensor& t = m.tensor;
    if (!t.defined()) return {};
    TORCH_CHECK_VALUE(t.dim() == 2 && t.element_size() == sizeof(T) && t.device() == device_, "a matrix of dro on ",
                      device_, " is a tensor ", t.toString(), " of shape ", t.sizes(), " on ", t.device());
    return {static_cast<T*>(t.data_ptr()), t.size(0), t.size(1), t.stride(0), t.stride(1)};
  }
  template <class T>
  dro::matrix_view<const T> view(const matrix<T>& m) const {
    matrix<T> same = m;
    return view(same);
  }

 private:
  at::Device device_;
};
// [backend]
static_assert(dro::backend<torch_backend<>>);

// [selector]
/// A module that gives each document a score is a Plackett–Luce selector. `Queries` has `size()` and `documents()`,
/// what the module's forward takes; forward gives scores [queries × documents], nats, in T.
template <class Module, class T>
class torch_selector {
 public:
  using scalar_type = T;

  explicit torch_selector(Module module) : module_(std::move(module)) {}

  template <class B, class Queries>
  dro::draws<B, T> draw(B& b, const Queries& queries, const dro::draw_options& options,
                        const dro::random_source& random) const {
    return dro::draw_plackett_luce(b, scores(b, queries), random, options);
  }

  template <class B, class Queries>
  torch_matrix<T> log_prob(B& b, const Queries& queries, const dro::draws<B, T>& z) const {
    auto out = b.template make<T>(z.groups().total(), 1);
    dro::plackett_luce_log_prob(b, scores(b, queries), b.view(z.rankings()), z.groups(), b.view(out));
    return out;
  }

  /// dro differentiates Σ c_i log p(z_i|x) to the scores, autograd from there on.
  template <class B, class Queries>
  void accumulate_gradient(B& b, const Queries& queries, const dro::draws<B, T>& z, const torch_matrix<T>& c) {
    const torch_matrix<T> s{forward(queries)};  // with the graph behind it
    torch_matrix<T> d_scores{at::zeros_like(s.tensor, at::MemoryFormat::Contiguous)};
    dro::accumulate_plackett_luce_gradient(b, s, b.view(z.rankings()), z.groups(), c, b.view(d_scores));
    s.tensor.backward(-d_scores.tensor);  // dro points uphill, LibTorch's optimisers go downhill
  }

  template <class B, class Queries>
  torch_matrix<T> scores(B&, const Queries& queries) const {
    const at::NoGradGuard no_graph;
    return {forward(queries)};
  }

 private:
  template <class Queries>
  at::Tensor forward(const Queries& queries) const {
    return Module(module_)->forward(queries.documents());  // a copy is another handle of the same module
  }

  Module module_;
};
// [selector]

// [optimiser]
/// An optimiser of LibTorch, for dro's M-step.
struct torch_optimizer {
  torch::optim::Optimizer& optimizer;
  template <class B, class Model>
  void step(B& b, Model&) {
    b.synchronise();
    optimizer.step();
    optimizer.zero_grad();
  }
};
// [optimiser]

#endif
