// Ed25519 against the vectors of RFC 8032, and what is no key.
#include "core/signature.h"

#include <sys/stat.h>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace graft;
using namespace graft::testing;

namespace {

std::string unhex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

// RFC 8410: the 32 bytes behind a fixed DER prefix, in base64.
std::string pem(const std::string& kind, const std::string& der) {
  constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < der.size(); i += 3) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j) word = word << 8 | (i + j < der.size() ? static_cast<unsigned char>(der[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j) text += i + j <= der.size() ? digits[word >> (18 - 6 * j) & 63] : '=';
  }
  return "-----BEGIN " + kind + " KEY-----\n" + text + "\n-----END " + kind + " KEY-----\n";
}
std::string private_pem(const std::string& hex) { return pem("PRIVATE", unhex("302e020100300506032b657004220420" + hex)); }
std::string public_pem(const std::string& hex) { return pem("PUBLIC", unhex("302a300506032b6570032100" + hex)); }

struct Vector {
  const char *secret, *open, *message, *signature;
};
constexpr Vector kVectors[] = {  // RFC 8032, 7.1, tests 1 to 3
    {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7"
     "a100"
     "b"},
    {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612b"
     "b0c0"
     "0"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1"
     "ec40"
     "a"}};

void write_key(const fs::path& file, const std::string& text, mode_t mode = 0600) {
  write_file(file, text);
  REQUIRE(::chmod(file.c_str(), mode) == 0);
}

}  // namespace

TEST_CASE("signatures are those of RFC 8032", "[signature]") {
  const TempDir dir;
  for (const Vector& vector : kVectors) {
    write_key(dir / "key.pem", private_pem(vector.secret));
    write_key(dir / "public.pem", public_pem(vector.open), 0644);
    const std::string message = unhex(vector.message), signature = sign_ed25519(message, dir / "key.pem");
    CHECK(signature == unhex(vector.signature));
    CHECK(verify_ed25519(message, signature, dir / "public.pem"));
    for (std::size_t bit = 0; bit < 8 * signature.size(); bit += 37) {
      std::string changed = signature;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
      CHECK(!verify_ed25519(message, changed, dir / "public.pem"));
    }
    CHECK(!verify_ed25519(message + "x", signature, dir / "public.pem"));
    CHECK(!verify_ed25519(message, signature.substr(1), dir / "public.pem"));
    CHECK(!verify_ed25519(message, "", dir / "public.pem"));
  }
}

TEST_CASE("what is no key of its owner alone is refused", "[signature]") {
  const TempDir dir;
  const fs::path file = dir / "key.pem";
  const auto sign = [&] { return message_of<UserError>([&] { sign_ed25519("text", file); }); };
  CHECK(sign().find("cannot open " + file.string()) == 0);
  for (const mode_t mode : {0640, 0604, 0644, 0660, 0620}) {
    write_key(file, private_pem(kVectors[0].secret), mode);
    CHECK(sign() == file.string() + ": the private key is open to others than its owner; chmod 600 it");
  }
  for (const std::string& text :
       {std::string("no key"), std::string(), public_pem(kVectors[0].open), std::string(1 << 20, 'x')}) {
    write_key(file, text);
    CHECK(sign().find("is no private Ed25519 key in PEM") != std::string::npos);
  }
  // X25519: same form, another algorithm.
  write_key(file, pem("PRIVATE", unhex(std::string("302e020100300506032b656e04220420") + kVectors[0].secret)));
  CHECK(sign().find("is no private Ed25519 key in PEM; make one with `openssl genpkey -algorithm ed25519`") != std::string::npos);
  write_key(file, private_pem(kVectors[0].secret));
  CHECK(message_of<UserError>([&] {
          verify_ed25519("text", std::string(64, 'x'), file);
        }).find("is no public Ed25519 key in PEM") != std::string::npos);
}
