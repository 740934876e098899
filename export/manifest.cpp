#include "export/manifest.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/signature.h"
#include "core/stop.h"

namespace graft::exports {
namespace {

namespace fs = std::filesystem;

constexpr int kVersion = 1;
constexpr std::uint64_t kMaxBytes = 16 << 20;
constexpr const char* kName = "manifest.json";
constexpr const char* kSignature = "manifest.json.sig";
constexpr const char* kServing = "serving";  // files for servers

// Source or const Source. `needed`: the manifest of any program has it; what is not is left out where it is empty.
template <class S, class Visit>
void visit(S& source, const Visit& field) {
  constexpr bool needed = true, optional = false;
  field("model", source.model, needed);
  field("base", source.base, needed);
  field("adapter", source.adapter, needed);
  field("storage", source.storage, needed);
  field("config", source.config, needed);
  field("calibration", source.calibration, optional);
  field("program", source.program, needed);
  field("corpus", source.corpus, optional);
  field("started_from", source.started_from, optional);
  field("base_path", source.base_path, optional);
  field("companions", source.companions, optional);
}

std::vector<FileRecord> files_from(const Json& json, const fs::path& root, const std::string& origin) {
  std::vector<FileRecord> files;
  for (const Json& file : json_get<Json>(json, "files", origin)) {
    const auto name = json_get<std::string>(file, "name", origin);
    inside(root, name);  // refuses what leaves the directory
    files.push_back({name, json_get<std::uint64_t>(file, "bytes", origin), json_get<std::string>(file, "sha256", origin)});
  }
  return files;
}

Json json_of(const std::vector<FileRecord>& files) {
  Json list = Json::array();
  for (const FileRecord& file : files) list.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return list;
}

// A manifest may come from anywhere, and what it says is printed.
void check_printable(const Json& json, const std::string& origin) {
  if (json.is_structured())
    for (const auto& [key, value] : json.items()) check_printable(value, origin);
  else if (json.is_string())
    for (const char c : json.get_ref<const std::string&>())
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
        throw FormatError(cat(origin, ": holds the control character ", static_cast<int>(c), ", which no manifest has"));
}

Artifact artifact_from(const Json& json, const fs::path& directory, const std::string& origin) {
  const auto text = [&](const char* key) { return json_get<std::string>(json, key, origin); };
  Artifact artifact;
  artifact.format = text("format");
  artifact.path = inside(directory, text("path"));
  visit(artifact.source, [&](const char* name, std::string& value, bool needed) {
    value = needed ? text(name) : json_get_or<std::string>(json, name, "", origin);
  });
  artifact.bytes = json_get<std::uint64_t>(json, "bytes", origin);
  artifact.sha256 = text("sha256");
  artifact.max_error = json_get<double>(json, "max_error", origin);
  artifact.heldout = json_get_or<Json>(json, "heldout", {}, origin);
  if (const auto id = json_get_or<std::string>(json, "id", artifact.id(), origin); id != artifact.id())
    throw FormatError(cat(origin, ": the id ", quote(id), " is not that of its artifact, ", quote(artifact.id())));
  artifact.files = files_from(json, fs::is_directory(artifact.path) ? artifact.path : directory, origin);
  return artifact;
}

// What DirectoryLock leaves; anything larger, or a link, only has its name.
bool is_lock(const fs::directory_entry& entry) {
  return entry.path().filename() == ".lock" && !entry.is_symlink() && entry.is_regular_file() && entry.file_size() <= 64;
}

// As sha256_file; a model's worth of bytes takes long enough to be stopped in between.
std::string hash_of(const fs::path& file) {
  constexpr std::size_t kPiece = 64 << 20;
  const MappedFile mapped(file);
  Sha256 hash;
  for (std::size_t at = 0; at < mapped.bytes().size(); at += kPiece) {
    throw_if_stopped();
    const auto piece = mapped.bytes().subspan(at, std::min(kPiece, mapped.bytes().size() - at));
    hash.update(piece.data(), piece.size());
  }
  return hash.hex();
}

}  // namespace

bool Source::makes_the_same(Source other) const {
  other.config = config;
  return *this == other;
}

std::string Artifact::id() const {
  std::string id = cat(source.model, "-", format, "-", sha256.substr(0, 12));
  for (char& c : id)
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '.' && c != '_') c = '-';
  return id;
}

Json Artifact::json() const {
  Json json = {{"id", id()},       {"format", format},       {"path", path.filename().string()}, {"bytes", bytes},
               {"sha256", sha256}, {"max_error", max_error}, {"files", json_of(files)}};
  visit(source, [&](const char* name, const std::string& value, bool needed) {
    if (needed || !value.empty()) json[name] = value;
  });
  if (!heldout.is_null()) json["heldout"] = heldout;
  return json;
}

std::string adapter_hash(const lora::AdapterSet& adapter) {
  Sha256 hash;
  for (const auto& pair : adapter.adapters) {
    hash.update(
        cat(pair->module, "\n", at::IntArrayRef(pair->low_rank.a.sizes()), at::IntArrayRef(pair->low_rank.b.sizes()), "\n"));
    hash.update(&pair->low_rank.scale, sizeof pair->low_rank.scale);
    for (const at::Tensor& tensor : {pair->low_rank.a, pair->low_rank.b}) {
      const at::Tensor values = tensor.contiguous();
      hash.update(values.const_data_ptr(), values.nbytes());
    }
  }
  return hash.hex();
}

void measure(const fs::path& path, Artifact& artifact, const std::map<fs::path, std::string>& known) {
  artifact.files.clear();
  artifact.bytes = 0;
  const auto add = [&](const fs::path& file, std::string name) {
    const auto sum = known.find(file);
    artifact.files.push_back({std::move(name), fs::file_size(file), sum == known.end() ? hash_of(file) : sum->second});
    artifact.bytes += artifact.files.back().bytes;
  };
  if (!fs::is_directory(path)) {
    add(path, artifact.path.filename().string());
    artifact.sha256 = artifact.files[0].sha256;
    return;
  }
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && !entry.is_symlink()) add(entry.path(), entry.path().lexically_relative(path).string());
  std::sort(artifact.files.begin(), artifact.files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::string lines;
  for (const FileRecord& file : artifact.files) lines += cat(file.sha256, "  ", file.name, "\n");
  artifact.sha256 = sha256_hex(lines);
}

std::vector<std::string> changed_files(const Artifact& recorded) {
  if (fs::is_symlink(recorded.path) || !fs::exists(recorded.path)) return {recorded.path.string() + " is missing"};
  const bool directory = fs::is_directory(recorded.path);
  const auto named = [&](const std::string& name) { return (directory ? recorded.path / name : recorded.path).string(); };
  Artifact found;
  found.path = recorded.path;
  measure(recorded.path, found);
  const auto of = [](const std::vector<FileRecord>& files, const std::string& name) {
    const auto at = std::find_if(files.begin(), files.end(), [&](const FileRecord& file) { return file.name == name; });
    return at == files.end() ? nullptr : &*at;
  };
  std::vector<std::string> problems;
  for (const FileRecord& file : recorded.files) {
    const FileRecord* now = of(found.files, file.name);
    if (now == nullptr)
      problems.push_back(named(file.name) + " is missing");
    else if (now->bytes != file.bytes)
      problems.push_back(cat(named(file.name), " has ", now->bytes, " bytes, manifest.json says ", file.bytes));
    else if (now->sha256 != file.sha256)
      problems.push_back(cat(named(file.name), " has sha256 ", now->sha256, ", manifest.json says ", file.sha256));
  }
  for (const FileRecord& file : found.files)
    if (of(recorded.files, file.name) == nullptr) problems.push_back(named(file.name) + " is not in the manifest");
  if (directory)
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(recorded.path))
      if (entry.is_symlink() || !(entry.is_regular_file() || entry.is_directory()))
        problems.push_back(entry.path().string() + " is not in the manifest");
  if (problems.empty() && found.sha256 != recorded.sha256)
    problems.push_back(cat(recorded.path.string(), " has sha256 ", found.sha256, ", manifest.json says ", recorded.sha256));
  return problems;
}

Manifest::Manifest(fs::path directory) : directory_(std::move(directory)) {
  serving_.path = directory_ / kServing;
  const fs::path file = directory_ / kName;
  if (!fs::exists(file)) return;
  const std::string origin = file.string();
  text_ = read_file(file, kMaxBytes);
  const Json json = parse_json(text_, origin);
  if (const auto version = json_get<std::int64_t>(json, "manifest", origin); version != kVersion)
    throw UnsupportedError(cat(origin, ": version ", version, " of the manifest, this program knows ", kVersion));
  check_printable(json, origin);
  for (const Json& artifact : json_get<Json>(json, "artifacts", origin))
    artifacts_.push_back(artifact_from(artifact, directory_, origin));
  if (const Json serving = json_get_or<Json>(json, kServing, {}, origin); !serving.is_null()) {
    serving_.sha256 = json_get<std::string>(serving, "sha256", origin);
    serving_.files = files_from(serving, serving_.path, origin);
    has_serving_ = true;
  }
}

const Artifact* Manifest::find(const std::string& format) const {
  for (const Artifact& artifact : artifacts_)
    if (artifact.format == format) return &artifact;
  return nullptr;
}

void Manifest::record(const Artifact& artifact) {
  const auto same =
      std::find_if(artifacts_.begin(), artifacts_.end(), [&](const Artifact& a) { return a.format == artifact.format; });
  if (same != artifacts_.end())
    *same = artifact;
  else
    artifacts_.push_back(artifact);
  write();
}

void Manifest::remove(const std::string& format) {
  std::erase_if(artifacts_, [&](const Artifact& artifact) { return artifact.format == format; });
  write();
}

void Manifest::record_serving() {
  Artifact now;
  if (fs::is_directory(serving_.path)) measure(serving_.path, now);
  if (has_serving_ ? now.files == serving_.files : artifacts_.empty()) return;
  has_serving_ = true;
  serving_.files = std::move(now.files);
  serving_.sha256 = std::move(now.sha256);
  write();
}

std::vector<std::string> Manifest::changed_serving() const {
  if (!has_serving_ || (serving_.files.empty() && !fs::exists(fs::symlink_status(serving_.path)))) return {};
  std::vector<std::string> problems = changed_files(serving_);
  for (std::string& problem : problems) problem += "; edit copies of these files, `graft export` writes them anew";
  return problems;
}

std::vector<std::string> Manifest::unknown_files() const {
  std::set<fs::path> known = {kName, kSignature, kServing};
  for (const Artifact& artifact : artifacts_) known.insert(artifact.path.filename());
  std::vector<std::string> unknown;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_))
    if (!known.contains(entry.path().filename()) && !is_lock(entry))
      unknown.push_back(entry.path().string() + " is not in the manifest");
  std::sort(unknown.begin(), unknown.end());
  return unknown;
}

bool Manifest::is_signed() const { return fs::exists(directory_ / kSignature); }

void Manifest::check_signature(const fs::path& public_key) const {
  const fs::path file = directory_ / kName, signature = directory_ / kSignature;
  if (!is_signed()) throw DataError(cat(file.string(), " is not signed; `graft sign` signs it"));
  if (!verify_ed25519(text_, read_file(signature, kMaxBytes), public_key))
    throw DataError(cat(file.string(), " is not what the owner of ", public_key.string(), " signed"));
}

void Manifest::write() const {
  std::error_code ignored;  // one that stays is wrong, and is called so
  fs::remove(directory_ / kSignature, ignored);
  Json list = Json::array();
  for (const Artifact& entry : artifacts_) list.push_back(entry.json());
  Json json = {{"manifest", kVersion}, {"artifacts", list}};
  if (has_serving_) json[kServing] = {{"sha256", serving_.sha256}, {"files", json_of(serving_.files)}};
  write_file(directory_ / kName, json.dump(2) + "\n");
}

std::vector<std::string> changed_files(const Manifest& manifest) {
  std::vector<std::string> problems = manifest.unknown_files();
  for (const Artifact& artifact : manifest.artifacts())
    for (std::string& problem : changed_files(artifact)) problems.push_back(std::move(problem));
  for (std::string& problem : manifest.changed_serving()) problems.push_back(std::move(problem));
  return problems;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

Manifest open_manifest(const fs::path& directory) {
  if (!fs::is_regular_file(directory / kName)) {
    const bool run = fs::is_regular_file(directory / "export" / kName);
    throw UserError(
        cat(directory.string(), ": has no manifest.json; ",
            run ? cat("did you mean ", (directory / "export").string(), "?") : "name the directory that `graft export` wrote"));
  }
  return Manifest(directory);
}

bool is_signed_by(const fs::path& directory, const fs::path& private_key) {
  if (!fs::exists(directory / kName)) return true;
  return fs::exists(directory / kSignature) &&
         read_file(directory / kSignature, kMaxBytes) == sign_ed25519(read_file(directory / kName, kMaxBytes), private_key);
}

void sign_manifest(const fs::path& directory, const fs::path& private_key) {
  const DirectoryLock lock(directory);
  write_file(directory / kSignature, sign_ed25519(read_file(directory / kName, kMaxBytes), private_key));
}

}  // namespace graft::exports
