package archtest_test

import (
	"fmt"
	"slices"
	"strings"
)

// floors are the rooms from the ground up. A package may import what is on a lower floor than its own, never its
// neighbours and nothing above.
var floors = [][]string{
	{"oci"},                                  // words
	{"piece"},                                // words too, in terms of digests
	{"swarm", "ring", "blobstore", "access"}, // facts
	{"transfer", "upstream", "catalog", "copies", "gossip", "trust"}, // movers
	{"registryapi", "adminapi", "dashboard"},                         // doors
	{"node"},
	{"config"},
	{"cmd"},
}

// onlyBelow narrows what some packages may import of the floors below them.
var onlyBelow = map[string][]string{
	"swarm":      {"piece"}, // pure logic
	"ring":       {"oci"},   // a function from digests to members
	"cmd/p2pctl": {"adminapi", "oci"},
	"cmd/p2psim": {"swarm", "piece", "oci"},
	// Benchmarks run the simulator, voters alone, and two nodes that are nothing but their transfer.
	"scripts": {"adminapi", "oci", "cmd/p2psim/sim", "catalog", "transfer", "blobstore", "ring", "piece"},
	"test":    {"adminapi", "oci"},
}

// protoUsers are the only packages that may see generated types.
var protoUsers = []string{"transfer", "catalog", "copies", "gossip", "trust", "adminapi", "cmd/p2pctl", "scripts/bench"}

// helpers are the packages below internal that support tests, with the rooms that each may import. What is not named
// may import oci.
var helpers = map[string][]string{
	// A whole farm in one process is put together as cmd/p2pd does it.
	"internal/testfarm": {"node", "adminapi", "gossip", "ring", "upstream", "access", "trust", "oci"},
	// Farms of processes are watched through their admin API.
	"internal/procfarm": {"adminapi", "oci"},
	"internal/netfarm":  {"adminapi", "oci"},
}

// everywhere are the packages below internal that are part of the product and may be imported by any room.
var everywhere = []string{"internal/version", "internal/bulk", "internal/peerid"}

// floorOf is the floor of a package's room, or -1 for what is not in a room.
func floorOf(dir string) int {
	room := roomOf(dir)
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, room) })
}

func roomOf(dir string) string {
	room, _, _ := strings.Cut(dir, "/")
	return room
}

// within tells whether dir is one of the folders in list or below one of them.
func within(dir string, list []string) bool {
	return slices.ContainsFunc(list, func(top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") })
}

// layering finds the imports that the drawing does not have.
func layering(files []*file) []string {
	var found []string
	for _, f := range files {
		for _, imported := range f.inside {
			if why := refused(f, imported); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.name, imported, why))
			}
		}
	}
	return found
}

// refused says why a file must not import a package of this module, or "".
func refused(f *file, imported string) string {
	switch {
	case imported == f.dir: // an external test imports what it tests
		return ""
	case roomOf(imported) == "proto":
		return protoRefused(f)
	case within(imported, everywhere):
		return ""
	case roomOf(imported) == "internal":
		return helperRefused(f)
	case strings.HasSuffix(imported, "test") && !f.test:
		return "a contract suite is for tests"
	case roomOf(f.dir) == "internal":
		return internalRefused(f, imported)
	case roomOf(f.dir) == "cmd" && roomOf(imported) == "cmd":
		return commandRefused(f, imported)
	case roomOf(f.dir) == roomOf(imported):
		return "" // packages of one room
	}
	return roomRefused(f, imported)
}

func protoRefused(f *file) string {
	// A test that tells lies over the wire has to speak it.
	if within(f.dir, protoUsers) || f.dir == "internal/testfarm" && f.test {
		return ""
	}
	return "generated types stop at " + strings.Join(protoUsers, ", ")
}

// helperRefused judges imports of packages below internal.
func helperRefused(f *file) string {
	if f.test || within(f.dir, []string{"internal", "scripts", "test"}) {
		return ""
	}
	return "test support is for tests"
}

// internalRefused judges what packages below internal import of the product.
func internalRefused(f *file, imported string) string {
	allowed, ok := helpers[f.dir]
	if !ok {
		allowed = []string{"oci"}
	}
	switch {
	case within(imported, allowed):
		return ""
	case f.test && floorOf(imported) >= 0 && floorOf(imported) < floorOf("cmd") && len(allowed) > 1:
		return "" // a test of a farm may look into what the farm is made of
	}
	return fmt.Sprintf("%s may import %s", f.dir, strings.Join(allowed, ", "))
}

func commandRefused(f *file, imported string) string {
	own := strings.Join(strings.SplitN(f.dir, "/", 3)[:2], "/")
	if within(imported, []string{own}) {
		return ""
	}
	return "a command imports no other command"
}

func roomRefused(f *file, imported string) string {
	for top, allowed := range onlyBelow {
		if within(f.dir, []string{top}) && !within(imported, allowed) {
			return fmt.Sprintf("%s may import %s", top, strings.Join(allowed, ", "))
		}
	}
	if within(f.dir, []string{"scripts", "test"}) {
		return ""
	}
	mine, theirs := floorOf(f.dir), floorOf(imported)
	switch {
	case mine < 0:
		return roomOf(f.dir) + " is no room of the drawing"
	case theirs < 0:
		return roomOf(imported) + " is no room of the drawing"
	case mine == theirs:
		return "imports never point sideways"
	case mine < theirs:
		return "imports never point up"
	}
	return ""
}
