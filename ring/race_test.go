//go:build race

package ring_test

// many is how many members a large farm has here: the race detector makes the
// library's sorting tens of times slower.
const many = 200
