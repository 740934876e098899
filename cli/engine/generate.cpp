#include "eval/generate.h"

#include <unistd.h>

#include <iostream>
#include <iterator>

#include "cli/engine.h"
#include "cli/engine/output.h"
#include "cli/engine/prompt.h"
#include "cli/engine/session.h"
#include "core/error.h"
#include "core/log.h"
#include "core/utf8.h"
#include "data/text_stream.h"

namespace graft::cli {
namespace {

std::string read_prompt(const GenerateOptions& options) {
  std::string text = options.prompt;
  if (text.empty()) {
    if (isatty(STDIN_FILENO)) std::cerr << "Type the prompt, then Ctrl-D.\n";
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
    while (text.ends_with('\n')) text.pop_back();
  }
  if (text.empty()) throw DataError("the prompt is empty; give it as an argument or on stdin");
  if (!is_utf8(text)) throw DataError("the prompt is not valid UTF-8");
  return text;
}

}  // namespace

int graft_generate(const Context& context, const GenerateOptions& options) {
  const Session session(context.config);
  std::unique_ptr<model::WeightSource> other;
  std::unique_ptr<data::Tokenizer> other_tokenizer;
  if (!options.model.empty()) {
    other = model::open_weights(options.model);
    other_tokenizer = data::load_tokenizer(options.model);
  }
  const model::WeightSource& weights = other ? *other : *session.base;
  const data::Tokenizer& tokenizer = other_tokenizer ? *other_tokenizer : *session.tokenizer;
  const auto layout = options.chat ? data::make_chat_template(tokenizer, context.config.corpus.chat_template) : nullptr;
  const Prompt prompt = make_prompt(tokenizer, read_prompt(options), options.system, layout);

  std::unique_ptr<lora::AdapterSet> adapter;
  if (!options.adapter.empty() || (!options.base_only && !other && session.has_adapter())) {
    adapter = other ? lora::load_peft(options.adapter) : session.adapter(options.adapter);
    lora::check_base(*adapter, weights);
  }
  if (!adapter && !options.base_only && !other)
    log::warn("generate", "there is no adapter in ", session.run_dir().string(), ": this is the base alone (--base says so)");
  LazyDecoder decoder(weights, other ? Dtypes{at::kFloat, session.dtypes().compute} : session.dtypes());
  eval::GenerateOptions how;
  how.max_tokens = options.max_tokens;
  how.temperature = options.temperature;
  how.top_p = options.top_p;
  how.top_k = options.top_k;
  how.seed = static_cast<std::uint64_t>(options.seed);
  how.stop_ids = prompt.stop_ids;
  data::TextStream stream(tokenizer);
  const auto ids = eval::generate(decoder.with(adapter.get()), prompt.ids, how, [&](std::int32_t id) {
    const std::string_view more = stream.add(id);
    if (!context.json && !more.empty()) std::cout << more << std::flush;
  });
  if (!context.json)
    std::cout << stream.rest() << std::endl;
  else
    print_json(
        {{"model", weights.path().string()},
         {"adapter", adapter ? (options.adapter.empty() ? (session.run_dir() / "adapter").string() : options.adapter) : ""},
         {"prompt_tokens", prompt.ids.size()},
         {"tokens", ids.size()},
         {"text", stream.text()}});
  return kDone;
}

}  // namespace graft::cli
