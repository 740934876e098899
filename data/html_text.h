// The readable text of an HTML or XHTML page, in one pass over its bytes: linear time, no tree, no recursion, so that neither
// deep nesting nor unclosed elements can cost more than their length (docs/decisions/0005-html-without-a-tree.md).
//
// Paragraphs and headings are separated by a blank line, list items begin with "- " or their number, table rows are lines with
// tab-separated cells, <pre> is kept as it is, character references are decoded (numeric, and the named ones of HTML 4).
// Left out: head, script, style, forms' controls, media, comments, and navigation: <nav>, role="navigation", and any container
// whose class is nav, navbar, navigation, or begins with "nav" plus a further word ("navheader", "nav-links"); of these, an
// element that is never closed is kept.
#pragma once

#include <string>
#include <string_view>

namespace graft::data {

std::string html_text(std::string_view html);

}  // namespace graft::data
