// Package blobstore keeps blobs on this host's disk: whole ones, ones that are still arriving, and what is known about
// them.
//
// A blob is kept whole or not at all. It grows as a partial blob, a sparse file beside a bitmap of its checked pieces,
// and becomes whole by fsync and rename; readers stream from it all the while. The files are the truth and the index
// (bbolt) is a cache of them: an index that is lost, old or damaged is made anew by walking the files, and a kill
// between any two steps leaves a store that opens. Nothing is trusted for having been right once: a whole blob is
// checked piece by piece at its first read after a start and again every scrub interval, and a piece that has rotted is
// the only one fetched anew.
//
// An Upload is a blob that a client sends, of which neither size nor digest is known before the end. It survives a
// restart with its offset and becomes whole as a partial blob does. What was pushed is hosted: it is never evicted.
//
// When the disk is full, broken or read-only, or a blob is larger than the whole budget, a partial blob goes on in
// memory with a bounded window of pieces: pulls stream through without being kept, and Usage says why.
//
// Fetching pieces, checking what arrives and deciding who may read a blob are left to others. A Store, a Blob and a
// Partial may be shared by goroutines; a Reader, a PartialReader and an Upload belong
// to one goroutine each.
package blobstore
