graft_registry(model families model/family.h graft::model::Family)
graft_registry(model layouts model/linear_layout.h graft::model::LayoutReader)
