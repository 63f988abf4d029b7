// SPDX-License-Identifier: Apache-2.0
// What train_qa and train_generative make of the folder they are to write to.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "programs/program.hpp"
#include "programs/train_qa.hpp"

namespace {

void check_folder_of(const std::string& name, const std::string& program) {
  CAPTURE(name);
  const temporary_folder folder;
  const std::string out = folder.path().string();
  static_cast<void>(folder.write("report.json.1.part", "half"));
  const std::vector<std::string> command = {program, "--iterations", "1", "--out", out};

  const int own = ::open(out.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(::flock(own, LOCK_EX | LOCK_NB) == 0);
  const outcome second = run_program(command);
  CHECK(second.status == 2);
  CHECK(second.err == name + ": " + out + " is another run's, which has not ended: name another folder\n");
  CHECK(names_in(out) == std::vector<std::string>{"report.json.1.part"});
  ::close(own);

  static_cast<void>(folder.write("checkpoint.dro", "of a run that was stopped"));
  const outcome later = run_program(command);
  CHECK(later.status == 2);
  CHECK(later.err ==
        name + ": " + out + " holds a run that was stopped: go on with --resume, or name another folder\n");
  CHECK(names_in(out) == std::vector<std::string>{"checkpoint.dro"});
}

}  // namespace

TEST_CASE("one run at a time has an output folder, and what a killed one left half written goes") {
  check_folder_of("train_qa", DRO_TRAIN_QA);
  check_folder_of("train_generative", DRO_TRAIN_GENERATIVE);
}
