// Text in encodings other than UTF-8, decoded by the C library's iconv.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace graft::data {

// "UTF-16LE" or "UTF-16BE" when `bytes` begins with that byte order mark, else empty.
std::string utf16(std::string_view bytes);

// What an HTML page says about itself in its first 1024 bytes, where a browser looks: <meta charset>, <meta http-equiv>, or the
// encoding of an XML declaration; as iconv names it. Labels are the common ones of the WHATWG's Encoding Standard (ISO-8859-1 is
// windows-1252 there). Empty without one, and for UTF-8 and labels unknown here.
std::string declared_encoding(std::string_view page);

// Gives the text as UTF-8 with U+FFFD for each byte (of UTF-16: pair of bytes) that cannot be decoded, and the number of those;
// nothing when iconv does not have the encoding.
std::optional<std::int64_t> decode(std::string_view bytes, const std::string& encoding, std::string& out);

}  // namespace graft::data
