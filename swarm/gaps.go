package swarm

// Held tells whether a neighbour has said to have a piece.
func (f *Fetcher) Held(piece int) bool { return f.holders[piece] != 0 }
