// Package copies keeps hosted blobs on as many nodes of the farm as was promised.
//
// A node that was pushed to sends copies to the nodes where the blob belongs, and says that the push is done when
// enough of them have it on disk, synced: Put. So that this costs little more than the client's own sending, Follow
// passes the bytes of an upload on while they arrive. In the background nodes compare, partition by partition, what
// they should have, send each other what is missing, and remove what the catalog names no more. A receiver believes
// nothing: it hashes what comes and keeps only what is the digest.
//
// Where a blob belongs, which nodes are up and what the catalog names is left to others, who are asked through small
// interfaces. A Keeper may be shared by goroutines.
package copies
