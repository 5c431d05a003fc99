// Package oci holds the words that every other room speaks: digests, repositories, references, descriptors,
// manifests and the errors that callers tell apart. A value of these types is already checked: it is parsed once,
// at the door, and cannot hold anything wrong afterwards.
//
// The package does no I/O. All its types are values and may be shared by goroutines.
package oci
