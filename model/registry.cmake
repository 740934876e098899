graft_registry(model families model/family.h graft::model::Family)
