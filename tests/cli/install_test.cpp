// What `cmake --install` leaves runs from there.
#include "tests/support/catch.h"
#include "tests/support/workshop.h"

using namespace graft;
using namespace graft::testing;

TEST_CASE("an installed program finds its libraries", "[install]") {
  const Workshop workshop({}, 3);
  const std::string build = fs::path(GRAFT_PROGRAM).parent_path().string(), prefix = (workshop / "opt").string();
  const std::string install = cat("cmake --install '", build, "' --prefix '", prefix, "' > log"), program = prefix + "/bin/graft";
  REQUIRE(run_program({}, {.directory = workshop.path(), .before = {"sh", "-c", install}}).code == 0);
  const Outcome prepared =
      run_program({}, {.directory = workshop.path(), .before = {"sh", "-c", program + " prepare -c run.yaml"}});
  INFO(prepared.err);
  CHECK(prepared.code == 0);
  CHECK(prepared.out.find("3 documents read") != std::string::npos);
}
