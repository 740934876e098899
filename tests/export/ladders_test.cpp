// Where a file lost too much, the next larger one is named.
#include "export/ladders.h"
#include "export/exporter.h"
#include "tests/support/catch.h"

using namespace graft;

TEST_CASE("of every quantized format larger ones are known, up to one that quantizes nothing", "[export][ladders]") {
  for (const exports::Exporter* format : exports::all_formats()) {
    if (!format->merges || !format->quantizes) continue;
    INFO(format->name);
    const std::vector<std::string> larger = exports::larger_formats(std::string(format->name));
    REQUIRE(!larger.empty());
    for (const std::string& name : larger) {
      INFO(name);
      const exports::Exporter& next = exports::find_exporter(name);
      CHECK(next.name == name);
      CHECK(next.merges);
      CHECK(next.extension == format->extension);
      CHECK(name != format->name);
    }
    CHECK(!exports::find_exporter(larger.back()).quantizes);
  }
  CHECK(exports::larger_formats("ct-w4a16-asym-g32-awq-gptq").front() == "ct-w4w8a16-asym-g32");
  CHECK(exports::larger_formats("peft").empty());
}
