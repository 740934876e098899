#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "data/clean.h"
#include "data/document_reader.h"
#include "data/encoding.h"
#include "data/html_text.h"

namespace graft::data {
namespace {

// The value at "a.b": a field of that very name, or field b of object a. Null when it is not there.
const Json* find_field(const Json& object, const std::string& path) {
  if (!object.is_object()) return nullptr;
  if (const auto found = object.find(path); found != object.end()) return &*found;
  const std::size_t dot = path.find('.');
  if (dot == std::string::npos) return nullptr;
  const auto child = object.find(path.substr(0, dot));
  return child == object.end() ? nullptr : find_field(*child, path.substr(dot + 1));
}

// A string, or OpenAI's list of parts where all are text: a line each, as vLLM joins them when it serves. Else nothing.
std::optional<std::string> words_of(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string words;
  for (const Json& part : content) {
    const Json* type = find_field(part, "type");
    const Json* text = find_field(part, "text");
    if (type == nullptr || *type != "text" || text == nullptr || !text->is_string()) return std::nullopt;
    if (&part != &content.front()) words += '\n';
    words += text->get_ref<const std::string&>();
  }
  return words;
}

// Fills out.messages from a list of {role, content}, or ShareGPT's {from, value}. Returns what is wrong with it, else an empty
// text.
std::string read_messages(const Json& list, Extracted& out) {
  if (!list.is_array() || list.empty()) return "no list of messages";
  for (const Json& item : list) {
    const Json* role = find_field(item, "role");
    if (role == nullptr) role = find_field(item, "from");
    const Json* content = find_field(item, "content");
    if (content == nullptr) content = find_field(item, "value");
    if (role == nullptr || !role->is_string()) return cat("message ", out.messages.size() + 1, " has no role");
    const auto words = content == nullptr ? std::nullopt : words_of(*content);
    if (!words) return cat("message ", out.messages.size() + 1, " has no content, or one that is not text alone");
    const std::string& name = role->get_ref<const std::string&>();
    out.messages.push_back({name == "human" ? "user" : name == "gpt" ? "assistant" : name, clean_text(*words)});
  }
  return "";
}

// Under the name that the source gives; ShareGPT's where it gives none and there is no text either.
const Json* find_messages(const Json& record, const SourceConfig& source) {
  const Json* found = find_field(record, source.messages_field);
  if (found != nullptr || source.messages_field != "messages" || find_field(record, source.text_field) != nullptr) return found;
  return find_field(record, "conversations");
}

void read_json_line(const std::string& line, const SourceConfig& source, Extracted& out) {
  Json record;
  try {
    record = parse_json(line, "line");
  } catch (const FormatError& error) {
    const std::string message = error.what();
    out.dropped = "bad JSON line";
    // "line: byte 7: ...", of which the rest may quote the document
    if (message.starts_with("line: byte ")) out.why = message.substr(6, message.find(':', 6) - 6);
    return;
  }
  if (!source.id_field.empty()) {
    const Json* id = find_field(record, source.id_field);
    if (id == nullptr || !(id->is_string() || id->is_number_integer())) {
      out.dropped = "missing id field";
      out.why = "id_field is " + quote(source.id_field);
      return;
    }
    out.id = source.path + "#" + (id->is_string() ? id->get<std::string>() : id->dump());
  }
  if (const Json* messages = find_messages(record, source)) {
    out.why = read_messages(*messages, out);
    if (!out.why.empty()) out.dropped = "bad conversation";
    return;
  }
  const Json* text = find_field(record, source.text_field);
  if (text == nullptr) {
    out.dropped = "missing text field";
    out.why = "text_field is " + quote(source.text_field);
  } else if (!text->is_string()) {
    out.dropped = "text field is no text";
  } else {
    out.text = clean_text(text->get_ref<const std::string&>());
  }
}

// As UTF-8; what is no text in any encoding known becomes U+FFFD and is counted. Bytes that are UTF-8 are taken for it whatever a
// page says, but for the one encoding that is made of ASCII alone.
std::string as_utf8(const RawDocument& document, std::int64_t& replaced) {
  std::string out, decoded;
  replaced = replace_invalid_utf8(document.bytes, out);
  std::string encoding = utf16(document.bytes);
  if (encoding.empty() && document.format == Format::html) encoding = declared_encoding(document.bytes);
  if (encoding.empty() || (replaced == 0 && encoding != "ISO-2022-JP")) return out;
  const auto failed = decode(document.bytes, encoding, decoded);
  if (!failed) return out;
  replaced = *failed;
  return decoded;
}

// More than one character in a hundred was no text: the document is in an encoding that is not known.
bool is_garbled(const Extracted& document) {
  std::int64_t characters = 0, lost = 0;
  const auto count = [&](const std::string& text) {
    characters += std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    for (std::size_t at = 0; (at = text.find("\xEF\xBF\xBD", at)) != std::string::npos; at += 3) ++lost;
  };
  count(document.text);
  for (const Message& message : document.messages) count(message.content);
  return lost * 100 > characters;
}

}  // namespace

std::size_t Extracted::bytes() const {
  return std::accumulate(messages.begin(), messages.end(), text.size(),
                         [](std::size_t sum, const Message& message) { return sum + message.content.size(); });
}

Extracted extract(const RawDocument& document, const SourceConfig& source, const CorpusConfig& config) {
  Extracted out;
  out.id = document.id;
  const std::string bytes = as_utf8(document, out.replaced);
  if (out.replaced > 0 && config.invalid_utf8 == "reject") {
    out.replaced = 0;
    out.dropped = "invalid UTF-8";
    return out;
  }
  switch (document.format) {
    case Format::text:
      out.text = clean_text(bytes);
      break;
    case Format::markdown:
      out.text = clean_text(strip_markdown_noise(bytes));
      break;
    case Format::html:
      out.text = clean_text(html_text(bytes));
      break;
    case Format::jsonl:
      read_json_line(bytes, source, out);
      break;
  }
  if (!out.dropped.empty()) return out;
  if (out.replaced > 0 && is_garbled(out)) {
    out.replaced = 0;
    out.dropped = "not UTF-8";
    out.why = "nor an encoding that it declares";
  } else if (out.bytes() == 0) {
    out.dropped = kEmpty;
  } else if (out.messages.empty() && out.bytes() < static_cast<std::size_t>(config.min_bytes)) {  // a short answer is one
    out.dropped = kTooShort;
  }
  return out;
}

}  // namespace graft::data
