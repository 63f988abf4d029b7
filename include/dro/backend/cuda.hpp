// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_HPP
#define DRO_BACKEND_CUDA_HPP

/// \file
/// Matrices on a GPU, row programs as kernels, products by cuBLAS, a step as a CUDA graph.
///
/// Any C++20 compiler takes this header, given the CUDA toolkit's own. The kernels themselves nvcc has to compile:
/// either the whole file, which then includes <dro/backend/cuda.cuh> and needs nothing more, or a unit beside it that
/// `dro_add_cuda_unit` (cmake/dro-cuda.cmake) makes from a list of programs. A program that is on no list is an
/// undefined reference to `dro::detail::cuda::launch<the program>` when the executable is linked.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include <dro/backend/bfloat16.hpp>
#include <dro/backend/concept.hpp>
#include <dro/backend/cuda/blas.hpp>
#include <dro/backend/cuda/context.hpp>
#include <dro/backend/cuda/error.hpp>
#include <dro/backend/matmul.hpp>
#include <dro/backend/matrix_view.hpp>
#include <dro/config.hpp>
#include <dro/error.hpp>

namespace dro {

/// A row-major matrix in device memory. Move-only; its memory is taken and given back in the order of the backend's
/// stream, so that it may end while work on it is queued. It may outlive the backend, but not a stream of the caller's.
template <class T>
class cuda_matrix {
 public:
  cuda_matrix() = default;
  cuda_matrix(std::shared_ptr<detail::cuda::block> memory, index_t rows, index_t cols)
      : memory_(std::move(memory)), rows_(rows), cols_(cols) {}

  cuda_matrix(cuda_matrix&& other) noexcept
      : memory_(std::move(other.memory_)), rows_(std::exchange(other.rows_, 0)), cols_(std::exchange(other.cols_, 0)) {}
  cuda_matrix& operator=(cuda_matrix&& other) noexcept {
    memory_ = std::move(other.memory_);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }
  ~cuda_matrix() = default;

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  /// On the device; nullptr for an empty matrix.
  [[nodiscard]] T* data() const { return memory_ == nullptr ? nullptr : static_cast<T*>(memory_->data()); }

 private:
  std::shared_ptr<detail::cuda::block> memory_;
  index_t rows_ = 0;
  index_t cols_ = 0;
};

namespace detail::cuda {

/// Queues `program` for the rows [0, rows), rows > 0. Defined in cuda/launch.cuh, for nvcc; elsewhere a call of it is
/// resolved by the unit that lists the program.
template <class Program>
void launch(context& c, index_t rows, const Program& program);

/// C ← β C for each matrix of a batch, row by row; zeros for β = 0, whatever was there.
template <class T>
struct scale_program {
  matrix_view<T> target;  // the first of them
  index_t stride;
  T factor;
  [[nodiscard]] index_t width() const { return target.cols; }
  template <class Team>
  DRO_HOST_DEVICE void operator()(Team& team, index_t row) const {
    matrix_view<T> c = target;
    c.data += row / target.rows * stride;
    team.for_each(c.cols, [&](index_t col) {
      T& element = c(row % target.rows, col);
      element = factor == T(0) ? T(0) : factor * element;
    });
  }
};

}  // namespace detail::cuda

/// A GPU and a stream on it. Everything is queued on the stream; only `read` and `synchronise` wait, and `write` for
/// more than a megabyte. Cheap to copy: copies are the same stream and the same memory. Several backends, on one device
/// or several, do not disturb each other, and the thread's current device is left as it was. One backend and its
/// matrices belong to one host thread at a time.
///
/// Device memory comes from a pool of the backend's own, which keeps what was freed (`cuda_options::keep_bytes`).
/// Results are the same from run to run on one kind of GPU: sums have a fixed order that depends on the number of rows,
/// their width and the device.
class cuda_backend {
 public:
  template <class T>
  using matrix = cuda_matrix<T>;

  static constexpr bool runs_on_host = false;

  /// Throws no_device_error without a GPU or a driver for it, option_error if there is no device of that number,
  /// device_error.
  explicit cuda_backend(const cuda_options& options = {})
      : context_(std::make_shared<detail::cuda::context>(options)) {}

  [[nodiscard]] int device() const { return context_->device(); }
  [[nodiscard]] cudaStream_t stream() const { return context_->stream(); }
  /// Counts matrices and workspaces of this backend; not what cuBLAS or other backends hold.
  [[nodiscard]] cuda_memory memory() const { return context_->memory(); }
  /// Lets `memory().peak` begin anew.
  void reset_peak() { context_->reset_peak(); }

  /// Contents are unspecified. Throws shape_error for a shape that no memory can hold, device_memory_error.
  template <class T>
  [[nodiscard]] matrix<T> make(index_t rows, index_t cols) {
    constexpr index_t most = std::numeric_limits<index_t>::max() / static_cast<index_t>(sizeof(T));
    if (rows < 0 || cols < 0 || (cols > 0 && rows > most / cols)) {
      throw shape_error("cuda_matrix of shape " + detail::shape_text(rows, cols));
    }
    return {context_->allocate(static_cast<std::size_t>(rows * cols) * sizeof(T)), rows, cols};
  }
  template <class T>
  [[nodiscard]] matrix_view<T> view(matrix<T>& m) const {
    return row_major_view(m.data(), m.rows(), m.cols());
  }
  template <class T>
  [[nodiscard]] matrix_view<const T> view(const matrix<T>& m) const {
    return row_major_view<const T>(m.data(), m.rows(), m.cols());
  }

  /// Queues program(team, row) for each row in [0, rows): one kernel. How many threads share a row follows from the
  /// program's `width()`, the rows and the device, see cuda/row_plan.hpp. Throws device_architecture_error if the
  /// kernel was not compiled for this GPU, device_memory_error, device_error.
  template <class Program>
  void run(index_t rows, const Program& program) {
    static_assert(std::is_trivially_copyable_v<Program>, "dro: a program goes to the GPU as its bytes: hold views");
    if (rows > 0) detail::cuda::launch(*context_, rows, program);
  }

  /// Copies `source` to rows × cols elements at `target`, row by row, and waits. A matrix whose rows do not lie in one
  /// piece is copied on the device first. Throws device_capture_error inside a capture, and device_error also for work
  /// that was queued before and failed.
  template <class T>
  void read(matrix_view<const T> source, T* target) {
    context_->refuse_in_capture("cuda_backend::read", "a read waits, which a graph cannot");
    if (source.rows == 0 || source.cols == 0) return;
    const detail::cuda::device_scope scope(device());
    const row_bytes<T> bytes(source.rows, source.cols, source.row_stride, source.col_stride);
    if (bytes.in_rows) {
      context_->check_queued(bytes.rows == 1
                                 ? cudaMemcpyAsync(target, source.data, bytes.row, cudaMemcpyDeviceToHost, stream())
                                 : cudaMemcpy2DAsync(target, bytes.row, source.data, bytes.pitch, bytes.row, bytes.rows,
                                                     cudaMemcpyDeviceToHost, stream()),
                             "cudaMemcpyAsync to the host");
      context_->synchronise();
    } else {
      auto packed = make<T>(source.rows, source.cols);
      copy(*this, source, view(packed));
      read(view(std::as_const(packed)), target);
    }
  }

  /// Queues the copy of rows × cols elements at `source`, row by row, to `target`. `source` may be changed when this
  /// returns. Up to a megabyte does not wait for what is queued. Throws device_capture_error inside a capture.
  template <class T>
  void write(const T* source, matrix_view<T> target) {
    context_->refuse_in_capture("cuda_backend::write", "a replay would read host memory that is gone by then");
    if (target.rows == 0 || target.cols == 0) return;
    const detail::cuda::device_scope scope(device());
    const row_bytes<T> bytes(target.rows, target.cols, target.row_stride, target.col_stride);
    if (bytes.in_rows && bytes.pitch == bytes.row) {
      context_->upload(target.data, source, bytes.row * bytes.rows);
    } else {
      auto packed = make<T>(target.rows, target.cols);
      context_->upload(packed.data(), source, bytes.row * bytes.rows);
      copy(*this, view(std::as_const(packed)), target);
    }
  }

  /// C ← α A X + β C, see dro::matmul. A, X and C each need rows or columns that lie in one piece (a stride of 1),
  /// otherwise shape_error. Full precision is IEEE throughout; tf32 is for float, and bf16 is tf32 here: dro::matmul
  /// rounds the factors where that pays.
  template <class T>
  void matmul(T alpha, matrix_view<const T> a, matrix_view<const T> x, T beta, matrix_view<T> c,
              const matmul_options& options) {
    multiply(alpha, a, x, beta, c, options);
  }
  /// The same with rounded factors, which multiply exactly and are summed in float.
  void matmul(float alpha, matrix_view<const bfloat16> a, matrix_view<const bfloat16> x, float beta,
              matrix_view<float> c, const matmul_options& options) {
    multiply(alpha, a, x, beta, c, options);
  }
  /// A number that is rounded is read and written once more, 4 bytes in all beyond reading it as float, at 4 TB/s; a
  /// product of bfloat16 takes half the time of one in tf32, at 400 and 800 TFLOP/s: for 400 products that is the same.
  /// (NVIDIA H200, as large products and copies run there.)
  static constexpr index_t rounding_pays = 512;

  /// Waits for all that is queued. Throws device_capture_error inside a capture, device_error for work that failed.
  void synchronise() {
    context_->refuse_in_capture("cuda_backend::synchronise", "a graph cannot wait for the host");
    const detail::cuda::device_scope scope(device());
    context_->synchronise();
  }

 private:
  friend class cuda_graph;

  /// A matrix as a 2D copy takes it, in bytes.
  template <class T>
  struct row_bytes {
    std::size_t row, rows, pitch;
    bool in_rows;  ///< each row lies in one piece, and they follow each other without overlap
    row_bytes(index_t r, index_t c, index_t row_stride, index_t col_stride)
        : row(static_cast<std::size_t>(c) * sizeof(T)), rows(static_cast<std::size_t>(r)) {
      constexpr index_t largest_pitch = std::numeric_limits<std::int32_t>::max() / static_cast<index_t>(sizeof(T));
      const bool one = r == 1 || row_stride == c;
      in_rows = (c == 1 || col_stride == 1) && (one || (row_stride > c && row_stride <= largest_pitch));
      pitch = one ? row : static_cast<std::size_t>(row_stride) * sizeof(T);
      if (in_rows && one) {
        row *= rows;
        pitch = row;
        rows = 1;
      }
    }
  };

  template <class F, class T>
  void multiply(T alpha, const matrix_view<const F>& a, const matrix_view<const F>& x, T beta, const matrix_view<T>& c,
                const matmul_options& options) {
    if (alpha == T(0) || a.cols == 0) {
      run(options.batch * c.rows, detail::cuda::scale_program<T>{c, options.stride_c, beta});
    } else {
      detail::cuda::gemm(*context_, alpha, a, x, beta, c, options);
    }
  }

  std::shared_ptr<detail::cuda::context> context_;
};

static_assert(multiplies_bfloat16<cuda_backend>);
static_assert(backend<cuda_backend> && multiplies<cuda_backend> && !host_executed<cuda_backend>);

/// A step that was captured once and can be queued again as a whole, for about the cost of one kernel launch. It keeps
/// all memory that the step works in: matrices made in the step, whether they are still there or not, and matrices that
/// went out of use in it. Matrices that were used but live on elsewhere have to stay.
class cuda_graph {
 public:
  /// Captures what `f()` queues on `b`'s stream, without running it. Throws what f throws, device_capture_error if b's
  /// stream cannot be captured (cudaStreamLegacy) or is being captured, device_error.
  template <class F>
  cuda_graph(cuda_backend& b, F&& f) : context_(b.context_) {
    const detail::cuda::device_scope scope(context_->device());
    context_->begin_capture();
    try {
      std::forward<F>(f)();
    } catch (...) {
      discard_capture();
      throw;
    }
    auto [graph, memory] = context_->end_capture();
    memory_ = std::move(memory);
    const cudaError_t code = cudaGraphInstantiate(&executable_, graph, 0);
    static_cast<void>(cudaGraphDestroy(graph));
    detail::cuda::check(code, "cudaGraphInstantiate");
  }

  cuda_graph(cuda_graph&& other) noexcept
      : context_(std::move(other.context_)),
        memory_(std::move(other.memory_)),
        executable_(std::exchange(other.executable_, nullptr)) {}
  cuda_graph& operator=(cuda_graph&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(memory_, other.memory_);
    std::swap(executable_, other.executable_);
    return *this;
  }
  ~cuda_graph() {
    if (executable_ != nullptr) static_cast<void>(cudaGraphExecDestroy(executable_));
  }

  /// Queues the step once more on the backend's stream. Throws device_error.
  void launch() {
    const detail::cuda::device_scope scope(context_->device());
    context_->note("a captured step");
    context_->check_queued(cudaGraphLaunch(executable_, context_->stream()), "cudaGraphLaunch");
  }

 private:
  /// Ends a capture that failed; what it leaves is of no use, and the failure itself is on its way to the caller.
  void discard_capture() noexcept {
    try {
      const auto [graph, memory] = context_->end_capture();
      static_cast<void>(cudaGraphDestroy(graph));
    } catch (const error&) {
    }
  }

  std::shared_ptr<detail::cuda::context> context_;
  std::unique_ptr<detail::cuda::captured_memory> memory_;
  cudaGraphExec_t executable_ = nullptr;
};

/// The step `f()`, captured on `b`: `auto step = dro::capture(b, [&] { … }); step.launch();`. Run the step once as it
/// is first: what is made when first used is then there. Numbers that the host hands over at the time of the capture (a
/// query count, a learning rate that is no matrix) stay as they were; a random_state and an optimizer's counter lie in
/// device memory and advance with each launch.
template <class F>
[[nodiscard]] cuda_graph capture(cuda_backend& b, F&& f) {
  return cuda_graph(b, std::forward<F>(f));
}

}  // namespace dro

#endif
