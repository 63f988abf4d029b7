# SPDX-License-Identifier: Apache-2.0
# dro_development: warnings and sanitizers for dro's own tests, examples and benchmarks; never installed.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)

add_library(dro_development INTERFACE)
target_compile_options(dro_development INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow $<$<BOOL:${DRO_WARNINGS_AS_ERRORS}>:-Werror>)
# GCC bug 105651: string concatenation at -O3 is taken for an overlapping copy.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(dro_development INTERFACE -Wno-restrict)
endif()
if(DRO_SANITIZE)
  target_compile_options(dro_development INTERFACE
    -fsanitize=${DRO_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(dro_development INTERFACE -fsanitize=${DRO_SANITIZE})
endif()
target_compile_definitions(dro_development INTERFACE DRO_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
