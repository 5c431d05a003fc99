//go:build !race

package ring_test

// many is how many members a large farm has here.
const many = 1000
