graft_registry(export formats export/exporter.h graft::exports::Exporter)
graft_registry(export servers export/server.h graft::exports::Server)
