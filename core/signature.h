// Ed25519 signatures (RFC 8032) of a file's bytes, by keys in PEM as openssl makes them:
//
//   openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out public.pem
//   openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in FILE -sigfile FILE.sig
#pragma once

#include <string>
#include <string_view>

#include "core/file.h"

namespace graft {

inline constexpr std::size_t kSignatureBytes = 64;

// The 64 bytes of the signature. UserError when the key is missing, readable by others than its owner, encrypted, or no Ed25519
// key.
std::string sign_ed25519(std::string_view message, const fs::path& private_key);
// UserError when the key is missing or no Ed25519 key.
bool verify_ed25519(std::string_view message, std::string_view signature, const fs::path& public_key);

}  // namespace graft
