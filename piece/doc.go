// Package piece cuts a blob into pieces of equal size and checks each of them on its own, in any order, while hashing
// every byte exactly once.
//
// SHA-256 and SHA-512 (FIPS 180-4) are chains: hashing piece i turns the state after i pieces into the state after
// i+1 pieces. A List holds these midstates. A node checks piece i by starting from midstate i and comparing with
// midstate i+1; the first midstate is the standard's constant and the last one must finish to the digest that names
// the blob. Once every piece has matched, the chain is closed and the whole digest is proven without a second pass.
//
// A List is a claim of the node that issued it until its chain closes: a forged list passes every check but the last.
// Moving pieces between nodes and keeping them on disk is left to others. A List and a Hasher's list may be shared by
// goroutines; a Hasher and a Bitmap may not.
package piece
