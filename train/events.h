// TensorBoard event files, encoded by hand (no protobuf library).
//
//   file:    records, each  u64 length | u32 masked_crc(length bytes) | length bytes | u32 masked_crc(bytes)     (TFRecord)
//   masked:  ((crc >> 15) | (crc << 17)) + 0xa282ead8, crc = CRC-32C (Castagnoli)
//   record:  protobuf Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
//            Summary { repeated Value value = 1; }  Value { string tag = 1; float simple_value = 2; }
// The first record is the version "brain.Event:2". All integers little-endian.
// Source: tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.cc, lib/hash/crc32c.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace graft::train {

std::uint32_t crc32c(std::string_view bytes);

// Whole TFRecords. wall_time: seconds since 1970.
std::string version_record(double wall_time);
std::string scalars_record(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, float>>& scalars);

}  // namespace graft::train
