// model_logits MODEL INPUT OUTPUT [--adapter DIRECTORY] [--storage bf16|f32] [--compute bf16|f32] [--logprob] [--plain-inputs]
// INPUT: safetensors with tokens (T) I32 and starts (segments + 1) I32. OUTPUT: logits (T, V) F32; with --logprob instead
// logprob (T) F32 of each token given those before it in its segment, natural logarithm, 0 for a segment's first.
// --plain-inputs: the weights of a directory alone, the inputs of its linears not rounded as it is served.
// The program's side of the comparisons with other engines (tests/engines); not installed.
#include <ATen/ATen.h>

#include <iostream>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/safetensors.h"
#include "lora/adapter.h"
#include "tests/support/plain_inputs.h"

namespace {

using namespace graft;

struct Options {
  std::string model, input, output;
  std::optional<std::string> adapter;
  at::ScalarType storage = at::kBFloat16, compute = at::kBFloat16;
  bool logprob = false, plain_inputs = false;
};

Options parse(int argc, char** argv) {
  if (argc < 4)
    throw UserError(
        "usage: model_logits MODEL INPUT OUTPUT [--adapter DIRECTORY] [--storage T] [--compute T] [--logprob] [--plain-inputs]");
  Options options{.model = argv[1], .input = argv[2], .output = argv[3], .adapter = {}};
  const auto type_of = [](const std::string& name) {
    if (name != "bf16" && name != "f32") throw UserError(cat("type ", quote(name), " is neither bf16 nor f32"));
    return name == "bf16" ? at::kBFloat16 : at::kFloat;
  };
  for (int i = 4; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--logprob")
      options.logprob = true;
    else if (option == "--plain-inputs")
      options.plain_inputs = true;
    else if (i + 1 == argc)
      throw UserError(cat("option ", option, " is not known or lacks its value"));
    else if (option == "--adapter")
      options.adapter = argv[++i];
    else if (option == "--storage")
      options.storage = type_of(argv[++i]);
    else if (option == "--compute")
      options.compute = type_of(argv[++i]);
    else
      throw UserError(cat("option ", option, " is not known"));
  }
  return options;
}

std::vector<std::int32_t> integers(const SafetensorsFile& file, const std::string& name) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end() || found->second.dtype != DType::i32)
    throw FormatError(cat(file.path().string(), ": no tensor ", name, " of type I32"));
  const auto bytes = file.data(found->second);
  const auto* data = reinterpret_cast<const std::int32_t*>(bytes.data());
  return {data, data + bytes.size() / sizeof *data};
}

model::Packed segment(const std::vector<std::int32_t>& tokens, std::int32_t begin, std::int32_t end) {
  const at::Tensor ids = at::empty({end - begin}, at::kLong);
  std::copy(tokens.begin() + begin, tokens.begin() + end, ids.mutable_data_ptr<std::int64_t>());
  return {ids, at::arange(end - begin, at::kLong), {0, end - begin}};
}

// Segment by segment, so that the vocabulary's logits of a long text need not fit in memory.
at::Tensor evaluate(model::Decoder& decoder, const std::vector<std::int32_t>& tokens, const std::vector<std::int32_t>& starts,
                    bool logprob) {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const model::Packed packed = segment(tokens, starts[i], starts[i + 1]);
    if (!logprob) {
      parts.push_back(decoder.logits(packed));
      continue;
    }
    const at::Tensor labels = at::full_like(packed.tokens, -100), values = at::zeros(packed.tokens.sizes(), at::kFloat);
    if (const std::int64_t predicted = labels.numel() - 1; predicted > 0) {
      labels.narrow(0, 0, predicted).copy_(packed.tokens.narrow(0, 1, predicted));
      values.narrow(0, 1, predicted).copy_(decoder.loss(packed, labels, true).logprob);
    }
    parts.push_back(values);
  }
  return at::cat(parts);
}

}  // namespace

int main(int argc, char** argv) try {
  const Options options = parse(argc, argv);
  const SafetensorsFile input(options.input);
  const auto tokens = integers(input, "tokens"), starts = integers(input, "starts");
  const auto source = model::open_weights(options.model);
  const testing::PlainInputs plain(*source);
  const model::WeightSource& served = options.plain_inputs ? static_cast<const model::WeightSource&>(plain) : *source;
  const auto decoder = model::Decoder::load(served, options.storage, options.compute);
  std::unique_ptr<lora::AdapterSet> adapter;
  if (options.adapter) {
    adapter = lora::load_peft(*options.adapter);
    lora::attach(*adapter, *decoder);
  }
  const at::Tensor values = evaluate(*decoder, tokens, starts, options.logprob).contiguous();
  const std::string name = options.logprob ? "logprob" : "logits";
  SafetensorsWriter writer(options.output);
  writer.tensor(name, DType::f32, values.sizes().vec());
  writer.data(name, values.const_data_ptr(), values.nbytes());
  writer.commit();
  return kDone;
} catch (const graft::Error& error) {
  std::cerr << "model_logits: " << error.what() << "\n";
  return error.exit_code();
}
