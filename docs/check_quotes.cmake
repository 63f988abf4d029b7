# SPDX-License-Identifier: Apache-2.0
# cmake -P docs/check_quotes.cmake: code in the pages is code that is compiled. A block
#     From [`examples/x.cpp`](../examples/x.cpp):
#     ```cpp
# must stand in that file, word for word; only the indentation may differ.
cmake_minimum_required(VERSION 3.21)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH root)

# The text with blanks at the beginning of lines taken off.
function(without_indentation text result)
  string(REGEX REPLACE "\n +" "\n" text "\n${text}")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

file(GLOB pages "${root}/README.md" "${CMAKE_CURRENT_LIST_DIR}/*.md" "${CMAKE_CURRENT_LIST_DIR}/decisions/*.md")
set(quotes 0)
set(wrong "")
foreach(page IN LISTS pages)
  cmake_path(GET page PARENT_PATH folder)
  file(READ "${page}" rest)
  while(rest MATCHES "\nFrom \\[[^\n]*\\]\\(([^\n)]+)\\):\n\n?```cpp\n")
    set(source "${CMAKE_MATCH_1}")
    string(FIND "${rest}" "${CMAKE_MATCH_0}" begin)
    string(LENGTH "${CMAKE_MATCH_0}" length)
    math(EXPR begin "${begin} + ${length}")
    string(SUBSTRING "${rest}" ${begin} -1 rest)
    string(FIND "${rest}" "\n```" end)
    string(SUBSTRING "${rest}" 0 ${end} block)
    math(EXPR quotes "${quotes} + 1")

    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${folder}" NORMALIZE)
    set(code "")
    if(EXISTS "${source}")
      file(READ "${source}" code)
    endif()
    without_indentation("${code}" code)
    without_indentation("${block}" block)
    string(FIND "${code}" "${block}\n" position)
    if(position EQUAL -1)
      string(SUBSTRING "${block}" 1 80 start)
      string(APPEND wrong "${page}: not in ${source}:\n${start}…\n")
    endif()
  endwhile()
endforeach()

if(wrong)
  message(FATAL_ERROR "${wrong}")
endif()
if(quotes EQUAL 0)
  message(FATAL_ERROR "No quotes found in ${pages}")
endif()
message(STATUS "${quotes} quotes are as in the source")
