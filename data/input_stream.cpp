#include "data/input_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace graft::data {

struct InputStream::Inflater {
  Inflater() {
    if (inflateInit2(&stream, 15 + 16) != Z_OK) throw MachineError("zlib does not start; is there enough memory?");
  }
  ~Inflater() { inflateEnd(&stream); }
  z_stream stream{};
  std::array<unsigned char, 1 << 16> input;
  bool ended = false, in_member = false;
};

InputStream::InputStream(const std::string& path) : path_(path), descriptor_(open_retrying(path, O_RDONLY | O_NONBLOCK)) {
  if (descriptor_.get() < 0) throw UserError(cat(path, ": ", std::strerror(errno)));
  if (path.ends_with(".gz")) inflater_ = std::make_unique<Inflater>();
}

InputStream::~InputStream() = default;

std::size_t InputStream::read_file(char* into, std::size_t size) {
  ssize_t got;
  do {
    got = ::read(descriptor_.get(), into, size);
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw DataError(cat(path_, ": cannot be read: ", std::strerror(errno)));
  consumed_ += static_cast<std::uint64_t>(got);
  return static_cast<std::size_t>(got);
}

bool InputStream::read(std::string& out, std::size_t limit) {
  const std::size_t start = out.size();
  out.resize(start + limit);
  std::size_t filled = 0;
  if (!inflater_) {
    while (filled < limit) {
      const std::size_t got = read_file(out.data() + start + filled, limit - filled);
      if (got == 0) break;
      filled += got;
    }
  } else {
    z_stream& stream = inflater_->stream;
    while (filled < limit && !inflater_->ended) {
      if (stream.avail_in == 0) {
        const std::size_t got = read_file(reinterpret_cast<char*>(inflater_->input.data()), inflater_->input.size());
        stream.next_in = inflater_->input.data();
        stream.avail_in = static_cast<uInt>(got);
        if (got == 0) {
          if (inflater_->in_member || consumed_ == 0) throw DataError(cat(path_, ": damaged gzip: it ends too early"));
          inflater_->ended = true;
          break;
        }
      }
      inflater_->in_member = true;
      stream.next_out = reinterpret_cast<Bytef*>(out.data() + start + filled);
      stream.avail_out = static_cast<uInt>(std::min<std::size_t>(limit - filled, 1 << 30));
      const uInt room = stream.avail_out;
      const int status = inflate(&stream, Z_NO_FLUSH);
      filled += room - stream.avail_out;
      if (status == Z_STREAM_END) {
        inflater_->in_member = false;
        inflateReset(&stream);
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw DataError(cat(path_, ": damaged gzip after ", produced_ + filled, " bytes of content"));
      }
      if (produced_ + filled > (16 << 20) && (produced_ + filled) / kMaxExpansion > consumed_) {
        throw DataError(cat(path_, ": ", consumed_, " bytes of gzip expand to more than ", produced_ + filled,
                            " bytes; refused beyond ", kMaxExpansion, "-fold (unpack it yourself if it is genuine)"));
      }
    }
  }
  out.resize(start + filled);
  produced_ += filled;
  return filled > 0;
}

LineReader::Status LineReader::next(std::string_view& line) {
  while (true) {
    const std::size_t end = buffer_.find('\n', scanned_);
    if (end != std::string::npos) {
      line = std::string_view(buffer_).substr(begin_, end - begin_);
      begin_ = scanned_ = end + 1;
      if (!skipping_ && line.size() <= max_line_) return Status::line;
      skipping_ = false;
      return Status::too_long;
    }
    buffer_.erase(0, skipping_ ? buffer_.size() : begin_);
    if (buffer_.size() > max_line_) {
      skipping_ = true;
      buffer_.clear();
    }
    begin_ = 0;
    scanned_ = buffer_.size();
    if (ended_ || !input_.read(buffer_, 1 << 18)) {
      ended_ = true;
      if (skipping_) {
        skipping_ = false;
        return Status::too_long;
      }
      if (buffer_.empty()) return Status::end;
      buffer_ += '\n';  // the last line has no end of its own
    }
  }
}

}  // namespace graft::data
