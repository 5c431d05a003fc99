// Package archtest holds the code base to its drawing: which room may import which, where generated types stop, and the
// rules of the house that can be read off the source.
//
// Its tests parse the files themselves. A test that asked the go command would be served stale from the test cache; what
// a test opens itself, the cache knows.
package archtest
