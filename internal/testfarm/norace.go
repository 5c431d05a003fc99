//go:build !race

package testfarm

// Slowed says that the race detector makes everything some ten times slower.
const Slowed = false
