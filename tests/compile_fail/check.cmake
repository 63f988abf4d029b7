# SPDX-License-Identifier: Apache-2.0
# cmake -Dcase= -Dcompiler= -Dcompiler_id= -Dincludes= -P check.cmake: one compile-fail case.
set(ENV{LC_ALL} C)  # plain quotes, English
set(flags -std=c++20 -fsyntax-only -fdiagnostics-color=never)
foreach(folder IN LISTS includes)
  if(NOT folder STREQUAL "/usr/include")  # named, it would upset the compiler's own order
    list(APPEND flags "-I${folder}")
  endif()
endforeach()

execute_process(COMMAND "${compiler}" ${flags} -DDRO_COMPILE_FAIL_CONTROL "${case}"
                RESULT_VARIABLE control_result ERROR_VARIABLE control_output OUTPUT_VARIABLE control_output)
if(NOT control_result EQUAL 0)
  message(FATAL_ERROR "The corrected case must compile, and does not:\n${control_output}")
endif()

execute_process(COMMAND "${compiler}" ${flags} "${case}"
                RESULT_VARIABLE result ERROR_VARIABLE output OUTPUT_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "The case must not compile, and does.")
endif()

file(STRINGS "${case}" expectations REGEX "^// EXPECT(\\(${compiler_id}\\))?: ")
if(NOT expectations)
  message(FATAL_ERROR "The case has no `// EXPECT: text` line for ${compiler_id}.")
endif()
foreach(expectation IN LISTS expectations)
  string(REGEX REPLACE "^// EXPECT[^:]*: " "" text "${expectation}")
  string(FIND "${output}" "${text}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "The compiler does not say\n  ${text}\nbut\n${output}")
  endif()
endforeach()
