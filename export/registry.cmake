graft_registry(export formats export/exporter.h graft::exports::Exporter)
