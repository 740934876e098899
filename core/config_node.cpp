#include "core/config_node.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/utf8.h"

namespace graft {
namespace {

constexpr std::size_t kDeepest = 16;

// Builds the tree from parser events: yaml-cpp's own nodes drop duplicate keys and follow aliases.
class Builder : public YAML::EventHandler {
 public:
  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_extras(mark, "", anchor);
    add(mark, ConfigNode::Kind::null);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not accepted; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    refuse_extras(mark, tag, anchor);
    ConfigNode& node = add(mark, ConfigNode::Kind::scalar);
    node.scalar = value;
    node.quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_extras(mark, tag, anchor);
    open(mark, ConfigNode::Kind::sequence);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    refuse_extras(mark, tag, anchor);
    open(mark, ConfigNode::Kind::mapping);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Open {
    ConfigNode* node;
    bool has_key = false;  // the next event is the value of the last entry
  };

  [[noreturn]] static void fail(const YAML::Mark& mark, const std::string& what) {
    throw ConfigSyntaxError{mark.line + 1, mark.column + 1, what};
  }
  static void refuse_extras(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) fail(mark, "anchors (&name) are not accepted; write the value out");
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags (!name) are not accepted");
  }

  // Pointers to open containers stay valid: only the innermost one grows.
  ConfigNode& add(const YAML::Mark& mark, ConfigNode::Kind kind) {
    ConfigNode* node = &root_;
    if (!open_.empty()) {
      Open& parent = open_.back();
      if (parent.node->kind == ConfigNode::Kind::sequence) {
        node = &parent.node->items.emplace_back();
      } else {
        node = parent.has_key ? &parent.node->entries.back().second : &parent.node->entries.emplace_back().first;
        parent.has_key = !parent.has_key;
      }
    }
    node->kind = kind;
    node->line = mark.line + 1;
    node->column = mark.column + 1;
    return *node;
  }
  void open(const YAML::Mark& mark, ConfigNode::Kind kind) {
    if (open_.size() >= kDeepest) fail(mark, cat("nested deeper than ", kDeepest, " levels"));
    open_.push_back({&add(mark, kind)});
  }

  ConfigNode root_;
  std::vector<Open> open_;
};

void check_text(std::string_view text) {
  int line = 1;
  for (std::size_t at = 0, line_start = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0 || text[at] == '\0') throw ConfigSyntaxError{line, static_cast<int>(at - line_start) + 1, "not UTF-8 text"};
    if (text[at] == '\n') {
      ++line;
      line_start = at + 1;
    }
    at += length;
  }
}

}  // namespace

ConfigNode parse_yaml(std::string_view text) {
  check_text(text);
  std::istringstream stream{std::string(text)};
  Builder builder;
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    ConfigNode root = builder.take();
    Builder second;
    if (parser.HandleNextDocument(second)) {
      const ConfigNode extra = second.take();
      throw ConfigSyntaxError{extra.line, extra.column, "a second document (after ---) is not accepted"};
    }
    return root;
  } catch (const YAML::Exception& error) {
    // Marks count from 0; a null mark is -1.
    throw ConfigSyntaxError{std::max(error.mark.line, 0) + 1, std::max(error.mark.column, 0) + 1, "YAML: " + error.msg};
  }
}

}  // namespace graft
