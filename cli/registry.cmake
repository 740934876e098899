graft_registry(cli commands cli/command.h graft::cli::Command)
