// Package node puts one Pullonce node together: it owns the listeners, starts and stops the rooms in the right order,
// and walks the pull path, from a client's name to bytes, through all of them. It is the only room that knows all the
// others.
//
// A Node runs once. Its methods may be called by goroutines at once.
package node
