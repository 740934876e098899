#include "export/request.h"

#include "core/error.h"

namespace graft::exports {

std::string post(int port, const std::string& path, const Json& body) {
  return cat("curl http://localhost:", port, path, " -H 'Content-Type: application/json' -d ", shell_word(body.dump()));
}

std::string openai_request(const Served& served, int port, Json body) {
  const bool chat = served.chat_template || !served.jinja.empty();
  if (chat)
    body["messages"] = {{{"role", "user"}, {"content", "Hello"}}};
  else
    body["prompt"] = "Hello";
  body["max_tokens"] = 64;
  return post(port, chat ? "/v1/chat/completions" : "/v1/completions", body);
}

}  // namespace graft::exports
