// What a first request to a server looks like, as a shell command.
#pragma once

#include <string>

#include "core/json.h"
#include "export/server.h"

namespace graft::exports {

std::string post(int port, const std::string& path, const Json& body);

// OpenAI's interface: a conversation, or a text to go on with where there is no chat template. `body` names the model and
// what else the server wants.
std::string openai_request(const Served& served, int port, Json body);

}  // namespace graft::exports
