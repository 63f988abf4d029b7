# SPDX-License-Identifier: Apache-2.0
# dro_add_cuda_unit(<target> [SCALARS float double] [HEADERS <header>...] [PROGRAMS <type>...] [ARCHITECTURES <arch>...]
#                   [NO_LIBRARY_PROGRAMS])
#
# A static library with the kernels that code compiled by any other compiler runs on a dro::cuda_backend. It holds the
# programs of dro itself (include/dro/backend/cuda/programs), for the SCALARS (default: both), and your own:
#
#     dro_add_cuda_unit(my_kernels HEADERS my/programs.hpp PROGRAMS "my::scale_program<float>" "my::norm_program")
#     target_link_libraries(my_program PRIVATE my_kernels)
#
# Own HEADERS are found by the include directories that <target> is given. Of a template of the library whose arguments
# you choose (a calibration of other steps, an objective of yours), name the whole type as a program. What is
# on no list is an undefined reference to dro::detail::cuda::launch<program> at link time.
#
# The language CUDA has to be enabled, with nvcc 12.4 or later. ARCHITECTURES as in CMAKE_CUDA_ARCHITECTURES, which is
# the default.
function(dro_add_cuda_unit target)
  cmake_parse_arguments(PARSE_ARGV 1 unit "NO_LIBRARY_PROGRAMS" "" "SCALARS;HEADERS;PROGRAMS;ARCHITECTURES")
  if(unit_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "dro_add_cuda_unit(${target}): unknown arguments ${unit_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "dro_add_cuda_unit(${target}): enable the language first: project(... LANGUAGES CXX CUDA)")
  endif()
  if(NOT unit_SCALARS)
    set(unit_SCALARS float double)
  endif()

  # A file for each family of programs and number type: they compile side by side, and a change reaches few of them.
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}")
  set(sources "")
  if(NOT unit_NO_LIBRARY_PROGRAMS)
    set(library "#include <dro/backend/cuda.cuh>\n@list@#include <dro/dro.hpp>\n#include <dro/models/table.hpp>\n\n")
    string(CONCAT models "#include <dro/models/generative_reader.hpp>\n"
                         "#include <dro/models/generative_selector.hpp>\n")
    foreach(family IN ITEMS common training ranking weights calibrations smoothed_calibrations objectives
            reward_objectives regularised_objectives gradients transformer)
      string(REPLACE "@list@" "#include <dro/backend/cuda/programs/${family}.hpp>\n" includes "${library}")
      if(family MATCHES "^(common|transformer)$")
        string(REPLACE "#include <dro/models/table.hpp>\n" "${models}#include <dro/models/table.hpp>\n" includes
               "${includes}")
      endif()
      string(TOUPPER "dro_cuda_${family}_programs" programs)
      if(family STREQUAL "common")
        list(APPEND sources "${folder}/${family}.cu")
        file(CONFIGURE OUTPUT "${folder}/${family}.cu" CONTENT "${includes}${programs}(DRO_CUDA_INSTANTIATE)\n" @ONLY)
      else()
        foreach(scalar IN LISTS unit_SCALARS)
          list(APPEND sources "${folder}/${family}_${scalar}.cu")
          file(CONFIGURE OUTPUT "${folder}/${family}_${scalar}.cu" @ONLY
               CONTENT "${includes}${programs}(DRO_CUDA_INSTANTIATE, ${scalar})\n")
        endforeach()
      endif()
    endforeach()
  endif()
  if(unit_PROGRAMS)
    set(own "#include <dro/backend/cuda.cuh>\n#include <dro/dro.hpp>\n")
    foreach(header IN LISTS unit_HEADERS)
      string(APPEND own "#include <${header}>\n")
    endforeach()
    foreach(program IN LISTS unit_PROGRAMS)
      string(APPEND own "DRO_CUDA_INSTANTIATE(${program})\n")
    endforeach()
    list(APPEND sources "${folder}/own.cu")
    file(CONFIGURE OUTPUT "${folder}/own.cu" CONTENT "${own}" @ONLY)
  endif()
  if(NOT sources)
    message(FATAL_ERROR "dro_add_cuda_unit(${target}): no programs")
  endif()

  add_library(${target} STATIC ${sources})
  target_link_libraries(${target} PUBLIC dro::cuda)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_RUNTIME_LIBRARY Shared)
  if(CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
  else()  # CMake before 3.26 does not know that nvcc takes it, also where a project sets CMAKE_CUDA_STANDARD
    set_property(TARGET ${target} PROPERTY CUDA_STANDARD)
    target_compile_options(${target} PRIVATE -std=c++20)
  endif()
  if(unit_ARCHITECTURES)
    set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${unit_ARCHITECTURES}")
  endif()
endfunction()
