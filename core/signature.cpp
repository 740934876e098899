#include "core/signature.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include <memory>

#include "core/descriptor.h"
#include "core/error.h"

namespace graft {
namespace {

constexpr std::size_t kMaxKey = 1 << 14;

template <auto release>
struct Release {
  template <class T>
  void operator()(T* pointer) const {
    release(pointer);
  }
};
using Bio = std::unique_ptr<BIO, Release<BIO_free_all>>;
using Key = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using Context = std::unique_ptr<EVP_MD_CTX, Release<EVP_MD_CTX_free>>;

int no_passphrase(char*, int, int, void*) { return -1; }

Key ed25519(EVP_PKEY* read, const fs::path& file, const char* kind) {
  Key key(read);
  ERR_clear_error();
  if (!key || EVP_PKEY_id(key.get()) != EVP_PKEY_ED25519)
    throw UserError(cat(file.string(), ": is no ", kind, " Ed25519 key in PEM",
                        read ? "" : " that can be read without a passphrase",
                        "; make one with `openssl genpkey -algorithm ed25519`"));
  return key;
}

Context context_of() {
  Context context(EVP_MD_CTX_new());
  if (!context) throw MachineError("libcrypto is out of memory");
  return context;
}

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// Of a file that only its owner can read; the text is wiped after use.
class PrivateText {
 public:
  explicit PrivateText(const fs::path& file) : text_(kMaxKey, '\0') {
    const Descriptor descriptor(open_regular(file));
    struct stat status;
    if (::fstat(descriptor.get(), &status) != 0) throw_machine_error("read", file, errno);
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
      throw UserError(cat(file.string(), ": the private key is open to others than its owner; chmod 600 it"));
    for (std::size_t got = 1; got > 0 && size_ < text_.size(); size_ += got)
      got = read_some(descriptor.get(), text_.data() + size_, text_.size() - size_, file);
  }
  ~PrivateText() { OPENSSL_cleanse(text_.data(), text_.size()); }
  PrivateText(const PrivateText&) = delete;
  PrivateText& operator=(const PrivateText&) = delete;
  Bio bio() const { return Bio(BIO_new_mem_buf(text_.data(), static_cast<int>(size_))); }

 private:
  std::string text_;
  std::size_t size_ = 0;
};

}  // namespace

std::string sign_ed25519(std::string_view message, const fs::path& private_key) {
  const PrivateText text(private_key);
  const Bio bio = text.bio();
  const Key key = ed25519(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr), private_key, "private");
  const Context context = context_of();
  std::string signature(kSignatureBytes, '\0');
  std::size_t size = signature.size();
  if (EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes(message), message.size()) !=
          1 ||
      size != kSignatureBytes)
    throw MachineError("Ed25519 failed in libcrypto");
  return signature;
}

bool verify_ed25519(std::string_view message, std::string_view signature, const fs::path& public_key) {
  const std::string text = read_file(public_key, kMaxKey);
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const Key key = ed25519(PEM_read_bio_PUBKEY(bio.get(), nullptr, no_passphrase, nullptr), public_key, "public");
  const Context context = context_of();
  if (EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1)
    throw MachineError("Ed25519 failed in libcrypto");
  const bool good = EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(message), message.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace graft
