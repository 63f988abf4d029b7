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

#include <dro/backend/cuda.hpp>
#include <dro/backend/cuda/program_name.hpp>
#include <dro/backend/cuda/team.cuh>

namespace dro::detail::cuda {

/// The scratch memory of this thread's team in its block.
__device__ inline std::byte* shared_scratch(int team_size, std::size_t scratch) {
  extern __shared__ double2 shared_memory[];  // the type for its alignment
  return reinterpret_cast<std::byte*>(shared_memory) + (threadIdx.x >> (__ffs(team_size) - 1)) * scratch;
}

/// How many registers a thread may take: what a program says, or all there are.
template <class Program>
inline constexpr int registers_of = 255;
template <class Program>
requires requires { Program::registers; }
inline constexpr int registers_of<Program> = Program::registers;

/// Lets the next kernel of the stream begin to start, and waits until the one before has ended and what it wrote is
/// there: starting a kernel takes a microsecond that need not be waited for. The first thing a kernel does.
__device__ inline void wait_for_earlier_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Rows in turn over the teams of the grid. Scratch memory in shared memory, or in a workspace where there is one: the
/// compiler does not know which.
template <class Program>
__global__ void __maxnreg__(registers_of<Program>) run_rows(const __grid_constant__ Program program, index_t rows,
                                                            int team_size, std::size_t scratch, std::byte* workspace) {
  wait_for_earlier_kernel();
  const int shift = __ffs(team_size) - 1;  // a power of two: divisions are dear
  const index_t teams = blockDim.x >> shift;
  const index_t of_grid = static_cast<index_t>(blockIdx.x) * teams + (threadIdx.x >> shift);
  device_team team(team_size, workspace == nullptr ? shared_scratch(team_size, scratch)
                                                   : workspace + static_cast<std::size_t>(of_grid) * scratch);
  for (index_t row = of_grid; row < rows; row += teams * static_cast<index_t>(gridDim.x)) {
    program(team, row);
    team.barrier();  // before the next row takes the scratch memory
  }
}

/// A row for each team, which takes scratch memory, and that in shared memory: fewer instructions where the compiler
/// knows it, and fewer registers where it has no loop to take anything out of.
template <class Program>
__global__ void __maxnreg__(registers_of<Program>)
    run_rows_shared(const __grid_constant__ Program program, index_t rows, int team_size, std::size_t scratch) {
  wait_for_earlier_kernel();
  const int shift = __ffs(team_size) - 1;
  const index_t row = static_cast<index_t>(blockIdx.x) * (blockDim.x >> shift) + (threadIdx.x >> shift);
  device_team team(team_size, shared_scratch(team_size, scratch));
  if (row >= rows) return;
  if constexpr (requires { program.in_scratch(team, row); }) {
    program.in_scratch(team, row);
  } else {
    program(team, row);
  }
}

/// Whether a program says that it is worth a second kernel, for scratch memory that is there and known to be shared.
template <class Program>
inline constexpr bool has_shared_kernel = requires {
  requires Program::lives_in_scratch;
};

/// Size and alignment of the largest number in a row's scratch memory.
template <class Program>
inline constexpr std::size_t scratch_word = 8;
template <class Program>
requires requires { Program::scratch_word; }
inline constexpr std::size_t scratch_word<Program> = Program::scratch_word;

/// Items of a program's widest loop that a thread is to have where rows are many.
template <class Program>
inline constexpr index_t items_of_thread = 1;
template <class Program>
requires requires { Program::items_of_thread; }
inline constexpr index_t items_of_thread<Program> = Program::items_of_thread;

/// What a kernel leaves of a device's limits. Makes all shared memory available to it.
[[nodiscard]] inline kernel_limits ask_limits(const context& c, const void* kernel) {
  cudaFuncAttributes attributes;
  c.check_queued(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  const std::size_t shared = c.limits().shared_per_block - attributes.sharedSizeBytes;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
        "cudaFuncSetAttribute");
  // What the kernel was compiled for, whatever device it runs on: see wait_for_earlier_kernel.
  return {attributes.maxThreadsPerBlock, shared, attributes.ptxVersion >= 90};
}

/// What a program's kernels leave of a device's limits.
struct program_limits {
  kernel_limits any, shared;
};

/// Asked once for each device.
template <class Program>
[[nodiscard]] const program_limits& limits_of(const context& c) {
  constexpr int most_devices = 64;
  static std::array<std::once_flag, most_devices> asked;
  static std::array<program_limits, most_devices> known;
  const auto device = static_cast<std::size_t>(c.device());
  if (device >= most_devices) throw option_error("cuda_backend: device is " + std::to_string(device));
  std::call_once(asked[device], [&] {
    known[device].any = ask_limits(c, reinterpret_cast<const void*>(&run_rows<Program>));
    if constexpr (has_shared_kernel<Program>) {
      known[device].shared = ask_limits(c, reinterpret_cast<const void*>(&run_rows_shared<Program>));
    }
  });
  return known[device];
}

template <class Program>
void launch(context& c, index_t rows, const Program& program) {
  index_t width = 32;
  if constexpr (requires { program.width(); }) width = program.width();
  const auto scratch_bytes = [&](int team) { return detail::scratch_bytes_of<device_team>(program, team); };

  const device_scope scope(c.device());
  c.note(program_name<Program>());
  const program_limits& limits = limits_of<Program>(c);
  const auto plan_for = [&](const kernel_limits& kernel) {
    return plan_rows(c.limits(), kernel, rows, width, scratch_bytes, items_of_thread<Program>, scratch_word<Program>);
  };
  const auto queue = [&](const void* kernel, const row_plan& plan, bool waits, void** arguments) {
    cudaLaunchAttribute may_start_early;
    may_start_early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    may_start_early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how = {};
    how.gridDim = dim3(plan.grid);
    how.blockDim = dim3(static_cast<unsigned>(plan.block));
    how.dynamicSmemBytes = plan.shared ? static_cast<std::size_t>(plan.teams_of_block()) * plan.scratch : 0;
    how.stream = c.stream();
    how.attrs = &may_start_early;
    how.numAttrs = waits ? 1 : 0;
    c.check_queued(cudaLaunchKernelExC(&how, kernel, arguments), "cudaLaunchKernelExC");
  };
  if constexpr (has_shared_kernel<Program>) {
    row_plan plan = plan_for(limits.shared);
    if (plan.shared && plan.scratch > 0 && plan.teams() >= static_cast<std::size_t>(rows)) {
      void* arguments[] = {const_cast<Program*>(&program), &rows, &plan.team, &plan.scratch};
      return queue(reinterpret_cast<const void*>(&run_rows_shared<Program>), plan, limits.shared.waits, arguments);
    }
  }
  row_plan plan = plan_for(limits.any);
  std::shared_ptr<block> workspace;
  std::byte* memory = nullptr;
  if (!plan.shared) {
    workspace = c.allocate(plan.teams() * plan.scratch);
    memory = static_cast<std::byte*>(workspace->data());
  }
  void* arguments[] = {const_cast<Program*>(&program), &rows, &plan.team, &plan.scratch, &memory};
  queue(reinterpret_cast<const void*>(&run_rows<Program>), plan, limits.any.waits, arguments);
}

}  // namespace dro::detail::cuda

/// Puts the kernel of a program into this file, for files that other compilers compile. At global scope.
#define DRO_CUDA_INSTANTIATE(...) \
  template void dro::detail::cuda::launch<__VA_ARGS__>(dro::detail::cuda::context&, dro::index_t, const __VA_ARGS__&);

#endif
