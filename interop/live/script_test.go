package live_test

func scriptPeers() []*peer { return nil }
