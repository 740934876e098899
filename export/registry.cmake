graft_registry(export formats export/exporter.h graft::exports::FormatFamily format_families)
graft_registry(export servers export/server.h graft::exports::Server)
