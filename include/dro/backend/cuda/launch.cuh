// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_BACKEND_CUDA_LAUNCH_CUH
#define DRO_BACKEND_CUDA_LAUNCH_CUH

/// \file
/// One kernel for each row program, and how it is queued.

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include <dro/backend/cuda.hpp>
#include <dro/backend/cuda/team.cuh>

namespace dro::detail::cuda {

/// Rows in turn over the teams of the grid.
template <class Program>
__global__ void run_rows(const __grid_constant__ Program program, index_t rows, int team_size, std::size_t scratch,
                         std::byte* workspace) {
  extern __shared__ double2 shared_scratch[];  // the type for its alignment
  const int shift = __ffs(team_size) - 1;      // a power of two: divisions are dear
  const index_t teams = blockDim.x >> shift;
  const index_t of_block = threadIdx.x >> shift;
  const index_t of_grid = static_cast<index_t>(blockIdx.x) * teams + of_block;
  std::byte* memory = workspace == nullptr ? reinterpret_cast<std::byte*>(shared_scratch) + of_block * scratch
                                           : workspace + of_grid * scratch;
  device_team team(team_size, memory);
  for (index_t row = of_grid; row < rows; row += teams * static_cast<index_t>(gridDim.x)) {
    program(team, row);
    team.barrier();  // before the next row takes the scratch memory
  }
}

/// "dro::detail::fill_program<float>", as the compiler writes it.
template <class Program>
[[nodiscard]] const char* program_name() {
  static const std::string name = [] {
    const std::string_view whole = __PRETTY_FUNCTION__;
    constexpr std::string_view before = "Program = ";
    const std::size_t begin = whole.find(before);
    if (begin == std::string_view::npos) return std::string(whole);
    const std::size_t from = begin + before.size();
    return std::string(whole.substr(from, whole.rfind(']') - from));
  }();
  return name.c_str();
}

/// What a kernel leaves of a device's limits; asked once for each device. Makes all shared memory available to it.
template <class Program>
[[nodiscard]] const kernel_limits& limits_of(const context& c) {
  constexpr int most_devices = 64;
  static std::array<std::once_flag, most_devices> asked;
  static std::array<kernel_limits, most_devices> known;
  const auto device = static_cast<std::size_t>(c.device());
  if (device >= most_devices) throw option_error("cuda_backend: device is " + std::to_string(device));
  std::call_once(asked[device], [&] {
    const auto kernel = reinterpret_cast<const void*>(&run_rows<Program>);
    cudaFuncAttributes attributes;
    c.check_queued(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
    const std::size_t shared = c.limits().shared_per_block - attributes.sharedSizeBytes;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "cudaFuncSetAttribute");
    known[device] = {attributes.maxThreadsPerBlock, shared};
  });
  return known[device];
}

template <class Program>
void launch(context& c, index_t rows, const Program& program) {
  std::size_t scratch_bytes = 0;
  if constexpr (requires { program.scratch_bytes(); }) scratch_bytes = program.scratch_bytes();
  index_t width = 32;
  if constexpr (requires { program.width(); }) width = program.width();

  const device_scope scope(c.device());
  c.note(program_name<Program>());
  const row_plan plan = plan_rows(c.limits(), limits_of<Program>(c), rows, width, scratch_bytes);
  std::shared_ptr<block> workspace;
  std::byte* memory = nullptr;
  if (!plan.shared) {
    workspace = c.allocate(plan.teams() * plan.scratch);
    memory = static_cast<std::byte*>(workspace->data());
  }
  int team = plan.team;
  std::size_t scratch = plan.scratch;
  void* arguments[] = {const_cast<Program*>(&program), &rows, &team, &scratch, &memory};
  const std::size_t shared = plan.shared ? static_cast<std::size_t>(plan.teams_of_block()) * plan.scratch : 0;
  c.check_queued(cudaLaunchKernel(reinterpret_cast<const void*>(&run_rows<Program>), dim3(plan.grid),
                                  dim3(static_cast<unsigned>(plan.block)), arguments, shared, c.stream()),
                 "cudaLaunchKernel");
}

}  // namespace dro::detail::cuda

/// Puts the kernel of a program into this file, for files that other compilers compile. At global scope.
#define DRO_CUDA_INSTANTIATE(...) \
  template void dro::detail::cuda::launch<__VA_ARGS__>(dro::detail::cuda::context&, dro::index_t, const __VA_ARGS__&);

#endif
