// The base in bitsandbytes' NF4 with the adapter beside it, unmerged, as QLoRA serves them: a Hugging Face directory, and
// `adapter/` in it as PEFT writes it. Layout: model/layouts/bitsandbytes.cpp.
#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <memory>

#include "core/error.h"
#include "core/file.h"
#include "export/pieces.h"
#include "export/quantized_model.h"
#include "kernels/nf4/nf4.h"
#include "kernels/nf4/nf4_weight.h"
#include "model/linear_layout.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLeastState = 256, kSpace = 0x20;
constexpr std::int64_t kGroupElements = cuda::kNf4Block * cuda::kNf4Group;

// The state's JSON is filled up with spaces: to a size that is known before its numbers are, and to multiples of 8 with the
// others.
std::int64_t state_size(std::int64_t elements, std::int64_t blocks) {
  return kLeastState + 7 - (elements / 2 + blocks + kLeastState - 1) % 8;
}

std::vector<StoredTensor> layout_of(const model::TensorSpec& linear) {
  const std::int64_t elements = linear.shape[0] * linear.shape[1];
  const std::int64_t blocks = (elements + cuda::kNf4Block - 1) / cuda::kNf4Block;
  return {{linear.name + ".nested_absmax", DType::f32, {(blocks + cuda::kNf4Group - 1) / cuda::kNf4Group}},
          {linear.name + ".nested_quant_map", DType::f32, {256}},
          {linear.name + ".quant_map", DType::f32, {16}},
          {linear.name, DType::u8, {elements / 2, 1}},
          {linear.name + ".absmax", DType::u8, {blocks}},
          {linear.name + ".quant_state.bitsandbytes__nf4", DType::u8, {state_size(elements, blocks)}}};
}

at::Tensor state_of(const model::TensorSpec& linear, float offset) {
  const std::string text = Json{{"quant_type", "nf4"},    {"blocksize", cuda::kNf4Block},        {"dtype", "bfloat16"},
                                {"shape", linear.shape},  {"nested_blocksize", cuda::kNf4Group}, {"nested_dtype", "float32"},
                                {"nested_offset", offset}}
                               .dump();
  at::Tensor bytes = at::full({layout_of(linear).back().shape[0]}, kSpace, at::kByte);
  if (text.size() > static_cast<std::size_t>(bytes.size(0))) throw DataError("the shape is too large for a quant_state");
  std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<std::uint8_t>());
  return bytes;
}

// The offset of each linear, found before it is encoded: its rows are read twice, the second time from memory, and never held
// whole.
class Offsets {
 public:
  explicit Offsets(const MergedModel& source) : source_(source) {}

  void find(const model::TensorSpec& linear) {
    const std::vector<RowRange> pieces = pieces_of(linear);
    std::vector<at::Tensor> scales(pieces.size());
    on_all_threads(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
      const auto [begin, end] = pieces[static_cast<std::size_t>(i)];
      scales[static_cast<std::size_t>(i)] = kernels::nf4_block_scales(source_.rows(linear, begin, end));
    });
    try {
      found_[linear.name] = kernels::nf4_offset(at::cat(scales));
    } catch (const DataError& error) {
      throw DataError(cat("tensor ", linear.name, ": ", error.what()));
    }
  }
  float of(const model::TensorSpec& linear) const { return found_.at(linear.name); }

 private:
  const MergedModel& source_;
  std::map<std::string, float> found_;
};

// source: null for a layout alone; must outlive the format.
LinearFormat nf4_format(const MergedModel* source = nullptr) {
  const auto offsets = source == nullptr ? nullptr : std::make_shared<Offsets>(*source);
  return {
      .stored_as = [](const model::TensorSpec&) { return "NF4"; },
      .config = {{"quant_method", "bitsandbytes"},
                 {"load_in_4bit", true},
                 {"load_in_8bit", false},
                 {"bnb_4bit_quant_type", "nf4"},
                 {"bnb_4bit_use_double_quant", true},
                 {"bnb_4bit_compute_dtype", "bfloat16"},
                 {"bnb_4bit_quant_storage", "uint8"},
                 {"llm_int8_skip_modules", {"lm_head"}}},
      .layout = layout_of,
      .encode =
          [offsets](const model::TensorSpec& linear, const at::Tensor& values) {
            const kernels::Nf4Weight weight(values, offsets->of(linear));
            return EncodedLinear{{weight.group_scales, kernels::nf4_scale_levels(), kernels::nf4_levels(), weight.codes,
                                  weight.scales, state_of(linear, weight.offset)},
                                 [weight] { return weight.values(at::kFloat); }};
          },
      .rows_along =
          [](const model::TensorSpec& linear) {  // where groups end with rows
            const std::int64_t in = linear.shape[1];
            const bool apart = kRowStep * in % kGroupElements == 0 && linear.shape[0] * in % kGroupElements == 0;
            return apart ? std::optional(0) : std::nullopt;
          },
      .prepare = [offsets](const model::TensorSpec& linear) { offsets->find(linear); },
  };
}

std::string refusal(const model::ModelSpec& spec, const lora::LoraConfig&) {
  // transformers stacks a layer's experts into one tensor, which is no torch.nn.Linear (its integrations/bitsandbytes.py).
  if (spec.moe.experts > 0) return "bitsandbytes quantizes linear layers, not experts; choose a gguf- format";
  return alignment_refusal(spec, nf4_format());
}

MergedModel base_of(const ExportRequest& request) { return {request.base, nullptr, request.storage}; }

constexpr Exporter kFormats[] = {{
    .name = "bnb-nf4",
    .summary = "the base in bitsandbytes' NF4 as a Hugging Face directory, with the adapter as PEFT in its folder adapter/",
    .loads_in = "transformers with bitsandbytes and peft",
    .extension = "",
    .merges = false,
    .quantizes = true,
    .refusal = refusal,
    .bytes = [](const model::ModelSpec& spec) { return quantized_bytes(spec, nf4_format()); },
    .write =
        [](const ExportRequest& request, const fs::path& target, Fingerprints& made) {
          const MergedModel base = base_of(request);
          write_quantized_model(request, base, nf4_format(&base), target, made);
          graft::create_directories(target / "adapter");
          lora::save_peft(request.adapter, target / "adapter", "..");  // this base, not the one in bf16, wherever they are moved
        },
    .verify =
        [](const ExportRequest& request, const fs::path& written, const Fingerprints& made) {
          find_exporter("peft").verify(request, written / "adapter", made);
          return verify_quantized_model(base_of(request), nf4_format(), *model::open_weights(written), made);
        },
}};

}  // namespace

extern const FormatFamily bnb_nf4;
const FormatFamily bnb_nf4 = kFormats;

}  // namespace graft::exports
