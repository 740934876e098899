#include <openssl/evp.h>

#include <new>

#include "core/error.h"
#include "core/file.h"

namespace graft {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() {
    if (!context) throw std::bad_alloc();
    if (EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1) {
      EVP_MD_CTX_free(context);
      throw MachineError("libcrypto does not start SHA-256; is there enough memory?");
    }
  }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(const void* data, std::size_t size) {
  if (EVP_DigestUpdate(state_->context, data, size) != 1) throw MachineError("SHA-256 failed in libcrypto");
}

std::string Sha256::hex() {
  constexpr char digits[] = "0123456789abcdef";
  unsigned char digest[32];
  if (EVP_DigestFinal_ex(state_->context, digest, nullptr) != 1) throw MachineError("SHA-256 failed in libcrypto");
  std::string out;
  for (unsigned char byte : digest) out += {digits[byte >> 4], digits[byte & 15]};
  return out;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

}  // namespace graft
