// SPDX-License-Identifier: Apache-2.0
#ifndef DRO_DATA_JSON_RECORDS_HPP
#define DRO_DATA_JSON_RECORDS_HPP

/// \file
/// The objects of a JSON file one by one, so that a file is never in memory as a whole.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <utf8proc.h>

#include <dro/data/input_file.hpp>
#include <dro/error.hpp>

namespace dro::data {

/// One object of a file, and where it stands.
struct json_record {       // NOLINT(bugprone-exception-escape): moving a json value only asserts
  nlohmann::json value;    ///< always an object
  std::size_t line = 0;    ///< the line it begins in, 1-based
  std::size_t number = 0;  ///< its place among the objects of the file, 1-based
};

namespace detail {

/// Position of the first byte that is not part of valid UTF-8; nullopt where all is well.
[[nodiscard]] inline std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  const auto* const bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  std::size_t at = 0;
  while (at < text.size()) {
    if (bytes[at] < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code_point = -1;
    const utf8proc_ssize_t length =
        utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code_point);
    if (length <= 0) {
      return at;
    }
    at += static_cast<std::size_t>(length);
  }
  return std::nullopt;
}

/// A character for a message: itself in quotation marks where it is printable ASCII, else as `byte 0x1F`.
[[nodiscard]] inline std::string show_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  if (byte >= 0x20 && byte < 0x7F) {
    return {'\'', c, '\''};
  }
  constexpr std::string_view digits = "0123456789ABCDEF";
  return {'b', 'y', 't', 'e', ' ', '0', 'x', digits[byte >> 4U], digits[byte & 15U]};
}

/// Characters of a file that a message shows at most.
inline constexpr std::size_t most_shown = 60;

/// A text for a message: in quotation marks, as JSON in ASCII, cut to a few characters.
[[nodiscard]] inline std::string show_text(std::string_view text) {
  std::string shown = nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (shown.size() > most_shown) {
    shown.resize(most_shown);
    shown += "...";
  }
  return shown;
}

/// Of the JSON parser's message "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..."
/// its end: line and column are counted from where the parser began, not from where the file does. The parser quotes a
/// string or number that it broke off as far as it read it; of that, only the last characters are kept, where the
/// mistake is.
[[nodiscard]] inline std::string parser_complaint(std::string_view message) {
  const std::size_t column = message.find("column ");
  const std::size_t end_of_head = column == std::string_view::npos ? message.find("] ") : message.find(": ", column);
  message.remove_prefix(end_of_head == std::string_view::npos ? 0 : end_of_head + 2);
  for (const std::string_view before : {"; last read: '", "number overflow parsing '"}) {
    const std::size_t found = message.find(before);
    if (found == std::string_view::npos) continue;
    const std::size_t begin = found + before.size();
    if (message.size() - begin <= most_shown) break;
    std::size_t kept = message.size() - most_shown;
    while (kept < message.size() && (static_cast<unsigned char>(message[kept]) & 0xC0U) == 0x80U) {
      ++kept;  // in the middle of a UTF-8 character
    }
    return std::string(message.substr(0, begin)) + "..." + std::string(message.substr(kept));
  }
  return std::string(message);
}

}  // namespace detail

/// Splits a file into its top-level objects and parses each. Takes one JSON array of objects, JSON Lines, a single
/// object, and objects written one after the other over any number of lines; a UTF-8 byte order mark, blank lines and
/// CRLF are passed over.
///
/// Memory: one object and a buffer of 128 KiB. An object is held whole, so an unclosed one can reach to the end of the
/// file; not so in JSON Lines (recognised by the first object ending in the line it began in), where it ends its line.
class json_record_stream {
 public:
  /// \throws file_error where the file cannot be opened.
  explicit json_record_stream(const std::filesystem::path& path) : file_(path), buffer_(buffer_size) {}

  /// The file as the caller named it.
  [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

  /// The next object, nullopt after the last.
  ///
  /// \throws data_error with the line for malformed JSON, invalid UTF-8, something else than an object, an empty file.
  [[nodiscard]] std::optional<json_record> next() {
    if (!skip_to_object()) {
      return std::nullopt;
    }
    json_record record;
    record.line = line_;
    record.number = ++number_;
    take_object();
    if (number_ == 1 && !in_array_) {
      line_by_line_ = line_ == record.line;
    }
    check_utf8(record.line);
    try {
      record.value = nlohmann::json::parse(text_);
    } catch (const nlohmann::json::parse_error& error) {
      fail_parse(record, error.byte, error.what());
    } catch (const nlohmann::json::exception& error) {
      fail_parse(record, 0, error.what());
    }
    return record;
  }

 private:
  static constexpr std::size_t buffer_size = std::size_t{1} << 17U;

  /// The byte to be read next, nullopt at the end of the file.
  [[nodiscard]] std::optional<char> peek() {
    if (at_ == end_) {
      at_ = 0;
      end_ = file_.read(buffer_.data(), buffer_.size());
    }
    return at_ < end_ ? std::optional<char>(buffer_[at_]) : std::nullopt;
  }

  /// Passes over white space; the byte after it, nullopt at the end of the file.
  [[nodiscard]] std::optional<char> skip_space() {
    for (auto c = peek(); c.has_value(); c = peek()) {
      if (*c != ' ' && *c != '\t' && *c != '\r' && *c != '\n') {
        return c;
      }
      line_ += *c == '\n' ? 1U : 0U;
      ++at_;
    }
    return std::nullopt;
  }

  void skip_byte_order_mark() {
    for (const char expected : std::string_view("\xEF\xBB\xBF")) {
      if (peek() != expected) {
        return;
      }
      ++at_;
    }
  }

  /// Stands at the `{` of the next object, or returns false at the end of the file.
  [[nodiscard]] bool skip_to_object() {
    if (number_ == 0) {
      skip_byte_order_mark();
    }
    auto c = skip_space();
    if (number_ == 0) {
      if (!c.has_value()) {
        fail("the file is empty");
      }
      in_array_ = *c == '[';
      if (!in_array_ && *c != '{') {
        fail("not JSON: expected '{' or '[' at the beginning, found " + detail::show_byte(*c));
      }
    }
    if (in_array_ && !array_closed_) {
      c = skip_separator(c);
    }
    if (!c.has_value()) {
      return false;
    }
    if (array_closed_) {
      fail("malformed JSON: " + detail::show_byte(*c) + " after the end of the array");
    }
    if (*c != '{') {
      fail("malformed JSON: expected '{' where record " + std::to_string(number_ + 1) + " begins, found " +
           detail::show_byte(*c));
    }
    return true;
  }

  /// Inside an array: passes over the `[` or `,` in front of an object, or over the `]`. The byte after it.
  [[nodiscard]] std::optional<char> skip_separator(std::optional<char> c) {
    if (!c.has_value()) {
      fail("malformed JSON: the file ends inside its array, after record " + std::to_string(number_));
    }
    if (number_ > 0 && *c != ']' && *c != ',') {
      fail("malformed JSON: expected ',' or ']' after record " + std::to_string(number_) + ", found " +
           detail::show_byte(*c));
    }
    array_closed_ = *c == ']';
    ++at_;
    c = skip_space();
    if (number_ == 0 && c == ']') {
      fail("the file is empty: an array without records");
    }
    if (!array_closed_ && !c.has_value()) {
      fail("malformed JSON: the file ends inside its array, after record " + std::to_string(number_));
    }
    return c;
  }

  /// Moves the bytes of the object that begins here to text_. One that is not closed is cut where it must have ended;
  /// the parser then says what is wrong.
  void take_object() {
    text_.clear();
    std::size_t depth = 0;
    bool in_string = false;
    bool escaped = false;
    while (peek().has_value()) {
      const std::size_t begin = at_;
      bool done = false;
      while (at_ < end_ && !done) {
        const char c = buffer_[at_++];
        if (c == '\n') {
          done = in_string || line_by_line_;
          if (done) {
            --at_;  // the line feed is not part of the record
          } else {
            ++line_;
          }
        } else if (in_string) {
          in_string = escaped || c != '"';
          escaped = !escaped && c == '\\';
        } else if (c == '"') {
          in_string = true;
        } else if (c == '{' || c == '[') {
          ++depth;
        } else if (c == '}' || c == ']') {
          done = --depth == 0;
        }
      }
      text_.append(buffer_.data() + begin, at_ - begin);
      if (done) {
        return;
      }
    }
  }

  void check_utf8(std::size_t first_line) const {
    if (const auto bad = detail::find_invalid_utf8(text_)) {
      fail_at(first_line, *bad,
              "invalid UTF-8 in record " + std::to_string(number_) + ": found " + detail::show_byte(text_[*bad]));
    }
  }

  /// Reports what the parser found, with its own wording of what was expected but the line of the file.
  [[noreturn]] void fail_parse(const json_record& record, std::size_t byte, std::string_view message) const {
    fail_at(record.line, byte == 0 ? 0 : byte - 1,
            "malformed JSON in record " + std::to_string(record.number) + ": " + detail::parser_complaint(message));
  }

  /// Throws for the given byte of text_, whose first line is known.
  [[noreturn]] void fail_at(std::size_t first_line, std::size_t byte, const std::string& what) const {
    const std::string_view before = std::string_view(text_).substr(0, byte);
    const auto line = first_line + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
    throw data_error(path(), line, what + " (byte " + std::to_string(byte + 1) + " of the record)");
  }

  [[noreturn]] void fail(const std::string& what) const { throw data_error(path(), line_, what); }

  input_file file_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::string text_;
  std::size_t line_ = 1;
  std::size_t number_ = 0;
  bool in_array_ = false;
  bool array_closed_ = false;
  bool line_by_line_ = false;
};

}  // namespace dro::data

#endif
